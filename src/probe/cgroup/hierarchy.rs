//! Where the hierarchies of control groups are mounted, and where in each apm is.

use std::path::PathBuf;

use crate::probe::{Roots, read_bytes, read_text};

/// One mounted hierarchy.
#[derive(Debug, Default)]
pub(super) struct Hierarchy {
    /// The mount point, as the kernel says it.
    pub(super) point: String,
    /// The same below the roots.
    pub(super) folder: PathBuf,
    pub(super) is_v2: bool,
    /// Below the mount: `/a/b`; empty is the mount itself.
    pub(super) own: String,
    pub(super) has_memory: bool,
    pub(super) has_cpu: bool,
    pub(super) has_usage: bool,
    pub(super) has_pids: bool,
}

/// The mounted hierarchies, those of v1 first, and where apm is in each.
pub(super) fn hierarchies(roots: &Roots) -> Vec<Hierarchy> {
    let text = |path: &str| {
        let bytes = read_bytes(roots.proc.join(path)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (own, mounts) = (text("self/cgroup"), text("self/mountinfo"));
    let mut mounts: Vec<Mount> = mounts.lines().filter_map(mountinfo).collect();
    if mounts.is_empty() {
        mounts = text("mounts").lines().filter_map(mounts_line).collect();
    }
    let mut found: Vec<Hierarchy> = Vec::new();
    // A hierarchy may be mounted again elsewhere: the conventional place is the one to show.
    mounts.sort_by_key(|mount| !mount.point.starts_with("/sys/fs/cgroup"));
    for is_v2 in [false, true] {
        for mount in mounts.iter().filter(|mount| mount.is_v2 == is_v2) {
            let Some(mut hierarchy) = hierarchy(roots, mount, &own) else { continue };
            let is_again = |other: &Hierarchy| {
                other.is_v2 == is_v2
                    && (is_v2
                        || (other.has_memory && hierarchy.has_memory)
                        || (other.has_cpu && hierarchy.has_cpu)
                        || (other.has_usage && hierarchy.has_usage)
                        || (other.has_pids && hierarchy.has_pids))
            };
            if found.iter().any(is_again) {
                continue;
            }
            if is_v2 {
                controllers(&mut hierarchy, &found);
            }
            found.push(hierarchy);
        }
    }
    found
}

/// In v2 each group may have other controllers; what the root does not offer nobody has.
fn controllers(hierarchy: &mut Hierarchy, v1: &[Hierarchy]) {
    let text = read_text(hierarchy.folder.join("cgroup.controllers"));
    let has = |name: &str, is_elsewhere: bool| match &text {
        Ok(text) => text.split_ascii_whitespace().any(|word| word == name),
        Err(_) => !is_elsewhere,
    };
    hierarchy.has_memory = has("memory", v1.iter().any(|it| it.has_memory));
    hierarchy.has_pids = has("pids", v1.iter().any(|it| it.has_pids));
    hierarchy.has_cpu = has("cpu", v1.iter().any(|it| it.has_cpu));
    hierarchy.has_usage = !v1.iter().any(|it| it.has_cpu || it.has_usage);
}

struct Mount {
    root: String,
    point: String,
    is_v2: bool,
    options: Vec<String>,
}

/// `31 23 0:28 ROOT POINT OPTIONS [TAGS] - KIND SOURCE SUPER_OPTIONS`.
fn mountinfo(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, point) = (plain(left.next()?), plain(left.next()?));
    let mut right = right.split(' ');
    let kind = right.next()?;
    Some(Mount { root, point, is_v2: is_v2(kind)?, options: options(right.nth(1)?) })
}

/// `SOURCE POINT KIND OPTIONS 0 0`: which part of the hierarchy is mounted it does not say.
fn mounts_line(line: &str) -> Option<Mount> {
    let mut words = line.split(' ').skip(1);
    let (point, kind) = (plain(words.next()?), words.next()?);
    Some(Mount { root: "/".to_owned(), point, is_v2: is_v2(kind)?, options: options(words.next()?) })
}

fn is_v2(kind: &str) -> Option<bool> {
    match kind {
        "cgroup" => Some(false),
        "cgroup2" => Some(true),
        _ => None,
    }
}

fn options(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

/// The kernel writes space, tab, newline and backslash of names in octal.
fn plain(text: &str) -> String {
    let octal = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    octal.iter().fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

fn hierarchy(roots: &Roots, mount: &Mount, own: &str) -> Option<Hierarchy> {
    let has = |name: &str| !mount.is_v2 && mount.options.iter().any(|option| option == name);
    let (has_memory, has_cpu, has_usage, has_pids) = (has("memory"), has("cpu"), has("cpuacct"), has("pids"));
    let is_used = mount.is_v2 || has_memory || has_cpu || has_usage || has_pids;
    if !is_used {
        return None;
    }
    let folder = match mount.point.strip_prefix("/sys/") {
        Some(below) => roots.sys.join(below),
        None => roots.sys.parent()?.join(mount.point.trim_start_matches('/')),
    };
    let is_mine = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (number, names, path) = (parts.next()?, parts.next()?, parts.next()?);
        let fits = match mount.is_v2 {
            true => number == "0" && names.is_empty(),
            false => {
                names.split(',').any(|name| mount.options.iter().any(|option| option == name) && is_controller(name))
            }
        };
        fits.then(|| path.to_owned())
    };
    let path = own.lines().find_map(is_mine).unwrap_or_default();
    let own = own_path(&mount.root, &path).filter(|own| folder.join(own.trim_start_matches('/')).is_dir());
    // Where the own group is outside what is mounted, what is mounted is the nearest that can be seen.
    let own = own.unwrap_or_default();
    Some(Hierarchy {
        point: mount.point.clone(),
        folder,
        is_v2: mount.is_v2,
        own,
        has_memory,
        has_cpu,
        has_usage,
        has_pids,
    })
}

fn is_controller(name: &str) -> bool {
    matches!(name, "memory" | "cpu" | "cpuacct" | "pids")
}

/// The own group below the mount, of which `root` is the top: in a container without a namespace of groups that is the
/// container's own.
fn own_path(root: &str, path: &str) -> Option<String> {
    let below = match root {
        "/" => path,
        root => path.strip_prefix(root).filter(|below| below.is_empty() || below.starts_with('/'))?,
    };
    let is_safe = below.split('/').all(|part| part != "..");
    is_safe.then(|| below.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{mountinfo, mounts_line, own_path};

    #[test]
    fn the_own_path_is_below_the_root_of_the_mount() {
        assert_eq!(own_path("/", "/a/b").as_deref(), Some("/a/b"));
        assert_eq!(own_path("/", "/").as_deref(), Some(""));
        assert_eq!(own_path("/docker/1", "/docker/1/x").as_deref(), Some("/x"));
        // A sibling whose name only begins the same, and a group outside the namespace.
        assert_eq!(own_path("/docker/1", "/docker/12"), None);
        assert_eq!(own_path("/", "/../other"), None);
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in any::<String>(), cut in 0..120_usize) {
            let _ = (mountinfo(&text), mounts_line(&text), own_path(&text, "/a"), own_path("/a", &text));
            let real = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory";
            let _ = mountinfo(&real[..cut.min(real.len())]);
        }
    }
}
