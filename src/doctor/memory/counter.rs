//! Counters of memory: values of meminfo and vmstat, and their growth in the window.

use crate::doctor::rule::{RuleContext, Skip};
use crate::model::snapshot::{Counters, Field};

pub(super) const MEMINFO: &str = "/proc/meminfo";
pub(super) const VMSTAT: &str = "/proc/vmstat";

/// A value of a file of counters, or that it is not in it.
pub(super) fn value(counters: &Field<Counters>, path: &str, name: &str) -> Result<u64, Skip> {
    let missing = || Skip(format!("{path}: {name} is not in it"));
    counters.get()?.get(name).copied().ok_or_else(missing)
}

/// A counter of vmstat at both ends of the window, and its growth a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    pub(super) before: u64,
    pub(super) now: u64,
    pub(super) rate: f64,
}

pub(super) fn growth(context: &RuleContext<'_>, name: &str) -> Result<Growth, Skip> {
    let before = value(&context.before().memory.vmstat, VMSTAT, name)?;
    let now = value(&context.now().memory.vmstat, VMSTAT, name)?;
    Ok(Growth { before, now, rate: context.rate(before, now) })
}
