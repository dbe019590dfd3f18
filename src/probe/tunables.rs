//! Settings as they are, and as the files of the system set them. The order of sysctl.d is that of sysctl.d(5): files by
//! name, whatever folder they are in; one in /etc hides one of the same name in /run and /usr; /etc/sysctl.conf is last.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::model::snapshot::Field;
use crate::model::snapshot::tunables::{Limits, Line, Tunables, Value};
use crate::probe::{Roots, open, read_bytes, read_dir, read_text, say};
use crate::sys::file_system::{can_be_written, is_of_kernel};

/// Folders of sysctl.d below the root, the first wins.
const SYSCTL_D: &[&str] =
    &["etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d"];
/// Folders of system.conf.d below the root, the first wins.
const MANAGER_D: &[&str] = &[
    "etc/systemd/system.conf.d",
    "run/systemd/system.conf.d",
    "usr/local/lib/systemd/system.conf.d",
    "usr/lib/systemd/system.conf.d",
    "lib/systemd/system.conf.d",
];
/// Longest value and file of settings that is read.
const TEXT_MAX: usize = 64 << 10;
/// Files of a folder that are read.
const FILES_MAX: usize = 500;

/// Reads the settings of /proc/sys of these names, and those of /sys.
pub(crate) fn read(roots: &Roots, sysctls: &[&str]) -> Tunables {
    let root = roots.proc.parent().unwrap_or(&roots.proc).to_owned();
    let mut values = BTreeMap::new();
    for key in sysctls {
        values.insert((*key).to_owned(), value(&root, &roots.proc.join("sys").join(sysctl(key))));
    }
    for (key, path) in files_of_sys(roots) {
        values.insert(key, value(&root, &path));
    }
    let swaps = read_text(roots.proc.join("swaps")).unwrap_or_default();
    let neighbours = read_text(roots.proc.join("net/arp")).unwrap_or_default();
    let nodes = read_dir(roots.sys.join("devices/system/node")).into_iter().flatten().flatten();
    let is_node = |name: &str| name.strip_prefix("node").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    let first = read_text(roots.proc.join("1/comm")).ok();
    let mut files = Files { root: &root, unreadable: Vec::new() };
    Tunables {
        values,
        lines: files.sysctl(),
        limits: files.limits(),
        manager: files.manager(),
        unreadable: files.unreadable,
        first: first.map(|name| one_line(&name)),
        limits_of_first: limits(&read_text(roots.proc.join("1/limits")).unwrap_or_default()),
        swaps: swaps
            .lines()
            .skip(1)
            .filter_map(|line| Some(line.split_ascii_whitespace().next()?.to_owned()))
            .collect(),
        nodes: nodes.filter(|entry| is_node(&entry.file_name().to_string_lossy())).count() as u32,
        neighbours: neighbours.lines().skip(1).count() as u64,
        has_systemd: ["usr/lib/systemd/systemd", "lib/systemd/systemd"].iter().any(|path| root.join(path).exists()),
    }
}

/// Reads one setting of /proc/sys whose key comes from a file of others: no key leads out of that folder.
pub(crate) fn look_up(roots: &Roots, key: &str) -> Option<Value> {
    let is_path = key.contains('.') && sysctl(key).split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !is_path || ["sys.", "pam.", "env.", "run.", "systemd."].iter().any(|start| key.starts_with(start)) {
        return None;
    }
    let root = roots.proc.parent().unwrap_or(&roots.proc).to_owned();
    Some(value(&root, &roots.proc.join("sys").join(sysctl(key))))
}

/// The file of a setting, as the machine itself names it. One value for all CPUs has the file of the first.
pub(crate) fn file_of(key: &str) -> Option<String> {
    let Some(_) = key.strip_prefix("sys.") else { return Some(format!("/proc/sys/{}", sysctl(key))) };
    SYS.iter().find_map(|(pattern, file)| match pattern.split_once('*') {
        Some((start, end)) => {
            let disk = key.strip_prefix(start)?.strip_suffix(end)?;
            Some(format!("/sys/{}", file.replace('*', disk)))
        }
        None => (*pattern == key).then(|| format!("/sys/{file}")),
    })
}

/// The file of a sysctl below /proc/sys. A dot in a name of an interface is a slash in the key.
fn sysctl(key: &str) -> String {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    key.chars().map(swap).collect()
}

