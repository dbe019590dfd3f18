//! Findings as readers collect them.

use std::collections::HashSet;

use crate::model::finding::{Finding, Severity};
use crate::model::raw::Raw;

/// Findings, each once: the library and its tests, a package and its test variant, two streams say the same.
#[derive(Default)]
pub(super) struct Distinct {
    pub(super) findings: Vec<Finding>,
    /// Severity, place, rule and message: what makes two findings the same.
    seen: HashSet<(Severity, Raw, [u32; 4], Raw, Raw)>,
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
        rule: rule.into(),
        severity,
        message: message.trim().into(),
        file: Raw::default(),
        line: 0,
        column: 0,
        line_end: 0,
        column_end: 0,
        url: Raw::default(),
    }
}
