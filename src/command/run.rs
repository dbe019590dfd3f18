//! `apm run`: one way through for plans, values and workflows. Settings become limits, the state directory a journal,
//! the machine a pool; then the engine runs, and what it tells goes to the sinks.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::cli::run::{Format, Run, What};
use crate::command::failure::{Exit, Failure};
use crate::command::place::Folder;
use crate::command::request::Request;
use crate::command::{Context, each, output, plan, qa, recorded};
use crate::config::environment::{DEPTH, RUN, SLOTS, repository_root};
use crate::config::settings::Settings;
use crate::engine::admit::Bounds;
use crate::engine::dispatch::{self, Observer, Order, Over, Source};
use crate::engine::history::History;
use crate::engine::schedule::{Halt, Polled, Restored, Scheduler, Setup};
use crate::engine::signals::Signals;
use crate::engine::unit::Shared;
use crate::executor::capture;
use crate::executor::local::{self, Machine};
use crate::executor::store::{self, Store};
use crate::journal::folder::RunFolder;
use crate::journal::learned;
use crate::journal::write::Journal;
use crate::model::event::{
    Ceilings, EngineFigures, Envelope, Event, Invalidated, Mechanism, NoteLevel, Parent, PoolShape, RunFinished,
    RunStarted, Terms, VERSION,
};
use crate::model::id::{RunId, TaskId};
use crate::model::outcome::Stop;
use crate::model::task::Task;
use crate::model::unit::{Bytes, Percent};
use crate::probe::Roots;
use crate::probe::machine::{self, Meter};
use crate::report::run::RunReport;
use crate::report::{dry_run, markdown};
use crate::sink::Sink;
use crate::sink::fanout::Fanout;
use crate::sink::log::{Detail, Log};
use crate::sink::progress::Progress;
use crate::sink::relay::{self, Relay};
use crate::sink::sinks::FailurePolicy;
use crate::sink::slow::Drained;
use crate::sys::cgroup::Cgroups;
use crate::sys::priority::{self, Who};
use crate::sys::{process, signal, spawn};
use crate::workflow;

/// Deepest nesting of runs inside tasks of runs. A repository whose checks call apm again must not call it for ever.
const DEPTH_MAX: u32 = 4;
/// Kept of an output stream where no bound was set.
const OUTPUT_LIMIT: Bytes = Bytes::mib(64);
/// How long an idle thread of an attempt is kept for the next.
const THREAD_KEEP_ALIVE: Duration = Duration::from_secs(1);
/// With a kind of work given, the pool grows beyond the number of its formula while less of the machine's CPU time is in
/// use: the ceiling that the specification's example sets for a whole run.
const GROW_BELOW: Percent = Percent(85.0);
/// Tasks announced in one event.
const TASKS_PER_EVENT: usize = 500;
/// Live output that may wait, in bytes. Was unbounded but for its 10,000 pieces: 650 MiB behind a reader that stalled.
const LIVE_MAX: usize = 64 << 20;
/// Given to readers to take the rest after a second Ctrl-C.
const HAND_OVER_KILLED: Duration = Duration::from_secs(1);
/// How long the machine's memory pressure may be before nothing more is started.
const MEMORY_PRESSURE_MAX: Percent = Percent(20.0);

/// What is to be run.
pub(crate) struct Work {
    pub(crate) title: String,
    /// Folder that the folders of tasks are relative to.
    pub(crate) cwd: PathBuf,
    /// Root of the repository: paths of findings are relative to it.
    pub(crate) root: PathBuf,
    pub(crate) tasks: Vec<Task>,
    /// Where more come from.
    pub(crate) source: Source,
    /// When results end the run early; else as `--fail-fast` says.
    pub(crate) halt: Option<Halt>,
    pub(crate) relay: Option<(relay::Order, bool)>,
    /// Sinks of its own.
    pub(crate) sinks: Vec<(FailurePolicy, Box<dyn Sink>)>,
    /// Progress also where there is no terminal.
    pub(crate) eta: bool,
    /// No summary: the output of the tasks is the result.
    pub(crate) silent: bool,
    /// No tasks at all is fine.
    pub(crate) may_be_empty: bool,
}

