//! What the settings of a machine should be: one table of settings, each with a formula over what was seen, and the laws
//! that no formula may break. Pure: `probe` has looked, `command::tune` writes.
//!
//! The laws: a limit is never lowered; what is a matter of security is named and never set; in a container only what is
//! its own is proposed; what the kernel has not, is not written; what an administrator set in a later file stays.

pub(crate) mod apply;
mod block;
pub(crate) mod dropin;
pub(crate) mod judge;
mod kernel;
mod limits;
mod memory;
mod network;

use std::collections::BTreeMap;

use crate::model::diagnosis::{Finding, Severity};
use crate::model::setting::{Place, Reason, Risk, Setting, Verdict, Workload};
use crate::model::snapshot::Snapshot;
use crate::model::snapshot::tunables::Tunables;

/// Name of the files that apm writes, without their ending. Files of an administrator begin with 99 and come later.
pub(crate) const NAME: &str = "60-apm";

/// What the proposals follow from.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    /// The key a proposal is asked for.
    pub(crate) key: &'a str,
    pub(crate) now: &'a Snapshot,
    pub(crate) tunables: &'a Tunables,
    /// What the files that apm wrote say.
    pub(crate) own: &'a BTreeMap<String, Own>,
    /// What the doctor found.
    pub(crate) findings: &'a [Finding],
    pub(crate) workload: Workload,
    /// Agents or workers at once.
    pub(crate) agents: u64,
    /// Bits a second of the link that matters, if told.
    pub(crate) bandwidth: Option<u64>,
    /// Round trip in milliseconds, if told.
    pub(crate) rtt_ms: Option<f64>,
}

/// A line of a file that apm wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) value: String,
    pub(crate) why: String,
}

/// What a formula says.
pub(crate) enum Advice {
    /// It should be this.
    Want(String, String),
    /// It should be this, as this rule of the doctor shows.
    Evident(String, String, &'static str),
    /// It is right as it is.
    Keep(String),
    Skip(Reason, String),
}

/// Whether a value may be lowered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Law {
    /// A limit, one number or several: never lower.
    Limit,
    /// Neither more nor less is better as such.
    Choice,
}

/// Values that are possible.
#[derive(Clone, Copy)]
pub(crate) enum Valid {
    /// Numbers from, to; each of several.
    Range(u64, u64),
    /// One of these, or what the kernel lists as possible.
    Words(&'static [&'static str]),
}

/// Whose a setting is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Each network namespace has its own.
    Network,
    Host,
}

/// A row of the catalogue.
pub(crate) struct Row {
    /// The key; `sys.block.*.scheduler` stands for one of each disk.
    pub(crate) key: &'static str,
    pub(crate) place: Place,
    pub(crate) scope: Scope,
    pub(crate) law: Law,
    pub(crate) valid: Valid,
    pub(crate) risk: Risk,
    /// What it is.
    pub(crate) about: &'static str,
    /// How the proposal is computed.
    pub(crate) formula: &'static str,
    /// Where range and formula come from.
    pub(crate) source: &'static str,
    /// The proposal for a key with this current value.
    pub(crate) advise: fn(&Facts<'_>, &str) -> Advice,
}

/// All rows.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    [memory::ROWS, kernel::ROWS, network::ROWS, block::ROWS, limits::ROWS].into_iter().flatten()
}

/// Names of the settings in /proc/sys that are read: those of the catalogue, and their other halves.
pub(crate) fn sysctls() -> Vec<&'static str> {
    let own = rows().filter(|row| row.place == Place::Sysctl).map(|row| row.key);
    own.chain(TWINS.iter().map(|(_, twin)| *twin)).collect()
}

/// Settings of which the kernel zeroes one when the other is written.
pub(crate) const TWINS: &[(&str, &str)] =
    &[("vm.dirty_bytes", "vm.dirty_ratio"), ("vm.dirty_background_bytes", "vm.dirty_background_ratio")];

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
                    facts.disk(disk).is_some().then(|| settle(row, key, facts))
                }));
            }
            _ => settings.push(settle(row, row.key, facts)),
        }
    }
    settings
}

