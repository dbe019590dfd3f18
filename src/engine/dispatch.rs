//! The one owner of a run: it feeds the scheduler, numbers every event, hands the events to the observer (journal first)
//! and only then performs the actions. Knows no sink, no file and no process.
//!
//! The state lies behind one lock, and whoever has news steps it: a thread whose attempt has ended enters, and leaves
//! with the attempt to make next. Sending the news to a thread of its own, and the next attempt to a third, costs two
//! more switches of threads for each task: measured 1.5 times the wall time of no-op tasks instead of 1.1. Signals,
//! time, tasks of a source and live output come through `run`; changes from outside through [`RunHandle`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};

use crate::engine::history::History;
use crate::engine::live::{LiveOutput, Piece};
use crate::engine::plan::{Arrival, Change, Planner, Source};
use crate::engine::scheduler::{Action, BadNeeds, Figures, Input, Scheduler, Step};
use crate::engine::signals::Signals;
use crate::executor::{Executor, Executors, Job, Owner};
use crate::model::attempt::{AttemptId, AttemptResult, End, TreeUsage};
use crate::model::edit::{Edit, Origin};
use crate::model::event::{Envelope, Event, VERSION};
use crate::model::id::TaskId;
use crate::model::outcome::Stop;
use crate::model::task::Task;
use crate::model::unit::{Bytes, whole_micros};
use crate::model::waiting::WaitingTask;
use crate::probe::Roots;
use crate::probe::machine::{self, Meter, Reading};

/// Messages taken from the buffer in one go: bounds the time between two looks at signals.
const BATCH_MAX: usize = 256;
/// Between two steps of the scheduler, more than the interval by this much: apm stood still. Less may be a busy machine.
const CLOCK_GAP: Duration = Duration::from_secs(1);
/// Refused changes that are recorded; somebody who sends them without end shall not fill the disk.
const REFUSALS_MAX: u32 = 100;

/// Who is told what happens.
pub(crate) trait Observer: Send {
    /// Tasks are about to join: what must be kept of them besides their event.
    fn joining(&mut self, tasks: &[Arc<Task>]) -> Result<(), String>;
    /// Takes numbered events. An error ends the run: what is not in the journal must not happen.
    fn events(&mut self, batch: &[Envelope]) -> Result<(), String>;
    /// Takes output as it comes.
    fn live(&mut self, task: &TaskId, stderr: bool, bytes: &[u8]);
    /// Called about every sampling interval.
    fn tick(&mut self);
    /// Whether nobody is left to take the result: the run ends then.
    fn is_closed(&self) -> bool;
    /// Whether somebody who takes the result is so far behind that it should get nothing new.
    fn is_behind(&self) -> bool;
    /// The last events of the run, from how it went.
    fn last(&mut self, end: &EndFacts) -> Vec<Event>;
}

/// The same run from another thread: to follow and to steer it.
pub(crate) trait RunHandle: Send + Sync {
    /// Changes the plan, or says why not.
    fn edit(&self, edit: &Edit, by: &Origin) -> Result<(), String>;
    /// Adds tasks, all of them or none.
    fn add(&self, tasks: Vec<Task>, by: &Origin) -> Result<(), String>;
    /// What every unfinished task waits for.
    fn waiting(&self) -> Vec<WaitingTask>;
    /// The number of the current attempt of a task, and what it has printed from these positions on; nothing where no
    /// attempt of it runs.
    fn live(&self, task: &TaskId, from: [u64; 2]) -> Option<(u32, [Piece; 2])>;
}

/// What a run is given.
pub(crate) struct RunSpec {
    pub(crate) scheduler: Scheduler,
    pub(crate) source: Source,
    pub(crate) executors: Executors,
    pub(crate) roots: Roots,
    pub(crate) meter: Meter,
    /// Sampling and display interval.
    pub(crate) interval: Duration,
    /// Capacity of the buffer for live output.
    pub(crate) buffer: usize,
    /// Output is also given to the observer as it comes.
    pub(crate) live: bool,
    /// Number of the next event, and the time the run has already taken, where it goes on.
    pub(crate) next_seq: u64,
    pub(crate) elapsed: Duration,
    /// Emitted before anything else.
    pub(crate) opening: Vec<Event>,
    pub(crate) signals: Signals,
}

