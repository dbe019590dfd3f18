//! Rules about tasks that wait: for disks in general, and for write-back.

use crate::doctor::io::devices::{Rates, culprit_of, rates};
use crate::doctor::io::{quoted, stalled};
use crate::doctor::{Look, Skip, Verdict, cpus_effective, culprit};
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
pub(super) fn stalls(look: &Look<'_>) -> Verdict {
    let (some, full) = stalled(look)?;
    let (before, now) = (look.before().disk.pressure.get()?, look.now().disk.pressure.get()?);
    let is_over = look.warn.is_some_and(|warn| some >= warn || full >= warn / 2.0);
    let is_worse = look.crit.is_some_and(|crit| full >= crit && now.full.avg60 >= crit / 2.0);
    if !is_over && !is_worse {
        return Ok(Vec::new());
    }
    let devices = rates(look).unwrap_or_default();
    let busiest = devices.iter().max_by(|a, b| a.busy.total_cmp(&b.busy));
    let is_crowd = crowd(look) >= CROWD * cpus_effective(look.now());
    let is_calm = !is_crowd && busiest.is_some_and(|rates| explains(rates, some));
    let severity = match (is_calm, is_worse) {
        (true, _) => Severity::Info,
        (false, true) => Severity::Crit,
        (false, false) => Severity::Warn,
    };
    let seconds = look.window.seconds();
    let title = if is_calm {
        format!("tasks waited for a fast disk {some:.0}% of {seconds:.1} s: busy, not slow")
    } else {
        format!("tasks waited for disks {some:.0}% of {seconds:.1} s, all of them {full:.0}%")
    };
    let path = "/proc/pressure/io";
    let finding = look
        .finding(severity, some, title)
        .counted(path, "some total", before.some.total_us, now.some.total_us, "us")
        .counted(path, "full total", before.full.total_us, now.full.total_us, "us")
        .read(path, "full avg60", now.full.avg60, "%")
        .agreed(
            1 + u32::from(is_worse)
                + u32::from(is_crowd)
                + u32::from(!look.window.activity.tasks.is_empty() && crowd(look) >= 1.0),
        );
    let is_at_work = busiest.is_some_and(|rates| !rates.is_silent && rates.busy >= EXPLAINS * some);
    let finding = finding.by(culprit::by_io_or_wait(look.window, is_at_work));
    let finding = match devices.iter().find(|rates| rates.is_silent).or(busiest.filter(|rates| rates.busy > 1.0)) {
        Some(rates) => finding.by([culprit_of(look, rates)]),
        None => finding,
    };
    let finding = match limit_of(look, &finding.culprits) {
        Some(limit) => held_back(finding, limit),
        None => finding,
    };
    Ok(vec![if is_calm { finding } else { remedied(look, finding) }])
}

/// Tasks in uninterruptible sleep at once, on average over the looks.
fn crowd(look: &Look<'_>) -> f64 {
    let activity = &look.window.activity;
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

/// The limit on the rate of one of those that wait.
fn limit_of<'a>(look: &Look<'a>, culprits: &[Culprit]) -> Option<&'a Limit> {
    let waiting = look.window.activity.tasks.iter().filter(|task| task.blocked > 1).map(|task| task.pid);
    let pids: Vec<i32> = culprits.iter().filter_map(|culprit| culprit.pid).chain(waiting).collect();
    look.now().disk.limits.iter().find(|limit| limit.pids.iter().any(|pid| pids.contains(pid)))
}

fn held_back(finding: Finding, limit: &Limit) -> Finding {
    let command = quoted(&limit.path).map(|path| {
        // 0 is no limit in v1; v2 names each.
        let names = limit.limit.split(' ').filter_map(|each| each.split_once('=')).map(|(name, _)| name);
        let none =
            if path.ends_with("io.max") { names.map(|name| format!(" {name}=max")).collect() } else { " 0".to_owned() };
        format!("echo {}{none} > {path}", limit.device)
    });
    let command = command.filter(|_| limit.device.bytes().all(|byte| byte.is_ascii_digit() || byte == b':'));
    finding
        .by([culprit::thing("cgroup", &limit.group, format!("limits {} to {}", limit.device, limit.limit))])
        .fix("raise or lift the limit of the control group", command)
}

fn remedied(look: &Look<'_>, finding: Finding) -> Finding {
    let pid = culprit::movers(look.window).iter().find_map(|culprit| culprit.pid).filter(|pid| *pid > 1);
    let command = pid.map(|pid| format!("ionice -c idle -p {pid}"));
    finding.fix("let the process that moves the most go last, or start fewer at once", command)
}

/// `fs.dirty`.
pub(super) fn dirty(look: &Look<'_>) -> Verdict {
    let vmstat = look.now().memory.vmstat.get()?;
    let value =
        |name: &str| vmstat.get(name).copied().ok_or_else(|| Skip(format!("/proc/vmstat: {name} is not in it")));
    let limit = value("nr_dirty_threshold")?;
    let pending = value("nr_dirty")?.saturating_add(value("nr_writeback")?);
    let percent = 100.0 * pending as f64 / (limit.max(1)) as f64;
    let is_held = |task: &&crate::model::snapshot::process::Task| {
        task.wchan.as_deref().is_some_and(|wchan| wchan.starts_with("balance_dirty"))
    };
    let mut held: Vec<_> = look.window.activity.tasks.iter().filter(is_held).collect();
    held.sort_by_key(|task| (std::cmp::Reverse(task.blocked), task.pid, task.tid));
    // One look may catch a writer in a pause that it hardly notices.
    let is_held = held.iter().any(|task| task.blocked > 1);
    let lasts = look.now().disk.pressure.known().is_some_and(|pressure| pressure.full.avg60 >= 20.0);
    let severity = match (look.judge(percent, is_held && lasts), is_held) {
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
        what: format!("held back in {} of {} looks", task.blocked, look.window.activity.looks),
    };
    let finding = look
        .finding(severity, percent, title)
        .read("/proc/vmstat", "nr_dirty + nr_writeback", pending.0 as f64, "B")
        .read("/proc/vmstat", "nr_dirty_threshold", limit.0 as f64, "B")
        .agreed(1 + u32::from(is_held) + u32::from(lasts))
        .by(held.into_iter().take(culprit::NAMED).map(seen));
    let finding = if finding.culprits.is_empty() { finding.by(culprit::by_writing(look.window)) } else { finding };
    Ok(vec![finding.fix(
        "write less at once; smaller limits make stalls shorter",
        Some("sysctl vm.dirty_bytes vm.dirty_background_bytes vm.dirty_ratio vm.dirty_background_ratio".to_owned()),
    )])
}
