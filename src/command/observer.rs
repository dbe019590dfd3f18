//! What the engine tells goes to the journal and the sinks; and the last events of a run, from how it went.

use std::sync::Arc;

use crate::command::failure::Exit;
use crate::command::nested;
use crate::command::place::Folder;
use crate::engine::dispatch::{EndFacts, Observer};
use crate::model::event::{EngineFigures, Envelope, Event, RunFinished};
use crate::model::id::TaskId;
use crate::model::task::Task;
use crate::model::unit::Bytes;
use crate::sink::fanout::Fanout;
use crate::sys::process;

/// The observer of the engine: the journal and the sinks, and the folder of the run.
pub(crate) struct RunObserver {
    pub(crate) fanout: Fanout,
    pub(crate) folder: Folder,
    /// Skipped checks and warnings count.
    pub(crate) strict: bool,
    /// A task that passed only after a failure fails the run.
    pub(crate) fails_on_flaky: bool,
    pub(crate) may_be_empty: bool,
    /// Capacity of the buffer for live output.
    pub(crate) buffer_capacity: u32,
}

impl Observer for RunObserver {
    fn joining(&mut self, tasks: &[Arc<Task>]) -> Result<(), String> {
        let Some(run) = &self.folder.run else { return Ok(()) };
        let kept = run.keep_environments(tasks.iter().map(|task| &**task));
        kept.map_err(|error| format!("environments in `{}`: {error}", run.path.display()))
    }

    fn events(&mut self, batch: &[Envelope]) -> Result<(), String> {
        let place = |error| format!("the journal in `{}`: {error}", self.folder.path().display());
        self.fanout.events(batch).map_err(place)
    }

    fn live(&mut self, task: &TaskId, stderr: bool, bytes: &[u8]) {
        self.fanout.live(task, stderr, bytes);
    }

    fn tick(&mut self) {
        self.fanout.tick();
    }

    fn is_closed(&self) -> bool {
        self.fanout.is_closed()
    }

    fn is_behind(&self) -> bool {
        self.fanout.is_behind()
    }

    fn last(&mut self, end: &EndFacts) -> Vec<Event> {
        last_events(self, end)
    }
}

impl RunObserver {
    /// The exit code that the ends of the tasks mean.
    pub(crate) fn exit_code(&self) -> i32 {
        let report = self.fanout.report();
        let code = report.exit_code_of_tasks(self.strict);
        if matches!(code, 0 | 3 | 4) && self.fails_on_flaky && report.totals().flaky > 0 {
            return Exit::Failures.code();
        }
        if code == 0 && report.totals().tasks == 0 && !self.may_be_empty { Exit::Nothing.code() } else { code }
    }
}

/// The last events of a run: the runs inside it, and how it went.
fn last_events(observer: &mut RunObserver, end: &EndFacts) -> Vec<Event> {
    let mut last = nested::children(&observer.folder.path());
    let exit_code = observer.exit_code();
    let (own_cpu, own_memory_peak) = process::own_usage();
    let (journal_writes, journal_syncs) = observer.fanout.journal_figures();
    let engine = EngineFigures {
        running_max: end.figures.running_max,
        queue_max: end.figures.queue_max,
        queue_full: end.queue_full,
        buffer_capacity: observer.buffer_capacity,
        buffer_max: end.buffer_max as u32,
        journal_writes,
        journal_syncs,
        own_cpu,
        own_memory_peak: Bytes(own_memory_peak),
    };
    last.push(Event::RunFinished(Box::new(RunFinished { exit_code, stop: end.stop.clone(), engine })));
    last
}
