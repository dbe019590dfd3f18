//! Samples allocations by bytes: between two samples lies an exponentially distributed number of them, so an allocation
//! of `size` is seen with the probability 1 - exp(-size / mean), whatever came before. apm weighs by that.
//!
//! What is not sampled costs one subtraction; what is freed without being sampled costs one look at a filter. Both are
//! in assembly, because the caller's registers must be seen before any prologue changes them.

use core::arch::naked_asm;
use core::ffi::{c_int, c_void};
use core::mem::transmute;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use crate::arch::{self, Own, Regs};
use crate::layout as l;
use crate::resolve;
#[cfg(target_arch = "x86_64")]
use crate::resolve::REAL;
use crate::{ring, start};

const FILTER_BITS: u32 = 14;
const BUCKET_BITS: u32 = 15;
const SLOTS: usize = 8;
const HASH: usize = 0x9e37_79b9_7f4a_7c15;

/// How many of the remembered pointers have this hash: small enough to stay in the caches.
static FILTER: [AtomicU8; 1 << FILTER_BITS] = [const { AtomicU8::new(0) }; 1 << FILTER_BITS];
/// The sampled pointers that live. A pointer lies in its bucket or in the neighbour of that one, nowhere else.
static LIVE: [[AtomicUsize; SLOTS]; 1 << BUCKET_BITS] =
    [const { [const { AtomicUsize::new(0) }; SLOTS] }; 1 << BUCKET_BITS];

fn filter(pointer: usize) -> &'static AtomicU8 {
    &FILTER[pointer.wrapping_mul(HASH) >> (usize::BITS - FILTER_BITS)]
}

fn slots(pointer: usize) -> impl Iterator<Item = &'static AtomicUsize> {
    let bucket = pointer.wrapping_mul(HASH) >> (usize::BITS - BUCKET_BITS);
    LIVE[bucket].iter().chain(&LIVE[bucket ^ 1])
}

/// Says whether there was room. The pointer is not yet known to anybody else.
fn remember(pointer: usize) -> bool {
    let is_in =
        slots(pointer).any(|slot| slot.compare_exchange(0, pointer, Ordering::AcqRel, Ordering::Relaxed).is_ok());
    if is_in {
        // A full counter stays full: then the filter is only less of use.
        let up = |count: u8| (count < u8::MAX).then(|| count + 1);
        let _ = filter(pointer).fetch_update(Ordering::AcqRel, Ordering::Relaxed, up);
    }
    is_in
}

