//! The kernel's log: the records that fit a known complaint, of the last half hour. Reading it takes root where
//! `kernel.dmesg_restrict` is set, as most distributions do.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use crate::model::snapshot::Field;
use crate::model::snapshot::system::{Kmsg, Record};
use crate::probe::{Roots, open, say};
use crate::sys::kernel;

/// Records older than this are of no interest: netdata and others look back as long.
const LOOKBACK_S: f64 = 1_800.0;
/// Bytes of the end of the log that are read in one call: about 10,000 lines.
const LOG_MAX: usize = 1 << 20;
/// Records kept, the last.
const KEPT_MAX: usize = 100;
/// Bytes read: the kernel's buffer is 128 KiB to 1 MiB, rarely more. It holds the oldest first.
const BYTES_MAX: usize = 8 << 20;
/// Bytes of a text that are kept.
const TEXT_MAX: usize = 200;
/// The kernel refuses to read into less than a record: PRINTK_MESSAGE_MAX is 2,048.
const RECORD_MAX: usize = 8192;

/// Complaints by pieces of their text, after node-problem-detector's patterns and the kernel's sources. The first of which
/// all pieces are there names the record.
const PATTERNS: &[(&str, &[&str])] = &[
    ("oom_victim", &["oom-kill:constraint="]),
    ("oom_kill", &["Killed process "]),
    ("hung_task", &["task ", " blocked for more than "]),
    ("lockup", &["soft lockup"]),
    ("lockup", &["hard LOCKUP"]),
    ("rcu_stall", &["rcu", "detected", "stall"]),
    ("readonly", &["Remounting filesystem read-only"]),
    ("fs_error", &["EXT4-fs error"]),
    ("fs_error", &["XFS (", "orruption"]),
    ("fs_error", &["XFS (", "I/O error"]),
    ("fs_error", &["XFS (", "shutdown"]),
    ("fs_error", &["XFS (", "Shutting down"]),
    ("fs_error", &["BTRFS error"]),
    ("fs_error", &["BTRFS critical"]),
    ("io_error", &["I/O error"]),
    ("io_error", &["critical medium error"]),
    ("io_error", &["critical target error"]),
    ("io_timeout", &["timeout, aborting"]),
    ("memory_error", &["Hardware Error"]),
    ("memory_error", &["CE memory "]),
    ("memory_error", &["UE memory "]),
    ("memory_error", &["Memory failure: "]),
    ("pids_refused", &["fork rejected by pids controller"]),
    ("conntrack_full", &["nf_conntrack: ", "table full"]),
    ("neighbour_full", &["neighbour", "table overflow"]),
    ("syn_flood", &["ossible SYN flooding"]),
    ("tcp_memory", &["TCP: out of memory"]),
    ("netdev_busy", &["unregister_netdevice: waiting for"]),
    ("thermal", &["clock throttled"]),
    ("file_max", &["file-max limit", "reached"]),
    ("alloc_failure", &["page allocation failure"]),
    ("oops", &["BUG: "]),
    ("oops", &["Oops: "]),
];

/// Reads it. `uptime` is how old a record may be counted from.
#[expect(clippy::disallowed_methods, reason = "kernel: /dev/kmsg")]
pub(crate) fn read(roots: &Roots, uptime: Option<f64>) -> Field<Kmsg> {
    // Beside /proc and /sys: /dev of the same root.
    let path = roots.sys.parent().unwrap_or(&roots.sys).join("dev/kmsg");
    // A record a read there, thousands of them; here all in one call.
    if roots.is_here
        && let Ok(text) = kernel::log(LOG_MAX)
        && let Some(found) = whole(&text, uptime)
    {
        return Field::Known(found);
    }
    let unavailable = |error: io::Error| Field::unavailable(path.display().to_string(), say(&error));
    // The host of a container has the device too. Copies of files have no devices, and those that say so are not opened.
    let is_device = roots.is_here || std::fs::metadata(&path).is_ok_and(|meta| meta.rdev() == libc::makedev(1, 11));
    let opened =
        if is_device { OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path) } else { open(&path) };
    let mut file = match opened {
        Ok(file) => file,
        Err(error) => return unavailable(error),
    };
    let mut found = Kmsg::default();
    let mut kept = VecDeque::new();
    // A record a read from the kernel; a captured file comes in pieces that end anywhere.
    let (mut buffer, mut rest, mut bytes) = (vec![0; RECORD_MAX], Vec::new(), 0);
    while bytes < BYTES_MAX {
        let count = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            // The next record was overwritten before it was read.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return unavailable(error),
        };
        bytes += count;
        rest.extend_from_slice(&buffer[..count]);
        let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        take(&rest[..end], uptime, &mut kept, &mut found.is_cut);
        rest.drain(..end);
        // No record is that long: a file without lines would be searched again with each piece.
        if rest.len() > RECORD_MAX {
            rest.clear();
        }
    }
    take(&rest, uptime, &mut kept, &mut found.is_cut);
    found.records = kept.into();
    Field::Known(found)
}

