//! What depends on the processor: system calls, the thread's own words, registers of a signal.
//!
//! The words of a thread are initial-exec TLS, written in assembly because `#[thread_local]` is not stable. A preloaded
//! library is there when the program starts, so the room for them is always found.

use core::arch::{asm, global_asm};
use core::ffi::c_void;

/// Registers of a caller, as the unwinder wants them.
#[derive(Clone, Copy)]
pub struct Regs {
    pub ip: usize,
    pub sp: usize,
    pub bp: usize,
}

/// What every thread has for itself; all zero at first.
#[repr(C)]
pub struct Own {
    /// Bytes until the next sampled allocation. First: the assembly in `heap` counts on it.
    pub heap_left: i64,
    pub call_left: i64,
    /// Of the random numbers; zero before the first.
    pub seed: u64,
    /// Number of the timer plus one.
    pub timer: u64,
}

#[cfg(target_arch = "x86_64")]
macro_rules! go_on {
    () => {
        "mov eax, 8\nret"
    };
}
#[cfg(target_arch = "aarch64")]
macro_rules! go_on {
    () => {
        "mov w0, 8\nret"
    };
}

global_asm!(
    ".pushsection .tbss,\"awT\",@nobits",
    ".balign 16",
    ".type apm_own, @tls_object",
    ".size apm_own, 32",
    "apm_own:",
    ".zero 32",
    ".popsection",
    // Should a C library lack one of these, the program must start all the same.
    ".weak dl_iterate_phdr",
    ".weak environ",
    ".weak __errno_location",
    // A cancelled thread is unwound through our wrappers. Nothing in them has to be cleaned up, so the answer is always
    // to go on (`_URC_CONTINUE_UNWIND`). Hidden: a program in Rust must not get it for its own.
    ".pushsection .text.rust_eh_personality,\"ax\",@progbits",
    ".globl rust_eh_personality",
    ".hidden rust_eh_personality",
    ".type rust_eh_personality, @function",
    "rust_eh_personality:",
    go_on!(),
    ".size rust_eh_personality, . - rust_eh_personality",
    ".popsection",
);

#[cfg(target_arch = "x86_64")]
mod imp {
    use super::*;

    pub mod number {
        pub const READ: usize = 0;
        pub const CLOSE: usize = 3;
        pub const MMAP: usize = 9;
        pub const MUNMAP: usize = 11;
        pub const GETPID: usize = 39;
        pub const EXIT: usize = 60;
        pub const EXIT_GROUP: usize = 231;
        pub const GETPPID: usize = 110;
        pub const GETCWD: usize = 79;
        pub const GETTID: usize = 186;
        pub const PREAD: usize = 17;
        pub const TIMER_CREATE: usize = 222;
        pub const TIMER_SETTIME: usize = 223;
        pub const TIMER_DELETE: usize = 226;
        pub const CLOCK_GETTIME: usize = 228;
        pub const OPENAT: usize = 257;
        pub const READLINKAT: usize = 267;
        pub const PROCESS_VM_READV: usize = 310;
    }

    pub unsafe fn syscall(number: usize, a: [usize; 6]) -> isize {
        let result: isize;
        unsafe {
            asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
                in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _, options(nostack));
        }
        result
    }

    #[inline(always)]
    pub fn own() -> *mut Own {
        let own: *mut Own;
        unsafe {
            asm!("mov {0}, qword ptr [rip + apm_own@GOTTPOFF]", "add {0}, qword ptr fs:[0]", out(reg) own,
                options(pure, readonly, nostack));
        }
        own
    }

    /// Above every frame of a thread that a C library started: its control block lies at the end of its stack.
    pub fn thread_block() -> usize {
        let block: usize;
        unsafe { asm!("mov {0}, qword ptr fs:[0]", out(reg) block, options(pure, readonly, nostack)) };
        block
    }

    pub unsafe fn interrupted(context: *const c_void) -> Regs {
        // `uc_mcontext.gregs` of the kernel's frame, by the numbers of `REG_RIP`, `REG_RSP`, `REG_RBP`.
        let word = |index: usize| unsafe { context.cast::<u8>().add(40 + 8 * index).cast::<usize>().read() };
        Regs { ip: word(16), sp: word(15), bp: word(10) }
    }
}

#[cfg(target_arch = "aarch64")]
mod imp {
    use super::*;

    pub mod number {
        pub const READ: usize = 63;
        pub const CLOSE: usize = 57;
        pub const MMAP: usize = 222;
        pub const MUNMAP: usize = 215;
        pub const GETPID: usize = 172;
        pub const EXIT: usize = 93;
        pub const EXIT_GROUP: usize = 94;
        pub const GETPPID: usize = 173;
        pub const GETCWD: usize = 17;
        pub const GETTID: usize = 178;
        pub const PREAD: usize = 67;
        pub const TIMER_CREATE: usize = 107;
        pub const TIMER_SETTIME: usize = 110;
        pub const TIMER_DELETE: usize = 111;
        pub const CLOCK_GETTIME: usize = 113;
        pub const OPENAT: usize = 56;
        pub const READLINKAT: usize = 78;
        pub const PROCESS_VM_READV: usize = 270;
    }

