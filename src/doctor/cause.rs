//! One finding for a cause and its symptoms: the throttled group, and the tasks of it that wait for a CPU. What explains
//! another finding takes it in; nothing is lost, and nobody reads of one fault twice.

use crate::model::diagnosis::{Culprit, Finding, Remedy, Severity};

/// How it is known that one explains the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// They name the same process, group, mount, device, peer or kind of memory.
    Shared,
    /// Both are about the whole machine. The cause is at least a warning.
    Machine,
}

use Link::{Machine, Shared};

/// Causes with what they explain; the first that fits takes it.
const CAUSES: &[(&str, Link, &[&str])] = &[
    ("cpu.throttle", Shared, &["cpu.sched_delay"]),
    ("cpu.one_core", Shared, &["cpu.sched_delay"]),
    ("cpu.nice", Shared, &["cpu.one_core", "cpu.sched_delay"]),
    ("cpu.runq", Machine, &["cpu.psi", "cpu.util", "cpu.sched_delay"]),
    ("cpu.psi", Machine, &["cpu.util", "cpu.sched_delay"]),
    ("cpu.forks", Machine, &["cpu.sys"]),
    ("cpu.ctxt", Machine, &["cpu.sys"]),
    ("net.softnet", Machine, &["cpu.softirq"]),
    ("mem.cgroup_oom", Shared, &["mem.oom_recent", "mem.cgroup_near", "mem.cgroup_high", "mem.psi"]),
    (
        "mem.cgroup_high",
        Shared,
        &[
            "mem.cgroup_near",
            "mem.psi",
            "mem.swapin",
            "mem.refault",
            "mem.majfault",
            "mem.direct_reclaim",
            "mem.available",
        ],
    ),
    (
        "mem.cgroup_near",
        Shared,
        &["mem.psi", "mem.swapin", "mem.refault", "mem.majfault", "mem.direct_reclaim", "mem.available"],
    ),
    ("mem.leak", Shared, &["mem.available"]),
    ("mem.hugepages_idle", Shared, &["mem.available"]),
    (
        "mem.available",
        Machine,
        &["mem.psi", "mem.swapin", "mem.swap_used", "mem.refault", "mem.majfault", "mem.direct_reclaim"],
    ),
    ("mem.swapin", Machine, &["mem.psi", "mem.refault", "mem.majfault", "mem.direct_reclaim"]),
    ("mem.majfault", Shared, &["mem.refault"]),
    ("fs.network", Shared, &["io.dstate", "io.psi", "cpu.load_d"]),
    ("io.await", Shared, &["io.queue", "io.util", "io.psi", "io.dstate", "fs.dirty"]),
    ("io.dstate", Shared, &["cpu.load_d", "sys.kmsg"]),
    ("io.psi", Machine, &["cpu.iowait"]),
    ("io.psi", Shared, &["io.util", "io.queue"]),
    ("fs.readonly", Shared, &["fs.errors"]),
    ("fs.deleted_open", Shared, &["fs.full", "fs.fill_eta"]),
    ("fs.full", Shared, &["fs.fill_eta", "fs.tmp_small"]),
    ("net.mtu", Shared, &["net.retrans", "net.no_answer"]),
    ("net.no_answer", Shared, &["net.retrans"]),
    ("net.ports", Shared, &["net.time_wait"]),
    ("net.close_wait", Shared, &["proc.fd"]),
    ("net.listen_ovf", Shared, &["net.syn_cookies"]),
    ("net.if_util", Shared, &["net.if_drops"]),
    ("sys.fd", Shared, &["proc.fd"]),
];

/// Puts findings that others explain into these. What they explain themselves moves along.
pub(crate) fn gather(mut findings: Vec<Finding>) -> Vec<Finding> {
    for (cause, link, symptoms) in CAUSES {
        let mut at = 0;
        while let Some(symptom) = findings.get(at) {
            let explains = |it: &Finding| it.rule == *cause && fits(*link, it, symptom);
            let found = symptoms.contains(&symptom.rule.as_str()).then(|| findings.iter().position(explains)).flatten();
            let Some(found) = found else {
                at += 1;
                continue;
            };
            let mut symptom = findings.remove(at);
            let cause = &mut findings[if found > at { found - 1 } else { found }];
            cause.severity = cause.severity.max(symptom.severity);
            // What helps against it helps still; information has no say in what to do, and one thing is ended, not two.
            let helps = symptom.remedies.iter().filter(|remedy| {
                let is_again =
                    |other: &Remedy| other.command == remedy.command || (other.interrupts && remedy.interrupts);
                let is_new = !cause.remedies.iter().any(is_again);
                symptom.severity > Severity::Info && remedy.command.is_some() && is_new
            });
            let helps: Vec<Remedy> = helps.cloned().collect();
            cause.remedies.extend(helps);
            let further = std::mem::take(&mut symptom.symptoms);
            cause.symptoms.push(symptom);
            cause.symptoms.extend(further);
        }
    }
    findings
}

