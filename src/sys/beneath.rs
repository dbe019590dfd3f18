//! Files that others may have put there: opened beneath a folder that is held open, so that no link and no `..` leads out
//! of it; judged after they are opened, so that nobody can change them in between; and only regular ones, up to a size.

#![expect(clippy::disallowed_methods, reason = "beneath: the rule itself")]

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::sys::owner::{self, Distrust};

/// Whether links in a path are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// A link anywhere is an error.
    Refused,
    /// They are followed, as if the folder were `/`: for reading in the root of another system.
    Within,
}

/// A folder that is held open.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
    /// Where it was opened, for messages.
    path: PathBuf,
}

impl Folder {
    /// Opens a folder that was named by the user: links on the way are followed.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { fd: rustix::fs::open(path, flags, Mode::empty())?, path: path.to_owned() })
    }

    /// Opens a folder by a path whose links were followed before: a link that is there now was put there since.
    pub(crate) fn unlinked(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let fd = match rustix::fs::openat2(CWD, path, flags, Mode::empty(), how) {
            Ok(fd) => fd,
            Err(Errno::LOOP) => return Err(Distrust::Link(path.to_owned()).into()),
            // Kernels before 5.6, and seccomp filters that do not know it.
            Err(Errno::NOSYS | Errno::PERM) => {
                let start = if path.is_absolute() { "/" } else { "." };
                let mut fd = rustix::fs::open(start, flags, Mode::empty())?;
                for part in path.components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir)) {
                    fd = rustix::fs::openat(&fd, part.as_os_str(), flags | OFlags::NOFOLLOW, Mode::empty())?;
                }
                fd
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self { fd, path: path.to_owned() })
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, path: self.path.clone() })
    }

    /// The same, by another name in messages.
    pub(crate) fn shown_as(self, path: &Path) -> Self {
        Self { path: path.to_owned(), ..self }
    }

    /// Where it was opened, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What is known of the folder itself.
    pub(crate) fn own_metadata(&self) -> io::Result<Metadata> {
        File::from(self.fd.try_clone()?).metadata()
    }

    /// Whether something is beneath.
    pub(crate) fn exists(&self, path: &Path, links: Links) -> bool {
        self.open_at(path, OFlags::PATH, Mode::empty(), links).is_ok()
    }

    /// A folder beneath, without links.
    pub(crate) fn folder(&self, path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        Ok(Self { fd: self.open_at(path, flags, Mode::empty(), Links::Refused)?, path: self.path.join(path) })
    }

    /// Opens a folder of this user's own: no link, and nobody else can change it.
    pub(crate) fn own(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => Self { fd, path: path.to_owned() }.judged(),
            Err(Errno::NOTDIR) if path.is_symlink() => Err(Distrust::Link(path.to_owned()).into()),
            Err(error) => Err(error.into()),
        }
    }

    /// A folder beneath of this user's own.
    pub(crate) fn own_folder(&self, path: &Path) -> io::Result<Self> {
        self.folder(path)?.judged()
    }

    /// This folder, if it is of this user's own.
    pub(crate) fn judged(self) -> io::Result<Self> {
        owner::judge(&self.path, &self.own_metadata()?)?;
        Ok(self)
    }

    /// A short path to something beneath, for calls that take no descriptor; as long as the folder is open.
    pub(crate) fn short_path(&self, name: &str) -> PathBuf {
        use std::os::fd::AsRawFd;
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.fd.as_raw_fd()))
    }

    /// A folder beneath, as if this one were `/`.
    pub(crate) fn folder_within(&self, path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        Ok(Self { fd: self.open_at(path, flags, Mode::empty(), Links::Within)?, path: self.path.join(path) })
    }

    /// A folder beneath, made where it is missing, and what leads to it; the mode of what is made does not depend on the
    /// umask. Returns the paths of what was made, outermost first.
    pub(crate) fn make_folder(&self, path: &Path, mode: u32) -> io::Result<(Self, Vec<PathBuf>)> {
        let mut folder = self.try_clone()?;
        let mut made = Vec::new();
        let mut so_far = PathBuf::new();
        for name in names(path)? {
            so_far.push(&name);
            match rustix::fs::mkdirat(&folder.fd, &name, Mode::from_raw_mode(0o700)) {
                Ok(()) => {
                    folder = folder.folder(name.as_ref())?;
                    let real = rustix::fs::openat(&folder.fd, ".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
                    rustix::fs::fchmod(&real, Mode::from_raw_mode(mode))?;
                    made.push(so_far.clone());
                }
                Err(Errno::EXIST) => folder = folder.folder(name.as_ref())?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok((folder, made))
    }

    /// A folder in it, made where it is missing, with a mode by the umask.
    pub(crate) fn folder_by_umask(&self, name: &Path) -> io::Result<Self> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => self.folder(name),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a file in it for writing results, whatever kind it is: made where it is missing, with a mode by the umask.
    pub(crate) fn output(&self, name: &Path, appends: bool) -> io::Result<File> {
        let how = if appends { OFlags::APPEND } else { OFlags::empty() };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NOCTTY | how;
        Ok(File::from(self.open_at(name, flags, Mode::from_raw_mode(0o666), Links::Refused)?))
    }

    /// Opens a regular file beneath for reading.
    pub(crate) fn file(&self, path: &Path, links: Links) -> io::Result<File> {
        let found = self.open_at(path, OFlags::PATH, Mode::empty(), links)?;
        reopened(found, &self.path.join(path), OFlags::RDONLY)
    }

    /// Opens a regular file beneath of this user's own for reading.
    pub(crate) fn own_file(&self, path: &Path) -> io::Result<File> {
        judged(self.file(path, Links::Refused)?, &self.path.join(path))
    }

    /// Opens a regular file beneath for reading and writing, without links; nothing is made.
    pub(crate) fn file_to_change(&self, path: &Path) -> io::Result<File> {
        let found = self.open_at(path, OFlags::PATH, Mode::empty(), Links::Refused)?;
        reopened(found, &self.path.join(path), OFlags::RDWR)
    }

    /// The same, of this user's own.
    pub(crate) fn own_file_to_change(&self, path: &Path) -> io::Result<File> {
        judged(self.file_to_change(path)?, &self.path.join(path))
    }

    /// The same; made with this mode where it is missing.
    pub(crate) fn own_file_or_new(&self, path: &Path, mode: u32) -> io::Result<File> {
        judged(self.file_or_new(path, mode)?, &self.path.join(path))
    }

    /// Reads a regular file beneath of this user's own, up to a size.
    pub(crate) fn read_own(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        bounded(self.own_file(path)?, &self.path.join(path), max)
    }

    /// Opens a regular file beneath for writing; what is in it stays.
    pub(crate) fn file_to_write(&self, path: &Path, links: Links) -> io::Result<File> {
        let found = self.open_at(path, OFlags::PATH, Mode::empty(), links)?;
        reopened(found, &self.path.join(path), OFlags::WRONLY)
    }

    /// Reads a regular file beneath, up to a size.
    pub(crate) fn read(&self, path: &Path, links: Links, max: u64) -> io::Result<Vec<u8>> {
        bounded(self.file(path, links)?, &self.path.join(path), max)
    }

    /// Opens a regular file beneath for reading and writing, without links; it is made with this mode where it is missing.
    pub(crate) fn file_or_new(&self, path: &Path, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(self.open_at(path, flags, Mode::from_raw_mode(mode), Links::Refused)?);
        judge_kind(&file.metadata()?, &self.path.join(path))?;
        Ok(file)
    }

    /// Makes a file beneath that is not there yet.
    pub(crate) fn new_file(&self, path: &Path, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        Ok(File::from(self.open_at(path, flags, Mode::from_raw_mode(mode), Links::Refused)?))
    }

    /// What is known of something beneath; a link is not followed.
    pub(crate) fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let fd = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty(), Links::Refused)?;
        // fstat knows of a link that was opened by O_PATH what lstat knows.
        File::from(fd).metadata()
    }

    /// Names in it, in their order.
    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        self.names_up_to(usize::MAX)
    }

    /// At most so many of the names in it, sorted.
    pub(crate) fn names_up_to(&self, max: usize) -> io::Result<Vec<OsString>> {
        use std::os::unix::ffi::OsStringExt;
        let mut names = Vec::new();
        let fd =
            rustix::fs::openat(&self.fd, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        // The first two are `.` and `..`.
        for entry in rustix::fs::Dir::new(fd)?.take(max.saturating_add(2)) {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(OsString::from_vec(entry.file_name().to_bytes().to_vec()));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Puts a file beneath into another's place.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_folder, from) = self.parent_of(from)?;
        let (to_folder, to) = self.parent_of(to)?;
        Ok(rustix::fs::renameat(&from_folder.fd, &from, &to_folder.fd, &to)?)
    }

    /// Removes a file beneath; of a link the link.
    pub(crate) fn remove_file(&self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.parent_of(path)?;
        Ok(rustix::fs::unlinkat(&folder.fd, &name, AtFlags::empty())?)
    }

    /// Removes an empty folder beneath.
    pub(crate) fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let (folder, name) = self.parent_of(path)?;
        Ok(rustix::fs::unlinkat(&folder.fd, &name, AtFlags::REMOVEDIR)?)
    }

    /// Makes what was changed in it last over a loss of power.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let fd = rustix::fs::openat(&self.fd, ".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(rustix::fs::fsync(fd)?)
    }

    /// The folder that holds something beneath, and its name there.
    pub(crate) fn parent_of(&self, path: &Path) -> io::Result<(Self, OsString)> {
        let mut names = names(path)?;
        let name = names.pop().ok_or(Errno::INVAL)?;
        let above: PathBuf = names.iter().collect();
        let folder = if above.as_os_str().is_empty() { self.try_clone()? } else { self.folder(&above)? };
        Ok((folder, name))
    }

    fn open_at(&self, path: &Path, flags: OFlags, mode: Mode, links: Links) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        let how = match links {
            Links::Refused => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
            Links::Within => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        };
        // With O_NOFOLLOW the last component may be a link that is only looked at: NO_SYMLINKS would refuse it.
        let looks_at_link = flags.contains(OFlags::PATH | OFlags::NOFOLLOW) && !flags.contains(OFlags::DIRECTORY);
        if links == Links::Refused && looks_at_link {
            let (folder, name) = self.parent_of(path)?;
            return Ok(rustix::fs::openat(&folder.fd, &name, flags, mode)?);
        }
        match rustix::fs::openat2(&self.fd, path, flags, mode, how) {
            Ok(fd) => Ok(fd),
            Err(Errno::LOOP) => Err(Distrust::Link(self.path.join(path)).into()),
            // Kernels before 5.6, and seccomp filters that do not know it.
            Err(Errno::NOSYS | Errno::PERM) => step_by_step(self.fd.as_fd(), path, flags, mode),
            Err(error) => Err(error.into()),
        }
    }
}

