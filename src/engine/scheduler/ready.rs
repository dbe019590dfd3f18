//! Starts what can start: needs, priority, resources, the machine. No task stands in the way of another that would fit.

use std::cmp::Reverse;
use std::time::Duration;

use super::node::{Node, Readiness, Running, State};
use super::{Action, Scheduler, Step, Timer};
use crate::engine::admit;
use crate::engine::capacity::{Capacity, Parked, RESERVE_AFTER, ResourceIx};
use crate::engine::pool::Resize;
use crate::model::attempt::{AttemptId, Ix};
use crate::model::event::Event;
use crate::model::outcome::Outcome;
use crate::model::unit::{Bytes, whole_micros};

impl Scheduler {
    /// Looks at what is new, then starts what can start.
    pub(super) fn pump(&mut self, now: Duration, out: &mut Step) {
        while let Some(ix) = self.fresh.pop_front() {
            let Some(node) = self.nodes.get(&ix).filter(|node| matches!(node.state(), State::Waiting)) else {
                continue;
            };
            if let Some(stop) = self.stop.clone().filter(|_| !self.may_wait(ix)) {
                self.end(ix, Outcome::Cancelled { by: stop }, out);
            } else if let Some(stop) = node.cancelled.clone() {
                self.end(ix, Outcome::Cancelled { by: stop }, out);
            } else if let Some(reason) = node.task.skip.as_deref().cloned() {
                self.end(ix, Outcome::Skipped { reason }, out);
            } else {
                self.consider(now, ix, out);
            }
        }
        let ready = self.queue.len() + self.slotless.len();
        self.figures.queue_max = self.figures.queue_max.max((ready + self.capacity.waiting()) as u32);
        if self.stop.is_some() && ready == 0 && self.capacity.waiting() == 0 && self.unpausing.is_empty() {
            return;
        }
        if let Some(resize) = self.pool.shrink(now) {
            out.events.push(resized(resize));
        }
        self.start_ready(now, out);
        let busy = self.reading.cpu_busy;
        let idle = self.setup.grow_below.is_none_or(|most| busy.is_some_and(|busy| busy.0 < most.0));
        if !self.held
            && !self.run_paused
            && idle
            && let Some(resize) = self.pool.grow(now, self.queue.len(), self.setup.interval)
        {
            out.events.push(resized(resize));
            self.wake(ResourceIx::Slots);
            self.start_ready(now, out);
        }
    }

    /// Queues a task whose needs have ended, or ends it.
    fn consider(&mut self, now: Duration, ix: Ix, out: &mut Step) {
        let Some(node) = self.nodes.get(&ix) else { return };
        match node.readiness() {
            Readiness::Waits => {}
            Readiness::Skipped(reason) => self.end(ix, Outcome::Skipped { reason }, out),
            Readiness::Ready => {
                self.warn_of_lateness(now, ix, out);
                self.make_ready(ix);
            }
        }
    }

    fn warn_of_lateness(&self, now: Duration, ix: Ix, out: &mut Step) {
        let Some(node) = self.nodes.get(&ix) else { return };
        let (Some(deadline), Some(expected)) = (node.task.deadline, self.history.duration(&node.key)) else {
            return;
        };
        if now + expected > deadline {
            let late = whole_micros(now + expected - deadline);
            out.events.push(Event::DeadlineAtRisk { task: node.task.id.clone(), late, missed: false });
        }
    }

    /// Puts a task into the queue, from wherever it waits; a paused one is held.
    pub(super) fn make_ready(&mut self, ix: Ix) {
        let Some(rank) = self.rank(ix) else { return };
        let Some(node) = self.nodes.get_mut(&ix) else { return };
        if let State::Parked(parked) = node.state() {
            let parked = *parked;
            self.capacity.unpark(&parked);
        }
        if node.paused {
            node.change(State::Held);
            return;
        }
        node.change(State::Ready);
        if node.demand.slots == 0 { &mut self.slotless } else { &mut self.queue }.push(ix, rank);
    }

