//! Files, processes, scheduling, and what is a matter of security.

use crate::model::setting::{Place, Reason, Risk, Workload};
use crate::model::unit::Bytes;
use crate::tune::facts::Facts;
use crate::tune::limits::{FILES_HARD, TASKS_AGENT};
use crate::tune::row::{Advice, Law, Row, Scope, Valid, quiet, unproven};
use crate::tune::value::first_number;

/// What a watch of a file costs the kernel, bytes: a mark and, by its own rule, two inodes (`INOTIFY_WATCH_COST` in
/// fs/notify/inotify/inotify_user.c; 1 % of memory divided by the default it takes is 1312 on a 6.18).
const WATCH: u64 = 1312;
/// Share of memory that all watches of a user may take, percent. The kernel's own default is 1.
const WATCHES_PERCENT: u64 = 4;
/// Watches that editors and bundlers ask for.
const WATCHES: u64 = 524_288;
/// Instances of inotify an agent may need: editor services, bundlers, test runners that watch.
const INSTANCES_AGENT: u64 = 16;
/// Pages of pipes of an agent: 64 pipes of 16 pages.
const PIPE_PAGES_AGENT: u64 = 1024;

const fn row(key: &'static str, law: Law, valid: Valid, advise: fn(&Facts<'_>, &str) -> Advice) -> Row {
    Row {
        key,
        place: Place::Sysctl,
        scope: Scope::Host,
        law,
        valid,
        risk: Risk::Low,
        about: "",
        formula: "as it is",
        source: "Documentation/admin-guide/sysctl",
        advise,
    }
}

