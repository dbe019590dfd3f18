//! The index of git: which files of a repository are tracked, also those that it ignores, and which paths are submodules.
//! Read as it is, because planning starts no process. What cannot be read is no index: then the rules of `.gitignore`
//! alone decide.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Largest index read; one of a million files has about 100 MB.
const INDEX_MAX: u64 = 256 << 20;
/// The largest file that only points to a folder of git.
const POINTER_MAX: u64 = 4 << 10;
/// Stat data, the SHA-1 and flags before the name.
const ENTRY: usize = 62;
const MODE_KIND: u32 = 0o170_000;
const MODE_FILE: u32 = 0o100_000;
const MODE_MODULE: u32 = 0o160_000;

/// What is tracked below a folder, relative to it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tracked {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) modules: Vec<PathBuf>,
}

/// What git tracks below a folder; nothing outside of a repository.
pub(crate) fn tracked(root: &Path) -> Tracked {
    let found = root.ancestors().find_map(|top| Some((top, git_dir(&top.join(".git"))?)));
    let Some((top, git)) = found else { return Tracked::default() };
    let entries = bytes(&git.join("index"), INDEX_MAX).and_then(|bytes| entries(&bytes)).unwrap_or_default();
    let mut tracked = Tracked::default();
    for (mode, name) in entries {
        let name = Path::new(OsStr::from_bytes(&name));
        // Git writes no other names; one that leads out of the repository is not followed.
        if !name.components().all(|part| matches!(part, Component::Normal(_))) {
            continue;
        }
        let path = top.join(name);
        let Ok(inside) = path.strip_prefix(root) else { continue };
        match mode & MODE_KIND {
            MODE_FILE => tracked.files.push(inside.to_owned()),
            MODE_MODULE => tracked.modules.push(inside.to_owned()),
            _ => {}
        }
    }
    tracked
}

/// The folder of git: `.git`, or in a linked worktree and in a submodule what the file `.git` names.
fn git_dir(place: &Path) -> Option<PathBuf> {
    if place.is_dir() {
        return Some(place.to_owned());
    }
    let text = bytes(place, POINTER_MAX)?;
    let target = text.strip_prefix(b"gitdir: ")?.split(|byte| *byte == b'\n').next()?;
    Some(place.parent()?.join(OsStr::from_bytes(target)))
}

fn bytes(path: &Path, max: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(max).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// Mode and name of each entry, as `gitformat-index` describes versions 2 to 4.
fn entries(bytes: &[u8]) -> Option<Vec<(u32, Vec<u8>)>> {
    let version = number(bytes, 4)?;
    if !bytes.starts_with(b"DIRC") || !(2..=4).contains(&version) {
        return None;
    }
    let count = number(bytes, 8)?;
    let mut entries: Vec<(u32, Vec<u8>)> = Vec::new();
    let mut at = 12;
    for _ in 0..count {
        let start = at;
        let mode = number(bytes, start + 24)?;
        let flags = *bytes.get(start + ENTRY - 2)?;
        // Version 3 has 16 more of them where this bit says so.
        at = start + ENTRY + if flags & 0x40 != 0 { 2 } else { 0 };
        let mut name = Vec::new();
        if version == 4 {
            let cut = varint(bytes, &mut at)?;
            let before = entries.last().map_or(&[][..], |(_, name)| name);
            name.extend(&before[..before.len().checked_sub(cut)?]);
        }
        let rest = bytes.get(at..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        name.extend(&rest[..end]);
        at += end + 1;
        if version < 4 {
            at = start + (at - start).next_multiple_of(8);
        }
        if name.is_empty() {
            return None;
        }
        entries.push((mode, name));
    }
    Some(entries)
}

/// A number as in the offsets of packs.
fn varint(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut next = || {
        let byte = *bytes.get(*at)?;
        *at += 1;
        Some(byte)
    };
    let mut byte = next()?;
    let mut value = usize::from(byte & 127);
    while byte & 128 != 0 {
        byte = next()?;
        value = value.checked_add(1)?.checked_mul(128)?.checked_add(usize::from(byte & 127))?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::{bytes, entries, tracked};

    #[test]
    fn the_index_of_git_is_read_in_its_versions_and_never_believed() {
        let root = std::env::temp_dir().join(format!("apm-index-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let long = format!("deep/{}", "x".repeat(200));
        let files = ["a", "bb", "deep/a.txt", "deep/b.txt", long.as_str(), "zz"];
        std::fs::create_dir_all(root.join("deep")).expect("folders");
        files.iter().for_each(|file| std::fs::write(root.join(file), "").expect("written"));
        let git = |dir: &Path, words: &[&str]| {
            let mut command = Command::new("git");
            command.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(words).current_dir(dir);
            command.output().is_ok_and(|output| output.status.success())
        };
        assert!(git(&root, &["init", "-q"]), "git is there: `tests/all.sh` installs it");
        let names = |folder: &Path| -> Vec<String> {
            tracked(folder).files.iter().map(|path| path.display().to_string()).collect()
        };
        assert!(git(&root, &["add", "."]));
        for version in ["2", "4"] {
            assert!(git(&root, &["update-index", "--index-version", version]));
            assert_eq!(names(&root), files, "{version}");
            assert_eq!(names(&root.join("deep")), ["a.txt", "b.txt", &long[5..]]);
            let whole = bytes(&root.join(".git/index"), 1 << 20).expect("an index");
            (0..whole.len() - 20).for_each(|len| drop(entries(&whole[..len])));
            for at in 0..whole.len() {
                let mut broken = whole.clone();
                broken[at] ^= 0xff;
                drop(entries(&broken));
            }
        }
        // The bit for more flags makes it version 3.
        assert!(git(&root, &["update-index", "--index-version", "2"]) && git(&root, &["add", "-N", "."]));
        std::fs::write(root.join("new"), "").expect("written");
        assert!(git(&root, &["add", "-N", "new"]));
        assert_eq!(names(&root), ["a", "bb", "deep/a.txt", "deep/b.txt", &long, "new", "zz"]);
        // A linked worktree has its own.
        assert!(git(&root, &["commit", "-qm", "x", "bb"]) && git(&root, &["worktree", "add", "-q", "deep/w"]));
        assert_eq!(names(&root.join("deep/w")), ["bb"]);
        assert_eq!(names(Path::new("/")), [] as [&str; 0]);
        let _ = std::fs::remove_dir_all(&root);
    }
}
