//! Where the time of the CPUs goes: programs, kernel, interrupts, hypervisor; switches and forks. Most of it explains
//! rather than accuses.

use crate::doctor::cpu::crowd::{self, By, crowds};
use crate::doctor::cpu::queue::has_waited_a_minute;
use crate::doctor::cpu::ticks::{each, online, percent, spent, stats};
use crate::doctor::culprit::{self, Earlier};
use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::doctor::target;
use crate::model::diagnosis::{Culprit, Severity};
use crate::model::snapshot::process::{Process, Task};

/// Busy CPU time, percent, from which on it is reported.
const BUSY: f64 = 90.0;
/// A CPU is full, and the machine is not, percent.
const FULL: f64 = 95.0;
const ROOM: f64 = 60.0;
/// A CPU with this much to do has time for more, percent.
const IDLE: f64 = 50.0;
/// Tasks that queue on a CPU they may not leave.
const PINNED: f64 = 2.0;
/// Processes that one command lets run on all CPUs.
const WIDENED: usize = 8;
/// The kernel is a matter only where so much is busy, percent.
const SYSTEM_BUSY: f64 = 70.0;
/// Disks or network that explain kernel time: requests, bytes and packets a second.
const REQUESTS: f64 = 2_000.0;
const BYTES: f64 = 100e6;
const PACKETS: f64 = 20_000.0;
/// Time waiting for I/O, percent, from which on it is reported if the pressure agrees.
const IOWAIT: f64 = 20.0;
const IO_PRESSURE: f64 = 10.0;
/// Kernel time, percent of what is busy, from which on switches cost something.
const SWITCHES_SYSTEM: f64 = 30.0;
/// Forks a second that are reported where the kernel takes the second of what is busy, percent.
const FORKS: f64 = 100.0;
const FORKS_SYSTEM: f64 = 20.0;
/// The parent of all threads of the kernel.
const KTHREADD: i32 = 2;
/// Stolen since boot, percent, that confirms what the window says.
const STEAL_BOOT: f64 = 10.0;

pub(super) fn busy(context: &RuleContext<'_>) -> Verdict {
    let (before, after) = stats(context)?;
    let time = spent(&before.all, &after.all);
    let share = percent(time.busy(), time.sum());
    let severity = match context.judge(share, has_waited_a_minute(context)) {
        Some(severity) => severity,
        None if share >= BUSY => Severity::Info,
        None => return Ok(Vec::new()),
    };
    let crowds = crowds(context.window, By::Use);
    let finding = context
        .finding(severity, share, format!("{share:.0}% of {} CPUs are busy", online(after)))
        .counted("/proc/stat", "cpu busy", before.all.busy(), after.all.busy(), " ticks")
        .by(crowd::culprits(&crowds))
        .fix("nothing while nobody waits: cpu.psi and cpu.runq say so", None);
    Ok(vec![if crowds.is_empty() { finding.fix(crowd::UNSEEN, None) } else { finding }])
}

