//! All rules, and which of them a question is about.

use crate::doctor::question::Question;
use crate::doctor::rule::{Direction, Rule};
use crate::doctor::{agents, cpu, focus, hardware, io, memory, network, process};
use crate::model::diagnosis::{Area, RuleFacts};

/// Rules whose facts cost, and that are therefore asked only when their area, or they themselves, are named.
const ON_REQUEST: &[&str] = &["git.lock", "git.upkeep", "git.big", "tool.missing"];

/// Rules about what is asked over the network.
const SENDS: &[&str] = &["net.dns", "net.proxy", "llm.net"];

/// All rules, in the order of `--list-rules`.
pub(crate) fn rules() -> impl Iterator<Item = &'static Rule> {
    [memory::RULES, cpu::RULES, io::RULES, network::RULES, process::RULES, agents::RULES, hardware::RULES, focus::RULES]
        .into_iter()
        .flatten()
}

/// The rules that a question is about, with the thresholds in effect.
pub(crate) fn asked(question: &Question) -> Vec<RuleFacts> {
    let facts = |rule: &Rule| {
        let (warn, crit) = thresholds_of(question, rule);
        RuleFacts {
            id: rule.id.to_owned(),
            area: rule.area,
            title: rule.title.to_owned(),
            source: rule.source.to_owned(),
            computation: rule.computation.to_owned(),
            unit: rule.unit.to_owned(),
            bad: (if rule.bad == Direction::Above { "above" } else { "below" }).to_owned(),
            warn,
            crit,
            thresholds_from: rule.thresholds_from.to_owned(),
            remedy: rule.remedy.to_owned(),
        }
    };
    rules().filter(|rule| asks(question, rule)).map(facts).collect()
}

/// The thresholds of a rule: those that the question has for it, else its own.
pub(crate) fn thresholds_of(question: &Question, rule: &Rule) -> (Option<f64>, Option<f64>) {
    let own = question.thresholds.iter().rev().find(|(id, ..)| id == rule.id);
    own.map_or((rule.warn, rule.crit), |(_, warn, crit)| (*warn, *crit))
}

/// Whether a question is about a rule.
pub(crate) fn asks(question: &Question, rule: &Rule) -> bool {
    let names = |list: &[String]| list.iter().any(|id| id == rule.id);
    // Asked for by its own flags, and then first of all.
    if rule.id == focus::RULES[0].id {
        return question.focus && (question.only.is_empty() || names(&question.only)) && !names(&question.ignore);
    }
    // What sends something has a flag of its own.
    if SENDS.contains(&rule.id) && !question.reaches && !names(&question.only) {
        return false;
    }
    let in_area = match question.areas.as_slice() {
        [] => rule.area != Area::Hardware && !ON_REQUEST.contains(&rule.id),
        areas => areas.contains(&rule.area),
    };
    (if question.only.is_empty() { in_area } else { names(&question.only) }) && !names(&question.ignore)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::rules;
    use crate::doctor::rule::Direction;

    #[test]
    fn every_rule_is_explained_and_its_thresholds_are_in_order() {
        let mut ids = BTreeSet::new();
        for rule in rules() {
            assert!(ids.insert(rule.id), "{} twice", rule.id);
            for text in [rule.title, rule.source, rule.computation, rule.thresholds_from, rule.remedy] {
                assert!(!text.is_empty(), "{}", rule.id);
            }
            if let (Some(warn), Some(crit)) = (rule.warn, rule.crit) {
                assert!(if rule.bad == Direction::Above { warn <= crit } else { warn >= crit }, "{}", rule.id);
            }
        }
    }
}
