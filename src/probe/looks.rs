//! Looks at the tasks between two snapshots. The method is that of 0x.tools: who is in which state, where in the kernel,
//! how often. Short-lived processes are seen only here.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Instant;

use crate::model::snapshot::process::{Activity, Ancestor, Sizes, Task};
use crate::probe::tasks::{is_number, parse};
use crate::probe::{PAGE, Roots, cpu, read_dir, read_into, read_text};

/// Tasks looked at in one look.
const TASKS_MAX: usize = 4_000;
/// Tasks whose allowed CPUs are read.
const ALLOWED_MAX: usize = 32;
/// Processes whose memory is followed over the window, the largest at each look.
const SIZED_MAX: usize = 50;
/// Generations of ancestors that are followed.
const GENERATIONS_MAX: usize = 32;

/// Looks at the states of all tasks, as often as it is asked.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    looks: u32,
    is_cut: bool,
    tasks: HashMap<(i32, i32), Task>,
    /// Of blocked tasks: the look in which they were seen, and how often they had run until then.
    runs: HashMap<(i32, i32), (u32, u64)>,
    /// Parent and name of every process seen.
    processes: HashMap<i32, (i32, String)>,
    runnable: Vec<u32>,
    allowed: usize,
    first: Option<Instant>,
    at_us: Vec<u64>,
    /// Resident bytes, process and start of those seen in this look.
    resident: Vec<(u64, i32, u64)>,
    sizes: BTreeMap<(i32, u64), Sizes>,
}

impl Looks {
    /// Counts the tasks that run or wait for a CPU: one short file, so it can be asked often. apm itself runs while it
    /// asks.
    pub(crate) fn count(&mut self, roots: &Roots) {
        let mut text = Vec::with_capacity(64);
        if read_into(&roots.proc.join("loadavg"), &mut text).is_ok()
            && let Some((running, _)) = std::str::from_utf8(&text).ok().and_then(cpu::tasks)
        {
            self.runnable.push(u32::try_from(running.saturating_sub(1)).unwrap_or(u32::MAX));
        }
    }

    /// Looks once. Tasks of apm itself are left out: they run because they look.
    pub(crate) fn look(&mut self, roots: &Roots, own: i32, focus: &[i32]) {
        self.count(roots);
        self.looks += 1;
        let first = *self.first.get_or_insert_with(Instant::now);
        self.at_us.push(first.elapsed().as_micros() as u64);
        self.sweep(roots, own, focus);
        self.measure(roots);
    }

    /// Memory of the largest. That of files and of shared memory is no growth of a process.
    fn measure(&mut self, roots: &Roots) {
        let mut largest = std::mem::take(&mut self.resident);
        largest.sort_unstable_by_key(|(resident, ..)| std::cmp::Reverse(*resident));
        let mut text = Vec::new();
        for (_, pid, started) in largest.into_iter().take(SIZED_MAX) {
            if read_into(&roots.proc.join(pid.to_string()).join("statm"), &mut text).is_err() {
                continue;
            }
            let Some(bytes) = anonymous(&text) else { continue };
            let sizes = self.sizes.entry((pid, started));
            sizes.or_insert_with(|| Sizes { pid, started, seen: Vec::new() }).seen.push((self.looks - 1, bytes));
        }
    }

