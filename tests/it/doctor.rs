//! `apm doctor` from outside: on folders that hold the files of small machines, on saved looks, and on this machine where
//! the clock, a signal or a terminal matter.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::formats::follows;
use crate::sandbox::{Ended, Ran, Sandbox, eventually, has_program, python_with, signal};

/// The rule that all of this is tried with: it reads one file.
const ONLY: [&str; 2] = ["--only", "mem.available"];

/// A machine with so much memory that can still be had, of 10,000,000 kB, and a process that calls itself something.
fn host(sandbox: &Sandbox, name: &str, available: u64, process: &str) -> String {
    sandbox.file(
        &format!("{name}/proc/meminfo"),
        format!("MemTotal:       10000000 kB\nMemFree:          100000 kB\nMemAvailable:   {available} kB\n"),
    );
    sandbox.file(&format!("{name}/proc/uptime"), "1000.00 900.00\n");
    sandbox.file(&format!("{name}/proc/sys/kernel/osrelease"), "6.1.0-test\n");
    sandbox.file(
        &format!("{name}/proc/77/stat"),
        format!("77 ({process}) S 40 77 40 34816 -1 4194560 1 2 3 4 100 50 0 0 20 0 1 0 12345 9999 262144 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0\n"),
    );
    name.to_owned()
}

