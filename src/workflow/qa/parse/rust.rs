//! What cargo and its tools print.

use std::collections::HashMap;

use serde_json::Value;

use crate::model::finding::{Finding, Results, Severity, Test, TestStatus};
use crate::model::raw::Raw;
use crate::workflow::qa::parse::distinct::{Distinct, finding};
use crate::workflow::qa::parse::printed::{Printed, Read, json, json_lines, text};
use crate::workflow::qa::parse::tests::{self, junit};

fn string<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, key: &str) -> u32 {
    value.get(key).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
}

fn of(distinct: Distinct) -> Read {
    Ok(Results { findings: distinct.findings, ..Results::default() })
}

/// `--message-format=json` of clippy, build and doc. The same finding in the library and its tests counts once.
pub(super) fn messages(printed: &Printed<'_>) -> Read {
    let mut results = Distinct::default();
    let mut finished = false;
    for line in json_lines(printed.stdout) {
        finished |= string(&line, "reason") == "build-finished";
        let Some(message) = line.get("message").filter(|_| string(&line, "reason") == "compiler-message") else {
            continue;
        };
        let severity = match string(message, "level") {
            "error" | "error: internal compiler error" => Severity::Error,
            "warning" => Severity::Warning,
            // Notes and `failure-note`s explain others.
            _ => continue,
        };
        let code = message.get("code").map_or("", |code| string(code, "code"));
        let spans = message.get("spans").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let Some(span) = spans.iter().find(|span| span.get("is_primary") == Some(&Value::Bool(true))) else {
            // "aborting due to 2 previous errors", "3 warnings emitted".
            if code.is_empty() {
                continue;
            }
            results.push(finding(severity, code, string(message, "message")));
            continue;
        };
        let found = Finding {
            file: printed.place.file(string(span, "file_name")).into(),
            line: number(span, "line_start"),
            column: number(span, "column_start"),
            line_end: number(span, "line_end"),
            column_end: number(span, "column_end"),
            url: code.strip_prefix("clippy::").map(clippy_url).unwrap_or_default().into(),
            ..finding(severity, code, string(message, "message"))
        };
        results.push(found);
    }
    if finished { of(results) } else { Err("cargo broke off before the build".to_owned()) }
}

fn clippy_url(lint: &str) -> String {
    format!("https://rust-lang.github.io/rust-clippy/master/index.html#{lint}")
}

/// The text of `cargo test`. Which binary a section belongs to stands on the other stream, in the same order.
pub(super) fn tests(printed: &Printed<'_>) -> Read {
    let stdout = text(printed.stdout);
    let stderr = text(printed.stderr);
    let suites: Vec<String> = stderr.lines().filter_map(suite).map(tests::suite).collect();
    let sections = stdout.lines().filter(|line| is_section(line)).count();
    let named = suites.len() == sections;
    let mut results = Results::default();
    let mut section = 0;
    let mut current = String::new();
    let mut names: HashMap<Raw, usize> = HashMap::new();
    let mut messages: HashMap<usize, String> = HashMap::new();
    let mut in_failure: Option<usize> = None;
    for line in stdout.lines() {
        if is_section(line) {
            current = suites.get(section).filter(|_| named).cloned().unwrap_or_default();
            section += 1;
            names.clear();
            in_failure = None;
        } else if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            in_failure = names.get(&Raw::from(name)).copied();
        } else if line == "failures:" || line.starts_with("test result:") {
            in_failure = None;
        } else if let Some(at) = in_failure {
            let message = messages.entry(at).or_default();
            message.push_str(line);
            message.push('\n');
        } else if let Some(test) = test(line, &current) {
            names.entry(test.name.clone()).or_insert(results.tests.len());
            results.tests.push(test);
        }
    }
    for (at, message) in messages {
        results.tests[at].message = message.trim_end().into();
    }
    if sections == 0 {
        return compile_errors(&stderr, printed);
    }
    Ok(results)
}

/// The JUnit XML of nextest. There is none where the build failed; the errors stand on standard error then.
pub(super) fn nextest(printed: &Printed<'_>) -> Read {
    junit(printed).or_else(|missing| {
        let built = compile_errors(&text(printed.stderr), printed)?;
        if built.findings.is_empty() { Err(missing) } else { Ok(built) }
    })
}

fn is_section(line: &str) -> bool {
    let count =
        line.strip_prefix("running ").and_then(|rest| rest.strip_suffix(" tests").or(rest.strip_suffix(" test")));
    count.is_some_and(|count| count.parse::<u64>().is_ok())
}

