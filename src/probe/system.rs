//! The system: kernel, container, uptime, open files.

use crate::model::snapshot::Field;
use crate::model::snapshot::system::System;
use crate::probe::{Roots, field};

/// Reads it.
pub(crate) fn read(roots: &Roots, uid: u32) -> System {
    let kernel = std::fs::read_to_string(roots.proc.join("sys/kernel/osrelease")).unwrap_or_default();
    System {
        kernel: kernel.trim().to_owned(),
        container: None,
        uid: if roots.is_here { uid } else { uid_of_files(roots) },
        kmsg: Field::default(),
        uptime: field(&roots.proc.join("uptime"), |text| text.split_ascii_whitespace().next()?.parse().ok()),
        files: field(&roots.proc.join("sys/fs/file-nr"), |text| {
            let mut words = text.split_ascii_whitespace().map(|word| word.parse::<u64>().ok());
            Some((words.next()??, words.nth(1)??))
        }),
    }
}

/// Who captured the files.
fn uid_of_files(roots: &Roots) -> u32 {
    let status = std::fs::read_to_string(roots.proc.join("self/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok()).unwrap_or_default()
}
