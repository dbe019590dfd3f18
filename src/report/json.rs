//! The report as one JSON document: the form for other programs. Versioned; described by `run.schema.json`. The tasks are
//! written as they are read: a document may be larger than memory.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use serde::ser::{Error as _, SerializeSeq as _};
use serde::{Serialize, Serializer};

use crate::model::event::{Ceilings, Enforcement, EngineFigures, Exit, Host, NoteLevel, Parent, PoolShape, Usage};
use crate::model::finding::{Counts, Results};
use crate::model::outcome::{Outcome, Stop};
use crate::model::raw::Raw;
use crate::model::sandbox::Confinement;
use crate::model::task::{Check, Limits};
use crate::report::row::Row;
use crate::report::run::RunReport;
use crate::report::{ReadStored, RunView, text};
use crate::text::escape::Json;

/// Version of the document.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    run: &'a str,
    title: &'a str,
    apm: &'a str,
    started_at: Option<String>,
    duration_us: u64,
    verdict: String,
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<&'a Stop>,
    host: &'a Host,
    pool: PoolShape,
    enforcement: &'a Enforcement,
    ceilings: Ceilings,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<&'a Parent>,
    totals: TotalsOut,
    counts: Counts,
    tasks: Tasks<'a>,
    notes: Vec<NoteOut<'a>>,
    child_runs: Vec<ChildOut<'a>>,
    engine: EngineFigures,
}

#[derive(Serialize)]
struct TotalsOut {
    tasks: usize,
    passed: usize,
    flaky: usize,
    failed: usize,
    skipped: usize,
    cancelled: usize,
    broken: usize,
    not_finished: usize,
}

/// The tasks, one after the other.
struct Tasks<'a>(&'a RunView<'a>);

impl Serialize for Tasks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tasks = serializer.serialize_seq(None)?;
        let mut refused = None;
        let read = (self.0.each_row)(&mut |row| {
            tasks.serialize_element(&task(row, self.0.read)).map_err(|error| {
                refused = Some(error);
                io::ErrorKind::Other.into()
            })
        });
        match (refused, read) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => Err(S::Error::custom(error)),
            (None, Ok(())) => tasks.end(),
        }
    }
}

#[derive(Serialize)]
struct TaskOut<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a Raw>,
    command: String,
    #[serde(skip_serializing_if = "Raw::is_empty")]
    reason: &'a Raw,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<&'a Check>,
    #[serde(skip_serializing_if = "Limits::is_none")]
    limits: &'a Limits,
    /// `passed`, `failed`, ...; `interrupted` and `not run` where the run broke off.
    state: &'a str,
    outcome: Option<&'a Outcome>,
    explanation: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    late_us: Option<u64>,
    attempts: Vec<AttemptOut<'a>>,
    counts: Counts,
    #[serde(skip_serializing_if = "Option::is_none")]
    results: Option<Results>,
}

#[derive(Serialize)]
struct AttemptOut<'a> {
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<u32>,
    start_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'a Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<Exit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    stdout_bytes: u64,
    stderr_bytes: u64,
    truncated: bool,
    leaked: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    confinement: Option<&'a Confinement>,
}

#[derive(Serialize)]
struct NoteOut<'a> {
    t_us: u64,
    level: NoteLevel,
    text: Cow<'a, str>,
}

#[derive(Serialize)]
struct ChildOut<'a> {
    task: &'a str,
    run: &'a str,
    exit_code: i32,
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn task<'a>(row: &'a Row, read: ReadStored<'_>) -> TaskOut<'a> {
    let last = row.last_finished();
    TaskOut {
        id: row.task.id.as_str(),
        title: row.task.title.as_ref(),
        command: text::command(&row.task),
        reason: &row.task.reason,
        check: row.task.check.as_deref(),
        limits: &row.task.limits,
        state: row.word(),
        outcome: row.outcome.as_ref(),
        explanation: row.outcome.as_ref().map(text::explain).unwrap_or_default(),
        late_us: row.late.map(|(late, _)| micros(late)),
        attempts: row
            .attempts
            .iter()
            .map(|attempt| {
                let end = attempt.end.as_ref();
                let finished = end.map(|(_, finished)| finished);
                AttemptOut {
                    attempt: attempt.number,
                    slot: attempt.slot,
                    start_us: micros(attempt.start),
                    end_us: end.map(|(t, _)| micros(*t)),
                    outcome: finished.map(|f| &f.outcome),
                    exit: finished.and_then(|f| f.exit),
                    usage: finished.map(|f| f.usage),
                    stdout_bytes: finished.map_or(0, |f| f.stdout.bytes),
                    stderr_bytes: finished.map_or(0, |f| f.stderr.bytes),
                    truncated: finished.is_some_and(|f| f.stdout.truncated || f.stderr.truncated),
                    leaked: finished.map_or(0, |f| f.leaked),
                    confinement: finished.and_then(|f| f.confinement.as_deref()),
                }
            })
            .collect(),
        counts: last.map(|f| f.counts).unwrap_or_default(),
        results: last.filter(|f| f.results.is_some()).map(|f| text::results(f, read)),
    }
}

/// The notes of the run; where some are left out, one says so.
fn notes(report: &RunReport) -> Vec<NoteOut<'_>> {
    let mut notes = Vec::new();
    for (t, level, text) in report.notes.first() {
        notes.push(NoteOut { t_us: micros(*t), level: *level, text: Cow::Borrowed(text) });
    }
    if report.notes.left_out() > 0 {
        let t_us = notes.last().map_or(0, |note| note.t_us);
        let text = format!("{} more notes are left out here", report.notes.left_out());
        notes.push(NoteOut { t_us, level: NoteLevel::Info, text: Cow::Owned(text) });
    }
    for (t, level, text) in report.notes.last() {
        notes.push(NoteOut { t_us: micros(*t), level: *level, text: Cow::Borrowed(text) });
    }
    notes
}

/// Writes the document.
pub(crate) fn write(view: &RunView<'_>, out: &mut dyn Write) -> io::Result<()> {
    let report = view.report;
    let Some(started) = &report.started else { return writeln!(out, "{{\"version\":{VERSION}}}") };
    let totals = report.totals();
    let document = Document {
        version: VERSION,
        run: started.run.as_str(),
        title: &started.title,
        apm: &started.apm,
        started_at: report.at.map(|at| at.to_string()),
        duration_us: micros(report.elapsed),
        verdict: text::verdict(report, &crate::text::layout::Layout::PLAIN),
        exit_code: report.exit_code,
        stop: report.stop.as_ref(),
        host: &started.host,
        pool: started.pool,
        enforcement: &started.enforcement,
        ceilings: started.ceilings,
        parent: started.parent.as_ref(),
        totals: TotalsOut {
            tasks: totals.tasks,
            passed: totals.passed,
            flaky: totals.flaky,
            failed: totals.failed,
            skipped: totals.skipped,
            cancelled: totals.cancelled,
            broken: totals.broken,
            not_finished: totals.open,
        },
        counts: report.counts(),
        tasks: Tasks(view),
        notes: notes(report),
        child_runs: report
            .children
            .iter()
            .map(|(task, run, exit_code)| ChildOut { task: task.as_str(), run: run.as_str(), exit_code: *exit_code })
            .collect(),
        engine: report.engine,
    };
    serde_json::to_writer_pretty(Json::new(&mut *out), &document)?;
    out.write_all(b"\n")
}
