//! What `apm tune` needs to see beside a look of the doctor: values of settings, and the files that set them.

use std::collections::BTreeMap;

use crate::model::snapshot::field::Field;

/// Settings of a machine, as they are and as files say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tunables {
    /// Values by key: `vm.swappiness`, `sys.block.vda.scheduler`. Blanks are single spaces.
    pub values: BTreeMap<String, Value>,
    /// Lines of sysctl.d, in the order in which they take effect: the last one of a key wins.
    pub lines: Vec<Line>,
    /// Lines of limits.d.
    pub limits: Vec<Line>,
    /// Devices to swap to.
    pub swaps: Vec<String>,
    /// NUMA nodes.
    pub nodes: u32,
    /// Entries of the table of neighbours.
    pub neighbours: u64,
    /// systemd is installed.
    pub has_systemd: bool,
    /// Name of the first process, where it can be seen: whether systemd has booted the machine.
    pub first: Option<String>,
    /// Limits of the first process, which what it starts gets.
    pub limits_of_first: Limits,
    /// Lines of systemd's system.conf and its drop-ins, the last one of a key wins.
    pub manager: Vec<Line>,
    /// Files and folders of settings that could not be read: what they set is not seen.
    pub unreadable: Vec<String>,
}

/// Limits of a process; absent where they could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Open files: soft and hard; `u64::MAX` is no limit.
    pub files: Option<(u64, u64)>,
    /// Processes of its user, hard.
    pub processes: Option<u64>,
}

/// A value and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// The file.
    pub path: String,
    /// The file as the machine itself names it, whatever folder its files are below.
    pub shown: String,
    /// What is in it.
    pub text: Field<String>,
    /// Its mode and its mount let somebody write it. Values of the host are read-only in namespaces.
    pub is_writable: bool,
}

/// A line of a file that sets something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The file.
    pub file: String,
    /// The name.
    pub key: String,
    /// The value, blanks single.
    pub value: String,
}

impl Tunables {
    /// The value of a key, if it could be read.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key)?.text.known().map(String::as_str)
    }

    /// The value of a key that is one number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.text(key)?.parse().ok()
    }
}
