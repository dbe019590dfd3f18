//! Processes that grow without end.

use crate::doctor::culprit;
use crate::doctor::memory::counter::{MEMINFO, value};
use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::model::diagnosis::{Culprit, Severity};
use crate::model::snapshot::process::{Process, Sizes};
use crate::model::unit::Bytes;

/// Looks that make a line.
const SAMPLES_MIN: usize = 5;
/// Seconds they have to span.
const SPAN_MIN_S: f64 = 3.0;
/// How straight the line has to be.
const R2_MIN: f64 = 0.9;
/// Seconds a process may be old and grow all the same, as compilers and servers do that load what they need.
const YOUNG_S: f64 = 30.0;
/// Seconds until memory is full from which on youth is no excuse.
const SOON_S: f64 = 300.0;
/// Seconds until memory is full that make it critical where it is short already.
const FULL_S: f64 = 900.0;
/// Clock ticks a second in /proc/PID/stat.
const TICKS: f64 = 100.0;

/// How a process grew.
struct Line<'a> {
    process: &'a Process,
    /// Bytes a second.
    slope: f64,
    from: u64,
    to: u64,
}

pub(super) fn leak(context: &RuleContext<'_>) -> Verdict {
    let activity = &context.window.activity;
    let span = activity.at_us.last().map_or(0.0, |last| *last as f64 / 1e6);
    if activity.at_us.len() < SAMPLES_MIN || span < SPAN_MIN_S {
        return Err(Skip(format!("needs {SAMPLES_MIN} looks over {SPAN_MIN_S} s: --duration 5s or more")));
    }
    let info = &context.now().memory.meminfo;
    let (available, total) = (value(info, MEMINFO, "MemAvailable")?, value(info, MEMINFO, "MemTotal")?);
    let processes = context.now().processes.get()?;
    let per_minute = |line: &Line<'_>| 100.0 * line.slope * 60.0 / total.max(1) as f64;
    let mut lines: Vec<Line<'_>> = activity
        .sizes
        .iter()
        .filter(|sizes| sizes.pid != context.window.observer)
        .filter_map(|sizes| {
            let is_it = |process: &&Process| process.pid == sizes.pid && process.started == sizes.started;
            line(sizes, &activity.at_us, processes.iter().find(is_it)?)
        })
        .filter(|line| context.judge(per_minute(line), false).is_some())
        .collect();
    lines.sort_by(|a, b| b.slope.total_cmp(&a.slope));
    let Some(worst) = lines.first() else { return Ok(Vec::new()) };
    // A group may be full sooner than the machine.
    let groups = context.now().cgroups.groups.iter().filter(|group| group.members.contains(&worst.process.pid));
    let left = groups
        .filter_map(|group| Some(group.memory_max?.saturating_sub(*group.memory_used.known()?)))
        .fold(available, u64::min);
    let full_s = left as f64 / worst.slope;
    let age_s = context.now().system.uptime.known().map(|uptime| uptime - worst.process.started as f64 / TICKS);
    let is_short = 5.0 * (available as f64) < total as f64;
    let severity = match age_s {
        Some(age) if age < YOUNG_S && full_s > SOON_S => Severity::Info,
        _ if is_short && full_s < FULL_S => Severity::Crit,
        _ => Severity::Warn,
    };
    let title = format!("a process grows by {}/s, memory is full in {}", Bytes(worst.slope as u64), lasting(full_s));
    let by = lines.iter().take(culprit::NAMED).map(|line| -> Culprit {
        let what = format!("+{}/s, now {}", Bytes(line.slope as u64), Bytes(line.to));
        culprit::process(line.process, what)
    });
    let finding = context
        .finding(severity, per_minute(worst), title)
        .agreed(1 + u32::from(is_short))
        .counted(&format!("/proc/{}/statm", worst.process.pid), "own memory", worst.from, worst.to, "B")
        .read(MEMINFO, "MemAvailable", available as f64, "B")
        .by(by);
    let command = format!("pmap -x {} | sort -n -k3 | tail", worst.process.pid);
    Ok(vec![finding.fix("see what it keeps, or restart it", Some(command))])
}

fn lasting(seconds: f64) -> String {
    match seconds {
        _ if seconds < 120.0 => format!("{seconds:.0} s"),
        _ if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", seconds / 3600.0),
    }
}

/// Least squares, if the process grew all the time, evenly, and still does.
fn line<'a>(sizes: &Sizes, at_us: &[u64], process: &'a Process) -> Option<Line<'a>> {
    let points: Vec<(f64, f64)> = sizes
        .seen
        .iter()
        .filter_map(|(look, bytes)| Some((*at_us.get(*look as usize)? as f64 / 1e6, *bytes as f64)))
        .collect();
    let (from, to) = (sizes.seen.first()?.1, sizes.seen.last()?.1);
    let span = points.last()?.0 - points.first()?.0;
    if points.len() < SAMPLES_MIN || span < SPAN_MIN_S || points.windows(2).any(|pair| pair[1].1 < pair[0].1) {
        return None;
    }
    let (slope, r2) = fit(&points)?;
    let (_, second) = points.split_at(points.len() / 2);
    let (late, _) = fit(second)?;
    (slope > 0.0 && r2 > R2_MIN && late >= slope / 2.0).then_some(Line { process, slope, from, to })
}

