//! Rules told to people: the list of them, and one explained.

use std::io::{self, Write};

use crate::model::diagnosis::RuleFacts;
use crate::report::doctor::{document, phrase};
use crate::text::layout::{Layout, Style, pad, wrap};

/// Columns of the names of what is explained.
const LABEL: usize = 11;

/// One line a rule; two where there is little room.
pub(crate) fn list(rules: &[RuleFacts], layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let widest = |text: &dyn Fn(&RuleFacts) -> usize| rules.iter().map(text).max().unwrap_or_default();
    let id = widest(&|rule| rule.id.len()) + 2;
    let limit = widest(&|rule| limits(rule).len()) + 2;
    let is_wide = id + limit + 30 <= layout.width;
    for rule in rules {
        let name = layout.paint(Style::Strong, &pad(&rule.id, id));
        if is_wide {
            let before = format!("{name}{}", pad(&limits(rule), limit));
            for (at, line) in wrap(&rule.title, layout.width - id - limit).iter().enumerate() {
                let before = if at == 0 { before.clone() } else { " ".repeat(id + limit) };
                writeln!(out, "{before}{line}")?;
            }
        } else {
            writeln!(out, "{name}{}", limits(rule))?;
            for line in wrap(&rule.title, layout.width.saturating_sub(4)) {
                writeln!(out, "    {line}")?;
            }
        }
    }
    Ok(())
}

fn limits(rule: &RuleFacts) -> String {
    phrase::limits(rule.warn, rule.crit, &rule.unit).unwrap_or_else(|| "tells only".to_owned())
}

/// What it reads, computes, holds against, and what helps.
pub(crate) fn explain(rule: &RuleFacts, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    for line in wrap(&format!("{}: {}", rule.id, rule.title), layout.width) {
        writeln!(out, "{}", layout.paint(Style::Strong, &line))?;
    }
    writeln!(out)?;
    let limits = match phrase::limits(rule.warn, rule.crit, &rule.unit) {
        Some(limits) => format!("{limits}; bad {}", rule.bad),
        None => "none: it tells only".to_owned(),
    };
    let ignore = format!(
        "`--threshold {0}=WARN:CRIT` or `doctor.thresholds` changes them, `--ignore {0}` or `doctor.ignore` silences it",
        rule.id
    );
    for (label, text) in [
        ("area", rule.area.word()),
        ("reads", &rule.source),
        ("computes", &rule.computation),
        ("thresholds", &limits),
        ("from", &rule.thresholds_from),
        ("helps", &rule.remedy),
        ("", &ignore),
    ] {
        for (at, line) in wrap(text, layout.width.saturating_sub(LABEL + 1).max(1)).iter().enumerate() {
            let label = if at == 0 { label } else { "" };
            writeln!(out, "{} {line}", layout.paint(Style::Dim, &pad(label, LABEL)))?;
        }
    }
    Ok(())
}

/// As data.
pub(crate) fn json(rules: &[RuleFacts], out: &mut dyn Write) -> io::Result<()> {
    document(&rules, out)
}