pub(super) fn one_core(context: &RuleContext<'_>) -> Verdict {
    let (before, after) = stats(context)?;
    let all = spent(&before.all, &after.all);
    let shares: Vec<(u32, f64)> =
        each(before, after).iter().map(|(cpu, time)| (*cpu, percent(time.busy(), time.sum()))).collect();
    let Some((cpu, share)) = shares.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)) else { return Ok(Vec::new()) };
    if shares.len() < 2 || share < FULL || percent(all.busy(), all.sum()) >= ROOM {
        return Ok(Vec::new());
    }
    let idle: Vec<u32> = shares.iter().filter(|(_, share)| *share < IDLE).map(|(cpu, _)| *cpu).collect();
    let looks = f64::from(context.window.activity.looks.max(1));
    let is_on_it = |task: &&Task| task.processor == cpu && task.running > 0 && task.pid != context.window.observer;
    let mut tasks: Vec<&Task> = context.window.activity.tasks.iter().filter(is_on_it).collect();
    tasks.sort_by_key(|task| (std::cmp::Reverse(task.running), task.pid, task.tid));
    let is_pinned =
        |task: &&&Task| task.allowed.as_deref().is_some_and(|list| !idle.iter().any(|cpu| names(list, *cpu)));
    let pinned = tasks.iter().filter(is_pinned).map(|task| f64::from(task.running)).sum::<f64>() / looks;
    let is_queue = pinned >= PINNED;
    let others = if shares.len() == 2 { "the other" } else { "the others" };
    let rest = (shares.iter().map(|(_, share)| share).sum::<f64>() - share) / (shares.len() - 1) as f64;
    let title = match is_queue {
        true => format!("{pinned:.0} tasks queue on CPU {cpu} and may run nowhere else; {others} {rest:.0}% busy"),
        false => format!("CPU {cpu} is {share:.0}% busy, {others} {rest:.0}%"),
    };
    let severity = context.judge(share, false).unwrap_or(if is_queue { Severity::Warn } else { Severity::Info });
    let find = |stat: &crate::model::snapshot::cpu::Stat| {
        stat.each.iter().find(|(number, _)| *number == cpu).map_or(0, |(_, ticks)| ticks.busy())
    };
    let name = |task: &&Task| Culprit {
        kind: "process".to_owned(),
        pid: Some(task.pid),
        name: task.name.clone(),
        what: format!(
            "ran on it in {} of {looks:.0} looks, may run on CPU {}",
            task.running,
            task.allowed.as_deref().unwrap_or("?")
        ),
    };
    let finding = context
        .finding(severity, share, title)
        .counted("/proc/stat", &format!("cpu{cpu} busy"), find(before), find(after), " ticks")
        .agreed(1 + u32::from(is_queue))
        .by(tasks.iter().take(culprit::NAMED).map(name));
    let is_program = |pid: &i32| target::may_be_interrupted(context.window, *pid);
    let mut pids: Vec<i32> = Vec::new();
    for pid in tasks.iter().filter(is_pinned).map(|task| task.pid).filter(is_program) {
        if pids.len() < WIDENED && !pids.contains(&pid) {
            pids.push(pid);
        }
    }
    let last = shares.iter().map(|(cpu, _)| *cpu).max().unwrap_or_default();
    let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
    Ok(vec![match (is_queue, pids.as_slice()) {
        (true, [pid]) => finding.fix("let it run on all CPUs", Some(format!("taskset -apc 0-{last} {pid}"))),
        (true, [_, ..]) => finding.fix(
            "let them run on all CPUs",
            Some(format!("for pid in {}; do taskset -apc 0-{last} $pid; done", pids.join(" "))),
        ),
        (true, []) => finding.fix("let some of them run on other CPUs", None),
        (false, _) => {
            finding.fix("the program uses one thread: it gets faster by more of them, not by more CPUs", None)
        }
    }])
}

/// A list of CPUs such as `0-3,8` names one.
fn names(list: &str, cpu: u32) -> bool {
    list.split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u32>(), last.trim().parse::<u32>());
        first.is_ok_and(|first| first <= cpu) && last.is_ok_and(|last| cpu <= last)
    })
}

