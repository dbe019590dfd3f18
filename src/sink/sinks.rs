//! Sinks that are served one after another, and what a failure of one means. A display that fails is dropped and the run
//! goes on; a file that was asked for is remembered as lost and reported at the end; a reader that closes its pipe is
//! no loss, but the run has no purpose any more if that reader was the one of the result.

use std::io;

use crate::sink::Sink;

/// What a failure of a sink means for the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailurePolicy {
    /// The result itself: its loss is reported, and when its reader closes the pipe the run has no purpose any more.
    Result,
    /// Asked for by name: its loss is reported.
    Requested,
    /// For eyes only: its loss is not reported.
    Display,
}

/// Sinks that are served together, in the order in which they were added.
#[derive(Default)]
pub(crate) struct Sinks {
    sinks: Vec<(FailurePolicy, Box<dyn Sink>)>,
    lost: Vec<String>,
    /// The reader of the result closed its pipe.
    closed: bool,
}

impl Sinks {
    /// Adds a sink behind those that are there.
    pub(crate) fn add(&mut self, policy: FailurePolicy, sink: Box<dyn Sink>) {
        self.sinks.push((policy, sink));
    }

    /// Serves each sink and drops those that fail.
    pub(crate) fn serve(&mut self, mut act: impl FnMut(&mut dyn Sink) -> io::Result<()>) {
        self.sinks.retain_mut(|(policy, sink)| match act(sink.as_mut()) {
            Ok(()) => true,
            Err(error) => {
                let closed_pipe = error.kind() == io::ErrorKind::BrokenPipe;
                self.closed |= closed_pipe && *policy == FailurePolicy::Result;
                if *policy != FailurePolicy::Display && !closed_pipe {
                    self.lost.push(format!("`{}` could not be written: {error}", sink.name()));
                }
                false
            }
        });
    }

    /// Whether the reader of the result closed its pipe.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// A message for each sink that could not be written.
    pub(crate) fn into_lost(self) -> Vec<String> {
        self.lost
    }
}
