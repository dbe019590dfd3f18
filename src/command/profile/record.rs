//! A recording from its start to the written result: what is to be recorded decides which recorders run beside the program.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::target::{Ended, Target};
use super::{duration, refused, write};
use crate::cli::profile::Recording;
use crate::command::Context;
use crate::command::failure::{Exit, Failure};
use crate::executor::local;
use crate::model::profile::{List, Profile};
use crate::profile::calls;
use crate::profile::devices::Devices;
use crate::profile::inside::Inside;
use crate::profile::outcome::{self, About};
use crate::profile::owners::Owners;
use crate::profile::record::ladder::{self, Refusal, Sampled, Whom, Wish};
use crate::profile::record::preload::{Preload, Wanted};
use crate::profile::record::target as elf;
use crate::profile::session::{Recorded, Session};
use crate::profile::watch::{self, Watch};
use crate::sys::perf::Callers;
use crate::sys::process;
use crate::sys::signal::Held;

/// Between two looks at the ring of the preloaded library.
const RING_LOOK: Duration = Duration::from_millis(5);
/// Its size: what a program allocates in the time of some looks has to fit, each sample with its stack.
const RING: usize = 64 << 20;
/// CPU time between two ticks where the kernel grants no events: rates above that of its own tick are not kept.
const TICK: Duration = Duration::from_millis(10);
/// Of a stack at a fault.
const FAULT_STACK: u32 = 16 << 10;
/// Faults that are sampled a second: each stands for those since the one before.
const FAULT_FREQUENCY: u64 = 1999;
/// Longest program file that is looked at.
const PROGRAM_MAX: u64 = 1 << 30;

/// What is to be recorded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Plan {
    pub(super) cpu: Option<Wish>,
    /// Bytes between two allocations that are sampled.
    pub(super) heap: Option<u64>,
    /// First touches of pages, where allocations cannot be seen.
    pub(super) has_faults: bool,
    /// Bytes between two stacks of calls.
    pub(super) calls: Option<u64>,
    /// What block devices do meanwhile.
    pub(super) has_devices: bool,
    /// Whose connections were that nobody has seen.
    pub(super) has_connections: bool,
    /// Of these kinds alone; all where there are none.
    pub(super) kept: &'static [&'static str],
}

/// What runs beside the program.
#[derive(Default)]
pub(super) struct Recorders {
    pub(super) session: Option<Session>,
    /// System calls of programs that cannot be looked into.
    pub(super) calls: Option<Session>,
    pub(super) inside: Option<Inside>,
    pub(super) devices: Option<Devices>,
    pub(super) owners: Option<Owners>,
}

impl Recorders {
    /// What takes records of the kernel.
    pub(super) fn sessions(&mut self) -> impl Iterator<Item = &mut Session> {
        self.session.iter_mut().chain(&mut self.calls)
    }

    /// How long to wait until the next round.
    pub(super) fn interval(&mut self) -> Duration {
        let session = self.sessions().map(|session| session.interval()).min().unwrap_or(watch::INTERVAL);
        if self.inside.is_some() { session.min(RING_LOOK) } else { session }
    }

    /// Takes what has come.
    pub(super) fn round(&mut self) {
        self.sessions().for_each(Session::round);
        if let Some(inside) = &mut self.inside {
            inside.round();
        }
        if let Some(devices) = &mut self.devices {
            devices.round();
        }
        if let Some(owners) = &mut self.owners {
            owners.round();
        }
    }
}

/// Looks at the processes on a thread of its own: one with much memory takes longer than samples can wait.
struct Looks {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Watch>,
}

impl Looks {
    fn begin(mut watch: Watch) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Acquire) {
                let began = Instant::now();
                watch.look();
                std::thread::park_timeout(watch::INTERVAL.saturating_sub(began.elapsed()));
            }
            watch
        });
        Self { is_over, thread }
    }

    /// While a command that has ended is still to be waited for: the last look is still to come.
    fn end(self) -> Option<Watch> {
        self.is_over.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().ok()
    }
}

