//! Memory: meminfo, vmstat, pressure.

use crate::model::snapshot::memory::Memory;
use crate::model::snapshot::{Counters, Field};
use crate::probe::{Roots, counters, field, pressure};

/// Reads it.
pub(crate) fn read(roots: &Roots) -> Memory {
    Memory {
        meminfo: meminfo_of(roots),
        vmstat: field(&roots.proc.join("vmstat"), counters),
        pressure: field(&roots.proc.join("pressure/memory"), pressure),
    }
}

/// /proc/meminfo alone.
pub(crate) fn meminfo_of(roots: &Roots) -> Field<Counters> {
    field(&roots.proc.join("meminfo"), meminfo)
}

/// Sizes in bytes; counts (`HugePages_Total`) as they are.
fn meminfo(text: &str) -> Option<Counters> {
    let pair = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let mut words = rest.split_ascii_whitespace();
        let number: u64 = words.next()?.parse().ok()?;
        let factor = if words.next() == Some("kB") { 1024 } else { 1 };
        Some((name.to_owned(), number.checked_mul(factor)?))
    };
    let found: Counters = text.lines().filter_map(pair).collect();
    found.contains_key("MemTotal").then_some(found)
}
