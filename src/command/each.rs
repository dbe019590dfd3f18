//! `apm run each`: a command for each of many values. Values on the command line are a plan known before it starts;
//! standard input and `-a` are read at the pace the queue has room for, so that an endless input needs no endless memory.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context as _, anyhow};
use tokio::sync::mpsc;

use crate::cli::run::{Each, Format};
use crate::command::context::Context;
use crate::command::execute::{self, Work};
use crate::command::failure::{Exit, Failure};
use crate::command::request::{self, Request};
use crate::engine::plan::{Arrival, Source};
use crate::model::request::{Halt, HaltCount, HaltOn, PlanSource, Relay, RelayOrder, ValueFile};
use crate::model::task::Task;
use crate::model::unit::Percent;
use crate::report::dry_run;
use crate::sink::Sink;
use crate::sink::joblog::Joblog;
use crate::sink::sinks::FailurePolicy;
use crate::sys::output;
use crate::workflow::each::template::{self, Group, Template};
use crate::workflow::each::values::{self, Cut, Values};

/// Values of the command line beyond which they are not one plan but a source.
const FIXED_MAX: usize = 100_000;
/// Tasks handed over at once by a source.
const BATCH: usize = 64;
/// Batches that may wait between the reader and the queue.
const BATCHES: usize = 2;

/// `apm run each ...`
pub(crate) fn main(context: &Context, words: Each) -> Result<Exit, Failure> {
    let (command, groups) = template::separate(&words.command);
    let template = Template::new(command, words.shell).map_err(|error| {
        Failure::usage(error)
            .hint("for instance: `apm run each -- gzip -k {} ::: a.log b.log`, or values on standard input")
    })?;
    let template = template.tagged(words.tag);
    let halt = halt(&words.halt)?;
    words.colsep.as_deref().map_or(Ok(()), check_separator)?;
    let cut = Cut {
        null: words.null,
        colsep: words.colsep.as_deref().map(separator),
        max_args: words.max_args.unwrap_or(1),
        room: template.room(),
    };
    if words.max_args == Some(0) {
        return Err(Failure::usage(anyhow!("--max-args 0: at least one value goes into each command")));
    }
    let is_several = groups.len() > 1 || groups.iter().any(|(group, words)| group.from_files && words.len() > 1);
    if cut.max_args > 1 && is_several {
        return Err(Failure::usage(anyhow!(
            "--max-args {}: with several groups of values each command has one of each",
            cut.max_args
        )));
    }
    if groups.first().is_some_and(|(group, _)| group.linked) {
        return Err(Failure::usage(anyhow!("`:::+` and `::::+` link values with the group before, and there is none"))
            .hint("for instance `apm run each -- mv {1} {2} ::: a b :::+ c d`"));
    }
    if words.arg_file.is_some() && !groups.is_empty() {
        return Err(Failure::usage(anyhow!("values come from `:::` or from --arg-file, not from both")));
    }
    let request = request::read(context, words.options.clone())?;
    let title = format!("each {}", template::shown(command));
    let from_command_line = !groups.is_empty();
    let files = value_files(&words, &groups);
    let mut tasks = Tasks { values: source_of(context, &words, &groups, cut)?, template, sequence: 0, fault: None };
    if words.options.dry_run && words.options.format.is_none_or(|format| format == Format::Text) {
        return dry(context, &request, tasks);
    }

    let mut first = Vec::new();
    let mut over = false;
    let enough = if words.options.dry_run { usize::MAX } else { FIXED_MAX };
    while (from_command_line || words.options.dry_run) && !over && first.len() < enough {
        let more;
        (more, over) = tasks.take(BATCH).map_err(Failure::usage)?;
        first.extend(more);
    }
    let (source, fault) = if over || words.options.dry_run {
        (Source::Fixed, Arc::default())
    } else {
        let first = std::mem::take(&mut first);
        stream(first, tasks, request.clone())?
    };
    let mut sinks: Vec<(FailurePolicy, Box<dyn Sink>)> = Vec::new();
    if let Some(path) = words.joblog.as_deref().filter(|_| !words.options.dry_run) {
        sinks.push(joblog(path)?);
    }
    let work = Work {
        title,
        cwd: context.environment.cwd.clone(),
        root: execute::root_of(context),
        tasks: first,
        resources: std::collections::BTreeMap::new(),
        independent: !source.is_fixed(),
        plan: (!files.is_empty()).then(|| PlanSource { values: files, ..PlanSource::default() }),
        source,
        halt,
        relay: Some(relay(&words)),
        joblog: words.joblog.clone(),
        sinks,
        eta: words.eta,
        silent: true,
        may_be_empty: true,
    };
    let exit = execute::execute(context, request, work, None)?;
    let fault = fault.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(error) = fault {
        context.ui.say(&format!("apm: error: {error}\n  hint: what came before it was run, nothing after it\n"));
        return Ok(if exit == Exit::Good { Exit::Incomplete } else { exit });
    }
    Ok(exit)
}

