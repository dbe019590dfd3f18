//! `apm run`: one way through for plans, values and workflows. Settings become limits, the state directory a journal,
//! the machine a pool; then the engine runs, and what it tells goes to the sinks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Zoned;

use crate::cli::Global;
use crate::cli::run::{Format, Options, Run, What};
use crate::command::failure::{Exit, Failure};
use crate::command::{Context, each, output, plan, qa, recorded};
use crate::config::environment::{DEPTH, RUN, SLOTS, repository_root};
use crate::config::layers::Origin;
use crate::config::settings::{self, Loaded, Settings};
use crate::engine::admit::Bounds;
use crate::engine::dispatch::{self, Observer, Order, Over, Source};
use crate::engine::history::History;
use crate::engine::schedule::{Halt, HaltCount, HaltOn, Polled, Restored, Scheduler, Setup};
use crate::engine::signals::Signals;
use crate::engine::unit::Shared;
use crate::executor::capture;
use crate::executor::local::{self, Machine};
use crate::executor::store::{self, Store};
use crate::journal::folder::{self, RunFolder, State};
use crate::journal::learned;
use crate::journal::write::Journal;
use crate::model::event::{
    Ceilings, EngineFigures, Envelope, Event, Invalidated, Mechanism, NoteLevel, Parent, PoolShape, RunFinished,
    RunStarted, Terms, VERSION,
};
use crate::model::id::{RunId, TaskId};
use crate::model::outcome::Stop;
use crate::model::task::Task;
use crate::model::unit::{Bytes, Percent, parse_duration};
use crate::probe::machine::{self, Meter};
use crate::probe::{self, Roots};
use crate::report::run::RunReport;
use crate::report::{dry_run, markdown};
use crate::sink::Sink;
use crate::sink::courier::Rest;
use crate::sink::fan::{Fan, Importance};
use crate::sink::log::{Detail, Log};
use crate::sink::progress::Progress;
use crate::sink::relay::{self, Relay};
use crate::sys::cgroup::Cgroups;
use crate::sys::priority::{self, Who};
use crate::sys::{process, signal, spawn};
use crate::workflow;

/// Deepest nesting of runs inside tasks of runs. A repository whose checks call apm again must not call it for ever.
const DEPTH_MAX: u32 = 4;
/// Descriptors one attempt needs: three pipes with both ends while it starts, a pidfd, files of its outputs, one to look
/// at /proc.
const FILES_PER_ATTEMPT: u64 = 10;
/// Descriptors apm needs besides.
const FILES_OWN: u64 = 24;
/// Kept of an output stream where no bound was set.
const OUTPUT_LIMIT: Bytes = Bytes::mib(64);
/// How long an idle thread of an attempt is kept for the next.
const THREAD_KEEP_ALIVE: Duration = Duration::from_secs(1);
/// With a kind of work given, the pool grows beyond the number of its formula while less of the machine's CPU time is in
/// use: the ceiling that the specification's example sets for a whole run.
const GROW_BELOW: Percent = Percent(85.0);
/// Tasks announced in one event.
const TASKS_PER_EVENT: usize = 500;
/// Looks for more members of what a crashed run left, before what is known is killed.
const SCANS_MAX: usize = 20;
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
    pub(crate) sinks: Vec<(Importance, Box<dyn Sink>)>,
    /// Progress also where there is no terminal.
    pub(crate) eta: bool,
    /// No summary: the output of the tasks is the result.
    pub(crate) silent: bool,
    /// No tasks at all is fine.
    pub(crate) may_be_empty: bool,
}

/// The settings of one run: the configuration with its flags.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) settings: Settings,
    pub(crate) warnings: Vec<String>,
    pub(crate) options: Options,
    pub(crate) timeout: Option<Duration>,
    pub(crate) deadline: Option<Duration>,
    outputs: Vec<output::Wanted>,
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

/// What a command line says about a run.
#[derive(Clone)]
pub(crate) struct Given {
    config: Option<PathBuf>,
    /// `key=value`, and the flag it came from; later ones win.
    flags: Vec<(String, String)>,
    options: Options,
}

/// Bounds of the pool, which a number of agents makes void where they come from below it.
const POOL: [&str; 2] = ["sub_agents.pool_configuration.initial_size", "sub_agents.pool_configuration.max_size"];

