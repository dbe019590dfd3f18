//! Text that comes from outside, in every field that takes some, and in every format that shows it: nothing commands a
//! terminal, hides, reorders, or is a command of a GitHub workflow.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::sandbox::{Ran, Sandbox};

/// Controls, a C1 control, marks of direction, characters without a width, a separator of lines, tags, links, mentions.
const HOSTILE: &str = "::error::x ##[error]y \u{1b}]52;c;eA==\u{7}\u{1b}[2J\u{9b}31m\u{202e}\u{2066}\u{61c}\u{200f}\u{200b}\
     \u{ad}\u{2028}\u{180e}\u{2060}\u{feff}\u{fffb}\u{e0041}<b>@octocat https://x.test www.x.test a@x.test #1|`&\"'";

/// What may be in no output. Written down here once more: the table of apm is what is tested.
fn is_forbidden(c: char) -> bool {
    let hidden = [0xad, 0x61c, 0x180e, 0xfeff];
    let ranges = [0x200b..=0x200f, 0x2028..=0x202e, 0x2060..=0x206f, 0xfff9..=0xfffb, 0xe0000..=0xe007f];
    let code = u32::from(c);
    (c.is_control() && c != '\n') || hidden.contains(&code) || ranges.iter().any(|range| range.contains(&code))
}

fn assert_harmless(what: &str, text: &str) {
    let found: Vec<char> = text.chars().filter(|c| is_forbidden(*c)).collect();
    assert!(found.is_empty(), "{what}: {found:?} in {text}");
    assert!(!text.contains("##["), "{what}: {text}");
    for line in text.lines().map(str::trim_start) {
        let is_own = what == "github" && (line.starts_with("::error ") || line.starts_with("::warning "));
        assert!(is_own || !line.starts_with("::") || line.starts_with(":::"), "{what}: {line}");
    }
    match what {
        "html" | "junit" | "svg" => {
            assert!(!text.contains("<b>"), "{what}: {text}");
            if what != "html" {
                roxmltree::Document::parse(text).expect("XML");
            }
        }
        "markdown" => {
            for link in ["<b>", "@octocat", "https://", "www.", "@x", "#1"] {
                assert!(!text.contains(link), "{link}: {text}");
            }
        }
        "json" | "trace" => drop(serde_json::from_str::<Value>(text).expect("JSON")),
        "ndjson" => text.lines().for_each(|line| drop(serde_json::from_str::<Value>(line).expect("JSON"))),
        _ => {}
    }
}

fn assert_all_harmless(what: &str, ran: &Ran) {
    assert_harmless(what, &ran.stdout);
    assert_harmless("standard error", &ran.stderr);
}

const FORMATS: [&str; 7] = ["text", "json", "ndjson", "junit", "markdown", "html", "trace"];

fn assert_run_harmless(sandbox: &Sandbox, run: &str) {
    for format in FORMATS.iter().chain(&["github"]) {
        assert_all_harmless(format, &sandbox.apm(["run", "show", run, "--format", format]));
    }
    for words in [&["run", "list"][..], &["run", "list", "--format", "json"], &["run", "show", run, "--waiting"]] {
        assert_all_harmless("text", &sandbox.apm(words));
    }
}

/// Puts the text behind each string of the keys that hold text from outside.
fn poison(value: &mut Value) {
    const KEYS: [&str; 21] = [
        "id", "title", "reason", "error", "text", "tool", "install", "detail", "output", "first", "task", "script",
        "edit", "kernel", "notes", "by", "locks", "cwd", "message", "rule", "parser",
    ];
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(text) if KEYS.contains(&key.as_str()) => text.push_str(HOSTILE),
                    value => poison(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(poison),
        _ => {}
    }
}