/// How a run went, as its last event tells it.
#[derive(Debug)]
pub(crate) struct EndFacts {
    pub(crate) stop: Option<Stop>,
    pub(crate) figures: Figures,
    pub(crate) buffer_max: usize,
    pub(crate) queue_full: u64,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct RunEnd {
    pub(crate) stop: Option<Stop>,
    /// What was learned.
    pub(crate) history: History,
    /// The run could not be recorded; nothing after it was started.
    pub(crate) fault: Option<String>,
    /// The end of the run could not be recorded.
    pub(crate) unrecorded: Option<String>,
    /// Those that came, and those to come while the result is still being handed over.
    pub(crate) signals: Signals,
}

/// Output as it comes.
#[derive(Debug)]
struct Live {
    id: AttemptId,
    stderr: bool,
    bytes: Vec<u8>,
}

/// What a look at running attempts and at the machine brought.
#[derive(Debug, Default)]
struct MachineSample {
    trees: Vec<(AttemptId, TreeUsage)>,
    reading: Reading,
}

/// Runs until nothing is left to do. Gives the observer back. `attach` is given the way into the run before anything starts.
pub(crate) async fn run<O: Observer + 'static>(
    spec: RunSpec,
    observer: O,
    attach: impl FnOnce(Arc<dyn RunHandle>),
) -> (RunEnd, O) {
    let (sender, messages) = mpsc::channel(spec.buffer.max(1));
    let (sampler, samples) = mpsc::channel(1);
    let mut signals = spec.signals;
    let (mut arrivals, planner) = match spec.source {
        Source::Fixed => (None, None),
        Source::Stream { arrivals, queue_max } => (Some((arrivals, queue_max)), None),
        Source::Planner(planner) => (None, Some(planner)),
    };
    let is_fixed = arrivals.is_none() && planner.is_none();
    let executors = spec.executors;
    let hub = Arc::new(Hub {
        stirred: Notify::new(),
        executors: executors.clone(),
        live: LiveOutput::default(),
        sender: spec.live.then_some(sender),
        state: Mutex::new(Some(State {
            scheduler: spec.scheduler,
            executors: executors.clone(),
            roots: spec.roots,
            meter: Arc::new(spec.meter),
            interval: spec.interval,
            passes_live: spec.live,
            planner,
            observer,
            started: Instant::now(),
            offset: spec.elapsed,
            seq: spec.next_seq,
            messages,
            sampler,
            samples,
            backpressure: false,
            buffer_max: 0,
            sampling: false,
            ticked: Instant::now(),
            stepped: Instant::now(),
            step: Step::default(),
            batch: Vec::new(),
            changes: VecDeque::new(),
            refusals: 0,
            fault: None,
            jobs: Vec::new(),
            queue_max: arrivals.as_ref().map_or(0, |(_, queue_max)| *queue_max),
            expected: Expected::default(),
        })),
    });
    let guard = AbortOnPanic(executors);
    // First of all: a change that somebody on the control socket makes follows the event that the run has started or goes on.
    enter(&hub, |state| state.emit(spec.opening));
    attach(Arc::new(Arc::clone(&hub)));
    let mut queue_full = 0;
    let mut source_waits = false;
    enter(&hub, |state| {
        if is_fixed {
            state.feed(Input::Closed);
        }
        state.feed(Input::Tick);
    });
    let mut ticks = tokio::time::interval(spec.interval.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);

    while let Some(expected) = hub.with(State::expect).0.flatten() {
        let wake = expected.wake;
        let room = expected.room && arrivals.is_some();
        if arrivals.is_some() && !room && !source_waits {
            queue_full += 1;
        }
        source_waits = !room;
        tokio::select! {
            biased;
            (signal, again) = signals.next() => {
                let stop = Stop::Signal { signal };
                enter(&hub, |state| state.feed(if again { Input::Kill(stop) } else { Input::Stop(stop) }));
            }
            () = hub.stirred.notified() => {}
            jobs = std::future::poll_fn(|context| hub.take_messages(context, spec.interval)) => start(&hub, jobs),
            next = next_arrival(arrivals.as_mut().map(|(arrivals, _)| arrivals)), if room => match next {
                Some(Arrival::Tasks(tasks)) => enter(&hub, |state| state.add(tasks)),
                Some(Arrival::Refused { what, reason }) => enter(&hub, |state| state.refuse(what, None, &reason)),
                None => {
                    arrivals = None;
                    enter(&hub, |state| {
                        state.emit(vec![Event::TasksClosed {}]);
                        state.feed(Input::Closed);
                    });
                }
            },
            () = tokio::time::sleep(wake.unwrap_or(Duration::from_secs(3600))), if wake.is_some() => {
                enter(&hub, |state| state.feed(Input::Tick));
            }
            _ = ticks.tick() => enter(&hub, State::tick),
        }
    }
    std::mem::forget(guard);
    let state = hub.lock().take().expect("only taken here");
    state.end(queue_full, signals)
}

