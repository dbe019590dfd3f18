//! How loaded the machine was, whatever the rules say: stalls, what the CPUs did, what the memory holds. For gauges and
//! pictures. What could not be read is not in it.

use crate::model::diagnosis::{Part, Share, Stalled, Vitals};
use crate::model::snapshot::cpu::Ticks;
use crate::model::snapshot::{Counters, Field, Pressure, Stall, Window};

/// The vitals of a window.
pub(crate) fn of(window: &Window) -> Vitals {
    let (from, to) = (&window.from, &window.to);
    let resources = [
        ("cpu", &from.cpu.pressure, &to.cpu.pressure),
        ("memory", &from.memory.pressure, &to.memory.pressure),
        ("io", &from.disk.pressure, &to.disk.pressure),
    ];
    let seconds = window.seconds();
    let pressure = resources.iter().filter_map(|(name, before, now)| stalled(name, before, now, seconds)).collect();
    let cpu = match (from.cpu.stat.known(), to.cpu.stat.known()) {
        (Some(before), Some(now)) => cpu_parts(&before.all, &now.all),
        _ => Vec::new(),
    };
    Vitals { pressure, cpu, memory: to.memory.meminfo.known().map(memory_parts).unwrap_or_default() }
}

fn stalled(resource: &str, before: &Field<Pressure>, now: &Field<Pressure>, seconds: f64) -> Option<Stalled> {
    let now = now.known()?;
    let share = |before: Option<&Stall>, now: &Stall| Share {
        window: before.map(|before| {
            let percent = now.total_us.saturating_sub(before.total_us) as f64 / seconds / 1e4;
            (percent.min(100.0) * 100.0).round() / 100.0
        }),
        avg10: now.avg10,
        avg60: now.avg60,
        avg300: now.avg300,
    };
    let before = before.known();
    Some(Stalled {
        resource: resource.to_owned(),
        some: share(before.map(|before| &before.some), &now.some),
        full: share(before.map(|before| &before.full), &now.full),
    })
}

/// Percent of the time of all CPUs. Time in which a CPU was idle beside a task that waited for a disk is idle.
fn cpu_parts(before: &Ticks, now: &Ticks) -> Vec<Part> {
    let of = |field: fn(&Ticks) -> u64| field(now).saturating_sub(field(before));
    let parts = [
        ("user", of(|ticks| ticks.user)),
        ("nice", of(|ticks| ticks.nice)),
        ("system", of(|ticks| ticks.system)),
        ("irq", of(|ticks| ticks.irq.saturating_add(ticks.softirq))),
        ("steal", of(|ticks| ticks.steal)),
        ("iowait", of(|ticks| ticks.iowait)),
        ("idle", of(|ticks| ticks.idle)),
    ];
    let all = parts.iter().fold(0u64, |sum, (_, ticks)| sum.saturating_add(*ticks));
    if all == 0 {
        return Vec::new();
    }
    let part = |(name, ticks): (&str, u64)| Part {
        name: name.to_owned(),
        value: (1e4 * ticks as f64 / all as f64).round() / 100.0,
    };
    parts.into_iter().map(part).collect()
}

/// Bytes. What /proc/meminfo has no line for is `other`.
fn memory_parts(info: &Counters) -> Vec<Part> {
    let of = |name: &str| info.get(name).copied().unwrap_or_default();
    let sum = |names: &[&str]| names.iter().fold(0u64, |sum, name| sum.saturating_add(of(name)));
    let total = of("MemTotal");
    if total == 0 {
        return Vec::new();
    }
    let mut left = total;
    let mut parts = Vec::new();
    let all = [
        ("programs", of("AnonPages")),
        // `Cached` counts shared memory too, which cannot be dropped.
        ("shared", of("Shmem")),
        ("cache", sum(&["Cached", "Buffers"]).saturating_sub(of("Shmem"))),
        ("kernel caches", of("SReclaimable")),
        ("kernel", sum(&["SUnreclaim", "KernelStack", "PageTables"])),
        ("huge pages", of("Hugetlb")),
        ("free", of("MemFree")),
    ];
    for (name, bytes) in all {
        let bytes = bytes.min(left);
        left -= bytes;
        parts.push(Part { name: name.to_owned(), value: bytes as f64 });
    }
    parts.insert(parts.len() - 1, Part { name: "other".to_owned(), value: left as f64 });
    parts
}

#[cfg(test)]
mod tests {
    use super::of;
    use crate::doctor::fixture::Fixture;
    use crate::model::snapshot::{Snapshot, Window};

    #[test]
    fn parts_add_up_and_stalls_are_of_the_window() {
        let fixture = Fixture::new("vitals");
        fixture.changing(
            "proc/stat",
            "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 100 0 100 800 0 0 0 0 0 0\nctxt 1\nprocesses 1\nprocs_running 1\n",
            "cpu  150 0 120 910 20 0 0 0 0 0\ncpu0 150 0 120 910 20 0 0 0 0 0\nctxt 1\nprocesses 1\nprocs_running 1\n",
        );
        fixture.file("proc/meminfo", "MemTotal: 1000 kB\nMemFree: 200 kB\nAnonPages: 300 kB\nShmem: 50 kB\nCached: 250 kB\nBuffers: 10 kB\nSReclaimable: 40 kB\nSUnreclaim: 30 kB\n");
        let pressure = |total| {
            format!(
                "some avg10=1.50 avg60=0.25 avg300=0.00 total={total}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
            )
        };
        fixture.changing("proc/pressure/io", &pressure(1_000_000), &pressure(1_500_000));
        let vitals = of(&fixture.window());
        let parts = |parts: &[crate::model::diagnosis::Part]| {
            parts.iter().filter(|part| part.value > 0.0).map(|part| (part.name.clone(), part.value)).collect::<Vec<_>>()
        };
        let named =
            |all: &[(&str, f64)]| all.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect::<Vec<_>>();
        assert_eq!(parts(&vitals.cpu), named(&[("user", 25.0), ("system", 10.0), ("iowait", 10.0), ("idle", 55.0)]));
        let kib =
            |all: &[(&str, f64)]| named(all).into_iter().map(|(name, kib)| (name, kib * 1024.0)).collect::<Vec<_>>();
        let expected = [
            ("programs", 300.0),
            ("shared", 50.0),
            ("cache", 210.0),
            ("kernel caches", 40.0),
            ("kernel", 30.0),
            ("other", 170.0),
            ("free", 200.0),
        ];
        assert_eq!(parts(&vitals.memory), kib(&expected));
        // Half a second of two.
        let names: Vec<&str> = vitals.pressure.iter().map(|stalled| stalled.resource.as_str()).collect();
        assert_eq!(names, ["io"], "what cannot be read is not there");
        assert_eq!((vitals.pressure[0].some.window, vitals.pressure[0].some.avg10), (Some(25.0), 1.5));
    }

    #[test]
    fn one_look_has_no_rates() {
        let fixture = Fixture::new("onelook");
        fixture.file("proc/pressure/io", "some avg10=1.50 avg60=0.25 avg300=0.00 total=5\n");
        let window = Window { from: Snapshot::default(), ..fixture.window() };
        let vitals = of(&window);
        assert_eq!((vitals.cpu.len(), vitals.pressure[0].some.window), (0, None));
    }
}
