//! Writes records into the ring shared with apm. Safe in signal handlers and from any thread: a reservation is one
//! compare-and-swap, and nothing waits.

use core::ffi::{CStr, c_char};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::arch::{self, Regs, number};
use crate::layout as l;
use crate::{resolve, start};

/// The first page of the shared memory, absent until it was found.
static PAGE: AtomicPtr<u8> = AtomicPtr::new(null_mut());
static DATA: AtomicPtr<u8> = AtomicPtr::new(null_mut());
static CAPACITY: AtomicU64 = AtomicU64::new(0);
/// Where the frames of the first thread begin; only limits what is copied in vain.
static FIRST_STACK: AtomicUsize = AtomicUsize::new(0);

pub fn is_there() -> bool {
    !DATA.load(Ordering::Acquire).is_null()
}

pub fn page() -> *mut u8 {
    PAGE.load(Ordering::Acquire)
}

/// A word of the first page.
pub fn setting(offset: usize) -> u64 {
    word(offset).map_or(0, |word| word.load(Ordering::Relaxed))
}

pub fn has(feature: u64) -> bool {
    is_there() && setting(l::FEATURES) & feature != 0
}

pub fn word(offset: usize) -> Option<&'static AtomicU64> {
    let page = page();
    // The mapping stays for the life of the process.
    if page.is_null() { None } else { Some(unsafe { &*page.add(offset).cast::<AtomicU64>() }) }
}

unsafe fn map(at: usize, length: usize, protection: usize, flags: usize, fd: isize, offset: usize) -> Option<*mut u8> {
    let result = unsafe { arch::syscall(number::MMAP, [at, length, protection, flags, fd as usize, offset]) };
    if (-4095..0).contains(&result) { None } else { Some(result as *mut u8) }
}

/// Looks for the ring that the environment names. Whatever is wrong with it: then there is none.
pub unsafe fn open(environ: *const *const c_char) {
    const NAME: &[u8] = b"APM_RING=";
    const O_RDWR: usize = 2;
    const READ_WRITE: usize = 3;
    const SHARED: usize = 1;
    const NORESERVE_ANONYMOUS_PRIVATE: usize = 0x4000 | 0x20 | 2;
    const FIXED: usize = 0x10;
    unsafe {
        let mut at = environ;
        let path = loop {
            let entry = at.read();
            if entry.is_null() {
                return;
            }
            let text = CStr::from_ptr(entry).to_bytes_with_nul();
            if text.starts_with(NAME) {
                break text.as_ptr().add(NAME.len());
            }
            at = at.add(1);
        };
        let fd = arch::open(path, O_RDWR);
        if fd < 0 {
            return;
        }
        let Some(page) = map(0, l::FILE_TABLE, READ_WRITE, SHARED, fd, 0) else {
            return arch::close(fd);
        };
        let read = |offset: usize| page.add(offset).cast::<u64>().read_volatile();
        let (capacity, files) = (read(l::CAPACITY) as usize, read(l::FILES) as usize);
        let head = l::FILE_TABLE + files * l::FILE_SIZE;
        let is_right = read(0) == l::MAGIC
            && capacity.is_power_of_two()
            && (1 << 16..=1 << 30).contains(&capacity)
            && (1..=1 << 16).contains(&files)
            && head.is_multiple_of(4096);
        arch::syscall(number::MUNMAP, [page as usize, l::FILE_TABLE, 0, 0, 0, 0]);
        if is_right {
            let all = map(0, head + 2 * capacity, 0, NORESERVE_ANONYMOUS_PRIVATE, -1, 0);
            if let Some(all) = all {
                let first = map(all as usize, head + capacity, READ_WRITE, SHARED | FIXED, fd, 0);
                let second = all as usize + head + capacity;
                let second = map(second, capacity, READ_WRITE, SHARED | FIXED, fd, head);
                if first.is_some() && second.is_some() {
                    FIRST_STACK.store(environ as usize, Ordering::Relaxed);
                    CAPACITY.store(capacity as u64, Ordering::Relaxed);
                    PAGE.store(all, Ordering::Release);
                    DATA.store(all.add(head), Ordering::Release);
                }
            }
        }
        arch::close(fd);
    }
}