/// Opens a file of this user's own for reading, in a folder of its own: neither is a link, nobody else can change either.
/// The folders above were judged before (`owner::judge_folder`).
pub(crate) fn own_file(path: &Path) -> io::Result<File> {
    let (folder, name) = in_own_folder(path)?;
    folder.own_file(name)
}

/// The same for reading and writing; made with this mode where it is missing.
pub(crate) fn own_file_or_new(path: &Path, mode: u32) -> io::Result<File> {
    let (folder, name) = in_own_folder(path)?;
    folder.own_file_or_new(name, mode)
}

fn in_own_folder(path: &Path) -> io::Result<(Folder, &Path)> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL.into()) };
    Ok((Folder::own(folder)?, Path::new(name)))
}

fn judged(file: File, path: &Path) -> io::Result<File> {
    owner::judge(path, &file.metadata()?)?;
    Ok(file)
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// One component after the other, none of them a link.
fn step_by_step(base: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let mut names = names(path)?;
    let last = names.pop().unwrap_or_else(|| OsStr::new(".").to_owned());
    let mut folder = base.try_clone_to_owned()?;
    let through = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for name in names {
        folder = rustix::fs::openat(&folder, &name, through, Mode::empty())?;
    }
    let found = rustix::fs::openat(&folder, &last, flags | OFlags::NOFOLLOW, mode)?;
    if FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) == FileType::Symlink {
        return Err(Distrust::Link(path.to_owned()).into());
    }
    Ok(found)
}

