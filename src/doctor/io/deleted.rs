//! The rule about deleted files that are still open.

use std::collections::{BTreeMap, HashSet};

use crate::doctor::{Look, Skip, Verdict, culprit};
use crate::model::diagnosis::Severity;
use crate::model::snapshot::disk::DeletedFile;
use crate::model::unit::Bytes;

/// From this share of a file system on it counts however small it is, percent.
const SHARE: f64 = 10.0;

/// `fs.deleted_open`.
pub(super) fn open(look: &Look<'_>) -> Verdict {
    let deleted = look.now().disk.deleted.get()?;
    let mut by_device: BTreeMap<&str, Vec<&DeletedFile>> = BTreeMap::new();
    let mut seen = HashSet::new();
    // Sorted, the largest first; the same file open twice takes its room once.
    for file in deleted.files.iter().filter(|file| file.pid != look.window.observer) {
        if seen.insert((&file.device, file.inode)) {
            by_device.entry(&file.device).or_default().push(file);
        }
    }
    let mut findings = Vec::new();
    for (device, files) in by_device {
        let bytes = files.iter().fold(0u64, |sum, file| sum.saturating_add(file.bytes));
        let mounts = look.now().disk.mounts.known().into_iter().flatten();
        let mount = mounts.filter(|mount| mount.device == device).min_by_key(|mount| mount.point.len());
        let space = mount.and_then(|mount| mount.space.known());
        let share = space.map_or(0.0, |space| 100.0 * bytes as f64 / (space.bytes.max(1)) as f64);
        let is_tight = space.is_some_and(|space| space.available < space.bytes / 10);
        let severity = match look.judge(bytes as f64, false) {
            Some(_) | None if share >= SHARE && is_tight && look.warn.is_some() => Severity::Crit,
            Some(severity) => severity,
            None if share >= SHARE && look.warn.is_some() => Severity::Warn,
            None => continue,
        };
        let point = mount.map_or(device, |mount| mount.point.as_str());
        let size = Bytes(bytes);
        let title = format!("{size} on {point} are held by deleted files that are still open");
        let say = |file: &&DeletedFile| {
            let what = format!("holds {} at descriptor {}", Bytes(file.bytes), file.descriptor);
            culprit::of_pid(look.window, file.pid, what)
        };
        let mut finding = look
            .finding(severity, bytes as f64, title)
            .agreed(1 + u32::from(is_tight))
            .by(files.iter().take(culprit::NAMED).map(say));
        for file in files.iter().take(culprit::NAMED) {
            let path = format!("/proc/{}/fd/{}", file.pid, file.descriptor);
            finding = finding.read(&path, "st_blocks", file.bytes as f64, "B");
        }
        if let Some(mount) = mount {
            finding = finding.by([culprit::thing("mount", &mount.point, format!("{share:.0}% of it"))]);
        }
        let command = files.first().map(|file| format!("ls -lL /proc/{}/fd/{}", file.pid, file.descriptor));
        findings.push(finding.fix("restart the process; if it is a log, `truncate -s 0` this path", command));
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

#[cfg(test)]
mod tests {
    use crate::doctor::io::example::{GIB, mount, window};
    use crate::doctor::scene::{ask, severities};
    use crate::doctor::{Question, diagnose};
    use crate::model::diagnosis::Severity::{Crit, Warn};
    use crate::model::snapshot::disk::{Deleted, DeletedFile};
    use crate::model::snapshot::{Field, Window};

    fn with(available: u64, files: &[(i32, u64, u64)], hidden: u32) -> Window {
        let mut window = window(vec![mount("/", "ext4", "254:0", 100 * GIB, available)]);
        let file = |(pid, inode, bytes): &(i32, u64, u64)| DeletedFile {
            pid: *pid,
            descriptor: 3,
            device: "254:0".to_owned(),
            inode: *inode,
            bytes: *bytes,
        };
        let files = files.iter().map(file).collect();
        window.to.disk.deleted = Field::Known(Deleted { files, hidden, is_cut: false });
        window
    }

    #[test]
    fn a_deleted_file_counts_once_and_is_worse_where_room_is_short() {
        assert_eq!(severities(&ask(&with(90 * GIB, &[], 0), "fs.deleted_open")), []);
        assert_eq!(severities(&ask(&with(90 * GIB, &[(7, 1, 100 << 20)], 0), "fs.deleted_open")), []);
        // The same file open in a parent and its child.
        let found = ask(&with(90 * GIB, &[(7, 1, 2 * GIB), (8, 1, 2 * GIB)], 0), "fs.deleted_open");
        assert_eq!((severities(&found), found[0].value), (vec![Warn], (2 * GIB) as f64));
        assert_eq!(found[0].culprits[0].pid, Some(7));
        assert_eq!(severities(&ask(&with(GIB, &[(7, 1, 12 * GIB)], 0), "fs.deleted_open")), [Crit]);
    }

    #[test]
    fn what_others_hold_is_unknown_to_an_ordinary_user() {
        let question = Question { only: vec!["fs.deleted_open".to_owned()], ..Question::default() };
        let diagnosis = diagnose(&with(GIB, &[], 80), &question);
        assert_eq!(diagnosis.skipped[0].reason, "/proc/PID/fd: permission denied for 80 processes of others");
    }
}
