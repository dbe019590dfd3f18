//! Watching and steering a run from another terminal: what each word does, what is refused, and that nobody who asks harms the
//! run. Tasks wait for files, so that the tests decide what happens when.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::sandbox::{Ended, Ran, Sandbox, eventually, has_program, processes_with, skip};

/// A command that says that it runs and waits until it may end.
fn gated(name: &str) -> String {
    format!("echo begin-{name}; touch up-{name}; until [ -e go-{name} ]; do sleep 0.02; done; echo end-{name}")
}

/// A run in the background.
struct Running<'a> {
    sandbox: &'a Sandbox,
    child: Ended,
    name: &'static str,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // What a test that failed leaves would run for ever.
        if std::thread::panicking() {
            let _ = std::process::Command::new("kill").arg(self.child.0.id().to_string()).status();
            let _ = self.child.0.wait();
        }
    }
}

impl<'a> Running<'a> {
    /// Starts apm, its output in files.
    fn start(sandbox: &'a Sandbox, name: &'static str, words: &[&str], stdin: Stdio) -> Self {
        let file = |stream: &str| File::create(sandbox.work().join(format!("{name}.{stream}"))).expect("a file");
        let mut command = sandbox.command(words);
        command.stdin(stdin).stdout(file("out")).stderr(file("err"));
        Self { sandbox, child: Ended(command.spawn().expect("apm")), name }
    }

    /// Starts a plan of these tasks.
    fn plan(sandbox: &'a Sandbox, plan: &Value, flags: &[&str]) -> Self {
        let mut plan = plan.clone();
        plan["version"] = json!(1);
        sandbox.file("plan.json", plan.to_string());
        Self::start(sandbox, "run", &[&["run", "plan.json"], flags].concat(), Stdio::null())
    }

    fn out(&self) -> String {
        self.sandbox.read(&format!("{}.out", self.name))
    }

    fn err(&self) -> String {
        self.sandbox.read(&format!("{}.err", self.name))
    }

    /// Waits for its end.
    fn ends(mut self) -> Ran {
        let status = self.child.0.wait().expect("its end");
        Ran { code: status.code(), stdout: self.out(), stderr: self.err() }
    }

    fn kill(mut self) {
        self.child.0.kill().expect("killed");
        self.child.0.wait().expect("its end");
    }
}

/// Starts a plan of gated tasks.
fn gates<'a>(sandbox: &'a Sandbox, names: &[&str], flags: &[&str]) -> Running<'a> {
    let tasks: Vec<Value> = names.iter().map(|name| json!({"id": name, "run": gated(name)})).collect();
    Running::plan(sandbox, &json!({ "tasks": tasks }), flags)
}

fn up(sandbox: &Sandbox, name: &str) {
    eventually(&format!("`{name}` runs"), || sandbox.has(&format!("up-{name}")));
}

fn go(sandbox: &Sandbox, names: &[&str]) {
    for name in names {
        sandbox.file(&format!("go-{name}"), "");
    }
}

fn folder(sandbox: &Sandbox) -> PathBuf {
    let mut runs = std::fs::read_dir(sandbox.state().join("runs")).expect("runs");
    let run = runs.next().expect("a run").expect("an entry").path();
    assert!(runs.next().is_none(), "more than one run");
    run
}

fn run_of(sandbox: &Sandbox) -> String {
    folder(sandbox).file_name().expect("a name").to_string_lossy().into_owned()
}

fn journal(sandbox: &Sandbox) -> String {
    std::fs::read_to_string(folder(sandbox).join("journal.ndjson")).expect("a journal")
}

/// The events of one kind in the journal.
fn recorded(sandbox: &Sandbox, kind: &str) -> Vec<Value> {
    let text = journal(sandbox);
    let whole = text.rfind('\n').map_or("", |at| &text[..at]);
    let lines = whole.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter_map(|line| line["event"].get(kind).cloned()).collect()
}

fn started(sandbox: &Sandbox) -> Vec<String> {
    let names = recorded(sandbox, "attempt_started");
    names.iter().map(|event| event["task"].as_str().expect("a task").to_owned()).collect()
}

/// Waits until a task waits for this.
fn waits(sandbox: &Sandbox, task: &str, state: &str, reason: &str) {
    let mut told = Value::Null;
    let end = std::time::Instant::now() + crate::sandbox::PATIENCE;
    while std::time::Instant::now() < end {
        let ran = sandbox.apm(["run", "show", "last", "--waiting", "--format", "json"]);
        told = serde_json::from_str(&ran.stdout).unwrap_or_default();
        let holds = |one: &Value| {
            one["task"] == task
                && one["state"] == state
                && one["reason"].as_str().is_some_and(|text| text.contains(reason))
        };
        if told["tasks"].as_array().is_some_and(|tasks| tasks.iter().any(holds)) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("`{task}` does not wait as {state}: {reason}\n{told:#}");
}

/// The numbers of the events have no gap up to the last (F12).
fn numbered(sandbox: &Sandbox) {
    let text = journal(sandbox);
    for (number, line) in text.lines().enumerate() {
        let event: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(event["seq"], number, "{line}");
    }
    assert!(text.lines().last().is_some_and(|line| line.contains("run_finished")), "{text}");
}

fn states(sandbox: &Sandbox) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().expect("a word").to_owned();
    let report = sandbox.report();
    report["tasks"].as_array().expect("tasks").iter().map(|task| (word(&task["id"]), word(&task["state"]))).collect()
}

fn state_of(sandbox: &Sandbox, task: &str) -> String {
    states(sandbox).into_iter().find(|(id, _)| id == task).expect("the task").1
}

