//! `apm profile`: records, names what was recorded, and writes it. A command that is profiled has apm's terminal and its
//! streams, and its exit code or signal becomes apm's.

mod beside;
mod itself;
mod record;
mod show;
mod target;
mod write;

use std::time::Duration;

use anyhow::{Context as _, anyhow};

use self::record::{Plan, Recorders};
use crate::cli::profile::{Profile, Recording, Sampling};
use crate::command::Context;
use crate::command::failure::{Exit, Failure};
use crate::model;
use crate::model::unit::{Bytes, parse_duration};
use crate::profile::record::sampler::{FREQUENCY_MAX, Refusal, Request, Sampled};
use crate::report::profile::tree::Roots;
use crate::sys::perf::Callers;

/// Samples a second of a command, and of a process that runs, perhaps for long. Odd numbers: what happens every
/// hundredth of a second is not always seen at the same moment.
const FREQUENCY: u64 = 999;
const FREQUENCY_LONG: u64 = 99;
/// Least and most of a stack that is copied: the kernel counts the size of a sample in 16 bits.
const STACK_MIN: u64 = 512;
const STACK_MAX: u64 = 65_000;
/// Least and most bytes between two sampled allocations, and how many where nothing else is said.
const EVERY_MIN: u64 = 1 << 10;
const EVERY_MAX: u64 = 1 << 30;
const HEAP_MEAN: u64 = 512 << 10;
/// Bytes between two stacks of calls.
const CALL_MEAN: u64 = 16 << 10;
/// Longest recording.
const DURATION_MAX: Duration = Duration::from_secs(7 * 86_400);

/// `apm profile ...`
pub(crate) fn main(context: &Context, words: &Profile) -> Result<Exit, Failure> {
    context.has_no_configuration("profile")?;
    match words {
        Profile::Show(words) => show::show(context, words),
        Profile::Diff(words) => show::compare(context, words),
        Profile::Cpu(words) => {
            let wish = wish(&words.sampling, &words.recording)?;
            record::main(
                context,
                &words.recording,
                &Plan { cpu: Some(wish), is_wall: words.sampling.wall, ..Plan::default() },
            )
        }
        Profile::Mem(words) => {
            let Bytes(every) = Bytes::parse(&words.every).context("--every").map_err(Failure::usage)?;
            if !(EVERY_MIN..=EVERY_MAX).contains(&every) {
                return Err(Failure::usage(anyhow!("--every {} is no distance", words.every)).hint("from 1KiB to 1GiB"));
            }
            let plan = Plan { heap: (!words.faults).then_some(every), has_faults: true, ..Plan::default() };
            record::main(context, &words.recording, &plan)
        }
        Profile::Io(words) => {
            let plan = Plan {
                calls: Some(CALL_MEAN),
                has_trace: words.trace,
                kept: &["read", "written", "synced", "waited"],
                has_devices: true,
                ..Plan::default()
            };
            record::main(context, &words.recording, &plan)
        }
        Profile::Net(words) => {
            let plan = Plan {
                calls: Some(CALL_MEAN),
                has_trace: words.trace,
                kept: &["received", "sent"],
                has_connections: true,
                ..Plan::default()
            };
            record::main(context, &words.recording, &plan)
        }
        Profile::Itself(words) => itself::main(context, words),
        Profile::All(words) => {
            let wish = wish(&words.sampling, &words.recording)?;
            let heap = Some(HEAP_MEAN);
            let is_wall = words.sampling.wall;
            let all = Plan { cpu: Some(wish), is_wall, heap, calls: Some(CALL_MEAN), ..Plan::default() };
            let all = Plan { has_trace: words.trace, ..all };
            record::main(context, &words.recording, &Plan { has_devices: true, has_connections: true, ..all })
        }
    }
}

/// Tasks of an apm run stand apart, and processes where there is more than one.
fn roots(profile: &model::profile::Profile) -> Roots {
    let threads = profile.rows.iter().filter_map(|row| profile.threads.get(row.thread? as usize));
    if threads.clone().any(|thread| thread.task.is_some()) {
        return Roots::Task;
    }
    let mut pids = threads.map(|thread| thread.pid);
    let first = pids.next();
    if pids.any(|pid| Some(pid) != first) { Roots::Process } else { Roots::Code }
}

fn wish(words: &Sampling, recording: &Recording) -> Result<Request, Failure> {
    let usual = if recording.command.is_empty() { FREQUENCY_LONG } else { FREQUENCY };
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
    let children = !recording.no_children;
    let off_cpu = words.off_cpu || words.wall;
    Ok(Request { sampled: Sampled::Time, frequency, callers, kernel: !words.no_kernel, children, off_cpu })
}

fn duration(words: &Recording) -> Result<Option<Duration>, Failure> {
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
