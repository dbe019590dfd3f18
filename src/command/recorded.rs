//! Recorded runs: list, show, render again, go on with. And what a run inside another leaves for the outer one.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Parser;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cli::run::{Format, List, ListFormat, Options, Show, What};
use crate::cli::{Cli, Command};
use crate::command::failure::{Exit, Failure};
use crate::command::request::{self, Given};
use crate::command::run::{self, Earlier, Work};
use crate::command::{Context, each, output, place};
use crate::engine::dispatch::Source;
use crate::engine::schedule::Halt;
use crate::executor::{files, store};
use crate::journal::folder::{FindError, State, journal_of};
use crate::journal::read::{self, Recorded};
use crate::journal::resume::{self, Outstanding};
use crate::model::event::{Event, NoteLevel, Parent, RunStarted, Stored};
use crate::model::id::{RunId, TaskId};
use crate::report::run::RunReport;
use crate::report::text;
use crate::sink::relay::Order;
use crate::text::layout::{Layout, Style, pad};
use crate::text::suggest;

/// Bytes of an output copied at once.
const CHUNK: u64 = 1 << 20;

/// `apm run list`
pub(crate) fn list(context: &Context, words: &List) -> Result<Exit, Failure> {
    let state = state(context)?;
    let ids = state.list().with_context(|| format!("list `{}`", state.root().display())).map_err(Failure::machine)?;
    let layout = context.ui.stdout_layout();
    let mut out = String::new();
    let mut rows = Vec::new();
    for id in ids.iter().take(words.limit) {
        let recorded = read::read(&journal_of(&state.path_of(id)));
        let alive = state.is_alive(id);
        match recorded {
            Ok(recorded) => {
                let report = report_of(&recorded, alive);
                let title = report.started.as_ref().map_or_else(String::new, |started| started.title.clone());
                let state_word = match (alive, report.exit_code) {
                    (true, _) => "running",
                    (false, Some(_)) => "ended",
                    (false, None) => "broke off",
                };
                let verdict = text::verdict(&report, &layout);
                let line = format!("{}  {}  {verdict}", pad(id.as_str(), 22), pad(&layout.cut(&title, 24), 24));
                let _ = writeln!(out, "{}", line.trim_end());
                rows.push(json!({
                    "run": id.as_str(), "title": title, "state": state_word, "exit_code": report.exit_code,
                    "started_at": report.at.map(|at| at.to_string()), "tasks": report.rows.len(),
                    "duration_us": report.elapsed.as_micros() as u64,
                    "verdict": text::verdict(&report, &Layout::PLAIN),
                }));
            }
            Err(error) => {
                let _ = writeln!(out, "{}  {}", pad(id.as_str(), 22), layout.paint(Style::Bad, &error.to_string()));
                rows.push(json!({"run": id.as_str(), "state": "unreadable", "error": error.to_string()}));
            }
        }
    }
    match words.format {
        ListFormat::Json => {
            out = serde_json::to_string_pretty(&json!({"version": 1, "runs": rows})).map_err(Failure::machine)?;
            out.push('\n');
        }
        ListFormat::Text if ids.is_empty() => {
            context.ui.say(&format!("apm: no run is recorded in `{}`\n", state.root().display()));
        }
        ListFormat::Text if ids.len() > words.limit => {
            let _ = writeln!(out, "... and {} older; `-n N` shows more", ids.len() - words.limit);
        }
        ListFormat::Text => {}
    }
    context.ui.result(out.as_bytes()).map_err(Failure::machine)?;
    Ok(Exit::Good)
}

/// `apm run show`
pub(crate) fn show(context: &Context, words: &Show) -> Result<Exit, Failure> {
    let state = state(context)?;
    let id = find(&state, &words.run)?;
    match &words.task {
        Some(task) => show_task(context, &state, &id, task),
        None => render(context, &state, &id, words.format, &output::parse(&words.output)?),
    }
}

/// `apm run --replay`
pub(crate) fn replay(context: &Context, name: &str, options: &Options) -> Result<Exit, Failure> {
    let state = state(context)?;
    let id = find(&state, name)?;
    render(context, &state, &id, options.format.unwrap_or(Format::Text), &output::parse(&options.output)?)
}

