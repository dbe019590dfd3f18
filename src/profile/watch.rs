//! What the profiled processes use, looked at ten times a second: CPU time, memory, bytes read and written, connections.
//! No privileges are needed for processes of the same user. What begins and ends between two looks has no row of its own;
//! its bytes are in a row below the parent that waited for it.

#![expect(clippy::disallowed_methods, reason = "kernel: /proc")]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::time::{Duration, Instant};

use crate::model::profile::{Kind, List, Tables, Timeline, Unit};
use crate::probe::stat::Stat;
use crate::profile::accounts::{Accounts, Io, Reading};
use crate::profile::connections::Connections;
use crate::profile::outside::Programs;
use crate::profile::owners::Ends;
use crate::profile::record::existing;

/// Between two looks.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);
/// The same at the beginning: a short program is seen before it ends. Doubled with each look.
const FIRST: Duration = Duration::from_millis(5);
/// Waits of 1 ms at most until a command stands at its gate.
const GATE_WAITS_MAX: u32 = 100;
/// Looks in which a command may still be on its way from the gate to its first instruction.
const STAGE_LOOKS_MAX: usize = 20;
/// Threads of a process whose bytes are read one by one.
const THREADS_MAX: u64 = 64;
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
    pub(crate) cpu: Duration,
    /// Resident now, and at most; bytes.
    pub(crate) rss: u64,
    pub(crate) rss_peak: u64,
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
    accounts: Accounts,
    programs: Programs,
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
    /// `is_new`: it stands at its gate. What it has used so far was used by apm to start it, and does not count, nor what
    /// was used by a process that runs already.
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
            accounts: Accounts::default(),
            programs: Programs::new(),
            is_refused: false,
        };
        if is_new {
            watch.begin_at_gate();
        } else {
            for pid in existing::tree(root, with_children) {
                if let Some((used, reading)) = watch.used(pid) {
                    reading.into_iter().for_each(|reading| watch.accounts.begin(reading));
                    watch.processes.insert(pid, (used.clone(), used));
                }
            }
        }
        watch
    }

    /// Waits until the command sleeps at its gate (`sys::stage`), and begins to count there.
    fn begin_at_gate(&mut self) {
        for _ in 0..GATE_WAITS_MAX {
            let text = fs::read(format!("/proc/{}/stat", self.root)).unwrap_or_default();
            if Stat::parse(&text).is_none_or(|stat| stat.state == 'S') {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // Its memory goes with it; what it has read and written stays in the kernel's account.
        let text = fs::read(format!("/proc/{}/stat", self.root)).unwrap_or_default();
        if let Some(reading) = Stat::parse(&text).and_then(|stat| reading(self.root, &stat).ok()) {
            // The byte that it writes into the gate is counted when that is opened.
            let gate = Io { written: 1, writes: 1, ..Io::default() };
            let threads = reading.threads.map(|all| all.into_iter().map(|(tid, io)| (tid, io.and(gate))).collect());
            self.accounts.begin(Reading { whole: reading.whole.and(gate), threads, ..reading });
        }
        let cpu = Stat::parse(&text).map_or(Duration::ZERO, |stat| cpu(&stat));
        let first = Used { cpu, ..Used::default() };
        self.processes.insert(self.root, (first.clone(), first));
    }

    /// How long it is to the next look.
    pub(crate) fn interval(&self) -> Duration {
        let doublings = u32::try_from(self.looks.saturating_sub(1)).unwrap_or(u32::MAX);
        2_u32.checked_pow(doublings).map_or(INTERVAL, |times| FIRST.saturating_mul(times).min(INTERVAL))
    }

    /// One look.
    pub(crate) fn look(&mut self) {
        let now = Instant::now();
        let pids = if self.with_children { existing::descendants(self.root) } else { vec![self.root] };
        let before: Duration = self.processes.values().map(|(_, used)| used.cpu).sum();
        let mut rss = 0;
        let mut readings = Vec::new();
        for pid in &pids {
            let Some((used, reading)) = self.used(*pid) else { continue };
            rss += used.rss;
            readings.extend(reading);
            if let Some((_, last)) = self.processes.get_mut(pid) {
                let peak = last.rss_peak.max(used.rss_peak);
                *last = Used { rss_peak: peak, ..used };
            } else if self.processes.len() < PROCESSES_MAX {
                self.processes.insert(*pid, (Used::default(), used));
            }
        }
        self.accounts.look(readings, |pid| fs::exists(format!("/proc/{pid}")).unwrap_or(true));
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

    fn used(&mut self, pid: u32) -> Option<(Used, Option<Reading>)> {
        // It has left its gate this moment: its memory is apm's. Asked first, since the rest is read one by one.
        if pid == self.root && self.looks < STAGE_LOOKS_MAX && self.programs.is_stage(pid) {
            return None;
        }
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let stat = Stat::parse(&text)?;
        let reading = match reading(pid, &stat) {
            Ok(reading) => Some(reading),
            Err(error) => {
                // Of one that has ended and is not waited for yet only root sees them: what was seen before stays.
                let is_new = !self.processes.contains_key(&pid);
                self.is_refused |= error.kind() == std::io::ErrorKind::PermissionDenied && is_new;
                None
            }
        };
        let rss = stat.field::<u64>(21).unwrap_or_default().saturating_mul(PAGE);
        // As the kernel keeps it since the last exec: also of what came and went between two looks.
        let rss_peak = high_water(pid).unwrap_or_default().max(rss);
        self.programs.look(pid, &stat, rss_peak);
        let used = Used { name: String::from_utf8_lossy(stat.name).into_owned(), cpu: cpu(&stat), rss, rss_peak };
        Some((used, reading))
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
        let mut lists = vec![processes(&self.processes, &self.accounts)];
        lists.extend(self.connections.list());
        Seen { tables: Tables { timelines, lists }, notes, programs: self.programs, accounts: self.accounts }
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
    pub(crate) programs: Programs,
    pub(crate) accounts: Accounts,
}

/// CPU time of a process.
fn cpu(stat: &Stat<'_>) -> Duration {
    let ticks = |at: usize| TICK * stat.field::<u32>(at).unwrap_or_default();
    ticks(11) + ticks(12)
}

/// What a process has read and written so far.
fn reading(pid: u32, stat: &Stat<'_>) -> std::io::Result<Reading> {
    let whole = Io::parse(&fs::read_to_string(format!("/proc/{pid}/io"))?);
    let threads = threads(pid, stat.field(17).unwrap_or_default());
    Ok(Reading { pid, parent: stat.field(1).unwrap_or_default(), whole, threads })
}

/// What each thread of a process did, where they are not too many.
fn threads(pid: u32, count: u64) -> Option<Vec<(u32, Io)>> {
    let io = |tid: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/io")).ok()?;
        Some((tid, Io::parse(&text)))
    };
    match count {
        1 => Some(vec![io(pid)?]),
        2..=THREADS_MAX => {
            let all = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
            Some(all.filter_map(|entry| io(entry.file_name().to_str()?.parse().ok()?)).collect())
        }
        _ => None,
    }
}

fn processes(all: &BTreeMap<u32, (Used, Used)>, accounts: &Accounts) -> List {
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
    let row = |cpu: Duration, rss_peak: u64, io: Io| {
        let cpu = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        let calls = io.reads.saturating_add(io.writes);
        vec![cpu, rss_peak, io.read, io.written, calls, io.stored_read, io.stored_written]
    };
    let mut rows: Vec<(String, Vec<u64>)> = Vec::new();
    for (pid, (first, last)) in all {
        let cpu = last.cpu.saturating_sub(first.cpu);
        rows.push((format!("{}[{pid}]", last.name), row(cpu, last.rss_peak, accounts.own(*pid))));
        let unseen = accounts.unseen(*pid);
        if unseen != Io::default() {
            let name = format!("below {}[{pid}], ended between two looks", last.name);
            rows.push((name, row(Duration::ZERO, 0, unseen)));
        }
    }
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
    use std::time::Duration;

    use super::{Watch, rollup};

    #[test]
    fn shares_of_memory_are_read_by_their_names() {
        let text = "55d0-7ffd ---p 00000000 00:00 0 [rollup]\nRss:  10 kB\nPss:   7 kB\nSwapPss: 1 kB\nSwap:  3 kB\n";
        assert_eq!(rollup(text), (7 << 10, 3 << 10));
    }

    #[test]
    fn looks_are_close_to_each_other_at_first() {
        let mut watch = Watch::new(std::process::id(), false, false);
        let mut intervals = Vec::new();
        for looks in [0, 1, 2, 3, 6, 100, usize::MAX] {
            watch.looks = looks;
            intervals.push(watch.interval().as_millis());
        }
        assert_eq!(intervals, [5, 5, 10, 20, 100, 100, 100]);
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