/// `apm run ...`
pub(crate) fn main(context: &Context, run: Run) -> Result<Exit, Failure> {
    match (run.what, run.file) {
        (Some(What::Qa(words)), _) => qa::main(context, words),
        (Some(What::Each(words)), _) => each::main(context, words),
        (Some(What::List(words)), _) => recorded::list(context, &words),
        (Some(What::Show(words)), _) => recorded::show(context, &words),
        (None, Some(file)) => plan::main(context, &file, run.relay, run.options),
        (None, None) => match (run.resume, run.replay) {
            (Some(name), _) => recorded::resume(context, &name, run.options),
            (None, Some(name)) => recorded::replay(context, &name, &run.options),
            (None, None) => Err(Failure::usage(anyhow::anyhow!("nothing to run")).hint("`apm help run`")),
        },
    }
}

/// The part of a run that its journal holds already.
pub(crate) struct Earlier {
    pub(crate) envelopes: Vec<Envelope>,
    pub(crate) good_len: u64,
    pub(crate) next_seq: u64,
    pub(crate) done: Vec<(u32, Option<crate::model::outcome::Outcome>)>,
    /// Passes that do not count any more.
    pub(crate) invalidated: Vec<Invalidated>,
}

/// The observer of the engine: journal and sinks.
struct Watch {
    fan: Fanout,
    folder: PathBuf,
}

impl Observer for Watch {
    fn events(&mut self, batch: &[Envelope]) -> Result<(), String> {
        self.fan.events(batch).map_err(|error| format!("the journal in `{}`: {error}", self.folder.display()))
    }

    fn live(&mut self, task: &TaskId, stderr: bool, bytes: &[u8]) {
        self.fan.live(task, stderr, bytes);
    }

    fn tick(&mut self) {
        self.fan.tick();
    }

    fn is_closed(&self) -> bool {
        self.fan.is_closed()
    }

    fn is_behind(&self) -> bool {
        self.fan.is_behind()
    }
}

