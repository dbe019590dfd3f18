//! The scheduler of a real run under a virtual clock: scripted tasks, changes of the plan, failures, memory, stops. Nothing
//! is started and no time passes, so a million tasks take seconds, and what holds here holds for the scheduler that runs.
//!
//! `run` checks the laws after every step, by accounts of its own: a task starts only when its needs have ended, no
//! capacity is exceeded, no slot is used twice, no ready task that fits is left waiting, and every task ends once.

pub mod figures;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::history::History;
use crate::engine::ix_map::IxMap;
use crate::engine::scheduler::{Action, BadNeeds, Input, Restored, Scheduler, Setup, Step};
use crate::model::attempt::{AttemptId, AttemptResult, End, Ix, Signal, TreeUsage};
use crate::model::edit::{Edit, Origin};
use crate::model::event::{Event, Exit, Next, Usage};
use crate::model::id::TaskId;
use crate::model::outcome::{Outcome, Stop};
use crate::model::task::Task;
use crate::model::unit::Bytes;
use crate::probe::machine::Reading;

/// Time between two samples where a scenario has no reason for another.
pub(crate) const TICK: Duration = Duration::from_millis(100);
/// Steps after which a run that does not end is given up: two for each task, and ten each second of a day.
const STEPS_MAX: u64 = 20_000_000;
/// The same for a run whose laws are checked, which is a small one.
const CHECKED_STEPS_MAX: u64 = 100_000;

/// Tasks that wait at most before more are read.
const WAITING_MAX: usize = 10_000;
/// Tasks that are read at once.
const BATCH: usize = 1000;

/// A task and how its attempts behave.
#[derive(Clone, Debug)]
pub(crate) struct ScriptedTask {
    pub(crate) task: Arc<Task>,
    pub(crate) takes: Duration,
    /// Exit codes of its attempts; the last one repeats.
    pub(crate) exits: Vec<i32>,
    /// Memory at its peak, reached half-way.
    pub(crate) memory: Bytes,
    /// It does not react to TERM.
    pub(crate) is_stubborn: bool,
}

/// What happens to a run from outside.
#[derive(Clone, Debug)]
pub(crate) enum Intervention {
    Add(Vec<ScriptedTask>),
    Edit(Edit),
    Stop(Stop),
}

/// A run to be simulated.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) setup: Setup,
    pub(crate) tasks: Vec<ScriptedTask>,
    /// By time.
    pub(crate) later: Vec<(Duration, Intervention)>,
    /// What an earlier part of the run has recorded.
    pub(crate) restored: Vec<Restored>,
    pub(crate) edits: Vec<(Edit, Origin)>,
    /// Processes and threads that there may be at once, as `ulimit -u` bounds them.
    pub(crate) processes: Option<usize>,
    /// The laws are checked after each step, which takes time for each task that waits, and what happened is kept.
    pub(crate) checks: bool,
}

/// What happened.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// Tasks that have ended. The rest of the trace is empty where nothing is checked, apart from the figures.
    pub(crate) ended: usize,
    /// All events, with their times.
    pub(crate) events: Vec<(Duration, Event)>,
    pub(crate) ends: BTreeMap<TaskId, Outcome>,
    pub(crate) starts: Vec<(Duration, TaskId)>,
    pub(crate) end: Duration,
    pub(crate) running_max: usize,
    pub(crate) memory_max: u64,
    pub(crate) refused: Vec<String>,
}

/// A running attempt.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    number: u32,
    started: Duration,
    ends: Duration,
    /// Time that is left while it is paused.
    paused: Option<Duration>,
    is_signalled: bool,
    /// It could not get a process.
    is_busy: bool,
}

/// Time for which a thread without an attempt is kept, as apm's own are.
const THREAD_KEPT: Duration = Duration::from_secs(1);

struct Simulation {
    /// Time between two samples.
    interval: Duration,
    scheduler: Scheduler,
    /// By their index; where nothing is checked, those that have not ended.
    tasks: IxMap<ScriptedTask>,
    added: Ix,
    /// Only where the laws are checked.
    indices: HashMap<TaskId, Ix>,
    /// The attempt of each task that has one.
    running: IxMap<Attempt>,
    ends: BTreeSet<(Duration, AttemptId)>,
    now: Duration,
    processes: Option<usize>,
    /// Since when each thread without an attempt has none.
    idle: Vec<Duration>,
    step: Step,
    checks: bool,
    trace: Trace,
    accounts: Accounts,
}

