//! One self-contained page: the verdict, how loaded the machine was in pictures, each finding with who causes it and the
//! evidence, what was well, what could not be seen. No script, nothing loaded; light and dark; prints well. Pictures hold
//! shapes only and stretch; all words are text of the page, so that they stay readable on a telephone.

use std::fmt::Write as _;
use std::io::{self, Write};

use crate::model::diagnosis::{Finding, Part, RuleFacts, Severity};
use crate::report::doctor::{Sheet, phrase};
use crate::report::html::STYLE;
use crate::text::escape::xml;
use crate::text::layout::Style;
use crate::text::transcript;

/// Findings shown in full.
const FINDINGS_MAX: usize = 200;

/// What this page has besides.
const OWN_STYLE: &str = "\
h3{font-size:.95rem;margin:1rem 0 .3rem}a{color:var(--curve)}td.w,td.w *{white-space:nowrap;overflow-wrap:normal}.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(20rem,100%),1fr));gap:0 2rem}\
.bar{display:grid;grid-template-columns:6.5rem 1fr 4rem;gap:.6rem;align-items:center;font-size:13px;line-height:1.35}\
.bar svg,.stack svg{background:var(--panel);border-radius:2px;width:100%;height:.7rem}.stack svg{height:1.6rem}\
.bar .n{text-align:right;font-variant-numeric:tabular-nums}svg .some{fill:var(--curve);opacity:.45}svg .full{fill:var(--bad)}\
.legend{display:flex;flex-wrap:wrap;gap:.1rem 1rem;padding:0;margin:.4rem 0;list-style:none;font-size:13px}\
.legend svg{display:inline-block;width:.8rem;height:.8rem;vertical-align:-.05rem;margin-right:.35rem;border-radius:2px}\
svg .p0{fill:#2f6fd0}svg .p1{fill:#e08a1e}svg .p2{fill:#2a9d78}svg .p3{fill:#b4549c}svg .p4{fill:#c8b02a}svg .p5{fill:#5bb0dd}\
svg .p6{fill:#8a6d5a}svg .rest{fill:var(--line)}details{border:1px solid var(--line);border-left:4px solid var(--skip);border-radius:4px;\
padding:.5rem .9rem;margin:.6rem 0}details.crit{border-left-color:var(--bad)}details.warn{border-left-color:var(--warn)}\
summary{cursor:pointer;overflow-wrap:anywhere}.crit b{color:var(--bad)}.warn b{color:var(--warn)}.info b{color:var(--skip)}\
dl{display:grid;grid-template-columns:minmax(6.5rem,max-content) 1fr;gap:.2rem .6rem;margin:.5rem 0}dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}\
@media(max-width:34rem){body{padding:.8rem}dl{grid-template-columns:1fr}dd{padding-left:.8rem}.wide{display:none}\
.bar{grid-template-columns:5.2rem 1fr 3.4rem}.read tr:first-child{display:none}.read tr{display:flex;flex-wrap:wrap;\
border-bottom:1px solid var(--line)}.read td{border:0}.read td:first-child{flex-basis:100%}.read td.before:not(:empty)::after{content:' \\2192'}}\
@media print{body{font-size:10pt;padding:0}details,tr,.bar,.stack{break-inside:avoid}h2,h3{break-after:avoid}\
details::details-content{content-visibility:visible;block-size:auto}.screen{display:none}}";

/// Writes the page.
pub(crate) fn write(sheet: &Sheet<'_>, out: &mut dyn Write) -> io::Result<()> {
    let diagnosis = sheet.diagnosis;
    let verdict = xml(&phrase::verdict(diagnosis));
    let class = match phrase::state(diagnosis).1 {
        Style::Good => "passed",
        Style::Bad => "failed",
        _ => "broken",
    };
    writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{verdict} - apm doctor</title><style>{STYLE}{OWN_STYLE}</style></head>\n<body>\n<h1>apm doctor</h1>\n\
         <p class=\"verdict {class}\">{verdict}</p>\n<p class=\"dim\">{}</p>",
        xml(&phrase::machine(diagnosis))
    )?;
    overview(sheet, out)?;
    pressure(sheet, out)?;
    parts("CPU time in the window", &diagnosis.vitals.cpu, "%", "idle", out)?;
    parts("Memory at the end of it", &diagnosis.vitals.memory, "B", "free", out)?;
    findings(sheet, out)?;
    well(sheet, out)?;
    skipped(sheet, out)?;
    writeln!(out, "</body></html>")
}

