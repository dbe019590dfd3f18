//! Memory that no process has: huge pages, the cache of ZFS, files in RAM, what the kernel keeps for itself. What is left
//! is measured without what is set aside; who is named has a fair share of what is used.

use crate::doctor::culprit::{self, fair};
use crate::doctor::memory::counter::{MEMINFO, value};
use crate::doctor::rule::{RuleContext, Skip};
use crate::model::diagnosis::{Culprit, Finding};
use crate::model::snapshot::cgroup::Group;
use crate::model::unit::Bytes;

/// Memory of the machine without what is set aside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// All but huge pages: in use or not, nobody else can have them.
    pub(super) total: u64,
    /// What of it can be had: MemAvailable, and what the cache of ZFS gives back when others need it.
    pub(super) available: u64,
    /// Huge pages, of all sizes.
    pub(super) huge: u64,
    /// What the cache of ZFS can give back.
    pub(super) arc: u64,
}

/// Reads it off /proc/meminfo and arcstats.
pub(super) fn room(context: &RuleContext<'_>) -> Result<Room, Skip> {
    let memory = &context.now().memory;
    let (available, total) =
        (value(&memory.meminfo, MEMINFO, "MemAvailable")?, value(&memory.meminfo, MEMINFO, "MemTotal")?);
    let of = |name: &str| memory.meminfo.known().and_then(|info| info.get(name)).copied().unwrap_or_default();
    // Before Linux 4.20 there is no sum over the sizes.
    let huge = of("Hugetlb").max(of("HugePages_Total").saturating_mul(of("Hugepagesize"))).min(total);
    let total = total - huge;
    let arc = memory.arc.map_or(0, |arc| arc.size.saturating_sub(arc.least)).min(total.saturating_sub(available));
    Ok(Room { total, available: available.min(total).saturating_add(arc), huge, arc })
}

impl Room {
    /// What can be had, in percent.
    pub(super) fn percent(&self) -> f64 {
        100.0 * self.available as f64 / self.total.max(1) as f64
    }

    /// The same if ZFS gives nothing back.
    pub(super) fn without_arc(self) -> Self {
        Self { available: self.available.saturating_sub(self.arc), arc: 0, ..self }
    }

    /// What is used, the cache of ZFS included.
    pub(super) fn used(&self) -> u64 {
        self.total.saturating_sub(self.available.saturating_sub(self.arc))
    }
}

/// Memory of one kind, and how it is freed.
struct Held {
    name: &'static str,
    bytes: u64,
    text: &'static str,
    command: Option<String>,
}

/// All kinds.
fn kinds(context: &RuleContext<'_>, room: &Room) -> Vec<Held> {
    let memory = &context.now().memory;
    let of = |name: &str| memory.meminfo.known().and_then(|info| info.get(name)).copied().unwrap_or_default();
    let largest = |field: &str| Some(format!("grep -H {field} /proc/[0-9]*/status | sort -k2 -n | tail -3"));
    let idle = of("HugePages_Free").saturating_sub(of("HugePages_Rsvd"));
    let huge = match idle.saturating_mul(of("Hugepagesize")) >= fair(room.huge) {
        true => (
            "give back the huge pages that nobody uses",
            Some(context.as_root(&format!("sysctl -w vm.nr_hugepages={}", of("HugePages_Total").saturating_sub(idle)))),
        ),
        false => (
            "give the virtual machines or databases that use them fewer huge pages, then lower vm.nr_hugepages; who has them",
            largest("HugetlbPages"),
        ),
    };
    let arc = memory.arc.map_or(0, |arc| arc.size);
    let half = (arc / 2) >> 20 << 20;
    let limit = context.as_root_shell(&format!("echo {half} > /sys/module/zfs/parameters/zfs_arc_max"));
    let mut kinds = vec![
        Held { name: "huge pages", bytes: room.huge, text: huge.0, command: huge.1 },
        Held {
            name: "the ZFS ARC",
            bytes: arc,
            text: "limit the cache of ZFS; it shrinks to that",
            command: Some(limit),
        },
        Held {
            name: "files on tmpfs and shared memory",
            bytes: of("Shmem"),
            text: "delete files on tmpfs, and shared memory that nobody has mapped; where they are",
            command: Some("df -h -t tmpfs; ipcs -m -u".to_owned()),
        },
        Held {
            name: "kernel objects (slab)",
            bytes: of("SUnreclaim"),
            text: "see which cache grows: it tells whose objects they are",
            command: Some(context.as_root("slabtop -o -s c")),
        },
        Held {
            name: "page tables",
            bytes: of("PageTables").saturating_add(of("SecPageTables")),
            text: "map the same memory in fewer processes, or by huge pages; who has most",
            command: largest("VmPTE"),
        },
        Held {
            name: "kernel stacks",
            bytes: of("KernelStack"),
            text: "run fewer threads; who has most",
            command: Some("ps -eo nlwp,pid,comm --sort=-nlwp | head -5".to_owned()),
        },
        Held {
            name: "vmalloc areas of the kernel",
            // Stacks are such areas too.
            bytes: of("VmallocUsed").saturating_sub(of("KernelStack")),
            text: "see which module or subsystem has them",
            command: Some(context.as_root("sort -k2 -n /proc/vmallocinfo | tail")),
        },
        Held {
            name: "per-CPU data of the kernel",
            bytes: of("Percpu"),
            text: "remove control groups and mounts that are not used",
            command: None,
        },
    ];
    // Without it nothing is known of the rest.
    if of("AnonPages") > 0 {
        let known = kinds.iter().skip(1).fold(of("AnonPages"), |sum, kind| sum.saturating_add(kind.bytes));
        kinds.push(Held {
            name: "memory that no counter names",
            bytes: room.used().saturating_sub(known.saturating_add(of("Unevictable"))),
            text: "see whether ZFS (/proc/spl/kstat/zfs/arcstats), a driver or the balloon of the hypervisor has it",
            command: None,
        });
    }
    kinds
}