/// Runs it.
pub(crate) fn execute(
    context: &Context,
    mut request: Request,
    mut work: Work,
    resumed: Option<(RunFolder, Earlier)>,
) -> Result<Exit, Failure> {
    let mut changed = Vec::new();
    for (ix, task) in work.tasks.iter_mut().enumerate() {
        let recorded = (task.limits.clone(), task.retry.clone());
        request.complete(task);
        if (&task.limits, &task.retry) != (&recorded.0, &recorded.1) {
            changed.push(ix);
        }
    }
    if request.options.dry_run {
        return dry(context, &request, &work);
    }
    if work.tasks.is_empty() && matches!(work.source, Source::Fixed) && !work.may_be_empty {
        return Err(Failure::nothing(format!("{}: there is nothing to run", work.title)));
    }
    // Where not even one thread can be had nothing below works, and not all of it says so well.
    let tried = std::thread::Builder::new().spawn(|| ()).map(std::thread::JoinHandle::join);
    tried.context("start a thread (`ulimit -u` bounds them)").map_err(Failure::machine)?.expect("it does nothing");
    let depth = context.environment.depth();
    if depth >= DEPTH_MAX {
        return Err(Failure::usage(anyhow::anyhow!("apm inside apm, {depth} levels deep"))
            .hint("a task of a run starts `apm run` again and again; take it out of the plan (`--skip`)"));
    }
    let mut notes: Vec<(NoteLevel, String)> =
        std::mem::take(&mut request.warnings).into_iter().map(|text| (NoteLevel::Warning, text)).collect();
    let shape = request.shape(context, &mut notes);
    let (resumed, earlier) = resumed.unzip();
    let folder = Folder::open(context, &request, resumed, &mut notes)?;
    let path = folder.path();
    let id = folder.id();
    let ceilings = request.ceilings();
    let cgroups = cgroups(&request, &work, &id, &ceilings);
    let enforcement = cgroups.enforcement();
    let parent = context.environment.parent();

    let fail = |error: std::io::Error| {
        Failure::machine(anyhow::Error::new(error).context(format!("use the run folder `{}`", path.display())))
            .hint("`APM_STATE_DIR=DIR` uses another place, `--no-journal` keeps no record")
    };
    let keep = earlier.as_ref().map_or(0, |earlier| earlier.good_len);
    let sync = request.settings.journal_async.then_some(request.settings.interval);
    let journal = match &folder.run {
        Some(run) => Some(Journal::open(&run.journal(), keep, sync).map_err(fail)?),
        None => None,
    };
    let store = Store::open(&path).map_err(fail)?;
    if let Some(run) = &folder.run {
        run.keep_environments(&work.tasks).map_err(fail)?;
    }

    let read_folder = path.clone();
    let read = move |stored: &crate::model::event::Stored, max: usize| {
        // What is gone is shown as nothing; the digest in the event tells.
        store::read(&read_folder, stored, max).unwrap_or_default()
    };
    let mut fan = Fanout::new(journal, Arc::new(read));
    let relays = work.relay.is_some();
    add_sinks(context, &request, &mut work, &mut fan)?;

    let history: History = folder.state.as_ref().map(|state| learned::load(state.root())).unwrap_or_default();
    let random = jiff::Timestamp::now().as_nanosecond() as u64 ^ u64::from(std::process::id());
    let mut scheduler = Scheduler::new(setup(&request, &work, shape, &enforcement), history, random);
    let tasks: Vec<Arc<Task>> = std::mem::take(&mut work.tasks).into_iter().map(Arc::new).collect();
    scheduler.add(tasks.clone()).map_err(Failure::usage)?;

    let (roots, meter) = (Roots::default(), Meter::default());
    scheduler.first_reading(machine::read(&roots, &meter));
    let machine = machine(context, &request, &id, depth, shape, cgroups, work.cwd.clone());
    if request.settings.preload {
        warm_up(&machine, &tasks, &mut notes);
    }
    priorities_possible(&request.settings, &mut notes);
    let mut opening = Vec::new();
    let (mut next_seq, mut elapsed) = (0, Duration::ZERO);
    match earlier {
        Some(Earlier { envelopes, done, invalidated, next_seq: seq, .. }) => {
            fan.replay(&envelopes);
            elapsed = fan.report().elapsed;
            next_seq = seq;
            let terms = Some(Box::new(Terms { pool: shape, enforcement: enforcement.clone(), ceilings }));
            opening.push(Event::RunResumed { apm: env!("CARGO_PKG_VERSION").to_owned(), invalidated, terms });
            // What passed keeps the limits it passed with.
            changed.retain(|ix| done[*ix].1.is_none());
            for part in changed.chunks(TASKS_PER_EVENT) {
                let tasks = part.iter().map(|ix| dispatch::without_secrets(&tasks[*ix])).collect();
                opening.push(Event::TasksChanged { tasks });
            }
            let restored = done.into_iter().enumerate().map(|(ix, (attempts, outcome))| Restored {
                ix: ix as u32,
                attempts,
                outcome,
            });
            scheduler.restore(restored.collect());
        }
        None => {
            opening.push(Event::RunStarted(Box::new(RunStarted {
                run: id.clone(),
                apm: env!("CARGO_PKG_VERSION").to_owned(),
                title: work.title.clone(),
                argv: context.argv.iter().cloned().map(Into::into).collect(),
                cwd: work.cwd.clone().into(),
                root: work.root.clone().into(),
                host: machine::host(),
                pool: shape,
                enforcement: enforcement.clone(),
                parent: parent.clone(),
                ceilings,
            })));
            for tasks in tasks.chunks(TASKS_PER_EVENT) {
                opening.push(Event::TasksAdded { tasks: tasks.iter().map(dispatch::without_secrets).collect() });
            }
            if matches!(work.source, Source::Fixed) {
                opening.push(Event::TasksClosed {});
            }
        }
    }
    opening.extend(notes.into_iter().map(|(level, text)| Event::Noted { level, text }));

    let marks = context.environment.get(process::MARKS).and_then(|marks| marks.to_str()).filter(|_| parent.is_some());
    let marks = marks.map_or_else(String::new, |marks| format!("{marks}{}", process::MARKS_SEPARATOR));
    let shared = Arc::new(Shared {
        machine,
        store,
        folder: path.clone(),
        roots,
        meter,
        interval: request.settings.interval,
        capture: capture::Bounds {
            memory: request.settings.buffer,
            // What is passed on is passed on whole, unless a bound was asked for.
            disk: match (request.settings.output_limit, relays) {
                (Some(limit), _) => limit.0,
                (None, true) => u64::MAX,
                (None, false) => OUTPUT_LIMIT.0,
            },
            tail: request.settings.buffer.min(64 << 10),
        },
        judge: judge(work.root.clone()),
        presets: request.settings.runtime_presets,
        live: matches!(work.relay, Some((relay::Order::Live, _))),
        run: id.as_str().to_owned(),
        marks,
    });
    let order = Order {
        scheduler,
        source: work.source,
        shared: Arc::clone(&shared),
        interval: request.settings.interval,
        buffer: live_buffer(&request.settings),
        next_seq,
        elapsed,
        opening,
    };
    // Where this is refused, orphans go to init and are found by their marks only.
    let _ = process::adopt_orphans();
    let watch = Watch { fan, folder: path };
    let runtime = runtime(&request.settings, shape)?;
    let (over, watch) = runtime.block_on(dispatch::run(order, watch)).map_err(Failure::machine)?;
    end_orphans();
    shared.machine.cgroups.remove();
    let exit = finish(context, &request, &runtime, folder, watch, over, parent, work.silent, work.may_be_empty);
    runtime.shutdown_background();
    exit
}

