//! The report of a run: a fold over its events, so that a live run and its replay give the same.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::event::{AttemptFinished, EngineFigures, Envelope, Event, Invalidated, Next, NoteLevel, RunStarted};
use crate::model::finding::Counts;
use crate::model::id::{RunId, TaskId};
use crate::model::outcome::{Outcome, Stop};
use crate::model::task::{Skip, Task};
use crate::model::unit::{Bytes, Percent};

/// A run so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RunReport {
    pub(crate) started: Option<RunStarted>,
    /// When it started, by the wall clock.
    pub(crate) at: Option<Timestamp>,
    /// Time of the last event.
    pub(crate) elapsed: Duration,
    pub(crate) rows: Vec<Row>,
    /// No more tasks will come.
    pub(crate) closed: bool,
    index: HashMap<TaskId, usize>,
    /// Size of the pool over time.
    pub(crate) pool: Vec<(Duration, u32, String)>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) holds: Vec<(Duration, String)>,
    pub(crate) notes: Vec<(Duration, NoteLevel, String)>,
    pub(crate) children: Vec<(TaskId, RunId, i32)>,
    pub(crate) resumed: Vec<(Duration, Vec<Invalidated>)>,
    pub(crate) stop: Option<Stop>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) engine: EngineFigures,
    /// Its apm lives. No event tells: set by who looks at a record that may still grow.
    pub(crate) is_alive: bool,
}

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
    pub(crate) slot: u32,
    pub(crate) start: Duration,
    pub(crate) start_at: Timestamp,
    /// When it ended and how; absent while it runs, and for ever if apm was killed meanwhile.
    pub(crate) end: Option<(Duration, AttemptFinished)>,
}

/// What the run used at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) t: Duration,
    pub(crate) running: u32,
    pub(crate) queued: u32,
    pub(crate) memory: Bytes,
    pub(crate) cpu: Percent,
    pub(crate) processes: u32,
}

/// Tasks by their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) tasks: usize,
    pub(crate) passed: usize,
    pub(crate) flaky: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    pub(crate) cancelled: usize,
    pub(crate) broken: usize,
    /// Not ended: running, waiting, or cut off by a crash.
    pub(crate) open: usize,
}

impl RunReport {
    /// Takes the next event.
    pub(crate) fn apply(&mut self, envelope: &Envelope) {
        let t = envelope.t;
        self.elapsed = self.elapsed.max(t);
        match &envelope.event {
            Event::RunStarted(started) => {
                self.at = Some(envelope.at);
                self.pool.push((t, started.pool.initial, String::new()));
                self.started = Some((**started).clone());
            }
            Event::RunResumed { invalidated, terms, .. } => {
                self.resumed.push((t, invalidated.clone()));
                self.stop = None;
                self.exit_code = None;
                if let (Some(started), Some(terms)) = (&mut self.started, terms) {
                    self.pool.push((t, terms.pool.initial, String::new()));
                    started.pool = terms.pool;
                    started.enforcement = terms.enforcement.clone();
                    started.ceilings = terms.ceilings;
                }
                // What did not pass is open again.
                for row in &mut self.rows {
                    row.outcome.take_if(|outcome| !outcome.is_good());
                }
                for again in invalidated {
                    if let Some(row) = self.row(&again.task) {
                        row.outcome = None;
                    }
                }
            }
            Event::TasksAdded { tasks } => {
                for task in tasks {
                    self.index.insert(task.id.clone(), self.rows.len());
                    self.rows.push(Row { task: Arc::clone(task), attempts: Vec::new(), outcome: None, late: None });
                }
            }
            Event::TasksChanged { tasks } => {
                for task in tasks {
                    if let Some(row) = self.row(&task.id) {
                        row.task = Arc::clone(task);
                    }
                }
            }
            Event::TasksClosed {} => self.closed = true,
            Event::AttemptStarted { task, attempt, slot } => {
                let (number, slot, start_at) = (*attempt, *slot, envelope.at);
                if let Some(row) = self.row(task) {
                    // Most tasks have one attempt; room for four would be most of the memory of a large run.
                    row.attempts.reserve_exact(1);
                    row.attempts.push(Attempt { number, slot, start: t, start_at, end: None });
                }
            }
            Event::AttemptFinished(finished) => {
                if let Some(row) = self.row(&finished.task) {
                    if let Some(attempt) = row.attempts.iter_mut().rfind(|a| a.number == finished.attempt) {
                        attempt.end = Some((t, (**finished).clone()));
                    }
                    if let Next::Done { outcome } = &finished.next {
                        row.outcome = Some(outcome.clone());
                    }
                }
            }
            Event::TaskEnded { task, outcome } => {
                if let Some(row) = self.row(task) {
                    row.outcome = Some(outcome.clone());
                }
            }
            Event::PoolResized { to, reason, .. } => self.pool.push((t, *to, reason.clone())),
            Event::AdmissionChanged { reason } => self.holds.push((t, reason.clone())),
            Event::DeadlineAtRisk { task, late, missed } => {
                let value = (*late, *missed);
                if let Some(row) = self.row(task) {
                    row.late = Some(value);
                }
            }
            Event::Sampled { running, queued, memory, cpu, processes } => self.samples.push(Sample {
                t,
                running: *running,
                queued: *queued,
                memory: *memory,
                cpu: *cpu,
                processes: *processes,
            }),
            Event::Noted { level, text } => self.notes.push((t, *level, text.clone())),
            Event::ChildRun { task, run, exit_code } => {
                self.children.push((task.clone(), run.clone(), *exit_code));
            }
            Event::Stopping { stop } => self.stop = Some(stop.clone()),
            Event::RunFinished(finished) => {
                self.exit_code = Some(finished.exit_code);
                self.engine = finished.engine;
            }
        }
    }

