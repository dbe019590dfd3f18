//! The scheduler: a pure state machine. Inputs and `now` (time since the run started) go in, events and actions come
//! out; it starts nothing, reads no clock and writes nothing. `dispatch` performs the actions after the events are in the
//! journal. What is proved by feeding it in `simulate` is what runs.
//!
//! This file has the state, how tasks join and what may be asked; `ready` starts what can start, `finish` takes the ends of
//! attempts, `stop` ends the run early, `sample` keeps limits by looking, `edit` changes the plan, `explain` says what a
//! task waits for. A task that has ended leaves its name and how it ended, and in a run of independent values not even that.

mod edit;
mod explain;
mod finish;
pub(crate) mod node;
mod ready;
mod sample;
mod stop;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::admit::{Bounds, Load};
use crate::engine::capacity::{Capacity, Demand, DemandError, ResourceIx};
use crate::engine::graph::{Graph, GraphError};
use crate::engine::history::{self, History};
use crate::engine::pool::Pool;
use crate::engine::queue::{Queue, Rank};
use crate::engine::scheduler::node::{Ended, Node, Nodes, State};
use crate::model::attempt::{AttemptId, AttemptResult, Awaited, Ix, Signal, TreeUsage};
use crate::model::event::{Event, PoolShape};
use crate::model::id::TaskId;
use crate::model::outcome::{Outcome, Stop};
use crate::model::request::Halt;
use crate::model::task::{Task, When};
use crate::model::unit::Percent;
use crate::probe::machine::Reading;

/// What the scheduler is told once.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) shape: PoolShape,
    /// Slots that the pool may be given while the run goes on: what the limits of this process allow.
    pub(crate) slots_max: u32,
    /// Named resources and their capacities.
    pub(crate) resources: BTreeMap<String, u64>,
    pub(crate) bounds: Bounds,
    /// CPU ceiling of the run that has to be kept by pausing attempts, in percent of one CPU.
    pub(crate) cpu_ceiling_polled: Option<Percent>,
    /// Which limits of attempts the kernel does not enforce by itself here.
    pub(crate) polled: Polled,
    /// The pool grows only while less of the machine's CPU time is measured to be in use; absent: whenever tasks wait.
    pub(crate) grow_below: Option<Percent>,
    /// Sampling interval; also the least time between two growths of the pool.
    pub(crate) interval: Duration,
    /// Time between TERM and KILL where a task says nothing.
    pub(crate) grace: Duration,
    /// How long `when: always` may run after the run was stopped from outside.
    pub(crate) cleanup_time: Duration,
    pub(crate) halt: Option<Halt>,
    /// End of the whole run.
    pub(crate) deadline: Option<Duration>,
    /// How much earlier than needed a task with a deadline presses, as a share of its duration.
    pub(crate) deadline_buffer: Percent,
    /// Names of tasks that have passed are remembered, for tasks that need them and are added later. Not where values are
    /// independent of each other and may be millions.
    pub(crate) remembers_passed: bool,
}

/// Limits that are kept by looking at the process tree.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Polled {
    pub(crate) memory: bool,
    pub(crate) cpu: bool,
    pub(crate) processes: bool,
}

/// What can happen to the scheduler.
#[derive(Debug)]
pub(crate) enum Input {
    /// Time passed.
    Tick,
    /// For so long, until now, nobody looked: apm was stopped (Ctrl-Z), or with all around it (a frozen container).
    ClockGap(Duration),
    /// No more tasks will be added.
    Closed,
    /// An attempt ended.
    Finished(AttemptId, Box<AttemptResult>),
    /// Running attempts and the machine were looked at.
    Sampled { trees: Vec<(AttemptId, TreeUsage)>, reading: Reading },
    /// Whoever takes the results is too far behind to take more, or not any more.
    Backpressure(bool),
    /// The run is to end: what runs gets TERM, then KILL.
    Stop(Stop),
    /// The run is to end at once.
    Kill(Stop),
}

