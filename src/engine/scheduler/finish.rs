//! Takes the end of an attempt: what it means for the task, and what follows.

use std::cmp::Reverse;
use std::time::Duration;

use super::node::{Ended, Node, Running, State, Verdict};
use super::{Scheduler, Step, Timer};
use crate::engine::capacity::{Capacity, ResourceIx};
use crate::engine::retry;
use crate::model::attempt::{AttemptId, AttemptResult, Awaited, End, Ix};
use crate::model::event::{AttemptFinished, Event, Exit, Next, NoteLevel};
use crate::model::id::TaskId;
use crate::model::outcome::{Outcome, ResourceLimit, Stop};
use crate::model::task::Task;
use crate::model::unit::{Bytes, whole_micros};

/// Attempts that a memory shortage put back this often run without being put back again.
pub(super) const REQUEUES_MAX: u32 = 8;
/// Where no process is to be had although nothing runs: until the next try, longer than apm keeps idle threads, which
/// count as processes of the user.
const BUSY_WAIT: Duration = Duration::from_millis(1500);

/// Tasks that left processes running and are named.
const LEAKS_SAID: u64 = 5;

impl Scheduler {
    pub(super) fn finished(&mut self, now: Duration, id: AttemptId, mut result: AttemptResult, out: &mut Step) {
        let ix = id.ix;
        let may_start = self.may_start(ix);
        let Some(running) = self.leave(now, id) else { return };
        result.usage.memory_peak = result.usage.memory_peak.max(running.peak);
        result.usage.processes_peak = result.usage.processes_peak.max(running.processes_peak);
        let was_alone = self.alive.is_empty();
        if !was_alone {
            self.shared_at = Some(now);
        }
        let had_company = self.shared_at.is_some_and(|at| running.started <= at);
        let ceiling = self.setup.bounds.memory_ceiling;
        let Some(node) = self.nodes.get_mut(&ix) else { return };
        let chance = Chance { was_alone, had_company, requeues: node.requeues, waits: node.waits };
        let (outcome, requeue) = conclude(running.verdict, &result, &node.task, ceiling, chance);
        let task = std::sync::Arc::clone(&node.task);

        let has_own_end = matches!(result.end, End::Judged(_)) && !matches!(outcome, Outcome::Cancelled { .. });
        let leaks = has_own_end && !matches!(outcome, Outcome::TimedOut { .. } | Outcome::OverLimit { .. });
        if requeue.is_none() && has_own_end {
            // Whatever its kind: a session or a step has a duration too.
            self.history.learn(&node.key, result.usage.wall, result.usage.memory_peak);
        }
        let awaits = match &result.end {
            End::Await(on) if may_start && !matches!(outcome, Outcome::Cancelled { .. }) => Some(on.clone()),
            _ => None,
        };
        let busy = matches!(result.end, End::Busy(_));
        self.learn_process_room(busy);
        let mut outcome = outcome;
        let next = if let Some(on) = awaits {
            match self.await_tasks(ix, &on) {
                Ok(()) => Next::Await { on },
                Err(error) => {
                    outcome = Outcome::Broken { error: error.into() };
                    Next::Done { outcome: outcome.clone() }
                }
            }
        } else {
            self.what_follows(ix, &outcome, requeue.filter(|_| may_start), busy, was_alone, may_start)
        };
        out.events.push(Event::AttemptFinished(Box::new(AttemptFinished {
            task: task.id.clone(),
            attempt: running.attempt,
            outcome,
            next: next.clone(),
            exit: result.exit,
            usage: result.usage,
            stdout: result.stdout,
            stderr: result.stderr,
            counts: result.counts,
            results: result.results,
            leaked: result.leaked,
            inputs_digest: result.inputs_digest,
            confinement: result.confinement,
        })));
        if leaks && result.leaked > 0 {
            self.leaky += 1;
            let text = match (self.leaky, result.leaked) {
                (..=LEAKS_SAID, 1) => format!("`{}` left 1 process running, which was ended", task.id),
                (..=LEAKS_SAID, count) => format!("`{}` left {count} processes running, which were ended", task.id),
                (_, _) => "more tasks left processes running, which were ended".to_owned(),
            };
            if self.leaky <= LEAKS_SAID + 1 {
                out.events.push(Event::Noted { level: NoteLevel::Warning, text });
            }
        }
        for text in result.notes {
            out.events.push(Event::Noted { level: NoteLevel::Warning, text });
        }
        match next {
            Next::Requeue { .. } => self.make_ready(ix),
            Next::Retry { delay } => {
                if let Some(node) = self.nodes.get_mut(&ix) {
                    node.change(State::Delayed { until: now + delay });
                }
                self.timers.push(Reverse((now + delay, Timer::Retry(ix))));
            }
            Next::Await { .. } => {
                if let Some(node) = self.nodes.get_mut(&ix) {
                    node.change(State::Waiting);
                }
                // All of it may have ended already.
                self.fresh.push_back(ix);
            }
            Next::Done { outcome } => {
                if let Some(late) = task.deadline.and_then(|d| now.checked_sub(d)).filter(|late| !late.is_zero()) {
                    let late = whole_micros(late);
                    out.events.push(Event::DeadlineAtRisk { task: task.id.clone(), late, missed: true });
                }
                self.forget(ix, &outcome);
                self.check_halt(now, out);
            }
        }
    }