/// `apm run --resume`
pub(crate) fn resume(context: &Context, name: &str, options: Options) -> Result<Exit, Failure> {
    if options.no_journal {
        return Err(Failure::usage(anyhow!("--resume goes on with a recorded run, --no-journal keeps no record")));
    }
    let state = state(context)?;
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
        place::sweep(&id, &mut notes);
        Some(folder)
    };
    let recorded = journal(&state, &id)?;
    let Outstanding { started, mut tasks, done, closed, invalidated } = {
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
    let Original { before, halt, relay, joblog, eta } = original(&started)?;
    let halt = halt.filter(|_| !options.fail_fast);
    let now = Given::of(&context.global, options)?;
    let given = match before {
        Some(before) => before.then(&cwd, now),
        None => now,
    };
    let mut request = request::read_given(context, given)?;
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
    let joblog = joblog.filter(|_| folder.is_some()).map(|path| each::joblog(&cwd.join(path))).transpose()?;
    let Recorded { envelopes, good_len, next_seq, .. } = recorded;
    let earlier = Earlier { envelopes, good_len, next_seq, done, invalidated };
    let is_each = started.title.starts_with("each ");
    let work = Work {
        title: started.title,
        cwd,
        root: started.root.as_path().to_owned(),
        tasks,
        source: Source::Fixed,
        halt,
        relay,
        sinks: joblog.into_iter().collect(),
        eta,
        silent: is_each,
        may_be_empty: true,
    };
    run::execute(context, request, work, folder.map(|folder| (folder, earlier)))
}

/// What the command line of a recorded run asked for.
#[derive(Default)]
struct Original {
    before: Option<Given>,
    halt: Option<Halt>,
    relay: Option<(Order, bool)>,
    joblog: Option<PathBuf>,
    eta: bool,
}

/// Reads the command line of a run again. One that this apm does not understand any more asks for nothing.
fn original(started: &RunStarted) -> Result<Original, Failure> {
    let mut original = Original::default();
    let Ok(Cli { global, command: Command::Run(words) }) =
        Cli::try_parse_from(started.argv.iter().map(|word| word.as_os_str()))
    else {
        return Ok(original);
    };
    let options = match words.what {
        Some(What::Each(each)) => {
            original.halt = each::halt(&each.halt)?;
            original.relay = Some(each::relay(&each));
            original.eta = each.eta;
            original.joblog = each.joblog;
            each.options
        }
        Some(What::Qa(qa)) => qa.options,
        _ => {
            original.relay = words.relay.then_some((Order::Grouped, false));
            words.options
        }
    };
    original.before = Some(Given::of(&global, options)?);
    Ok(original)
}

fn state(context: &Context) -> Result<State, Failure> {
    let dir = context.environment.state_dir().context("find the state directory").map_err(Failure::machine)?;
    Ok(State::existing(&dir))
}

fn find(state: &State, name: &str) -> Result<RunId, Failure> {
    state.find(name).map_err(|error| {
        let failure = match &error {
            FindError::Io(_) => Failure::machine(error),
            FindError::Empty(_) => Failure::nothing(error),
            FindError::Unknown(_) | FindError::Ambiguous(..) => Failure::usage(error),
        };
        failure.hint("`apm run list` lists the recorded runs")
    })
}

fn journal(state: &State, id: &RunId) -> Result<Recorded, Failure> {
    let path = journal_of(&state.path_of(id));
    read::read(&path).with_context(|| format!("read the journal `{}`", path.display())).map_err(Failure::machine)
}

fn report_of(recorded: &Recorded, is_alive: bool) -> RunReport {
    let mut report = RunReport::default();
    report.is_alive = is_alive;
    recorded.envelopes.iter().for_each(|envelope| report.apply(envelope));
    report
}

fn reader(folder: PathBuf) -> impl Fn(&Stored, usize) -> Vec<u8> {
    // What is gone is shown as nothing; the digest in the event tells.
    move |stored, max| store::read(&folder, stored, max).unwrap_or_default()
}

