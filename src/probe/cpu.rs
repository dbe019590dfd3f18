//! CPUs: /proc/stat, load, pressure, interrupts, clock and heat.

use std::collections::BTreeMap;
use std::path::Path;

use crate::model::snapshot::Field;
use crate::model::snapshot::cpu::{Cpu, Frequency, Heat, Softnet, Stat, Ticks};
use crate::probe::{Roots, field, number, pressure, read_text, say};

/// CPUs whose clock is read: on some kernels each takes milliseconds.
const CLOCKS_MAX: usize = 4;
/// CPUs whose heat is read; those of one package tell the same about it.
const HEAT_MAX: usize = 64;
/// Numbers of CPUs that are believed in a list: the kernel's NR_CPUS is at most 8192.
const CPUS_MAX: u32 = 8192;

/// Reads it.
pub(crate) fn read(roots: &Roots) -> Cpu {
    let stat = stat_of(roots);
    let allowed = allowed(roots, stat.known());
    let affinity = match allowed.get() {
        Ok(cpus) => Field::Known(cpus.len() as u32),
        Err(unavailable) => Field::Unavailable(unavailable.clone()),
    };
    Cpu {
        load: field(&roots.proc.join("loadavg"), load),
        tasks: field(&roots.proc.join("loadavg"), |text| Some(tasks(text)?.1)),
        pressure: field(&roots.proc.join("pressure/cpu"), pressure),
        affinity,
        allowed,
        softirqs: field(&roots.proc.join("softirqs"), softirqs),
        softnet: field(&roots.proc.join("net/softnet_stat"), softnet),
        frequency: frequency(&roots.sys.join("devices/system/cpu"), stat.known()),
        heat: heat(&roots.sys.join("devices/system/cpu"), stat.known()),
        stat,
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

/// Tasks that run or wait for a CPU, and all: `3/168`.
pub(crate) fn tasks(text: &str) -> Option<(u64, u64)> {
    let (running, all) = text.split_ascii_whitespace().nth(3)?.split_once('/')?;
    Some((running.parse().ok()?, all.parse().ok()?))
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

/// CPUs apm may run on, those online among them: a set for all times may name some that are not there.
fn allowed(roots: &Roots, stat: Option<&Stat>) -> Field<Vec<u32>> {
    field(&roots.proc.join("self/status"), |text| {
        let mut cpus = cpu_list(text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?)?;
        if let Some(stat) = stat {
            cpus.retain(|cpu| stat.each.iter().any(|(online, _)| online == cpu));
        }
        (!cpus.is_empty()).then_some(cpus)
    })
}

/// CPUs that are online, whether apm may run on them or not.
pub(crate) fn online(roots: &Roots) -> Field<Vec<u32>> {
    field(&roots.sys.join("devices/system/cpu/online"), cpu_list)
}

/// `0-3,8`
fn cpu_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if last >= CPUS_MAX || cpus.len() >= CPUS_MAX as usize {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// The first line names the CPUs; each other one a kind and its count on each.
fn softirqs(text: &str) -> Option<BTreeMap<String, Vec<u64>>> {
    let line = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let counts = rest.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
        Some((name.trim().to_owned(), counts))
    };
    let found: BTreeMap<String, Vec<u64>> = text.lines().skip(1).filter_map(line).collect();
    (!found.is_empty()).then_some(found)
}

/// Hexadecimal columns: packets, dropped, squeezed, ...
fn softnet(text: &str) -> Option<Vec<Softnet>> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace().map(|word| u64::from_str_radix(word, 16).ok());
        Some(Softnet { packets: words.next()??, dropped: words.next()??, squeezed: words.next()?? })
    };
    text.lines().map(line).collect::<Option<Vec<_>>>().filter(|lines| !lines.is_empty())
}

fn numbers(stat: Option<&Stat>) -> impl Iterator<Item = u32> {
    stat.into_iter().flat_map(|stat| stat.each.iter().map(|(cpu, _)| *cpu))
}

fn frequency(folder: &Path, stat: Option<&Stat>) -> Field<Vec<Frequency>> {
    let read = |cpu: u32| {
        let folder = folder.join(format!("cpu{cpu}/cpufreq"));
        Some(Frequency {
            cpu,
            now_khz: number(&folder.join("scaling_cur_freq"))?,
            max_khz: number(&folder.join("cpuinfo_max_freq"))?,
            allowed_khz: number(&folder.join("scaling_max_freq"))?,
            governor: read_text(folder.join("scaling_governor")).unwrap_or_default().trim().to_owned(),
        })
    };
    let found: Vec<Frequency> = numbers(stat).take(CLOCKS_MAX).filter_map(read).collect();
    if found.is_empty() {
        let why =
            folder.join("cpu0/cpufreq").metadata().map_or_else(|error| say(&error), |_| "not understood".to_owned());
        return Field::unavailable(folder.join("cpu0/cpufreq").display().to_string(), why);
    }
    Field::Known(found)
}

fn heat(folder: &Path, stat: Option<&Stat>) -> Field<Vec<Heat>> {
    let read = |cpu: u32| {
        let folder = folder.join(format!("cpu{cpu}/thermal_throttle"));
        Some(Heat {
            cpu,
            core: number(&folder.join("core_throttle_count"))?,
            package: number(&folder.join("package_throttle_count")).unwrap_or_default(),
            core_ms: number(&folder.join("core_throttle_total_time_ms")),
        })
    };
    let found: Vec<Heat> = numbers(stat).take(HEAT_MAX).map_while(read).collect();
    if found.is_empty() {
        let path = folder.join("cpu0/thermal_throttle");
        return Field::unavailable(path.display().to_string(), "not there");
    }
    Field::Known(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{cpu_list, load, softirqs, softnet, stat, tasks};

    /// As Linux 6.18 wrote them on two CPUs.
    const STAT: &str = "cpu  647919 366819 345475 1740237 17199 0 3174 436 0 0\ncpu0 320000 183000 172000 870000 8000 0 1500 200 0 0\ncpu1 327919 183819 173475 870237 9199 0 1674 236 0 0\nintr 123 0 9\nctxt 134157122\nbtime 1764075000\nprocesses 3978854\nprocs_running 3\nprocs_blocked 0\nsoftirq 1 2 3\n";
    const SOFTIRQS: &str = "                    CPU0       CPU1       \n          HI:          0          0\n       TIMER:     453518     490019\n      NET_RX:      16909      19822\n";
    const SOFTNET: &str = "00000036 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000\n000079cb 00000002 00000011 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000001 00000000 00000000\n";

    #[test]
    fn files_are_read_as_the_kernel_writes_them() {
        let read = stat(STAT).expect("a stat file");
        assert_eq!((read.each.len(), read.switches, read.forks, read.running), (2, 134_157_122, 3_978_854, 3));
        assert_eq!((read.all.nice, read.all.steal), (366_819, 436));
        assert_eq!(softirqs(SOFTIRQS).expect("softirqs")["NET_RX"], [16909, 19822]);
        let net = softnet(SOFTNET).expect("softnet");
        assert_eq!((net[1].packets, net[1].dropped, net[1].squeezed), (0x79cb, 2, 17));
        assert_eq!(load("1.63 1.15 1.39 2/103 20982\n"), Some([1.63, 1.15, 1.39]));
        assert_eq!(tasks("1.63 1.15 1.39 2/103 20982\n"), Some((2, 103)));
        assert_eq!(cpu_list("\t0-2,5\n"), Some(vec![0, 1, 2, 5]));
        assert_eq!((cpu_list("0-4294967295"), cpu_list(""), cpu_list("3-1")), (None, None, Some(vec![])));
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in any::<String>(), at in 0usize..400, byte in any::<u8>()) {
            let all = |text: &str| {
                let _ = (stat(text), softirqs(text), softnet(text), load(text), tasks(text), cpu_list(text));
            };
            all(&text);
            for real in [STAT, SOFTIRQS, SOFTNET, "0-3,8"] {
                let mut bytes = real.as_bytes().to_vec();
                let at = at % bytes.len();
                bytes[at] = byte;
                all(&String::from_utf8_lossy(&bytes));
            }
        }
    }
}
