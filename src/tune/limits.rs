//! Limits of sessions (PAM) and of services (systemd). What is there now is what the files say, else what the first
//! process has, which everything else gets it from.

use crate::model::setting::{Place, Reason, Risk, Workload};
use crate::model::unit::Bytes;
use crate::tune::facts::Facts;
use crate::tune::row::{Advice, Law, Row, Scope, Valid, unproven};
use crate::tune::value::number;

/// Hard limit of open files that distributions with systemd give, and that pam.*.hard.nofile wants.
pub(super) const FILES_HARD: u64 = 524_288;
/// Processes of an agent with its build.
const PROCESSES_AGENT: u64 = 64;
/// Tasks of an agent with its build, threads counted.
pub(super) const TASKS_AGENT: u64 = 128;

const fn row(key: &'static str, place: Place, advise: fn(&Facts<'_>, &str) -> Advice) -> Row {
    Row {
        key,
        place,
        scope: Scope::Host,
        law: Law::Limit,
        valid: Valid::Range(0, u64::MAX),
        risk: Risk::Low,
        about: "",
        formula: "as it is",
        source: "limits.conf(5); root is not covered by `*`, services of systemd not by any of it",
        advise,
    }
}

pub(super) const ROWS: &[Row] = &[
    Row {
        valid: Valid::Range(256, FILES_HARD),
        about: "open files a program starts with",
        formula: "as it is, also on evidence: programs that need more raise it themselves, up to the hard limit",
        source: "select(2) cannot see descriptors above 1023, and programs that close all of them up to the limit become slow: \
                 uwsgi issue 2299, containerd 7566 and 8924, systemd's own rule (1024 soft, 524288 hard)",
        ..row("pam.*.soft.nofile", Place::Pam, |_, now| {
            let now = if now.is_empty() { "as it is" } else { now };
            Advice::Keep(format!(
                "{now}: programs raise it themselves, up to the hard limit; select() fails above 1023"
            ))
        })
    },
    Row {
        valid: Valid::Range(0, 1 << 30),
        about: "open files a program may raise its limit to",
        formula: "524288, at most fs.nr_open",
        source: "systemd's default since 240; above fs.nr_open logins fail (pam_limits)",
        ..row("pam.*.hard.nofile", Place::Pam, |facts, now| {
            let most = facts.tunables.number("fs.nr_open").unwrap_or(1 << 20);
            if number(now).is_some_and(|now| now > most) {
                let why = format!("{now} is above fs.nr_open {most}: where a file says so logins fail (pam_limits)");
                return Advice::Skip(Reason::HigherAlready, why);
            }
            Advice::Want(
                FILES_HARD.min(most).to_string(),
                format!("what systemd gives; below fs.nr_open {most}; `*` does not cover root"),
            )
        })
    },
    Row {
        valid: Valid::Range(64, 4_194_304),
        risk: Risk::Mid,
        about: "processes and threads of a user",
        formula: "agents: 64 an agent, where that is more",
        ..row("pam.*.hard.nproc", Place::Pam, |facts, now| {
            let wanted = PROCESSES_AGENT.saturating_mul(facts.agents).min(4_194_304);
            let why = format!("{PROCESSES_AGENT} x {} agents", facts.agents);
            match number(now) {
                Some(now) if facts.workload == Workload::Agents && wanted > now => {
                    Advice::Want(wanted.to_string(), why)
                }
                Some(_) if facts.workload == Workload::Agents => Advice::Keep(format!("above {why}")),
                _ => unproven(),
            }
        })
    },
    Row {
        about: "memory a user may lock",
        source: "io_uring counted against it before Linux 5.12, BPF before 5.11; the default is 8 MiB since 5.16",
        ..row("pam.*.hard.memlock", Place::Pam, |_, _| unproven())
    },
    Row {
        about: "open files of services: soft and hard",
        formula: "as it is: systemd's own default is 1024:524288",
        source: "systemd-system.conf(5), containerd issue 8924",
        ..row("systemd.manager.DefaultLimitNOFILE", Place::Manager, |facts, _| {
            installed(facts).unwrap_or_else(|| Advice::Keep("systemd's own default is 1024:524288".to_owned()))
        })
    },
    Row {
        about: "processes and threads of a service",
        formula: "agents: 128 an agent, where that is more than now; systemd's own is 15 % of the least of kernel.pid_max and \
                  kernel.threads-max",
        source: "systemd-system.conf(5): DefaultTasksMax; src/shared/limits-util.c: system_tasks_max",
        valid: Valid::Range(512, 4_194_304),
        ..row("systemd.manager.DefaultTasksMax", Place::Manager, |facts, now| {
            if let Some(skip) = installed(facts) {
                return skip;
            }
            let wanted = TASKS_AGENT.saturating_mul(facts.agents).min(4_194_304);
            let why = format!("{TASKS_AGENT} x {} agents in a service or a user's session", facts.agents);
            match (number(now), facts.workload) {
                (Some(now), Workload::Agents) if wanted > now => Advice::Want(wanted.to_string(), why),
                (Some(_), Workload::Agents) => Advice::Keep(format!("above {why}")),
                (None, _) => Advice::Skip(Reason::NotHere, "what it is now cannot be seen".to_owned()),
                _ => unproven(),
            }
        })
    },
    Row {
        law: Law::Choice,
        valid: Valid::Range(1, 10_000),
        about: "share of the CPUs of what runs in apm.slice, 100 is that of everything else",
        formula: "agents: 50",
        source: "systemd.resource-control(5)",
        ..row("systemd.slice.CPUWeight", Place::Slice, |facts, _| slice(facts, "50", "agents give way to people"))
    },
    Row {
        law: Law::Choice,
        valid: Valid::Range(1, 10_000),
        about: "share of the disks of what runs in apm.slice",
        formula: "agents: 50, where a disk has the scheduler bfq; without it (or io.cost, set up by hand) it has no effect",
        source: "systemd.resource-control(5); Documentation/admin-guide/cgroup-v2.rst, io.weight",
        ..row("systemd.slice.IOWeight", Place::Slice, |facts, _| {
            let schedulers = facts.tunables.values.iter().filter(|(key, _)| key.ends_with(".scheduler"));
            if schedulers.into_iter().any(|(_, value)| value.text.known().is_some_and(|text| text == "bfq")) {
                return slice(facts, "50", "agents give way to people");
            }
            Advice::Skip(Reason::NoEffect, "no disk here has the scheduler bfq, which would keep to it".to_owned())
        })
    },
    Row {
        law: Law::Choice,
        valid: Valid::Range(64 << 20, u64::MAX),
        about: "memory from which on what runs in apm.slice is slowed down, not killed",
        formula: "agents: 85 % of memory",
        source: "systemd.resource-control(5): MemoryHigh",
        ..row("systemd.slice.MemoryHigh", Place::Slice, |facts, _| {
            let most = facts.memory() / 100 * 85;
            // Whole MiB: the size of memory differs by a few pages from boot to boot.
            let most = (most >> 20).max(64) << 20;
            slice(
                facts,
                &most.to_string(),
                &format!("85 % of {}: the rest of the machine stays alive", Bytes(facts.memory())),
            )
        })
    },
];