/// Says whether it was remembered.
fn forget(pointer: usize) -> bool {
    if pointer == 0 || filter(pointer).load(Ordering::Acquire) == 0 {
        return false;
    }
    let was_in =
        slots(pointer).any(|slot| slot.compare_exchange(pointer, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok());
    if was_in {
        let down = |count: u8| (count < u8::MAX).then(|| count.saturating_sub(1));
        let _ = filter(pointer).fetch_update(Ordering::AcqRel, Ordering::Relaxed, down);
    }
    was_in
}

/// A number from 1 to 2^53, each as likely.
pub fn random(own: &mut Own) -> u64 {
    if own.seed == 0 {
        own.seed = (own as *const Own as u64) ^ ring::now() ^ u64::from(arch::tid()) << 32 | 1;
    }
    // xorshift64*: the upper bits are good.
    own.seed ^= own.seed >> 12;
    own.seed ^= own.seed << 25;
    own.seed ^= own.seed >> 27;
    (own.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) + 1
}

/// An exponentially distributed number with this mean. The logarithm is taken bit by bit, by squaring: it is needed
/// once a sample and there is no mathematical library here.
pub fn gap(own: &mut Own, mean: u64) -> i64 {
    let random = random(own);
    let whole = 63 - random.leading_zeros();
    let mut mantissa = (u128::from(random) << 62 >> whole) as u64;
    let mut fraction = 0_u64;
    for _ in 0..20 {
        mantissa = ((u128::from(mantissa) * u128::from(mantissa)) >> 62) as u64;
        fraction <<= 1;
        if mantissa >> 63 == 1 {
            mantissa >>= 1;
            fraction |= 1;
        }
    }
    // -log2 of random / 2^53, with 20 binary digits behind the point; then times ln 2 times the mean.
    let bits = (53_u64 << 20) - ((u64::from(whole) << 20) + fraction);
    (bits as f64 * (core::f64::consts::LN_2 / 1_048_576.0) * mean as f64) as i64 + 1
}

/// A child must not repeat the numbers of its parent. Its gaps begin anew, which changes nothing about what follows.
pub fn forked() {
    let own = unsafe { &mut *arch::own() };
    (own.seed, own.heap_left, own.call_left) = (0, 0, 0);
}

/// Decides about an allocation whose size is subtracted already.
fn is_sampled() -> bool {
    if !start::ready() {
        return false;
    }
    let own = unsafe { &mut *arch::own() };
    if own.heap_left > 0 {
        return false;
    }
    if !ring::has(l::HEAP) {
        own.heap_left = i64::MAX / 2;
        return false;
    }
    let mean = ring::setting(l::HEAP_MEAN);
    if own.seed == 0 {
        // The first of a thread: now the gap begins that its size belongs to.
        own.heap_left += gap(own, mean);
        if own.heap_left > 0 {
            return false;
        }
    }
    own.heap_left = gap(own, mean);
    true
}

/// Subtracts and decides.
fn counts(size: usize) -> bool {
    let own = unsafe { &mut *arch::own() };
    own.heap_left = own.heap_left.wrapping_sub(size as i64);
    own.heap_left <= 0 && is_sampled()
}

#[cold]
fn caught(pointer: *mut c_void, size: usize, regs: Regs) {
    if pointer.is_null() || size == 0 {
        return;
    }
    if !remember(pointer as usize) {
        if let Some(crowded) = ring::word(l::CROWDED) {
            crowded.fetch_add(1, Ordering::Relaxed);
        }
        return;
    }
    match ring::reserve_sample(l::ALLOC, regs) {
        Some(record) => {
            record.put(l::A, pointer as u64);
            record.put(l::B, size as u64);
            record.done_with_stack(regs);
        }
        None => {
            forget(pointer as usize);
        }
    }
}

#[cold]
fn freed(pointer: usize) {
    if let Some(record) = ring::reserve(l::FREE, 0) {
        record.put(l::A, pointer as u64);
        record.done(0);
    }
}

/// Calls a function of one to three words that gives a pointer.
fn call(index: usize, a: usize, b: usize, c: usize) -> *mut c_void {
    match resolve::real(index) {
        // A function ignores the registers of arguments that it does not have.
        Some(real) => unsafe { transmute::<*mut (), extern "C" fn(usize, usize, usize) -> *mut c_void>(real)(a, b, c) },
        None => null_mut(),
    }
}

fn allocate(index: usize, words: [usize; 2], size: usize, is_picked: bool, regs: Regs) -> *mut c_void {
    start::ready();
    let pointer = call(index, words[0], words[1], 0);
    if is_picked {
        caught(pointer, size, regs);
    }
    pointer
}

/// On x86-64 the fast path has subtracted before it came here; elsewhere there is none.
fn decides(size: usize) -> bool {
    if cfg!(target_arch = "x86_64") { is_sampled() } else { counts(size) }
}

extern "C" fn malloc_slow(size: usize, sp: usize, bp: usize, ip: usize) -> *mut c_void {
    allocate(resolve::MALLOC, [size, 0], size, decides(size), Regs { ip, sp, bp })
}

extern "C" fn calloc_slow(count: usize, one: usize, sp: usize, bp: usize, ip: usize) -> *mut c_void {
    let size = count.saturating_mul(one);
    allocate(resolve::CALLOC, [count, one], size, decides(size), Regs { ip, sp, bp })
}

extern "C" fn realloc_slow(old: usize, size: usize, sp: usize, bp: usize, ip: usize) -> *mut c_void {
    let is_picked = decides(size);
    reallocate(old, size, is_picked, Regs { ip, sp, bp }, || call(resolve::REALLOC, old, size, 0))
}

/// The old pointer is forgotten first: once it is free another thread may get and report the same address.
fn reallocate(old: usize, size: usize, is_picked: bool, regs: Regs, real: impl FnOnce() -> *mut c_void) -> *mut c_void {
    start::ready();
    let was_known = forget(old);
    let pointer = real();
    if was_known {
        if pointer.is_null() && size != 0 {
            // It failed: the old one lives on.
            remember(old);
            return pointer;
        }
        freed(old);
    }
    if is_picked {
        caught(pointer, size, regs);
    }
    pointer
}

extern "C" fn reallocarray_slow(old: usize, count: usize, one: usize, sp: usize, bp: usize, ip: usize) -> *mut c_void {
    let size = count.saturating_mul(one);
    reallocate(old, size, counts(size), Regs { ip, sp, bp }, || call(resolve::REALLOCARRAY, old, count, one))
}

extern "C" fn memalign_slow(align: usize, size: usize, sp: usize, bp: usize, ip: usize) -> *mut c_void {
    allocate(resolve::MEMALIGN, [align, size], size, counts(size), Regs { ip, sp, bp })
}

extern "C" fn aligned_alloc_slow(align: usize, size: usize, sp: usize, bp: usize, ip: usize) -> *mut c_void {
    allocate(resolve::ALIGNED_ALLOC, [align, size], size, counts(size), Regs { ip, sp, bp })
}

extern "C" fn valloc_slow(size: usize, sp: usize, bp: usize, ip: usize) -> *mut c_void {
    allocate(resolve::VALLOC, [size, 0], size, counts(size), Regs { ip, sp, bp })
}

extern "C" fn pvalloc_slow(size: usize, sp: usize, bp: usize, ip: usize) -> *mut c_void {
    allocate(resolve::PVALLOC, [size, 0], size, counts(size), Regs { ip, sp, bp })
}

unsafe extern "C" fn posix_memalign_slow(
    to: *mut *mut c_void,
    align: usize,
    size: usize,
    sp: usize,
    bp: usize,
    ip: usize,
) -> c_int {
    const ENOMEM: c_int = 12;
    let is_picked = counts(size);
    start::ready();
    let Some(real) = resolve::real(resolve::POSIX_MEMALIGN) else { return ENOMEM };
    let code =
        unsafe { transmute::<*mut (), extern "C" fn(*mut *mut c_void, usize, usize) -> c_int>(real)(to, align, size) };
    if code == 0 && is_picked {
        caught(unsafe { to.read() }, size, Regs { ip, sp, bp });
    }
    code
}

/// Also what `free` jumps to before the function behind it is known.
pub extern "C" fn free_slow(pointer: usize) {
    start::ready();
    if forget(pointer) {
        freed(pointer);
    }
    if let Some(real) = resolve::real(resolve::FREE)
        && !core::ptr::eq(real, free_slow as *const ())
    {
        unsafe { transmute::<*mut (), extern "C" fn(usize)>(real)(pointer) };
    }
}

/// A function that adds the caller's registers behind its arguments and goes on in another.
macro_rules! with_registers {
    ($($name:ident => $slow:ident, $sp:literal $bp:literal $ip:literal, $asp:literal $abp:literal $aip:literal;)*) => {$(
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
            #[cfg(target_arch = "x86_64")]
            naked_asm!(
                ".cfi_startproc",
                concat!("lea ", $sp, ", [rsp + 8]"),
                concat!("mov ", $bp, ", rbp"),
                concat!("mov ", $ip, ", [rsp]"),
                "jmp {slow}",
                ".cfi_endproc",
                slow = sym $slow,
            );
            #[cfg(target_arch = "aarch64")]
            naked_asm!(
                ".cfi_startproc",
                concat!("mov ", $asp, ", sp"),
                concat!("mov ", $abp, ", x29"),
                concat!("mov ", $aip, ", x30"),
                "b {slow}",
                ".cfi_endproc",
                slow = sym $slow,
            );
        }
    )*};
}

