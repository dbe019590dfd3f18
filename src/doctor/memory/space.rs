//! How much memory there is, and what takes it.

use crate::doctor::culprit;
use crate::doctor::memory::counter::{MEMINFO, value};
use crate::doctor::memory::held::{self, Room, room};
use crate::doctor::memory::limit::raise;
use crate::doctor::rule::{RuleContext, Verdict};
use crate::model::diagnosis::{Culprit, Finding, Severity};
use crate::model::snapshot::cgroup::Group;
use crate::model::snapshot::memory::Segment;
use crate::model::snapshot::process::Process;
use crate::model::unit::Bytes;

/// Share of memory that is available, percent, below which it is reported as information.
const SPEC_AVAILABLE: f64 = 20.0;
/// Negative dentries from which on they are reported: about 4 GiB of them.
const NEGATIVE_MANY: u64 = 20_000_000;
/// Memory that can be had, percent: with less, waste hurts.
const SHORT: f64 = 10.0;

pub(super) fn available(context: &RuleContext<'_>) -> Verdict {
    let machine = room(context)?;
    // How much is left is a state, not a rate: pressure confirms that it hurts already.
    let stalls = context.now().memory.pressure.known().is_some_and(|pressure| pressure.some.avg60 > 1.0);
    // While tasks wait for memory, ZFS does not give its cache back as fast as it is wanted.
    let machine = if stalls { machine.without_arc() } else { machine };
    let mut tightest: (u64, u64, Option<&Group>) = (machine.available, machine.total, None);
    for group in context.now().cgroups.groups.iter().filter(|group| group.is_own) {
        if let (Some(limit), Some(used)) = (group.memory_max, group.memory_used.known()) {
            // Files in use can be read again, as MemAvailable has it too.
            let files = group.memory_files.unwrap_or_default() / 2;
            let left = limit.saturating_sub(used.saturating_sub(files)).min(machine.available);
            if (left as f64) * (tightest.1 as f64) < (tightest.0 as f64) * (limit as f64) {
                tightest = (left, limit, Some(group));
            }
        }
    }
    let (left, whole, group) = tightest;
    let percent = 100.0 * left as f64 / (whole as f64).max(1.0);
    let is_said = context.warn.is_some_and(|warn| warn < SPEC_AVAILABLE);
    let title = format!("{} of {} can still be had ({percent:.0}%)", Bytes(left), Bytes(whole));
    let severity = match context.judge(percent, stalls || percent < 2.0) {
        Some(severity) => severity,
        None if percent < SPEC_AVAILABLE && is_said => Severity::Info,
        None if is_said && group.is_none() => return Ok(set_aside(context, &machine, title).into_iter().collect()),
        None => return Ok(Vec::new()),
    };
    let finding = context.finding(severity, percent, title).agreed(1 + u32::from(stalls));
    let text = "run fewer things at once";
    Ok(vec![match group {
        None => held::blame(context, read(context, finding, &machine), text),
        Some(group) => {
            let used = group.memory_used.known().copied().unwrap_or_default();
            let finding = finding
                .read(&group.folders.memory, "used without idle files", used as f64, "B")
                .read(&group.folders.memory, "limit", whole as f64, "B")
                .by([culprit::group(group, format!("limit {}", Bytes(whole)))])
                .by(culprit::by_memory_among(context.window, &group.members, used))
                .by(held::in_group(group, used));
            raise(context, culprit::end_largest(context.window, finding, used, text), group)
        }
    }])
}

/// What /proc/meminfo says of it.
fn read(context: &RuleContext<'_>, finding: Finding, machine: &Room) -> Finding {
    let info = context.now().memory.meminfo.known();
    let of = |name: &str| info.and_then(|info| info.get(name)).copied().unwrap_or_default();
    let finding = finding.read(MEMINFO, "MemAvailable", of("MemAvailable") as f64, "B");
    let finding = finding.read(MEMINFO, "MemTotal", of("MemTotal") as f64, "B");
    let finding = if machine.huge > 0 { finding.read(MEMINFO, "Hugetlb", machine.huge as f64, "B") } else { finding };
    match context.now().memory.arc {
        Some(arc) => finding.read("/proc/spl/kstat/zfs/arcstats", "size", arc.size as f64, "B"),
        None => finding,
    }
}

