//! Finds and ends processes: whole trees, orphans that came to apm, leftovers of an apm that was killed.
//!
//! Every process of a run carries a mark in its environment (`APM_ATTEMPT=RUN@PLACE.TASK.ATTEMPT.COMMAND`), so that one which
//! left its group, its session and its parent is still known. An apm inside a task adds its marks to the one it carries
//! itself (`OUTER:INNER`): where it is killed, the attempt around it still knows what it started.
//!
//! The number of a process may be given to another one at any moment. So its start time is read first, before anything that
//! decides about it; and before a signal is sent it is compared, through a descriptor that keeps the number from being
//! reused.

#![allow(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "kernel: /proc")]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use crate::sys::{signal, spawn};

/// Rounds of looking for members of a tree: each ends all it finds, a new one appears only by a fork between reading
/// and killing.
const ROUNDS_MAX: u32 = 50;

/// The variable with the marks.
pub(crate) const MARKS: &str = "APM_ATTEMPT";
/// The variable with the name of the task, which may contain anything.
const TASK: &str = "APM_TASK";
/// Stands between them.
pub(crate) const MARKS_SEPARATOR: char = ':';

/// A process, safe against reuse of its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// Clock ticks since boot.
    pub(crate) start: u64,
}

impl Identity {
    /// It has not ended.
    pub(crate) fn is_alive(&self) -> bool {
        start_of(self.pid) == Some(self.start)
    }
}

/// From now on orphaned descendants become children of this process, not of init.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    // SAFETY: a system call with plain numbers.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Processes that became children of the main thread: attempts are started by other threads, so these are orphans.
/// Empty where the kernel does not say (no CONFIG_PROC_CHILDREN).
pub(crate) fn orphans() -> Vec<i32> {
    // Asked after every attempt, so it stays open.
    static CHILDREN: OnceLock<Option<File>> = OnceLock::new();
    let pid = std::process::id();
    let open = || File::open(format!("/proc/self/task/{pid}/children")).ok();
    let Some(file) = CHILDREN.get_or_init(open) else { return Vec::new() };
    let mut bytes = vec![0; 4096];
    let count = file.read_at(&mut bytes, 0).unwrap_or(0);
    // A space follows each number; those that do not fit are seen when the others are gone.
    let end = bytes[..count].iter().rposition(|byte| *byte == b' ').unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[..end]);
    text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Whether this is the main thread.
pub(crate) fn is_main_thread() -> bool {
    // SAFETY: a system call without arguments.
    unsafe { libc::gettid() == libc::getpid() }
}

/// Takes an ended orphan out of the process table. True if it had ended.
pub(crate) fn reap(pid: i32) -> bool {
    // SAFETY: the status may be null; WNOHANG does not block; a number that is no child of ours is an error, no harm.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) == pid }
}

/// Whether a child has ended. It stays in the process table.
pub(crate) fn has_ended(child: i32) -> bool {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is valid for writes and plain data; its number stays 0 where the child has not ended.
    unsafe {
        libc::waitid(libc::P_PID, child as libc::id_t, info.as_mut_ptr(), flags) == 0
            && info.assume_init().si_pid() == child
    }
}

/// Whether a process carries this mark, of a command, an attempt or a whole run. No for processes of other users.
pub(crate) fn has_marker(pid: i32, mark: &str) -> bool {
    fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| has_mark(&environment, mark))
}

fn has_mark(environment: &[u8], mark: &str) -> bool {
    let is_it = |one: &[u8]| one.strip_prefix(mark.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'.');
    let marks = |entry: &[u8]| -> Option<bool> {
        let value = entry.strip_prefix(MARKS.as_bytes())?.strip_prefix(b"=")?;
        Some(value.split(|byte| char::from(*byte) == MARKS_SEPARATOR).any(is_it))
    };
    environment.split(|byte| *byte == 0).find_map(marks).unwrap_or(false)
}

/// The task that a process belongs to, of this run or of any; nothing for processes of other users.
pub(crate) fn task_of(pid: u32, run: Option<&str>) -> Option<String> {
    task_in(&fs::read(format!("/proc/{pid}/environ")).ok()?, run)
}

/// The same from bytes in which an environment is, `NAME=value` between NULs.
pub(crate) fn task_in(environment: &[u8], run: Option<&str>) -> Option<String> {
    let value = |name: &str| {
        let of = |entry: &'_ [u8]| -> Option<Vec<u8>> {
            Some(entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?.to_vec())
        };
        environment.split(|byte| *byte == 0).find_map(of)
    };
    let marks = value(MARKS)?;
    // The name is that of the innermost run, whose mark is the last.
    let last = marks.rsplit(|byte| char::from(*byte) == MARKS_SEPARATOR).next()?;
    let is_it =
        |run: &str| last.strip_prefix(run.as_bytes()).is_some_and(|rest| matches!(rest.first(), Some(b'.' | b'@')));
    let task = value(TASK).filter(|task| !task.is_empty())?;
    run.is_none_or(is_it).then(|| String::from_utf8_lossy(&task).into_owned())
}

/// Every process of this machine that `wanted` picks by number. Its start time is read before it is asked about: where the
/// number is given to another process meanwhile, no signal will reach that.
pub(crate) fn find(mut wanted: impl FnMut(i32) -> bool) -> Vec<Identity> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id() as i32;
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid > 1 && *pid != own)
        .filter_map(|pid| Some(Identity { pid, start: start_of(pid)? }))
        .filter(|process| wanted(process.pid))
        .collect()
}

