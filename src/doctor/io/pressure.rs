//! Rules about tasks that wait: for disks in general, and for write-back.

use crate::doctor::culprit;
use crate::doctor::host::cpus_effective;
use crate::doctor::io::devices::{Rates, culprit_of, rates, stalled};
use crate::doctor::io::mount::quoted;
use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::doctor::target;
use crate::model::diagnosis::{Culprit, Finding, Severity};
use crate::model::snapshot::disk::Limit;
use crate::model::unit::Bytes;

/// A device that answers faster is not slow, whatever waits for it, ms.
const FAST_MS: f64 = 5.0;
/// A device explains the waiting if it had requests in flight for this share of it.
const EXPLAINS: f64 = 0.5;
/// Tasks waiting at once for each CPU from which on too much was started.
const CROWD: f64 = 2.0;

/// `io.psi`.
pub(super) fn stalls(context: &RuleContext<'_>) -> Verdict {
    let (some, full) = stalled(context)?;
    let (before, now) = (context.before().disk.pressure.get()?, context.now().disk.pressure.get()?);
    let is_over = context.warn.is_some_and(|warn| some >= warn || full >= warn / 2.0);
    let is_worse = context.crit.is_some_and(|crit| full >= crit && now.full.avg60 >= crit / 2.0);
    if !is_over && !is_worse {
        return Ok(Vec::new());
    }
    let devices = rates(context).unwrap_or_default();
    let busiest = devices.iter().max_by(|a, b| a.busy.total_cmp(&b.busy));
    let is_crowd = crowd(context) >= CROWD * cpus_effective(context.now());
    let limit = limit_of(context);
    let is_calm = !is_crowd && limit.is_none() && busiest.is_some_and(|rates| explains(rates, some));
    let severity = match (is_calm, is_worse) {
        (true, _) => Severity::Info,
        (false, true) => Severity::Crit,
        (false, false) => Severity::Warn,
    };
    let seconds = context.window.seconds();
    let title = if is_calm {
        format!("tasks waited for a fast disk {some:.0}% of {seconds:.1} s: busy, not slow")
    } else {
        format!("tasks waited for disks {some:.0}% of {seconds:.1} s, all of them {full:.0}%")
    };
    let path = "/proc/pressure/io";
    let finding = context
        .finding(severity, some, title)
        .counted(path, "some total", before.some.total_us, now.some.total_us, "us")
        .counted(path, "full total", before.full.total_us, now.full.total_us, "us")
        .read(path, "full avg60", now.full.avg60, "%")
        .agreed(
            1 + u32::from(is_worse)
                + u32::from(is_crowd)
                + u32::from(!context.window.activity.tasks.is_empty() && crowd(context) >= 1.0),
        );
    let is_at_work = busiest.is_some_and(|rates| !rates.is_silent && rates.busy >= EXPLAINS * some);
    let finding = finding.by(culprit::by_io_or_wait(context.window, is_at_work));
    let finding = match devices.iter().find(|rates| rates.is_silent).or(busiest.filter(|rates| rates.busy > 1.0)) {
        Some(rates) => finding.by([culprit_of(context, rates)]),
        None => finding,
    };
    let finding = match limit {
        Some(limit) => held_back(context, finding, limit),
        None => finding,
    };
    Ok(vec![if is_calm { finding } else { remedied(context, finding) }])
}

/// Tasks in uninterruptible sleep at once, on average over the looks.
fn crowd(context: &RuleContext<'_>) -> f64 {
    let activity = &context.window.activity;
    let blocked: u64 = activity
        .tasks
        .iter()
        .filter(|task| culprit::may_wait_for_disks(task))
        .map(|task| u64::from(task.blocked))
        .sum();
    blocked as f64 / f64::from(activity.looks.max(1))
}

/// It is fast, and was at work while tasks waited: they wait for what they asked for, not for a fault. Waiting that no
/// device shows is a limit, a server or a lock.
fn explains(rates: &Rates<'_>, some: f64) -> bool {
    !rates.is_silent && !rates.rotates() && rates.answer_ms() < FAST_MS && rates.busy >= EXPLAINS * some
}

/// The limit on the rate of a task that waited in most of the looks.
fn limit_of<'a>(context: &RuleContext<'a>) -> Option<&'a Limit> {
    let activity = &context.window.activity;
    let waits = |pid: &i32| activity.tasks.iter().any(|task| task.pid == *pid && task.blocked * 2 > activity.looks);
    context.now().disk.limits.iter().find(|limit| limit.pids.iter().any(waits))
}

