//! Ticks of CPU time, thread by thread, where the kernel refuses apm its own. The handler copies registers and stack,
//! nothing else. If the program wants the signal for itself it gets it, and apm is told.

use core::ffi::{c_int, c_void};
use core::mem::transmute;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::arch::{self, number};
use crate::layout as l;
use crate::{heap, resolve, ring, start};

const SIGPROF: c_int = 27;
/// Threads with a timer at once; later ones have none.
const TIMERS_MAX: usize = 4096;

/// Numbers of the timers plus one. A thread remembers its place.
static TIMERS: [AtomicU64; TIMERS_MAX] = [const { AtomicU64::new(0) }; TIMERS_MAX];
static IS_TAKEN: AtomicBool = AtomicBool::new(false);
/// What the program believes to be installed: default (0) or ignored (1).
static BELIEVED: AtomicUsize = AtomicUsize::new(0);

/// `struct sigaction` of glibc and musl, which agree.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Action {
    handler: usize,
    mask: [u64; 16],
    flags: c_int,
    restorer: usize,
}

fn is_on() -> bool {
    ring::has(l::TICKS) && !IS_TAKEN.load(Ordering::Relaxed)
}

type SigactionFn = unsafe extern "C" fn(c_int, *const Action, *mut Action) -> c_int;

fn real_sigaction() -> Option<SigactionFn> {
    resolve::real(resolve::SIGACTION).map(|real| unsafe { transmute::<*mut (), SigactionFn>(real) })
}

/// Once in a program: the handler, and the timer of its first thread.
pub fn begin() {
    const SIGINFO_RESTART_ONSTACK: c_int = 0x4 | 0x1000_0000 | 0x0800_0000;
    if !is_on() {
        return;
    }
    let Some(sigaction) = real_sigaction() else { return };
    let handler = tick as *const () as usize;
    let action = Action { handler, mask: [0; 16], flags: SIGINFO_RESTART_ONSTACK, restorer: 0 };
    let mut old = Action { handler: 0, mask: [0; 16], flags: 0, restorer: 0 };
    unsafe {
        sigaction(SIGPROF, &raw const action, &raw mut old);
    }
    if old.handler > 1 {
        // A library that was loaded before us has one.
        unsafe { sigaction(SIGPROF, &raw const old, core::ptr::null_mut()) };
        taken();
        return;
    }
    BELIEVED.store(old.handler, Ordering::Relaxed);
    begin_thread();
}

/// Gives the calling thread its timer.
pub fn begin_thread() {
    const THREAD_CPU: usize = 3;
    const SIGEV_THREAD_ID: u32 = 4;
    if !is_on() {
        return;
    }
    /// `struct sigevent` of the kernel.
    #[repr(C)]
    struct Event {
        value: usize,
        signal: c_int,
        notify: u32,
        tid: u32,
        rest: [u32; 11],
    }
    let event = Event {
        value: (&raw const TIMERS) as usize,
        signal: SIGPROF,
        notify: SIGEV_THREAD_ID,
        tid: arch::tid(),
        rest: [0; 11],
    };
    let mut id = 0_u32;
    let interval = ring::setting(l::TICK_NS).max(1_000_000) as usize;
    // The first tick comes at any time of the first interval: else those that end within it would never be seen.
    let first = ((u128::from(heap::random(unsafe { &mut *arch::own() })) * interval as u128) >> 53).max(1) as usize;
    let spec = [interval / 1_000_000_000, interval % 1_000_000_000, first / 1_000_000_000, first % 1_000_000_000];
    unsafe {
        let words = [THREAD_CPU, (&raw const event) as usize, (&raw mut id) as usize, 0, 0, 0];
        if arch::syscall(number::TIMER_CREATE, words) < 0 {
            return;
        }
        let entry = u64::from(id) + 1;
        let place =
            TIMERS.iter().position(|slot| slot.compare_exchange(0, entry, Ordering::AcqRel, Ordering::Relaxed).is_ok());
        match place {
            Some(place) => {
                (*arch::own()).timer = place as u64 + 1;
                arch::syscall(number::TIMER_SETTIME, [id as usize, 0, (&raw const spec) as usize, 0, 0, 0]);
            }
            None => drop_timer(entry),
        }
    }
}

/// A child has none of the timers of its parent.
pub fn forked() {
    for slot in &TIMERS {
        slot.store(0, Ordering::Relaxed);
    }
}

fn drop_timer(entry: u64) {
    if entry != 0 {
        unsafe { arch::syscall(number::TIMER_DELETE, [entry as usize - 1, 0, 0, 0, 0, 0]) };
    }
}

/// The calling thread ends.
fn end_thread() {
    let own = unsafe { &mut *arch::own() };
    if let Some(slot) = (own.timer as usize).checked_sub(1).and_then(|place| TIMERS.get(place)) {
        own.timer = 0;
        drop_timer(slot.swap(0, Ordering::AcqRel));
    }
}

