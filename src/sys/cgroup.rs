//! Control groups for attempts: version 2 where this process may create them with the controllers, else version 1 for
//! each controller by itself, else none, and then the caller looks at the processes at intervals ("polling").
//!
//! Layout: `PLACE/apm-MARK/` for the run (its mark: `journal::folder::mark`) with its ceilings, and in it one group for each
//! attempt that has limits, or for every attempt where the run has ceilings. A process joins
//! before its first instruction (`launch`): from outside there would be a moment in which it could fork away.

#![expect(clippy::disallowed_methods, reason = "kernel: /proc and control groups")]

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::event::{Ceilings, Enforcement, Mechanism};
use crate::model::task::Limits;
use crate::model::unit::{Bytes, Percent};
use crate::sys::owner;
use crate::sys::process::{self, Identity};

/// Prefix of every group apm makes.
const PREFIX: &str = "apm-";
/// Ending of the group that apm itself moves to where it has to make room.
const LEAF: &str = ".self";
/// Period of the CPU quota in microseconds: the kernel's default.
const PERIOD_US: u64 = 100_000;

/// A resource that a group limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Controller {
    Memory,
    Cpu,
    Pids,
}

impl Controller {
    const ALL: [Self; 3] = [Self::Memory, Self::Cpu, Self::Pids];

    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }
}

/// A folder in which groups of a run can be made, and what they can limit.
#[derive(Clone, Debug)]
struct Place {
    version: Mechanism,
    folder: PathBuf,
    controllers: Vec<Controller>,
    /// Where apm moved to, so that its own group may hand controllers down.
    leaf: Option<PathBuf>,
}

/// Where control groups for a run are made.
#[derive(Debug, Default)]
pub(crate) struct Cgroups {
    places: Vec<Place>,
    notes: Vec<String>,
    /// Every attempt gets a group, because the ceilings of the run act through its parent.
    ceilings: bool,
}

/// The group of one attempt, in one or several hierarchies.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    places: Vec<Place>,
}

impl Cgroups {
    /// No control groups: everything is polled.
    pub(crate) fn none(why: &str) -> Self {
        Self { places: Vec::new(), notes: vec![why.to_owned()], ceilings: false }
    }

    /// Finds where groups can be made and makes those of the run. `root` is where control groups are mounted by
    /// convention, `proc` that of the process file system.
    pub(crate) fn detect(proc: &Path, run: &str, ceilings: &Ceilings) -> Self {
        let own = fs::read_to_string(proc.join("self/cgroup")).unwrap_or_default();
        let mounts = fs::read_to_string(proc.join("self/mountinfo")).unwrap_or_default();
        let mut cgroups = Self::default();
        let name = format!("{PREFIX}{run}");
        if let Some(mount) = mounts.lines().find_map(|line| mount_point(line, "cgroup2", None)) {
            match place_v2(&mount, &own, &name) {
                Ok(place) => cgroups.places.push(place),
                Err(why) => cgroups.notes.push(format!("cgroup v2: {why}")),
            }
        }
        for controller in Controller::ALL {
            if cgroups.mechanism(controller) != Mechanism::Polling {
                continue;
            }
            let mount = mounts.lines().find_map(|line| mount_point(line, "cgroup", Some(controller.name())));
            let Some(mount) = mount else { continue };
            match place_v1(&mount, &own, controller, &name) {
                Ok(place) => cgroups.places.push(place),
                Err(why) => cgroups.notes.push(format!("cgroup v1 {}: {why}", controller.name())),
            }
        }
        if cgroups.places.is_empty() && cgroups.notes.is_empty() {
            cgroups.notes.push("no control groups are mounted".to_owned());
        }
        cgroups.set_ceilings(ceilings);
        cgroups
    }

    /// What is in force, for events.
    pub(crate) fn enforcement(&self) -> Enforcement {
        let [memory, cpu, processes] = Controller::ALL.map(|controller| self.mechanism(controller));
        let best = [memory, cpu, processes].iter().all(|mechanism| *mechanism == Mechanism::CgroupV2);
        Enforcement { memory, cpu, processes, notes: if best { Vec::new() } else { self.notes.clone() } }
    }