/// What the laws are checked against.
#[derive(Default)]
struct Accounts {
    ended: HashSet<TaskId>,
    /// Tasks that were ever added and have not ended, without those that run.
    open: BTreeSet<Ix>,
    /// In a back-off.
    delayed: HashSet<TaskId>,
    used: HashMap<String, u64>,
    slots: HashMap<u32, TaskId>,
    capacity: HashMap<String, u64>,
    paused: HashSet<TaskId>,
    run_paused: bool,
}

/// Runs a scenario to its end. The error is the law that was broken.
pub(crate) fn run(scenario: Scenario) -> Result<Trace, String> {
    run_source(scenario, std::iter::empty())
}

/// Runs a scenario whose tasks are followed by those of a source, which is read as `apm run each` reads its values: while
/// fewer than [`WAITING_MAX`] tasks wait.
pub(crate) fn run_source(scenario: Scenario, mut source: impl Iterator<Item = ScriptedTask>) -> Result<Trace, String> {
    let Scenario { setup, tasks, later, restored, edits, processes, checks } = scenario;
    let accounts = Accounts { capacity: setup.resources.clone().into_iter().collect(), ..Accounts::default() };
    let mut simulation = Simulation {
        interval: setup.interval,
        scheduler: Scheduler::new(setup, History::default(), 1),
        tasks: IxMap::default(),
        added: 0,
        indices: HashMap::new(),
        running: IxMap::default(),
        ends: BTreeSet::new(),
        now: Duration::ZERO,
        processes,
        idle: Vec::new(),
        step: Step::default(),
        checks,
        trace: Trace::default(),
        accounts,
    };
    simulation.add(tasks, BadNeeds::Skipped).map_err(|error| format!("the plan: {error}"))?;
    for Restored { ix, outcome, .. } in restored.iter().filter(|restored| restored.outcome.is_some()) {
        let id = simulation.tasks[ix].task.id.clone();
        simulation.accounts.ended(*ix, &id);
        simulation.trace.ends.insert(id, outcome.clone().unwrap_or(Outcome::Passed));
    }
    simulation.scheduler.restore(restored);
    for (edit, by) in &edits {
        simulation.scheduler.replay(edit, by);
        simulation.accounts.edited(edit);
        if let Edit::Resize { resource, to } = edit {
            // What is run again may use more than was left when the capacity was lowered.
            let needs = simulation.accounts.open.iter().filter_map(|ix| simulation.tasks[ix].task.uses.get(resource));
            let most = needs.max().copied().unwrap_or(0).max(*to);
            simulation.accounts.capacity.insert(resource.clone(), most);
        }
    }
    let mut later: std::collections::VecDeque<(Duration, Intervention)> = later.into();
    let interval = simulation.interval;
    let mut tick_at = interval;
    let mut closed = false;
    simulation.input(Input::Tick);
    let mut source_ended = false;
    for _ in 0..if checks { CHECKED_STEPS_MAX } else { STEPS_MAX } {
        while !source_ended && simulation.scheduler.backlog() < WAITING_MAX {
            let more: Vec<ScriptedTask> = source.by_ref().take(BATCH).collect();
            source_ended = more.len() < BATCH;
            simulation.add(more, BadNeeds::Refused)?;
            simulation.input(Input::Tick);
        }
        if source_ended && !closed && later.iter().all(|(_, what)| !matches!(what, Intervention::Add(_))) {
            closed = true;
            simulation.input(Input::Closed);
        }
        simulation.take_over()?;
        if simulation.scheduler.is_over() {
            return simulation.over();
        }
        let wake = simulation.scheduler.next_wake().filter(|at| *at > simulation.now);
        let end = simulation.ends.first().map(|(at, _)| *at);
        let at = later.front().map(|(at, _)| *at);
        let next = [wake, end, at, Some(tick_at)].into_iter().flatten().min().unwrap_or(tick_at);
        simulation.now = next.max(simulation.now);
        if at.is_some_and(|at| at <= simulation.now) {
            if let Some((_, intervention)) = later.pop_front() {
                simulation.intervene(intervention);
            }
        } else if end.is_some_and(|end| end <= simulation.now) {
            simulation.end_first();
        } else if simulation.now >= tick_at {
            tick_at = simulation.now + interval;
            simulation.sample();
        } else {
            simulation.input(Input::Tick);
        }
    }
    let waiting = simulation.scheduler.waiting(simulation.now);
    Err(format!("the run does not end: {waiting:?}"))
}

