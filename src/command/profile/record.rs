//! A recording from its start to the written result: what is to be recorded decides which recorders run beside the program.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use super::beside::{Beside, looking, stopping, waiting};
use super::recorders::Recorders;
use super::refusal::{refused, refused_stops};
use super::target::{Ended, Target};
use super::write;
use crate::cli::profile::Recording;
use crate::command::context::Context;
use crate::command::failure::{Exit, Failure};
use crate::command::place;
use crate::executor::local::process as local;
use crate::model::id::RunId;
use crate::model::profile::{List, Profile, Quality, Unit};
use crate::model::unit::parse_duration;
use crate::profile::calls;
use crate::profile::devices::Devices;
use crate::profile::outcome::{self, About};
use crate::profile::outside::{self, Program};
use crate::profile::owners::Owners;
use crate::profile::preload_session::PreloadSession;
use crate::profile::ptrace_sampler::{FREQUENCY_MAX, Wanted};
use crate::profile::record::preload::{self, Preload};
use crate::profile::record::sampler::{self, Refusal, Request, Sampled};
use crate::profile::record::target as elf;
use crate::profile::session::{Recorded, Session};
use crate::profile::symbol::{Listener, jit};
use crate::profile::watch::Watch;
use crate::sys::perf::Callers;
use crate::sys::process;
use crate::sys::signal::Held;

/// Size of the ring of the preloaded library: what a program allocates in the time of some looks has to fit, each sample with its stack.
const RING: usize = 64 << 20;
/// Of a stack at a fault.
const FAULT_STACK: u32 = 16 << 10;
/// Faults that are sampled a second: each stands for those since the one before.
const FAULT_FREQUENCY: u64 = 1999;
/// Bytes beside the preloaded library that are not worth a word.
const BESIDE_MIN: u64 = 128 << 10;
/// How samples were taken where there are none.
const COUNTERS: &str = "counters only";
/// How often events are opened for something that starts threads all the time.
const CLIMBS_MAX: usize = 5;

/// Longest recording.
const DURATION_MAX: Duration = Duration::from_secs(7 * 86_400);

/// What is to be recorded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Plan {
    pub(super) cpu: Option<Request>,
    /// With a CPU and without is one kind first.
    pub(super) is_wall: bool,
    /// Bytes between two allocations that are sampled.
    pub(super) heap: Option<u64>,
    /// First touches of pages too, where not all allocations can be seen.
    pub(super) has_faults: bool,
    /// Bytes between two stacks of calls.
    pub(super) calls: Option<u64>,
    /// All of them, as the kernel tells.
    pub(super) has_trace: bool,
    /// What block devices do meanwhile.
    pub(super) has_devices: bool,
    /// Whose connections were that nobody has seen.
    pub(super) has_connections: bool,
    /// Of these kinds alone; all where there are none.
    pub(super) kept: &'static [&'static str],
}

