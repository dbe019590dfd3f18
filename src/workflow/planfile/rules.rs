//! What holds for every plan: what the configuration allows it, and how much it may hold.

use std::collections::BTreeMap;

/// Most values in a plan, aliases expanded: forty for each of 100,000 tasks.
pub(super) const VALUES_MAX: usize = 4_000_000;
/// Most tasks after the matrices are expanded.
pub(super) const TASKS_MAX: usize = 1_000_000;

/// What a plan may say depends on the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Priorities go from 0 to one less.
    pub(crate) priority_levels: u32,
    /// Resources of the configuration and their capacities. What a plan declares itself wins.
    pub(crate) resources: BTreeMap<String, u64>,
    /// A need may name a task that the plan does not have: the plan is added to a run, and who adds it knows its tasks.
    pub(crate) open_needs: bool,
}
