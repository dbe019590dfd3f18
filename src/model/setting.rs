//! A setting of the machine: what it is, what it should be, and why. The JSON report of `apm tune` is a list of these.

use serde::Serialize;

/// Where a setting lives, live and in a file that lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// /proc/sys, sysctl.d.
    Sysctl,
    /// A file of /sys, tmpfiles.d.
    Sys,
    /// A limit of login sessions, limits.d.
    Pam,
    /// A value of systemd's manager, system.conf.d.
    Manager,
    /// A value of apm.slice, in its own unit file.
    Slice,
}

/// What is to be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A limit becomes higher.
    Raise,
    /// A value becomes another.
    Set,
    /// It is as it should be.
    Keep,
    /// Left alone.
    Skip,
}

/// Why it is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The limit is higher than what is needed: a limit is never lowered.
    HigherAlready,
    /// It belongs to the host of this container.
    HostOnly,
    /// Nothing shows that another value helps here.
    NoEvidence,
    /// It would do nothing here.
    NoEffect,
    /// This kernel or machine has none.
    NotHere,
    /// An administrator set it in a file that wins.
    Administrator,
    /// A matter of security, which apm never touches.
    Security,
    /// It could not be read.
    Unreadable,
}

/// What can go wrong with another value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// Hardly anything.
    Low,
    /// Memory, or data that is lost in a crash.
    Mid,
    /// A machine that does not work.
    High,
}

impl Risk {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Mid => "mid",
            Self::High => "high",
        }
    }
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    /// Its name: `vm.swappiness`, `sys.block.vda.scheduler`, `pam.*.soft.nofile`.
    pub key: String,
    /// Where it lives.
    pub place: Place,
    /// The file that holds it live, where one does, as the machine itself names it.
    pub path: Option<String>,
    /// What it is now.
    pub current: Option<String>,
    /// What it should be, and what the files apm writes say. Absent where apm leaves it alone.
    pub proposed: Option<String>,
    /// What is to be done.
    pub verdict: Verdict,
    /// Why it is left alone, where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The formula with its numbers, or the doctor's rule that spoke.
    pub why: String,
    /// The doctor's rule that is the evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What can go wrong.
    pub risk: Risk,
    /// The command that puts the current value back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revert: Option<String>,
}

impl Setting {
    /// Whether something is to be changed.
    pub fn is_change(&self) -> bool {
        matches!(self.verdict, Verdict::Raise | Verdict::Set)
    }
}

/// What the machine is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// Coding agents, their builds and tests, at once.
    Agents,
    /// Builds and tests, one pipeline after the other.
    Ci,
    /// A server with many connections.
    Server,
    /// Somebody sits in front of it.
    Desktop,
}

impl Workload {
    /// Its word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Agents => "agents",
            Self::Ci => "ci",
            Self::Server => "server",
            Self::Desktop => "desktop",
        }
    }
}
