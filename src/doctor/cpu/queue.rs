//! Whether tasks wait for a CPU: pressure, the queue, who waits; and a load that is not of the CPUs.

use crate::doctor::cpu::crowd::{self, By, crowds};
use crate::doctor::cpu::limit;
use crate::doctor::cpu::ticks::{online, percent, spent, stats};
use crate::doctor::culprit::{self, Earlier, KERNEL};
use crate::doctor::host::cpus_effective;
use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::model::diagnosis::{Finding, Severity};
use crate::model::snapshot::Snapshot;
use crate::model::snapshot::process::{Process, Task};

/// Tasks a CPU from which on pressure is a fault; a build with one job a CPU stays below.
const CROWDED: f64 = 1.5;
/// Tasks a CPU from which on it is critical.
const OVERRUN: f64 = 4.0;
/// So many tasks more than CPUs there must be: on a machine with one or two CPUs a single other process is no crowd.
const SPARE: f64 = 2.0;
/// A window below this many seconds cannot tell a burst from a state: the average of ten seconds must agree.
const SHORT: f64 = 1.5;
const SHORT_AVG10: f64 = 10.0;
/// Counts of the queue below which the two snapshots have to do.
const COUNTS_MIN: usize = 4;
/// A load of a minute above this, a CPU, is high.
const LOAD: f64 = 2.0;
/// Times a task that hangs may have run in the window: signals wake it, it sleeps on.
const TURNS_STUCK: u64 = 3;
/// Looks that tell sleeping on from sleeping again.
const LOOKS_MIN: u32 = 4;
/// Busy CPUs, percent, from which on waiting has nothing strange.
const FULL: f64 = 90.0;

/// How many tasks want a CPU.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Queue {
    /// In three of four counts so many or more: a burst of half the window does not show.
    steady: f64,
    cpus: f64,
}

impl Queue {
    fn per_cpu(self) -> f64 {
        self.steady / self.cpus
    }

    fn has_crowd(self) -> bool {
        self.steady >= self.cpus + SPARE
    }
}

/// The queue of the machine.
fn queue(context: &RuleContext<'_>) -> Result<Queue, Skip> {
    let stat = context.now().cpu.stat.get()?;
    let mut counts = context.window.activity.runnable.clone();
    let steady = if counts.len() >= COUNTS_MIN {
        counts.sort_unstable();
        f64::from(counts[counts.len() / 4])
    } else {
        // Who read the files ran too.
        let before = context.before().cpu.stat.get()?.running;
        before.min(stat.running).saturating_sub(1) as f64
    };
    Ok(Queue { steady, cpus: online(stat) as f64 })
}

/// The queue of the CPUs apm may use, where those are not all: the others may be idle and do not help.
fn own_queue(context: &RuleContext<'_>) -> Option<Queue> {
    let cpus = context.now().cpu.allowed.known()?;
    if cpus.len() >= online(context.now().cpu.stat.known()?) || context.window.activity.looks == 0 {
        return None;
    }
    let here = |task: &&Task| cpus.contains(&task.processor) && task.pid != context.window.observer;
    let running: u32 = context.window.activity.tasks.iter().filter(here).map(|task| task.running).sum();
    Some(Queue { steady: f64::from(running) / f64::from(context.window.activity.looks), cpus: cpus.len() as f64 })
}

/// The worse of both.
fn worst_queue(context: &RuleContext<'_>) -> Result<Queue, Skip> {
    let all = queue(context)?;
    Ok(own_queue(context).filter(|own| own.has_crowd() && own.per_cpu() > all.per_cpu()).unwrap_or(all))
}

/// Tasks that want a CPU and yield to all others, on average.
fn yielding(context: &RuleContext<'_>) -> f64 {
    let activity = &context.window.activity;
    let running: u32 = activity.tasks.iter().filter(|task| task.nice >= crowd::NICE).map(|task| task.running).sum();
    f64::from(running) / f64::from(activity.looks.max(1))
}