pub(super) fn main(context: &Context, words: &Recording, plan: &Plan) -> Result<Exit, Failure> {
    let length = duration(words)?;
    if words.command.is_empty() && words.pid.is_none() && words.run.is_none() {
        let failure = Failure::usage(anyhow!("nothing to profile"));
        return Err(failure.hint("`apm profile cpu -- make`, `--pid 4242` or `--run`"));
    }
    let run = words.run.as_deref().map(|name| living(context, name)).transpose()?;
    if plan.has_trace {
        calls::are_told()
            .map_err(|refused| Failure::machine(anyhow::Error::new(refused).context("--trace")))
            .map_err(|failure| failure.hint("without it calls are counted within the program"))?;
    }
    // What goes on already, by its number.
    let joined = words.pid.or(run.as_ref().map(|(_, apm)| *apm));
    let now = jiff::Timestamp::now();
    let folder = write::Folder::create(context, words.output.as_deref(), now)?;
    if joined.is_some() && context.ui.draws() {
        context.ui.say("apm: recording; Ctrl-C ends it and writes the result");
    }
    // From here on Ctrl-C ends the recording and not apm.
    let held = Held::with_quit();
    let mut notes = Vec::new();
    let within = Plan { calls: plan.calls.filter(|_| !plan.has_trace), ..*plan };
    let (mut inside, wish) = decide(context, words, &within, &mut notes);
    let mut target = match joined {
        Some(pid) => Target::attach(pid, !words.no_children)?,
        None => Target::start(context, &words.command, &environment(context, words, inside.as_ref()))?,
    };
    let mut recorders = Recorders::default();
    match wish.map(|wish| climb(&wish, &mut target)) {
        Some(Ok(recording)) => {
            let session = Session::new(recording);
            recorders.session = Some(match &run {
                Some((id, apm)) => session.of_run(id.as_str().to_owned(), *apm),
                None => session,
            });
        }
        Some(Err(Refusal::All { refused } | Refusal::Denied { refused })) => {
            notes.extend(refused);
            let is_starting = matches!(target.whom(), sampler::Target::Starting(_));
            // From within the program there is a timer, where the kernel has nothing.
            let ticks = plan
                .cpu
                .filter(|_| is_starting)
                .map(|wish| Duration::from_secs(1) / u32::try_from(wish.frequency).unwrap_or(u32::MAX).max(1))
                .and_then(|tick| install(context, words, &within, Some(tick), &mut notes));
            if ticks.is_some() {
                target.abandon();
                inside = ticks;
                target = Target::start(context, &words.command, &environment(context, words, inside.as_ref()))?;
            } else if let Some(wish) = plan.cpu {
                let run = run.as_ref().map(|(id, _)| id.as_str().to_owned());
                recorders.stops = stops(&wish, &target, run, &mut notes).map_err(|error| {
                    target.abandon();
                    refused_stops(error, joined, &notes)
                })?;
            } else {
                notes.push(format!("{COUNTERS}: the kernel does not tell of page faults"));
            }
        }
        Some(Err(refusal)) => {
            target.abandon();
            return Err(refused(refusal, joined));
        }
        None => {}
    }
    let is_counted = within.calls.is_some() && inside.is_some();
    if plan.calls.is_some() && !is_counted {
        match calls::open(target.whom(), !words.no_children) {
            Ok((recording, calls)) => recorders.calls = Some(Session::of_calls(recording, calls)),
            Err(refused) => notes.push(format!("calls by stack and by file: {refused}; those by process are there")),
        }
    }
    recorders.inside = inside;
    if plan.has_connections {
        match Owners::begin(target.whom(), !words.no_children) {
            Ok(owners) => recorders.owners = Some(owners),
            Err(refused) => {
                let told = "connections that begin and end between two looks (100 ms) are missing";
                notes.push(format!("{told}: {refused}"));
            }
        }
    }
    recorders.devices = plan.has_devices.then(Devices::begin);
    let is_told = recorders.session.as_ref().is_some_and(Session::is_told_of_waits);
    if plan.cpu.is_some_and(|wish| wish.off_cpu) && !is_told {
        let run = run.as_ref().map(|(id, _)| id.as_str().to_owned());
        recorders.waits = waiting(target.pid(), !words.no_children, run).ok();
    }
    let watch = Watch::new(target.pid(), !words.no_children, joined.is_none());
    target.go(&mut recorders)?;
    // From here on: what waits for its start is still apm.
    let looks = looking(watch).context("start a thread").map_err(Failure::machine)?;
    let ended = target.record(&mut recorders, &held, length);
    let (owners, lost) = recorders.owners.map_or_else(Default::default, Owners::finish);
    if lost > 0 {
        notes.push(format!("owners of {lost} connections or less are unknown: their records were lost"));
    }
    let seen = looks.end().flatten().map(|watch| watch.finish(&owners));
    let (devices, more) = recorders.devices.map_or_else(Default::default, Devices::finish);
    notes.extend(more);
    // A command that goes on is not waited for: its profile is there now.
    let status = if ended == Ended::TimeIsUp { None } else { target.wait(&held)? };
    let outside = [recorders.session, recorders.calls]
        .into_iter()
        .flatten()
        .map(Session::finish)
        .chain(recorders.stopped)
        .map(|recorded| (recorded, Vec::new()));
    let (inside, announced) = match recorders.inside.map(PreloadSession::finish) {
        Some(inside) => (Some((inside.recorded, inside.lists)), Some(inside.announced)),
        None => (None, None),
    };
    let waited = recorders.waited.map(|recorded| (recorded, Vec::new()));
    let about = About {
        title: run.map_or_else(|| target.title(), |(id, _)| format!("run {id}")),
        at: now.to_string(),
        // Only of a program that was recorded to its end are CPU time and samples about the same.
        cpu: status.as_ref().filter(|_| ended == Ended::Itself).map(|status| status.cpu),
        rate_asked: plan.cpu.map_or(0, |wish| wish.frequency),
        heap_mean_bytes: plan.heap.unwrap_or(0),
        may_ask_for_names: !words.command.is_empty() && !words.jit,
    };
    // What says most of the program comes first.
    let mut profile = named(context, outside.chain(inside).chain(waited).collect(), &about, &held);
    if plan.is_wall {
        let parts: &[&str] = match profile.kind("sched_delay") {
            Some(_) => &["cpu", "off_cpu", "sched_delay"],
            None => &["cpu", "off_cpu"],
        };
        profile.add_sum("wall", parts);
    }
    // Also of what is not shown: a call of read may be one of a socket.
    let moved = [["read", "received"], ["written", "sent"]].map(|names| {
        names
            .iter()
            .filter_map(|name| profile.kind(name))
            .fold(0, |sum: u64, kind| sum.saturating_add(profile.total(kind)))
    });
    let allocated = profile.kind("peak_space").map(|kind| profile.total(kind));
    if !plan.kept.is_empty() {
        profile.keep(plan.kept);
    }
    // What is missing is more important than how the rest was measured.
    let mut missing = Vec::new();
    if let Some(seen) = seen {
        // The samples of the kernel tell the same more exactly.
        let is_there = |name: &str| profile.tables.timelines.iter().any(|line| line.name == name);
        let more: Vec<_> = seen.tables.timelines.into_iter().filter(|line| !is_there(&line.name)).collect();
        profile.tables.timelines.extend(more);
        profile.tables.lists.extend(seen.tables.lists);
        notes.extend(seen.notes);
        missing.extend(is_counted.then(|| beside_the_library(&profile, moved)).into_iter().flatten());
        if let Some(announced) = announced {
            missing.extend(seen.programs.largest().zip(allocated).and_then(|(it, seen)| beside_the_heap(it, seen)));
            let moved = |pid| {
                let own = seen.accounts.own(pid);
                seen.accounts.is_known(pid).then_some([own.read, own.written])
            };
            let amount = |bytes| crate::report::profile::amount::value(bytes, Unit::Bytes);
            let outside = outside::sentences(seen.programs.outside(&announced), moved, amount);
            if plan.heap.is_some() && !outside.is_empty() {
                notes.push("`apm profile mem --faults` samples the page faults of all programs".to_owned());
            }
            missing.extend(outside);
        }
    }
    profile.tables.lists.extend(devices);
    profile.quality.refused = missing.into_iter().chain(profile.quality.refused).chain(notes).collect();
    let written = folder.write(&profile);
    folder.say(context, &profile, words.top);
    let status = match status {
        Some(status) => Some(status),
        None => target.wait(&held)?,
    };
    // What the command made of a signal is what counts: apm does not die of one that it has not heard of yet.
    while held.next().is_some() {}
    let command = status.map_or(Exit::Good, |status| status.exit);
    match written {
        Ok(()) => Ok(command),
        Err(failure) if command == Exit::Good => Err(failure),
        // The command's own failure is the more important one; both are said.
        Err(failure) => {
            context.ui.say(&failure.render());
            Ok(command)
        }
    }
}