/// `apm doctor` on such a machine, before and after.
fn doctor<'a>(sandbox: &Sandbox, host: &'a str, words: &[&'a str]) -> Ran {
    sandbox.apm(["doctor", "--root", host, "--root", host].iter().chain(&ONLY).chain(words))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn the_text_says_verdict_culprit_evidence_limit_and_remedy() {
    let sandbox = Sandbox::new("doctortext");
    let host = host(&sandbox, "host", 900_000, "ray");
    let ran = doctor(&sandbox, &host, &[]);
    assert_eq!(ran.stderr, "");
    let text = ran.good();
    assert!(text.starts_with("1 warning; 0 rules ok (2.0 s; "), "{text}");
    for part in [
        "Linux 6.1.0-test, ",
        "\nWARN  mem.available: 879 MiB of 9.5 GiB can still be had (9%)\n      by     ray[77]: 1 GiB in RAM\n",
        "      read   /proc/meminfo MemAvailable 879 MiB\n",
        "      limit  9% against warn 10%, crit 5% (",
        "      do     run fewer things at once, or end the largest process\n             kill 77\n",
        "`apm doctor --explain mem.available`",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    let calm = crate::doctor::host(&sandbox, "calm", 9_000_000, "ray");
    let text = doctor(&sandbox, &calm, &[]).good();
    assert!(text.starts_with("OK: 1 rule ok (2.0 s; ") && text.contains("\nok       memory 1\n"), "{text}");
    let text = doctor(&sandbox, &calm, &["--verbose"]).good();
    assert!(text.contains("\nok       mem.available\n"), "{text}");
}

/// Regression: the first ten seconds said "good" of a machine whose disk was full, and a pipe got nothing at all.
#[test]
fn a_watch_says_what_it_does_and_what_is_wrong_already() {
    let sandbox = Sandbox::new("doctorwatch");
    let host = host(&sandbox, "host", 900_000, "ray");
    let first_lines = |words: &[&str]| {
        let all = ["doctor", "--watch", "--every", "50s", "--root", &host, "--set", "doctor.window_seconds=0.1"];
        let mut child = sandbox
            .command(all.iter().chain(&ONLY).chain(words))
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("apm");
        let out = std::io::BufReader::new(child.stdout.take().expect("its output"));
        let lines: Vec<String> = std::io::BufRead::lines(out).map_while(Result::ok).take(2).collect();
        child.kill().and_then(|()| child.wait()).expect("ended");
        lines
    };
    let text = first_lines(&[]);
    assert!(text[0].contains("watching until Ctrl-C") && text[0].contains("everything else every 10.0s"), "{text:?}");
    assert!(text[1].contains(" raised WARN mem.available: 879 MiB of 9.5 GiB"), "{text:?}");
    let events = first_lines(&["--format", "ndjson"]);
    assert_eq!(json(&events[0])["event"], "watching");
    assert_eq!(json(&events[1])["finding"]["rule"], "mem.available");
}

#[test]
fn what_could_not_be_seen_is_named_with_the_reason_and_is_not_ok() {
    let sandbox = Sandbox::new("doctorskip");
    sandbox.file("empty/proc/uptime", "1.0 1.0\n");
    let ran = doctor(&sandbox, "empty", &[]);
    assert!(ran.stdout.starts_with("unknown: 0 rules ok, 1 skipped ("), "{}", ran.stdout);
    assert!(ran.stdout.contains("\nskipped  mem.available: empty/proc/meminfo: not there\n"), "{}", ran.stdout);
    assert!(ran.fails(3).contains("no rule could look"));
    // Without --only: what else there is says the same, and several with one reason are one line.
    let text = sandbox.apm(["doctor", "--root", "empty", "--root", "empty", "--fail-on", "never"]).stdout;
    let reasons: Vec<&str> = text.lines().filter(|line| line.contains("meminfo: not there")).collect();
    assert!(reasons.len() <= 2, "{text}");
}

#[test]
fn exit_codes_follow_what_is_asked_for() {
    let sandbox = Sandbox::new("doctorcodes");
    let calm = host(&sandbox, "calm", 9_000_000, "ray");
    let spec = host(&sandbox, "spec", 1_900_000, "ray");
    let warn = host(&sandbox, "warn", 900_000, "ray");
    let code = |host: &str, words: &[&str]| doctor(&sandbox, host, words).code.expect("a code");
    let codes = |host: &str| ["info", "warn", "crit", "never"].map(|floor| code(host, &["--fail-on", floor]));
    assert_eq!((codes(&calm), codes(&spec), codes(&warn)), ([0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]));
    assert_eq!(code(&warn, &[]), 0, "only what is critical fails where nothing else is said");
    // --strict: what could not look counts, unless there is worse.
    sandbox.file("half/proc/uptime", "1.0 1.0\n");
    assert_eq!(code(&calm, &["--strict"]), 0);
    let half = ["doctor", "--root", "half", "--root", "half", "--strict", "--fail-on", "warn"];
    assert_eq!(sandbox.apm(half).code, Some(3));
    // Nothing asked.
    assert!(doctor(&sandbox, &calm, &["--ignore", "mem.available"]).fails(4).contains("no rule was asked"));
    assert_eq!(code(&warn, &["--fail-on", "warn", "--threshold", "mem.available=5:2"]), 0);
}

#[test]
fn a_format_is_the_same_on_standard_output_and_in_a_file() {
    let sandbox = Sandbox::new("doctorformats");
    let host = host(&sandbox, "host", 900_000, "ray");
    let formats = ["json", "sarif", "junit", "github", "prometheus", "html"];
    let outputs: Vec<String> = formats.iter().map(|format| format!("{format}=out.{format}")).collect();
    let words: Vec<&str> = outputs.iter().flat_map(|output| ["-o", output]).collect();
    doctor(&sandbox, &host, &words).good();
    for format in formats {
        assert_eq!(
            doctor(&sandbox, &host, &["--format", format]).good(),
            sandbox.read(&format!("out.{format}")),
            "{format}"
        );
    }
    doctor(&sandbox, &host, &["-o", "text=out.text"]).good();
    assert!(sandbox.read("out.text").starts_with("1 warning; "));
    let twice = doctor(&sandbox, &host, &["-o", "json=-", "--format", "github"]).good();
    assert!(twice.starts_with('{') && twice.contains("\n::warning title=mem.available::"), "{twice}");
    let left: Vec<_> =
        std::fs::read_dir(sandbox.work()).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("tmp")), "{left:?}");
    let schema = json(include_str!("../../src/report/doctor/doctor.schema.json"));
    follows(&schema, &schema, &json(&sandbox.read("out.json")), "diagnosis");
    let junit = sandbox.read("out.junit");
    let document = roxmltree::Document::parse(&junit).expect("XML");
    let suites: Vec<_> = document.descendants().filter(|node| node.has_tag_name("testsuite")).collect();
    assert_eq!(suites.iter().filter_map(|suite| suite.attribute("name")).collect::<Vec<_>>(), ["memory"]);
    let failures = |floor: &str| {
        doctor(&sandbox, &host, &["--fail-on", floor, "--format", "junit"]).stdout.matches("<failure").count()
    };
    assert_eq!((failures("warn"), failures("crit")), (1, 0), "what fails is what the exit code says");
    let page = sandbox.read("out.html");
    assert!(page.contains("<svg") && !page.contains("src=") && !page.contains("http") && !page.contains("<script"));
}

