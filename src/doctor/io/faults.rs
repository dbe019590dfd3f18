//! Rules about errors: file systems that became read-only, errors they counted, arrays without a disk, devices that are
//! gone, and what the kernel's log says of them.

use std::collections::BTreeMap;

use crate::doctor::io::{mount_of, quoted};
use crate::doctor::{Look, Skip, Verdict, culprit};
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
pub(super) fn readonly(look: &Look<'_>) -> Verdict {
    let disk = &look.now().disk;
    let mounts = disk.mounts.get()?;
    let wanted = disk.writable_by_fstab.known();
    let mut findings: Vec<Finding> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    let mut shortest: Vec<&Mount> = mounts.iter().collect();
    shortest.sort_by_key(|mount| (mount.point.len(), &mount.point));
    for mount in shortest {
        let has = |option: &str| mount.super_options.iter().any(|found| found == option);
        let emergency = ["emergency_ro", "shutdown"].into_iter().find(|option| has(option));
        let name = device_name(mount);
        let errors =
            disk.errors.iter().find(|errors| errors.kind == mount.kind && errors.device == name && errors.count > 0);
        let logged = records(look, &["readonly"]).iter().filter(|record| device_of(&record.text) == Some(name)).count();
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
        let Some(severity) = look.judge(1.0, hard) else { continue };
        let option = emergency.unwrap_or("ro");
        let count = errors.map_or(0, |errors| errors.count);
        let title = match count {
            0 => format!("{option}: nothing can be written to {}", mount.point),
            count => format!("{option} after {count} {}: nothing can be written to {}", plural(count), mount.point),
        };
        let mut finding = look.finding(severity, 1.0, title).agreed(signals as u32);
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
        let check = quoted(&mount.source).zip(quoted(&mount.point));
        let command = check.map(|(source, point)| format!("umount {point} && fsck {source}"));
        findings.push(finding.fix("save what can be read, then check the file system and the disk below it", command));
    }
    Ok(findings)
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "error" } else { "errors" }
}

/// `vda1` of `/dev/vda1`, as /sys/fs and the log call it.
fn device_name(mount: &Mount) -> &str {
    mount.source.rsplit('/').next().unwrap_or_default()
}

/// Records of the kernel's log with one of the patterns; none where it cannot be read.
fn records<'a>(look: &Look<'a>, patterns: &[&str]) -> Vec<&'a Record> {
    let all = look.now().system.kmsg.known().into_iter().flat_map(|kmsg| &kmsg.records);
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
pub(super) fn errors(look: &Look<'_>) -> Verdict {
    let disk = &look.now().disk;
    let mut findings = Vec::new();
    findings.extend(disk.errors.iter().filter(|errors| errors.count > 0).filter_map(|errors| counted(look, errors)));
    findings.extend(disk.arrays.iter().filter_map(|array| of_array(look, array)));
    findings.extend(of_states(look));
    findings.extend(logged(look));
    match look.now().system.kmsg.get() {
        Err(why) if findings.is_empty() => {
            let Skip(reason) = why.into();
            Err(Skip(format!("{reason}; the counters of file systems and arrays are well")))
        }
        _ => Ok(findings),
    }
}

fn counted(look: &Look<'_>, errors: &Errors) -> Option<Finding> {
    let before = look.before().disk.errors.iter().find(|before| before.path == errors.path);
    let before = before.map_or(errors.count, |before| before.count);
    let grows = errors.count > before;
    let severity = look.judge(errors.count as f64, grows)?;
    let mounts = look.now().disk.mounts.known().into_iter().flatten();
    let mount = mounts
        .filter(|mount| mount.kind == errors.kind && device_name(mount) == errors.device)
        .min_by_key(|mount| mount.point.len());
    let since = match errors.last_s_ago {
        Some(seconds) if seconds < 7200 => format!(", the last {} min ago", seconds / 60),
        Some(seconds) => format!(", the last {} h ago", seconds / 3600),
        None => String::new(),
    };
    let noun = plural(errors.count);
    let title = format!("{} on {} has counted {} {noun}{since}", errors.kind, errors.device, errors.count);
    let finding = look
        .finding(severity, errors.count as f64, title)
        .counted(&errors.path, "errors", before, errors.count, "")
        .agreed(1 + u32::from(grows));
    let finding = match mount {
        Some(mount) => finding.by([culprit::thing("mount", &mount.point, format!("{} {noun}", errors.count))]),
        None => finding.by([culprit::thing("device", &errors.device, format!("{} {noun}", errors.count))]),
    };
    let command = match (errors.kind.as_str(), mount.and_then(|mount| quoted(&mount.point))) {
        ("btrfs", Some(point)) => Some(format!("btrfs device stats {point}")),
        ("ext4", Some(point)) => {
            quoted(&mount?.source).map(|source| format!("umount {point} && fsck.ext4 -f {source}"))
        }
        _ => None,
    };
    Some(finding.fix("back up, then check the file system: the count is kept until then", command))
}

