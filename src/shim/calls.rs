//! Counts what goes through reads and writes, by open file: exact totals in the shared table, stacks for a sample of the
//! bytes and for every call that was slow. Sees what programs call; what the C library does for itself (the buffers of
//! `FILE`) does not come by here.

use core::arch::naked_asm;
use core::ffi::{c_int, c_void};
use core::mem::transmute;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::arch::{self, Regs};
use crate::layout as l;
use crate::resolve;
#[cfg(target_arch = "x86_64")]
use crate::resolve::REAL;
use crate::{heap, ring, start};

/// 0: every wrapper jumps straight on. Not before it is known what is behind them.
static MODE: AtomicU8 = AtomicU8::new(1);

/// Descriptors above it share the last entry of the table.
const FDS: usize = 16 << 10;
/// Entry of the shared table plus one, with the epoch above it.
static ENTRIES: [AtomicU64; FDS] = [const { AtomicU64::new(0) }; FDS];
/// Counts forks: what a parent knew of its descriptors its child learns anew.
static EPOCH: AtomicU32 = AtomicU32::new(1);

/// Classes of calls; places in an entry of the table.
const IN: usize = 0;
const OUT: usize = 1;
const SYNC: usize = 2;
const CONNECT: usize = 3;

pub fn switch(is_on: bool) {
    MODE.store(is_on.into(), Ordering::Relaxed);
}

pub fn forked() {
    EPOCH.fetch_add(1, Ordering::Relaxed);
}

/// The descriptor gets a new meaning.
fn forget(fd: c_int) {
    if let Some(entry) = usize::try_from(fd).ok().and_then(|fd| ENTRIES.get(fd)) {
        entry.store(0, Ordering::Relaxed);
    }
}

/// The entry of a descriptor in the shared table. Its first use says what it is.
fn entry(fd: c_int) -> u64 {
    let files = ring::setting(l::FILES);
    let Some(known) = usize::try_from(fd).ok().and_then(|fd| ENTRIES.get(fd)) else { return files - 1 };
    let epoch = u64::from(EPOCH.load(Ordering::Relaxed));
    let old = known.load(Ordering::Relaxed);
    if old >> 32 == epoch {
        return (old & 0xffff_ffff) - 1;
    }
    let Some(used) = ring::word(l::FILES_USED) else { return files - 1 };
    let new = used.fetch_add(1, Ordering::Relaxed).min(files - 1);
    // Two threads at once: the loser's entry stays empty.
    if let Err(winner) = known.compare_exchange(old, epoch << 32 | (new + 1), Ordering::Relaxed, Ordering::Relaxed)
        && winner >> 32 == epoch
    {
        return (winner & 0xffff_ffff) - 1;
    }
    if new < files - 1 {
        if let Some(word) = ring::word(l::FILE_TABLE + new as usize * l::FILE_SIZE) {
            word.store(u64::from(arch::pid()) << 32 | u64::from(fd as u32), Ordering::Relaxed);
        }
        introduce(fd, new);
    }
    new
}

fn introduce(fd: c_int, entry: u64) {
    let Some(record) = ring::reserve(l::FILE, 512) else { return };
    let mut path = *b"/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut digits = [0_u8; 10];
    let (mut rest, mut count) = (fd as u32, 0);
    for digit in &mut digits {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        count += 1;
        if rest == 0 {
            break;
        }
    }
    for (to, digit) in path.iter_mut().skip(14).zip(digits.iter().take(count).rev()) {
        *to = *digit;
    }
    let (to, room) = record.payload();
    let length = unsafe { arch::readlink(path.as_ptr(), to, room) };
    record.put(l::A, entry);
    record.put(l::B, fd as u64);
    record.done(length);
}

fn kind(index: usize) -> u64 {
    match index {
        resolve::WRITE
        | resolve::PWRITE
        | resolve::PWRITE64
        | resolve::WRITEV
        | resolve::PWRITEV
        | resolve::PWRITEV64 => l::WRITE_CALL,
        resolve::SEND | resolve::SENDTO | resolve::SENDMSG | resolve::SENDFILE | resolve::SENDFILE64 => l::SEND_CALL,
        resolve::RECV | resolve::RECV_CHK | resolve::RECVFROM | resolve::RECVFROM_CHK | resolve::RECVMSG => {
            l::RECEIVE_CALL
        }
        resolve::FSYNC | resolve::FDATASYNC => l::SYNC_CALL,
        resolve::CONNECT => l::CONNECT_CALL,
        resolve::ACCEPT | resolve::ACCEPT4 => l::ACCEPT_CALL,
        _ => l::READ_CALL,
    }
}

fn class(kind: u64) -> usize {
    match kind {
        l::WRITE_CALL | l::SEND_CALL => OUT,
        l::SYNC_CALL => SYNC,
        l::CONNECT_CALL | l::ACCEPT_CALL => CONNECT,
        _ => IN,
    }
}

/// Whether a stack is wanted for these bytes.
fn is_sampled(bytes: u64) -> bool {
    let own = unsafe { &mut *arch::own() };
    if own.call_left == 0 {
        own.call_left = heap::gap(own, ring::setting(l::CALL_MEAN));
    }
    own.call_left = own.call_left.saturating_sub_unsigned(bytes);
    if own.call_left > 0 {
        return false;
    }
    own.call_left = heap::gap(own, ring::setting(l::CALL_MEAN));
    true
}

