//! What was recorded, with names, as a `model::profile::Profile`.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use crate::model::profile::{Builder, Frame, Kind, Module, Nameless, Origin, Profile, Quality, Thread, Timeline, Unit};
use crate::profile::modules::{ModuleId, Modules};
use crate::profile::session::{Measure, Recorded};
use crate::profile::stacks::{ANY_THREAD, Code, ROOT, Stacks, Value};
use crate::profile::symbol::{self, KERNEL, Listener, Names, missing};
use crate::profile::track::Track;

/// Files without names that are listed, those with the most samples first.
const NAMELESS_MAX: usize = 8;
/// Share of the samples below which a file without names is not worth a word.
const NAMELESS_MIN: f64 = 0.005;
/// Share of the samples that are in the kernel below which its functions are not named one by one.
const KERNEL_MIN: f64 = 0.01;
/// Bytes of a stack that are about the most that the kernel copies: it counts the size of a sample in 16 bits.
const STACK_MOST: u32 = 63 << 10;
/// Share of truncated stacks from which on a note says what helps.
const TRUNCATED_MANY: f64 = 0.05;
/// Share of samples in unnamed code made at run time from which on a note says what brings names.
const MADE_MANY: f64 = 0.05;
/// Share of CPU time without samples from which on a note says so.
const UNSEEN_MANY: f64 = 0.15;
/// CPU time from which on that share means something.
const UNSEEN_FROM: f64 = 0.1;

/// Where threads leave their CPU, whatever they wait for (kernel/sched/core.c, kernel/time/sleep_timeout.c).
const SCHEDULER: [&str; 9] = [
    "schedule",
    "__schedule",
    "schedule_timeout",
    "schedule_hrtimeout_range",
    "schedule_hrtimeout_range_clock",
    "schedule_preempt_disabled",
    "io_schedule",
    "io_schedule_timeout",
    "schedule_idle",
];

/// Where programs and threads begin, by the C libraries, Rust and Go. `main` is one, too: what calls it in the C library
/// is often built without frame pointers.
const OUTERMOST: [&str; 14] = [
    "_start",
    "__libc_start_main",
    "__libc_start_main_impl",
    "__libc_start_call_main",
    "_dl_start_user",
    "main",
    "clone",
    "__clone",
    "clone3",
    "__clone3",
    "start_thread",
    "thread_start",
    "runtime.rt0_go",
    "runtime.mstart",
];

/// What the recording does not know of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    pub(crate) title: String,
    /// RFC 3339.
    pub(crate) at: String,
    /// CPU time of the program and what it waited for, where apm has waited for it.
    pub(crate) cpu: Option<Duration>,
    pub(crate) rate_asked: u64,
    /// Mean of the allocated bytes between two samples; 0 where memory is not sampled so.
    pub(crate) heap_mean_bytes: u64,
    /// Runtimes were not asked for names of the code that they make, and could have been.
    pub(crate) may_ask_for_names: bool,
}

