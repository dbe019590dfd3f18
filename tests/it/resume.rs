//! `--resume` believes a recorded pass only while it still says something: the folder, the plan and the repository are those
//! of the run. And what cleans up runs, whatever ended the run.

use std::process::Stdio;

use crate::sandbox::{Ended, Ran, Sandbox, eventually, signal};

/// It took the last run of all: a folder whose run had failed was told that all had passed.
#[test]
fn a_resume_means_the_last_run_of_this_folder() {
    let sandbox = Sandbox::new("folders");
    sandbox.file("one/p.yaml", "version: 1\ntasks: [{id: a, run: 'exit 1'}]\n");
    sandbox.file("two/p.yaml", "version: 1\ntasks: [{id: a, run: 'exit 0'}]\n");
    std::fs::create_dir(sandbox.work().join("three")).expect("a folder");
    let in_folder = |folder: &str, args: &[&str]| {
        let mut command = sandbox.command(args);
        command.current_dir(sandbox.work().join(folder));
        Ran::of(command)
    };
    in_folder("one", &["run", "p.yaml"]).fails(1);
    in_folder("two", &["run", "p.yaml"]).good();
    in_folder("one", &["run", "--resume"]).fails(1);
    in_folder("two", &["run", "--resume"]).good();
    let refused = in_folder("three", &["run", "--resume"]).fails(4);
    assert!(refused.contains("no run of this folder is recorded") && refused.contains("/two`"), "{refused}");
    // What is only looked at is shown, and what it is is said.
    let shown = in_folder("three", &["run", "show"]);
    assert!(shown.code == Some(0) && shown.stderr.contains("of `"), "{}", shown.stderr);
    let listed = in_folder("one", &["run", "list"]).good();
    let places: Vec<bool> = listed.lines().map(|line| line.contains("/two")).collect();
    assert_eq!(places, [true, false], "{listed}");
}

/// The commands ran as recorded, and nothing was said of the edit.
#[test]
fn an_edited_plan_file_counts_for_a_resume() {
    let sandbox = Sandbox::new("edited");
    let plan = |b: &str, rest: &str| {
        let text = format!("version: 1\ntasks:\n- {{id: a, run: echo x >> a}}\n- {{id: b, run: '{b}'}}\n{rest}");
        sandbox.file("p.yaml", text);
    };
    plan("ecko b", "- {id: c, run: echo x >> c, needs: [b]}\n- {id: gone, run: 'exit 1'}\n");
    sandbox.apm(["run", "p.yaml"]).fails(1);
    plan("echo b > b", "- {id: c, run: echo x >> c, needs: [b]}\n- {id: new, run: echo x >> new, needs: [a]}\n");
    let ran = sandbox.apm(["run", "p.yaml", "--resume"]);
    assert!(
        ran.stdout.contains(
            "`p.yaml` was changed since the run began: 1 edited (`b`), 1 new (`new`), 1 not in it any more (`gone`)"
        ),
        "{}",
        ran.stdout
    );
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    let counts = ["a", "b", "c", "new"].map(|file| sandbox.read(file).lines().count());
    assert_eq!(counts, [1, 1, 1, 1]);
    // A pass whose task was edited does not count, nor do those that need it.
    plan("echo again >> b", "- {id: c, run: echo x >> c, needs: [b]}\n- {id: new, run: echo x >> new, needs: [a]}\n");
    let again = sandbox.apm(["run", "--resume"]).good();
    assert!(again.contains("`b` runs again although it passed: `p.yaml` describes it differently now"), "{again}");
    let counts = ["a", "b", "c", "new"].map(|file| sandbox.read(file).lines().count());
    assert_eq!(counts, [1, 2, 2, 1]);
    std::fs::remove_file(sandbox.work().join("p.yaml")).expect("removed");
    let gone = sandbox.apm(["run", "--resume"]);
    assert!(gone.code == Some(0) && gone.stderr.contains("the plan `p.yaml` is gone"), "{}", gone.stderr);
    let none = sandbox.apm(["run", "other.yaml", "--resume"]).fails(4);
    assert!(none.contains("no run of `other.yaml` in this folder is recorded"), "{none}");
}

