//! Wires the commands: arguments and configuration in, the domain's work, sinks and an exit code out.

mod failure;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the command line.
pub(crate) fn main(_argv: Vec<OsString>) -> ExitCode {
    ExitCode::from(2)
}
