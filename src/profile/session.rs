//! The recording: takes what the kernel wrote, in order of time, keeps up with forks, execs and mappings, and makes stacks
//! of samples while the program runs. So memory has a bound however long that is, and nothing is written to disk.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use crate::model::profile::{Kind, List, Unit};
use crate::profile::calls::Calls;
use crate::profile::modules::{self, Modules};
use crate::profile::process::{Area, Processes, What};
use crate::profile::record::existing;
use crate::profile::record::perf::{Form, Mapped, Record, Sample};
use crate::profile::record::sampler::Recording;
use crate::profile::stacks::{Code, Spot, Stacks};
use crate::profile::symbol::perf_map::PerfMaps;
use crate::profile::track::{Kept, Track};
use crate::profile::unwind::{self, Copied, Unwinder, Walked};
use crate::sys::perf::{self, Callers};
use crate::sys::{limits, process};

/// Longest time between two looks at the rings.
const ROUND_MAX: Duration = Duration::from_millis(50);
/// Shortest one, where the rings are small and the samples large.
const ROUND_MIN: Duration = Duration::from_millis(2);
/// Longest one while an apm runs tasks: which one a process belongs to can be asked only while it lives.
const ROUND_OF_TASKS: Duration = Duration::from_millis(5);
/// Bytes that a fault brings at least; a huge page counts as one of these.
const PAGE: u64 = 4096;
/// Between two looks at the memory of the processes, and most of them that are looked at: one takes about 10 us.
const MEMORY_EVERY: Duration = Duration::from_millis(100);
const MEMORY_OF_MAX: usize = 64;
/// Threads without a CPU that are kept in mind.
const AWAY_MAX: usize = 65_536;
/// What the samples of each event have.
type Forms = HashMap<u64, Form>;

/// A recording that goes on.
pub(crate) struct Session {
    recording: Recording,
    /// The samples are system calls, and not time.
    calls: Option<Calls>,
    /// The apm run whose tasks are told apart; any where absent.
    run: Option<String>,
    processes: Processes,
    modules: Modules,
    unwinder: Unwinder,
    stacks: Stacks,
    maps: PerfMaps,
    truncated: u64,
    samples: u64,
    codes: Vec<Code>,
    began: Instant,
    /// Time of the first record, nanoseconds of the monotonic clock.
    origin: Option<u64>,
    /// CPUs in use.
    cpu: Track,
    /// Bytes in RAM of all processes together; what they share is counted for each.
    rss: Track,
    looked: Option<Instant>,
    /// Threads without a CPU.
    away: HashMap<u32, Away>,
    newest: u64,
}

/// A thread that has left its CPU: where in the tree, which thread, and when.
#[derive(Clone, Copy, Debug)]
struct Away {
    node: u32,
    thread: Option<u32>,
    since: u64,
    /// It was still runnable: another thread got its CPU.
    is_runnable: bool,
}

impl Away {
    /// It has a CPU again.
    fn ends(self, stacks: &mut Stacks, at: u64) {
        let passed = at.saturating_sub(self.since);
        match self.is_runnable {
            true => stacks.delay(self.node, self.thread, passed),
            false => stacks.wait(self.node, self.thread, passed),
        }
    }
}

/// What the samples stand for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Measure {
    /// CPU time: so many samples a second, whose weights are nanoseconds where `counts_time`.
    Time { frequency: u64, counts_time: bool, has_kernel: bool },
    /// Things of this kind, `factor` of it for each unit of weight.
    Events { kind: Kind, factor: u64 },
    /// Values of these kinds; weights say nothing. Some of the samples may be `ticks` of CPU time.
    Values { kinds: Vec<Kind>, values: Vec<(Spot, Vec<u64>)>, ticks: u64 },
}

/// What came of it.
pub(crate) struct Recorded {
    pub(crate) stacks: Stacks,
    pub(crate) modules: Modules,
    pub(crate) processes: Processes,
    pub(crate) maps: PerfMaps,
    /// How samples were taken, in words.
    pub(crate) sampler: String,
    pub(crate) measure: Measure,
    pub(crate) refused: Vec<String>,
    pub(crate) notes: Vec<String>,
    pub(crate) samples: u64,
    pub(crate) truncated: u64,
    /// Of these: the callers are on another stack.
    pub(crate) elsewhere: u64,
    /// Of these: what was found as the address of the caller is no code.
    pub(crate) no_code: u64,
    /// Bytes of a stack that were copied at most; 0 where none was.
    pub(crate) stack_copied: u32,
    /// Callers were found by the kernel, which does not say whether it came to the outermost.
    pub(crate) by_frame_pointers: bool,
    pub(crate) lost: u64,
    pub(crate) duration: Duration,
    /// Time without a CPU was recorded too.
    pub(crate) has_off_cpu: bool,
    pub(crate) cpu: Track,
    pub(crate) rss: Track,
    pub(crate) lists: Vec<List>,
}

