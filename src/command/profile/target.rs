//! What is profiled: a command that apm starts beside itself, or processes that are there.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use super::beside::AHEAD;
use super::recorders::Recorders;
use crate::command::context::Context;
use crate::command::failure::{Exit, Failure};
use crate::executor::local::process as local;
use crate::model::event;
use crate::profile::record::existing::{self, THREADS_MAX};
use crate::profile::record::sampler;
use crate::sys::gate::Gate;
use crate::sys::priority::{self, Who};
use crate::sys::signal::{self, Arrived, Held};
use crate::sys::spawn::{self, Command, Environment};
use crate::sys::stage::Stage;
use crate::sys::{limits, process};

/// Between two looks at signals while nothing is recorded.
const LOOK: Duration = Duration::from_millis(50);
/// Looks at the threads of a process until no new one appears: those that are started meanwhile.
const LOOKS_MAX: usize = 8;

/// What is profiled.
pub(super) enum Target {
    Command(Started),
    Processes { pid: u32, pidfd: OwnedFd, pids: Vec<u32>, tids: Vec<u32> },
}

/// A command behind its gate, or past it.
pub(super) struct Started {
    pid: u32,
    /// Readable at its end.
    end: OwnedFd,
    gate: Gate,
    /// Until its failure was asked for.
    stage: Option<Stage>,
    words: Vec<OsString>,
    /// A signal asked for the end.
    asked: bool,
}

/// Why the recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// What is profiled has ended.
    Itself,
    TimeIsUp,
    Signal,
}

/// How a command ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Status {
    pub(super) exit: Exit,
    pub(super) cpu: Duration,
}

