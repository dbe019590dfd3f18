//! Other users of the machine who put files, links and folders where apm keeps its state and writes its results.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::sandbox::{Ended, Ran, Sandbox, eventually, has_program, processes_with, skip};

/// Two users who are not root.
const USER: u32 = 65534;
const OTHER: u32 = 1234;

/// Whether there can be other users: where not, the test is skipped.
fn has_users() -> bool {
    if !has_program("setpriv") {
        return false;
    }
    let is_root = fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    if !is_root {
        skip("only root can act as several users");
    }
    is_root
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changed");
}

/// Gives a tree to a user.
fn give(path: &Path, user: u32) {
    let status = Command::new("chown").args(["-hR", &format!("{user}:{user}")]).arg(path).status().expect("chown");
    assert!(status.success());
}

/// A command of apm as another user, in the sandbox.
fn as_user(sandbox: &Sandbox, user: u32, args: &[&str]) -> Command {
    let apm = sandbox.work().join("apm");
    if !apm.exists() {
        fs::copy(env!("CARGO_BIN_EXE_apm"), &apm).expect("copied");
    }
    let id = user.to_string();
    let words = ["--reuid", &id, "--regid", &id, "--clear-groups", "--"].map(str::to_owned);
    let words = words.into_iter().chain([apm.display().to_string()]).chain(args.iter().map(|word| (*word).to_owned()));
    sandbox.program("setpriv", words)
}

/// A command of apm with the home of somebody else, as after `sudo -E`.
fn with_home(sandbox: &Sandbox, home: &Path, args: &[&str]) -> Command {
    let mut command = sandbox.command(args);
    command.env_remove("APM_STATE_DIR").env("HOME", home);
    command
}

/// A file that must stay as it is.
fn victim(sandbox: &Sandbox, name: &str) -> PathBuf {
    sandbox.file(name, "kept\n");
    sandbox.work().join(name)
}

fn is_kept(victim: &Path) {
    assert_eq!(fs::read_to_string(victim).expect("there"), "kept\n", "{}", victim.display());
}

/// A folder that all can write to, like `/tmp`.
fn shared(sandbox: &Sandbox) -> PathBuf {
    let shared = sandbox.work().join("shared");
    fs::create_dir(&shared).expect("made");
    set_mode(&shared, 0o1777);
    shared
}

fn only_run(state: &Path) -> PathBuf {
    fs::read_dir(state.join("runs")).expect("runs").next().expect("a run").expect("an entry").path()
}

/// Root truncated files, removed folders and ran commands of whoever owned the state directory.
#[test]
fn root_believes_nothing_in_the_state_directory_of_another_user() {
    if !has_users() {
        return;
    }
    let sandbox = Sandbox::new("foreign-state");
    let home = sandbox.work().join("home");
    fs::create_dir_all(&home).expect("made");
    let commands: &[&[&str]] = &[
        &["run", "each", "--", "true", ":::", "1"],
        &["run", "list"],
        &["run", "show"],
        &["run", "--replay", "last"],
        &["run", "--resume", "last"],
        &["run", "--resume", "last", "--dry-run"],
        &["run", "watch"],
        &["run", "pause"],
        &["run", "set", "--agents", "2"],
        &["run", "cancel"],
        &["profile", "cpu", "--run", "last", "--duration", "1s"],
    ];
    let refused = |why: &str| {
        for args in commands {
            let ran = Ran::of(with_home(&sandbox, &home, args));
            let all = |words: &[&str]| words.iter().all(|word| ran.stderr.contains(word));
            assert_eq!(ran.code, Some(3), "{args:?} {}", ran.stderr);
            assert!(all(&[why, "APM_STATE_DIR=DIR", "sudo -H", "sudo -u '#65534'"]), "{args:?} {}", ran.stderr);
        }
    };
    // Without any state: none is made there either.
    give(&home, USER);
    refused("belongs to user 65534");
    assert_eq!(fs::read_dir(&home).expect("listed").count(), 0);

    let mut own = as_user(&sandbox, USER, &["run", "each", "--", "sh", "-c", "exit 1", ":::", "1"]);
    own.env_remove("APM_STATE_DIR").env("HOME", &home).current_dir(&home);
    Ran::of(own).fails(1);
    let state = home.join(".local/state/apm");
    let run = only_run(&state);
    let journal = run.join("journal.ndjson");
    let pwned = sandbox.work().join("pwned");
    let script = format!("id > {}", pwned.display());
    let text = fs::read_to_string(&journal).expect("a journal").replace("exit 1", &script);
    fs::write(&journal, text).expect("written");
    let cleaned = victim(&sandbox, "shadow");
    let missing = sandbox.work().join("missing");
    let marked = victim(&sandbox, "marked");
    for (target, link) in [(&cleaned, "cleaned"), (&missing, "learned.json")] {
        let _ = fs::remove_file(state.join(link));
        symlink(target, state.join(link)).expect("linked");
    }
    symlink(&marked, state.join("active").join(run.file_name().expect("a name"))).expect("linked");
    give(&home, USER);
    refused("belongs to user 65534");
    // The whole of `runs` elsewhere, with folders whose names were taken for those of runs.
    let elsewhere = sandbox.work().join("elsewhere");
    for name in ["alpha", "etc", "home"] {
        fs::create_dir_all(elsewhere.join(name)).expect("made");
    }
    fs::rename(state.join("runs"), home.join("runs")).expect("moved");
    symlink(&elsewhere, state.join("runs")).expect("linked");
    refused("belongs to user 65534");
    assert_eq!(fs::read_dir(&elsewhere).expect("listed").count(), 3);
    assert!(!pwned.exists() && !missing.exists());
    is_kept(&cleaned);
    is_kept(&marked);
    // What is said is the way on.
    Ran::of(with_home(&sandbox, &home, &["run", "each", "--no-journal", "--", "true", ":::", "1"])).good();
    sandbox.apm(["run", "each", "--", "true", ":::", "1"]).good();
    let mut own = as_user(&sandbox, USER, &["run", "list"]);
    own.env("APM_STATE_DIR", home.join("state")).env("HOME", &home).current_dir(&home);
    Ran::of(own).good();
}

