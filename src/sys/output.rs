//! Files that a user names for results, and files that are replaced whole. Where others may write too (`/tmp`, a shared
//! folder) they must not choose what is written to: links are followed as the kernel does with `fs.protected_symlinks=1`,
//! whatever is set here, and temporary files are never ones that were there before.

use std::collections::hash_map::RandomState;
use std::fs::{File, Metadata, Permissions, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::sys::beneath::Folder;
use crate::sys::owner::{self, Distrust};

/// Names looked at for what killed writers left.
const NAMES_MAX: usize = 10_000;
/// Of the name of a file, at the start of that of its temporary file: the whole must not be too long for a name.
const STEM_MAX: usize = 200;
/// Ends the name of a temporary file; before it are 16 random hexadecimal digits.
const ENDING: &str = ".apm-tmp";
const DIGITS: usize = 16;
/// Names tried for a temporary file.
const TRIES_MAX: usize = 64;

/// Where writing to a path leads, without links: a symbolic link stays, also one whose target is not there yet. Links are
/// judged wherever they stand in the path.
pub(crate) fn target(path: &Path) -> io::Result<PathBuf> {
    owner::resolved(path, judge_link)
}

/// The folder that results are written to, which is made where it is missing, as by `mkdir -p`.
pub(crate) fn folder(path: &Path) -> io::Result<Folder> {
    let path = target(path)?;
    let there = path.ancestors().find(|folder| folder.as_os_str().is_empty() || folder.is_dir());
    let there = there.unwrap_or(Path::new("/"));
    let mut folder = unlinked(there)?;
    for name in path.strip_prefix(there).unwrap_or(&path) {
        folder = folder.folder_by_umask(Path::new(name))?;
    }
    Ok(folder)
}

/// Makes the folder of a file for results where it alone is missing, as test runners do: `reports/junit.xml`. Where more of
/// the path is missing it is more likely a slip, and creating the file says so.
pub(crate) fn make_folder_of(file: &Path) -> io::Result<()> {
    let path = target(file)?;
    let folder = folder_of(&path);
    let Some(name) = folder.file_name().filter(|_| folder.symlink_metadata().is_err()) else { return Ok(()) };
    if folder_of(folder).is_dir() {
        unlinked(folder_of(folder))?.folder_by_umask(Path::new(name))?;
    }
    Ok(())
}

/// Opens a folder that was named.
pub(crate) fn named_folder(path: &Path) -> io::Result<Folder> {
    Ok(unlinked(&target(path)?)?.shown_as(path))
}

/// Opens a folder whose path has been resolved: nobody has put a link there since.
fn unlinked(path: &Path) -> io::Result<Folder> {
    // There the links are the kernel's.
    if is_of_kernel(path) { Folder::open(path) } else { Folder::unlinked(path) }
}

fn is_of_kernel(folder: &Path) -> bool {
    folder.starts_with("/proc")
}

/// `may_follow_link` of the kernel: in a sticky folder that all can write to, links of this user and of the folder's owner.
fn judge_link(path: &Path) -> io::Result<()> {
    let link = path.symlink_metadata()?;
    let folder = folder_of(path).metadata()?;
    if !is_shared(&folder) || link.uid() == owner::user() || link.uid() == folder.uid() {
        return Ok(());
    }
    let (path, owner, user) = (path.display(), link.uid(), owner::user());
    let text = format!(
        "`{path}` is a symbolic link of user {owner} in a folder that all can write to, and this is user {user}"
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// Whether a folder is like `/tmp`.
fn is_shared(folder: &Metadata) -> bool {
    folder.mode() & (libc::S_ISVTX | libc::S_IWOTH) == libc::S_ISVTX | libc::S_IWOTH
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) => Path::new("."),
        None => Path::new("/"),
    }
}

/// What a file that is written as it grows begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// Nothing: what was there goes.
    Nothing,
    /// What was there.
    Kept,
}

