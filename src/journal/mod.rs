//! The event log on disk: one folder a run, one line an event. `write` appends, `read` reads what a crash left,
//! `resume` decides what is still to do (pure), `folder` knows the layout, `learned` keeps durations between runs.

pub(crate) mod folder;
pub(crate) mod follow;
pub(crate) mod learned;
pub(crate) mod read;
pub(crate) mod resume;
pub(crate) mod write;
