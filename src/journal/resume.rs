//! What is left to do of a recorded run. Pure: events, the plan as it is now and a judge of inputs in, a decision for each
//! task out.

use std::collections::{BTreeMap, HashMap};

use crate::model::edit::{Edit, Origin};
use crate::model::event::{Envelope, Event, Invalidated, Next, RunStarted};
use crate::model::id::TaskId;
use crate::model::outcome::Outcome;
use crate::model::request::PlanSource;
use crate::model::sandbox::SandboxMode;
use crate::model::task::{Filled, Limits, Retry, Skip, Task};

/// A recorded run, folded for going on with it.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    /// What the run is.
    pub(crate) started: Option<RunStarted>,
    /// Where its tasks come from, as it was read last.
    pub(crate) plan: Option<PlanSource>,
    /// Its tasks, in plan order.
    pub(crate) tasks: Vec<Task>,
    /// For each task, in the same order: attempts made, and its end if that still counts.
    pub(crate) done: Vec<(u32, Option<Outcome>)>,
    /// The plan is whole: its source had come to its end.
    pub(crate) closed: bool,
    /// Passes that do not count any more.
    pub(crate) invalidated: Vec<Invalidated>,
    /// Changes of the plan, in order.
    pub(crate) edits: Vec<RecordedEdit>,
    /// Tasks that steps have added, by the task of the step.
    pub(crate) added: Vec<(TaskId, Vec<TaskId>)>,
    /// For each task, what its inputs were when it last ended.
    digests: Vec<String>,
    /// For each task, whether it came from the plan and not from a step or a user while the run went on.
    is_of_plan: Vec<bool>,
    /// Tasks that the plan as it is now describes differently than the record, by index.
    pub(crate) edited: Vec<usize>,
    /// How many tasks the record has; those behind them are new in the plan.
    pub(crate) recorded: usize,
}

/// A change of the plan and who made it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RecordedEdit {
    pub(crate) edit: Edit,
    pub(crate) by: Origin,
}

/// Folds the events. A recorded pass counts; everything else runs again, whatever it was: failures, time-outs,
/// cancellations, skips.
pub(crate) fn outstanding(envelopes: &[Envelope]) -> Outstanding {
    let mut result = Outstanding::default();
    let mut index: HashMap<TaskId, usize> = HashMap::new();
    for envelope in envelopes {
        match &envelope.event {
            Event::RunStarted(started) => {
                result.started = Some((**started).clone());
                result.plan = started.request.as_ref().and_then(|request| request.plan.clone());
            }
            Event::TasksAdded { tasks, by } => {
                if let Some(Origin::Task { task }) = by {
                    result.added.push((task.clone(), tasks.iter().map(|task| task.id.clone()).collect()));
                }
                for task in tasks {
                    index.insert(task.id.clone(), result.tasks.len());
                    result.push(Task::clone(task), by.is_none());
                }
            }
            Event::TasksChanged { tasks } => {
                for task in tasks {
                    if let Some(at) = index.get(&task.id) {
                        result.tasks[*at] = Task::clone(task);
                    }
                }
            }
            Event::PlanEdited { edit, by } => {
                result.edits.push(RecordedEdit { edit: edit.clone(), by: by.clone() });
            }
            Event::TasksClosed {} => result.closed = true,
            Event::AttemptStarted { task, attempt, .. } => {
                if let Some(at) = index.get(task) {
                    result.done[*at] = (*attempt, None);
                }
            }
            Event::AttemptFinished(finished) => {
                if let Some(at) = index.get(&finished.task) {
                    let end = match &finished.next {
                        Next::Done { outcome } if outcome.is_good() => Some(outcome.clone()),
                        _ => None,
                    };
                    result.done[*at] = (finished.attempt, end);
                    result.digests[*at].clone_from(&finished.inputs_digest);
                }
            }
            Event::RunResumed { invalidated, terms, .. } => {
                if let Some(plan) = terms.as_ref().and_then(|terms| terms.plan.clone()) {
                    result.plan = Some(plan);
                }
                for Invalidated { task, .. } in invalidated {
                    if let Some(at) = index.get(task) {
                        result.done[*at].1 = None;
                    }
                }
            }
            _ => {}
        }
    }
    result.recorded = result.tasks.len();
    result
}

