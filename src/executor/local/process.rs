//! Runs one attempt as a process tree on this machine: starts it, takes its output, waits for its end, ends what it
//! leaves behind. Knows nothing of plans, retries or other attempts.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::executor::local::handle::{AttemptHandle, end_members, lock};
use crate::executor::sandbox::Prepared;
use crate::model::event::{Exit, Usage};
use crate::model::task::{Run, Task};
use crate::model::unit::{Bytes, whole_micros};
use crate::sys::priority::{self, Who};
use crate::sys::process;
use crate::sys::spawn::{self, Child, Command, Environment};
use crate::sys::{cgroup, signal};

/// After the end of the main process: how long members of its group may live on before they count as left behind, and
/// its output stay open. A pipeline's members end within a few milliseconds of each other.
const LEAK_WAIT: Duration = Duration::from_millis(100);
/// Largest pipe: the largest buffer that can be configured.
const PIPE_MAX: usize = 16 << 20;
/// Between two looks at whether that time has come.
const LOOK: Duration = Duration::from_secs(1);

/// What all commands of a run share.
#[derive(Debug)]
pub(crate) struct CommandContext {
    /// The environment of apm, with the marks of the run.
    pub(crate) env: Environment,
    /// PATH, for finding programs.
    pub(crate) path: OsString,
    /// Where the run was started.
    pub(crate) cwd: PathBuf,
    /// Which is not where apm is: a run that is resumed from another folder.
    pub(crate) elsewhere: bool,
    /// Size of a read, and of the pipes where it is larger than the kernel's default.
    pub(crate) buffer: usize,
    pub(crate) cgroups: cgroup::Cgroups,
    programs: Mutex<HashMap<OsString, PathBuf>>,
}

/// What came of running a command.
#[derive(Debug)]
pub(crate) struct Executed {
    pub(crate) exit: Exit,
    /// Nobody told it to end before it did.
    pub(crate) by_itself: bool,
    pub(crate) usage: Usage,
    pub(crate) leaked: u32,
    pub(crate) oom_kills: u64,
    pub(crate) forks_refused: u64,
    pub(crate) notes: Vec<String>,
}

/// Why a command could not be run.
#[derive(Debug)]
pub(crate) struct NotRun {
    pub(crate) error: String,
    /// Only now: no process or no memory is to be had before something ends.
    pub(crate) busy: bool,
}

impl From<String> for NotRun {
    fn from(error: String) -> Self {
        Self { error, busy: false }
    }
}

/// Receives output: whether it is standard error, and the bytes.
pub(crate) type OnOutput<'a> = &'a mut dyn FnMut(bool, &[u8]);

impl CommandContext {
    /// Nothing has been looked up yet.
    pub(crate) fn new(
        env: Environment,
        path: OsString,
        (cwd, elsewhere): (PathBuf, bool),
        buffer: usize,
        cgroups: cgroup::Cgroups,
    ) -> Self {
        Self { env, path, cwd, elsewhere, buffer, cgroups, programs: Mutex::default() }
    }

    /// Finds a program as execvp would; remembers the answer for names without a slash, and believes those with one.
    pub(crate) fn find(&self, program: &OsStr, path: Option<&OsStr>, cwd: &Path) -> Option<PathBuf> {
        match path {
            Some(path) => search(program, path, cwd),
            // A name with a slash means something else in every folder. Whether it is there exec says.
            None if program.as_bytes().contains(&b'/') => Some(cwd.join(program)),
            None => {
                let mut programs = lock(&self.programs);
                if let Some(known) = programs.get(program) {
                    return Some(known.clone());
                }
                // Only what is there is remembered: an earlier task may install the rest.
                let found = search(program, &self.path, cwd)?;
                programs.insert(program.to_owned(), found.clone());
                Some(found)
            }
        }
    }

    /// The folder a task runs in.
    pub(crate) fn folder(&self, task: &Task) -> PathBuf {
        task.cwd.as_ref().map_or_else(|| self.cwd.clone(), |cwd| self.cwd.join(cwd.as_path()))
    }
}

/// A command of a task.
pub(crate) struct Invocation<'a> {
    /// The last of the marks in its environment.
    pub(crate) mark: &'a str,
    pub(crate) arguments: &'a [&'a OsStr],
    /// Added to the environment, or replacing what is there.
    pub(crate) extra_env: &'a [(&'a OsStr, &'a OsStr)],
    /// How it is confined, where that is asked for.
    pub(crate) confined: Option<&'a Prepared<'a>>,
}

