//! The one owner of a run: it feeds the scheduler, numbers every event, hands the events to the observer (journal first)
//! and only then performs the actions. Knows no sink and no file.
//!
//! The state lies behind one lock, and whoever has news steps it: a thread whose attempt has ended enters, and leaves
//! with the attempt to make next. Sending the news to a thread of its own, and the next attempt to a third, costs two
//! more switches of threads for each task: measured 1.5 times the wall time of no-op tasks instead of 1.1. Signals,
//! time, new tasks and live output come through `run`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc};

use crate::engine::graph::{GraphError, Ix};
use crate::engine::schedule::{Action, Figures, Input, Scheduler, Step, Tree};
use crate::engine::signals::Signals;
use crate::engine::unit::{self, Attempted, Control, Shared};
use crate::model::event::{Envelope, Event, VERSION};
use crate::model::id::TaskId;
use crate::model::outcome::Stop;
use crate::model::task::Task;
use crate::model::unit::whole_micros;
use crate::probe::machine::{self, Reading};

/// Messages taken from the buffer in one go: bounds the time between two looks at signals.
const BATCH_MAX: usize = 256;
/// Between two steps of the scheduler, more than the interval by this much: apm stood still. Less may be a busy machine.
const STANDSTILL: Duration = Duration::from_secs(1);

/// Who is told what happens.
pub(crate) trait Observer {
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
}

/// Where tasks come from while the run goes on.
#[derive(Debug)]
pub(crate) enum Source {
    /// All tasks are known.
    Fixed,
    /// More come, in batches, at the pace the queue has room for.
    Stream { tasks: mpsc::Receiver<Vec<Task>>, queue_max: usize },
}

/// What a run is given.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) scheduler: Scheduler,
    pub(crate) source: Source,
    pub(crate) shared: Arc<Shared>,
    /// Sampling and display interval.
    pub(crate) interval: Duration,
    /// Capacity of the buffer for live output and samples.
    pub(crate) buffer: usize,
    /// Number of the next event, and the time the run has already taken, where it goes on.
    pub(crate) next_seq: u64,
    pub(crate) elapsed: Duration,
    /// Emitted before anything else.
    pub(crate) opening: Vec<Event>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Over {
    pub(crate) scheduler: Scheduler,
    pub(crate) figures: Figures,
    pub(crate) next_seq: u64,
    pub(crate) elapsed: Duration,
    pub(crate) buffer_max: usize,
    pub(crate) queue_full: u64,
    /// The run could not be recorded; nothing after it was started.
    pub(crate) fault: Option<String>,
    /// Those that came, and those to come while the result is still being handed over.
    pub(crate) signals: Signals,
}

/// Output as it comes.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) ix: Ix,
    pub(crate) stderr: bool,
    pub(crate) bytes: Vec<u8>,
}

/// What a look at the processes of attempts and at the machine brought.
#[derive(Debug, Default)]
struct Look {
    trees: Vec<(Ix, Tree)>,
    reading: Reading,
}