with_registers! {
    valloc => valloc_slow, "rsi" "rdx" "rcx", "x1" "x2" "x3";
    pvalloc => pvalloc_slow, "rsi" "rdx" "rcx", "x1" "x2" "x3";
    memalign => memalign_slow, "rdx" "rcx" "r8", "x2" "x3" "x4";
    aligned_alloc => aligned_alloc_slow, "rdx" "rcx" "r8", "x2" "x3" "x4";
    posix_memalign => posix_memalign_slow, "rcx" "r8" "r9", "x3" "x4" "x5";
    reallocarray => reallocarray_slow, "rcx" "r8" "r9", "x3" "x4" "x5";
}

#[cfg(target_arch = "aarch64")]
with_registers! {
    malloc => malloc_slow, "" "" "", "x1" "x2" "x3";
    calloc => calloc_slow, "" "" "", "x2" "x3" "x4";
    realloc => realloc_slow, "" "" "", "x2" "x3" "x4";
}

#[cfg(target_arch = "aarch64")]
#[unsafe(no_mangle)]
pub extern "C" fn free(pointer: usize) {
    free_slow(pointer);
}

#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn malloc(_size: usize) -> *mut c_void {
    naked_asm!(
        ".cfi_startproc",
        "mov rax, qword ptr [rip + apm_own@GOTTPOFF]",
        "sub qword ptr fs:[rax], rdi",
        "jle 2f",
        "jmp qword ptr [rip + {real} + {at}]",
        "2:",
        "lea rsi, [rsp + 8]",
        "mov rdx, rbp",
        "mov rcx, [rsp]",
        "jmp {slow}",
        ".cfi_endproc",
        real = sym REAL,
        at = const 8 * resolve::MALLOC,
        slow = sym malloc_slow,
    );
}