#[test]
fn what_each_unfinished_task_waits_for() {
    let sandbox = Sandbox::new("waiting");
    let plan = json!({"resources": {"db": 1}, "tasks": [
        {"id": "holder", "run": gated("holder"), "uses": {"db": 1}},
        {"id": "db", "run": "true", "uses": {"db": 1}},
        {"id": "needs", "run": "true", "needs": ["holder", "db"]},
        {"id": "retry", "run": "test -e go-retry", "retries": {"max": 1, "delay": "1000s"}},
        {"id": "big", "run": gated("big"), "uses": {"memory": "80MiB"}},
        {"id": "bigger", "run": "true", "uses": {"memory": "90MiB"}},
        {"id": "later", "run": "true", "needs": ["holder"]},
    ]});
    let run = Running::plan(&sandbox, &plan, &["-j8", "--memory", "100MiB"]);
    up(&sandbox, "holder");
    up(&sandbox, "big");
    waits(&sandbox, "retry", "delayed", "back-off before attempt 2: ");
    waits(&sandbox, "holder", "running", "");
    waits(&sandbox, "db", "ready", "held by `holder`");
    waits(&sandbox, "needs", "waiting", "needs `holder`, `db`");
    waits(&sandbox, "bigger", "ready", "memory");
    sandbox.apm(["run", "pause", "last", "later", "holder"]).good();
    waits(&sandbox, "later", "waiting", "needs `holder`");
    waits(&sandbox, "holder", "paused", "`apm run unpause RUN 'holder'` lets it go on");
    let text = sandbox.apm(["run", "show", "last", "--waiting"]).good();
    let holder = text.lines().find(|line| line.starts_with("db ")).expect("a line");
    assert!(holder.starts_with("db      ready ") && holder.contains("1 of `db`"), "{text}");
    let error = sandbox.apm(["run", "show", "last", "--waiting", "--format", "html"]).fails(2);
    assert!(error.contains("--waiting prints text or json, not html"), "{error}");
    sandbox.apm(["run", "unpause", "last", "holder"]).good();
    sandbox.apm(["run", "set", "--agents", "2"]).good();
    sandbox.apm_with(["run", "add", "-"], b"{\"id\": \"slot\", \"run\": \"true\"}\n").good();
    waits(&sandbox, "slot", "ready", "a slot; all 2 are taken");
    go(&sandbox, &["holder", "big"]);
    waits(&sandbox, "later", "paused", "paused before its start");
    sandbox.apm(["run", "unpause", "last", "later"]).good();
    sandbox.apm(["run", "cancel", "last", "retry"]).good();
    run.ends().fails(5);
    let ran = sandbox.apm(["run", "show", "last", "--waiting"]);
    assert!(ran.stderr.contains("no task of run") && ran.stderr.contains("is unfinished"), "{}", ran.stderr);
    numbered(&sandbox);
}

#[test]
fn cancel_ends_tasks_or_the_run() {
    let sandbox = Sandbox::new("cancel");
    let run = gates(&sandbox, &["a", "b", "c"], &["-j2"]);
    up(&sandbox, "a");
    up(&sandbox, "b");
    let id = run_of(&sandbox);
    let ran = sandbox.apm(["run", "cancel", &id, "a"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""));
    assert_eq!(ran.stderr, format!("apm: run {id}: `a` is cancelled\n"));
    up(&sandbox, "c");
    let error = sandbox.apm(["run", "cancel", "last", "a"]).fails(2);
    assert!(error.contains("task `a` has already ended: cancelled"), "{error}");
    let json = sandbox.apm(["run", "cancel", &id[..15], "b", "c", "--format", "json"]).good();
    assert_eq!(
        serde_json::from_str::<Value>(&json).expect("JSON"),
        json!({"version": 1, "run": id, "done": true, "text": "2 tasks are cancelled"})
    );
    run.ends().fails(5);
    assert!(states(&sandbox).iter().all(|(_, state)| state == "cancelled"));
    numbered(&sandbox);

    let sandbox = Sandbox::new("cancelrun");
    let run = gates(&sandbox, &["a", "b"], &["-j1"]);
    up(&sandbox, "a");
    sandbox.apm(["run", "pause"]).good();
    let said = sandbox.apm(["run", "cancel"]);
    assert!(said.stderr.ends_with(": the run is cancelled\n"), "{}", said.stderr);
    said.good();
    let ran = run.ends();
    assert!(ran.stderr.contains("cancelled by process "), "{}", ran.stderr);
    ran.fails(5);
    assert!(!sandbox.has("up-b"));
    let report = sandbox.report();
    assert_eq!((&report["exit_code"], recorded(&sandbox, "plan_edited").len()), (&json!(5), 2));
    // To resume a cancelled run is to want it after all, also where it was paused before.
    go(&sandbox, &["a", "b"]);
    sandbox.apm(["run", "--resume"]).good();
    numbered(&sandbox);
}

/// The state letter of the processes with this in their command line, as in `/proc/PID/stat`.
fn process_states(text: &str) -> Vec<char> {
    let state = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    };
    processes_with(text).into_iter().filter_map(state).collect()
}