    /// An attempt is not alive any more: it gives back all it held, and who waits for that hears of it. Its node keeps the
    /// state until what follows is known.
    fn leave(&mut self, now: Duration, id: AttemptId) -> Option<Running> {
        let node = self.nodes.get_mut(&id.ix)?;
        if node.running()?.attempt != id.attempt {
            return None;
        }
        let is_running = matches!(node.state(), State::Running(_));
        let running = std::mem::replace(node.running_mut()?, Running::new(id.attempt, now));
        let demand = node.demand.clone();
        if !is_running {
            self.paused -= 1;
            self.unpausing.retain(|other| *other != id.ix);
        }
        self.alive.swap_remove(running.at);
        if let Some(moved) =
            self.alive.get(running.at).and_then(|ix| self.nodes.get_mut(ix)).and_then(Node::running_mut)
        {
            moved.at = running.at;
        }
        self.load.committed.0 -= running.committed.0;
        self.load.measured.0 -= running.tree.memory.0;
        self.prune_timers();
        self.give_slots(now, &running);
        self.capacity.give(&demand);
        self.memory_settles = false;
        Capacity::resources(&demand).for_each(|resource| self.wake(resource));
        self.wake(ResourceIx::Memory);
        Some(running)
    }

    /// Where processes are short, as many attempts as got one may be alive, and one more with each that ends otherwise.
    fn learn_process_room(&mut self, busy: bool) {
        let alive = self.alive.len() as u32;
        self.process_room = match self.process_room {
            _ if busy => Some(alive.max(1)),
            Some(room) if room < self.pool.size() => Some(room + 1),
            _ => None,
        };
    }

    /// Gives slots back.
    pub(super) fn give_slots(&mut self, now: Duration, running: &Running) {
        for slot in running.slot.iter().chain(&running.more_slots) {
            self.pool.give(now, *slot);
        }
        self.wake(ResourceIx::Slots);
    }

    fn what_follows(
        &mut self,
        ix: Ix,
        outcome: &Outcome,
        requeue: Option<String>,
        busy: bool,
        was_alone: bool,
        may_start: bool,
    ) -> Next {
        let Some(node) = self.nodes.get_mut(&ix) else { return Next::Done { outcome: outcome.clone() } };
        if let Some(reason) = requeue {
            if busy && was_alone {
                node.waits += 1;
                return Next::Retry { delay: BUSY_WAIT };
            }
            if !busy {
                node.requeues += 1;
                self.memory_settles = true;
            }
            return Next::Requeue { reason };
        }
        if outcome.is_failure() {
            node.failures += 1;
        }
        self.seed = xorshift(self.seed);
        let random = (self.seed >> 11) as f64 / (1u64 << 53) as f64;
        match retry::next_delay(&node.task.retry, node.failures, outcome, random) {
            Some(delay) if may_start && node.cancelled.is_none() => Next::Retry { delay: whole_micros(delay) },
            _ if outcome.is_good() && node.failures > 0 => {
                Next::Done { outcome: Outcome::Flaky { attempts: node.failures + 1 } }
            }
            _ => Next::Done { outcome: outcome.clone() },
        }
    }

