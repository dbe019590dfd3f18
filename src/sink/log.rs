//! Plain lines for a place that is no terminal: what ended and how, notes, changes of the pool.

use std::io::{self, Write};

use crate::model::event::{Envelope, Event, Next, NoteLevel};
use crate::model::outcome::{Outcome, Stop};
use crate::report::{ReadStored, text};
use crate::sink::Sink;
use crate::text::{number, transcript};

/// The signal of Ctrl-C.
const INTERRUPT: i32 = 2;

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Failures, warnings.
    Failures,
    /// Every end of a task.
    Ends,
    /// Also starts, the pool, admission.
    All,
}

/// Writes lines to standard error.
#[derive(Debug)]
pub(crate) struct Log {
    detail: Detail,
}

impl Log {
    /// With so much detail.
    pub(crate) fn new(detail: Detail) -> Self {
        Self { detail }
    }
}

/// The line for an event, if it is worth one.
pub(crate) fn line(envelope: &Envelope, detail: Detail) -> Option<String> {
    Some(transcript::printed(&worded(envelope, detail)?).into_owned())
}

fn worded(envelope: &Envelope, detail: Detail) -> Option<String> {
    let t = number::duration(envelope.t);
    let all = detail == Detail::All;
    let end = |task: &str, outcome: &Outcome, wall: Option<std::time::Duration>| {
        let took = wall.map(|wall| format!(" ({})", number::duration(wall))).unwrap_or_default();
        let why = if outcome.is_good() { String::new() } else { format!(": {}", text::explain(outcome)) };
        format!("{t:>7}  {:<10} {task}{took}{why}", outcome.word())
    };
    match &envelope.event {
        Event::AttemptStarted { task, attempt, slot } if all => Some(format!(
            "{t:>7}  {:<10} {task} (attempt {attempt}{})",
            "started",
            slot.map(|slot| format!(", slot {slot}")).unwrap_or_default()
        )),
        Event::AttemptPaused { task, .. } if all => Some(format!("{t:>7}  {:<10} {task}", "paused")),
        Event::AttemptUnpaused { task, slot, .. } if all => Some(format!(
            "{t:>7}  {:<10} {task}{}",
            "unpaused",
            slot.map(|slot| format!(" (slot {slot})")).unwrap_or_default()
        )),
        Event::AttemptFinished(finished) => match &finished.next {
            Next::Done { outcome } => {
                let bad = !outcome.is_good();
                (bad || detail != Detail::Failures)
                    .then(|| end(finished.task.as_str(), outcome, Some(finished.usage.wall)))
            }
            Next::Retry { delay } => Some(format!(
                "{t:>7}  {:<10} {} in {}: {}",
                "retry",
                finished.task,
                number::duration(*delay),
                text::explain(&finished.outcome)
            )),
            Next::Await { on } => all.then(|| {
                format!("{t:>7}  {:<10} {} for {}", "waits", finished.task, number::count(on.len() as u64, "task"))
            }),
            Next::Requeue { reason } => Some(format!("{t:>7}  {:<10} {}: {reason}", "put back", finished.task)),
        },
        Event::TaskEnded { task, outcome } => {
            let bad = matches!(outcome, Outcome::Broken { .. });
            (bad || detail != Detail::Failures).then(|| end(task.as_str(), outcome, None))
        }
        Event::PoolResized { from, to, reason } if all => {
            Some(format!("{t:>7}  {:<10} {from} to {to} slots: {reason}", "pool"))
        }
        Event::AdmissionChanged { reason } if all => {
            let text = if reason.is_empty() { "tasks start again" } else { reason };
            Some(format!("{t:>7}  {:<10} {text}", "admission"))
        }
        Event::PlanEdited { edit, by } => Some(format!(
            "{t:>7}  {:<10} {} by {}",
            "edit",
            transcript::line(&edit.to_string()),
            transcript::line(&by.to_string())
        )),
        Event::TasksAdded { tasks, by: Some(by) } => {
            let tasks = number::count(tasks.len() as u64, "task");
            Some(format!("{t:>7}  {:<10} {tasks} by {}", "added", transcript::line(&by.to_string())))
        }
        Event::EditRefused { edit, reason, .. } => {
            Some(format!("{t:>7}  {:<10} {}: {}", "refused", transcript::line(edit), transcript::line(reason)))
        }
        Event::DeadlineAtRisk { task, late, missed } => {
            let word = if *missed { "missed" } else { "will miss" };
            Some(format!("{t:>7}  {:<10} {task} {word} its deadline by {}", "late", number::duration(*late)))
        }
        // Warnings stand in the summary, where there is one.
        Event::Noted { level, text } if detail != Detail::Ends && *level != NoteLevel::Info => {
            Some(format!("{t:>7}  {:<10} {}", "warning", transcript::line(text)))
        }
        Event::Stopping { stop } => {
            let by = text::explain(&Outcome::Cancelled { by: stop.clone() });
            let again = match stop {
                Stop::Signal { signal: INTERRUPT } => "; a second Ctrl-C ends everything at once",
                _ => "",
            };
            Some(format!("{t:>7}  {:<10} {by}{again}", "stopping"))
        }
        _ => None,
    }
}

impl Sink for Log {
    fn name(&self) -> String {
        "log".to_owned()
    }

    fn event(&mut self, envelope: &Envelope, _read: ReadStored<'_>) -> io::Result<()> {
        match line(envelope, self.detail) {
            Some(line) => writeln!(io::stderr().lock(), "{line}"),
            None => Ok(()),
        }
    }

    fn replay(&mut self, _envelope: &Envelope, _read: ReadStored<'_>) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self, _read: ReadStored<'_>) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::{Detail, line};
    use crate::model::event::{Envelope, Event, VERSION};
    use crate::model::outcome::Stop;

    /// It was also said of a deadline and of a closed pipe, where nobody had pressed anything.
    #[test]
    fn a_second_ctrl_c_is_spoken_of_after_a_first() {
        let said = |stop| {
            let event = Event::Stopping { stop };
            line(&Envelope { v: VERSION, seq: 0, at: Timestamp::UNIX_EPOCH, t: Duration::ZERO, event }, Detail::Ends)
                .expect("a line")
        };
        assert!(said(Stop::Signal { signal: 2 }).contains("a second Ctrl-C"));
        for stop in [Stop::Signal { signal: 15 }, Stop::Deadline, Stop::Closed, Stop::Failure] {
            assert!(!said(stop).contains("Ctrl-C"));
        }
    }
}
