//! kill -9 and resume: nothing is lost, nothing that was recorded as done is done twice, nothing is left running.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::sandbox::{Ended, Sandbox, eventually, processes_with};

/// Lines in each file of a folder.
fn lines(folder: &Path) -> HashMap<String, usize> {
    let Ok(entries) = std::fs::read_dir(folder) else { return HashMap::new() };
    entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let text = std::fs::read_to_string(entry.path()).expect("a file");
            (entry.file_name().to_string_lossy().into_owned(), text.lines().count())
        })
        .collect()
}

/// Tasks recorded as passed in a journal, by the name after the colon of `each`.
fn recorded(journal: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(journal).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |at| &text[..at]);
    whole
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|event| {
            let outcome = &event["event"]["attempt_finished"]["next"]["done"]["outcome"];
            outcome == "passed" || outcome.get("flaky").is_some()
        })
        .filter_map(|event| Some(event["event"]["attempt_finished"]["task"].as_str()?.split(": ").nth(1)?.to_owned()))
        .collect()
}

fn only_run(sandbox: &Sandbox) -> std::path::PathBuf {
    let mut runs: Vec<_> = std::fs::read_dir(sandbox.state().join("runs"))
        .expect("runs")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert_eq!(runs.len(), 1);
    runs.remove(0)
}

/// `APM_CRASH_ROUNDS` kills; `tests/all.sh` asks for 100.
#[test]
fn killed_at_random_moments_and_resumed() {
    const TASKS: usize = 500;
    let rounds: u64 = std::env::var("APM_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let seed =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let mut random = seed;
    let mut early = 0;
    for round in 0..rounds {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let sandbox = Sandbox::new("crash");
        let context = format!("seed {seed}, round {round}");
        std::fs::create_dir(sandbox.work().join("out")).expect("a folder");
        let marker = format!("crash-mark-{}-{round}", std::process::id());
        let script = format!("echo x >> out/{{}} # {marker}");
        let values: Vec<String> = (1..=TASKS).map(|n| n.to_string()).collect();
        let words = ["run", "each", "-j4", "-q", "--shell", &script, ":::"];
        let mut child = Ended(
            sandbox
                .command(words.iter().map(|word| (*word).to_owned()).chain(values))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("apm"),
        );
        std::thread::sleep(Duration::from_micros((random >> 33) % 700_000));
        child.0.kill().expect("killed");
        child.0.wait().expect("its end");
        let Some(run) = std::fs::read_dir(sandbox.state().join("runs")).ok().and_then(|mut runs| runs.next()) else {
            early += 1;
            continue;
        };
        let run = run.expect("an entry").path();
        let before = recorded(&run.join("journal.ndjson"));
        let ran = sandbox.apm(["run", "--resume", "-o", "json=live.json"]);
        if ran.code == Some(3) && ran.stderr.contains("before anything of it was recorded") {
            early += 1;
            continue;
        }
        assert_eq!(ran.code, Some(0), "{context}\n{}\n{}", ran.stdout, ran.stderr);
        let after = lines(&sandbox.work().join("out"));
        assert_eq!(after.len(), TASKS, "{context}: a file is missing");
        for task in &before {
            assert_eq!(after[task], 1, "{context}: task {task} was recorded as done and ran again");
        }
        // At most those that were under way ran twice.
        assert!(after.values().filter(|count| **count > 1).count() <= 4, "{context}");
        assert_eq!(processes_with(&marker), [] as [i32; 0], "{context}");
        if ran.stderr.contains("nothing left") {
            continue;
        }
        let replayed = sandbox.apm(["run", "--replay", "last", "--format", "json"]).good();
        assert_eq!(sandbox.read("live.json"), replayed, "{context}: the live report is not the one of the journal");
    }
    assert!(early * 2 < rounds + 2, "{early} of {rounds} kills came before the start: the test shows too little");
}

/// Answers of a running run on its control socket; `None` when it is gone.
struct Control(BufReader<UnixStream>);

impl Control {
    fn connect(sandbox: &Sandbox) -> Option<Self> {
        let run = std::fs::read_dir(sandbox.state().join("runs")).ok()?.next()?.ok()?.path();
        let stream = UnixStream::connect(run.join("control")).ok()?;
        Some(Self(BufReader::new(stream)))
    }

    /// True: it is done. False: it is refused.
    fn ask(&mut self, request: &Value) -> Option<bool> {
        self.0.get_ref().write_all(format!("{}\n", json!({"v": 1, "request": request})).as_bytes()).ok()?;
        let mut line = String::new();
        self.0.read_line(&mut line).ok()?;
        Some(serde_json::from_str::<Value>(&line).ok()?.get("done").is_some())
    }

    fn edit(&mut self, edit: &Value) -> Option<bool> {
        self.ask(&json!({"edit": {"edit": edit}}))
    }
}

/// A random number below `most`.
fn below(random: &mut u64, most: u64) -> u64 {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*random >> 33) % most
}

