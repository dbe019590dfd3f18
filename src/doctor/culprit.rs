//! Who causes it: processes by what they took in the window.

use std::collections::HashMap;

use crate::doctor::target;
use crate::model::diagnosis::{Culprit, Finding};
use crate::model::snapshot::Window;
use crate::model::snapshot::cgroup::Group;
use crate::model::snapshot::process::{Process, Task};
use crate::model::unit::Bytes;

/// Culprits named in a finding.
pub(crate) const NAMED: usize = 3;

/// A process as a culprit.
pub(crate) fn process(process: &Process, what: String) -> Culprit {
    Culprit { kind: "process".to_owned(), pid: Some(process.pid), name: process.name.clone(), what }
}

/// A culprit accounts for one part in so many of what is used, or is none: to end it would change nothing. The README
/// says so.
const FAIR: u64 = 10;
/// The same as a share.
pub(crate) const FAIR_SHARE: f64 = 1.0 / FAIR as f64;

/// The least that a culprit has of what is used.
pub(crate) fn fair(used: u64) -> u64 {
    (used / FAIR).max(1)
}

/// The processes with the most of something, by the state now; none with less than `least`.
pub(crate) fn most(
    window: &Window,
    least: u64,
    amount: impl Fn(&Process) -> u64,
    say: impl Fn(u64) -> String,
) -> Vec<Culprit> {
    let mut all: Vec<(u64, &Process)> =
        window.to.processes.known().into_iter().flatten().map(|process| (amount(process), process)).collect();
    all.retain(|(amount, process)| *amount >= least.max(1) && process.pid != window.observer);
    all.sort_by_key(|(amount, process)| (std::cmp::Reverse(*amount), process.pid));
    all.into_iter().take(NAMED).map(|(amount, who)| process(who, say(amount))).collect()
}

/// Processes as they were at the start of the window.
pub(crate) struct Earlier<'a>(HashMap<(i32, u64), &'a Process>);

impl<'a> Earlier<'a> {
    pub(crate) fn of(window: &'a Window) -> Self {
        let all = window.from.processes.known().into_iter().flatten();
        Self(all.map(|process| ((process.pid, process.started), process)).collect())
    }

    /// The same process, and not one that has its number now.
    pub(crate) fn get(&self, process: &Process) -> Option<&'a Process> {
        self.0.get(&(process.pid, process.started)).copied()
    }

    /// What was added since. One that started in the window took all it has; what could not be read at its start or now
    /// is nothing that was added.
    pub(crate) fn growth<N: Into<Option<u64>>>(&self, process: &Process, amount: impl Fn(&Process) -> N) -> u64 {
        let amount = |process: &Process| -> Option<u64> { amount(process).into() };
        let before = self.get(process).map_or(Some(0), amount);
        before.zip(amount(process)).map_or(0, |(before, now)| now.saturating_sub(before))
    }
}

/// The processes that took the most of something in the window, a fair share of what all of them took. One that started
/// in it took all it has; where nobody looked at its start, nobody knows.
pub(crate) fn took<N: Into<Option<u64>>>(
    window: &Window,
    amount: impl Fn(&Process) -> N,
    say: impl Fn(u64) -> String,
) -> Vec<Culprit> {
    if window.from.processes.known().is_none() {
        return Vec::new();
    }
    let earlier = Earlier::of(window);
    let growth = |process: &Process| earlier.growth(process, &amount);
    let others = window.to.processes.known().into_iter().flatten().filter(|process| process.pid != window.observer);
    let all = others.map(growth).fold(0, u64::saturating_add);
    most(window, fair(all), growth, say)
}

