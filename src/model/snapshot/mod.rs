//! What a machine said at one moment, as raw counters. A field is there or says why not: absent is not zero. Rates come
//! only from two snapshots. Plain data that is saved, sent and read back elsewhere: no command lines, no environments.

use serde::{Deserialize, Serialize};

pub mod cgroup;
pub mod cpu;
pub mod disk;
pub mod field;
pub mod memory;
pub mod net;
pub mod pressure;
pub mod process;
pub mod room;
pub mod system;
pub mod tunables;

pub use field::{Counters, Field, Unavailable};
pub use pressure::{Pressure, Stall};

/// A machine at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// Time since an arbitrary moment, the same for both snapshots of a window. Microseconds.
    pub at_us: u64,
    /// Kernel, clock, limits of the whole system.
    pub system: system::System,
    /// Memory.
    pub memory: memory::Memory,
    /// CPUs.
    pub cpu: cpu::Cpu,
    /// Disks and file systems.
    pub disk: disk::Disk,
    /// Network.
    pub net: net::Net,
    /// Room for agents.
    pub room: room::Room,
    /// The size of the machine.
    pub hardware: room::Hardware,
    /// Control groups: that of apm, its parents, and those with limits or stalls.
    pub cgroups: cgroup::Cgroups,
    /// Processes.
    pub processes: Field<Vec<process::Process>>,
}

/// Two snapshots, and what tasks did in between.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Window {
    /// The first.
    pub from: Snapshot,
    /// The second.
    pub to: Snapshot,
    /// The process that looked: no culprit.
    pub observer: i32,
    /// Processes asked about, the one named first.
    pub focus: Vec<i32>,
    /// Tasks seen running or in uninterruptible sleep, in looks spread over the window.
    pub activity: process::Activity,
}

impl Window {
    /// Its length in seconds; never zero.
    pub fn seconds(&self) -> f64 {
        (self.to.at_us.saturating_sub(self.from.at_us).max(1)) as f64 / 1e6
    }
}