impl Given {
    /// Of a command line.
    pub(crate) fn of(global: &Global, options: Options) -> Result<Self, Failure> {
        let mut flags: Vec<(String, String)> =
            global.set.iter().map(|text| ("--set".to_owned(), text.clone())).collect();
        let mut flag = |name: &str, key: &str, value: Option<String>| {
            flags.extend(value.map(|value| (name.to_owned(), format!("{key}={value}"))));
        };
        let size =
            options.memory.as_deref().map(Bytes::parse).transpose().context("--memory").map_err(Failure::usage)?;
        let gib = size.map(|bytes| (bytes.0 as f64 / 1_073_741_824.0).to_string());
        let agents = options.agents.map(|n| n.to_string());
        flag("--memory", "performance.resource_allocation.memory_limit_gb", gib);
        flag("--cpu", "performance.resource_allocation.cpu_percent_limit", options.cpu.map(|cpu| cpu.to_string()));
        flag("--agents", "performance.resource_allocation.max_concurrent_agents", agents);
        flag("--retries", "run.retries", options.retries.map(|n| n.to_string()));
        Ok(Self { config: global.config.clone(), flags, options })
    }

    /// What holds for a run that goes on: this, said when it started in the folder `cwd`, where `now` says nothing else.
    /// A deadline and reports were those of that time.
    pub(crate) fn then(self, cwd: &Path, now: Self) -> Self {
        let sets = |(_, text): &(String, String), key: &str| text.split_once('=').is_some_and(|(k, _)| k.trim() == key);
        let (mut flags, before) = (self.flags, self.options);
        if now.options.agents.is_some() {
            flags.retain(|flag| !POOL.iter().any(|key| sets(flag, key)));
        }
        let says_timeout =
            now.flags.iter().any(|flag| sets(flag, "sub_agents.resource_limits.max_execution_time_seconds"));
        flags.extend(now.flags);
        Self {
            config: now.config.or_else(|| self.config.map(|path| cwd.join(path))),
            flags,
            options: Options {
                agents: now.options.agents.or(before.agents),
                timeout: now.options.timeout.or(before.timeout.filter(|_| !says_timeout)),
                fail_fast: now.options.fail_fast || before.fail_fast,
                strict: now.options.strict || before.strict,
                ..now.options
            },
        }
    }
}

/// Reads the configuration and the flags of a run.
pub(crate) fn request(context: &Context, options: Options) -> Result<Request, Failure> {
    request_of(context, Given::of(&context.global, options)?)
}

/// Reads the configuration beneath what was given.
pub(crate) fn request_of(context: &Context, given: Given) -> Result<Request, Failure> {
    let Given { config, flags, options } = given;
    let duration = |name: &str, text: &Option<String>| {
        let parsed = text.as_deref().map(parse_duration).transpose();
        parsed.with_context(|| name.to_owned()).map_err(Failure::usage)
    };
    let Loaded { mut settings, merged } =
        settings::load(&context.environment, config, flags).map_err(Failure::usage)?;
    if options.agents.is_some() {
        // A number on the command line is meant as it stands, from the first moment on.
        let said = |path| matches!(merged.get(path), Some((_, Origin::Flag(_))));
        settings.pool_initial = settings.pool_initial.filter(|_| said(POOL[0]));
        settings.pool_max = settings.pool_max.filter(|_| said(POOL[1]));
    }
    Ok(Request {
        timeout: duration("--timeout", &options.timeout)?.or(settings.agent_timeout),
        deadline: duration("--deadline", &options.deadline)?,
        outputs: output::parse(&options.output)?,
        settings,
        warnings: merged.warnings,
        options,
    })
}

impl Request {
    /// Gives a task the limits and retries that its plan leaves open. A recorded task has those of its first run: they
    /// give way.
    pub(crate) fn complete(&self, task: &mut Task) {
        let (limits, retry, filled) = (&mut task.limits, &mut task.retry, &mut task.filled);
        if filled.memory || limits.memory.is_none() {
            limits.memory = self.settings.agent_memory;
            filled.memory = limits.memory.is_some();
        }
        if filled.cpu || limits.cpu.is_none() {
            limits.cpu = self.settings.agent_cpu;
            filled.cpu = limits.cpu.is_some();
        }
        if filled.timeout || limits.timeout.is_none() {
            limits.timeout = self.timeout;
            filled.timeout = limits.timeout.is_some();
        }
        if filled.retries || (retry.max == 0 && !task.never_repeated) {
            retry.max = self.settings.retries;
            filled.retries = retry.max > 0;
        }
        if filled.delays || (retry.max > 0 && retry.delay_max.is_zero()) {
            retry.delay = self.settings.retry_delay;
            retry.delay_max = self.settings.retry_delay_max;
            filled.delays = true;
        }
    }

