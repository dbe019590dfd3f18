//! The proposals, and the laws that no formula may break: a limit is never lowered; what is a matter of security is named
//! and never set; in a container only what is its own is proposed; what the kernel has not, is not written; what an
//! administrator set in a later file stays.

use crate::model::setting::{Place, Reason, Setting, Verdict};
use crate::model::snapshot::tunables::Line;
use crate::tune::catalogue::{COUNTERPARTS, rows};
use crate::tune::facts::Facts;
use crate::tune::limits;
use crate::tune::row::{Advice, Law, Row, Scope, Valid, is_valid, within};
use crate::tune::value::{is_same, lowers, number};

/// Name of the files that apm writes, without their ending. Files of an administrator begin with 99 and come later.
pub(crate) const NAME: &str = "60-apm";

/// The settings, in the order of the catalogue.
pub(crate) fn advise(facts: &Facts<'_>) -> Vec<Setting> {
    let mut settings = Vec::new();
    for row in rows() {
        match row.key.split_once('*') {
            Some((start, end)) if row.place == Place::Sys => {
                let is_it = |key: &&String| key.starts_with(start) && key.ends_with(end);
                let keys: Vec<&String> = facts.tunables.values.keys().filter(is_it).collect();
                settings.extend(keys.into_iter().filter_map(|key| {
                    let disk = key.strip_prefix(start)?.strip_suffix(end)?;
                    facts.disk(disk).is_some().then(|| decide(row, key, facts))
                }));
            }
            _ => settings.push(decide(row, row.key, facts)),
        }
    }
    settings
}

/// Holds a proposal against the laws.
fn decide(row: &Row, key: &str, facts: &Facts<'_>) -> Setting {
    let facts = &Facts { key, ..*facts };
    let value = facts.tunables.values.get(key);
    let limit = limits::current(facts, key);
    let current = value.and_then(|value| value.text.known().cloned()).or(limit);
    let mut setting = Setting {
        key: key.to_owned(),
        place: row.place,
        path: value.map(|value| value.shown.clone()),
        current: current.clone(),
        proposed: None,
        verdict: Verdict::Skip,
        reason: None,
        why: String::new(),
        rule: None,
        risk: row.risk,
        revert: None,
    };
    let skip = |mut setting: Setting, reason: Reason, why: String| {
        (setting.verdict, setting.reason, setting.why) = (Verdict::Skip, Some(reason), why);
        setting
    };
    let (text, is_file) = match (&current, row.place) {
        (Some(text), place) => (text.as_str(), matches!(place, Place::Sysctl | Place::Sys)),
        (None, Place::Sysctl | Place::Sys) => {
            let why = value.and_then(|value| value.text.get().err()).map_or("not there", |error| &error.why);
            if why == "not there" {
                return skip(
                    setting,
                    Reason::NotHere,
                    "not on this kernel or machine, or not seen from here".to_owned(),
                );
            }
            return skip(setting, Reason::Unreadable, why.to_owned());
        }
        (None, _) => ("", false),
    };
    if let Some(file) = facts.foreign.get(&row.place) {
        return skip(setting, Reason::Administrator, format!("{file} is not apm's, and stays as it is"));
    }
    let is_odd = matches!(row.valid, Valid::Range(..)) && text.split_ascii_whitespace().any(|it| number(it).is_none());
    if is_odd {
        return skip(setting, Reason::Unreadable, format!("`{text}` is no number"));
    }
    let own = facts.own.get(key).filter(|own| is_valid(row, &own.value));
    let (proposed, why, rule) = match ((row.advise)(facts, text), own) {
        (Advice::Want(value, why), _) => (value, why, None),
        (Advice::FromRule(value, why, rule), _) => (value, why, Some(rule)),
        // What showed that it helps is gone, perhaps since it helps.
        (Advice::Keep(_) | Advice::Skip(Reason::NoEvidence, _), Some(own)) if facts.own_lasts => {
            (own.value.clone(), own.why.clone(), None)
        }
        (Advice::Keep(why), _) => {
            (setting.verdict, setting.why) = (Verdict::Keep, why);
            return setting;
        }
        (Advice::Skip(reason, why), _) => return skip(setting, reason, why),
    };
    // Numbers of the moment change: a file that says the same value keeps its words.
    let why = own.filter(|own| is_same(&own.value, &proposed)).map_or(why, |own| own.why.clone());
    let proposed = within(row, &proposed);
    if is_same(text, &proposed) {
        (setting.verdict, setting.why) = (Verdict::Keep, why);
        setting.proposed = own.map(|own| own.value.clone());
        return setting;
    }
    setting.rule = rule.map(str::to_owned);
    if facts.now.system.container.is_some() && row.scope == Scope::Host {
        return skip(setting, Reason::HostOnly, format!("{why}: on the host of this container"));
    }
    if is_file && value.is_some_and(|value| !value.is_writable) {
        return skip(setting, Reason::HostOnly, format!("{why}: read-only in this namespace"));
    }
    if let Some(line) = administrators(facts, key).filter(|line| !is_same(&line.value, &proposed)) {
        let wins = if line.file.ends_with("/limits.conf") { "which comes from a person" } else { "and wins" };
        let why = format!("{} sets {} to {}, {wins}", line.file, line.key, line.value);
        return skip(setting, Reason::Administrator, why);
    }
    if row.law == Law::Limit && lowers(text, &proposed) {
        let why = format!("{text} is above the {proposed} of: {why}");
        return skip(setting, Reason::HigherAlready, why);
    }
    setting.revert = revert(row, key, text, facts);
    setting.verdict = if row.law == Law::Limit { Verdict::Raise } else { Verdict::Set };
    (setting.proposed, setting.why) = (Some(proposed), why);
    setting
}

