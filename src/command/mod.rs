//! Wires the commands: arguments and configuration in, the domain's work, sinks and an exit code out.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command, When};
use crate::command::context::Context;
use crate::command::failure::{EXIT_CODES, Exit, Failure};
use crate::config::environment::Environment;
use crate::profile::symbol;
use crate::sys;
use crate::ui::{self, Ui, Wishes};

mod config;
mod context;
pub(crate) mod doctor;
mod each;
mod execute;
mod failure;
mod finish;
mod follow;
mod input;
mod nested;
mod observer;
mod output;
mod place;
mod plan;
mod profile;
mod qa;
mod recorded;
mod request;
mod resume;
mod run;
mod steer;
mod tune;
mod versions;
mod watch;
mod words;

/// Runs the command line.
pub(crate) fn main(argv: Vec<OsString>) -> ExitCode {
    if let Some(code) = sys::stage::entry(&argv).or_else(|| symbol::worker_entry(&argv)) {
        return exit_code(code);
    }
    // Where even this fails, every later open fails too and says so.
    let _ = sys::spawn::fill_standard_descriptors();
    let exit = match std::panic::catch_unwind(|| parse_and_run(argv)) {
        Ok(exit) => exit,
        // The panic hook has printed what and where.
        Err(_) => Exit::Bug,
    };
    if let Exit::Signal(signal) = exit {
        sys::signal::die_by(signal);
    }
    exit_code(exit.code())
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Address space that a run or a recording needs beside what apm begins with, bytes: for stacks of threads, and what they
/// allocate at first.
const ROOM: u64 = 12 << 20;

/// What every command needs, to understand its command line.
const ROOM_LEAST: u64 = 2 << 20;

/// Where `ulimit -v` leaves too little, an allocation fails at any place, which ends a process without a word.
fn enough_memory(room: u64) -> Result<(), Failure> {
    let limit = sys::limits::get(sys::limits::Resource::AddressSpace).ok().and_then(|limit| limit.soft);
    let needed = limit.and_then(|_| sys::limits::address_space()).unwrap_or(0) + room;
    match limit {
        Some(limit) if limit < needed => {
            let (limit, needed) = (limit >> 10, needed.div_ceil(1 << 10));
            let error = anyhow::anyhow!("{limit} KiB of address space are too little, apm needs {needed} KiB");
            Err(Failure::machine(error).hint(format!("`ulimit -v {needed}` or more")))
        }
        _ => Ok(()),
    }
}

fn parse_and_run(argv: Vec<OsString>) -> Exit {
    if let Err(failure) = enough_memory(ROOM_LEAST) {
        Ui::new(Wishes::default()).say(&failure.render());
        return failure.exit;
    }
    let cli = match Cli::try_parse_from(&argv) {
        Ok(cli) => cli,
        Err(mut error) => {
            if error.use_stderr() {
                words::mend(&mut error, &argv);
                // Arguments are quoted, and may be names of files that others have given.
                let environment = Environment::capture().ok();
                let has = |name: &str| environment.as_ref().and_then(|environment| environment.get(name));
                let (no_color, dumb_terminal) =
                    (has("NO_COLOR").is_some(), has("TERM").is_some_and(|term| term == "dumb"));
                let ui = Ui::new(Wishes { no_color, dumb_terminal, ..Wishes::default() });
                let text = error.render();
                ui.say(&if ui.stderr_layout().colour { text.ansi().to_string() } else { text.to_string() });
                return Exit::Usage;
            }
            let printed = error.print();
            // What was asked for, the version or help, is lost if it was not written.
            let ui = Ui::new(Wishes::default());
            return match printed.and_then(|()| ui.result(b"")) {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    let failure = Failure::machine(anyhow::Error::new(error).context("write to standard output"));
                    ui.say(&failure.render());
                    failure.exit
                }
                _ => Exit::Good,
            };
        }
    };
    let environment = match Environment::capture() {
        Ok(environment) => environment,
        Err(error) => {
            let failure = Failure::machine(anyhow::Error::new(error).context("find the working folder"))
                .hint("it may have been removed; `cd` to one that exists");
            Ui::new(Wishes::default()).say(&failure.render());
            return failure.exit;
        }
    };
    let ui = Ui::new(wishes(&environment, &cli));
    let Cli { global, command } = cli;
    let context = Context { environment, ui, argv, global };
    let result = match command {
        Command::Run(_) | Command::Profile(_) if let Err(failure) = enough_memory(ROOM) => Err(failure),
        Command::Run(run) => run::main(&context, run),
        Command::Doctor(words) => doctor::main(&context, words),
        Command::Tune(words) => tune::main(&context, words),
        Command::Profile(words) => profile::main(&context, &words, parse_and_run),
        Command::Config(words) => config::main(&context, words),
        Command::Help { words } => help(&context, &words),
    };
    match result {
        Ok(exit) => exit,
        Err(failure) => {
            context.ui.say(&failure.render());
            failure.exit
        }
    }
}

fn wishes(environment: &Environment, cli: &Cli) -> Wishes {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| environment.get(name));
    Wishes {
        colour: match cli.global.color {
            When::Auto => None,
            When::Always => Some(true),
            When::Never => Some(false),
        },
        no_color: environment.get("NO_COLOR").is_some(),
        dumb_terminal: environment.get("TERM").is_some_and(|term| term == "dumb"),
        columns: environment.get("COLUMNS").and_then(|columns| columns.to_str()?.parse().ok()),
        utf8: locale.is_some_and(ui::is_utf8_locale),
        quiet: cli.global.quiet,
    }
}

fn help(context: &Context, words: &[String]) -> Result<Exit, Failure> {
    let text = if words.first().is_some_and(|word| word == "exit-codes") {
        EXIT_CODES.to_owned()
    } else {
        let mut command = Cli::command();
        command.build();
        let mut found = &mut command;
        for word in words {
            found = found.find_subcommand_mut(word).ok_or_else(|| {
                Failure::usage(anyhow::anyhow!("there is no command or topic `{word}`"))
                    .hint("`apm help` lists the commands; the topics are: exit-codes")
            })?;
        }
        found.render_long_help().to_string()
    };
    match context.ui.result(text.as_bytes()) {
        Ok(_) => Ok(Exit::Good),
        Err(error) => Err(Failure::machine(error)),
    }
}
