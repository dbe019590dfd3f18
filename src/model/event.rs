//! The one event stream. What happened in a run is a sequence of [`Envelope`]s; journal, progress, reports and
//! `--replay` are folds over it. This is a wire format: additions only, units in the keys.
//!
//! Compatibility: a field that is unknown to a reader is ignored. An event of an unknown kind is skipped and counted, and the
//! reader says so. An unknown value inside a known kind makes the journal one "written by a newer apm": nothing of it may be
//! dropped in silence. What a reader must understand beyond that is named in [`RunStarted::needs`] ([`FEATURES`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::bytestring::ByteString;
use crate::model::edit::{Edit, Origin};
use crate::model::finding::Counts;
use crate::model::id::{RunId, TaskId};
use crate::model::outcome::{Cause, Outcome, Stop};
use crate::model::request::{PlanSource, RunRequest};
use crate::model::sandbox::Confinement;
use crate::model::task::Task;
use crate::model::unit::{Bytes, Percent, micros};

/// Version of the stream. A reader refuses a higher one. Version 2 added edits of a running plan, steps and resources: readers
/// of version 1 dropped an event with an unknown value in it without a word, so they must refuse it whole.
pub const VERSION: u32 = 2;

/// What this apm understands beyond the version: names that [`RunStarted::needs`] may contain.
pub const FEATURES: &[&str] = &[SANDBOX];

/// Tasks are confined: a reader that does not know this would resume them without their confinement.
pub const SANDBOX: &str = "sandbox";

/// One numbered event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`VERSION`].
    pub v: u32,
    /// From 0, without a gap.
    pub seq: u64,
    /// Wall clock, for people; may jump.
    pub at: Timestamp,
    /// Time since the run started, from a clock that does not jump. Continues where it was after a resume.
    #[serde(rename = "t_us", with = "micros")]
    pub t: Duration,
    /// What happened.
    pub event: Event,
}

/// What can happen in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The first event.
    RunStarted(Box<RunStarted>),
    /// A crashed or stopped run goes on.
    RunResumed {
        /// Version of the apm that goes on.
        apm: String,
        /// Tasks that are run again although a pass is recorded, with the reason.
        invalidated: Vec<Invalidated>,
        /// What holds from now on in place of what the first event says; absent in records of an older apm.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        terms: Option<Box<Terms>>,
    },
    /// Tasks are other ones from now on: a resume was given other limits or retries, or the plan was edited before it.
    TasksChanged {
        /// They, as they are now.
        tasks: Vec<Arc<Task>>,
    },
    /// Tasks joined the plan.
    TasksAdded {
        /// They, in plan order.
        tasks: Vec<Arc<Task>>,
        /// Who added them while the run went on; absent for the plan itself and its source.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Origin>,
    },
    /// The plan was changed while the run went on.
    PlanEdited {
        /// What was changed.
        edit: Edit,
        /// By whom.
        by: Origin,
    },
    /// A change of the plan was refused; the run goes on as before.
    EditRefused {
        /// The change, for people.
        edit: String,
        /// Who wanted it; absent for the source of the plan's tasks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Origin>,
        /// Why not.
        reason: String,
    },
    /// The source of tasks came to its end: the plan is whole.
    TasksClosed {},
    /// An attempt is about to start; written before it does.
    AttemptStarted {
        /// Of which task.
        task: TaskId,
        /// From 1.
        attempt: u32,
        /// The place in the pool, from 0; the row in the timeline. Absent for an attempt that takes no slot.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slot: Option<u32>,
    },
    /// A running attempt was paused: its processes are stopped, its slot is free, its time limit stands still.
    AttemptPaused {
        /// Of which task.
        task: TaskId,
        /// From 1.
        attempt: u32,
    },
    /// A paused attempt runs again.
    AttemptUnpaused {
        /// Of which task.
        task: TaskId,
        /// From 1.
        attempt: u32,
        /// Its place in the pool from now on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        slot: Option<u32>,
    },
    /// An attempt ended.
    AttemptFinished(Box<AttemptFinished>),
    /// A task ended without an attempt of its own: skipped, cancelled, broken before its start.
    TaskEnded {
        /// Which.
        task: TaskId,
        /// How.
        outcome: Outcome,
    },
    /// The pool changed its size.
    PoolResized {
        /// Slots before.
        from: u32,
        /// Slots now.
        to: u32,
        /// Why, for people.
        reason: String,
    },
    /// Starting tasks is held back, or goes on again (`reason` empty), because of the machine or a ceiling.
    AdmissionChanged {
        /// The reading and the bound it passed; empty when tasks start again.
        reason: String,
    },
    /// A task will miss, or missed, its wanted end.
    DeadlineAtRisk {
        /// Which.
        task: TaskId,
        /// Predicted or actual lateness.
        #[serde(rename = "late_us", with = "micros")]
        late: Duration,
        /// Whether it is already past.
        missed: bool,
    },
    /// What the run uses at a moment, each sampling interval while something runs for longer than that.
    Sampled {
        /// Running attempts.
        running: u32,
        /// Ready tasks that wait for a slot.
        queued: u32,
        /// Memory of all process trees of the run.
        memory: Bytes,
        /// CPU rate of all process trees since the last sample, in percent of one CPU.
        cpu: Percent,
        /// Processes in all trees.
        processes: u32,
    },
    /// Something the user should know.
    Noted {
        /// How grave.
        level: NoteLevel,
        /// One line, with the number that triggered it and what to do.
        text: String,
    },
    /// A run inside this run (an apm started by a task) ended.
    ChildRun {
        /// The task it ran in.
        task: TaskId,
        /// Its name.
        run: RunId,
        /// Its exit code.
        exit_code: i32,
    },
    /// The run is being stopped: no new attempts.
    Stopping {
        /// Why.
        stop: Stop,
    },
    /// The last event of a run that ended in an orderly way.
    RunFinished(Box<RunFinished>),
}

