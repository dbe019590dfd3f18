//! A case: contenders that do the same work, the first of them the one the others are compared with.

use std::process::Command;

use crate::measure::{self, Measured, spread};

/// Someone who does the work.
pub struct Contender {
    pub name: String,
    pub command: Box<dyn Fn() -> Command>,
    pub input: Vec<u8>,
    /// How many times smaller than the others' its work is, where the whole would take minutes.
    pub share: f64,
}

impl Contender {
    pub fn new(name: &str, command: impl Fn() -> Command + 'static) -> Self {
        Self { name: name.to_owned(), command: Box::new(command), input: Vec::new(), share: 1.0 }
    }

    pub fn input(self, input: impl Into<Vec<u8>>) -> Self {
        Self { input: input.into(), ..self }
    }

    pub fn share(self, share: f64) -> Self {
        Self { share, ..self }
    }

    /// Keeps `what` until this contender is dropped.
    pub fn beside(self, what: impl Sized + 'static) -> Self {
        let command = self.command;
        let kept = move || {
            let _ = &what;
            command()
        };
        Self { command: Box::new(kept), ..self }
    }
}

/// What is bounded.
#[derive(Clone, Copy, PartialEq)]
pub enum Metric {
    /// Wall time over that of the first contender.
    WallRatio,
    /// CPU time over that of the first contender.
    CpuRatio,
    /// Seconds.
    Wall,
    /// Seconds of CPU.
    Cpu,
    /// Seconds over those of the first contender.
    WallOver,
    /// MiB.
    Rss,
}

/// `contender` may be at most `most` in `metric`.
pub struct Bound {
    pub contender: &'static str,
    pub metric: Metric,
    pub most: f64,
}

pub const fn bound(contender: &'static str, metric: Metric, most: f64) -> Bound {
    Bound { contender, metric, most }
}

pub struct Case {
    pub title: String,
    pub rounds: usize,
    pub contenders: Vec<Contender>,
    pub bounds: Vec<Bound>,
}

impl Case {
    /// Measures, prints a table, and says how many bounds were missed.
    pub fn run(&self) -> usize {
        let rounds: Vec<Vec<Measured>> = (0..self.rounds)
            .map(|_| {
                let measured = self.contenders.iter().map(|c| (c, measure::run((c.command)(), &c.input)));
                measured.map(|(c, m)| Measured { wall: m.wall * c.share, cpu: m.cpu * c.share, ..m }).collect()
            })
            .collect();
        let value = |at: usize, metric: Metric| {
            spread(rounds.iter().map(|round| {
                let (this, first) = (round[at], round[0]);
                match metric {
                    Metric::WallRatio => this.wall / first.wall,
                    Metric::CpuRatio => this.cpu / first.cpu,
                    Metric::Wall => this.wall,
                    Metric::Cpu => this.cpu,
                    Metric::WallOver => this.wall - first.wall,
                    Metric::Rss => this.rss,
                }
            }))
        };
        println!("\n{} ({} rounds, median, smallest to largest)\n", self.title, self.rounds);
        println!("| | wall | wall, ratio | CPU | CPU, ratio | RSS |\n|---|---|---|---|---|---|");
        for (at, contender) in self.contenders.iter().enumerate() {
            let ratio = |metric| {
                let (middle, low, high) = value(at, metric);
                format!("{middle:.2} ({low:.2}-{high:.2})")
            };
            println!(
                "| {} | {:.4} s | {} | {:.4} s | {} | {:.1} MiB |",
                contender.name,
                value(at, Metric::Wall).0,
                ratio(Metric::WallRatio),
                value(at, Metric::Cpu).0,
                ratio(Metric::CpuRatio),
                value(at, Metric::Rss).0,
            );
        }
        let mut missed = 0;
        for bound in &self.bounds {
            let at = self.contenders.iter().position(|contender| contender.name == bound.contender);
            let (middle, ..) = value(at.expect("a bound names a contender"), bound.metric);
            let what = match bound.metric {
                Metric::WallRatio => "wall, ratio",
                Metric::CpuRatio => "CPU, ratio",
                Metric::Wall => "wall, s",
                Metric::Cpu => "CPU, s",
                Metric::WallOver => "wall over the first, s",
                Metric::Rss => "RSS, MiB",
            };
            missed += usize::from(!verdict(&format!("{}: {what}", bound.contender), middle, bound.most));
        }
        missed
    }
}

/// Prints whether a bound is met.
pub fn verdict(what: &str, value: f64, most: f64) -> bool {
    let met = value <= most;
    println!("{} {what} {value:.3}, at most {most}", if met { "met   " } else { "MISSED" });
    met
}
