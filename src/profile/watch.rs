//! What the profiled processes use, looked at ten times a second: CPU time, memory, bytes read and written, connections.
//! No privileges are needed for processes of the same user. What begins and ends between two looks is in the sums of the
//! parent that waited for it, and not in a row of its own.

#![expect(clippy::disallowed_methods, reason = "kernel: /proc")]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::time::{Duration, Instant};

use crate::model::profile::{Kind, List, Tables, Timeline, Unit};
use crate::probe::stat::Stat;
use crate::profile::connections::Connections;
use crate::profile::owners::Ends;
use crate::profile::record::existing;

/// Between two looks.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);
/// Between two looks at what costs more: the kernel walks all pages of a process for its share of them.
const RARE: Duration = Duration::from_secs(1);
/// Points of a timeline. When there are more, every other one goes, and looks count for twice as long.
const POINTS_MAX: usize = 1200;
/// Processes that are remembered.
const PROCESSES_MAX: usize = 10_000;
/// Processes in the table, those with the most CPU time first.
const ROWS_MAX: usize = 200;
/// Ticks a second of times in /proc: 100 on every Linux of the last twenty years (USER_HZ).
const TICK: Duration = Duration::from_millis(10);
const PAGE: u64 = 4096;

/// What one process has used so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) name: String,
    pub(crate) parent: u32,
    /// Its own, and that of children it has waited for.
    pub(crate) cpu: Duration,
    pub(crate) cpu_of_children: Duration,
    /// Resident now, and at most; bytes.
    pub(crate) rss: u64,
    pub(crate) rss_peak: u64,
    /// What its calls read and wrote, bytes; with that of children it has waited for.
    pub(crate) io: Io,
}

/// /proc/PID/io.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Io {
    pub(crate) read: u64,
    pub(crate) written: u64,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    /// From and to storage.
    pub(crate) stored_read: u64,
    pub(crate) stored_written: u64,
}

impl Io {
    fn parse(text: &str) -> Self {
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
        };
        Self {
            read: of("rchar"),
            written: of("wchar"),
            reads: of("syscr"),
            writes: of("syscw"),
            stored_read: of("read_bytes"),
            stored_written: of("write_bytes"),
        }
    }

    fn fields(self) -> [u64; 6] {
        [self.read, self.written, self.reads, self.writes, self.stored_read, self.stored_written]
    }

    fn from(fields: [u64; 6]) -> Self {
        let [read, written, reads, writes, stored_read, stored_written] = fields;
        Self { read, written, reads, writes, stored_read, stored_written }
    }

    fn less(self, other: Self) -> Self {
        let mut fields = self.fields();
        fields.iter_mut().zip(other.fields()).for_each(|(one, other)| *one = one.saturating_sub(other));
        Self::from(fields)
    }

    fn and(self, other: Self) -> Self {
        let mut fields = self.fields();
        fields.iter_mut().zip(other.fields()).for_each(|(one, other)| *one = one.saturating_add(other));
        Self::from(fields)
    }
}

/// Looks at processes until they end.
pub(crate) struct Watch {
    root: u32,
    with_children: bool,
    began: Instant,
    rare_at: Option<Instant>,
    /// Every look of so many goes into the timelines.
    every: usize,
    looks: usize,
    /// With what it had when it was first seen, where it was there before.
    processes: BTreeMap<u32, (Used, Used)>,
    cpus: Series,
    rss: Series,
    pss: Series,
    swap: Series,
    connections: Connections,
    /// Reading /proc/PID/io was refused.
    is_refused: bool,
}

#[derive(Default)]
struct Series(Vec<(u64, f64)>);

impl Series {
    fn halve(&mut self) {
        let mut at = 0;
        self.0.retain(|_| {
            at += 1;
            at % 2 == 0
        });
    }
}

impl Watch {
    /// `is_new`: it is being started; what it has used so far counts.
    pub(crate) fn new(root: u32, with_children: bool, is_new: bool) -> Self {
        let mut watch = Self {
            root,
            with_children,
            began: Instant::now(),
            rare_at: None,
            every: 1,
            looks: 0,
            processes: BTreeMap::new(),
            cpus: Series::default(),
            rss: Series::default(),
            pss: Series::default(),
            swap: Series::default(),
            connections: Connections::begin(is_new),
            is_refused: false,
        };
        if !is_new {
            for pid in existing::tree(root, with_children) {
                if let Some(used) = watch.used(pid) {
                    watch.processes.insert(pid, (used.clone(), used));
                }
            }
        }
        watch
    }

