//! Judges what became of a check by what was read of it and by its exit code, never by the exit code alone: a code that
//! means "found something" without anything found is a broken tool, and so is output that cannot be read.

use std::path::Path;

use regex_automata::meta::Regex;

use crate::model::event::Exit;
use crate::model::finding::{Finding, Results, Severity};
use crate::model::outcome::{Cause, Outcome};
use crate::model::raw::Raw;
use crate::model::task::{Category, Check, Skip, Task};
use crate::text::transcript;
use crate::workflow::qa::parse::Parser;
use crate::workflow::qa::parse::offline::offline;
use crate::workflow::qa::parse::printed::{Place, Printed};
use crate::workflow::qa::project::Toolchain;
use crate::workflow::qa::tools;

/// What is made of an attempt of a check.
#[derive(Debug)]
pub(crate) struct Judgement {
    pub(crate) outcome: Outcome,
    pub(crate) results: Results,
}

/// Judges an attempt.
pub(crate) fn judge(
    task: &Task,
    exit: Exit,
    stdout: &[u8],
    stderr: &[u8],
    written: Option<&Path>,
    root: &Path,
) -> Judgement {
    let Some(check) = &task.check else { return Judgement { outcome: exit.outcome(), results: Results::default() } };
    let code = match exit {
        Exit::Code(code) => Some(code),
        Exit::Signal(_) => None,
    };
    let printed = Printed { code, stdout, stderr, written, place: Place { root, dir: &check.root } };
    let parser = Parser::of(&check.parser).unwrap_or(Parser::Exit);
    let code = match exit {
        Exit::Code(code) => code,
        Exit::Signal(_) => {
            // What it printed before it died is still worth reading.
            let results = parser.read(&printed).unwrap_or_default();
            return Judgement { outcome: exit.outcome(), results };
        }
    };
    let tool = tools::find(&check.tool);
    match parser {
        Parser::Exit => {
            let outcome = match tool {
                Some(tool) if tool.found.contains(&code) => exit.outcome(),
                Some(_) if code != 0 => gap(check, code, &printed),
                _ => opaque(check, exit, &printed),
            };
            return Judgement { outcome, results: Results::default() };
        }
        Parser::Target => {
            let results = parser.read(&printed).unwrap_or_default();
            let counts = results.counts();
            let outcome = match opaque(check, exit, &printed) {
                // How many failed says more than the code.
                Outcome::Failed { .. } | Outcome::Skipped { .. } if counts.tests_failed > 0 => {
                    let cause = Cause::Results { tests_failed: counts.tests_failed, findings: 0 };
                    Outcome::Failed { cause }
                }
                // Tests that ran have their own reasons to speak of the network.
                Outcome::Skipped { .. } if counts.tests() > 0 => exit.outcome(),
                outcome => outcome,
            };
            return Judgement { outcome, results };
        }
        Parser::Fixer => {
            // 1 is what pre-commit says when it has changed something.
            let fine = code == 0 || tool.map_or(code == 1, |tool| tool.found.contains(&code));
            let offline = || tool.is_none().then(|| target_offline(check, &printed)).flatten();
            let outcome = if fine { Outcome::Passed } else { offline().unwrap_or_else(|| broken(code, &printed)) };
            return Judgement { outcome, results: Results::default() };
        }
        _ => {}
    }
    if code != 0
        && let Some(finding) = stale_lock(check, &printed)
    {
        let results = Results { findings: vec![finding], ..Results::default() };
        let cause = Cause::Results { tests_failed: 0, findings: 1 };
        return Judgement { outcome: Outcome::Failed { cause }, results };
    }
    let read = parser.read(&printed);
    let empty = |results: &Results| results.counts().tests() == 0 && results.findings.is_empty();
    let says_found = tool.is_none_or(|tool| tool.found.contains(&code));
    if tool.is_some_and(|tool| tool.nothing.contains(&code)) && read.as_ref().map_or(code != 0, empty) {
        let detail = "it found nothing to look at".into();
        let outcome = Outcome::Skipped { reason: Skip::NothingToDo { detail } };
        return Judgement { outcome, results: Results::default() };
    }
    let (read, has_left_out) = match read {
        Ok(mut results) => {
            let has_left_out = leave_out(check, &mut results);
            (Ok(results), has_left_out)
        }
        Err(why) => (Err(why), false),
    };
    match read {
        // All that it found is in files that the project leaves out.
        Ok(results) if has_left_out && says_found && empty(&results) => Judgement { outcome: Outcome::Passed, results },
        Ok(results) if code != 0 && empty(&results) => Judgement { outcome: gap(check, code, &printed), results },
        Ok(results) => {
            let outcome = verdict(&results, code, says_found, check.strict);
            // Its own code for something else than findings, with findings: both are said.
            match outcome {
                Outcome::Passed if code != 0 && !says_found => Judgement { outcome: broken(code, &printed), results },
                outcome => Judgement { outcome, results },
            }
        }
        Err(_) if code != 0 => Judgement { outcome: gap(check, code, &printed), results: Results::default() },
        Err(why) => {
            let error = format!("its output cannot be read: {why}");
            Judgement { outcome: Outcome::Broken { error: error.into() }, results: Results::default() }
        }
    }
}

