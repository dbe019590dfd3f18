//! Disks: pressure, devices, mounts, errors that file systems remember; and what is looked for only once in a window.

mod deleted;
mod devices;
mod errors;
mod limits;
mod mounts;

use crate::model::snapshot::disk::Disk;
use crate::probe::{Roots, field, pressure};

/// Reads what a snapshot has.
pub(crate) fn read(roots: &Roots) -> Disk {
    let whole = devices::whole(roots);
    Disk {
        pressure: field(&roots.proc.join("pressure/io"), pressure),
        devices: devices::read(roots, whole.as_ref()),
        mounts: mounts::read(roots),
        writable_by_fstab: mounts::writable_by_fstab(roots),
        errors: errors::read(roots),
        arrays: devices::arrays(roots, whole.as_ref()),
        ..Disk::default()
    }
}

/// Looks for what is a state and too dear for every snapshot. `is_deep` lifts the bounds.
pub(crate) fn read_once(roots: &Roots, disk: &mut Disk, is_deep: bool) {
    disk.limits = limits::read(roots);
    disk.deleted = deleted::read(roots, disk.mounts.known().map_or(&[], Vec::as_slice), is_deep);
}