fn duration(words: &Recording) -> Result<Option<Duration>, Failure> {
    let Some(text) = &words.duration else { return Ok(None) };
    let duration = parse_duration(text).context("--duration").map_err(Failure::usage)?;
    if duration.is_zero() || duration > DURATION_MAX {
        return Err(Failure::usage(anyhow!("--duration: {text} is out of range")).hint("up to 7 days"));
    }
    Ok(Some(duration))
}

/// Memory in RAM of a program beside its heap that is not worth a word: code, libraries, stacks.
const BESIDE_HEAP_MIN: u64 = 32 << 20;

/// What the largest program had in RAM beyond what the library saw of all programs, if that is much more than what
/// fragmentation explains.
fn beside_the_heap(program: &Program, allocated: u64) -> Option<String> {
    let amount = |bytes| crate::report::profile::amount::value(bytes, Unit::Bytes);
    let is_much = program.rss_peak > allocated.saturating_add(allocated / 2).saturating_add(BESIDE_HEAP_MIN);
    is_much.then(|| {
        format!(
            "{}[{}] had up to {} in RAM, and all programs {} by malloc: memory that a program maps itself (mmap, a runtime \
             with its own heap) is not in this profile; `apm profile mem --faults` samples where memory is first touched",
            program.name,
            program.pid,
            amount(program.rss_peak),
            amount(allocated),
        )
    })
}

