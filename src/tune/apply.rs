//! Applies settings and takes them back. What was there before is on disk before anything changes, so that everything can
//! be restored after a failure, a kill, or months. The order: the record, the files, the live values, each read back; then
//! the record says `applied`. Anything that fails restores all. One that was killed is found as `begun`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::probe::tunables::{chosen, one_line};
use crate::tune::value::is_same;

const SCHEMA: &str = "apm.tune.record/1";
/// Longest record that is read.
const RECORD_MAX: u64 = 4 << 20;

/// What became of an apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// It runs, or was killed.
    Begun,
    Applied,
    /// Everything is as it was before.
    RolledBack,
}

/// An apply, with all that is needed to take it back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) schema: String,
    pub(crate) id: String,
    /// When it began, RFC 3339.
    pub(crate) at: String,
    pub(crate) state: State,
    pub(crate) files: Vec<SavedFile>,
    /// Folders that were made for them, the outermost first.
    pub(crate) folders: Vec<PathBuf>,
    pub(crate) values: Vec<SavedValue>,
    /// Network namespace in which it was, `net:[4026531840]`; absent where it is of no matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<String>,
}

/// A file that is written, or removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedFile {
    pub(crate) path: PathBuf,
    /// Absent: there was none.
    pub(crate) before: Option<String>,
    /// Permissions it had.
    pub(crate) mode: u32,
    /// Absent: it is removed.
    pub(crate) after: Option<String>,
}

/// A live value that is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedValue {
    pub(crate) key: String,
    pub(crate) path: PathBuf,
    pub(crate) before: String,
    pub(crate) after: String,
    /// The setting that the kernel zeroes when this one is written, and its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) twin: Option<(PathBuf, String)>,
}

/// Something that could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// A key or a file.
    pub(crate) what: String,
    pub(crate) why: String,
}

/// An apply that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) trouble: Trouble,
    /// What could not be restored; empty: all is as it was.
    pub(crate) left: Vec<Trouble>,
}

/// Where records are.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    _lock: File,
}

impl Store {
    /// Opens it, for one apm at a time.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        // Whoever can open it can hold it.
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).mode(0o600).open(folder.join("lock"))?;
        lock.set_permissions(fs::Permissions::from_mode(0o600))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => io::Error::new(io::ErrorKind::WouldBlock, "another apm tune is at work"),
            fs::TryLockError::Error(error) => error,
        })?;
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    fn save(&self, record: &Record) -> io::Result<()> {
        put(&self.path(&record.id), &serde_json::to_vec_pretty(record)?, 0o600)
    }

    /// A number that no record has.
    pub(crate) fn free_id(&self, wanted: &str) -> String {
        let mut id = wanted.to_owned();
        let mut at = 2;
        while self.path(&id).exists() {
            id = format!("{wanted}-{at}");
            at += 1;
        }
        id
    }

    /// Writes files and sets values, or restores everything.
    pub(crate) fn apply(&self, record: &mut Record) -> Result<(), Failed> {
        let trouble = |what: &Path, error: io::Error| Trouble { what: what.display().to_string(), why: why(&error) };
        if let Err(error) = self.save(record) {
            let _ = fs::remove_file(self.path(&record.id));
            return Err(Failed { trouble: trouble(&self.path(&record.id), error), left: Vec::new() });
        }
        let done = record.change().and_then(|()| {
            record.state = State::Applied;
            self.save(record).map_err(|error| trouble(&self.path(&record.id), error))
        });
        done.map_err(|trouble| Failed { trouble, left: self.roll_back(record) })
    }

    /// Restores what was before; says what could not be.
    pub(crate) fn roll_back(&self, record: &mut Record) -> Vec<Trouble> {
        let mut left = record.restore();
        if left.is_empty() {
            record.state = State::RolledBack;
            if let Err(error) = self.save(record) {
                let what = self.path(&record.id).display().to_string();
                left.push(Trouble {
                    what,
                    why: format!("all is restored, but this record cannot say so: {}", why(&error)),
                });
            }
        }
        left
    }
}

