//! The rows of a whole run as a stream. Each is handed out once, when its task has ended for the last time, so that only
//! the tasks that are open at a moment are in memory. Which end is the last one a first reading of the events has found
//! out: a resume opens again what did not pass and what it names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::Arc;

use crate::model::event::{Envelope, Event};
use crate::model::id::TaskId;
use crate::model::outcome::Outcome;
use crate::report::row::{Row, TakeRow, task_of};

/// Ended rows that wait for rows before them in the plan: about 2 MiB. Runs of up to this many tasks, and longer ones whose
/// tasks end about in plan order, have their rows in plan order; elsewhere a row that waits for long is overtaken.
pub(crate) const WAITING_MAX: usize = 1_000;

/// Which ends are the last of their tasks, learned from the events as they pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LastEnds {
    /// Number of the event after the last one seen. What was appended to the journal later belongs to no row.
    pub(crate) next_seq: u64,
    last_resume: Option<u64>,
    /// Tasks whose passes did not count for a resume, with the number of the last event that said so.
    invalidated: HashMap<TaskId, u64>,
}

impl LastEnds {
    /// Takes the next event.
    pub(crate) fn apply(&mut self, envelope: &Envelope) {
        self.next_seq = envelope.seq + 1;
        if let Event::RunResumed { invalidated, .. } = &envelope.event {
            self.last_resume = Some(envelope.seq);
            self.invalidated.extend(invalidated.iter().map(|again| (again.task.clone(), envelope.seq)));
        }
    }

    fn is_last(&self, task: &TaskId, outcome: &Outcome, seq: u64) -> bool {
        if outcome.is_good() {
            self.invalidated.get(task).is_none_or(|again| *again < seq)
        } else {
            self.last_resume.is_none_or(|resume| resume < seq)
        }
    }
}

/// The second reading.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    last_ends: &'a LastEnds,
    /// Rows not handed out yet, in plan order.
    rows: BTreeMap<u64, Row>,
    index: HashMap<TaskId, u64>,
    /// Those of them that have ended for the last time.
    ended: BTreeSet<u64>,
    /// One that has just ended: what is known of its lateness may follow.
    ending: Option<u64>,
    next: u64,
}

impl<'a> Rows<'a> {
    /// Before the first event.
    pub(crate) fn new(last_ends: &'a LastEnds) -> Self {
        Self { last_ends, rows: BTreeMap::new(), index: HashMap::new(), ended: BTreeSet::new(), ending: None, next: 0 }
    }

    /// Takes the next event and hands out the rows that are complete with it.
    pub(crate) fn apply(&mut self, envelope: &Envelope, take: TakeRow<'_>) -> io::Result<()> {
        if envelope.seq >= self.last_ends.next_seq {
            return Ok(());
        }
        if !matches!(envelope.event, Event::DeadlineAtRisk { .. } | Event::Noted { .. }) {
            self.ended.extend(self.ending.take());
            self.hand_out(take)?;
        }
        match &envelope.event {
            Event::TasksAdded { tasks, .. } => {
                for task in tasks {
                    self.index.insert(task.id.clone(), self.next);
                    self.rows.insert(self.next, Row::new(Arc::clone(task)));
                    self.next += 1;
                }
            }
            Event::TasksChanged { tasks } => {
                for task in tasks {
                    if let Some(row) = self.index.get(&task.id).and_then(|at| self.rows.get_mut(at)) {
                        row.task = Arc::clone(task);
                    }
                }
            }
            event => {
                let Some(&at) = task_of(event).and_then(|task| self.index.get(task)) else { return Ok(()) };
                let Some(row) = self.rows.get_mut(&at) else { return Ok(()) };
                row.apply(envelope);
                let Some(outcome) = &row.outcome else { return Ok(()) };
                if self.last_ends.is_last(&row.task.id, outcome, envelope.seq) {
                    self.ending = Some(at);
                } else {
                    row.outcome = None;
                }
            }
        }
        Ok(())
    }

    /// Hands out what is left, in plan order: tasks that have not ended too.
    pub(crate) fn finish(self, take: TakeRow<'_>) -> io::Result<()> {
        self.rows.values().try_for_each(take)
    }

