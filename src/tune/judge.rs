//! Lists of settings from elsewhere, each held against this machine: that of apm's specification, and profiles of tuned.

use serde::Serialize;

use crate::model::setting::{Reason, Setting, Verdict};
use crate::model::unit::Bytes;
use crate::tune::catalogue::{COUNTERPARTS, rows};
use crate::tune::facts::Facts;
use crate::tune::row::Law;
use crate::tune::value::{is_same, lowers, number};

/// The list of the specification: "system tuning", the variables for runtimes, the priorities of a run.
pub(crate) const SPEC: &[(&str, &str)] = &[
    ("vm.swappiness", "10"),
    ("vm.vfs_cache_pressure", "50"),
    ("net.core.rmem_max", "134217728"),
    ("net.core.wmem_max", "134217728"),
    ("net.ipv4.tcp_rmem", "4096 87380 134217728"),
    ("net.ipv4.tcp_wmem", "4096 65536 134217728"),
    ("fs.file-max", "1000000"),
    ("pam.*.soft.nofile", "1000000"),
    ("pam.*.hard.nofile", "1000000"),
    ("env.JAVA_OPTS", "-Xms256m -Xmx2g -XX:+UseG1GC -XX:MaxGCPauseMillis=100"),
    ("env.PYTHONOPTIMIZE", "2"),
    ("env.PYTHONDONTWRITEBYTECODE", "1"),
    ("run.nice_level", "-5"),
    ("run.io_priority", "high"),
];

/// What a value from elsewhere is worth here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Worth {
    /// It does damage here.
    Harmful,
    /// It lowers a limit.
    Lowers,
    /// It was right once, or elsewhere.
    Outdated,
    /// It does nothing here.
    NoEffect,
    /// Nothing shows that it helps here.
    Unproven,
    /// A matter of security, not of tuning.
    Security,
    /// This machine has no such setting.
    NotHere,
    /// It is so already.
    AsItIs,
    /// apm proposes the same.
    Right,
}

impl Worth {
    /// In words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Harmful => "harmful",
            Self::Lowers => "lowers",
            Self::Outdated => "outdated",
            Self::NoEffect => "no effect",
            Self::Unproven => "unproven",
            Self::Security => "security",
            Self::NotHere => "not here",
            Self::AsItIs => "as it is",
            Self::Right => "right",
        }
    }
}

/// A value from elsewhere, judged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Judged {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) current: Option<String>,
    /// What apm proposes instead.
    pub(crate) proposed: Option<String>,
    pub(crate) worth: Worth,
    pub(crate) why: String,
}

/// A value from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub(crate) key: String,
    pub(crate) value: String,
    /// At least so much: what is higher stays.
    pub(crate) is_least: bool,
}

/// Judges a list.
pub(crate) fn judge(list: &[Foreign], settings: &[Setting], facts: &Facts<'_>) -> Vec<Judged> {
    list.iter().map(|one| judge_one(one, settings.iter().find(|setting| setting.key == one.key), facts)).collect()
}

