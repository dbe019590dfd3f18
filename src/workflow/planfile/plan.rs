//! A plan that was read, and what is said of one that cannot be used.

use std::collections::BTreeMap;
use std::fmt;

use crate::model::id::TaskId;
use crate::model::task::Task;
use crate::text::snippet::{self, Fault};
use crate::text::yaml::Position;

/// A plan that was read.
#[derive(Debug, Default)]
pub(crate) struct PlanFile {
    pub(crate) tasks: Vec<Task>,
    /// What its tasks may use: capacities of the plan, and of the configuration where the plan does not say otherwise.
    pub(crate) resources: BTreeMap<String, u64>,
    /// Where each of them stands.
    pub(super) places: Vec<Position>,
}

/// A plan that cannot be used: the message, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlanFileError(pub(super) String);

impl fmt::Display for PlanFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim_end())
    }
}

impl std::error::Error for PlanFileError {}

impl PlanFileError {
    /// Without the lines around the fault: for events and tables.
    pub(crate) fn in_one_line(&self) -> String {
        let mut lines = self.0.lines();
        let message = lines.next().unwrap_or_default();
        match lines.next_back().and_then(|line| line.strip_prefix("  hint: ")) {
            Some(hint) => format!("{message}; {hint}"),
            None => message.to_owned(),
        }
    }
}

impl PlanFile {
    /// A fault of one of its tasks, shown at its place.
    pub(crate) fn fault(&self, name: &str, source: &str, task: &TaskId, message: String) -> PlanFileError {
        let at = self.tasks.iter().position(|one| one.id == *task).map_or((0, 0), |at| self.places[at]);
        PlanFileError(snippet::render(name, source, &Fault::at(at, message)))
    }
}
