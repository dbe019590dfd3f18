//! Consumers of the event stream. `fanout` hands each event to the journal and then to all of them, `sinks` decides what
//! happens when one fails, and `slow` serves those whose reader may stall. The other files are one consumer each.

use std::io;
use std::sync::Arc;

use crate::model::event::{Envelope, Stored};
use crate::model::id::TaskId;
use crate::report::ReadStored;

pub(crate) mod fanout;
pub(crate) mod file;
pub(crate) mod joblog;
pub(crate) mod jsonl;
pub(crate) mod log;
pub(crate) mod progress;
pub(crate) mod relay;
pub(crate) mod sinks;
pub(crate) mod slow;

/// Reads bytes that an event refers to; an owned `ReadStored`.
pub(crate) type Reader = Arc<dyn Fn(&Stored, usize) -> Vec<u8> + Send + Sync>;

/// A consumer of the event stream. Called in order, never concurrently.
pub(crate) trait Sink: Send {
    /// For messages: `junit=report.xml`, `progress`.
    fn name(&self) -> String;

    /// Takes the next event.
    fn event(&mut self, envelope: &Envelope, read: ReadStored<'_>) -> io::Result<()>;

    /// Takes an event of an earlier part of a run that is resumed. A sink does not show again what it showed then.
    fn replay(&mut self, envelope: &Envelope, read: ReadStored<'_>) -> io::Result<()> {
        self.event(envelope, read)
    }

    /// Takes output of a running child as it comes; only called when live output was asked for.
    fn live(&mut self, _task: &TaskId, _stderr: bool, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// Called about every sync interval, for a display that moves without events.
    fn tick(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Called once after the last event, also when the run broke off.
    fn finish(&mut self, read: ReadStored<'_>) -> io::Result<()>;
}

/// Ends of attempts, for the tests of the sinks.
#[cfg(test)]
mod sample {
    use crate::model::event::{AttemptFinished, Event, Exit, Next, Output, Usage};
    use crate::model::finding::Counts;
    use crate::model::id::TaskId;
    use crate::model::outcome::Outcome;

    /// The first attempt of a task ended it like this.
    pub(super) fn finished(task: &TaskId, outcome: Outcome) -> Event {
        Event::AttemptFinished(Box::new(AttemptFinished {
            task: task.clone(),
            attempt: 1,
            outcome: outcome.clone(),
            next: Next::Done { outcome },
            exit: Some(Exit::Code(0)),
            usage: Usage::default(),
            stdout: Output::default(),
            stderr: Output::default(),
            counts: Counts::default(),
            results: None,
            leaked: 0,
            inputs_digest: String::new(),
            confinement: None,
        }))
    }

    /// A failure.
    pub(super) fn failed() -> Outcome {
        Exit::Code(1).outcome()
    }
}