/// The state and its lock. Gone when the run is over.
struct Hub<O> {
    state: Mutex<Option<State<O>>>,
    /// The end of an attempt changed what `run` waits for.
    stirred: Notify,
    executors: Executors,
    live: LiveOutput,
    /// The way to the observer for live output.
    sender: Option<mpsc::Sender<Live>>,
}

impl<O: Observer> Hub<O> {
    /// A panic of another thread in here was a bug that left the state half changed: this one panics too, and `run`
    /// ends what runs.
    fn lock(&self) -> MutexGuard<'_, Option<State<O>>> {
        self.state.lock().expect("no thread panicked within the state of the run")
    }

    /// Changes the state; returns what `act` does and the attempts to be made now.
    fn with<T>(&self, act: impl FnOnce(&mut State<O>) -> T) -> (Option<T>, Vec<Job>) {
        let mut guard = self.lock();
        let Some(state) = guard.as_mut() else { return (None, Vec::new()) };
        let result = act(state);
        (Some(result), std::mem::take(&mut state.jobs))
    }

    /// Takes what is in the buffer, under the same lock as it is read: the end of an attempt must not overtake its output.
    fn take_messages(&self, context: &mut std::task::Context<'_>, interval: Duration) -> Poll<Vec<Job>> {
        let mut guard = self.lock();
        let Some(state) = guard.as_mut() else { return Poll::Pending };
        let sample = state.samples.poll_recv(context);
        // Who waits for a slow reader is polled again with the next tick.
        let first = if state.backpressure { Poll::Pending } else { state.messages.poll_recv(context) };
        let is_message = matches!(first, Poll::Ready(Some(_)));
        if sample.is_pending() && !is_message {
            return Poll::Pending;
        }
        if let Poll::Ready(Some(sample)) = sample {
            state.sampled(sample);
        }
        if let Poll::Ready(Some(first)) = first {
            state.buffer_max = state.buffer_max.max(state.messages.len() + 1);
            state.take(&first);
            state.drain(BATCH_MAX);
        }
        // Output that never ends must not keep limits from being looked at.
        state.feed(Input::Tick);
        if state.ticked.elapsed() >= 2 * interval {
            state.tick();
        }
        Poll::Ready(std::mem::take(&mut state.jobs))
    }
}

impl<O: Observer + 'static> Hub<O> {
    fn change(self: &Arc<Self>, act: impl FnOnce(&mut State<O>) -> Result<(), String>) -> Result<(), String> {
        let (result, jobs) = self.with(act);
        start(self, jobs);
        self.stirred.notify_one();
        result.unwrap_or_else(|| Err("the run is over".to_owned()))
    }
}

/// The hub as the attempts of one executor know it.
struct Shared<O> {
    hub: Arc<Hub<O>>,
    executor: Arc<dyn Executor>,
}

