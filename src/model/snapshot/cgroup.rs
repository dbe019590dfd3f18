//! Control groups.

use serde::{Deserialize, Serialize};

use crate::model::snapshot::field::{Counters, Field};
use crate::model::snapshot::pressure::Pressure;

/// Control groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cgroups {
    /// Which hierarchy: `v1`, `v2`, `hybrid`, `none`.
    pub layout: String,
    /// Those looked at. The first are that of apm and its parents, from the inside out; then those of others that have
    /// a limit, a kill or a stall.
    pub groups: Vec<Group>,
    /// There were more groups than are looked at or kept: one that is not here may exist.
    pub is_cut: bool,
}

/// A control group. Numbers that mean "no limit" are absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    /// Below the mount: `/system.slice/x.service`. In v1 the hierarchies of one path are one group.
    pub path: String,
    /// apm itself is in it, directly or below.
    pub is_own: bool,
    /// Where its files are, by what they are about.
    pub folders: Folders,
    /// Limit of memory, bytes.
    pub memory_max: Option<u64>,
    /// From here on it is slowed down (v2 memory.high), bytes.
    pub memory_high: Option<u64>,
    /// Limit of swap (v2), or of memory and swap together (v1), bytes.
    pub swap_max: Option<u64>,
    /// Memory that cannot be dropped at once (without inactive file pages), bytes. Read only where there is a limit.
    pub memory_used: Field<u64>,
    /// Of `memory_used`: pages of files in use, which can be read again. Bytes.
    pub memory_files: Option<u64>,
    /// Of `memory_used`: files on tmpfs and shared memory, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_shared: Option<u64>,
    /// Of `memory_used`: objects of the kernel, page tables, stacks, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_kernel: Option<u64>,
    /// v2 memory.events, which counts the groups below too; v1 `failcnt`, `oom_kill`, which does not.
    pub memory_events: Field<Counters>,
    /// CPUs' worth of time it may take.
    pub cpu_quota: Option<f64>,
    /// cpu.stat: `nr_periods`, `nr_throttled`, `throttled_usec`, `usage_usec`; the same names in v1.
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
    /// Processes in it and below it, the first few hundred. Not those of the root of a machine: that is everybody.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<i32>,
}

/// Folders of a group, as they are mounted; empty where that hierarchy does not have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Folders {
    /// memory.*
    pub memory: String,
    /// cpu.*
    pub cpu: String,
    /// pids.*
    pub pids: String,
    /// *.pressure
    pub pressure: String,
}

impl Cgroups {
    /// The same group in another snapshot.
    pub fn same(&self, other: &Group) -> Option<&Group> {
        self.groups.iter().find(|group| group.path == other.path && group.is_own == other.is_own)
    }
}
