//! Hands each event to the journal first, then to the report and every sink, and decides what a failure means:
//! the journal failing stops the run; a requested file failing is remembered and reported at the end; a display
//! failing, or a reader closing its pipe, drops that sink and the run goes on, unless what it read was the result.
//! A sink whose reader may stall is served by the courier.

use std::io;
use std::sync::Arc;

use crate::journal::write::Journal;
use crate::model::event::{Envelope, Stored};
use crate::model::id::TaskId;
use crate::report::run::RunReport;
use crate::sink::Sink;
use crate::sink::courier::{Courier, Rest};

/// What a failure of a sink means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Importance {
    /// The result itself: its loss is reported, and when its reader closes the pipe the run has no purpose any more.
    Result,
    /// Asked for by name: its loss is reported.
    Requested,
    /// For eyes only.
    Display,
}

/// Fetches bytes that an event refers to.
pub(crate) type Reader = Arc<dyn Fn(&Stored, usize) -> Vec<u8> + Send + Sync>;

/// Sinks that are served together.
#[derive(Default)]
pub(crate) struct Sinks {
    sinks: Vec<(Importance, Box<dyn Sink>)>,
    lost: Vec<String>,
    /// The reader of the result went away.
    closed: bool,
}

impl Sinks {
    /// Adds one; they are served in the order they were added.
    pub(crate) fn add(&mut self, importance: Importance, sink: Box<dyn Sink>) {
        self.sinks.push((importance, sink));
    }

    /// Serves each and drops those that fail.
    pub(crate) fn serve(&mut self, mut act: impl FnMut(&mut dyn Sink) -> io::Result<()>) {
        self.sinks.retain_mut(|(importance, sink)| match act(sink.as_mut()) {
            Ok(()) => true,
            Err(error) => {
                let closed_pipe = error.kind() == io::ErrorKind::BrokenPipe;
                self.closed |= closed_pipe && *importance == Importance::Result;
                if *importance != Importance::Display && !closed_pipe {
                    self.lost.push(format!("`{}` could not be written: {error}", sink.name()));
                }
                false
            }
        });
    }

    /// Whether the reader of the result went away.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// What could not be written.
    pub(crate) fn into_lost(self) -> Vec<String> {
        self.lost
    }
}

/// All consumers of a run.
pub(crate) struct Fan {
    journal: Option<Journal>,
    sinks: Sinks,
    courier: Option<Courier>,
    report: RunReport,
    read: Reader,
}

impl Fan {
    /// A fan with a journal, or without one, and its way to read stored bytes.
    pub(crate) fn new(journal: Option<Journal>, read: Reader) -> Self {
        Self { journal, sinks: Sinks::default(), courier: None, report: RunReport::default(), read }
    }

    /// Adds a sink that writes to files.
    pub(crate) fn add(&mut self, importance: Importance, sink: Box<dyn Sink>) {
        self.sinks.add(importance, sink);
    }

    /// Adds a sink whose reader may stall. An error means that there is no thread to be had for it.
    pub(crate) fn add_slow(&mut self, importance: Importance, sink: Box<dyn Sink>) -> io::Result<()> {
        let courier = match self.courier.take() {
            Some(courier) => courier,
            None => Courier::start(Arc::clone(&self.read))?,
        };
        self.courier.insert(courier).add(importance, sink);
        Ok(())
    }

    /// Takes the events of an earlier part of the run, which are in the journal already.
    pub(crate) fn replay(&mut self, envelopes: &[Envelope]) {
        for envelope in envelopes {
            self.report.apply(envelope);
            self.sinks.serve(|sink| sink.recorded(envelope, &*self.read));
        }
        if let Some(courier) = &self.courier {
            courier.recorded(envelopes);
        }
    }

    /// Takes new events. An error means that they could not be recorded.
    pub(crate) fn events(&mut self, batch: &[Envelope]) -> io::Result<()> {
        if let Some(journal) = &mut self.journal {
            journal.append(batch)?;
        }
        for envelope in batch {
            self.report.apply(envelope);
            self.sinks.serve(|sink| sink.event(envelope, &*self.read));
        }
        if let Some(courier) = &self.courier {
            courier.events(batch);
        }
        Ok(())
    }

    /// Takes output as it comes.
    pub(crate) fn live(&mut self, task: &TaskId, stderr: bool, bytes: &[u8]) {
        self.sinks.serve(|sink| sink.live(task, stderr, bytes));
        if let Some(courier) = &self.courier {
            courier.live(task, stderr, bytes);
        }
    }

    /// Time passed.
    pub(crate) fn tick(&mut self) {
        self.sinks.serve(|sink| sink.tick());
        if let Some(courier) = &self.courier {
            courier.tick();
        }
    }

    /// Whether the reader of the result went away.
    pub(crate) fn is_closed(&self) -> bool {
        self.sinks.is_closed() || self.courier.as_ref().is_some_and(Courier::is_closed)
    }

    /// Whether a reader is so far behind that it should get nothing new.
    pub(crate) fn is_behind(&self) -> bool {
        self.courier.as_ref().is_some_and(Courier::is_behind)
    }

    /// The run so far.
    pub(crate) fn report(&self) -> &RunReport {
        &self.report
    }

    /// Reads stored bytes.
    pub(crate) fn read(&self) -> crate::report::ReadStored<'_> {
        &*self.read
    }

    /// Writes to and syncs of the journal.
    pub(crate) fn journal_figures(&self) -> (u64, u64) {
        self.journal.as_ref().map_or((0, 0), Journal::figures)
    }

    /// Ends the journal and all sinks but those of the courier. Returns what was lost, and what the courier still has
    /// to bring, which may take for ever.
    pub(crate) fn finish(mut self) -> (Vec<String>, Option<Rest>) {
        self.sinks.serve(|sink| sink.finish(&*self.read));
        let mut lost = self.sinks.into_lost();
        if let Some(Err(error)) = self.journal.map(Journal::close) {
            lost.push(format!("the journal did not reach the disk: {error}"));
        }
        (lost, self.courier.map(Courier::finish))
    }
}
