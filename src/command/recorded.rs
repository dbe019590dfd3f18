//! Recorded runs: list, show, render again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use serde_json::json;

use crate::cli::run::{Format, List, ListFormat, Options, Show};
use crate::command::context::Context;
use crate::command::failure::{Exit, Failure};
use crate::command::{output, place};
use crate::executor::store;
use crate::journal::folder::{FindError, State, journal_of};
use crate::journal::follow::Follower;
use crate::journal::read::{self, ReadError, Recorded};
use crate::model::event::{Event, RunStarted, Stored};
use crate::model::id::{RunId, TaskId};
use crate::report::row::{Row, task_of};
use crate::report::run::RunReport;
use crate::report::{RunView, text};
use crate::sink::file::rows_of;
use crate::text::layout::{Layout, Style, pad};
use crate::text::{escape, suggest, transcript};

/// Bytes of an output copied at once.
const CHUNK: u64 = 1 << 20;

/// `apm run list`
pub(crate) fn list(context: &Context, arguments: &List) -> Result<Exit, Failure> {
    let state = place::recorded(context)?;
    let ids = state.list().with_context(|| format!("list `{}`", state.root().display())).map_err(Failure::machine)?;
    let layout = context.ui.stdout_layout();
    let mut out = String::new();
    let mut rows = Vec::new();
    for id in ids.iter().take(arguments.limit) {
        let alive = state.is_alive(id);
        match summary_of(&journal_of(&state.path_of(id)), alive) {
            Ok((report, skipped)) => {
                say_skipped(context, id, &skipped);
                let title = report.started.as_ref().map_or_else(String::new, |started| started.title.clone());
                let state_word = match (alive, report.exit_code) {
                    (true, _) => "running",
                    (false, Some(_)) => "ended",
                    (false, None) => "broke off",
                };
                let verdict = text::verdict(&report, &layout);
                let folder =
                    report.started.as_ref().map_or_else(String::new, |started| started.cwd.to_text().into_owned());
                let place = if Path::new(&folder) == context.environment.cwd || folder.is_empty() {
                    String::new()
                } else {
                    format!("  in {}", transcript::line(&folder))
                };
                let line = format!("{}  {}  {verdict}{place}", pad(id.as_str(), 22), pad(&layout.cut(&title, 24), 24));
                let _ = writeln!(out, "{}", line.trim_end());
                let mut row = json!({
                    "run": id.as_str(), "title": title, "folder": folder, "state": state_word, "exit_code": report.exit_code,
                    "started_at": report.at.map(|at| at.to_string()), "tasks": report.totals().tasks,
                    "duration_us": report.elapsed.as_micros() as u64,
                    "verdict": text::verdict(&report, &Layout::PLAIN),
                });
                if !skipped.is_empty() {
                    row["skipped_events"] = json!(skipped);
                }
                rows.push(row);
            }
            Err(error) => {
                let _ = writeln!(out, "{}  {}", pad(id.as_str(), 22), layout.paint(Style::Bad, &error.to_string()));
                rows.push(json!({"run": id.as_str(), "state": "unreadable", "error": error.to_string()}));
            }
        }
    }
    match arguments.format {
        ListFormat::Json => {
            let document = json!({"version": 1, "runs": rows});
            out = escape::json(&serde_json::to_string_pretty(&document).map_err(Failure::machine)?);
            out.push('\n');
        }
        ListFormat::Text if ids.is_empty() => {
            context.ui.say(&format!("apm: no run is recorded in `{}`\n", state.root().display()));
        }
        ListFormat::Text if ids.len() > arguments.limit => {
            let _ = writeln!(out, "... and {} older; `-n N` shows more", ids.len() - arguments.limit);
        }
        ListFormat::Text => {}
    }
    context.ui.print(&out).map_err(Failure::machine)?;
    Ok(Exit::Good)
}

/// `apm run show`
pub(crate) fn show(context: &Context, arguments: &Show) -> Result<Exit, Failure> {
    let state = place::recorded(context)?;
    let id = find(context, &state, &arguments.run, Elsewhere::Shown)?;
    match &arguments.task {
        Some(task) => show_task(context, &state, &id, task, arguments.attempt),
        None => render(context, &state, &id, arguments.format, &output::parse(&arguments.output)?),
    }
}

/// `apm run --replay`
pub(crate) fn replay(context: &Context, name: &str, options: &Options) -> Result<Exit, Failure> {
    let state = place::recorded(context)?;
    let id = find(context, &state, name, Elsewhere::Shown)?;
    render(context, &state, &id, options.format.unwrap_or(Format::Text), &output::parse(&options.output)?)
}

/// What `last` means where no run of this folder is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    /// The last run of all, which is said: it is only looked at.
    Shown,
    /// Nothing: what is done with it would be done in another folder.
    Refused,
}

