//! Changes of the plan while the run goes on. A change that cannot be made is refused with the reason, and nothing has
//! changed; one that is made is an event, so that a resume knows of it.

use std::cmp::Reverse;
use std::time::Duration;

use super::node::{Ended, Node, State, Verdict};
use super::ready::resized;
use super::{Action, Scheduler, Step, Timer};
use crate::engine::capacity::{Capacity, ResourceIx};
use crate::model::attempt::{AttemptId, Ix, Signal};
use crate::model::edit::{Edit, Origin};
use crate::model::event::Event;
use crate::model::id::TaskId;
use crate::model::outcome::{Outcome, Stop};
use crate::model::task::{MEMORY, SLOTS};
use crate::model::unit::Bytes;

/// Why a change is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EditError {
    #[error("the run has no task `{0}`, or it has ended")]
    Unknown(TaskId),
    #[error("task `{task}` has already ended: {ended}")]
    Ended { task: TaskId, ended: &'static str },
    #[error("task `{0}` is not paused")]
    NotPaused(TaskId),
    #[error("the run is not paused")]
    RunNotPaused,
    #[error("the run is being stopped")]
    Stopping,
    #[error("the run has no resource `{name}`; it has {known}")]
    NoResource { name: String, known: String },
    #[error("`{resource}` to {to}: at least 1")]
    TooSmall { resource: String, to: u64 },
    #[error("{to} agents: at most {most} can run, by the limits of apm's process (`ulimit -n`)")]
    TooManyAgents { to: u64, most: u32 },
    #[error("`{resource}` to {to}: task `{task}` uses {need} of it and could never start")]
    Unmet { resource: String, to: u64, task: TaskId, need: u64 },
    #[error("no task is named")]
    Nothing,
}

impl Scheduler {
    /// Makes a change, or says why not.
    pub(crate) fn edit(&mut self, now: Duration, edit: &Edit, by: &Origin, out: &mut Step) -> Result<(), EditError> {
        match edit {
            Edit::Cancel { tasks } => {
                let found = self.find_open(tasks)?;
                self.announce(edit, by, out);
                found.into_iter().for_each(|ix| self.cancel(now, ix, by, out));
            }
            Edit::CancelRun {} => {
                if self.stop.as_ref().is_some_and(|stop| *stop != Stop::Failure) {
                    return Err(EditError::Stopping);
                }
                self.announce(edit, by, out);
                self.begin_stop(now, Stop::Cancel { by: by.clone() }, true, out);
            }
            Edit::Pause { tasks } => {
                let found = self.find_open(tasks)?;
                self.announce(edit, by, out);
                for ix in found {
                    self.pause_task(now, ix, out);
                }
            }
            Edit::PauseRun {} => {
                if self.stop.is_some() {
                    return Err(EditError::Stopping);
                }
                self.announce(edit, by, out);
                self.run_paused = true;
                for ix in self.alive.clone() {
                    self.pause_attempt(now, ix, out);
                }
            }
            Edit::Unpause { tasks } => {
                let found = self.find_open(tasks)?;
                if let Some(at) = found.iter().position(|ix| self.nodes.get(ix).is_some_and(|node| !node.paused)) {
                    return Err(EditError::NotPaused(tasks[at].clone()));
                }
                self.announce(edit, by, out);
                found.into_iter().for_each(|ix| self.unpause_task(ix));
            }
            Edit::UnpauseRun {} => {
                if !self.run_paused {
                    return Err(EditError::RunNotPaused);
                }
                self.announce(edit, by, out);
                self.run_paused = false;
                for ix in self.alive.clone() {
                    if self.nodes.get(&ix).is_some_and(|node| !node.paused) {
                        self.unpause_attempt(ix);
                    }
                }
            }
            Edit::Prioritise { task, priority } => {
                let found = self.find_open(std::slice::from_ref(task))?;
                self.announce(edit, by, out);
                found.into_iter().for_each(|ix| self.rerank(ix, |node| node.priority = *priority));
            }
            Edit::Resize { resource, to } => self.resize(now, edit, by, (resource, *to), out)?,
        }
        self.pump(now, out);
        Ok(())
    }

