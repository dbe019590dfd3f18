//! `apm tune`: plans for machines, what survives failures and kills, and what the system's own readers say of the files.
//!
//! A machine is a folder of `tests/tune`: `about`, `files` (`== PATH` and what is in it, one after the other; `words` are
//! more words for apm), `changes` (by hand: each change that is expected) and `plan.txt`, what apm says, which
//! `UPDATE_EXPECT=1` writes anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::sandbox::{Ran, Sandbox, has_program, python_with, skip};

fn machines() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tune");
    let mut machines: Vec<PathBuf> =
        fs::read_dir(folder).expect("machines").map(|entry| entry.expect("one").path()).collect();
    machines.sort();
    machines
}

/// Lays out the files of a machine below `root`; returns its words.
fn lay_out(sandbox: &Sandbox, machine: &Path, root: &str) -> Vec<String> {
    let text = fs::read_to_string(machine.join("files")).expect("files");
    let mut words = Vec::new();
    for part in text.split("\n== ").map(|part| part.trim_start_matches("== ")) {
        let (path, text) = part.split_once('\n').unwrap_or((part.trim(), ""));
        if path == "words" {
            words = text.split_whitespace().map(str::to_owned).collect();
        } else {
            let text = if text.is_empty() { String::new() } else { format!("{}\n", text.trim_end()) };
            sandbox.file(&format!("{root}/{path}"), text);
        }
    }
    words
}

fn settings(json: &str) -> Vec<Value> {
    let plan: Value = serde_json::from_str(json).expect("JSON");
    assert_eq!(plan["schema"], "apm.tune/1");
    plan["settings"].as_array().expect("settings").clone()
}

#[test]
fn each_machine_gets_exactly_its_plan() {
    let machines = machines();
    assert!(machines.len() >= 7);
    for machine in machines {
        let name = machine.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(
            !fs::read_to_string(machine.join("about")).unwrap_or_default().trim().is_empty(),
            "{name}: what is it?"
        );
        let sandbox = Sandbox::new(&name);
        let words = lay_out(&sandbox, &machine, "host");
        let run = |format: &str| {
            let own = ["tune", "-v", "--root", "host", "--format", format];
            sandbox.apm(own.into_iter().map(str::to_owned).chain(words.clone())).good()
        };
        let changes: Vec<String> = settings(&run("json"))
            .iter()
            .filter(|setting| setting["verdict"] == "raise" || setting["verdict"] == "set")
            .map(|setting| {
                let text = |key: &str| setting[key].as_str().unwrap_or("-").to_owned();
                format!("{} {} {} -> {}", text("verdict"), text("key"), text("current"), text("proposed"))
            })
            .collect();
        let text = run("text");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(machine.join("plan.txt"), &text).expect("written");
        }
        let expected = fs::read_to_string(machine.join("changes")).unwrap_or_default();
        assert_eq!(changes, expected.lines().collect::<Vec<_>>(), "{name}");
        assert_eq!(text, fs::read_to_string(machine.join("plan.txt")).unwrap_or_default(), "{name}");
    }
}

/// Everything below a folder, records of applies left out.
pub(crate) fn tree(folder: &Path) -> BTreeMap<String, Option<String>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let name = path.strip_prefix(folder).expect("inside").display().to_string();
        if name.starts_with("var") {
            continue;
        }
        found.insert(name, fs::read_to_string(&path).ok());
        open.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
    }
    found
}

