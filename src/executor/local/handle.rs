//! A running attempt on this machine as others see it: it can be told to end, to stop and to go on, and asked for its last
//! sign of life.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::sys::process;
use crate::sys::{cgroup, signal};

/// After KILL: how long until a process that does not end (state D) is given up.
const UNKILLABLE_AFTER: Duration = Duration::from_secs(10);

/// A running attempt, as others see it: it can be told to end, to pause, and asked for its last sign of life.
#[derive(Debug)]
pub(crate) struct AttemptHandle {
    mark: String,
    commands: AtomicU32,
    phase: Mutex<Phase>,
    /// Microseconds since `started`.
    last_output: AtomicU64,
    started: Instant,
}

#[derive(Debug)]
enum Phase {
    /// Not yet a process; signals are kept for it.
    Starting {
        pending: Option<i32>,
        stopped: bool,
    },
    Running {
        pid: i32,
        group: Option<cgroup::Group>,
        killed: Option<Instant>,
        /// It was told to end while it lived.
        told: bool,
    },
    Ended,
}

impl AttemptHandle {
    /// An attempt about to start. All its processes carry `mark`, with the number of their command behind it.
    pub(crate) fn new(mark: String) -> Self {
        Self {
            mark,
            commands: AtomicU32::new(0),
            phase: Mutex::new(Phase::Starting { pending: None, stopped: false }),
            last_output: AtomicU64::new(0),
            started: Instant::now(),
        }
    }

    /// What all its processes carry.
    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    /// What the processes of its next command carry. Each command has a mark of its own: when it ends, what it leaves behind
    /// is ended, and nothing of the others.
    pub(crate) fn next_mark(&self) -> String {
        format!("{}.{}", self.mark, self.commands.fetch_add(1, Ordering::Relaxed))
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        self.signal(signal::TERM);
        // A stopped process would never see it.
        self.signal(signal::CONT);
    }

    /// Stops it where it is.
    pub(crate) fn pause(&self) {
        self.signal(signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        // While it was stopped it could not print.
        self.touch();
        self.signal(signal::CONT);
    }

    /// Ends its process group, at once.
    pub(crate) fn kill_group(&self) {
        self.signal(signal::KILL);
    }

    /// Ends the whole tree, wherever its members went. Reads all of /proc.
    pub(crate) fn kill(&self) {
        self.kill_group();
        let pid = match &mut *lock(&self.phase) {
            Phase::Running { pid, group, killed, .. } => {
                killed.get_or_insert_with(Instant::now);
                if let Some(group) = group {
                    group.kill();
                }
                *pid
            }
            Phase::Starting { .. } | Phase::Ended => return,
        };
        end_members(pid, &self.mark);
    }

    /// Its process and its control group, while it runs.
    pub(crate) fn with_running<T>(&self, look: impl FnOnce(i32, Option<&cgroup::Group>) -> T) -> Option<T> {
        match &*lock(&self.phase) {
            Phase::Running { pid, group, .. } => Some(look(*pid, group.as_ref())),
            Phase::Starting { .. } | Phase::Ended => None,
        }
    }

    /// Time since its last byte of output, or since its start.
    pub(crate) fn silent_for(&self) -> Duration {
        let last = Duration::from_micros(self.last_output.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(last)
    }

    fn signal(&self, number: i32) {
        match &mut *lock(&self.phase) {
            Phase::Starting { pending, .. } if number == signal::TERM || number == signal::KILL => {
                *pending = Some(number);
            }
            Phase::Starting { stopped, .. } => *stopped = number == signal::STOP,
            // The process has not been waited for, so the number of its group is still its own. It may be gone or, by
            // setuid, out of reach: then only its own end helps.
            Phase::Running { pid, told, .. } => {
                *told |= (number == signal::TERM || number == signal::KILL) && !process::has_ended(*pid);
                let _ = signal::to_group(*pid, number);
            }
            Phase::Ended => {}
        }
    }

    /// The process exists: signals go to it, also one that came before.
    pub(super) fn running(&self, pid: i32, group: Option<cgroup::Group>) {
        let before =
            std::mem::replace(&mut *lock(&self.phase), Phase::Running { pid, group, killed: None, told: false });
        if let Phase::Starting { pending, stopped } = before {
            if let Some(number) = pending {
                self.signal(number);
            } else if stopped {
                self.signal(signal::STOP);
            }
        }
    }

    /// Nobody signals it any more. Returns its control group, and whether it was told to end while it lived.
    pub(super) fn ended(&self) -> (Option<cgroup::Group>, bool) {
        match std::mem::replace(&mut *lock(&self.phase), Phase::Ended) {
            Phase::Running { group, told, .. } => (group, told),
            Phase::Starting { .. } | Phase::Ended => (None, false),
        }
    }

    pub(super) fn is_unkillable(&self) -> bool {
        let killed = |phase: &Phase| match phase {
            Phase::Running { killed, .. } => *killed,
            Phase::Starting { .. } | Phase::Ended => None,
        };
        killed(&lock(&self.phase)).is_some_and(|at| at.elapsed() > UNKILLABLE_AFTER)
    }

    /// Output of it was taken.
    pub(crate) fn touch(&self) {
        self.last_output.store(self.started.elapsed().as_micros() as u64, Ordering::Relaxed);
    }
}

/// A panic in another thread leaves these values whole: they are replaced, never half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills the group of a process and whatever else carries the mark.
pub(super) fn end_members(pid: i32, mark: &str) -> u32 {
    let belongs = |other: i32| process::group_of(other) == Some(pid) || process::has_marker(other, mark);
    let (killed, _left) = process::end_all(|| process::find(belongs));
    killed
}