/// Opens a file for writing as the shell does with `>` or `>>`. In a folder like `/tmp` it has to belong to this user or
/// to the folder's owner, as with `fs.protected_regular=1` and `fs.protected_fifos=1`, and to have no other name.
pub(crate) fn open(path: &Path, before: Before) -> io::Result<File> {
    let path = target(path)?;
    let folder = unlinked(folder_of(&path))?;
    let name = Path::new(path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?);
    let in_folder = folder.own_metadata()?;
    // To open a FIFO is to wait for its reader.
    if let Ok(meta) = folder.metadata(name) {
        judge_file(&path, &in_folder, &meta)?;
    }
    // What `target` leaves a link is one of /proc, where nobody can put one.
    let file =
        if is_of_kernel(&path) { of_kernel(&path, before)? } else { folder.output(name, before == Before::Kept)? };
    let meta = file.metadata()?;
    judge_file(&path, &in_folder, &meta)?;
    // Nothing goes before it is judged.
    if before == Before::Nothing && meta.is_file() {
        file.set_len(0)?;
    }
    Ok(file)
}

#[expect(clippy::disallowed_methods, reason = "output: what a descriptor of this process is open for")]
fn of_kernel(path: &Path, before: Before) -> io::Result<File> {
    File::options().write(true).append(before == Before::Kept).open(path)
}

