//! What sampled allocations say about all of them, by stack. Pure: events come in, estimates come out.
//!
//! An allocation of `size` bytes is in the sample with the probability p = 1 - exp(-size / mean), independently of all
//! others (the gaps between samples are exponential, and that distribution forgets). So each one seen stands for 1 / p:
//! the estimator of Horvitz and Thompson, which is unbiased. Its variance is estimated, without bias too, by the sum of
//! y^2 (1 - p) / p^2 over the sample (Sarndal, Swensson, Wretman: Model Assisted Survey Sampling, 1992, chapter 3.5,
//! Poisson sampling); the standard error is its square root.

use std::collections::{BTreeMap, HashMap};
use std::ops::{AddAssign, SubAssign};

/// A number that was estimated from a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) value: f64,
    pub(crate) variance: f64,
    /// How many samples it rests on.
    pub(crate) samples: u64,
}

impl AddAssign for Estimate {
    fn add_assign(&mut self, other: Self) {
        self.value += other.value;
        self.variance += other.variance;
        self.samples += other.samples;
    }
}

impl SubAssign for Estimate {
    fn sub_assign(&mut self, other: Self) {
        self.samples = self.samples.saturating_sub(other.samples);
        // Without samples nothing is left but rounding.
        let is_empty = self.samples == 0;
        self.value = if is_empty { 0.0 } else { self.value - other.value };
        self.variance = if is_empty { 0.0 } else { self.variance - other.variance };
    }
}

/// What is known of a stack.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Values {
    /// Allocations.
    pub(crate) alloc_objects: Estimate,
    /// Their bytes.
    pub(crate) alloc_space: Estimate,
    /// Bytes that were never freed while their process lived.
    pub(crate) inuse_space: Estimate,
    /// Bytes that lived when all processes together had the most.
    pub(crate) peak_space: Estimate,
}

/// The sample, replayed as it comes in. `K` is the caller's name of a stack.
#[derive(Debug)]
pub(crate) struct Heap<K> {
    mean: f64,
    live: HashMap<(u32, u64), Live<K>>,
    stacks: BTreeMap<K, Stack>,
    total: Estimate,
    peak: Estimate,
    /// Counts the peaks: what a stack had at the last one is written down when it changes for the first time after it.
    peaks: u64,
    missed_frees: u64,
}

#[derive(Clone, Copy, Debug)]
struct Live<K> {
    stack: K,
    bytes: Estimate,
}

#[derive(Clone, Copy, Debug, Default)]
struct Stack {
    alloc_objects: Estimate,
    alloc_space: Estimate,
    now: Estimate,
    at_peak: Estimate,
    /// The peak that `at_peak` belongs to.
    peak: u64,
    left_behind: Estimate,
}

impl<K: Copy + Ord> Heap<K> {
    /// For samples that were `mean` bytes apart.
    pub(crate) fn new(mean: u64) -> Self {
        Self {
            mean: mean.max(1) as f64,
            live: HashMap::new(),
            stacks: BTreeMap::new(),
            total: Estimate::default(),
            peak: Estimate::default(),
            peaks: 0,
            missed_frees: 0,
        }
    }

    fn estimate(&self, size: u64, of: f64) -> Estimate {
        // Exact where size is far below the mean, as `1.0 - exp` is not.
        let p = -(-(size.max(1) as f64) / self.mean).exp_m1();
        Estimate { value: of / p, variance: of * of * (1.0 - p) / (p * p), samples: 1 }
    }

    /// A sampled allocation.
    pub(crate) fn alloc(&mut self, pid: u32, pointer: u64, size: u64, stack: K) {
        let (bytes, objects) = (self.estimate(size, size as f64), self.estimate(size, 1.0));
        if self.live.contains_key(&(pid, pointer)) {
            // Nobody gives out an address twice: the record of its end was lost.
            self.missed_frees += 1;
            self.free(pid, pointer);
        }
        self.live.insert((pid, pointer), Live { stack, bytes });
        let place = self.stack(stack);
        place.alloc_objects += objects;
        place.alloc_space += bytes;
        place.now += bytes;
        self.total += bytes;
        if self.total.value > self.peak.value {
            self.peak = self.total;
            self.peaks += 1;
        }
    }

