//! Runs what a command wants to be run: settings become limits, the state directory a journal, the machine a pool; then the
//! engine runs, and what it tells goes to the sinks. Plans, values and workflows all come through here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::cli::When;
use crate::cli::run::Format;
use crate::command::context::Context;
use crate::command::failure::{Exit, Failure};
use crate::command::observer::RunObserver;
use crate::command::place::Folder;
use crate::command::request::Request;
use crate::command::{finish, input, output};
use crate::config::environment::{DEPTH, RUN, SLOTS};
use crate::config::git;
use crate::config::repository::repository;
use crate::config::settings::Settings;
use crate::control::server::{Complete, ControlSocket};
use crate::engine::admit::Bounds;
use crate::engine::dispatch::{self, RunEnd, RunSpec};
use crate::engine::history::History;
use crate::engine::plan::Source;
use crate::engine::scheduler::{BadNeeds, Polled, Restored, Scheduler, Setup};
use crate::engine::signals::Signals;
use crate::executor::local::LocalExecutor;
use crate::executor::local::attempt::{AttemptContext, Judge};
use crate::executor::local::process::{self as command, CommandContext};
use crate::executor::sandbox::{SANDBOXES, Sandboxes};
use crate::executor::step::StepExecutor;
use crate::executor::store::{self, Store};
use crate::executor::{Executors, capture};
use crate::journal::folder::{RunDir, journal_of};
use crate::journal::learned;
use crate::journal::resume::RecordedEdit;
use crate::journal::write::Journal;
use crate::model::edit::Edit;
use crate::model::event::{
    Ceilings, Envelope, Event, Invalidated, Mechanism, NoteLevel, PoolShape, RunStarted, SANDBOX, Terms,
};
use crate::model::id::{RunId, TaskId};
use crate::model::outcome::Outcome;
use crate::model::request::{Halt, PlanSource, Relay as RelayRequest, RelayOrder, RunRequest};
use crate::model::sandbox::SandboxMode;
use crate::model::task::{MEMORY, SLOTS as SLOTS_RESOURCE, Task};
use crate::model::unit::{Bytes, Percent};
use crate::probe::Roots;
use crate::probe::machine::{self, Meter};
use crate::report::dry_run;
use crate::sink::Sink;
use crate::sink::fanout::Fanout;
use crate::sink::log::{Detail, Log};
use crate::sink::progress::Progress;
use crate::sink::relay::Relay;
use crate::sink::sinks::FailurePolicy;
use crate::sys::cgroup::Cgroups;
use crate::sys::priority::{self, Who};
use crate::sys::{beneath, process, signal, spawn};
use crate::workflow;
use crate::workflow::planfile::Rules;

/// Deepest nesting of runs inside tasks of runs. A repository whose checks call apm again must not call it for ever.
const DEPTH_MAX: u32 = 4;
/// Kept of an output stream where no bound was set.
const OUTPUT_LIMIT: Bytes = Bytes::mib(64);
/// How long an idle thread of an attempt is kept for the next.
const THREAD_KEEP_ALIVE: Duration = Duration::from_secs(1);
/// With a kind of work given, the pool grows beyond the number of its formula while less of the machine's CPU time is in
/// use: `cpu_percent_limit` of the example configuration.
const GROW_BELOW: Percent = Percent(85.0);
/// Tasks announced in one event.
const TASKS_PER_EVENT: usize = 500;
/// Live output that may wait, in bytes. Was unbounded but for its 10,000 pieces: 650 MiB behind a reader that stalled.
const LIVE_MAX: usize = 64 << 20;
/// How long the machine's memory pressure may be before nothing more is started.
const MEMORY_PRESSURE_MAX: Percent = Percent(20.0);

/// Agents that `apm run set --agents` may ask for, where the limits of this process allow that many.
const AGENTS_MAX: u32 = 16_000;