/// What is tuned in /sys, by its key; `*` is a disk.
const SYS: &[(&str, &str)] = &[
    ("sys.thp.enabled", "kernel/mm/transparent_hugepage/enabled"),
    ("sys.thp.defrag", "kernel/mm/transparent_hugepage/defrag"),
    ("sys.cpu.governor", "devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    ("sys.cpu.energy_preference", "devices/system/cpu/cpu0/cpufreq/energy_performance_preference"),
    ("sys.block.*.scheduler", "block/*/queue/scheduler"),
    ("sys.block.*.read_ahead_kb", "block/*/queue/read_ahead_kb"),
    ("sys.block.*.nr_requests", "block/*/queue/nr_requests"),
    ("sys.block.*.wbt_lat_usec", "block/*/queue/wbt_lat_usec"),
];

/// Keys and files of what is tuned in /sys.
fn files_of_sys(roots: &Roots) -> Vec<(String, PathBuf)> {
    let disks = read_dir(roots.sys.join("block")).into_iter().flatten().flatten();
    let disks: Vec<String> = disks.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let each = |(key, file): &(&str, &str)| {
        let of = |name: &str| (key.replace('*', name), roots.sys.join(file.replace('*', name)));
        if key.contains('*') { disks.iter().map(|disk| of(disk)).collect() } else { vec![of("")] }
    };
    SYS.iter().flat_map(each).filter(|(_, path)| path.exists()).collect()
}

/// A path as the machine itself names it.
fn shown(root: &Path, path: &Path) -> String {
    Path::new("/").join(path.strip_prefix(root).unwrap_or(path)).display().to_string()
}

fn value(root: &Path, path: &Path) -> Value {
    let read = open(path).and_then(|file| {
        let (mode, mut text) = (file.metadata()?.permissions().mode(), Vec::new());
        // Only what is a file of the kernel: a copy of one, below the folder of another machine, is written elsewhere.
        let is_refused = is_of_kernel(&file) && !can_be_written(path);
        file.take(TEXT_MAX as u64 + 1).read_to_end(&mut text)?;
        Ok((mode & 0o222 != 0 && !is_refused, text))
    });
    let (is_writable, text) = match read {
        Ok((is_writable, text)) if text.len() <= TEXT_MAX => {
            (is_writable, Field::Known(chosen(&one_line(&String::from_utf8_lossy(&text)))))
        }
        Ok((is_writable, _)) => (is_writable, Field::unavailable(path.display().to_string(), "not understood")),
        Err(error) => {
            let mode = std::fs::metadata(path).map_or(0, |data| data.permissions().mode());
            (mode & 0o222 != 0, Field::unavailable(path.display().to_string(), say(&error)))
        }
    };
    Value { path: path.display().to_string(), shown: shown(root, path), text, is_writable }
}

/// What is chosen among `a [b] c`; everything where nothing is.
pub(crate) fn chosen(text: &str) -> String {
    let inside = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or_else(|| text.to_owned(), |(chosen, _)| chosen.to_owned())
}

/// Blanks single, no control characters.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).collect()
}

/// Limits as /proc/PID/limits has them.
fn limits(text: &str) -> Limits {
    let of = |name: &str| {
        let mut words = text.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace();
        let mut next = || match words.next()? {
            "unlimited" => Some(u64::MAX),
            word => word.parse().ok(),
        };
        Some((next()?, next()?))
    };
    Limits { files: of("Max open files "), processes: of("Max processes ").map(|(_, hard)| hard) }
}

/// The files that set something, and those of them that could not be read.
struct Files<'a> {
    root: &'a Path,
    unreadable: Vec<String>,
}

impl Files<'_> {
    fn sysctl(&mut self) -> Vec<Line> {
        let mut files = self.by_name(SYSCTL_D);
        let last = self.root.join("etc/sysctl.conf");
        // Debian has a link to it in sysctl.d, where it counts once, at the end.
        let real = std::fs::canonicalize(&last).ok();
        let is_last = |path: &PathBuf| real.is_some() && std::fs::canonicalize(path).ok() == real;
        files.retain(|path| !is_last(path));
        files.push(last);
        files.iter().flat_map(|path| self.lines(path, sysctl_line)).collect()
    }

    fn limits(&mut self) -> Vec<Line> {
        let mut files = vec![self.root.join("etc/security/limits.conf")];
        files.extend(self.in_folder(&self.root.join("etc/security/limits.d")));
        files.iter().flat_map(|path| self.lines(path, limits_line)).collect()
    }

    fn manager(&mut self) -> Vec<Line> {
        let mut files = vec![self.root.join("etc/systemd/system.conf")];
        files.extend(self.by_name(MANAGER_D));
        files.iter().flat_map(|path| self.lines(path, sysctl_line)).collect()
    }

    /// Files by name, whatever folder they are in; the first folder of a name wins.
    fn by_name(&mut self, folders: &[&str]) -> Vec<PathBuf> {
        let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
        for folder in folders {
            for path in self.in_folder(&self.root.join(folder)) {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                files.entry(name).or_insert(path);
            }
        }
        files.into_values().collect()
    }

    fn in_folder(&mut self, folder: &Path) -> Vec<PathBuf> {
        let entries = match read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                self.refused(folder, &error);
                return Vec::new();
            }
        };
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|ending| ending == "conf"));
        files.sort();
        files.truncate(FILES_MAX);
        files
    }

    fn lines(&mut self, path: &Path, parse: fn(&str) -> Option<(String, String)>) -> Vec<Line> {
        let text = read_bytes(path).unwrap_or_else(|error| {
            // How a file of settings is masked.
            if std::fs::read_link(path).ok().as_deref() != Some(Path::new("/dev/null")) {
                self.refused(path, &error);
            }
            Vec::new()
        });
        let text = String::from_utf8_lossy(&text[..text.len().min(TEXT_MAX)]);
        let line = |(key, value)| Line { file: shown(self.root, path), key, value };
        text.lines().filter_map(parse).map(line).collect()
    }

    fn refused(&mut self, path: &Path, error: &std::io::Error) {
        if error.kind() != std::io::ErrorKind::NotFound {
            self.unreadable.push(format!("{}: {}", shown(self.root, path), say(error)));
        }
    }
}