/// Who has the memory of the machine, processes and the rest, the largest first; each with a fair share of what is used.
pub(super) fn culprits(context: &RuleContext<'_>) -> Vec<Culprit> {
    let Ok(room) = room(context) else { return processes(context) };
    named(context, &room).into_iter().map(|(_, culprit, _)| culprit).collect()
}

fn processes(context: &RuleContext<'_>) -> Vec<Culprit> {
    culprit::by_memory(context.window, 0).into_iter().map(|(_, culprit)| culprit).collect()
}

fn named(context: &RuleContext<'_>, room: &Room) -> Vec<(u64, Culprit, Option<Held>)> {
    let used = room.used();
    let of_processes =
        culprit::by_memory(context.window, used).into_iter().map(|(bytes, culprit)| (bytes, culprit, None));
    let mut all: Vec<(u64, Culprit, Option<Held>)> = of_processes.collect();
    for kind in kinds(context, room) {
        // Huge pages are no part of what is used of the rest.
        let least = if kind.name == "huge pages" { fair(room.total.saturating_add(room.huge)) } else { fair(used) };
        if kind.bytes >= least {
            let what = format!("{} that no process has", Bytes(kind.bytes));
            all.push((kind.bytes, culprit::thing("memory", kind.name, what), Some(kind)));
        }
    }
    all.sort_by_key(|(bytes, ..)| std::cmp::Reverse(*bytes));
    all.truncate(culprit::NAMED + 1);
    all
}

/// Names who has the memory of the machine, and says how it is freed: what has most first.
pub(super) fn blame(context: &RuleContext<'_>, finding: Finding, fewer: &str) -> Finding {
    let Ok(room) = room(context) else {
        return culprit::end_largest(context.window, finding.by(processes(context)), 0, fewer);
    };
    let (mut by, mut first) = (Vec::new(), None);
    for (at, (_, culprit, kind)) in named(context, &room).into_iter().enumerate() {
        by.push(culprit);
        first = first.or(kind.filter(|_| at == 0));
    }
    let finding = finding.by(by);
    let finding = match first {
        Some(kind) => finding.fix(kind.text, kind.command),
        None => finding,
    };
    culprit::end_largest(context.window, finding, room.used(), fewer)
}

/// What of the memory of a control group no process has, where it is a fair share of what is used or may be.
pub(super) fn in_group(group: &Group, used: u64) -> Vec<Culprit> {
    let kinds = [
        ("files on tmpfs and shared memory", group.memory_shared),
        ("pages of files in use", group.memory_files),
        ("kernel objects and page tables", group.memory_kernel),
    ];
    let mut kinds: Vec<(u64, &str)> =
        kinds.into_iter().map(|(name, bytes)| (bytes.unwrap_or_default(), name)).collect();
    kinds.retain(|(bytes, _)| *bytes >= fair(used));
    kinds.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    let say = |(bytes, name): (u64, &str)| {
        culprit::thing("memory", name, format!("{} in the group that no process has", Bytes(bytes)))
    };
    kinds.into_iter().map(say).collect()
}

#[cfg(test)]
mod tests {
    use crate::doctor::fixture::{Fixture, severities};
    use crate::doctor::memory::texts::stat;
    use crate::model::diagnosis::Finding;
    use crate::model::diagnosis::Severity::{Info, Warn};

    const GIB: u64 = 1 << 20;

    /// /proc/meminfo of a machine of so many GiB, with lines of its own.
    fn meminfo(total: u64, available: u64, more: &str) -> String {
        format!("MemTotal: {} kB\nMemFree: 1 kB\nMemAvailable: {} kB\n{more}", total * GIB, available * GIB)
    }

    fn names(finding: &Finding) -> Vec<&str> {
        finding.culprits.iter().map(|culprit| culprit.name.as_str()).collect()
    }

    fn commands(finding: &Finding) -> Vec<&str> {
        finding.remedies.iter().filter_map(|remedy| remedy.command.as_deref()).collect()
    }