/// Enough is left, although `free` shows little: somebody who looks there wants to know why.
fn set_aside(context: &RuleContext<'_>, machine: &Room, title: String) -> Option<Finding> {
    let raw = machine.available.saturating_sub(machine.arc);
    let whole = machine.total.saturating_add(machine.huge);
    if 100.0 * raw as f64 / whole.max(1) as f64 >= SPEC_AVAILABLE {
        return None;
    }
    let why = match (machine.huge >= culprit::fair(whole), machine.arc >= culprit::fair(whole)) {
        (true, false) => format!("; {} more are huge pages", Bytes(machine.huge)),
        (false, true) => format!("; {} of them are the ZFS ARC, which shrinks for others", Bytes(machine.arc)),
        (true, true) => {
            format!("; {} more are huge pages, and {} of them the ZFS ARC", Bytes(machine.huge), Bytes(machine.arc))
        }
        (false, false) => return None,
    };
    let finding = context.finding(Severity::Info, machine.percent(), format!("{title}{why}"));
    let by = held::culprits(context).into_iter().filter(|culprit| culprit.kind == "memory");
    Some(read(context, finding, machine).by(by))
}

pub(super) fn swap_used(context: &RuleContext<'_>) -> Verdict {
    let info = &context.now().memory.meminfo;
    let (total, free) = (value(info, MEMINFO, "SwapTotal")?, value(info, MEMINFO, "SwapFree")?);
    let available = room(context)?.percent();
    // Full swap with memory to spare is what was swapped out once and never wanted again.
    if total == 0 || available >= SPEC_AVAILABLE {
        return Ok(Vec::new());
    }
    let percent = 100.0 * total.saturating_sub(free) as f64 / total as f64;
    let Some(severity) = context.judge(percent, available < SHORT) else { return Ok(Vec::new()) };
    let title = format!("swap is {percent:.0}% full, and {available:.0}% of memory can be had");
    let finding = context.finding(severity, percent, title).agreed(2).read(MEMINFO, "SwapFree", free as f64, "B").read(
        MEMINFO,
        "SwapTotal",
        total as f64,
        "B",
    );
    Ok(vec![held::blame(context, finding, "run fewer things at once, or add swap on zram")])
}

pub(super) fn no_swap(context: &RuleContext<'_>) -> Verdict {
    let swap = value(&context.now().memory.meminfo, MEMINFO, "SwapTotal")?;
    let machine = room(context)?;
    let is_limited = context.now().cgroups.groups.iter().any(|group| group.is_own && group.memory_max.is_some());
    if swap > 0 || is_limited || machine.percent() >= 50.0 {
        return Ok(Vec::new());
    }
    let title = format!("no swap, and {:.0}% of memory is in use", 100.0 - machine.percent());
    let finding = context.finding(Severity::Info, swap as f64, title).read(MEMINFO, "SwapTotal", swap as f64, "B");
    // As Fedora has it: half of RAM, at most 4 GiB.
    let size = (machine.total / 2).min(4 << 30) >> 20;
    let command = format!("modprobe zram && D=$(zramctl --find --size {size}M) && mkswap $D && swapon $D");
    let command = match (&context.now().system.container, context.now().system.uid) {
        (Some(_), _) => None,
        (None, 0) => Some(command),
        (None, _) => Some(format!("sudo sh -c '{command}'")),
    };
    let finding = finding.by(held::culprits(context));
    Ok(vec![finding.fix("add swap on zram, or give what runs a memory limit", command)])
}