#[test]
fn a_state_directory_in_a_folder_like_tmp_is_made_and_one_that_all_can_write_to_is_refused() {
    if !has_users() {
        return;
    }
    let sandbox = Sandbox::new("shared-state");
    let shared = shared(&sandbox);
    let kept = victim(&sandbox, "kept");
    let with = |state: &Path, args: &[&str]| {
        let mut command = sandbox.command(args);
        command.env("APM_STATE_DIR", state);
        Ran::of(command)
    };
    let run: &[&str] = &["run", "each", "--", "true", ":::", "1"];
    with(&shared.join("new"), run).good();
    symlink(&kept, shared.join("cleaned")).expect("linked");
    lchown(shared.join("cleaned"), Some(USER), None).expect("given away");
    for args in [run, &["run", "list"]] {
        let said = with(&shared, args).fails(3);
        assert!(said.contains("can be changed by other users (mode 1777"), "{said}");
    }
    // One that another user made, and one that another user's link leads to.
    fs::create_dir(shared.join("theirs")).expect("made");
    give(&shared.join("theirs"), OTHER);
    let said = with(&shared.join("theirs"), run).fails(3);
    assert!(said.contains("belongs to user 1234"), "{said}");
    fs::create_dir(sandbox.work().join("own")).expect("made");
    symlink("../own", shared.join("link")).expect("linked");
    lchown(shared.join("link"), Some(USER), None).expect("given away");
    let said = with(&shared.join("link"), run).fails(3);
    assert!(said.contains("/shared/link` belongs to user 65534"), "{said}");
    // Regression: in a folder of theirs it was followed: `.local/state` in the home of another user led anywhere.
    let home = shared.join("home");
    fs::create_dir_all(home.join(".local")).expect("made");
    symlink(sandbox.work().join("own"), home.join(".local/state")).expect("linked");
    lchown(home.join(".local/state"), Some(USER), None).expect("given away");
    give(&home.join(".local"), USER);
    for args in [run, &["run", "list"]] {
        let said = with(&home.join(".local/state/apm"), args).fails(3);
        assert!(said.contains("/.local/state` belongs to user 65534"), "{said}");
    }
    assert_eq!(fs::read_dir(sandbox.work().join("own")).expect("listed").count(), 0);
    // A link of root's that they have moved there, and what /proc says of a process of theirs.
    lchown(home.join(".local/state"), Some(0), None).expect("taken back");
    let said = with(&home.join(".local/state/apm"), run).fails(3);
    assert!(said.contains("/.local` belongs to user 65534"), "{said}");
    is_kept(&kept);
}

