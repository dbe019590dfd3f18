//! The life of one attempt as a process tree, on a thread of its own: inputs are digested, the command runs, its output is
//! kept and read, its promised files are looked for. Decides nothing about other attempts.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use crate::executor::capture::{Bounds, Capture};
use crate::executor::local::handle::AttemptHandle;
use crate::executor::local::process::{self as command, CommandContext, Executed, Invocation, NotRun};
use crate::executor::sandbox::{self, Prepared, Sandboxes};
use crate::executor::store::{self, Store};
use crate::executor::{Job, Owner, files, runtimes};
use crate::model::attempt::{AttemptResult, End};
use crate::model::event::{Exit, Output};
use crate::model::finding::Results;
use crate::model::outcome::{Cause, Outcome};
use crate::model::raw::Raw;
use crate::model::sandbox::SandboxMode;
use crate::model::task::Task;
use crate::sys::process;

/// Reads what a check printed: the task, its exit, both streams, the folder of its result files.
pub(crate) type Judge = Box<dyn Fn(&Task, Exit, &[u8], &[u8], Option<&Path>) -> (Outcome, Results) + Send + Sync>;

/// Largest output handed to a judge, each stream. More than any tool prints about a repository.
const JUDGED_MAX: usize = 64 << 20;
/// How much of an output is searched for refused actions.
const REFUSALS_READ_MAX: usize = 1 << 20;
/// What a check's argument stands for the folder of its result files.
const RESULTS: &str = "{results}";

/// What all attempts of a run share.
pub(crate) struct AttemptContext {
    pub(crate) commands: CommandContext,
    pub(crate) store: Store,
    /// The folder of the store, for reading back.
    pub(crate) folder: PathBuf,
    pub(crate) capture: Bounds,
    pub(crate) judge: Judge,
    pub(crate) sandboxes: Sandboxes,
    /// Runtimes are told of the limits of their attempt.
    pub(crate) presets: bool,
    /// Which run, for the marks of processes.
    pub(crate) run: String,
    /// Marks of the attempts that this apm runs in, to stand before its own.
    pub(crate) marks: String,
}

/// An attempt being made.
pub(super) struct Attempt<'a> {
    pub(super) job: &'a Job,
    pub(super) context: &'a AttemptContext,
    pub(super) handle: &'a AttemptHandle,
    pub(super) owner: &'a dyn Owner,
}

/// Makes the attempt; blocks until it is over. A bug in here, in one of the many readers of outputs for instance, costs
/// this attempt and not the run, which would wait for it for ever.
pub(super) fn run(attempt: &Attempt<'_>) -> AttemptResult {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| make(attempt))).unwrap_or_else(|_| {
        attempt.handle.kill();
        let bug = "a bug in apm, please report it; standard error has the details".to_owned();
        AttemptResult::new(End::Broken(bug))
    })
}

fn make(attempt: &Attempt<'_>) -> AttemptResult {
    let Attempt { job, context, handle, owner } = attempt;
    let task = &job.task;
    let broken = |error: String| AttemptResult::new(End::Broken(error));
    let folder = context.commands.folder(task);
    let mut inputs_digest = String::new();
    if !task.inputs.is_empty() {
        match files::digest(&task.inputs, &folder) {
            Ok(digest) => inputs_digest = digest,
            Err(error) => return broken(error),
        }
    }
    let name = |what: &str| format!("t{}.{}.{what}", job.id.ix, job.id.attempt);
    let mut scratch = None;
    if task.check.as_ref().is_some_and(|check| check.writes_results) {
        match context.store.scratch(&name("results")) {
            Ok(path) => scratch = Some(path),
            Err(error) => return broken(format!("create a folder for its results: {error}")),
        }
    }
    let mut confined = None;
    if task.sandbox.effective() != SandboxMode::Off {
        let own = format!("{}.{}", job.id.ix, job.id.attempt);
        match context.sandboxes.prepare(task, &own, &folder, scratch.as_deref()) {
            Ok(prepared) => confined = Some(prepared),
            Err(error) => return broken(error),
        }
    }
    let mut stdout = Capture::new(context.capture);
    let mut stderr = Capture::new(context.capture);
    let executed = execute(attempt, scratch.as_deref(), confined.as_ref(), &mut |is_stderr, bytes| {
        let (capture, stream) = if is_stderr { (&mut stderr, "err") } else { (&mut stdout, "out") };
        capture.push(bytes, &context.store, || name(stream));
        owner.output(job.id, is_stderr, bytes);
        // It may have waited for its reader.
        handle.touch();
    });
    let mut result = match executed {
        Ok(executed) => AttemptResult {
            by_itself: executed.by_itself,
            usage: executed.usage,
            leaked: executed.leaked,
            oom_kills: executed.oom_kills,
            forks_refused: executed.forks_refused,
            notes: executed.notes,
            ..AttemptResult::exited(executed.exit)
        },
        Err(NotRun { error, busy: true }) => AttemptResult::new(End::Busy(error)),
        Err(NotRun { error, busy: false }) => broken(error),
    };
    result.inputs_digest = inputs_digest;
    for (capture, output) in [(stdout, &mut result.stdout), (stderr, &mut result.stderr)] {
        let (kept, lost) = capture.finish(&context.store);
        *output = kept;
        result.notes.extend(lost.map(|lost| format!("`{}`: {lost}", task.id)));
    }
    if let (Some(exit), Some(_)) = (result.exit, &task.check)
        && let Err(error) = judge(attempt, exit, scratch.as_deref(), &mut result)
    {
        result.end = End::Broken(error);
    }
    let is_good = matches!(&result.end, End::Judged(outcome) if outcome.is_good());
    if let Some(output) = files::missing(&task.outputs, &folder).filter(|_| is_good) {
        let cause = Cause::OutputMissing { output: output.into() };
        result.end = End::Judged(Outcome::Failed { cause });
    }
    if let Some(prepared) = confined {
        let (mut enforced, left) = prepared.finish();
        result.notes.extend(left.map(|left| format!("`{}`: {left}", task.id)));
        if matches!(&result.end, End::Judged(outcome) if !outcome.is_good()) {
            enforced.refused = refused(&context.folder, &result);
        }
        result.confinement = Some(Box::new(enforced));
    }
    result
}

