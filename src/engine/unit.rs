//! The life of one attempt, on a thread of its own: inputs are digested, the command runs, its output is kept and
//! read, its promised files are looked for. Decides nothing about other attempts.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::engine::dispatch::Live;
use crate::engine::graph::Ix;
use crate::engine::schedule::Tree;
use crate::executor::capture::{Bounds, Capture};
use crate::executor::files;
pub(crate) use crate::executor::local::Control;
use crate::executor::local::{self, Executed, Machine, NotRun};
use crate::executor::runtimes;
use crate::executor::store::{self, Store};
use crate::model::event::{Exit, Output, Stored, Usage};
use crate::model::finding::{Counts, Results};
use crate::model::outcome::{Cause, Outcome};
use crate::model::task::Task;
use crate::probe::machine::Meter;
use crate::probe::{self, Roots};
use crate::sys::cgroup::Group;
use crate::sys::process;

/// What came of an attempt.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempted {
    /// How the process ended; absent where it never started.
    pub(crate) exit: Option<Exit>,
    /// It had ended before anybody told it to.
    pub(crate) by_itself: bool,
    /// Why it could not be run, or its result not be had.
    pub(crate) broken: Option<String>,
    /// It could not be started now, but may be when another has ended.
    pub(crate) busy: bool,
    /// What a reader of its output, or a look at its promised files, makes of it.
    pub(crate) judgement: Option<Outcome>,
    pub(crate) usage: Usage,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
    pub(crate) counts: Counts,
    pub(crate) results: Option<Stored>,
    pub(crate) leaked: u32,
    /// Times the kernel killed a process of it for memory.
    pub(crate) oom_kills: u64,
    /// Times the kernel refused it a process.
    pub(crate) forks_refused: u64,
    pub(crate) inputs_digest: String,
    /// Sentences for the user.
    pub(crate) notes: Vec<String>,
}

impl Attempted {
    /// The outcome by its own result.
    pub(crate) fn judged(&self) -> Outcome {
        let unknown = || Outcome::Broken { error: "it did not start".to_owned() };
        self.judgement.clone().unwrap_or_else(|| self.exit.map_or_else(unknown, Exit::outcome))
    }
}

/// Reads what a check printed: the task, its exit, both streams, the folder of its result files.
pub(crate) type Judge = Box<dyn Fn(&Task, Exit, &[u8], &[u8], Option<&Path>) -> (Outcome, Results) + Send + Sync>;

/// Largest output handed to a judge, each stream. More than any tool prints about a repository.
const JUDGED_MAX: usize = 64 << 20;
/// What a check's argument stands for the folder of its result files.
const RESULTS: &str = "{results}";

/// What all attempts of a run share.
pub(crate) struct Shared {
    pub(crate) machine: Machine,
    pub(crate) store: Store,
    /// The folder of the store, for reading back.
    pub(crate) folder: PathBuf,
    pub(crate) roots: Roots,
    pub(crate) meter: Meter,
    /// Sampling interval.
    pub(crate) interval: Duration,
    pub(crate) capture: Bounds,
    pub(crate) judge: Judge,
    /// Runtimes are told of the limits of their attempt.
    pub(crate) presets: bool,
    /// Output is also sent as it comes.
    pub(crate) live: bool,
    /// Which run, for the marks of processes.
    pub(crate) run: String,
    /// Marks of the attempts that this apm runs in, to stand before its own.
    pub(crate) marks: String,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("machine", &self.machine).finish_non_exhaustive()
    }
}

/// One attempt to be made.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) ix: Ix,
    pub(crate) attempt: u32,
    pub(crate) slot: u32,
    pub(crate) task: Arc<Task>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) control: Arc<Control>,
    pub(crate) messages: mpsc::Sender<Live>,
}

/// The handle of an attempt about to be made.
pub(crate) fn control(shared: &Shared, ix: Ix, attempt: u32) -> Control {
    Control::new(format!("{}.{ix}.{attempt}", shared.run), &shared.machine)
}

/// Makes the attempt; blocks until it is over. A bug in here, in one of the many readers of outputs for instance, costs
/// this attempt and not the run, which would wait for it for ever.
pub(crate) fn run(job: &Job) -> Attempted {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| make(job))).unwrap_or_else(|_| {
        job.control.kill();
        let broken = Some("a bug in apm, please report it; standard error has the details".to_owned());
        Attempted { broken, ..Attempted::default() }
    })
}