fn judge_file(path: &Path, folder: &Metadata, meta: &Metadata) -> io::Result<()> {
    if !is_shared(folder) {
        return Ok(());
    }
    if meta.uid() != owner::user() && meta.uid() != folder.uid() {
        return Err(Distrust::Owner { path: path.to_owned(), owner: meta.uid(), user: owner::user() }.into());
    }
    if meta.is_file() && meta.nlink() > 1 {
        let text =
            format!("`{}` has another name as well (a hard link), in a folder that all can write to", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(())
}

/// A file that takes the place of another when it is whole. Until then it stands beside it, and is locked: the next writer
/// of the same file knows by that which of them belong to writers that were killed, and removes those.
#[derive(Debug)]
pub(crate) struct Beside {
    file: File,
    folder: Folder,
    beside: PathBuf,
    name: PathBuf,
    is_placed: bool,
}

impl Beside {
    /// Begins one for a path, whose links are followed.
    pub(crate) fn create(path: &Path, mode: u32) -> io::Result<Self> {
        let path = target(path)?;
        let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?;
        Self::create_in(unlinked(folder_of(&path))?, Path::new(name), mode)
    }

    /// Begins one for a name in an open folder. What has the name now is replaced, a link too. The umask applies to the mode.
    pub(crate) fn create_in(folder: Folder, name: &Path, mode: u32) -> io::Result<Self> {
        remove_leftovers(&folder, name);
        let stem = stem(name);
        for _ in 0..TRIES_MAX {
            let beside = PathBuf::from(format!("{stem}{:016x}{ENDING}", random()));
            let file = match folder.new_file(&beside, mode) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                file => file?,
            };
            // Where files cannot be locked at all nobody takes it for a leftover.
            let is_taken = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
            // Before it was locked another writer may have.
            if !is_taken && is_same(&folder, &beside, &file) {
                return Ok(Self { file, folder, beside, name: name.to_owned(), is_placed: false });
            }
        }
        Err(io::Error::other(format!("no free name for a temporary file in `{}`", folder.path().display())))
    }

    /// One with its text and exactly this mode, on the disk.
    pub(crate) fn filled(folder: Folder, name: &Path, text: &[u8], mode: u32) -> io::Result<Self> {
        let beside = Self::create_in(folder, name, 0o600)?;
        beside.file.set_permissions(Permissions::from_mode(mode))?;
        (&beside.file).write_all(text)?;
        beside.file.sync_all()?;
        Ok(beside)
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Puts it into its place.
    pub(crate) fn place(mut self) -> io::Result<()> {
        self.rename()
    }

    /// Puts it into its place so that it is there after a loss of power.
    pub(crate) fn place_lasting(mut self) -> io::Result<()> {
        self.rename()?;
        self.folder.sync()
    }

    fn rename(&mut self) -> io::Result<()> {
        self.folder.rename(&self.beside, &self.name)?;
        self.is_placed = true;
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.is_placed {
            // The work broke off before the end: nothing half written stays.
            let _ = self.folder.remove_file(&self.beside);
        }
    }
}

/// How the names of all temporary files for this one begin.
fn stem(name: &Path) -> String {
    let name = name.to_string_lossy();
    let end = (0..=name.len().min(STEM_MAX)).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    format!(".{}.", &name[..end])
}

/// Removes what writers of the same file left that were killed. What fails is tried again by the next writer.
pub(crate) fn remove_leftovers(folder: &Folder, name: &Path) {
    let stem = stem(name);
    let is_temporary = |name: &str| {
        let digits = name.strip_prefix(&stem).and_then(|rest| rest.strip_suffix(ENDING));
        digits.is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    for name in &folder.names_up_to(NAMES_MAX).unwrap_or_default() {
        if !name.to_str().is_some_and(is_temporary) {
            continue;
        }
        let name = Path::new(name);
        // For reading and writing: over NFS a lock of a file that is open for reading only is refused.
        let Ok(file) = folder.file_to_change(name) else { continue };
        let is_ours = file.metadata().is_ok_and(|meta| meta.uid() == owner::user());
        if is_ours && file.try_lock().is_ok() && is_same(folder, name, &file) {
            let _ = folder.remove_file(name);
        }
    }
}

fn is_same(folder: &Folder, name: &Path, file: &File) -> bool {
    let there = folder.metadata(name).map(|meta| (meta.dev(), meta.ino()));
    there.is_ok_and(|there| file.metadata().is_ok_and(|meta| (meta.dev(), meta.ino()) == there))
}

/// A number that nobody else can guess: the keys of the hash are random.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
    use std::path::Path;

    use super::{Before, Beside, ENDING, folder, open, stem, target};
    use crate::sys::beneath::Folder;
    use crate::sys::owner::user;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .expect("listed")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_killed_writers_left_goes_and_what_lives_stays() {
        let base = tempfile::tempdir().expect("a folder");
        let place = base.path().join("report.xml");
        let living = Beside::create(&place, 0o666).expect("begun");
        let left = format!(".report.xml.0123456789abcdef{ENDING}");
        let others = [
            format!(".report.xml.0123456789abcde{ENDING}"),
            format!(".report.xml.0123456789abcdef.x{ENDING}"),
            format!(".report.html.0123456789abcdef{ENDING}"),
            "report.xml.12.tmp".to_owned(),
        ];
        for name in others.iter().chain([&left]) {
            fs::write(base.path().join(name), "half").expect("written");
        }
        let link = format!(".report.xml.fedcba9876543210{ENDING}");
        symlink(base.path().join("report.xml.12.tmp"), base.path().join(&link)).expect("linked");
        let next = Beside::create(&place, 0o666).expect("begun");
        let now = names(base.path());
        assert_eq!(now.len(), others.len() + 3, "{now:?}");
        assert!(!now.contains(&left) && now.contains(&link), "{now:?}");
        next.file().write_all(b"next").expect("written");
        next.place().expect("placed");
        assert_eq!(fs::read(&place).expect("read"), b"next");
        living.file().write_all(b"living").expect("written");
        living.place().expect("it was not taken for a leftover");
        assert_eq!(fs::read(&place).expect("read"), b"living");
        drop(Beside::create(&place, 0o666).expect("begun"));
        assert_eq!(names(base.path()).len(), others.len() + 2);
    }

    #[test]
    fn a_name_of_any_length_has_a_temporary_file() {
        let base = tempfile::tempdir().expect("a folder");
        let name = "é".repeat(127);
        Beside::create(&base.path().join(&name), 0o666).expect("begun").place().expect("placed");
        assert_eq!(names(base.path()), std::slice::from_ref(&name));
        assert!(stem(Path::new(&name)).len() <= super::STEM_MAX + 2);
    }

    #[test]
    fn links_are_followed_as_with_protected_symlinks() {
        let base = tempfile::tempdir().expect("a folder");
        let shared = base.path().join("shared");
        fs::create_dir(&shared).expect("made");
        let victim = base.path().join("victim");
        fs::write(&victim, "kept").expect("written");
        let link = shared.join("link");
        symlink("../victim", &link).expect("linked");
        let mode = |mode| fs::set_permissions(&shared, fs::Permissions::from_mode(mode)).expect("changed");
        mode(0o1777);
        assert_eq!(target(&link).expect("our own"), base.path().join("victim"));
        symlink("loop", shared.join("loop")).expect("linked");
        target(&shared.join("loop")).expect_err("it ends nowhere");
        symlink(base.path(), shared.join("way")).expect("linked");
        assert_eq!(target(&shared.join("way/./shared/../new")).expect("our own"), base.path().join("new"));
        assert_eq!(target(Path::new("../a/./b/../c")).expect("relative"), Path::new("../a/c"));
        assert_eq!(target(Path::new("/../..")).expect("the root"), Path::new("/"));
        assert!(folder(&shared.join("way/new/deep")).is_ok() && base.path().join("new/deep").is_dir());
        // What was put there after the path was resolved.
        super::unlinked(&shared.join("way")).expect_err("a link");
        if user() != 0 {
            return;
        }
        lchown(&link, Some(65534), None).expect("given away");
        for error in [
            target(&link).expect_err("another's").to_string(),
            target(&shared.join("link/")).expect_err("another's").to_string(),
            target(&shared.join("link/x")).expect_err("another's").to_string(),
            folder(&shared.join("link/x")).expect_err("another's").to_string(),
            Beside::create(&link, 0o666).expect_err("another's").to_string(),
            open(&link, Before::Nothing).expect_err("another's").to_string(),
            open(&link, Before::Kept).expect_err("another's").to_string(),
        ] {
            assert!(error.contains("/shared/link` is a symbolic link of user 65534"), "{error}");
        }
        assert_eq!(fs::read(&victim).expect("read"), b"kept");
        mode(0o755);
        target(&link).expect("as the kernel: the folder is not shared");
        mode(0o1777);
        chown(&shared, Some(65534), None).expect("given away");
        target(&link).expect("as the kernel: link and folder have one owner");
    }

    #[test]
    fn another_users_file_in_a_shared_folder_is_not_written_to() {
        let base = tempfile::tempdir().expect("a folder");
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o1777)).expect("changed");
        let file = base.path().join("log");
        let write = |before| open(&file, before)?.write_all(b"x");
        write(Before::Nothing).expect("made");
        write(Before::Kept).expect("written");
        assert_eq!(fs::read(&file).expect("read"), b"xx");
        write(Before::Nothing).expect("written");
        assert_eq!(fs::read(&file).expect("read"), b"x");
        fs::hard_link(&file, base.path().join("other")).expect("linked");
        write(Before::Nothing).expect_err("it is another file as well");
        fs::remove_file(base.path().join("other")).expect("removed");
        open(Path::new("/dev/null"), Before::Nothing).expect("a device that was named");
        if user() == 0 {
            chown(&file, Some(65534), None).expect("given away");
            // Root owns the folder neither.
            chown(base.path(), Some(1234), None).expect("given away");
            write(Before::Nothing).expect_err("its owner would read it");
            assert_eq!(fs::read(&file).expect("read"), b"x");
        }
    }

    #[test]
    fn a_name_in_an_open_folder_is_replaced_and_not_followed() {
        let base = tempfile::tempdir().expect("a folder");
        fs::write(base.path().join("victim"), "kept").expect("written");
        fs::create_dir(base.path().join("in")).expect("made");
        symlink("../victim", base.path().join("in/file")).expect("linked");
        let folder = Folder::own(&base.path().join("in")).expect("ours");
        let beside = Beside::create_in(folder, Path::new("file"), 0o600).expect("begun");
        beside.file().write_all(b"new").expect("written");
        beside.place().expect("placed");
        assert_eq!(fs::read(base.path().join("in/file")).expect("read"), b"new");
        assert_eq!(fs::read(base.path().join("victim")).expect("read"), b"kept");
    }
}
