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
