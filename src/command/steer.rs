//! `apm run cancel`, `pause`, `unpause`, `set` and `add`: change a run that goes on. And what its tasks wait for.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use serde_json::json;

use crate::cli::run::{Add, Format, ListFormat, Set, Show, Steer};
use crate::command::context::Context;
use crate::command::failure::{Exit, Failure};
use crate::command::recorded::{Elsewhere, find, say_skipped, started, summary_of};
use crate::command::{input, place, request};
use crate::control::client::{AskError, ControlClient};
use crate::control::protocol::{ControlReply, ControlRequest};
use crate::journal::folder::{State, journal_of};
use crate::model::edit::Edit;
use crate::model::id::{RunId, TaskId};
use crate::model::task::{MEMORY, SLOTS};
use crate::model::unit::Bytes;
use crate::model::waiting::WaitingTask;
use crate::text::layout::{Style, pad};
use crate::text::{escape, number, suggest, transcript};
use crate::workflow::planfile;

/// `apm run cancel`
pub(crate) fn cancel(context: &Context, words: Steer) -> Result<Exit, Failure> {
    steer(context, words, "cancelled", |tasks| match tasks {
        Some(tasks) => Edit::Cancel { tasks },
        None => Edit::CancelRun {},
    })
}

/// `apm run pause`
pub(crate) fn pause(context: &Context, words: Steer) -> Result<Exit, Failure> {
    steer(context, words, "paused", |tasks| match tasks {
        Some(tasks) => Edit::Pause { tasks },
        None => Edit::PauseRun {},
    })
}

/// `apm run unpause`
pub(crate) fn unpause(context: &Context, words: Steer) -> Result<Exit, Failure> {
    steer(context, words, "unpaused", |tasks| match tasks {
        Some(tasks) => Edit::Unpause { tasks },
        None => Edit::UnpauseRun {},
    })
}

fn steer(
    context: &Context,
    words: Steer,
    verb: &str,
    edit: impl FnOnce(Option<Vec<TaskId>>) -> Edit,
) -> Result<Exit, Failure> {
    let target = Target::find(context, words.run.as_deref(), words.format)?;
    let what = match &words.tasks[..] {
        [] => "the run is".to_owned(),
        [task] => format!("`{task}` is"),
        tasks => format!("{} are", number::count(tasks.len() as u64, "task")),
    };
    let tasks: Vec<TaskId> = words.tasks.iter().map(|name| task_id(name)).collect::<Result<_, _>>()?;
    let edit = edit((!tasks.is_empty()).then_some(tasks));
    target.ask(context, vec![(ControlRequest::Edit { edit }, format!("{what} {verb}"))])
}

/// `apm run set`
pub(crate) fn set(context: &Context, words: Set) -> Result<Exit, Failure> {
    let mut changes = Vec::new();
    let mut change = |edit: Edit, done: String| changes.push((ControlRequest::Edit { edit }, done));
    if let Some(size) = &words.memory {
        let size = Bytes::parse(size).context("--memory").map_err(Failure::usage)?;
        let edit = Edit::Resize { resource: MEMORY.to_owned(), to: size.0 };
        change(edit, format!("the memory ceiling of the run is {size}"));
    }
    for text in &words.resource {
        let (name, to) = pair("--resource", text, "db=2")?;
        let edit = Edit::Resize { resource: name.to_owned(), to };
        change(edit, format!("the capacity of `{name}` is {to}"));
    }
    for text in &words.priority {
        let (name, priority) = pair("--priority", text, "deploy=5")?;
        let edit = Edit::Prioritise { task: task_id(name)?, priority };
        change(edit, format!("the priority of `{name}` is {priority}"));
    }
    // Last: more agents start tasks at once, and they go by the new priorities.
    if let Some(agents) = words.agents {
        let edit = Edit::Resize { resource: SLOTS.to_owned(), to: u64::from(agents) };
        change(edit, format!("{} at once from now on", number::count(u64::from(agents), "task")));
    }
    Target::find(context, words.run.as_deref(), words.format)?.ask(context, changes)
}

