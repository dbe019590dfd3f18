//! Lists of settings from elsewhere, each held against this machine: that of apm's specification, and profiles of tuned.

use serde::Serialize;

use crate::model::setting::{Reason, Setting, Verdict};
use crate::model::unit::Bytes;
use crate::tune::catalogue::{COUNTERPARTS, rows};
use crate::tune::facts::Facts;
use crate::tune::row::Law;
use crate::tune::value::{is_same, lowers, number, sets_nothing};

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
    pub(crate) bound: Bound,
}

/// How a value binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Exactly,
    /// What is higher stays.
    AtLeast,
    /// What is lower stays.
    AtMost,
}

/// Judges a list.
pub(crate) fn judge(list: &[Foreign], settings: &[Setting], facts: &Facts<'_>) -> Vec<Judged> {
    list.iter().map(|one| judge_one(one, settings.iter().find(|it| it.key == one.key), list, facts)).collect()
}

fn judge_one(one: &Foreign, setting: Option<&Setting>, list: &[Foreign], facts: &Facts<'_>) -> Judged {
    let seen = facts.tunables.values.get(&one.key);
    let current = setting.map_or_else(|| seen?.text.known().cloned(), |setting| setting.current.clone());
    let judged = |worth: Worth, why: String| Judged {
        key: one.key.clone(),
        value: one.value.clone(),
        current: current.clone(),
        proposed: setting.filter(|setting| setting.is_change()).and_then(|setting| setting.proposed.clone()),
        worth,
        why,
    };
    if let Some((worth, why)) = of_a_run(one, facts) {
        return judged(worth, why);
    }
    let Some(now) = current.as_deref() else {
        let refused = seen.and_then(|value| value.text.get().err()).filter(|error| error.why != "not there");
        return match (setting, refused) {
            (Some(setting), _) if !setting.why.is_empty() => judged(Worth::NotHere, setting.why.clone()),
            (None, Some(error)) => judged(Worth::Unproven, format!("its value cannot be read: {}", error.why)),
            _ => judged(Worth::NotHere, "this machine has none".to_owned()),
        };
    };
    if let Some(why) = is_so_already(one, now) {
        return judged(Worth::AsItIs, why);
    }
    if setting.and_then(|setting| setting.proposed.as_deref()).is_some_and(|wanted| is_same(wanted, &one.value)) {
        return judged(Worth::Right, setting.map(|setting| setting.why.clone()).unwrap_or_default());
    }
    if let Some((worth, why)) = write_back(one, list, facts) {
        return judged(worth, why);
    }
    let Some(setting) = setting else {
        return judged(Worth::Unproven, "not in apm's catalogue: nothing is known that it helps".to_owned());
    };
    if setting.reason == Some(Reason::Security) {
        return judged(Worth::Security, setting.why.clone());
    }
    if let Some((worth, why)) = known(one, now, facts) {
        return judged(worth, why);
    }
    let row = rows().find(|row| row.key == one.key);
    if row.is_some_and(|row| row.law == Law::Limit) && lowers(now, &one.value) {
        return judged(Worth::Lowers, format!("{now} is higher: a limit is never lowered"));
    }
    match (setting.verdict, setting.reason) {
        (Verdict::Skip, Some(Reason::NoEffect)) => judged(Worth::NoEffect, setting.why.clone()),
        (Verdict::Skip, Some(Reason::NotHere)) => judged(Worth::NotHere, setting.why.clone()),
        (Verdict::Raise | Verdict::Set, _) => {
            let proposed = setting.proposed.as_deref().unwrap_or_default();
            judged(Worth::Unproven, format!("apm proposes {proposed}: {}", setting.why))
        }
        _ => judged(Worth::Unproven, format!("{now} now: {}", setting.why)),
    }
}

/// Why nothing would change, where the machine has the value, or one within the bound.
fn is_so_already(one: &Foreign, now: &str) -> Option<String> {
    let numbers = number(now).zip(number(&one.value));
    match one.bound {
        Bound::AtLeast if numbers.is_some_and(|(now, least)| now > least) => {
            Some(format!("{now} now, at least {} is asked for", one.value))
        }
        Bound::AtMost if numbers.is_some_and(|(now, most)| now < most) => {
            Some(format!("{now} now, at most {} is asked for", one.value))
        }
        _ => sets_nothing(now, &one.value).then(|| format!("{now} now")),
    }
}

/// Of vm.dirty_bytes and vm.dirty_ratio, and of the two for the background, the kernel keeps the one that was written last
/// and shows 0 for the other. A 0 in a list is no share of memory then: the other one counts.
fn write_back(one: &Foreign, list: &[Foreign], facts: &Facts<'_>) -> Option<(Worth, String)> {
    let (bytes, ratio) = *COUNTERPARTS.iter().find(|(bytes, ratio)| *bytes == one.key || *ratio == one.key)?;
    let (is_bytes, other) = if bytes == one.key { (true, ratio) } else { (false, bytes) };
    let value: u64 = one.value.parse().ok()?;
    let place = |key: &str| list.iter().position(|it| it.key == key);
    if let Some(at) = place(other).filter(|at| list[*at].value.parse().is_ok_and(|value: u64| value > 0)) {
        if value == 0 {
            return Some((Worth::NoEffect, format!("0 means that {other} counts, which the list sets too")));
        }
        if place(&one.key) < Some(at) {
            return Some((Worth::NoEffect, format!("{other}, which the list sets after it, makes it 0")));
        }
    }
    if is_bytes && value == 0 {
        return Some((Worth::NoEffect, format!("the kernel takes no 0 here: writing {ratio} is what turns it off")));
    }
    let of_memory = |percent: u64| (facts.memory() / 100).saturating_mul(percent);
    let now = facts.tunables.number(bytes).filter(|bytes| *bytes > 0);
    let now = now.or_else(|| facts.tunables.number(ratio).map(of_memory))?;
    let (wanted, now) = (Bytes(if is_bytes { value } else { of_memory(value) }), Bytes(now));
    let why = if bytes == "vm.dirty_bytes" {
        format!("programs that write have to wait from {wanted} of unwritten data on, instead of {now}")
    } else {
        format!("the kernel begins to write at {wanted} of unwritten data, instead of {now}")
    };
    Some((Worth::Unproven, format!("{why}; nothing shows that it helps here")))
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