/// Makes the profile.
pub(crate) fn profile(mut recorded: Recorded, about: About, listener: Listener<'_>) -> Profile {
    let codes: BTreeSet<Code> = recorded.stacks.nodes.iter().map(|node| node.code).collect();
    let kernel = kernel_share(&recorded);
    let with_kernel = kernel >= KERNEL_MIN || recorded.has_off_cpu;
    let names = symbol::names(&codes, &recorded.modules, &mut recorded.maps, with_kernel, listener);
    let kind = |name: &str, unit: Unit| Kind { name: name.to_owned(), unit };
    let kinds = match &recorded.measure {
        Measure::Time { .. } => vec![kind("cpu", Unit::Nanoseconds), kind("samples", Unit::Count)],
        Measure::Events { kind: events, .. } => vec![events.clone(), kind("samples", Unit::Count)],
        Measure::Values { kinds, .. } => kinds.clone(),
    };
    let off_cpu = ["off_cpu", "sched_delay"].map(|name| kind(name, Unit::Nanoseconds));
    let off_cpu = recorded.has_off_cpu.then_some(off_cpu).into_iter().flatten();
    let mut builder = Builder::new(kinds.into_iter().chain(off_cpu).collect());
    builder.profile.threads = recorded.processes.threads.iter().map(thread).collect();
    let waits = &recorded.stacks.names;
    let mut places = Places { names: &names, modules: &recorded.modules, waits, numbers: HashMap::new() };
    // The innermost node of the profile for each of the recording.
    let mut nodes: Vec<u32> = Vec::with_capacity(recorded.stacks.nodes.len());
    for node in &recorded.stacks.nodes {
        let mut at = (node.caller != ROOT).then(|| nodes.get(node.caller as usize).copied()).flatten();
        let is_same_kernel = names.kernel_is_hidden
            && matches!(node.code, Code::Kernel(_))
            && recorded
                .stacks
                .nodes
                .get(node.caller as usize)
                .is_some_and(|caller| matches!(caller.code, Code::Kernel(_)));
        // All of a kernel without names is one frame.
        if node.caller == ROOT && recorded.by_frame_pointers && !is_outermost(node.code, &names) {
            let frame = builder.frame(Frame { name: "[truncated]", origin: Origin::Label, ..Frame::default() });
            at = Some(builder.node(None, frame));
        }
        if !is_same_kernel {
            at = places.add(node.code, at, &mut builder);
        }
        nodes.push(at.unwrap_or(0));
    }
    if let Measure::Values { values, .. } = &recorded.measure {
        for ((node, thread), values) in values {
            let Some(at) = nodes.get(*node as usize) else { continue };
            let thread = (*thread != ANY_THREAD).then_some(*thread);
            values.iter().enumerate().for_each(|(kind, value)| builder.add(*at, thread, kind, *value));
        }
    } else {
        let nanoseconds = scale(&recorded);
        let mut values: Vec<(&(u32, u32), &Value)> = recorded.stacks.values.iter().collect();
        values.sort_unstable_by_key(|(key, _)| **key);
        for ((node, thread), value) in values {
            let Some(at) = nodes.get(*node as usize) else { continue };
            let thread = (*thread != ANY_THREAD).then_some(*thread);
            builder.add(*at, thread, 0, (value.weight as f64 * nanoseconds).round() as u64);
            builder.add(*at, thread, 1, value.samples);
            if recorded.has_off_cpu {
                let waits = nodes.get(out_of_scheduler(&recorded.stacks, &names, *node) as usize).unwrap_or(at);
                builder.add(*waits, thread, 2, value.off_ns);
                // It lost its CPU in an interrupt, whatever it did.
                let at = nodes.get(out_of_kernel(&recorded.stacks, *node) as usize).unwrap_or(at);
                builder.add(*at, thread, 3, value.delay_ns);
            }
        }
    }
    let timeline = |name: &str, unit, track: &Track| {
        let points = track.points(recorded.duration);
        Timeline { name: name.to_owned(), unit, points }
    };
    let timelines = [timeline("cpu", Unit::Count, &recorded.cpu), timeline("rss", Unit::Bytes, &recorded.rss)];
    builder.profile.tables.timelines = timelines.into_iter().filter(|line| !line.points.is_empty()).collect();
    builder.profile.tables.lists = std::mem::take(&mut recorded.lists);
    builder.profile.quality = quality(&recorded, &names, &about);
    builder.profile.title = about.title;
    builder.profile.at = about.at;
    builder.profile.duration_ns = u64::try_from(recorded.duration.as_nanos()).unwrap_or(u64::MAX);
    builder.build()
}

/// Where a thread that left its CPU was before it came to the scheduler: that is what it waits for.
fn out_of_scheduler(stacks: &Stacks, names: &Names, mut at: u32) -> u32 {
    while let Some(node) = stacks.nodes.get(at as usize).filter(|node| node.caller != ROOT) {
        let functions = names.of.get(&node.code).map(Vec::as_slice).unwrap_or_default();
        if !matches!(node.code, Code::Kernel(_)) || !functions.iter().any(|one| SCHEDULER.contains(&one.name.as_str()))
        {
            break;
        }
        at = node.caller;
    }
    at
}