#[test]
fn wrong_outputs_are_refused_before_the_look() {
    let sandbox = Sandbox::new("doctoroutputs");
    let begun = std::time::Instant::now();
    for (words, part) in [
        (["-o", "sraif=x"], "did you mean `sarif`?"),
        (["-o", "json"], "expected FORMAT=FILE"),
        (["-o", "ndjson=x"], "ndjson is the stream of --watch"),
        (["-o", "json=no/dir/x"], "No such file"),
        (["--save", "no/dir/x"], "No such file"),
    ] {
        let error = sandbox.apm(["doctor", "--duration", "50s"].iter().chain(&words)).fails(2);
        assert!(error.contains(part), "{words:?}: {error}");
    }
    let error = sandbox.apm(["doctor", "-o", "json=x", "-o", "sarif=./x"]).fails(2);
    assert!(error.contains("both go to"), "{error}");
    let error = sandbox.apm(["doctor", "-o", "json=x", "--save", "./x"]).fails(2);
    assert!(error.contains("both go to") && !sandbox.has("x"), "{error}");
    for (time, part) in [("0", "no time to look"), ("2y", "is not a duration"), ("900h", "no time to look")] {
        let error = sandbox.apm(["doctor", "--duration", time]).fails(2);
        assert!(error.contains(part), "{error}");
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(40), "nobody looked");
    // The disk is full: what else was asked for is there.
    let host = host(&sandbox, "host", 900_000, "ray");
    let ran = doctor(&sandbox, &host, &["-o", "json=/dev/full", "-o", "sarif=good.sarif"]);
    assert!(ran.stdout.starts_with("1 warning; ") && sandbox.has("good.sarif"), "{}", ran.stdout);
    assert!(ran.fails(3).contains("write `-o json=/dev/full`"));
}

/// What a process calls itself reaches no terminal, no page and no workflow as a command.
#[test]
fn names_of_processes_are_harmless_in_every_format() {
    let sandbox = Sandbox::new("doctornames");
    let names = [
        "\u{1b}]0;x\u{7}",
        "\u{1b}[2Ja",
        "<b>&\"'",
        "a\n::error::x",
        "]]>-->",
        "\u{9b}31m",
        "a) R 1 (",
        "$(kill 1)",
        "::error::x",
        "##[error]x",
        "a\u{202e}\u{2066}\u{200b}",
        "a\u{61c}\u{2028}\u{e0041}",
    ];
    for (at, name) in names.iter().enumerate() {
        let host = host(&sandbox, &format!("host{at}"), 900_000, name);
        for format in ["text", "json", "sarif", "junit", "github", "prometheus", "html"] {
            let out = doctor(&sandbox, &host, &["--format", format]).good();
            let is_hidden = |c| matches!(c, '\u{61c}' | '\u{200b}'..='\u{202e}' | '\u{2066}' | '\u{e0041}');
            let is_harmful = |c: char| (c.is_control() && c != '\n') || is_hidden(c);
            assert!(!out.chars().any(is_harmful) && !out.contains("##["), "{format} {name:?}: {out:?}");
            match format {
                "json" | "sarif" => drop(json(&out)),
                "junit" => drop(roxmltree::Document::parse(&out).expect("XML")),
                "github" => assert_eq!(out.lines().filter(|line| line.starts_with("::")).count(), 1, "{out}"),
                "html" => assert!(!out.contains("<b>&amp;") && !out.contains("]]>--><"), "{out}"),
                _ => {}
            }
        }
    }
}

fn data(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/doctor").join(name).display().to_string()
}

