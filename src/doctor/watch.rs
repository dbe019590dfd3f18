//! What changes while the doctor watches: findings are raised and cleared, with hysteresis, so that a value that dances
//! around its threshold is one finding and not fifty. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::doctor::catalogue::rules;
use crate::doctor::question::Question;
use crate::doctor::rule::Direction;
use crate::model::diagnosis::{Diagnosis, Finding, Severity};

/// Windows without a finding before it is cleared.
const CLEAR_AFTER: u32 = 3;
/// Share of the threshold below which it is cleared (netdata's alarms have 80 to 90 %).
const CLEAR_BELOW: f64 = 0.8;

/// What happened to a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    Raised,
    /// It is worse or better than it was said to be.
    Changed,
    Cleared,
}

/// What is wrong now, and since when.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    active: BTreeMap<String, Active>,
}

#[derive(Debug)]
struct Active {
    finding: Finding,
    /// Windows in a row without it.
    absent: u32,
}

impl Watched {
    /// Takes the diagnosis of the next window; says what changed. Findings to know are no alarms.
    pub(crate) fn step(&mut self, diagnosis: &Diagnosis) -> Vec<(Change, Finding)> {
        let mut changes = Vec::new();
        let mut worst: BTreeMap<&str, &Finding> = BTreeMap::new();
        for finding in diagnosis.findings.iter().filter(|finding| finding.severity > Severity::Info) {
            let entry = worst.entry(&finding.rule).or_insert(finding);
            if finding.severity > entry.severity {
                *entry = finding;
            }
        }
        for (rule, finding) in &worst {
            match self.active.get_mut(*rule) {
                None => {
                    changes.push((Change::Raised, (*finding).clone()));
                    self.active.insert((*rule).to_owned(), Active { finding: (*finding).clone(), absent: 0 });
                }
                Some(active) => {
                    if active.finding.severity != finding.severity {
                        changes.push((Change::Changed, (*finding).clone()));
                    }
                    *active = Active { finding: (*finding).clone(), absent: 0 };
                }
            }
        }
        self.active.retain(|rule, active| {
            if worst.contains_key(rule.as_str()) {
                return true;
            }
            active.absent += 1;
            if active.absent < CLEAR_AFTER {
                return true;
            }
            changes.push((Change::Cleared, active.finding.clone()));
            false
        });
        changes
    }

    /// What is wrong now, worst first.
    pub(crate) fn findings(&self) -> Vec<&Finding> {
        let mut all: Vec<&Finding> = self.active.values().map(|active| &active.finding).collect();
        all.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        all
    }

    /// The question of the next window: what is raised already stays until it is well below its threshold.
    pub(crate) fn question(&self, question: &Question) -> Question {
        let mut next = question.clone();
        for rule in rules().filter(|rule| self.active.contains_key(rule.id)) {
            let said = question.thresholds.iter().rev().find(|(id, ..)| id == rule.id);
            let (warn, crit) = said.map_or((rule.warn, rule.crit), |(_, warn, crit)| (*warn, *crit));
            let lower = |warn: f64| if rule.bad == Direction::Above { warn * CLEAR_BELOW } else { warn / CLEAR_BELOW };
            next.thresholds.push((rule.id.to_owned(), warn.map(lower), crit));
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Watched};
    use crate::doctor::catalogue::rules;
    use crate::doctor::question::Question;
    use crate::doctor::rule::RuleContext;
    use crate::model::diagnosis::{Diagnosis, Severity};
    use crate::model::snapshot::Window;

    fn diagnosis(severity: Option<Severity>) -> Diagnosis {
        let rule = rules().find(|rule| rule.id == "mem.available").expect("the rule");
        let (window, question) = (Window::default(), Question::default());
        let context = RuleContext { rule, question: &question, window: &window, warn: None, crit: None };
        let findings = severity.map(|severity| context.finding(severity, 1.0, "t")).into_iter().collect();
        Diagnosis { window_s: 1.0, findings, ..Diagnosis::default() }
    }

    #[test]
    fn a_finding_is_raised_once_and_cleared_after_three_windows_without_it() {
        let mut watched = Watched::default();
        let mut step = |severity| -> Vec<Change> {
            watched.step(&diagnosis(severity)).into_iter().map(|(change, _)| change).collect()
        };
        assert_eq!(step(Some(Severity::Info)), []);
        assert_eq!(step(Some(Severity::Warn)), [Change::Raised]);
        assert_eq!(step(Some(Severity::Warn)), []);
        assert_eq!((step(None), step(None)), (vec![], vec![]));
        // Back in time: nothing was said.
        assert_eq!(step(Some(Severity::Crit)), [Change::Changed]);
        assert_eq!((step(None), step(None), step(None)), (vec![], vec![], vec![Change::Cleared]));
        assert_eq!(step(None), []);
    }

    #[test]
    fn what_is_raised_has_to_go_well_below_its_threshold() {
        let mut watched = Watched::default();
        assert!(watched.question(&Question::default()).thresholds.is_empty());
        watched.step(&diagnosis(Some(Severity::Warn)));
        let question = watched.question(&Question::default());
        // Direction below 10 %: it stays until 12.5 % can be had.
        assert_eq!(question.thresholds, [("mem.available".to_owned(), Some(12.5), Some(5.0))]);
    }
}