impl Outstanding {
    fn push(&mut self, task: Task, is_of_plan: bool) {
        self.tasks.push(task);
        self.done.push((0, None));
        self.digests.push(String::new());
        self.is_of_plan.push(is_of_plan);
    }

    /// Takes the plan as it is now, which `source` names: tasks that it describes differently run again as it says, new
    /// ones are added, those that it does not have any more do not run. Says what differs, if anything does. Values of
    /// environments are compared only where both sides have them.
    pub(crate) fn replan(&mut self, now: Vec<Task>, source: &str, has_environments: bool) -> Option<String> {
        let is_part = self.is_of_plan.clone();
        let (mut changes, new) = self.compare(now, &is_part, source, has_environments);
        changes.new = new.iter().map(|task| task.id.clone()).collect();
        new.into_iter().for_each(|task| self.push(task, true));
        changes.said(source)
    }

    /// The same for the tasks that a step has added from a file. A step adds once: new tasks in the file are only said.
    pub(crate) fn replan_step(
        &mut self,
        added: &[TaskId],
        now: Vec<Task>,
        source: &str,
        has_environments: bool,
    ) -> Option<String> {
        let is_part: Vec<bool> = self.tasks.iter().map(|task| added.contains(&task.id)).collect();
        let (mut changes, new) = self.compare(now, &is_part, source, has_environments);
        changes.not_added = new.into_iter().map(|task| task.id).collect();
        changes.said(source)
    }

    /// Compares the recorded tasks of one source with what it has now; those that it has besides are given back.
    fn compare(
        &mut self,
        now: Vec<Task>,
        is_part: &[bool],
        source: &str,
        has_environments: bool,
    ) -> (Changes, Vec<Task>) {
        let mut now: BTreeMap<TaskId, (usize, Task)> =
            now.into_iter().enumerate().map(|(at, task)| (task.id.clone(), (at, task))).collect();
        let mut changes = Changes::default();
        for at in (0..self.recorded).filter(|at| is_part[*at]) {
            let Some((_, task)) = now.remove(&self.tasks[at].id) else {
                let was = &mut self.tasks[at];
                if !matches!(was.skip.as_deref(), Some(Skip::Deselected { .. })) {
                    changes.gone.push(was.id.clone());
                    // One that has passed stays as it is.
                    if self.done[at].1.is_none() {
                        let by = format!("{source}, which does not have it any more");
                        was.skip = Some(Skip::Deselected { by: by.into() }.into());
                        was.needs.clear();
                        self.edited.push(at);
                    }
                }
                continue;
            };
            if definition(&task, has_environments) == definition(&self.tasks[at], has_environments) {
                continue;
            }
            changes.edited.push(task.id.clone());
            if self.done[at].1.take().is_some() {
                let reason = format!("{source} describes it differently now");
                self.invalidated.push(Invalidated { task: task.id.clone(), reason });
            }
            self.tasks[at] = task;
            self.edited.push(at);
        }
        let mut new: Vec<(usize, Task)> = now.into_values().collect();
        new.sort_by_key(|(at, _)| *at);
        (changes, new.into_iter().map(|(_, task)| task).collect())
    }

    /// Looks at each recorded pass: it counts unless `changed` gives a reason against it, or a task that it needs runs
    /// again, at any distance.
    pub(crate) fn judge(&mut self, mut changed: impl FnMut(&Task, &str) -> Option<String>) {
        let mut again: Vec<bool> = self.done.iter().map(|(_, end)| end.is_none()).collect();
        for (at, task) in self.tasks.iter().enumerate() {
            if !again[at]
                && let Some(reason) = changed(task, &self.digests[at])
            {
                again[at] = true;
                self.invalidated.push(Invalidated { task: task.id.clone(), reason });
            }
        }
        let index: HashMap<&TaskId, usize> = self.tasks.iter().enumerate().map(|(at, task)| (&task.id, at)).collect();
        let mut dependents: HashMap<usize, Vec<usize>> = HashMap::new();
        for (at, task) in self.tasks.iter().enumerate() {
            for need in task.needs.iter().filter_map(|need| index.get(need)) {
                dependents.entry(*need).or_default().push(at);
            }
        }
        // A step waits for the tasks that it has added.
        for (step, added) in &self.added {
            let Some(step) = index.get(step) else { continue };
            for task in added.iter().filter_map(|task| index.get(task)) {
                dependents.entry(*task).or_default().push(*step);
            }
        }
        let mut spread: Vec<usize> = (0..again.len()).filter(|at| again[*at]).collect();
        while let Some(need) = spread.pop() {
            for &at in dependents.get(&need).map_or(&[][..], Vec::as_slice) {
                if !std::mem::replace(&mut again[at], true) {
                    let reason = format!("it needs `{}`, which runs again", self.tasks[need].id);
                    self.invalidated.push(Invalidated { task: self.tasks[at].id.clone(), reason });
                    spread.push(at);
                }
            }
        }
        for (at, again) in again.into_iter().enumerate() {
            if again {
                self.done[at].1 = None;
            }
        }
    }
}