/// Runs until nothing is left to do. Gives the observer back.
pub(crate) async fn run<O: Observer + Send + 'static>(order: Order, observer: O) -> std::io::Result<(Over, O)> {
    let (sender, messages) = mpsc::channel(order.buffer.max(1));
    let (looker, looks) = mpsc::channel(1);
    let mut signals = Signals::listen()?;
    let mut source = order.source;
    let queue_max = match &source {
        Source::Stream { queue_max, .. } => *queue_max,
        Source::Fixed => 0,
    };
    let hub = Arc::new(Hub {
        stirred: Notify::new(),
        state: Mutex::new(Some(State {
            scheduler: order.scheduler,
            shared: order.shared,
            observer,
            started: Instant::now(),
            offset: order.elapsed,
            seq: order.next_seq,
            controls: HashMap::new(),
            sender,
            messages,
            looker,
            looks,
            behind: false,
            buffer_max: 0,
            sampling: false,
            ticked: Instant::now(),
            stepped: Instant::now(),
            step: Step::default(),
            batch: Vec::new(),
            fault: None,
            jobs: VecDeque::new(),
            queue_max,
            expected: Expected::default(),
        })),
    });
    let guard = KillOnPanic(&hub);
    let mut queue_full = 0;
    let mut source_waits = false;
    start(&hub, |state| {
        state.emit(order.opening);
        if matches!(source, Source::Fixed) {
            state.feed(Input::Closed);
        }
        state.feed(Input::Tick);
    });
    let mut ticks = tokio::time::interval(order.interval.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);

    while let Some(expected) = hub.enter(State::expect).0.flatten() {
        let wake = expected.wake;
        let room = expected.room && matches!(source, Source::Stream { .. });
        if matches!(source, Source::Stream { .. }) && !room && !source_waits {
            queue_full += 1;
        }
        source_waits = !room;
        tokio::select! {
            biased;
            (signal, again) = signals.next() => {
                let stop = Stop::Signal { signal };
                start(&hub, |state| state.feed(if again { Input::Kill(stop) } else { Input::Stop(stop) }));
            }
            () = hub.stirred.notified() => {}
            jobs = std::future::poll_fn(|context| hub.take_messages(context, order.interval)) => spawn(&hub, jobs),
            tasks = next_tasks(&mut source), if room => match tasks {
                Some(tasks) => start(&hub, |state| state.add(tasks)),
                None => {
                    source = Source::Fixed;
                    start(&hub, |state| {
                        state.emit(vec![Event::TasksClosed {}]);
                        state.feed(Input::Closed);
                    });
                }
            },
            () = tokio::time::sleep(wake.unwrap_or(Duration::from_secs(3600))), if wake.is_some() => {
                start(&hub, |state| state.feed(Input::Tick));
            }
            _ = ticks.tick() => start(&hub, State::tick),
        }
    }
    std::mem::forget(guard);
    let state = hub.lock().take().expect("only taken here");
    let elapsed = whole_micros(state.now());
    let figures = state.scheduler.figures();
    let State { scheduler, seq, buffer_max, fault, observer, .. } = state;
    Ok((Over { figures, scheduler, next_seq: seq, elapsed, buffer_max, queue_full, fault, signals }, observer))
}

/// The state and its lock. Gone when the run is over.
struct Hub<O> {
    state: Mutex<Option<State<O>>>,
    /// The end of an attempt changed what `run` waits for.
    stirred: Notify,
}

impl<O: Observer> Hub<O> {
    /// A panic of another thread in here was a bug that left the state half changed: this one panics too, and `run`
    /// ends what runs.
    fn lock(&self) -> MutexGuard<'_, Option<State<O>>> {
        self.state.lock().expect("no thread panicked within the state of the run")
    }

    /// Changes the state; returns what `act` does and the attempts to be made now.
    fn enter<T>(&self, act: impl FnOnce(&mut State<O>) -> T) -> (Option<T>, VecDeque<unit::Job>) {
        let mut guard = self.lock();
        let Some(state) = guard.as_mut() else { return (None, VecDeque::new()) };
        let result = act(state);
        (Some(result), std::mem::take(&mut state.jobs))
    }

    /// Takes what is in the buffer, under the same lock as it is read: the end of an attempt must not overtake its output.
    fn take_messages(&self, context: &mut std::task::Context<'_>, interval: Duration) -> Poll<VecDeque<unit::Job>> {
        let mut guard = self.lock();
        let Some(state) = guard.as_mut() else { return Poll::Pending };
        let look = state.looks.poll_recv(context);
        // Who waits for a slow reader is polled again with the next tick.
        let first = if state.behind { Poll::Pending } else { state.messages.poll_recv(context) };
        if look.is_pending() && first.is_pending() {
            return Poll::Pending;
        }
        if let Poll::Ready(Some(look)) = look {
            state.looked(look);
        }
        if let Poll::Ready(Some(first)) = first {
            state.buffer_max = state.buffer_max.max(state.messages.len() + 1);
            state.take(first);
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

/// Changes the state and starts what follows.
fn start<O: Observer + Send + 'static>(hub: &Arc<Hub<O>>, act: impl FnOnce(&mut State<O>)) {
    let (_, jobs) = hub.enter(act);
    spawn(hub, jobs);
}

/// Gives attempts to threads.
fn spawn<O: Observer + Send + 'static>(hub: &Arc<Hub<O>>, jobs: VecDeque<unit::Job>) {
    for job in jobs {
        let hub = Arc::clone(hub);
        tokio::task::spawn_blocking(move || work(&hub, job));
    }
}

