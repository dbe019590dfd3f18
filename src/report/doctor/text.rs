//! The diagnosis for people: the verdict first, the worst first, what is well in one line.

use std::io::{self, Write};

use crate::model::diagnosis::{Diagnosis, Evidence, Finding, Severity};
use crate::model::unit::Bytes;
use crate::text::layout::{Layout, Style, pad};
use crate::text::{number, transcript};

/// Columns before the text of a finding.
const MARGIN: usize = 6;

/// Writes it.
pub(crate) fn write(diagnosis: &Diagnosis, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", verdict(diagnosis, layout))?;
    for finding in &diagnosis.findings {
        write_finding(finding, layout, out)?;
    }
    if !diagnosis.skipped.is_empty() {
        writeln!(out)?;
        for skipped in &diagnosis.skipped {
            let line = format!("skipped {}: {}", skipped.rule, transcript::line(&skipped.reason));
            writeln!(out, "{}", layout.paint(Style::Dim, &layout.cut(&line, layout.width)))?;
        }
    }
    Ok(())
}

/// One line: how many findings of which severity, and where.
pub(crate) fn verdict(diagnosis: &Diagnosis, layout: &Layout) -> String {
    let (crit, warn, info) =
        (diagnosis.count(Severity::Crit), diagnosis.count(Severity::Warn), diagnosis.count(Severity::Info));
    let (word, style) = match (crit, warn) {
        (0, 0) => ("good", Style::Good),
        (0, _) => ("suffers", Style::Warn),
        _ => ("ill", Style::Bad),
    };
    let mut parts = Vec::new();
    if crit > 0 {
        parts.push(format!("{crit} critical"));
    }
    if warn > 0 {
        parts.push(number::count(warn as u64, "warning"));
    }
    if info > 0 {
        parts.push(format!("{info} to know"));
    }
    parts.push(format!("{} ok", diagnosis.ok.len()));
    if !diagnosis.skipped.is_empty() {
        parts.push(format!("{} skipped", diagnosis.skipped.len()));
    }
    let host = &diagnosis.host;
    let place = host.container.as_deref().map(|container| format!(", {container}")).unwrap_or_default();
    format!(
        "{}: {} ({:.1} s; {} CPUs, {}, cgroup {}{place})",
        layout.paint(style, word),
        parts.join(", "),
        diagnosis.window_s,
        host.cpus,
        Bytes(host.memory),
        host.cgroup,
    )
}

fn write_finding(finding: &Finding, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let (word, style) = match finding.severity {
        Severity::Crit => ("CRIT", Style::Bad),
        Severity::Warn => ("WARN", Style::Warn),
        Severity::Info => ("INFO", Style::Dim),
    };
    let margin = " ".repeat(MARGIN);
    let room = layout.width.saturating_sub(MARGIN);
    let title = format!("{}: {}", finding.rule, transcript::line(&finding.title));
    writeln!(out, "\n{} {}", layout.paint(style, &pad(word, MARGIN - 1)), layout.cut(&title, room))?;
    for culprit in &finding.culprits {
        let pid = culprit.pid.map(|pid| format!("[{pid}]")).unwrap_or_default();
        let line = format!("by    {}{pid} {}", transcript::line(&culprit.name), transcript::line(&culprit.what));
        writeln!(out, "{margin}{}", layout.cut(&line, room))?;
    }
    for evidence in &finding.evidence {
        let line = format!("read  {}", say(evidence));
        writeln!(out, "{margin}{}", layout.paint(Style::Dim, &layout.cut(&line, room)))?;
    }
    for remedy in &finding.remedies {
        let command = remedy.command.as_deref().map(|command| format!(": {command}")).unwrap_or_default();
        writeln!(out, "{margin}{}", layout.cut(&format!("do    {}{command}", transcript::line(&remedy.text)), room))?;
    }
    Ok(())
}

fn say(evidence: &Evidence) -> String {
    let value = |value: f64| match evidence.unit.as_str() {
        "B" => Bytes(value.max(0.0) as u64).to_string(),
        unit if value.fract() == 0.0 => format!("{value:.0}{unit}"),
        unit => format!("{value:.2}{unit}"),
    };
    let before = evidence.before.map(|before| format!("{} -> ", value(before))).unwrap_or_default();
    let place = transcript::line(&format!("{} {}", evidence.path, evidence.field));
    format!("{place} {before}{}", value(evidence.after))
}
