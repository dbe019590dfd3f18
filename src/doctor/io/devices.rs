//! Rules about devices: slow answers, queues, a device that is never idle.

use crate::doctor::culprit;
use crate::doctor::io::mount::mount_of;
use crate::doctor::rule::{Direction, Rule, RuleContext, Skip, Verdict};
use crate::model::diagnosis::{Area, Culprit, Finding, Severity};
use crate::model::snapshot::disk::Device;

/// The rule of slow answers, which `io.queue` asks too.
pub(super) const AWAIT: Rule = Rule {
    id: "io.await",
    area: Area::Io,
    title: "a disk answers slowly",
    source: "/proc/diskstats: requests, time they took, in flight",
    computation: "mean time of a read or a write, the worse; five times the threshold on rotating disks. Only known \
                  where no task waits for it (write-back). No answer at all in the window counts as its length",
    unit: "ms",
    bad: Direction::Above,
    warn: Some(20.0),
    crit: Some(500.0),
    thresholds_from: "awesome-prometheus-alerts: 100 ms; own: a fifth of it where nothing rotates",
    remedy: "look for the process that queues the most, then for errors of the disk or a limit of the host",
    check: slow,
};

/// From these shares of the window on in which a task waited, and all, tasks suffer from a slow disk: where io.psi warns.
/// Below, it is write-back that hardly anybody waits for, as every build makes it. Percent.
const SUFFERS: (f64, f64) = (20.0, 10.0);
/// Rotating disks may be so much slower.
const ROTATING: f64 = 5.0;
/// A device whose latency is this multiple of the threshold is reported even if hardly any task waits for it.
const SAID: f64 = 5.0;
/// Slow answers count if they took this share of the window together: one late request is none.
const WEIGHT_MIN: f64 = 0.05;

/// What a device did in the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates<'a> {
    pub(super) device: &'a Device,
    pub(super) before: Option<&'a Device>,
    /// Requests completed a second.
    pub(super) requests: f64,
    /// Mean time of a read and of a write, ms.
    pub(super) read_ms: f64,
    pub(super) write_ms: f64,
    /// Time that all requests took together, seconds.
    pub(super) waited_s: f64,
    /// Mean number in flight.
    pub(super) queue: f64,
    /// Share of the window with one in flight, percent.
    pub(super) busy: f64,
    /// Requests are in flight and none was answered in the window.
    pub(super) is_silent: bool,
}

impl<'a> Rates<'a> {
    /// The worse of reads and writes.
    pub(super) fn answer_ms(&self) -> f64 {
        self.read_ms.max(self.write_ms)
    }

    /// virtio says that it rotates whatever is behind it.
    pub(super) fn rotates(&self) -> bool {
        let name = self.device.name.as_str();
        self.device.rotational == Some(true)
            && !["vd", "xvd", "loop", "zram", "nbd", "rbd"].iter().any(|start| name.starts_with(start))
    }

    /// Its name, and what is mounted from it.
    pub(super) fn name(&self) -> &'a str {
        self.device.label.as_deref().unwrap_or(&self.device.name)
    }
}

/// All devices. One that is new was never used before.
pub(super) fn rates<'a>(context: &RuleContext<'a>) -> Result<Vec<Rates<'a>>, Skip> {
    let (before, now) = (context.before().disk.devices.get()?, context.now().disk.devices.get()?);
    let seconds = context.window.seconds();
    let rates = |device: &'a Device| {
        let before = before.iter().find(|before| before.name == device.name);
        let zero = Device::default();
        let old = before.unwrap_or(&zero);
        let (reads, writes) = (device.reads.saturating_sub(old.reads), device.writes.saturating_sub(old.writes));
        let (read_ms, write_ms) =
            (device.read_ms.saturating_sub(old.read_ms), device.write_ms.saturating_sub(old.write_ms));
        Rates {
            device,
            before,
            requests: (reads as f64 + writes as f64) / seconds,
            read_ms: read_ms as f64 / (reads.max(1)) as f64,
            write_ms: write_ms as f64 / (writes.max(1)) as f64,
            waited_s: (read_ms as f64 + write_ms as f64) / 1e3,
            queue: device.queue_ms.saturating_sub(old.queue_ms) as f64 / 1e3 / seconds,
            busy: (device.busy_ms.saturating_sub(old.busy_ms) as f64 / 10.0 / seconds).min(100.0),
            is_silent: before.is_some_and(|before| before.in_flight > 0)
                && device.in_flight > 0
                && reads == 0
                && writes == 0,
        }
    };
    Ok(now.iter().filter(|device| !device.name.starts_with("zram")).map(rates).collect())
}