    /// Starts ready tasks while there is something for them.
    pub(super) fn start_ready(&mut self, now: Duration, out: &mut Step) {
        if self.run_paused {
            return;
        }
        self.reserve(now);
        self.go_on(now, out);
        let mut reason = None;
        while let Some(ix) = self.candidate(now) {
            reason = self.hold();
            if reason.is_some() {
                break;
            }
            match self.lacking(ix) {
                Some((at, need)) => self.park(now, ix, at, need),
                None => self.start(now, ix, out),
            }
        }
        if reason.is_none() && self.pool.has_room() && self.queue.len() == 0 {
            // Only what does not fit into memory is left: that is worth a word, since a slot is free.
            reason = self.capacity.first_waiter(ResourceIx::Memory).map(|ix| self.memory_reason(ix));
        }
        if reason.is_some() != self.held {
            self.held = reason.is_some();
            out.events.push(Event::AdmissionChanged { reason: reason.unwrap_or_default() });
        }
    }

    /// The task that has lacked something for the reservation time, the longest of all, reserves what it needs.
    fn reserve(&mut self, now: Duration) {
        if self.reservation.is_none()
            && let Some((since, ix)) = self.capacity.longest()
            && now >= since + RESERVE_AFTER
        {
            self.reservation = Some(ix);
            // It may fit by now, where others were about to take what was given back.
            self.make_ready(ix);
        }
    }

    /// The next task to try.
    fn candidate(&self, now: Duration) -> Option<Ix> {
        let is_ready = |ix: &Ix| self.nodes.get(ix).is_some_and(|node| matches!(node.state(), State::Ready));
        let reserved = self.reservation.filter(is_ready).filter(|ix| self.slotless_or_room(*ix));
        reserved.or_else(|| self.slotless.first(now)).or_else(|| self.queue.first(now).filter(|_| self.pool.has_room()))
    }

    fn slotless_or_room(&self, ix: Ix) -> bool {
        self.pool.has_room() || self.nodes.get(&ix).is_some_and(|node| node.demand.slots == 0)
    }

    /// Why nothing at all may start now.
    pub(super) fn hold(&self) -> Option<String> {
        if self.memory_settles && !self.alive.is_empty() {
            return Some("memory: waiting for a running task to end after others were put back".to_owned());
        }
        if let Some(room) = self.process_room.filter(|room| (1..=self.alive.len()).contains(&(*room as usize))) {
            return Some(format!("processes: {room} at once, after no more could be started"));
        }
        if self.backpressure {
            return Some("output: its reader is behind".to_owned());
        }
        if self.alive.is_empty() {
            // One always starts: else a run could wait for ever.
            return None;
        }
        admit::machine_hold(&self.setup.bounds, &self.reading)
    }

    /// What a task lacks, and how much of it it needs.
    pub(super) fn lacking(&self, ix: Ix) -> Option<(ResourceIx, u64)> {
        let node = self.nodes.get(&ix)?;
        let kept = |resource| self.reserved(resource, Some(ix));
        if let Some(lacking) = self.capacity.lacks(&node.demand, kept) {
            return Some(lacking);
        }
        let slots = u64::from(node.demand.slots);
        if slots > 0 && u64::from(self.pool.free()) < slots + kept(ResourceIx::Slots) {
            return Some((ResourceIx::Slots, slots));
        }
        if self.alive.is_empty() {
            return None;
        }
        let free = self.memory_free()?;
        let need = self.expected_memory(node);
        (free.0 < need.0.saturating_add(kept(ResourceIx::Memory))).then_some((ResourceIx::Memory, need.0))
    }

