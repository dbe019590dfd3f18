//! The rule about tasks that are stuck: in uninterruptible sleep without having run once. A task that reads a disk is in
//! that state too, but runs between two reads.

use std::collections::HashSet;

use crate::doctor::io::devices::{culprit_of, rates};
use crate::doctor::{Look, Skip, Verdict, culprit};
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
pub(super) fn tasks(look: &Look<'_>) -> Verdict {
    let activity = &look.window.activity;
    if activity.looks < 2 {
        return Err(Skip(format!("tasks were looked at {} times, at least twice is needed", activity.looks)));
    }
    let processes = look.now().processes.get()?;
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
    let hung = look.now().system.kmsg.known().map_or(0, |kmsg| {
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
    let severity = match look.judge(count as f64, true) {
        _ if tasks.is_empty() && hung == 0 => Severity::Info,
        Some(_) if hung > 0 && look.crit.is_some() => Severity::Crit,
        Some(severity) => severity,
        None => return Ok(Vec::new()),
    };
    let whole = if tasks.is_empty() { &threads } else { &tasks };
    let seconds = look.window.seconds();
    let place = place_of(whole);
    let who = match (tasks.is_empty(), count) {
        (true, 1) => "a thread of the kernel is".to_owned(),
        (true, count) => format!("{count} threads of the kernel are"),
        (false, 1) => "a task is".to_owned(),
        (false, count) => format!("{count} tasks are"),
    };
    let title = format!("{who} stuck in uninterruptible sleep, {seconds:.1} s without running");
    let mut finding =
        look.finding(severity, count as f64, title).agreed(2 + u32::from(hung > 0)).by(named(look, whole));
    if let Some(first) = whole.first() {
        let path = format!("/proc/{}/task/{}/stat", first.pid, first.tid);
        finding = finding.read(&path, "looks in state D", f64::from(first.blocked), "");
    }
    if hung > 0 {
        finding = finding.read("/dev/kmsg", "blocked for more than", hung as f64, "");
    }
    let silent = rates(look).unwrap_or_default();
    finding = finding.by(silent.iter().filter(|rates| rates.is_silent).map(|rates| culprit_of(look, rates)));
    let mounts = look.now().disk.mounts.known().into_iter().flatten().filter(|mount| mount.is_hanging);
    finding = finding
        .by(mounts.map(|mount| culprit::thing("mount", &mount.point, format!("{} without an answer", mount.kind))));
    let pid = whole.first().map(|task| task.pid);
    let text = place.unwrap_or("something that does not answer: see where they work");
    // Reads links of the kernel only: it does not touch what hangs.
    let command = pid.map(|pid| format!("ls -l /proc/{pid}/cwd /proc/{pid}/fd; cat /proc/{pid}/stack"));
    Ok(vec![finding.fix(format!("they wait for {text}"), command)])
}

/// What most likely holds them: where it is said by most of them.
fn place_of(tasks: &[&Task]) -> Option<&'static str> {
    let hint = |task: &&Task| {
        let wchan = task.wchan.as_deref()?;
        PLACES.iter().find(|(start, _)| wchan.contains(start)).map(|(_, hint)| *hint)
    };
    tasks.iter().find_map(hint)
}

fn named(look: &Look<'_>, tasks: &[&Task]) -> Vec<Culprit> {
    let looks = look.window.activity.looks;
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
