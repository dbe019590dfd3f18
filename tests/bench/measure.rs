//! Runs one command to its end and says what it took, its children included.
#![allow(unsafe_code)]

use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Instant;

/// What one run took.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Seconds.
    pub wall: f64,
    /// Seconds of CPU, user and system, of the process and all it waited for.
    pub cpu: f64,
    /// MiB of the largest process among them.
    pub rss: f64,
}

/// Runs a command; its output goes nowhere. Panics if it fails: a contender that breaks measures nothing.
pub fn run(mut command: Command, input: &[u8]) -> Measured {
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    started(command, |child| {
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input).expect("it reads its input");
        }
    })
}

/// Runs a command whose input comes bit by bit.
pub fn run_fed(mut command: Command, feed: impl FnOnce(&Child, &mut ChildStdin)) -> Measured {
    command.stdin(Stdio::piped());
    started(command, |child| {
        let mut stdin = child.stdin.take().expect("a pipe");
        feed(child, &mut stdin);
    })
}

fn started(mut command: Command, feed: impl FnOnce(&mut Child)) -> Measured {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    // A child starts in the memory of its parent, whose highest RSS so far the kernel counts as its own.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let started = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    feed(&mut child);
    let pid = i32::try_from(child.id()).expect("a pid");
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are valid for writes; the child has not been waited for; rusage is plain data.
    let usage = unsafe {
        assert_eq!(libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()), pid);
        usage.assume_init()
    };
    let wall = started.elapsed().as_secs_f64();
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{command:?} ended with status {status}");
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Measured { wall, cpu: seconds(usage.ru_utime) + seconds(usage.ru_stime), rss: usage.ru_maxrss as f64 / 1024.0 }
}

/// The middle one, the smallest and the largest.
pub fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

/// One line about this machine.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let cpu = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("")
        .trim_start_matches(['\t', ':', ' ']);
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo");
    let kib: u64 = memory.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cpus} x {cpu}, {} GiB, Linux {}; {}", kib >> 20, kernel.trim(), load())
}

/// The load averages.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("load {}", text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}