/// Makes an attempt, and then others while there are some to make.
fn work<O: Observer + Send + 'static>(hub: &Arc<Hub<O>>, first: unit::Job) {
    let mut next = Some(first);
    while let Some(job) = next {
        let attempted = Box::new(unit::run(&job));
        let (stir, mut jobs) = hub.enter(|state| state.finished(job.ix, attempted));
        next = jobs.pop_front();
        spawn(hub, jobs);
        if stir == Some(true) {
            hub.stirred.notify_one();
        }
    }
}

/// A bug in here must not leave processes that nobody waits for.
struct KillOnPanic<'a, O>(&'a Arc<Hub<O>>);

impl<O> Drop for KillOnPanic<'_, O> {
    fn drop(&mut self) {
        let guard = self.0.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for control in guard.iter().flat_map(|state| state.controls.values()) {
            control.kill();
        }
    }
}

async fn next_tasks(source: &mut Source) -> Option<Vec<Task>> {
    match source {
        Source::Stream { tasks, .. } => tasks.recv().await,
        Source::Fixed => std::future::pending().await,
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
    shared: Arc<Shared>,
    observer: O,
    started: Instant,
    offset: Duration,
    seq: u64,
    controls: HashMap<Ix, Arc<Control>>,
    sender: mpsc::Sender<Live>,
    messages: mpsc::Receiver<Live>,
    looker: mpsc::Sender<Look>,
    looks: mpsc::Receiver<Look>,
    /// The observer gets nothing new for now.
    behind: bool,
    buffer_max: usize,
    /// A look at the processes is under way.
    sampling: bool,
    ticked: Instant,
    stepped: Instant,
    step: Step,
    batch: Vec<Envelope>,
    fault: Option<String>,
    /// To be made by whoever leaves.
    jobs: VecDeque<unit::Job>,
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
        if time > self.shared.interval + STANDSTILL {
            self.scheduler.step(now, Input::StoodStill(time), &mut self.step);
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
    fn finished(&mut self, ix: Ix, attempted: Box<Attempted>) -> bool {
        self.drain(usize::MAX);
        self.controls.remove(&ix);
        self.feed(Input::Finished(ix, attempted));
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
            self.take(message);
        }
    }

    /// Takes output. Who ends a run by a signal does not wait for its reader: what is still printed then is only kept.
    fn take(&mut self, Live { ix, stderr, bytes }: Live) {
        if self.observer.is_behind() && matches!(self.scheduler.stop(), Some(Stop::Signal { .. })) {
            return;
        }
        let id = self.scheduler.task(ix).id.clone();
        self.observer.live(&id, stderr, &bytes);
    }

    /// Takes a look; what follows is performed by the caller.
    fn looked(&mut self, Look { mut trees, reading }: Look) {
        self.sampling = false;
        if self.behind && self.shared.live {
            // Silent are those whose output nobody takes.
            trees.iter_mut().for_each(|(_, tree)| tree.silent = Duration::ZERO);
        }
        self.advance(Input::Sampled { trees, reading });
    }

    /// Adds tasks from the source. They come from our own reader, so a graph error is an internal one; it is said and
    /// the run stops rather than losing tasks silently.
    fn add(&mut self, tasks: Vec<Task>) {
        let tasks: Vec<Arc<Task>> = tasks.into_iter().map(Arc::new).collect();
        let event = Event::TasksAdded { tasks: tasks.iter().map(without_secrets).collect() };
        let added: Result<(), GraphError> = self.scheduler.add(tasks);
        match added {
            Ok(()) => {
                self.emit(vec![event]);
                self.feed(Input::Tick);
            }
            Err(error) => self.break_off(error.to_string()),
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
    }

    fn break_off(&mut self, error: String) {
        let (starts, others) = std::mem::take(&mut self.step.actions)
            .into_iter()
            .partition(|action| matches!(action, Action::Start { .. }));
        self.step.actions = others;
        self.fault = Some(error.clone());
        let now = self.now();
        self.scheduler.step(now, Input::Stop(Stop::Fault { error: error.clone() }), &mut self.step);
        // The scheduler waits for the end of what it wanted started.
        let starts: Vec<Action> = starts;
        for start in starts {
            if let Action::Start { ix, .. } = start {
                let attempted = Box::new(Attempted { broken: Some(error.clone()), ..Attempted::default() });
                self.scheduler.step(now, Input::Finished(ix, attempted), &mut self.step);
            }
        }
        // These cannot be recorded any more.
        self.step.events.clear();
    }

    fn perform(&mut self) {
        self.publish();
        if self.observer.is_closed() && self.scheduler.stop().is_none() {
            self.scheduler.step(self.now(), Input::Stop(Stop::Closed), &mut self.step);
            self.publish();
        }
        let signalled = matches!(self.scheduler.stop(), Some(Stop::Signal { .. }));
        let behind = self.observer.is_behind() && !signalled;
        if std::mem::replace(&mut self.behind, behind) != behind {
            self.scheduler.step(self.now(), Input::Behind(behind), &mut self.step);
            self.publish();
        }
        let mut actions = std::mem::take(&mut self.step.actions);
        for action in actions.drain(..) {
            match action {
                Action::Start { ix, attempt, slot } => self.start(ix, attempt, slot),
                Action::Term(ix) => self.with_control(ix, Control::terminate),
                Action::Pause(ix) => self.with_control(ix, Control::pause),
                Action::Resume(ix) => self.with_control(ix, Control::resume),
                Action::Kill(ix) => {
                    if let Some(control) = self.controls.get(&ix).cloned() {
                        control.kill_group();
                        // Finding every other process of its tree takes longer: not in here.
                        tokio::task::spawn_blocking(move || control.kill());
                    }
                }
            }
        }
        if self.step.actions.is_empty() {
            self.step.actions = actions;
        }
    }

    fn with_control(&self, ix: Ix, act: fn(&Control)) {
        if let Some(control) = self.controls.get(&ix) {
            act(control);
        }
    }

    fn start(&mut self, ix: Ix, attempt: u32, slot: u32) {
        let control = Arc::new(unit::control(&self.shared, ix, attempt));
        self.controls.insert(ix, Arc::clone(&control));
        self.jobs.push_back(unit::Job {
            ix,
            attempt,
            slot,
            task: Arc::clone(self.scheduler.task(ix)),
            shared: Arc::clone(&self.shared),
            control,
            messages: self.sender.clone(),
        });
    }

    /// Looks at the machine while something runs, and at the process trees that have been running for a while, off this
    /// loop.
    fn tick(&mut self) {
        self.ticked = Instant::now();
        self.observer.tick();
        self.feed(Input::Tick);
        let now = self.now();
        let interval = self.shared.interval;
        let old: Vec<(Ix, Arc<Control>)> = self
            .scheduler
            .running()
            .iter()
            .filter(|ix| self.scheduler.started(**ix).is_some_and(|at| now >= at + interval))
            .filter_map(|ix| Some((*ix, Arc::clone(self.controls.get(ix)?))))
            .collect();
        if self.sampling || self.scheduler.running().is_empty() {
            return;
        }
        self.sampling = true;
        let (looker, shared) = (self.looker.clone(), Arc::clone(&self.shared));
        tokio::task::spawn_blocking(move || {
            // A bug in there costs this look, not all that would follow.
            let look = || (unit::sample(&shared, &old), machine::read(&shared.roots, &shared.meter));
            let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(look));
            let (trees, reading) = looked.unwrap_or_default();
            let _ = looker.blocking_send(Look { trees, reading });
        });
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
