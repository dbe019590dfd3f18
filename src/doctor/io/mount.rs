//! Mounts: which one a device has, and their names in commands.

use crate::doctor::rule::RuleContext;
use crate::model::snapshot::disk::Mount;

/// `/` of `/dev/vda`: where the file system on a device is mounted.
pub(super) fn mount_of<'a>(context: &RuleContext<'a>, numbers: &[String]) -> Option<&'a Mount> {
    main_mount(context.now().disk.mounts.known().into_iter().flatten().filter(|mount| numbers.contains(&mount.device)))
}

/// Of several mounts of one file system the one that people know it by: `/`, else the first that was mounted whole. Later
/// ones are bind mounts, and those of a folder within it are always.
pub(super) fn main_mount<'a>(mounts: impl Iterator<Item = &'a Mount>) -> Option<&'a Mount> {
    // mountinfo has them in the order in which they were mounted.
    mounts.enumerate().min_by_key(|(at, mount)| (mount.point != "/", mount.root != "/", *at)).map(|(_, mount)| mount)
}

/// Folders without which nobody can work or log in: what is mounted there is not taken away from a running machine.
const OF_THE_SYSTEM: &[&str] =
    &["/", "/boot", "/efi", "/etc", "/home", "/nix", "/opt", "/root", "/run", "/usr", "/var"];

/// Whether a command may take a mount away: not what the running system stands on.
pub(super) fn may_be_unmounted(point: &str) -> bool {
    !OF_THE_SYSTEM.contains(&point)
        && !["/usr/", "/nix/", "/boot/", "/var/lib"].iter().any(|start| point.starts_with(start))
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
    use super::example::mount;
    use super::{main_mount, may_be_unmounted, quoted};

    #[test]
    fn a_file_system_is_known_by_its_first_whole_mount() {
        let name = |points: &[(&str, &str)]| {
            let all: Vec<_> = points
                .iter()
                .map(|(point, root)| {
                    let mut one = mount(point, "ext4", "7:0", 1, 1);
                    one.root = (*root).to_owned();
                    one
                })
                .collect();
            main_mount(all.iter()).map(|mount| mount.point.clone()).unwrap_or_default()
        };
        // Bind mounts with shorter names, of the whole and of a folder.
        assert_eq!(name(&[("/t/mnt", "/"), ("/t/b1", "/"), ("/b", "/"), ("/c", "/folder")]), "/t/mnt");
        assert_eq!(name(&[("/c", "/folder"), ("/t/mnt", "/")]), "/t/mnt");
        // Subvolumes of btrfs, and files bound into a container.
        assert_eq!(name(&[("/home", "/@home"), ("/", "/@"), ("/mnt/top", "/")]), "/");
        assert_eq!(name(&[("/etc/hosts", "/x/hosts"), ("/etc/hostname", "/x/hostname")]), "/etc/hosts");
    }

    #[test]
    fn what_the_system_stands_on_is_not_unmounted() {
        assert_eq!(["/mnt/a", "/srv", "/home/u/remote", "/data"].map(may_be_unmounted), [true; 4]);
        assert_eq!(["/", "/home", "/usr/local", "/boot/efi", "/var"].map(may_be_unmounted), [false; 5]);
    }

    #[test]
    fn names_that_a_shell_could_misread_are_in_no_command() {
        assert_eq!(quoted("/mnt/data-1").as_deref(), Some("/mnt/data-1"));
        assert_eq!(quoted("/mnt/my disk").as_deref(), Some("'/mnt/my disk'"));
        for hostile in ["/a'; rm -rf /", "/a$(id)", "-rf", "", "/a\nb", "/a\u{1b}[1m", "/a`b`"] {
            assert_eq!(quoted(hostile), None, "{hostile}");
        }
    }
}
