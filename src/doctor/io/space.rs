//! Rules about room: bytes, inodes, how soon they are gone.

use std::collections::HashSet;

use crate::doctor::culprit::{self, Earlier};
use crate::doctor::io::mount::{main_mount, quoted};
use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::doctor::target;
use crate::model::diagnosis::{Culprit, Severity};
use crate::model::snapshot::disk::{Mount, Space};
use crate::model::snapshot::process::Process;
use crate::model::snapshot::{Field, Snapshot};
use crate::model::unit::Bytes;

/// Full by their nature.
const IMAGES: &[&str] = &["squashfs", "iso9660", "erofs", "cramfs", "udf", "romfs", "fuse.squashfuse", "fuse.snapfuse"];
/// Smaller ones are no place to work in.
const SIZE_MIN: u64 = 1 << 20;
/// With more room than this a small share is no fault.
const ROOM: u64 = 20 << 30;
/// Critical only with less than this.
const NEARLY_NONE: u64 = 5 << 30;
/// On a disk larger than `ROOM` this is nothing.
const NOTHING: u64 = 1 << 30;
/// A speed that a window shows is believed for so many times its length: a build writes fast, but not for long.
const BELIEVED: f64 = 30.0;
/// A file system with more room left than this share is not filling critically, whatever the speed. Percent.
const HALF_EMPTY: f64 = 40.0;
/// Room for temporary files in memory below which it is reported as information.
const TEMPORARY_SAID: u64 = 2 << 30;

/// The folder for temporary files that usually is on a disk.
const ON_DISK: &str = "/var/tmp";

/// One for each file system that can be written, seen through its main mount.
fn volumes(snapshot: &Snapshot) -> Result<Vec<(&Mount, Space)>, Skip> {
    let mounts = snapshot.disk.mounts.get()?;
    let is_read_only = |options: &[String]| options.iter().any(|option| option == "ro");
    let mut usable: Vec<(&Mount, Space)> = mounts
        .iter()
        .filter(|mount| !IMAGES.contains(&mount.kind.as_str()))
        .filter(|mount| !is_read_only(&mount.options) && !is_read_only(&mount.super_options))
        .filter_map(|mount| Some((mount, *mount.space.known()?)))
        .filter(|(_, space)| space.bytes >= SIZE_MIN)
        .collect();
    usable.sort_by_key(|(mount, _)| (mount.point.len(), &mount.point));
    for (mount, space) in &mut usable {
        let shown = *mount;
        let same = mounts.iter().filter(|other| other.device == shown.device && !is_read_only(&other.options));
        if let Some((main, room)) = main_mount(same).and_then(|main| Some((main, *main.space.known()?))) {
            (*mount, *space) = (main, room);
        }
    }
    // An overlay has the room of the file system below it, which may be mounted as well: same size, same inodes.
    let (mut devices, mut sizes) = (HashSet::new(), HashSet::new());
    usable.retain(|(mount, space)| {
        let size = (space.bytes, space.inodes);
        let is_memory = mount.kind == "tmpfs";
        let is_new = devices.insert(&mount.device) && (is_memory || !sizes.contains(&size));
        if !is_memory {
            sizes.insert(size);
        }
        is_new
    });
    Ok(pools(usable))
}

/// Datasets of a ZFS pool share its room, unless a quota bounds one: a pool is one volume, as large as what all of them hold
/// and what is left. A full pool of a hundred datasets is one finding.
fn pools(usable: Vec<(&Mount, Space)>) -> Vec<(&Mount, Space)> {
    let pool = |mount: &Mount| mount.source.split('/').next().unwrap_or_default().to_owned();
    let mut volumes: Vec<(&Mount, Space)> = Vec::new();
    for (mount, space) in usable {
        let is_same = |(other, shared): &&mut (&Mount, Space)| {
            // They are asked one after the other, and others write meanwhile.
            let moved = shared.available.abs_diff(space.available) > shared.available / 100 + (16 << 20);
            mount.kind == "zfs" && other.kind == "zfs" && pool(mount) == pool(other) && !moved
        };
        match volumes.iter_mut().find(is_same) {
            Some((_, shared)) => shared.bytes += space.bytes.saturating_sub(space.available),
            None => volumes.push((mount, space)),
        }
    }
    volumes
}