/// `apm run add`
#[expect(clippy::disallowed_methods, reason = "named: a file on the command line")]
pub(crate) fn add(context: &Context, words: Add) -> Result<Exit, Failure> {
    let (run, file): (Option<&OsString>, &OsString) = match &words.words[..] {
        [run, file] => (Some(run), file),
        [file] => (None, file),
        _ => return Err(Failure::usage(anyhow!("expected a plan file")).hint("`apm help run add`")),
    };
    let run = run.map(|run| run.to_string_lossy());
    let target = Target::find(context, run.as_deref(), words.format)?;
    let mut rules = request::read(context, Default::default())?.rules();
    rules.resources = target.resources();
    rules.open_needs = true;
    let name = file.to_string_lossy();
    let read = if file == "-" {
        input::read(std::io::stdin(), Vec::new(), input::PLAN)
    } else {
        let path = context.environment.cwd.join(Path::new(file));
        std::fs::File::open(path).and_then(|file| input::read(file, Vec::new(), input::PLAN))
    };
    let text = read.and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other));
    let text = text.with_context(|| format!("read the plan `{name}`")).map_err(Failure::usage)?;
    let plan = planfile::read(&name, &text, &rules).map_err(Failure::usage)?;
    let count = number::count(plan.tasks.len() as u64, "task");
    target.ask(context, vec![(ControlRequest::Add { tasks: plan.tasks }, format!("{count} added"))])
}

/// `apm run show RUN --waiting`
pub(crate) fn waiting(context: &Context, words: &Show) -> Result<Exit, Failure> {
    let state = place::recorded(context)?;
    let id = find(context, &state, &words.run, Elsewhere::Shown)?;
    let told = if state.is_alive(&id) {
        match ControlClient::connect(&state.path_of(&id)).and_then(|mut client| client.ask(ControlRequest::Waiting {}))
        {
            Ok(ControlReply::Waiting { tasks }) => tasks,
            Ok(_) => return Err(Failure::machine(anyhow!("run {id} gave an answer to another question"))),
            // It has ended since, or belongs to an apm that does not listen.
            Err(AskError::NobodyListens) => recorded_waiting(context, &state, &id)?,
            Err(error) => return Err(unreachable(&id, &error)),
        }
    } else {
        recorded_waiting(context, &state, &id)?
    };
    let layout = context.ui.stdout_layout();
    let mut text = String::new();
    match words.format {
        Format::Json => {
            let value = json!({"version": 1, "run": id.as_str(), "tasks": told});
            text = escape::json(&serde_json::to_string_pretty(&value).map_err(Failure::machine)?) + "\n";
        }
        Format::Text => {
            let width = told.iter().map(|one| one.task.as_str().chars().count()).max().unwrap_or(0).min(40);
            for WaitingTask { task, state, reason } in &told {
                let name = pad(&layout.cut(task.as_str(), width), width);
                let _ = writeln!(
                    text,
                    "{name}  {}  {}",
                    pad(state, 8),
                    layout.paint(Style::Dim, &transcript::line(reason))
                );
            }
            if told.is_empty() {
                context.ui.say(&format!("apm: no task of run {id} is unfinished\n"));
            }
        }
        other => {
            return Err(Failure::usage(anyhow!("--waiting prints text or json, not {}", other.as_str())));
        }
    }
    context.ui.print(&text).map_err(Failure::machine)?;
    Ok(Exit::Good)
}

/// What the record of a run that does not go on tells: what had not ended.
fn recorded_waiting(context: &Context, state: &State, id: &RunId) -> Result<Vec<WaitingTask>, Failure> {
    let path = journal_of(&state.path_of(id));
    let (report, skipped) = summary_of(&path, false)
        .with_context(|| format!("read the journal `{}`", path.display()))
        .map_err(Failure::machine)?;
    say_skipped(context, id, &skipped);
    let open = |name: &TaskId| report.rows().any(|row| row.task.id == *name && row.outcome.is_none());
    let told = report.rows().filter(|row| row.outcome.is_none()).map(|row| {
        let needs: Vec<String> =
            row.task.needs.iter().filter(|need| open(need)).map(|need| format!("`{need}`")).collect();
        let (word, reason) = match (row.is_running(), needs.is_empty()) {
            (true, _) => ("stopped", "it ran when the run broke off".to_owned()),
            (false, true) => ("stopped", "the run broke off before it started".to_owned()),
            (false, false) => ("waiting", format!("needed {} when the run broke off", needs.join(", "))),
        };
        WaitingTask { task: row.task.id.clone(), state: word.to_owned(), reason }
    });
    Ok(told.collect())
}

/// A run that goes on.
struct Target {
    state: State,
    id: RunId,
    format: ListFormat,
}

