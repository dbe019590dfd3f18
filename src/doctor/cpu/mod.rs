//! Rules about CPUs. That they are busy is what they are for: only that tasks wait for them is a fault, so pressure and
//! the queue judge, and shares of time explain.

use crate::doctor::{Bad, Look, Rule, Skip};
use crate::model::diagnosis::Area;
use crate::model::snapshot::cpu::{Stat, Ticks};

mod crowd;
mod limit;
mod queue;
mod time;

/// The rules.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        id: "cpu.psi",
        area: Area::Cpu,
        title: "tasks wait for a CPU",
        source: "/proc/pressure/cpu some total; /proc/loadavg, counted 23 times in the window",
        computation: "share of the window in which a task was ready and had no CPU, where in three of four counts more than 1.5 tasks a CPU (and two more than there are CPUs) wanted one; critical from 4 tasks a CPU on, if the average of a minute is above 40 % too",
        unit: "%",
        bad: Bad::Above,
        warn: Some(25.0),
        crit: Some(60.0),
        thresholds_from: "own, none is published: a build with one job a CPU reaches 20 to 60 % without suffering, so the share alone says nothing; 1.5 tasks a CPU is what it does not reach",
        remedy: "run fewer jobs at once (make -j, agents), or renice those that can wait",
        check: queue::pressure,
    },
    Rule {
        id: "cpu.runq",
        area: Area::Cpu,
        title: "more tasks want a CPU than there are CPUs",
        source: "/proc/loadavg running tasks, counted 23 times in the window; /proc/stat; /proc/self/status Cpus_allowed_list",
        computation: "tasks running or waiting for a CPU in three of four counts, a CPU; where apm may not use all CPUs, also those seen on its own; at least two more than there are CPUs",
        unit: "",
        bad: Bad::Above,
        warn: Some(2.0),
        crit: Some(4.0),
        thresholds_from: "node_exporter mixin: load of a minute above 2 a CPU; Gregg: run queue longer than the CPUs; critical (own) only with the pressure of a minute",
        remedy: "run as many jobs as there are CPUs",
        check: queue::length,
    },
    Rule {
        id: "cpu.load_d",
        area: Area::Cpu,
        title: "the load is not of the CPUs: tasks hang in uninterruptible sleep",
        source: "/proc/loadavg; state and wchan in /proc/PID/task/TID, looked at 5 times in the window",
        computation: "tasks in state D in every look that did not get further, where the load of a minute is above 2 a CPU, the CPUs have no queue, and tasks in D with those running are half of the load; where they get further it is information",
        unit: "",
        bad: Bad::Above,
        warn: Some(1.0),
        crit: Some(4.0),
        thresholds_from: "own: one task that hangs is one too many; load above 2 a CPU is node_exporter's; critical if the load of five minutes agrees",
        remedy: "find what they wait for (the place in the kernel, the file system or device); more CPU does not help",
        check: queue::load_of_sleepers,
    },
    Rule {
        id: "cpu.sched_delay",
        area: Area::Cpu,
        title: "a process waits for a CPU though CPUs are idle",
        source: "/proc/PID/schedstat, waiting time of the first thread",
        computation: "waiting time over the window; a warning only where the CPUs are less than 90 % busy: then it is pinned, throttled or starved. On a busy machine it is information who waits",
        unit: "%",
        bad: Bad::Above,
        warn: Some(30.0),
        crit: None,
        thresholds_from: "own: on an idle machine it is below 1 %",
        remedy: "look at its affinity (taskset -p), its control group and its nice level",
        check: queue::delay,
    },
    Rule {
        id: "cpu.util",
        area: Area::Cpu,
        title: "the CPUs are busy",
        source: "/proc/stat cpu",
        computation: "share of all CPUs that is not idle and not waiting for I/O; from 90 % on information, never more: cpu.psi and cpu.runq say whether anybody suffers",
        unit: "%",
        bad: Bad::Above,
        warn: None,
        crit: None,
        thresholds_from: "node_exporter mixin: 90 % is information; the specification's 90 %",
        remedy: "none needed while nobody waits",
        check: time::busy,
    },
    Rule {
        id: "cpu.one_core",
        area: Area::Cpu,
        title: "one CPU is full, the others idle",
        source: "/proc/stat cpuN; running tasks with their CPU and Cpus_allowed_list",
        computation: "share of the busiest CPU from 95 % on while all together are below 60 %: information; a warning where two or more tasks queue on it that may run nowhere else",
        unit: "%",
        bad: Bad::Above,
        warn: None,
        crit: None,
        thresholds_from: "Performance Co-Pilot: 95 % of one CPU; the warning is own",
        remedy: "let the program use more threads, or widen its affinity",
        check: time::one_core,
    },
    Rule {
        id: "cpu.sys",
        area: Area::Cpu,
        title: "the kernel takes more CPU than the programs",
        source: "/proc/stat cpu system; /proc/diskstats and /proc/net/dev to see whether I/O explains it",
        computation: "share of all CPUs in the kernel, where it is more than half of what is busy; a warning where also 70 % is busy and neither disks nor network move much",
        unit: "%",
        bad: Bad::Above,
        warn: Some(30.0),
        crit: Some(60.0),
        thresholds_from: "Performance Co-Pilot: kernel time where 70 % is busy; shares are own; critical if tasks waited 40 % of the last minute",
        remedy: "see which system calls it makes: strace -cf -p PID, or apm profile cpu --pid PID",
        check: time::kernel,
    },
    Rule {
        id: "cpu.steal",
        area: Area::Cpu,
        title: "the hypervisor gives the CPUs to others",
        source: "/proc/stat cpu steal",
        computation: "share of all CPUs that was stolen; critical if it is above 10 % since boot too",
        unit: "%",
        bad: Bad::Above,
        warn: Some(10.0),
        crit: Some(25.0),
        thresholds_from: "netdata and awesome-prometheus-alerts: 10 %",
        remedy: "a larger or dedicated instance, another host, or CPU credits",
        check: time::steal,
    },
    Rule {
        id: "cpu.iowait",
        area: Area::Cpu,
        title: "CPUs idle while tasks wait for I/O",
        source: "/proc/stat cpu iowait, with /proc/pressure/io",
        computation: "share of all CPUs, said only where the I/O pressure of the window is above 10 % too: alone it says nothing",
        unit: "%",
        bad: Bad::Above,
        warn: None,
        crit: None,
        thresholds_from: "netdata 40 %, awesome-prometheus-alerts 10 %; measured: 78,000 requests a second move it by nothing, so it is information",
        remedy: "see io.psi",
        check: time::iowait,
    },
    Rule {
        id: "cpu.softirq",
        area: Area::Cpu,
        title: "one CPU handles the interrupts of the network",
        source: "/proc/stat cpuN softirq; /proc/softirqs; /proc/net/softnet_stat",
        computation: "largest share of one CPU in soft interrupts; a warning where packets were dropped or left over, its ksoftirqd runs, or it is above the critical threshold",
        unit: "%",
        bad: Bad::Above,
        warn: Some(30.0),
        crit: Some(70.0),
        thresholds_from: "own; netdata: softnet drops or squeezes above 10 a minute; critical if packets were dropped",
        remedy: "spread them: more queues of the card (ethtool -L), RPS (rps_cpus), or irqbalance",
        check: time::softirq,
    },
    Rule {
        id: "cpu.ctxt",
        area: Area::Cpu,
        title: "the CPUs switch between tasks all the time",
        source: "/proc/stat ctxt; turns in /proc/PID/schedstat",
        computation: "context switches a second and CPU, where the kernel takes 30 % of what is busy or more",
        unit: "1/s",
        bad: Bad::Above,
        warn: Some(50_000.0),
        crit: None,
        thresholds_from: "own: Performance Co-Pilot's 4,000 is of slower times; measured: idle 640, compiling 11,000, a storm 800,000",
        remedy: "fewer threads, larger batches, no busy hand-over between threads",
        check: time::switches,
    },
    Rule {
        id: "cpu.forks",
        area: Area::Cpu,
        title: "processes are started all the time",
        source: "/proc/stat processes",
        computation: "processes and threads started a second and CPU",
        unit: "1/s",
        bad: Bad::Above,
        warn: Some(400.0),
        crit: None,
        thresholds_from: "own: compiling the smallest files starts 115 to 330 a second and CPU, a shell loop round /bin/true 700 and more; from 100 on together with 20 % kernel time it is information",
        remedy: "do it in one process: a builtin of the shell, xargs, a loop in the program",
        check: time::forks,
    },
    Rule {
        id: "cpu.freq",
        area: Area::Cpu,
        title: "the CPUs are slowed down because of heat",
        source: "/sys/devices/system/cpu/cpuN/thermal_throttle; cpufreq",
        computation: "share of the window in which a core was slowed; where the kernel counts no time, any slowing is a warning. Without heat: a busy CPU far below its highest clock is information",
        unit: "%",
        bad: Bad::Above,
        warn: Some(0.0),
        crit: Some(50.0),
        thresholds_from: "Performance Co-Pilot: 50 % of the time; any is a warning; critical if the package says so too",
        remedy: "cooling: fans, dust, power limits; the governor with cpupower frequency-set",
        check: limit::heat,
    },
    Rule {
        id: "cpu.nice",
        area: Area::Cpu,
        title: "a real-time task takes a whole CPU",
        source: "/proc/PID/stat rt_priority, times",
        computation: "CPU time of a process with real-time priority, a CPU; the kernel leaves 5 % to the others",
        unit: "%",
        bad: Bad::Above,
        warn: Some(90.0),
        crit: None,
        thresholds_from: "own: kernel.sched_rt_runtime_us lets it have 95 %",
        remedy: "give it back its normal priority: chrt -o -p 0 PID",
        check: time::realtime,
    },
    Rule {
        id: "cpu.throttle",
        area: Area::Cpu,
        title: "a control group runs into its CPU quota",
        source: "cpu.stat nr_periods, nr_throttled, throttled_usec (v1: throttled_time) of apm's groups, those above, and others with a quota",
        computation: "share of the periods of the window in which it was stopped, where it lost at least 10 % of the window; critical if the pressure of its minute, or its periods since it was made, agree",
        unit: "%",
        bad: Bad::Above,
        warn: Some(25.0),
        crit: Some(50.0),
        thresholds_from: "kubernetes-mixin CPUThrottlingHigh: 25 %, which alone is too noisy (its issue 108), hence the lost time",
        remedy: "raise the quota, or start as many workers as it allows",
        check: limit::throttle,
    },
    Rule {
        id: "cpu.quota_vs_nproc",
        area: Area::Cpu,
        title: "tools see more CPUs than the quota gives",
        source: "cpu.max (v1: cpu.cfs_quota_us) of apm's groups; /proc/self/status Cpus_allowed_list",
        computation: "CPUs that nproc says over CPUs of the quota, rounded up",
        unit: "",
        bad: Bad::Above,
        warn: Some(2.0),
        crit: None,
        thresholds_from: "own, after reports at jest (14555, 8302) and node.js (28762): workers by nproc, time by quota",
        remedy: "set the number of jobs: make -j, MAKEFLAGS, CARGO_BUILD_JOBS, GOMAXPROCS, RAYON_NUM_THREADS",
        check: limit::quota,
    },
];

