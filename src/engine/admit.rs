//! Admission: whether one more task fits into the machine and under the ceilings of the run. Pure: readings come in.
//!
//! One task is always admitted when nothing runs, whatever the readings: otherwise a run could wait for ever.

use crate::model::unit::{Bytes, Percent};
use crate::probe::machine::Reading;

/// The bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Ceiling for the memory of all trees of the run.
    pub(crate) memory_ceiling: Option<Bytes>,
    /// Share of the machine's memory never admitted against.
    pub(crate) reserve: Percent,
    /// Hold back over this memory pressure. 20 % of the time stalled on memory means the machine thrashes.
    pub(crate) memory_pressure_max: Percent,
    /// Hold back over this CPU use of the machine; absent: never.
    pub(crate) cpu_max: Option<Percent>,
    /// Hold back over this share of memory in use; absent: only the reserve counts.
    pub(crate) memory_max: Option<Percent>,
    /// Hold back over this I/O pressure; absent: never.
    pub(crate) io_max: Option<Percent>,
}

/// What runs, in sums that are kept up to date with each start, sample and end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// For each the larger of expected and measured memory.
    pub(crate) committed: Bytes,
    /// Measured memory.
    pub(crate) measured: Bytes,
}

/// Says why nothing more may start on this machine, whatever it needs.
pub(crate) fn machine_hold(bounds: &Bounds, reading: &Reading) -> Option<String> {
    if let (Some(available), Some(total), Some(max)) = (reading.available, reading.total, bounds.memory_max) {
        let used = 100.0 * (1.0 - available.0 as f64 / (total.0 as f64).max(1.0));
        if used > max.0 {
            return Some(format!("memory: {} in use, threshold {max}", Percent(used)));
        }
    }
    let over = |value: Option<Percent>, max: Option<Percent>| Some((value?, max?)).filter(|(v, m)| v.0 > m.0);
    if let Some((value, max)) = over(reading.memory_pressure, Some(bounds.memory_pressure_max)) {
        return Some(format!("memory pressure: {value} of the time stalled, threshold {max}"));
    }
    if let Some((value, max)) = over(reading.cpu_busy, bounds.cpu_max) {
        return Some(format!("cpu: {value} of the machine busy, threshold {max}"));
    }
    if let Some((value, max)) = over(reading.io_pressure, bounds.io_max) {
        return Some(format!("I/O pressure: {value} of the time stalled, threshold {max}"));
    }
    None
}

/// How much memory there is for one more task; `None` where nothing is known to bound it.
pub(crate) fn memory_free(bounds: &Bounds, reading: &Reading, load: &Load) -> Option<Bytes> {
    let ceiling = bounds.memory_ceiling.map(|ceiling| Bytes(ceiling.0.saturating_sub(load.committed.0)));
    let machine = machine_room(bounds, reading, load).map(|(room, ..)| room);
    ceiling.into_iter().chain(machine).min()
}

fn machine_room(bounds: &Bounds, reading: &Reading, load: &Load) -> Option<(Bytes, Bytes, Bytes, Bytes)> {
    let (available, total) = (reading.available?, reading.total?);
    let reserve = Bytes((total.0 as f64 * bounds.reserve.0 / 100.0) as u64);
    // What runs will still take.
    let to_come = Bytes(load.committed.0.saturating_sub(load.measured.0));
    let room = Bytes(available.0.saturating_sub(reserve.0).saturating_sub(to_come.0));
    Some((room, available, to_come, reserve))
}

/// Why a task that needs so much memory does not fit, for people.
pub(crate) fn memory_lacking(bounds: &Bounds, reading: &Reading, load: &Load, need: Bytes) -> String {
    if let Some(ceiling) = bounds.memory_ceiling
        && load.committed.0.saturating_add(need.0) > ceiling.0
    {
        return format!(
            "memory: {} expected by what runs and {need} by the next task pass the ceiling of {ceiling}",
            load.committed
        );
    }
    match machine_room(bounds, reading, load) {
        Some((_, available, to_come, reserve)) => {
            format!(
                "memory: {available} available, {} still expected, {reserve} kept in reserve",
                Bytes(to_come.0.saturating_add(need.0))
            )
        }
        None => format!("memory: {need} needed"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Bounds, Load, machine_hold, memory_free, memory_lacking};
    use crate::model::unit::{Bytes, Percent};
    use crate::probe::machine::Reading;

    const BOUNDS: Bounds = Bounds {
        memory_ceiling: None,
        reserve: Percent(10.0),
        memory_pressure_max: Percent(20.0),
        cpu_max: None,
        memory_max: None,
        io_max: None,
    };

    fn busy(committed: u64, measured: u64) -> Load {
        Load { committed: Bytes::gib(committed), measured: Bytes::gib(measured) }
    }

    #[test]
    fn the_ceiling_counts_what_running_tasks_will_still_take() {
        let bounds = Bounds { memory_ceiling: Some(Bytes::gib(4)), ..BOUNDS };
        let none = Reading::default();
        assert_eq!(memory_free(&bounds, &none, &busy(3, 1)), Some(Bytes::gib(1)));
        assert_eq!(memory_free(&bounds, &none, &busy(5, 1)), Some(Bytes(0)));
        assert_eq!(
            memory_lacking(&bounds, &none, &busy(4, 1), Bytes::gib(1)),
            "memory: 4 GiB expected by what runs and 1 GiB by the next task pass the ceiling of 4 GiB"
        );
        assert_eq!(memory_free(&BOUNDS, &none, &busy(5, 1)), None);
    }

    #[test]
    fn available_memory_counts_less_the_reserve() {
        let reading = Reading { available: Some(Bytes::gib(6)), total: Some(Bytes::gib(20)), ..Reading::default() };
        assert_eq!(memory_free(&BOUNDS, &reading, &busy(2, 0)), Some(Bytes::gib(2)));
        assert_eq!(
            memory_lacking(&BOUNDS, &reading, &busy(2, 0), Bytes::gib(3)),
            "memory: 6 GiB available, 5 GiB still expected, 2 GiB kept in reserve"
        );
    }

    #[test]
    fn thresholds_hold_only_where_they_are_set() {
        let reading = Reading {
            cpu_busy: Some(Percent(90.0)),
            io_pressure: Some(Percent(50.0)),
            memory_pressure: Some(Percent(5.0)),
            ..Reading::default()
        };
        assert_eq!(machine_hold(&BOUNDS, &reading), None);
        let cpu = Bounds { cpu_max: Some(Percent(80.0)), ..BOUNDS };
        assert_eq!(machine_hold(&cpu, &reading).as_deref(), Some("cpu: 90% of the machine busy, threshold 80%"));
        let io = Bounds { io_max: Some(Percent(40.0)), ..BOUNDS };
        assert!(machine_hold(&io, &reading).is_some());
    }
}