    fn halt(&self) -> Option<Halt> {
        let on = HaltOn::Fail;
        self.options.fail_fast.then_some(Halt { now: true, on, count: HaltCount::Number(1) })
    }

    fn ceilings(&self) -> Ceilings {
        Ceilings { cpu: self.settings.cpu_ceiling, memory: self.settings.memory_ceiling }
    }

    fn shape(&self, context: &Context, notes: &mut Vec<(NoteLevel, String)>) -> PoolShape {
        let settings = &self.settings;
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        // A number on the command line is meant as it stands.
        let workload = settings.workload.filter(|_| self.options.agents.is_none());
        let suggested = workload.map(|workload| workload.agents(cpus, machine::host().memory));
        let mut max = settings.agents_max.or(suggested.map(|(_, most)| most)).unwrap_or(cpus);
        max = max.min(settings.pool_max.unwrap_or(u32::MAX));
        if let Some(left) = context.environment.slots_left().filter(|_| context.environment.parent().is_some()) {
            max = max.min(left.max(1));
        }
        let files = process::open_files_limit();
        let fit = (files.saturating_sub(FILES_OWN) / FILES_PER_ATTEMPT).clamp(1, u64::from(u32::MAX)) as u32;
        if fit < max {
            notes.push((
                NoteLevel::Warning,
                format!("{fit} tasks at once, not {max}: only {files} files may be open (`ulimit -n`)"),
            ));
            max = fit;
        }
        let initial = settings.pool_initial.or(suggested.map(|(start, _)| start)).unwrap_or(max).min(max);
        PoolShape { initial, max, scale_factor: settings.scale_factor, idle_timeout: settings.idle_timeout }
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
    fan: Fan,
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
    let mut fan = Fan::new(journal, Arc::new(read));
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

/// The place of a run: its folder, if it is recorded, or a temporary one.
struct Folder {
    state: Option<State>,
    run: Option<RunFolder>,
    temporary: Option<(RunId, PathBuf)>,
}

impl Folder {
    fn open(
        context: &Context,
        request: &Request,
        resumed: Option<RunFolder>,
        notes: &mut Vec<(NoteLevel, String)>,
    ) -> Result<Self, Failure> {
        let now = Zoned::now();
        let random = now.timestamp().as_nanosecond() as u64 ^ (u64::from(std::process::id()) << 7);
        if request.options.no_journal && resumed.is_none() {
            let name = folder::name(&now, random);
            let id =
                RunId::new(&name).ok_or_else(|| Failure::machine(anyhow::anyhow!("`{name}` is no name of a run")))?;
            let path = std::env::temp_dir().join(format!("apm-{}-{name}", std::process::id()));
            let made = std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&path);
            made.with_context(|| format!("create `{}`", path.display())).map_err(Failure::machine)?;
            return Ok(Self { state: None, run: None, temporary: Some((id, path)) });
        }
        let fail = |error: std::io::Error, what: String| {
            Failure::machine(anyhow::Error::new(error).context(what))
                .hint("`APM_STATE_DIR=DIR` uses another place, `--no-journal` keeps no record")
        };
        let dir =
            context.environment.state_dir().map_err(|error| fail(error, "find the state directory".to_owned()))?;
        let state =
            State::open(&dir).map_err(|error| fail(error, format!("open the state directory `{}`", dir.display())))?;
        if resumed.is_some() {
            return Ok(Self { state: Some(state), run: resumed, temporary: None });
        }
        sweep_crashed(&state, notes);
        collect_garbage(&state, request, notes);
        let run =
            state.create(&now, random).map_err(|error| fail(error, format!("create a run in `{}`", dir.display())))?;
        Ok(Self { state: Some(state), run: Some(run), temporary: None })
    }

    fn path(&self) -> PathBuf {
        match (&self.run, &self.temporary) {
            (Some(run), _) => run.path.clone(),
            (None, Some((_, path))) => path.clone(),
            (None, None) => PathBuf::new(),
        }
    }

    fn id(&self) -> RunId {
        match (&self.run, &self.temporary) {
            (Some(run), _) => run.id.clone(),
            (None, Some((id, _))) => id.clone(),
            (None, None) => RunId::new("none").expect("letters make a name"),
        }
    }

    fn close(self) {
        if let Some(run) = self.run {
            run.close();
        }
        if let Some((_, path)) = self.temporary {
            // Among the temporary files of the system, where it goes sooner or later.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// Ends what an apm that was killed left behind.
fn sweep_crashed(state: &State, notes: &mut Vec<(NoteLevel, String)>) {
    for run in state.crashed() {
        sweep(&run.id, notes);
        run.close();
    }
}

/// Ends what one run left behind: what carries its mark, and what descends from that, marked or not.
pub(crate) fn sweep(run: &RunId, notes: &mut Vec<(NoteLevel, String)>) {
    let mut known: Vec<process::Identity> = Vec::new();
    let (mut ended, left) = process::end_all(|| {
        known.retain(|process| process.is_alive());
        // Who cleared its environment is found through its parent, while that lives: the first is killed when all are
        // known, and stopped, so that none forks meanwhile.
        for _ in 0..SCANS_MAX {
            let table = probe::process::sweep(&Roots::default());
            let mut roots = process::find(|pid| process::carries(pid, run.as_str()));
            roots.extend(&known);
            let members: std::collections::BTreeSet<i32> =
                roots.iter().flat_map(|root| table.members(root.pid)).map(|process| process.pid).collect();
            let before = known.len();
            for process in process::find(|pid| members.contains(&pid)) {
                if !known.contains(&process) {
                    process::send(process, signal::STOP);
                    known.push(process);
                }
            }
            if known.len() == before {
                break;
            }
        }
        known.clone()
    });
    ended += Cgroups::sweep(&Roots::default().proc, run.as_str());
    if !left.is_empty() {
        let pids: Vec<String> = left.iter().map(|process| process.pid.to_string()).collect();
        let text = format!("run {run} crashed and its processes {} cannot be ended", pids.join(", "));
        notes.push((NoteLevel::Error, text));
    } else if ended > 0 {
        let noun = if ended == 1 { "process" } else { "processes" };
        notes.push((NoteLevel::Warning, format!("run {run} crashed; {ended} {noun} it left were ended")));
    }
}

/// Removes old runs, if that was not done for a while.
fn collect_garbage(state: &State, request: &Request, notes: &mut Vec<(NoteLevel, String)>) {
    let stamp = state.root().join("cleaned");
    let age = std::fs::metadata(&stamp).and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
    if age.is_some_and(|age| age < request.settings.gc_interval) {
        return;
    }
    let cleaned = std::fs::write(&stamp, "").and_then(|()| state.prune(request.settings.keep_runs));
    if let Err(error) = cleaned {
        notes.push((NoteLevel::Warning, format!("old runs in `{}` stay: {error}", state.root().display())));
    }
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

fn add_sinks(context: &Context, request: &Request, work: &mut Work, fan: &mut Fan) -> Result<(), Failure> {
    let ui = &context.ui;
    let format = request.options.format.unwrap_or(Format::Text);
    let detail = match (context.global.verbose, ui.quiet() || work.silent) {
        (true, _) => Detail::All,
        (false, true) => Detail::Failures,
        (false, false) => Detail::Ends,
    };
    for wanted in &request.outputs {
        let sink = output::file(wanted)?;
        add(fan, wanted.may_stall(), Importance::Requested, sink)?;
    }
    for (importance, sink) in work.sinks.drain(..) {
        fan.add(importance, sink);
    }
    let (stdout_stalls, stderr_stalls) = (ui.stdout_may_stall(), ui.stderr_may_stall());
    // Output on the screen and a display that moves would overwrite each other.
    let relays_to_screen = work.relay.is_some() && ui.stdout_is_terminal();
    if (ui.draws() || work.eta) && !relays_to_screen && !context.global.verbose {
        add(fan, stderr_stalls, Importance::Display, Box::new(Progress::new(detail, !ui.draws())))?;
    } else if !ui.quiet() {
        add(fan, stderr_stalls, Importance::Display, Box::new(Log::new(detail)))?;
    }
    match (format, work.relay) {
        (Format::Text, Some((order, tag))) => {
            add(fan, stdout_stalls || stderr_stalls, Importance::Result, Box::new(Relay::new(order, tag)))
        }
        // The summary is written after the display is gone.
        (Format::Text, None) => Ok(()),
        (format, _) => add(fan, stdout_stalls, Importance::Requested, output::stdout(format, ui.stdout_layout())),
    }
}

fn add(fan: &mut Fan, may_stall: bool, importance: Importance, sink: Box<dyn Sink>) -> Result<(), Failure> {
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
async fn hand_over(rest: Rest, mut signals: Signals) -> Result<Vec<String>, Option<i32>> {
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
