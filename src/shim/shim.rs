//! The library that apm preloads into the programs it profiles. A crate of its own: `build.rs` compiles it, apm carries
//! its bytes.
//!
//! It lives in other people's processes, so it has no runtime, no dependency and no version of a C library: the few
//! symbols it needs exist in every glibc and in musl. It never allocates, locks, waits, prints or ends anything; what it
//! sees it writes into the ring it shares with apm, and where there is no room it counts a loss. Without a ring
//! (`APM_RING`) every wrapper hands over to the function it stands for.
//!
//! - `layout`: the shared memory. `ring`: writing records. `arch`: registers, system calls, the thread's own words.
//! - `resolve`: the functions behind ours. `start`: begin, fork, end, and what the process looks like. `exec`: what it
//!   becomes.
//! - `heap`, `timer`, `calls`: what is measured.

#![no_std]
#![allow(clippy::missing_safety_doc)]

mod arch;
mod calls;
mod exec;
mod heap;
mod layout;
mod resolve;
mod ring;
mod start;
mod timer;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Unreachable: nothing here indexes or adds in a way that is checked. A loop is all that remains to say so.
    loop {}
}
