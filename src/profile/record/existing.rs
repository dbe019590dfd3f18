//! What was there before the first record: the tree of processes below one, their threads, names and mappings, read from
//! /proc.

#![expect(clippy::disallowed_methods, reason = "kernel: /proc")]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

/// Threads of a tree that are followed.
pub(crate) const THREADS_MAX: usize = 4096;
/// Bytes of /proc/PID/maps that are read; a mapping has about 100.
const MAPS_MAX: u64 = 32 << 20;

/// A process or thread that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    pub(crate) name: Vec<u8>,
}

/// An executable mapping of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapped {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) offset: u64,
    pub(crate) inode: u64,
    pub(crate) path: Vec<u8>,
}

/// A process and everything that it started and is still there, the parents first.
pub(crate) fn tree(pid: u32, with_children: bool) -> Vec<u32> {
    let mut found = vec![pid];
    if !with_children {
        return found;
    }
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(parent) = fs::read(entry.path().join("stat")).ok().and_then(|stat| parent(&stat)) {
            children.entry(parent).or_default().push(child);
        }
    }
    let mut seen = HashSet::from([pid]);
    let mut next = 0;
    while let Some(parent) = found.get(next) {
        next += 1;
        let new = children.remove(parent).unwrap_or_default();
        found.extend(new.into_iter().filter(|child| seen.insert(*child)));
    }
    found
}

/// What has started a process, or taken it over.
pub(crate) fn parent_of(pid: u32) -> Option<u32> {
    parent(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

fn parent(stat: &[u8]) -> Option<u32> {
    let after = stat.iter().rposition(|byte| *byte == b')')?;
    std::str::from_utf8(stat.get(after + 1..)?).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The threads of a process.
pub(crate) fn threads(pid: u32) -> Vec<Task> {
    let folder = PathBuf::from(format!("/proc/{pid}/task"));
    let mut tasks: Vec<Task> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let tid = entry.file_name().to_str()?.parse().ok()?;
            Some(Task { pid, tid, name: name_of(pid, tid)? })
        })
        .collect();
    tasks.sort_by_key(|task| (task.tid != pid, task.tid));
    tasks
}

/// The name of a thread.
pub(crate) fn name_of(pid: u32, tid: u32) -> Option<Vec<u8>> {
    let mut name = fs::read(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
    name.truncate(name.trim_ascii_end().len());
    Some(name)
}

/// Pages of memory that it has in RAM.
pub(crate) fn pages(pid: u32) -> Option<u64> {
    fs::read_to_string(format!("/proc/{pid}/statm")).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Its executable mappings.
pub(crate) fn mappings(pid: u32) -> Vec<Mapped> {
    let Ok(file) = fs::File::open(format!("/proc/{pid}/maps")) else { return Vec::new() };
    BufReader::new(file.take(MAPS_MAX)).split(b'\n').map_while(Result::ok).filter_map(|line| mapping(&line)).collect()
}

/// The same from a text.
pub(crate) fn mappings_of(text: &[u8]) -> impl Iterator<Item = Mapped> {
    text.split(|byte| *byte == b'\n').filter_map(mapping)
}

/// What a process has started and what that has, as far as it is still there: without a look at all other processes,
/// where the kernel keeps lists of children. The parents first.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    if !fs::exists(format!("/proc/{pid}/task/{pid}/children")).unwrap_or(false) {
        return tree(pid, true);
    }
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        for task in fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten().take(THREADS_MAX) {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children = children.split_ascii_whitespace().filter_map(|word| word.parse::<u32>().ok());
            found.extend(children.take(THREADS_MAX));
        }
        if found.len() > THREADS_MAX {
            break;
        }
    }
    found
}

/// `7f0000-7f1000 r-xp 00001000 08:01 1234   /usr/lib/x.so`
fn mapping(line: &[u8]) -> Option<Mapped> {
    let mut rest = line;
    let mut word = || {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        std::str::from_utf8(word).ok()
    };
    let (start, end) = word()?.split_once('-')?;
    let is_executable = word()?.as_bytes().get(2) == Some(&b'x');
    let offset = u64::from_str_radix(word()?, 16).ok()?;
    word()?;
    let inode = word()?.parse().ok()?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    is_executable.then(|| Mapped { start, end, offset, inode, path: rest.trim_ascii_start().to_vec() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Mapped, mapping, mappings, pages, parent, threads, tree};

    #[test]
    fn lines_are_read_by_the_layout_of_the_manual() {
        let line = b"55d0-55e0 r-xp 00001000 08:01 1234                  /usr/lib/a b.so (deleted)";
        let path = b"/usr/lib/a b.so (deleted)".to_vec();
        assert_eq!(mapping(line), Some(Mapped { start: 0x55d0, end: 0x55e0, offset: 0x1000, inode: 1234, path }));
        assert_eq!(mapping(b"55d0-55e0 rw-p 00001000 08:01 1234 /usr/lib/x"), None);
        assert_eq!(mapping(b"55d0-55e0 rwxp 00000000 00:00 0 ").map(|mapped| mapped.path), Some(Vec::new()));
        assert_eq!(parent(b"12 (a) b) S 7 12 12 0"), Some(7));
    }

    #[test]
    fn this_process_is_there() {
        let own = std::process::id();
        assert!(threads(own).iter().any(|task| task.tid == own));
        assert!(mappings(own).iter().any(|mapped| mapped.path.starts_with(b"/")));
        assert!(pages(own).is_some_and(|pages| pages > 0));
        assert_eq!(tree(own, false), [own]);
        assert!(tree(std::os::unix::process::parent_id(), true).contains(&own));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_mapping(line in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = (mapping(&line), parent(&line));
        }
    }
}