#[test]
fn a_paused_task_is_stopped_and_its_slot_is_free() {
    let sandbox = Sandbox::new("pause");
    let marker = format!("pause-mark-{}", std::process::id());
    let script = format!("{} # {marker}", gated("a"));
    let plan = json!({"tasks": [{"id": "a", "run": script}, {"id": "b", "run": gated("b")}]});
    let run = Running::plan(&sandbox, &plan, &["-j1"]);
    up(&sandbox, "a");
    let id = run_of(&sandbox);
    let said = sandbox.apm(["run", "pause", &id, "a"]);
    assert_eq!(said.stderr, format!("apm: run {id}: `a` is paused\n"));
    eventually("its processes are stopped", || process_states(&marker).contains(&'T'));
    up(&sandbox, "b");
    go(&sandbox, &["a"]);
    let json = sandbox.apm(["run", "unpause", &id, "a", "--format", "json"]).good();
    assert!(json.contains(r#""text":"`a` is unpaused""#), "{json}");
    waits(&sandbox, "a", "paused", "unpaused, waits for a free slot");
    go(&sandbox, &["b"]);
    run.ends().good();
    assert_eq!(recorded(&sandbox, "attempt_paused"), [json!({"task": "a", "attempt": 1})]);
    assert_eq!(recorded(&sandbox, "attempt_unpaused"), [json!({"task": "a", "attempt": 1, "slot": 0})]);
    assert_eq!(sandbox.apm(["run", "show", "last", "a"]).good(), "begin-a\nend-a\n");
    numbered(&sandbox);
}

#[test]
fn a_paused_run_starts_nothing_and_goes_on() {
    let sandbox = Sandbox::new("pauserun");
    let run = gates(&sandbox, &["a", "b"], &["-j1"]);
    up(&sandbox, "a");
    assert!(sandbox.apm(["run", "unpause"]).fails(2).contains("the run is not paused"));
    assert!(sandbox.apm(["run", "unpause", "last", "a"]).fails(2).contains("task `a` is not paused"));
    sandbox.apm(["run", "pause"]).good();
    waits(&sandbox, "a", "paused", "the run is paused; `apm run unpause` lets it go on");
    waits(&sandbox, "b", "paused", "the run is paused");
    // One more is added, and does not start either.
    sandbox.apm_with(["run", "add", "-"], b"{\"id\": \"c\", \"run\": \"true\"}\n").good();
    waits(&sandbox, "c", "paused", "the run is paused");
    go(&sandbox, &["a", "b"]);
    assert_eq!(started(&sandbox), ["a"]);
    sandbox.apm(["run", "unpause"]).good();
    run.ends().good();
    assert_eq!(started(&sandbox), ["a", "b", "c"]);
    numbered(&sandbox);
}

/// Regression (F10): the wall clock of a paused attempt ran on. `b` takes longer than `a` may.
#[test]
fn the_time_limit_of_a_paused_task_stands_still() {
    let sandbox = Sandbox::new("pausetime");
    let plan =
        json!({"tasks": [{"id": "a", "run": gated("a"), "timeout": "3s"}, {"id": "b", "run": "touch up-b; sleep 4"}]});
    let run = Running::plan(&sandbox, &plan, &["-j1"]);
    up(&sandbox, "a");
    sandbox.apm(["run", "pause", "last", "a"]).good();
    eventually("the other task ends", || !recorded(&sandbox, "attempt_finished").is_empty());
    go(&sandbox, &["a"]);
    sandbox.apm(["run", "unpause", "last", "a"]).good();
    run.ends().good();
    assert_eq!((state_of(&sandbox, "a").as_str(), started(&sandbox).len()), ("passed", 2));
}

#[test]
fn set_changes_agents_priorities_and_capacities() {
    let sandbox = Sandbox::new("set");
    let uses = |name: &str| json!({"id": name, "run": gated(name), "uses": {"db": 1}});
    let plan = json!({"resources": {"db": 1}, "tasks": [
        uses("a"), uses("b"), {"id": "c", "run": gated("c")}, {"id": "d", "run": gated("d")}, {"id": "e", "run": gated("e")},
    ]});
    let run = Running::plan(&sandbox, &plan, &["-j1"]);
    up(&sandbox, "a");
    let id = run_of(&sandbox);
    let ran = sandbox.apm(["run", "set", &id, "--priority", "e=3", "--priority", "d=2"]);
    assert_eq!(
        ran.stderr,
        format!("apm: run {id}: the priority of `e` is 3\napm: run {id}: the priority of `d` is 2\n")
    );
    let json = sandbox.apm(["run", "set", "--agents", "2", "--format", "json"]).good();
    assert!(json.contains(r#""text":"2 tasks at once from now on""#), "{json}");
    up(&sandbox, "e");
    let json = sandbox.apm(["run", "set", "--agents", "4", "--memory", "1GiB", "--format", "json"]).good();
    assert_eq!(json.lines().count(), 2, "a line for each change: {json}");
    up(&sandbox, "d");
    up(&sandbox, "c");
    assert_eq!(started(&sandbox)[..3], ["a", "e", "d"], "as the priorities say");
    sandbox.apm(["run", "set", "--agents", "8"]).good();
    waits(&sandbox, "b", "ready", "held by `a`");
    sandbox.apm(["run", "set", "last", "--resource", "db=2"]).good();
    up(&sandbox, "b");
    for (words, why) in [
        (&["--agents", "0"][..], "at least 1"),
        (&["--agents", "1000000"], "1000000 agents: at most "),
        (&["--resource", "dp=2"], "no resource `dp`; it has `slots`, `memory`, `db`"),
        (&["--resource", "db=0"], "`db` to 0: at least 1"),
        (&["--resource", "db"], "expected a name, `=` and a whole number"),
        (&["--priority", "d=x"], "--priority d=x: expected a name"),
        (&["--priority", "nobody=1"], "no task `nobody`"),
        (&["--memory", "lots"], "--memory"),
        (&[], "--agents"),
    ] {
        let ran = sandbox.apm([&["run", "set", "last"], words].concat());
        assert!(ran.stderr.contains(why), "{words:?}: {}", ran.stderr);
        ran.fails(2);
    }
    let refused = sandbox.apm(["run", "set", "--priority", "nobody=1", "--format", "json"]);
    let value: Value = serde_json::from_str(&refused.stdout).expect("JSON");
    assert_eq!((refused.code, &value["done"]), (Some(2), &json!(false)));
    assert!(value["reason"].as_str().expect("a reason").contains("no task `nobody`"), "{value}");
    go(&sandbox, &["a", "b", "c", "d", "e"]);
    run.ends().good();
    numbered(&sandbox);
}

#[test]
fn tasks_are_added_to_a_run() {
    let sandbox = Sandbox::new("add");
    let run = gates(&sandbox, &["a"], &["-j2", "--timeout", "500s"]);
    up(&sandbox, "a");
    let id = run_of(&sandbox);
    sandbox.file("more.yaml", "version: 1\ntasks:\n- {id: b, run: 'echo $V > b', needs: [a], env: {V: v1}}\n- {id: c, run: test -e b, needs: [b]}\n");
    let ran = sandbox.apm(["run", "add", "more.yaml"]);
    assert_eq!(ran.stderr, format!("apm: run {id}: 2 tasks added\n"));
    ran.good();
    // A task before writes a plan file, which is read then.
    sandbox.file(
        "steps.yaml",
        "version: 1\ntasks:\n- {id: make, run: 'printf \"version: 1\\ntasks:\\n- {id: made, run: touch made}\\n\" > later.yaml', needs: [a]}\n\
         - {id: more, plan: later.yaml, needs: [make]}\n- {id: last, run: test -e made, needs: [more]}\n",
    );
    let json = sandbox.apm(["run", "add", &id, "steps.yaml", "--format", "json"]).good();
    assert!(json.contains(r#""text":"3 tasks added""#), "{json}");
    sandbox
        .apm_with(["run", "add", "last", "-"], b"{\"id\": \"d\", \"run\": \"true\", \"needs\": [\"c\", \"last\"]}\n")
        .good();
    waits(&sandbox, "d", "waiting", "needs `c`, `last`");
    go(&sandbox, &["a"]);
    run.ends().good();
    let states = states(&sandbox);
    let names: Vec<&str> = states.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "make", "more", "last", "d", "made"]);
    assert!(states.iter().all(|(_, state)| state == "passed"), "{states:?}");
    assert_eq!(sandbox.read("b"), "v1\n");
    assert!(!journal(&sandbox).contains("v1"), "values of environments are in no event");
    // The settings of the run hold for what joins it.
    assert_eq!(sandbox.report()["tasks"][1]["limits"]["timeout_us"], 500_000_000);
    let by =
        |kind: &str| recorded(&sandbox, "tasks_added").iter().filter(|event| event["by"].get(kind).is_some()).count();
    assert_eq!((by("control"), by("task")), (3, 1));
    numbered(&sandbox);
}

#[test]
fn a_bad_change_is_refused_and_the_run_goes_on() {
    let sandbox = Sandbox::new("bad");
    let plan = json!({"tasks": [{"id": "build", "run": gated("build")}, {"id": "bad", "run": "exit 1"}]});
    let run = Running::plan(&sandbox, &plan, &["-j2"]);
    up(&sandbox, "build");
    eventually("`bad` has failed", || !recorded(&sandbox, "attempt_finished").is_empty());
    let error = sandbox.apm(["run", "cancel", "last", "biuld"]).fails(2);
    assert!(error.contains("has no task `biuld`") && error.contains("did you mean `build`?"), "{error}");
    let error = sandbox.apm(["run", "pause", "last", "zzz"]).fails(2);
    assert!(error.contains("no task `zzz`") && error.contains("--waiting` names its unfinished tasks"), "{error}");
    assert!(sandbox.apm(["run", "cancel", "last", "a\nb"]).fails(2).contains("control character"));
    for (plan, why) in [
        ("{\"id\": \"build\", \"run\": \"true\"}\n", "two tasks are named `build`"),
        ("{\"id\": \"x\", \"run\": \"true\"}\n{\"id\": \"x\", \"run\": \"true\"}\n", "two tasks are named `x`"),
        ("{\"id\": \"x\", \"run\": \"true\", \"needs\": [\"nobody\"]}\n", "`x` needs `nobody`"),
        (
            "{\"id\": \"x\", \"run\": \"true\", \"needs\": [\"y\"]}\n{\"id\": \"y\", \"run\": \"true\", \"needs\": [\"x\"]}\n",
            "tasks need each other in a cycle",
        ),
        ("{\"id\": \"x\", \"run\": \"true\", \"needs\": [\"bad\"]}\n", "needs `bad`, which has already ended: failed"),
        ("{\"id\": \"x\", \"run\": \"true\", \"uses\": {\"db\": 1}}\n", "`db`"),
        ("{\"id\": \"x\", \"rum\": \"true\"}\n", "did you mean `run`?"),
        ("no plan at all", "-:1"),
        ("", "-"),
    ] {
        let ran = sandbox.apm_with(["run", "add", "-"], plan.as_bytes());
        assert!(ran.stderr.contains(why), "{plan}: {}", ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "{plan}: {}", ran.stderr);
        ran.fails(2);
    }
    let error = sandbox.apm(["run", "add", "nofile.yaml"]).fails(2);
    assert!(error.contains("read the plan `nofile.yaml`"), "{error}");
    assert_eq!(recorded(&sandbox, "tasks_added").len(), 1, "none of it was added");
    let refused = recorded(&sandbox, "edit_refused");
    assert!(refused.iter().all(|event| event["by"].get("control").is_some()), "{refused:?}");
    let edits: Vec<&str> = refused.iter().map(|event| event["edit"].as_str().expect("text")).collect();
    assert_eq!(edits[..3], ["cancel `biuld`", "pause `zzz`", "add task `build`"]);
    go(&sandbox, &["build"]);
    // The failed task, and nothing of what was refused.
    run.ends().fails(1);
    numbered(&sandbox);
}

#[test]
fn exit_codes_where_no_run_can_be_steered() {
    let sandbox = Sandbox::new("codes");
    for word in ["cancel", "pause", "unpause"] {
        let error = sandbox.apm(["run", word]).fails(4);
        assert!(error.contains("no run goes on"), "{error}");
    }
    assert!(sandbox.apm(["run", "watch"]).fails(4).contains("no run is recorded"));
    sandbox.apm(["run", "each", "true", ":::", "1"]).good();
    let error = sandbox.apm(["run", "set", "last", "--agents", "2"]).fails(4);
    assert!(error.contains("does not go on") && error.contains("apm run show"), "{error}");
    assert!(sandbox.apm(["run", "pause", "1999"]).fails(2).contains("no recorded run starts with `1999`"));
    let error = sandbox.apm_with(["run", "add", "-"], b"{\"id\": \"a\", \"run\": \"true\"}\n").fails(4);
    assert!(error.contains("no run goes on"), "{error}");
    sandbox.apm(["run", "watch"]).good();

    // Two at once: which one is meant has to be said.
    let first = gates(&sandbox, &["a"], &[]);
    up(&sandbox, "a");
    let second =
        Running::start(&sandbox, "second", &["run", "each", "sh", "-c", &gated("b"), ":::", "1"], Stdio::null());
    up(&sandbox, "b");
    let error = sandbox.apm(["run", "pause"]).fails(2);
    assert!(error.contains("2 runs go on: ") && error.contains("name one of them"), "{error}");
    go(&sandbox, &["a", "b"]);
    first.ends().good();
    second.ends().good();
    // Nobody listens any more.
    let sandbox = Sandbox::new("deaf");
    let run = gates(&sandbox, &["a"], &[]);
    up(&sandbox, "a");
    std::fs::remove_file(folder(&sandbox).join("control")).expect("removed");
    let error = sandbox.apm(["run", "pause"]).fails(3);
    assert!(error.contains("cannot be reached: nobody listens on its control socket"), "{error}");
    go(&sandbox, &["a"]);
    run.ends().good();
}

fn connect(sandbox: &Sandbox) -> UnixStream {
    UnixStream::connect(folder(sandbox).join("control")).expect("somebody listens")
}

/// Sends bytes and reads one answer; `Null` where the connection ended without.
fn answer(stream: &UnixStream, bytes: &[u8]) -> Value {
    let mut stream = stream;
    // Where it refuses early it does not read all.
    let _ = stream.write_all(bytes);
    let mut line = String::new();
    let _ = BufReader::new(stream).read_line(&mut line);
    serde_json::from_str(&line).unwrap_or_default()
}

const WAITING: &[u8] = b"{\"v\":1,\"request\":{\"waiting\":{}}}\n";

#[test]
fn garbage_on_the_socket_harms_nobody() {
    let sandbox = Sandbox::new("garbage");
    let run = gates(&sandbox, &["a"], &[]);
    up(&sandbox, "a");
    let mode = std::fs::metadata(folder(&sandbox).join("control")).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let huge = [b"{\"v\":1,\"request\":\"", &vec![b'x'; 3 << 20][..], b"\"}\n"].concat();
    let deep = [&vec![b'['; 100_000][..], b"\n"].concat();
    for (bytes, why) in [
        (&b"garbage\n"[..], "not a request: "),
        (b"\n", "not a request: "),
        (b"\0\xff\xfe\n", "not a request: "),
        (b"{\"v\":1,\"request\":{\"sing\":{}}}\n", "not a request: unknown variant `sing`"),
        (b"{\"v\":9,\"request\":{\"waiting\":{}}}\n", "protocol version 9, the run speaks 1"),
        (b"{\"v\":1,\"request\":{\"edit\":{\"edit\":{\"cancel\":{\"tasks\":[]}}}}}\n", "no task is named"),
        (&huge, "not a request: "),
        (&deep, "not a request: "),
    ] {
        let reply = answer(&connect(&sandbox), bytes);
        let reason = reply["refused"]["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(why), "{}: {reply}", String::from_utf8_lossy(&bytes[..bytes.len().min(60)]));
    }
    let stream = connect(&sandbox);
    (&stream).write_all(b"{\"v\":1,").expect("sent");
    stream.shutdown(std::net::Shutdown::Write).expect("shut");
    let reply = answer(&stream, b"");
    assert!(reply["refused"]["reason"].as_str().expect("a reason").contains("a line without an end"), "{reply}");
    // One that says nothing, and one that breaks off.
    let silent = connect(&sandbox);
    drop(connect(&sandbox));
    assert_eq!(answer(&connect(&sandbox), WAITING)["waiting"]["tasks"][0]["task"], "a");
    go(&sandbox, &["a"]);
    let ran = run.ends();
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    ran.good();
    drop(silent);
    assert_eq!(recorded(&sandbox, "edit_refused").len(), 1, "of what was a request");
}

#[test]
fn a_flood_of_requests_and_a_client_that_does_not_read() {
    let sandbox = Sandbox::new("flood");
    let quick: Vec<Value> = (0..50).map(|n| json!({"id": format!("t{n}"), "run": ["true"]})).collect();
    let tasks = [&[json!({"id": "a", "run": gated("a")})][..], &quick].concat();
    let plan = json!({ "tasks": tasks });
    let run = Running::plan(&sandbox, &plan, &["-j2"]);
    up(&sandbox, "a");
    // Answers to this one are never read: its buffer fills, and it is let go in the end.
    let deaf = connect(&sandbox);
    deaf.set_nonblocking(true).expect("a flag");
    let mut sent = 0;
    while sent < 10_000 && (&deaf).write_all(WAITING).is_ok() {
        sent += 1;
    }
    let cancel = b"{\"v\":1,\"request\":{\"edit\":{\"edit\":{\"cancel\":{\"tasks\":[\"nobody\"]}}}}}\n";
    const EACH: usize = 700;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let stream = connect(&sandbox);
                let mut reader = BufReader::new(&stream);
                let writer = scope.spawn({
                    let stream = stream.try_clone().expect("a copy");
                    move || (&stream).write_all(&cancel.repeat(EACH))
                });
                let mut line = String::new();
                for number in 0..EACH {
                    line.clear();
                    reader.read_line(&mut line).expect("an answer");
                    assert!(line.contains("no task `nobody`"), "answer {number}: {line}");
                }
                writer.join().expect("no panic").expect("sent");
            });
        }
        eventually("the other tasks end meanwhile", || recorded(&sandbox, "attempt_finished").len() == 50);
    });
    assert!(recorded(&sandbox, "edit_refused").len() <= 100, "a flood does not fill the disk");
    sandbox.apm(["run", "pause", "last", "a"]).good();
    sandbox.apm(["run", "unpause", "last", "a"]).good();
    go(&sandbox, &["a"]);
    run.ends().good();
    drop(deaf);
    numbered(&sandbox);
}

