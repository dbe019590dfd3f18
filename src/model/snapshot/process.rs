//! Processes and what their tasks do.

use serde::{Deserialize, Serialize};

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
    /// The leader of its session; 0 where that is in another PID namespace, or was not saved.
    pub session: i32,
    /// Its session has a controlling terminal.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub has_terminal: bool,
    /// Its name, at most 15 bytes, chosen by itself: hostile until cleaned.
    pub name: String,
    /// `R`, `S`, `D`, `Z`, `T`, ... of its first thread.
    pub state: char,
    /// When it started, in clock ticks since boot: with the number, who it is.
    pub started: u64,
    /// User and kernel time, clock ticks (1/100 s).
    pub cpu_ticks: u64,
    /// Kernel time alone.
    pub system_ticks: u64,
    /// User and kernel time of children that ended and were waited for, and of theirs.
    pub children_ticks: u64,
    /// Their kernel time alone.
    pub children_system_ticks: u64,
    /// Faults that read from a disk.
    pub major_faults: u64,
    /// Threads.
    pub threads: u32,
    /// Memory in RAM, bytes.
    pub resident: u64,
    /// Nice level.
    pub nice: i32,
    /// Real-time priority; 0 is none.
    pub realtime: u32,
    /// The CPU it last ran on.
    pub processor: u32,
    /// Its cgroup; absent unless looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Time its first thread waited for a CPU, ns (/proc/PID/schedstat).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_delay_ns: Option<u64>,
    /// Times its first thread got a CPU (/proc/PID/schedstat).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turns: Option<u64>,
    /// Read from and written to disks, bytes (/proc/PID/io: own processes, or root).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io: Option<Io>,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Open files (/proc/PID/fd).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// The most it may open: soft limit. Read only for those with many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_max: Option<u64>,
    /// Up to where it may raise that itself: hard limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_hard: Option<u64>,
    /// It has a handler for SIGCHLD (/proc/PID/status SigCgt). Read only for parents of zombies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handles_sigchld: Option<bool>,
    /// Of `resident`: shared memory and files on tmpfs, bytes (/proc/PID/status RssShmem). Read only of large processes,
    /// where there is much of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared: Option<u64>,
    /// Private memory that it may write, touched or not, bytes (/proc/PID/statm). Read only where the kernel promises no
    /// memory twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promised: Option<u64>,
}

/// Bytes to and from disks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Io {
    /// Read.
    pub read: u64,
    /// Written.
    pub written: u64,
}

/// Looks at the states of tasks, spread over the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Activity {
    /// How many looks there were.
    pub looks: u32,
    /// Tasks that were running or in uninterruptible sleep at least once.
    pub tasks: Vec<Task>,
    /// There were more tasks than are looked at.
    pub is_cut: bool,
    /// When each look was, microseconds since the first.
    pub at_us: Vec<u64>,
    /// Memory of the largest processes at each look.
    pub sizes: Vec<Sizes>,
    /// Tasks running or waiting for a CPU, of the whole system and without apm: counted (/proc/loadavg) more often than
    /// tasks are looked at.
    pub runnable: Vec<u32>,
    /// Ancestors of `tasks`, also those that ended meanwhile.
    pub ancestors: Vec<Ancestor>,
}

/// Memory of a process of its own (not of files, not shared) over the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sizes {
    /// Process.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
    /// The number of the look, and bytes.
    pub seen: Vec<(u32, u64)>,
}

/// A process that was seen in between as an ancestor of an active task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ancestor {
    /// Its number.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
    /// Its name, hostile until cleaned.
    pub name: String,
}

/// A thread that was active.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Task {
    /// Process.
    pub pid: i32,
    /// Thread.
    pub tid: i32,
    /// Name of the thread, hostile until cleaned.
    pub name: String,
    /// The parent of its process.
    pub parent: i32,
    /// The CPU it ran on when it was last seen.
    pub processor: u32,
    /// Real-time priority; 0 is none.
    pub realtime: u32,
    /// Nice level; 20 for those that run only when nobody else wants to.
    pub nice: i32,
    /// CPUs it may run on (`0-3,8`); read only for the most active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<String>,
    /// Looks in which it was running or waiting for a CPU.
    pub running: u32,
    /// Looks in which it was in uninterruptible sleep.
    pub blocked: u32,
    /// Looks in which it slept otherwise; counted only for processes asked about.
    pub sleeping: u32,
    /// Looks in which it was still blocked without having run since the look before: it is stuck, not busy.
    pub stuck: u32,
    /// Its control group is frozen (v1 freezer): someone wants it to stand still.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_frozen: bool,
    /// Where it slept in the kernel, when it last did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wchan: Option<String>,
    /// The number of the system call it slept in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syscall: Option<i64>,
}
