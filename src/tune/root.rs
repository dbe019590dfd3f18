//! The machine whose settings are written: this one, or one whose files are in a folder. Its folder is opened once, and
//! nothing that is read or written is reached by a way that leads out of it.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::probe::tunables::{chosen, one_line};
use crate::sys::beneath::{Folder, Links};
use crate::sys::file_system::is_of_kernel;
use crate::sys::output::{self, Beside};
use crate::sys::owner;

/// Longest file of settings, and longest value, that is read.
const TEXT_MAX: u64 = 1 << 20;
/// Mode of folders that are made: readers of all users go through them.
const FOLDER: u32 = 0o755;

/// A machine. Paths are absolute, as it names them itself.
#[derive(Debug)]
pub(crate) struct Root {
    folder: Folder,
    is_here: bool,
}

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let folder = output::named_folder(path)?;
        let identity = |folder: &Folder| folder.own_metadata().map(|meta| (meta.dev(), meta.ino()));
        let is_here = identity(&folder)? == identity(&Folder::open(Path::new("/"))?)?;
        Ok(Self { folder, is_here })
    }

    /// It is this machine.
    pub(crate) fn is_here(&self) -> bool {
        self.is_here
    }

    /// Before something is written: the folder of somebody else is not a machine that this user looks after.
    pub(crate) fn judge(&self) -> io::Result<()> {
        if self.is_here {
            return Ok(());
        }
        Ok(owner::judge_owner_of(self.folder.path(), &self.folder.own_metadata()?)?)
    }

    /// The path as this machine names it, for messages.
    pub(crate) fn shown(&self, path: &Path) -> PathBuf {
        self.folder.path().join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The path beneath the folder. On this machine the administrator's links between folders are followed, `/var` on
    /// another disk; in the files of another machine none is.
    fn beneath(&self, path: &Path) -> PathBuf {
        let folder = path.parent().unwrap_or(path);
        let real = folder
            .ancestors()
            .filter(|_| self.is_here)
            .find_map(|above| Some(above.canonicalize().ok()?.join(path.strip_prefix(above).ok()?)));
        let path = real.as_deref().unwrap_or(path);
        path.strip_prefix("/").unwrap_or(path).to_owned()
    }

    /// The file of a live value. On this machine only the kernel makes links there: `/sys/block` is full of them.
    fn value_beneath(&self, path: &Path) -> PathBuf {
        let real = path.canonicalize().ok().filter(|_| self.is_here);
        let path = real.as_deref().unwrap_or(path);
        path.strip_prefix("/").unwrap_or(path).to_owned()
    }

    /// Whether it has something of this name, a link that leads nowhere included.
    pub(crate) fn has(&self, path: &Path) -> bool {
        let beneath = self.beneath(path);
        self.folder.exists(&beneath, Links::Within) || self.folder.metadata(&beneath).is_ok()
    }

    /// The text of a regular file; none where there is none.
    pub(crate) fn text(&self, path: &Path) -> io::Result<Option<String>> {
        let bytes = match self.folder.read(&self.beneath(path), Links::Refused, TEXT_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        String::from_utf8(bytes)
            .map(Some)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
    }

    /// Permissions of a file, without those that no file of settings has.
    pub(crate) fn mode(&self, path: &Path) -> Option<u32> {
        self.folder.metadata(&self.beneath(path)).ok().map(|meta| meta.mode() & 0o755)
    }

    /// Whether something else than a regular file keeps one from being there.
    pub(crate) fn is_masked(&self, path: &Path) -> bool {
        self.folder.metadata(&self.beneath(path)).is_ok_and(|meta| !meta.is_file())
    }

    /// Folders that lead to a file and are not there, the outermost first.
    pub(crate) fn missing_way(&self, path: &Path) -> Vec<PathBuf> {
        let missing = path.ancestors().skip(1).take_while(|folder| folder.parent().is_some() && !self.has(folder));
        let mut missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        missing.reverse();
        missing
    }

    /// Makes the folders that lead to a file, where they are missing.
    pub(crate) fn make_way(&self, path: &Path) -> io::Result<()> {
        let beneath = self.beneath(path);
        self.folder.make_folder(beneath.parent().unwrap_or(&beneath), FOLDER).map(drop)
    }

    /// Writes a file beside its place.
    pub(crate) fn begin(&self, path: &Path, text: &str, mode: u32) -> io::Result<Beside> {
        let (folder, name) = self.folder.parent_of(&self.beneath(path))?;
        Beside::filled(folder, Path::new(&name), text.as_bytes(), mode)
    }

    /// Removes a file, and what a killed writer of it left.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        self.sweep(path)?;
        self.folder.remove_file(&self.beneath(path))
    }

    /// Removes what a killed writer of a file left.
    pub(crate) fn sweep(&self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.folder.parent_of(&self.beneath(path))?;
        output::remove_leftovers(&folder, Path::new(&name));
        Ok(())
    }

    /// Removes an empty folder.
    pub(crate) fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.folder.remove_folder(&self.beneath(path))
    }

    /// Opens the folder of records, each folder on the way judged: who can change one of them could put records there. It
    /// is for its owner alone where it is made.
    pub(crate) fn store(&self, path: &Path, make: bool) -> io::Result<Folder> {
        let beneath = self.beneath(path);
        let last = beneath.components().count().saturating_sub(1);
        let mut folder = self.folder.folder(Path::new("."))?;
        if !self.is_here {
            owner::judge(self.folder.path(), &folder.own_metadata()?)?;
        }
        for (at, name) in beneath.iter().map(Path::new).enumerate() {
            let mode = if at == last { 0o700 } else { FOLDER };
            folder = if make { folder.make_folder(name, mode)?.0 } else { folder.folder(name)? };
            owner::judge(folder.path(), &folder.own_metadata()?)?;
        }
        Ok(folder)
    }

    /// Reads a live value.
    pub(crate) fn value(&self, path: &Path) -> io::Result<String> {
        let bytes = self.folder.read(&self.value_beneath(path), Links::Within, TEXT_MAX)?;
        let text =
            String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))?;
        Ok(chosen(&one_line(&text)))
    }

    /// The kernel wants a value in one write.
    pub(crate) fn set_value(&self, path: &Path, value: &str) -> io::Result<()> {
        let mut file = self.value_to_write(path)?;
        if !is_of_kernel(&file) {
            file.set_len(0)?;
        }
        let text = format!("{value}\n");
        match file.write(text.as_bytes())? {
            count if count == text.len() => Ok(()),
            count => Err(io::Error::other(format!("only {count} of {} bytes were taken", text.len()))),
        }
    }

    /// Opens the file of a live value. Where the folder holds a running system, such as that of the host of a container,
    /// the kernel's own links are followed, which nobody else can make there. A copy of such files is written to only
    /// without links, and not where it has a second name elsewhere.
    pub(crate) fn value_to_write(&self, path: &Path) -> io::Result<File> {
        let path = self.value_beneath(path);
        let file = self.folder.file_to_write(&path, Links::Refused).or_else(|error| {
            let file = self.folder.file_to_write(&path, Links::Within);
            file.ok().filter(|file| is_of_kernel(file)).ok_or(error)
        })?;
        if is_of_kernel(&file) {
            return Ok(file);
        }
        let (meta, shown) = (file.metadata()?, self.folder.path().join(&path));
        owner::judge(&shown, &meta)?;
        if meta.nlink() > 1 {
            let text =
                format!("`{}` has {} hard links, and may be another file elsewhere", shown.display(), meta.nlink());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(file)
    }
}
