//! Every figure of speed and memory that the README quotes: `cargo bench`, or `cargo bench -- spawn chain` for some.
//! `each-million` takes about half an hour and `tune` changes settings of the machine: they run only where they are named.
//!
//! Each case runs apm, its peers where they are installed, and the physical limit (threads that do nothing but start
//! processes and wait for them) in turns, round after round, so that a noisy machine disturbs all of them alike; what
//! counts is the ratio within a round. A bound that is missed is said, and the exit code is 1.
//!
//! `cargo bench --profile dist` measures the binary that `install.sh` installs, which is what the README quotes; without it
//! the binary of a plain `cargo build --release` is measured. The first lines say which it was.

#![allow(clippy::disallowed_methods, reason = "benchmarks make files of their own")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is the result")]

mod case;
mod cases;
mod engine;
mod limit;
mod measure;
mod million;
mod profile;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().collect();
    if let Some(code) = limit::entry(&words).or_else(|| engine::entry(&words)) {
        return code;
    }
    // `cargo bench` adds `--bench`.
    words.retain(|word| !word.starts_with("--"));
    let wanted = &words[1..];
    let all = cases::all();
    if let Some(name) = wanted.iter().find(|name| !all.iter().any(|case| case.name == **name)) {
        let known: Vec<&str> = all.iter().map(|case| case.name).collect();
        eprintln!("no case is named `{name}`; there are: {}", known.join(", "));
        return ExitCode::from(2);
    }
    println!("{}\n{}", measure::machine(), measured_binary());
    let is_wanted = |case: &cases::Named| match wanted {
        [] => !case.only_by_name,
        _ => wanted.iter().any(|name| name == case.name),
    };
    let missed: usize = all.iter().filter(|case| is_wanted(case)).map(|case| case.run.run()).sum();
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
