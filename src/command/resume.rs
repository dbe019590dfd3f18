//! `apm run --resume`: goes on with a recorded run. What is recorded as passed is not run again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Parser;
use jiff::Timestamp;

use crate::cli::run::{Format, Options, What};
use crate::cli::{Cli, Command};
use crate::command::context::Context;
use crate::command::execute::{self, ResumedPart, Work};
use crate::command::failure::{Exit, Failure};
use crate::command::qa::Asked;
use crate::command::recorded::{self, Elsewhere, find, journal, render, say_skipped};
use crate::command::request::{self, Overrides, Request};
use crate::command::{each, output, place, qa};
use crate::engine::plan::Source;
use crate::executor::files;
use crate::journal::folder::State;
use crate::journal::read::{self, Recorded};
use crate::journal::resume::{self, Outstanding, RecordedEdit};
use crate::model::bytestring::ByteString;
use crate::model::edit::Edit;
use crate::model::event::{Invalidated, NoteLevel, RunStarted};
use crate::model::id::RunId;
use crate::model::outcome::Outcome;
use crate::model::request::{ChecksAsked, Halt, PlanSource, Relay, RelayOrder, ValueFile};
use crate::model::task::{Run, Step, Task};
use crate::text::transcript;

/// `apm run --resume`, of the last run of a plan file where one is named
pub(crate) fn resume(context: &Context, name: &str, file: Option<&Path>, options: Options) -> Result<Exit, Failure> {
    if options.no_journal {
        return Err(Failure::usage(anyhow!("--resume goes on with a recorded run, --no-journal keeps no record")));
    }
    let state = place::recorded(context)?;
    let id = match file {
        Some(file) if name == recorded::LAST => last_of(context, &state, file)?,
        Some(_) => {
            return Err(Failure::usage(anyhow!("--resume with a plan file and with the name of a run"))
                .hint(format!("`apm run --resume {name}` goes on with that run, and reads its plan again")));
        }
        None => find(context, &state, name, Elsewhere::Refused)?,
    };
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
    let mut left = resume::outstanding(&recorded.envelopes);
    let Some(mut started) = left.started.take() else {
        return Err(Failure::machine(anyhow!("run {id} broke off before anything of it was recorded"))
            .hint("nothing of it was run; start it again"));
    };
    if let Some(folder) = &folder {
        let restored = folder.restore_environments(&mut left.tasks);
        restored.context("read the environments of the run").map_err(Failure::machine)?;
    }
    let cwd = started.cwd.as_path().to_owned();
    let RecordedOptions { before, halt, relay, joblog, eta, silent } = options_of(&started)?;
    let halt = halt.filter(|_| !options.fail_fast);
    let (format, output) = (options.format, options.output.clone());
    let now = Overrides::of(&context.global, options)?;
    let overrides = match before {
        Some(before) => before.then(&cwd, now),
        None => now,
    };
    let mut request = request::read_overrides(context, overrides)?;
    let began = recorded.envelopes.first().map(|envelope| envelope.at);
    let source = left.plan.take();
    let values = source.as_ref().map_or(&[][..], |source| &source.values);
    request.warnings.extend(values.iter().filter_map(|file| edited_values(file, &cwd)));
    let mut plan = source.clone().filter(|source| !source.values.is_empty());
    let now = source.map(|source| replan(context, &mut request, &cwd, source, began)).transpose()?.flatten();
    let mut stale = None;
    if let Some(now) = now {
        request.warnings.extend(left.replan(now.tasks, &now.name, folder.is_some()));
        started.resources = now.resources.unwrap_or(started.resources);
        (plan, stale) = (Some(now.source), now.stale);
    }
    let said = replan_steps(&request, &mut left, &cwd, &started.resources, folder.is_some());
    request.warnings.extend(said);
    left.judge(|task, digest| stale.clone().or_else(|| changed(task, digest, &cwd)));
    let Outstanding { mut tasks, done, closed, invalidated, edits, added, edited, recorded: known, .. } = left;
    let undeclared = tasks.iter().zip(&done).filter(|(task, (_, end))| end.is_some() && task.inputs.is_empty()).count();
    if folder.is_none() {
        let mut ends = done.iter().map(|(_, end)| end.is_none());
        tasks.retain(|_| ends.next().unwrap_or(true));
    }
    let is_left = |(task, (_, end)): (&Task, &(u32, Option<Outcome>))| end.is_none() && task.skip.is_none();
    if !tasks.iter().zip(&done).any(is_left)
        && edited.is_empty()
        && closed
        && let Some(folder) = folder
    {
        folder.close();
        for warning in &request.warnings {
            context.ui.say(&format!("apm: warning: {}\n", transcript::line(warning)));
        }
        context.ui.say(&format!("apm: run {id} has nothing left to do\n"));
        return render(context, &state, &id, format.unwrap_or(Format::Text), &output::parse(&output)?);
    }
    // The clock of the run goes on where it was; a deadline given now counts from now.
    let elapsed = recorded.envelopes.iter().map(|envelope| envelope.t).max().unwrap_or_default();
    request.deadline = request.deadline.map(|deadline| deadline.saturating_add(elapsed));
    request.warnings.extend(notes.into_iter().map(|(_, text): (NoteLevel, String)| text));
    let reasons = invalidated.iter().take(REASONS_MAX);
    request.warnings.extend(
        reasons.map(|Invalidated { task, reason }| format!("`{task}` runs again although it passed: {reason}")),
    );
    if invalidated.len() > REASONS_MAX {
        request.warnings.push(format!("{} more run again although they passed", invalidated.len() - REASONS_MAX));
    }
    if undeclared > 0 && plan.as_ref().is_some_and(|plan| plan.file.is_some()) {
        let passes = if undeclared == 1 { "1 pass".to_owned() } else { format!("{undeclared} passes") };
        context.ui.say(&format!(
            "apm: {passes} of tasks without `inputs` count whatever was changed since; with `inputs: [GLOB]` in the plan a \
             task runs again when its files change\n"
        ));
    }
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
    let earlier =
        ResumedPart { envelopes, good_len, next_seq, done, invalidated, edits, added, edited, recorded: known };
    let work = Work {
        title: started.title,
        cwd,
        root: started.root.as_path().to_owned(),
        tasks,
        resources: started.resources,
        plan,
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

/// Reasons for running tasks again that are said one by one.
const REASONS_MAX: usize = 5;

/// Why a recorded pass of a task does not count any more: its declared inputs or outputs.
fn changed(task: &Task, digest: &str, cwd: &Path) -> Option<String> {
    let base = task.cwd.as_ref().map_or_else(|| cwd.to_owned(), |folder| cwd.join(folder.as_path()));
    let now = (!task.inputs.is_empty()).then(|| files::digest(&task.inputs, &base));
    match now {
        Some(Ok(now)) if now != digest => return Some("its inputs changed".to_owned()),
        Some(Err(error)) => return Some(error),
        _ => {}
    }
    files::missing(&task.outputs, &base).map(|output| format!("its output `{output}` is gone"))
}

/// A warning where a file of values is another than when the run began: which of its values are new cannot be told from
/// their places.
fn edited_values(file: &ValueFile, cwd: &Path) -> Option<String> {
    let is_same = each::value_file(&cwd.join(file.path.as_path()), file.path.as_path()).as_ref() == Some(file);
    let shown = transcript::line(&file.path.to_text());
    let warning = || {
        format!(
            "`{shown}` was changed since the run began: its values are run as they are recorded; start `apm run each` again for those of now"
        )
    };
    (!is_same).then(warning)
}

/// The last run of a plan file in this folder.
fn last_of(context: &Context, state: &State, file: &Path) -> Result<RunId, Failure> {
    let ids = state.list().with_context(|| format!("list `{}`", state.root().display())).map_err(Failure::machine)?;
    let is_of_file = |id: &RunId| {
        recorded::started(state, id).is_some_and(|started| {
            let plan = started.request.as_ref().and_then(|request| request.plan.as_ref());
            started.cwd.as_path() == context.environment.cwd
                && plan.and_then(|plan| plan.file.as_ref()).is_some_and(|path| path.as_path() == file)
        })
    };
    ids.into_iter().find(is_of_file).ok_or_else(|| {
        let shown = file.display();
        Failure::nothing(format!("no run of `{shown}` in this folder is recorded"))
            .hint(format!("`apm run {shown}` starts one"))
    })
}

/// A plan that was read again.
struct Replanned {
    tasks: Vec<Task>,
    /// What it is called in messages.
    name: String,
    /// Capacities, where the plan says them.
    resources: Option<BTreeMap<String, u64>>,
    /// Why no recorded pass counts any more.
    stale: Option<String>,
    source: PlanSource,
}

/// Reads the plan of a run again. One that is gone stays as it is recorded, which is said.
fn replan(
    context: &Context,
    request: &mut Request,
    cwd: &Path,
    source: PlanSource,
    began: Option<Timestamp>,
) -> Result<Option<Replanned>, Failure> {
    if let Some(path) = source.file {
        let shown = transcript::line(&path.to_text());
        if !cwd.join(path.as_path()).is_file() {
            request.warnings.push(format!("the plan `{shown}` is gone: its tasks are run as they are recorded"));
            return Ok(None);
        }
        let plan = crate::command::plan::read_checked(cwd, path.as_path(), Vec::new(), request)
            .map_err(|failure| failure.hint("the plan is read again, so that edits of it count"))?;
        let source = PlanSource { file: Some(path), ..PlanSource::default() };
        let (name, resources) = (format!("`{shown}`"), Some(plan.resources));
        return Ok(Some(Replanned { tasks: plan.tasks, name, resources, stale: None, source }));
    }
    let Some(mut checks) = source.checks else { return Ok(None) };
    let strict = request.options.strict || request.settings.qa_strict;
    let ChecksAsked { dir, only, skip, fix, .. } = &*checks;
    let asked = Asked { dir: dir.as_ref().map(ByteString::as_path), only, skip, fix: *fix, strict };
    let now = qa::checks(context, cwd, asked)?;
    let stale = (now.files.is_none() || now.files != checks.files).then(|| {
        if now.files.is_none() {
            return "the repository has more files than are looked at".to_owned();
        }
        // One that is gone has no time.
        let newest = now.newest.filter(|(_, at)| Timestamp::try_from(*at).ok() > began);
        let newest = newest.map(|(file, _)| format!(" (the newest: `{}`)", transcript::line(&file)));
        format!("files of the repository changed since it ran{}", newest.unwrap_or_default())
    });
    request.warnings.extend(now.warnings);
    checks.files = now.files;
    let (name, source) =
        ("the list of checks".to_owned(), PlanSource { checks: Some(checks), ..PlanSource::default() });
    Ok(Some(Replanned { tasks: now.tasks, name, resources: None, stale, source }))
}

/// Reads the plan files of steps again, as far as they are there, and says what was edited in them.
fn replan_steps(
    request: &Request,
    left: &mut Outstanding,
    cwd: &Path,
    resources: &BTreeMap<String, u64>,
    has_environments: bool,
) -> Vec<String> {
    let read = execute::read_plan(request, resources.clone());
    let mut said = Vec::new();
    for (step, added) in left.added.clone() {
        let Some(task) = left.tasks.iter().find(|task| task.id == step) else { continue };
        let Run::Step(Step::Plan { file }) = &task.run else { continue };
        let folder = task.cwd.as_ref().map_or_else(|| cwd.to_owned(), |folder| cwd.join(folder.as_path()));
        let path = folder.join(file.as_path());
        let source = format!("`{}`", transcript::line(&file.to_text()));
        if !path.is_file() {
            continue;
        }
        match read(&path) {
            Ok(now) => said.extend(left.replan_step(&added, now, &source, has_environments)),
            Err(error) => said.push(format!("the tasks of `{step}` are run as they are recorded: {error}")),
        }
    }
    said
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
