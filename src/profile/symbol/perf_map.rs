//! Names of code that was made at run time: runtimes write them to `/tmp/perf-PID.map` (`node --perf-basic-prof`,
//! `python -X perf`), one line a function: start, size, name. Such a file can be anybody's: it must belong to the user of
//! the process, or root, and be no older than it.

#![expect(clippy::disallowed_methods, reason = "kernel: /proc")]

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use crate::sys::beneath::{Folder, Links};
use crate::sys::process;

/// Bytes of a map that are read; what comes later has no names. V8 writes about 100 bytes a function.
pub(crate) const BYTES_MAX: u64 = 512 << 20;
/// Longest line that is looked at; of a longer one the rest is passed over without being kept.
const LINE_MAX: u64 = 16 << 10;
/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;
/// Lines between two questions whether to go on.
const LINES: u64 = 1024;
/// Longest name.
const NAME_MAX: usize = 1024;
/// Programs whose maps are kept open.
const PROGRAMS_MAX: usize = 128;
/// Samples in made code after which a map that was not there is looked for again.
const AGAIN: u64 = 64;
/// What the clock of a file system may be behind.
const SLACK: Duration = Duration::from_secs(1);
/// Ticks a second in /proc/PID/stat (`USER_HZ`, the same on every Linux).
const TICKS: f64 = 100.0;

/// Maps of the programs that were sampled in made code.
#[derive(Debug)]
pub(crate) struct PerfMaps {
    since: SystemTime,
    programs: HashMap<u32, Source>,
}

#[derive(Debug)]
struct Source {
    pid: u32,
    owner: Option<u32>,
    not_before: SystemTime,
    inside: Option<PathBuf>,
    file: Option<File>,
    seen: u64,
}

impl PerfMaps {
    /// None yet. Processes of the recording began at this time or later, unless they say otherwise.
    pub(crate) fn since(since: SystemTime) -> Self {
        Self { since, programs: HashMap::new() }
    }

    /// A program was sampled in made code: its map is opened while it lives, since it may be out of reach afterwards.
    pub(crate) fn seen(&mut self, program: u32, pid: u32) {
        if self.programs.len() >= PROGRAMS_MAX && !self.programs.contains_key(&program) {
            return;
        }
        let source = self.programs.entry(program).or_insert_with(|| Source::new(pid, self.since));
        source.seen += 1;
        if source.file.is_none() && source.seen % AGAIN == 1 {
            source.open();
        }
    }

    /// Names of a program's addresses, which are in order; and whether its whole map was read.
    pub(crate) fn names(
        &mut self,
        program: u32,
        addresses: &[u64],
        go_on: &dyn Fn() -> bool,
    ) -> (HashMap<u64, String>, bool) {
        let Some(source) = self.programs.get_mut(&program) else { return (HashMap::new(), true) };
        if source.file.is_none() {
            source.open();
        }
        let Some(file) = source.file.take() else { return (HashMap::new(), true) };
        let is_short = file.metadata().is_ok_and(|meta| meta.len() <= BYTES_MAX);
        let (names, is_whole) = read(BufReader::with_capacity(BUFFER, file.take(BYTES_MAX)), addresses, go_on);
        (names, is_whole && is_short)
    }
}

impl Source {
    fn new(pid: u32, since: SystemTime) -> Self {
        let owner = fs::metadata(format!("/proc/{pid}")).ok().map(|meta| meta.uid());
        let not_before = started(pid).map_or(since, |started| started.min(since));
        let own_number = fs::read_to_string(format!("/proc/{pid}/status")).ok().and_then(|text| number_inside(&text));
        let inside = own_number.map(|number| PathBuf::from(format!("/proc/{pid}/root/tmp/perf-{number}.map")));
        Self { pid, owner, not_before, inside, file: None, seen: 0 }
    }

    fn open(&mut self) {
        let outside = PathBuf::from(format!("/tmp/perf-{}.map", self.pid));
        let owner = self.owner.unwrap_or_else(process::uid);
        let not_before = self.not_before.checked_sub(SLACK).unwrap_or(self.not_before);
        self.file = self.inside.iter().chain([&outside]).find_map(|path| trusted(path, owner, not_before));
    }
}

fn trusted(path: &Path, owner: u32, not_before: SystemTime) -> Option<File> {
    // A link is another's idea of what to read; a FIFO of that name would make apm wait.
    let folder = Folder::open(path.parent()?).ok()?;
    let file = folder.file(Path::new(path.file_name()?), Links::Refused).ok()?;
    let meta = file.metadata().ok()?;
    let is_new = meta.modified().is_ok_and(|at| at >= not_before);
    (is_new && (meta.uid() == owner || meta.uid() == 0)).then_some(file)
}

/// When a process started.
fn started(pid: u32) -> Option<SystemTime> {
    let ticks = process::start_of(i32::try_from(pid).ok()?)?;
    let uptime: f64 = fs::read_to_string("/proc/uptime").ok()?.split_ascii_whitespace().next()?.parse().ok()?;
    let age = Duration::try_from_secs_f64((uptime - ticks as f64 / TICKS).max(0.0)).ok()?;
    SystemTime::now().checked_sub(age)
}

