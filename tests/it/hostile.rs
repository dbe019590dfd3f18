//! Tasks, machines and users that do not behave.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::sandbox::{Ended, PATIENCE, Ran, Sandbox, eventually, has_program, processes_with, signal, skip};

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

/// A number that marks the processes of one test.
fn mark() -> String {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    format!("{}", 100_000 + nanos % 800_000_000)
}

#[test]
fn what_a_task_leaves_behind_is_ended() {
    let sandbox = Sandbox::new("leak");
    let mark = mark();
    // A background process, a daemon in a session of its own with closed descriptors, and one that ignores TERM.
    sandbox.file(
        "p.yaml",
        format!(
            "version: 1\ntasks:\n- {{id: background, run: 'sleep {mark} & exit 0'}}\n- {{id: daemon, run: 'setsid sh -c \"exec >&- 2>&- <&-; sleep {mark}\" & sleep 0.05'}}\n- {{id: deaf, run: \"(trap '' TERM INT HUP; sleep {mark}) & exit 0\"}}\n"
        ),
    );
    sandbox.apm(["run", "p.yaml"]).good();
    assert_eq!(processes_with(&mark), [] as [i32; 0]);
    let leaked: u64 = sandbox.report()["tasks"]
        .as_array()
        .expect("tasks")
        .iter()
        .map(|task| task["attempts"][0]["leaked"].as_u64().expect("a number"))
        .sum();
    assert!(leaked >= 3, "{leaked}");
}

#[test]
fn one_interrupt_ends_gracefully_two_at_once() {
    for (signals, code) in [(1, 130), (2, 130)] {
        let sandbox = Sandbox::new("interrupt");
        let mark = mark();
        // It says good-bye on TERM; where it is deaf the second signal ends it.
        let script = if signals == 1 {
            format!("trap 'touch bye; exit 0' TERM; touch up; while :; do sleep 0.02; done # {mark}")
        } else {
            format!("trap '' TERM; touch up; while :; do sleep 0.02; done # {mark}")
        };
        sandbox.file("p.yaml", serde_json::json!({"version": 1, "tasks": [{"id": "a", "run": script}, {"id": "b", "run": "touch b", "needs": ["a"]}]}).to_string());
        let mut child = Ended(
            sandbox
                .command(["run", "p.yaml", "--set", "run.grace_seconds=600"])
                .stderr(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .expect("apm"),
        );
        eventually("the task runs", || sandbox.has("up"));
        signal(child.0.id(), "INT");
        if signals == 2 {
            std::thread::sleep(Duration::from_millis(100));
            signal(child.0.id(), "INT");
        }
        let status = child.0.wait().expect("its end");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(code - 128), "{status:?}");
        assert_eq!(sandbox.has("bye"), signals == 1);
        assert!(!sandbox.has("b"));
        assert_eq!(processes_with(&mark), [] as [i32; 0]);
        let report = sandbox.report();
        assert_eq!(report["exit_code"], code, "{}", report["verdict"]);
    }
}

/// Signals and time limits waited until somebody went on reading.
#[test]
fn nobody_waits_for_a_reader_that_stalls() {
    for order in ["--keep-order", "--line-buffer"] {
        let sandbox = Sandbox::new("stall");
        let mark = mark();
        sandbox.file("talk", format!("head -c 300000 /dev/zero; touch up$1; sleep {mark}"));
        let args = ["run", "each", order, "-j2", "--timeout", "0.5s", "sh", "talk", ":::", "1", "2", "3"];
        let mut command = sandbox.command(args);
        let mut child = Ended(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("apm"));
        let all_up = || ["up1", "up2", "up3"].iter().all(|name| sandbox.has(name));
        eventually("time limits hold", || all_up() && processes_with(&mark).is_empty());
        signal(child.0.id(), "INT");
        std::thread::sleep(Duration::from_millis(100));
        signal(child.0.id(), "INT");
        let status = child.0.wait().expect("its end");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(2), "{order}: {status:?}");
    }
}

