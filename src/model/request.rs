//! What a run was asked for, as data: what a resume goes by, whatever the flags of the command line are called by then.

use serde::{Deserialize, Serialize};

use crate::model::bytestring::ByteString;
use crate::model::unit::Percent;

/// The options of a run that hold for its resume too. A deadline and report files were those of that time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunRequest {
    /// `--config`, as it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ByteString>,
    /// Settings from the command line: the flag each came from, and `key=value`; later ones win.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<(String, String)>,
    /// `--agents`: the number was meant as it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<u32>,
    /// `--timeout`, as it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// `--fail-fast`.
    #[serde(default)]
    pub fail_fast: bool,
    /// `--strict`.
    #[serde(default)]
    pub strict: bool,
    /// `--fail-on flaky`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fail_on_flaky: bool,
    /// When results end the run early, if not as `fail_fast` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halt: Option<Halt>,
    /// Outputs of tasks are relayed to standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<Relay>,
    /// `--joblog`, as it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joblog: Option<ByteString>,
    /// `--eta`.
    #[serde(default)]
    pub eta: bool,
    /// No summary at the end: the output of the tasks is the result.
    #[serde(default)]
    pub silent: bool,
    /// Where the tasks came from, if they can be read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanSource>,
}

/// Where the tasks of a run came from. A resume reads a plan or the checks again and sees what was edited; files of values
/// are only compared. One of the three is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanSource {
    /// A plan file, as it was named, relative to the folder of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<ByteString>,
    /// The checks of a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<Box<ChecksAsked>>,
    /// Files of values for `apm run each`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ValueFile>,
}

/// A file of values as it was when the run began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueFile {
    /// As it was named, relative to the folder of the run.
    pub path: ByteString,
    /// Its size.
    pub len: u64,
    /// When it was changed, in nanoseconds since 1970.
    pub modified_ns: u64,
}

/// Which checks of which repository were asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChecksAsked {
    /// The folder that was named; absent where the repository of the run's folder was meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<ByteString>,
    /// `--only`, or `qa.only` of the configuration.
    #[serde(default)]
    pub only: Selection,
    /// `--skip`, or `qa.skip` of the configuration.
    #[serde(default)]
    pub skip: Selection,
    /// `--fix`.
    #[serde(default)]
    pub fix: bool,
    /// Digest of the names, sizes and times of the repository's files when the run began: what every check may depend on.
    /// Absent where there were too many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<String>,
}

/// Names of checks, and the flag or key of the configuration that named them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// The flag or the key.
    pub by: String,
    /// The names.
    pub names: Vec<String>,
}

/// When results end the run early.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Halt {
    /// Stop what runs, or let it end.
    pub now: bool,
    /// Which results count.
    pub on: HaltOn,
    /// How many of them.
    pub count: HaltCount,
}

/// Which results count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HaltOn {
    /// Failed, timed out, over a limit, broken.
    Fail,
    /// Passed.
    Success,
    /// Either.
    Done,
}

/// How many results end the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HaltCount {
    /// So many.
    Number(u64),
    /// A share of the tasks known, and at least three.
    Share(Percent),
}

/// How outputs of tasks are relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    /// In which order.
    pub order: RelayOrder,
    /// The value and a tab stand before each line.
    #[serde(default)]
    pub tag: bool,
}

/// When an output is relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayOrder {
    /// A whole task at a time, as tasks end.
    Grouped,
    /// A whole task at a time, in plan order.
    Kept,
    /// Line by line, as lines come.
    Live,
}
