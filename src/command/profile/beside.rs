//! What looks at the program from threads of its own, beside the recording: while one of them takes its time, the others
//! and the rings go on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::profile::off_cpu::OffCpuSampler;
use crate::profile::ptrace_sampler::{PtraceSampler, Wanted};
use crate::profile::session::Recorded;
use crate::profile::watch::Watch;
use crate::sys::priority::{self, Who};

/// Nice level while it records, where it may be had.
pub(super) const AHEAD: i32 = -15;

/// What looks at the program from a thread of its own.
pub(super) struct Beside<T> {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Beside<T> {
    /// Calls `round` again and again, after as long as it says, and `last` at the end, all on one thread.
    pub(super) fn begin<L>(
        begin: impl FnOnce() -> std::io::Result<L> + Send + 'static,
        mut round: impl FnMut(&mut L) -> Duration + Send + 'static,
        last: impl FnOnce(L) -> T + Send + 'static,
    ) -> std::io::Result<Beside<Option<T>>> {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let (tell, told) = mpsc::channel();
        let thread = std::thread::Builder::new().spawn(move || {
            let (begun, looks) = match begin() {
                Ok(looks) => (Ok(()), Some(looks)),
                Err(error) => (Err(error), None),
            };
            let _ = tell.send(begun);
            let mut looks = looks?;
            while !over.load(Ordering::Acquire) {
                std::thread::park_timeout(round(&mut looks));
            }
            Some(last(looks))
        })?;
        told.recv().map_err(std::io::Error::other)??;
        Ok(Beside { is_over, thread })
    }

    pub(super) fn end(self) -> Option<T> {
        self.is_over.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().ok()
    }
}

/// Stops threads of the program. Whatever happens, they go on when that ends: the kernel lets go what a thread has
/// attached to.
pub(super) fn stopping(wanted: Wanted) -> std::io::Result<Beside<Option<Recorded>>> {
    let begin = move || {
        // Where it is refused nothing changes; a program that waits to be let go waits for this thread.
        let _ = priority::set_nice(Who::Thread, AHEAD);
        PtraceSampler::begin(wanted)
    };
    let round = |stops: &mut PtraceSampler| {
        stops.round();
        stops.interval()
    };
    Beside::<Recorded>::begin(begin, round, PtraceSampler::finish)
}

/// Looks at the processes: one with much memory takes longer than samples can wait. A command that has ended is still to be
/// waited for then: the last look is still to come.
pub(super) fn looking(watch: Watch) -> std::io::Result<Beside<Option<Watch>>> {
    let round = |watch: &mut Watch| {
        let began = Instant::now();
        watch.look();
        watch.interval().saturating_sub(began.elapsed())
    };
    Beside::<Watch>::begin(move || Ok(watch), round, |watch| watch)
}

/// Looks where threads wait.
pub(super) fn waiting(
    root: u32,
    with_children: bool,
    run: Option<String>,
) -> std::io::Result<Beside<Option<Recorded>>> {
    Beside::<Recorded>::begin(
        move || Ok(OffCpuSampler::begin(root, with_children, run)),
        OffCpuSampler::round,
        OffCpuSampler::finish,
    )
}
