//! apm's own CPU time, by the `pprof` crate: its timer ticks in whichever thread of apm runs, and its unwinder walks that
//! thread's stack within the signal handler. It sees no other process and nothing of the kernel; where it can be had,
//! `session` is better, also for apm: this is what a machine without perf events, ptrace and preloading still grants.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::time::{Duration, Instant};

use pprof::{Frames, ProfilerGuard, Symbol};

use crate::model::profile::{Builder, Frame, Kind, Module, Origin, Profile, Quality, Thread, Unit};
use crate::sys::{process, signal};

/// Most ticks a second: the timer runs by the kernel's tick, 250 a second where nothing else was configured. Asked for
/// more it gives about as many and the counts lie.
pub(crate) const FREQUENCY_MAX: u64 = 250;

/// The function in which the first tick is made to come (`sys::signal`): it says nothing of where time goes.
const FIRST_TICK: &str = "with_first_tick";

/// What pprof counted: so many samples of each stack.
type Samples = HashMap<Frames, isize>;

/// A recording that goes on.
pub(crate) struct Itself {
    guard: ProfilerGuard<'static>,
    frequency: u64,
    began: Instant,
    /// CPU time that apm had used before.
    used: Duration,
}

/// What the samples do not say.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    pub(crate) title: String,
    /// RFC 3339.
    pub(crate) at: String,
    pub(crate) pid: u32,
    /// The file of apm.
    pub(crate) program: String,
    pub(crate) frequency: u64,
    pub(crate) duration: Duration,
    /// CPU time that was used meanwhile.
    pub(crate) cpu: Duration,
}

impl Itself {
    /// Begins. The caller has not started other threads yet: pprof 0.15 makes its unwinder, which takes memory, in the
    /// first handler that runs. In a thread that holds the lock of malloc then, it waits for itself (seen in 6 of 15 runs
    /// of 20,000 spawns at 250 Hz). So the first one is sent here, where nothing is held.
    pub(crate) fn begin(frequency: u64) -> io::Result<Self> {
        let (used, _) = process::own_usage();
        let begin = || ProfilerGuard::new(frequency.clamp(1, FREQUENCY_MAX) as i32).map_err(io::Error::other);
        let guard = in_root(|| signal::with_first_tick(begin))?;
        Ok(Self { guard, frequency, began: Instant::now(), used })
    }

    /// Ends. What is started from now on would ignore SIGPROF where it is not told otherwise: pprof leaves it so.
    pub(crate) fn finish(self, title: String, at: String) -> io::Result<Profile> {
        let report = in_root(|| self.guard.report().build().map_err(io::Error::other))?;
        let (used, _) = process::own_usage();
        let about = About {
            title,
            at,
            pid: std::process::id(),
            program: std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default(),
            frequency: self.frequency,
            duration: self.began.elapsed(),
            cpu: used.saturating_sub(self.used),
        };
        Ok(profile(&report.data, about))
    }
}

/// For calls of pprof, which looks for a file of the name `linux-vdso.so.1` in the working folder: that may be anybody's.
fn in_root<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let cwd = std::env::current_dir()?;
    std::env::set_current_dir("/")?;
    let called = call();
    std::env::set_current_dir(cwd)?;
    called
}

