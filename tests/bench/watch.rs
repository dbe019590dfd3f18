//! What it costs to follow a run with `apm run watch`: the run, and the watcher.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::case::verdict;
use crate::cases::{folder, lines};
use crate::measure::{self, Measured, spread};

const TASKS: usize = 20_000;
const ROUNDS: usize = 7;
/// A watcher that has not ended by itself this long after its run is broken.
const LINGERS: f64 = 5.0;
/// A run that has written nothing by then is broken.
const BEGINS: Duration = Duration::from_secs(10);

/// How a run is watched.
struct Watcher {
    name: &'static str,
    /// `{}` is apm.
    script: &'static str,
}

const WATCHERS: [Watcher; 2] = [
    Watcher { name: "on a terminal", script: "script -qec '{} run watch last' /dev/null" },
    Watcher { name: "--format ndjson", script: "exec {} run watch last --format ndjson" },
];

/// Measures, prints and says how many bounds were missed.
pub fn run() -> usize {
    let folder = folder("watch");
    let mut alone = Vec::new();
    let mut watched: [Vec<(Measured, Measured)>; WATCHERS.len()] = Default::default();
    for _ in 0..ROUNDS {
        alone.push(run_of(&folder, None).0);
        for (watcher, rounds) in WATCHERS.iter().zip(&mut watched) {
            let (run, its) = run_of(&folder, Some(watcher));
            rounds.push((run, its.expect("it was watched")));
        }
    }

    let rate = spread(alone.iter().map(|run| TASKS as f64 / run.wall)).0;
    println!("\nOne `apm run watch` of a run of {TASKS} x /bin/true, two at a time, {rate:.0} a second");
    println!("({ROUNDS} rounds, median, smallest to largest)\n");
    println!("| | wall of the run | wall, ratio | CPU of the run | CPU, ratio | watcher, % of a CPU | its RSS |");
    println!("|---|---|---|---|---|---|---|");
    let (wall, cpu) = (spread(alone.iter().map(|run| run.wall)).0, spread(alone.iter().map(|run| run.cpu)).0);
    println!("| not watched | {wall:.3} s | 1 | {cpu:.3} s | 1 | | |");
    let mut missed = 0;
    for (Watcher { name, .. }, rounds) in WATCHERS.iter().zip(&watched) {
        let over = |value: fn(&Measured) -> f64| {
            spread(rounds.iter().zip(&alone).map(|((run, _), alone)| value(run) / value(alone)))
        };
        let (walls, cpus) = (over(|run| run.wall), over(|run| run.cpu));
        let share = spread(rounds.iter().map(|(run, its)| 100.0 * its.cpu / run.wall));
        println!(
            "| {name} | {:.3} s | {:.3} ({:.3}-{:.3}) | {:.3} s | {:.3} ({:.3}-{:.3}) | {:.2} ({:.2}-{:.2}) | {:.1} MiB |",
            spread(rounds.iter().map(|(run, _)| run.wall)).0,
            walls.0,
            walls.1,
            walls.2,
            spread(rounds.iter().map(|(run, _)| run.cpu)).0,
            cpus.0,
            cpus.1,
            cpus.2,
            share.0,
            share.1,
            share.2,
            spread(rounds.iter().map(|(_, its)| its.rss)).0,
        );
        for (what, value, most) in [
            ("wall of the run, ratio", walls.0, 1.02),
            ("CPU of the run, ratio", cpus.0, 1.02),
            ("watcher, % of a CPU", share.0, 5.0),
        ] {
            missed += usize::from(!verdict(&format!("{name}: {what}"), value, most));
        }
    }
    missed
}

/// What the run took, and who watched it.
fn run_of(folder: &Path, watcher: Option<&Watcher>) -> (Measured, Option<Measured>) {
    let state = folder.join("state");
    let _ = std::fs::remove_dir_all(&state);
    let apm = env!("CARGO_BIN_EXE_apm");
    let mut run = Command::new(apm);
    run.args(["run", "each", "-j2", "/bin/true"]).current_dir(folder).env("APM_STATE_DIR", &state);
    std::thread::scope(|scope| {
        let its = watcher.map(|watcher| {
            let mut sh = Command::new("sh");
            sh.arg("-c").arg(watcher.script.replace("{}", apm)).current_dir(folder).env("APM_STATE_DIR", &state);
            let runs = state.join("runs");
            scope.spawn(move || {
                let begun = Instant::now();
                while !has_a_journal(&runs) {
                    assert!(begun.elapsed() < BEGINS, "the run has no journal");
                    std::thread::sleep(Duration::from_millis(1));
                }
                measure::run(sh, &[])
            })
        });
        let run = measure::run(run, &lines(TASKS));
        let its = its.map(|its| its.join().expect("measured"));
        assert!(its.is_none_or(|its| its.wall < run.wall + LINGERS), "the watcher ends with its run");
        (run, its)
    })
}

fn has_a_journal(runs: &Path) -> bool {
    let Ok(mut entries) = std::fs::read_dir(runs) else { return false };
    entries.any(|run| run.is_ok_and(|run| run.path().join("journal.ndjson").exists()))
}