/// Prints each task as its value is read: an endless input has no whole plan.
fn dry(context: &Context, request: &Request, mut tasks: Tasks) -> Result<Exit, Failure> {
    let layout = context.ui.stdout_layout();
    let mut over = false;
    while !over {
        let mut text = Vec::new();
        let mut more;
        (more, over) = tasks.take(BATCH).map_err(Failure::usage)?;
        for task in &mut more {
            request.complete(task);
            dry_run::one(task, &layout, &mut text).map_err(Failure::machine)?;
        }
        if over {
            dry_run::total(tasks.sequence, 0, &mut text).map_err(Failure::machine)?;
        }
        if !context.ui.result(&text).map_err(Failure::machine)? {
            break;
        }
    }
    Ok(Exit::Good)
}

/// The sink of `--joblog`. Fails now if the file cannot be created.
pub(crate) fn joblog(path: &Path) -> Result<(FailurePolicy, Box<dyn Sink>), Failure> {
    let joblog = output::make_folder_of(path)
        .and_then(|()| Joblog::create(path))
        .with_context(|| format!("create the job log `{}`", path.display()));
    Ok((FailurePolicy::Requested, Box::new(joblog.map_err(Failure::usage)?)))
}

/// When and how outputs are passed on.
pub(crate) fn relay(words: &Each) -> Relay {
    let order = match (words.keep_order, words.line_buffer) {
        (true, _) => RelayOrder::Kept,
        (_, true) => RelayOrder::Live,
        _ => RelayOrder::Grouped,
    };
    Relay { order, tag: words.tag }
}

/// The tasks of the values, one after the other.
struct Tasks {
    values: Values,
    template: Template,
    sequence: u64,
    /// Met behind tasks that were still good.
    fault: Option<anyhow::Error>,
}

impl Tasks {
    /// What can be had without waiting, at least one and at most so many; and whether that was all.
    fn take(&mut self, max: usize) -> anyhow::Result<(Vec<Task>, bool)> {
        let mut tasks = Vec::new();
        while tasks.is_empty() || (tasks.len() < max && self.values.is_at_hand()) {
            match self.one() {
                Ok(Some(task)) => tasks.push(task),
                Ok(None) => return Ok((tasks, true)),
                // What came before it is run first.
                Err(error) if !tasks.is_empty() => {
                    self.fault = Some(error);
                    return Ok((tasks, false));
                }
                Err(error) => return Err(error),
            }
        }
        Ok((tasks, false))
    }

    fn one(&mut self) -> anyhow::Result<Option<Task>> {
        if let Some(error) = self.fault.take() {
            return Err(error);
        }
        let Some(columns) = self.values.next()? else { return Ok(None) };
        let task = self.template.task(self.sequence + 1, &columns)?;
        self.sequence += 1;
        Ok(Some(task))
    }
}

/// What ended the reading of values before their end.
type Fault = Arc<Mutex<Option<String>>>;

