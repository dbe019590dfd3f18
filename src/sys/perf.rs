//! Events of the kernel's perf subsystem: opening them, and the ring through which their records come. The bytes of
//! records are taken apart in `profile::record`.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use perf_event_open_sys::bindings::{
    PERF_COUNT_HW_CPU_CYCLES, PERF_COUNT_SW_CONTEXT_SWITCHES, PERF_COUNT_SW_CPU_CLOCK, PERF_COUNT_SW_PAGE_FAULTS,
    PERF_FLAG_FD_CLOEXEC, PERF_SAMPLE_CALLCHAIN, PERF_SAMPLE_IDENTIFIER, PERF_SAMPLE_IP, PERF_SAMPLE_PERIOD,
    PERF_SAMPLE_RAW, PERF_SAMPLE_REGS_USER, PERF_SAMPLE_STACK_USER, PERF_SAMPLE_TID, PERF_SAMPLE_TIME,
    PERF_TYPE_HARDWARE, PERF_TYPE_SOFTWARE, PERF_TYPE_TRACEPOINT, perf_event_attr, perf_event_mmap_page,
};
use perf_event_open_sys::{ioctls, perf_event_open};

/// Registers that unwinding needs, in the numbering of `asm/perf_regs.h`; records have them in this order.
#[cfg(target_arch = "x86_64")]
pub(crate) const REGISTERS: &[u32] = &[6, 7, 8];
/// Frame pointer, link register, stack pointer, program counter.
#[cfg(target_arch = "aarch64")]
pub(crate) const REGISTERS: &[u32] = &[29, 30, 31, 32];

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counter {
    /// Cycles of the CPU, by its own counter.
    Cycles,
    /// Nanoseconds of CPU time, by a timer of the kernel.
    CpuClock,
    /// Page faults.
    PageFaults,
    /// Switches from a thread to another.
    ContextSwitches,
    /// A tracepoint, by its number.
    Tracepoint(u64),
}

/// When a sample is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// So many a second.
    Frequency(u64),
    /// After so many events.
    Period(u64),
}

/// How callers are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Callers {
    /// Registers and this much of the stack are copied; somebody unwinds them.
    Stack(u32),
    /// The kernel follows frame pointers.
    FramePointers,
    /// Nobody.
    None,
}

impl Callers {
    /// Bytes of a stack that are copied.
    pub(crate) fn copied(self) -> u32 {
        match self {
            Self::Stack(bytes) => bytes,
            Self::FramePointers | Self::None => 0,
        }
    }
}

/// What to open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) counter: Counter,
    pub(crate) pace: Pace,
    pub(crate) callers: Callers,
    /// Samples and frames of the kernel too.
    pub(crate) kernel: bool,
    /// The data of a tracepoint too.
    pub(crate) raw: bool,
    /// Records of processes, mappings, names.
    pub(crate) track: bool,
    /// Records of each switch from and to a thread.
    pub(crate) switches: bool,
    /// Threads that are started later.
    pub(crate) inherit: Inherit,
    /// From the next execve on, not at once.
    pub(crate) on_exec: bool,
}

/// Whom an event follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inherit {
    /// Threads and processes.
    All,
    /// Threads only.
    Threads,
}

/// Fields of samples, in the order in which records have them.
pub(crate) const SAMPLE: u64 = PERF_SAMPLE_IDENTIFIER as u64
    | PERF_SAMPLE_IP as u64
    | PERF_SAMPLE_TID as u64
    | PERF_SAMPLE_TIME as u64
    | PERF_SAMPLE_PERIOD as u64
    | PERF_SAMPLE_CALLCHAIN as u64;

/// In place of a thread: all of them, for who may see the whole machine.
pub(crate) const EVERYBODY: i32 = -1;