/// A crowd only of such is what nice levels are for.
fn is_yielding(context: &RuleContext<'_>, queue: Queue) -> bool {
    queue.steady - yielding(context) < queue.cpus + 1.0
}

/// Share of the window in which a task waited, percent. One capture of a machine has the kernel's own average.
fn waited(context: &RuleContext<'_>) -> Result<f64, Skip> {
    let (before, after) = (context.before().cpu.pressure.get()?, context.now().cpu.pressure.get()?);
    if stats(context).is_err() {
        return Ok(after.some.avg10);
    }
    Ok(context.share_of_time(before.some.total_us, after.some.total_us))
}

/// A short window is believed where the average of ten seconds agrees, or cannot be seen.
fn is_burst(context: &RuleContext<'_>) -> bool {
    context.window.seconds() < SHORT
        && context.now().cpu.pressure.known().is_some_and(|pressure| pressure.some.avg10 < SHORT_AVG10)
}

pub(super) fn pressure(context: &RuleContext<'_>) -> Verdict {
    let share = waited(context)?;
    let queue = worst_queue(context)?;
    let has_minute = has_waited_a_minute(context);
    let is_crowded = queue.has_crowd() && queue.per_cpu() > CROWDED && !is_burst(context);
    // Two builds at once make everybody wait for a minute and are no catastrophe.
    let confirmed = has_minute && queue.per_cpu() >= OVERRUN;
    let Some(severity) = context.judge(share, confirmed).filter(|_| is_crowded) else { return Ok(Vec::new()) };
    let is_yielding = is_yielding(context, queue);
    let severity = if is_yielding { Severity::Info } else { severity };
    let nice = if is_yielding { ", those that wait are nice" } else { "" };
    let title =
        format!("a task waited {share:.0}% of the time; {:.0} or more wanted {}{nice}", queue.steady, cpus(queue.cpus));
    let (before, after) = (context.before().cpu.pressure.get()?.some, context.now().cpu.pressure.get()?.some);
    let finding = context
        .finding(severity, share, title)
        .counted("/proc/pressure/cpu", "some total", before.total_us, after.total_us, "us")
        .read("/proc/pressure/cpu", "some avg60", after.avg60, "%")
        .read("/proc/loadavg", "running tasks, in 3 of 4 counts at least", queue.steady, "")
        .agreed(2 + u32::from(has_minute));
    Ok(vec![with_crowds(context, finding, is_yielding)])
}

pub(super) fn length(context: &RuleContext<'_>) -> Verdict {
    let queue = worst_queue(context)?;
    let has_minute = has_waited_a_minute(context);
    let judged = context.judge(queue.per_cpu(), has_minute).filter(|_| queue.has_crowd() && !is_burst(context));
    let Some(severity) = judged else { return Ok(Vec::new()) };
    let is_yielding = is_yielding(context, queue);
    let severity = if is_yielding { Severity::Info } else { severity };
    let nice = if is_yielding { ", most of them nice" } else { "" };
    let title =
        format!("{:.0} or more tasks want {} ({:.1} a CPU){nice}", queue.steady, cpus(queue.cpus), queue.per_cpu());
    let mut finding = context
        .finding(severity, queue.per_cpu(), title)
        .read("/proc/loadavg", "running tasks, in 3 of 4 counts at least", queue.steady, "")
        .read("/proc/stat", "cpus", queue.cpus, "");
    if let Some([one, ..]) = context.now().cpu.load.known() {
        finding = finding.read("/proc/loadavg", "load of 1 minute", *one, "");
    }
    let has_pressure = waited(context).is_ok_and(|share| share > 25.0);
    let finding = finding.agreed(1 + u32::from(has_pressure) + u32::from(has_minute));
    Ok(vec![with_crowds(context, finding, is_yielding)])
}

fn cpus(count: f64) -> String {
    if count == 1.0 { "1 CPU".to_owned() } else { format!("{count:.0} CPUs") }
}

