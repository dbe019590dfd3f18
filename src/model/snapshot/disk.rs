//! Disks and file systems.

use serde::{Deserialize, Serialize};

use super::{Field, Pressure};

/// Disks and file systems.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Disk {
    /// /proc/pressure/io.
    pub pressure: Field<Pressure>,
    /// /proc/diskstats, whole devices.
    pub devices: Field<Vec<Device>>,
    /// /proc/self/mountinfo with statvfs of each.
    pub mounts: Field<Vec<Mount>>,
}

/// A block device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// Its name: `vda`.
    pub name: String,
    /// Reads and writes completed.
    pub reads: u64,
    /// Writes completed.
    pub writes: u64,
    /// 512-byte sectors read.
    pub read_sectors: u64,
    /// 512-byte sectors written.
    pub written_sectors: u64,
    /// Time that reads took together, ms.
    pub read_ms: u64,
    /// The same of writes.
    pub write_ms: u64,
    /// In flight now.
    pub in_flight: u64,
    /// Time with at least one in flight, ms.
    pub busy_ms: u64,
    /// Time weighted by the number in flight, ms.
    pub queue_ms: u64,
    /// /sys/block/NAME/queue/rotational; virtio says yes whatever is behind it.
    pub rotational: Option<bool>,
}

/// A mounted file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Where.
    pub point: String,
    /// `ext4`, `tmpfs`, ...
    pub kind: String,
    /// The device or what stands for it.
    pub source: String,
    /// Major and minor number: `254:0`.
    pub device: String,
    /// Options of the mount and of the file system.
    pub options: Vec<String>,
    /// Its room.
    pub space: Field<Space>,
}

/// statvfs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Space {
    /// All bytes.
    pub bytes: u64,
    /// Bytes that users other than root can still write.
    pub available: u64,
    /// All inodes; 0 where the file system has no fixed number.
    pub inodes: u64,
    /// Inodes left.
    pub inodes_available: u64,
}
