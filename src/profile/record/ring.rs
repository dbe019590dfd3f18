//! Reads the ring that the preloaded library writes.
//!
//! Everything in it comes from processes that may be broken or hostile: it is copied first and then judged, and what
//! makes no sense is dropped and counted. A process that died in the middle of a record does not hold up the others
//! (`Ring::drain`).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::layout as l;
use crate::sys::shared::Shared;

/// Open files that are counted one by one, in all processes together.
pub(super) const FILES: usize = 4096;
/// How long a record may stay unfinished by a process that lives. Nothing is lost by waiting while there is room.
const PATIENCE: Duration = Duration::from_secs(1);
/// Of the text of one process's memory map.
const MAPS_MAX: usize = 2 << 20;
/// Processes whose map is half read.
const MAPS_OPEN_MAX: usize = 1024;

/// Where the ring begins in the shared memory.
pub(super) const RING_AT: usize = l::FILE_TABLE + FILES * l::FILE_SIZE;

/// What happened in a process.
#[derive(Debug, PartialEq)]
pub(crate) enum Event<'a> {
    /// A process is there: a program began, or a fork was noticed.
    Started { pid: u32, parent: u32, is_new_program: bool, program: &'a Path },
    /// Where its code lies: before its first sample and at its end.
    Maps { pid: u32, text: Vec<u8> },
    /// A descriptor was used for the first time.
    File { pid: u32, fd: i32, entry: u32, path: &'a Path },
    /// A sample.
    Caught(Caught<'a>),
    /// The program set a handler of its own for SIGPROF: no more ticks from this process.
    SignalTaken { pid: u32 },
    /// It ends orderly.
    Ending { pid: u32 },
}

/// A sample.
#[derive(Debug, PartialEq)]
pub(crate) struct Caught<'a> {
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    /// Of the monotonic time source.
    pub(crate) at_ns: u64,
    pub(crate) regs: Regs,
    /// From `regs.sp` upwards.
    pub(crate) stack: &'a [u8],
    pub(crate) what: What,
}

/// Registers of the function that was interrupted, or that called ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Regs {
    /// After a tick the place itself, else the address that the call returns to.
    pub(crate) ip: u64,
    pub(crate) sp: u64,
    pub(crate) bp: u64,
}

/// What was sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Alloc { pointer: u64, size: u64 },
    Free { pointer: u64 },
    Tick { missed: u64 },
    Call(Call),
}

/// A call that moves bytes or waits for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) kind: CallKind,
    pub(crate) fd: i32,
    /// Of the table of files.
    pub(crate) entry: u32,
    /// What it returned.
    pub(crate) result: i64,
    pub(crate) ns: u64,
    /// Chosen by its bytes, and so to be weighted; else recorded because it was slow or of a rare kind.
    pub(crate) is_sampled: bool,
}

/// Kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CallKind {
    Read,
    Write,
    Receive,
    Send,
    Sync,
    Connect,
    Accept,
}

/// Exact numbers of an open file in a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileTotals {
    pub(crate) entry: u32,
    /// Zero in the last entry: everything that found no place of its own.
    pub(crate) pid: u32,
    pub(crate) fd: i32,
    pub(crate) reads: Totals,
    pub(crate) writes: Totals,
    pub(crate) syncs: Totals,
    pub(crate) connects: Totals,
}

/// Calls and what they did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) calls: u64,
    pub(crate) bytes: u64,
    pub(crate) ns: u64,
}

/// What is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loss {
    /// Records that found the ring full.
    pub(crate) lost: u64,
    /// Allocations that were sampled but could not be followed.
    pub(crate) crowded: u64,
    /// Records whose writer died or went away.
    pub(crate) abandoned: u64,
    /// Records that made no sense.
    pub(crate) garbled: u64,
    /// The words that hold the ring together were overwritten: nothing more can be read.
    pub(crate) is_broken: bool,
}

/// The reading end.
#[derive(Debug)]
pub(crate) struct Ring {
    shared: Shared,
    size: u64,
    head: u64,
    /// Since when nothing could be read at `head`.
    stuck: Option<Instant>,
    maps: HashMap<u32, Vec<u8>>,
    record: Vec<u8>,
    loss: Loss,
}

impl Ring {
    /// Of this memory, whose ring has this size.
    pub(super) fn new(shared: Shared, size: usize) -> Self {
        Self {
            shared,
            size: size as u64,
            head: 0,
            stuck: None,
            maps: HashMap::new(),
            record: Vec::new(),
            loss: Loss::default(),
        }
    }