pub(super) fn main(context: &Context, words: &Recording, plan: &Plan) -> Result<Exit, Failure> {
    let length = duration(words)?;
    let now = jiff::Timestamp::now();
    let folder = write::Folder::create(context, words.output.as_deref(), now)?;
    // From here on Ctrl-C ends the recording and not apm.
    let held = Held::with_quit();
    let mut notes = Vec::new();
    let (mut inside, wish) = decide(context, words, plan, &mut notes);
    let mut target = match words.pid {
        Some(pid) => Target::attach(pid, !words.no_children)?,
        None => Target::start(context, &words.command, &environment(context, inside.as_ref()))?,
    };
    let mut recorders = Recorders::default();
    match wish.map(|wish| ladder::climb(&wish, target.whom())) {
        Some(Ok(recording)) => recorders.session = Some(Session::new(recording)),
        // From within the program there is a timer, where the kernel has nothing.
        Some(Err(Refusal::All { refused })) if plan.cpu.is_some() && matches!(target.whom(), Whom::Starting(_)) => {
            notes.extend(refused);
            target.abandon();
            inside = install(context, words, plan, Some(TICK), &mut notes);
            if inside.is_none() {
                let failure = Failure::machine(anyhow!("nothing samples this command: {}", notes.join("; ")));
                return Err(failure);
            }
            target = Target::start(context, &words.command, &environment(context, inside.as_ref()))?;
        }
        Some(Err(refusal)) => {
            target.abandon();
            return Err(refused(refusal, words.pid));
        }
        None => {}
    }
    if plan.calls.is_some() && inside.is_none() {
        match calls::open(target.whom(), !words.no_children) {
            Ok(recording) => recorders.calls = Some(Session::new(recording)),
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
    let looks = Looks::begin(Watch::new(target.pid(), !words.no_children, words.pid.is_none()));
    target.go(&mut recorders)?;
    let ended = target.record(&mut recorders, &held, length);
    let (owners, lost) = recorders.owners.map_or_else(Default::default, Owners::finish);
    if lost > 0 {
        notes.push(format!("owners of {lost} connections or less are unknown: their records were lost"));
    }
    let seen = looks.end().map(|watch| watch.finish(&owners));
    let (devices, more) = recorders.devices.map_or_else(Default::default, Devices::finish);
    notes.extend(more);
    // A command that goes on is not waited for: its profile is there now.
    let status = if ended == Ended::TimeIsUp { None } else { target.wait(&held)? };
    let outside = [recorders.session, recorders.calls].into_iter().flatten().map(Session::finish).collect();
    let inside = recorders.inside.map(Inside::finish);
    let about = About {
        title: target.title(),
        at: now.to_string(),
        // Only of a program that was recorded to its end are CPU time and samples about the same.
        cpu: status.as_ref().filter(|_| ended == Ended::Itself).map(|status| status.cpu),
        rate_asked: plan.cpu.map_or(0, |wish| wish.frequency),
    };
    let mut profile = named(context, outside, inside, &about);
    if !plan.kept.is_empty() {
        profile.keep(plan.kept);
    }
    if let Some(seen) = seen {
        // The samples of the kernel tell the same more exactly.
        let is_there = |name: &str| profile.tables.timelines.iter().any(|line| line.name == name);
        let more: Vec<_> = seen.tables.timelines.into_iter().filter(|line| !is_there(&line.name)).collect();
        profile.tables.timelines.extend(more);
        profile.tables.lists.extend(seen.tables.lists);
        notes.extend(seen.notes);
    }
    profile.tables.lists.extend(devices);
    profile.quality.refused.extend(notes);
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

/// Names what was recorded, and makes one profile of it.
fn named(
    context: &Context,
    outside: Vec<Recorded>,
    inside: Option<(Recorded, Vec<List>)>,
    about: &About,
) -> Profile {
    let shown = AtomicUsize::new(0);
    let progress = |done: usize, total: usize| {
        // Drawn by whoever comes first with a number: the last one is the total.
        if context.ui.draws() && shown.fetch_max(done, Ordering::Relaxed) < done {
            context.ui.say(&format!("\rapm: names of {done} of {total} files"));
        }
    };
    let outside = outside.into_iter().map(|recorded| outcome::profile(recorded, about.clone(), &progress));
    let outside = outside.reduce(Profile::merged);
    let inside = inside.map(|(recorded, lists)| {
        let mut profile = outcome::profile(recorded, about.clone(), &progress);
        profile.tables.lists.extend(lists);
        profile
    });
    if context.ui.draws() && shown.load(Ordering::Relaxed) > 0 {
        context.ui.say("\r\x1b[K");
    }
    match (outside, inside) {
        (Some(outside), Some(inside)) => outside.merged(inside),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => Profile {
            schema: crate::model::profile::SCHEMA.to_owned(),
            title: about.title.clone(),
            at: about.at.clone(),
            ..Profile::default()
        },
    }
}

/// Whether the program is looked into, and what the kernel samples.
fn decide(
    context: &Context,
    words: &Recording,
    plan: &Plan,
    notes: &mut Vec<String>,
) -> (Option<Inside>, Option<Wish>) {
    let faults = Wish {
        sampled: Sampled::Faults,
        frequency: FAULT_FREQUENCY,
        callers: Callers::Stack(FAULT_STACK),
        kernel: true,
        children: !words.no_children,
        off_cpu: false,
    };
    let inside = if plan.heap.is_some() || plan.calls.is_some() {
        install(context, words, plan, None, notes)
    } else {
        None
    };
    let is_blind = plan.has_faults && inside.is_none();
    (inside, plan.cpu.or(is_blind.then_some(faults)))
}

/// Installs the library for this command, if it can take it.
fn install(
    context: &Context,
    words: &Recording,
    plan: &Plan,
    tick: Option<Duration>,
    notes: &mut Vec<String>,
) -> Option<Inside> {
    if words.pid.is_some() {
        notes.push("a process that runs already cannot be looked into: no library was preloaded".to_owned());
        return None;
    }
    if let Some(obstacle) = obstacle(context, words) {
        notes.push(format!("{}: {obstacle}", words.command.first().map(|it| it.to_string_lossy()).unwrap_or_default()));
        if obstacle.is_total() {
            return None;
        }
    }
    let wanted = Wanted { heap_mean: plan.heap, call_mean: plan.calls, tick, ring: RING, ..Wanted::default() };
    match Preload::install(&places(context), &wanted, process::uid() == 0) {
        Ok(preload) => Some(Inside::new(preload, wanted)),
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

fn obstacle(context: &Context, words: &Recording) -> Option<elf::Obstacle> {
    use std::os::unix::fs::MetadataExt as _;
    let environment = &context.environment;
    let program = local::search(words.command.first()?, &environment.path(), &environment.cwd)?;
    let meta = std::fs::metadata(&program).ok().filter(|meta| meta.len() <= PROGRAM_MAX)?;
    let bytes = std::fs::read(&program).ok()?;
    let is_owner = meta.uid() == process::uid();
    elf::obstacle(&elf::File { bytes: &bytes, mode: meta.mode(), has_capabilities: false, is_owner })
}

/// What a program needs to load the library.
fn environment(context: &Context, inside: Option<&Inside>) -> Vec<(&'static str, OsString)> {
    let Some(inside) = inside else { return Vec::new() };
    let own = context.environment.get("LD_PRELOAD");
    inside.preload().environment(own).into()
}
