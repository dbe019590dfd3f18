//! Applies settings and takes them back. What was there before is on disk before anything changes, so that everything can
//! be restored after a failure, a kill, or months. The order: the record, the files, the live values, each read back; then
//! the record says `applied`. Anything that fails restores all. One that was killed is found as `begun`.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::beneath::{self, Folder, Links};
use crate::sys::output::Beside;
use crate::sys::owner;
use crate::tune::record::{Record, SavedFile, SavedValue, State};
use crate::tune::root::Root;
use crate::tune::value::is_same;

/// Where records of applies are.
pub(crate) const STORE: &str = "/var/lib/apm/tune";
/// Longest record that is read.
const RECORD_MAX: u64 = 4 << 20;

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
pub(crate) struct Store<'a> {
    root: &'a Root,
    folder: Folder,
    _lock: File,
}

impl<'a> Store<'a> {
    /// Opens it, for one apm at a time.
    pub(crate) fn open(root: &'a Root) -> io::Result<Self> {
        let folder = root.store(Path::new(STORE), true)?;
        // Whoever can open it can hold it.
        let lock = folder.file_or_new(Path::new("lock"), 0o600)?;
        owner::judge(&folder.path().join("lock"), &lock.metadata()?)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::new(io::ErrorKind::WouldBlock, "another apm tune is at work"),
            TryLockError::Error(error) => error,
        })?;
        Ok(Self { root, folder, _lock: lock })
    }

    fn shown(&self, id: &str) -> String {
        self.folder.path().join(format!("{id}.json")).display().to_string()
    }

    fn save(&self, record: &Record) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(record)?;
        let folder = self.folder.folder(Path::new("."))?;
        Beside::filled(folder, Path::new(&format!("{}.json", record.id)), &text, 0o600)?.place_lasting()
    }

    /// No record has this id yet.
    pub(crate) fn is_free(&self, id: &str) -> bool {
        self.folder.metadata(Path::new(&format!("{id}.json"))).is_err()
    }

    /// Writes files and sets values, or restores everything.
    pub(crate) fn apply(&self, record: &mut Record) -> Result<(), Failed> {
        let trouble = |id: &str, error: io::Error| Trouble { what: self.shown(id), why: why(&error) };
        if let Err(error) = self.save(record) {
            let _ = self.folder.remove_file(Path::new(&format!("{}.json", record.id)));
            return Err(Failed { trouble: trouble(&record.id, error), left: Vec::new() });
        }
        let done = self.change(record).and_then(|()| {
            record.state = State::Applied;
            self.save(record).map_err(|error| trouble(&record.id, error))
        });
        done.map_err(|trouble| Failed { trouble, left: self.roll_back(record) })
    }

    /// Restores what was before; says what could not be.
    pub(crate) fn roll_back(&self, record: &mut Record) -> Vec<Trouble> {
        let mut left = record.restore(self.root);
        if left.is_empty() {
            record.state = State::RolledBack;
            if let Err(error) = self.save(record) {
                let what = self.shown(&record.id);
                left.push(Trouble {
                    what,
                    why: format!("all is restored, but this record cannot say so: {}", why(&error)),
                });
            }
        }
        left
    }

    fn change(&self, record: &Record) -> Result<(), Trouble> {
        for file in &record.files {
            if file.after.is_some() {
                self.root.make_way(&file.path).map_err(|error| file.trouble(self.root, &error))?;
            }
            file.put(self.root, file.after.as_deref(), 0o644)?;
        }
        record.values.iter().try_for_each(|value| value.set(self.root, &value.after))
    }
}

/// All records, the oldest first, and files that are none. An error where the folder itself is not believed.
pub(crate) fn records(root: &Root) -> io::Result<(Vec<Record>, Vec<Trouble>)> {
    let (mut records, mut troubles): (Vec<Record>, Vec<Trouble>) = (Vec::new(), Vec::new());
    let folder = match root.store(Path::new(STORE), false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((records, troubles)),
        folder => folder?,
    };
    for name in folder.names()?.iter().filter(|name| Path::new(name).extension().is_some_and(|it| it == "json")) {
        match read(&folder, name.as_ref()) {
            Ok(record) => records.push(record),
            Err(why) => troubles.push(Trouble { what: folder.path().join(name).display().to_string(), why }),
        }
    }
    records.sort_by(|a, b| (&a.at, &a.id).cmp(&(&b.at, &b.id)));
    Ok((records, troubles))
}