fn judge_one(one: &Foreign, setting: Option<&Setting>, facts: &Facts<'_>) -> Judged {
    let judged = |worth: Worth, why: String| Judged {
        key: one.key.clone(),
        value: one.value.clone(),
        current: setting.map_or_else(|| facts.tunables.text(&one.key).map(str::to_owned), |it| it.current.clone()),
        proposed: setting.filter(|setting| setting.is_change()).and_then(|setting| setting.proposed.clone()),
        worth,
        why,
    };
    if let Some((worth, why)) = of_a_run(one, facts) {
        return judged(worth, why);
    }
    if let Some((_, now)) = counterpart(one, facts).filter(|_| setting.is_none()) {
        let all = facts.memory();
        let bytes = |percent: &str| percent.parse::<u64>().map_or(0, |percent| all / 100 * percent);
        let why = format!(
            "of {}: {} may wait to be written instead of {}; apm bounds it in bytes where that is too much",
            Bytes(all),
            Bytes(bytes(&one.value)),
            Bytes(bytes(now))
        );
        let worth = if is_same(now, &one.value) { Worth::AsItIs } else { Worth::Unproven };
        return judged(worth, why);
    }
    let Some(setting) = setting else {
        if facts.tunables.text(&one.key).is_some_and(|now| is_same(now, &one.value)) {
            return judged(Worth::AsItIs, "it is already".to_owned());
        }
        return judged(Worth::Unproven, "not in apm's catalogue: nothing is known that it helps".to_owned());
    };
    let Some(current) = setting.current.as_deref() else {
        let why = if setting.why.is_empty() { "this machine has none".to_owned() } else { setting.why.clone() };
        return judged(Worth::NotHere, why);
    };
    if one.is_least && number(&one.value).zip(number(current)).is_some_and(|(least, now)| now >= least) {
        return judged(Worth::AsItIs, format!("{current} is at least that"));
    }
    if is_same(current, &one.value) {
        return judged(Worth::AsItIs, format!("{current} already"));
    }
    if setting.proposed.as_deref().is_some_and(|proposed| is_same(proposed, &one.value)) {
        return judged(Worth::Right, setting.why.clone());
    }
    if setting.reason == Some(Reason::Security) {
        return judged(Worth::Security, setting.why.clone());
    }
    if let Some((worth, why)) = known(one, current, facts) {
        return judged(worth, why);
    }
    let row = rows().find(|row| row.key == one.key);
    if row.is_some_and(|row| row.law == Law::Limit) && lowers(current, &one.value) {
        return judged(Worth::Lowers, format!("{current} is higher: a limit is never lowered"));
    }
    match (setting.verdict, setting.reason) {
        (Verdict::Skip, Some(Reason::NoEffect)) => judged(Worth::NoEffect, setting.why.clone()),
        (Verdict::Skip, Some(Reason::NotHere)) => judged(Worth::NotHere, setting.why.clone()),
        (Verdict::Raise | Verdict::Set, _) => {
            let proposed = setting.proposed.as_deref().unwrap_or_default();
            judged(Worth::Unproven, format!("apm proposes {proposed}: {}", setting.why))
        }
        _ => judged(Worth::Unproven, format!("{current} now: {}", setting.why)),
    }
}

/// The percent beside a setting in bytes, and what it is now.
fn counterpart<'a>(one: &Foreign, facts: &Facts<'a>) -> Option<(&'static str, &'a str)> {
    let (_, other) = COUNTERPARTS.iter().find(|(_, other)| *other == one.key)?;
    Some((*other, facts.tunables.text(other)?))
}

/// Share of CPU time at a nice level, against 1024 at 0: `sched_prio_to_weight` in kernel/sched/core.c.
const WEIGHT_AT_MINUS_5: f64 = 3121.0;

/// What is known of what a run gives its tasks: variables, priorities. No settings of the machine.
fn of_a_run(one: &Foreign, facts: &Facts<'_>) -> Option<(Worth, String)> {
    let said = match one.key.as_str() {
        "env.JAVA_OPTS" => {
            let heap: u64 = 2 << 30;
            let (all, available) = (heap.saturating_mul(facts.agents), facts.meminfo("MemAvailable"));
            let sum = format!("{} agents with a heap of {}: {} of", facts.agents, Bytes(heap), Bytes(all));
            let sized = "`apm tune env` sizes heap and collector by what an agent may use";
            if all > available {
                (Worth::Harmful, format!("{sum} {} available; {sized}", Bytes(available)))
            } else {
                (Worth::Unproven, format!("{sum} {} available fit; {sized}", Bytes(available)))
            }
        }
        "env.PYTHONOPTIMIZE" => (
            Worth::Harmful,
            "removes assert statements and docstrings: tests of agents that assert pass without a look; it makes \
             nothing else faster"
                .to_owned(),
        ),
        "env.PYTHONDONTWRITEBYTECODE" => {
            (Worth::Harmful, "each start compiles every module of the project again, since nothing is kept".to_owned())
        }
        "run.nice_level" => (
            Worth::Harmful,
            format!(
                "needs root, and {} agents then have {:.1} times the share of CPU time of the shell, the terminal and sshd; \
                 0 is apm's own, more than 0 keeps the machine usable",
                facts.agents,
                WEIGHT_AT_MINUS_5 / 1024.0
            ),
        ),
        "run.io_priority" => {
            let is_bfq = |key: &&String| facts.tunables.text(key).is_some_and(|text| text.contains("bfq"));
            let schedulers = facts.tunables.values.keys().filter(|key| key.ends_with(".scheduler"));
            let (with, without): (Vec<&String>, Vec<&String>) = schedulers.partition(is_bfq);
            if with.is_empty() {
                let why = "only bfq knows levels within best effort, and none of the disks here uses it";
                (Worth::NoEffect, format!("{why} ({} looked at)", without.len()))
            } else {
                let of = with.len() + without.len();
                (Worth::Unproven, format!("has an effect on {} of {of} disks here: those with bfq", with.len()))
            }
        }
        _ => return None,
    };
    Some(said)
}

