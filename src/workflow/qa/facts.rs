//! What a repository consists of, read once: its files as git sees them, the manifests, the programs at hand. Planning
//! is pure over this value.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::model::bytestring::ByteString;
use crate::sys::beneath;
use crate::sys::owner::Owners;
use crate::workflow::qa::index::{self, Tracked};

/// Files looked at; a larger tree is cut off, and said so.
pub(crate) const FILES_MAX: usize = 200_000;
/// Largest manifest read.
const TEXT_MAX: u64 = 1 << 20;
/// Largest file of patterns to ignore.
const IGNORING_MAX: u64 = 1 << 20;
/// Read of a file that is asked for something its name does not tell.
const HEAD_MAX: u64 = 64 << 10;
/// Manifests and configurations whose text decides about checks.
const TEXTS: [&str; 41] = [
    "uv.lock",
    "poetry.lock",
    "pdm.lock",
    "requirements-dev.txt",
    "requirements_dev.txt",
    "dev-requirements.txt",
    ".tool-versions",
    "mise.toml",
    ".mise.toml",
    "noxfile.py",
    "meson.build",
    "Cargo.toml",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
    "tox.ini",
    "package.json",
    "go.mod",
    "Makefile",
    "makefile",
    "GNUmakefile",
    "justfile",
    "Justfile",
    "Taskfile.yml",
    "Taskfile.yaml",
    "Taskfile.dist.yml",
    "Taskfile.dist.yaml",
    ".pre-commit-config.yaml",
    ".flake8",
    "mypy.ini",
    ".mypy.ini",
    "pytest.ini",
    "conftest.py",
    ".coveragerc",
    "tsconfig.json",
    "CMakeLists.txt",
    ".editorconfig",
    ".shellcheckrc",
    "requirements.txt",
    "ruff.toml",
    ".ruff.toml",
];

/// A repository.
pub(crate) struct Facts {
    pub(crate) root: PathBuf,
    /// Relative to the root, sorted, as [`ByteString::encode`] makes text of names; what git ignores is not among them.
    pub(crate) files: Vec<String>,
    /// Links to files among them.
    links: BTreeSet<String>,
    /// Texts of manifests, by file.
    texts: BTreeMap<String, String>,
    /// First lines that start with `#!`, of shell scripts and of files without an extension.
    pub(crate) interpreters: BTreeMap<String, String>,
    /// Folders where programs are looked for.
    path: OsString,
    /// Users whose programs in the repository may run.
    owners: Owners,
    /// Programs that may not, and why.
    not_believed: RefCell<BTreeSet<String>>,
    /// Repositories inside this one, submodules and other worktrees among them: somebody else's files, which a tool that is
    /// given a folder is told to leave out.
    pub(crate) inner: Vec<String>,
    /// Digest of the names, sizes, modes and times of the files, those of submodules too; absent where not all were looked
    /// at.
    pub(crate) digest: Option<String>,
    /// The file that was changed last, and when.
    pub(crate) newest: Option<(String, SystemTime)>,
    /// The tree was larger than what is looked at.
    pub(crate) cut_off: bool,
    /// What git tracks could not be read: files that it tracks and yet ignores are missing.
    pub(crate) is_index_unread: bool,
}