/// What processes moved and the preloaded library did not see, if that is much.
fn beside_the_library(profile: &Profile, [read, written]: [u64; 2]) -> Vec<String> {
    let processes = profile.tables.lists.iter().find(|list| list.name == "processes");
    let of_processes = |name: &str| {
        let at = processes?.columns.iter().position(|column| column.name == name)?;
        Some(
            processes?.rows.iter().filter_map(|(_, row)| row.get(at)).fold(0, |sum: u64, one| sum.saturating_add(*one)),
        )
    };
    let each = |(name, seen): (&str, u64)| {
        let all = of_processes(name)?;
        let missing = all.saturating_sub(seen);
        // Loaders read a little themselves.
        (missing > BESIDE_MIN && missing > all / 10).then(|| {
            let amount = |value| crate::report::profile::amount::value(value, Unit::Bytes);
            format!(
                "{} of {} {name} are in no stack and no file: stdio and other calls within the C library, static programs; \
                 `--trace` sees all calls, for root",
                amount(missing),
                amount(all)
            )
        })
    };
    [("read", read), ("written", written)].into_iter().filter_map(each).collect()
}

/// Names what was recorded, and makes one profile of it. A signal ends the search for names, and not the profile.
fn named(context: &Context, all: Vec<(Recorded, Vec<List>)>, about: &About, held: &Held) -> Profile {
    let was_told = AtomicBool::new(false);
    let is_over = || {
        was_told.load(Ordering::Relaxed)
            || held.next().is_some_and(|_| {
                was_told.store(true, Ordering::Relaxed);
                true
            })
    };
    let shown = AtomicUsize::new(0);
    let progress = |done: usize, total: usize| {
        // Drawn by whoever comes first with a number: the last one is the total.
        if context.ui.draws() && shown.fetch_max(done, Ordering::Relaxed) < done {
            context.ui.say_bytes(format!("\rapm: names of {done} of {total} files").as_bytes());
        }
    };
    let each = |(recorded, lists)| {
        let mut profile =
            outcome::profile(recorded, about.clone(), Listener { progress: &progress, is_over: &is_over });
        profile.tables.lists.extend(lists);
        profile
    };
    let profile = all.into_iter().map(each).reduce(Profile::merged);
    if context.ui.draws() && shown.load(Ordering::Relaxed) > 0 {
        context.ui.say_bytes(b"\r\x1b[K");
    }
    profile.unwrap_or_else(|| Profile {
        schema: crate::model::profile::SCHEMA.to_owned(),
        title: about.title.clone(),
        at: about.at.clone(),
        quality: Quality { sampler: COUNTERS.to_owned(), ..Quality::default() },
        ..Profile::default()
    })
}

/// The apm run that a name means, among those that go on, and the process of its apm.
fn living(context: &Context, name: &str) -> Result<(RunId, u32), Failure> {
    let state = place::recorded(context)?;
    let living = state.living().context("list the runs").map_err(Failure::machine)?;
    let mut matching = living.into_iter().filter(|(id, _)| name == "last" || id.as_str().starts_with(name));
    let none = || {
        let what =
            if name == "last" { "no apm run goes on".to_owned() } else { format!("no apm run `{name}` goes on") };
        Failure::usage(anyhow!("{what} (looked in `{}`)", state.root().display()))
            .hint("`apm profile cpu -- apm run ...` records one from its start")
    };
    let (id, apm) = matching.next().ok_or_else(none)?;
    match matching.next() {
        Some((other, _)) if name != "last" => {
            Err(Failure::usage(anyhow!("`{name}` is the start of several runs that go on: {id}, {other}")))
        }
        _ => Ok((id, apm)),
    }
}

/// Opens the events of the target, and again where something was started meanwhile.
fn climb(wish: &Request, target: &mut Target) -> Result<sampler::Recording, Refusal> {
    let mut recording = sampler::open_best(wish, target.whom())?;
    for _ in 0..CLIMBS_MAX {
        if !target.has_grown(wish.children) {
            break;
        }
        // Those that are open are closed first: together they could be more than may be open.
        drop(recording);
        recording = sampler::open_best(wish, target.whom())?;
    }
    Ok(recording)
}

/// Stops threads to see where they are; or, where that is refused too, there are counters alone. An error: nobody may
/// look at it.
fn stops(
    wish: &Request,
    target: &Target,
    run: Option<String>,
    notes: &mut Vec<String>,
) -> std::io::Result<Option<Beside<Option<Recorded>>>> {
    let is_child = matches!(target.whom(), sampler::Target::Starting(_));
    let frequency = wish.frequency.min(FREQUENCY_MAX);
    let wanted = Wanted { root: target.pid(), with_children: wish.children, is_child, frequency, run };
    match stopping(wanted) {
        Ok(stops) => {
            if frequency < wish.frequency {
                notes.push(format!("{frequency} looks a second, not {}: each stops the program", wish.frequency));
            }
            Ok(Some(stops))
        }
        Err(error) if !is_child && process::owner(target.pid()).is_some_and(|owner| owner != process::uid()) => {
            Err(error)
        }
        Err(error) => {
            notes.push(format!("ptrace: {error}"));
            notes.push(format!("{COUNTERS}: nothing on this machine tells where in a program its time goes"));
            Ok(None)
        }
    }
}

