//! What CPUs did in the window, all together and each.

use crate::doctor::rule::{RuleContext, Skip};
use crate::model::snapshot::cpu::{Stat, Ticks};

/// Both readings of /proc/stat. One capture of a machine has no window: nothing that counts time moved.
pub(super) fn stats<'a>(context: &RuleContext<'a>) -> Result<(&'a Stat, &'a Stat), Skip> {
    let (before, after) = (context.before().cpu.stat.get()?, context.now().cpu.stat.get()?);
    if after.all.sum() <= before.all.sum() {
        return Err(Skip("/proc/stat: its counters stood still or went back between the two readings".to_owned()));
    }
    Ok((before, after))
}

/// Time spent in the window. Waiting for I/O may go back: it counts as nothing then.
pub(super) fn spent(before: &Ticks, after: &Ticks) -> Ticks {
    Ticks {
        user: after.user.saturating_sub(before.user),
        nice: after.nice.saturating_sub(before.nice),
        system: after.system.saturating_sub(before.system),
        idle: after.idle.saturating_sub(before.idle),
        iowait: after.iowait.saturating_sub(before.iowait),
        irq: after.irq.saturating_sub(before.irq),
        softirq: after.softirq.saturating_sub(before.softirq),
        steal: after.steal.saturating_sub(before.steal),
    }
}

/// Time spent by each CPU that was online at both ends.
pub(super) fn each(before: &Stat, after: &Stat) -> Vec<(u32, Ticks)> {
    let find = |cpu: u32| before.each.iter().find(|(number, _)| *number == cpu);
    after.each.iter().filter_map(|(cpu, now)| Some((*cpu, spent(&find(*cpu)?.1, now)))).collect()
}

/// Of a time in percent.
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// CPUs online, at least one.
pub(super) fn online(stat: &Stat) -> usize {
    stat.each.len().max(1)
}