impl Target {
    /// Starts a command up to the gate.
    pub(super) fn start(
        context: &Context,
        words: &[OsString],
        extra: &[(&'static str, OsString)],
    ) -> Result<Self, Failure> {
        let environment = &context.environment;
        let name = words.first().ok_or_else(|| Failure::usage(anyhow!("no command to profile")))?;
        let program = local::search(name, &environment.path(), &environment.cwd).ok_or_else(|| {
            let shown = name.to_string_lossy();
            let path = environment.cwd.join(name);
            let error = match name.as_encoded_bytes().contains(&b'/') {
                false => anyhow!("program `{shown}` not found in PATH"),
                true if path.is_dir() => anyhow!("`{shown}` is a folder"),
                true if path.exists() => anyhow!("`{shown}` is not executable (`chmod +x {shown}`)"),
                true => anyhow!("there is no `{shown}`"),
            };
            let error = Failure::usage(error);
            if name.as_encoded_bytes().contains(&b' ') {
                error.hint("a command line with spaces needs a shell: `-- sh -c '...'`")
            } else {
                error
            }
        })?;
        let gate = Gate::closed().context("make the gate of the command").map_err(Failure::machine)?;
        let stage = Stage::new(gate.path()).context("make the stage of the command").map_err(Failure::machine)?;
        let env = Environment::new(environment.variables.iter().cloned());
        let argv: Vec<&OsStr> = words.iter().map(OsString::as_os_str).collect();
        let argv = stage.argv(program.as_os_str(), &argv);
        let extra: Vec<(&OsStr, &OsStr)> =
            extra.iter().map(|(name, value)| (OsStr::new(*name), value.as_os_str())).collect();
        let command = Command {
            program: stage.program(),
            argv: &argv,
            env: &env,
            extra_env: &extra,
            cwd: None,
            pipe_size: None,
            also: Some(stage.descriptor()),
            joins: &[],
            confinement: None,
        };
        let started = || format!("start `{}`", name.to_string_lossy());
        let child = spawn::spawn_beside(&command).with_context(started).map_err(Failure::machine)?;
        let (pid, end) = (child.pid as u32, child.end);
        Ok(Self::Command(Started { pid, end, gate, stage: Some(stage), words: words.to_vec(), asked: false }))
    }

    /// Finds a process, what it has started, and all their threads.
    pub(super) fn attach(pid: u32, with_children: bool) -> Result<Self, Failure> {
        let gone = || Failure::usage(anyhow!("there is no process {pid}"));
        let number = i32::try_from(pid).ok().filter(|pid| *pid > 0).ok_or_else(gone)?;
        let pidfd = spawn::pidfd_open(number).map_err(|error| match error {
            error if spawn::has_no_pidfds(&error) => Failure::machine(anyhow!(error).context("follow a process"))
                .hint("`--pid` needs `pidfd_open` (Linux 5.3 or later, and no seccomp filter that refuses it)"),
            _ => gone(),
        })?;
        // Where this is refused the opening of events will say what it means.
        let _ = limits::raise_files();
        let mut tids: Vec<u32> = Vec::new();
        let mut pids = Vec::new();
        for _ in 0..LOOKS_MAX {
            pids = existing::tree(pid, with_children);
            let now: Vec<u32> = pids.iter().flat_map(|pid| existing::threads(*pid)).map(|task| task.tid).collect();
            let is_same = now == tids;
            tids = now;
            if is_same {
                break;
            }
        }
        if tids.is_empty() {
            return Err(gone());
        }
        if tids.len() > THREADS_MAX {
            let error = anyhow!(
                "process {pid} and what it has started have {} threads; {THREADS_MAX} can be followed",
                tids.len()
            );
            return Err(Failure::usage(error).hint("`--no-children`"));
        }
        Ok(Self::Processes { pid, pidfd, pids, tids })
    }

    /// Looks again for processes and threads; says whether there are some that were not there before. What a thread starts
    /// before its own event is open is in nobody's.
    pub(super) fn has_grown(&mut self, with_children: bool) -> bool {
        let Self::Processes { pid, pids, tids, .. } = self else { return false };
        let now = existing::tree(*pid, with_children);
        let threads: Vec<u32> = now.iter().flat_map(|pid| existing::threads(*pid)).map(|task| task.tid).collect();
        let has_grown = threads.len() <= THREADS_MAX && threads.iter().any(|tid| !tids.contains(tid));
        if has_grown {
            (*pids, *tids) = (now, threads);
        }
        has_grown
    }

    /// Whose events to open.
    pub(super) fn whom(&self) -> sampler::Target<'_> {
        match self {
            Self::Command(started) => sampler::Target::Starting(started.pid),
            Self::Processes { tids, .. } => sampler::Target::Running(tids),
        }
    }

    /// For people.
    pub(super) fn title(&self) -> String {
        match self {
            Self::Command(started) => {
                started.words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
            }
            Self::Processes { pid, .. } => {
                let name = existing::threads(*pid).first().map(|task| String::from_utf8_lossy(&task.name).into_owned());
                name.map_or_else(|| format!("pid {pid}"), |name| format!("{name} (pid {pid})"))
            }
        }
    }

    /// Its process, or the first of them.
    pub(super) fn pid(&self) -> u32 {
        match self {
            Self::Command(started) => started.pid,
            Self::Processes { pid, .. } => *pid,
        }
    }

    /// Lets it run, with its events open.
    pub(super) fn go(&mut self, recorders: &mut Recorders) -> Result<(), Failure> {
        match self {
            Self::Command(started) => started.gate.open().context("open the gate of the command"),
            Self::Processes { pids, .. } => {
                recorders.sessions().try_for_each(|session| session.attach(pids)).context("enable the events")
            }
        }
        .map_err(|error| {
            self.abandon();
            Failure::machine(error)
        })
    }

    /// Ends a command that is behind its gate.
    pub(super) fn abandon(&mut self) {
        if let Self::Command(started) = self {
            let _ = signal::to_child(started.pid as i32, signal::KILL);
            let _ = spawn::wait(started.pid as i32);
        }
    }

    /// Records until the end, a signal, or for so long.
    pub(super) fn record(&mut self, recorders: &mut Recorders, held: &Held, duration: Option<Duration>) -> Ended {
        let end = duration.map(|duration| Instant::now() + duration);
        let fd = match self {
            Self::Command(started) => started.end.as_raw_fd(),
            Self::Processes { pidfd, .. } => pidfd.as_raw_fd(),
        };
        // Ahead of what it watches, which is started already: with 1,000 busy children apm would come too late to its
        // rings (half of the samples were lost). Where that is not allowed nothing changes.
        let usual = priority::nice().ok().filter(|_| priority::set_nice(Who::Thread, AHEAD).is_ok());
        let why = loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                break Ended::TimeIsUp;
            }
            let wait = recorders.interval().min(left.unwrap_or(Duration::MAX));
            let has_ended = spawn::poll([Some(fd)], Some(wait)).is_ok_and(|[ended]| ended);
            recorders.round();
            if has_ended {
                break Ended::Itself;
            }
            if let Some(arrived) = held.next() {
                self.pass_on(arrived);
                break Ended::Signal;
            }
        };
        recorders.stop();
        if let Some(level) = usual {
            // Going back down is always allowed.
            let _ = priority::set_nice(Who::Thread, level);
        }
        why
    }

    /// A signal for apm is one for the command. A terminal has sent it to the command itself; the second time it is not
    /// asked any more.
    fn pass_on(&mut self, arrived: Arrived) {
        let Self::Command(started) = self else { return };
        let send = match (started.asked, arrived.is_from_terminal) {
            (true, _) => Some(signal::KILL),
            (false, true) => None,
            (false, false) => Some(arrived.signal),
        };
        started.asked = true;
        if let Some(send) = send {
            // Gone already: that is what was wanted.
            let _ = signal::to_child(started.pid as i32, send);
        }
    }

    /// Waits for a command, whose end is in the result; there is none for processes that are somebody else's.
    pub(super) fn wait(&mut self, held: &Held) -> Result<Option<Status>, Failure> {
        loop {
            let Self::Command(started) = self else { return Ok(None) };
            let fd = started.end.as_raw_fd();
            if spawn::poll([Some(fd)], Some(LOOK)).is_ok_and(|[ended]| ended) || process::has_ended(started.pid as i32)
            {
                break;
            }
            if let Some(arrived) = held.next() {
                self.pass_on(arrived);
            }
        }
        let Self::Command(started) = self else { return Ok(None) };
        let (exit, usage) =
            spawn::wait(started.pid as i32).context("wait for the command").map_err(Failure::machine)?;
        if let Some(error) = started.stage.take().and_then(Stage::failure) {
            let name = started.words.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            // It was found before it was executed.
            let why = match error.raw_os_error() {
                Some(libc::ENOENT) => Some("its interpreter (the `#!` line or the loader) does not exist"),
                Some(libc::ENOEXEC) => {
                    Some("it is neither a binary of this machine nor a script that starts with `#!`")
                }
                _ => None,
            };
            let failure = Failure::usage(anyhow::Error::new(error).context(format!("start `{name}`")));
            return Err(match why {
                Some(why) => failure.hint(why),
                None => failure,
            });
        }
        let exit = match exit {
            event::Exit::Code(0) => Exit::Good,
            event::Exit::Code(code) => Exit::Command(code),
            event::Exit::Signal(signal) => Exit::Signal(signal),
        };
        Ok(Some(Status { exit, cpu: usage.user + usage.system }))
    }
}
