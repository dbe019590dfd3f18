//! Whether tasks wait for memory: pressure, and the paging that causes it.

use crate::doctor::culprit;
use crate::doctor::memory::counter::{Growth, VMSTAT, growth};
use crate::doctor::memory::held;
use crate::doctor::memory::limit::{raise, squeezed};
use crate::doctor::memory::pressure::{PRESSURE, group_stalls, memory_stalls, stalled};
use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::model::diagnosis::{Finding, Severity};
use crate::model::snapshot::cgroup::Group;
use crate::model::snapshot::{Pressure, Snapshot};
use crate::model::unit::Bytes;

/// Share of the last minute, percent, that confirms what the window shows.
const MINUTE: f64 = 10.0;
/// Share of the window, percent, from which on waiting tasks are reported.
const HURTS: f64 = 5.0;
/// Pages of this order and above: 64 KiB.
const LARGE_ORDER: usize = 4;
/// Free memory in large blocks, percent, below which it is in pieces.
const IN_PIECES: f64 = 10.0;
/// Failed allocations of huge pages a second from which on they are reported.
const FALLBACKS: f64 = 1000.0;
/// The scale that begins to free memory at 1 % of it.
const WATERMARK: u64 = 100;
/// Stalled allocations a second from which on they are reported where the pressure is not known.
const STALLS_ALONE: f64 = 10.0;

pub(super) fn psi(context: &RuleContext<'_>) -> Verdict {
    let machine = memory_stalls(context);
    // In a container, and in v2, the group tells more than the machine.
    let inner = squeezed(context).and_then(|group| Some((group_stalls(context, group)?, group)));
    let group = inner.filter(|(stalls, _)| stalls.full > machine.as_ref().map_or(0.0, |machine| machine.full));
    let (stalls, name) = match (&machine, group) {
        (_, Some((stalls, group))) => (stalls, format!(" in {}", group.path)),
        (Ok(machine), None) => (*machine, String::new()),
        (Err(skip), None) => return Err(skip.clone()),
    };
    // Where only some waited twice the share is as bad.
    let value = stalls.full.max(stalls.some / 2.0);
    let Some(severity) =
        context.judge(value, stalls.full >= context.crit.unwrap_or(100.0) && stalls.now.full.avg60 > MINUTE)
    else {
        return Ok(Vec::new());
    };
    let title = format!("tasks stall on memory {:.0}% of the time{name}, all of them {:.0}%", stalls.some, stalls.full);
    let finding = context.finding(severity, value, title).agreed(1 + u32::from(stalls.now.full.avg60 > MINUTE));
    let finding = match group {
        Some((_, group)) => {
            let before =
                context.before().cgroups.same(group).and_then(|group| group.memory_pressure).unwrap_or_default();
            totals(finding, &format!("{}/memory.pressure", group.folders.pressure), &before, &stalls.now)
        }
        None => {
            let before = context.before().memory.pressure.known().copied().unwrap_or_default();
            totals(finding, PRESSURE, &before, &stalls.now)
        }
    };
    Ok(vec![blame(context, finding)])
}

fn totals(finding: Finding, path: &str, before: &Pressure, now: &Pressure) -> Finding {
    finding
        .counted(path, "some total", before.some.total_us, now.some.total_us, "us")
        .counted(path, "full total", before.full.total_us, now.full.total_us, "us")
        .read(path, "full avg60", now.full.avg60, "%")
}

/// The group that runs into its limit and the largest in it; without such a group who reads its own pages back, and
/// who has most.
fn blame(context: &RuleContext<'_>, finding: Finding) -> Finding {
    let text = "run fewer things at once";
    match squeezed(context) {
        Some(group) => {
            let used = group.memory_used.known().copied().unwrap_or_default();
            let finding = finding
                .by([culprit::group(group, limit_of(group))])
                .by(culprit::by_memory_among(context.window, &group.members, used))
                .by(held::in_group(group, used));
            raise(context, culprit::end_largest(context.window, finding, used, text), group)
        }
        None => held::blame(context, finding, text),
    }
}

fn limit_of(group: &Group) -> String {
    let used = group.memory_used.known().map_or_else(|| "?".to_owned(), |used| Bytes(*used).to_string());
    match group.memory_max.or(group.memory_high) {
        Some(limit) => format!("{used} of {}", Bytes(limit)),
        None => "no limit of its own".to_owned(),
    }
}