/// What a run is, said once at its start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    /// Its name.
    pub run: RunId,
    /// Version of apm.
    pub apm: String,
    /// What was asked for, for people: `qa`, `each`, `plan.yaml`.
    pub title: String,
    /// The command line. Values of the environment never appear here.
    pub argv: Vec<ByteString>,
    /// Where it was given.
    pub cwd: ByteString,
    /// Root of the repository or project; paths in findings are relative to it.
    pub root: ByteString,
    /// The machine.
    pub host: Host,
    /// The pool at the start and its bounds.
    pub pool: PoolShape,
    /// How limits are enforced here, and what could not be.
    pub enforcement: Enforcement,
    /// The run this one was started in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Ceilings of the whole run.
    #[serde(default)]
    pub ceilings: Ceilings,
    /// Named resources and their capacities.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, u64>,
    /// What was asked for, as data: what a resume goes by. Absent in records of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Box<RunRequest>>,
    /// What a reader must understand; one that does not know a name in here must refuse the record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
}

/// What a part of a run goes by; a resume may be given other flags than the run was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// The pool at the start of this part and its bounds.
    pub pool: PoolShape,
    /// How limits are enforced.
    pub enforcement: Enforcement,
    /// Ceilings of the whole run.
    pub ceilings: Ceilings,
    /// Where the tasks come from, as it was read for this part; what a later resume compares with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanSource>,
}

/// The machine, as far as a report needs it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Kernel release.
    pub kernel: String,
    /// CPUs this process may use.
    pub cpus: u32,
    /// Memory of the machine.
    pub memory: Bytes,
}

/// Bounds of the elastic pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolShape {
    /// Slots at the start.
    pub initial: u32,
    /// Slots at most.
    pub max: u32,
    /// Growth while work waits.
    pub scale_factor: f64,
    /// A slot unused for this long goes away.
    #[serde(rename = "idle_timeout_us", with = "micros")]
    pub idle_timeout: Duration,
}

/// How limits are enforced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Enforcement {
    /// Memory.
    pub memory: Mechanism,
    /// CPU rate.
    pub cpu: Mechanism,
    /// Process count.
    pub processes: Mechanism,
    /// Why not a better one, one sentence each; empty where the best is in use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A way to enforce a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// Control group, version 2.
    CgroupV2,
    /// Control group, version 1.
    CgroupV1,
    /// Looking at the process tree at intervals.
    #[default]
    Polling,
}

impl Mechanism {
    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CgroupV2 => "cgroup v2",
            Self::CgroupV1 => "cgroup v1",
            Self::Polling => "polling",
        }
    }
}

/// An apm run in which this one was started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parent {
    /// Its name.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
}

/// Ceilings of a whole run; absent where not set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// CPU, in percent of the whole machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Percent>,
    /// Memory of all process trees together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
}

/// A task whose recorded pass does not count any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Invalidated {
    /// Which.
    pub task: TaskId,
    /// Why, for people.
    pub reason: String,
}