#[test]
fn a_run_with_hostile_text_in_its_plan_its_output_and_its_record() {
    let sandbox = Sandbox::new("hostile-run");
    let text = HOSTILE;
    let tasks = json!([
        {"id": "fails", "title": text, "description": text, "run": format!("printf '%s\\n' \"$TEXT\"; printf '   %s\\n' \"$TEXT\" >&2; exit 1"), "env": {"TEXT": text}},
        {"id": "broken", "title": text, "run": [format!("./{}", text.replace('\u{0}', ""))]},
        {"id": "after", "title": text, "run": "true", "needs": ["fails"]},
        {"id": "output", "run": "true", "outputs": ["missing\u{202e}"], "locks": ["a"]},
        {"id": "good", "title": text, "run": "true"},
    ]);
    sandbox.file("p.json", json!({"version": 1, "tasks": tasks}).to_string());
    for format in FORMATS.iter().chain(&["github"]) {
        assert_all_harmless(format, &sandbox.apm(["run", "p.json", "-v", "--format", format]));
    }
    for format in ["text", "json"] {
        assert_all_harmless(format, &sandbox.apm(["run", "p.json", "--dry-run", "--format", format]));
    }
    sandbox.apm(["run", "p.json", "-o", "markdown=r.md", "-o", "github=r.gh", "-o", "text=r.txt"]);
    for (what, file) in [("markdown", "r.md"), ("github", "r.gh"), ("text", "r.txt")] {
        assert_harmless(what, &sandbox.read(file));
    }
    let shown = sandbox.apm(["run", "show", "last"]).stdout;
    assert!(
        shown.contains("\n  : :error::x # #[error]y"),
        "the output of a failed task is shown all the same: {shown}"
    );
    // What no plan of this apm can have, an older or foreign record may.
    let runs = fs::read_dir(sandbox.state().join("runs")).expect("runs").flatten().map(|run| run.path());
    let run = runs.max().expect("a run");
    let journal = run.join("journal.ndjson");
    let lines = fs::read_to_string(&journal).expect("a journal");
    let poisoned = lines.lines().map(|line| {
        let mut event: Value = serde_json::from_str(line).expect("an event");
        poison(&mut event);
        // An id has no control characters, which would make the record unreadable.
        let strip = |text: &str| text.replace(['\u{1b}', '\u{7}', '\u{9b}'], "");
        for key in ["id", "task", "first"] {
            visit(&mut event, key, &|text| *text = strip(text));
        }
        event.to_string() + "\n"
    });
    fs::write(&journal, poisoned.collect::<String>()).expect("written");
    // By its name: its folder is poisoned too, and `last` is the last run of this one.
    let name = run.file_name().expect("a name").to_str().expect("text");
    let shown = sandbox.apm(["run", "show", name]).good();
    assert!(shown.contains("failed fails::error::x"), "it is read: {shown}");
    assert_run_harmless(&sandbox, name);
}

/// Changes each text of a key, also in lists.
fn visit(value: &mut Value, key: &str, change: &dyn Fn(&mut String)) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == key => change(text),
                    value => visit(value, key, change),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| visit(item, key, change)),
        _ => {}
    }
}

#[test]
fn findings_and_tests_with_hostile_text() {
    let sandbox = Sandbox::new("hostile-findings");
    let place = json!({"row": 1, "column": 1});
    let found = json!([{"filename": HOSTILE, "location": place, "end_location": place, "code": HOSTILE,
        "message": HOSTILE, "url": format!("https://{HOSTILE}")}]);
    // What XML allows of it; apm takes the rest away before it reads.
    let xml = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    let case = xml(HOSTILE);
    let junit = format!(
        "<testsuites><testsuite name=\"s\"><testcase classname=\"{case}\" name=\"{case}\"><failure message=\"{case}\">\
         {case}\n  {case}</failure></testcase></testsuite></testsuites>"
    );
    sandbox.file("found.json", found.to_string()).file("found.xml", junit).file("pyproject.toml", "[tool.ruff]\n");
    sandbox.file("test_a.py", "").file("bin/ruff", "#!/bin/sh\ncat found.json\nexit 1\n").file(
        "bin/pytest",
        "#!/bin/sh\nfor word in \"$@\"; do case $word in --junitxml=*) cp found.xml \"${word#*=}\";; esac; done\nexit 1\n",
    );
    for tool in ["ruff", "pytest"] {
        fs::set_permissions(sandbox.work().join("bin").join(tool), Permissions::from_mode(0o755)).expect("a program");
    }
    let mut command = sandbox.command(["run", "qa", "--only", "ruff", "--only", "pytest", "-o", "github=r.gh"]);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", sandbox.work().join("bin").display()));
    let ran = Ran::of(command);
    assert_all_harmless("text", &ran);
    let report = sandbox.report();
    let of = |kind: &str| {
        let tasks = report["tasks"].as_array().expect("tasks");
        tasks.iter().filter(|task| task["results"][kind].as_array().is_some_and(|all| !all.is_empty())).count()
    };
    assert_eq!((of("findings"), of("tests")), (1, 1), "they were read: {report}");
    assert!(report.to_string().contains('\u{202e}'), "JSON keeps what it escapes");
    assert_harmless("github", &sandbox.read("r.gh"));
    assert_run_harmless(&sandbox, "last");
}

