//! Limits on real processes, by every mechanism: control groups v1 where the machine has them, polling as a user who may
//! not make any, and a real cgroup v2 inside User Mode Linux.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::sandbox::{Ran, Sandbox, has_program, skip};

/// What takes far more memory than it may, in several runtimes.
const MEMORY: &str = "version: 1
tasks:
- {id: python, run: [python3, -c, 'x = bytearray(b\"x\") * (400 << 20); import time; time.sleep(5)'], limits: {memory: 100MiB}}
- {id: a child, run: 'python3 -c \"x = bytearray(b\\\"x\\\") * (400 << 20); import time; time.sleep(5)\"; exit 0', limits: {memory: 100MiB}}
- {id: node, run: [node, -e, 'const a = []; for (let i = 0; i < 40; i++) a.push(Buffer.alloc(10 << 20, 1)); setTimeout(() => {}, 5000)'], limits: {memory: 100MiB}}
- {id: java, run: 'java -Xms1g -Xmx1g -XX:+AlwaysPreTouch -version', limits: {memory: 100MiB}}
- {id: static, run: [./eat], limits: {memory: 100MiB}}
- {id: fits, run: [python3, -c, 'x = bytearray(b\"x\") * (20 << 20)'], limits: {memory: 200MiB}}
";

/// The other limits.
const OTHERS: &str = "- {id: cpu, run: [python3, -c, \"import time; t = time.time()\\nwhile time.time() - t < 2: pass\"], limits: {cpu: 25}}
- {id: cpu time, run: [python3, -c, 'while 1: pass'], limits: {cpu_time: 500ms}}
- {id: processes, run: 'for i in 1 2 3 4 5 6 7 8; do sleep 2 & done; wait', limits: {processes: 4}}
- {id: threads, run: [python3, -c, 'import threading as t, time; [t.Thread(target=time.sleep, args=(2,)).start() for _ in range(8)]'], limits: {processes: 4}}
- {id: wall, run: sleep 60, timeout: 300ms}
- {id: silence, run: 'echo x; sleep 60', limits: {idle_timeout: 300ms}}
- {id: deaf, run: \"trap '' TERM; while :; do sleep 0.1; done\", timeout: 300ms, limits: {grace: 200ms}}
";

const EAT: &str = "#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n\
    int main(void) { memset(malloc(400u << 20), 1, 400u << 20); sleep(5); return 0; }\n";

/// The plans `limits.yaml` (everything) and `memory.yaml`, and what they run. None where a program is missing.
fn prepared(name: &str) -> Option<Sandbox> {
    if !["python3", "node", "java", "gcc"].into_iter().all(has_program) {
        return None;
    }
    let sandbox = Sandbox::new(name);
    sandbox.file("limits.yaml", format!("{MEMORY}{OTHERS}")).file("memory.yaml", MEMORY).file("eat.c", EAT);
    Ran::of(sandbox.program("gcc", ["-O0", "-static", "-o", "eat", "eat.c"])).good();
    std::fs::copy(env!("CARGO_BIN_EXE_apm"), sandbox.work().join("apm")).expect("copied");
    Some(sandbox)
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

fn check_memory(report: &Value) {
    for task in report["tasks"].as_array().expect("tasks").iter().take(6) {
        let expected = if task["id"] == "fits" { "passed" } else { "over limit" };
        assert_eq!(task["state"], expected, "{task}");
    }
}

fn check(report: &Value) {
    check_memory(report);
    let tasks = report["tasks"].as_array().expect("tasks");
    let find = |id: &str| tasks.iter().find(|task| task["id"] == id).unwrap_or_else(|| panic!("{id}"));
    let state = |id: &str| find(id)["state"].as_str().expect("a state").to_owned();
    for id in ["cpu time", "processes", "threads"] {
        assert_eq!(state(id), "over limit", "{}", find(id));
    }
    for id in ["wall", "silence", "deaf"] {
        assert_eq!(state(id), "timed out", "{}", find(id));
    }
    // Slowed down, not ended: a share of the time, with room for the intervals of polling.
    let usage = &find("cpu")["attempts"][0]["usage"];
    let number = |key: &str| usage[key].as_f64().expect("a number");
    let share = (number("user_us") + number("system_us")) / number("wall_us");
    assert!((0.1..0.45).contains(&share), "{share}: {}", find("cpu"));
}

#[test]
fn limits_hold_by_the_best_mechanism_here() {
    let Some(sandbox) = prepared("limits") else { return };
    sandbox.apm(["run", "limits.yaml", "-j3"]).fails(1);
    let report = sandbox.report();
    check(&report);
    let writable = ["/sys/fs/cgroup/cgroup.subtree_control", "/sys/fs/cgroup/memory/cgroup.procs"]
        .iter()
        .any(|file| std::fs::OpenOptions::new().write(true).open(file).is_ok());
    if is_root() && writable {
        assert_ne!(report["enforcement"]["memory"], "polling", "{}", report["enforcement"]);
    } else {
        assert!(!report["enforcement"]["notes"].as_array().expect("notes").is_empty(), "why not better is said");
    }
}

#[test]
fn limits_hold_by_polling_for_a_user_without_control_groups() {
    if !has_program("setpriv") {
        return;
    }
    if !is_root() {
        return skip("only root can become nobody; the other test covers this user");
    }
    let Some(sandbox) = prepared("polling") else { return };
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
    run(&["limits.yaml", "-j3"]).fails(1);
    let report: Value = serde_json::from_str(&run(&["--replay", "last", "--format", "json"]).good()).expect("a report");
    check(&report);
    assert_eq!(report["enforcement"]["memory"], "polling");
    assert!(report["enforcement"]["notes"].to_string().contains("ermission denied"), "{}", report["enforcement"]);
}

/// The machine may have only v1 mounted, so a kernel of its own is booted: User Mode Linux on the host's files.
#[test]
fn limits_hold_on_a_real_cgroup_v2() {
    if cfg!(not(target_arch = "x86_64")) {
        return;
    }
    if !["linux.uml", "setpriv"].into_iter().all(has_program) {
        return;
    }
    let Some(sandbox) = prepared("uml") else { return };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/uml");
    let guest = sandbox.work().parent().expect("root").to_owned();
    let preload = guest.join("ptrace.so");
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let library = ["-O2", "-shared", "-fPIC", "-o", &text(&preload), &text(&source.join("ptrace.c")), "-ldl"];
    Ran::of(sandbox.program("gcc", library)).good();
    let words = [
        "120".to_owned(),
        "linux.uml".to_owned(),
        "mem=1500M".to_owned(),
        "rootfstype=hostfs".to_owned(),
        "rootflags=/".to_owned(),
        "rw".to_owned(),
        "con=null".to_owned(),
        "con0=fd:0,fd:1".to_owned(),
        format!("init={}", text(&source.join("init.sh"))),
        format!("uml_dir={}", text(&guest)),
        format!("GUEST_DIR={}", text(&guest)),
    ];
    let mut command: Command = sandbox.program("timeout", words);
    command.env("LD_PRELOAD", &preload);
    let boot = Ran::of(command);
    let result = |name: &str| {
        let said = std::fs::read_to_string(guest.join(format!("{name}.txt")));
        let said = said.unwrap_or_else(|error| panic!("{name}: {error}\n{}\n{}", boot.stdout, boot.stderr));
        let report =
            std::fs::read(guest.join(format!("{name}.json"))).unwrap_or_else(|error| panic!("{error}: {said}"));
        assert!(said.contains("code 1\n"), "{said}");
        assert!(!said.contains("/apm-"), "a control group is left: {said}");
        serde_json::from_slice::<Value>(&report).unwrap_or_else(|error| panic!("{error}: {said}"))
    };
    let mechanisms = |report: &Value| ["memory", "cpu", "processes"].map(|key| report["enforcement"][key].clone());
    let root = result("root");
    check(&root);
    assert_eq!(mechanisms(&root), ["cgroup_v2"; 3], "{}", root["enforcement"]);
    let given = result("given");
    check_memory(&given);
    assert_eq!(mechanisms(&given), ["cgroup_v2"; 3], "apm makes room for itself: {}", given["enforcement"]);
    // Out of a group with a limit nothing may escape: polling instead, and the reason is said.
    let shared = result("shared");
    check_memory(&shared);
    assert_eq!(mechanisms(&shared), ["polling"; 3], "{}", shared["enforcement"]);
    assert!(shared["enforcement"]["notes"].to_string().contains("shared"), "{}", shared["enforcement"]);
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
