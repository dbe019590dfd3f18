//! Memory shared with processes that apm does not trust: a file, mapped here and there.
//!
//! Every access is an atomic one of a whole word, so whatever they write at the same moment is some value and never
//! undefined behaviour. The room is taken from the file system beforehand: a full one is an error here and not a signal
//! at some store. (A process that shortens the file on purpose ends apm by SIGBUS; it must find and open it first.)

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, Ordering};

const WORD: usize = size_of::<u64>();

/// A plain part and behind it a ring, which is mapped twice so that nothing in it is cut in two.
#[derive(Debug)]
pub(crate) struct Shared {
    base: *mut u8,
    plain: usize,
    ring: usize,
}

// SAFETY: the mapping belongs to this value alone, and all access to it is atomic.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Gives the file this size and maps it. Both parts are whole pages.
    pub(crate) fn create(file: &File, plain: usize, ring: usize) -> io::Result<Self> {
        let size = plain + ring;
        let offset = |at: usize| libc::off_t::try_from(at).map_err(io::Error::other);
        // SAFETY: plain numbers and a descriptor that is open.
        let code = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, offset(size)?) };
        if code != 0 {
            return Err(io::Error::from_raw_os_error(code));
        }
        let reserved = map(null_mut(), size + ring, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)?;
        // From here on dropped, and so unmapped, where a step fails.
        let shared = Self { base: reserved, plain, ring };
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_FIXED);
        map(reserved, size, protection, flags, file.as_raw_fd(), 0)?;
        let second = reserved.wrapping_add(size);
        map(second, ring, protection, flags, file.as_raw_fd(), offset(plain)?)?;
        Ok(shared)
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        let is_inside = offset.is_multiple_of(WORD) && offset + WORD <= self.plain + 2 * self.ring;
        assert!(is_inside, "no word of the shared memory begins at {offset}");
        // SAFETY: inside of the mapping, which lives as long as `self`, and aligned, since the mapping is by pages.
        unsafe { &*self.base.add(offset).cast::<AtomicU64>() }
    }

    /// A word, and with it what was written before it.
    pub(crate) fn load(&self, offset: usize) -> u64 {
        self.word(offset).load(Ordering::Acquire)
    }

    /// Writes a word after everything that was read or written before.
    pub(crate) fn store(&self, offset: usize, value: u64) {
        self.word(offset).store(value, Ordering::Release);
    }

    /// Replaces a word if it is what is expected; says whether it was.
    pub(crate) fn replace(&self, offset: usize, expected: u64, value: u64) -> bool {
        self.word(offset).compare_exchange(expected, value, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Replaces the content of `to` by a copy of whole words.
    pub(crate) fn copy(&self, offset: usize, length: usize, to: &mut Vec<u8>) {
        to.clear();
        to.reserve(length);
        for at in (offset..offset + length).step_by(WORD) {
            to.extend_from_slice(&self.word(at).load(Ordering::Relaxed).to_ne_bytes());
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the whole reservation of `create`, whose words nobody can reach any more.
        unsafe { libc::munmap(self.base.cast(), self.plain + 2 * self.ring) };
    }
}

fn map(at: *mut u8, length: usize, protection: i32, flags: i32, fd: i32, offset: libc::off_t) -> io::Result<*mut u8> {
    // SAFETY: MAP_FIXED is only used inside of a reservation of our own.
    let address = unsafe { libc::mmap(at.cast(), length, protection, flags, fd, offset) };
    if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(address.cast()) }
}

/// Whether code of this file may run here: not on a file system that is mounted `noexec`.
pub(crate) fn may_execute(file: &File) -> io::Result<()> {
    let address = map(null_mut(), 4096, libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE, file.as_raw_fd(), 0)?;
    // SAFETY: mapped above, and nobody has the address.
    unsafe { libc::munmap(address.cast(), 4096) };
    Ok(())
}