/// What a journal says of a run that was edited.
#[derive(Debug, Default)]
struct Told {
    known: BTreeSet<String>,
    passed: BTreeSet<String>,
    /// Attempts that had started and not ended.
    under_way: BTreeSet<String>,
    cancelled: BTreeSet<String>,
    paused: BTreeSet<String>,
    is_paused: bool,
    events: Vec<Value>,
}

fn told(journal: &str) -> Told {
    let mut told = Told::default();
    let names = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|name| Some(name.as_str()?.to_owned())).collect()
    };
    for line in journal.lines() {
        let envelope: Value = serde_json::from_str(line).expect("JSON");
        let event = &envelope["event"];
        for task in event["tasks_added"]["tasks"].as_array().into_iter().flatten() {
            told.known.insert(task["id"].as_str().expect("an id").to_owned());
        }
        if let Some(task) = event["attempt_started"]["task"].as_str() {
            told.under_way.insert(task.to_owned());
        }
        if let Some(task) = event["attempt_finished"]["task"].as_str() {
            told.under_way.remove(task);
            if event["attempt_finished"]["next"]["done"]["outcome"] == "passed" {
                told.passed.insert(task.to_owned());
            }
        }
        let edit = &event["plan_edited"]["edit"];
        told.cancelled.extend(names(&edit["cancel"]["tasks"]));
        told.paused.extend(names(&edit["pause"]["tasks"]));
        for task in names(&edit["unpause"]["tasks"]) {
            told.paused.remove(&task);
        }
        told.is_paused = (told.is_paused || edit.get("pause_run").is_some()) && edit.get("unpause_run").is_none();
        told.events.push(envelope);
    }
    told
}

/// What was acknowledged to somebody who edits the run.
#[derive(Debug, Default)]
struct Acknowledged {
    added: Vec<String>,
    cancelled: Vec<String>,
    edits: usize,
}

/// Tasks of the plan, and those that are added while it runs.
const PLANNED: u64 = 400;
const ADDED_MAX: u64 = 100;

/// Edits, pauses and unpauses a run until it is gone.
fn edit_at_random(sandbox: &Sandbox, marker: &str, random: &mut u64) -> Acknowledged {
    let mut acknowledged = Acknowledged::default();
    let Some(mut control) = Control::connect(sandbox) else { return acknowledged };
    let mut added = 0;
    loop {
        let any = format!("t{}", below(random, PLANNED));
        let answer = match below(random, 12) {
            0..=3 if added < ADDED_MAX => {
                let batch = (below(random, 20) + 1).min(ADDED_MAX - added);
                let names: Vec<String> = (added..added + batch).map(|number| format!("a{number}")).collect();
                added += batch;
                let task = |(at, name): (usize, &String)| {
                    let script = format!("echo $V >> out/{name} # {marker}");
                    let needs = if at == 0 { vec![] } else { vec![names[at - 1].clone()] };
                    json!({"id": name, "run": {"script": {"shell": ["/bin/sh", "-c"], "script": script}},
                           "needs": needs, "env": {"V": "x"}})
                };
                let tasks: Vec<Value> = names.iter().enumerate().map(task).collect();
                let answer = control.ask(&json!({"add": {"tasks": tasks}}));
                if answer == Some(true) {
                    acknowledged.added.extend(names);
                }
                answer
            }
            4 => control.edit(&json!({"resize": {"resource": "slots", "to": 2 + below(random, 5)}})),
            5 => control.edit(&json!({"prioritise": {"task": any, "priority": below(random, 5)}})),
            6 => {
                let answer = control.edit(&json!({"cancel": {"tasks": [any]}}));
                if answer == Some(true) {
                    acknowledged.cancelled.push(any);
                }
                answer
            }
            7 => control.edit(&json!({"pause_run": {}})),
            8 | 9 => control.edit(&json!({"unpause_run": {}})),
            10 => control.edit(&json!({"pause": {"tasks": [any]}})),
            _ => control.edit(&json!({"unpause": {"tasks": [any]}})),
        };
        match answer {
            Some(done) => acknowledged.edits += usize::from(done),
            None => return acknowledged,
        }
        std::thread::sleep(Duration::from_millis(below(random, 15)));
    }
}