/// Culprits and remedies of a queue. One of tasks that yield to all others is as it was meant.
fn with_crowds(context: &RuleContext<'_>, finding: Finding, is_yielding: bool) -> Finding {
    let crowds = crowds(context.window, By::Wanting);
    if is_yielding {
        return finding.by(crowd::culprits(&crowds)).fix("nothing: they yield to everybody else", None);
    }
    let jobs = (cpus_effective(context.now()).floor() as u64).max(1);
    let is_seen = !crowds.is_empty();
    let finding = finding.by(crowd::culprits(&crowds)).fix(
        format!("run at most {jobs} at once; for builds started from here"),
        Some(format!("export MAKEFLAGS=-j{jobs} CARGO_BUILD_JOBS={jobs}")),
    );
    match crowd::renice(context.window, &crowds) {
        Some(command) => finding.interrupt("or let those that can wait yield to others", Some(command)),
        None if !is_seen => finding.fix(crowd::UNSEEN, None),
        None => finding,
    }
}

/// A task hangs: it slept without a break in every look, and its process got no further.
fn hangs(context: &RuleContext<'_>, task: &Task) -> bool {
    if task.blocked < context.window.activity.looks {
        return false;
    }
    let turns = |snapshot: &Snapshot| {
        snapshot.processes.known()?.iter().find(|process| process.pid == task.tid).and_then(|process| process.turns)
    };
    match (turns(context.before()), turns(context.now())) {
        (Some(before), Some(after)) => after.saturating_sub(before) <= TURNS_STUCK,
        // Of other threads than the first nobody counts: being asleep each of several times has to do.
        _ => context.window.activity.looks >= LOOKS_MIN,
    }
}

pub(super) fn load_of_sleepers(context: &RuleContext<'_>) -> Verdict {
    let activity = &context.window.activity;
    if activity.looks == 0 {
        return Err(Skip("tasks were not looked at between the two readings".to_owned()));
    }
    let [one, five, _] = *context.now().cpu.load.get()?;
    let queue = queue(context)?;
    let asleep = activity.tasks.iter().map(|task| f64::from(task.blocked)).sum::<f64>() / f64::from(activity.looks);
    let is_load_of_cpu = queue.per_cpu() > CROWDED || asleep < queue.steady;
    // The load falls slowly: after a burst it is high while nothing sleeps.
    let explains = asleep + queue.steady >= one / 2.0;
    if one <= LOAD * queue.cpus || is_load_of_cpu || !explains {
        return Ok(Vec::new());
    }
    // Threads of drivers and of ZFS sleep so while they idle, for ever: their number says nothing. Where they do hang, the
    // kernel's log tells.
    let processes = context.now().processes.known();
    let is_of_kernel = |task: &Task| {
        let process = processes.and_then(|all| all.iter().find(|process| process.pid == task.pid));
        process.is_some_and(|process| process.parent == KERNEL || process.pid == KERNEL)
    };
    let sleeping: Vec<&Task> = activity.tasks.iter().filter(|task| hangs(context, task)).collect();
    let (threads, hanging): (Vec<&Task>, Vec<&Task>) = sleeping.into_iter().partition(|task| is_of_kernel(task));
    let lasts = five > LOAD * queue.cpus;
    let (severity, what) = match context.judge(hanging.len() as f64, lasts) {
        Some(severity) => (severity, format!("{} of it are tasks that hang", hanging.len())),
        None if threads.len() as f64 >= asleep / 2.0 => {
            (Severity::Info, format!("{} of it are threads of the kernel, which may idle so", threads.len()))
        }
        // Those that read and write are a matter of the disks, not of anything stuck.
        None => (Severity::Info, format!("{asleep:.0} of it are tasks that wait for disks")),
    };
    let finding = context
        .finding(severity, hanging.len() as f64, format!("load {one:.1} on {}, but {what}", cpus(queue.cpus)))
        .read("/proc/loadavg", "load of 1 minute", one, "")
        .read("/proc/PID/task/TID/stat", "tasks in state D, on average", asleep, "")
        .read("/proc/loadavg", "running tasks, in 3 of 4 counts at least", queue.steady, "")
        .agreed(2 + u32::from(lasts))
        .by(culprit::blocked(context.window));
    let first = finding.culprits.first().and_then(|culprit| culprit.pid);
    Ok(vec![finding.fix(
        "see what they wait for; more CPU does not help",
        first.map(|pid| format!("cat /proc/{pid}/wchan; ls -l /proc/{pid}/cwd /proc/{pid}/fd")),
    )])
}

