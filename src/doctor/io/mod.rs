//! Rules about disks and file systems: the table. A disk that is busy is no fault, and neither is one that answers many
//! requests at once; slow answers, tasks that are stuck, and room that runs out are.

use crate::doctor::{Bad, Look, Rule, Skip};
use crate::model::diagnosis::Area;
use crate::model::snapshot::disk::Mount;

mod deleted;
mod devices;
mod faults;
mod pressure;
mod servers;
mod space;
mod stuck;

/// The rules.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        id: "io.psi",
        area: Area::Io,
        title: "tasks wait for disks",
        source: "/proc/pressure/io some, full; /proc/diskstats; /proc/PID/task/*/stat; io.max, blkio.throttle.*",
        computation: "share of the window in which a task waited (some); warns too from half of it on if all waited (full). \
                      Known only if a fast disk that is busy explains it and fewer than two tasks a CPU wait. Critical \
                      where full passes its threshold and half of it over a minute",
        unit: "%",
        bad: Bad::Above,
        warn: Some(20.0),
        crit: Some(40.0),
        thresholds_from: "own: nobody publishes any for I/O; idle machines show below 1 %, 78,000 requests a second 22 %",
        remedy: "let the process that writes or reads most go last (ionice), raise the limit of its control group, or \
                 use a faster disk",
        check: pressure::stalls,
    },
    Rule {
        id: "io.await",
        area: Area::Io,
        title: "a disk answers slowly",
        source: "/proc/diskstats: requests, time they took, in flight",
        computation: "mean time of a read or a write, the worse; five times the threshold on rotating disks. Only known \
                      where no task waits for it (write-back). No answer at all in the window counts as its length",
        unit: "ms",
        bad: Bad::Above,
        warn: Some(20.0),
        crit: Some(500.0),
        thresholds_from: "awesome-prometheus-alerts: 100 ms; own: a fifth of it where nothing rotates",
        remedy: "look for the process that queues the most, then for errors of the disk or a limit of the host",
        check: devices::slow,
    },
    Rule {
        id: "io.queue",
        area: Area::Io,
        title: "requests queue up at a disk",
        source: "/proc/diskstats: time weighted by the number in flight",
        computation: "mean number of requests in flight, where answers are slow too (io.await): a deep queue that is \
                      answered fast is no fault",
        unit: "",
        bad: Bad::Above,
        warn: Some(10.0),
        crit: Some(50.0),
        thresholds_from: "node_exporter mixin, awesome-prometheus-alerts: 10",
        remedy: "start fewer things that read or write at once",
        check: devices::queue,
    },
    Rule {
        id: "io.util",
        area: Area::Io,
        title: "a disk is never idle",
        source: "/proc/diskstats: time with a request in flight; /sys/block/*/queue/rotational",
        computation: "share of the window. A warning only on rotating disks or with slow answers: others serve many at once",
        unit: "%",
        bad: Bad::Above,
        warn: Some(98.0),
        crit: None,
        thresholds_from: "netdata: 98 %",
        remedy: "see io.psi and io.await: being busy alone is no fault",
        check: devices::busy,
    },
    Rule {
        id: "io.dstate",
        area: Area::Io,
        title: "tasks are stuck in the kernel",
        source: "/proc/PID/task/*/{stat,schedstat,wchan}; the kernel's log",
        computation: "tasks in uninterruptible sleep in every look that have not run once in between: threads of the kernel \
                      alone are only known, those of frozen control groups are left out",
        unit: "",
        bad: Bad::Above,
        warn: Some(1.0),
        crit: Some(5.0),
        thresholds_from: "own; critical at once where the kernel itself says `blocked for more than` (node-problem-detector)",
        remedy: "find the file system or the device they wait for; such tasks cannot be killed",
        check: stuck::tasks,
    },
    Rule {
        id: "fs.full",
        area: Area::Io,
        title: "a file system is full",
        source: "statvfs f_bavail, f_blocks of each mount in /proc/self/mountinfo",
        computation: "room that users other than root can still write. Nothing above 20 GiB unless below the critical share, \
                      critical only below 5 GiB. Read-only ones and second mounts are left out",
        unit: "%",
        bad: Bad::Below,
        warn: Some(10.0),
        crit: Some(3.0),
        thresholds_from: "node_exporter mixin: 3 %; netdata: 10 %, critical below 5 GiB; own: 20 GiB",
        remedy: "find the largest folders: `du -xh -d 2 POINT | sort -h | tail`; build folders and caches first",
        check: space::full,
    },
    Rule {
        id: "fs.inodes",
        area: Area::Io,
        title: "a file system has no inodes left",
        source: "statvfs f_favail, f_files of each mount",
        computation: "files that can still be made; file systems without a fixed number are left out",
        unit: "%",
        bad: Bad::Below,
        warn: Some(10.0),
        crit: Some(3.0),
        thresholds_from: "netdata: 10 %; node_exporter mixin, kubernetes mixin: 3 %",
        remedy: "find the folders with the most files: `du -x --inodes -d 2 POINT | sort -n | tail`",
        check: space::inodes,
    },
    Rule {
        id: "fs.fill_eta",
        area: Area::Io,
        title: "a file system fills up soon",
        source: "statvfs f_bavail at both ends of the window",
        computation: "room left by the speed at which it shrank. What a window shows is believed for thirty times its length",
        unit: "h",
        bad: Bad::Below,
        warn: Some(8.0),
        crit: Some(2.0),
        thresholds_from: "netdata: 8 h, 2 h; own: how long a short window is believed",
        remedy: "stop what writes, or make room",
        check: space::fills,
    },
    Rule {
        id: "fs.readonly",
        area: Area::Io,
        title: "a file system became read-only",
        source: "/proc/self/mountinfo options of the file system, /etc/fstab, /sys/fs/ext4/*/errors_count, the kernel's log",
        computation: "`emergency_ro` or `shutdown`; or `ro` where fstab does not say so or the file system has errors. \
                      Read-only bind mounts and images are none",
        unit: "",
        bad: Bad::Above,
        warn: Some(1.0),
        crit: Some(1.0),
        thresholds_from: "node-problem-detector: any",
        remedy: "save what can be read, unmount, `fsck`, and look for errors of the disk",
        check: faults::readonly,
    },
    Rule {
        id: "fs.errors",
        area: Area::Io,
        title: "a file system or a disk has errors",
        source: "/sys/fs/ext4/*/errors_count, btrfs error_stats, md, /sys/block/*/device/state, the kernel's log",
        computation: "errors counted; critical if they grew in the window, or the device is gone",
        unit: "",
        bad: Bad::Above,
        warn: Some(1.0),
        crit: Some(1.0),
        thresholds_from: "node-problem-detector, awesome-prometheus-alerts: any",
        remedy: "back up now, then check the file system and the disk",
        check: faults::errors,
    },
    Rule {
        id: "fs.deleted_open",
        area: Area::Io,
        title: "deleted files still take room",
        source: "/proc/PID/fd of own processes, of all for root",
        computation: "room of regular files without a name that are still open; memory files are left out. Critical from a \
                      tenth of a file system on that is nearly full",
        unit: "B",
        bad: Bad::Above,
        warn: Some((1u64 << 30) as f64),
        crit: None,
        thresholds_from: "own: less is not worth a restart",
        remedy: "restart the process, or empty the file: `truncate -s 0 /proc/PID/fd/N`",
        check: deleted::open,
    },
    Rule {
        id: "fs.dirty",
        area: Area::Io,
        title: "writers wait for write-back",
        source: "/proc/vmstat nr_dirty, nr_writeback, nr_dirty_threshold, nr_dirty_background_threshold; wait channels",
        computation: "written but not on the disk yet, as a share of the limit. A warning only if tasks were seen waiting in \
                      balance_dirty_pages",
        unit: "%",
        bad: Bad::Above,
        warn: Some(75.0),
        crit: Some(95.0),
        thresholds_from: "the kernel slows writers from half way between background and limit on: 75 % by default",
        remedy: "smaller limits keep stalls short: sysctl vm.dirty_bytes, vm.dirty_background_bytes",
        check: pressure::dirty,
    },
    Rule {
        id: "fs.tmp_small",
        area: Area::Io,
        title: "the folder for temporary files is small",
        source: "statvfs of /tmp (or TMPDIR) where it is a tmpfs",
        computation: "bytes left",
        unit: "B",
        bad: Bad::Below,
        warn: Some((512u64 << 20) as f64),
        crit: None,
        thresholds_from: "own: linking a large program takes some hundred MiB; said from 2 GiB on",
        remedy: "set TMPDIR to a folder on a disk",
        check: space::temporary,
    },
    Rule {
        id: "fs.network",
        area: Area::Io,
        title: "a network or FUSE mount does not answer",
        source: "statvfs of nfs, cifs, ceph, 9p, fuse mounts, in threads of their own",
        computation: "time to an answer, or without one so far",
        unit: "s",
        bad: Bad::Above,
        warn: Some(1.0),
        crit: Some(5.0),
        thresholds_from: "own",
        remedy: "bring the server back, or detach the mount: `umount -l POINT`",
        check: servers::answers,
    },
];

