//! Journals outlive the apm that wrote them (F1, F11): those of version 1 are kept in `tests/data/journals` as that apm wrote
//! them, newer ones are made here by adding to one that was just written. No event is ever dropped in silence: a change is
//! accepted with the same result, skipped and reported, or refused as "written by a newer apm".

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::sandbox::{Ended, Sandbox, eventually};

/// A run of an apm that wrote version 1, as data: the files of its folder, with the folder it ran in named `/sandbox/work`.
fn install(name: &str) -> Sandbox {
    let sandbox = Sandbox::new(name);
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/journals").join(name);
    let journal = std::fs::read_to_string(data.join("journal.ndjson")).expect("a journal");
    let first: Value = serde_json::from_str(journal.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["v"], 1);
    let run = first["event"]["run_started"]["run"].as_str().expect("a name");
    let folder = sandbox.state().join("runs").join(run);
    std::fs::create_dir_all(&folder).expect("a folder");
    for entry in std::fs::read_dir(data).expect("the data") {
        let entry = entry.expect("an entry");
        let bytes = std::fs::read(entry.path()).expect("read");
        let place = sandbox.work().display().to_string();
        let text = String::from_utf8(bytes).expect("text").replace("/sandbox/work", &place);
        std::fs::write(folder.join(entry.file_name()), text).expect("written");
    }
    sandbox
}

fn states(report: &Value) -> Vec<(&str, &str)> {
    let tasks = report["tasks"].as_array().expect("tasks").iter();
    tasks.map(|task| (task["id"].as_str().expect("an id"), task["state"].as_str().expect("a state"))).collect()
}

#[test]
fn a_finished_run_of_version_1() {
    let sandbox = install("finished");
    let verdict = "failed: 5 tasks (1 failed, 2 passed, 1 flaky, 1 skipped) in 34ms";
    assert!(sandbox.apm(["run", "list"]).good().contains(verdict));
    let shown = sandbox.apm(["run", "show"]);
    assert_eq!(shown.stderr, "");
    assert!(shown.good().contains("no good"));
    assert_eq!(sandbox.apm(["run", "show", "last", "build"]).good(), "built\n");
    assert_eq!(sandbox.apm(["run", "watch"]).fails(1), "");
    assert_eq!(
        states(&sandbox.report()),
        [("build", "passed"), ("flaky", "flaky"), ("bad", "failed"), ("after", "skipped"), ("cleanup", "passed")]
    );
    let junit = sandbox.apm(["run", "--replay", "last", "--format", "junit"]).good();
    assert!(
        junit.contains(r#"<failure type="failed" message="exit code 1"/>"#) && junit.contains("no good"),
        "{junit}"
    );
    // Events are written again as they were, but for fields that have a default now.
    assert_eq!(sandbox.events().len(), 15);

    sandbox.file("good", "");
    sandbox.apm(["run", "--resume"]).good();
    assert!(!sandbox.has("build") && !sandbox.has("flaky"), "what had passed is not run again");
    assert_eq!((sandbox.read("bad").as_str(), sandbox.read("after").as_str()), ("x\n", "x\n"));
    let report = sandbox.report();
    assert_eq!(
        states(&report),
        [("build", "passed"), ("flaky", "flaky"), ("bad", "passed"), ("after", "passed"), ("cleanup", "skipped")]
    );
    let versions: Vec<u64> = sandbox.events().iter().map(|event| event["v"].as_u64().expect("a number")).collect();
    assert_eq!((versions.first(), versions.last()), (Some(&1), Some(&2)), "a journal of both");
}

#[test]
fn a_run_of_each_of_version_1() {
    let sandbox = install("each");
    assert_eq!(
        states(&sandbox.report()),
        [("1: 1", "passed"), ("2: 2", "failed"), ("3: 3", "cancelled")],
        "as it was recorded"
    );
    // `--halt now,fail=1`, `--joblog`, `-k` and `--tag` are known only from the command line that it recorded.
    let ran = sandbox.apm(["run", "--resume"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), "2\tvalue 2\n"), "{}", ran.stderr);
    assert!(!sandbox.has("ran1") && !sandbox.has("ran3"), "it halted again");
    let numbers = |log: &str| log.lines().skip(1).map(|line| line.split('\t').next().map(str::to_owned)).collect();
    let log: Vec<Option<String>> = numbers(&sandbox.read("log"));
    assert_eq!(log.into_iter().flatten().collect::<Vec<_>>(), ["1", "2", "2"]);
    sandbox.file("good", "");
    assert_eq!(sandbox.apm(["run", "--resume"]).good(), "2\tvalue 2\n3\tvalue 3\n");
}

