//! An attempt as the engine and its executors speak of it: its name, what a look at it shows, what came of it. Whether it is
//! a process tree, code of apm or something on another machine is the executor's business.

use std::time::Duration;

use crate::model::event::{Exit, Output, Stored, Usage};
use crate::model::finding::Counts;
use crate::model::id::TaskId;
use crate::model::outcome::Outcome;
use crate::model::sandbox::Confinement;
use crate::model::unit::Bytes;

/// Index of a task in its run, in plan order.
pub type Ix = u32;

/// Which attempt of which task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    /// The task.
    pub ix: Ix,
    /// From 1.
    pub attempt: u32,
}

/// What can be asked of a running attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// End, in its own time.
    Term,
    /// End at once.
    Kill,
    /// Stop where it is.
    Pause,
    /// Go on.
    Resume,
}

/// A running attempt as sampled: sums over its process tree.
#[derive(Clone, Copy, Debug, Default)]
pub struct TreeUsage {
    /// Resident memory.
    pub memory: Bytes,
    /// CPU time so far.
    pub cpu_time: Duration,
    /// Processes.
    pub processes: u32,
    /// Threads of all processes.
    pub threads: u32,
    /// Time since its last byte of output.
    pub silent: Duration,
}

/// How the tasks that an attempt has added, and waited for, have ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Awaited {
    /// How many did not pass.
    pub bad: u64,
    /// The first of them.
    pub first_bad: Option<TaskId>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// By its own result.
    Judged(Outcome),
    /// It waits for tasks, and is to be made again when they have ended.
    Await(Vec<TaskId>),
    /// It could not be started now, but may be when another attempt has ended.
    Busy(String),
    /// It could not be run, or its result not be had.
    Broken(String),
}

/// What came of an attempt.
#[derive(Clone, Debug)]
pub struct AttemptResult {
    /// How it ended.
    pub end: End,
    /// It had ended before anybody told it to.
    pub by_itself: bool,
    /// How its process ended, where it was one.
    pub exit: Option<Exit>,
    /// What it used.
    pub usage: Usage,
    /// What it printed.
    pub stdout: Output,
    /// What it printed to standard error.
    pub stderr: Output,
    /// Counts of its tests and findings.
    pub counts: Counts,
    /// Its tests and findings.
    pub results: Option<Stored>,
    /// Processes it left behind, ended by apm.
    pub leaked: u32,
    /// Times the kernel killed a process of it for memory.
    pub oom_kills: u64,
    /// Times the kernel refused it a process.
    pub forks_refused: u64,
    /// Digest of the files its `inputs` matched.
    pub inputs_digest: String,
    /// How it was confined.
    pub confinement: Option<Box<Confinement>>,
    /// Sentences for the user.
    pub notes: Vec<String>,
}

impl AttemptResult {
    /// One that ended like this and is known for nothing else.
    pub fn new(end: End) -> Self {
        Self {
            end,
            by_itself: false,
            exit: None,
            usage: Usage::default(),
            stdout: Output::default(),
            stderr: Output::default(),
            counts: Counts::default(),
            results: None,
            leaked: 0,
            oom_kills: 0,
            forks_refused: 0,
            inputs_digest: String::new(),
            confinement: None,
            notes: Vec::new(),
        }
    }

    /// One whose process ended like this.
    pub fn exited(exit: Exit) -> Self {
        Self { exit: Some(exit), ..Self::new(End::Judged(exit.outcome())) }
    }
}