fn read(folder: &Folder, name: &Path) -> Result<Record, String> {
    let text = folder.file(name, Links::Refused).and_then(|file| {
        owner::judge(&folder.path().join(name), &file.metadata()?)?;
        beneath::bounded(file, &folder.path().join(name), RECORD_MAX)
    });
    let text = text.map_err(|error| why(&error))?;
    Record::parse(&name.to_string_lossy(), &text)
}

impl Record {
    /// What is neither as it was before nor as apm made it: somebody changed it since.
    pub(crate) fn changed_since(&self, root: &Root) -> Vec<Trouble> {
        let values = self.values.iter().filter_map(|value| {
            let now = root.value(&value.path).ok()?;
            let counterpart = || value.counterpart.as_ref().filter(|_| value.before == "0" && now == "0");
            let counterpart = counterpart().and_then(|(path, before)| Some((root.value(path).ok()?, before, path)));
            // Only in a copy of such files: who wrote it was killed after it was emptied.
            let is_half = now.is_empty();
            let is_ours = is_half || is_same(&now, &value.after) || is_same(&now, &value.before);
            match counterpart {
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
            let now = root.text(&file.path).ok().flatten();
            let is_ours = now == file.after || now == file.before;
            let what = root.shown(&file.path).display().to_string();
            (!is_ours).then(|| Trouble { what, why: "it has other lines than apm wrote".to_owned() })
        });
        values.chain(files).collect()
    }

    /// Everything that is not as it was, the last change first. What cannot be restored does not keep the rest from it.
    fn restore(&self, root: &Root) -> Vec<Trouble> {
        let mut left = Vec::new();
        left.extend(self.values.iter().rev().filter_map(|value| value.restore(root).err()));
        left.extend(self.files.iter().rev().filter_map(|file| {
            let _ = root.sweep(&file.path);
            file.put(root, file.before.as_deref(), file.mode).err()
        }));
        for folder in self.folders.iter().rev() {
            // One that somebody else put something into meanwhile stays.
            let _ = root.remove_folder(folder);
        }
        left
    }
}

impl SavedFile {
    /// Its present state, to be followed by `after`.
    pub(crate) fn of(root: &Root, path: PathBuf, after: Option<String>) -> io::Result<Self> {
        let before = root.text(&path)?;
        let mode = root.mode(&path).unwrap_or(0o644);
        Ok(Self { path, before, mode, after })
    }

    fn put(&self, root: &Root, text: Option<&str>, mode: u32) -> Result<(), Trouble> {
        let done = root.text(&self.path).and_then(|now| match text {
            _ if now.as_deref() == text => Ok(()),
            Some(text) => root.begin(&self.path, text, mode)?.place_lasting(),
            None => root.remove(&self.path),
        });
        done.map_err(|error| self.trouble(root, &error))
    }

    fn trouble(&self, root: &Root, error: &io::Error) -> Trouble {
        Trouble { what: root.shown(&self.path).display().to_string(), why: why(error) }
    }
}

impl SavedValue {
    /// Sets it, and looks whether it is set.
    fn set(&self, root: &Root, value: &str) -> Result<(), Trouble> {
        let trouble = |why: String| Trouble { what: self.key.clone(), why };
        let name = root.shown(&self.path).display().to_string();
        root.set_value(&self.path, value)
            .map_err(|error| trouble(format!("write `{value}` to {name}: {}", why(&error))))?;
        let now = root.value(&self.path).map_err(|error| trouble(format!("read {name} back: {}", why(&error))))?;
        if is_same(&now, value) {
            return Ok(());
        }
        Err(trouble(format!("{name} says `{now}` after `{value}` was written")))
    }