/// Reads on in a thread of its own. A read that blocks keeps nobody from leaving: the thread is not waited for.
fn stream(first: Vec<Task>, mut tasks: Tasks, request: Request) -> Result<(Source, Fault), Failure> {
    let (sender, receiver) = mpsc::channel(BATCHES);
    let fault: Fault = Arc::default();
    let told = Arc::clone(&fault);
    let queue_max = request.settings.queue_max;
    let batch = BATCH.min(queue_max);
    let reader = move || {
        let mut next = first;
        let mut over = false;
        loop {
            next.iter_mut().for_each(|task| request.complete(task));
            for chunk in next.chunks(batch) {
                // Nobody takes them any more when the run was stopped.
                if sender.blocking_send(Arrival::Tasks(chunk.to_vec())).is_err() {
                    return;
                }
            }
            if over {
                return;
            }
            match tasks.take(batch) {
                Ok(more) => (next, over) = more,
                Err(error) => {
                    let error = format!("{error:#}");
                    (next, over) = (vec![Template::unread(tasks.sequence + 1, &error)], true);
                    *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                }
            }
        }
    };
    let started = std::thread::Builder::new().spawn(reader);
    started.context("start a thread (`ulimit -u` bounds them)").map_err(Failure::machine)?;
    Ok((Source::Stream { arrivals: receiver, queue_max }, fault))
}

/// The files from which values come, as they are now.
fn value_files(words: &Each, groups: &[(Group, &[OsString])]) -> Vec<ValueFile> {
    let of_groups = groups.iter().filter(|(group, _)| group.from_files).flat_map(|(_, files)| *files).map(Path::new);
    let named = of_groups.chain(words.arg_file.as_deref()).filter(|path| *path != Path::new("-"));
    named.filter_map(|path| value_file(path, path)).collect()
}

/// A regular file, found at `place` and named `path`; what else values come from cannot be read twice.
pub(crate) fn value_file(place: &Path, path: &Path) -> Option<ValueFile> {
    let meta = std::fs::metadata(place).ok().filter(std::fs::Metadata::is_file)?;
    let modified = meta.modified().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let modified_ns = u64::try_from(modified.as_nanos()).ok()?;
    Some(ValueFile { path: path.to_owned().into(), len: meta.len(), modified_ns })
}

#[expect(clippy::disallowed_methods, reason = "named: a file on the command line")]
fn source_of(context: &Context, words: &Each, groups: &[(Group, &[OsString])], cut: Cut) -> Result<Values, Failure> {
    let open = |path: &Path| -> Result<Box<dyn Read + Send>, Failure> {
        if path == Path::new("-") {
            return Ok(Box::new(io::stdin()));
        }
        // A folder can be opened, and not be read.
        let opened = File::open(path).and_then(|file| match file.metadata()?.is_dir() {
            true => Err(io::ErrorKind::IsADirectory.into()),
            false => Ok(file),
        });
        let file = opened.with_context(|| format!("read values from `{}`", path.display()));
        Ok(Box::new(file.map_err(Failure::usage)?))
    };
    if let Some(path) = &words.arg_file {
        return Ok(Values::stream(open(path)?, cut));
    }
    if groups.is_empty() {
        if io::stdin().is_terminal() && !context.ui.quiet() {
            context.ui.say(
                "apm: reads values from the terminal, one a line, until Ctrl-D; `::: VALUE ...` gives them directly\n",
            );
        }
        return Ok(Values::stream(open(Path::new("-"))?, cut));
    }
    let mut lists = Vec::new();
    for (group, items) in groups {
        if !group.from_files {
            lists.push((group.linked, items.iter().map(|word| word.as_bytes().to_vec()).collect()));
            continue;
        }
        // Each file is a group of its own.
        for path in *items {
            let path = Path::new(path);
            let list = values::all(BufReader::new(open(path)?), cut.null);
            let list = list.with_context(|| format!("`{}`", path.display())).map_err(Failure::usage)?;
            lists.push((group.linked, list));
        }
    }
    Ok(Values::product(lists, cut))
}