pub(super) fn swapin(context: &RuleContext<'_>) -> Verdict {
    let (pages_in, pages_out) = (growth(context, "pswpin")?, growth(context, "pswpout")?);
    // Coming back once what was swapped out long ago is no fault.
    if pages_out.now <= pages_out.before {
        return Ok(Vec::new());
    }
    let hurts = memory_stalls(context).is_ok_and(|stalls| stalls.now.some.avg60 > MINUTE);
    let Some(severity) = context.judge(pages_in.rate, hurts) else { return Ok(Vec::new()) };
    // Compressing costs little time: as long as tasks do not wait, zram does what it is there for.
    let is_cheap = is_on_zram(context, &pages_in) && memory_stalls(context).is_ok_and(|stalls| stalls.some < HURTS);
    let severity = if is_cheap && !hurts { Severity::Info } else { severity };
    let to = if is_cheap { ", all of it in zram" } else { "" };
    let title = format!("{:.0} pages/s swapped in and {:.0} out{to}", pages_in.rate, pages_out.rate);
    let finding = context.finding(severity, pages_in.rate, title).agreed(2 + u32::from(hurts));
    let finding = read(read(finding, "pswpin", pages_in), "pswpout", pages_out);
    Ok(vec![by_faults(context, finding)])
}

/// Whether the pages came from compressed memory: zram devices read as much as was swapped in.
fn is_on_zram(context: &RuleContext<'_>, pages: &Growth) -> bool {
    const SECTORS_A_PAGE: u64 = 8;
    let sectors = |snapshot: &Snapshot| -> u64 {
        let devices = snapshot.disk.devices.known().into_iter().flatten();
        devices.filter(|device| device.name.starts_with("zram")).map(|device| device.read_sectors).sum()
    };
    let read = sectors(context.now()).saturating_sub(sectors(context.before())) / SECTORS_A_PAGE;
    // Between the readings of the two files a little more may come.
    read > 0 && read >= pages.now.saturating_sub(pages.before) / 10 * 9
}

fn read(finding: Finding, name: &str, growth: Growth) -> Finding {
    finding.counted(VMSTAT, name, growth.before, growth.now, "")
}

/// Where pages come from a disk, first who reads them.
fn by_faults(context: &RuleContext<'_>, finding: Finding) -> Finding {
    let faulting = culprit::by_major_faults(context.window);
    if faulting.is_empty() {
        return blame(context, finding);
    }
    let finding = finding.by(faulting);
    match squeezed(context) {
        Some(group) => raise(context, finding.by([culprit::group(group, limit_of(group))]), group),
        None => finding.fix("run fewer things at once, or give it more memory", None),
    }
}

/// Share of the window in which some task waited for memory or a disk; nothing where neither is known.
fn waiting(context: &RuleContext<'_>) -> Option<f64> {
    let disk = context.before().disk.pressure.known().zip(context.now().disk.pressure.known());
    let disk = disk.map(|(before, now)| stalled(context, before, now).some);
    let memory = memory_stalls(context).ok().map(|stalls| stalls.some);
    match (memory, disk) {
        (None, None) => None,
        (memory, disk) => Some(memory.unwrap_or_default().max(disk.unwrap_or_default())),
    }
}

pub(super) fn majfault(context: &RuleContext<'_>) -> Verdict {
    let faults = growth(context, "pgmajfault")?;
    let is_short = memory_stalls(context).is_ok_and(|stalls| stalls.now.some.avg60 > HURTS);
    let Some(severity) = context.judge(faults.rate, is_short) else { return Ok(Vec::new()) };
    let waits = waiting(context);
    let severity = if waits.is_some_and(|share| share < HURTS) { Severity::Info } else { severity };
    let title = format!("{:.0} page faults/s had to read from disk", faults.rate);
    let finding = read(context.finding(severity, faults.rate, title), "pgmajfault", faults);
    Ok(vec![by_faults(context, finding.agreed(1 + u32::from(waits.is_some_and(|share| share >= HURTS))))])
}

