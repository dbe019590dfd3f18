//! Why one process, with its threads and children, is not faster: what its threads did in each look, what it waited for,
//! what it took. The answer to `--pid` and `--cgroup`.

use std::collections::BTreeMap;

use crate::doctor::culprit::{self, Earlier};
use crate::doctor::process::locks;
use crate::doctor::rule::{Direction, Rule, RuleContext, Skip, Verdict};
use crate::model::diagnosis::{Area, Severity};
use crate::model::snapshot::cgroup::Group;
use crate::model::snapshot::process::{Process, Task};
use crate::model::unit::Bytes;

/// Share of the window from which on a quota is the answer, percent.
const STOPPED: f64 = 20.0;

/// The rule behind both flags.
pub(crate) const RULES: &[Rule] = &[Rule {
    id: "focus",
    area: Area::Process,
    title: "what a process waits for",
    source: "/proc/PID/task/*/{stat,wchan,syscall}, /proc/PID/{stat,schedstat,io}",
    computation: "states of its threads in looks spread over the window; time on and waiting for a CPU, bytes, faults of \
                  the process and its children",
    unit: "%",
    bad: Direction::Above,
    warn: None,
    crit: None,
    thresholds_from: "none: it tells, it does not judge",
    remedy: "follows from what it waits for",
    check,
}];

/// Places in the kernel that mean something to people.
const PLACES: &[(&str, &str)] = &[
    ("futex", "a lock of its own (or of a thread that waits itself)"),
    ("pipe_read", "data from a pipe: look at the process that writes it"),
    ("anon_pipe_read", "data from a pipe: look at the process that writes it"),
    ("pipe_write", "a pipe nobody empties: look at the process that reads it"),
    ("anon_pipe_write", "a pipe nobody empties: look at the process that reads it"),
    ("do_wait", "the end of a child"),
    ("poll", "any of several events, often the network"),
    ("ep_poll", "any of several events, often the network"),
    ("select", "any of several events, often the network"),
    ("sk_wait", "the network"),
    ("inet_csk", "the network"),
    ("skb_wait", "the network"),
    ("unix_", "a local socket"),
    ("nanosleep", "a sleep it asked for"),
    ("hrtimer", "a sleep it asked for"),
    ("balance_dirty", "the disk: it writes faster than the disk takes it"),
    ("jbd2", "the journal of the file system"),
    ("io_schedule", "the disk"),
    ("folio_wait", "a page from the disk"),
    ("wait_on_page", "a page from the disk"),
    ("blk", "the disk"),
    ("nfs", "a network file system"),
    ("rpc", "a network file system"),
    ("fuse", "a FUSE file system"),
    ("rwsem", "a lock in the kernel that another task holds"),
    ("mutex", "a lock in the kernel that another task holds"),
    ("mem_cgroup", "memory of its control group"),
    ("throttle", "its CPU quota"),
    ("signal", "a signal: it was stopped, or waits for one"),
    ("ptrace", "a debugger"),
];

/// What a place in the kernel means.
fn meaning(wchan: &str) -> Option<&'static str> {
    PLACES.iter().find(|(part, _)| wchan.contains(part)).map(|(_, meaning)| *meaning)
}

