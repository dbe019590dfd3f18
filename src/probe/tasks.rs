//! All processes: one read of /proc/PID/stat each, more only where a rule needs it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::model::snapshot::Field;
use crate::model::snapshot::process::{Io, Process};
use crate::probe::stat::Stat;
use crate::probe::{PAGE, Roots, read_dir, read_into, say};

/// Processes whose further files are read; with more the rest has only /proc/PID/stat.
const DETAILED_MAX: usize = 1_000;
/// From so many open files on the limit is read too: nobody sets one below.
const FILES_FEW: u64 = 16;
/// Zombies from which on it is read whether their parent handles SIGCHLD.
const ZOMBIES: usize = 10;
/// Descriptors counted one by one, on kernels that do not say how many there are.
const COUNTED_MAX: usize = 4_096;
/// Processes and threads of a user from which on his limit is read.
const TASKS_MANY: u64 = 32;
/// The kernel's number of the policy.
const SCHED_IDLE: u32 = 5;
/// Above all levels that can be set.
const NICEST: i32 = 20;
/// The parent of all threads of the kernel.
const KTHREADD: i32 = 2;

/// Reads all processes.
pub(crate) fn read(roots: &Roots) -> Field<Vec<Process>> {
    sweep(roots, DETAILED_MAX)
}

/// The same, with /proc/PID/stat alone.
pub(crate) fn list(roots: &Roots) -> Field<Vec<Process>> {
    sweep(roots, 0)
}

fn sweep(roots: &Roots, detailed_max: usize) -> Field<Vec<Process>> {
    let entries = match read_dir(&roots.proc) {
        Ok(entries) => entries,
        Err(error) => return Field::unavailable(roots.proc.display().to_string(), say(&error)),
    };
    let mut processes = Vec::new();
    let mut text = Vec::with_capacity(1024);
    for entry in entries.flatten() {
        if !is_number(entry.file_name().as_encoded_bytes()) {
            continue;
        }
        let folder = entry.path();
        // One that vanishes meanwhile has ended.
        let Some(mut process) = read_into(&folder.join("stat"), &mut text).ok().and_then(|()| parse(&text)) else {
            continue;
        };
        if processes.len() < detailed_max {
            detail(&folder, &mut process, &mut text);
        }
        processes.push(process);
    }
    Field::Known(processes)
}

/// Whether those that left zombies have a handler for SIGCHLD: one that has none does not learn of a signal.
pub(crate) fn mark_parents_of_zombies(roots: &Roots, processes: &mut [Process]) {
    let mut left: BTreeMap<i32, usize> = BTreeMap::new();
    for zombie in processes.iter().filter(|process| process.state == 'Z') {
        *left.entry(zombie.parent).or_default() += 1;
    }
    let mut text = Vec::new();
    for process in processes.iter_mut().filter(|process| left.get(&process.pid).is_some_and(|count| *count >= ZOMBIES))
    {
        if read_into(&roots.proc.join(process.pid.to_string()).join("status"), &mut text).is_ok() {
            process.handles_sigchld = handles_sigchld(&String::from_utf8_lossy(&text));
        }
    }
}

/// `SigCgt:\t0000000180014a07`, signal 1 in the lowest bit.
fn handles_sigchld(status: &str) -> Option<bool> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
    Some(u64::from_str_radix(mask.trim(), 16).ok()? & (1 << (libc::SIGCHLD - 1)) != 0)
}

/// How much shared memory the processes have that are at least so large.
pub(crate) fn read_shared(roots: &Roots, processes: &mut [Process], least: u64) {
    let mut text = Vec::new();
    for process in processes.iter_mut().filter(|process| process.resident >= least).take(DETAILED_MAX) {
        if read_into(&roots.proc.join(process.pid.to_string()).join("status"), &mut text).is_ok() {
            process.shared = shared(&String::from_utf8_lossy(&text));
        }
    }
}