pub(super) fn delay(context: &RuleContext<'_>) -> Verdict {
    let (before, after) = stats(context)?;
    let spent = spent(&before.all, &after.all);
    let busy = percent(spent.busy(), spent.sum());
    let is_full = busy >= FULL;
    context.before().processes.get()?;
    let now = context.now().processes.get()?;
    if !now.iter().any(|process| process.run_delay_ns.is_some()) {
        return Err(Skip("/proc/PID/schedstat: not there".to_owned()));
    }
    let seconds = context.window.seconds();
    let earlier = Earlier::of(context.window);
    let delay = |process: &Process| earlier.get(process)?.run_delay_ns;
    let waited = |process: &Process| {
        // A wait is counted when it ends, with what of it lies before the window.
        Some((100.0 * process.run_delay_ns?.saturating_sub(delay(process)?) as f64 / (seconds * 1e9)).min(100.0))
    };
    // Those that were made nice asked for it.
    let may_wait = |process: &&Process| process.nice <= 0 && process.pid != context.window.observer;
    let mut victims: Vec<(f64, &Process)> =
        now.iter().filter(may_wait).filter_map(|process| Some((waited(process)?, process))).collect();
    victims.retain(|(share, _)| context.judge(*share, false).is_some());
    victims.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.pid.cmp(&b.1.pid)));
    // Members of a group that its quota stops are one matter, all others another.
    let (stopped, others): (Vec<_>, Vec<_>) =
        victims.into_iter().partition(|(_, process)| limit::throttled_group(context, process.pid).is_some());
    let one = |victims: Vec<(f64, &Process)>| waiting(context, &victims, is_full, busy, &delay);
    Ok([stopped, others].into_iter().filter_map(one).collect())
}

/// Those who wait for a CPU, the worst first.
fn waiting(
    context: &RuleContext<'_>,
    victims: &[(f64, &Process)],
    is_full: bool,
    busy: f64,
    delay: &dyn Fn(&Process) -> Option<u64>,
) -> Option<Finding> {
    let (share, worst) = victims.first().copied()?;
    let group = limit::throttled_group(context, worst.pid);
    let severity = if is_full { Severity::Info } else { Severity::Warn };
    let why = if is_full { "" } else { " though CPUs are idle" };
    let count = if victims.len() == 1 { "a process".to_owned() } else { format!("{} processes", victims.len()) };
    let named = victims.iter().take(culprit::NAMED);
    let finding = context
        .finding(severity, share, format!("{count} waited up to {share:.0}% of the time for a CPU{why}"))
        .counted(
            &format!("/proc/{}/schedstat", worst.pid),
            "waited",
            delay(worst).unwrap_or_default(),
            worst.run_delay_ns.unwrap_or_default(),
            "ns",
        )
        .read("/proc/stat", "busy", busy, "%")
        .by(group.map(|group| culprit::group(group, "its quota stops them".to_owned())))
        .by(named.map(|(share, process)| culprit::process(process, format!("waited {share:.0}% of the time"))));
    Some(match (group, is_full) {
        (Some(_), _) => finding.fix("see cpu.throttle: the quota of the group", None),
        (None, true) => finding.fix("they are victims: see cpu.psi and cpu.runq for who runs", None),
        (None, false) => finding.fix(
            "see which CPUs it may use, and whether its control group has a quota",
            Some(format!("taskset -pc {}; cat /proc/{}/cgroup", worst.pid, worst.pid)),
        ),
    })
}