/// A step that adds the tasks of a file is a plan too: what was edited there ran as recorded.
#[test]
fn the_plan_file_of_a_step_is_read_again() {
    let sandbox = Sandbox::new("steps");
    let plan = "version: 1\ntasks:\n- {id: more, plan: inner.yaml}\n- {id: end, run: echo x >> end, needs: [more]}\n";
    sandbox.file("p.yaml", plan);
    let inner = |one: &str, two: &str, rest: &str| {
        let text =
            format!("version: 1\ntasks:\n- {{id: one, run: 'echo {one} >> one'}}\n- {{id: two, run: '{two}'}}\n{rest}");
        sandbox.file("inner.yaml", text);
    };
    inner("a", "exit 1", "");
    sandbox.apm(["run", "p.yaml"]).fails(1);
    inner("b", "exit 0", "- {id: three, run: echo x > three}\n");
    let text = sandbox.apm(["run", "--resume"]).good();
    let said = "`inner.yaml` was changed since the run began: 2 edited (`one`, `two`), 1 new, which a resume does not add (`three`)";
    assert!(text.contains(said), "{text}");
    assert_eq!((sandbox.read("one").as_str(), sandbox.read("end").as_str()), ("a\nb\n", "x\n"));
    // Also after the step has passed: it waits for its tasks again, and what needs it runs after them.
    inner("c", "exit 0", "");
    sandbox.apm(["run", "--resume"]).good();
    assert_eq!((sandbox.read("one").as_str(), sandbox.read("end").as_str()), ("a\nb\nc\n", "x\nx\n"));
}

/// Values have no names of their own: what was edited cannot be matched with what was run.
#[test]
fn an_edited_file_of_values_is_named() {
    let sandbox = Sandbox::new("values");
    sandbox.file("list", "a\nb\n");
    sandbox.apm(["run", "each", "--shell", "--", "test {} != b", "::::", "list"]).fails(1);
    let said = "`list` was changed since the run began: its values are run as they are recorded";
    assert!(!sandbox.apm(["run", "--resume"]).fails(1).contains(said));
    sandbox.file("list", "a\nx\nb\n");
    for _ in 0..2 {
        assert!(sandbox.apm(["run", "--resume"]).fails(1).contains(said));
    }
}

#[test]
fn a_pass_of_a_check_counts_while_no_file_of_the_repository_changed() {
    let sandbox = Sandbox::new("checks");
    sandbox.file("Makefile", "lint:\n\techo x >> ../linted\ntest:\n\tgrep -q good state\n");
    sandbox.file("state", "bad");
    let lints = || std::fs::read_to_string(sandbox.work().join("../linted")).expect("it ran").lines().count();
    sandbox.apm(["run", "qa"]).fails(1);
    sandbox.apm(["run", "--resume"]).fails(1);
    assert_eq!(lints(), 1);
    sandbox.file("state", "good");
    let mended = sandbox.apm(["run", "--resume"]).good();
    assert!(mended.contains("files of the repository changed since it ran (the newest: `state`)"), "{mended}");
    assert_eq!(lints(), 2);
    let text = sandbox.apm(["run", "--resume"]);
    assert!(text.stderr.contains("nothing left to do"), "{}", text.stderr);
}

/// Neither was among the files that are looked at: a pass counted though a build depends on them.
#[test]
fn links_and_submodules_are_a_part_of_what_a_check_depends_on() {
    let sandbox = Sandbox::new("links");
    let git = |args: &[&str]| {
        let ran = Ran::of(sandbox.program("git", args));
        assert_eq!(ran.code, Some(0), "git {args:?}: {}", ran.stderr);
    };
    sandbox.file("other/a.txt", "1").file("repo/Makefile", "lint:\n\techo x >> ../linted\ntest:\n\tfalse\n");
    sandbox.file("repo/one", "").file("repo/two", "");
    let link = |target: &str| {
        let path = sandbox.work().join("repo/link");
        let _ = std::fs::remove_file(&path);
        std::os::unix::fs::symlink(target, path).expect("a link");
    };
    link("one");
    let as_me = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always", "-C"];
    for (folder, args) in [
        ("other", &["init", "-q"][..]),
        ("other", &["add", "."]),
        ("other", &["commit", "-qm", "x"]),
        ("repo", &["init", "-q"]),
        ("repo", &["submodule", "add", "-q", "../other", "sub"]),
        ("repo", &["add", "."]),
        ("repo", &["commit", "-qm", "x"]),
    ] {
        git(&as_me.iter().copied().chain([folder]).chain(args.iter().copied()).collect::<Vec<_>>());
    }
    let run = |args: &[&str]| {
        let mut command = sandbox.command(args);
        command.current_dir(sandbox.work().join("repo"));
        Ran::of(command).fails(1);
        sandbox.read("linted").lines().count()
    };
    assert_eq!((run(&["run", "qa"]), run(&["run", "--resume"])), (1, 1), "nothing has changed");
    link("two");
    assert_eq!(run(&["run", "--resume"]), 2);
    sandbox.file("repo/sub/a.txt", "22");
    assert_eq!((run(&["run", "--resume"]), run(&["run", "--resume"])), (3, 3));
}