/// Whether tasks wait for disks. Without pressure the looks must tell.
fn suffers(context: &RuleContext<'_>) -> bool {
    stalled(context).map_or_else(
        |_| context.window.activity.tasks.iter().any(|task| task.blocked > 1 && culprit::may_wait_for_disks(task)),
        |(some, full)| some >= SUFFERS.0 || full >= SUFFERS.1,
    )
}

/// All tasks waited for disks over a minute too.
fn lasts(context: &RuleContext<'_>) -> bool {
    context.now().disk.pressure.known().is_some_and(|pressure| pressure.full.avg60 >= 20.0)
}

/// Slow ones, each with the severity its answers have. A device made of a slow one is slow because of it.
fn slow_ones<'a>(context: &RuleContext<'a>) -> Result<Vec<(Rates<'a>, RuleContext<'a>, Severity)>, Skip> {
    let all = rates(context)?;
    let judged = all.iter().filter_map(|rates| {
        let factor = if rates.rotates() { ROTATING } else { 1.0 };
        let context = RuleContext { warn: context.warn.map(|warn| warn * factor), ..*context };
        if rates.is_silent {
            let is_stuck = context.window.activity.tasks.iter().any(|task| task.stuck > 1);
            return context
                .judge(silence_ms(&context), is_stuck || lasts(&context))
                .map(|severity| (*rates, context, severity));
        }
        if rates.waited_s < WEIGHT_MIN * context.window.seconds() {
            return None;
        }
        let severity = context.judge(rates.answer_ms(), lasts(&context))?;
        let is_said = context.warn.is_none_or(|warn| rates.answer_ms() >= SAID * warn);
        match (suffers(&context), is_said) {
            (true, _) => Some((*rates, context, severity)),
            (false, true) => Some((*rates, context, Severity::Info)),
            (false, false) => None,
        }
    });
    let judged: Vec<_> = judged.collect();
    let names: Vec<&str> = judged.iter().map(|(rates, ..)| rates.device.name.as_str()).collect();
    let is_cause = |rates: &Rates<'_>| !rates.device.slaves.iter().any(|slave| names.contains(&slave.as_str()));
    Ok(judged.iter().filter(|(rates, ..)| is_cause(rates)).copied().collect())
}

fn silence_ms(context: &RuleContext<'_>) -> f64 {
    context.window.seconds() * 1e3
}

/// The device, and what is mounted from it.
pub(super) fn culprit_of(context: &RuleContext<'_>, rates: &Rates<'_>) -> Culprit {
    let mount =
        mount_of(context, &rates.device.numbers).map(|mount| format!(" with {}", mount.point)).unwrap_or_default();
    let what = if rates.is_silent {
        format!("no answer, {} in flight{mount}", rates.device.in_flight)
    } else {
        format!("{:.0} requests/s, {:.1} ms each{mount}", rates.requests, rates.answer_ms())
    };
    culprit::thing("device", rates.name(), what)
}

fn proven(finding: Finding, rates: &Rates<'_>) -> Finding {
    let zero = Device::default();
    let (before, now) = (rates.before.unwrap_or(&zero), rates.device);
    let field = |name: &str| format!("{} {name}", now.name);
    let path = "/proc/diskstats";
    if rates.is_silent {
        return finding.counted(path, &field("in flight"), before.in_flight, now.in_flight, "").counted(
            path,
            &field("requests completed"),
            before.reads.saturating_add(before.writes),
            now.reads.saturating_add(now.writes),
            "",
        );
    }
    if rates.read_ms >= rates.write_ms {
        finding.counted(path, &field("reads"), before.reads, now.reads, "").counted(
            path,
            &field("time of reads"),
            before.read_ms,
            now.read_ms,
            "request-ms",
        )
    } else {
        finding.counted(path, &field("writes"), before.writes, now.writes, "").counted(
            path,
            &field("time of writes"),
            before.write_ms,
            now.write_ms,
            "request-ms",
        )
    }
}