/// Holds a proposal against the laws.
fn settle(row: &Row, key: &str, facts: &Facts<'_>) -> Setting {
    let facts = &Facts { key, ..*facts };
    let value = facts.tunables.values.get(key);
    let limit = limits::current(facts, key);
    let current = value.and_then(|value| value.text.known().cloned()).or(limit);
    let mut setting = Setting {
        key: key.to_owned(),
        place: row.place,
        path: value.map(|value| value.path.clone()),
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
            let path = value.map_or_else(|| row.key.to_owned(), |value| value.path.clone());
            let why = value.and_then(|value| value.text.get().err()).map_or("not there", |error| &error.why);
            let reason = if why == "not there" { Reason::NotHere } else { Reason::Unreadable };
            return skip(setting, reason, format!("{path}: {why}"));
        }
        (None, _) => ("", false),
    };
    let own = facts.own.get(key).filter(|own| is_valid(row, &own.value));
    let (proposed, why, rule) = match ((row.advise)(facts, text), own) {
        (Advice::Want(value, why), _) => (value, why, None),
        (Advice::Evident(value, why, rule), _) => (value, why, Some(rule)),
        // What showed that it helps is gone, perhaps since it helps.
        (Advice::Keep(_) | Advice::Skip(Reason::NoEvidence, _), Some(own)) => {
            (own.value.clone(), own.why.clone(), None)
        }
        (Advice::Keep(why), None) => {
            (setting.verdict, setting.why) = (Verdict::Keep, why);
            return setting;
        }
        (Advice::Skip(reason, why), _) => return skip(setting, reason, why),
    };
    // Numbers of the moment change: a file that says the same value keeps its words.
    let why = own.filter(|own| is_same(&own.value, &proposed)).map_or(why, |own| own.why.clone());
    setting.rule = rule.map(str::to_owned);
    if facts.now.system.container.is_some() && row.scope == Scope::Host {
        return skip(setting, Reason::HostOnly, format!("{why}: on the host of this container"));
    }
    if is_file && value.is_some_and(|value| !value.is_writable) {
        return skip(setting, Reason::HostOnly, format!("{why}: read-only in this namespace"));
    }
    if let Some(line) = facts.administrators(key).filter(|line| !is_same(&line.value, &proposed)) {
        let why = format!("{} sets it to {}, and wins", line.file, line.value);
        return skip(setting, Reason::Administrator, why);
    }
    if !is_valid(row, &proposed) {
        debug_assert!(false, "{key}: {proposed}");
        return skip(setting, Reason::NoEffect, format!("{proposed} is out of its range"));
    }
    if is_same(text, &proposed) {
        (setting.verdict, setting.why) = (Verdict::Keep, why);
        setting.proposed = own.map(|own| own.value.clone());
        return setting;
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
            let twin = TWINS.iter().find(|(one, _)| *one == key && current == "0").map(|(_, twin)| *twin);
            let (key, value) = twin.map_or(Some((key, current)), |twin| Some((twin, facts.tunables.text(twin)?)))?;
            Some(if value.contains(' ') {
                format!("sysctl -w {key}='{value}'")
            } else {
                format!("sysctl -w {key}={value}")
            })
        }
        Place::Sys => facts.tunables.values.get(key).map(|value| format!("echo {current} > {}", value.path)),
        Place::Pam | Place::Manager | Place::Slice => Some("apm tune rollback".to_owned()),
    }
}

/// Values are the same whatever blanks are between their words.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    one.split_ascii_whitespace().eq(other.split_ascii_whitespace())
}

