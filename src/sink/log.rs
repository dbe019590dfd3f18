//! Plain lines for a place that is no terminal: what ended and how, notes, changes of the pool.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::model::event::{Envelope, Event, Next, NoteLevel};
use crate::model::id::TaskId;
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

/// After so long without a line one says what runs: services of CI end a job that prints nothing for ten minutes.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Tasks named in such a line.
const NAMED_MAX: usize = 4;

/// Writes lines to standard error.
#[derive(Debug)]
pub(crate) struct Log {
    detail: Detail,
    heartbeat: Heartbeat,
    said: Instant,
}

impl Log {
    /// With so much detail.
    pub(crate) fn new(detail: Detail) -> Self {
        Self { detail, heartbeat: Heartbeat::default(), said: Instant::now() }
    }
}

/// What runs and how much has ended, for a line while nothing else happens.
#[derive(Debug, Default)]
struct Heartbeat {
    /// Since when, by the clock of the run.
    running: BTreeMap<TaskId, Duration>,
    known: u64,
    ended: u64,
    /// Time of the last event, and when it came.
    last: Option<(Duration, Instant)>,
}

impl Heartbeat {
    fn event(&mut self, envelope: &Envelope) {
        self.last = Some((envelope.t, Instant::now()));
        match &envelope.event {
            Event::TasksAdded { tasks, .. } => self.known += tasks.len() as u64,
            Event::AttemptStarted { task, .. } => {
                self.running.insert(task.clone(), envelope.t);
            }
            Event::AttemptFinished(finished) => {
                self.running.remove(&finished.task);
                self.ended += u64::from(matches!(finished.next, Next::Done { .. }));
            }
            Event::TaskEnded { .. } => self.ended += 1,
            _ => {}
        }
    }

    /// The line, if anything runs.
    fn line(&self, now: Instant) -> Option<String> {
        let (t, at) = self.last?;
        let t = t + now.duration_since(at);
        let mut since: Vec<(&TaskId, &Duration)> = self.running.iter().collect();
        since.sort_by_key(|(_, start)| **start);
        let named = |(task, start): &(&TaskId, &Duration)| {
            format!("{} ({})", transcript::line(task.as_str()), number::duration(t.saturating_sub(**start)))
        };
        let names: Vec<String> = since.iter().take(NAMED_MAX).map(named).collect();
        let more = match since.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let (t, ended, known) = (number::duration(t), self.ended, number::count(self.known, "task"));
        (!names.is_empty())
            .then(|| format!("{t:>7}  {:<10} {}{more}; {ended} of {known} ended", "running", names.join(", ")))
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
        self.heartbeat.event(envelope);
        match line(envelope, self.detail) {
            Some(line) => {
                self.said = Instant::now();
                writeln!(io::stderr().lock(), "{line}")
            }
            None => Ok(()),
        }
    }

    fn replay(&mut self, envelope: &Envelope, _read: ReadStored<'_>) -> io::Result<()> {
        self.heartbeat.event(envelope);
        Ok(())
    }

    fn tick(&mut self) -> io::Result<()> {
        if self.detail == Detail::Failures || self.said.elapsed() < SILENCE_MAX {
            return Ok(());
        }
        self.said = Instant::now();
        match self.heartbeat.line(self.said) {
            Some(line) => writeln!(io::stderr().lock(), "{}", transcript::printed(&line)),
            None => Ok(()),
        }
    }

    fn finish(&mut self, _read: ReadStored<'_>) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use std::sync::Arc;
    use std::time::Instant;

    use super::{Detail, Heartbeat, line};
    use crate::model::event::{Envelope, Event, VERSION};
    use crate::model::id::TaskId;
    use crate::model::outcome::Stop;
    use crate::model::task::{Run, Task};

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

    #[test]
    fn a_line_says_what_runs_while_nothing_happens() {
        let mut heartbeat = Heartbeat::default();
        let mut take = |seconds, event| {
            let t = Duration::from_secs(seconds);
            heartbeat.event(&Envelope { v: VERSION, seq: 0, at: Timestamp::UNIX_EPOCH, t, event });
        };
        let id = |name: &str| TaskId::new(name).expect("an id");
        let tasks = ["a", "b", "c"].map(|name| Arc::new(Task::new(id(name), Run::Argv(Vec::new())))).to_vec();
        take(0, Event::TasksAdded { tasks, by: None });
        take(1, Event::AttemptStarted { task: id("b"), attempt: 1, slot: Some(0) });
        take(2, Event::AttemptStarted { task: id("a"), attempt: 1, slot: Some(1) });
        take(3, crate::sink::sample::finished(&id("a"), crate::model::outcome::Outcome::Passed));
        take(10, Event::AttemptStarted { task: id("c"), attempt: 1, slot: Some(1) });
        let (_, at) = heartbeat.last.expect("an event");
        let line = heartbeat.line(at + Duration::from_secs(120)).expect("a line");
        assert_eq!(line.trim(), "2m 10s  running    b (2m 9s), c (2m 0s); 1 of 3 tasks ended");
        assert_eq!(Heartbeat::default().line(Instant::now()), None);
    }
}
