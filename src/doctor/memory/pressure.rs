//! Pressure stall information of memory, of the machine and of control groups.

use crate::doctor::rule::{RuleContext, Skip};
use crate::model::snapshot::Pressure;
use crate::model::snapshot::cgroup::Group;

pub(super) const PRESSURE: &str = "/proc/pressure/memory";

/// Shares of the window in which tasks waited, percent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stalled {
    pub(super) some: f64,
    pub(super) full: f64,
    pub(super) now: Pressure,
}

pub(super) fn stalled(context: &RuleContext<'_>, before: &Pressure, now: &Pressure) -> Stalled {
    Stalled {
        some: context.share_of_time(before.some.total_us, now.some.total_us),
        full: context.share_of_time(before.full.total_us, now.full.total_us),
        now: *now,
    }
}

/// How long tasks of the whole machine waited for memory.
pub(super) fn memory_stalls(context: &RuleContext<'_>) -> Result<Stalled, Skip> {
    Ok(stalled(context, context.before().memory.pressure.get()?, context.now().memory.pressure.get()?))
}

/// The same of a group that was there before.
pub(super) fn group_stalls(context: &RuleContext<'_>, group: &Group) -> Option<Stalled> {
    let before = context.before().cgroups.same(group)?.memory_pressure?;
    Some(stalled(context, &before, &group.memory_pressure?))
}
