//! `apm profile`: records, names what was recorded, and writes it. A command that is profiled has apm's terminal and its
//! streams, and its exit code or signal becomes apm's.

mod target;
mod write;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use self::target::{Ended, Target};
use crate::cli::profile::{Cpu, Profile};
use crate::command::Context;
use crate::command::failure::{Exit, Failure};
use crate::model::unit::{Bytes, parse_duration};
use crate::profile::outcome::{self, About};
use crate::profile::record::ladder::{self, FREQUENCY_MAX, Refusal, Wish};
use crate::profile::session::Session;
use crate::sys::perf::Callers;
use crate::sys::signal::Held;

/// Samples a second of a command, and of a process that runs, perhaps for long. Odd numbers: what happens every
/// hundredth of a second is not always seen at the same moment.
const FREQUENCY: u64 = 999;
const FREQUENCY_LONG: u64 = 99;
/// Least and most of a stack that is copied: the kernel counts the size of a sample in 16 bits.
const STACK_MIN: u64 = 512;
const STACK_MAX: u64 = 65_000;
/// Longest recording.
const DURATION_MAX: Duration = Duration::from_secs(7 * 86_400);

/// `apm profile ...`
pub(crate) fn main(context: &Context, words: &Profile) -> Result<Exit, Failure> {
    match words {
        Profile::Cpu(words) => cpu(context, words),
    }
}

fn cpu(context: &Context, words: &Cpu) -> Result<Exit, Failure> {
    let wish = wish(words)?;
    let duration = duration(words)?;
    let folder = write::Folder::create(context, words.output.as_deref())?;
    // From here on Ctrl-C ends the recording and not apm.
    let held = Held::with_quit();
    let at = jiff::Timestamp::now().to_string();
    let mut target = match words.pid {
        Some(pid) => Target::attach(pid, !words.no_children)?,
        None => Target::start(context, &words.command)?,
    };
    let recording = match ladder::climb(&wish, target.whom()) {
        Ok(recording) => recording,
        Err(refusal) => {
            target.abandon();
            return Err(refused(refusal, words.pid));
        }
    };
    let mut session = Session::new(recording);
    target.go(&mut session)?;
    let ended = target.record(&mut session, &held, duration);
    // A command that goes on is not waited for: its profile is there now.
    let status = if ended == Ended::TimeIsUp { None } else { target.wait(&held)? };
    let recorded = session.finish();
    // Only of a program that was recorded to its end are CPU time and samples about the same.
    let cpu = status.as_ref().filter(|_| ended == Ended::Itself).map(|status| status.cpu);
    let about = About { title: target.title(), at, cpu, rate_asked: wish.frequency };
    let shown = AtomicUsize::new(0);
    let progress = |done: usize, total: usize| {
        // Drawn by whoever comes first with a number: the last one is the total.
        if context.ui.draws() && shown.fetch_max(done, Ordering::Relaxed) < done {
            context.ui.say(&format!("\rapm: names of {done} of {total} files"));
        }
    };
    let profile = outcome::profile(recorded, about, &progress);
    if context.ui.draws() && shown.load(Ordering::Relaxed) > 0 {
        context.ui.say("\r\x1b[K");
    }
    let written = folder.write(context, &profile);
    let status = match status {
        Some(status) => Some(status),
        None => target.wait(&held)?,
    };
    // What the command made of a signal is what counts: apm does not die of one that it has not heard of yet.
    while held.next().is_some() {}
    let command = status.map_or(Exit::Good, |status| status.exit);
    match written {
        Ok(()) => Ok(command),
        Err(failure) if command == Exit::Good => Err(failure),
        // The command's own failure is the more important one; both are said.
        Err(failure) => {
            context.ui.say(&failure.render());
            Ok(command)
        }
    }
}

fn wish(words: &Cpu) -> Result<Wish, Failure> {
    let usual = if words.pid.is_some() { FREQUENCY_LONG } else { FREQUENCY };
    let frequency = words.frequency.unwrap_or(usual);
    if !(1..=FREQUENCY_MAX).contains(&frequency) {
        return Err(
            Failure::usage(anyhow!("--frequency {frequency} is no rate")).hint(format!("from 1 to {FREQUENCY_MAX}"))
        );
    }
    let Bytes(stack) = Bytes::parse(&words.stack).context("--stack").map_err(Failure::usage)?;
    // 64k is what people write.
    let stack = if stack <= 64 << 10 { stack.min(STACK_MAX) } else { stack };
    if !(STACK_MIN..=STACK_MAX).contains(&stack) {
        return Err(Failure::usage(anyhow!("--stack {} is no size of a copy", words.stack)).hint("from 512 to 64k"));
    }
    // The kernel wants words of 8 bytes.
    let callers = if words.fp { Callers::FramePointers } else { Callers::Stack((stack & !7) as u32) };
    Ok(Wish { frequency, callers, kernel: !words.no_kernel, children: !words.no_children, off_cpu: words.off_cpu })
}

fn duration(words: &Cpu) -> Result<Option<Duration>, Failure> {
    let Some(text) = &words.duration else { return Ok(None) };
    let duration = parse_duration(text).context("--duration").map_err(Failure::usage)?;
    if duration.is_zero() || duration > DURATION_MAX {
        return Err(Failure::usage(anyhow!("--duration: {text} is no time to record")).hint("up to 7 days"));
    }
    Ok(Some(duration))
}

fn refused(refusal: Refusal, pid: Option<u32>) -> Failure {
    let what = pid.map_or_else(|| "cannot sample the command".to_owned(), |pid| format!("cannot sample pid {pid}"));
    let tried = match &refusal {
        Refusal::Denied { refused } | Refusal::All { refused } => refused.join("; "),
        _ => String::new(),
    };
    let is_gone = matches!(refusal, Refusal::Gone);
    let is_denied = matches!(refusal, Refusal::Denied { .. });
    let is_files = matches!(refusal, Refusal::Files { .. });
    let mut error = anyhow!("{refusal}");
    if !tried.is_empty() {
        error = anyhow!("{tried}").context(error.to_string());
    }
    let failure = Failure::machine(error.context(what));
    if is_gone {
        return Failure { exit: Exit::Usage, ..failure };
    }
    if is_files {
        return failure.hint("a higher `ulimit -Hn`, or `--no-children`");
    }
    if is_denied && pid.is_some() { failure.hint("a process of another user needs root") } else { failure }
}