impl<O: Observer + 'static> Owner for Shared<O> {
    fn output(&self, id: AttemptId, stderr: bool, bytes: &[u8]) {
        self.hub.live.push(id, stderr, bytes);
        if let Some(sender) = &self.hub.sender {
            // The receiver is gone only when the run is over.
            let _ = sender.blocking_send(Live { id, stderr, bytes: bytes.to_vec() });
        }
    }

    fn add(&self, id: AttemptId, tasks: Vec<Task>) -> Result<Vec<TaskId>, String> {
        let awaited = tasks.iter().map(|task| task.id.clone()).collect();
        self.hub.change(|state| state.add_by_step(id, tasks))?;
        Ok(awaited)
    }

    fn ended(&self, id: AttemptId, result: Box<AttemptResult>) -> Option<Job> {
        self.hub.live.forget(id);
        let mut own = None;
        let (stir, mut jobs) = self.hub.with(|state| {
            let stir = state.finished(id, result);
            let is_own = |job: &Job| Arc::ptr_eq(state.executors.of(&job.task), &self.executor);
            own = state.jobs.iter().position(is_own);
            stir
        });
        let next = own.map(|at| jobs.remove(at));
        start(&self.hub, jobs);
        if stir == Some(true) {
            self.hub.stirred.notify_one();
        }
        next
    }
}

impl<O: Observer + 'static> RunHandle for Arc<Hub<O>> {
    fn edit(&self, edit: &Edit, by: &Origin) -> Result<(), String> {
        self.change(|state| state.edit(edit, by))
    }

    fn add(&self, tasks: Vec<Task>, by: &Origin) -> Result<(), String> {
        self.change(|state| state.add_by(tasks, by))
    }

    fn waiting(&self) -> Vec<WaitingTask> {
        self.with(|state| state.scheduler.waiting(state.now())).0.unwrap_or_default()
    }

    fn live(&self, task: &TaskId, from: [u64; 2]) -> Option<(u32, [Piece; 2])> {
        let id = self.with(|state| state.scheduler.attempt_of(task)).0.flatten()?;
        Some((id.attempt, self.live.since(id, from)))
    }
}

/// Changes the state and starts what follows.
fn enter<O: Observer + 'static>(hub: &Arc<Hub<O>>, act: impl FnOnce(&mut State<O>)) {
    let (_, jobs) = hub.with(act);
    start(hub, jobs);
}

/// Gives attempts to their executors.
fn start<O: Observer + 'static>(hub: &Arc<Hub<O>>, jobs: Vec<Job>) {
    if jobs.is_empty() {
        return;
    }
    let mut left = jobs;
    for executor in hub.executors.all() {
        let (own, others) = left.into_iter().partition(|job| Arc::ptr_eq(hub.executors.of(&job.task), executor));
        left = others;
        let own: Vec<Job> = own;
        if !own.is_empty() {
            let owner: Arc<dyn Owner> = Arc::new(Shared { hub: Arc::clone(hub), executor: Arc::clone(executor) });
            Arc::clone(executor).start(own, &owner);
        }
    }
}

/// A bug in here must not leave processes that nobody waits for.
struct AbortOnPanic(Executors);

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        self.0.all().into_iter().for_each(|executor| executor.abort());
    }
}

async fn next_arrival(arrivals: Option<&mut mpsc::Receiver<Arrival>>) -> Option<Arrival> {
    match arrivals {
        Some(arrivals) => arrivals.recv().await,
        None => std::future::pending().await,
    }
}

/// What `run` waits for.
#[derive(Clone, Copy, Default)]
struct Expected {
    /// Until the scheduler has to be called again, in time of the run.
    at: Option<Duration>,
    /// The same from now.
    wake: Option<Duration>,
    /// The queue takes more tasks.
    room: bool,
}

struct State<O> {
    scheduler: Scheduler,
    executors: Executors,
    roots: Roots,
    meter: Arc<Meter>,
    interval: Duration,
    passes_live: bool,
    planner: Option<Box<dyn Planner>>,
    observer: O,
    started: Instant,
    offset: Duration,
    seq: u64,
    messages: mpsc::Receiver<Live>,
    sampler: mpsc::Sender<MachineSample>,
    samples: mpsc::Receiver<MachineSample>,
    /// The observer gets nothing new for now.
    backpressure: bool,
    buffer_max: usize,
    /// A look at the processes is under way.
    sampling: bool,
    ticked: Instant,
    stepped: Instant,
    step: Step,
    batch: Vec<Envelope>,
    /// What the planner wants.
    changes: VecDeque<Change>,
    refusals: u32,
    fault: Option<String>,
    /// To be made by whoever leaves.
    jobs: Vec<Job>,
    queue_max: usize,
    expected: Expected,
}

