//! Control groups.

use serde::{Deserialize, Serialize};

use super::{Counters, Field, Pressure};

/// Control groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cgroups {
    /// Which hierarchy: `v1`, `v2`, `hybrid`, `none`.
    pub layout: String,
    /// Those looked at. The first are that of apm and its parents, from the inside out.
    pub groups: Vec<Group>,
}

/// A control group. Numbers that mean "no limit" are absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    /// Below the mount: `/system.slice/x.service`.
    pub path: String,
    /// apm itself is in it, directly or below.
    pub is_own: bool,
    /// Limit of memory, bytes.
    pub memory_max: Option<u64>,
    /// Memory that cannot be dropped at once (without inactive file pages), bytes.
    pub memory_used: Field<u64>,
    /// v2 memory.events; v1 `failcnt`, `oom_kill`.
    pub memory_events: Field<Counters>,
    /// CPUs' worth of time it may take.
    pub cpu_quota: Option<f64>,
    /// cpu.stat: `nr_periods`, `nr_throttled`, `throttled_usec`, `usage_usec`.
    pub cpu_stat: Field<Counters>,
    /// Limit of processes and threads.
    pub pids_max: Option<u64>,
    /// Processes and threads.
    pub pids: Field<u64>,
    /// Forks refused (pids.events max).
    pub pids_refused: Option<u64>,
    /// Its memory.pressure, cpu.pressure, io.pressure, where there are such.
    pub memory_pressure: Option<Pressure>,
    /// See `memory_pressure`.
    pub cpu_pressure: Option<Pressure>,
    /// See `memory_pressure`.
    pub io_pressure: Option<Pressure>,
}
