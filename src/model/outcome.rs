//! How a task ended. One enum: no soup of booleans and exit codes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::edit::Origin;
use crate::model::id::TaskId;
use crate::model::raw::Raw;
use crate::model::task::Skip;
use crate::model::unit::{Bytes, micros};

/// The end of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did what it should.
    Passed,
    /// It passed, but not at the first attempt.
    Flaky {
        /// Attempts made, the good one included.
        attempts: u32,
    },
    /// It said no.
    Failed {
        /// How it said so.
        cause: Cause,
    },
    /// It ran too long.
    TimedOut {
        /// Which clock.
        limit: TimeLimit,
    },
    /// It went over a limit of its process tree.
    OverLimit {
        /// Which, with its value and what was seen.
        limit: ResourceLimit,
    },
    /// It did not run, and that is no fault of the work.
    Skipped {
        /// Why.
        reason: Skip,
    },
    /// It was stopped, or never started, because the run ended.
    Cancelled {
        /// By what.
        by: Stop,
    },
    /// Neither pass nor fail: the tool or the machine could not do it.
    Broken {
        /// What went wrong, for people.
        error: Raw,
    },
}

/// How a task failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Exit code other than 0.
    Exit {
        /// The code.
        code: i32,
    },
    /// Death by a signal that apm did not send.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// Tests failed or findings count.
    Results {
        /// Failed tests.
        tests_failed: u64,
        /// Findings at or above the level that fails.
        findings: u64,
    },
    /// A declared output is not there after the end.
    OutputMissing {
        /// The path or glob.
        output: Raw,
    },
    /// Tasks that it added and waited for did not pass.
    Tasks {
        /// How many.
        count: u64,
        /// The first of them.
        first: TaskId,
    },
}

/// A limit in time that was passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeLimit {
    /// From start to end.
    Wall {
        /// The limit.
        #[serde(rename = "limit_us", with = "micros")]
        limit: Duration,
    },
    /// Without output.
    Idle {
        /// The limit.
        #[serde(rename = "limit_us", with = "micros")]
        limit: Duration,
    },
}

/// A limit of the process tree that was passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceLimit {
    /// Memory.
    Memory {
        /// The limit.
        limit: Bytes,
        /// The highest value seen.
        peak: Bytes,
    },
    /// CPU time.
    CpuTime {
        /// The limit.
        #[serde(rename = "limit_us", with = "micros")]
        limit: Duration,
        /// The value when it was stopped.
        #[serde(rename = "used_us", with = "micros")]
        used: Duration,
    },
    /// Processes at once, each of their threads counted.
    Processes {
        /// The limit.
        limit: u64,
        /// The highest number seen, or how often the kernel refused one more where it enforces the limit itself.
        peak: u64,
    },
}

/// Why a run ends before its plan does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// A signal to apm, for instance Ctrl-C.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// The deadline of the run.
    Deadline,
    /// `--fail-fast`, `--halt`.
    Failure,
    /// The reader of the output that was to be passed on went away.
    Closed,
    /// `apm run cancel`.
    Cancel {
        /// By whom.
        by: Origin,
    },
    /// The run itself could not go on, for instance a full disk under the journal.
    Fault {
        /// What happened.
        error: Raw,
    },
}

impl Outcome {
    /// Whether tasks that need this one may run.
    pub const fn is_good(&self) -> bool {
        matches!(self, Self::Passed | Self::Flaky { .. })
    }

    /// Whether the work itself said no (exit code 1): failed, timed out, over a limit.
    pub const fn is_failure(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::TimedOut { .. } | Self::OverLimit { .. })
    }

    /// The word for tables and machine formats.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Flaky { .. } => "flaky",
            Self::Failed { .. } => "failed",
            Self::TimedOut { .. } => "timed out",
            Self::OverLimit { .. } => "over limit",
            Self::Skipped { .. } => "skipped",
            Self::Cancelled { .. } => "cancelled",
            Self::Broken { .. } => "broken",
        }
    }
}