/// What is to be run.
pub(crate) struct Work {
    pub(crate) title: String,
    /// Folder that the folders of tasks are relative to.
    pub(crate) cwd: PathBuf,
    /// Root of the repository: paths of findings are relative to it.
    pub(crate) root: PathBuf,
    pub(crate) tasks: Vec<Task>,
    /// Named resources of the plan and their capacities; those of the configuration are filled in.
    pub(crate) resources: BTreeMap<String, u64>,
    /// Where more come from.
    pub(crate) source: Source,
    /// When results end the run early; else as `--fail-fast` says.
    pub(crate) halt: Option<Halt>,
    pub(crate) relay: Option<RelayRequest>,
    /// Where the job log goes, as it was given.
    pub(crate) joblog: Option<PathBuf>,
    /// Sinks of its own.
    pub(crate) sinks: Vec<(FailurePolicy, Box<dyn Sink>)>,
    /// Progress also where there is no terminal.
    pub(crate) eta: bool,
    /// No summary: the output of the tasks is the result.
    pub(crate) silent: bool,
    /// No tasks at all is fine.
    pub(crate) may_be_empty: bool,
    /// Where the tasks come from, if they can be read again.
    pub(crate) plan: Option<PlanSource>,
    /// Tasks that are independent of each other and may be millions: names of those that have passed are not remembered.
    pub(crate) independent: bool,
}

/// The part of a run that its journal holds already.
pub(crate) struct ResumedPart {
    pub(crate) envelopes: Vec<Envelope>,
    pub(crate) good_len: u64,
    pub(crate) next_seq: u64,
    pub(crate) done: Vec<(u32, Option<Outcome>)>,
    /// Changes of the plan that still hold.
    pub(crate) edits: Vec<RecordedEdit>,
    /// Tasks that steps have added, by the task of the step.
    pub(crate) added: Vec<(TaskId, Vec<TaskId>)>,
    /// Passes that do not count any more.
    pub(crate) invalidated: Vec<Invalidated>,
    /// Tasks that the plan describes differently now, by index.
    pub(crate) edited: Vec<usize>,
    /// How many tasks the journal has; those behind them are new in the plan.
    pub(crate) recorded: usize,
}

