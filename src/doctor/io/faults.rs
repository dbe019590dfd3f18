//! Rules about errors: file systems that became read-only, errors they counted, arrays without a disk, devices that are
//! gone, and what the kernel's log says of them.

use std::collections::BTreeMap;

use crate::doctor::culprit;
use crate::doctor::io::mount::{main_mount, may_be_unmounted, mount_of, quoted};
use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::model::diagnosis::{Finding, Severity};
use crate::model::snapshot::disk::{Array, Errors, Mount};
use crate::model::snapshot::system::Record;

/// Devices whose errors only say that nothing is in them.
const EMPTY_DRIVES: &[&str] = &["fd", "sr"];
/// States of devices that work; others are `offline`, `blocked`, `dead`, ...
const WORKING: &[&str] = &["running", "live", "connected", "new", "created", "quiesce", "resetting", "connecting"];
/// Patterns of the kernel's log that are errors of a file system or a device.
const PATTERNS: &[&str] = &["io_error", "fs_error", "io_timeout"];

/// `fs.readonly`.
pub(super) fn readonly(context: &RuleContext<'_>) -> Verdict {
    let disk = &context.now().disk;
    let mounts = disk.mounts.get()?;
    let wanted = disk.writable_by_fstab.known();
    let mut findings: Vec<Finding> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    let is_main = |mount: &&Mount| {
        let main = main_mount(mounts.iter().filter(|other| other.device == mount.device));
        main.is_some_and(|main| main.point == mount.point)
    };
    for mount in mounts.iter().filter(is_main) {
        let has = |option: &str| mount.super_options.iter().any(|found| found == option);
        let emergency = ["emergency_ro", "shutdown"].into_iter().find(|option| has(option));
        let name = device_name(mount);
        let errors =
            disk.errors.iter().find(|errors| errors.kind == mount.kind && errors.device == name && errors.count > 0);
        let logged =
            records(context, &["readonly"]).iter().filter(|record| device_of(&record.text) == Some(name)).count();
        // The next image in the same loop device has nothing to do with it.
        let logged = if is_loop(name) { 0 } else { logged };
        let by_fstab = has("ro") && wanted.is_some_and(|wanted| wanted.contains(&mount.point));
        let is_fault = emergency.is_some() || (has("ro") && (by_fstab || errors.is_some() || logged > 0));
        if !is_fault || seen.contains(&mount.device.as_str()) {
            continue;
        }
        seen.push(&mount.device);
        let signals =
            [emergency.is_some(), errors.is_some(), logged > 0, by_fstab].into_iter().filter(|agrees| *agrees).count();
        // That fstab wants it otherwise may be the wish of an administrator; errors are nobody's wish.
        let hard = emergency.is_some() || errors.is_some() || logged > 0;
        let Some(severity) = context.judge(1.0, hard) else { continue };
        let option = emergency.unwrap_or("ro");
        let count = errors.map_or(0, |errors| errors.count);
        let title = match count {
            0 => format!("{option}: nothing can be written to {}", mount.point),
            count => format!("{option} after {count} {}: nothing can be written to {}", plural(count), mount.point),
        };
        let mut finding = context.finding(severity, 1.0, title).agreed(signals as u32);
        finding = finding.read("/proc/self/mountinfo", &format!("{} {option}", mount.point), 1.0, "");
        if let Some(errors) = errors {
            finding = finding.read(&errors.path, "errors_count", errors.count as f64, "");
        }
        if by_fstab {
            finding = finding.read("/etc/fstab", &format!("{} without ro", mount.point), 1.0, "");
        }
        if logged > 0 {
            finding = finding.read("/dev/kmsg", "Remounting filesystem read-only", logged as f64, "");
        }
        let what = format!("{} on {}", mount.kind, mount.source);
        finding = finding.by([culprit::thing("mount", &mount.point, what)]);
        let command = check_of(mount, "fsck");
        let how = if command.is_some() { "" } else { " from a rescue system" };
        let text = format!("save what can be read, then check the file system{how} and the disk below it");
        findings.push(finding.interrupt(text, command));
    }
    Ok(findings)
}

/// Unmounts and checks it. What the running system stands on cannot be unmounted.
fn check_of(mount: &Mount, fsck: &str) -> Option<String> {
    let (source, point) = quoted(&mount.source).zip(quoted(&mount.point))?;
    may_be_unmounted(&mount.point).then(|| format!("umount {point} && {fsck} {source}"))
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "error" } else { "errors" }
}

