//! Whether a run of any length costs the same for each task and needs no more memory: a million tasks, which are given in
//! parts, with short runs between the parts. A machine that gets slower in these minutes slows both.

use std::io::Write;
use std::process::Child;
use std::thread::sleep;
use std::time::Duration;

use crate::case::verdict;
use crate::cases::{EACH, apm, folder, lines};
use crate::measure::{self, spread};

const COUNT: usize = 1_000_000;
const PARTS: usize = 20;
/// Tasks of a short run: one for each part.
const SHORT: usize = 5_000;
/// A run whose CPU time has not changed by more than a clock tick in this time has done what there was to do.
const QUIET: Duration = Duration::from_millis(300);

/// Measures, prints and says how many bounds were missed.
pub fn run() -> usize {
    let folder = folder("each-million");
    let mut short = Vec::with_capacity(PARTS);
    let long = measure::run_fed((apm(&folder, &EACH).command)(), |child, input| {
        for part in 0..PARTS {
            short.push(measure::run((apm(&folder, &EACH).command)(), &lines(SHORT)));
            let values = COUNT / PARTS;
            let text: String = (part * values..(part + 1) * values).map(|value| format!("{value}\n")).collect();
            input.write_all(text.as_bytes()).expect("it reads its values");
            wait_until_done(child);
        }
    });
    println!("\n{COUNT} x /bin/true, two at a time, in {PARTS} parts, before each of them a run of {SHORT}\n");
    println!("| | CPU of a task | smallest to largest | RSS |\n|---|---|---|---|");
    let each = short.iter().map(|run| 1e6 * run.cpu / SHORT as f64);
    let (_, low, high) = spread(each.clone());
    let mean = each.sum::<f64>() / PARTS as f64;
    let rss = spread(short.iter().map(|run| run.rss)).0;
    println!("| apm, {SHORT} | {mean:.1} µs | {low:.1}-{high:.1} | {rss:.1} MiB |");
    let long_each = 1e6 * long.cpu / COUNT as f64;
    println!("| apm, {COUNT} | {long_each:.1} µs | | {:.1} MiB |", long.rss);
    let bounds = [("CPU, ratio", long_each / mean, 1.0), ("RSS, MiB", long.rss, 32.0)];
    bounds.into_iter().filter(|(what, value, most)| !verdict(&format!("apm, {COUNT}: {what}"), *value, *most)).count()
}

fn wait_until_done(child: &Child) {
    let mut before = 0;
    loop {
        sleep(QUIET);
        let now = ticks(child);
        if now <= before + 1 {
            return;
        }
        before = now;
    }
}

/// CPU time of a process and the children it has waited for, in ticks of the clock.
fn ticks(child: &Child) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("it runs");
    // After the name, which is in parentheses: utime, stime, cutime and cstime are 14 to 17.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(4).map(|field| field.parse::<u64>().expect("a number")).sum()
}
