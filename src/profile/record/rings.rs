//! The rings of all CPUs as one stream in order of time. Each ring is in order, but which of two is ahead nobody knows:
//! what is not newer than the newest record of the round before is final, since whatever was made before it has come by
//! now. So a record waits one round, and two rounds are in memory.

use std::collections::HashMap;

use crate::profile::record::perf::{self, Form, Record};
use crate::sys::perf::Ring;

/// Bytes of all rings together.
const TOTAL_MAX: usize = 16 << 20;
/// Bytes of one ring: at 999 Hz, 16 KiB a sample and 50 ms a round it is filled to less than a half.
const ONE_MAX: usize = 2 << 20;
/// Smallest ring that is asked for: a few samples.
const ONE_MIN: usize = 128 << 10;

/// Events whose losses are kept apart.
const EVENTS_MAX: usize = 65_536;

/// Bytes a ring may have where there are so many.
pub(crate) fn size(rings: usize) -> usize {
    let each = (TOTAL_MAX / rings.max(1)).clamp(ONE_MIN, ONE_MAX);
    // A power of two, rounded down.
    1 << each.ilog2()
}

/// What came in one round.
#[derive(Debug, Default)]
struct Round {
    bytes: Vec<u8>,
    /// Time and place of each record that is still to be handed over, in order of time.
    index: Vec<(u64, usize)>,
}

/// The stream.
#[derive(Debug)]
pub(crate) struct Rings {
    rings: Vec<Ring>,
    older: Round,
    newer: Round,
    /// Time of the newest record of all rounds.
    newest: u64,
    /// Records that the kernel dropped.
    pub(crate) lost: u64,
    /// The same by the event whose ring was full.
    pub(crate) lost_of: HashMap<u64, u64>,
}

impl Rings {
    /// Of these rings.
    pub(crate) fn new(rings: Vec<Ring>) -> Self {
        Self { rings, older: Round::default(), newer: Round::default(), newest: 0, lost: 0, lost_of: HashMap::new() }
    }

    /// Takes what has come, and hands over what is final; at the end everything.
    pub(crate) fn round(
        &mut self,
        form: &impl Fn(u64) -> Option<Form>,
        is_last: bool,
        mut sink: impl FnMut(Record<'_>),
    ) {
        self.turn();
        for ring in &mut self.rings {
            ring.drain(&mut self.newer.bytes);
        }
        self.hand_over(form, is_last, &mut sink);
        if is_last {
            self.rings.clear();
            self.newer = Round::default();
        }
    }

    /// Begins a round: the newer one becomes the older, whose memory is used again.
    fn turn(&mut self) {
        std::mem::swap(&mut self.older, &mut self.newer);
        self.newer.bytes.clear();
        self.newer.index.clear();
    }

    fn hand_over(&mut self, form: &impl Fn(u64) -> Option<Form>, is_last: bool, sink: &mut impl FnMut(Record<'_>)) {
        let final_until = if is_last { u64::MAX } else { self.newest };
        self.newest = self.newest.max(self.newer.sort(form, &mut self.lost_of));
        self.lost = self.lost_of.values().fold(0, |sum, more| sum.saturating_add(*more));
        // All of the older round is final, and perhaps some of this one, which is then to be put between.
        let split = self.newer.index.partition_point(|(at, _)| *at <= final_until);
        let (mut old, mut new) = (self.older.index.iter().peekable(), self.newer.index[..split].iter().peekable());
        loop {
            let is_old = match (old.peek(), new.peek()) {
                (Some((old, _)), Some((new, _))) => old <= new,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => break,
            };
            let (next, round) = if is_old { (old.next(), &self.older) } else { (new.next(), &self.newer) };
            if let Some((_, record)) = next.and_then(|(_, at)| perf::first(round.bytes.get(*at..)?, form))
                && let Some(record) = record
            {
                sink(record);
            }
        }
        self.newer.index.drain(..split);
        self.older.index.clear();
    }
}

impl Round {
    /// Finds the records; the time of the newest.
    fn sort(&mut self, form: &impl Fn(u64) -> Option<Form>, lost: &mut HashMap<u64, u64>) -> u64 {
        let mut at = 0;
        while let Some((length, record)) = self.bytes.get(at..).and_then(|rest| perf::first(rest, form)) {
            match record {
                Some(Record::Lost { event, count }) => {
                    // Events are few; bytes that make no sense may name many.
                    let is_known = lost.len() < EVENTS_MAX || lost.contains_key(&event);
                    let sum = lost.entry(if is_known { event } else { 0 }).or_default();
                    *sum = sum.saturating_add(count);
                }
                Some(record) => self.index.push((record.at(), at)),
                None => {}
            }
            at += length;
        }
        // Stable: records of one time and one CPU stay in the order in which they were made.
        self.index.sort_by_key(|(time, _)| *time);
        self.index.last().map_or(0, |(time, _)| *time)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Rings, size};
    use crate::profile::record::perf::Form;

    /// A record that a thread has ended at this time.
    fn ended(at: u64) -> Vec<u8> {
        let words = [4 | 56 << 48, 1, 1, at, 1, at, 7];
        words.iter().flat_map(|word: &u64| word.to_ne_bytes()).collect()
    }

    #[test]
    fn all_rings_together_have_a_bound() {
        assert_eq!((size(1), size(2), size(8)), (2 << 20, 2 << 20, 2 << 20));
        assert_eq!((size(64), size(100), size(512)), (256 << 10, 128 << 10, 128 << 10));
    }

    proptest! {
        /// Two CPUs, whose records come in rounds: one that was made before a round has come by its end.
        #[test]
        fn records_come_in_order_of_time_and_each_once(steps in prop::collection::vec((0_u64..3, any::<bool>(), any::<bool>()), 0..60)) {
            let form = |_| None::<Form>;
            let mut rings = Rings::new(Vec::new());
            let (mut now, mut seen, mut made) = (0, Vec::new(), 0);
            let mut cpus = [Vec::new(), Vec::new()];
            let mut round = |cpus: &mut [Vec<u8>; 2], is_last| {
                rings.turn();
                cpus.iter_mut().for_each(|cpu| rings.newer.bytes.append(cpu));
                rings.hand_over(&form, is_last, &mut |record| seen.push(record.at()));
            };
            for (step, on_first, ends) in steps {
                now += step;
                cpus[usize::from(on_first)].extend(ended(now));
                made += 1;
                if ends {
                    round(&mut cpus, false);
                }
            }
            round(&mut cpus, true);
            prop_assert_eq!(seen.len(), made);
            prop_assert!(seen.is_sorted(), "{:?}", seen);
        }
    }
}
