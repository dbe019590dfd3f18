//! A task in the scheduler: its state, and the one function that changes it. Knows nothing of queues and resources: who
//! changes a state also changes where the task stands.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::capacity::{Demand, Parked};
use crate::engine::ix_map::IxMap;
use crate::model::attempt::{Awaited, Ix, TreeUsage};
use crate::model::id::TaskId;
use crate::model::outcome::{Outcome, ResourceLimit, Stop, TimeLimit};
use crate::model::task::{Skip, Task, When};
use crate::model::unit::Bytes;

/// Where a task is on its way. A task that has ended has no state any more: see [`Ended`].
#[derive(Debug)]
pub(crate) enum State {
    /// Something it needs or awaits has not ended.
    Waiting,
    /// Ready, but paused.
    Held,
    /// Ready: it is in the queue.
    Ready,
    /// Ready, but something is lacking.
    Parked(Parked),
    /// Waits for the end of a back-off.
    Delayed { until: Duration },
    /// An attempt runs; it has a slot.
    Running(Box<Running>),
    /// Its attempt is paused; its slot is free, what else it holds is not.
    Paused(Box<Running>),
    /// Its attempt is to go on as soon as there is a slot.
    Unpausing(Box<Running>),
}

/// A running attempt.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) attempt: u32,
    pub(crate) slot: Option<u32>,
    /// Further slots, where it takes more than one.
    pub(crate) more_slots: Vec<u32>,
    pub(crate) started: Duration,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) tree: TreeUsage,
    pub(crate) peak: Bytes,
    pub(crate) processes_peak: u32,
    /// CPU time it may still use before it is stopped for a moment; negative when it owes. Microseconds.
    pub(crate) cpu_credit_us: i64,
    /// It is stopped to keep a CPU limit.
    pub(crate) throttled: bool,
    pub(crate) sampled: Duration,
    /// When its time is up; while it is paused, the time it has left.
    pub(crate) wall: Option<Duration>,
    /// When it is killed, after it was told to end.
    pub(crate) kill_at: Option<Duration>,
    /// What it counts for in the load: the larger of expected and measured memory.
    pub(crate) committed: Bytes,
    /// Its place among the attempts that are alive.
    pub(crate) at: usize,
}

/// Why the scheduler ended an attempt.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    TimedOut(TimeLimit),
    Over(ResourceLimit),
    Cancelled(Stop),
    Requeued(String),
}

/// How a task ended, as far as tasks that are added later have to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Good,
    /// It said no or was broken.
    Failed,
    Skipped,
    Cancelled,
}

impl Ended {
    pub(crate) fn of(outcome: &Outcome) -> Self {
        match outcome {
            outcome if outcome.is_good() => Self::Good,
            Outcome::Broken { .. } => Self::Failed,
            outcome if outcome.is_failure() => Self::Failed,
            Outcome::Cancelled { .. } => Self::Cancelled,
            _ => Self::Skipped,
        }
    }

    /// For people.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Good => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }
}

/// An open task.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) task: Arc<Task>,
    /// What its history is filed under.
    pub(crate) key: Arc<str>,
    pub(crate) demand: Demand,
    /// Its own where it was changed, else that of the task.
    pub(crate) priority: i32,
    /// Longest way to the end of the run, microseconds.
    pub(crate) path_us: u64,
    state: State,
    /// Tasks it needs or awaits that have not ended.
    pub(crate) open: u32,
    /// The first need that did not end well.
    bad_need: Option<TaskId>,
    /// A need said no or was broken.
    failed_need: bool,
    /// A need has made an attempt: there may be something to clean up after it.
    pub(crate) started_need: bool,
    /// It has made an attempt that awaits tasks.
    pub(crate) awaited: Option<Awaited>,
    /// Paused by name.
    pub(crate) paused: bool,
    /// Ended by name: no more attempts.
    pub(crate) cancelled: Option<Stop>,
    /// Tasks that its step has added.
    pub(crate) added: Vec<TaskId>,
    pub(crate) attempts: u32,
    pub(crate) failures: u32,
    /// Times it was put back into the queue.
    pub(crate) requeues: u32,
    /// Times it waited for a process although nothing ran.
    pub(crate) waits: u32,
    /// Since when something has been lacking.
    pub(crate) lacking_since: Option<Duration>,
}

/// Open tasks by index. Boxed: where few of a page are open, it is small.
#[derive(Debug, Default)]
pub(crate) struct Nodes(IxMap<Box<Node>>);

impl Nodes {
    pub(crate) fn get(&self, ix: &Ix) -> Option<&Node> {
        self.0.get(ix).map(|node| &**node)
    }

    pub(crate) fn get_mut(&mut self, ix: &Ix) -> Option<&mut Node> {
        self.0.get_mut(ix).map(|node| &mut **node)
    }

    pub(crate) fn insert(&mut self, ix: Ix, node: Node) {
        self.0.insert(ix, Box::new(node));
    }

    pub(crate) fn remove(&mut self, ix: &Ix) -> Option<Box<Node>> {
        self.0.remove(ix)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Node> {
        self.0.values().map(|node| &**node)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Ix, &Node)> {
        self.0.iter().map(|(ix, node)| (ix, &**node))
    }
}

/// What the ends of its needs mean for a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Waits,
    Ready,
    Skipped(Skip),
}

