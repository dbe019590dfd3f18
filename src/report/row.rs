//! One task of a run as reports show it: its attempts and its end, folded from the events about it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::event::{AttemptFinished, Envelope, Event, Next};
use crate::model::id::TaskId;
use crate::model::outcome::Outcome;
use crate::model::task::Task;

/// One task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) task: Arc<Task>,
    pub(crate) attempts: Vec<Attempt>,
    /// How it ended; absent while it has not.
    pub(crate) outcome: Option<Outcome>,
    /// Lateness against its deadline: predicted or real.
    pub(crate) late: Option<(Duration, bool)>,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Attempt {
    pub(crate) number: u32,
    /// Its place in the pool when it started; absent where it took none.
    pub(crate) slot: Option<u32>,
    pub(crate) start: Duration,
    pub(crate) start_at: Timestamp,
    /// When it ended and how; absent while it runs, and for ever if apm was killed meanwhile.
    pub(crate) end: Option<(Duration, AttemptFinished)>,
}

/// Takes a row. An error ends the reading.
pub(crate) type TakeRow<'a> = &'a mut dyn FnMut(&Row) -> io::Result<()>;

/// Goes over the rows of a run, one at a time, from the first again with each call: a run of a million tasks does not fit
/// into memory.
pub(crate) type EachRow<'a> = &'a dyn Fn(TakeRow<'_>) -> io::Result<()>;

impl Row {
    /// One that has not started.
    pub(crate) fn new(task: Arc<Task>) -> Self {
        Self { task, attempts: Vec::new(), outcome: None, late: None }
    }

    /// Takes an event about this task.
    pub(crate) fn apply(&mut self, envelope: &Envelope) {
        match &envelope.event {
            Event::AttemptStarted { attempt, slot, .. } => {
                // Most tasks have one attempt; room for four would be most of the memory of a row.
                self.attempts.reserve_exact(1);
                self.attempts.push(Attempt {
                    number: *attempt,
                    slot: *slot,
                    start: envelope.t,
                    start_at: envelope.at,
                    end: None,
                });
            }
            Event::AttemptFinished(finished) => {
                if let Some(attempt) = self.attempts.iter_mut().rfind(|a| a.number == finished.attempt) {
                    attempt.end = Some((envelope.t, (**finished).clone()));
                }
                if let Next::Done { outcome } = &finished.next {
                    self.outcome = Some(outcome.clone());
                }
            }
            Event::TaskEnded { outcome, .. } => self.outcome = Some(outcome.clone()),
            Event::DeadlineAtRisk { late, missed, .. } => self.late = Some((*late, *missed)),
            _ => {}
        }
    }

    /// The end of its last attempt.
    pub(crate) fn last_finished(&self) -> Option<&AttemptFinished> {
        self.attempts.iter().rev().find_map(|attempt| attempt.end.as_ref()).map(|(_, finished)| finished)
    }

    /// Whether an attempt runs, as far as the events say.
    pub(crate) fn is_running(&self) -> bool {
        self.attempts.last().is_some_and(|attempt| attempt.end.is_none()) && self.outcome.is_none()
    }

    /// Whether it passed.
    pub(crate) fn is_good(&self) -> bool {
        self.outcome.as_ref().is_some_and(Outcome::is_good)
    }

    /// Whether it failed or could not be run.
    pub(crate) fn is_bad(&self) -> bool {
        self.outcome.as_ref().is_some_and(|outcome| outcome.is_failure() || matches!(outcome, Outcome::Broken { .. }))
    }

    /// Time spent in its attempts.
    pub(crate) fn wall(&self) -> Duration {
        self.attempts.iter().filter_map(|attempt| attempt.end.as_ref()).map(|(_, finished)| finished.usage.wall).sum()
    }

    /// The word for its end or state.
    pub(crate) fn word(&self) -> &'static str {
        match &self.outcome {
            Some(outcome) => outcome.word(),
            None if self.is_running() => "interrupted",
            None => "not run",
        }
    }
}

/// The task that an event of a row is about.
pub(crate) fn task_of(event: &Event) -> Option<&TaskId> {
    match event {
        Event::AttemptStarted { task, .. } | Event::TaskEnded { task, .. } | Event::DeadlineAtRisk { task, .. } => {
            Some(task)
        }
        Event::AttemptFinished(finished) => Some(&finished.task),
        _ => None,
    }
}