/// The program wants the signal: all timers end, apm is told.
fn taken() {
    if IS_TAKEN.swap(true, Ordering::AcqRel) {
        return;
    }
    for slot in &TIMERS {
        drop_timer(slot.swap(0, Ordering::AcqRel));
    }
    if let Some(record) = ring::reserve(l::SIGNAL_TAKEN, 0) {
        record.done(0);
    }
}

/// `siginfo_t`: the code at 8, for a timer the overrun at 20 and our value at 24.
unsafe extern "C" fn tick(_: c_int, info: *const u8, context: *const c_void) {
    const FROM_TIMER: i32 = -2;
    unsafe {
        let is_ours = info.add(8).cast::<i32>().read() == FROM_TIMER
            && info.add(24).cast::<usize>().read() == (&raw const TIMERS) as usize;
        if !is_ours {
            return;
        }
        let missed = info.add(20).cast::<i32>().read().max(0);
        let regs = arch::interrupted(context);
        if let Some(record) = ring::reserve_sample(l::TICK, regs) {
            record.put(l::A, missed as u64);
            record.done_with_stack(regs);
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigaction(signal: c_int, new: *const Action, old: *mut Action) -> c_int {
    start::ready();
    let Some(real) = real_sigaction() else { return -1 };
    if signal != SIGPROF || !is_on() {
        return unsafe { real(signal, new, old) };
    }
    let believed = BELIEVED.load(Ordering::Relaxed);
    unsafe {
        if !new.is_null() {
            let wanted = (*new).handler;
            if wanted > 1 {
                taken();
                let code = real(signal, new, old);
                if code == 0 && !old.is_null() {
                    *old = Action { handler: believed, mask: [0; 16], flags: 0, restorer: 0 };
                }
                return code;
            }
            // Default or ignored: nothing that the program could notice. Our handler stays.
            BELIEVED.store(wanted, Ordering::Relaxed);
        }
        if !old.is_null() {
            *old = Action { handler: believed, mask: [0; 16], flags: 0, restorer: 0 };
        }
    }
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn signal(signal: c_int, handler: usize) -> usize {
    start::ready();
    if signal == SIGPROF && is_on() {
        if handler <= 1 {
            return BELIEVED.swap(handler, Ordering::Relaxed);
        }
        taken();
        let believed = BELIEVED.load(Ordering::Relaxed);
        return match call_signal(signal, handler) {
            usize::MAX => usize::MAX,
            _ => believed,
        };
    }
    call_signal(signal, handler)
}

fn call_signal(signal: c_int, handler: usize) -> usize {
    match resolve::real(resolve::SIGNAL) {
        Some(real) => unsafe { transmute::<*mut (), extern "C" fn(c_int, usize) -> usize>(real)(signal, handler) },
        None => usize::MAX,
    }
}

/// What a new thread is to do.
struct Task {
    run: extern "C" fn(*mut c_void) -> *mut c_void,
    data: *mut c_void,
}

type Run = extern "C" fn(*mut c_void) -> *mut c_void;
type PthreadCreate = unsafe extern "C" fn(*mut usize, *const c_void, Run, *mut c_void) -> c_int;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_create(
    thread: *mut usize,
    attributes: *const c_void,
    run: Run,
    data: *mut c_void,
) -> c_int {
    const EAGAIN: c_int = 11;
    start::ready();
    let Some(real) = resolve::real(resolve::PTHREAD_CREATE) else { return EAGAIN };
    let (real, allocate) = (unsafe { transmute::<*mut (), PthreadCreate>(real) }, resolve::real(resolve::MALLOC));
    let Some(allocate) = allocate.filter(|_| is_on()) else {
        return unsafe { real(thread, attributes, run, data) };
    };
    unsafe {
        let task = transmute::<*mut (), extern "C" fn(usize) -> *mut Task>(allocate)(size_of::<Task>());
        if task.is_null() {
            return real(thread, attributes, run, data);
        }
        task.write(Task { run, data });
        let code = real(thread, attributes, thread_main, task.cast());
        if code != 0 {
            free_task(task);
        }
        code
    }
}

unsafe fn free_task(task: *mut Task) {
    if let Some(free) = resolve::real(resolve::FREE) {
        unsafe { transmute::<*mut (), extern "C" fn(*mut Task)>(free)(task) };
    }
}

extern "C" fn thread_main(task: *mut c_void) -> *mut c_void {
    let Task { run, data } = unsafe {
        let task = task.cast::<Task>();
        let copy = task.read();
        free_task(task);
        copy
    };
    begin_thread();
    let result = run(data);
    end_thread();
    result
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pthread_exit(value: *mut c_void) -> ! {
    start::ready();
    end_thread();
    if let Some(real) = resolve::real(resolve::PTHREAD_EXIT) {
        unsafe { transmute::<*mut (), extern "C" fn(*mut c_void)>(real)(value) };
    }
    arch::leave(number::EXIT, 0)
}
