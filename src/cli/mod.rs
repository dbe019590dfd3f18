//! The words of the command line and their types, nothing else: no I/O, no defaults that depend on the machine.
//! Help, man pages and completions derive from here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub mod config;
pub mod doctor;
pub mod profile;
pub mod run;
pub mod tune;

/// Run checks, plans and commands in parallel, within limits, with one report
#[derive(Parser, Debug)]
#[command(
    name = "apm",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 good, 1 the work found failures, 2 usage, 3 incomplete, 4 nothing to do, 5 ended early.\n\
                  See `apm help exit-codes`."
)]
pub struct Cli {
    /// Options that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Colour: `auto` follows the terminal and NO_COLOR; `always` also asks the tasks of a run for it
    #[arg(long, value_name = "WHEN", default_value = "auto", global = true)]
    pub color: When,
    /// Print results and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more about what is decided and why
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Read this configuration file too, above the project's
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Set one configuration key, for instance `run.grace_seconds=1`; see `apm config keys`
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    pub set: Vec<String>,
}

/// Yes, no, or as the situation suggests.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// As the situation suggests.
    #[default]
    Auto,
    /// Yes.
    Always,
    /// No.
    Never,
}

/// The commands.
#[derive(Subcommand, Debug)]
#[allow(clippy::large_enum_variant, reason = "one value, made once")]
pub enum Command {
    /// Run a workflow, a plan file or a command for each of many values, in parallel
    Run(run::Run),
    /// Say what is wrong with this machine, who causes it, on what evidence, and what to do
    Doctor(doctor::Doctor),
    /// Say which settings of this machine should be others, and why; write, check, apply and roll them back
    Tune(tune::Tune),
    /// Say where the time of a command or process goes, by function
    #[command(subcommand)]
    Profile(profile::Profile),
    /// Show, check, explain or create the configuration
    #[command(subcommand)]
    Config(config::Config),
    /// Explain a command or a topic: `apm help run qa`, `apm help exit-codes`
    Help {
        /// Words of a command, or a topic: exit-codes
        words: Vec<String>,
    },
}