/// Both readings of /proc/stat. One capture of a machine has no window: nothing that counts time moved.
fn stats<'a>(look: &Look<'a>) -> Result<(&'a Stat, &'a Stat), Skip> {
    let (before, after) = (look.before().cpu.stat.get()?, look.now().cpu.stat.get()?);
    if after.all.sum() <= before.all.sum() {
        return Err(Skip("/proc/stat: no time passed between the two readings".to_owned()));
    }
    Ok((before, after))
}

/// Time spent in the window. Waiting for I/O may go back: it counts as nothing then.
fn spent(before: &Ticks, after: &Ticks) -> Ticks {
    Ticks {
        user: after.user.saturating_sub(before.user),
        nice: after.nice.saturating_sub(before.nice),
        system: after.system.saturating_sub(before.system),
        idle: after.idle.saturating_sub(before.idle),
        iowait: after.iowait.saturating_sub(before.iowait),
        irq: after.irq.saturating_sub(before.irq),
        softirq: after.softirq.saturating_sub(before.softirq),
        steal: after.steal.saturating_sub(before.steal),
    }
}

/// Time spent by each CPU that was online at both ends.
fn each(before: &Stat, after: &Stat) -> Vec<(u32, Ticks)> {
    let find = |cpu: u32| before.each.iter().find(|(number, _)| *number == cpu);
    after.each.iter().filter_map(|(cpu, now)| Some((*cpu, spent(&find(*cpu)?.1, now)))).collect()
}

/// Of a time in percent.
fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// CPUs online, at least one.
fn online(stat: &Stat) -> usize {
    stat.each.len().max(1)
}

/// The pressure of a minute says that tasks wait, too.
fn has_waited_a_minute(look: &Look<'_>) -> bool {
    look.now().cpu.pressure.known().is_some_and(|pressure| pressure.some.avg60 > 40.0)
}