    /// The end of an allocation, if it was sampled in this process.
    pub(crate) fn free(&mut self, pid: u32, pointer: u64) {
        if let Some(live) = self.live.remove(&(pid, pointer)) {
            self.total -= live.bytes;
            self.stack(live.stack).now -= live.bytes;
        }
    }

    /// A process has ended; what it still had is in use at the end, and no longer counts for the peak of the others.
    pub(crate) fn ended(&mut self, pid: u32) {
        for live in self.take(pid) {
            self.stack(live.stack).left_behind += live.bytes;
        }
    }

    /// A process has become another program: its memory went with the old one and is nobody's leak.
    pub(crate) fn replaced(&mut self, pid: u32) {
        self.take(pid);
    }

    fn take(&mut self, pid: u32) -> Vec<Live<K>> {
        // In an order that does not depend on hashing: sums of floating point numbers do depend on theirs.
        let mut pointers: Vec<_> = self.live.keys().filter(|(of, _)| *of == pid).copied().collect();
        pointers.sort_unstable();
        let taken: Vec<Live<K>> = pointers.iter().filter_map(|key| self.live.remove(key)).collect();
        for live in &taken {
            self.total -= live.bytes;
            self.stack(live.stack).now -= live.bytes;
        }
        taken
    }

    /// The stack, ready to be changed.
    fn stack(&mut self, stack: K) -> &mut Stack {
        let peaks = self.peaks;
        let place = self.stacks.entry(stack).or_insert_with(|| Stack { peak: peaks, ..Stack::default() });
        if place.peak != peaks {
            place.at_peak = place.now;
            place.peak = peaks;
        }
        place
    }

    /// The most that lived at one time.
    pub(crate) fn peak(&self) -> Estimate {
        self.peak
    }

    /// Frees that must have happened although no record says so.
    pub(crate) fn missed_frees(&self) -> u64 {
        self.missed_frees
    }

