//! Repositories and project files of others: found by going up they choose no program and set nothing.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;

use crate::sandbox::{Ran, Sandbox, skip};

const OTHER: u32 = 1234;

/// A folder all can write to with a repository of another user: `ruff` in its virtual environment leaves a file. In it a
/// folder of root's. Nothing where this is not root.
fn shared(sandbox: &Sandbox) -> Option<PathBuf> {
    if fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() != 0) {
        skip("only root can make files of another user");
        return None;
    }
    let shared = sandbox.work().join("shared");
    fs::create_dir_all(shared.join("rootwork/sub")).expect("made");
    sandbox.file("shared/rootwork/sub/a.py", "x = 1\n");
    let ruff = format!("#!/bin/sh\ntouch {}\necho '[]'\n", sandbox.work().join("PWNED").display());
    sandbox.file("shared/.venv/bin/ruff", ruff);
    sandbox.file("shared/.venv/pyvenv.cfg", "");
    sandbox.file("shared/.git/HEAD", "ref: refs/heads/main\n");
    sandbox.file("shared/pyproject.toml", "[tool.ruff]\n");
    sandbox.file("shared/b.py", "x = 1\n");
    sandbox.file(
        "shared/apm.yaml",
        "run: {keep_runs: 1, retries: 7}\nmemory: {gc_interval_seconds: 0}\n\
         doctor: {ignore: [cpu.util], fail_on: never}\nperformance: {resource_allocation: {nice_level: -20}}\n",
    );
    fs::set_permissions(shared.join(".venv/bin/ruff"), Permissions::from_mode(0o755)).expect("a program");
    fs::set_permissions(&shared, Permissions::from_mode(0o1777)).expect("open to all");
    for path in [".venv", ".venv/bin", ".venv/bin/ruff", ".git", ".git/HEAD", "pyproject.toml", "apm.yaml"] {
        chown(shared.join(path), Some(OTHER), Some(OTHER)).expect("given away");
    }
    Some(shared)
}

#[test]
fn programs_of_a_repository_that_is_somebody_elses_do_not_run() {
    let sandbox = Sandbox::new("foreign-repository");
    let Some(shared) = shared(&sandbox) else { return };
    let qa = |dir: &str, more: &[&str], allowed: bool| {
        let mut command = sandbox.command(["run", "qa", "--only", "ruff"].iter().chain(more));
        command.current_dir(shared.join(dir));
        if allowed {
            command.env("APM_SAFE_DIRECTORIES", &shared);
        }
        Ran::of(command)
    };
    let said = qa("rootwork/sub", &[], false).fails(2);
    assert!(
        said.contains("/shared` is not believed: `") && said.contains("/shared/.git` belongs to user 1234"),
        "{said}"
    );
    assert!(said.contains(&format!("`APM_SAFE_DIRECTORIES={}` allows it", shared.display())), "{said}");
    let ran = qa("", &[], false);
    assert!(
        ran.stderr.contains("is not believed"),
        "its folder is root's, the repository in it is not: {}",
        ran.stderr
    );
    // Named, it is checked; but by no program that somebody else than its owner put there.
    let ran = qa("rootwork", &[shared.to_str().expect("UTF-8")], false);
    assert!(
        ran.stdout.contains("/.venv/bin/ruff` belongs to user 1234, and this is user 0: not run"),
        "{}",
        ran.stdout
    );
    assert!(!sandbox.has("PWNED"), "a program of another user ran as root");
    qa("rootwork/sub", &[], true).good();
    assert!(sandbox.has("PWNED"), "the way that was named works");
}

#[test]
fn a_project_file_of_another_sets_nothing() {
    let sandbox = Sandbox::new("foreign-project");
    let Some(shared) = shared(&sandbox) else { return };
    let apm = |args: &[&str]| {
        let mut command = sandbox.command(args);
        Ran::of(std::mem::replace(command.current_dir(shared.join("rootwork/sub")), std::process::Command::new("true")))
    };
    let ran = apm(&["config", "show"]);
    assert_eq!(ran.stdout, "# nothing is set; `apm config show --origin` shows the defaults\n");
    for _ in 0..3 {
        let ran = apm(&["run", "each", "true", ":::", "1"]);
        assert!(ran.stderr.contains("/shared/apm.yaml` is not read: `"), "it is said: {}", ran.stderr);
    }
    assert_eq!(fs::read_dir(sandbox.state().join("runs")).expect("runs").count(), 3, "records are kept");
}

#[test]
fn no_project_file_decides_about_the_machine_or_the_records() {
    let sandbox = Sandbox::new("own-project");
    sandbox.file(
        "apm.yaml",
        "run:\n  keep_runs: 1\n  retries: 3\nmemory: {gc_interval_seconds: 0}\ndoctor: {ignore: [cpu.util]}\n",
    );
    for _ in 0..3 {
        let said = sandbox.apm(["run", "each", "true", ":::", "1"]).stderr;
        assert!(said.contains("apm.yaml:2: `run.keep_runs` has no effect in the file of a project"), "{said}");
    }
    assert_eq!(fs::read_dir(sandbox.state().join("runs")).expect("runs").count(), 3);
    let shown = sandbox.apm(["config", "show"]).good();
    assert_eq!(shown, "run.retries: 3\n", "what concerns the project is heeded");
    let rules = sandbox.apm(["doctor", "--list-rules"]).good();
    assert!(rules.contains("cpu.util"), "{rules}");
    // In the user's own file all of it is.
    sandbox.own_configuration("run: {keep_runs: 1}\nmemory: {gc_interval_seconds: 0}\n");
    sandbox.apm(["run", "each", "true", ":::", "1"]).good();
    assert!(fs::read_dir(sandbox.state().join("runs")).expect("runs").count() <= 2);
}

