//! Reads a journal as a crash may have left it: a torn last line is dropped, what is newer than this apm is refused.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

use crate::model::event::{Envelope, VERSION};

/// A journal read to its end.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    /// The events, without those of a kind this apm does not know.
    pub(crate) envelopes: Vec<Envelope>,
    /// Length of the good part in bytes: where an append goes.
    pub(crate) good_len: u64,
    /// Bytes after it.
    pub(crate) torn_len: u64,
    /// Number of the next event.
    pub(crate) next_seq: u64,
}

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("record {seq} has version {found}, this apm reads up to {VERSION}; use the apm that wrote it")]
    Newer { seq: u64, found: u32 },
    #[error("line {line} is damaged: {why}")]
    Damaged { line: u64, why: String },
}

/// The part of an envelope that every version has.
#[derive(Deserialize)]
struct Frame {
    v: u32,
    seq: u64,
}

/// Longest line accepted: a batch of tasks with long scripts is a few MiB.
const LINE_MAX: u64 = 256 << 20;

/// Reads a journal. One that is not there is empty: apm was killed after it made the folder of the run, before the file.
pub(crate) fn read(path: &Path) -> Result<Recorded, ReadError> {
    match File::open(path) {
        Ok(file) => parse(BufReader::with_capacity(1 << 16, file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Recorded::default()),
        Err(error) => Err(error.into()),
    }
}

fn parse(mut reader: impl BufRead) -> Result<Recorded, ReadError> {
    let mut recorded = Recorded::default();
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let len = io::Read::take(&mut reader, LINE_MAX).read_until(b'\n', &mut line)? as u64;
        if len == 0 {
            return Ok(recorded);
        }
        number += 1;
        let last = line.last() != Some(&b'\n');
        match (serde_json::from_slice::<Frame>(&line), serde_json::from_slice::<Envelope>(&line)) {
            // Without its line break a record may be a prefix that happens to parse: it does not count.
            _ if last => {
                recorded.torn_len = len;
                return Ok(recorded);
            }
            (Ok(frame), _) if frame.v > VERSION => {
                return Err(ReadError::Newer { seq: frame.seq, found: frame.v });
            }
            (Ok(frame), _) if frame.seq != recorded.next_seq => {
                let why = format!("record {} where {} belongs", frame.seq, recorded.next_seq);
                return Err(ReadError::Damaged { line: number, why });
            }
            (Ok(_), Ok(envelope)) => recorded.envelopes.push(envelope),
            // A kind of event that a later apm of the same version added.
            (Ok(_), Err(error)) if is_unknown_kind(&error) => {}
            (Ok(_), Err(error)) | (Err(error), _) => {
                // A crash tears the end only: a bad line with nothing behind it is that.
                let rest = io::Read::take(&mut reader, 1).read_until(b'\n', &mut Vec::new())?;
                if rest == 0 {
                    recorded.torn_len = len;
                    return Ok(recorded);
                }
                return Err(ReadError::Damaged { line: number, why: error.to_string() });
            }
        }
        recorded.next_seq += 1;
        recorded.good_len += len;
    }
}

fn is_unknown_kind(error: &serde_json::Error) -> bool {
    error.is_data() && error.to_string().starts_with("unknown variant")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::{ReadError, parse};
    use crate::model::event::{Envelope, Event, NoteLevel, VERSION};

    fn line(seq: u64, text: &str) -> String {
        let event = Event::Noted { level: NoteLevel::Info, text: text.to_owned() };
        let envelope = Envelope { v: VERSION, seq, at: Timestamp::UNIX_EPOCH, t: Duration::from_micros(seq), event };
        serde_json::to_string(&envelope).expect("an envelope serialises") + "\n"
    }

    #[test]
    fn a_journal_cut_at_any_byte_gives_its_whole_records() {
        let text = line(0, "one") + &line(1, "two") + &line(2, "three");
        for cut in 0..=text.len() {
            let recorded = parse(&text.as_bytes()[..cut]).expect("a cut is no damage");
            let whole = text[..cut].matches('\n').count();
            assert_eq!(recorded.envelopes.len(), whole, "cut at {cut}");
            assert_eq!(recorded.good_len + recorded.torn_len, cut as u64);
            assert_eq!(recorded.next_seq, whole as u64);
        }
    }

    #[test]
    fn damage_in_the_middle_is_said_and_unknown_kinds_are_skipped() {
        let bad = line(0, "one") + "{\"v\":1,garbage\n" + &line(2, "three");
        assert!(matches!(parse(bad.as_bytes()), Err(ReadError::Damaged { line: 2, .. })));
        let gap = line(0, "one") + &line(2, "three") + &line(3, "four");
        assert!(matches!(parse(gap.as_bytes()), Err(ReadError::Damaged { line: 2, .. })));
        let unknown = line(0, "one").replace("noted", "sung") + &line(1, "two");
        let recorded = parse(unknown.as_bytes()).expect("readable");
        assert_eq!((recorded.envelopes.len(), recorded.next_seq), (1, 2));
        let newer = line(0, "one").replace("{\"v\":1", "{\"v\":2");
        assert!(matches!(parse(newer.as_bytes()), Err(ReadError::Newer { seq: 0, found: 2 })));
    }
}