/// What `dispatch` is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Start {
        id: AttemptId,
        slot: Option<u32>,
        awaited: Option<Awaited>,
    },
    Signal(AttemptId, Signal),
    /// The memory ceiling of the run is another now.
    MemoryCeiling(crate::model::unit::Bytes),
}

/// The answer to one input.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) events: Vec<Event>,
    pub(crate) actions: Vec<Action>,
}

/// A task restored from the journal of an earlier part of the run.
#[derive(Clone, Debug)]
pub(crate) struct Restored {
    pub(crate) ix: Ix,
    /// Attempts made so far.
    pub(crate) attempts: u32,
    /// Its end, where that still counts.
    pub(crate) outcome: Option<Outcome>,
}

/// Numbers for the report.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) running_max: u32,
    pub(crate) queue_max: u32,
}

/// Why tasks cannot join the run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddError {
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error("task `{task}`: {error}")]
    Demand { task: TaskId, error: DemandError },
    #[error("task `{task}` needs `{need}`, which has already ended: {ended}")]
    NeedEnded { task: TaskId, need: TaskId, ended: &'static str },
    #[error("the run is being stopped")]
    Stopping,
}

/// Whether tasks that could never run are refused or skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadNeeds {
    Refused,
    Skipped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Wall(Ix, u32),
    Kill(Ix, u32),
    Retry(Ix),
    Deadline,
    /// What cleans up after a stop has had its time.
    CleanedUp,
}

/// The scheduler.
#[derive(Debug)]
pub(crate) struct Scheduler {
    setup: Setup,
    graph: Graph,
    nodes: Nodes,
    /// Ready tasks that take a slot, and those that take none.
    queue: Queue,
    slotless: Queue,
    pool: Pool,
    capacity: Capacity,
    /// Attempts that are alive, paused ones included.
    alive: Vec<Ix>,
    /// Those of them that are paused or wait to go on.
    paused: usize,
    unpausing: VecDeque<Ix>,
    load: Load,
    timers: BinaryHeap<Reverse<(Duration, Timer)>>,
    history: History,
    /// The key of the task that was added last.
    last_key: Arc<str>,
    reading: Reading,
    /// Added or freed of a need, not yet looked at.
    fresh: VecDeque<Ix>,
    closed: bool,
    stop: Option<Stop>,
    /// After a stop nothing cleans up any more: the time for it is over, or a second stop came.
    is_cleaned_up: bool,
    /// Attempts that left processes running.
    leaky: u64,
    /// Starting is held back, as the last event about it says.
    held: bool,
    backpressure: bool,
    /// After attempts were put back for memory: nothing starts before something ends.
    memory_settles: bool,
    /// After an attempt could not get a process: how many may be alive at once, one more with each that ends otherwise.
    process_room: Option<u32>,
    /// The whole run is paused.
    run_paused: bool,
    /// The task for which the resources it needs are kept free.
    reservation: Option<Ix>,
    /// When two attempts last ran together.
    shared_at: Option<Duration>,
    cpu_credit_us: i64,
    all_throttled: bool,
    sampled: Duration,
    sample_event_at: Duration,
    /// End of the last time in which nobody looked.
    gap_until: Duration,
    /// Tasks ever known.
    known: u64,
    ended: HashMap<TaskId, Ended>,
    tally: BTreeMap<&'static str, u64>,
    figures: Figures,
    seed: u64,
}