    /// By stack, in their order. Processes that live on have what they have now in use.
    pub(crate) fn values(&self) -> impl Iterator<Item = (K, Values)> {
        self.stacks.iter().map(|(number, stack)| {
            let mut inuse_space = stack.left_behind;
            inuse_space += stack.now;
            let peak_space = if stack.peak == self.peaks { stack.at_peak } else { stack.now };
            let Stack { alloc_objects, alloc_space, .. } = *stack;
            (*number, Values { alloc_objects, alloc_space, inuse_space, peak_space })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{Estimate, Heap};

    /// The same by brute force: every state is kept.
    fn exact(steps: &[Step]) -> BTreeMap<u32, [u64; 4]> {
        let mut live: BTreeMap<(u32, u64), (u32, u64)> = BTreeMap::new();
        let (mut all, mut peak) = (BTreeMap::<u32, [u64; 4]>::new(), (0, BTreeMap::new()));
        for step in steps {
            match *step {
                Step::Alloc(pid, pointer, size, stack) => {
                    live.insert((pid, pointer), (stack, size));
                    let values = all.entry(stack).or_default();
                    values[0] += 1;
                    values[1] += size;
                    let total: u64 = live.values().map(|(_, size)| size).sum();
                    if total > peak.0 {
                        peak = (total, live.clone());
                    }
                }
                Step::Free(pid, pointer) => {
                    live.remove(&(pid, pointer));
                }
                Step::Ended(ended) => {
                    for ((_, _), (stack, size)) in live.extract_if(.., |(pid, _), _| *pid == ended) {
                        all.entry(stack).or_default()[2] += size;
                    }
                }
                Step::Replaced(replaced) => live.retain(|(pid, _), _| *pid != replaced),
            }
        }
        for (stack, size) in live.values() {
            all.entry(*stack).or_default()[2] += size;
        }
        for (stack, size) in peak.1.values() {
            all.entry(*stack).or_default()[3] += size;
        }
        all
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Alloc(u32, u64, u64, u32),
        Free(u32, u64),
        Ended(u32),
        Replaced(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..3_u32, 0..12_u64, 1..5000_u64, 0..4_u32).prop_map(|(p, a, s, t)| Step::Alloc(p, a, s, t)),
            6 => (0..3_u32, 0..12_u64).prop_map(|(p, a)| Step::Free(p, a)),
            1 => (0..3_u32).prop_map(Step::Ended),
            1 => (0..3_u32).prop_map(Step::Replaced),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// With a mean far below every size everything is in the sample, so the answer is exact.
        #[test]
        fn a_whole_sample_is_exact(steps in proptest::collection::vec(step(), 0..120)) {
            let mut heap = Heap::new(1);
            for step in &steps {
                match *step {
                    Step::Alloc(pid, pointer, size, stack) => heap.alloc(pid, pointer, size + 100, stack),
                    Step::Free(pid, pointer) => heap.free(pid, pointer),
                    Step::Ended(pid) => heap.ended(pid),
                    Step::Replaced(pid) => heap.replaced(pid),
                }
            }
            let larger: Vec<Step> = steps.iter().map(|step| match *step {
                Step::Alloc(pid, pointer, size, stack) => Step::Alloc(pid, pointer, size + 100, stack),
                other => other,
            }).collect();
            let round = |estimate: Estimate| estimate.value.round() as u64;
            let got: BTreeMap<u32, [u64; 4]> = heap
                .values()
                .map(|(stack, v)| (stack, [v.alloc_objects, v.alloc_space, v.inuse_space, v.peak_space].map(round)))
                .collect();
            prop_assert_eq!(got, exact(&larger));
        }

    }

    proptest! {
        // Each case is thousands of draws.
        #![proptest_config(ProptestConfig::with_cases(6))]

        /// Draws many samples of the same allocations: their mean is the truth, and they scatter as they say.
        #[test]
        fn a_sample_is_unbiased_and_knows_its_error(sizes in proptest::collection::vec(1..40_000_u64, 20..60), seed: u64) {
            const MEAN: u64 = 8192;
            const DRAWS: u32 = 2000;
            let truth = sizes.iter().sum::<u64>() as f64;
            let mut random = seed | 1;
            let mut uniform = move || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                (random >> 11) as f64 / (1_u64 << 53) as f64
            };
            let (mut sum, mut squares, mut variances) = (0.0, 0.0, 0.0);
            for _ in 0..DRAWS {
                let mut heap = Heap::new(MEAN);
                for (pointer, size) in sizes.iter().enumerate() {
                    if uniform() < 1.0 - (-(*size as f64) / MEAN as f64).exp() {
                        heap.alloc(1, pointer as u64, *size, 0);
                    }
                }
                let value = heap.values().next().map_or(Estimate::default(), |(_, values)| values.alloc_space);
                sum += value.value;
                squares += (value.value - truth).powi(2);
                variances += value.variance;
            }
            let draws = f64::from(DRAWS);
            let error = (squares / draws).sqrt();
            prop_assert!((sum / draws - truth).abs() < 5.0 * error / draws.sqrt(), "biased: {} for {truth}", sum / draws);
            let ratio = variances / squares;
            prop_assert!((0.8..1.25).contains(&ratio), "says {ratio} of its variance");
        }
    }

    #[test]
    fn processes_that_follow_each_other_do_not_add_up() {
        let mut heap = Heap::new(1);
        for pid in [1, 2, 3] {
            heap.alloc(pid, 1, 1000, pid);
            heap.ended(pid);
        }
        assert_eq!(heap.peak().value.round(), 1000.0);
        let values: Vec<_> = heap.values().map(|(stack, v)| (stack, v.inuse_space.value, v.peak_space.value)).collect();
        assert_eq!(values, [(1, 1000.0, 1000.0), (2, 1000.0, 0.0), (3, 1000.0, 0.0)]);
    }

    #[test]
    fn a_lost_free_is_noticed_when_its_address_is_given_out_again() {
        let mut heap = Heap::new(1);
        heap.alloc(1, 16, 500, 0);
        heap.alloc(1, 16, 700, 0);
        assert_eq!(heap.missed_frees(), 1);
        assert_eq!(heap.values().next().map(|(_, values)| values.inuse_space.value), Some(700.0));
    }
}