/// `[-]KEY = VALUE`. A key whose first separator is a slash has slashes throughout.
pub(crate) fn sysctl_line(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return None;
    }
    let (key, value) = line.split_once('=')?;
    let key = key.trim().trim_start_matches('-').trim();
    let has_slashes = key.find(['.', '/']).is_some_and(|at| key.as_bytes()[at] == b'/');
    let swap = |c| match c {
        '/' => '.',
        '.' => '/',
        c => c,
    };
    let key = if has_slashes { key.chars().map(swap).collect() } else { key.to_owned() };
    (!key.is_empty()).then(|| (key, one_line(value)))
}

/// `DOMAIN TYPE ITEM VALUE`, with the key `DOMAIN.TYPE.ITEM`. A `-` as type is both.
fn limits_line(line: &str) -> Option<(String, String)> {
    let line = line.split('#').next()?;
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [domain, kind, item, value] = words.as_slice() else { return None };
    Some((format!("{domain}.{kind}.{item}"), (*value).to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{chosen, limits, limits_line, read, sysctl_line};
    use crate::model::snapshot::tunables::Limits;
    use crate::probe::Roots;

    #[test]
    fn the_order_of_files_is_that_of_sysctl_d() {
        let root = std::env::temp_dir().join(format!("apm-tunables-{}", std::process::id()));
        let files = [
            ("etc/sysctl.d/60-apm.conf", "# why\nvm.swappiness = 100\n"),
            ("etc/sysctl.d/99-mine.conf", "-vm.swappiness=  5\n; no\nnet/ipv4/conf/eth0.1/rp_filter=1\n"),
            ("usr/lib/sysctl.d/99-mine.conf", "vm.swappiness = 1\n"),
            ("usr/lib/sysctl.d/50-pid-max.conf", "kernel.pid_max = 4194304\n"),
            ("etc/sysctl.conf", "vm.overcommit_memory = 1\n"),
            ("etc/security/limits.d/60-x.conf", "*  hard  nofile 524288 # why\nbroken line\n"),
            ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t33554432\n"),
            ("proc/sys/kernel/core_pattern", "core\n"),
            ("sys/block/sda/queue/scheduler", "none [mq-deadline] kyber\n"),
            ("etc/systemd/system.conf", "[Manager]\n#DefaultTasksMax=15%\nDefaultTasksMax=60000\n"),
            ("usr/lib/systemd/system.conf.d/50-x.conf", "[Manager]\nDefaultTasksMax=infinity\n"),
            (
                "proc/1/limits",
                "Limit  Soft Limit  Hard Limit  Units\nMax processes  96365  96365  processes\nMax open files  1024  unlimited  files\n",
            ),
            ("proc/1/comm", "systemd\n"),
            ("proc/swaps", "Filename\tType\n/dev/zram0 partition 1 2 3\n"),
        ];
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
            std::fs::write(path, text).expect("written");
        }
        std::os::unix::fs::symlink("../sysctl.conf", root.join("etc/sysctl.d/99-a.conf")).expect("a link");
        let found = read(&Roots::below(&root), &["net.ipv4.tcp_rmem", "vm.none"]);
        std::fs::remove_dir_all(&root).expect("gone");
        let lines: Vec<(&str, &str)> =
            found.lines.iter().map(|line| (line.key.as_str(), line.value.as_str())).collect();
        let expected = [
            ("kernel.pid_max", "4194304"),
            ("vm.swappiness", "100"),
            ("vm.swappiness", "5"),
            ("net.ipv4.conf.eth0/1.rp_filter", "1"),
            ("vm.overcommit_memory", "1"),
        ];
        assert_eq!(lines, expected);
        assert_eq!(found.limits[0].key, "*.hard.nofile");
        assert_eq!((found.limits.len(), found.swaps.len()), (1, 1));
        let manager: Vec<&str> = found.manager.iter().map(|line| line.value.as_str()).collect();
        assert_eq!((manager, found.first.as_deref()), (vec!["60000", "infinity"], Some("systemd")));
        assert_eq!(found.limits_of_first, Limits { files: Some((1024, u64::MAX)), processes: Some(96_365) });
        assert_eq!(found.unreadable, [] as [&str; 0]);
        assert_eq!(found.text("net.ipv4.tcp_rmem"), Some("4096 131072 33554432"));
        assert_eq!(found.text("sys.block.sda.scheduler"), Some("mq-deadline"));
        assert_eq!(found.text("vm.none"), None);
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in any::<String>()) {
            let _ = (sysctl_line(&text), limits_line(&text), chosen(&text), limits(&text));
        }
    }
}
