//! The summary of a run: a fold over its events, so that a live run and its replay give the same. Its size is bounded by the
//! tasks that have not ended: of those that have, the counts stay, and the rows that a report for people shows, up to a
//! number. The journal has the rest (`report::rows`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::edit::Origin;
use crate::model::event::{EngineFigures, Envelope, Event, Invalidated, NoteLevel, RunStarted};
use crate::model::finding::Counts;
use crate::model::id::{RunId, TaskId};
use crate::model::outcome::{Outcome, Stop};
use crate::model::raw::Raw;
use crate::model::sandbox::Confinement;
use crate::model::task::{Category, Run, Skip, Task};
use crate::report::first_and_last::FirstAndLast;
use crate::report::row::{Row, task_of};
use crate::report::rows::LastEnds;
use crate::report::samples::{Sample, Samples};
use crate::text::number;

/// Slots that are counted one by one.
const SLOTS_MAX: usize = 65_536;
/// Rows kept of tasks that failed or could not be run: the first.
const FAILED_MAX: usize = 200;
/// Rows kept of checks, however they ended: their table is the report of `apm run qa`.
const CHECKS_MAX: usize = 1_000;
/// Rows kept of tasks that were skipped or cancelled: the first.
const UNRUN_MAX: usize = 200;
/// Rows kept of tasks that passed: the slowest.
pub(crate) const SLOWEST_MAX: usize = 20;
/// Tasks named that missed their deadline: the first.
const LATE_MAX: usize = 100;
/// Reasons for a skip that are told apart.
const SKIP_REASONS_MAX: usize = 100;
/// Tasks named of each reason: the first of the plan.
pub(crate) const SKIP_NAMES_MAX: usize = 4;
/// Half of what is kept of notes, of runs inside the run, of changes of the pool, of admission and of the plan, of resumes.
const LISTED_HALF: usize = 250;

/// The first and the last of what a run tells of itself.
pub(crate) type Listed<T> = FirstAndLast<T, LISTED_HALF>;

/// A run so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RunReport {
    pub(crate) started: Option<RunStarted>,
    /// When it started, by the wall clock.
    pub(crate) at: Option<Timestamp>,
    /// Time of the last event.
    pub(crate) elapsed: Duration,
    /// No more tasks will come.
    pub(crate) closed: bool,
    /// Tasks of this run read the output of tools.
    pub(crate) has_checks: bool,
    /// Tasks of this run have limits of their own.
    pub(crate) has_limits: bool,
    /// How attempts were confined.
    pub(crate) confined: Confined,
    /// The slots that attempts started in.
    pub(crate) slots: BTreeSet<u32>,
    /// Size of the pool over time.
    pub(crate) pool: Listed<(Duration, u32, String)>,
    pub(crate) samples: Samples,
    pub(crate) holds: Listed<(Duration, String)>,
    pub(crate) notes: Listed<(Duration, NoteLevel, String)>,
    pub(crate) children: Listed<(TaskId, RunId, i32)>,
    /// Changes of the plan while the run went on, and those that were refused.
    pub(crate) edits: Listed<(Duration, PlanChange)>,
    /// Resumes, and how many passes did not count for them.
    pub(crate) resumed: Listed<(Duration, usize)>,
    pub(crate) skips: Skips,
    pub(crate) late: Late,
    pub(crate) stop: Option<Stop>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) engine: EngineFigures,
    /// Its apm is alive. Not from an event: whoever reads a journal that may still grow sets it.
    pub(crate) is_alive: bool,
    totals: Totals,
    /// Tests and findings of tasks that passed, and of the others that have ended: a resume opens the others again.
    counts_good: Counts,
    counts_other: Counts,
    /// Skipped because a tool or the network was missing.
    gaps: usize,
    /// Tasks of the source that could not join.
    refused: usize,
    kept: Kept,
    /// What must be subtracted if a resume opens a task again whose row was dropped. It has no bound, but only tasks that
    /// were flaky or have tests or findings get an entry: a large run of tasks that just pass has none.
    gone: HashMap<TaskId, Gone>,
    last_ends: LastEnds,
}

