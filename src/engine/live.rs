//! The newest output of each running attempt, for whoever follows one. Bounded and lossy: it never makes a writer wait.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::model::attempt::AttemptId;

/// Bytes kept of each stream of an attempt: a few screens. Who follows asks ten times a second.
const KEPT_MAX: usize = 16 << 10;

/// Output of attempts that run.
#[derive(Debug, Default)]
pub(crate) struct LiveOutput {
    attempts: Mutex<HashMap<AttemptId, [Tail; 2]>>,
}

/// The end of one stream.
#[derive(Debug, Default)]
struct Tail {
    /// Bytes written so far.
    written: u64,
    kept: VecDeque<u8>,
}

/// A piece of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Position of its first byte in the stream.
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

impl LiveOutput {
    /// Takes output as it comes.
    pub(crate) fn push(&self, id: AttemptId, stderr: bool, bytes: &[u8]) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let tail = &mut attempts.entry(id).or_default()[usize::from(stderr)];
        tail.written += bytes.len() as u64;
        let newest = &bytes[bytes.len().saturating_sub(KEPT_MAX)..];
        let too_many = (tail.kept.len() + newest.len()).saturating_sub(KEPT_MAX);
        tail.kept.drain(..too_many);
        tail.kept.extend(newest);
    }

    /// The attempt has ended: what it printed is kept elsewhere.
    pub(crate) fn forget(&self, id: AttemptId) {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// What is kept of both streams from these positions on. A piece that starts later than asked for has lost what was
    /// before it.
    pub(crate) fn since(&self, id: AttemptId, from: [u64; 2]) -> [Piece; 2] {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let piece = |stream: usize| {
            let Some(tail) = attempts.get(&id).map(|tails| &tails[stream]) else {
                return Piece { offset: from[stream], bytes: Vec::new() };
            };
            let first = tail.written - tail.kept.len() as u64;
            let offset = from[stream].clamp(first, tail.written);
            Piece { offset, bytes: tail.kept.iter().skip((offset - first) as usize).copied().collect() }
        };
        [piece(0), piece(1)]
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT_MAX, LiveOutput, Piece};
    use crate::model::attempt::AttemptId;

    #[test]
    fn the_newest_output_is_kept_and_what_was_lost_can_be_told() {
        let live = LiveOutput::default();
        let id = AttemptId { ix: 3, attempt: 1 };
        assert_eq!(live.since(id, [5, 0])[0], Piece { offset: 5, bytes: Vec::new() });
        live.push(id, false, b"one ");
        live.push(id, true, b"error");
        live.push(id, false, b"two");
        assert_eq!(live.since(id, [0, 0])[0], Piece { offset: 0, bytes: b"one two".to_vec() });
        assert_eq!(
            live.since(id, [4, 2]),
            [Piece { offset: 4, bytes: b"two".to_vec() }, Piece { offset: 2, bytes: b"ror".to_vec() }]
        );
        live.push(id, false, &vec![b'x'; 3 * KEPT_MAX]);
        let [piece, _] = live.since(id, [7, 0]);
        assert_eq!((piece.offset, piece.bytes.len()), (7 + 2 * KEPT_MAX as u64, KEPT_MAX));
        live.forget(id);
        assert_eq!(live.since(id, [9, 9])[1], Piece { offset: 9, bytes: Vec::new() });
    }
}