#[test]
fn a_killed_run_of_version_1() {
    let sandbox = install("killed");
    assert!(sandbox.apm(["run", "list"]).good().contains("broke off"));
    let waiting = sandbox.apm(["run", "show", "last", "--waiting"]).good();
    assert!(waiting.contains("it ran when the run broke off"), "{waiting}");
    assert!(waiting.contains("needed `second` when the run broke off"), "{waiting}");
    assert!(sandbox.apm(["run", "watch"]).fails(3).contains("broke off; `apm run --resume"));
    assert!(sandbox.apm(["run", "--replay"]).good().contains("broke off"));
    sandbox.file("go", "");
    sandbox.apm(["run", "--resume"]).good();
    assert!(!sandbox.has("first"), "it is recorded as passed");
    // It tests a variable whose value is kept beside the journal.
    assert_eq!((sandbox.read("second").as_str(), sandbox.read("third").as_str()), ("x\n", "x\n"));
    assert_eq!(states(&sandbox.report()), [("first", "passed"), ("second", "passed"), ("third", "passed")]);
}

/// Enum variants with data, as they stand in a journal: objects with one key.
const VARIANTS: &[&str] = &[
    // Run, Step
    "argv",
    "script",
    "step",
    "plan",
    // Outcome, Cause, TimeLimit, ResourceLimit
    "flaky",
    "failed",
    "timed_out",
    "over_limit",
    "skipped",
    "cancelled",
    "broken",
    "exit",
    "signal",
    "results",
    "output_missing",
    "tasks",
    "wall",
    "idle",
    "memory",
    "cpu_time",
    "processes",
    // Next, Exit, Stop
    "done",
    "retry",
    "requeue",
    "await",
    "code",
    "cancel",
    "fault",
    // Skip
    "need",
    "tool_missing",
    "offline",
    "deselected",
    "nothing_to_do",
    // Edit, Origin
    "cancel_run",
    "pause",
    "pause_run",
    "unpause",
    "unpause_run",
    "prioritise",
    "resize",
    "control",
    "task",
    "planner",
    // HaltCount
    "number",
    "share",
];

/// Enum variants without data: texts, which stand under one of these keys.
const UNIT_VARIANTS: &[(&str, &[&str])] = &[
    ("outcome", &["passed"]),
    ("by", &["deadline", "failure", "closed"]),
    ("stop", &["deadline", "failure", "closed"]),
    ("reason", &["nothing_failed"]),
    ("skip", &["nothing_failed"]),
    ("when", &["success", "failure", "always"]),
    ("level", &["info", "warning", "error"]),
    ("memory", &["cgroup_v2", "cgroup_v1", "polling"]),
    ("cpu", &["cgroup_v2", "cgroup_v1", "polling"]),
    ("processes", &["cgroup_v2", "cgroup_v1", "polling"]),
    ("on", &["fail", "success", "done"]),
    ("order", &["grouped", "kept", "live"]),
    ("io_priority", &["realtime", "high", "normal", "low", "idle"]),
    ("category", &["format", "lint", "types", "build", "tests", "audit", "docs"]),
];

