//! JUnit XML: one file for the whole run. A check with tests is a suite of its tests, one with findings a suite of one
//! case a finding; anything else is one case. What the verdict does not count is no failure here either. Earlier attempts
//! are kept as Surefire and Jenkins write them.

use std::io::{self, Write};
use std::time::Duration;

use crate::model::event::{AttemptFinished, Stored};
use crate::model::finding::{Finding, Severity, Test, TestStatus};
use crate::model::outcome::{Cause, Outcome};
use crate::report::row::Row;
use crate::report::run::RunReport;
use crate::report::{ReadStored, RunView, text};
use crate::text::escape::xml;
use crate::text::transcript;

/// Bytes of output kept of each stream of a failed task.
const OUTPUT_MAX: u64 = 64 << 10;

/// Writes the file.
pub(crate) fn write(view: &RunView<'_>, out: &mut dyn Write) -> io::Result<()> {
    let report = view.report;
    let name = report.started.as_ref().map_or("apm", |started| started.title.as_str());
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(out, "<testsuites name=\"{}\" time=\"{}\">", xml(name), seconds(report.elapsed))?;
    (view.each_row)(&mut |row| suite(report, row, view.read, out))?;
    writeln!(out, "</testsuites>")
}

fn seconds(duration: Duration) -> String {
    format!("{:.3}", duration.as_secs_f64())
}

fn suite(report: &RunReport, row: &Row, read: ReadStored<'_>, out: &mut dyn Write) -> io::Result<()> {
    let found = row.last_finished().map(|finished| text::results(finished, read)).unwrap_or_default();
    let mut cases = Vec::new();
    let (mut failures, mut errors, mut skipped) = (0, 0, 0);
    for test in &found.tests {
        match test.status {
            TestStatus::Passed => {}
            TestStatus::Failed => failures += 1,
            TestStatus::Error => errors += 1,
            TestStatus::Skipped => skipped += 1,
        }
        test_case(test, &mut cases)?;
    }
    let level = failing_level(row.outcome.as_ref(), &found.findings);
    for finding in &found.findings {
        let fails = level.is_some_and(|level| finding.severity >= level);
        failures += usize::from(fails);
        finding_case(finding, fails, &mut cases)?;
    }
    let mut count = found.tests.len() + found.findings.len();
    // A failure that no test and no finding stands for must not get lost.
    if count == 0 || row.outcome.as_ref().is_some_and(|outcome| !outcome.is_good() && failures + errors == 0) {
        count += 1;
        match &row.outcome {
            Some(Outcome::Passed | Outcome::Flaky { .. }) => {}
            Some(outcome) if outcome.is_failure() => failures += 1,
            Some(Outcome::Skipped { .. }) => skipped += 1,
            _ => errors += 1,
        }
        task_case(row, read, &mut cases)?;
    }
    let start = row.attempts.first().map(|attempt| attempt.start_at).or(report.at);
    let timestamp = start.map(|at| format!(" timestamp=\"{}\"", at.strftime("%Y-%m-%dT%H:%M:%S"))).unwrap_or_default();
    writeln!(
        out,
        "  <testsuite name=\"{}\" tests=\"{count}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\" time=\"{}\"{timestamp}>",
        xml(row.task.id.as_str()),
        seconds(row.wall())
    )?;
    out.write_all(&cases)?;
    writeln!(out, "  </testsuite>")
}

fn test_case(test: &Test, out: &mut Vec<u8>) -> io::Result<()> {
    let time = test.duration.map(|d| format!(" time=\"{}\"", seconds(d))).unwrap_or_default();
    write!(out, "    <testcase classname=\"{}\" name=\"{}\"{time}", xml(&test.suite), xml(&test.name))?;
    let message = xml(&transcript::clean(&test.message));
    let first = message.lines().next().unwrap_or_default();
    match test.status {
        TestStatus::Passed => writeln!(out, "/>"),
        TestStatus::Skipped => writeln!(out, "><skipped message=\"{first}\"/></testcase>"),
        TestStatus::Failed => writeln!(out, "><failure message=\"{first}\">{message}</failure></testcase>"),
        TestStatus::Error => writeln!(out, "><error message=\"{first}\">{message}</error></testcase>"),
    }
}

/// The lowest severity that the verdict counted as a failure. The verdict has only the number of findings that count: it is
/// the severity at or above which that number of findings is there.
fn failing_level(outcome: Option<&Outcome>, findings: &[Finding]) -> Option<Severity> {
    let Some(Outcome::Failed { cause: Cause::Results { findings: counted, .. } }) = outcome else { return None };
    let at_least = |level| findings.iter().filter(|finding| finding.severity >= level).count() as u64;
    let levels = [Severity::Error, Severity::Warning, Severity::Note];
    levels.into_iter().find(|level| at_least(*level) == *counted)
}