/// Lets everything go on that the record of a run leaves paused.
fn unpause(sandbox: &Sandbox, told: &Told, resumed: &mut Ended) {
    let mut requests: Vec<Value> = told.paused.iter().map(|task| json!({"unpause": {"tasks": [task]}})).collect();
    requests.extend(told.is_paused.then(|| json!({"unpause_run": {}})));
    eventually("the resumed run is unpaused, or over", || {
        if resumed.0.try_wait().expect("a child").is_some() {
            return true;
        }
        let Some(mut control) = Control::connect(sandbox) else { return false };
        requests.retain(|edit| control.edit(edit).is_none());
        requests.is_empty()
    });
}

/// `APM_CRASH_ROUNDS` kills of a run that is being edited, paused and watched.
#[test]
fn killed_at_random_moments_while_it_is_edited_paused_and_watched() {
    let rounds: u64 = std::env::var("APM_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let seed =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let mut random = seed;
    let (mut early, mut edits, mut paused, mut watched) = (0, 0, 0, 0);
    for round in 0..rounds {
        let sandbox = Sandbox::new("editcrash");
        std::fs::create_dir(sandbox.work().join("out")).expect("a folder");
        let marker = format!("edited-kill-{}-{round}", std::process::id());
        let task =
            |number: u64| json!({"id": format!("t{number}"), "run": format!("echo x >> out/t{number} # {marker}")});
        let tasks: Vec<Value> = (0..PLANNED).map(task).collect();
        sandbox.file("plan.json", json!({"version": 1, "tasks": tasks}).to_string());
        let mut command = sandbox.command(["run", "plan.json", "-j4", "-q"]);
        let mut run = Ended(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("apm"));
        let until = Instant::now() + Duration::from_micros(below(&mut random, 1_000_000));
        let mut editor_random = random.rotate_left(32);
        let (acknowledged, watch) = std::thread::scope(|scope| {
            let (sandbox, marker) = (&sandbox, &marker);
            let editor = scope.spawn(move || {
                while Instant::now() < until && Control::connect(sandbox).is_none() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let watch = (Instant::now() < until).then(|| {
                    let mut command = sandbox.command(["run", "watch", "--format", "ndjson"]);
                    let file = |name: &str| File::create(sandbox.work().join(name)).expect("a file");
                    Ended(command.stdout(file("watch.out")).stderr(file("watch.err")).spawn().expect("apm"))
                });
                (edit_at_random(sandbox, marker, &mut editor_random), watch)
            });
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
            run.0.kill().expect("killed");
            run.0.wait().expect("its end");
            editor.join().expect("no panic")
        });
        let watch = watch.map(|mut watch| watch.0.wait().expect("its end").code());
        let Some(folder) = std::fs::read_dir(sandbox.state().join("runs")).ok().and_then(|mut runs| runs.next()) else {
            early += 1;
            continue;
        };
        let journal = folder.expect("an entry").path().join("journal.ndjson");
        let text = std::fs::read_to_string(&journal).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |at| &text[..=at]);
        let before = told(whole);
        let file = |name: &str| File::create(sandbox.work().join(name)).expect("a file");
        let mut command = sandbox.command(["run", "--resume", "-o", "json=live.json"]);
        let mut resumed = Ended(command.stdout(file("resumed.out")).stderr(file("resumed.err")).spawn().expect("apm"));
        unpause(&sandbox, &before, &mut resumed);
        let code = resumed.0.wait().expect("its end").code();
        let said = sandbox.read("resumed.err");
        if code == Some(3) && said.contains("before anything of it was recorded") {
            early += 1;
            continue;
        }
        let context = format!("seed {seed}, round {round}\n{}\n{said}", sandbox.read("resumed.out"));
        // What was acknowledged is recorded, and what is recorded holds.
        assert!(acknowledged.added.iter().all(|task| before.known.contains(task)), "{acknowledged:?}\n{context}");
        let is_cancelled = |task: &String| before.cancelled.contains(task);
        assert!(acknowledged.cancelled.iter().all(is_cancelled), "{acknowledged:?}\n{context}");
        let after = lines(&sandbox.work().join("out"));
        for task in before.known.difference(&before.cancelled) {
            assert!(after.contains_key(task), "the file of {task} is missing\n{context}");
        }
        for task in &before.passed {
            assert_eq!(after[task], 1, "{task} was recorded as done and ran again\n{context}");
        }
        for (task, count) in &after {
            let most = if before.under_way.contains(task) { 2 } else { 1 };
            assert!(*count <= most, "{task} ran {count} times\n{context}");
        }
        let is_closed = whole.contains("tasks_closed");
        let expected = match before.cancelled.difference(&before.passed).next() {
            _ if !is_closed => 3,
            Some(_) => 5,
            None => 0,
        };
        assert_eq!(code, Some(expected), "{context}");
        assert_eq!(processes_with(&marker), [] as [i32; 0], "{context}");
        if let Some(code) = watch {
            let (shown, said) = (sandbox.read("watch.out"), sandbox.read("watch.err"));
            assert!(shown == whole, "what was watched is the journal\n{said}\n{context}");
            let has_ended = whole.contains("run_finished");
            assert!(has_ended || (code == Some(3) && said.contains("broke off")), "{code:?} {said}\n{context}");
            watched += 1;
        }
        edits += acknowledged.edits as u64;
        paused += usize::from(before.is_paused || !before.paused.is_empty());
        if said.contains("nothing left") {
            continue;
        }
        let replayed = sandbox.apm(["run", "--replay", "last", "--format", "json"]).good();
        assert_eq!(sandbox.read("live.json"), replayed, "{context}: the live report is not the one of the journal");
        let journal = std::fs::read_to_string(&journal).expect("a journal");
        for (number, event) in told(&journal).events.iter().enumerate() {
            assert_eq!(event["seq"], number, "{context}");
        }
    }
    let is_enough = early * 2 < rounds + 2 && (rounds < 5 || (edits > 2 * rounds && paused > 0 && watched > 0));
    let told = format!("{early} kills before the start, {edits} edits, {paused} left paused, {watched} watched");
    assert!(is_enough, "too little in {rounds} rounds: {told}");
}