/// Drops findings in files that the project leaves out; says whether there were any.
fn leave_out(check: &Check, results: &mut Results) -> bool {
    if check.exclude.is_empty() && check.files.is_empty() {
        return false;
    }
    // The planner has said which ones cannot be compiled.
    let compiled =
        |patterns: &[String]| -> Vec<Regex> { patterns.iter().filter_map(|text| Regex::new(text).ok()).collect() };
    let (exclude, files) = (compiled(&check.exclude), compiled(&check.files));
    let before = results.findings.len();
    results.findings.retain(|finding| {
        let file = finding.file.unescaped();
        file.is_empty() || !exclude.iter().any(|one| one.is_match(file)) && files.iter().all(|one| one.is_match(file))
    });
    results.findings.len() < before
}

/// What cargo says where Cargo.lock does not fit Cargo.toml: no check writes over a file that is committed.
fn stale_lock(check: &Check, printed: &Printed<'_>) -> Option<Finding> {
    let said = String::from_utf8_lossy(printed.stderr);
    let is_stale = |line: &&str| {
        line.starts_with("error: ") && line.contains("Cargo.lock") && line.contains("--locked was passed")
    };
    (tools::find(&check.tool)?.toolchain == Toolchain::Rust && said.lines().any(|line| is_stale(&line))).then(|| {
        Finding {
            rule: "stale-lock-file".into(),
            severity: Severity::Error,
            message: "Cargo.lock does not fit Cargo.toml; `cargo update --workspace` writes it anew".into(),
            file: printed.place.file("Cargo.lock").into(),
            line: 0,
            column: 0,
            line_end: 0,
            column_end: 0,
            url: Raw::default(),
        }
    })
}

/// A target of the project: only its exit code speaks, unless its last words say that it came to no verdict.
fn opaque(check: &Check, exit: Exit, printed: &Printed<'_>) -> Outcome {
    match exit {
        Exit::Code(0) | Exit::Signal(_) => exit.outcome(),
        Exit::Code(127) => Outcome::Broken { error: format!("exit code 127: {}", last_line(printed)).into() },
        Exit::Code(2)
            if check.tool == "make"
                && let Some(line) = missing_program(printed) =>
        {
            Outcome::Broken { error: format!("a program is missing: {line}").into() }
        }
        // The test script of a package ends with 1 there, also where the shell says 127.
        Exit::Code(1)
            if check.tool == "pnpm"
                && let Some(line) = last_words(printed, 4).iter().find(|line| from_shell(line)) =>
        {
            Outcome::Broken { error: format!("a program is missing: {}", short(line)).into() }
        }
        exit => target_offline(check, printed).unwrap_or_else(|| exit.outcome()),
    }
}

/// Lines at the end of a target's output by which it is judged.
const LAST_WORDS: usize = 30;

/// The last lines of both streams.
fn last_words(printed: &Printed<'_>, count: usize) -> Vec<String> {
    let last = |bytes: &[u8]| {
        let text = transcript::clean(bytes);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(count)..].iter().map(|line| (*line).to_owned()).collect::<Vec<_>>()
    };
    [printed.stdout, printed.stderr].into_iter().flat_map(last).collect()
}

/// Whether a shell says that it finds a program nowhere.
fn from_shell(line: &str) -> bool {
    let is_shell =
        line.split(": ").next().is_some_and(|shell| matches!(shell, "sh" | "/bin/sh" | "bash" | "/bin/bash"));
    is_shell && (line.ends_with(": not found") || line.ends_with(": command not found"))
}

/// What make says where a recipe calls what is not there: its own exit code is 2 as for a recipe that failed.
fn missing_program(printed: &Printed<'_>) -> Option<String> {
    // The shell's line and make's own, one more for each make that called another.
    let lines = last_words(printed, 4);
    let from_make = |line: &str| line.starts_with("make: ") || line.starts_with("make[");
    let by_shell = |line: &&String| line.ends_with("command not found") || line.ends_with(": not found");
    let by_make = |line: &&String| from_make(line) && line.ends_with(": No such file or directory");
    let by_code = |line: &&String| from_make(line) && line.ends_with(" Error 127");
    let code = lines.iter().find(by_code)?;
    let named = lines.iter().find(by_make).or_else(|| lines.iter().find(by_shell));
    Some(short(named.unwrap_or(code)))
}

/// A target that says at its end that there is no network.
fn target_offline(check: &Check, printed: &Printed<'_>) -> Option<Outcome> {
    let lines: Vec<String> = last_words(printed, LAST_WORDS).iter().map(|line| line.to_lowercase()).collect();
    let is_tests = check.category == Category::Tests;
    // Tests that ran have their own reasons to print such a line.
    if is_tests && lines.iter().any(|line| tests_ran(line)) {
        return None;
    }
    let line = lines.iter().find(|line| offline(line) && (!is_tests || from_fetcher(line)))?;
    let detail = format!("in the last {LAST_WORDS} lines: {}", short(line));
    Some(Outcome::Skipped { reason: Skip::Offline { detail: detail.into() } })
}

