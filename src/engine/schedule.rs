//! The scheduler: a pure state machine. Inputs and `now` (time since the run started) go in, events and actions come
//! out; it starts no process, reads no clock and writes nothing. `dispatch` performs the actions after the
//! events are in the journal. What is proved by feeding it from a test is what runs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::admit::{self, Bounds, Load};
use crate::engine::graph::{Graph, GraphError, Ix};
use crate::engine::history::{self, History};
use crate::engine::pool::{Pool, Resize};
use crate::engine::queue::{Queue, Rank};
use crate::engine::retry;
use crate::engine::unit::Attempted;
use crate::model::event::{AttemptFinished, Event, Next, NoteLevel, PoolShape};
use crate::model::outcome::{Outcome, ResourceLimit, Stop, TimeLimit};
use crate::model::task::{Skip, Task, When};
use crate::model::unit::{Bytes, Percent, whole_micros};
use crate::probe::machine::Reading;

/// What is measured of a task nobody knows counts as so many percent of what it will have at the next sample: at 85 % of
/// the ceiling the youngest is put back. A task that has shown what it takes counts as that.
const UNKNOWN_PERCENT: u64 = 85;
/// Credit of CPU time an attempt may save up, as time at its full rate: how long a burst may be.
const CPU_BURST: Duration = Duration::from_millis(500);
/// Attempts that a memory shortage put back this often run without being put back again.
const REQUEUES_MAX: u32 = 8;
/// Where no process is to be had although nothing runs: until the next try, longer than apm keeps idle threads, which
/// count as processes of the user.
const BUSY_WAIT: Duration = Duration::from_millis(1500);

/// What the scheduler is told once.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) shape: PoolShape,
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
    pub(crate) halt: Option<Halt>,
    /// End of the whole run.
    pub(crate) deadline: Option<Duration>,
    /// How much earlier than needed a task with a deadline presses, as a share of its duration.
    pub(crate) deadline_buffer: Percent,
}

/// Limits that are kept by looking at the process tree.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Polled {
    pub(crate) memory: bool,
    pub(crate) cpu: bool,
    pub(crate) processes: bool,
}

/// When results end the run early.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Halt {
    /// Stop what runs, or let it end.
    pub(crate) now: bool,
    pub(crate) on: HaltOn,
    pub(crate) count: HaltCount,
}

/// Which results count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HaltOn {
    Fail,
    Success,
    Done,
}

/// How many of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum HaltCount {
    Number(u64),
    /// Of the tasks known, and at least three.
    Share(Percent),
}

/// What can happen to the scheduler.
#[derive(Debug)]
pub(crate) enum Input {
    /// Time passed.
    Tick,
    /// For so long, until now, nobody looked: apm was stopped (Ctrl-Z), or with all around it (a frozen container).
    StoodStill(Duration),
    /// No more tasks will be added.
    Closed,
    /// An attempt ended.
    Finished(Ix, Box<Attempted>),
    /// Running attempts and the machine were looked at.
    Sampled { trees: Vec<(Ix, Tree)>, reading: Reading },
    /// Whoever takes the results is too far behind to take more, or not any more.
    Behind(bool),
    /// The run is to end: what runs gets TERM, then KILL.
    Stop(Stop),
    /// The run is to end at once.
    Kill(Stop),
}

/// A running attempt as sampled.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tree {
    pub(crate) memory: Bytes,
    pub(crate) cpu_time: Duration,
    pub(crate) processes: u32,
    pub(crate) threads: u32,
    /// Time since its last byte of output.
    pub(crate) silent: Duration,
}

/// What `dispatch` is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Start { ix: Ix, attempt: u32, slot: u32 },
    Term(Ix),
    Kill(Ix),
    Pause(Ix),
    Resume(Ix),
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

#[derive(Debug)]
enum State {
    /// For its needs.
    Waiting,
    /// In the queue.
    Queued,
    /// Ready, but another task holds one of its locks.
    Locked,
    /// For the end of a back-off.
    Delayed,
    Running(Box<Running>),
    Done,
}

#[derive(Debug)]
struct Running {
    attempt: u32,
    slot: u32,
    started: Duration,
    verdict: Option<Verdict>,
    tree: Tree,
    peak: Bytes,
    processes_peak: u32,
    /// CPU time it may still use before it is paused; negative when it owes. Microseconds.
    cpu_credit_us: i64,
    paused: bool,
    sampled: Duration,
}

/// Why the scheduler ended an attempt.
#[derive(Clone, Debug)]
enum Verdict {
    TimedOut(TimeLimit),
    Over(ResourceLimit),
    Cancelled(Stop),
    Requeued(String),
}

#[derive(Debug)]
struct Node {
    task: Arc<Task>,
    key: String,
    state: State,
    /// Needs that have not ended.
    open: u32,
    /// The first need that did not end well.
    bad_need: Option<Ix>,
    /// A need said no or was broken.
    failed_need: bool,
    attempts: u32,
    failures: u32,
    requeues: u32,
    waits: u32,
    path_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Wall(Ix, u32),
    Kill(Ix, u32),
    Retry(Ix),
    Deadline,
}

