//! A plan before it runs: what each task executes, after what, within which limits, and why it is there.

use std::io::{self, Write};
use std::time::Duration;

use serde::ser::{Error as _, SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use crate::model::sandbox::SandboxMode;
use crate::model::task::{MEMORY, Run, Task, When};
use crate::model::unit::Bytes;
use crate::report::text;
use crate::text::escape::Json;
use crate::text::layout::{Layout, Style};
use crate::text::{number, transcript};

/// For people.
pub(crate) fn text(tasks: &[Task], layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    tasks.iter().try_for_each(|task| one(task, layout, out))?;
    let skipped = tasks.iter().filter(|task| task.skip.is_some()).count();
    total(tasks.len() as u64, skipped, out)
}

/// A task of it.
pub(crate) fn one(task: &Task, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    transcript::print(out, |out| write_one(task, layout, out))
}

fn write_one(task: &Task, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let id = layout.paint(Style::Strong, task.id.as_str());
    match &task.skip {
        Some(skip) => writeln!(out, "{id}: {}", layout.paint(Style::Warn, &text::explain_skip(skip)))?,
        None => writeln!(out, "{id}: {}", transcript::line(&text::command(task)))?,
    }
    details(task, out)
}

/// The last line.
pub(crate) fn total(tasks: u64, skipped: usize, out: &mut dyn Write) -> io::Result<()> {
    let skipped = if skipped > 0 { format!(", {skipped} of them skipped") } else { String::new() };
    writeln!(out, "{}{skipped}; nothing was started", number::count(tasks, "task"))
}

fn details(task: &Task, out: &mut dyn Write) -> io::Result<()> {
    if let Some(title) = &task.title {
        writeln!(out, "    title: {}", transcript::line(title))?;
    }
    if !task.reason.is_empty() {
        writeln!(out, "    why: {}", transcript::line(&task.reason))?;
    }
    if let Some(cwd) = &task.cwd {
        writeln!(out, "    in: {}", transcript::line(&cwd.to_text()))?;
    }
    if let Run::Script { shell, .. } = &task.run {
        writeln!(out, "    by: {}", Run::Argv(shell.clone()).display())?;
    }
    if let [first, others @ ..] = task.needs.as_slice() {
        let when = match task.when {
            When::Success => "passed",
            When::Failure => "ended and one failed",
            When::Always => "ended",
        };
        write!(out, "    after {when}: {first}")?;
        others.iter().try_for_each(|need| write!(out, ", {need}"))?;
        writeln!(out)?;
    }
    if !task.locks.is_empty() {
        writeln!(out, "    never together with others that hold: {}", task.locks.join(", "))?;
    }
    if !task.uses.is_empty() {
        let need = |(name, amount): (&String, &u64)| match name.as_str() {
            MEMORY => format!("{} of {name}", Bytes(*amount)),
            _ => format!("{amount} of {name}"),
        };
        writeln!(out, "    uses: {}", task.uses.iter().map(need).collect::<Vec<_>>().join(", "))?;
    }
    let sandbox = &task.sandbox;
    if sandbox.effective() != SandboxMode::Off {
        let network = if sandbox.network { "network allowed" } else { "network off" };
        let write: Vec<_> = sandbox.write.iter().map(|path| transcript::line(&path.to_text())).collect();
        let write = if write.is_empty() { String::new() } else { format!(", may write {}", write.join(" ")) };
        writeln!(out, "    sandbox: {}, {network}{write}", sandbox.effective().as_str())?;
    }
    let limits = limits(task);
    if !limits.is_empty() {
        writeln!(out, "    limits: {}", limits.join(", "))?;
    }
    Ok(())
}

fn limits(task: &Task) -> Vec<String> {
    let limits = &task.limits;
    let mut parts = Vec::new();
    let is_limit = |time: &Duration| !time.is_zero();
    parts.extend(limits.memory.map(|bytes| format!("memory {bytes}")));
    parts.extend(limits.cpu.map(|percent| format!("CPU {percent} of one")));
    parts.extend(limits.cpu_time.filter(is_limit).map(|time| format!("CPU time {}", number::duration(time))));
    parts.extend(limits.processes.map(|count| number::count(count, "process").replace("processs", "processes")));
    parts.extend(limits.timeout.filter(is_limit).map(|time| format!("time {}", number::duration(time))));
    parts.extend(limits.idle_timeout.filter(is_limit).map(|time| format!("silence {}", number::duration(time))));
    parts.extend(limits.nice.map(|level| format!("nice {level}")));
    parts.extend(task.deadline.map(|time| format!("wanted by {}", number::duration(time))));
    if task.retry.max > 0 {
        parts.push(format!("up to {} retries", task.retry.max));
    }
    if task.priority != 0 {
        parts.push(format!("priority {}", task.priority));
    }
    parts
}

/// For programs: the tasks as the journal keeps them, without the values of their environment. Written task by task: the
/// whole as one value takes ten times the memory of the tasks.
pub(crate) fn json(tasks: &[Task], out: &mut dyn Write) -> io::Result<()> {
    struct Plan<'a>(&'a [Task]);
    struct Tasks<'a>(&'a [Task]);
    impl Serialize for Plan<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(2))?;
            map.serialize_entry("tasks", &Tasks(self.0))?;
            map.serialize_entry("version", &1)?;
            map.end()
        }
    }
    impl Serialize for Tasks<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let shown = |task: &Task| {
                let mut task = task.clone();
                task.env.values_mut().for_each(|value| *value = Default::default());
                // As a value its keys are sorted.
                serde_json::to_value(task)
            };
            let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
            for task in self.0 {
                seq.serialize_element(&shown(task).map_err(S::Error::custom)?)?;
            }
            seq.end()
        }
    }
    serde_json::to_writer_pretty(Json::new(&mut *out), &Plan(tasks))?;
    out.write_all(b"\n")
}
