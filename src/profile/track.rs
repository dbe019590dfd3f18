//! A value over time, in a bounded number of buckets: where there would be too many, two become one. So a recording of a
//! second has fine steps, and one of a week as many.

use std::time::Duration;

/// Buckets of a track.
const BUCKETS_MAX: usize = 1000;
/// Width of a bucket at first, nanoseconds: the time between two looks.
const WIDTH: u64 = 50_000_000;

/// What a bucket holds of the values in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// For what happens: its sum, told as so much a second.
    Rate,
    /// For what is: the highest.
    Peak,
}

/// A value over time.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    kept: Kept,
    width: u64,
    /// Nothing where nobody looked.
    buckets: Vec<Option<f64>>,
}

impl Track {
    /// An empty one.
    pub(crate) fn new(kept: Kept) -> Self {
        Self { kept, width: WIDTH, buckets: Vec::new() }
    }

    /// Adds a value at a time since the start, nanoseconds.
    pub(crate) fn add(&mut self, at_ns: u64, value: f64) {
        while at_ns / self.width >= BUCKETS_MAX as u64 {
            let kept = self.kept;
            self.buckets = self
                .buckets
                .chunks(2)
                .map(|pair| pair.iter().flatten().copied().reduce(|a, b| kept.joined(a, b)))
                .collect();
            self.width = self.width.saturating_mul(2);
        }
        let at = (at_ns / self.width) as usize;
        if self.buckets.len() <= at {
            self.buckets.resize(at + 1, None);
        }
        let bucket = &mut self.buckets[at];
        *bucket = Some(bucket.map_or(value, |old| self.kept.joined(old, value)));
    }

    /// Start of each bucket, nanoseconds, and its value. Of a rate, a bucket without any is zero, and the last ends with
    /// the recording.
    pub(crate) fn points(&self, end: Duration) -> Vec<(u64, f64)> {
        let end = u64::try_from(end.as_nanos()).unwrap_or(u64::MAX);
        let point = |(at, value): (usize, &Option<f64>)| {
            let start = at as u64 * self.width;
            let seconds = end.saturating_sub(start).clamp(1, self.width) as f64 / 1e9;
            match self.kept {
                // A bucket of a moment says nothing of a rate.
                Kept::Rate if seconds * 1e9 < WIDTH as f64 / 2.0 => None,
                Kept::Rate => Some((start, value.unwrap_or(0.0) / seconds)),
                Kept::Peak => value.map(|value| (start, value)),
            }
        };
        self.buckets.iter().enumerate().filter_map(point).collect()
    }
}

impl Kept {
    fn joined(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Rate => a + b,
            Self::Peak => a.max(b),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BUCKETS_MAX, Kept, Track, WIDTH};

    #[test]
    fn a_rate_is_a_second_and_a_peak_the_highest() {
        let (mut rate, mut peak) = (Track::new(Kept::Rate), Track::new(Kept::Peak));
        for (at, value) in [(0, 1.0), (WIDTH / 2, 2.0), (3 * WIDTH, 5.0)] {
            rate.add(at, value);
            peak.add(at, value);
        }
        let end = Duration::from_nanos(4 * WIDTH);
        assert_eq!(rate.points(end), [(0, 60.0), (WIDTH, 0.0), (2 * WIDTH, 0.0), (3 * WIDTH, 100.0)]);
        assert_eq!(peak.points(end), [(0, 2.0), (3 * WIDTH, 5.0)]);
    }

    #[test]
    fn a_week_has_as_many_steps_and_loses_nothing() {
        let mut rate = Track::new(Kept::Rate);
        let hour = 3_600_000_000_000;
        (0..168).for_each(|number| rate.add(number * hour, 1.0));
        assert!(rate.buckets.len() <= BUCKETS_MAX);
        assert!((rate.buckets.iter().flatten().sum::<f64>() - 168.0).abs() < 1e-9);
        rate.add(u64::MAX, 1.0);
        assert!(rate.buckets.len() <= BUCKETS_MAX);
    }
}