/// What is known of values that are passed on from list to list.
fn known(one: &Foreign, current: &str, facts: &Facts<'_>) -> Option<(Worth, String)> {
    let now = number(current.split(' ').next()?);
    let words = |text: &str| text.split(' ').filter_map(|word| word.parse::<u64>().ok()).collect::<Vec<u64>>();
    let value = words(&one.value);
    match one.key.as_str() {
        "pam.*.soft.nofile" if value.first()? > &1024 => Some((
            Worth::Harmful,
            format!(
                "{current} now. Programs that close or count every descriptor up to the soft limit take {} times as long, and \
                 select() fails above 1023; what needs more raises it itself, up to the hard limit",
                value.first()? / now.unwrap_or(1024).max(1)
            ),
        )),
        "pam.*.hard.nofile" => {
            let most = facts.tunables.number("fs.nr_open")?;
            let now = now?;
            if *value.first()? > most {
                return Some((Worth::Harmful, format!("above fs.nr_open {most}: logins fail")));
            }
            (now < *value.first()?).then(|| {
                (Worth::Unproven, format!("{now} now, allowed by fs.nr_open {most}; 524288 is what systemd gives"))
            })
        }
        "net.core.rmem_max" | "net.core.wmem_max" if *value.first()? > now? => Some((
            Worth::Outdated,
            format!(
                "{} now. It bounds only what programs ask for themselves, which turns the kernel's own sizing off; TCP is \
                 sized by tcp_rmem and tcp_wmem. Worth it for 10 Gbit/s over 100 ms, and there by --bandwidth and --rtt",
                Bytes(now?)
            ),
        )),
        "net.ipv4.tcp_rmem" | "net.ipv4.tcp_wmem" => {
            let now = words(current);
            let ([_, first, most], [_, first_now, most_now]) = (value.as_slice(), now.as_slice()) else { return None };
            let all = facts.tunables.text("net.ipv4.tcp_mem").and_then(|text| words(text).get(2).copied());
            let full = all.map(|pages| {
                let sockets = (pages.saturating_mul(4096)) as f64 / (*most).max(1) as f64;
                format!("; {sockets:.1} sockets with {} fill all memory for TCP (tcp_mem)", Bytes(*most))
            });
            let full = full.filter(|_| most > most_now).unwrap_or_default();
            if first < first_now {
                let why = format!("lowers the buffer a connection begins with from {first_now} to {first}{full}");
                return Some((Worth::Harmful, why));
            }
            if first > first_now {
                let why = format!(
                    "each idle connection begins with {} instead of {}{full}",
                    Bytes(*first),
                    Bytes(*first_now)
                );
                return Some((Worth::Harmful, why));
            }
            (most < most_now).then(|| (Worth::Lowers, format!("{most_now} is higher: a limit is never lowered")))
        }
        _ => None,
    }
}

/// What is in a profile of tuned.
#[derive(Debug, Default)]
pub(crate) struct Profile {
    pub(crate) found: Vec<Foreign>,
    /// The profile it adds to.
    pub(crate) include: Option<String>,
    /// Lines that apm sets nothing like, or does not understand.
    pub(crate) unknown: Vec<String>,
    pub(crate) sections: usize,
}

