//! The queue of ready tasks: priority first, then tasks whose deadline presses, then the critical path, then plan order.
//! Knows nothing of slots, limits or states.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::time::Duration;

use crate::engine::graph::Ix;

/// What decides the order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rank {
    /// Higher first.
    pub(crate) priority: i32,
    /// Longest way to the end of the run, microseconds; higher first.
    pub(crate) path: u64,
    /// The latest start that still meets the deadline, with its buffer; past it the task presses.
    pub(crate) latest_start: Option<Duration>,
}

/// Ready tasks.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    by_rank: BinaryHeap<(i32, u64, Reverse<Ix>)>,
    by_deadline: BinaryHeap<(i32, Reverse<Duration>, Reverse<Ix>)>,
    /// What is really in the queue: entries of the heaps that are not in it are stale.
    queued: HashSet<Ix>,
}

impl Queue {
    /// How many tasks wait.
    pub(crate) fn len(&self) -> usize {
        self.queued.len()
    }

    /// Adds a task.
    pub(crate) fn push(&mut self, ix: Ix, rank: Rank) {
        if self.queued.insert(ix) {
            self.by_rank.push((rank.priority, rank.path, Reverse(ix)));
            if let Some(latest) = rank.latest_start {
                self.by_deadline.push((rank.priority, Reverse(latest), Reverse(ix)));
            }
        }
    }

    /// The task to start next. It stays until it is removed.
    pub(crate) fn first(&mut self, now: Duration) -> Option<Ix> {
        self.drop_stale();
        let (priority, _, Reverse(first)) = *self.by_rank.peek()?;
        let pressing = self
            .by_deadline
            .peek()
            .filter(|(their_priority, Reverse(latest), _)| *latest <= now && *their_priority >= priority)
            .map(|(_, _, Reverse(ix))| *ix);
        Some(pressing.unwrap_or(first))
    }

    /// Takes a task out.
    pub(crate) fn remove(&mut self, ix: Ix) {
        self.queued.remove(&ix);
    }

    /// Removes everything.
    pub(crate) fn drain(&mut self) -> Vec<Ix> {
        self.by_rank.clear();
        self.by_deadline.clear();
        let mut all: Vec<Ix> = self.queued.drain().collect();
        all.sort_unstable();
        all
    }

    fn drop_stale(&mut self) {
        while self.by_rank.peek().is_some_and(|(_, _, Reverse(ix))| !self.queued.contains(ix)) {
            self.by_rank.pop();
        }
        while self.by_deadline.peek().is_some_and(|(_, _, Reverse(ix))| !self.queued.contains(ix)) {
            self.by_deadline.pop();
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
}