#[test]
fn more_clients_than_there_is_room_for() {
    let sandbox = Sandbox::new("clients");
    let run = gates(&sandbox, &["a"], &[]);
    up(&sandbox, "a");
    let clients: Vec<UnixStream> = (0..16).map(|_| connect(&sandbox)).collect();
    for client in &clients {
        assert!(answer(client, WAITING)["waiting"].is_object());
    }
    let reply = answer(&connect(&sandbox), WAITING);
    assert_eq!(reply["refused"]["reason"], "16 clients are connected already");
    let error = sandbox.apm(["run", "pause"]).fails(2);
    assert!(error.contains("16 clients are connected already"), "{error}");
    drop(clients);
    eventually("there is room again", || sandbox.apm(["run", "pause"]).code == Some(0));
    sandbox.apm(["run", "unpause"]).good();
    go(&sandbox, &["a"]);
    run.ends().good();
}

#[test]
fn another_user_is_refused_whatever_the_mode_of_the_socket() {
    if std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) != 0) {
        return skip("only root can become another user");
    }
    if !has_program("setpriv") {
        return;
    }
    // One below the home of root is of no use to others.
    let python = "/usr/bin/python3";
    if !std::path::Path::new(python).exists() {
        return skip("`/usr/bin/python3` is not there");
    }
    let sandbox = Sandbox::new("stranger");
    let run = gates(&sandbox, &["a"], &[]);
    up(&sandbox, "a");
    let folder = folder(&sandbox);
    let way = [(sandbox.state(), 0o755), (sandbox.state().join("runs"), 0o755), (folder.clone(), 0o755)];
    for (path, mode) in way.into_iter().chain([(folder.join("control"), 0o777)]) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
    }
    // It is refused before it asks: what it asks may meet a closed socket.
    let script = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\ntry:\n    \
                  s.sendall(b'{\"v\":1,\"request\":{\"edit\":{\"edit\":{\"cancel_run\":{}}}}}\\n')\n\
                  except BrokenPipeError:\n    pass\nprint(s.makefile().readline())";
    let socket = folder.join("control").display().to_string();
    let words = ["--reuid", "65534", "--clear-groups", python, "-c", script, &socket];
    let said = Ran::of(sandbox.program("setpriv", words)).good();
    assert!(said.contains("the run belongs to user 0, and you are user 65534"), "{said}");
    go(&sandbox, &["a"]);
    run.ends().good();
    assert_eq!(recorded(&sandbox, "plan_edited"), [] as [Value; 0]);
}