/// Whether any number of a value would become lower.
pub(crate) fn lowers(current: &str, proposed: &str) -> bool {
    let numbers = |text: &str| text.split_ascii_whitespace().map(number).collect::<Vec<Option<u64>>>();
    let (current, proposed) = (numbers(current), numbers(proposed));
    current.len() != proposed.len() && !current.is_empty()
        || current.iter().zip(&proposed).any(|(current, proposed)| match (current, proposed) {
            (Some(current), Some(proposed)) => proposed < current,
            _ => false,
        })
}

/// A number of a limit; what is unlimited is the highest.
fn number(word: &str) -> Option<u64> {
    match word {
        "unlimited" | "infinity" | "-1" => Some(u64::MAX),
        word => word.parse().ok(),
    }
}

/// Whether a value is one that the setting can have.
pub(crate) fn is_valid(row: &Row, value: &str) -> bool {
    let mut words = value.split_ascii_whitespace().peekable();
    words.peek().is_some()
        && match row.valid {
            Valid::Range(least, most) => {
                words.all(|word| number(word).is_some_and(|number| (least..=most).contains(&number)))
            }
            Valid::Words(all) => words.all(|word| all.contains(&word)),
        }
}

/// Possible values in words.
pub(crate) fn describe(valid: Valid) -> String {
    let most = |most: u64| if most >= i64::MAX as u64 { "any number".to_owned() } else { most.to_string() };
    match valid {
        Valid::Range(from, to) => format!("{from} to {}", most(to)),
        Valid::Words(words) => words.join(", "),
    }
}

impl Facts<'_> {
    /// Memory of the machine, bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.now.memory.meminfo.known().and_then(|info| info.get("MemTotal").copied()).unwrap_or_default()
    }

    pub(crate) fn meminfo(&self, name: &str) -> u64 {
        self.now.memory.meminfo.known().and_then(|info| info.get(name).copied()).unwrap_or_default()
    }

    pub(crate) fn cpus(&self) -> u64 {
        self.now.cpu.stat.known().map_or(1, |stat| stat.each.len().max(1) as u64)
    }

    /// What the doctor said by this rule.
    pub(crate) fn spoke(&self, rule: &str) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.rule == rule && finding.severity > Severity::Info)
    }

    pub(crate) fn has_swap(&self) -> bool {
        self.meminfo("SwapTotal") > 0
    }

    /// It swaps to compressed memory only.
    pub(crate) fn has_zram(&self) -> bool {
        let swaps = &self.tunables.swaps;
        !swaps.is_empty() && swaps.iter().all(|swap| swap.contains("zram"))
    }

    /// The kind of a disk.
    pub(crate) fn disk(&self, name: &str) -> Option<&str> {
        let drives = self.now.hardware.drives.known()?;
        drives.iter().find(|drive| drive.name == name).map(|drive| drive.kind.as_str())
    }

    /// The kind of the disk that the key is about.
    fn disk_of_key(&self) -> Option<&str> {
        self.disk(self.key.strip_prefix("sys.block.")?.rsplit_once('.')?.0)
    }

    /// Bytes on the way on a link: bandwidth times round trip.
    pub(crate) fn bandwidth_delay(&self) -> Option<u64> {
        Some((self.bandwidth? as f64 * self.rtt_ms? / 1e3 / 8.0) as u64)
    }

    /// A line that comes after apm's file and sets a key.
    fn administrators(&self, key: &str) -> Option<&crate::model::snapshot::tunables::Line> {
        let name = |file: &str| file.rsplit('/').next().unwrap_or_default().to_owned();
        let is_later = |file: &str| name(file).as_str() > "60-apm.conf" || name(file) == "sysctl.conf";
        let by_hand = |file: &str| is_later(file) && file.contains("/etc/") && !is_own(file);
        let lines = self.tunables.lines.iter().chain(&self.tunables.limits).rev();
        lines.into_iter().find(|line| limits::is_key(&line.key, key) && by_hand(&line.file))
    }
}

/// Whether apm wrote the file.
pub(crate) fn is_own(file: &str) -> bool {
    file.rsplit('/').next().is_some_and(|name| name.starts_with(NAME))
}