impl<O: Observer> State<O> {
    fn now(&self) -> Duration {
        self.offset + self.started.elapsed()
    }

    /// Feeds one input and performs what follows.
    fn feed(&mut self, input: Input) {
        self.advance(input);
        self.perform();
    }

    /// Steps the scheduler. There are ticks, so a long time between two steps tells that apm stood still.
    fn advance(&mut self, input: Input) {
        let now = self.now();
        let time = std::mem::replace(&mut self.stepped, Instant::now()).elapsed();
        if time > self.interval + CLOCK_GAP {
            self.scheduler.step(now, Input::ClockGap(time), &mut self.step);
        }
        self.scheduler.step(now, input, &mut self.step);
    }

    /// What to wait for; nothing when the run is over.
    fn expect(&mut self) -> Option<Expected> {
        if self.scheduler.is_over() {
            return None;
        }
        let at = self.scheduler.next_wake();
        self.expected = Expected { at, wake: at.map(|at| at.saturating_sub(self.now())), room: self.has_room() };
        Some(self.expected)
    }

    fn has_room(&self) -> bool {
        self.scheduler.backlog() < self.queue_max && self.scheduler.stop().is_none()
    }

    /// An attempt has ended. True if `run` has to look again.
    fn finished(&mut self, id: AttemptId, result: Box<AttemptResult>) -> bool {
        self.drain(usize::MAX);
        self.feed(Input::Finished(id, result));
        let sooner = match (self.scheduler.next_wake(), self.expected.at) {
            (Some(next), Some(expected)) => next < expected,
            (next, _) => next.is_some(),
        };
        sooner || self.scheduler.is_over() || (self.has_room() && !self.expected.room)
    }

    /// Takes messages that wait. Bounded by the buffer as well: those who send need no lock, but have to be read.
    fn drain(&mut self, most: usize) {
        for _ in 0..most.min(self.messages.max_capacity()) {
            let Ok(message) = self.messages.try_recv() else { break };
            self.take(&message);
        }
    }

    /// Takes output. Who ends a run by a signal does not wait for its reader: what is still printed then is only kept.
    fn take(&mut self, Live { id, stderr, bytes }: &Live) {
        if self.observer.is_behind() && matches!(self.scheduler.stop(), Some(Stop::Signal { .. })) {
            return;
        }
        if let Some(task) = self.scheduler.task(id.ix) {
            self.observer.live(&task.id, *stderr, bytes);
        }
    }

    /// Takes a sample; what follows is performed by the caller.
    fn sampled(&mut self, MachineSample { mut trees, reading }: MachineSample) {
        self.sampling = false;
        if self.backpressure && self.passes_live {
            // Silent are those whose output nobody takes.
            trees.iter_mut().for_each(|(_, tree)| tree.silent = Duration::ZERO);
        }
        self.advance(Input::Sampled { trees, reading });
    }

    /// Adds tasks from the source. One that cannot join is refused, and the others run all the same.
    fn add(&mut self, tasks: Vec<Task>) {
        let tasks: Vec<Arc<Task>> = tasks.into_iter().map(Arc::new).collect();
        if let Err(error) = self.join(&tasks, BadNeeds::Skipped, None) {
            if let [task] = &tasks[..] {
                self.refuse(format!("add task `{}`", task.id), None, &error);
            } else {
                for task in &tasks {
                    if let Err(error) = self.join(std::slice::from_ref(task), BadNeeds::Skipped, None) {
                        self.refuse(format!("add task `{}`", task.id), None, &error);
                    }
                }
            }
        }
        self.feed(Input::Tick);
    }

    /// Adds tasks that somebody else than the source wants.
    fn add_by(&mut self, tasks: Vec<Task>, by: &Origin) -> Result<(), String> {
        let tasks: Vec<Arc<Task>> = tasks.into_iter().map(Arc::new).collect();
        let joined = self.join(&tasks, BadNeeds::Refused, Some(by));
        if let Err(error) = &joined {
            self.refuse(format!("add {}", named(&tasks)), Some(by), error);
        }
        self.feed(Input::Tick);
        joined
    }

