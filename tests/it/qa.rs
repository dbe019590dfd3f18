//! `apm run qa` on small projects made here, with real tools and expectations written by hand. `tests/qa_by_hand` does
//! the same on real repositories.

use std::path::Path;

use serde_json::Value;

use crate::sandbox::{Ran, Sandbox, has_program, skip};

/// Checks by id with their state, and the findings as `file:line rule`.
fn outcome(report: &Value) -> (Vec<String>, Vec<String>) {
    let tasks = report["tasks"].as_array().expect("tasks");
    let states = tasks
        .iter()
        .map(|task| format!("{}: {}", task["id"].as_str().expect("id"), task["state"].as_str().expect("state")))
        .collect();
    let findings = tasks
        .iter()
        .flat_map(|task| task["results"]["findings"].as_array().cloned().unwrap_or_default())
        .map(|one| {
            format!(
                "{}:{} {}",
                one["file"].as_str().unwrap_or_default(),
                one["line"].as_u64().unwrap_or(0),
                one["rule"].as_str().expect("a rule")
            )
        })
        .collect();
    (states, findings)
}

fn tests_of(report: &Value, id: &str) -> Vec<String> {
    let tasks = report["tasks"].as_array().expect("tasks");
    let task = tasks.iter().find(|task| task["id"] == id).unwrap_or_else(|| panic!("{id}"));
    let tests = task["results"]["tests"].as_array().cloned().unwrap_or_default();
    let mut shown: Vec<String> = tests
        .iter()
        .map(|test| {
            format!(
                "{} {} {}",
                test["suite"].as_str().expect("a suite"),
                test["name"].as_str().expect("a name"),
                test["status"].as_str().expect("a status")
            )
        })
        .collect();
    shown.sort_unstable();
    shown
}

fn python(sandbox: &Sandbox) {
    sandbox
        .file("pyproject.toml", "[tool.ruff]\nline-length = 100\n[tool.mypy]\nfiles = ['pkg.py']\n")
        .file("pkg.py", "import os\n\n\ndef double(n: int) -> str:\n    return n * 2\n")
        .file("test_pkg.py", "from pkg import double\n\n\ndef test_good():\n    assert double(2) == 4\n\n\ndef test_bad():\n    assert double(2) == 5\n");
}

#[test]
fn a_python_project() {
    if !["ruff", "mypy", "pytest"].iter().all(|tool| has_program(tool)) {
        return;
    }
    let sandbox = Sandbox::new("python");
    python(&sandbox);
    sandbox.apm(["run", "qa"]).fails(1);
    let report = sandbox.report();
    let (states, findings) = outcome(&report);
    assert_eq!(states, ["ruff-format: passed", "ruff: failed", "mypy: failed", "pytest: failed"]);
    assert_eq!(findings, ["pkg.py:1 F401", "pkg.py:5 return-value"]);
    assert_eq!(tests_of(&report, "pytest"), ["test_pkg test_bad failed", "test_pkg test_good passed"]);
    // Fixers change files only when asked.
    assert!(sandbox.read("pkg.py").starts_with("import os"));
    sandbox.apm(["run", "qa", "--fix", "--only", "lint"]).good();
    assert!(!sandbox.read("pkg.py").contains("import os"));
}

