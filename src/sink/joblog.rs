//! The table of what ran that GNU parallel's `--joblog` writes: tab-separated, one line a job, as jobs end.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::model::event::{AttemptFinished, Envelope, Event, Exit, Next};
use crate::model::id::TaskId;
use crate::report::ReadStored;
use crate::sink::Sink;

/// An open log.
#[derive(Debug)]
pub(crate) struct Joblog {
    name: String,
    file: File,
    commands: HashMap<TaskId, (u64, String)>,
    starts: HashMap<TaskId, f64>,
    next: u64,
    /// One line, so that each job is one write.
    line: Vec<u8>,
}

impl Joblog {
    /// Creates the file and its head line.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut file = File::create(path)?;
        file.write_all(b"Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n")?;
        let name = format!("joblog {}", path.display());
        Ok(Self { name, file, commands: HashMap::new(), starts: HashMap::new(), next: 0, line: Vec::new() })
    }

    fn write(&mut self, finished: &AttemptFinished, start: f64, seq: u64, command: &str) -> io::Result<()> {
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
}

impl Sink for Joblog {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn event(&mut self, envelope: &Envelope, _read: ReadStored<'_>) -> io::Result<()> {
        match &envelope.event {
            Event::TasksAdded { tasks } => {
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
                let start = self.starts.remove(&finished.task).unwrap_or_default();
                if let Some((seq, command)) = self.commands.remove(&finished.task) {
                    return self.write(finished, start, seq, &command);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The log is written anew, whole. A task that runs again gets a second line, as with parallel's `--resume-failed`.
    fn replay(&mut self, envelope: &Envelope, read: ReadStored<'_>) -> io::Result<()> {
        let Event::AttemptFinished(finished) = &envelope.event else { return self.event(envelope, read) };
        let command = self.commands.get(&finished.task).cloned();
        self.event(envelope, read)?;
        if let Some(command) = command {
            self.commands.insert(finished.task.clone(), command);
        }
        Ok(())
    }

    fn finish(&mut self, _read: ReadStored<'_>) -> io::Result<()> {
        self.file.flush()
    }
}