/// A diagnosis with everything in it, as recorded beside the tests, and one of this machine.
fn recorded_and_live(sandbox: &Sandbox, format: &str, ending: &str) -> [String; 2] {
    let live = format!("live.{ending}");
    let ran = sandbox.apm(["doctor", "--quick", "--fail-on", "never", "-o", &format!("{format}={live}")]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    [data(&format!("ill.{ending}")), sandbox.work().join(live).display().to_string()]
}

#[test]
fn json_passes_its_schema_by_a_validator_of_others() {
    if !python_with("jsonschema") {
        return;
    }
    let sandbox = Sandbox::new("doctorschema");
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/doctor/doctor.schema.json");
    let script = "import json, sys, jsonschema\nschema = json.load(open(sys.argv[1]))\njsonschema.Draft202012Validator.check_schema(schema)\nfor path in sys.argv[2:]:\n    jsonschema.validate(json.load(open(path)), schema)\n    bad = json.load(open(path)); bad['window_s'] = 'long'\n    try: jsonschema.validate(bad, schema)\n    except jsonschema.ValidationError: continue\n    sys.exit('accepts anything')\n";
    let files = recorded_and_live(&sandbox, "json", "json");
    let mut command = sandbox.program("python3", ["-c", script, &schema.display().to_string(), &files[0], &files[1]]);
    // Modules of the user's own python.
    command.env("HOME", std::env::var_os("HOME").unwrap_or_default());
    Ran::of(command).good();
    let schema = json(&std::fs::read_to_string(schema).expect("a schema"));
    for file in files {
        follows(&schema, &schema, &json(&std::fs::read_to_string(file).expect("a diagnosis")), "diagnosis");
    }
}

#[test]
fn sarif_passes_a_validator_of_others() {
    if !has_program("sarif-multitool") {
        return;
    }
    let sandbox = Sandbox::new("doctorsarif");
    sandbox.file(
        "bad.sarif",
        "{\"version\":\"2.1.0\",\"runs\":[{\"tool\":{\"driver\":{\"name\":\"x\"}},\"results\":[{\"levl\":1}]}]}",
    );
    let validate = |file: &str| {
        let mut command = sandbox.program("sarif-multitool", ["validate", file]);
        // It is a .NET program: without it, it wants libicu.
        command.env("DOTNET_SYSTEM_GLOBALIZATION_INVARIANT", "1").env("HOME", sandbox.work());
        let ran = Ran::of(command);
        assert!(ran.stdout.contains("1 files scanned"), "{}{}", ran.stdout, ran.stderr);
        ran.stdout
    };
    assert!(validate("bad.sarif").contains(": error "), "it does look");
    for file in recorded_and_live(&sandbox, "sarif", "sarif") {
        let said = validate(&file);
        // apm has no home on the web yet that it could name.
        let complaints: Vec<&str> = said
            .lines()
            .filter(|line| line.contains(": error ") || line.contains(": warning ") && !line.contains("informationUri"))
            .collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}

#[test]
fn metrics_pass_the_linter_of_prometheus() {
    let sandbox = Sandbox::new("doctorprom");
    if !has_program("promtool") {
        return;
    }
    let check = |text: &str| {
        let mut command = sandbox.program("promtool", ["check", "metrics"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("promtool");
        std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), text.as_bytes()).expect("written");
        Ran::from(child.wait_with_output().expect("its end"))
    };
    assert_ne!(check("a{b=c} 1\n").code, Some(0), "it does look");
    for file in recorded_and_live(&sandbox, "prometheus", "prom") {
        let ran = check(&std::fs::read_to_string(&file).expect("metrics"));
        assert_eq!((ran.code, ran.stdout + &ran.stderr), (Some(0), String::new()), "{file}");
    }
}

#[test]
fn a_saved_look_is_judged_like_the_machine_and_is_small() {
    let sandbox = Sandbox::new("doctorsave");
    let host = host(&sandbox, "host", 900_000, "ray");
    let live = doctor(&sandbox, &host, &["--save", "look.json", "--format", "json"]).good();
    assert!(sandbox.read("look.json").starts_with("{\"schema\":\"apm.snapshot/1\","));
    let again = |words: &[&str]| sandbox.apm(["doctor", "--from", "look.json"].iter().chain(&ONLY).chain(words));
    assert_eq!(again(&["--format", "json"]).good(), live);
    assert_eq!(again(&["--fail-on", "warn"]).code, Some(1));
    assert_eq!(again(&["--fail-on", "warn", "--threshold", "mem.available=8:4"]).code, Some(0), "judged anew");
    // Of this machine: some hundred bytes a process, and nothing of what it was started with.
    let mut command = sandbox.command(["doctor", "--quick", "--save", "this.json", "--fail-on", "never"]);
    command.env("SECRET_OF_THE_TEST", "b8e0c7f2");
    Ran::of(command).good();
    let text = sandbox.read("this.json");
    let processes = std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
        .count();
    assert!(text.len() < 200_000 + 2_000 * processes, "{} bytes for {processes} processes", text.len());
    assert!(!text.contains("b8e0c7f2") && !text.contains("--fail-on"));
    sandbox.apm(["doctor", "--from", "this.json", "--fail-on", "never"]).good();
}

#[test]
fn a_file_that_is_no_saved_look_is_refused_with_what_it_is() {
    let sandbox = Sandbox::new("doctorfrom");
    let host = host(&sandbox, "host", 900_000, "ray");
    doctor(&sandbox, &host, &["--save", "good", "-o", "json=report"]).good();
    let good = sandbox.read("good");
    sandbox.file("cut", &good[..good.len() / 2]);
    sandbox.file("newer", good.replacen("apm.snapshot/1", "apm.snapshot/7", 1));
    sandbox.file("empty", "");
    sandbox.file("binary", [0x7f, b'E', b'L', b'F', 0, 1]);
    sandbox.file("zipped", [0x1f, 0x8b, 8, 0, 0]);
    sandbox.file("deep", format!("{{\"schema\":\"apm.snapshot/1\",\"window\":{}", "{\"from\":".repeat(100_000)));
    sandbox.file("reversed", good.replacen("\"at_us\":0", "\"at_us\":9000000", 1));
    for (file, part) in [
        ("cut", "cut off after"),
        ("newer", "saved by another apm as `apm.snapshot/7`"),
        ("report", "a report, not a saved look"),
        ("empty", "an empty file"),
        ("binary", "not a saved look"),
        ("zipped", "`gunzip`"),
        ("deep", ""),
        ("reversed", "one after the other"),
        ("missing", "No such file"),
        ("host", "Is a directory"),
    ] {
        let error = sandbox.apm(["doctor", "--from", file]).fails(2);
        assert!(error.contains(part) && error.starts_with(&format!("apm: error: --from `{file}`: ")), "{error}");
    }
    for words in [["--duration", "1s"], ["--root", "host"], ["--save", "x"]] {
        sandbox.apm(["doctor", "--from", "good"].iter().chain(&words)).fails(2);
    }
}

#[test]
fn a_folder_that_is_no_machine_is_refused() {
    let sandbox = Sandbox::new("doctorroot");
    sandbox.file("etc/passwd", "").file("file", "");
    let host = host(&sandbox, "host", 900_000, "ray");
    for (root, part) in [("nowhere", "No such file"), ("etc", "has no folder `proc`"), ("file", "Not a directory")] {
        let error = sandbox.apm(["doctor", "--root", root]).fails(2);
        assert!(error.contains(part), "{error}");
    }
    let thrice = ["doctor", "--root", &host, "--root", &host, "--root", &host];
    assert!(sandbox.apm(thrice).fails(2).contains("more than twice"));
    // One copy of files is one look: it takes no time, and rates are not zero but unknown.
    let begun = std::time::Instant::now();
    let ran = sandbox.apm(["doctor", "--root", &host, "--duration", "1h"].iter().chain(&ONLY));
    assert!(ran.stderr.contains("rules about rates are skipped"), "{}", ran.stderr);
    assert!(ran.good().starts_with("1 warning; "));
    assert!(begun.elapsed() < std::time::Duration::from_secs(30));
    // A kernel's own files are looked at twice.
    let ran = sandbox.apm(["doctor", "--root", "/", "--duration", "60ms", "--format", "json", "--fail-on", "never"]);
    let seen = json(&ran.good())["window_s"].as_f64().expect("a number");
    assert!((0.06..30.0).contains(&seen), "{seen}");
}

#[test]
fn rules_are_listed_and_explained() {
    let sandbox = Sandbox::new("doctorrules");
    let list = sandbox.apm(["doctor", "--list-rules"]).good();
    assert!(
        list.contains("mem.available")
            && list.contains("warn 10%, crit 5%")
            && list.lines().all(|line| line.len() <= 80),
        "{list}"
    );
    let rules = json(&sandbox.apm(["doctor", "--list-rules", "--format", "json"]).good());
    let rules = rules.as_array().expect("a list");
    for rule in rules {
        for key in ["id", "area", "title", "source", "computation", "bad", "thresholds_from", "remedy"] {
            assert!(rule[key].as_str().is_some_and(|text| !text.is_empty()), "{key} of {rule}");
        }
        let explained = sandbox.apm(["doctor", "--explain", rule["id"].as_str().expect("an id")]).good();
        assert!(explained.contains("\nreads ") && explained.contains("\nthresholds "), "{explained}");
    }
    let memory = json(&sandbox.apm(["doctor", "memory", "--list-rules", "--format", "json"]).good());
    assert!(memory.as_array().expect("a list").iter().all(|rule| rule["area"] == "memory"));
    let changed = sandbox.apm(["doctor", "--list-rules", "--threshold", "mem.available=20:"]).good();
    assert!(
        changed.lines().any(|line| line.starts_with("mem.available") && line.trim_end().ends_with("warn 20%")),
        "{changed}"
    );
    let one = json(&sandbox.apm(["doctor", "--explain", "mem.available", "--format", "json"]).good());
    assert_eq!(
        (&one[0]["id"], &one[0]["warn"], &one[0]["crit"]),
        (&Value::from("mem.available"), &Value::from(10), &Value::from(5))
    );
    for words in [
        ["--explain", "mem.avialable"],
        ["--only", "mem.avialable"],
        ["--ignore", "mem.avialable"],
        ["--threshold", "mem.avialable=1:2"],
    ] {
        let error = sandbox.apm(["doctor"].iter().chain(&words)).fails(2);
        assert!(
            error.contains("there is no rule `mem.avialable`") && error.contains("did you mean `mem.available`?"),
            "{error}"
        );
    }
    for (text, part) in [
        ("mem.available", "expected RULE=WARN:CRIT"),
        ("mem.available=5", "expected RULE=WARN:CRIT"),
        ("mem.available=a:1", "`a` is not a number"),
        ("mem.available=nan:1", "`nan` is not a number"),
        ("mem.available=5:10", "bad below"),
    ] {
        let error = sandbox.apm(["doctor", "--threshold", text]).fails(2);
        assert!(error.contains(part), "{error}");
    }
    let error = sandbox.apm(["doctor", "--list-rules", "--format", "sarif"]).fails(2);
    assert!(error.contains("text and json"), "{error}");
}

/// What was seen until then is said, everywhere it was asked for; then apm dies of the signal.
#[test]
fn an_interrupted_look_is_reported() {
    for (name, number) in [("INT", 2), ("TERM", 15)] {
        let sandbox = Sandbox::new("doctorint");
        let mut command = sandbox.command(["doctor", "--duration", "1h", "-o", "json=out.json", "--save", "look"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("apm");
        let pid = child.id();
        let mut child = Ended(child);
        eventually("the signal is held back", || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
            blocked.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> 1 & 1 == 1)
        });
        signal(pid, name);
        let status = child.0.wait().expect("its end");
        assert_eq!(status.signal(), Some(number));
        let mut text = String::new();
        std::io::Read::read_to_string(&mut child.0.stdout.take().expect("a pipe"), &mut text).expect("text");
        let mut said = String::new();
        std::io::Read::read_to_string(&mut child.0.stderr.take().expect("a pipe"), &mut said).expect("text");
        assert!(said.contains("apm: interrupted after ") && said.contains(" of 1h 0m"), "{said}");
        assert!(text.lines().next().is_some_and(|verdict| verdict.contains(" rules ok")), "{text}");
        assert!(json(&sandbox.read("out.json"))["window_s"].as_f64().expect("a number") < 60.0);
        sandbox.apm(["doctor", "--from", "look", "--fail-on", "never"]).good();
    }
}

#[test]
fn a_terminal_gets_a_line_while_it_lasts_and_colours_where_wanted() {
    if !has_program("script") {
        return;
    }
    let sandbox = Sandbox::new("doctortty");
    let long = "doctor --only mem.available --fail-on never --duration 1.2s";
    assert!(sandbox.on_a_terminal(&[], long).contains("looking for 1.2s"));
    assert!(!sandbox.on_a_terminal(&[], &format!("{long} -q")).contains("looking"));
    assert!(!sandbox.on_a_terminal(&[("TERM", "dumb")], long).contains("looking"));
    assert!(!sandbox.on_a_terminal(&[], "doctor --quick --only mem.available --fail-on never").contains("looking"));
    let piped = sandbox.apm(long.split(' '));
    assert_eq!(piped.stderr, "", "none in a pipe");
    host(&sandbox, "host", 900_000, "日本");
    let seen = "doctor --root host --root host --only mem.available";
    let plain = |environment: &[(&str, &str)], words: &str| {
        !sandbox.on_a_terminal(environment, &format!("{seen}{words}")).contains('\u{1b}')
    };
    assert!(!plain(&[], ""));
    assert!(plain(&[("NO_COLOR", "1")], "") && plain(&[("TERM", "dumb")], "") && plain(&[], " --color never"));
    assert!(!plain(&[("NO_COLOR", "1")], " --color always"));
    for columns in ["40", "200"] {
        let text = sandbox.on_a_terminal(&[("COLUMNS", columns), ("NO_COLOR", "1")], seen);
        let width: usize = columns.parse().expect("a number");
        let widest = text.lines().map(|line| line.trim_end().chars().count()).max().expect("lines");
        assert!(widest <= width && widest > width / 2, "{widest}\n{text}");
    }
}
