//! Annotations of GitHub workflows. GitHub shows 10 errors, 10 warnings and 10 notices of a step: the gravest come first,
//! and a line says how many more there are.

use std::io::{self, Write};

use crate::model::diagnosis::{Finding, Severity};
use crate::report::doctor::{Sheet, phrase};
use crate::text::escape::{github_message, github_property};
use crate::text::transcript::printed;

/// Annotations of each level that GitHub shows.
const SHOWN: usize = 10;

/// Writes workflow commands.
pub(crate) fn write(sheet: &Sheet<'_>, out: &mut dyn Write) -> io::Result<()> {
    let diagnosis = sheet.diagnosis;
    for (severity, level) in [(Severity::Crit, "error"), (Severity::Warn, "warning"), (Severity::Info, "notice")] {
        let all: Vec<&Finding> = diagnosis.findings.iter().filter(|finding| finding.severity == severity).collect();
        for finding in all.iter().take(SHOWN) {
            let message = phrase::whole(finding, diagnosis.window_s);
            writeln!(out, "::{level} title={}::{}", github_property(&finding.rule), github_message(&message))?;
        }
        if all.len() > SHOWN {
            writeln!(out, "{} more {level}s are not shown here", all.len() - SHOWN)?;
        }
    }
    // No command of its own: what it quotes of a saved look must not make it one.
    writeln!(out, "{}", printed(&phrase::verdict(diagnosis)))
}