/// Regression: in the home of another user (`su`, a mounted home) their file removed runs of root's, and a link of theirs in the
/// place of the file was written through.
#[test]
fn the_configuration_of_another_user_sets_nothing_and_is_not_written() {
    if !has_users() {
        return;
    }
    let sandbox = Sandbox::new("their-configuration");
    let kept = victim(&sandbox, "kept");
    sandbox.file("home/.config/apm/config.yaml", "run: {keep_runs: 1}\nmemory: {gc_interval_seconds: 0}\n");
    let home = sandbox.work().join("home");
    let file = home.join(".config/apm/config.yaml");
    give(&home, USER);
    let apm = |args: &[&str], sudo: Option<u32>| {
        let mut command = sandbox.command(args);
        command.env("HOME", &home).envs(sudo.map(|uid| ("SUDO_UID", uid.to_string())));
        Ran::of(command)
    };
    let run = ["run", "each", "--", "true", ":::", "1"];
    let runs = || fs::read_dir(sandbox.state().join("runs")).expect("runs").count();
    for _ in 0..3 {
        let said = apm(&run, None).stderr;
        assert!(said.contains("/config.yaml` is not read: `") && said.contains("belongs to user 65534"), "{said}");
    }
    assert_eq!(runs(), 3);
    // Whoever called sudo is believed, as with the files of a project.
    apm(&run, Some(USER)).good();
    assert!(runs() <= 2);
    // Links of theirs, to what they may not change.
    for (link, to) in [(&file, &kept), (&home.join(".config"), &sandbox.work())] {
        let _ = fs::remove_file(link).or_else(|_| fs::remove_dir_all(link));
        symlink(to, link).expect("linked");
        lchown(link, Some(USER), Some(USER)).expect("given away");
        for args in [&["config", "init", "--user"][..], &["config", "init", "--user", "--force"]] {
            let said = apm(args, None).fails(3);
            assert!(said.contains("belongs to user 65534"), "{said}");
        }
        is_kept(&kept);
        assert!(!sandbox.has("apm"));
    }
}

/// Without a home the state lies among the temporary files, where anybody may have made something of its name.
#[test]
fn a_private_folder_that_somebody_else_has_made_is_refused() {
    if !has_users() {
        return;
    }
    for kind in ["mkdir -m 777", "ln -s ../shared", "mkfifo -m 666", "touch"] {
        let sandbox = Sandbox::new("private-folder");
        let shared = shared(&sandbox);
        fs::create_dir(sandbox.work().join("tmp")).expect("made");
        set_mode(&sandbox.work().join("tmp"), 0o1777);
        let made = as_user(&sandbox, OTHER, &["--version"]);
        assert_eq!(Ran::of(made).code, Some(0));
        let script = format!("{kind} tmp/apm-state-43211 && chown -h {OTHER} tmp/apm-state-43211");
        Ran::of(sandbox.program("sh", ["-c", &script])).good();
        let mut command = as_user(&sandbox, 43211, &["run", "each", "true", ":::", "1"]);
        command.env_remove("HOME").env_remove("APM_STATE_DIR").env("TMPDIR", sandbox.work().join("tmp"));
        let said = Ran::of(command).fails(3);
        assert!(said.contains("is not a private folder of this user"), "{kind}: {said}");
        assert_eq!(fs::read_dir(&shared).expect("listed").count(), 0, "{kind}");
    }
}

/// Where /proc shows a user no processes of others (hidepid), leftovers are found all the same.
#[test]
fn what_a_task_leaves_behind_is_ended_where_proc_hides_the_others() {
    if !has_users() || !has_program("unshare") {
        return;
    }
    let sandbox = Sandbox::new("hidepid");
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    let mark = format!("{}", 100_000 + nanos % 800_000_000);
    let folder = shared(&sandbox);
    let apm = folder.join("apm");
    fs::copy(env!("CARGO_BIN_EXE_apm"), &apm).expect("copied");
    sandbox.file("shared/plan.yaml", format!("version: 1\ntasks:\n- {{id: a, run: 'setsid sleep {mark} & exit 0'}}\n"));
    let script = format!(
        "mount -t proc -o hidepid=2 proc /proc && cd shared && \
         exec setpriv --reuid {USER} --regid {USER} --clear-groups ./apm run plan.yaml --format json"
    );
    let mut command = sandbox.program("unshare", ["-m", "sh", "-c", &script]);
    let ran = Ran::of(std::mem::replace(command.env("APM_STATE_DIR", folder.join("state")), Command::new("true")));
    if ran.stderr.contains("mount:") || ran.stderr.contains("unshare:") {
        return skip("no mounts of one's own");
    }
    assert!(ran.good().contains("\"leaked\": 1"));
    assert_eq!(processes_with(&mark), [] as [i32; 0]);
}

