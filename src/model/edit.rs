//! Changes of a plan while its run goes on, and who wants them. Parts of the event stream.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::id::TaskId;

/// A change of a running plan. Tasks that join are in `TasksAdded`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// End tasks: what runs gets TERM, then KILL; what waits never starts.
    Cancel {
        /// They.
        tasks: Vec<TaskId>,
    },
    /// End the whole run.
    CancelRun {},
    /// Stop the processes of tasks where they are, and start none of those that wait.
    Pause {
        /// They.
        tasks: Vec<TaskId>,
    },
    /// The whole run.
    PauseRun {},
    /// Let paused tasks go on.
    Unpause {
        /// They.
        tasks: Vec<TaskId>,
    },
    /// The whole run, tasks that were paused one by one excepted.
    UnpauseRun {},
    /// Another priority.
    Prioritise {
        /// Of which task.
        task: TaskId,
        /// Higher starts first.
        priority: i32,
    },
    /// Another capacity. `slots` is the number of agents, `memory` the ceiling of the run in bytes.
    Resize {
        /// Of which resource.
        resource: String,
        /// From now on.
        to: u64,
    },
}

/// Who changes a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A command in another terminal, as the kernel tells of the peer of the control socket.
    Control {
        /// Its user.
        uid: u32,
        /// Its process.
        pid: i32,
    },
    /// A task of the run itself.
    Task {
        /// Which.
        task: TaskId,
    },
    /// The planner of the run.
    Planner {},
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control { uid, pid } => write!(f, "process {pid} of user {uid}"),
            Self::Task { task } => write!(f, "task `{task}`"),
            Self::Planner {} => f.write_str("the plan"),
        }
    }
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |f: &mut fmt::Formatter<'_>, verb: &str, tasks: &[TaskId]| match tasks {
            [task] => write!(f, "{verb} `{task}`"),
            [task, rest @ ..] => write!(f, "{verb} `{task}` and {} more", rest.len()),
            [] => write!(f, "{verb} nothing"),
        };
        match self {
            Self::Cancel { tasks } => named(f, "cancel", tasks),
            Self::CancelRun {} => f.write_str("cancel the run"),
            Self::Pause { tasks } => named(f, "pause", tasks),
            Self::PauseRun {} => f.write_str("pause the run"),
            Self::Unpause { tasks } => named(f, "unpause", tasks),
            Self::UnpauseRun {} => f.write_str("unpause the run"),
            Self::Prioritise { task, priority } => write!(f, "priority of `{task}` to {priority}"),
            Self::Resize { resource, to } => write!(f, "`{resource}` to {to}"),
        }
    }
}
