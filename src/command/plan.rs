//! `apm run FILE`: the tasks of a plan file.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use tokio::sync::mpsc;

use crate::cli::run::Options;
use crate::command::context::Context;
use crate::command::execute::{self, Work};
use crate::command::failure::{Exit, Failure};
use crate::command::input;
use crate::command::request::{self, Request};
use crate::engine::graph::{Graph, GraphError};
use crate::engine::plan::{Arrival, Source};
use crate::model::request::{PlanSource, Relay, RelayOrder};
use crate::workflow::planfile::{self, PlanFile};

/// Longest line of standard input.
const LINE_MAX: u64 = 64 << 20;
/// Lines read ahead of the run.
const LINES_WAITING: usize = 64;

/// `apm run FILE`
pub(crate) fn main(context: &Context, file: &Path, relay: bool, options: Options) -> Result<Exit, Failure> {
    let request = request::read(context, options)?;
    let name = file.display().to_string();
    let mut read_before = Vec::new();
    if file == Path::new("-") && !request.options.dry_run {
        let first = first_line(&mut read_before).context("read standard input").map_err(Failure::usage)?;
        if std::str::from_utf8(first).is_ok_and(planfile::starts_as_lines) {
            let source = stream(read_before, request.clone())?;
            let work = work(context, name, relay, PlanFile::default(), source, None);
            return execute::execute(context, request, work, None);
        }
    }
    let plan = read_checked(&context.environment.cwd, file, read_before, &request)?;
    // What cannot be read twice, such as `<(...)` of a shell, is not read again by a resume.
    let is_file = file != Path::new("-") && context.environment.cwd.join(file).is_file();
    let from = is_file.then(|| PlanSource { file: Some(file.to_owned().into()), ..PlanSource::default() });
    let work = work(context, name, relay, plan, Source::Fixed, from);
    execute::execute(context, request, work, None)
}

/// The tasks of a plan file that is relative to a folder.
pub(crate) fn read_checked(
    cwd: &Path,
    file: &Path,
    read_before: Vec<u8>,
    request: &Request,
) -> Result<PlanFile, Failure> {
    let name = file.display().to_string();
    let source = read(cwd, file, read_before)?;
    let plan = planfile::read(&name, &source, &request.rules()).map_err(Failure::usage)?;
    if let Err(error) = Graph::default().add(&plan.tasks, |_| false) {
        let message = error.to_string();
        return Err(Failure::usage(match error {
            GraphError::Cycle(circle) => plan.fault(&name, &source, &circle[0], message),
            GraphError::Duplicate(task) | GraphError::Missing { task, .. } => {
                plan.fault(&name, &source, &task, message)
            }
        }));
    }
    Ok(plan)
}

fn work(
    context: &Context,
    title: String,
    relay: bool,
    plan: PlanFile,
    source: Source,
    from: Option<PlanSource>,
) -> Work {
    Work {
        title,
        cwd: context.environment.cwd.clone(),
        root: execute::root_of(context),
        tasks: plan.tasks,
        resources: plan.resources,
        plan: from,
        independent: false,
        joblog: None,
        source,
        halt: None,
        relay: relay.then_some(Relay { order: RelayOrder::Grouped, tag: false }),
        sinks: Vec::new(),
        eta: false,
        silent: false,
        may_be_empty: false,
    }
}

/// Reads standard input up to the end of its first line that is not empty, byte by byte as it comes.
fn first_line(read: &mut Vec<u8>) -> std::io::Result<&[u8]> {
    let mut input = std::io::stdin().lock();
    loop {
        let start = read.len();
        let count = input.by_ref().take(LINE_MAX).read_until(b'\n', read)?;
        if count == 0 || read[start..].iter().any(|byte| !byte.is_ascii_whitespace()) {
            return Ok(&read[start..]);
        }
    }
}

/// Reads tasks from standard input, a line each, while the run goes on. A line that is no task is refused, and the next one
/// is read. The thread is not waited for: a read that blocks keeps nobody from leaving.
fn stream(read_before: Vec<u8>, request: Request) -> Result<Source, Failure> {
    let (sender, receiver) = mpsc::channel(LINES_WAITING);
    let queue_max = request.settings.queue_max;
    let reader = move || {
        let rules = request.rules();
        let mut lines = planfile::Lines::new("-", &rules);
        let mut input = std::io::Cursor::new(read_before).chain(BufReader::new(std::io::stdin()));
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = input.by_ref().take(LINE_MAX).read_until(b'\n', &mut line);
            let refused =
                |reason: String| Arrival::Refused { what: format!("line {number} of standard input"), reason };
            let arrival = match read {
                Ok(0) => return,
                Ok(_) => match std::str::from_utf8(&line).map(|text| lines.read(text, number)) {
                    Ok(Ok(tasks)) if tasks.is_empty() => continue,
                    Ok(Ok(mut tasks)) => {
                        tasks.iter_mut().for_each(|task| request.complete(task));
                        Arrival::Tasks(tasks)
                    }
                    Ok(Err(error)) => refused(error.in_one_line()),
                    Err(error) => refused(format!("not UTF-8: {error}")),
                },
                Err(error) => {
                    let _ = sender.blocking_send(refused(error.to_string()));
                    return;
                }
            };
            // Nobody takes them any more when the run was stopped.
            if sender.blocking_send(arrival).is_err() {
                return;
            }
        }
    };
    let started = std::thread::Builder::new().spawn(reader);
    started.context("start a thread (`ulimit -u` bounds them)").map_err(Failure::machine)?;
    Ok(Source::Stream { arrivals: receiver, queue_max })
}

/// The whole plan; of standard input a part may have been read already.
#[expect(clippy::disallowed_methods, reason = "named: a file on the command line")]
fn read(cwd: &Path, file: &Path, read_before: Vec<u8>) -> Result<String, Failure> {
    let shown = file.display();
    let result = if file == Path::new("-") {
        input::read(std::io::stdin(), read_before, input::PLAN)
    } else {
        let path: PathBuf = cwd.join(file);
        std::fs::File::open(path).and_then(|file| input::read(file, read_before, input::PLAN))
    };
    let bytes = result.map_err(|error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let is_large = error.kind() == std::io::ErrorKind::FileTooLarge;
        let failure = Failure::usage(anyhow::Error::new(error).context(format!("read the plan `{shown}`")));
        let word = file.to_string_lossy();
        let hint = crate::text::suggest::likely(&word, ["qa", "each", "list", "show"]).filter(|_| missing);
        match hint {
            Some(word) => failure.hint(format!("did you mean `apm run {word}`?")),
            None if is_large => {
                failure.hint("a plan of JSON lines on standard input (`apm run -`) may have any number of them")
            }
            None => failure,
        }
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        Failure::usage(anyhow!("{shown}:{line}: not UTF-8 (byte {:#04x})", error.as_bytes()[at]))
            .hint("a plan is text; names of files that are not UTF-8 go through `apm run each`")
    })
}