impl Scheduler {
    /// An empty run. `seed` feeds the jitter of retries.
    pub(crate) fn new(setup: Setup, history: History, seed: u64) -> Self {
        let mut timers = BinaryHeap::new();
        if let Some(deadline) = setup.deadline {
            timers.push(Reverse((deadline, Timer::Deadline)));
        }
        Self {
            pool: Pool::new(setup.shape),
            capacity: Capacity::new(&setup.resources),
            setup,
            graph: Graph::default(),
            nodes: Nodes::default(),
            queue: Queue::default(),
            slotless: Queue::default(),
            alive: Vec::new(),
            paused: 0,
            unpausing: VecDeque::new(),
            load: Load::default(),
            timers,
            history,
            last_key: "".into(),
            reading: Reading::default(),
            fresh: VecDeque::new(),
            closed: false,
            stop: None,
            is_cleaned_up: false,
            leaky: 0,
            held: false,
            backpressure: false,
            memory_settles: false,
            process_room: None,
            run_paused: false,
            reservation: None,
            shared_at: None,
            cpu_credit_us: 0,
            all_throttled: false,
            sampled: Duration::ZERO,
            sample_event_at: Duration::ZERO,
            gap_until: Duration::ZERO,
            known: 0,
            ended: HashMap::new(),
            tally: BTreeMap::new(),
            figures: Figures::default(),
            seed,
        }
    }

    /// What the machine says before anything starts: without it the first starts would be blind.
    pub(crate) fn first_reading(&mut self, reading: Reading) {
        self.reading = reading;
    }

    /// Adds tasks. They are looked at with the next input. On error none of them is added.
    pub(crate) fn add(&mut self, tasks: &[Arc<Task>], bad_needs: BadNeeds) -> Result<(), AddError> {
        if self.stop.is_some() && bad_needs == BadNeeds::Refused {
            return Err(AddError::Stopping);
        }
        let mut demands: Vec<Demand> = Vec::with_capacity(tasks.len());
        for task in tasks {
            let slots = self.pool.max().max(self.setup.shape.max);
            let demand = self.capacity.demand(task, slots);
            demands.push(demand.map_err(|error| AddError::Demand { task: task.id.clone(), error })?);
            if bad_needs == BadNeeds::Refused && task.when == When::Success {
                let bad = task.needs.iter().find_map(|need| Some((need, *self.ended.get(need)?)));
                if let Some((need, ended)) = bad.filter(|(_, ended)| *ended != Ended::Good) {
                    return Err(AddError::NeedEnded { task: task.id.clone(), need: need.clone(), ended: ended.word() });
                }
            }
        }
        let range = self.graph.add(tasks, |id| self.ended.contains_key(id))?;
        for ((task, demand), ix) in tasks.iter().zip(demands).zip(range.clone()) {
            let key = self.key(task);
            let path_us = self.estimate_us(&key);
            let mut node = Node::new(Arc::clone(task), key, demand, path_us);
            node.open = self.graph.needs(ix).len() as u32;
            for need in &task.needs {
                if let Some(ended) = self.ended.get(need) {
                    // Of those that are gone only how they ended is known.
                    node.need_ended(need, *ended, matches!(ended, Ended::Good | Ended::Failed));
                }
            }
            self.nodes.insert(ix, node);
        }
        for ix in self.graph.dependents_first(range.clone()) {
            if self.graph.needs(ix).is_empty() && self.graph.dependents(ix).is_empty() {
                continue;
            }
            let longest = self.longest_path_after(ix);
            if let Some(node) = self.nodes.get_mut(&ix) {
                node.path_us = node.path_us.saturating_add(longest);
            }
        }
        for ix in range.clone() {
            self.raise_paths(ix);
        }
        self.known += range.len() as u64;
        self.fresh.extend(range);
        Ok(())
    }

    /// What the history of a task is filed under. Tasks of one kind, which mostly come together, share it.
    fn key(&mut self, task: &Task) -> Arc<str> {
        let key = match &task.history_key {
            Some(key) if **key == *self.last_key => return Arc::clone(&self.last_key),
            _ => history::key_of(task),
        };
        if *key != *self.last_key {
            self.last_key = key.into();
        }
        Arc::clone(&self.last_key)
    }

    fn longest_path_after(&self, ix: Ix) -> u64 {
        let paths = self.graph.dependents(ix).iter().filter_map(|dependent| Some(self.nodes.get(dependent)?.path_us));
        paths.max().unwrap_or(0)
    }

