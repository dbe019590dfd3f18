//! In which kind of container apm is, if in any, and whether the kernel runs on a hypervisor.
//!
//! A file such as /.dockerenv alone proves nothing: it is also in virtual machines whose disk was made from an image.
//! Where the kernel lets its first namespaces be seen, they decide.

use std::path::Path;

use crate::probe::{Roots, open, read_text};

/// Numbers of the kernel's first namespaces: fixed in include/linux/proc_ns.h (`PROC_*_INIT_INO`).
const FIRST: &[(&str, &str)] = &[
    ("pid", "pid:[4026531836]"),
    ("uts", "uts:[4026531838]"),
    ("ipc", "ipc:[4026531839]"),
    ("cgroup", "cgroup:[4026531835]"),
];
/// Bytes of /proc/cpuinfo that hold the flags of the first CPU.
const FLAGS: usize = 8192;

/// The kind of container; absent on a host.
pub(crate) fn kind(roots: &Roots) -> Option<String> {
    let is_first = |(name, first): &(&str, &str)| {
        let link = std::fs::read_link(roots.proc.join("self/ns").join(name)).ok()?;
        Some(link == Path::new(first))
    };
    let spaces: Vec<bool> = FIRST.iter().filter_map(is_first).collect();
    if spaces.len() == FIRST.len() && spaces.iter().all(|is_first| *is_first) {
        return None;
    }
    let root = roots.proc.parent().unwrap_or(&roots.proc);
    let read = |path: &Path| read_text(path).unwrap_or_default();
    let named = || {
        // systemd and podman say it themselves.
        let word = read(&root.join("run/systemd/container"));
        let word = word.trim();
        let is_word =
            !word.is_empty() && word.len() < 30 && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        is_word.then(|| word.to_owned())
    };
    let by_file = || {
        let files = [("run/.containerenv", "podman"), (".dockerenv", "docker"), ("dev/lxd", "lxc")];
        files.iter().find(|(file, _)| root.join(file).exists()).map(|(_, kind)| (*kind).to_owned())
    };
    let by_text = || {
        let text = read(&roots.proc.join("1/cgroup")) + &read(&roots.proc.join("self/mountinfo"));
        traces(&text)
    };
    // One that left no trace still has its own process numbers.
    named()
        .or_else(by_file)
        .or_else(by_text)
        .or_else(|| (spaces.first() == Some(&false)).then(|| "container".to_owned()))
}

/// What the names of control groups and of the layers below the root file system tell.
fn traces(text: &str) -> Option<String> {
    const TRACES: &[(&str, &str)] = &[
        ("/kubepods", "kubernetes"),
        ("/var/lib/docker/", "docker"),
        ("/docker/", "docker"),
        ("docker-", "docker"),
        ("/containers/storage/", "podman"),
        ("libpod-", "podman"),
        ("io.containerd.", "containerd"),
        ("/lxc.payload", "lxc"),
        ("/lxc/", "lxc"),
        ("lxcfs", "lxc"),
        ("machine.slice/machine-", "systemd-nspawn"),
    ];
    // A host sees the layers of its containers below other mount points than its own root.
    let is_own = |line: &&str| {
        let mut words = line.split_ascii_whitespace();
        let point = words.nth(4);
        point.is_none() || point == Some("/") || line.contains("lxcfs")
    };
    let own: Vec<&str> = text.lines().filter(is_own).collect();
    TRACES.iter().find(|(trace, _)| own.iter().any(|line| line.contains(trace))).map(|(_, kind)| (*kind).to_owned())
}

/// The kernel runs on a hypervisor. x86 says so among the flags of its CPUs; others by what the clock is read from or
/// by who made the board.
pub(crate) fn is_virtual(roots: &Roots) -> Option<bool> {
    let mut text = vec![0; FLAGS];
    let read = open(&roots.proc.join("cpuinfo"))
        .and_then(|mut file| std::io::Read::read(&mut file, &mut text))
        .unwrap_or_default();
    let text = String::from_utf8_lossy(&text[..read]);
    if let Some(flags) = text.lines().find(|line| line.starts_with("flags")) {
        return Some(flags.split_ascii_whitespace().any(|flag| flag == "hypervisor"));
    }
    let vendor = read_text(roots.sys.join("class/dmi/id/sys_vendor")).ok()?;
    let makers = ["QEMU", "KVM", "VMware", "Xen", "Amazon EC2", "Google", "Microsoft", "innotek", "OpenStack"];
    Some(makers.iter().any(|maker| vendor.contains(maker)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{is_virtual, kind, traces};
    use crate::probe::Roots;

    struct Host(std::path::PathBuf);

    impl Host {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("apm-container-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&root);
            std::fs::create_dir_all(root.join("proc/self/ns")).expect("folders");
            Self(root)
        }

        fn file(&self, path: &str, text: &str) -> &Self {
            let path = self.0.join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            std::fs::write(path, text).expect("written");
            self
        }

        fn spaces(&self, pid: &str) -> &Self {
            let rest = [("uts", "uts:[4026531838]"), ("ipc", "ipc:[4026531839]"), ("cgroup", "cgroup:[4026531835]")];
            for (name, target) in rest.iter().chain([&("pid", pid)]) {
                std::os::unix::fs::symlink(target, self.0.join("proc/self/ns").join(name)).expect("a link");
            }
            self
        }

        fn kind(&self) -> Option<String> {
            kind(&Roots::below(&self.0))
        }
    }

    impl Drop for Host {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn files_and_namespaces_tell_the_kind() {
        assert_eq!(Host::new("bare").kind(), None);
        assert_eq!(Host::new("docker").file(".dockerenv", "").kind().as_deref(), Some("docker"));
        assert_eq!(Host::new("podman").file("run/.containerenv", "").kind().as_deref(), Some("podman"));
        let nspawn = Host::new("nspawn");
        assert_eq!(nspawn.file("run/systemd/container", "systemd-nspawn\n").kind().as_deref(), Some("systemd-nspawn"));
        assert_eq!(Host::new("unshared").spaces("pid:[4026532201]").kind().as_deref(), Some("container"));
        // The disk of a virtual machine made from an image.
        assert_eq!(Host::new("image").file(".dockerenv", "").spaces("pid:[4026531836]").kind(), None);
    }

    #[test]
    fn names_of_groups_and_layers_tell_it_too() {
        let kubernetes = "0::/kubepods.slice/kubepods-besteffort.slice/cri-containerd-3f2a.scope\n";
        assert_eq!(traces(kubernetes).as_deref(), Some("kubernetes"));
        let root =
            "612 530 0:51 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/ABC,upperdir=x\n";
        assert_eq!(traces(root).as_deref(), Some("docker"));
        // The host of that container.
        let host =
            "612 30 0:51 / /var/lib/docker/overlay2/abc/merged rw - overlay overlay rw,lowerdir=/var/lib/docker/x\n";
        assert_eq!(traces(host), None);
        assert_eq!(traces("0::/user.slice/user-1000.slice/session-2.scope\n"), None);
    }

    #[test]
    fn the_flag_of_the_cpu_tells_a_virtual_machine() {
        let host = Host::new("virtual");
        assert_eq!(is_virtual(&Roots::below(&host.0)), None);
        host.file("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu vme de pse tsc hypervisor lahf_lm\n");
        assert_eq!(is_virtual(&Roots::below(&host.0)), Some(true));
        host.file("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu vme de pse tsc lahf_lm\n");
        assert_eq!(is_virtual(&Roots::below(&host.0)), Some(false));
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in any::<String>()) {
            let _ = traces(&text);
        }
    }
}