fn of_array(look: &Look<'_>, array: &Array) -> Option<Finding> {
    let is_broken = ["broken", "failed"].contains(&array.state.as_str());
    if array.degraded == 0 && !is_broken {
        return None;
    }
    let severity = look.judge(1.0, is_broken || array.degraded >= array.disks.max(1))?;
    let title =
        format!("{} ({}) lacks {} of {} disks, {}", array.name, array.level, array.degraded, array.disks, array.sync);
    let path = format!("/sys/block/{}/md/degraded", array.name);
    let finding = look
        .finding(severity, array.degraded as f64, title)
        .read(&path, "degraded", array.degraded as f64, "")
        .by([culprit::thing("device", &array.name, format!("{}, {}", array.state, array.sync))]);
    let command = format!("mdadm --detail /dev/{}", array.name);
    let is_plain = array.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    Some(finding.fix("replace the disk that failed", is_plain.then_some(command)))
}

/// Devices that the kernel has given up.
fn of_states(look: &Look<'_>) -> Vec<Finding> {
    let devices = look.now().disk.devices.known().into_iter().flatten();
    let say = |device: &crate::model::snapshot::disk::Device| {
        let state = device.state.as_deref().filter(|state| !WORKING.contains(state))?;
        let severity = look.judge(1.0, true)?;
        let path = format!("/sys/block/{}/device/state", device.name);
        let mount = mount_of(look, &device.numbers).map(|mount| format!(" with {}", mount.point)).unwrap_or_default();
        let finding = look
            .finding(severity, 1.0, format!("{} is {state}{mount}", device.name))
            .read(&path, state, 1.0, "")
            .by([culprit::thing("device", &device.name, format!("{state}{mount}"))]);
        Some(finding.fix("look for its cable, its controller or its host", None))
    };
    devices.filter_map(say).collect()
}

/// What the kernel's log says, by device; those whose file system counts them are said already.
fn logged(look: &Look<'_>) -> Vec<Finding> {
    let mut by_device: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in records(look, PATTERNS) {
        let device = device_of(&record.text).unwrap_or("a device");
        if !EMPTY_DRIVES.iter().any(|start| device.strip_prefix(start).is_some_and(|rest| rest.parse::<u32>().is_ok()))
        {
            by_device.entry(device).or_default().push(record);
        }
    }
    let is_counted =
        |device: &str| look.now().disk.errors.iter().any(|errors| errors.device == device && errors.count > 0);
    let start = look.before().system.uptime.known().copied();
    let say = |(device, records): (&str, Vec<&Record>)| {
        if is_counted(device) {
            return None;
        }
        let now = records.iter().filter(|record| start.is_some_and(|start| record.at_s >= start)).count();
        // A stick that was pulled out and an image that was detached are past.
        let is_past = now == 0 && !is_in_use(look, device);
        let severity = if is_past { Severity::Info } else { look.judge(records.len() as f64, now > 0)? };
        let last = records.last()?;
        let when = match now {
            0 => "in the last half hour".to_owned(),
            now => format!("in the last half hour, {now} now"),
        };
        let noun = plural(records.len() as u64);
        let title = format!("{} {noun} of {device} {when}", records.len());
        let finding = look
            .finding(severity, records.len() as f64, title)
            .read("/dev/kmsg", &last.text, records.len() as f64, "")
            .agreed(1 + u32::from(now > 0))
            .by([culprit::thing("device", device, last.text.chars().take(60).collect())]);
        Some(finding.fix(
            "back up; then look at the disk and its cable",
            Some("dmesg --level err,warn | tail -n 30".to_owned()),
        ))
    };
    by_device.into_iter().filter_map(say).collect()
}

/// A device that is there, or that a mount or another device stands on. A loop device is another one each time.
fn is_in_use(look: &Look<'_>, name: &str) -> bool {
    if name.starts_with("loop") {
        return false;
    }
    let disk = &look.now().disk;
    let is_mounted = disk.mounts.known().into_iter().flatten().any(|mount| device_name(mount) == name);
    let devices = disk.devices.known().into_iter().flatten();
    let is_there = |device: &crate::model::snapshot::disk::Device| {
        device.slaves.iter().any(|slave| slave == name) || name.starts_with(&device.name)
    };
    is_mounted || devices.into_iter().any(is_there)
}
