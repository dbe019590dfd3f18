//! What this program is when a case starts it again: the physical limit, or a stand-in for a tool.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Milliseconds that a stand-in takes.
pub const STAND_IN_MS: u64 = 200;

/// `PROGRAM limit THREADS COUNT COMMAND [ARG...]`, or any other name than our own: a stand-in.
pub fn entry(words: &[String]) -> Option<ExitCode> {
    let own = words[0].rsplit('/').next().unwrap_or_default();
    if !own.starts_with("bench") {
        std::thread::sleep(Duration::from_millis(STAND_IN_MS));
        // What the tool of this name prints when it finds nothing.
        match own {
            "ruff" | "eslint" | "hadolint" => println!("[]"),
            "shellcheck" => println!("{{\"comments\": []}}"),
            _ => {}
        }
        return Some(ExitCode::SUCCESS);
    }
    if words.get(1).is_none_or(|word| word != "limit") {
        return None;
    }
    let number = |at: usize| words[at].parse::<usize>().expect("a number");
    start_and_wait(number(2), number(3), &words[4..]);
    Some(ExitCode::SUCCESS)
}

/// So many threads start the command so many times: `std` uses posix_spawn, and each thread waits for its own.
fn start_and_wait(threads: usize, count: usize, words: &[String]) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    let mut command = Command::new(&words[0]);
                    command.args(&words[1..]).stdin(Stdio::null()).process_group(0);
                    assert!(command.status().expect("started").success());
                }
            });
        }
    });
}
