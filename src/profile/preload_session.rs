//! The recording from within programs: makes stacks of what the preloaded library writes into its ring, as it comes. Memory
//! by `heap`, calls that move bytes by their sizes, ticks of CPU time where the kernel grants no events.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::model::profile::{Kind, List, Unit};
use crate::profile::files::{self, CALLS};
use crate::profile::heap::Heap;
use crate::profile::modules::{self, Modules};
use crate::profile::outside::{Announced, without_mark};
use crate::profile::process::{Area, Processes, What as Lies};
use crate::profile::record::preload::{Preload, Wanted};
use crate::profile::record::ring::{Call, CallKind, Caught, Event, FileTotals, What};
use crate::profile::record::{existing, target};
use crate::profile::session::{Measure, Recorded};
use crate::profile::stacks::{Code, Spot, Stacks};
use crate::profile::symbol::perf_map::PerfMaps;
use crate::profile::track::{Kept, Track};
use crate::profile::unwind::{Copied, Unwinder, Walked};
use crate::sys::perf::REGISTERS;
use crate::sys::{limits, process};

/// Looks at the memory of a process in which nothing new is found, until it is not looked at again.
const LOOKS_MAX: u32 = 32;
/// Standard error of all that was allocated, percent, from which on a note says what helps.
const ERROR_MANY: f64 = 10.0;
/// Programs that are asked for their allocator.
const PROGRAMS_MAX: usize = 32;
/// Programs and processes that have announced themselves and are remembered.
const ANNOUNCED_MAX: usize = 65_536;
/// Names of files that are remembered.
const NAMES_MAX: usize = 8192;

/// Kinds of values of memory, in this order.
const HEAP: [(&str, Unit); 4] = [
    ("peak_space", Unit::Bytes),
    ("inuse_space", Unit::Bytes),
    ("alloc_space", Unit::Bytes),
    ("alloc_objects", Unit::Count),
];
/// Kinds of values of ticks.
const TICKS: [(&str, Unit); 2] = [("cpu", Unit::Nanoseconds), ("samples", Unit::Count)];

/// A recording that goes on.
pub(crate) struct PreloadSession {
    preload: Preload,
    wanted: Wanted,
    processes: Processes,
    modules: Modules,
    unwinder: Unwinder,
    stacks: Stacks,
    heap: Option<Heap<Spot>>,
    maps: PerfMaps,
    /// Of calls, by place and entry of the table of files.
    calls: BTreeMap<(Spot, u32), [f64; CALLS.len()]>,
    /// In the order of [`TICKS`]; each stands for those that were missed since the one before.
    ticks: BTreeMap<Spot, [u64; TICKS.len()]>,
    /// Paths by entry of the table of files.
    files: HashMap<u32, String>,
    known: HashMap<u32, ()>,
    /// Programs that were asked whether they work past the library.
    programs: HashSet<PathBuf>,
    announced: Announced,
    /// Between two looks of the kernel at timers of CPU time.
    kernel_tick: Duration,
    /// The task of apm itself, which is nobody's in the profile.
    own_task: Option<String>,
    /// Looks at the memory of a process that may still find nothing new.
    looked: HashMap<u32, u32>,
    samples: u64,
    truncated: u64,
    codes: Vec<Code>,
    notes: Vec<String>,
    began: Instant,
}

/// What was seen from within.
pub(crate) struct Inside {
    pub(crate) recorded: Recorded,
    pub(crate) lists: Vec<List>,
    pub(crate) announced: Announced,
}

impl PreloadSession {
    /// Begins with a library that is installed.
    pub(crate) fn new(preload: Preload, wanted: Wanted) -> Self {
        Self {
            preload,
            wanted,
            processes: Processes::default(),
            modules: Modules::default(),
            unwinder: Unwinder::new(),
            stacks: Stacks::default(),
            heap: wanted.heap_mean.map(Heap::new),
            maps: PerfMaps::since(SystemTime::now()),
            calls: BTreeMap::new(),
            ticks: BTreeMap::new(),
            files: HashMap::new(),
            known: HashMap::new(),
            programs: HashSet::new(),
            announced: Announced::default(),
            kernel_tick: limits::tick(),
            own_task: process::task_of(std::process::id(), None),
            looked: HashMap::new(),
            samples: 0,
            truncated: 0,
            codes: Vec::new(),
            notes: Vec::new(),
            began: Instant::now(),
        }
    }

