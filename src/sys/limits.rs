//! Limits of this session and the room of file systems.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use crate::model::snapshot::disk::Space;

/// A resource with a limit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Resource {
    Files,
    Processes,
    Stack,
    Core,
    AddressSpace,
    Data,
}

/// A limit; absent where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) soft: Option<u64>,
    pub(crate) hard: Option<u64>,
}

/// The limit of this process.
pub(crate) fn get(resource: Resource) -> io::Result<Limit> {
    let resource = match resource {
        Resource::Files => libc::RLIMIT_NOFILE,
        Resource::Processes => libc::RLIMIT_NPROC,
        Resource::Stack => libc::RLIMIT_STACK,
        Resource::Core => libc::RLIMIT_CORE,
        Resource::AddressSpace => libc::RLIMIT_AS,
        Resource::Data => libc::RLIMIT_DATA,
    };
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writes.
    if unsafe { libc::getrlimit(resource, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let known = |value: libc::rlim_t| (value != libc::RLIM_INFINITY).then_some(value);
    Ok(Limit { soft: known(limit.rlim_cur), hard: known(limit.rlim_max) })
}

/// Address space that this process has, bytes.
#[expect(clippy::disallowed_methods, reason = "kernel: /proc/self")]
pub(crate) fn address_space() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split_ascii_whitespace().next()?.parse::<u64>().ok()? * page_size())
}

/// Bytes of a page of memory.
pub(crate) fn page_size() -> u64 {
    // SAFETY: a call without pointers.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).ok().filter(|size| *size > 0).unwrap_or(4096)
}

/// How far apart the ticks of the kernel are (1 / `CONFIG_HZ`): its coarse clock is as coarse as that.
pub(crate) fn tick() -> Duration {
    let mut tick = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, which is zero where it does not.
    unsafe {
        libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &raw mut tick);
    }
    Duration::new(u64::try_from(tick.tv_sec).unwrap_or(0), u32::try_from(tick.tv_nsec).unwrap_or(0))
}

/// Lets this process have as many open files as it may give itself. Children inherit that: not for one who starts some.
pub(crate) fn raise_files() -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is valid for reads and writes.
    let is_done = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
        }
    };
    if is_done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The room of the file system a path lies on, and whether that is memory.
pub(crate) fn space(path: &Path) -> io::Result<(Space, bool)> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut stat = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: `path` ends with a zero and `stat` is valid for writes.
    let stat = unsafe {
        if libc::statfs(path.as_ptr(), stat.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        stat.assume_init()
    };
    // In units of f_bsize, unlike what statvfs tells.
    let block = u64::try_from(stat.f_bsize).unwrap_or(4096);
    let space = Space {
        bytes: block.saturating_mul(stat.f_blocks),
        available: block.saturating_mul(stat.f_bavail),
        inodes: stat.f_files,
        inodes_available: stat.f_ffree,
    };
    Ok((space, stat.f_type == libc::TMPFS_MAGIC))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_ticks_as_often_as_it_can_be_built_to() {
        // `CONFIG_HZ` is 100, 250, 300 or 1000.
        assert!((1..=10).contains(&super::tick().as_millis()), "{:?}", super::tick());
    }
}
