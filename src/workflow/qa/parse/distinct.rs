//! Findings as readers collect them.

use std::collections::HashSet;

use crate::model::finding::{Finding, Severity};

/// Findings, each once: the library and its tests, a package and its test variant, two streams say the same.
#[derive(Default)]
pub(super) struct Distinct {
    pub(super) findings: Vec<Finding>,
    /// Severity, place, rule and message: what makes two findings the same.
    seen: HashSet<(Severity, String, [u32; 4], String, String)>,
}

impl Distinct {
    pub(super) fn push(&mut self, found: Finding) {
        let place = [found.line, found.column, found.line_end, found.column_end];
        let key = (found.severity, found.file.clone(), place, found.rule.clone(), found.message.clone());
        if self.seen.insert(key) {
            self.findings.push(found);
        }
    }
}

/// A finding without a place.
pub(super) fn finding(severity: Severity, rule: &str, message: &str) -> Finding {
    Finding {
        rule: rule.to_owned(),
        severity,
        message: message.trim().to_owned(),
        file: String::new(),
        line: 0,
        column: 0,
        line_end: 0,
        column_end: 0,
        url: String::new(),
    }
}
