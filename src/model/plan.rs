//! A plan: the tasks of a run, serialisable and printable before anything starts.

use serde::{Deserialize, Serialize};

use crate::model::task::Task;

/// What a workflow, a plan file or `each` produced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The tasks, in the order they were written; ties in the schedule keep it.
    pub tasks: Vec<Task>,
}
