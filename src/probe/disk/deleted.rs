//! Deleted files that are still open: the room they take is in no folder. One readlink a descriptor, so it is bounded.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::model::snapshot::Field;
use crate::model::snapshot::disk::{Deleted, DeletedFile, DeletedSum, Mount};
use crate::probe::disk::mounts;
use crate::probe::{Roots, read_dir, say};

/// Descriptors looked at, and those of one process, unless asked to look deep: 2 us each.
const DESCRIPTORS_MAX: usize = 12_000;
/// See `DESCRIPTORS_MAX`: one process with many connections must not hide all others.
const OF_A_PROCESS_MAX: usize = 4_000;
/// All descriptors if asked.
const DESCRIPTORS_DEEP_MAX: usize = 1_000_000;
/// Files kept, the largest.
const FILES_MAX: usize = 64;
/// Further processes kept that hold one of them.
const ALSO_MAX: usize = 32;

/// Looks through the descriptors of all processes that may be seen. Needs the file systems to tell which may hang.
pub(super) fn read(roots: &Roots, mounts: &[Mount], is_deep: bool) -> Field<Deleted> {
    let folder = roots.proc.display().to_string();
    if !roots.is_here {
        return Field::unavailable(format!("{folder}/PID/fd"), "the files are of another machine");
    }
    let entries = match read_dir(&roots.proc) {
        Ok(entries) => entries,
        Err(error) => return Field::unavailable(folder, say(&error)),
    };
    let slow: Vec<&str> =
        mounts.iter().filter(|mount| mounts::may_hang(&mount.kind)).map(|mount| mount.point.as_str()).collect();
    let (mut left, of_a_process) =
        if is_deep { (DESCRIPTORS_DEEP_MAX, DESCRIPTORS_DEEP_MAX) } else { (DESCRIPTORS_MAX, OF_A_PROCESS_MAX) };
    let mut found = Deleted::default();
    // The same file open twice takes its room once. Where in `files` it is; memory is in none.
    let mut seen: HashMap<(String, u64), Option<usize>> = HashMap::new();
    let mut sums: BTreeMap<(i32, String), (u64, u32)> = BTreeMap::new();
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let descriptors = match read_dir(entry.path().join("fd")) {
            Ok(descriptors) => descriptors,
            // One that vanishes meanwhile has ended.
            Err(error) => {
                found.hidden += u32::from(error.kind() == std::io::ErrorKind::PermissionDenied);
                continue;
            }
        };
        for (at, descriptor) in descriptors.flatten().enumerate() {
            if left == 0 || at >= of_a_process {
                found.is_cut = true;
                break;
            }
            left -= 1;
            let Some(file) = deleted(pid, &descriptor.path(), &slow) else { continue };
            let place = (!file.device.is_empty()).then_some(found.files.len());
            match seen.entry((file.device.clone(), file.inode)) {
                Entry::Occupied(first) => {
                    let first = first.get().and_then(|at| found.files.get_mut(at));
                    let is_new = |first: &&mut DeletedFile| first.pid != pid && !first.also.contains(&pid);
                    if let Some(first) = first.filter(is_new).filter(|first| first.also.len() < ALSO_MAX) {
                        first.also.push(pid);
                    }
                }
                Entry::Vacant(new) => {
                    new.insert(place);
                    let sum = sums.entry((pid, file.device.clone())).or_default();
                    *sum = (sum.0.saturating_add(file.bytes), sum.1 + 1);
                    if place.is_some() {
                        found.files.push(file);
                    }
                }
            }
        }
    }
    let sums = sums.into_iter().map(|((pid, device), (bytes, files))| DeletedSum { pid, device, bytes, files });
    (found.memory, found.holders) = sums.partition(|sum| sum.device.is_empty());
    for sums in [&mut found.memory, &mut found.holders] {
        sums.sort_by_key(|sum| (std::cmp::Reverse(sum.bytes), sum.pid));
    }
    found.files.sort_by_key(|file| (std::cmp::Reverse(file.bytes), file.pid, file.descriptor));
    found.files.truncate(FILES_MAX);
    Field::Known(found)
}

