//! Processes that wait for the lock of a file, and whether who holds it will ever let go.

use std::collections::{BTreeMap, HashMap};

use crate::doctor::culprit::{self, Earlier};
use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::doctor::target;
use crate::model::diagnosis::{Culprit, Finding, Severity};
use crate::model::snapshot::Window;
use crate::model::snapshot::process::Process;
use crate::model::snapshot::system::LockWait;

/// Steps that are followed from who holds a lock to what it waits for.
const STEPS_MAX: usize = 32;

/// Waits that lasted for the whole window.
fn lasting(window: &Window) -> Result<impl Iterator<Item = &LockWait>, Skip> {
    let (was, now) = (window.from.system.locks.get()?, window.to.system.locks.get()?);
    let is_old = |wait: &&LockWait| was.iter().any(|it| (it.waiter, &it.inode) == (wait.waiter, &wait.inode));
    Ok(now.iter().filter(is_old))
}

/// What a process waits for: `the lock of /x that cargo[77] holds`.
pub(crate) fn of(window: &Window, pid: i32) -> Option<String> {
    let wait = lasting(window).ok()?.find(|wait| wait.waiter == pid)?;
    let processes = window.to.processes.known().into_iter().flatten();
    let holder = processes.clone().find(|process| Some(process.pid) == wait.holder);
    let holder = holder.map_or_else(|| "somebody who is not seen".to_owned(), |it| format!("{}[{}]", it.name, it.pid));
    Some(format!("the lock of {} that {holder} holds", file(wait)))
}

fn file(wait: &LockWait) -> String {
    wait.file.clone().unwrap_or_else(|| format!("a file ({})", wait.inode))
}

pub(super) fn waits(context: &RuleContext<'_>) -> Verdict {
    let mut locks: BTreeMap<(Option<i32>, &str), Vec<&LockWait>> = BTreeMap::new();
    for wait in lasting(context.window)? {
        locks.entry((wait.holder, wait.inode.as_str())).or_default().push(wait);
    }
    let processes: HashMap<i32, &Process> =
        context.now().processes.get()?.iter().map(|process| (process.pid, process)).collect();
    let mut found: Vec<Finding> = locks.into_values().map(|waits| finding(context, &processes, &waits)).collect();
    found
        .sort_by(|a, b| (b.severity, b.value).partial_cmp(&(a.severity, a.value)).unwrap_or(std::cmp::Ordering::Equal));
    found.truncate(culprit::NAMED);
    Ok(found)
}

/// One lock, and all who wait for it.
fn finding(context: &RuleContext<'_>, processes: &HashMap<i32, &Process>, waits: &[&LockWait]) -> Finding {
    let count = waits.len() as f64;
    let named = |pid: i32| processes.get(&pid).map_or_else(|| format!("[{pid}]"), |it| format!("{}[{pid}]", it.name));
    let holder = waits[0].holder.and_then(|pid| processes.get(&pid)).copied();
    let who = match waits {
        [one] => format!("{} waits", named(one.waiter)),
        several => format!("{} processes wait", several.len()),
    };
    let stuck = holder.and_then(|holder| waits.iter().find(|wait| is_ring(context, processes, wait.waiter, holder)));
    let (severity, title) = match holder {
        Some(holder) if holder.state == 'T' => {
            (Severity::Warn, format!("{who} for a lock that {} holds, which is stopped", named(holder.pid)))
        }
        Some(holder) if stuck.is_some() => (
            Severity::Warn,
            format!("{who} for a lock that {} holds, which seems to wait for it: a deadlock", named(holder.pid)),
        ),
        Some(holder) => (Severity::Info, format!("{who} for a lock that {} holds", named(holder.pid))),
        None => (Severity::Info, format!("{who} for a lock; who holds it is not seen")),
    };
    let all: Vec<String> = waits.iter().take(culprit::NAMED).map(|wait| named(wait.waiter)).collect();
    let what = format!("holds {}; wanted by {}", file(waits[0]), all.join(", "));
    let mut culprits: Vec<Culprit> = holder.map(|holder| culprit::process(holder, what)).into_iter().collect();
    if stuck.is_some() || holder.is_none() {
        let waiters = waits.iter().filter_map(|wait| processes.get(&wait.waiter));
        let what = || format!("waits for {}", file(waits[0]));
        culprits.extend(waiters.take(culprit::NAMED).map(|waiter| culprit::process(waiter, what())));
    }
    let finding = context
        .finding(severity, count, title)
        .read("/proc/locks", "waits at both ends of the window", count, "")
        .by(culprits);
    match (holder, stuck) {
        (Some(holder), _) if holder.state == 'T' => {
            finding.fix("let it go on", Some(format!("kill -s CONT {}", holder.pid)))
        }
        (Some(_), Some(stuck)) => finding.interrupt(
            "end the one that waits, and give it files of its own: a cargo within cargo its own CARGO_TARGET_DIR",
            target::may_be_interrupted(context.window, stuck.waiter).then(|| format!("kill {}", stuck.waiter)),
        ),
        (Some(holder), None) => finding.fix("what it does meanwhile", Some(format!("apm doctor --pid {}", holder.pid))),
        (None, _) => finding.fix("it may be in another container: look from its host", None),
    }
}

