//! Counters of the network stack before and now.

use crate::doctor::rule::{RuleContext, Skip};
use crate::model::snapshot::Counters;

/// Where the kernel writes a counter of that name.
pub(super) fn file_of(name: &str) -> &'static str {
    match name.split_once('.') {
        Some(("TcpExt" | "IpExt" | "MPTcpExt", _)) => "/proc/net/netstat",
        Some(_) => "/proc/net/snmp",
        None => "/proc/net/snmp6",
    }
}

fn both<'a>(context: &RuleContext<'a>) -> Result<(&'a Counters, &'a Counters), Skip> {
    Ok((context.before().net.counters.get()?, context.now().net.counters.get()?))
}

/// A counter before and now. One that this kernel does not have is no zero.
pub(super) fn counter(context: &RuleContext<'_>, name: &str) -> Result<(u64, u64), Skip> {
    let (before, now) = both(context)?;
    before
        .get(name)
        .copied()
        .zip(now.get(name).copied())
        .ok_or_else(|| Skip(format!("{}: {name} is not in it", file_of(name))))
}

/// Growth of a counter, where it exists; where it only confirms another.
pub(super) fn grown(context: &RuleContext<'_>, name: &str) -> u64 {
    counter(context, name).map_or(0, |(before, now)| now.saturating_sub(before))
}

/// A share; of nothing it is nothing.
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}
