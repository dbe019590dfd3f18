//! SARIF 2.1.0. A finding has no file and no line: its locations are logical, a process, a group, a mount. A rule that
//! could not look is a notification of the run, so that nobody takes its silence for good.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::model::diagnosis::{Culprit, Finding, RuleFacts, Severity};
use crate::report::doctor::{Sheet, document, phrase};
use crate::text::transcript;

/// Writes the log.
pub(crate) fn write(sheet: &Sheet<'_>, out: &mut dyn Write) -> io::Result<()> {
    let diagnosis = sheet.diagnosis;
    let rules: Vec<Value> = sheet.rules.iter().map(rule).collect();
    let results: Vec<Value> = diagnosis.findings.iter().map(|finding| result(finding, sheet)).collect();
    let notes: Vec<Value> = diagnosis
        .skipped
        .iter()
        .map(|skipped| {
            json!({
                "level": "note",
                "message": {"text": format!("{} could not look: {}.", skipped.rule, transcript::line(&skipped.reason))},
                "associatedRule": {"id": skipped.rule},
            })
        })
        .collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "apm doctor",
                "version": env!("CARGO_PKG_VERSION"),
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "invocations": [{"executionSuccessful": true, "toolExecutionNotifications": notes}],
            "results": results,
            "columnKind": "unicodeCodePoints",
            "properties": {"host": diagnosis.host, "window_s": diagnosis.window_s, "verdict": phrase::verdict(diagnosis)},
        }],
    });
    document(&log, out)
}

fn rule(rule: &RuleFacts) -> Value {
    let limits = phrase::limits(rule.warn, rule.crit, &rule.unit).map_or_else(
        || "It tells only.".to_owned(),
        |limits| format!("Thresholds: {limits}, bad {}; from {}.", rule.bad, rule.thresholds_from),
    );
    // Many readers know the first sentence only.
    let sentence = |text: &str| {
        let mut letters = text.chars();
        let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
        format!("{first}{}.", letters.as_str().trim_end_matches('.'))
    };
    json!({
        "id": rule.id,
        "name": name(&rule.id),
        "shortDescription": {"text": sentence(&rule.title)},
        "fullDescription": {"text": format!("{} Reads {}; computes {}.", sentence(&rule.title), rule.source, rule.computation)},
        "help": {"text": format!("{}\n{limits}\nReads: {}\nComputes: {}", sentence(&rule.remedy), rule.source, rule.computation)},
        "defaultConfiguration": {"level": level(if rule.warn.is_some() || rule.crit.is_some() { Severity::Warn } else { Severity::Info })},
        "properties": {"area": rule.area.word(), "unit": rule.unit, "warn": rule.warn, "crit": rule.crit, "tags": [rule.area.word()]},
    })
}

/// `mem.cgroup_near` as `MemCgroupNear`.
fn name(id: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>()).unwrap_or_default()
    };
    id.split(['.', '_', '-']).map(capital).collect()
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Crit => "error",
        Severity::Warn => "warning",
        Severity::Info => "note",
    }
}

fn result(finding: &Finding, sheet: &Sheet<'_>) -> Value {
    let text = phrase::whole(finding, sheet.diagnosis.window_s);
    let locations: Vec<Value> =
        finding.culprits.iter().map(|culprit| json!({"logicalLocations": [place(culprit)]})).collect();
    let mut result = json!({
        "ruleId": finding.rule,
        "level": level(finding.severity),
        "message": {"text": text},
        "properties": {
            "severity": finding.severity,
            "confidence": finding.confidence,
            "value": finding.value,
            "unit": finding.unit,
            "evidence": finding.evidence,
            "culprits": finding.culprits,
            "remedies": finding.remedies,
        },
    });
    if let Some(index) = sheet.rules.iter().position(|rule| rule.id == finding.rule) {
        result["ruleIndex"] = json!(index);
    }
    if !locations.is_empty() {
        result["locations"] = json!(locations);
    }
    result
}

fn place(culprit: &Culprit) -> Value {
    json!({
        "name": transcript::line(&culprit.name),
        "fullyQualifiedName": phrase::who(culprit),
        "kind": culprit.kind,
    })
}