/// The pressure of a minute says that tasks wait, too.
pub(super) fn has_waited_a_minute(context: &RuleContext<'_>) -> bool {
    context.now().cpu.pressure.known().is_some_and(|pressure| pressure.some.avg60 > 40.0)
}

#[cfg(test)]
mod tests {
    use crate::doctor::fixture::{Fixture, ask, severities};
    use crate::model::diagnosis::Severity::{Crit, Info, Warn};
    use crate::model::snapshot::Window;
    use crate::model::snapshot::process::{Process, Task};

    /// Two CPUs, two seconds, as the kernel writes it. `busy` of 200 ticks of each CPU.
    fn stat(at: u64, busy: u64, running: u64) -> String {
        let (user, idle) = (1000 + at * busy, 5000 + at * (200 - busy));
        format!(
            "cpu  {} 0 0 {} 0 0 0 0 0 0\ncpu0 {user} 0 0 {idle} 0 0 0 0 0 0\ncpu1 {user} 0 0 {idle} 0 0 0 0 0 0\nctxt 100\nprocesses 100\nprocs_running {running}\n",
            2 * user,
            2 * idle
        )
    }

    fn pressure(avg10: f64, avg60: f64, total_us: u64) -> String {
        format!(
            "some avg10={avg10:.2} avg60={avg60:.2} avg300=0.00 total={total_us}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
        )
    }

    /// A window in which a task waited `share` percent of the time and so many wanted a CPU in each count.
    fn window(name: &str, share: u64, avg60: f64, runnable: &[u32]) -> Window {
        let fixture = Fixture::new(name);
        fixture
            .changing("proc/stat", &stat(0, 200, 1), &stat(1, 200, 1))
            .changing(
                "proc/pressure/cpu",
                &pressure(20.0, avg60, 1_000_000),
                &pressure(20.0, avg60, 1_000_000 + share * 20_000),
            )
            .file("proc/loadavg", "1.00 1.00 1.00 1/100 999\n");
        let mut window = fixture.window();
        window.activity.runnable = runnable.to_vec();
        window
    }

    fn both(window: &Window) -> [Vec<crate::model::diagnosis::Severity>; 2] {
        ["cpu.psi", "cpu.runq"].map(|rule| severities(&ask(window, rule)))
    }

    #[test]
    fn one_job_a_cpu_is_no_fault_and_eight_are() {
        // Measured on two CPUs: make -j2 with something else going on; then make -j16.
        let calm = window("q1", 53, 12.0, &[2, 2, 3, 2, 2, 3, 4, 2, 2, 2, 5, 2, 3, 2, 2, 2]);
        assert_eq!(both(&calm), [vec![], vec![]]);
        let crowd = window("q2", 98, 12.0, &[16, 15, 16, 17, 16, 14, 16, 12, 16, 16, 15, 16]);
        assert_eq!(both(&crowd), [vec![Warn], vec![Warn]]);
        let found = ask(&crowd, "cpu.runq");
        assert_eq!(found[0].title, "15 or more tasks want 2 CPUs (7.5 a CPU)");
        assert_eq!(found[0].remedies[0].command.as_deref(), Some("export MAKEFLAGS=-j2 CARGO_BUILD_JOBS=2"));
        // After a minute of it the kernel's average agrees.
        assert_eq!(both(&window("q3", 98, 70.0, &[16; 20])), [vec![Crit], vec![Crit]]);
    }

