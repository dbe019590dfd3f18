//! Who waits for a lock of a file, and who holds it.
//!
//! /proc/locks names the process that took a lock, which may have ended: `flock 9` in a script takes it for the script.
//! Then the descriptors tell who has it now. Nothing is asked of the file itself: it may be on a server that is gone.

use std::path::{Path, PathBuf};

use crate::model::snapshot::Field;
use crate::model::snapshot::system::LockWait;
use crate::probe::{Roots, read_dir, read_into, say};

/// Waits that are kept.
const WAITS_MAX: usize = 256;
/// Descriptors looked at to find the file of a lock and who has it: about 2 us each.
const FILES_MAX: usize = 5_000;

/// All of them, as the kernel lists them.
pub(crate) fn waits(roots: &Roots) -> Field<Vec<LockWait>> {
    let path = roots.proc.join("locks");
    let mut text = Vec::new();
    match read_into(&path, &mut text) {
        Ok(()) => Field::Known(parse(&text)),
        Err(error) => Field::unavailable(path.display().to_string(), say(&error)),
    }
}

/// Adds the paths of the files, and who holds what an ended process took.
pub(crate) fn name(roots: &Roots, waits: &mut [LockWait]) {
    let mut left = FILES_MAX;
    for wait in waits {
        let folder = roots.proc.join(wait.waiter.to_string());
        let file = descriptors(folder, &mut left).find(|(info, _)| is_inode(info, &wait.inode));
        wait.file = file.map(|(_, file)| file.to_string_lossy().into_owned());
        let is_there = |pid: i32| roots.proc.join(pid.to_string()).exists();
        if wait.holder.is_none_or(|holder| !is_there(holder)) {
            wait.holder = wait.file.as_ref().and_then(|file| holder(roots, wait, Path::new(file), &mut left));
        }
    }
}

/// A process that has the file open, with the lock on what it has open.
fn holder(roots: &Roots, wait: &LockWait, file: &Path, left: &mut usize) -> Option<i32> {
    let entries = read_dir(&roots.proc).ok()?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != wait.waiter).find(|pid| {
        let mut open = descriptors(roots.proc.join(pid.to_string()), left).filter(|(_, open)| open == file);
        open.any(|(info, _)| has_lock(&info, &wait.inode))
    })
}

/// What /proc/PID/fdinfo says of each descriptor, read only where it is asked for, and what it is open on.
fn descriptors(process: PathBuf, left: &mut usize) -> impl Iterator<Item = (Info, PathBuf)> {
    let files = read_dir(process.join("fd")).into_iter().flatten().flatten();
    files.map_while(move |file| {
        *left = left.checked_sub(1)?;
        Some((Info(process.join("fdinfo").join(file.file_name())), std::fs::read_link(file.path()).ok()?))
    })
}

/// A file of /proc/PID/fdinfo.
struct Info(PathBuf);

impl Info {
    fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let _ = read_into(&self.0, &mut text);
        text
    }
}

/// Whether a descriptor is open on the file of a lock: `ino:` of fdinfo (Linux 5.14), by its number.
fn is_inode(info: &Info, inode: &str) -> bool {
    let number = inode.rsplit(':').next().unwrap_or_default();
    let text = info.text();
    let mut lines = text.split(|byte| *byte == b'\n');
    lines.any(|line| line.strip_prefix(b"ino:").is_some_and(|rest| rest.trim_ascii() == number.as_bytes()))
}

/// Whether what is open has a lock on it: a line `lock:` with the same file.
fn has_lock(info: &Info, inode: &str) -> bool {
    let text = info.text();
    let mut lines = text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"lock:"));
    lines.any(|line| line.split(|byte| *byte == b' ').any(|word| word == inode.as_bytes()))
}