    fn restore(&self, root: &Root) -> Result<(), Trouble> {
        // Writing either zeroes the other: the one that counted is written.
        if let Some((path, counterpart)) = self.counterpart.as_ref().filter(|_| self.before == "0")
            && !root.value(path).is_ok_and(|now| is_same(&now, counterpart))
        {
            Self { path: path.clone(), ..self.clone() }.set(root, counterpart)?;
        }
        if root.value(&self.path).is_ok_and(|now| is_same(&now, &self.before)) {
            return Ok(());
        }
        self.set(root, &self.before)
    }
}

fn why(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(_) => text.split(" (os error").next().unwrap_or_default().to_ascii_lowercase(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;

    use super::{Record, SavedFile, SavedValue, State, Store, records};
    use crate::tune::root::Root;

    const FILE: &str = "/etc/sysctl.d/60-apm.conf";
    const A: &str = "proc/sys/vm/max_map_count";
    const B: &str = "proc/sys/fs/file-max";

    struct Folder(tempfile::TempDir, Root);

    impl Folder {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            for (path, text) in [(A, "1\n"), (B, "8\n")] {
                let path = folder.path().join(path);
                fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
                fs::write(path, text).expect("written");
            }
            let root = Root::open(folder.path()).expect("a folder");
            Self(folder, root)
        }

        fn join(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        fn write(&self, path: &str, text: &str) {
            fs::write(self.join(path), text).expect("written");
        }

        fn record(&self) -> Record {
            let value = |key: &str, path: &str, before: &str, after: &str| {
                let (key, before, after) = (key.to_owned(), before.to_owned(), after.to_owned());
                SavedValue { key, path: Path::new("/").join(path), before, after, counterpart: None }
            };
            let file = SavedFile::of(&self.1, FILE.into(), Some("a = 2\n".to_owned())).expect("read");
            let values = vec![value("vm.max_map_count", A, "1", "2"), value("fs.file-max", B, "8", "9")];
            let (id, at) = ("20261129-024200".to_owned(), "2026-11-29T02:42:00Z".to_owned());
            Record::new(&self.1, id, at, vec![file], values)
        }

        fn tree(&self) -> Vec<(String, Option<String>)> {
            let mut found = Vec::new();
            let mut open = vec![self.0.path().to_owned()];
            while let Some(path) = open.pop() {
                let text = fs::read_to_string(&path).ok();
                let name = path.strip_prefix(self.0.path()).expect("inside").display().to_string();
                if !name.starts_with("var") {
                    found.push((name, text));
                }
                open.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
            }
            found.sort();
            found
        }
    }

    #[test]
    fn what_was_applied_is_taken_back_whole() {
        let folder = Folder::new();
        let mut record = folder.record();
        assert_eq!(record.folders, [Path::new("/etc"), Path::new("/etc/sysctl.d")]);
        let before = folder.tree();
        let store = Store::open(&folder.1).expect("a store");
        assert!(Store::open(&folder.1).is_err(), "one apm at a time");
        store.apply(&mut record).expect("applied");
        assert_eq!(fs::read_to_string(folder.join(A)).expect("there"), "2\n");
        let mode = |path: &str| fs::metadata(folder.join(path)).expect("there").permissions().mode() & 0o7777;
        let modes =
            ["var/lib/apm", "var/lib/apm/tune", "var/lib/apm/tune/lock", "etc/sysctl.d", FILE.trim_start_matches('/')];
        assert_eq!(modes.map(mode), [0o755, 0o700, 0o600, 0o755, 0o644]);
        let (mut all, troubles) = records(&folder.1).expect("read");
        assert_eq!((all.len(), all[0].state, troubles.len()), (1, State::Applied, 0));
        assert_eq!(store.roll_back(&mut all[0]), []);
        assert_eq!(folder.tree(), before);
        assert_eq!(records(&folder.1).expect("read").0[0].state, State::RolledBack);
    }

    #[test]
    fn what_somebody_changed_since_is_seen() {
        let folder = Folder::new();
        let mut record = folder.record();
        let store = Store::open(&folder.1).expect("a store");
        store.apply(&mut record).expect("applied");
        assert_eq!(record.changed_since(&folder.1), []);
        folder.write(A, "3\n");
        folder.write("etc/sysctl.d/60-apm.conf", "a = 2\nmine = 1\n");
        let changed: Vec<String> = record.changed_since(&folder.1).into_iter().map(|one| one.what).collect();
        assert_eq!(changed.len(), 2);
        assert!(changed[0] == "vm.max_map_count" && changed[1].ends_with("60-apm.conf"), "{changed:?}");
        // A half that counts where the other is 0.
        let counterpart = Some((PathBuf::from("/proc/ratio"), "20".to_owned()));
        folder.write("proc/ratio", "17\n");
        folder.write(B, "0\n");
        record.values = vec![SavedValue { before: "0".to_owned(), counterpart, ..record.values[1].clone() }];
        record.files.clear();
        assert_eq!(record.changed_since(&folder.1)[0].what, "ratio");
    }

    #[test]
    fn no_link_and_no_second_name_is_written_to() {
        let folder = Folder::new();
        fs::create_dir_all(folder.join("etc/sysctl.d")).expect("folders");
        symlink("/dev/null", folder.join("etc/sysctl.d/60-apm.conf")).expect("a link");
        SavedFile::of(&folder.1, FILE.into(), Some(String::new())).expect_err("somebody masked it");
        fs::write(folder.join("victim"), "outside").expect("written");
        for link in [true, false] {
            fs::remove_file(folder.join(A)).expect("removed");
            if link {
                symlink("../../../victim", folder.join(A)).expect("linked");
            } else {
                fs::hard_link(folder.join("victim"), folder.join(A)).expect("linked");
            }
            folder.1.set_value(Path::new("/").join(A).as_path(), "1").expect_err("not written");
            assert_eq!(fs::read_to_string(folder.join("victim")).expect("there"), "outside");
        }
    }

    #[test]
    fn a_value_that_cannot_be_set_restores_the_rest() {
        let folder = Folder::new();
        let mut record = folder.record();
        fs::remove_file(folder.join(B)).expect("the key vanishes");
        let before = folder.tree();
        let store = Store::open(&folder.1).expect("a store");
        let failed = store.apply(&mut record).expect_err("it is not there");
        assert_eq!((failed.trouble.what.as_str(), failed.left.len()), ("fs.file-max", 1), "{:?}", failed.left);
        assert_eq!(folder.tree(), before);
    }

    #[test]
    fn where_others_can_write_there_are_no_records() {
        let folder = Folder::new();
        Store::open(&folder.1).expect("a store").apply(&mut folder.record()).expect("applied");
        let mode =
            |path: &str, mode| fs::set_permissions(folder.join(path), fs::Permissions::from_mode(mode)).expect("set");
        for (path, kept) in [("var", 0o755), ("var/lib", 0o755), ("var/lib/apm/tune", 0o700)] {
            mode(path, 0o777);
            records(&folder.1).expect_err(path);
            Store::open(&folder.1).expect_err(path);
            mode(path, kept);
        }
        mode("var/lib/apm/tune/20261129-024200.json", 0o666);
        let (all, troubles) = records(&folder.1).expect("read");
        assert!(all.is_empty() && troubles[0].why.contains("can be changed by other users"), "{troubles:?}");
        if fs::metadata(folder.join("var")).expect("there").uid() == 0 {
            std::os::unix::fs::chown(folder.join("var/lib"), Some(65534), None).expect("given away");
            records(&folder.1).expect_err("of somebody else");
        }
    }

    proptest! {
        #[test]
        fn no_record_is_a_panic(text in any::<String>()) {
            let folder = Folder::new();
            drop(Store::open(&folder.1).expect("a store"));
            folder.write("var/lib/apm/tune/x.json", &text);
            let (records, troubles) = records(&folder.1).expect("read");
            prop_assert_eq!((records.len(), troubles.len()), (0, 1));
        }
    }
}
