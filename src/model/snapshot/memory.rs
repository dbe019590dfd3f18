//! Memory.

use serde::{Deserialize, Serialize};

use super::{Counters, Field, Pressure};

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// /proc/meminfo, in bytes (`HugePages_*` are counts).
    pub meminfo: Field<Counters>,
    /// /proc/vmstat.
    pub vmstat: Field<Counters>,
    /// /proc/pressure/memory.
    pub pressure: Field<Pressure>,
}