#[test]
fn an_id_that_hides_something_is_refused_and_one_made_of_a_value_is_shown_clean() {
    let sandbox = Sandbox::new("hostile-ids");
    for hidden in ["\u{202e}", "\u{2066}", "\u{200b}", "\u{200f}", "\u{2028}", "\u{e0041}"] {
        sandbox.file(
            "p.json",
            json!({"version": 1, "tasks": [{"id": format!("x{hidden}gnp.exe"), "run": "true"}]}).to_string(),
        );
        let error = sandbox.apm(["run", "p.json"]).fails(2);
        let code = u32::from(hidden.chars().next().expect("a character"));
        assert!(
            error.contains(&format!("p.json:1:17: an id must not contain the invisible character U+{code:04X}")),
            "{error}"
        );
        assert_harmless("standard error", &error);
    }
    let ran = sandbox.apm(["run", "each", "-v", "false", ":::", "a\u{202e}b", "a\u{200b}b", HOSTILE]);
    assert_all_harmless("text", &ran);
    let ids: Vec<Value> =
        sandbox.report()["tasks"].as_array().expect("tasks").iter().map(|task| task["id"].clone()).collect();
    assert_eq!(ids[..2], ["1: a?b", "2: a?b"], "{ids:?}");
    assert_run_harmless(&sandbox, "last");
}

/// Puts the text behind every string but those of these keys, which only have words that apm knows.
fn poison_all(value: &mut Value, but: &[&str]) {
    match value {
        Value::String(text) => text.push_str(HOSTILE),
        Value::Array(items) => items.iter_mut().for_each(|item| poison_all(item, but)),
        Value::Object(fields) => {
            fields.iter_mut().filter(|(key, _)| !but.contains(&key.as_str())).for_each(|(_, it)| poison_all(it, but));
        }
        _ => {}
    }
}

/// Regression: the summary behind the annotations of a GitHub step had a command of the runner in it.
#[test]
fn a_saved_look_with_hostile_names() {
    let sandbox = Sandbox::new("hostile-look");
    sandbox.apm(["doctor", "--quick", "--fail-on", "never", "--save", "look.json"]).good();
    let mut look: Value = serde_json::from_str(&sandbox.read("look.json")).expect("JSON");
    poison_all(&mut look, &["schema", "state"]);
    sandbox.file("look.json", look.to_string());
    for format in ["text", "json", "sarif", "junit", "github", "prometheus", "html"] {
        let words = ["doctor", "--from", "look.json", "--fail-on", "never", "--format", format];
        let ran = sandbox.apm(words);
        assert_eq!(ran.code, Some(0), "{format}: {}", ran.stderr);
        // The page has names of its own in bold.
        let what = if format == "html" { "text" } else { format };
        assert_harmless(what, &ran.stdout.replace("::notice ", "::warning "));
        assert_harmless("standard error", &ran.stderr);
        assert!(
            !ran.stdout.contains("<b>@octocat")
                || matches!(format, "text" | "json" | "sarif" | "github" | "prometheus")
        );
    }
}

