//! JUnit XML: a suite an area, a case a rule. A rule fails from the severity of `--fail-on` on; what it found below that
//! is its output; one that could not look is skipped with the reason.

use std::io::{self, Write};

use crate::model::diagnosis::{Finding, RuleFacts};
use crate::report::doctor::{Sheet, phrase};
use crate::text::escape::xml;
use crate::text::transcript;

/// Writes the file.
pub(crate) fn write(sheet: &Sheet<'_>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(out, "<testsuites name=\"apm doctor\" time=\"{:.3}\">", sheet.diagnosis.window_s)?;
    for area in phrase::AREAS {
        let rules: Vec<&RuleFacts> = sheet.rules.iter().filter(|rule| rule.area == area).collect();
        if !rules.is_empty() {
            suite(area.word(), &rules, sheet, out)?;
        }
    }
    writeln!(out, "</testsuites>")
}

fn suite(name: &str, rules: &[&RuleFacts], sheet: &Sheet<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut cases = Vec::new();
    let (mut failures, mut skipped) = (0, 0);
    for rule in rules {
        // A case is a rule, also where another explains what it found.
        let all = sheet.diagnosis.findings.iter().flat_map(Finding::with_symptoms);
        let found: Vec<&Finding> = all.filter(|finding| finding.rule == rule.id).collect();
        let head = format!("    <testcase classname=\"apm.doctor.{name}\" name=\"{}\" time=\"0.000\"", xml(&rule.id));
        let whole = |found: &[&Finding]| {
            let texts: Vec<String> =
                found.iter().map(|finding| phrase::whole(finding, sheet.diagnosis.window_s)).collect();
            xml(&texts.join("\n\n"))
        };
        let failing: Vec<&Finding> = found.iter().copied().filter(|finding| sheet.fails(finding)).collect();
        if let Some(worst) = failing.first() {
            failures += 1;
            let more = if failing.len() > 1 { format!(" (and {} more)", failing.len() - 1) } else { String::new() };
            let message = xml(&format!("{}{more}", transcript::line(&worst.title)));
            writeln!(
                cases,
                "{head}><failure type=\"{}\" message=\"{message}\">{}</failure></testcase>",
                worst.severity.word(),
                whole(&found)
            )?;
        } else if !found.is_empty() {
            writeln!(cases, "{head}><system-out>{}</system-out></testcase>", whole(&found))?;
        } else if let Some(skip) = sheet.diagnosis.skipped.iter().find(|skip| skip.rule == rule.id) {
            skipped += 1;
            let reason = xml(&transcript::line(&skip.reason));
            writeln!(cases, "{head}><skipped message=\"{reason}\"/></testcase>")?;
        } else {
            writeln!(cases, "{head}/>")?;
        }
    }
    writeln!(
        out,
        "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" time=\"0.000\">",
        rules.len()
    )?;
    out.write_all(&cases)?;
    writeln!(out, "  </testsuite>")
}
