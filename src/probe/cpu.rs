//! CPUs: /proc/stat, load, pressure.

use crate::model::snapshot::Field;
use crate::model::snapshot::cpu::{Cpu, Stat, Ticks};
use crate::probe::{Roots, field, pressure};

/// Reads it.
pub(crate) fn read(roots: &Roots) -> Cpu {
    Cpu {
        stat: stat_of(roots),
        load: field(&roots.proc.join("loadavg"), load),
        pressure: field(&roots.proc.join("pressure/cpu"), pressure),
        affinity: roots.call("sched_getaffinity", || std::thread::available_parallelism().map(|n| n.get() as u32)),
    }
}

/// /proc/stat alone.
pub(crate) fn stat_of(roots: &Roots) -> Field<Stat> {
    field(&roots.proc.join("stat"), stat)
}

fn load(text: &str) -> Option<[f64; 3]> {
    let mut words = text.split_ascii_whitespace().map(|word| word.parse::<f64>().ok().filter(|load| load.is_finite()));
    Some([words.next()??, words.next()??, words.next()??])
}

fn stat(text: &str) -> Option<Stat> {
    let mut stat = Stat::default();
    let mut has_all = false;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let name = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        match name {
            "ctxt" => stat.switches = number()?,
            "processes" => stat.forks = number()?,
            "procs_running" => stat.running = number()?,
            _ => {
                let Some(which) = name.strip_prefix("cpu") else { continue };
                let ticks = Ticks {
                    user: number()?,
                    nice: number()?,
                    system: number()?,
                    idle: number()?,
                    // Kernels of long ago end here.
                    iowait: number().unwrap_or_default(),
                    irq: number().unwrap_or_default(),
                    softirq: number().unwrap_or_default(),
                    steal: number().unwrap_or_default(),
                };
                if which.is_empty() {
                    (stat.all, has_all) = (ticks, true);
                } else {
                    stat.each.push((which.parse().ok()?, ticks));
                }
            }
        }
    }
    has_all.then_some(stat)
}
