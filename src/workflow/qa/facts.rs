//! What a repository consists of, read once: its files as git sees them, the manifests, the programs at hand. Planning
//! is pure over this value.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Files looked at; a larger tree is cut off, and said so.
pub(crate) const FILES_MAX: usize = 200_000;
/// Largest manifest read.
const TEXT_MAX: u64 = 1 << 20;
/// Manifests and configurations whose text decides about checks.
const TEXTS: [&str; 27] = [
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
    ".pre-commit-config.yaml",
    ".flake8",
    "mypy.ini",
    ".mypy.ini",
    "pytest.ini",
    "conftest.py",
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
    /// Relative to the root, sorted; what git ignores is not among them.
    pub(crate) files: Vec<String>,
    /// Texts of manifests, by file.
    texts: BTreeMap<String, String>,
    /// First lines of files without an extension that start with `#!`.
    pub(crate) interpreters: BTreeMap<String, String>,
    /// Folders where programs are looked for.
    path: OsString,
    /// The tree was larger than what is looked at.
    pub(crate) cut_off: bool,
}

impl Facts {
    /// Reads a repository.
    pub(crate) fn read(root: &Path, path: OsString) -> Result<Self, String> {
        let mut facts = Self {
            root: root.to_owned(),
            files: Vec::new(),
            texts: BTreeMap::new(),
            interpreters: BTreeMap::new(),
            path,
            cut_off: false,
        };
        let walk = ignore::WalkBuilder::new(root)
            .hidden(false)
            .require_git(false)
            .filter_entry(|entry| entry.file_name() != ".git" && entry.file_name() != "node_modules")
            .build();
        for entry in walk {
            // A folder that cannot be read holds nothing that could be checked.
            let Ok(entry) = entry else { continue };
            if !entry.file_type().is_some_and(|kind| kind.is_file()) {
                continue;
            }
            // Names that are not UTF-8 cannot be named to every tool.
            let Some(file) = entry.path().strip_prefix(root).ok().and_then(Path::to_str) else { continue };
            if facts.files.len() == FILES_MAX {
                facts.cut_off = true;
                break;
            }
            let name = file.rsplit('/').next().unwrap_or(file);
            if TEXTS.contains(&name) {
                facts.texts.extend(text(entry.path()).map(|text| (file.to_owned(), text)));
            } else if !name.contains('.') {
                facts.interpreters.extend(first_line(entry.path()).map(|line| (file.to_owned(), line)));
            }
            facts.files.push(file.to_owned());
        }
        facts.files.sort_unstable();
        Ok(facts)
    }

    /// The text of a manifest; empty where there is none.
    pub(crate) fn text(&self, file: &str) -> &str {
        self.texts.get(file).map_or("", String::as_str)
    }

    /// Whether a file is there.
    pub(crate) fn has(&self, file: &str) -> bool {
        self.files.binary_search_by(|one| one.as_str().cmp(file)).is_ok()
    }

    /// How a program is called from a folder: the project's own copy first, then the one of the system.
    pub(crate) fn program(&self, dir: &str, name: &str) -> Option<String> {
        let mut folder = self.root.join(dir);
        loop {
            for place in ["node_modules/.bin", ".venv/bin", "venv/bin"] {
                let path = folder.join(place).join(name);
                if is_program(&path) {
                    return path.to_str().map(str::to_owned);
                }
            }
            if folder == self.root || !folder.pop() {
                break;
            }
        }
        std::env::split_paths(&self.path).any(|folder| is_program(&folder.join(name))).then(|| name.to_owned())
    }

    /// Whether the packages of a Node project are installed.
    pub(crate) fn has_node_modules(&self, dir: &str) -> bool {
        self.upwards(dir).any(|folder| folder.join("node_modules").is_dir())
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

/// Major and minor version in a package.json.
fn version(package: &str) -> Option<(u32, u32)> {
    let package: serde_json::Value = serde_json::from_str(package).ok()?;
    let mut parts = package.get("version")?.as_str()?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn text(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(TEXT_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn first_line(path: &Path) -> Option<String> {
    let mut bytes = [0; 128];
    let len = std::fs::File::open(path).ok()?.read(&mut bytes).ok()?;
    let line = bytes[..len].strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    Some(String::from_utf8_lossy(line).trim().to_owned())
}
