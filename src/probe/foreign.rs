//! Files of another machine, which anybody may have made: read only where they are regular, and by no link that leads out
//! of its folder.
//!
//! Readers get paths, and a look at this machine reads thousands of files. Which folders are foreign is therefore decided
//! once, when `Roots` are made for one; a file of this machine is opened by one system call, as ever.

use std::fs::{File, Metadata, ReadDir};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use crate::sys::beneath::{Folder, Links};
use crate::sys::file_system::is_of_kernel;

/// The files below a folder.
struct Foreign {
    root: PathBuf,
    /// Folders of a running kernel: those of the host, mounted into a container.
    of_kernel: Vec<PathBuf>,
}

static FOREIGN: RwLock<Vec<Foreign>> = RwLock::new(Vec::new());

/// From now on what is below this folder is read with care.
pub(super) fn remember(root: &Path) {
    let mut foreign = FOREIGN.write().unwrap_or_else(PoisonError::into_inner);
    if foreign.iter().any(|one| one.root == root) {
        return;
    }
    let is_kernels = |name: &&str| {
        let folder = Folder::open(root).and_then(|root| root.folder(Path::new(name)));
        folder.is_ok_and(|folder| is_of_kernel(&folder))
    };
    let of_kernel = ["proc", "sys"].iter().filter(|name| is_kernels(name)).map(|name| root.join(name)).collect();
    foreign.push(Foreign { root: root.to_owned(), of_kernel });
}

/// The folder of another machine that a path is below, and the path there.
fn find(path: &Path) -> Option<(PathBuf, &Path)> {
    let foreign = FOREIGN.read().unwrap_or_else(PoisonError::into_inner);
    let own =
        foreign.iter().filter(|one| path.starts_with(&one.root)).max_by_key(|one| one.root.components().count())?;
    let is_of_kernel = own.of_kernel.iter().any(|folder| path.starts_with(folder));
    (!is_of_kernel).then_some((own.root.clone(), path.strip_prefix(&own.root).ok()?))
}

/// Opens a file for reading.
#[expect(
    clippy::disallowed_methods,
    reason = "kernel: of this machine only /proc, /sys, and the configuration that root wrote"
)]
pub(super) fn open(path: &Path) -> io::Result<File> {
    match find(path) {
        Some((root, rest)) => Folder::open(&root)?.file(rest, Links::Within),
        None => File::open(path),
    }
}

/// What is in a folder. One that is behind a link is another machine's only where that does not lead out of it.
pub(super) fn read_dir(path: impl AsRef<Path>) -> io::Result<ReadDir> {
    let path = path.as_ref();
    if let Some((root, rest)) = find(path) {
        let identity = |meta: Metadata| (meta.dev(), meta.ino());
        let inside = Folder::open(&root)?.folder_within(rest)?.own_metadata()?;
        if identity(inside) != identity(path.metadata()?) {
            let text = format!("`{}` leads out of `{}`", path.display(), root.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
    }
    std::fs::read_dir(path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use crate::probe::{Roots, read_dir, read_text};

    #[test]
    fn files_of_another_machine_are_regular_and_its_own() {
        let base = tempfile::tempdir().expect("a folder");
        let (root, path) = (base.path().join("root"), |path: &str| base.path().join("root").join(path));
        fs::create_dir_all(path("proc")).expect("folders");
        fs::write(base.path().join("secret"), "outside").expect("written");
        fs::write(path("proc/good"), "inside").expect("written");
        symlink("/proc/good", path("proc/absolute")).expect("linked");
        symlink("../../secret", path("proc/up")).expect("linked");
        symlink("/dev/zero", path("proc/zero")).expect("linked");
        fs::File::create(path("proc/huge")).and_then(|file| file.set_len(50 << 30)).expect("sparse");
        rustix::fs::mkfifoat(rustix::fs::CWD, path("proc/fifo"), rustix::fs::Mode::RUSR).expect("made");
        let roots = Roots::below(&root);
        let read = |name: &str| read_text(roots.proc.join(name));
        assert_eq!(read("good").expect("read"), "inside");
        assert_eq!(read("absolute").expect("as the machine itself reads it"), "inside");
        for name in ["up", "zero", "fifo", "../../secret"] {
            read(name).expect_err(name);
        }
        assert_eq!(read("huge").expect("cut").len(), 4 << 20);
        symlink("/", path("proc/all")).expect("linked");
        symlink("../proc", path("proc/here")).expect("linked");
        read_dir(roots.proc.join("all")).expect_err("the folders of this machine");
        read_dir(roots.proc.join("here")).expect("its own");
    }
}
