//! The index of git: which files of a repository are tracked, also those that it ignores, and which paths are submodules.
//! Read as it is, because planning starts no process. Where it cannot be read the rules of `.gitignore` alone decide, and
//! the user is told.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::sys::beneath;

/// Largest index read; one of a million files has about 100 MB.
const INDEX_MAX: u64 = 256 << 20;
/// In the folder of a linked worktree: where what it shares with others is.
const COMMON: &str = "commondir";
/// The largest file that only points to a folder of git.
const POINTER_MAX: u64 = 4 << 10;
/// The largest configuration of a repository read.
const CONFIG_MAX: u64 = 1 << 20;
/// Bytes of all names together. In version 4 a name is written as what differs from the one before: each of a small index
/// could be as long as the index.
const NAMES_MAX: usize = 512 << 20;
/// The longest name: no system call takes a longer path.
const NAME_MAX: usize = 4096;
/// Stat data and flags of an entry, before and behind its hash.
const STAT: usize = 40;
const FLAGS: usize = 2;
const MODE_KIND: u32 = 0o170_000;
const MODE_FILE: u32 = 0o100_000;
const MODE_LINK: u32 = 0o120_000;
const MODE_MODULE: u32 = 0o160_000;

/// What is tracked below a folder, relative to it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tracked {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) modules: Vec<PathBuf>,
    /// There is an index, and it is none that is understood.
    pub(crate) is_unread: bool,
}

/// Mode and name of what is tracked. Without a mode it is not tracked any more.
pub(crate) type Entry = (u32, Vec<u8>);