/// The table of findings.
fn overview(sheet: &Sheet<'_>, out: &mut dyn Write) -> io::Result<()> {
    let all = &sheet.diagnosis.findings;
    if all.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h2>Findings</h2>\n<table><tr><th></th><th>rule</th><th>what</th><th class=\"wide\">by</th></tr>")?;
    for (at, finding) in all.iter().enumerate() {
        let (word, class) = (phrase::severity(finding.severity).0, finding.severity.word());
        let link = if at < FINDINGS_MAX {
            format!("<a href=\"#f{at}\">{}</a>", xml(&finding.rule))
        } else {
            xml(&finding.rule)
        };
        let by = finding.culprits.first().map(|culprit| xml(&phrase::who(culprit))).unwrap_or_default();
        writeln!(
            out,
            "<tr class=\"{class}\"><td class=\"w\"><b>{word}</b></td><td class=\"mono w\">{link}</td><td>{}</td><td class=\"mono wide\">{by}</td></tr>",
            xml(&transcript::line(&finding.title))
        )?;
    }
    writeln!(out, "</table>")
}

/// A bar of so many percent.
fn bar(parts: &[(&str, f64)]) -> String {
    let mut svg = String::from("<svg viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\">");
    for (class, percent) in parts {
        let _ = write!(svg, "<rect class=\"{class}\" width=\"{:.2}\" height=\"10\"/>", percent.clamp(0.0, 100.0));
    }
    svg + "</svg>"
}

fn pressure(sheet: &Sheet<'_>, out: &mut dyn Write) -> io::Result<()> {
    let all = &sheet.diagnosis.vitals.pressure;
    writeln!(out, "<h2>Time tasks waited for a resource</h2>")?;
    if all.is_empty() {
        return writeln!(out, "<p class=\"dim\">The kernel does not tell (no /proc/pressure).</p>");
    }
    let key = |class: &str, text: &str| format!("<li>{}{text}</li>", bar(&[(class, 100.0)]));
    writeln!(
        out,
        "<ul class=\"legend\">{}{}</ul>\n<div class=\"charts\">",
        key("some", "some task waited"),
        key("full", "all tasks waited")
    )?;
    for stalled in all {
        writeln!(out, "<div><h3>{}</h3>", xml(&stalled.resource))?;
        let (some, full) = (&stalled.some, &stalled.full);
        let rows = [
            ("this window", some.window.zip(full.window)),
            ("last 10 s", Some((some.avg10, full.avg10))),
            ("last minute", Some((some.avg60, full.avg60))),
            ("last 5 min", Some((some.avg300, full.avg300))),
        ];
        for (label, shares) in rows {
            let Some((some, full)) = shares else { continue };
            writeln!(
                out,
                "<div class=\"bar\" title=\"some {some}%, full {full}%\"><span class=\"dim\">{label}</span>{}<span class=\"n\">{}</span></div>",
                bar(&[("some", some), ("full", full)]),
                phrase::value(some, "%")
            )?;
        }
        writeln!(out, "</div>")?;
    }
    writeln!(out, "</div>")
}

/// A whole and its parts. The one that is no load has no colour of its own.
fn parts(title: &str, parts: &[Part], unit: &str, rest: &str, out: &mut dyn Write) -> io::Result<()> {
    let whole: f64 = parts.iter().map(|part| part.value).sum();
    if whole <= 0.0 {
        return Ok(());
    }
    let mut svg =
        format!("<svg viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{title}\">");
    let (mut at, mut legend) = (0.0, String::new());
    for (number, part) in parts.iter().filter(|part| part.value > 0.0).enumerate() {
        let class = if part.name == rest { "rest".to_owned() } else { format!("p{}", number % 7) };
        let width = 100.0 * part.value / whole;
        let (name, value) = (xml(&part.name), phrase::value(part.value, unit));
        let _ = write!(
            svg,
            "<rect class=\"{class}\" x=\"{at:.3}\" width=\"{width:.3}\" height=\"10\"><title>{name} {value}</title></rect>"
        );
        let _ = write!(legend, "<li>{}{name} {value}</li>", bar(&[(&class, 100.0)]));
        at += width;
    }
    writeln!(out, "<h2>{title}</h2>\n<div class=\"stack\">{svg}</svg><ul class=\"legend\">{legend}</ul></div>")
}

fn findings(sheet: &Sheet<'_>, out: &mut dyn Write) -> io::Result<()> {
    let all = &sheet.diagnosis.findings;
    if all.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h2>Who, on what evidence, what to do</h2>")?;
    for (at, finding) in all.iter().take(FINDINGS_MAX).enumerate() {
        let (word, class) = (phrase::severity(finding.severity).0, finding.severity.word());
        writeln!(
            out,
            "<details open id=\"f{at}\" class=\"{class}\"><summary><b>{word}</b> <span class=\"mono\">{}</span> {}</summary>",
            xml(&finding.rule),
            xml(&transcript::line(&finding.title))
        )?;
        body(finding, sheet, out)?;
        writeln!(out, "</details>")?;
    }
    if all.len() > FINDINGS_MAX {
        writeln!(out, "<p class=\"dim\">... and {} more, in the table above</p>", all.len() - FINDINGS_MAX)?;
    }
    Ok(())
}

