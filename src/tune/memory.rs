//! Memory: swapping, write-back, reclaim, mappings, huge pages.

use crate::model::setting::{Place, Reason, Risk, Workload};
use crate::model::unit::Bytes;
use crate::tune::facts::Facts;
use crate::tune::row::{Advice, Law, Row, Scope, Valid, quiet, unproven};
use crate::tune::value::first_number;

const GIB: u64 = 1 << 30;
const VM: &str = "Documentation/admin-guide/sysctl/vm.rst";

/// Most that may wait to be written: two seconds of a disk that writes 2 GB a second.
const DIRTY_MAX: u64 = 4 * GIB;

pub(super) const ROWS: &[Row] = &[
    Row {
        key: "vm.swappiness",
        place: Place::Sysctl,
        scope: Scope::Host,
        law: Law::Choice,
        valid: Valid::Range(0, 200),
        risk: Risk::Low,
        about: "how readily memory of programs is swapped out instead of dropping pages of files",
        formula: "no swap: no effect. zram only: 100 (swapping costs CPU, not a disk). Server with swap on a disk: 10, in a \
                  virtual machine 30. Else as it is",
        source: "vm.rst: 0 to 200 since Linux 5.8; tuned: throughput-performance 10, virtual-guest 30",
        advise: swappiness,
    },
    Row {
        key: "vm.vfs_cache_pressure",
        place: Place::Sysctl,
        scope: Scope::Host,
        law: Law::Choice,
        valid: Valid::Range(1, 1000),
        risk: Risk::Low,
        about: "how readily names and inodes of files are forgotten",
        formula: "as it is: no effect of another value was ever measured",
        source: VM,
        advise: |_, now| match now {
            "0" => Advice::Want("100".to_owned(), "0 never forgets names and ends out of memory".to_owned()),
            _ => unproven(),
        },
    },
    Row {
        key: "vm.dirty_bytes",
        place: Place::Sysctl,
        scope: Scope::Host,
        law: Law::Choice,
        valid: Valid::Range(8192, u64::MAX),
        risk: Risk::Mid,
        about: "written bytes that may wait in memory before writers have to wait",
        formula: "where vm.dirty_ratio of memory is above 8 GiB: 4 GiB, which a disk that writes 100 MB/s takes 43 s for, one \
                  with 2 GB/s two",
        source: "own; tuned computes percent of memory as well; writing it zeroes vm.dirty_ratio (vm.rst)",
        advise: dirty_bytes,
    },
    Row {
        key: "vm.dirty_background_bytes",
        place: Place::Sysctl,
        scope: Scope::Host,
        law: Law::Choice,
        valid: Valid::Range(4096, u64::MAX),
        risk: Risk::Mid,
        about: "written bytes from which on the kernel begins to write",
        formula: "a quarter of vm.dirty_bytes, where that is proposed",
        source: "tuned has a quarter too; writing it zeroes vm.dirty_background_ratio (vm.rst)",
        advise: |facts, now| match dirty(facts) {
            Some(bytes) if first_number(now) == 0 => Advice::Want(
                (bytes / 4).to_string(),
                format!("a quarter of vm.dirty_bytes {}: writing begins early and steadily", Bytes(bytes)),
            ),
            _ => Advice::Keep("goes with vm.dirty_bytes".to_owned()),
        },
    },
    Row {
        key: "vm.dirty_expire_centisecs",
        place: Place::Sysctl,
        scope: Scope::Host,
        law: Law::Choice,
        valid: Valid::Range(100, 6000),
        risk: Risk::Low,
        about: "hundredths of a second after which written data is old",
        formula: "as it is",
        source: "tuned changes it for databases only",
        advise: |_, _| unproven(),
    },
    Row {
        key: "vm.dirty_writeback_centisecs",
        place: Place::Sysctl,
        scope: Scope::Host,
        law: Law::Choice,
        valid: Valid::Range(0, 6000),
        risk: Risk::Low,
        about: "hundredths of a second between two rounds of writing",
        formula: "as it is; 0 never writes on time",
        source: "tuned powersave has 1500",
        advise: |_, now| match now {
            "0" => Advice::Want(
                "500".to_owned(),
                "0 never writes old data by itself; 500 is the kernel's default".to_owned(),
            ),
            _ => unproven(),
        },
    },
    Row {
        key: "vm.min_free_kbytes",
        place: Place::Sysctl,
        scope: Scope::Host,
        law: Law::Limit,
        valid: Valid::Range(128, u64::MAX),
        risk: Risk::High,
        about: "memory the kernel keeps free for itself, KiB",
        formula: "as it is, unless allocations had to free memory themselves (mem.direct_reclaim): four times the kernel's own \
                  4 * sqrt(16 * KiB), at most 1 % of memory",
        source: "mm/page_alloc.c, calculate_min_free_kbytes; above 5 % of memory the machine swaps or kills",
        advise: |facts, _| match facts.has_finding("mem.direct_reclaim") {
            Some(finding) => {
                let kib = facts.memory() >> 10;
                let wanted = (4 * ((16 * kib) as f64).sqrt() as u64).min(kib / 100).max(128);
                Advice::FromRule(
                    wanted.to_string(),
                    format!("{}; 1 % of memory at most", finding.title),
                    "mem.direct_reclaim",
                )
            }
            None => quiet("mem.direct_reclaim"),
        },
    },
    Row {
        key: "vm.watermark_scale_factor",
        place: Place::Sysctl,
        scope: Scope::Host,
        law: Law::Choice,
        valid: Valid::Range(1, 1000),
        risk: Risk::Low,
        about: "distance between the marks at which reclaim starts and stops, in ten-thousandths of memory",
        formula: "as it is, unless allocations had to free memory themselves (mem.direct_reclaim): 100",
        source: VM,
        advise: |facts, now| match facts.has_finding("mem.direct_reclaim") {
            Some(finding) if first_number(now) < 100 => Advice::FromRule(
                "100".to_owned(),
                format!("{}: reclaim in the background has to begin earlier", finding.title),
                "mem.direct_reclaim",
            ),
            _ => quiet("mem.direct_reclaim"),
        },
    },
    Row {
        key: "vm.overcommit_memory",
        place: Place::Sysctl,
        scope: Scope::Host,
        law: Law::Choice,
        valid: Valid::Range(0, 2),
        risk: Risk::High,
        about: "whether more memory may be promised than there is",
        formula: "as it is, unless it is 2 and promises ran out (mem.commit): 0",
        source: "vm.rst; Go, the JVM and sanitizers promise themselves far more than they use",
        advise: |facts, now| match facts.has_finding("mem.commit") {
            Some(finding) if now == "2" => Advice::FromRule("0".to_owned(), finding.title.clone(), "mem.commit"),
            _ if now == "2" => Advice::Keep("2 is meant: somebody set it".to_owned()),
            _ => Advice::Keep("programs may promise themselves more than they use".to_owned()),
        },
    },
    Row {
        key: "vm.max_map_count",
        place: Place::Sysctl,
        scope: Scope::Host,
        law: Law::Limit,
        valid: Valid::Range(65_530, i32::MAX as u64),
        risk: Risk::Low,
        about: "mappings a process may have",
        formula: "262144 for agents, ci and server; desktop 1048576: games and sanitizers map that much",
        source: "Elasticsearch and tuned's openshift ask for 262144, Fedora and Debian ship 1048576 for desktops",
        advise: |facts, _| match facts.workload {
            Workload::Desktop => Advice::Want("1048576".to_owned(), "as desktop distributions ship it".to_owned()),
            _ => Advice::Want("262144".to_owned(), "what the JVM, sanitizers and search servers ask for".to_owned()),
        },
    },
    Row {
        key: "vm.page-cluster",
        place: Place::Sysctl,
        scope: Scope::Host,
        law: Law::Choice,
        valid: Valid::Range(0, 5),
        risk: Risk::Low,
        about: "pages read from swap at once, as a power of two",
        formula: "no swap: no effect. zram: 0, since there is nothing to seek. Else as it is",
        source: "Documentation/admin-guide/blockdev/zram.rst; ChromeOS and Fedora have 0 with zram",
        advise: |facts, _| {
            if !facts.has_swap() {
                return no_swap();
            }
            if facts.has_zram() {
                return Advice::Want(
                    "0".to_owned(),
                    "swap is in compressed memory: neighbours cost as much again".to_owned(),
                );
            }
            unproven()
        },
    },
    Row {
        key: "vm.zone_reclaim_mode",
        place: Place::Sysctl,
        scope: Scope::Host,
        law: Law::Choice,
        valid: Valid::Range(0, 7),
        risk: Risk::Mid,
        about: "whether memory of a node is freed before that of another is used",
        formula: "0",
        source: "vm.rst: file servers and anything that profits from cached files want 0",
        advise: |_, _| {
            Advice::Want("0".to_owned(), "cached files of a build are worth more than a near node".to_owned())
        },
    },
    Row {
        key: "vm.compaction_proactiveness",
        place: Place::Sysctl,
        scope: Scope::Host,
        law: Law::Choice,
        valid: Valid::Range(0, 100),
        risk: Risk::Low,
        about: "how much memory is compacted in the background",
        formula: "as it is",
        source: VM,
        advise: |_, _| unproven(),
    },
    Row {
        key: "vm.nr_hugepages",
        place: Place::Sysctl,
        scope: Scope::Host,
        law: Law::Choice,
        valid: Valid::Range(0, u64::MAX),
        risk: Risk::High,
        about: "huge pages taken from the memory of everything else",
        formula: "as it is, unless reserved ones lie idle (mem.hugepages_idle): those in use",
        source: "own",
        advise: |facts, now| match facts.has_finding("mem.hugepages_idle") {
            Some(finding) => {
                let idle = facts.meminfo("HugePages_Free").saturating_sub(facts.meminfo("HugePages_Rsvd"));
                let used = first_number(now).saturating_sub(idle);
                Advice::FromRule(used.to_string(), finding.title.clone(), "mem.hugepages_idle")
            }
            None => quiet("mem.hugepages_idle"),
        },
    },
    Row {
        key: "sys.thp.enabled",
        place: Place::Sys,
        scope: Scope::Host,
        law: Law::Choice,
        valid: Valid::Words(&["always", "madvise", "never"]),
        risk: Risk::Low,
        about: "who gets huge pages without asking",
        formula: "as it is, unless `always` makes allocations wait for compaction (mem.thp): madvise",
        source: "Documentation/admin-guide/mm/transhuge.rst; tuned: never for databases, always for computing",
        advise: |facts, now| match facts.has_finding("mem.thp") {
            Some(finding) if now == "always" => {
                Advice::FromRule("madvise".to_owned(), finding.title.clone(), "mem.thp")
            }
            _ => quiet("mem.thp"),
        },
    },
    Row {
        key: "sys.thp.defrag",
        place: Place::Sys,
        scope: Scope::Host,
        law: Law::Choice,
        valid: Valid::Words(&["always", "defer", "defer+madvise", "madvise", "never"]),
        risk: Risk::Low,
        about: "who waits while memory for huge pages is compacted",
        formula: "as it is, unless allocations wait for compaction (mem.thp): defer+madvise",
        source: "Documentation/admin-guide/mm/transhuge.rst",
        advise: |facts, now| match facts.has_finding("mem.thp") {
            Some(finding) if now == "always" => {
                Advice::FromRule("defer+madvise".to_owned(), finding.title.clone(), "mem.thp")
            }
            _ => quiet("mem.thp"),
        },
    },
];

