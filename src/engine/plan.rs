//! Where the tasks of a run come from. A plan may be whole before the run starts, arrive while it goes on, or follow from
//! what happens in it: a workflow is a [`Planner`], a pure fold from events to changes of the plan.

use tokio::sync::mpsc;

use crate::model::edit::Edit;
use crate::model::event::Envelope;
use crate::model::task::Task;

/// A workflow: what happened in, changes of the plan out. It must be a pure fold, so that a resume which feeds it the
/// recorded events brings it to the state it had; what it asks for then and is recorded already is not done again, so ids of
/// tasks must follow from the events too.
pub(crate) trait Planner: Send {
    /// Takes the next event.
    fn on(&mut self, event: &Envelope) -> Vec<Change>;
}

/// What a planner wants.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Tasks that join. Those that are known already are left out.
    Add(Vec<Task>),
    Edit(Edit),
    /// No more tasks will be added.
    Close,
}

/// What a source brings.
#[derive(Debug)]
pub(crate) enum Arrival {
    Tasks(Vec<Task>),
    /// Something that cannot be a task: what it is, and why not. The run goes on, and is incomplete.
    Refused {
        what: String,
        reason: String,
    },
}

/// Where tasks come from while the run goes on.
pub(crate) enum Source {
    /// All tasks are known.
    Fixed,
    /// More come, in batches, at the pace the queue has room for.
    Stream { arrivals: mpsc::Receiver<Arrival>, queue_max: usize },
    /// They follow from what happens.
    Planner(Box<dyn Planner>),
}

impl Source {
    /// Whether the plan is whole.
    pub(crate) fn is_fixed(&self) -> bool {
        matches!(self, Self::Fixed)
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Fixed => "Fixed",
            Self::Stream { .. } => "Stream",
            Self::Planner(_) => "Planner",
        })
    }
}
