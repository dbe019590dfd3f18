//! CPUs.

use serde::{Deserialize, Serialize};

use super::{Field, Pressure};

/// CPUs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// /proc/stat.
    pub stat: Field<Stat>,
    /// /proc/loadavg: over 1, 5 and 15 minutes.
    pub load: Field<[f64; 3]>,
    /// /proc/pressure/cpu.
    pub pressure: Field<Pressure>,
    /// CPUs this process may run on.
    pub affinity: Field<u32>,
}

/// /proc/stat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stat {
    /// All CPUs together.
    pub all: Ticks,
    /// Each CPU that is online, with its number.
    pub each: Vec<(u32, Ticks)>,
    /// Context switches since boot.
    pub switches: u64,
    /// Processes and threads started since boot.
    pub forks: u64,
    /// Tasks running or waiting for a CPU now.
    pub running: u64,
}

/// Time of a CPU in clock ticks (1/100 s) since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ticks {
    /// User, with guests.
    pub user: u64,
    /// User of niced tasks.
    pub nice: u64,
    /// Kernel.
    pub system: u64,
    /// Idle.
    pub idle: u64,
    /// Idle while a task of that CPU waited for I/O: not a sign of anything by itself.
    pub iowait: u64,
    /// Interrupts.
    pub irq: u64,
    /// Soft interrupts.
    pub softirq: u64,
    /// Taken by the hypervisor.
    pub steal: u64,
}

impl Ticks {
    /// All of them.
    pub fn sum(&self) -> u64 {
        [self.user, self.nice, self.system, self.idle, self.iowait, self.irq, self.softirq, self.steal]
            .iter()
            .fold(0, |sum, ticks| sum.saturating_add(*ticks))
    }

    /// Those in which the CPU worked.
    pub fn busy(&self) -> u64 {
        self.sum().saturating_sub(self.idle).saturating_sub(self.iowait)
    }
}