    fn add_by_step(&mut self, id: AttemptId, tasks: Vec<Task>) -> Result<(), String> {
        let tasks: Vec<Arc<Task>> = tasks.into_iter().map(Arc::new).collect();
        let new = self.scheduler.add_by_step(id.ix, tasks).map_err(|error| error.to_string())?;
        let Some(task) = self.scheduler.task(id.ix).map(|task| task.id.clone()) else { return Ok(()) };
        self.joined(&new, Some(Origin::Task { task }));
        self.feed(Input::Tick);
        Ok(())
    }

    fn join(&mut self, tasks: &[Arc<Task>], bad_needs: BadNeeds, by: Option<&Origin>) -> Result<(), String> {
        self.scheduler.add(tasks, bad_needs).map_err(|error| error.to_string())?;
        self.joined(tasks, by.cloned());
        Ok(())
    }

    /// Records tasks that have joined, the values of their environments included: a resume needs those too.
    fn joined(&mut self, tasks: &[Arc<Task>], by: Option<Origin>) {
        if tasks.is_empty() {
            return;
        }
        if self.fault.is_none()
            && let Err(error) = self.observer.joining(tasks)
        {
            self.break_off(error);
        }
        self.emit(vec![Event::TasksAdded { tasks: tasks.iter().map(without_secrets).collect(), by }]);
    }

    fn edit(&mut self, edit: &Edit, by: &Origin) -> Result<(), String> {
        let now = self.now();
        let edited = self.scheduler.edit(now, edit, by, &mut self.step).map_err(|error| error.to_string());
        if let Err(error) = &edited {
            self.refuse(edit.to_string(), Some(by), error);
        }
        self.perform();
        edited
    }

    fn refuse(&mut self, edit: String, by: Option<&Origin>, reason: &str) {
        // What the source of the tasks brings counts for how the run went, however much of it is refused.
        self.refusals += 1;
        if self.refusals <= REFUSALS_MAX || by.is_none() {
            self.emit(vec![Event::EditRefused { edit, by: by.cloned(), reason: reason.to_owned() }]);
        }
    }

    fn emit(&mut self, events: Vec<Event>) {
        self.step.events.extend(events);
        self.publish();
    }

    /// Numbers the collected events and hands them over. On a fault nothing more is started.
    fn publish(&mut self) {
        if self.step.events.is_empty() {
            return;
        }
        let (at, t) = (Timestamp::now(), whole_micros(self.now()));
        self.batch.clear();
        for event in self.step.events.drain(..) {
            self.batch.push(Envelope { v: VERSION, seq: self.seq, at, t, event });
            self.seq += 1;
        }
        if self.fault.is_none()
            && let Err(error) = self.observer.events(&self.batch)
        {
            self.break_off(error);
        }
        if let Some(planner) = &mut self.planner {
            self.batch.iter().for_each(|envelope| self.changes.extend(planner.on(envelope)));
        }
    }

    fn break_off(&mut self, error: String) {
        let (starts, others): (Vec<Action>, Vec<Action>) = std::mem::take(&mut self.step.actions)
            .into_iter()
            .partition(|action| matches!(action, Action::Start { .. }));
        self.step.actions = others;
        self.fault = Some(error.clone());
        let now = self.now();
        self.scheduler.step(now, Input::Stop(Stop::Fault { error: error.as_str().into() }), &mut self.step);
        // The scheduler waits for the end of what it wanted started.
        for start in starts {
            if let Action::Start { id, .. } = start {
                let result = Box::new(AttemptResult::new(End::Broken(error.clone())));
                self.scheduler.step(now, Input::Finished(id, result), &mut self.step);
            }
        }
        // These cannot be recorded any more.
        self.step.events.clear();
    }