fn cgroups(request: &Request, work: &Work, id: &RunId, ceilings: &Ceilings) -> Cgroups {
    let limited = |task: &Task| {
        let limits = &task.limits;
        limits.memory.is_some() || limits.cpu.is_some() || limits.processes.is_some()
    };
    let by_default = request.settings.agent_memory.is_some() || request.settings.agent_cpu.is_some();
    if ceilings.cpu.is_none() && ceilings.memory.is_none() && !by_default && !work.tasks.iter().any(limited) {
        return Cgroups::none("no limit asks for them");
    }
    Cgroups::detect(&Roots::default().proc, id.as_str(), ceilings)
}

fn setup(request: &Request, work: &Work, shape: PoolShape, enforcement: &crate::model::event::Enforcement) -> Setup {
    let settings = &request.settings;
    let polled = |mechanism: Mechanism| mechanism == Mechanism::Polling;
    let cpus = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
    Setup {
        shape,
        bounds: Bounds {
            memory_ceiling: settings.memory_ceiling,
            reserve: settings.memory_reserve,
            memory_pressure_max: MEMORY_PRESSURE_MAX,
            cpu_max: settings.cpu_threshold,
            memory_max: settings.memory_threshold,
            io_max: settings.io_threshold,
        },
        cpu_ceiling_polled: settings.cpu_ceiling.filter(|_| polled(enforcement.cpu)).map(|p| Percent(p.0 * cpus)),
        polled: Polled {
            memory: polled(enforcement.memory),
            cpu: polled(enforcement.cpu),
            processes: polled(enforcement.processes),
        },
        grow_below: settings.workload.filter(|_| request.options.agents.is_none()).map(|_| GROW_BELOW),
        interval: settings.interval,
        grace: settings.grace,
        halt: work.halt.or_else(|| request.halt()),
        deadline: request.deadline,
        deadline_buffer: settings.deadline_buffer,
    }
}

fn machine(
    context: &Context,
    request: &Request,
    id: &RunId,
    depth: u32,
    shape: PoolShape,
    cgroups: Cgroups,
    cwd: PathBuf,
) -> Machine {
    let own = [
        (RUN.into(), id.as_str().into()),
        (DEPTH.into(), (depth + 1).to_string().into()),
        // A run inside a task has this task's slot and what the others leave: with a full pool that is one.
        (SLOTS.into(), shape.max.div_ceil(2).to_string().into()),
    ];
    let env = spawn::Environment::new(context.environment.variables.iter().cloned().chain(own));
    let elsewhere = cwd != context.environment.cwd;
    Machine::new(env, context.environment.path(), (cwd, elsewhere), request.settings.buffer, cgroups)
}