fn fits(link: Link, cause: &Finding, symptom: &Finding) -> bool {
    match link {
        Shared => cause.culprits.iter().any(|one| symptom.culprits.iter().any(|other| is_same(one, other))),
        // A finding that is only information does not explain a warning.
        Machine => cause.severity > Severity::Info && cause.severity >= symptom.severity,
    }
}

fn is_same(one: &Culprit, other: &Culprit) -> bool {
    match (one.pid, other.pid) {
        (Some(one), Some(other)) => one == other,
        // A name alone may be that of many processes.
        (None, None) => one.kind != "process" && (&one.kind, &one.name) == (&other.kind, &other.name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{CAUSES, gather};
    use crate::doctor::catalogue::rules;
    use crate::doctor::culprit::thing;
    use crate::doctor::question::Question;
    use crate::doctor::rule::RuleContext;
    use crate::model::diagnosis::Severity::{self, Crit, Info, Warn};
    use crate::model::diagnosis::{Culprit, Finding};
    use crate::model::snapshot::Window;

    fn finding(id: &str, severity: Severity, by: Culprit) -> Finding {
        let rule = rules().find(|rule| rule.id == id).unwrap_or_else(|| panic!("{id}"));
        let (window, question) = (Window::default(), Question::default());
        let context = RuleContext { rule, question: &question, window: &window, warn: None, crit: None };
        context.finding(severity, 1.0, "t").by([by])
    }

    fn group(name: &str) -> Culprit {
        thing("cgroup", name, String::new())
    }

    /// Each finding with what it explains.
    fn told(findings: Vec<Finding>) -> Vec<(String, Severity, Vec<String>)> {
        let one = |it: Finding| (it.rule, it.severity, it.symptoms.into_iter().map(|it| it.rule).collect());
        gather(findings).into_iter().map(one).collect()
    }

    fn expected(id: &str, severity: Severity, symptoms: &[&str]) -> (String, Severity, Vec<String>) {
        (id.to_owned(), severity, symptoms.iter().map(|id| (*id).to_owned()).collect())
    }

    #[test]
    fn every_rule_of_the_table_exists_and_none_explains_itself() {
        for (cause, _, symptoms) in CAUSES {
            for id in symptoms.iter().chain([cause]) {
                assert!(rules().any(|rule| rule.id == *id), "{id}");
            }
            assert!(!symptoms.contains(cause), "{cause}");
        }
    }

    /// Regression: two findings of one quota, the symptom first.
    #[test]
    fn a_cause_takes_in_its_symptoms_and_their_severity() {
        let quota = finding("cpu.throttle", Warn, group("/ci"));
        let delay = |name| finding("cpu.sched_delay", Warn, group(name));
        assert_eq!(told(vec![delay("/ci"), quota.clone()]), [expected("cpu.throttle", Warn, &["cpu.sched_delay"])]);
        let look = |command: &str| delay("/ci").fix("look", Some(command.to_owned()));
        let both = gather(vec![look("a"), look("a").fix("and", Some("b".to_owned())), quota.clone()]);
        let commands: Vec<Option<&str>> = both[0].remedies.iter().map(|remedy| remedy.command.as_deref()).collect();
        assert_eq!(commands, [Some("a"), Some("b")], "once each");
        // Another group has other tasks.
        let two = [expected("cpu.sched_delay", Warn, &[]), expected("cpu.throttle", Warn, &[])];
        assert_eq!(told(vec![delay("/web"), quota]), two);
        let killed = finding("mem.cgroup_oom", Warn, group("/ci"));
        let recent = finding("mem.oom_recent", Crit, group("/ci"));
        assert_eq!(told(vec![recent, killed]), [expected("mem.cgroup_oom", Crit, &["mem.oom_recent"])]);
    }

    #[test]
    fn of_a_chain_the_first_cause_is_left() {
        let by = |id, severity| finding(id, severity, group("/ci"));
        let all =
            vec![by("mem.psi", Crit), by("mem.swapin", Warn), by("mem.cgroup_near", Warn), by("mem.cgroup_high", Warn)];
        let left = told(all);
        assert_eq!(left.len(), 1);
        assert_eq!((left[0].0.as_str(), left[0].1, left[0].2.len()), ("mem.cgroup_high", Crit, 3));
    }

    #[test]
    fn what_tells_only_explains_no_alarm_and_a_name_is_no_process() {
        let by = |id, severity| finding(id, severity, group("/"));
        let info = vec![by("cpu.runq", Info), by("cpu.psi", Warn)];
        assert_eq!(told(info).len(), 2);
        let process = |id, pid| {
            finding(id, Warn, Culprit { kind: "process".to_owned(), pid, name: "sh".to_owned(), what: String::new() })
        };
        assert_eq!(told(vec![process("net.close_wait", None), process("proc.fd", None)]).len(), 2);
        assert_eq!(told(vec![process("net.close_wait", Some(7)), process("proc.fd", Some(8))]).len(), 2);
        assert_eq!(told(vec![process("net.close_wait", Some(7)), process("proc.fd", Some(7))]).len(), 1);
    }
}
