//! Off-CPU time, for users whom the kernel does not tell when a thread leaves its CPU: some fifty times a second this looks
//! up where threads wait. /proc has the function in the kernel (`wchan`), and the place in the program with its stack
//! pointer (`syscall`); the stack is read and unwound while the thread sleeps. Nothing is stopped and no call interrupted.
//!
//! A look stands for the time since the look before. /proc does not have the frame pointer: where a caller is found by it,
//! it is taken from the stack itself ([`frame_pointer`]).

#![expect(clippy::disallowed_methods, reason = "kernel: /proc")]

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant, SystemTime};

use crate::model::profile::{Kind, Unit};
use crate::probe::stat::Stat;
use crate::profile::process::Process;
use crate::profile::procfs::Procfs;
use crate::profile::record::existing;
use crate::profile::session::{Measure, Recorded};
use crate::profile::stacks::{Code, Stacks};
use crate::profile::symbol::perf_map::PerfMaps;
use crate::profile::track::{Kept, Track};
use crate::profile::unwind::{Copied, Unwinder, Walked};
use crate::sys::perf::REGISTERS;
use crate::sys::ptrace;

/// Between two looks, at least.
const INTERVAL: Duration = Duration::from_millis(20);
/// Share of its own time that a look may take: one in so many.
const SHARE: u32 = 20;
/// Of a stack.
const STACK: usize = 32 << 10;
/// Longest distance of two frame pointers.
const FRAME_MAX: u64 = 1 << 20;
/// Threads that are looked at; those beyond are not in it.
const THREADS_MAX: usize = 4096;

/// A thread in /proc/PID/task/TID/syscall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// It has a CPU, or wants one.
    Running,
    /// It waits: the number of the call (-1 for a page fault), stack pointer and place.
    Waiting { number: i64, stack: u64, place: u64 },
}

/// A thread at the last look.
#[derive(Clone, Copy, Debug)]
struct Before {
    call: Call,
    /// Where in the tree it waits: the same wait is unwound once.
    node: u32,
}

/// A recording that goes on.
pub(crate) struct OffCpuSampler {
    procfs: Procfs,
    unwinder: Unwinder,
    stacks: Stacks,
    maps: PerfMaps,
    before: HashMap<u32, Before>,
    last: Instant,
    due: Instant,
    began: Instant,
    looks: u64,
    samples: u64,
    truncated: u64,
    /// Threads of which /proc tells nothing.
    hidden: u64,
    stack: Vec<u8>,
    codes: Vec<Code>,
}

impl OffCpuSampler {
    /// With a run, `root` is its apm.
    pub(crate) fn begin(root: u32, with_children: bool, run: Option<String>) -> Self {
        let now = Instant::now();
        Self {
            procfs: Procfs::new(root, with_children, run),
            unwinder: Unwinder::new(),
            stacks: Stacks::default(),
            maps: PerfMaps::since(SystemTime::now()),
            before: HashMap::new(),
            last: now,
            due: now + INTERVAL,
            began: now,
            looks: 0,
            samples: 0,
            truncated: 0,
            hidden: 0,
            stack: vec![0; STACK],
            codes: Vec::new(),
        }
    }

    /// Looks where it is time to; says how long it is to the next look.
    pub(crate) fn round(&mut self) -> Duration {
        let began = Instant::now();
        if began < self.due {
            return self.due - began;
        }
        let passed = u64::try_from(began.duration_since(self.last).as_nanos()).unwrap_or(u64::MAX);
        self.last = began;
        self.looks += 1;
        let mut before = std::mem::take(&mut self.before);
        for pid in self.procfs.pids() {
            let Some(stat) = fs::read(format!("/proc/{pid}/stat")).ok() else { continue };
            let Some(stat) = Stat::parse(&stat).filter(|stat| stat.state != 'Z') else { continue };
            self.procfs.meet(pid, &stat);
            for thread in existing::threads(pid) {
                if self.before.len() >= THREADS_MAX {
                    break;
                }
                self.procfs.processes.name(pid, thread.tid, &thread.name, false);
                self.look(pid, thread.tid, passed, before.remove(&thread.tid));
            }
        }
        let took = began.elapsed();
        self.due = began + INTERVAL.max(took * SHARE);
        self.due.saturating_duration_since(Instant::now())
    }