    fn sweep(&mut self, roots: &Roots, own: i32, focus: &[i32]) {
        let mut text = Vec::with_capacity(1024);
        let mut seen = 0;
        let Ok(entries) = read_dir(&roots.proc) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if !is_number(name.as_encoded_bytes()) {
                continue;
            }
            let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()).filter(|pid| *pid != own) else {
                continue;
            };
            if seen >= TASKS_MAX {
                self.is_cut = true;
                return;
            }
            let folder = entry.path();
            // Most have one thread, whose files are those of the process: one file instead of a folder and a file.
            if read_into(&folder.join("stat"), &mut text).is_ok() && parse(&text).is_some_and(|it| it.threads == 1) {
                seen += 1;
                self.take(roots, pid, &folder, &text, focus.contains(&pid));
                continue;
            }
            let Ok(tasks) = read_dir(folder.join("task")) else { continue };
            for task in tasks.flatten() {
                if seen >= TASKS_MAX {
                    self.is_cut = true;
                    return;
                }
                seen += 1;
                if read_into(&task.path().join("stat"), &mut text).is_ok() {
                    self.take(roots, pid, &task.path(), &text, focus.contains(&pid));
                }
            }
        }
    }

    fn take(&mut self, roots: &Roots, pid: i32, folder: &Path, text: &[u8], in_focus: bool) {
        let Some(stat) = parse(text) else { return };
        if stat.pid == pid && self.processes.get(&pid).is_none_or(|(_, name)| *name != stat.name) {
            self.processes.insert(pid, (stat.parent, stat.name.clone()));
        }
        if stat.pid == pid {
            self.resident.push((stat.resident, pid, stat.started));
        }
        if !(matches!(stat.state, 'R' | 'D') || in_focus) {
            return;
        }
        let task = self.tasks.entry((pid, stat.pid)).or_insert_with(|| Task {
            pid,
            tid: stat.pid,
            name: stat.name,
            parent: stat.parent,
            ..Task::default()
        });
        (task.processor, task.realtime, task.nice) = (stat.processor, stat.realtime, stat.nice);
        if stat.state == 'R' {
            task.running += 1;
            if task.running == 1 && self.allowed < ALLOWED_MAX {
                self.allowed += 1;
                task.allowed = allowed(folder);
            }
            return;
        }
        let mut text = Vec::new();
        if stat.state != 'D' {
            task.sleeping += 1;
        } else {
            task.blocked += 1;
            if let Some(runs) = runs(folder, &mut text) {
                let before = self.runs.insert((pid, stat.pid), (self.looks, runs));
                if before == Some((self.looks - 1, runs)) {
                    task.stuck += 1;
                    if task.stuck == 1 {
                        task.is_frozen = is_frozen(roots, folder);
                    }
                }
            }
        }
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
        let mut ancestors = BTreeMap::new();
        for task in self.tasks.values() {
            let mut pid = task.pid;
            for _ in 0..GENERATIONS_MAX {
                let Some((parent, name)) = self.processes.get(&pid) else { break };
                let is_known = ancestors.insert(pid, Ancestor { pid, parent: *parent, name: name.clone() }).is_some();
                if is_known || *parent <= 1 {
                    break;
                }
                pid = *parent;
            }
        }
        let mut tasks: Vec<Task> = self.tasks.into_values().collect();
        tasks.sort_by_key(|task| (std::cmp::Reverse(task.running + task.blocked), task.pid, task.tid));
        Activity {
            looks: self.looks,
            tasks,
            is_cut: self.is_cut,
            at_us: self.at_us,
            sizes: self.sizes.into_values().collect(),
            runnable: self.runnable,
            ancestors: ancestors.into_values().collect(),
        }
    }
}

/// The CPUs a task may run on, as the kernel writes them.
fn allowed(folder: &Path) -> Option<String> {
    let mut text = Vec::new();
    read_into(&folder.join("status"), &mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    Some(text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim().to_owned())
}

/// /proc/PID/statm: pages in all, in RAM, of those shared with files or others.
fn anonymous(text: &[u8]) -> Option<u64> {
    let mut words = std::str::from_utf8(text).ok()?.split_ascii_whitespace().skip(1);
    let (resident, shared): (u64, u64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    resident.saturating_sub(shared).checked_mul(PAGE)
}

/// Whether the v1 freezer holds a task. Since 6.1 such a task shows the state of stuck ones and any wait channel.
fn is_frozen(roots: &Roots, folder: &Path) -> bool {
    let groups = read_text(folder.join("cgroup")).unwrap_or_default();
    let path = groups.lines().find_map(|line| line.split_once(":freezer:").map(|(_, path)| path));
    path.is_some_and(|path| {
        let state = roots.sys.join("fs/cgroup/freezer").join(path.trim_start_matches('/')).join("freezer.state");
        read_text(state).is_ok_and(|state| state.trim() == "FROZEN")
    })
}

/// How often a task was put on a CPU, or where the kernel does not count that, how often it left one.
fn runs(folder: &Path, text: &mut Vec<u8>) -> Option<u64> {
    if read_into(&folder.join("schedstat"), text).is_ok()
        && let Some(runs) = std::str::from_utf8(text).ok()?.split_ascii_whitespace().nth(2)
    {
        return runs.parse().ok();
    }
    read_into(&folder.join("status"), text).ok()?;
    let text = String::from_utf8_lossy(text);
    let of = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    of("voluntary_ctxt_switches:")?.checked_add(of("nonvoluntary_ctxt_switches:")?)
}