pub(super) fn refault(context: &RuleContext<'_>) -> Verdict {
    // Before Linux 5.9 one counter stood for both.
    let files = growth(context, "workingset_refault_file").or_else(|_| growth(context, "workingset_refault"))?;
    let anonymous = growth(context, "workingset_refault_anon").ok();
    let stalls = memory_stalls(context)?;
    if stalls.some <= 0.0 {
        return Ok(Vec::new());
    }
    let anonymous_rate = anonymous.map_or(0.0, |growth| growth.rate);
    // Files read again and again come back too; only if everybody waits for them they are the programs themselves.
    let rate = anonymous_rate + if stalls.full >= HURTS { files.rate } else { 0.0 };
    let Some(severity) = context.judge(rate, stalls.now.full.avg60 > MINUTE) else { return Ok(Vec::new()) };
    let title = format!("{rate:.0} pages/s come back right after they were dropped");
    let finding = context.finding(severity, rate, title).agreed(2);
    let finding = anonymous.into_iter().fold(finding, |finding, all| read(finding, "workingset_refault_anon", all));
    Ok(vec![by_faults(context, read(finding, "workingset_refault_file", files))])
}

pub(super) fn direct_reclaim(context: &RuleContext<'_>) -> Verdict {
    let zones = |counters: &crate::model::snapshot::Counters| {
        let all = counters.iter().filter(|(name, _)| name.as_str() == "allocstall" || name.starts_with("allocstall_"));
        all.map(|(_, count)| *count).reduce(u64::saturating_add)
    };
    let missing = || Skip(format!("{VMSTAT}: allocstall is not in it"));
    let before = zones(context.before().memory.vmstat.get()?).ok_or_else(missing)?;
    let now = zones(context.now().memory.vmstat.get()?).ok_or_else(missing)?;
    let rate = context.rate(before, now);
    let stalls = memory_stalls(context).ok();
    // A large write now and then makes one wait a moment.
    let hurts = stalls.map_or(rate >= STALLS_ALONE, |stalls| stalls.some >= 1.0);
    if !hurts {
        return Ok(Vec::new());
    }
    let confirmed = stalls.is_some_and(|stalls| stalls.now.some.avg60 > MINUTE);
    let Some(severity) = context.judge(rate, confirmed) else { return Ok(Vec::new()) };
    let title = format!("{rate:.0} allocations/s waited for memory to be freed");
    let finding = context.finding(severity, rate, title).agreed(1 + u32::from(stalls.is_some())).counted(
        VMSTAT,
        "allocstall",
        before,
        now,
        "",
    );
    let finding = match growth(context, "pgscan_direct") {
        Ok(scanned) => read(finding, "pgscan_direct", scanned),
        Err(_) => finding,
    };
    let finding = blame(context, finding);
    // One that is as high already would be lowered. In a container it can only be read.
    let is_low = context.now().memory.watermark_scale.is_none_or(|scale| scale < WATERMARK);
    Ok(vec![match is_low && context.now().system.container.is_none() {
        true => finding.fix(
            "let the kernel begin to free memory earlier",
            Some(context.as_root(&format!("sysctl -w vm.watermark_scale_factor={WATERMARK}"))),
        ),
        false => finding,
    }])
}

pub(super) fn thp(context: &RuleContext<'_>) -> Verdict {
    let stalls = growth(context, "compact_stall")?;
    let is_always = context.now().memory.huge_pages.known().is_some_and(|word| word == "always");
    let fallbacks =
        growth(context, "thp_fault_fallback").ok().filter(|fallbacks| is_always && fallbacks.rate > FALLBACKS);
    let finding = match (context.judge(stalls.rate, false), fallbacks) {
        (Some(severity), _) => {
            let title = format!("{:.0} allocations/s waited for memory to be compacted", stalls.rate);
            context.finding(severity, stalls.rate, title)
        }
        (None, Some(fallbacks)) => {
            let title = format!("{:.0} huge pages/s could not be had", fallbacks.rate);
            read(context.finding(Severity::Info, stalls.rate, title), "thp_fault_fallback", fallbacks)
        }
        (None, None) => return Ok(Vec::new()),
    };
    let file = "/sys/kernel/mm/transparent_hugepage/enabled";
    let command = match context.now().system.uid {
        0 => format!("echo madvise > {file}"),
        _ => format!("echo madvise | sudo tee {file}"),
    };
    let command = context.now().system.container.is_none().then_some(command);
    let finding = read(finding, "compact_stall", stalls).by(held::culprits(context));
    Ok(vec![match is_always {
        true => finding.fix("give huge pages only to programs that ask for them", command),
        false => finding.fix("let the programs that ask for huge pages use ordinary ones", None),
    }])
}