    /// Regression: a compiler with 0.3 % of what was used was to be killed on a host of virtual machines.
    #[test]
    fn memory_of_huge_pages_is_not_short_memory_and_nobody_is_to_be_ended() {
        let fixture = Fixture::new("kvm");
        let huge = |free: u64, reserved: u64, size: u64| {
            let pages = size * 512;
            format!(
                "AnonPages: 9437184 kB\nHugePages_Total: {pages}\nHugePages_Free: {free}\nHugePages_Rsvd: {reserved}\nHugepagesize: 2048 kB\nHugetlb: {} kB\n",
                size * GIB
            )
        };
        fixture.file("proc/71/stat", &stat(71, "rustc", 0, 48_640));
        for (free, reserved) in [(0, 0), (51_200, 51_200)] {
            fixture.file("proc/meminfo", &meminfo(128, 6, &huge(free, reserved, 118)));
            let found = fixture.ask("mem.available");
            assert_eq!((severities(&found), names(&found[0])), (vec![Info], vec!["huge pages"]));
            assert_eq!(found[0].title, "6 GiB of 10 GiB can still be had (60%); 118 GiB more are huge pages");
        }
        // The rest is short as well: rustc has less than a tenth of it.
        fixture
            .file("proc/meminfo", &meminfo(128, 1, &huge(0, 0, 118)))
            .file("proc/72/stat", &stat(72, "node", 0, 2_000_000));
        let found = fixture.ask("mem.available");
        assert_eq!((severities(&found), names(&found[0])), (vec![Warn], vec!["huge pages", "node"]));
        assert!(commands(&found[0])[0].contains("HugetlbPages") && commands(&found[0])[1] == "kill 72");
    }

    #[test]
    fn the_cache_of_zfs_counts_as_memory_that_can_be_had_unless_tasks_wait() {
        let fixture = Fixture::new("arc");
        let pressure = |avg60: f64| crate::doctor::memory::texts::pressure(0, 0, avg60);
        fixture
            .file("proc/meminfo", &meminfo(64, 3, "AnonPages: 6000000 kB\n"))
            .file("proc/pressure/memory", &pressure(0.0))
            .file("proc/900/stat", &stat(900, "sshd", 0, 15_000))
            .file(
                "proc/spl/kstat/zfs/arcstats",
                "9 1 0x01 1 1 1 1\nname type data\nc_min 4 2147483648\nsize 4 53687091200\n",
            );
        let found = fixture.ask("mem.available");
        assert_eq!((severities(&found), names(&found[0])), (vec![Info], vec!["the ZFS ARC"]));
        // It does not shrink as fast as others ask.
        let found = fixture.file("proc/pressure/memory", &pressure(9.0)).ask("mem.available");
        assert_eq!(severities(&found)[0], crate::model::diagnosis::Severity::Crit);
        assert_eq!(commands(&found[0]), ["echo 26843545600 > /sys/module/zfs/parameters/zfs_arc_max"]);
    }

    /// Regression: `kill 900` of a process with 60 MiB, the sshd of a server elsewhere, where 50 GiB had no owner.
    #[test]
    fn memory_without_an_owner_is_named_as_what_it_is() {
        let fixture = Fixture::new("unowned");
        fixture.file("proc/900/stat", &stat(900, "sshd", 0, 15_000));
        for (more, name) in [
            ("", "memory that no counter names"),
            ("Shmem: 50000000 kB\n", "files on tmpfs and shared memory"),
            ("SUnreclaim: 50000000 kB\n", "kernel objects (slab)"),
            ("PageTables: 30000000 kB\nSecPageTables: 20000000 kB\n", "page tables"),
            ("KernelStack: 50000000 kB\nVmallocUsed: 50000000 kB\n", "kernel stacks"),
            ("VmallocUsed: 50000000 kB\n", "vmalloc areas of the kernel"),
            ("Percpu: 50000000 kB\n", "per-CPU data of the kernel"),
        ] {
            fixture.file("proc/meminfo", &meminfo(64, 3, &format!("AnonPages: 6000000 kB\n{more}")));
            let found = fixture.ask("mem.available");
            assert_eq!((severities(&found), names(&found[0])[0]), (vec![Warn], name));
            assert!(commands(&found[0]).iter().all(|command| !command.starts_with("kill")), "{:?}", found[0].remedies);
        }
    }

    #[test]
    fn a_process_that_others_need_is_named_and_not_ended() {
        let fixture = Fixture::new("needed");
        fixture
            .file("proc/meminfo", &meminfo(10, 0, "AnonPages: 10485760 kB\n"))
            .file("proc/71/stat", &stat(71, "postgres", 0, 1_500_000));
        let found = fixture.ask("mem.available");
        assert_eq!((names(&found[0]), commands(&found[0])), (vec!["postgres"], vec![]));
        let found = fixture.file("proc/72/stat", &stat(72, "cc1plus", 0, 700_000)).ask("mem.available");
        assert_eq!(commands(&found[0]), ["kill 72"]);
        assert!(found[0].remedies[0].interrupts && found[0].remedies[0].text.contains("that nothing else needs"));
    }
}