fn render(
    context: &Context,
    state: &State,
    id: &RunId,
    format: Format,
    wanted: &[output::Wanted],
) -> Result<Exit, Failure> {
    let recorded = journal(state, id)?;
    let report = report_of(&recorded, state.is_alive(id));
    let read = reader(state.path_of(id));
    if report.is_alive {
        context.ui.say(&format!("apm: run {id} is still running; this is what is known so far\n"));
    } else if report.started.is_none() {
        context.ui.say(&format!("apm: run {id} broke off before anything of it was recorded\n"));
    } else if report.exit_code.is_none() {
        context.ui.say(&format!("apm: run {id} broke off; `apm run --resume {id}` goes on\n"));
    }
    for one in wanted {
        let mut sink = output::file(one)?;
        let finished = recorded
            .envelopes
            .iter()
            .try_for_each(|envelope| sink.event(envelope, &read))
            .and_then(|()| sink.finish(&read));
        finished.with_context(|| sink.name()).map_err(Failure::machine)?;
    }
    let mut text = Vec::new();
    if format == Format::Ndjson {
        for envelope in &recorded.envelopes {
            serde_json::to_writer(&mut text, envelope).map_err(Failure::machine)?;
            text.push(b'\n');
        }
    } else {
        output::render(format, &report, &read, &context.ui.stdout_layout(), &mut text).map_err(Failure::machine)?;
    }
    context.ui.result(&text).map_err(Failure::machine)?;
    Ok(Exit::Good)
}

/// What a task printed, as it printed it: standard output to standard output, the other to the other.
fn show_task(context: &Context, state: &State, id: &RunId, name: &str) -> Result<Exit, Failure> {
    let report = report_of(&journal(state, id)?, state.is_alive(id));
    let row = TaskId::new(name).ok().and_then(|task| report.find(&task)).ok_or_else(|| {
        let likely = suggest::likely(name, report.rows.iter().map(|row| row.task.id.as_str()));
        let failure = Failure::usage(anyhow!("run {id} has no task `{name}`"));
        match likely {
            Some(likely) => failure.hint(format!("did you mean `{likely}`?")),
            None => failure.hint(format!("`apm run show {id} --format json` names all")),
        }
    })?;
    let Some(finished) = row.last_finished() else {
        context.ui.say(&format!("apm: `{name}` has printed nothing: {}\n", row.word()));
        return Ok(Exit::Good);
    };
    let explanation = text::explain(&finished.outcome);
    context.ui.say(&format!("apm: `{name}`, attempt {}: {explanation}\n", finished.attempt));
    let folder = state.path_of(id);
    for (stream, to_stderr) in [(&finished.stdout, false), (&finished.stderr, true)] {
        let Some(stored) = &stream.stored else { continue };
        let mut offset = 0;
        while offset < stored.len {
            let part =
                Stored { offset: stored.offset + offset, len: (stored.len - offset).min(CHUNK), ..stored.clone() };
            let bytes = store::read(&folder, &part, CHUNK as usize)
                .with_context(|| format!("read `{}`", folder.join(&stored.file).display()))
                .map_err(Failure::machine)?;
            if bytes.is_empty() {
                break;
            }
            offset += bytes.len() as u64;
            if to_stderr {
                context.ui.say_bytes(&bytes);
            } else if !context.ui.result(&bytes).map_err(Failure::machine)? {
                return Ok(Exit::Good);
            }
        }
        if stream.truncated {
            context.ui.say(&format!("apm: {} bytes were written, {} kept\n", stream.bytes, stored.len));
        }
    }
    Ok(Exit::Good)
}

/// A run inside a task of another, as the outer one finds it.
#[derive(Serialize, Deserialize)]
struct Child {
    task: TaskId,
    run: RunId,
    exit_code: i32,
}

/// Leaves word for the run this one was started in.
pub(crate) fn tell_parent(state: &State, parent: &Parent, run: &RunId, exit_code: i32) {
    let folder = state.path_of(&parent.run);
    if !folder.is_dir() {
        // It keeps its record elsewhere, or none.
        return;
    }
    let child = Child { task: parent.task.clone(), run: run.clone(), exit_code };
    let write = || -> std::io::Result<()> {
        let folder = folder.join("children");
        std::fs::create_dir_all(&folder)?;
        let mut file = std::fs::File::create(folder.join(format!("{run}.json")))?;
        file.write_all(&serde_json::to_vec(&child)?)
    };
    // The outer report lacks a line then; the exit code of the task says the same.
    let _ = write();
}

/// The runs that left word in the folder of a run, oldest first.
pub(crate) fn children(folder: &Path) -> Vec<Event> {
    let Ok(entries) = std::fs::read_dir(folder.join("children")) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort_unstable();
    paths
        .iter()
        .filter_map(|path| serde_json::from_slice::<Child>(&std::fs::read(path).ok()?).ok())
        .map(|Child { task, run, exit_code }| Event::ChildRun { task, run, exit_code })
        .collect()
}