    fn hand_out(&mut self, take: TakeRow<'_>) -> io::Result<()> {
        while let Some(&at) = self.ended.first() {
            let is_next = self.rows.first_key_value().is_some_and(|(first, _)| *first == at);
            if !is_next && self.ended.len() <= WAITING_MAX {
                break;
            }
            self.ended.remove(&at);
            if let Some(row) = self.rows.remove(&at) {
                self.index.remove(&row.task.id);
                take(&row)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::time::Duration;

    use jiff::Timestamp;

    use super::{Rows, WAITING_MAX};
    use crate::model::event::{
        AttemptFinished, Envelope, Event, Exit, Invalidated, Next, NoteLevel, Output, Usage, VERSION,
    };
    use crate::model::finding::Counts;
    use crate::model::id::TaskId;
    use crate::model::outcome::{Outcome, Stop};
    use crate::model::task::{Run, Skip, Task};
    use crate::report::row::{Row, task_of};
    use crate::report::run::RunReport;

    struct Random(u64);

    impl Random {
        /// A number below this.
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % bound
        }
    }

    /// The events of a run of some parts, each of which breaks off and is gone on with.
    fn events(random: &mut Random, tasks: usize, parts: usize) -> Vec<Event> {
        let ids: Vec<TaskId> = (0..tasks).map(|n| TaskId::new(&format!("t{n}")).expect("an id")).collect();
        let mut events = Vec::new();
        for part in ids.chunks(7) {
            let tasks = part.iter().map(|id| Arc::new(Task::new(id.clone(), Run::Argv(Vec::new())))).collect();
            events.push(Event::TasksAdded { tasks, by: None });
        }
        let mut attempts = vec![0; tasks];
        let mut ends: Vec<Option<bool>> = vec![None; tasks];
        for part in 0..parts {
            if part > 0 {
                let good: Vec<usize> = (0..tasks).filter(|n| ends[*n] == Some(true)).collect();
                let again: Vec<usize> = good.into_iter().filter(|_| random.below(10) == 0).collect();
                ends.iter_mut().for_each(|end| *end = end.take_if(|good| *good));
                again.iter().for_each(|n| ends[*n] = None);
                let invalidated =
                    again.iter().map(|n| Invalidated { task: ids[*n].clone(), reason: String::new() }).collect();
                events.push(Event::RunResumed { apm: String::new(), invalidated, terms: None });
            }
            let mut open: Vec<usize> = (0..tasks).filter(|n| ends[*n].is_none()).collect();
            while !open.is_empty() && (part + 1 == parts || random.below(tasks) != 0) {
                // Mostly in order, as tasks end.
                let at = random.below(open.len().min(30));
                let n = open.remove(at);
                match random.below(12) {
                    0 => {
                        let reason = Skip::Offline { detail: "".into() };
                        events.push(Event::TaskEnded { task: ids[n].clone(), outcome: Outcome::Skipped { reason } });
                        ends[n] = Some(false);
                    }
                    1 => {
                        let by = Stop::Failure;
                        events.push(Event::TaskEnded { task: ids[n].clone(), outcome: Outcome::Cancelled { by } });
                        ends[n] = Some(false);
                    }
                    // It was under way when apm was killed.
                    2 if part + 1 < parts => {
                        attempts[n] += 1;
                        events.push(Event::AttemptStarted { task: ids[n].clone(), attempt: attempts[n], slot: None });
                    }
                    kind => {
                        attempts[n] += 1;
                        events.push(Event::AttemptStarted { task: ids[n].clone(), attempt: attempts[n], slot: None });
                        let outcome = match kind {
                            3 | 4 => Exit::Code(1).outcome(),
                            5 => Outcome::Flaky { attempts: 2 },
                            _ => Outcome::Passed,
                        };
                        ends[n] = Some(outcome.is_good());
                        let counts = Counts { tests_passed: random.below(3) as u64 / 2, ..Counts::default() };
                        events.push(Event::AttemptFinished(Box::new(AttemptFinished {
                            task: ids[n].clone(),
                            attempt: attempts[n],
                            outcome: outcome.clone(),
                            next: Next::Done { outcome },
                            exit: None,
                            usage: Usage { wall: Duration::from_micros(random.below(1000) as u64), ..Usage::default() },
                            stdout: Output::default(),
                            stderr: Output::default(),
                            counts,
                            results: None,
                            leaked: 0,
                            inputs_digest: String::new(),
                            confinement: None,
                        })));
                        if random.below(5) == 0 {
                            events.push(Event::Noted { level: NoteLevel::Info, text: String::new() });
                            let late = Duration::from_micros(n as u64);
                            events.push(Event::DeadlineAtRisk { task: ids[n].clone(), late, missed: true });
                        }
                    }
                }
            }
        }
        events
    }

    /// The rows with everything in memory.
    fn all_at_once(envelopes: &[Envelope]) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        let mut index: HashMap<TaskId, usize> = HashMap::new();
        for envelope in envelopes {
            match &envelope.event {
                Event::TasksAdded { tasks, .. } => {
                    for task in tasks {
                        index.insert(task.id.clone(), rows.len());
                        rows.push(Row::new(Arc::clone(task)));
                    }
                }
                Event::RunResumed { invalidated, .. } => {
                    rows.iter_mut().for_each(|row| row.outcome = row.outcome.take_if(|outcome| outcome.is_good()));
                    invalidated.iter().for_each(|again| rows[index[&again.task]].outcome = None);
                }
                event => {
                    if let Some(task) = task_of(event) {
                        rows[index[task]].apply(envelope);
                    }
                }
            }
        }
        rows
    }

    #[test]
    fn a_stream_has_the_rows_and_a_summary_the_totals_of_the_whole() {
        let seed = Timestamp::now().as_nanosecond() as u64;
        let mut random = Random(seed);
        for (tasks, parts) in [(1, 1), (10, 3), (100, 4), (WAITING_MAX, 3), (5 * WAITING_MAX, 1), (5 * WAITING_MAX, 4)]
        {
            let wrap = |(seq, event)| Envelope {
                v: VERSION,
                seq: seq as u64,
                at: Timestamp::UNIX_EPOCH,
                t: Duration::from_micros(seq as u64),
                event,
            };
            let envelopes: Vec<Envelope> =
                events(&mut random, tasks, parts).into_iter().enumerate().map(wrap).collect();
            let expected = all_at_once(&envelopes);
            let mut report = RunReport::default();
            envelopes.iter().for_each(|envelope| report.apply(envelope));

            let mut rows = Rows::new(report.last_ends());
            let mut streamed: Vec<Row> = Vec::new();
            let mut take = |row: &Row| {
                streamed.push(row.clone());
                Ok(())
            };
            for envelope in &envelopes {
                rows.apply(envelope, &mut take).expect("taken");
            }
            // What is appended meanwhile is not a part of it.
            let late = TaskId::new("later").expect("an id");
            let event = Event::TasksAdded { tasks: vec![Arc::new(Task::new(late, Run::Argv(Vec::new())))], by: None };
            rows.apply(&wrap((envelopes.len(), event)), &mut take).expect("taken");
            rows.finish(&mut take).expect("taken");
            if tasks > WAITING_MAX {
                streamed.sort_by_key(|row| row.task.id.as_str()[1..].parse::<usize>().expect("a number"));
            }
            assert_eq!(streamed.len(), expected.len(), "seed {seed}");
            for (streamed, expected) in streamed.iter().zip(&expected) {
                assert_eq!(streamed, expected, "seed {seed}");
            }

            let count = |word: &str| expected.iter().filter(|row| row.outcome.is_some() && row.word() == word).count();
            let totals = report.totals();
            let found = [totals.tasks, totals.passed, totals.flaky, totals.failed, totals.skipped, totals.cancelled];
            let words = ["passed", "flaky", "failed", "skipped", "cancelled"].map(count);
            assert_eq!(found, [tasks, words[0], words[1], words[2], words[3], words[4]], "seed {seed}");
            assert_eq!(totals.open, tasks - words.iter().sum::<usize>(), "seed {seed}");
            let ended = expected.iter().filter(|row| row.outcome.is_some()).filter_map(Row::last_finished);
            assert_eq!(
                report.counts().tests_passed,
                ended.map(|end| end.counts.tests_passed).sum::<u64>(),
                "seed {seed}"
            );
        }
    }
}
