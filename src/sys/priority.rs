//! Nice level and I/O priority. Children inherit those of the thread that starts them, so a thread that starts the
//! children of a run sets its own once, and every child has them from its first instruction.

#![allow(unsafe_code)]

use std::io;

use crate::model::task::IoPriority;

const IOPRIO_CLASS_SHIFT: i32 = 13;
const IOPRIO_WHO_PROCESS: i32 = 1;
const IOPRIO_WHO_PGRP: i32 = 2;

/// Who gets a priority.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Who {
    /// The calling thread, and what it starts.
    Thread,
    /// A process group.
    Group(i32),
}

/// Sets the nice level. Lower than now needs CAP_SYS_NICE or RLIMIT_NICE.
pub(crate) fn set_nice(who: Who, level: i32) -> io::Result<()> {
    let (which, id) = match who {
        Who::Thread => (libc::PRIO_PROCESS, 0),
        Who::Group(group) => (libc::PRIO_PGRP, group as libc::id_t),
    };
    // SAFETY: a system call with plain numbers.
    if unsafe { libc::setpriority(which, id, level) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Puts the calling thread before all that is not of real time; what it starts is ordinary again. Needs CAP_SYS_NICE, and
/// a control group that may. The kernel kills it where it computes for a second without a pause.
pub(crate) fn set_realtime() -> io::Result<()> {
    let second = libc::rlimit { rlim_cur: 1_000_000, rlim_max: 1_000_000 };
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: both structures are valid for reads for the time of their call.
    let done = unsafe {
        libc::setrlimit(libc::RLIMIT_RTTIME, &raw const second) == 0
            && libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &raw const lowest) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Puts the calling thread among the others again.
pub(crate) fn set_ordinary() {
    let none = libc::sched_param { sched_priority: 0 };
    // SAFETY: the structure is valid for reads for the time of the call. It cannot fail: everybody may.
    let _ = unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const none) };
}

/// Sets the I/O priority. The real time class needs CAP_SYS_ADMIN or CAP_SYS_NICE.
pub(crate) fn set_io(who: Who, priority: IoPriority) -> io::Result<()> {
    let (class, level) = match priority {
        IoPriority::Realtime => (1, 4),
        IoPriority::High => (2, 0),
        IoPriority::Normal => (2, 4),
        IoPriority::Low => (2, 7),
        IoPriority::Idle => (3, 0),
    };
    let (which, id) = match who {
        Who::Thread => (IOPRIO_WHO_PROCESS, 0),
        Who::Group(group) => (IOPRIO_WHO_PGRP, group),
    };
    // SAFETY: a system call with plain numbers.
    let done = unsafe { libc::syscall(libc::SYS_ioprio_set, which, id, (class << IOPRIO_CLASS_SHIFT) | level) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