impl Session {
    /// Begins with events that are open.
    pub(crate) fn new(recording: Recording) -> Self {
        Self {
            recording,
            calls: None,
            run: None,
            processes: Processes::default(),
            modules: Modules::default(),
            unwinder: Unwinder::new(),
            stacks: Stacks::default(),
            maps: PerfMaps::since(SystemTime::now()),
            truncated: 0,
            samples: 0,
            codes: Vec::new(),
            began: Instant::now(),
            origin: None,
            cpu: Track::new(Kept::Rate),
            rss: Track::new(Kept::Peak),
            looked: None,
            away: HashMap::new(),
            newest: 0,
        }
    }

    /// Begins with tracepoints that are open, whose records are `calls`.
    pub(crate) fn of_calls(recording: Recording, calls: Calls) -> Self {
        Self { calls: Some(calls), ..Self::new(recording) }
    }

    /// Tells tasks of this run apart, also where the name of its apm is another.
    pub(crate) fn of_run(mut self, run: String, apm: u32) -> Self {
        self.processes.follow_tasks(apm);
        self.run = Some(run);
        self
    }

    /// Enables the events of processes that run already, and reads what these have mapped so far. In this order: what
    /// comes between is seen twice, not never.
    pub(crate) fn attach(&mut self, pids: &[u32]) -> std::io::Result<()> {
        for event in &self.recording.events {
            perf::enable(event)?;
        }
        for pid in pids {
            meet(&mut self.processes, &mut self.modules, *pid, self.run.as_deref());
            if let Some(calls) = &mut self.calls {
                calls.know(*pid);
            }
        }
        Ok(())
    }

    /// Whether time without a CPU is in it.
    pub(crate) fn is_told_of_waits(&self) -> bool {
        !self.recording.leaving.is_empty()
    }

    /// How long to wait until the next round.
    pub(crate) fn interval(&self) -> Duration {
        let stack = self.recording.forms.values().map(|form| match form.callers {
            Callers::Stack(bytes) => u64::from(bytes),
            Callers::FramePointers | Callers::None => 0,
        });
        // Registers, the chain and the header come on top.
        let sample = stack.max().unwrap_or(0) + 1024;
        let per_second = sample.saturating_mul(self.recording.frequency).max(1);
        let half = Duration::from_secs_f64(self.recording.ring_min as f64 / 2.0 / per_second as f64);
        half.clamp(ROUND_MIN, if self.processes.have_apm() { ROUND_OF_TASKS } else { ROUND_MAX })
    }

    /// Takes what has come.
    pub(crate) fn round(&mut self) {
        self.take(false);
        // Beside calls somebody else looks.
        if self.calls.is_none() && self.looked.is_none_or(|at| at.elapsed() >= MEMORY_EVERY) {
            self.looked = Some(Instant::now());
            let pages: u64 = self.processes.running().take(MEMORY_OF_MAX).filter_map(existing::pages).sum();
            if pages > 0 {
                let at = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
                self.rss.add(at, pages.saturating_mul(limits::page_size()) as f64);
            }
        }
    }

