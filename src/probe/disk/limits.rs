//! Limits of control groups on the rate of I/O: `io.max` (v2), `blkio.throttle.*` (v1). What they hold back waits before
//! it reaches the device, so no counter of the device shows it.

use std::path::{Path, PathBuf};

use crate::model::snapshot::disk::Limit;
use crate::probe::{Roots, read_dir, words};

/// Groups looked at.
const GROUPS_MAX: usize = 300;
/// Limits kept, and processes named for each.
const LIMITS_MAX: usize = 32;

/// The files of v1 and the name that v2 has for the same.
const THROTTLES: [(&str, &str); 4] = [
    ("blkio.throttle.read_bps_device", "rbps"),
    ("blkio.throttle.write_bps_device", "wbps"),
    ("blkio.throttle.read_iops_device", "riops"),
    ("blkio.throttle.write_iops_device", "wiops"),
];

/// All of them.
pub(super) fn read(roots: &Roots) -> Vec<Limit> {
    let mut all = Vec::new();
    let base = roots.sys.join("fs/cgroup");
    let hierarchy = ["blkio", "unified", ""].into_iter().map(|name| base.join(name)).find(|folder| {
        folder.join("blkio.throttle.read_bps_device").exists() || folder.join("cgroup.controllers").exists()
    });
    let Some(root) = hierarchy else { return all };
    let mut open = vec![root.clone()];
    let mut seen = 0;
    while let Some(folder) = open.pop() {
        seen += 1;
        if seen > GROUPS_MAX || all.len() >= LIMITS_MAX {
            break;
        }
        group(&root, &folder, &mut all);
        let below = read_dir(&folder).into_iter().flatten().flatten();
        open.extend(below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()));
    }
    all
}

fn group(root: &Path, folder: &Path, all: &mut Vec<Limit>) {
    let mut found: Vec<(PathBuf, String, String)> = Vec::new();
    let path = folder.join("io.max");
    if let Some(text) = words(&path) {
        found.extend(maximums(&text).map(|(device, limit)| (path.clone(), device, limit)));
    }
    for (file, name) in THROTTLES {
        let path = folder.join(file);
        let Some(text) = words(&path) else { continue };
        let each = text.lines().filter_map(|line| line.split_once(' '));
        found.extend(each.map(|(device, rate)| (path.clone(), device.to_owned(), format!("{name}={rate}"))));
    }
    if found.is_empty() {
        return;
    }
    let members = words(&folder.join("cgroup.procs")).unwrap_or_default();
    let pids: Vec<i32> = members.lines().filter_map(|line| line.trim().parse().ok()).take(LIMITS_MAX).collect();
    let group = format!("/{}", folder.strip_prefix(root).unwrap_or(folder).display());
    all.extend(found.into_iter().map(|(path, device, limit)| Limit {
        group: group.clone(),
        path: path.display().to_string(),
        device,
        limit,
        pids: pids.clone(),
    }));
}

/// `254:0 rbps=max wbps=1048576 riops=max wiops=max`: only what is limited.
fn maximums(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let device = words.next()?.to_owned();
        let limits: Vec<&str> = words.filter(|word| word.contains('=') && !word.ends_with("=max")).collect();
        (!limits.is_empty()).then(|| (device, limits.join(" ")))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::maximums;

    #[test]
    fn only_what_is_limited_is_a_limit() {
        let text = "254:0 rbps=max wbps=1048576 riops=max wiops=120\n8:0 rbps=max wbps=max riops=max wiops=max\n";
        let found: Vec<_> = maximums(text).collect();
        assert_eq!(found, [("254:0".to_owned(), "wbps=1048576 wiops=120".to_owned())]);
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in any::<String>()) {
            let _ = maximums(&text).count();
        }
    }
}