/// The run that a name means: `last`, which is the last one started in this folder, or the name or the start of the name
/// of any run.
pub(crate) fn find(context: &Context, state: &State, name: &str, elsewhere: Elsewhere) -> Result<RunId, Failure> {
    let named = || {
        state.find(name).map_err(|error| {
            let failure = match &error {
                FindError::Io(_) => Failure::machine(error),
                FindError::Empty(_) => Failure::nothing(error),
                FindError::Unknown(_) | FindError::Ambiguous(..) => Failure::usage(error),
            };
            failure.hint("`apm run list` lists the recorded runs")
        })
    };
    if name != LAST {
        return named();
    }
    let here = &context.environment.cwd;
    let ids = state.list().with_context(|| format!("list `{}`", state.root().display())).map_err(Failure::machine)?;
    // One that broke off before it said where it was may be meant.
    let is_here = |id: &&RunId| started(state, id).is_none_or(|started| started.cwd.as_path() == here);
    if let Some(id) = ids.iter().find(is_here) {
        return Ok(id.clone());
    }
    let last = named()?;
    let place =
        started(state, &last).map_or_else(|| "?".to_owned(), |started| transcript::line(&started.cwd.to_text()));
    match elsewhere {
        Elsewhere::Shown => {
            context.ui.say(&format!("apm: no run of this folder is recorded; this is {last}, of `{place}`\n"));
            Ok(last)
        }
        Elsewhere::Refused => {
            Err(Failure::nothing(format!("no run of this folder is recorded; the last one, {last}, is of `{place}`"))
                .hint(format!("name it to mean it: `{last}`; `apm run list` lists the recorded runs")))
        }
    }
}

/// The name that means the last run of a folder.
pub(crate) const LAST: &str = "last";

/// How a run started; absent where its journal does not tell.
pub(crate) fn started(state: &State, id: &RunId) -> Option<Box<RunStarted>> {
    let mut journal = Follower::open(&journal_of(&state.path_of(id))).ok()?;
    match journal.next().ok()??.event {
        Event::RunStarted(started) => Some(started),
        _ => None,
    }
}

pub(crate) fn journal(state: &State, id: &RunId) -> Result<Recorded, Failure> {
    let path = journal_of(&state.path_of(id));
    read::read(&path).with_context(|| reading(&path)).map_err(Failure::machine)
}

fn reading(journal: &Path) -> String {
    format!("read the journal `{}`", journal.display())
}

/// The summary of a recorded run, and how many events of kinds this apm does not know were skipped. The events are not kept:
/// a long journal does not fit into memory.
pub(crate) fn summary_of(journal: &Path, is_alive: bool) -> Result<(RunReport, BTreeMap<String, u64>), ReadError> {
    let mut report = RunReport::default();
    report.is_alive = is_alive;
    let read = read::each(journal, &mut |envelope| {
        report.apply(&envelope);
        Ok(())
    })?;
    Ok((report, read.skipped))
}

/// Says which events of a run were skipped because this apm does not know their kinds.
pub(crate) fn say_skipped(context: &Context, id: &RunId, skipped: &BTreeMap<String, u64>) {
    if let Some(warning) = read::skipped_warning(skipped) {
        context.ui.say(&format!("apm: run {id}: {}\n", transcript::line(&warning)));
    }
}

fn reader(folder: PathBuf) -> impl Fn(&Stored, usize) -> Vec<u8> {
    // What is gone is shown as nothing; the digest in the event tells.
    move |stored, max| store::read(&folder, stored, max).unwrap_or_default()
}

pub(crate) fn render(
    context: &Context,
    state: &State,
    id: &RunId,
    format: Format,
    wanted: &[output::Wanted],
) -> Result<Exit, Failure> {
    let journal = journal_of(&state.path_of(id));
    let (report, skipped) =
        summary_of(&journal, state.is_alive(id)).with_context(|| reading(&journal)).map_err(Failure::machine)?;
    say_skipped(context, id, &skipped);
    if report.is_alive {
        context.ui.say(&format!("apm: run {id} is still running; this is what is known so far\n"));
    } else if report.started.is_none() {
        context.ui.say(&format!("apm: run {id} broke off before anything of it was recorded\n"));
    } else if report.exit_code.is_none() {
        context.ui.say(&format!("apm: run {id} broke off; `apm run --resume {id}` goes on\n"));
    }
    let (each_row, read) = (rows_of(&journal, &report), reader(state.path_of(id)));
    let view = RunView { report: &report, each_row: &each_row, read: &read };
    let write = |format: Format, layout: &Layout, out: &mut dyn Write| match format {
        Format::Ndjson => events_of(&journal, out),
        _ => output::render(format, &view, layout, out),
    };
    let to_stdout = |format: Format, layout: &Layout| {
        let written = context.ui.stream(|out| write(format, layout, out));
        written.with_context(|| format!("write {} to standard output", format.as_str())).map_err(Failure::machine)
    };
    for one in wanted {
        if one.path == Path::new("-") {
            to_stdout(one.format, &Layout::PLAIN)?;
        } else {
            output::save(one, |layout, out| write(one.format, layout, out))?;
        }
    }
    to_stdout(format, &context.ui.stdout_layout())?;
    Ok(Exit::Good)
}

