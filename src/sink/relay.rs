//! Passes the output of tasks on to standard output and error, as xargs and GNU parallel do: a whole task at a time when
//! it ends, in the order of the plan, or line by line as it comes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use crate::model::event::{Envelope, Event, Next, Output, Stored};
use crate::model::id::TaskId;
use crate::model::task::Task;
use crate::report::ReadStored;
use crate::sink::Sink;

/// Bytes read at once.
const CHUNK: usize = 1 << 20;
/// Longest line held back for its end when lines are passed on as they come.
const LINE_MAX: usize = 64 << 10;

/// When and how output is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// As tasks end.
    Grouped,
    /// In plan order.
    Kept,
    /// Lines as they come.
    Live,
}

/// Passes output on.
#[derive(Debug)]
pub(crate) struct Relay {
    order: Order,
    /// Put the task's tag and a tab before each line.
    tag: bool,
    /// Of tasks that have not ended, where asked for.
    tags: HashMap<TaskId, Vec<u8>>,
    /// For `Kept`: tasks not yet passed on, in plan order, and the outputs that wait.
    waiting: VecDeque<TaskId>,
    /// Passed on in an earlier part of the run and still in `waiting`: taken out there once, not one by one.
    passed: HashSet<TaskId>,
    ended: HashMap<TaskId, (Output, Output)>,
    /// For `Live`: unfinished lines of each task and stream.
    open: HashMap<(TaskId, bool), Vec<u8>>,
    /// The first output that could not be passed on whole, and how many there were.
    cut: Option<(TaskId, u64)>,
}

impl Relay {
    /// In this order.
    pub(crate) fn new(order: Order, tag: bool) -> Self {
        Self {
            order,
            tag,
            tags: HashMap::new(),
            waiting: VecDeque::new(),
            passed: HashSet::new(),
            ended: HashMap::new(),
            open: HashMap::new(),
            cut: None,
        }
    }

    fn pass(&mut self, task: &TaskId, outputs: &(Output, Output), read: ReadStored<'_>) -> io::Result<()> {
        let label = self.tag_of(task);
        let tag = label.as_deref();
        let mut whole = true;
        for (output, stderr) in [(&outputs.0, false), (&outputs.1, true)] {
            whole &= !output.truncated;
            if let Some(stored) = &output.stored {
                whole &= if stderr {
                    copy(stored, read, tag, &mut io::stderr().lock())?
                } else {
                    copy(stored, read, tag, &mut io::stdout().lock())?
                };
            }
        }
        if !whole {
            self.cut.get_or_insert_with(|| (task.clone(), 0)).1 += 1;
        }
        Ok(())
    }

    fn pass_ended(&mut self, read: ReadStored<'_>) -> io::Result<()> {
        while let Some(outputs) = self.waiting.front().and_then(|task| self.ended.remove(task)) {
            if let Some(task) = self.waiting.pop_front() {
                self.pass(&task, &outputs, read)?;
                self.tags.remove(&task);
            }
        }
        Ok(())
    }

    fn ended(&mut self, task: &TaskId, outputs: (Output, Output), read: ReadStored<'_>) -> io::Result<()> {
        match self.order {
            Order::Grouped => {
                self.pass(task, &outputs, read)?;
                self.tags.remove(task);
                Ok(())
            }
            Order::Kept => {
                self.ended.insert(task.clone(), outputs);
                self.pass_ended(read)
            }
            Order::Live => {
                for stderr in [false, true] {
                    if let Some(mut rest) = self.open.remove(&(task.clone(), stderr)).filter(|rest| !rest.is_empty()) {
                        rest.push(b'\n');
                        self.write_lines(task, stderr, &rest)?;
                    }
                }
                self.tags.remove(task);
                Ok(())
            }
        }
    }

    fn write_lines(&self, task: &TaskId, stderr: bool, lines: &[u8]) -> io::Result<()> {
        let label = self.tag_of(task);
        let tag = label.as_deref();
        let mut out: Box<dyn Write> =
            if stderr { Box::new(io::stderr().lock()) } else { Box::new(io::stdout().lock()) };
        tagged(lines, tag, &mut true, &mut out)?;
        out.flush()
    }

    /// What stands before each line, if anything does.
    fn tag_of(&self, task: &TaskId) -> Option<Vec<u8>> {
        self.tag.then(|| self.tags.get(task).cloned().unwrap_or_else(|| task.as_str().as_bytes().to_vec()))
    }

    fn added(&mut self, tasks: &[Arc<Task>]) {
        if self.order == Order::Kept {
            self.waiting.extend(tasks.iter().map(|task| task.id.clone()));
        }
        if self.tag {
            let tag_of = |task: &Arc<Task>| Some((task.id.clone(), task.tag.as_ref()?.as_os_str().as_bytes().to_vec()));
            self.tags.extend(tasks.iter().filter_map(tag_of));
        }
    }
}

