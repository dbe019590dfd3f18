//! Requests to block devices while a program runs: how many, how much, how long each. They belong to the whole machine: what
//! writes back is the kernel, later, for whoever had written. Where tracepoints are refused there are the counters of
//! /proc/diskstats, with a mean in place of percentiles.

#![expect(clippy::disallowed_methods, reason = "kernel: /proc/diskstats")]

use std::collections::{BTreeMap, HashMap};
use std::fs;

use crate::model::profile::{Kind, List, Unit};
use crate::profile::latency::Latency;
use crate::profile::record::perf::{Record, Sample};
use crate::profile::record::trace::{self, Field, Format, Opened, Refused, Wanted, Whose};
use crate::sys::perf::{self, Callers};

/// Requests under way that are kept in mind.
const PENDING_MAX: usize = 65_536;
/// Devices in the table.
const DEVICES_MAX: usize = 256;
/// Bytes of a CPU's ring.
const RING: usize = 256 << 10;
/// Of a sector, whatever the device's own are.
const SECTOR: u64 = 512;

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Request {
    Read,
    Write,
    Discard,
    Flush,
    Other,
}

impl Request {
    /// `WS`, `RA`, `FF`: a flush before it, what it is, and how.
    fn parse(text: &[u8]) -> Self {
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let of = |byte: &u8| match byte {
            b'R' => Some(Self::Read),
            b'W' => Some(Self::Write),
            b'D' | b'E' => Some(Self::Discard),
            _ => None,
        };
        let flush = text.first().filter(|byte| **byte == b'F').map(|_| Self::Flush);
        text.iter().take(2).find_map(of).or(flush).unwrap_or(Self::Other)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Discard => "discard",
            Self::Flush => "flush",
            Self::Other => "other",
        }
    }
}

/// Where the fields of a tracepoint lie.
#[derive(Clone, Copy, Debug)]
struct Fields {
    device: Field,
    sector: Field,
    sectors: Field,
    kind: Field,
}

impl Fields {
    fn of(format: &Format) -> Result<Self, Refused> {
        let field = |name| format.field(name);
        Ok(Self { device: field("dev")?, sector: field("sector")?, sectors: field("nr_sector")?, kind: field("rwbs")? })
    }
}

/// What distinguishes a request from others that are under way.
type Key = (u32, u64, Request);

#[derive(Debug, Default)]
struct Row {
    bytes: u64,
    times: Latency,
    count: u64,
}

/// What is known of requests, from records alone.
#[derive(Debug, Default)]
struct Requests {
    pending: HashMap<Key, (u64, u64)>,
    rows: BTreeMap<(u32, Request), Row>,
}

impl Requests {
    fn take(&mut self, fields: &Fields, is_end: bool, sample: &Sample<'_>) -> Option<()> {
        let device = fields.device.value(sample.raw)? as u32;
        let kind = Request::parse(fields.kind.bytes(sample.raw)?);
        // A flush is of no sector: the kernel (6.18) calls that 0 at its issue and -1 at its completion.
        let sector = fields.sector.value(sample.raw)?;
        let key = (device, if kind == Request::Flush { 0 } else { sector }, kind);
        if !is_end {
            let bytes = fields.sectors.value(sample.raw)?.saturating_mul(SECTOR);
            if self.pending.len() < PENDING_MAX {
                self.pending.insert(key, (sample.at, bytes));
            }
            return Some(());
        }
        let (since, bytes) = self.pending.remove(&key)?;
        if self.rows.len() < DEVICES_MAX || self.rows.contains_key(&(device, kind)) {
            let row = self.rows.entry((device, kind)).or_default();
            row.count += 1;
            row.bytes = row.bytes.saturating_add(bytes);
            row.times.add(sample.at.saturating_sub(since));
        }
        Some(())
    }
}

enum How {
    Traced { opened: Box<Opened>, begin: Fields, end: Fields, requests: Requests },
    Counted { before: HashMap<String, Counted>, refused: Refused },
}

/// The devices of this machine.
pub(crate) struct Devices(How);

/// How many, bytes, and nanoseconds of all together: of reads, writes, discards, flushes.
type Counted = [[u64; 3]; 4];

impl Devices {
    /// From now on.
    pub(crate) fn begin() -> Self {
        Self(match traced() {
            Ok((opened, begin, end)) => {
                How::Traced { opened: Box::new(opened), begin, end, requests: Requests::default() }
            }
            Err(refused) => How::Counted { before: counted(), refused },
        })
    }

    /// Takes what has come.
    pub(crate) fn round(&mut self) {
        self.take(false);
    }