/// Whether nothing has called this place: it is where a program, a thread or the kernel begins. The kernel, which follows
/// frame pointers, does not say whether it came there.
fn is_outermost(code: Code, names: &Names) -> bool {
    if !matches!(code, Code::File { .. } | Code::Made { .. } | Code::Nowhere) {
        return true;
    }
    names.of.get(&code).and_then(|functions| functions.first()).is_some_and(|function| {
        OUTERMOST.contains(&function.name.as_str()) || function.name.starts_with("runtime.goexit")
    })
}

/// Samples in stacks that end before [`is_outermost`].
fn ended_early(stacks: &Stacks, names: &Names) -> u64 {
    // Of each node, whether its outermost caller is one: a caller comes before what it calls.
    let mut is_whole: Vec<bool> = Vec::with_capacity(stacks.nodes.len());
    for node in &stacks.nodes {
        let whole = match is_whole.get(node.caller as usize) {
            Some(whole) => *whole,
            None => is_outermost(node.code, names),
        };
        is_whole.push(whole);
    }
    let early = stacks.values.iter().filter(|((node, _), _)| is_whole.get(*node as usize) == Some(&false));
    early.map(|(_, value)| value.samples).sum()
}

/// The innermost place in the program; the same place where all of the stack is the kernel's.
fn out_of_kernel(stacks: &Stacks, start: u32) -> u32 {
    let mut at = start;
    while let Some(node) = stacks.nodes.get(at as usize).filter(|node| matches!(node.code, Code::Kernel(_))) {
        if node.caller == ROOT {
            return start;
        }
        at = node.caller;
    }
    at
}

/// Share of the samples whose innermost place is in the kernel, 0 to 1.
fn kernel_share(recorded: &Recorded) -> f64 {
    let is_kernel =
        |node: u32| recorded.stacks.nodes.get(node as usize).is_some_and(|node| matches!(node.code, Code::Kernel(_)));
    let of = recorded.stacks.values.iter().filter(|((node, _), _)| is_kernel(*node));
    // Time without a CPU begins in the kernel always.
    let weight = |value: &Value| value.samples + u64::from(value.off_ns > 0) + u64::from(value.delay_ns > 0);
    let (part, all) =
        (of.map(|(_, value)| weight(value)).sum::<u64>(), recorded.stacks.values.values().map(weight).sum::<u64>());
    part as f64 / (all as f64).max(1.0)
}

fn thread(thread: &crate::profile::process::Thread) -> Thread {
    let (process, name) = (thread.process.clone(), thread.name.clone());
    let task = thread.task.as_deref().map(str::to_owned);
    Thread { pid: thread.pid, tid: thread.tid, process, name, task }
}

/// Nanoseconds of a unit of weight. Cycles are no time: the kernel keeps the rate of samples, so each stands for its
/// share of a second on average.
fn scale(recorded: &Recorded) -> f64 {
    let frequency = match recorded.measure {
        Measure::Time { frequency, counts_time: false, .. } => frequency,
        Measure::Events { factor, .. } => return factor as f64,
        _ => return 1.0,
    };
    let weight: u64 = recorded.stacks.values.values().map(|value| value.weight).fold(0, u64::saturating_add);
    recorded.samples as f64 * 1e9 / frequency.max(1) as f64 / (weight as f64).max(1.0)
}

/// Makes frames of places.
struct Places<'a> {
    names: &'a Names,
    modules: &'a Modules,
    /// Of [`Code::Waits`].
    waits: &'a [String],
    /// Of modules in the profile: only those that have frames are in it.
    numbers: HashMap<ModuleId, u32>,
}

