//! Whose files are believed: those of this user and of root, in folders that nobody else can write to.

#![expect(clippy::disallowed_methods, reason = "kernel: /proc")]

use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

/// Why a file or folder is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Distrust {
    #[error("`{}` belongs to user {owner}, and this is user {user}", path.display())]
    Owner { path: PathBuf, owner: u32, user: u32 },
    #[error("`{}` can be changed by other users (mode {mode:04o}, owner {owner}, group {group})", path.display())]
    Writable { path: PathBuf, mode: u32, owner: u32, group: u32 },
    #[error("`{}` is a symbolic link", .0.display())]
    Link(PathBuf),
}

impl From<Distrust> for io::Error {
    fn from(distrust: Distrust) -> Self {
        Self::new(io::ErrorKind::PermissionDenied, distrust)
    }
}

/// The effective user of this process.
pub(crate) fn user() -> u32 {
    geteuid().as_raw()
}

/// Symbolic links followed, as many as the kernel follows.
const LINKS_MAX: usize = 40;

/// A path without links: each on the way is judged and then followed, whether what it leads to is there or not.
pub(crate) fn resolved(path: &Path, judge: impl Fn(&Path) -> io::Result<()>) -> io::Result<PathBuf> {
    let mut resolved = PathBuf::new();
    let mut rest = reversed(path);
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == ".." {
            // What is resolved has no links, so that `..` is what it seems to be.
            match resolved.components().next_back() {
                Some(Component::Normal(_)) => drop(resolved.pop()),
                Some(Component::RootDir) => {}
                _ => resolved.push(part),
            }
            continue;
        }
        let next = resolved.join(part);
        let link = std::fs::read_link(&next).ok();
        // What a link of /proc says of a folder is no way to it: it may be the root of another file system.
        let Some(link) = link.filter(|_| !next.starts_with("/proc") || rest.is_empty() && !next.is_dir()) else {
            resolved = next;
            continue;
        };
        links += 1;
        if links > LINKS_MAX {
            return Err(io::Error::from_raw_os_error(libc::ELOOP));
        }
        judge(&next)?;
        // `/proc/self/fd/1` has no other path where it is a pipe.
        if resolved.join(&link).symlink_metadata().is_err() && next.metadata().is_ok() {
            resolved = next;
        } else {
            rest.extend(reversed(&link));
        }
    }
    Ok(resolved)
}

/// The components of a path, the last one first.
fn reversed(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter(|part| *part != Component::CurDir).map(|part| part.as_os_str().to_owned());
    let mut parts: Vec<OsString> = parts.collect();
    parts.reverse();
    parts
}

/// A link of this user or root, in a folder where nobody else could have put it.
fn judge_own_link(link: &Path) -> io::Result<()> {
    judge_owner(link, &link.symlink_metadata()?, unmapped_user())?;
    judge_folders(link.parent().unwrap_or(Path::new("/")), Sticky::IsEnough)
}

/// A folder, and whatever leads to it, that only this user and root can change: what lies in it was put there by them.
/// Links are followed, and judged as well, with the folders they stand in and lead through. Owned by this user it must be too, unless it only
/// leads on (a parent, the folder of a configuration file of root).
pub(crate) fn judge_folder(path: &Path) -> io::Result<()> {
    judged_folder(path).map(drop)
}

/// The same, and where it is without links: a link on the way may lead elsewhere a moment later.
pub(crate) fn judged_folder(path: &Path) -> io::Result<PathBuf> {
    let path = resolved(&std::path::absolute(path)?, judge_own_link)?;
    let meta = path.metadata()?;
    if meta.uid() != user() {
        return Err(Distrust::Owner { path, owner: meta.uid(), user: user() }.into());
    }
    judge_way(&path)?;
    Ok(path)
}

/// The way to a folder that may be missing: what is there of it can be changed by this user and root only, or is sticky.
/// Returns the path with the links resolved.
pub(crate) fn judged_way_to_new(path: &Path) -> io::Result<PathBuf> {
    let path = resolved(&std::path::absolute(path)?, judge_own_link)?;
    let there = path.ancestors().find(|folder| folder.symlink_metadata().is_ok()).unwrap_or(Path::new("/"));
    judge_folders(there, Sticky::IsEnough)?;
    Ok(path)
}

/// Whether a folder may be writable for others as long as nobody can rename what is another's in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sticky {
    IsEnough,
    OnlyAbove,
}

/// The folders from the root down to `path`, itself included: each belongs to this user or root, and no one else may put
/// another in its place. The way must be free of links (`canonicalize`).
pub(crate) fn judge_way(path: &Path) -> io::Result<()> {
    judge_folders(path, Sticky::OnlyAbove)
}

fn judge_folders(path: &Path, sticky: Sticky) -> io::Result<()> {
    let unmapped = unmapped_user();
    for folder in path.ancestors() {
        let meta = folder.symlink_metadata()?;
        // Whoever owns `/` decides about everything.
        if folder.parent().is_some() {
            judge_owner(folder, &meta, unmapped)?;
        }
        // In a sticky folder nobody renames what is another's.
        if (folder == path && sticky == Sticky::OnlyAbove) || meta.mode() & libc::S_ISVTX == 0 {
            judge_mode(folder, &meta)?;
        }
    }
    Ok(())
}

/// It belongs to this user or root. In a user namespace whose root is not the machine's, what belongs to the machine shows
/// as of an unmapped user.
fn judge_owner(path: &Path, meta: &Metadata, unmapped: Option<u32>) -> Result<(), Distrust> {
    if meta.uid() == user() || meta.uid() == 0 || Some(meta.uid()) == unmapped {
        return Ok(());
    }
    Err(Distrust::Owner { path: path.to_owned(), owner: meta.uid(), user: user() })
}