/// Finds the programs of the plan before anything starts: what is missing is named now, not after an hour.
fn warm_up(machine: &Machine, tasks: &[Arc<Task>], notes: &mut Vec<(NoteLevel, String)>) {
    let mut missing: std::collections::BTreeMap<String, (u64, String)> = std::collections::BTreeMap::new();
    // What a task needs may bring its program.
    let known =
        |task: &&Arc<Task>| task.skip.is_none() && task.needs.is_empty() && !task.env.contains_key(&"PATH".into());
    for task in tasks.iter().filter(known) {
        if let Some(program) = local::words(&task.run).first()
            && machine.find(program, None, &machine.folder(task)).is_none()
        {
            let entry = missing.entry(program.to_string_lossy().into_owned());
            entry.or_insert_with(|| (0, task.id.to_string())).0 += 1;
        }
    }
    for (program, (count, first)) in missing {
        let others = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
        notes.push((NoteLevel::Warning, format!("program `{program}` is not found; `{first}`{others} cannot run")));
    }
}

/// Tries the priorities of the run on a thread of its own, so that a refusal is said once.
fn priorities_possible(settings: &Settings, notes: &mut Vec<(NoteLevel, String)>) {
    let (nice, io) = (settings.nice, settings.io_priority);
    if nice.is_none() && io.is_none() {
        return;
    }
    let tried = std::thread::spawn(move || {
        let nice = nice.map_or(Ok(()), |level| priority::set_nice(Who::Thread, level));
        (nice, io.map_or(Ok(()), |io| priority::set_io(Who::Thread, io)))
    });
    let Ok((nice_set, io_set)) = tried.join() else { return };
    if let (Err(error), Some(level)) = (nice_set, nice) {
        let text = format!("nice level {level} is not set: {error}; lower than now needs root or `ulimit -e`");
        notes.push((NoteLevel::Warning, text));
    }
    if let Err(error) = io_set {
        notes.push((NoteLevel::Warning, format!("the I/O priority is not set: {error}")));
    }
}

/// Pieces of live output that may wait.
fn live_buffer(settings: &Settings) -> usize {
    settings.result_buffer.min(LIVE_MAX / settings.buffer.max(1)).max(1)
}

fn runtime(settings: &Settings, shape: PoolShape) -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let (nice, io) = (settings.nice, settings.io_priority);
    builder
        .enable_all()
        .thread_name("apm-attempt")
        // One for each attempt, and a few for killing and sampling.
        .max_blocking_threads(shape.max as usize + 16)
        .thread_keep_alive(THREAD_KEEP_ALIVE)
        .thread_stack_size(512 << 10)
        .on_thread_start(move || {
            // Attempts are started by these threads and inherit this. A refusal was said at the start.
            let _ = nice.map(|level| priority::set_nice(Who::Thread, level));
            let _ = io.map(|io| priority::set_io(Who::Thread, io));
        });
    if let Some(threads) = settings.computing_threads {
        // Set once for the process; a second run in it does not happen.
        let _ =
            rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|n| format!("apm-cpu-{n}")).build_global();
    }
    builder.build().context("start the runtime").map_err(Failure::machine)
}

fn judge(root: PathBuf) -> crate::engine::unit::Judge {
    Box::new(move |task, exit, stdout, stderr, results| {
        let judgement = workflow::qa::judge::judge(task, exit, stdout, stderr, results, &root);
        (judgement.outcome, judgement.results)
    })
}

