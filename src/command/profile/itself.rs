//! `apm profile self`: apm does what the words say, and samples itself meanwhile. Its exit code is that of the words.

use std::ffi::OsString;

use anyhow::{Context as _, anyhow};
use clap::Parser as _;

use super::write;
use crate::cli::Cli;
use crate::cli::profile::Itself as Words;
use crate::command::context::Context;
use crate::command::failure::{Exit, Failure};
use crate::profile::itself::{FREQUENCY_MAX, Itself};

/// `run` is what runs a command line.
pub(super) fn main(context: &Context, words: &Words, run: fn(Vec<OsString>) -> Exit) -> Result<Exit, Failure> {
    if !(1..=FREQUENCY_MAX).contains(&words.frequency) {
        let failure = Failure::usage(anyhow!("--frequency {} is out of range", words.frequency));
        return Err(failure.hint(format!("from 1 to {FREQUENCY_MAX}; `apm profile cpu -- apm ...` can do more")));
    }
    // People copy whole command lines.
    let own: &[OsString] = match words.words.split_first() {
        Some((first, rest)) if first == "apm" => rest,
        _ => &words.words,
    };
    let argv: Vec<OsString> = [OsString::from("apm")].into_iter().chain(own.iter().cloned()).collect();
    if Cli::try_parse_from(&argv).is_err() {
        // Said as everywhere, and nothing was recorded.
        return Ok(run(argv));
    }
    let now = jiff::Timestamp::now();
    let folder = write::Folder::create(context, words.output.as_deref(), now)?;
    let begun = Itself::begin(words.frequency).context("sample apm itself").map_err(Failure::machine)?;
    let title = argv.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let exit = run(argv);
    let profile = begun.finish(title, now.to_string()).context("read the samples").map_err(Failure::machine)?;
    let written = folder.write(&profile);
    folder.say(context, &profile, words.top);
    match written {
        Ok(()) => Ok(exit),
        Err(failure) if exit == Exit::Good => Err(failure),
        Err(failure) => {
            context.ui.say(&failure.render());
            Ok(exit)
        }
    }
}
