//! What earlier attempts of the same command took: durations and memory peaks, as moving averages.
//! Pure; `journal::history_file` keeps it on disk.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::task::{Run, Step, Task};
use crate::model::unit::Bytes;

/// Entries kept; the least recently updated go first.
pub(crate) const ENTRIES_MAX: usize = 10_000;

/// Weight of the newest value in the moving average: three to four runs decide. From the simulation in the
/// scheduling literature any value from 0.2 to 0.5 orders tasks equally well.
const ALPHA: f64 = 0.3;

/// Learned figures by key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct History {
    entries: HashMap<String, Entry>,
    /// Counts updates, to find the least recent.
    clock: u64,
}

/// Learned figures of one command.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Mean of the logarithm of the duration in microseconds.
    log_us: f64,
    /// Highest memory peak, decaying towards what is seen now.
    peak: u64,
    /// Attempts that ran to their own end. None: it is only known to take this much memory.
    count: u32,
    /// Value of the clock at the last update.
    updated: u64,
}

impl History {
    /// The typical duration.
    pub(crate) fn duration(&self, key: &str) -> Option<Duration> {
        self.finished(key).map(|entry| Duration::from_micros(entry.log_us.exp() as u64))
    }

    /// The memory to expect, if an attempt has shown all it takes.
    pub(crate) fn finished_peak(&self, key: &str) -> Option<Bytes> {
        self.finished(key).map(|entry| Bytes(entry.peak))
    }

    fn finished(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| entry.count > 0)
    }

    /// The memory to expect.
    pub(crate) fn peak(&self, key: &str) -> Option<Bytes> {
        self.entries.get(key).map(|entry| Bytes(entry.peak)).filter(|peak| peak.0 > 0)
    }

    /// Learns from an attempt that ran to its own end.
    pub(crate) fn learn(&mut self, key: &str, wall: Duration, peak: Bytes) {
        self.clock += 1;
        let clock = self.clock;
        let log_us = (wall.as_micros().max(1) as f64).ln();
        if let Some(entry) = self.entries.get_mut(key) {
            let weight = if entry.count == 0 { 1.0 } else { ALPHA };
            entry.log_us += weight * (log_us - entry.log_us);
            // Up at once, down slowly: an estimate that is too low ends in an out-of-memory kill.
            entry.peak = peak.0.max((entry.peak as f64 + ALPHA * (peak.0 as f64 - entry.peak as f64)) as u64);
            entry.count = entry.count.saturating_add(1);
            entry.updated = clock;
            return;
        }
        if self.entries.len() >= ENTRIES_MAX {
            self.forget_oldest();
        }
        self.entries.insert(key.to_owned(), Entry { log_us, peak: peak.0, count: 1, updated: clock });
    }

    /// Raises the expected memory without an end: an attempt was seen to use this much. Others of its kind need not find
    /// out for themselves.
    pub(crate) fn raise_peak(&mut self, key: &str, peak: Bytes) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.peak = entry.peak.max(peak.0);
        } else if self.entries.len() < ENTRIES_MAX {
            self.clock += 1;
            let entry = Entry { log_us: 0.0, peak: peak.0, count: 0, updated: self.clock };
            self.entries.insert(key.to_owned(), entry);
        }
    }

    /// Takes over what another process learned meanwhile: for each key the entry with more attempts wins.
    pub(crate) fn merge(&mut self, other: Self) {
        self.clock = self.clock.max(other.clock);
        for (key, theirs) in other.entries {
            let ours = self.entries.entry(key).or_insert(theirs);
            if theirs.count > ours.count {
                *ours = theirs;
            }
        }
        while self.entries.len() > ENTRIES_MAX {
            self.forget_oldest();
        }
    }

    /// Forgets a tenth at once, so that the cost of finding the oldest is shared by many insertions.
    fn forget_oldest(&mut self) {
        let mut ages: Vec<u64> = self.entries.values().map(|entry| entry.updated).collect();
        let cut = ages.len() / 10;
        let (_, bound, _) = ages.select_nth_unstable(cut);
        let bound = *bound;
        self.entries.retain(|_, entry| entry.updated > bound);
    }
}

/// What a task's history is filed under: its own key, or command and folder.
pub(crate) fn key_of(task: &Task) -> String {
    if let Some(key) = &task.history_key {
        return key.clone();
    }
    let mut hasher = blake3::Hasher::new();
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    match &task.run {
        Run::Argv(words) => words.iter().for_each(|word| field(word.as_os_str().as_encoded_bytes())),
        Run::Script { shell, script } => {
            shell.iter().for_each(|word| field(word.as_os_str().as_encoded_bytes()));
            field(script.as_os_str().as_encoded_bytes());
        }
        Run::Step(Step::Plan { file }) => {
            field(b"plan");
            field(file.as_os_str().as_encoded_bytes());
        }
    }
    field(task.cwd.as_ref().map_or(&[], |cwd| cwd.as_os_str().as_encoded_bytes()));
    hasher.finalize().to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ENTRIES_MAX, History};
    use crate::model::unit::Bytes;

    #[test]
    fn it_follows_durations_and_raises_peaks_at_once() {
        let mut history = History::default();
        history.learn("k", Duration::from_secs(10), Bytes::mib(100));
        assert_eq!(history.duration("k").map(|d| d.as_secs_f64().round()), Some(10.0));
        history.learn("k", Duration::from_secs(10), Bytes::mib(500));
        assert_eq!(history.peak("k"), Some(Bytes::mib(500)));
        history.learn("k", Duration::from_secs(10), Bytes::mib(100));
        assert_eq!(history.peak("k"), Some(Bytes::mib(380)));
        assert_eq!(history.duration("other"), None);
    }

    #[test]
    fn it_is_bounded_and_forgets_the_oldest() {
        let mut history = History::default();
        for n in 0..=ENTRIES_MAX {
            history.learn(&n.to_string(), Duration::from_secs(1), Bytes(1));
        }
        assert!(history.entries.len() <= ENTRIES_MAX);
        assert_eq!(history.duration("0"), None);
        assert!(history.duration(&ENTRIES_MAX.to_string()).is_some());
    }
}
