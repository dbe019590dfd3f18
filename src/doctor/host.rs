//! The machine that a diagnosis is of, in a few facts.

use crate::model::diagnosis::HostFacts;
use crate::model::snapshot::Snapshot;

/// The facts of the state now.
pub(crate) fn facts(now: &Snapshot) -> HostFacts {
    let cpus = now.cpu.stat.known().map_or(0, |stat| stat.each.len() as u32);
    HostFacts {
        kernel: now.system.kernel.clone(),
        cpus,
        cpus_effective: cpus_effective(now),
        memory: now.memory.meminfo.known().and_then(|info| info.get("MemTotal").copied()).unwrap_or_default(),
        cgroup: now.cgroups.layout.clone(),
        container: now.system.container.clone(),
        uid: now.system.uid,
    }
}

/// CPUs' worth of time that apm and its children may take: those online, its affinity, the quotas of its groups.
pub(crate) fn cpus_effective(now: &Snapshot) -> f64 {
    let online = now.cpu.stat.known().map_or(1.0, |stat| stat.each.len().max(1) as f64);
    let affinity = now.cpu.affinity.known().map_or(online, |cpus| f64::from(*cpus));
    let quotas = now.cgroups.groups.iter().filter(|group| group.is_own).filter_map(|group| group.cpu_quota);
    quotas.fold(online.min(affinity), f64::min)
}