    /// One look.
    pub(crate) fn look(&mut self) {
        let now = Instant::now();
        let pids = if self.with_children { existing::descendants(self.root) } else { vec![self.root] };
        let before: Duration = self.processes.values().map(|(_, used)| used.cpu).sum();
        let mut rss = 0;
        for pid in &pids {
            let Some(used) = self.used(*pid) else { continue };
            rss += used.rss;
            if let Some((_, last)) = self.processes.get_mut(pid) {
                let peak = last.rss_peak.max(used.rss_peak);
                *last = Used { rss_peak: peak, ..used };
            } else if self.processes.len() < PROCESSES_MAX {
                self.processes.insert(*pid, (Used::default(), used));
            }
        }
        let after: Duration = self.processes.values().map(|(_, used)| used.cpu).sum();
        self.looks += 1;
        let at = u64::try_from(now.duration_since(self.began).as_nanos()).unwrap_or(u64::MAX);
        if self.looks.is_multiple_of(self.every) {
            let since = self.cpus.0.last().map_or(0, |(at, _)| *at);
            let passed = Duration::from_nanos(at.saturating_sub(since)).as_secs_f64();
            if passed > 0.0 {
                let used = after.saturating_sub(before).as_secs_f64() * self.every as f64;
                self.cpus.0.push((at, used / passed));
            }
            self.rss.0.push((at, rss as f64));
        }
        if self.rare_at.is_none_or(|rare| now.duration_since(rare) >= RARE) {
            self.rare_at = Some(now);
            let (mut pss, mut swap) = (0, 0);
            for pid in &pids {
                let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
                let (one, other) = rollup(&text);
                (pss, swap) = (pss + one, swap + other);
            }
            self.pss.0.push((at, pss as f64));
            self.swap.0.push((at, swap as f64));
        }
        self.connections.look(&pids);
        if self.rss.0.len() > POINTS_MAX {
            [&mut self.cpus, &mut self.rss].into_iter().for_each(Series::halve);
            self.every *= 2;
        }
        if self.pss.0.len() > POINTS_MAX {
            [&mut self.pss, &mut self.swap].into_iter().for_each(Series::halve);
        }
    }

    fn used(&mut self, pid: u32) -> Option<Used> {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let stat = Stat::parse(&text)?;
        let ticks = |at: usize| TICK * stat.field::<u32>(at).unwrap_or_default();
        let (io, is_refused) = match fs::read_to_string(format!("/proc/{pid}/io")) {
            Ok(text) => (Io::parse(&text), false),
            Err(error) => (Io::default(), error.kind() == std::io::ErrorKind::PermissionDenied),
        };
        // Of one that has ended and is not waited for yet only root sees them: what was seen before stays.
        let before = self.processes.get(&pid).map(|(_, last)| last.io).filter(|_| is_refused);
        self.is_refused |= is_refused && before.is_none();
        let io = before.unwrap_or(io);
        let rss = stat.field::<u64>(21).unwrap_or_default().saturating_mul(PAGE);
        Some(Used {
            name: String::from_utf8_lossy(stat.name).into_owned(),
            parent: stat.field(1).unwrap_or_default(),
            cpu: ticks(11) + ticks(12),
            cpu_of_children: ticks(13) + ticks(14),
            rss,
            // As the kernel keeps it since the last exec: also of what came and went between two looks.
            rss_peak: high_water(pid).unwrap_or_default().max(rss),
            io,
        })
    }

    /// The end, while a command that has ended is still to be waited for: its sums are whole now.
    /// `owners` are those of connections that are gone.
    pub(crate) fn finish(mut self, owners: &HashMap<Ends, u32>) -> Seen {
        self.look();
        self.connections.adopt(owners);
        let mut notes = Vec::new();
        if self.is_refused {
            notes.push("bytes read and written of other users' processes are for root to see".to_owned());
        }
        notes.extend(self.connections.notes());
        let span =
            |timeline: &str, unit: Unit, series: Series| Timeline { name: timeline.to_owned(), unit, points: series.0 };
        let mut timelines = vec![
            span("cpu", Unit::Count, self.cpus),
            span("rss", Unit::Bytes, self.rss),
            span("pss", Unit::Bytes, self.pss),
            span("swap", Unit::Bytes, self.swap),
        ];
        // Where nothing ever was there is nothing to see.
        timelines.retain(|line| line.points.len() > 1 && line.points.iter().any(|(_, value)| *value > 0.0));
        let (received, sent) = self.connections.timelines();
        timelines.extend([received, sent].into_iter().flatten());
        let mut lists = vec![processes(&self.processes)];
        lists.extend(self.connections.list());
        Seen { tables: Tables { timelines, lists }, notes }
    }
}

