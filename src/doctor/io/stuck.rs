//! The rule about tasks that are stuck: in uninterruptible sleep without having run once. A task that reads a disk is in
//! that state too, but runs between two reads.

use std::collections::HashSet;

use crate::doctor::culprit;
use crate::doctor::io::devices::{culprit_of, rates};
use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::model::diagnosis::{Culprit, Severity};
use crate::model::snapshot::process::Task;

/// The parent of all threads of the kernel.
const KERNEL: i32 = 2;

/// What a wait channel says of who must move first.
const PLACES: &[(&str, &str)] = &[
    ("percpu_rwsem", "a frozen file system: `fsfreeze --unfreeze POINT` thaws it"),
    ("sb_start", "a frozen file system: `fsfreeze --unfreeze POINT` thaws it"),
    ("nfs", "an NFS server that does not answer"),
    ("rpc_", "an NFS server that does not answer"),
    ("cifs", "a file server that does not answer"),
    ("smb", "a file server that does not answer"),
    ("ceph", "a file server that does not answer"),
    ("fuse", "a FUSE process that does not answer"),
    ("request_wait_answer", "a FUSE process that does not answer"),
    ("p9_", "the host that does not answer (9p)"),
    ("jbd2", "the journal of ext4: its device is slow or dead"),
    ("xlog", "the journal of XFS: its device is slow or dead"),
    ("balance_dirty", "write-back: the device is slow or limited"),
    ("wbt_wait", "the queue of the device"),
    ("rq_qos", "the queue of the device, or a limit of its control group"),
    ("blk_", "the device"),
    ("submit_bio", "the device"),
    ("io_schedule", "the device"),
    ("folio_wait", "a page to be read or written: the device or the server is slow or dead"),
    ("wait_on_page", "a page to be read or written: the device or the server is slow or dead"),
    ("mutex", "a lock that another stuck task holds"),
    ("rwsem", "a lock that another stuck task holds"),
];

/// `io.dstate`.
pub(super) fn tasks(context: &RuleContext<'_>) -> Verdict {
    let activity = &context.window.activity;
    if activity.looks < 2 {
        return Err(Skip(format!("tasks were looked at {} times, at least twice is needed", activity.looks)));
    }
    let processes = context.now().processes.get()?;
    let of_kernel: HashSet<i32> = processes
        .iter()
        .filter(|process| process.parent == KERNEL || process.pid == KERNEL)
        .map(|process| process.pid)
        .collect();
    // Stuck from the second look to the last: the first has none before it.
    let stuck: Vec<&Task> = activity
        .tasks
        .iter()
        .filter(|task| task.stuck > 0 && task.stuck + 1 >= activity.looks)
        .filter(|task| culprit::may_wait_for_disks(task))
        .collect();
    let (threads, tasks): (Vec<&Task>, Vec<&Task>) = stuck.iter().partition(|task| of_kernel.contains(&task.pid));
    let hung = context.now().system.kmsg.known().map_or(0, |kmsg| {
        let is_of =
            |text: &str| stuck.iter().any(|task| text.contains(&format!(":{} blocked for more than", task.tid)));
        kmsg.records.iter().filter(|record| record.pattern == "hung_task" && is_of(&record.text)).count()
    });
    if stuck.is_empty() {
        if activity.is_cut {
            return Err(Skip("there are more tasks than are looked at".to_owned()));
        }
        return Ok(Vec::new());
    }
    let count = if tasks.is_empty() { threads.len() } else { tasks.len() };
    // That it sleeps so and that it never ran are two counters; the kernel's own complaint is a third.
    let severity = match context.judge(count as f64, true) {
        _ if tasks.is_empty() && hung == 0 => Severity::Info,
        Some(_) if hung > 0 && context.crit.is_some() => Severity::Crit,
        Some(severity) => severity,
        None => return Ok(Vec::new()),
    };
    let whole = if tasks.is_empty() { &threads } else { &tasks };
    let seconds = context.window.seconds();
    let place = place_of(whole);
    let who = match (tasks.is_empty(), count) {
        (true, 1) => "a thread of the kernel is".to_owned(),
        (true, count) => format!("{count} threads of the kernel are"),
        (false, 1) => "a task is".to_owned(),
        (false, count) => format!("{count} tasks are"),
    };
    let title = format!("{who} stuck in uninterruptible sleep, {seconds:.1} s without running");
    let mut finding =
        context.finding(severity, count as f64, title).agreed(2 + u32::from(hung > 0)).by(named(context, whole));
    if let Some(first) = whole.first() {
        let path = format!("/proc/{}/task/{}/stat", first.pid, first.tid);
        finding = finding.read(&path, "looks in state D", f64::from(first.blocked), "");
    }
    if hung > 0 {
        finding = finding.read("/dev/kmsg", "blocked for more than", hung as f64, "");
    }
    let silent = rates(context).unwrap_or_default();
    finding = finding.by(silent.iter().filter(|rates| rates.is_silent).map(|rates| culprit_of(context, rates)));
    let mounts = context.now().disk.mounts.known().into_iter().flatten().filter(|mount| mount.is_hanging);
    finding = finding
        .by(mounts.map(|mount| culprit::thing("mount", &mount.point, format!("{} without an answer", mount.kind))));
    let pid = whole.first().map(|task| task.pid);
    let text = place.unwrap_or("something that does not answer: see where they work");
    // Reads links of the kernel only: it does not touch what hangs.
    let command = pid.map(|pid| format!("ls -l /proc/{pid}/cwd /proc/{pid}/fd; cat /proc/{pid}/stack"));
    Ok(vec![finding.fix(format!("they wait for {text}"), command)])
}