    /// A task that was added may make the way from older tasks to the end longer. Iterative: a chain may be long.
    fn raise_paths(&mut self, ix: Ix) {
        let mut changed = vec![ix];
        while let Some(ix) = changed.pop() {
            let Some(after) = self.nodes.get(&ix).map(|node| node.path_us) else { continue };
            for at in 0..self.graph.needs(ix).len() {
                let need = self.graph.needs(ix)[at];
                let Some(node) = self.nodes.get(&need) else { continue };
                let path_us = self.estimate_us(&node.key).saturating_add(after);
                if path_us > node.path_us {
                    self.rerank(need, |node| node.path_us = path_us);
                    changed.push(need);
                }
            }
        }
    }

    /// Adds tasks that the step of a task has read. What it had added before, in an earlier part of the run, is not added
    /// again. On error none of them is added. Returns those that are new.
    pub(crate) fn add_by_step(&mut self, ix: Ix, tasks: Vec<Arc<Task>>) -> Result<Vec<Arc<Task>>, AddError> {
        let before: std::collections::HashSet<TaskId> =
            self.nodes.get(&ix).map(|node| node.added.iter().cloned().collect()).unwrap_or_default();
        let new: Vec<Arc<Task>> = tasks.into_iter().filter(|task| !before.contains(&task.id)).collect();
        self.add(&new, BadNeeds::Skipped)?;
        if let Some(node) = self.nodes.get_mut(&ix) {
            node.added.extend(new.iter().map(|task| task.id.clone()));
        }
        Ok(new)
    }

    /// Which tasks the steps of an earlier part of the run have added.
    pub(crate) fn restore_added(&mut self, by: &TaskId, tasks: &[TaskId]) {
        if let Some(node) = self.graph.find(by).and_then(|ix| self.nodes.get_mut(&ix)) {
            node.added.extend_from_slice(tasks);
        }
    }

    /// Takes over what an earlier part of the run recorded. Call after `add`, before the first input.
    pub(crate) fn restore(&mut self, restored: Vec<Restored>) {
        for Restored { ix, attempts, outcome } in restored {
            if let Some(node) = self.nodes.get_mut(&ix) {
                node.attempts = attempts;
            }
            if let Some(outcome) = outcome {
                self.forget(ix, &outcome);
            }
        }
    }