/// `${f:virt_check:ONE:OTHER}` is the one in a virtual machine.
fn expanded(value: &str, is_virtual: bool) -> Option<String> {
    let Some((before, rest)) = value.split_once("${") else { return Some(value.to_owned()) };
    let (inside, after) = rest.split_once('}')?;
    let (one, other) = inside.strip_prefix("f:virt_check:")?.split_once(':')?;
    Some(format!("{before}{}{after}", if is_virtual { one } else { other })).filter(|value| !value.contains("${"))
}

/// Reads a profile of tuned. Sections with a condition are of other machines.
pub(crate) fn tuned(text: &str, is_virtual: bool) -> Profile {
    let mut sections: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push((name.to_owned(), Vec::new()));
        } else if !line.is_empty() && !line.starts_with(['#', ';']) {
            let Some((key, value)) = line.split_once('=') else { continue };
            if let Some((_, lines)) = sections.last_mut() {
                lines.push((key.trim().to_owned(), value.trim().trim_matches('"').to_owned()));
            }
        }
    }
    let mut found = Vec::new();
    let mut include = None;
    let mut unknown = Vec::new();
    for (section, lines) in &sections {
        let is_conditional = lines.iter().any(|(key, _)| key.ends_with("_regex"));
        let kind = lines.iter().find(|(key, _)| key == "type").map_or(section.as_str(), |(_, kind)| kind.as_str());
        for (key, value) in lines {
            let key = match (kind, key.as_str()) {
                _ if is_conditional => continue,
                ("main", "include") => {
                    include = expanded(value, is_virtual);
                    if include.is_none() {
                        unknown.push(format!("[main] include={value}"));
                    }
                    continue;
                }
                ("main" | "variables", _) | (_, "type" | "replace" | "enabled") => continue,
                ("sysctl", key) => key.replace('/', "."),
                ("vm", "transparent_hugepages" | "transparent_hugepage") => "sys.thp.enabled".to_owned(),
                ("cpu", "governor") => "sys.cpu.governor".to_owned(),
                (kind, key) => {
                    unknown.push(format!("[{kind}] {key}={value}"));
                    continue;
                }
            };
            let Some(value) = expanded(value, is_virtual) else {
                unknown.push(format!("{key}={value}"));
                continue;
            };
            let least = value.strip_prefix('>');
            let value = least.unwrap_or(&value).trim().split('|').next().unwrap_or_default().to_owned();
            found.push(Foreign { key, value, is_least: least.is_some() });
        }
    }
    Profile { found, include, unknown, sections: sections.len() }
}

#[cfg(test)]
mod tests {
    use super::{Foreign, Profile, tuned};

    #[test]
    fn a_profile_of_tuned_is_read() {
        let text = "[main]\ninclude=throughput-performance\n[cpu]\ngovernor=schedutil|ondemand\nmin_perf_pct=100\n\
            [sysctl]\nnet.core.somaxconn=>2048\nnet.ipv4.tcp_rmem=\"4096 87380 16777216\"\nvm.x=${y}\n\
            [sysctl.thunderx]\ntype=sysctl\nuname_regex=aarch64\nkernel.numa_balancing=0\n";
        let Profile { found, include, unknown, sections } = tuned(text, true);
        assert_eq!(sections, 4);
        let include_of = |text: &str, is_virtual| tuned(text, is_virtual).include;
        let virt = "[main]\ninclude=${f:virt_check:virtual-guest:throughput-performance}\n";
        assert_eq!(include_of(virt, true).as_deref(), Some("virtual-guest"));
        assert_eq!(include_of(virt, false).as_deref(), Some("throughput-performance"));
        assert_eq!(include_of("[main]\ninclude=${f:exec:x}\n", true), None);
        let foreign =
            |key: &str, value: &str, is_least| Foreign { key: key.to_owned(), value: value.to_owned(), is_least };
        let expected = [
            foreign("sys.cpu.governor", "schedutil", false),
            foreign("net.core.somaxconn", "2048", true),
            foreign("net.ipv4.tcp_rmem", "4096 87380 16777216", false),
        ];
        assert_eq!(found, expected);
        assert_eq!(include.as_deref(), Some("throughput-performance"));
        assert_eq!(unknown, ["[cpu] min_perf_pct=100", "vm.x=${y}"]);
    }
}
