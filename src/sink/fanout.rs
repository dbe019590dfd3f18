//! Hands each event to the journal first, then to the report and to every sink. A failure of the journal stops the run;
//! `sinks` decides what the failure of a sink means. Sinks whose reader may stall are served by `slow`, on a thread of
//! their own.

use std::io;
use std::sync::Arc;

use crate::journal::write::Journal;
use crate::model::event::Envelope;
use crate::model::id::TaskId;
use crate::report::ReadStored;
use crate::report::run::RunReport;
use crate::sink::sinks::{FailurePolicy, Sinks};
use crate::sink::slow::{Drained, SlowSinks};
use crate::sink::{Reader, Sink};

/// All consumers of a run.
pub(crate) struct Fanout {
    journal: Option<Journal>,
    sinks: Sinks,
    slow: Option<SlowSinks>,
    report: RunReport,
    read: Reader,
}

impl Fanout {
    /// Consumers that are a journal, if the run has one, and no sinks yet. `read` reads stored bytes.
    pub(crate) fn new(journal: Option<Journal>, read: Reader) -> Self {
        Self { journal, sinks: Sinks::default(), slow: None, report: RunReport::default(), read }
    }

    /// Adds a sink that writes to files.
    pub(crate) fn add(&mut self, policy: FailurePolicy, sink: Box<dyn Sink>) {
        self.sinks.add(policy, sink);
    }

    /// Adds a sink whose reader may stall. An error means that its thread could not be started.
    pub(crate) fn add_slow(&mut self, policy: FailurePolicy, sink: Box<dyn Sink>) -> io::Result<()> {
        let slow = match self.slow.take() {
            Some(slow) => slow,
            None => SlowSinks::start(Arc::clone(&self.read))?,
        };
        self.slow.insert(slow).add(policy, sink);
        Ok(())
    }

    /// Takes the events of an earlier part of the run, which are in the journal already.
    pub(crate) fn replay(&mut self, envelopes: &[Envelope]) {
        for envelope in envelopes {
            self.report.apply(envelope);
            self.sinks.serve(|sink| sink.replay(envelope, &*self.read));
        }
        if let Some(slow) = &self.slow {
            slow.replay(envelopes);
        }
    }

    /// Takes new events. An error means that the journal could not be written.
    pub(crate) fn events(&mut self, batch: &[Envelope]) -> io::Result<()> {
        if let Some(journal) = &mut self.journal {
            journal.append(batch)?;
        }
        for envelope in batch {
            self.report.apply(envelope);
            self.sinks.serve(|sink| sink.event(envelope, &*self.read));
        }
        if let Some(slow) = &self.slow {
            slow.events(batch);
        }
        Ok(())
    }

    /// Takes output as it comes.
    pub(crate) fn live(&mut self, task: &TaskId, stderr: bool, bytes: &[u8]) {
        self.sinks.serve(|sink| sink.live(task, stderr, bytes));
        if let Some(slow) = &self.slow {
            slow.live(task, stderr, bytes);
        }
    }

    /// Time passed.
    pub(crate) fn tick(&mut self) {
        self.sinks.serve(|sink| sink.tick());
        if let Some(slow) = &self.slow {
            slow.tick();
        }
    }

    /// Whether the reader of the result closed its pipe.
    pub(crate) fn is_closed(&self) -> bool {
        self.sinks.is_closed() || self.slow.as_ref().is_some_and(SlowSinks::is_closed)
    }

    /// Whether a reader is so far behind that it should get nothing new.
    pub(crate) fn is_behind(&self) -> bool {
        self.slow.as_ref().is_some_and(SlowSinks::is_behind)
    }

    /// The run so far.
    pub(crate) fn report(&self) -> &RunReport {
        &self.report
    }

    /// Reads stored bytes.
    pub(crate) fn read(&self) -> ReadStored<'_> {
        &*self.read
    }

    /// Writes to and syncs of the journal.
    pub(crate) fn journal_figures(&self) -> (u64, u64) {
        self.journal.as_ref().map_or((0, 0), Journal::figures)
    }

    /// Ends the journal and all sinks but the slow ones. Returns a message for each that was lost, and a receiver that
    /// is ready once the slow sinks have written everything, which may be never.
    pub(crate) fn finish(mut self) -> (Vec<String>, Option<Drained>) {
        self.sinks.serve(|sink| sink.finish(&*self.read));
        let mut lost = self.sinks.into_lost();
        if let Some(Err(error)) = self.journal.map(Journal::close) {
            lost.push(format!("the journal did not reach the disk: {error}"));
        }
        (lost, self.slow.map(SlowSinks::finish))
    }
}
