//! Disks and the clock of CPUs: files of /sys.

use crate::model::setting::{Place, Reason, Risk, Workload};
use crate::tune::facts::Facts;
use crate::tune::row::{Advice, Law, Row, Scope, Valid, unproven};
use crate::tune::value::first_number;

const fn row(key: &'static str, law: Law, valid: Valid, advise: fn(&Facts<'_>, &str) -> Advice) -> Row {
    Row {
        key,
        place: Place::Sys,
        scope: Scope::Host,
        law,
        valid,
        risk: Risk::Low,
        about: "",
        formula: "as it is",
        source: "Documentation/block, Documentation/ABI/stable/sysfs-block",
        advise,
    }
}

/// Schedulers of the kernel.
const SCHEDULERS: Valid = Valid::Words(&["none", "mq-deadline", "kyber", "bfq"]);

pub(super) const ROWS: &[Row] = &[
    Row {
        about: "how requests to a disk are ordered",
        formula: "NVMe: none, the disk orders better. A disk with a head, not in a virtual machine: mq-deadline where it has none. \
                  Others as they are: a virtual disk says nothing of what is behind it",
        source: "Documentation/block/switching-sched.rst; virtio reports `rotational` whatever is behind it",
        ..row("sys.block.*.scheduler", Law::Choice, SCHEDULERS, |facts, now| match facts.disk_of_key() {
            Some("nvme") if now == "none" => Advice::Keep("NVMe disks order for themselves".to_owned()),
            Some("nvme") => Advice::Want("none".to_owned(), "NVMe disks order for themselves".to_owned()),
            Some("hdd") if now == "none" && facts.now.system.is_virtual == Some(false) => {
                Advice::Want("mq-deadline".to_owned(), "a disk with a head wants its requests in order".to_owned())
            }
            Some("virtual") => Advice::Skip(Reason::NoEvidence, "the host orders".to_owned()),
            _ => unproven(),
        })
    },
    Row {
        about: "KiB read ahead of a program that reads on and on",
        formula: "128 at least; else as it is",
        source: "sysfs-block; the kernel's default is 128, tuned's throughput-performance has 4096",
        ..row("sys.block.*.read_ahead_kb", Law::Limit, Valid::Range(0, 65_536), |_, now| match first_number(now) {
            now if now < 128 => Advice::Want("128".to_owned(), "the kernel's default".to_owned()),
            _ => unproven(),
        })
    },
    Row {
        about: "requests that may wait for a disk",
        ..row("sys.block.*.nr_requests", Law::Limit, Valid::Range(1, 1 << 20), |_, _| unproven())
    },
    Row {
        about: "microseconds a read may wait before write-back is throttled",
        ..row("sys.block.*.wbt_lat_usec", Law::Choice, Valid::Range(0, 1 << 30), |_, _| unproven())
    },
    Row {
        about: "how the clock of CPUs follows the load",
        formula: "desktop: schedutil; else performance; virtual machines have none",
        source: "Documentation/admin-guide/pm/cpufreq.rst; tuned: throughput-performance, balanced",
        ..row(
            "sys.cpu.governor",
            Law::Choice,
            Valid::Words(&["performance", "powersave", "schedutil", "ondemand", "conservative", "userspace"]),
            |facts, now| match facts.workload {
                // With intel_pstate and amd-pstate in active mode `powersave` is the one that follows the load.
                Workload::Desktop if now == "powersave" => Advice::Keep("it follows the load".to_owned()),
                Workload::Desktop => Advice::Want("schedutil".to_owned(), "the clock follows the load".to_owned()),
                _ => Advice::Want("performance".to_owned(), "short commands end before a clock has risen".to_owned()),
            },
        )
    },
    Row {
        about: "whether the CPU itself prefers speed or energy",
        formula: "desktop: as it is; else performance",
        source: "Documentation/admin-guide/pm/intel_pstate.rst; tuned",
        ..row(
            "sys.cpu.energy_preference",
            Law::Choice,
            Valid::Words(&["default", "performance", "balance_performance", "balance_power", "power"]),
            |facts, _| match facts.workload {
                Workload::Desktop => {
                    Advice::Skip(Reason::NoEvidence, "a matter of taste, noise and battery".to_owned())
                }
                _ => Advice::Want("performance".to_owned(), "short commands end before a clock has risen".to_owned()),
            },
        )
    },
];
