//! Keeps what runs learned about durations and memory, between runs, in one file of the state directory. It is a hint:
//! a damaged file is the same as none.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys::beneath::Folder;
use crate::sys::output::Beside;

/// Largest file read.
const SIZE_MAX: u64 = 16 << 20;

const FILE: &str = "learned.json";

/// Reads what is kept; the default where there is nothing readable.
pub(crate) fn load<T: DeserializeOwned + Default>(state: &Path) -> T {
    let read = || Folder::own(state)?.read_own(Path::new(FILE), SIZE_MAX);
    let learned = |bytes: Vec<u8>| serde_json::from_slice(&bytes).ok();
    read().ok().and_then(learned).unwrap_or_default()
}

/// Writes it beside and renames: another apm sees the old or the new file, never half of one.
pub(crate) fn save<T: Serialize>(state: &Path, learned: &T) -> io::Result<()> {
    let beside = Beside::create_in(Folder::own(state)?, Path::new(FILE), 0o600)?;
    beside.file().write_all(&serde_json::to_vec(learned).map_err(io::Error::other)?)?;
    beside.place()
}
