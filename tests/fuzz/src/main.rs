//! The fuzzer: one binary for all targets, so that it is linked once. The variable `APM_FUZZ` names the target; `run.sh`
//! builds and runs it. What the targets are is in `../targets.rs`, a part of apm in this build.
//!
//! Beside panics it finds what takes much more memory than it has bytes: a file must not be able to take all.

#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use libfuzzer_sys::fuzz_target;

/// Bytes that any input may take, whatever its size, and those for each of its bytes.
const BASE_MAX: usize = 32 << 20;
const EACH_MAX: usize = 1024;

/// Counts what is allocated now, and the most since it was last asked.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn grown(bytes: usize) {
    MOST.fetch_max(NOW.fetch_add(bytes, Ordering::Relaxed) + bytes, Ordering::Relaxed);
}

// SAFETY: the system's allocator does it all; this only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grown(size);
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn target() -> &'static str {
    static TARGET: OnceLock<String> = OnceLock::new();
    TARGET.get_or_init(|| {
        // apm catches the panics of a reader of debugging data that it does not own: only what reaches this file counts.
        // The hook of libfuzzer-sys would end the process at any.
        panic::set_hook(Box::new(|info| {
            // It finds its names when it is shown: they take more memory than any input may.
            let backtrace = Backtrace::force_capture();
            if let Ok(mut last) = LAST.lock() {
                *last = Some((info.to_string(), backtrace));
            }
        }));
        std::env::var("APM_FUZZ").expect("APM_FUZZ names the target")
    })
}

/// The last panic.
static LAST: Mutex<Option<(String, Backtrace)>> = Mutex::new(None);

fuzz_target!(|bytes: &[u8]| {
    let target = target();
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    if panic::catch_unwind(AssertUnwindSafe(|| apm::fuzz::run(target, bytes))).is_err() {
        if let Ok(Some((message, backtrace))) = LAST.lock().as_deref() {
            eprintln!("{message}\n{backtrace}");
        }
        std::process::abort();
    }
    let taken = MOST.load(Ordering::Relaxed).saturating_sub(before);
    if taken > BASE_MAX + EACH_MAX * bytes.len() {
        eprintln!("{} bytes took {taken} bytes of memory", bytes.len());
        std::process::abort();
    }
});