/// The components of a relative path; `..` and an absolute one lead out.
fn names(path: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_owned()),
            Component::CurDir => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => {
                let text = format!("`{}` leads out of its folder", path.display());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
            }
        }
    }
    Ok(names)
}

/// Opens a regular file that was named by the user or found at a place where others may write: links are followed, FIFOs,
/// sockets and devices are not opened at all.
pub(crate) fn regular(path: &Path) -> io::Result<File> {
    let found = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    reopened(found, path, OFlags::RDONLY)
}

/// Reads a regular file, up to a size.
pub(crate) fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    bounded(regular(path)?, path, max)
}

/// Reads a regular file of UTF-8, up to a size.
pub(crate) fn read_text(path: &Path, max: u64) -> io::Result<String> {
    String::from_utf8(read(path, max)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

/// Opens in earnest what was only found so far: to open a device can be to use it, and a FIFO waits for its writer.
fn reopened(found: OwnedFd, path: &Path, flags: OFlags) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    let found = File::from(found);
    let meta = found.metadata()?;
    judge_kind(&meta, path)?;
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    match rustix::fs::open(link, flags, Mode::empty()) {
        Ok(fd) => Ok(File::from(fd)),
        // Without /proc: by its name again, and it has to be the same.
        Err(Errno::NOENT) => {
            use std::os::unix::fs::MetadataExt;
            let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
            let now = file.metadata()?;
            if (now.dev(), now.ino()) == (meta.dev(), meta.ino()) { Ok(file) } else { Err(Errno::STALE.into()) }
        }
        Err(error) => Err(error.into()),
    }
}

fn judge_kind(meta: &Metadata, path: &Path) -> io::Result<()> {
    if meta.is_file() {
        return Ok(());
    }
    let (kind, text) = if meta.is_dir() {
        (io::ErrorKind::IsADirectory, "is a folder")
    } else {
        (io::ErrorKind::InvalidInput, "is no regular file")
    };
    Err(io::Error::new(kind, format!("`{}` {text}", path.display())))
}

/// Reads all of a file, or says that it is too large before anything is read.
pub(crate) fn bounded(file: File, path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let too_large = || {
        let text = format!("`{}` has more than {max} bytes", path.display());
        io::Error::new(io::ErrorKind::FileTooLarge, text)
    };
    let size = file.metadata()?.len();
    if size > max {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(size as usize);
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max { Err(too_large()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{ErrorKind, Write};
    use std::os::fd::AsFd;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use rustix::fs::{Mode, OFlags};

    use super::{Folder, Links, read, regular, step_by_step};

    fn scene() -> (tempfile::TempDir, Folder) {
        let base = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(base.path().join("root/etc")).expect("made");
        fs::write(base.path().join("root/etc/file"), "inside").expect("written");
        fs::write(base.path().join("secret"), "outside").expect("written");
        symlink("../secret", base.path().join("root/up")).expect("linked");
        symlink("/etc/file", base.path().join("root/absolute")).expect("linked");
        symlink("/", base.path().join("root/all")).expect("linked");
        let folder = Folder::open(&base.path().join("root")).expect("opened");
        (base, folder)
    }

    #[test]
    fn nothing_leads_out_of_a_folder() {
        let (base, folder) = scene();
        let text = |path: &str, links| {
            folder.read(Path::new(path), links, 100).map(|text| String::from_utf8(text).expect("text"))
        };
        assert_eq!(text("etc/file", Links::Refused).expect("read"), "inside");
        assert_eq!(text("absolute", Links::Within).expect("as in a chroot"), "inside");
        for path in ["up", "absolute", "all/etc/file", "../secret", "/etc/passwd", "etc/../../secret"] {
            text(path, Links::Refused).expect_err(path);
        }
        let up = text("up", Links::Within).expect_err("`..` ends at the folder");
        assert_eq!(up.kind(), ErrorKind::NotFound);

        folder.file_or_new(Path::new("up"), 0o600).expect_err("nothing is written through a link");
        folder.new_file(Path::new("up"), 0o600).expect_err("nor made behind one");
        folder.make_folder(Path::new("all/x"), 0o700).expect_err("nor folders");
        folder.rename(Path::new("etc/file"), Path::new("../stolen")).expect_err("nor moved out");
        folder.remove_file(Path::new("all/etc/file")).expect_err("nor removed");
        assert!(folder.metadata(Path::new("up")).expect("looked at").is_symlink());
        folder.remove_file(Path::new("up")).expect("the link itself");
        assert_eq!(fs::read_to_string(base.path().join("secret")).expect("still there"), "outside");
    }

    #[test]
    fn a_kernel_without_openat2_comes_to_the_same() {
        let (_base, folder) = scene();
        let open = |path: &str| step_by_step(folder.fd.as_fd(), Path::new(path), OFlags::PATH, Mode::empty());
        open("etc/file").expect("opened");
        for path in ["up", "absolute", "all/etc/file", "../secret", "/etc/passwd", "etc/../../secret"] {
            open(path).expect_err(path);
        }
    }

    #[test]
    fn what_is_made_has_its_mode_and_is_whole() {
        let (base, folder) = scene();
        let (made, new) = folder.make_folder(Path::new("var/lib/apm"), 0o755).expect("made");
        assert_eq!(new, [Path::new("var"), Path::new("var/lib"), Path::new("var/lib/apm")]);
        let mode = |path: &str| fs::metadata(base.path().join(path)).expect("there").permissions().mode() & 0o7777;
        assert_eq!((mode("root/var"), mode("root/var/lib/apm")), (0o755, 0o755));
        made.new_file(Path::new("new"), 0o600).expect("made").write_all(b"x").expect("written");
        made.new_file(Path::new("new"), 0o600).expect_err("it is there");
        made.rename(Path::new("new"), Path::new("old")).expect("renamed");
        made.sync().expect("synced");
        assert_eq!(made.names().expect("listed"), ["old"]);
        folder.remove_folder(Path::new("var/lib/apm")).expect_err("not empty");
        folder.remove_file(Path::new("var/lib/apm/old")).expect("removed");
        folder.remove_folder(Path::new("var/lib/apm")).expect("removed");
    }

    #[test]
    fn only_regular_files_of_a_bounded_size_are_read() {
        let base = tempfile::tempdir().expect("a folder");
        let fifo = base.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::RUSR).expect("made");
        for path in [fifo.as_path(), Path::new("/dev/zero"), Path::new("/dev/null"), base.path()] {
            regular(path).expect_err("no regular file");
        }
        let file = base.path().join("file");
        fs::write(&file, "12345").expect("written");
        assert_eq!(read(&file, 5).expect("read"), b"12345");
        assert_eq!(read(&file, 4).expect_err("too large").kind(), ErrorKind::FileTooLarge);
        // Such files say that they have no bytes.
        assert!(!read(Path::new("/proc/self/status"), 1 << 20).expect("read").is_empty());
        assert_eq!(read(Path::new("/proc/self/status"), 9).expect_err("too large").kind(), ErrorKind::FileTooLarge);
    }
}
