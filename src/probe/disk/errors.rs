//! Errors that file systems keep: ext4 in its super block until it is checked, btrfs of each of its devices.

use std::path::Path;

use crate::model::snapshot::disk::Errors;
use crate::probe::{Roots, counters, number, read_dir, read_into, words};

/// File systems asked.
const FILE_SYSTEMS_MAX: usize = 256;

/// Those that count errors; one without errors is there with zero.
pub(super) fn read(roots: &Roots) -> Vec<Errors> {
    let now = now(roots);
    let mut all = Vec::new();
    for (name, folder) in entries(&roots.sys.join("fs/ext4")) {
        let path = folder.join("errors_count");
        // `features` is there too and has none.
        let Some(count) = number(&path) else { continue };
        let last = if count > 0 { number(&folder.join("last_error_time")).filter(|last| *last > 0) } else { None };
        all.push(Errors {
            kind: "ext4".to_owned(),
            device: name,
            path: path.display().to_string(),
            count,
            last_s_ago: last.zip(now).map(|(last, now)| now.saturating_sub(last)),
        });
    }
    for (name, folder) in entries(&roots.sys.join("fs/btrfs")) {
        for (device, folder) in entries(&folder.join("devinfo")) {
            let path = folder.join("error_stats");
            let Some(each) = words(&path).as_deref().and_then(counters) else { continue };
            all.push(Errors {
                kind: "btrfs".to_owned(),
                device: format!("{name} device {device}"),
                path: path.display().to_string(),
                count: each.values().fold(0, |sum, count| sum.saturating_add(*count)),
                last_s_ago: None,
            });
        }
    }
    all
}

/// Folders in a folder, in order.
fn entries(folder: &Path) -> Vec<(String, std::path::PathBuf)> {
    let entries = read_dir(folder).into_iter().flatten().flatten().take(FILE_SYSTEMS_MAX);
    let mut all: Vec<_> =
        entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect();
    all.sort();
    all
}

/// Seconds since 1970 by the kernel's own files: those of a captured host tell its time.
fn now(roots: &Roots) -> Option<u64> {
    let mut text = Vec::new();
    read_into(&roots.proc.join("stat"), &mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let boot: u64 = text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let uptime: f64 = words(&roots.proc.join("uptime"))?.split_ascii_whitespace().next()?.parse().ok()?;
    Some(boot.saturating_add(uptime as u64))
}