/// systemd is recognised by its files, not by process 1, which in a container is another. In the files of a machine that
/// does not run there is no process 1.
fn installed(facts: &Facts<'_>) -> Option<Advice> {
    if !facts.tunables.has_systemd {
        return Some(Advice::Skip(Reason::NotHere, "systemd is not installed".to_owned()));
    }
    let first = facts.tunables.first.as_deref().filter(|first| *first != "systemd")?;
    Some(Advice::Skip(Reason::NoEffect, format!("`{first}` has booted this machine, not systemd")))
}

/// What services and sessions may open that systemd starts, unless it is told otherwise: systemd-system.conf(5).
const SYSTEMD_FILES: (u64, u64) = (1024, FILES_HARD);
/// What its processes and threads may be by default, percent of all.
const SYSTEMD_TASKS: u64 = 15;

fn slice(facts: &Facts<'_>, value: &str, why: &str) -> Advice {
    match (installed(facts), facts.workload) {
        (Some(skip), _) => skip,
        (None, Workload::Agents) => {
            Advice::Want(value.to_owned(), format!("{why}; for what is started by systemd-run --slice=apm.slice"))
        }
        _ => Advice::Skip(Reason::NoEvidence, "no agents".to_owned()),
    }
}

/// Whether a line of a file is about a key. In limits.d a `-` sets both limits.
pub(super) fn is_key(line: &str, key: &str) -> bool {
    let Some(limit) = key.strip_prefix("pam.") else { return line == key };
    line == limit || line.replace(".-.", ".soft.") == limit || line.replace(".-.", ".hard.") == limit
}

/// What a limit is that no file of /proc/sys and /sys holds.
pub(super) fn current(facts: &Facts<'_>, key: &str) -> Option<String> {
    if let Some(own) = facts.own.get(key) {
        return Some(own.value.clone());
    }
    if let Some(name) = key.strip_prefix("systemd.manager.") {
        return of_manager(facts, name);
    }
    let limit = key.strip_prefix("pam.")?;
    if let Some(line) = facts.tunables.limits.iter().rev().find(|line| is_key(&line.key, key)) {
        return Some(line.value.clone());
    }
    let say = |limit: u64| if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() };
    // Not those of this process: whoever called it may have changed them.
    let first = facts.tunables.limits_of_first;
    let files = if facts.tunables.first.as_deref() == Some("systemd") { Some(SYSTEMD_FILES) } else { first.files };
    match limit {
        "*.soft.nofile" => files.map(|(soft, _)| say(soft)),
        "*.hard.nofile" => files.map(|(_, hard)| say(hard)),
        "*.hard.nproc" => first.processes.map(say),
        _ => None,
    }
}

/// What systemd's manager has by its files, else by its own rule.
fn of_manager(facts: &Facts<'_>, name: &str) -> Option<String> {
    let line = facts.tunables.manager.iter().rev().find(|line| line.key == name).map(|line| line.value.as_str());
    if name != "DefaultTasksMax" {
        return line.map(str::to_owned);
    }
    let all = ["kernel.pid_max", "kernel.threads-max"].into_iter().filter_map(|key| facts.tunables.number(key)).min();
    let share = |percent: u64| Some((all? / 100).saturating_mul(percent).to_string());
    match line.map(|line| line.strip_suffix('%').ok_or(line)) {
        None => share(SYSTEMD_TASKS),
        Some(Ok(percent)) => share(percent.parse().ok()?),
        Some(Err("infinity")) => Some("unlimited".to_owned()),
        Some(Err(number)) => Some(number.to_owned()),
    }
}