/// Regression: each of these files was waited for, for ever.
#[test]
fn files_of_a_repository_that_are_fifos_are_not_waited_for() {
    for fifo in [".gitignore", "sub/.gitignore", ".git/index", ".git/info/exclude", ".git/config"] {
        let sandbox = Sandbox::new("fifo-in-repository");
        sandbox.file("sub/a.sh", "#!/bin/sh\necho hello\n");
        sandbox.file(".git/HEAD", "ref: refs/heads/main\n");
        sandbox.file(".git/info/keep", "");
        assert_eq!(Ran::of(sandbox.program("mkfifo", [fifo])).code, Some(0));
        let ran = Ran::of(sandbox.program("timeout", ["10", env!("CARGO_BIN_EXE_apm"), "run", "qa", "--dry-run"]));
        assert_ne!(ran.code, Some(124), "{fifo}: it does not end");
        if fifo.ends_with("ignore") || fifo.ends_with("exclude") {
            assert_eq!(ran.code, Some(3), "{fifo}: {}", ran.stderr);
            assert!(ran.stderr.contains(&format!("{fifo}` is no regular file")), "{}", ran.stderr);
        } else {
            assert_eq!(ran.code, Some(0), "{fifo}: {}", ran.stderr);
        }
    }
}

/// Git would run each of these for `git status`; apm reads the index by itself.
#[test]
fn nothing_that_a_configuration_of_git_names_is_run() {
    let sandbox = Sandbox::new("git-configuration");
    let git = |words: &str| Ran::of(sandbox.program("git", words.split_whitespace())).good();
    sandbox.file("a.sh", "#!/bin/sh\necho hello\n").file("b.py", "x = 1\n").file("pyproject.toml", "[tool.ruff]\n");
    git("init -q .");
    git("add -A");
    let evil = sandbox.work().join("evil").display().to_string();
    sandbox.file("evil", "#!/bin/sh\ntouch \"$(dirname \"$0\")/RAN\"\n");
    fs::set_permissions(&evil, Permissions::from_mode(0o755)).expect("a program");
    sandbox.file("included", format!("[core]\n\tfsmonitor = {evil}\n"));
    sandbox.file(".gitattributes", "* filter=x diff=x\n");
    let config = format!(
        "{}[core]\n\tfsmonitor = {evil}\n\thooksPath = .\n\tpager = {evil}\n\tsshCommand = {evil}\n[include]\n\tpath = ../included\n\
         [diff]\n\texternal = {evil}\n[filter \"x\"]\n\tclean = {evil}\n\trequired = true\n",
        sandbox.read(".git/config")
    );
    sandbox.file(".git/config", config);
    sandbox.apm(["run", "qa", "--dry-run"]).good();
    assert!(sandbox.apm(["run", "qa", "--only", "ruff"]).code.is_some());
    assert!(!sandbox.has("RAN"));
    Ran::of(sandbox.program("git", ["status"]));
    assert!(sandbox.has("RAN"), "git would have run it");
}

/// Regression: what git is told in the home directory was read by a library, which waited for it.
#[test]
fn files_of_git_in_the_home_directory_are_not_waited_for() {
    for (fifo, code) in [(".gitconfig", 0), (".config/git/config", 0), (".config/git/ignore", 3)] {
        let sandbox = Sandbox::new("fifo-at-home");
        sandbox.file("a.sh", "#!/bin/sh\necho hello\n").file(".git/HEAD", "ref: refs/heads/main\n");
        let at = sandbox.work().join("../home").join(fifo);
        fs::create_dir_all(at.parent().expect("a folder")).expect("made");
        assert_eq!(Ran::of(sandbox.program("mkfifo", [&at])).code, Some(0));
        let ran = Ran::of(sandbox.program("timeout", ["10", env!("CARGO_BIN_EXE_apm"), "run", "qa", "--dry-run"]));
        assert_eq!(ran.code, Some(code), "{fifo}: {}", ran.stderr);
    }
    // A regular one is obeyed, as by git.
    let sandbox = Sandbox::new("ignored-everywhere");
    sandbox.file("a.sh", "#!/bin/sh\necho hello\n").file(".git/HEAD", "ref: refs/heads/main\n");
    sandbox.file("../home/.gitconfig", "[core]\n\texcludesFile = ~/ignored\n").file("../home/ignored", "*.sh\n");
    assert_eq!(sandbox.apm(["run", "qa", "--dry-run"]).code, Some(4));
    sandbox.file(".gitignore", "!a.sh\n");
    assert_eq!(sandbox.apm(["run", "qa", "--dry-run"]).code, Some(0), "the repository has the last word");
}

/// Regression: without a repository every `.gitignore` up to `/` was obeyed, whoever had written it.
#[test]
fn what_is_ignored_outside_of_the_repository_is_not_ignored_here() {
    let sandbox = Sandbox::new("ignored-from-above");
    sandbox.file("above/.gitignore", "*\n");
    sandbox.file("above/own/a.sh", "#!/bin/sh\necho hello\n");
    let ran = sandbox.apm(["run", "qa", "--dry-run", "above/own"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    // In a repository a file above the folder is one of its own.
    sandbox.file("above/.git/HEAD", "ref: refs/heads/main\n");
    sandbox.file("above/.gitignore", "*.log\na.sh\n");
    sandbox.file("above/own/b.log", "");
    let ran = sandbox.apm(["run", "qa", "--dry-run", "above/own"]);
    assert_eq!(ran.code, Some(4), "{}", ran.stdout);
    // A folder that is ignored as a whole was named.
    sandbox.file("above/.gitignore", "own/\n");
    let ran = sandbox.apm(["run", "qa", "--dry-run", "above/own"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}