    /// Lets a ready task wait at what it lacks.
    fn park(&mut self, now: Duration, ix: Ix, at: ResourceIx, need: u64) {
        let Some(rank) = self.rank(ix) else { return };
        self.queue.remove(ix);
        self.slotless.remove(ix);
        let Some(node) = self.nodes.get_mut(&ix) else { return };
        let since = *node.lacking_since.get_or_insert(now);
        let parked = Parked { at, need, key: rank.key(ix), since };
        self.capacity.park(parked);
        node.change(State::Parked(parked));
        // It may have been woken for another resource: that is free for the next.
        let named: Vec<ResourceIx> = Capacity::resources(&node.demand).collect();
        let others = named.into_iter().chain([ResourceIx::Slots, ResourceIx::Memory]).filter(|other| *other != at);
        others.for_each(|other| self.wake(other));
    }

    fn start(&mut self, now: Duration, ix: Ix, out: &mut Step) {
        self.queue.remove(ix);
        self.slotless.remove(ix);
        if self.reservation == Some(ix) {
            self.reservation = None;
        }
        let at = self.alive.len();
        let Some(node) = self.nodes.get_mut(&ix) else { return };
        node.lacking_since = None;
        node.attempts += 1;
        let attempt = node.attempts;
        let mut running = Running::new(attempt, now);
        running.at = at;
        if node.demand.slots > 0 {
            running.slot = self.pool.take();
            running.more_slots = (1..node.demand.slots).filter_map(|_| self.pool.take()).collect();
        }
        if let Some(timeout) = node.task.limits.timeout.filter(|timeout| !timeout.is_zero()) {
            running.wall = Some(now + timeout);
            self.timers.push(Reverse((now + timeout, Timer::Wall(ix, attempt))));
        }
        let slot = running.slot;
        self.capacity.take(&node.demand);
        let task = node.task.id.clone();
        let awaited = node.awaited.clone();
        node.change(State::Running(Box::new(running)));
        if at > 0 {
            self.shared_at = Some(now);
        }
        self.alive.push(ix);
        self.weigh(ix);
        self.figures.running_max = self.figures.running_max.max(self.alive.len() as u32);
        out.events.push(Event::AttemptStarted { task, attempt, slot });
        out.actions.push(Action::Start { id: AttemptId { ix, attempt }, slot, awaited });
    }

    /// Memory to set aside for a task: what it says, else what it took before, else its limit, else its share of the
    /// ceiling or what others of its kind are seen to take already.
    pub(super) fn expected_memory(&self, node: &Node) -> Bytes {
        let limit = node.task.limits.memory;
        let learned = self.history.finished_peak(&node.key).map(|peak| limit.map_or(peak, |limit| peak.min(limit)));
        let share = self.setup.bounds.memory_ceiling.map(|c| Bytes(c.0 / u64::from(self.pool.max().max(1))));
        let unknown = || self.history.peak(&node.key).max(share).unwrap_or_default();
        node.demand.memory.or(learned).or(limit).unwrap_or_else(unknown)
    }

    /// How much memory there is for one more task; nothing where nothing bounds it.
    pub(super) fn memory_free(&self) -> Option<Bytes> {
        admit::memory_free(&self.setup.bounds, &self.reading, &self.load)
    }

    pub(super) fn memory_reason(&self, ix: Ix) -> String {
        let need = self.nodes.get(&ix).map(|node| self.expected_memory(node)).unwrap_or_default();
        admit::memory_lacking(&self.setup.bounds, &self.reading, &self.load, need)
    }

    /// Counts an attempt in the load by what it is expected to take and what it has.
    pub(super) fn weigh(&mut self, ix: Ix) {
        let Some(expected) = self.nodes.get(&ix).map(|node| self.expected_memory(node)) else { return };
        let Some(running) = self.nodes.get_mut(&ix).and_then(Node::running_mut) else { return };
        let committed = running.tree.memory.max(expected);
        self.load.committed.0 = self.load.committed.0 + committed.0 - running.committed.0;
        running.committed = committed;
    }
}

pub(super) fn resized(resize: Resize) -> Event {
    Event::PoolResized { from: resize.from, to: resize.to, reason: resize.reason }
}
