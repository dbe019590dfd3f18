//! Control groups: which there are, their limits, counters and pressure.

use crate::model::snapshot::cgroup::Cgroups;
use crate::probe::Roots;

/// Groups looked through for members.
const MEMBERS_WALK_MAX: usize = 1_000;

/// Reads them.
pub(crate) fn read(_roots: &Roots) -> Cgroups {
    Cgroups::default()
}

/// Processes of a group and the groups below it, where it is mounted in any hierarchy.
pub(crate) fn members(roots: &Roots, path: &str) -> Vec<i32> {
    let base = roots.sys.join("fs/cgroup");
    let hierarchies = std::fs::read_dir(&base).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut folders: Vec<std::path::PathBuf> = std::iter::once(base.clone())
        .chain(hierarchies)
        .map(|mount| mount.join(path.trim_start_matches('/')))
        .filter(|folder| folder.join("cgroup.procs").exists())
        .collect();
    let mut found = std::collections::BTreeSet::new();
    let mut walked = 0;
    while let Some(folder) = folders.pop().filter(|_| walked < MEMBERS_WALK_MAX) {
        walked += 1;
        let text = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        let below = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
        folders.extend(below.filter(|path| path.is_dir()));
    }
    found.into_iter().collect()
}
