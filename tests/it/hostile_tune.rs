//! `apm tune` and `apm doctor` at folders that somebody else has prepared: what leads out of them is not believed.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use serde_json::{Value, json};

use crate::sandbox::{Ran, Sandbox, has_program, skip};
use crate::tune::{small_vm, tree};

const NOBODY: u32 = 65534;
const ID: &str = "20260101-000000";
const STORE: &str = "host/var/lib/apm/tune";

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

fn tune(sandbox: &Sandbox, words: &str) -> Ran {
    sandbox.apm(format!("tune {words} --root host").split_whitespace())
}

/// A store of records as apm makes it, which is empty.
fn make_store(sandbox: &Sandbox) {
    let store = sandbox.work().join(STORE);
    fs::create_dir_all(&store).expect("folders");
    fs::set_permissions(store, fs::Permissions::from_mode(0o700)).expect("set");
}

fn put_record(sandbox: &Sandbox, name: &str, record: &Value) {
    make_store(sandbox);
    sandbox.file(&format!("{STORE}/{name}.json"), record.to_string());
}

fn record() -> Value {
    json!({
        "schema": "apm.tune.record/1", "id": ID, "at": "2026-01-01T00:00:00Z", "state": "begun",
        "folders": [], "values": [], "files": [],
    })
}

fn give_to_nobody(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).expect("given away");
    if path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        for entry in fs::read_dir(path).expect("a folder") {
            give_to_nobody(&entry.expect("an entry").path());
        }
    }
}

/// Regression: a record below `--root` could write any text with any mode to any file as root.
#[test]
fn a_record_leads_nowhere_else() {
    let file = |path: &str, mode: u32| json!([{ "path": path, "before": "evil\n", "mode": mode, "after": "x" }]);
    let value = |key: &str, path: &str| json!([{ "key": key, "path": path, "before": "evil", "after": "x" }]);
    let victim = |sandbox: &Sandbox| sandbox.work().join("victim").display().to_string();
    for field in ["files", "values", "folders"] {
        for start in ["", "../victim/", "/../victim/", "/etc/../../victim/", "victim/"] {
            let sandbox = small_vm("forged");
            sandbox.file("victim/cron", "good\n").file("host/victim/cron", "good\n");
            fs::create_dir_all(sandbox.work().join("victim/empty")).expect("a folder");
            let before = tree(&sandbox.work());
            let name = if field == "folders" { "empty" } else { "cron" };
            let path = if start.is_empty() { format!("{}/{name}", victim(&sandbox)) } else { format!("{start}{name}") };
            let mut record = record();
            record[field] = match field {
                "files" => file(&path, 0o4755),
                "values" => value("vm.max_map_count", &path),
                _ => json!([path]),
            };
            put_record(&sandbox, ID, &record);
            let said = tune(&sandbox, "rollback --yes --force").fails(4);
            assert!(said.contains("is none that it writes"), "{field} {path}: {said}");
            let mut after = tree(&sandbox.work());
            after.retain(|name, _| !name.starts_with("host/var"));
            assert_eq!(after, before, "{field} {path}");
        }
    }
    // Its own file with a mode that only an attacker wants, and a setting that apm does not have.
    for (field, forged) in [
        ("files", file("/etc/sysctl.d/60-apm.conf", 0o4755)),
        ("files", file("/etc/sysctl.d/60-apm.conf", 0o666)),
        ("files", file("/etc/cron.d/60-apm.conf", 0o644)),
        ("values", value("kernel.core_pattern", "/proc/sys/kernel/core_pattern")),
        ("values", value("vm.max_map_count", "/proc/sys/kernel/core_pattern")),
        ("values", value("sys.block.../../x.scheduler", "/sys/block/../../x/queue/scheduler")),
        ("network", json!("net:[1]\u{1b}[2J")),
        ("id", json!("../../../../victim/pwn")),
        ("id", json!("20260101-000001")),
    ] {
        let sandbox = small_vm("forged");
        let mut record = record();
        record[field] = forged;
        put_record(&sandbox, ID, &record);
        let said = tune(&sandbox, "rollback --yes --force").fails(4);
        assert!(said.contains("is none that it writes") && !said.contains('\u{1b}'), "{field}: {said}");
        assert!(!sandbox.has("host/etc/sysctl.d/60-apm.conf") && !sandbox.has("victim"));
    }
}

