//! Progress on a terminal: a bar, what runs and since when, how much is left; failures above it as they happen. Drawn
//! with the tick, not with each event: thousands of tasks a second cost nothing. Times are those of the events, so that
//! events that were recorded long ago, or come late, are shown as they were.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::model::edit::Edit;
use crate::model::event::{Envelope, Event, Next};
use crate::model::id::TaskId;
use crate::report::ReadStored;
use crate::sink::Sink;
use crate::sink::log::{self, Detail};
use crate::text::number;

/// Tasks shown at once; the rest is a number.
const ROWS_MAX: usize = 8;
/// Lines that wait for the next tick. There is none while events come faster than they are shown.
const LINES_MAX: usize = 1_000;

/// The display.
#[derive(Debug)]
pub(crate) struct Progress {
    bars: MultiProgress,
    bar: ProgressBar,
    rows: Vec<ProgressBar>,
    detail: Detail,
    shown: Shown,
    clock: Clock,
    waiting: Vec<String>,
    /// For plain lines: when the last one was written.
    lines: Option<Instant>,
}

/// What is shown: a fold over the events. Holds nothing of tasks that have ended.
#[derive(Debug, Default, PartialEq)]
struct Shown {
    total: u64,
    passed: u64,
    /// Ended otherwise: a resume opens them again.
    others: u64,
    running: BTreeMap<TaskId, Running>,
    /// Why no more tasks are started.
    hold: String,
    /// The time of the last event, once the run has ended.
    end: Option<Duration>,
}

/// A running attempt.
#[derive(Debug, Default, PartialEq)]
struct Running {
    start: Duration,
    /// Since when it is paused.
    paused: Option<Duration>,
    /// How long it was paused before.
    paused_for: Duration,
}

impl Shown {
    fn apply(&mut self, envelope: &Envelope) {
        let t = envelope.t;
        match &envelope.event {
            Event::TasksAdded { tasks, .. } => self.total += tasks.len() as u64,
            Event::AttemptStarted { task, .. } => {
                self.running.insert(task.clone(), Running { start: t, ..Running::default() });
            }
            Event::AttemptPaused { task, .. } => {
                if let Some(running) = self.running.get_mut(task) {
                    running.paused.get_or_insert(t);
                }
            }
            Event::AttemptUnpaused { task, .. } => {
                if let Some(running) = self.running.get_mut(task)
                    && let Some(since) = running.paused.take()
                {
                    running.paused_for += t.saturating_sub(since);
                }
            }
            Event::AttemptFinished(finished) => {
                self.running.remove(&finished.task);
                if let Next::Done { outcome } = &finished.next {
                    self.ended(outcome.is_good());
                }
            }
            Event::TaskEnded { outcome, .. } => self.ended(outcome.is_good()),
            Event::PlanEdited { edit: Edit::PauseRun {}, .. } => {
                self.hold = "the run is paused, `apm run unpause` lets it go on".to_owned();
            }
            Event::PlanEdited { edit: Edit::UnpauseRun {}, .. } => self.hold.clear(),
            Event::AdmissionChanged { reason } => self.hold.clone_from(reason),
            Event::RunResumed { invalidated, .. } => {
                // What ran was killed with its apm.
                self.running.clear();
                self.hold.clear();
                self.others = 0;
                self.passed = self.passed.saturating_sub(invalidated.len() as u64);
                self.end = None;
            }
            Event::RunFinished(_) => self.end = Some(t),
            _ => {}
        }
    }

    fn ended(&mut self, passed: bool) {
        if passed {
            self.passed += 1;
        } else {
            self.others += 1;
        }
    }

    fn done(&self) -> u64 {
        self.passed + self.others
    }

    /// The time the rest takes at the pace so far.
    fn left(&self, now: Duration) -> Option<Duration> {
        let rest = self.total.saturating_sub(self.done());
        if self.done() == 0 || rest == 0 {
            return None;
        }
        let pace = now.as_secs_f64() / self.done() as f64;
        Some(Duration::from_secs_f64((pace * rest as f64).min(1e9)))
    }

    /// One line: how far it is.
    fn line(&self, now: Duration) -> String {
        let paused = self.running.values().filter(|running| running.paused.is_some()).count();
        let paused = if paused > 0 { format!(", {paused} of them paused") } else { String::new() };
        let left = self.left(now).map(|left| format!(", about {} left", number::duration(left))).unwrap_or_default();
        let (running, spent) = (self.running.len(), number::duration(now));
        format!("{}/{} done, {running} running{paused}, {spent}{left}", self.done(), self.total)
    }

