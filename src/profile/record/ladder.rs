//! The ways to sample CPU time, the best first. Which of them this machine grants is tried and not guessed: settings, a
//! hypervisor, a container and a seccomp filter each refuse in their own way, and only the attempt knows them all. What a
//! higher rung was refused with is told.
//!
//! Below the last rung are the preloaded timer (`inside`), ptrace (`stops`) and counters alone (`watch`), which
//! `command::profile` tries in this order where it gets `Refusal::All`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use thiserror::Error;

use crate::probe::{Roots, cpu};
use crate::profile::calls::Calls;
use crate::profile::record::perf::Form;
use crate::profile::record::rings::{self, Rings};
use crate::sys::perf::{self, Callers, Counter, Event, Inherit, Pace, Ring};

/// Most samples a second that are asked for, whatever the kernel would allow.
pub(crate) const FREQUENCY_MAX: u64 = 20_000;

/// Most of a stack that is copied when a thread leaves its CPU, which can happen very often.
const LEAVING_STACK: u32 = 8 << 10;

/// A way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rung {
    counter: Counter,
    kernel: bool,
}

const RUNGS: [Rung; 4] = [
    Rung { counter: Counter::Cycles, kernel: true },
    Rung { counter: Counter::CpuClock, kernel: true },
    Rung { counter: Counter::Cycles, kernel: false },
    Rung { counter: Counter::CpuClock, kernel: false },
];

/// First touches of pages: what there is where the allocations of a program cannot be seen.
const FAULT_RUNGS: [Rung; 2] =
    [Rung { counter: Counter::PageFaults, kernel: true }, Rung { counter: Counter::PageFaults, kernel: false }];

/// What is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sampled {
    Time,
    /// Each fault of a page.
    Faults,
}

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) sampled: Sampled,
    /// Samples a second of CPU time.
    pub(crate) frequency: u64,
    pub(crate) callers: Callers,
    /// Time in the kernel too, where that is allowed.
    pub(crate) kernel: bool,
    /// Processes that it starts too.
    pub(crate) children: bool,
    /// Time without a CPU too, where that is allowed.
    pub(crate) off_cpu: bool,
}

/// Whose time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whom<'a> {
    /// A process that is about to execute its program: from then on.
    Starting(u32),
    /// These threads, once they are enabled.
    Running(&'a [u32]),
}

/// Events that are open.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) rung: Rung,
    /// Why not a better one.
    pub(crate) refused: Vec<String>,
    pub(crate) frequency: u64,
    pub(crate) events: Vec<OwnedFd>,
    pub(crate) rings: Rings,
    pub(crate) forms: HashMap<u64, Form>,
    /// Those events whose samples are of a thread that leaves its CPU; none where that was not wanted, or is refused.
    pub(crate) leaving: HashSet<u64>,
    /// Bytes of the smallest ring.
    pub(crate) ring_min: usize,
    /// What else is to be told.
    pub(crate) notes: Vec<String>,
    /// Its samples are system calls, and not time.
    pub(crate) calls: Option<Calls>,
}

/// Why there is no recording.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    /// The process is not there (any more).
    #[error("there is no such process")]
    Gone,
    /// More threads on more CPUs than files can be open.
    #[error("{events} events are more than may be open at once")]
    Files { events: usize },
    /// It belongs to somebody else.
    #[error("the kernel does not let this user sample it")]
    Denied { refused: Vec<String> },
    /// No way was granted.
    #[error("the kernel grants no way to sample")]
    All { refused: Vec<String> },
    #[error("{what}: {error}")]
    Other { what: &'static str, error: io::Error },
}

impl Rung {
    /// No rung of the ladder: tracepoints, which count calls and not time.
    pub(crate) fn calls() -> Self {
        Self { counter: Counter::Tracepoint(0), kernel: true }
    }

