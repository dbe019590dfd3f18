//! The diagnosis for people: the verdict first, then the answer to a question, the worst first, information in one line
//! each, what is well in one line, what could not be seen with the reason. Lines break at blanks and nothing is cut: half a command is worse than two lines.

use std::io::{self, Write};

use crate::model::diagnosis::{Finding, Severity};
use crate::report::doctor::{Sheet, phrase};
use crate::text::layout::{Layout, Style, pad, wrap, wrap_command};
use crate::text::transcript;

/// Columns before what is said about a finding, and in narrow places.
const MARGIN: usize = 6;
const NARROW_MARGIN: usize = 2;
/// From so many columns on the margin is the wide one.
const WIDE: usize = 60;
/// Columns of the words that say what a line is.
const LABEL: usize = 7;
/// The rule that answers `--pid` and `--cgroup`.
const ANSWER: &str = "focus";

/// Writes it.
pub(crate) fn write(sheet: &Sheet<'_>, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    transcript::print(out, |out| write_all(sheet, layout, out))
}

fn write_all(sheet: &Sheet<'_>, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let diagnosis = sheet.diagnosis;
    verdict(sheet, layout, out)?;
    for line in wrap(&phrase::machine(diagnosis), layout.width) {
        writeln!(out, "{}", layout.paint(Style::Dim, &line))?;
    }
    // Those who want all of what is only information say so; the answer to a question was asked for.
    let is_short =
        |finding: &Finding| finding.severity == Severity::Info && !sheet.is_verbose && finding.rule != ANSWER;
    let mut was_short = false;
    for finding in &diagnosis.findings {
        let is_short = is_short(finding);
        if !(is_short && was_short) {
            writeln!(out)?;
        }
        write_title(finding, layout, out)?;
        if !is_short {
            write_rest(finding, diagnosis.window_s, layout, out)?;
        }
        was_short = is_short;
    }
    if !diagnosis.ok.is_empty() || !diagnosis.skipped.is_empty() {
        writeln!(out)?;
    }
    let (margin, label) = (String::new(), LABEL + 2);
    let well = if sheet.is_verbose { diagnosis.ok.join(", ") } else { phrase::well(&diagnosis.ok, sheet.rules) };
    lines(
        &Lines { margin: &margin, label: "ok", columns: label, style: Style::Good },
        &wrap(&well, room(layout, label)),
        layout,
        out,
    )?;
    for (reason, rules) in phrase::reasons(&diagnosis.skipped) {
        let text = format!("{}: {reason}", rules.join(", "));
        let style = Style::Dim;
        lines(
            &Lines { margin: &margin, label: "skipped", columns: label, style },
            &wrap(&text, room(layout, label)),
            layout,
            out,
        )?;
    }
    if let Some(finding) = diagnosis.findings.first() {
        let more = if diagnosis.findings.iter().any(is_short) { "; `--verbose` shows all of each INFO" } else { "" };
        let hint = format!("`apm doctor --explain {}` says more of a rule{more}", finding.rule);
        writeln!(out)?;
        for line in wrap(&hint, layout.width) {
            writeln!(out, "{}", layout.paint(Style::Dim, &line))?;
        }
    }
    Ok(())
}

fn room(layout: &Layout, used: usize) -> usize {
    layout.width.saturating_sub(used).max(1)
}

fn verdict(sheet: &Sheet<'_>, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let (word, style) = phrase::state(sheet.diagnosis);
    for (at, line) in wrap(&phrase::verdict(sheet.diagnosis), layout.width).iter().enumerate() {
        match line.strip_prefix(word.as_str()).filter(|_| at == 0) {
            Some(rest) => writeln!(out, "{}{rest}", layout.paint(style, &word))?,
            None => writeln!(out, "{line}")?,
        }
    }
    Ok(())
}

fn write_title(finding: &Finding, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let (word, style) = phrase::severity(finding.severity);
    let title = format!("{}: {}", finding.rule, transcript::line(&finding.title));
    for (at, line) in wrap(&title, room(layout, MARGIN)).iter().enumerate() {
        let head = if at == 0 { layout.paint(style, &pad(word, MARGIN - 1)) } else { " ".repeat(MARGIN - 1) };
        writeln!(out, "{head} {line}")?;
    }
    Ok(())
}

fn write_rest(finding: &Finding, seconds: f64, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let width = if layout.width < WIDE { NARROW_MARGIN } else { MARGIN };
    let margin = " ".repeat(width);
    let columns = room(layout, width + LABEL);
    let say = |label: &str, style: Style, text: &[String], out: &mut dyn Write| {
        lines(&Lines { margin: &margin, label, columns: LABEL, style }, text, layout, out)
    };
    for culprit in &finding.culprits {
        say("by", Style::Strong, &wrap(&phrase::culprit(culprit), columns), out)?;
    }
    for evidence in &finding.evidence {
        say("read", Style::Dim, &wrap(&phrase::evidence(evidence, seconds), columns), out)?;
    }
    if let Some(held) = phrase::held_in(finding, columns) {
        say("limit", Style::Dim, &wrap(&held, columns), out)?;
    }
    for symptom in &finding.symptoms {
        say("also", Style::Dim, &wrap(&phrase::symptom(symptom), columns), out)?;
    }
    for remedy in &finding.remedies {
        let mut text = wrap(&transcript::line(&remedy.text), columns);
        if let Some(command) = &remedy.command {
            text.extend(wrap_command(&transcript::line(command), columns));
        }
        say("do", Style::Good, &text, out)?;
    }
    Ok(())
}

/// Lines with a word before the first.
struct Lines<'a> {
    margin: &'a str,
    label: &'a str,
    columns: usize,
    style: Style,
}

fn lines(what: &Lines<'_>, text: &[String], layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    for (at, line) in text.iter().enumerate() {
        let label = if at == 0 { what.label } else { "" };
        let label = pad(label, what.columns);
        let label = if at == 0 { layout.paint(what.style, &label) } else { label };
        let line = if what.style == Style::Dim { layout.paint(Style::Dim, line) } else { line.clone() };
        writeln!(out, "{}{label}{line}", what.margin)?;
    }
    Ok(())
}