/// What most likely holds them: the place that most of them wait in.
fn place_of(tasks: &[&Task]) -> Option<&'static str> {
    let hint = |task: &&Task| {
        let wchan = task.wchan.as_deref()?;
        PLACES.iter().find(|(start, _)| wchan.contains(start)).map(|(_, hint)| *hint)
    };
    tasks.iter().find_map(hint)
}

fn named(context: &RuleContext<'_>, tasks: &[&Task]) -> Vec<Culprit> {
    let looks = context.window.activity.looks;
    let say = |task: &&Task| {
        let place = task.wchan.as_deref().map(|wchan| format!(" in {wchan}")).unwrap_or_default();
        Culprit {
            kind: "process".to_owned(),
            pid: Some(task.pid),
            name: task.name.clone(),
            what: format!("stuck{place} in {} of {looks} looks", task.blocked),
        }
    };
    tasks.iter().take(culprit::NAMED).map(say).collect()
}

#[cfg(test)]
mod tests {
    use crate::doctor::diagnose::diagnose;
    use crate::doctor::fixture::{ask, severities};
    use crate::doctor::question::Question;
    use crate::model::diagnosis::Severity::{Crit, Info, Warn};
    use crate::model::snapshot::process::{Activity, Process, Task};
    use crate::model::snapshot::system::{Kmsg, Record};
    use crate::model::snapshot::{Field, Window};

    fn task(pid: i32, blocked: u32, stuck: u32, wchan: &str) -> Task {
        Task {
            pid,
            tid: pid,
            name: "touch".to_owned(),
            blocked,
            stuck,
            wchan: Some(wchan.to_owned()),
            ..Task::default()
        }
    }

    fn window(tasks: Vec<Task>) -> Window {
        let mut window = Window {
            activity: Activity { looks: 5, tasks, is_cut: false, ..Activity::default() },
            ..Window::default()
        };
        let kernel = Process { pid: 60, parent: 2, name: "kworker/0:1".to_owned(), ..Process::default() };
        window.to.processes = Field::Known(vec![kernel]);
        window.to.at_us = 2_000_000;
        window
    }

    #[test]
    fn tasks_that_never_ran_are_stuck_and_those_that_read_are_not() {
        assert_eq!(severities(&ask(&window(vec![]), "io.dstate")), []);
        // In this state at every look, but it ran in between: it reads a disk.
        assert_eq!(severities(&ask(&window(vec![task(9, 5, 1, "folio_wait_bit_common")]), "io.dstate")), []);
        let found = ask(&window(vec![task(9, 5, 4, "percpu_rwsem_wait")]), "io.dstate");
        assert_eq!((severities(&found), found[0].culprits[0].pid), (vec![Warn], Some(9)));
        assert!(found[0].remedies[0].text.contains("frozen file system"), "{:?}", found[0].remedies);
        let many = (10..15).map(|pid| task(pid, 5, 4, "rpc_wait_bit_killable")).collect();
        assert_eq!(severities(&ask(&window(many), "io.dstate")), [Crit]);
    }

    #[test]
    fn the_kernels_own_complaint_makes_one_critical() {
        let mut window = window(vec![task(9, 5, 4, "io_schedule")]);
        let text = "INFO: task touch:9 blocked for more than 120 seconds.".to_owned();
        let record = Record { pattern: "hung_task".to_owned(), at_s: 10.0, text };
        window.to.system.kmsg = Field::Known(Kmsg { records: vec![record], is_cut: false });
        assert_eq!(severities(&ask(&window, "io.dstate")), [Crit]);
    }

    #[test]
    fn who_is_meant_to_wait_is_not_stuck() {
        let frozen = Task { is_frozen: true, ..task(9, 5, 4, "hrtimer_nanosleep") };
        let tasks = vec![task(7, 5, 4, "__refrigerator"), task(8, 5, 4, "kernel_clone"), frozen];
        assert_eq!(severities(&ask(&window(tasks), "io.dstate")), []);
        assert_eq!(severities(&ask(&window(vec![task(60, 5, 4, "blk_execute_rq")]), "io.dstate")), [Info]);
    }

    #[test]
    fn without_looks_nothing_is_said() {
        let mut window = window(vec![]);
        window.activity.looks = 0;
        let question = Question { only: vec!["io.dstate".to_owned()], ..Question::default() };
        assert_eq!(diagnose(&window, &question).skipped.len(), 1);
    }
}
