//! Kernel, clock and limits of the whole system.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::snapshot::field::Field;

/// The system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct System {
    /// Release of the kernel.
    pub kernel: String,
    /// `docker`, `podman`, `lxc`, `container`: absent on a host.
    pub container: Option<String>,
    /// The kernel runs on a hypervisor; absent where nothing says so or denies it.
    pub is_virtual: Option<bool>,
    /// apm's user.
    pub uid: u32,
    /// Seconds since boot.
    pub uptime: Field<f64>,
    /// Open files and their most, of the whole system: /proc/sys/fs/file-nr.
    pub files: Field<(u64, u64)>,
    /// The largest number of a process, which is also how many tasks there can be: /proc/sys/kernel/pid_max.
    pub pid_max: Field<u64>,
    /// The most tasks: /proc/sys/kernel/threads-max.
    pub threads_max: Field<u64>,
    /// The kernel's clock against the true time: adjtimex.
    pub clock: Field<Clock>,
    /// What the clock is read from.
    pub clocksource: Field<Clocksource>,
    /// What the kernel complained of in the last half hour, oldest first: /dev/kmsg, root only. Read at the end of the
    /// window.
    pub kmsg: Field<Kmsg>,
    /// Watchers of files.
    pub inotify: Inotify,
    /// Processes that wait for a lock of a file.
    pub locks: Field<Vec<LockWait>>,
    /// Processes and threads that users may have (RLIMIT_NPROC of the newest process), of those that have many.
    pub user_tasks: BTreeMap<u32, u64>,
    /// Services of systemd that run, and since when: /run/systemd/units.
    pub services: Field<BTreeMap<String, Service>>,
}

/// What adjtimex says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Clock {
    /// Somebody (NTP, the hypervisor) keeps it right.
    pub is_synchronised: bool,
    /// Known distance from the true time, microseconds.
    pub offset_us: i64,
    /// How wrong it may be, microseconds.
    pub error_max_us: i64,
}

/// What the clock is read from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Clocksource {
    /// `tsc`, `kvm-clock`, `hpet`, ...
    pub current: String,
    /// Those there are, the best first.
    pub available: Vec<String>,
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

/// /proc/sys/fs/inotify.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InotifyLimits {
    /// Instances a user may have.
    pub instances: u64,
    /// Watches a user may have.
    pub watches: u64,
}

/// Watchers of files: what users may have, what they have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inotify {
    /// /proc/sys/fs/inotify.
    pub limits: Field<InotifyLimits>,
    /// Whether one more instance and watch could be made by apm's user: tried. In words what was refused.
    pub refused: Field<Option<String>>,
    /// Processes that have instances.
    pub users: Field<Vec<Watcher>>,
    /// Processes whose descriptors were not looked at: not allowed, or too many.
    pub unseen: u32,
}

/// A process with inotify instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Watcher {
    /// The process.
    pub pid: i32,
    /// Whose it is: limits are per user.
    pub uid: u32,
    /// Instances.
    pub instances: u64,
    /// Watches, as far as they were counted.
    pub watches: u64,
}

/// A process that waits for a lock of a file (/proc/locks).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LockWait {
    /// Who waits.
    pub waiter: i32,
    /// Who holds it; absent where that is not seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<i32>,
    /// The device and number of the file, as the kernel writes them: `fe:00:5365766`.
    pub inode: String,
    /// Its path, where the waiter's descriptors could be looked at. Hostile until cleaned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// A service of systemd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Changes with each start.
    pub invocation: String,
    /// When it was started, seconds since 1970.
    pub started_s: u64,
}