impl Facts {
    /// Reads a repository. `everywhere` is the file of patterns to ignore in every repository, if there is one.
    pub(crate) fn read(
        root: &Path,
        path: OsString,
        owners: Owners,
        everywhere: Option<PathBuf>,
    ) -> Result<Self, String> {
        let mut facts = Self {
            root: root.to_owned(),
            files: Vec::new(),
            links: BTreeSet::new(),
            texts: BTreeMap::new(),
            interpreters: BTreeMap::new(),
            path,
            owners,
            not_believed: RefCell::default(),
            inner: Vec::new(),
            digest: None,
            newest: None,
            cut_off: false,
            is_index_unread: false,
        };
        let top = facts.top();
        let tracked = top.as_deref().map(|top| index::tracked(root, top)).unwrap_or_default();
        facts.is_index_unread = tracked.is_unread;
        let modules = tracked.modules.clone();
        let (paths, inner) = listed(root, top.as_deref().unwrap_or(root), tracked, everywhere.as_deref())?;
        facts.inner = inner;
        let environments: BTreeSet<&Path> = paths
            .iter()
            .filter(|path| path.file_name() == Some(OsStr::new(ENVIRONMENT)))
            .filter_map(|path| path.parent().filter(|folder| !folder.as_os_str().is_empty()))
            .collect();
        let foreign = |path: &&PathBuf| {
            path.iter().any(|part| part == "node_modules")
                || path.ancestors().any(|folder| environments.contains(folder))
        };
        let mut digest = blake3::Hasher::new();
        for path in paths.iter().filter(|path| !foreign(path)) {
            if facts.files.len() == FILES_MAX {
                facts.cut_off = true;
                break;
            }
            let place = root.join(path);
            // Git also tracks what was deleted without its knowledge.
            let Ok(meta) = std::fs::symlink_metadata(&place) else { continue };
            let file = ByteString::from(path.clone()).encode();
            let file = file.as_str();
            if !meta.is_symlink() && !meta.is_file() {
                continue;
            }
            add_stamp(&mut digest, path, &meta);
            if meta.is_symlink() {
                facts.add_link(file, &place);
                continue;
            }
            if let Ok(changed) = meta.modified()
                && facts.newest.as_ref().is_none_or(|(_, newest)| changed > *newest)
            {
                facts.newest = Some((file.to_owned(), changed));
            }
            let name = file.rsplit('/').next().unwrap_or(file);
            if TEXTS.contains(&name) || is_workflow(file) {
                facts.texts.extend(text(&place).map(|text| (file.to_owned(), text)));
            } else if !name.contains('.') || name.ends_with(".sh") || name.ends_with(".bash") {
                facts.interpreters.extend(first_line(&place).map(|line| (file.to_owned(), line)));
            }
            facts.files.push(file.to_owned());
        }
        facts.files.sort_unstable();
        add_modules(&mut digest, root, &modules, everywhere.as_deref());
        // Of what was not looked at nothing is known.
        facts.digest = (!facts.cut_off).then(|| digest.finalize().to_hex().to_string());
        Ok(facts)
    }

    /// A link to a file of the repository: a manifest or a configuration may be one. What it leads to is checked where it is.
    fn add_link(&mut self, file: &str, place: &Path) {
        let Some(target) = place.canonicalize().ok().filter(|target| target.starts_with(&self.root)) else { return };
        if !std::fs::symlink_metadata(&target).is_ok_and(|meta| meta.is_file()) {
            return;
        }
        let name = file.rsplit('/').next().unwrap_or(file);
        if TEXTS.contains(&name) || is_workflow(file) {
            self.texts.extend(text(&target).map(|text| (file.to_owned(), text)));
        }
        self.links.insert(file.to_owned());
    }

    /// The root of the repository around the folder. What somebody else's would ignore is not ignored.
    fn top(&self) -> Option<PathBuf> {
        let git = self.root.ancestors().map(|folder| folder.join(".git")).find(|git| git.symlink_metadata().is_ok())?;
        let top = git.parent()?;
        let is_believed = |path: &Path| path.metadata().is_ok_and(|meta| self.owners.judge(path, &meta).is_ok());
        (is_believed(top) && is_believed(&git)).then(|| top.to_owned())
    }

    /// The text of a manifest; empty where there is none.
    pub(crate) fn text(&self, file: &str) -> &str {
        self.texts.get(file).map_or("", String::as_str)
    }

    /// The texts of the workflows of CI.
    pub(crate) fn workflows(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().filter(|(file, _)| is_workflow(file)).map(|(_, text)| text.as_str())
    }

