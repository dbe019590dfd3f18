//! Mounts: which one a device has, and their names in commands.

use crate::doctor::rule::RuleContext;
use crate::model::snapshot::disk::Mount;

/// `/` of `/dev/vda`: the mount with the shortest name of a file system on a device.
pub(super) fn mount_of<'a>(context: &RuleContext<'a>, numbers: &[String]) -> Option<&'a Mount> {
    let mounts = context.now().disk.mounts.known().into_iter().flatten();
    mounts.filter(|mount| numbers.contains(&mount.device)).min_by_key(|mount| mount.point.len())
}

/// Characters that a shell leaves alone within single quotes and a terminal shows as they are. Names of mounts and groups
/// are chosen by others: with any other character there is no command.
pub(super) fn quoted(path: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:=,".contains(c);
    let starts_well = path.starts_with('/');
    if starts_well && path.chars().all(is_plain) {
        Some(path.to_owned())
    } else if starts_well && path.chars().all(|c| is_plain(c) || c == ' ') {
        Some(format!("'{path}'"))
    } else {
        None
    }
}

/// Mounts for the tests.
#[cfg(test)]
pub(crate) mod example {
    use crate::model::snapshot::disk::{Mount, Space};
    use crate::model::snapshot::{Field, Window};

    pub(crate) const GIB: u64 = 1 << 30;

    /// A writable file system with plenty of inodes.
    pub(crate) fn mount(point: &str, kind: &str, device: &str, bytes: u64, available: u64) -> Mount {
        Mount {
            point: point.to_owned(),
            root: "/".to_owned(),
            kind: kind.to_owned(),
            source: format!("/dev/{}", device.replace(':', "-")),
            device: device.to_owned(),
            options: vec!["rw".to_owned(), "relatime".to_owned()],
            super_options: vec!["rw".to_owned()],
            space: Field::Known(Space { bytes, available, inodes: 1_000_000, inodes_available: 900_000 }),
            ..Mount::default()
        }
    }

    /// The same before and after, two seconds apart.
    pub(crate) fn window(mounts: Vec<Mount>) -> Window {
        let mut window = Window::default();
        window.from.disk.mounts = Field::Known(mounts.clone());
        window.to.disk.mounts = Field::Known(mounts);
        window.to.at_us = 2_000_000;
        window
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn names_that_a_shell_could_misread_are_in_no_command() {
        assert_eq!(quoted("/mnt/data-1").as_deref(), Some("/mnt/data-1"));
        assert_eq!(quoted("/mnt/my disk").as_deref(), Some("'/mnt/my disk'"));
        for hostile in ["/a'; rm -rf /", "/a$(id)", "-rf", "", "/a\nb", "/a\u{1b}[1m", "/a`b`"] {
            assert_eq!(quoted(hostile), None, "{hostile}");
        }
    }
}
