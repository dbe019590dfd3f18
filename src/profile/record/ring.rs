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
/// More events than any program has: a billion a second for eleven days.
const COUNT_MAX: u64 = 1 << 50;
/// More bytes or nanoseconds than any file of a program has: an exabyte, 36 years.
const BYTES_MAX: u64 = 1 << 60;
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
    /// It is about to become a program, whose environment names the library or not.
    Executing { pid: u32, program: &'a Path, is_asked: bool },
    /// It did not become that program.
    NotExecuted { pid: u32 },
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
    /// The words that hold the ring together were overwritten: nothing more can be read, and what was counted in it is
    /// unknown.
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
    pub(crate) fn drain(&mut self, now: Instant, is_alive: impl Fn(u32) -> bool, each: impl FnMut(Event<'_>)) -> usize {
        self.take(now, PATIENCE, is_alive, each)
    }

    fn take(
        &mut self,
        now: Instant,
        patience: Duration,
        is_alive: impl Fn(u32) -> bool,
        mut each: impl FnMut(Event<'_>),
    ) -> usize {
        let mut count = 0;
        // At most what is there now: who writes faster than we read does not keep us here.
        let end = self.shared.load(l::TAIL);
        while self.head != end {
            let left = end.wrapping_sub(self.head);
            if self.is_broken() || left > self.size || !left.is_multiple_of(l::GRANULE) {
                self.loss.is_broken = true;
                break;
            }
            let next = match self.look() {
                Place::Done(length) => {
                    self.shared.copy(self.offset(self.head), length as usize, &mut self.record);
                    count += 1;
                    length
                }
                Place::Claimed { length, pid } if self.waited(now) >= patience || !is_alive(pid) => {
                    // It may have been finished at this very moment: then it is read as any other.
                    let [claimed, none] = [l::stamp(self.head, length, l::CLAIMED), 0];
                    if !self.shared.replace(self.offset(self.head), claimed, none) {
                        continue;
                    }
                    self.record.clear();
                    self.loss.abandoned += 1;
                    length
                }
                Place::Nothing if self.waited(now) >= patience => {
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

    /// Takes out what is there now and waits for nobody: the end.
    pub(crate) fn finish(&mut self, mut each: impl FnMut(Event<'_>)) {
        self.take(Instant::now(), Duration::ZERO, |_| false, &mut each);
        for (pid, text) in std::mem::take(&mut self.maps) {
            each(Event::Maps { pid, text });
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.shared.load(l::TAIL) == self.head
    }

    fn is_broken(&self) -> bool {
        self.loss.is_broken || self.shared.is_damaged()
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
        let (lost, crowded) = (self.shared.load(l::LOST), self.shared.load(l::CROWDED));
        // Counters that only grow, by one each time: no more than a processor can count in the life of a program.
        let is_broken = self.is_broken() || lost > COUNT_MAX || crowded > COUNT_MAX;
        let count = |count| if is_broken { 0 } else { count };
        Loss { lost: count(lost), crowded: count(crowded), is_broken, ..self.loss }
    }

    /// The exact numbers of all files so far; none where the ring is damaged.
    pub(crate) fn files(&self) -> Vec<FileTotals> {
        if self.loss().is_broken {
            return Vec::new();
        }
        let used = (self.shared.load(l::FILES_USED) as usize).min(FILES - 1);
        (0..used)
            .chain([FILES - 1])
            .map(|entry| self.file(entry))
            .filter(|file| !file.is_empty() && file.is_possible())
            .collect()
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
    /// More than a program can do in its life is damage.
    fn is_possible(&self) -> bool {
        [self.reads, self.writes, self.syncs, self.connects]
            .iter()
            .all(|totals| totals.calls <= COUNT_MAX && totals.bytes <= BYTES_MAX && totals.ns <= BYTES_MAX)
    }

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
            l::EXEC if self.b == 1 => return Some(Event::NotExecuted { pid }),
            l::EXEC => return Some(Event::Executing { pid, program: path, is_asked: self.a == 1 }),
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::{Event, FILES, Loss, PATIENCE, RING_AT, Ring, What, l};
    use crate::sys::shared::Shared;

    const SIZE: usize = 64 << 10;

    fn ring() -> Ring {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("apm-test-ring-{}-{number}", std::process::id()));
        let file = File::options().read(true).write(true).create_new(true).open(&path).expect("a file");
        std::fs::remove_file(&path).expect("remove the name");
        Ring::new(Shared::create(&file, RING_AT, SIZE).expect("mapped"), SIZE)
    }

    /// What a producer does, as far as `state`; 0 is death before the stamp.
    fn write(ring: &Ring, state: u64, kind: u32, pid: u32, words: [u64; 2], payload: &[u8]) {
        let position = ring.shared.load(l::TAIL);
        let length = ((l::RECORD + payload.len()) as u64).next_multiple_of(l::GRANULE);
        ring.shared.store(l::TAIL, position + length);
        let at = ring.offset(position);
        if state == 0 {
            return;
        }
        ring.shared.store(at + l::PID, u64::from(pid) | u64::from(pid) << 32);
        ring.shared.store(at + l::KIND, u64::from(kind) | (payload.len() as u64) << 32);
        ring.shared.store(at + l::A, words[0]);
        ring.shared.store(at + l::B, words[1]);
        for (index, part) in payload.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            ring.shared.store(at + l::RECORD + 8 * index, u64::from_ne_bytes(word));
        }
        ring.shared.store(at, l::stamp(position, length, state));
    }

    fn freed(ring: &Ring, state: u64, pointer: u64) {
        write(ring, state, l::FREE, 7, [pointer, 0], b"");
    }

    /// Pointers of the frees that come out.
    fn drain(ring: &mut Ring, now: Instant, is_alive: bool) -> Vec<u64> {
        let mut pointers = Vec::new();
        ring.drain(
            now,
            |_| is_alive,
            |event| match event {
                Event::Caught(caught) => match caught.what {
                    What::Free { pointer } => pointers.push(pointer),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            },
        );
        pointers
    }

    #[test]
    fn records_come_in_order_lap_after_lap() {
        let mut ring = ring();
        let now = Instant::now();
        for round in 0..500 {
            let expected: Vec<u64> = (0..300).map(|index| round * 1000 + index).collect();
            for pointer in &expected {
                freed(&ring, l::DONE, *pointer);
            }
            assert_eq!(drain(&mut ring, now, true), expected);
        }
        assert_eq!(ring.loss(), Loss::default());
    }

    #[test]
    fn a_record_that_stays_unfinished_is_passed() {
        let mut ring = ring();
        let now = Instant::now();
        for pointer in 0..3 {
            freed(&ring, if pointer == 1 { l::CLAIMED } else { l::DONE }, pointer);
        }
        assert_eq!(drain(&mut ring, now, true), [0]);
        assert!(drain(&mut ring, now + PATIENCE / 2, true).is_empty());
        assert_eq!(drain(&mut ring, now + PATIENCE, true), [2]);
        freed(&ring, l::CLAIMED, 3);
        freed(&ring, l::DONE, 4);
        assert_eq!(drain(&mut ring, now, false), [4], "the dead are not waited for");
        assert_eq!(ring.loss(), Loss { abandoned: 2, ..Loss::default() });
    }

    #[test]
    fn a_place_that_was_reserved_and_never_stamped_is_passed() {
        let mut ring = ring();
        let now = Instant::now();
        // A lap of old stamps, which must not be taken for new ones.
        for pointer in 0..600 {
            freed(&ring, l::DONE, pointer);
        }
        assert_eq!(drain(&mut ring, now, true).len(), 600);
        for pointer in 600..1000 {
            freed(&ring, if pointer % 100 == 50 { 0 } else { l::DONE }, pointer);
        }
        let mut seen = Vec::new();
        for step in 0..10 {
            seen.extend(drain(&mut ring, now + Duration::from_secs(step), true));
        }
        assert_eq!(seen, (600..1000).filter(|pointer| pointer % 100 != 50).collect::<Vec<_>>());
        assert_eq!(ring.loss().abandoned, 4);
        freed(&ring, 0, 1000);
        ring.finish(|event| panic!("{event:?}"));
        assert_eq!(ring.loss().abandoned, 5);
    }

    #[test]
    fn a_map_comes_in_parts() {
        let mut ring = ring();
        write(&ring, l::DONE, l::MAPS, 2, [5, 1], b"the end of what was lost");
        write(&ring, l::DONE, l::MAPS, 1, [0, 0], b"one ");
        write(&ring, l::DONE, l::MAPS, 3, [0, 0], b"never ends");
        write(&ring, l::DONE, l::MAPS, 1, [4, 1], b"two");
        let mut texts = Vec::new();
        ring.finish(|event| match event {
            Event::Maps { pid, text } => texts.push((pid, String::from_utf8(text).expect("text"))),
            other => panic!("{other:?}"),
        });
        assert_eq!(texts, [(1, "one two".to_owned()), (3, "never ends".to_owned())]);
    }

    #[test]
    fn a_ring_whose_words_are_overwritten_is_given_up() {
        for tail in [u64::MAX, 17, SIZE as u64 + 16, 1 << 63] {
            let mut ring = ring();
            ring.shared.store(l::TAIL, tail);
            assert!(drain(&mut ring, Instant::now(), true).is_empty());
            assert!(ring.loss().is_broken, "{tail}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        /// Whatever programs write there: it ends, and nothing is handed on that is not a record.
        #[test]
        fn garbage_is_survived(
            records in proptest::collection::vec((0..4_u64, 0..12_u32, 0..400_usize, any::<[u64; 2]>()), 0..40),
            garbage in proptest::collection::vec((0..(RING_AT + SIZE) / 8, prop_oneof![any::<u64>(), 0..4096_u64]), 0..40),
            lengths in proptest::collection::vec((0..200_u64, any::<u16>()), 0..10),
        ) {
            let mut ring = ring();
            for (state, kind, payload, words) in &records {
                write(&ring, *state, *kind, 1, *words, &vec![0x5a; *payload]);
            }
            for (granule, length) in lengths {
                let position = granule * l::GRANULE;
                ring.shared.store(ring.offset(position), l::stamp(position, u64::from(length) * l::GRANULE, l::DONE));
            }
            for (index, word) in garbage {
                ring.shared.store(index * 8, word);
            }
            for step in 0..4 {
                ring.drain(Instant::now() + Duration::from_secs(step), |_| true, |_| {});
            }
            ring.finish(|_| {});
            prop_assert!(ring.loss().is_broken || ring.head == ring.shared.load(l::TAIL));
            prop_assert!(ring.files().len() <= FILES);
        }
    }
}
