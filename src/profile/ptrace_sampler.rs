//! CPU time of processes by ptrace, which stops their threads for a moment some ten times a second: for programs that take
//! no library, where the kernel grants no events. It sees what a thread does in its own code, and where it entered the
//! kernel.
//!
//! A look takes the threads that want a CPU right now. Each stack stands for the CPU time that its thread has used since
//! the look before, which the kernel counts exactly: so sums are right, however late a look comes on a busy machine, and
//! shares are as good as the number of samples.

#![expect(clippy::disallowed_methods, reason = "kernel: /proc")]

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::time::{Duration, Instant, SystemTime};

use crate::probe::stat::Stat;
use crate::profile::procfs::Procfs;
use crate::profile::record::existing;
use crate::profile::session::{Measure, Recorded};
use crate::profile::stacks::{Code, Stacks};
use crate::profile::symbol::perf_map::PerfMaps;
use crate::profile::track::{Kept, Track};
use crate::profile::unwind::{Copied, Unwinder, Walked};
use crate::sys::perf::REGISTERS;
use crate::sys::ptrace::{self, Seized, State};

/// Most looks a second: each stops the threads for as long as it takes to copy their stacks.
pub(crate) const FREQUENCY_MAX: u64 = 99;
/// Of a stack.
const STACK: usize = 16 << 10;
/// Threads that are stopped in one look; the others have their turn in the next.
const STOPS_MAX: usize = 64;
/// Threads that are known.
const THREADS_MAX: usize = 16_384;
/// How long threads are waited for at once. One that runs stops in microseconds; one that has no CPU is looked at when it
/// has one, after other things.
const WAIT: Duration = Duration::from_millis(5);
/// The same when the recording ends.
const LAST_WAIT: Duration = Duration::from_millis(200);
/// The state of a thread that is stopped for who traces it.
const STOPPED: char = 't';
/// After which it is asked whether a thread is still held.
const DOUBT: Duration = Duration::from_millis(100);
/// Between two looks whether they have stopped, and how many of these come without a pause.
const PAUSE: Duration = Duration::from_micros(50);
const LOOKS_AT_ONCE: u32 = 20;
/// The same where it is not waited for.
const PAUSE_LONG: Duration = Duration::from_millis(1);

/// A recording that goes on.
pub(crate) struct PtraceSampler {
    root: u32,
    /// The root is our own child: others wait for its end.
    is_child: bool,
    frequency: u64,
    procfs: Procfs,
    unwinder: Unwinder,
    stacks: Stacks,
    maps: PerfMaps,
    /// CPU time of a thread at its last sample, nanoseconds.
    used: HashMap<u32, u64>,
    /// Threads that were asked to stop, their processes, and since when.
    pending: Vec<(u32, Seized, Instant)>,
    /// When the next look is.
    due: Instant,
    /// Threads that were not looked at, and why.
    refused: HashMap<u32, String>,
    samples: u64,
    truncated: u64,
    lost: u64,
    began: Instant,
    cpu: Track,
    rss: Track,
    stack: Vec<u8>,
    codes: Vec<Code>,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) root: u32,
    pub(crate) with_children: bool,
    pub(crate) is_child: bool,
    pub(crate) frequency: u64,
    /// The apm run of which `root` is the apm.
    pub(crate) run: Option<String>,
}

impl PtraceSampler {
    /// Tries whether this process can be stopped, and begins.
    pub(crate) fn begin(wanted: Wanted) -> std::io::Result<Self> {
        let Wanted { root, with_children, is_child, frequency, run } = wanted;
        // What is allowed is known only when it is tried.
        let pending = ptrace::ask(root, is_child)?.map(|seized| (root, seized, Instant::now()));
        let mut sampler = Self {
            root,
            is_child,
            frequency: frequency.clamp(1, FREQUENCY_MAX),
            procfs: Procfs::new(root, with_children, run),
            unwinder: Unwinder::new(),
            stacks: Stacks::default(),
            maps: PerfMaps::since(SystemTime::now()),
            used: HashMap::new(),
            pending: pending.into_iter().collect(),
            due: Instant::now(),
            refused: HashMap::new(),
            samples: 0,
            truncated: 0,
            lost: 0,
            began: Instant::now(),
            cpu: Track::new(Kept::Rate),
            rss: Track::new(Kept::Peak),
            stack: vec![0; STACK],
            codes: Vec::new(),
        };
        sampler.wait(LAST_WAIT, false);
        // What was used before belongs to nobody here.
        for pid in sampler.procfs.pids() {
            for thread in existing::threads(pid) {
                sampler.used.insert(thread.tid, used(pid, thread.tid).unwrap_or_default());
            }
        }
        Ok(sampler)
    }