    fn take(&mut self, is_last: bool) {
        let Self { recording, processes, modules, unwinder, stacks, maps, truncated, samples, codes, run, .. } = self;
        let run = run.as_deref();
        let (origin, cpu) = (&mut self.origin, &mut self.cpu);
        let (away, newest, leaving) = (&mut self.away, &mut self.newest, &recording.leaving);
        let seconds = 1.0 / recording.frequency.max(1) as f64;
        let (forms, calls): (&Forms, _) = (&recording.forms, &mut self.calls);
        let form = |event| forms.get(&event).copied();
        recording.rings.round(&form, is_last, |record| {
            *newest = record.at().max(*newest);
            match record {
                Record::Sample(sample) if leaving.contains(&sample.event) => {
                    codes.clear();
                    walk(&sample, form(sample.event), processes, modules, unwinder, codes);
                    let thread = processes.thread(sample.pid, sample.tid);
                    if let Some(node) = stacks.place(codes).filter(|_| away.len() < AWAY_MAX) {
                        away.insert(sample.tid, Away { node, thread, since: sample.at, is_runnable: false });
                    }
                }
                Record::Sample(sample) if calls.is_some() => {
                    // Only what has a stack comes out again.
                    let taken = calls.as_mut().and_then(|calls| calls.take(&sample).map(|done| (calls, done)));
                    let Some((calls, done)) = taken else { return };
                    *samples += 1;
                    codes.clear();
                    let walked = walk(&sample, form(sample.event), processes, modules, unwinder, codes);
                    *truncated += u64::from(walked == Walked::Truncated);
                    if let Some(node) = stacks.place(codes) {
                        calls.add(stacks.count(node, processes.thread(sample.pid, sample.tid)), &done);
                    }
                }
                Record::Sample(sample) => {
                    *samples += 1;
                    if sample.registers.is_some() && processes.get(sample.pid).is_blank() {
                        // It was started while events were opened.
                        meet(processes, modules, sample.pid, run);
                    }
                    let process = processes.get(sample.pid);
                    // An apm within a task has the names of its own tasks in its memory.
                    if process.wants_task()
                        && !process.is_apm
                        && let Some(task) = process::task_in(sample.stack, run)
                    {
                        // It has ended before it was asked. Its environment lies at the outer end of its stack, and a copy
                        // of a stack that is not deep has it: of tasks of 3 ms one in ten was known without this.
                        processes.set_task(sample.pid, &task);
                    }
                    let origin = *origin.get_or_insert(sample.at);
                    cpu.add(sample.at.saturating_sub(origin), seconds);
                    codes.clear();
                    let walked = walk(&sample, form(sample.event), processes, modules, unwinder, codes);
                    if walked == Walked::Truncated {
                        *truncated += 1;
                        codes.push(Code::Truncated);
                    }
                    if codes.iter().any(|code| matches!(code, Code::Made { .. })) {
                        maps.seen(processes.get(sample.pid).program, sample.pid);
                    }
                    stacks.add(codes, processes.thread(sample.pid, sample.tid), sample.period);
                }
                Record::Mapped(mapped) if mapped.is_executable => {
                    let Mapped { pid, start, len, offset, inode, path, .. } = mapped;
                    let file = modules::Mapping { pid, start, end: start.saturating_add(len), path, inode };
                    map(processes, modules, &file, offset);
                }
                Record::Named { pid, tid, name, by_exec, at } => {
                    if let Some(calls) = calls.as_mut().filter(|_| by_exec) {
                        calls.replaced(pid, at);
                    }
                    processes.name(pid, tid, name, by_exec);
                    if by_exec {
                        ask_for_task(processes, pid, run);
                    }
                }
                Record::Forked { pid, parent, tid, at } => {
                    if let Some(calls) = calls {
                        calls.forked(parent, pid, at);
                    }
                    processes.fork(parent, pid, tid);
                }
                Record::Exited { pid, tid, at } => {
                    away.remove(&tid);
                    if let Some(calls) = calls {
                        calls.ended(pid, tid, at);
                    }
                    processes.exit(pid, tid);
                }
                Record::Switched { tid, out: false, at, .. } => {
                    if let Some(away) = away.remove(&tid) {
                        away.ends(stacks, at);
                    }
                }
                // Comes behind the sample of the same switch.
                Record::Switched { tid, out: true, preempted, .. } => {
                    if let Some(away) = away.get_mut(&tid) {
                        away.is_runnable = preempted;
                    }
                }
                Record::Mapped(_) | Record::Lost { .. } => {}
            }
        });
    }

    /// Ends the sampling; what was sampled so far stays.
    pub(crate) fn stop(&mut self) {
        for event in &self.recording.events {
            // One whose last process has ended is no worse than one that is disabled.
            let _ = perf::disable(event);
        }
    }

