//! `apm run watch`: follows a run from its journal, and the output of a task from the run itself.

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use crate::cli::run::{Watch, WatchFormat};
use crate::command::context::Context;
use crate::command::failure::{Exit, Failure};
use crate::command::place;
use crate::command::recorded::{Elsewhere, find, print_stored, say_skipped};
use crate::control::client::ControlClient;
use crate::control::protocol::{ControlReply, ControlRequest};
use crate::executor::store;
use crate::journal::folder::{State, journal_of};
use crate::journal::follow::Follower;
use crate::model::event::{AttemptFinished, Envelope, Event, Next, Stored};
use crate::model::id::{RunId, TaskId};
use crate::model::outcome::Outcome;
use crate::report::run::RunReport;
use crate::report::text;
use crate::sink::Sink;
use crate::sink::log::{Detail, Log};
use crate::sink::progress::Progress;
use crate::text::escape;

/// Between two looks at the journal: as often as a display is drawn.
const POLL: Duration = Duration::from_millis(100);
/// A run that has written its end may be about to go on: so long is waited for that.
const SETTLE: Duration = Duration::from_millis(500);

/// `apm run watch`
pub(crate) fn main(context: &Context, words: &Watch) -> Result<Exit, Failure> {
    let state = place::recorded(context)?;
    let id = find(context, &state, &words.run, Elsewhere::Shown)?;
    let path = journal_of(&state.path_of(&id));
    let opened = Follower::open(&path).with_context(|| format!("open the journal `{}`", path.display()));
    let followed = Followed { state, id, journal: opened.map_err(Failure::machine)?, ended: None };
    match (&words.output, words.format) {
        (Some(task), _) => follow_output(context, followed, task),
        (None, WatchFormat::Ndjson) => follow_events(context, followed),
        (None, WatchFormat::Text) => follow_run(context, followed),
    }
}

/// A run that is followed.
struct Followed {
    state: State,
    id: RunId,
    journal: Follower,
    /// Since when its last event is its end.
    ended: Option<Instant>,
}

/// What comes next.
enum News {
    Event(Box<Envelope>),
    /// Nothing for now.
    None,
    /// Nothing will come any more: the run has ended, or its apm has.
    Over,
}

impl Followed {
    fn next(&mut self) -> Result<News, Failure> {
        if let Some(event) = self.read()? {
            return Ok(News::Event(event));
        }
        if self.state.is_alive(&self.id) {
            let is_settled = self.ended.is_some_and(|at| at.elapsed() >= SETTLE);
            return Ok(if is_settled { News::Over } else { News::None });
        }
        // What its apm wrote between the two looks, before it ended.
        Ok(self.read()?.map_or(News::Over, News::Event))
    }

    fn read(&mut self) -> Result<Option<Box<Envelope>>, Failure> {
        let read = self.journal.next().with_context(|| format!("follow run {}", self.id)).map_err(Failure::machine)?;
        if let Some(envelope) = &read {
            self.ended = matches!(envelope.event, Event::RunFinished(_)).then(Instant::now);
        }
        Ok(read.map(Box::new))
    }
}

/// The display that the terminal of the run has, and in the end its summary and its exit code.
fn follow_run(context: &Context, mut followed: Followed) -> Result<Exit, Failure> {
    let detail = match (context.global.verbose, context.ui.quiet()) {
        (true, _) => Detail::All,
        (false, true) => Detail::Failures,
        (false, false) => Detail::Ends,
    };
    let mut display: Option<Box<dyn Sink>> = if context.ui.quiet() {
        None
    } else if context.ui.draws() && !context.global.verbose {
        Some(Box::new(Progress::new(detail, false)))
    } else {
        Some(Box::new(Log::new(detail)))
    };
    let mut report = RunReport::default();
    report.is_alive = true;
    let nothing = |_: &Stored, _: usize| Vec::new();
    // What happened before is counted and not shown again.
    let mut is_past = true;
    loop {
        match followed.next()? {
            News::Event(envelope) => {
                report.apply(&envelope);
                let served = display.as_mut().map_or(Ok(()), |display| {
                    if is_past { display.replay(&envelope, &nothing) } else { display.event(&envelope, &nothing) }
                });
                if served.is_err() {
                    // Nobody looks any more.
                    display = None;
                }
            }
            News::None => {
                is_past = false;
                if display.as_mut().is_some_and(|display| display.tick().is_err()) {
                    display = None;
                }
                std::thread::sleep(POLL);
            }
            News::Over => break,
        }
    }
    if let Some(mut display) = display {
        // A display that cannot be cleared is no loss.
        let _ = display.finish(&nothing);
    }
    report.is_alive = false;
    say_skipped(context, &followed.id, &followed.journal.skipped);
    let folder = followed.state.path_of(&followed.id);
    let read = move |stored: &Stored, max: usize| store::read(&folder, stored, max).unwrap_or_default();
    let is_silent =
        report.started.as_ref().and_then(|started| started.request.as_ref()).is_some_and(|request| request.silent);
    if !is_silent {
        let mut summary = Vec::new();
        text::write(&report, &read, &context.ui.stdout_layout(), &mut summary).map_err(Failure::machine)?;
        context.ui.result(&summary).map_err(Failure::machine)?;
    }
    Ok(exit_of(context, &followed.id, &report))
}

