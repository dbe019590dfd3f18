//! Where runs are kept: `runs/ID/` under the state directory, and `active/ID`, a file its apm holds locked while it
//! lives. A marker that nobody holds belongs to an apm that was killed.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Zoned;

use crate::model::id::{RunId, TaskId};
use crate::model::task::Task;
use crate::model::variables::Variables;
use crate::sys::process;

/// From the start of a process to its exec: milliseconds, more on a loaded machine.
const EXEC_WAIT: Duration = Duration::from_secs(1);

/// Times a marker is opened anew because it was removed.
const HOLDS_MAX: u32 = 64;

/// The state directory.
#[derive(Clone, Debug)]
pub(crate) struct State {
    root: PathBuf,
}

/// The folder of a run that this process owns.
#[derive(Debug)]
pub(crate) struct RunDir {
    pub(crate) id: RunId,
    pub(crate) path: PathBuf,
    marker: PathBuf,
    _lock: File,
}

/// Why a name does not lead to a run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    #[error("no run is recorded in `{0}`")]
    Empty(PathBuf),
    #[error("no recorded run starts with `{0}`")]
    Unknown(String),
    #[error("`{0}` is the start of several runs: {1}")]
    Ambiguous(String, String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl State {
    /// Opens the state directory and creates it where it is missing.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        for folder in [root.join("runs"), root.join("active")] {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        Ok(Self { root: root.to_owned() })
    }

    /// The state directory as it is, for reading; nothing is created.
    pub(crate) fn existing(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a run.
    pub(crate) fn path_of(&self, id: &RunId) -> PathBuf {
        self.root.join("runs").join(id.as_str())
    }

    /// Creates the folder of a new run. `now` and `random` make its name.
    pub(crate) fn create(&self, now: &Zoned, random: u64) -> io::Result<RunDir> {
        let mut random = random;
        for _ in 0..64 {
            let name = name(now, random);
            random = random.rotate_right(24).wrapping_add(1);
            let id = RunId::new(&name).ok_or_else(|| io::Error::other(format!("`{name}` is no name of a run")))?;
            let path = self.path_of(&id);
            // The marker comes first: a run folder without a marker would look like a finished run.
            let marker = self.root.join("active").join(id.as_str());
            let Some(lock) = hold(&marker, true)? else { continue };
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    sign(&lock)?;
                    return Ok(RunDir { id, path, marker, _lock: lock });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    // Nothing was started: leave no marker of a crash behind. Its loss would only cost a look.
                    let _ = std::fs::remove_file(&marker);
                    return Err(error);
                }
            }
        }
        Err(io::Error::other("no free name for a run"))
    }

    /// Takes over a recorded run, unless its apm is alive.
    pub(crate) fn take_over(&self, id: &RunId) -> io::Result<Option<RunDir>> {
        let active = self.root.join("active");
        // Runs may have been copied here without it.
        DirBuilder::new().recursive(true).mode(0o700).create(&active)?;
        let marker = active.join(id.as_str());
        let Some(lock) = hold(&marker, true)? else { return Ok(None) };
        sign(&lock)?;
        Ok(Some(RunDir { id: id.clone(), path: self.path_of(id), marker, _lock: lock }))
    }

    /// Recorded runs, newest first.
    pub(crate) fn list(&self) -> io::Result<Vec<RunId>> {
        let entries = match std::fs::read_dir(self.root.join("runs")) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut ids: Vec<RunId> = entries.filter_map(|entry| RunId::new(entry.ok()?.file_name().to_str()?)).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        Ok(ids)
    }

    /// The run that a name means: `last`, a whole name, or the start of exactly one.
    pub(crate) fn find(&self, name: &str) -> Result<RunId, FindError> {
        let ids = self.list()?;
        let last = || ids.first().cloned().ok_or_else(|| FindError::Empty(self.root.clone()));
        if name == "last" || ids.is_empty() {
            return last();
        }
        let matching: Vec<&RunId> = ids.iter().filter(|id| id.as_str().starts_with(name)).collect();
        match matching[..] {
            [] => Err(FindError::Unknown(name.to_owned())),
            [id] => Ok(id.clone()),
            _ if matching.iter().any(|id| id.as_str() == name) => Ok(matching[0].clone()),
            _ => {
                let shown: Vec<&str> = matching.iter().take(3).map(|id| id.as_str()).collect();
                Err(FindError::Ambiguous(name.to_owned(), shown.join(", ")))
            }
        }
    }

    /// Whether the apm of this run lives.
    pub(crate) fn is_alive(&self, id: &RunId) -> bool {
        let marker = self.root.join("active").join(id.as_str());
        OpenOptions::new().read(true).write(true).open(marker).is_ok_and(|file| matches!(try_lock(&file), Ok(false)))
    }

    /// Runs whose apm lives, newest first, with the number of its process.
    pub(crate) fn living(&self) -> io::Result<Vec<(RunId, u32)>> {
        let living = |id: RunId| {
            let signed = std::fs::read_to_string(self.root.join("active").join(id.as_str())).ok()?;
            let pid = signed.split_ascii_whitespace().next()?.parse().ok()?;
            self.is_alive(&id).then_some((id, pid))
        };
        Ok(self.list()?.into_iter().filter_map(living).collect())
    }

    /// Runs whose apm ended without an end: what they left has to be looked for. Each is held while it is looked at, so
    /// that nobody goes on with it meanwhile, and is a crashed one again unless it is closed.
    pub(crate) fn crashed(&self) -> impl Iterator<Item = RunDir> {
        let entries = std::fs::read_dir(self.root.join("active")).into_iter().flatten();
        entries.filter_map(|entry| {
            let entry = entry.ok()?;
            let id = RunId::new(entry.file_name().to_str()?)?;
            let marker = entry.path();
            // One that cannot be opened is somebody else's, or has just gone.
            let lock = hold(&marker, false).ok().flatten()?;
            Some(RunDir { path: self.path_of(&id), id, marker, _lock: lock })
        })
    }

    /// Forgets that a run crashed, once what it left is gone.
    pub(crate) fn forget_crash(&self, id: &RunId) {
        // Where this fails the next run looks again: harmless.
        let _ = std::fs::remove_file(self.root.join("active").join(id.as_str()));
    }

    /// Removes the oldest runs beyond `keep`; never one that lives. Returns how many went.
    pub(crate) fn prune(&self, keep: usize) -> io::Result<usize> {
        let mut removed = 0;
        for id in self.list()?.iter().skip(keep) {
            if !self.is_alive(id) {
                std::fs::remove_dir_all(self.path_of(id))?;
                self.forget_crash(id);
                removed += 1;
            }
        }
        Ok(removed)
    }
}

