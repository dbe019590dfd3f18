//! Ends the run early, and attempts whose time is up: signals, deadlines, `--halt`, time limits.

use std::cmp::Reverse;
use std::time::Duration;

use super::node::{Node, State, Verdict};
use super::{Action, Scheduler, Step, Timer};
use crate::model::attempt::{AttemptId, Ix, Signal};
use crate::model::event::Event;
use crate::model::outcome::{Outcome, Stop, TimeLimit};
use crate::model::request::{HaltCount, HaltOn};
use crate::model::task::When;

/// Timers that may be stale before they are looked through.
const TIMERS_KEPT: usize = 4096;

impl Scheduler {
    /// Whether a task may have another attempt. After a failure that stops the run only what cleans up or reports may; after
    /// any other stop only `when: always`, where one of its needs was started.
    pub(super) fn may_start(&self, ix: Ix) -> bool {
        let Some(node) = self.nodes.get(&ix) else { return false };
        let depends = !node.task.needs.is_empty();
        match &self.stop {
            None => true,
            Some(_) if self.is_cleaned_up => false,
            Some(Stop::Failure) => node.task.when != When::Success && depends,
            Some(Stop::Fault { .. }) => false,
            Some(_) => node.task.when == When::Always && node.started_need,
        }
    }

    /// Whether a task may become one that may start: not before all that it needs has ended it is known whether one of them
    /// was started.
    pub(super) fn may_wait(&self, ix: Ix) -> bool {
        let waits = |node: &Node| node.task.when == When::Always && node.open > 0;
        let cleans = !self.is_cleaned_up && !matches!(self.stop, Some(Stop::Fault { .. }));
        self.may_start(ix) || cleans && self.nodes.get(&ix).is_some_and(waits)
    }

    pub(super) fn check_halt(&mut self, now: Duration, out: &mut Step) {
        let Some(halt) = self.setup.halt else { return };
        let count = |words: &[&str]| words.iter().filter_map(|word| self.tally.get(word)).sum::<u64>();
        let failed = count(&["failed", "timed out", "over limit", "broken"]);
        let passed = count(&["passed", "flaky"]);
        let reached = match halt.on {
            HaltOn::Fail => failed,
            HaltOn::Success => passed,
            HaltOn::Done => failed + passed,
        };
        let hit = match halt.count {
            HaltCount::Number(number) => reached >= number,
            HaltCount::Share(share) => reached >= 3 && reached as f64 >= self.known as f64 * share.0 / 100.0,
        };
        if hit {
            self.begin_stop(now, Stop::Failure, halt.now, out);
        }
    }

    /// No new attempts; what waits is cancelled, what runs gets TERM (and KILL after its grace) if `end_running`. What
    /// cleans up after others outlives that, as that is what it is for: with no bound where a failure stopped the run, for
    /// a bounded time otherwise, and not a second stop.
    pub(super) fn begin_stop(&mut self, now: Duration, stop: Stop, end_running: bool, out: &mut Step) {
        match &self.stop {
            Some(Stop::Failure) if stop == Stop::Failure => {}
            None | Some(Stop::Failure) => {
                self.stop = Some(stop.clone());
                out.events.push(Event::Stopping { stop: stop.clone() });
                if stop != Stop::Failure {
                    self.timers.push(Reverse((now + self.setup.cleanup_time, Timer::CleanedUp)));
                }
                self.cancel_waiting(out);
            }
            Some(_) if stop != Stop::Failure => {
                self.is_cleaned_up = true;
                self.cancel_waiting(out);
            }
            Some(_) => {}
        }
        if end_running {
            self.end_running(now, out);
        }
    }

    /// Cancels what waits and may not start after the stop.
    fn cancel_waiting(&mut self, out: &mut Step) {
        let Some(stop) = self.stop.clone() else { return };
        let waiting: Vec<Ix> =
            self.nodes.iter().filter(|(_, node)| node.running().is_none()).map(|(ix, _)| ix).collect();
        for ix in waiting {
            if !self.may_wait(ix) {
                self.end(ix, Outcome::Cancelled { by: stop.clone() }, out);
            }
        }
    }

    /// Ends what runs and may not go on after the stop.
    fn end_running(&mut self, now: Duration, out: &mut Step) {
        let Some(stop) = self.stop.clone() else { return };
        for ix in self.alive.clone() {
            if !self.may_start(ix) {
                self.end_attempt(now, ix, Verdict::Cancelled(stop.clone()), true, out);
            }
        }
    }

    pub(super) fn kill_all(&mut self, now: Duration, stop: &Stop, out: &mut Step) {
        self.is_cleaned_up = true;
        self.begin_stop(now, stop.clone(), false, out);
        for &ix in &self.alive {
            if let Some(running) = self.nodes.get_mut(&ix).and_then(Node::running_mut) {
                running.verdict.get_or_insert(Verdict::Cancelled(stop.clone()));
                out.actions.push(Action::Signal(AttemptId { ix, attempt: running.attempt }, Signal::Kill));
            }
        }
    }