/// The journal ends behind every record, and in the middle of every one.
#[test]
fn a_journal_cut_anywhere_is_resumed() {
    let sandbox = Sandbox::new("cut");
    sandbox.file(
        "p.yaml",
        "version: 1\ntasks:\n- {id: 'n: a', run: 'mkdir -p out; echo x >> out/a'}\n- {id: 'n: b', run: 'echo x >> out/b', needs: ['n: a']}\n\
         - {id: 'n: c', run: 'test -e once || { touch once; exit 1; }; echo x >> out/c', needs: ['n: a'], retries: 1}\n- {id: 'n: d', run: 'echo x >> out/d', needs: ['n: b', 'n: c']}\n",
    );
    sandbox.apm(["run", "p.yaml"]).good();
    let run = only_run(&sandbox);
    let journal = run.join("journal.ndjson");
    let whole = std::fs::read(&journal).expect("a journal");
    let mut cuts: Vec<usize> = Vec::new();
    let mut start = 0;
    for (at, byte) in whole.iter().enumerate() {
        if *byte == b'\n' {
            cuts.extend([start + (at - start) / 2, at, at + 1]);
            start = at + 1;
        }
    }
    for cut in cuts {
        std::fs::write(&journal, &whole[..cut]).expect("cut");
        let _ = std::fs::remove_dir_all(sandbox.work().join("out"));
        let done = recorded(&journal);
        std::fs::create_dir_all(sandbox.work().join("out")).expect("a folder");
        for task in &done {
            sandbox.file(&format!("out/{task}"), "x\n");
        }
        let ran = sandbox.apm(["run", "--resume"]);
        if ran.stderr.contains("before anything of it was recorded") {
            assert!(
                ran.code == Some(3) && cut <= whole.iter().position(|byte| *byte == b'\n').expect("a line"),
                "cut {cut}: {}",
                ran.stderr
            );
            continue;
        }
        let lines_left = whole[..cut].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let tasks_known = String::from_utf8_lossy(&whole[..lines_left]).contains("tasks_closed");
        if cut < whole.len() && !ran.stderr.contains("nothing left") {
            let expected = if tasks_known { 4 } else { 0 };
            let count = lines(&sandbox.work().join("out")).len();
            assert!(count == expected || count == 4, "cut {cut}: {count} files\n{}{}", ran.stdout, ran.stderr);
        }
        let code = if tasks_known { 0 } else { 3 };
        assert_eq!(ran.code, Some(code), "cut {cut}\n{}\n{}", ran.stdout, ran.stderr);
        for (task, count) in lines(&sandbox.work().join("out")) {
            assert_eq!(count, 1, "cut {cut}: {task}");
        }
    }
    // apm was killed between the folder of the run and its journal.
    std::fs::remove_file(&journal).expect("removed");
    let said = sandbox.apm(["run", "--resume"]).fails(3);
    assert!(said.contains("before anything of it was recorded"), "{said}");
    sandbox.apm(["run", "list"]).good();
}