fn check(context: &RuleContext<'_>) -> Verdict {
    let window = context.window;
    if window.focus.is_empty() {
        return Err(Skip("asked for with --pid or --cgroup".to_owned()));
    }
    let in_focus = |pid: &i32| window.focus.contains(pid);
    let now: Vec<&Process> = context.now().processes.get()?.iter().filter(|process| in_focus(&process.pid)).collect();
    let Some(first) = now.iter().find(|process| process.pid == window.focus[0]).or(now.first()) else {
        return Err(Skip(format!("process {} has ended", window.focus[0])));
    };
    let earlier = Earlier::of(window);
    let grown = |amount: &dyn Fn(&Process) -> Option<u64>| -> u64 {
        now.iter().map(|process| earlier.growth(process, amount)).fold(0, u64::saturating_add)
    };
    let seconds = window.seconds();
    let cpu = grown(&|process| Some(process.cpu_ticks)) as f64 / seconds;
    // Of several the one that waited most: together they may wait longer than there is time.
    let waited = now.iter().map(|process| earlier.growth(process, |process| process.run_delay_ns)).max();
    let delayed = (waited.unwrap_or_default() as f64 / 1e7 / seconds).min(100.0);
    let faults = grown(&|process| Some(process.major_faults)) as f64 / seconds;
    // Those of other users may not be seen: absent is not zero.
    let io = first.io.map(|_| {
        let read = grown(&|process| process.io.map(|io| io.read)) as f64 / seconds;
        (read, grown(&|process| process.io.map(|io| io.written)) as f64 / seconds)
    });

    let tasks: Vec<&Task> = window.activity.tasks.iter().filter(|task| in_focus(&task.pid)).collect();
    let share = |count: &dyn Fn(&Task) -> u32| -> f64 {
        let all: u32 = tasks.iter().map(|task| task.running + task.blocked + task.sleeping).sum();
        100.0 * f64::from(tasks.iter().map(|task| count(task)).sum::<u32>()) / f64::from(all.max(1))
    };
    let (running, blocked, sleeping) =
        (share(&|task| task.running), share(&|task| task.blocked), share(&|task| task.sleeping));
    let mut places: BTreeMap<&str, u32> = BTreeMap::new();
    for task in &tasks {
        if let Some(wchan) = &task.wchan {
            *places.entry(wchan).or_default() += task.blocked + task.sleeping;
        }
    }
    let most = places.iter().max_by_key(|(_, count)| **count).map(|(place, _)| *place);
    let place =
        most.map(|place| meaning(place).map_or_else(|| format!("in {place}"), |meaning| format!("for {meaning}")));
    // Its own group or one above it.
    let is_above = |path: &str| {
        first
            .cgroup
            .as_deref()
            .is_some_and(|own| own.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    let limited = window.to.cgroups.groups.iter().filter(|group| group.cpu_quota.is_some());
    let throttled = limited
        .filter(|group| is_above(&group.path) || group.members.contains(&first.pid))
        .max_by(|a, b| stopped(context, a).total_cmp(&stopped(context, b)));
    let is_stopped = throttled.is_some_and(|group| stopped(context, group) >= STOPPED);
    let who = format!("{}[{}]", first.name, first.pid);
    // It, or one that it has started.
    let lock = std::iter::once(first).chain(&now).find_map(|it| Some((it, locks::of(window, it.pid)?)));
    // Worst first: what takes a CPU away is certain, where it sleeps is where most looks found it.
    let answer = if first.state == 'T' {
        format!("{who} was stopped by a signal: `kill -CONT {}` lets it go on", first.pid)
    } else if let Some(group) = throttled.filter(|_| is_stopped) {
        let quota = group.cpu_quota.unwrap_or_default();
        let lost = stopped(context, group);
        format!("{who} is stopped {lost:.0}% of the time by the quota of {}: {quota:.2} CPUs", group.path)
    } else if delayed > 30.0 && delayed > cpu / 2.0 {
        format!("{who} waits for a CPU {delayed:.0}% of the time: others want them too")
    } else if cpu >= 80.0 {
        format!("{who} computes: {cpu:.0}% of a CPU; where says `apm profile cpu --pid {}`", first.pid)
    } else if let Some((waiter, lock)) = lock {
        format!("{}[{}] waits for {lock}", waiter.name, waiter.pid)
    } else if blocked >= 20.0 {
        format!(
            "{who} is blocked in the kernel {blocked:.0}% of the looks, {}",
            place.as_deref().unwrap_or("where is hidden")
        )
    } else {
        format!("{who} sleeps, {}", place.as_deref().unwrap_or("where is hidden"))
    };
    let process = format!("/proc/{}", first.pid);
    let mut finding = context
        .finding(Severity::Info, cpu, answer)
        .read(&format!("{process}/stat"), "CPU of it and its children", cpu, "%")
        .read(&format!("{process}/schedstat"), "waiting for a CPU", delayed, "%")
        .read(&format!("{process}/task/*/stat"), "threads running or ready", running, "% of looks")
        .read(&format!("{process}/task/*/stat"), "threads blocked in the kernel", blocked, "% of looks")
        .read(&format!("{process}/task/*/stat"), "threads asleep", sleeping, "% of looks")
        .read(&format!("{process}/stat"), "faults that read a disk", faults, "/s");
    if let Some((read, written)) = io {
        finding = finding.read(&format!("{process}/io"), "read", read, "B/s");
        finding = finding.read(&format!("{process}/io"), "written", written, "B/s");
    }
    if let Some(place) = most {
        finding = finding.read(&format!("{process}/wchan"), place, f64::from(places[place]), " looks");
    }
    if let Some(group) = throttled {
        finding = finding.read(&group.path, "CPU quota", group.cpu_quota.unwrap_or_default(), " CPUs");
    }
    let all = now.iter().map(|process| process.resident).fold(0, u64::saturating_add);
    let mut members = now;
    members.sort_by_key(|process| std::cmp::Reverse(process.cpu_ticks));
    let say = |process: &&Process| {
        let cpu = earlier.growth(process, |process| process.cpu_ticks) as f64 / seconds;
        culprit::process(process, format!("{cpu:.0}% of a CPU, {} in RAM", Bytes(process.resident)))
    };
    let named: Vec<_> = members.iter().take(culprit::NAMED).map(say).collect();
    finding = finding.by(named).read(&format!("{process}/stat"), "memory of all of them", all as f64, "B");
    Ok(vec![finding])
}

/// Share of the window in which a group was stopped by its quota, percent.
fn stopped(context: &RuleContext<'_>, group: &Group) -> f64 {
    let lost = |group: &Group| group.cpu_stat.known().and_then(|stat| stat.get("throttled_usec").copied());
    let before = context.before().cgroups.same(group).and_then(lost);
    before.zip(lost(group)).map_or(0.0, |(before, now)| context.share_of_time(before, now))
}

#[cfg(test)]
mod tests {
    use crate::doctor::fixture::ask;
    use crate::model::snapshot::process::{Activity, Process, Task};
    use crate::model::snapshot::system::LockWait;
    use crate::model::snapshot::{Field, Window};

    /// Two seconds of process 77 with a child, among others.
    fn window(ticks: u64, delay_ns: u64, task: Task) -> Window {
        let process = |pid: i32, parent: i32, cpu_ticks: u64, delay: u64| Process {
            pid,
            parent,
            name: "work".to_owned(),
            started: 5,
            cpu_ticks,
            run_delay_ns: Some(delay),
            ..Process::default()
        };
        let mut window = Window { focus: vec![77, 78], ..Window::default() };
        window.to.at_us = 2_000_000;
        window.from.processes = Field::Known(vec![process(77, 1, 100, 0), process(90, 1, 0, 0)]);
        window.to.processes = Field::Known(vec![process(77, 1, 100 + ticks, delay_ns), process(90, 1, 9_999, 0)]);
        let other = Task { pid: 90, tid: 90, running: 5, ..Task::default() };
        window.activity = Activity { looks: 5, tasks: vec![task, other], ..Activity::default() };
        window
    }

    fn title(window: &Window) -> String {
        ask(window, "focus")[0].title.clone()
    }

    #[test]
    fn the_answer_is_what_most_of_its_time_went_into() {
        let task = |running, blocked, sleeping, wchan: Option<&str>| Task {
            pid: 77,
            tid: 77,
            running,
            blocked,
            sleeping,
            wchan: wchan.map(str::to_owned),
            ..Task::default()
        };
        // 190 of 200 ticks in two seconds: 95 percent of a CPU.
        assert!(title(&window(190, 0, task(5, 0, 0, None))).contains("computes: 95% of a CPU"));
        // 0.9 of 2 seconds ready without a CPU.
        assert!(title(&window(20, 900_000_000, task(5, 0, 0, None))).contains("waits for a CPU 45% of the time"));
        let blocked = title(&window(10, 0, task(1, 4, 0, Some("balance_dirty_pages"))));
        assert!(blocked.contains("blocked in the kernel 80% of the looks, for the disk"), "{blocked}");
        let asleep = title(&window(0, 0, task(0, 0, 5, Some("futex_wait_queue"))));
        assert!(asleep.contains("sleeps, for a lock of its own"), "{asleep}");
        let hidden = title(&window(0, 0, task(0, 0, 5, None)));
        assert!(hidden.contains("sleeps, where is hidden"), "{hidden}");
        let mut locked = window(0, 0, task(0, 0, 5, Some("locks_lock_inode_wait")));
        let wait = LockWait { waiter: 77, holder: Some(90), file: Some("/t/L".to_owned()), ..LockWait::default() };
        for snapshot in [&mut locked.from, &mut locked.to] {
            snapshot.system.locks = Field::Known(vec![wait.clone()]);
        }
        assert_eq!(title(&locked), "work[77] waits for the lock of /t/L that work[90] holds");
    }
}