/// What git tracks below a folder of the repository at `top`.
pub(crate) fn tracked(root: &Path, top: &Path) -> Tracked {
    let Some(git) = git_dir(&top.join(".git")) else { return Tracked::default() };
    let mut tracked = Tracked::default();
    // Nothing was added yet.
    let Some(index) = bytes(&git.join("index"), INDEX_MAX) else { return tracked };
    let shared = |id: &str| bytes(&git.join(format!("sharedindex.{id}")), INDEX_MAX);
    let entries = entries(&index, hash_len(&git), &shared);
    tracked.is_unread = entries.is_none();
    for (mode, name) in entries.unwrap_or_default() {
        let name = Path::new(OsStr::from_bytes(&name));
        // Git writes no other names; one that leads out of the repository is not followed.
        if !name.components().all(|part| matches!(part, Component::Normal(_))) {
            continue;
        }
        let path = top.join(name);
        let Ok(inside) = path.strip_prefix(root) else { continue };
        match mode & MODE_KIND {
            MODE_FILE | MODE_LINK => tracked.files.push(inside.to_owned()),
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
    beneath::regular(path).ok()?.take(max).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// What linked worktrees share, such as their configuration.
fn common_dir(git: &Path) -> PathBuf {
    let common = bytes(&git.join(COMMON), POINTER_MAX).unwrap_or_default();
    git.join(OsStr::from_bytes(common.trim_ascii_end()))
}

/// The file that says what a repository ignores beside its files `.gitignore`.
pub(crate) fn exclude_file(top: &Path) -> Option<PathBuf> {
    Some(common_dir(&git_dir(&top.join(".git"))?).join("info/exclude"))
}

/// Bytes of a hash: the configuration says so where they are those of SHA-256.
fn hash_len(git: &Path) -> usize {
    hash_len_of(&bytes(&common_dir(git).join("config"), CONFIG_MAX).unwrap_or_default())
}

/// The same of what is in the file.
pub(crate) fn hash_len_of(config: &[u8]) -> usize {
    let config = config.to_ascii_lowercase();
    let mut in_section = false;
    for line in config.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
        let line: Vec<u8> = line.iter().copied().filter(|byte| *byte != b' ' && *byte != b'\t').collect();
        match line.as_slice() {
            [b'[', ..] => in_section = line == b"[extensions]",
            b"objectformat=sha256" if in_section => return 32,
            _ => {}
        }
    }
    20
}

/// The entries of an index as `gitformat-index` describes versions 2 to 4, with those of the index that it shares.
pub(crate) fn entries(bytes: &[u8], hash: usize, shared: &dyn Fn(&str) -> Option<Vec<u8>>) -> Option<Vec<Entry>> {
    let (own, link) = own_entries(bytes, hash)?;
    let Some(link) = link else { return own.iter().all(|(_, name)| !name.is_empty()).then_some(own) };
    let (id, bitmaps) = link.split_at_checked(hash)?;
    let mut all = Vec::new();
    if id.iter().any(|byte| *byte != 0) {
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        all = own_entries(&shared(&id)?, hash)?.0;
    }
    let mut own = own.into_iter();
    if !bitmaps.is_empty() {
        let (deleted, rest) = ones(bitmaps, all.len())?;
        let (replaced, _) = ones(rest, all.len())?;
        // The first entries have no names and stand for those of the shared index.
        for at in replaced {
            all.get_mut(at)?.0 = own.next()?.0;
        }
        for at in deleted {
            all.get_mut(at)?.0 = 0;
        }
    }
    all.extend(own);
    all.iter().all(|(_, name)| !name.is_empty()).then_some(all)
}

/// The entries of one file, and what it says of the index that it shares.
fn own_entries(bytes: &[u8], hash: usize) -> Option<(Vec<Entry>, Option<&[u8]>)> {
    let version = number(bytes, 4)?;
    if !bytes.starts_with(b"DIRC") || !(2..=4).contains(&version) {
        return None;
    }
    let count = number(bytes, 8)?;
    let mut entries: Vec<Entry> = Vec::new();
    let mut at = 12;
    let mut left = NAMES_MAX;
    for _ in 0..count {
        let start = at;
        let mode = number(bytes, start + 24)?;
        let flags = *bytes.get(start + STAT + hash)?;
        // Version 3 has more of them where this bit says so.
        at = start + STAT + hash + FLAGS + if flags & 0x40 != 0 { FLAGS } else { 0 };
        let mut name = Vec::new();
        if version == 4 {
            let cut = varint(bytes, &mut at)?;
            let before = entries.last().map_or(&[][..], |(_, name)| name);
            name.extend(&before[..before.len().checked_sub(cut)?]);
        }
        let rest = bytes.get(at..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        name.extend(&rest[..end]);
        if name.len() > NAME_MAX {
            return None;
        }
        left = left.checked_sub(name.len())?;
        at += end + 1;
        if version < 4 {
            at = start + (at - start).next_multiple_of(8);
        }
        entries.push((mode, name));
    }
    let mut link = None;
    let extensions = bytes.get(..bytes.len().checked_sub(hash)?)?;
    while at < extensions.len() {
        let (name, len) = (extensions.get(at..at + 4)?, number(extensions, at + 4)? as usize);
        let data = extensions.get(at + 8..)?.get(..len)?;
        match name {
            b"link" => link = Some(data),
            // Folders outside of a sparse checkout are one entry each, and not there.
            b"sdir" => {}
            // Others with a small letter change what the entries mean.
            [first, ..] if !first.is_ascii_uppercase() => return None,
            _ => {}
        }
        at += 8 + len;
    }
    Some((entries, link))
}

/// The places of the ones in a bitmap of git (EWAH), at most so many, and what follows it: a marker has a bit, how many
/// words are full of it, and how many words follow as they are.
fn ones(bytes: &[u8], max: usize) -> Option<(Vec<usize>, &[u8])> {
    let len = number(bytes, 4)? as usize;
    let (words, rest) = bytes.get(8..)?.split_at_checked(len.checked_mul(8)?)?;
    let (words, _) = words.as_chunks::<8>();
    let mut words = words.iter().map(|word| u64::from_be_bytes(*word));
    let mut places = Vec::new();
    let mut at: usize = 0;
    while let Some(marker) = words.next() {
        let end = at.checked_add(64 * (marker >> 1 & u64::from(u32::MAX)) as usize)?;
        if marker & 1 == 1 {
            places.extend(at..end.min(max));
        }
        at = end;
        for _ in 0..marker >> 33 {
            let word = words.next()?;
            places.extend((0..64).filter(|bit| word >> bit & 1 == 1).map(|bit| at + bit).filter(|at| *at < max));
            at = at.checked_add(64)?;
        }
    }
    // The place of the last marker, for who appends.
    Some((places, rest.get(4..)?))
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

    use super::{Tracked, bytes, entries, tracked};

    fn git(dir: &Path, words: &[&str]) -> bool {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(words).current_dir(dir);
        command.output().is_ok_and(|output| output.status.success())
    }

    fn names(folder: &Path) -> Vec<String> {
        let top = folder.ancestors().find(|top| top.join(".git").exists()).unwrap_or(folder);
        tracked(folder, top).files.iter().map(|path| path.display().to_string()).collect()
    }

    /// None of the bytes of an index is believed.
    fn break_it(index: &[u8], hash: usize, shared: &[u8]) {
        let shared = |_: &str| Some(shared.to_vec());
        (0..index.len() - hash).for_each(|len| drop(entries(&index[..len], hash, &shared)));
        for at in 0..index.len() {
            let mut broken = index.to_vec();
            broken[at] ^= 0xff;
            drop(entries(&broken, hash, &shared));
        }
    }

    #[test]
    fn the_index_of_git_is_read_in_its_versions_and_never_believed() {
        let root = std::env::temp_dir().join(format!("apm-index-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let long = format!("deep/{}", "x".repeat(200));
        let files = ["a", "bb", "deep/a.txt", "deep/b.txt", long.as_str(), "zz"];
        std::fs::create_dir_all(root.join("deep")).expect("folders");
        files.iter().for_each(|file| std::fs::write(root.join(file), "").expect("written"));
        assert!(git(&root, &["init", "-q"]), "git is there: `tests/all.sh` installs it");
        assert!(git(&root, &["add", "."]));
        for version in ["2", "4"] {
            assert!(git(&root, &["update-index", "--index-version", version]));
            assert_eq!(names(&root), files, "{version}");
            assert_eq!(names(&root.join("deep")), ["a.txt", "b.txt", &long[5..]]);
            let whole = bytes(&root.join(".git/index"), 1 << 20).expect("an index");
            break_it(&whole, 20, &[]);
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

    /// Regression: in version 4 each of a million small entries could have the name of the first, of a hundred megabytes.
    #[test]
    fn a_name_is_no_longer_than_a_path() {
        let index = |len: usize| {
            let entry = |cut: u8, name: &str| [&[0; 62][..], &[cut], name.as_bytes(), &[0]].concat();
            let head = [&b"DIRC"[..], &[0, 0, 0, 4], &[0, 0, 0, 2]].concat();
            let long = "x".repeat(len);
            entries(&[head, entry(0, &long), entry(0, "y"), vec![0; 20]].concat(), 20, &|_| None)
        };
        assert_eq!(index(4095).map(|all| all[1].1.len()), Some(4096));
        assert_eq!(index(4096), None);
    }

    /// They were taken for no index: only what `.gitignore` lets through was checked.
    #[test]
    fn hashes_of_32_bytes_and_shared_and_sparse_indexes_are_read() {
        let root = std::env::temp_dir().join(format!("apm-index-split-{}", std::process::id()));
        for (format, hash, version) in [("sha1", 20, "2"), ("sha1", 20, "4"), ("sha256", 32, "2")] {
            let _ = std::fs::remove_dir_all(&root);
            std::fs::create_dir_all(root.join("in")).expect("folders");
            std::fs::create_dir_all(root.join("out")).expect("folders");
            let many: Vec<String> = (100..300).map(|at| format!("many{at}")).collect();
            let files = many.iter().map(String::as_str).chain(["a", "gone", "in/x", "out/y", "z"]);
            files.for_each(|file| std::fs::write(root.join(file), file).expect("written"));
            assert!(git(&root, &["init", "-q", "--object-format", format]), "git is there: `tests/all.sh` installs it");
            assert!(git(&root, &["add", "."]) && git(&root, &["commit", "-qm", "x"]));
            assert_eq!(names(&root)[..2], ["a", "gone"], "{format}");
            // In a shared index: deleted, replaced by a link, new.
            assert!(git(&root, &["update-index", "--index-version", version]));
            assert!(git(&root, &["update-index", "--split-index"]));
            std::fs::remove_file(root.join("a")).expect("gone");
            std::os::unix::fs::symlink("z", root.join("a")).expect("a link");
            std::fs::write(root.join("new"), "").expect("written");
            assert!(git(&root, &["rm", "-q", "gone"]) && git(&root, &["rm", "-q", "many1*"]));
            assert!(git(&root, &["add", "a", "new"]));
            let expected: Vec<&str> = ["a", "in/x"].into_iter().chain(many[100..].iter().map(String::as_str)).collect();
            assert_eq!(names(&root), [&expected[..], &["out/y", "z", "new"]].concat(), "{format}");
            let is_shared = |path: &Path| path.display().to_string().contains("/sharedindex.");
            let inside = std::fs::read_dir(root.join(".git")).expect("a folder");
            let shared = inside.map(|entry| entry.expect("an entry").path()).find(|path| is_shared(path));
            let shared = shared.expect("git made one");
            let read = |path: &Path| bytes(path, 1 << 20).expect("an index");
            break_it(&read(&root.join(".git/index")), hash, &read(&shared));
            std::fs::remove_file(shared).expect("gone");
            assert_eq!(tracked(&root, &root), Tracked { is_unread: true, ..Tracked::default() });
            let _ = std::fs::remove_file(root.join(".git/index"));
            // What is outside of a sparse checkout is not there.
            assert!(git(&root, &["reset", "-q", "--hard"]));
            assert!(git(&root, &["sparse-checkout", "set", "--cone", "--sparse-index", "in"]));
            assert!(read(&root.join(".git/index")).windows(4).any(|word| word == b"sdir"), "git made one");
            assert_eq!(names(&root)[..3], ["a", "gone", "in/x"], "{format}");
            assert!(!names(&root).iter().any(|name| name.starts_with("out")));
        }
        let _ = std::fs::remove_dir_all(&root);
    }
}