/// Events with every enum at every place where one can stand. They follow each other in no run; a reader must understand
/// each of them all the same.
fn events_with_every_enum() -> Vec<Value> {
    let finished = |task: &str, outcome: Value, next: Value, exit: Value| {
        json!({"attempt_finished": {"task": task, "attempt": 1, "outcome": outcome, "next": next, "exit": exit,
            "usage": {"wall_us": 1, "user_us": 1, "system_us": 1, "memory_peak": 1}}})
    };
    let done = |task: &str, outcome: Value| {
        finished(task, outcome.clone(), json!({"done": {"outcome": outcome}}), json!({"code": 1}))
    };
    let ended = |task: &str, outcome: Value| json!({"task_ended": {"task": task, "outcome": outcome}});
    let edited = |edit: Value| json!({"plan_edited": {"edit": edit, "by": {"control": {"uid": 0, "pid": 1}}}});
    let stopping = |stop: Value| json!({"stopping": {"stop": stop}});
    let names: Vec<String> = (0..24).map(|number| format!("t{number}")).collect();
    let plain: Vec<Value> = names.iter().map(|name| json!({"id": name, "run": {"argv": ["true"]}})).collect();
    let mechanisms = json!({"memory": "cgroup_v2", "cpu": "cgroup_v1", "processes": "polling"});
    vec![
        json!({"tasks_added": {"tasks": plain}}),
        json!({"tasks_added": {"tasks": [
            {"id": "u1", "run": {"script": {"shell": ["/bin/sh", "-c"], "script": "true"}}, "when": "failure", "limits": {"io_priority": "idle", "nice": 1}},
            {"id": "u2", "run": {"step": {"plan": {"file": "later.yaml"}}}, "when": "always", "uses": {"db": 1}},
            {"id": "u3", "run": {"argv": ["x"]}, "check": {"category": "lint", "tool": "x", "parser": "p"}},
        ], "by": {"task": {"task": "t0"}}}}),
        json!({"tasks_added": {"tasks": [
            {"id": "s1", "run": {"argv": ["x"]}, "skip": "nothing_failed"},
            {"id": "s2", "run": {"argv": ["x"]}, "skip": {"tool_missing": {"tool": "x", "install": "i"}}},
            {"id": "s3", "run": {"argv": ["x"]}, "skip": {"need": {"task": "t0"}}},
            {"id": "s4", "run": {"argv": ["x"]}, "skip": {"offline": {"detail": "d"}}},
            {"id": "s5", "run": {"argv": ["x"]}, "skip": {"deselected": {"by": "--skip x"}}},
            {"id": "s6", "run": {"argv": ["x"]}, "skip": {"nothing_to_do": {"detail": "d"}}},
        ], "by": {"planner": {}}}}),
        json!({"tasks_changed": {"tasks": [{"id": "t0", "run": {"argv": ["true"]}, "when": "always"}]}}),
        done("t1", json!("passed")),
        done("t2", json!({"flaky": {"attempts": 2}})),
        done("t3", json!({"failed": {"cause": {"exit": {"code": 1}}}})),
        finished(
            "t4",
            json!({"failed": {"cause": {"signal": {"signal": 9}}}}),
            json!({"retry": {"delay_us": 1}}),
            json!({"signal": 9}),
        ),
        done("t5", json!({"failed": {"cause": {"results": {"tests_failed": 1, "findings": 0}}}})),
        done("t6", json!({"failed": {"cause": {"output_missing": {"output": "o"}}}})),
        done("t7", json!({"failed": {"cause": {"tasks": {"count": 1, "first": "t3"}}}})),
        done("t8", json!({"timed_out": {"limit": {"wall": {"limit_us": 1}}}})),
        done("t9", json!({"timed_out": {"limit": {"idle": {"limit_us": 1}}}})),
        done("t10", json!({"over_limit": {"limit": {"memory": {"limit": 1, "peak": 2}}}})),
        done("t11", json!({"over_limit": {"limit": {"cpu_time": {"limit_us": 1, "used_us": 2}}}})),
        done("t12", json!({"over_limit": {"limit": {"processes": {"limit": 1, "peak": 2}}}})),
        done("t13", json!({"broken": {"error": "e"}})),
        finished("t14", json!("passed"), json!({"requeue": {"reason": "memory"}}), json!({"code": 0})),
        finished("t15", json!("passed"), json!({"await": {"on": ["t1"]}}), json!({"code": 0})),
        ended("t16", json!({"skipped": {"reason": {"need": {"task": "t3"}}}})),
        ended("t17", json!({"skipped": {"reason": "nothing_failed"}})),
        ended("t18", json!({"skipped": {"reason": {"tool_missing": {"tool": "x", "install": "i"}}}})),
        ended("t19", json!({"cancelled": {"by": "deadline"}})),
        ended("t20", json!({"cancelled": {"by": {"signal": {"signal": 2}}}})),
        ended("t21", json!({"cancelled": {"by": {"cancel": {"by": {"control": {"uid": 0, "pid": 1}}}}}})),
        ended("t22", json!({"cancelled": {"by": {"fault": {"error": "e"}}}})),
        edited(json!({"cancel": {"tasks": ["t1"]}})),
        edited(json!({"cancel_run": {}})),
        edited(json!({"pause": {"tasks": ["t1"]}})),
        edited(json!({"pause_run": {}})),
        edited(json!({"unpause": {"tasks": ["t1"]}})),
        edited(json!({"unpause_run": {}})),
        edited(json!({"prioritise": {"task": "t1", "priority": 2}})),
        edited(json!({"resize": {"resource": "slots", "to": 2}})),
        json!({"edit_refused": {"edit": "cancel `x`", "by": {"control": {"uid": 0, "pid": 1}}, "reason": "r"}}),
        json!({"noted": {"level": "warning", "text": "w"}}),
        json!({"run_resumed": {"apm": "9", "invalidated": [{"task": "t1", "reason": "r"}], "terms": {
            "pool": {"initial": 1, "max": 2, "scale_factor": 2.0, "idle_timeout_us": 1}, "enforcement": mechanisms, "ceilings": {}}}}),
        stopping(json!("failure")),
        stopping(json!("closed")),
        stopping(json!({"cancel": {"by": {"planner": {}}}})),
    ]
}

