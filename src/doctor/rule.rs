//! What a rule is, what it gets to see, and how it says what it has found.

use crate::doctor::question::Question;
use crate::model::diagnosis::{Area, Culprit, Evidence, Finding, Remedy, Severity, Threshold};
use crate::model::snapshot::{Snapshot, Unavailable, Window};

/// One rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: &'static str,
    pub(crate) area: Area,
    /// What is wrong when it speaks.
    pub(crate) title: &'static str,
    /// Files and fields it reads.
    pub(crate) source: &'static str,
    /// How the value follows from them.
    pub(crate) computation: &'static str,
    /// Unit of value and thresholds.
    pub(crate) unit: &'static str,
    /// On which side of the thresholds it is bad.
    pub(crate) bad: Direction,
    pub(crate) warn: Option<f64>,
    pub(crate) crit: Option<f64>,
    /// Where the thresholds come from.
    pub(crate) thresholds_from: &'static str,
    /// What usually helps, and the words to type.
    pub(crate) remedy: &'static str,
    pub(crate) check: fn(&RuleContext<'_>) -> Verdict,
}

/// On which side of a threshold it is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Above,
    Below,
}

/// What a rule says: findings, none of them where all is well, or why it could not look.
pub(crate) type Verdict = Result<Vec<Finding>, Skip>;

/// Why a rule could not look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skip(pub(crate) String);

impl From<&Unavailable> for Skip {
    fn from(unavailable: &Unavailable) -> Self {
        Self(format!("{}: {}", unavailable.path, unavailable.why))
    }
}

/// What a rule gets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RuleContext<'a> {
    pub(crate) rule: &'static Rule,
    pub(crate) question: &'a Question,
    pub(crate) window: &'a Window,
    pub(crate) warn: Option<f64>,
    pub(crate) crit: Option<f64>,
}

impl<'a> RuleContext<'a> {
    /// The second snapshot: the state now.
    pub(crate) fn now(&self) -> &'a Snapshot {
        &self.window.to
    }

    /// The first snapshot.
    pub(crate) fn before(&self) -> &'a Snapshot {
        &self.window.from
    }

    /// Growth of a counter a second. One that went back was reset: it says nothing.
    pub(crate) fn rate(&self, before: u64, now: u64) -> f64 {
        now.saturating_sub(before) as f64 / self.window.seconds()
    }

    /// Growth of a counter of microseconds in percent of the window. A wait that began before it is counted whole when it
    /// ends, so the growth may be longer than the window; the share is not.
    pub(crate) fn share_of_time(&self, before: u64, now: u64) -> f64 {
        (self.rate(before, now) / 1e4).min(100.0)
    }

    /// A command for root.
    pub(crate) fn as_root(&self, command: &str) -> String {
        match self.now().system.uid {
            0 => command.to_owned(),
            _ => format!("sudo {command}"),
        }
    }

    /// A command for the shell of root: one that writes into a file.
    pub(crate) fn as_root_shell(&self, command: &str) -> String {
        match self.now().system.uid {
            0 => command.to_owned(),
            _ => format!("sudo sh -c '{}'", command.replace('\'', "'\\''")),
        }
    }

    /// How bad a value is. Critical only if `confirmed`: a second independent signal agrees.
    pub(crate) fn judge(&self, value: f64, confirmed: bool) -> Option<Severity> {
        let over = |threshold: Option<f64>| {
            threshold.is_some_and(|threshold| match self.rule.bad {
                Direction::Above => value >= threshold,
                Direction::Below => value <= threshold,
            })
        };
        match (over(self.crit), over(self.warn)) {
            (true, _) if confirmed => Some(Severity::Crit),
            (true, _) | (_, true) => Some(Severity::Warn),
            _ => None,
        }
    }

    /// A rule that has no thresholds of its own obeys those that the user gives it.
    pub(crate) fn apply_thresholds(&self, mut finding: Finding) -> Finding {
        if self.rule.warn.is_none() && self.rule.crit.is_none() {
            let judged = self.judge(finding.value, false);
            finding.severity = judged.map_or(finding.severity, |severity| severity.max(finding.severity));
        }
        finding
    }

    /// A finding of this rule.
    pub(crate) fn finding(&self, severity: Severity, value: f64, title: impl Into<String>) -> Finding {
        Finding {
            rule: self.rule.id.to_owned(),
            area: self.rule.area,
            severity,
            confidence: 1,
            title: title.into(),
            value,
            unit: self.rule.unit.to_owned(),
            threshold: Threshold { warn: self.warn, crit: self.crit, source: self.rule.thresholds_from.to_owned() },
            evidence: Vec::new(),
            culprits: Vec::new(),
            remedies: Vec::new(),
            symptoms: Vec::new(),
        }
    }
}

impl Finding {
    /// A counter at both ends of the window.
    pub(crate) fn counted(mut self, path: &str, field: &str, before: u64, after: u64, unit: &str) -> Self {
        let (path, field, unit) = (path.to_owned(), field.to_owned(), unit.to_owned());
        self.evidence.push(Evidence { path, field, before: Some(before as f64), after: after as f64, unit });
        self
    }

    /// A value of which only the end counts.
    pub(crate) fn read(mut self, path: &str, field: &str, value: f64, unit: &str) -> Self {
        let (path, field, unit) = (path.to_owned(), field.to_owned(), unit.to_owned());
        self.evidence.push(Evidence { path, field, before: None, after: value, unit });
        self
    }

    /// How many independent signals agree.
    pub(crate) fn agreed(mut self, signals: u32) -> Self {
        self.confidence = signals;
        self
    }

    /// Who causes it.
    pub(crate) fn by(mut self, culprits: impl IntoIterator<Item = Culprit>) -> Self {
        self.culprits.extend(culprits);
        self
    }

    /// What to do. The command changes a setting or looks at something.
    pub(crate) fn fix(mut self, text: impl Into<String>, command: Option<String>) -> Self {
        self.remedies.push(Remedy { text: text.into(), command, interrupts: false });
        self
    }

    /// What to do, by a command that ends, stops or slows down something that runs. `diagnose` leaves such a command out
    /// of a finding that is only information.
    pub(crate) fn interrupt(mut self, text: impl Into<String>, command: Option<String>) -> Self {
        let interrupts = command.is_some();
        self.remedies.push(Remedy { text: text.into(), command, interrupts });
        self
    }
}
