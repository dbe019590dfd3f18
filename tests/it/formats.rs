//! Every format of a report is valid, says the same, and is the same live as replayed.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::sandbox::{Ran, Sandbox};

const PLAN: &str = "version: 1
tasks:
- {id: good, run: 'echo fine'}
- {id: bad, run: 'echo to-out; echo to-err >&2; exit 4'}
- {id: skipped, run: 'true', needs: [bad]}
- {id: flaky, run: 'test -e once || { touch once; exit 1; }', retries: {max: 1, delay: 1ms}}
- {id: missing, run: [no-such-program]}
- {id: slow, run: sleep 0.3}
";

#[test]
fn live_and_replayed_reports_are_the_same_in_every_format() {
    let sandbox = Sandbox::new("formats");
    sandbox.file("p.yaml", PLAN);
    let formats = ["json", "ndjson", "junit", "markdown", "html", "trace", "github"];
    let mut args = vec!["run".to_owned(), "p.yaml".to_owned()];
    for format in formats {
        args.extend(["-o".to_owned(), format!("{format}=live.{format}")]);
    }
    sandbox.apm(args).fails(1);
    for format in formats {
        let replayed = sandbox.apm(["run", "--replay", "last", "--format", format]).good();
        assert_eq!(sandbox.read(&format!("live.{format}")), replayed, "{format}");
    }
    let events: Vec<Value> =
        sandbox.read("live.ndjson").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for (at, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], at, "numbered without a gap");
    }
    let junit = sandbox.read("live.junit");
    let document = roxmltree::Document::parse(&junit).expect("XML");
    for suite in document.descendants().filter(|node| node.has_tag_name("testsuite")) {
        let count = |name: &str| suite.attribute(name).and_then(|text| text.parse::<usize>().ok()).expect("a number");
        let cases: Vec<_> = suite.children().filter(|node| node.has_tag_name("testcase")).collect();
        let with =
            |name: &str| cases.iter().filter(|case| case.children().any(|child| child.has_tag_name(name))).count();
        assert_eq!(count("tests"), cases.len());
        assert_eq!(
            (count("failures"), count("errors"), count("skipped")),
            (with("failure"), with("error"), with("skipped"))
        );
    }
    assert!(junit.contains("<flakyFailure") && junit.contains("to-err"), "{junit}");
    let trace: Value = serde_json::from_str(&sandbox.read("live.trace")).expect("JSON");
    let attempts = trace["traceEvents"].as_array().expect("events").iter().filter(|event| event["ph"] == "X").count();
    assert_eq!(attempts, 6, "good, bad, two of flaky, missing, slow");
    assert!(sandbox.read("live.github").contains("::error title=bad::exit code 4"));
    let html = sandbox.read("live.html");
    assert!(
        html.contains("to-err") && html.contains("<svg") && !html.contains("http-equiv") && !html.contains("src="),
        "self-contained"
    );
}

#[test]
fn a_format_on_standard_output_is_only_that() {
    let sandbox = Sandbox::new("stdout");
    sandbox.file("p.yaml", PLAN);
    let ran = sandbox.apm(["run", "p.yaml", "--format", "json"]);
    let report: Value = serde_json::from_str(&ran.stdout).expect("JSON alone");
    let totals = &report["totals"];
    let numbers: Vec<u64> = ["tasks", "passed", "flaky", "failed", "skipped", "broken"]
        .iter()
        .map(|key| totals[key].as_u64().expect("a number"))
        .collect();
    assert_eq!(numbers, [6, 2, 1, 1, 1, 1]);
    assert!(ran.stderr.contains("failed"), "the conversation goes on beside it");
    let quiet = sandbox.apm(["run", "p.yaml", "--format", "ndjson", "-q"]);
    assert!(
        quiet.stdout.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()) && quiet.stderr.is_empty(),
        "{}",
        quiet.stderr
    );
}

/// The schema names every key that reports have, and no other.
#[test]
fn reports_follow_their_schema() {
    let sandbox = Sandbox::new("schema");
    sandbox.file("p.yaml", PLAN);
    sandbox.apm(["run", "p.yaml"]).fails(1);
    let schema: Value = serde_json::from_str(include_str!("../../src/report/run.schema.json")).expect("JSON");
    follows(&schema, &schema, &sandbox.report(), "report");
}