/// A fresh journal with every enum in it, a line a value.
fn rich(sandbox: &Sandbox) -> Vec<Value> {
    let script = "echo $0; test $0 != b";
    let flags = ["run", "each", "-k", "--halt", "soon,fail=20%", "--timeout", "60s", "--retries", "1"];
    let delays = ["--set", "run.retry_delay_ms=1", "--set", "run.retry_delay_max_ms=1"];
    let command = ["sh", "-c", script, "{}", ":::", "a", "b", "c"];
    sandbox.apm(flags.into_iter().chain(delays).chain(command)).fails(1);
    let text = std::fs::read_to_string(journal_of(sandbox)).expect("a journal");
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let end = lines.pop().expect("an end");
    assert!(end["event"].get("run_finished").is_some());
    for event in events_with_every_enum() {
        let mut line = end.clone();
        line["event"] = event;
        lines.push(line);
    }
    lines.push(end);
    number(&mut lines);
    lines
}

fn number(lines: &mut [Value]) {
    lines.iter_mut().enumerate().for_each(|(seq, line)| line["seq"] = json!(seq));
}

fn journal_of(sandbox: &Sandbox) -> PathBuf {
    let mut runs = std::fs::read_dir(sandbox.state().join("runs")).expect("runs");
    let run = runs.next().expect("a run").expect("an entry").path();
    assert!(runs.next().is_none());
    run.join("journal.ndjson")
}

fn write(path: &Path, lines: &[Value]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(path, text).expect("written");
}

/// Many journals in one state directory, and what `apm run list` says of each.
fn listed(journals: &[Vec<Value>]) -> (Vec<Value>, String) {
    let sandbox = Sandbox::new("many");
    for (number, lines) in journals.iter().enumerate() {
        let folder = sandbox.state().join("runs").join(format!("20260101-{number:06}"));
        std::fs::create_dir_all(&folder).expect("a folder");
        write(&folder.join("journal.ndjson"), lines);
    }
    let ran = sandbox.apm(["run", "list", "-n", "100000", "--format", "json"]);
    let said = ran.stderr.clone();
    let list: Value = serde_json::from_str(&ran.good()).expect("JSON");
    let mut rows = list["runs"].as_array().expect("rows").clone();
    assert_eq!(rows.len(), journals.len());
    rows.reverse();
    (rows, said)
}