impl Places<'_> {
    /// Adds the frames of a place below its caller; the innermost node.
    fn add(&mut self, code: Code, caller: Option<u32>, builder: &mut Builder) -> Option<u32> {
        let (module, address, origin) = match code {
            Code::File { module, offset } => {
                let address = self.modules.get(module).and_then(|module| module.image()?.address(offset));
                let module = self.module(module, &mut builder.profile.modules);
                (Some(module), Some(address.unwrap_or(offset)), Origin::Native)
            }
            Code::Kernel(address) => (None, Some(address).filter(|_| !self.names.kernel_is_hidden), Origin::Kernel),
            Code::Made { address, .. } => (None, Some(address), Origin::Jit),
            Code::Waits(_) => (None, None, Origin::Kernel),
            Code::Nowhere | Code::Truncated | Code::Cut => (None, None, Origin::Unknown),
        };
        let frame = Frame { module, address, origin, ..Frame::default() };
        let Some(functions) = self.names.of.get(&code) else {
            let short;
            let (name, origin) = match code {
                Code::File { module, .. } => {
                    short = self.short(module);
                    (short.as_str(), Origin::Native)
                }
                Code::Kernel(_) => (KERNEL, Origin::Kernel),
                Code::Made { .. } => ("[made at run time]", Origin::Unknown),
                Code::Waits(name) => (self.waits.get(usize::from(name)).map_or("", String::as_str), Origin::Kernel),
                Code::Nowhere => ("[unknown]", Origin::Unknown),
                Code::Truncated => ("[truncated]", Origin::Label),
                Code::Cut => ("[no room]", Origin::Label),
            };
            let frame = builder.frame(Frame { name, origin, ..frame });
            return Some(builder.node(caller, frame));
        };
        // The outermost first.
        functions.iter().enumerate().fold(caller, |caller, (depth, function)| {
            let (name, file, line) = (function.name.as_str(), function.file.as_deref(), function.line);
            let frame = builder.frame(Frame { name, file, line, is_inlined: depth > 0, ..frame });
            Some(builder.node(caller, frame))
        })
    }

    fn module(&mut self, id: ModuleId, modules: &mut Vec<Module>) -> u32 {
        *self.numbers.entry(id).or_insert_with(|| {
            let module = self.modules.get(id);
            modules.push(Module {
                path: module.map(|module| module.path.display().to_string()).unwrap_or_default(),
                build_id: module
                    .and_then(|module| module.image())
                    .map(|image| image.build_id.clone())
                    .unwrap_or_default(),
            });
            modules.len() as u32 - 1
        })
    }

    /// `[libc.so.6]`, `[vdso]`
    fn short(&self, id: ModuleId) -> String {
        let path = self.modules.get(id).map_or(Path::new(""), |module| module.path.as_path());
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        format!("[{}]", name.trim_matches(['[', ']']))
    }
}

fn quality(recorded: &Recorded, names: &Names, about: &About) -> Quality {
    let stacks = &recorded.stacks;
    let (mut unknown, mut made) = (0, 0);
    let mut without: HashMap<ModuleId, u64> = HashMap::new();
    for ((at, _), value) in &stacks.values {
        for module in nameless_in(stacks, names, *at) {
            *without.entry(module).or_default() += value.samples;
        }
        if let Some(node) = stacks.nodes.get(*at as usize) {
            let is_hidden_kernel = names.kernel_is_hidden && matches!(node.code, Code::Kernel(_));
            let is_made = matches!(node.code, Code::Made { .. });
            made += if is_made && !names.is_named(&node.code) { value.samples } else { 0 };
            let is_named = names.is_named(&node.code) || matches!(node.code, Code::Waits(_));
            unknown += if is_named || is_hidden_kernel { 0 } else { value.samples };
        }
    }
    let mut notes = recorded.notes.clone();
    notes.extend(names.notes.iter().cloned());
    let kernel = kernel_share(recorded);
    if names.kernel_is_hidden && kernel < KERNEL_MIN && kernel > 0.0 {
        notes.push(format!("{:.1} % of the samples are in the kernel: too few to name its functions", kernel * 100.0));
    } else if names.kernel_is_hidden {
        notes.push("the kernel hides its addresses (`kernel.kptr_restrict`): its functions are one frame".to_owned());
    }
    let truncated = if recorded.by_frame_pointers { ended_early(stacks, names) } else { recorded.truncated };
    if truncated as f64 > TRUNCATED_MANY * recorded.samples as f64 {
        notes.push(why_truncated(recorded, truncated).to_owned());
    }
    notes.extend(nameless_made(made, recorded.samples, about.may_ask_for_names));
    notes.extend(nameless_python(python(stacks, names), recorded.samples, about.may_ask_for_names));
    let (seconds, unseen) = time(recorded, about);
    notes.extend(unseen);
    let timed = match recorded.measure {
        Measure::Values { ticks, .. } => ticks,
        _ => recorded.samples,
    };
    Quality {
        is_foreign: false,
        sampler: recorded.sampler.clone(),
        refused: recorded.refused.clone(),
        rate_asked: about.rate_asked,
        rate_got: if seconds > 0.0 { timed as f64 / seconds } else { 0.0 },
        heap_mean_bytes: about.heap_mean_bytes,
        samples: recorded.samples,
        lost: recorded.lost,
        truncated,
        unknown,
        nameless: nameless(without, recorded),
        notes,
    }
}

