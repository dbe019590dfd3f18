//! Kernel, clock and limits of the whole system.

use serde::{Deserialize, Serialize};

use super::Field;

/// The system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct System {
    /// Release of the kernel.
    pub kernel: String,
    /// `docker`, `podman`, `lxc`, `container`: absent on a host.
    pub container: Option<String>,
    /// apm's user.
    pub uid: u32,
    /// Seconds since boot.
    pub uptime: Field<f64>,
    /// Open files and their most, of the whole system: /proc/sys/fs/file-nr.
    pub files: Field<(u64, u64)>,
    /// What the kernel complained of in the last half hour, oldest first: /dev/kmsg, root only. Read at the end of the
    /// window.
    pub kmsg: Field<Kmsg>,
}

/// Complaints of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kmsg {
    /// The last of them.
    pub records: Vec<Record>,
    /// There were more.
    pub is_cut: bool,
}

/// A record of the kernel's log that fits a pattern.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Which: `oom_kill`, `oom_victim`, `hung_task`, `io_error`, ... (the table in `probe::kmsg`).
    pub pattern: String,
    /// Seconds since boot, comparable with `uptime`.
    pub at_s: f64,
    /// Its text without control characters, at most 200 bytes. Holds names chosen by processes.
    pub text: String,
}