    /// In words.
    pub(crate) fn name(self) -> String {
        let counter = match self.counter {
            Counter::Cycles => "cycles",
            Counter::PageFaults => "page faults",
            Counter::Tracepoint(_) => return "tracepoints, system calls".to_owned(),
            _ => "cpu-clock",
        };
        format!("{counter}, {}", if self.kernel { "user and kernel" } else { "user only" })
    }

    /// Whether it samples the kernel too.
    pub(crate) fn has_kernel(self) -> bool {
        self.kernel
    }

    /// Whether it samples page faults.
    pub(crate) fn is_faults(self) -> bool {
        self.counter == Counter::PageFaults
    }

    /// Whether its periods are nanoseconds.
    pub(crate) fn counts_time(self) -> bool {
        self.counter == Counter::CpuClock
    }
}

/// Opens the best that is granted.
pub(crate) fn climb(wish: &Wish, whom: Whom<'_>) -> Result<Recording, Refusal> {
    let cpus = cpu::online(&Roots::default()).known().cloned().unwrap_or_else(|| vec![0]);
    let (frequency, lowered) =
        rate(wish.frequency, fs::read_to_string("/proc/sys/kernel/perf_event_max_sample_rate").ok());
    let wish = Wish { frequency, ..*wish };
    let mut refused = Vec::new();
    let mut is_denied = true;
    let rungs: &[Rung] = if wish.sampled == Sampled::Time { &RUNGS } else { &FAULT_RUNGS };
    for rung in rungs.iter().copied().filter(|rung| wish.kernel || !rung.kernel) {
        match open(rung, &wish, whom, &cpus) {
            Ok(mut recording) => {
                recording.refused = refused;
                recording.notes.extend(lowered);
                return Ok(recording);
            }
            Err(Failed::Here(error)) => {
                is_denied &= error.raw_os_error() != Some(libc::ENOENT) || rung.counter == Counter::Cycles;
                is_denied &= !matches!(error.raw_os_error(), Some(libc::ENOSYS));
                refused.push(format!("{}: {}", rung.name(), reason(&error)));
            }
            Err(Failed::Everywhere(refusal)) => return Err(refusal),
        }
    }
    let is_other = matches!(whom, Whom::Running(_)) && is_denied;
    Err(if is_other { Refusal::Denied { refused } } else { Refusal::All { refused } })
}

/// The rate that the kernel allows, and a word about it where it is another.
fn rate(wanted: u64, allowed: Option<String>) -> (u64, Option<String>) {
    let allowed = allowed.and_then(|text| text.trim().parse::<u64>().ok()).filter(|rate| *rate > 0);
    match allowed {
        Some(allowed) if allowed < wanted => (
            allowed,
            Some(format!("{allowed} samples a second, not {wanted}: kernel.perf_event_max_sample_rate is {allowed}")),
        ),
        _ => (wanted, None),
    }
}

fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) => "this machine has no such counter".to_owned(),
        Some(libc::EOPNOTSUPP) => "this machine's counter cannot sample".to_owned(),
        Some(libc::ENOSYS) => "this kernel has no perf events (ENOSYS)".to_owned(),
        Some(libc::EACCES | libc::EPERM) => {
            // Facts beside the refusal: the kernel does not say which of them is its cause.
            let level = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
            let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
            let facts: Vec<String> = [
                status
                    .contains("\nSeccomp:\t2\n")
                    .then(|| "apm is under a seccomp filter, as in containers".to_owned()),
                (!level.is_empty()).then(|| format!("kernel.perf_event_paranoid is {}", level.trim())),
            ]
            .into_iter()
            .flatten()
            .collect();
            let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join("; ")) };
            format!("permission denied{facts}")
        }
        _ => error.to_string(),
    }
}

enum Failed {
    /// This rung; the next may do.
    Here(io::Error),
    Everywhere(Refusal),
}

