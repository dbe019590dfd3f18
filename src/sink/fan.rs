//! Hands each event to the journal first, then to the report and every sink, and decides what a failure means:
//! the journal failing stops the run; a requested file failing is remembered and reported at the end; a display
//! failing, or a reader closing its pipe, drops that sink and the run goes on, unless what it read was the result.

use std::io;

use crate::journal::write::Journal;
use crate::model::event::{Envelope, Stored};
use crate::model::id::TaskId;
use crate::report::run::RunReport;
use crate::sink::Sink;

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
pub(crate) type Reader = Box<dyn Fn(&Stored, usize) -> Vec<u8> + Send>;

/// All consumers of a run.
pub(crate) struct Fan {
    journal: Option<Journal>,
    sinks: Vec<(Importance, Box<dyn Sink>)>,
    report: RunReport,
    read: Reader,
    lost: Vec<String>,
    /// The reader of the result went away.
    closed: bool,
}

impl Fan {
    /// A fan with a journal, or without one, and its way to read stored bytes.
    pub(crate) fn new(journal: Option<Journal>, read: Reader) -> Self {
        Self { journal, sinks: Vec::new(), report: RunReport::default(), read, lost: Vec::new(), closed: false }
    }

    /// Adds a sink; sinks are served in the order they were added.
    pub(crate) fn add(&mut self, importance: Importance, sink: Box<dyn Sink>) {
        self.sinks.push((importance, sink));
    }

    /// Takes the events of an earlier part of the run, which are in the journal already.
    pub(crate) fn replay(&mut self, envelopes: &[Envelope]) {
        for envelope in envelopes {
            self.report.apply(envelope);
            let read = &self.read;
            serve(&mut self.sinks, &mut self.lost, |sink| sink.recorded(envelope, read));
        }
    }

    /// Takes new events. An error means that they could not be recorded.
    pub(crate) fn events(&mut self, batch: &[Envelope]) -> io::Result<()> {
        if let Some(journal) = &mut self.journal {
            journal.append(batch)?;
        }
        for envelope in batch {
            self.report.apply(envelope);
            let read = &self.read;
            self.closed |= serve(&mut self.sinks, &mut self.lost, |sink| sink.event(envelope, read));
        }
        Ok(())
    }

    /// Takes output as it comes.
    pub(crate) fn live(&mut self, task: &TaskId, stderr: bool, bytes: &[u8]) {
        self.closed |= serve(&mut self.sinks, &mut self.lost, |sink| sink.live(task, stderr, bytes));
    }

    /// Time passed.
    pub(crate) fn tick(&mut self) {
        self.closed |= serve(&mut self.sinks, &mut self.lost, |sink| sink.tick());
    }

    /// Whether the reader of the result went away.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The run so far.
    pub(crate) fn report(&self) -> &RunReport {
        &self.report
    }

    /// Reads stored bytes.
    pub(crate) fn read(&self) -> crate::report::ReadStored<'_> {
        &self.read
    }

    /// Writes to and syncs of the journal.
    pub(crate) fn journal_figures(&self) -> (u64, u64) {
        self.journal.as_ref().map_or((0, 0), Journal::figures)
    }

    /// Ends all sinks and the journal. Returns the report and what was lost.
    pub(crate) fn finish(mut self) -> (RunReport, Vec<String>) {
        let read = &self.read;
        serve(&mut self.sinks, &mut self.lost, |sink| sink.finish(read));
        if let Some(Err(error)) = self.journal.map(Journal::close) {
            self.lost.push(format!("the journal did not reach the disk: {error}"));
        }
        (self.report, self.lost)
    }
}

/// Serves each sink and drops those that fail. True: the reader of the result closed its pipe.
fn serve(
    sinks: &mut Vec<(Importance, Box<dyn Sink>)>,
    lost: &mut Vec<String>,
    mut act: impl FnMut(&mut dyn Sink) -> io::Result<()>,
) -> bool {
    let mut closed = false;
    sinks.retain_mut(|(importance, sink)| match act(sink.as_mut()) {
        Ok(()) => true,
        Err(error) => {
            let closed_pipe = error.kind() == io::ErrorKind::BrokenPipe;
            closed |= closed_pipe && *importance == Importance::Result;
            if *importance != Importance::Display && !closed_pipe {
                lost.push(format!("`{}` could not be written: {error}", sink.name()));
            }
            false
        }
    });
    closed
}