/// Runs it.
pub(crate) fn execute(
    context: &Context,
    mut request: Request,
    mut work: Work,
    resumed: Option<(RunDir, ResumedPart)>,
) -> Result<Exit, Failure> {
    let mut changed = Vec::new();
    for (ix, task) in work.tasks.iter_mut().enumerate() {
        let recorded = (task.limits.clone(), task.retry.clone(), task.sandbox.clone());
        request.complete(task);
        if (&task.limits, &task.retry, &task.sandbox) != (&recorded.0, &recorded.1, &recorded.2) {
            changed.push(ix);
        }
    }
    if request.options.dry_run {
        return dry(context, &request, &work);
    }
    if work.tasks.is_empty() && work.source.is_fixed() && !work.may_be_empty {
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
    let mut resources = request.settings.resources.clone();
    resources.append(&mut work.resources);
    let (resumed, earlier) = resumed.unzip();
    if let Some(earlier) = &earlier {
        keep_memory_ceiling(&earlier.edits, &mut request);
    }
    let folder = Folder::open(context, &request, resumed, &mut notes)?;
    let path = folder.path();
    let id = folder.id();
    let ceilings = request.ceilings();
    let fail = |error: std::io::Error| {
        Failure::machine(anyhow::Error::new(error).context(format!("use the run folder `{}`", path.display())))
            .hint("`APM_STATE_DIR=DIR` uses another place, `--no-journal` keeps no record")
    };
    let mark = folder.mark().map_err(fail)?;
    let cgroups = cgroups(&request, &work, &mark, &ceilings);
    let enforcement = cgroups.enforcement();
    let parent = context.environment.parent();
    let keep = earlier.as_ref().map_or(0, |earlier| earlier.good_len);
    // One that goes with the run is not forced to the disk with each batch.
    let sync = (request.settings.journal_async || folder.run.is_none()).then_some(request.settings.interval);
    let journal_path = journal_of(&path);
    let has_journal = folder.run.is_some() || reads_journal(context, &request);
    let journal = has_journal.then(|| Journal::open(&journal_path, keep, sync)).transpose().map_err(fail)?;
    let store = Store::open(&path).map_err(fail)?;
    let socket = folder.run.as_ref().map(|run| ControlSocket::bind(&run.path)).transpose().unwrap_or_else(|error| {
        let text = format!("the run cannot be watched or steered from elsewhere: its control socket: {error}");
        notes.push((NoteLevel::Warning, text));
        None
    });
    if let Some(run) = &folder.run {
        run.keep_environments(&work.tasks).map_err(fail)?;
    }

    let read_folder = path.clone();
    let read = move |stored: &crate::model::event::Stored, max: usize| {
        // What is gone is shown as nothing; the digest in the event tells.
        store::read(&read_folder, stored, max).unwrap_or_default()
    };
    let mut fanout = Fanout::new(journal, Arc::new(read));
    let relays = work.relay.is_some();
    add_sinks(context, &request, &mut work, &mut fanout, &journal_path)?;

    let history: History = folder.state.as_ref().map(|state| learned::load(state.root())).unwrap_or_default();
    let random = jiff::Timestamp::now().as_nanosecond() as u64 ^ u64::from(std::process::id());
    let known_resources = resources.clone();
    let setup = setup(&request, &work, shape, &enforcement, resources.clone());
    let mut scheduler = Scheduler::new(setup, history, random);
    let tasks: Vec<Arc<Task>> = std::mem::take(&mut work.tasks).into_iter().map(Arc::new).collect();
    scheduler.add(&tasks, BadNeeds::Skipped).map_err(Failure::usage)?;

    let (roots, meter) = (Roots::default(), Meter::default());
    scheduler.first_reading(machine::read(&roots, &meter));
    // Plan and command decide themselves what they make of the variables of a hook; a test that calls git must not hit the
    // repository that is being committed to.
    let of_checks = work.plan.as_ref().is_some_and(|plan| plan.checks.is_some());
    let without_hook = of_checks && !request.settings.qa_hook_variables;
    let variables = variables(context, &id, depth, shape, (of_checks, without_hook));
    let commands = commands(context, &request, cgroups, work.cwd.clone(), variables.clone());
    if request.settings.preload {
        warm_up(&commands, &tasks, &mut notes);
    }
    priorities_possible(&request.settings, &mut notes);
    let is_confined = tasks.iter().any(|task| task.sandbox.effective() != SandboxMode::Off)
        || request.settings.sandbox != SandboxMode::Off;
    let needs = if is_confined { vec![SANDBOX.to_owned()] } else { Vec::new() };
    let mut opening = Vec::new();
    let (mut next_seq, mut elapsed) = (0, Duration::ZERO);
    match earlier {
        Some(ResumedPart { envelopes, done, invalidated, next_seq: seq, edits, added, edited, recorded, .. }) => {
            fanout.replay(&envelopes);
            elapsed = fanout.report().elapsed;
            next_seq = seq;
            let terms = Some(Box::new(Terms {
                pool: shape,
                enforcement: enforcement.clone(),
                ceilings,
                plan: work.plan.clone(),
            }));
            opening.push(Event::RunResumed { apm: env!("CARGO_PKG_VERSION").to_owned(), invalidated, terms });
            // What passed keeps the limits it passed with.
            changed.retain(|ix| *ix < recorded && done[*ix].1.is_none());
            changed.extend(edited);
            changed.sort_unstable();
            changed.dedup();
            for part in changed.chunks(TASKS_PER_EVENT) {
                let tasks = part.iter().map(|ix| dispatch::without_secrets(&tasks[*ix])).collect();
                opening.push(Event::TasksChanged { tasks });
            }
            for new in tasks[recorded..].chunks(TASKS_PER_EVENT) {
                opening
                    .push(Event::TasksAdded { tasks: new.iter().map(dispatch::without_secrets).collect(), by: None });
            }
            let restored = done.into_iter().enumerate().map(|(ix, (attempts, outcome))| Restored {
                ix: ix as u32,
                attempts,
                outcome,
            });
            added.iter().for_each(|(by, tasks)| scheduler.restore_added(by, tasks));
            scheduler.restore(restored.collect());
            for RecordedEdit { edit, by } in &edits {
                // What this command line says wins over what was said while the run went on before.
                let is_over = match edit {
                    Edit::Resize { resource, .. } if resource == SLOTS_RESOURCE => request.has_new_agents,
                    Edit::Resize { resource, .. } if resource == MEMORY => request.has_new_memory,
                    _ => false,
                };
                if !is_over {
                    scheduler.replay(edit, by);
                }
            }
            if scheduler.slots() != shape.initial {
                let (from, to) = (shape.initial, scheduler.slots());
                opening.push(Event::PoolResized { from, to, reason: "as asked before".to_owned() });
            }
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
                resources,
                request: Some(Box::new(recorded_request(&request, &work))),
                needs,
            })));
            for tasks in tasks.chunks(TASKS_PER_EVENT) {
                let tasks = tasks.iter().map(dispatch::without_secrets).collect();
                opening.push(Event::TasksAdded { tasks, by: None });
            }
            if work.source.is_fixed() {
                opening.push(Event::TasksClosed {});
            }
        }
    }
    drop(tasks);
    opening.extend(notes.into_iter().map(|(level, text)| Event::Noted { level, text }));

    let marks = context.environment.get(process::MARKS).and_then(|marks| marks.to_str()).filter(|_| parent.is_some());
    let marks = marks.map_or_else(String::new, |marks| format!("{marks}{}", process::MARKS_SEPARATOR));
    let live = work.relay.is_some_and(|relay| relay.order == RelayOrder::Live);
    let attempts = AttemptContext {
        commands,
        store,
        folder: path.clone(),
        capture: capture::Bounds {
            memory: request.settings.buffer,
            // What is relayed is relayed whole, unless a bound was asked for.
            disk: match (request.settings.output_limit, relays) {
                (Some(limit), _) => limit.0,
                (None, true) => u64::MAX,
                (None, false) => OUTPUT_LIMIT.0,
            },
            tail: request.settings.buffer.min(64 << 10),
        },
        judge: judge(work.root.clone()),
        sandboxes: sandboxes(context, &work, &path, variables),
        presets: request.settings.runtime_presets,
        run: mark,
        marks,
    };
    let runtime = runtime(&request.settings)?;
    let local = Arc::new(LocalExecutor::new(attempts, runtime.handle().clone(), Roots::default()));
    let steps = StepExecutor::new(runtime.handle().clone(), work.cwd.clone(), read_plan(&request, known_resources));
    // Where this is refused, orphans go to init and are found by their marks only.
    let _ = process::adopt_orphans();
    let observer = RunObserver {
        fanout,
        strict: request.options.strict || request.settings.qa_strict,
        fails_on_flaky: request.options.fail_on.is_some(),
        may_be_empty: work.may_be_empty,
        buffer_capacity: live_buffer(&request.settings) as u32,
        folder,
    };
    let executors = Executors { processes: Arc::clone(&local) as _, steps: Arc::new(steps) };
    let interval = request.settings.interval;
    let buffer = live_buffer(&request.settings);
    let complete = request.clone();
    let run = || -> std::io::Result<(RunEnd, RunObserver)> {
        let _inside = runtime.enter();
        let spec = RunSpec {
            scheduler,
            source: work.source,
            executors,
            roots,
            meter,
            interval,
            buffer,
            live,
            next_seq,
            elapsed,
            opening,
            signals: Signals::listen(signal::is_ignored)?,
        };
        let mut server = None;
        let complete: Complete = Box::new(move |task| complete.complete(task));
        // Where no thread is to be had the run goes on without: nothing in it depends on being watched.
        let attach = |handle| server = socket.and_then(|socket| socket.serve(handle, complete).ok());
        let ended = runtime.block_on(dispatch::run(spec, observer, attach));
        drop(server);
        Ok(ended)
    };
    // On a thread of its own: children of the main thread are orphans that came to apm, and nothing else.
    let ended = std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("apm-run".to_owned()).stack_size(RUN_STACK);
        builder.spawn_scoped(scope, run).map(std::thread::ScopedJoinHandle::join)
    });
    let ended = ended.context("start the thread of the run").map_err(Failure::machine)?;
    let (end, observer) = match ended {
        Ok(ended) => ended.context("listen for signals").map_err(Failure::machine)?,
        // The panic hook has printed what and where.
        Err(panic) => std::panic::resume_unwind(panic),
    };
    end_orphans();
    local.remove_groups();
    let exit = finish::finish(context, &request, &runtime, observer, end, parent, work.silent);
    runtime.shutdown_background();
    exit
}

