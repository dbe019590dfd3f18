//! Markdown: for a comment, a wiki, the step summary of a GitHub workflow.

use std::io::{self, Write};

use crate::model::finding::{Severity, TestStatus};
use crate::model::outcome::Outcome;
use crate::report::row::Row;
use crate::report::{RunView, text};
use crate::text::escape::markdown;
use crate::text::layout::Layout;
use crate::text::number;

/// Rows of a table; GitHub shows at most 1 MiB.
const ROWS_MAX: usize = 500;
/// Findings and failed tests listed.
const ITEMS_MAX: usize = 200;

/// Lines of rows that are wanted, up to a number; the others are counted.
#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    all: usize,
}

impl Lines {
    /// `max` of them are kept; the others are not even made.
    fn push(&mut self, max: usize, line: impl FnOnce() -> String) {
        self.all += 1;
        if self.lines.len() < max {
            self.lines.push(line());
        }
    }
}

/// The first `max` lines of both, and how many there are besides.
fn first_of(max: usize, before: Lines, behind: Lines) -> (String, usize) {
    let all = before.all + behind.all;
    let shown: Vec<String> = before.lines.into_iter().chain(behind.lines).take(max).collect();
    (shown.join("\n"), all - shown.len())
}

/// Writes the report.
pub(crate) fn write(view: &RunView<'_>, out: &mut dyn Write) -> io::Result<()> {
    let report = view.report;
    let title = report.started.as_ref().map_or("apm", |started| started.title.as_str());
    // What passed comes behind the rest: its warnings must not push failures out of the list.
    let (mut rows, mut items) = ([Lines::default(), Lines::default()], [Lines::default(), Lines::default()]);
    (view.each_row)(&mut |row| {
        let part = usize::from(row.is_good());
        rows[part].push(ROWS_MAX, || table_row(row));
        let Some(finished) = row.last_finished().filter(|finished| finished.results.is_some()) else { return Ok(()) };
        let found = text::results(finished, view.read);
        let failed = |status| matches!(status, TestStatus::Failed | TestStatus::Error);
        let id = markdown(row.task.id.as_str());
        for test in found.tests.iter().filter(|test| failed(test.status)) {
            items[part]
                .push(ITEMS_MAX, || format!("- {id}: failed test {} {}", markdown(&test.suite), markdown(&test.name)));
        }
        for finding in found.findings.iter().filter(|finding| finding.severity != Severity::Note) {
            items[part].push(ITEMS_MAX, || {
                let rule =
                    if finding.rule.is_empty() { String::new() } else { format!(" ({})", markdown(&finding.rule)) };
                format!("- {id}: {}{}{rule}", markdown(&text::place(finding)), markdown(&finding.message))
            });
        }
        Ok(())
    })?;
    writeln!(out, "## apm run {}\n\n**{}**\n", markdown(title), markdown(&text::verdict(report, &Layout::PLAIN)))?;
    writeln!(out, "| | task | time | memory | what |\n|---|---|---:|---:|---|")?;
    let [other, good] = rows;
    let (shown, more) = first_of(ROWS_MAX, other, good);
    if !shown.is_empty() {
        writeln!(out, "{shown}")?;
    }
    if more > 0 {
        writeln!(out, "\n... and {more} more tasks")?;
    }
    let [other, good] = items;
    let (shown, more) = first_of(ITEMS_MAX, other, good);
    if !shown.is_empty() {
        writeln!(out, "\n### Findings and failed tests\n\n{shown}")?;
    }
    if more > 0 {
        writeln!(out, "\n... and {more} more")?;
    }
    Ok(())
}

fn table_row(row: &Row) -> String {
    let why = row.outcome.as_ref().filter(|o| !matches!(o, Outcome::Passed)).map(text::explain).unwrap_or_default();
    let memory = row.last_finished().map(|f| f.usage.memory_peak.to_string()).unwrap_or_default();
    let (word, id, time) = (row.word(), markdown(row.task.id.as_str()), number::duration(row.wall()));
    format!("| {word} | {id} | {time} | {memory} | {} |", markdown(&why))
}

#[cfg(test)]
mod tests {
    use super::{ITEMS_MAX, write};
    use crate::model::finding::{Finding, Results, Severity};
    use crate::model::outcome::{Cause, Outcome};
    use crate::report::sample::Checked;

    /// Two hundred warnings of the first check were the whole list.
    #[test]
    fn findings_of_failures_come_before_those_of_checks_that_passed() {
        let finding = Finding {
            rule: "W1".into(),
            severity: Severity::Warning,
            message: "unused".into(),
            file: "".into(),
            line: 0,
            column: 0,
            line_end: 0,
            column_end: 0,
            url: "".into(),
        };
        let results = Results { findings: vec![finding; ITEMS_MAX], ..Results::default() };
        let failed = Outcome::Failed { cause: Cause::Results { tests_failed: 0, findings: 1 } };
        let failed = Checked { outcome: failed, results: results.clone(), stderr: "" };
        let text = Checked { outcome: Outcome::Passed, results, stderr: "" }.write_with(&[failed.row("failed")], write);
        assert!(text.contains("tests\n\n- failed: unused (W1)\n"), "{text}");
        assert!(text.ends_with("\n... and 200 more\n"), "{text}");
    }
}