pub(super) fn commit(context: &RuleContext<'_>) -> Verdict {
    let mode = *context.now().memory.overcommit.get()?;
    let info = &context.now().memory.meminfo;
    let (promised, limit) = (value(info, MEMINFO, "Committed_AS")?, value(info, MEMINFO, "CommitLimit")?);
    if mode != 2 {
        return Ok(Vec::new());
    }
    let percent = 100.0 * promised as f64 / limit.max(1) as f64;
    // Allocations beyond the limit fail: that is a hard state.
    let Some(severity) = context.judge(percent, true) else { return Ok(Vec::new()) };
    let title = format!("{} of {} are promised ({percent:.0}%)", Bytes(promised), Bytes(limit));
    let finding = context
        .finding(severity, percent, title)
        .read("/proc/sys/vm/overcommit_memory", "", mode as f64, "")
        .read(MEMINFO, "Committed_AS", promised as f64, "B")
        .read(MEMINFO, "CommitLimit", limit as f64, "B")
        .by(culprit::most(
            context.window,
            culprit::fair(promised),
            |process| process.promised.unwrap_or_default(),
            |bytes| format!("was promised {}", Bytes(bytes)),
        ));
    // Whoever set 2 wants no memory to be promised twice: first what keeps to that.
    let info = info.get()?;
    let of = |name: &str| info.get(name).copied().unwrap_or_default();
    let (swap, huge) = (of("SwapTotal"), of("Hugetlb"));
    let base = of("MemTotal").saturating_sub(huge).max(1);
    let ratio = (100.0 * (limit as f64 * 1.5 - swap as f64) / base as f64).ceil();
    let finding = match ratio <= 100.0 {
        true => finding.fix(
            "raise the limit; it counts memory that is there",
            Some(context.as_root(&format!("sysctl -w vm.overcommit_ratio={ratio:.0}"))),
        ),
        false => finding,
    };
    Ok(vec![finding.fix(
        "or let programs ask for more than they use, unless somebody relies on the limit, as PostgreSQL may",
        Some(context.as_root("sysctl -w vm.overcommit_memory=0")),
    )])
}

pub(super) fn slab(context: &RuleContext<'_>) -> Verdict {
    let memory = &context.now().memory;
    let (slab, total) = (value(&memory.meminfo, MEMINFO, "SUnreclaim")?, value(&memory.meminfo, MEMINFO, "MemTotal")?);
    let available = room(context)?.percent();
    let percent = 100.0 * slab as f64 / total.max(1) as f64;
    let caches = memory.slabs.known().into_iter().flatten().filter(|cache| !is_droppable(&cache.name));
    let by = caches.take(culprit::NAMED).map(|cache| Culprit {
        kind: "slab".to_owned(),
        pid: None,
        name: cache.name.clone(),
        what: Bytes(cache.bytes).to_string(),
    });
    if let Some(severity) = context.judge(percent, available < SHORT) {
        let title = format!("kernel objects take {} that cannot be dropped ({percent:.0}%)", Bytes(slab));
        let finding = context
            .finding(severity, percent, title)
            .agreed(1 + u32::from(available < SHORT))
            .read(MEMINFO, "SUnreclaim", slab as f64, "B")
            .by(by);
        return Ok(vec![
            finding.fix(
                "see which cache grows: it tells whose objects they are",
                Some(context.as_root("slabtop -o -s c")),
            ),
        ]);
    }
    match memory.negative_dentries.known() {
        Some(count) if *count > NEGATIVE_MANY => {
            let title = format!("{} million names that do not exist are cached", count / 1_000_000);
            let finding = context.finding(Severity::Info, percent, title);
            let finding = finding.read("/proc/sys/fs/dentry-state", "negative", *count as f64, "");
            let text =
                "the kernel drops them when memory is short; whoever opens names that are not there brings them back";
            Ok(vec![finding.fix(text, None)])
        }
        _ => Ok(Vec::new()),
    }
}

/// Caches of files, which `SUnreclaim` does not count: /proc/slabinfo does not tell them apart.
fn is_droppable(name: &str) -> bool {
    name == "dentry" || name == "buffer_head" || name == "radix_tree_node" || name.contains("inode")
}

