//! Consumers of the event stream. `fan` has their order and what happens when one fails, `courier` those whose reader may
//! stall.

use std::io;

use crate::model::event::Envelope;
use crate::model::id::TaskId;
use crate::report::ReadStored;

pub(crate) mod courier;
pub(crate) mod fan;
pub(crate) mod file;
pub(crate) mod joblog;
pub(crate) mod jsonl;
pub(crate) mod log;
pub(crate) mod progress;
pub(crate) mod relay;

/// A consumer of the event stream. Called in order, never concurrently.
pub(crate) trait Sink: Send {
    /// For messages: `junit=report.xml`, `progress`.
    fn name(&self) -> String;

    /// Takes the next event.
    fn event(&mut self, envelope: &Envelope, read: ReadStored<'_>) -> io::Result<()>;

    /// Takes an event of an earlier part of the run, when it goes on. What was shown then is not shown again.
    fn recorded(&mut self, envelope: &Envelope, read: ReadStored<'_>) -> io::Result<()> {
        self.event(envelope, read)
    }

    /// Takes output of a running child as it comes; only called when live output was asked for.
    fn live(&mut self, _task: &TaskId, _stderr: bool, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// Called about every sync interval, for what moves by itself.
    fn tick(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Called once after the last event, also when the run broke off.
    fn finish(&mut self, read: ReadStored<'_>) -> io::Result<()>;
}