    fn look(&mut self, pid: u32, tid: u32, passed: u64, before: Option<Before>) {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall"));
        let Some(call) = text.ok().and_then(|text| call(&text)) else {
            self.hidden += 1;
            return;
        };
        let Call::Waiting { stack, place, .. } = call else { return };
        let same = before.filter(|before| before.call == call).map(|before| before.node);
        let Some(node) = same.or_else(|| self.node(pid, tid, stack, place)) else { return };
        self.before.insert(tid, Before { call, node });
        self.samples += 1;
        self.stacks.wait(node, self.procfs.processes.thread(pid, tid), passed);
    }

    /// Where in the tree a thread waits.
    fn node(&mut self, pid: u32, tid: u32, stack: u64, place: u64) -> Option<u32> {
        let count = ptrace::read(pid, stack, &mut self.stack).min(self.stack.len());
        let Self { procfs, unwinder, codes, stacks, .. } = self;
        let bytes = &self.stack[..count];
        let mut walk = |procfs: &mut Procfs, unwinder: &mut Unwinder, codes: &mut Vec<Code>| {
            codes.clear();
            let function = fs::read_to_string(format!("/proc/{pid}/task/{tid}/wchan")).unwrap_or_default();
            codes.extend(Some(function.trim()).filter(|name| is_function(name)).and_then(|name| stacks.waits(name)));
            let process = procfs.processes.get(pid);
            let registers = registers(frame_pointer(process, stack, bytes), stack, place);
            unwinder.walk(process, &mut procfs.modules, &Copied { registers, stack: bytes }, codes)
        };
        let mut walked = walk(procfs, unwinder, codes);
        if walked == Walked::Truncated && procfs.again(pid) {
            walked = walk(procfs, unwinder, codes);
        }
        if walked == Walked::Truncated {
            self.truncated += 1;
            self.codes.push(Code::Truncated);
        }
        if self.codes.iter().any(|code| matches!(code, Code::Made { .. })) {
            self.maps.seen(self.procfs.processes.get(pid).program, pid);
        }
        self.stacks.place(&self.codes)
    }

    /// The end.
    pub(crate) fn finish(mut self) -> Recorded {
        let duration = self.began.elapsed();
        self.procfs.modules.forget_tables();
        self.stacks.close();
        let mut notes = Vec::new();
        if self.hidden > 0 {
            notes.push("where some threads wait is not told to this user (/proc/PID/syscall)".to_owned());
        }
        let mut values: Vec<_> = self.stacks.values.iter().map(|(spot, value)| (*spot, vec![value.off_ns])).collect();
        values.sort_unstable();
        let rate = self.looks as f64 / duration.as_secs_f64().max(0.001);
        Recorded {
            stacks: self.stacks,
            modules: self.procfs.modules,
            processes: self.procfs.processes,
            maps: self.maps,
            sampler: format!("time without a CPU, by {rate:.0} looks a second at threads that wait"),
            measure: Measure::Values {
                kinds: vec![Kind { name: "off_cpu".to_owned(), unit: Unit::Nanoseconds }],
                values,
                ticks: 0,
            },
            refused: Vec::new(),
            notes,
            samples: self.samples,
            truncated: self.truncated,
            elsewhere: self.unwinder.elsewhere,
            no_code: self.unwinder.no_code,
            stack_copied: 0,
            by_frame_pointers: false,
            lost: 0,
            duration,
            has_off_cpu: false,
            cpu: Track::new(Kept::Rate),
            rss: Track::new(Kept::Peak),
            lists: Vec::new(),
        }
    }
}

/// `running`, `-1 0x7ff... 0x401...`, `202 0x1 ... 0x7ff... 0x401...`
fn call(text: &str) -> Option<Call> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let hex = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    match words.as_slice() {
        ["running"] => Some(Call::Running),
        [number, .., stack, place] => {
            Some(Call::Waiting { number: number.parse().ok()?, stack: hex(stack)?, place: hex(place)? })
        }
        _ => None,
    }
}