pub(super) fn fragment(context: &RuleContext<'_>) -> Verdict {
    let failed = growth(context, "compact_fail")?;
    let blocks = context.now().memory.free_blocks.get()?;
    let pages = |from: usize| {
        let orders = blocks.iter().enumerate().skip(from);
        orders.fold(0.0, |sum, (order, count)| sum + *count as f64 * 2f64.powi(order.min(64) as i32))
    };
    let percent = 100.0 * pages(LARGE_ORDER) / pages(0).max(1.0);
    if failed.now <= failed.before || percent >= IN_PIECES {
        return Ok(Vec::new());
    }
    let title = format!("{percent:.1}% of free memory is in blocks of 64 KiB or more");
    let finding = read(context.finding(Severity::Info, percent, title), "compact_fail", failed).read(
        "/proc/buddyinfo",
        "in large blocks",
        percent,
        "%",
    );
    let command = match context.now().system.uid {
        0 => "echo 1 > /proc/sys/vm/compact_memory",
        _ => "echo 1 | sudo tee /proc/sys/vm/compact_memory",
    };
    Ok(vec![finding.interrupt("gather it once; it takes some CPU for a moment", Some(command.to_owned()))])
}

#[cfg(test)]
mod tests {
    use crate::doctor::fixture::{Fixture, severities};
    use crate::doctor::memory::texts::{pressure, stat};
    use crate::model::diagnosis::Severity::{Crit, Info, Warn};

    fn vmstat(counters: &[(&str, u64)]) -> String {
        let all = [("nr_free_pages", 3_064_644)].iter().chain(counters);
        all.map(|(name, value)| format!("{name} {value}\n")).collect()
    }

    /// Time that tasks waited in the window of two seconds, some and all, in microseconds.
    fn waited(fixture: &Fixture, some_us: u64, full_us: u64, avg60: f64) {
        fixture.changing(
            "proc/pressure/memory",
            &pressure(1_000_000, 500_000, 0.0),
            &pressure(1_000_000 + some_us, 500_000 + full_us, avg60),
        );
    }

    #[test]
    fn stalls_speak_by_their_share_and_are_critical_if_the_minute_agrees() {
        let fixture = Fixture::new("psi");
        fixture.file("proc/71/stat", &stat(71, "python3", 0, 500_000));
        let cases = [
            (20_000, 10_000, 0.0, vec![]),
            // 11 % some, 4 % full.
            (220_000, 80_000, 0.0, vec![Warn]),
            (200_000, 120_000, 0.0, vec![Warn]),
            // 24 % full: critical only with the minute.
            (900_000, 480_000, 4.0, vec![Warn]),
            (900_000, 480_000, 11.0, vec![Crit]),
        ];
        for (some, full, avg60, expected) in cases {
            waited(&fixture, some, full, avg60);
            assert_eq!(severities(&fixture.ask("mem.psi")), expected, "{some} {full} {avg60}");
        }
        let found = fixture.ask("mem.psi");
        assert_eq!((found[0].value, found[0].confidence), (24.0, 2));
        assert_eq!(found[0].culprits[0].pid, Some(71));
        assert_eq!(found[0].remedies[0].command.as_deref(), Some("kill 71"));
    }

    /// The machine is at ease, one group is not: v2.
    #[test]
    fn stalls_of_one_group_name_it_and_its_largest() {
        let fixture = Fixture::new("psi-group");
        waited(&fixture, 100_000, 0, 0.0);
        let folder = "sys/fs/cgroup/system.slice/ci.service";
        fixture
            .file("proc/self/cgroup", "0::/\n")
            .file("proc/self/mountinfo", "26 22 0:23 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n")
            .file(&format!("{folder}/memory.max"), "1073741824\n")
            .file(&format!("{folder}/memory.current"), "1073000000\n")
            .file(&format!("{folder}/cgroup.procs"), "72\n")
            .changing(&format!("{folder}/memory.pressure"), &pressure(0, 0, 0.0), &pressure(1_600_000, 1_400_000, 0.0))
            .file("proc/71/stat", &stat(71, "large", 0, 900_000))
            .file("proc/72/stat", &stat(72, "cc1plus", 0, 250_000));
        let found = fixture.ask("mem.psi");
        assert_eq!((severities(&found), found[0].value), (vec![Warn], 70.0));
        let who: Vec<&str> = found[0].culprits.iter().map(|culprit| culprit.name.as_str()).collect();
        assert_eq!(who, ["/system.slice/ci.service", "cc1plus"]);
    }

