//! The table of what ran that GNU parallel's `--joblog` writes: tab-separated, one line a job, as jobs end.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::model::event::{AttemptFinished, Envelope, Event, Exit, Next};
use crate::model::id::TaskId;
use crate::report::ReadStored;
use crate::sink::Sink;
use crate::sys::output::{self, Before};

/// An open log.
#[derive(Debug)]
pub(crate) struct Joblog {
    name: String,
    file: File,
    /// Numbers and commands of tasks that have not ended.
    commands: HashMap<TaskId, (u64, String)>,
    /// When what runs was started.
    starts: HashMap<TaskId, f64>,
    /// Passed in an earlier part of the run and still in `commands`: the resume says which of them run again.
    passed: HashSet<TaskId>,
    next: u64,
    /// One line, so that each job is one write.
    line: Vec<u8>,
}

impl Joblog {
    /// Creates the file and its head line.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut file = output::open(path, Before::Nothing)?;
        file.write_all(b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n")?;
        let name = format!("joblog {}", path.display());
        let (commands, starts) = (HashMap::new(), HashMap::new());
        Ok(Self { name, file, commands, starts, passed: HashSet::new(), next: 0, line: Vec::new() })
    }

    fn write(&mut self, finished: &AttemptFinished) -> io::Result<()> {
        let Some((seq, command)) = self.commands.get(&finished.task) else { return Ok(()) };
        let start = self.starts.get(&finished.task).copied().unwrap_or_default();
        let (code, signal) = match finished.exit {
            Some(Exit::Code(code)) => (code, 0),
            Some(Exit::Signal(signal)) => (0, signal),
            // As a shell says of a command it cannot find.
            None => (127, 0),
        };
        let (runtime, bytes) = (finished.usage.wall.as_secs_f64(), finished.stdout.bytes);
        self.line.clear();
        writeln!(self.line, "{seq}\t:\t{start:.3}\t{runtime:>10.3}\t0\t{bytes}\t{code}\t{signal}\t{command}")?;
        self.file.write_all(&self.line)
    }

    fn forget(&mut self, task: &TaskId) {
        self.commands.remove(task);
        self.starts.remove(task);
    }
}

impl Sink for Joblog {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn event(&mut self, envelope: &Envelope, read: ReadStored<'_>) -> io::Result<()> {
        match &envelope.event {
            Event::TasksAdded { tasks, .. } => {
                for task in tasks {
                    self.next += 1;
                    let command = task.run.display().replace(['\t', '\n', '\r'], " ");
                    self.commands.insert(task.id.clone(), (self.next, command));
                }
            }
            Event::AttemptStarted { task, .. } => {
                self.starts.insert(task.clone(), envelope.at.as_microsecond() as f64 / 1e6);
            }
            Event::AttemptFinished(finished) if matches!(finished.next, Next::Done { .. }) => {
                self.write(finished)?;
                self.forget(&finished.task);
            }
            Event::TaskEnded { task, .. } => self.forget(task),
            Event::RunResumed { .. } => {
                self.replay(envelope, read)?;
                for task in std::mem::take(&mut self.passed) {
                    self.forget(&task);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The log is written anew, whole. A task that runs again gets a second line, as with parallel's `--resume-failed`.
    fn replay(&mut self, envelope: &Envelope, read: ReadStored<'_>) -> io::Result<()> {
        match &envelope.event {
            Event::AttemptFinished(finished) => {
                let Next::Done { outcome } = &finished.next else { return Ok(()) };
                if outcome.is_good() {
                    self.passed.insert(finished.task.clone());
                }
                self.write(finished)
            }
            // It runs again.
            Event::TaskEnded { .. } => Ok(()),
            Event::RunResumed { invalidated, .. } => {
                self.starts.clear();
                for again in invalidated {
                    self.passed.remove(&again.task);
                }
                Ok(())
            }
            _ => self.event(envelope, read),
        }
    }

    fn finish(&mut self, _read: ReadStored<'_>) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use jiff::Timestamp;

    use super::Joblog;
    use crate::model::event::{Envelope, Event, Invalidated, VERSION};
    use crate::model::id::TaskId;
    use crate::model::outcome::Outcome;
    use crate::model::task::{Run, Task};
    use crate::sink::Sink;
    use crate::sink::sample::{failed, finished};

    fn wrap(event: Event) -> Envelope {
        Envelope { v: VERSION, seq: 0, at: Timestamp::UNIX_EPOCH, t: Duration::ZERO, event }
    }

    fn events(id: &TaskId, outcome: Outcome) -> [Envelope; 3] {
        let tasks = vec![Arc::new(Task::new(id.clone(), Run::Argv(vec!["true".into()])))];
        [
            wrap(Event::TasksAdded { tasks, by: None }),
            wrap(Event::AttemptStarted { task: id.clone(), attempt: 1, slot: Some(0) }),
            wrap(finished(id, outcome)),
        ]
    }

    #[test]
    fn nothing_is_kept_of_tasks_that_have_ended() {
        const TASKS: usize = 200_000;
        let path = std::env::temp_dir().join(format!("apm-joblog-test-{}", std::process::id()));
        let mut joblog = Joblog::create(&path).expect("a file");
        let nothing = |_: &_, _| Vec::new();
        let ids: Vec<TaskId> = (0..TASKS).map(|n| TaskId::new(&format!("{n}")).expect("an id")).collect();
        for (n, id) in ids.iter().enumerate() {
            let outcome = if n % 2 == 0 { Outcome::Passed } else { failed() };
            events(id, outcome).iter().for_each(|event| joblog.event(event, &nothing).expect("taken"));
        }
        let skipped = TaskId::new("skipped").expect("an id");
        joblog.event(&events(&skipped, Outcome::Passed)[0], &nothing).expect("taken");
        let outcome = Outcome::Cancelled { by: crate::model::outcome::Stop::Failure };
        joblog.event(&wrap(Event::TaskEnded { task: skipped, outcome }), &nothing).expect("taken");
        assert_eq!((joblog.commands.len(), joblog.starts.len()), (0, 0));
        let text = std::fs::read_to_string(&path).expect("a log");
        assert_eq!(text.lines().count(), 1 + TASKS);

        // After a resume: what failed, and what does not count any more.
        let mut joblog = Joblog::create(&path).expect("a file");
        for (n, id) in ids[..10].iter().enumerate() {
            let outcome = if n == 3 { failed() } else { Outcome::Passed };
            events(id, outcome).iter().for_each(|event| joblog.replay(event, &nothing).expect("taken"));
        }
        let invalidated = vec![Invalidated { task: ids[5].clone(), reason: String::new() }];
        let resumed = Event::RunResumed { apm: String::new(), invalidated, terms: None };
        joblog.event(&wrap(resumed), &nothing).expect("taken");
        let mut open: Vec<u64> = joblog.commands.values().map(|(seq, _)| *seq).collect();
        open.sort_unstable();
        assert_eq!((open, joblog.starts.len(), joblog.passed.len()), (vec![4, 6], 0, 0));
        std::fs::remove_file(path).expect("removed");
    }
}