/// Characters that a shell leaves alone within single quotes and a terminal shows as they are. Names of mounts and groups
/// are chosen by others: with any other character there is no command.
fn quoted(path: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:=,".contains(c);
    let starts_well = path.starts_with('/');
    if starts_well && path.chars().all(is_plain) {
        Some(path.to_owned())
    } else if starts_well && path.chars().all(|c| is_plain(c) || c == ' ') {
        Some(format!("'{path}'"))
    } else {
        None
    }
}

/// Share of the window in which a task (some) and all tasks (full) waited for disks, percent.
fn stalled(look: &Look<'_>) -> Result<(f64, f64), Skip> {
    let (before, now) = (look.before().disk.pressure.get()?, look.now().disk.pressure.get()?);
    let percent = |before: u64, now: u64| look.rate(before, now) / 1e4;
    Ok((percent(before.some.total_us, now.some.total_us), percent(before.full.total_us, now.full.total_us)))
}

/// `/` of `/dev/vda`: the mount with the shortest name of a file system on a device.
fn mount_of<'a>(look: &Look<'a>, numbers: &[String]) -> Option<&'a Mount> {
    let mounts = look.now().disk.mounts.known().into_iter().flatten();
    mounts.filter(|mount| numbers.contains(&mount.device)).min_by_key(|mount| mount.point.len())
}

