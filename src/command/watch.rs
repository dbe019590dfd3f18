//! `apm doctor --watch`: looks again and again. It begins as `apm doctor` does, with everything over a window, and says at
//! once what is wrong already. Then, calm, it reads five files each time and everything every ten seconds, or sleeps until
//! the kernel tells of a stall. In trouble it looks at the tasks each time too, and reads everything as often as a fixed
//! share of a CPU allows: who watches a machine that suffers must not add to it. On a terminal a screen, elsewhere one line
//! for each change, after one that says what is watched and how often.

use std::collections::VecDeque;
use std::io::Write as _;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;

use crate::cli::doctor::Format;
use crate::command::context::Context;
use crate::command::failure::{Exit, Failure};
use crate::doctor::question::Question;
use crate::doctor::watch::{Change, Watched};
use crate::doctor::{culprit, diagnose};
use crate::model::diagnosis::{Culprit, Finding, Severity};
use crate::model::snapshot::{Field, Pressure, Snapshot, Window};
use crate::probe::collect::{self, Options, Own};
use crate::probe::looks::Looks;
use crate::probe::{Roots, cpu, field, memory, net, pressure, tasks};
use crate::sys::pressure::Triggers;
use crate::sys::process;
use crate::text::layout::{Layout, Style, pad};
use crate::text::{escape, number, transcript};
use crate::ui::looking::Looking;

/// Between two full looks while all is calm, and at most in trouble. What must be there in two of them to be a fault, such
/// as zombies, is found within twice that time; what is gone sooner may be missed.
const CALM: Duration = Duration::from_secs(10);
/// How long the five files are read after the kernel told of a stall: it may have been a blip, or one of before.
const AWAKE: Duration = Duration::from_secs(3);
/// The first full look after trouble began: until then the window is mostly the calm before it.
const SETTLE: Duration = Duration::from_secs(2);
/// Share of one CPU that full looks may take in trouble. The rest, each second, takes about 0.3 % with 100 processes.
const SHARE: f64 = 0.0015;
/// Stalled share of a second, percent, from which on everything is read.
const DISTURBED: f64 = 5.0;
/// Memory that can be had, percent, below which everything is read.
const SCARCE: f64 = 20.0;
/// Changes kept on the screen.
const CHANGES: usize = 5;
/// Columns of a sparkline.
const SPARKS: usize = 40;

/// What to watch, and how.
pub(crate) struct Watch<'a> {
    pub(crate) context: &'a Context,
    pub(crate) roots: Roots,
    pub(crate) own: Own,
    pub(crate) options: Options,
    pub(crate) question: Question,
    pub(crate) every: Duration,
    /// How long the first look takes.
    pub(crate) window: Duration,
    pub(crate) format: Format,
}

/// The cheap part of a look.
struct Pulse {
    at: Instant,
    cpu: Field<crate::model::snapshot::cpu::Stat>,
    stalls: [Option<Pressure>; 3],
    /// Memory that can be had, percent.
    available: Option<f64>,
}

/// Percent over time, the newest last: CPU in use, memory in use, stalls of CPU, memory, I/O.
#[derive(Default)]
struct History {
    rows: [VecDeque<f64>; 5],
}

const ROWS: [&str; 5] = ["cpu used", "mem used", "cpu stall", "mem stall", "io stall"];