/// By memory in RAM, those of one name together: forty workers are one culprit. Only those with a fair share of what is
/// used, each with its bytes.
pub(crate) fn by_memory(window: &Window, used: u64) -> Vec<(u64, Culprit)> {
    let mut crowds: HashMap<&str, Vec<&Process>> = HashMap::new();
    for process in window.to.processes.known().into_iter().flatten().filter(|it| it.pid != window.observer) {
        crowds.entry(&process.name).or_default().push(process);
    }
    let sum = |all: &[&Process]| all.iter().fold(0u64, |sum, process| sum.saturating_add(process.resident));
    let mut crowds: Vec<(u64, Vec<&Process>)> = crowds.into_values().map(|all| (sum(&all), all)).collect();
    crowds.retain(|(bytes, _)| *bytes >= fair(used));
    crowds.sort_by_key(|(bytes, all)| (std::cmp::Reverse(*bytes), all.first().map(|process| process.pid)));
    let say = |(bytes, all): (u64, Vec<&Process>)| {
        let largest = all.iter().max_by_key(|process| (process.resident, std::cmp::Reverse(process.pid)))?;
        let own = Bytes(largest.resident);
        // A crowd of small ones beside a large one is not worth a word.
        let is_crowd = all.len() > 1 && bytes > largest.resident.saturating_mul(2);
        let crowd = if is_crowd { format!(", {} of its name {}", all.len(), Bytes(bytes)) } else { String::new() };
        Some((bytes, process(largest, format!("{own} in RAM{crowd}"))))
    };
    crowds.into_iter().filter_map(say).take(NAMED).collect()
}

/// Ticks in percent of a CPU over the window. The kernel adds whole ticks at the end of each, so that over a short window
/// a thread seems to have had more time than there was.
pub(crate) fn percent_of_a_cpu(window: &Window, ticks: u64, threads: u32) -> f64 {
    let cpus = window.to.cpu.stat.known().map_or(u32::MAX, |stat| stat.each.len().max(1) as u32);
    (ticks as f64 / window.seconds()).min(100.0 * f64::from(threads.clamp(1, cpus)))
}

/// By CPU time in the window.
pub(crate) fn by_cpu(window: &Window) -> Vec<Culprit> {
    let mut found = took(window, |process| process.cpu_ticks, |ticks| ticks.to_string());
    for culprit in &mut found {
        let processes = window.to.processes.known().into_iter().flatten();
        let threads = processes.filter(|process| Some(process.pid) == culprit.pid).map(|process| process.threads);
        let ticks = culprit.what.parse().unwrap_or_default();
        culprit.what = format!("{:.0}% of a CPU", percent_of_a_cpu(window, ticks, threads.max().unwrap_or(1)));
    }
    found
}

/// Tasks that were seen in uninterruptible sleep, with the place in the kernel.
pub(crate) fn blocked(window: &Window) -> Vec<Culprit> {
    let looks = window.activity.looks;
    let say = |task: &Task| {
        let place = task.wchan.as_deref().map(|wchan| format!(" in {wchan}")).unwrap_or_default();
        Culprit {
            kind: "process".to_owned(),
            pid: Some(task.pid),
            name: task.name.clone(),
            what: format!("blocked{place} in {} of {looks} looks", task.blocked),
        }
    };
    let mut tasks: Vec<&Task> = window.activity.tasks.iter().filter(|task| task.blocked > 0).collect();
    tasks.sort_by_key(|task| (std::cmp::Reverse(task.blocked), task.pid, task.tid));
    tasks.into_iter().take(NAMED).map(say).collect()
}

/// A control group as a culprit.
pub(crate) fn group(group: &Group, what: String) -> Culprit {
    thing("cgroup", &group.path, what)
}

/// Those of a control group that have a fair share of what is used in it.
pub(crate) fn by_memory_among(window: &Window, members: &[i32], used: u64) -> Vec<Culprit> {
    let resident = |process: &Process| if members.contains(&process.pid) { process.resident } else { 0 };
    most(window, fair(used), resident, |bytes| format!("{} in RAM", Bytes(bytes)))
}

/// By faults that read from a disk, in the window. A few a second every process has now and then.
pub(crate) fn by_major_faults(window: &Window) -> Vec<Culprit> {
    let seconds = window.seconds();
    let say = |faults: u64| format!("{:.0} faults/s from disk", faults as f64 / seconds);
    took(window, |process| process.major_faults, say)
}