/// The end of an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptFinished {
    /// Of which task.
    pub task: TaskId,
    /// From 1.
    pub attempt: u32,
    /// How the attempt ended.
    pub outcome: Outcome,
    /// What follows.
    pub next: Next,
    /// How the process ended; absent where it never started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// What it used.
    pub usage: Usage,
    /// What it printed.
    #[serde(default)]
    pub stdout: Output,
    /// What it printed to standard error.
    #[serde(default)]
    pub stderr: Output,
    /// Counts of its tests and findings.
    #[serde(default, skip_serializing_if = "Counts::is_empty")]
    pub counts: Counts,
    /// Its tests and findings as JSON ([`crate::model::finding::Results`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Option<Stored>,
    /// Processes it left behind, ended by apm.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub leaked: u32,
    /// Digest of the files its `inputs` matched when it started; empty without inputs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub inputs_digest: String,
    /// How it was confined; absent where that was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confinement: Option<Box<Confinement>>,
}

/// What follows an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// The task is over.
    Done {
        /// How the task ended.
        outcome: Outcome,
    },
    /// Another attempt after a delay.
    Retry {
        /// The delay.
        #[serde(rename = "delay_us", with = "micros")]
        delay: Duration,
    },
    /// Back into the queue without counting against its retries, for instance to free memory.
    Requeue {
        /// Why.
        reason: String,
    },
    /// Another attempt when these tasks have ended, however they end.
    Await {
        /// They.
        on: Vec<TaskId>,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// What an attempt used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// From start to end.
    #[serde(rename = "wall_us", with = "micros")]
    pub wall: Duration,
    /// CPU time in user mode of the process and the children it waited for.
    #[serde(rename = "user_us", with = "micros")]
    pub user: Duration,
    /// CPU time in the kernel.
    #[serde(rename = "system_us", with = "micros")]
    pub system: Duration,
    /// Peak memory: of the whole tree where it was sampled or a control group counted, else of the largest process.
    pub memory_peak: Bytes,
    /// Most processes seen at once; 0 where the attempt was too short to be sampled.
    #[serde(default)]
    pub processes_peak: u32,
}

/// A stream of an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Bytes written by the child.
    pub bytes: u64,
    /// Where what was kept is found; absent where nothing was written or it could not be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<Stored>,
    /// Less was kept than written.
    #[serde(default, skip_serializing_if = "is_false")]
    pub truncated: bool,
}

/// Bytes in the folder of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// File name, relative to the folder.
    pub file: String,
    /// First byte.
    pub offset: u64,
    /// How many.
    pub len: u64,
    /// blake3, hex.
    pub digest: String,
}

/// How grave a note is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteLevel {
    /// Worth knowing.
    Info,
    /// Something is less than it was asked to be.
    Warning,
    /// Something was lost or could not be done.
    Error,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunFinished {
    /// The exit code of apm, before output files are written.
    pub exit_code: i32,
    /// What ended it early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// Figures of the engine itself.
    pub engine: EngineFigures,
}

/// What the engine did, so that its settings can be judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineFigures {
    /// Attempts running at once, at most.
    pub running_max: u32,
    /// Tasks that waited in the ready queue, at most.
    pub queue_max: u32,
    /// Times the source of tasks had to wait for room in the queue.
    pub queue_full: u64,
    /// Capacity of the buffer of results.
    pub buffer_capacity: u32,
    /// Its highest fill.
    pub buffer_max: u32,
    /// Writes to the journal.
    pub journal_writes: u64,
    /// Times the journal was forced to the disk.
    pub journal_syncs: u64,
    /// CPU time of apm itself.
    #[serde(rename = "own_cpu_us", with = "micros")]
    pub own_cpu: Duration,
    /// Peak memory of apm itself.
    pub own_memory_peak: Bytes,
}

impl Event {
    /// The names of all kinds, as they stand in records.
    pub const KINDS: &[&str] = &[
        "run_started",
        "run_resumed",
        "tasks_changed",
        "tasks_added",
        "plan_edited",
        "edit_refused",
        "tasks_closed",
        "attempt_started",
        "attempt_paused",
        "attempt_unpaused",
        "attempt_finished",
        "task_ended",
        "pool_resized",
        "admission_changed",
        "deadline_at_risk",
        "sampled",
        "noted",
        "child_run",
        "stopping",
        "run_finished",
    ];
}

impl Exit {
    /// The outcome this exit means where nothing else is known.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Code(0) => Outcome::Passed,
            Self::Code(code) => Outcome::Failed { cause: Cause::Exit { code } },
            Self::Signal(signal) => Outcome::Failed { cause: Cause::Signal { signal } },
        }
    }
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

fn is_false(value: &bool) -> bool {
    !*value
}
