//! The event stream itself, one JSON document a line, as it happens.

use std::io::{self, Write};

use crate::model::event::Envelope;
use crate::report::ReadStored;
use crate::sink::Sink;
use crate::text::escape::Json;

/// Writes events to a stream.
pub(crate) struct JsonLines {
    name: String,
    out: Box<dyn Write + Send>,
    /// One line, so that each event is one write and no reader sees half of it.
    line: Vec<u8>,
}

impl JsonLines {
    /// Writes here.
    pub(crate) fn new(name: String, out: Box<dyn Write + Send>) -> Self {
        Self { name, out, line: Vec::new() }
    }
}

impl Sink for JsonLines {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn event(&mut self, envelope: &Envelope, _read: ReadStored<'_>) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(Json::new(&mut self.line), envelope)?;
        self.line.push(b'\n');
        self.out.write_all(&self.line)?;
        self.out.flush()
    }

    fn finish(&mut self, _read: ReadStored<'_>) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use jiff::Timestamp;

    use super::JsonLines;
    use crate::model::event::{Envelope, Event, NoteLevel, VERSION};
    use crate::sink::Sink;

    /// Remembers each write.
    struct Writes(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The serialiser wrote each brace and quote to the file.
    #[test]
    fn an_event_is_one_write() {
        let writes = Arc::new(Mutex::new(Vec::new()));
        let mut sink = JsonLines::new("ndjson".to_owned(), Box::new(Writes(Arc::clone(&writes))));
        for seq in 0..3 {
            let event = Event::Noted { level: NoteLevel::Info, text: "a \"note\"".to_owned() };
            let envelope = Envelope { v: VERSION, seq, at: Timestamp::UNIX_EPOCH, t: Duration::ZERO, event };
            sink.event(&envelope, &|_, _| Vec::new()).expect("written");
        }
        assert_eq!(writes.lock().expect("no panic").len(), 3);
        assert!(writes.lock().expect("no panic").iter().all(|line| line.ends_with(b"}\n")));
    }
}