#[test]
fn a_slow_reader_makes_the_run_wait_and_gets_everything() {
    const VALUES: usize = 2_500;
    let sandbox = Sandbox::new("slow");
    let values: String = (0..VALUES).map(|n| format!("{n}\n")).collect();
    sandbox.file("values", values);
    // More than a pipe holds, so that the first is still on its way when the others have ended.
    let script = "if [ $0 = 0 ]; then head -c 200000 /dev/zero | tr '\\0' '\\n'; fi; echo $0";
    let args = ["run", "each", "-a", "values", "--", "sh", "-c", script, "{}"];
    let mut command = sandbox.command(args);
    let mut child = Ended(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("apm"));
    let journal = || {
        let runs = std::fs::read_dir(sandbox.state().join("runs")).into_iter().flatten().flatten();
        runs.filter_map(|run| std::fs::read_to_string(run.path().join("journal.ndjson")).ok()).collect::<String>()
    };
    eventually("the run waits", || journal().contains("its reader is behind"));
    let mut text = String::new();
    child.0.stdout.take().expect("a pipe").read_to_string(&mut text).expect("text");
    assert!(child.0.wait().expect("its end").success());
    let mut numbers: Vec<usize> = text.split_whitespace().map(|line| line.parse().expect("a number")).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..VALUES).collect::<Vec<_>>());
    assert!(journal().contains(&format!("{}: {}", VALUES, VALUES - 1)), "the last one started after all");
}