impl Simulation {
    fn input(&mut self, input: Input) {
        self.scheduler.step(self.now, input, &mut self.step);
    }

    fn add(&mut self, tasks: Vec<ScriptedTask>, bad_needs: BadNeeds) -> Result<(), String> {
        let plain: Vec<Arc<Task>> = tasks.iter().map(|task| Arc::clone(&task.task)).collect();
        self.scheduler.add(&plain, bad_needs).map_err(|error| error.to_string())?;
        for task in tasks {
            let ix = self.added;
            self.added += 1;
            if self.checks {
                self.indices.insert(task.task.id.clone(), ix);
                self.accounts.open.insert(ix);
            }
            self.tasks.insert(ix, task);
        }
        Ok(())
    }

    fn intervene(&mut self, intervention: Intervention) {
        let by = Origin::Control { uid: 0, pid: 1 };
        match intervention {
            Intervention::Add(tasks) => {
                let added = tasks.iter().map(|task| Arc::clone(&task.task)).collect();
                match self.add(tasks, BadNeeds::Refused) {
                    Ok(()) => self.step.events.push(Event::TasksAdded { tasks: added, by: Some(by) }),
                    Err(reason) => self.trace.refused.push(reason),
                }
                self.input(Input::Tick);
            }
            Intervention::Edit(edit) => match self.scheduler.edit(self.now, &edit, &by, &mut self.step) {
                Ok(()) => {}
                Err(reason) => self.trace.refused.push(reason.to_string()),
            },
            Intervention::Stop(stop) => self.input(Input::Stop(stop)),
        }
    }

    fn end_first(&mut self) {
        let Some((_, id)) = self.ends.pop_first() else { return };
        let Some(attempt) = self.running.remove(&id.ix) else { return };
        let scripted = &self.tasks[&id.ix];
        let code = scripted.exits[(id.attempt as usize - 1).min(scripted.exits.len() - 1)];
        let exit = if attempt.is_signalled { Exit::Signal(15) } else { Exit::Code(code) };
        let usage = Usage { wall: self.now - attempt.started, memory_peak: scripted.memory, ..Usage::default() };
        let result = if attempt.is_busy {
            AttemptResult::new(End::Busy("no more processes".to_owned()))
        } else {
            AttemptResult { usage, ..AttemptResult::exited(exit) }
        };
        if self.processes.is_some() {
            self.idle.push(self.now);
        }
        self.input(Input::Finished(id, Box::new(result)));
        if !self.checks && self.scheduler.task(id.ix).is_none() {
            self.tasks.remove(&id.ix);
        }
    }

    fn sample(&mut self) {
        let mut total = 0;
        let trees: Vec<(AttemptId, TreeUsage)> = self
            .running
            .iter()
            .map(|(ix, attempt)| {
                // Memory grows evenly over the first half of a task.
                let task = &self.tasks[&ix];
                let share = (self.now - attempt.started).as_secs_f64() / task.takes.as_secs_f64().max(0.1) * 2.0;
                let memory = Bytes((task.memory.0 as f64 * share.min(1.0)) as u64);
                total += memory.0;
                (AttemptId { ix, attempt: attempt.number }, TreeUsage { memory, processes: 1, ..TreeUsage::default() })
            })
            .collect();
        self.trace.memory_max = self.trace.memory_max.max(total);
        self.input(Input::Sampled { trees, reading: Reading::default() });
    }