    /// The first part of a file of the repository, for what its name does not tell; empty where it cannot be read.
    pub(crate) fn head(&self, file: &str) -> String {
        let path = self.root.join(ByteString::decode(file).as_path());
        let mut bytes = Vec::new();
        let read = beneath::regular(&path).and_then(|file| file.take(HEAD_MAX).read_to_end(&mut bytes));
        read.map(|_| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Whether a file is there.
    pub(crate) fn has(&self, file: &str) -> bool {
        self.files.binary_search_by(|one| one.as_str().cmp(file)).is_ok() || self.links.contains(file)
    }

    /// How a program is called from a folder: the project's own copy first, then the one of the system.
    pub(crate) fn program(&self, dir: &str, name: &str) -> Option<String> {
        if let Some(own) = self.own_program(dir, name) {
            return Some(own);
        }
        std::env::split_paths(&self.path).any(|folder| is_program(&folder.join(name))).then(|| name.to_owned())
    }

    /// How a program of the virtual environment of Python is called that lies in the project or is active: one in PATH.
    pub(crate) fn program_of_environment(&self, dir: &str, name: &str) -> Option<String> {
        let is_environment = |bin: &Path| {
            let has = |name: &str| bin.parent().is_some_and(|folder| folder.join(name).exists());
            has(ENVIRONMENT) || has("conda-meta")
        };
        let is_active = || {
            let mut folders = std::env::split_paths(&self.path);
            folders.find(|folder| is_program(&folder.join(name))).is_some_and(|folder| is_environment(&folder))
        };
        self.own_program(dir, name).or_else(|| is_active().then(|| name.to_owned()))
    }

    /// Whether a program lies in a folder, whatever git makes of it.
    pub(crate) fn has_program_in(&self, dir: &str, name: &str) -> bool {
        let path = self.root.join(dir).join(name);
        is_program(&path) && self.owners.judge_below(&self.root, &path).is_ok()
    }

    /// The copy of a program that the project has in its own folders.
    fn own_program(&self, dir: &str, name: &str) -> Option<String> {
        let mut folder = self.root.join(dir);
        loop {
            for place in ["node_modules/.bin", ".venv/bin", "venv/bin"] {
                let path = folder.join(place).join(name);
                if is_program(&path) {
                    match self.owners.judge_below(&self.root, &path) {
                        Ok(()) => return path.to_str().map(str::to_owned),
                        Err(reason) => {
                            self.not_believed.borrow_mut().insert(format!("{reason}: not run"));
                        }
                    }
                }
            }
            if folder == self.root || !folder.pop() {
                return None;
            }
        }
    }

    /// Programs of the repository that were found and not taken, since they are somebody else's.
    pub(crate) fn not_believed(&self) -> Vec<String> {
        self.not_believed.borrow().iter().cloned().collect()
    }

    /// Whether the packages of a Node project are installed.
    pub(crate) fn has_node_modules(&self, dir: &str) -> bool {
        self.upwards(dir).any(|folder| folder.join("node_modules").is_dir() || folder.join(".pnp.cjs").is_file())
    }

    /// Major and minor version of the TypeScript that a folder uses; absent where it is not among the packages.
    pub(crate) fn typescript_version(&self, dir: &str) -> Option<(u32, u32)> {
        self.upwards(dir).find_map(|folder| version(&text(&folder.join("node_modules/typescript/package.json"))?))
    }

    /// A folder and those above it, up to the root.
    fn upwards(&self, dir: &str) -> impl Iterator<Item = PathBuf> {
        let folder = self.root.join(dir);
        let above = |folder: &PathBuf| (*folder != self.root).then(|| folder.parent().map(Path::to_owned)).flatten();
        std::iter::successors(Some(folder), above)
    }
}

/// Adds what tells whether a file was changed. A link counts by its own time: to lead elsewhere it is made anew.
fn add_stamp(digest: &mut blake3::Hasher, path: &Path, meta: &std::fs::Metadata) {
    digest.update(path.as_os_str().as_bytes()).update(b"\0");
    for number in [meta.len().cast_signed(), i64::from(meta.mode()), meta.mtime(), meta.mtime_nsec()] {
        digest.update(&number.to_le_bytes());
    }
}

/// Adds the files of submodules, which checks do not look at and builds depend on.
fn add_modules(digest: &mut blake3::Hasher, root: &Path, modules: &[PathBuf], everywhere: Option<&Path>) {
    let mut open: Vec<PathBuf> = modules.to_vec();
    while let Some(module) = open.pop() {
        let place = root.join(&module);
        let tracked = index::tracked(&place, &place);
        open.extend(tracked.modules.iter().map(|inner| module.join(inner)));
        // One that cannot be listed counts by itself.
        let (files, _) = listed(&place, &place, tracked, everywhere).unwrap_or_default();
        for file in [PathBuf::new()].iter().chain(&files) {
            if let Ok(meta) = std::fs::symlink_metadata(place.join(file)) {
                add_stamp(digest, &module.join(file), &meta);
            }
        }
    }
}

/// The file of a folder that says what git ignores there.
const IGNORING: &str = ".gitignore";
/// The file by which a folder is a virtual environment of Python.
const ENVIRONMENT: &str = "pyvenv.cfg";

/// What git tracks, and what it does not and yet does not ignore. `top` is where the files that say what to ignore begin:
/// one further up may be anybody's.
fn listed(
    root: &Path,
    top: &Path,
    tracked: Tracked,
    everywhere: Option<&Path>,
) -> Result<(BTreeSet<PathBuf>, Vec<String>), String> {
    let walked = match walk(root, top, &tracked, everywhere)? {
        Some(walked) => walked,
        // A folder that is ignored as a whole was named all the same.
        None => walk(root, root, &tracked, everywhere)?.unwrap_or_default(),
    };
    let Walked { files, inner } = walked;
    Ok((tracked.files.into_iter().chain(files).collect(), inner))
}

/// What was found below a folder.
#[derive(Default)]
struct Walked {
    files: Vec<PathBuf>,
    /// Repositories, which were not entered.
    inner: Vec<String>,
}

/// The files below `root`; nothing where the folder itself is ignored.
fn walk(root: &Path, top: &Path, tracked: &Tracked, everywhere: Option<&Path>) -> Result<Option<Walked>, String> {
    let modules: BTreeSet<PathBuf> = tracked.modules.iter().map(|module| root.join(module)).collect();
    // In a folder of repositories each of them is meant; inside of one they are somebody else's.
    let is_repository = root.join(".git").exists();
    let ignored = Ignored::read(top, everywhere)?;
    let (refused, reached) = (Arc::new(OnceLock::new()), Arc::new(AtomicBool::new(root == top)));
    let (to, found, is_there) = (root.to_owned(), Arc::clone(&refused), Arc::clone(&reached));
    let inner: Arc<Mutex<Vec<String>>> = Arc::default();
    let inside = Arc::clone(&inner);
    // The library opens ignore files by itself, and would wait at a FIFO: they are read here instead.
    let walk = ignore::WalkBuilder::new(top)
        .standard_filters(false)
        .filter_entry(move |entry| {
            let path = entry.path();
            let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
            match ignored.has(path, is_folder) {
                Ok(is_ignored) if is_ignored => return false,
                Ok(_) => {}
                Err(why) => {
                    let _ = found.set(why);
                    return false;
                }
            }
            if to.starts_with(path) {
                is_there.fetch_or(path == to, Ordering::Relaxed);
                return is_folder;
            }
            let has = |name: &str| path.join(name).exists();
            if !path.starts_with(&to) || entry.file_name() == ".git" || entry.file_name() == "node_modules" {
                return false;
            }
            if is_folder && (is_repository && has(".git") || modules.contains(path)) {
                let name = path.strip_prefix(&to).map(|name| ByteString::from(name.to_owned()).encode());
                inside.lock().unwrap_or_else(PoisonError::into_inner).extend(name);
                return false;
            }
            !(is_folder && has(ENVIRONMENT))
        })
        .build();
    // A folder that cannot be read holds nothing that could be checked. One more than the limit, so that it shows.
    let files = walk
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file() || kind.is_symlink()))
        .filter_map(|entry| entry.path().strip_prefix(root).ok().map(Path::to_owned))
        .take(FILES_MAX + 1)
        .collect();
    match refused.get() {
        Some(why) => Err(String::clone(why)),
        None => {
            let mut inner = std::mem::take(&mut *inner.lock().unwrap_or_else(PoisonError::into_inner));
            inner.sort_unstable();
            Ok(reached.load(Ordering::Relaxed).then_some(Walked { files, inner }))
        }
    }
}