/// Mounts for the tests.
#[cfg(test)]
pub(crate) mod example {
    use crate::model::snapshot::disk::{Mount, Space};
    use crate::model::snapshot::{Field, Window};

    pub(crate) const GIB: u64 = 1 << 30;

    /// A writable file system with plenty of inodes.
    pub(crate) fn mount(point: &str, kind: &str, device: &str, bytes: u64, available: u64) -> Mount {
        Mount {
            point: point.to_owned(),
            root: "/".to_owned(),
            kind: kind.to_owned(),
            source: format!("/dev/{}", device.replace(':', "-")),
            device: device.to_owned(),
            options: vec!["rw".to_owned(), "relatime".to_owned()],
            super_options: vec!["rw".to_owned()],
            space: Field::Known(Space { bytes, available, inodes: 1_000_000, inodes_available: 900_000 }),
            ..Mount::default()
        }
    }

    /// The same before and after, two seconds apart.
    pub(crate) fn window(mounts: Vec<Mount>) -> Window {
        let mut window = Window::default();
        window.from.disk.mounts = Field::Known(mounts.clone());
        window.to.disk.mounts = Field::Known(mounts);
        window.to.at_us = 2_000_000;
        window
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn names_that_a_shell_could_misread_are_in_no_command() {
        assert_eq!(quoted("/mnt/data-1").as_deref(), Some("/mnt/data-1"));
        assert_eq!(quoted("/mnt/my disk").as_deref(), Some("'/mnt/my disk'"));
        for hostile in ["/a'; rm -rf /", "/a$(id)", "-rf", "", "/a\nb", "/a\u{1b}[1m", "/a`b`"] {
            assert_eq!(quoted(hostile), None, "{hostile}");
        }
    }
}