fn make(job: &Job) -> Attempted {
    let Job { task, shared, .. } = job;
    let mut attempted = Attempted::default();
    let folder = shared.machine.folder(task);
    if !task.inputs.is_empty() {
        match files::digest(&task.inputs, &folder) {
            Ok(digest) => attempted.inputs_digest = digest,
            Err(error) => attempted.broken = Some(error),
        }
    }
    let name = |what: &str| format!("t{}.{}.{what}", job.ix, job.attempt);
    let mut scratch = None;
    if task.check.as_ref().is_some_and(|check| check.writes_results) {
        match shared.store.scratch(&name("results")) {
            Ok(path) => scratch = Some(path),
            Err(error) => attempted.broken = Some(format!("create a folder for its results: {error}")),
        }
    }
    if attempted.broken.is_some() {
        return attempted;
    }
    let mut stdout = Capture::new(shared.capture);
    let mut stderr = Capture::new(shared.capture);
    let executed = execute(job, scratch.as_deref(), &mut |is_stderr, bytes| {
        let (capture, stream) = if is_stderr { (&mut stderr, "err") } else { (&mut stdout, "out") };
        capture.push(bytes, &shared.store, || name(stream));
        if shared.live {
            // The receiver is gone only when the run is over.
            let _ = job.messages.blocking_send(Live { ix: job.ix, stderr: is_stderr, bytes: bytes.to_vec() });
            job.control.sign_of_life();
        }
    });
    match executed {
        Ok(executed) => {
            attempted.exit = Some(executed.exit);
            attempted.by_itself = executed.by_itself;
            attempted.usage = executed.usage;
            attempted.leaked = executed.leaked;
            attempted.oom_kills = executed.oom_kills;
            attempted.forks_refused = executed.forks_refused;
            attempted.notes = executed.notes;
        }
        Err(NotRun { error, busy }) => (attempted.broken, attempted.busy) = (Some(error), busy),
    }
    for (capture, output) in [(stdout, &mut attempted.stdout), (stderr, &mut attempted.stderr)] {
        let (kept, lost) = capture.finish(&shared.store);
        *output = kept;
        attempted.notes.extend(lost.map(|lost| format!("`{}`: {lost}", task.id)));
    }
    if let (Some(exit), Some(_)) = (attempted.exit, &task.check) {
        judge(job, exit, scratch.as_deref(), &mut attempted);
    }
    let good = attempted.broken.is_none() && attempted.judged().is_good();
    if let Some(output) = files::missing(&task.outputs, &folder).filter(|_| good) {
        attempted.judgement = Some(Outcome::Failed { cause: Cause::OutputMissing { output: output.to_owned() } });
    }
    attempted
}

fn execute(job: &Job, scratch: Option<&Path>, on_output: &mut dyn FnMut(bool, &[u8])) -> Result<Executed, NotRun> {
    let Job { task, shared, control, .. } = job;
    let replaced: Vec<OsString>;
    let mut words = local::words(&task.run);
    if let Some(scratch) = scratch {
        let with = |word: &OsStr| match word.to_str() {
            Some(text) if text.contains(RESULTS) => text.replace(RESULTS, &scratch.to_string_lossy()).into(),
            _ => word.to_owned(),
        };
        replaced = words.into_iter().map(with).collect();
        words = replaced.iter().map(OsString::as_os_str).collect();
    }
    let (slot, attempt) = (job.slot.to_string(), job.attempt.to_string());
    let marks = format!("{}{}", shared.marks, control.mark());
    let mut env: Vec<(&OsStr, &OsStr)> = vec![
        (OsStr::new(process::MARKS), OsStr::new(&marks)),
        (OsStr::new("APM_TASK"), OsStr::new(task.id.as_str())),
        (OsStr::new("APM_SLOT"), OsStr::new(&slot)),
        (OsStr::new("APM_TRY"), OsStr::new(&attempt)),
    ];
    let presets = if shared.presets { runtimes::presets(&task.limits) } else { Vec::new() };
    let unset = presets.iter().filter(|(name, _)| !shared.machine.env.has(name));
    env.extend(unset.map(|(name, value)| (OsStr::new(*name), OsStr::new(value))));
    env.extend(task.env.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str())));
    local::execute(&shared.machine, control, task, &words, &env, on_output)
}

/// Reads the results of a check from what it printed and wrote.
fn judge(job: &Job, exit: Exit, scratch: Option<&Path>, attempted: &mut Attempted) {
    let Job { task, shared, .. } = job;
    let read = |output: &Output| match &output.stored {
        Some(stored) => store::read(&shared.folder, stored, JUDGED_MAX),
        None => Ok(Vec::new()),
    };
    let (stdout, stderr) = match (read(&attempted.stdout), read(&attempted.stderr)) {
        (Ok(stdout), Ok(stderr)) => (stdout, stderr),
        (Err(error), _) | (_, Err(error)) => {
            attempted.broken = Some(format!("read its output back: {error}"));
            return;
        }
    };
    let (outcome, results) = (shared.judge)(task, exit, &stdout, &stderr, scratch);
    attempted.counts = results.counts();
    // Half an output is no proof that nothing was found.
    let whole = |output: &Output| {
        !output.truncated && output.stored.as_ref().is_none_or(|stored| stored.len <= JUDGED_MAX as u64)
    };
    attempted.judgement = Some(match outcome {
        good if good.is_good() && !(whole(&attempted.stdout) && whole(&attempted.stderr)) => Outcome::Broken {
            error: "its output could not be kept whole (`run.output_limit_mb`, or the disk is full)".to_owned(),
        },
        outcome => outcome,
    });
    if !(results.tests.is_empty() && results.findings.is_empty()) {
        match serde_json::to_vec(&results).map_err(io::Error::other).and_then(|json| shared.store.append(&json)) {
            Ok(stored) => attempted.results = Some(stored),
            Err(error) => attempted.broken = Some(format!("keep its results: {error}")),
        }
    }
    if let Some(scratch) = scratch {
        // What it holds is in the results now; a folder that stays goes with the run.
        let _ = std::fs::remove_dir_all(scratch);
    }
}

/// Looks at running attempts: by their control groups where they have them, else by one look at all processes.
pub(crate) fn sample(shared: &Shared, running: &[(Ix, Arc<Control>)]) -> Vec<(Ix, Tree)> {
    for orphan in process::orphans() {
        process::reap(orphan);
    }
    if running.is_empty() {
        return Vec::new();
    }
    let table = probe::process::sweep(&shared.roots);
    let look = |(ix, control): &(Ix, Arc<Control>)| {
        control.with_running(|pid, group| {
            let sum = table.tree(pid);
            let memory = group.and_then(Group::memory_now).unwrap_or(sum.memory);
            let silent = control.silent_for();
            let tree = Tree { memory, cpu_time: sum.cpu_time, processes: sum.processes, threads: sum.threads, silent };
            (*ix, tree)
        })
    };
    running.iter().filter_map(look).collect()
}
