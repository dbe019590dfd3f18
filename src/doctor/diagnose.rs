//! Asks the rules that a question is about, and makes one diagnosis of what they say.

use crate::doctor::catalogue::{asks, rules, thresholds_of};
use crate::doctor::question::Question;
use crate::doctor::rule::{RuleContext, Skip};
use crate::doctor::{cause, focus, host, vitals};
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
    let mut findings = cause::gather(findings);
    findings.iter_mut().for_each(settle);
    // The answer to a question first. Stable: among equals the order of the rules stays.
    findings.sort_by_key(|finding| {
        (finding.rule != focus::RULES[0].id, std::cmp::Reverse((finding.severity, finding.confidence)))
    });
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

/// What holds for every finding, whatever its rule says.
fn settle(finding: &mut Finding) {
    finding.symptoms.iter_mut().for_each(settle);
    finite(finding);
    if finding.severity == Severity::Info {
        // Nobody ends or slows down anything because of what is only worth knowing.
        for remedy in finding.remedies.iter_mut().filter(|remedy| remedy.interrupts) {
            (remedy.command, remedy.interrupts) = (None, false);
        }
    }
}

/// No format has a word for what is no number.
fn finite(finding: &mut Finding) {
    let values = finding.evidence.iter_mut().flat_map(|one| one.before.as_mut().into_iter().chain([&mut one.after]));
    for value in values.chain([&mut finding.value]) {
        *value = if value.is_nan() { 0.0 } else { value.clamp(f64::MIN, f64::MAX) };
    }
}

#[cfg(test)]
mod tests {
    use super::{diagnose, settle};
    use crate::doctor::catalogue::rules;
    use crate::doctor::question::Question;
    use crate::doctor::rule::RuleContext;
    use crate::model::diagnosis::Severity::{Info, Warn};
    use crate::model::snapshot::process::{Activity, Process};
    use crate::model::snapshot::{Field, Window};

    /// Regression: at 30 of 192 GiB free, which is information, a process was to be killed.
    #[test]
    fn information_carries_no_command_that_ends_or_slows_down() {
        let rule = rules().next().expect("a rule");
        let (window, question) = (Window::default(), Question::default());
        let context = RuleContext { rule, question: &question, window: &window, warn: None, crit: None };
        for (severity, kept) in [(Info, vec![None, Some("df")]), (Warn, vec![Some("kill 7"), Some("df")])] {
            let finding = context.finding(severity, 1.0, "t").interrupt("end it", Some("kill 7".to_owned()));
            let mut finding = finding.fix("look", Some("df".to_owned()));
            settle(&mut finding);
            let commands: Vec<Option<&str>> = finding.remedies.iter().map(|remedy| remedy.command.as_deref()).collect();
            assert_eq!(commands, kept);
            assert_eq!(finding.remedies[0].text, "end it");
        }
    }

    /// Regression: the answer to `--pid` was the last of six findings.
    #[test]
    fn the_answer_to_a_question_comes_first() {
        let mut window = Window { focus: vec![77], ..Window::default() };
        let process = |pid: i32, parent: i32, state: char| Process {
            pid,
            parent,
            state,
            threads: 1,
            name: "x".to_owned(),
            ..Process::default()
        };
        let zombies = (100..130).map(|pid| process(pid, 50, 'Z'));
        let all: Vec<Process> = zombies.chain([process(77, 1, 'S')]).collect();
        (window.from.processes, window.to.processes) = (Field::Known(all.clone()), Field::Known(all));
        window.activity = Activity { looks: 5, ..Activity::default() };
        let found = diagnose(&window, &Question { focus: true, ..Question::default() }).findings;
        let order: Vec<&str> = found.iter().map(|finding| finding.rule.as_str()).collect();
        assert_eq!(order[..2], ["focus", "proc.zombies"]);
        assert_eq!((found[0].severity, found[1].severity), (Info, Warn));
    }
}