#[test]
fn the_socket_of_a_killed_run_is_replaced_by_its_resume() {
    let sandbox = Sandbox::new("stale");
    let run = gates(&sandbox, &["a", "b"], &["-j1"]);
    up(&sandbox, "a");
    run.kill();
    assert!(folder(&sandbox).join("control").exists());
    let error = sandbox.apm(["run", "pause", "last"]).fails(4);
    assert!(error.contains("does not go on"), "{error}");
    let waiting = sandbox.apm(["run", "show", "last", "--waiting"]).good();
    assert!(waiting.contains("it ran when the run broke off"), "{waiting}");
    std::fs::remove_file(sandbox.work().join("up-a")).expect("removed");
    let run = Running::start(&sandbox, "resumed", &["run", "--resume"], Stdio::null());
    up(&sandbox, "a");
    sandbox.apm(["run", "cancel", "last", "b"]).good();
    go(&sandbox, &["a"]);
    run.ends().fails(5);
    assert!(!folder(&sandbox).join("control").exists(), "it goes with the run");
    numbered(&sandbox);
}

#[test]
fn a_run_folder_that_vanishes() {
    let sandbox = Sandbox::new("vanish");
    let run = gates(&sandbox, &["a", "b"], &["-j1"]);
    up(&sandbox, "a");
    let id = run_of(&sandbox);
    let watch = Running::start(&sandbox, "watch", &["run", "watch"], Stdio::null());
    std::fs::remove_dir_all(folder(&sandbox)).expect("removed");
    for words in [&["pause", &id][..], &["watch", &id], &["show", &id], &["show", &id, "--waiting"]] {
        let ran = sandbox.apm([&["run"], words].concat());
        assert!(
            ran.stderr.contains("no run is recorded") && ran.code == Some(4),
            "{words:?}: {:?} {}",
            ran.code,
            ran.stderr
        );
    }
    go(&sandbox, &["a", "b"]);
    let ran = run.ends();
    assert!(ran.stdout.contains("passed: 2 tasks (2 passed)"), "the run itself goes on: {}", ran.stdout);
    assert!(ran.stderr.contains("the record of the run is lost: `"), "{}", ran.stderr);
    ran.fails(3);
    let watched = watch.ends();
    assert!(!watched.stderr.contains("panicked"), "{}", watched.stderr);
}

