//! Processes: what each has mapped to execute, its name, its threads' names. A fork shares the mappings of its parent
//! until either changes them; an exec begins anew.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::profile::modules::ModuleId;

/// Processes that have ended and are remembered: samples of other CPUs may still come.
const ENDED_MAX: usize = 1024;
/// Mappings of one process; more belong to a program that makes code all the time, whose oldest are forgotten.
const MAPPINGS_MAX: usize = 16_384;
/// Threads in the result; those beyond share one.
const THREADS_MAX: usize = 16_384;
/// Name of the program whose tasks are told apart.
const APM: &[u8] = b"apm";
/// Bytes of a name that are kept; the kernel gives 15.
const NAME_MAX: usize = 64;

/// What lies at an executable mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A file, from this offset on.
    File(ModuleId, u64),
    /// Memory: code that was made at run time.
    Memory,
}

/// An executable mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) what: What,
}

/// A process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Process {
    /// In order, without overlap.
    areas: Arc<Vec<Area>>,
    pub(crate) name: String,
    /// Counts processes and programs: two of one number are the same program in the same process.
    pub(crate) program: u32,
    /// Whether it runs a Python, whose made code has no frame pointers.
    pub(crate) is_python: bool,
    /// The task of an apm run that it belongs to.
    task: Option<Arc<str>>,
    /// Its program is apm.
    pub(crate) is_apm: bool,
    /// An apm has started it, or what has started it.
    is_under_apm: bool,
    has_ended: bool,
    /// What it has mapped was read from /proc.
    is_read: bool,
}

/// A thread that has been seen in a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Thread {
    pub(crate) pid: u32,
    pub(crate) tid: u32,
    pub(crate) process: String,
    pub(crate) name: String,
    pub(crate) task: Option<Arc<str>>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    live: HashMap<u32, Process>,
    ended: VecDeque<u32>,
    names: HashMap<u32, String>,
    programs: u32,
    has_apm: bool,
    pub(crate) threads: Vec<Thread>,
    numbers: HashMap<u32, u32>,
}

impl Process {
    /// What lies at an address, and where it begins.
    pub(crate) fn at(&self, address: u64) -> Option<&Area> {
        let behind = self.areas.partition_point(|area| area.start <= address);
        self.areas.get(behind.checked_sub(1)?).filter(|area| address < area.end)
    }

    /// Whether nothing is known of it although it runs code, for the first time: the records of its start are lost.
    pub(crate) fn is_blank(&mut self) -> bool {
        self.areas.is_empty() && !std::mem::replace(&mut self.is_read, true)
    }

    /// Whether it may be of a task, which has to be asked for: it was not, or with no answer before its exec.
    pub(crate) fn wants_task(&self) -> bool {
        self.is_under_apm && self.task.is_none()
    }

    fn map(&mut self, new: Area) {
        if new.start >= new.end {
            return;
        }
        let areas = Arc::make_mut(&mut self.areas);
        let first = areas.partition_point(|area| area.end <= new.start);
        let last = areas.partition_point(|area| area.start < new.end);
        let mut instead = Vec::with_capacity(3);
        for old in areas.get(first..last).unwrap_or_default() {
            if old.start < new.start {
                instead.push(Area { end: new.start, ..*old });
            }
        }
        instead.push(new);
        for old in areas.get(first..last).unwrap_or_default() {
            if old.end > new.end {
                let what = match old.what {
                    What::File(module, offset) => What::File(module, offset.wrapping_add(new.end - old.start)),
                    What::Memory => What::Memory,
                };
                instead.push(Area { start: new.end, end: old.end, what });
            }
        }
        areas.splice(first..last.max(first), instead);
        if areas.len() > MAPPINGS_MAX {
            areas.retain(|area| area.what != What::Memory || *area == new);
            areas.truncate(MAPPINGS_MAX);
        }
    }
}

impl Processes {
    /// A process, which may be unknown: it was there before, or the record of its start is lost.
    pub(crate) fn get(&mut self, pid: u32) -> &mut Process {
        let programs = &mut self.programs;
        self.live.entry(pid).or_insert_with(|| {
            *programs += 1;
            Process { program: *programs, ..Process::default() }
        })
    }

    /// Something executable was mapped.
    pub(crate) fn map(&mut self, pid: u32, area: Area, path: &[u8]) {
        let process = self.get(pid);
        let file = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        process.is_python |= file.starts_with(b"python") || file.starts_with(b"libpython");
        process.map(area);
    }

