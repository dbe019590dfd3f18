//! Whether standard output was open when apm was started. The runtime of Rust opens /dev/null in the place of what is
//! closed, so that no file of ours takes its number, and takes "bad descriptor" for success: what is written then is lost
//! without a word. Only what runs before it can know.

#![allow(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

static IS_CLOSED: AtomicBool = AtomicBool::new(false);

extern "C" fn look() {
    // SAFETY: asks only, and needs nothing of a runtime that has not begun yet.
    IS_CLOSED.store(unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) } == -1, Ordering::Relaxed);
}

#[used]
// SAFETY: called once by the loader, before `main`, as any constructor.
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// An error where standard output was closed.
pub(crate) fn output() -> io::Result<()> {
    if IS_CLOSED.load(Ordering::Relaxed) { Err(io::Error::other("standard output is closed")) } else { Ok(()) }
}
