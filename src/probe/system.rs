//! The system: kernel, container, uptime, limits of the whole system, clock, services.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::model::snapshot::Field;
use crate::model::snapshot::system::{Clocksource, Inotify, InotifyLimits, Service, System};
use crate::probe::{Roots, container, field, locks, read_dir, read_text, say};
use crate::sys::kernel;

/// Services looked at; machines have about a hundred.
const SERVICES_MAX: usize = 500;

/// Reads it.
pub(crate) fn read(roots: &Roots, uid: u32) -> System {
    let kernel = read_text(roots.proc.join("sys/kernel/osrelease")).unwrap_or_default();
    let number = |path: &str| field(&roots.proc.join("sys").join(path), |text| text.trim().parse().ok());
    System {
        kernel: kernel.trim().to_owned(),
        container: container::kind(roots),
        is_virtual: container::is_virtual(roots),
        uid: if roots.is_here { uid } else { uid_of_files(roots) },
        kmsg: Field::default(),
        uptime: field(&roots.proc.join("uptime"), |text| text.split_ascii_whitespace().next()?.parse().ok()),
        files: field(&roots.proc.join("sys/fs/file-nr"), |text| {
            let mut words = text.split_ascii_whitespace().map(|word| word.parse::<u64>().ok());
            Some((words.next()??, words.nth(1)??))
        }),
        pid_max: number("kernel/pid_max"),
        threads_max: number("kernel/threads-max"),
        user_tasks: BTreeMap::new(),
        clock: roots.call("adjtimex", kernel::clock),
        clocksource: clocksource(roots),
        inotify: Inotify { limits: inotify_limits(roots), ..Inotify::default() },
        locks: locks::waits(roots),
        services: services(&roots.proc.parent().unwrap_or(&roots.proc).join("run/systemd/units")),
    }
}

fn clocksource(roots: &Roots) -> Field<Clocksource> {
    let folder = roots.sys.join("devices/system/clocksource/clocksource0");
    let available = read_text(folder.join("available_clocksource")).unwrap_or_default();
    field(&folder.join("current_clocksource"), |text| {
        let current = text.trim();
        let available = available.split_ascii_whitespace().map(str::to_owned).collect();
        (!current.is_empty()).then(|| Clocksource { current: current.to_owned(), available })
    })
}

fn inotify_limits(roots: &Roots) -> Field<InotifyLimits> {
    let folder = roots.proc.join("sys/fs/inotify");
    let watches = crate::probe::number(&folder.join("max_user_watches"));
    field(&folder.join("max_user_instances"), |text| {
        Some(InotifyLimits { instances: text.trim().parse().ok()?, watches: watches? })
    })
}

/// systemd keeps a link for each unit that runs, `invocation:NAME`, to a number that changes with every start. It can be
/// read without asking systemd, and by everybody.
fn services(folder: &Path) -> Field<BTreeMap<String, Service>> {
    let entries = match read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return Field::unavailable(folder.display().to_string(), say(&error)),
    };
    let service = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let name = name.strip_prefix("invocation:").filter(|name| name.ends_with(".service"))?.to_owned();
        let invocation = std::fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
        // The time of the link itself, not of what it points at.
        let started_s = u64::try_from(std::fs::symlink_metadata(entry.path()).ok()?.mtime()).ok()?;
        Some((name, Service { invocation, started_s }))
    };
    Field::Known(entries.flatten().filter_map(service).take(SERVICES_MAX).collect())
}

/// Who captured the files.
fn uid_of_files(roots: &Roots) -> u32 {
    let status = read_text(roots.proc.join("self/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::read;
    use crate::probe::Roots;

    #[test]
    fn services_are_read_from_the_links_of_systemd() {
        let root = std::env::temp_dir().join(format!("apm-services-{}", std::process::id()));
        let folder = root.join("run/systemd/units");
        std::fs::create_dir_all(&folder).expect("folders");
        for (name, number) in [("invocation:web.service", "abc"), ("invocation:home.mount", "def"), ("log-level", "x")]
        {
            std::os::unix::fs::symlink(number, folder.join(name)).expect("a link");
        }
        let system = read(&Roots::below(&root), 0);
        std::fs::remove_dir_all(&root).expect("gone");
        let services = system.services.get().expect("read");
        assert_eq!(services.len(), 1);
        assert_eq!(services["web.service"].invocation, "abc");
        // Nothing else is there, and that is said.
        assert!(system.clock.get().is_err_and(|it| it.why == "the files are of another machine"));
        assert!(system.pid_max.get().is_err_and(|it| it.why == "not there"));
    }
}