    #[test]
    fn without_pressure_the_rule_is_skipped() {
        let fixture = Fixture::new("psi-none");
        fixture.file("proc/meminfo", "MemTotal: 1 kB\n");
        let question = crate::doctor::question::Question { only: vec!["mem.psi".to_owned()], ..Default::default() };
        let diagnosis = crate::doctor::diagnose::diagnose(&fixture.window(), &question);
        assert!(diagnosis.ok.is_empty());
        assert!(diagnosis.skipped[0].reason.ends_with("proc/pressure/memory: not there"), "{:?}", diagnosis.skipped);
    }

    #[test]
    fn swapping_in_is_a_fault_only_while_swapping_out() {
        let fixture = Fixture::new("swapin");
        fixture.changing("proc/71/stat", &stat(71, "python3", 100, 500), &stat(71, "python3", 9_100, 500)).changing(
            "proc/72/stat",
            &stat(72, "idle", 7_000_000, 500),
            &stat(72, "idle", 7_000_000, 500),
        );
        let cases = [
            // Woken after a day: 8,000 pages in two seconds, none out.
            (8_000, 0, 20.0, vec![]),
            (900, 900, 20.0, vec![]),
            (6_600, 21_400, 0.0, vec![Warn]),
            (16_000, 21_400, 0.0, vec![Warn]),
            (16_000, 21_400, 20.0, vec![Crit]),
        ];
        for (pages_in, pages_out, avg60, expected) in cases {
            waited(&fixture, 0, 0, avg60);
            fixture.changing(
                "proc/vmstat",
                &vmstat(&[("pswpin", 5), ("pswpout", 7)]),
                &vmstat(&[("pswpin", 5 + pages_in), ("pswpout", 7 + pages_out)]),
            );
            assert_eq!(severities(&fixture.ask("mem.swapin")), expected, "{pages_in} {pages_out}");
        }
        let zram = |sectors: u64| format!("253 0 zram0 {sectors} 0 {sectors} 9 5 0 40 9 0 9 9\n");
        for (read, avg60, expected) in [(8 * 15_900, 0.0, Info), (8 * 15_900, 20.0, Crit), (8 * 900, 0.0, Warn)] {
            waited(&fixture, 0, 0, avg60);
            fixture.changing("proc/diskstats", &zram(8), &zram(8 + read));
            assert_eq!(severities(&fixture.ask("mem.swapin")), [expected], "{read} {avg60}");
        }
        waited(&fixture, 0, 0, 20.0);
        let found = fixture.ask("mem.swapin");
        assert_eq!(found[0].culprits.len(), 1);
        assert_eq!(
            (found[0].culprits[0].pid, found[0].culprits[0].what.as_str()),
            (Some(71), "4500 faults/s from disk")
        );
    }

    #[test]
    fn faults_from_disk_warn_where_tasks_wait() {
        let fixture = Fixture::new("majfault");
        fixture.changing("proc/71/stat", &stat(71, "python3", 0, 500), &stat(71, "python3", 12_000, 500));
        let cases = [
            (400, 500_000, 0.0, vec![]),
            // A program that starts: much, but nobody waits.
            (12_160, 20_000, 0.0, vec![Info]),
            (12_160, 500_000, 0.0, vec![Warn]),
            (12_160, 500_000, 6.0, vec![Crit]),
        ];
        for (faults, waited_us, avg60, expected) in cases {
            waited(&fixture, waited_us, 0, avg60);
            fixture.changing(
                "proc/vmstat",
                &vmstat(&[("pgmajfault", 57_591)]),
                &vmstat(&[("pgmajfault", 57_591 + faults)]),
            );
            assert_eq!(severities(&fixture.ask("mem.majfault")), expected, "{faults} {waited_us}");
        }
        assert_eq!(fixture.ask("mem.majfault")[0].culprits[0].name, "python3");
    }

