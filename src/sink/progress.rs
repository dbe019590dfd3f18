//! Progress on a terminal: a bar, what runs and since when, how much is left; failures above it as they happen. Drawn
//! with the tick, not with each event: thousands of tasks a second cost nothing.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::model::event::{Envelope, Event, Next};
use crate::model::id::TaskId;
use crate::report::ReadStored;
use crate::sink::Sink;
use crate::sink::log::{self, Detail};
use crate::text::number;

/// Tasks shown at once; the rest is a number.
const ROWS_MAX: usize = 8;

/// The display.
#[derive(Debug)]
pub(crate) struct Progress {
    bars: MultiProgress,
    bar: ProgressBar,
    rows: Vec<ProgressBar>,
    running: BTreeMap<TaskId, Instant>,
    detail: Detail,
    done: u64,
    total: u64,
    started: Instant,
    waiting: Vec<String>,
    hold: String,
    /// For plain lines: when the last one was written.
    lines: Option<Instant>,
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
            running: BTreeMap::new(),
            detail,
            done: 0,
            total: 0,
            started: Instant::now(),
            waiting: Vec::new(),
            hold: String::new(),
            lines: lines.then(Instant::now),
        }
    }

    /// The time the rest takes at the pace so far.
    fn left(&self) -> Option<Duration> {
        let rest = self.total.checked_sub(self.done).filter(|_| self.done > 0)?;
        let pace = self.started.elapsed().as_secs_f64() / self.done as f64;
        Some(Duration::from_secs_f64((pace * rest as f64).min(1e9)))
    }

    /// Plain lines: what happened, and once a second how far it is.
    fn write_lines(&mut self, written: Instant, last: bool) -> io::Result<()> {
        let mut err = io::stderr().lock();
        for line in self.waiting.drain(..) {
            writeln!(err, "{line}")?;
        }
        if last || written.elapsed() >= Duration::from_secs(1) {
            let left = self.left().filter(|_| self.done < self.total);
            let left = left.map(|left| format!(", about {} left", number::duration(left))).unwrap_or_default();
            let running = self.running.len();
            let spent = number::duration(self.started.elapsed());
            writeln!(err, "{}/{} done, {running} running, {spent}{left}", self.done, self.total)?;
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
        let mut message = number::duration(self.started.elapsed());
        if let Some(left) = self.left().filter(|_| self.done < self.total) {
            message += &format!(", about {} left", number::duration(left));
        }
        if !self.hold.is_empty() {
            message += &format!("; waiting: {}", self.hold);
        }
        self.bar.set_length(self.total);
        self.bar.set_position(self.done);
        self.bar.set_message(message);
        let mut lines: Vec<String> = self
            .running
            .iter()
            .take(ROWS_MAX)
            .map(|(task, since)| format!("  {:>7}  {task}", number::duration(since.elapsed())))
            .collect();
        if self.running.len() > ROWS_MAX {
            lines.push(format!("  and {} more", self.running.len() - ROWS_MAX));
        }
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
}

impl Sink for Progress {
    fn name(&self) -> String {
        "progress".to_owned()
    }

    fn event(&mut self, envelope: &Envelope, _read: ReadStored<'_>) -> io::Result<()> {
        match &envelope.event {
            Event::TasksAdded { tasks } => self.total += tasks.len() as u64,
            Event::AttemptStarted { task, .. } => {
                self.running.insert(task.clone(), Instant::now());
            }
            Event::AttemptFinished(finished) => {
                self.running.remove(&finished.task);
                if matches!(finished.next, Next::Done { .. }) {
                    self.done += 1;
                }
            }
            Event::TaskEnded { .. } => self.done += 1,
            Event::AdmissionChanged { reason } => self.hold.clone_from(reason),
            _ => {}
        }
        self.waiting.extend(log::line(envelope, self.detail));
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