    /// Adds one input and says what follows.
    pub(crate) fn step(&mut self, now: Duration, input: Input, out: &mut Step) {
        match input {
            Input::Tick => {}
            Input::ClockGap(time) => self.shift_timers(now, time),
            Input::Closed => self.closed = true,
            Input::Finished(id, result) => self.finished(now, id, *result, out),
            Input::Sampled { trees, reading } => self.sampled(now, &trees, reading, out),
            Input::Backpressure(is_behind) => self.backpressure = is_behind,
            Input::Stop(stop) => self.begin_stop(now, stop, true, out),
            Input::Kill(stop) => self.kill_all(now, &stop, out),
        }
        self.fire_timers(now, out);
        self.pump(now, out);
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_over(&self) -> bool {
        self.nodes.is_empty() && (self.closed || self.stop.is_some())
    }

    /// When `step` has to be called again at the latest, apart from sampling.
    pub(crate) fn next_wake(&self) -> Option<Duration> {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let shrink = self.pool.next_shrink().filter(|_| self.stop.is_none());
        timer.into_iter().chain(shrink).min()
    }

    /// Attempts that are alive and started before `until`.
    pub(crate) fn alive_since(&self, until: Duration) -> Vec<AttemptId> {
        let old = |ix: &Ix| {
            let running = self.nodes.get(ix)?.running()?;
            (running.started <= until).then_some(AttemptId { ix: *ix, attempt: running.attempt })
        };
        self.alive.iter().filter_map(old).collect()
    }

    /// Whether any attempt is alive.
    pub(crate) fn is_idle(&self) -> bool {
        self.alive.is_empty()
    }

    /// Tasks that are ready and wait; the source of tasks is read while this is below the bound of the queue.
    pub(crate) fn backlog(&self) -> usize {
        self.queue.len() + self.slotless.len() + self.fresh.len() + self.capacity.waiting()
    }

    /// Starting is held back, by the machine or whoever reads the output.
    pub(crate) fn is_held(&self) -> bool {
        self.held || self.hold().is_some()
    }

    /// Slots that there are.
    pub(crate) fn slots(&self) -> u32 {
        self.pool.size()
    }

    /// Free slots.
    pub(crate) fn free_slots(&self) -> u32 {
        self.pool.free()
    }

    /// The task that has reserved what it needs.
    pub(crate) fn reserved_by(&self) -> Option<TaskId> {
        Some(self.nodes.get(&self.reservation?)?.task.id.clone())
    }

    /// Whether a task waits for memory.
    pub(crate) fn waits_for_memory(&self, id: &TaskId) -> bool {
        let state = self.graph.find(id).and_then(|ix| self.nodes.get(&ix)).map(Node::state);
        matches!(state, Some(State::Parked(parked)) if parked.at == ResourceIx::Memory)
    }

    /// The task of an attempt that is alive.
    pub(crate) fn task(&self, ix: Ix) -> Option<&Arc<Task>> {
        self.nodes.get(&ix).map(|node| &node.task)
    }

    /// The current attempt of an open task.
    pub(crate) fn attempt_of(&self, id: &TaskId) -> Option<AttemptId> {
        let ix = self.graph.find(id)?;
        let running = self.nodes.get(&ix)?.running()?;
        Some(AttemptId { ix, attempt: running.attempt })
    }

    /// Whether a task is open or known to have ended.
    pub(crate) fn knows(&self, id: &TaskId) -> bool {
        self.graph.find(id).is_some() || self.ended.contains_key(id)
    }

    /// What was learned, to be kept for the next run.
    pub(crate) fn into_history(self) -> History {
        self.history
    }

    /// Why the run ends early.
    pub(crate) fn stop(&self) -> Option<&Stop> {
        self.stop.as_ref()
    }

    /// Numbers for the report.
    pub(crate) fn figures(&self) -> Figures {
        self.figures
    }

    fn estimate_us(&self, key: &str) -> u64 {
        // A task never seen counts one second: between the extremes, so that neither it nor the known ones always wait.
        self.history.duration(key).map_or(1_000_000, |d| d.as_micros() as u64)
    }

    fn rank(&self, ix: Ix) -> Option<Rank> {
        let node = self.nodes.get(&ix)?;
        let latest_start = node.task.deadline.map(|deadline| {
            let needed = Duration::from_micros(self.estimate_us(&node.key));
            deadline.saturating_sub(needed.mul_f64(1.0 + self.setup.deadline_buffer.0.max(0.0) / 100.0))
        });
        Some(Rank { priority: node.priority, path: node.path_us, latest_start })
    }

    /// Changes what decides the order of a task, wherever it waits.
    fn rerank(&mut self, ix: Ix, change: impl FnOnce(&mut Node)) {
        let Some(node) = self.nodes.get_mut(&ix) else { return };
        change(node);
        let Some(rank) = self.rank(ix) else { return };
        let Some(node) = self.nodes.get_mut(&ix) else { return };
        match node.state() {
            State::Ready if self.queue.contains(ix) => self.queue.push(ix, rank),
            State::Ready => self.slotless.push(ix, rank),
            State::Parked(parked) => {
                let mut parked = *parked;
                self.capacity.unpark(&parked);
                parked.key = rank.key(ix);
                self.capacity.park(parked);
                node.change(State::Ready);
                node.change(State::Parked(parked));
            }
            _ => {}
        }
    }

    /// Ends a task that has no attempt: wherever it stands, it leaves.
    fn end(&mut self, ix: Ix, outcome: Outcome, out: &mut Step) {
        let Some(node) = self.nodes.get(&ix) else { return };
        let task = node.task.id.clone();
        self.withdraw(ix);
        out.events.push(Event::TaskEnded { task, outcome: outcome.clone() });
        self.forget(ix, &outcome);
    }

    /// Takes a task out of the queue or from where it is parked.
    fn withdraw(&mut self, ix: Ix) {
        let Some(node) = self.nodes.get(&ix) else { return };
        match node.state() {
            State::Ready => {
                self.queue.remove(ix);
                self.slotless.remove(ix);
            }
            State::Parked(parked) => {
                let parked = *parked;
                self.capacity.unpark(&parked);
            }
            _ => {}
        }
        if self.reservation == Some(ix) {
            self.reservation = None;
            // Others were kept from what it had reserved.
            let named: Vec<ResourceIx> =
                self.nodes.get(&ix).map(|node| Capacity::resources(&node.demand).collect()).unwrap_or_default();
            named.into_iter().chain([ResourceIx::Slots, ResourceIx::Memory]).for_each(|resource| self.wake(resource));
        }
    }

    /// A task has ended: what waits for it hears of it, and it leaves only how it ended. What may be ready now is put into
    /// `fresh`: a chain of 100,000 skips must not recurse.
    fn forget(&mut self, ix: Ix, outcome: &Outcome) {
        let Some(node) = self.nodes.remove(&ix) else { return };
        *self.tally.entry(outcome.word()).or_default() += 1;
        let ended = Ended::of(outcome);
        for dependent in self.graph.end(ix, &node.task.id) {
            if let Some(waiting) = self.nodes.get_mut(&dependent) {
                waiting.open -= 1;
                waiting.need_ended(&node.task.id, ended, node.attempts > 0);
                if matches!(waiting.state(), State::Waiting) {
                    self.fresh.push_back(dependent);
                }
            }
        }
        if self.setup.remembers_passed || ended != Ended::Good {
            self.ended.insert(node.task.id.clone(), ended);
        }
    }

    /// More is free of a resource: the best of those who wait for it and fit become ready again.
    fn wake(&mut self, resource: ResourceIx) {
        let mut free = match resource {
            ResourceIx::Named(_) => self.capacity.free_of(resource),
            ResourceIx::Slots => u64::from(self.pool.free()),
            ResourceIx::Memory => self.memory_free().map_or(u64::MAX, |free| free.0),
        };
        // What is reserved is free for one task only: others would be woken in vain.
        let kept = self.reserved(resource, None);
        if let Some(ix) = self.reservation
            && let Some(State::Parked(parked)) = self.nodes.get(&ix).map(Node::state)
            && parked.at == resource
            && parked.need <= free
        {
            self.make_ready(ix);
        }
        if resource == ResourceIx::Memory && self.alive.is_empty() {
            // One always starts, however large it is: else a run could wait for ever.
            let reserved = self.reservation.filter(|ix| {
                self.nodes
                    .get(ix)
                    .is_some_and(|node| matches!(node.state(), State::Parked(parked) if parked.at == resource))
            });
            if let Some(ix) = reserved.or_else(|| self.capacity.first_waiter(resource)) {
                self.make_ready(ix);
            }
        }
        free = free.saturating_sub(kept);
        while let Some((ix, need)) = self.capacity.best_waiter(resource, free) {
            self.make_ready(ix);
            free = free.saturating_sub(need.max(1));
            if free == 0 {
                break;
            }
        }
    }

    /// How much of a resource is kept free for the task that has reserved it, if that is another than `ix`.
    fn reserved(&self, resource: ResourceIx, ix: Option<Ix>) -> u64 {
        let Some((reserved, node)) = self.reservation.and_then(|ix| Some((ix, self.nodes.get(&ix)?))) else { return 0 };
        if ix == Some(reserved) {
            return 0;
        }
        match resource {
            ResourceIx::Memory => self.expected_memory(node).0,
            // One slot is free soon enough, and the reserved task is the first to get it.
            ResourceIx::Slots if node.demand.slots <= 1 => 0,
            ResourceIx::Slots | ResourceIx::Named(_) => Capacity::need_of(&node.demand, resource),
        }
    }
}