/// What git ignores, as gitignore(5) has it.
struct Ignored {
    top: PathBuf,
    /// Of the folders that were entered.
    within: Mutex<HashMap<PathBuf, Arc<Gitignore>>>,
    /// Those that no folder has, the strongest first.
    beside: Vec<Gitignore>,
}

impl Ignored {
    fn read(top: &Path, everywhere: Option<&Path>) -> Result<Self, String> {
        let beside = index::exclude_file(top).into_iter().chain(everywhere.map(Path::to_owned));
        let beside = beside.map(|file| patterns(top, &file)).collect::<Result<_, _>>()?;
        // That of the folder itself is read in any case: it is what refuses one that cannot be.
        let within = HashMap::from([(top.to_owned(), Arc::new(patterns(top, &top.join(IGNORING))?))]);
        Ok(Self { top: top.to_owned(), within: Mutex::new(within), beside })
    }

    /// Whether it is ignored. What holds it is not.
    fn has(&self, path: &Path, is_folder: bool) -> Result<bool, String> {
        if path == self.top {
            return Ok(false);
        }
        if is_folder {
            self.of(path)?;
        }
        for folder in path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.top)) {
            match self.of(folder)?.matched(path, is_folder) {
                Match::None => {}
                found => return Ok(found.is_ignore()),
            }
        }
        let found = self.beside.iter().map(|all| all.matched(path, is_folder)).find(|found| !found.is_none());
        Ok(found.is_some_and(|found| found.is_ignore()))
    }

    /// The patterns of a folder.
    fn of(&self, folder: &Path) -> Result<Arc<Gitignore>, String> {
        let mut within = self.within.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(patterns) = within.get(folder) {
            return Ok(Arc::clone(patterns));
        }
        let read = Arc::new(patterns(folder, &folder.join(IGNORING))?);
        within.insert(folder.to_owned(), Arc::clone(&read));
        Ok(read)
    }
}

