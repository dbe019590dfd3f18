//! Disks: pressure, diskstats, mounts.

use crate::model::snapshot::disk::{Device, Disk};
use crate::probe::{Roots, field, pressure};

/// Reads it.
pub(crate) fn read(roots: &Roots) -> Disk {
    Disk {
        pressure: field(&roots.proc.join("pressure/io"), pressure),
        devices: field(&roots.proc.join("diskstats"), devices),
        ..Disk::default()
    }
}

/// Whole devices and partitions alike, those that were ever used.
fn devices(text: &str) -> Option<Vec<Device>> {
    let device = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |at: usize| words.get(at)?.parse::<u64>().ok();
        Some(Device {
            name: (*words.get(2)?).to_owned(),
            reads: number(3)?,
            read_sectors: number(5)?,
            read_ms: number(6)?,
            writes: number(7)?,
            written_sectors: number(9)?,
            write_ms: number(10)?,
            in_flight: number(11)?,
            busy_ms: number(12)?,
            queue_ms: number(13)?,
            rotational: None,
        })
    };
    Some(text.lines().filter_map(device).filter(|device| device.reads + device.writes > 0).collect())
}