/// The log as `dmesg --raw` has it: `<PRIORITY>[ SECONDS] TEXT`. `None` where it has no times.
fn whole(text: &[u8], uptime: Option<f64>) -> Option<Kmsg> {
    let oldest = uptime.map_or(0.0, |uptime| uptime - LOOKBACK_S);
    let mut found = Kmsg::default();
    let mut kept = VecDeque::new();
    // The first line may be the end of one.
    let mut lines = text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"<")).peekable();
    lines.peek()?;
    for line in lines {
        let (facility, at_s, text) = timed(line)?;
        if facility == 0 && at_s >= oldest {
            keep(record(at_s, text), &mut kept, &mut found.is_cut);
        }
    }
    found.records = kept.into();
    Some(found)
}

fn timed(line: &[u8]) -> Option<(u32, f64, &[u8])> {
    let end = line.iter().position(|byte| *byte == b'>')?;
    let facility = std::str::from_utf8(line.get(1..end)?).ok()?.parse::<u32>().ok()? >> 3;
    let rest = line.get(end + 1..)?.strip_prefix(b"[")?;
    let end = rest.iter().position(|byte| *byte == b']')?;
    let at_s = std::str::from_utf8(&rest[..end]).ok()?.trim().parse().ok()?;
    // Some kernels tell the task or the CPU next: `[ T123]`.
    let mut text = rest.get(end + 1..)?;
    if let Some(caller) = text.strip_prefix(b"[")
        && let Some(end) = caller.iter().position(|byte| *byte == b']')
    {
        text = &caller[end + 1..];
    }
    Some((facility, at_s, text.strip_prefix(b" ").unwrap_or(text)))
}

fn keep(record: Option<Record>, kept: &mut VecDeque<Record>, is_cut: &mut bool) {
    let Some(record) = record else { return };
    if kept.len() == KEPT_MAX {
        kept.pop_front();
        *is_cut = true;
    }
    kept.push_back(record);
}

fn take(text: &[u8], uptime: Option<f64>, kept: &mut VecDeque<Record>, is_cut: &mut bool) {
    let oldest = uptime.map_or(0.0, |uptime| uptime - LOOKBACK_S);
    for line in text.split(|byte| *byte == b'\n') {
        keep(parse(line, oldest), kept, is_cut);
    }
}

/// `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,...];TEXT`. Lines that begin with a space belong to the record before.
/// Programs of root may write here too: what is not of the kernel's own facility is nobody's complaint.
fn parse(line: &[u8], oldest: f64) -> Option<Record> {
    let at = line.iter().position(|byte| *byte == b';')?;
    let mut head = std::str::from_utf8(line.get(..at)?).ok()?.split(',');
    let facility = head.next()?.parse::<u32>().ok()? >> 3;
    let at_s = head.nth(1)?.parse::<u64>().ok()? as f64 / 1e6;
    if facility != 0 || at_s < oldest {
        return None;
    }
    record(at_s, line.get(at + 1..)?)
}

/// The record of a text, if it is a known complaint.
fn record(at_s: f64, text: &[u8]) -> Option<Record> {
    let text = clean(&String::from_utf8_lossy(text));
    let is_it = |(_, pieces): &&(&str, &[&str])| pieces.iter().all(|piece| text.contains(piece));
    let (pattern, _) = PATTERNS.iter().find(is_it)?;
    let text = if *pattern == "oom_victim" { victim(&text) } else { text };
    Some(Record { pattern: (*pattern).to_owned(), at_s, text: cut(text) })
}