/// Regression: with an access control list the bits of the group say what other users may, and the group was root's.
#[test]
fn a_state_directory_that_an_access_list_opens_to_others_is_refused() {
    if !has_users() || !has_program("setfacl") {
        return;
    }
    let sandbox = Sandbox::new("access-list");
    let run = ["run", "each", "--", "true", ":::", "1"];
    sandbox.apm(run).good();
    let set = |what: &str| Ran::of(sandbox.program("setfacl", ["-m", what, "../state"]));
    if set("u:1234:r-x").code != Some(0) {
        return skip("the file system has no access control lists");
    }
    sandbox.apm(run).good();
    set("u:1234:rwx").good();
    let said = sandbox.apm(run).fails(3);
    assert!(said.contains("/state` can be changed by other users (mode 0770"), "{said}");
}

/// Also in a state directory of one's own: it may be a copy, or was somebody else's before.
#[test]
fn nothing_in_the_state_directory_is_reached_through_links() {
    let sandbox = Sandbox::new("state-links");
    sandbox.file("plan.yaml", "version: 1\ntasks:\n- {id: a, run: 'test -e good', env: {A: b}}\n");
    sandbox.apm(["run", "plan.yaml"]).fails(1);
    let run = only_run(&sandbox.state());
    let id = run.file_name().expect("a name").to_owned();
    let kept = victim(&sandbox, "kept");
    let link = |path: PathBuf| {
        let moved = path.with_extension("moved");
        let was_there = fs::rename(&path, &moved).is_ok();
        symlink(&kept, &path).expect("linked");
        move || {
            fs::remove_file(&path).expect("removed");
            if was_there {
                fs::rename(&moved, &path).expect("moved");
            }
        }
    };
    // Replaced: they hold nothing that anybody needs.
    for file in ["cleaned", "learned.json"] {
        let path = sandbox.state().join(file);
        let _ = link(path.clone());
        sandbox.apm(["run", "each", "--set", "memory.gc_interval_seconds=0", "--", "true", ":::", "1"]).good();
        let meta = path.symlink_metadata().expect("there");
        assert_eq!((meta.is_file(), meta.mode() & 0o7777), (true, 0o600), "{file}");
    }
    // Refused, and said.
    let name = id.to_str().expect("ASCII");
    for (path, args) in [
        (run.join("journal.ndjson"), vec!["run", "show", name]),
        (run.join("journal.ndjson"), vec!["run", "--resume", name]),
        (run.join("outputs.bin"), vec!["run", "--resume", name]),
        (run.join("environments.ndjson"), vec!["run", "--resume", name]),
        (sandbox.state().join("active").join(&id), vec!["run", "--resume", name]),
        (sandbox.state().join("active"), vec!["run", "list"]),
        (sandbox.state().join("runs"), vec!["run", "list"]),
    ] {
        let undo = link(path.clone());
        let said = sandbox.apm(args).fails(3);
        assert!(said.contains("is a symbolic link"), "{} {said}", path.display());
        is_kept(&kept);
        undo();
        sandbox.apm(["run", "list"]).good();
    }
    sandbox.file("good", "");
    sandbox.apm(["run", "--resume", name]).good();
}

#[test]
fn only_folders_of_runs_are_ever_removed() {
    let sandbox = Sandbox::new("state-names");
    let run = |count: usize| {
        for _ in 0..count {
            let keep = ["--set", "run.keep_runs=1", "--set", "memory.gc_interval_seconds=0"];
            sandbox.apm(["run", "each"].into_iter().chain(keep).chain(["--", "true", ":::", "1"])).good();
        }
    };
    run(1);
    let runs = sandbox.state().join("runs");
    for name in ["alpha", "home", "0", "20261128", "20261128-215039-5676a3-x"] {
        fs::create_dir(runs.join(name)).expect("made");
        fs::write(runs.join(name).join("file"), "x").expect("written");
    }
    run(3);
    // One is kept, one runs.
    assert_eq!(fs::read_dir(&runs).expect("listed").count(), 5 + 2);
    assert!(runs.join("alpha/file").exists() && runs.join("20261128-215039-5676a3-x/file").exists());
}