/// Passes an output on. False: a part of it is gone.
fn copy(stored: &Stored, read: ReadStored<'_>, tag: Option<&[u8]>, out: &mut dyn Write) -> io::Result<bool> {
    let mut at_start = true;
    let mut done = 0;
    while done < stored.len {
        let rest = Stored { offset: stored.offset + done, len: stored.len - done, ..stored.clone() };
        let bytes = read(&rest, CHUNK);
        if bytes.is_empty() {
            break;
        }
        done += bytes.len() as u64;
        tagged(&bytes, tag, &mut at_start, out)?;
    }
    if tag.is_some() && !at_start {
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(done == stored.len)
}

fn tagged(bytes: &[u8], tag: Option<&[u8]>, at_start: &mut bool, out: &mut dyn Write) -> io::Result<()> {
    let Some(tag) = tag else { return out.write_all(bytes) };
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if *at_start {
            out.write_all(tag)?;
            out.write_all(b"\t")?;
        }
        out.write_all(line)?;
        *at_start = line.ends_with(b"\n");
    }
    Ok(())
}

impl Sink for Relay {
    fn name(&self) -> String {
        "standard output".to_owned()
    }

    fn event(&mut self, envelope: &Envelope, read: ReadStored<'_>) -> io::Result<()> {
        match &envelope.event {
            Event::TasksAdded { tasks } => {
                self.added(tasks);
                Ok(())
            }
            Event::AttemptFinished(finished) if matches!(finished.next, Next::Done { .. }) => {
                self.ended(&finished.task, (finished.stdout.clone(), finished.stderr.clone()), read)
            }
            Event::TaskEnded { task, .. } => self.ended(task, Default::default(), read),
            Event::RunResumed { .. } => {
                self.replay(envelope, read)?;
                let passed = std::mem::take(&mut self.passed);
                self.waiting.retain(|task| !passed.contains(task));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn replay(&mut self, envelope: &Envelope, _read: ReadStored<'_>) -> io::Result<()> {
        match &envelope.event {
            Event::TasksAdded { tasks } => self.added(tasks),
            // What passed was passed on then; what did not is run again.
            Event::AttemptFinished(finished) if self.order == Order::Kept => {
                if matches!(&finished.next, Next::Done { outcome } if outcome.is_good()) {
                    self.passed.insert(finished.task.clone());
                }
            }
            Event::RunResumed { invalidated, .. } => {
                for again in invalidated {
                    self.passed.remove(&again.task);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn live(&mut self, task: &TaskId, stderr: bool, bytes: &[u8]) -> io::Result<()> {
        if self.order != Order::Live {
            return Ok(());
        }
        let mut held = self.open.remove(&(task.clone(), stderr)).unwrap_or_default();
        held.extend_from_slice(bytes);
        let whole = held.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let whole = if whole == 0 && held.len() > LINE_MAX { held.len() } else { whole };
        self.write_lines(task, stderr, &held[..whole])?;
        held.drain(..whole);
        self.open.insert((task.clone(), stderr), held);
        Ok(())
    }

    fn finish(&mut self, read: ReadStored<'_>) -> io::Result<()> {
        self.pass_ended(read)?;
        match &self.cut {
            None => Ok(()),
            Some((first, 1)) => Err(io::Error::other(format!("the output of `{first}` is not whole"))),
            Some((first, count)) => Err(io::Error::other(format!(
                "the outputs of {count} tasks are not whole, the first that of `{first}`"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use jiff::Timestamp;

    use super::{Order, Relay};
    use crate::model::event::{AttemptFinished, Envelope, Event, Exit, Invalidated, Next, Output, Usage, VERSION};
    use crate::model::finding::Counts;
    use crate::model::id::TaskId;
    use crate::model::outcome::Outcome;
    use crate::model::task::{Run, Task};
    use crate::sink::Sink;

    /// Looking through what waits for each recorded pass took the square of their number.
    #[test]
    fn what_was_passed_on_before_does_not_wait_in_a_resumed_run() {
        const TASKS: usize = 50_000;
        let ids: Vec<TaskId> = (0..TASKS).map(|n| TaskId::new(&format!("{n}: v")).expect("an id")).collect();
        let wrap = |event| Envelope { v: VERSION, seq: 0, at: Timestamp::UNIX_EPOCH, t: Duration::ZERO, event };
        let passed = |task: &TaskId| {
            wrap(Event::AttemptFinished(Box::new(AttemptFinished {
                task: task.clone(),
                attempt: 1,
                outcome: Outcome::Passed,
                next: Next::Done { outcome: Outcome::Passed },
                exit: Some(Exit::Code(0)),
                usage: Usage::default(),
                stdout: Output::default(),
                stderr: Output::default(),
                counts: Counts::default(),
                results: None,
                leaked: 0,
                inputs_digest: String::new(),
            })))
        };
        let mut relay = Relay::new(Order::Kept, false);
        let nothing = |_: &_, _| Vec::new();
        let tasks = ids.iter().map(|id| Arc::new(Task::new(id.clone(), Run::Argv(Vec::new())))).collect();
        relay.replay(&wrap(Event::TasksAdded { tasks }), &nothing).expect("taken");
        for id in ids.iter().rev().skip(1) {
            relay.replay(&passed(id), &nothing).expect("taken");
        }
        let again = Invalidated { task: ids[7].clone(), reason: String::new() };
        let resumed = Event::RunResumed { apm: String::new(), invalidated: vec![again], terms: None };
        relay.event(&wrap(resumed), &nothing).expect("taken");
        assert_eq!(relay.waiting, [ids[7].clone(), ids[TASKS - 1].clone()]);
    }
}