/// The checks that run tests, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TestsRun {
    /// They ran tests.
    pub(crate) ran: usize,
    /// Their tool said that there is no test.
    pub(crate) nothing: usize,
    /// They passed without a test.
    pub(crate) empty: usize,
    /// Their tool or the network is missing.
    pub(crate) missing: usize,
}

impl TestsRun {
    /// Tests were asked for, and none ran.
    pub(crate) fn is_none(&self) -> bool {
        self.ran == 0 && self.nothing + self.empty > 0
    }
}

/// Most different ways of confinement that are counted.
const CONFINED_MAX: usize = 8;

/// How attempts were confined.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Confined {
    /// Attempts, by what was enforced.
    pub(crate) ways: BTreeMap<String, usize>,
    /// What could not be enforced.
    pub(crate) missing: BTreeSet<Raw>,
}

impl Confined {
    fn add(&mut self, confinement: &Confinement) {
        let way = confinement.describe();
        if self.ways.len() < CONFINED_MAX || self.ways.contains_key(&way) {
            *self.ways.entry(way).or_default() += 1;
        }
        let room = CONFINED_MAX.saturating_sub(self.missing.len());
        self.missing.extend(confinement.missing.iter().take(room).cloned());
    }
}

/// A change of the plan, for people.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PlanChange {
    /// It was made.
    Made { what: String, by: String },
    /// It was refused.
    Refused { what: String, by: Option<String>, reason: String },
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

/// Skipped tasks by their reason.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Skips {
    pub(crate) groups: Vec<SkipGroup>,
    /// Skipped for still other reasons.
    pub(crate) others: usize,
}

/// Tasks that were skipped for one reason.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SkipGroup {
    pub(crate) reason: Skip,
    pub(crate) count: usize,
    /// The first of the plan, by their place in it.
    pub(crate) names: BTreeMap<u64, TaskId>,
}

/// Tasks that missed their deadline, and by how much.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Late {
    pub(crate) tasks: Vec<(TaskId, Duration)>,
    /// How many more.
    pub(crate) others: usize,
}

/// What is known of a task without its row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Gone {
    is_flaky: bool,
    counts: Counts,
}

/// Why the row of a task that has ended is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Because {
    Check,
    Bad,
    Unrun,
    Slow,
}

/// The rows that are there.
#[derive(Clone, Debug, Default, PartialEq)]
struct Kept {
    /// By their place in the plan.
    rows: BTreeMap<u64, (Row, Option<Because>)>,
    index: HashMap<TaskId, u64>,
    next: u64,
    checks: usize,
    bad: usize,
    unrun: usize,
    /// The slow ones, the fastest of them first.
    slow: BTreeSet<(Duration, Reverse<u64>)>,
    /// Tasks that a resume opened again and whose rows were gone by then.
    lost: usize,
}

