//! What the kernel says only when asked: its clock, and whether it would make one more watcher of files.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::model::snapshot::system::Clock;

/// The state of the clock. Reading it needs no privilege and changes nothing.
pub(crate) fn clock() -> io::Result<Clock> {
    let mut time = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: all zeroes is a valid `timex` whose `modes` ask for no change; it is valid for writes.
    let time = unsafe {
        if libc::adjtimex(time.as_mut_ptr()) < 0 {
            return Err(io::Error::last_os_error());
        }
        time.assume_init()
    };
    // Offsets are in nanoseconds where STA_NANO is set.
    let unit = if time.status & libc::STA_NANO == 0 { 1 } else { 1000 };
    Ok(Clock {
        is_synchronised: time.status & libc::STA_UNSYNC == 0,
        offset_us: time.offset / unit,
        error_max_us: time.maxerror,
    })
}

/// Makes an inotify instance, with one watch if asked, and drops both. What is refused is said in words: limits are per
/// user, and how much of them is used stands nowhere. Dropping a watch waits for a thread of the kernel: on a machine full
/// of work that takes seconds (measured: up to 20).
pub(crate) fn try_watch(with_watch: bool) -> io::Result<Option<String>> {
    // SAFETY: a system call with plain numbers.
    let instance = unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) };
    if instance < 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::EMFILE) { Ok(Some("instances".to_owned())) } else { Err(error) };
    }
    // SAFETY: the number is a descriptor that was just made and that nobody else owns.
    let instance = unsafe { OwnedFd::from_raw_fd(instance) };
    if !with_watch {
        return Ok(None);
    }
    // SAFETY: the descriptor is open and the path ends with a zero.
    let watch = unsafe { libc::inotify_add_watch(instance.as_raw_fd(), c"/".as_ptr(), libc::IN_DELETE_SELF) };
    if watch >= 0 {
        return Ok(None);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ENOSPC) { Ok(Some("watches".to_owned())) } else { Err(error) }
}

/// The kernel's log, at most so many bytes of its end, in one call: `<PRIORITY>[SECONDS] TEXT` a line.
pub(crate) fn log(most: usize) -> io::Result<Vec<u8>> {
    const READ_ALL: libc::c_int = 3;
    let mut text = vec![0u8; most];
    let size = libc::c_int::try_from(most).unwrap_or(libc::c_int::MAX);
    // SAFETY: the buffer is valid for writes of so many bytes.
    let count = unsafe { libc::klogctl(READ_ALL, text.as_mut_ptr().cast(), size) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    text.truncate(count);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::{clock, try_watch};

    #[test]
    fn this_kernel_answers() {
        assert!(clock().expect("a clock").error_max_us >= 0);
        // It may refuse, which is an answer.
        try_watch(true).expect("inotify");
    }
}