/// `io.await`.
pub(super) fn slow(context: &RuleContext<'_>) -> Verdict {
    let say = |(rates, context, severity): (Rates<'_>, RuleContext<'_>, Severity)| {
        let name = rates.name();
        let (value, title) = if rates.is_silent {
            let seconds = context.window.seconds();
            (silence_ms(&context), format!("{name}: no answer in {seconds:.1} s, {} in flight", rates.device.in_flight))
        } else {
            let word = if rates.read_ms >= rates.write_ms { "read" } else { "write" };
            let value = rates.answer_ms();
            let waits = if severity == Severity::Info { ", hardly waited for" } else { "" };
            (value, format!("{name} takes {value:.0} ms for a {word}, {:.1} in flight{waits}", rates.queue))
        };
        let confirmed = severity != Severity::Info;
        let finding = proven(context.finding(severity, value, title), &rates)
            .agreed(1 + u32::from(confirmed) + u32::from(lasts(&context)))
            .by([culprit_of(&context, &rates)])
            .by(culprit::by_io_or_wait(context.window, !rates.is_silent));
        finding.fix(
            "look for errors of the device and for a limit on it, then queue less at once",
            // The name is the kernel's, but a label is anybody's.
            Some(format!(
                "grep -H . /sys/block/{}/{{queue/scheduler,queue/nr_requests,stat}}",
                rates.device.name.replace('/', "!")
            )),
        )
    };
    Ok(slow_ones(context)?.into_iter().map(say).collect())
}

/// `io.queue`.
pub(super) fn queue(context: &RuleContext<'_>) -> Verdict {
    let answers = RuleContext { rule: &AWAIT, warn: AWAIT.warn, crit: AWAIT.crit, ..*context };
    let say = |(rates, _, slow): (Rates<'_>, RuleContext<'_>, Severity)| {
        if rates.is_silent {
            return None;
        }
        let severity = context.judge(rates.queue, lasts(context))?.min(slow);
        let title =
            format!("{:.0} requests in flight at {}, {:.0} ms each", rates.queue, rates.name(), rates.answer_ms());
        let before = rates.before.map_or(0, |before| before.queue_ms);
        let field = format!("{} time weighted by requests in flight", rates.device.name);
        let finding = context
            .finding(severity, rates.queue, title)
            .counted("/proc/diskstats", &field, before, rates.device.queue_ms, "request-ms")
            .agreed(2)
            .by([culprit_of(context, &rates)])
            .by(culprit::by_io_or_wait(context.window, true));
        Some(finding.fix("start fewer things that read or write at once", None))
    };
    Ok(slow_ones(&answers)?.into_iter().filter_map(say).collect())
}

/// `io.util`.
pub(super) fn busy(context: &RuleContext<'_>) -> Verdict {
    let say = |rates: &Rates<'_>| {
        let severity = context.judge(rates.busy, false)?;
        let is_slow = rates.answer_ms() >= 20.0 && rates.queue <= 1.5;
        let hurts = (rates.rotates() || is_slow) && suffers(context);
        let severity = if hurts { severity } else { Severity::Info };
        let (name, busy, answer) = (rates.name(), rates.busy, rates.answer_ms());
        let title = if hurts {
            format!("{name} was busy {busy:.0}% of the time, {answer:.1} ms a request")
        } else {
            format!("{name} was busy {busy:.0}% of the time and answers in {answer:.1} ms: no limit")
        };
        let before = rates.before.map_or(0, |before| before.busy_ms);
        let field = format!("{} time with requests in flight", rates.device.name);
        let finding = context
            .finding(severity, busy, title)
            .counted("/proc/diskstats", &field, before, rates.device.busy_ms, "ms")
            .by([culprit_of(context, rates)])
            .by(culprit::by_io_or_wait(context.window, true));
        Some(if hurts { finding.fix("read and write less at once, or use a faster disk", None) } else { finding })
    };
    Ok(rates(context)?.iter().filter(|rates| !rates.is_silent).filter_map(say).collect())
}

/// Share of the window in which a task (some) and all tasks (full) waited for disks, percent.
pub(super) fn stalled(context: &RuleContext<'_>) -> Result<(f64, f64), Skip> {
    let (before, now) = (context.before().disk.pressure.get()?, context.now().disk.pressure.get()?);
    let share = |before: u64, now: u64| context.share_of_time(before, now);
    Ok((share(before.some.total_us, now.some.total_us), share(before.full.total_us, now.full.total_us)))
}

#[cfg(test)]
mod tests {
    use crate::doctor::fixture::{Fixture, ask, severities};
    use crate::model::diagnosis::Severity::{Crit, Info, Warn};
    use crate::model::snapshot::process::{Activity, Task};

