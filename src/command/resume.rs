//! `apm run --resume`: goes on with a recorded run. What is recorded as passed is not run again.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Parser;

use crate::cli::run::{Format, Options, What};
use crate::cli::{Cli, Command};
use crate::command::context::Context;
use crate::command::execute::{self, ResumedPart, Work};
use crate::command::failure::{Exit, Failure};
use crate::command::recorded::{find, journal, render, say_skipped};
use crate::command::request::{self, Overrides};
use crate::command::{each, output, place};
use crate::engine::plan::Source;
use crate::executor::files;
use crate::journal::read::{self, Recorded};
use crate::journal::resume::{self, Outstanding, RecordedEdit};
use crate::model::edit::Edit;
use crate::model::event::{Event, NoteLevel, RunStarted};
use crate::model::id::RunId;
use crate::model::request::{Halt, Relay, RelayOrder};

/// `apm run --resume`
pub(crate) fn resume(context: &Context, name: &str, options: Options) -> Result<Exit, Failure> {
    if options.no_journal {
        return Err(Failure::usage(anyhow!("--resume goes on with a recorded run, --no-journal keeps no record")));
    }
    let state = place::recorded(context)?;
    let id = find(&state, name)?;
    let place = || format!("take over run {id} in `{}`", state.root().display());
    let running =
        || Failure::usage(anyhow!("run {id} is still running")).hint(format!("`apm run show {id}` shows it so far"));
    let mut notes = Vec::new();
    // A dry run touches nothing: it neither takes the run over nor ends what it left.
    let folder = if options.dry_run {
        if state.is_alive(&id) {
            return Err(running());
        }
        None
    } else {
        let folder = state.take_over(&id).with_context(place).map_err(Failure::machine)?.ok_or_else(running)?;
        place::sweep(&folder, &mut notes).with_context(place).map_err(Failure::machine)?;
        Some(folder)
    };
    let recorded = journal(&state, &id)?;
    let Outstanding { started, mut tasks, done, closed, invalidated, edits, added } = {
        let cwd = recorded.envelopes.first().and_then(|envelope| match &envelope.event {
            Event::RunStarted(started) => Some(started.cwd.as_path().to_owned()),
            _ => None,
        });
        let cwd = cwd.unwrap_or_else(|| context.environment.cwd.clone());
        resume::outstanding(&recorded.envelopes, |task, digest| {
            let base = task.cwd.as_ref().map_or_else(|| cwd.clone(), |folder| cwd.join(folder.as_path()));
            let now = (!task.inputs.is_empty()).then(|| files::digest(&task.inputs, &base));
            match now {
                Some(Ok(now)) if now != digest => return Some("its inputs changed".to_owned()),
                Some(Err(error)) => return Some(error),
                _ => {}
            }
            files::missing(&task.outputs, &base).map(|output| format!("its output `{output}` is gone"))
        })
    };
    let Some(started) = started else {
        return Err(Failure::machine(anyhow!("run {id} broke off before anything of it was recorded"))
            .hint("nothing of it was run; start it again"));
    };
    let left = done.iter().filter(|(_, end)| end.is_none()).count();
    if let Some(folder) = &folder {
        folder
            .restore_environments(&mut tasks)
            .context("read the environments of the run")
            .map_err(Failure::machine)?;
    } else {
        let mut ends = done.iter().map(|(_, end)| end.is_none());
        tasks.retain(|_| ends.next().unwrap_or(true));
    }
    if left == 0
        && closed
        && let Some(folder) = folder
    {
        folder.close();
        context.ui.say(&format!("apm: run {id} has nothing left to do\n"));
        return render(context, &state, &id, options.format.unwrap_or(Format::Text), &output::parse(&options.output)?);
    }
    let cwd = started.cwd.as_path().to_owned();
    let RecordedOptions { before, halt, relay, joblog, eta, silent } = options_of(&started)?;
    let halt = halt.filter(|_| !options.fail_fast);
    let now = Overrides::of(&context.global, options)?;
    let overrides = match before {
        Some(before) => before.then(&cwd, now),
        None => now,
    };
    let mut request = request::read_overrides(context, overrides)?;
    // The clock of the run goes on where it was; a deadline given now counts from now.
    let elapsed = recorded.envelopes.iter().map(|envelope| envelope.t).max().unwrap_or_default();
    request.deadline = request.deadline.map(|deadline| deadline.saturating_add(elapsed));
    request.warnings.extend(notes.into_iter().map(|(_, text): (NoteLevel, String)| text));
    if !closed {
        request.warnings.push(
            "the run broke off while values were still being read; those that were not read yet are not known: run the \
             command again with them"
                .to_owned(),
        );
    }
    let sink = joblog.as_ref().filter(|_| folder.is_some()).map(|path| each::joblog(&cwd.join(path))).transpose()?;
    let Recorded { envelopes, skipped, good_len, next_seq, .. } = recorded;
    say_skipped(context, &id, &skipped);
    request.warnings.extend(read::skipped_warning(&skipped));
    if folder.is_some() {
        say_paused(context, &id, &edits);
    }
    let earlier = ResumedPart { envelopes, good_len, next_seq, done, invalidated, edits, added };
    let work = Work {
        title: started.title,
        cwd,
        root: started.root.as_path().to_owned(),
        tasks,
        resources: started.resources,
        source: Source::Fixed,
        halt,
        relay,
        joblog,
        sinks: sink.into_iter().collect(),
        eta,
        silent,
        may_be_empty: true,
        independent: false,
    };
    execute::execute(context, request, work, folder.map(|folder| (folder, earlier)))
}

