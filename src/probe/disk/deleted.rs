//! Deleted files that are still open: the room they take is in no folder. One readlink a descriptor, so it is bounded.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::model::snapshot::Field;
use crate::model::snapshot::disk::{Deleted, DeletedFile, Mount};
use crate::probe::disk::mounts;
use crate::probe::{Roots, say};

/// Descriptors looked at, and those of one process, unless asked to look deep: 2 us each.
const DESCRIPTORS_MAX: usize = 4_000;
/// See `DESCRIPTORS_MAX`: one process with many connections must not hide all others.
const OF_A_PROCESS_MAX: usize = 500;
/// All descriptors if asked.
const DESCRIPTORS_DEEP_MAX: usize = 1_000_000;
/// Smaller files are no finding however many there are.
const BYTES_MIN: u64 = 16 << 20;
/// Files kept, the largest.
const FILES_MAX: usize = 64;

/// Looks through the descriptors of all processes that may be seen. Needs the file systems to tell which may hang.
pub(super) fn read(roots: &Roots, mounts: &[Mount], is_deep: bool) -> Field<Deleted> {
    let folder = roots.proc.display().to_string();
    if !roots.is_here {
        return Field::unavailable(format!("{folder}/PID/fd"), "the files are of another machine");
    }
    let entries = match std::fs::read_dir(&roots.proc) {
        Ok(entries) => entries,
        Err(error) => return Field::unavailable(folder, say(&error)),
    };
    let slow: Vec<&str> =
        mounts.iter().filter(|mount| mounts::may_hang(&mount.kind)).map(|mount| mount.point.as_str()).collect();
    let (mut left, of_a_process) =
        if is_deep { (DESCRIPTORS_DEEP_MAX, DESCRIPTORS_DEEP_MAX) } else { (DESCRIPTORS_MAX, OF_A_PROCESS_MAX) };
    let mut found = Deleted::default();
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let descriptors = match std::fs::read_dir(entry.path().join("fd")) {
            Ok(descriptors) => descriptors,
            // One that vanishes meanwhile has ended.
            Err(error) => {
                found.hidden += u32::from(error.kind() == std::io::ErrorKind::PermissionDenied);
                continue;
            }
        };
        for (seen, descriptor) in descriptors.flatten().enumerate() {
            if left == 0 || seen >= of_a_process {
                found.is_cut = true;
                break;
            }
            left -= 1;
            found.files.extend(deleted(pid, &descriptor.path(), &slow));
        }
    }
    found.files.sort_by_key(|file| (std::cmp::Reverse(file.bytes), file.pid, file.descriptor));
    found.files.truncate(FILES_MAX);
    Field::Known(found)
}

/// The descriptor, if it is of a deleted regular file that takes room on a disk.
fn deleted(pid: i32, path: &Path, slow: &[&str]) -> Option<DeletedFile> {
    let target = std::fs::read_link(path).ok()?;
    if !is_deleted(target.as_os_str(), slow) {
        return None;
    }
    // Through the link of the kernel: it leads to the open file although its name is gone.
    let facts = std::fs::metadata(path).ok()?;
    let bytes = facts.blocks().saturating_mul(512);
    if !facts.is_file() || facts.nlink() > 0 || bytes < BYTES_MIN {
        return None;
    }
    let device = facts.dev();
    Some(DeletedFile {
        pid,
        descriptor: path.file_name()?.to_str()?.parse().ok()?,
        device: format!("{}:{}", libc::major(device), libc::minor(device)),
        inode: facts.ino(),
        bytes,
    })
}

/// Memory that is only called a file is none, and a file on a server that does not answer must not be asked.
fn is_deleted(target: &OsStr, slow: &[&str]) -> bool {
    let Some(name) = target.as_bytes().strip_suffix(b" (deleted)") else { return false };
    let memory: [&[u8]; 4] = [b"/memfd:", b"/dev/shm/", b"/SYSV", b"/dev/zero"];
    name.starts_with(b"/")
        && !memory.iter().any(|start| name.starts_with(start))
        && !slow.iter().any(|point| mounts::is_below(Path::new(OsStr::from_bytes(name)), Path::new(point)))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::is_deleted;

    #[test]
    fn only_files_on_disks_that_answer_are_asked() {
        for (target, expected) in [
            ("/var/log/big.log (deleted)", true),
            ("/var/log/big.log", false),
            ("/memfd:wayland (deleted)", false),
            ("/dev/shm/pool (deleted)", false),
            ("/SYSV00000000 (deleted)", false),
            ("/mnt/nfs/file (deleted)", false),
            ("/mnt/nfs2/file (deleted)", true),
            ("anon_inode:[eventpoll]", false),
            ("socket:[12] (deleted)", false),
        ] {
            assert_eq!(is_deleted(OsStr::new(target), &["/mnt/nfs"]), expected, "{target}");
        }
    }
}
