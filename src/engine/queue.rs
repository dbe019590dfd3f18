//! The queue of ready tasks: priority first, then tasks whose deadline presses, then the critical path, then plan order.
//! Knows nothing of slots, limits or states.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::engine::ix_map::IxMap;
use crate::model::attempt::Ix;

/// What decides the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rank {
    /// Higher first.
    pub(crate) priority: i32,
    /// Longest way to the end of the run, microseconds; higher first.
    pub(crate) path: u64,
    /// The latest start that still meets the deadline, with its buffer; past it the task presses.
    pub(crate) latest_start: Option<Duration>,
}

/// A rank and the task as a key of ordered sets: the first is the next to start.
pub(crate) type RankKey = (Reverse<i32>, Reverse<u64>, Ix);

impl Rank {
    /// The key of a task of this rank, deadlines left out.
    pub(crate) fn key(&self, ix: Ix) -> RankKey {
        (Reverse(self.priority), Reverse(self.path), ix)
    }
}

/// Ready tasks.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    by_rank: BTreeSet<RankKey>,
    by_deadline: BTreeSet<(Reverse<i32>, Duration, Ix)>,
    ranks: IxMap<Rank>,
}

impl Queue {
    /// How many tasks wait.
    pub(crate) fn len(&self) -> usize {
        self.ranks.len()
    }

    /// Whether a task is in it.
    pub(crate) fn contains(&self, ix: Ix) -> bool {
        self.ranks.contains_key(&ix)
    }

    /// Adds a task, or gives one that is in it another rank.
    pub(crate) fn push(&mut self, ix: Ix, rank: Rank) {
        self.remove(ix);
        self.ranks.insert(ix, rank);
        self.by_rank.insert(rank.key(ix));
        if let Some(latest) = rank.latest_start {
            self.by_deadline.insert((Reverse(rank.priority), latest, ix));
        }
    }

    /// The task to start next. It stays until it is removed.
    pub(crate) fn first(&self, now: Duration) -> Option<Ix> {
        let (Reverse(priority), _, first) = *self.by_rank.first()?;
        let pressing = self
            .by_deadline
            .first()
            .filter(|(Reverse(their_priority), latest, _)| *latest <= now && *their_priority >= priority)
            .map(|(_, _, ix)| *ix);
        Some(pressing.unwrap_or(first))
    }

    /// Takes a task out.
    pub(crate) fn remove(&mut self, ix: Ix) {
        let Some(rank) = self.ranks.remove(&ix) else { return };
        self.by_rank.remove(&rank.key(ix));
        if let Some(latest) = rank.latest_start {
            self.by_deadline.remove(&(Reverse(rank.priority), latest, ix));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Queue, Rank};

    fn order(now: u64, tasks: &[(i32, u64, Option<u64>)]) -> Vec<u32> {
        let mut queue = Queue::default();
        for (ix, (priority, path, latest)) in tasks.iter().enumerate() {
            let latest_start = latest.map(Duration::from_secs);
            queue.push(ix as u32, Rank { priority: *priority, path: *path, latest_start });
        }
        std::iter::from_fn(|| pop(&mut queue, now)).collect()
    }

    fn pop(queue: &mut Queue, now: u64) -> Option<u32> {
        let ix = queue.first(Duration::from_secs(now))?;
        queue.remove(ix);
        Some(ix)
    }

    #[test]
    fn priority_then_pressing_deadline_then_critical_path_then_plan_order() {
        let tasks = [(0, 5, None), (0, 9, None), (0, 5, None), (1, 1, None), (0, 1, Some(10)), (0, 1, Some(5))];
        assert_eq!(order(0, &tasks), [3, 1, 0, 2, 4, 5], "no deadline presses yet");
        assert_eq!(order(20, &tasks), [3, 5, 4, 1, 0, 2], "earliest pressing deadline first, but after priority");
    }

    #[test]
    fn an_earlier_deadline_of_lower_priority_hides_no_pressing_one() {
        assert_eq!(order(20, &[(1, 9, None), (1, 1, Some(10)), (0, 1, Some(5))]), [1, 0, 2]);
    }

    #[test]
    fn a_task_is_queued_once_and_can_come_back() {
        let mut queue = Queue::default();
        let rank = Rank { priority: 0, path: 1, latest_start: Some(Duration::ZERO) };
        queue.push(7, rank);
        queue.push(7, rank);
        assert_eq!(queue.len(), 1);
        assert_eq!(pop(&mut queue, 0), Some(7));
        assert_eq!(pop(&mut queue, 0), None);
        queue.push(7, rank);
        assert_eq!(pop(&mut queue, 0), Some(7));
    }

    /// Regression: the rank of a queued task stayed what it was when the task was queued, because the entries of the heap
    /// were never changed.
    #[test]
    fn a_queued_task_can_be_given_another_rank() {
        let mut queue = Queue::default();
        let rank = |path| Rank { priority: 0, path, latest_start: None };
        queue.push(0, rank(5));
        queue.push(1, rank(4));
        queue.push(1, rank(9));
        assert_eq!([pop(&mut queue, 0), pop(&mut queue, 0), pop(&mut queue, 0)], [Some(1), Some(0), None]);
    }
}