/// The command that puts the value back.
fn revert(row: &Row, key: &str, current: &str, facts: &Facts<'_>) -> Option<String> {
    match row.place {
        Place::Sysctl => {
            let is_counterpart = |(one, _): &&(&str, &str)| *one == key && current == "0";
            let (key, value) = match COUNTERPARTS.iter().find(is_counterpart) {
                Some((_, other)) => (*other, facts.tunables.text(other)?),
                None => (key, current),
            };
            Some(if value.contains(' ') {
                format!("sysctl -w {key}='{value}'")
            } else {
                format!("sysctl -w {key}={value}")
            })
        }
        Place::Sys => facts.tunables.values.get(key).map(|value| format!("echo {current} > {}", value.shown)),
        Place::Pam | Place::Manager | Place::Slice => Some("apm tune rollback".to_owned()),
    }
}

/// A line that sets the key, or its counterpart, in a file that comes after apm's; or in limits.conf, which comes
/// first and which nobody but a person writes to.
fn administrators<'a>(facts: &Facts<'a>, key: &str) -> Option<&'a Line> {
    let wins = |file: &str| {
        let name = file.rsplit('/').next().unwrap_or_default();
        !is_own(file) && (matches!(name, "limits.conf" | "sysctl.conf") || name > "60-apm.conf")
    };
    let counterpart = COUNTERPARTS.iter().find(|(one, _)| *one == key).map(|(_, other)| *other);
    let sets = |line: &Line| line.key == key || Some(line.key.as_str()) == counterpart || is_pattern_of(&line.key, key);
    let sysctl = facts.tunables.lines.iter().rev().find(|line| sets(line) && wins(&line.file));
    let limits = || facts.tunables.limits.iter().rev().find(|it| limits::is_key(&it.key, key) && wins(&it.file));
    let name = key.strip_prefix("systemd.manager.");
    let manager = || facts.tunables.manager.iter().rev().find(|it| Some(it.key.as_str()) == name && wins(&it.file));
    sysctl.or_else(limits).or_else(manager)
}

/// Whether a key of sysctl.d with `*`, `?` or `[` stands for this one too.
fn is_pattern_of(pattern: &str, key: &str) -> bool {
    pattern.contains(['*', '?', '['])
        && globset::Glob::new(pattern).is_ok_and(|pattern| pattern.compile_matcher().is_match(key))
}

