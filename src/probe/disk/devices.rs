//! Block devices: /proc/diskstats, and what /sys/block tells of each. Partitions count with their device: what is slow or
//! broken is the device.

use std::collections::BTreeSet;

use crate::model::snapshot::Field;
use crate::model::snapshot::disk::{Array, Device};
use crate::probe::tunables::chosen;
use crate::probe::{Roots, field, number, read_dir, words};

/// Devices whose further files are read.
const DEVICES_MAX: usize = 256;

/// Names of whole devices, where /sys/block can be read. `/` in a name is `!` there.
pub(super) fn whole(roots: &Roots) -> Option<BTreeSet<String>> {
    let entries = read_dir(roots.sys.join("block")).ok()?;
    Some(entries.flatten().map(|entry| entry.file_name().to_string_lossy().replace('!', "/")).collect())
}

/// Whole devices that were ever used.
pub(super) fn read(roots: &Roots, whole: Option<&BTreeSet<String>>) -> Field<Vec<Device>> {
    let mut devices = field(&roots.proc.join("diskstats"), |text| parse(text, whole));
    if let Field::Known(devices) = &mut devices {
        devices.truncate(DEVICES_MAX);
        for device in devices {
            detail(roots, device);
        }
    }
    devices
}

fn detail(roots: &Roots, device: &mut Device) {
    let folder = roots.sys.join("block").join(device.name.replace('/', "!"));
    device.rotational = number(&folder.join("queue/rotational")).map(|value| value != 0);
    device.scheduler = words(&folder.join("queue/scheduler")).map(|text| chosen(&text));
    device.state = words(&folder.join("device/state"));
    device.label = words(&folder.join("dm/name"));
    let slaves = read_dir(folder.join("slaves")).into_iter().flatten().flatten();
    device.slaves = slaves.map(|slave| slave.file_name().to_string_lossy().into_owned()).collect();
}

/// The kernel lists partitions after their device.
fn parse(text: &str, whole: Option<&BTreeSet<String>>) -> Option<Vec<Device>> {
    let mut devices: Vec<Device> = Vec::new();
    for mut device in text.lines().filter_map(line) {
        let parent = devices.last_mut().filter(|parent| {
            whole.map_or_else(|| is_partition(&device.name, &parent.name), |whole| !whole.contains(&device.name))
                && device.name.starts_with(&parent.name)
        });
        match parent {
            Some(parent) => parent.numbers.append(&mut device.numbers),
            None => devices.push(device),
        }
    }
    // A machine without a disk, which /sys confirms, has an empty file.
    let found = !devices.is_empty() || (text.is_empty() && whole.is_some_and(BTreeSet::is_empty));
    devices.retain(|device| device.reads.saturating_add(device.writes).saturating_add(device.in_flight) > 0);
    found.then_some(devices)
}

/// `vda1` of `vda`, `nvme0n1p2` of `nvme0n1`: where /sys is not to be seen only the name tells.
fn is_partition(name: &str, parent: &str) -> bool {
    let Some(rest) = name.strip_prefix(parent) else { return false };
    let rest = if parent.ends_with(|last: char| last.is_ascii_digit()) {
        let Some(rest) = rest.strip_prefix('p') else { return false };
        rest
    } else {
        rest
    };
    !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit())
}

fn line(line: &str) -> Option<Device> {
    let words: Vec<&str> = line.split_ascii_whitespace().take(14).collect();
    let number = |at: usize| words.get(at)?.parse::<u64>().ok();
    Some(Device {
        numbers: vec![format!("{}:{}", number(0)?, number(1)?)],
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
        ..Device::default()
    })
}

/// Software RAID.
pub(super) fn arrays(roots: &Roots, whole: Option<&BTreeSet<String>>) -> Vec<Array> {
    let array = |name: &String| {
        let folder = roots.sys.join("block").join(name).join("md");
        // Without a level it is no array; linear and raid0 have no `degraded`.
        Some(Array {
            name: name.clone(),
            level: words(&folder.join("level"))?,
            state: words(&folder.join("array_state")).unwrap_or_default(),
            degraded: number(&folder.join("degraded")).unwrap_or_default(),
            disks: number(&folder.join("raid_disks")).unwrap_or_default(),
            sync: words(&folder.join("sync_action")).unwrap_or_default(),
        })
    };
    whole.into_iter().flatten().filter(|name| name.starts_with("md")).take(DEVICES_MAX).filter_map(array).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{is_partition, line, parse};

    /// Of a laptop with LUKS on NVMe, a card reader and a loop device; columns as Linux 6.1 writes them.
    const STATS: &str = "   7       0 loop0 49 0 710 21 0 0 0 0 0 30 21 0 0 0 0 0 0
   7       1 loop1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
 259       0 nvme0n1 321433 99203 21493282 53871 882301 601253 61230321 1422913 2 395448 1511832 0 0 0 0 101238 35047
 259       1 nvme0n1p1 265 1150 18364 57 2 0 2 0 0 88 58 0 0 0 0 0 0
 259       2 nvme0n1p2 321041 98053 21469278 53782 882299 601253 61230319 1422913 2 395392 1476695 0 0 0 0 0 0
 254       0 dm-0 418902 0 21463946 91196 1483554 0 61230312 13312880 3 395556 13404076 0 0 0 0 0 0
 179       0 mmcblk0 10 0 80 5 0 0 0 0 0 8 5 0 0 0 0 0 0
 179       1 mmcblk0p1 5 0 40 2 0 0 0 0 0 4 2 0 0 0 0 0 0
";

    #[test]
    fn partitions_count_with_their_device() {
        let whole: BTreeSet<String> =
            ["loop0", "loop1", "nvme0n1", "dm-0", "mmcblk0"].into_iter().map(str::to_owned).collect();
        for whole in [Some(&whole), None] {
            let devices = parse(STATS, whole).expect("devices");
            let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
            assert_eq!(names, ["loop0", "nvme0n1", "dm-0", "mmcblk0"]);
            assert_eq!(devices[1].numbers, ["259:0", "259:1", "259:2"]);
            assert_eq!((devices[1].reads, devices[1].write_ms, devices[1].in_flight), (321_433, 1_422_913, 2));
            assert_eq!((devices[1].busy_ms, devices[1].queue_ms), (395_448, 1_511_832));
        }
        assert_eq!(parse("", None), None);
    }

    #[test]
    fn names_tell_partitions_where_nothing_else_does() {
        for (name, parent, expected) in [
            ("sda1", "sda", true),
            ("sdaa", "sda", false),
            ("loop10", "loop1", false),
            ("nvme0n1p2", "nvme0n1", true),
            ("nvme0n12", "nvme0n1", false),
            ("dm-10", "dm-1", false),
            ("md0p1", "md0", true),
        ] {
            assert_eq!(is_partition(name, parent), expected, "{name} of {parent}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in any::<String>()) {
            let _ = (parse(&text, None), line(&text));
        }

        #[test]
        fn a_damaged_file_is_no_panic(at in 0usize..STATS.len(), byte in any::<u8>()) {
            let mut bytes = STATS.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = parse(&String::from_utf8_lossy(&bytes), None);
        }
    }
}