pub(super) fn kernel(context: &RuleContext<'_>) -> Verdict {
    let (before, after) = stats(context)?;
    let time = spent(&before.all, &after.all);
    let share = percent(time.system, time.sum());
    if time.system.saturating_mul(2) <= time.busy() {
        return Ok(Vec::new());
    }
    let Some(severity) = context.judge(share, has_waited_a_minute(context)) else { return Ok(Vec::new()) };
    let cause = transfers(context);
    let is_fault = percent(time.busy(), time.sum()) >= SYSTEM_BUSY && cause.is_none();
    let severity = if is_fault { severity } else { Severity::Info };
    let why = cause.map(|cause| format!(", for {cause}")).unwrap_or_default();
    let title = format!(
        "the kernel takes {share:.0}% of the CPUs, programs {:.0}%{why}",
        percent(time.user + time.nice, time.sum())
    );
    let crowds = crowds(context.window, By::System);
    // Threads of the kernel make no system calls.
    let processes = context.now().processes.known().map_or(&[][..], |all| all.as_slice());
    let is_program = |pid: &i32| *pid > 1 && processes.iter().any(|it| it.pid == *pid && it.parent != KTHREADD);
    let pid = crowds.first().and_then(|crowd| crowd.members.iter().copied().find(|pid| is_program(pid)));
    Ok(vec![
        context
            .finding(severity, share, title)
            .counted("/proc/stat", "cpu system", before.all.system, after.all.system, " ticks")
            .counted("/proc/stat", "cpu busy", before.all.busy(), after.all.busy(), " ticks")
            .by(crowd::culprits(&crowds))
            // Not strace: it stops a program at each call, and makes it many times slower.
            .fix("see where in the kernel it is", pid.map(|pid| format!("apm profile cpu --pid {pid} --duration 5s"))),
    ])
}

