//! The one loop that owns a run: it feeds the scheduler, numbers every event, hands the events to the observer
//! (journal first) and only then performs the actions. Knows no sink and no file.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::engine::graph::{GraphError, Ix};
use crate::engine::schedule::{Action, Figures, Input, Scheduler, Step, Tree};
use crate::engine::unit::{self, Attempted, Control, Shared};
use crate::model::event::{Envelope, Event, VERSION};
use crate::model::id::TaskId;
use crate::model::outcome::Stop;
use crate::model::task::Task;
use crate::model::unit::whole_micros;
use crate::probe::machine::{self, Reading};

/// Messages taken from the buffer in one go: bounds the time between two looks at signals.
const BATCH_MAX: usize = 256;

/// Who is told what happens.
pub(crate) trait Observer {
    /// Takes numbered events. An error ends the run: what is not in the journal must not happen.
    fn events(&mut self, batch: &[Envelope]) -> Result<(), String>;
    /// Takes output as it comes.
    fn live(&mut self, task: &TaskId, stderr: bool, bytes: &[u8]);
    /// Called about every sampling interval.
    fn tick(&mut self);
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
    /// Capacity of the buffer between attempts and this loop.
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
}

/// What attempts tell the loop.
#[derive(Debug)]
pub(crate) enum Message {
    Finished { ix: Ix, attempted: Box<Attempted> },
    Live { ix: Ix, stderr: bool, bytes: Vec<u8> },
    Sampled { trees: Vec<(Ix, Tree)>, reading: Reading },
}

/// Runs until nothing is left to do.
pub(crate) async fn run(order: Order, observer: &mut dyn Observer) -> std::io::Result<Over> {
    let (sender, mut messages) = mpsc::channel::<Message>(order.buffer.max(1));
    let mut signals = Signals::listen()?;
    let mut source = order.source;
    let mut lop = Loop {
        scheduler: order.scheduler,
        shared: order.shared,
        observer,
        started: Instant::now(),
        offset: order.elapsed,
        seq: order.next_seq,
        controls: HashMap::new(),
        sender,
        sampling: false,
        step: Step::default(),
        batch: Vec::new(),
        fault: None,
    };
    let mut queue_full = 0;
    let mut buffer_max = 0;
    let mut source_waits = false;

    lop.emit(order.opening);
    if matches!(source, Source::Fixed) {
        lop.feed(Input::Closed);
    }
    lop.feed(Input::Tick);
    let mut ticks = tokio::time::interval(order.interval.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);

    while !lop.scheduler.is_over() {
        let wake = lop.scheduler.next_wake().map(|at| at.saturating_sub(lop.now()));
        let room = match &source {
            Source::Stream { queue_max, .. } => lop.scheduler.backlog() < *queue_max && lop.scheduler.stop().is_none(),
            Source::Fixed => false,
        };
        if matches!(source, Source::Stream { .. }) && !room && !source_waits {
            queue_full += 1;
        }
        source_waits = !room;
        tokio::select! {
            biased;
            (stop, again) = signals.next() => lop.feed(if again { Input::Kill(stop) } else { Input::Stop(stop) }),
            message = messages.recv() => {
                buffer_max = buffer_max.max(messages.len() + 1);
                let mut next = message;
                for _ in 0..BATCH_MAX {
                    let Some(message) = next else { break };
                    lop.take(message);
                    next = messages.try_recv().ok();
                }
                if let Some(message) = next {
                    lop.take(message);
                }
                lop.perform();
            }
            tasks = next_tasks(&mut source), if room => match tasks {
                Some(tasks) => lop.add(tasks),
                None => {
                    source = Source::Fixed;
                    lop.emit(vec![Event::TasksClosed {}]);
                    lop.feed(Input::Closed);
                }
            },
            () = tokio::time::sleep(wake.unwrap_or(Duration::from_secs(3600))), if wake.is_some() => lop.feed(Input::Tick),
            _ = ticks.tick() => lop.tick(),
        }
    }
    let elapsed = whole_micros(lop.now());
    let figures = lop.scheduler.figures();
    Ok(Over { figures, scheduler: lop.scheduler, next_seq: lop.seq, elapsed, buffer_max, queue_full, fault: lop.fault })
}