/// Regression: whose record it is was not asked.
#[test]
fn a_record_of_somebody_else_is_refused() {
    let mut forged = record();
    forged["files"] = json!([{ "path": "/etc/sysctl.d/60-apm.conf", "before": "kernel.core_pattern = |/tmp/x\n",
        "mode": 0o644, "after": null }]);
    // Everybody can write to a folder, or to the record.
    for (path, mode) in [("host/var", 0o777), ("host/var/lib/apm/tune", 0o1777), (&format!("{STORE}/{ID}.json"), 0o666)]
    {
        let sandbox = small_vm("writable");
        put_record(&sandbox, ID, &forged);
        fs::set_permissions(sandbox.work().join(path), fs::Permissions::from_mode(mode)).expect("set");
        let ran = tune(&sandbox, "rollback --yes");
        assert!(
            matches!(ran.code, Some(3 | 4)) && ran.stderr.contains("can be changed by other users"),
            "{}",
            ran.stderr
        );
        assert!(!sandbox.has("host/etc/sysctl.d/60-apm.conf"));
        if path != format!("{STORE}/{ID}.json") {
            for words in ["apply --yes", "history"] {
                assert!(tune(&sandbox, words).fails(3).contains("can be changed by other users"), "{words}");
            }
        }
    }
    if !is_root() {
        return skip("only root can make files of another user");
    }
    for path in ["host", "host/var", "host/var/lib/apm/tune", &format!("{STORE}/{ID}.json")] {
        let sandbox = small_vm("foreign");
        put_record(&sandbox, ID, &forged);
        give_to_nobody(&sandbox.work().join(path));
        let ran = tune(&sandbox, "rollback --yes");
        assert!(
            matches!(ran.code, Some(3 | 4)) && ran.stderr.contains("belongs to user 65534"),
            "{path}: {}",
            ran.stderr
        );
        assert!(!sandbox.has("host/etc/sysctl.d/60-apm.conf"));
    }
}

#[test]
fn files_of_another_owner_are_read_and_not_written() {
    if !is_root() || !has_program("setpriv") {
        return skip("only root can make files of another user, and become that user");
    }
    let sandbox = small_vm("owner");
    let host = sandbox.work().join("host");
    give_to_nobody(&host);
    let before = tree(&host);
    tune(&sandbox, "plan").good();
    assert!(tune(&sandbox, "diff").good().contains("vm.max_map_count"));
    tune(&sandbox, "write --dry-run").good();
    for words in ["write", "apply --yes"] {
        let said = tune(&sandbox, words).fails(3);
        assert!(said.contains("/host` belongs to user 65534, and this is user 0"), "{words}: {said}");
    }
    assert!(sandbox.apm(["tune", "write", "--dir", "host/etc"]).fails(3).contains("belongs to user 65534"));
    assert_eq!(tree(&host), before);
    // Its owner may: everything as for anybody with a folder of their own.
    let nobody = |words: &str| {
        let own = format!(
            "--reuid {NOBODY} --regid {NOBODY} --clear-groups {} tune {words} --root host",
            env!("CARGO_BIN_EXE_apm")
        );
        Ran::of(sandbox.program("setpriv", own.split_whitespace()))
    };
    let ran = nobody("apply --yes");
    if ran.code.is_none() || ran.stderr.contains("failed to execute") {
        return skip("another user cannot reach the binary");
    }
    ran.good();
    assert!(sandbox.read("host/etc/sysctl.d/60-apm.conf").contains("vm.max_map_count"));
    // Root does not go by records that this user could have made, and the user does.
    assert!(tune(&sandbox, "rollback --yes").fails(3).contains("belongs to user 65534"));
    nobody("rollback --yes").good();
    assert_eq!(tree(&host), before);
}

