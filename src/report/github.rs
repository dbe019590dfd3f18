//! Annotations of GitHub workflows. GitHub shows 10 errors and 10 warnings of a step: the gravest come first, and a line
//! says how many more there are.

use std::io::{self, Write};

use crate::model::finding::{Finding, Severity, TestStatus};
use crate::model::outcome::Outcome;
use crate::report::run::RunReport;
use crate::report::{ReadStored, text};
use crate::text::escape::{github_message, github_property};
use crate::text::layout::Layout;
use crate::text::transcript;

/// Annotations of each level that GitHub shows.
const SHOWN: usize = 10;

/// Writes workflow commands.
pub(crate) fn write(report: &RunReport, read: ReadStored<'_>, out: &mut dyn Write) -> io::Result<()> {
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    for row in &report.rows {
        let found = row.last_finished().map(|finished| text::results(finished, read)).unwrap_or_default();
        let title = row.task.id.as_str();
        for test in &found.tests {
            if matches!(test.status, TestStatus::Failed | TestStatus::Error) {
                errors.push(plain(title, &format!("{} {}: {}", test.suite, test.name, test.message)));
            }
        }
        for finding in &found.findings {
            match finding.severity {
                Severity::Error => errors.push(placed(title, finding)),
                Severity::Warning => warnings.push(placed(title, finding)),
                Severity::Note => {}
            }
        }
        let bad = row.outcome.as_ref().filter(|o| o.is_failure() || matches!(o, Outcome::Broken { .. }));
        if let Some(outcome) = bad.filter(|_| found.tests.is_empty() && found.findings.is_empty()) {
            errors.push(plain(title, &text::explain(outcome)));
        }
    }
    for (level, all) in [("error", &errors), ("warning", &warnings)] {
        for line in all.iter().take(SHOWN) {
            writeln!(out, "::{level} {line}")?;
        }
        if all.len() > SHOWN {
            writeln!(out, "{} more {level}s are not shown here", all.len() - SHOWN)?;
        }
    }
    writeln!(out, "{}", text::verdict(report, &Layout::PLAIN))
}

fn plain(title: &str, message: &str) -> String {
    format!("title={}::{}", github_property(title), github_message(&transcript::clean(message.as_bytes())))
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
    let message = format!("{} ({})", transcript::clean(finding.message.as_bytes()), finding.rule);
    format!("{out},title={}::{}", github_property(title), github_message(&message))
}