    /// The end: gives everything back that was needed for recording alone.
    pub(crate) fn finish(mut self) -> Recorded {
        let duration = self.began.elapsed();
        self.stop();
        self.take(true);
        for away in std::mem::take(&mut self.away).into_values() {
            away.ends(&mut self.stacks, self.newest);
        }
        self.modules.forget_tables();
        self.stacks.close();
        let mut notes = std::mem::take(&mut self.recording.notes);
        if self.stacks.cut > 0 {
            notes.push(format!("{} stacks end early: there are more different ones than apm keeps", self.stacks.cut));
        }
        let by_frame_pointers = self.recording.forms.values().any(|form| form.callers == Callers::FramePointers);
        if by_frame_pointers {
            notes.push("callers are found by frame pointers: code without them hides its callers".to_owned());
        } else if self.modules.without_tables > 0 {
            let count = self.modules.without_tables;
            notes.push(format!("{count} files without tables of unwinding: callers there are found by frame pointers"));
        }
        let has_off_cpu = self.is_told_of_waits();
        let (mut lists, mut values) = (Vec::new(), None);
        if let Some(calls) = self.calls.take() {
            let counted = calls.finish(&self.recording.rings.lost_of);
            values = Some(Measure::Values { kinds: counted.kinds, values: counted.values, ticks: 0 });
            lists.push(counted.files);
            notes.extend(counted.notes);
        }
        Recorded {
            stacks: self.stacks,
            modules: self.modules,
            processes: self.processes,
            maps: self.maps,
            sampler: self.recording.sampler.name(),
            measure: if let Some(values) = values {
                values
            } else if self.recording.sampler.is_faults() {
                Measure::Events { kind: Kind { name: "touched_space".to_owned(), unit: Unit::Bytes }, factor: PAGE }
            } else {
                Measure::Time {
                    frequency: self.recording.frequency,
                    counts_time: self.recording.sampler.counts_time(),
                    has_kernel: self.recording.sampler.has_kernel(),
                }
            },
            refused: self.recording.refused,
            notes,
            samples: self.samples,
            truncated: self.truncated,
            elsewhere: self.unwinder.elsewhere,
            no_code: self.unwinder.no_code,
            stack_copied: self.recording.forms.values().map(|form| form.callers.copied()).max().unwrap_or(0),
            by_frame_pointers,
            lost: self.recording.rings.lost,
            duration,
            has_off_cpu,
            cpu: self.cpu,
            rss: self.rss,
            lists,
        }
    }
}

/// Puts a mapping into its process.
fn map(processes: &mut Processes, modules: &mut Modules, file: &modules::Mapping<'_>, offset: u64) {
    let what = modules.find(file).map_or(What::Memory, |module| What::File(module, offset));
    processes.map(file.pid, Area { start: file.start, end: file.end, what }, file.path);
}

/// Asks a process that an apm has started for its task.
fn ask_for_task(processes: &mut Processes, pid: u32, run: Option<&str>) {
    if processes.get(pid).wants_task()
        && let Some(task) = process::task_of(pid, run)
    {
        processes.set_task(pid, &task);
    }
}

/// Learns of a process that was there before the first record of it; its parent comes first.
fn meet(processes: &mut Processes, modules: &mut Modules, pid: u32, run: Option<&str>) {
    for task in existing::threads(pid) {
        processes.name(task.pid, task.tid, &task.name, false);
    }
    read_mappings(processes, modules, pid);
    if let Some(parent) = existing::parent_of(pid) {
        processes.descend(parent, pid);
    }
    ask_for_task(processes, pid, run);
}

/// Reads what a process has mapped.
fn read_mappings(processes: &mut Processes, modules: &mut Modules, pid: u32) {
    for mapped in existing::mappings(pid) {
        let existing::Mapped { start, end, offset, inode, path } = &mapped;
        let file = modules::Mapping { pid, start: *start, end: *end, path, inode: *inode };
        map(processes, modules, &file, *offset);
    }
}

/// Makes a stack of a sample, the innermost first.
fn walk(
    sample: &Sample<'_>,
    form: Option<Form>,
    processes: &mut Processes,
    modules: &mut Modules,
    unwinder: &mut Unwinder,
    codes: &mut Vec<Code>,
) -> Walked {
    unwind::kernel(sample.chain.links(), codes);
    if sample.registers.is_some() && processes.get(sample.pid).is_blank() {
        read_mappings(processes, modules, sample.pid);
    }
    let process = processes.get(sample.pid);
    match form.map(|form| form.callers) {
        Some(Callers::FramePointers) => {
            unwind::follow(process, sample.chain.links(), codes);
            Walked::Whole
        }
        _ => match sample.registers {
            Some(registers) => unwinder.walk(process, modules, &Copied { registers, stack: sample.stack }, codes),
            // A thread of the kernel, or one that is just leaving.
            None => {
                if codes.is_empty() {
                    codes.push(if sample.in_kernel { Code::Kernel(sample.ip) } else { Code::Nowhere });
                }
                Walked::Whole
            }
        },
    }
}
