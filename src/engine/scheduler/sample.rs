//! Keeps limits by looking at running attempts: memory, CPU, processes, silence; and the ceilings of the run.

use std::time::Duration;

use super::finish::REQUEUES_MAX;
use super::node::{Node, Running, State, Verdict};
use super::{Action, Polled, Scheduler, Step};
use crate::engine::capacity::ResourceIx;
use crate::model::attempt::{AttemptId, Ix, Signal, TreeUsage};
use crate::model::event::Event;
use crate::model::outcome::{ResourceLimit, TimeLimit};
use crate::model::task::Task;
use crate::model::unit::{Bytes, Percent};
use crate::probe::machine::Reading;

/// What is measured of a task nobody knows counts as so many percent of what it will have at the next sample: at 85 % of
/// the ceiling the youngest is put back. A task that has shown what it takes counts as that.
const UNKNOWN_PERCENT: u64 = 85;
/// Credit of CPU time an attempt may save up, as time at its full rate: how long a burst may be.
const CPU_BURST: Duration = Duration::from_millis(500);

impl Scheduler {
    pub(super) fn sampled(
        &mut self,
        now: Duration,
        trees: &[(AttemptId, TreeUsage)],
        reading: Reading,
        out: &mut Step,
    ) {
        self.reading = reading;
        let mut total = TreeUsage::default();
        let mut cpu_spent = Duration::ZERO;
        for (id, tree) in trees {
            let Some(node) = self.nodes.get_mut(&id.ix) else { continue };
            let key = std::sync::Arc::clone(&node.key);
            let task = std::sync::Arc::clone(&node.task);
            let is_paused = !matches!(node.state(), State::Running(_));
            let Some(running) = node.running_mut().filter(|running| running.attempt == id.attempt) else { continue };
            let spent = tree.cpu_time.saturating_sub(running.tree.cpu_time);
            let elapsed = now.saturating_sub(running.sampled);
            running.sampled = now;
            cpu_spent += spent;
            total.memory.0 += tree.memory.0;
            total.processes += tree.processes;
            self.load.measured.0 = self.load.measured.0 + tree.memory.0 - running.tree.memory.0;
            running.tree = *tree;
            running.peak = running.peak.max(tree.memory);
            running.processes_peak = running.processes_peak.max(tree.processes);
            if let Some(limit) = task.limits.cpu.filter(|_| self.setup.polled.cpu) {
                running.cpu_credit_us = refill(running.cpu_credit_us, limit, elapsed, spent);
            }
            let peak = running.peak;
            let watched = now.saturating_sub(self.gap_until);
            let verdict = over_limit(&task, running, self.setup.polled, watched, is_paused);
            self.history.raise_peak(&key, peak);
            if let Some(verdict) = verdict {
                let gently = matches!(verdict, Verdict::TimedOut(_));
                self.end_attempt(now, id.ix, verdict, gently, out);
            }
        }
        // What others of a kind were seen to take changes what is expected of the rest of it.
        for at in 0..self.alive.len() {
            self.weigh(self.alive[at]);
        }
        let elapsed = now.saturating_sub(self.sampled);
        self.sampled = now;
        self.throttle(elapsed, cpu_spent, out);
        self.keep_ceiling(now, out);
        self.wake(ResourceIx::Memory);
        if now >= self.sample_event_at && !trees.is_empty() {
            // Dense at first, sparser as the run goes on: a report needs a few hundred points, a day must not give a million.
            self.sample_event_at = now + self.setup.interval.max(now / 300);
            let rate = 100.0 * cpu_spent.as_secs_f64() / elapsed.as_secs_f64().max(0.001);
            out.events.push(Event::Sampled {
                running: (self.alive.len() - self.paused) as u32,
                queued: (self.queue.len() + self.slotless.len() + self.capacity.waiting()) as u32,
                memory: total.memory,
                cpu: Percent(rate.round()),
                processes: total.processes,
            });
        }
    }

    /// Stops and continues attempts so that their CPU rate stays under their limit and the run's under its ceiling.
    fn throttle(&mut self, elapsed: Duration, spent: Duration, out: &mut Step) {
        if let Some(ceiling) = self.setup.cpu_ceiling_polled {
            self.cpu_credit_us = refill(self.cpu_credit_us, ceiling, elapsed, spent);
            self.all_throttled = self.cpu_credit_us < 0;
        }
        for &ix in &self.alive {
            let Some(node) = self.nodes.get_mut(&ix) else { continue };
            // A paused attempt stands still anyway, and goes on when it is told to.
            let is_running = matches!(node.state(), State::Running(_));
            let Some(running) = node.running_mut().filter(|_| is_running) else { continue };
            let stop = running.verdict.is_none() && (self.all_throttled || running.cpu_credit_us < 0);
            if stop != running.throttled {
                running.throttled = stop;
                let signal = if stop { Signal::Pause } else { Signal::Resume };
                out.actions.push(Action::Signal(AttemptId { ix, attempt: running.attempt }, signal));
            }
        }
    }