/// `cleaned` had mode 0666.
#[test]
fn the_state_is_private_whatever_the_umask_is() {
    let sandbox = Sandbox::new("state-umask");
    let apm = env!("CARGO_BIN_EXE_apm");
    sandbox
        .file("plan.yaml", "version: 1\ntasks:\n- {id: a, run: 'echo a; apm run each -- true ::: 1', env: {A: b}}\n");
    let script = format!("umask 0; PATH=\"{}:$PATH\"; exec apm run plan.yaml -o junit=report.xml", {
        Path::new(apm).parent().expect("a folder").display()
    });
    Ran::of(sandbox.program("sh", ["-c", &script])).good();
    let mut open = vec![sandbox.state()];
    let mut files = 0;
    while let Some(path) = open.pop() {
        let meta = path.symlink_metadata().expect("there");
        let private = if meta.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(meta.mode() & 0o7777, private, "{}", path.display());
        files += usize::from(meta.is_file());
        if meta.is_dir() {
            open.extend(fs::read_dir(path).expect("listed").map(|entry| entry.expect("an entry").path()));
        }
    }
    assert!(files >= 7, "{files}");
    let report = fs::metadata(sandbox.work().join("report.xml")).expect("written");
    assert_eq!(report.mode() & 0o7777, 0o666, "results are as the umask says");
}

/// A marker with the name of a run that lives in another state directory ended its processes.
#[test]
fn a_run_that_goes_on_elsewhere_is_not_taken_for_a_crashed_one() {
    let sandbox = Sandbox::new("two-states");
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    let mark = format!("{}", 100_000 + nanos % 800_000_000);
    // With a limit, so that it has control groups where there are any.
    let plan =
        format!("version: 1\ntasks:\n- {{id: a, run: 'touch up; exec sleep {mark}', limits: {{memory: 1GiB}}}}\n");
    sandbox.file("plan.yaml", plan);
    let mut command = sandbox.command(["run", "plan.yaml"]);
    let mut living = Ended(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("apm"));
    let sleeps = || processes_with(&mark).into_iter().filter(|pid| *pid != living.0.id() as i32).collect::<Vec<_>>();
    eventually("the task runs", || sandbox.has("up") && sleeps().len() == 1);
    let before = sleeps();
    let id = only_run(&sandbox.state()).file_name().expect("a name").to_owned();
    let elsewhere = sandbox.work().join("elsewhere");
    let run = || {
        let mut command = sandbox.command(["run", "each", "--", "true", ":::", "1"]);
        command.env("APM_STATE_DIR", &elsewhere);
        let ran = Ran::of(command);
        assert!(!ran.stderr.contains("crashed"), "{}", ran.stderr);
        ran.good();
        assert_eq!(sleeps(), before);
    };
    run();
    let active = elsewhere.join("active").join(&id);
    // Nobody signed it; signed by a process that is gone; with a run of that name; and a copy of everything.
    fs::write(&active, "").expect("written");
    run();
    assert!(!active.exists(), "it stands for nothing");
    fs::write(&active, "4194303 1\n").expect("written");
    run();
    fs::create_dir(elsewhere.join("runs").join(&id)).expect("made");
    set_mode(&elsewhere.join("runs").join(&id), 0o700);
    fs::write(&active, "4194303 1\n").expect("written");
    run();
    fs::remove_dir_all(&elsewhere).expect("removed");
    let copied = Command::new("cp").arg("-a").arg(sandbox.state()).arg(&elsewhere).status().expect("cp");
    assert!(copied.success());
    run();
    assert!(living.0.try_wait().expect("a child").is_none());
    // Where it crashed at home, it is found there.
    living.0.kill().expect("killed");
    living.0.wait().expect("its end");
    let ran = sandbox.apm(["run", "each", "--", "true", ":::", "1"]);
    assert!(
        ran.stderr.contains("crashed; 1 process it left was") || ran.stderr.contains("crashed; 1 process it left were"),
        "{}",
        ran.stderr
    );
    assert_eq!(processes_with(&mark), [] as [i32; 0]);
}