#[test]
fn a_resume_runs_again_what_failed_or_changed() {
    let sandbox = Sandbox::new("again");
    sandbox.file("in", "1");
    sandbox.file(
        "p.yaml",
        "version: 1\ntasks:\n- {id: reads, run: 'cat in >> read', inputs: [in]}\n- {id: after, run: echo x >> after, needs: [reads]}\n\
         - {id: fails, run: 'echo x >> tried; test -e good'}\n- {id: kept, run: echo x >> kept}\n- {id: makes, run: 'echo x >> made', outputs: [made]}\n- {id: env, run: 'test $SECRET = s3 && echo x >> env; test -e good', env: {SECRET: s3}}\n",
    );
    sandbox.apm(["run", "p.yaml"]).fails(1);
    sandbox.file("in", "2").file("good", "");
    std::fs::remove_file(sandbox.work().join("made")).expect("removed");
    sandbox.apm(["run", "--resume"]).good();
    let counts: Vec<usize> =
        ["tried", "kept", "made", "after", "env"].iter().map(|file| sandbox.read(file).lines().count()).collect();
    assert_eq!((sandbox.read("read").as_str(), counts), ("12", vec![2, 1, 1, 2, 2]));
    let text = sandbox.apm(["run", "--resume"]);
    assert!(text.stderr.contains("nothing left to do") && text.code == Some(0), "{}", text.stderr);
}

/// It counted from the start of the run, which was over before.
#[test]
fn a_deadline_given_to_a_resume_counts_from_there() {
    let sandbox = Sandbox::new("deadline");
    sandbox.file("p.yaml", "version: 1\ntasks:\n- {id: a, run: 'test -e good || { sleep 2; exit 1; }'}\n");
    sandbox.apm(["run", "p.yaml"]).fails(1);
    sandbox.file("good", "");
    sandbox.apm(["run", "--resume", "--deadline", "2s"]).good();
}

/// It ended with 0 although nobody knows what else there was to do.
#[test]
fn a_resume_without_all_values_is_incomplete() {
    let sandbox = Sandbox::new("cutoff");
    let mut command = sandbox.command(["run", "each", "touch"]);
    let mut child = Ended(command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("apm"));
    let mut stdin = child.0.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut stdin, b"first\n").expect("written");
    crate::sandbox::eventually("the first task runs while the input is open", || sandbox.has("first"));
    child.0.kill().expect("killed");
    child.0.wait().expect("its end");
    let error = sandbox.apm(["run", "--resume"]).fails(3);
    assert!(error.contains("values were still being read"), "{error}");
    let report = sandbox.report();
    assert_eq!(report["exit_code"], 3);
    assert!(report["verdict"].as_str().expect("text").starts_with("incomplete"), "{report}");
}