/// The exit code was 1 and the script around it went on.
#[test]
fn an_interrupt_after_a_failure_is_death_by_signal() {
    let sandbox = Sandbox::new("failedint");
    sandbox.file(
        "p.yaml",
        "version: 1\ntasks:\n- {id: bad, run: 'exit 1'}\n- {id: slow, run: 'touch up; sleep 60', needs: [bad], when: failure}\n",
    );
    let mut child =
        Ended(sandbox.command(["run", "p.yaml"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("apm"));
    eventually("the second task runs", || sandbox.has("up"));
    signal(child.0.id(), "INT");
    let status = child.0.wait().expect("its end");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(2), "{status:?}");
    assert_eq!(sandbox.report()["exit_code"], 130);
}

#[test]
fn the_next_run_ends_what_a_killed_apm_left() {
    let sandbox = Sandbox::new("leftover");
    let mark = mark();
    sandbox.file(
        "p.yaml",
        format!("version: 1\ntasks:\n- {{id: a, run: 'touch up; setsid sleep {mark} & sleep {mark}'}}\n"),
    );
    let mut child =
        Ended(sandbox.command(["run", "p.yaml"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("apm"));
    eventually("the task runs", || sandbox.has("up") && processes_with(&mark).len() >= 3);
    child.0.kill().expect("killed");
    child.0.wait().expect("its end");
    assert!(!processes_with(&mark).is_empty(), "they outlive apm, or this test shows nothing");
    sandbox.file("q.yaml", "version: 1\ntasks:\n- {id: q, run: 'true'}\n");
    let text = sandbox.apm(["run", "q.yaml"]).good();
    assert!(text.contains("crashed"), "{text}");
    eventually("they end", || processes_with(&mark).is_empty());
}

#[test]
fn endless_binary_output_is_kept_in_part() {
    let sandbox = Sandbox::new("endless");
    let ran = sandbox.apm([
        "run",
        "each",
        "--timeout",
        "1s",
        "--set",
        "run.output_limit_mb=1",
        "-q",
        "--",
        "cat",
        ":::",
        "/dev/urandom",
    ]);
    assert_eq!(ran.code, Some(1));
    let report = sandbox.report();
    let attempt = &report["tasks"][0]["attempts"][0];
    assert_eq!(attempt["truncated"], true, "{attempt}");
    assert!(attempt["stdout_bytes"].as_u64().expect("bytes") > 1 << 20);
    let folder: u64 = walk_bytes(&sandbox.state());
    assert!(folder < 4 << 20, "{folder} bytes in the state directory");
}

fn walk_bytes(folder: &std::path::Path) -> u64 {
    std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| {
            let entry = entry.expect("an entry");
            let meta = entry.metadata().expect("its meta data");
            if meta.is_dir() { walk_bytes(&entry.path()) } else { meta.len() }
        })
        .sum()
}

#[test]
fn escapes_in_output_reach_no_terminal_and_no_page() {
    let sandbox = Sandbox::new("escapes");
    let script = "printf '\\033]0;owned\\007\\033[2J<script>alert(1)</script>\\377\\n'; exit 1";
    sandbox.file(
        "p.yaml",
        serde_json::json!({"version": 1, "tasks": [{"id": "x<b>&", "title": "t\u{202e}itle", "run": script}]})
            .to_string(),
    );
    let ran = sandbox.apm([
        "run",
        "p.yaml",
        "-o",
        "html=r.html",
        "-o",
        "junit=r.xml",
        "-o",
        "markdown=r.md",
        "-o",
        "github=r.gh",
    ]);
    assert!(!ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'), "{:?}{:?}", ran.stdout, ran.stderr);
    for file in ["r.html", "r.xml", "r.md", "r.gh"] {
        let text = sandbox.read(file);
        assert!(!text.contains('\u{1b}'), "{file}: {text}");
        // An annotation is plain text on one line, no page.
        assert!(file == "r.gh" || !text.contains("<script>alert"), "{file}: {text}");
    }
    roxmltree::Document::parse(&sandbox.read("r.xml")).expect("well-formed");
}

#[test]
fn secrets_of_the_environment_are_in_no_record() {
    let sandbox = Sandbox::new("secrets");
    sandbox.file("p.yaml", "version: 1\ntasks:\n- {id: a, run: 'test ${#TOKEN} = 13', env: {TOKEN: hunter2secret}}\n");
    let mut command = sandbox.command([
        "run",
        "p.yaml",
        "-o",
        "json=r.json",
        "-o",
        "html=r.html",
        "-o",
        "ndjson=r.nd",
        "-o",
        "trace=r.tr",
    ]);
    Ran::of({
        command.env("OTHER_TOKEN", "hunter3secret");
        command
    })
    .good();
    for file in ["r.json", "r.html", "r.nd", "r.tr"] {
        let text = sandbox.read(file);
        assert!(!text.contains("hunter2secret") && !text.contains("hunter3secret"), "{file}");
    }
    // For a resume they are kept apart, for this user's eyes only.
    let runs =
        std::fs::read_dir(sandbox.state().join("runs")).expect("runs").next().expect("a run").expect("an entry").path();
    let journal = std::fs::read_to_string(runs.join("journal.ndjson")).expect("a journal");
    assert!(!journal.contains("hunter2secret"));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(runs.join("environments.ndjson")).expect("kept").permissions(),
    );
    assert_eq!(mode & 0o077, 0);
}

#[test]
fn without_a_home_with_a_read_only_or_full_state_directory() {
    let sandbox = Sandbox::new("state");
    let mut command = sandbox.command(["run", "each", "echo", ":::", "x"]);
    command.env_remove("HOME").env_remove("APM_STATE_DIR").env("TMPDIR", sandbox.work());
    assert_eq!(Ran::of(command).good(), "x\n");

    let mut command = sandbox.command(["run", "each", "echo", ":::", "x"]);
    command.env("APM_STATE_DIR", "/proc/nowhere");
    let error = Ran::of(command).fails(3);
    assert!(error.contains("open the state directory `/proc/nowhere`") && error.contains("--no-journal"), "{error}");
    let mut command = sandbox.command(["run", "each", "--no-journal", "echo", ":::", "x"]);
    command.env("APM_STATE_DIR", "/proc/nowhere");
    assert_eq!(Ran::of(command).good(), "x\n");

    let error = sandbox.apm(["run", "each", "-o", "json=/dev/full", "echo", ":::", "x"]);
    assert_eq!((error.code, error.stdout.as_str()), (Some(3), "x\n"), "{}", error.stderr);
    assert!(error.stderr.contains("json=/dev/full"), "{}", error.stderr);
}

#[test]
fn a_full_disk_under_the_state_directory_is_said_and_hangs_nobody() {
    if !is_root() {
        return skip("only root can mount a small disk");
    }
    let sandbox = Sandbox::new("full");
    let script = format!(
        "mkdir disk && mount -t tmpfs -o size=1m,mode=700 none disk || exit 99\n{} run each -j2 -- sh -c 'head -c 300000 /dev/zero; touch ran-$1' x {{}} ::: 1 2 3 4 5 6 7 8 9 10 >out 2>err\necho code=$?",
        env!("CARGO_BIN_EXE_apm")
    );
    let mut command = sandbox.program("unshare", ["-m", "sh", "-c", &script]);
    command.env("APM_STATE_DIR", "disk");
    let ran = Ran::of(command);
    if ran.stdout.contains("99") || ran.stderr.contains("unshare") {
        return skip("mounting is not allowed here");
    }
    assert!(
        ran.stdout.contains("code=3") || ran.stdout.contains("code=1"),
        "{}{}\n{}",
        ran.stdout,
        ran.stderr,
        sandbox.read("err")
    );
    assert!(sandbox.read("err").contains("No space left"), "{}", sandbox.read("err"));
}

#[test]
fn few_files_may_be_open() {
    let sandbox = Sandbox::new("files");
    let script = format!(
        "ulimit -n 64; exec {} run each -j50 -k --set run.retries=0 echo ::: $(seq 200)",
        env!("CARGO_BIN_EXE_apm")
    );
    let ran = Ran::of(sandbox.program("sh", ["-c", &script]));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stdout.lines().count(), 200);
    assert!(ran.stderr.contains("only 64 files may be open"), "{}", ran.stderr);
}

#[test]
fn a_narrow_terminal_and_closed_streams() {
    let sandbox = Sandbox::new("narrow");
    sandbox.file("p.yaml", "version: 1\ntasks:\n- {id: a task with quite a long name, run: exit 1}\n");
    let mut command = sandbox.command(["run", "p.yaml"]);
    command.env("COLUMNS", "20");
    assert_eq!(Ran::of(command).code, Some(1));
    let script = format!("{} run p.yaml >&- 2>&- <&-; echo $?", env!("CARGO_BIN_EXE_apm"));
    assert_eq!(Ran::of(sandbox.program("sh", ["-c", &script])).good(), "1\n");
}

#[test]
fn a_repository_whose_checks_call_apm_again_comes_to_an_end() {
    let sandbox = Sandbox::new("nested");
    let apm = env!("CARGO_BIN_EXE_apm");
    sandbox.file("p.yaml", format!("version: 1\ntasks:\n- {{id: again, run: [{apm}, run, p.yaml]}}\n"));
    let start = Instant::now();
    let ran = sandbox.apm(["run", "p.yaml"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(start.elapsed() < PATIENCE);
    let all: serde_json::Value =
        serde_json::from_str(&sandbox.apm(["run", "list", "--format", "json"]).good()).expect("JSON");
    assert_eq!(all["runs"].as_array().map(Vec::len), Some(4), "{all}");
    // The outermost run knows of the one inside it.
    let outermost =
        all["runs"].as_array().expect("runs").last().expect("a run")["run"].as_str().expect("a name").to_owned();
    let report = sandbox.apm(["run", "--replay", &outermost, "--format", "json"]).good();
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["child_runs"].as_array().map(Vec::len), Some(1), "{}", report["child_runs"]);
}

/// What a killed inner apm had started lived on until the outer run ended, and after a crash of both for ever.
#[test]
fn an_attempt_ends_what_a_killed_apm_in_it_left() {
    let sandbox = Sandbox::new("inner");
    let (mark, apm) = (mark(), env!("CARGO_BIN_EXE_apm"));
    sandbox.file("mark", &mark);
    let plan = |tasks: serde_json::Value| serde_json::json!({"version": 1, "tasks": tasks}).to_string();
    sandbox.file("inner.yaml", plan(serde_json::json!([{"id": "i", "run": format!("touch up; sleep {mark}; true")}])));
    let script = format!("{apm} run inner.yaml --no-journal & while [ ! -e up ]; do sleep 0.01; done");
    let look = "! grep -qf mark /proc/[0-9]*/cmdline";
    sandbox.file(
        "p.yaml",
        plan(serde_json::json!([
            {"id": "a", "run": format!("{script}; kill -9 $!")},
            {"id": "b", "run": look, "needs": ["a"]},
        ])),
    );
    sandbox.apm(["run", "p.yaml"]).good();
    // Both apms killed, the inner one without a record: the next run knows the processes by the outer one's mark.
    std::fs::remove_file(sandbox.work().join("up")).expect("removed");
    sandbox.file("q.yaml", plan(serde_json::json!([{"id": "a", "run": format!("{script}; echo $! > pid; wait")}])));
    let mut child =
        Ended(sandbox.command(["run", "q.yaml"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("apm"));
    eventually("the inner task runs", || sandbox.has("pid") && sandbox.read("pid").ends_with('\n'));
    child.0.kill().expect("killed");
    child.0.wait().expect("its end");
    signal(sandbox.read("pid").trim().parse().expect("a number"), "KILL");
    assert!(!processes_with(&mark).is_empty(), "they outlive both, or this test shows nothing");
    sandbox.apm(["run", "each", "true", ":::", "x"]).good();
    assert_eq!(processes_with(&mark), [] as [i32; 0]);
}

/// Time went on while apm did not: all three were called timed out.
#[test]
fn a_stopped_apm_judges_nobody_by_the_time_it_slept() {
    let sandbox = Sandbox::new("stopped");
    let until = |file: &str| format!("while [ ! -e {file} ]; do sleep 0.01; done");
    let tasks = serde_json::json!([
        {"id": "ends", "run": format!("touch a; {}; echo $$ > ended", until("now")), "timeout": "4s"},
        {"id": "goes on", "run": format!("touch b; {}", until("later")), "timeout": "4s"},
        {"id": "prints", "run": format!("touch c; {}; echo x; {}", until("now"), until("later")), "limits": {"idle_timeout": "4s"}},
    ]);
    sandbox.file("p.yaml", serde_json::json!({"version": 1, "tasks": tasks}).to_string());
    let mut command = sandbox.command(["run", "p.yaml", "-j3"]);
    let mut child = Ended(command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("apm"));
    eventually("they run", || ["a", "b", "c"].iter().all(|file| sandbox.has(file)));
    signal(child.0.id(), "STOP");
    sandbox.file("now", "");
    // Longer than their limits: that apm sleeps is the point.
    std::thread::sleep(Duration::from_millis(4500));
    assert!(sandbox.has("ended"));
    signal(child.0.id(), "CONT");
    std::thread::sleep(Duration::from_millis(500));
    sandbox.file("later", "");
    assert_eq!(child.0.wait().expect("its end").code(), Some(0), "{}", sandbox.report());
}

#[test]
fn names_that_are_no_text() {
    let sandbox = Sandbox::new("names");
    let folder = sandbox.work().join(std::ffi::OsStr::from_bytes(b"f\xff"));
    std::fs::create_dir(&folder).expect("a folder");
    let mut command = sandbox.command(["run", "each", "echo", ":::", "x"]);
    command.current_dir(&folder);
    assert_eq!(Ran::of(command).good(), "x\n");
    sandbox.report();
}

#[test]
fn the_working_folder_is_gone() {
    let sandbox = Sandbox::new("gone");
    let script = format!("mkdir d && cd d && rmdir ../d && exec {} run each echo ::: x", env!("CARGO_BIN_EXE_apm"));
    let error = Ran::of(sandbox.program("sh", ["-c", &script])).fails(3);
    assert!(error.contains("find the working folder") && error.contains("hint"), "{error}");
}

#[test]
fn the_wall_clock_may_jump() {
    if !has_program("faketime") {
        return;
    }
    // The children alone see another time: what apm measures must not follow.
    let sandbox = Sandbox::new("clock");
    assert_eq!(sandbox.apm(["run", "each", "faketime", "-f", "-10y", "echo", ":::", "x"]).good(), "x\n");
}

#[test]
fn broken_programs_are_told_from_failing_ones() {
    let sandbox = Sandbox::new("broken");
    sandbox.file("script", "#!/no/such/interpreter\n").file("data", "just text").file("format", "no program\n");
    for file in ["script", "format"] {
        let chmod = std::process::Command::new("chmod").arg("+x").arg(sandbox.work().join(file)).status();
        assert!(chmod.expect("chmod").success());
    }
    let mut files = Vec::new();
    // Under a limit a program is started in another way, which made a failure of what could not be started.
    for limits in ["{}", "{memory: 4GiB}"] {
        sandbox.file(
            "p.yaml",
            format!(
                "version: 1\ndefaults: {{limits: {limits}}}\ntasks:\n- {{id: none, run: [no-such-program]}}\n\
                 - {{id: interpreter, run: [./script]}}\n- {{id: data, run: [./data]}}\n- {{id: format, run: [./format]}}\n\
                 - {{id: folder, run: 'true', cwd: nowhere}}\n- {{id: itself, run: 'exit 126'}}\n\
                 - {{id: files, run: 'ls /proc/self/fd > files'}}\n"
            ),
        );
        let text = sandbox.apm(["run", "p.yaml"]);
        assert_eq!(text.code, Some(1), "{}", text.stdout);
        for part in [
            "program `no-such-program` not found in PATH",
            "its interpreter (the `#!` line or the loader) does not exist",
            "`./data` is not an executable file",
            "it is neither a binary of this machine nor a script",
            "nowhere` does not exist",
            "exit code 126",
        ] {
            assert!(text.stdout.contains(part), "{limits}: {part}\n{}", text.stdout);
        }
        let report = sandbox.report();
        let states =
            report["tasks"].as_array().expect("tasks").iter().map(|task| task["state"].as_str().expect("a word"));
        let expected = ["broken", "broken", "broken", "broken", "broken", "failed", "passed"];
        assert_eq!(states.collect::<Vec<_>>(), expected, "{limits}");
        files.push(sandbox.read("files"));
    }
    assert_eq!(files[0], files[1], "nothing more is inherited");
}

#[test]
fn a_run_that_is_resumed_elsewhere_works_where_it_was() {
    let sandbox = Sandbox::new("elsewhere");
    sandbox.file("p.yaml", "version: 1\ntasks:\n- {id: a, run: 'touch made; test -e good'}\n").file("other/x", "");
    sandbox.apm(["run", "p.yaml"]).fails(1);
    std::fs::remove_file(sandbox.work().join("made")).expect("removed");
    sandbox.file("good", "");
    // `last` would be the last run of the folder.
    let report = sandbox.report();
    let mut command = sandbox.command(["run", "--resume", report["run"].as_str().expect("its name")]);
    command.current_dir(sandbox.work().join("other"));
    Ran::of(command).good();
    assert!(sandbox.has("made") && !sandbox.has("other/made"));
}

#[test]
fn output_that_cannot_be_passed_on_is_a_loss_and_a_reader_that_left_ends_the_run() {
    let sandbox = Sandbox::new("passed-on");
    let script = |text: &str| {
        let mut command = sandbox.program("sh", ["-c", text]);
        command.env("APM", env!("CARGO_BIN_EXE_apm"));
        Ran::of(command)
    };
    let ran = script("\"$APM\" run each echo ::: a b > /dev/full");
    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.contains("`standard output` could not be written"), "{}", ran.stderr);
    for flags in ["-k", "--line-buffer"] {
        let ran = script(&format!("yes | \"$APM\" run each -j2 {flags} echo | head -n 1"));
        assert_eq!(ran.stdout, "y\n", "{flags}: it ends by itself: {}", ran.stderr);
    }
    // More than is kept of a stream in any other run.
    let ran = script("\"$APM\" run each -- sh -c 'head -c 70000000 /dev/zero' ::: 1 | wc -c");
    assert_eq!((ran.stdout.trim(), ran.code), ("70000000", Some(0)), "{}", ran.stderr);
    let cut = "\"$APM\" run each --set run.output_limit_mb=1 -- sh -c 'head -c 3000000 /dev/zero' ::: 1 > /dev/null";
    let ran = script(cut);
    assert!(ran.code == Some(3) && ran.stderr.contains("is not whole"), "{}", ran.stderr);
}

#[test]
fn where_no_more_processes_may_be_started_tasks_wait_for_each_other() {
    if !has_program("setpriv") {
        return;
    }
    if std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) != 0) {
        return skip("only root can become a user who runs nothing else");
    }
    let sandbox = Sandbox::new("few-processes");
    std::fs::copy(env!("CARGO_BIN_EXE_apm"), sandbox.work().join("apm")).expect("copied");
    let root = sandbox.work().parent().expect("root").to_owned();
    let user = "64321";
    let own = std::process::Command::new("chown").args(["-R", user]).arg(root).status();
    assert!(own.expect("chown").success());
    let run = "ulimit -u 9; exec ./apm run each -j8 -k echo ::: 1 2 3 4 5 6 7 8";
    let ran = Ran::of(sandbox.program("setpriv", ["--reuid", user, "--clear-groups", "bash", "-c", run]));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "1\n2\n3\n4\n5\n6\n7\n8\n"), "{}", ran.stderr);
    let none = "ulimit -u 1; exec ./apm run each true ::: 1";
    let ran = Ran::of(sandbox.program("setpriv", ["--reuid", user, "--clear-groups", "bash", "-c", none]));
    assert!(ran.code == Some(3) && ran.stderr.contains("ulimit -u"), "{:?} {}", ran.code, ran.stderr);
}

