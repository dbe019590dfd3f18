//! Follows a journal that grows: the events so far, then each as it is written. Reads the file and asks nobody, so that a
//! run does not know how many follow it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, Seek, SeekFrom};
use std::path::Path;

use crate::journal::read::{LINE_MAX, Line, ReadError, read_line};
use crate::model::event::Envelope;
use crate::sys::beneath;

/// A journal being followed.
#[derive(Debug)]
pub(crate) struct Follower {
    reader: BufReader<File>,
    /// A line whose end has not been written yet.
    partial: Vec<u8>,
    /// Where that line starts.
    offset: u64,
    line: u64,
    next_seq: u64,
    /// How many events of kinds this apm does not know were skipped, by kind.
    pub(crate) skipped: BTreeMap<String, u64>,
}

impl Follower {
    /// Starts at the first event.
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        let reader = BufReader::with_capacity(1 << 16, beneath::own_file(path)?);
        Ok(Self { reader, partial: Vec::new(), offset: 0, line: 0, next_seq: 0, skipped: BTreeMap::new() })
    }

    /// The next event; nothing where it has not been written yet.
    pub(crate) fn next(&mut self) -> Result<Option<Envelope>, ReadError> {
        loop {
            let room = LINE_MAX.saturating_sub(self.partial.len() as u64);
            self.reader.by_ref().take(room).read_until(b'\n', &mut self.partial)?;
            if self.partial.last() != Some(&b'\n') {
                if self.partial.len() as u64 >= LINE_MAX {
                    let why = format!("it has more than {} MiB", LINE_MAX >> 20);
                    return Err(ReadError::Damaged { line: self.line + 1, why });
                }
                self.look_for_a_cut()?;
                return Ok(None);
            }
            self.line += 1;
            let read = read_line(&self.partial, self.line, self.next_seq);
            self.offset += self.partial.len() as u64;
            self.next_seq += 1;
            self.partial.clear();
            match read? {
                Line::Event(envelope) => return Ok(Some(*envelope)),
                Line::UnknownKind { kind } => *self.skipped.entry(kind).or_default() += 1,
            }
        }
    }

    /// A resume cuts a torn last line off and writes another in its place.
    fn look_for_a_cut(&mut self) -> std::io::Result<()> {
        let read = self.offset + self.partial.len() as u64;
        if !self.partial.is_empty() && self.reader.get_ref().metadata()?.len() < read {
            self.partial.clear();
            self.reader.seek(SeekFrom::Start(self.offset))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use jiff::Timestamp;

    use super::Follower;
    use crate::model::event::{Envelope, Event, NoteLevel, VERSION};

    fn line(seq: u64) -> String {
        let event = Event::Noted { level: NoteLevel::Info, text: "x".repeat(100) };
        let envelope = Envelope { v: VERSION, seq, at: Timestamp::UNIX_EPOCH, t: Duration::ZERO, event };
        serde_json::to_string(&envelope).expect("an envelope serialises") + "\n"
    }

    #[test]
    fn half_a_line_is_waited_for_and_a_torn_one_that_is_cut_off_is_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let mut file = std::fs::File::create(&path).expect("a file");
        let mut write = |text: &str| file.write_all(text.as_bytes()).expect("written");
        write(&line(0));
        write(&line(1)[..50]);
        let mut follower = Follower::open(&path).expect("open");
        let mut seq = || follower.next().expect("good").map(|envelope| envelope.seq);
        assert_eq!((seq(), seq(), seq()), (Some(0), None, None));
        write(&line(1)[50..]);
        assert_eq!((seq(), seq()), (Some(1), None));
        write(&line(2)[..90]);
        assert_eq!(seq(), None);
        // The run was killed here, and a resume writes over what it had begun.
        let keep = (line(0) + &line(1)).len() as u64;
        std::fs::OpenOptions::new().write(true).open(&path).expect("open").set_len(keep).expect("cut");
        assert_eq!(seq(), None);
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).expect("open");
        file.write_all((line(2) + &line(3)).as_bytes()).expect("written");
        assert_eq!((seq(), seq(), seq()), (Some(2), Some(3), None));
    }
}
