//! Limits on real processes: the same plan under control groups where the machine has them, and by polling as a user
//! who may not make any. `tests/uml` does the same on a real cgroup v2.

use std::path::PathBuf;

use serde_json::Value;

use crate::sandbox::{Ran, Sandbox, has_program, skip};

const PLAN: &str = "version: 1
tasks:
- {id: memory, run: [python3, -c, 'x = bytearray(b\"x\") * (400 << 20); import time; time.sleep(5)'], limits: {memory: 100MiB}}
- {id: memory of a child, run: 'python3 -c \"x = bytearray(b\\\"x\\\") * (400 << 20); import time; time.sleep(5)\"; exit 0', limits: {memory: 100MiB}}
- {id: fits, run: [python3, -c, 'x = bytearray(b\"x\") * (20 << 20)'], limits: {memory: 200MiB}}
- {id: cpu, run: [python3, -c, \"import time; t = time.time()\\nwhile time.time() - t < 2: pass\"], limits: {cpu: 25}}
- {id: cpu time, run: [python3, -c, 'while 1: pass'], limits: {cpu_time: 500ms}}
- {id: processes, run: 'for i in 1 2 3 4 5 6 7 8; do sleep 2 & done; wait', limits: {processes: 4}}
- {id: wall, run: sleep 60, timeout: 300ms}
- {id: silence, run: 'echo x; sleep 60', limits: {idle_timeout: 300ms}}
- {id: deaf, run: \"trap '' TERM; while :; do sleep 0.1; done\", timeout: 300ms, limits: {grace: 200ms}}
";

fn check(report: &Value) {
    let tasks = report["tasks"].as_array().expect("tasks");
    let find = |id: &str| tasks.iter().find(|task| task["id"] == id).unwrap_or_else(|| panic!("{id}"));
    let state = |id: &str| find(id)["state"].as_str().expect("a state").to_owned();
    for id in ["memory", "memory of a child", "cpu time", "processes"] {
        assert_eq!(state(id), "over limit", "{}", find(id));
    }
    for id in ["wall", "silence", "deaf"] {
        assert_eq!(state(id), "timed out", "{}", find(id));
    }
    assert_eq!(state("fits"), "passed", "{}", find("fits"));
    // Slowed down, not ended: a share of the time, with room for the intervals of polling.
    let usage = &find("cpu")["attempts"][0]["usage"];
    let number = |key: &str| usage[key].as_f64().expect("a number");
    let share = (number("user_us") + number("system_us")) / number("wall_us");
    assert!((0.1..0.45).contains(&share), "{share}: {}", find("cpu"));
}

#[test]
fn limits_hold_by_the_best_mechanism_here() {
    if !has_program("python3") {
        return;
    }
    let sandbox = Sandbox::new("limits");
    sandbox.file("p.yaml", PLAN);
    sandbox.apm(["run", "p.yaml", "-j3"]).fails(1);
    let report = sandbox.report();
    check(&report);
    let root = std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0);
    let writable = ["/sys/fs/cgroup/cgroup.subtree_control", "/sys/fs/cgroup/memory/cgroup.procs"]
        .iter()
        .any(|file| std::fs::OpenOptions::new().write(true).open(file).is_ok());
    if root && writable {
        assert_ne!(report["enforcement"]["memory"], "polling", "{}", report["enforcement"]);
    } else {
        assert!(!report["enforcement"]["notes"].as_array().expect("notes").is_empty(), "why not better is said");
    }
}

#[test]
fn limits_hold_by_polling_for_a_user_without_control_groups() {
    if !has_program("python3") || !has_program("setpriv") {
        return;
    }
    if std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) != 0) {
        return skip("only root can become nobody; the other test covers this user");
    }
    let sandbox = Sandbox::new("polling");
    sandbox.file("p.yaml", PLAN);
    let program: PathBuf = sandbox.work().join("apm");
    std::fs::copy(env!("CARGO_BIN_EXE_apm"), &program).expect("copied");
    let own = std::process::Command::new("chown")
        .arg("-R")
        .arg("65534:65534")
        .arg(sandbox.work().parent().expect("root"))
        .status();
    assert!(own.expect("chown").success());
    let run = |args: &[&str]| {
        let words = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "./apm", "run"];
        Ran::of(sandbox.program("setpriv", words.iter().chain(args)))
    };
    run(&["p.yaml", "-j3"]).fails(1);
    let report: Value = serde_json::from_str(&run(&["--replay", "last", "--format", "json"]).good()).expect("a report");
    check(&report);
    assert_eq!(report["enforcement"]["memory"], "polling");
    assert!(report["enforcement"]["notes"].to_string().contains("ermission denied"), "{}", report["enforcement"]);
}

#[test]
fn ten_large_tasks_share_a_small_ceiling_without_a_kill() {
    if !has_program("python3") {
        return;
    }
    let sandbox = Sandbox::new("ceiling");
    // A tenth of what the issue asks for, so that it runs anywhere; the proportions are the same.
    let body = "import time; x = bytearray(b\"x\") * (100 << 20); time.sleep(0.3)";
    sandbox.file(
        "p.yaml",
        format!(
            "version: 1\ntasks:\n- {{id: t, matrix: {{n: [1,2,3,4,5,6,7,8,9,10]}}, run: [python3, -c, '{body}']}}\n"
        ),
    );
    sandbox.apm(["run", "p.yaml", "-j10", "--memory", "400MiB"]).good();
    let report = sandbox.report();
    for task in report["tasks"].as_array().expect("tasks") {
        assert_eq!(task["state"], "passed", "{task}");
    }
    // What it learned keeps the second run from putting anything back.
    sandbox.apm(["run", "p.yaml", "-j10", "--memory", "400MiB"]).good();
    let put_back = sandbox
        .events()
        .iter()
        .filter(|event| event["event"]["attempt_finished"]["next"].get("requeue").is_some())
        .count();
    assert_eq!(put_back, 0);
}
