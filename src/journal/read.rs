//! Reads a journal as a crash may have left it: a torn last line is dropped. What is newer than this apm is refused, but for
//! events of a kind it does not know, which are skipped and counted: nothing is dropped in silence.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::model::event::{Envelope, Event, FEATURES, VERSION};
use crate::model::unit::micros;
use crate::sys::beneath;

/// A journal read to its end.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    /// The events, without those of a kind this apm does not know.
    pub(crate) envelopes: Vec<Envelope>,
    /// How many events were skipped, by kind.
    pub(crate) skipped: BTreeMap<String, u64>,
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
    #[error(
        "record {seq} (`{kind}`) was written by a newer apm and has what this one does not know: {why}; use the apm that wrote it"
    )]
    Unknown { seq: u64, kind: String, why: String },
    #[error("the run needs `{feature}`, which this apm does not know; use the apm that wrote it")]
    Feature { feature: String },
    #[error("line {line} is damaged: {why}")]
    Damaged { line: u64, why: String },
}

/// One line, with its event still as text. Every version has these fields.
#[derive(Deserialize)]
struct Frame<'a> {
    v: u32,
    seq: u64,
    at: Timestamp,
    #[serde(rename = "t_us", with = "micros")]
    t: Duration,
    #[serde(borrow)]
    event: &'a RawValue,
}

/// What a line is.
pub(crate) enum Line {
    /// An event.
    Event(Box<Envelope>),
    /// An event of a kind that this apm does not know.
    UnknownKind { kind: String },
}

/// The name of the kind of an event: the one key of its object, or the object itself where it is only a text.
struct Kind(String);

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl<'de> Visitor<'de> for Name {
            type Value = Kind;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an event")
            }
            fn visit_str<E>(self, name: &str) -> Result<Kind, E> {
                Ok(Kind(name.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
                let mut first = None;
                while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                    first.get_or_insert(name);
                }
                Ok(Kind(first.unwrap_or_default()))
            }
        }
        deserializer.deserialize_any(Name)
    }
}

/// Longest line accepted: a batch of tasks with long scripts is a few MiB.
pub(super) const LINE_MAX: u64 = 256 << 20;