    fn perform(&mut self) {
        self.publish();
        while let Some(change) = self.changes.pop_front() {
            self.change(change);
            self.publish();
        }
        if self.observer.is_closed() && self.scheduler.stop().is_none() {
            self.scheduler.step(self.now(), Input::Stop(Stop::Closed), &mut self.step);
            self.publish();
        }
        let signalled = matches!(self.scheduler.stop(), Some(Stop::Signal { .. }));
        let behind = self.observer.is_behind() && !signalled;
        if std::mem::replace(&mut self.backpressure, behind) != behind {
            self.scheduler.step(self.now(), Input::Backpressure(behind), &mut self.step);
            self.publish();
        }
        let mut actions = std::mem::take(&mut self.step.actions);
        for action in actions.drain(..) {
            match action {
                Action::Start { id, slot, awaited } => {
                    let Some(task) = self.scheduler.task(id.ix) else { continue };
                    self.executors.of(task).register(id);
                    self.jobs.push(Job { id, slot, task: Arc::clone(task), awaited });
                }
                Action::Signal(id, signal) => {
                    if let Some(task) = self.scheduler.task(id.ix) {
                        self.executors.of(task).signal(id, signal);
                    }
                }
                Action::MemoryCeiling(ceiling) => self.set_memory_ceiling(ceiling),
            }
        }
        if self.step.actions.is_empty() {
            self.step.actions = actions;
        }
    }

    fn set_memory_ceiling(&self, ceiling: Bytes) {
        self.executors.all().into_iter().for_each(|executor| executor.set_memory_ceiling(ceiling));
    }

    /// Makes a change that the planner wants.
    fn change(&mut self, change: Change) {
        let by = Origin::Planner {};
        match change {
            Change::Add(tasks) => {
                let new = tasks.into_iter().filter(|task| !self.scheduler.knows(&task.id)).map(Arc::new);
                let new: Vec<Arc<Task>> = new.collect();
                if let Err(error) = self.join(&new, BadNeeds::Skipped, Some(&by)) {
                    self.refuse(format!("add {}", named(&new)), Some(&by), &error);
                }
                self.advance(Input::Tick);
            }
            Change::Edit(edit) => {
                let now = self.now();
                if let Err(error) = self.scheduler.edit(now, &edit, &by, &mut self.step) {
                    self.refuse(edit.to_string(), Some(&by), &error.to_string());
                }
            }
            Change::Close => {
                self.emit(vec![Event::TasksClosed {}]);
                self.advance(Input::Closed);
            }
        }
    }

    /// Samples the machine while something runs, and the attempts that have been running for a while, off this loop.
    fn tick(&mut self) {
        self.ticked = Instant::now();
        self.observer.tick();
        self.feed(Input::Tick);
        if self.sampling || self.scheduler.is_idle() {
            return;
        }
        self.sampling = true;
        let old = self.scheduler.alive_since(self.now().saturating_sub(self.interval));
        let (sampler, executors) = (self.sampler.clone(), self.executors.clone());
        let (roots, meter) = (self.roots.clone(), Arc::clone(&self.meter));
        tokio::task::spawn_blocking(move || {
            // A bug in there costs this sample, not all that would follow.
            let sample = || {
                let trees = executors.all().into_iter().flat_map(|executor| executor.sample(&old)).collect();
                MachineSample { trees, reading: machine::read(&roots, &meter) }
            };
            let sample = std::panic::catch_unwind(std::panic::AssertUnwindSafe(sample)).unwrap_or_default();
            let _ = sampler.blocking_send(sample);
        });
    }

    /// Writes the last events.
    fn end(mut self, queue_full: u64, signals: Signals) -> (RunEnd, O) {
        let facts = EndFacts {
            stop: self.scheduler.stop().cloned(),
            figures: self.scheduler.figures(),
            buffer_max: self.buffer_max,
            queue_full,
        };
        let before = self.fault.clone();
        if before.is_none() {
            let last = self.observer.last(&facts);
            self.emit(last);
        }
        let unrecorded = self.fault.take().filter(|_| before.is_none());
        let State { scheduler, observer, .. } = self;
        (RunEnd { stop: facts.stop, history: scheduler.into_history(), fault: before, unrecorded, signals }, observer)
    }
}

/// Some names of tasks, for people.
fn named(tasks: &[Arc<Task>]) -> String {
    match tasks {
        [] => "no task".to_owned(),
        [task] => format!("task `{}`", task.id),
        [task, rest @ ..] => format!("task `{}` and {} more", task.id, rest.len()),
    }
}

/// A task as events carry it: with the names of its environment, not its values.
pub(crate) fn without_secrets(task: &Arc<Task>) -> Arc<Task> {
    if task.env.is_empty() {
        return Arc::clone(task);
    }
    let mut task = Task::clone(task);
    task.env.values_mut().for_each(|value| *value = Default::default());
    Arc::new(task)
}
