//! Serves the sinks whose reader may stall (a terminal, a pipe) on a thread of its own: neither signals nor time limits
//! nor the journal wait for somebody who has paused `less`. What waits for the reader is bounded all the same: over
//! `BEHIND` the run starts no more tasks and takes no more live output, so that their writers wait, as in any pipe.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::sync::oneshot;

use crate::model::event::Envelope;
use crate::model::id::TaskId;
use crate::sink::Sink;
use crate::sink::fan::{Importance, Reader, Sinks};

/// Bytes that may wait before the reader counts as behind: with `EVENT`, about 1,500 ended tasks.
const BEHIND: usize = 4 << 20;
/// What an event counts for; about what it takes in memory.
const EVENT: usize = 1 << 10;

enum Item {
    Sink(Importance, Box<dyn Sink>),
    Recorded(Vec<Envelope>),
    Events(Vec<Envelope>),
    Live { task: TaskId, stderr: bool, bytes: Vec<u8> },
    Tick,
}

/// The way to the thread.
pub(crate) struct Courier {
    items: Sender<Item>,
    shared: Arc<Shared>,
    rest: Rest,
}

/// What is lost in the end, once everything was brought.
pub(crate) type Rest = oneshot::Receiver<Vec<String>>;

#[derive(Default)]
struct Shared {
    waiting: AtomicUsize,
    closed: AtomicBool,
}

impl Courier {
    /// Starts the thread.
    pub(crate) fn start(read: Reader) -> io::Result<Self> {
        let (items, received) = channel();
        let (done, rest) = oneshot::channel();
        let shared = Arc::new(Shared::default());
        let its = Arc::clone(&shared);
        std::thread::Builder::new().name("apm-courier".to_owned()).spawn(move || {
            // Nobody waits where the run broke off.
            let _ = done.send(bring(&received, &its, &read));
        })?;
        Ok(Self { items, shared, rest })
    }

    /// Adds a sink, for what is sent from now on.
    pub(crate) fn add(&self, importance: Importance, sink: Box<dyn Sink>) {
        self.send(Item::Sink(importance, sink));
    }

    /// Events of an earlier part of the run.
    pub(crate) fn recorded(&self, envelopes: &[Envelope]) {
        self.send(Item::Recorded(envelopes.to_vec()));
    }

    /// New events.
    pub(crate) fn events(&self, batch: &[Envelope]) {
        self.send(Item::Events(batch.to_vec()));
    }

    /// Output as it comes.
    pub(crate) fn live(&self, task: &TaskId, stderr: bool, bytes: &[u8]) {
        self.send(Item::Live { task: task.clone(), stderr, bytes: bytes.to_vec() });
    }

    /// Time passed. Of no interest to who has not even seen what happened before.
    pub(crate) fn tick(&self) {
        if self.shared.waiting.load(Ordering::Relaxed) == 0 {
            self.send(Item::Tick);
        }
    }

    /// Whether the reader of the result went away.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Relaxed)
    }

    /// Whether too much waits for a reader.
    pub(crate) fn is_behind(&self) -> bool {
        self.shared.waiting.load(Ordering::Relaxed) > BEHIND
    }

    /// Nothing more comes.
    pub(crate) fn finish(self) -> Rest {
        self.rest
    }

    fn send(&self, item: Item) {
        self.shared.waiting.fetch_add(item.weight(), Ordering::Relaxed);
        // The thread ends before the sender only by a bug, which `Rest` tells.
        let _ = self.items.send(item);
    }
}

impl Item {
    fn weight(&self) -> usize {
        match self {
            Self::Events(events) => events.len() * EVENT,
            Self::Live { bytes, .. } => bytes.len(),
            Self::Tick => 1,
            // Before the start of the run.
            Self::Sink(..) | Self::Recorded(_) => 0,
        }
    }
}

fn bring(items: &Receiver<Item>, shared: &Shared, read: &Reader) -> Vec<String> {
    let mut sinks = Sinks::default();
    for item in items {
        let weight = item.weight();
        match item {
            Item::Sink(importance, sink) => sinks.add(importance, sink),
            Item::Recorded(events) => {
                events.iter().for_each(|event| sinks.serve(|sink| sink.recorded(event, &**read)));
            }
            Item::Events(events) => {
                events.iter().for_each(|event| sinks.serve(|sink| sink.event(event, &**read)));
            }
            Item::Live { task, stderr, bytes } => sinks.serve(|sink| sink.live(&task, stderr, &bytes)),
            Item::Tick => sinks.serve(|sink| sink.tick()),
        }
        shared.waiting.fetch_sub(weight, Ordering::Relaxed);
        if sinks.is_closed() {
            shared.closed.store(true, Ordering::Relaxed);
        }
    }
    sinks.serve(|sink| sink.finish(&**read));
    sinks.into_lost()
}
