//! Serves the sinks whose reader may stall (a terminal, a pipe) on a thread of its own: neither signals nor time limits
//! nor the journal wait for somebody who has paused `less`. The queue to the thread is bounded all the same: while more
//! than `WAITING_MAX` bytes wait in it, the run starts no more tasks and takes no more live output, so that their
//! writers block, as on any full pipe.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::sync::oneshot;

use crate::model::event::Envelope;
use crate::model::id::TaskId;
use crate::sink::sinks::{FailurePolicy, Sinks};
use crate::sink::{Reader, Sink};

/// Bytes that may wait before the reader counts as behind: with `EVENT_BYTES`, about 1,500 ended tasks.
const WAITING_MAX: usize = 4 << 20;
/// What an event counts for, which is about what it takes in memory.
const EVENT_BYTES: usize = 1 << 10;

enum Item {
    Sink(FailurePolicy, Box<dyn Sink>),
    Replay(Vec<Envelope>),
    Events(Vec<Envelope>),
    Live { task: TaskId, stderr: bool, bytes: Vec<u8> },
    Tick,
}

/// The sender's side of the thread.
pub(crate) struct SlowSinks {
    items: Sender<Item>,
    shared: Arc<Shared>,
    drained: Drained,
}

/// Ready once the slow sinks have written everything; a message for each sink that could not be written.
pub(crate) type Drained = oneshot::Receiver<Vec<String>>;

#[derive(Default)]
struct Shared {
    waiting: AtomicUsize,
    closed: AtomicBool,
}

impl SlowSinks {
    /// Starts the thread.
    pub(crate) fn start(read: Reader) -> io::Result<Self> {
        let (items, received) = channel();
        let (done, drained) = oneshot::channel();
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new().name("apm-slow-sinks".to_owned()).spawn(move || {
            // Sending fails where the run broke off and nobody waits any more.
            let _ = done.send(drain(&received, &of_thread, &read));
        })?;
        Ok(Self { items, shared, drained })
    }

    /// Adds a sink, which gets what is sent from now on.
    pub(crate) fn add(&self, policy: FailurePolicy, sink: Box<dyn Sink>) {
        self.send(Item::Sink(policy, sink));
    }

    /// Takes events of an earlier part of the run.
    pub(crate) fn replay(&self, envelopes: &[Envelope]) {
        self.send(Item::Replay(envelopes.to_vec()));
    }

    /// Takes new events.
    pub(crate) fn events(&self, batch: &[Envelope]) {
        self.send(Item::Events(batch.to_vec()));
    }

    /// Takes output as it comes.
    pub(crate) fn live(&self, task: &TaskId, stderr: bool, bytes: &[u8]) {
        self.send(Item::Live { task: task.clone(), stderr, bytes: bytes.to_vec() });
    }

    /// Time passed. A reader that has not even seen what happened before has no use for it.
    pub(crate) fn tick(&self) {
        if self.shared.waiting.load(Ordering::Relaxed) == 0 {
            self.send(Item::Tick);
        }
    }

    /// Whether the reader of the result closed its pipe.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Relaxed)
    }

    /// Whether too much waits for a reader.
    pub(crate) fn is_behind(&self) -> bool {
        self.shared.waiting.load(Ordering::Relaxed) > WAITING_MAX
    }

    /// Closes the queue; what is in it is still written.
    pub(crate) fn finish(self) -> Drained {
        self.drained
    }

    fn send(&self, item: Item) {
        self.shared.waiting.fetch_add(item.bytes(), Ordering::Relaxed);
        // The thread ends before the sender only by a bug, and then `Drained` is an error.
        let _ = self.items.send(item);
    }
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Events(events) => events.len() * EVENT_BYTES,
            Self::Live { bytes, .. } => bytes.len(),
            Self::Tick => 1,
            // These are sent before the run starts.
            Self::Sink(..) | Self::Replay(_) => 0,
        }
    }
}

fn drain(items: &Receiver<Item>, shared: &Shared, read: &Reader) -> Vec<String> {
    let mut sinks = Sinks::default();
    for item in items {
        let bytes = item.bytes();
        match item {
            Item::Sink(policy, sink) => sinks.add(policy, sink),
            Item::Replay(events) => {
                events.iter().for_each(|event| sinks.serve(|sink| sink.replay(event, &**read)));
            }
            Item::Events(events) => {
                events.iter().for_each(|event| sinks.serve(|sink| sink.event(event, &**read)));
            }
            Item::Live { task, stderr, bytes } => sinks.serve(|sink| sink.live(&task, stderr, &bytes)),
            Item::Tick => sinks.serve(|sink| sink.tick()),
        }
        shared.waiting.fetch_sub(bytes, Ordering::Relaxed);
        if sinks.is_closed() {
            shared.closed.store(true, Ordering::Relaxed);
        }
    }
    sinks.serve(|sink| sink.finish(&**read));
    sinks.into_lost()
}