fn add_sinks(context: &Context, request: &Request, work: &mut Work, fan: &mut Fanout) -> Result<(), Failure> {
    let ui = &context.ui;
    let format = request.options.format.unwrap_or(Format::Text);
    let detail = match (context.global.verbose, ui.quiet() || work.silent) {
        (true, _) => Detail::All,
        (false, true) => Detail::Failures,
        (false, false) => Detail::Ends,
    };
    for wanted in &request.outputs {
        let sink = output::file(wanted)?;
        add(fan, wanted.may_stall(), FailurePolicy::Requested, sink)?;
    }
    for (importance, sink) in work.sinks.drain(..) {
        fan.add(importance, sink);
    }
    let (stdout_stalls, stderr_stalls) = (ui.stdout_may_stall(), ui.stderr_may_stall());
    // Output on the screen and a display that moves would overwrite each other.
    let relays_to_screen = work.relay.is_some() && ui.stdout_is_terminal();
    if (ui.draws() || work.eta) && !relays_to_screen && !context.global.verbose {
        add(fan, stderr_stalls, FailurePolicy::Display, Box::new(Progress::new(detail, !ui.draws())))?;
    } else if !ui.quiet() {
        add(fan, stderr_stalls, FailurePolicy::Display, Box::new(Log::new(detail)))?;
    }
    match (format, work.relay) {
        (Format::Text, Some((order, tag))) => {
            add(fan, stdout_stalls || stderr_stalls, FailurePolicy::Result, Box::new(Relay::new(order, tag)))
        }
        // The summary is written after the display is gone.
        (Format::Text, None) => Ok(()),
        (format, _) => add(fan, stdout_stalls, FailurePolicy::Requested, output::stdout(format, ui.stdout_layout())),
    }
}

fn add(fan: &mut Fanout, may_stall: bool, importance: FailurePolicy, sink: Box<dyn Sink>) -> Result<(), Failure> {
    if may_stall {
        return fan.add_slow(importance, sink).context("start a thread for output").map_err(Failure::machine);
    }
    fan.add(importance, sink);
    Ok(())
}

/// Ends processes that came to apm because their parents ended, and that no attempt has ended.
fn end_orphans() {
    let orphan = |pid: i32| process::orphans().contains(&pid);
    if !process::orphans().is_empty() {
        process::end_all(|| process::find(orphan));
    }
}

/// Writes the last event, ends the sinks, learns, and says how it went.
#[expect(clippy::too_many_arguments, reason = "the end of `execute`, apart for length only")]
fn finish(
    context: &Context,
    request: &Request,
    runtime: &tokio::runtime::Runtime,
    folder: Folder,
    watch: Watch,
    over: Over,
    parent: Option<Parent>,
    silent: bool,
    may_be_empty: bool,
) -> Result<Exit, Failure> {
    let Watch { mut fan, .. } = watch;
    let strict = request.options.strict || request.settings.qa_strict;
    let mut code = fan.report().exit_code_of_tasks(strict);
    if code == 0 && fan.report().rows.is_empty() && !may_be_empty {
        code = Exit::Nothing.code();
    }
    let (own_cpu, own_memory_peak) = process::own_usage();
    let (journal_writes, journal_syncs) = fan.journal_figures();
    let engine = EngineFigures {
        running_max: over.figures.running_max,
        queue_max: over.figures.queue_max,
        queue_full: over.queue_full,
        buffer_capacity: live_buffer(&request.settings) as u32,
        buffer_max: over.buffer_max as u32,
        journal_writes,
        journal_syncs,
        own_cpu,
        own_memory_peak: Bytes(own_memory_peak),
    };
    let mut stop = over.scheduler.stop().cloned();
    let mut seq = over.next_seq;
    let mut envelope = |event| {
        seq += 1;
        Envelope { v: VERSION, seq: seq - 1, at: jiff::Timestamp::now(), t: over.elapsed, event }
    };
    let mut last: Vec<Envelope> = recorded::children(&folder.path()).into_iter().map(&mut envelope).collect();
    let event = Event::RunFinished(Box::new(RunFinished { exit_code: code, stop: stop.clone(), engine }));
    last.push(envelope(event));
    let mut lost: Vec<String> = Vec::new();
    match &over.fault {
        Some(fault) => lost.push(format!("the run was stopped: {fault}")),
        None => {
            if let Err(error) = fan.events(&last) {
                lost.push(format!("the end could not be recorded: {error}"));
            }
        }
    }
    if let Some(state) = &folder.state {
        let mut history = over.scheduler.history().clone();
        history.merge(learned::load(state.root()));
        if let Err(error) = learned::save(state.root(), &history) {
            lost.push(format!("what was learned about durations is lost: {error}"));
        }
    }
    let summary = summary(context, request, fan.report(), fan.read(), silent);
    github_summary(context, fan.report(), fan.read(), &mut lost);
    let (lost_files, rest) = fan.finish();
    lost.extend(lost_files);
    let handed_over = rest.map_or(Ok(Vec::new()), |rest| runtime.block_on(hand_over(rest, over.signals)));
    let is_read = handed_over.is_ok();
    match handed_over {
        Ok(lost_on_the_way) => lost.extend(lost_on_the_way),
        Err(Some(signal)) => (code, stop) = (128 + signal, Some(Stop::Signal { signal })),
        Err(None) => {}
    }
    if let (Some(parent), Some(state), Some(run)) = (parent, &folder.state, &folder.run) {
        recorded::tell_parent(state, &parent, &run.id, code);
    }
    if over.fault.is_none() {
        folder.close();
    }
    // Nothing is left that a signal could spoil.
    signal::restore_defaults();
    // Who stalls still holds the streams.
    if is_read {
        context.ui.result(&summary).map_err(Failure::machine)?;
        for text in &lost {
            context.ui.say(&format!("apm: error: {text}\n"));
        }
    }
    if !lost.is_empty() && code == 0 {
        code = Exit::Incomplete.code();
    }
    Ok(match (code, stop) {
        (0, _) => Exit::Good,
        (1, _) => Exit::Failures,
        (4, _) => Exit::Nothing,
        (5, _) => Exit::Early,
        (_, Some(Stop::Signal { signal })) if over.fault.is_none() => Exit::Signal(signal),
        _ => Exit::Incomplete,
    })
}