/// Nobody else may write to it: not all, and no group but that of root and the private group of this user (of the same
/// number, as distributions with a umask of 002 give it).
pub(crate) fn judge_mode(path: &Path, meta: &Metadata) -> Result<(), Distrust> {
    let is_private = meta.gid() == 0 || (meta.gid() == getegid().as_raw() && meta.gid() == user());
    // Of something with an access control list these bits say what any user or group in it may have.
    let group_is_private = is_private && (meta.mode() & 0o020 == 0 || !has_access_list(path));
    if meta.mode() & 0o002 == 0 && (meta.mode() & 0o020 == 0 || group_is_private) {
        return Ok(());
    }
    let (mode, owner, group) = (meta.mode() & 0o7777, meta.uid(), meta.gid());
    Err(Distrust::Writable { path: path.to_owned(), mode, owner, group })
}

fn has_access_list(path: &Path) -> bool {
    let mut some = [0; 64];
    let found = rustix::fs::lgetxattr(path, c"system.posix_acl_access", &mut some[..]);
    found.is_ok_and(|size| size > 0) || found == Err(Errno::RANGE)
}

/// Of a folder by what was found when it was opened: it belongs to this user or root, whoever else may write to it.
pub(crate) fn judge_owner_of(path: &Path, meta: &Metadata) -> Result<(), Distrust> {
    judge_owner(path, meta, None)
}

/// A file or folder by what was found when it was opened: it belongs to this user or root, and no other can write to it.
/// For what may have been put there before the folder was judged.
pub(crate) fn judge(path: &Path, meta: &Metadata) -> Result<(), Distrust> {
    if meta.is_symlink() {
        return Err(Distrust::Link(path.to_owned()));
    }
    judge_owner(path, meta, None)?;
    judge_mode(path, meta)
}

/// Users whose files are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owners {
    users: Vec<u32>,
    all: bool,
}

impl Owners {
    /// This user, root and some others.
    pub(crate) fn these(others: impl IntoIterator<Item = u32>) -> Self {
        Self { users: [user(), 0].into_iter().chain(others).collect(), all: false }
    }

    /// Whoever.
    pub(crate) fn all() -> Self {
        Self { users: Vec::new(), all: true }
    }

    /// Whether it belongs to one of them.
    pub(crate) fn judge(&self, path: &Path, meta: &Metadata) -> Result<(), Distrust> {
        if self.all || self.users.contains(&meta.uid()) {
            return Ok(());
        }
        Err(Distrust::Owner { path: path.to_owned(), owner: meta.uid(), user: user() })
    }

    /// The same for all that leads from a folder down to something: links on the way, and what they lead to.
    pub(crate) fn judge_below(&self, root: &Path, path: &Path) -> io::Result<()> {
        for part in path.ancestors().take_while(|part| part.starts_with(root) && *part != root) {
            self.judge(part, &part.symlink_metadata()?)?;
            self.judge(part, &part.metadata()?)?;
        }
        Ok(())
    }
}

/// The number that stands for all users that a user namespace does not map, where this is one.
fn unmapped_user() -> Option<u32> {
    let overflow: u32 = std::fs::read_to_string("/proc/sys/kernel/overflowuid").ok()?.trim().parse().ok()?;
    let map = std::fs::read_to_string("/proc/self/uid_map").ok()?;
    let is_mapped = map.lines().any(|line| {
        let mut numbers = line.split_ascii_whitespace().filter_map(|number| number.parse::<u64>().ok());
        let (Some(first), Some(_), Some(count)) = (numbers.next(), numbers.next(), numbers.next()) else {
            return false;
        };
        (first..first.saturating_add(count)).contains(&u64::from(overflow))
    });
    (!is_mapped).then_some(overflow)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::{judge, judge_folder, user};

    #[test]
    fn only_folders_that_nobody_else_can_change_are_believed() {
        let base = tempfile::tempdir().expect("a folder");
        let folder = base.path().join("a/b");
        fs::create_dir_all(&folder).expect("made");
        let mode = |path: &std::path::Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changed");
        };
        mode(&folder, 0o700);
        judge_folder(&folder).expect("our own, below a sticky folder");
        symlink(&folder, base.path().join("link")).expect("linked");
        judge_folder(&base.path().join("link")).expect("a link of ours to our own");

        mode(&folder, 0o1777);
        let error = judge_folder(&folder).expect_err("all can write into it").to_string();
        assert!(error.contains("can be changed by other users (mode 1777"), "{error}");
        mode(&folder, 0o700);
        mode(&base.path().join("a"), 0o777);
        let error = judge_folder(&folder).expect_err("all can replace it").to_string();
        assert!(error.contains("/a` can be changed"), "{error}");
        mode(&base.path().join("a"), 0o1777);
        judge_folder(&folder).expect("in a sticky folder nobody can");

        let file = folder.join("file");
        fs::write(&file, "x").expect("written");
        judge(&file, &fs::symlink_metadata(&file).expect("there")).expect("ours");
        symlink(&file, folder.join("link")).expect("linked");
        let link = folder.join("link");
        judge(&link, &fs::symlink_metadata(&link).expect("there")).expect_err("a link is somebody's idea of a place");
        if user() == 0 {
            chown(base.path().join("a"), Some(65534), None).expect("given away");
            let error = judge_folder(&folder).expect_err("its owner can replace it").to_string();
            assert!(error.contains("/a` belongs to user 65534, and this is user 0"), "{error}");
        }
    }
}