/// Regression: the store, its lock and the names of files that are not in their place yet were links that apply followed.
#[test]
fn links_below_a_root_are_not_followed() {
    let link = |sandbox: &Sandbox, to: &str, at: &str| {
        let at = sandbox.work().join(at);
        fs::create_dir_all(at.parent().expect("a folder")).expect("folders");
        symlink(sandbox.work().join(to), at).expect("linked");
    };
    let victims = |sandbox: &Sandbox| {
        sandbox.file("victim/file", "good\n");
        fs::set_permissions(sandbox.work().join("victim/file"), fs::Permissions::from_mode(0o644)).expect("set");
    };
    let unharmed = |sandbox: &Sandbox, what: &str| {
        assert_eq!(sandbox.read("victim/file"), "good\n", "{what}");
        assert_eq!(fs::metadata(sandbox.work().join("victim/file")).expect("there").mode() & 0o7777, 0o644, "{what}");
        assert_eq!(fs::read_dir(sandbox.work().join("victim")).expect("a folder").count(), 1, "{what}");
    };
    for (to, at) in [
        ("victim", "host/var"),
        ("victim", "host/var/lib"),
        ("victim", STORE),
        ("victim/file", &format!("{STORE}/lock")),
        ("victim", "host/etc/security"),
        ("victim/new", "host/etc/sysctl.d"),
        ("victim/file", "host/etc/sysctl.d/60-apm.conf"),
        ("victim/new", "host/etc/sysctl.d/60-apm.conf"),
    ] {
        for words in ["apply --yes", "rollback --yes", "write"] {
            let sandbox = small_vm("links");
            victims(&sandbox);
            if at.ends_with("lock") {
                make_store(&sandbox);
            }
            link(&sandbox, to, at);
            let ran = tune(&sandbox, words);
            let needs_it = if words == "write" {
                at.starts_with("host/etc")
            } else {
                at.starts_with("host/var") || words.starts_with("apply")
            };
            // A rollback of nothing does not come to the lock.
            let is_nothing = words.starts_with("rollback") && ran.code == Some(4);
            assert!(is_nothing || !needs_it || ran.code == Some(3), "{words} {at}: {:?} {}", ran.code, ran.stderr);
            unharmed(&sandbox, &format!("{words} {at}"));
        }
    }
    // Names that are not in their place yet cannot be guessed; an earlier apm's is a link that stays.
    let sandbox = small_vm("links");
    victims(&sandbox);
    for name in ["60-apm.conf.apm-new", ".60-apm.conf.0123456789abcdef.apm-tmp"] {
        link(&sandbox, "victim/file", &format!("host/etc/sysctl.d/{name}"));
        link(&sandbox, "victim/file", &format!("own/sysctl.d/{name}"));
    }
    tune(&sandbox, "apply --yes").good();
    tune(&sandbox, "rollback --yes").good();
    sandbox.apm(["tune", "write", "--dir", "own"]).good();
    assert!(fs::symlink_metadata(sandbox.work().join("own/sysctl.d/60-apm.conf")).expect("there").is_file());
    unharmed(&sandbox, "names of files to be");
    // The folder itself is named by the user, and may be a link; those in it are not.
    link(&sandbox, "own", "named");
    sandbox.apm(["tune", "write", "--dir", "named"]).good();
    link(&sandbox, "victim", "named/tmpfiles.d");
    fs::remove_dir_all(sandbox.work().join("own/security")).expect("removed");
    link(&sandbox, "victim", "own/security");
    sandbox.apm(["tune", "write", "--dir", "named"]).fails(3);
    unharmed(&sandbox, "--dir");
}

/// Regression: the folder that was named could be a link of another user in a folder like /tmp, and led anywhere.
#[test]
fn a_named_folder_is_no_link_of_another_user_in_a_shared_folder() {
    if !is_root() {
        return skip("only root can make links of another user");
    }
    let sandbox = small_vm("named-link");
    let shared = sandbox.work().join("shared");
    fs::create_dir_all(sandbox.work().join("inner")).expect("made");
    fs::create_dir(&shared).expect("made");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).expect("open to all");
    for (to, name) in [("../inner", "inner"), ("../host", "host")] {
        symlink(to, shared.join(name)).expect("linked");
        lchown(shared.join(name), Some(NOBODY), None).expect("given away");
    }
    for words in [
        "tune write --dir shared/inner",
        "tune write --dir shared/inner/new/deep",
        "tune apply --yes --root shared/host",
    ] {
        let said = sandbox.apm(words.split_whitespace()).fails(2);
        assert!(said.contains("is a symbolic link of user 65534"), "{words}: {said}");
    }
    assert_eq!(fs::read_dir(sandbox.work().join("inner")).expect("listed").count(), 0);
    assert!(!sandbox.has(STORE));
}