    #[test]
    fn refaults_count_while_tasks_wait() {
        let fixture = Fixture::new("refault");
        let cases = [
            (36_000, 0, 0, 0, vec![]),
            (36_000, 0, 300_000, 0, vec![Warn]),
            // A backup that reads files again: nobody else waits.
            (0, 90_000, 50_000, 0, vec![]),
            (0, 90_000, 400_000, 200_000, vec![Warn]),
        ];
        for (anonymous, files, some, full, expected) in cases {
            waited(&fixture, some, full, 0.0);
            fixture.changing(
                "proc/vmstat",
                &vmstat(&[("workingset_refault_anon", 3), ("workingset_refault_file", 5)]),
                &vmstat(&[("workingset_refault_anon", 3 + anonymous), ("workingset_refault_file", 5 + files)]),
            );
            assert_eq!(severities(&fixture.ask("mem.refault")), expected, "{anonymous} {files} {some}");
        }
    }

    #[test]
    fn allocations_that_free_memory_themselves_warn_where_tasks_wait() {
        let fixture = Fixture::new("reclaim");
        for (count, waited_us, expected) in [(0, 100_000, vec![]), (6, 1_000, vec![]), (6, 100_000, vec![Warn])] {
            waited(&fixture, waited_us, 0, 0.0);
            fixture.changing(
                "proc/vmstat",
                &vmstat(&[
                    ("allocstall_dma32", 1),
                    ("allocstall_normal", 4),
                    ("allocstall_movable", 2),
                    ("pgscan_direct", 0),
                ]),
                &vmstat(&[
                    ("allocstall_dma32", 1),
                    ("allocstall_normal", 4 + count),
                    ("allocstall_movable", 2),
                    ("pgscan_direct", 99),
                ]),
            );
            assert_eq!(severities(&fixture.ask("mem.direct_reclaim")), expected, "{count} {waited_us}");
        }
        waited(&fixture, 900_000, 0, 30.0);
        fixture.changing("proc/vmstat", &vmstat(&[("allocstall", 1)]), &vmstat(&[("allocstall", 900)]));
        assert_eq!(severities(&fixture.ask("mem.direct_reclaim")), [Crit]);
    }

    #[test]
    fn compaction_warns_and_huge_pages_that_cannot_be_had_are_info() {
        let fixture = Fixture::new("thp");
        let counters =
            |stalls: u64, fallbacks: u64| vmstat(&[("compact_stall", stalls), ("thp_fault_fallback", fallbacks)]);
        let cases = [
            ("always [madvise] never\n", 0, 9_000, vec![]),
            ("[always] madvise never\n", 10, 100, vec![]),
            ("[always] madvise never\n", 10, 9_000, vec![Info]),
            ("[always] madvise never\n", 300, 9_000, vec![Warn]),
        ];
        for (enabled, stalls, fallbacks, expected) in cases {
            fixture.file("sys/kernel/mm/transparent_hugepage/enabled", enabled);
            fixture.changing("proc/vmstat", &counters(0, 0), &counters(stalls, fallbacks));
            assert_eq!(severities(&fixture.ask("mem.thp")), expected, "{enabled} {stalls}");
        }
    }

    #[test]
    fn free_memory_in_pieces_is_info_while_compaction_fails() {
        let fixture = Fixture::new("fragment");
        let whole =
            "Node 0, zone   Normal  30574  27856   7903   3034   1629    864   1206   1022    702    633   1136 \n";
        let pieces =
            "Node 0, zone   Normal  90574  57856   7903   3034     29      4      0      0      0      0      0 \n";
        for (blocks, failures, expected) in [(whole, 50, vec![]), (pieces, 0, vec![]), (pieces, 50, vec![Info])] {
            fixture.file("proc/buddyinfo", blocks);
            fixture.changing(
                "proc/vmstat",
                &vmstat(&[("compact_fail", 9)]),
                &vmstat(&[("compact_fail", 9 + failures)]),
            );
            assert_eq!(severities(&fixture.ask("mem.fragment")), expected);
        }
    }
}