/// Runs a command to its end.
///
/// Not on the main thread: children of that are orphans that came to apm (`process::orphans`), and would be reaped as such.
pub(crate) fn execute(
    context: &CommandContext,
    handle: &AttemptHandle,
    task: &Task,
    invocation: &Invocation<'_>,
    on_output: OnOutput<'_>,
) -> Result<Executed, NotRun> {
    let Invocation { mark, arguments, extra_env, confined } = *invocation;
    assert!(!process::is_main_thread(), "commands are started by other threads than the main one");
    let started = Instant::now();
    let folder = context.folder(task);
    let Some(name) = arguments.first() else { return Err("the command is empty".to_owned().into()) };
    let path = extra_env.iter().find(|(name, _)| *name == "PATH").map(|(_, value)| *value);
    let program = context.find(name, path, &folder).ok_or_else(|| not_found(name, &folder))?;

    let mut notes = Vec::new();
    let group = match context.cgroups.attempt(handle.mark(), &task.limits) {
        Ok(group) => group,
        Err(error) => {
            notes.push(format!("`{}` runs without its control group: {error}", task.id));
            None
        }
    };
    let busy = |error: &io::Error| matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM));
    let not_run = |error: io::Error| NotRun { error: not_started(name, &folder, &error), busy: busy(&error) };
    let start = || {
        let joins = group.as_ref().map(cgroup::Group::joins).transpose()?.unwrap_or_default();
        spawn::spawn(&Command {
            program: &program,
            argv: arguments,
            env: confined.map_or(&context.env, |prepared| prepared.environment),
            extra_env,
            cwd: (task.cwd.is_some() || context.elsewhere).then_some(folder.as_path()),
            pipe_size: (context.buffer > 64 << 10).then_some(context.buffer),
            also: None,
            joins: &joins,
            confinement: confined.map(|prepared| &prepared.confinement),
        })
    };
    let child = start().map_err(|error| {
        // One that stays is removed with that of the run.
        let _ = group.as_ref().map(cgroup::Group::remove);
        match search(name, path.unwrap_or(&context.path), &folder) {
            Some(_) => not_run(error),
            None => not_found(name, &folder).into(),
        }
    })?;
    let pid = child.pid;
    set_priorities(task, pid, &mut notes);
    handle.running(pid, group);

    let mut streams = [Some(child.stdout.as_raw_fd()), Some(child.stderr.as_raw_fd())];
    match take_output(context, handle, &child, &mut streams, on_output) {
        Ok(true) => {}
        Ok(false) => {
            handle.ended();
            return Err(format!("process {pid} does not end, even by SIGKILL; it is left to the kernel").into());
        }
        Err(error) => {
            handle.kill();
            handle.ended();
            reap(pid)?;
            return Err(format!("take its output: {error}").into());
        }
    }
    // From here on nobody signals its number: once it is waited for, the number may be somebody else's.
    drop(child.writers);
    let (group, told) = handle.ended();
    let (exit, rusage) = reap(pid)?;
    let mut leaked = end_left_behind(pid, mark);
    if let Some(group) = &group {
        leaked += group.kill();
    }
    finish_output(context, handle, streams, on_output);
    let mut usage = Usage {
        wall: whole_micros(started.elapsed()),
        user: rusage.user,
        system: rusage.system,
        memory_peak: Bytes(rusage.memory_peak),
        processes_peak: 0,
    };
    let (mut oom_kills, mut forks_refused) = (0, 0);
    if let Some(group) = group {
        if let Some(peak) = group.memory_peak() {
            usage.memory_peak = peak;
        }
        oom_kills = group.oom_kills();
        forks_refused = group.forks_refused();
        if let Err(error) = group.remove() {
            notes.push(format!("the control group of `{}` is still there: {error}", task.id));
        }
    }
    Ok(Executed { exit, by_itself: !told, usage, leaked, oom_kills, forks_refused, notes })
}

/// Finds a program as execvp would.
pub(crate) fn search(program: &OsStr, path: &OsStr, cwd: &Path) -> Option<PathBuf> {
    let runnable = |path: PathBuf| {
        let meta = std::fs::metadata(&path).ok()?;
        (meta.is_file() && meta.permissions().mode() & 0o111 != 0).then_some(path)
    };
    if program.as_bytes().contains(&b'/') {
        return runnable(cwd.join(program));
    }
    std::env::split_paths(path).find_map(|dir| runnable(cwd.join(dir).join(program)))
}