impl RunDir {
    /// Keeps the values of the tasks' environments, which no event and no report carries, for a resume.
    pub(crate) fn keep_environments<'a>(&self, tasks: impl IntoIterator<Item = &'a Task>) -> io::Result<()> {
        let with_env: Vec<&Task> = tasks.into_iter().filter(|task| !task.env.is_empty()).collect();
        if with_env.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        for task in with_env {
            serde_json::to_writer(&mut text, &(&task.id, &task.env))?;
            text.push(b'\n');
        }
        let path = self.path.join("environments.ndjson");
        OpenOptions::new().append(true).create(true).mode(0o600).open(path)?.write_all(&text)
    }

    /// Gives tasks from the journal the values of their environments back.
    pub(crate) fn restore_environments(&self, tasks: &mut [Task]) -> io::Result<()> {
        let file = match File::open(self.path.join("environments.ndjson")) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut kept: BTreeMap<TaskId, Variables> = BTreeMap::new();
        for line in BufReader::new(file).split(b'\n') {
            // A torn last line belongs to tasks that were never announced.
            if let Ok((id, env)) = serde_json::from_slice(&line?) {
                kept.insert(id, env);
            }
        }
        for task in tasks {
            if let Some(env) = kept.remove(&task.id) {
                task.env = env;
            }
        }
        Ok(())
    }

    /// Ends in an orderly way: the marker goes.
    pub(crate) fn close(self) {
        // Where this fails the next run looks for leftovers and finds none: harmless.
        let _ = std::fs::remove_file(&self.marker);
    }
}

