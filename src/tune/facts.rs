//! What the proposals follow from: what was seen of the machine, what the doctor found, and what it is used for.

use std::collections::BTreeMap;

use crate::model::diagnosis::{Finding, Severity};
use crate::model::setting::{Place, Workload};
use crate::model::snapshot::Snapshot;
use crate::model::snapshot::tunables::Tunables;
use crate::tune::dropin::Own;

/// What the proposals follow from.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    /// The key a proposal is asked for.
    pub(crate) key: &'a str,
    pub(crate) now: &'a Snapshot,
    pub(crate) tunables: &'a Tunables,
    /// What the files that apm wrote say.
    pub(crate) own: &'a BTreeMap<String, Own>,
    /// They were written for this workload: a line stays also where what showed that it helps is gone.
    pub(crate) own_lasts: bool,
    /// Files where apm's would be, which somebody else wrote.
    pub(crate) foreign: &'a BTreeMap<Place, String>,
    /// What the doctor found.
    pub(crate) findings: &'a [Finding],
    pub(crate) workload: Workload,
    /// Agents or workers at once.
    pub(crate) agents: u64,
    /// Bits a second of the link that matters, if told.
    pub(crate) bandwidth: Option<u64>,
    /// Round trip in milliseconds, if told.
    pub(crate) rtt_ms: Option<f64>,
}

impl Facts<'_> {
    /// Memory of the machine, bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.now.memory.meminfo.known().and_then(|info| info.get("MemTotal").copied()).unwrap_or_default()
    }

    pub(crate) fn meminfo(&self, name: &str) -> u64 {
        self.now.memory.meminfo.known().and_then(|info| info.get(name).copied()).unwrap_or_default()
    }

    pub(crate) fn cpus(&self) -> u64 {
        self.now.cpu.stat.known().map_or(1, |stat| stat.each.len().max(1) as u64)
    }

    /// The finding of this rule of the doctor, if it is more than information.
    pub(crate) fn has_finding(&self, rule: &str) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.rule == rule && finding.severity > Severity::Info)
    }

    pub(crate) fn has_swap(&self) -> bool {
        self.meminfo("SwapTotal") > 0
    }

    /// It swaps to compressed memory only.
    pub(crate) fn has_zram(&self) -> bool {
        let swaps = &self.tunables.swaps;
        !swaps.is_empty() && swaps.iter().all(|swap| swap.contains("zram"))
    }

    /// The kind of a disk.
    pub(crate) fn disk(&self, name: &str) -> Option<&str> {
        let drives = self.now.hardware.drives.known()?;
        drives.iter().find(|drive| drive.name == name).map(|drive| drive.kind.as_str())
    }

    /// The kind of the disk that the key is about.
    pub(super) fn disk_of_key(&self) -> Option<&str> {
        self.disk(self.key.strip_prefix("sys.block.")?.rsplit_once('.')?.0)
    }

    /// Bytes on the way on a link: bandwidth times round trip.
    pub(crate) fn bandwidth_delay(&self) -> Option<u64> {
        Some((self.bandwidth? as f64 * self.rtt_ms? / 1e3 / 8.0) as u64)
    }
}
