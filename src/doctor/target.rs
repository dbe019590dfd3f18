//! Which processes a remedy may name in a command that ends, stops or slows them down: none that the user or the machine
//! needs. A wrong no costs a line of advice, a wrong yes a session or a database.

use crate::model::snapshot::Window;
use crate::model::snapshot::process::Process;

/// The parent of the threads of the kernel.
const KERNEL: i32 = 2;
/// Generations of ancestors that are followed.
const GENERATIONS_MAX: usize = 32;

/// Shells: ending one ends the session, and what is set on one holds for all that it starts later.
const SHELLS: &[&str] = &[
    "ash", "bash", "csh", "dash", "elvish", "fish", "ksh", "mksh", "nu", "pwsh", "rbash", "sh", "tcsh", "xonsh",
    "yash", "zsh",
];

/// Programs whose end ends a session, a container, a virtual machine, or what others on the machine or elsewhere use.
const NEEDED: &[&str] = &[
    "X",
    "apache2",
    "at-spi2-registr",
    "atd",
    "auditd",
    "caddy",
    "catatonit",
    "chronyd",
    "connmand",
    "cron",
    "crond",
    "dhclient",
    "dhcpcd",
    "dmeventd",
    "dnsmasq",
    "doas",
    "dumb-init",
    "envoy",
    "haproxy",
    "httpd",
    "init",
    "iscsid",
    "iwd",
    "irqbalance",
    "keepalived",
    "ksmserver",
    "libvirtd",
    "lightdm",
    "login",
    "multipathd",
    "named",
    "nginx",
    "nscd",
    "ntpd",
    "pipewire",
    "polkitd",
    "pulseaudio",
    "qemu-ga",
    "rngd",
    "rpcbind",
    "rsyslogd",
    "runit",
    "runsv",
    "runsvdir",
    "sddm",
    "slapd",
    "snapd",
    "squid",
    "su",
    "sudo",
    "supervisord",
    "sway",
    "syslog-ng",
    "tini",
    "tmux",
    "traefik",
    "unbound",
    "upowerd",
    "waagent",
    "watchdog",
    "weston",
    "wireplumber",
    "wpa_supplicant",
    "zed",
    "zellij",
];

/// The same by the start of their names: families, and names that the kernel cuts off after 15 bytes.
const NEEDED_STARTS: &[&str] = &[
    "(sd-pam)",
    "Hyprland",
    "NetworkManager",
    "ModemManager",
    "SCREEN",
    "VBox",
    "Xorg",
    "Xwayland",
    "agetty",
    "amazon-ssm",
    "beam.smp",
    "ceph-",
    "cinnamon",
    "clickhouse",
    "cloud-hyp",
    "cockroach",
    "conmon",
    "containerd",
    "corosync",
    "couchdb",
    "crio",
    "crun",
    "dbus-",
    "docker",
    "etcd",
    "firecracker",
    "gdm",
    "getty",
    "gluster",
    "gnome-se",
    "gnome-sh",
    "google_",
    "grafana",
    "incus",
    "influxd",
    "k0s",
    "k3s",
    "kubelet",
    "kube-",
    "kwin",
    "lxc",
    "lxd",
    "mariadb",
    "memcached",
    "mongo",
    "mosh-server",
    "mutter",
    "mysqld",
    "nfsd",
    "nmbd",
    "node_exporter",
    "ora_",
    "pacemaker",
    "plasmashell",
    "podman",
    "postgres",
    "postmaster",
    "prometheus",
    "qemu-kvm",
    "qemu-system",
    "rabbitmq",
    "redis",
    "rpc.",
    "runc",
    "s6-",
    "screen",
    "smbd",
    "sqlservr",
    "sshd",
    "sssd",
    "startplasma",
    "systemd",
    "tikv",
    "tmux:",
    "udevd",
    "valkey",
    "virt",
    "vmtoolsd",
    "winbindd",
    "xfce4-session",
    "xfwm4",
];

/// Starts of the names of those that keep programs running: what leads a session below one is a service or a container.
const KEEPERS: &[&str] = &[
    "catatonit",
    "conmon",
    "containerd",
    "crio",
    "docker",
    "dumb-init",
    "podman",
    "runsv",
    "s6-",
    "supervisord",
    "systemd",
    "tini",
];