/// Characters of a line of the kernel's log that are shown.
const EXCERPT: usize = 160;

/// A line of the kernel's log, whole if it can be; else it ends with a word and says that it goes on.
pub(crate) fn excerpt(text: &str) -> String {
    let Some((end, _)) = text.char_indices().nth(EXCERPT) else { return text.to_owned() };
    let end = text.get(..end).and_then(|part| part.rfind(' ')).unwrap_or(end);
    format!("{} ...", text.get(..end).unwrap_or_default())
}

/// A path for a command. One that a shell would not read as it is stands in quotes; one that a terminal would not show
/// as it is has no command.
pub(crate) fn typed(path: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-@:,+".contains(c);
    match path {
        _ if path.chars().all(is_plain) => Some(path.to_owned()),
        // Spaces that are none and marks of direction are no controls, so only ASCII is believed.
        _ if path.chars().all(|c| c.is_ascii_graphic() || c == ' ') => {
            Some(format!("'{}'", path.replace('\'', "'\\''")))
        }
        _ => None,
    }
}

/// A mount, a device, a control group as a culprit.
pub(crate) fn thing(kind: &str, name: &str, what: String) -> Culprit {
    Culprit { kind: kind.to_owned(), pid: None, name: name.to_owned(), what }
}

/// By bytes written to disks in the window; only where /proc/PID/io may be read.
pub(crate) fn by_writing(window: &Window) -> Vec<Culprit> {
    let seconds = window.seconds();
    let written = |process: &Process| process.io.map(|io| io.written);
    took(window, written, |bytes| format!("writes {}/s", Bytes((bytes as f64 / seconds) as u64)))
}

/// Bytes a second below which nobody is a culprit of a slow disk.
const MOVES_MIN: f64 = (64 << 10) as f64;
/// The parent of the threads of the kernel, which work for others.
pub(crate) const KERNEL: i32 = 2;

/// Those that move the most to and from disks, threads of the kernel left out.
pub(crate) fn movers(window: &Window) -> Vec<Culprit> {
    let seconds = window.seconds();
    let bytes = |process: &Process| {
        process.io.filter(|_| process.parent != KERNEL).map(|io| io.read.saturating_add(io.written))
    };
    let say = |bytes: u64| {
        let speed = bytes as f64 / seconds;
        if speed < MOVES_MIN { String::new() } else { format!("{}/s to and from disks", Bytes(speed as u64)) }
    };
    let mut all = took(window, bytes, say);
    all.retain(|culprit| !culprit.what.is_empty());
    all
}

/// Where tasks are in uninterruptible sleep without waiting for a disk: frozen control groups, laptops that go to sleep,
/// parents that wait until the child they started with vfork runs a program.
const NOT_FOR_DISKS: &[&str] = &[
    "__refrigerator",
    "refrigerator",
    "do_freezer_trap",
    "cgroup_freezer",
    "kernel_clone",
    "_do_fork",
    "wait_for_vfork_done",
];

/// Whether a task in uninterruptible sleep may wait for a disk, a file system or a server.
pub(crate) fn may_wait_for_disks(task: &Task) -> bool {
    let place = task.wchan.as_deref().unwrap_or_default();
    task.blocked > 0 && !task.is_frozen && !NOT_FOR_DISKS.iter().any(|name| place.starts_with(name))
}

/// Who makes tasks wait for disks: where the disks were at work, those that move the most, then those that waited in more
/// than one look; where they were not, the other way round: something else holds them.
pub(crate) fn by_io_or_wait(window: &Window, is_at_work: bool) -> Vec<Culprit> {
    let (first, second) =
        if is_at_work { (movers(window), waiting(window)) } else { (waiting(window), movers(window)) };
    let mut all = first;
    for culprit in second.into_iter().take(NAMED - 1) {
        if !all.iter().any(|named| named.pid == culprit.pid) {
            all.push(culprit);
        }
    }
    all.truncate(NAMED + 1);
    all
}