    fn row(&mut self, task: &TaskId) -> Option<&mut Row> {
        self.rows.get_mut(*self.index.get(task)?)
    }

    /// The row of a task.
    pub(crate) fn find(&self, task: &TaskId) -> Option<&Row> {
        self.rows.get(*self.index.get(task)?)
    }

    /// Tasks by their end.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals { tasks: self.rows.len(), ..Totals::default() };
        for row in &self.rows {
            let count = match &row.outcome {
                None => &mut totals.open,
                Some(Outcome::Passed) => &mut totals.passed,
                Some(Outcome::Flaky { .. }) => &mut totals.flaky,
                Some(Outcome::Failed { .. } | Outcome::TimedOut { .. } | Outcome::OverLimit { .. }) => {
                    &mut totals.failed
                }
                Some(Outcome::Skipped { .. }) => &mut totals.skipped,
                Some(Outcome::Cancelled { .. }) => &mut totals.cancelled,
                Some(Outcome::Broken { .. }) => &mut totals.broken,
            };
            *count += 1;
        }
        totals
    }

    /// Tests and findings of all checks.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for finished in self.rows.iter().filter_map(Row::last_finished) {
            counts.add(&finished.counts);
        }
        counts
    }

    /// Whether tasks of this run read the output of tools.
    pub(crate) fn has_checks(&self) -> bool {
        self.rows.iter().any(|row| row.task.check.is_some())
    }

    /// The exit code that the ends of the tasks mean.
    pub(crate) fn exit_code_of_tasks(&self, strict: bool) -> i32 {
        let totals = self.totals();
        match &self.stop {
            // Whoever pressed Ctrl-C gets death by that signal: a failure wins over 3 and 5 only.
            Some(Stop::Signal { signal }) => return 128 + signal,
            _ if totals.failed > 0 => return 1,
            Some(Stop::Deadline) => return 5,
            // As `yes | head`: he who went had what he wanted.
            Some(Stop::Closed) => return 0,
            Some(Stop::Fault { .. }) => return 3,
            Some(Stop::Failure) | None => {}
        }
        // A check that had nothing to do, or that the user left out, is no gap.
        let gap = |row: &Row| match &row.outcome {
            Some(Outcome::Skipped { reason }) => matches!(reason, Skip::ToolMissing { .. } | Skip::Offline { .. }),
            _ => false,
        };
        // The source of tasks broke off with an apm that was killed: what else it would have brought nobody knows.
        let cut_off = !self.closed && self.stop.is_none();
        // Where every tool is missing nothing was found to be good.
        let gaps_matter = strict || totals.skipped == totals.tasks;
        let incomplete = totals.broken > 0 || cut_off || (gaps_matter && self.rows.iter().any(gap));
        if incomplete { 3 } else { 0 }
    }
}