/// All records, the oldest first, and files that are none.
pub(crate) fn records(folder: &Path) -> (Vec<Record>, Vec<Trouble>) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    let (mut records, mut troubles): (Vec<Record>, Vec<Trouble>) = (Vec::new(), Vec::new());
    for path in paths {
        match read(&path) {
            Ok(record) => records.push(record),
            Err(why) => troubles.push(Trouble { what: path.display().to_string(), why }),
        }
    }
    records.sort_by(|a, b| (&a.at, &a.id).cmp(&(&b.at, &b.id)));
    (records, troubles)
}

fn read(path: &Path) -> Result<Record, String> {
    let size = fs::metadata(path).map_err(|error| why(&error))?.len();
    if size > RECORD_MAX {
        return Err("too large for a record".to_owned());
    }
    let text = fs::read(path).map_err(|error| why(&error))?;
    let record: Record = serde_json::from_slice(&text).map_err(|error| format!("no record: {error}"))?;
    if record.schema != SCHEMA {
        return Err(format!("its schema is `{}`, this apm knows {SCHEMA}", record.schema.escape_debug()));
    }
    Ok(record)
}

impl Record {
    /// One that nothing was done for yet.
    pub(crate) fn new(id: String, at: String, files: Vec<SavedFile>, values: Vec<SavedValue>) -> Self {
        let mut folders: Vec<PathBuf> = Vec::new();
        for file in files.iter().filter(|file| file.after.is_some()) {
            let missing = file.path.ancestors().skip(1).take_while(|folder| !folder.exists());
            let missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
            folders.extend(missing.into_iter().rev());
        }
        folders.sort();
        folders.dedup();
        Self { schema: SCHEMA.to_owned(), id, at, state: State::Begun, files, folders, values, network: None }
    }

    fn change(&self) -> Result<(), Trouble> {
        for folder in &self.folders {
            let made =
                fs::create_dir(folder).and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o755)));
            made.map_err(|error| Trouble { what: folder.display().to_string(), why: why(&error) })?;
        }
        for file in &self.files {
            file.put(file.after.as_deref(), 0o644)?;
        }
        for value in &self.values {
            value.set(&value.after)?;
        }
        Ok(())
    }

    /// What is neither as it was before nor as apm made it: somebody changed it since.
    pub(crate) fn changed_since(&self) -> Vec<Trouble> {
        let values = self.values.iter().filter_map(|value| {
            let now = read_value(&value.path).ok()?;
            let twin = || value.twin.as_ref().filter(|_| value.before == "0" && now == "0");
            let twin = twin().and_then(|(path, before)| Some((read_value(path).ok()?, before, path)));
            let is_ours = is_same(&now, &value.after) || is_same(&now, &value.before);
            match twin {
                Some((now, before, path)) if !is_same(&now, before) && now != "0" => {
                    let what = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    Some(Trouble { what, why: format!("it is {now} now, it was {before}") })
                }
                _ if is_ours => None,
                _ => {
                    let why = format!("it is {now} now, apm had set {}, it was {}", value.after, value.before);
                    Some(Trouble { what: value.key.clone(), why })
                }
            }
        });
        let files = self.files.iter().filter_map(|file| {
            let now = fs::read_to_string(&file.path).ok();
            let is_ours = now == file.after || now == file.before;
            let what = file.path.display().to_string();
            (!is_ours).then(|| Trouble { what, why: "it has other lines than apm wrote".to_owned() })
        });
        values.chain(files).collect()
    }

    /// Everything that is not as it was, the last change first. What cannot be restored does not keep the rest from it.
    fn restore(&self) -> Vec<Trouble> {
        let mut left = Vec::new();
        left.extend(self.values.iter().rev().filter_map(|value| value.restore().err()));
        left.extend(self.files.iter().rev().filter_map(|file| {
            let _ = fs::remove_file(beside(&file.path));
            file.put(file.before.as_deref(), file.mode).err()
        }));
        for folder in self.folders.iter().rev() {
            // One that somebody else put something into meanwhile stays.
            let _ = fs::remove_dir(folder);
        }
        left
    }
}