    /// What the program needs in its environment.
    pub(crate) fn preload(&self) -> &Preload {
        &self.preload
    }

    /// Takes what has come.
    pub(crate) fn round(&mut self) {
        let is_alive = |pid: u32| i32::try_from(pid).is_ok_and(|pid| process::start_of(pid).is_some());
        self.take(|ring, each| {
            ring.drain(Instant::now(), is_alive, each);
        });
    }

    fn take(&mut self, from: impl FnOnce(&mut crate::profile::record::ring::Ring, &mut dyn FnMut(Event<'_>))) {
        let Self {
            preload,
            wanted,
            processes,
            modules,
            unwinder,
            stacks,
            heap,
            maps,
            calls,
            ticks,
            files,
            known,
            programs,
            announced,
            kernel_tick,
            own_task,
            looked,
            ..
        } = self;
        let Self { samples, truncated, codes, notes, .. } = self;
        from(&mut preload.ring, &mut |event| match event {
            Event::Started { pid, parent, is_new_program, program } => {
                if announced.processes.len() < ANNOUNCED_MAX {
                    announced.processes.insert(pid);
                }
                if is_new_program {
                    let name = program.file_name().unwrap_or_default();
                    processes.name(pid, pid, name.as_encoded_bytes(), true);
                    // It may have ended before it is asked: its task is that of what has started it.
                    processes.descend(parent, pid);
                    if let Some(heap) = heap.as_mut().filter(|_| known.contains_key(&pid)) {
                        heap.replaced(pid);
                    }
                    if announced.programs.len() < ANNOUNCED_MAX {
                        announced.programs.insert((pid, without_mark(program.to_owned())));
                    }
                    announced.executing.remove(&pid);
                    if programs.len() < PROGRAMS_MAX && programs.insert(program.to_owned()) {
                        // For the first program the note is there already.
                        notes.extend(past_the_library(program, heap.is_some()).filter(|_| programs.len() > 1));
                    }
                    let task = process::task_of(pid, None).filter(|task| own_task.as_ref() != Some(task));
                    if let Some(task) = task {
                        processes.set_task(pid, &task);
                    }
                } else {
                    processes.fork(parent, pid, pid);
                }
                known.insert(pid, ());
            }
            Event::Maps { pid, text } => {
                map(processes, modules, pid, existing::mappings_of(&text));
            }
            Event::File { entry, path, .. } => {
                if files.len() < NAMES_MAX {
                    files.insert(entry, path.to_string_lossy().into_owned());
                }
            }
            Event::SignalTaken { pid } => {
                notes.push(format!("process {pid} has a handler of its own for SIGPROF: no more ticks from it"));
            }
            Event::Executing { pid, program, is_asked } => {
                if announced.executing.len() < ANNOUNCED_MAX {
                    announced.executing.insert(pid, (program.to_owned(), is_asked));
                }
            }
            Event::NotExecuted { pid } => _ = announced.executing.remove(&pid),
            Event::Ending { pid } => {
                if let Some(heap) = heap {
                    heap.ended(pid);
                }
            }
            Event::Caught(Caught { pid, what: What::Free { pointer }, .. }) => {
                if let Some(heap) = heap {
                    heap.free(pid, pointer);
                }
            }
            Event::Caught(caught) => {
                *samples += 1;
                codes.clear();
                let copied = Copied { registers: registers(&caught), stack: caught.stack };
                let mut walked = unwinder.walk(processes.get(caught.pid), modules, &copied, codes);
                // A library may have been loaded since its memory was last looked at.
                let looked = looked.entry(caught.pid).or_insert(LOOKS_MAX);
                if walked == Walked::Truncated && *looked > 0 {
                    let now = existing::mappings(caught.pid);
                    // Nothing new: it is truncated for another reason, and looking again is of no use soon.
                    let is_new = map(processes, modules, caught.pid, now);
                    *looked = if is_new { *looked } else { *looked - 1 };
                    if is_new {
                        codes.clear();
                        walked = unwinder.walk(processes.get(caught.pid), modules, &copied, codes);
                    }
                }
                if walked == Walked::Truncated {
                    *truncated += 1;
                    codes.push(Code::Truncated);
                }
                if codes.iter().any(|code| matches!(code, Code::Made { .. })) {
                    maps.seen(processes.get(caught.pid).program, caught.pid);
                }
                if caught.tid != caught.pid
                    && !processes.is_seen(caught.tid)
                    && let Some(name) = existing::name_of(caught.pid, caught.tid)
                {
                    processes.name(caught.pid, caught.tid, &name, false);
                }
                let thread = processes.thread(caught.pid, caught.tid);
                let Some(node) = stacks.place(codes) else { return };
                let spot = stacks.count(node, thread);
                match caught.what {
                    What::Alloc { pointer, size } => {
                        if let Some(heap) = heap {
                            heap.alloc(caught.pid, pointer, size, spot);
                        }
                    }
                    What::Call(call) => count(calls.entry((spot, call.entry)).or_default(), &call, wanted),
                    What::Tick { missed } => {
                        let row = ticks.entry(spot).or_default();
                        let time = time_of(wanted.tick.unwrap_or_default(), *kernel_tick, missed);
                        *row = [row[0].saturating_add(time), row[1] + 1];
                    }
                    What::Free { .. } => {}
                }
            }
        });
    }

    /// The end.
    pub(crate) fn finish(mut self) -> Inside {
        let duration = self.began.elapsed();
        self.take(|ring, each| ring.finish(each));
        let loss = self.preload.ring.loss();
        self.modules.forget_tables();
        self.stacks.close();
        let mut kinds: Vec<Kind> = Vec::new();
        let mut values: BTreeMap<Spot, Vec<u64>> = BTreeMap::new();
        let mut add = |all: &[(&str, Unit)], rows: Vec<(Spot, Vec<u64>)>| {
            let first = kinds.len();
            kinds.extend(all.iter().map(|(name, unit)| Kind { name: (*name).to_owned(), unit: *unit }));
            for (spot, row) in rows {
                let row_of = values.entry(spot).or_default();
                row_of.resize(first, 0);
                row_of.extend(row);
            }
        };
        let whole = |value: f64| value.max(0.0).round() as u64;
        if let Some(heap) = &self.heap {
            let rows = heap.values().map(|(spot, it)| {
                let row = [it.peak_space, it.inuse_space, it.alloc_space, it.alloc_objects];
                (spot, row.iter().map(|estimate| whole(estimate.value)).collect())
            });
            add(&HEAP, rows.collect());
            if self.samples > 0 {
                self.notes.push(errors(heap));
            }
            if heap.missed_frees() > 0 {
                self.notes
                    .push(format!("{} frees have no record: what lived may be counted too long", heap.missed_frees()));
            }
        }
        if self.wanted.call_mean.is_some() {
            let rows = self.calibrated();
            add(&CALLS, rows.into_iter().map(|(spot, row)| (spot, row.map(whole).to_vec())).collect());
        }
        if self.wanted.tick.is_some() {
            add(&TICKS, self.ticks.iter().map(|(spot, row)| (*spot, row.to_vec())).collect());
        }
        let ticks = self.ticks.values().map(|row| row[1]).sum();
        for row in values.values_mut() {
            row.resize(kinds.len(), 0);
        }
        if loss.is_broken {
            let told = "the ring was damaged by a program: what came later is missing";
            self.notes.push(format!("{told}; lost records and files: unknown, the ring was damaged"));
        }
        if loss.crowded > 0 {
            self.notes.push(format!("{} sampled allocations could not be followed to their end", loss.crowded));
        }
        let lists = self.lists();
        let sampler = match (self.heap.is_some(), self.wanted.call_mean, self.wanted.tick) {
            (true, None, None) => "preloaded library, allocations".to_owned(),
            (false, Some(_), None) => "preloaded library, calls".to_owned(),
            (false, None, Some(_)) => "preloaded library, a timer in each thread".to_owned(),
            _ => "preloaded library".to_owned(),
        };
        let recorded = Recorded {
            stacks: self.stacks,
            modules: self.modules,
            processes: self.processes,
            maps: self.maps,
            sampler,
            measure: Measure::Values { kinds, values: values.into_iter().collect(), ticks },
            refused: Vec::new(),
            notes: self.notes,
            samples: self.samples,
            truncated: self.truncated,
            elsewhere: self.unwinder.elsewhere,
            no_code: self.unwinder.no_code,
            stack_copied: 0,
            by_frame_pointers: false,
            lists: Vec::new(),
            lost: loss.lost.saturating_add(loss.abandoned).saturating_add(loss.garbled),
            duration,
            has_off_cpu: false,
            cpu: Track::new(Kept::Rate),
            rss: Track::new(Kept::Peak),
        };
        Inside { recorded, lists, announced: self.announced }
    }

    /// Values of calls by place. The bytes of each file are known exactly: those of its stacks, which are sampled, are
    /// brought to that sum (a ratio estimate; Cochran, Sampling Techniques, chapter 6). What goes over a socket is received
    /// and sent, whatever call does it.
    fn calibrated(&self) -> BTreeMap<Spot, [f64; CALLS.len()]> {
        let exact: HashMap<u32, FileTotals> =
            self.preload.ring.files().into_iter().map(|one| (one.entry, one)).collect();
        let mut sums: HashMap<u32, [f64; 2]> = HashMap::new();
        for ((_, entry), row) in &self.calls {
            let sum = sums.entry(*entry).or_default();
            *sum = [sum[0] + row[0] + row[2], sum[1] + row[1] + row[3]];
        }
        let mut found: BTreeMap<Spot, [f64; CALLS.len()]> = BTreeMap::new();
        for ((spot, entry), row) in &self.calls {
            let (Some(exact), Some(sum)) = (exact.get(entry), sums.get(entry)) else { continue };
            let ratio = |bytes: u64, sum: f64| if sum > 0.0 { bytes as f64 / sum } else { 1.0 };
            let (reads, writes) = (ratio(exact.reads.bytes, sum[0]), ratio(exact.writes.bytes, sum[1]));
            let mut row = [row[0] * reads, row[1] * writes, row[2] * reads, row[3] * writes, row[4], row[5]];
            if self.files.get(entry).is_some_and(|name| name.starts_with("socket:")) {
                row = [0.0, 0.0, row[0] + row[2], row[1] + row[3], row[4], row[5]];
            }
            let all = found.entry(*spot).or_default();
            all.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        found
    }

    /// The exact numbers of each file and descriptor.
    fn lists(&self) -> Vec<List> {
        if self.wanted.call_mean.is_none() {
            return Vec::new();
        }
        // One file may be open under many numbers.
        let mut rows: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for one in self.preload.ring.files() {
            let unnamed = || format!("descriptor {} of process {}", one.fd, one.pid);
            let name = self.files.get(&one.entry).filter(|name| !name.is_empty()).cloned().unwrap_or_else(unnamed);
            let row = rows.entry(name).or_insert_with(|| vec![0; files::COLUMNS.len()]);
            row.iter_mut().zip(fields(&one)).for_each(|(sum, value)| *sum = sum.saturating_add(value));
        }
        vec![files::table(rows.into_iter().collect())]
    }
}

fn fields(one: &FileTotals) -> [u64; 6] {
    let all = [one.reads, one.writes, one.syncs, one.connects];
    let calls = all.iter().fold(0, |sum: u64, of| sum.saturating_add(of.calls));
    let waited = all.iter().fold(0, |sum: u64, of| sum.saturating_add(of.ns));
    [one.reads.bytes, one.writes.bytes, calls, waited, one.syncs.calls, one.syncs.ns]
}

/// How good the sums of memory are, in words.
fn errors(heap: &Heap<Spot>) -> String {
    let sum = |of: fn(&crate::profile::heap::Values) -> (f64, f64)| {
        heap.values().map(|(_, values)| of(&values)).fold((0.0, 0.0), |(a, b), (c, d)| (a + c, b + d))
    };
    let percent = |(value, variance): (f64, f64)| if value > 0.0 { 100.0 * variance.sqrt() / value } else { 0.0 };
    let total = sum(|it| (it.alloc_space.value, it.alloc_space.variance));
    let end = sum(|it| (it.inuse_space.value, it.inuse_space.variance));
    let peak = heap.peak();
    let hint = if percent(total) > ERROR_MANY { ": `--every 64KiB` samples more" } else { "" };
    format!(
        "standard errors: peak {:.1} %, in use at the end {:.1} %, allocated {:.1} %{hint}",
        percent((peak.value, peak.variance)),
        percent(end),
        percent(total)
    )
}

/// What a program that has the library does past it: allocations of an allocator of its own, everything of Go.
fn past_the_library(program: &Path, has_heap: bool) -> Option<String> {
    let is_it = |found: &target::Obstacle| match found {
        target::Obstacle::OwnAllocator(_) => has_heap,
        found => *found == target::Obstacle::Go,
    };
    let found = target::obstacle_of(program).filter(is_it)?;
    Some(format!("{}: {found}", program.file_name().unwrap_or_default().to_string_lossy()))
}

/// Puts mappings into their process; says whether one of them is new.
fn map(
    processes: &mut Processes,
    modules: &mut Modules,
    pid: u32,
    mapped: impl IntoIterator<Item = existing::Mapped>,
) -> bool {
    let mut is_new = false;
    for mapped in mapped {
        let existing::Mapped { start, end, offset, inode, path } = &mapped;
        let file = modules::Mapping { pid, start: *start, end: *end, path, inode: *inode };
        let what = modules.find(&file).map_or(Lies::Memory, |module| Lies::File(module, *offset));
        let area = Area { start: *start, end: *end, what };
        is_new |= processes.get(pid).at(*start) != Some(&area);
        processes.map(pid, area, path);
    }
    is_new
}

/// Nanoseconds that a tick of a timer stands for. The kernel looks at timers of CPU time only when it ticks itself, and
/// then tells how many of their ticks are over. Of a process that began a moment ago these are few, and of the time between
/// its last tick and its end there are none: so each stands for a whole tick of the kernel, and for more only where it is
/// late by that much.
fn time_of(period: Duration, kernel_tick: Duration, missed: u64) -> u64 {
    let (period, kernel) = (period.as_nanos() as u64, period.max(kernel_tick).as_nanos() as u64);
    let passed = period.saturating_mul(missed.saturating_add(1)) as f64;
    kernel.saturating_mul(((passed / kernel.max(1) as f64).round() as u64).max(1))
}

/// Adds a call. Those chosen by their bytes stand for more than themselves; slow ones and rare kinds are all there.
fn count(row: &mut [f64; CALLS.len()], call: &Call, wanted: &Wanted) {
    let bytes = if call.kind == CallKind::Accept || call.kind == CallKind::Connect { 0 } else { call.result.max(0) };
    let bytes = bytes as f64;
    let mean = wanted.call_mean.unwrap_or(1).max(1) as f64;
    // Of Poisson sampling: the chance of a call of so many bytes to be chosen.
    let chance = if call.is_sampled && bytes > 0.0 { 1.0 - (-bytes / mean).exp() } else { 1.0 };
    let kind = match call.kind {
        CallKind::Read => Some(0),
        CallKind::Write => Some(1),
        CallKind::Receive => Some(2),
        CallKind::Send => Some(3),
        CallKind::Sync => {
            row[4] += 1.0;
            None
        }
        CallKind::Connect | CallKind::Accept => None,
    };
    if let Some(kind) = kind.filter(|_| call.is_sampled) {
        row[kind] += bytes / chance;
    }
    let is_slow = Duration::from_nanos(call.ns) >= wanted.slow;
    row[5] += call.ns as f64 / if is_slow { 1.0 } else { chance };
}

/// In the order of [`REGISTERS`]. The address that a call returns to may be that of another function: one before it is
/// the call's own.
fn registers(caught: &Caught<'_>) -> [u64; REGISTERS.len()] {
    let regs = caught.regs;
    let ip = if matches!(caught.what, What::Tick { .. }) { regs.ip } else { regs.ip.saturating_sub(1) };
    #[cfg(target_arch = "x86_64")]
    return [regs.bp, regs.sp, ip];
    #[cfg(target_arch = "aarch64")]
    return [regs.bp, ip, regs.sp, ip];
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::time_of;

    #[test]
    fn a_tick_stands_for_one_of_the_kernel_or_more() {
        let ms = Duration::from_millis;
        assert_eq!(time_of(ms(1), ms(4), 0), 4_000_000, "it began a moment ago");
        assert_eq!(time_of(ms(1), ms(4), 3), 4_000_000);
        assert_eq!(time_of(ms(1), ms(4), 4), 4_000_000);
        assert_eq!(time_of(ms(1), ms(4), 39), 40_000_000, "signals were blocked");
        assert_eq!(time_of(ms(10), ms(4), 0), 10_000_000);
        assert_eq!(time_of(ms(10), ms(4), 2), 30_000_000);
        assert_eq!(time_of(ms(1), ms(0), 0), 1_000_000);
    }
}