async fn next_tasks(source: &mut Source) -> Option<Vec<Task>> {
    match source {
        Source::Stream { tasks, .. } => tasks.recv().await,
        Source::Fixed => std::future::pending().await,
    }
}

struct Loop<'a> {
    scheduler: Scheduler,
    shared: Arc<Shared>,
    observer: &'a mut dyn Observer,
    started: Instant,
    offset: Duration,
    seq: u64,
    controls: HashMap<Ix, Arc<Control>>,
    sender: mpsc::Sender<Message>,
    /// A look at the processes is under way.
    sampling: bool,
    step: Step,
    batch: Vec<Envelope>,
    fault: Option<String>,
}

impl Loop<'_> {
    fn now(&self) -> Duration {
        self.offset + self.started.elapsed()
    }

    /// Feeds one input and performs what follows.
    fn feed(&mut self, input: Input) {
        self.scheduler.step(self.now(), input, &mut self.step);
        self.perform();
    }

    /// Feeds a message; what follows is performed once for a batch.
    fn take(&mut self, message: Message) {
        match message {
            Message::Finished { ix, attempted } => {
                self.controls.remove(&ix);
                self.scheduler.step(self.now(), Input::Finished(ix, attempted), &mut self.step);
            }
            Message::Live { ix, stderr, bytes } => {
                let id = self.scheduler.task(ix).id.clone();
                self.observer.live(&id, stderr, &bytes);
            }
            Message::Sampled { trees, reading } => {
                self.sampling = false;
                self.scheduler.step(self.now(), Input::Sampled { trees, reading }, &mut self.step);
            }
        }
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
        let mut actions = std::mem::take(&mut self.step.actions);
        for action in actions.drain(..) {
            match action {
                Action::Start { ix, attempt, slot } => self.start(ix, attempt, slot),
                Action::Term(ix) => self.with_control(ix, Control::terminate),
                Action::Pause(ix) => self.with_control(ix, Control::pause),
                Action::Resume(ix) => self.with_control(ix, Control::resume),
                Action::Kill(ix) => {
                    if let Some(control) = self.controls.get(&ix).cloned() {
                        // Finding every process of a tree reads all of /proc: not in this loop.
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
        let job = unit::Job {
            ix,
            attempt,
            slot,
            task: Arc::clone(self.scheduler.task(ix)),
            shared: Arc::clone(&self.shared),
            control,
            messages: self.sender.clone(),
        };
        // A failed send means that the loop is gone, and with it everyone who could want the answer.
        tokio::task::spawn_blocking(move || {
            let attempted = Box::new(unit::run(&job));
            let _ = job.messages.blocking_send(Message::Finished { ix, attempted });
        });
    }

    /// Looks at the machine and the process trees, off this loop, when something has been running for a while.
    fn tick(&mut self) {
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
        if self.sampling || old.is_empty() {
            return;
        }
        self.sampling = true;
        let (sender, shared) = (self.sender.clone(), Arc::clone(&self.shared));
        tokio::task::spawn_blocking(move || {
            let trees = unit::sample(&shared, &old);
            let reading = machine::read(&shared.roots, &shared.meter);
            let _ = sender.blocking_send(Message::Sampled { trees, reading });
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

/// Signals that end a run.
struct Signals {
    streams: Vec<(i32, tokio::signal::unix::Signal)>,
    seen: bool,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        let mut streams = Vec::new();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let number = kind.as_raw_value();
            // `nohup apm ...` wants the hangup to stay ignored.
            if !crate::sys::signal::is_ignored(number) {
                streams.push((number, signal(kind)?));
            }
        }
        Ok(Self { streams, seen: false })
    }

    /// The next one, and whether it is not the first.
    async fn next(&mut self) -> (Stop, bool) {
        let number = std::future::poll_fn(|context| {
            for (number, stream) in &mut self.streams {
                if stream.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await;
        (Stop::Signal { signal: number }, std::mem::replace(&mut self.seen, true))
    }
}
