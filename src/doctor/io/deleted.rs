//! The rule about deleted files that are still open.

use std::collections::BTreeMap;

use crate::doctor::culprit;
use crate::doctor::io::mount::main_mount;
use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::model::diagnosis::{Culprit, Severity};
use crate::model::snapshot::disk::{DeletedFile, DeletedSum};
use crate::model::unit::Bytes;

/// From this share of a file system on it counts however small it is, percent.
const SHARE: f64 = 10.0;

/// Further holders of a file that are named.
const ALSO: usize = 8;

/// `fs.deleted_open`.
pub(super) fn open(context: &RuleContext<'_>) -> Verdict {
    let deleted = context.now().disk.deleted.get()?;
    let mut by_device: BTreeMap<&str, Vec<&DeletedSum>> = BTreeMap::new();
    for sum in deleted.holders.iter().filter(|sum| sum.pid != context.window.observer) {
        by_device.entry(&sum.device).or_default().push(sum);
    }
    let mut findings = Vec::new();
    for (device, holders) in by_device {
        let files: Vec<&DeletedFile> = deleted.files.iter().filter(|file| file.device == device).collect();
        let bytes = holders.iter().fold(0u64, |all, sum| all.saturating_add(sum.bytes));
        let mounts = context.now().disk.mounts.known().into_iter().flatten();
        let mount = main_mount(mounts.filter(|mount| mount.device == device));
        let space = mount.and_then(|mount| mount.space.known());
        let share = space.map_or(0.0, |space| 100.0 * bytes as f64 / (space.bytes.max(1)) as f64);
        let is_tight = space.is_some_and(|space| space.available < space.bytes / 10);
        let severity = match context.judge(bytes as f64, false) {
            Some(_) | None if share >= SHARE && is_tight && context.warn.is_some() => Severity::Crit,
            Some(severity) => severity,
            None if share >= SHARE && context.warn.is_some() => Severity::Warn,
            None => continue,
        };
        let point = mount.map_or(device, |mount| mount.point.as_str());
        let size = Bytes(bytes);
        let title = format!("{size} on {point} are held by deleted files that are still open");
        let say = |sum: &&DeletedSum| {
            let descriptor = files.iter().find(|file| file.pid == sum.pid).map(|file| file.descriptor);
            let at = descriptor.map(|descriptor| format!(" at descriptor {descriptor}")).unwrap_or_default();
            let what = match sum.files {
                0 | 1 => format!("holds {}{at}", Bytes(sum.bytes)),
                many => format!("holds {} in {many} files, the largest{at}", Bytes(sum.bytes)),
            };
            culprit::of_pid(context.window, sum.pid, what)
        };
        let mut finding = context
            .finding(severity, bytes as f64, title)
            .agreed(1 + u32::from(is_tight))
            .by(holders.iter().take(culprit::NAMED).map(say))
            .by(also(context, &files));
        for file in files.iter().take(culprit::NAMED) {
            let path = format!("/proc/{}/fd/{}", file.pid, file.descriptor);
            finding = finding.read(&path, "st_blocks", file.bytes as f64, "B");
        }
        if let Some(mount) = mount {
            finding = finding.by([culprit::thing("mount", &mount.point, format!("{share:.0}% of it"))]);
        }
        let command = files.first().map(|file| format!("ls -lL /proc/{}/fd/{}", file.pid, file.descriptor));
        let who = match files.iter().any(|file| !file.also.is_empty()) {
            true => "restart all processes that hold it: the room is free when the last lets go",
            false => "restart the process",
        };
        findings.push(finding.fix(format!("{who}; if it is a log, `truncate -s 0` this path"), command));
    }
    if findings.is_empty() && deleted.hidden > 0 {
        let hidden = deleted.hidden;
        return Err(Skip(format!("/proc/PID/fd: permission denied for {hidden} processes of others")));
    }
    if findings.is_empty() && deleted.is_cut {
        return Err(Skip("/proc/PID/fd: there are more descriptors than are looked at".to_owned()));
    }
    Ok(findings)
}