#[test]
fn a_run_is_watched_until_it_ends() {
    let sandbox = Sandbox::new("watch");
    let plan = json!({"tasks": [{"id": "a", "run": gated("a")}, {"id": "b", "run": "exit 3", "needs": ["a"]}]});
    let run = Running::plan(&sandbox, &plan, &[]);
    up(&sandbox, "a");
    let text = Running::start(&sandbox, "text", &["run", "watch"], Stdio::null());
    let events = Running::start(&sandbox, "events", &["run", "watch", "--format", "ndjson"], Stdio::null());
    let good = Running::start(&sandbox, "good", &["run", "watch", "last", "--output", "a"], Stdio::null());
    let bad = Running::start(&sandbox, "bad", &["run", "watch", "last", "--output", "b"], Stdio::null());
    eventually("what the task prints is seen while it runs", || good.out() == "begin-a\n");
    eventually("the events so far are seen", || events.out().contains("attempt_started"));
    let error = sandbox.apm(["run", "watch", "last", "--output", "nobody"]).fails(2);
    assert!(error.contains("has no task `nobody`"), "{error}");
    go(&sandbox, &["a"]);
    let ran = run.ends();
    assert_eq!(ran.code, Some(1));
    let (text, events, good, bad) = (text.ends(), events.ends(), good.ends(), bad.ends());
    assert_eq!((text.code, &text.stdout), (Some(1), &ran.stdout), "{}", text.stderr);
    assert_eq!((events.code, &events.stdout), (Some(1), &journal(&sandbox)), "{}", events.stderr);
    assert_eq!(
        (good.code, good.stdout.as_str(), good.stderr.as_str()),
        (Some(0), "begin-a\nend-a\n", "apm: `a`: passed\n")
    );
    assert_eq!((bad.code, bad.stdout.as_str(), bad.stderr.as_str()), (Some(1), "", "apm: `b`: exit code 3\n"));
    // A finished run is shown at once.
    let after = sandbox.apm(["run", "watch"]);
    assert_eq!((after.code, after.stdout), (Some(1), ran.stdout));
    assert_eq!(sandbox.apm(["run", "watch", "last", "--format", "ndjson"]).stdout, journal(&sandbox));
    assert_eq!(sandbox.apm(["run", "watch", "last", "--output", "a"]).good(), "begin-a\nend-a\n");
    let error = sandbox.apm(["run", "watch", "last", "--output", "nobody"]);
    assert!(error.fails(2).contains("has no task `nobody`"));
    numbered(&sandbox);
}

#[test]
fn a_watched_run_that_is_killed_breaks_off() {
    let sandbox = Sandbox::new("watchkill");
    let run = gates(&sandbox, &["a"], &[]);
    up(&sandbox, "a");
    let text = Running::start(&sandbox, "text", &["run", "watch"], Stdio::null());
    let events = Running::start(&sandbox, "events", &["run", "watch", "--format", "ndjson"], Stdio::null());
    let output = Running::start(&sandbox, "output", &["run", "watch", "last", "--output", "a"], Stdio::null());
    eventually("all of them follow", || output.out() == "begin-a\n" && events.out().contains("attempt_started"));
    run.kill();
    for (ran, said) in [
        (text.ends(), "broke off; `apm run --resume "),
        (events.ends(), "broke off; `apm run --resume "),
        (output.ends(), "broke off before `a` ended"),
    ] {
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
        ran.fails(3);
    }
    // What it left is ended by its resume.
    go(&sandbox, &["a"]);
    sandbox.apm(["run", "--resume"]).good();
}