/// Nothing can ask there, or be stopped for it. And not by a session of its own, since for each of those the kernel makes a
/// scheduling group: nice levels of tasks would mean nothing to each other.
#[test]
fn a_task_has_a_group_of_its_own_and_no_terminal_in_the_session_of_apm() {
    if !has_program("script") {
        return;
    }
    let sandbox = Sandbox::new("no-terminal");
    let script = "if (: < /dev/tty) 2> error; then echo opened > tty; fi; read -r _ _ _ _ group session terminal _ < /proc/$$/stat; \
                  echo $$ $group $session $terminal > ids";
    sandbox.file("p.yaml", serde_json::json!({"version": 1, "tasks": [{"id": "a", "run": script}]}).to_string());
    for on_a_terminal in [true, false] {
        if on_a_terminal {
            sandbox.on_a_terminal(&[], "run p.yaml");
        } else {
            sandbox.apm(["run", "p.yaml"]).good();
        }
        assert!(!sandbox.has("tty"), "the terminal was opened");
        let ids: Vec<i64> = sandbox.read("ids").split_whitespace().map(|id| id.parse().expect("a number")).collect();
        let [pid, group, session, terminal] = ids[..] else { panic!("{ids:?}") };
        assert_eq!((group, terminal), (pid, 0), "{ids:?}");
        assert_ne!(session, pid, "{ids:?}");
    }
}

