//! What the engine takes by itself, without processes. Each figure is measured in a process of its own, so that memory and
//! threads are those of that figure alone.

use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use apm::simulate::figures;

use crate::case::verdict;

const ATTEMPTS: u32 = 10_000;
/// What each attempt takes: long enough for all of them to be under way at once.
const TAKES: Duration = Duration::from_secs(2);
const READY: usize = 100_000;
const RUNNING: u32 = 16_000;
const DECISIONS: usize = 2_000;
const TASKS: usize = 1_000_000;
const RANDOM_RUNS: u64 = 2_000;

/// `PROGRAM engine FIGURE` measures one figure and prints its values, separated by spaces.
pub fn entry(words: &[String]) -> Option<ExitCode> {
    let ("engine", figure) = (words.get(1)?.as_str(), words.get(2)?.as_str()) else { return None };
    let values = match figure {
        "attempts" => attempts(),
        "planned" => planned(),
        "decisions" => decisions(),
        "simulation" => simulation(),
        "random" => {
            let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
            let started = Instant::now();
            let held = figures::check_random_runs(seed, RANDOM_RUNS);
            if let Err(law) = &held {
                eprintln!("{law}");
            }
            vec![f64::from(u8::from(held.is_err())), seed as f64, started.elapsed().as_secs_f64()]
        }
        _ => return None,
    };
    println!("{}", values.iter().map(f64::to_string).collect::<Vec<_>>().join(" "));
    Some(ExitCode::SUCCESS)
}

/// Measures all of it, prints it and says how many bounds were missed.
pub fn run() -> usize {
    println!("\nThe engine by itself, each figure in a process of its own\n");
    let mut missed = 0;
    let mut check = |what: &str, value: f64, most: f64| missed += usize::from(!verdict(what, value, most));

    let [passed, wall, threads, rss] = measured("attempts");
    println!("{passed} scripted attempts of {TAKES:?} at once, asynchronous: {wall:.2} s");
    check("attempts: threads", threads, 20.0);
    check("attempts: RSS, MiB", rss, 100.0);

    let [passed, wall, rss] = measured("planned");
    println!("{passed} tasks that a planner adds as others end, 16 at once: {wall:.2} s, {rss:.1} MiB");

    let [median, p95, p99, max] = measured("decisions");
    println!(
        "a decision with {READY} ready and {RUNNING} running, {DECISIONS} times: \
         median {median:.2} µs, p95 {p95:.2}, p99 {p99:.2}, max {max:.2}"
    );
    check("decision: median, µs", median, 5.0);

    let [virtual_time, wall, rss] = measured("simulation");
    println!("{TASKS} simulated tasks of {virtual_time:.0} s in total on {RUNNING} slots: {wall:.2} s, {rss:.1} MiB");
    check("simulation: wall, s", wall, 5.0);

    let [broken, seed, wall] = measured("random");
    println!("the laws of the scheduler in {RANDOM_RUNS} random runs from seed {seed}: {wall:.2} s");
    check("random runs: broken laws", broken, 0.0);
    missed
}

/// Starts this program again for one figure.
fn measured<const N: usize>(figure: &str) -> [f64; N] {
    let mut command = Command::new(std::env::current_exe().expect("our own path"));
    let output = command.args(["engine", figure]).stderr(Stdio::inherit()).output().expect("started");
    assert!(output.status.success(), "`{figure}` ended with {}", output.status);
    let text = String::from_utf8(output.stdout).expect("numbers");
    let values: Vec<f64> = text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    values.try_into().expect("as many values as the figure has")
}

fn attempts() -> Vec<f64> {
    let over = AtomicBool::new(false);
    let started = Instant::now();
    let (passed, threads) = std::thread::scope(|scope| {
        let highest = scope.spawn(|| {
            let mut highest = 0;
            while !over.load(Ordering::Relaxed) {
                highest = highest.max(status("Threads:"));
                std::thread::sleep(Duration::from_millis(5));
            }
            // Without the one that looks.
            highest - 1
        });
        let passed = figures::scripted_attempts(ATTEMPTS, TAKES);
        over.store(true, Ordering::Relaxed);
        (passed, highest.join().expect("it only reads"))
    });
    let wall = started.elapsed();
    assert_eq!(passed, ATTEMPTS as usize, "every attempt passes");
    assert!(wall < 2 * TAKES, "they run at once, not one after the other: {wall:?}");
    vec![passed as f64, wall.as_secs_f64(), threads as f64, rss()]
}

fn planned() -> Vec<f64> {
    let started = Instant::now();
    let passed = figures::planned_attempts(ATTEMPTS as usize);
    assert_eq!(passed, ATTEMPTS as usize, "every attempt passes");
    vec![passed as f64, started.elapsed().as_secs_f64(), rss()]
}

fn decisions() -> Vec<f64> {
    let mut times = figures::decisions(READY, RUNNING, DECISIONS);
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e6;
    vec![at(0.5), at(0.95), at(0.99), at(1.0)]
}

fn simulation() -> Vec<f64> {
    let started = Instant::now();
    let virtual_time = figures::simulate_tasks(TASKS, RUNNING);
    vec![virtual_time.as_secs_f64(), started.elapsed().as_secs_f64(), rss()]
}

/// The highest so far, MiB.
fn rss() -> f64 {
    status("VmHWM:") as f64 / 1024.0
}

/// A number of this process, as the kernel counts it.
fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = text.lines().find_map(|line| line.strip_prefix(key)).expect("a line of every status");
    line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
}