    /// Takes over a change that an earlier part of the run has recorded, after its tasks were added and restored and before
    /// the first input: what it says of tasks that have ended since is of no interest.
    pub(crate) fn replay(&mut self, edit: &Edit, by: &Origin) {
        match edit {
            Edit::Cancel { tasks } => {
                for ix in tasks.iter().filter_map(|task| self.graph.find(task)) {
                    if let Some(node) = self.nodes.get_mut(&ix) {
                        node.cancelled = Some(Stop::Cancel { by: by.clone() });
                    }
                }
            }
            Edit::Pause { tasks } | Edit::Unpause { tasks } => {
                for ix in tasks.iter().filter_map(|task| self.graph.find(task)) {
                    if let Some(node) = self.nodes.get_mut(&ix) {
                        node.paused = matches!(edit, Edit::Pause { .. });
                    }
                }
            }
            Edit::PauseRun {} => self.run_paused = true,
            Edit::UnpauseRun {} => self.run_paused = false,
            Edit::Prioritise { task, priority } => {
                if let Some(ix) = self.graph.find(task) {
                    self.rerank(ix, |node| node.priority = *priority);
                }
            }
            Edit::Resize { resource, to } => match resource.as_str() {
                SLOTS => {
                    let to = self.at_least_needed(ResourceIx::Slots, *to) as u32;
                    self.setup.shape.max = to;
                    self.pool.resize(Duration::ZERO, to);
                }
                MEMORY => self.setup.bounds.memory_ceiling = Some(Bytes(*to)),
                name => {
                    if let Some(resource) = self.capacity.find(name) {
                        let to = self.at_least_needed(resource, *to);
                        self.capacity.resize(resource, to);
                    }
                }
            },
            // To resume a cancelled run is to want it after all, and not to have it stand still.
            Edit::CancelRun {} => self.run_paused = false,
        }
    }

    /// A task that had ended when a capacity was lowered below what it uses, and that a resume runs again, must not wait for
    /// ever.
    fn at_least_needed(&self, resource: ResourceIx, to: u64) -> u64 {
        let needs = self.nodes.values().map(|node| Capacity::need_of(&node.demand, resource));
        needs.max().unwrap_or(0).max(to)
    }

    fn announce(&self, edit: &Edit, by: &Origin, out: &mut Step) {
        out.events.push(Event::PlanEdited { edit: edit.clone(), by: by.clone() });
    }

    fn find_open(&self, tasks: &[TaskId]) -> Result<Vec<Ix>, EditError> {
        if tasks.is_empty() {
            return Err(EditError::Nothing);
        }
        let find = |task: &TaskId| {
            self.graph.find(task).ok_or_else(|| match self.ended.get(task) {
                Some(ended) => EditError::Ended { task: task.clone(), ended: Ended::word(*ended) },
                None => EditError::Unknown(task.clone()),
            })
        };
        tasks.iter().map(find).collect()
    }

    fn cancel(&mut self, now: Duration, ix: Ix, by: &Origin, out: &mut Step) {
        let stop = Stop::Cancel { by: by.clone() };
        let Some(node) = self.nodes.get_mut(&ix) else { return };
        node.cancelled = Some(stop.clone());
        if node.running().is_some() {
            self.end_attempt(now, ix, Verdict::Cancelled(stop), true, out);
        } else {
            self.end(ix, Outcome::Cancelled { by: stop }, out);
        }
    }

    fn pause_task(&mut self, now: Duration, ix: Ix, out: &mut Step) {
        let Some(node) = self.nodes.get_mut(&ix) else { return };
        node.paused = true;
        if matches!(node.state(), State::Ready | State::Parked(_)) {
            self.withdraw(ix);
            if let Some(node) = self.nodes.get_mut(&ix) {
                node.change(State::Held);
            }
        } else {
            self.pause_attempt(now, ix, out);
        }
    }

    /// Stops a running attempt where it is. Its slot is free for others, its time limit stands still; memory and resources
    /// it keeps. What is being ended is not stopped.
    fn pause_attempt(&mut self, now: Duration, ix: Ix, out: &mut Step) {
        let Some(node) = self.nodes.get_mut(&ix) else { return };
        match node.state() {
            State::Running(running) if running.verdict.is_none() => {}
            State::Unpausing(_) => {
                node.change_running(State::Paused);
                self.unpausing.retain(|other| *other != ix);
                return;
            }
            _ => return,
        }
        let task = node.task.id.clone();
        let Some(running) = node.running_mut() else { return };
        running.wall = running.wall.map(|at| at.saturating_sub(now));
        running.throttled = false;
        let id = AttemptId { ix, attempt: running.attempt };
        let slots: Vec<u32> = running.slot.take().into_iter().chain(std::mem::take(&mut running.more_slots)).collect();
        node.change_running(State::Paused);
        self.paused += 1;
        slots.into_iter().for_each(|slot| self.pool.give(now, slot));
        self.wake(ResourceIx::Slots);
        out.events.push(Event::AttemptPaused { task, attempt: id.attempt });
        out.actions.push(Action::Signal(id, Signal::Pause));
    }