/// Only what carries the mark of the run was ended.
#[test]
fn a_descendant_with_an_empty_environment_is_ended_too() {
    let sandbox = Sandbox::new("unmarked");
    let mark = mark();
    let script = format!("touch up; env -i setsid sh -c 'sleep {mark} & wait' & sleep {mark}");
    sandbox.file("p.yaml", serde_json::json!({"version": 1, "tasks": [{"id": "a", "run": script}]}).to_string());
    let mut child =
        Ended(sandbox.command(["run", "p.yaml"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("apm"));
    eventually("the task runs", || sandbox.has("up") && processes_with(&mark).len() >= 4);
    child.0.kill().expect("killed");
    child.0.wait().expect("its end");
    sandbox.file("q.yaml", "version: 1\ntasks:\n- {id: q, run: 'true'}\n");
    let text = sandbox.apm(["run", "q.yaml"]).good();
    assert!(text.contains("crashed"), "{text}");
    assert_eq!(processes_with(&mark), [] as [i32; 0]);
}

/// The thread that ends the rest of a tree took the main process out of the process table before its own thread could.
#[test]
fn a_killed_attempt_keeps_its_usage() {
    let sandbox = Sandbox::new("killed");
    let many: String = (0..40)
        .map(|n| format!("- {{id: t{n}, run: \"trap '' TERM; sleep 9 & sleep 9 & wait\", timeout: 50ms, limits: {{grace: 50ms}}}}\n"))
        .collect();
    sandbox.file("p.yaml", format!("version: 1\ntasks:\n{many}"));
    sandbox.apm(["run", "p.yaml", "-j20"]).fails(1);
    for task in sandbox.report()["tasks"].as_array().expect("tasks") {
        assert!(task["attempts"][0]["usage"]["wall_us"].as_u64() > Some(0), "{task}");
    }
}