/// Whether a line comes from what fetches packages and sources, not from a test.
fn from_fetcher(line: &str) -> bool {
    const FETCHERS: [&str; 12] = [
        "npm err",
        "npm error",
        "curl:",
        "wget:",
        "pip._vendor",
        "warning: retrying",
        "error: could not install packages",
        "fatal: unable to access",
        "go: ",
        "err:",
        "e: ",
        "[6] could not resolve host",
    ];
    // Maven; Gradle.
    let says = [
        "could not transfer artifact",
        "in offline mode and the artifact",
        "could not get resource",
        "could not resolve all",
        "available for offline mode",
    ];
    let fetches = says.iter().any(|text| line.contains(text));
    fetches
        || FETCHERS.iter().any(|start| line.starts_with(start))
        || line.contains("dial tcp") && line.contains(": get \"http")
}

/// Whether a line, in lower case, is the result of tests.
fn tests_ran(line: &str) -> bool {
    const RESULTS: [&str; 8] =
        ["test result:", "--- fail", "not ok ", "failed (", "# fail ", "tests:", "=== run", "assertionerror"];
    let words: Vec<&str> =
        line.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric())).collect();
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let counted = words
        .windows(2)
        .any(|pair| is_number(pair[0]) && matches!(pair[1], "passed" | "failed" | "passing" | "failing" | "tests"));
    counted || RESULTS.iter().any(|start| line.starts_with(start))
}

/// Fails by failed tests, by errors, by warnings where that was asked for or where the tool itself fails by them.
fn verdict(results: &Results, code: i32, says_found: bool, strict: bool) -> Outcome {
    let tests_failed = results.counts().tests_failed;
    let fails_itself = code != 0 && says_found;
    let counts = |finding: &&Finding| match finding.severity {
        Severity::Error => true,
        Severity::Warning => strict || fails_itself,
        Severity::Note => fails_itself,
    };
    // Where one of them fails the check all are counted, as everywhere else.
    let fails = results.findings.iter().any(|finding| counts(&finding));
    let findings = if fails { results.findings.len() as u64 } else { 0 };
    if tests_failed == 0 && findings == 0 {
        // Tests passed and yet the code says no: for instance a doctest that did not compile, a coverage gate.
        return if fails_itself { Outcome::Failed { cause: Cause::Exit { code } } } else { Outcome::Passed };
    }
    Outcome::Failed { cause: Cause::Results { tests_failed, findings } }
}

/// A code other than 0 and nothing read: no network, a component that is missing, or a broken tool.
fn gap(check: &Check, code: i32, printed: &Printed<'_>) -> Outcome {
    let said = [printed.stderr, printed.stdout].map(|bytes| String::from_utf8_lossy(bytes).to_lowercase()).join("\n");
    if said.contains("is not installed for the toolchain") || said.contains("no such command:") {
        let install = tools::find(&check.tool).map_or("", |tool| tool.install).to_owned();
        return Outcome::Skipped {
            reason: Skip::ToolMissing { tool: check.tool.as_str().into(), install: install.into() },
        };
    }
    // `go vet` in a module whose packages are all below modules of their own, and runners of tests in Node, which have no
    // code of their own for it. Vitest does not even say so: it writes a report without tests.
    const NOTHING: [&str; 3] =
        ["no packages to vet", "no tests found, exiting with code 1", "error: no test files found"];
    let says_nothing = said.lines().any(|line| NOTHING.iter().any(|text| line.starts_with(text)));
    if says_nothing || check.tool == "vitest" && printed.stderr.is_empty() && said.contains("junit report written") {
        return Outcome::Skipped { reason: Skip::NothingToDo { detail: "it found nothing to look at".into() } };
    }
    match said.lines().find(|line| offline(line)) {
        Some(line) if check.category == Category::Audit => {
            Outcome::Skipped { reason: Skip::Offline { detail: short(line).into() } }
        }
        Some(line) => Outcome::Broken { error: format!("no network: {}", short(line)).into() },
        None => broken(code, printed),
    }
}

fn broken(code: i32, printed: &Printed<'_>) -> Outcome {
    Outcome::Broken { error: format!("exit code {code}: {}", last_line(printed)).into() }
}

/// The line that most likely says what went wrong: the first with "error", else the last.
fn last_line(printed: &Printed<'_>) -> String {
    for bytes in [printed.stderr, printed.stdout] {
        let text = transcript::clean(bytes);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let error = lines.iter().find(|line| line.to_lowercase().contains("error"));
        if let Some(line) = error.or(lines.last()) {
            return short(line);
        }
    }
    "it printed nothing".to_owned()
}

fn short(line: &str) -> String {
    let line = transcript::line(line.trim());
    if line.chars().count() > 200 { format!("{}...", line.chars().take(200).collect::<String>()) } else { line }
}

#[cfg(test)]
mod cases {
    use std::path::Path;