/// A run that was paused goes on standing still: without a word it would look as if it hung.
fn say_paused(context: &Context, id: &RunId, edits: &[RecordedEdit]) {
    let mut is_paused = false;
    let mut paused = BTreeSet::new();
    for RecordedEdit { edit, .. } in edits {
        match edit {
            Edit::PauseRun {} => is_paused = true,
            Edit::UnpauseRun {} | Edit::CancelRun {} => is_paused = false,
            Edit::Pause { tasks } => paused.extend(tasks),
            Edit::Unpause { tasks } | Edit::Cancel { tasks } => paused.retain(|task| !tasks.contains(task)),
            Edit::Prioritise { .. } | Edit::Resize { .. } => {}
        }
    }
    if is_paused {
        context.ui.say(&format!("apm: run {id} is still paused; `apm run unpause {id}` lets it go on\n"));
    }
    if let Some(first) = paused.first() {
        let tasks = match paused.len() - 1 {
            0 => format!("task `{first}` is"),
            rest => format!("task `{first}` and {rest} more are"),
        };
        context.ui.say(&format!(
            "apm: run {id}: {tasks} still paused, if not ended; `apm run unpause {id} TASK` lets one go on\n"
        ));
    }
}

/// What the command line of a recorded run asked for.
#[derive(Default)]
struct RecordedOptions {
    before: Option<Overrides>,
    halt: Option<Halt>,
    relay: Option<Relay>,
    joblog: Option<PathBuf>,
    eta: bool,
    silent: bool,
}

/// What a recorded run was asked for, as its record says; a record of version 1 has only the command line.
fn options_of(started: &RunStarted) -> Result<RecordedOptions, Failure> {
    match &started.request {
        Some(request) => Ok(RecordedOptions {
            before: Some(Overrides::of_recorded(request)),
            halt: request.halt,
            relay: request.relay,
            joblog: request.joblog.as_ref().map(|path| path.as_path().to_owned()),
            eta: request.eta,
            silent: request.silent,
        }),
        None => options_of_argv(started),
    }
}

/// Reads the command line of a run again. One that this apm does not understand any more asks for nothing.
fn options_of_argv(started: &RunStarted) -> Result<RecordedOptions, Failure> {
    let silent = started.title.starts_with("each ");
    let mut recorded = RecordedOptions { silent, ..RecordedOptions::default() };
    let Ok(Cli { global, command: Command::Run(words) }) =
        Cli::try_parse_from(started.argv.iter().map(|word| word.as_os_str()))
    else {
        return Ok(recorded);
    };
    let options = match words.what {
        Some(What::Each(each)) => {
            recorded.halt = each::halt(&each.halt)?;
            recorded.relay = Some(each::relay(&each));
            recorded.eta = each.eta;
            recorded.joblog = each.joblog;
            each.options
        }
        Some(What::Qa(qa)) => qa.options,
        _ => {
            recorded.relay = words.relay.then_some(Relay { order: RelayOrder::Grouped, tag: false });
            words.options
        }
    };
    recorded.before = Some(Overrides::of(&global, options)?);
    Ok(recorded)
}