pub(super) const ROWS: &[Row] = &[
    Row {
        about: "open files of the whole machine",
        formula: "as it is, unless the doctor finds it nearly full (sys.fd): twice as many",
        source: "Documentation/admin-guide/sysctl/fs.rst: a tenth of memory; systemd sets the highest number there is",
        ..row("fs.file-max", Law::Limit, Valid::Range(8192, i64::MAX as u64), |facts, now| {
            let open = facts.now.system.files.known().map_or(0, |(open, _)| *open);
            match facts.has_finding("sys.fd") {
                Some(finding) => {
                    Advice::FromRule(first_number(now).saturating_mul(2).to_string(), finding.title.clone(), "sys.fd")
                }
                None => Advice::Keep(format!("{open} open files of {now}")),
            }
        })
    },
    Row {
        about: "highest limit of open files that a process can be given",
        formula: "at least the hard limit of sessions, 524288; 1048576 where it is lower",
        source: "fs.rst: 1048576 is enough for most; a hard limit above it makes logins fail",
        ..row("fs.nr_open", Law::Limit, Valid::Range(1024, 1 << 30), |_, now| {
            if first_number(now) >= FILES_HARD {
                return Advice::Keep(format!("above the {FILES_HARD} a session may have"));
            }
            Advice::Want("1048576".to_owned(), format!("sessions may have {FILES_HARD}, which it has to allow"))
        })
    },
    Row {
        about: "files a user may watch",
        formula: "agents and desktop: 524288, at most 4 % of memory at 1312 bytes each; else on evidence (proc.inotify): four times",
        source: "fs/notify/inotify: the kernel's default is 1 % of memory, at most 1048576; editors ask for 524288",
        ..row("fs.inotify.max_user_watches", Law::Limit, Valid::Range(8192, 1 << 30), |facts, now| {
            let room = (facts.memory() / 100 * WATCHES_PERCENT / WATCH).max(8192);
            if let Some(finding) = facts.has_finding("proc.inotify").filter(|finding| finding.title.contains("watch")) {
                let wanted = first_number(now).saturating_mul(4).min(room.max(first_number(now)));
                return Advice::FromRule(wanted.to_string(), finding.title.clone(), "proc.inotify");
            }
            match facts.workload {
                Workload::Agents | Workload::Desktop => Advice::Want(
                    WATCHES.min(room).to_string(),
                    format!(
                        "editors and bundlers ask for {WATCHES}; {WATCHES_PERCENT} % of {} holds {room}",
                        Bytes(facts.memory())
                    ),
                ),
                _ => quiet("proc.inotify"),
            }
        })
    },
    Row {
        about: "watchers of files a user may have",
        formula: "agents and desktop: 128 + 16 an agent, as a power of two, at least 1024; else on evidence (proc.inotify): \
                  four times",
        source: "the kernel's default of 128 is met by a few editors; own measurement: the fault inotify_instances",
        ..row("fs.inotify.max_user_instances", Law::Limit, Valid::Range(128, 1 << 20), |facts, now| {
            if let Some(finding) =
                facts.has_finding("proc.inotify").filter(|finding| finding.title.contains("instance"))
            {
                let wanted = first_number(now).saturating_mul(4).min(1 << 20).max(first_number(now));
                return Advice::FromRule(wanted.to_string(), finding.title.clone(), "proc.inotify");
            }
            let agents = facts.agents;
            let wanted = (128 + INSTANCES_AGENT.saturating_mul(agents)).next_power_of_two().clamp(1024, 1 << 20);
            match facts.workload {
                Workload::Agents | Workload::Desktop => Advice::Want(
                    wanted.to_string(),
                    format!("128 + {INSTANCES_AGENT} x {agents} agents, at least 1024"),
                ),
                _ => quiet("proc.inotify"),
            }
        })
    },
    Row {
        about: "asynchronous requests of the whole machine",
        source: "fs.rst: nothing is allocated in advance; databases ask for 1048576",
        ..row("fs.aio-max-nr", Law::Limit, Valid::Range(0, i64::MAX as u64), |_, _| unproven())
    },
    Row {
        about: "pages of pipes a user without privileges may have before pipes shrink to one page",
        formula: "agents, not as root: 1024 pages an agent (64 pipes of 16), where that is more",
        source: "fs.rst; pipe(7)",
        ..row("fs.pipe-user-pages-soft", Law::Limit, Valid::Range(0, 1 << 30), |facts, now| {
            let wanted = PIPE_PAGES_AGENT.saturating_mul(facts.agents).min(1 << 20);
            let why = format!("{PIPE_PAGES_AGENT} pages x {} agents", facts.agents);
            match (facts.workload, first_number(now)) {
                (_, 0) => Advice::Keep("0 is no limit".to_owned()),
                (Workload::Agents, now) if wanted > now => Advice::Want(wanted.to_string(), why),
                (Workload::Agents, _) => Advice::Keep(format!("above {why}")),
                _ => unproven(),
            }
        })
    },
    Row {
        about: "highest number of a process, and so how many there can be",
        formula: "4194304 with 8 CPUs or more, where 128 tasks an agent are more than half of it, or on evidence (proc.pids)",
        source: "kernel.rst; 4194304 is the most, systemd and tuned's openshift set it",
        ..row("kernel.pid_max", Law::Limit, Valid::Range(301, 4_194_304), |facts, now| {
            let most = "4194304".to_owned();
            let tasks = TASKS_AGENT.saturating_mul(facts.agents);
            match facts.has_finding("proc.pids") {
                Some(finding) if finding.evidence.iter().any(|one| one.path.contains("pid_max")) => {
                    Advice::FromRule(most, finding.title.clone(), "proc.pids")
                }
                _ if facts.cpus() >= 8 => {
                    Advice::Want(most, format!("{} CPUs: numbers are used up fast", facts.cpus()))
                }
                _ if tasks.saturating_mul(2) > first_number(now) => {
                    Advice::Want(most, format!("{TASKS_AGENT} tasks x {} agents", facts.agents))
                }
                _ => Advice::Keep(format!("{TASKS_AGENT} tasks x {} agents are less than half of it", facts.agents)),
            }
        })
    },
    Row {
        about: "threads of the whole machine",
        source: "kernel/fork.c: an eighth of memory",
        ..row("kernel.threads-max", Law::Limit, Valid::Range(20, i32::MAX as u64), |_, _| {
            Advice::Keep("the kernel computes it from memory".to_owned())
        })
    },
    Row {
        about: "whether each session gets the same share of the CPUs, whatever runs in it",
        formula: "desktop 1, else 0: with it `nice` counts only inside a session, and agents are nice",
        source: "sched(7), \"the autogroup feature\"; tuned: desktop 1, postgresql 0",
        ..row("kernel.sched_autogroup_enabled", Law::Choice, Valid::Range(0, 1), |facts, _| match facts.workload {
            Workload::Desktop => Advice::Want("1".to_owned(), "what is in front stays smooth".to_owned()),
            _ => Advice::Want("0".to_owned(), "with it `nice` of agents counts only inside their session".to_owned()),
        })
    },
    Row {
        about: "whether memory moves to the node that uses it",
        formula: "one node: 0, there is nothing to move. Else as it is",
        source: "kernel.rst; tuned network-latency 0",
        ..row("kernel.numa_balancing", Law::Choice, Valid::Range(0, 3), |facts, now| match facts.tunables.nodes {
            0 | 1 if now == "0" => Advice::Keep("one NUMA node".to_owned()),
            0 | 1 => Advice::Want("0".to_owned(), "one NUMA node: nothing to move, only faults to pay".to_owned()),
            _ => unproven(),
        })
    },
    Row {
        about: "who may measure with the CPU's counters",
        source: "Documentation/admin-guide/perf-security.rst",
        ..row("kernel.perf_event_paranoid", Law::Choice, Valid::Range(0, 4), |_, now| {
            security(if first_number(now) > 1 && now != "-1" {
                "profiles with kernel frames want 1 or less: for the time of one, sysctl -w kernel.perf_event_paranoid=1"
            } else {
                "open enough for profiles"
            })
        })
    },
    Row {
        about: "who sees addresses of the kernel",
        source: "kernel.rst",
        ..row("kernel.kptr_restrict", Law::Choice, Valid::Range(0, 2), |_, _| {
            security("names of kernel functions in profiles need 0, or root")
        })
    },
    Row {
        about: "who may attach to processes of the same user",
        source: "Documentation/admin-guide/LSM/Yama.rst",
        ..row("kernel.yama.ptrace_scope", Law::Choice, Valid::Range(0, 3), |_, _| {
            security("profiles and debuggers of a running process need 0, or root")
        })
    },
    Row {
        about: "whether time that tasks wait for disks and memory is counted for each",
        source: "kernel.rst; costs a little at each switch",
        ..row("kernel.task_delayacct", Law::Choice, Valid::Range(0, 1), |_, _| {
            Advice::Skip(Reason::NoEvidence, "worth its cost only while somebody looks (iotop, getdelays)".to_owned())
        })
    },
    Row {
        about: "seconds after which a task that does not run is reported",
        source: "kernel.rst; tuned network-latency 600",
        ..row("kernel.hung_task_timeout_secs", Law::Choice, Valid::Range(0, 1 << 20), |_, _| unproven())
    },
];

fn security(hint: &str) -> Advice {
    Advice::Skip(Reason::Security, format!("never set by apm; {hint}"))
}