/// The number of a process in its own namespace, the last of the line.
fn number_inside(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_ascii_whitespace().last()?.parse().ok()
}

/// Names of addresses that are in order; where several lines are about one, the last is true. Also whether it came to the
/// end.
pub(crate) fn read(
    mut text: impl BufRead,
    addresses: &[u64],
    go_on: &dyn Fn() -> bool,
) -> (HashMap<u64, String>, bool) {
    let mut names: HashMap<u64, Rc<str>> = HashMap::new();
    let mut line = Vec::new();
    let mut count = 0_u64;
    let mut is_whole = true;
    while text.by_ref().take(LINE_MAX).read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        if let Some((start, length, name)) = entry(&line) {
            let first = addresses.partition_point(|address| *address < start);
            let name = Rc::from(name);
            let inside = addresses[first..].iter().take_while(|address| **address - start < length);
            for address in inside {
                names.insert(*address, Rc::clone(&name));
                count += 1;
            }
        }
        let is_cut = !line.ends_with(b"\n");
        line.clear();
        count += 1;
        if (count >= LINES || is_cut) && !go_on() || is_cut && !passed_line(&mut text, go_on) {
            is_whole = false;
            break;
        }
        count %= LINES;
    }
    (names.into_iter().map(|(address, name)| (address, name.to_string())).collect(), is_whole)
}

/// Reads to the end of a line and keeps nothing of it.
fn passed_line(text: &mut impl BufRead, go_on: &dyn Fn() -> bool) -> bool {
    while let Ok(bytes) = text.fill_buf() {
        let end = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let count = end.unwrap_or(bytes.len());
        text.consume(count);
        if end.is_some() || count == 0 {
            break;
        }
        if !go_on() {
            return false;
        }
    }
    true
}

/// `3ef414c0 398 RegExp:[{(]`
fn entry(line: &[u8]) -> Option<(u64, u64, String)> {
    let mut parts = line.trim_ascii_end().splitn(3, |byte| *byte == b' ');
    let mut hexadecimal = || {
        let word = std::str::from_utf8(parts.next()?).ok()?;
        u64::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16).ok()
    };
    let (start, length) = (hexadecimal()?, hexadecimal()?);
    let name = parts.next().filter(|name| !name.is_empty())?;
    Some((start, length, String::from_utf8_lossy(&name[..name.len().min(NAME_MAX)]).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::{number_inside, read, started, trusted};

    #[test]
    fn the_last_line_about_an_address_is_true() {
        let text = b"1000 10 old\n2000 20 a b\ngarbage\n1008 8 new\n0x3000 1 c\n";
        let (names, is_whole) = read(&text[..], &[0x1004, 0x1008, 0x2000, 0x201f, 0x2020, 0x3000], &|| true);
        assert!(is_whole);
        let name = |address| names.get(&address).map(String::as_str);
        assert_eq!([name(0x1004), name(0x1008), name(0x2000)], [Some("old"), Some("new"), Some("a b")]);
        assert_eq!([name(0x201f), name(0x2020), name(0x3000)], [Some("a b"), None, Some("c")]);
    }

    #[test]
    fn a_line_without_end_is_passed_over_and_nothing_of_it_kept() {
        let long = vec![0; 1 << 20];
        let text = [&b"1000 10 a\n"[..], &long, b"\n2000 10 b\n"].concat();
        let (names, is_whole) = read(&text[..], &[0x1000, 0x2000], &|| true);
        assert_eq!((names.len(), is_whole), (2, true));
        let (names, is_whole) = read(&text[..], &[0x1000, 0x2000], &|| false);
        assert_eq!((names.len(), is_whole), (1, false), "it ends in the middle of a line too");
        let many = "1000 1 a\n".repeat(5000);
        assert!(!read(many.as_bytes(), &[0x1000], &|| false).1);
    }

    #[test]
    fn a_map_of_somebody_else_or_of_before_is_not_read() {
        let path = std::env::temp_dir().join(format!("apm-perf-map-{}", std::process::id()));
        std::fs::write(&path, "1 1 a\n").expect("written");
        let own = crate::sys::process::uid();
        let now = SystemTime::now();
        let hour = Duration::from_secs(3600);
        assert!(trusted(&path, own, now - hour).is_some());
        assert!(trusted(&path, own, now + hour).is_none());
        assert!(own == 0 || trusted(&path, own + 1, now - hour).is_none());
        std::fs::remove_file(&path).expect("gone");
        assert!(trusted(std::path::Path::new("/dev/null"), own, now - hour).is_none());
    }

    #[test]
    fn a_process_has_a_start_and_a_number() {
        assert!(started(std::process::id()).is_some_and(|at| at <= SystemTime::now()));
        assert_eq!(number_inside("Name:\tx\nNSpid:\t77\t5\n"), Some(5));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_name_nothing_outside(text in prop::collection::vec(any::<u8>(), 0..300), at in any::<u64>()) {
            let (names, _) = read(&text[..], &[at], &|| true);
            prop_assert!(names.len() <= 1);
        }
    }
}
