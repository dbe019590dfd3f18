//! Asks the rules that a question is about, and makes one diagnosis of what they say.

use crate::doctor::catalogue::{asks, rules, thresholds_of};
use crate::doctor::question::Question;
use crate::doctor::rule::{RuleContext, Skip};
use crate::doctor::{host, vitals};
use crate::model::diagnosis::{Diagnosis, Finding, Severity, Skipped, Summary};
use crate::model::snapshot::Window;

/// The version of the report.
pub(crate) const SCHEMA: &str = "apm.doctor/1";

/// Asks every rule that the question is about.
pub(crate) fn diagnose(window: &Window, question: &Question) -> Diagnosis {
    let (mut findings, mut ok, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
    for rule in rules().filter(|rule| asks(question, rule)) {
        let (warn, crit) = thresholds_of(question, rule);
        let context = RuleContext { rule, question, window, warn, crit };
        match (rule.check)(&context) {
            Ok(found) if found.is_empty() => ok.push(rule.id.to_owned()),
            Ok(found) => findings.extend(found.into_iter().map(|finding| context.apply_thresholds(finding))),
            Err(Skip(reason)) => skipped.push(Skipped { rule: rule.id.to_owned(), reason }),
        }
    }
    // Stable: among equals the order of the rules stays.
    findings.sort_by_key(|finding| std::cmp::Reverse((finding.severity, finding.confidence)));
    findings.iter_mut().for_each(finite);
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let summary = Summary {
        crit: count(Severity::Crit),
        warn: count(Severity::Warn),
        info: count(Severity::Info),
        ok: ok.len(),
        skipped: skipped.len(),
    };
    let (host, vitals) = (host::facts(&window.to), vitals::of(window));
    let window_s = (window.seconds() * 1000.0).round() / 1000.0;
    Diagnosis { schema: SCHEMA.to_owned(), host, window_s, summary, findings, ok, skipped, vitals }
}

/// No format has a word for what is no number.
fn finite(finding: &mut Finding) {
    let values = finding.evidence.iter_mut().flat_map(|one| one.before.as_mut().into_iter().chain([&mut one.after]));
    for value in values.chain([&mut finding.value]) {
        *value = if value.is_nan() { 0.0 } else { value.clamp(f64::MIN, f64::MAX) };
    }
}
