//! All processes, and what their tasks do: one read of /proc/PID/stat each, more only where a rule needs it. The method of
//! the looks is that of 0x.tools: who is in which state, where in the kernel, how often.

use std::collections::HashMap;
use std::path::Path;

use crate::model::snapshot::Field;
use crate::model::snapshot::process::{Activity, Io, Process, Task};
use crate::probe::{Roots, read_into, say};

/// Page size of x86-64 and of aarch64 as distributions build it.
const PAGE: u64 = 4096;
/// Processes whose further files are read; with more the rest has only /proc/PID/stat.
const DETAILED_MAX: usize = 1_000;
/// Tasks looked at in one look.
const TASKS_MAX: usize = 4_000;

/// Reads all processes.
pub(crate) fn read(roots: &Roots) -> Field<Vec<Process>> {
    sweep(roots, DETAILED_MAX)
}

/// The same, with /proc/PID/stat alone.
pub(crate) fn list(roots: &Roots) -> Field<Vec<Process>> {
    sweep(roots, 0)
}

fn sweep(roots: &Roots, detailed_max: usize) -> Field<Vec<Process>> {
    let entries = match std::fs::read_dir(&roots.proc) {
        Ok(entries) => entries,
        Err(error) => return Field::unavailable(roots.proc.display().to_string(), say(&error)),
    };
    let mut processes = Vec::new();
    let mut text = Vec::with_capacity(1024);
    for entry in entries.flatten() {
        if !is_number(entry.file_name().as_encoded_bytes()) {
            continue;
        }
        let folder = entry.path();
        // One that vanishes meanwhile has ended.
        let Some(mut process) = read_into(&folder.join("stat"), &mut text).ok().and_then(|()| parse(&text)) else {
            continue;
        };
        if processes.len() < detailed_max {
            detail(&folder, &mut process, &mut text);
        }
        processes.push(process);
    }
    Field::Known(processes)
}

fn is_number(name: &[u8]) -> bool {
    name.first().is_some_and(u8::is_ascii_digit)
}

fn detail(folder: &Path, process: &mut Process, text: &mut Vec<u8>) {
    if read_into(&folder.join("schedstat"), text).is_ok() {
        let words = std::str::from_utf8(text).unwrap_or_default();
        process.run_delay_ns = words.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok());
    }
    if read_into(&folder.join("io"), text).is_ok() {
        let words = String::from_utf8_lossy(text);
        let value = |name: &str| words.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        process.io = value("read_bytes:").zip(value("write_bytes:")).map(|(read, written)| Io { read, written });
    }
}

/// /proc/PID/stat. The name is in parentheses and may contain anything, parentheses too.
fn parse(text: &[u8]) -> Option<Process> {
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')').filter(|close| *close > open)?;
    let pid = std::str::from_utf8(&text[..open]).ok()?.trim().parse().ok()?;
    let rest = std::str::from_utf8(&text[close + 1..]).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().take(40).collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Process {
        pid,
        name: String::from_utf8_lossy(&text[open + 1..close]).into_owned(),
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        major_faults: number(9)?,
        cpu_ticks: number(11)?.checked_add(number(12)?)?,
        system_ticks: number(12)?,
        nice: fields.get(16)?.parse().ok()?,
        threads: u32::try_from(number(17)?).ok()?,
        started: number(19)?,
        resident: number(21)?.checked_mul(PAGE)?,
        processor: number(36).and_then(|cpu| u32::try_from(cpu).ok()).unwrap_or_default(),
        realtime: number(37).and_then(|priority| u32::try_from(priority).ok()).unwrap_or_default(),
        ..Process::default()
    })
}

/// Looks at the states of all tasks, as often as it is asked.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    looks: u32,
    is_cut: bool,
    tasks: HashMap<(i32, i32), Task>,
}

impl Looks {
    /// Looks once. Tasks of apm itself are left out: they run because they look.
    pub(crate) fn look(&mut self, roots: &Roots, own: i32, focus: &[i32]) {
        self.looks += 1;
        let mut text = Vec::with_capacity(1024);
        let mut seen = 0;
        let Ok(entries) = std::fs::read_dir(&roots.proc) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if !is_number(name.as_encoded_bytes()) {
                continue;
            }
            let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()).filter(|pid| *pid != own) else {
                continue;
            };
            let Ok(tasks) = std::fs::read_dir(entry.path().join("task")) else { continue };
            for task in tasks.flatten() {
                if seen >= TASKS_MAX {
                    self.is_cut = true;
                    return;
                }
                seen += 1;
                if read_into(&task.path().join("stat"), &mut text).is_ok() {
                    self.take(pid, &task.path(), &text, focus.contains(&pid));
                }
            }
        }
    }

    fn take(&mut self, pid: i32, folder: &Path, text: &[u8], in_focus: bool) {
        let Some(stat) = parse(text) else { return };
        if !(matches!(stat.state, 'R' | 'D') || in_focus) {
            return;
        }
        let task = self.tasks.entry((pid, stat.pid)).or_insert_with(|| Task {
            pid,
            tid: stat.pid,
            name: stat.name,
            ..Task::default()
        });
        if stat.state == 'R' {
            task.running += 1;
            return;
        }
        if stat.state == 'D' {
            task.blocked += 1;
        } else {
            task.sleeping += 1;
        }
        let mut text = Vec::new();
        if read_into(&folder.join("wchan"), &mut text).is_ok() {
            let wchan = String::from_utf8_lossy(&text).trim().to_owned();
            task.wchan = Some(wchan).filter(|wchan| !wchan.is_empty() && wchan != "0");
        }
        if read_into(&folder.join("syscall"), &mut text).is_ok() {
            let text = String::from_utf8_lossy(&text);
            task.syscall = text.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
        }
    }

    /// What was seen, the most active first.
    pub(crate) fn finish(self) -> Activity {
        let mut tasks: Vec<Task> = self.tasks.into_values().collect();
        tasks.sort_by_key(|task| (std::cmp::Reverse(task.running + task.blocked), task.pid, task.tid));
        Activity { looks: self.looks, tasks, is_cut: self.is_cut }
    }
}