#[test]
fn a_resume_takes_over_the_flags_of_its_run() {
    let sandbox = Sandbox::new("inherit");
    sandbox.file("one.yaml", "performance: {resource_allocation: {max_concurrent_agents: 1}}\n");
    sandbox.file(
        "p.yaml",
        "version: 1\ntasks:\n- {id: a, run: 'sleep 0.2; exit 1'}\n- {id: b, run: 'sleep 0.2; exit 1'}\n",
    );
    let one = "performance.resource_allocation.max_concurrent_agents=1";
    for flags in [["--set", one], ["--config", "one.yaml"]] {
        sandbox.apm(["run", "p.yaml"].into_iter().chain(flags)).fails(1);
        // Elsewhere the file has another name.
        std::fs::create_dir_all(sandbox.work().join("sub")).expect("a folder");
        let report = sandbox.report();
        let mut command = sandbox.command(["run", "--resume", report["run"].as_str().expect("its name")]);
        command.current_dir(sandbox.work().join("sub"));
        assert_eq!(crate::sandbox::Ran::of(command).code, Some(1));
        assert_eq!(sandbox.report()["engine"]["running_max"], 1, "{flags:?}");
        for wins in [["-j", "2"], ["--set", "performance.resource_allocation.max_concurrent_agents=2"]] {
            sandbox.apm(["run", "--resume"].into_iter().chain(wins)).fails(1);
            assert_eq!(sandbox.report()["engine"]["running_max"], 2, "{flags:?}, then {wins:?}");
        }
    }
}

#[test]
fn a_resume_of_each_keeps_its_halt_and_its_job_log() {
    let sandbox = Sandbox::new("haltlog");
    let script = "echo x >> ran$1; [ $1 != 2 ]";
    let words = ["run", "each", "-j1", "--halt", "now,fail=1", "--joblog", "log", "sh", "-c", script, "x", "{}"];
    sandbox.apm(words.into_iter().chain([":::", "1", "2", "3"])).fails(1);
    sandbox.apm(["run", "--resume", "--dry-run"]).good();
    assert_eq!(sandbox.read("log").lines().count(), 3, "a dry run leaves it alone");
    sandbox.apm(["run", "--resume"]).fails(1);
    assert!(!sandbox.has("ran3"), "it halted again");
    let log = sandbox.read("log");
    let shown: Vec<&str> = log.lines().skip(1).filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(shown, ["1", "2", "2"]);
}

/// The journal holds tasks with the limits of the first run, which stood in the way of others.
#[test]
fn limits_given_to_a_resume_hold_where_the_plan_sets_none() {
    let sandbox = Sandbox::new("limits");
    sandbox.file(
        "p.yaml",
        "version: 1\ntasks:\n- {id: slow, run: 'sleep 1'}\n- {id: own, run: 'sleep 1', timeout: 100ms}\n\
         - {id: tries, run: 'echo x >> tries; exit 1'}\n- {id: never, run: 'echo x >> never; exit 1', retries: 0}\n\
         - {id: twice, run: 'echo x >> twice; exit 1', retries: 1}\n",
    );
    let delays = ["--set", "run.retry_delay_ms=1", "--set", "run.retry_delay_max_ms=1"];
    let outcomes = |flags: &[&str]| {
        sandbox.apm(["run"].iter().chain(flags).chain(&delays)).fails(1);
        let report = sandbox.report();
        let state = |at: usize| report["tasks"][at]["state"].as_str().expect("a word").to_owned();
        let count = |file: &str| sandbox.read(file).lines().count();
        (state(0), state(1), count("tries"), count("never"), count("twice"))
    };
    let own = || "timed out".to_owned();
    assert_eq!(outcomes(&["p.yaml", "--timeout", "200ms", "--retries", "1"]), (own(), own(), 2, 1, 2));
    assert_eq!(outcomes(&["--resume"]), (own(), own(), 4, 2, 4));
    assert_eq!(outcomes(&["--resume", "--timeout", "20s", "--retries", "2"]), ("passed".to_owned(), own(), 7, 3, 6));
}

/// Reports showed those of the first part.
#[test]
fn a_report_shows_the_limits_that_the_resumed_tasks_had() {
    let sandbox = Sandbox::new("terms");
    sandbox.file(
        "p.yaml",
        "version: 1\ntasks:\n- {id: slow, run: 'test -e go || sleep 60'}\n- {id: quick, run: 'true', timeout: 30s}\n- {id: passed, run: 'true'}\n",
    );
    sandbox.apm(["run", "p.yaml", "--timeout", "1s", "-j2", "--memory", "3GiB"]).fails(1);
    sandbox.file("go", "");
    let shown = |flags: &[&str]| {
        sandbox.apm(["run", "--resume", "-o", "json=live.json"].iter().chain(flags)).good();
        assert_eq!(sandbox.read("live.json"), sandbox.apm(["run", "--replay", "last", "--format", "json"]).good());
        let report = sandbox.report();
        let timeouts = (0..3).map(|at| report["tasks"][at]["limits"]["timeout_us"].as_u64().expect("a time"));
        (timeouts.collect::<Vec<_>>(), report["ceilings"]["memory"].clone(), report["pool"]["max"].clone())
    };
    let (timeouts, memory, pool) = shown(&["--timeout", "20s", "-j1", "--memory", "2GiB"]);
    assert_eq!(timeouts, [20_000_000, 30_000_000, 1_000_000], "what had passed had passed within its own");
    assert_eq!((memory, pool), (serde_json::json!(2_u64 << 30), serde_json::json!(1)));
}

