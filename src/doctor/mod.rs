//! The rules: each looks at a window and says what is wrong, on which evidence, who causes it and what to do. Pure: what a
//! rule knows is in the window. One table a rule, so that thresholds, sources and remedies can be listed and explained.
//!
//! Laws: a short window alone gives at most `warn`; `crit` needs a second independent signal, such as an average over a
//! minute, or a hard state such as no byte left. What cannot be seen is skipped with the reason, never `ok`.

use crate::model::diagnosis::{
    Area, Culprit, Diagnosis, Evidence, Finding, HostFacts, Remedy, RuleFacts, Severity, Skipped, Summary, Threshold,
};
use crate::model::snapshot::{Snapshot, Unavailable, Window};
use crate::model::tier::Tiers;
use crate::model::unit::Bytes;

pub(crate) mod agents;
pub(crate) mod cpu;
pub(crate) mod culprit;
pub(crate) mod focus;
pub(crate) mod hardware;
pub(crate) mod io;
pub(crate) mod memory;
pub(crate) mod network;
pub(crate) mod process;
pub(crate) mod vitals;
pub(crate) mod watch;

/// The version of the report.
pub(crate) const SCHEMA: &str = "apm.doctor/1";

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
    pub(crate) bad: Bad,
    pub(crate) warn: Option<f64>,
    pub(crate) crit: Option<f64>,
    /// Where the thresholds come from.
    pub(crate) thresholds_from: &'static str,
    /// What usually helps, and the words to type.
    pub(crate) remedy: &'static str,
    pub(crate) check: fn(&Look<'_>) -> Verdict,
}

/// On which side of a threshold it is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
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

/// All rules, in the order of `--list-rules`.
pub(crate) fn rules() -> impl Iterator<Item = &'static Rule> {
    [memory::RULES, cpu::RULES, io::RULES, network::RULES, process::RULES, agents::RULES, hardware::RULES, focus::RULES]
        .into_iter()
        .flatten()
}

/// What the user wants to know beyond what is wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Question {
    /// Only these areas; all but `hardware` where empty.
    pub(crate) areas: Vec<Area>,
    /// Only these rules.
    pub(crate) only: Vec<String>,
    /// Not these rules.
    pub(crate) ignore: Vec<String>,
    /// Other thresholds: rule, warn, crit.
    pub(crate) thresholds: Vec<(String, Option<f64>, Option<f64>)>,
    /// `--probe`.
    pub(crate) reaches: bool,
    /// `--pid` or `--cgroup`.
    pub(crate) focus: bool,
    /// So many agents are to run at once.
    pub(crate) agents: Option<u32>,
    /// What one of them takes.
    pub(crate) agent: AgentSize,
    /// What the size of the machine is held against.
    pub(crate) tiers: Tiers,
}

/// What an agent takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AgentSize {
    pub(crate) memory: Bytes,
    /// Percent of one CPU.
    pub(crate) cpu: f64,
    pub(crate) disk: Bytes,
}

impl Default for AgentSize {
    /// A coding agent with its compiler: what rustc, tsc and the JVM of middling projects take.
    fn default() -> Self {
        Self { memory: Bytes::mib(1536), cpu: 100.0, disk: Bytes::mib(2048) }
    }
}

/// What a rule gets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look<'a> {
    pub(crate) rule: &'static Rule,
    pub(crate) question: &'a Question,
    pub(crate) window: &'a Window,
    pub(crate) warn: Option<f64>,
    pub(crate) crit: Option<f64>,
}

impl<'a> Look<'a> {
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

    /// How bad a value is. Critical only if `confirmed`: a second independent signal agrees.
    pub(crate) fn judge(&self, value: f64, confirmed: bool) -> Option<Severity> {
        let over = |threshold: Option<f64>| {
            threshold.is_some_and(|threshold| match self.rule.bad {
                Bad::Above => value >= threshold,
                Bad::Below => value <= threshold,
            })
        };
        match (over(self.crit), over(self.warn)) {
            (true, _) if confirmed => Some(Severity::Crit),
            (true, _) | (_, true) => Some(Severity::Warn),
            _ => None,
        }
    }