impl SavedFile {
    /// Its present state, to be followed by `after`.
    pub(crate) fn of(path: PathBuf, after: Option<String>) -> io::Result<Self> {
        if fs::symlink_metadata(&path).is_ok_and(|kind| !kind.is_file()) {
            return Err(io::Error::other("it is a link or no file"));
        }
        let before = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mode = fs::metadata(&path).map_or(0o644, |data| data.permissions().mode() & 0o7777);
        Ok(Self { path, before, mode, after })
    }

    fn put(&self, text: Option<&str>, mode: u32) -> Result<(), Trouble> {
        let now = fs::read_to_string(&self.path).ok();
        let done = match text {
            Some(text) if now.as_deref() == Some(text) => Ok(()),
            Some(text) => put(&self.path, text.as_bytes(), mode),
            None => match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        };
        done.map_err(|error| Trouble { what: self.path.display().to_string(), why: why(&error) })
    }
}

impl SavedValue {
    /// Sets it, and looks whether it is set.
    fn set(&self, value: &str) -> Result<(), Trouble> {
        let trouble = |why: String| Trouble { what: self.key.clone(), why };
        let name = self.path.display();
        write_value(&self.path, value)
            .map_err(|error| trouble(format!("write `{value}` to {name}: {}", why(&error))))?;
        let now = read_value(&self.path).map_err(|error| trouble(format!("read {name} back: {}", why(&error))))?;
        if is_same(&now, value) {
            return Ok(());
        }
        Err(trouble(format!("{name} says `{now}` after `{value}` was written")))
    }

    fn restore(&self) -> Result<(), Trouble> {
        // Writing either zeroes the other: the one that counted is written.
        if let Some((path, twin)) = self.twin.as_ref().filter(|_| self.before == "0")
            && !read_value(path).is_ok_and(|now| is_same(&now, twin))
        {
            Self { path: path.clone(), ..self.clone() }.set(twin)?;
        }
        if read_value(&self.path).is_ok_and(|now| is_same(&now, &self.before)) {
            return Ok(());
        }
        self.set(&self.before)
    }
}

/// Reads a live value.
pub(crate) fn read_value(path: &Path) -> io::Result<String> {
    Ok(chosen(&one_line(&fs::read_to_string(path)?)))
}

/// The kernel wants a value in one write.
fn write_value(path: &Path, value: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
    let text = format!("{value}\n");
    match file.write(text.as_bytes())? {
        count if count == text.len() => Ok(()),
        count => Err(io::Error::other(format!("only {count} of {} bytes were taken", text.len()))),
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".apm-new");
    path.with_file_name(name)
}

