//! Memory shared with processes that apm does not trust: a file, mapped here and there.
//!
//! Every access is an atomic one of a whole word, so whatever they write at the same moment is some value and never
//! undefined behaviour. The room is taken from the file system beforehand: a full one is an error here and not a signal
//! at some store.
//!
//! A process that shortens the file on purpose would end apm by SIGBUS at the next access. A file in memory that is sealed
//! against that would be the plain way, but nobody of another user can open one (/proc/PID/fd is closed to them), and a
//! program that closes what it inherits would lose it. So the signal is handled: the page is replaced by an empty one of
//! apm's own, as systemd does for its journal, and the memory is known to be damaged.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

const WORD: usize = size_of::<u64>();

/// A plain part and behind it a ring, which is mapped twice so that nothing in it is cut in two.
#[derive(Debug)]
pub(crate) struct Shared {
    base: *mut u8,
    plain: usize,
    ring: usize,
    guard: Option<usize>,
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
        let shared = Self { base: reserved, plain, ring, guard: guard(reserved.addr(), size + ring) };
        if shared.guard.is_none() {
            return Err(io::Error::other("too many memories are shared at once"));
        }
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_FIXED);
        map(reserved, size, protection, flags, file.as_raw_fd(), 0)?;
        let second = reserved.wrapping_add(size);
        map(second, ring, protection, flags, file.as_raw_fd(), offset(plain)?)?;
        Ok(shared)
    }

    /// Whether the file was shortened: what is read from then on is nothing.
    pub(crate) fn is_damaged(&self) -> bool {
        self.guard.is_some_and(|at| GUARDS[at].is_damaged.load(Ordering::Acquire))
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
        if let Some(guard) = self.guard {
            GUARDS[guard].start.store(0, Ordering::Release);
        }
    }
}

/// A mapping in which SIGBUS is no bug.
struct Guard {
    /// Zero where it is free.
    start: AtomicUsize,
    length: AtomicUsize,
    is_damaged: AtomicBool,
}

/// Mappings at once, with room for tests.
static GUARDS: [Guard; 64] =
    [const { Guard { start: AtomicUsize::new(0), length: AtomicUsize::new(0), is_damaged: AtomicBool::new(false) } };
        64];

/// Size of a page.
static PAGE: AtomicUsize = AtomicUsize::new(4096);

/// Takes a guard for a mapping.
fn guard(start: usize, length: usize) -> Option<usize> {
    static HANDLER: Once = Once::new();
    HANDLER.call_once(|| {
        // SAFETY: asks only.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        PAGE.store(usize::try_from(size).unwrap_or(4096), Ordering::Relaxed);
        // SAFETY: the action is plain data, its mask is made before it is used, and the handler does only what a handler
        // may. On a stack of its own where the thread has one.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = replace_page as extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(libc::SIGBUS, &raw const action, null_mut());
        }
    });
    let at = GUARDS.iter().position(|guard| {
        let is_taken = guard.start.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_err();
        if !is_taken {
            guard.is_damaged.store(false, Ordering::Relaxed);
            guard.length.store(length, Ordering::Relaxed);
            guard.start.store(start, Ordering::Release);
        }
        !is_taken
    })?;
    Some(at)
}

/// Puts an empty page where a file of a guarded mapping has none any more; elsewhere SIGBUS ends the process as usual.
extern "C" fn replace_page(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a valid `info`; the page lies in a mapping of `Shared`, which lives while it is guarded and
    // accessed, and mmap is a system call without a lock.
    unsafe {
        let address = (*info).si_addr() as usize;
        let found = GUARDS.iter().find(|guard| {
            let start = guard.start.load(Ordering::Acquire);
            start > 1 && address.wrapping_sub(start) < guard.length.load(Ordering::Relaxed)
        });
        let Some(guard) = found else {
            // Sent by somebody, or a bug: again without a handler.
            libc::signal(signal, libc::SIG_DFL);
            return;
        };
        guard.is_damaged.store(true, Ordering::Release);
        let size = PAGE.load(Ordering::Relaxed);
        let page = (address & !(size - 1)) as *mut libc::c_void;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        if libc::mmap(page, size, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) == libc::MAP_FAILED {
            libc::signal(signal, libc::SIG_DFL);
        }
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

#[cfg(test)]
mod tests {
    use super::Shared;

    #[test]
    fn a_file_that_is_cut_short_is_damage_and_no_end() {
        let file = tempfile::tempfile().expect("a file");
        let (plain, ring) = (4096, 1 << 16);
        let shared = Shared::create(&file, plain, ring).expect("mapped");
        let other = Shared::create(&tempfile::tempfile().expect("a file"), plain, ring).expect("mapped");
        shared.store(8, 5);
        shared.store(plain + 16, 6);
        assert_eq!(shared.load(plain + ring + 16), 6, "mapped twice");
        assert!(!shared.is_damaged());
        file.set_len(0).expect("cut");
        assert_eq!((shared.load(8), shared.load(plain + ring + 16)), (0, 0));
        shared.store(8, 7);
        assert!(shared.is_damaged() && !other.is_damaged());
        drop(shared);
        let again = Shared::create(&tempfile::tempfile().expect("a file"), plain, ring).expect("mapped");
        assert!(!again.is_damaged());
    }
}
