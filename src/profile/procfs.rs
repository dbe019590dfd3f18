//! Processes as /proc shows them, for the samplers that look from outside and get no records of forks and mappings: which
//! processes there are now, what each has mapped, and which task of an apm run it belongs to.

use std::collections::HashMap;
use std::fs;

use crate::probe::stat::Stat;
use crate::profile::modules::{self, Modules};
use crate::profile::process::{Area, Processes, What};
use crate::profile::record::existing;
use crate::sys::process;

/// Looks at the memory of a process in which nothing new is found, until it is not looked at again.
const LOOKS_MAX: u32 = 32;
/// Processes that are known.
const KNOWN_MAX: usize = 16_384;

/// What tells one program in a process from the next: where its stack begins, which an exec changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    program: u64,
    looks_left: u32,
}

/// A process and its descendants.
pub(crate) struct Procfs {
    root: u32,
    with_children: bool,
    /// The apm run whose tasks are told apart; any where absent.
    run: Option<String>,
    known: HashMap<u32, Known>,
    pub(crate) processes: Processes,
    pub(crate) modules: Modules,
}

impl Procfs {
    /// With a run, `root` is its apm.
    pub(crate) fn new(root: u32, with_children: bool, run: Option<String>) -> Self {
        let mut processes = Processes::default();
        if run.is_some() {
            processes.follow_tasks(root);
        }
        Self { root, with_children, run, known: HashMap::new(), processes, modules: Modules::default() }
    }

    /// Those that are there, the parents first.
    pub(crate) fn pids(&self) -> Vec<u32> {
        if self.with_children { existing::descendants(self.root) } else { vec![self.root] }
    }

    /// Learns of a process that is new, or has become another program.
    pub(crate) fn meet(&mut self, pid: u32, stat: &Stat<'_>) {
        let program = stat.field::<u64>(25).unwrap_or_default();
        if self.known.get(&pid).is_some_and(|known| known.program == program) {
            return;
        }
        if self.known.len() >= KNOWN_MAX {
            // Those that have ended need no place.
            self.known.retain(|pid, _| fs::exists(format!("/proc/{pid}")).unwrap_or(false));
        }
        let is_new = self.known.insert(pid, Known { program, looks_left: LOOKS_MAX }).is_none();
        if is_new && pid != self.root {
            self.processes.descend(stat.field(1).unwrap_or_default(), pid);
        }
        self.processes.name(pid, pid, stat.name, true);
        if self.processes.get(pid).wants_task()
            && let Some(task) = process::task_of(pid, self.run.as_deref())
        {
            self.processes.set_task(pid, &task);
        }
        self.read_mappings(pid);
    }

    /// Looks at the memory of a process again: a library may have been loaded. Not without end.
    pub(crate) fn again(&mut self, pid: u32) -> bool {
        let known = self.known.get_mut(&pid).filter(|known| known.looks_left > 0);
        let is_worth_it = known.map(|known| known.looks_left -= 1).is_some();
        if is_worth_it {
            self.read_mappings(pid);
        }
        is_worth_it
    }

    fn read_mappings(&mut self, pid: u32) {
        for mapped in existing::mappings(pid) {
            let existing::Mapped { start, end, offset, inode, path } = &mapped;
            let file = modules::Mapping { pid, start: *start, end: *end, path, inode: *inode };
            let what = self.modules.find(&file).map_or(What::Memory, |module| What::File(module, *offset));
            self.processes.map(pid, Area { start: *start, end: *end, what }, path);
        }
    }
}