fn body(finding: &Finding, sheet: &Sheet<'_>, out: &mut dyn Write) -> io::Result<()> {
    if !finding.culprits.is_empty() {
        writeln!(out, "<h3>by</h3><ul>")?;
        for culprit in &finding.culprits {
            let what = xml(&transcript::line(&culprit.what));
            writeln!(out, "<li><span class=\"mono\">{}</span> {what}</li>", xml(&phrase::who(culprit)))?;
        }
        writeln!(out, "</ul>")?;
    }
    if !finding.evidence.is_empty() {
        writeln!(
            out,
            "<h3>read</h3><table class=\"read\"><tr><th>where</th><th class=\"n\">before</th><th class=\"n\">after</th><th class=\"n wide\">rate</th></tr>"
        )?;
        for evidence in &finding.evidence {
            let before = evidence.before.map(|before| xml(&phrase::value(before, &evidence.unit))).unwrap_or_default();
            let rate = phrase::rate(evidence, sheet.diagnosis.window_s).map(|rate| xml(&rate)).unwrap_or_default();
            writeln!(
                out,
                "<tr><td class=\"mono\">{}</td><td class=\"n before\">{before}</td><td class=\"n\">{}</td><td class=\"n wide\">{rate}</td></tr>",
                xml(&phrase::place(evidence)),
                xml(&phrase::value(evidence.after, &evidence.unit))
            )?;
        }
        writeln!(out, "</table>")?;
    }
    if let Some(held) = phrase::held(finding) {
        writeln!(out, "<p class=\"dim\">{}</p>", xml(&held))?;
    }
    if !finding.symptoms.is_empty() {
        writeln!(out, "<h3>also</h3><ul>")?;
        for symptom in &finding.symptoms {
            writeln!(out, "<li>{}</li>", xml(&phrase::symptom(symptom)))?;
        }
        writeln!(out, "</ul>")?;
    }
    if !finding.remedies.is_empty() {
        writeln!(out, "<h3>do</h3>")?;
    }
    for remedy in &finding.remedies {
        writeln!(out, "<div>{}</div>", xml(&transcript::line(&remedy.text)))?;
        if let Some(command) = &remedy.command {
            writeln!(out, "<pre>{}</pre>", xml(&transcript::line(command)))?;
        }
    }
    match sheet.rule(&finding.rule) {
        Some(rule) if finding.severity > Severity::Info => {
            writeln!(out, "<p class=\"dim\">How it is computed: {}.</p>", xml(&rule.computation))
        }
        _ => Ok(()),
    }
}

/// What was looked at and found well, an area at a time.
fn well(sheet: &Sheet<'_>, out: &mut dyn Write) -> io::Result<()> {
    let is_ok = |rule: &&RuleFacts| sheet.diagnosis.ok.contains(&rule.id);
    if !sheet.rules.iter().any(|rule| is_ok(&rule)) {
        return Ok(());
    }
    writeln!(out, "<h2>Found nothing</h2>")?;
    for area in phrase::AREAS {
        let rules: Vec<&RuleFacts> = sheet.rules.iter().filter(|rule| rule.area == area).filter(is_ok).collect();
        if rules.is_empty() {
            continue;
        }
        writeln!(out, "<details><summary>{} <span class=\"dim\">({})</span></summary><dl>", area.word(), rules.len())?;
        for rule in rules {
            let limits = phrase::limits(rule.warn, rule.crit, &rule.unit).map(|limits| format!(" ({limits})"));
            writeln!(
                out,
                "<dt class=\"mono\">{}</dt><dd>{}{}</dd>",
                xml(&rule.id),
                xml(&rule.title),
                xml(&limits.unwrap_or_default())
            )?;
        }
        writeln!(out, "</dl></details>")?;
    }
    Ok(())
}

fn skipped(sheet: &Sheet<'_>, out: &mut dyn Write) -> io::Result<()> {
    let all = phrase::reasons(&sheet.diagnosis.skipped);
    if all.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h2>Could not look</h2>\n<table><tr><th>rules</th><th>why</th></tr>")?;
    for (reason, rules) in all {
        writeln!(out, "<tr><td class=\"mono\">{}</td><td>{}</td></tr>", xml(&rules.join(", ")), xml(&reason))?;
    }
    writeln!(out, "</table>")
}
