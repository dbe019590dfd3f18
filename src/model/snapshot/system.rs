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
}