/// Writes who holds the marker.
fn sign(mut marker: &File) -> io::Result<()> {
    let pid = std::process::id() as i32;
    marker.set_len(0)?;
    marker.write_all(format!("{pid} {}\n", process::start_of(pid).unwrap_or(0)).as_bytes())
}

/// Opens a marker and locks it; nothing where somebody holds it. One that its holder removed meanwhile is nobody's marker
/// any more, and is opened anew.
fn hold(path: &Path, create: bool) -> io::Result<Option<File>> {
    for _ in 0..HOLDS_MAX {
        let file = OpenOptions::new().read(true).write(true).create(create).truncate(false).mode(0o600).open(path)?;
        if !try_lock(&file)? {
            return Ok(None);
        }
        if std::fs::metadata(path).is_ok_and(|there| file.metadata().is_ok_and(|own| own.ino() == there.ino())) {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// Locks a marker, unless somebody holds it. A process that was just being started when its apm was killed holds it for
/// a moment longer, until its exec: where the one that signed is gone, that moment is waited for.
fn try_lock(mut marker: &File) -> io::Result<bool> {
    let mut signed = String::new();
    let end = Instant::now() + EXEC_WAIT;
    loop {
        match marker.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if signed.is_empty() {
            marker.read_to_string(&mut signed)?;
        }
        let owner =
            signed.trim().split_once(' ').and_then(|(pid, start)| Some((pid.parse().ok()?, start.parse().ok()?)));
        let lives = owner.is_none_or(|(pid, start): (i32, u64)| process::start_of(pid) == Some(start));
        if lives || Instant::now() >= end {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The name of a run that starts now: names sort by age, to the millisecond.
pub(crate) fn name(now: &Zoned, random: u64) -> String {
    format!("{}{:03x}", now.strftime("%Y%m%d-%H%M%S-%3f"), random & 0xfff)
}

/// The journal in the folder of a run.
pub(crate) fn journal_of(folder: &Path) -> PathBuf {
    folder.join("journal.ndjson")
}

#[cfg(test)]
mod tests {
    use jiff::Zoned;

    use super::State;

    #[test]
    fn a_run_is_alive_while_its_folder_is_held_and_crashed_after() {
        let root = std::env::temp_dir().join(format!("apm-state-test-{}", std::process::id()));
        let state = State::open(&root).expect("a state directory");
        let now = Zoned::now();
        let first = state.create(&now, 1).expect("a run");
        let second = state.create(&now, 1).expect("another of the same moment and number");
        let (first_id, second_id) = (first.id.clone(), second.id.clone());
        assert_ne!(first_id, second_id);
        assert!(state.is_alive(&first_id));
        assert!(state.take_over(&first_id).expect("readable").is_none());
        let living: Vec<_> = state.living().expect("listed").into_iter().map(|(_, pid)| pid).collect();
        assert_eq!(living, [std::process::id(); 2]);
        let crashed = || state.crashed().map(|run| run.id.clone()).collect::<Vec<_>>();
        assert_eq!(crashed(), []);
        drop(first);
        assert_eq!(crashed(), std::slice::from_ref(&first_id));
        // It could be taken over while what it left was being ended.
        for run in state.crashed() {
            assert!(state.take_over(&first_id).expect("readable").is_none());
            run.close();
        }
        assert_eq!(crashed(), []);
        assert!(state.take_over(&first_id).expect("readable").is_some());
        state.forget_crash(&first_id);
        second.close();
        assert_eq!(crashed(), []);
        assert_eq!(state.find(second_id.as_str()).expect("found"), second_id);
        let common = &first_id.as_str()[..15];
        assert!(state.find(common).expect_err("both match").to_string().contains("several runs"));
        assert_eq!(state.find("1999").expect_err("none").to_string(), "no recorded run starts with `1999`");
        assert_eq!(state.prune(1).expect("pruned"), 1);
        assert_eq!(state.list().expect("listed").len(), 1);
        std::fs::remove_dir_all(root).expect("removed");
    }
}
