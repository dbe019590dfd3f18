//! Pressure stall information: how long tasks waited for a resource.

use serde::{Deserialize, Serialize};

/// Stalls of /proc/pressure/RESOURCE or a control group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Stall,
    /// All tasks waited; zero where the kernel does not say.
    pub full: Stall,
}

/// One line of a pressure file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stall {
    /// Share of the last 10, 60, 300 seconds, percent.
    pub avg10: f64,
    /// See `avg10`.
    pub avg60: f64,
    /// See `avg10`.
    pub avg300: f64,
    /// Time since boot, microseconds.
    pub total_us: u64,
}