/// Watches until it is ended by a signal, or its reader goes away.
pub(crate) fn main(watch: &Watch<'_>) -> Result<Exit, Failure> {
    let is_screen = watch.format == Format::Text && watch.context.ui.stdout_draws();
    let triggers = if is_screen { None } else { Triggers::set(&watch.roots.proc.join("pressure")).ok() };
    if !is_screen && !announce(watch)? {
        return Ok(Exit::Good);
    }
    let mut watched = Watched::default();
    let mut changes: VecDeque<String> = VecDeque::new();
    let line = Looking::new(&watch.context.ui, watch.window);
    // Ctrl-C ends a watch at once: nothing holds it back.
    let first = collect::window(&watch.roots, watch.own, &watch.options, watch.window, |time| {
        line.wait(time, |time| {
            std::thread::sleep(time);
            true
        })
    });
    drop(line);
    // The origin of its times lies in the past by the time of the second snapshot.
    let now = Instant::now();
    let origin = now.checked_sub(Duration::from_micros(first.to.at_us)).unwrap_or(now);
    if !step(watch, &mut watched, &first, is_screen, &mut changes)? {
        return Ok(Exit::Good);
    }
    let mut last_full = first.to;
    let mut last_pulse = pulse(&watch.roots);
    let mut last_processes = last_full.clone();
    let mut looks = Looks::default();
    let mut history = History::default();
    let mut drawn = 0;
    let mut awake_until = now;
    let mut cadence = Cadence { due: origin.elapsed() + CALM, is_troubled: false };
    loop {
        let is_calm = watched.findings().is_empty();
        match &triggers {
            Some(triggers) if is_calm && Instant::now() >= awake_until => {
                let until_due = cadence.due.saturating_sub(origin.elapsed()).max(Duration::from_millis(1));
                if triggers.wait(until_due).map_err(Failure::machine)? {
                    awake_until = Instant::now() + AWAKE;
                }
            }
            _ => std::thread::sleep(watch.every),
        }
        let now = pulse(&watch.roots);
        let disturbed = history.take(&last_pulse, &now);
        last_pulse = now;
        let is_troubled = disturbed || !is_calm;
        if is_troubled {
            looks.look(&watch.roots, watch.own.pid, &[]);
        }
        if cadence.is_due(origin.elapsed(), is_troubled) {
            let (before, _) = process::own_usage();
            let mut full = collect::snapshot(&watch.roots, watch.own, &watch.options, origin);
            net::owners::find(&watch.roots, &last_full.net, &mut full.net);
            let activity = std::mem::take(&mut looks).finish();
            let from = std::mem::replace(&mut last_full, full.clone());
            let window = Window { from, to: full, observer: watch.own.pid, activity, ..Window::default() };
            if !step(watch, &mut watched, &window, is_screen, &mut changes)? {
                return Ok(Exit::Good);
            }
            let (after, _) = process::own_usage();
            cadence.looked(origin.elapsed(), after.saturating_sub(before));
        }
        if is_screen {
            let processes = processes(watch, origin);
            let window = Window {
                from: std::mem::replace(&mut last_processes, processes.clone()),
                to: processes,
                observer: watch.own.pid,
                ..Window::default()
            };
            let layout = watch.context.ui.stdout_layout();
            let frame = frame(&layout, &history, &busiest(&window), &watched, &changes);
            let frame = transcript::printed(&frame);
            let lines = frame.lines().count();
            let back = if drawn > 0 { format!("\x1b[{drawn}A\x1b[J") } else { String::new() };
            drawn = lines;
            if !watch.context.ui.result((back + &frame).as_bytes()).map_err(Failure::machine)? {
                return Ok(Exit::Good);
            }
        }
    }
}

/// Where there is no screen: that it watches, what it reads how often. False: the reader went away.
fn announce(watch: &Watch<'_>) -> Result<bool, Failure> {
    let every = number::duration(watch.every);
    let (first, all) = (number::duration(watch.window), number::duration(CALM));
    let mut text = match watch.format {
        Format::Text => format!(
            "{} watching until Ctrl-C: everything is read over {first} now, then stalls, CPU and memory every {every}, everything else every {all}",
            jiff::Zoned::now().strftime("%H:%M:%S")
        ),
        _ => escape::json(
            &json!({
                "event": "watching", "at": Timestamp::now().to_string(),
                "every_s": watch.every.as_secs_f64(), "all_every_s": CALM.as_secs_f64(),
            })
            .to_string(),
        ),
    };
    text.push('\n');
    watch.context.ui.print(&text).map_err(Failure::machine)
}

/// Judges a window and tells what has changed. False: the reader went away.
fn step(
    watch: &Watch<'_>,
    watched: &mut Watched,
    window: &Window,
    is_screen: bool,
    changes: &mut VecDeque<String>,
) -> Result<bool, Failure> {
    let diagnosis = diagnose::diagnose(window, &watched.question(&watch.question));
    for (change, finding) in watched.step(&diagnosis) {
        let line = say(change, &finding);
        if !is_screen && !tell(watch, change, &finding, &line)? {
            return Ok(false);
        }
        changes.push_back(line);
        if changes.len() > CHANGES {
            changes.pop_front();
        }
    }
    Ok(true)
}

/// When everything is read.
struct Cadence {
    /// Since the start.
    due: Duration,
    is_troubled: bool,
}

impl Cadence {
    /// Whether it is to be read now. Trouble that begins does not wait.
    fn is_due(&mut self, now: Duration, is_troubled: bool) -> bool {
        let begins = is_troubled && !self.is_troubled;
        self.is_troubled = is_troubled;
        if begins {
            self.due = now + SETTLE;
        }
        begins || now >= self.due
    }