/// The scheduler.
#[derive(Debug)]
pub(crate) struct Scheduler {
    setup: Setup,
    graph: Graph,
    nodes: Vec<Node>,
    queue: Queue,
    pool: Pool,
    running: Vec<Ix>,
    /// Locks that are held, and who waits for which.
    locks: HashSet<String>,
    lock_waiters: HashMap<String, Vec<Ix>>,
    timers: BinaryHeap<Reverse<(Duration, Timer)>>,
    history: History,
    reading: Reading,
    /// Added, not yet looked at.
    fresh: std::collections::VecDeque<Ix>,
    closed: bool,
    stop: Option<Stop>,
    held: bool,
    behind: bool,
    /// After attempts were put back for memory: nothing starts before something ends.
    memory_settles: bool,
    /// When two attempts last ran together.
    shared_at: Option<Duration>,
    cpu_credit_us: i64,
    all_paused: bool,
    sampled: Duration,
    sample_event_at: Duration,
    /// End of the last time in which nobody looked.
    stood_until: Duration,
    open_tasks: usize,
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
            setup,
            graph: Graph::default(),
            nodes: Vec::new(),
            queue: Queue::default(),
            running: Vec::new(),
            locks: HashSet::new(),
            lock_waiters: HashMap::new(),
            timers,
            history,
            reading: Reading::default(),
            fresh: std::collections::VecDeque::new(),
            closed: false,
            stop: None,
            held: false,
            behind: false,
            memory_settles: false,
            shared_at: None,
            cpu_credit_us: 0,
            all_paused: false,
            sampled: Duration::ZERO,
            sample_event_at: Duration::ZERO,
            stood_until: Duration::ZERO,
            open_tasks: 0,
            tally: BTreeMap::new(),
            figures: Figures::default(),
            seed,
        }
    }

    /// What the machine says before anything starts: without it the first starts would be blind.
    pub(crate) fn first_reading(&mut self, reading: Reading) {
        self.reading = reading;
    }

    /// Adds tasks. They are looked at with the next input.
    pub(crate) fn add(&mut self, tasks: Vec<Arc<Task>>) -> Result<(), GraphError> {
        let range = self.graph.add(&tasks)?;
        let linked = tasks.iter().any(|task| !task.needs.is_empty());
        for (task, ix) in tasks.into_iter().zip(range.clone()) {
            let key = history::key_of(&task);
            let path_us = self.estimate_us(&key);
            let open = self
                .graph
                .needs(ix)
                .iter()
                .filter(|need| self.nodes.get(**need as usize).is_none_or(|n| !matches!(n.state, State::Done)))
                .count() as u32;
            self.nodes.push(Node {
                task,
                key,
                state: State::Waiting,
                open,
                bad_need: None,
                failed_need: false,
                attempts: 0,
                failures: 0,
                requeues: 0,
                waits: 0,
                path_us,
            });
        }
        if linked {
            let ranks = self.graph.ranks(|ix| self.estimate_us(&self.nodes[ix as usize].key));
            for (node, rank) in self.nodes.iter_mut().zip(ranks) {
                node.path_us = rank;
            }
        }
        self.open_tasks += range.len();
        self.fresh.extend(range);
        Ok(())
    }

    /// Takes over what an earlier part of the run recorded. Call after `add`, before the first input.
    pub(crate) fn restore(&mut self, restored: Vec<Restored>) {
        for Restored { ix, attempts, outcome } in restored {
            self.nodes[ix as usize].attempts = attempts;
            if let Some(outcome) = outcome {
                self.mark_done(ix, outcome);
            }
        }
    }

    /// Adds one input and says what follows.
    pub(crate) fn step(&mut self, now: Duration, input: Input, out: &mut Step) {
        match input {
            Input::Tick => {}
            Input::StoodStill(time) => self.stood_still(now, time),
            Input::Closed => self.closed = true,
            Input::Finished(ix, attempted) => self.finished(now, ix, *attempted, out),
            Input::Sampled { trees, reading } => self.sampled(now, &trees, reading, out),
            Input::Behind(behind) => self.behind = behind,
            Input::Stop(stop) => self.begin_stop(now, stop, true, out),
            Input::Kill(stop) => {
                self.begin_stop(now, stop.clone(), false, out);
                for &ix in &self.running {
                    if let State::Running(running) = &mut self.nodes[ix as usize].state {
                        running.verdict.get_or_insert(Verdict::Cancelled(stop.clone()));
                    }
                    out.actions.push(Action::Kill(ix));
                }
            }
        }
        self.fire_timers(now, out);
        self.pump(now, out);
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_over(&self) -> bool {
        self.running.is_empty() && self.open_tasks == 0 && (self.closed || self.stop.is_some())
    }

    /// When `step` has to be called again at the latest, apart from sampling.
    pub(crate) fn next_wake(&self) -> Option<Duration> {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let shrink = self.pool.next_shrink().filter(|_| self.stop.is_none());
        timer.into_iter().chain(shrink).min()
    }

    /// Attempts that run.
    pub(crate) fn running(&self) -> &[Ix] {
        &self.running
    }

    /// Tasks that wait for a slot; the source of tasks is read while this is below the bound of the queue.
    pub(crate) fn backlog(&self) -> usize {
        self.queue.len() + self.fresh.len()
    }

    /// The task itself.
    pub(crate) fn task(&self, ix: Ix) -> &Arc<Task> {
        &self.nodes[ix as usize].task
    }

    /// When the current attempt started.
    pub(crate) fn started(&self, ix: Ix) -> Option<Duration> {
        match &self.nodes[ix as usize].state {
            State::Running(running) => Some(running.started),
            _ => None,
        }
    }

    /// What was learned, to be kept for the next run.
    pub(crate) fn history(&self) -> &History {
        &self.history
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

    /// Memory to set aside for a task: what it took before, else its limit, else its share of the ceiling or what others
    /// of its kind are seen to take already.
    fn expected_memory(&self, ix: Ix) -> Bytes {
        let node = &self.nodes[ix as usize];
        let limit = node.task.limits.memory;
        let learned = self.history.finished_peak(&node.key).map(|peak| limit.map_or(peak, |limit| peak.min(limit)));
        let share = self.setup.bounds.memory_ceiling.map(|c| Bytes(c.0 / u64::from(self.setup.shape.max.max(1))));
        learned.or(limit).or(self.history.peak(&node.key).max(share)).unwrap_or_default()
    }

    /// Memory that a running task may have at the next sample.
    fn memory_soon(&self, ix: Ix) -> u64 {
        let now = self.memory_of(ix);
        let node = &self.nodes[ix as usize];
        match self.history.finished_peak(&node.key) {
            Some(peak) => now.max(peak.0.min(node.task.limits.memory.map_or(u64::MAX, |limit| limit.0))),
            None => now / UNKNOWN_PERCENT * 100,
        }
    }

    fn load(&self) -> Load {
        let mut load = Load { running: self.running.len() as u32, ..Load::default() };
        for &ix in &self.running {
            if let State::Running(running) = &self.nodes[ix as usize].state {
                load.measured.0 += running.tree.memory.0;
                load.committed.0 += running.tree.memory.0.max(self.expected_memory(ix).0);
            }
        }
        load
    }

    /// Starts what can start.
    fn pump(&mut self, now: Duration, out: &mut Step) {
        while let Some(ix) = self.fresh.pop_front() {
            let node = &self.nodes[ix as usize];
            if !matches!(node.state, State::Waiting) {
                continue;
            }
            if let Some(stop) = self.stop.clone().filter(|_| !self.may_start(ix)) {
                self.end(ix, Outcome::Cancelled { by: stop }, out);
            } else if let Some(reason) = node.task.skip.clone() {
                self.end(ix, Outcome::Skipped { reason }, out);
            } else {
                self.consider(now, ix, out);
            }
        }
        self.figures.queue_max = self.figures.queue_max.max(self.queue.len() as u32);
        if self.stop.is_some() && self.queue.len() == 0 {
            return;
        }
        if let Some(resize) = self.pool.shrink(now) {
            out.events.push(resized(resize));
        }
        self.start_ready(now, out);
        let busy = self.reading.cpu_busy;
        let idle = self.setup.grow_below.is_none_or(|most| busy.is_some_and(|busy| busy.0 < most.0));
        if !self.held
            && idle
            && let Some(resize) = self.pool.grow(now, self.queue.len(), self.setup.interval)
        {
            out.events.push(resized(resize));
            self.start_ready(now, out);
        }
    }

    /// Starts ready tasks while there is a slot for them and the machine has room.
    fn start_ready(&mut self, now: Duration, out: &mut Step) {
        while self.pool.has_room() {
            let Some(ix) = self.queue.first(now) else { break };
            if let Some(lock) = self.held_lock(ix) {
                self.queue.remove(ix);
                self.nodes[ix as usize].state = State::Locked;
                self.lock_waiters.entry(lock).or_default().push(ix);
                // It may have been woken for another of its locks: that one is free for the next.
                let task = Arc::clone(&self.nodes[ix as usize].task);
                task.locks.iter().for_each(|lock| self.wake_one(lock));
                continue;
            }
            if let Some(reason) = self.hold(ix) {
                if !self.held {
                    self.held = true;
                    out.events.push(Event::AdmissionChanged { reason });
                }
                break;
            }
            if self.held {
                self.held = false;
                out.events.push(Event::AdmissionChanged { reason: String::new() });
            }
            self.queue.remove(ix);
            self.start(now, ix, out);
        }
    }

    fn hold(&self, ix: Ix) -> Option<String> {
        if self.memory_settles && !self.running.is_empty() {
            return Some("memory: waiting for a running task to end after others were put back".to_owned());
        }
        if self.behind {
            return Some("output: its reader is behind".to_owned());
        }
        if self.running.is_empty() {
            return None;
        }
        admit::hold(&self.setup.bounds, &self.reading, &self.load(), self.expected_memory(ix))
    }

    fn start(&mut self, now: Duration, ix: Ix, out: &mut Step) {
        let Some(slot) = self.pool.take() else { return };
        let node = &mut self.nodes[ix as usize];
        node.attempts += 1;
        let attempt = node.attempts;
        node.state = State::Running(Box::new(Running {
            attempt,
            slot,
            started: now,
            verdict: None,
            tree: Tree::default(),
            peak: Bytes(0),
            processes_peak: 0,
            cpu_credit_us: 0,
            paused: false,
            sampled: now,
        }));
        self.locks.extend(node.task.locks.iter().cloned());
        if let Some(timeout) = node.task.limits.timeout {
            self.timers.push(Reverse((now + timeout, Timer::Wall(ix, attempt))));
        }
        let task = node.task.id.clone();
        if !self.running.is_empty() {
            self.shared_at = Some(now);
        }
        self.running.push(ix);
        self.figures.running_max = self.figures.running_max.max(self.running.len() as u32);
        out.events.push(Event::AttemptStarted { task, attempt, slot });
        out.actions.push(Action::Start { ix, attempt, slot });
    }

    fn held_lock(&self, ix: Ix) -> Option<String> {
        self.nodes[ix as usize].task.locks.iter().find(|lock| self.locks.contains(*lock)).cloned()
    }

    fn rank(&self, ix: Ix) -> Rank {
        let node = &self.nodes[ix as usize];
        let latest_start = node.task.deadline.map(|deadline| {
            let needed = Duration::from_micros(self.estimate_us(&node.key));
            deadline.saturating_sub(needed.mul_f64(1.0 + self.setup.deadline_buffer.0.max(0.0) / 100.0))
        });
        Rank { priority: node.task.priority, path: node.path_us, latest_start }
    }

    /// Queues a task whose needs have ended, or ends it.
    fn consider(&mut self, now: Duration, ix: Ix, out: &mut Step) {
        let node = &self.nodes[ix as usize];
        let verdict = match (node.task.when, node.bad_need) {
            (When::Success, Some(need)) => Some(Skip::Need { task: self.nodes[need as usize].task.id.clone() }),
            _ if node.open > 0 => return,
            (When::Success | When::Always, _) => None,
            (When::Failure, _) => (!node.failed_need).then_some(Skip::NothingFailed),
        };
        if let Some(reason) = verdict {
            self.end(ix, Outcome::Skipped { reason }, out);
            return;
        }
        self.warn_of_lateness(now, ix, out);
        self.nodes[ix as usize].state = State::Queued;
        self.queue.push(ix, self.rank(ix));
    }

    fn warn_of_lateness(&self, now: Duration, ix: Ix, out: &mut Step) {
        let node = &self.nodes[ix as usize];
        let (Some(deadline), Some(expected)) = (node.task.deadline, self.history.duration(&node.key)) else {
            return;
        };
        if now + expected > deadline {
            let late = whole_micros(now + expected - deadline);
            out.events.push(Event::DeadlineAtRisk { task: node.task.id.clone(), late, missed: false });
        }
    }

    /// Ends a task that has no attempt running.
    fn end(&mut self, ix: Ix, outcome: Outcome, out: &mut Step) {
        let task = self.nodes[ix as usize].task.id.clone();
        out.events.push(Event::TaskEnded { task, outcome: outcome.clone() });
        self.mark_done(ix, outcome);
        self.release_dependents(ix);
    }

    fn mark_done(&mut self, ix: Ix, outcome: Outcome) {
        *self.tally.entry(outcome.word()).or_default() += 1;
        let bad = !outcome.is_good();
        let failed = outcome.is_failure() || matches!(outcome, Outcome::Broken { .. });
        self.nodes[ix as usize].state = State::Done;
        self.open_tasks -= 1;
        for at in 0..self.graph.dependents(ix).len() {
            let dependent = self.graph.dependents(ix)[at];
            if let Some(node) = self.nodes.get_mut(dependent as usize) {
                node.open -= 1;
                node.bad_need = node.bad_need.or(bad.then_some(ix));
                node.failed_need |= failed;
            }
        }
    }

    /// Looks at what waited for a task. Iterative through `fresh`: a chain of 100,000 skips must not recurse.
    fn release_dependents(&mut self, ix: Ix) {
        for &dependent in self.graph.dependents(ix) {
            if matches!(self.nodes[dependent as usize].state, State::Waiting) {
                self.fresh.push_back(dependent);
            }
        }
    }

    fn finished(&mut self, now: Duration, ix: Ix, attempted: Attempted, out: &mut Step) {
        let may_start = self.may_start(ix);
        let node = &mut self.nodes[ix as usize];
        let State::Running(running) = std::mem::replace(&mut node.state, State::Waiting) else {
            return;
        };
        self.running.retain(|other| *other != ix);
        self.pool.give(now, running.slot);
        self.memory_settles = false;

        let mut attempted = attempted;
        let usage = &mut attempted.usage;
        usage.memory_peak = usage.memory_peak.max(running.peak);
        usage.processes_peak = usage.processes_peak.max(running.processes_peak);
        let node = &mut self.nodes[ix as usize];
        let ceiling = self.setup.bounds.memory_ceiling;
        let was_alone = self.running.is_empty();
        if !was_alone {
            self.shared_at = Some(now);
        }
        let had_company = self.shared_at.is_some_and(|at| running.started <= at);
        let chance = Chance { was_alone, had_company, requeues: node.requeues, waits: node.waits };
        let (outcome, requeue) = conclude(running.verdict, &attempted, &node.task, ceiling, chance);

        if requeue.is_none() && attempted.exit.is_some() && !matches!(outcome, Outcome::Cancelled { .. }) {
            self.history.learn(&node.key, attempted.usage.wall, attempted.usage.memory_peak);
        }

        let next = if let Some(reason) = requeue.filter(|_| may_start) {
            if attempted.busy && was_alone {
                node.waits += 1;
                Next::Retry { delay: BUSY_WAIT }
            } else {
                node.requeues += 1;
                self.memory_settles = true;
                Next::Requeue { reason }
            }
        } else {
            if outcome.is_failure() {
                node.failures += 1;
            }
            self.seed = xorshift(self.seed);
            let random = (self.seed >> 11) as f64 / (1u64 << 53) as f64;
            match retry::next_delay(&node.task.retry, node.failures, &outcome, random) {
                Some(delay) if may_start => Next::Retry { delay: whole_micros(delay) },
                _ if outcome.is_good() && node.failures > 0 => {
                    Next::Done { outcome: Outcome::Flaky { attempts: node.failures + 1 } }
                }
                _ => Next::Done { outcome: outcome.clone() },
            }
        };
        let task = node.task.clone();
        out.events.push(Event::AttemptFinished(Box::new(AttemptFinished {
            task: task.id.clone(),
            attempt: running.attempt,
            outcome,
            next: next.clone(),
            exit: attempted.exit,
            usage: attempted.usage,
            stdout: attempted.stdout,
            stderr: attempted.stderr,
            counts: attempted.counts,
            results: attempted.results,
            leaked: attempted.leaked,
            inputs_digest: attempted.inputs_digest,
        })));
        for text in attempted.notes {
            out.events.push(Event::Noted { level: NoteLevel::Warning, text });
        }
        self.release_locks(&task);
        match next {
            Next::Requeue { .. } => {
                self.nodes[ix as usize].state = State::Queued;
                self.queue.push(ix, self.rank(ix));
            }
            Next::Retry { delay } => {
                self.nodes[ix as usize].state = State::Delayed;
                self.timers.push(Reverse((now + delay, Timer::Retry(ix))));
            }
            Next::Done { outcome } => {
                if let Some(late) = task.deadline.and_then(|d| now.checked_sub(d)).filter(|late| !late.is_zero()) {
                    let late = whole_micros(late);
                    out.events.push(Event::DeadlineAtRisk { task: task.id.clone(), late, missed: true });
                }
                self.mark_done(ix, outcome);
                self.release_dependents(ix);
                self.check_halt(now, out);
            }
        }
    }

    fn release_locks(&mut self, task: &Task) {
        for lock in &task.locks {
            self.locks.remove(lock);
            self.wake_one(lock);
        }
    }

    /// Queues the first of those who wait for a lock that is free. One is enough: it will take the lock.
    fn wake_one(&mut self, lock: &str) {
        let Some(waiters) = self.lock_waiters.get_mut(lock).filter(|_| !self.locks.contains(lock)) else { return };
        let nodes = &self.nodes;
        let best = (0..waiters.len()).max_by_key(|at| {
            let ix = waiters[*at];
            let node = &nodes[ix as usize];
            (node.task.priority, node.path_us, Reverse(ix))
        });
        let Some(best) = best else { return };
        let ix = waiters.swap_remove(best);
        self.nodes[ix as usize].state = State::Queued;
        self.queue.push(ix, self.rank(ix));
    }

    fn check_halt(&mut self, now: Duration, out: &mut Step) {
        let Some(halt) = self.setup.halt else { return };
        let count = |words: &[&str]| words.iter().filter_map(|word| self.tally.get(word)).sum::<u64>();
        let failed = count(&["failed", "timed out", "over limit", "broken"]);
        let passed = count(&["passed", "flaky"]);
        let reached = match halt.on {
            HaltOn::Fail => failed,
            HaltOn::Success => passed,
            HaltOn::Done => failed + passed,
        };
        let hit = match halt.count {
            HaltCount::Number(number) => reached >= number,
            HaltCount::Share(share) => {
                let total = self.nodes.len() as f64;
                reached >= 3 && reached as f64 >= total * share.0 / 100.0
            }
        };
        if hit {
            self.begin_stop(now, Stop::Failure, halt.now, out);
        }
    }

    /// Whether a task may have another attempt. After a failure that stops the run only what cleans up may.
    fn may_start(&self, ix: Ix) -> bool {
        let task = &self.nodes[ix as usize].task;
        match &self.stop {
            None => true,
            Some(Stop::Failure) => task.when != When::Success && !task.needs.is_empty(),
            Some(_) => false,
        }
    }

    /// No new attempts; what waits is cancelled, what runs gets TERM (and KILL after its grace) if `end_running`. What
    /// cleans up after others outlives a failure, as that is what it is for, but nothing else that ends the run.
    fn begin_stop(&mut self, now: Duration, stop: Stop, end_running: bool, out: &mut Step) {
        if self.stop.is_none() || (self.stop == Some(Stop::Failure) && stop != Stop::Failure) {
            self.stop = Some(stop.clone());
            out.events.push(Event::Stopping { stop: stop.clone() });
            for ix in self.queue.drain() {
                if self.may_start(ix) {
                    self.queue.push(ix, self.rank(ix));
                }
            }
            let mut waiters = std::mem::take(&mut self.lock_waiters);
            waiters.values_mut().for_each(|waiters| waiters.retain(|ix| self.may_start(*ix)));
            self.lock_waiters = waiters;
            for ix in 0..self.nodes.len() as Ix {
                let over = matches!(self.nodes[ix as usize].state, State::Running(_) | State::Done);
                if !over && !self.may_start(ix) {
                    self.end(ix, Outcome::Cancelled { by: stop.clone() }, out);
                }
            }
        }
        if end_running {
            for ix in self.running.clone() {
                if !self.may_start(ix) {
                    self.end_attempt(now, ix, Verdict::Cancelled(stop.clone()), true, out);
                }
            }
        }
    }

    /// Ends a running attempt for a reason; the first reason stands.
    fn end_attempt(&mut self, now: Duration, ix: Ix, verdict: Verdict, gently: bool, out: &mut Step) {
        let grace = self.nodes[ix as usize].task.limits.grace.unwrap_or(self.setup.grace);
        let State::Running(running) = &mut self.nodes[ix as usize].state else {
            return;
        };
        if running.verdict.is_some() {
            return;
        }
        running.verdict = Some(verdict);
        if running.paused {
            running.paused = false;
            out.actions.push(Action::Resume(ix));
        }
        if gently && !grace.is_zero() {
            out.actions.push(Action::Term(ix));
            self.timers.push(Reverse((now + grace, Timer::Kill(ix, running.attempt))));
        } else {
            out.actions.push(Action::Kill(ix));
        }
    }

    fn fire_timers(&mut self, now: Duration, out: &mut Step) {
        while let Some(Reverse((at, timer))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            match timer {
                Timer::Wall(ix, attempt) if self.is_running(ix, attempt) => {
                    let limit = self.nodes[ix as usize].task.limits.timeout.unwrap_or_default();
                    self.end_attempt(now, ix, Verdict::TimedOut(TimeLimit::Wall { limit }), true, out);
                }
                Timer::Kill(ix, attempt) if self.is_running(ix, attempt) => out.actions.push(Action::Kill(ix)),
                Timer::Retry(ix) if matches!(self.nodes[ix as usize].state, State::Delayed) => {
                    self.nodes[ix as usize].state = State::Queued;
                    self.queue.push(ix, self.rank(ix));
                }
                Timer::Deadline => self.begin_stop(now, Stop::Deadline, true, out),
                Timer::Wall(..) | Timer::Kill(..) | Timer::Retry(_) => {}
            }
        }
    }

    /// Time in which nobody looked counts for no limit: attempts may have stood still too, and what they wrote was not
    /// taken. The deadline of the run is one of the clock.
    fn stood_still(&mut self, now: Duration, time: Duration) {
        self.stood_until = now;
        let later = |Reverse((at, timer))| match timer {
            Timer::Wall(..) | Timer::Kill(..) => Reverse((at + time, timer)),
            Timer::Retry(_) | Timer::Deadline => Reverse((at, timer)),
        };
        self.timers = std::mem::take(&mut self.timers).into_iter().map(later).collect();
    }

    fn is_running(&self, ix: Ix, attempt: u32) -> bool {
        matches!(&self.nodes[ix as usize].state, State::Running(running) if running.attempt == attempt)
    }

    fn sampled(&mut self, now: Duration, trees: &[(Ix, Tree)], reading: Reading, out: &mut Step) {
        self.reading = reading;
        let mut total = Tree::default();
        let mut cpu_spent = Duration::ZERO;
        for (ix, tree) in trees {
            let node = &mut self.nodes[*ix as usize];
            let State::Running(running) = &mut node.state else {
                continue;
            };
            let spent = tree.cpu_time.saturating_sub(running.tree.cpu_time);
            let elapsed = now.saturating_sub(running.sampled);
            running.sampled = now;
            cpu_spent += spent;
            total.memory.0 += tree.memory.0;
            total.processes += tree.processes;
            running.tree = *tree;
            running.peak = running.peak.max(tree.memory);
            running.processes_peak = running.processes_peak.max(tree.processes);
            if let Some(limit) = node.task.limits.cpu.filter(|_| self.setup.polled.cpu) {
                running.cpu_credit_us = refill(running.cpu_credit_us, limit, elapsed, spent);
            }
            let peak = running.peak;
            self.history.raise_peak(&node.key, peak);
            if let Some(verdict) =
                over_limit(&node.task, running, self.setup.polled, now.saturating_sub(self.stood_until))
            {
                let gently = matches!(verdict, Verdict::TimedOut(_));
                self.end_attempt(now, *ix, verdict, gently, out);
            }
        }
        let elapsed = now.saturating_sub(self.sampled);
        self.sampled = now;
        self.throttle(elapsed, cpu_spent, out);
        self.keep_ceiling(now, out);
        if now >= self.sample_event_at && !trees.is_empty() {
            // Dense at first, sparser as the run goes on: a report needs a few hundred points, a day must not give a million.
            self.sample_event_at = now + self.setup.interval.max(now / 300);
            let rate = 100.0 * cpu_spent.as_secs_f64() / elapsed.as_secs_f64().max(0.001);
            out.events.push(Event::Sampled {
                running: self.running.len() as u32,
                queued: self.queue.len() as u32,
                memory: total.memory,
                cpu: Percent(rate.round()),
                processes: total.processes,
            });
        }
    }

    /// Pauses and resumes attempts so that their CPU rate stays under their limit and the run's under its ceiling.
    fn throttle(&mut self, elapsed: Duration, spent: Duration, out: &mut Step) {
        if let Some(ceiling) = self.setup.cpu_ceiling_polled {
            self.cpu_credit_us = refill(self.cpu_credit_us, ceiling, elapsed, spent);
            self.all_paused = self.cpu_credit_us < 0;
        }
        for &ix in &self.running {
            let State::Running(running) = &mut self.nodes[ix as usize].state else {
                continue;
            };
            let pause = running.verdict.is_none() && (self.all_paused || running.cpu_credit_us < 0);
            if pause != running.paused {
                running.paused = pause;
                out.actions.push(if pause { Action::Pause(ix) } else { Action::Resume(ix) });
            }
        }
    }

    /// Puts the youngest attempts back while the run is close to its memory ceiling; the oldest goes on, so that
    /// something always gets done.
    fn keep_ceiling(&mut self, now: Duration, out: &mut Step) {
        let Some(ceiling) = self.setup.bounds.memory_ceiling else {
            return;
        };
        let mut alive: Vec<(Duration, Ix)> = self
            .running
            .iter()
            .filter_map(|ix| match &self.nodes[*ix as usize].state {
                State::Running(running) if running.verdict.is_none() => Some((running.started, *ix)),
                _ => None,
            })
            .collect();
        alive.sort_unstable();
        // What is being ended will free its memory.
        let sum = |of: &dyn Fn(Ix) -> u64| alive.iter().map(|(_, ix)| of(*ix)).sum::<u64>();
        let (mut memory, mut soon) = (sum(&|ix| self.memory_of(ix)), sum(&|ix| self.memory_soon(ix)));
        while soon > ceiling.0 && alive.len() > 1 {
            let Some((_, ix)) = alive.pop() else { break };
            if self.nodes[ix as usize].requeues >= REQUEUES_MAX {
                continue;
            }
            let reason = format!("memory: {} used by the run, ceiling {ceiling}", Bytes(memory));
            memory = memory.saturating_sub(self.memory_of(ix));
            soon = soon.saturating_sub(self.memory_soon(ix));
            self.memory_settles = true;
            self.end_attempt(now, ix, Verdict::Requeued(reason), false, out);
        }
        if memory > ceiling.0
            && let [(_, ix)] = alive[..]
        {
            let limit = ResourceLimit::Memory { limit: ceiling, peak: Bytes(memory) };
            self.end_attempt(now, ix, Verdict::Over(limit), false, out);
        }
    }

    fn memory_of(&self, ix: Ix) -> u64 {
        match &self.nodes[ix as usize].state {
            State::Running(running) => running.tree.memory.0,
            _ => 0,
        }
    }
}

fn resized(resize: Resize) -> Event {
    Event::PoolResized { from: resize.from, to: resize.to, reason: resize.reason }
}

/// A token bucket in microseconds of CPU time.
fn refill(credit_us: i64, limit: Percent, elapsed: Duration, spent: Duration) -> i64 {
    let rate = limit.0 / 100.0;
    let earned = (elapsed.as_micros() as f64 * rate) as i64;
    let burst = (CPU_BURST.as_micros() as f64 * rate) as i64;
    credit_us.saturating_add(earned).saturating_sub(spent.as_micros() as i64).min(burst)
}

/// `looked`: since when its output has been taken as it came.
fn over_limit(task: &Task, running: &Running, polled: Polled, looked: Duration) -> Option<Verdict> {
    let limits = &task.limits;
    let tree = &running.tree;
    if let Some(limit) = limits.memory.filter(|limit| polled.memory && tree.memory > *limit) {
        return Some(Verdict::Over(ResourceLimit::Memory { limit, peak: tree.memory }));
    }
    // Threads, as a control group counts.
    if let Some(limit) = limits.processes.filter(|limit| polled.processes && u64::from(tree.threads) > *limit) {
        return Some(Verdict::Over(ResourceLimit::Processes { limit, peak: u64::from(tree.threads) }));
    }
    if let Some(limit) = limits.cpu_time.filter(|limit| tree.cpu_time > *limit) {
        return Some(Verdict::Over(ResourceLimit::CpuTime { limit, used: tree.cpu_time }));
    }
    if let Some(limit) = limits.idle_timeout.filter(|limit| tree.silent.min(looked) > *limit && !running.paused) {
        return Some(Verdict::TimedOut(TimeLimit::Idle { limit }));
    }
    None
}

/// Whether another try could end otherwise.
struct Chance {
    /// Nothing else ran when it ended: what it lacked nobody else had.
    was_alone: bool,
    /// Something else ran at some time of it: what the kernel counted at a ceiling need not have been its own.
    had_company: bool,
    /// Times it was put back.
    requeues: u32,
    /// Times it waited for a process although nothing ran.
    waits: u32,
}

/// How an attempt ended, and whether it goes back into the queue.
fn conclude(
    verdict: Option<Verdict>,
    attempted: &Attempted,
    task: &Task,
    ceiling: Option<Bytes>,
    Chance { was_alone, had_company, requeues, waits }: Chance,
) -> (Outcome, Option<String>) {
    let peak = attempted.usage.memory_peak;
    match verdict {
        // It had ended before its time was up or the run, and only nobody had looked yet.
        Some(Verdict::TimedOut(_) | Verdict::Cancelled(_)) if attempted.by_itself => {}
        Some(Verdict::TimedOut(limit)) => return (Outcome::TimedOut { limit }, None),
        Some(Verdict::Over(limit)) => return (Outcome::OverLimit { limit }, None),
        Some(Verdict::Cancelled(by)) => return (Outcome::Cancelled { by }, None),
        // It may have ended by itself before the signal came: then its own result stands.
        Some(Verdict::Requeued(reason)) if !matches!(attempted.exit, Some(crate::model::event::Exit::Code(_))) => {
            return (Outcome::Cancelled { by: Stop::Fault { error: reason.clone() } }, Some(reason));
        }
        Some(Verdict::Requeued(_)) | None => {}
    }
    if let Some(error) = &attempted.broken {
        let requeue = (attempted.busy && (!was_alone || waits < REQUEUES_MAX)).then(|| error.clone());
        return (Outcome::Broken { error: error.clone() }, requeue);
    }
    let failed = attempted.exit.is_some_and(|exit| !exit.outcome().is_good());
    if failed && attempted.oom_kills > 0 {
        return match (task.limits.memory, ceiling) {
            (Some(limit), _) => (Outcome::OverLimit { limit: ResourceLimit::Memory { limit, peak } }, None),
            (None, Some(limit)) if !had_company => {
                (Outcome::OverLimit { limit: ResourceLimit::Memory { limit, peak } }, None)
            }
            // The kernel chose it among several, too often to be chance.
            (None, Some(limit)) if requeues >= REQUEUES_MAX => {
                (Outcome::OverLimit { limit: ResourceLimit::Memory { limit, peak } }, None)
            }
            (None, Some(limit)) => {
                let reason = format!("memory: the kernel ended it at the ceiling of {limit}");
                (Outcome::Cancelled { by: Stop::Fault { error: reason.clone() } }, Some(reason))
            }
            (None, None) => (attempted.judged(), None),
        };
    }
    if let Some(limit) = task.limits.processes.filter(|_| failed && attempted.forks_refused > 0) {
        let limit = ResourceLimit::Processes { limit, peak: limit.saturating_add(attempted.forks_refused) };
        return (Outcome::OverLimit { limit }, None);
    }
    (attempted.judged(), None)
}

fn xorshift(mut x: u64) -> u64 {
    x |= 1;
    x ^= x << 13;
    x ^= x >> 7;
    x ^ (x << 17)
}