pub(super) fn shm_tmpfs(context: &RuleContext<'_>) -> Verdict {
    let info = &context.now().memory.meminfo;
    let (shared, total) = (value(info, MEMINFO, "Shmem")?, value(info, MEMINFO, "MemTotal")?);
    let available = room(context)?.percent();
    let percent = 100.0 * shared as f64 / total.max(1) as f64;
    let Some(severity) = context.judge(percent, available < SHORT) else { return Ok(Vec::new()) };
    let mut mounts: Vec<(u64, &str)> = Vec::new();
    for mount in context.now().disk.mounts.known().into_iter().flatten().filter(|mount| mount.kind == "tmpfs") {
        let used = mount.space.known().map_or(0, |space| space.bytes.saturating_sub(space.available));
        // One file system may be mounted in several places.
        let is_again = |(other, _): &&(u64, &str)| *other == used;
        if used > 0 && !mounts.iter().any(|mount| is_again(&mount)) {
            mounts.push((used, &mount.point));
        }
    }
    mounts.sort_by_key(|(used, _)| std::cmp::Reverse(*used));
    let by: Vec<Culprit> = mounts
        .iter()
        .take(culprit::NAMED)
        .map(|(used, point)| Culprit {
            kind: "mount".to_owned(),
            pid: None,
            name: (*point).to_owned(),
            what: format!("{} of files in RAM", Bytes(*used)),
        })
        .collect();
    let command = mounts
        .first()
        .and_then(|(_, point)| culprit::typed(point))
        .map(|point| format!("du -xah {point} | sort -h | tail"));
    let in_files: u64 = mounts.iter().fold(0, |sum, (used, _)| sum.saturating_add(*used));
    let title = format!("files and shared memory take {} of RAM ({percent:.0}%)", Bytes(shared));
    let finding = context
        .finding(severity, percent, title)
        .agreed(1 + u32::from(available < SHORT))
        .read(MEMINFO, "Shmem", shared as f64, "B")
        .by(by);
    if in_files >= shared / 2 {
        return Ok(vec![finding.fix("delete files there, or put them on a disk", command)]);
    }
    let segments = context.now().memory.segments.known().map_or(&[][..], Vec::as_slice);
    let in_segments = segments.iter().fold(0u64, |sum, segment| sum.saturating_add(segment.bytes));
    if in_segments >= shared / 4 {
        let orphan = segments.iter().find(|segment| segment.attached == 0);
        let finding = finding
            .read("/proc/sysvipc/shm", "rss of all segments", in_segments as f64, "B")
            .by(segments.iter().take(culprit::NAMED).map(|segment| segment_of(context, segment)));
        return Ok(vec![match orphan {
            Some(orphan) => finding.fix("nobody has it mapped: remove it", Some(format!("ipcrm -m {}", orphan.id))),
            None => {
                finding.fix("it lasts until it is removed: end who uses it, then ipcrm", Some("ipcs -m -p".to_owned()))
            }
        }]);
    }
    // With a descriptor and without a name.
    let unnamed = context.now().disk.deleted.known().map_or(&[][..], |deleted| deleted.memory.as_slice());
    let by = unnamed.iter().filter(|sum| sum.bytes >= shared / 10).take(culprit::NAMED).map(|sum| {
        culprit::of_pid(context.window, sum.pid, format!("holds {} of memory without a name (memfd)", Bytes(sum.bytes)))
    });
    let by: Vec<Culprit> = by.collect();
    let command = by.first().and_then(|one| one.pid).map(|pid| format!("ls -l /proc/{pid}/fd | grep memfd"));
    Ok(vec![if by.is_empty() {
        // Several may share the same: each is held against all of it.
        let of = |process: &Process| process.shared.unwrap_or_default();
        let say = |bytes: u64| format!("{} of shared memory", Bytes(bytes));
        finding.by(culprit::most(context.window, culprit::fair(shared), of, say)).fix(
            "see who shares it: mappings without a file",
            Some("grep -H RssShmem /proc/[0-9]*/status | sort -k2 -n | tail -3".to_owned()),
        )
    } else {
        finding.by(by).fix("end it, or have it close them", command)
    }])
}