#[allow(clippy::too_many_arguments)]
extern "C" fn through(
    fd: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
    sp: usize,
    bp: usize,
    ip: usize,
    index: usize,
) -> isize {
    start::ready();
    let Some(real) = resolve::real(index) else { return missing() };
    let is_counted = ring::has(l::CALLS);
    let began = if is_counted { ring::now() } else { 0 };
    // A function ignores the registers of arguments that it does not have.
    let real =
        unsafe { transmute::<*mut (), extern "C-unwind" fn(usize, usize, usize, usize, usize, usize) -> isize>(real) };
    let result = real(fd, b, c, d, e, f);
    let kind = kind(index);
    let class = class(kind);
    // These give an `int`: the upper half of the register means nothing.
    let result = if class == SYNC || class == CONNECT { result as c_int as isize } else { result };
    if is_counted {
        count(fd as c_int, kind, result, ring::now().saturating_sub(began), Regs { ip, sp, bp });
    }
    result
}

fn count(fd: c_int, kind: u64, result: isize, ns: u64, regs: Regs) {
    if fd < 0 {
        return;
    }
    let class = class(kind);
    let moves_bytes = class == IN || class == OUT;
    let bytes = if moves_bytes { result.max(0) as u64 } else { 0 };
    let entry = entry(fd);
    for (place, value) in [1, bytes, ns].into_iter().enumerate() {
        let offset = l::FILE_TABLE + entry as usize * l::FILE_SIZE + 8 * (1 + 3 * class + place);
        if let Some(word) = ring::word(offset) {
            word.fetch_add(value, Ordering::Relaxed);
        }
    }
    let is_picked = bytes > 0 && is_sampled(bytes);
    let is_slow = ns >= ring::setting(l::SLOW_NS);
    if (is_picked || is_slow || !moves_bytes)
        && let Some(record) = ring::reserve_sample(l::CALL, regs)
    {
        record.put(l::A, u64::from(is_picked) << 63 | kind << 32 | entry);
        record.put(l::B, result as u64);
        record.put(l::C, ns);
        record.put(l::D, fd as u64);
        record.done_with_stack(regs);
    }
}

fn missing() -> isize {
    const ENOSYS: c_int = 38;
    unsafe extern "C" {
        // Weak (see `arch`).
        fn __errno_location() -> *mut c_int;
    }
    if !core::hint::black_box(__errno_location as *const ()).is_null() {
        unsafe { __errno_location().write(ENOSYS) };
    }
    -1
}

macro_rules! wrap {
    ($($name:ident $index:ident)*) => {$(
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
            #[cfg(target_arch = "x86_64")]
            naked_asm!(
                ".cfi_startproc",
                "cmp byte ptr [rip + {mode}], 0",
                "je 2f",
                "lea rax, [rsp + 8]",
                "sub rsp, 40",
                ".cfi_adjust_cfa_offset 40",
                "mov [rsp], rax",
                "mov [rsp + 8], rbp",
                "mov rax, [rsp + 40]",
                "mov [rsp + 16], rax",
                "mov qword ptr [rsp + 24], {index}",
                "call {through}",
                "add rsp, 40",
                ".cfi_adjust_cfa_offset -40",
                "ret",
                "2:",
                "jmp qword ptr [rip + {real} + 8 * {index}]",
                ".cfi_endproc",
                mode = sym MODE,
                through = sym through,
                real = sym REAL,
                index = const resolve::$index,
            );
            #[cfg(target_arch = "aarch64")]
            naked_asm!(
                ".cfi_startproc",
                "mov x6, sp",
                "mov x7, x29",
                "sub sp, sp, 48",
                ".cfi_adjust_cfa_offset 48",
                "str x30, [sp, 32]",
                ".cfi_rel_offset x30, 32",
                "mov x16, {index}",
                "stp x30, x16, [sp]",
                "bl {through}",
                "ldr x30, [sp, 32]",
                "add sp, sp, 48",
                ".cfi_adjust_cfa_offset -48",
                "ret",
                ".cfi_endproc",
                through = sym through,
                index = const resolve::$index,
            );
        }
    )*};
}

wrap! {
    read READ __read_chk READ_CHK write WRITE pread PREAD pread64 PREAD64 __pread_chk PREAD_CHK
    __pread64_chk PREAD64_CHK pwrite PWRITE pwrite64 PWRITE64 readv READV writev WRITEV preadv PREADV
    preadv64 PREADV64 pwritev PWRITEV pwritev64 PWRITEV64 send SEND recv RECV __recv_chk RECV_CHK sendto SENDTO
    recvfrom RECVFROM __recvfrom_chk RECVFROM_CHK sendmsg SENDMSG recvmsg RECVMSG sendfile SENDFILE
    sendfile64 SENDFILE64 fsync FSYNC fdatasync FDATASYNC connect CONNECT accept ACCEPT accept4 ACCEPT4
}

fn plain(index: usize, a: usize, b: usize, c: usize) -> c_int {
    match resolve::real(index) {
        Some(real) => unsafe {
            transmute::<*mut (), extern "C-unwind" fn(usize, usize, usize) -> c_int>(real)(a, b, c)
        },
        None => missing() as c_int,
    }
}

#[unsafe(no_mangle)]
pub extern "C-unwind" fn close(fd: c_int) -> c_int {
    start::ready();
    forget(fd);
    plain(resolve::CLOSE, fd as usize, 0, 0)
}

#[unsafe(no_mangle)]
pub extern "C-unwind" fn dup2(old: c_int, new: c_int) -> c_int {
    start::ready();
    forget(new);
    plain(resolve::DUP2, old as usize, new as usize, 0)
}

#[unsafe(no_mangle)]
pub extern "C-unwind" fn dup3(old: c_int, new: c_int, flags: c_int) -> c_int {
    start::ready();
    forget(new);
    plain(resolve::DUP3, old as usize, new as usize, flags as usize)
}

#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn fclose(file: *mut c_void) -> c_int {
    start::ready();
    forget(plain(resolve::FILENO, file as usize, 0, 0));
    plain(resolve::FCLOSE, file as usize, 0, 0)
}