/// Makes the profile. Threads of one name are one: pprof knows no numbers of threads that others know.
fn profile(samples: &Samples, about: About) -> Profile {
    let kind = |name: &str, unit: Unit| Kind { name: name.to_owned(), unit };
    let mut builder = Builder::new(vec![kind("cpu", Unit::Nanoseconds), kind("samples", Unit::Count)]);
    builder.profile.modules = vec![Module { path: about.program, build_id: String::new() }];
    let nanoseconds = 1_000_000_000 / about.frequency.max(1);
    let mut threads: BTreeMap<&str, u32> = BTreeMap::new();
    let (mut total, mut unknown) = (0, 0);
    // In an order that does not change from run to run.
    let mut sorted: Vec<(Vec<String>, &Frames, u64)> = samples
        .iter()
        .map(|(stack, count)| {
            let names = stack.frames.iter().flatten().map(Symbol::name).collect();
            (names, stack, u64::try_from(*count).unwrap_or_default())
        })
        .filter(|(names, ..): &(Vec<String>, _, _)| !names.iter().any(|name| name.contains(FIRST_TICK)))
        .collect();
    sorted.sort_by(|a, b| (&a.1.thread_name, &a.0).cmp(&(&b.1.thread_name, &b.0)));
    for (_, stack, count) in sorted {
        let name = stack.thread_name.as_str();
        let thread = *threads.entry(name).or_insert_with(|| {
            let name = name.to_owned();
            builder.profile.threads.push(Thread {
                pid: about.pid,
                tid: 0,
                process: "apm".to_owned(),
                name,
                task: None,
            });
            builder.profile.threads.len() as u32 - 1
        });
        let mut at = None;
        for place in stack.frames.iter().rev() {
            // The function first, then what was put into it.
            for (depth, symbol) in place.iter().rev().enumerate() {
                let frame = frame(symbol, depth > 0, &mut builder);
                at = Some(builder.node(at, frame));
            }
        }
        total += count;
        let innermost = stack.frames.first().and_then(|place| place.first());
        unknown += if innermost.is_some_and(|symbol| symbol.name.is_some()) { 0 } else { count };
        let node = at.unwrap_or_else(|| {
            let nothing = Frame { name: "[unknown]", origin: Origin::Unknown, ..Frame::default() };
            let frame = builder.frame(nothing);
            builder.node(None, frame)
        });
        builder.add(node, Some(thread), 0, count.saturating_mul(nanoseconds));
        builder.add(node, Some(thread), 1, count);
    }
    let seconds = about.cpu.as_secs_f64();
    builder.profile.title = about.title;
    builder.profile.at = about.at;
    builder.profile.duration_ns = u64::try_from(about.duration.as_nanos()).unwrap_or(u64::MAX);
    builder.profile.quality = Quality {
        sampler: "pprof, a timer of apm's own CPU time".to_owned(),
        rate_asked: about.frequency,
        rate_got: if seconds > 0.0 { total as f64 / seconds } else { 0.0 },
        samples: total,
        unknown,
        notes: vec![
            "time in the kernel counts for the function that called it; pprof does not say what it lost or truncated"
                .to_owned(),
        ],
        ..Quality::default()
    };
    builder.build()
}

fn frame(symbol: &Symbol, is_inlined: bool, builder: &mut Builder) -> u32 {
    let file = symbol.filename.as_ref().map(|path| path.display().to_string());
    let (name, origin) = match &symbol.name {
        Some(_) => (symbol.name(), Origin::Native),
        None => ("[apm]".to_owned(), Origin::Unknown),
    };
    builder.frame(Frame {
        name: &name,
        module: Some(0),
        file: file.as_deref(),
        line: symbol.lineno.filter(|line| *line > 0),
        is_inlined,
        origin,
        ..Frame::default()
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    use pprof::{Frames, Symbol};

    use super::{About, Samples, profile};

    fn symbol(name: &str, line: u32) -> Symbol {
        Symbol {
            name: Some(name.as_bytes().to_vec()),
            addr: None,
            lineno: Some(line),
            filename: Some(PathBuf::from("src/a.rs")),
        }
    }

    fn stack(thread: &str, frames: Vec<Vec<Symbol>>) -> Frames {
        let thread_id = thread.len() as u64;
        Frames { frames, thread_name: thread.to_owned(), thread_id, sample_timestamp: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn samples_of_pprof_become_stacks_with_their_threads_and_times() {
        let inlined = vec![symbol("inner", 3), symbol("_ZN3apm4work17h0123456789abcdefE", 2)];
        let nameless = Symbol { name: None, addr: None, lineno: None, filename: None };
        let samples = Samples::from([
            (stack("main", vec![inlined, vec![symbol("main", 1)]]), 3),
            (stack("task", vec![vec![nameless]]), 1),
            (stack("main", vec![vec![symbol("apm::sys::signal::with_first_tick", 9)]]), 1),
        ]);
        let about = About { frequency: 100, cpu: Duration::from_millis(50), pid: 7, ..About::default() };
        let profile = profile(&samples, about);
        assert_eq!(profile.flaw(), None);
        let rows: Vec<_> = profile
            .rows
            .iter()
            .map(|row| {
                let names: Vec<&str> = profile.stack(row.node).map(|frame| frame.name).collect();
                let thread = &profile.threads[row.thread.expect("a thread") as usize].name;
                (thread.as_str(), names, row.values.to_vec())
            })
            .collect();
        let main = ("main", vec!["inner", "apm::work", "main"], vec![30_000_000, 3]);
        assert_eq!(rows, [main, ("task", vec!["[apm]"], vec![10_000_000, 1])]);
        let inlined: Vec<bool> = profile.stack(profile.rows.at(0).node).map(|frame| frame.is_inlined).collect();
        assert_eq!(inlined, [true, false, false]);
        let quality = &profile.quality;
        assert_eq!((quality.samples, quality.unknown, quality.rate_got.round()), (4, 1, 80.0));
    }

    #[test]
    fn nothing_sampled_is_an_empty_profile() {
        let profile = profile(&Samples::new(), About::default());
        assert_eq!((profile.rows.len(), profile.flaw(), profile.quality.rate_got), (0, None, 0.0));
    }
}