impl Node {
    pub(crate) fn new(task: Arc<Task>, key: Arc<str>, demand: Demand, path_us: u64) -> Self {
        Self {
            priority: task.priority,
            task,
            key,
            demand,
            path_us,
            state: State::Waiting,
            open: 0,
            bad_need: None,
            failed_need: false,
            started_need: false,
            awaited: None,
            paused: false,
            cancelled: None,
            added: Vec::new(),
            attempts: 0,
            failures: 0,
            requeues: 0,
            waits: 0,
            lacking_since: None,
        }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Changes the state; the only place that does. Returns the state before.
    ///
    /// Waiting -> Held | Ready; Held -> Ready; Ready -> Held | Parked | Running; Parked -> Held | Ready;
    /// Delayed -> Held | Ready; Running -> Paused; Paused -> Unpausing | Running (to be ended); Unpausing -> Paused |
    /// Running. An attempt that ends leads from Running, Paused or Unpausing to Waiting (it awaits), Delayed, Ready or Held.
    pub(crate) fn change(&mut self, to: State) -> State {
        use State::{Delayed, Held, Parked, Paused, Ready, Running, Unpausing, Waiting};
        let legal = matches!(
            (&self.state, &to),
            (Waiting | Held | Parked(_) | Delayed { .. }, Ready)
                | (Waiting | Ready | Parked(_) | Delayed { .. }, Held)
                | (Ready, Parked(_) | Running(_))
                | (Running(_) | Unpausing(_), Paused(_))
                | (Paused(_), Unpausing(_))
                | (Paused(_) | Unpausing(_), Running(_))
                | (Running(_) | Paused(_) | Unpausing(_), Waiting | Delayed { .. } | Ready | Held)
        );
        debug_assert!(legal, "`{}` cannot go from {:?} to {to:?}", self.task.id, self.state);
        std::mem::replace(&mut self.state, to)
    }

    /// Changes the state of an attempt that is alive, which the next state takes over.
    pub(crate) fn change_running(&mut self, to: fn(Box<Running>) -> State) {
        let (State::Running(running) | State::Paused(running) | State::Unpausing(running)) = &mut self.state else {
            return;
        };
        let running = std::mem::replace(&mut **running, Running::new(0, Duration::ZERO));
        self.change(to(Box::new(running)));
    }

    /// Its attempt, whether it is paused or not.
    pub(crate) fn running(&self) -> Option<&Running> {
        match &self.state {
            State::Running(running) | State::Paused(running) | State::Unpausing(running) => Some(running),
            _ => None,
        }
    }

    /// The same to be changed.
    pub(crate) fn running_mut(&mut self) -> Option<&mut Running> {
        match &mut self.state {
            State::Running(running) | State::Paused(running) | State::Unpausing(running) => Some(running),
            _ => None,
        }
    }

    /// One of its needs has ended, or had ended before it was added.
    pub(crate) fn need_ended(&mut self, need: &TaskId, ended: Ended, has_started: bool) {
        self.started_need |= has_started;
        if let Some(awaited) = &mut self.awaited {
            if ended != Ended::Good {
                awaited.bad += 1;
                awaited.first_bad.get_or_insert_with(|| need.clone());
            }
            return;
        }
        if ended != Ended::Good {
            self.bad_need.get_or_insert_with(|| need.clone());
        }
        self.failed_need |= ended == Ended::Failed;
    }

    /// Whether it may become ready. The one place that judges needs, whenever they ended.
    pub(crate) fn readiness(&self) -> Readiness {
        match (self.task.when, &self.bad_need) {
            (When::Success, Some(need)) if self.awaited.is_none() => {
                Readiness::Skipped(Skip::Need { task: need.clone() })
            }
            _ if self.open > 0 => Readiness::Waits,
            _ if self.awaited.is_some() => Readiness::Ready,
            (When::Failure, _) if !self.failed_need => Readiness::Skipped(Skip::NothingFailed),
            _ => Readiness::Ready,
        }
    }
}

impl Running {
    pub(crate) fn new(attempt: u32, now: Duration) -> Self {
        Self {
            attempt,
            slot: None,
            more_slots: Vec::new(),
            started: now,
            verdict: None,
            tree: TreeUsage::default(),
            peak: Bytes(0),
            processes_peak: 0,
            cpu_credit_us: 0,
            throttled: false,
            sampled: now,
            wall: None,
            kill_at: None,
            committed: Bytes(0),
            at: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{Ended, Node, Readiness, Running, State};
    use crate::engine::capacity::Demand;
    use crate::model::id::TaskId;
    use crate::model::task::{Run, Skip, Task, When};

    fn node(when: When) -> Node {
        let mut task = Task::new(TaskId::new("t").expect("an id"), Run::Argv(vec!["true".into()]));
        task.when = when;
        Node::new(Arc::new(task), "k".into(), Demand::default(), 1)
    }

    #[test]
    fn needs_are_judged_in_one_place() {
        let need = TaskId::new("need").expect("an id");
        let judge = |when, ended, open| {
            let mut node = node(when);
            node.open = open;
            node.need_ended(&need, ended, true);
            node.readiness()
        };
        let skipped = Readiness::Skipped(Skip::Need { task: need.clone() });
        assert_eq!(judge(When::Success, Ended::Good, 0), Readiness::Ready);
        assert_eq!(judge(When::Success, Ended::Good, 1), Readiness::Waits);
        assert_eq!(judge(When::Success, Ended::Skipped, 1), skipped, "the first bad end decides");
        assert_eq!(judge(When::Failure, Ended::Cancelled, 0), Readiness::Skipped(Skip::NothingFailed));
        assert_eq!(judge(When::Failure, Ended::Failed, 0), Readiness::Ready);
        assert_eq!(judge(When::Always, Ended::Failed, 0), Readiness::Ready);
    }

    #[test]
    #[should_panic(expected = "cannot go from")]
    fn a_task_that_waits_cannot_run_at_once() {
        node(When::Success).change(State::Running(Box::new(Running::new(1, Duration::ZERO))));
    }
}