/// Where an enum stands in a value: JSON pointers.
fn enums_in(value: &Value, key: &str, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            // The kind of an event is an enum of its own; the wrapper of a struct variant holds its fields.
            let is_wrapper = map.len() == 1 && map.keys().all(|key| VARIANTS.contains(&key.as_str()));
            if is_wrapper && !at.is_empty() {
                found.push(at.to_owned());
            }
            map.iter().for_each(|(key, value)| enums_in(value, key, &format!("{at}/{key}"), found));
        }
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(ix, value)| enums_in(value, "", &format!("{at}/{ix}"), found));
        }
        Value::String(text) => {
            let known = UNIT_VARIANTS.iter().any(|(name, variants)| *name == key && variants.contains(&text.as_str()));
            if known {
                found.push(at.to_owned());
            }
        }
        _ => {}
    }
}

/// The content of an event, below the name of its kind.
fn content(line: &Value) -> (&str, &Value) {
    let (kind, content) =
        line["event"].as_object().and_then(|event| event.iter().next()).expect("an event of one kind");
    (kind, content)
}

fn make_unknown(value: &mut Value) {
    *value = match value {
        Value::Object(map) => {
            let content = map.values().next().expect("one key").clone();
            json!({ "sung": content })
        }
        _ => json!("sung"),
    };
}

/// Regression (F1): an unknown variant anywhere inside an event dropped the whole event without a word, so that a run had
/// "0 tasks" and a resume of it "nothing left to do".
#[test]
fn an_unknown_variant_is_refused_wherever_it_stands() {
    let sandbox = Sandbox::new("variants");
    let base = rich(&sandbox);
    let mut journals = vec![base.clone()];
    let mut places = vec![String::new()];
    for (at, line) in base.iter().enumerate() {
        let (kind, content) = content(line);
        let mut found = Vec::new();
        enums_in(content, kind, "", &mut found);
        for place in found {
            let place = format!("/event/{kind}{place}");
            let mut lines = base.clone();
            make_unknown(lines[at].pointer_mut(&place).expect("it was found there"));
            journals.push(lines);
            places.push(format!("line {at}: {place}"));
        }
    }
    let all = Value::Array(base.clone()).to_string();
    for variant in VARIANTS.iter().filter(|variant| !["number"].contains(variant)) {
        assert!(all.contains(&format!("\"{variant}\":")), "no event has the variant `{variant}`");
    }
    assert!(places.len() > 100, "{} places are too few", places.len());
    let (rows, said) = listed(&journals);
    assert_eq!(said, "");
    assert_eq!(rows[0]["state"], "ended", "{}", rows[0]);
    for (row, place) in rows.iter().zip(&places).skip(1) {
        let error = row["error"].as_str().unwrap_or_default();
        assert!(error.contains("written by a newer apm"), "{place}: {row}");
    }
    // Everything that reads says the same, and leaves the journal alone.
    let journal = journal_of(&sandbox);
    write(&journal, journals.last().expect("one"));
    let before = std::fs::read(&journal).expect("a journal");
    for words in [
        &["show"][..],
        &["show", "last", "t1"],
        &["show", "--waiting"],
        &["--replay"],
        &["--resume"],
        &["--resume", "--dry-run"],
        &["watch"],
        &["watch", "--format", "ndjson"],
    ] {
        let error = sandbox.apm(["run"].iter().chain(words)).fails(3);
        assert!(
            error.contains("was written by a newer apm") && error.contains("use the apm that wrote it"),
            "{words:?}: {error}"
        );
    }
    assert_eq!(std::fs::read(&journal).expect("a journal"), before);
}