/// Waits until everybody who reads has everything, or until a signal says that nobody waits for it any more.
async fn hand_over(rest: Drained, mut signals: Signals) -> Result<Vec<String>, Option<i32>> {
    let patience = if signals.at_once() { HAND_OVER_KILLED } else { Duration::MAX };
    tokio::select! {
        biased;
        lost = rest => Ok(lost.unwrap_or_else(|_| vec!["a bug in apm; standard error has the details".to_owned()])),
        (signal, _) = signals.next() => Err(Some(signal)),
        () = tokio::time::sleep(patience) => Err(None),
    }
}

fn summary(
    context: &Context,
    request: &Request,
    report: &RunReport,
    read: crate::report::ReadStored<'_>,
    silent: bool,
) -> Vec<u8> {
    let mut text = Vec::new();
    if request.options.format.unwrap_or(Format::Text) == Format::Text && !silent {
        // Writing to memory does not fail.
        let _ = crate::report::text::write(report, read, &context.ui.stdout_layout(), &mut text);
    }
    text
}

/// Appends to the summary of the step that GitHub shows.
fn github_summary(context: &Context, report: &RunReport, read: crate::report::ReadStored<'_>, lost: &mut Vec<String>) {
    let Some(path) = context.environment.get("GITHUB_STEP_SUMMARY") else { return };
    let mut text = Vec::new();
    let written = markdown::write(report, read, &mut text).and_then(|()| {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
        std::io::Write::write_all(&mut file, &text)
    });
    if let Err(error) = written {
        lost.push(format!("GITHUB_STEP_SUMMARY `{}` could not be written: {error}", path.to_string_lossy()));
    }
}

fn dry(context: &Context, request: &Request, work: &Work) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    let layout = context.ui.stdout_layout();
    let written = match request.options.format.unwrap_or(Format::Text) {
        Format::Text => dry_run::text(&work.tasks, &layout, &mut text),
        Format::Json => dry_run::json(&work.tasks, &mut text),
        other => {
            return Err(Failure::usage(anyhow::anyhow!("--dry-run prints text or json, not {}", other.as_str())));
        }
    };
    written.map_err(Failure::machine)?;
    context.ui.result(&text).map_err(Failure::machine)?;
    Ok(if work.tasks.is_empty() && !work.may_be_empty { Exit::Nothing } else { Exit::Good })
}

/// The root of the repository around the working folder, or the folder itself.
pub(crate) fn root_of(context: &Context) -> PathBuf {
    let cwd = &context.environment.cwd;
    repository_root(cwd).unwrap_or(cwd).to_owned()
}
