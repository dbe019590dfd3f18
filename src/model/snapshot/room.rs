//! Room for agents: limits of this session, disks they work on, the repository, missing tools. And the machine's size.

use serde::{Deserialize, Serialize};

use crate::model::sandbox::Support;
use crate::model::snapshot::disk::Space;
use crate::model::snapshot::field::Field;

/// Room for agents.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Room {
    /// Open files: soft and hard limit of this session (`ulimit -n`).
    pub files: Field<(u64, u64)>,
    /// Processes and threads of this user: soft limit (`ulimit -u`); absent where there is none.
    pub processes: Field<Option<u64>>,
    /// Stack of a thread: soft limit, bytes; absent where there is none.
    pub stack: Field<Option<u64>>,
    /// Core dumps: soft limit, bytes; absent where there is none.
    pub core: Field<Option<u64>>,
    /// The file system of the working folder.
    pub work: Field<Place>,
    /// The file system of temporary files.
    pub temporary: Field<Place>,
    /// What the kernel gives for the confinement of commands.
    pub sandbox: Field<Support>,
    /// The repository around the working folder; looked at only when asked for.
    pub git: Field<Git>,
    /// Tools that the files of the working folder imply and that are not installed: name, how to get it. Looked at only
    /// when asked for.
    pub missing: Field<Vec<(String, String)>>,
}

/// A folder and its file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    /// Its room.
    pub space: Space,
    /// It lies in memory: tmpfs.
    pub is_in_memory: bool,
}

/// A git repository.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Git {
    /// Age of index.lock, seconds; absent where there is none.
    pub lock_age_s: Option<u64>,
    /// Worktrees whose folder is gone.
    pub prunable: u32,
    /// Made with `--depth`: history is cut.
    pub is_shallow: bool,
    /// Loose objects, estimated from one of the 256 folders, as git's own gc.auto does.
    pub loose: u64,
    /// Files in the index.
    pub files: u64,
    /// `core.fsmonitor` or `core.untrackedCache` is set.
    pub is_watched: bool,
}

/// The size of the machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hardware {
    /// Highest clock of a CPU, MHz.
    pub mhz: Field<f64>,
    /// Disks.
    pub drives: Field<Vec<Drive>>,
    /// Network interfaces with hardware behind them: name, megabits a second where it says.
    pub links: Field<Vec<(String, Option<u64>)>>,
}

/// A disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drive {
    /// Its name: `nvme0n1`.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
    /// `nvme`, `ssd`, `hdd`, `virtual`.
    pub kind: String,
}