/// Stack of the thread that owns the run.
const RUN_STACK: usize = 2 << 20;

/// A memory ceiling that was set while the run went on holds for its resume too, unless that is given another.
fn keep_memory_ceiling(edits: &[RecordedEdit], request: &mut Request) {
    let ceiling = edits.iter().rev().find_map(|RecordedEdit { edit, .. }| match edit {
        Edit::Resize { resource, to } if resource == MEMORY => Some(Bytes(*to)),
        _ => None,
    });
    if let Some(ceiling) = ceiling.filter(|_| !request.has_new_memory) {
        request.settings.memory_ceiling = Some(ceiling);
    }
}

/// What was asked for, as a resume needs it.
fn recorded_request(request: &Request, work: &Work) -> RunRequest {
    RunRequest {
        halt: work.halt,
        relay: work.relay,
        joblog: work.joblog.clone().map(Into::into),
        eta: work.eta,
        silent: work.silent,
        plan: work.plan.clone(),
        fail_fast: request.options.fail_fast,
        strict: request.options.strict,
        ..request.recorded.clone()
    }
}

/// Reads a plan file for a task that adds its tasks.
pub(crate) fn read_plan(request: &Request, resources: BTreeMap<String, u64>) -> crate::executor::step::ReadPlan {
    let request = request.clone();
    let rules = Rules { open_needs: true, resources, ..request.rules() };
    Box::new(move |path: &Path| {
        let name = path.display().to_string();
        let size = input::PLAN.size as u64;
        let source = beneath::read_text(path, size).map_err(|error| format!("read the plan `{name}`: {error}"))?;
        let plan = workflow::planfile::read(&name, &source, &rules).map_err(|error| error.in_one_line())?;
        let mut tasks = plan.tasks;
        tasks.iter_mut().for_each(|task| request.complete(task));
        Ok(tasks)
    })
}

