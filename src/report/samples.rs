//! What a run used over time, in a bounded number of points: where there are too many, two become one that has the higher
//! values, so that no peak disappears.

use std::time::Duration;

use crate::model::unit::{Bytes, Percent};

/// Points at most; twice as many as a curve on a page has.
const POINTS_MAX: usize = 1_000;

/// What the run used at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) t: Duration,
    pub(crate) running: u32,
    pub(crate) queued: u32,
    pub(crate) memory: Bytes,
    pub(crate) cpu: Percent,
    pub(crate) processes: u32,
}

/// The points.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Samples {
    points: Vec<Sample>,
    /// Samples that make one point.
    per_point: u64,
    /// Samples in the last point.
    in_last: u64,
}

impl Default for Samples {
    fn default() -> Self {
        Self { points: Vec::new(), per_point: 1, in_last: 0 }
    }
}

impl Samples {
    /// Takes the next sample.
    pub(crate) fn push(&mut self, sample: Sample) {
        if self.in_last < self.per_point
            && let Some(last) = self.points.last_mut()
        {
            *last = higher(last, &sample);
            self.in_last += 1;
            return;
        }
        if self.points.len() >= POINTS_MAX {
            self.points = self.points.chunks(2).map(|pair| higher(&pair[0], &pair[pair.len() - 1])).collect();
            self.per_point *= 2;
        }
        self.points.push(sample);
        self.in_last = 1;
    }

    /// The points, each with the time of its first sample.
    pub(crate) fn points(&self) -> &[Sample] {
        &self.points
    }
}

fn higher(first: &Sample, second: &Sample) -> Sample {
    Sample {
        t: first.t,
        running: first.running.max(second.running),
        queued: first.queued.max(second.queued),
        memory: first.memory.max(second.memory),
        cpu: Percent(first.cpu.0.max(second.cpu.0)),
        processes: first.processes.max(second.processes),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{POINTS_MAX, Sample, Samples};
    use crate::model::unit::{Bytes, Percent};

    #[test]
    fn a_long_run_has_few_points_and_all_its_peaks() {
        let mut samples = Samples::default();
        for second in 0..100_000_u64 {
            samples.push(Sample {
                t: Duration::from_secs(second),
                running: u32::from(second == 77_777),
                queued: 0,
                memory: Bytes(second),
                cpu: Percent(1.0),
                processes: 1,
            });
        }
        let points = samples.points();
        assert!((POINTS_MAX / 2..=POINTS_MAX).contains(&points.len()), "{}", points.len());
        assert_eq!(points.iter().filter(|point| point.running == 1).count(), 1);
        assert_eq!(points.last().map(|point| point.memory), Some(Bytes(99_999)));
        assert!(points.windows(2).all(|pair| pair[0].t < pair[1].t));
    }
}
