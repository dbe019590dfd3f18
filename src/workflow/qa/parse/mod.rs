//! Reads what tools print into tests and findings: the readers by name, and what they share. What the results mean is said
//! in `judge`.

mod findings;
mod rust;
mod tests;

use std::collections::HashSet;
use std::path::{Component, Path};

use crate::model::finding::{Finding, Results, Severity};

/// What a reader is given.
pub(crate) struct Printed<'a> {
    /// The exit code; absent where a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: &'a [u8],
    pub(crate) stderr: &'a [u8],
    /// Folder of the files it wrote.
    pub(crate) written: Option<&'a Path>,
    /// Makes a path relative to the repository.
    pub(crate) place: Place<'a>,
}

/// Turns the paths of a tool into paths of the repository.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// Root of the repository.
    pub(crate) root: &'a Path,
    /// Folder the tool ran in, relative to it.
    pub(crate) dir: &'a str,
}

/// A reader's answer: what it read, or why it could not.
pub(crate) type Read = Result<Results, String>;

macro_rules! parsers {
    ($($variant:ident $word:literal $read:expr,)*) => {
        /// The readers, named in the table of tools and in the journal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Parser { $(#[doc = $word] $variant,)* }

        impl Parser {
            /// The name in the journal.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The reader of that name.
            pub(crate) fn of(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }

            /// Reads what a tool has printed.
            pub(crate) fn read(self, printed: &Printed<'_>) -> Read {
                match self { $(Self::$variant => $read(printed),)* }
            }
        }
    };
}

parsers! {
    Exit "exit" nothing_to_read,
    Fixer "fixer" nothing_to_read,
    Paths "paths" findings::paths,
    RuffFormat "ruff-format" findings::ruff_format,
    Black "black" findings::black,
    Gcc "gcc" findings::gcc,
    Cargo "cargo" rust::messages,
    CargoTest "cargo-test" rust::tests,
    Nextest "nextest" rust::nextest,
    CargoDeny "cargo-deny" rust::deny,
    CargoAudit "cargo-audit" rust::audit,
    Junit "junit" tests::junit,
    Jest "jest" tests::jest,
    GoTest "go-test" tests::go,
    GoVet "go-vet" findings::go_vet,
    GoBuild "go-build" findings::go_build,
    Staticcheck "staticcheck" findings::staticcheck,
    Ruff "ruff" findings::ruff,
    Mypy "mypy" findings::mypy,
    PipAudit "pip-audit" findings::pip_audit,
    Eslint "eslint" findings::eslint,
    Tsc "tsc" findings::tsc,
    NpmAudit "npm-audit" findings::npm_audit,
    Shellcheck "shellcheck" findings::shellcheck,
    Hadolint "hadolint" findings::hadolint,
    Actionlint "actionlint" findings::actionlint,
    Zizmor "zizmor" findings::zizmor,
    Yamllint "yamllint" findings::yamllint,
    Markdownlint "markdownlint" findings::markdownlint,
}

fn nothing_to_read(_: &Printed<'_>) -> Read {
    Ok(Results::default())
}

/// Texts by which tools say that they could not reach the network.
const OFFLINE: [&str; 14] = [
    "could not resolve host",
    "temporary failure in name resolution",
    "name or service not known",
    "network is unreachable",
    "failed to fetch advisory database",
    "couldn't fetch advisory database",
    "enotfound",
    "eai_again",
    "econnrefused",
    "no such host",
    "connection refused",
    "failed to establish a new connection",
    "could not connect to",
    "dial tcp",
];

/// Whether a line, in lower case, says that the network could not be reached.
pub(crate) fn offline(line: &str) -> bool {
    // `ModuleNotFoundError` holds an `enotfound`.
    let starts = |at: usize| !line[..at].ends_with(char::is_alphanumeric);
    OFFLINE.iter().any(|text| line.match_indices(text).any(|(at, _)| starts(at)))
}

impl Place<'_> {
    /// The path relative to the repository, with `/`; a path outside stays as it is.
    pub(crate) fn file(&self, path: &str) -> String {
        let path = path.strip_prefix("file://").unwrap_or(path);
        let joined = self.root.join(self.dir).join(path);
        let mut parts: Vec<Component<'_>> = Vec::new();
        for part in joined.components() {
            match part {
                Component::CurDir => {}
                Component::ParentDir if matches!(parts.last(), Some(Component::Normal(_))) => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        let clean: std::path::PathBuf = parts.iter().collect();
        clean.strip_prefix(self.root).unwrap_or(&clean).to_string_lossy().into_owned()
    }
}

/// Text of a stream. Also JSON is not always UTF-8: names of files are in it as they are.
fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// A stream that is one JSON document.
fn json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_str(&text(bytes)).map_err(|error| format!("not the JSON it promised: {error}"))
}

/// The lines of a stream that are JSON objects; others are passed over.
fn json_lines(bytes: &[u8]) -> impl Iterator<Item = serde_json::Value> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| line.first() == Some(&b'{'))
        .filter_map(|line| serde_json::from_str(&text(line)).ok())
}

/// Findings, each once: the library and its tests, a package and its test variant, two streams say the same.
#[derive(Default)]
struct Distinct {
    findings: Vec<Finding>,
    /// Severity, place, rule and message: what makes two findings the same.
    seen: HashSet<(Severity, String, [u32; 4], String, String)>,
}

impl Distinct {
    fn push(&mut self, found: Finding) {
        let place = [found.line, found.column, found.line_end, found.column_end];
        let key = (found.severity, found.file.clone(), place, found.rule.clone(), found.message.clone());
        if self.seen.insert(key) {
            self.findings.push(found);
        }
    }
}

/// A finding without a place.
fn finding(severity: Severity, rule: &str, message: &str) -> Finding {
    Finding {
        rule: rule.to_owned(),
        severity,
        message: message.trim().to_owned(),
        file: String::new(),
        line: 0,
        column: 0,
        line_end: 0,
        column_end: 0,
        url: String::new(),
    }
}
