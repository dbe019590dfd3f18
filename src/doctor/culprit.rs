//! Who causes it: processes by what they took in the window.

use std::collections::HashMap;

use crate::model::diagnosis::Culprit;
use crate::model::snapshot::Window;
use crate::model::snapshot::process::{Process, Task};
use crate::model::unit::Bytes;

/// Culprits named in a finding.
pub(crate) const NAMED: usize = 3;

/// A process as a culprit.
pub(crate) fn process(process: &Process, what: String) -> Culprit {
    Culprit { kind: "process".to_owned(), pid: Some(process.pid), name: process.name.clone(), what }
}

/// The processes with the most of something, by the state now.
pub(crate) fn most(window: &Window, amount: impl Fn(&Process) -> u64, say: impl Fn(u64) -> String) -> Vec<Culprit> {
    let mut all: Vec<(u64, &Process)> =
        window.to.processes.known().into_iter().flatten().map(|process| (amount(process), process)).collect();
    all.retain(|(amount, process)| *amount > 0 && process.pid != window.observer);
    all.sort_by_key(|(amount, process)| (std::cmp::Reverse(*amount), process.pid));
    all.into_iter().take(NAMED).map(|(amount, who)| process(who, say(amount))).collect()
}

/// The processes that took the most of something in the window. One that started in it took all it has; where nobody
/// looked at its start, nobody knows.
pub(crate) fn took(window: &Window, amount: impl Fn(&Process) -> u64, say: impl Fn(u64) -> String) -> Vec<Culprit> {
    if window.from.processes.known().is_none() {
        return Vec::new();
    }
    let before: HashMap<(i32, u64), u64> = window
        .from
        .processes
        .known()
        .into_iter()
        .flatten()
        .map(|process| ((process.pid, process.started), amount(process)))
        .collect();
    let growth = |process: &Process| {
        amount(process).saturating_sub(before.get(&(process.pid, process.started)).copied().unwrap_or_default())
    };
    most(window, growth, say)
}

/// By memory in RAM.
pub(crate) fn by_memory(window: &Window) -> Vec<Culprit> {
    most(window, |process| process.resident, |bytes| format!("{} in RAM", Bytes(bytes)))
}

/// By CPU time in the window.
pub(crate) fn by_cpu(window: &Window) -> Vec<Culprit> {
    let seconds = window.seconds();
    took(window, |process| process.cpu_ticks, |ticks| format!("{:.0}% of a CPU", ticks as f64 / seconds))
}

/// By bytes to and from disks in the window; only where /proc/PID/io may be read.
pub(crate) fn by_io(window: &Window) -> Vec<Culprit> {
    let seconds = window.seconds();
    let bytes = |process: &Process| process.io.map_or(0, |io| io.read.saturating_add(io.written));
    took(window, bytes, |bytes| format!("{}/s to and from disks", Bytes((bytes as f64 / seconds) as u64)))
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