/// `vda1` of `/dev/vda1`, `dm-0` of `/dev/mapper/root`: as /sys/fs and the log call it.
fn device_name(mount: &Mount) -> &str {
    let of_source = || mount.source.rsplit('/').next().unwrap_or_default();
    mount.block.as_deref().unwrap_or_else(of_source)
}

/// A loop device is another one each time.
fn is_loop(name: &str) -> bool {
    name.strip_prefix("loop").is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// Records of the kernel's log with one of the patterns; none where it cannot be read.
fn records<'a>(context: &RuleContext<'a>, patterns: &[&str]) -> Vec<&'a Record> {
    let all = context.now().system.kmsg.known().into_iter().flat_map(|kmsg| &kmsg.records);
    all.filter(|record| patterns.contains(&record.pattern.as_str())).collect()
}

/// `I/O error, dev sda, sector 8`, `EXT4-fs error (device sda1): ...`, `XFS (sda1): ...`, `EXT4-fs (sda1): Remounting`.
fn device_of(text: &str) -> Option<&str> {
    let starts = ["(device ", "dev ", "XFS (", "EXT4-fs (", "nvme "];
    let rest = starts.iter().find_map(|start| text.split_once(start).map(|(_, rest)| rest))?;
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_!".contains(c))).unwrap_or(rest.len());
    rest.get(..end).filter(|name| !name.is_empty())
}

/// `fs.errors`.
pub(super) fn errors(context: &RuleContext<'_>) -> Verdict {
    let disk = &context.now().disk;
    let mut findings = Vec::new();
    findings.extend(disk.errors.iter().filter(|errors| errors.count > 0).filter_map(|errors| counted(context, errors)));
    findings.extend(disk.arrays.iter().filter_map(|array| of_array(context, array)));
    findings.extend(of_states(context));
    findings.extend(logged(context));
    match context.now().system.kmsg.get() {
        Err(why) if findings.is_empty() => {
            let Skip(reason) = why.into();
            Err(Skip(format!("{reason}; the counters of file systems and arrays are well")))
        }
        _ => Ok(findings),
    }
}

fn counted(context: &RuleContext<'_>, errors: &Errors) -> Option<Finding> {
    let before =
        context.before().disk.errors.iter().find(|before| before.kind == errors.kind && before.device == errors.device);
    let before = before.map_or(errors.count, |before| before.count);
    let grows = errors.count > before;
    let severity = context.judge(errors.count as f64, grows)?;
    let mounts = context.now().disk.mounts.known().into_iter().flatten();
    let mount = main_mount(mounts.filter(|mount| mount.kind == errors.kind && device_name(mount) == errors.device));
    let since = match errors.last_s_ago {
        Some(seconds) if seconds < 7200 => format!(", the last {} min ago", seconds / 60),
        Some(seconds) => format!(", the last {} h ago", seconds / 3600),
        None => String::new(),
    };
    let noun = plural(errors.count);
    let title = format!("{} on {} has counted {} {noun}{since}", errors.kind, errors.device, errors.count);
    let finding = context
        .finding(severity, errors.count as f64, title)
        .counted(&errors.path, "errors", before, errors.count, "")
        .agreed(1 + u32::from(grows));
    let finding = match mount {
        Some(mount) => finding.by([culprit::thing("mount", &mount.point, format!("{} {noun}", errors.count))]),
        None => finding.by([culprit::thing("device", &errors.device, format!("{} {noun}", errors.count))]),
    };
    let command = match (errors.kind.as_str(), mount.and_then(|mount| quoted(&mount.point))) {
        ("btrfs", Some(point)) => Some(format!("btrfs device stats {point}")),
        ("ext4", Some(_)) => mount.and_then(|mount| check_of(mount, "fsck.ext4 -f")),
        _ => None,
    };
    let text = "back up, then check the file system: the count is kept until then";
    Some(match errors.kind.as_str() {
        "ext4" => finding.interrupt(text, command),
        _ => finding.fix(text, command),
    })
}