/// It took the run over and printed all tasks.
#[test]
fn a_dry_resume_shows_what_is_left_and_touches_nothing() {
    let sandbox = Sandbox::new("dryresume");
    sandbox.file("p.yaml", "version: 1\ntasks:\n- {id: good, run: 'true'}\n- {id: bad, run: 'exit 1'}\n");
    sandbox.apm(["run", "p.yaml"]).fails(1);
    let run = only_run(&sandbox);
    let marker = sandbox.state().join("active").join(run.file_name().expect("a name"));
    std::fs::write(&marker, "of an apm that was killed").expect("written");
    let before = std::fs::read(run.join("journal.ndjson")).expect("a journal");
    let text = sandbox.apm(["run", "--resume", "--dry-run"]).good();
    assert!(text.contains("bad: ") && text.ends_with("1 task; nothing was started\n"), "{text}");
    assert_eq!(std::fs::read(run.join("journal.ndjson")).expect("a journal"), before);
    assert_eq!(std::fs::read(&marker).expect("a marker"), b"of an apm that was killed");
}

#[test]
fn a_living_run_is_not_taken_over() {
    let sandbox = Sandbox::new("alive");
    let mut child = Ended(
        sandbox
            .command(["run", "each", "sh", "-c", "touch up; sleep 60", ":::", "x"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("apm"),
    );
    crate::sandbox::eventually("it runs", || sandbox.has("up"));
    let error = sandbox.apm(["run", "--resume"]).fails(2);
    assert!(error.contains("is still running"), "{error}");
    let list = sandbox.apm(["run", "list"]).good();
    assert!(list.contains("running"), "{list}");
    crate::sandbox::signal(child.0.id(), "TERM");
    child.0.wait().expect("its end");
}

#[test]
fn a_journal_of_a_newer_apm_or_a_damaged_one_is_refused() {
    let sandbox = Sandbox::new("newer");
    sandbox.apm(["run", "each", "echo", ":::", "a", "b"]).good();
    let journal = only_run(&sandbox).join("journal.ndjson");
    let whole = std::fs::read_to_string(&journal).expect("a journal");
    std::fs::write(&journal, whole.replacen("\"v\":2", "\"v\":9", 1)).expect("written");
    let error = sandbox.apm(["run", "show"]).fails(3);
    assert!(error.contains("record 0 has version 9"), "{error}");
    std::fs::write(&journal, whole.replacen("attempt_started", "attempt_started\" garbage", 1)).expect("written");
    let error = sandbox.apm(["run", "show"]).fails(3);
    assert!(error.contains("is damaged"), "{error}");
}

/// Both were called passed.
#[test]
fn what_broke_off_has_not_passed() {
    let sandbox = Sandbox::new("brokeoff");
    sandbox.apm(["run", "each", "echo", ":::", "a", "b"]).good();
    let journal = only_run(&sandbox).join("journal.ndjson");
    let whole = std::fs::read_to_string(&journal).expect("a journal");
    let last = whole.trim_end().rfind('\n').expect("more than one event");
    std::fs::write(&journal, &whole[..=last]).expect("written");
    let shown = sandbox.apm(["run", "show"]);
    assert!(
        shown.stderr.contains("--resume") && shown.stdout.contains("broke off: 2 tasks (2 passed)"),
        "{}",
        shown.stdout
    );
    std::fs::write(&journal, "").expect("written");
    let shown = sandbox.apm(["run", "show"]);
    assert!(!shown.stderr.contains("--resume"), "{}", shown.stderr);
    for text in [shown.stdout, sandbox.apm(["run", "list"]).good()] {
        assert!(text.contains("broke off: nothing of it is recorded"), "{text}");
    }
}
