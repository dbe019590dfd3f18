//! Process trees on this machine. `attempt` is the life of one attempt, `process` runs one command of it, `handle` is what
//! others can do with it meanwhile. A thread whose attempt has ended makes the next.

pub(crate) mod attempt;
mod handle;
pub(crate) mod process;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;

use crate::executor::local::attempt::{Attempt, AttemptContext};
use crate::executor::local::handle::AttemptHandle;
use crate::executor::{Executor, Job, Owner};
use crate::model::attempt::{AttemptId, Signal, TreeUsage};
use crate::model::unit::Bytes;
use crate::probe::{self, Roots};
use crate::sys::cgroup::Group;
use crate::sys::process as processes;

/// Makes attempts as process trees.
pub(crate) struct LocalExecutor {
    context: AttemptContext,
    runtime: Handle,
    roots: Roots,
    handles: Mutex<HashMap<AttemptId, Arc<AttemptHandle>>>,
}

impl LocalExecutor {
    pub(crate) fn new(context: AttemptContext, runtime: Handle, roots: Roots) -> Self {
        Self { context, runtime, roots, handles: Mutex::default() }
    }

    /// Removes what it has made for the whole run: control groups.
    pub(crate) fn remove_groups(&self) {
        self.context.commands.cgroups.remove();
    }

    fn handles(&self) -> MutexGuard<'_, HashMap<AttemptId, Arc<AttemptHandle>>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an attempt, and then others while there are some to make.
    fn work(&self, first: Job, owner: &dyn Owner) {
        let mut next = Some(first);
        while let Some(job) = next {
            let handle = self.handles().get(&job.id).cloned().unwrap_or_else(|| Arc::new(self.handle(job.id)));
            let result = attempt::run(&Attempt { job: &job, context: &self.context, handle: &handle, owner });
            self.handles().remove(&job.id);
            next = owner.ended(job.id, Box::new(result));
        }
    }

    fn handle(&self, id: AttemptId) -> AttemptHandle {
        AttemptHandle::new(format!("{}.{}.{}", self.context.run, id.ix, id.attempt))
    }
}

impl Executor for LocalExecutor {
    fn register(&self, id: AttemptId) {
        self.handles().insert(id, Arc::new(self.handle(id)));
    }

    fn start(self: Arc<Self>, jobs: Vec<Job>, owner: &Arc<dyn Owner>) {
        for job in jobs {
            let (executor, owner) = (Arc::clone(&self), Arc::clone(owner));
            self.runtime.spawn_blocking(move || executor.work(job, &*owner));
        }
    }

    fn signal(&self, id: AttemptId, signal: Signal) {
        let Some(handle) = self.handles().get(&id).cloned() else { return };
        match signal {
            Signal::Term => handle.terminate(),
            Signal::Pause => handle.pause(),
            Signal::Resume => handle.resume(),
            Signal::Kill => {
                handle.kill_group();
                // Finding every other process of its tree takes longer: not while the state of the run is locked.
                self.runtime.spawn_blocking(move || handle.kill());
            }
        }
    }

    /// By control groups where attempts have them, else by one look at all processes.
    fn sample(&self, running: &[AttemptId]) -> Vec<(AttemptId, TreeUsage)> {
        for orphan in processes::orphans() {
            processes::reap(orphan);
        }
        let handles: Vec<(AttemptId, Arc<AttemptHandle>)> = {
            let handles = self.handles();
            running.iter().filter_map(|id| Some((*id, Arc::clone(handles.get(id)?)))).collect()
        };
        if handles.is_empty() {
            return Vec::new();
        }
        let table = probe::process::sweep(&self.roots);
        let look = |(id, handle): &(AttemptId, Arc<AttemptHandle>)| {
            handle.with_running(|pid, group| {
                let sum = table.tree(pid);
                let memory = group.and_then(Group::memory_now).unwrap_or(sum.memory);
                let silent = handle.silent_for();
                let (cpu_time, processes, threads) = (sum.cpu_time, sum.processes, sum.threads);
                (*id, TreeUsage { memory, cpu_time, processes, threads, silent })
            })
        };
        handles.iter().filter_map(look).collect()
    }

    fn set_memory_ceiling(&self, ceiling: Bytes) {
        self.context.commands.cgroups.set_memory(ceiling);
    }

    fn abort(&self) {
        let handles: Vec<Arc<AttemptHandle>> = self.handles().values().cloned().collect();
        handles.iter().for_each(|handle| handle.kill());
    }
}