/// Forged marks: what another user started is not ended by root, whatever it carries.
#[test]
fn a_mark_on_the_process_of_another_user_ends_nothing() {
    if !has_users() {
        return;
    }
    let sandbox = Sandbox::new("forged-mark");
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    let mark = format!("{}", 100_000 + nanos % 800_000_000);
    let script = format!("echo $APM_ATTEMPT > it; mv it marks; exec sleep {mark}1");
    sandbox.file("plan.yaml", serde_json::json!({"version": 1, "tasks": [{"id": "a", "run": script}]}).to_string());
    let mut command = sandbox.command(["run", "plan.yaml"]);
    let mut living = Ended(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("apm"));
    eventually("the task runs", || sandbox.has("marks"));
    let marks = sandbox.read("marks");
    let user = USER.to_string();
    let words = ["--reuid", &user, "--regid", &user, "--clear-groups", "sleep", &format!("{mark}2")].map(str::to_owned);
    let mut command = sandbox.program("setpriv", words);
    let mut forged = Ended(command.env("APM_ATTEMPT", marks.trim()).spawn().expect("setpriv"));
    eventually("it is the other user's", || {
        fs::metadata(format!("/proc/{}", forged.0.id())).is_ok_and(|meta| meta.uid() == USER)
    });
    living.0.kill().expect("killed");
    living.0.wait().expect("its end");
    sandbox.apm(["run", "each", "--", "true", ":::", "1"]).good();
    eventually("what the run left is ended", || processes_with(&format!("{mark}1")).is_empty());
    assert!(forged.0.try_wait().expect("a child").is_none());
}