/// A segment, and who made it.
fn segment_of(context: &RuleContext<'_>, segment: &Segment) -> Culprit {
    let maker = context.now().processes.known().into_iter().flatten().find(|process| process.pid == segment.creator);
    let maker = maker
        .map_or_else(|| "a process that is gone".to_owned(), |process| format!("{}[{}]", process.name, process.pid));
    let (bytes, attached) = (Bytes(segment.bytes), segment.attached);
    culprit::thing("segment", &segment.id.to_string(), format!("{bytes} in RAM, mapped by {attached}, made by {maker}"))
}

pub(super) fn hugepages_idle(context: &RuleContext<'_>) -> Verdict {
    let info = &context.now().memory.meminfo;
    let count = |name: &str| value(info, MEMINFO, name);
    let (all, free, reserved) = (count("HugePages_Total")?, count("HugePages_Free")?, count("HugePages_Rsvd")?);
    let (size, total) = (count("Hugepagesize")?, count("MemTotal")?);
    let idle = free.saturating_sub(reserved);
    let bytes = idle.saturating_mul(size);
    let percent = 100.0 * bytes as f64 / total.max(1) as f64;
    let Some(severity) = context.judge(percent, false) else { return Ok(Vec::new()) };
    let title = format!("{idle} of {all} huge pages lie idle: {} ({percent:.0}%)", Bytes(bytes));
    let finding = context
        .finding(severity, percent, title)
        .read(MEMINFO, "HugePages_Free", free as f64, "")
        .read(MEMINFO, "HugePages_Total", all as f64, "")
        .by([culprit::thing("memory", "huge pages", format!("{} that nobody uses", Bytes(bytes)))]);
    let command = context.as_root(&format!("sysctl -w vm.nr_hugepages={}", all.saturating_sub(idle)));
    Ok(vec![finding.fix("give back what nobody uses", Some(command))])
}

#[cfg(test)]
mod tests {
    use crate::doctor::fixture::{self, Fixture, severities};
    use crate::doctor::memory::texts::{meminfo, pressure, stat};
    use crate::model::diagnosis::Severity::{Crit, Info, Warn};
    use crate::model::snapshot::Field;
    use crate::model::snapshot::disk::{Mount, Space};

    #[test]
    fn available_memory_speaks_below_its_thresholds() {
        let fixture = Fixture::new("available");
        fixture.file("proc/pressure/memory", &pressure(0, 0, 0.0));
        for (available, expected) in [(5_000_000, vec![]), (1_900_000, vec![Info]), (900_000, vec![Warn])] {
            assert_eq!(
                severities(&fixture.file("proc/meminfo", &meminfo(available, "")).ask("mem.available")),
                expected
            );
        }
        // Four percent alone is a warning; that tasks stall on it makes it critical.
        fixture.file("proc/meminfo", &meminfo(400_000, ""));
        assert_eq!(severities(&fixture.ask("mem.available")), [Warn]);
        fixture.file("proc/pressure/memory", &pressure(0, 0, 5.0));
        let found = fixture.ask("mem.available");
        assert_eq!(severities(&found), [Crit]);
        assert_eq!((found[0].value, found[0].confidence), (4.0, 2));
    }