/// GNU parallel takes a regular expression: where one is given the columns would be wrong without a word.
fn check_separator(text: &str) -> Result<(), Failure> {
    let escapes = text.split('\\').skip(1).filter_map(|rest| rest.chars().next());
    let has_class = escapes.clone().any(|c| "sSdDwWbhv|.+*".contains(c));
    let has_set = text.split_once('[').is_some_and(|(_, rest)| rest.contains(']'));
    let mut last = text.chars().rev();
    let repeats = matches!((last.next(), last.next()), (Some('+' | '*'), Some(before)) if !matches!(before, '+' | '*'));
    if !(has_class || has_set || repeats) {
        return Ok(());
    }
    let error = anyhow!("--colsep {text}: it is the text between columns as it stands, not a regular expression");
    let hint =
        "`--colsep ,` or `--colsep '\\t'`; for runs of blanks: `tr -s ' ' < FILE | apm run each --colsep ' ' -- ...`";
    Err(Failure::usage(error).hint(hint))
}

/// The text between columns: `\t` and `\n` are written as in C.
fn separator(text: &str) -> Vec<u8> {
    text.replace("\\t", "\t").replace("\\n", "\n").into_bytes()
}

/// Reads `now,fail=1`, `soon,success=3`, `now,done=10%`, `never`; 0, 1 and 2 as GNU parallel's users know them.
pub(crate) fn halt(text: &str) -> Result<Option<Halt>, Failure> {
    let wrong = || {
        Failure::usage(anyhow!(
            "--halt {text}: expected `never`, or `now` or `soon`, a comma, and fail, success or done with `=N` or `=N%`"
        ))
        .hint("for instance `--halt now,fail=1`: stop what runs at the first failure")
    };
    let text = match text {
        "0" | "never" => return Ok(None),
        "1" => "soon,fail=1",
        "2" => "now,fail=1",
        text => text,
    };
    let (when, condition) = text.split_once(',').ok_or_else(wrong)?;
    let now = match when {
        "now" => true,
        "soon" => false,
        _ => return Err(wrong()),
    };
    let (on, count) = condition.split_once('=').unwrap_or((condition, "1"));
    let on = match on {
        "fail" => HaltOn::Fail,
        "success" => HaltOn::Success,
        "done" => HaltOn::Done,
        _ => return Err(wrong()),
    };
    let count = match count.strip_suffix('%') {
        Some(share) => {
            share.parse().ok().filter(|share| (0.0..=100.0).contains(share)).map(|s| HaltCount::Share(Percent(s)))
        }
        None => count.parse().ok().filter(|count| *count > 0).map(HaltCount::Number),
    };
    Ok(Some(Halt { now, on, count: count.ok_or_else(wrong)? }))
}

#[cfg(test)]
mod tests {
    use super::{check_separator, halt};
    use crate::model::request::{Halt, HaltCount, HaltOn};
    use crate::model::unit::Percent;

    #[test]
    fn a_separator_that_is_a_regular_expression_is_refused() {
        for text in [",", "\\t", "::", " - ", "|", "++", "+", "\\", "C:\\x", "]["] {
            assert!(check_separator(text).is_ok(), "{text}");
        }
        for text in [r"\s+", " +", "[, ]", r"\|", r"\t+", ",*"] {
            assert!(check_separator(text).is_err(), "{text}");
        }
    }

    #[test]
    fn halt_is_read_as_gnu_parallel_reads_it() {
        let good = |text: &str| halt(text).unwrap_or_else(|failure| panic!("{text}: {}", failure.render()));
        assert_eq!(good("never"), None);
        assert_eq!(good("2"), Some(Halt { now: true, on: HaltOn::Fail, count: HaltCount::Number(1) }));
        let soon = Halt { now: false, on: HaltOn::Success, count: HaltCount::Share(Percent(20.0)) };
        assert_eq!(good("soon,success=20%"), Some(soon));
        for bad in ["", "now", "later,fail=1", "now,fail=0", "now,fail=x", "now,flop=1", "now,fail=101%"] {
            assert!(halt(bad).is_err(), "{bad}");
        }
    }
}