fn cgroups(request: &Request, work: &Work, mark: &str, ceilings: &Ceilings) -> Cgroups {
    let limited = |task: &Task| {
        let limits = &task.limits;
        limits.memory.is_some() || limits.cpu.is_some() || limits.processes.is_some()
    };
    let by_default = request.settings.agent_memory.is_some() || request.settings.agent_cpu.is_some();
    if ceilings.cpu.is_none() && ceilings.memory.is_none() && !by_default && !work.tasks.iter().any(limited) {
        return Cgroups::none("no limit asks for them");
    }
    Cgroups::detect(&Roots::default().proc, mark, ceilings)
}

/// What confined tasks share.
fn sandboxes(context: &Context, work: &Work, run: &Path, variables: Vec<(OsString, OsString)>) -> Sandboxes {
    let environment = &context.environment;
    let home = environment.get("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let state = environment.state_dir().ok();
    let configuration = environment.user_file().and_then(|file| Some(file.parent()?.to_owned()));
    let own = state.into_iter().chain(configuration).chain([run.to_owned()]).collect();
    // Checks keep build results there, each project in a folder of its own.
    let builds = work.plan.as_ref().and_then(|plan| plan.checks.as_ref()).and_then(|_| environment.builds_dir().ok());
    Sandboxes::new(home, own, builds.into_iter().collect(), run.join(SANDBOXES), variables)
}

fn setup(
    request: &Request,
    work: &Work,
    shape: PoolShape,
    enforcement: &crate::model::event::Enforcement,
    resources: BTreeMap<String, u64>,
) -> Setup {
    let settings = &request.settings;
    let polled = |mechanism: Mechanism| mechanism == Mechanism::Polling;
    let cpus = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
    Setup {
        shape,
        slots_max: request.agents_possible().min(AGENTS_MAX),
        resources,
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
        cleanup_time: settings.cleanup_time,
        halt: work.halt.or_else(|| request.halt()),
        deadline: request.deadline,
        deadline_buffer: settings.deadline_buffer,
        remembers_passed: !work.independent,
    }
}

/// What asks tasks for colours with `--color always`: their output goes through pipes, so by themselves they have none.
/// What checks print is read by apm, and what the user has said of colours stands.
fn colours(context: &Context, of_checks: bool) -> &'static [(&'static str, &'static str)] {
    let has = |name: &str| context.environment.get(name).is_some();
    let is_said = ["NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"].into_iter().any(has);
    match context.global.color {
        When::Always if !of_checks && !is_said => &[("FORCE_COLOR", "1"), ("CLICOLOR_FORCE", "1")],
        _ => &[],
    }
}