/// They were cancelled with the rest: a machine that a task had started was left on.
#[test]
fn what_cleans_up_runs_after_a_signal_and_the_deadline() {
    const PLAN: &str = "version: 1\ntasks:\n- {id: up, run: echo up > up}\n- {id: slow, run: 'echo x > slow; sleep 100', needs: [up]}\n\
        - {id: down, run: 'echo x >> down', needs: [up, slow], when: always}\n- {id: never, run: echo x > never, needs: [slow]}\n\
        - {id: later, run: echo x > later, needs: [never], when: always}\n";
    let check = |words: &[&str], by: Option<&str>, code: i32| {
        let sandbox = Sandbox::new("cleanup");
        sandbox.file("p.yaml", PLAN);
        let mut command = sandbox.command(["run", "p.yaml"].iter().chain(words));
        let mut run = Ended(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("apm"));
        eventually("the slow task runs", || sandbox.has("slow"));
        by.iter().for_each(|name| signal(run.0.id(), name));
        let ended = run.0.wait().expect("its end");
        let ended = ended.code().or(std::os::unix::process::ExitStatusExt::signal(&ended).map(|signal| 128 + signal));
        assert_eq!(ended, Some(code));
        assert_eq!(sandbox.read("down").lines().count(), 1, "it cleaned up once");
        // Nothing was started that it could clean up after.
        assert!(!sandbox.has("never") && !sandbox.has("later"));
    };
    check(&[], Some("INT"), 130);
    check(&[], Some("TERM"), 143);
    check(&["--deadline", "1s"], None, 5);
}

#[test]
fn cleaning_up_ends_with_a_second_signal_and_with_its_time() {
    let check = |words: &[&str], signals: &[&str]| {
        let sandbox = Sandbox::new("cleaning");
        sandbox.file(
            "p.yaml",
            "version: 1\ntasks:\n- {id: up, run: 'echo x > up; sleep 100'}\n\
             - {id: down, run: 'echo x > down; sleep 100', needs: [up], when: always}\n",
        );
        let mut command = sandbox.command(["run", "p.yaml"].iter().chain(words));
        let mut run = Ended(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("apm"));
        eventually("the first task runs", || sandbox.has("up"));
        signal(run.0.id(), "INT");
        eventually("it cleans up", || sandbox.has("down"));
        signals.iter().for_each(|name| signal(run.0.id(), name));
        run.0.wait().expect("its end");
        let report = sandbox.report();
        let down = report["tasks"].as_array().expect("tasks").iter().find(|task| task["id"] == "down").expect("it");
        assert_eq!(down["state"], "cancelled", "{report}");
    };
    check(&[], &["INT"]);
    check(&["--set", "run.cleanup_seconds=0.5"], &[]);
}

/// A test that called git in a hook of a linked worktree changed the repository that was being committed to.
#[test]
fn checks_do_not_get_the_variables_of_a_git_hook() {
    let sandbox = Sandbox::new("hook");
    sandbox.file("Makefile", "test:\n\techo \"$$GIT_DIR,$$GIT_INDEX_FILE,$$GIT_AUTHOR_NAME\" > ../seen\n");
    let run = |words: &[&str]| {
        let mut command = sandbox.command(["run", "qa"].iter().chain(words));
        command.env("GIT_DIR", "/elsewhere/.git").env("GIT_INDEX_FILE", "index.lock").env("GIT_AUTHOR_NAME", "me");
        Ran::of(command).good();
        std::fs::read_to_string(sandbox.work().join("../seen")).expect("it ran").trim().to_owned()
    };
    assert_eq!(run(&[]), ",,me");
    assert_eq!(run(&["--set", "qa.hook_variables=true"]), "/elsewhere/.git,index.lock,me");
}
