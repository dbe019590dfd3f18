//! Keeps what runs learned about durations and memory, between runs, in one file of the state directory. It is a hint:
//! a damaged file is the same as none.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest file read.
const SIZE_MAX: u64 = 16 << 20;

fn path(state: &Path) -> PathBuf {
    state.join("learned.json")
}

/// Reads what is kept; the default where there is nothing readable.
pub(crate) fn load<T: DeserializeOwned + Default>(state: &Path) -> T {
    let fits = std::fs::metadata(path(state)).is_ok_and(|meta| meta.len() <= SIZE_MAX);
    let read = || serde_json::from_slice(&std::fs::read(path(state)).ok()?).ok();
    fits.then(read).flatten().unwrap_or_default()
}

/// Writes it beside and renames: another apm sees the old or the new file, never half of one.
pub(crate) fn save<T: Serialize>(state: &Path, learned: &T) -> io::Result<()> {
    let beside = state.join(format!("learned.{}.tmp", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    let written = serde_json::to_vec(learned).map_err(io::Error::other).and_then(|text| file.write_all(&text));
    written.and_then(|()| std::fs::rename(&beside, path(state))).inspect_err(|_| {
        // The error that matters is already on its way.
        let _ = std::fs::remove_file(&beside);
    })
}
