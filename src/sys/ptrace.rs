//! Stops a thread for a moment, reads its registers and its stack, and lets it go: ptrace(2). It is attached for each look
//! anew: so a signal that comes meanwhile is passed on with the release, nobody else's debugger is kept away for long, and
//! nothing is left when apm is killed.

#![allow(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "kernel: /proc")]

use std::io;
use std::mem::MaybeUninit;

use crate::sys::limits;
use crate::sys::perf::REGISTERS;

/// Pages of a stack that are copied at most, and one more for its start within a page.
const PAGES_MAX: usize = 32;

/// A thread that was asked to stop. It has to be waited for and released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seized {
    pub(crate) tid: u32,
    /// It is a child of ours: its end is for others to wait for.
    is_child: bool,
}

/// What has become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It stands still. With a signal to pass on, 0 for none.
    Stopped { signal: i32 },
    /// It is no more.
    Ended,
    /// It has not come to a point where it can stop: it runs without a CPU, or waits for a device.
    Running,
}

/// Asks a thread to stop. `Ok(None)`: there is no such thread. An error: it may not be traced, or somebody else does.
pub(crate) fn ask(tid: u32, is_child: bool) -> io::Result<Option<Seized>> {
    // SAFETY: attaches; no pointer is passed that the kernel would use.
    if unsafe { libc::ptrace(libc::PTRACE_SEIZE, tid as libc::pid_t, 0_usize, 0_usize) } != 0 {
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ESRCH) => return Ok(None),
            // The thread that was asked has executed a program, and has the number of the first of its process since.
            Some(libc::EPERM) if is_held(tid) => {}
            _ => return Err(error),
        }
    }
    interrupt(tid);
    Ok(Some(Seized { tid, is_child }))
}

/// Asks a thread that is held to stop, again maybe.
pub(crate) fn interrupt(tid: u32) {
    // SAFETY: no pointer is passed that the kernel would use. Where it fails the thread has ended, as its state will say.
    unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, tid as libc::pid_t, 0_usize, 0_usize) };
}

/// Whether the calling thread is the tracer of another.
pub(crate) fn is_held(tid: u32) -> bool {
    // SAFETY: a call without arguments that cannot fail.
    let own = unsafe { libc::gettid() };
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.and_then(|tracer| tracer.trim().parse().ok()) == Some(own)
}

/// What a thread that was asked does now. Does not wait.
pub(crate) fn state(seized: Seized) -> State {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WSTOPPED | libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    // SAFETY: `info` is valid for writes and plain data; the pid in it stays 0 where nothing has happened.
    let (code, info) = unsafe {
        let code = libc::waitid(libc::P_PID, seized.tid as libc::id_t, info.as_mut_ptr(), flags);
        (code, info.assume_init())
    };
    // SAFETY: of a wait, whose fields these are; zeroed where nothing was written.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    match (code, pid, info.si_code) {
        // No child any more, as when another thread has executed a program.
        (-1, ..) => State::Ended,
        (_, 0, _) => State::Running,
        (_, _, libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED) => {
            if !seized.is_child {
                take(seized.tid, libc::WEXITED);
            }
            State::Ended
        }
        _ => {
            take(seized.tid, libc::WSTOPPED);
            // The upper bits are those of an event of ptrace; without one it is a signal on its way.
            State::Stopped { signal: if status >> 8 == 0 { status } else { 0 } }
        }
    }
}

/// Takes what was seen out of the kernel's list.
fn take(tid: u32, what: libc::c_int) {
    // SAFETY: the information may be null.
    unsafe { libc::waitid(libc::P_PID, tid as libc::id_t, std::ptr::null_mut(), what | libc::WNOHANG | libc::__WALL) };
}

