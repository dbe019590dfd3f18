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

/// The nice level of the calling thread.
pub(crate) fn nice() -> io::Result<i32> {
    // SAFETY: a system call with plain numbers. Unlike the function of the C library it gives 20 minus the level, which
    // is never negative.
    let level = unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) };
    if level < 0 { Err(io::Error::last_os_error()) } else { Ok(20 - level as i32) }
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