/// Slope and how straight.
fn fit(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let count = points.len() as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let sum = |term: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(term).sum::<f64>();
    let xx = sum(&|point| (point.0 - x).powi(2));
    let yy = sum(&|point| (point.1 - y).powi(2));
    let xy = sum(&|point| (point.0 - x) * (point.1 - y));
    (xx > 0.0 && yy > 0.0).then(|| (xy / xx, xy * xy / (xx * yy)))
}

#[cfg(test)]
mod tests {
    use super::fit;
    use crate::doctor::diagnose::diagnose;
    use crate::doctor::fixture::{self, Fixture, severities};
    use crate::doctor::memory::texts::meminfo;
    use crate::doctor::question::Question;
    use crate::model::diagnosis::Severity::{self, Crit, Info, Warn};
    use crate::model::snapshot::process::{Process, Sizes};
    use crate::model::snapshot::{Field, Window};

    const MIB: u64 = 1 << 20;

    /// A process of so many MiB at looks a second apart, so many seconds old, on 10 GB of which so much can be had.
    fn window(sizes: &[u64], age_s: u64, available_kb: u64) -> Window {
        let fixture = Fixture::new(&format!("leak-{age_s}-{available_kb}-{}", sizes.iter().sum::<u64>()));
        fixture.file("proc/meminfo", &meminfo(available_kb, "")).file("proc/uptime", "10000.00 9.0\n");
        let mut window = fixture.window();
        let started = (10_000 - age_s) * 100;
        let process = Process { pid: 77, name: "node".to_owned(), started, ..Process::default() };
        window.to.processes = Field::Known(vec![process]);
        let seen = (0..).zip(sizes.iter().map(|size| size * MIB)).collect();
        window.activity.sizes = vec![Sizes { pid: 77, started, seen }];
        window.activity.at_us = (0..sizes.len() as u64).map(|look| look * 1_000_000).collect();
        window
    }

    #[test]
    fn a_process_that_grows_evenly_is_found() {
        let check = |sizes: &[u64], age_s, available, expected: &[Severity]| {
            let found = fixture::ask(&window(sizes, age_s, available), "mem.leak");
            assert_eq!(severities(&found), expected, "{sizes:?} {age_s}");
        };
        // 40 MiB/s: 8,000,000 kB last three minutes.
        check(&[100, 140, 180, 220, 260], 600, 8_000_000, &[Warn]);
        check(&[100, 140, 180, 220, 260], 5, 8_000_000, &[Warn]);
        // 20 MiB/s last over five minutes: of a compiler that is nothing.
        check(&[100, 120, 140, 160, 180], 5, 8_000_000, &[Info]);
        check(&[100, 120, 140, 160, 180], 600, 8_000_000, &[Warn]);
        check(&[100, 120, 140, 160, 180], 600, 1_900_000, &[Crit]);
        // Filled its cache, works in waves, frees again, stays as it is.
        check(&[100, 300, 310, 311, 311], 600, 8_000_000, &[]);
        check(&[100, 180, 100, 180, 260], 600, 8_000_000, &[]);
        check(&[500, 500, 500, 500, 500], 600, 8_000_000, &[]);
        let found = fixture::ask(&window(&[100, 140, 180, 220, 260], 600, 8_000_000), "mem.leak");
        assert_eq!(
            (found[0].culprits[0].pid, found[0].culprits[0].what.as_str()),
            (Some(77), "+40 MiB/s, now 260 MiB")
        );
    }

    #[test]
    fn a_short_window_is_skipped_with_the_way_out() {
        let question = Question { only: vec!["mem.leak".to_owned()], ..Question::default() };
        let diagnosis = diagnose(&window(&[100, 140, 180], 600, 8_000_000), &question);
        assert_eq!(diagnosis.skipped[0].reason, "needs 5 looks over 3 s: --duration 5s or more");
    }

    #[test]
    fn the_line_is_that_of_least_squares() {
        let (slope, r2) = fit(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]).expect("a line");
        assert!((slope - 2.0).abs() < 1e-9 && (r2 - 1.0).abs() < 1e-9);
        // By hand: slope 1.5, r2 27/28.
        let (slope, r2) = fit(&[(0.0, 0.0), (1.0, 2.0), (2.0, 3.0)]).expect("a line");
        assert!((slope - 1.5).abs() < 1e-9 && (r2 - 27.0 / 28.0).abs() < 1e-9, "{slope} {r2}");
        assert_eq!(fit(&[(0.0, 1.0)]), None);
    }
}