/// Lets a thread go that stands still, with the signal that it stands at.
pub(crate) fn release(seized: Seized, signal: i32) {
    // SAFETY: plain numbers. Where it fails the thread was killed meanwhile; its end is taken, if it is nobody else's.
    let failed = unsafe { libc::ptrace(libc::PTRACE_DETACH, seized.tid as libc::pid_t, 0_usize, signal as usize) } != 0;
    if failed && !seized.is_child {
        take(seized.tid, libc::WEXITED);
    }
}

/// The registers that unwinding needs, in the order of [`REGISTERS`], of a thread that stands still. The stack pointer is
/// the last but one.
pub(crate) fn registers(tid: u32) -> io::Result<[u64; REGISTERS.len()]> {
    let mut all = MaybeUninit::<libc::user_regs_struct>::zeroed();
    let mut part = libc::iovec { iov_base: all.as_mut_ptr().cast(), iov_len: size_of::<libc::user_regs_struct>() };
    // The set of general registers (elf.h).
    const NT_PRSTATUS: usize = 1;
    // SAFETY: `part` describes `all`, which is plain data, and both live through the call.
    let code = unsafe { libc::ptrace(libc::PTRACE_GETREGSET, tid as libc::pid_t, NT_PRSTATUS, &raw mut part) };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed above, and filled by the call as far as the kernel has registers.
    let all = unsafe { all.assume_init() };
    #[cfg(target_arch = "x86_64")]
    return Ok([all.rbp, all.rsp, all.rip]);
    #[cfg(target_arch = "aarch64")]
    return Ok([all.regs[29], all.regs[30], all.sp, all.pc]);
}

/// Reads memory of another process from an address on, as much as there is and fits.
pub(crate) fn read(pid: u32, address: u64, buffer: &mut [u8]) -> usize {
    let own = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // A part is read whole or not at all: one for each page, so that those before a hole are read.
    let page = limits::page_size().max(1);
    let mut parts: Vec<libc::iovec> = Vec::with_capacity(PAGES_MAX + 1);
    let (mut at, end) = (address, address.saturating_add(buffer.len() as u64));
    while at < end && parts.len() <= PAGES_MAX {
        let next = ((at / page + 1) * page).min(end);
        parts.push(libc::iovec { iov_base: at as *mut libc::c_void, iov_len: (next - at) as usize });
        at = next;
    }
    // SAFETY: `own` describes `buffer`, `parts` lives through the call; addresses of the other process are checked by
    // the kernel.
    let count = unsafe {
        libc::process_vm_readv(pid as libc::pid_t, &raw const own, 1, parts.as_ptr(), parts.len() as libc::c_ulong, 0)
    };
    usize::try_from(count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{State, ask, read, registers, release, state};

    struct Ended(std::process::Child);

    impl Drop for Ended {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_child_is_looked_at_and_goes_on() {
        let child = Ended(std::process::Command::new("sleep").arg("1000").spawn().expect("a child"));
        let pid = child.0.id();
        for _ in 0..3 {
            // Where this machine forbids it there is nothing to see.
            let Ok(asked) = ask(pid, true) else { return };
            let seized = asked.expect("it is there");
            let signal = loop {
                match state(seized) {
                    State::Stopped { signal } => break signal,
                    State::Running => std::thread::yield_now(),
                    State::Ended => panic!("it sleeps"),
                }
            };
            let registers = registers(pid).expect("registers");
            let mut stack = [0; 9000];
            assert!(read(pid, registers[registers.len() - 2], &mut stack) > 0, "{registers:?}");
            release(seized, signal);
        }
        // The interruption of its sleep is over when it sleeps again.
        let state = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its state");
        assert!(state.contains("TracerPid:\t0"), "{state}");
        assert!(!state.contains("State:\tT") && !state.contains("State:\tt"), "{state}");
    }

    #[test]
    fn memory_that_is_not_there_is_not_read() {
        assert_eq!(read(std::process::id(), 8, &mut [0; 64]), 0);
        let text = [7_u8; 64];
        let mut buffer = [0; 64];
        assert_eq!((read(std::process::id(), text.as_ptr() as u64, &mut buffer), buffer), (64, text));
    }
}