/// The kernel writes what is not printable as `\x1b`; taken as characters they stay harmless.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn cut(mut text: String) -> String {
    let end = (0..=TEXT_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
    text
}

/// The line about a victim is long; which group had no memory left and who died fits.
fn victim(text: &str) -> String {
    let is_wanted =
        |part: &&str| ["oom_memcg=", "global_oom", "task=", "pid="].iter().any(|start| part.starts_with(start));
    text.split(',').filter(is_wanted).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{cut, parse, read};
    use crate::probe::Roots;

    /// As Linux 6.18 wrote it, the group's name made shorter.
    const LOG: &str = "6,100,1000000,-;Linux version 6.18.44\n\
        3,18744,14586575262,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/ci/job,task_memcg=/ci/job/1,task=python3,pid=4538,uid=0\n\
        3,18745,14586575271,-;Memory cgroup out of memory: Killed process 4538 (python3) total-vm:170188kB, anon-rss:65280kB, file-rss:6688kB, shmem-rss:0kB, UID:0 pgtables:188kB oom_score_adj:0\n\
        4,18746,14613077473,-;node invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0\n \
        SUBSYSTEM=cpu\n\
        12,18747,14613077480,-;Killed process 1 (init) says a program, not the kernel\n\
        3,18748,14930000000,-;INFO: task touch:812 blocked for more than 120 seconds.\n";

    #[test]
    fn complaints_of_the_kernel_are_found_and_nobody_elses() {
        let root = std::env::temp_dir().join(format!("apm-kmsg-{}", std::process::id()));
        std::fs::create_dir_all(root.join("dev")).expect("a folder");
        std::fs::write(root.join("dev/kmsg"), LOG).expect("a file");
        let found = read(&Roots::below(&root), Some(15_000.0));
        let late = read(&Roots::below(&root), Some(16_500.0));
        std::fs::remove_dir_all(&root).expect("gone");
        let found = found.get().expect("read");
        let names: Vec<&str> = found.records.iter().map(|record| record.pattern.as_str()).collect();
        assert_eq!(names, ["oom_victim", "oom_kill", "hung_task"]);
        assert_eq!(found.records[0].text, "oom_memcg=/ci/job,task=python3,pid=4538");
        assert_eq!(found.records[2].at_s, 14_930.0);
        // Half an hour later only the last is of interest.
        assert_eq!(late.get().expect("read").records.len(), 1);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(cut("\u{e9}".repeat(150)).len(), 200);
        assert_eq!(cut("a".to_owned() + &"\u{e9}".repeat(150)).len(), 199);
    }

    #[test]
    fn the_whole_log_is_read_as_the_kernel_writes_it() {
        let text = b"end of a line\n<6>[    1.000000] Linux version 6.18\n<3>[14586.575262] Out of memory: Killed process 77 (a) total-vm:1kB\n<30>[14586.6] systemd[1]: Oops: x\n<4>[14587.000001][  T812] nf_conntrack: nf_conntrack: table full, dropping packet\n";
        let found = super::whole(text, Some(14600.0)).expect("a log");
        let records: Vec<(&str, f64)> = found.records.iter().map(|it| (it.pattern.as_str(), it.at_s)).collect();
        assert_eq!(records, [("oom_kill", 14586.575262), ("conntrack_full", 14587.000001)]);
        assert!(found.records[1].text.starts_with("nf_conntrack: "));
        assert_eq!(super::whole(b"<6>no time\n", None).map(|it| it.records.len()), None);
        assert_eq!(super::whole(b"", None).map(|it| it.records.len()), None);
    }

    proptest! {
        #[test]
        fn no_log_is_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = super::whole(&bytes, Some(1.0));
        }

        #[test]
        fn no_line_is_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..1300_usize, byte in any::<u8>()) {
            let _ = parse(&bytes, 0.0);
            let mut log = LOG.as_bytes().to_vec();
            let at = at.min(log.len() - 1);
            log[at] = byte;
            for line in log.split(|byte| *byte == b'\n') {
                let _ = parse(line, 0.0);
            }
        }
    }
}