    /// It was read, at the cost of so much CPU time.
    fn looked(&mut self, now: Duration, cost: Duration) {
        if !self.is_troubled {
            self.due = now + CALM;
        } else if now >= self.due {
            self.due = now + cost.div_f64(SHARE).clamp(SETTLE, CALM);
        }
    }
}

fn pulse(roots: &Roots) -> Pulse {
    let stall = |name: &str| field(&roots.proc.join("pressure").join(name), pressure).known().copied();
    let memory = memory::meminfo_of(roots);
    let available = memory.known().and_then(|info| {
        let (available, total) = (*info.get("MemAvailable")?, *info.get("MemTotal")?);
        Some(100.0 * available as f64 / (total as f64).max(1.0))
    });
    let stalls = [stall("cpu"), stall("memory"), stall("io")];
    Pulse { at: Instant::now(), cpu: cpu::stat_of(roots), stalls, available }
}

/// Processes without what costs more than one file each.
fn processes(watch: &Watch<'_>, origin: Instant) -> Snapshot {
    let at_us = origin.elapsed().as_micros() as u64;
    Snapshot { at_us, processes: tasks::list(&watch.roots), ..Snapshot::default() }
}

impl History {
    /// Takes the time between two pulses. True: something is the matter.
    fn take(&mut self, from: &Pulse, to: &Pulse) -> bool {
        let seconds = to.at.duration_since(from.at).as_secs_f64().max(1e-3);
        let used = from.cpu.known().zip(to.cpu.known()).map(|(from, to)| {
            let all = to.all.sum().saturating_sub(from.all.sum()).max(1);
            100.0 * to.all.busy().saturating_sub(from.all.busy()) as f64 / all as f64
        });
        let stall = |at: usize| {
            let (from, to) = (from.stalls[at]?, to.stalls[at]?);
            // A stall that began before is counted whole when it ends.
            Some((to.some.total_us.saturating_sub(from.some.total_us) as f64 / 1e4 / seconds).min(100.0))
        };
        let stalls = [stall(0), stall(1), stall(2)];
        let values = [used, to.available.map(|left| 100.0 - left), stalls[0], stalls[1], stalls[2]];
        for (row, value) in self.rows.iter_mut().zip(values) {
            row.push_back(value.unwrap_or(f64::NAN));
            if row.len() > SPARKS {
                row.pop_front();
            }
        }
        // A CPU that tasks wait for is what a busy machine looks like: a full look decides.
        stalls.iter().flatten().any(|stall| *stall > DISTURBED) || to.available.is_some_and(|left| left < SCARCE)
    }
}

/// The busiest processes, then the largest.
fn busiest(window: &Window) -> Vec<Culprit> {
    let mut top = culprit::by_cpu(window);
    top.extend(culprit::by_memory(window, 0).into_iter().map(|(_, culprit)| culprit));
    top
}

/// `15:04:05 raised WARN mem.psi: ...; by ...; do: ...`
fn say(change: Change, finding: &Finding) -> String {
    let at = jiff::Zoned::now().strftime("%H:%M:%S");
    let word = match change {
        Change::Raised => "raised",
        Change::Changed => "changed",
        Change::Cleared => "cleared",
    };
    let level = match finding.severity {
        Severity::Crit => "CRIT",
        Severity::Warn => "WARN",
        Severity::Info => "INFO",
    };
    let mut line = format!("{at} {word} {level} {}: {}", finding.rule, finding.title);
    if change != Change::Cleared {
        if let Some(culprit) = finding.culprits.first() {
            let pid = culprit.pid.map(|pid| format!("[{pid}]")).unwrap_or_default();
            line += &format!("; by {}{pid} {}", culprit.name, culprit.what);
        }
        if let Some(remedy) = finding.remedies.first() {
            let command = remedy.command.as_deref().map(|command| format!(": {command}")).unwrap_or_default();
            line += &format!("; do {}{command}", remedy.text);
        }
    }
    transcript::line(&line)
}

/// Writes a change where there is no screen. False: the reader went away.
fn tell(watch: &Watch<'_>, change: Change, finding: &Finding, line: &str) -> Result<bool, Failure> {
    let mut text = if watch.format == Format::Text {
        line.to_owned()
    } else {
        let event = json!({ "event": change, "at": Timestamp::now().to_string(), "finding": finding });
        escape::json(&serde_json::to_string(&event).map_err(Failure::machine)?)
    };
    text.push('\n');
    watch.context.ui.print(&text).map_err(Failure::machine)
}

