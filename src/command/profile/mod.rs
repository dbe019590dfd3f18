//! `apm profile`: records, names what was recorded, and writes it. A command that is profiled has apm's terminal and its
//! streams, and its exit code or signal becomes apm's.

mod beside;
mod itself;
mod record;
mod recorders;
mod refusal;
mod show;
mod target;
mod write;

use std::ffi::OsString;

use anyhow::{Context as _, anyhow};

use self::record::Plan;
use crate::cli::profile::{Profile, Recording, Sampling};
use crate::command::context::Context;
use crate::command::failure::{Exit, Failure};
use crate::model::unit::Bytes;
use crate::profile::record::sampler::{FREQUENCY_MAX, Request, Sampled};
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
/// `apm profile ...`. `run` runs a command line within this process.
pub(crate) fn main(context: &Context, words: &Profile, run: fn(Vec<OsString>) -> Exit) -> Result<Exit, Failure> {
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
                return Err(
                    Failure::usage(anyhow!("--every {} is out of range", words.every)).hint("from 1KiB to 1GiB")
                );
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
        Profile::Itself(words) => itself::main(context, words, run),
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

fn wish(words: &Sampling, recording: &Recording) -> Result<Request, Failure> {
    let usual = if recording.command.is_empty() { FREQUENCY_LONG } else { FREQUENCY };
    let frequency = words.frequency.unwrap_or(usual);
    if !(1..=FREQUENCY_MAX).contains(&frequency) {
        return Err(Failure::usage(anyhow!("--frequency {frequency} is out of range"))
            .hint(format!("from 1 to {FREQUENCY_MAX}")));
    }
    let Bytes(stack) = Bytes::parse(&words.stack).context("--stack").map_err(Failure::usage)?;
    // 64k is what people write.
    let stack = if stack <= 64 << 10 { stack.min(STACK_MAX) } else { stack };
    if !(STACK_MIN..=STACK_MAX).contains(&stack) {
        return Err(Failure::usage(anyhow!("--stack {} is out of range", words.stack)).hint("from 512 to 64k"));
    }
    // The kernel wants words of 8 bytes.
    let callers = if words.fp { Callers::FramePointers } else { Callers::Stack((stack & !7) as u32) };
    let children = !recording.no_children;
    let off_cpu = words.off_cpu || words.wall;
    Ok(Request { sampled: Sampled::Time, frequency, callers, kernel: !words.no_kernel, children, off_cpu })
}