    /// What runs and for how long, a line each.
    fn rows(&self, now: Duration) -> Vec<String> {
        let row = |(task, running): (&TaskId, &Running)| {
            let until = running.paused.unwrap_or(now);
            let time = until.saturating_sub(running.start).saturating_sub(running.paused_for);
            let paused = if running.paused.is_some() { " (paused)" } else { "" };
            format!("  {:>7}  {task}{paused}", number::duration(time))
        };
        let mut rows: Vec<String> = self.running.iter().take(ROWS_MAX).map(row).collect();
        if self.running.len() > ROWS_MAX {
            rows.push(format!("  and {} more", self.running.len() - ROWS_MAX));
        }
        rows
    }
}

/// The clock of the run: time since its start, told by the events.
#[derive(Debug)]
struct Clock {
    base: Instant,
    /// How far the run's clock is ahead of the time since `base`, in microseconds. The largest difference counts: an event
    /// may come late, never early.
    ahead_us: Option<i64>,
}

impl Clock {
    fn new(base: Instant) -> Self {
        Self { base, ahead_us: None }
    }

    /// An event of the time `t` came at this moment.
    fn see(&mut self, t: Duration, at: Instant) {
        let ahead = micros(t) - micros(at.saturating_duration_since(self.base));
        self.ahead_us = Some(self.ahead_us.map_or(ahead, |before| before.max(ahead)));
    }

    /// Time since the start of the run.
    fn now(&self, at: Instant) -> Duration {
        let us = self.ahead_us.map_or(0, |ahead| micros(at.saturating_duration_since(self.base)).saturating_add(ahead));
        Duration::from_micros(us.try_into().unwrap_or(0))
    }
}

fn micros(duration: Duration) -> i64 {
    duration.as_micros().try_into().unwrap_or(i64::MAX)
}

impl Progress {
    /// Draws on standard error; as plain lines, one a second, where that is no terminal.
    pub(crate) fn new(detail: Detail, lines: bool) -> Self {
        let bars = MultiProgress::new();
        let bar = bars.add(ProgressBar::new(0));
        let style =
            ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        Self {
            bars,
            bar,
            rows: Vec::new(),
            detail,
            shown: Shown::default(),
            clock: Clock::new(Instant::now()),
            waiting: Vec::new(),
            lines: lines.then(Instant::now),
        }
    }

    fn now(&self) -> Duration {
        self.shown.end.unwrap_or_else(|| self.clock.now(Instant::now()))
    }

    /// Plain lines: what happened, and once a second how far it is.
    fn write_lines(&mut self, written: Instant, last: bool) -> io::Result<()> {
        let mut err = io::stderr().lock();
        for line in self.waiting.drain(..) {
            writeln!(err, "{line}")?;
        }
        if last || written.elapsed() >= Duration::from_secs(1) {
            writeln!(err, "{}", self.shown.line(self.now()))?;
            self.lines = Some(Instant::now());
        }
        Ok(())
    }

    fn draw(&mut self, last: bool) -> io::Result<()> {
        if let Some(written) = self.lines {
            return self.write_lines(written, last);
        }
        if !self.waiting.is_empty() {
            self.bars.println(self.waiting.join("\n"))?;
            self.waiting.clear();
        }
        let now = self.now();
        let mut message = number::duration(now);
        if let Some(left) = self.shown.left(now) {
            message += &format!(", about {} left", number::duration(left));
        }
        if !self.shown.hold.is_empty() {
            message += &format!("; waiting: {}", self.shown.hold);
        }
        self.bar.set_length(self.shown.total);
        self.bar.set_position(self.shown.done());
        self.bar.set_message(message);
        let lines = self.shown.rows(now);
        while self.rows.len() < lines.len() {
            let row = self.bars.add(ProgressBar::new_spinner());
            row.set_style(
                ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            self.rows.push(row);
        }
        while self.rows.len() > lines.len() {
            if let Some(row) = self.rows.pop() {
                row.finish_and_clear();
                self.bars.remove(&row);
            }
        }
        for (row, line) in self.rows.iter().zip(lines) {
            row.set_message(line);
        }
        Ok(())
    }

    fn take(&mut self, envelope: &Envelope) {
        self.shown.apply(envelope);
        self.clock.see(envelope.t, Instant::now());
    }
}

impl Sink for Progress {
    fn name(&self) -> String {
        "progress".to_owned()
    }

    fn event(&mut self, envelope: &Envelope, _read: ReadStored<'_>) -> io::Result<()> {
        self.take(envelope);
        self.waiting.extend(log::line(envelope, self.detail));
        if self.waiting.len() >= LINES_MAX { self.draw(false) } else { Ok(()) }
    }

    /// Counts, but what was said then is not said again.
    fn replay(&mut self, envelope: &Envelope, _read: ReadStored<'_>) -> io::Result<()> {
        self.take(envelope);
        Ok(())
    }