    #[test]
    fn a_burst_of_half_the_window_is_no_fault() {
        let mut counts = vec![1; 12];
        counts.extend([16; 11]);
        assert_eq!(both(&window("q4", 50, 2.0, &counts)), [vec![], vec![]]);
        // In half a second a burst cannot be told from a state: the average of ten seconds decides.
        let mut short = window("q5", 25, 0.0, &[16; 20]);
        short.to.at_us = 500_000;
        assert_eq!(both(&short), [vec![Warn], vec![Warn]]);
        if let crate::model::snapshot::Field::Known(pressure) = &mut short.to.cpu.pressure {
            pressure.some.avg10 = 3.0;
        }
        assert_eq!(both(&short), [vec![], vec![]]);
    }

    #[test]
    fn one_more_process_on_a_small_machine_is_no_crowd() {
        // Three tasks on two CPUs: each waits a third of the time, nobody is ill.
        assert_eq!(both(&window("q6", 90, 80.0, &[3; 20])), [vec![], vec![]]);
        assert_eq!(both(&window("q7", 90, 10.0, &[4; 20])), [vec![Warn], vec![Warn]]);
        // Two builds at once, for minutes.
        assert_eq!(both(&window("q11", 99, 83.0, &[5; 20])), [vec![Warn], vec![Warn]]);
    }

    #[test]
    fn without_counts_the_two_snapshots_do_and_without_pressure_the_queue_does() {
        let fixture = Fixture::new("q8");
        fixture.changing("proc/stat", &stat(0, 200, 12), &stat(1, 200, 18));
        fixture.file("proc/loadavg", "9.00 1.00 1.00 18/100 999\n");
        // Twelve less the one that read.
        assert_eq!(fixture.ask("cpu.runq")[0].value, 5.5);
        fixture.changing("proc/stat", &stat(0, 200, 2), &stat(1, 200, 18));
        assert_eq!(fixture.ask("cpu.runq"), []);
    }

    #[test]
    fn a_machine_captured_once_is_judged_by_the_kernels_own_average() {
        let fixture = Fixture::new("q9");
        fixture.file("proc/stat", &stat(1, 200, 17)).file("proc/pressure/cpu", &pressure(92.0, 88.0, 5));
        assert_eq!(severities(&fixture.ask("cpu.psi")), [Crit]);
        assert_eq!(fixture.ask("cpu.psi")[0].value, 92.0);
    }

    #[test]
    fn a_crowd_on_the_few_cpus_apm_may_use_is_seen() {
        let mut window = window("q10", 99, 10.0, &[9; 20]);
        // Sixteen CPUs, and apm with eight others on two of them.
        if let crate::model::snapshot::Field::Known(stat) = &mut window.to.cpu.stat {
            let one = stat.each[0].1;
            stat.each.extend((2..16).map(|cpu| (cpu, one)));
        }
        window.to.cpu.allowed = crate::model::snapshot::Field::Known(vec![0, 1]);
        assert_eq!(both(&window), [vec![], vec![]]);
        window.activity.looks = 5;
        window.activity.tasks = (0..8)
            .map(|at| Task {
                pid: 100 + at,
                tid: 100 + at,
                processor: at as u32 % 2,
                running: 5,
                name: "job".to_owned(),
                ..Task::default()
            })
            .collect();
        assert_eq!(both(&window), [vec![Warn], vec![Warn]]);
        assert_eq!(ask(&window, "cpu.runq")[0].value, 4.0);
    }

    fn sleepers(name: &str, load: &str, hanging: i32, running: u32) -> Window {
        let fixture = Fixture::new(name);
        fixture.changing("proc/stat", &stat(0, 5, 1), &stat(1, 5, 1)).file("proc/loadavg", load);
        let mut window = fixture.window();
        window.activity.looks = 5;
        window.activity.runnable = vec![running; 20];
        window.activity.tasks = (0..hanging)
            .map(|at| Task {
                pid: 100 + at,
                tid: 100 + at,
                name: "touch".to_owned(),
                blocked: 5,
                wchan: Some("percpu_rwsem_wait".to_owned()),
                ..Task::default()
            })
            .collect();
        window
    }

