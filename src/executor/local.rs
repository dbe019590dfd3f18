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
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::model::event::{Exit, Usage};
use crate::model::task::{Run, Task};
use crate::model::unit::{Bytes, whole_micros};
use crate::sys::priority::{self, Who};
use crate::sys::process::{self, Identity};
use crate::sys::spawn::{self, Child, Command, Environment};
use crate::sys::stage::Stage;
use crate::sys::{cgroup, signal};

/// After the end of the main process: how long members of its group may live on before they count as left behind, and
/// its output stay open. A pipeline's members end within a few milliseconds of each other.
const LEAK_WAIT: Duration = Duration::from_millis(100);
/// After KILL: how long until a process that does not end (state D) is given up.
const UNKILLABLE_AFTER: Duration = Duration::from_secs(10);
/// Largest pipe: the largest buffer that can be configured.
const PIPE_MAX: usize = 16 << 20;
/// Between two looks at whether that time has come.
const LOOK: Duration = Duration::from_secs(1);

/// What all attempts of a run share.
#[derive(Debug)]
pub(crate) struct Machine {
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
    started: Instant,
}

/// A running attempt, as others see it: it can be told to end, to pause, and asked for its last sign of life.
#[derive(Debug)]
pub(crate) struct Control {
    mark: String,
    phase: Mutex<Phase>,
    /// Microseconds since the machine's start.
    last_output: AtomicU64,
    started: Instant,
}

#[derive(Debug)]
enum Phase {
    /// Not yet a process; a signal is kept for it.
    Starting {
        pending: Option<i32>,
    },
    Running {
        pid: i32,
        group: Option<cgroup::Group>,
        killed: Option<Instant>,
        /// It was told to end while it lived.
        told: bool,
    },
    Ended,
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

impl Machine {
    /// Nothing has been looked up yet.
    pub(crate) fn new(
        env: Environment,
        path: OsString,
        (cwd, elsewhere): (PathBuf, bool),
        buffer: usize,
        cgroups: cgroup::Cgroups,
    ) -> Self {
        Self { env, path, cwd, elsewhere, buffer, cgroups, programs: Mutex::default(), started: Instant::now() }
    }