#[test]
fn a_watcher_whose_reader_goes_away_ends() {
    let sandbox = Sandbox::new("pipe");
    let run = gates(&sandbox, &["a", "b"], &["-j1"]);
    up(&sandbox, "a");
    let mut command = sandbox.command(["run", "watch", "--format", "ndjson"]);
    let mut watch = Ended(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("apm"));
    let mut stdout = BufReader::new(watch.0.stdout.take().expect("a pipe"));
    stdout.read_line(&mut String::new()).expect("an event");
    drop(stdout);
    go(&sandbox, &["a"]);
    let status = watch.0.wait().expect("its end");
    let mut said = String::new();
    watch.0.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
    up(&sandbox, "b");
    go(&sandbox, &["b"]);
    run.ends().good();
}

#[test]
fn a_paused_run_stays_paused_when_it_is_resumed() {
    let sandbox = Sandbox::new("pausekill");
    let run = gates(&sandbox, &["a", "b", "c"], &["-j1"]);
    up(&sandbox, "a");
    sandbox.apm(["run", "pause", "last", "c"]).good();
    sandbox.apm(["run", "pause"]).good();
    waits(&sandbox, "a", "paused", "the run is paused");
    run.kill();
    go(&sandbox, &["a", "b", "c"]);
    let run = Running::start(&sandbox, "resumed", &["run", "--resume"], Stdio::null());
    waits(&sandbox, "a", "paused", "the run is paused; `apm run unpause` lets it go on");
    assert_eq!(started(&sandbox), ["a"], "nothing has started since");
    let said = run.err();
    assert!(
        said.contains("is still paused; `apm run unpause ") && said.contains(": task `c` is still paused"),
        "{said}"
    );
    sandbox.apm(["run", "unpause"]).good();
    waits(&sandbox, "c", "paused", "`apm run unpause RUN 'c'` lets it go on");
    sandbox.apm(["run", "unpause", "last", "c"]).good();
    run.ends().good();
    assert_eq!(started(&sandbox), ["a", "a", "b", "c"]);
    numbered(&sandbox);
}

#[test]
fn changes_hold_for_a_resume_too() {
    let sandbox = Sandbox::new("resume");
    let run = gates(&sandbox, &["a", "b", "c", "d", "e"], &["-j1"]);
    up(&sandbox, "a");
    sandbox.apm(["run", "set", "--agents", "2", "--priority", "e=4", "--priority", "d=3", "--memory", "2GiB"]).good();
    up(&sandbox, "e");
    sandbox.apm(["run", "cancel", "last", "b", "e"]).good();
    up(&sandbox, "d");
    sandbox.apm_with(["run", "add", "-"], b"{\"id\": \"f\", \"run\": \"true\", \"needs\": [\"c\"]}\n").good();
    run.kill();
    std::fs::remove_file(sandbox.work().join("up-d")).expect("removed");
    let before = started(&sandbox).len();
    let run = Running::start(&sandbox, "resumed", &["run", "--resume"], Stdio::null());
    // Two at once: first that of the highest priority, then the one that another waits for.
    up(&sandbox, "d");
    up(&sandbox, "c");
    assert_eq!(started(&sandbox)[before..], ["d", "c"]);
    go(&sandbox, &["a", "c", "d"]);
    run.ends().fails(5);
    assert!(!sandbox.has("up-b"));
    let expected =
        [("a", "passed"), ("b", "cancelled"), ("c", "passed"), ("d", "passed"), ("e", "cancelled"), ("f", "passed")];
    let states = states(&sandbox);
    let states: Vec<(&str, &str)> = states.iter().map(|(id, state)| (id.as_str(), state.as_str())).collect();
    assert_eq!(states, expected);
    assert_eq!(sandbox.report()["ceilings"]["memory"], 2_u64 << 30);
    numbered(&sandbox);
}

/// The tasks that a step had added were added again by its second attempt, or forgotten.
#[test]
fn tasks_that_a_step_has_added_are_there_after_a_kill() {
    let sandbox = Sandbox::new("stepkill");
    let later = json!({"version": 1, "tasks": [
        {"id": "one", "run": "echo x >> one"}, {"id": "two", "run": gated("two"), "needs": ["one"]}]});
    sandbox.file("later.json", later.to_string());
    let plan = json!({"tasks": [
        {"id": "more", "plan": "later.json"}, {"id": "last", "run": "echo x >> last", "needs": ["more"]}]});
    let run = Running::plan(&sandbox, &plan, &["-j2"]);
    up(&sandbox, "two");
    waits(&sandbox, "more", "waiting", "needs `two`");
    run.kill();
    go(&sandbox, &["two"]);
    sandbox.apm(["run", "--resume", "-o", "json=live.json"]).good();
    assert_eq!(sandbox.read("live.json"), sandbox.apm(["run", "--replay", "last", "--format", "json"]).good());
    assert_eq!((sandbox.read("one").as_str(), sandbox.read("last").as_str()), ("x\n", "x\n"));
    let names: Vec<String> = states(&sandbox).into_iter().map(|(id, _)| id).collect();
    assert_eq!(names, ["more", "last", "one", "two"]);
    numbered(&sandbox);
}