fn held_back(context: &RuleContext<'_>, finding: Finding, limit: &Limit) -> Finding {
    let command = quoted(&limit.path).map(|path| {
        // 0 is no limit in v1; v2 names each.
        let names = limit.limit.split(' ').filter_map(|each| each.split_once('=')).map(|(name, _)| name);
        let none =
            if path.ends_with("io.max") { names.map(|name| format!(" {name}=max")).collect() } else { " 0".to_owned() };
        context.as_root_shell(&format!("echo {}{none} > {path}", limit.device))
    });
    let command = command.filter(|_| limit.device.bytes().all(|byte| byte.is_ascii_digit() || byte == b':'));
    finding
        .by([culprit::thing("cgroup", &limit.group, format!("limits {} to {}", limit.device, limit.limit))])
        .fix("raise or lift the limit of the control group", command)
}

fn remedied(context: &RuleContext<'_>, finding: Finding) -> Finding {
    let pid = culprit::movers(context.window).iter().find_map(|culprit| culprit.pid);
    let pid = pid.filter(|pid| target::may_be_interrupted(context.window, *pid));
    let pid = pid.filter(|pid| has_classes(context) && others_wait(context, *pid));
    match pid {
        Some(pid) => finding.interrupt(
            "let the process that moves the most go last, or start fewer at once",
            Some(format!("ionice -c idle -p {pid}")),
        ),
        None => finding.fix("start fewer things that read or write at once", None),
    }
}

/// Whether somebody else waits for disks: alone, going last makes nothing better.
fn others_wait(context: &RuleContext<'_>, pid: i32) -> bool {
    let mut tasks = context.window.activity.tasks.iter();
    tasks.any(|task| task.pid != pid && task.blocked > 1 && culprit::may_wait_for_disks(task))
}

/// Whether the scheduler of the busiest device knows classes of priority: `none` and `kyber` do not.
fn has_classes(context: &RuleContext<'_>) -> bool {
    let devices = rates(context).unwrap_or_default();
    let busiest = devices.iter().max_by(|a, b| a.busy.total_cmp(&b.busy));
    let scheduler = busiest.and_then(|rates| rates.device.scheduler.as_deref());
    scheduler.is_some_and(|name| ["bfq", "mq-deadline", "cfq"].contains(&name))
}

/// `fs.dirty`.
pub(super) fn dirty(context: &RuleContext<'_>) -> Verdict {
    let vmstat = context.now().memory.vmstat.get()?;
    let value =
        |name: &str| vmstat.get(name).copied().ok_or_else(|| Skip(format!("/proc/vmstat: {name} is not in it")));
    let limit = value("nr_dirty_threshold")?;
    let pending = value("nr_dirty")?.saturating_add(value("nr_writeback")?);
    let percent = 100.0 * pending as f64 / (limit.max(1)) as f64;
    let is_held = |task: &&crate::model::snapshot::process::Task| {
        task.wchan.as_deref().is_some_and(|wchan| wchan.starts_with("balance_dirty"))
    };
    let mut held: Vec<_> = context.window.activity.tasks.iter().filter(is_held).collect();
    // All who write are held back: those first that are most of the time, then those that write the most.
    let writers = culprit::by_writing(context.window);
    let rank = |pid: i32| writers.iter().position(|writer| writer.pid == Some(pid)).unwrap_or(usize::MAX);
    held.sort_by_key(|task| (std::cmp::Reverse(task.blocked), rank(task.pid), task.pid, task.tid));
    let mut seen = std::collections::HashSet::new();
    held.retain(|task| seen.insert(task.pid));
    // One look may catch a writer in a pause that it hardly notices.
    let is_held = held.iter().any(|task| task.blocked > 1);
    let lasts = context.now().disk.pressure.known().is_some_and(|pressure| pressure.full.avg60 >= 20.0);
    let severity = match (context.judge(percent, is_held && lasts), is_held) {
        (None, false) => return Ok(Vec::new()),
        (Some(_), false) => Severity::Info,
        // Their control group or their disk has a limit of its own.
        (None, true) => Severity::Warn,
        (Some(severity), true) => severity,
    };
    let page = 4096;
    let (pending, limit) = (Bytes(pending.saturating_mul(page)), Bytes(limit.saturating_mul(page)));
    let title = if is_held {
        format!("writers wait: {pending} of {limit} dirty ({percent:.0}%)")
    } else {
        format!("{pending} of {limit} that may be dirty wait for the disk ({percent:.0}%)")
    };
    let seen = |task: &crate::model::snapshot::process::Task| Culprit {
        kind: "process".to_owned(),
        pid: Some(task.pid),
        name: task.name.clone(),
        what: format!("held back in {} of {} looks", task.blocked, context.window.activity.looks),
    };
    let finding = context
        .finding(severity, percent, title)
        .read("/proc/vmstat", "nr_dirty + nr_writeback", pending.0 as f64, "B")
        .read("/proc/vmstat", "nr_dirty_threshold", limit.0 as f64, "B")
        .agreed(1 + u32::from(is_held) + u32::from(lasts))
        .by(held.into_iter().take(culprit::NAMED).map(seen));
    let finding = if finding.culprits.is_empty() { finding.by(writers) } else { finding };
    Ok(vec![finding.fix(
        "write less at once; smaller limits make stalls shorter",
        Some("sysctl vm.dirty_bytes vm.dirty_background_bytes vm.dirty_ratio vm.dirty_background_ratio".to_owned()),
    )])
}