pub(crate) fn small_vm(name: &str) -> Sandbox {
    let sandbox = Sandbox::new(name);
    lay_out(&sandbox, &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tune/small-vm"), "host");
    sandbox
}

#[test]
fn what_is_applied_is_kept_checked_and_taken_back() {
    let sandbox = small_vm("tuneapply");
    let host = sandbox.work().join("host");
    let before = tree(&host);
    let tune = |words: &str| sandbox.apm(format!("tune {words} --root host").split(' '));
    let drift = tune("check").fails(1);
    assert!(drift.is_empty(), "{drift}");
    assert!(tune("apply").fails(2).contains("--yes"));
    assert!(tune("diff").good().contains("+vm.max_map_count = 262144"));
    assert!(tune("apply --dry-run").good().contains("vm.max_map_count: 65530 -> 262144"));
    assert_eq!(tree(&host), before, "nothing so far changed anything");
    tune("apply --yes").good();
    let applied = tree(&host);
    assert_eq!(applied["proc/sys/vm/max_map_count"].as_deref(), Some("262144\n"));
    assert!(tune("check").good().starts_with("good: "));
    assert_eq!(tune("apply --yes").good(), "nothing to change: all is as planned\n");
    assert!(tune("write").good().lines().all(|line| line.starts_with("unchanged ")));
    assert_eq!(tree(&host), applied, "run again, it writes the same");
    sandbox.file("host/proc/sys/vm/max_map_count", "70000\n");
    let drift = sandbox.apm(["tune", "check", "--root", "host"]);
    assert!(drift.stdout.contains("vm.max_map_count: is 70000, should be 262144"), "{}", drift.stdout);
    sandbox.file("host/proc/sys/vm/max_map_count", "262144\n");
    assert!(tune("history").good().contains("applied"));
    tune("rollback --yes").good();
    assert_eq!(tree(&host), before);
    assert!(tune("history").good().contains("rolled back"));
    assert!(tune("rollback --yes").fails(4).contains("nothing was applied"));
}

#[test]
fn files_alone_are_written_without_root_and_a_later_file_wins() {
    let sandbox = small_vm("tunewrite");
    let write = |words: &str| sandbox.apm(format!("tune write {words} --root host").split_whitespace()).good();
    sandbox.apm("tune write --dir etc --agents 4".split(' ')).good();
    assert!(sandbox.read("etc/security/limits.d/60-apm.conf").contains("* hard nofile"));
    let twice = sandbox.apm("tune write --dir etc --agents 4".split(' ')).good();
    assert!(twice.lines().all(|line| line.starts_with("unchanged ")), "{twice}");
    assert!(write("--only vm").contains("sysctl.d/60-apm.conf"));
    let text = sandbox.read("host/etc/sysctl.d/60-apm.conf");
    assert!(text.contains("vm.max_map_count = 262144") && !text.contains("inotify"), "{text}");
    // What is not asked about stays.
    write("--only fs");
    let text = sandbox.read("host/etc/sysctl.d/60-apm.conf");
    assert!(text.contains("vm.max_map_count = 262144") && text.contains("inotify"), "{text}");
    sandbox.file("host/etc/sysctl.d/99-mine.conf", "vm.max_map_count = 100000\n");
    write("");
    assert!(!sandbox.read("host/etc/sysctl.d/60-apm.conf").contains("max_map_count"));
    // A wrong value in apm's own file is not kept.
    let text = "# Written by `apm tune` for agents, and so on\n\n# vm.swappiness: why\nvm.swappiness = 9999\n";
    sandbox.file("host/etc/sysctl.d/60-apm.conf", text);
    write("");
    assert!(!sandbox.read("host/etc/sysctl.d/60-apm.conf").contains("9999"));
    assert!(sandbox.apm(["tune", "write", "--format", "ansible"]).good().contains("ansible.posix.sysctl"));
    assert!(sandbox.apm(["tune", "--only", "vm.swapiness"]).fails(2).contains("`vm.swappiness`"));
    assert!(sandbox.apm(["tune", "--bandwidth", "fast", "--rtt", "1ms"]).fails(2).contains("is no speed"));
}

#[test]
fn what_others_wrote_or_masked_stays_and_nothing_leaves_the_root() {
    let sandbox = small_vm("tuneothers");
    let tune = |words: &str| sandbox.apm(format!("tune {words} --root host").split_whitespace());
    // A unit of somebody else where apm's would be.
    sandbox.file("host/etc/systemd/system/apm.slice", "[Slice]\nMemoryMax=4G\n");
    sandbox.file("host/usr/lib/systemd/systemd", "");
    assert!(tune("explain systemd.slice.CPUWeight").good().contains("/etc/systemd/system/apm.slice is not apm's"));
    tune("write").good();
    assert_eq!(sandbox.read("host/etc/systemd/system/apm.slice"), "[Slice]\nMemoryMax=4G\n");
    fs::remove_dir_all(sandbox.work().join("host/etc/sysctl.d")).expect("removed");
    // A mask, and ways out of the other machine's folder.
    let link = |to: &str, at: &str| {
        let path = sandbox.work().join("host").join(at);
        let _ = fs::remove_file(&path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        std::os::unix::fs::symlink(to, path).expect("a link");
    };
    link("/dev/null", "etc/sysctl.d/60-apm.conf");
    for words in ["write", "apply --yes", "diff"] {
        assert!(tune(words).fails(3).contains("is a link or no file"), "{words}");
    }
    fs::remove_dir_all(sandbox.work().join("host/etc/sysctl.d")).expect("removed");
    fs::create_dir_all(sandbox.work().join("outside")).expect("a folder");
    let outside = sandbox.work().join("outside").display().to_string();
    link(&outside, "etc/sysctl.d");
    for words in ["write", "apply --yes"] {
        assert!(tune(words).fails(3).contains("leads out of"), "{words}");
    }
    assert_eq!(fs::read_dir(&outside).expect("a folder").count(), 0);
    fs::remove_file(sandbox.work().join("host/etc/sysctl.d")).expect("removed");
    sandbox.file("outside/value", "65530\n");
    sandbox.file("host/value", "65530\n");
    link("/value", "proc/sys/vm/max_map_count");
    assert!(tune("apply --yes").fails(3).contains("leads out of"));
    // What is outside is not even read.
    link(&format!("{outside}/value"), "proc/sys/vm/max_map_count");
    assert!(!tune("apply --yes").good().contains("max_map_count"));
    assert_eq!(
        (sandbox.read("outside/value"), sandbox.read("host/value")),
        ("65530\n".to_owned(), "65530\n".to_owned())
    );
    for words in ["--config x", "--set run.retries=1", "--rtt 40 --bandwidth 1G", "--rtt 0ms --bandwidth 1G"] {
        assert!(!tune(words).fails(2).is_empty(), "{words}");
    }
}

#[test]
fn what_somebody_changed_since_an_apply_is_not_overwritten_unasked() {
    let sandbox = small_vm("tunechanged");
    let tune = |words: &str| sandbox.apm(format!("tune {words} --root host").split_whitespace());
    let before = tree(&sandbox.work().join("host"));
    tune("apply --yes").good();
    sandbox.file("host/proc/sys/vm/max_map_count", "300000\n");
    let refused = tune("rollback --yes").fails(3);
    assert!(refused.contains("vm.max_map_count: it is 300000 now") && refused.contains("--force"), "{refused}");
    assert_eq!(sandbox.read("host/proc/sys/vm/max_map_count"), "300000\n", "nothing was restored");
    tune("rollback --force --yes").good();
    assert_eq!(tree(&sandbox.work().join("host")), before);
}

/// Runs apm below strace with a fault in one system call.
fn with_fault(sandbox: &Sandbox, fault: &str) -> Ran {
    let apm = env!("CARGO_BIN_EXE_apm");
    let words = ["-f", "-qq", "-o", "/dev/null", "-e", fault, apm, "tune", "apply", "--yes", "--root", "host"];
    Ran::of(sandbox.program("strace", words))
}

#[test]
fn an_apply_that_fails_or_is_killed_at_any_step_is_taken_back_whole() {
    if !has_program("strace") {
        return skip("strace is not installed");
    }
    let before = tree(&small_vm("tunefault").work().join("host"));
    let (mut steps, mut interrupted) = (0, 0);
    for call in ["write", "renameat", "fsync", "mkdirat", "fchmod"] {
        for end in ["error=EIO", "signal=KILL"] {
            for at in 1.. {
                let sandbox = small_vm("tunefault");
                let host = sandbox.work().join("host");
                let ran = with_fault(&sandbox, &format!("inject={call}:{end}:when={at}"));
                let now = tree(&host);
                let is_killed = ran.code != Some(0) && end.starts_with("signal");
                if is_killed && now != before {
                    // The last step is to write that it is done.
                    if sandbox.apm(["tune", "history", "--root", "host"]).good().contains("interrupted") {
                        interrupted += 1;
                        let again = sandbox.apm(["tune", "apply", "--yes", "--root", "host"]).fails(3);
                        assert!(again.contains("tune rollback"), "{again}");
                    }
                    sandbox.apm(["tune", "rollback", "--yes", "--root", "host"]).good();
                } else if ran.code == Some(0) && now != before {
                    sandbox.apm(["tune", "rollback", "--yes", "--root", "host"]).good();
                }
                assert_eq!(tree(&host), before, "{call} {end} {at}: {}", ran.stderr);
                steps += 1;
                // So many calls of this kind there are not.
                if ran.code == Some(0) {
                    break;
                }
                assert!(at < 200, "{call} {end}: it never ends well");
            }
        }
    }
    assert!(steps > 60 && interrupted > 20, "{steps} {interrupted}");
}

#[test]
fn the_systems_own_readers_accept_the_files() {
    let is_root = fs::metadata("/proc/self").is_ok_and(|data| std::os::unix::fs::MetadataExt::uid(&data) == 0);
    for program in ["unshare", "sysctl", "systemd-analyze", "su"] {
        if !has_program(program) || !is_root {
            return skip("needs root, unshare, sysctl, systemd-analyze and su");
        }
    }
    let sandbox = Sandbox::new("tunereaders");
    sandbox.apm("tune write --dir etc".split(' ')).good();
    let sh = |script: &str| {
        let ran = Ran::of(sandbox.program("sh", ["-c", script]));
        (ran.code, ran.stdout, ran.stderr)
    };
    // Known names, then values, in a network namespace: those of the host are read-only there.
    let (code, _, said) = sh("sysctl --dry-run -p etc/sysctl.d/60-apm.conf");
    assert_eq!(code, Some(0), "{said}");
    let (code, _, said) = sh("grep '^net' etc/sysctl.d/60-apm.conf >net.conf; unshare -n sysctl -p net.conf");
    assert_eq!(code, Some(0), "{said}");
    let (code, _, said) = sh("unshare -n /lib/systemd/systemd-sysctl \"$PWD/net.conf\"");
    assert_eq!(code, Some(0), "{said}");
    sandbox.file("wrong.conf", "net.ipv4.tcp_mtu_probing = nonsense\n");
    assert_ne!(sh("unshare -n /lib/systemd/systemd-sysctl \"$PWD/wrong.conf\"").0, Some(0), "the reader can refuse");
    // A real login.
    let login = |folder: &str| {
        sh(&format!(
            "unshare -m sh -c 'mount --bind {folder} /etc/security/limits.d; su nobody -s /bin/sh -c \"ulimit -Hn\"'"
        ))
    };
    // In a container even root may not raise it, only lower.
    let may_raise = sh("ulimit -Hn 524288").0 == Some(0);
    let hard_now = sh("ulimit -Hn").1;
    let (code, hard, said) = login("etc/security/limits.d");
    assert_eq!((code, hard.trim()), (Some(0), if may_raise { "524288" } else { hard_now.trim() }), "{said}");
    let lower = sandbox.read("etc/security/limits.d/60-apm.conf").replace("524288", "4096");
    sandbox.file("lower/60-apm.conf", lower);
    assert_eq!(login("lower").1.trim(), "4096", "the line is read as it is meant");
    // Units: it says what is wrong on standard error and ends with 0 all the same.
    let (_, _, said) = sh("systemd-analyze verify etc/systemd/system/apm.slice 2>&1 >&2");
    assert!(!said.contains("apm.slice:"), "{said}");
    sandbox.file("wrong.slice", "[Slice]\nCPUWeight=nonsense\n");
    assert!(sh("systemd-analyze verify ./wrong.slice").2.contains("wrong.slice:2:"), "the reader can refuse");
}

#[test]
fn the_list_of_the_specification_is_judged_with_numbers() {
    let sandbox = small_vm("tunespec");
    let judged = sandbox.apm("tune --preset spec --format json --root host".split(' ')).good();
    let judged: Value = serde_json::from_str(&judged).expect("JSON");
    let worth = |key: &str| {
        let all = judged["judged"].as_array().expect("a list");
        let one = all.iter().find(|one| one["key"] == key).expect("the key");
        (one["worth"].as_str().expect("a word").to_owned(), one["why"].as_str().expect("words").to_owned())
    };
    for (key, expected, number) in [
        ("fs.file-max", "lowers", "2466170"),
        ("pam.*.soft.nofile", "not_here", ""),
        ("net.ipv4.tcp_rmem", "harmful", "131072"),
        ("vm.swappiness", "no_effect", "SwapTotal is 0"),
        ("net.core.rmem_max", "outdated", "4 MiB"),
        ("run.nice_level", "harmful", "3.0 times"),
        ("run.io_priority", "no_effect", "1 looked at"),
        ("env.PYTHONOPTIMIZE", "harmful", "assert"),
    ] {
        let (is, why) = worth(key);
        assert_eq!(is, expected, "{key}: {why}");
        assert!(why.contains(number), "{key}: {why}");
    }
    // On this machine the limits of a session are seen.
    let here = sandbox.apm(["tune", "--preset", "spec"]).good();
    assert!(here.contains("pam.*.soft.nofile") && here.contains("select() fails above 1023"), "{here}");
    sandbox.file("profile/tuned.conf", "[sysctl]\nvm.max_map_count=262144\nfs.file-max=>100\nvm.none=1\n");
    let compared = sandbox.apm("tune --compare tuned:profile/tuned.conf --root host".split(' ')).good();
    for words in ["right     vm.max_map_count", "as it is  fs.file-max", "not here  vm.none"] {
        assert!(compared.contains(words), "{words}\n{compared}");
    }
}

#[test]
fn documents_pass_their_schema_by_a_validator_of_others() {
    if !python_with("jsonschema") {
        return;
    }
    let sandbox = small_vm("tuneschema");
    sandbox.file("profile/tuned.conf", "[sysctl]\nvm.none=1\n");
    let mut all = Vec::new();
    let mut keep = |words: &str| {
        let ran = sandbox.apm(words.split(' ').chain(["--root", "host", "--format", "json"]));
        assert!(ran.stdout.starts_with('{'), "{words}: {}{}", ran.stdout, ran.stderr);
        let name = format!("{}.json", all.len());
        sandbox.file(&name, ran.stdout);
        all.push(name);
    };
    let documents = [
        "tune",
        "tune check",
        "tune diff",
        "tune history",
        "tune --preset spec",
        "tune --compare tuned:profile/tuned.conf",
    ];
    documents.into_iter().for_each(&mut keep);
    sandbox.apm("tune apply --yes --root host".split(' ')).good();
    ["tune", "tune check", "tune diff", "tune history"].into_iter().for_each(&mut keep);
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/tune.schema.json");
    let script = "import json, sys, jsonschema\nschema = json.load(open(sys.argv[1]))\njsonschema.Draft202012Validator.check_schema(schema)\nkinds = set()\nfor path in sys.argv[2:]:\n    one = json.load(open(path))\n    jsonschema.validate(one, schema)\n    kinds.add(one['schema'])\n    for key in list(one):\n        bad = {other: one[other] for other in one if other != key}\n        try: jsonschema.validate(bad, schema)\n        except jsonschema.ValidationError: continue\n        sys.exit('accepts anything')\nprint(len(kinds))\n";
    let words = ["-c".to_owned(), script.to_owned(), schema.display().to_string()].into_iter().chain(all);
    let mut command = sandbox.program("python3", words);
    // Modules of the user's own python.
    command.env("HOME", std::env::var_os("HOME").unwrap_or_default());
    assert_eq!(Ran::of(command).good(), "5\n", "kinds of documents");
}

#[test]
fn settings_are_explained_and_runtimes_get_their_share() {
    let sandbox = small_vm("tuneexplain");
    let text = sandbox.apm("tune explain vm.swappiness --root host".split(' ')).good();
    assert!(text.contains("0 to 200") && text.contains("no swap"), "{text}");
    assert!(sandbox.apm(["tune", "explain", "vm.swapines"]).fails(2).contains("`vm.swappiness`"));
    let env = sandbox.apm("tune env --agents 4 --agent-memory 2GiB --agent-cpu 150".split(' ')).good();
    for line in ["export GOMEMLIMIT='1843MiB'", "export MAKEFLAGS='-j2'", "export PYTHON_CPU_COUNT='2'"] {
        assert!(env.contains(line), "{line}\n{env}");
    }
    let json = sandbox.apm("tune env --agents 4 --format json".split(' ')).good();
    assert!(serde_json::from_str::<Value>(&json).expect("JSON")["GOMAXPROCS"].is_string());
    let small = sandbox.apm("tune env --agents 1 --agent-memory 512MiB --agent-cpu 100".split(' ')).good();
    assert!(small.contains("export MAVEN_OPTS='-Xmx384m -XX:+UseSerialGC -XX:ActiveProcessorCount=1'"), "{small}");
}

#[test]
fn a_list_is_held_against_the_values_of_this_machine() {
    let sandbox = small_vm("tunejudge");
    sandbox.file("host/proc/sys/kernel/sem", "32000\t1024000000\t500\t32000\n");
    sandbox.file("host/proc/sys/kernel/nmi_watchdog", "1\n");
    sandbox.file(
        "p/base/tuned.conf",
        "[sysctl]\nvm.dirty_ratio = 40\nvm.dirty_background_ratio = 10\nnet.core.somaxconn=>128\n",
    );
    sandbox.file(
        "p/postgresql/tuned.conf",
        "[main]\ninclude=base\n[sysctl]\nvm.dirty_background_ratio = 0\nvm.dirty_ratio = 0\n\
         vm.dirty_background_bytes = 67108864\nvm.dirty_bytes = 536870912\nkernel.sem = 32000 1024000000 500 32000\n\
         kernel.nmi_watchdog=0\nkernel.none=1\n..etc.passwd=1\n",
    );
    let compare = |format: &str| {
        let words = format!("tune --compare tuned:p/postgresql --root host --format {format}");
        sandbox.apm(words.split(' ')).good()
    };
    let judged: Value = serde_json::from_str(&compare("json")).expect("JSON");
    let judged = judged["judged"].as_array().expect("a list");
    let of = |key: &str| {
        let one = judged.iter().find(|one| one["key"] == key).expect("the key");
        let text = |name: &str| one[name].as_str().unwrap_or("-");
        format!("{} {} {}", text("worth"), text("current"), text("why"))
    };
    for (key, expected) in [
        ("vm.dirty_ratio", "no_effect 20 0 means that vm.dirty_bytes counts, which the list sets too"),
        (
            "vm.dirty_background_ratio",
            "no_effect 10 0 means that vm.dirty_background_bytes counts, which the list sets too",
        ),
        ("kernel.sem", "as_it_is 32000 1024000000 500 32000 32000 1024000000 500 32000 now"),
        ("kernel.nmi_watchdog", "unproven 1 not in apm's catalogue: nothing is known that it helps"),
        ("kernel.none", "not_here - this machine has none"),
        // Regression: two dots became an absolute path, and the file would have been read and shown.
        ("..etc.passwd", "not_here - this machine has none"),
    ] {
        assert_eq!(of(key), expected);
    }
    let bytes = of("vm.dirty_bytes");
    assert!(
        bytes.starts_with("unproven 0 programs that write have to wait from 512 MiB of unwritten data on"),
        "{bytes}"
    );
    let text = compare("text");
    assert!(text.contains("net.core.somaxconn\n      4096 now, at least 128 is asked for\n"), "{text}");
    assert!(!text.contains("4096 ->") && !text.contains("32000 ->"), "{text}");
}

#[test]
fn the_plan_shows_proposals_and_counts_what_stays() {
    let sandbox = small_vm("tunebrief");
    let brief = sandbox.apm("tune --root host".split(' ')).good();
    let whole = sandbox.apm("tune -v --root host".split(' ')).good();
    let left = |text: &str| text.lines().filter(|line| line.starts_with("keep ") || line.starts_with("skip ")).count();
    assert_eq!(left(&brief), 0, "{brief}");
    let said = format!("{} settings left as they are: ", left(&whole));
    assert!(left(&whole) > 50 && brief.contains(&said), "{brief}");
    assert!(brief.contains("raise vm.max_map_count"), "{brief}");
    // Into a pipe nothing is cut.
    assert!(!brief.contains("...") && !whole.contains("..."), "{whole}");
}

#[test]
fn what_cannot_be_set_here_is_not_proposed() {
    let sandbox = Sandbox::new("tunereadonly");
    let script = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys || exit 99\nexec \"$0\" tune --duration 0.1s --format json";
    let apm = env!("CARGO_BIN_EXE_apm");
    let ran = Ran::of(sandbox.program("unshare", ["-m", "sh", "-c", script, apm]));
    if ran.code == Some(99) || ran.stderr.contains("unshare") {
        return skip("mounting is not allowed here");
    }
    let settings = settings(&ran.good());
    let proposed = settings
        .iter()
        .filter(|one| one["place"] == "sysctl" && matches!(one["verdict"].as_str(), Some("raise" | "set")));
    assert_eq!(proposed.collect::<Vec<_>>(), Vec::<&Value>::new());
    assert!(settings.iter().any(|one| one["place"] == "sysctl" && one["verdict"] == "keep"));
}

#[test]
fn variables_of_a_second_env_replace_those_of_the_first_and_none_of_the_user() {
    let sandbox = Sandbox::new("tuneenv");
    let script = "eval \"$($0 tune env --agents 4 --agent-memory 1GiB)\"; export OMP_NUM_THREADS=7\n\
                  eval \"$($0 tune env --agents 2 --agent-memory 2GiB)\"; echo \"$GOMEMLIMIT $NODE_OPTIONS $OMP_NUM_THREADS $MAKEFLAGS\"\n\
                  eval \"$($0 tune env --agents 1 --agent-memory 512MiB)\"; echo \"$GOMEMLIMIT $OMP_NUM_THREADS $MAKEFLAGS\"";
    let mut command = sandbox.program("sh", ["-c", script, env!("CARGO_BIN_EXE_apm")]);
    command.env("MAKEFLAGS", "-k");
    let ran = Ran::of(command);
    assert_eq!(ran.stdout, "1843MiB --max-old-space-size=1536 7 -k\n460MiB 7 -k\n");
    assert!(ran.stderr.contains("left as it is: OMP_NUM_THREADS, MAKEFLAGS"), "{}", ran.stderr);
}
