//! The table of all settings, from one file for each area.

use crate::model::setting::Place;
use crate::tune::row::Row;
use crate::tune::{block, kernel, limits, memory, network};

/// All rows.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    [memory::ROWS, kernel::ROWS, network::ROWS, block::ROWS, limits::ROWS].into_iter().flatten()
}

/// Names of the settings in /proc/sys that are read: those of the catalogue, and their counterparts.
pub(crate) fn sysctls() -> Vec<&'static str> {
    let own = rows().filter(|row| row.place == Place::Sysctl).map(|row| row.key);
    own.chain(COUNTERPARTS.iter().map(|(_, other)| *other)).collect()
}

/// Settings of which the kernel zeroes one when the other is written.
pub(crate) const COUNTERPARTS: &[(&str, &str)] =
    &[("vm.dirty_bytes", "vm.dirty_ratio"), ("vm.dirty_background_bytes", "vm.dirty_background_ratio")];
