//! A quiet line on a terminal while something takes a time that is known. Elsewhere it is nothing.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::text::number;
use crate::ui::Ui;

/// Shorter than this nobody asks what takes so long.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the line moves.
const TICK: Duration = Duration::from_millis(100);

/// The line; gone with the value.
#[derive(Debug)]
pub(crate) struct Looking {
    bar: Option<ProgressBar>,
    started: Instant,
    length: Duration,
}

impl Looking {
    /// Begins to look for so long.
    pub(crate) fn new(ui: &Ui, length: Duration) -> Self {
        let bar = (length > PATIENCE && ui.draws()).then(|| {
            let bar = ProgressBar::new(length.as_millis() as u64);
            let style = ProgressStyle::with_template("looking for {msg} {bar:24}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            bar.set_message(number::duration(length));
            bar
        });
        Self { bar, started: Instant::now(), length }
    }

    /// Waits so long in pieces with `wait`, which says whether to go on; the line moves meanwhile.
    pub(crate) fn wait(&self, time: Duration, mut wait: impl FnMut(Duration) -> bool) -> bool {
        let Some(bar) = &self.bar else { return wait(time) };
        let end = Instant::now() + time;
        loop {
            bar.set_position(self.started.elapsed().min(self.length).as_millis() as u64);
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            if !wait(left.min(TICK)) {
                return false;
            }
        }
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