    #[test]
    fn a_load_of_tasks_that_hang_is_told_from_one_of_the_cpus() {
        let found = ask(&sleepers("d1", "5.10 2.00 1.00 1/100 999\n", 5, 0), "cpu.load_d");
        assert_eq!(severities(&found), [Warn]);
        assert_eq!(found[0].title, "load 5.1 on 2 CPUs, but 5 of it are tasks that hang");
        assert_eq!(found[0].culprits[0].what, "blocked in percpu_rwsem_wait in 5 of 5 looks");
        assert_eq!(severities(&ask(&sleepers("d2", "5.10 4.50 1.00 1/100 999\n", 5, 0), "cpu.load_d")), [Crit]);
        // Disks that are written to are no fault: each runs between its sleeps.
        let mut busy = sleepers("d6", "9.00 9.00 1.00 1/100 999\n", 8, 1);
        for (snapshot, turns) in [(&mut busy.from, 10), (&mut busy.to, 4_000)] {
            let process = |pid| Process { pid, turns: Some(turns), ..Process::default() };
            snapshot.processes = crate::model::snapshot::Field::Known((100..108).map(process).collect());
        }
        assert_eq!(severities(&ask(&busy, "cpu.load_d")), [Info]);
        // Drivers whose threads idle in uninterruptible sleep: the load is high for ever, and nothing is wrong.
        let mut idle = sleepers("d7", "9.10 9.30 9.20 1/100 999\n", 9, 0);
        let thread = |pid| Process { pid, parent: 2, turns: Some(3), ..Process::default() };
        for snapshot in [&mut idle.from, &mut idle.to] {
            snapshot.processes = crate::model::snapshot::Field::Known((100..109).map(thread).collect());
        }
        let found = ask(&idle, "cpu.load_d");
        assert_eq!(severities(&found), [Info]);
        assert_eq!(found[0].title, "load 9.1 on 2 CPUs, but 9 of it are threads of the kernel, which may idle so");
        // A load of the CPUs; the rest of a load that is over; a low load.
        assert_eq!(ask(&sleepers("d3", "9.00 9.00 1.00 1/100 999\n", 1, 9), "cpu.load_d"), []);
        assert_eq!(ask(&sleepers("d4", "9.00 9.00 1.00 1/100 999\n", 1, 0), "cpu.load_d"), []);
        assert_eq!(ask(&sleepers("d5", "1.00 0.50 0.10 1/100 999\n", 2, 0), "cpu.load_d"), []);
    }

    fn waiting(busy: u64, nice: i32, waited_ms: u64) -> Window {
        let fixture = Fixture::new(&format!("w{busy}-{nice}-{waited_ms}"));
        fixture.changing("proc/stat", &stat(0, busy, 1), &stat(1, busy, 1));
        let mut window = fixture.window();
        let process = |delay: u64| Process {
            pid: 77,
            started: 5,
            name: "job".to_owned(),
            nice,
            run_delay_ns: Some(delay),
            ..Process::default()
        };
        window.from.processes = crate::model::snapshot::Field::Known(vec![process(1_000)]);
        window.to.processes = crate::model::snapshot::Field::Known(vec![process(1_000 + waited_ms * 1_000_000)]);
        window
    }

    #[test]
    fn who_waits_while_cpus_are_idle_is_a_fault_and_else_to_know() {
        let found = ask(&waiting(100, 0, 1200), "cpu.sched_delay");
        assert_eq!((severities(&found), found[0].value), (vec![Warn], 60.0));
        assert_eq!(found[0].culprits[0].pid, Some(77));
        assert_eq!(severities(&ask(&waiting(200, 0, 1200), "cpu.sched_delay")), [Info]);
        assert_eq!(ask(&waiting(100, 0, 100), "cpu.sched_delay"), []);
        assert_eq!(ask(&waiting(100, 10, 1200), "cpu.sched_delay"), []);
    }
}