/// What moves so much data that kernel time has nothing strange.
fn transfers(context: &RuleContext<'_>) -> Option<&'static str> {
    let sum = |snapshot: &crate::model::snapshot::Snapshot| {
        let devices = snapshot.disk.devices.known().map_or(&[][..], |all| all.as_slice());
        let requests = devices.iter().fold(0, |sum: u64, it| sum.saturating_add(it.reads).saturating_add(it.writes));
        let sectors = devices
            .iter()
            .fold(0, |sum: u64, it| sum.saturating_add(it.read_sectors).saturating_add(it.written_sectors));
        let interfaces = snapshot.net.interfaces.known().map_or(&[][..], |all| all.as_slice());
        let packets =
            interfaces.iter().fold(0, |sum: u64, it| sum.saturating_add(it.rx.packets).saturating_add(it.tx.packets));
        (requests, sectors, packets)
    };
    let (before, after) = (sum(context.before()), sum(context.now()));
    if context.rate(before.0, after.0) >= REQUESTS || context.rate(before.1, after.1) * 512.0 >= BYTES {
        return Some("the disks");
    }
    (context.rate(before.2, after.2) >= PACKETS).then_some("the network")
}

pub(super) fn steal(context: &RuleContext<'_>) -> Verdict {
    let (before, after) = stats(context)?;
    let time = spent(&before.all, &after.all);
    let share = percent(time.steal, time.sum());
    let boot = percent(after.all.steal, after.all.sum());
    let Some(severity) = context.judge(share, boot >= STEAL_BOOT) else { return Ok(Vec::new()) };
    let host = Culprit {
        kind: "peer".to_owned(),
        pid: None,
        name: "the hypervisor".to_owned(),
        what: format!("gave {share:.0}% of the CPUs to others"),
    };
    Ok(vec![
        context
            .finding(severity, share, format!("the hypervisor keeps {share:.0}% of the CPUs from this machine"))
            .counted("/proc/stat", "cpu steal", before.all.steal, after.all.steal, " ticks")
            .read("/proc/stat", "cpu steal since boot", boot, "%")
            .agreed(1 + u32::from(boot >= STEAL_BOOT))
            .by([host])
            .fix("ask for a larger or dedicated instance, or another host; check CPU credits", None),
    ])
}

pub(super) fn iowait(context: &RuleContext<'_>) -> Verdict {
    let (before, after) = stats(context)?;
    let time = spent(&before.all, &after.all);
    let share = percent(time.iowait, time.sum());
    let (was, now) = (context.before().disk.pressure.get()?, context.now().disk.pressure.get()?);
    let waited = context.share_of_time(was.some.total_us, now.some.total_us);
    if waited < IO_PRESSURE {
        return Ok(Vec::new());
    }
    let severity = match context.judge(share, false) {
        Some(severity) => severity,
        None if share >= IOWAIT => Severity::Info,
        None => return Ok(Vec::new()),
    };
    Ok(vec![
        context
            .finding(severity, share, format!("CPUs idled {share:.0}% of the time while tasks waited for I/O"))
            .counted("/proc/stat", "cpu iowait", before.all.iowait, after.all.iowait, " ticks")
            .read("/proc/pressure/io", "some", waited, "%")
            .agreed(2)
            .by(culprit::blocked(context.window))
            .fix("see io.psi; iowait alone says nothing", None),
    ])
}

pub(super) fn softirq(context: &RuleContext<'_>) -> Verdict {
    let (before, after) = stats(context)?;
    let shares = each(before, after).into_iter().map(|(cpu, time)| (cpu, percent(time.softirq, time.sum())));
    let Some((cpu, share)) = shares.max_by(|a, b| a.1.total_cmp(&b.1)) else { return Ok(Vec::new()) };
    let net =
        |snapshot: &crate::model::snapshot::Snapshot| {
            snapshot.cpu.softnet.known().into_iter().flatten().fold((0u64, 0u64), |sum, line| {
                (sum.0.saturating_add(line.dropped), sum.1.saturating_add(line.squeezed))
            })
        };
    let (was, now) = (net(context.before()), net(context.now()));
    let has_dropped = now.0 > was.0;
    let daemon = format!("ksoftirqd/{cpu}");
    let looks = context.window.activity.looks.max(1);
    let runs = context.window.activity.tasks.iter().any(|task| task.name == daemon && task.running * 2 >= looks);
    let Some(severity) = context.judge(share, has_dropped) else { return Ok(Vec::new()) };
    let is_over = context.crit.is_some_and(|crit| share >= crit);
    let severity = if has_dropped || now.1 > was.1 || runs || is_over { severity } else { Severity::Info };
    let top = top_softirq(context, cpu);
    let kind = top.as_ref().map(|(name, rate)| format!(", {rate:.0} {name} a second")).unwrap_or_default();
    let mut finding = context
        .finding(severity, share, format!("CPU {cpu} spends {share:.0}% in soft interrupts{kind}"))
        .counted("/proc/net/softnet_stat", "dropped", was.0, now.0, "")
        .counted("/proc/net/softnet_stat", "squeezed", was.1, now.1, "")
        .agreed(1 + u32::from(has_dropped) + u32::from(runs));
    if let Some((name, rate)) = top {
        finding = finding.read("/proc/softirqs", &format!("{name} on CPU {cpu}"), rate.round(), "/s");
    }
    let busiest = context.now().net.interfaces.known().into_iter().flatten().map(|it| {
        let earlier = context.before().net.interfaces.known().into_iter().flatten().find(|was| was.name == it.name);
        let packets = |it: &crate::model::snapshot::net::Interface| it.rx.packets.saturating_add(it.tx.packets);
        (context.rate(earlier.map_or(0, packets), packets(it)), it)
    });
    let busiest = busiest.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(rate, _)| *rate >= 1.0);
    let busiest = busiest.map(|(rate, it)| Culprit {
        kind: "interface".to_owned(),
        pid: None,
        name: it.name.clone(),
        what: format!("{rate:.0} packets a second"),
    });
    let programs = crowds(context.window, By::System);
    Ok(vec![finding.by(busiest).by(crowd::culprits(&programs)).fix(
        "spread packets over the CPUs: more queues of the card (ethtool -L), RPS, or irqbalance",
        Some("cat /proc/interrupts".to_owned()),
    )])
}

/// The most frequent soft interrupt of a CPU, and how often a second.
fn top_softirq(context: &RuleContext<'_>, cpu: u32) -> Option<(String, f64)> {
    let (before, after) = (context.before().cpu.softirqs.known()?, context.now().cpu.softirqs.known()?);
    let rate = |name: &String, counts: &Vec<u64>| {
        let earlier = before.get(name).and_then(|counts| counts.get(cpu as usize)).copied()?;
        Some((name.clone(), context.rate(earlier, *counts.get(cpu as usize)?)))
    };
    after.iter().filter_map(|(name, counts)| rate(name, counts)).max_by(|a, b| a.1.total_cmp(&b.1))
}