/// `readlink` by apm itself went round `fs.protected_symlinks`.
#[test]
fn results_go_through_no_link_of_another_user_in_a_shared_folder() {
    if !has_users() {
        return;
    }
    let sandbox = Sandbox::new("report-links");
    let shared = shared(&sandbox);
    let kept = victim(&sandbox, "kept");
    let link = shared.join("out");
    symlink(&kept, &link).expect("linked");
    let out = link.display().to_string();
    let each = |flags: &[&str]| {
        let all = ["run", "each"].iter().chain(flags).chain(&["--", "true", ":::", "1"]);
        all.map(|word| (*word).to_owned()).collect::<Vec<_>>()
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    sandbox.apm(each(&[])).good();
    let commands = [
        each(&["-o", &format!("junit={out}")]),
        each(&["-o", &format!("ndjson={out}")]),
        each(&["--joblog", &out]),
        words(&["run", "show", "-o", &format!("html={out}")]),
        words(&["doctor", "--save", &out]),
        words(&["doctor", "-o", &format!("json={out}")]),
    ];
    for user in [USER, OTHER] {
        lchown(&link, Some(user), Some(user)).expect("given away");
        for command in &commands {
            let said = sandbox.apm(command).fails(2);
            assert!(said.contains(&format!("/shared/out` is a symbolic link of user {user}")), "{command:?} {said}");
            is_kept(&kept);
        }
        let mut command = sandbox.command(each(&[]));
        let said = Ran::of({
            command.env("GITHUB_STEP_SUMMARY", &link).env("GITHUB_ACTIONS", "true");
            command
        });
        assert!(said.stderr.contains("could not be written"), "{}", said.stderr);
        is_kept(&kept);
    }
    // Regression: a link on the way was followed whoever had made it.
    let inner = sandbox.work().join("inner");
    fs::create_dir(&inner).expect("made");
    let way = shared.join("way");
    symlink(&inner, &way).expect("linked");
    lchown(&way, Some(USER), Some(USER)).expect("given away");
    let profile = |to: &str| words(&["profile", "cpu", "-o", to, "--", "true"]);
    for beneath in ["out", "new/deep"] {
        let path = format!("{}/{beneath}", way.display());
        let mut all = vec![profile(&path)];
        let through = |command: &Vec<String>| command.iter().map(|word| word.replace(&out, &path)).collect::<Vec<_>>();
        all.extend(commands.iter().map(through));
        for command in all {
            let said = sandbox.apm(&command).fails(2);
            assert!(said.contains("/shared/way` is a symbolic link of user 65534"), "{command:?} {said}");
            assert_eq!(fs::read_dir(&inner).expect("listed").count(), 0, "{command:?}");
        }
    }
    lchown(&way, Some(0), Some(0)).expect("taken back");
    sandbox.apm(profile(&format!("{}/new/deep", way.display()))).good();
    assert!(inner.join("new/deep/profile.json").is_file());
    // One's own is followed, as ever.
    lchown(&link, Some(0), Some(0)).expect("taken back");
    sandbox.apm(&commands[0]).good();
    assert!(link.is_symlink() && sandbox.read("kept").starts_with("<?xml"));
    // The log of another user in a shared folder would be read by them.
    let log = shared.join("log");
    fs::write(&log, "").expect("written");
    chown(&log, Some(USER), Some(USER)).expect("given away");
    chown(&shared, Some(OTHER), None).expect("given away");
    let said = sandbox.apm(each(&["--joblog", &log.display().to_string()])).fails(2);
    assert!(said.contains("/shared/log` belongs to user 65534"), "{said}");
}

/// `REPORT.PID.tmp` could be guessed and was opened without O_EXCL, and stayed for ever after a kill.
#[test]
fn temporary_files_of_reports_are_new_and_do_not_pile_up() {
    let sandbox = Sandbox::new("report-temporary");
    let start = |file: &str| {
        let report = format!("junit={file}");
        let script = "echo $$ > up; exec sleep 60";
        let words = ["run", "each", "-o", &report, "-o", "json=report.json", "--", "sh", "-c", script, ":::", "1"];
        let mut command = sandbox.command(words);
        let _ = fs::remove_file(sandbox.work().join("up"));
        let run = Ended(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("apm"));
        eventually("the task runs", || sandbox.has("up"));
        run
    };
    let temporary = || {
        let names = fs::read_dir(sandbox.work()).expect("listed").map(|entry| entry.expect("an entry").file_name());
        names.filter(|name| name.to_string_lossy().ends_with("tmp")).count()
    };
    let mut first = start("report.xml");
    assert_eq!(temporary(), 2);
    let second = start("report.xml");
    assert_eq!(temporary(), 4, "both live");
    first.0.kill().expect("killed");
    first.0.wait().expect("its end");
    assert_eq!(temporary(), 4);
    let run = ["run", "each", "-o", "junit=report.xml", "-o", "json=report.json", "--", "true", ":::", "1"];
    sandbox.apm(run).good();
    assert_eq!(temporary(), 2, "those of the killed one went, those of the living one stayed");
    assert!(sandbox.read("report.xml").starts_with("<?xml"));
    drop(second);
    sandbox.apm(run).good();
    assert_eq!(temporary(), 0);
}

#[test]
fn a_profile_goes_into_no_folder_of_another_user() {
    if !has_users() {
        return;
    }
    let sandbox = Sandbox::new("profile-folder");
    let folder = |name: &str, user: u32, mode: u32| {
        let path = sandbox.work().join(name);
        fs::create_dir_all(&path).expect("made");
        chown(&path, Some(user), Some(user)).expect("given away");
        set_mode(&path, mode);
    };
    folder("theirs", USER, 0o755);
    folder("open", 0, 0o777);
    folder("apm-profile", OTHER, 0o755);
    for (args, why) in [
        (vec!["-o", "theirs"], "/theirs` belongs to user 65534"),
        (vec!["-o", "open"], "/open` can be changed by other users"),
        (vec![], "/apm-profile` belongs to user 1234"),
    ] {
        let said = sandbox.apm(["profile", "cpu"].into_iter().chain(args).chain(["--", "true"])).fails(2);
        assert!(said.contains(why) && said.contains("`-o DIR` puts the results elsewhere"), "{said}");
    }
    assert_eq!(fs::read_dir(sandbox.work().join("apm-profile")).expect("listed").count(), 0);
    // It was another user's: the links in it are replaced.
    let kept = victim(&sandbox, "kept");
    folder("mine", 0, 0o755);
    for name in ["profile.json", "report.html", "profile.pb.gz"] {
        symlink(&kept, sandbox.work().join("mine").join(name)).expect("linked");
    }
    sandbox.apm(["profile", "cpu", "-o", "mine", "--", "true"]).good();
    is_kept(&kept);
    for name in ["profile.json", "report.html", "profile.pb.gz"] {
        let meta = fs::symlink_metadata(sandbox.work().join("mine").join(name)).expect("there");
        assert!(meta.is_file() && meta.len() > 10, "{name}");
    }
}