    /// How long to wait until the next round.
    pub(crate) fn interval(&self) -> Duration {
        if self.pending.is_empty() { self.due.saturating_duration_since(Instant::now()) } else { PAUSE_LONG }
    }

    /// Takes what has come, and looks where it is time to.
    pub(crate) fn round(&mut self) {
        self.wait(Duration::ZERO, true);
        let began = Instant::now();
        if began < self.due {
            return;
        }
        let mut pages = 0;
        // Process, thread, and what it has used since its last sample.
        let mut busy: Vec<(u32, u32, u64)> = Vec::new();
        for pid in self.procfs.pids() {
            let Some(stat) = fs::read(format!("/proc/{pid}/stat")).ok() else { continue };
            let Some(stat) = Stat::parse(&stat) else { continue };
            pages += stat.field::<u64>(21).unwrap_or_default();
            self.procfs.meet(pid, &stat);
            for thread in existing::threads(pid) {
                self.procfs.processes.name(pid, thread.tid, &thread.name, false);
                let state = state(pid, thread.tid);
                if state == Some(STOPPED) && ptrace::is_held(thread.tid) {
                    // It stopped under the number that it had before it executed a program.
                    self.ask(pid, thread.tid);
                }
                let Some(now) = (state == Some('R')).then(|| used(pid, thread.tid)).flatten() else { continue };
                let before = self.used.get(&thread.tid).copied().unwrap_or_default();
                if now < before {
                    // Another thread has this number now, or has executed a program as the first of its process.
                    self.used.insert(thread.tid, now);
                }
                if now > before && (self.used.len() < THREADS_MAX || self.used.contains_key(&thread.tid)) {
                    busy.push((pid, thread.tid, now - before));
                }
            }
        }
        // Who has used most since its last turn is next.
        busy.sort_unstable_by_key(|(_, _, passed)| std::cmp::Reverse(*passed));
        for (pid, tid, _) in busy.into_iter().take(STOPS_MAX.saturating_sub(self.pending.len())) {
            self.ask(pid, tid);
        }
        self.wait(WAIT, true);
        if self.used.len() >= THREADS_MAX {
            // Those that have ended need no place.
            self.used.retain(|tid, _| fs::exists(format!("/proc/{tid}")).unwrap_or(false));
            self.refused.clear();
        }
        let at = u64::try_from(began.duration_since(self.began).as_nanos()).unwrap_or(u64::MAX);
        self.rss.add(at, pages.saturating_mul(crate::sys::limits::page_size()) as f64);
        // Half of the time is the program's, however much there is to look at.
        let took = began.elapsed();
        self.due = began + Duration::from_secs_f64(1.0 / self.frequency as f64).max(took * 2);
    }

    fn ask(&mut self, pid: u32, tid: u32) {
        if self.pending.iter().any(|(_, seized, _)| seized.tid == tid) {
            return;
        }
        match ptrace::ask(tid, self.is_child && tid == self.root) {
            Ok(Some(seized)) => self.pending.push((pid, seized, Instant::now())),
            Ok(None) => {}
            // One that ends at this moment, or executes a program, refuses too: those count that do it again.
            Err(error) if self.refused.insert(tid, error.to_string()).is_some() => self.lost += 1,
            Err(_) => {}
        }
    }

    /// Waits for threads that were asked; takes a sample of each that has stopped, and lets it go.
    fn wait(&mut self, time: Duration, is_sampled: bool) {
        let end = Instant::now() + time;
        for look in 0.. {
            for (pid, seized, since) in std::mem::take(&mut self.pending) {
                match ptrace::state(seized) {
                    State::Stopped { signal } if is_sampled => self.sample(pid, seized, signal),
                    State::Stopped { signal } => ptrace::release(seized, signal),
                    // One that has this number because the other has ended by an exec was never asked.
                    State::Running if since.elapsed() > DOUBT && !ptrace::is_held(seized.tid) => {}
                    // Or it has that number now, is held, and was not asked since: asking twice does no harm.
                    State::Running if since.elapsed() > DOUBT => {
                        ptrace::interrupt(seized.tid);
                        self.pending.push((pid, seized, Instant::now()));
                    }
                    State::Running => self.pending.push((pid, seized, since)),
                    State::Ended => {}
                }
            }
            if self.pending.is_empty() || Instant::now() >= end {
                break;
            }
            if look < LOOKS_AT_ONCE { std::thread::yield_now() } else { std::thread::sleep(PAUSE) }
        }
    }