#[test]
fn values_and_records_that_are_no_plain_files_are_refused() {
    let sandbox = small_vm("values");
    sandbox.file("victim", "65530\n");
    let value = sandbox.work().join("host/proc/sys/vm/max_map_count");
    let victim = sandbox.work().join("victim");
    fs::remove_file(&value).expect("removed");
    fs::hard_link(&victim, &value).expect("linked");
    let said = tune(&sandbox, "apply --yes").fails(3);
    assert!(said.contains("has 2 hard links"), "{said}");
    assert_eq!(sandbox.read("victim"), "65530\n");
    fs::remove_file(&value).expect("removed");
    sandbox.file("host/proc/sys/vm/max_map_count", "65530\n");
    tune(&sandbox, "apply --yes").good();

    // What is put in place of a value or a file later is not followed by the rollback either.
    for path in ["host/proc/sys/vm/max_map_count", "host/etc/sysctl.d/60-apm.conf"] {
        let sandbox = small_vm("later");
        sandbox.file("victim", "65530\n");
        tune(&sandbox, "apply --yes").good();
        let at = sandbox.work().join(path);
        fs::remove_file(&at).expect("removed");
        symlink(sandbox.work().join("victim"), &at).expect("linked");
        assert!(tune(&sandbox, "rollback --yes --force").fails(3).contains("is a symbolic link"));
        assert_eq!(sandbox.read("victim"), "65530\n", "{path}");
    }

    let store = sandbox.work().join(STORE);
    let real = fs::read_dir(&store).expect("records").map(|entry| entry.expect("one").path());
    let real = real.into_iter().find(|path| path.extension().is_some_and(|it| it == "json")).expect("a record");
    fs::copy(&real, sandbox.work().join("copy.json")).expect("copied");
    fs::write(&victim, fs::read(&real).expect("a record")).expect("written");
    symlink(&victim, store.join("20260101-000001.json")).expect("linked");
    fs::File::create(store.join("20260101-000002.json")).and_then(|file| file.set_len(50 << 30)).expect("sparse");
    fs::create_dir(store.join("20260101-000003.json")).expect("a folder");
    let mut fifos = 0;
    if has_program("mkfifo") {
        Ran::of(sandbox.program("mkfifo", [store.join("20260101-000004.json")])).good();
        fifos = 1;
    }
    let said = tune(&sandbox, "history").good();
    for words in ["is a symbolic link", "has more than", "is a folder"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(said.matches("is no regular file").count(), fifos, "{said}");
    tune(&sandbox, "rollback --yes").good();
}

/// Regression: with umask 0 everybody could write records that a rollback by root believed.
#[test]
fn modes_do_not_depend_on_the_umask() {
    for umask in ["0", "077"] {
        let sandbox = small_vm("umask");
        let run = |words: &str| {
            let script = format!("umask {umask}; exec {} tune {words}", env!("CARGO_BIN_EXE_apm"));
            Ran::of(sandbox.program("sh", ["-c", &script])).good()
        };
        run("apply --yes --root host");
        run("write --dir own");
        let mode = |path: &str| fs::metadata(sandbox.work().join(path)).expect("there").mode() & 0o7777;
        for (path, expected) in [
            ("host/var", 0o755),
            ("host/var/lib/apm", 0o755),
            (STORE, 0o700),
            (&format!("{STORE}/lock"), 0o600),
            ("host/etc/sysctl.d", 0o755),
            ("host/etc/sysctl.d/60-apm.conf", 0o644),
            ("own", 0o755),
            ("own/sysctl.d", 0o755),
            ("own/sysctl.d/60-apm.conf", 0o644),
        ] {
            assert_eq!(mode(path), expected, "umask {umask}: {path}");
        }
        for entry in fs::read_dir(sandbox.work().join(STORE)).expect("records") {
            let meta = entry.expect("one").metadata().expect("there");
            assert_eq!(meta.mode() & 0o7777, 0o600);
        }
    }
}

#[test]
fn a_rollback_shows_what_it_does_and_asks() {
    let sandbox = small_vm("asks");
    let host = sandbox.work().join("host");
    let before = tree(&host);
    tune(&sandbox, "apply --yes").good();
    let applied = tree(&host);
    let said = tune(&sandbox, "rollback").fails(2);
    assert!(said.contains("no terminal") && said.contains("--yes` restores without asking"), "{said}");
    let shown = tune(&sandbox, "rollback --dry-run").good();
    assert!(
        shown.contains("-vm.max_map_count = 262144") && shown.contains("vm.max_map_count: 262144 -> 65530"),
        "{shown}"
    );
    assert_eq!(tree(&host), applied);
    if has_program("script") {
        let answer = |answer: &str| {
            let apm = format!("{} tune rollback --root host", env!("CARGO_BIN_EXE_apm"));
            let script = format!("printf '{answer}\\n' | script -qec '{apm}' /dev/null");
            Ran::of(sandbox.program("sh", ["-c", &script])).stdout
        };
        assert!(answer("n").contains("nothing was changed"));
        assert_eq!(tree(&host), applied);
        assert!(answer("y").contains("are as before"));
        assert_eq!(tree(&host), before);
    } else {
        tune(&sandbox, "rollback --yes").good();
    }
    assert_eq!(tree(&host), before);

    // An apply that was interrupted: what somebody changed since is not overwritten unasked.
    let mut begun = record();
    begun["values"] = json!([{ "key": "vm.max_map_count", "path": "/proc/sys/vm/max_map_count", "before": "65530", "after": "262144" }]);
    put_record(&sandbox, ID, &begun);
    sandbox.file("host/proc/sys/vm/max_map_count", "300000\n");
    let said = tune(&sandbox, "rollback --yes").fails(3);
    assert!(said.contains("somebody changed since then: vm.max_map_count: it is 300000 now"), "{said}");
    assert_eq!(sandbox.read("host/proc/sys/vm/max_map_count"), "300000\n");
}

#[test]
fn leftovers_of_killed_writers_are_removed() {
    let sandbox = small_vm("leftovers");
    let names = [
        "host/etc/sysctl.d/.60-apm.conf.0123456789abcdef.apm-tmp",
        "own/sysctl.d/.60-apm.conf.fedcba9876543210.apm-tmp",
    ];
    for name in names {
        sandbox.file(name, "half");
    }
    tune(&sandbox, "apply --yes").good();
    sandbox.apm(["tune", "write", "--dir", "own"]).good();
    assert!(names.iter().all(|name| !sandbox.has(name)));
}

/// Regression: `proc/uptime` as a device that never ends was read until memory was gone.
#[test]
fn files_of_another_machine_are_read_up_to_a_size_and_never_waited_for() {
    if !has_program("timeout") || !has_program("mkfifo") {
        return;
    }
    let bounded = |sandbox: &Sandbox, words: &str| {
        let script = format!("ulimit -v 4000000; exec timeout -s KILL 60 {} {words}", env!("CARGO_BIN_EXE_apm"));
        let ran = Ran::of(sandbox.program("sh", ["-c", &script]));
        assert!(matches!(ran.code, Some(0..=4)), "{words}: {:?} {}", ran.code, ran.stderr);
        ran
    };
    let all =
        ["doctor --root host", "doctor --root host --root host", "tune plan --root host", "tune check --root host"];
    let places = [
        "proc/uptime",
        "proc/meminfo",
        "proc/stat",
        "proc/swaps",
        "proc/1/comm",
        "proc/sys/vm/max_map_count",
        "proc/sys/kernel/osrelease",
        "etc/sysctl.conf",
        "etc/sysctl.d/10-x.conf",
        "usr/lib/sysctl.d/10-x.conf",
        "sys/block/sda/queue/scheduler",
        "etc/sysctl.d/60-apm.conf",
        "dev/kmsg",
    ];
    for place in places {
        for kind in ["fifo", "link", "sparse", "device", "loop"] {
            let sandbox = small_vm("endless");
            let path = sandbox.work().join("host").join(place);
            fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
            let _ = fs::remove_file(&path);
            let made = match kind {
                "fifo" => Ran::of(sandbox.program("mkfifo", [&path])).code == Some(0),
                "link" => symlink("/dev/zero", &path).is_ok(),
                "loop" => symlink(&path, &path).is_ok(),
                "sparse" => fs::File::create(&path).and_then(|file| file.set_len(50 << 30)).is_ok(),
                _ => {
                    let words = [path.as_os_str(), "c".as_ref(), "1".as_ref(), "5".as_ref()];
                    has_program("mknod") && Ran::of(sandbox.program("mknod", words)).code == Some(0)
                }
            };
            // Only root can make a device, and not everywhere.
            if made {
                // The first of them looks at everything; the others at what is theirs.
                let words = if place.contains("sysctl") { &all[2..] } else { &all[..] };
                words.iter().for_each(|words| drop(bounded(&sandbox, words)));
            }
        }
    }
    let sandbox = Sandbox::new("from");
    Ran::of(sandbox.program("mkfifo", ["fifo"])).good();
    for file in ["fifo", "/dev/zero", "/dev/random"] {
        let said = bounded(&sandbox, &format!("doctor --from {file}")).fails(2);
        assert!(said.contains("is no regular file"), "{said}");
    }
    fs::File::create(sandbox.work().join("huge")).and_then(|file| file.set_len(50 << 30)).expect("sparse");
    assert!(bounded(&sandbox, "doctor --from huge").fails(2).contains("larger than 64 MiB"));
    assert!(bounded(&sandbox, "doctor --from /dev/stdin").fails(2).contains("an empty file"));
}

#[test]
fn a_diff_commands_no_terminal() {
    let sandbox = small_vm("escapes");
    let text = "# Written by `apm tune` for agents, x\n\n# vm.swappiness: y\nvm.swappiness = 60\u{1b}]0;owned\u{7}\rhidden\u{9b}2J\n";
    sandbox.file("host/etc/sysctl.d/60-apm.conf", text);
    for words in ["diff", "apply --dry-run", "check", "plan"] {
        let ran = tune(&sandbox, words);
        assert!(!ran.stdout.contains(['\u{1b}', '\u{7}', '\r', '\u{9b}']), "{words}: {:?}", ran.stdout);
    }
    assert!(tune(&sandbox, "diff").good().contains("-vm.swappiness = 60^M"));
}

/// A profile of tuned that is found below the root, or included by one, is a plain file as well.
#[test]
fn profiles_of_another_machine_are_plain_files_there() {
    let sandbox = small_vm("profiles");
    sandbox
        .file("secret", "[sysctl]\nvm.max_map_count=4242\n")
        .file("host/etc/tuned/good/tuned.conf", "[main]\ninclude=evil\n");
    let evil = sandbox.work().join("host/etc/tuned/evil/tuned.conf");
    fs::create_dir_all(evil.parent().expect("a folder")).expect("folders");
    symlink(sandbox.work().join("secret"), &evil).expect("linked");
    let compare = |name: &str| tune(&sandbox, &format!("plan --compare tuned:{name}"));
    for name in ["evil", "good"] {
        assert!(compare(name).fails(2).contains("no profile `evil`"), "{name}");
    }
    sandbox.file(
        "host/etc/tuned/good/tuned.conf",
        format!("[main]\ninclude={}\n", sandbox.work().join("secret").display()),
    );
    assert!(compare("good").fails(2).contains("no profile"));
    fs::remove_file(&evil).expect("removed");
    sandbox.file("host/etc/tuned/evil/tuned.conf", "[sysctl]\nvm.max_map_count=4242\n");
    sandbox.file("host/etc/tuned/good/tuned.conf", "[main]\ninclude=evil\n");
    assert!(compare("good").good().contains("4242"));
}

/// A link in the files of another machine leads to that machine's files.
#[test]
fn what_is_read_of_another_machine_is_its_own() {
    let sandbox = small_vm("reads");
    sandbox.file("secret", "6.66-outside\n").file("host/inside", "6.12-inside\n");
    let release = sandbox.work().join("host/proc/sys/kernel/osrelease");
    for (to, expected) in
        [(sandbox.work().join("secret"), false), ("../../../../secret".into(), false), ("/inside".into(), true)]
    {
        fs::remove_file(&release).expect("removed");
        symlink(&to, &release).expect("linked");
        let plan = tune(&sandbox, "plan --format json").good();
        assert!(!plan.contains("6.66-outside"), "{}", to.display());
        assert_eq!(plan.contains("6.12-inside"), expected, "{}", to.display());
    }
    // The whole of /proc as a link to this machine's is no other machine.
    fs::rename(sandbox.work().join("host/proc"), sandbox.work().join("host/kept")).expect("moved");
    symlink("/proc", sandbox.work().join("host/proc")).expect("linked");
    for words in ["plan", "apply --yes"] {
        assert!(tune(&sandbox, words).fails(2).contains("has no folder `proc`"));
    }
}