    use super::{Judgement, judge};
    use crate::model::event::Exit;
    use crate::model::id::TaskId;
    use crate::model::task::{Category, Check, Run, Task};
    use crate::report::text::explain;
    use crate::workflow::qa::parse::Parser;

    /// The verdict and the results of a tool's output, as one text.
    fn check(tool: &str, parser: Parser, code: i32, stdout: &str, stderr: &str) -> String {
        shown(&judged(tool, parser, code, stdout, stderr))
    }

    fn judged(tool: &str, parser: Parser, code: i32, stdout: &str, stderr: &str) -> Judgement {
        let mut task = Task::new(TaskId::new(tool).expect("an id"), Run::Argv(Vec::new()));
        let (tool, parser) = (tool.to_owned(), parser.as_str().to_owned());
        task.check = Some(Check { tool, parser, root: "sub".to_owned(), ..Check::default() }.into());
        judge(&task, Exit::Code(code), stdout.as_bytes(), stderr.as_bytes(), None, Path::new("/repo"))
    }

    fn shown(judged: &Judgement) -> String {
        let mut out = explain(&judged.outcome);
        for test in &judged.results.tests {
            out += &format!("\n{:?} {} {}", test.status, test.suite.unescaped(), test.name.unescaped());
        }
        for one in &judged.results.findings {
            let [rule, file, message] = [&one.rule, &one.file, &one.message].map(|raw| raw.unescaped());
            out += &format!("\n{:?} {rule} {file}:{}:{}: {message}", one.severity, one.line, one.column);
        }
        out
    }

    #[test]
    fn a_code_that_means_found_without_anything_found_is_a_broken_tool() {
        let text = check("ruff", Parser::Ruff, 1, "[]", "ruff: error: no such option\n");
        assert_eq!(text, "exit code 1: ruff: error: no such option");
        assert_eq!(check("ruff", Parser::Ruff, 2, "", "crash"), "exit code 2: crash");
        assert_eq!(check("ruff", Parser::Ruff, 0, "not json", "").split(':').next(), Some("its output cannot be read"));
        assert_eq!(check("ruff", Parser::Ruff, 0, "[]", ""), "passed");
    }

    #[test]
    fn builds_that_could_not_fetch_what_they_need_say_nothing_of_the_tests() {
        let maven = "[ERROR] Non-resolvable parent POM for a:b:1: Could not transfer artifact c:d:pom:104 from/to central \
            (https://repo.maven.apache.org/maven2): Unknown host repo.maven.apache.org: Name or service not known -> [Help 2]\n";
        let mut task = Task::new(TaskId::new("maven verify").expect("an id"), Run::Argv(Vec::new()));
        let parser = Parser::Target.as_str().to_owned();
        let check = Check { tool: "maven".to_owned(), category: Category::Tests, parser, ..Check::default() };
        task.check = Some(check.into());
        let judged =
            |stdout: &str| shown(&judge(&task, Exit::Code(1), stdout.as_bytes(), b"", None, Path::new("/repo")));
        assert!(judged(maven).starts_with("no network: in the last 30 lines: "), "{}", judged(maven));
        // Tests that ran have their own reasons.
        let ran = format!("Tests run: 3, Failures: 1, Errors: 0, Skipped: 0\n{maven}");
        assert_eq!(judged(&ran), "1 failed test");
    }

    #[test]
    fn a_lock_file_that_does_not_fit_is_a_finding() {
        // cargo 1.75 and 1.93.
        for said in [
            "error: the lock file /repo/sub/Cargo.lock needs to be updated but --locked was passed to prevent this\n",
            "error: cannot update the lock file /repo/sub/Cargo.lock because --locked was passed to prevent this\n",
        ] {
            let text = check("clippy", Parser::Cargo, 101, "", said);
            let (head, finding) = text.split_once('\n').expect("a finding");
            assert_eq!(head, "1 finding");
            assert!(finding.starts_with("Error stale-lock-file sub/Cargo.lock:0:0: "), "{finding}");
        }
    }

