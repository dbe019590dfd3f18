//! Room for agents, and the size of the machine.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::model::snapshot::Field;
use crate::model::snapshot::room::{Drive, Git, Hardware, Place, Room};
use crate::probe::{FILE_MAX, Roots, field, number, say};
use crate::sys::beneath;
use crate::sys::limits::{self, Resource};

/// Where agents would work.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folders {
    pub(crate) work: PathBuf,
    pub(crate) temporary: PathBuf,
    /// The `.git` folder around `work`, if it is to be looked at.
    pub(crate) git: Option<PathBuf>,
}

/// Reads it.
pub(crate) fn read(roots: &Roots, folders: &Folders) -> Room {
    let soft = |name: &str, resource| roots.call(name, || limits::get(resource).map(|limit| limit.soft));
    Room {
        files: roots.call("getrlimit RLIMIT_NOFILE", || {
            let limit = limits::get(Resource::Files)?;
            Ok((limit.soft.unwrap_or(u64::MAX), limit.hard.unwrap_or(u64::MAX)))
        }),
        processes: soft("getrlimit RLIMIT_NPROC", Resource::Processes),
        stack: soft("getrlimit RLIMIT_STACK", Resource::Stack),
        core: soft("getrlimit RLIMIT_CORE", Resource::Core),
        work: place(roots, &folders.work),
        temporary: place(roots, &folders.temporary),
        sandbox: roots.call("landlock_create_ruleset", || Ok(crate::probe::sandbox::read())),
        git: match &folders.git {
            Some(git) if roots.is_here => repository(git),
            _ => Field::unavailable(".git", "looked at only by `apm doctor agents`, inside a repository"),
        },
        missing: Field::unavailable("tools", "looked for only by `apm doctor agents`"),
    }
}

fn place(roots: &Roots, folder: &Path) -> Field<Place> {
    if folder.as_os_str().is_empty() {
        return Field::default();
    }
    roots.call(&format!("statvfs {}", folder.display()), || {
        let (space, is_in_memory) = limits::space(folder)?;
        Ok(Place { space, is_in_memory })
    })
}

fn repository(git: &Path) -> Field<Git> {
    let read = || -> io::Result<Git> {
        let age = |path: PathBuf| {
            let modified = std::fs::metadata(path).ok()?.modified().ok()?;
            Some(SystemTime::now().duration_since(modified).unwrap_or_default().as_secs())
        };
        let config = beneath::read_text(&git.join("config"), FILE_MAX).unwrap_or_default().to_ascii_lowercase();
        let on = |key: &str| {
            let value =
                |line: &str| Some(line.trim().strip_prefix(key)?.trim_start().strip_prefix('=')?.trim().to_owned());
            config.lines().filter_map(value).any(|value| value != "false")
        };
        Ok(Git {
            lock_age_s: age(git.join("index.lock")),
            prunable: prunable(git),
            is_shallow: git.join("shallow").exists(),
            loose: std::fs::read_dir(git.join("objects/17")).map_or(0, |folder| folder.count() as u64 * 256),
            files: index_entries(&git.join("index")),
            is_watched: on("fsmonitor") || on("untrackedcache"),
        })
    };
    read().map_or_else(|error| Field::unavailable(git.display().to_string(), say(&error)), Field::Known)
}

/// Worktrees whose `.git` file is gone.
fn prunable(git: &Path) -> u32 {
    let Ok(entries) = std::fs::read_dir(git.join("worktrees")) else { return 0 };
    let gone = |entry: &std::fs::DirEntry| {
        let link = beneath::read_text(&entry.path().join("gitdir"), FILE_MAX).unwrap_or_default();
        !link.trim().is_empty() && !Path::new(link.trim()).exists() && !entry.path().join("locked").exists()
    };
    entries.flatten().filter(gone).count() as u32
}

/// The number in the head of an index: `DIRC`, version, entries.
fn index_entries(path: &Path) -> u64 {
    let mut head = [0u8; 12];
    let read = beneath::regular(path).and_then(|mut file| io::Read::read_exact(&mut file, &mut head));
    match (read, &head[..4], &head[8..]) {
        (Ok(()), b"DIRC", [a, b, c, d]) => u64::from(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => 0,
    }
}

/// Reads the size of the machine.
pub(crate) fn hardware(roots: &Roots) -> Hardware {
    let top =
        number(&roots.sys.join("devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")).map(|khz| khz as f64 / 1000.0);
    Hardware {
        mhz: match top {
            Some(mhz) => Field::Known(mhz),
            // A virtual machine has no cpufreq; what it says here is what it runs at.
            None => field(&roots.proc.join("cpuinfo"), |text| {
                let speeds = text.lines().filter(|line| line.starts_with("cpu MHz"));
                speeds.filter_map(|line| line.split_once(':')?.1.trim().parse::<f64>().ok()).reduce(f64::max)
            }),
        },
        drives: drives(&roots.sys.join("block")),
        links: links(&roots.sys.join("class/net")),
    }
}

fn drives(folder: &Path) -> Field<Vec<Drive>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return Field::unavailable(folder.display().to_string(), say(&error)),
    };
    let drive = |entry: std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        if ["loop", "ram", "zram", "dm-", "md", "sr", "fd"].iter().any(|kind| name.starts_with(kind)) {
            return None;
        }
        let bytes = number(&entry.path().join("size"))?.checked_mul(512).filter(|bytes| *bytes > 0)?;
        let kind = match number(&entry.path().join("queue/rotational")) {
            _ if name.starts_with("nvme") => "nvme",
            // Whatever they say of themselves, what is behind them decides.
            _ if name.starts_with("vd") || name.starts_with("xvd") => "virtual",
            Some(0) => "ssd",
            _ => "hdd",
        };
        Some(Drive { name, bytes, kind: kind.to_owned() })
    };
    let mut drives: Vec<Drive> = entries.flatten().filter_map(drive).collect();
    drives.sort_by(|a, b| a.name.cmp(&b.name));
    Field::Known(drives)
}

fn links(folder: &Path) -> Field<Vec<(String, Option<u64>)>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return Field::unavailable(folder.display().to_string(), say(&error)),
    };
    let link = |entry: std::fs::DirEntry| {
        // What is only software has no device.
        entry.path().join("device").exists().then(|| {
            let speed = number(&entry.path().join("speed")).filter(|speed| *speed > 0);
            (entry.file_name().to_string_lossy().into_owned(), speed)
        })
    };
    let mut links: Vec<_> = entries.flatten().filter_map(link).collect();
    links.sort();
    Field::Known(links)
}