/// `1: FLOCK  ADVISORY  WRITE 4242 fe:00:5365766 0 EOF` is held, `1: -> FLOCK ...` waits for what stands above it with the
/// same number. The number of a process that this one may not know is 0 or -1.
fn parse(text: &[u8]) -> Vec<LockWait> {
    let text = String::from_utf8_lossy(text);
    let mut waits = Vec::new();
    let mut held: Option<(&str, Option<i32>)> = None;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(number) = words.next() else { continue };
        let mut words = words.peekable();
        let waits_for_it = words.next_if_eq(&"->").is_some();
        let is_lock = words.next().is_some_and(|kind| matches!(kind, "FLOCK" | "POSIX" | "OFDLCK"));
        let pid = words.nth(2).and_then(|pid| pid.parse::<i32>().ok()).filter(|pid| *pid > 0);
        let Some(inode) = words.next().filter(|_| is_lock) else { continue };
        match (waits_for_it, pid, held) {
            (false, ..) => held = Some((number, pid)),
            (true, Some(waiter), Some((above, holder))) if above == number && waits.len() < WAITS_MAX => {
                waits.push(LockWait { waiter, holder, inode: inode.to_owned(), file: None });
            }
            _ => {}
        }
    }
    waits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{name, parse, waits};
    use crate::model::snapshot::Field;
    use crate::model::snapshot::system::LockWait;
    use crate::probe::Roots;

    const LOCKS: &str = "1: FLOCK  ADVISORY  WRITE 10720 fe:00:10010662 0 EOF\n\
        1: -> FLOCK  ADVISORY  WRITE 10722 fe:00:10010662 0 EOF\n\
        1: -> FLOCK  ADVISORY  WRITE 10723 fe:00:10010662 0 EOF\n\
        2: FLOCK  ADVISORY  WRITE 9413 fe:00:5365766 0 EOF\n\
        3: LEASE  ACTIVE    READ  9413 fe:00:5365766 0 EOF\n\
        4: OFDLCK ADVISORY  WRITE -1 00:1d:7 128 128\n\
        4: -> OFDLCK ADVISORY  WRITE -1 00:1d:7 128 128\n\
        4: -> POSIX  ADVISORY  READ 10769 00:1d:7 100 199\n";

    fn wait(waiter: i32, holder: Option<i32>, inode: &str) -> LockWait {
        LockWait { waiter, holder, inode: inode.to_owned(), file: None }
    }

    #[test]
    fn who_waits_stands_below_who_holds() {
        let expected = [
            wait(10722, Some(10720), "fe:00:10010662"),
            wait(10723, Some(10720), "fe:00:10010662"),
            wait(10769, None, "00:1d:7"),
        ];
        assert_eq!(parse(LOCKS.as_bytes()), expected);
        assert_eq!(parse(b"1: -> FLOCK  ADVISORY  WRITE 5 fe:00:1 0 EOF\n"), [], "nobody is above it");
    }

    #[test]
    fn the_file_and_who_has_it_now_come_from_descriptors() {
        let root = std::env::temp_dir().join(format!("apm-locks-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let file = |path: &str, text: &str| {
            let path = root.join("proc").join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            std::fs::write(path, text).expect("written");
        };
        let open = |pid: i32, number: i32, target: &str, info: &str| {
            file(&format!("{pid}/fdinfo/{number}"), info);
            let folder = root.join(format!("proc/{pid}/fd"));
            std::fs::create_dir_all(&folder).expect("a folder");
            std::os::unix::fs::symlink(target, folder.join(number.to_string())).expect("a link");
        };
        file("locks", &LOCKS[..LOCKS.find("2:").expect("the second")]);
        open(10722, 0, "/dev/null", "pos:\t0\nflags:\t02\nmnt_id:\t3\nino:\t4\n");
        open(10722, 3, "/t/L", "pos:\t0\nflags:\t02\nmnt_id:\t3\nino:\t10010662\n");
        // It has the file open, without the lock; another has the lock.
        open(50, 3, "/t/L", "ino:\t10010662\n");
        open(60, 9, "/t/L", "ino:\t10010662\nlock:\t1: FLOCK  ADVISORY  WRITE 10720 fe:00:10010662 0 EOF\n");
        let roots = Roots::below(&root);
        let Field::Known(mut found) = waits(&roots) else { panic!("the file is there") };
        name(&roots, &mut found);
        assert_eq!(found[0], LockWait { file: Some("/t/L".to_owned()), ..wait(10722, Some(60), "fe:00:10010662") });
        assert_eq!(found[1], wait(10723, None, "fe:00:10010662"), "what waits has ended");
        // The one that took it is there.
        std::fs::create_dir_all(root.join("proc/10720")).expect("a folder");
        let Field::Known(mut found) = waits(&roots) else { panic!("the file is there") };
        name(&roots, &mut found);
        assert_eq!(found[1].holder, Some(10720));
        let _ = std::fs::remove_dir_all(&root);
        assert!(waits(&roots).known().is_none());
    }

    proptest! {
        #[test]
        fn nothing_that_the_file_may_say_is_a_fault(mut text in Just(LOCKS.as_bytes().to_vec()), at in any::<usize>(), byte in any::<u8>(), noise in proptest::collection::vec(any::<u8>(), 0..400)) {
            let at = at % text.len();
            text[at] = byte;
            // As many lines have an arrow; one of them names no process until its number changes.
            prop_assert!(parse(&text).len() <= 4);
            parse(&noise);
        }
    }
}
