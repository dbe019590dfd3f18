//! Where attempts are made. An [`Executor`] makes them, the run that owns it ([`Owner`]) is told of their output and their
//! end. `local` makes process trees on this machine, `step` runs code of apm, `scripted` makes attempts of a script, for
//! tests and the simulation. `capture` and `store` keep output, `files` looks at the files a task reads and makes.
//!
//! A new kind of attempt is a new executor here, a variant of `model::task::Run`, and a line in `Executors::of`.

pub(crate) mod capture;
pub(crate) mod files;
pub(crate) mod local;
pub(crate) mod runtimes;
pub(crate) mod sandbox;
pub(crate) mod scripted;
pub(crate) mod step;
pub(crate) mod store;

use std::sync::Arc;

use crate::model::attempt::{AttemptId, AttemptResult, Awaited, Signal, TreeUsage};
use crate::model::id::TaskId;
use crate::model::task::{Run, Task};
use crate::model::unit::Bytes;

/// One attempt to be made.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: AttemptId,
    pub(crate) slot: Option<u32>,
    pub(crate) task: Arc<Task>,
    /// How the tasks ended that an attempt before it has waited for.
    pub(crate) awaited: Option<Awaited>,
}

/// Makes attempts.
pub(crate) trait Executor: Send + Sync {
    /// An attempt will be started: from now on it can be signalled. Called with the state of the run locked; must not block.
    fn register(&self, id: AttemptId);

    /// Makes attempts, without waiting for them. Each ends in [`Owner::ended`], once, whatever happens.
    fn start(self: Arc<Self>, jobs: Vec<Job>, owner: &Arc<dyn Owner>);

    /// Passes a signal on. Called with the state of the run locked; must not block.
    fn signal(&self, id: AttemptId, signal: Signal);

    /// Looks at attempts of this executor; those it knows nothing of are left out. May take a while.
    fn sample(&self, running: &[AttemptId]) -> Vec<(AttemptId, TreeUsage)>;

    /// The memory ceiling of the run is another now.
    fn set_memory_ceiling(&self, _ceiling: Bytes) {}

    /// Ends everything at once: the run itself has failed.
    fn abort(&self);
}

/// The run that owns attempts.
pub(crate) trait Owner: Send + Sync {
    /// Takes output as it comes. May block, where somebody reads it slowly.
    fn output(&self, id: AttemptId, stderr: bool, bytes: &[u8]);

    /// A step has read tasks: they join the run. Returns all that it is to wait for.
    fn add(&self, id: AttemptId, tasks: Vec<Task>) -> Result<Vec<TaskId>, String>;

    /// An attempt has ended. The answer is another of the same executor, for the caller to make: that costs no thread and no
    /// switch between threads.
    fn ended(&self, id: AttemptId, result: Box<AttemptResult>) -> Option<Job>;
}

/// The executors of a run.
#[derive(Clone)]
pub(crate) struct Executors {
    pub(crate) processes: Arc<dyn Executor>,
    pub(crate) steps: Arc<dyn Executor>,
}

impl Executors {
    /// The one for a task.
    pub(crate) fn of(&self, task: &Task) -> &Arc<dyn Executor> {
        match &task.run {
            Run::Argv(_) | Run::Script { .. } => &self.processes,
            Run::Step(_) => &self.steps,
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> [&Arc<dyn Executor>; 2] {
        [&self.processes, &self.steps]
    }
}

impl std::fmt::Debug for Executors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Executors")
    }
}