fn of_array(context: &RuleContext<'_>, array: &Array) -> Option<Finding> {
    let is_broken = ["broken", "failed"].contains(&array.state.as_str());
    if array.degraded == 0 && !is_broken {
        return None;
    }
    let severity = context.judge(1.0, is_broken || array.degraded >= array.disks.max(1))?;
    let title =
        format!("{} ({}) lacks {} of {} disks, {}", array.name, array.level, array.degraded, array.disks, array.sync);
    let path = format!("/sys/block/{}/md/degraded", array.name);
    let finding = context
        .finding(severity, array.degraded as f64, title)
        .read(&path, "degraded", array.degraded as f64, "")
        .by([culprit::thing("device", &array.name, format!("{}, {}", array.state, array.sync))]);
    let command = format!("mdadm --detail /dev/{}", array.name);
    let is_plain = array.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    Some(finding.fix("replace the disk that failed", is_plain.then_some(command)))
}

/// Devices that the kernel has given up.
fn of_states(context: &RuleContext<'_>) -> Vec<Finding> {
    let devices = context.now().disk.devices.known().into_iter().flatten();
    let say = |device: &crate::model::snapshot::disk::Device| {
        let state = device.state.as_deref().filter(|state| !WORKING.contains(state))?;
        let severity = context.judge(1.0, true)?;
        let path = format!("/sys/block/{}/device/state", device.name);
        let mount =
            mount_of(context, &device.numbers).map(|mount| format!(" with {}", mount.point)).unwrap_or_default();
        let finding = context
            .finding(severity, 1.0, format!("{} is {state}{mount}", device.name))
            .read(&path, state, 1.0, "")
            .by([culprit::thing("device", &device.name, format!("{state}{mount}"))]);
        Some(finding.fix("look for its cable, its controller or its host", None))
    };
    devices.filter_map(say).collect()
}

/// Errors in the kernel's log, by device; those that a file system counts itself are reported already.
fn logged(context: &RuleContext<'_>) -> Vec<Finding> {
    let mut by_device: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in records(context, PATTERNS) {
        let device = device_of(&record.text).unwrap_or("a device");
        if !EMPTY_DRIVES.iter().any(|start| device.strip_prefix(start).is_some_and(|rest| rest.parse::<u32>().is_ok()))
        {
            by_device.entry(device).or_default().push(record);
        }
    }
    let is_counted =
        |device: &str| context.now().disk.errors.iter().any(|errors| errors.device == device && errors.count > 0);
    let start = context.before().system.uptime.known().copied();
    let say = |(device, records): (&str, Vec<&Record>)| {
        if is_counted(device) {
            return None;
        }
        let now = records.iter().filter(|record| start.is_some_and(|start| record.at_s >= start)).count();
        // A stick that was pulled out and an image that was detached are past.
        let is_past = now == 0 && !is_in_use(context, device);
        let severity = if is_past { Severity::Info } else { context.judge(records.len() as f64, now > 0)? };
        let last = records.last()?;
        let when = match now {
            0 => "in the last half hour".to_owned(),
            now => format!("in the last half hour, {now} now"),
        };
        let noun = plural(records.len() as u64);
        let title = format!("{} {noun} of {device} {when}", records.len());
        let finding = context
            .finding(severity, records.len() as f64, title)
            .read("/dev/kmsg", "records of errors", records.len() as f64, "")
            .agreed(1 + u32::from(now > 0))
            .by([culprit::thing("device", device, culprit::excerpt(&last.text))]);
        Some(finding.fix(
            "back up; then look at the disk and its cable",
            Some("dmesg --level err,warn | tail -n 30".to_owned()),
        ))
    };
    by_device.into_iter().filter_map(say).collect()
}