/// Lines of an output in which the task says that an action was refused. The kernel tells nobody.
fn refused(folder: &Path, result: &AttemptResult) -> Vec<Raw> {
    let read = |output: &Output| store::read(folder, output.stored.as_ref()?, REFUSALS_READ_MAX).ok();
    let lines = [&result.stderr, &result.stdout].map(|output| sandbox::refusals(&read(output).unwrap_or_default()));
    lines.into_iter().find(|lines| !lines.is_empty()).unwrap_or_default().into_iter().map(Raw::from).collect()
}

fn execute(
    attempt: &Attempt<'_>,
    scratch: Option<&Path>,
    confined: Option<&Prepared<'_>>,
    on_output: &mut dyn FnMut(bool, &[u8]),
) -> Result<Executed, NotRun> {
    let Attempt { job, context, handle, .. } = attempt;
    let task = &job.task;
    let replaced: Vec<OsString>;
    let mut replaced_env: Vec<(&OsStr, OsString)> = Vec::new();
    let mut arguments = command::arguments(&task.run);
    if let Some(scratch) = scratch {
        let with = |argument: &OsStr| match argument.to_str() {
            Some(text) if text.contains(RESULTS) => text.replace(RESULTS, &scratch.to_string_lossy()).into(),
            _ => argument.to_owned(),
        };
        replaced = arguments.into_iter().map(with).collect();
        arguments = replaced.iter().map(OsString::as_os_str).collect();
        replaced_env = task.env.iter().map(|(name, value)| (name.as_os_str(), with(value.as_os_str()))).collect();
    }
    let slot = job.slot.map(|slot| slot.to_string()).unwrap_or_default();
    let number = job.id.attempt.to_string();
    let mark = handle.next_mark();
    let marks = format!("{}{mark}", context.marks);
    let mut env: Vec<(&OsStr, &OsStr)> = vec![
        (OsStr::new(process::MARKS), OsStr::new(&marks)),
        (OsStr::new("APM_TASK"), OsStr::new(task.id.as_str())),
        (OsStr::new("APM_SLOT"), OsStr::new(&slot)),
        (OsStr::new("APM_TRY"), OsStr::new(&number)),
    ];
    let presets = if context.presets { runtimes::presets(&task.limits) } else { Vec::new() };
    let unset = presets.iter().filter(|(name, _)| !context.commands.env.has(name));
    // What the plan says wins.
    let own = confined.iter().flat_map(|prepared| &prepared.variables);
    let own = own.filter(|(name, _)| !task.env.contains_key(&(*name).into()));
    env.extend(own.map(|(name, value)| (OsStr::new(*name), value.as_os_str())));
    env.extend(unset.map(|(name, value)| (OsStr::new(*name), OsStr::new(value))));
    if scratch.is_some() {
        env.extend(replaced_env.iter().map(|(name, value)| (*name, value.as_os_str())));
    } else {
        env.extend(task.env.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str())));
    }
    let invocation = Invocation { mark: &mark, arguments: &arguments, extra_env: &env, confined };
    command::execute(&context.commands, handle, task, &invocation, on_output)
}

/// Reads the results of a check from what it printed and wrote.
#[expect(clippy::disallowed_methods, reason = "own: the folder of the run")]
fn judge(attempt: &Attempt<'_>, exit: Exit, scratch: Option<&Path>, result: &mut AttemptResult) -> Result<(), String> {
    let Attempt { job, context, .. } = attempt;
    let read = |output: &Output| match &output.stored {
        Some(stored) => store::read(&context.folder, stored, JUDGED_MAX),
        None => Ok(Vec::new()),
    };
    let unread = |error: io::Error| format!("read its output back: {error}");
    let (stdout, stderr) = (read(&result.stdout).map_err(unread)?, read(&result.stderr).map_err(unread)?);
    let (outcome, results) = (context.judge)(&job.task, exit, &stdout, &stderr, scratch);
    result.counts = results.counts();
    // Half an output is no proof that nothing was found.
    let whole = |output: &Output| {
        !output.truncated && output.stored.as_ref().is_none_or(|stored| stored.len <= JUDGED_MAX as u64)
    };
    result.end = End::Judged(match outcome {
        good if good.is_good() && !(whole(&result.stdout) && whole(&result.stderr)) => Outcome::Broken {
            error: "its output could not be kept whole (`run.output_limit_mb`, or the disk is full)".into(),
        },
        outcome => outcome,
    });
    if !(results.tests.is_empty() && results.findings.is_empty()) {
        let json = serde_json::to_vec(&results).map_err(|error| format!("keep its results: {error}"))?;
        let stored = context.store.append(&json).map_err(|error| format!("keep its results: {error}"))?;
        result.results = Some(stored);
    }
    if let Some(scratch) = scratch {
        // What it holds is in the results now; a folder that stays goes with the run.
        let _ = std::fs::remove_dir_all(scratch);
    }
    Ok(())
}