/// How a plan differs from its record.
#[derive(Default)]
struct Changes {
    edited: Vec<TaskId>,
    new: Vec<TaskId>,
    not_added: Vec<TaskId>,
    gone: Vec<TaskId>,
}

impl Changes {
    fn said(&self, source: &str) -> Option<String> {
        let kinds = [
            (&self.edited, "edited"),
            (&self.new, "new"),
            (&self.not_added, "new, which a resume does not add"),
            (&self.gone, "not in it any more"),
        ];
        let said: Vec<String> =
            kinds.iter().filter(|(ids, _)| !ids.is_empty()).map(|(ids, what)| listed(ids, what)).collect();
        (!said.is_empty()).then(|| format!("{source} was changed since the run began: {}", said.join(", ")))
    }
}

/// What a plan says of a task, without what the settings of the run filled in and what is only shown.
fn definition(task: &Task, has_environment: bool) -> Task {
    let mut task = task.clone();
    let (mut limits, filled) = (Limits::clone(&task.limits), std::mem::take(&mut task.filled));
    let Filled { memory, cpu, timeout, retries, delays } = filled;
    limits.memory = limits.memory.filter(|_| !memory);
    limits.cpu = limits.cpu.filter(|_| !cpu);
    limits.timeout = limits.timeout.filter(|_| !timeout);
    task.limits = limits.into();
    if !task.sandbox.is_unset() {
        task.sandbox.of_run = SandboxMode::Off;
    }
    let rest = Retry::default();
    task.retry.max = if retries { rest.max } else { task.retry.max };
    if delays {
        task.retry = Retry { max: task.retry.max, ..rest };
    }
    task.title = None;
    task.reason = Default::default();
    if !has_environment {
        task.env.values_mut().for_each(|value| *value = Default::default());
    }
    task
}

