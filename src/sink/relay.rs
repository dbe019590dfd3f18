//! Passes the output of tasks on to standard output and error, as xargs and GNU parallel do: a whole task at a time when
//! it ends, in the order of the plan, or line by line as it comes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use crate::model::event::{Envelope, Event, Next, Output, Stored};
use crate::model::id::TaskId;
use crate::model::request::RelayOrder;
use crate::model::task::Task;
use crate::report::ReadStored;
use crate::sink::Sink;

/// Bytes read at once.
const CHUNK: usize = 1 << 20;
/// Longest line held back for its end when lines are passed on as they come.
const LINE_MAX: usize = 64 << 10;

/// Passes output on.
#[derive(Debug)]
pub(crate) struct Relay {
    order: RelayOrder,
    /// Put the task's tag and a tab before each line.
    tag: bool,
    /// Of tasks that have not ended, where asked for.
    tags: HashMap<TaskId, Vec<u8>>,
    /// For `Kept`: tasks not yet passed on, in plan order, and the outputs that wait.
    waiting: VecDeque<TaskId>,
    /// Passed on in an earlier part of the run and still in `waiting` or `tags`: taken out there once, not one by one.
    passed: HashSet<TaskId>,
    ended: HashMap<TaskId, (Output, Output)>,
    /// For `Live`: unfinished lines of each task and stream.
    open: HashMap<(TaskId, bool), Vec<u8>>,
    /// The first output that could not be passed on whole, and how many there were.
    cut: Option<(TaskId, u64)>,
}

impl Relay {
    /// In this order.
    pub(crate) fn new(order: RelayOrder, tag: bool) -> Self {
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
            RelayOrder::Grouped => {
                self.pass(task, &outputs, read)?;
                self.tags.remove(task);
                Ok(())
            }
            RelayOrder::Kept => {
                self.ended.insert(task.clone(), outputs);
                self.pass_ended(read)
            }
            RelayOrder::Live => {
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
        if self.order == RelayOrder::Kept {
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
            Event::TasksAdded { tasks, .. } => {
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
                self.tags.retain(|task, _| !passed.contains(task));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn replay(&mut self, envelope: &Envelope, _read: ReadStored<'_>) -> io::Result<()> {
        match &envelope.event {
            Event::TasksAdded { tasks, .. } => self.added(tasks),
            // What passed was passed on then; what did not is run again.
            Event::AttemptFinished(finished) if self.order == RelayOrder::Kept || self.tag => {
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
        if self.order != RelayOrder::Live {
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

    use super::{Relay, RelayOrder};
    use crate::model::event::{Envelope, Event, Invalidated, VERSION};
    use crate::model::id::TaskId;
    use crate::model::outcome::Outcome;
    use crate::model::task::{Run, Task};
    use crate::sink::Sink;
    use crate::sink::sample::{failed, finished};

    #[test]
    fn nothing_is_kept_of_tasks_that_have_ended() {
        const TASKS: u64 = 200_000;
        let wrap = |event| Envelope { v: VERSION, seq: 0, at: Timestamp::UNIX_EPOCH, t: Duration::ZERO, event };
        let nothing = |_: &_, _| Vec::new();
        for order in [RelayOrder::Grouped, RelayOrder::Kept, RelayOrder::Live] {
            let mut relay = Relay::new(order, true);
            for n in 0..TASKS {
                let id = TaskId::new(&n.to_string()).expect("an id");
                let mut task = Task::new(id.clone(), Run::Argv(Vec::new()));
                task.tag = Some("value".into());
                let outcome = if n % 2 == 0 { Outcome::Passed } else { failed() };
                let tasks = vec![Arc::new(task)];
                relay.event(&wrap(Event::TasksAdded { tasks, by: None }), &nothing).expect("taken");
                relay.event(&wrap(finished(&id, outcome)), &nothing).expect("taken");
            }
            let kept = [relay.tags.len(), relay.waiting.len(), relay.passed.len(), relay.ended.len(), relay.open.len()];
            assert_eq!(kept, [0; 5], "{order:?}");
        }
    }

    /// Looking through what waits for each recorded pass took the square of their number.
    #[test]
    fn what_was_passed_on_before_does_not_wait_in_a_resumed_run() {
        const TASKS: usize = 50_000;
        let ids: Vec<TaskId> = (0..TASKS).map(|n| TaskId::new(&format!("{n}: v")).expect("an id")).collect();
        let wrap = |event| Envelope { v: VERSION, seq: 0, at: Timestamp::UNIX_EPOCH, t: Duration::ZERO, event };
        let passed = |task: &TaskId| wrap(finished(task, Outcome::Passed));
        let mut relay = Relay::new(RelayOrder::Kept, false);
        let nothing = |_: &_, _| Vec::new();
        let tasks = ids.iter().map(|id| Arc::new(Task::new(id.clone(), Run::Argv(Vec::new())))).collect();
        relay.replay(&wrap(Event::TasksAdded { tasks, by: None }), &nothing).expect("taken");
        for id in ids.iter().rev().skip(1) {
            relay.replay(&passed(id), &nothing).expect("taken");
        }
        let again = Invalidated { task: ids[7].clone(), reason: String::new() };
        let resumed = Event::RunResumed { apm: String::new(), invalidated: vec![again], terms: None };
        relay.event(&wrap(resumed), &nothing).expect("taken");
        assert_eq!(relay.waiting, [ids[7].clone(), ids[TASKS - 1].clone()]);
    }
}