/// `RssShmem: 7340064 kB`
fn shared(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssShmem:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// How much memory each process was promised.
pub(crate) fn read_promised(roots: &Roots, processes: &mut [Process]) {
    let mut text = Vec::new();
    for process in processes.iter_mut().take(DETAILED_MAX) {
        if read_into(&roots.proc.join(process.pid.to_string()).join("statm"), &mut text).is_ok() {
            let pages =
                std::str::from_utf8(&text).ok().and_then(|text| text.split_ascii_whitespace().nth(5)?.parse().ok());
            process.promised = pages.and_then(|pages: u64| pages.checked_mul(PAGE));
        }
    }
}

/// How many processes and threads users may have, root left out, who is not held to it; only of those that have many.
pub(crate) fn limits_of_users(roots: &Roots, processes: &[Process]) -> BTreeMap<u32, u64> {
    let mut users: BTreeMap<u32, (u64, i32)> = BTreeMap::new();
    for process in processes {
        let Some(uid) = process.uid.filter(|uid| *uid != 0) else { continue };
        let user = users.entry(uid).or_default();
        *user = (user.0 + u64::from(process.threads), user.1.max(process.pid));
    }
    let mut text = Vec::new();
    let mut limit = |pid: i32| {
        read_into(&roots.proc.join(pid.to_string()).join("limits"), &mut text).ok()?;
        limit_of(&String::from_utf8_lossy(&text), "Max processes").map(|(soft, _)| soft)
    };
    users.retain(|_, (tasks, _)| *tasks >= TASKS_MANY);
    users.into_iter().filter_map(|(uid, (_, pid))| Some((uid, limit(pid)?))).collect()
}

/// An entry of /proc that is a process.
pub(crate) fn is_number(name: &[u8]) -> bool {
    name.first().is_some_and(u8::is_ascii_digit)
}

fn detail(folder: &Path, process: &mut Process, text: &mut Vec<u8>) {
    if read_into(&folder.join("schedstat"), text).is_ok() {
        let words = std::str::from_utf8(text).unwrap_or_default();
        let mut words = words.split_ascii_whitespace().skip(1).map(|word| word.parse().ok());
        process.run_delay_ns = words.next().flatten();
        process.turns = words.next().flatten();
    }
    if read_into(&folder.join("io"), text).is_ok() {
        let words = String::from_utf8_lossy(text);
        let value = |name: &str| words.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        process.io = value("read_bytes:").zip(value("write_bytes:")).map(|(read, written)| Io { read, written });
    }
    process.uid = std::fs::metadata(folder).ok().map(|data| data.uid());
    if process.state == 'Z' || process.parent == KTHREADD || process.pid == KTHREADD {
        return;
    }
    process.files = files(&folder.join("fd"));
    if process.files.is_some_and(|files| files >= FILES_FEW) && read_into(&folder.join("limits"), text).is_ok() {
        (process.files_max, process.files_hard) = files_max(&String::from_utf8_lossy(text)).unzip();
    }
}

/// Open files of a process. Since Linux 6.2 the size of the folder says it, to everybody; before, they are counted, which
/// only the owner may.
fn files(folder: &Path) -> Option<u64> {
    let size = std::fs::metadata(folder).ok()?.len();
    // What a folder on a disk says of itself is something else.
    if size > 0 && folder.starts_with("/proc") {
        return Some(size);
    }
    Some(read_dir(folder).ok()?.take(COUNTED_MAX).count() as u64)
}

fn files_max(text: &str) -> Option<(u64, u64)> {
    limit_of(text, "Max open files")
}

/// Soft and hard limit of this name in /proc/PID/limits.
fn limit_of(text: &str, name: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let mut words = line.split_ascii_whitespace();
    let mut limit = || match words.next()? {
        "unlimited" => Some(u64::MAX),
        word => word.parse().ok(),
    };
    Some((limit()?, limit()?))
}

/// /proc/PID/stat
pub(crate) fn parse(text: &[u8]) -> Option<Process> {
    let stat = Stat::parse(text)?;
    let number = |at: usize| stat.field::<u64>(at);
    Some(Process {
        pid: stat.pid,
        name: String::from_utf8_lossy(stat.name).into_owned(),
        state: stat.state,
        parent: stat.field(1)?,
        session: stat.field(3).unwrap_or_default(),
        has_terminal: stat.field::<i32>(4).is_some_and(|terminal| terminal != 0),
        major_faults: number(9)?,
        cpu_ticks: number(11)?.checked_add(number(12)?)?,
        system_ticks: number(12)?,
        children_system_ticks: number(14).unwrap_or_default(),
        children_ticks: number(13).zip(number(14)).map_or(0, |(user, system)| user.saturating_add(system)),
        // Whoever runs only when nobody else wants to is nicer than nice.
        nice: if stat.field(38) == Some(SCHED_IDLE) { NICEST } else { stat.field(16)? },
        threads: stat.field(17)?,
        started: number(19)?,
        resident: number(21)?.checked_mul(PAGE)?,
        processor: stat.field(36).unwrap_or_default(),
        realtime: stat.field(37).unwrap_or_default(),
        ..Process::default()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{files_max, handles_sigchld, parse, shared};

    /// As Linux 6.18 wrote them, the name made hostile.
    const STAT: &str = "3045 (a) R 1 (b\u{1b}) S 1 3045 3045 0 -1 4194560 2911 71009 0 13 40 10 700 90 20 0 3 0 1493034 30459904 25594 18446744073709551615 1 1 0 0 0 0 0 16781312 134433283 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \nMax cpu time              unlimited            unlimited            seconds   \nMax open files            1024                 20000                files     \nMax locked memory         8388608              8388608              bytes     \n";

    #[test]
    fn files_are_read_as_the_kernel_writes_them() {
        let process = parse(STAT.as_bytes()).expect("a process");
        assert_eq!(
            (process.pid, process.parent, process.state, process.name.as_str()),
            (3045, 1, 'S', "a) R 1 (b\u{1b}")
        );
        assert_eq!((process.cpu_ticks, process.system_ticks, process.children_ticks), (50, 10, 790));
        assert_eq!((process.threads, process.processor, process.nice), (3, 1, 0));
        assert_eq!((process.session, process.has_terminal), (3045, false));
        assert_eq!((shared("VmRSS:\t 9 kB\nRssShmem:\t     7 kB\n"), shared("VmRSS: 9 kB\n")), (Some(7168), None));
        let status = |caught: &str| handles_sigchld(&format!("SigIgn:\t0000000000001000\nSigCgt:\t{caught}\n"));
        assert_eq!(
            (status("0000000000010002"), status("0000000000000002"), status("x")),
            (Some(true), Some(false), None)
        );
        assert_eq!(files_max(LIMITS), Some((1024, 20_000)));
        assert_eq!(files_max("Max open files unlimited unlimited files"), Some((u64::MAX, u64::MAX)));
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..400, byte in any::<u8>()) {
            let _ = (parse(&bytes), files_max(&String::from_utf8_lossy(&bytes)));
            let mut stat = STAT.as_bytes().to_vec();
            let at = at % stat.len();
            stat[at] = byte;
            let _ = parse(&stat);
        }
    }
}