/// Processes whose tasks waited for disks in more than one look, threads of the kernel last: they work for others.
fn waiting(window: &Window) -> Vec<Culprit> {
    let looks = window.activity.looks;
    let mut tasks: Vec<&Task> =
        window.activity.tasks.iter().filter(|task| task.blocked > 1 && may_wait_for_disks(task)).collect();
    let is_of_kernel = |task: &Task| {
        let mut processes = window.to.processes.known().into_iter().flatten();
        processes.any(|process| process.pid == task.pid && process.parent == KERNEL)
    };
    tasks.sort_by_key(|task| (std::cmp::Reverse(task.blocked), task.pid, task.tid));
    let mut seen = std::collections::HashSet::new();
    tasks.retain(|task| seen.insert(task.pid));
    // The worst only, so that it is not asked of all whether they are of the kernel.
    tasks.truncate(NAMED * 4);
    tasks.sort_by_key(|task| is_of_kernel(task));
    let say = |task: &&Task| {
        let place = task.wchan.as_deref().map(|wchan| format!(" in {wchan}")).unwrap_or_default();
        of_pid(window, task.pid, format!("waits{place} in {} of {looks} looks", task.blocked))
    };
    tasks.iter().take(NAMED).map(say).collect()
}

/// A process by its number; it may have ended meanwhile.
pub(crate) fn of_pid(window: &Window, pid: i32, what: String) -> Culprit {
    let by_list = window.to.processes.known().into_iter().flatten().find(|process| process.pid == pid);
    // One that ended meanwhile was seen in a look.
    let by_look = || window.activity.tasks.iter().find(|task| task.pid == pid).map(|task| task.name.clone());
    let name = by_list.map(|process| process.name.clone()).or_else(by_look).unwrap_or_else(|| "process".to_owned());
    Culprit { kind: "process".to_owned(), pid: Some(pid), name, what }
}

/// Whether a path of a control group, or a text with one, names a group that `apm run` made for a task: its limits are
/// meant, and the run tells when one strikes.
pub(crate) fn is_of_run(text: &str) -> bool {
    let made = |part: &str| {
        let Some(run) = part.strip_prefix("apm-") else { return false };
        run.starts_with(|first: char| first.is_ascii_digit()) && run.contains('-')
    };
    text.split(['/', ' ', ',']).any(made)
}

/// Advises to end the largest culprit that holds a fair share of what is used and that may be interrupted; where there is
/// none, advises only what else helps.
pub(crate) fn end_largest(window: &Window, finding: Finding, used: u64, fewer: &str) -> Finding {
    let has_enough = |pid: &i32| {
        let mut processes = window.to.processes.known().into_iter().flatten();
        processes.any(|process| process.pid == *pid && process.resident >= fair(used))
    };
    let mut pids = finding.culprits.iter().filter_map(|culprit| culprit.pid).filter(has_enough);
    match pids.find(|pid| target::may_be_interrupted(window, *pid)) {
        Some(pid) => {
            let is_largest = finding.culprits.iter().find_map(|culprit| culprit.pid) == Some(pid);
            let which = if is_largest { "" } else { " that nothing else needs" };
            finding.interrupt(format!("{fewer}, or end the largest process{which}"), Some(format!("kill {pid}")))
        }
        None => finding.fix(fewer, None),
    }
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    /// Regression: `comm bash` became `comm b`.
    #[test]
    fn a_line_of_the_log_ends_with_a_word() {
        let line = "EXT4-fs error (device loop0): trigger_test_error:129: comm bash: provoked";
        assert_eq!(excerpt(line), line);
        let long = "word ".repeat(60);
        assert_eq!(excerpt(&long), format!("{} ...", "word ".repeat(32).trim_end()));
        assert_eq!(excerpt(&"\u{fc}".repeat(200)), format!("{} ...", "\u{fc}".repeat(160)));
    }
}
