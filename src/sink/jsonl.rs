//! The event stream itself, one JSON document a line, as it happens.

use std::io::{self, Write};

use crate::model::event::Envelope;
use crate::report::ReadStored;
use crate::sink::Sink;

/// Writes events to a stream.
pub(crate) struct JsonLines {
    name: String,
    out: Box<dyn Write + Send>,
}

impl JsonLines {
    /// Writes here.
    pub(crate) fn new(name: String, out: Box<dyn Write + Send>) -> Self {
        Self { name, out }
    }
}

impl Sink for JsonLines {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn event(&mut self, envelope: &Envelope, _read: ReadStored<'_>) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, envelope)?;
        self.out.write_all(b"\n")?;
        self.out.flush()
    }

    fn finish(&mut self, _read: ReadStored<'_>) -> io::Result<()> {
        self.out.flush()
    }
}
