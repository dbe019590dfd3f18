//! What checks say, in one model whatever the tool: tests and findings.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::raw::Raw;
use crate::model::unit::micros;

/// Everything read from the output of one attempt of a check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Tests, in the order of the tool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<Test>,
    /// Findings, in the order of the tool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Tests of which the tool printed only how many there were.
    #[serde(default, skip_serializing_if = "Counts::is_empty")]
    pub summary: Counts,
}

/// One test case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Test {
    /// The suite: crate, file, class or package.
    pub suite: Raw,
    /// The case in it.
    pub name: Raw,
    /// How it ended.
    pub status: TestStatus,
    /// How long it took, where the tool says.
    #[serde(default, rename = "duration_us", with = "micros::option", skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// What the tool printed about a failure or a skip.
    #[serde(default, skip_serializing_if = "Raw::is_empty")]
    pub message: Raw,
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestStatus {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It could not be run.
    Error,
    /// It was not run.
    Skipped,
}

/// One finding of a linter, a compiler, an auditor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule, as the tool names it; empty where it names none.
    pub rule: Raw,
    /// How grave.
    pub severity: Severity,
    /// What the tool says.
    pub message: Raw,
    /// The file relative to the repository, with `/`; empty where there is none.
    #[serde(default, skip_serializing_if = "Raw::is_empty")]
    pub file: Raw,
    /// First line, from 1; 0 where the finding is about the whole file.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub line: u32,
    /// First column, from 1; 0 where unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub column: u32,
    /// Last line; 0 where unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub line_end: u32,
    /// Column after the last; 0 where unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub column_end: u32,
    /// Where the rule is explained.
    #[serde(default, skip_serializing_if = "Raw::is_empty")]
    pub url: Raw,
}

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Worth fixing.
    Warning,
    /// Wrong.
    Error,
}

/// Counts of [`Results`], small enough for an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Tests that passed.
    pub tests_passed: u64,
    /// Tests that failed or could not be run.
    pub tests_failed: u64,
    /// Tests that were skipped.
    pub tests_skipped: u64,
    /// Findings of severity error.
    pub errors: u64,
    /// Findings of severity warning.
    pub warnings: u64,
    /// Findings of severity note.
    pub notes: u64,
}

impl Results {
    /// Counts them.
    pub fn counts(&self) -> Counts {
        let mut counts = self.summary;
        for test in &self.tests {
            match test.status {
                TestStatus::Passed => counts.tests_passed += 1,
                TestStatus::Failed | TestStatus::Error => counts.tests_failed += 1,
                TestStatus::Skipped => counts.tests_skipped += 1,
            }
        }
        for finding in &self.findings {
            match finding.severity {
                Severity::Error => counts.errors += 1,
                Severity::Warning => counts.warnings += 1,
                Severity::Note => counts.notes += 1,
            }
        }
        counts
    }
}

impl Counts {
    /// Nothing was counted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Tests, whatever became of them.
    pub fn tests(&self) -> u64 {
        self.tests_passed + self.tests_failed + self.tests_skipped
    }

    /// Findings of whatever severity.
    pub fn findings(&self) -> u64 {
        self.errors + self.warnings + self.notes
    }

    /// Sums two.
    pub fn add(&mut self, other: &Self) {
        self.tests_passed += other.tests_passed;
        self.tests_failed += other.tests_failed;
        self.tests_skipped += other.tests_skipped;
        self.errors += other.errors;
        self.warnings += other.warnings;
        self.notes += other.notes;
    }

    /// Takes back what was summed: the other one is a part of this.
    pub fn take_back(&mut self, other: &Self) {
        self.tests_passed -= other.tests_passed;
        self.tests_failed -= other.tests_failed;
        self.tests_skipped -= other.tests_skipped;
        self.errors -= other.errors;
        self.warnings -= other.warnings;
        self.notes -= other.notes;
    }
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}