    /// Ends a running attempt for a reason; the first reason stands.
    pub(super) fn end_attempt(&mut self, now: Duration, ix: Ix, verdict: Verdict, gently: bool, out: &mut Step) {
        let Some(node) = self.nodes.get_mut(&ix) else { return };
        let grace = node.task.limits.grace.unwrap_or(self.setup.grace);
        let is_paused = matches!(node.state(), State::Paused(_) | State::Unpausing(_));
        let Some(running) = node.running_mut() else { return };
        if running.verdict.is_some() {
            return;
        }
        running.verdict = Some(verdict);
        let id = AttemptId { ix, attempt: running.attempt };
        if is_paused || running.throttled {
            running.throttled = false;
            out.actions.push(Action::Signal(id, Signal::Resume));
        }
        if gently && !grace.is_zero() {
            running.kill_at = Some(now + grace);
            out.actions.push(Action::Signal(id, Signal::Term));
            self.timers.push(Reverse((now + grace, Timer::Kill(ix, id.attempt))));
        } else {
            out.actions.push(Action::Signal(id, Signal::Kill));
        }
        if is_paused {
            // It has no slot, and needs none to end.
            self.paused -= 1;
            self.unpausing.retain(|other| *other != ix);
            node.change_running(State::Running);
        }
    }

    pub(super) fn fire_timers(&mut self, now: Duration, out: &mut Step) {
        while let Some(Reverse((at, timer))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            match timer {
                Timer::Wall(ix, attempt) => self.wall_is_up(now, AttemptId { ix, attempt }, out),
                Timer::Kill(ix, attempt) => {
                    let Some(at) = self.running_attempt(ix, attempt).and_then(|running| running.kill_at) else {
                        continue;
                    };
                    if at > now {
                        self.timers.push(Reverse((at, timer)));
                    } else {
                        out.actions.push(Action::Signal(AttemptId { ix, attempt }, Signal::Kill));
                    }
                }
                Timer::Retry(ix) => {
                    let state = self.nodes.get(&ix).map(Node::state);
                    if matches!(state, Some(State::Delayed { until }) if *until <= now) {
                        self.make_ready(ix);
                    }
                }
                Timer::Deadline if self.stop.as_ref().is_none_or(|stop| *stop == Stop::Failure) => {
                    self.begin_stop(now, Stop::Deadline, true, out);
                }
                // The run ends already, at the latest when the time for cleaning up is over.
                Timer::Deadline => {}
                Timer::CleanedUp => {
                    self.is_cleaned_up = true;
                    self.cancel_waiting(out);
                    self.end_running(now, out);
                }
            }
        }
    }

    /// Forgets timers of attempts that have ended: with long time limits a fast run would else keep one for each task.
    pub(super) fn prune_timers(&mut self) {
        if self.timers.len() <= TIMERS_KEPT + 4 * self.nodes.len() {
            return;
        }
        let nodes = &self.nodes;
        let is_alive = |ix: &Ix, attempt: u32| {
            nodes.get(ix).and_then(Node::running).is_some_and(|running| running.attempt == attempt)
        };
        self.timers.retain(|Reverse((_, timer))| match timer {
            Timer::Wall(ix, attempt) | Timer::Kill(ix, attempt) => is_alive(ix, *attempt),
            Timer::Retry(ix) => nodes.get(ix).is_some_and(|node| matches!(node.state(), State::Delayed { .. })),
            Timer::Deadline | Timer::CleanedUp => true,
        });
    }

    fn wall_is_up(&mut self, now: Duration, id: AttemptId, out: &mut Step) {
        let Some(node) = self.nodes.get(&id.ix) else { return };
        // While it is paused its time stands still; a timer is set when it goes on.
        if !matches!(node.state(), State::Running(running) if running.attempt == id.attempt) {
            return;
        }
        let Some(at) = node.running().and_then(|running| running.wall) else { return };
        if at > now {
            self.timers.push(Reverse((at, Timer::Wall(id.ix, id.attempt))));
            return;
        }
        let limit = node.task.limits.timeout.unwrap_or_default();
        self.end_attempt(now, id.ix, Verdict::TimedOut(TimeLimit::Wall { limit }), true, out);
    }

    fn running_attempt(&self, ix: Ix, attempt: u32) -> Option<&super::node::Running> {
        self.nodes.get(&ix)?.running().filter(|running| running.attempt == attempt)
    }

    /// Time in which nobody looked counts for no limit of an attempt: it may have stood still too, and what it wrote was not
    /// taken. The deadline of the run is one of the clock. Timers that come too early are set anew when they come.
    pub(super) fn shift_timers(&mut self, now: Duration, time: Duration) {
        self.gap_until = now;
        for ix in &self.alive {
            let Some(node) = self.nodes.get_mut(ix) else { continue };
            let is_paused = matches!(node.state(), State::Paused(_) | State::Unpausing(_));
            let Some(running) = node.running_mut() else { continue };
            if !is_paused {
                running.wall = running.wall.map(|at| at + time);
            }
            running.kill_at = running.kill_at.map(|at| at + time);
        }
    }
}
