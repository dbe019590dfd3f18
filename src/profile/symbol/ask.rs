//! Asks workers for the names in files. A file that others can change is given little time and memory: its owner may want
//! apm to hang or to take all. One that only this user and root can change may be as large as programs are.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::profile::modules::{ModuleId, Modules};
use crate::profile::stacks::Code;
use crate::profile::symbol::elf::{Answer, Question};
use crate::profile::symbol::function::Function;
use crate::sys::owner;
use crate::sys::worker::{Limits, Worker};

/// What reading names may cost.
struct Bounds {
    /// For all files together.
    time: Duration,
    worker: Limits,
    workers: usize,
}

/// Of files that others can change. Two seconds at the end of a recording are not noticed much. 256 MiB are those of one
/// worker, and there is one.
const FOREIGN: Bounds = Bounds {
    time: Duration::from_secs(2),
    worker: Limits { memory: 256 << 20, cpu: Duration::from_secs(3), message: 64 << 20 },
    workers: 1,
};
/// Of files that only this user and root can change: large programs have gigabytes of debugging data, and who builds them
/// waits rather than do without.
const OWN: Bounds = Bounds {
    time: Duration::from_secs(30),
    worker: Limits { memory: 1 << 30, cpu: Duration::from_secs(60), message: 256 << 20 },
    workers: 8,
};
/// Notes about single files.
const NOTES_MAX: usize = 5;
/// Files that a note names.
const TOLD_MAX: usize = 3;

/// Whom the search for names tells how it goes, and who may end it. Both are asked from any thread.
#[derive(Clone, Copy)]
pub(crate) struct Listener<'a> {
    /// How many of how many files are done.
    pub(crate) progress: &'a (dyn Fn(usize, usize) + Sync),
    /// Whether the user does not want to wait for more.
    pub(crate) is_over: &'a (dyn Fn() -> bool + Sync),
}

/// A file and what is asked of it.
struct Job<'a> {
    module: ModuleId,
    path: &'a Path,
    file: File,
    offsets: Vec<u64>,
}

/// How much of a file could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Missing {
    Lines,
    Names,
}

#[derive(Default)]
struct Found {
    names: HashMap<Code, Vec<Function>>,
    missing: Vec<(Missing, String)>,
    notes: BTreeSet<String>,
}

fn not_opened(path: &Path, linked: &Path) -> String {
    format!("`{}`: its debugging data `{}` is no regular file and was not opened", path.display(), linked.display())
}

/// Names of these offsets in files, and what is to be said of those that have none.
pub(super) fn names(
    files: HashMap<ModuleId, Vec<u64>>,
    modules: &Modules,
    listener: Listener<'_>,
) -> (HashMap<Code, Vec<Function>>, Vec<String>) {
    let job = |(module, offsets)| {
        let of = modules.get(module)?;
        Some(Job { module, path: &of.path, file: of.reopened()?, offsets })
    };
    // The file with the most places first: it takes the longest.
    let mut jobs: Vec<Job<'_>> = files.into_iter().filter_map(job).collect();
    jobs.sort_by_key(|job| std::cmp::Reverse(job.offsets.len()));
    let is_own = |job: &Job<'_>| job.file.metadata().is_ok_and(|meta| owner::judge(job.path, &meta).is_ok());
    let total = jobs.len();
    let (own, foreign): (Vec<_>, Vec<_>) = jobs.into_iter().partition(is_own);
    let done = AtomicUsize::new(0);
    let progress = || (listener.progress)(done.fetch_add(1, Ordering::Relaxed) + 1, total);
    let (mut names, mut notes) = (HashMap::new(), Vec::new());
    for (jobs, bounds) in [(own, OWN), (foreign, FOREIGN)] {
        let found = all(&jobs, &bounds, &progress, listener.is_over);
        names.extend(found.names);
        notes.extend(told(found.missing, &bounds, (listener.is_over)()));
        notes.extend(found.notes.into_iter().take(NOTES_MAX));
    }
    (names, notes)
}

