//! One look at all processes, and sums over trees of them.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::unit::Bytes;
use crate::probe::stat::Stat;
use crate::probe::tasks::is_number;
use crate::probe::{PAGE, Roots, read_dir, read_into};

/// Clock ticks a second in /proc/PID/stat: USER_HZ, 100 on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// What /proc/PID/stat says that a tree needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    /// Clock ticks since boot: who has the number later started later.
    pub(crate) start: u64,
    /// Of itself and of children it waited for.
    pub(crate) cpu_time: Duration,
    pub(crate) memory: Bytes,
    pub(crate) threads: u32,
}

/// All processes at one moment.
#[derive(Debug, Default)]
pub(crate) struct Table {
    processes: Vec<Process>,
    children: HashMap<i32, Vec<usize>>,
}

/// Sums over a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) processes: u32,
    /// Of all processes: what the kernel's pids.max counts.
    pub(crate) threads: u32,
    pub(crate) memory: Bytes,
    pub(crate) cpu_time: Duration,
}

/// Reads all processes. A file that vanishes meanwhile is a process that ended.
pub(crate) fn sweep(roots: &Roots) -> Table {
    let mut table = Table::default();
    let Ok(entries) = read_dir(&roots.proc) else { return table };
    let mut text = Vec::with_capacity(512);
    for entry in entries.flatten() {
        if !is_number(entry.file_name().as_encoded_bytes()) {
            continue;
        }
        if read_into(&entry.path().join("stat"), &mut text).is_ok()
            && let Some(process) = parse(&text)
        {
            table.children.entry(process.parent).or_default().push(table.processes.len());
            table.processes.push(process);
        }
    }
    table
}

/// Reads /proc/PID/stat. Ended processes give nothing: their memory is gone and their time is their parent's.
fn parse(text: &[u8]) -> Option<Process> {
    let stat = Stat::parse(text).filter(|stat| !matches!(stat.state, 'Z' | 'X'))?;
    let mut ticks = 0u64;
    for at in 11..=14 {
        ticks = ticks.checked_add(stat.field(at)?)?;
    }
    Some(Process {
        pid: stat.pid,
        parent: stat.field(1)?,
        group: stat.field(2)?,
        session: stat.field(3)?,
        start: stat.field(19)?,
        cpu_time: TICK.saturating_mul(u32::try_from(ticks).ok()?),
        memory: Bytes(stat.field::<u64>(21)?.checked_mul(PAGE)?),
        threads: stat.field(17)?,
    })
}

impl Table {
    /// The sum over a process, its descendants, and everything in its group or session, wherever it hangs.
    pub(crate) fn tree(&self, root: i32) -> Sum {
        let mut sum = Sum::default();
        for process in self.members(root) {
            sum.processes += 1;
            sum.threads = sum.threads.saturating_add(process.threads);
            sum.memory.0 += process.memory.0;
            sum.cpu_time += process.cpu_time;
        }
        sum
    }

    /// Whether this process is in it.
    pub(crate) fn has(&self, pid: i32, start: u64) -> bool {
        self.processes.iter().any(|process| process.pid == pid && process.start == start)
    }

    /// A process and its descendants, itself first; none where there is no such process.
    pub(crate) fn descendants(&self, root: i32) -> Vec<i32> {
        if !self.processes.iter().any(|process| process.pid == root) {
            return Vec::new();
        }
        let mut found = vec![root];
        let mut at = 0;
        while let Some(pid) = found.get(at).copied() {
            let children = self.children.get(&pid).into_iter().flatten().map(|child| self.processes[*child].pid);
            // A table read while processes come and go may have a circle.
            let new: Vec<i32> = children.filter(|child| !found.contains(child)).collect();
            found.extend(new);
            at += 1;
        }
        found
    }

    /// The processes of such a tree.
    pub(crate) fn members(&self, root: i32) -> Vec<&Process> {
        let mut taken = vec![false; self.processes.len()];
        let belongs = |process: &Process| process.pid == root || process.group == root || process.session == root;
        let mut open: Vec<usize> =
            self.processes.iter().enumerate().filter(|(_, process)| belongs(process)).map(|(at, _)| at).collect();
        let mut members = Vec::new();
        while let Some(at) = open.pop() {
            if std::mem::replace(&mut taken[at], true) {
                continue;
            }
            members.push(&self.processes[at]);
            open.extend(self.children.get(&self.processes[at].pid).into_iter().flatten());
        }
        members
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Sum, parse, sweep};
    use crate::model::unit::Bytes;
    use crate::probe::Roots;

    fn line(pid: i32, name: &str, state: &str, parent: i32, group: i32, session: i32) -> String {
        format!(
            "{pid} ({name}) {state} {parent} {group} {session} 0 -1 4194560 1 2 3 4 100 50 7 3 20 0 2 0 12345 9999 256 18446744073709551615 1\n"
        )
    }

    #[test]
    fn a_tree_is_descendants_group_and_session() {
        let root = std::env::temp_dir().join(format!("apm-sweep-{}", std::process::id()));
        let processes = [
            (10, "job", "S", 1, 10, 10),
            (11, "a) R 1 (b", "S", 10, 10, 10),
            (12, "setsid child", "S", 11, 12, 12),
            (13, "orphan of the group", "S", 1, 10, 10),
            (14, "ended", "Z", 10, 10, 10),
            (20, "other", "S", 1, 20, 20),
        ];
        for (pid, name, state, parent, group, session) in processes {
            fs::create_dir_all(root.join(pid.to_string())).expect("a folder");
            fs::write(root.join(pid.to_string()).join("stat"), line(pid, name, state, parent, group, session))
                .expect("written");
        }
        fs::create_dir_all(root.join("99")).expect("a process that is gone");
        let roots = Roots { proc: root.clone(), ..Roots::default() };
        let table = sweep(&roots);
        let expected =
            Sum { processes: 4, threads: 8, memory: Bytes::mib(4), cpu_time: Duration::from_millis(4 * 1600) };
        assert_eq!(table.tree(10), expected);
        assert_eq!(table.tree(99), Sum::default());
        fs::remove_dir_all(root).expect("removed");
    }

    proptest! {
        #[test]
        fn garbage_is_no_process_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_damaged_line_does_not_panic(at in 0usize..120, byte in any::<u8>()) {
            let mut text = line(10, "job", "S", 1, 10, 10).into_bytes();
            let at = at % text.len();
            text[at] = byte;
            let _ = parse(&text);
        }
    }
}
