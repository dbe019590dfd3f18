//! Runs inside tasks of other runs: what an inner run leaves for the outer one.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::journal::folder::State;
use crate::model::event::{Event, Parent};
use crate::model::id::{RunId, TaskId};
use crate::sys::beneath::Folder;
use crate::sys::output::Beside;

/// The folder for it in that of a run.
const CHILDREN: &str = "children";
/// Largest file read of it.
const CHILD_MAX: u64 = 1 << 20;

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
        let folder = Folder::own(&folder)?;
        folder.make_folder(Path::new(CHILDREN), 0o700)?;
        let children = folder.own_folder(Path::new(CHILDREN))?;
        let beside = Beside::create_in(children, format!("{run}.json").as_ref(), 0o600)?;
        beside.file().write_all(&serde_json::to_vec(&child)?)?;
        beside.place()
    };
    // The outer report lacks a line then; the exit code of the task says the same.
    let _ = write();
}

/// The runs that left word in the folder of a run, oldest first.
pub(crate) fn children(folder: &Path) -> Vec<Event> {
    let Ok(folder) = Folder::own(&folder.join(CHILDREN)) else { return Vec::new() };
    let names = folder.names().unwrap_or_default();
    names
        .iter()
        .filter_map(|name| serde_json::from_slice::<Child>(&folder.read_own(name.as_ref(), CHILD_MAX).ok()?).ok())
        .map(|Child { task, run, exit_code }| Event::ChildRun { task, run, exit_code })
        .collect()
}
