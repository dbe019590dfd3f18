//! Markdown: for a comment, a wiki, the step summary of a GitHub workflow.

use std::io::{self, Write};

use crate::model::finding::{Severity, TestStatus};
use crate::model::outcome::Outcome;
use crate::report::run::RunReport;
use crate::report::{ReadStored, text};
use crate::text::escape::markdown;
use crate::text::layout::Layout;
use crate::text::number;

/// Rows of a table; GitHub shows at most 1 MiB.
const ROWS_MAX: usize = 500;
/// Findings and failed tests listed.
const ITEMS_MAX: usize = 200;

/// Writes the report.
pub(crate) fn write(report: &RunReport, read: ReadStored<'_>, out: &mut dyn Write) -> io::Result<()> {
    let title = report.started.as_ref().map_or("apm", |started| started.title.as_str());
    writeln!(out, "## apm run {}\n\n**{}**\n", markdown(title), markdown(&text::verdict(report, &Layout::PLAIN)))?;
    writeln!(out, "| | task | time | memory | what |\n|---|---|---:|---:|---|")?;
    let mut rows: Vec<_> = report.rows.iter().collect();
    rows.sort_by_key(|row| row.outcome.as_ref().is_some_and(Outcome::is_good));
    for row in rows.iter().take(ROWS_MAX) {
        let why = row.outcome.as_ref().filter(|o| !matches!(o, Outcome::Passed)).map(text::explain).unwrap_or_default();
        let memory = row.last_finished().map(|f| f.usage.memory_peak.to_string()).unwrap_or_default();
        let (word, id) = (row.word(), markdown(row.task.id.as_str()));
        writeln!(out, "| {word} | {id} | {} | {memory} | {} |", number::duration(row.wall()), markdown(&why))?;
    }
    if rows.len() > ROWS_MAX {
        writeln!(out, "\n... and {} more tasks", rows.len() - ROWS_MAX)?;
    }
    // In the same order: warnings of what passed must not push failures out of the list.
    let mut items = Vec::new();
    for row in rows {
        let Some(finished) = row.last_finished().filter(|finished| finished.results.is_some()) else { continue };
        let found = text::results(finished, read);
        let failed = |status| matches!(status, TestStatus::Failed | TestStatus::Error);
        let id = markdown(row.task.id.as_str());
        for test in found.tests.iter().filter(|test| failed(test.status)) {
            items.push(format!("- {id}: failed test {} {}", markdown(&test.suite), markdown(&test.name)));
        }
        for finding in found.findings.iter().filter(|finding| finding.severity != Severity::Note) {
            let what = format!("{}{}", text::place(finding), finding.message);
            let rule = if finding.rule.is_empty() { String::new() } else { format!(" ({})", finding.rule) };
            items.push(format!("- {id}: {}{}", markdown(&what), markdown(&rule)));
        }
    }
    if !items.is_empty() {
        writeln!(out, "\n### Findings and failed tests\n\n{}", items[..items.len().min(ITEMS_MAX)].join("\n"))?;
    }
    if items.len() > ITEMS_MAX {
        writeln!(out, "\n... and {} more", items.len() - ITEMS_MAX)?;
    }
    Ok(())
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
            rule: "W1".to_owned(),
            severity: Severity::Warning,
            message: "unused".to_owned(),
            file: String::new(),
            line: 0,
            column: 0,
            line_end: 0,
            column_end: 0,
            url: String::new(),
        };
        let results = Results { findings: vec![finding; ITEMS_MAX], ..Results::default() };
        let failed = Outcome::Failed { cause: Cause::Results { tests_failed: 0, findings: 1 } };
        let failed = Checked { outcome: failed, results: results.clone(), stderr: "" };
        let text = Checked { outcome: Outcome::Passed, results, stderr: "" }.write(|report, read, out| {
            let mut report = report.clone();
            report.rows.push(failed.row("failed"));
            write(&report, read, out)
        });
        assert!(text.contains("tests\n\n- failed: unused (W1)\n"), "{text}");
        assert!(text.ends_with("\n... and 200 more\n"), "{text}");
    }
}