#[test]
fn a_step_that_cannot_be_made_is_broken_and_the_rest_runs() {
    let sandbox = Sandbox::new("badstep");
    sandbox.file("wrong.yaml", "version: 1\ntasks:\n- {id: x, rum: y}\n");
    sandbox.file("twice.yaml", "version: 1\ntasks:\n- {id: other, run: 'true'}\n");
    sandbox.file("fails.yaml", "version: 1\ntasks:\n- {id: f1, run: exit 1}\n- {id: f2, run: 'true'}\n");
    let plan = json!({"tasks": [
        {"id": "missing", "plan": "nofile.yaml"}, {"id": "wrong", "plan": "wrong.yaml"},
        {"id": "twice", "plan": "twice.yaml"}, {"id": "other", "run": "true"},
        {"id": "fails", "plan": "fails.yaml"}, {"id": "after", "run": "true", "needs": ["fails"]}]});
    let run = Running::plan(&sandbox, &plan, &[]);
    let ran = run.ends();
    for why in [
        "nofile.yaml",
        "wrong.yaml:3:11: `rum` is not a key of a task; did you mean `run`?",
        "two tasks are named `other`",
        "`f1`",
    ] {
        assert!(ran.stdout.contains(why), "{why}: {}", ran.stdout);
    }
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    let states = states(&sandbox);
    let states: Vec<(&str, &str)> = states.iter().map(|(id, state)| (id.as_str(), state.as_str())).collect();
    assert_eq!(
        states,
        [
            ("missing", "broken"),
            ("wrong", "broken"),
            ("twice", "broken"),
            ("other", "passed"),
            ("fails", "failed"),
            ("after", "skipped"),
            ("f1", "failed"),
            ("f2", "passed")
        ]
    );
}

#[test]
fn tasks_that_come_over_standard_input_may_need_each_other() {
    let sandbox = Sandbox::new("stream");
    let mut run = Running::start(&sandbox, "run", &["run", "-", "-j2"], Stdio::piped());
    let mut stdin = run.child.0.stdin.take().expect("a pipe");
    let mut send = |line: &str| stdin.write_all(format!("{line}\n").as_bytes()).expect("sent");
    send(&json!({"id": "a", "run": gated("a")}).to_string());
    up(&sandbox, "a");
    send(r#"{"id": "b", "run": "touch b", "needs": ["a"]}"#);
    send(r#"{"id": "c", "run": "test -e b", "needs": ["b"]}"#);
    waits(&sandbox, "c", "waiting", "needs `b`");
    go(&sandbox, &["a"]);
    eventually("they run while the input is open", || sandbox.has("b"));
    // Bad ones among good ones: the others run, and the run is incomplete.
    send(r#"{"id": "d", "rum": "true"}"#);
    send(r#"{"id": "a", "run": "true"}"#);
    send(r#"{"id": "e", "run": "true", "needs": ["nobody"]}"#);
    send("garbage");
    send(r#"{"id": "f", "run": "touch f", "needs": ["c"]}"#);
    drop(stdin);
    let ran = run.ends();
    assert!(
        ran.stderr.contains("line 4 of standard input") && ran.stderr.contains("`rum` is not a key"),
        "{}",
        ran.stderr
    );
    let why = "refused line 4 of standard input: -:4:13: `rum` is not a key of a task; did you mean `run`?\n";
    assert!(ran.stdout.contains(why) && ran.stdout.contains("(4 passed, 4 refused)"), "{}", ran.stdout);
    ran.fails(3);
    assert!(sandbox.has("f"));
    let refused = recorded(&sandbox, "edit_refused");
    let edits: Vec<&str> = refused.iter().map(|event| event["edit"].as_str().expect("text")).collect();
    assert_eq!(edits, ["line 4 of standard input", "add task `a`", "add task `e`", "line 7 of standard input"]);
    numbered(&sandbox);
}

/// Regression (F12): the last events were numbered in a second place.
#[test]
fn events_are_numbered_without_a_gap_to_the_last() {
    let sandbox = Sandbox::new("numbers");
    let inner = format!("{} run each true ::: 1 2", env!("CARGO_BIN_EXE_apm"));
    let plan = json!({"tasks": [{"id": "inner", "run": inner}, {"id": "bad", "run": "test -e good"}]});
    Running::plan(&sandbox, &plan, &[]).ends().fails(1);
    let outer: Vec<PathBuf> = std::fs::read_dir(sandbox.state().join("runs"))
        .expect("runs")
        .map(|entry| entry.expect("an entry").path())
        .filter(|run| std::fs::read_to_string(run.join("journal.ndjson")).is_ok_and(|text| text.contains("plan.json")))
        .collect();
    let [outer] = &outer[..] else { panic!("one run of the plan: {outer:?}") };
    let name = outer.file_name().expect("a name").to_string_lossy().into_owned();
    sandbox.file("good", "");
    sandbox.apm(["run", "--resume", &name]).good();
    let text = std::fs::read_to_string(outer.join("journal.ndjson")).expect("a journal");
    for (number, line) in text.lines().enumerate() {
        assert_eq!(serde_json::from_str::<Value>(line).expect("JSON")["seq"], number, "{line}");
    }
    assert!(text.contains("child_run") && text.matches("run_finished").count() == 2, "{text}");
}

/// Regression: the socket was served before the first event was written, so that a change could be recorded in front of
/// `run_started` or `run_resumed`, whose readers took it for one of the part before.
#[test]
fn a_change_follows_the_start_of_its_run() {
    let cancel = b"{\"v\":1,\"request\":{\"edit\":{\"edit\":{\"cancel\":{\"tasks\":[\"nobody\"]}}}}}\n";
    for _ in 0..5 {
        let sandbox = Sandbox::new("first");
        let asked = || {
            let socket =
                || Some(std::fs::read_dir(sandbox.state().join("runs")).ok()?.next()?.ok()?.path().join("control"));
            let connected = || UnixStream::connect(socket()?).ok();
            let end = std::time::Instant::now() + crate::sandbox::PATIENCE;
            // Without a pause: it is to be the first.
            while std::time::Instant::now() < end {
                if let Some(stream) = connected() {
                    return assert!(answer(&stream, cancel)["refused"].is_object());
                }
            }
            panic!("nobody listens");
        };
        let run = gates(&sandbox, &["a"], &[]);
        asked();
        up(&sandbox, "a");
        run.kill();
        let run = Running::start(&sandbox, "resumed", &["run", "--resume"], Stdio::null());
        asked();
        go(&sandbox, &["a"]);
        run.ends().good();
        let text = journal(&sandbox);
        let at = |what: &str| text.lines().position(|line| line.contains(what)).expect("it is there");
        assert_eq!((at("run_started"), text.matches("edit_refused").count()), (0, 2), "{text}");
        let after = text.lines().skip(at("run_resumed")).filter(|line| line.contains("edit_refused")).count();
        assert_eq!(after, 1, "{text}");
        numbered(&sandbox);
    }
}