/// Whether a command may end, stop or slow down this process.
pub(crate) fn may_be_interrupted(window: &Window, pid: i32) -> bool {
    let processes = window.to.processes.known().map_or(&[][..], Vec::as_slice);
    let Some(process) = find(processes, pid) else { return false };
    let is_of_kernel = pid == KERNEL || process.parent == KERNEL;
    let has_ended = matches!(process.state, 'Z' | 'X');
    pid > 1
        && !is_of_kernel
        && !has_ended
        && !is_needed(processes, process)
        && !started(processes, window.observer, pid)
}

fn find(processes: &[Process], pid: i32) -> Option<&Process> {
    processes.iter().find(|process| process.pid == pid)
}

/// The shell or the job that apm was started from.
fn started(processes: &[Process], observer: i32, pid: i32) -> bool {
    let parent = |pid: &i32| find(processes, *pid).map(|process| process.parent).filter(|parent| *parent > 1);
    std::iter::successors(Some(observer), parent).take(GENERATIONS_MAX).any(|ancestor| ancestor == pid)
}

fn is_needed(processes: &[Process], process: &Process) -> bool {
    let is_kept = |parent: &Process| KEEPERS.iter().any(|start| parent.name.starts_with(start));
    let is_service = process.parent == 1 || find(processes, process.parent).is_some_and(is_kept);
    if process.session == process.pid && (process.has_terminal || is_service) {
        return true;
    }
    if is_needed_by_name(&process.name) {
        return true;
    }
    // A worker of a daemon: `nginx` of `nginx`, `gunicorn` of `gunicorn`.
    let parent = find(processes, process.parent).filter(|parent| parent.pid > 1 && parent.name == process.name);
    parent.is_some_and(|parent| parent.session == parent.pid && parent.parent == 1)
}

pub(crate) fn is_needed_by_name(name: &str) -> bool {
    // A login shell, as some rename themselves.
    let plain = name.strip_prefix('-').unwrap_or(name);
    SHELLS.contains(&plain) || NEEDED.contains(&name) || NEEDED_STARTS.iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::{is_needed_by_name, may_be_interrupted};
    use crate::model::snapshot::process::Process;
    use crate::model::snapshot::{Field, Window};

    fn process(pid: i32, parent: i32, session: i32, name: &str) -> Process {
        Process { pid, parent, session, name: name.to_owned(), state: 'S', ..Process::default() }
    }

    #[test]
    fn what_others_need_is_never_ended() {
        let mut window = Window { observer: 50, ..Window::default() };
        window.to.processes = Field::Known(vec![
            process(1, 0, 1, "python3"),
            process(2, 0, 0, "kthreadd"),
            process(3, 2, 0, "kswapd0"),
            process(10, 1, 10, "sshd"),
            process(11, 10, 11, "sshd-session"),
            Process { has_terminal: true, ..process(20, 11, 20, "psql") },
            Process { has_terminal: true, ..process(21, 20, 20, "rustc") },
            process(30, 1, 30, "my-server"),
            process(31, 30, 30, "my-server"),
            process(32, 30, 30, "convert"),
            process(33, 1, 33, "containerd-shim"),
            process(34, 33, 34, "java"),
            process(40, 20, 20, "ci-job"),
            process(50, 40, 20, "apm"),
            Process { state: 'Z', ..process(60, 40, 20, "node") },
            process(61, 40, 20, "node"),
            // Saved by an apm that did not read sessions.
            process(62, 1, 0, "node"),
        ]);
        let ended: Vec<i32> = (0..70).filter(|pid| may_be_interrupted(&window, *pid)).collect();
        assert_eq!(ended, [21, 32, 61, 62]);
    }

    #[test]
    fn names_are_known_as_the_kernel_cuts_them_off() {
        for name in
            ["bash", "-bash", "systemd-journal", "dbus-daemon", "containerd-shim", "postgres", "qemu-system-x86"]
        {
            assert!(is_needed_by_name(name), "{name}");
        }
        for name in ["cc1plus", "python3", "sha256sum", "shm", "sshfs", "xargs"] {
            assert!(!is_needed_by_name(name), "{name}");
        }
    }
}