/// Writes the events of a journal, one a line.
fn events_of(journal: &Path, out: &mut dyn Write) -> std::io::Result<()> {
    let read = read::each(journal, &mut |envelope| {
        serde_json::to_writer(escape::Json::new(&mut *out), &envelope)?;
        out.write_all(b"\n")
    });
    match read {
        Ok(_) => Ok(()),
        Err(ReadError::Io(error)) => Err(error),
        Err(error) => Err(std::io::Error::other(error)),
    }
}

/// The row of one task, found in the journal, and what was skipped there.
fn row_of(journal: &Path, wanted: &TaskId) -> Result<(Option<Row>, BTreeMap<String, u64>), ReadError> {
    let mut found: Option<Row> = None;
    let read = read::each(journal, &mut |envelope| {
        match (&envelope.event, &mut found) {
            (Event::TasksAdded { tasks, .. }, None) => {
                found = tasks.iter().find(|task| task.id == *wanted).map(|task| Row::new(Arc::clone(task)));
            }
            (Event::RunResumed { invalidated, .. }, Some(row)) => {
                row.outcome.take_if(|outcome| !outcome.is_good() || invalidated.iter().any(|one| one.task == *wanted));
            }
            (event, Some(row)) if task_of(event) == Some(wanted) => row.apply(&envelope),
            _ => {}
        }
        Ok(())
    })?;
    Ok((found, read.skipped))
}

/// The task of a run that was probably meant.
fn likely_task(journal: &Path, name: &str) -> Option<String> {
    let mut likely: Option<String> = None;
    let read = read::each(journal, &mut |envelope| {
        if let Event::TasksAdded { tasks, .. } = &envelope.event {
            for id in tasks.iter().map(|task| task.id.as_str()) {
                let closer = suggest::likely(name, likely.as_deref().into_iter().chain([id])).map(str::to_owned);
                likely = closer;
            }
        }
        Ok(())
    });
    read.ok().and(likely)
}

/// What a task printed, as it printed it: standard output to standard output, the other to the other.
fn show_task(context: &Context, state: &State, id: &RunId, name: &str, attempt: Option<u32>) -> Result<Exit, Failure> {
    let journal = journal_of(&state.path_of(id));
    let row = match TaskId::new(name) {
        Ok(task) => {
            let read = row_of(&journal, &task);
            let (row, skipped) = read.with_context(|| reading(&journal)).map_err(Failure::machine)?;
            say_skipped(context, id, &skipped);
            row
        }
        Err(_) => None,
    };
    let row = row.ok_or_else(|| {
        let failure = Failure::usage(anyhow!("run {id} has no task `{name}`"));
        match likely_task(&journal, name) {
            Some(likely) => failure.hint(format!("did you mean `{likely}`?")),
            None => failure.hint(format!("`apm run show {id} --format json` names all")),
        }
    })?;
    let ends = || row.attempts.iter().filter_map(|attempt| attempt.end.as_ref()).map(|(_, finished)| finished);
    let finished = match attempt {
        Some(number) => Some(ends().rfind(|finished| finished.attempt == number).ok_or_else(|| {
            let numbers: Vec<String> = ends().map(|finished| finished.attempt.to_string()).collect();
            let failure = Failure::usage(anyhow!("no attempt {number} of `{name}` has ended"));
            match &numbers[..] {
                [] => failure,
                numbers => failure.hint(format!("there are attempts {}", numbers.join(", "))),
            }
        })?),
        None => row.last_finished(),
    };
    let Some(finished) = finished else {
        context.ui.say(&format!("apm: `{name}` has printed nothing: {}\n", row.word()));
        return Ok(Exit::Good);
    };
    let explanation = text::explain(&finished.outcome);
    context.ui.say(&format!("apm: `{name}`, attempt {}: {explanation}\n", finished.attempt));
    let folder = state.path_of(id);
    for (stream, to_stderr) in [(&finished.stdout, false), (&finished.stderr, true)] {
        let Some(stored) = &stream.stored else { continue };
        if !print_stored(context, &folder, stored, 0, to_stderr)? {
            return Ok(Exit::Good);
        }
        if stream.truncated {
            context.ui.say(&format!("apm: {} bytes were written, {} kept\n", stream.bytes, stored.len));
        }
    }
    Ok(Exit::Good)
}

/// Prints a stored output from a position on, piece by piece. False: nobody reads standard output any more.
pub(crate) fn print_stored(
    context: &Context,
    folder: &Path,
    stored: &Stored,
    from: u64,
    to_stderr: bool,
) -> Result<bool, Failure> {
    let mut offset = from.min(stored.len);
    while offset < stored.len {
        let part = Stored { offset: stored.offset + offset, len: (stored.len - offset).min(CHUNK), ..stored.clone() };
        let bytes = store::read(folder, &part, CHUNK as usize)
            .with_context(|| format!("read `{}`", folder.join(&stored.file).display()))
            .map_err(Failure::machine)?;
        if bytes.is_empty() {
            break;
        }
        offset += bytes.len() as u64;
        if to_stderr {
            context.ui.say_bytes(&bytes);
        } else if !context.ui.result(&bytes).map_err(Failure::machine)? {
            return Ok(false);
        }
    }
    Ok(true)
}
