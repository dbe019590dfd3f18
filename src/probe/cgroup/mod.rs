//! Control groups: which there are, their limits, counters and pressure. The hierarchies of v1, and that of v2 beside
//! them, are walked one by one; the same path in several is one group.

mod hierarchy;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use crate::model::snapshot::cgroup::{Cgroups, Group};
use crate::model::snapshot::{Counters, Field};
use crate::probe::cgroup::hierarchy::{Hierarchy, hierarchies};
use crate::probe::{Roots, counters, field, number, pressure, read_dir, read_text};

/// Folders walked in all hierarchies together; four files of a microsecond or ten each are read in each.
const WALKED_MAX: usize = 400;
/// Groups kept besides those of apm.
const KEPT_MAX: usize = 100;
/// Depth of the own group that is believed: the kernel allows more, nobody nests deeper.
const DEPTH_MAX: usize = 64;
/// Members named in a group, and in all groups together.
const MEMBERS_MAX: usize = 200;
const MEMBERS_ALL_MAX: usize = 4_000;
/// Groups looked through for the members of one that was asked for.
const MEMBERS_WALK_MAX: usize = 1_000;
/// A v1 limit from here on is none: without one the kernel says 2^63 less a page.
const LIMITLESS: u64 = 1 << 62;

/// Reads them.
pub(crate) fn read(roots: &Roots) -> Cgroups {
    let hierarchies = hierarchies(roots);
    let layout = match (hierarchies.iter().any(|it| it.is_v2), hierarchies.iter().any(|it| !it.is_v2)) {
        (true, true) => "hybrid",
        (true, false) => "v2",
        (false, true) => "v1",
        (false, false) => "none",
    };
    let mut found = Cgroups { layout: layout.to_owned(), ..Cgroups::default() };
    let each = WALKED_MAX / hierarchies.len().max(1);
    // Path in its hierarchy of every folder walked, for the members.
    let mut walked: Vec<(usize, String)> = Vec::new();
    for (at, hierarchy) in hierarchies.iter().enumerate() {
        for path in own_chain(&hierarchy.own) {
            take(hierarchy, &path, true, &mut found.groups);
            walked.push((at, path));
        }
        found.is_cut |= walk(hierarchy, each, |path| {
            take(hierarchy, path, false, &mut found.groups);
            walked.push((at, path.to_owned()));
        });
    }
    let (mut own, mut others): (Vec<Group>, Vec<Group>) = found.groups.drain(..).partition(|group| group.is_own);
    own.sort_by_key(|group| std::cmp::Reverse(depth(&group.path)));
    others.retain(is_notable);
    found.is_cut |= others.len() > KEPT_MAX;
    others.sort_by_key(|group| std::cmp::Reverse(weight(group)));
    others.truncate(KEPT_MAX);
    found.groups = own;
    found.groups.append(&mut others);
    add_members(&hierarchies, &walked, &mut found.groups);
    found
}

fn depth(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}

/// A group that a rule might have to name.
fn is_notable(group: &Group) -> bool {
    group.memory_max.is_some()
        || group.memory_high.is_some()
        || group.cpu_quota.is_some()
        || group.pids_max.is_some()
        || kills(group) > 0
        || stalls(group) > 0
}

fn kills(group: &Group) -> u64 {
    group.memory_events.known().and_then(|events| events.get("oom_kill").copied()).unwrap_or_default()
}

/// Time in which everybody in it waited.
fn stalls(group: &Group) -> u64 {
    let full = |pressure: &Option<crate::model::snapshot::Pressure>| pressure.map_or(0, |it| it.full.total_us);
    full(&group.memory_pressure).saturating_add(full(&group.io_pressure)).saturating_add(full(&group.cpu_pressure))
}

/// What to keep first: services of systemd all have a limit of processes, so that alone says little.
fn weight(group: &Group) -> (u8, u64) {
    let has_tight_limit = group.memory_max.is_some() || group.memory_high.is_some() || group.cpu_quota.is_some();
    let was_refused = kills(group) > 0 || group.pids_refused.is_some_and(|count| count > 0);
    (u8::from(was_refused) * 2 + u8::from(has_tight_limit), stalls(group))
}

