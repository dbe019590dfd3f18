//! Where there is next to nothing: no entry for the user, no HOME, a root file system with only apm in it. And nothing in the
//! binary that would load modules of the machine's C library for names of users and hosts.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use object::{Object, ObjectSymbol};

use crate::sandbox::{Ran, Sandbox, has_program, skip};

#[test]
fn nothing_of_the_name_services_is_linked() {
    let bytes = fs::read(env!("CARGO_BIN_EXE_apm")).expect("apm");
    let file = object::File::parse(&*bytes).expect("ELF");
    let names: Vec<&str> = file.symbols().filter_map(|symbol| symbol.name().ok()).collect();
    assert!(names.contains(&"getpwuid_r"), "the symbol table is there");
    let is_bad = |name: &&&str| {
        let plain = name.trim_start_matches('_');
        let begins = ["nss_", "nscd_", "gethostby", "getpwnam", "getpwuid", "getgrnam", "getgrgid", "getservby"];
        begins.iter().any(|start| plain.starts_with(start)) && plain != "getpwuid_r"
            || ["getnameinfo", "initgroups", "getlogin", "setlocale", "iconv_open"].contains(&plain)
    };
    let bad: Vec<&&str> = names.iter().filter(is_bad).collect();
    assert!(bad.is_empty(), "{bad:?}");
}

/// Commands that look for a home, a state directory and the settings of the user.
const COMMANDS: [&[&str]; 4] = [
    &["config", "show"],
    &["run", "each", "true", ":::", "1"],
    &["run", "list"],
    &["doctor", "--duration", "100ms", "--fail-on", "never"],
];

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

#[test]
fn a_user_without_an_entry_and_a_home_has_all_of_it() {
    if !has_program("setpriv") {
        return;
    }
    if !is_root() {
        return skip("only root can become a user without an entry");
    }
    let sandbox = Sandbox::new("unlisted");
    let temp = sandbox.work().join("tmp");
    fs::create_dir(&temp).expect("made");
    fs::set_permissions(&temp, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).expect("open to all");
    fs::copy(env!("CARGO_BIN_EXE_apm"), sandbox.work().join("apm")).expect("copied");
    for home in [None, Some(""), Some("relative")] {
        for words in COMMANDS {
            let program = sandbox.work().join("apm");
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "43211", "--regid", "43211", "--clear-groups"]).arg(program).args(words);
            command.env_clear().env("PATH", "/usr/bin:/bin").env("TMPDIR", &temp).current_dir("/");
            command.envs(home.map(|home| ("HOME", home)));
            let ran = Ran::of(command);
            assert_eq!(ran.code, Some(0), "HOME={home:?} {words:?}: {}\n{}", ran.stdout, ran.stderr);
        }
    }
    let own = temp.join("apm-state-43211");
    assert_eq!(fs::metadata(own).expect("its state").mode() & 0o7777, 0o700);
}