    /// Puts the youngest attempts back while the run is close to its memory ceiling; the oldest goes on, so that
    /// something always gets done.
    pub(super) fn keep_ceiling(&mut self, now: Duration, out: &mut Step) {
        let Some(ceiling) = self.setup.bounds.memory_ceiling else {
            return;
        };
        let of = |ix: &Ix| self.nodes.get(ix).and_then(Node::running).map(|running| (running, *ix));
        let mut alive: Vec<(Duration, Ix)> = self
            .alive
            .iter()
            .filter_map(of)
            .filter(|(running, _)| running.verdict.is_none())
            .map(|(running, ix)| (running.started, ix))
            .collect();
        alive.sort_unstable();
        // What is being ended will free its memory.
        let sum = |of: &dyn Fn(Ix) -> u64| alive.iter().map(|(_, ix)| of(*ix)).sum::<u64>();
        let (mut memory, mut soon) = (sum(&|ix| self.memory_of(ix)), sum(&|ix| self.memory_soon(ix)));
        while soon > ceiling.0 && alive.len() > 1 {
            let Some((_, ix)) = alive.pop() else { break };
            if self.nodes.get(&ix).is_some_and(|node| node.requeues >= REQUEUES_MAX) {
                continue;
            }
            let reason = format!("memory: {} used by the run, ceiling {ceiling}", Bytes(memory));
            memory = memory.saturating_sub(self.memory_of(ix));
            soon = soon.saturating_sub(self.memory_soon(ix));
            self.memory_settles = true;
            self.end_attempt(now, ix, Verdict::Requeued(reason), false, out);
        }
        if memory > ceiling.0
            && let [(_, ix)] = alive[..]
        {
            let limit = ResourceLimit::Memory { limit: ceiling, peak: Bytes(memory) };
            self.end_attempt(now, ix, Verdict::Over(limit), false, out);
        }
    }

    fn memory_of(&self, ix: Ix) -> u64 {
        self.nodes.get(&ix).and_then(Node::running).map_or(0, |running| running.tree.memory.0)
    }

    /// Memory that a running task may have at the next sample.
    fn memory_soon(&self, ix: Ix) -> u64 {
        let now = self.memory_of(ix);
        let Some(node) = self.nodes.get(&ix) else { return now };
        match self.history.finished_peak(&node.key) {
            Some(peak) => now.max(peak.0.min(node.task.limits.memory.map_or(u64::MAX, |limit| limit.0))),
            None => now / UNKNOWN_PERCENT * 100,
        }
    }
}

/// A token bucket in microseconds of CPU time.
fn refill(credit_us: i64, limit: Percent, elapsed: Duration, spent: Duration) -> i64 {
    let rate = limit.0 / 100.0;
    let earned = (elapsed.as_micros() as f64 * rate) as i64;
    let burst = (CPU_BURST.as_micros() as f64 * rate) as i64;
    credit_us.saturating_add(earned).saturating_sub(spent.as_micros() as i64).min(burst)
}

/// `watched`: since when its output has been taken as it came.
fn over_limit(task: &Task, running: &Running, polled: Polled, watched: Duration, is_paused: bool) -> Option<Verdict> {
    let limits = &task.limits;
    let tree = &running.tree;
    if let Some(limit) = limits.memory.filter(|limit| polled.memory && tree.memory > *limit) {
        return Some(Verdict::Over(ResourceLimit::Memory { limit, peak: tree.memory }));
    }
    // Threads, as a control group counts.
    if let Some(limit) = limits.processes.filter(|limit| polled.processes && u64::from(tree.threads) > *limit) {
        return Some(Verdict::Over(ResourceLimit::Processes { limit, peak: u64::from(tree.threads) }));
    }
    if let Some(limit) = limits.cpu_time.filter(|limit| !limit.is_zero() && tree.cpu_time > *limit) {
        return Some(Verdict::Over(ResourceLimit::CpuTime { limit, used: tree.cpu_time }));
    }
    let is_stopped = is_paused || running.throttled;
    if let Some(limit) =
        limits.idle_timeout.filter(|limit| !limit.is_zero() && tree.silent.min(watched) > *limit && !is_stopped)
    {
        return Some(Verdict::TimedOut(TimeLimit::Idle { limit }));
    }
    None
}
