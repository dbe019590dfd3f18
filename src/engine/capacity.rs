//! Resources with capacities: what attempts hold while they run, and who waits for what. `slots`, `memory`, the named
//! resources of a run and locks (capacity 1) are of one kind; only how much is free differs. Pure.
//!
//! A task that lacks something waits at that resource, and the next task is tried: no task stands in the way of others that
//! would fit. So that this starves nobody, the task that has waited longest for [`RESERVE_AFTER`] reserves what it needs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::queue::RankKey;
use crate::model::attempt::Ix;
use crate::model::task::{MEMORY, SLOTS, Task};
use crate::model::unit::Bytes;

/// The reservation time: a ready task that has lacked a resource for so long reserves it. Nothing else may then take what it
/// needs, until it has started. Shorter than the patience of somebody who watches, longer than most tasks.
pub(crate) const RESERVE_AFTER: Duration = Duration::from_secs(10);

/// A resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ResourceIx {
    Slots,
    Memory,
    /// Of the run's resources and locks.
    Named(u32),
}

/// What an attempt holds while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) slots: u32,
    /// Memory to set aside, where the task says how much.
    pub(crate) memory: Option<Bytes>,
    named: Box<[(u32, u64)]>,
}

/// Why a demand can never be met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DemandError {
    #[error("it uses `{0}`, which is not a resource of the run")]
    Unknown(String),
    #[error("it uses {need} of `{resource}`, which has {capacity}")]
    TooMuch { resource: String, need: u64, capacity: u64 },
}

#[derive(Debug)]
struct Named {
    name: Arc<str>,
    is_lock: bool,
    capacity: u64,
    used: u64,
}

/// All resources of a run.
#[derive(Debug, Default)]
pub(crate) struct Capacity {
    named: Vec<Named>,
    /// Resources and locks have names of their own.
    index: HashMap<(bool, Arc<str>), u32>,
    waiting: HashMap<ResourceIx, Waiting>,
    /// Since when tasks have waited at any resource; of those that came together the one that needs most is first.
    since: BTreeSet<(Duration, Reverse<u64>, Ix)>,
}

/// Tasks that wait at a resource, by how much they need of it and then by rank: the best of those that fit is found without
/// looking at those that do not.
#[derive(Debug, Default)]
struct Waiting {
    by_need: BTreeMap<u64, BTreeSet<RankKey>>,
}

/// Where a task waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parked {
    pub(crate) at: ResourceIx,
    pub(crate) need: u64,
    pub(crate) key: RankKey,
    /// When it first lacked something since it became ready.
    pub(crate) since: Duration,
}

impl Capacity {
    /// The named resources of a run.
    pub(crate) fn new(resources: &BTreeMap<String, u64>) -> Self {
        let mut capacity = Self::default();
        for (name, size) in resources {
            capacity.intern(name, false, *size);
        }
        capacity
    }

    fn intern(&mut self, name: &str, is_lock: bool, capacity: u64) -> u32 {
        let name: Arc<str> = name.into();
        *self.index.entry((is_lock, Arc::clone(&name))).or_insert_with(|| {
            self.named.push(Named { name, is_lock, capacity, used: 0 });
            self.named.len() as u32 - 1
        })
    }

    /// What a task holds while it runs; locks it names become known.
    pub(crate) fn demand(&mut self, task: &Task, slots_max: u32) -> Result<Demand, DemandError> {
        let mut demand = Demand { slots: 1, memory: None, named: Box::default() };
        if task.locks.is_empty() && task.uses.is_empty() {
            return Ok(demand);
        }
        let mut named = Vec::with_capacity(task.locks.len() + task.uses.len());
        for (name, need) in &task.uses {
            let too_much = |capacity| DemandError::TooMuch { resource: name.clone(), need: *need, capacity };
            match name.as_str() {
                SLOTS if *need > u64::from(slots_max) => return Err(too_much(u64::from(slots_max))),
                SLOTS => demand.slots = *need as u32,
                MEMORY => demand.memory = Some(Bytes(*need)),
                _ => {
                    let found = self.index.get(&(false, name.as_str().into())).copied();
                    let ix = found.ok_or_else(|| DemandError::Unknown(name.clone()))?;
                    let capacity = self.named[ix as usize].capacity;
                    if *need > capacity {
                        return Err(too_much(capacity));
                    }
                    named.push((ix, *need));
                }
            }
        }
        for lock in &task.locks {
            named.push((self.intern(lock, true, 1), 1));
        }
        named.sort_unstable();
        named.dedup();
        demand.named = named.into();
        Ok(demand)
    }