fn finding_case(finding: &Finding, fails: bool, out: &mut Vec<u8>) -> io::Result<()> {
    let file = xml(&finding.file);
    let kind = xml(&finding.rule);
    let name = format!("{file}:{}:{} {kind}", finding.line, finding.column);
    write!(out, "    <testcase classname=\"{file}\" name=\"{name}\"")?;
    let message = xml(&transcript::clean(&finding.message));
    if !fails {
        return writeln!(out, "><system-out>{message}</system-out></testcase>");
    }
    let first = message.lines().next().unwrap_or_default();
    writeln!(out, "><failure type=\"{kind}\" message=\"{first}\">{message}</failure></testcase>")
}

fn task_case(row: &Row, read: ReadStored<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    let name = xml(row.task.id.as_str());
    writeln!(out, "    <testcase classname=\"apm\" name=\"{name}\" time=\"{}\">", seconds(row.wall()))?;
    let why = xml(&row.outcome.as_ref().map_or_else(|| row.word().to_owned(), text::explain));
    match &row.outcome {
        Some(Outcome::Passed) => {}
        Some(Outcome::Flaky { .. }) => earlier(row, "flakyFailure", read, out)?,
        Some(outcome) if outcome.is_failure() => {
            writeln!(out, "      <failure type=\"{}\" message=\"{why}\"/>", xml(outcome.word()))?;
            earlier(row, "rerunFailure", read, out)?;
        }
        Some(Outcome::Skipped { .. }) => writeln!(out, "      <skipped message=\"{why}\"/>")?,
        _ => writeln!(out, "      <error type=\"{}\" message=\"{why}\"/>", xml(row.word()))?,
    }
    if row.outcome.as_ref().is_none_or(|outcome| !outcome.is_good())
        && let Some(finished) = row.last_finished()
    {
        output("system-out", finished.stdout.stored.as_ref(), read, out)?;
        output("system-err", finished.stderr.stored.as_ref(), read, out)?;
    }
    writeln!(out, "    </testcase>")
}

/// The failed attempts before the last.
fn earlier(row: &Row, element: &str, read: ReadStored<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    let ends: Vec<&AttemptFinished> = row.attempts.iter().filter_map(|a| a.end.as_ref()).map(|(_, f)| f).collect();
    let before = ends.split_last().map_or(&[][..], |(_, before)| before);
    for finished in before.iter().filter(|finished| finished.outcome.is_failure()) {
        let why = xml(&text::explain(&finished.outcome));
        writeln!(out, "      <{element} type=\"{}\" message=\"{why}\">", xml(finished.outcome.word()))?;
        output("system-out", finished.stdout.stored.as_ref(), read, out)?;
        output("system-err", finished.stderr.stored.as_ref(), read, out)?;
        writeln!(out, "      </{element}>")?;
    }
    Ok(())
}

fn output(element: &str, stored: Option<&Stored>, read: ReadStored<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    let Some(stored) = stored else { return Ok(()) };
    let skipped = stored.len.saturating_sub(OUTPUT_MAX);
    let end = Stored { offset: stored.offset + skipped, len: stored.len - skipped, ..stored.clone() };
    let text = xml(&transcript::clean(&read(&end, OUTPUT_MAX as usize)));
    writeln!(out, "      <{element}>{text}</{element}>")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::write;
    use crate::model::event::Exit;
    use crate::model::id::TaskId;
    use crate::model::outcome::{Cause, Outcome};
    use crate::model::task::{Check, Run, Task};
    use crate::report::sample::Checked;
    use crate::workflow::qa::judge::judge;

    /// Two warnings of clippy in a check that passed were two failures.
    #[test]
    fn failures_are_what_the_verdict_counts() {
        let levels = ["error", "warning", "info"];
        for picked in 1..8 {
            let chosen = levels.iter().enumerate().filter(|(at, _)| picked >> at & 1 == 1);
            let comments: Vec<String> = chosen
                .map(|(_, level)| {
                    format!(
                        r#"{{"file":"a.sh","line":1,"endLine":1,"column":1,"endColumn":2,"level":"{level}","code":1,"message":"m"}}"#
                    )
                })
                .collect();
            let stdout = format!("{{\"comments\":[{}]}}", comments.join(","));
            for (code, strict) in [(0, false), (0, true), (1, false), (1, true)] {
                let mut task = Task::new(TaskId::new("t").expect("an id"), Run::Argv(Vec::new()));
                let (tool, parser) = ("shellcheck".to_owned(), "shellcheck".to_owned());
                task.check = Some(Check { tool, parser, strict, ..Check::default() }.into());
                let judged = judge(&task, Exit::Code(code), stdout.as_bytes(), b"", None, Path::new("/"));
                let counted = match &judged.outcome {
                    Outcome::Passed => 0,
                    Outcome::Failed { cause: Cause::Results { findings, .. } } => *findings,
                    other => panic!("{other:?}"),
                };
                let xml = Checked { outcome: judged.outcome, results: judged.results, stderr: "" }.write(write);
                assert_eq!(xml.matches("<failure").count() as u64, counted, "{stdout} {code} {strict}\n{xml}");
                let head = format!("tests=\"{}\" failures=\"{counted}\" errors=\"0\"", comments.len());
                assert!(xml.contains(&head), "{xml}");
            }
        }
    }
}