    fn sample(&mut self, pid: u32, seized: Seized, signal: i32) {
        let tid = seized.tid;
        let registers = ptrace::registers(tid);
        // The stack pointer is the last but one.
        let start = registers.as_ref().map_or(0, |registers| registers[REGISTERS.len() - 2]);
        let count = ptrace::read(pid, start, &mut self.stack);
        let now = used(pid, tid);
        // From here on it goes on.
        ptrace::release(seized, signal);
        let (Ok(registers), Some(now)) = (registers, now) else { return };
        let passed = now.saturating_sub(self.used.insert(tid, now).unwrap_or_default());
        let copied = Copied { registers, stack: &self.stack[..count.min(self.stack.len())] };
        let Self { procfs, unwinder, codes, .. } = self;
        codes.clear();
        let mut walked = unwinder.walk(procfs.processes.get(pid), &mut procfs.modules, &copied, codes);
        if walked == Walked::Truncated && procfs.again(pid) {
            codes.clear();
            walked = unwinder.walk(procfs.processes.get(pid), &mut procfs.modules, &copied, codes);
        }
        self.samples += 1;
        self.truncated += u64::from(walked == Walked::Truncated);
        if self.codes.iter().any(|code| matches!(code, Code::Made { .. })) {
            self.maps.seen(self.procfs.processes.get(pid).program, pid);
        }
        let at = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.cpu.add(at, passed as f64 / 1e9);
        self.stacks.add(&self.codes, self.procfs.processes.thread(pid, tid), passed);
    }

    /// The end: every thread goes on.
    pub(crate) fn finish(mut self) -> Recorded {
        // A thread that does not stop even now is let go by the kernel when apm ends.
        self.wait(LAST_WAIT, true);
        self.lost += self.pending.len() as u64;
        self.procfs.modules.forget_tables();
        self.stacks.close();
        let reasons: BTreeSet<&String> = self.refused.values().filter(|_| self.lost > 0).collect();
        let mut notes: Vec<String> =
            reasons.into_iter().map(|error| format!("threads were not stopped: {error}")).collect();
        notes.push("time in the kernel counts for the function that called it".to_owned());
        if self.stacks.cut > 0 {
            notes.push(format!("{} stacks end early: there are more different ones than apm keeps", self.stacks.cut));
        }
        Recorded {
            lists: Vec::new(),
            stacks: self.stacks,
            modules: self.procfs.modules,
            processes: self.procfs.processes,
            maps: self.maps,
            sampler: "ptrace, threads stopped for a moment".to_owned(),
            measure: Measure::Time { frequency: self.frequency, counts_time: true, has_kernel: true },
            refused: Vec::new(),
            notes,
            samples: self.samples,
            truncated: self.truncated,
            elsewhere: self.unwinder.elsewhere,
            no_code: self.unwinder.no_code,
            stack_copied: 0,
            by_frame_pointers: false,
            lost: self.lost,
            duration: self.began.elapsed(),
            has_off_cpu: false,
            cpu: self.cpu,
            rss: self.rss,
        }
    }
}

/// The state of a thread: `R` where it runs, or would if it had a CPU.
fn state(pid: u32, tid: u32) -> Option<char> {
    let stat = fs::read(format!("/proc/{pid}/task/{tid}/stat")).unwrap_or_default();
    Stat::parse(&stat).map(|stat| stat.state)
}

/// CPU time of a thread, nanoseconds.
fn used(pid: u32, tid: u32) -> Option<u64> {
    if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")) {
        return text.split_ascii_whitespace().next()?.parse().ok();
    }
    // A kernel without these counts in ticks (USER_HZ, the same on every Linux).
    let stat = fs::read(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    let stat = Stat::parse(&stat)?;
    Some((stat.field::<u64>(11)? + stat.field::<u64>(12)?).saturating_mul(10_000_000))
}
