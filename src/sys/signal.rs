//! Sends signals, waits for them, looks at dispositions, and leaves by a signal.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use rustix::process::{DumpableBehavior, Resource, Rlimit};

/// Numbers used elsewhere.
pub(crate) const TERM: i32 = libc::SIGTERM;
pub(crate) const KILL: i32 = libc::SIGKILL;
pub(crate) const STOP: i32 = libc::SIGSTOP;
pub(crate) const CONT: i32 = libc::SIGCONT;

/// Sends a signal to every process of a group. `Ok(false)`: there is none. The caller knows that the group is its own:
/// its leader has not been waited for.
pub(crate) fn to_group(group: i32, signal: i32) -> io::Result<bool> {
    // 0 and 1 would mean our own group and everybody.
    if group <= 1 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: a system call with plain numbers.
    if unsafe { libc::kill(-group, signal) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        error => Err(error),
    }
}

/// Whether a signal was ignored when apm was started, as `nohup` does for SIGHUP.
pub(crate) fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks only; `action` is valid for writes and plain data.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Ends this process by a signal that has ended a command, so that the parent sees what really happened. Without a core
/// dump: a core of apm would say nothing, and with a `core_pattern` without `%p` it would overwrite the command's.
pub(crate) fn die_by(signal: i32) {
    // A limit of 0 keeps the kernel from writing a file; a process that is not dumpable is not sent to a program of
    // `core_pattern` either, which ignores the limit (core(5)). Where one is refused, the other still holds.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let hard = rustix::process::getrlimit(Resource::Core).maximum;
    let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: hard });
    // SAFETY: the default disposition runs no code of ours; raise sends to this thread; the mask is built before use.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let mut set = MaybeUninit::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), std::ptr::null_mut());
        libc::raise(signal);
    }
}

/// Begins what handles SIGPROF, and has its handler run once, in this thread, before anything else makes it run. Other
/// threads must not be there yet: they would take the signal first.
#[inline(never)]
pub(crate) fn with_first_tick<T>(begin: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let mut set = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: the set is made before it is used; `before` is written by the call that says so.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPROF);
        let code = libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr());
        if code != 0 {
            return Err(io::Error::from_raw_os_error(code));
        }
    }
    let begun = begin();
    // SAFETY: `before` was written above. Without a handler the signal would end the process: it is sent only if there
    // is one, and is delivered before the second call returns.
    unsafe {
        if begun.is_ok() {
            libc::raise(libc::SIGPROF);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut());
    }
    begun
}

/// A signal that came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    pub(crate) signal: i32,
    /// Everybody in the group of apm has it too.
    pub(crate) is_from_terminal: bool,
}

/// Holds back the signals that would end this process, so that work of some seconds can end early with what it has. Works
/// for a process of one thread, or for the first of them before there are others; what a child gets is not held back.
#[derive(Debug)]
pub(crate) struct Held {
    set: libc::sigset_t,
    taken: Option<i32>,
}

impl Held {
    /// Begins. Signals that are ignored stay so.
    pub(crate) fn new() -> Self {
        Self::these(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP])
    }

    /// The same with SIGQUIT, which a terminal sends too.
    pub(crate) fn with_quit() -> Self {
        Self::these(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT])
    }

    fn these(signals: &[i32]) -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: the set is made before it is used, and both calls get plain numbers besides.
        let set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for &signal in signals {
                if !is_ignored(signal) {
                    libc::sigaddset(set.as_mut_ptr(), signal);
                }
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
            set.assume_init()
        };
        Self { set, taken: None }
    }

    /// One that has come, of those that nobody has taken yet.
    pub(crate) fn next(&self) -> Option<Arrived> {
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: the set is valid, `info` is valid for writes and plain data, as is the time.
        let (signal, info) = unsafe {
            let signal = libc::sigtimedwait(&raw const self.set, info.as_mut_ptr(), &raw const none);
            (signal, info.assume_init())
        };
        // Those of a terminal are the kernel's own, and have gone to the whole group.
        (signal > 0).then_some(Arrived { signal, is_from_terminal: info.si_code == libc::SI_KERNEL })
    }

    /// Waits so long, or until a signal comes: the first that came. After it, it does not wait any more.
    pub(crate) fn wait(&mut self, time: Duration) -> Option<i32> {
        let end = Instant::now() + time;
        while self.taken.is_none() {
            let left = end.saturating_duration_since(Instant::now());
            let time = libc::timespec {
                tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            // SAFETY: the set is valid, nothing is written, the time is plain data.
            let signal = unsafe { libc::sigtimedwait(&raw const self.set, std::ptr::null_mut(), &raw const time) };
            self.taken = Some(signal).filter(|signal| *signal > 0);
            // A stop and its end interrupt it too (EINTR).
            if left.is_zero() {
                break;
            }
        }
        self.taken
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the set is valid. A second signal ends the process from here on, as is usual.
        unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const self.set, std::ptr::null_mut()) };
    }
}

/// Sends a signal to a child that has not been waited for.
pub(crate) fn to_child(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 1 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: a system call with plain numbers.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// From now on the signals that end a run end the process, as they do where nothing catches them.
pub(crate) fn restore_defaults() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        if !is_ignored(signal) {
            // SAFETY: the default disposition runs no code of ours.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}
