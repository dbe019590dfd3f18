//! How the kernel samples CPU time, the best way first. Which of the samplers this machine grants is tried and not guessed:
//! settings, a hypervisor, a container and a seccomp filter each refuse in their own way, and only the attempt knows them
//! all. Why a better sampler was refused is reported.
//!
//! Where the kernel grants none (`Refusal::All`), `command::profile` goes on with the timer of the preloaded library
//! (`preload_session`), then with ptrace (`ptrace_sampler`), then with counters alone (`watch`).

#![expect(clippy::disallowed_methods, reason = "kernel: /proc")]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use thiserror::Error;

use crate::probe::{Roots, cpu};
use crate::profile::record::perf::Form;
use crate::profile::record::rings::{self, Rings};
use crate::sys::perf::{self, Callers, Counter, Event, Inherit, Pace, Ring};

/// Most samples a second that are asked for, whatever the kernel would allow.
pub(crate) const FREQUENCY_MAX: u64 = 20_000;

/// Most of a stack that is copied when a thread leaves its CPU, which can happen very often.
const LEAVING_STACK: u32 = 8 << 10;

/// A way to sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sampler {
    counter: Counter,
    kernel: bool,
}

const SAMPLERS: [Sampler; 4] = [
    Sampler { counter: Counter::Cycles, kernel: true },
    Sampler { counter: Counter::CpuClock, kernel: true },
    Sampler { counter: Counter::Cycles, kernel: false },
    Sampler { counter: Counter::CpuClock, kernel: false },
];

/// First touches of pages: what there is where the allocations of a program cannot be seen.
const FAULT_SAMPLERS: [Sampler; 2] =
    [Sampler { counter: Counter::PageFaults, kernel: true }, Sampler { counter: Counter::PageFaults, kernel: false }];

/// What is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sampled {
    Time,
    /// Each fault of a page.
    Faults,
}

/// What is asked of the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
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

/// Whose time is sampled.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// A process that is about to execute its program: from then on.
    Starting(u32),
    /// These threads, once they are enabled.
    Running(&'a [u32]),
}

/// Events that are open.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) sampler: Sampler,
    /// Why better samplers were refused.
    pub(crate) refused: Vec<String>,
    pub(crate) frequency: u64,
    pub(crate) events: Vec<OwnedFd>,
    pub(crate) rings: Rings,
    pub(crate) forms: HashMap<u64, Form>,
    /// Those events whose samples are of a thread that leaves its CPU; none where that was not wanted, or is refused.
    pub(crate) leaving: HashSet<u64>,
    /// Bytes of the smallest ring.
    pub(crate) ring_min: usize,
    /// What else is to be reported.
    pub(crate) notes: Vec<String>,
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

impl Sampler {
    /// Tracepoints, which count system calls and not time. Opened by `calls`, and no sampler to fall back to.
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

/// Opens the best sampler that is granted.
pub(crate) fn open_best(request: &Request, target: Target<'_>) -> Result<Recording, Refusal> {
    let cpus = cpu::online(&Roots::default()).known().cloned().unwrap_or_else(|| vec![0]);
    let (frequency, lowered) =
        rate(request.frequency, fs::read_to_string("/proc/sys/kernel/perf_event_max_sample_rate").ok());
    let request = Request { frequency, ..*request };
    let mut refused = Vec::new();
    let mut is_denied = true;
    let samplers: &[Sampler] = if request.sampled == Sampled::Time { &SAMPLERS } else { &FAULT_SAMPLERS };
    for sampler in samplers.iter().copied().filter(|sampler| request.kernel || !sampler.kernel) {
        match open(sampler, &request, target, &cpus) {
            Ok(mut recording) => {
                recording.refused = refused;
                recording.notes.extend(lowered);
                return Ok(recording);
            }
            Err(Failed::Here(error)) => {
                is_denied &= error.raw_os_error() != Some(libc::ENOENT) || sampler.counter == Counter::Cycles;
                is_denied &= !matches!(error.raw_os_error(), Some(libc::ENOSYS));
                refused.push(format!("{}: {}", sampler.name(), reason(&error)));
            }
            Err(Failed::Everywhere(refusal)) => return Err(refusal),
        }
    }
    let is_other = matches!(target, Target::Running(_)) && is_denied;
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
    /// This sampler; the next may do.
    Here(io::Error),
    Everywhere(Refusal),
}

fn open(sampler: Sampler, request: &Request, target: Target<'_>, cpus: &[u32]) -> Result<Recording, Failed> {
    let (tids, is_starting) = match &target {
        Target::Starting(pid) => (std::slice::from_ref(pid), true),
        Target::Running(tids) => (*tids, false),
    };
    let event = Event {
        counter: sampler.counter,
        pace: Pace::Frequency(request.frequency),
        callers: request.callers,
        kernel: sampler.kernel,
        raw: false,
        track: true,
        switches: false,
        inherit: if request.children { Inherit::All } else { Inherit::Threads },
        on_exec: is_starting,
    };
    let other = |what| move |error| Failed::Everywhere(Refusal::Other { what, error });
    let (mut events, mut forms) = (Vec::new(), HashMap::new());
    let mut leaving = HashSet::new();
    let (mut rings, mut ring_min) = (Vec::new(), usize::MAX);
    // A thread leaves its CPU in the kernel: where that is not sampled there is nothing to see.
    // Of what waits already when this begins, and still when it ends, there is no switch: that is looked at (`off_cpu`).
    let off_cpu = (request.off_cpu && sampler.kernel && is_starting).then_some(Event {
        counter: Counter::ContextSwitches,
        pace: Pace::Period(1),
        callers: match request.callers {
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
            forms.insert(number, Form { callers: request.callers, raw: false });
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
        sampler,
        refused: Vec::new(),
        frequency: request.frequency,
        events,
        rings: Rings::new(rings),
        forms,
        leaving,
        ring_min,
        notes: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::{FAULT_SAMPLERS, SAMPLERS, rate};

    #[test]
    fn the_kernels_limit_is_kept_and_told() {
        assert_eq!(rate(999, Some("100000\n".to_owned())), (999, None));
        assert_eq!(rate(999, None), (999, None));
        let (rate, note) = rate(999, Some("250\n".to_owned()));
        let said = "250 samples a second, not 999: kernel.perf_event_max_sample_rate is 250";
        assert_eq!((rate, note.as_deref()), (250, Some(said)));
    }

    #[test]
    fn each_sampler_has_its_own_name() {
        let names: std::collections::BTreeSet<String> =
            SAMPLERS.iter().chain(&FAULT_SAMPLERS).map(|sampler| sampler.name()).collect();
        assert_eq!(names.len(), SAMPLERS.len() + FAULT_SAMPLERS.len());
    }
}