impl Row {
    /// The end of its last attempt.
    pub(crate) fn last_finished(&self) -> Option<&AttemptFinished> {
        self.attempts.iter().rev().find_map(|attempt| attempt.end.as_ref()).map(|(_, finished)| finished)
    }

    /// Whether an attempt runs, as far as the events say.
    pub(crate) fn is_running(&self) -> bool {
        self.attempts.last().is_some_and(|attempt| attempt.end.is_none()) && self.outcome.is_none()
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::RunReport;
    use crate::model::event::{Envelope, Event, Invalidated, VERSION};
    use crate::model::id::TaskId;
    use crate::model::outcome::{Outcome, Stop};
    use crate::model::task::{Run, Task};

    fn wrap(event: Event) -> Envelope {
        Envelope { v: VERSION, seq: 0, at: Timestamp::UNIX_EPOCH, t: Duration::ZERO, event }
    }

    fn report(outcomes: impl IntoIterator<Item = Outcome>) -> (RunReport, Vec<TaskId>) {
        let mut report = RunReport::default();
        let mut ids = Vec::new();
        for (at, outcome) in outcomes.into_iter().enumerate() {
            let id = TaskId::new(&format!("t{at}")).expect("an id");
            let task = Task::new(id.clone(), Run::Argv(Vec::new())).into();
            report.apply(&wrap(Event::TasksAdded { tasks: vec![task] }));
            report.apply(&wrap(Event::TaskEnded { task: id.clone(), outcome }));
            ids.push(id);
        }
        report.apply(&wrap(Event::TasksClosed {}));
        (report, ids)
    }

    fn failed() -> Outcome {
        crate::model::event::Exit::Code(1).outcome()
    }

    /// Each row was looked up among all that do not count any more: the square of a large run.
    #[test]
    fn a_resume_opens_what_failed_and_what_does_not_count_any_more() {
        const TASKS: usize = 50_000;
        let (mut report, ids) = report((0..TASKS).map(|at| if at == 3 { failed() } else { Outcome::Passed }));
        let again = |task: &TaskId| Invalidated { task: task.clone(), reason: String::new() };
        let invalidated = ids[10..].iter().map(again).collect();
        report.apply(&wrap(Event::RunResumed { apm: String::new(), invalidated, terms: None }));
        let totals = report.totals();
        assert_eq!((totals.passed, totals.open), (9, TASKS - 9));
    }

    #[test]
    fn a_failure_wins_over_a_deadline_but_not_over_a_signal() {
        let (mut report, _) = report([failed()]);
        let mut code = |stop| {
            report.apply(&wrap(Event::Stopping { stop }));
            report.exit_code_of_tasks(false)
        };
        assert_eq!(code(Stop::Deadline), 1);
        assert_eq!(code(Stop::Fault { error: String::new() }), 1);
        assert_eq!(code(Stop::Signal { signal: 2 }), 130);
    }

    #[test]
    fn where_every_tool_is_missing_nothing_passed() {
        let missing = || Outcome::Skipped {
            reason: crate::model::task::Skip::ToolMissing { tool: "x".to_owned(), install: String::new() },
        };
        assert_eq!(report([missing(), missing()]).0.exit_code_of_tasks(false), 3);
        assert_eq!(report([missing(), Outcome::Passed]).0.exit_code_of_tasks(false), 0);
        assert_eq!(report([missing(), Outcome::Passed]).0.exit_code_of_tasks(true), 3);
    }

    #[test]
    fn a_plan_that_was_never_whole_is_incomplete() {
        let (mut report, _) = report([Outcome::Passed]);
        assert_eq!(report.exit_code_of_tasks(false), 0);
        report.closed = false;
        assert_eq!(report.exit_code_of_tasks(false), 3);
        // `--halt soon,success=1` has what it wanted.
        report.apply(&wrap(Event::Stopping { stop: Stop::Failure }));
        assert_eq!(report.exit_code_of_tasks(false), 0);
    }
}
