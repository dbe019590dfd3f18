//! What an unfinished task waits for, as `apm run show RUN --waiting` tells it.

use serde::{Deserialize, Serialize};

use crate::model::id::TaskId;

/// One unfinished task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingTask {
    /// Which.
    pub task: TaskId,
    /// `running`, `paused`, `waiting`, `delayed` or `ready`.
    pub state: String,
    /// What it waits for, for people; empty where it runs.
    pub reason: String,
}
