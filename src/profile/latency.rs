//! Times in few buckets: each power of two has as many steps, so that a percentile is right to a sixteenth whatever its size.

/// Steps of a power of two, as a power of two.
const STEPS_LOG: u32 = 4;
const STEPS: u64 = 1 << STEPS_LOG;
/// Buckets for any number of 64 bits.
const BUCKETS: usize = ((64 - STEPS_LOG as usize) + 1) << STEPS_LOG;

/// How many of each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latency {
    buckets: Vec<u64>,
    count: u64,
    most: u64,
}

impl Latency {
    /// Adds one.
    pub(crate) fn add(&mut self, value: u64) {
        let at = bucket(value);
        if self.buckets.len() <= at {
            self.buckets.resize(at + 1, 0);
        }
        self.buckets[at] += 1;
        self.count += 1;
        self.most = self.most.max(value);
    }

    /// The value that so many of a hundred are not above; nothing of nothing is 0.
    pub(crate) fn percentile(&self, percent: u64) -> u64 {
        let rank = (u128::from(self.count) * u128::from(percent)).div_ceil(100).max(1);
        let mut below = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            below += u128::from(*count);
            if below >= rank {
                return largest(at).min(self.most);
            }
        }
        0
    }

    /// The largest.
    pub(crate) fn most(&self) -> u64 {
        self.most
    }
}

fn bucket(value: u64) -> usize {
    if value < STEPS {
        return value as usize;
    }
    let power = value.ilog2() - STEPS_LOG;
    let step = (value >> power) - STEPS;
    ((u64::from(power) + 1) * STEPS + step) as usize
}

/// The largest value of a bucket.
fn largest(at: usize) -> u64 {
    debug_assert!(at < BUCKETS);
    let (power, step) = ((at as u64) / STEPS, (at as u64) % STEPS);
    match power.checked_sub(1) {
        None => step,
        Some(power) => ((STEPS + step + 1) << power).wrapping_sub(1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BUCKETS, Latency, bucket, largest};

    #[test]
    fn percentiles_of_a_thousand_are_about_right() {
        let mut latency = Latency::default();
        (1..=1000).for_each(|value| latency.add(value * 1000));
        let found = [50, 95, 99, 100].map(|percent| latency.percentile(percent));
        for (found, truth) in found.iter().zip([500_000, 950_000, 990_000, 1_000_000]) {
            assert!(*found >= truth && *found <= truth + truth / 16, "{found} and not {truth}");
        }
        assert_eq!((latency.most(), Latency::default().percentile(99)), (1_000_000, 0));
    }

    proptest! {
        #[test]
        fn a_bucket_holds_what_is_put_there(value in prop_oneof![any::<u64>(), 0_u64..100, Just(u64::MAX)]) {
            let at = bucket(value);
            prop_assert!(at < BUCKETS && largest(at) >= value);
            prop_assert!(largest(at) - value <= value / 16);
            prop_assert!(at == 0 || largest(at - 1) < value);
        }
    }
}