/// Whether apm wrote the file.
pub(crate) fn is_own(file: &str) -> bool {
    file.rsplit('/').next().is_some_and(|name| name.starts_with(NAME))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::advise;
    use crate::model::diagnosis::{Area, Finding, Severity, Threshold};
    use crate::model::setting::{Place, Reason, Setting, Verdict, Workload};
    use crate::model::snapshot::room::Drive;
    use crate::model::snapshot::tunables::{Line, Tunables, Value};
    use crate::model::snapshot::{Field, Snapshot};
    use crate::tune::catalogue::{COUNTERPARTS, rows, sysctls};
    use crate::tune::dropin::Own;
    use crate::tune::facts::Facts;
    use crate::tune::row::{Law, is_valid};
    use crate::tune::value::{is_same, lowers};

    /// The rules that settings ask.
    const RULES: &[&str] = &[
        "mem.direct_reclaim",
        "mem.commit",
        "mem.hugepages_idle",
        "mem.thp",
        "sys.fd",
        "proc.inotify",
        "proc.pids",
        "net.listen_ovf",
        "net.udp_rcvbuf",
        "net.softnet",
        "net.ports",
        "net.syn_cookies",
        "net.mtu",
        "net.conntrack",
        "net.sockmem",
    ];

    fn finding(rule: &str) -> Finding {
        Finding {
            rule: rule.to_owned(),
            area: Area::Network,
            severity: Severity::Warn,
            confidence: 1,
            title: "CPU 0 dropped packets, out of time, an instance, a watch".to_owned(),
            value: 1.0,
            unit: String::new(),
            threshold: Threshold { warn: None, crit: None, source: String::new() },
            evidence: Vec::new(),
            culprits: Vec::new(),
            remedies: Vec::new(),
            symptoms: Vec::new(),
        }
    }

    struct Machine {
        now: Snapshot,
        tunables: Tunables,
        own: BTreeMap<String, Own>,
        own_lasts: bool,
        foreign: BTreeMap<Place, String>,
        findings: Vec<Finding>,
    }

    impl Machine {
        fn new(memory: u64, swap: u64) -> Self {
            let mut now = Snapshot::default();
            let info = [("MemTotal", memory), ("MemAvailable", memory / 2), ("SwapTotal", swap)];
            now.memory.meminfo = Field::Known(info.map(|(name, bytes)| (name.to_owned(), bytes)).into());
            let drive = |name: &str, kind: &str| Drive { name: name.to_owned(), bytes: 1 << 40, kind: kind.to_owned() };
            now.hardware.drives = Field::Known(vec![drive("sda", "hdd"), drive("nvme0n1", "nvme")]);
            Self {
                now,
                tunables: Tunables::default(),
                own: BTreeMap::new(),
                own_lasts: true,
                foreign: BTreeMap::new(),
                findings: Vec::new(),
            }
        }

        fn value(&mut self, key: &str, text: &str) {
            let value = Value {
                path: key.to_owned(),
                shown: key.to_owned(),
                text: Field::Known(text.to_owned()),
                is_writable: true,
            };
            self.tunables.values.insert(key.to_owned(), value);
        }

        fn plan(&self, workload: Workload, agents: u64, way: Option<(u64, f64)>) -> Vec<Setting> {
            advise(&Facts {
                key: "",
                now: &self.now,
                tunables: &self.tunables,
                own: &self.own,
                own_lasts: self.own_lasts,
                foreign: &self.foreign,
                findings: &self.findings,
                workload,
                agents,
                bandwidth: way.map(|(bandwidth, _)| bandwidth),
                rtt_ms: way.map(|(_, rtt)| rtt),
            })
        }

        fn setting(&self, key: &str) -> Setting {
            let plan = self.plan(Workload::Agents, 4, None);
            plan.into_iter().find(|setting| setting.key == key).expect("the key")
        }
    }

    #[test]
    fn the_table_is_whole() {
        let mut keys: Vec<&str> = rows().map(|row| row.key).collect();
        assert!(keys.len() >= 60, "{}", keys.len());
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), rows().count(), "a key twice");
        for row in rows() {
            assert!(!row.about.is_empty() && !row.formula.is_empty() && !row.source.is_empty(), "{}", row.key);
        }
        assert!(COUNTERPARTS.iter().all(|(key, other)| sysctls().contains(key) && sysctls().contains(other)));
    }

    #[test]
    fn the_laws_hold_for_each_reason() {
        let mut machine = Machine::new(32 << 30, 0);
        machine.value("vm.max_map_count", "65530");
        let reason = |machine: &Machine| {
            let setting = machine.setting("vm.max_map_count");
            (setting.verdict, setting.reason)
        };
        assert_eq!(reason(&machine), (Verdict::Raise, None));
        let line =
            |file: &str| Line { file: file.to_owned(), key: "vm.max_map_count".to_owned(), value: "70000".to_owned() };
        machine.tunables.lines = vec![line("/etc/sysctl.d/99-mine.conf")];
        assert_eq!(reason(&machine), (Verdict::Skip, Some(Reason::Administrator)));
        // Whoever wrote it: the name of the file decides.
        machine.tunables.lines = vec![line("/usr/lib/sysctl.d/99-x.conf")];
        assert_eq!(reason(&machine), (Verdict::Skip, Some(Reason::Administrator)));
        machine.tunables.lines = vec![Line { key: "vm.max_map_*".to_owned(), ..line("/etc/sysctl.d/99-x.conf") }];
        assert_eq!(reason(&machine), (Verdict::Skip, Some(Reason::Administrator)));
        machine.tunables.lines = vec![line("/etc/sysctl.d/10-map-count.conf")];
        assert_eq!(reason(&machine), (Verdict::Raise, None));
        machine.foreign.insert(Place::Sysctl, "/etc/sysctl.d/60-apm.conf".to_owned());
        assert_eq!(reason(&machine), (Verdict::Skip, Some(Reason::Administrator)));
        machine.foreign.clear();
        machine.value("vm.max_map_count", "foo");
        assert_eq!(reason(&machine), (Verdict::Skip, Some(Reason::Unreadable)));
        machine.value("vm.max_map_count", "65530");
        machine.now.system.container = Some("docker".to_owned());
        assert_eq!(reason(&machine), (Verdict::Skip, Some(Reason::HostOnly)));
        machine.now.system.container = None;
        machine.value("vm.max_map_count", "1048576");
        assert_eq!(reason(&machine), (Verdict::Skip, Some(Reason::HigherAlready)));
        machine.tunables.values.clear();
        assert_eq!(reason(&machine), (Verdict::Skip, Some(Reason::NotHere)));
        machine.value("kernel.perf_event_paranoid", "4");
        assert_eq!(machine.setting("kernel.perf_event_paranoid").reason, Some(Reason::Security));
        machine.value("net.core.somaxconn", "4096");
        machine.findings = vec![finding("net.listen_ovf")];
        let raised = machine.setting("net.core.somaxconn");
        assert_eq!((raised.proposed.as_deref(), raised.rule.as_deref()), (Some("8192"), Some("net.listen_ovf")));
    }

    #[test]
    fn what_apm_wrote_stays_when_its_evidence_is_gone() {
        let mut machine = Machine::new(32 << 30, 0);
        machine.value("net.core.netdev_max_backlog", "2000");
        assert_eq!(machine.setting("net.core.netdev_max_backlog").proposed, None);
        let own = Own { value: "2000".to_owned(), why: "CPU 1 dropped".to_owned() };
        machine.own.insert("net.core.netdev_max_backlog".to_owned(), own);
        let kept = machine.setting("net.core.netdev_max_backlog");
        assert_eq!(
            (kept.verdict, kept.proposed.as_deref(), kept.why.as_str()),
            (Verdict::Keep, Some("2000"), "CPU 1 dropped")
        );
        machine.value("net.core.netdev_max_backlog", "1000");
        assert_eq!(machine.setting("net.core.netdev_max_backlog").verdict, Verdict::Raise);
        // No limit is lowered by an old line.
        machine.value("net.core.netdev_max_backlog", "5000");
        assert_eq!(machine.setting("net.core.netdev_max_backlog").reason, Some(Reason::HigherAlready));
    }

    proptest! {
        #[test]
        fn no_proposal_breaks_a_law(
            numbers in proptest::collection::vec(0u64..=u64::from(u32::MAX), 200),
            memory in 1u64 << 26..1 << 44,
            swap in prop_oneof![Just(0u64), Just(1 << 30)],
            agents in 1u64..1_000_000,
            way in proptest::option::of((1_000u64..1_000_000_000_000, 0.01f64..5_000.0)),
            found in proptest::collection::vec(any::<bool>(), RULES.len()),
            workload in prop_oneof![Just(Workload::Agents), Just(Workload::Ci), Just(Workload::Server), Just(Workload::Desktop)],
        ) {
            let mut machine = Machine::new(memory, swap);
            let mut numbers = numbers.into_iter().cycle();
            let mut next = || numbers.next().unwrap_or_default();
            for key in sysctls() {
                let text = match key {
                    "net.ipv4.tcp_rmem" | "net.ipv4.tcp_wmem" | "net.ipv4.tcp_mem" | "net.ipv4.udp_mem" => {
                        format!("{} {} {}", next() >> 8, next() >> 4, next())
                    }
                    "net.ipv4.ip_local_port_range" => format!("{} {}", next() % 32_768, 32_768 + next() % 32_768),
                    "vm.dirty_ratio" | "vm.dirty_background_ratio" => (next() % 100).to_string(),
                    _ => (next() >> (next() % 33)).to_string(),
                };
                machine.value(key, &text);
            }
            machine.value("sys.block.nvme0n1.scheduler", "mq-deadline");
            machine.value("sys.block.sda.read_ahead_kb", &(next() % 1000).to_string());
            machine.value("sys.cpu.governor", "powersave");
            machine.findings = RULES.iter().zip(found).filter(|(_, found)| *found).map(|(rule, _)| finding(rule)).collect();
            for setting in machine.plan(workload, agents, way) {
                let Some(proposed) = setting.proposed.as_deref().filter(|_| setting.is_change()) else { continue };
                let row = rows().find(|row| row.key == setting.key || row.key.contains('*') && setting.place == Place::Sys);
                let row = rows().find(|row| row.key == setting.key).or(row).expect("its row");
                let current = setting.current.as_deref().unwrap_or_default();
                prop_assert!(!is_same(current, proposed));
                if row.key == setting.key {
                    prop_assert!(is_valid(row, proposed), "{} {proposed}", setting.key);
                    if row.law == Law::Limit {
                        prop_assert!(!lowers(current, proposed), "{}: {current} -> {proposed}", setting.key);
                    }
                }
                let last = proposed.rsplit(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or_default();
                match setting.key.as_str() {
                    "net.ipv4.tcp_rmem" | "net.ipv4.tcp_wmem" => {
                        let pressure = machine.tunables.text("net.ipv4.tcp_mem").and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
                        prop_assert!(last * 64 <= pressure.unwrap_or(u64::MAX / 8192).saturating_mul(4096));
                    }
                    "vm.dirty_bytes" => prop_assert!(last <= memory.max(1 << 28)),
                    "vm.min_free_kbytes" => prop_assert!(last <= (memory >> 10) / 100 + 128),
                    "fs.inotify.max_user_watches" => prop_assert!(last * 1312 <= (memory / 25).max(8192 * 1312)),
                    "pam.*.hard.nofile" => prop_assert!(last <= machine.tunables.number("fs.nr_open").unwrap_or(u64::MAX)),
                    "systemd.slice.MemoryHigh" => prop_assert!(last <= memory),
                    _ => {}
                }
            }
        }
    }
}