    /// Takes over what the scheduler has decided, and checks the laws.
    fn take_over(&mut self) -> Result<(), String> {
        for event in std::mem::take(&mut self.step.events) {
            self.trace.ended += usize::from(ends_a_task(&event));
            if !self.checks {
                continue;
            }
            self.accounts.happened(&event, &self.tasks, &self.indices, &mut self.trace)?;
            if let Event::AttemptStarted { task, .. } = &event {
                self.trace.starts.push((self.now, task.clone()));
            }
            self.trace.events.push((self.now, event));
        }
        for action in std::mem::take(&mut self.step.actions) {
            match action {
                Action::Start { id, .. } => {
                    let is_busy = !self.gets_process();
                    let ends = if is_busy { self.now } else { self.now + self.tasks[&id.ix].takes };
                    let (number, started) = (id.attempt, self.now);
                    let attempt = Attempt { number, started, ends, paused: None, is_signalled: false, is_busy };
                    if self.running.insert(id.ix, attempt).is_some() {
                        return Err(format!("{id:?} was started twice"));
                    }
                    self.ends.insert((ends, id));
                }
                Action::Signal(id, signal) => self.signal(id, signal),
                Action::MemoryCeiling(_) => {}
            }
        }
        // An attempt has an end unless it is paused.
        self.trace.running_max = self.trace.running_max.max(self.ends.len());
        if self.checks { self.nothing_that_fits_waits() } else { Ok(()) }
    }

    /// Whether an attempt that starts now gets a process, besides its thread and those of the others.
    fn gets_process(&mut self) -> bool {
        let Some(most) = self.processes else { return true };
        let now = self.now;
        self.idle.retain(|since| *since + THREAD_KEPT > now);
        self.idle.pop();
        let children = self.running.iter().filter(|(_, attempt)| !attempt.is_busy).count();
        let threads = self.running.iter().count() + self.idle.len();
        threads + children + 2 <= most
    }

    fn signal(&mut self, id: AttemptId, signal: Signal) {
        let Some(attempt) = self.running.get_mut(&id.ix) else { return };
        let ends = match signal {
            Signal::Pause => {
                attempt.paused = Some(attempt.ends.saturating_sub(self.now));
                self.ends.remove(&(attempt.ends, id));
                return;
            }
            Signal::Resume => match attempt.paused.take() {
                Some(left) => self.now + left,
                None => return,
            },
            Signal::Term if self.tasks[&id.ix].is_stubborn => return,
            Signal::Term | Signal::Kill => {
                attempt.is_signalled = true;
                attempt.paused = None;
                self.now
            }
        };
        self.ends.remove(&(attempt.ends, id));
        attempt.ends = ends;
        self.ends.insert((ends, id));
    }

    /// A ready task for which there is a slot and all it uses must not wait, unless that is reserved for another.
    fn nothing_that_fits_waits(&self) -> Result<(), String> {
        if self.scheduler.stop().is_some() || self.accounts.run_paused || self.scheduler.is_held() {
            return Ok(());
        }
        let reserved = self.scheduler.reserved_by();
        let free_slots = u64::from(self.scheduler.free_slots());
        for ix in &self.accounts.open {
            let task = &self.tasks[ix].task;
            let is_ready = task.needs.iter().all(|need| self.accounts.ended.contains(need));
            if !is_ready || self.accounts.paused.contains(&task.id) || self.accounts.delayed.contains(&task.id) {
                continue;
            }
            if reserved.as_ref().is_some_and(|reserved| *reserved != task.id)
                || self.scheduler.waits_for_memory(&task.id)
            {
                continue;
            }
            let slots = task.uses.get("slots").copied().unwrap_or(1);
            if slots <= free_slots && self.accounts.fits(task) {
                let told = self.scheduler.waiting(self.now).into_iter().find(|one| one.task == task.id);
                return Err(format!("`{}` fits and yet waits at {:?}: {told:?}", task.id, self.now));
            }
        }
        Ok(())
    }

    fn over(mut self) -> Result<Trace, String> {
        if !self.running.is_empty() {
            return Err("the run is over and attempts still run".to_owned());
        }
        if let Some(ix) = self.accounts.open.first() {
            return Err(format!("`{}` has never ended", self.tasks[ix].task.id));
        }
        self.trace.end = self.now;
        Ok(self.trace)
    }
}

fn ends_a_task(event: &Event) -> bool {
    match event {
        Event::AttemptFinished(finished) => matches!(finished.next, Next::Done { .. }),
        event => matches!(event, Event::TaskEnded { .. }),
    }
}