/// Whether who holds the lock waits, over any number of steps, for who waits for it: an ancestor that does nothing waits
/// for its child, and each lock has its holder.
fn is_ring(context: &RuleContext<'_>, processes: &HashMap<i32, &Process>, waiter: i32, holder: &Process) -> bool {
    let earlier = Earlier::of(context.window);
    let is_idle = |process: &Process| earlier.growth(process, |it| it.cpu_ticks) == 0;
    let parents = |pid: i32| {
        let above = |pid: &i32| Some(processes.get(pid)?.parent);
        std::iter::successors(Some(pid), above).take(STEPS_MAX)
    };
    let mut at = holder;
    for _ in 0..STEPS_MAX {
        if at.pid == waiter || (is_idle(at) && parents(waiter).any(|pid| pid == at.pid)) {
            return true;
        }
        let next = lasting(context.window).into_iter().flatten().find(|wait| wait.waiter == at.pid);
        let Some(next) = next.and_then(|wait| processes.get(&wait.holder?)) else { return false };
        at = next;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::of;
    use crate::doctor::diagnose::diagnose;
    use crate::doctor::fixture::{ask, severities};
    use crate::doctor::question::Question;
    use crate::model::diagnosis::Severity::{Info, Warn};
    use crate::model::snapshot::process::Process;
    use crate::model::snapshot::system::LockWait;
    use crate::model::snapshot::{Field, Window};

    /// `locks` are pairs of who waits and who holds; process 10 is the parent of 20, that of 30; 40 stands apart.
    fn window(locks: &[(i32, i32)]) -> Window {
        let process = |pid: i32, parent: i32| Process {
            pid,
            parent,
            name: "cargo".to_owned(),
            state: 'S',
            started: 5,
            ..Process::default()
        };
        let wait = |(at, (waiter, holder)): (usize, &(i32, i32))| LockWait {
            waiter: *waiter,
            holder: Some(*holder),
            inode: format!("fe:00:{at}"),
            file: Some("/t/L".to_owned()),
        };
        let mut window = Window::default();
        window.to.at_us = 2_000_000;
        for snapshot in [&mut window.from, &mut window.to] {
            snapshot.processes = Field::Known(vec![process(10, 1), process(20, 10), process(30, 20), process(40, 1)]);
            snapshot.system.locks = Field::Known(locks.iter().enumerate().map(wait).collect());
        }
        window
    }

    fn processes(window: &mut Window) -> &mut Vec<Process> {
        let Field::Known(all) = &mut window.to.processes else { unreachable!("made so") };
        all
    }

    #[test]
    fn who_waits_for_somebody_at_work_is_information() {
        let mut one = window(&[(30, 40)]);
        let found = ask(&one, "proc.lock");
        assert_eq!(severities(&found), [Info]);
        assert_eq!(found[0].title, "cargo[30] waits for a lock that cargo[40] holds");
        assert!(found[0].culprits[0].what.contains("/t/L"), "{:?}", found[0].culprits);
        assert_eq!(of(&one, 30).as_deref(), Some("the lock of /t/L that cargo[40] holds"));
        assert_eq!(of(&one, 40), None);
        // It has just begun to wait.
        one.from.system.locks = Field::Known(Vec::new());
        assert_eq!(ask(&one, "proc.lock"), []);
        // Who holds it is seen by nobody.
        let mut unseen = window(&[(30, 99)]);
        assert!(ask(&unseen, "proc.lock")[0].title.contains("not seen"));
        // Somebody wants to be warned of each.
        let question = Question {
            only: vec!["proc.lock".to_owned()],
            thresholds: vec![("proc.lock".to_owned(), Some(1.0), None)],
            ..Question::default()
        };
        assert_eq!(severities(&diagnose(&unseen, &question).findings), [Warn]);
        unseen.to.system.locks = Field::default();
        assert_eq!(diagnose(&unseen, &question).skipped.len(), 1);
    }

    #[test]
    fn who_never_lets_go_is_a_warning() {
        let mut stopped = window(&[(30, 40), (20, 40)]);
        processes(&mut stopped)[3].state = 'T';
        assert_eq!(severities(&ask(&stopped, "proc.lock")), [Warn, Warn], "two files");
        // The grandparent waits for its child.
        let mut nested = window(&[(30, 10)]);
        let found = ask(&nested, "proc.lock");
        assert_eq!(severities(&found), [Warn]);
        assert!(found[0].title.ends_with("a deadlock"), "{}", found[0].title);
        assert_eq!(found[0].remedies[0].command.as_deref(), Some("kill 30"));
        let mut needed = nested.clone();
        processes(&mut needed)[2].name = "dockerd".to_owned();
        assert_eq!(ask(&needed, "proc.lock")[0].remedies[0].command, None);
        // It works: it may let go yet.
        processes(&mut nested)[0].cpu_ticks = 50;
        assert_eq!(severities(&ask(&nested, "proc.lock")), [Info]);
        // A ring of two locks; and one who waits for it from outside.
        assert_eq!(severities(&ask(&window(&[(30, 40), (40, 30)]), "proc.lock")), [Warn, Warn]);
        assert_eq!(severities(&ask(&window(&[(10, 40), (40, 20)]), "proc.lock")), [Info, Info]);
    }
}