#[cfg(test)]
mod tests {
    use crate::doctor::fixture::{Fixture, ask, severities};
    use crate::model::diagnosis::Severity::{Crit, Info, Warn};
    use crate::model::snapshot::Field;
    use crate::model::snapshot::disk::Limit;
    use crate::model::snapshot::process::{Activity, Io, Process, Task};

    fn stalls(some: u64, full: u64, avg60: &str) -> String {
        format!(
            "some avg10=0.00 avg60={avg60} avg300=0.00 total={some}\nfull avg10=0.00 avg60={avg60} avg300=0.00 total={full}\n"
        )
    }

    /// 1,000 requests before; then so many more, that took so long together and kept the disk busy for so long.
    fn disk(fixture: &Fixture, requests: u64, took_ms: u64, busy_ms: u64) {
        let line = |requests: u64, took: u64, busy: u64| {
            format!(" 254       0 vda 500 0 4000 500 {requests} 0 8000 {took} 0 {busy} {took} 0 0 0 0 0 0\n")
        };
        fixture.changing("proc/diskstats", &line(500, 500, 900), &line(500 + requests, 500 + took_ms, 900 + busy_ms));
    }

    fn blocked(pid: i32, looks: u32) -> Task {
        Task { pid, tid: pid, name: "dd".to_owned(), blocked: looks, ..Task::default() }
    }

    #[test]
    fn waiting_is_a_fault_unless_a_fast_disk_explains_it() {
        let fixture = Fixture::new("io-psi");
        fixture.file("proc/stat", "cpu  1 0 1 1 0 0 0 0 0 0\ncpu0 1 0 1 1 0 0 0 0 0 0\ncpu1 1 0 1 1 0 0 0 0 0 0\nctxt 1\nbtime 1\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n");
        // Five percent is nothing.
        fixture.changing("proc/pressure/io", &stalls(1000, 500, "0.00"), &stalls(101_000, 500, "0.00"));
        disk(&fixture, 10, 10, 10);
        assert_eq!(severities(&fixture.ask("io.psi")), []);
        // 90 %, with a disk that served 8,000 requests in 0.2 ms each meanwhile: busy.
        fixture.changing("proc/pressure/io", &stalls(0, 0, "0.00"), &stalls(1_800_000, 1_500_000, "0.00"));
        disk(&fixture, 8_000, 1_600, 1_900);
        let found = fixture.ask("io.psi");
        assert_eq!((severities(&found), found[0].value), (vec![Info], 90.0));
        // The same with 30 ms each.
        disk(&fixture, 60, 1_800, 1_900);
        assert_eq!(severities(&fixture.ask("io.psi")), [Warn]);
        // The same with no disk at work: a limit, a server, a lock.
        disk(&fixture, 10, 10, 10);
        assert_eq!(severities(&fixture.ask("io.psi")), [Warn]);
        // It has been so for a minute.
        fixture.changing("proc/pressure/io", &stalls(0, 0, "30.00"), &stalls(1_800_000, 1_500_000, "31.00"));
        let found = fixture.ask("io.psi");
        assert_eq!((severities(&found), found[0].confidence), (vec![Crit], 2));
    }