/// Asks for all of them, by as many threads as there are workers: this one and others, where there can be others.
fn all(jobs: &[Job<'_>], bounds: &Bounds, progress: &(dyn Fn() + Sync), is_over: &(dyn Fn() -> bool + Sync)) -> Found {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Found::default()));
    let until = Instant::now() + bounds.time;
    let work = || {
        let mut worker = None;
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let answer = one(job, bounds, &mut worker, until, is_over);
            progress();
            let Ok(mut found) = found.lock() else { return };
            match answer {
                Ok((Answer { names, refused, notes }, missing)) => {
                    found.notes.extend(notes.iter().map(|note| format!("`{}`: {note}", job.path.display())));
                    found.notes.extend(refused.map(|linked| not_opened(job.path, &linked)));
                    let names = job.offsets.iter().zip(names).filter(|(_, names)| !names.is_empty());
                    let code = |offset| Code::File { module: job.module, offset };
                    found.names.extend(names.map(|(offset, names)| (code(*offset), names)));
                    found.missing.extend(missing.map(|missing| (missing, job.path.display().to_string())));
                }
                Err(error) => {
                    found.notes.insert(format!("names in files: a process to read them cannot be started: {error}"));
                }
            }
        }
    };
    let parallel = thread::available_parallelism().map_or(1, usize::from).min(bounds.workers).min(jobs.len());
    thread::scope(|scope| {
        for _ in 1..parallel {
            // Where there is no thread the others do its work.
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    found.into_inner().unwrap_or_default()
}

/// Asks for one: with lines, and where that costs too much without. An error: there is no worker.
fn one(
    job: &Job<'_>,
    bounds: &Bounds,
    worker: &mut Option<Worker>,
    until: Instant,
    is_over: &(dyn Fn() -> bool + Sync),
) -> std::io::Result<(Answer, Option<Missing>)> {
    for (with_lines, missing) in [(true, None), (false, Some(Missing::Lines))] {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || is_over() {
            break;
        }
        // Something is left for the attempt without.
        let until = Instant::now() + if with_lines { left / 2 } else { left };
        let question = Question { offsets: job.offsets.clone(), with_lines };
        let Ok(question) = serde_json::to_vec(&question) else { break };
        let asked = match worker {
            Some(worker) => worker,
            None => worker.insert(Worker::start(bounds.worker)?),
        };
        let answer = asked.ask(&question, &job.file, until, || !is_over());
        match answer.ok().and_then(|answer| serde_json::from_slice(&answer).ok()) {
            Some(answer) => return Ok((answer, missing)),
            // It is dead, or busy with what nobody waits for any more.
            None => *worker = None,
        }
    }
    Ok((Answer::default(), Some(Missing::Names)))
}

/// What is to be said of files that were not read.
fn told(mut missing: Vec<(Missing, String)>, bounds: &Bounds, is_over: bool) -> Vec<String> {
    missing.sort_unstable();
    let groups = missing.chunk_by(|(one, _), (other, _)| one == other);
    let each = |group: &[(Missing, String)]| {
        let names: Vec<String> = group.iter().take(TOLD_MAX).map(|(_, path)| format!("`{path}`")).collect();
        let more = group.len().saturating_sub(TOLD_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let what = match group[0].0 {
            Missing::Lines => "debugging data could not be read, functions have no lines",
            Missing::Names => "functions have no names",
        };
        let limit = format!("within {} s and {} MiB", bounds.time.as_secs(), bounds.worker.memory >> 20);
        let why = if is_over { "interrupted".to_owned() } else { limit };
        format!("{}{more}: {what} ({why})", names.join(", "))
    };
    groups.map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::{FOREIGN, Missing, told};

    #[test]
    fn a_few_files_are_told_of_and_how_many_more() {
        let missing = (0..5).map(|number| (Missing::Names, format!("/lib/{number}.so")));
        let missing = missing.chain([(Missing::Lines, "/lib/a.so".to_owned())]).collect();
        let told = told(missing, &FOREIGN, false);
        assert_eq!(
            told,
            [
                "`/lib/a.so`: debugging data could not be read, functions have no lines (within 2 s and 256 MiB)",
                "`/lib/0.so`, `/lib/1.so`, `/lib/2.so` and 2 more: functions have no names (within 2 s and 256 MiB)"
            ]
        );
    }
}