/// Others that hold the largest of the files: a child has what its parent opened.
fn also(context: &RuleContext<'_>, files: &[&DeletedFile]) -> Vec<Culprit> {
    let Some(file) = files.iter().find(|file| !file.also.is_empty()) else { return Vec::new() };
    let what = format!("holds the same file as [{}]", file.pid);
    let mut found: Vec<Culprit> =
        file.also.iter().take(ALSO).map(|pid| culprit::of_pid(context.window, *pid, what.clone())).collect();
    if let (Some(last), Some(more)) = (found.last_mut(), file.also.len().checked_sub(ALSO).filter(|more| *more > 0)) {
        last.what = format!("{}, as do {more} more", last.what);
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::doctor::diagnose::diagnose;
    use crate::doctor::fixture::{ask, severities};
    use crate::doctor::io::mount::example::{GIB, mount, window};
    use crate::doctor::question::Question;
    use crate::model::diagnosis::Severity::{Crit, Warn};
    use crate::model::snapshot::disk::{Deleted, DeletedFile, DeletedSum};
    use crate::model::snapshot::{Field, Window};

    fn with(available: u64, files: &[(i32, u64, u64)], hidden: u32) -> Window {
        let mut window = window(vec![mount("/", "ext4", "254:0", 100 * GIB, available)]);
        let file = |(pid, inode, bytes): &(i32, u64, u64)| DeletedFile {
            pid: *pid,
            descriptor: 3,
            device: "254:0".to_owned(),
            inode: *inode,
            bytes: *bytes,
            also: Vec::new(),
        };
        let files: Vec<DeletedFile> = files.iter().map(file).collect();
        let sum =
            |file: &DeletedFile| DeletedSum { pid: file.pid, device: file.device.clone(), bytes: file.bytes, files: 1 };
        let holders = files.iter().map(sum).collect();
        window.to.disk.deleted = Field::Known(Deleted { files, holders, hidden, ..Deleted::default() });
        window
    }

    #[test]
    fn what_deleted_files_hold_is_worse_where_room_is_short() {
        assert_eq!(severities(&ask(&with(90 * GIB, &[], 0), "fs.deleted_open")), []);
        assert_eq!(severities(&ask(&with(90 * GIB, &[(7, 1, 100 << 20)], 0), "fs.deleted_open")), []);
        let found = ask(&with(90 * GIB, &[(7, 1, 2 * GIB), (8, 2, GIB)], 0), "fs.deleted_open");
        assert_eq!((severities(&found), found[0].value), (vec![Warn], (3 * GIB) as f64));
        assert_eq!(found[0].culprits[0].pid, Some(7));
        assert_eq!(severities(&ask(&with(GIB, &[(7, 1, 12 * GIB)], 0), "fs.deleted_open")), [Crit]);
    }

    /// Regression: a log held by a parent and its child was said of the first alone; to restart that one freed nothing.
    #[test]
    fn all_who_hold_a_file_are_named() {
        let mut window = with(90 * GIB, &[(7, 1, 2 * GIB)], 0);
        if let Field::Known(deleted) = &mut window.to.disk.deleted {
            deleted.files[0].also = (100..112).collect();
        }
        let found = ask(&window, "fs.deleted_open");
        let pids: Vec<i32> = found[0].culprits.iter().filter_map(|culprit| culprit.pid).collect();
        assert_eq!(pids, [&[7], &(100..108).collect::<Vec<_>>()[..]].concat());
        assert_eq!(found[0].culprits[8].what, "holds the same file as [7], as do 4 more");
        assert!(found[0].remedies[0].text.starts_with("restart all processes"), "{:?}", found[0].remedies);
    }

    #[test]
    fn what_others_hold_is_unknown_to_an_ordinary_user() {
        let question = Question { only: vec!["fs.deleted_open".to_owned()], ..Question::default() };
        let diagnosis = diagnose(&with(GIB, &[], 80), &question);
        assert_eq!(diagnosis.skipped[0].reason, "/proc/PID/fd: permission denied for 80 processes of others");
    }
}