    /// Takes out what is there, in order. A record that is not finished holds up what is behind it until its writer is
    /// dead or `PATIENCE` is over; then it is passed. Returns how many records there were.
    ///
    /// A writer that lived and only slept that long (stopped by a debugger) may still write into a place that is another
    /// record's by then. Its stamp is refused, but bytes of that other one may be wrong: that is the price of never
    /// waiting for ever.
    pub(crate) fn drain(
        &mut self,
        now: Instant,
        is_alive: impl Fn(u32) -> bool,
        mut each: impl FnMut(Event<'_>),
    ) -> usize {
        let mut count = 0;
        // At most what is there now: who writes faster than we read does not keep us here.
        let end = self.shared.load(l::TAIL);
        while self.head != end {
            let left = end.wrapping_sub(self.head);
            if self.loss.is_broken || left > self.size || !left.is_multiple_of(l::GRANULE) {
                self.loss.is_broken = true;
                break;
            }
            let next = match self.look() {
                Place::Done(length) => {
                    self.shared.copy(self.offset(self.head), length as usize, &mut self.record);
                    count += 1;
                    length
                }
                Place::Claimed { length, pid } if self.waited(now) >= PATIENCE || !is_alive(pid) => {
                    // It may have been finished at this very moment: then it is read as any other.
                    let [claimed, none] = [l::stamp(self.head, length, l::CLAIMED), 0];
                    if !self.shared.replace(self.offset(self.head), claimed, none) {
                        continue;
                    }
                    self.record.clear();
                    self.loss.abandoned += 1;
                    length
                }
                Place::Nothing if self.waited(now) >= PATIENCE => {
                    self.record.clear();
                    self.loss.abandoned += 1;
                    self.next_stamp(end)
                }
                Place::Claimed { .. } | Place::Nothing => break,
            };
            self.stuck = None;
            self.head = self.head.wrapping_add(next).min(end);
            self.shared.store(l::HEAD, self.head);
            self.deliver(&mut each);
        }
        count
    }

    /// Takes out what is left when nobody writes any more.
    pub(crate) fn finish(&mut self, mut each: impl FnMut(Event<'_>)) {
        let now = Instant::now();
        self.stuck = now.checked_sub(PATIENCE);
        while self.drain(now + PATIENCE, |_| false, &mut each) > 0 {
            self.stuck = now.checked_sub(PATIENCE);
        }
        for (pid, text) in std::mem::take(&mut self.maps) {
            each(Event::Maps { pid, text });
        }
    }

    fn offset(&self, position: u64) -> usize {
        RING_AT + (position & (self.size - 1)) as usize
    }

    fn waited(&mut self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.stuck.get_or_insert(now))
    }

    fn look(&self) -> Place {
        let at = self.offset(self.head);
        let stamp = self.shared.load(at);
        let length = (stamp >> 2 & 0x3fff) * l::GRANULE;
        let is_long_enough = length >= l::RECORD as u64 && length <= l::RECORD_MAX as u64;
        match stamp & 3 {
            _ if !is_long_enough || stamp >> 16 != l::stamp(self.head, 0, 0) >> 16 => Place::Nothing,
            l::CLAIMED => Place::Claimed { length, pid: self.shared.load(at + l::PID) as u32 },
            l::DONE => Place::Done(length),
            _ => Place::Nothing,
        }
    }

    /// How far it is to the next record that somebody stamped, or to the end.
    fn next_stamp(&self, end: u64) -> u64 {
        let left = end.wrapping_sub(self.head);
        (l::GRANULE..left)
            .step_by(l::GRANULE as usize)
            .find(|ahead| {
                let position = self.head.wrapping_add(*ahead);
                let stamp = self.shared.load(self.offset(position));
                stamp >> 16 == l::stamp(position, 0, 0) >> 16 && [l::CLAIMED, l::DONE].contains(&(stamp & 3))
            })
            .unwrap_or(left)
    }

    /// Hands on the record that was copied, if it is one.
    fn deliver(&mut self, each: &mut impl FnMut(Event<'_>)) {
        if self.record.is_empty() {
            return;
        }
        let record = std::mem::take(&mut self.record);
        match Raw::read(&record) {
            Some(raw) if raw.kind == l::MAPS => self.part_of_maps(&raw, each),
            Some(raw) => match raw.event() {
                Some(event) => each(event),
                None => self.loss.garbled += 1,
            },
            None => self.loss.garbled += 1,
        }
        self.record = record;
    }

    fn part_of_maps(&mut self, raw: &Raw<'_>, each: &mut impl FnMut(Event<'_>)) {
        let is_first = raw.a == 0;
        if is_first && self.maps.len() < MAPS_OPEN_MAX {
            self.maps.insert(raw.pid, Vec::new());
        }
        // Parts of a text whose beginning was lost are of no use.
        let Some(text) = self.maps.get_mut(&raw.pid) else { return };
        if text.len() as u64 == raw.a && text.len() + raw.payload.len() <= MAPS_MAX {
            text.extend_from_slice(raw.payload);
        }
        if raw.b == 1
            && let Some(text) = self.maps.remove(&raw.pid)
        {
            each(Event::Maps { pid: raw.pid, text });
        }
    }

    /// What is missing so far.
    pub(crate) fn loss(&self) -> Loss {
        Loss { lost: self.shared.load(l::LOST), crowded: self.shared.load(l::CROWDED), ..self.loss }
    }

    /// The exact numbers of all files so far.
    pub(crate) fn files(&self) -> Vec<FileTotals> {
        let used = (self.shared.load(l::FILES_USED) as usize).min(FILES - 1);
        (0..used).chain([FILES - 1]).map(|entry| self.file(entry)).filter(|file| !file.is_empty()).collect()
    }

    fn file(&self, entry: usize) -> FileTotals {
        let word = |index: usize| self.shared.load(l::FILE_TABLE + entry * l::FILE_SIZE + 8 * index);
        let owner = word(0);
        let [reads, writes, syncs, connects] = std::array::from_fn::<_, { l::CLASSES }, _>(|class| {
            let at = 1 + 3 * class;
            Totals { calls: word(at), bytes: word(at + 1), ns: word(at + 2) }
        });
        let (pid, fd) = ((owner >> 32) as u32, owner as u32 as i32);
        FileTotals { entry: entry as u32, pid, fd, reads, writes, syncs, connects }
    }
}

impl FileTotals {
    fn is_empty(&self) -> bool {
        [self.reads, self.writes, self.syncs, self.connects].iter().all(|totals| totals.calls == 0)
    }
}

/// What lies at a position.
enum Place {
    Done(u64),
    Claimed { length: u64, pid: u32 },
    Nothing,
}

/// The words of a record.
struct Raw<'a> {
    pid: u32,
    tid: u32,
    at_ns: u64,
    kind: u32,
    a: u64,
    b: u64,
    c: u64,
    d: u64,
    regs: Regs,
    payload: &'a [u8],
}