fn commands(
    context: &Context,
    request: &Request,
    cgroups: Cgroups,
    cwd: PathBuf,
    variables: Vec<(OsString, OsString)>,
) -> CommandContext {
    let env = spawn::Environment::new(variables);
    let elsewhere = cwd != context.environment.cwd;
    CommandContext::new(env, context.environment.path(), (cwd, elsewhere), request.settings.buffer, cgroups)
}

/// The environment of apm, and what tells a run inside a task about this one.
fn variables(
    context: &Context,
    id: &RunId,
    depth: u32,
    shape: PoolShape,
    (of_checks, without_hook): (bool, bool),
) -> Vec<(OsString, OsString)> {
    let own = [
        (RUN.into(), id.as_str().into()),
        (DEPTH.into(), (depth + 1).to_string().into()),
        // A run inside a task has this task's slot and what the others leave: with a full pool that is one.
        (SLOTS.into(), shape.max.div_ceil(2).to_string().into()),
    ];
    let is_kept = |(name, _): &&(OsString, OsString)| !(without_hook && git::is_of_hook(name));
    let inherited = context.environment.variables.iter().filter(is_kept).cloned();
    let colours = colours(context, of_checks).iter().map(|(name, value)| (name.into(), value.into()));
    inherited.chain(own).chain(colours).collect()
}