/// Whether the program is looked into, and what the kernel samples.
fn decide(
    context: &Context,
    words: &Recording,
    plan: &Plan,
    notes: &mut Vec<String>,
) -> (Option<PreloadSession>, Option<Request>) {
    let faults = Request {
        sampled: Sampled::Faults,
        frequency: FAULT_FREQUENCY,
        callers: Callers::Stack(FAULT_STACK),
        kernel: true,
        children: !words.no_children,
        off_cpu: false,
    };
    let privileged = plan.cpu.and_then(|_| program(context, words)).as_deref().and_then(elf::obstacle_of);
    if privileged == Some(elf::Obstacle::Privileged) {
        notes.push(
            "it is setuid, setgid or has capabilities: the kernel ends the sampling of it for all but root".to_owned(),
        );
    }
    let inside =
        if plan.heap.is_some() || plan.calls.is_some() { install(context, words, plan, None, notes) } else { None };
    // An allocator of the program's own takes its pages from the kernel all the same.
    let is_own = || {
        let found = program(context, words).as_deref().and_then(elf::obstacle_of);
        matches!(found, Some(elf::Obstacle::OwnAllocator(_) | elf::Obstacle::Go))
    };
    let is_blind = plan.has_faults && (inside.is_none() || is_own());
    (inside, plan.cpu.or(is_blind.then_some(faults)))
}

/// Installs the library for this command, if it can take it.
fn install(
    context: &Context,
    words: &Recording,
    plan: &Plan,
    tick: Option<Duration>,
    notes: &mut Vec<String>,
) -> Option<PreloadSession> {
    if words.command.is_empty() {
        notes.push("a process that runs already cannot be looked into: no library was preloaded".to_owned());
        return None;
    }
    let program = program(context, words);
    if program.as_deref().is_some_and(is_apm) {
        notes.push("apm itself loads no library: what its tasks do is there, what it does is not".to_owned());
    } else if let Some(obstacle) = program.as_deref().and_then(elf::obstacle_of) {
        let name = words.command.first().map(|it| it.to_string_lossy()).unwrap_or_default();
        let note = format!("{name}: {obstacle}");
        // It is asked for memory and for time.
        if !notes.contains(&note) {
            notes.push(note);
        }
        // Threads of Go are not the C library's: a timer in each would be in none.
        if obstacle.is_total() || (tick.is_some() && obstacle == elf::Obstacle::Go) {
            return None;
        }
    }
    let wanted =
        preload::Wanted { heap_mean: plan.heap, call_mean: plan.calls, tick, ring: RING, ..preload::Wanted::default() };
    match Preload::install(&places(context), &wanted, process::uid() == 0) {
        Ok(preload) => Some(PreloadSession::new(preload, wanted)),
        Err(error) => {
            notes.push(error.to_string());
            None
        }
    }
}

/// Where the library may lie: in memory first.
fn places(context: &Context) -> Vec<PathBuf> {
    let named = ["XDG_RUNTIME_DIR", "TMPDIR"].into_iter().filter_map(|name| context.environment.get(name));
    let named = named.map(PathBuf::from).filter(|path| path.is_absolute());
    [PathBuf::from("/dev/shm")].into_iter().chain(named).chain([PathBuf::from("/tmp")]).collect()
}

fn program(context: &Context, words: &Recording) -> Option<PathBuf> {
    let environment = &context.environment;
    local::search(words.command.first()?, &environment.path(), &environment.cwd)
}

/// Whether a program is this one, in another version maybe: it starts others, and these are what is asked for.
fn is_apm(program: &Path) -> bool {
    program.file_name() == Some(OsStr::new("apm"))
        || std::env::current_exe().is_ok_and(|own| std::fs::canonicalize(program).is_ok_and(|path| path == own))
}

/// What a program needs to load the library, and to name the code that it makes.
fn environment(context: &Context, words: &Recording, inside: Option<&PreloadSession>) -> Vec<(&'static str, OsString)> {
    let now = |name: &str| context.environment.get(name);
    let mut extra = if words.jit { jit::environment(now) } else { Vec::new() };
    if let Some(inside) = inside {
        extra.extend(inside.preload().environment(now("LD_PRELOAD")));
    }
    extra
}