/// When a process started; nothing if it is gone or has already ended.
pub(crate) fn start_of(pid: i32) -> Option<u64> {
    let text = fs::read(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The name may contain anything; what follows the last parenthesis is numbers.
    let rest = text.iter().rposition(|byte| *byte == b')').map(|at| &text[at + 1..])?;
    let mut fields = std::str::from_utf8(rest).ok()?.split_ascii_whitespace();
    if matches!(fields.next(), Some("Z" | "X")) {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The process group of a process that has not ended.
pub(crate) fn group_of(pid: i32) -> Option<i32> {
    start_of(pid)?;
    // SAFETY: a system call with plain numbers.
    let group = unsafe { libc::getpgid(pid) };
    (group > 0).then_some(group)
}

/// Sends a signal to exactly this process. False if it is gone.
pub(crate) fn send(process: Identity, signal: i32) -> bool {
    let pidfd = spawn::pidfd_open(process.pid);
    // The number belongs to `pidfd` now: if the start time fits, so does the process.
    if start_of(process.pid) != Some(process.start) {
        return false;
    }
    match pidfd.and_then(|pidfd| send_by(&pidfd, signal)) {
        // By its number: right after its start time was compared it is another's only if it has just ended.
        // SAFETY: a system call with plain numbers.
        Err(error) if spawn::has_no_pidfds(&error) => unsafe { libc::kill(process.pid, signal) == 0 },
        sent => sent.is_ok(),
    }
}

fn send_by(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a system call with plain numbers; no information is passed.
    match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Kills all processes that `find_members` names, again and again until it names none. Returns how many were killed,
/// and those that would not go.
pub(crate) fn end_all(mut find_members: impl FnMut() -> Vec<Identity>) -> (u32, Vec<Identity>) {
    let mut killed = std::collections::BTreeSet::new();
    let mut left = Vec::new();
    for round in 0..ROUNDS_MAX {
        left = find_members();
        if left.is_empty() {
            break;
        }
        for process in &left {
            if send(*process, signal::KILL) {
                killed.insert((process.pid, process.start));
            }
        }
        // Only orphans: for any other child the thread that started it waits, and wants to know how it ended.
        for orphan in orphans().into_iter().filter(|pid| left.iter().any(|process| process.pid == *pid)) {
            reap(orphan);
        }
        // Dying takes a moment, freeing much memory longer.
        std::thread::sleep(Duration::from_millis(u64::from(round.min(20)) + 1));
    }
    (killed.len() as u32, left)
}

/// The CPU time this process used, and its memory peak in bytes.
pub(crate) fn own_usage() -> (Duration, u64) {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is valid for writes; rusage is plain data.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec.max(0) as u64, (t.tv_usec.max(0) as u32) * 1000);
    (time(usage.ru_utime) + time(usage.ru_stime), (usage.ru_maxrss.max(0) as u64) << 10)
}

/// The user apm acts as.
pub(crate) fn uid() -> u32 {
    // SAFETY: a system call without arguments that cannot fail.
    unsafe { libc::geteuid() }
}

/// The user that started a process, also where it acts as another now (a set-user-ID program).
pub(crate) fn real_user(pid: i32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_ascii_whitespace().next()?.parse().ok())
}

/// The user that a process acts as.
pub(crate) fn owner(pid: u32) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(format!("/proc/{pid}")).ok().map(|meta| meta.uid())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{Identity, end_all, find, has_mark, real_user, send, start_of, task_in, uid};
    use crate::sys::signal;

    /// Regression: the start time was read after a process had been picked by its number, which another one may have by then.
    #[test]
    fn a_process_that_has_the_number_of_another_gets_no_signal() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("started");
        let pid = child.id() as i32;
        let start = start_of(pid).expect("it runs");
        let other = Identity { pid, start: start - 1 };
        assert!(!send(other, signal::KILL) && !other.is_alive());
        let mut rounds = [vec![other], vec![]].into_iter();
        assert_eq!(end_all(|| rounds.next().unwrap_or_default()).0, 0);
        assert_eq!(start_of(pid), Some(start), "it lives");
        // While `find` asks about a process its number may be given away: what it returns is who had it before.
        let found = find(|asked| asked == pid);
        assert_eq!(found, [Identity { pid, start }]);
        assert_eq!(real_user(pid), Some(uid()));
        child.kill().expect("killed");
        child.wait().expect("its end");
        assert!(!send(found[0], signal::KILL));
    }

    #[test]
    fn a_task_is_that_of_the_innermost_run() {
        let environment = b"APM_TASKS=x\0APM_TASK=a:b.c\0APM_ATTEMPT=run-a@1-2.1.2:run-b@1-3.10.1\0";
        for (run, task) in
            [(None, Some("a:b.c")), (Some("run-b"), Some("a:b.c")), (Some("run-a"), None), (Some("run"), None)]
        {
            assert_eq!(task_in(environment, run).as_deref(), task, "{run:?}");
        }
        assert_eq!((task_in(b"APM_TASK=a\0", None), task_in(b"APM_ATTEMPT=r.1.1\0", None)), (None, None));
    }

    #[test]
    fn a_mark_is_one_of_several_and_whole() {
        let environment = b"A=1\0APM_ATTEMPT=run-a.1.2:run-b.10.1\0APM_ATTEMPTS=run-c.1.1\0";
        for mark in ["run-a.1.2", "run-b.10.1", "run-a", "run-b"] {
            assert!(has_mark(environment, mark), "{mark}");
        }
        for mark in ["run-b.1", "run-a.1.1", "run", "b.10.1", "run-c.1.1", "1"] {
            assert!(!has_mark(environment, mark), "{mark}");
        }
        assert!(!has_mark(b"APM_RUN=run-a\0", "run-a"));
    }
}