fn reap(pid: i32) -> Result<(Exit, spawn::Rusage), String> {
    spawn::wait(pid).map_err(|error| format!("wait for process {pid}: {error}"))
}

fn not_found(name: &OsStr, folder: &Path) -> String {
    let name = name.to_string_lossy();
    if name.contains('/') {
        format!("`{name}` is not an executable file (looked from `{}`)", folder.display())
    } else if name.contains(char::is_whitespace) {
        format!("there is no program named `{name}`; a command line with spaces needs a shell (`--shell`, or `shell:`)")
    } else {
        format!("program `{name}` not found in PATH")
    }
}

fn not_started(name: &OsStr, folder: &Path, error: &io::Error) -> String {
    if !folder.is_dir() {
        let what = if folder.exists() { "is no folder" } else { "does not exist" };
        return format!("the folder `{}` {what}", folder.display());
    }
    let why = match error.raw_os_error() {
        Some(libc::E2BIG) => "its arguments and environment are longer than the kernel accepts".to_owned(),
        Some(libc::ENOEXEC) => "it is neither a binary of this machine nor a script that starts with `#!`".to_owned(),
        Some(libc::EAGAIN) => "no more processes may be started (`ulimit -u`, or pids.max of a group)".to_owned(),
        Some(libc::EMFILE) => "apm may not open more files; use a smaller `-j` or raise `ulimit -n`".to_owned(),
        Some(libc::ENOENT) => "its interpreter (the `#!` line or the loader) does not exist".to_owned(),
        _ => error.to_string(),
    };
    format!("start `{}`: {why}", name.to_string_lossy())
}

/// Nice level and I/O priority of one task; those of the whole run are inherited from the thread.
fn set_priorities(task: &Task, pid: i32, notes: &mut Vec<String>) {
    let mut note = |what: &str, result: io::Result<()>| {
        // A process that has already ended needs none.
        if let Err(error) = result.or_else(|e| if e.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(e) }) {
            notes.push(format!("`{}` runs without its {what}: {error}", task.id));
        }
    };
    if let Some(level) = task.limits.nice {
        note("nice level", priority::set_nice(Who::Group(pid), level));
    }
    if let Some(io_priority) = task.limits.io_priority {
        note("I/O priority", priority::set_io(Who::Group(pid), io_priority));
    }
}

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The read buffer of a thread, kept from one attempt to the next: filling 64 KiB with zeros for each would cost more
/// than the read.
struct Buffer(Vec<u8>);

impl Buffer {
    fn take(len: usize) -> Self {
        let mut buffer = BUFFER.take();
        buffer.resize(len, 0);
        Self(buffer)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        BUFFER.set(std::mem::take(&mut self.0));
    }
}

/// Takes output until the process has ended. False: it will not end.
fn take_output(
    context: &CommandContext,
    handle: &AttemptHandle,
    child: &Child,
    streams: &mut [Option<RawFd>; 2],
    on_output: OnOutput<'_>,
) -> io::Result<bool> {
    let mut buffer = Buffer::take(context.buffer);
    loop {
        let ready = spawn::poll([streams[0], streams[1], Some(child.end.as_raw_fd())], Some(LOOK))?;
        for at in 0..2 {
            if ready[at] {
                read_once(handle, &mut streams[at], at == 1, &mut buffer.0, on_output)?;
            }
        }
        if ready[2] {
            return Ok(true);
        }
        if ready == [false; 3] && handle.is_unkillable() {
            return Ok(false);
        }
    }
}

/// Reads once; at its end the stream is gone.
fn read_once(
    handle: &AttemptHandle,
    stream: &mut Option<RawFd>,
    stderr: bool,
    buffer: &mut [u8],
    on_output: OnOutput<'_>,
) -> io::Result<()> {
    let Some(fd) = *stream else { return Ok(()) };
    let count = spawn::read(fd, buffer)?;
    if count == 0 {
        *stream = None;
    } else {
        handle.touch();
        on_output(stderr, &buffer[..count]);
    }
    Ok(())
}