#[test]
fn a_root_file_system_with_nothing_else_in_it_is_enough() {
    if !is_root() {
        return skip("only root can change the root directory");
    }
    if !has_program("chroot") {
        return;
    }
    let sandbox = Sandbox::new("chroot");
    let root = sandbox.work();
    fs::copy(env!("CARGO_BIN_EXE_apm"), root.join("apm")).expect("copied");
    let chroot = |words: &[&str]| {
        let mut command = Command::new("env");
        command.args(["-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "chroot"]).arg(&root).arg("/apm").args(words);
        Ran::of(command)
    };
    assert!(chroot(&["--version"]).good().starts_with("apm "));
    for words in [&["config", "show"][..], &["run", "list"]] {
        let ran = chroot(words);
        assert!(ran.code.is_some_and(|code| code <= 3), "no signal: {words:?} {:?} {}", ran.code, ran.stderr);
        assert!(!ran.stderr.contains("bug in apm"), "{}", ran.stderr);
    }
    // As in an image of another C library: names come from a module that is none of ours.
    sandbox.file("etc/nsswitch.conf", "passwd: systemd\nhosts: systemd\n");
    sandbox.file("lib/x86_64-linux-gnu/libnss_systemd.so.2", "no library");
    sandbox.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
    sandbox.file("tmp/x", "");
    for words in [&["config", "show"][..], &["run", "each", "--no-journal", "/apm", "--version", ":::", "1"]] {
        chroot(words).good();
    }
}

/// A root file system of another distribution: BusyBox for all programs, no C library, names of users from a module that
/// apm must not load.
fn other_root(sandbox: &Sandbox, release: &str, names: &str) -> bool {
    if !is_root() {
        skip("only root can change the root directory");
        return false;
    }
    if !has_program("busybox") || !has_program("unshare") {
        return false;
    }
    let root = sandbox.work();
    for folder in ["bin", "proc", "tmp", "root", "dev"] {
        fs::create_dir_all(root.join(folder)).expect("made");
    }
    fs::set_permissions(root.join("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).expect("open to all");
    let script =
        "cp \"$(command -v busybox)\" bin/busybox && for it in sh sleep seq test true; do ln -s busybox bin/$it; done";
    Ran::of(sandbox.program("sh", ["-c", script])).good();
    fs::copy(env!("CARGO_BIN_EXE_apm"), root.join("bin/apm")).expect("copied");
    sandbox.file("etc/os-release", release).file("etc/nsswitch.conf", names);
    sandbox.file("etc/passwd", "root:x:0:0:root:/root:/bin/ash\nuser:x:1000:1000::/tmp/1000:/bin/ash\n");
    for module in
        ["lib/libc.so.6", "lib/x86_64-linux-gnu/libnss_systemd.so.2", "lib/x86_64-linux-gnu/libnss_compat.so.2"]
    {
        sandbox.file(module, "no library");
    }
    let can = Ran::of(sandbox.program("unshare", ["-m", "chroot", ".", "/bin/true"]));
    if can.code != Some(0) {
        skip(&format!("a BusyBox that needs no library, and mounts of its own: {}", can.stderr));
    }
    can.code == Some(0)
}

#[test]
fn other_distributions_are_enough_for_every_command() {
    for (name, release, names) in [
        ("alpine", "ID=alpine\nVERSION_ID=3.22.1\n", ""),
        ("old-debian", "ID=debian\nVERSION_ID=\"8\"\n", "passwd: compat systemd\nhosts: files mdns4 dns\n"),
    ] {
        let sandbox = Sandbox::new(name);
        if !other_root(&sandbox, release, names) {
            return;
        }
        sandbox.file(
            "plan.yaml",
            "version: 1\ntasks:\n- {id: a, run: 'seq 3 >out', outputs: [out]}\n- {id: b, run: test -s out, needs: [a]}\n",
        );
        for user in ["0", "1000", "43211"] {
            for (words, said) in [
                ("config show", ""),
                ("run each sh -c 'exit 0' ::: 1 2", ""),
                ("run plan.yaml", ""),
                ("run list", "passed"),
                ("run show last", "2 passed"),
                ("doctor --duration 100ms --fail-on never --format json", "apm.doctor"),
                ("tune plan", ""),
                ("profile mem --pid 1 --duration 1ms -o p; apm --version", "apm "),
                ("profile cpu -o profile -- sleep 0.05", ""),
            ] {
                let script = format!(
                    "mount -t proc proc proc && mkdir -p tmp/{user} root && chown {user} tmp/{user} && \
                     exec env -i PATH=/bin:/usr/bin:/usr/sbin:/sbin TMPDIR=/tmp/{user} chroot --userspec={user}:{user} --groups= . \
                     sh -c \"cd /tmp/{user} && cp /plan.yaml . && apm {words}\""
                );
                let ran = Ran::of(sandbox.program("unshare", ["-m", "sh", "-c", &script]));
                // Not everywhere may a process be sampled; that is said, and no crash.
                let is_good = ran.code == Some(0) || words.starts_with("profile") && ran.code == Some(3);
                assert!(is_good, "{name} {user} {words}: {:?}\n{}\n{}", ran.code, ran.stdout, ran.stderr);
                assert!(ran.stdout.contains(said), "{name} {user} {words}: {}", ran.stdout);
            }
        }
    }
}

/// System calls that filters of containers and old kernels do not know (Docker before 20.10, Linux before 5.3).
#[test]
fn without_pidfds_everything_runs() {
    if !has_program("gcc") {
        return;
    }
    let sandbox = Sandbox::new("no-pidfd");
    sandbox.file(
        "filter.c",
        r#"
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>
/* filter ERRNO CALL COMMAND... : the command, which gets this error from this call. */
int main(int count, char **words) {
    (void)count;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, atoi(words[2]), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | atoi(words[1])),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 77;
    execv(words[3], words + 3);
    return 78;
}
"#,
    );
    Ran::of(sandbox.program("gcc", ["-o", "filter", "filter.c"])).good();
    let apm = |error: i32, call: i64, words: &[&str]| {
        let first = [error.to_string(), call.to_string(), env!("CARGO_BIN_EXE_apm").to_owned()];
        Ran::of(sandbox.program("./filter", first.into_iter().chain(words.iter().map(|word| (*word).to_owned()))))
    };
    if apm(libc::ENOSYS, libc::SYS_pidfd_open, &["--version"]).code != Some(0) {
        return skip("no seccomp filters");
    }
    sandbox.file("plan.yaml", "version: 1\ntasks:\n- {id: a, run: 'sleep 600 & exit 0'}\n- {id: b, run: exit 3}\n- {id: c, run: sleep 600, timeout: 0.2s}\n");
    for (error, call) in [
        (libc::ENOSYS, libc::SYS_pidfd_open),
        (libc::EPERM, libc::SYS_pidfd_open),
        (libc::ENOSYS, libc::SYS_pidfd_send_signal),
        (libc::ENOSYS, libc::SYS_clone3),
        (libc::ENOSYS, libc::SYS_openat2),
        (libc::EPERM, libc::SYS_openat2),
    ] {
        let ran = apm(error, call, &["run", "plan.yaml"]);
        assert_eq!(ran.code, Some(1), "{call} {error}: {}\n{}", ran.stdout, ran.stderr);
        let report = sandbox.report();
        let states = [0, 1, 2].map(|at| report["tasks"][at]["state"].as_str().map(str::to_owned).unwrap_or_default());
        assert_eq!(states, ["passed", "failed", "timed out"], "{call} {error}: {report}");
        assert_eq!(report["tasks"][0]["attempts"][0]["leaked"], 1, "{call}: {report}");
        apm(error, call, &["profile", "cpu", "-o", "out", "--", "true"]).good();
        apm(error, call, &["run", "each", "-o", "junit=out/report.xml", "true", ":::", "1"]).good();
    }
    let own = std::process::id().to_string();
    let said =
        apm(libc::ENOSYS, libc::SYS_pidfd_open, &["profile", "cpu", "--pid", &own, "--duration", "10ms"]).fails(3);
    assert!(said.contains("`--pid` needs `pidfd_open`"), "{said}");
    // The C library starts threads and processes by it, and knows another way for ENOSYS only.
    let said = apm(libc::EPERM, libc::SYS_clone3, &["run", "plan.yaml"]).fails(3);
    assert!(!said.contains("panicked"), "{said}");
}