fn add_fields(value: &mut Value, key: &str) {
    match value {
        Value::Object(map) => {
            map.iter_mut().for_each(|(key, value)| add_fields(value, key));
            let is_wrapper = map.len() == 1 && map.keys().all(|key| VARIANTS.contains(&key.as_str()));
            if !is_wrapper && !["event", "env", "uses", "resources"].contains(&key) {
                map.insert("later".to_owned(), json!({"x": [1, {"y": null}]}));
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| add_fields(value, "")),
        _ => {}
    }
}

#[test]
fn unknown_fields_change_nothing() {
    let sandbox = Sandbox::new("fields");
    let base = rich(&sandbox);
    let journal = journal_of(&sandbox);
    let told = |lines: &[Value]| {
        write(&journal, lines);
        let shown = sandbox.apm(["run", "show"]);
        assert_eq!(shown.stderr, "");
        let formats = ["json", "junit", "ndjson"]
            .map(|format| sandbox.apm(["run", "--replay", "last", "--format", format]).good());
        (shown.good(), formats, sandbox.apm(["run", "show", "last", "--waiting"]).good())
    };
    let before = told(&base);
    let mut lines = base;
    lines.iter_mut().for_each(|line| add_fields(line, ""));
    assert_eq!(told(&lines), before);

    // A resume goes by them too.
    sandbox
        .file("p.yaml", "version: 1\ntasks:\n- {id: a, run: echo x >> a}\n- {id: b, run: 'test -e good', needs: a}\n");
    std::fs::remove_dir_all(sandbox.state()).expect("removed");
    sandbox.apm(["run", "p.yaml"]).fails(1);
    let journal = journal_of(&sandbox);
    let text = std::fs::read_to_string(&journal).expect("a journal");
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    lines.iter_mut().for_each(|line| add_fields(line, ""));
    write(&journal, &lines);
    sandbox.file("good", "");
    sandbox.apm(["run", "--resume"]).good();
    assert_eq!(sandbox.read("a"), "x\n");
}

#[test]
fn events_of_unknown_kinds_are_skipped_and_reported() {
    let sandbox = Sandbox::new("kinds");
    sandbox
        .file("p.yaml", "version: 1\ntasks:\n- {id: a, run: echo x >> a}\n- {id: b, run: 'test -e good', needs: a}\n");
    sandbox.apm(["run", "p.yaml"]).fails(1);
    let report = sandbox.report();
    let journal = journal_of(&sandbox);
    let text = std::fs::read_to_string(&journal).expect("a journal");
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let known = lines.len();
    for (at, event) in [(2, json!({"sung": {"song": {"deep": [1]}}})), (4, json!("hummed")), (4, json!({"sung": {}}))] {
        let mut line = lines[at].clone();
        line["event"] = event;
        lines.insert(at, line);
    }
    number(&mut lines);
    write(&journal, &lines);
    let warning =
        "3 events of kinds that this apm does not know were skipped: 1 x `hummed`, 2 x `sung`; a newer apm wrote them";
    let all: [&[&str]; 8] = [
        &["list"],
        &["list", "--format", "json"],
        &["show"],
        &["show", "last", "a"],
        &["show", "last", "--waiting"],
        &["--replay", "last", "--format", "junit"],
        &["--replay", "last", "--format", "ndjson"],
        &["--resume", "--dry-run"],
    ];
    for words in all {
        let ran = sandbox.apm(["run"].iter().chain(words));
        assert!(ran.stderr.contains(warning), "{words:?}: {}", ran.stderr);
        ran.good();
    }
    for words in [&["watch"][..], &["watch", "--format", "ndjson"], &["watch", "--output", "b"]] {
        let said = sandbox.apm(["run"].iter().chain(words)).fails(1);
        assert!(said.contains(warning), "{words:?}: {said}");
    }
    let list: Value = serde_json::from_str(&sandbox.apm(["run", "list", "--format", "json"]).good()).expect("JSON");
    assert_eq!(list["runs"][0]["skipped_events"], json!({"hummed": 1, "sung": 2}));
    assert_eq!(sandbox.report(), report, "what is known is as it was");
    assert_eq!(sandbox.events().len(), known);
    // A resume reports it, keeps the skipped lines and goes on with the numbers behind them.
    sandbox.file("good", "");
    let ran = sandbox.apm(["run", "--resume"]);
    assert!(ran.stderr.contains("1 x `hummed`, 2 x `sung`"), "{}", ran.stderr);
    ran.good();
    assert_eq!(sandbox.read("a"), "x\n");
    let text = std::fs::read_to_string(&journal).expect("a journal");
    assert!(text.starts_with(&lines.iter().map(|line| format!("{line}\n")).collect::<String>()));
    assert_eq!(numbers(&text), (0..text.lines().count() as u64).collect::<Vec<_>>());
    let ran = sandbox.apm(["run", "--resume"]);
    assert!(ran.stderr.contains("nothing left to do") && ran.stderr.contains("2 x `sung`"), "{}", ran.stderr);
}

fn numbers(journal: &str) -> Vec<u64> {
    let line = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["seq"].as_u64().expect("a number");
    journal.lines().map(line).collect()
}

/// Any key, anywhere: whatever a later apm calls it, nothing vanishes without a word.
#[test]
fn a_renamed_key_is_accepted_with_every_event_or_refused() {
    fn keys_in(value: &Value, at: &str, found: &mut Vec<(String, String)>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    found.push((at.to_owned(), key.clone()));
                    keys_in(value, &format!("{at}/{key}"), found);
                }
            }
            Value::Array(values) => {
                values.iter().enumerate().for_each(|(ix, value)| keys_in(value, &format!("{at}/{ix}"), found));
            }
            _ => {}
        }
    }
    let sandbox = Sandbox::new("keys");
    let base = rich(&sandbox);
    let journal = journal_of(&sandbox);
    let mut places = Vec::new();
    keys_in(&Value::Array(base.clone()), "", &mut places);
    // Every version has the fields of the frame; a last line without them is one that a crash has torn.
    places.retain(|(at, _)| at.matches('/').count() > 1);
    let total = places.len();
    // Every place would take long, and other tests look at those of enums: an even share, from another one on each time.
    let first = std::process::id() as usize % (total / 60);
    for (at, key) in places.into_iter().skip(first).step_by(total / 60) {
        let mut all = Value::Array(base.clone());
        let map = all.pointer_mut(&at).and_then(Value::as_object_mut).expect("it was found there");
        let value = map.remove(&key).expect("its key");
        map.insert("sung".to_owned(), value);
        let Value::Array(lines) = all else { unreachable!("it was made as one") };
        write(&journal, &lines);
        let ran = sandbox.apm(["run", "--replay", "last", "--format", "ndjson"]);
        let context = format!("{at}/{key}: {:?} {}", ran.code, ran.stderr);
        if ran.code == Some(0) {
            let skipped = usize::from(
                ran.stderr.contains("1 event of kinds that this apm does not know was skipped: 1 x `sung`"),
            );
            assert_eq!(ran.stdout.lines().count() + skipped, lines.len(), "{context}");
        } else {
            assert!(ran.stderr.contains("written by a newer apm") || ran.stderr.contains("is damaged"), "{context}");
        }
    }
}

