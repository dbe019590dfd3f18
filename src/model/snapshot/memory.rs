//! Memory.

use serde::{Deserialize, Serialize};

use crate::model::snapshot::field::{Counters, Field};
use crate::model::snapshot::pressure::Pressure;

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
    /// /proc/sys/vm/overcommit_memory: only 2 refuses allocations beyond `CommitLimit`.
    pub overcommit: Field<u64>,
    /// The word chosen in /sys/kernel/mm/transparent_hugepage/enabled.
    pub huge_pages: Field<String>,
    /// Names that are known not to exist, kept in the dentry cache: /proc/sys/fs/dentry-state.
    pub negative_dentries: Field<u64>,
    /// Free blocks by order (1, 2, 4, ... pages) of all zones: /proc/buddyinfo.
    pub free_blocks: Field<Vec<u64>>,
    /// The largest caches of the kernel's own objects: /proc/slabinfo, root only. Read where they are large.
    pub slabs: Field<Vec<Slab>>,
    /// What memory controllers counted: /sys/devices/system/edac/mc.
    pub controllers: Field<Vec<Controller>>,
    /// System V segments of shared memory, the largest first.
    pub segments: Field<Vec<Segment>>,
    /// The cache of ZFS, which `MemAvailable` does not count as memory that can be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arc: Option<Arc>,
    /// vm.watermark_scale_factor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watermark_scale: Option<u64>,
}

/// The adaptive replacement cache of ZFS: /proc/spl/kstat/zfs/arcstats, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Arc {
    /// What it holds: `size`.
    pub size: u64,
    /// Below this it does not shrink: `c_min`.
    pub least: u64,
}

/// A System V segment of shared memory: it lasts until somebody removes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Segment {
    /// Its number, as for `ipcrm -m`.
    pub id: i64,
    /// Bytes in memory.
    pub bytes: u64,
    /// Processes that have it mapped.
    pub attached: u64,
    /// The process that made it, which may be gone.
    pub creator: i32,
}

/// A cache of kernel objects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Slab {
    /// `dentry`, `kmalloc-512`, ...
    pub name: String,
    /// Bytes in RAM.
    pub bytes: u64,
}

/// A memory controller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Controller {
    /// `mc0`.
    pub name: String,
    /// Errors corrected since boot.
    pub corrected: u64,
    /// Errors that could not be.
    pub uncorrected: u64,
}