/// Why many stacks end before their outermost function, and what helps.
fn why_truncated(recorded: &Recorded, truncated: u64) -> &'static str {
    let is_most = |part: u64| part * 2 > truncated;
    if recorded.by_frame_pointers {
        "many stacks end early: code without frame pointers hides its callers, and without `--fp` they are found by the \
         tables of unwinding"
    } else if is_most(recorded.elsewhere) {
        "many stacks end where no caller is near: another stack (coroutines, stacks that grow), or tables of unwinding that \
         are wrong"
    } else if is_most(recorded.no_code) {
        "many stacks end in functions without tables of unwinding (`.eh_frame`) and without frame pointers, as those in \
         assembly"
    } else if recorded.stack_copied >= STACK_MOST {
        "many stacks are cut off at their outer end: they are deeper than the 64 KiB that the kernel copies; `--fp` has no \
         such limit, where the program is built with frame pointers"
    } else {
        "many stacks are cut off at their outer end: `--stack 64k` copies more of each"
    }
}

/// Files without names in a stack, each once.
fn nameless_in(stacks: &Stacks, names: &Names, innermost: u32) -> Vec<ModuleId> {
    let (mut found, mut next) = (Vec::new(), Some(innermost));
    while let Some(node) = next.and_then(|at| stacks.nodes.get(at as usize)) {
        if let Code::File { module, .. } = node.code
            && !found.contains(&module)
            && !names.is_named(&node.code)
        {
            found.push(module);
        }
        next = (node.caller != ROOT).then_some(node.caller);
    }
    found
}

/// What to do about code without names that was made at run time, if there is much of it.
fn nameless_made(made: u64, samples: u64, may_ask: bool) -> Option<String> {
    let share = made as f64 / (samples as f64).max(1.0);
    (share > MADE_MANY).then(|| {
        let way = if may_ask {
            "`--jit` asks Node, Java (17 or later) and Python (3.12 or later) for names"
        } else {
            "its runtime has written none (/tmp/perf-PID.map)"
        };
        format!("{:.0} % of the samples are in code made at run time, without names: {way}", share * 100.0)
    })
}

/// Samples in functions of Python whose names are not there: below its interpreter, but below none of the small pieces of
/// code that it makes for its functions, with their names, where it is asked to.
fn python(stacks: &Stacks, names: &Names) -> u64 {
    // Of each node: the interpreter is there, and a piece is.
    let mut seen: Vec<[bool; 2]> = Vec::with_capacity(stacks.nodes.len());
    for node in &stacks.nodes {
        let functions = names.of.get(&node.code).map(Vec::as_slice).unwrap_or_default();
        let is_interpreter = functions.iter().any(|function| function.name == "_PyEval_EvalFrameDefault");
        let is_piece = matches!(node.code, Code::Made { .. }) && !functions.is_empty();
        // A caller comes before what it calls.
        let [interpreter, piece] = seen.get(node.caller as usize).copied().unwrap_or_default();
        seen.push([interpreter || is_interpreter, piece || is_piece]);
    }
    let of = stacks.values.iter().filter(|((node, _), _)| seen.get(*node as usize) == Some(&[true, false]));
    of.map(|(_, value)| value.samples).sum()
}

