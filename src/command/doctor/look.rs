//! Where the window comes from: this machine, a folder with the files of one, a saved look.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use super::saved;
use crate::cli::doctor::Doctor;
use crate::command::Context;
use crate::command::failure::Failure;
use crate::model::snapshot::{Snapshot, Window};
use crate::model::unit::parse_duration;
use crate::probe::Roots;
use crate::probe::collect::{self, Own};
use crate::sys::process;
use crate::sys::signal::Held;
use crate::text::number;
use crate::ui::looking::Looking;

/// The window of `--quick`.
const QUICK: Duration = Duration::from_millis(500);
/// Shortest and longest window: below it a rate is noise, above it somebody mistook the unit.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(86_400);

/// What was seen.
pub(crate) struct Looked {
    pub(crate) window: Window,
    /// The signal that ended the window early.
    pub(crate) interrupted_by: Option<i32>,
}

/// Looks where the command line says.
pub(crate) fn look(context: &Context, words: &Doctor, usual: Duration) -> Result<Looked, Failure> {
    if let Some(file) = &words.from {
        let window = saved::read(&context.environment.cwd.join(file)).map_err(|(why, hint)| {
            let failure = Failure::usage(anyhow!("--from `{}`: {why}", file.display()));
            if hint.is_empty() { failure } else { failure.hint(hint) }
        })?;
        return Ok(Looked { window, interrupted_by: None });
    }
    let length = match &words.duration {
        _ if words.quick => QUICK,
        Some(text) => parse_duration(text).context("--duration").map_err(Failure::usage)?,
        None => usual,
    };
    if !(SHORTEST..=LONGEST).contains(&length) {
        let length = number::duration(length);
        return Err(Failure::usage(anyhow!("--duration: {length} is no time to look")).hint("from 50ms to 24h"));
    }
    for root in &words.root {
        check(root)?;
    }
    match words.root.as_slice() {
        [] => Ok(live(context, &Roots::default(), length)),
        [root] if is_live(root) => Ok(live(context, &Roots::below(root), length)),
        [root] => {
            if !context.ui.quiet() {
                context.ui.say(
                    "apm: one look at the files of a machine: rules about rates are skipped\n  hint: give --root twice, before and after\n",
                );
            }
            // A first look without anything: rules that need two then say so, and do not see a growth of nothing.
            Ok(Looked { window: apart(Snapshot::default(), captured(root), length), interrupted_by: None })
        }
        [before, after] => {
            Ok(Looked { window: apart(captured(before), captured(after), length), interrupted_by: None })
        }
        _ => Err(Failure::usage(anyhow!("--root is given more than twice")).hint("once, or before and after")),
    }
}

fn check(root: &Path) -> Result<(), Failure> {
    let shown = root.display();
    std::fs::read_dir(root).with_context(|| format!("open the folder `{shown}` of --root")).map_err(Failure::usage)?;
    if root.join("proc").is_dir() {
        return Ok(());
    }
    Err(Failure::usage(anyhow!("--root `{shown}` has no folder `proc`"))
        .hint("it holds `proc`, `sys` and `etc` as the machine has them below `/`"))
}

/// Whether these are files of a running kernel, which have no length, and not a copy of them.
fn is_live(root: &Path) -> bool {
    let uptime = root.join("proc/uptime");
    std::fs::metadata(&uptime).is_ok_and(|meta| meta.len() == 0)
        && std::fs::read(uptime).is_ok_and(|text| !text.is_empty())
}

fn captured(root: &Path) -> Snapshot {
    // Nobody in there is apm.
    collect::snapshot(&Roots::below(root), Own { pid: 0, uid: process::uid() }, Instant::now())
}

fn apart(mut from: Snapshot, mut to: Snapshot, length: Duration) -> Window {
    (from.at_us, to.at_us) = (0, length.as_micros() as u64);
    Window { from, to, ..Window::default() }
}

fn live(context: &Context, roots: &Roots, length: Duration) -> Looked {
    let own = Own { pid: if roots.is_here { std::process::id() as i32 } else { 0 }, uid: process::uid() };
    let line = Looking::new(&context.ui, length);
    let mut held = Held::new();
    let mut interrupted_by = None;
    let window = collect::window(roots, own, length, |time| {
        line.wait(time, |time| {
            interrupted_by = held.wait(time);
            interrupted_by.is_none()
        })
    });
    drop((line, held));
    if interrupted_by.is_some() && !context.ui.quiet() {
        let took = number::duration(Duration::from_secs_f64(window.seconds()));
        context.ui.say(&format!(
            "apm: interrupted after {took} of {}: what follows is over that time\n",
            number::duration(length)
        ));
    }
    Looked { window, interrupted_by }
}