    fn unpause_task(&mut self, ix: Ix) {
        let Some(node) = self.nodes.get_mut(&ix) else { return };
        node.paused = false;
        if matches!(node.state(), State::Held) {
            self.make_ready(ix);
        } else if !self.run_paused {
            self.unpause_attempt(ix);
        }
    }

    /// Lets a paused attempt wait for a slot, before all that is ready: it holds memory and resources.
    fn unpause_attempt(&mut self, ix: Ix) {
        let Some(node) = self.nodes.get_mut(&ix) else { return };
        if matches!(node.state(), State::Paused(_)) {
            node.change_running(State::Unpausing);
            self.unpausing.push_back(ix);
        }
    }

    /// Lets unpaused attempts go on while there are slots for them.
    pub(super) fn go_on(&mut self, now: Duration, out: &mut Step) {
        while let Some(ix) = self.unpausing.front().copied() {
            let Some(node) = self.nodes.get_mut(&ix) else { break };
            if self.pool.free() < node.demand.slots {
                break;
            }
            self.unpausing.pop_front();
            let slots = node.demand.slots;
            let task = node.task.id.clone();
            let Some(running) = node.running_mut() else { continue };
            if slots > 0 {
                running.slot = self.pool.take();
                running.more_slots = (1..slots).filter_map(|_| self.pool.take()).collect();
            }
            let (attempt, slot) = (running.attempt, running.slot);
            running.sampled = now;
            running.wall = running.wall.map(|left| now + left);
            if let Some(at) = running.wall {
                self.timers.push(Reverse((at, Timer::Wall(ix, attempt))));
            }
            node.change_running(State::Running);
            self.paused -= 1;
            out.events.push(Event::AttemptUnpaused { task, attempt, slot });
            out.actions.push(Action::Signal(AttemptId { ix, attempt }, Signal::Resume));
        }
    }

    fn resize(
        &mut self,
        now: Duration,
        edit: &Edit,
        by: &Origin,
        (name, to): (&str, u64),
        out: &mut Step,
    ) -> Result<(), EditError> {
        let resource = match name {
            SLOTS => ResourceIx::Slots,
            MEMORY => ResourceIx::Memory,
            _ => self.capacity.find(name).ok_or_else(|| {
                let known: Vec<String> =
                    [SLOTS, MEMORY].into_iter().chain(self.capacity.names()).map(|name| format!("`{name}`")).collect();
                EditError::NoResource { name: name.to_owned(), known: known.join(", ") }
            })?,
        };
        if to == 0 {
            return Err(EditError::TooSmall { resource: name.to_owned(), to });
        }
        if resource == ResourceIx::Slots && to > u64::from(self.setup.slots_max) {
            return Err(EditError::TooManyAgents { to, most: self.setup.slots_max });
        }
        if resource != ResourceIx::Memory {
            let unmet = self.nodes.values().find(|node: &&Node| Capacity::need_of(&node.demand, resource) > to);
            if let Some(node) = unmet {
                let need = Capacity::need_of(&node.demand, resource);
                return Err(EditError::Unmet { resource: name.to_owned(), to, task: node.task.id.clone(), need });
            }
        }
        self.announce(edit, by, out);
        match resource {
            ResourceIx::Slots => {
                self.setup.shape.max = to as u32;
                let resize = self.pool.resize(now, to as u32);
                if resize.from != resize.to {
                    out.events.push(resized(resize));
                }
            }
            ResourceIx::Memory => {
                self.setup.bounds.memory_ceiling = Some(Bytes(to));
                out.actions.push(Action::MemoryCeiling(Bytes(to)));
                self.keep_ceiling(now, out);
            }
            ResourceIx::Named(_) => self.capacity.resize(resource, to),
        }
        self.wake(resource);
        Ok(())
    }
}