fn open(rung: Rung, wish: &Wish, whom: Whom<'_>, cpus: &[u32]) -> Result<Recording, Failed> {
    let (tids, is_starting) = match &whom {
        Whom::Starting(pid) => (std::slice::from_ref(pid), true),
        Whom::Running(tids) => (*tids, false),
    };
    let event = Event {
        counter: rung.counter,
        pace: Pace::Frequency(wish.frequency),
        callers: wish.callers,
        kernel: rung.kernel,
        raw: false,
        track: true,
        switches: false,
        inherit: if wish.children { Inherit::All } else { Inherit::Threads },
        on_exec: is_starting,
    };
    let other = |what| move |error| Failed::Everywhere(Refusal::Other { what, error });
    let (mut events, mut forms) = (Vec::new(), HashMap::new());
    let mut leaving = HashSet::new();
    let (mut rings, mut ring_min) = (Vec::new(), usize::MAX);
    // A thread leaves its CPU in the kernel: where that is not sampled there is nothing to see.
    // Of what waits already when this begins, and still when it ends, there is no switch: that is looked at (`waits`).
    let off_cpu = (wish.off_cpu && rung.kernel && is_starting).then_some(Event {
        counter: Counter::ContextSwitches,
        pace: Pace::Period(1),
        callers: match wish.callers {
            Callers::Stack(bytes) => Callers::Stack(bytes.min(LEAVING_STACK)),
            other => other,
        },
        track: false,
        switches: true,
        ..event
    });
    for cpu in cpus {
        let mut ring: Option<Ring> = None;
        for tid in tids {
            let opened = match perf::open(&event, *tid as i32, *cpu) {
                Ok(opened) => opened,
                Err(error) => match error.raw_os_error() {
                    // This thread has ended meanwhile, or this CPU went offline.
                    Some(libc::ESRCH | libc::ENODEV) => continue,
                    Some(libc::EMFILE | libc::ENFILE) => {
                        return Err(Failed::Everywhere(Refusal::Files { events: tids.len() * cpus.len() }));
                    }
                    _ => return Err(Failed::Here(error)),
                },
            };
            let number = perf::number(&opened).map_err(other("ask an event for its number"))?;
            forms.insert(number, Form { callers: wish.callers, raw: false });
            match &ring {
                Some(ring) => ring.take_in(&opened).map_err(other("lead an event into a ring"))?,
                None => {
                    let new = Ring::new(&opened, rings::size(cpus.len())).map_err(other("map a ring of perf"))?;
                    ring_min = ring_min.min(new.size());
                    ring = Some(new);
                }
            }
            if let (Some(event), Some(ring)) = (&off_cpu, &ring) {
                let opened = perf::open(event, *tid as i32, *cpu).map_err(other("sample switches of threads"))?;
                let number = perf::number(&opened).map_err(other("ask an event for its number"))?;
                forms.insert(number, Form { callers: event.callers, raw: false });
                leaving.insert(number);
                ring.take_in(&opened).map_err(other("lead an event into a ring"))?;
                events.push(opened);
            }
            events.push(opened);
        }
        rings.extend(ring);
    }
    if events.is_empty() {
        return Err(Failed::Everywhere(Refusal::Gone));
    }
    Ok(Recording {
        rung,
        refused: Vec::new(),
        frequency: wish.frequency,
        events,
        rings: Rings::new(rings),
        forms,
        leaving,
        ring_min,
        notes: Vec::new(),
        calls: None,
    })
}

#[cfg(test)]
mod tests {
    use super::{FAULT_RUNGS, RUNGS, rate};

    #[test]
    fn the_kernels_limit_is_kept_and_told() {
        assert_eq!(rate(999, Some("100000\n".to_owned())), (999, None));
        assert_eq!(rate(999, None), (999, None));
        let (rate, note) = rate(999, Some("250\n".to_owned()));
        let said = "250 samples a second, not 999: kernel.perf_event_max_sample_rate is 250";
        assert_eq!((rate, note.as_deref()), (250, Some(said)));
    }

    #[test]
    fn each_rung_has_its_own_name() {
        let names: std::collections::BTreeSet<String> =
            RUNGS.iter().chain(&FAULT_RUNGS).map(|rung| rung.name()).collect();
        assert_eq!(names.len(), RUNGS.len() + FAULT_RUNGS.len());
    }
}
