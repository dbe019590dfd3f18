//! Enters the library and leaves with its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    apm::run(std::env::args_os().collect())
}