/// `/a/b`, `/a`, and the mount itself.
fn own_chain(own: &str) -> Vec<String> {
    let mut chain = Vec::new();
    let mut path = own;
    while !path.is_empty() && chain.len() < DEPTH_MAX {
        chain.push(path.to_owned());
        path = path.rfind('/').map_or("", |at| &path[..at]);
    }
    chain.push(String::new());
    chain
}

/// Walks all groups but those of apm, the shallow ones first. True if there were more than `most`.
fn walk(hierarchy: &Hierarchy, most: usize, mut each: impl FnMut(&str)) -> bool {
    let mut queue = VecDeque::from([String::new()]);
    let mut walked = 0;
    while let Some(path) = queue.pop_front() {
        if walked == most {
            return true;
        }
        walked += 1;
        if !is_in(&hierarchy.own, &path) {
            each(&path);
        }
        let Ok(entries) = read_dir(below(hierarchy, &path)) else { continue };
        let is_folder = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        // A name that is no text could not be shown or typed.
        let names = entries.flatten().filter(is_folder).filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        queue.extend(names.into_iter().take(most).map(|name| format!("{path}/{name}")));
    }
    false
}

/// Whether `path` is `group` or in it.
fn is_in(path: &str, group: &str) -> bool {
    path.strip_prefix(group).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn below(hierarchy: &Hierarchy, path: &str) -> PathBuf {
    hierarchy.folder.join(path.trim_start_matches('/'))
}

/// Reads a group of one hierarchy, into what another hierarchy said of the same.
fn take(hierarchy: &Hierarchy, path: &str, is_own: bool, groups: &mut Vec<Group>) {
    let shown = if path.is_empty() { "/" } else { path };
    let at = groups.iter().position(|group| group.path == shown && group.is_own == is_own).unwrap_or_else(|| {
        groups.push(Group { path: shown.to_owned(), is_own, ..Group::default() });
        groups.len() - 1
    });
    let Some(group) = groups.get_mut(at) else { return };
    let folder = below(hierarchy, path);
    let mounted = format!("{}{path}", hierarchy.point);
    match hierarchy.is_v2 {
        true => take_v2(hierarchy, &folder, mounted, group),
        false => take_v1(hierarchy, &folder, mounted, group),
    }
}

fn take_v2(hierarchy: &Hierarchy, folder: &Path, mounted: String, group: &mut Group) {
    if hierarchy.has_memory {
        group.folders.memory = mounted.clone();
        group.memory_max = number(&folder.join("memory.max"));
        group.swap_max = number(&folder.join("memory.swap.max"));
        group.memory_high = number(&folder.join("memory.high"));
        group.memory_events = field(&folder.join("memory.events"), counters);
        group.memory_used = if group.memory_max.or(group.memory_high).is_some() {
            take_used(folder, "memory.current", "", group)
        } else {
            no_limit(folder, "memory.current")
        };
    }
    if hierarchy.has_cpu || hierarchy.has_usage {
        group.folders.cpu = mounted.clone();
        group.cpu_quota = read_text(folder.join("cpu.max")).ok().and_then(|text| quota_v2(&text));
        group.cpu_stat = field(&folder.join("cpu.stat"), counters);
    }
    if hierarchy.has_pids {
        take_pids(folder, mounted.clone(), group);
    }
    // A file of these is not there, or says it is off, where pressure is off.
    let stalls = |name: &str| field(&folder.join(name), pressure).known().copied();
    group.memory_pressure = stalls("memory.pressure");
    group.cpu_pressure = stalls("cpu.pressure");
    group.io_pressure = stalls("io.pressure");
    if group.memory_pressure.or(group.cpu_pressure).or(group.io_pressure).is_some() {
        group.folders.pressure = mounted;
    }
}

fn take_v1(hierarchy: &Hierarchy, folder: &Path, mounted: String, group: &mut Group) {
    if hierarchy.has_memory {
        group.folders.memory = mounted.clone();
        group.memory_max = number(&folder.join("memory.limit_in_bytes")).filter(|limit| *limit < LIMITLESS);
        group.swap_max = number(&folder.join("memory.memsw.limit_in_bytes")).filter(|limit| *limit < LIMITLESS);
        group.memory_events = field(&folder.join("memory.oom_control"), counters);
        if let (Field::Known(events), Some(count)) = (&mut group.memory_events, number(&folder.join("memory.failcnt")))
        {
            events.insert("failcnt".to_owned(), count);
        }
        group.memory_used = if group.memory_max.is_some() {
            group.memory_kernel = number(&folder.join("memory.kmem.usage_in_bytes"));
            take_used(folder, "memory.usage_in_bytes", "total_", group)
        } else {
            no_limit(folder, "memory.usage_in_bytes")
        };
    }
    if hierarchy.has_cpu {
        group.folders.cpu = mounted.clone();
        let text = |name: &str| read_text(folder.join(name)).ok();
        let quota = text("cpu.cfs_quota_us").zip(text("cpu.cfs_period_us"));
        group.cpu_quota = quota.and_then(|(quota, period)| quota_of(quota.trim(), period.trim()));
        let mut stat = field(&folder.join("cpu.stat"), counters);
        if let Field::Known(stat) = &mut stat {
            let throttled = stat.remove("throttled_time").unwrap_or_default();
            stat.insert("throttled_usec".to_owned(), throttled / 1000);
        }
        join_counters(&mut group.cpu_stat, stat);
    }
    if hierarchy.has_usage {
        let path = folder.join("cpuacct.usage");
        if let Some(usage) = number(&path) {
            join_counters(&mut group.cpu_stat, Field::Known([("usage_usec".to_owned(), usage / 1000)].into()));
        }
    }
    if hierarchy.has_pids {
        take_pids(folder, mounted, group);
    }
}

fn take_pids(folder: &Path, mounted: String, group: &mut Group) {
    group.folders.pids = mounted;
    group.pids_max = number(&folder.join("pids.max"));
    group.pids = field(&folder.join("pids.current"), |text| text.trim().parse().ok());
    let events = field(&folder.join("pids.events"), counters);
    group.pids_refused = events.known().and_then(|events| events.get("max").copied());
}

/// Two files about the same thing, in hierarchies of their own.
fn join_counters(into: &mut Field<Counters>, from: Field<Counters>) {
    match (into, from) {
        (Field::Known(all), Field::Known(more)) => all.extend(more),
        (into, from) if into.known().is_none() => *into = from,
        _ => {}
    }
}

/// Use without the pages of files that nobody used lately, which the kernel takes back for the asking; and what of it no
/// process has. In v1 the names of sums over the groups below begin with `total_`.
fn take_used(folder: &Path, name: &str, prefix: &str, group: &mut Group) -> Field<u64> {
    let all: Field<u64> = field(&folder.join(name), |text| text.trim().parse().ok());
    let stat = field(&folder.join("memory.stat"), counters);
    let bytes = |name: &str| stat.known().and_then(|stat| stat.get(&format!("{prefix}{name}")).copied());
    group.memory_files = bytes("active_file");
    group.memory_shared = bytes("shmem");
    // Before Linux 5.18 v2 has no sum of them.
    let parts = || {
        ["slab", "kernel_stack", "pagetables", "percpu"]
            .iter()
            .filter_map(|name| bytes(name))
            .reduce(u64::saturating_add)
    };
    group.memory_kernel = group.memory_kernel.or_else(|| bytes("kernel")).or_else(parts);
    match all {
        Field::Known(all) => Field::Known(all.saturating_sub(bytes("inactive_file").unwrap_or_default())),
        unavailable => unavailable,
    }
}

fn no_limit(folder: &Path, name: &str) -> Field<u64> {
    Field::unavailable(folder.join(name).display().to_string(), "not looked at: no limit")
}

/// `max 100000` or `20000 100000`.
fn quota_v2(text: &str) -> Option<f64> {
    let mut words = text.split_ascii_whitespace();
    quota_of(words.next()?, words.next()?)
}

/// CPUs' worth of time; `max` and -1 are none.
fn quota_of(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

/// Who is in the groups that have a limit: those of folders below belong to them too.
fn add_members(hierarchies: &[Hierarchy], walked: &[(usize, String)], groups: &mut [Group]) {
    let mut left = MEMBERS_ALL_MAX;
    for (at, path) in walked {
        let Some(hierarchy) = hierarchies.get(*at) else { continue };
        let mut holders: Vec<&mut Group> = groups
            .iter_mut()
            .filter(|group| is_in(path, group.path.trim_end_matches('/')) && is_of(group, hierarchy))
            .filter(|group| group.members.len() < MEMBERS_MAX)
            .collect();
        if holders.is_empty() || left == 0 {
            continue;
        }
        let text = read_text(below(hierarchy, path).join("cgroup.procs")).unwrap_or_default();
        for pid in text.lines().filter_map(|line| line.trim().parse::<i32>().ok()).take(left.min(MEMBERS_MAX)) {
            left -= 1;
            for group in &mut holders {
                if group.members.len() < MEMBERS_MAX && !group.members.contains(&pid) {
                    group.members.push(pid);
                }
            }
        }
    }
}

/// The hierarchy in which the group has its limit, or its stalls: there its members are. The root of a machine has no
/// limit, that of a container may.
fn is_of(group: &Group, hierarchy: &Hierarchy) -> bool {
    let folders = &group.folders;
    let ranked = [
        (group.memory_max.is_some() || kills(group) > 0, &folders.memory),
        (group.cpu_quota.is_some(), &folders.cpu),
        (group.pids_max.is_some(), &folders.pids),
        (group.path != "/", &folders.pressure),
    ];
    ranked.iter().any(|(has, folder)| *has && is_in(folder, &hierarchy.point))
}

/// Processes of a group and the groups below it, where it is mounted in any hierarchy.
pub(crate) fn members(roots: &Roots, path: &str) -> Vec<i32> {
    let base = roots.sys.join("fs/cgroup");
    let hierarchies = read_dir(&base).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut folders: Vec<std::path::PathBuf> = std::iter::once(base.clone())
        .chain(hierarchies)
        .map(|mount| mount.join(path.trim_start_matches('/')))
        .filter(|folder| folder.join("cgroup.procs").exists())
        .collect();
    let mut found = std::collections::BTreeSet::new();
    let mut walked = 0;
    while let Some(folder) = folders.pop().filter(|_| walked < MEMBERS_WALK_MAX) {
        walked += 1;
        let text = read_text(folder.join("cgroup.procs")).unwrap_or_default();
        found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        let below = read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
        folders.extend(below.filter(|path| path.is_dir()));
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::{quota_of, quota_v2, read};
    use crate::model::snapshot::cgroup::{Cgroups, Group};
    use crate::probe::Roots;

    /// A machine below a folder of its own.
    struct Host(PathBuf);

    impl Host {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("apm-cgroup-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&root);
            Self(root)
        }

        fn files(&self, folder: &str, files: &[(&str, &str)]) -> &Self {
            let folder = self.0.join(folder);
            std::fs::create_dir_all(&folder).expect("a folder");
            for (name, text) in files {
                std::fs::write(folder.join(name), text).expect("a file");
            }
            self
        }

        fn read(&self) -> Cgroups {
            read(&Roots::below(&self.0))
        }
    }

    impl Drop for Host {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn group<'a>(found: &'a Cgroups, path: &str) -> &'a Group {
        found.groups.iter().find(|group| group.path == path).expect("the group")
    }

    /// Debian 12 with systemd: apm in a service, another service that was killed for memory.
    #[test]
    fn v2_names_the_own_group_its_parents_and_others_with_limits() {
        let host = Host::new("v2");
        host.files(
            "proc/self",
            &[
                ("cgroup", "0::/system.slice/ci.service\n"),
                ("mountinfo", "26 22 0:23 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"),
            ],
        )
        .files("sys/fs/cgroup", &[("cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma misc\n")])
        .files("sys/fs/cgroup/system.slice", &[("memory.max", "max\n"), ("cpu.max", "max 100000\n"), ("pids.max", "max\n")])
        .files(
            "sys/fs/cgroup/system.slice/ci.service",
            &[
                ("memory.max", "2147483648\n"),
                ("memory.high", "max\n"),
                ("memory.current", "2000000000\n"),
                ("memory.stat", "anon 900000000\nfile 1100000000\ninactive_anon 0\ninactive_file 1000000000\n"),
                ("memory.events", "low 0\nhigh 0\nmax 12\noom 0\noom_kill 0\noom_group_kill 0\n"),
                ("cpu.max", "150000 100000\n"),
                ("cpu.stat", "usage_usec 500\nuser_usec 400\nsystem_usec 100\nnr_periods 40\nnr_throttled 38\nthrottled_usec 1760000\n"),
                ("pids.max", "512\n"),
                ("pids.current", "511\n"),
                ("pids.events", "max 9\n"),
                ("cgroup.procs", "71\n72\n"),
                ("memory.pressure", "some avg10=1.00 avg60=2.00 avg300=3.00 total=4\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=3\n"),
            ],
        )
        .files("sys/fs/cgroup/system.slice/quiet.service", &[("memory.max", "max\n"), ("pids.max", "max\n")])
        .files(
            "sys/fs/cgroup/user.slice/job",
            &[("memory.events", "low 0\nhigh 0\nmax 4\noom 1\noom_kill 1\n"), ("memory.max", "max\n"), ("cgroup.procs", "")],
        )
        .files("sys/fs/cgroup/user.slice/job/leaf", &[("cgroup.procs", "99\n")]);
        let found = host.read();
        assert_eq!(found.layout, "v2");
        let own: Vec<(&str, bool)> = found.groups.iter().map(|group| (group.path.as_str(), group.is_own)).collect();
        let expected =
            [("/system.slice/ci.service", true), ("/system.slice", true), ("/", true), ("/user.slice/job", false)];
        assert_eq!(own, expected);
        let ci = &found.groups[0];
        assert_eq!(
            (ci.memory_max, ci.memory_high, ci.memory_used.known()),
            (Some(2_147_483_648), None, Some(&1_000_000_000))
        );
        assert_eq!(
            (ci.cpu_quota, ci.pids_max, ci.pids.known(), ci.pids_refused),
            (Some(1.5), Some(512), Some(&511), Some(9))
        );
        assert_eq!(ci.cpu_stat.known().and_then(|stat| stat.get("throttled_usec")), Some(&1_760_000));
        assert_eq!(ci.memory_pressure.map(|it| it.full.total_us), Some(3));
        assert_eq!(ci.members, [71, 72]);
        assert_eq!(ci.folders.memory, "/sys/fs/cgroup/system.slice/ci.service");
        assert_eq!(found.groups[1].cpu_quota, None);
        // Who is in a group below is in the group.
        assert_eq!(found.groups[3].members, [99]);
        assert!(!found.is_cut);
    }

    /// As on the machine this was written on: each controller mounted by itself, apm in a group of the memory
    /// hierarchy only, an empty unified tree for pressure.
    #[test]
    fn hybrid_takes_limits_from_v1_and_pressure_from_the_unified_tree() {
        let host = Host::new("hybrid");
        host.files(
            "proc/self",
            &[
                ("cgroup", "9:name=systemd:/\n8:pids:/\n4:memory:/api/a9\n2:cpuacct:/\n1:cpu:/\n0::/\n"),
                (
                    "mountinfo",
                    "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                     33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct\n\
                     35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                     39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n\
                     40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n\
                     41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
                ),
            ],
        )
        .files(
            "sys/fs/cgroup/memory",
            &[("memory.limit_in_bytes", "9223372036854771712\n"), ("memory.usage_in_bytes", "100\n")],
        )
        .files("sys/fs/cgroup/memory/api", &[("memory.limit_in_bytes", "9223372036854771712\n")])
        .files(
            "sys/fs/cgroup/memory/api/a9",
            &[
                ("memory.limit_in_bytes", "1000000000\n"),
                ("memory.usage_in_bytes", "900000000\n"),
                ("memory.stat", "cache 1\ninactive_file 7\ntotal_inactive_file 300000000\n"),
                ("memory.failcnt", "282\n"),
                ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
                ("cgroup.procs", "5\n"),
            ],
        )
        .files("sys/fs/cgroup/cpu", &[("cpu.cfs_quota_us", "-1\n"), ("cpu.cfs_period_us", "100000\n")])
        .files(
            "sys/fs/cgroup/cpu/slow",
            &[
                ("cpu.cfs_quota_us", "20000\n"),
                ("cpu.cfs_period_us", "100000\n"),
                ("cpu.stat", "nr_periods 40\nnr_throttled 40\nthrottled_time 1760000000\n"),
                ("cgroup.procs", "6\n7\n"),
            ],
        )
        .files("sys/fs/cgroup/cpuacct/slow", &[("cpuacct.usage", "5000\n")])
        .files("sys/fs/cgroup/pids", &[])
        .files(
            "sys/fs/cgroup/unified",
            &[
                ("cgroup.controllers", "\n"),
                ("cpu.stat", "usage_usec 1\n"),
                ("cpu.pressure", "some avg10=1.00 avg60=2.00 avg300=3.00 total=4\n"),
            ],
        );
        let found = host.read();
        assert_eq!(found.layout, "hybrid");
        let paths: Vec<(&str, bool)> = found.groups.iter().map(|group| (group.path.as_str(), group.is_own)).collect();
        assert_eq!(paths, [("/api/a9", true), ("/api", true), ("/", true), ("/slow", false)]);
        let own = group(&found, "/api/a9");
        assert_eq!((own.memory_max, own.memory_used.known()), (Some(1_000_000_000), Some(&600_000_000)));
        let events = own.memory_events.known().expect("events");
        assert_eq!((events.get("failcnt"), events.get("oom_kill")), (Some(&282), Some(&3)));
        let root = group(&found, "/");
        // 2^63 less a page is no limit.
        assert_eq!((root.memory_max, root.cpu_quota, root.members.len()), (None, None, 0));
        assert_eq!(root.cpu_pressure.map(|it| it.some.total_us), Some(4));
        let slow = group(&found, "/slow");
        let stat = slow.cpu_stat.known().expect("cpu.stat");
        assert_eq!((slow.cpu_quota, stat.get("throttled_usec")), (Some(0.2), Some(&1_760_000)));
        assert_eq!((stat.get("usage_usec"), slow.members.as_slice()), (Some(&5), [6, 7].as_slice()));
    }

    /// Docker with v1 mounts the container's own group as the top, and /proc/self/cgroup tells the path of the host.
    #[test]
    fn the_root_of_the_mount_is_taken_off_the_own_path() {
        let host = Host::new("docker");
        host.files(
            "proc/self",
            &[
                ("cgroup", "4:memory:/docker/0a1b\n3:cpu,cpuacct:/docker/0a1b\n"),
                (
                    "mountinfo",
                    "700 690 0:32 /docker/0a1b /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n\
                     701 690 0:33 /docker/0a1b /sys/fs/cgroup/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct\n",
                ),
            ],
        )
        .files(
            "sys/fs/cgroup/memory",
            &[
                ("memory.limit_in_bytes", "536870912\n"),
                ("memory.usage_in_bytes", "1000\n"),
                ("cgroup.procs", "1\n8\n"),
            ],
        )
        .files("sys/fs/cgroup/cpu,cpuacct", &[("cpu.cfs_quota_us", "50000\n"), ("cpu.cfs_period_us", "100000\n")]);
        let found = host.read();
        assert_eq!(found.layout, "v1");
        assert_eq!(found.groups.len(), 1);
        let own = &found.groups[0];
        assert_eq!((own.path.as_str(), own.is_own), ("/", true));
        assert_eq!((own.memory_max, own.cpu_quota), (Some(536_870_912), Some(0.5)));
        assert_eq!((own.memory_used.known(), own.members.as_slice()), (Some(&1000), [1, 8].as_slice()));
    }

    #[test]
    fn without_control_groups_there_are_none() {
        let host = Host::new("none");
        host.files("proc/self", &[("mountinfo", "22 27 0:21 / /proc rw,relatime - proc proc rw\n")]);
        assert_eq!(host.read(), Cgroups { layout: "none".to_owned(), ..Cgroups::default() });
    }

    #[test]
    fn a_big_tree_is_cut_and_says_so() {
        let host = Host::new("big");
        host.files("proc", &[("mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n")]);
        for at in 0..500 {
            host.files(&format!("sys/fs/cgroup/g{at:03}"), &[("memory.max", "4096\n")]);
        }
        let found = host.read();
        assert!(found.is_cut);
        assert_eq!((found.layout.as_str(), found.groups.len()), ("v2", 101));
    }

    #[test]
    fn quotas() {
        assert_eq!(quota_v2("max 100000\n"), None);
        assert_eq!(quota_v2("20000 0"), None);
        assert_eq!(quota_v2("50000 100000\n"), Some(0.5));
        assert_eq!(quota_of("-1", "100000"), None);
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in any::<String>()) {
            let _ = (quota_v2(&text), quota_of(&text, "100000"), quota_of("100000", &text));
        }
    }
}
