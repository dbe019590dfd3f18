//! What a machine said at one moment, as raw counters. A field is there or says why not: absent is not zero. Rates come
//! only from two snapshots. Plain data that is saved, sent and read back elsewhere: no command lines, no environments.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub mod cgroup;
pub mod cpu;
pub mod disk;
pub mod memory;
pub mod net;
pub mod process;
pub mod room;
pub mod system;
pub mod tunables;

/// A value, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field<T> {
    /// It was read.
    Known(T),
    /// It could not be.
    Unavailable(Unavailable),
}

/// What could not be read, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unavailable {
    /// The file or the call.
    pub path: String,
    /// In words.
    pub why: String,
}

impl<T> Default for Field<T> {
    fn default() -> Self {
        Self::unavailable("", "not looked at")
    }
}

impl<T> Field<T> {
    /// A value that is not there.
    pub fn unavailable(path: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Unavailable(Unavailable { path: path.into(), why: why.into() })
    }

    /// The value, or why there is none.
    pub fn get(&self) -> Result<&T, &Unavailable> {
        match self {
            Self::Known(value) => Ok(value),
            Self::Unavailable(unavailable) => Err(unavailable),
        }
    }

    /// The value, if there is one.
    pub fn known(&self) -> Option<&T> {
        self.get().ok()
    }
}

/// Named counters of one file, as the kernel names them.
pub type Counters = BTreeMap<String, u64>;

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