fn no_swap() -> Advice {
    Advice::Skip(Reason::NoEffect, "no swap: SwapTotal is 0".to_owned())
}

fn swappiness(facts: &Facts<'_>, _: &str) -> Advice {
    if !facts.has_swap() {
        return no_swap();
    }
    if facts.has_zram() {
        return Advice::Want(
            "100".to_owned(),
            "swap is in compressed memory: cheaper than reading files again".to_owned(),
        );
    }
    match (facts.workload, facts.now.system.is_virtual) {
        (Workload::Server, Some(true)) => {
            Advice::Want("30".to_owned(), "a server in a virtual machine (tuned)".to_owned())
        }
        (Workload::Server, _) => Advice::Want("10".to_owned(), "a server with swap on a disk (tuned)".to_owned()),
        _ => unproven(),
    }
}

/// What vm.dirty_bytes should be, where it should be set.
fn dirty(facts: &Facts<'_>) -> Option<u64> {
    let ratio = facts.tunables.number("vm.dirty_ratio")?;
    let set = facts.tunables.number("vm.dirty_bytes")?;
    // In a group the limit of its memory counts, which the kernel keeps by itself.
    let share = facts.memory() / 100 * ratio;
    let is_own = facts.own.contains_key("vm.dirty_bytes");
    // Less than half is a change that can be felt.
    (is_own || set == 0 && share > 2 * DIRTY_MAX).then(|| DIRTY_MAX.min(facts.memory() / 5))
}

fn dirty_bytes(facts: &Facts<'_>, now: &str) -> Advice {
    if first_number(now) > 0 && !facts.own.contains_key("vm.dirty_bytes") {
        return Advice::Keep("set in bytes already".to_owned());
    }
    match dirty(facts) {
        Some(bytes) => Advice::Want(
            bytes.to_string(),
            format!(
                "vm.dirty_ratio of {} lets {} wait, and a flush take minutes",
                Bytes(facts.memory()),
                Bytes(facts.memory() / 100 * facts.tunables.number("vm.dirty_ratio").unwrap_or_default())
            ),
        ),
        None => Advice::Keep(format!("its share of {} is below {}", Bytes(facts.memory()), Bytes(2 * DIRTY_MAX))),
    }
}