/// What to do about that, if there is much of it.
fn nameless_python(nameless: u64, samples: u64, may_ask: bool) -> Option<String> {
    let share = nameless as f64 / (samples as f64).max(1.0);
    (share > MADE_MANY).then(|| {
        let way = if may_ask {
            "`--jit` names them from Python 3.12 on; of older ones py-spy knows more"
        } else {
            "it was not asked for them, or is older than 3.12: py-spy knows more then"
        };
        format!("{:.0} % of the samples are in functions of Python without names: {way}", share * 100.0)
    })
}

/// Seconds of CPU time that were sampled; and what is in no sample, if that is much.
fn time(recorded: &Recorded, about: &About) -> (f64, Option<String>) {
    let cpu = about.cpu.map_or(0.0, |cpu| cpu.as_secs_f64());
    let (frequency, has_kernel) = match recorded.measure {
        Measure::Time { frequency, has_kernel, .. } => (frequency, has_kernel),
        Measure::Values { ticks, .. } if ticks > 0 => return (cpu, None),
        _ => return (0.0, None),
    };
    // What was sampled over the CPU time that was used, where that is known; else over what the samples stand for.
    let weight: u64 = recorded.stacks.values.values().map(|value| value.weight).fold(0, u64::saturating_add);
    let sampled = weight as f64 * scale(recorded) / 1e9;
    let used = about.cpu.map(|cpu| cpu.as_secs_f64()).filter(|cpu| *cpu >= UNSEEN_FROM);
    let note = used.and_then(|used| unsampled(1.0 - sampled / used, has_kernel, frequency));
    // A program that nobody has waited for is not in it: then the samples know better.
    (cpu.max(sampled), note)
}

/// Why a share of the CPU time is in no sample, if it is much.
fn unsampled(share: f64, has_kernel: bool, frequency: u64) -> Option<String> {
    (share > UNSEEN_MANY).then(|| {
        let why = match has_kernel {
            true => {
                let period = 1e3 / frequency.max(1) as f64;
                format!("a process has its first after {period:.1} ms, many end before")
            }
            false => {
                "only what runs outside of the kernel was sampled, `kernel.perf_event_paranoid` of 1 lets users sample \
                      the kernel too"
                    .to_owned()
            }
        };
        format!("{:.0} % of the CPU time is in no sample: {why}", share * 100.0)
    })
}

/// The preloaded library, which nobody can bring names for.
fn is_own(recorded: &Recorded, module: ModuleId) -> bool {
    let path = recorded.modules.get(module).map(|module| module.path.as_path());
    path.and_then(Path::parent)
        .and_then(Path::file_name)
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"apm-preload-"))
}