    /// A process or thread was started.
    pub(crate) fn fork(&mut self, parent: u32, pid: u32, tid: u32) {
        let name =
            self.names.get(&parent).cloned().or_else(|| self.live.get(&parent).map(|process| process.name.clone()));
        if pid != parent {
            let mut child = self.get(parent).clone();
            self.programs += 1;
            child.program = self.programs;
            child.is_under_apm |= child.is_apm;
            (child.is_apm, child.has_ended, child.is_read) = (false, false, false);
            self.live.insert(pid, child);
            self.ended.retain(|ended| *ended != pid);
        }
        // The number is used again: this is another thread.
        self.numbers.remove(&tid);
        if let Some(name) = name {
            self.names.insert(tid, name);
        }
    }

    /// A process belongs to this task, as all do that it starts from now on.
    pub(crate) fn set_task(&mut self, pid: u32, task: &str) {
        self.get(pid).task = Some(task.into());
        let (numbers, threads) = (&self.numbers, &mut self.threads);
        for number in numbers.values() {
            if let Some(thread) = threads.get_mut(*number as usize).filter(|thread| thread.pid == pid) {
                thread.task = Some(task.into());
            }
        }
    }

    /// This process is an apm, whatever its name.
    pub(crate) fn follow_tasks(&mut self, apm: u32) {
        self.get(apm).is_apm = true;
        self.has_apm = true;
    }

    /// A process was there before the first record, and so was the one that has started it.
    pub(crate) fn descend(&mut self, parent: u32, pid: u32) {
        let Some(parent) = self.live.get(&parent) else { return };
        let (task, is_under_apm) = (parent.task.clone(), parent.is_apm || parent.is_under_apm);
        let process = self.get(pid);
        process.is_under_apm |= is_under_apm;
        process.task = process.task.take().or(task);
    }

    /// Whether an apm is among them, whose tasks are told apart.
    pub(crate) fn have_apm(&self) -> bool {
        self.has_apm
    }

    /// A thread got a name; by an exec it is another program too.
    pub(crate) fn name(&mut self, pid: u32, tid: u32, name: &[u8], by_exec: bool) {
        let is_apm = pid == tid && name == APM;
        let name = String::from_utf8_lossy(&name[..name.len().min(NAME_MAX)]).into_owned();
        if by_exec {
            self.programs += 1;
            let program = self.programs;
            let before = self.live.remove(&pid).unwrap_or_default();
            let (task, is_under_apm) = (before.task, before.is_under_apm);
            self.live.insert(pid, Process { program, task, is_under_apm, ..Process::default() });
            self.ended.retain(|ended| *ended != pid);
            // What was sampled before belongs to the program before.
            self.numbers.remove(&tid);
        }
        if pid == tid {
            self.get(pid).name.clone_from(&name);
            self.get(pid).is_apm |= is_apm;
            self.has_apm |= is_apm;
            for number in self.numbers.values() {
                if let Some(thread) = self.threads.get_mut(*number as usize).filter(|thread| thread.pid == pid) {
                    thread.process.clone_from(&name);
                }
            }
        }
        if let Some(thread) = self.numbers.get(&tid).and_then(|number| self.threads.get_mut(*number as usize)) {
            thread.name.clone_from(&name);
        }
        self.names.insert(tid, name);
    }

    /// A thread ended.
    pub(crate) fn exit(&mut self, pid: u32, tid: u32) {
        self.names.remove(&tid);
        if pid != tid {
            return;
        }
        self.get(pid).has_ended = true;
        self.ended.push_back(pid);
        if self.ended.len() > ENDED_MAX
            && let Some(oldest) = self.ended.pop_front()
        {
            self.live.remove(&oldest);
        }
    }

    /// Those that have not ended.
    pub(crate) fn running(&self) -> impl Iterator<Item = u32> {
        self.live.iter().filter(|(pid, process)| **pid > 0 && !process.has_ended).map(|(pid, _)| *pid)
    }

    /// Whether a thread has been seen in a sample.
    pub(crate) fn is_seen(&self, tid: u32) -> bool {
        self.numbers.contains_key(&tid)
    }

    /// Number of a thread in `threads`; nothing where there are too many.
    pub(crate) fn thread(&mut self, pid: u32, tid: u32) -> Option<u32> {
        if let Some(number) = self.numbers.get(&tid) {
            return Some(*number);
        }
        if self.threads.len() >= THREADS_MAX {
            return None;
        }
        let Process { name: process, task, .. } = self.get(pid);
        let (process, task) = (process.clone(), task.clone());
        let name = self.names.get(&tid).cloned().unwrap_or_else(|| process.clone());
        let number = self.threads.len() as u32;
        self.threads.push(Thread { pid, tid, process, name, task });
        self.numbers.insert(tid, number);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Area, Process, Processes, What};