impl Target {
    fn find(context: &Context, name: Option<&str>, format: ListFormat) -> Result<Self, Failure> {
        let state = place::recorded(context)?;
        let listed = || format!("list the runs in `{}`", state.root().display());
        let living = state.living().with_context(listed).map_err(Failure::machine)?;
        let id = match (name, &living[..]) {
            (Some(name), _) => find(context, &state, name, Elsewhere::Refused)?,
            (None, [(id, _)]) => id.clone(),
            (None, []) => return Err(Failure::nothing("no run goes on").hint("`apm run list` lists the recorded runs")),
            (None, several) => {
                let names: Vec<&str> = several.iter().map(|(id, _)| id.as_str()).collect();
                let error = anyhow!("{} runs go on: {}", several.len(), names.join(", "));
                return Err(Failure::usage(error).hint("name one of them"));
            }
        };
        if !state.is_alive(&id) {
            let failure = Failure::nothing(format!("run {id} does not go on"));
            return Err(failure
                .hint(format!("`apm run show {id}` shows how it ended, `apm run --resume {id}` goes on with it")));
        }
        Ok(Self { state, id, format })
    }

    /// The resources that tasks of the run may use.
    fn resources(&self) -> std::collections::BTreeMap<String, u64> {
        started(&self.state, &self.id).map(|started| started.resources).unwrap_or_default()
    }

    /// Asks for each change in turn; the first that is refused ends it.
    fn ask(&self, context: &Context, changes: Vec<(ControlRequest, String)>) -> Result<Exit, Failure> {
        let mut client =
            ControlClient::connect(&self.state.path_of(&self.id)).map_err(|error| unreachable(&self.id, &error))?;
        for (request, done) in changes {
            let names = names_in(&request);
            match client.ask(request) {
                Ok(_) if self.format == ListFormat::Json => {
                    self.print(context, &json!({"version": 1, "run": self.id.as_str(), "done": true, "text": done}))?;
                }
                Ok(_) => context.ui.say(&format!("apm: run {}: {done}\n", self.id)),
                Err(AskError::Refused(reason)) => {
                    if self.format == ListFormat::Json {
                        self.print(
                            context,
                            &json!({"version": 1, "run": self.id.as_str(), "done": false, "reason": reason}),
                        )?;
                        return Ok(Exit::Usage);
                    }
                    let failure = Failure::usage(anyhow!("run {} refuses: {}", self.id, transcript::line(&reason)));
                    return Err(match self.likely(&names) {
                        Some(likely) => failure.hint(format!("did you mean `{likely}`?")),
                        None => {
                            failure.hint(format!("`apm run show {} --waiting` names its unfinished tasks", self.id))
                        }
                    });
                }
                // It has ended before it took the request.
                Err(AskError::Silent(_)) if !self.state.is_alive(&self.id) => {
                    return Err(Failure::nothing(format!("run {} has just ended", self.id)));
                }
                Err(error) => return Err(unreachable(&self.id, &error)),
            }
        }
        Ok(Exit::Good)
    }

    fn print(&self, context: &Context, value: &serde_json::Value) -> Result<(), Failure> {
        let text = escape::json(&serde_json::to_string(value).map_err(Failure::machine)?) + "\n";
        context.ui.print(&text).map(drop).map_err(Failure::machine)
    }

    /// A task that goes on and is called almost like one of these.
    fn likely(&self, names: &[TaskId]) -> Option<String> {
        let mut client = ControlClient::connect(&self.state.path_of(&self.id)).ok()?;
        let Ok(ControlReply::Waiting { tasks }) = client.ask(ControlRequest::Waiting {}) else { return None };
        let known: Vec<&str> = tasks.iter().map(|one| one.task.as_str()).collect();
        let unknown = names.iter().find(|name| !known.contains(&name.as_str()))?;
        suggest::likely(unknown.as_str(), known.iter().copied()).map(str::to_owned)
    }
}

fn names_in(request: &ControlRequest) -> Vec<TaskId> {
    match request {
        ControlRequest::Edit { edit: Edit::Cancel { tasks } | Edit::Pause { tasks } | Edit::Unpause { tasks } } => {
            tasks.clone()
        }
        ControlRequest::Edit { edit: Edit::Prioritise { task, .. } } => vec![task.clone()],
        _ => Vec::new(),
    }
}

fn unreachable(id: &RunId, error: &AskError) -> Failure {
    Failure::machine(anyhow!("run {id} cannot be reached: {error}"))
        .hint("only the user who started it can steer it, with the apm that runs it")
}

fn task_id(name: &str) -> Result<TaskId, Failure> {
    TaskId::new(name).with_context(|| format!("task `{name}`")).map_err(Failure::usage)
}

fn pair<'a, N: std::str::FromStr>(flag: &str, text: &'a str, example: &str) -> Result<(&'a str, N), Failure> {
    let split = text.rsplit_once('=').and_then(|(name, number)| Some((name, number.trim().parse().ok()?)));
    split.filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
        Failure::usage(anyhow!("{flag} {text}: expected a name, `=` and a whole number"))
            .hint(format!("for instance `{flag} {example}`"))
    })
}
