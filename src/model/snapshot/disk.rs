//! Disks and file systems.

use serde::{Deserialize, Serialize};

use crate::model::snapshot::field::Field;
use crate::model::snapshot::pressure::Pressure;

/// Disks and file systems.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Disk {
    /// /proc/pressure/io.
    pub pressure: Field<Pressure>,
    /// /proc/diskstats, whole devices that were ever used.
    pub devices: Field<Vec<Device>>,
    /// /proc/self/mountinfo with statvfs of each, without those of the kernel itself (proc, cgroup, ...).
    pub mounts: Field<Vec<Mount>>,
    /// Mount points that /etc/fstab wants writable.
    pub writable_by_fstab: Field<Vec<String>>,
    /// What file systems keep of their own errors: /sys/fs/ext4/*/errors_count, btrfs error_stats.
    pub errors: Vec<Errors>,
    /// Software RAID: /sys/block/*/md.
    pub arrays: Vec<Array>,
    /// Limits of control groups on the rate of I/O.
    pub limits: Vec<Limit>,
    /// Deleted files that are still open; looked for once, in the second snapshot.
    pub deleted: Field<Deleted>,
    /// The folder for temporary files, if it is not /tmp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temporary: Option<String>,
}

/// A block device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// Its name: `vda`.
    pub name: String,
    /// The name people gave it, of a device mapper: /sys/block/NAME/dm/name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Its number and those of its partitions: `254:0`.
    pub numbers: Vec<String>,
    /// Devices it is made of: /sys/block/NAME/slaves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slaves: Vec<String>,
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
    /// The word chosen in /sys/block/NAME/queue/scheduler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    /// /sys/block/NAME/device/state: `running`, `live`, `offline`; of SCSI and NVMe only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// A mounted file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Where.
    pub point: String,
    /// Which folder of the file system; other than `/` for a bind mount or a subvolume.
    pub root: String,
    /// `ext4`, `tmpfs`, ...
    pub kind: String,
    /// The device or what stands for it.
    pub source: String,
    /// Major and minor number: `254:0`.
    pub device: String,
    /// The kernel's name of the device: `dm-0` where the source is /dev/mapper/root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<String>,
    /// Options of this mount: `ro` of a bind mount is no fault.
    pub options: Vec<String>,
    /// Options of the file system: `ro` here or `emergency_ro` is one.
    pub super_options: Vec<String>,
    /// Its room.
    pub space: Field<Space>,
    /// How long statvfs took, or how long it has not answered yet, ms; of mounts that may hang only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_ms: Option<u64>,
    /// statvfs has not answered.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_hanging: bool,
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

/// Errors that a file system or one of its devices counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Errors {
    /// `ext4`, `btrfs`.
    pub kind: String,
    /// The device: `vda`; of btrfs the identity of the file system and the number of the device in it.
    pub device: String,
    /// The file.
    pub path: String,
    /// How many.
    pub count: u64,
    /// Seconds since the last one, where the file system remembers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_s_ago: Option<u64>,
}

/// A software RAID.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Array {
    /// `md0`.
    pub name: String,
    /// `raid1`.
    pub level: String,
    /// `clean`, `active`, `broken`, ...
    pub state: String,
    /// Devices that are missing.
    pub degraded: u64,
    /// Devices it should have.
    pub disks: u64,
    /// `idle`, `resync`, `recover`, `check`, ...
    pub sync: String,
}

/// A limit on the rate of I/O.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limit {
    /// Path of the control group below its hierarchy.
    pub group: String,
    /// The file.
    pub path: String,
    /// The device: `254:0`.
    pub device: String,
    /// What is limited: `wbps=1048576`.
    pub limit: String,
    /// Processes in the group itself.
    pub pids: Vec<i32>,
}

/// Deleted files that are still open: room that `du` does not find.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Deleted {
    /// The largest, by process and descriptor. Each file once.
    pub files: Vec<DeletedFile>,
    /// All of them, by process and device.
    pub holders: Vec<DeletedSum>,
    /// Memory that is called a file (memfd, deleted files of /dev/shm), by process; the device is empty.
    pub memory: Vec<DeletedSum>,
    /// Processes whose descriptors could not be read.
    pub hidden: u32,
    /// There were more descriptors than are looked at.
    pub is_cut: bool,
}

/// What a process holds on a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeletedSum {
    /// The process.
    pub pid: i32,
    /// `254:0`, as in mountinfo.
    pub device: String,
    /// Bytes.
    pub bytes: u64,
    /// Files.
    pub files: u32,
}

/// One of them, without its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeletedFile {
    /// Process.
    pub pid: i32,
    /// Its descriptor.
    pub descriptor: i32,
    /// Major and minor number of its file system.
    pub device: String,
    /// With `device` which file: the same one may be open many times.
    pub inode: u64,
    /// Room that it takes, bytes.
    pub bytes: u64,
    /// Other processes that hold the same file: it takes its room until the last of them lets go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<i32>,
}