    #[test]
    fn findings_in_files_that_are_left_out_do_not_count() {
        let row = |file: &str| {
            format!(r#"{{"code":"F401","filename":"/repo/{file}","location":{{"row":3,"column":8}},"message":"m"}}"#)
        };
        let ruff = |files: &[&str], exclude: &str, wanted: &str| {
            let mut task = Task::new(TaskId::new("ruff").expect("an id"), Run::Argv(Vec::new()));
            let given = |text: &str| if text.is_empty() { Vec::new() } else { vec![text.to_owned()] };
            let (exclude, wanted) = (given(exclude), given(wanted));
            task.check = Some(
                Check {
                    tool: "ruff".to_owned(),
                    parser: "ruff".to_owned(),
                    exclude,
                    files: wanted,
                    ..Check::default()
                }
                .into(),
            );
            let rows: Vec<String> = files.iter().map(|file| row(file)).collect();
            let printed = format!("[{}]", rows.join(","));
            shown(&judge(&task, Exit::Code(1), printed.as_bytes(), b"", None, Path::new("/repo")))
        };
        assert_eq!(ruff(&["docs/a.py", "b.py"], "^docs/", ""), "1 finding\nError F401 b.py:3:8: m");
        assert_eq!(ruff(&["docs/a.py"], "(?x)^(\n  docs/\n)", ""), "passed");
        assert_eq!(ruff(&["docs/a.py"], "", "^src/"), "passed");
        // What is no regular expression here leaves nothing out.
        assert_eq!(ruff(&["docs/a.py"], "^(?!x)docs", ""), "1 finding\nError F401 docs/a.py:3:8: m");
    }

    #[test]
    fn each_call_of_shellcheck_prints_a_document() {
        let row = |file: &str| {
            format!(
                r#"{{"comments":[{{"file":"{file}","line":2,"endLine":2,"column":1,"endColumn":3,"level":"warning","code":2086,"message":"quote"}}]}}"#
            )
        };
        let text = check("shellcheck", Parser::Shellcheck, 1, &format!("{}\n{}\n", row("a.sh"), row("b.sh")), "");
        assert_eq!(text, "2 findings\nWarning SC2086 sub/a.sh:2:1: quote\nWarning SC2086 sub/b.sh:2:1: quote");
        assert!(check("shellcheck", Parser::Shellcheck, 0, "", "").starts_with("its output cannot be read"));
    }

    #[test]
    fn no_network_and_missing_components_are_no_findings() {
        let offline =
            check("pip-audit", Parser::PipAudit, 1, "", "x\nConnectionError: Temporary failure in name resolution\n");
        assert_eq!(
            offline,
            "no network: connectionerror: temporary failure in name resolution"
                .replace("no network", "exit code 1")
                .replace("exit code 1: connectionerror", "no network: connectionerror")
        );
        let missing =
            check("clippy", Parser::Cargo, 1, "", "error: 'cargo-clippy' is not installed for the toolchain 'x'\n");
        assert!(missing.starts_with("`clippy` is not installed"), "{missing}");
    }

    /// `ModuleNotFoundError` was taken for the `ENOTFOUND` of Node.
    #[test]
    fn a_module_that_is_not_found_is_no_missing_network() {
        let said = "E   ModuleNotFoundError: No module named 'x'\n";
        assert_eq!(
            check("pytest", Parser::Junit, 4, "", said),
            "exit code 4: E   ModuleNotFoundError: No module named 'x'"
        );
        assert_eq!(target("npm", Category::Lint, 1, said), "exit code 1");
    }

    #[test]
    fn without_a_reader_the_codes_of_the_table_tell_findings_from_gaps() {
        let offline = "govulncheck: fetching vulnerabilities: dial tcp: lookup vuln.go.dev: no such host\n";
        let govulncheck = |code, stderr| {
            let mut task = Task::new(TaskId::new("govulncheck").expect("an id"), Run::Argv(Vec::new()));
            let parser = Parser::Exit.as_str().to_owned();
            let category = Category::Audit;
            task.check = Some(Check { tool: "govulncheck".to_owned(), parser, category, ..Check::default() }.into());
            explain(&judge(&task, Exit::Code(code), b"", str::as_bytes(stderr), None, Path::new("/repo")).outcome)
        };
        assert_eq!(govulncheck(1, offline), format!("no network: {}", offline.trim()));
        assert_eq!(govulncheck(1, "no go.mod file"), "exit code 1: no go.mod file");
        assert_eq!(govulncheck(3, "Vulnerability #1"), "exit code 3");
        assert_eq!(govulncheck(0, ""), "passed");
        // A fixer that had something to fix has done its work.
        assert_eq!(check("pre-commit", Parser::Fixer, 1, "- files were modified by this hook\n", ""), "passed");
        assert_eq!(
            check("pre-commit", Parser::Fixer, 3, "", "An error has occurred\n"),
            "exit code 3: An error has occurred"
        );
    }

    /// The verdict on a target of the project.
    fn target(runner: &str, category: Category, code: i32, stderr: &str) -> String {
        let mut task = Task::new(TaskId::new(runner).expect("an id"), Run::Argv(Vec::new()));
        let (tool, parser) = (runner.to_owned(), Parser::Exit.as_str().to_owned());
        task.check = Some(Check { tool, parser, category, ..Check::default() }.into());
        explain(&judge(&task, Exit::Code(code), b"", stderr.as_bytes(), None, Path::new("/repo")).outcome)
    }

    #[test]
    fn a_target_without_network_is_skipped_and_a_test_that_speaks_of_it_fails() {
        let git = "An unexpected error has occurred: CalledProcessError\nfatal: unable to access 'https://x/': Could not resolve host: x\nCheck the log\n";
        let skipped =
            "no network: in the last 30 lines: fatal: unable to access 'https://x/': could not resolve host: x";
        assert_eq!(target("pre-commit", Category::Lint, 3, git), skipped);
        assert_eq!(target("make", Category::Tests, 2, git), skipped);
        assert_eq!(check("pre-commit", Parser::Fixer, 3, "", git), skipped);
        assert_eq!(target("pre-commit", Category::Lint, 0, git), "passed");
        let npm = "npm error code ENOTFOUND\n";
        assert_eq!(
            target("npm", Category::Tests, 1, npm),
            "no network: in the last 30 lines: npm error code enotfound"
        );
        let pip = "WARNING: Retrying (Retry(total=0)) after connection broken by 'NameResolutionError(\"HTTPSConnection(host='x', port=443): Failed to resolve 'x' ([Errno -2] Name or service not known)\")'\n";
        assert!(
            target("tox", Category::Tests, 1, pip).starts_with("no network: in the last 30 lines: warning: retrying")
        );
        // Maven with `-o`: a dependency that is not there is no fault of the project.
        let maven = "[ERROR] Cannot access central (https://repo.maven.apache.org/maven2) in offline mode and the artifact a:b:pom:52 has not been downloaded from it before.\n";
        assert!(target("maven", Category::Tests, 1, maven).starts_with("no network: "));
        let own = "Error: connect ECONNREFUSED 127.0.0.1:1\n";
        assert_eq!(target("npm", Category::Tests, 1, own), "exit code 1");
        for result in ["2 failed, 3 passed in 1s", "--- FAIL: TestX", "test result: FAILED.", "FAILED (errors=1)"] {
            assert_eq!(target("make", Category::Tests, 2, &format!("{git}{result}\n")), "exit code 2", "{result}");
        }
        let early = format!("{git}{}", "later\n".repeat(30));
        assert_eq!(target("make", Category::Lint, 2, &early), "exit code 2");
    }

    #[test]
    fn a_recipe_that_calls_what_is_missing_is_broken() {
        let pnpm = |text: &str| target("pnpm", Category::Tests, 1, text);
        let missing = "sh: 1: jest: not found\n\u{2009}ELIFECYCLE\u{2009} Test failed. See above for more details.\n";
        assert_eq!(pnpm(missing), "a program is missing: sh: 1: jest: not found");
        assert_eq!(pnpm("user: not found\n"), "exit code 1");
        let make = |text: &str| target("make", Category::Docs, 2, text);
        assert_eq!(
            make("make: pandoc: No such file or directory\nmake: *** [Makefile:2: docs] Error 127\n"),
            "a program is missing: make: pandoc: No such file or directory"
        );
        assert_eq!(
            make(
                "/bin/sh: 1: pandoc: not found\nmake[1]: *** [Makefile:2: x] Error 127\nmake: *** [Makefile:9: docs] Error 2\n"
            ),
            "a program is missing: /bin/sh: 1: pandoc: not found"
        );
        assert_eq!(
            make("make: *** [Makefile:2: docs] Error 127\n"),
            "a program is missing: make: *** [Makefile:2: docs] Error 127"
        );
        // Something else was the end of it.
        assert_eq!(
            make("make: [Makefile:2: docs] Error 127 (ignored)\nmake: *** [Makefile:3: docs] Error 1\n"),
            "exit code 2"
        );
        assert_eq!(make("x: command not found\nmake: *** [Makefile:3: docs] Error 1\n"), "exit code 2");
    }

    #[test]
    fn go_without_network_has_no_findings() {
        let said = "main.go:3:8: github.com/x/y@v1.0.0: Get \"http://127.0.0.1:1/x.zip\": dial tcp 127.0.0.1:1: connect: connection refused\n";
        for (tool, parser) in [("go-vet", Parser::GoVet), ("go-build", Parser::GoBuild)] {
            let text = check(tool, parser, 1, "", said);
            assert!(text.starts_with("no network: main.go:3:8: ") && !text.contains('\n'), "{text}");
        }
        let event = |action: &str, more: &str| format!("{{\"Action\":\"{action}\",\"Package\":\"m\"{more}}}\n");
        let tests = event("output", ",\"Output\":\"FAIL\\tm [setup failed]\\n\"") + &event("fail", "");
        let text = check("go-test", Parser::GoTest, 1, &tests, said);
        assert!(text.starts_with("no network: ") && !text.contains('\n'), "{text}");
        // A test of the network is a test.
        let tests = event("output", ",\"Test\":\"TestA\",\"Output\":\"dial tcp: connection refused\\n\"")
            + &event("fail", ",\"Test\":\"TestA\"")
            + &event("fail", "");
        assert_eq!(check("go-test", Parser::GoTest, 1, &tests, ""), "1 failed test\nFailed m TestA");
    }

    #[test]
    fn tests_that_ctest_could_not_start_fail_and_disabled_ones_are_skipped() {
        let folder = std::env::temp_dir().join(format!("apm-notrun-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let xml = r#"<testsuite><testcase name="one" status="run"/>
            <testcase name="gone" status="notrun"><skipped message="Unable to find executable"/></testcase>
            <testcase name="later" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/></testcase>
            <testcase name="off" status="disabled"><system-out>Disabled</system-out></testcase></testsuite>"#;
        std::fs::write(folder.join("junit.xml"), xml).expect("written");
        let ctest = |code| {
            let mut task = Task::new(TaskId::new("ctest").expect("an id"), Run::Argv(Vec::new()));
            let parser = Parser::Junit.as_str().to_owned();
            task.check = Some(Check { tool: "ctest".to_owned(), parser, ..Check::default() }.into());
            shown(&judge(&task, Exit::Code(code), b"", b"", Some(&folder), Path::new("/repo")))
        };
        assert_eq!(ctest(8), "1 failed test\nPassed  one\nFailed  gone\nSkipped  later\nSkipped  off");
        assert_eq!(ctest(0), "passed\nPassed  one\nSkipped  gone\nSkipped  later\nSkipped  off");
        let _ = std::fs::remove_dir_all(&folder);
    }

    #[test]
    fn a_test_runner_that_ran_no_test_did_not_pass() {
        let folder = std::env::temp_dir().join(format!("apm-ctest-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let ctest = |xml: &str| {
            std::fs::write(folder.join("junit.xml"), xml).expect("written");
            let mut task = Task::new(TaskId::new("ctest").expect("an id"), Run::Argv(Vec::new()));
            let parser = Parser::Junit.as_str().to_owned();
            task.check = Some(Check { tool: "ctest".to_owned(), parser, ..Check::default() }.into());
            explain(&judge(&task, Exit::Code(0), b"", b"", Some(&folder), Path::new("/repo")).outcome)
        };
        assert_eq!(ctest("<testsuite name=\"(empty)\" tests=\"0\"/>"), "it found nothing to look at");
        assert_eq!(ctest("<testsuite><testcase name=\"a\"/></testsuite>"), "passed");
        assert_eq!(ctest("<testsuite>").split(':').next(), Some("its output cannot be read"));
        let _ = std::fs::remove_dir_all(&folder);
    }

    /// The time must not grow with the square of their number.
    #[test]
    fn many_findings_are_told_apart_at_once() {
        let line = |at: usize| format!("a.c:{}:1: warning: w{at} [-Wx]\n", at / 2);
        let text: String = (0..60_000).chain(0..60_000).map(line).collect();
        let judged = judged("cppcheck", Parser::Gcc, 0, &text, &text);
        assert_eq!(judged.results.findings.len(), 60_000);
    }

    #[test]
    fn paths_become_those_of_the_repository() {
        let row = |file: &str| {
            format!(r#"[{{"code":"F401","filename":"{file}","location":{{"row":3,"column":8}},"message":"m"}}]"#)
        };
        for (file, expected) in
            [("/repo/a/b.py", "a/b.py"), ("b.py", "sub/b.py"), ("../c.py", "c.py"), ("/else/d.py", "/else/d.py")]
        {
            let text = check("ruff", Parser::Ruff, 1, &row(file), "");
            assert_eq!(text, format!("1 finding\nError F401 {expected}:3:8: m"));
        }
    }

    /// Regression: the largest number and one more was a panic in a debug build and 0 in others.
    #[test]
    fn columns_that_count_from_zero_have_an_end() {
        let row =
            |column: &str| format!(r#"{{"file":"a.py","line":1,"column":{column},"severity":"error","code":"x"}}"#);
        let mypy = |column: &str| judged("mypy", Parser::Mypy, 1, &row(column), "").results.findings[0].column;
        let columns = ["0", "-1", "4294967295", "9223372036854775807"].map(mypy);
        assert_eq!(columns, [1, 0, u32::MAX, 0]);
    }

    #[test]
    fn gofmt_and_go_vet_find_with_exit_code_0() {
        assert_eq!(
            check("gofmt", Parser::Paths, 0, "a.go\n", ""),
            "1 finding\nError format sub/a.go:0:0: not formatted"
        );
        let vet = "# m\n{\"m\":{\"printf\":[{\"posn\":\"/repo/sub/a.go:5:2\",\"message\":\"bad verb\"}]}}\n";
        assert_eq!(check("go-vet", Parser::GoVet, 0, "", vet), "1 finding\nError printf sub/a.go:5:2: bad verb");
    }

    #[test]
    fn a_module_without_packages_has_nothing_to_vet() {
        let said = "go: warning: \"./...\" matched no packages\nno packages to vet\n";
        assert_eq!(check("go-vet", Parser::GoVet, 1, "", said), "it found nothing to look at");
    }

    /// They were called broken.
    #[test]
    fn runners_of_node_without_tests_have_nothing_to_do() {
        let jest = "No tests found, exiting with code 1\nRun with `--passWithNoTests` to exit with code 0\n";
        let mocha = "\nError: No test files found: \"test\"\n";
        let vitest = "JUNIT report written to /x/junit.xml\n";
        for (tool, stdout, stderr) in [("jest", jest, ""), ("mocha", "", mocha), ("vitest", vitest, "")] {
            assert_eq!(check(tool, Parser::Junit, 1, stdout, stderr), "it found nothing to look at", "{tool}");
        }
        assert_eq!(check("vitest", Parser::Junit, 1, vitest, "Error: x\n"), "exit code 1: Error: x");
    }

    #[test]
    fn newer_go_prints_findings_and_compile_errors_on_standard_output() {
        let vet = "{\"m\":{\"printf\":[{\"posn\":\"/repo/sub/a.go:5:2\",\"message\":\"bad verb\"}]}}\n";
        assert_eq!(
            check("go-vet", Parser::GoVet, 0, vet, "go: downloading x v1.2.3\n# m\n"),
            "1 finding\nError printf sub/a.go:5:2: bad verb"
        );
        let build = r##"{"ImportPath":"m [m.test]","Action":"build-output","Output":"# m [m.test]\n"}
{"ImportPath":"m [m.test]","Action":"build-output","Output":"./a_test.go:3:5: undefined: y\n"}
{"ImportPath":"m [m.test]","Action":"build-fail"}
{"Action":"start","Package":"m"}
{"Action":"output","Package":"m","Output":"FAIL\tm [build failed]\n"}
{"Action":"fail","Package":"m","Elapsed":0,"FailedBuild":"m [m.test]"}
"##;
        let judged = judged("go-test", Parser::GoTest, 1, build, "");
        assert_eq!(
            shown(&judged),
            "1 failed test, 1 finding\nError m (the package)\nError compile sub/a_test.go:3:5: undefined: y"
        );
        let message = &judged.results.tests[0].message;
        assert_eq!(message.unescaped(), "# m [m.test]\n./a_test.go:3:5: undefined: y\nFAIL\tm [build failed]\n");
    }

    #[test]
    fn cargo_tests_keep_their_binary_and_their_message() {
        let stdout = "\nrunning 3 tests\ntest a::good ... ok\ntest a::bad ... FAILED\ntest slow ... ignored, too slow\n\nfailures:\n\n---- a::bad stdout ----\nthread 'a::bad' panicked at src/lib.rs:9:5:\nno\n\n\nfailures:\n    a::bad\n\ntest result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\n\nrunning 1 test\ntest src/lib.rs - f (line 3) ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s\n";
        let stderr = "     Running unittests src/lib.rs (target/debug/deps/x-0a1b2c)\n   Doc-tests x\n";
        let text = check("cargo-test", Parser::CargoTest, 101, stdout, stderr);
        assert_eq!(
            text,
            "1 failed test\nPassed x a::good\nFailed x a::bad\nSkipped x slow\nPassed x (doc) src/lib.rs - f (line 3)"
        );
    }

    /// Regression: each of a million tests had a copy of the name of their suite, however long that was.
    #[test]
    fn a_name_that_all_tests_of_a_suite_share_is_bounded() {
        let stderr = format!("Running tests/it.rs (target/debug/deps/{}-0a1b)\n", "x".repeat(1 << 20));
        let judged = judged("cargo-test", Parser::CargoTest, 0, "running 1 test\ntest a ... ok\n", &stderr);
        assert_eq!(judged.results.tests[0].suite.unescaped().len(), 4 << 10);
    }

    #[test]
    fn what_does_not_compile_fails_by_its_errors_and_no_tests_are_no_error() {
        let errors = "   Compiling x v0.1.0\nerror[E0308]: mismatched types\n --> src/lib.rs:4:25\n  |\n\nerror: could not compile `x` (lib test) due to 1 previous error\nerror: command `cargo test --no-run` exited with code 101\n";
        let expected = "1 finding\nError E0308 sub/src/lib.rs:4:25: mismatched types";
        assert_eq!(check("nextest", Parser::Nextest, 101, "", errors), expected);
        assert_eq!(check("cargo-test", Parser::CargoTest, 101, "", errors), expected);
        let no_manifest = "error: could not find `Cargo.toml` in `/repo`\n";
        assert_eq!(
            check("nextest", Parser::Nextest, 101, "", no_manifest),
            "exit code 101: error: could not find `Cargo.toml` in `/repo`"
        );
        let fine = "   Compiling thiserror v2.0.0\n    Finished `test` profile\n";
        assert_eq!(check("cargo-test", Parser::CargoTest, 0, "", fine), "passed");
        assert!(check("cargo-test", Parser::CargoTest, 0, "", "error: x\n").starts_with("its output cannot be read"));
    }

    #[test]
    fn ruff_names_unformatted_files_in_two_ways() {
        let old =
            check("ruff-format", Parser::RuffFormat, 1, "Would reformat: a.py\n1 file would be reformatted\n", "");
        let new = check(
            "ruff-format",
            Parser::RuffFormat,
            1,
            "unformatted: File would be reformatted\n --> a.py:20:25\n  |\n  -> no\n",
            "",
        );
        assert_eq!((old.as_str(), old == new), ("1 finding\nError format sub/a.py:0:0: not formatted", true));
    }

    #[test]
    fn severities_decide_together_with_the_exit_code() {
        let row = |level: &str| {
            format!(
                r#"{{"comments":[{{"file":"a.sh","line":2,"endLine":2,"column":1,"endColumn":3,"level":"{level}","code":2086,"message":"quote"}}]}}"#
            )
        };
        assert_eq!(
            check("shellcheck", Parser::Shellcheck, 1, &row("info"), ""),
            "1 finding\nNote SC2086 sub/a.sh:2:1: quote"
        );
        assert_eq!(
            check("shellcheck", Parser::Shellcheck, 0, &row("warning"), ""),
            "passed\nWarning SC2086 sub/a.sh:2:1: quote"
        );
    }
}