    /// Finds a program as execvp would; remembers the answer for names without a slash.
    pub(crate) fn find(&self, program: &OsStr, path: Option<&OsStr>, cwd: &Path) -> Option<PathBuf> {
        match path {
            Some(path) => search(program, path, cwd),
            // A name with a slash means something else in every folder.
            None if program.as_bytes().contains(&b'/') => search(program, &self.path, cwd),
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

impl Control {
    /// An attempt about to start. `mark` is the last of the marks in its environment.
    pub(crate) fn new(mark: String, machine: &Machine) -> Self {
        let started = machine.started;
        let last_output = AtomicU64::new(started.elapsed().as_micros() as u64);
        Self { mark, phase: Mutex::new(Phase::Starting { pending: None }), last_output, started }
    }

    /// What its processes carry.
    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        self.signal(signal::TERM);
        // A stopped process would never see it.
        self.signal(signal::CONT);
    }

    /// Stops it where it is.
    pub(crate) fn pause(&self) {
        self.signal(signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        // While it was stopped it could not print.
        self.sign_of_life();
        self.signal(signal::CONT);
    }

    /// Ends its process group, at once.
    pub(crate) fn kill_group(&self) {
        self.signal(signal::KILL);
    }

    /// Ends the whole tree, wherever its members went. Reads all of /proc.
    pub(crate) fn kill(&self) {
        self.kill_group();
        let pid = match &mut *lock(&self.phase) {
            Phase::Running { pid, group, killed, .. } => {
                killed.get_or_insert_with(Instant::now);
                if let Some(group) = group {
                    group.kill();
                }
                *pid
            }
            Phase::Starting { .. } | Phase::Ended => return,
        };
        end_members(pid, &self.mark);
    }

    /// Its process and its control group, while it runs.
    pub(crate) fn with_running<T>(&self, look: impl FnOnce(i32, Option<&cgroup::Group>) -> T) -> Option<T> {
        match &*lock(&self.phase) {
            Phase::Running { pid, group, .. } => Some(look(*pid, group.as_ref())),
            Phase::Starting { .. } | Phase::Ended => None,
        }
    }

    /// Time since its last byte of output, or since its start.
    pub(crate) fn silent_for(&self) -> Duration {
        let last = Duration::from_micros(self.last_output.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(last)
    }

    fn signal(&self, number: i32) {
        match &mut *lock(&self.phase) {
            Phase::Starting { pending } if number == signal::TERM || number == signal::KILL => {
                *pending = Some(number);
            }
            // The process has not been waited for, so the number of its group is still its own. It may be gone or, by
            // setuid, out of reach: then only its own end helps.
            Phase::Running { pid, told, .. } => {
                *told |= (number == signal::TERM || number == signal::KILL) && !process::has_ended(*pid);
                let _ = signal::to_group(*pid, number);
            }
            Phase::Starting { .. } | Phase::Ended => {}
        }
    }

    /// The process exists: signals go to it, also one that came before.
    fn running(&self, pid: i32, group: Option<cgroup::Group>) {
        let before =
            std::mem::replace(&mut *lock(&self.phase), Phase::Running { pid, group, killed: None, told: false });
        if let Phase::Starting { pending: Some(number) } = before {
            self.signal(number);
        }
    }

    /// Nobody signals it any more. Returns its control group, and whether it was told to end while it lived.
    fn ended(&self) -> (Option<cgroup::Group>, bool) {
        match std::mem::replace(&mut *lock(&self.phase), Phase::Ended) {
            Phase::Running { group, told, .. } => (group, told),
            Phase::Starting { .. } | Phase::Ended => (None, false),
        }
    }

    fn is_unkillable(&self) -> bool {
        let killed = |phase: &Phase| match phase {
            Phase::Running { killed, .. } => *killed,
            Phase::Starting { .. } | Phase::Ended => None,
        };
        killed(&lock(&self.phase)).is_some_and(|at| at.elapsed() > UNKILLABLE_AFTER)
    }

    /// Output of it was taken.
    pub(crate) fn sign_of_life(&self) {
        self.last_output.store(self.started.elapsed().as_micros() as u64, Ordering::Relaxed);
    }
}

/// A panic in another thread leaves these values whole: they are replaced, never half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a command to its end.
pub(crate) fn execute(
    machine: &Machine,
    control: &Control,
    task: &Task,
    words: &[&OsStr],
    extra_env: &[(&OsStr, &OsStr)],
    on_output: OnOutput<'_>,
) -> Result<Executed, NotRun> {
    let started = Instant::now();
    let folder = machine.folder(task);
    let Some(name) = words.first() else { return Err("the command is empty".to_owned().into()) };
    let path = extra_env.iter().find(|(name, _)| *name == "PATH").map(|(_, value)| *value);
    let program = machine.find(name, path, &folder).ok_or_else(|| not_found(name, &folder))?;

    let mut notes = Vec::new();
    let group = match machine.cgroups.attempt(control.mark(), &task.limits) {
        Ok(group) => group,
        Err(error) => {
            notes.push(format!("`{}` runs without its control group: {error}", task.id));
            None
        }
    };
    let busy = |error: &io::Error| matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM));
    let not_run = |error: io::Error| NotRun { error: not_started(name, &folder, &error), busy: busy(&error) };
    let stage = group.as_ref().map(cgroup::Group::stage).transpose().map_err(not_run)?;
    let (program, argv): (&Path, Vec<&OsStr>) = match &stage {
        Some(stage) => (stage.program(), stage.argv(program.as_os_str(), words)),
        None => (&program, words.to_vec()),
    };
    let command = Command {
        program,
        argv: &argv,
        env: &machine.env,
        extra_env,
        cwd: (task.cwd.is_some() || machine.elsewhere).then_some(folder.as_path()),
        pipe_size: (machine.buffer > 64 << 10).then_some(machine.buffer),
        also: stage.as_ref().map(Stage::descriptor),
    };
    let child = spawn::spawn(&command).map_err(not_run)?;
    let pid = child.pid;
    set_priorities(task, pid, &mut notes);
    control.running(pid, group);

    let mut streams = [Some(child.stdout.as_raw_fd()), Some(child.stderr.as_raw_fd())];
    match take_output(machine, control, &child, &mut streams, on_output) {
        Ok(true) => {}
        Ok(false) => {
            control.ended();
            return Err(format!("process {pid} does not end, even by SIGKILL; it is left to the kernel").into());
        }
        Err(error) => {
            control.kill();
            control.ended();
            reap(pid)?;
            return Err(format!("take its output: {error}").into());
        }
    }
    // From here on nobody signals its number: once it is waited for, the number may be somebody else's.
    drop(child.writers);
    let (group, told) = control.ended();
    let (exit, rusage) = reap(pid)?;
    let mut leaked = end_left_behind(pid, control.mark());
    if let Some(group) = &group {
        leaked += group.kill();
    }
    finish_output(machine, control, streams, on_output);
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
    if let Some(error) = stage.and_then(Stage::failure) {
        return Err(not_run(error));
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
    machine: &Machine,
    control: &Control,
    child: &Child,
    streams: &mut [Option<RawFd>; 2],
    on_output: OnOutput<'_>,
) -> io::Result<bool> {
    let mut buffer = Buffer::take(machine.buffer);
    loop {
        let ready = spawn::poll([streams[0], streams[1], Some(child.pidfd.as_raw_fd())], Some(LOOK))?;
        for at in 0..2 {
            if ready[at] {
                read_once(control, &mut streams[at], at == 1, &mut buffer.0, on_output)?;
            }
        }
        if ready[2] {
            return Ok(true);
        }
        if ready == [false; 3] && control.is_unkillable() {
            return Ok(false);
        }
    }
}

/// Reads once; at its end the stream is gone.
fn read_once(
    control: &Control,
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
        control.sign_of_life();
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
        orphans.into_iter().any(|orphan| !process::reap(orphan) && process::carries(orphan, mark))
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

/// Kills the group and whatever else carries the mark.
fn end_members(pid: i32, mark: &str) -> u32 {
    let belongs = |other: i32| process::group_of(other) == Some(pid) || process::carries(other, mark);
    let (killed, _left): (u32, Vec<Identity>) = process::end_all(|| process::find(belongs));
    killed
}

/// Takes what is still in the pipes: all that is there, however long that takes. Nobody of the tree is left to write,
/// but somebody else may hold them: for a stream that has nothing to read the wait is bounded.
fn finish_output(machine: &Machine, control: &Control, mut streams: [Option<RawFd>; 2], on_output: OnOutput<'_>) {
    if streams == [None; 2] {
        return;
    }
    let mut buffer = Buffer::take(machine.buffer);
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
            if !ready || read_once(control, stream, at == 1, &mut buffer.0, &mut count).is_err() {
                break;
            }
        }
    }
}

/// The words to execute for a task: the program and its arguments, the shell and its script.
pub(crate) fn words(run: &Run) -> Vec<&OsStr> {
    match run {
        Run::Argv(words) => words.iter().map(|word| word.as_os_str()).collect(),
        Run::Script { shell, script } => {
            shell.iter().map(|word| word.as_os_str()).chain([script.as_os_str()]).collect()
        }
    }
}