pub(super) fn switches(context: &RuleContext<'_>) -> Verdict {
    let (before, after) = stats(context)?;
    let time = spent(&before.all, &after.all);
    let all = context.rate(before.switches, after.switches);
    let rate = all / online(after) as f64;
    if percent(time.system, time.busy()) < SWITCHES_SYSTEM {
        return Ok(Vec::new());
    }
    let Some(severity) = context.judge(rate, false) else { return Ok(Vec::new()) };
    let seconds = context.window.seconds();
    let turns = |process: &Process| process.turns;
    let mut culprits =
        culprit::took(context.window, turns, |turns| format!("ran {:.0} times a second", turns as f64 / seconds));
    // Only first threads say how often they ran: where those are not it, kernel time tells better.
    if !explains(context, all / 4.0) {
        culprits = crowd::culprits(&crowds(context.window, By::System));
    }
    Ok(vec![
        context
            .finding(severity, rate, format!("{all:.0} switches between tasks a second ({rate:.0} a CPU)"))
            .counted("/proc/stat", "ctxt", before.switches, after.switches, "")
            .counted("/proc/stat", "cpu system", before.all.system, after.all.system, " ticks")
            .agreed(2)
            .by(culprits)
            .fix("fewer threads, larger batches, no busy hand-over between threads", None),
    ])
}

/// First threads together got a CPU so often a second or more.
fn explains(context: &RuleContext<'_>, rate: f64) -> bool {
    let earlier = Earlier::of(context.window);
    let turns = |process: &Process| earlier.growth(process, |process| process.turns);
    let sum = context.now().processes.known().into_iter().flatten().map(turns).fold(0, u64::saturating_add);
    context.rate(0, sum) >= rate
}

pub(super) fn forks(context: &RuleContext<'_>) -> Verdict {
    let (before, after) = stats(context)?;
    let time = spent(&before.all, &after.all);
    let all = context.rate(before.forks, after.forks);
    let rate = all / online(after) as f64;
    let is_told = rate >= FORKS && percent(time.system, time.busy()) >= FORKS_SYSTEM;
    let severity = match context.judge(rate, false) {
        Some(severity) => severity,
        None if is_told => Severity::Info,
        None => return Ok(Vec::new()),
    };
    Ok(vec![
        context
            .finding(severity, rate, format!("{all:.0} processes and threads are started a second ({rate:.0} a CPU)"))
            .counted("/proc/stat", "processes", before.forks, after.forks, "")
            .by(crowd::starters(context.window, after.forks.saturating_sub(before.forks)))
            .fix("do it in one process: a builtin of the shell, xargs, a loop in the program", None),
    ])
}

