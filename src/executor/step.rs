//! Code of apm as an attempt: no process is started. It may take a while and reads files, so it has a thread of the pool.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;

use super::{Executor, Job, Owner};
use crate::model::attempt::{AttemptId, AttemptResult, Awaited, End, Signal, TreeUsage};
use crate::model::outcome::{Cause, Outcome};
use crate::model::task::{Run, Step, Task};
use crate::model::unit::whole_micros;

/// Reads a plan file: its tasks, as the run would have them, or what is wrong with it.
pub(crate) type ReadPlan = Box<dyn Fn(&std::path::Path) -> Result<Vec<Task>, String> + Send + Sync>;

/// Runs steps.
pub(crate) struct StepExecutor {
    runtime: Handle,
    /// The folder that those of tasks are relative to.
    cwd: PathBuf,
    read_plan: ReadPlan,
}

impl StepExecutor {
    pub(crate) fn new(runtime: Handle, cwd: PathBuf, read_plan: ReadPlan) -> Self {
        Self { runtime, cwd, read_plan }
    }

    fn make(&self, job: &Job, owner: &dyn Owner) -> End {
        match &job.task.run {
            Run::Step(Step::Plan { file }) => match &job.awaited {
                Some(awaited) => judge(awaited),
                None => {
                    let folder =
                        job.task.cwd.as_ref().map_or_else(|| self.cwd.clone(), |cwd| self.cwd.join(cwd.as_path()));
                    let added =
                        (self.read_plan)(&folder.join(file.as_path())).and_then(|tasks| owner.add(job.id, tasks));
                    added.map_or_else(End::Broken, End::Await)
                }
            },
            Run::Argv(_) | Run::Script { .. } => End::Broken("a bug in apm: a command is no step".to_owned()),
        }
    }
}

/// What the ends of the tasks it has added mean for a step.
fn judge(awaited: &Awaited) -> End {
    End::Judged(match &awaited.first_bad {
        None => Outcome::Passed,
        Some(first) => Outcome::Failed { cause: Cause::Tasks { count: awaited.bad, first: first.clone() } },
    })
}

impl Executor for StepExecutor {
    fn register(&self, _id: AttemptId) {}

    fn start(self: Arc<Self>, jobs: Vec<Job>, owner: &Arc<dyn Owner>) {
        for first in jobs {
            let (executor, owner) = (Arc::clone(&self), Arc::clone(owner));
            self.runtime.spawn_blocking(move || {
                let mut next = Some(first);
                while let Some(job) = next {
                    let started = Instant::now();
                    // A bug in here costs this step and not the run, which would wait for it for ever.
                    let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| executor.make(&job, &*owner)));
                    let bug =
                        || End::Broken("a bug in apm, please report it; standard error has the details".to_owned());
                    let mut result = AttemptResult::new(made.unwrap_or_else(|_| bug()));
                    result.by_itself = true;
                    result.usage.wall = whole_micros(started.elapsed());
                    next = owner.ended(job.id, Box::new(result));
                }
            });
        }
    }

    /// A step is short and ends by itself.
    fn signal(&self, _id: AttemptId, _signal: Signal) {}

    fn sample(&self, _running: &[AttemptId]) -> Vec<(AttemptId, TreeUsage)> {
        Vec::new()
    }

    fn abort(&self) {}
}