    /// A group for an attempt, if it needs one.
    pub(crate) fn attempt(&self, name: &str, limits: &Limits) -> io::Result<Option<Group>> {
        let wanted = |controller: &Controller| match controller {
            Controller::Memory => limits.memory.is_some(),
            Controller::Cpu => limits.cpu.is_some(),
            Controller::Pids => limits.processes.is_some(),
        };
        let mut group = Group { places: Vec::new() };
        for place in &self.places {
            if !self.ceilings && !place.controllers.iter().any(wanted) {
                continue;
            }
            let place = Place { folder: place.folder.join(name), ..place.clone() };
            let made = fs::create_dir(&place.folder).and_then(|()| place.limit(limits));
            group.places.push(place);
            if let Err(error) = made {
                // What was made goes again; the reason is the first error.
                let _ = group.remove();
                return Err(error);
            }
        }
        Ok((!group.places.is_empty()).then_some(group))
    }

    /// Removes the groups of the run; also done when the value goes.
    pub(crate) fn remove(&self) {
        for place in &self.places {
            // One that stays is found as stale by a later run.
            let _ = remove_tree(&place.folder);
            if let (Some(leaf), Some(own)) = (&place.leaf, place.folder.parent()) {
                leave(own, leaf);
            }
        }
    }

    /// Ends what lives in the groups of a crashed run, wherever this process could have made them, and removes them.
    /// Returns how many processes were ended.
    pub(crate) fn sweep(proc: &Path, run: &str) -> u32 {
        let mounts = fs::read_to_string(proc.join("self/mountinfo")).unwrap_or_default();
        let own = fs::read_to_string(proc.join("self/cgroup")).unwrap_or_default();
        let mut ended = 0;
        for line in mounts.lines() {
            let v1 = Controller::ALL.iter().find_map(|c| mount_point(line, "cgroup", Some(c.name())));
            let Some(mount) = v1.or_else(|| mount_point(line, "cgroup2", None)) else { continue };
            // The run may have been started from a sibling of our group: look at it and at all above.
            let paths = own.lines().filter_map(|line| line.splitn(3, ':').nth(2));
            for path in paths {
                for place in own_folder(&mount, path).ancestors().take_while(|place| place.starts_with(&mount.0)) {
                    let folder = place.join(format!("{PREFIX}{run}"));
                    // Somebody else may have been given a part of the hierarchy, and have made one of this name.
                    if folder.symlink_metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == owner::user()) {
                        ended += kill_tree(&folder);
                        // Where it stays, nothing lives in it any more.
                        let _ = remove_tree(&folder);
                    }
                    let _ = fs::remove_dir(place.join(format!("{PREFIX}{run}{LEAF}")));
                }
            }
        }
        ended
    }

    fn mechanism(&self, controller: Controller) -> Mechanism {
        self.places
            .iter()
            .find(|place| place.controllers.contains(&controller))
            .map_or(Mechanism::Polling, |place| place.version)
    }

    /// Another memory ceiling for the run, where a group keeps it. Where that is refused it is kept by looking.
    pub(crate) fn set_memory(&self, ceiling: Bytes) {
        let limits = Limits { memory: Some(ceiling), ..Limits::default() };
        let keeps = |place: &&Place| place.controllers.contains(&Controller::Memory);
        for place in self.places.iter().filter(|_| self.ceilings).filter(keeps) {
            // The scheduler looks at the sum too.
            let _ = place.limit(&limits);
        }
    }

    fn set_ceilings(&mut self, ceilings: &Ceilings) {
        let cpus = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        let limits = Limits {
            memory: ceilings.memory,
            // The ceiling is in percent of the machine, a group's quota in percent of one CPU.
            cpu: ceilings.cpu.map(|percent| Percent(percent.0 * cpus)),
            ..Limits::default()
        };
        self.ceilings = !limits.is_none();
        for place in &self.places {
            if let Err(error) = place.limit(&limits) {
                self.notes.push(format!("the ceiling in `{}`: {error}", place.folder.display()));
            }
        }
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Place {
    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        fs::write(self.folder.join(file), value)
            .map_err(|error| io::Error::new(error.kind(), format!("write `{value}` to `{file}`: {error}")))
    }

    fn number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.folder.join(file)).ok()?.trim().parse().ok()
    }

    /// A field of a file of `name value` lines.
    fn field(&self, file: &str, name: &str) -> Option<u64> {
        let text = fs::read_to_string(self.folder.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    }

    /// Cached files on their way out, in bytes.
    fn cache(&self) -> u64 {
        let name = if self.version == Mechanism::CgroupV2 { "inactive_file" } else { "total_inactive_file" };
        self.field("memory.stat", name).unwrap_or(0)
    }

    fn limit(&self, limits: &Limits) -> io::Result<()> {
        let v2 = self.version == Mechanism::CgroupV2;
        for controller in &self.controllers {
            match controller {
                Controller::Memory => {
                    let Some(Bytes(bytes)) = limits.memory else { continue };
                    if v2 {
                        self.write("memory.max", &bytes.to_string())?;
                        // Without swap the limit is one of memory, not a way to slow the machine down. Not every kernel
                        // has the file.
                        let _ = self.write("memory.swap.max", "0");
                        // The whole attempt dies with its first victim: half a tree helps nobody.
                        let _ = self.write("memory.oom.group", "1");
                    } else {
                        self.write("memory.limit_in_bytes", &bytes.to_string())?;
                        // Only there with swap accounting.
                        let _ = self.write("memory.memsw.limit_in_bytes", &bytes.to_string());
                    }
                }
                Controller::Cpu => {
                    let Some(Percent(percent)) = limits.cpu else { continue };
                    // The kernel accepts no quota under 1 ms.
                    let quota = ((percent / 100.0 * PERIOD_US as f64) as u64).max(1000);
                    if v2 {
                        self.write("cpu.max", &format!("{quota} {PERIOD_US}"))?;
                    } else {
                        self.write("cpu.cfs_period_us", &PERIOD_US.to_string())?;
                        self.write("cpu.cfs_quota_us", &quota.to_string())?;
                    }
                }
                Controller::Pids => {
                    if let Some(count) = limits.processes {
                        self.write("pids.max", &count.to_string())?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Group {
    /// What a process writes to in order to join it.
    pub(crate) fn joins(&self) -> io::Result<Vec<File>> {
        let open = |place: &Place| fs::OpenOptions::new().write(true).open(place.folder.join("cgroup.procs"));
        self.places.iter().map(open).collect()
    }

    fn of(&self, controller: Controller) -> Option<&Place> {
        self.places.iter().find(|place| place.controllers.contains(&controller))
    }

    /// Most memory used at once, less the cached files there are now: how many there were then nobody knows.
    pub(crate) fn memory_peak(&self) -> Option<Bytes> {
        let place = self.of(Controller::Memory)?;
        // `memory.peak` is there from Linux 5.19 on.
        let file = if place.version == Mechanism::CgroupV2 { "memory.peak" } else { "memory.max_usage_in_bytes" };
        place.number(file).map(|bytes| Bytes(bytes.saturating_sub(place.cache())))
    }

    /// Memory in use now, without cached files that nobody has used lately: the kernel takes that back for the asking.
    pub(crate) fn memory_now(&self) -> Option<Bytes> {
        let place = self.of(Controller::Memory)?;
        let file = if place.version == Mechanism::CgroupV2 { "memory.current" } else { "memory.usage_in_bytes" };
        place.number(file).map(|bytes| Bytes(bytes.saturating_sub(place.cache())))
    }

    /// How often the kernel killed a member for memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        let Some(place) = self.of(Controller::Memory) else { return 0 };
        let file = if place.version == Mechanism::CgroupV2 { "memory.events" } else { "memory.oom_control" };
        place.field(file, "oom_kill").unwrap_or(0)
    }

    /// How often the kernel refused a member one more process.
    pub(crate) fn forks_refused(&self) -> u64 {
        self.of(Controller::Pids).and_then(|place| place.field("pids.events", "max")).unwrap_or(0)
    }

    /// Kills every member. Returns how many there were.
    pub(crate) fn kill(&self) -> u32 {
        self.places.iter().map(|place| kill_tree(&place.folder)).max().unwrap_or(0)
    }

    /// Removes it; members still dying get a moment.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.places.iter().map(|place| remove_tree(&place.folder)).fold(Ok(()), Result::and)
    }
}

/// Members of a group and of the groups in it.
fn members(folder: &Path) -> Vec<Identity> {
    let listed = || -> Vec<i32> {
        let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    let identity = |pid| Some(Identity { pid, start: process::start_of(pid)? });
    let mut found: Vec<Identity> = listed().into_iter().filter_map(identity).collect();
    // A member may have ended and its number been given away before its start time was read.
    let still = listed();
    found.retain(|process| still.contains(&process.pid));
    found.extend(subgroups(folder).iter().flat_map(|folder| members(folder)));
    found
}

fn subgroups(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn kill_tree(folder: &Path) -> u32 {
    let before = members(folder);
    if before.is_empty() {
        return 0;
    }
    // One write ends all of a v2 group (from Linux 5.14), forks included; elsewhere the loop does.
    let _ = fs::write(folder.join("cgroup.kill"), "1");
    let (killed, _left) = process::end_all(|| members(folder));
    killed.max(before.len() as u32)
}

fn remove_tree(folder: &Path) -> io::Result<()> {
    for subgroup in subgroups(folder) {
        remove_tree(&subgroup)?;
    }
    let mut last = Ok(());
    for _ in 0..50 {
        last = match fs::remove_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Err(error),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => return other,
        };
        std::thread::sleep(Duration::from_millis(4));
    }
    last
}

/// A line of mountinfo, if it mounts this type with this option: its mount point and the group at its root.
fn mount_point(line: &str, kind: &str, option: Option<&str>) -> Option<(PathBuf, String)> {
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    if after.next()? != kind {
        return None;
    }
    let options = after.nth(1)?;
    if option.is_some_and(|option| !options.split(',').any(|word| word == option)) {
        return None;
    }
    let mut before = before.split(' ').skip(3);
    let root = before.next()?.to_owned();
    Some((PathBuf::from(before.next()?.replace("\\040", " ")), root))
}

/// The folder of our own group under a mount.
fn own_folder((mount, root): &(PathBuf, String), path: &str) -> PathBuf {
    // Inside a container the mount may show a part of the hierarchy only.
    let path = path.strip_prefix(root.as_str()).unwrap_or(path);
    let folder = mount.join(path.trim_start_matches('/'));
    if folder.is_dir() { folder } else { mount.clone() }
}

fn place_v1(mount: &(PathBuf, String), own: &str, controller: Controller, name: &str) -> Result<Place, String> {
    let path = own
        .lines()
        .find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            controllers.split(',').any(|word| word == controller.name()).then_some(path)
        })
        .ok_or("this process is in no group of it")?;
    let folder = own_folder(mount, path).join(name);
    fs::create_dir(&folder).map_err(|error| format!("create `{}`: {error}", folder.display()))?;
    Ok(Place { version: Mechanism::CgroupV1, folder, controllers: vec![controller], leaf: None })
}

/// The nearest group at or above our own in which groups with controllers can be made. Not above one that has limits:
/// what runs there would have left them.
fn place_v2(mount: &(PathBuf, String), own: &str, name: &str) -> Result<Place, String> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::")).ok_or("this process is in no group of it")?;
    let start = own_folder(mount, path);
    let mut why = String::new();
    for place in start.ancestors().take_while(|place| place.starts_with(&mount.0)) {
        let tried = if place == start { try_own_v2(place, name) } else { try_v2(place, name) };
        match tried {
            Ok(place) => return Ok(place),
            // The reason at our own group is the one that helps.
            Err(error) if why.is_empty() => why = error,
            Err(_) => {}
        }
        if has_limits(place) {
            break;
        }
    }
    Err(why)
}

/// Whether a version 2 group limits its members.
fn has_limits(folder: &Path) -> bool {
    ["memory.max", "memory.high", "cpu.max", "pids.max"].iter().any(|file| {
        let value = fs::read_to_string(folder.join(file)).unwrap_or_default();
        value.split_ascii_whitespace().next().is_some_and(|first| first != "max")
    })
}

/// A group with processes of its own may not hand controllers down, unless it is the root of all. Where apm is the only
/// one in it (a service, `systemd-run --scope -p Delegate=yes`), it moves into a group below and leaves it free.
fn try_own_v2(own: &Path, name: &str) -> Result<Place, String> {
    let first = try_v2(own, name);
    let pid = std::process::id().to_string();
    let alone = || fs::read_to_string(own.join("cgroup.procs")).is_ok_and(|text| text.trim() == pid);
    if first.is_ok() || !alone() {
        return first;
    }
    let leaf = own.join(format!("{name}{LEAF}"));
    let move_to = |folder: &Path| fs::write(folder.join("cgroup.procs"), "0");
    let moved = fs::create_dir(&leaf).and_then(|()| move_to(&leaf));
    let second = moved
        .map_err(|error| format!("move to `{}`: {error}", leaf.display()))
        .and_then(|()| Ok(Place { leaf: Some(leaf.clone()), ..try_v2(own, name)? }));
    if second.is_err() {
        leave(own, &leaf);
    }
    second
}

/// Moves apm out of its leaf and removes it.
fn leave(own: &Path, leaf: &Path) {
    // Only a group that hands nothing down takes processes. What fails here stays until the end of the service.
    for controller in Controller::ALL {
        let _ = fs::write(own.join("cgroup.subtree_control"), format!("-{}", controller.name()));
    }
    let _ = fs::write(own.join("cgroup.procs"), "0");
    let _ = fs::remove_dir(leaf);
}

fn try_v2(place: &Path, name: &str) -> Result<Place, String> {
    let read = |file: &str| fs::read_to_string(place.join(file)).unwrap_or_default();
    let offered = read("cgroup.controllers");
    let controllers: Vec<Controller> = Controller::ALL
        .into_iter()
        .filter(|controller| offered.split_ascii_whitespace().any(|word| word == controller.name()))
        .collect();
    if controllers.is_empty() {
        return Err(format!("`{}` offers no controllers", place.display()));
    }
    let enable = |folder: &Path| -> Result<(), String> {
        let enabled = fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap_or_default();
        for controller in &controllers {
            if !enabled.split_ascii_whitespace().any(|word| word == controller.name()) {
                fs::write(folder.join("cgroup.subtree_control"), format!("+{}", controller.name()))
                    .map_err(|error| format!("enable `{}` in `{}`: {error}", controller.name(), folder.display()))?;
            }
        }
        Ok(())
    };
    enable(place)?;
    let folder = place.join(name);
    fs::create_dir(&folder).map_err(|error| format!("create `{}`: {error}", folder.display()))?;
    enable(&folder).inspect_err(|_| {
        // The reason is on its way; an empty group left behind does no harm.
        let _ = fs::remove_dir(&folder);
    })?;
    Ok(Place { version: Mechanism::CgroupV2, folder, controllers, leaf: None })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{mount_point, own_folder};

    #[test]
    fn mounts_are_found_by_type_and_controller() {
        let v1 = "33 27 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct";
        let v2 = "26 25 0:23 /user.slice /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate";
        let at = |path: &str| Some((PathBuf::from(path), "/".to_owned()));
        assert_eq!(mount_point(v1, "cgroup", Some("cpu")), at("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(mount_point(v1, "cgroup", Some("memory")), None);
        assert_eq!(mount_point(v1, "cgroup2", None), None);
        let mount = mount_point(v2, "cgroup2", None).expect("a mount");
        assert_eq!(mount.1, "/user.slice");
        assert_eq!(mount_point("garbage - ", "cgroup", None), None);
        assert_eq!(own_folder(&(PathBuf::from("/nonexistent"), "/".into()), "/a/b"), PathBuf::from("/nonexistent"));
    }
}