impl<'a> Raw<'a> {
    fn read(record: &'a [u8]) -> Option<Self> {
        let word = |at: usize| record.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
        let half = |at: usize| record.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let payload = half(l::PAYLOAD)? as usize;
        Some(Self {
            pid: half(l::PID)?,
            tid: half(l::TID)?,
            at_ns: word(l::AT)?,
            kind: half(l::KIND)?,
            a: word(l::A)?,
            b: word(l::B)?,
            c: word(l::C)?,
            d: word(l::D)?,
            regs: Regs { ip: word(l::IP)?, sp: word(l::SP)?, bp: word(l::BP)? },
            payload: record.get(l::RECORD..l::RECORD.checked_add(payload)?)?,
        })
    }

    fn event(&self) -> Option<Event<'a>> {
        let (pid, path) = (self.pid, Path::new(OsStr::from_bytes(self.payload)));
        let what = match self.kind {
            l::STARTED => {
                let parent = u32::try_from(self.a).ok()?;
                return Some(Event::Started { pid, parent, is_new_program: self.b == 1, program: path });
            }
            l::FILE => {
                let (fd, entry) = (i32::try_from(self.b).ok()?, u32::try_from(self.a).ok()?);
                return Some(Event::File { pid, fd, entry, path });
            }
            l::SIGNAL_TAKEN => return Some(Event::SignalTaken { pid }),
            l::ENDING => return Some(Event::Ending { pid }),
            l::ALLOC => What::Alloc { pointer: self.a, size: self.b },
            l::FREE => What::Free { pointer: self.a },
            l::TICK => What::Tick { missed: self.a },
            l::CALL => What::Call(self.call()?),
            _ => return None,
        };
        // A record of no stack has no registers either: those words are what lay there before.
        let regs = if matches!(what, What::Free { .. }) { Regs::default() } else { self.regs };
        Some(Event::Caught(Caught { pid, tid: self.tid, at_ns: self.at_ns, regs, stack: self.payload, what }))
    }

    fn call(&self) -> Option<Call> {
        let kind = match self.a >> 32 & 0xff {
            l::READ_CALL => CallKind::Read,
            l::WRITE_CALL => CallKind::Write,
            l::RECEIVE_CALL => CallKind::Receive,
            l::SEND_CALL => CallKind::Send,
            l::SYNC_CALL => CallKind::Sync,
            l::CONNECT_CALL => CallKind::Connect,
            l::ACCEPT_CALL => CallKind::Accept,
            _ => return None,
        };
        Some(Call {
            kind,
            fd: i32::try_from(self.d).ok()?,
            entry: self.a as u32,
            result: self.b as i64,
            ns: self.c,
            is_sampled: self.a >> 63 == 1,
        })
    }
}