impl RunReport {
    /// Takes the next event.
    pub(crate) fn apply(&mut self, envelope: &Envelope) {
        let t = envelope.t;
        self.elapsed = self.elapsed.max(t);
        self.last_ends.apply(envelope);
        match &envelope.event {
            Event::RunStarted(started) => {
                self.at = Some(envelope.at);
                self.pool.push((t, started.pool.initial, String::new()));
                self.started = Some((**started).clone());
            }
            Event::RunResumed { invalidated, terms, .. } => {
                self.resumed.push((t, invalidated.len()));
                self.stop = None;
                self.exit_code = None;
                if let (Some(started), Some(terms)) = (&mut self.started, terms) {
                    self.pool.push((t, terms.pool.initial, String::new()));
                    started.pool = terms.pool;
                    started.enforcement = terms.enforcement.clone();
                    started.ceilings = terms.ceilings;
                }
                self.open_again(invalidated);
            }
            Event::TasksAdded { tasks, by } => {
                if let Some(by) = by {
                    let what = format!("{} added", number::count(tasks.len() as u64, "task"));
                    self.edits.push((t, PlanChange::Made { what, by: by.to_string() }));
                }
                for task in tasks {
                    self.know(task);
                    self.totals.tasks += 1;
                    self.totals.open += 1;
                    self.kept.insert(Row::new(Arc::clone(task)));
                }
            }
            Event::TasksChanged { tasks } => {
                for task in tasks {
                    self.know(task);
                    if let Some(at) = self.kept.place_of(&task.id)
                        && let Some((row, _)) = self.kept.rows.get_mut(&at)
                    {
                        row.task = Arc::clone(task);
                    }
                }
            }
            Event::TasksClosed {} => self.closed = true,
            Event::PoolResized { to, reason, .. } => self.pool.push((t, *to, reason.clone())),
            Event::AdmissionChanged { reason } => self.holds.push((t, reason.clone())),
            Event::Sampled { running, queued, memory, cpu, processes } => self.samples.push(Sample {
                t,
                running: *running,
                queued: *queued,
                memory: *memory,
                cpu: *cpu,
                processes: *processes,
            }),
            Event::PlanEdited { edit, by } => {
                self.edits.push((t, PlanChange::Made { what: edit.to_string(), by: by.to_string() }));
            }
            Event::EditRefused { edit, by, reason } => {
                // What the source of the tasks brought and is not run: nothing says that the rest of it is good.
                self.refused += usize::from(by.is_none());
                let (what, by, reason) = (edit.clone(), by.as_ref().map(Origin::to_string), reason.clone());
                self.edits.push((t, PlanChange::Refused { what, by, reason }));
            }
            Event::Noted { level, text } => self.notes.push((t, *level, text.clone())),
            Event::ChildRun { task, run, exit_code } => {
                self.children.push((task.clone(), run.clone(), *exit_code));
            }
            Event::Stopping { stop } => self.stop = Some(stop.clone()),
            Event::RunFinished(finished) => {
                self.exit_code = Some(finished.exit_code);
                self.engine = finished.engine;
            }
            // A matter of the moment: a display shows it.
            Event::AttemptPaused { .. } | Event::AttemptUnpaused { .. } => {}
            Event::AttemptStarted { slot, .. } => {
                // Numbers come from a file that may have been damaged: as many are kept as a run can have at once.
                if self.slots.len() < SLOTS_MAX {
                    self.slots.extend(slot);
                }
                self.about_a_task(envelope);
            }
            Event::DeadlineAtRisk { task, late, missed } => {
                if *missed {
                    self.late.put(task, *late);
                }
                self.about_a_task(envelope);
            }
            Event::AttemptFinished(finished) => {
                finished.confinement.iter().for_each(|confinement| self.confined.add(confinement));
                self.about_a_task(envelope);
            }
            Event::TaskEnded { .. } => self.about_a_task(envelope),
        }
    }

    fn know(&mut self, task: &Task) {
        self.has_checks |= task.check.is_some();
        let limits = &task.limits;
        self.has_limits |= limits.memory.is_some() || limits.cpu.is_some() || limits.processes.is_some();
    }

    fn about_a_task(&mut self, envelope: &Envelope) {
        let Some(task) = task_of(&envelope.event) else { return };
        // This event follows the end of the task, when its row may have been dropped.
        let is_late = matches!(envelope.event, Event::DeadlineAtRisk { .. });
        let place = if is_late { self.kept.index.get(task).copied() } else { self.kept.place_of(task) };
        let Some((at, (row, _))) = place.and_then(|at| Some((at, self.kept.rows.get_mut(&at)?))) else { return };
        // A task that has ended has no other events until a resume opens it again.
        if is_late || row.outcome.is_none() {
            row.apply(envelope);
            if !is_late && row.outcome.is_some() {
                self.ended(at);
            }
        }
    }

