//! The elastic pool: how many attempts may run at once, and which slot an attempt gets. Knows nothing of tasks.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::event::PoolShape;

/// Slots, numbered from 0. A slot is a place for one running attempt and a row in the timeline.
#[derive(Debug)]
pub(crate) struct Pool {
    shape: PoolShape,
    size: u32,
    free: BTreeSet<u32>,
    /// Slots in use, by slot number; some of them may be beyond the size by now.
    taken: Vec<bool>,
    /// Since when each free slot is unused, by slot number.
    unused_since: Vec<Duration>,
    grown_at: Option<Duration>,
}

/// A change of size.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resize {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) reason: String,
}

impl Pool {
    /// A pool at its initial size.
    pub(crate) fn new(shape: PoolShape) -> Self {
        let size = shape.initial.clamp(1, shape.max.max(1));
        Self {
            shape,
            size,
            free: (0..size).collect(),
            taken: vec![false; shape.max.max(1) as usize],
            unused_since: vec![Duration::ZERO; shape.max.max(1) as usize],
            grown_at: None,
        }
    }

    /// Slots that exist.
    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// Whether an attempt could start now.
    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Free slots.
    pub(crate) fn free(&self) -> u32 {
        self.free.len() as u32
    }

    /// Slots at most.
    pub(crate) fn max(&self) -> u32 {
        self.shape.max
    }

    /// Another number of slots from now on, as it stands: attempts on slots beyond it end in their own time.
    pub(crate) fn resize(&mut self, now: Duration, to: u32) -> Resize {
        let from = self.size;
        let slots = self.unused_since.len().max(to as usize);
        self.unused_since.resize(slots, now);
        self.taken.resize(slots, false);
        for slot in (from..to).filter(|slot| !self.taken[*slot as usize]) {
            self.unused_since[slot as usize] = now;
            self.free.insert(slot);
        }
        self.free.retain(|slot| *slot < to);
        self.size = to;
        self.shape.initial = to;
        self.shape.max = to;
        Resize { from, to, reason: "as asked".to_owned() }
    }

    /// Takes the lowest free slot: the timeline stays compact and the high slots get idle and go away.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let slot = self.free.pop_first()?;
        self.taken[slot as usize] = true;
        Some(slot)
    }

    /// Gives a slot back.
    pub(crate) fn give(&mut self, now: Duration, slot: u32) {
        self.taken[slot as usize] = false;
        if slot < self.size {
            self.unused_since[slot as usize] = now;
            self.free.insert(slot);
        }
    }

    /// Grows by the factor while work waits and no slot is free; at most once per `interval`, so that a burst of
    /// short tasks does not blow the pool up to its bound.
    pub(crate) fn grow(&mut self, now: Duration, waiting: usize, interval: Duration) -> Option<Resize> {
        let recently = self.grown_at.is_some_and(|at| now < at + interval);
        if waiting == 0 || self.has_room() || self.size >= self.shape.max || recently {
            return None;
        }
        let from = self.size;
        let factor = self.shape.scale_factor.max(1.0);
        let to = ((f64::from(from) * factor).ceil() as u32).clamp(from + 1, self.shape.max);
        for slot in (from..to).filter(|slot| !self.taken[*slot as usize]) {
            self.unused_since[slot as usize] = now;
            self.free.insert(slot);
        }
        self.size = to;
        self.grown_at = Some(now);
        let tasks = if waiting == 1 { "task waits" } else { "tasks wait" };
        Some(Resize { from, to, reason: format!("{waiting} {tasks}, no slot is free") })
    }

    /// Drops the highest slots while they have been unused for the idle timeout, down to the initial size.
    pub(crate) fn shrink(&mut self, now: Duration) -> Option<Resize> {
        let from = self.size;
        while self.size > self.shape.initial.max(1) {
            let top = self.size - 1;
            if !self.free.contains(&top) || now < self.unused_since[top as usize] + self.shape.idle_timeout {
                break;
            }
            self.free.remove(&top);
            self.size = top;
        }
        let idle = self.shape.idle_timeout.as_secs_f64();
        (self.size < from).then(|| Resize { from, to: self.size, reason: format!("unused for {idle} s") })
    }

    /// When `shrink` could next do something.
    pub(crate) fn next_shrink(&self) -> Option<Duration> {
        let top = self.size.checked_sub(1)?;
        (self.size > self.shape.initial.max(1) && self.free.contains(&top))
            .then(|| self.unused_since[top as usize] + self.shape.idle_timeout)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Pool;
    use crate::model::event::PoolShape;

    const TICK: Duration = Duration::from_millis(100);

    fn pool(initial: u32, max: u32, factor: f64) -> Pool {
        let idle_timeout = Duration::from_secs(5);
        Pool::new(PoolShape { initial, max, scale_factor: factor, idle_timeout })
    }

    #[test]
    fn it_grows_by_the_factor_while_work_waits_and_shrinks_after_idle_time() {
        let mut pool = pool(2, 7, 2.0);
        let mut slots: Vec<u32> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(slots, [0, 1]);
        let sizes: Vec<u32> = (0..3)
            .map(|step| {
                pool.grow(TICK * step, 9, TICK);
                slots.extend(std::iter::from_fn(|| pool.take()));
                pool.size()
            })
            .collect();
        assert_eq!(sizes, [4, 7, 7]);
        for slot in slots {
            pool.give(Duration::from_secs(1), slot);
        }
        assert_eq!(pool.next_shrink(), Some(Duration::from_secs(6)));
        assert_eq!(pool.shrink(Duration::from_secs(5)), None);
        assert_eq!(pool.shrink(Duration::from_secs(6)).map(|r| (r.from, r.to)), Some((7, 2)));
        assert_eq!(pool.next_shrink(), None);
    }

    #[test]
    fn a_slot_in_use_is_not_given_again_after_the_pool_was_smaller() {
        let mut pool = pool(3, 3, 2.0);
        let slots: Vec<u32> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(slots, [0, 1, 2]);
        pool.resize(TICK, 1);
        pool.give(TICK, 1);
        pool.resize(TICK, 4);
        assert_eq!(std::iter::from_fn(|| pool.take()).collect::<Vec<_>>(), [1, 3], "slot 2 is still in use");
        pool.give(TICK, 2);
        assert_eq!(pool.take(), Some(2));
    }

    #[test]
    fn it_does_not_grow_twice_in_one_interval_nor_without_need() {
        let mut pool = pool(1, 8, 3.0);
        assert_eq!(pool.grow(TICK, 5, TICK), None, "a slot is free");
        pool.take();
        assert_eq!(pool.grow(TICK, 0, TICK), None, "nothing waits");
        assert_eq!(pool.grow(TICK, 1, TICK).map(|r| r.reason), Some("1 task waits, no slot is free".to_owned()));
        while pool.take().is_some() {}
        assert_eq!(pool.grow(TICK, 5, TICK), None, "it just grew");
    }
}