#[test]
fn a_rust_project() {
    let sandbox = Sandbox::new("rust");
    sandbox
        .file("Cargo.toml", "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n")
        .file(
            "src/lib.rs",
            "/// Doubles.\n///\n/// ```\n/// assert_eq!(small::double(2), 4);\n/// ```\npub fn double(n: u32) -> u32 {\n    return n * 2;\n}\n\n#[test]\nfn good() {\n    assert_eq!(double(1), 2);\n}\n\n#[test]\nfn bad() {\n    assert_eq!(double(1), 3);\n}\n",
        )
        .file(".gitignore", "target\n");
    let ran = sandbox.apm(["run", "qa", "--skip", "audit"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    let warning =
        "passed clippy: 1 warning\n  src/lib.rs:7:5: warning: unneeded `return` statement [clippy::needless_return]\n";
    assert!(ran.stdout.contains(warning), "{}", ran.stdout);
    let report = sandbox.report();
    let (states, findings) = outcome(&report);
    let runner = if states.iter().any(|state| state.starts_with("nextest")) { "nextest" } else { "cargo-test" };
    assert!(states.contains(&"clippy: passed".to_owned()), "a warning fails nothing: {states:?}");
    assert!(states.contains(&format!("{runner}: failed")), "{states:?}");
    assert_eq!(findings, ["src/lib.rs:7 clippy::needless_return"]);
    let tests: Vec<String> = ["nextest", "cargo-test", "doctests"]
        .iter()
        .filter(|id| states.iter().any(|state| state.starts_with(&format!("{id}:"))))
        .flat_map(|id| tests_of(&report, id))
        .collect();
    assert_eq!(tests, ["small bad failed", "small good passed", "small (doc) src/lib.rs - double (line 3) passed"]);
    // Strict, the warning fails.
    let strict = sandbox.apm(["run", "qa", "--only", "clippy", "--strict"]);
    assert_eq!(strict.code, Some(1), "{}", strict.stdout);
    // What does not compile is found once, and is no broken tool.
    sandbox.file("src/lib.rs", "pub fn f() -> u32 {\n    \"x\"\n}\n");
    sandbox.apm(["run", "qa", "--only", "clippy"]).fails(1);
    assert_eq!(outcome(&sandbox.report()), (vec!["clippy: failed".to_owned()], vec!["src/lib.rs:2 E0308".to_owned()]));
}

#[test]
fn the_projects_own_configuration_of_nextest_is_no_obstacle() {
    if !has_program("cargo-nextest") {
        return;
    }
    let sandbox = Sandbox::new("nextest");
    sandbox
        .file("Cargo.toml", "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n")
        .file("src/lib.rs", "#[test]\nfn good() {}\n")
        .file(".config/nextest.toml", "[profile.default.junit]\npath = \"mine.xml\"\n")
        .file(".gitignore", "target\n");
    sandbox.apm(["run", "qa", "--only", "nextest"]).good();
    assert_eq!(tests_of(&sandbox.report(), "nextest"), ["small good passed"]);
    // What does not compile fails by its errors.
    sandbox.file("src/lib.rs", "#[test]\nfn good() {\n    let _: u32 = \"x\";\n}\n");
    sandbox.apm(["run", "qa", "--only", "nextest"]).fails(1);
    let expected = (vec!["nextest: failed".to_owned()], vec!["src/lib.rs:3 E0308".to_owned()]);
    assert_eq!(outcome(&sandbox.report()), expected);
}

#[test]
fn a_go_project() {
    if !has_program("go") {
        return;
    }
    let sandbox = Sandbox::new("go");
    sandbox
        .file("go.mod", "module example.com/m\n\ngo 1.19\n")
        .file("m.go", "package m\n\nimport \"fmt\"\n\nfunc F() { fmt.Printf(\"%d\\n\", \"x\") }\n")
        .file("bad.go", "package m\nfunc  G() {}\n")
        .file("m_test.go", "package m\n\nimport \"testing\"\n\nfunc TestGood(t *testing.T) { F() }\n\nfunc TestBad(t *testing.T) { t.Fatal(\"no\") }\n\nfunc TestLater(t *testing.T) { t.Skip(\"later\") }\n");
    sandbox.apm(["run", "qa"]).fails(1);
    let report = sandbox.report();
    let (states, findings) = outcome(&report);
    assert_eq!(states, ["gofmt: failed", "go-vet: failed", "go-build: passed", "go-test: failed"]);
    assert_eq!(findings[..2], ["bad.go:0 format", "m.go:5 printf"]);
    let tests = tests_of(&report, "go-test");
    // `go test` vets first: with this finding the tests of the package are not run at all.
    assert!(tests.is_empty() || tests == ["example.com/m (the package) error"] || tests.len() == 3, "{tests:?}");
    sandbox.file("m.go", "package m\n\nfunc F() {}\n");
    sandbox.apm(["run", "qa", "--only", "go-test"]).fails(1);
    let tests = tests_of(&sandbox.report(), "go-test");
    assert_eq!(
        tests,
        ["example.com/m TestBad failed", "example.com/m TestGood passed", "example.com/m TestLater skipped"]
    );
}

#[test]
fn scripts_and_yaml_of_the_whole_repository() {
    if !has_program("shellcheck") || !has_program("yamllint") {
        return;
    }
    let sandbox = Sandbox::new("files");
    sandbox
        .file("tool", "#!/usr/bin/env bash\necho $1\n")
        .file("ok.sh", "#!/bin/sh\necho fine\n")
        .file("-dash.sh", "#!/bin/sh\necho \"$1\"\n")
        .file("vendor/theirs.sh", "echo $1\n")
        .file("a.yaml", "a: 1\na: 2\n");
    sandbox.apm(["run", "qa"]).fails(1);
    let (states, findings) = outcome(&sandbox.report());
    assert_eq!(states, ["shellcheck: failed", "yamllint: failed"]);
    assert_eq!(findings, ["tool:2 SC2086", "a.yaml:2 key-duplicates"]);
}

#[test]
fn files_whose_names_are_not_utf_8_are_checked() {
    if !["shellcheck", "yamllint", "hadolint"].iter().all(|tool| has_program(tool)) {
        return;
    }
    let sandbox = Sandbox::new("names");
    for (file, text) in [
        (&b"caf\xe9.sh"[..], "#!/bin/sh\necho $1\n"),
        (b"caf\xe9.yaml", "a: 1\na: 2\n"),
        (b"Dockerfile.caf\xe9", "FROM x\n"),
    ] {
        let path = sandbox.work().join::<&std::ffi::OsStr>(std::os::unix::ffi::OsStrExt::from_bytes(file));
        std::fs::write(path, text).expect("written");
    }
    sandbox.apm(["run", "qa"]).fails(1);
    let (states, findings) = outcome(&sandbox.report());
    assert_eq!(states, ["shellcheck: failed", "hadolint: failed", "yamllint: failed"]);
    let ends = ["sh:2 SC2086", "\u{FFFD}:1 DL3006", "yaml:2 key-duplicates"];
    assert!(findings.iter().zip(ends).all(|(found, end)| found.ends_with(end)), "{findings:?}");
}

#[test]
fn several_projects_in_one_repository() {
    if !has_program("ruff") || !has_program("pytest") {
        return;
    }
    let sandbox = Sandbox::new("mono");
    for folder in ["one", "deep/two"] {
        sandbox
            .file(&format!("{folder}/pyproject.toml"), "[project]\nname = 'x'\n")
            .file(&format!("{folder}/test_x.py"), "def test_x():\n    pass\n");
    }
    // Material of tests is no project.
    sandbox.file("one/tests/fixtures/pyproject.toml", "[project]\n").file("one/tests/fixtures/broken.py", "def (\n");
    sandbox.file(".gitignore", "ignored\n").file("ignored/setup.py", "x\n");
    sandbox.apm(["run", "qa", "--skip", "ruff"]).good();
    let (states, _) = outcome(&sandbox.report());
    let tests: Vec<&str> = states.iter().map(String::as_str).filter(|state| state.starts_with("pytest")).collect();
    assert_eq!(tests, ["pytest (deep/two): passed", "pytest (one): passed"]);
    // From inside a project the whole repository is meant; a folder that is named is taken as it is.
    let mut command = sandbox.command(["run", "qa", "one", "--only", "tests", "--dry-run"]);
    command.current_dir(sandbox.work());
    assert!(Ran::of(command).good().starts_with("pytest: pytest -q"));
}

#[test]
fn own_targets_stand_back_for_tools_that_look_at_the_same() {
    if !has_program("make") {
        return;
    }
    let sandbox = Sandbox::new("targets");
    sandbox.file("Makefile", "test:\n\t@echo tested; exit 1\nlint:\n\t@echo linted\ninstall:\n\ttouch installed\n");
    sandbox.apm(["run", "qa"]).fails(1);
    assert_eq!(outcome(&sandbox.report()).0, ["make lint: passed", "make test: failed"]);
    assert!(!sandbox.has("installed"));
    if has_program("pytest") && has_program("ruff") {
        sandbox.file("pyproject.toml", "").file("test_a.py", "def test_a():\n    pass\n");
        // The environment of the project goes before its targets, and those before any other pytest.
        sandbox.file(".venv/pyvenv.cfg", "").file(".venv/bin/pytest", "#!/bin/sh\nexec pytest \"$@\"\n");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(sandbox.work().join(".venv/bin/pytest"), mode).expect("a mode");
        sandbox.apm(["run", "qa"]).good();
        let states = outcome(&sandbox.report()).0;
        assert!(
            states.contains(&"make test: skipped".to_owned()) && states.contains(&"pytest: passed".to_owned()),
            "{states:?}"
        );
        sandbox.apm(["run", "qa", "--only", "make"]).fails(1);
    }
}

#[test]
fn each_file_is_checked_once_by_the_nearest_configuration() {
    if !["ruff", "mypy", "pytest", "flake8", "black"].iter().all(|tool| has_program(tool)) {
        return;
    }
    let sandbox = Sandbox::new("nested");
    let python = "import os\nx: int = 'a'\n";
    for folder in ["", "deep/two/", "deep/two/three/"] {
        let name = folder.replace('/', "_");
        let config = "[tool.ruff.lint]\nselect = ['F']\n[tool.black]\n[tool.mypy]\n[tool.pytest.ini_options]\n";
        sandbox
            .file(&format!("{folder}pyproject.toml"), config)
            .file(&format!("{folder}{name}m.py"), python)
            .file(&format!("{folder}test_{name}.py"), "def test_x():\n    pass\n");
    }
    let state = |task: &Value| {
        let results = &task["results"];
        let count = |key: &str| results[key].as_array().map_or(0, Vec::len);
        format!("{}: {} {}", task["id"].as_str().expect("an id"), count("findings"), count("tests"))
    };
    let states = |args: &[&str]| {
        sandbox.apm(["run", "qa"].iter().chain(args)).fails(1);
        let report = sandbox.report();
        report["tasks"].as_array().expect("tasks").iter().map(state).collect::<Vec<_>>()
    };
    let each = |tool: &str, counts: &str| {
        ["", " (deep/two)", " (deep/two/three)"].map(|folder| format!("{tool}{folder}: {counts}"))
    };
    let expected = [each("black", "1 0"), each("ruff", "1 0"), each("mypy", "1 0"), each("pytest", "0 1")].concat();
    let mut found = states(&[]);
    found.sort_by_key(|line| expected.iter().position(|one| one == line));
    assert_eq!(found, expected);
    for folder in ["", "deep/two/", "deep/two/three/"] {
        sandbox
            .file(&format!("{folder}pyproject.toml"), "")
            .file(&format!("{folder}.flake8"), "[flake8]\nselect = F\n");
    }
    assert_eq!(states(&["--only", "flake8"]), each("flake8", "1 0"));
}

/// A PATH with these programs of the machine and nothing else.
fn path_with(sandbox: &Sandbox, programs: &[&str]) -> std::path::PathBuf {
    let folder = sandbox.work().parent().expect("root").join("bin");
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = std::env::var_os("PATH").expect("PATH");
    for program in programs {
        let real = std::env::split_paths(&path)
            .map(|dir| dir.join(program))
            .find(|path| path.is_file())
            .unwrap_or_else(|| panic!("{program}"));
        // Not a copy: some programs look at where they are.
        if std::fs::symlink_metadata(folder.join(program)).is_err() {
            std::os::unix::fs::symlink(real, folder.join(program)).expect("a link");
        }
    }
    folder
}

fn script(path: &Path, text: &str) {
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("executable");
}

#[test]
fn missing_and_broken_tools_are_no_findings() {
    let sandbox = Sandbox::new("tools");
    python(&sandbox);
    let bin = path_with(&sandbox, &["sh", "cat"]);
    let run = |args: &[&str]| {
        let mut command = sandbox.command(["run", "qa"].iter().chain(args));
        command.env("PATH", &bin);
        Ran::of(command)
    };
    let ran = run(&[]);
    assert_eq!(ran.code, Some(3), "nothing could be checked: {}", ran.stdout);
    assert!(ran.stdout.contains("`pytest` is not installed; `pip install pytest` installs it"), "{}", ran.stdout);
    assert_eq!(run(&["--strict"]).code, Some(3), "strict: a gap is a gap");
    // A tool that dies, one that prints something else, one that finds nothing and yet says no.
    script(&bin.join("ruff"), "#!/bin/sh\necho 'Segmentation fault' >&2; kill -11 $$\n");
    script(&bin.join("mypy"), "#!/bin/sh\necho 'not json'; exit 1\n");
    script(&bin.join("pytest"), "#!/bin/sh\necho 'INTERNALERROR> boom' >&2; exit 3\n");
    let ran = run(&["--skip", "format"]);
    let (states, findings) = outcome(&sandbox.report());
    assert_eq!(states, ["ruff-format: skipped", "ruff: failed", "mypy: broken", "pytest: broken"], "{}", ran.stdout);
    assert_eq!(findings, [] as [String; 0]);
    assert!(ran.stdout.contains("INTERNALERROR> boom") && ran.stdout.contains("ended by signal 11"), "{}", ran.stdout);
    // No network.
    sandbox.file("requirements.txt", "x==1\n");
    script(
        &bin.join("pip-audit"),
        "#!/bin/sh\necho 'ConnectionError: Temporary failure in name resolution' >&2; exit 1\n",
    );
    let ran = run(&["--only", "audit"]);
    assert_eq!(ran.code, Some(3), "nothing could be checked");
    assert!(ran.stdout.contains("no network: connectionerror"), "{}", ran.stdout);
}

#[test]
fn only_and_skip_take_categories_tools_toolchains_and_ids() {
    let sandbox = Sandbox::new("only");
    python(&sandbox);
    let planned = |args: &[&str]| {
        let text = sandbox.apm(["run", "qa", "--dry-run", "--format", "json"].iter().chain(args)).good();
        let plan: Value = serde_json::from_str(&text).expect("JSON");
        let tasks = plan["tasks"].as_array().expect("tasks").clone();
        let open = tasks.iter().filter(|task| task["skip"].get("deselected").is_none());
        open.map(|task| task["id"].as_str().expect("id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(planned(&[]), ["ruff-format", "ruff", "mypy", "pytest"]);
    assert_eq!(planned(&["--only", "types,pytest"]), ["mypy", "pytest"]);
    assert_eq!(planned(&["--skip", "python"]), [] as [&str; 0]);
    assert_eq!(planned(&["--set", "qa.only=lint"]), ["ruff"]);
    assert_eq!(planned(&["--set", "qa.skip=lint,format"]), ["mypy", "pytest"]);
    let error = sandbox.apm(["run", "qa", "--only", "pytset"]).fails(2);
    assert!(error.contains("--only pytset: no category") && error.contains("did you mean `pytest`?"), "{error}");
}

#[test]
fn the_configuration_can_make_qa_strict_and_fail_fast() {
    if !has_program("shellcheck") {
        return;
    }
    let sandbox = Sandbox::new("strict");
    // A warning of a tool whose own exit code is 0 with it.
    sandbox
        .file(".shellcheckrc", "severity=style\n")
        .file("x.sh", "#!/bin/sh\necho fine\n")
        .file("requirements.txt", "x==1\n");
    let bin = path_with(&sandbox, &["sh", "shellcheck"]);
    let run = |set: &str| {
        let mut command = sandbox.command(["run", "qa", "--set", set]);
        command.env("PATH", &bin);
        Ran::of(command).code
    };
    assert_eq!((run("qa.strict=true"), run("qa.strict=false")), (Some(3), Some(0)), "pip-audit is missing");
    let sandbox = Sandbox::new("fast");
    sandbox.file("Makefile", "lint:\n\t@exit 1\ntest:\n\t@sleep 0.2; touch tested\n");
    sandbox.apm(["run", "qa", "-j1", "--set", "qa.fail_fast=true"]).fails(1);
    assert_eq!(outcome(&sandbox.report()).0, ["make lint: failed", "make test: cancelled"]);
    sandbox.apm(["run", "qa", "-j1", "--set", "qa.fail_fast=false"]).fails(1);
    assert_eq!(outcome(&sandbox.report()).0, ["make lint: failed", "make test: passed"]);
}

#[test]
fn checks_leave_nothing_in_the_tree_and_change_nothing() {
    if !has_program("ruff") || !has_program("pytest") {
        return;
    }
    let sandbox = Sandbox::new("tidy");
    sandbox
        .file(
            "pyproject.toml",
            "[tool.ruff]\nfix = true\n[tool.pytest.ini_options]\naddopts = '--ff'\ncache_dir = 'mine'\n",
        )
        .file("a.py", "import os\n")
        .file("test_a.py", "def test_a(cache):\n    cache.set('a', 1)\n");
    sandbox.apm(["run", "qa", "--only", "ruff,pytest"]).fails(1);
    assert_eq!(outcome(&sandbox.report()).0, ["ruff: failed", "pytest: passed"]);
    assert_eq!(sandbox.read("a.py"), "import os\n");
    assert!(!sandbox.has("mine") && !sandbox.has(".pytest_cache") && !sandbox.has(".ruff_cache"));
}

#[test]
fn git_sees_the_same_before_and_after_checks_and_fixers_that_change_nothing() {
    if !["git", "ruff", "black", "flake8", "mypy", "pytest"].iter().all(|tool| has_program(tool)) {
        return;
    }
    let sandbox = Sandbox::new("status");
    sandbox
        .file("pyproject.toml", "[tool.ruff.format]\n[tool.ruff.lint]\nselect = ['F']\n[tool.black]\n[tool.mypy]\n")
        .file("old/pyproject.toml", "")
        .file("old/.flake8", "[flake8]\n")
        .file("old/a.py", "X = 1\n")
        .file("src/pkg/__init__.py", "X = 1\n")
        .file("tests/test_a.py", "from pkg import X\n\n\ndef test_a():\n    assert X\n");
    let git = |args: &[&str]| Ran::of(sandbox.program("git", args)).good();
    git(&["init", "-q"]);
    let status = || git(&["status", "--porcelain", "--ignored", "-uall"]);
    let before = status();
    sandbox.apm(["run", "qa", "--fix"]).good();
    let states = outcome(&sandbox.report()).0;
    let checks = ["ruff: passed", "black: passed", "ruff-format: passed", "mypy: passed", "flake8 (old): passed"];
    assert!(checks.iter().all(|check| states.iter().any(|state| state == check)), "{states:?}");
    assert!(states.contains(&"pytest: passed".to_owned()), "{states:?}");
    assert_eq!(status(), before);
    // What the project says of its cache holds.
    sandbox.file("pyproject.toml", "[tool.mypy]\ncache_dir = 'mine'\n").apm(["run", "qa", "--only", "mypy"]).good();
    assert!(sandbox.has("mine"));
}

#[test]
fn caches_go_elsewhere_where_the_home_cannot_be_written() {
    if !has_program("mypy") {
        return;
    }
    let sandbox = Sandbox::new("nohome");
    sandbox.file("mypy.ini", "[mypy]\n").file("a.py", "X = 1\n");
    let mut command = sandbox.command(["run", "qa", "--only", "mypy"]);
    command.env("HOME", "/proc/nowhere").env("TMPDIR", sandbox.work().parent().expect("root"));
    Ran::of(command).good();
    assert_eq!(outcome(&sandbox.report()).0, ["mypy: passed"]);
}

#[test]
fn a_target_that_calls_a_missing_program_is_broken() {
    if !has_program("make") {
        return;
    }
    let sandbox = Sandbox::new("missing");
    sandbox.file("Makefile", "build:\n\tno-such-program-here x\nlint:\n\t@no-such-program-here 2>/dev/null; exit 1\n");
    sandbox.apm(["run", "qa"]).fails(1);
    assert_eq!(outcome(&sandbox.report()).0, ["make lint: failed", "make build: broken"]);
}

#[test]
fn an_index_of_git_that_cannot_be_read_is_said() {
    let sandbox = Sandbox::new("index");
    sandbox.file("Makefile", "lint:\n\t@true\n").file(".git/index", b"DIRC\0\0\0\x09");
    let ran = sandbox.apm(["run", "qa"]);
    assert!(ran.stdout.contains("the index of git cannot be read"), "{}\n{}", ran.stdout, ran.stderr);
}

#[test]
fn nothing_to_check_is_said() {
    let sandbox = Sandbox::new("empty");
    let error = sandbox.apm(["run", "qa"]).fails(4);
    assert!(error.contains("nothing to check") && error.contains("hint"), "{error}");
    let error = sandbox.apm(["run", "qa", "nowhere"]).fails(2);
    assert!(error.contains("open the folder `nowhere`"), "{error}");
}

/// Without a repository the folder stood for itself: what is configured above it was lost.
#[test]
fn a_folder_of_a_project_is_checked_as_a_part_of_it() {
    let sandbox = Sandbox::new("part");
    sandbox.file("pyproject.toml", "[tool.ruff.format]\n").file("tests/test_a.py", "x = 1\n");
    let planned = |dir: &str| sandbox.apm(["run", "qa", dir, "--dry-run", "--only", "format,lint"]).good();
    for git in [false, true] {
        if git {
            sandbox.file(".git/HEAD", "ref: refs/heads/main\n");
        }
        let tests = planned("tests");
        assert!(
            tests.contains("ruff-format") && tests.contains("`pyproject.toml` mentions `[tool.ruff.format]`"),
            "{tests}"
        );
    }
}

/// A test file that cannot be loaded: node's JUnit says `test failed`, the reason is only on its standard output.
#[test]
fn a_file_of_node_tests_that_cannot_be_loaded_shows_why() {
    if !has_program("node") {
        return skip("`node` is not installed");
    }
    let sandbox = Sandbox::new("node-load");
    sandbox.file("package.json", r#"{"name":"x","scripts":{"test":"node --test"}}"#);
    sandbox.file("test/a.test.js", "require('node:test')('a', () => {});\n");
    sandbox.file("test/b.test.js", "require('./missing.js');\n");
    let Ran { code, stdout, .. } = sandbox.apm(["run", "qa", "--only", "node-test"]);
    assert_eq!(code, Some(1), "{stdout}");
    assert!(stdout.contains("Error: Cannot find module './missing.js'"), "{stdout}");
    assert!(stdout.contains("1 of 2 tests passed"), "{stdout}");
}