/// After the end of the process: ends what it left behind. Short-lived members of a pipeline get a moment.
fn end_left_behind(pid: i32, mark: &str) -> u32 {
    // While the group has members its number cannot be given to another process.
    let in_group = || signal::to_group(pid, 0).unwrap_or(false);
    // One that has ended is a member of its group until somebody takes it out of the process table: by now that is us.
    let orphaned = || {
        let orphans = process::orphans();
        orphans.into_iter().any(|orphan| !process::reap(orphan) && process::has_marker(orphan, mark))
    };
    let end = Instant::now() + LEAK_WAIT;
    while orphaned() || in_group() {
        if Instant::now() >= end {
            return end_members(pid, mark);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    0
}

/// Takes what is still in the pipes: all that is there, however long that takes. Nobody of the tree is left to write,
/// but somebody else may hold them: for a stream that has nothing to read the wait is bounded.
fn finish_output(
    context: &CommandContext,
    handle: &AttemptHandle,
    mut streams: [Option<RawFd>; 2],
    on_output: OnOutput<'_>,
) {
    if streams == [None; 2] {
        return;
    }
    let mut buffer = Buffer::take(context.buffer);
    let mut patience = LEAK_WAIT;
    for (at, stream) in streams.iter_mut().enumerate() {
        let mut taken = 0;
        // More than a pipe holds comes only from a writer that lives on.
        while stream.is_some() && taken <= PIPE_MAX {
            let waiting = Instant::now();
            let ready = spawn::poll([*stream], Some(patience)).is_ok_and(|[ready]| ready);
            patience = patience.saturating_sub(waiting.elapsed());
            let mut count = |is_stderr: bool, bytes: &[u8]| {
                taken += bytes.len();
                on_output(is_stderr, bytes);
            };
            // An error here ends the reading as the end of the stream would.
            if !ready || read_once(handle, stream, at == 1, &mut buffer.0, &mut count).is_err() {
                break;
            }
        }
    }
}

/// The arguments to execute for a task: the program and its arguments, the shell and its script.
pub(crate) fn arguments(run: &Run) -> Vec<&OsStr> {
    match run {
        Run::Argv(words) => words.iter().map(|word| word.as_os_str()).collect(),
        Run::Script { shell, script } => {
            shell.iter().map(|word| word.as_os_str()).chain([script.as_os_str()]).collect()
        }
        Run::Step(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use super::{CommandContext, Invocation, execute};
    use crate::executor::local::handle::AttemptHandle;
    use crate::model::event::Exit;
    use crate::model::id::TaskId;
    use crate::model::task::{Run, Task};
    use crate::sys::cgroup::Cgroups;
    use crate::sys::process;
    use crate::sys::spawn::Environment;

    fn context() -> CommandContext {
        let path = "/usr/bin:/bin";
        let env = Environment::new([("PATH".into(), path.into())]);
        CommandContext::new(env, path.into(), (PathBuf::from("/"), false), 4096, Cgroups::none("a test"))
    }

    fn run(context: &CommandContext, handle: &AttemptHandle, script: &str) -> Exit {
        let task = Task::new(TaskId::new("t").expect("an id"), Run::Argv(Vec::new()));
        let mark = handle.next_mark();
        let arguments = ["sh", "-c", script].map(OsStr::new);
        let env = [(OsStr::new(process::MARKS), OsStr::new(&mark))];
        let invocation = Invocation { mark: &mark, arguments: &arguments, extra_env: &env, confined: None };
        execute(context, handle, &task, &invocation, &mut |_, _| ()).expect("it runs").exit
    }

    /// Regression: all commands of an attempt had one mark, and the first that ended took the others with it.
    #[test]
    fn a_command_that_ends_takes_what_it_left_behind_with_it_and_no_other_command() {
        let context = context();
        let attempt = format!("test-{}.0.1", std::process::id());
        // Two commands of one attempt at the same time; each handle numbers its own, so the second starts later.
        let (long, short) = (AttemptHandle::new(attempt.clone()), AttemptHandle::new(attempt.clone()));
        let _first = short.next_mark();
        std::thread::scope(|scope| {
            let runs = scope.spawn(|| run(&context, &long, "exec sleep 60"));
            let find = |mark: &str| process::find(|pid| process::has_marker(pid, mark));
            let end = Instant::now() + Duration::from_secs(30);
            while find(&format!("{attempt}.0")).is_empty() {
                assert!(Instant::now() < end, "the long command never started");
                std::thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(run(&context, &short, "sleep 60 & exit 0"), Exit::Code(0));
            assert!(find(&format!("{attempt}.1")).is_empty(), "what the short one left behind lives on");
            assert_eq!(find(&format!("{attempt}.0")).len(), 1, "the long one was ended with it");
            long.kill();
            assert!(matches!(runs.join().expect("no panic"), Exit::Signal(9)));
        });
        assert!(process::find(|pid| process::has_marker(pid, &attempt)).is_empty());
    }
}