fn frame(layout: &Layout, history: &History, top: &[Culprit], watched: &Watched, changes: &VecDeque<String>) -> String {
    let mut out = Vec::new();
    let findings = watched.findings();
    let of = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let at = jiff::Zoned::now().strftime("%H:%M:%S");
    let (word, style) = match (of(Severity::Crit), of(Severity::Warn)) {
        (0, 0) => ("OK".to_owned(), Style::Good),
        (0, warn) => (number::count(warn as u64, "warning"), Style::Warn),
        (crit, 0) => (format!("{crit} critical"), Style::Bad),
        (crit, warn) => (format!("{crit} critical, {}", number::count(warn as u64, "warning")), Style::Bad),
    };
    let all = number::duration(CALM);
    let _ = writeln!(out, "{}  {at}  (all is read every {all}; Ctrl-C ends)", layout.paint(style, &word));
    for (name, row) in ROWS.iter().zip(&history.rows) {
        let now = row.back().copied().filter(|value| value.is_finite());
        let now = now.map_or_else(|| "   ?".to_owned(), |value| format!("{value:>3.0}%"));
        let room = layout.width.saturating_sub(16).min(SPARKS);
        let _ = writeln!(out, "{name:<9} {now} {}", sparks(row, room, layout.unicode));
    }
    for culprit in top {
        let pid = culprit.pid.map(|pid| pid.to_string()).unwrap_or_default();
        let line = format!("{pid:>8} {:<16} {}", transcript::line(&culprit.name), culprit.what);
        let _ = writeln!(out, "{}", layout.cut(&line, layout.width));
    }
    for finding in findings {
        let style = if finding.severity == Severity::Crit { Style::Bad } else { Style::Warn };
        let level = if finding.severity == Severity::Crit { "CRIT" } else { "WARN" };
        let text = transcript::line(&format!("{}: {}", finding.rule, finding.title));
        let room = layout.width.saturating_sub(5);
        let _ = writeln!(out, "{} {}", layout.paint(style, &pad(level, 4)), layout.cut(&text, room));
        if let Some(culprit) = finding.culprits.first() {
            let pid = culprit.pid.map(|pid| format!("[{pid}]")).unwrap_or_default();
            let text = transcript::line(&format!("     by {}{pid} {}", culprit.name, culprit.what));
            let _ = writeln!(out, "{}", layout.cut(&text, layout.width));
        }
    }
    for change in changes {
        let _ = writeln!(out, "{}", layout.paint(Style::Dim, &layout.cut(change, layout.width)));
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A row of bars from 0 to 100 percent, the newest at the right.
fn sparks(row: &VecDeque<f64>, room: usize, unicode: bool) -> String {
    let bars: Vec<char> =
        if unicode { "▁▂▃▄▅▆▇█".chars().collect() } else { "_.-~=+*#".chars().collect() };
    let bar = |value: &f64| {
        if !value.is_finite() {
            return '?';
        }
        let step = (value.clamp(0.0, 100.0) / 100.0 * (bars.len() - 1) as f64).round();
        bars[(step as usize).min(bars.len() - 1)]
    };
    row.iter().skip(row.len().saturating_sub(room)).map(bar).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use super::{Cadence, sparks};

    #[test]
    fn everything_is_read_when_trouble_begins_and_then_as_often_as_its_cost_allows() {
        let mut cadence = Cadence { due: Duration::from_secs(10), is_troubled: false };
        // Seconds in which everything is read, each time for so many milliseconds; trouble from second 4 to 30.
        let mut read = |cost: u64, seconds: std::ops::Range<u64>| -> Vec<u64> {
            let mut is_read = |second: &u64| {
                let now = Duration::from_secs(*second);
                let is_due = cadence.is_due(now, (4..30).contains(second));
                if is_due {
                    cadence.looked(now, Duration::from_millis(cost));
                }
                is_due
            };
            seconds.filter(|second| is_read(second)).collect()
        };
        assert_eq!(read(1, 0..10), [4, 6, 8]);
        assert_eq!(read(6, 10..20), [10, 14, 18]);
        assert_eq!(read(500, 20..26), [22]);
        assert_eq!(read(1, 26..60), [32, 42, 52]);
    }

    #[test]
    fn sparks_show_the_newest_and_say_what_is_unknown() {
        let row: VecDeque<f64> = [0.0, 50.0, 100.0, f64::NAN, 250.0].into();
        assert_eq!(sparks(&row, 9, true), "▁▅█?█");
        assert_eq!(sparks(&row, 3, false), "#?#");
    }
}