/// Writes a file that is whole or not there, and lasts.
fn put(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let new = beside(path);
    let written = File::create(&new).and_then(|mut file| {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(text)?;
        file.sync_all()
    });
    let done = written.and_then(|()| fs::rename(&new, path));
    if done.is_err() {
        let _ = fs::remove_file(&new);
    }
    done?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn why(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::{Record, SavedFile, SavedValue, State, Store, records};

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("apm-tune-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(folder.join("proc")).expect("folders");
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn record(folder: &Folder) -> Record {
        let value = |name: &str, before: &str, after: &str| {
            let path = folder.0.join("proc").join(name);
            fs::write(&path, format!("{before}\n")).expect("written");
            let (key, before, after) = (name.to_owned(), before.to_owned(), after.to_owned());
            SavedValue { key, path, before, after, twin: None }
        };
        let file = SavedFile::of(folder.0.join("etc/sysctl.d/60-apm.conf"), Some("a = 2\n".to_owned())).expect("read");
        Record::new("r1".to_owned(), "2026".to_owned(), vec![file], vec![value("a", "1", "2"), value("b", "x", "y")])
    }

    fn tree(folder: &Folder) -> Vec<(String, Option<String>)> {
        let mut found = Vec::new();
        let mut open = vec![folder.0.clone()];
        while let Some(path) = open.pop() {
            let text = fs::read_to_string(&path).ok();
            let name = path.strip_prefix(&folder.0).expect("inside").display().to_string();
            if !name.starts_with("store") {
                found.push((name, text));
            }
            open.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
        found.sort();
        found
    }

    #[test]
    fn what_was_applied_is_taken_back_whole() {
        let folder = Folder::new("whole");
        let mut record = record(&folder);
        let before = tree(&folder);
        let store = Store::open(&folder.0.join("store")).expect("a store");
        assert!(Store::open(&folder.0.join("store")).is_err(), "one apm at a time");
        store.apply(&mut record).expect("applied");
        assert_eq!(fs::read_to_string(folder.0.join("proc/a")).expect("there"), "2\n");
        let (mut all, troubles) = records(&folder.0.join("store"));
        assert_eq!((all.len(), all[0].state, troubles.len()), (1, State::Applied, 0));
        assert_eq!(store.roll_back(&mut all[0]), []);
        assert_eq!(tree(&folder), before);
        assert_eq!(records(&folder.0.join("store")).0[0].state, State::RolledBack);
    }

    #[test]
    fn what_somebody_changed_since_is_seen() {
        let folder = Folder::new("changed");
        let mut record = record(&folder);
        let store = Store::open(&folder.0.join("store")).expect("a store");
        store.apply(&mut record).expect("applied");
        assert_eq!(record.changed_since(), []);
        fs::write(folder.0.join("proc/a"), "3\n").expect("written");
        fs::write(folder.0.join("etc/sysctl.d/60-apm.conf"), "a = 2\nmine = 1\n").expect("written");
        let changed: Vec<String> = record.changed_since().into_iter().map(|one| one.what).collect();
        assert_eq!(changed.len(), 2);
        assert!(changed[0] == "a" && changed[1].ends_with("60-apm.conf"), "{changed:?}");
        // A half that counts where the other is 0.
        let twin = Some((folder.0.join("proc/ratio"), "20".to_owned()));
        fs::write(folder.0.join("proc/ratio"), "17\n").expect("written");
        fs::write(folder.0.join("proc/b"), "0\n").expect("written");
        record.values = vec![SavedValue { before: "0".to_owned(), twin, ..record.values[1].clone() }];
        record.files.clear();
        assert_eq!(record.changed_since()[0].what, "ratio");
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = Folder::new("link");
        std::os::unix::fs::symlink("/dev/null", folder.0.join("masked")).expect("a link");
        SavedFile::of(folder.0.join("masked"), Some(String::new())).expect_err("somebody masked it");
    }

    #[test]
    fn a_value_that_cannot_be_set_restores_the_rest() {
        let folder = Folder::new("refused");
        let mut record = record(&folder);
        fs::remove_file(folder.0.join("proc/b")).expect("the key vanishes");
        let before = tree(&folder);
        let store = Store::open(&folder.0.join("store")).expect("a store");
        let failed = store.apply(&mut record).expect_err("b is not there");
        assert_eq!((failed.trouble.what.as_str(), failed.left.len()), ("b", 1), "{:?}", failed.left);
        assert_eq!(tree(&folder), before);
    }

    proptest! {
        #[test]
        fn no_record_is_a_panic(text in any::<String>()) {
            let folder = Folder::new(&format!("garbage-{}", blake3::hash(text.as_bytes())));
            fs::create_dir_all(folder.0.join("store")).expect("a folder");
            fs::write(folder.0.join("store/x.json"), &text).expect("written");
            let (records, troubles) = records(&folder.0.join("store"));
            prop_assert_eq!((records.len(), troubles.len()), (0, 1));
        }
    }
}