/// The descriptor, if it is of a deleted regular file that takes room on a disk.
fn deleted(pid: i32, path: &Path, slow: &[&str]) -> Option<DeletedFile> {
    let target = std::fs::read_link(path).ok()?;
    let is_memory = is_memory(target.as_os_str());
    if !is_memory && !is_deleted(target.as_os_str(), slow) {
        return None;
    }
    // Through the link of the kernel: it leads to the open file although its name is gone.
    let facts = std::fs::metadata(path).ok()?;
    let bytes = facts.blocks().saturating_mul(512);
    if !facts.is_file() || facts.nlink() > 0 || bytes == 0 {
        return None;
    }
    let device = facts.dev();
    let device = if is_memory { String::new() } else { format!("{}:{}", libc::major(device), libc::minor(device)) };
    let descriptor = path.file_name()?.to_str()?.parse().ok()?;
    Some(DeletedFile { pid, descriptor, device, inode: facts.ino(), bytes, also: Vec::new() })
}

/// Names of memory that is called a file.
const MEMORY: [&[u8]; 4] = [b"/memfd:", b"/dev/shm/", b"/SYSV", b"/dev/zero"];

/// Memory with a descriptor, of which no folder knows.
fn is_memory(target: &OsStr) -> bool {
    let name = target.as_bytes();
    name.ends_with(b" (deleted)") && MEMORY[..2].iter().any(|start| name.starts_with(start))
}

/// Memory that is only called a file is none, and a file on a server that does not answer must not be asked.
fn is_deleted(target: &OsStr, slow: &[&str]) -> bool {
    let Some(name) = target.as_bytes().strip_suffix(b" (deleted)") else { return false };
    name.starts_with(b"/")
        && !MEMORY.iter().any(|start| name.starts_with(start))
        && !slow.iter().any(|point| mounts::is_below(Path::new(OsStr::from_bytes(name)), Path::new(point)))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::{is_deleted, read};
    use crate::model::snapshot::disk::{DeletedFile, DeletedSum};
    use crate::probe::Roots;

    #[test]
    fn a_file_that_is_open_twice_takes_its_room_once() {
        let path = std::env::temp_dir().join(format!("apm-deleted-{}", std::process::id()));
        std::fs::write(&path, vec![1; 1 << 20]).expect("written");
        let _open = [std::fs::File::open(&path).expect("open"), std::fs::File::open(&path).expect("open")];
        // Another process that has it open, as a child has what its parent opened.
        let file = std::fs::File::open(&path).expect("open");
        let mut other = std::process::Command::new("sleep").arg("60").stdin(file).spawn().expect("sleep");
        std::fs::remove_file(&path).expect("gone");
        let found = read(&Roots::default(), &[], false);
        other.kill().and_then(|()| other.wait()).expect("ended");
        let own = std::process::id() as i32;
        let holders = |file: &DeletedFile| [&[file.pid], file.also.as_slice()].concat();
        let both = found.known().into_iter().flat_map(|found| &found.files).map(holders);
        let both = both.filter(|pids| pids.contains(&own) && pids.contains(&(other.id() as i32))).count();
        // On a tmpfs it is memory, of which no list of files is kept.
        assert_eq!(
            both,
            usize::from(found.known().is_some_and(|found| found.files.iter().any(|file| file.pid == own)))
        );
        let is_one = |sum: &&DeletedSum| sum.pid == own || sum.pid == other.id() as i32;
        let sums = found.known().map(|found| found.holders.iter().chain(&found.memory).filter(is_one));
        let sums: Vec<(u64, u32)> = sums.into_iter().flatten().map(|sum| (sum.bytes, sum.files)).collect();
        assert_eq!(sums, [(1 << 20, 1)]);
    }

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