/// A device that is there, or that a mount or another device stands on.
fn is_in_use(context: &RuleContext<'_>, name: &str) -> bool {
    if is_loop(name) {
        return false;
    }
    let disk = &context.now().disk;
    let is_mounted = disk.mounts.known().into_iter().flatten().any(|mount| device_name(mount) == name);
    let devices = disk.devices.known().into_iter().flatten();
    let is_there = |device: &crate::model::snapshot::disk::Device| {
        device.slaves.iter().any(|slave| slave == name) || name.starts_with(&device.name)
    };
    is_mounted || devices.into_iter().any(is_there)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::device_of;
    use crate::doctor::diagnose::diagnose;
    use crate::doctor::fixture::{Fixture, severities};
    use crate::doctor::question::Question;
    use crate::model::diagnosis::Severity::{Crit, Info, Warn};

    const QUIET: &str = "6,1,1000,-;Linux version 6.18.44\n";

    /// The root, and a second file system with these options of the mount and of itself.
    fn fixture(name: &str, mount: &str, own: &str) -> Fixture {
        let fixture = Fixture::new(&format!("faults-{name}"));
        let text = format!(
            "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n40 27 8:17 / /data {mount},relatime - ext4 /dev/sdb1 {own}\n"
        );
        fixture.file("proc/self/mountinfo", &text).file("dev/kmsg", QUIET).file("proc/uptime", "1000.00 900.00\n");
        fixture
    }

    #[test]
    fn a_file_system_that_gave_up_writing_is_critical() {
        assert_eq!(severities(&fixture("well", "rw", "rw").ask("fs.readonly")), []);
        // Linux 6.18 does not show `ro` after an error.
        let found = fixture("emergency", "rw", "rw,errors=remount-ro,emergency_ro").ask("fs.readonly");
        assert_eq!(severities(&found), [Crit]);
        assert_eq!(found[0].culprits[0].name, "/data");
        assert_eq!(found[0].remedies[0].command.as_deref(), Some("umount /data && fsck /dev/sdb1"));
    }

    #[test]
    fn read_only_by_wish_is_no_fault() {
        assert_eq!(severities(&fixture("bind", "ro", "rw").ask("fs.readonly")), []);
        let wish = fixture("wish", "ro", "ro");
        assert_eq!(severities(&wish.ask("fs.readonly")), []);
        wish.file("etc/fstab", "/dev/sdb1 /data ext4 ro,noatime 0 2\n");
        assert_eq!(severities(&wish.ask("fs.readonly")), []);
        wish.file("etc/fstab", "/dev/sdb1 /data ext4 defaults 0 2\n");
        assert_eq!(severities(&wish.ask("fs.readonly")), [Warn]);
        wish.file("dev/kmsg", "3,1,1000,-;EXT4-fs (sdb1): Remounting filesystem read-only\n");
        assert_eq!(severities(&wish.ask("fs.readonly")), [Crit]);
        wish.file("dev/kmsg", QUIET);
        // Older kernels: `ro` and a count of errors.
        wish.file("sys/fs/ext4/sdb1/errors_count", "3\n");
        assert_eq!(severities(&wish.ask("fs.readonly")), [Crit]);
    }

    #[test]
    fn counted_errors_are_a_warning_and_new_ones_critical() {
        let fixture = fixture("counted", "rw", "rw");
        fixture.file("sys/fs/ext4/sdb1/errors_count", "0\n").file("sys/fs/ext4/features/casefold", "supported\n");
        assert_eq!(severities(&fixture.ask("fs.errors")), []);
        fixture.file("sys/fs/ext4/sdb1/errors_count", "2\n").file("sys/fs/ext4/sdb1/last_error_time", "1700000400\n");
        fixture.file("proc/stat", "cpu  1 0 1 1 0 0 0 0 0 0\nbtime 1700000000\n");
        let found = fixture.ask("fs.errors");
        assert_eq!(
            (severities(&found), found[0].title.as_str()),
            (vec![Warn], "ext4 on sdb1 has counted 2 errors, the last 10 min ago")
        );
        fixture.changing("sys/fs/ext4/sdb1/errors_count", "2\n", "5\n");
        assert_eq!(severities(&fixture.ask("fs.errors")), [Crit]);
    }

    #[test]
    fn errors_are_known_by_the_kernels_name_of_the_device() {
        let fixture = Fixture::new("faults-mapper");
        fixture
            .file("proc/self/mountinfo", "27 1 253:0 / / ro - ext4 /dev/mapper/vg-root ro\n")
            .file("dev/kmsg", QUIET);
        fixture
            .file("sys/fs/ext4/dm-0/errors_count", "1\n")
            .link("sys/dev/block/253:0", "../../devices/virtual/block/dm-0");
        let found = fixture.ask("fs.readonly");
        assert_eq!((severities(&found), found[0].evidence.len()), (vec![Crit], 2));
    }

    #[test]
    fn btrfs_counts_by_device() {
        let fixture = fixture("btrfs", "rw", "rw");
        let path = "sys/fs/btrfs/0b2f6c5e-7d0c-4d5e-9d8e-6a1f0f3a2b1c/devinfo/1/error_stats";
        fixture.file(path, "write_errs 0\nread_errs 0\nflush_errs 0\ncorruption_errs 0\ngeneration_errs 0\n");
        assert_eq!(severities(&fixture.ask("fs.errors")), []);
        fixture.file(path, "write_errs 0\nread_errs 4\nflush_errs 0\ncorruption_errs 2\ngeneration_errs 0\n");
        let found = fixture.ask("fs.errors");
        assert_eq!((severities(&found), found[0].value), (vec![Warn], 6.0));
    }

    #[test]
    fn an_array_without_a_disk_is_found() {
        let fixture = fixture("array", "rw", "rw");
        let array = |degraded: &str, state: &str| {
            for (name, text) in [
                ("level", "raid1"),
                ("degraded", degraded),
                ("raid_disks", "2"),
                ("array_state", state),
                ("sync_action", "idle"),
            ] {
                fixture.file(&format!("sys/block/md0/md/{name}"), &format!("{text}\n"));
            }
            severities(&fixture.ask("fs.errors"))
        };
        assert_eq!(array("0", "clean"), []);
        assert_eq!(array("1", "clean"), [Warn]);
        assert_eq!(array("1", "broken"), [Crit]);
    }

    #[test]
    fn a_device_that_the_kernel_gave_up_is_critical() {
        let fixture = fixture("offline", "rw", "rw");
        fixture.file("proc/diskstats", " 8 16 sdb 100 0 800 50 100 0 8000 70 0 90 120 0 0 0 0 0 0\n");
        fixture.file("sys/block/sdb/device/state", "running\n");
        assert_eq!(severities(&fixture.ask("fs.errors")), []);
        fixture.file("sys/block/sdb/device/state", "offline\n");
        assert_eq!(severities(&fixture.ask("fs.errors")), [Crit]);
    }

    #[test]
    fn the_log_is_believed_if_the_device_is_in_use() {
        let log = |name: &str, device: &str, second: u64| {
            let fixture = fixture(name, "rw", "rw");
            fixture.file("dev/kmsg", &format!("3,700,{second}000000,-;I/O error, dev {device}, sector 8192 op 0x0:(READ) flags 0x800 phys_seg 1 prio class 2\n"));
            severities(&fixture.ask("fs.errors"))
        };
        assert_eq!(log("old", "sdb1", 900), [Warn]);
        assert_eq!(log("now", "sdb1", 1000), [Crit]);
        // A stick that was pulled out, an image that was detached, a drive without a floppy.
        assert_eq!(log("gone", "sdz", 900), [Info]);
        assert_eq!(log("loop", "loop3", 900), [Info]);
        assert_eq!(log("floppy", "fd0", 1000), []);
    }

    #[test]
    fn without_the_log_nothing_is_said_to_be_well() {
        let fixture = Fixture::new("faults-no-log");
        fixture.file("proc/uptime", "1000.00 900.00\n");
        let question = Question { only: vec!["fs.errors".to_owned()], ..Question::default() };
        let diagnosis = diagnose(&fixture.window(), &question);
        assert!(diagnosis.skipped[0].reason.contains("kmsg"), "{:?}", diagnosis.skipped);
    }

    #[test]
    fn the_device_is_found_in_each_kind_of_record() {
        for (text, expected) in [
            ("I/O error, dev sda, sector 8 op 0x0:(READ)", Some("sda")),
            ("Buffer I/O error on dev dm-0, logical block 3, lost async page write", Some("dm-0")),
            ("EXT4-fs error (device nvme0n1p2): ext4_find_entry:1455: inode #2: comm ls", Some("nvme0n1p2")),
            ("EXT4-fs (sda1): Remounting filesystem read-only", Some("sda1")),
            ("XFS (vdb): metadata I/O error in \"xfs_da_read_buf\"", Some("vdb")),
            ("BTRFS error (device sdc1: state EA): parent transid verify failed", Some("sdc1")),
            ("critical medium error, dev sdd, sector 1", Some("sdd")),
            ("I/O error", None),
            ("dev ", None),
        ] {
            assert_eq!(device_of(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_record_is_a_panic(text in any::<String>(), start in "(dev |XFS \\(|\\(device )") {
            let _ = (device_of(&text), device_of(&format!("{start}{text}")));
        }
    }
}