    /// A container of 1 GiB on a machine with memory to spare.
    #[test]
    fn the_limit_of_the_own_group_counts_and_files_in_it_do_not() {
        let fixture = Fixture::new("own-limit");
        fixture
            .file("proc/meminfo", &meminfo(8_000_000, ""))
            .file("proc/self/cgroup", "0::/ci\n")
            .file("proc/self/mountinfo", "26 22 0:23 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n")
            .file("sys/fs/cgroup/ci/memory.max", "1000000000\n")
            .file("sys/fs/cgroup/ci/memory.current", "960000000\n")
            .file("sys/fs/cgroup/ci/memory.stat", "inactive_file 10000000\nactive_file 0\n")
            .file("sys/fs/cgroup/ci/cgroup.procs", "71\n")
            .file("proc/71/stat", &stat(71, "node", 0, 200_000))
            .file("proc/72/stat", &stat(72, "elsewhere", 0, 900_000));
        let found = fixture.ask("mem.available");
        assert_eq!(severities(&found), [Warn]);
        let who: Vec<(&str, Option<i32>)> =
            found[0].culprits.iter().map(|culprit| (culprit.name.as_str(), culprit.pid)).collect();
        assert_eq!(who, [("/ci", None), ("node", Some(71))]);
        fixture.file("sys/fs/cgroup/ci/memory.stat", "inactive_file 500000000\nactive_file 0\n");
        assert_eq!(fixture.ask("mem.available"), []);
    }

    #[test]
    fn full_swap_is_no_fault_while_memory_can_be_had() {
        let fixture = Fixture::new("swap-used");
        let swap = "SwapTotal:       1000000 kB\nSwapFree:          50000 kB\n";
        for (available, expected) in [(5_000_000, vec![]), (1_500_000, vec![Warn])] {
            assert_eq!(
                severities(&fixture.file("proc/meminfo", &meminfo(available, swap)).ask("mem.swap_used")),
                expected
            );
        }
        let none_left = "SwapTotal:       1000000 kB\nSwapFree:          10000 kB\n";
        assert_eq!(
            severities(&fixture.file("proc/meminfo", &meminfo(800_000, none_left)).ask("mem.swap_used")),
            [Crit]
        );
        let no_swap = "SwapTotal:             0 kB\nSwapFree:              0 kB\n";
        assert_eq!(fixture.file("proc/meminfo", &meminfo(800_000, no_swap)).ask("mem.swap_used"), []);
    }

    #[test]
    fn no_swap_is_worth_knowing_once_half_of_memory_is_used() {
        let fixture = Fixture::new("no-swap");
        let none = "SwapTotal:             0 kB\nSwapFree:              0 kB\n";
        for (available, expected) in [(9_000_000, vec![]), (4_000_000, vec![Info])] {
            assert_eq!(
                severities(&fixture.file("proc/meminfo", &meminfo(available, none)).ask("mem.no_swap")),
                expected
            );
        }
        let some = "SwapTotal:       1000000 kB\nSwapFree:        1000000 kB\n";
        assert_eq!(fixture.file("proc/meminfo", &meminfo(4_000_000, some)).ask("mem.no_swap"), []);
    }

    #[test]
    fn promises_count_only_where_the_kernel_keeps_them() {
        let fixture = Fixture::new("commit");
        // Three and a half times the limit: harmless in the modes 0 and 1.
        fixture.file("proc/meminfo", &meminfo(5_000_000, "CommitLimit:    12342040 kB\nCommitted_AS:   43000000 kB\n"));
        for mode in ["0\n", "1\n"] {
            assert_eq!(fixture.file("proc/sys/vm/overcommit_memory", mode).ask("mem.commit"), []);
        }
        assert_eq!(severities(&fixture.file("proc/sys/vm/overcommit_memory", "2\n").ask("mem.commit")), [Crit]);
        fixture.file("proc/meminfo", &meminfo(5_000_000, "CommitLimit:    12342040 kB\nCommitted_AS:   11500000 kB\n"));
        assert_eq!(severities(&fixture.ask("mem.commit")), [Warn]);
    }