/// The schema of plans accepts what the reader accepts.
#[test]
fn plans_follow_their_schema() {
    let schema: Value =
        serde_json::from_str(include_str!("../../src/workflow/planfile/plan.schema.json")).expect("JSON");
    let plan: Value = serde_json::json!({"version": 1, "defaults": {"env": {"A": "1"}, "timeout": "10s", "sandbox": "best"}, "resources": {"db": 2}, "tasks": [
        {"id": "a", "title": "t", "description": "d", "run": ["x"], "needs": [], "env": {"B": "2"}, "cwd": ".", "inputs": ["*.c"], "outputs": ["o"],
         "limits": {"memory": "1GiB", "cpu": 50, "cpu_time": "1s", "processes": 9, "timeout": "1m", "idle_timeout": "5s", "grace": "1s", "nice": 5, "io_priority": "idle"},
         "retries": {"max": 2, "delay": "1s", "delay_max": "9s"}, "priority": 3, "deadline": "1h", "timeout": "1m", "when": "always",
         "matrix": {"n": [1, 2]}, "locks": ["l"], "uses": {"db": 1, "slots": 2, "memory": "1GiB"},
         "sandbox": {"mode": "require", "write": ["out"], "network": true}},
        {"id": "b", "run": "x | y", "shell": "bash", "retries": 1}, {"id": "c", "plan": "more.yaml", "needs": "a"}]});
    follows(&schema, &schema, &plan, "plan");
    let sandbox = Sandbox::new("planschema");
    sandbox.file("p.json", plan.to_string());
    sandbox.apm(["run", "p.json", "--dry-run"]).good();
    let known: BTreeSet<&str> =
        schema["$defs"]["task"]["properties"].as_object().expect("keys").keys().map(String::as_str).collect();
    let used: BTreeSet<&str> = plan["tasks"]
        .as_array()
        .expect("tasks")
        .iter()
        .flat_map(|task| task.as_object().expect("a map").keys())
        .map(String::as_str)
        .collect();
    assert_eq!(known, used, "every key of the schema is tried here");
}

/// The part of JSON Schema that the two schemas use.
pub fn follows(root: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(reference.trim_start_matches('#')).unwrap_or_else(|| panic!("{reference}"));
        return follows(root, target, value, at);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let fits = |choice: &&Value| std::panic::catch_unwind(|| follows(root, choice, value, at)).is_ok();
        assert_eq!(choices.iter().filter(fits).count(), 1, "{at}: {value} fits none or several of {schema}");
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is = |wanted: &Value| wanted == kind || (wanted == "number" && kind == "integer");
    match &schema["type"] {
        Value::Null => {}
        Value::Array(kinds) => assert!(kinds.iter().any(is), "{at}: {value} is none of {kinds:?}"),
        wanted => assert!(is(wanted), "{at}: {value} is not {wanted}"),
    }
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{at}: {value} is none of {words:?}");
    }
    if let Some(map) = value.as_object() {
        for key in schema["required"].as_array().into_iter().flatten() {
            assert!(map.contains_key(key.as_str().expect("a key")), "{at}: no {key}");
        }
        for (key, inner) in map {
            match schema["properties"].get(key) {
                Some(known) => follows(root, known, inner, &format!("{at}.{key}")),
                None if schema["additionalProperties"].is_object() => {
                    follows(root, &schema["additionalProperties"], inner, &format!("{at}.{key}"))
                }
                None => {
                    assert_eq!(schema["additionalProperties"], Value::Null, "{at}: the schema does not know `{key}`")
                }
            }
        }
    }
    for (number, inner) in value.as_array().into_iter().flatten().enumerate() {
        if schema["items"].is_object() {
            follows(root, &schema["items"], inner, &format!("{at}[{number}]"));
        }
    }
}

#[test]
fn github_gets_its_step_summary() {
    let sandbox = Sandbox::new("github");
    sandbox.file("p.yaml", PLAN);
    let mut command = sandbox.command(["run", "p.yaml"]);
    command.env("GITHUB_STEP_SUMMARY", sandbox.work().join("summary.md"));
    assert_eq!(Ran::of(command).code, Some(1));
    let text = sandbox.read("summary.md");
    assert!(text.starts_with("## apm run p.yaml") && text.contains("| failed | bad |"), "{text}");
}