    pub unsafe fn syscall(number: usize, a: [usize; 6]) -> isize {
        let result: isize;
        unsafe {
            asm!("svc 0", in("x8") number, inlateout("x0") a[0] as isize => result, in("x1") a[1], in("x2") a[2],
                in("x3") a[3], in("x4") a[4], in("x5") a[5], options(nostack));
        }
        result
    }

    #[inline(always)]
    pub fn own() -> *mut Own {
        let own: *mut Own;
        unsafe {
            asm!("mrs {1}, tpidr_el0", "adrp {0}, :gottprel:apm_own", "ldr {0}, [{0}, :gottprel_lo12:apm_own]",
                "add {0}, {0}, {1}", out(reg) own, out(reg) _, options(pure, readonly, nostack));
        }
        own
    }

    pub fn thread_block() -> usize {
        let block: usize;
        unsafe { asm!("mrs {0}, tpidr_el0", out(reg) block, options(pure, nomem, nostack)) };
        block
    }

    pub unsafe fn interrupted(context: *const c_void) -> Regs {
        // `uc_mcontext` at 176: fault address, x0 to x30, sp, pc.
        let word = |index: usize| unsafe { context.cast::<u8>().add(184 + 8 * index).cast::<usize>().read() };
        Regs { ip: word(32), sp: word(31), bp: word(29) }
    }
}

pub use imp::{interrupted, number, own, syscall, thread_block};

pub fn pid() -> u32 {
    unsafe { syscall(number::GETPID, [0; 6]) as u32 }
}

pub fn parent() -> u32 {
    unsafe { syscall(number::GETPPID, [0; 6]) as u32 }
}

pub fn tid() -> u32 {
    unsafe { syscall(number::GETTID, [0; 6]) as u32 }
}

/// Ends the process, or only the thread, without the C library: for when it has no function for that.
pub fn leave(number: usize, code: usize) -> ! {
    loop {
        unsafe { syscall(number, [code, 0, 0, 0, 0, 0]) };
    }
}

/// Opens a file; negative where that fails.
pub unsafe fn open(path: *const u8, flags: usize) -> isize {
    const AT_FDCWD: usize = -100_isize as usize;
    const O_CLOEXEC: usize = 0o2_000_000;
    unsafe { syscall(number::OPENAT, [AT_FDCWD, path as usize, flags | O_CLOEXEC, 0, 0, 0]) }
}

pub unsafe fn read(fd: isize, buffer: *mut u8, length: usize) -> isize {
    unsafe { syscall(number::READ, [fd as usize, buffer as usize, length, 0, 0, 0]) }
}

pub unsafe fn close(fd: isize) {
    unsafe { syscall(number::CLOSE, [fd as usize, 0, 0, 0, 0, 0]) };
}

pub unsafe fn readlink(path: *const u8, buffer: *mut u8, length: usize) -> usize {
    const AT_FDCWD: usize = -100_isize as usize;
    let count = unsafe { syscall(number::READLINKAT, [AT_FDCWD, path as usize, buffer as usize, length, 0, 0]) };
    if count < 0 { 0 } else { count as usize }
}

/// Copies what can be read of `length` bytes at `from`: never faults, whatever is mapped there. Pages are separate
/// parts because the kernel stops at the first part it cannot read whole.
pub unsafe fn copy_readable(pid: u32, from: usize, to: *mut u8, length: usize) -> usize {
    const PAGE: usize = 4096;
    const PARTS: usize = 9;
    let mut remote = [[0_usize; 2]; PARTS];
    let (mut at, mut left, mut parts) = (from, length, 0);
    for part in &mut remote {
        if left == 0 {
            break;
        }
        let count = (PAGE - at % PAGE).min(left);
        *part = [at, count];
        at += count;
        left -= count;
        parts += 1;
    }
    let local = [to as usize, length - left];
    let count = unsafe {
        let local = (&raw const local) as usize;
        syscall(number::PROCESS_VM_READV, [pid as usize, local, 1, (&raw const remote) as usize, parts, 0])
    };
    if count >= 0 {
        return count as usize;
    }
    // Refused by a filter of system calls, perhaps: the same by way of a file.
    unsafe {
        let fd = open(c"/proc/self/mem".as_ptr().cast(), 0);
        if fd < 0 {
            return 0;
        }
        let count = syscall(number::PREAD, [fd as usize, to as usize, length - left, from, 0, 0]);
        close(fd);
        count.max(0) as usize
    }
}