    /// The first named resource of which there is too little, if what `kept` says stays free.
    pub(crate) fn lacks(&self, demand: &Demand, kept: impl Fn(ResourceIx) -> u64) -> Option<(ResourceIx, u64)> {
        let lacks = |(ix, need): &&(u32, u64)| self.free(*ix) < need.saturating_add(kept(ResourceIx::Named(*ix)));
        demand.named.iter().find(lacks).map(|(ix, need)| (ResourceIx::Named(*ix), *need))
    }

    /// The named resources of a demand.
    pub(crate) fn resources(demand: &Demand) -> impl Iterator<Item = ResourceIx> + use<'_> {
        demand.named.iter().map(|(ix, _)| ResourceIx::Named(*ix))
    }

    /// Takes what a task holds while it runs.
    pub(crate) fn take(&mut self, demand: &Demand) {
        for (ix, need) in &demand.named {
            self.named[*ix as usize].used += need;
        }
    }

    /// Gives it back.
    pub(crate) fn give(&mut self, demand: &Demand) {
        for (ix, need) in &demand.named {
            self.named[*ix as usize].used -= need;
        }
    }

    fn free(&self, ix: u32) -> u64 {
        let named = &self.named[ix as usize];
        named.capacity.saturating_sub(named.used)
    }

    /// How much is free of a named resource.
    pub(crate) fn free_of(&self, resource: ResourceIx) -> u64 {
        match resource {
            ResourceIx::Named(ix) => self.free(ix),
            ResourceIx::Slots | ResourceIx::Memory => 0,
        }
    }

    /// How much a demand has of a named resource.
    pub(crate) fn need_of(demand: &Demand, resource: ResourceIx) -> u64 {
        match resource {
            ResourceIx::Slots => u64::from(demand.slots),
            ResourceIx::Memory => demand.memory.unwrap_or_default().0,
            ResourceIx::Named(ix) => demand.named.iter().find(|(other, _)| *other == ix).map_or(0, |(_, need)| *need),
        }
    }

    /// A resource of the run by its name; locks cannot be named so.
    pub(crate) fn find(&self, name: &str) -> Option<ResourceIx> {
        self.index.get(&(false, name.into())).map(|ix| ResourceIx::Named(*ix))
    }

    /// Names of the resources of the run.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.named.iter().filter(|named| !named.is_lock).map(|named| &*named.name)
    }

    /// Another capacity.
    pub(crate) fn resize(&mut self, resource: ResourceIx, to: u64) {
        if let ResourceIx::Named(ix) = resource {
            self.named[ix as usize].capacity = to;
        }
    }

    /// The resource for people, with how much of it is held.
    pub(crate) fn describe(&self, resource: ResourceIx) -> String {
        match resource {
            ResourceIx::Slots => "slots".to_owned(),
            ResourceIx::Memory => "memory".to_owned(),
            ResourceIx::Named(ix) => {
                let Named { name, is_lock, capacity, used } = &self.named[ix as usize];
                if *is_lock { format!("lock `{name}`") } else { format!("`{name}` ({used} of {capacity} in use)") }
            }
        }
    }

    /// Lets a task wait at a resource.
    pub(crate) fn park(&mut self, parked: Parked) {
        let (.., ix) = parked.key;
        self.waiting.entry(parked.at).or_default().by_need.entry(parked.need).or_default().insert(parked.key);
        self.since.insert((parked.since, Reverse(parked.need), ix));
    }

    /// Lets it wait no longer.
    pub(crate) fn unpark(&mut self, parked: &Parked) {
        let (.., ix) = parked.key;
        self.since.remove(&(parked.since, Reverse(parked.need), ix));
        let Some(waiting) = self.waiting.get_mut(&parked.at) else { return };
        if let Some(keys) = waiting.by_need.get_mut(&parked.need) {
            keys.remove(&parked.key);
            if keys.is_empty() {
                waiting.by_need.remove(&parked.need);
            }
        }
        if waiting.by_need.is_empty() {
            self.waiting.remove(&parked.at);
        }
    }

    /// The best by rank of those who wait at a resource and need no more than `free`.
    pub(crate) fn best_waiter(&self, at: ResourceIx, free: u64) -> Option<(Ix, u64)> {
        let fitting = self.waiting.get(&at)?.by_need.range(..=free);
        let best = fitting.filter_map(|(need, keys)| Some((*keys.first()?, *need))).min();
        best.map(|((.., ix), need)| (ix, need))
    }

    /// The best by rank of those who wait at a resource, whether it fits or not.
    pub(crate) fn first_waiter(&self, at: ResourceIx) -> Option<Ix> {
        self.best_waiter(at, u64::MAX).map(|(ix, _)| ix)
    }

    /// Who has waited longest, and since when.
    pub(crate) fn longest(&self) -> Option<(Duration, Ix)> {
        self.since.first().map(|(since, _, ix)| (*since, *ix))
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.since.len()
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::{Capacity, DemandError, Parked};
    use crate::model::id::TaskId;
    use crate::model::task::{Run, Task};

    fn task(uses: &[(&str, u64)], locks: &[&str]) -> Task {
        let mut task = Task::new(TaskId::new("t").expect("an id"), Run::Argv(vec!["true".into()]));
        task.uses = uses.iter().map(|(name, need)| ((*name).to_owned(), *need)).collect();
        task.locks = locks.iter().map(|lock| (*lock).to_owned()).collect();
        task
    }

    fn capacity() -> Capacity {
        Capacity::new(&BTreeMap::from([("db".to_owned(), 2), ("gpu".to_owned(), 1)]))
    }

    #[test]
    fn what_is_taken_is_lacking_until_it_is_given_back() {
        let mut capacity = capacity();
        let one = capacity.demand(&task(&[("db", 1)], &["build"]), 4).expect("it fits");
        let two = capacity.demand(&task(&[("db", 2)], &[]), 4).expect("it fits");
        let locked = capacity.demand(&task(&[], &["build"]), 4).expect("it fits");
        let db = capacity.find("db").expect("known");
        let none = |_| 0;
        assert_eq!(capacity.lacks(&one, none), None);
        capacity.take(&one);
        assert_eq!(capacity.lacks(&two, none), Some((db, 2)));
        let (lock, _) = capacity.lacks(&locked, none).expect("the lock is held");
        assert_eq!(capacity.describe(lock), "lock `build`");
        assert_eq!(capacity.describe(db), "`db` (1 of 2 in use)");
        capacity.give(&one);
        assert_eq!((capacity.lacks(&two, none), capacity.lacks(&locked, none)), (None, None));
        let kept = |resource| Capacity::need_of(&two, resource);
        assert_eq!(capacity.lacks(&one, kept), Some((db, 1)), "what is reserved cannot be taken");
    }

    #[test]
    fn what_can_never_be_had_is_refused() {
        let mut capacity = capacity();
        let mut error = |uses: &[(&str, u64)]| capacity.demand(&task(uses, &[]), 4).expect_err("refused");
        assert_eq!(error(&[("tape", 1)]), DemandError::Unknown("tape".to_owned()));
        assert_eq!(error(&[("db", 3)]).to_string(), "it uses 3 of `db`, which has 2");
        assert_eq!(error(&[("slots", 5)]).to_string(), "it uses 5 of `slots`, which has 4");
    }

    #[test]
    fn the_best_of_those_that_fit_is_found() {
        let mut capacity = capacity();
        let at = capacity.find("db").expect("known");
        for (ix, (priority, need)) in [(0, 1), (5, 2), (3, 1)].into_iter().enumerate() {
            let key = (Reverse(priority), Reverse(0), ix as u32);
            capacity.park(Parked { at, need, key, since: Duration::from_secs(10 - ix as u64) });
        }
        assert_eq!(capacity.best_waiter(at, 2), Some((1, 2)));
        assert_eq!(capacity.best_waiter(at, 1), Some((2, 1)));
        assert_eq!(capacity.best_waiter(at, 0), None);
        assert_eq!(capacity.longest(), Some((Duration::from_secs(8), 2)));
        capacity.unpark(&Parked { at, need: 1, key: (Reverse(3), Reverse(0), 2), since: Duration::from_secs(8) });
        assert_eq!((capacity.best_waiter(at, 1), capacity.waiting()), (Some((0, 1)), 2));
    }
}