/// Reports that show each task read the journal at the end of the run; without one they had nothing to read.
#[test]
fn reports_are_whole_without_a_journal() {
    let sandbox = Sandbox::new("nojournal");
    sandbox.file("p.yaml", PLAN);
    let mut args = vec!["run", "p.yaml", "--no-journal", "--format", "json"];
    args.extend(["-o", "junit=r.xml", "-o", "html=r.html", "-o", "trace=r.trace", "-o", "github=r.github"]);
    let mut command = sandbox.command(args);
    command.env("GITHUB_STEP_SUMMARY", sandbox.work().join("summary.md"));
    let ran = Ran::of(command);
    let report: Value = serde_json::from_str(&ran.stdout).expect("JSON alone");
    let ids = |report: &Value| -> Vec<String> {
        let tasks = report["tasks"].as_array().expect("tasks");
        tasks.iter().map(|task| task["id"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(ids(&report), ["good", "bad", "skipped", "flaky", "missing", "slow"], "in plan order");
    assert_eq!(sandbox.read("r.xml").matches("<testsuite ").count(), 6);
    assert!(sandbox.read("r.html").contains("to-err") && sandbox.read("r.trace").contains("\"name\":\"slow\""));
    assert!(sandbox.read("r.github").contains("::error title=bad::exit code 4"));
    assert!(sandbox.read("summary.md").contains("| failed | bad |"));
    assert!(!sandbox.state().join("runs").exists(), "nothing of it is recorded");
    let left: Vec<_> = std::fs::read_dir(std::env::temp_dir())
        .expect("a folder")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(report["run"].as_str().expect("a name")))
        .collect();
    assert_eq!(left, [] as [String; 0], "the temporary journal is gone");
}

/// The summary keeps no rows of most tasks: each is found in the journal.
#[test]
fn any_task_of_a_large_run_can_be_shown() {
    let sandbox = Sandbox::new("shown");
    let values: Vec<String> = (1..=300).map(|n| n.to_string()).collect();
    let words = ["run", "each", "-q", "--shell", "echo out {}; test {} != 7", ":::"].map(str::to_owned);
    sandbox.apm(words.into_iter().chain(values)).fails(1);
    let report = sandbox.report();
    let ids: Vec<&str> =
        report["tasks"].as_array().expect("tasks").iter().map(|task| task["id"].as_str().expect("an id")).collect();
    assert_eq!(ids.len(), 300);
    assert!(ids.windows(2).all(|pair| number(pair[0]) + 1 == number(pair[1])), "in plan order: {ids:?}");
    for n in [1, 7, 150, 300] {
        let shown = sandbox.apm(["run", "show", "last", ids[n - 1]]);
        assert_eq!(shown.stdout, format!("out {n}\n"));
        let end = if n == 7 { "exit code 1" } else { "passed" };
        assert!(shown.stderr.contains(end), "{}", shown.stderr);
    }
    let wrong = ids[149].replace(' ', "  ");
    let error = sandbox.apm(["run", "show", "last", &wrong]).fails(2);
    assert!(error.contains("did you mean"), "{error}");
    let text = sandbox.apm(["run", "show"]).good();
    assert!(text.contains("slowest: ") && text.contains("failed: 300 tasks (1 failed, 299 passed)"), "{text}");
}

fn number(id: &str) -> usize {
    id.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number")
}

#[test]
fn wrong_outputs_are_refused_before_anything_starts() {
    let sandbox = Sandbox::new("outputs");
    for (value, part) in [
        ("jnuit=x", "did you mean `junit`?"),
        ("json", "expected FORMAT=FILE"),
        ("json=", "the file is missing"),
        ("json=no/dir/x", "No such file"),
    ] {
        let error = sandbox.apm(["run", "each", "-o", value, "touch", ":::", "ran"]).fails(2);
        assert!(error.contains(part), "{value}: {error}");
    }
    assert!(!sandbox.has("ran"));
}

/// Nothing was recorded, and `apm run show` was recommended.
#[test]
fn what_is_not_recorded_cannot_be_shown_again() {
    let sandbox = Sandbox::new("unrecorded");
    sandbox.file("p.yaml", "version: 1\ntasks: [{id: bad, run: exit 1}]\n");
    let show = |flags: &[&str]| sandbox.apm(["run", "p.yaml"].iter().chain(flags)).stdout.contains("apm run show");
    assert!(show(&[]) && !show(&["--no-journal"]));
}

/// One took the place of the other.
#[test]
fn two_reports_do_not_go_to_one_file() {
    let sandbox = Sandbox::new("samefile");
    sandbox.file("there", "");
    std::os::unix::fs::symlink("there", sandbox.work().join("link")).expect("a link");
    for second in ["junit=there", "html=./there", "html=../work/there", "ndjson=link"] {
        let error = sandbox.apm(["run", "each", "-o", "json=there", "-o", second, "touch", ":::", "ran"]).fails(2);
        assert!(error.contains("both go to"), "{error}");
    }
    assert!(!sandbox.has("ran"));
    sandbox.apm(["run", "each", "-o", "json=/dev/null", "-o", "html=/dev/null", "touch", ":::", "ran"]).good();
}

/// The link became a file.
#[test]
fn a_report_is_written_through_a_link() {
    let sandbox = Sandbox::new("link");
    std::fs::create_dir(sandbox.work().join("sub")).expect("a folder");
    std::os::unix::fs::symlink("sub/target", sandbox.work().join("link")).expect("a link");
    for _ in 0..2 {
        sandbox.apm(["run", "each", "-o", "json=link", "true", ":::", "x"]).good();
        assert!(sandbox.work().join("link").is_symlink());
        assert!(sandbox.read("sub/target").starts_with('{'));
        std::fs::write(sandbox.work().join("sub/target"), "old").expect("written");
    }
}