/// Reads a journal. One that is not there is empty: apm was killed after it made the folder of the run, before the file.
pub(crate) fn read(path: &Path) -> Result<Recorded, ReadError> {
    match beneath::own_file(path) {
        Ok(file) => parse(BufReader::with_capacity(1 << 16, file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Recorded::default()),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn parse(reader: impl BufRead) -> Result<Recorded, ReadError> {
    let mut envelopes = Vec::new();
    let read = stream(reader, &mut |envelope| {
        envelopes.push(envelope);
        Ok(())
    })?;
    Ok(Recorded { envelopes, ..read })
}

/// Hands each event of a journal over as it is read, so that a long journal need not fit into memory. The `envelopes` of
/// the answer are empty.
pub(crate) fn each(path: &Path, take: &mut dyn FnMut(Envelope) -> io::Result<()>) -> Result<Recorded, ReadError> {
    match beneath::own_file(path) {
        Ok(file) => stream(BufReader::with_capacity(1 << 16, file), take),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Recorded::default()),
        Err(error) => Err(error.into()),
    }
}

fn stream(mut reader: impl BufRead, take: &mut dyn FnMut(Envelope) -> io::Result<()>) -> Result<Recorded, ReadError> {
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
        // Without its line break a record may be a prefix that happens to parse: it does not count.
        if line.last() != Some(&b'\n') {
            recorded.torn_len = len;
            return Ok(recorded);
        }
        match read_line(&line, number, recorded.next_seq) {
            Ok(Line::Event(envelope)) => take(*envelope)?,
            Ok(Line::UnknownKind { kind }) => *recorded.skipped.entry(kind).or_default() += 1,
            Err(ReadError::Damaged { line, why }) => {
                // A crash tears the end only: a bad line with nothing behind it is that.
                let rest = io::Read::take(&mut reader, 1).read_until(b'\n', &mut Vec::new())?;
                if rest == 0 {
                    recorded.torn_len = len;
                    return Ok(recorded);
                }
                return Err(ReadError::Damaged { line, why });
            }
            Err(error) => return Err(error),
        }
        recorded.next_seq += 1;
        recorded.good_len += len;
    }
}

/// Reads one whole line, whose number in the file is `line`; its event must have the number `next_seq`.
pub(crate) fn read_line(text: &[u8], line: u64, next_seq: u64) -> Result<Line, ReadError> {
    let damaged = |why: String| ReadError::Damaged { line, why };
    let Frame { v, seq, at, t, event } = serde_json::from_slice(text).map_err(|error| {
        // A later version may have other fields, but it says which it is.
        match serde_json::from_slice::<VersionOnly>(text) {
            Ok(VersionOnly { v, seq }) if v > VERSION => ReadError::Newer { seq, found: v },
            _ => damaged(error.to_string()),
        }
    })?;
    if v > VERSION {
        return Err(ReadError::Newer { seq, found: v });
    }
    if seq != next_seq {
        return Err(damaged(format!("record {seq} where {next_seq} belongs")));
    }
    match serde_json::from_str::<Event>(event.get()) {
        Ok(event) => {
            if let Event::RunStarted(started) = &event
                && let Some(feature) = started.needs.iter().find(|feature| !FEATURES.contains(&feature.as_str()))
            {
                return Err(ReadError::Feature { feature: feature.clone() });
            }
            Ok(Line::Event(Box::new(Envelope { v, seq, at, t, event })))
        }
        Err(error) => {
            let Kind(kind) = serde_json::from_str(event.get()).map_err(|error| damaged(error.to_string()))?;
            if Event::KINDS.contains(&kind.as_str()) {
                Err(ReadError::Unknown { seq, kind, why: error.to_string() })
            } else {
                Ok(Line::UnknownKind { kind })
            }
        }
    }
}

/// What to say where events of unknown kinds were skipped.
pub(crate) fn skipped_warning(skipped: &BTreeMap<String, u64>) -> Option<String> {
    let total: u64 = skipped.values().sum();
    let kinds: Vec<String> = skipped.iter().map(|(kind, count)| format!("{count} x `{kind}`")).collect();
    let (noun, verb, them) = if total == 1 { ("event", "was", "it") } else { ("events", "were", "them") };
    (total > 0).then(|| {
        format!(
            "{total} {noun} of kinds that this apm does not know {verb} skipped: {}; a newer apm wrote {them}",
            kinds.join(", ")
        )
    })
}

#[derive(Deserialize)]
struct VersionOnly {
    v: u32,
    seq: u64,
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

    /// Regression: of a hundred percentages nine had another last digit when they were read, and so had the replayed report.
    #[test]
    fn a_number_is_the_same_when_it_is_read_back() {
        let line = |cpu: &str| {
            let event = format!(r#"{{"sampled":{{"running":1,"queued":0,"memory":0,"cpu":{cpu},"processes":1}}}}"#);
            format!(r#"{{"v":{VERSION},"seq":0,"at":"1970-01-01T00:00:00Z","t_us":0,"event":{event}}}"#)
        };
        for cpu in ["31.245270191439438", "0.1", "1.0715660391465826e-75"] {
            let recorded = parse(format!("{}\n", line(cpu)).as_bytes()).expect("readable");
            assert_eq!(serde_json::to_string(&recorded.envelopes[0]).expect("an envelope serialises"), line(cpu));
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
        let newer = line(0, "one").replace(&format!("{{\"v\":{VERSION}"), &format!("{{\"v\":{}", VERSION + 1));
        assert!(matches!(parse(newer.as_bytes()), Err(ReadError::Newer { seq: 0, found }) if found == VERSION + 1));
    }
}