    #[test]
    fn kernel_objects_name_the_largest_cache() {
        let fixture = Fixture::new("slab");
        fixture
            .file(
                "proc/slabinfo",
                "slabinfo - version: 2.1\n\
                 # name <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>\n\
                 dentry            685958 686000    192   21    1 : tunables    0    0    0 : slabdata  32666  32666      0\n\
                 ext4_inode_cache 900000 900000   1184   27    8 : tunables    0    0    0 : slabdata  90000  90000      0\n\
                 kmalloc-512      3200000 3200000    512   16    2 : tunables    0    0    0 : slabdata 200000 200000      0\n",
            )
            .file("proc/sys/fs/dentry-state", "685958\t684300\t45\t0\t472715\t0\n");
        fixture.file("proc/meminfo", &meminfo(5_000_000, "SUnreclaim:       200000 kB\n"));
        assert_eq!(fixture.ask("mem.slab"), []);
        fixture.file("proc/meminfo", &meminfo(5_000_000, "SUnreclaim:      1600000 kB\n"));
        let found = fixture.ask("mem.slab");
        assert_eq!((severities(&found), found[0].culprits[0].name.as_str()), (vec![Warn], "kmalloc-512"));
        fixture.file("proc/meminfo", &meminfo(500_000, "SUnreclaim:      2600000 kB\n"));
        assert_eq!(severities(&fixture.ask("mem.slab")), [Crit]);
        fixture.file("proc/meminfo", &meminfo(5_000_000, "SUnreclaim:       200000 kB\n"));
        fixture.file("proc/sys/fs/dentry-state", "45685958\t45684300\t45\t0\t40000000\t0\n");
        assert_eq!(severities(&fixture.ask("mem.slab")), [Info]);
    }

    #[test]
    fn files_in_ram_are_found_where_they_are() {
        let fixture = Fixture::new("shm");
        assert_eq!(
            fixture.file("proc/meminfo", &meminfo(8_000_000, "Shmem:            8872 kB\n")).ask("mem.shm_tmpfs"),
            []
        );
        // Nobody's file: a compiler with as much memory of its own has no part in it.
        fixture
            .file("proc/71/stat", &stat(71, "shm", 0, 720_000))
            .file("proc/71/status", "Name:\tshm\nRssShmem:\t 2800000 kB\n")
            .file("proc/72/stat", &stat(72, "rustc", 0, 720_000))
            .file("proc/72/status", "Name:\trustc\nRssShmem:\t 0 kB\n");
        let found =
            fixture.file("proc/meminfo", &meminfo(5_000_000, "Shmem:         3000000 kB\n")).ask("mem.shm_tmpfs");
        let named: Vec<&str> = found[0].culprits.iter().map(|culprit| culprit.name.as_str()).collect();
        assert_eq!(named, ["shm"]);
        let mut window = fixture.file("proc/meminfo", &meminfo(5_000_000, "Shmem:         3000000 kB\n")).window();
        let mount = |point: &str, used: u64| Mount {
            point: point.to_owned(),
            kind: "tmpfs".to_owned(),
            space: Field::Known(Space { bytes: 5_000_000_000, available: 5_000_000_000 - used, ..Space::default() }),
            ..Mount::default()
        };
        window.to.disk.mounts = Field::Known(vec![mount("/run", 1_000_000), mount("/dev/shm", 2_900_000_000)]);
        let found = fixture::ask(&window, "mem.shm_tmpfs");
        assert_eq!(severities(&found), [Warn]);
        assert_eq!(found[0].culprits[0].name, "/dev/shm");
        assert_eq!(found[0].remedies[0].command.as_deref(), Some("du -xah /dev/shm | sort -h | tail"));
    }

    #[test]
    fn huge_pages_that_are_used_are_no_fault() {
        let fixture = Fixture::new("hugepages");
        let pages = |free: u64, reserved: u64| {
            format!(
                "HugePages_Total:    1024\nHugePages_Free:     {free}\nHugePages_Rsvd:     {reserved}\nHugePages_Surp:        0\nHugepagesize:       2048 kB\n"
            )
        };
        for (free, reserved, expected) in [(10, 0, vec![]), (1000, 1000, vec![]), (1000, 0, vec![Warn])] {
            fixture.file("proc/meminfo", &meminfo(5_000_000, &pages(free, reserved)));
            assert_eq!(severities(&fixture.ask("mem.hugepages_idle")), expected);
        }
        assert_eq!(
            fixture.ask("mem.hugepages_idle")[0].remedies[0].command.as_deref(),
            Some("sysctl -w vm.nr_hugepages=24")
        );
    }
}
