//! Runs inside tasks of other runs: what an inner run leaves for the outer one.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::journal::folder::State;
use crate::model::event::{Event, Parent};
use crate::model::id::{RunId, TaskId};

/// A run inside a task of another, as the outer one finds it.
#[derive(Serialize, Deserialize)]
struct Child {
    task: TaskId,
    run: RunId,
    exit_code: i32,
}

/// Leaves word for the run this one was started in.
pub(crate) fn tell_parent(state: &State, parent: &Parent, run: &RunId, exit_code: i32) {
    let folder = state.path_of(&parent.run);
    if !folder.is_dir() {
        // It keeps its record elsewhere, or none.
        return;
    }
    let child = Child { task: parent.task.clone(), run: run.clone(), exit_code };
    let write = || -> std::io::Result<()> {
        let folder = folder.join("children");
        std::fs::create_dir_all(&folder)?;
        let mut file = std::fs::File::create(folder.join(format!("{run}.json")))?;
        file.write_all(&serde_json::to_vec(&child)?)
    };
    // The outer report lacks a line then; the exit code of the task says the same.
    let _ = write();
}

/// The runs that left word in the folder of a run, oldest first.
pub(crate) fn children(folder: &Path) -> Vec<Event> {
    let Ok(entries) = std::fs::read_dir(folder.join("children")) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort_unstable();
    paths
        .iter()
        .filter_map(|path| serde_json::from_slice::<Child>(&std::fs::read(path).ok()?).ok())
        .map(|Child { task, run, exit_code }| Event::ChildRun { task, run, exit_code })
        .collect()
}