/// Finds the programs of the plan before anything starts: what is missing is named now, not after an hour.
fn warm_up(commands: &CommandContext, tasks: &[Arc<Task>], notes: &mut Vec<(NoteLevel, String)>) {
    let mut missing: std::collections::BTreeMap<String, (u64, String)> = std::collections::BTreeMap::new();
    // What a task needs may bring its program.
    let known =
        |task: &&Arc<Task>| task.skip.is_none() && task.needs.is_empty() && !task.env.contains_key(&"PATH".into());
    for task in tasks.iter().filter(known) {
        if let Some(program) = command::arguments(&task.run).first()
            && commands.find(program, None, &commands.folder(task)).is_none()
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

/// Tries the priorities of the run on a thread of its own, so that a refusal is reported once.
fn priorities_possible(settings: &Settings, notes: &mut Vec<(NoteLevel, String)>) {
    let (nice, io) = (settings.nice, settings.io_priority);
    if nice.is_none() && io.is_none() {
        return;
    }
    let tried = std::thread::Builder::new().spawn(move || {
        let nice = nice.map_or(Ok(()), |level| priority::set_nice(Who::Thread, level));
        (nice, io.map_or(Ok(()), |io| priority::set_io(Who::Thread, io)))
    });
    let Some((nice_set, io_set)) = tried.ok().and_then(|tried| tried.join().ok()) else { return };
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

fn runtime(settings: &Settings) -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let (nice, io) = (settings.nice, settings.io_priority);
    builder
        .enable_all()
        .thread_name("apm-attempt")
        // One for each attempt, and a few for killing and sampling. The pool bounds them; it may be given more slots later.
        .max_blocking_threads(AGENTS_MAX as usize + 16)
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

fn judge(root: PathBuf) -> Judge {
    Box::new(move |task, exit, stdout, stderr, results| {
        let judgement = workflow::qa::judge::judge(task, exit, stdout, stderr, results, &root);
        (judgement.outcome, judgement.results)
    })
}

/// Whether a report reads the tasks from the journal when the run is over. With `--no-journal` it lies in the temporary
/// folder then, and goes with it.
fn reads_journal(context: &Context, request: &Request) -> bool {
    let formats = request.options.format.into_iter().chain(request.outputs.iter().map(|wanted| wanted.format));
    formats.into_iter().any(output::needs_journal) || context.environment.get(finish::STEP_SUMMARY).is_some()
}

fn add_sinks(
    context: &Context,
    request: &Request,
    work: &mut Work,
    fanout: &mut Fanout,
    journal: &Path,
) -> Result<(), Failure> {
    let ui = &context.ui;
    let format = request.options.format.unwrap_or(Format::Text);
    let detail = match (context.global.verbose, ui.quiet() || work.silent) {
        (true, _) => Detail::All,
        (false, true) => Detail::Failures,
        (false, false) => Detail::Ends,
    };
    for wanted in &request.outputs {
        let sink = output::file(wanted, journal)?;
        add(fanout, wanted.may_stall(), FailurePolicy::Requested, sink)?;
    }
    for (importance, sink) in work.sinks.drain(..) {
        fanout.add(importance, sink);
    }
    let (stdout_stalls, stderr_stalls) = (ui.stdout_may_stall(), ui.stderr_may_stall());
    // Output on the screen and a display that moves would overwrite each other.
    let relays_to_screen = work.relay.is_some() && ui.stdout_is_terminal();
    let moves = ui.draws() && !relays_to_screen;
    if (moves || work.eta) && !context.global.verbose {
        add(fanout, stderr_stalls, FailurePolicy::Display, Box::new(Progress::new(detail, !moves)))?;
    } else if !ui.quiet() {
        add(fanout, stderr_stalls, FailurePolicy::Display, Box::new(Log::new(detail)))?;
    }
    match (format, work.relay) {
        (Format::Text, Some(RelayRequest { order, tag })) => {
            add(fanout, stdout_stalls || stderr_stalls, FailurePolicy::Result, Box::new(Relay::new(order, tag)))
        }
        // The summary is written after the display is gone.
        (Format::Text, None) => Ok(()),
        (format, _) => {
            add(fanout, stdout_stalls, FailurePolicy::Requested, output::stdout(format, ui.stdout_layout(), journal)?)
        }
    }
}

fn add(fanout: &mut Fanout, may_stall: bool, importance: FailurePolicy, sink: Box<dyn Sink>) -> Result<(), Failure> {
    if may_stall {
        return fanout.add_slow(importance, sink).context("start a thread for output").map_err(Failure::machine);
    }
    fanout.add(importance, sink);
    Ok(())
}

/// Ends processes that came to apm because their parents ended, and that no attempt has ended.
fn end_orphans() {
    let orphan = |pid: i32| process::orphans().contains(&pid);
    if !process::orphans().is_empty() {
        process::end_all(|| process::find(orphan));
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
    repository(&context.environment, cwd).root().unwrap_or(cwd).to_owned()
}
