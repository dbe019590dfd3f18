//! What is left to do of a recorded run. Pure: events and a judge of inputs in, a decision for each task out.

use std::collections::HashMap;

use crate::model::edit::{Edit, Origin};
use crate::model::event::{Envelope, Event, Invalidated, Next, RunStarted};
use crate::model::id::TaskId;
use crate::model::outcome::Outcome;
use crate::model::task::Task;

/// A recorded run, folded for going on with it.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    /// What the run is.
    pub(crate) started: Option<RunStarted>,
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
}

/// A change of the plan and who made it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RecordedEdit {
    pub(crate) edit: Edit,
    pub(crate) by: Origin,
}

/// Folds the events. A pass counts unless `changed` gives a reason against it or a task it needs runs again; everything
/// else runs again, whatever it was: failures, time-outs, cancellations, skips.
pub(crate) fn outstanding(
    envelopes: &[Envelope],
    mut changed: impl FnMut(&Task, &str) -> Option<String>,
) -> Outstanding {
    let mut result = Outstanding::default();
    let mut index: HashMap<TaskId, usize> = HashMap::new();
    let mut digests: Vec<String> = Vec::new();
    for envelope in envelopes {
        match &envelope.event {
            Event::RunStarted(started) => result.started = Some((**started).clone()),
            Event::TasksAdded { tasks, by } => {
                if let Some(Origin::Task { task }) = by {
                    result.added.push((task.clone(), tasks.iter().map(|task| task.id.clone()).collect()));
                }
                for task in tasks {
                    index.insert(task.id.clone(), result.tasks.len());
                    result.tasks.push(Task::clone(task));
                    result.done.push((0, None));
                    digests.push(String::new());
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
                    digests[*at].clone_from(&finished.inputs_digest);
                }
            }
            Event::RunResumed { invalidated, .. } => {
                for Invalidated { task, .. } in invalidated {
                    if let Some(at) = index.get(task) {
                        result.done[*at].1 = None;
                    }
                }
            }
            _ => {}
        }
    }
    let mut again: Vec<bool> = result.done.iter().map(|(_, end)| end.is_none()).collect();
    for (at, task) in result.tasks.iter().enumerate() {
        if !again[at]
            && let Some(reason) = changed(task, &digests[at])
        {
            again[at] = true;
            result.invalidated.push(Invalidated { task: task.id.clone(), reason });
        }
    }
    // What needs a task that runs again runs again, at any distance.
    let mut dependents: HashMap<usize, Vec<usize>> = HashMap::new();
    for (at, task) in result.tasks.iter().enumerate() {
        for need in task.needs.iter().filter_map(|need| index.get(need)) {
            dependents.entry(*need).or_default().push(at);
        }
    }
    let mut spread: Vec<usize> = (0..again.len()).filter(|at| again[*at]).collect();
    while let Some(need) = spread.pop() {
        for &at in dependents.get(&need).map_or(&[][..], Vec::as_slice) {
            if !std::mem::replace(&mut again[at], true) {
                let reason = format!("it needs `{}`, which runs again", result.tasks[need].id);
                result.invalidated.push(Invalidated { task: result.tasks[at].id.clone(), reason });
                spread.push(at);
            }
        }
    }
    for (at, again) in again.into_iter().enumerate() {
        if again {
            result.done[at].1 = None;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use std::time::Duration;

    use jiff::Timestamp;

    use super::outstanding;
    use crate::model::event::{AttemptFinished, Envelope, Event, Exit, Next, Output, Usage, VERSION};
    use crate::model::finding::Counts;
    use crate::model::id::TaskId;
    use crate::model::outcome::Outcome;
    use crate::model::task::{Run, Task};

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
        let result = outstanding(&events, |_, _| None);
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
        let result = outstanding(&events, |task, digest| {
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
}
