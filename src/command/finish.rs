//! The end of a run: its last events, what is left for the readers of its output, the summary, the exit code.

use std::path::Path;
use std::time::Duration;

use crate::cli::run::Format;
use crate::command::context::Context;
use crate::command::failure::{Exit, Failure};
use crate::command::nested;
use crate::command::observer::RunObserver;
use crate::command::request::Request;
use crate::engine::dispatch::RunEnd;
use crate::engine::signals::Signals;
use crate::journal::folder::journal_of;
use crate::journal::learned;
use crate::model::event::Parent;
use crate::model::outcome::Stop;
use crate::report::run::RunReport;
use crate::report::{RunView, markdown};
use crate::sink::file::rows_of;
use crate::sink::slow::Drained;
use crate::sys::output::{self, Before};
use crate::sys::signal;

/// Where GitHub takes the summary of a step from.
pub(crate) const STEP_SUMMARY: &str = "GITHUB_STEP_SUMMARY";
/// Given to readers to take the rest after a second Ctrl-C.
const HAND_OVER_KILLED: Duration = Duration::from_secs(1);

/// Ends the sinks, learns, and says how it went.
pub(crate) fn finish(
    context: &Context,
    request: &Request,
    runtime: &tokio::runtime::Runtime,
    observer: RunObserver,
    end: RunEnd,
    parent: Option<Parent>,
    silent: bool,
) -> Result<Exit, Failure> {
    let mut code = observer.exit_code();
    let RunObserver { fanout, folder, .. } = observer;
    let mut stop = end.stop;
    let mut lost: Vec<String> = Vec::new();
    lost.extend(end.fault.as_ref().map(|fault| format!("the run was stopped: {fault}")));
    lost.extend(end.unrecorded.map(|error| format!("the end could not be recorded: {error}")));
    if let Some(state) = &folder.state {
        let mut history = end.history;
        history.merge(learned::load(state.root()));
        if let Err(error) = learned::save(state.root(), &history) {
            lost.push(format!("what was learned about durations is lost: {error}"));
        }
    }
    let summary = summary(context, request, fanout.report(), fanout.read(), silent);
    github_summary(context, fanout.report(), &journal_of(&folder.path()), fanout.read(), &mut lost);
    let (lost_files, rest) = fanout.finish();
    lost.extend(lost_files);
    let handed_over = rest.map_or(Ok(Vec::new()), |rest| runtime.block_on(hand_over(rest, end.signals)));
    let is_read = handed_over.is_ok();
    match handed_over {
        Ok(lost_on_the_way) => lost.extend(lost_on_the_way),
        Err(Some(signal)) => (code, stop) = (128 + signal, Some(Stop::Signal { signal })),
        Err(None) => {}
    }
    if let (Some(parent), Some(state), Some(run)) = (parent, &folder.state, &folder.run) {
        nested::tell_parent(state, &parent, &run.id, code);
    }
    if let Some(run) = folder.run.as_ref().filter(|run| !journal_of(&run.path).exists()) {
        lost.push(format!("the record of the run is lost: `{}` was removed while it ran", run.path.display()));
    }
    let is_whole = end.fault.is_none();
    if is_whole {
        folder.close();
    }
    // Nothing is left that a signal could spoil.
    signal::restore_defaults();
    // Who stalls still holds the streams.
    if is_read {
        if let Err(error) = context.ui.result(&summary) {
            lost.push(format!("the summary is lost: {error}"));
        }
        for text in &lost {
            context.ui.say(&format!("apm: error: {text}\n"));
        }
    }
    if !lost.is_empty() && code == 0 {
        code = Exit::Incomplete.code();
    }
    Ok(match (code, stop) {
        (0, _) => Exit::Good,
        (1, _) => Exit::Failures,
        (4, _) => Exit::Nothing,
        (5, _) => Exit::Early,
        (_, Some(Stop::Signal { signal })) if is_whole => Exit::Signal(signal),
        _ => Exit::Incomplete,
    })
}

/// Waits until everybody who reads has everything, or until a signal says that nobody waits for it any more.
async fn hand_over(rest: Drained, mut signals: Signals) -> Result<Vec<String>, Option<i32>> {
    let patience = if signals.at_once() { HAND_OVER_KILLED } else { Duration::MAX };
    tokio::select! {
        biased;
        lost = rest => Ok(lost.unwrap_or_else(|_| vec!["a bug in apm; standard error has the details".to_owned()])),
        (signal, _) = signals.next() => Err(Some(signal)),
        () = tokio::time::sleep(patience) => Err(None),
    }
}

fn summary(
    context: &Context,
    request: &Request,
    report: &RunReport,
    read: crate::report::ReadStored<'_>,
    silent: bool,
) -> Vec<u8> {
    let mut text = Vec::new();
    if request.options.format.unwrap_or(Format::Text) == Format::Text && !silent {
        // Writing to memory does not fail.
        let _ = crate::report::text::write(report, read, &context.ui.stdout_layout(), &mut text);
    }
    text
}

/// Appends to the summary of the step that GitHub shows.
fn github_summary(
    context: &Context,
    report: &RunReport,
    journal: &Path,
    read: crate::report::ReadStored<'_>,
    lost: &mut Vec<String>,
) {
    let Some(path) = context.environment.get(STEP_SUMMARY) else { return };
    let mut text = Vec::new();
    let each_row = rows_of(journal, report);
    let written = markdown::write(&RunView { report, each_row: &each_row, read }, &mut text).and_then(|()| {
        let mut file = output::open(Path::new(path), Before::Kept)?;
        std::io::Write::write_all(&mut file, &text)
    });
    if let Err(error) = written {
        lost.push(format!("{STEP_SUMMARY} `{}` could not be written: {error}", path.to_string_lossy()));
    }
}
