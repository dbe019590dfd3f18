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
        uid,
        kmsg: Field::default(),
        uptime: field(&roots.proc.join("uptime"), |text| text.split_ascii_whitespace().next()?.parse().ok()),
        files: field(&roots.proc.join("sys/fs/file-nr"), |text| {
            let mut words = text.split_ascii_whitespace().map(|word| word.parse::<u64>().ok());
            Some((words.next()??, words.nth(1)??))
        }),
    }
}