    fn take(&mut self, is_last: bool) {
        let How::Traced { opened, begin, end, requests } = &mut self.0 else {
            return;
        };
        let Opened { rings, forms, which, .. } = &mut **opened;
        rings.round(&|event| forms.get(&event).copied(), is_last, |record| {
            if let Record::Sample(sample) = record {
                let is_end = which.get(&sample.event) == Some(&1);
                requests.take(if is_end { end } else { begin }, is_end, &sample);
            }
        });
    }

    /// The table, where anything was read or written, and what is to be told.
    pub(crate) fn finish(mut self) -> (Option<List>, Vec<String>) {
        if let How::Traced { opened, .. } = &self.0 {
            opened.events.iter().for_each(|event| {
                // One that cannot be ended ends with apm.
                let _ = perf::disable(event);
            });
        }
        self.take(true);
        match self.0 {
            How::Traced { opened, requests, .. } => {
                let lost = opened.rings.lost;
                let notes = (lost > 0).then(|| format!("devices: {lost} records of requests were lost")).into_iter();
                (traced_list(&requests, &name), notes.collect())
            }
            How::Counted { before, refused } => {
                let list = counted_list(&before, &counted());
                let note =
                    format!("devices: {refused}; these are the counters of /proc/diskstats, without percentiles");
                let notes = if list.is_some() { vec![note] } else { Vec::new() };
                (list, notes)
            }
        }
    }
}

fn traced() -> Result<(Opened, Fields, Fields), Refused> {
    let (begin, end) = (trace::find("block/block_rq_issue")?, trace::find("block/block_rq_complete")?);
    let wanted = [&begin, &end].map(|it| Wanted {
        number: it.number,
        filter: None,
        callers: Callers::None,
        track: false,
        ring: 0,
    });
    let fields = (Fields::of(&begin)?, Fields::of(&end)?);
    let opened = trace::open(&wanted, Whose::Machine, false, &[RING])?;
    Ok((opened, fields.0, fields.1))
}

/// `vda`, by the kernel's own number: 12 bits and 20.
fn name(device: u32) -> String {
    let number = format!("{}:{}", device >> 20, device & 0xf_ffff);
    let link = fs::read_link(format!("/sys/dev/block/{number}")).ok();
    let name = link.and_then(|link| Some(link.file_name()?.to_string_lossy().replace('!', "/")));
    name.unwrap_or(number)
}

fn list(columns: &[(&str, Unit)], mut rows: Vec<(String, Vec<u64>)>) -> Option<List> {
    let columns = columns.iter().map(|(name, unit)| Kind { name: (*name).to_owned(), unit: *unit }).collect();
    rows.sort_by(|(a, x), (b, y)| (y.get(1), a).cmp(&(x.get(1), b)));
    rows.truncate(DEVICES_MAX);
    let of = "device, of the whole machine".to_owned();
    (!rows.is_empty()).then(|| List { name: "devices".to_owned(), of, columns, rows })
}

fn traced_list(requests: &Requests, name: &dyn Fn(u32) -> String) -> Option<List> {
    let time = |name| (name, Unit::Nanoseconds);
    let columns =
        [("requests", Unit::Count), ("bytes", Unit::Bytes), time("p50"), time("p95"), time("p99"), time("most")];
    let rows = requests.rows.iter().map(|((device, kind), row)| {
        let [p50, p95, p99] = [50, 95, 99].map(|percent| row.times.percentile(percent));
        (format!("{} {}", name(*device), kind.name()), vec![row.count, row.bytes, p50, p95, p99, row.times.most()])
    });
    list(&columns, rows.collect())
}

/// Of whole devices: partitions count with them.
fn counted() -> HashMap<String, Counted> {
    let text = fs::read_to_string("/proc/diskstats").unwrap_or_default();
    let is_whole = |name: &str| fs::exists(format!("/sys/block/{}", name.replace('/', "!"))).unwrap_or(false);
    text.lines().filter_map(diskstats).filter(|(name, _)| is_whole(name)).take(DEVICES_MAX).collect()
}

/// `253 0 vda 5 1 80 3 ...`: the kernel's Documentation/admin-guide/iostats.rst.
fn diskstats(line: &str) -> Option<(String, Counted)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    let ns = |at| number(at).unwrap_or(0).saturating_mul(1_000_000);
    let bytes = |at| number(at).unwrap_or(0).saturating_mul(SECTOR);
    let count = |at| number(at).unwrap_or(0);
    number(3)?;
    let counted = [
        [count(3), bytes(5), ns(6)],
        [count(7), bytes(9), ns(10)],
        [count(14), bytes(16), ns(17)],
        [count(18), 0, ns(19)],
    ];
    Some(((*words.get(2)?).to_owned(), counted))
}