impl Accounts {
    fn happened(
        &mut self,
        event: &Event,
        tasks: &IxMap<ScriptedTask>,
        indices: &HashMap<TaskId, Ix>,
        trace: &mut Trace,
    ) -> Result<(), String> {
        let task_of = |id: &TaskId| &tasks[&indices[id]].task;
        match event {
            Event::AttemptStarted { task: id, slot, .. } => {
                let task = task_of(id);
                if let Some(need) = task.needs.iter().find(|need| !self.ended.contains(*need)) {
                    return Err(format!("`{id}` started before `{need}` ended"));
                }
                if self.paused.contains(id) || self.run_paused {
                    return Err(format!("`{id}` started although it is paused"));
                }
                if !self.fits(task) {
                    return Err(format!("`{id}` started without what it uses: {:?} in use", self.used));
                }
                for (name, need) in uses(task) {
                    *self.used.entry(name).or_default() += need;
                }
                self.open.remove(&indices[id]);
                self.delayed.remove(id);
                self.takes_slot(id, *slot)?;
            }
            Event::AttemptPaused { task, .. } => self.slots.retain(|_, holder| holder != task),
            Event::AttemptUnpaused { task, slot, .. } => self.takes_slot(task, *slot)?,
            Event::AttemptFinished(finished) => {
                let id = &finished.task;
                self.slots.retain(|_, holder| holder != id);
                for (name, need) in uses(task_of(id)) {
                    *self.used.entry(name).or_default() -= need;
                }
                match &finished.next {
                    Next::Done { outcome } => {
                        self.ended(indices[id], id);
                        if trace.ends.insert(id.clone(), outcome.clone()).is_some() {
                            return Err(format!("`{id}` ended twice"));
                        }
                    }
                    Next::Retry { .. } => {
                        self.open.insert(indices[id]);
                        self.delayed.insert(id.clone());
                    }
                    Next::Requeue { .. } | Next::Await { .. } => {
                        self.open.insert(indices[id]);
                    }
                }
            }
            Event::TaskEnded { task: id, outcome } => {
                self.ended(indices[id], id);
                if trace.ends.insert(id.clone(), outcome.clone()).is_some() {
                    return Err(format!("`{id}` ended twice"));
                }
            }
            Event::PlanEdited { edit, .. } => self.edited(edit),
            _ => {}
        }
        Ok(())
    }

    fn takes_slot(&mut self, id: &TaskId, slot: Option<u32>) -> Result<(), String> {
        let Some(slot) = slot else { return Ok(()) };
        match self.slots.insert(slot, id.clone()) {
            Some(other) => Err(format!("slot {slot} of `{other}` was given to `{id}`")),
            None => Ok(()),
        }
    }

    fn edited(&mut self, edit: &Edit) {
        match edit {
            Edit::Pause { tasks } => self.paused.extend(tasks.iter().cloned()),
            Edit::Unpause { tasks } => self.paused.retain(|task| !tasks.contains(task)),
            Edit::PauseRun {} => self.run_paused = true,
            Edit::UnpauseRun {} => self.run_paused = false,
            Edit::Resize { resource, to } => drop(self.capacity.insert(resource.clone(), *to)),
            Edit::Cancel { .. } | Edit::CancelRun {} | Edit::Prioritise { .. } => {}
        }
    }

    fn ended(&mut self, ix: Ix, id: &TaskId) {
        self.ended.insert(id.clone());
        self.open.remove(&ix);
        self.delayed.remove(id);
        self.paused.remove(id);
    }

    fn fits(&self, task: &Task) -> bool {
        uses(task).all(|(name, need)| {
            let capacity = if name.starts_with("lock ") { 1 } else { self.capacity.get(&name).copied().unwrap_or(0) };
            self.used.get(&name).copied().unwrap_or(0) + need <= capacity
        })
    }
}

/// Named resources and locks of a task.
fn uses(task: &Task) -> impl Iterator<Item = (String, u64)> {
    let locks: BTreeSet<&String> = task.locks.iter().collect();
    let named = task.uses.iter().filter(|(name, _)| !["slots", "memory"].contains(&name.as_str()));
    named.map(|(name, need)| (name.clone(), *need)).chain(locks.into_iter().map(|lock| (format!("lock {lock}"), 1)))
}
