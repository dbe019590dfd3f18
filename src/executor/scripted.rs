//! Attempts of a script: each takes the time and ends with the exit that a function gives it, as one asynchronous task
//! without a thread or a process. The simulation and the tests of the engine run thousands of them at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::{Executor, Job, Owner};
use crate::model::attempt::{AttemptId, AttemptResult, Signal, TreeUsage};
use crate::model::event::Exit;
use crate::model::task::Task;

/// What an attempt of a task does.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) takes: Duration,
    pub(crate) output: Vec<u8>,
    pub(crate) result: AttemptResult,
}

/// Says what an attempt does, by task and number.
pub(crate) type Scripts = Box<dyn Fn(&Task, u32) -> Script + Send + Sync>;

/// Makes attempts of a script.
pub(crate) struct ScriptedExecutor {
    runtime: Handle,
    scripts: Scripts,
    /// What tells each of them to end.
    running: Mutex<HashMap<AttemptId, Arc<Notify>>>,
}

impl ScriptedExecutor {
    pub(crate) fn new(runtime: Handle, scripts: Scripts) -> Self {
        Self { runtime, scripts, running: Mutex::default() }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<AttemptId, Arc<Notify>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn make(&self, job: &Job, owner: &dyn Owner) -> AttemptResult {
        let script = (self.scripts)(&job.task, job.id.attempt);
        let told = self.running().get(&job.id).cloned().unwrap_or_default();
        tokio::select! {
            () = tokio::time::sleep(script.takes) => {
                if !script.output.is_empty() {
                    owner.output(job.id, false, &script.output);
                }
                script.result
            }
            () = told.notified() => AttemptResult::exited(Exit::Signal(15)),
        }
    }
}

impl Executor for ScriptedExecutor {
    fn register(&self, id: AttemptId) {
        self.running().insert(id, Arc::default());
    }

    fn start(self: Arc<Self>, jobs: Vec<Job>, owner: &Arc<dyn Owner>) {
        for first in jobs {
            let (executor, owner) = (Arc::clone(&self), Arc::clone(owner));
            self.runtime.spawn(async move {
                let mut next = Some(first);
                while let Some(job) = next {
                    let result = executor.make(&job, &*owner).await;
                    executor.running().remove(&job.id);
                    next = owner.ended(job.id, Box::new(result));
                }
            });
        }
    }

    fn signal(&self, id: AttemptId, signal: Signal) {
        if matches!(signal, Signal::Term | Signal::Kill)
            && let Some(told) = self.running().get(&id)
        {
            told.notify_one();
        }
    }

    fn sample(&self, running: &[AttemptId]) -> Vec<(AttemptId, TreeUsage)> {
        let known = self.running();
        running.iter().filter(|id| known.contains_key(id)).map(|id| (*id, TreeUsage::default())).collect()
    }

    fn abort(&self) {
        self.running().clear();
    }
}