    /// The row at this place has just ended: it counts, and stays or goes.
    fn ended(&mut self, at: u64) {
        let Some((row, _)) = self.kept.rows.get(&at) else { return };
        let Some(outcome) = &row.outcome else { return };
        self.totals.open -= 1;
        *self.totals.of(outcome) += 1;
        let counts = self.counts_of(row);
        if outcome.is_good() { &mut self.counts_good } else { &mut self.counts_other }.add(&counts);
        if let Outcome::Skipped { reason } = outcome {
            // A check that had nothing to do, or that the user left out, is no gap.
            self.gaps += usize::from(matches!(reason, Skip::ToolMissing { .. } | Skip::Offline { .. }));
            self.skips.put(reason, at, &row.task.id);
        }
        if let Some(row) = self.kept.sort_out(at) {
            let gone = self.without_row(&row);
            if gone == Gone::default() {
                self.gone.remove(&row.task.id);
            } else {
                self.gone.insert(row.task.id.clone(), gone);
            }
        }
    }

    /// What stays known of a task when its row goes.
    fn without_row(&self, row: &Row) -> Gone {
        Gone { is_flaky: matches!(row.outcome, Some(Outcome::Flaky { .. })), counts: self.counts_of(row) }
    }

    /// Tests and findings of its last attempt, which its row need not know of where a resume opened it again.
    fn counts_of(&self, row: &Row) -> Counts {
        let before = || self.gone.get(&row.task.id).map(|gone| gone.counts);
        row.last_finished().map(|finished| finished.counts).or_else(before).unwrap_or_default()
    }

    /// A resume: what did not pass is open again, and so are these.
    fn open_again(&mut self, invalidated: &[Invalidated]) {
        let totals = &mut self.totals;
        let others = [&mut totals.failed, &mut totals.skipped, &mut totals.cancelled, &mut totals.broken];
        let count: usize = others.into_iter().map(std::mem::take).sum();
        totals.open += count;
        self.counts_other = Counts::default();
        self.gaps = 0;
        self.skips = Skips::default();
        let kept: Vec<u64> = self
            .kept
            .rows
            .iter()
            .filter(|(_, (row, _))| row.outcome.is_some() && !row.is_good())
            .map(|(at, _)| *at)
            .collect();
        self.kept.lost += count.saturating_sub(kept.len());
        for at in kept {
            self.kept.open(at);
        }
        let mut seen: BTreeSet<&TaskId> = BTreeSet::new();
        for Invalidated { task, .. } in invalidated {
            if !seen.insert(task) {
                continue;
            }
            let place = self.kept.index.get(task).copied();
            let gone = match place.and_then(|at| self.kept.rows.get(&at)) {
                Some((row, _)) if !row.is_good() => continue,
                Some((row, _)) => self.without_row(row),
                None => self.gone.get(task).copied().unwrap_or_default(),
            };
            let total = if gone.is_flaky { &mut self.totals.flaky } else { &mut self.totals.passed };
            // A record in which nothing of that kind had passed is not one of apm.
            let Some(left) = total.checked_sub(1) else { continue };
            *total = left;
            self.totals.open += 1;
            self.counts_good.take_back(&gone.counts);
            match place {
                Some(at) => self.kept.open(at),
                None => self.kept.lost += 1,
            }
        }
    }

