//! What test runners write: JUnit XML, and the JSON of jest and go test.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use roxmltree::{Document, Node, ParsingOptions};
use serde_json::Value;

use crate::model::finding::{Finding, Results, Severity, Test, TestStatus};
use crate::model::raw::Raw;
use crate::sys::beneath;
use crate::workflow::qa::parse::distinct::{Distinct, finding};
use crate::workflow::qa::parse::offline::offline;
use crate::workflow::qa::parse::printed::{Printed, Read, json, json_lines, text};
use crate::workflow::qa::parse::summary;

/// Longest message kept of a test.
const MESSAGE_MAX: usize = 16 << 10;
/// Largest file of results that is read.
const WRITTEN_MAX: u64 = 256 << 20;
/// Longest name kept of a suite: each of its tests has it too.
const SUITE_MAX: usize = 4 << 10;
/// Attributes of an element, and declarations of namespaces of a document, that are read; runners write about ten. The parser
/// compares each with each.
const ATTRIBUTES_MAX: usize = 256;
const NAMESPACES_MAX: usize = 256;

fn read_file(written: Option<&Path>, name: &str) -> Result<Vec<u8>, String> {
    let path = written.ok_or("it has no folder for its results")?.join(name);
    beneath::read(&path, WRITTEN_MAX).map_err(|error| format!("`{name}`: {error}"))
}

/// The exit code of ctest that says that a test failed.
const CTEST_FAILED: i32 = 8;

/// JUnit XML, written to `junit.xml` or a folder of such files.
pub(super) fn junit(printed: &Printed<'_>) -> Read {
    let bytes = read_file(printed.written, "junit.xml")?;
    let mut results = parse_junit(&text(&bytes), printed.code)?;
    let is_file = |test: &&mut Test| {
        let message = test.message.unescaped();
        message.contains("ERR_TEST_FAILURE") && message.contains("exitCode: ")
    };
    for test in results.tests.iter_mut().filter(is_file) {
        if let Some(why) = printed_by_node(&text(printed.stdout), test.name.unescaped()) {
            test.message = bounded(why);
        }
    }
    Ok(results)
}

/// What the process of a test file printed before node's `spec` reporter says that the file failed as a whole: its JUnit
/// reporter says nothing else than that.
fn printed_by_node(stdout: &str, file: &str) -> Option<String> {
    let lines: Vec<&str> = stdout.lines().collect();
    let is_end = |line: &&str| line.strip_prefix("\u{2716} ").is_some_and(|rest| rest.starts_with(file));
    let end = lines.iter().position(is_end)?;
    let is_of_another = |line: &&str| line.starts_with(['\u{2714}', '\u{2716}', '\u{25b6}', '\u{2139}']);
    let start = lines[..end].iter().rposition(is_of_another).map_or(0, |at| at + 1);
    let own = lines[start..end].join("\n").trim().to_owned();
    (!own.is_empty()).then_some(own)
}

/// Tests that a target of the project runs: JUnit XML where its runner could be told to write it, else the summary that the
/// runner printed.
pub(super) fn target(printed: &Printed<'_>) -> Read {
    let mut results = Results::default();
    for name in junit_files(printed.written) {
        // One that is cut off belongs to a runner that was ended, of which the rest tells.
        let read = read_file(printed.written, &name).and_then(|bytes| parse_junit(&text(&bytes), printed.code));
        results.tests.extend(read.unwrap_or_default().tests);
    }
    if results.tests.is_empty() {
        let streams = [printed.stdout, printed.stderr].map(summary::of);
        streams.iter().flatten().for_each(|counts| results.summary.add(counts));
    }
    Ok(results)
}

/// The files of JUnit XML in a folder of results.
fn junit_files(written: Option<&Path>) -> Vec<String> {
    let entries = written.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".xml")).collect();
    names.sort_unstable();
    names
}