    fn tick(&mut self) -> io::Result<()> {
        self.draw(false)
    }

    fn finish(&mut self, _read: ReadStored<'_>) -> io::Result<()> {
        self.draw(true)?;
        self.bars.clear()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use jiff::Timestamp;

    use super::{Clock, ROWS_MAX, Shown};
    use crate::model::event::{Envelope, Event, Invalidated, VERSION};
    use crate::model::id::TaskId;
    use crate::model::outcome::Outcome;
    use crate::model::task::{Run, Task};
    use crate::sink::sample::{failed, finished};

    fn id(name: &str) -> TaskId {
        TaskId::new(name).expect("an id")
    }

    /// Takes an event at this second.
    fn take(shown: &mut Shown, second: u64, event: Event) {
        let t = Duration::from_secs(second);
        shown.apply(&Envelope { v: VERSION, seq: 0, at: Timestamp::UNIX_EPOCH, t, event });
    }

    fn added(names: &[&str]) -> Event {
        let tasks = names.iter().map(|name| Arc::new(Task::new(id(name), Run::Argv(Vec::new())))).collect();
        Event::TasksAdded { tasks, by: None }
    }

    fn started(name: &str) -> Event {
        Event::AttemptStarted { task: id(name), attempt: 1, slot: Some(0) }
    }

    #[test]
    fn nothing_is_kept_of_tasks_that_have_ended() {
        let mut shown = Shown::default();
        for n in 0..200_000 {
            let name = n.to_string();
            take(&mut shown, n, added(&[&name]));
            take(&mut shown, n, started(&name));
            take(&mut shown, n + 1, finished(&id(&name), Outcome::Passed));
        }
        assert_eq!(shown, Shown { total: 200_000, passed: 200_000, ..Shown::default() });
    }

    #[test]
    fn the_time_of_a_paused_task_stands_still() {
        let mut shown = Shown::default();
        let rows = |shown: &Shown, second| shown.rows(Duration::from_secs(second)).join("\n");
        take(&mut shown, 0, added(&["a"]));
        take(&mut shown, 10, started("a"));
        assert_eq!(rows(&shown, 15), "     5.0s  a");
        take(&mut shown, 20, Event::AttemptPaused { task: id("a"), attempt: 1 });
        assert_eq!(rows(&shown, 50), "    10.0s  a (paused)");
        assert_eq!(shown.line(Duration::from_secs(50)), "0/1 done, 1 running, 1 of them paused, 50.0s");
        take(&mut shown, 60, Event::AttemptUnpaused { task: id("a"), attempt: 1, slot: Some(3) });
        assert_eq!(rows(&shown, 61), "    11.0s  a");
        take(&mut shown, 70, finished(&id("a"), failed()));
        assert_eq!(rows(&shown, 71), "");
        for n in 0..ROWS_MAX + 2 {
            take(&mut shown, 71, started(&n.to_string()));
        }
        assert!(rows(&shown, 72).ends_with("\n  and 2 more"));
    }

    /// Failures of an earlier part were counted as done, and what ran when apm was killed ran for ever.
    #[test]
    fn a_resume_opens_what_did_not_pass() {
        let mut shown = Shown::default();
        take(&mut shown, 0, added(&["a", "b", "c", "d"]));
        for name in ["a", "b", "c", "d"] {
            take(&mut shown, 0, started(name));
        }
        take(&mut shown, 10, finished(&id("a"), Outcome::Passed));
        take(&mut shown, 10, finished(&id("b"), Outcome::Passed));
        take(&mut shown, 10, finished(&id("c"), failed()));
        assert_eq!(shown.line(Duration::from_secs(12)), "3/4 done, 1 running, 12.0s, about 4.0s left");
        let invalidated = vec![Invalidated { task: id("b"), reason: String::new() }];
        take(&mut shown, 20, Event::RunResumed { apm: String::new(), invalidated, terms: None });
        assert_eq!(shown.line(Duration::from_secs(20)), "1/4 done, 0 running, 20.0s, about 1m 0s left");
    }

    #[test]
    fn the_clock_goes_by_the_events_however_late_they_come() {
        let base = Instant::now();
        let second = Duration::from_secs;
        // Live: the run starts a second after the display was made; one event is three seconds late.
        let mut clock = Clock::new(base);
        assert_eq!(clock.now(base + second(9)), second(0));
        clock.see(second(0), base + second(1));
        clock.see(second(2), base + second(6));
        assert_eq!(clock.now(base + second(6)), second(5));
        // Recorded: an hour of events comes at once, then goes on.
        let mut clock = Clock::new(base);
        (0..=3600).for_each(|t| clock.see(second(t), base));
        assert_eq!(clock.now(base + second(5)), second(3605));
    }
}