    fn stalls(some: u64) -> String {
        format!("some avg10=0.00 avg60=0.00 avg300=0.00 total={some}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
    }

    fn line(name: &str, writes: u64, write_ms: u64, in_flight: u64, busy: u64, queue: u64) -> String {
        format!(" 8 0 {name} 100 0 800 50 {writes} 0 8000 {write_ms} {in_flight} {busy} {queue} 0 0 0 0 0 0\n")
    }

    /// A disk that made so many writes in the window, which took so long each, while tasks waited for half of it.
    fn fixture(name: &str, writes: u64, each_ms: u64, busy_ms: u64) -> Fixture {
        let fixture = Fixture::new(&format!("device-{name}-{writes}-{each_ms}"));
        let took = writes * each_ms;
        fixture.changing(
            "proc/diskstats",
            &line(name, 100, 70, 0, 90, 120),
            &line(name, 100 + writes, 70 + took, 0, 90 + busy_ms, 120 + took),
        );
        fixture.changing("proc/pressure/io", &stalls(5_000), &stalls(1_005_000));
        fixture
    }

    #[test]
    fn slow_answers_are_a_fault_where_tasks_wait_for_them() {
        assert_eq!(severities(&fixture("vda", 1_000, 1, 1_900).ask("io.await")), []);
        let slow = fixture("vda", 100, 140, 1_900);
        let found = slow.ask("io.await");
        assert_eq!((severities(&found), found[0].value), (vec![Warn], 140.0));
        assert_eq!((found[0].evidence[0].before, found[0].evidence[0].after), (Some(100.0), 200.0));
        // Write-back that nobody waits for.
        slow.changing("proc/pressure/io", &stalls(5_000), &stalls(6_000));
        assert_eq!(severities(&slow.ask("io.await")), [Info]);
        // A single late request is none.
        assert_eq!(severities(&fixture("vda", 1, 80, 80).ask("io.await")), []);
    }

    #[test]
    fn a_rotating_disk_may_take_five_times_as_long() {
        for (name, each_ms, expected) in [("sda", 40, vec![]), ("sda", 140, vec![Warn]), ("vda", 40, vec![Warn])] {
            let fixture = fixture(name, 100, each_ms, 1_900);
            fixture.file(&format!("sys/block/{name}/queue/rotational"), "1\n");
            assert_eq!(severities(&fixture.ask("io.await")), expected, "{name} {each_ms}");
        }
    }

    #[test]
    fn no_answer_at_all_is_the_worst_and_critical_if_a_task_is_stuck() {
        let fixture = Fixture::new("device-silent");
        fixture.file("proc/diskstats", &line("sdb", 100, 70, 3, 90, 120));
        fixture.file("proc/pressure/io", &stalls(0));
        let mut window = fixture.window();
        let found = ask(&window, "io.await");
        assert_eq!((severities(&found), found[0].value), (vec![Warn], 2_000.0));
        let task = Task { pid: 5, tid: 5, blocked: 5, stuck: 4, ..Task::default() };
        window.activity = Activity { looks: 5, tasks: vec![task], is_cut: false, ..Activity::default() };
        assert_eq!(severities(&ask(&window, "io.await")), [Crit]);
        assert_eq!(severities(&ask(&window, "io.queue")), []);
    }

    #[test]
    fn of_devices_on_each_other_the_lowest_is_the_cause() {
        let both = |writes: u64, took: u64| {
            line("sda", writes, took, 0, 90, took)
                + &line("dm-0", writes, took, 0, 90, took).replace(" 8 0 ", " 253 0 ")
        };
        let fixture = Fixture::new("device-mapped");
        fixture.changing("proc/diskstats", &both(100, 70), &both(200, 20_070));
        fixture.changing("proc/pressure/io", &stalls(0), &stalls(1_000_000));
        fixture.file("sys/block/sda/queue/rotational", "0\n").file("sys/block/dm-0/slaves/sda/size", "1\n");
        fixture.file("sys/block/dm-0/dm/name", "vg0-root\n");
        let found = fixture.ask("io.await");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].culprits[0].name, "sda");
    }

    #[test]
    fn a_deep_queue_is_a_fault_only_with_slow_answers() {
        // 22 in flight and 0.4 ms each: the research file's own negative control.
        let fast = Fixture::new("device-deep");
        fast.changing("proc/diskstats", &line("vda", 0, 0, 0, 0, 0), &line("vda", 110_000, 44_000, 22, 2_000, 44_000));
        fast.changing("proc/pressure/io", &stalls(0), &stalls(1_000_000));
        assert_eq!(severities(&fast.ask("io.queue")), []);
        let slow = fixture("vda", 300, 150, 2_000).ask("io.queue");
        assert_eq!((severities(&slow), slow[0].value), (vec![Warn], 22.5));
    }

    #[test]
    fn being_busy_is_a_fault_only_of_what_serves_one_at_a_time() {
        assert_eq!(severities(&fixture("vda", 10_000, 0, 1_000).ask("io.util")), []);
        assert_eq!(severities(&fixture("vda", 20_000, 0, 2_000).ask("io.util")), [Info]);
        let rotating = fixture("sda", 20_000, 0, 2_000);
        rotating.file("sys/block/sda/queue/rotational", "1\n");
        assert_eq!(severities(&rotating.ask("io.util")), [Warn]);
    }
}