fn parse_junit(xml: &str, code: Option<i32>) -> Read {
    // What XML forbids is printed by tests all the same.
    let clean: String = xml.chars().filter(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r')).collect();
    if !has_few_attributes(&clean) {
        return Err(format!("not JUnit XML: an element has more than {ATTRIBUTES_MAX} attributes"));
    }
    let options = ParsingOptions { allow_dtd: false, nodes_limit: 10_000_000, ..ParsingOptions::default() };
    let document = Document::parse_with_options(&clean, options).map_err(|error| format!("not JUnit XML: {error}"))?;
    let mut results = Results::default();
    for case in document.descendants().filter(|node| node.has_tag_name("testcase")) {
        results.tests.push(case_of(&case, code));
    }
    Ok(results)
}

/// Whether no element has many attributes, and few of them declare namespaces. What stands between elements does not count.
fn has_few_attributes(xml: &str) -> bool {
    let mut namespaces = 0;
    let mut rest = xml;
    while let Some(start) = rest.find('<') {
        rest = &rest[start..];
        let ends = [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>")];
        let length = match ends.into_iter().find(|(start, _)| rest.starts_with(start)) {
            Some((_, end)) => rest.find(end).map(|at| at + end.len()),
            None => {
                let (mut quote, mut quotes) = (None, 0);
                let end = rest.bytes().position(|byte| {
                    match (quote, byte) {
                        (None, b'"' | b'\'') => (quote, quotes) = (Some(byte), quotes + 1),
                        (Some(open), byte) if open == byte => quote = None,
                        _ => {}
                    }
                    quote.is_none() && byte == b'>'
                });
                let element = &rest[..end.unwrap_or(rest.len())];
                namespaces += element.matches("xmlns").count();
                if quotes > ATTRIBUTES_MAX || namespaces > NAMESPACES_MAX {
                    return false;
                }
                end
            }
        };
        let Some(length) = length else { break };
        rest = &rest[length..];
    }
    true
}

fn case_of(case: &Node<'_, '_>, code: Option<i32>) -> Test {
    let attribute = |name: &str| case.attribute(name).unwrap_or_default().to_owned();
    let suite = match case.attribute("classname").filter(|name| !name.is_empty()) {
        Some(class) => class.to_owned(),
        None => case.parent().and_then(|suite| suite.attribute("name")).unwrap_or_default().to_owned(),
    };
    let end =
        case.children().find(|child| ["failure", "error", "skipped"].iter().any(|name| child.has_tag_name(*name)));
    // ctest writes what it could not start as skipped, as it does what asked to be skipped, and counts it as failed.
    let asked = end.and_then(|end| end.attribute("message")).is_some_and(|message| message.starts_with("SKIP_"));
    let status = match end.map(|end| end.tag_name().name()) {
        Some("skipped") if attribute("status") == "notrun" && code == Some(CTEST_FAILED) && !asked => {
            TestStatus::Failed
        }
        None if matches!(attribute("status").as_str(), "disabled" | "notrun") => TestStatus::Skipped,
        None => TestStatus::Passed,
        Some("failure") => TestStatus::Failed,
        Some("error") => TestStatus::Error,
        Some(_) => TestStatus::Skipped,
    };
    let mut message = String::new();
    if let Some(end) = end {
        message = end.text().unwrap_or_default().trim().to_owned();
        let short = end.attribute("message").unwrap_or_default();
        // XML makes blanks of the line breaks of an attribute.
        let dense = |text: &str| text.split_whitespace().collect::<String>();
        if message.is_empty() || (!short.is_empty() && !dense(&message).contains(&dense(short))) {
            message = format!("{short}\n{message}").trim().to_owned();
        }
    }
    let seconds = case.attribute("time").and_then(|time| time.replace(',', "").parse::<f64>().ok());
    let duration = seconds.filter(|s| (0.0..1e9).contains(s)).map(Duration::from_secs_f64);
    Test {
        suite: self::suite(suite).into(),
        name: attribute("name").into(),
        status,
        duration,
        message: bounded(message),
    }
}

/// The start and the end of a message: some runners begin with the reason, others end with it.
fn bounded(message: String) -> Raw {
    if message.len() <= MESSAGE_MAX {
        return message.into();
    }
    let start = message.floor_char_boundary(MESSAGE_MAX / 2);
    let end = message.ceil_char_boundary(message.len() - MESSAGE_MAX / 2);
    format!("{}\n...\n{}", &message[..start], &message[end..]).into()
}

fn bounded_to(max: usize, mut text: String) -> String {
    text.truncate(text.floor_char_boundary(max));
    text
}

/// The name of a suite that many tests share.
pub(super) fn suite(name: String) -> String {
    bounded_to(SUITE_MAX, name)
}

/// `jest --json`.
pub(super) fn jest(printed: &Printed<'_>) -> Read {
    let report: Value = json(&read_file(printed.written, "jest.json")?)?;
    let mut results = Results::default();
    let files = report.get("testResults").and_then(Value::as_array).ok_or("no `testResults` in it")?;
    for file in files {
        let name = file.get("name").and_then(Value::as_str).unwrap_or_default();
        let suite = Raw::from(suite(printed.place.file(name)));
        let cases = file.get("assertionResults").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if cases.is_empty() && file.get("status").and_then(Value::as_str) == Some("failed") {
            let message = file.get("message").and_then(Value::as_str).unwrap_or_default();
            results.tests.push(Test {
                suite: suite.clone(),
                name: "(the file)".into(),
                status: TestStatus::Error,
                duration: None,
                message: bounded(message.to_owned()),
            });
        }
        for case in cases {
            let string = |key: &str| case.get(key).and_then(Value::as_str).unwrap_or_default();
            let messages = case.get("failureMessages").and_then(Value::as_array);
            let messages: Vec<&str> = messages.into_iter().flatten().filter_map(Value::as_str).collect();
            results.tests.push(Test {
                suite: suite.clone(),
                name: string("fullName").into(),
                status: match string("status") {
                    "passed" => TestStatus::Passed,
                    "failed" => TestStatus::Failed,
                    _ => TestStatus::Skipped,
                },
                duration: case.get("duration").and_then(Value::as_u64).map(Duration::from_millis),
                message: bounded(messages.join("\n")),
            });
        }
    }
    Ok(results)
}

/// `go test -json`: one event a line; the output of a test is the message of a failed one. What the compiler says is an
/// event too since Go 1.24, before it stood on standard error.
pub(super) fn go(printed: &Printed<'_>) -> Read {
    let mut results = Results::default();
    let mut outputs: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut builds: BTreeMap<String, String> = BTreeMap::new();
    let mut failed: HashSet<String> = HashSet::new();
    let mut seen = false;
    let mut unfetched: Vec<(Test, String)> = Vec::new();
    let stderr = text(printed.stderr);
    let unfetched_before = stderr.lines().find(|line| is_unfetched(line));
    for event in json_lines(printed.stdout) {
        let string = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (package, test, action) = (string("Package"), string("Test"), string("Action"));
        seen |= !action.is_empty();
        let key = (package.clone(), test.clone());
        let status = match action.as_str() {
            "output" => {
                let said = string("Output");
                // What the runner says of the test, not the test of itself.
                let is_frame = ["=== ", "--- FAIL: ", "--- SKIP: ", "--- PASS: "]
                    .iter()
                    .any(|start| said.trim_start().starts_with(start));
                if !is_frame || key.1.is_empty() {
                    add_bounded(outputs.entry(key).or_default(), &said);
                }
                continue;
            }
            "build-output" => {
                add_bounded(builds.entry(string("ImportPath")).or_default(), &string("Output"));
                continue;
            }
            "pass" => TestStatus::Passed,
            "fail" => TestStatus::Failed,
            "skip" => TestStatus::Skipped,
            _ => continue,
        };
        let output = outputs.remove(&key).unwrap_or_default();
        if test.is_empty() {
            // A package that failed without a failed test did not build, or panicked outside of its tests.
            if status == TestStatus::Failed && !failed.contains(&package) {
                let name = "(the package)".into();
                // Several packages may fail by the build of one that they import.
                let build = builds.get(&string("FailedBuild")).map_or("", String::as_str);
                let message = format!("{build}{output}");
                let is_setup = message.trim().is_empty() || message.contains("[setup failed]");
                let said = message.lines().find(|line| is_setup && is_unfetched(line));
                let fetches = said.or(unfetched_before.filter(|_| is_setup)).map(str::to_owned);
                // One byte more tells that it is cut.
                let before = || stderr[..stderr.floor_char_boundary(MESSAGE_MAX + 4)].to_owned();
                let message = if message.trim().is_empty() { before() } else { message };
                let status = TestStatus::Error;
                let test = Test { suite: package.into(), name, status, duration: None, message: bounded(message) };
                match fetches {
                    Some(line) => unfetched.push((test, line)),
                    None => results.tests.push(test),
                }
            }
            continue;
        }
        if status == TestStatus::Failed {
            failed.insert(package.clone());
        }
        let seconds = event.get("Elapsed").and_then(Value::as_f64).filter(|s| (0.0..1e9).contains(s));
        results.tests.push(Test {
            suite: package.into(),
            name: test.into(),
            status,
            duration: seconds.map(Duration::from_secs_f64),
            message: if status == TestStatus::Passed { Raw::default() } else { bounded(output) },
        });
    }
    let mut errors = Distinct::default();
    let said = builds.values().map(String::as_str).chain([&*stderr]).flat_map(str::lines);
    said.filter_map(|line| go_place(line, printed)).for_each(|found| errors.push(found));
    results.findings = errors.findings;
    // With a failure that has nothing to do with the network the verdict is clear.
    let fails = |test: &Test| matches!(test.status, TestStatus::Failed | TestStatus::Error);
    if results.findings.is_empty()
        && !results.tests.iter().any(fails)
        && let Some((_, line)) = unfetched.first()
    {
        return Err(line.clone());
    }
    results.tests.extend(unfetched.into_iter().map(|(test, _)| test));
    if seen || !results.findings.is_empty() { Ok(results) } else { Err("no test event".to_owned()) }
}

/// Adds to an output of which the start is kept, and the end where that is longer than twice the bound.
fn add_bounded(output: &mut String, more: &str) {
    output.push_str(more);
    if output.len() > 4 * MESSAGE_MAX {
        let start = output.floor_char_boundary(MESSAGE_MAX / 2);
        let end = output.ceil_char_boundary(output.len() - MESSAGE_MAX);
        output.replace_range(start..end, "\n...\n");
    }
}

/// Whether a line says that a module could not be fetched: it has the place of the import, and nothing is wrong there.
fn is_unfetched(line: &str) -> bool {
    line.contains(": Get \"http") && offline(&line.to_lowercase())
}

/// `./a.go:3:5: undefined: x`, as the compiler prints it.
pub(super) fn go_place(line: &str, printed: &Printed<'_>) -> Option<Finding> {
    let line = line.strip_prefix("vet: ").unwrap_or(line);
    if is_unfetched(line) {
        return None;
    }
    let (file, rest) = line.split_once(".go:").filter(|(file, _)| !file.contains('"'))?;
    let (number, rest) = rest.split_once(':')?;
    let (column, message) = match rest.split_once(": ") {
        Some((column, message)) if column.parse::<u32>().is_ok() => (column.parse().ok()?, message),
        _ => (0, rest),
    };
    Some(Finding {
        file: printed.place.file(&format!("{file}.go")).into(),
        line: number.parse().ok()?,
        column,
        ..finding(Severity::Error, "compile", message)
    })
}

#[cfg(test)]
mod cases {
    use super::{has_few_attributes, parse_junit};
    use crate::model::finding::TestStatus;

    /// Regression: a megabyte of attributes took the parser half a minute, and ten an hour.
    #[test]
    fn an_element_has_few_attributes() {
        let attributes = |count: usize, end: &str| {
            let all: String = (0..count).map(|at| format!(" a{at}='{end}\"'")).collect();
            format!("<testsuite><testcase{all}/></testsuite>")
        };
        assert!(parse_junit(&attributes(200, ">"), None).is_ok_and(|results| results.tests.len() == 1));
        let refused = parse_junit(&attributes(300, ">"), None).expect_err("refused");
        assert_eq!(refused, "not JUnit XML: an element has more than 256 attributes");
        let namespaces: String = (0..300).map(|at| format!("<a xmlns:a{at}='u'>")).collect();
        assert!(!has_few_attributes(&namespaces));
        // Between elements all of it is text.
        let text = "a='b' xmlns:c='d' ".repeat(300);
        let between = format!("<?{text}?><!--<a {text}--><testcase><![CDATA[<a {text}]]>{text}</testcase>");
        assert!(has_few_attributes(&between) && parse_junit(&between, None).is_ok());
    }

    #[test]
    fn junit_in_the_dialects_of_pytest_and_node() {
        let xml = "<?xml version=\"1.0\"?><testsuites><testsuite name=\"s\"><testcase classname=\"c\" name=\"a\" time=\"0.5\"/>\
            <testcase name=\"b\"><failure message=\"short\">long \u{1} text</failure></testcase>\
            <testcase classname=\"c\" name=\"d\"><skipped message=\"why\"/></testcase></testsuite></testsuites>";
        let tests = parse_junit(xml, None).expect("readable").tests;
        let shown: Vec<(&str, &str, TestStatus, &str)> =
            tests.iter().map(|t| (t.suite.as_ref(), t.name.as_ref(), t.status, t.message.as_ref())).collect();
        assert_eq!(
            shown,
            [
                ("c", "a", TestStatus::Passed, ""),
                ("s", "b", TestStatus::Failed, "short\nlong  text"),
                ("c", "d", TestStatus::Skipped, "why")
            ]
        );
        let name = "ä".repeat(1 << 20);
        let shared = parse_junit(&format!("<testsuite name='{name}'><testcase/><testcase/></testsuite>"), None);
        assert_eq!(shared.expect("readable").tests[1].suite.unescaped(), &name[..4 << 10]);
        assert!(parse_junit("<a>", None).is_err());
        assert!(parse_junit("<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>", None).is_err());
    }
}
