//! Who watches files: inotify instances and watches of processes. Nothing but the descriptors of every process tells, so
//! the look is bounded; with `deep` the bounds are wider.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::model::snapshot::Field;
use crate::model::snapshot::system::{InotifyLimits, Watcher};
use crate::probe::{Roots, read_dir, read_into, say};
use crate::sys::kernel;

/// Descriptors looked at in a look: about 2 us each.
const FILES_MAX: usize = 3_000;
/// The same of a deep look.
const FILES_DEEP_MAX: usize = 200_000;
/// Bytes of /proc/PID/fdinfo read for watches: one is about 100 bytes and takes about a microsecond.
const INFO_MAX: usize = 512 << 10;
/// The same of a deep look.
const INFO_DEEP_MAX: usize = 64 << 20;

/// Who has how many, and how many processes were left out.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) users: Vec<Watcher>,
    pub(crate) unseen: u32,
}

/// Share of the watches a user may have from which on it is tried whether one more can be made, percent.
const TRIED: u64 = 80;

/// Whether one more could be made, tried with this user; watches only where what was counted comes near the limit, since
/// the trial can take long.
pub(crate) fn refused(
    roots: &Roots,
    uid: u32,
    users: &Field<Found>,
    limits: &Field<InotifyLimits>,
) -> Field<Option<String>> {
    let own = users.known().map_or(0, |found| {
        found.users.iter().filter(|user| user.uid == uid).fold(0u64, |sum, user| sum.saturating_add(user.watches))
    });
    let most = limits.known().map_or(u64::MAX, |limits| limits.watches);
    let is_near = own >= most / 100 * TRIED;
    roots.call("inotify_add_watch", || kernel::try_watch(is_near))
}

/// Looks at the descriptors of all processes that may be looked at.
pub(crate) fn read(roots: &Roots, deep: bool) -> Field<Found> {
    let entries = match read_dir(&roots.proc) {
        Ok(entries) => entries,
        Err(error) => return Field::unavailable(roots.proc.display().to_string(), say(&error)),
    };
    let mut files_left = if deep { FILES_DEEP_MAX } else { FILES_MAX };
    let mut info_left = if deep { INFO_DEEP_MAX } else { INFO_MAX };
    let mut found = Found::default();
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let folder = entry.path();
        let Ok(files) = read_dir(folder.join("fd")) else {
            // One that has ended meanwhile is not missed.
            found.unseen += u32::from(folder.exists());
            continue;
        };
        let mut watcher = Watcher { pid, ..Watcher::default() };
        for file in files.flatten() {
            if files_left == 0 {
                found.unseen += 1;
                break;
            }
            files_left -= 1;
            if std::fs::read_link(file.path()).is_ok_and(|link| link == Path::new("anon_inode:inotify")) {
                watcher.instances += 1;
                let info = folder.join("fdinfo").join(file.file_name());
                watcher.watches = watcher.watches.saturating_add(watches(&info, &mut info_left));
            }
        }
        if watcher.instances > 0 {
            watcher.uid = std::fs::metadata(&folder).map_or(0, |data| data.uid());
            found.users.push(watcher);
        }
    }
    found.users.sort_by_key(|watcher| (std::cmp::Reverse((watcher.instances, watcher.watches)), watcher.pid));
    Field::Known(found)
}

/// Lines `inotify wd:1 ino:2 ...` of an fdinfo file.
fn watches(path: &Path, left: &mut usize) -> u64 {
    let mut text = Vec::new();
    if *left == 0 || read_into(path, &mut text).is_err() {
        return 0;
    }
    *left = left.saturating_sub(text.len());
    count(&text)
}

fn count(text: &[u8]) -> u64 {
    text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"inotify wd:")).count() as u64
}

#[cfg(test)]
mod tests {
    use super::{count, read};
    use crate::probe::Roots;

    #[test]
    fn instances_and_watches_are_counted_per_process() {
        let root = std::env::temp_dir().join(format!("apm-watchers-{}", std::process::id()));
        for (pid, link) in [("10", "anon_inode:inotify"), ("11", "/dev/null")] {
            std::fs::create_dir_all(root.join("proc").join(pid).join("fd")).expect("folders");
            std::fs::create_dir_all(root.join("proc").join(pid).join("fdinfo")).expect("folders");
            std::os::unix::fs::symlink(link, root.join("proc").join(pid).join("fd/3")).expect("a link");
        }
        // One that may not be looked at.
        std::fs::create_dir_all(root.join("proc/12")).expect("folders");
        // As Linux 6.18 wrote it.
        let info = "pos:\t0\nflags:\t00\nmnt_id:\t16\nino:\t1057\n\
            inotify wd:2 ino:2 sdev:fe00000 mask:800afce ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:0200000000000000\n\
            inotify wd:1 ino:c8001 sdev:fe00000 mask:800afce ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:01800c00aaaaaaaa\n";
        std::fs::write(root.join("proc/10/fdinfo/3"), info).expect("written");
        let found = read(&Roots::below(&root), false);
        std::fs::remove_dir_all(&root).expect("gone");
        let found = found.get().expect("read");
        assert_eq!(found.unseen, 1);
        assert_eq!(found.users.len(), 1);
        assert_eq!((found.users[0].pid, found.users[0].instances, found.users[0].watches), (10, 1, 2));
        assert_eq!(count(b"pos:\t0\n\xff\n"), 0);
    }
}
