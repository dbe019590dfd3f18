//! apm: one static binary that runs checks, plans and agents in parallel with limits.

mod agent;
pub mod cli;
mod command;
mod config;
mod engine;
mod executor;
mod journal;
mod model;
mod probe;
mod report;
mod sink;
mod sys;
mod text;
mod ui;
mod workflow;

/// Runs apm with this command line and says how it went.
pub fn run(argv: Vec<std::ffi::OsString>) -> std::process::ExitCode {
    command::main(argv)
}
