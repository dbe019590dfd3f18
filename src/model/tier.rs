//! Sizes of machines that the specification names: minimum, recommended, enterprise.

use crate::model::unit::Bytes;

/// A size of machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tier {
    /// CPUs.
    pub cores: f64,
    /// Their clock.
    pub ghz: f64,
    /// Memory.
    pub memory: Bytes,
    /// Disk, bytes; decimal, as disks are sold.
    pub storage: f64,
    /// Network, Mbit/s.
    pub mbps: f64,
}

/// The three sizes, the smallest first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tiers(pub [Tier; 3]);

impl Tiers {
    /// One property of each.
    pub fn of(&self, property: impl Fn(&Tier) -> f64) -> [f64; 3] {
        self.0.each_ref().map(property)
    }
}

impl Default for Tiers {
    /// As the specification has them.
    fn default() -> Self {
        let tier = |cores, ghz, gib: u64, storage, mbps| Tier { cores, ghz, memory: Bytes(gib << 30), storage, mbps };
        Self([
            tier(4.0, 2.5, 8, 100e9, 100.0),
            tier(8.0, 3.0, 16, 500e9, 1_000.0),
            tier(16.0, 3.5, 32, 1_000e9, 10_000.0),
        ])
    }
}