/// The exit code of the run; 3 for one that broke off.
fn exit_of(context: &Context, id: &RunId, report: &RunReport) -> Exit {
    match report.exit_code {
        Some(0) => Exit::Good,
        Some(1) => Exit::Failures,
        Some(4) => Exit::Nothing,
        Some(5) => Exit::Early,
        Some(code) if code > 128 => Exit::Command(code),
        Some(_) => Exit::Incomplete,
        None => {
            context.ui.say(&format!("apm: run {id} broke off; `apm run --resume {id}` goes on\n"));
            Exit::Incomplete
        }
    }
}

/// The events as they are in the journal.
fn follow_events(context: &Context, mut followed: Followed) -> Result<Exit, Failure> {
    let mut report = RunReport::default();
    loop {
        match followed.next()? {
            News::Event(envelope) => {
                report.apply(&envelope);
                let line = escape::json(&serde_json::to_string(&*envelope).map_err(Failure::machine)?) + "\n";
                if !context.ui.print(&line).map_err(Failure::machine)? {
                    return Ok(Exit::Good);
                }
            }
            News::None => std::thread::sleep(POLL),
            News::Over => {
                say_skipped(context, &followed.id, &followed.journal.skipped);
                return Ok(exit_of(context, &followed.id, &report));
            }
        }
    }
}

/// The output of a task: of a running attempt from the run, of one that has ended from where it is stored.
fn follow_output(context: &Context, mut followed: Followed, name: &str) -> Result<Exit, Failure> {
    let exit = follow_output_of(context, &mut followed, name);
    say_skipped(context, &followed.id, &followed.journal.skipped);
    exit
}

fn follow_output_of(context: &Context, followed: &mut Followed, name: &str) -> Result<Exit, Failure> {
    let task = TaskId::new(name).with_context(|| format!("task `{name}`")).map_err(Failure::usage)?;
    let folder = followed.state.path_of(&followed.id);
    let mut client = None;
    let mut is_known = false;
    let mut attempt = 0;
    let mut printed = [0u64; 2];
    loop {
        match followed.next()? {
            News::Event(envelope) => match &envelope.event {
                Event::TasksAdded { tasks, .. } => is_known |= tasks.iter().any(|one| one.id == task),
                Event::AttemptStarted { task: of, attempt: number, .. } if *of == task => {
                    (attempt, printed) = (*number, [0; 2]);
                    if attempt > 1 {
                        context.ui.say(&format!("apm: `{task}`, attempt {attempt}\n"));
                    }
                }
                Event::AttemptFinished(finished) if finished.task == task => {
                    if !print_rest(context, &folder, finished, printed)? {
                        return Ok(Exit::Good);
                    }
                    if let Next::Done { outcome } = &finished.next {
                        return Ok(said(context, &task, outcome));
                    }
                }
                Event::TaskEnded { task: of, outcome } if *of == task => return Ok(said(context, &task, outcome)),
                _ => {}
            },
            News::None if !is_known => {
                return Err(Failure::usage(anyhow!("run {} has no task `{task}`", followed.id))
                    .hint(format!("`apm run show {} --waiting` names its unfinished tasks", followed.id)));
            }
            News::None => {
                if client.is_none() {
                    client = ControlClient::connect(&folder).ok();
                }
                let request = ControlRequest::Output { task: task.clone(), from: printed };
                let answer = client.as_mut().map(|client| client.ask(request));
                match answer {
                    Some(Ok(ControlReply::Output { attempt: Some(number), streams }))
                        if number == attempt && !print_pieces(context, &streams, &mut printed)? =>
                    {
                        return Ok(Exit::Good);
                    }
                    Some(Err(_)) => client = None,
                    _ => {}
                }
                std::thread::sleep(POLL);
            }
            News::Over => {
                let id = &followed.id;
                return Err(if is_known {
                    Failure::machine(anyhow!("run {id} broke off before `{task}` ended"))
                        .hint(format!("`apm run --resume {id}` goes on"))
                } else {
                    Failure::usage(anyhow!("run {id} has no task `{task}`"))
                        .hint(format!("`apm run show {id} --format json` names all"))
                });
            }
        }
    }
}

fn said(context: &Context, task: &TaskId, outcome: &Outcome) -> Exit {
    context.ui.say(&format!("apm: `{task}`: {}\n", text::explain(outcome)));
    if outcome.is_good() { Exit::Good } else { Exit::Failures }
}

/// Prints pieces of both streams. False: nobody reads any more.
fn print_pieces(
    context: &Context,
    pieces: &[crate::control::protocol::StreamPiece],
    printed: &mut [u64; 2],
) -> Result<bool, Failure> {
    for (stream, piece) in pieces.iter().take(2).enumerate() {
        let bytes = std::os::unix::ffi::OsStrExt::as_bytes(piece.bytes.as_os_str());
        if piece.offset > printed[stream] {
            let lost = piece.offset - printed[stream];
            context.ui.say(&format!(
                "\napm: {lost} bytes came faster than they are followed; `apm run show` has them in the end\n"
            ));
        }
        printed[stream] = piece.offset + bytes.len() as u64;
        if stream == 1 {
            context.ui.say_bytes(bytes);
        } else if !bytes.is_empty() && !context.ui.result(bytes).map_err(Failure::machine)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Prints what an attempt that has ended wrote after what was printed already. False: nobody reads any more.
fn print_rest(
    context: &Context,
    folder: &std::path::Path,
    finished: &AttemptFinished,
    printed: [u64; 2],
) -> Result<bool, Failure> {
    for (output, from, to_stderr) in [(&finished.stdout, printed[0], false), (&finished.stderr, printed[1], true)] {
        let Some(stored) = &output.stored else { continue };
        if !print_stored(context, folder, stored, from, to_stderr)? {
            return Ok(false);
        }
    }
    Ok(true)
}
