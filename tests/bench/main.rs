//! Every figure of speed and memory that the README quotes: `cargo bench`, or `cargo bench -- spawn graph` for some.
//!
//! Each case runs apm, its peers where they are installed, and the physical limit (threads that do nothing but start
//! processes and wait for them) in turns, round after round, so that a noisy machine disturbs all of them alike; what
//! counts is the ratio within a round. A bound that is missed is said, and the exit code is 1.
//!
//! `cargo bench --profile dist` measures the binary that `install.sh` installs, which is what the README quotes; without it
//! the binary of a plain `cargo build --release` is measured. The first lines say which it was.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is the result")]

mod case;
mod cases;
mod limit;
mod measure;
mod profile;

use std::process::ExitCode;

/// What settings are worth, in a script of its own: what it counts is no time of a command.
const TUNE: &str = "tune";

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().collect();
    if let Some(code) = limit::entry(&words) {
        return code;
    }
    // `cargo bench` adds `--bench`.
    words.retain(|word| !word.starts_with("--"));
    let wanted = &words[1..];
    let all = cases::all();
    let unknown = wanted.iter().find(|name| *name != TUNE && !all.iter().any(|(known, _)| known == name));
    if let Some(name) = unknown {
        let known: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        eprintln!("no case is named `{name}`; there are: {}", known.join(", ") + ", " + TUNE);
        return ExitCode::from(2);
    }
    println!("{}\n{}", measure::machine(), measured_binary());
    let mut missed = 0;
    for (name, case) in all {
        if wanted.is_empty() || wanted.iter().any(|word| word == name) {
            missed += case().run();
        }
    }
    // It changes settings of the machine: only by name.
    if wanted.iter().any(|word| word == TUNE) {
        println!("\n## settings of `apm tune`, before and after\n");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/tune.py");
        let status = std::process::Command::new("python3").args([script, env!("CARGO_BIN_EXE_apm")]).status();
        missed += usize::from(!status.is_ok_and(|status| status.success()));
    }
    println!("\n{}", measure::load());
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Which build of apm is measured: the folder of a build is named after its profile.
fn measured_binary() -> String {
    let path = std::path::Path::new(env!("CARGO_BIN_EXE_apm"));
    let profile = path.parent().and_then(|folder| folder.file_name()).unwrap_or_default().to_string_lossy();
    let size = std::fs::metadata(path).map_or(0, |meta| meta.len());
    format!("apm of profile `{profile}`, {:.1} MB", size as f64 / 1e6)
}
