//! A plan before it runs: what each task executes, after what, within which limits, and why it is there.

use std::io::{self, Write};

use crate::model::task::{Run, Task, When};
use crate::report::text;
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
    let id = layout.paint(Style::Strong, task.id.as_str());
    match &task.skip {
        Some(skip) => writeln!(out, "{id}: {}", layout.paint(Style::Warn, &text::explain_skip(skip)))?,
        None => writeln!(out, "{id}: {}", transcript::line(&text::command(task)))?,
    }
    details(task).iter().try_for_each(|detail| writeln!(out, "    {detail}"))
}

/// The last line.
pub(crate) fn total(tasks: u64, skipped: usize, out: &mut dyn Write) -> io::Result<()> {
    let skipped = if skipped > 0 { format!(", {skipped} of them skipped") } else { String::new() };
    writeln!(out, "{}{skipped}; nothing was started", number::count(tasks, "task"))
}

fn details(task: &Task) -> Vec<String> {
    let mut details = Vec::new();
    details.extend(task.title.as_deref().map(|title| format!("title: {}", transcript::line(title))));
    if !task.reason.is_empty() {
        details.push(format!("why: {}", transcript::line(&task.reason)));
    }
    if let Some(cwd) = &task.cwd {
        details.push(format!("in: {}", transcript::line(&cwd.to_text())));
    }
    if let Run::Script { shell, .. } = &task.run {
        details.push(format!("by: {}", Run::Argv(shell.clone()).display()));
    }
    if !task.needs.is_empty() {
        let when = match task.when {
            When::Success => "passed",
            When::Failure => "ended and one failed",
            When::Always => "ended",
        };
        let names: Vec<&str> = task.needs.iter().map(|need| need.as_str()).collect();
        details.push(format!("after {when}: {}", names.join(", ")));
    }
    if !task.locks.is_empty() {
        details.push(format!("never together with others that hold: {}", task.locks.join(", ")));
    }
    let limits = &task.limits;
    let mut parts = Vec::new();
    parts.extend(limits.memory.map(|bytes| format!("memory {bytes}")));
    parts.extend(limits.cpu.map(|percent| format!("CPU {percent} of one")));
    parts.extend(limits.cpu_time.map(|time| format!("CPU time {}", number::duration(time))));
    parts.extend(limits.processes.map(|count| number::count(count, "process").replace("processs", "processes")));
    parts.extend(limits.timeout.map(|time| format!("time {}", number::duration(time))));
    parts.extend(limits.idle_timeout.map(|time| format!("silence {}", number::duration(time))));
    parts.extend(limits.nice.map(|level| format!("nice {level}")));
    parts.extend(task.deadline.map(|time| format!("wanted by {}", number::duration(time))));
    if task.retry.max > 0 {
        parts.push(format!("up to {} retries", task.retry.max));
    }
    if task.priority != 0 {
        parts.push(format!("priority {}", task.priority));
    }
    if !parts.is_empty() {
        details.push(format!("limits: {}", parts.join(", ")));
    }
    details
}

/// For programs: the tasks as the journal keeps them, without the values of their environment.
pub(crate) fn json(tasks: &[Task], out: &mut dyn Write) -> io::Result<()> {
    let mut tasks = tasks.to_vec();
    for task in &mut tasks {
        task.env.values_mut().for_each(|value| *value = Default::default());
    }
    serde_json::to_writer_pretty(&mut *out, &serde_json::json!({"version": 1, "tasks": tasks}))?;
    out.write_all(b"\n")
}