/// Nanoseconds of the monotonic time source. Through the C library where it is, since that asks no kernel.
pub fn now() -> u64 {
    let mut time = [0_u64; 2];
    match resolve::real(resolve::CLOCK_GETTIME) {
        Some(clock_gettime) => unsafe {
            core::mem::transmute::<*mut (), extern "C" fn(i32, *mut u64) -> i32>(clock_gettime)(
                1,
                (&raw mut time).cast(),
            );
        },
        None => unsafe {
            arch::syscall(number::CLOCK_GETTIME, [1, (&raw mut time) as usize, 0, 0, 0, 0]);
        },
    }
    time[0].wrapping_mul(1_000_000_000).wrapping_add(time[1])
}

/// A record under construction.
pub struct Record {
    at: *mut u8,
    position: u64,
    length: u64,
    pid: u32,
}

/// Reserves a record with room for a payload. None where the ring is full, which is counted.
pub fn reserve(kind: u32, payload_max: usize) -> Option<Record> {
    let (data, capacity) = (DATA.load(Ordering::Acquire), CAPACITY.load(Ordering::Relaxed));
    if data.is_null() {
        return None;
    }
    let (tail, head) = (word(l::TAIL)?, word(l::HEAD)?);
    let length = ((l::RECORD + payload_max) as u64).next_multiple_of(l::GRANULE).min(l::RECORD_MAX as u64);
    let (pid, tid) = (arch::pid(), arch::tid());
    let mut position = tail.load(Ordering::Relaxed);
    loop {
        // Acquire: what the consumer read of the last lap it has read before we write over it.
        let used = position.wrapping_sub(head.load(Ordering::Acquire));
        if used.saturating_add(length) > capacity || position % l::GRANULE != 0 {
            word(l::LOST)?.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let next = position.wrapping_add(length);
        match tail.compare_exchange_weak(position, next, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => break,
            Err(current) => position = current,
        }
    }
    let at = unsafe { data.add((position & (capacity - 1)) as usize) };
    let record = Record { at, position, length, pid };
    record.put32(l::PID, pid);
    record.put32(l::TID, tid);
    record.state().store(l::stamp(position, length, l::CLAIMED), Ordering::Release);
    record.put(l::AT, now());
    record.put32(l::KIND, kind);
    record.put32(l::PAYLOAD, 0);
    Some(record)
}

impl Record {
    fn state(&self) -> &AtomicU64 {
        unsafe { &*self.at.cast::<AtomicU64>() }
    }

    pub fn put(&self, offset: usize, value: u64) {
        unsafe { (*self.at.add(offset).cast::<AtomicU64>()).store(value, Ordering::Relaxed) };
    }

    fn put32(&self, offset: usize, value: u32) {
        unsafe { (*self.at.add(offset).cast::<AtomicU32>()).store(value, Ordering::Relaxed) };
    }

    /// Where the payload goes and how much of it fits.
    pub fn payload(&self) -> (*mut u8, usize) {
        (unsafe { self.at.add(l::RECORD) }, self.length as usize - l::RECORD)
    }

    /// Hands the record over with so many bytes of payload. Not if it was given up meanwhile: who sleeps here for a
    /// second finds the consumer gone past.
    pub fn done(self, payload: usize) {
        self.put32(l::PAYLOAD, payload as u32);
        let claimed = l::stamp(self.position, self.length, l::CLAIMED);
        let done = l::stamp(self.position, self.length, l::DONE);
        let _ = self.state().compare_exchange(claimed, done, Ordering::Release, Ordering::Relaxed);
    }

    /// Hands it over with these registers and the stack above them.
    pub fn done_with_stack(self, regs: Regs) {
        self.put(l::IP, regs.ip as u64);
        self.put(l::SP, regs.sp as u64);
        self.put(l::BP, regs.bp as u64);
        let (to, room) = self.payload();
        let count = unsafe { arch::copy_readable(self.pid, regs.sp, to, room) };
        self.done(count);
    }
}

/// How much of the stack above `sp` is worth copying.
fn stack_length(sp: usize) -> usize {
    let limit = (setting(l::STACK_MAX) as usize).min(32 << 10);
    let ends = [arch::thread_block(), FIRST_STACK.load(Ordering::Relaxed)];
    ends.iter().map(|end| end.wrapping_sub(sp)).fold(limit, usize::min)
}

/// Reserves a record with room for the stack at these registers. The first of a process says where its code lies, so
/// that nothing is lost if it ends soon.
pub fn reserve_sample(kind: u32, regs: Regs) -> Option<Record> {
    start::introduce();
    reserve(kind, stack_length(regs.sp))
}