    /// The rows that are kept, in plan order: of tasks that have not ended, of checks, of what failed, was skipped or
    /// cancelled, and of the slowest that passed.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.kept.rows.values().map(|(row, _)| row)
    }

    /// The slowest tasks that passed, the slowest first; without checks.
    pub(crate) fn slowest(&self) -> impl Iterator<Item = &Row> {
        self.kept.slow.iter().rev().filter_map(|(_, Reverse(at))| self.kept.rows.get(at)).map(|(row, _)| row)
    }

    /// What a second reading of the events needs to know, to give the rows of all tasks.
    pub(crate) fn last_ends(&self) -> &LastEnds {
        &self.last_ends
    }

    /// Tasks by their end.
    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// Tests and findings of all tasks that have ended.
    pub(crate) fn counts(&self) -> Counts {
        let mut counts = self.counts_good;
        counts.add(&self.counts_other);
        counts
    }

    /// Tasks that the source of the plan brought and that were refused.
    pub(crate) fn refused(&self) -> usize {
        self.refused
    }

    /// What became of the checks that run tests. Those that were left out on purpose do not count.
    pub(crate) fn tests_run(&self) -> TestsRun {
        let mut tests = TestsRun::default();
        for row in self.rows() {
            let Some(check) = row.task.check.as_ref().filter(|check| check.category == Category::Tests) else {
                continue;
            };
            match &row.outcome {
                Some(Outcome::Skipped { reason: Skip::ToolMissing { .. } | Skip::Offline { .. } }) => {
                    tests.missing += 1
                }
                Some(Outcome::Skipped { reason: Skip::NothingToDo { .. } }) => tests.nothing += 1,
                None | Some(Outcome::Skipped { .. } | Outcome::Cancelled { .. }) => {}
                // A target that only its exit code tells of is taken at its word.
                Some(outcome)
                    if outcome.is_good()
                        && self.counts_of(row).tests() == 0
                        && !matches!(check.parser.as_str(), "exit" | "target") =>
                {
                    tests.empty += 1;
                }
                Some(_) => tests.ran += 1,
            }
        }
        tests
    }

    /// The exit code that the ends of the tasks mean.
    pub(crate) fn exit_code_of_tasks(&self, strict: bool) -> i32 {
        let totals = self.totals();
        match &self.stop {
            // Whoever pressed Ctrl-C gets death by that signal: a failure wins over 3 and 5 only.
            Some(Stop::Signal { signal }) => return 128 + signal,
            _ if totals.failed > 0 => return 1,
            Some(Stop::Deadline | Stop::Cancel { .. }) => return 5,
            // As with `yes | head`: the reader had what it wanted.
            Some(Stop::Closed) => return 0,
            Some(Stop::Fault { .. }) => return 3,
            Some(Stop::Failure) | None => {}
        }
        // apm was killed while it read tasks: how many more there would have been is unknown.
        let cut_off = !self.closed && self.stop.is_none();
        // Where every tool is missing nothing was found to be good.
        let gaps_matter = strict || totals.skipped == totals.tasks;
        let tests = self.tests_run();
        let gaps = (gaps_matter && self.gaps > 0) || tests.missing > 0;
        let incomplete = totals.broken > 0 || self.refused > 0 || cut_off || gaps;
        match (incomplete, totals.cancelled) {
            (true, _) => 3,
            // Some were cancelled by name: the run went on without them.
            (false, 1..) if self.stop.is_none() => 5,
            // Tests were expected: by the file names, or by a configuration.
            (false, _) if tests.nothing > 0 && tests.ran == 0 => 4,
            (false, _) => 0,
        }
    }

    /// A report of these rows and nothing else.
    #[cfg(test)]
    pub(crate) fn of(rows: impl IntoIterator<Item = Row>) -> Self {
        let mut report = Self::default();
        for row in rows {
            report.know(&row.task);
            report.totals.tasks += 1;
            report.totals.open += 1;
            let has_ended = row.outcome.is_some();
            let at = report.kept.insert(row);
            if has_ended {
                report.ended(at);
            }
        }
        report
    }
}

impl Totals {
    fn of(&mut self, outcome: &Outcome) -> &mut usize {
        match outcome {
            Outcome::Passed => &mut self.passed,
            Outcome::Flaky { .. } => &mut self.flaky,
            Outcome::Failed { .. } | Outcome::TimedOut { .. } | Outcome::OverLimit { .. } => &mut self.failed,
            Outcome::Skipped { .. } => &mut self.skipped,
            Outcome::Cancelled { .. } => &mut self.cancelled,
            Outcome::Broken { .. } => &mut self.broken,
        }
    }
}

impl Skips {
    fn put(&mut self, reason: &Skip, at: u64, task: &TaskId) {
        let group = match self.groups.iter().position(|group| group.reason == *reason) {
            Some(found) => &mut self.groups[found],
            None if self.groups.len() >= SKIP_REASONS_MAX => {
                self.others += 1;
                return;
            }
            None => {
                self.groups.push(SkipGroup { reason: reason.clone(), count: 0, names: BTreeMap::new() });
                let last = self.groups.len() - 1;
                &mut self.groups[last]
            }
        };
        group.count += 1;
        group.names.insert(at, task.clone());
        if group.names.len() > SKIP_NAMES_MAX {
            group.names.pop_last();
        }
    }
}