fn counted_list(before: &HashMap<String, Counted>, after: &HashMap<String, Counted>) -> Option<List> {
    let kinds = [Request::Read, Request::Write, Request::Discard, Request::Flush];
    let mut rows = Vec::new();
    for (name, after) in after {
        let none = Counted::default();
        let before = before.get(name).unwrap_or(&none);
        for (kind, (before, after)) in kinds.iter().zip(before.iter().zip(after)) {
            let [count, bytes, ns] = std::array::from_fn(|at| after[at].saturating_sub(before[at]));
            if count > 0 {
                rows.push((format!("{name} {}", kind.name()), vec![count, bytes, ns / count]));
            }
        }
    }
    list(&[("requests", Unit::Count), ("bytes", Unit::Bytes), ("mean", Unit::Nanoseconds)], rows)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::{Fields, Request, Requests, counted_list, diskstats, traced_list};
    use crate::profile::record::perf::Sample;
    use crate::profile::record::trace::Format;

    fn fields() -> Fields {
        let text = "ID: 9\n\tfield:dev_t dev;\toffset:8;\tsize:4;\tsigned:0;\n\tfield:sector_t sector;\toffset:16;\tsize:8;\tsigned:0;\n\
            \tfield:unsigned int nr_sector;\toffset:24;\tsize:4;\tsigned:0;\n\tfield:char rwbs[10];\toffset:34;\tsize:10;\tsigned:0;\n";
        Fields::of(&Format::parse(text).expect("a format")).expect("fields")
    }

    fn raw(sector: u64, sectors: u32, kind: &[u8]) -> Vec<u8> {
        let mut raw = vec![0; 64];
        raw[8..12].copy_from_slice(&(253_u32 << 20 | 16).to_ne_bytes());
        raw[16..24].copy_from_slice(&sector.to_ne_bytes());
        raw[24..28].copy_from_slice(&sectors.to_ne_bytes());
        raw[34..34 + kind.len()].copy_from_slice(kind);
        raw
    }

    #[test]
    fn a_request_is_what_its_letters_say() {
        let all = [(&b"R"[..], "read"), (b"RA", "read"), (b"WS", "write"), (b"FWFS", "write"), (b"FF", "flush")];
        for (text, name) in
            all.into_iter().chain([(&b"F\0W"[..], "flush"), (b"DS", "discard"), (b"N", "other"), (b"", "other")])
        {
            assert_eq!(Request::parse(text).name(), name, "{text:?}");
        }
    }

    #[test]
    fn a_request_takes_from_its_issue_to_its_completion() {
        let mut requests = Requests::default();
        let mut see = |at, is_end, sector, sectors, kind: &[u8]| {
            let raw = raw(sector, sectors, kind);
            requests.take(&fields(), is_end, &Sample { at, raw: &raw, ..Sample::default() });
        };
        see(1000, false, 8, 16, b"WS");
        see(1100, false, 80, 8, b"WS");
        see(3000, true, 8, 16, b"WS");
        see(3100, true, 80, 8, b"WS");
        see(4000, true, 99, 8, b"R");
        see(5000, false, 0, 0, b"FF");
        see(5010, true, u64::MAX, 0, b"FF");
        let list =
            traced_list(&requests, &|device| format!("{}:{}", device >> 20, device & 0xf_ffff)).expect("a table");
        let expected = [
            ("253:16 write".to_owned(), vec![2, 24 * 512, 2000, 2000, 2000, 2000]),
            ("253:16 flush".to_owned(), vec![1, 0, 10, 10, 10, 10]),
        ];
        assert_eq!(list.rows, expected);
    }

    #[test]
    fn counters_are_told_by_what_came_between() {
        let line = |reads: u64, flushes: u64| {
            diskstats(&format!(" 253 0 vda {reads} 0 {} {} 7 0 70 9 0 1 1 0 0 0 0 {flushes} 6", reads * 8, reads * 2))
        };
        let (before, after) = (HashMap::from_iter(line(10, 1)), HashMap::from_iter(line(14, 1)));
        let list = counted_list(&before, &after).expect("a table");
        assert_eq!(list.rows, [("vda read".to_owned(), vec![4, 4 * 8 * 512, 2_000_000])]);
        assert!(counted_list(&after, &after).is_none());
    }

    proptest! {
        #[test]
        fn no_record_and_no_line_is_a_panic(
            line in "[0-9a-z ]{0,120}",
            records in prop::collection::vec((any::<bool>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..64)), 0..9),
        ) {
            diskstats(&line);
            let mut requests = Requests::default();
            for (is_end, at, raw) in &records {
                requests.take(&fields(), *is_end, &Sample { at: *at, raw, ..Sample::default() });
            }
            traced_list(&requests, &|device| device.to_string());
        }
    }
}