/// `Running unittests src/lib.rs (target/debug/deps/name-0a1b)`, `Running tests/it.rs (...)`, `Doc-tests name`.
fn suite(line: &str) -> Option<String> {
    let line = line.trim();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{name} (doc)"));
    }
    let inside = line.strip_prefix("Running ")?.rsplit_once('(')?.1.strip_suffix(')')?;
    let binary = inside.rsplit('/').next()?;
    Some(binary.rsplit_once('-').map_or(binary, |(name, _)| name).to_owned())
}

fn test(line: &str, suite: &str) -> Option<Test> {
    let (name, end) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let (status, message) = match end {
        "ok" => (TestStatus::Passed, ""),
        "FAILED" => (TestStatus::Failed, ""),
        "ignored" => (TestStatus::Skipped, ""),
        end => (TestStatus::Skipped, end.strip_prefix("ignored, ")?),
    };
    let name = name.strip_suffix(" - should panic").unwrap_or(name);
    Some(Test { suite: suite.into(), name: name.into(), status, duration: None, message: message.into() })
}

/// `error[E0308]: text` and the `--> file:1:2` below it.
fn compile_errors(stderr: &str, printed: &Printed<'_>) -> Read {
    let mut results = Distinct::default();
    let lines: Vec<&str> = stderr.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let Some(rest) = line.strip_prefix("error") else { continue };
        let (code, message) = match rest.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
            Some((code, message)) => (code, message),
            None => match rest.strip_prefix(": ") {
                Some(message) => ("", message),
                None => continue,
            },
        };
        let place = lines.get(at + 1).and_then(|next| next.trim_start().strip_prefix("--> "));
        let Some((file, line, column)) = place.and_then(split_place) else { continue };
        let file = printed.place.file(file).into();
        results.push(Finding { file, line, column, ..finding(Severity::Error, code, message) });
    }
    // `Compiling thiserror` is no error.
    if results.findings.is_empty() && lines.iter().any(|line| line.starts_with("error")) {
        return Err("no test ran".to_owned());
    }
    of(results)
}

/// `file:1:2`.
fn split_place(text: &str) -> Option<(&str, u32, u32)> {
    let (rest, column) = text.rsplit_once(':')?;
    let (file, line) = rest.rsplit_once(':')?;
    Some((file, line.parse().ok()?, column.parse().ok()?))
}

/// `cargo deny --format json`: diagnostics on standard error.
pub(super) fn deny(printed: &Printed<'_>) -> Read {
    let mut results = Distinct::default();
    let mut summary = false;
    for line in json_lines(printed.stderr) {
        summary |= string(&line, "type") == "summary";
        let Some(fields) = line.get("fields").filter(|_| string(&line, "type") == "diagnostic") else { continue };
        let severity = match string(fields, "severity") {
            "error" => Severity::Error,
            "warning" => Severity::Warning,
            _ => Severity::Note,
        };
        let advisory = fields.get("advisory").map_or("", |advisory| string(advisory, "id"));
        let rule = if advisory.is_empty() { string(fields, "code") } else { advisory };
        results.push(Finding {
            file: printed.place.file("Cargo.toml").into(),
            ..finding(severity, rule, string(fields, "message"))
        });
    }
    if summary { of(results) } else { Err("cargo deny broke off".to_owned()) }
}

/// `cargo audit --json`.
pub(super) fn audit(printed: &Printed<'_>) -> Read {
    let report: Value = json(printed.stdout)?;
    let list = report.get("vulnerabilities").and_then(|all| all.get("list")).and_then(Value::as_array);
    let mut results = Distinct::default();
    let mut add = |entry: &Value, severity: Severity| {
        let empty = Value::Null;
        let advisory = entry.get("advisory").unwrap_or(&empty);
        let package = entry.get("package").unwrap_or(&empty);
        let message =
            format!("{} {}: {}", string(package, "name"), string(package, "version"), string(advisory, "title"));
        let url = string(advisory, "url").into();
        let file = printed.place.file("Cargo.lock").into();
        results.push(Finding { file, url, ..finding(severity, string(advisory, "id"), &message) });
    };
    list.ok_or("no `vulnerabilities` in it")?.iter().for_each(|entry| add(entry, Severity::Error));
    let warnings = report.get("warnings").and_then(Value::as_object);
    for entry in warnings.into_iter().flat_map(|kinds| kinds.values()).filter_map(Value::as_array).flatten() {
        add(entry, Severity::Warning);
    }
    of(results)
}