impl Late {
    fn put(&mut self, task: &TaskId, late: Duration) {
        // It is there already where a resume ran the task again.
        if let Some((_, before)) = self.tasks.iter_mut().find(|(known, _)| known == task) {
            *before = late;
        } else if self.tasks.len() < LATE_MAX {
            self.tasks.push((task.clone(), late));
        } else {
            self.others += 1;
        }
    }
}

impl Kept {
    fn insert(&mut self, row: Row) -> u64 {
        let at = self.next;
        self.next += 1;
        self.index.insert(row.task.id.clone(), at);
        self.rows.insert(at, (row, None));
        at
    }

    /// Where the row of a task is. A task that a resume opened again after its row was dropped gets a new row with the next
    /// event about it; only its name is known then.
    fn place_of(&mut self, task: &TaskId) -> Option<u64> {
        if let Some(at) = self.index.get(task) {
            return Some(*at);
        }
        self.lost = self.lost.checked_sub(1)?;
        Some(self.insert(Row::new(Arc::new(Task::new(task.clone(), Run::Argv(Vec::new()))))))
    }

    /// Decides whether the row of a task that has just ended stays; gives the row that goes, if one does.
    fn sort_out(&mut self, at: u64) -> Option<Row> {
        let (row, because) = self.rows.get_mut(&at)?;
        let reason = if row.task.check.is_some() && self.checks < CHECKS_MAX {
            self.checks += 1;
            Because::Check
        } else if row.is_bad() && self.bad < FAILED_MAX {
            self.bad += 1;
            Because::Bad
        } else if row.is_good() {
            self.slow.insert((row.wall(), Reverse(at)));
            Because::Slow
        } else if !row.is_bad() && self.unrun < UNRUN_MAX {
            self.unrun += 1;
            Because::Unrun
        } else {
            return self.remove(at);
        };
        *because = Some(reason);
        if self.slow.len() > SLOWEST_MAX {
            self.slow.pop_first().and_then(|(_, Reverse(at))| self.remove(at))
        } else {
            None
        }
    }

    fn remove(&mut self, at: u64) -> Option<Row> {
        let (row, _) = self.rows.remove(&at)?;
        self.index.remove(&row.task.id);
        Some(row)
    }