/// `VmHWM` of a process, bytes.
fn high_water(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.saturating_mul(1024))
}

/// What was seen.
pub(crate) struct Seen {
    pub(crate) tables: Tables,
    pub(crate) notes: Vec<String>,
}

/// What each used itself: without that of children that it waited for, which the kernel adds to its parent's.
fn own(processes: &BTreeMap<u32, (Used, Used)>) -> BTreeMap<u32, (Duration, Io)> {
    let mut gone: HashMap<u32, Io> = HashMap::new();
    for (pid, (_, last)) in processes {
        let is_gone = !fs::exists(format!("/proc/{pid}")).unwrap_or(true);
        if is_gone {
            let sum = gone.entry(last.parent).or_default();
            *sum = sum.and(last.io);
        }
    }
    let of = |(pid, (first, last)): (&u32, &(Used, Used))| {
        let io = last.io.less(first.io).less(gone.get(pid).copied().unwrap_or_default());
        (*pid, (last.cpu.saturating_sub(first.cpu), io))
    };
    processes.iter().map(of).collect()
}

fn processes(all: &BTreeMap<u32, (Used, Used)>) -> List {
    let kind = |name: &str, unit: Unit| Kind { name: name.to_owned(), unit };
    let columns = vec![
        kind("cpu", Unit::Nanoseconds),
        kind("rss peak", Unit::Bytes),
        kind("read", Unit::Bytes),
        kind("written", Unit::Bytes),
        kind("calls", Unit::Count),
        kind("from storage", Unit::Bytes),
        kind("to storage", Unit::Bytes),
    ];
    let own = own(all);
    let mut rows: Vec<(String, Vec<u64>)> = all
        .iter()
        .filter_map(|(pid, (_, last))| {
            let (cpu, io) = own.get(pid)?;
            let cpu = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
            let calls = io.reads.saturating_add(io.writes);
            let values = vec![cpu, last.rss_peak, io.read, io.written, calls, io.stored_read, io.stored_written];
            Some((format!("{}[{pid}]", last.name), values))
        })
        .collect();
    rows.sort_by(|a, b| b.1.cmp(&a.1));
    rows.truncate(ROWS_MAX);
    List { name: "processes".to_owned(), of: "process".to_owned(), columns, rows }
}

/// Proportional share of memory, and swap, of /proc/PID/smaps_rollup; bytes.
fn rollup(text: &str) -> (u64, u64) {
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() * 1024
    };
    (of("Pss:"), of("Swap:"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::{Io, Used, Watch, own, rollup};

    #[test]
    fn files_of_proc_are_read_by_their_names() {
        let text =
            "rchar: 5\nwchar: 6\nsyscr: 1\nsyscw: 2\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 0\n";
        let io = Io { read: 5, written: 6, reads: 1, writes: 2, stored_read: 4096, stored_written: 8192 };
        assert_eq!((Io::parse(text), Io::parse("garbage")), (io, Io::default()));
        let text = "55d0-7ffd ---p 00000000 00:00 0 [rollup]\nRss:  10 kB\nPss:   7 kB\nSwapPss: 1 kB\nSwap:  3 kB\n";
        assert_eq!(rollup(text), (7 << 10, 3 << 10));
    }

    /// The kernel adds what a child did to its parent's when that waits for it.
    #[test]
    fn what_children_did_counts_once() {
        let used = |parent, written| Used { parent, io: Io { written, ..Io::default() }, ..Used::default() };
        // Numbers that no process has.
        let (parent, child) = (4_194_900, 4_194_901);
        let all =
            BTreeMap::from([(parent, (Used::default(), used(1, 150))), (child, (Used::default(), used(parent, 100)))]);
        let own = own(&all);
        assert_eq!((own[&parent].1.written, own[&child].1.written), (50, 100));
    }

    #[test]
    fn a_process_that_is_there_counts_from_now_on() {
        let mut watch = Watch::new(std::process::id(), false, false);
        let file = std::env::temp_dir().join(format!("apm-watch-{}", std::process::id()));
        std::fs::write(&file, vec![7; 1 << 20]).expect("written");
        std::thread::sleep(Duration::from_millis(1));
        watch.look();
        let seen = watch.finish(&std::collections::HashMap::new());
        std::fs::remove_file(file).expect("removed");
        let (name, values) = &seen.tables.lists[0].rows[0];
        assert!(name.ends_with(&format!("[{}]", std::process::id())), "{name}");
        assert!(values[3] >= 1 << 20, "{values:?}");
        assert!(values[1] > 1 << 20, "it has memory");
    }
}
