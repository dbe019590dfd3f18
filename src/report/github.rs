//! Annotations of GitHub workflows. GitHub shows 10 errors and 10 warnings of a step: the gravest come first, and a line
//! says how many more there are.

use std::io::{self, Write};

use crate::model::finding::{Finding, Severity, TestStatus};
use crate::model::outcome::Outcome;
use crate::report::{RunView, text};
use crate::text::escape::{github_message, github_property};
use crate::text::layout::Layout;
use crate::text::transcript;

/// Annotations of each level that GitHub shows.
const SHOWN: usize = 10;
/// Lines of output in the annotation of a failure that nothing else stands for.
const TAIL_LINES: usize = 10;

/// Annotations of a level: those that are shown, and how many there are.
#[derive(Default)]
struct Level {
    shown: Vec<String>,
    all: usize,
}

impl Level {
    fn push(&mut self, line: String) {
        self.all += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(line);
        }
    }
}

/// Writes workflow commands.
pub(crate) fn write(view: &RunView<'_>, out: &mut dyn Write) -> io::Result<()> {
    let (mut errors, mut warnings) = (Level::default(), Level::default());
    let read = view.read;
    (view.each_row)(&mut |row| {
        let found = row.last_finished().map(|finished| text::results(finished, read)).unwrap_or_default();
        let title = row.task.id.as_str();
        let before = errors.all + warnings.all;
        for test in &found.tests {
            if matches!(test.status, TestStatus::Failed | TestStatus::Error) {
                let name = transcript::line(&test.suite) + " " + &transcript::line(&test.name);
                errors.push(plain(title, &format!("{name}: {}", transcript::clean(&test.message))));
            }
        }
        for finding in &found.findings {
            match finding.severity {
                Severity::Error => errors.push(placed(title, finding)),
                Severity::Warning => warnings.push(placed(title, finding)),
                Severity::Note => {}
            }
        }
        if let Some(Outcome::Flaky { attempts }) = row.outcome {
            let before = row.attempts.iter().filter_map(|attempt| attempt.end.as_ref());
            let failed = before.map(|(_, finished)| &finished.outcome).rfind(|outcome| !outcome.is_good());
            let why = failed.map_or_else(String::new, |outcome| format!("; before: {}", text::explain(outcome)));
            warnings.push(plain(title, &format!("flaky: it passed at attempt {attempts}{why}")));
        }
        let bad = row.outcome.as_ref().filter(|_| row.is_bad());
        // Also where all tests passed and only notes were found: a coverage gate says why in its output alone.
        if let Some(outcome) = bad.filter(|_| errors.all + warnings.all == before) {
            let mut message = text::explain(outcome);
            for output in row.last_finished().into_iter().flat_map(|finished| [&finished.stdout, &finished.stderr]) {
                let (tail, _) = text::tail(output.stored.as_ref(), read, TAIL_LINES);
                if !tail.is_empty() {
                    message += &format!("\n{tail}");
                }
            }
            errors.push(plain(title, &message));
        }
        Ok(())
    })?;
    for (name, level) in [("error", errors), ("warning", warnings)] {
        for line in &level.shown {
            writeln!(out, "::{name} {line}")?;
        }
        if level.all > SHOWN {
            writeln!(out, "{} more {name}s are not shown here", level.all - SHOWN)?;
        }
    }
    writeln!(out, "{}", text::verdict(view.report, &Layout::PLAIN))
}

fn plain(title: &str, message: &str) -> String {
    format!("title={}::{}", github_property(title), github_message(message))
}

fn placed(title: &str, finding: &Finding) -> String {
    let mut out = format!("file={}", github_property(&finding.file));
    let numbers = [
        ("line", finding.line),
        ("endLine", finding.line_end),
        ("col", finding.column),
        ("endColumn", finding.column_end),
    ];
    for (name, number) in numbers.into_iter().filter(|(_, number)| *number > 0) {
        out += &format!(",{name}={number}");
    }
    let message = format!("{} ({})", transcript::clean(&finding.message), transcript::line(&finding.rule));
    format!("{out},title={}::{}", github_property(title), github_message(&message))
}

#[cfg(test)]
mod tests {
    use super::write;
    use crate::model::event::Exit;
    use crate::model::finding::{Finding, Results, Severity};
    use crate::model::outcome::{Cause, Outcome};
    use crate::report::sample::{Checked, passed_test};

    /// `pytest --cov-fail-under`: all tests passed and the code says no.
    #[test]
    fn a_failure_that_no_test_stands_for_shows_its_output() {
        let results = Results { tests: vec![passed_test()], ..Results::default() };
        let gate = Checked { outcome: Exit::Code(1).outcome(), results, stderr: "90 percent not reached\n" };
        let text = gate.write(write);
        assert!(text.contains("::error title=lint%3A tool::exit code 1%0A90 percent not reached"), "{text}");
    }

    #[test]
    fn notes_alone_are_no_annotation_but_the_failure_is() {
        let note = Finding {
            rule: "SC2086".into(),
            severity: Severity::Note,
            message: "quote".into(),
            file: "a.sh".into(),
            line: 1,
            column: 0,
            line_end: 0,
            column_end: 0,
            url: "".into(),
        };
        let outcome = Outcome::Failed { cause: Cause::Results { tests_failed: 0, findings: 1 } };
        let text = Checked { outcome, results: Results { findings: vec![note], ..Results::default() }, stderr: "" }
            .write(write);
        assert!(text.contains("::error title=lint%3A tool::1 finding\n"), "{text}");
    }
}
