//! Where runs are kept: `runs/ID/` under the state directory, and `active/ID`, a file its apm holds locked while it
//! lives. A marker that nobody holds belongs to an apm that was killed.
//!
//! What lies here is believed: commands are run again from a journal, processes ended for a marker, folders removed. So the
//! state directory has to be one that only this user and root can change, and what is in it is opened without following
//! links and judged by its owner.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Zoned;

use crate::model::id::{RunId, TaskId};
use crate::model::task::Task;
use crate::model::variables::Variables;
use crate::sys::beneath::{self, Folder};
use crate::sys::owner;
use crate::sys::process::{self, Identity};

/// From the start of a process to its exec: milliseconds, more on a loaded machine.
const EXEC_WAIT: Duration = Duration::from_secs(1);

/// Times a marker is opened anew because it was removed.
const HOLDS_MAX: u32 = 64;

/// Longest signature of a marker.
const SIGNATURE_MAX: u64 = 64;

const RUNS: &str = "runs";
const ACTIVE: &str = "active";
/// Its age is the time since old runs were last removed.
const CLEANED: &str = "cleaned";
/// In the folder of a run.
const ENVIRONMENTS: &str = "environments.ndjson";

/// The state directory.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// Without links on the way.
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
    #[expect(clippy::disallowed_methods, reason = "own: the state folder, which was judged")]
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let root = owner::judged_way_to_new(root)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        let state = Self { root: owner::judged_folder(&root)? };
        state.make(RUNS)?;
        state.make(ACTIVE)?;
        Ok(state)
    }

    /// The state directory as it is, for reading; nothing is created.
    pub(crate) fn existing(root: &Path) -> io::Result<Self> {
        match owner::judged_folder(root) {
            Ok(root) => {
                let state = Self { root };
                state.folder(RUNS)?;
                state.folder(ACTIVE)?;
                Ok(state)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self { root: owner::judged_way_to_new(root)? }),
            Err(error) => Err(error),
        }
    }

    /// A folder in it; nothing where it is missing.
    fn folder(&self, name: &str) -> io::Result<Option<Folder>> {
        match Folder::own(&self.root.join(name)) {
            Ok(folder) => Ok(Some(folder)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A folder in it that is made where it is missing.
    #[expect(clippy::disallowed_methods, reason = "own: the state folder, which was judged")]
    fn make(&self, name: &str) -> io::Result<Folder> {
        let path = self.root.join(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Folder::own(&path),
        }
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a run.
    pub(crate) fn path_of(&self, id: &RunId) -> PathBuf {
        self.root.join(RUNS).join(id.as_str())
    }

    /// Creates the folder of a new run. `now` and `random` make its name.
    #[expect(clippy::disallowed_methods, reason = "own: the state folder, which was judged")]
    pub(crate) fn create(&self, now: &Zoned, random: u64) -> io::Result<RunDir> {
        let active = self.make(ACTIVE)?;
        let mut random = random;
        for _ in 0..64 {
            let name = name(now, random);
            random = random.rotate_right(24).wrapping_add(1);
            let id = RunId::new(&name).ok_or_else(|| io::Error::other(format!("`{name}` is no name of a run")))?;
            let path = self.path_of(&id);
            // The marker comes first: a run folder without a marker would look like a finished run.
            let marker = self.root.join(ACTIVE).join(id.as_str());
            let Some(lock) = hold(&active, &id, true)? else { continue };
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
        // Runs may have been copied here without it.
        let active = self.make(ACTIVE)?;
        let Some(lock) = hold(&active, id, true)? else { return Ok(None) };
        sign(&lock)?;
        let marker = self.root.join(ACTIVE).join(id.as_str());
        Ok(Some(RunDir { id: id.clone(), path: self.path_of(id), marker, _lock: lock }))
    }

    /// Recorded runs, newest first.
    pub(crate) fn list(&self) -> io::Result<Vec<RunId>> {
        let names = self.folder(RUNS)?.map_or(Ok(Vec::new()), |runs| runs.names())?;
        let mut ids: Vec<RunId> = names.iter().filter_map(|name| RunId::new(name.to_str()?)).collect();
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
        self.marker(id).is_some_and(|marker| matches!(try_lock(&marker), Ok(false)))
    }

    /// The marker of a run, where it is there and this user's.
    fn marker(&self, id: &RunId) -> Option<File> {
        self.folder(ACTIVE).ok()??.own_file_to_change(Path::new(id.as_str())).ok()
    }

    /// Runs whose apm lives, newest first, with the number of its process.
    pub(crate) fn living(&self) -> io::Result<Vec<(RunId, u32)>> {
        let living = |id: RunId| {
            let marker = self.marker(&id)?;
            let pid = signer(&marker)?.pid.try_into().ok()?;
            matches!(try_lock(&marker), Ok(false)).then_some((id, pid))
        };
        Ok(self.list()?.into_iter().filter_map(living).collect())
    }

    /// Runs whose apm ended without an end: what they left has to be looked for. Each is held while it is looked at, so
    /// that nobody goes on with it meanwhile, and is a crashed one again unless it is closed.
    pub(crate) fn crashed(&self) -> impl Iterator<Item = RunDir> {
        let active = self.folder(ACTIVE).ok().flatten();
        let names = active.as_ref().and_then(|active| active.names().ok()).unwrap_or_default();
        names.into_iter().filter_map(move |name| {
            let id = RunId::new(name.to_str()?)?;
            // One that cannot be opened is somebody else's, or has just gone.
            let lock = hold(active.as_ref()?, &id, false).ok().flatten()?;
            let marker = self.root.join(ACTIVE).join(id.as_str());
            let run = RunDir { path: self.path_of(&id), id, marker, _lock: lock };
            // An apm signs before it starts anything. A marker without a signature, or without a run, stands for nothing.
            if signer(&run._lock).is_some() && Folder::own(&run.path).is_ok() {
                return Some(run);
            }
            run.close();
            None
        })
    }

    /// Forgets that a run crashed, once what it left is gone.
    #[expect(clippy::disallowed_methods, reason = "own: the state folder, which was judged")]
    pub(crate) fn forget_crash(&self, id: &RunId) {
        // Where this fails the next run looks again: harmless.
        let _ = std::fs::remove_file(self.root.join(ACTIVE).join(id.as_str()));
    }

    /// How long ago old runs were removed.
    pub(crate) fn cleaned_ago(&self) -> Option<Duration> {
        std::fs::symlink_metadata(self.root.join(CLEANED)).ok()?.modified().ok()?.elapsed().ok()
    }

    /// Removes the oldest runs beyond `keep`, and notes that. Never one that lives, and nothing but what apm has made:
    /// other folders do not count. Returns how many went.
    #[expect(clippy::disallowed_methods, reason = "own: the state folder, which was judged")]
    pub(crate) fn clean(&self, keep: usize) -> io::Result<usize> {
        let root = Folder::own(&self.root)?;
        match root.remove_file(Path::new(CLEANED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => root.new_file(Path::new(CLEANED), 0o600)?,
        };
        let mut removed = 0;
        let made = self.list()?.into_iter().filter(|id| is_made_here(id) && Folder::own(&self.path_of(id)).is_ok());
        for id in made.skip(keep).collect::<Vec<_>>().iter() {
            if !self.is_alive(id) {
                // It does not follow links (https://doc.rust-lang.org/std/fs/fn.remove_dir_all.html#security).
                std::fs::remove_dir_all(self.path_of(id))?;
                self.forget_crash(id);
                removed += 1;
            }
        }
        Ok(removed)
    }
}

impl RunDir {
    /// The mark of the run, which its processes and control groups carry.
    pub(crate) fn mark(&self) -> io::Result<String> {
        mark(&self.id, &self.path)
    }

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
        let mut file = beneath::own_file_or_new(&self.path.join(ENVIRONMENTS), 0o600)?;
        file.seek(SeekFrom::End(0))?;
        file.write_all(&text)
    }

    /// Gives tasks from the journal the values of their environments back.
    pub(crate) fn restore_environments(&self, tasks: &mut [Task]) -> io::Result<()> {
        let file = match beneath::own_file(&self.path.join(ENVIRONMENTS)) {
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
    #[expect(clippy::disallowed_methods, reason = "own: the state folder, which was judged")]
    pub(crate) fn close(self) {
        // Where this fails the next run looks for leftovers and finds none: harmless.
        let _ = std::fs::remove_file(&self.marker);
    }
}

/// Writes who holds the marker.
fn sign(mut marker: &File) -> io::Result<()> {
    let pid = std::process::id() as i32;
    marker.set_len(0)?;
    marker.rewind()?;
    marker.write_all(format!("{pid} {}\n", process::start_of(pid).unwrap_or(0)).as_bytes())
}

/// Who signed a marker.
fn signer(mut marker: &File) -> Option<Identity> {
    let mut signed = String::new();
    marker.rewind().ok()?;
    marker.take(SIGNATURE_MAX).read_to_string(&mut signed).ok()?;
    let (pid, start) = signed.trim().split_once(' ')?;
    Some(Identity { pid: pid.parse().ok()?, start: start.parse().ok()? })
}

/// Opens a marker and locks it; nothing where somebody holds it. One that its holder removed meanwhile is nobody's marker
/// any more, and is opened anew.
fn hold(active: &Folder, id: &RunId, create: bool) -> io::Result<Option<File>> {
    let name = Path::new(id.as_str());
    for _ in 0..HOLDS_MAX {
        let file = if create { active.own_file_or_new(name, 0o600)? } else { active.own_file_to_change(name)? };
        if !try_lock(&file)? {
            return Ok(None);
        }
        if active.metadata(name).is_ok_and(|there| file.metadata().is_ok_and(|own| own.ino() == there.ino())) {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// Locks a marker, unless somebody holds it. A process that was just being started when its apm was killed holds it for
/// a moment longer, until its exec: where the one that signed is gone, that moment is waited for.
fn try_lock(marker: &File) -> io::Result<bool> {
    let end = Instant::now() + EXEC_WAIT;
    loop {
        match marker.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let lives = signer(marker).is_none_or(|signer| signer.is_alive());
        if lives || Instant::now() >= end {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The mark of a run: its name, and which folder it is recorded in, by device and inode. By the name alone a marker in one
/// state directory would end a run that goes on in another, for instance after the first was copied from it.
pub(crate) fn mark(id: &RunId, folder: &Path) -> io::Result<String> {
    let meta = Folder::own(folder)?.own_metadata()?;
    Ok(format!("{id}@{:x}-{:x}", meta.dev(), meta.ino()))
}

/// Whether a name is one that `name` gives.
fn is_made_here(id: &RunId) -> bool {
    let parts: Vec<&str> = id.as_str().split('-').collect();
    let is = |part: &str, len: usize, fits: fn(&u8) -> bool| part.len() == len && part.bytes().all(|byte| fits(&byte));
    matches!(parts[..], [date, time, rest] if is(date, 8, u8::is_ascii_digit)
        && is(time, 6, u8::is_ascii_digit)
        && is(rest, 6, u8::is_ascii_hexdigit))
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
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use jiff::Zoned;

    use super::State;

    #[test]
    fn a_run_is_alive_while_its_folder_is_held_and_crashed_after() {
        let root = tempfile::tempdir().expect("a folder");
        let state = State::open(root.path()).expect("a state directory");
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
        assert_eq!(state.clean(1).expect("pruned"), 1);
        assert_eq!(state.list().expect("listed").len(), 1);
    }

    #[test]
    fn a_marker_that_no_apm_signed_stands_for_no_run() {
        let root = tempfile::tempdir().expect("a folder");
        let state = State::open(root.path()).expect("a state directory");
        let run = state.create(&Zoned::now(), 1).expect("a run");
        let (id, marker) = (run.id.clone(), run.marker.clone());
        drop(run);
        let signed = std::fs::read(&marker).expect("signed");
        let count = |text: &[u8]| {
            std::fs::write(&marker, text).expect("written");
            (state.crashed().count(), marker.exists())
        };
        assert_eq!(count(&signed), (1, true));
        for text in [b"".as_slice(), b"1", b"x y", &[0xff; 99]] {
            assert_eq!(count(text), (0, false), "{text:?}");
        }
        std::fs::rename(state.path_of(&id), root.path().join("elsewhere")).expect("moved");
        assert_eq!(count(&signed), (0, false), "there is no such run");
    }

    #[test]
    fn a_copy_of_a_run_has_another_mark() {
        let root = tempfile::tempdir().expect("a folder");
        let open = |name: &str| State::open(&root.path().join(name)).expect("a state directory");
        let (one, other) = (open("one"), open("other"));
        let run = one.create(&Zoned::now(), 1).expect("a run");
        std::fs::create_dir(other.path_of(&run.id)).expect("copied");
        let mark = run.mark().expect("a mark");
        assert!(mark.starts_with(&format!("{}@", run.id)), "{mark}");
        assert_ne!(mark, super::mark(&run.id, &other.path_of(&run.id)).expect("a mark"));
    }

    #[test]
    fn only_folders_that_apm_made_are_removed_and_nothing_through_links() {
        let root = tempfile::tempdir().expect("a folder");
        let state = State::open(&root.path().join("state")).expect("a state directory");
        let runs = root.path().join("state/runs");
        let outside = root.path().join("outside");
        let names = ["alpha", "etc", "20261128-215039-5676a3x", "2026112-215039-5676a3", "20261128-215039-5676aZ"];
        for folder in names.iter().map(|name| runs.join(name)).chain([outside.clone()]) {
            std::fs::create_dir(&folder).expect("made");
            std::fs::write(folder.join("file"), "x").expect("written");
        }
        let old = runs.join("20261128-215039-5676a3");
        std::fs::create_dir(&old).expect("made");
        symlink(&outside, old.join("inside")).expect("linked");
        symlink(&outside, runs.join("20261128-215039-5676a4")).expect("linked");
        symlink(outside.join("file"), root.path().join("state/cleaned")).expect("linked");
        assert_eq!(state.clean(0).expect("cleaned"), 1);
        assert!(!old.exists() && outside.join("file").exists());
        assert!(names.iter().all(|name| runs.join(name).join("file").exists()));
        let cleaned = root.path().join("state/cleaned").symlink_metadata().expect("there");
        assert_eq!((cleaned.is_file(), cleaned.mode() & 0o7777), (true, 0o600));
        assert_eq!(std::fs::read(outside.join("file")).expect("read"), b"x");
    }

    #[test]
    fn a_state_directory_that_others_can_change_is_refused() {
        let root = tempfile::tempdir().expect("a folder");
        let mode = |path: &std::path::Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("changed");
        };
        let state = root.path().join("state");
        State::existing(&state).expect("nothing is recorded");
        assert!(!state.exists(), "and nothing is made");
        mode(root.path(), 0o777);
        State::open(&state).expect_err("others could put their own there");
        State::existing(&state).expect_err("the same");
        assert!(!state.exists(), "nothing was made where it is refused");
        mode(root.path(), 0o700);
        State::open(&state).expect("made");
        mode(&state, 0o1777);
        State::open(&state).expect_err("others can write to it");
        State::existing(&state).expect_err("the same");
        mode(&state, 0o700);
        for name in ["runs", "active"] {
            std::fs::rename(state.join(name), root.path().join(name)).expect("moved");
            symlink(root.path().join(name), state.join(name)).expect("linked");
            State::open(&state).expect_err(name);
            State::existing(&state).expect_err(name);
            std::fs::remove_file(state.join(name)).expect("removed");
            std::fs::rename(root.path().join(name), state.join(name)).expect("moved");
        }
        State::existing(&state).expect("as before");
    }
}