    /// Takes the end of a row away.
    fn open(&mut self, at: u64) {
        let Some((row, because)) = self.rows.get_mut(&at) else { return };
        match because.take() {
            Some(Because::Check) => self.checks -= 1,
            Some(Because::Bad) => self.bad -= 1,
            Some(Because::Unrun) => self.unrun -= 1,
            Some(Because::Slow) => {
                self.slow.remove(&(row.wall(), Reverse(at)));
            }
            None => {}
        }
        row.outcome = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::{FAILED_MAX, LISTED_HALF, RunReport, SKIP_REASONS_MAX, SLOWEST_MAX, UNRUN_MAX};
    use crate::model::event::{Envelope, Event, Invalidated, Next, NoteLevel, Output, Usage, VERSION};
    use crate::model::finding::Counts;
    use crate::model::id::TaskId;
    use crate::model::outcome::{Outcome, Stop};
    use crate::model::task::{Run, Skip, Task};
    use crate::report::row::Row;

    fn wrap(event: Event) -> Envelope {
        Envelope { v: VERSION, seq: 0, at: Timestamp::UNIX_EPOCH, t: Duration::ZERO, event }
    }

    fn report(outcomes: impl IntoIterator<Item = Outcome>) -> (RunReport, Vec<TaskId>) {
        let mut report = RunReport::default();
        let mut ids = Vec::new();
        for (at, outcome) in outcomes.into_iter().enumerate() {
            let id = TaskId::new(&format!("t{at}")).expect("an id");
            let task = Task::new(id.clone(), Run::Argv(Vec::new())).into();
            report.apply(&wrap(Event::TasksAdded { tasks: vec![task], by: None }));
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

    fn ran(id: &TaskId, wall: Duration) -> [Event; 2] {
        let finished = crate::model::event::AttemptFinished {
            task: id.clone(),
            attempt: 1,
            outcome: Outcome::Passed,
            next: Next::Done { outcome: Outcome::Passed },
            exit: None,
            usage: Usage { wall, ..Usage::default() },
            stdout: Output::default(),
            stderr: Output::default(),
            counts: Counts::default(),
            results: None,
            leaked: 0,
            inputs_digest: String::new(),
            confinement: None,
        };
        let started = Event::AttemptStarted { task: id.clone(), attempt: 1, slot: Some(0) };
        [started, Event::AttemptFinished(Box::new(finished))]
    }

    /// Each task took 1.7 KiB: a run of a million values took 1.7 GiB.
    #[test]
    fn tasks_that_passed_leave_their_counts_and_the_slowest_stay() {
        const TASKS: u64 = 200_000;
        let mut report = RunReport::default();
        for n in 0..TASKS {
            let id = TaskId::new(&format!("t{n}")).expect("an id");
            let task = Task::new(id.clone(), Run::Argv(Vec::new())).into();
            report.apply(&wrap(Event::TasksAdded { tasks: vec![task], by: None }));
            // In no order.
            let wall = Duration::from_micros(n * 7919 % TASKS);
            ran(&id, wall).into_iter().for_each(|event| report.apply(&wrap(event)));
            report.apply(&wrap(Event::Noted { level: NoteLevel::Info, text: String::new() }));
            assert!(report.rows().count() <= SLOWEST_MAX);
        }
        assert_eq!(report.totals().passed, TASKS as usize);
        let walls: Vec<Duration> = report.slowest().map(Row::wall).collect();
        assert_eq!(walls, (1..=SLOWEST_MAX as u64).map(|n| Duration::from_micros(TASKS - n)).collect::<Vec<_>>());
        assert_eq!((report.gone.len(), report.kept.index.len()), (0, SLOWEST_MAX));
        assert_eq!(report.notes.iter().count() + report.notes.left_out(), TASKS as usize);
        assert_eq!(report.notes.iter().count(), 2 * LISTED_HALF);
    }

    /// As many as are shown stay, the rest is counted.
    #[test]
    fn tasks_that_did_not_pass_are_bounded_too() {
        let skipped = |n: usize| Outcome::Skipped {
            reason: Skip::Need { task: TaskId::new(&format!("need {}", n % 150)).expect("an id") },
        };
        let (report, _) = report((0..30_000).map(|n| match n % 3 {
            0 => failed(),
            1 => skipped(n),
            _ => Outcome::Cancelled { by: Stop::Failure },
        }));
        assert_eq!(report.rows().count(), FAILED_MAX + UNRUN_MAX);
        let totals = report.totals();
        assert_eq!((totals.failed, totals.skipped, totals.cancelled), (10_000, 10_000, 10_000));
        let in_groups: usize = report.skips.groups.iter().map(|group| group.count).sum();
        assert!(report.skips.groups.len() <= SKIP_REASONS_MAX);
        assert_eq!(in_groups + report.skips.others, 10_000);
    }

    #[test]
    fn a_failure_wins_over_a_deadline_but_not_over_a_signal() {
        let (mut report, _) = report([failed()]);
        let mut code = |stop| {
            report.apply(&wrap(Event::Stopping { stop }));
            report.exit_code_of_tasks(false)
        };
        assert_eq!(code(Stop::Deadline), 1);
        assert_eq!(code(Stop::Fault { error: "".into() }), 1);
        assert_eq!(code(Stop::Signal { signal: 2 }), 130);
    }

    #[test]
    fn where_every_tool_is_missing_nothing_passed() {
        let missing = || Outcome::Skipped {
            reason: crate::model::task::Skip::ToolMissing { tool: "x".into(), install: "".into() },
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