#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn calloc(_count: usize, _size: usize) -> *mut c_void {
    naked_asm!(
        ".cfi_startproc",
        "mov rax, rdi",
        "mul rsi",
        // More than fits: the function behind refuses it, nothing is to be counted.
        "jo 3f",
        "mov rdx, qword ptr [rip + apm_own@GOTTPOFF]",
        "sub qword ptr fs:[rdx], rax",
        "jle 2f",
        "3:",
        "jmp qword ptr [rip + {real} + {at}]",
        "2:",
        "lea rdx, [rsp + 8]",
        "mov rcx, rbp",
        "mov r8, [rsp]",
        "jmp {slow}",
        ".cfi_endproc",
        real = sym REAL,
        at = const 8 * resolve::CALLOC,
        slow = sym calloc_slow,
    );
}

#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn realloc(_pointer: usize, _size: usize) -> *mut c_void {
    naked_asm!(
        ".cfi_startproc",
        "mov rax, qword ptr [rip + apm_own@GOTTPOFF]",
        "sub qword ptr fs:[rax], rsi",
        "jle 2f",
        "movabs rax, {hash}",
        "imul rax, rdi",
        "shr rax, {shift}",
        "lea rcx, [rip + {filter}]",
        "cmp byte ptr [rcx + rax], 0",
        "jne 2f",
        "jmp qword ptr [rip + {real} + {at}]",
        "2:",
        "lea rdx, [rsp + 8]",
        "mov rcx, rbp",
        "mov r8, [rsp]",
        "jmp {slow}",
        ".cfi_endproc",
        hash = const HASH as i64,
        shift = const usize::BITS - FILTER_BITS,
        filter = sym FILTER,
        real = sym REAL,
        at = const 8 * resolve::REALLOC,
        slow = sym realloc_slow,
    );
}

#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn free(_pointer: usize) {
    naked_asm!(
        ".cfi_startproc",
        "movabs rax, {hash}",
        "imul rax, rdi",
        "shr rax, {shift}",
        "lea rcx, [rip + {filter}]",
        "cmp byte ptr [rcx + rax], 0",
        "jne {slow}",
        "jmp qword ptr [rip + {real} + {at}]",
        ".cfi_endproc",
        hash = const HASH as i64,
        shift = const usize::BITS - FILTER_BITS,
        filter = sym FILTER,
        slow = sym free_slow,
        real = sym REAL,
        at = const 8 * resolve::FREE,
    );
}
