//! Control groups: which there are, their limits, counters and pressure.

use crate::model::snapshot::cgroup::Cgroups;
use crate::probe::Roots;

/// Reads them.
pub(crate) fn read(_roots: &Roots) -> Cgroups {
    Cgroups::default()
}
