//! The machine as admission sees it: memory to be had, pressure, CPU in use; and its size, for reports.

use std::sync::Mutex;

use crate::model::event::Host;
use crate::model::unit::{Bytes, Percent};
use crate::probe::{Roots, cpu, field, memory, pressure};

/// What the machine said at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    /// Memory that can be had without swapping.
    pub(crate) available: Option<Bytes>,
    /// All memory.
    pub(crate) total: Option<Bytes>,
    /// Share of the last 10 s in which some task waited for memory.
    pub(crate) memory_pressure: Option<Percent>,
    /// The same for I/O.
    pub(crate) io_pressure: Option<Percent>,
    /// CPU of the whole machine in use since the reading before.
    pub(crate) cpu_busy: Option<Percent>,
}

/// Remembers the counters between two readings.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Busy and all ticks of the last reading.
    ticks: Mutex<Option<(u64, u64)>>,
}

/// Reads the machine.
pub(crate) fn read(roots: &Roots, meter: &Meter) -> Reading {
    let meminfo = memory::meminfo_of(roots);
    let size = |name: &str| meminfo.known()?.get(name).copied().map(Bytes);
    let stalled = |resource: &str| {
        let stalls = field(&roots.proc.join("pressure").join(resource), pressure);
        stalls.known().map(|stalls| Percent(stalls.some.avg10))
    };
    Reading {
        available: size("MemAvailable"),
        total: size("MemTotal"),
        memory_pressure: stalled("memory"),
        io_pressure: stalled("io"),
        cpu_busy: cpu_busy(roots, meter),
    }
}

fn cpu_busy(roots: &Roots, meter: &Meter) -> Option<Percent> {
    let stat = cpu::stat_of(roots);
    let ticks = stat.known()?.all;
    let now = (ticks.busy(), ticks.sum());
    let before = meter.ticks.lock().ok()?.replace(now)?;
    let (busy, all) = (now.0.checked_sub(before.0)?, now.1.checked_sub(before.1)?);
    (all > 0).then(|| Percent(100.0 * busy as f64 / all as f64))
}

/// The size of the machine, for reports.
pub(crate) fn host() -> Host {
    let memory = sysinfo::System::new().map_or(0, |mut system| {
        system.refresh_memory();
        system.total_memory()
    });
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let kernel = sysinfo::System::kernel_version().unwrap_or_default();
    Host { kernel, cpus, memory: Bytes(memory) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Meter, read};
    use crate::model::unit::{Bytes, Percent};
    use crate::probe::Roots;

    #[test]
    fn what_the_kernel_says_is_read_and_what_it_does_not_say_is_absent() {
        let root = std::env::temp_dir().join(format!("apm-machine-{}", std::process::id()));
        fs::create_dir_all(root.join("pressure")).expect("a folder");
        let roots = Roots { proc: root.clone(), ..Roots::default() };
        let meter = Meter::default();
        let nothing = read(&roots, &meter);
        assert_eq!((nothing.available, nothing.cpu_busy, nothing.memory_pressure), (None, None, None));
        fs::write(root.join("meminfo"), "MemTotal: 2048 kB\nMemAvailable:    1024 kB\n").expect("written");
        fs::write(root.join("pressure/memory"), "some avg10=12.50 avg60=1.0 avg300=0 total=5\nfull avg10=1.0\n")
            .expect("written");
        fs::write(root.join("stat"), "cpu  10 0 10 70 10 0 0 0 0 0\ncpu0 1 1 1 1\n").expect("written");
        read(&roots, &meter);
        fs::write(root.join("stat"), "cpu  40 0 20 130 10 0 0 0 0 0\n").expect("written");
        let reading = read(&roots, &meter);
        assert_eq!((reading.available, reading.total), (Some(Bytes(1 << 20)), Some(Bytes(2 << 20))));
        assert_eq!((reading.memory_pressure, reading.io_pressure), (Some(Percent(12.5)), None));
        assert_eq!(reading.cpu_busy, Some(Percent(40.0)));
        fs::remove_dir_all(root).expect("removed");
    }
}