/// Opens an event of a thread (and those it starts) on one CPU.
pub(crate) fn open(event: &Event, tid: i32, cpu: u32) -> io::Result<OwnedFd> {
    let mut attr = perf_event_attr { size: size_of::<perf_event_attr>() as u32, ..Default::default() };
    (attr.type_, attr.config) = match event.counter {
        Counter::Cycles => (PERF_TYPE_HARDWARE, u64::from(PERF_COUNT_HW_CPU_CYCLES)),
        Counter::CpuClock => (PERF_TYPE_SOFTWARE, u64::from(PERF_COUNT_SW_CPU_CLOCK)),
        Counter::PageFaults => (PERF_TYPE_SOFTWARE, u64::from(PERF_COUNT_SW_PAGE_FAULTS)),
        Counter::ContextSwitches => (PERF_TYPE_SOFTWARE, u64::from(PERF_COUNT_SW_CONTEXT_SWITCHES)),
        Counter::Tracepoint(number) => (PERF_TYPE_TRACEPOINT, number),
    };
    match event.pace {
        Pace::Frequency(hertz) => {
            attr.set_freq(1);
            attr.__bindgen_anon_1.sample_freq = hertz;
        }
        Pace::Period(count) => attr.__bindgen_anon_1.sample_period = count,
    }
    attr.sample_type = SAMPLE | if event.raw { u64::from(PERF_SAMPLE_RAW) } else { 0 };
    match event.callers {
        Callers::Stack(bytes) => {
            attr.sample_type |= u64::from(PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER);
            attr.sample_regs_user = REGISTERS.iter().map(|register| 1 << register).sum();
            attr.sample_stack_user = bytes;
            attr.set_exclude_callchain_user(1);
        }
        Callers::FramePointers => {}
        Callers::None => attr.set_exclude_callchain_user(1),
    }
    if !event.kernel {
        attr.set_exclude_kernel(1);
    }
    // A tracepoint lies in the kernel, always at the same place.
    if !event.kernel || matches!(event.counter, Counter::Tracepoint(_)) {
        attr.set_exclude_callchain_kernel(1);
    }
    attr.set_exclude_hv(1);
    attr.set_disabled(1);
    attr.set_enable_on_exec(u64::from(event.on_exec));
    attr.set_inherit(1);
    attr.set_inherit_thread(u64::from(event.inherit == Inherit::Threads));
    attr.set_sample_id_all(1);
    if event.track {
        attr.set_mmap(1);
        attr.set_mmap2(1);
        attr.set_comm(1);
        attr.set_comm_exec(1);
        attr.set_task(1);
    }
    attr.set_context_switch(u64::from(event.switches));
    attr.set_use_clockid(1);
    attr.clockid = libc::CLOCK_MONOTONIC;
    attr.set_watermark(1);
    attr.__bindgen_anon_2.wakeup_watermark = WATERMARK;
    // SAFETY: the structure is whole and its size is in it; the kernel copies it.
    let fd = unsafe { perf_event_open(&raw mut attr, tid, cpu as i32, -1, PERF_FLAG_FD_CLOEXEC.into()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Bytes in a ring after which its reader wakes.
const WATERMARK: u32 = 256 << 10;

/// Number of an event, which its records carry.
pub(crate) fn number(event: &OwnedFd) -> io::Result<u64> {
    let mut number = 0_u64;
    // SAFETY: the kernel writes one u64.
    if unsafe { ioctls::ID(event.as_raw_fd(), &raw mut number) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(number)
}

/// Lets only those records of a tracepoint through that this says, also of threads that are started later.
pub(crate) fn filter(event: &OwnedFd, filter: &CStr) -> io::Result<()> {
    // SAFETY: the text ends with a zero and is valid for the call, which copies it (perf_event_open(2)). The kernel does
    // not write to it, although the binding takes it as if it might.
    let done = unsafe { ioctls::SET_FILTER(event.as_raw_fd(), filter.as_ptr().cast_mut()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The time that records have: nanoseconds of the monotonic clock.
pub(crate) fn now() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec. It cannot fail: the clock is there on every Linux.
    unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now);
    }
    (now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64)
}

/// Starts an event.
pub(crate) fn enable(event: &OwnedFd) -> io::Result<()> {
    // SAFETY: a call with plain numbers.
    if unsafe { ioctls::ENABLE(event.as_raw_fd(), 0) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Ends an event.
pub(crate) fn disable(event: &OwnedFd) -> io::Result<()> {
    // SAFETY: a call with plain numbers.
    if unsafe { ioctls::DISABLE(event.as_raw_fd(), 0) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Where records of the events of one CPU come.
#[derive(Debug)]
pub(crate) struct Ring {
    fd: RawFd,
    base: NonNull<libc::c_void>,
    page: usize,
    size: usize,
}

// SAFETY: the mapping belongs to this value alone; it is not tied to a thread.
unsafe impl Send for Ring {}

impl Ring {
    /// The ring of an event, of at most `size` bytes (a power of two); smaller where the kernel grants no more memory.
    pub(crate) fn new(event: &OwnedFd, size: usize) -> io::Result<Self> {
        // SAFETY: a call without arguments that are pointers.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(4096) as usize;
        let mut size = size.max(page);
        loop {
            // SAFETY: a new mapping at an address of the kernel's choice.
            let base = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    page + size,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_SHARED,
                    event.as_raw_fd(),
                    0,
                )
            };
            match NonNull::new(base).filter(|_| base != libc::MAP_FAILED) {
                Some(base) => return Ok(Self { fd: event.as_raw_fd(), base, page, size }),
                None => {
                    let error = io::Error::last_os_error();
                    // More than perf_event_mlock_kb and RLIMIT_MEMLOCK allow.
                    if size <= page || !matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOMEM)) {
                        return Err(error);
                    }
                    size /= 2;
                }
            }
        }
    }

    /// Bytes it holds.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Lets the records of another event of the same CPU come here too.
    pub(crate) fn take_in(&self, event: &OwnedFd) -> io::Result<()> {
        // SAFETY: a call with plain numbers.
        if unsafe { ioctls::SET_OUTPUT(event.as_raw_fd(), self.fd) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Moves all whole records out.
    pub(crate) fn drain(&mut self, out: &mut Vec<u8>) {
        let head_page = self.base.as_ptr().cast::<perf_event_mmap_page>();
        // SAFETY: both are aligned words in the mapping's first page, which the kernel writes and reads atomically.
        let (head, tail) = unsafe {
            (AtomicU64::from_ptr(&raw mut (*head_page).data_head), AtomicU64::from_ptr(&raw mut (*head_page).data_tail))
        };
        let (from, to) = (tail.load(Ordering::Relaxed), head.load(Ordering::Acquire));
        let count = (to.wrapping_sub(from) as usize).min(self.size);
        let start = (from as usize) & (self.size - 1);
        let first = count.min(self.size - start);
        // SAFETY: the data begin a page after the start and are `size` bytes long; what lies between tail and head is
        // not written to until the tail moves on.
        unsafe {
            let data = self.base.as_ptr().cast::<u8>().add(self.page);
            out.extend_from_slice(std::slice::from_raw_parts(data.add(start), first));
            out.extend_from_slice(std::slice::from_raw_parts(data, count - first));
        }
        tail.store(to, Ordering::Release);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: our own mapping, of this length; no reference into it is left.
        unsafe {
            libc::munmap(self.base.as_ptr(), self.page + self.size);
        }
    }
}