/// How many tasks, and the first of their names.
fn listed(ids: &[TaskId], what: &str) -> String {
    const NAMED: usize = 3;
    let names: Vec<String> = ids.iter().take(NAMED).map(|id| format!("`{id}`")).collect();
    let more = if ids.len() > NAMED { ", ..." } else { "" };
    format!("{} {what} ({}{more})", ids.len(), names.join(", "))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use std::time::Duration;

    use jiff::Timestamp;

    use super::outstanding;
    use crate::model::edit::Origin;
    use crate::model::event::{AttemptFinished, Envelope, Event, Exit, Next, Output, Usage, VERSION};
    use crate::model::finding::Counts;
    use crate::model::id::TaskId;
    use crate::model::outcome::Outcome;
    use crate::model::task::{Limits, Run, Task};

    fn id(text: &str) -> TaskId {
        TaskId::new(text).expect("a good id")
    }

    fn task(name: &str, needs: &[&str]) -> Task {
        let mut task = Task::new(id(name), Run::Argv(vec!["true".into()]));
        task.needs = needs.iter().map(|need| id(need)).collect();
        task
    }

    fn finished(name: &str, outcome: Outcome, next: Next) -> Event {
        Event::AttemptFinished(Box::new(AttemptFinished {
            task: id(name),
            attempt: 1,
            outcome,
            next,
            exit: Some(Exit::Code(0)),
            usage: Usage::default(),
            stdout: Output::default(),
            stderr: Output::default(),
            counts: Counts::default(),
            results: None,
            leaked: 0,
            inputs_digest: "d".to_owned(),
            confinement: None,
        }))
    }

    fn log(events: Vec<Event>) -> Vec<Envelope> {
        let wrap = |(seq, event)| Envelope {
            v: VERSION,
            seq: seq as u64,
            at: Timestamp::UNIX_EPOCH,
            t: Duration::ZERO,
            event,
        };
        events.into_iter().enumerate().map(wrap).collect()
    }

    fn passed(name: &str) -> Event {
        finished(name, Outcome::Passed, Next::Done { outcome: Outcome::Passed })
    }

    #[test]
    fn only_recorded_passes_count() {
        let failed = Exit::Code(1).outcome();
        let events = log(vec![
            Event::TasksAdded {
                tasks: ["a", "b", "c", "d", "e"].map(|name| Arc::new(task(name, &[]))).to_vec(),
                by: None,
            },
            passed("a"),
            finished("b", failed.clone(), Next::Done { outcome: failed.clone() }),
            finished("c", failed, Next::Retry { delay: Duration::ZERO }),
            Event::AttemptStarted { task: id("d"), attempt: 1, slot: Some(0) },
        ]);
        let mut result = outstanding(&events);
        result.judge(|_, _| None);
        let counts: Vec<bool> = result.done.iter().map(|(_, end)| end.is_some()).collect();
        assert_eq!(counts, [true, false, false, false, false]);
        assert_eq!(result.done[3].0, 1, "the interrupted attempt was made");
    }

    #[test]
    fn changed_inputs_and_what_needs_them_run_again() {
        let events = log(vec![
            Event::TasksAdded {
                tasks: [task("c", &["b"]), task("b", &["a"]), task("a", &[]), task("x", &[])].map(Arc::new).to_vec(),
                by: None,
            },
            passed("a"),
            passed("b"),
            passed("c"),
            passed("x"),
        ]);
        let mut result = outstanding(&events);
        result.judge(|task, digest| {
            assert_eq!(digest, "d");
            (task.id.as_str() == "a").then(|| "its inputs changed".to_owned())
        });
        let again: Vec<String> = result.invalidated.iter().map(|i| format!("{}: {}", i.task, i.reason)).collect();
        assert_eq!(
            again,
            ["a: its inputs changed", "b: it needs `a`, which runs again", "c: it needs `b`, which runs again"]
        );
        assert!(result.done[3].1.is_some());
    }

    /// They ran as recorded, whatever the plan said by then.
    #[test]
    fn an_edited_plan_is_seen_and_what_needs_an_edited_task_runs_again() {
        let names: [(&str, &[&str]); 5] = [("a", &[]), ("b", &["a"]), ("c", &[]), ("d", &[]), ("e", &[])];
        let tasks = |names: &[(&str, &[&str])]| names.iter().map(|(name, needs)| task(name, needs)).collect::<Vec<_>>();
        let recorded = tasks(&names).into_iter().map(Arc::new).collect();
        let user = Event::TasksAdded { tasks: vec![Arc::new(task("u", &[]))], by: Some(Origin::Planner {}) };
        let events = log(vec![
            Event::TasksAdded { tasks: recorded, by: None },
            user,
            passed("a"),
            passed("b"),
            passed("c"),
            passed("d"),
        ]);
        let mut same = outstanding(&events);
        assert_eq!(same.replan(tasks(&names), "`p.yaml`", true), None);
        let mut result = outstanding(&events);
        let mut now = tasks(&[("n", &[]), ("a", &[]), ("b", &["a"]), ("c", &[])]);
        now[1].run = Run::Argv(vec!["false".into()]);
        // What is only shown, and what a flag fills in, is no edit.
        now[3].reason = "why".into();
        now[3].limits = Limits { timeout: Some(Duration::from_secs(1)), ..Limits::default() }.into();
        now[3].filled.timeout = true;
        let said = result.replan(now, "`p.yaml`", true).expect("something was edited");
        assert_eq!(
            said,
            "`p.yaml` was changed since the run began: 1 edited (`a`), 1 new (`n`), 2 not in it any more (`d`, `e`)"
        );
        result.judge(|_, _| None);
        let counts: Vec<(String, bool)> = result
            .tasks
            .iter()
            .zip(&result.done)
            .map(|(task, (_, end))| (task.id.to_string(), end.is_some()))
            .collect();
        let expected = [("a", false), ("b", false), ("c", true), ("d", true), ("e", false), ("u", false), ("n", false)];
        assert_eq!(counts, expected.map(|(name, counts)| (name.to_owned(), counts)));
        assert!(result.tasks[4].skip.is_some() && result.tasks[5].skip.is_none());
        assert_eq!((result.recorded, result.edited), (6, vec![0, 4]));
    }
}
