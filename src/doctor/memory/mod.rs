//! Rules about memory. Most look at whether somebody waits for it, not at how much is in use: memory that holds files
//! is there to be used.

mod counter;
mod group;
mod hardware;
mod held;
mod kills;
mod leak;
mod limit;
mod pressure;
mod space;
mod stall;

use crate::doctor::rule::{Direction, Rule};
use crate::model::diagnosis::Area;

/// What every rule here has in common.
const RULE: Rule = Rule {
    id: "",
    area: Area::Memory,
    title: "",
    source: "",
    computation: "",
    unit: "%",
    bad: Direction::Above,
    warn: None,
    crit: None,
    thresholds_from: "",
    remedy: "",
    check: |_| Ok(Vec::new()),
};

/// The rules.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        id: "mem.available",
        title: "memory is running out",
        source: "/proc/meminfo MemAvailable, MemTotal, Hugetlb; arcstats of ZFS; limit and use of apm's control groups",
        computation: "memory that can be had without swapping, in percent of the machine's without huge pages or of the \
                      tightest limit above apm; the ZFS ARC counts as available while no task stalls; critical if tasks \
                      stall on memory too, or less than 2 % are left. Processes, and memory that no process has, are named \
                      from a tenth of what is in use on",
        bad: Direction::Below,
        warn: Some(10.0),
        crit: Some(5.0),
        thresholds_from: "node_exporter mixin and netdata: 10 %; 80 % in use is information; the tenth that makes a \
                          culprit is own: to end less changes nothing",
        remedy: "run fewer things at once, free what no process has (huge pages, ARC, tmpfs), or add swap on zram",
        check: space::available,
        ..RULE
    },
    Rule {
        id: "mem.psi",
        title: "tasks stall on memory",
        source: "/proc/pressure/memory, memory.pressure of control groups: some, full",
        computation: "share of the window in which all tasks waited for memory; twice the threshold counts if some waited; \
                      critical if full avg60 is over 10 % too",
        warn: Some(5.0),
        crit: Some(20.0),
        thresholds_from: "own; systemd-oomd kills at 60 % for 30 s, long after everything has become slow",
        remedy: "run fewer things at once, end the largest process, or raise the limit of the control group",
        check: stall::psi,
        ..RULE
    },
    Rule {
        id: "mem.swapin",
        title: "memory is swapped in and out at once",
        source: "/proc/vmstat pswpin, pswpout",
        computation: "pages swapped in a second, where pages are swapped out too: use of swap alone is no fault; critical if \
                      some avg60 of memory pressure is over 10 %",
        unit: "/s",
        warn: Some(500.0),
        crit: Some(5000.0),
        thresholds_from: "own; pcp speaks at 5 pages/s out, which use of swap without harm reaches too",
        remedy: "run fewer things at once, or end the largest process",
        check: stall::swapin,
        ..RULE
    },
    Rule {
        id: "mem.swap_used",
        title: "swap is nearly full and memory short",
        source: "/proc/meminfo SwapFree, SwapTotal, MemAvailable",
        computation: "swap in use, where less than 20 % of memory can be had; critical if less than 10 % can",
        warn: Some(90.0),
        crit: Some(98.0),
        thresholds_from: "netdata: 90 % and 98 %; pcp: less than 10 % free",
        remedy: "add swap on zram, or run fewer things at once",
        check: space::swap_used,
        ..RULE
    },
    Rule {
        id: "mem.no_swap",
        title: "no swap: the first overflow kills a process",
        source: "/proc/meminfo SwapTotal, MemAvailable; limits of apm's control groups",
        computation: "no swap, no limit above apm, and less than half of memory can be had",
        unit: "B",
        thresholds_from: "own: with half of memory free an overflow is far",
        remedy: "add swap on zram, or give what runs a memory limit",
        check: space::no_swap,
        ..RULE
    },
    Rule {
        id: "mem.majfault",
        title: "programs wait for their own pages from disk",
        source: "/proc/vmstat pgmajfault; /proc/PID/stat; pressure of memory and io",
        computation: "faults a second that read from disk; info only where tasks hardly wait (under 5 % of the window); \
                      critical if some avg60 of memory pressure is over 5 %",
        unit: "/s",
        warn: Some(500.0),
        crit: Some(1000.0),
        thresholds_from: "node_exporter mixin: 500/s; awesome-prometheus-alerts: 1000/s",
        remedy: "more memory, or a smaller working set",
        check: stall::majfault,
        ..RULE
    },
    Rule {
        id: "mem.refault",
        title: "pages come back right after they were dropped",
        source: "/proc/vmstat workingset_refault_anon, workingset_refault_file; /proc/pressure/memory",
        computation: "anonymous pages that came back a second, while tasks wait for memory; pages of files count where all \
                      tasks waited in 5 % of the window",
        unit: "/s",
        warn: Some(500.0),
        thresholds_from: "own: 500 pages a second are half of what mem.majfault calls critical",
        remedy: "run fewer things at once: together they need more memory than there is",
        check: stall::refault,
        ..RULE
    },
    Rule {
        id: "mem.direct_reclaim",
        title: "allocations wait for the kernel to free memory",
        source: "/proc/vmstat allocstall_*, pgscan_direct",
        computation: "allocations a second that had to free memory themselves, while tasks wait for memory (some 1 % of the \
                      window); critical if some avg60 is over 10 %",
        unit: "/s",
        warn: Some(1.0),
        crit: Some(100.0),
        thresholds_from: "own; Documentation/admin-guide/sysctl/vm.rst names allocstall as the sign to raise \
                          watermark_scale_factor",
        remedy: "raise vm.watermark_scale_factor so that the kernel frees memory earlier, or run fewer things at once",
        check: stall::direct_reclaim,
        ..RULE
    },
    Rule {
        id: "mem.oom_recent",
        title: "processes were OOM-killed",
        source: "/proc/vmstat oom_kill; /dev/kmsg (root)",
        computation: "kills in the window, critical: the kernel counted them; those of the last 30 minutes before it apart: a \
                      warning if the machine had no memory or the last was within 5 minutes, info if a control group's \
                      limit did it and it is longer ago",
        unit: "",
        warn: Some(1.0),
        crit: Some(1.0),
        thresholds_from: "netdata and awesome-prometheus-alerts: any in 30 minutes; node-problem-detector: 5 minutes",
        remedy: "raise the limit, or run fewer things at once",
        check: kills::oom_recent,
        ..RULE
    },
    Rule {
        id: "mem.cgroup_oom",
        title: "a control group's limit killed a process",
        source: "v1 memory.oom_control oom_kill; v2 memory.events oom_kill",
        computation: "kills in the window, by group",
        unit: "",
        warn: Some(1.0),
        crit: Some(1.0),
        thresholds_from: "netdata: any; the counter is the kernel's, so it needs no second signal",
        remedy: "raise the memory limit of the group, or run less in it",
        check: kills::cgroup_oom,
        ..RULE
    },
    Rule {
        id: "mem.cgroup_near",
        title: "a control group is near its memory limit",
        source: "v1 memory.usage_in_bytes, memory.limit_in_bytes, memory.stat; v2 memory.current, memory.max",
        computation: "use without pages of files nobody used lately, in percent of the limit; where files in use are more \
                      than a quarter of the limit only if the group runs into it; critical if it does or less than 1 % \
                      is left",
        warn: Some(90.0),
        crit: Some(98.0),
        thresholds_from: "netdata: 90 % and 98 %",
        remedy: "raise the memory limit of the group, or run less in it",
        check: group::near,
        ..RULE
    },
    Rule {
        id: "mem.cgroup_high",
        title: "a control group runs into its memory limit",
        source: "v2 memory.events high, max; v1 memory.failcnt",
        computation: "times a second that an allocation met the limit, where tasks wait for memory (some 5 % of the window) \
                      and more than half of the limit is not idle files: a group that only reads files meets its limit \
                      without harm; critical if some avg60 is over 10 %",
        unit: "/s",
        warn: Some(1.0),
        crit: Some(100.0),
        thresholds_from: "own: once a second is a state, not an accident",
        remedy: "raise the memory limit of the group, or run less in it",
        check: group::high,
        ..RULE
    },
    Rule {
        id: "mem.leak",
        title: "a process grows without end",
        source: "/proc/PID/statm, of the 50 largest, at each look of the window",
        computation: "slope of memory of its own by least squares over at least 5 looks and 3 seconds, where it never shrinks, \
                      is straight (R2 over 0.9) and as steep in the second half; in percent of RAM a minute; info where \
                      memory lasts 5 minutes and the process is younger than half a minute, as compilers are; critical if \
                      less than 20 % of memory can be had and it lasts less than 15 minutes",
        unit: "%/min",
        warn: Some(1.0),
        thresholds_from: "own, after pcp's `full within 20 minutes` of file systems",
        remedy: "find what keeps it with a heap profile, or restart it",
        check: leak::leak,
        ..RULE
    },
    Rule {
        id: "mem.slab",
        title: "the kernel's own objects take much memory",
        source: "/proc/meminfo SUnreclaim; /proc/slabinfo (root); /proc/sys/fs/dentry-state",
        computation: "kernel objects that cannot be dropped, in percent of RAM; critical if less than 10 % of memory can be \
                      had; over 20 million negative dentries are info",
        warn: Some(10.0),
        crit: Some(25.0),
        thresholds_from: "own: 1 to 3 % is usual",
        remedy: "find the owner of the largest cache; dentries and inodes go with drop_caches",
        check: space::slab,
        ..RULE
    },
    Rule {
        id: "mem.shm_tmpfs",
        title: "files in RAM take much memory",
        source: "/proc/meminfo Shmem, MemTotal; statvfs of tmpfs mounts",
        computation: "shared memory and files on tmpfs, in percent of RAM; critical if less than 10 % of memory can be had",
        warn: Some(25.0),
        crit: Some(50.0),
        thresholds_from: "own: tmpfs stops at 50 % by default",
        remedy: "delete files there, or put them on a disk",
        check: space::shm_tmpfs,
        ..RULE
    },
    Rule {
        id: "mem.hugepages_idle",
        title: "huge pages are set aside and not used",
        source: "/proc/meminfo HugePages_Free, HugePages_Rsvd, Hugepagesize",
        computation: "huge pages that nobody uses or has reserved, in percent of RAM",
        warn: Some(5.0),
        thresholds_from: "own: nobody else can use that memory",
        remedy: "set vm.nr_hugepages to what is used",
        check: space::hugepages_idle,
        ..RULE
    },
    Rule {
        id: "mem.thp",
        title: "programs wait while the kernel makes huge pages",
        source: "/proc/vmstat compact_stall, thp_fault_fallback; /sys/kernel/mm/transparent_hugepage/enabled",
        computation: "allocations a second that had to compact memory first; with `always`, over 1000 huge pages a second \
                      that could not be had are info",
        unit: "/s",
        warn: Some(50.0),
        thresholds_from: "own",
        remedy: "give huge pages only to programs that ask: `madvise`",
        check: stall::thp,
        ..RULE
    },
    Rule {
        id: "mem.commit",
        title: "promised memory nears the limit, allocations fail",
        source: "/proc/sys/vm/overcommit_memory; /proc/meminfo Committed_AS, CommitLimit",
        computation: "Committed_AS in percent of CommitLimit, only with overcommit_memory 2: else the limit means nothing",
        warn: Some(90.0),
        crit: Some(98.0),
        thresholds_from: "own, as netdata's for use of memory",
        remedy: "raise vm.overcommit_ratio, or go back to overcommit_memory 0",
        check: space::commit,
        ..RULE
    },
    Rule {
        id: "mem.hw",
        title: "memory hardware makes errors",
        source: "/sys/devices/system/edac/mc/mc*/{ce,ue}_count; /proc/meminfo HardwareCorrupted; /dev/kmsg (root)",
        computation: "corrected errors in the window, or any that could not be corrected since boot, critical; corrected ones \
                      of before are info",
        unit: "",
        warn: Some(1.0),
        crit: Some(1.0),
        thresholds_from: "netdata: any corrected, any uncorrected",
        remedy: "replace the module",
        check: hardware::errors,
        ..RULE
    },
    Rule {
        id: "mem.fragment",
        title: "free memory is in pieces",
        source: "/proc/buddyinfo; /proc/vmstat compact_fail",
        computation: "free memory in blocks of 64 KiB or more, in percent of what is free, below 10 and while attempts to \
                      make larger blocks fail",
        bad: Direction::Below,
        thresholds_from: "own; information only",
        remedy: "let the kernel gather free memory once",
        check: stall::fragment,
        ..RULE
    },
];

/// Texts of the kernel for the tests here.
#[cfg(test)]
mod texts {
    /// /proc/pressure/memory and memory.pressure: time in microseconds, and what of the last minute.
    pub(super) fn pressure(some_us: u64, full_us: u64, avg60: f64) -> String {
        format!(
            "some avg10=0.00 avg60={avg60:.2} avg300=0.00 total={some_us}\n\
             full avg10=0.00 avg60={avg60:.2} avg300=0.00 total={full_us}\n"
        )
    }

    /// /proc/meminfo of 10,000,000 kB with so much available, and lines of its own.
    pub(super) fn meminfo(available_kb: u64, more: &str) -> String {
        format!("MemTotal:       10000000 kB\nMemFree:          100000 kB\nMemAvailable: {available_kb:>10} kB\n{more}")
    }

    /// /proc/PID/stat of a process of so many pages and major faults, started from a shell.
    pub(super) fn stat(pid: i32, name: &str, majflt: u64, pages: u64) -> String {
        format!(
            "{pid} ({name}) S 40 {pid} 40 34816 -1 4194560 900 0 {majflt} 0 10 5 0 0 20 0 1 0 100 9999999 {pages} 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
        )
    }
}