    fn area(start: u64, end: u64, what: What) -> Area {
        Area { start, end, what }
    }

    #[test]
    fn a_new_mapping_covers_what_was_there() {
        let mut process = Process::default();
        process.map(area(0x1000, 0x5000, What::File(0, 0x100)));
        process.map(area(0x2000, 0x3000, What::Memory));
        assert_eq!(
            *process.areas,
            [
                area(0x1000, 0x2000, What::File(0, 0x100)),
                area(0x2000, 0x3000, What::Memory),
                area(0x3000, 0x5000, What::File(0, 0x2100)),
            ]
        );
        process.map(area(0, 0x9000, What::File(1, 0)));
        assert_eq!(*process.areas, [area(0, 0x9000, What::File(1, 0))]);
        assert_eq!((process.at(0x8fff).is_some(), process.at(0x9000)), (true, None));
    }

    #[test]
    fn a_fork_has_what_its_parent_had_and_an_exec_nothing() {
        let mut processes = Processes::default();
        processes.map(10, area(1, 2, What::File(3, 0)), b"/usr/bin/python3.12");
        processes.name(10, 10, b"sh", false);
        processes.fork(10, 11, 11);
        processes.map(11, area(5, 6, What::Memory), b"//anon");
        let child = processes.get(11);
        assert!(child.at(1).is_some() && child.is_python && processes.get(10).at(5).is_none());
        let parent = processes.get(10).program;
        assert_ne!(parent, processes.get(11).program);
        let before = processes.thread(11, 11).expect("a number");
        processes.name(11, 11, b"ls", true);
        assert!(processes.get(11).at(1).is_none() && !processes.get(11).is_python);
        let after = processes.thread(11, 11).expect("a number");
        let names = [before, after].map(|number| processes.threads[number as usize].process.clone());
        assert_eq!(names, ["sh", "ls"]);
    }

    #[test]
    fn what_a_task_of_apm_starts_belongs_to_it() {
        let mut processes = Processes::default();
        processes.name(10, 10, b"apm", true);
        processes.fork(10, 11, 11);
        processes.name(11, 11, b"sh", true);
        assert!(processes.get(11).wants_task() && processes.have_apm());
        let early = processes.thread(11, 11).expect("a number");
        processes.set_task(11, "test");
        processes.fork(11, 12, 12);
        processes.name(12, 12, b"cc1", true);
        assert!(!processes.get(12).wants_task());
        let late = processes.thread(12, 12).expect("a number");
        let own = processes.thread(10, 10).expect("a number");
        let tasks = [early, late, own].map(|number| processes.threads[number as usize].task.as_deref());
        assert_eq!(tasks, [Some("test"), Some("test"), None]);
        assert!(!processes.get(10).wants_task(), "it may itself be a task of another");
        processes.name(20, 20, b"sh", true);
        assert!(!processes.get(20).wants_task(), "no apm has started it");
        processes.descend(10, 20);
        assert!(processes.get(20).wants_task());
        processes.descend(12, 21);
        assert!(!processes.get(21).wants_task(), "it is known");
    }

    #[test]
    fn memory_of_the_dead_is_bounded() {
        let mut processes = Processes::default();
        for pid in 2..100_000 {
            processes.fork(1, pid, pid);
            processes.thread(pid, pid);
            processes.exit(pid, pid);
        }
        assert!(processes.live.len() <= super::ENDED_MAX + 1 && processes.threads.len() == super::THREADS_MAX);
        assert_eq!(processes.running().collect::<Vec<_>>(), [1]);
        assert!(processes.names.len() <= 1 && processes.numbers.len() <= super::THREADS_MAX);
    }

    proptest! {
        #[test]
        fn areas_stay_in_order(maps in prop::collection::vec((0_u64..40, 0_u64..40, any::<bool>()), 0..30)) {
            let mut process = Process::default();
            for (start, length, is_file) in maps {
                process.map(area(start, start + length, if is_file { What::File(0, start) } else { What::Memory }));
                prop_assert!(process.areas.iter().all(|area| area.start < area.end));
                prop_assert!(process.areas.windows(2).all(|pair| pair[0].end <= pair[1].start));
                prop_assert!(length == 0 || process.at(start).is_some());
            }
        }
    }
}