fn nameless(without: HashMap<ModuleId, u64>, recorded: &Recorded) -> Vec<Nameless> {
    let least = (recorded.samples as f64 * NAMELESS_MIN).max(1.0);
    let mut without: Vec<(ModuleId, u64)> = without
        .into_iter()
        .filter(|(module, samples)| *samples as f64 >= least && !is_own(recorded, *module))
        .collect();
    without.sort_unstable_by_key(|(module, samples)| (std::cmp::Reverse(*samples), *module));
    without.truncate(NAMELESS_MAX);
    let path = |id: ModuleId| recorded.modules.get(id).map_or(Path::new(""), |module| module.path.as_path());
    let paths: Vec<&Path> = without.iter().map(|(module, _)| path(*module)).collect();
    let hints = missing::hints(&paths);
    let each = |((module, samples), hint)| Nameless { module: path(module).display().to_string(), samples, hint };
    without.into_iter().zip(hints).map(each).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{ended_early, nameless_made, nameless_python, out_of_kernel, python, unsampled};
    use crate::profile::stacks::{Code, Stacks};
    use crate::profile::symbol::Names;
    use crate::profile::symbol::function::Function;

    /// Regression: where the kernel was not sampled, the time in it was missing without a word.
    #[test]
    fn time_without_samples_is_said_with_its_reason() {
        assert_eq!(unsampled(0.1, false, 999), None);
        assert!(
            unsampled(0.964, false, 999)
                .is_some_and(|said| said.starts_with("96 % of the CPU time is in no sample: only"))
        );
        assert!(unsampled(0.5, true, 1000).is_some_and(|said| said.contains("its first after 1.0 ms")));
    }

    #[test]
    fn functions_of_python_without_their_names_are_counted() {
        let (interpreter, piece, other) =
            (Code::File { module: 0, offset: 1 }, Code::Made { program: 1, address: 2 }, Code::Nowhere);
        let named = |name: &str| vec![Function { name: name.to_owned(), ..Function::default() }];
        let of = HashMap::from([(interpreter, named("_PyEval_EvalFrameDefault")), (piece, named("py::f"))]);
        let names = Names { of, ..Names::default() };
        let mut stacks = Stacks::default();
        stacks.add(&[other, interpreter, interpreter], None, 1);
        stacks.add(&[interpreter, other], None, 1);
        assert_eq!(python(&stacks, &names), 2);
        stacks.add(&[other, interpreter, piece, interpreter], None, 1);
        stacks.add(&[other], None, 1);
        assert_eq!(python(&stacks, &names), 2);
        assert_eq!(python(&stacks, &Names::default()), 0);
        assert!(nameless_python(2, 4, true).is_some_and(|said| said.starts_with("50 % of") && said.contains("--jit")));
        assert!(nameless_python(2, 4, false).is_some_and(|said| !said.contains("--jit")));
        assert_eq!(nameless_python(0, 4, true), None);
    }

    #[test]
    fn a_program_lost_its_cpu_where_it_was_itself() {
        let mut stacks = Stacks::default();
        let place = |stacks: &mut Stacks, codes: &[Code]| stacks.place(codes).expect("room");
        let user = place(&mut stacks, &[Code::Nowhere]);
        let in_interrupt = place(&mut stacks, &[Code::Kernel(2), Code::Kernel(1), Code::Nowhere]);
        let kernel_thread = place(&mut stacks, &[Code::Kernel(4), Code::Kernel(3)]);
        assert_eq!([user, in_interrupt].map(|at| out_of_kernel(&stacks, at)), [user, user]);
        assert_eq!(out_of_kernel(&stacks, kernel_thread), kernel_thread);
    }

    /// Regression: with frame pointers no stack counted as truncated.
    #[test]
    fn stacks_of_frame_pointers_end_at_a_start_or_early() {
        let code = |offset| Code::File { module: 0, offset };
        let named = |name: &str| vec![Function { name: name.to_owned(), ..Function::default() }];
        let of = HashMap::from([(code(1), named("main")), (code(2), named("hot"))]);
        let names = Names { of, ..Names::default() };
        let mut stacks = Stacks::default();
        stacks.add(&[code(2), code(1)], None, 1);
        stacks.add(&[Code::Kernel(9)], None, 1);
        assert_eq!(ended_early(&stacks, &names), 0);
        stacks.add(&[code(2)], None, 1);
        stacks.add(&[Code::Kernel(9), code(3)], None, 1);
        assert_eq!(ended_early(&stacks, &names), 2);
    }

    #[test]
    fn what_brings_names_is_said_where_many_are_missing() {
        assert_eq!(nameless_made(4, 100, true), None);
        assert_eq!(nameless_made(0, 0, true), None);
        let said = |may_ask| nameless_made(50, 100, may_ask).expect("a note");
        assert!(said(true).starts_with("50 % of") && said(true).contains("`--jit`"));
        assert!(!said(false).contains("--jit"));
    }
}