    /// A rule that only tells heeds thresholds all the same where somebody gives it some.
    fn heed(&self, mut finding: Finding) -> Finding {
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

    /// What to do.
    pub(crate) fn fix(mut self, text: impl Into<String>, command: Option<String>) -> Self {
        self.remedies.push(Remedy { text: text.into(), command });
        self
    }
}

/// Asks every rule that the question is about.
pub(crate) fn diagnose(window: &Window, question: &Question) -> Diagnosis {
    let (mut findings, mut ok, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
    for rule in rules().filter(|rule| question.asks(rule)) {
        let (warn, crit) = question.thresholds_of(rule);
        let look = Look { rule, question, window, warn, crit };
        match (rule.check)(&look) {
            Ok(found) if found.is_empty() => ok.push(rule.id.to_owned()),
            Ok(found) => findings.extend(found.into_iter().map(|finding| look.heed(finding))),
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
    let (host, vitals) = (host(&window.to), vitals::of(window));
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

/// Whether a path of a control group, or a text with one, names a group that `apm run` made for a task: its limits are
/// meant, and the run tells when one strikes.
fn is_of_run(text: &str) -> bool {
    let made = |part: &str| {
        let Some(run) = part.strip_prefix("apm-") else { return false };
        run.starts_with(|first: char| first.is_ascii_digit()) && run.contains('-')
    };
    text.split(['/', ' ', ',']).any(made)
}

/// The rules that a question is about, with the thresholds in effect.
pub(crate) fn asked(question: &Question) -> Vec<RuleFacts> {
    let facts = |rule: &Rule| {
        let (warn, crit) = question.thresholds_of(rule);
        RuleFacts {
            id: rule.id.to_owned(),
            area: rule.area,
            title: rule.title.to_owned(),
            source: rule.source.to_owned(),
            computation: rule.computation.to_owned(),
            unit: rule.unit.to_owned(),
            bad: (if rule.bad == Bad::Above { "above" } else { "below" }).to_owned(),
            warn,
            crit,
            thresholds_from: rule.thresholds_from.to_owned(),
            remedy: rule.remedy.to_owned(),
        }
    };
    rules().filter(|rule| question.asks(rule)).map(facts).collect()
}

/// Rules whose facts cost, and that are therefore asked only when their area, or they themselves, are named.
const ON_REQUEST: &[&str] = &["git.lock", "git.upkeep", "git.big", "tool.missing"];

/// Rules about what is asked over the network.
const SENDS: &[&str] = &["net.dns", "net.proxy", "llm.net"];

impl Question {
    fn thresholds_of(&self, rule: &Rule) -> (Option<f64>, Option<f64>) {
        let own = self.thresholds.iter().rev().find(|(id, ..)| id == rule.id);
        own.map_or((rule.warn, rule.crit), |(_, warn, crit)| (*warn, *crit))
    }

    fn asks(&self, rule: &Rule) -> bool {
        let names = |list: &[String]| list.iter().any(|id| id == rule.id);
        // Asked for by its own flags, and then first of all.
        if rule.id == focus::RULES[0].id {
            return self.focus && (self.only.is_empty() || names(&self.only)) && !names(&self.ignore);
        }
        // What sends something has a flag of its own.
        if SENDS.contains(&rule.id) && !self.reaches && !names(&self.only) {
            return false;
        }
        let in_area = match self.areas.as_slice() {
            [] => rule.area != Area::Hardware && !ON_REQUEST.contains(&rule.id),
            areas => areas.contains(&rule.area),
        };
        (if self.only.is_empty() { in_area } else { names(&self.only) }) && !names(&self.ignore)
    }
}

fn host(now: &Snapshot) -> HostFacts {
    let cpus = now.cpu.stat.known().map_or(0, |stat| stat.each.len() as u32);
    HostFacts {
        kernel: now.system.kernel.clone(),
        cpus,
        cpus_effective: cpus_effective(now),
        memory: now.memory.meminfo.known().and_then(|info| info.get("MemTotal").copied()).unwrap_or_default(),
        cgroup: now.cgroups.layout.clone(),
        container: now.system.container.clone(),
        uid: now.system.uid,
    }
}

/// CPUs' worth of time that apm and its children may take: those online, its affinity, the quotas of its groups.
pub(crate) fn cpus_effective(now: &Snapshot) -> f64 {
    let online = now.cpu.stat.known().map_or(1.0, |stat| stat.each.len().max(1) as f64);
    let affinity = now.cpu.affinity.known().map_or(online, |cpus| f64::from(*cpus));
    let quotas = now.cgroups.groups.iter().filter(|group| group.is_own).filter_map(|group| group.cpu_quota);
    quotas.fold(online.min(affinity), f64::min)
}

/// Windows for the tests of the rules, made of what the kernel writes: files as texts, read by the same probes.
#[cfg(test)]
pub(crate) mod scene {
    use std::path::PathBuf;
    use std::time::Instant;

    use super::{Question, diagnose};
    use crate::model::diagnosis::{Finding, Severity};
    use crate::model::snapshot::Window;
    use crate::probe::Roots;
    use crate::probe::collect::{self, Options, Own};

    /// A machine before and after, two seconds apart; gone with the value.
    pub(crate) struct Scene {
        root: PathBuf,
    }

    impl Scene {
        /// A machine without a file.
        pub(crate) fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("apm-scene-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&root);
            Self { root }
        }

        /// A file that stays as it is. The path starts below the root: `proc/meminfo`.
        pub(crate) fn file(&self, path: &str, text: &str) -> &Self {
            self.changing(path, text, text)
        }

        /// A file before and after.
        pub(crate) fn changing(&self, path: &str, before: &str, after: &str) -> &Self {
            for (when, text) in [("0", before), ("1", after)] {
                let path = self.root.join(when).join(path);
                std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
                std::fs::write(path, text).expect("written");
            }
            self
        }

        /// A symbolic link, as /sys is full of.
        pub(crate) fn link(&self, path: &str, target: &str) -> &Self {
            for when in ["0", "1"] {
                let path = self.root.join(when).join(path);
                std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
                std::os::unix::fs::symlink(target, path).expect("linked");
            }
            self
        }

        /// What the probes make of it.
        pub(crate) fn window(&self) -> Window {
            let own = Own { pid: 1, uid: 0 };
            let options = Options::default();
            let read =
                |when: &str| collect::snapshot(&Roots::below(&self.root.join(when)), own, &options, Instant::now());
            let mut window = Window { from: read("0"), to: read("1"), ..Window::default() };
            (window.from.at_us, window.to.at_us) = (0, 2_000_000);
            window
        }

        /// What one rule says of it.
        pub(crate) fn ask(&self, rule: &str) -> Vec<Finding> {
            ask(&self.window(), rule)
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.root);
        }
    }

    /// What one rule says of a window. A rule that could not look fails the test.
    pub(crate) fn ask(window: &Window, rule: &str) -> Vec<Finding> {
        let diagnosis = diagnose(window, &Question { only: vec![rule.to_owned()], focus: true, ..Question::default() });
        assert_eq!(diagnosis.skipped, []);
        diagnosis.findings
    }

    /// The severities found, for short tests.
    pub(crate) fn severities(findings: &[Finding]) -> Vec<Severity> {
        findings.iter().map(|finding| finding.severity).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Bad, rules};

    #[test]
    fn every_rule_is_explained_and_its_thresholds_are_in_order() {
        let mut ids = BTreeSet::new();
        for rule in rules() {
            assert!(ids.insert(rule.id), "{} twice", rule.id);
            for text in [rule.title, rule.source, rule.computation, rule.thresholds_from, rule.remedy] {
                assert!(!text.is_empty(), "{}", rule.id);
            }
            if let (Some(warn), Some(crit)) = (rule.warn, rule.crit) {
                assert!(if rule.bad == Bad::Above { warn <= crit } else { warn >= crit }, "{}", rule.id);
            }
        }
    }
}