    #[test]
    fn a_crowd_is_a_fault_on_a_fast_disk_too_and_so_is_a_limit() {
        let fixture = Fixture::new("io-crowd");
        fixture.changing("proc/pressure/io", &stalls(0, 0, "0.00"), &stalls(1_800_000, 100_000, "0.00"));
        disk(&fixture, 8_000, 1_600, 1_900);
        let mut window = fixture.window();
        window.activity = Activity { looks: 5, tasks: vec![blocked(7, 5)], is_cut: false, ..Activity::default() };
        assert_eq!(severities(&ask(&window, "io.psi")), [Info]);
        window.activity.tasks = vec![blocked(7, 5), blocked(8, 5)];
        let found = ask(&window, "io.psi");
        assert_eq!(severities(&found), [Warn]);
        assert_eq!(found[0].culprits.iter().map(|culprit| culprit.pid).collect::<Vec<_>>(), [Some(7), Some(8), None]);
        window.activity.tasks = vec![blocked(7, 5)];
        let path = "/sys/fs/cgroup/ci/io.max".to_owned();
        let limit = "wbps=1048576 wiops=10".to_owned();
        window.to.disk.limits =
            vec![Limit { group: "/ci".to_owned(), path, device: "254:0".to_owned(), limit, pids: vec![7] }];
        let found = ask(&window, "io.psi");
        assert_eq!(severities(&found), [Warn]);
        let lift = found[0].remedies[0].command.as_deref();
        assert_eq!(lift, Some("echo 254:0 wbps=max wiops=max > /sys/fs/cgroup/ci/io.max"));
    }

    /// Regression: `ionice` was advised where the scheduler knows no classes, and where nobody else waited.
    #[test]
    fn to_go_last_is_advised_where_it_helps_somebody() {
        let advised = |scheduler: &str, name: &str, waiting: &[i32]| {
            let fixture = Fixture::new(&format!("io-last-{}-{name}-{}", scheduler.len(), waiting.len()));
            fixture.changing("proc/pressure/io", &stalls(0, 0, "0.00"), &stalls(1_800_000, 100_000, "0.00"));
            fixture.file("sys/block/vda/queue/scheduler", scheduler);
            disk(&fixture, 60, 1_800, 1_900);
            let mut window = fixture.window();
            window.activity = Activity {
                looks: 5,
                tasks: waiting.iter().map(|pid| blocked(*pid, 5)).collect(),
                ..Activity::default()
            };
            let process = |written: u64| Process {
                pid: 7,
                parent: 40,
                name: name.to_owned(),
                io: Some(Io { read: 0, written }),
                ..Process::default()
            };
            window.from.processes = Field::Known(vec![process(0)]);
            window.to.processes = Field::Known(vec![process(1 << 30)]);
            ask(&window, "io.psi")[0].remedies[0].command.clone()
        };
        let (bfq, none) = ("none mq-deadline [bfq]\n", "[none] mq-deadline\n");
        assert_eq!(advised(bfq, "cp", &[7, 8]).as_deref(), Some("ionice -c idle -p 7"));
        assert_eq!(advised(none, "cp", &[7, 8]), None);
        assert_eq!(advised(bfq, "cp", &[7]), None);
        assert_eq!(advised(bfq, "mysqld", &[7, 8]), None);
    }

    #[test]
    fn writers_that_are_held_back_are_a_fault_and_dirty_pages_are_not() {
        let vmstat = |dirty: u64| {
            format!(
                "nr_dirty {dirty}\nnr_writeback 1000\nnr_dirty_threshold 100000\nnr_dirty_background_threshold 50000\n"
            )
        };
        let fixture = Fixture::new("io-dirty");
        // Most of the background limit: somebody wrote a file.
        fixture.file("proc/vmstat", &vmstat(40_000));
        assert_eq!(severities(&fixture.ask("fs.dirty")), []);
        fixture.file("proc/vmstat", &vmstat(79_000));
        assert_eq!(severities(&fixture.ask("fs.dirty")), [Info]);
        let mut window = fixture.window();
        let writer = Task { wchan: Some("balance_dirty_pages".to_owned()), ..blocked(9, 3) };
        window.activity = Activity { looks: 5, tasks: vec![writer], is_cut: false, ..Activity::default() };
        let found = ask(&window, "fs.dirty");
        assert_eq!((severities(&found), found[0].value, found[0].culprits[0].pid), (vec![Warn], 80.0, Some(9)));
    }
}