#[test]
fn a_higher_version_or_an_unknown_feature_is_refused() {
    let sandbox = Sandbox::new("version");
    sandbox.apm(["run", "each", "echo", ":::", "a", "b"]).good();
    let journal = journal_of(&sandbox);
    let whole = std::fs::read_to_string(&journal).expect("a journal");
    let lines: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let refused = |lines: &[Value], why: &str| {
        write(&journal, lines);
        for words in [&["show"][..], &["--replay"], &["--resume"], &["watch"]] {
            let error = sandbox.apm(["run"].iter().chain(words)).fails(3);
            assert!(error.contains(why), "{words:?}: {error}");
        }
        let list = sandbox.apm(["run", "list"]).good();
        assert!(list.contains(why), "{list}");
    };
    let mut needs = lines.clone();
    needs[0]["event"]["run_started"]["needs"] = json!(["teleport"]);
    refused(&needs, "the run needs `teleport`, which this apm does not know; use the apm that wrote it");
    for at in [0, 2, lines.len() - 1] {
        let mut newer = lines.clone();
        newer[at]["v"] = json!(9);
        refused(&newer, &format!("record {at} has version 9"));
        // A later version may look different altogether.
        newer[at] = json!({"v": 9, "seq": at, "what": "else"});
        refused(&newer, &format!("record {at} has version 9"));
    }
}

