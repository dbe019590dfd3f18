//! Consumers of the event stream.

use std::io;

use crate::model::event::{Envelope, Stored};
use crate::model::id::TaskId;

/// One of the two output streams of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Reads bytes that an event refers to: at most `max` of them, from the start. Missing bytes are an empty answer.
pub(crate) type ReadStored<'a> = &'a dyn Fn(&Stored, usize) -> Vec<u8>;

/// A consumer of the event stream. Called from the one loop that owns the run, in order, never concurrently.
pub(crate) trait Sink {
    /// For messages: `junit=report.xml`, `progress`.
    fn name(&self) -> String;

    /// Takes the next event.
    fn event(&mut self, envelope: &Envelope, read: ReadStored<'_>) -> io::Result<()>;

    /// Takes output of a running child as it comes; only called when live output was asked for.
    fn live(&mut self, _task: &TaskId, _stream: Stream, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// Called about every sync interval, for what moves by itself.
    fn tick(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Called once after the last event, also when the run broke off.
    fn finish(&mut self, read: ReadStored<'_>) -> io::Result<()>;
}