/// The patterns in a file, which is not there, or a regular file of a bounded size.
fn patterns(folder: &Path, file: &Path) -> Result<Gitignore, String> {
    let text = match beneath::read(file, IGNORING_MAX) {
        Ok(text) => text,
        Err(error)
            if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::IsADirectory | ErrorKind::FileTooLarge) =>
        {
            return Err(error.to_string());
        }
        // As git, which says nothing of one that it may not read.
        Err(_) => return Ok(Gitignore::empty()),
    };
    let mut builder = GitignoreBuilder::new(folder);
    for line in String::from_utf8_lossy(&text).trim_start_matches('\u{feff}').lines() {
        // A pattern that cannot be understood matches nothing.
        let _ = builder.add_line(Some(file.to_owned()), line);
    }
    Ok(builder.build().unwrap_or_else(|_| Gitignore::empty()))
}

/// Major and minor version in a package.json.
fn version(package: &str) -> Option<(u32, u32)> {
    let package: serde_json::Value = serde_json::from_str(package).ok()?;
    let mut parts = package.get("version")?.as_str()?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whether a file says what CI runs.
fn is_workflow(file: &str) -> bool {
    const FILES: [&str; 5] =
        [".gitlab-ci.yml", ".travis.yml", ".circleci/config.yml", "azure-pipelines.yml", ".cirrus.yml"];
    let is_yaml = file.ends_with(".yml") || file.ends_with(".yaml");
    (file.starts_with(".github/workflows/") && is_yaml) || FILES.contains(&file)
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn text(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    beneath::regular(path).ok()?.take(TEXT_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn first_line(path: &Path) -> Option<String> {
    let mut bytes = [0; 128];
    let len = beneath::regular(path).ok()?.read(&mut bytes).ok()?;
    let line = bytes[..len].strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    Some(String::from_utf8_lossy(line).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;
    use std::process::Command;

    use super::Facts;
    use crate::model::bytestring::ByteString;
    use crate::sys::owner::Owners;

    #[test]
    fn files_are_those_that_git_sees() {
        let root = std::env::temp_dir().join(format!("apm-facts-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let write = |file: &OsStr, text: &str| {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            std::fs::write(path, text).expect("written");
        };
        let files = [
            (".gitignore", "*.log\n"),
            (".ignore", "seen.txt\n"),
            ("seen.txt", ""),
            ("tracked.log", ""),
            ("ignored.log", ""),
            ("env/pyvenv.cfg", ""),
            ("env/lib/a.py", ""),
            ("env/tracked.py", ""),
            ("node_modules/a.js", ""),
            ("module/b.txt", ""),
        ];
        files.iter().for_each(|(file, text)| write(OsStr::new(file), text));
        write(OsStr::from_bytes(b"caf\xe9.sh"), "");
        let read = || {
            let facts = Facts::read(&root, OsString::new(), Owners::these([]), None).expect("facts");
            facts.files.iter().map(|file| ByteString::decode(file).to_text().into_owned()).collect::<Vec<_>>().join(" ")
        };
        let git = |dir: &Path, words: &[&str]| {
            let mut command = Command::new("git");
            command.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(words).current_dir(dir);
            command.output().is_ok_and(|output| output.status.success())
        };
        assert!(git(&root, &["init", "-q"]), "git is there: `tests/all.sh` installs it");
        let module = root.join("module");
        assert!(git(&module, &["init", "-q"]) && git(&module, &["add", "b.txt"]));
        assert!(git(&module, &["commit", "-qm", "b"]));
        assert!(git(&root, &["add", "-f", "tracked.log", "module", "env/pyvenv.cfg", "env/tracked.py"]));
        assert_eq!(read(), ".gitignore .ignore caf\u{FFFD}.sh seen.txt tracked.log");
        let _ = std::fs::remove_dir_all(&root);
    }
}