/// Regression (F11): a resume parsed the recorded command line with the flags of today. One renamed flag, and `--halt` and
/// the rest were dropped without a word.
#[test]
fn a_resume_goes_by_the_recorded_request_and_not_by_the_command_line() {
    let resumed = |flags: &[&str], script: &str| {
        let sandbox = Sandbox::new("request");
        let delays = ["--set", "run.retry_delay_ms=1", "--set", "run.retry_delay_max_ms=1"];
        let command = ["sh", "-c", script, "{}", ":::", "1", "2", "3"];
        let words = ["run", "each"].iter().chain(flags).chain(&delays).chain(&command);
        sandbox.apm(words).fails(1);
        let journal = journal_of(&sandbox);
        let whole = std::fs::read_to_string(&journal).expect("a journal");
        let edited = whole.replacen(r#""argv":["#, r#""argv":["apm","--a-flag-of-tomorrow","#, 1);
        assert_ne!(edited, whole);
        std::fs::write(&journal, edited).expect("written");
        let _ = std::fs::remove_file(sandbox.work().join("log"));
        for number in 1..=3 {
            let _ = std::fs::remove_file(sandbox.work().join(format!("tried{number}")));
        }
        sandbox.file("go", "");
        let ran = sandbox.apm(["run", "--resume"]);
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        (sandbox, ran.stdout)
    };
    let tried = "echo x >> tried$0; test -e go || exit 1";

    let (sandbox, stdout) =
        resumed(&["-j1", "--halt", "now,fail=1", "--joblog", "log"], &format!("{tried}; test $0 != 2"));
    assert_eq!(stdout, "");
    assert!(sandbox.has("tried2") && !sandbox.has("tried3"), "--halt");
    let log = sandbox.read("log");
    let numbers: Vec<&str> = log.lines().skip(1).filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(numbers, ["1", "1", "2"], "--joblog");

    // 1 waits for 2, whose output comes behind that of 1 all the same.
    let script = format!(
        "{tried}; if [ $0 = 1 ]; then until [ -e two ]; do sleep 0.01; done; fi; \
         [ $0 != 2 ] || touch two; echo $0; test $0 != 3"
    );
    let (sandbox, stdout) = resumed(&["-j2", "-k", "--tag", "--retries", "1"], &script);
    assert!(stdout.starts_with("1\t1\n2\t2\n3\t3\n"), "-k, --tag: {stdout}");
    assert_eq!(sandbox.read("tried3"), "x\nx\n", "--retries");
}

/// Regression (F6): the environments of tasks that joined while the run went on were not kept.
#[test]
fn environments_of_tasks_that_joined_are_there_after_a_kill() {
    let sandbox = Sandbox::new("envs");
    let mut command = sandbox.command(["run", "-"]);
    let mut child =
        Ended(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("apm"));
    let mut stdin = child.0.stdin.take().expect("a pipe");
    let line =
        "{\"id\": \"a\", \"run\": \"echo $V >> a; test -e go || sleep 1000\", \"env\": {\"V\": \"streamed-value\"}}\n";
    std::io::Write::write_all(&mut stdin, line.as_bytes()).expect("written");
    eventually("the first task runs", || sandbox.has("a"));
    let added = "{\"id\": \"b\", \"run\": \"echo $V >> b\", \"env\": {\"V\": \"added-value\"}, \"needs\": [\"a\"]}\n";
    sandbox.apm_with(["run", "add", "-"], added.as_bytes()).good();
    drop(stdin);
    let journal = journal_of(&sandbox);
    let text = || std::fs::read_to_string(&journal).expect("a journal");
    eventually("the plan is whole", || text().contains("tasks_closed"));
    child.0.kill().expect("killed");
    child.0.wait().expect("its end");
    assert!(!text().contains("-value\""), "values are in no event");
    sandbox.file("go", "");
    sandbox.apm(["run", "--resume"]).good();
    assert_eq!(
        (sandbox.read("a").as_str(), sandbox.read("b").as_str()),
        ("streamed-value\nstreamed-value\n", "added-value\n")
    );
}