/// Every text of a profile: names of processes, files and functions, what is said of its quality, tables beside.
#[test]
fn a_profile_that_is_hostile_everywhere() {
    let sandbox = Sandbox::new("hostile-everywhere");
    let kind = |name: &str, unit: &str| json!({"name": name, "unit": unit});
    let thread =
        |tid: u32, task: Option<&str>| json!({"pid": 1, "tid": tid, "process": "p", "name": "n", "task": task});
    let mut profile = json!({
        "schema": "apm.profile/1", "title": "t", "at": "2026-11-28T08:00:00Z", "duration_ns": 1_000_000_000,
        "kinds": [kind("cpu", "nanoseconds"), kind("alloc_space", "bytes")],
        "modules": [{"path": "/bin/a", "build_id": "aa"}],
        "frames": [{"name": "main", "module": 0, "file": "a.c", "line": 3, "origin": "native"}, {"name": "f", "module": 0, "origin": "kernel"},
            {"name": "g", "origin": "jit"}],
        "nodes": [{"caller": null, "frame": 0}, {"caller": 0, "frame": 1}, {"caller": 0, "frame": 2}],
        "threads": [thread(2, Some("k")), thread(3, None)],
        "rows": [{"node": 1, "thread": 0, "values": [5_000_000, 1]}, {"node": 2, "thread": 1, "values": [7_000_000, 9]}],
        "tables": {
            "timelines": [{"name": "rss", "unit": "bytes", "points": [[0, 1.0], [1000, 5.0], [10_000, 9.0]]}],
            "lists": [{"name": "files", "of": "path", "columns": [kind("read", "bytes")], "rows": [["/etc/x", [5]]]}],
        },
        "quality": {"sampler": "s", "refused": ["r"], "rate_asked": 99, "rate_got": 98.0, "samples": 200, "lost": 1, "truncated": 1,
            "unknown": 1, "nameless": [{"module": "/m", "samples": 5, "hint": "h"}], "notes": ["n"]},
    });
    poison_all(&mut profile, &["schema", "unit", "origin"]);
    sandbox.file("p.json", profile.to_string());
    let formats = [
        ("text", "text"),
        ("svg", "svg"),
        ("html", "html"),
        ("folded", "text"),
        ("speedscope", "json"),
        ("json", "json"),
    ];
    for by in ["code", "process", "thread", "task"] {
        for (format, what) in formats {
            let ran = sandbox.apm(["profile", "show", "p.json", "--format", format, "--by", by]);
            assert_eq!(ran.code, Some(0), "{format}: {}", ran.stderr);
            assert_all_harmless(what, &ran);
        }
    }
}

#[test]
fn a_profile_with_hostile_names() {
    let sandbox = Sandbox::new("hostile-profile");
    let name = HOSTILE.replace(['\u{1b}', '\u{7}', ';'], "");
    sandbox.file("p.folded", format!("{name};{name}b 7\n::warning::x (pid 1);a 3\n"));
    let profile = sandbox.apm(["profile", "show", "p.folded", "--format", "json"]).good();
    let mut profile: Value = serde_json::from_str(&profile).expect("JSON");
    let Value::Object(_) = &profile else { panic!("an object") };
    for key in ["title", "name", "module", "file", "at"] {
        visit(&mut profile, key, &|text| text.push_str(HOSTILE));
    }
    visit(&mut profile, "name", &|text| text.insert_str(0, "::"));
    sandbox.file("p.json", profile.to_string());
    for file in ["p.folded", "p.json"] {
        for (format, what) in [
            ("text", "text"),
            ("svg", "svg"),
            ("icicle", "svg"),
            ("html", "html"),
            ("folded", "text"),
            ("speedscope", "json"),
            ("json", "json"),
        ] {
            let ran = sandbox.apm(["profile", "show", file, "--format", format]);
            assert_eq!(ran.code, Some(0), "{file} {format}: {}", ran.stderr);
            assert_all_harmless(what, &ran);
        }
        for (format, what) in [("text", "text"), ("json", "json"), ("svg", "svg")] {
            assert_all_harmless(what, &sandbox.apm(["profile", "diff", file, file, "--format", format]));
        }
    }
    assert_all_harmless("text", &sandbox.apm(["run", &format!("--{}", HOSTILE.trim_start_matches(':'))]));
    // A message says which value was wrong.
    assert_all_harmless("text", &sandbox.apm(["profile", "show", "p.json", "--kind", HOSTILE]));
    assert_all_harmless("text", &sandbox.apm(["run", "show", HOSTILE]));
    assert_all_harmless("text", &sandbox.apm(["config", "show", "--set", &format!("run.{HOSTILE}=1")]));
}