/// The kernel writes `0` where it does not tell.
fn is_function(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
}

/// The frame pointer that code at the top of this stack has, if it keeps one: the first pair on it of an address further
/// out on it and an address of code. Where there is none, that of an outermost function, whose caller had 0 or 1 in its
/// register; else zero.
fn frame_pointer(process: &Process, start: u64, stack: &[u8]) -> u64 {
    let words: Vec<u64> = stack.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    let address = |at: usize| start.wrapping_add(8 * at as u64);
    let is_further =
        |at, word: u64| (16..FRAME_MAX).contains(&word.wrapping_sub(address(at))) && word.is_multiple_of(8);
    let first = |is_saved: &dyn Fn(usize, u64) -> bool| {
        let is_frame = |at: &usize| is_saved(*at, words[*at]) && process.at(words[*at + 1].wrapping_sub(1)).is_some();
        (0..words.len().saturating_sub(1)).find(is_frame)
    };
    first(&is_further).or_else(|| first(&|_, word| word <= 1)).map_or(0, address)
}

/// In the order of [`REGISTERS`].
fn registers(frame: u64, stack: u64, place: u64) -> [u64; REGISTERS.len()] {
    #[cfg(target_arch = "x86_64")]
    return [frame, stack, place];
    #[cfg(target_arch = "aarch64")]
    return [frame, place, stack, place];
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Call, OffCpuSampler, call, frame_pointer, is_function};
    use crate::profile::process::{Area, Processes, What};

    #[test]
    fn calls_are_read_as_the_kernel_writes_them() {
        assert_eq!(call("running\n"), Some(Call::Running));
        let waiting = |number, stack, place| Some(Call::Waiting { number, stack, place });
        assert_eq!(call("-1 0x7ffe10 0x401000\n"), waiting(-1, 0x7f_fe10, 0x40_1000));
        assert_eq!(call("202 0x1 0x80 0x0 0x0 0x0 0x0 0x7ffe10 0x401000\n"), waiting(202, 0x7f_fe10, 0x40_1000));
        assert_eq!((call(""), call("0\n"), call("1 2 3")), (None, None, None));
        assert!(is_function("futex_wait_queue") && !is_function("0") && !is_function(""));
    }

    #[test]
    fn a_frame_pointer_is_the_first_pair_that_can_be_one() {
        let mut processes = Processes::default();
        processes.map(1, Area { start: 0x40_0000, end: 0x50_0000, what: What::Memory }, b"");
        let stack = |words: &[u64]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        let mut found = |words: &[u64]| frame_pointer(processes.get(1), 0x7000, &stack(words));
        // An address of code after a number; the same after an address of the stack.
        assert_eq!(found(&[5, 0x40_1000, 0x7040, 0x40_2000, 0]), 0x7010);
        assert_eq!(found(&[0x7040, 0x60_0000, 0x6000, 0x40_2000]), 0);
        assert_eq!(found(&[9, 1, 0x40_1000, 7]), 0x7008);
        assert_eq!(found(&[1, 0x40_1000, 0x7040, 0x40_2000]), 0x7010);
        assert_eq!((found(&[]), found(&[1])), (0, 0));
    }

    #[test]
    fn a_thread_that_waits_is_found_where_it_does() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("waits-here".to_owned()).spawn(move || stopped.recv());
        let mut sampler = OffCpuSampler::begin(std::process::id(), false, None);
        for _ in 0..5 {
            std::thread::sleep(sampler.round());
        }
        drop(stop);
        drop(thread.map(std::thread::JoinHandle::join));
        let recorded = sampler.finish();
        if recorded.samples == 0 {
            // The kernel may hide it, in a container for instance.
            return;
        }
        let number = recorded.processes.threads.iter().position(|thread| thread.name == "waits-here");
        let number = number.expect("it was seen") as u32;
        let waited: u64 =
            recorded.stacks.values.iter().filter(|(spot, _)| spot.1 == number).map(|(_, v)| v.off_ns).sum();
        assert!(waited > 0 && recorded.samples >= recorded.truncated, "{waited} ns");
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_no_call(text in ".{0,60}") {
            let _ = call(&text);
        }
    }
}
