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

/// What runs, in sums.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Load {
    /// Attempts running.
    pub(crate) running: u32,
    /// For each the larger of expected and measured memory.
    pub(crate) committed: Bytes,
    /// Measured memory.
    pub(crate) measured: Bytes,
}

/// Says why one more task that needs `need` has to wait; `None` lets it start.
pub(crate) fn hold(bounds: &Bounds, reading: &Reading, load: &Load, need: Bytes) -> Option<String> {
    if load.running == 0 {
        return None;
    }
    if let Some(ceiling) = bounds.memory_ceiling
        && load.committed.0.saturating_add(need.0) > ceiling.0
    {
        return Some(format!(
            "memory: {} expected by what runs and {need} by the next task pass the ceiling of {ceiling}",
            load.committed
        ));
    }
    if let (Some(available), Some(total)) = (reading.available, reading.total) {
        let reserve = Bytes((total.0 as f64 * bounds.reserve.0 / 100.0) as u64);
        let to_come = load.committed.0.saturating_sub(load.measured.0).saturating_add(need.0);
        if available.0 < reserve.0.saturating_add(to_come) {
            return Some(format!(
                "memory: {available} available, {} still expected, {reserve} kept in reserve",
                Bytes(to_come)
            ));
        }
        let used = 100.0 * (1.0 - available.0 as f64 / (total.0 as f64).max(1.0));
        if let Some(max) = bounds.memory_max
            && used > max.0
        {
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

#[cfg(test)]
mod tests {
    use super::{Bounds, Load, hold};
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

    fn busy(running: u32, committed: u64, measured: u64) -> Load {
        Load { running, committed: Bytes::gib(committed), measured: Bytes::gib(measured) }
    }

    #[test]
    fn the_ceiling_counts_what_running_tasks_will_still_take() {
        let bounds = Bounds { memory_ceiling: Some(Bytes::gib(4)), ..BOUNDS };
        let none = Reading::default();
        assert_eq!(hold(&bounds, &none, &busy(3, 3, 1), Bytes::gib(1)), None);
        let why = hold(&bounds, &none, &busy(4, 4, 1), Bytes::gib(1)).expect("five do not fit");
        assert_eq!(why, "memory: 4 GiB expected by what runs and 1 GiB by the next task pass the ceiling of 4 GiB");
        assert_eq!(hold(&bounds, &none, &busy(0, 0, 0), Bytes::gib(9)), None, "one always starts");
    }

    #[test]
    fn available_memory_counts_less_the_reserve() {
        let reading = |available| Reading {
            available: Some(Bytes::gib(available)),
            total: Some(Bytes::gib(20)),
            ..Reading::default()
        };
        assert_eq!(hold(&BOUNDS, &reading(6), &busy(1, 2, 0), Bytes::gib(2)), None);
        assert!(hold(&BOUNDS, &reading(5), &busy(1, 2, 0), Bytes::gib(2)).is_some());
    }

    #[test]
    fn thresholds_hold_only_where_they_are_set() {
        let reading = Reading {
            cpu_busy: Some(Percent(90.0)),
            io_pressure: Some(Percent(50.0)),
            memory_pressure: Some(Percent(5.0)),
            ..Reading::default()
        };
        assert_eq!(hold(&BOUNDS, &reading, &busy(1, 0, 0), Bytes(0)), None);
        let cpu = Bounds { cpu_max: Some(Percent(80.0)), ..BOUNDS };
        assert_eq!(
            hold(&cpu, &reading, &busy(1, 0, 0), Bytes(0)).as_deref(),
            Some("cpu: 90% of the machine busy, threshold 80%")
        );
        let io = Bounds { io_max: Some(Percent(40.0)), ..BOUNDS };
        assert!(hold(&io, &reading, &busy(1, 0, 0), Bytes(0)).is_some());
    }
}
