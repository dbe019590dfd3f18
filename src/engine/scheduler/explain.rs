//! What each unfinished task waits for, for somebody who asks.

use std::time::Duration;

use super::Scheduler;
use super::node::{Node, State};
use crate::engine::capacity::{Capacity, RESERVE_AFTER, ResourceIx};
use crate::model::attempt::Ix;
use crate::model::waiting::WaitingTask;

/// Names in one sentence; the rest is a number.
const NAMES_MAX: usize = 3;

impl Scheduler {
    /// Every open task, in plan order.
    pub(crate) fn waiting(&self, now: Duration) -> Vec<WaitingTask> {
        let told = |(ix, node): (Ix, &Node)| {
            let (state, reason) = self.explain(now, ix, node);
            WaitingTask { task: node.task.id.clone(), state: state.to_owned(), reason }
        };
        self.nodes.iter().map(told).collect()
    }

    fn explain(&self, now: Duration, ix: Ix, node: &Node) -> (&'static str, String) {
        match node.state() {
            State::Running(running) if running.verdict.is_some() => ("running", "being ended".to_owned()),
            State::Running(_) => ("running", String::new()),
            State::Paused(_) if node.paused => {
                ("paused", format!("paused; `apm run unpause RUN '{}'` lets it go on", node.task.id))
            }
            State::Paused(_) => ("paused", "the run is paused; `apm run unpause` lets it go on".to_owned()),
            State::Unpausing(_) => ("paused", "unpaused, waits for a free slot".to_owned()),
            State::Held => {
                ("paused", format!("paused before its start; `apm run unpause RUN '{}'` lets it go on", node.task.id))
            }
            State::Waiting => ("waiting", self.open_needs(ix)),
            State::Delayed { until } => {
                let left = until.saturating_sub(now).as_secs_f64();
                ("delayed", format!("back-off before attempt {}: {left:.1} s left", node.attempts + 1))
            }
            State::Parked(parked) => ("ready", self.lacking_reason(now, parked.at, parked.need, parked.since, ix)),
            State::Ready if self.run_paused => {
                ("paused", "the run is paused; `apm run unpause` lets it go on".to_owned())
            }
            State::Ready => ("ready", self.ready_reason(ix)),
        }
    }

    fn open_needs(&self, ix: Ix) -> String {
        let open: Vec<&Node> = self.graph.needs(ix).iter().filter_map(|need| self.nodes.get(need)).collect();
        let names = open.iter().map(|node| format!("`{}`", node.task.id));
        let shown = listed(names, open.len());
        if open.is_empty() { "is about to become ready".to_owned() } else { format!("needs {shown}") }
    }

    fn lacking_reason(&self, now: Duration, at: ResourceIx, need: u64, since: Duration, ix: Ix) -> String {
        let waited = now.saturating_sub(since).as_secs_f64();
        let reserved = match self.reservation {
            Some(reserved) if reserved == ix => "; it has reserved what it needs".to_owned(),
            Some(reserved) if self.reserved(at, Some(ix)) > 0 => {
                let name = self.nodes.get(&reserved).map_or_else(String::new, |node| node.task.id.to_string());
                format!(
                    "; `{name}` has waited longer than {} s and has reserved what it needs",
                    RESERVE_AFTER.as_secs()
                )
            }
            _ => String::new(),
        };
        let what = match at {
            ResourceIx::Memory => self.memory_reason(ix),
            ResourceIx::Slots => format!("{need} slots, {} of {} are free", self.pool.free(), self.pool.size()),
            ResourceIx::Named(_) => {
                let holders: Vec<String> = self
                    .alive
                    .iter()
                    .filter_map(|ix| self.nodes.get(ix))
                    .filter(|node| Capacity::need_of(&node.demand, at) > 0)
                    .map(|node| format!("`{}`", node.task.id))
                    .collect();
                let count = holders.len();
                let held = if count == 0 { "nobody".to_owned() } else { listed(holders.into_iter(), count) };
                format!("{need} of {}, held by {held}", self.capacity.describe(at))
            }
        };
        format!("{what}; for {waited:.1} s{reserved}")
    }

    fn ready_reason(&self, ix: Ix) -> String {
        if let Some(reason) = self.hold() {
            return reason;
        }
        if !self.pool.has_room() {
            return format!("a slot; all {} are taken", self.pool.size());
        }
        match self.lacking(ix) {
            Some((at, _)) => self.capacity.describe(at),
            None => "is about to start".to_owned(),
        }
    }
}

fn listed(names: impl Iterator<Item = String>, count: usize) -> String {
    let shown: Vec<String> = names.take(NAMES_MAX).collect();
    let rest = count - shown.len();
    if rest > 0 { format!("{} and {rest} more", shown.join(", ")) } else { shown.join(", ") }
}
