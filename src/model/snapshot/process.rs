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
    /// Time it waited for a CPU, ns (/proc/PID/schedstat).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_delay_ns: Option<u64>,
    /// Read from and written to disks, bytes (/proc/PID/io: own processes, or root).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io: Option<Io>,
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
    /// Looks in which it was running or waiting for a CPU.
    pub running: u32,
    /// Looks in which it was in uninterruptible sleep.
    pub blocked: u32,
    /// Looks in which it slept otherwise; counted only for processes asked about.
    pub sleeping: u32,
    /// Where it slept in the kernel, when it last did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wchan: Option<String>,
    /// The number of the system call it slept in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syscall: Option<i64>,
}