    /// Lets a task wait for others before its next attempt.
    fn await_tasks(&mut self, ix: Ix, on: &[TaskId]) -> Result<(), String> {
        let mut awaited = Awaited::default();
        let mut open = Vec::new();
        for id in on {
            match (self.graph.find(id), self.ended.get(id)) {
                (Some(other), _) => open.push(other),
                (None, Some(Ended::Good)) => {}
                (None, Some(_)) => {
                    awaited.bad += 1;
                    awaited.first_bad.get_or_insert_with(|| id.clone());
                }
                (None, None) => return Err(format!("it waits for `{id}`, which is not in the plan")),
            }
        }
        open.sort_unstable();
        open.dedup();
        self.graph.await_on(ix, &open).map_err(|circular| {
            let name = self.nodes.get(&circular).map_or_else(String::new, |node| node.task.id.to_string());
            format!("it waits for `{name}`, which waits for it")
        })?;
        if let Some(node) = self.nodes.get_mut(&ix) {
            node.open = open.len() as u32;
            node.awaited = Some(awaited);
        }
        Ok(())
    }
}

/// Whether another try could end otherwise.
struct Chance {
    /// Nothing else ran when it ended: what it lacked nobody else had.
    was_alone: bool,
    /// Something else ran at some time of it: what the kernel counted at a ceiling need not have been its own.
    had_company: bool,
    /// Times it was put back.
    requeues: u32,
    /// Times it waited for a process although nothing ran.
    waits: u32,
}

/// How an attempt ended, and whether it goes back into the queue.
fn conclude(
    verdict: Option<Verdict>,
    result: &AttemptResult,
    task: &Task,
    ceiling: Option<Bytes>,
    Chance { was_alone, had_company, requeues, waits }: Chance,
) -> (Outcome, Option<String>) {
    let peak = result.usage.memory_peak;
    match verdict {
        // It had ended before its time was up or the run, and only nobody had looked yet.
        Some(Verdict::TimedOut(_) | Verdict::Cancelled(_)) if result.by_itself => {}
        Some(Verdict::TimedOut(limit)) => return (Outcome::TimedOut { limit }, None),
        Some(Verdict::Over(limit)) => return (Outcome::OverLimit { limit }, None),
        Some(Verdict::Cancelled(by)) => return (Outcome::Cancelled { by }, None),
        // It may have ended by itself before the signal came: then its own result stands.
        Some(Verdict::Requeued(reason)) if !matches!(result.exit, Some(Exit::Code(_))) => {
            return (Outcome::Cancelled { by: Stop::Fault { error: reason.clone().into() } }, Some(reason));
        }
        Some(Verdict::Requeued(_)) | None => {}
    }
    let judged = match &result.end {
        End::Judged(outcome) => outcome.clone(),
        // Not its end, and nothing that went wrong.
        End::Await(_) => Outcome::Passed,
        End::Busy(error) => {
            let requeue = (!was_alone || waits < REQUEUES_MAX).then(|| error.clone());
            return (Outcome::Broken { error: error.as_str().into() }, requeue);
        }
        End::Broken(error) => return (Outcome::Broken { error: error.as_str().into() }, None),
    };
    let failed = result.exit.is_some_and(|exit| !exit.outcome().is_good());
    if failed && result.oom_kills > 0 {
        return match (task.limits.memory, ceiling) {
            (Some(limit), _) => (Outcome::OverLimit { limit: ResourceLimit::Memory { limit, peak } }, None),
            (None, Some(limit)) if !had_company => {
                (Outcome::OverLimit { limit: ResourceLimit::Memory { limit, peak } }, None)
            }
            // The kernel chose it among several, too often to be chance.
            (None, Some(limit)) if requeues >= REQUEUES_MAX => {
                (Outcome::OverLimit { limit: ResourceLimit::Memory { limit, peak } }, None)
            }
            (None, Some(limit)) => {
                let reason = format!("memory: OOM-killed by the kernel at the ceiling of {limit}");
                (Outcome::Cancelled { by: Stop::Fault { error: reason.clone().into() } }, Some(reason))
            }
            (None, None) => (judged, None),
        };
    }
    if let Some(limit) = task.limits.processes.filter(|_| failed && result.forks_refused > 0) {
        let limit = ResourceLimit::Processes { limit, peak: limit.saturating_add(result.forks_refused) };
        return (Outcome::OverLimit { limit }, None);
    }
    (judged, None)
}

fn xorshift(mut x: u64) -> u64 {
    x |= 1;
    x ^= x << 13;
    x ^= x >> 7;
    x ^ (x << 17)
}