/// Findings are worth saying even if not all could be seen; that all is well is not.
fn complete(context: &RuleContext<'_>, findings: Vec<crate::model::diagnosis::Finding>) -> Verdict {
    let mounts = context.now().disk.mounts.get()?;
    // Others' FUSE mounts deny even root, and overlays are seen on the disk below; both have no room of their own.
    let counts = |mount: &&Mount| !mount.kind.starts_with("fuse") && mount.kind != "overlay";
    let unseen = mounts.iter().filter(counts).find_map(|mount| match &mount.space {
        Field::Unavailable(why) => Some(why),
        Field::Known(_) => None,
    });
    match unseen {
        Some(why) if findings.is_empty() => Err(why.into()),
        _ => Ok(findings),
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / (whole.max(1)) as f64
}

fn place(mount: &Mount, what: String) -> Culprit {
    culprit::thing("mount", &mount.point, format!("{what} ({} on {})", mount.kind, mount.source))
}

fn before(context: &RuleContext<'_>, mount: &Mount) -> Option<Space> {
    let mounts = context.before().disk.mounts.known()?;
    mounts.iter().find(|old| old.point == mount.point && old.device == mount.device)?.space.known().copied()
}

/// Who writes, if room shrank: which file system it was is not counted by process.
fn writers(context: &RuleContext<'_>, mount: &Mount, now: Space) -> Vec<Culprit> {
    let shrinks = before(context, mount).is_some_and(|before| before.available > now.available);
    let is_memory = mount.kind == "tmpfs";
    if shrinks && !is_memory { culprit::by_writing(context.window) } else { Vec::new() }
}

/// The process that writes at least half of what is lost by the second: to stop it helps. Nobody's who is needed.
fn stoppable(context: &RuleContext<'_>, speed: f64) -> Option<i32> {
    let earlier = Earlier::of(context.window);
    let written = |process: &Process| earlier.growth(process, |process| process.io.map(|io| io.written));
    let most = context
        .now()
        .processes
        .known()?
        .iter()
        .filter(|it| it.pid != context.window.observer)
        .max_by_key(|it| written(it))?;
    let is_enough = written(most) as f64 / context.window.seconds() >= speed / 2.0;
    (is_enough && target::may_be_interrupted(context.window, most.pid)).then_some(most.pid)
}

/// Processes that hold deleted files of it.
fn holders(context: &RuleContext<'_>, mount: &Mount) -> Vec<Culprit> {
    let deleted = context.now().disk.deleted.known();
    let files = deleted.into_iter().flat_map(|deleted| &deleted.files).filter(|file| file.device == mount.device);
    let say = |file: &crate::model::snapshot::disk::DeletedFile| {
        culprit::of_pid(context.window, file.pid, format!("holds {} of a deleted file", Bytes(file.bytes)))
    };
    files.take(culprit::NAMED).map(say).collect()
}

/// `fs.full`.
pub(super) fn full(context: &RuleContext<'_>) -> Verdict {
    let mut findings = Vec::new();
    for (mount, space) in volumes(context.now())? {
        let left = percent(space.available, space.bytes);
        let severity = match context.judge(left, space.available < NEARLY_NONE) {
            Some(Severity::Warn) if space.available < NOTHING && space.bytes > ROOM && context.crit.is_some() => {
                Severity::Crit
            }
            Some(Severity::Warn) if space.available >= ROOM && context.crit.is_some_and(|crit| left > crit) => continue,
            Some(severity) => severity,
            None => continue,
        };
        let (available, bytes) = (Bytes(space.available), Bytes(space.bytes));
        let title = format!("{available} of {bytes} left ({left:.1}%) on {}", mount.point);
        let path = format!("statvfs {}", mount.point);
        let finding = context.finding(severity, left, title);
        let finding = match before(context, mount) {
            Some(before) => finding.counted(&path, "f_bavail", before.available, space.available, "B"),
            None => finding.read(&path, "f_bavail", space.available as f64, "B"),
        };
        let finding = finding
            .agreed(1 + u32::from(space.available == 0))
            .by([place(mount, format!("{available} left"))])
            .by(holders(context, mount))
            .by(writers(context, mount, space));
        let command = quoted(&mount.point).map(|point| format!("du -xh -d 2 {point} | sort -h | tail -n 15"));
        findings.push(finding.fix("delete what is not needed: build folders, caches, logs", command));
    }
    complete(context, findings)
}

/// `fs.inodes`.
pub(super) fn inodes(context: &RuleContext<'_>) -> Verdict {
    let mut findings = Vec::new();
    for (mount, space) in volumes(context.now())? {
        // FUSE servers that do not count say nothing of any use.
        if space.inodes == 0 || (mount.kind.starts_with("fuse") && space.inodes_available == 0) {
            continue;
        }
        let left = percent(space.inodes_available, space.inodes);
        // How many are left is a state that the kernel counts exactly.
        let Some(severity) = context.judge(left, true) else { continue };
        let title = format!("{} of {} inodes left on {}", space.inodes_available, space.inodes, mount.point);
        let path = format!("statvfs {}", mount.point);
        let finding = context.finding(severity, left, title);
        let finding = match before(context, mount) {
            Some(before) => finding.counted(&path, "f_favail", before.inodes_available, space.inodes_available, ""),
            None => finding.read(&path, "f_favail", space.inodes_available as f64, ""),
        };
        let finding = finding
            .agreed(1 + u32::from(space.inodes_available == 0))
            .by([place(mount, format!("{} inodes left", space.inodes_available))]);
        let command = quoted(&mount.point).map(|point| format!("du -x --inodes -d 2 {point} | sort -n | tail -n 15"));
        findings.push(finding.fix("delete folders of many small files: caches, node_modules, sessions", command));
    }
    complete(context, findings)
}

/// `fs.fill_eta`.
pub(super) fn fills(context: &RuleContext<'_>) -> Verdict {
    let window = context.window.seconds();
    let mut findings = Vec::new();
    for (mount, space) in volumes(context.now())? {
        let Some(before) = before(context, mount) else { continue };
        let speed = before.available.saturating_sub(space.available) as f64 / window;
        if speed <= 0.0 || space.available == 0 {
            continue;
        }
        let seconds = space.available as f64 / speed;
        let left = percent(space.available, space.bytes);
        if seconds > BELIEVED * window {
            continue;
        }
        let Some(severity) = context.judge(seconds / 3600.0, left < HALF_EMPTY && window >= 60.0) else { continue };
        let title = format!("full in {} at {}/s: {}", span(seconds), Bytes(speed as u64), mount.point);
        let path = format!("statvfs {}", mount.point);
        let finding = context
            .finding(severity, seconds / 3600.0, title)
            .counted(&path, "f_bavail", before.available, space.available, "B")
            .by([place(mount, format!("{} left", Bytes(space.available)))])
            .by(writers(context, mount, space));
        let pid = stoppable(context, speed).filter(|_| mount.kind != "tmpfs");
        findings.push(match pid {
            Some(pid) => finding.interrupt(
                format!("stop what writes (`kill -CONT {pid}` lets it go on), or make room"),
                Some(format!("kill -STOP {pid}")),
            ),
            None => finding.fix("stop what writes, or make room", None),
        });
    }
    complete(context, findings)
}

fn span(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// `fs.tmp_small`.
pub(super) fn temporary(context: &RuleContext<'_>) -> Verdict {
    let disk = &context.now().disk;
    let mounts = disk.mounts.get()?;
    let folder = disk.temporary.as_deref().unwrap_or("/tmp");
    let below = |mount: &&Mount| std::path::Path::new(folder).starts_with(&mount.point);
    let Some(mount) = mounts.iter().filter(below).max_by_key(|mount| mount.point.len()) else {
        return Err(Skip(format!("/proc/self/mountinfo: no mount holds {folder}")));
    };
    if mount.kind != "tmpfs" {
        return Ok(Vec::new());
    }
    let space = mount.space.get()?;
    let severity = match context.judge(space.available as f64, false) {
        Some(severity) => severity,
        None if space.available < TEMPORARY_SAID && context.warn.is_some() => Severity::Info,
        None => return Ok(Vec::new()),
    };
    let title = format!("{} left for temporary files, in memory: {folder}", Bytes(space.available));
    let finding = context
        .finding(severity, space.available as f64, title)
        .read(&format!("statvfs {}", mount.point), "f_bavail", space.available as f64, "B")
        .by([place(mount, format!("{} left", Bytes(space.available)))]);
    // That folder may be in memory as well, or have no more room.
    let other = mounts.iter().filter(|mount| std::path::Path::new(ON_DISK).starts_with(&mount.point));
    let other = other.max_by_key(|mount| mount.point.len());
    let is_better = |other: &&Mount| {
        other.kind != "tmpfs" && other.space.known().is_some_and(|other| other.available > space.available)
    };
    let command = other.filter(is_better).map(|_| format!("export TMPDIR={ON_DISK}"));
    Ok(vec![finding.fix("use a folder on a disk for temporary files", command)])
}

#[cfg(test)]
mod tests {
    use crate::doctor::diagnose::diagnose;
    use crate::doctor::fixture::{ask, severities};
    use crate::doctor::io::mount::example::{GIB, mount, window};
    use crate::doctor::question::Question;
    use crate::model::diagnosis::Severity::{Crit, Info, Warn};
    use crate::model::snapshot::Field;
    use crate::model::snapshot::disk::{DeletedFile, Mount, Space};
    use crate::model::snapshot::process::{Io, Process};

    fn full(mounts: Vec<Mount>) -> Vec<crate::model::diagnosis::Severity> {
        severities(&ask(&window(mounts), "fs.full"))
    }

    #[test]
    fn little_room_is_judged_by_share_and_by_size() {
        for (bytes, available, expected) in [
            (250 * GIB, 60 * GIB, vec![]),
            (250 * GIB, 15 * GIB, vec![Warn]),
            (250 * GIB, 4 * GIB, vec![Crit]),
            (250 * GIB, 0, vec![Crit]),
            // 5 % of a large disk is much, 2 % still worth a warning.
            (4_000 * GIB, 200 * GIB, vec![]),
            (4_000 * GIB, 80 * GIB, vec![Warn]),
            // Below a GiB on a disk of 25 GiB although it is 4 %.
            (24 * GIB, GIB - 1, vec![Crit]),
            // A /boot of 500 MiB.
            (500 << 20, 40 << 20, vec![Warn]),
            (500 << 20, 400 << 20, vec![]),
            (500 << 20, 1 << 20, vec![Crit]),
            // No place to work in.
            (4096, 0, vec![]),
        ] {
            assert_eq!(full(vec![mount("/", "ext4", "254:0", bytes, available)]), expected, "{bytes} {available}");
        }
    }

    #[test]
    fn images_and_read_only_mounts_are_full_by_their_nature() {
        let read_only = || vec!["ro".to_owned()];
        let mut bound = mount("/usr", "ext4", "8:1", 50 * GIB, 0);
        bound.options = read_only();
        let mut whole = mount("/cd", "ext4", "8:2", 50 * GIB, 0);
        (whole.options, whole.super_options) = (read_only(), read_only());
        assert_eq!(full(vec![mount("/snap/x/1", "squashfs", "7:1", GIB, 0), bound, whole]), []);
    }

    /// Regression: each dataset has a device and a size of its own, so a full pool was one critical finding for each.
    #[test]
    fn datasets_of_a_pool_are_one_volume_and_one_with_a_quota_another() {
        let dataset = |source: &str, device: &str, used: u64, available: u64| Mount {
            source: source.to_owned(),
            ..mount(&format!("/{source}"), "zfs", device, (used * GIB) + available, available)
        };
        let full = vec![
            dataset("tank", "0:50", 1, GIB / 2),
            dataset("tank/home", "0:51", 300, GIB / 2),
            dataset("tank/vm", "0:52", 700, GIB / 2 - (1 << 20)),
            // Its quota is used up, another pool has room, and a third is as full by chance.
            dataset("tank/ann", "0:53", 9, 0),
            dataset("fast/db", "0:54", 100, 400 * GIB),
            dataset("cold", "0:55", 600, GIB / 2),
        ];
        let found = ask(&window(full), "fs.full");
        let said: Vec<&str> = found.iter().map(|finding| finding.title.as_str()).collect();
        assert_eq!(
            said,
            [
                "0 B of 9 GiB left (0.0%) on /tank/ann",
                "512 MiB of 600 GiB left (0.1%) on /cold",
                "512 MiB of 1002 GiB left (0.0%) on /tank",
            ]
        );
    }

    #[test]
    fn a_file_system_is_named_once_by_its_main_mount() {
        let window = window(vec![
            mount("/var/lib/docker/overlay2/x/merged", "overlay", "0:50", 250 * GIB, 0),
            mount("/etc/hosts", "ext4", "254:0", 250 * GIB, 0),
            mount("/", "overlay", "0:40", 250 * GIB, 0),
            mount("/dev/shm", "tmpfs", "0:41", 4 * GIB, 0),
            mount("/tmp", "tmpfs", "0:42", 4 * GIB, 0),
        ]);
        let found = ask(&window, "fs.full");
        let places: Vec<&str> = found.iter().map(|finding| finding.culprits[0].name.as_str()).collect();
        assert_eq!(places, ["/", "/tmp", "/dev/shm"]);
    }

    #[test]
    fn who_writes_and_who_holds_deleted_files_is_named() {
        let mut window = window(vec![mount("/", "ext4", "254:0", 250 * GIB, GIB)]);
        window.from.disk.mounts = Field::Known(vec![mount("/", "ext4", "254:0", 250 * GIB, 2 * GIB)]);
        let writer =
            Process { pid: 8, name: "dd".to_owned(), io: Some(Io { read: 0, written: GIB }), ..Process::default() };
        let holder = Process { pid: 9, name: "java".to_owned(), ..Process::default() };
        let before = Process { io: Some(Io::default()), ..writer.clone() };
        window.from.processes = Field::Known(vec![before, holder.clone()]);
        window.to.processes = Field::Known(vec![writer, holder]);
        let file = DeletedFile {
            pid: 9,
            descriptor: 3,
            device: "254:0".to_owned(),
            inode: 5,
            bytes: 12 * GIB,
            also: Vec::new(),
        };
        window.to.disk.deleted =
            Field::Known(crate::model::snapshot::disk::Deleted { files: vec![file], ..Default::default() });
        let found = ask(&window, "fs.full");
        let named: Vec<_> = found[0].culprits.iter().map(|culprit| (culprit.pid, culprit.name.as_str())).collect();
        assert_eq!(named, [(None, "/"), (Some(9), "java"), (Some(8), "dd")]);
        assert_eq!((found[0].evidence[0].before, found[0].evidence[0].after), (Some((2 * GIB) as f64), GIB as f64));
    }

    #[test]
    fn what_could_not_be_seen_is_not_well() {
        let mut unseen = mount("/data", "xfs", "8:3", 0, 0);
        unseen.space = Field::unavailable("statvfs /data", "permission denied");
        let question = Question { only: vec!["fs.full".to_owned()], ..Question::default() };
        let diagnosis = diagnose(&window(vec![mount("/", "ext4", "254:0", 99 * GIB, 90 * GIB), unseen]), &question);
        assert_eq!(diagnosis.skipped[0].reason, "statvfs /data: permission denied");
        assert_eq!(diagnosis.ok, [""; 0]);
    }

    #[test]
    fn inodes_run_out_where_there_is_a_number_of_them() {
        let with = |inodes: u64, inodes_available: u64| {
            let mut mount = mount("/", "ext4", "254:0", 99 * GIB, 90 * GIB);
            mount.space = Field::Known(Space { bytes: 99 * GIB, available: 90 * GIB, inodes, inodes_available });
            severities(&ask(&window(vec![mount]), "fs.inodes"))
        };
        assert_eq!(with(6_500_000, 6_000_000), []);
        assert_eq!(with(6_500_000, 600_000), [Warn]);
        assert_eq!(with(6_500_000, 0), [Crit]);
        assert_eq!(with(0, 0), []);
    }

    #[test]
    fn a_burst_is_not_taken_for_a_trend() {
        let fills = |before: u64, after: u64, seconds: u64| {
            let mut window = window(vec![mount("/", "ext4", "254:0", 100 * GIB, after)]);
            window.from.disk.mounts = Field::Known(vec![mount("/", "ext4", "254:0", 100 * GIB, before)]);
            window.to.at_us = seconds * 1_000_000;
            severities(&ask(&window, "fs.fill_eta"))
        };
        // 100 MiB/s with 67 GiB left: eleven minutes, seen for two seconds.
        assert_eq!(fills(67 * GIB, 67 * GIB - (200 << 20), 2), []);
        // The same with 2 GiB left: 20 s.
        assert_eq!(fills(2 * GIB, 2 * GIB - (200 << 20), 2), [Warn]);
        // Seen for a minute.
        assert_eq!(fills(20 * GIB, 20 * GIB - (6_000 << 20), 60), [Crit]);
        assert_eq!(fills(GIB, 2 * GIB, 2), []);
    }

    /// Regression: whoever wrote most was to be stopped, also if that was the database, or a tenth of what was lost.
    #[test]
    fn only_a_writer_whose_stop_helps_is_stopped() {
        let stop = |name: &str, written: u64| {
            let mut window = window(vec![mount("/", "ext4", "254:0", 100 * GIB, 2 * GIB - (200 << 20))]);
            window.from.disk.mounts = Field::Known(vec![mount("/", "ext4", "254:0", 100 * GIB, 2 * GIB)]);
            let process = |written: u64| Process {
                pid: 8,
                parent: 40,
                name: name.to_owned(),
                io: Some(Io { read: 0, written }),
                ..Process::default()
            };
            window.from.processes = Field::Known(vec![process(0)]);
            window.to.processes = Field::Known(vec![process(written)]);
            ask(&window, "fs.fill_eta")[0].remedies[0].command.clone()
        };
        assert_eq!(stop("dd", 150 << 20).as_deref(), Some("kill -STOP 8"));
        assert_eq!(stop("dd", 60 << 20), None);
        assert_eq!(stop("postgres", 150 << 20), None);
    }

    #[test]
    fn another_folder_for_temporary_files_is_advised_where_it_is_better() {
        let advised = |kind: &str, available: u64| {
            let tmp = mount("/tmp", "tmpfs", "0:30", 4 * GIB, 100 << 20);
            let other = mount("/var", kind, "254:1", 99 * GIB, available);
            ask(&window(vec![other, tmp]), "fs.tmp_small")[0].remedies[0].command.is_some()
        };
        assert_eq!([advised("ext4", GIB), advised("ext4", 1 << 20), advised("tmpfs", GIB)], [true, false, false]);
    }

    #[test]
    fn a_small_folder_for_temporary_files_is_said() {
        let with = |kind: &str, available: u64| {
            let tmp = mount("/tmp", kind, "0:30", 4 * GIB, available);
            severities(&ask(&window(vec![mount("/", "ext4", "254:0", 99 * GIB, GIB), tmp]), "fs.tmp_small"))
        };
        assert_eq!(with("tmpfs", 3 * GIB), []);
        assert_eq!(with("tmpfs", GIB), [Info]);
        assert_eq!(with("tmpfs", 100 << 20), [Warn]);
        assert_eq!(with("ext4", 100 << 20), []);
    }
}