pub(super) fn realtime(context: &RuleContext<'_>) -> Verdict {
    context.before().processes.get()?;
    let now = context.now().processes.get()?;
    let earlier = Earlier::of(context.window);
    let share = |process: &Process| {
        let ticks = earlier.growth(process, |process| process.cpu_ticks);
        culprit::percent_of_a_cpu(context.window, ticks, process.threads)
    };
    let thread = |process: &Process| {
        let looks = context.window.activity.looks;
        let mut own = context.window.activity.tasks.iter().filter(|task| task.pid == process.pid && task.realtime > 0);
        // Of many threads one may be it, seen in every look.
        looks > 0 && own.any(|task| task.running == looks)
    };
    let mut found = Vec::new();
    // Threads of the kernel with such a priority are meant to have it.
    let is_program = |process: &&Process| process.pid != context.window.observer && process.parent != KTHREADD;
    for process in now.iter().filter(is_program) {
        if process.realtime == 0 && !thread(process) {
            continue;
        }
        let share = share(process);
        let Some(severity) = context.judge(share, false) else { continue };
        let finding = context
            .finding(severity, share, format!("a real-time task takes {share:.0}% of a CPU from all others"))
            .read(&format!("/proc/{}/stat", process.pid), "rt_priority", f64::from(process.realtime), "")
            .by([culprit::process(process, format!("{share:.0}% of a CPU, real-time"))]);
        let may_be = target::may_be_interrupted(context.window, process.pid);
        found.push(finding.interrupt(
            "give all its threads a normal priority",
            may_be.then(|| format!("chrt -a -o -p 0 {}", process.pid)),
        ));
    }
    found.sort_by(|a, b| b.value.total_cmp(&a.value));
    found.truncate(culprit::NAMED);
    if now.is_empty() {
        return Err(Skip("no process can be seen".to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use crate::doctor::fixture::{Fixture, ask, severities};
    use crate::model::diagnosis::Severity::{Crit, Info, Warn};
    use crate::model::snapshot::process::{Process, Task};
    use crate::model::snapshot::{Field, Window};

    /// Two CPUs for two seconds: user, system, idle, iowait, softirq, steal of each; 200 ticks in all.
    fn stat(add: [[u64; 6]; 2], ctxt: u64, forks: u64) -> String {
        let line = |name: &str, [user, system, idle, iowait, softirq, steal]: [u64; 6]| {
            format!(
                "{name} {} 0 {} {} {} 0 {} {} 0 0\n",
                user + 100_000,
                system + 50_000,
                idle + 900_000,
                iowait + 5_000,
                softirq + 600,
                steal + 300
            )
        };
        let all: [u64; 6] = std::array::from_fn(|at| add[0][at] + add[1][at]);
        line("cpu ", all)
            + &line("cpu0", add[0])
            + &line("cpu1", add[1])
            + &format!("ctxt {}\nprocesses {}\nprocs_running 1\n", 1_000_000 + ctxt, 70_000 + forks)
    }

    fn window(name: &str, add: [[u64; 6]; 2], ctxt: u64, forks: u64) -> Window {
        fixture(name, add, ctxt, forks).window()
    }

    fn fixture(name: &str, add: [[u64; 6]; 2], ctxt: u64, forks: u64) -> Fixture {
        let fixture = Fixture::new(name);
        fixture.changing("proc/stat", &stat([[0; 6]; 2], 0, 0), &stat(add, ctxt, forks));
        fixture.file("proc/1/stat", "1 (init) S 0 1 1 0 -1 0 0 0 0 0 1 1 1 1 20 0 1 0 2 99 9 0\n");
        fixture
    }

    const IDLE: [u64; 6] = [2, 1, 197, 0, 0, 0];
    const USER: [u64; 6] = [195, 5, 0, 0, 0, 0];
    const KERNEL: [u64; 6] = [30, 170, 0, 0, 0, 0];

    #[test]
    fn an_idle_and_a_busy_machine_give_no_warning() {
        for (name, add) in [("t1", [IDLE, IDLE]), ("t2", [USER, USER]), ("t3", [USER, IDLE])] {
            // Compiling starts 230 processes a second here and switches 11,000 times.
            let window = window(name, add, 22_000, 460);
            for rule in
                ["cpu.util", "cpu.one_core", "cpu.sys", "cpu.steal", "cpu.softirq", "cpu.ctxt", "cpu.forks", "cpu.nice"]
            {
                assert!(severities(&ask(&window, rule)).iter().all(|it| *it == Info), "{name} {rule}");
            }
        }
        assert_eq!(ask(&window("t4", [IDLE, IDLE], 100, 1), "cpu.util"), []);
        assert_eq!(severities(&ask(&window("t5", [USER, USER], 100, 1), "cpu.util")), [Info]);
    }

    #[test]
    fn one_full_cpu_is_to_know_and_a_queue_on_it_a_fault() {
        let mut window = window("t6", [IDLE, USER], 100, 1);
        let task = |pid: i32, allowed: &str| Task {
            pid,
            tid: pid,
            name: "job".to_owned(),
            processor: 1,
            running: 5,
            allowed: Some(allowed.to_owned()),
            ..Task::default()
        };
        window.activity.looks = 5;
        window.activity.tasks = vec![task(80, "0-1")];
        let found = ask(&window, "cpu.one_core");
        assert_eq!((severities(&found), found[0].title.as_str()), (vec![Info], "CPU 1 is 100% busy, the other 2%"));
        let process = |pid: i32, name: &str| Process { pid, name: name.to_owned(), state: 'R', ..Process::default() };
        window.to.processes = Field::Known(vec![process(80, "job"), process(81, "job"), process(82, "dockerd")]);
        window.activity.tasks = vec![task(80, "1"), task(81, "1"), task(82, "1")];
        let found = ask(&window, "cpu.one_core");
        assert_eq!(severities(&found), [Warn]);
        assert_eq!(found[0].culprits[0].what, "ran on it in 5 of 5 looks, may run on CPU 1");
        assert_eq!(found[0].remedies[0].command.as_deref(), Some("for pid in 80 81; do taskset -apc 0-1 $pid; done"));
        assert_eq!(ask(&super::tests::window("t7", [USER, USER], 100, 1), "cpu.one_core"), []);
    }

    #[test]
    fn kernel_time_is_a_fault_unless_disks_or_network_explain_it() {
        assert_eq!(severities(&ask(&window("t8", [KERNEL, KERNEL], 100, 1), "cpu.sys")), [Warn]);
        // One of two CPUs: not much of the machine.
        assert_eq!(severities(&ask(&window("t9", [KERNEL, IDLE], 100, 1), "cpu.sys")), [Info]);
        assert_eq!(ask(&window("t10", [USER, USER], 100, 1), "cpu.sys"), []);
        let fixture = fixture("t11", [KERNEL, KERNEL], 100, 1);
        let disk = |reads: u64| format!(" 254 0 vda {reads} 0 8000 10 100 0 800 10 0 100 200\n");
        fixture.changing("proc/diskstats", &disk(1000), &disk(100_000));
        let found = fixture.ask("cpu.sys");
        assert_eq!(
            (severities(&found), found[0].title.as_str()),
            (vec![Info], "the kernel takes 85% of the CPUs, programs 15%, for the disks")
        );
    }

    #[test]
    fn stolen_time_speaks_from_ten_percent_on() {
        assert_eq!(ask(&window("t12", [[150, 10, 35, 0, 0, 5]; 2], 100, 1), "cpu.steal"), []);
        let found = ask(&window("t13", [[100, 10, 30, 0, 0, 60]; 2], 100, 1), "cpu.steal");
        assert_eq!((severities(&found), found[0].value), (vec![Warn], 30.0));
        // As bad since boot: critical.
        let long = "cpu  1000 0 0 1000 0 0 0 900 0 0\ncpu0 1000 0 0 1000 0 0 0 900 0 0\n";
        let now = "cpu  1100 0 0 1040 0 0 0 960 0 0\ncpu0 1100 0 0 1040 0 0 0 960 0 0\n";
        assert_eq!(severities(&Fixture::new("t14").changing("proc/stat", long, now).ask("cpu.steal")), [Crit]);
    }

    #[test]
    fn iowait_speaks_only_with_pressure_and_never_warns() {
        let pressure = |us: u64| {
            format!(
                "some avg10=0.00 avg60=0.00 avg300=0.00 total={us}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
            )
        };
        let fixture = fixture("t15", [[5, 5, 30, 160, 0, 0]; 2], 100, 1);
        fixture.file("proc/pressure/io", &pressure(7));
        assert_eq!(fixture.ask("cpu.iowait"), []);
        fixture.changing("proc/pressure/io", &pressure(0), &pressure(1_500_000));
        assert_eq!(severities(&fixture.ask("cpu.iowait")), [Info]);
    }

    #[test]
    fn soft_interrupts_of_one_cpu_are_a_fault_where_they_are_too_much() {
        let softnet = |dropped: u64, squeezed: u64| {
            format!(
                "000079cb {dropped:08x} {squeezed:08x} 00000000 00000000\n00000036 00000000 00000000 00000000 00000000\n"
            )
        };
        let softirqs = |net: u64| {
            format!(
                "                    CPU0       CPU1       \n      NET_RX:  {net}  19822\n       TIMER:  100  100\n"
            )
        };
        let add = [[20, 20, 80, 0, 80, 0], IDLE];
        let fixture = fixture("t16", add, 100, 1);
        fixture.file("proc/net/softnet_stat", &softnet(0, 0)).changing(
            "proc/softirqs",
            &softirqs(16_909),
            &softirqs(316_909),
        );
        let found = fixture.ask("cpu.softirq");
        assert_eq!(
            (severities(&found), found[0].title.as_str()),
            (vec![Info], "CPU 0 spends 40% in soft interrupts, 150000 NET_RX a second")
        );
        fixture.changing("proc/net/softnet_stat", &softnet(0, 1), &softnet(0, 9));
        assert_eq!(severities(&fixture.ask("cpu.softirq")), [Warn]);
        fixture.changing("proc/stat", &stat([[0; 6]; 2], 0, 0), &stat([[10, 20, 10, 0, 160, 0], IDLE], 0, 0));
        assert_eq!(severities(&fixture.ask("cpu.softirq")), [Warn]);
        fixture.changing("proc/net/softnet_stat", &softnet(0, 1), &softnet(77, 9));
        assert_eq!(severities(&fixture.ask("cpu.softirq")), [Crit]);
        assert_eq!(ask(&window("t17", [USER, USER], 100, 1), "cpu.softirq"), []);
    }

    #[test]
    fn switches_and_forks_speak_of_storms() {
        let mut storm = window("t18", [KERNEL, KERNEL], 1_600_000, 3000);
        let process = |pid: i32, turns: u64, children: u64| Process {
            pid,
            started: 4,
            name: format!("p{pid}"),
            turns: Some(turns),
            children_ticks: children,
            ..Process::default()
        };
        storm.from.processes = Field::Known(vec![process(70, 10, 0), process(71, 5, 5)]);
        storm.to.processes = Field::Known(vec![process(70, 900_010, 0), process(71, 6, 205)]);
        let found = ask(&storm, "cpu.ctxt");
        assert_eq!((severities(&found), found[0].value), (vec![Warn], 400_000.0));
        assert_eq!(found[0].culprits[0].what, "ran 450000 times a second");
        let found = ask(&storm, "cpu.forks");
        assert_eq!((severities(&found), found[0].value), (vec![Warn], 750.0));
        assert_eq!(found[0].culprits[0].pid, Some(71));
        // Without kernel time switches cost nothing; 150 forks a second and CPU are to know.
        assert_eq!(ask(&window("t19", [USER, USER], 1_600_000, 100), "cpu.ctxt"), []);
        assert_eq!(severities(&ask(&window("t20", [KERNEL, KERNEL], 100, 600), "cpu.forks")), [Info]);
        assert_eq!(ask(&window("t21", [USER, USER], 100, 600), "cpu.forks"), []);
    }

    #[test]
    fn a_realtime_task_that_takes_a_cpu_is_named() {
        let mut window = window("t22", [USER, IDLE], 100, 1);
        let process = |ticks: u64, realtime: u32| Process {
            pid: 90,
            started: 3,
            name: "loop".to_owned(),
            cpu_ticks: ticks,
            realtime,
            ..Process::default()
        };
        window.from.processes = Field::Known(vec![process(10, 50)]);
        window.to.processes = Field::Known(vec![process(199, 50)]);
        let found = ask(&window, "cpu.nice");
        assert_eq!(
            (severities(&found), found[0].remedies[0].command.as_deref()),
            (vec![Warn], Some("chrt -a -o -p 0 90"))
        );
        window.to.processes = Field::Known(vec![process(199, 0)]);
        assert_eq!(ask(&window, "cpu.nice"), []);
        window.to.processes = Field::Known(vec![process(30, 50)]);
        assert_eq!(ask(&window, "cpu.nice"), []);
    }
}
