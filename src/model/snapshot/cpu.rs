//! CPUs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::snapshot::field::Field;
use crate::model::snapshot::pressure::Pressure;

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
    /// Tasks of the whole system, asleep or not: the number behind the slash in /proc/loadavg.
    pub tasks: Field<u64>,
    /// How many CPUs this process may run on: what `nproc` says.
    pub affinity: Field<u32>,
    /// Which.
    pub allowed: Field<Vec<u32>>,
    /// /proc/softirqs: soft interrupts by kind, on each CPU.
    pub softirqs: Field<BTreeMap<String, Vec<u64>>>,
    /// /proc/net/softnet_stat: packets between card and protocols, on each CPU.
    pub softnet: Field<Vec<Softnet>>,
    /// Clock of the first CPUs.
    pub frequency: Field<Vec<Frequency>>,
    /// Slowed down because of heat.
    pub heat: Field<Vec<Heat>>,
}

/// A line of /proc/net/softnet_stat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Softnet {
    /// Packets taken.
    pub packets: u64,
    /// Dropped because the queue was full.
    pub dropped: u64,
    /// Times it ran out of its share of time with packets left.
    pub squeezed: u64,
}

/// The clock of a CPU (cpufreq).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Frequency {
    /// Number of the CPU.
    pub cpu: u32,
    /// Now, kHz.
    pub now_khz: u64,
    /// The most the hardware can, kHz.
    pub max_khz: u64,
    /// The most it is allowed to, kHz.
    pub allowed_khz: u64,
    /// `performance`, `schedutil`, ...
    pub governor: String,
}

/// /sys/devices/system/cpu/cpuN/thermal_throttle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Heat {
    /// Number of the CPU.
    pub cpu: u32,
    /// Times its core was slowed.
    pub core: u64,
    /// Times its package was slowed.
    pub package: u64,
    /// Time its core was slowed, ms; absent on kernels that do not count it.
    pub core_ms: Option<u64>,
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
