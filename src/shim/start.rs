//! Begin, fork and end of a process, and how its memory looks.

use core::ffi::{c_char, c_int};
use core::mem::transmute;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use crate::arch;
use crate::layout as l;
use crate::{calls, heap, resolve, ring, timer};

/// 0: nothing was looked for, 1: somebody is looking, 2: all is known.
static STATE: AtomicU8 = AtomicU8::new(0);
/// The process that has said where its code lies.
static INTRODUCED: AtomicU32 = AtomicU32::new(0);
/// The process that has said that it is there.
static ANNOUNCED: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" {
    // Weak (see `arch`).
    static environ: *const *const c_char;
}

/// Finds the functions behind ours and the ring. Called by whoever comes first; before the C library has set up its
/// environment the ring is looked for again later.
pub fn ready() -> bool {
    if STATE.load(Ordering::Acquire) == 2 {
        return true;
    }
    resolve::all();
    let variables = variables();
    if variables.is_null() || STATE.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire).is_err() {
        return false;
    }
    unsafe { ring::open(variables) };
    calls::switch(ring::has(l::CALLS));
    STATE.store(2, Ordering::Release);
    true
}

/// The environment as it is now; null before the C library has set it up.
pub fn variables() -> *const *const c_char {
    let variable = core::hint::black_box(&raw const environ);
    if variable.is_null() { core::ptr::null() } else { unsafe { variable.read_volatile() } }
}

/// Says once in each process that it is there; `is_new` where a program began and not a copy of one.
fn announce(is_new: bool) {
    let pid = arch::pid();
    if ANNOUNCED.swap(pid, Ordering::Relaxed) == pid {
        return;
    }
    let Some(record) = ring::reserve(l::STARTED, 256) else { return };
    record.put(l::A, arch::parent().into());
    record.put(l::B, is_new.into());
    let (to, room) = record.payload();
    let count = unsafe { arch::readlink(c"/proc/self/exe".as_ptr().cast(), to, room) };
    record.done(count);
}

/// Says once in each process where its code lies. Before its first sample.
pub fn introduce() {
    let pid = arch::pid();
    if INTRODUCED.swap(pid, Ordering::Relaxed) != pid {
        announce(false);
        maps();
    }
}

/// Writes `/proc/self/maps` into the ring, read into place: there may be no room on this stack.
fn maps() {
    const PART: usize = 8 << 10;
    const PARTS_MAX: u64 = 256;
    unsafe {
        let fd = arch::open(c"/proc/self/maps".as_ptr().cast(), 0);
        if fd < 0 {
            return;
        }
        let mut offset = 0_u64;
        for _ in 0..PARTS_MAX {
            let Some(record) = ring::reserve(l::MAPS, PART) else { break };
            let (to, room) = record.payload();
            let mut count = 0;
            // The kernel gives a page at a time.
            while count < room {
                let more = arch::read(fd, to.add(count), room - count);
                if more <= 0 {
                    break;
                }
                count += more as usize;
            }
            let is_last = count < room;
            record.put(l::A, offset);
            record.put(l::B, is_last.into());
            record.done(count);
            offset += count as u64;
            if is_last {
                break;
            }
        }
        arch::close(fd);
    }
}

/// The process is about to end: its memory again, with what was loaded meanwhile.
fn farewell() {
    let pid = arch::pid();
    if !ring::is_there() || ANNOUNCED.load(Ordering::Relaxed) != pid {
        return;
    }
    if INTRODUCED.load(Ordering::Relaxed) == pid {
        maps();
    }
    if let Some(record) = ring::reserve(l::ENDING, 0) {
        record.done(0);
    }
}

extern "C" fn begin() {
    ready();
    if ring::is_there() {
        announce(true);
        timer::begin();
    }
}

extern "C" fn end() {
    farewell();
}

#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;
#[used]
#[unsafe(link_section = ".fini_array")]
static END: extern "C" fn() = end;

#[unsafe(no_mangle)]
pub extern "C" fn fork() -> c_int {
    ready();
    let Some(real) = resolve::real(resolve::FORK) else { return -1 };
    let pid = unsafe { transmute::<*mut (), extern "C" fn() -> c_int>(real)() };
    if pid == 0 && ring::is_there() {
        heap::forked();
        calls::forked();
        timer::forked();
        announce(false);
        timer::begin_thread();
    }
    pid
}

#[unsafe(no_mangle)]
pub extern "C" fn _exit(code: c_int) -> ! {
    leave(resolve::EXIT, code)
}

#[unsafe(no_mangle)]
pub extern "C" fn _Exit(code: c_int) -> ! {
    leave(resolve::EXIT_C, code)
}

fn leave(index: usize, code: c_int) -> ! {
    ready();
    farewell();
    if let Some(real) = resolve::real(index) {
        unsafe { transmute::<*mut (), extern "C" fn(c_int)>(real)(code) };
    }
    arch::leave(arch::number::EXIT_GROUP, code as usize)
}
