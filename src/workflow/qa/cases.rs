//! What is planned for which files.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::facts::Facts;
use super::{Wanted, plan};
use crate::model::task::{Run, Task};
use crate::report::text::explain_skip;
use crate::sys::owner::Owners;

/// A repository of these files; a file below `bin/` is a program that can be called.
struct Repository {
    root: PathBuf,
}

impl Drop for Repository {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn repository(files: &[(&str, &str)]) -> Repository {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let root = std::env::temp_dir().join(format!("apm-qa-{}-{number}", std::process::id()));
    for (file, text) in files {
        let file = if file.starts_with("bin/") { (*file).to_owned() } else { format!("work/{file}") };
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    }
    Repository { root }
}

fn planned(repository: &Repository, wanted: &Wanted) -> Vec<Task> {
    plan(&facts(repository), wanted).expect("a plan").tasks
}

fn facts(repository: &Repository) -> Facts {
    let programs = repository.root.join("bin").into();
    Facts::read(&repository.root.join("work"), programs, Owners::these([]), None).expect("facts")
}

/// What is planned for these files: id, and the words that are called or why nothing is.
fn lines(files: &[(&str, &str)], wanted: &Wanted) -> Vec<String> {
    let repository = repository(files);
    let line = |task: &Task| match (&task.skip, &task.run) {
        (Some(skip), _) => format!("{}: {}", task.id, explain_skip(skip)),
        (None, Run::Argv(words)) => {
            let words: Vec<String> = words.iter().map(|word| word.to_text().into_owned()).collect();
            format!("{}: {}", task.id, words.join(" "))
        }
        (None, run) => format!("{}: {run:?}", task.id),
    };
    planned(&repository, wanted).iter().map(line).collect()
}

fn only(word: &str) -> Wanted {
    Wanted { only: vec![word.to_owned()], ..Wanted::default() }
}

/// A check of `tests` alone lost what is configured above it.
#[test]
fn a_folder_of_a_repository_is_checked_by_the_configuration_above() {
    let files = [
        ("pyproject.toml", "[tool.ruff]\n[tool.mypy]\nfiles = ['src']\n"),
        ("Cargo.toml", "[package]\nname = 'x'\n"),
        ("Cargo.lock", ""),
        ("Makefile", "test:\n"),
        ("src/a.py", ""),
        ("src/lib.rs", ""),
        ("src/run.sh", ""),
        ("tests/test_a.py", ""),
        ("tests/run.sh", ""),
        ("bin/ruff", ""),
        ("bin/mypy", ""),
        ("bin/pytest", ""),
        ("bin/cargo", ""),
        ("bin/make", ""),
        ("bin/shellcheck", ""),
    ];
    let check = |within: &str, name: &str| {
        lines(&files, &Wanted { within: within.to_owned(), ..only(name) }).join("; ").replace("{results}", "R")
    };
    assert_eq!(check("tests", "ruff"), "ruff: ruff check --no-fix --no-cache --output-format json ./tests");
    assert_eq!(check("tests", "pytest"), "pytest: pytest -q --junitxml=R/junit.xml -o cache_dir=R/cache ./tests");
    assert_eq!(check("src", "pytest"), "");
    assert_eq!(check("src", "mypy"), "mypy: mypy --output json --no-error-summary ./src");
    assert_eq!(check("tests", "shellcheck"), "shellcheck: shellcheck -f json1 tests/run.sh");
    // What cannot be told a folder looks at the whole project, where the folder has something of it.
    assert_eq!(check("src", "cargo-build"), "cargo-build: cargo build --locked --workspace --message-format=json");
    assert_eq!(check("tests", "cargo-build"), "");
    assert_eq!(check("src", "make"), "make test: left out by `src`: it looks at all of the project");
    let repository = repository(&files);
    let facts = Facts::read(&repository.root.join("work"), "".into(), Owners::these([]), None).expect("facts");
    assert!(super::has_checks_within(&facts, "tests") && !super::has_checks_within(&facts, "docs"));
}

#[test]
fn a_check_does_not_write_over_a_lock_file() {
    let build = |lock: &[(&str, &str)]| {
        let files: Vec<_> = [("Cargo.toml", ""), ("bin/cargo", "")].iter().chain(lock).copied().collect();
        lines(&files, &only("cargo-build")).join("")
    };
    assert_eq!(build(&[]), "cargo-build: cargo build --workspace --message-format=json");
    let locked = "cargo-build: cargo build --locked --workspace --message-format=json";
    assert_eq!(build(&[("Cargo.lock", "")]), locked);
}

/// Tools that are given a folder walked into them.
#[test]
fn repositories_inside_the_repository_are_left_out() {
    let files = [
        (".git/HEAD", "ref: refs/heads/main\n"),
        ("pyproject.toml", "[tool.ruff]\n"),
        ("a.py", ""),
        ("wt2/.git", "gitdir: /x\n"),
        ("wt2/b.py", ""),
        ("deps/own/.git/HEAD", ""),
        ("deps/own/c.py", ""),
        ("bin/ruff", ""),
    ];
    let expected = "ruff: ruff check --no-fix --no-cache --output-format json --extend-exclude=./deps/own --extend-exclude=./wt2 .";
    assert_eq!(lines(&files, &only("ruff")), [expected]);
}

#[test]
fn many_shell_scripts_are_several_checks_and_each_script_is_a_call() {
    let names: Vec<String> = (0..25).map(|at| format!("s{at:02}.sh")).collect();
    let files: Vec<(&str, &str)> =
        names.iter().map(|name| (name.as_str(), "")).chain([("bin/shellcheck", "")]).collect();
    let ids: Vec<String> = lines(&files, &Wanted::default())
        .iter()
        .filter_map(|line| Some(format!("{} {}", line.split_once(':')?.0, line.matches(".sh").count())))
        .collect();
    assert_eq!(ids, ["shellcheck 1 10", "shellcheck 2 10", "shellcheck 3 5"]);
}

#[test]
fn a_solution_of_typescript_projects_is_built_without_output() {
    const PACKAGE: (&str, &str) = ("package.json", r#"{"devDependencies":{"typescript":"5"}}"#);
    const TSC: (&str, &str) = ("bin/tsc", "");
    let check = |config: &str, version: &str| {
        let installed = format!("{{\"version\":\"{version}\"}}");
        let files =
            [PACKAGE, TSC, ("tsconfig.json", config), ("node_modules/typescript/package.json", installed.as_str())];
        // The digest of a folder for builds is that of a random name.
        let words = lines(&files, &only("tsc")).join("\n");
        words
            .split(' ')
            .map(|word| if word.ends_with("/tsbuildinfo") { "INFO" } else { word })
            .collect::<Vec<_>>()
            .join(" ")
    };
    let solution = "{\n  // \"references\" below\n  \"files\": [],\n  \"references\": [{ \"path\": \"./app\" }]\n}";
    assert_eq!(check(solution, "5.6.3"), "tsc: tsc -b --noEmit --pretty false");
    assert_eq!(
        check(solution, "5.5.4"),
        "tsc: `TypeScript 5.6` is not installed; older ones check no `references` without writing output"
    );
    let own_files = "{\"include\": [\"src\"], \"references\": [{\"path\": \"./node\"}]}";
    let one = "tsc: tsc --noEmit --incremental --tsBuildInfoFile INFO --pretty false";
    assert_eq!(check(own_files, "5.5.4"), one);
    assert_eq!(check("{}", "3.9.1"), "tsc: tsc --noEmit --pretty false");
    for config in ["{}", "{\"references\": []}", "{\n  // \"references\": [{}],\n}"] {
        assert_eq!(check(config, "5.9.3"), one, "{config}");
    }
    // Both were built without output, which fails by TS6310 in each version.
    let chained = "tsc: left out by default: its projects refer to each other, which tsc checks only where it may write \
                   output (TS6310); the project's own build does";
    assert_eq!(check(own_files, "5.9.3"), chained);
    let leaf = ("web/tsconfig.json", "{}");
    let node = ("node/tsconfig.json", r#"{"references":[{"path":"../web"}]}"#);
    let root = ("tsconfig.json", r#"{"files":[],"references":[{"path":"web"},{"path":"node/tsconfig.json"}]}"#);
    assert_eq!(lines(&[PACKAGE, TSC, root, leaf, node], &only("tsc"))[0], chained);
    let apart = ("node/tsconfig.json", "{}");
    assert_eq!(lines(&[PACKAGE, TSC, root, leaf, apart], &only("tsc"))[0], "tsc: tsc -b --noEmit --pretty false");
    // A folder without its own configuration would check nothing but the empty list of the one above.
    let below = [PACKAGE, TSC, ("tsconfig.json", solution), ("web/package.json", PACKAGE.1)];
    assert_eq!(lines(&below, &only("tsc")), ["tsc: tsc -b --noEmit --pretty false"]);
}

#[test]
fn ruff_formats_where_black_does_not() {
    let check = |files: &[(&str, &str)]| {
        let files: Vec<_> = [("bin/ruff", ""), ("bin/black", "")].iter().chain(files).copied().collect();
        lines(&files, &only("format")).iter().filter_map(|line| line.split(':').next()).collect::<Vec<_>>().join(" ")
    };
    let project = |text| ("pyproject.toml", text);
    let hook = (".pre-commit-config.yaml", "repos:\n- repo: x\n  hooks:\n  - id: black\n");
    assert_eq!(check(&[project("[tool.ruff]\n")]), "ruff-format");
    assert_eq!(check(&[project("[tool.ruff]\n[tool.black]\n")]), "black");
    assert_eq!(check(&[project("[tool.ruff.lint]\n"), hook]), "");
    assert_eq!(check(&[project(""), ("ruff.toml", ""), hook]), "");
    assert_eq!(check(&[project(""), ("ruff.toml", "[format]\n"), hook]), "ruff-format");
    assert_eq!(check(&[project("[tool.ruff.format]\n"), hook]), "ruff-format");
}

#[test]
fn a_check_that_is_selected_brings_what_it_needs() {
    let files = [
        ("CMakeLists.txt", "enable_testing()\n"),
        ("a.c", ""),
        ("bin/cmake", ""),
        ("bin/ctest", ""),
        ("bin/cppcheck", ""),
    ];
    let repository = repository(&files);
    let check = |wanted: &Wanted| {
        let tasks = planned(&repository, wanted);
        tasks.iter().map(|task| format!("{}: {}", task.id, task.reason.unescaped())).collect::<Vec<_>>()
    };
    let tests = only("tests");
    assert_eq!(check(&tests), ["cmake: `ctest` needs it", "ctest: `CMakeLists.txt` mentions `enable_testing`"]);
    assert_eq!(check(&only("cmake")), ["cmake: `CMakeLists.txt` is here"]);
    assert_eq!(check(&only("lint")), ["cppcheck: `CMakeLists.txt` is here"]);
    assert_eq!(planned(&repository, &tests)[1].needs, [planned(&repository, &tests)[0].id.clone()]);
}

#[test]
fn a_file_at_the_root_is_none_in_a_folder_below() {
    let files = [
        ("pyproject.toml", ""),
        ("requirements.txt", "x==1\n"),
        ("lib/pyproject.toml", ""),
        ("package.json", "{}"),
        ("package-lock.json", "{}"),
        ("web/package.json", "{}"),
        ("go.mod", ""),
        ("go.sum", ""),
        ("tool/go.mod", ""),
        ("bin/pip-audit", ""),
        ("bin/npm", ""),
        ("bin/govulncheck", ""),
    ];
    assert_eq!(
        lines(&files, &only("audit")),
        [
            "pip-audit: pip-audit -f json -r requirements.txt",
            "npm-audit: npm audit --json",
            "govulncheck: govulncheck ./..."
        ]
    );
}

#[test]
fn pre_commit_changes_files_only_when_asked() {
    let files = [(".pre-commit-config.yaml", "repos: []\n"), ("bin/pre-commit", "")];
    let check = |wanted: &Wanted| {
        let all = lines(&files, wanted);
        all.into_iter().filter(|line| line.starts_with("pre-commit")).collect::<Vec<_>>()
    };
    let left_out =
        "pre-commit --all-files: left out by default: it changes files; `--fix` or `--only pre-commit` runs it";
    assert_eq!(check(&Wanted::default()), [left_out]);
    assert_eq!(check(&only("lint")), [left_out]);
    let run = "pre-commit run --all-files";
    assert_eq!(check(&only("pre-commit")), [format!("pre-commit --all-files: {run}")]);
    assert_eq!(
        check(&Wanted { fix: true, ..Wanted::default() }),
        [format!("pre-commit --all-files --fix: {run}"), format!("pre-commit --all-files: {run}")]
    );
}

#[test]
fn own_targets_stand_back_only_for_tools_of_their_kind_that_run() {
    const FILES: [(&str, &str); 10] = [
        ("a.yaml", ""),
        ("Makefile", "lint:\ntest:\n"),
        ("package.json", r#"{"scripts":{"test":"node a.js"}}"#),
        ("node_modules/x/y", ""),
        (".pre-commit-config.yaml", "repos: []\n"),
        ("bin/yamllint", ""),
        ("bin/make", ""),
        ("bin/npm", ""),
        ("bin/pre-commit", ""),
        ("bin/ruff", ""),
    ];
    let open = |more: &[(&str, &str)], wanted: &Wanted| {
        let files: Vec<_> = FILES.iter().chain(more).copied().collect();
        let tasks = planned(&repository(&files), wanted);
        let open = tasks.iter().filter(|task| task.skip.is_none()).map(|task| task.id.as_str().to_owned());
        open.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(open(&[], &Wanted::default()), "yamllint, make lint, make test, npm test");
    let python = [("pyproject.toml", ""), ("a.py", ""), ("test_a.py", ""), ("bin/pytest", "")];
    assert_eq!(open(&python, &Wanted::default()), "ruff, yamllint, pytest, npm test");
    let skip = Wanted { skip: vec!["ruff".to_owned(), "pytest".to_owned()], ..Wanted::default() };
    assert_eq!(open(&python, &skip), "yamllint, make lint, make test, npm test");
    let fix = Wanted { fix: true, ..Wanted::default() };
    assert!(open(&python, &fix).contains("pre-commit --all-files --fix"));
}

#[test]
fn documents_are_made_only_when_named() {
    let files = [("Makefile", "docs:\ntest:\n"), ("bin/make", "")];
    let left_out = "make docs: left out by default: it may write over tracked files; `--only docs` runs it";
    assert_eq!(lines(&files, &Wanted::default()), ["make test: make test", left_out]);
    assert_eq!(lines(&files, &only("make")), ["make test: make test", left_out]);
    assert_eq!(lines(&files, &only("docs")), ["make docs: make docs"]);
    assert_eq!(lines(&files, &only("make docs")), ["make docs: make docs"]);
}

#[test]
fn linters_fix_before_formatters_and_ruff_changes_nothing_without_being_asked() {
    let files = [("pyproject.toml", "[tool.ruff]\nfix = true\n"), ("a.py", ""), ("bin/ruff", "")];
    let fix = Wanted { fix: true, ..Wanted::default() };
    assert_eq!(
        lines(&files, &fix),
        [
            "ruff --fix: ruff check --fix --exit-zero --no-cache .",
            "ruff-format --fix: ruff format --no-cache .",
            "ruff-format: ruff format --check --no-cache .",
            "ruff: ruff check --no-fix --no-cache --output-format json ."
        ]
    );
}

/// The ids of what is planned to run.
fn ids(files: &[(&str, &str)]) -> String {
    let tasks = planned(&repository(files), &Wanted::default());
    tasks.iter().map(|task| task.id.as_str().to_owned()).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_configuration_at_the_root_makes_one_run_at_the_root() {
    let mut files = vec![
        ("pyproject.toml", "[tool.pytest.ini_options]\n"),
        ("ruff.toml", ""),
        ("mypy.ini", ""),
        ("one/pyproject.toml", ""),
        ("one/test_a.py", ""),
        ("two/pyproject.toml", "[tool.ruff]\n"),
        ("two/b.py", ""),
    ];
    assert_eq!(ids(&files), "ruff-format, ruff-format (two), ruff, ruff (two), mypy, pytest");
    // pytest at the root goes nowhere else then.
    files[0].1 = "[tool.pytest.ini_options]\ntestpaths = ['x']\n";
    assert!(ids(&files).ends_with("mypy, pytest, pytest (one)"));
    let node = [
        ("package.json", r#"{"workspaces":["web"],"devDependencies":{"typescript":"5","vitest":"2"}}"#),
        ("package-lock.json", "{}"),
        (".prettierrc", ""),
        ("eslint.config.js", ""),
        ("tsconfig.json", "{}"),
        ("web/package.json", r#"{"devDependencies":{"typescript":"5","vitest":"2"}}"#),
        ("own/package.json", r#"{"devDependencies":{"vitest":"2"}}"#),
        ("own/vitest.config.ts", ""),
        ("bin/npm", ""),
    ];
    assert_eq!(ids(&node), "prettier, eslint, tsc, vitest, vitest (own), npm-audit");
    // Without a project at the root there is no run at the root.
    assert_eq!(ids(&node[2..6]), "prettier (web), eslint (web), tsc (web), vitest (web)");
}

/// They were checked twice, by the run above with the wrong configuration.
#[test]
fn the_run_above_leaves_out_folders_with_a_configuration_of_their_own() {
    let config = "[tool.ruff]\n[tool.mypy]\n[tool.black]\n[tool.pytest.ini_options]\n";
    let mut files = vec![
        ("pyproject.toml", config),
        ("a.py", ""),
        ("x/y+z/pyproject.toml", config),
        ("x/y+z/b.py", ""),
        ("hooks/pyproject.toml", ""),
        ("hooks/conftest.py", ""),
        ("hooks/test_c.py", ""),
        ("bin/ruff", ""),
        ("bin/mypy", ""),
        ("bin/black", ""),
        ("bin/pytest", ""),
    ];
    let with_own_below = |files: &[(&str, &str)], wanted: &Wanted| {
        lines(files, wanted).into_iter().filter(|line| line.contains("=")).collect::<Vec<_>>().join("\n")
    };
    let expected = "\
black: black --check --force-exclude=^/(x/y\\+z)/ .
ruff: ruff check --no-fix --no-cache --output-format json --extend-exclude=./x/y+z .
mypy: mypy --output json --no-error-summary --exclude=^x/y\\+z/ .
pytest: pytest -q --junitxml={results}/junit.xml -o cache_dir={results}/cache --ignore=x/y+z
pytest (x/y+z): pytest -q --junitxml={results}/junit.xml -o cache_dir={results}/cache";
    assert_eq!(with_own_below(&files, &Wanted::default()), expected);
    files[0].1 = "[tool.black]\nforce-exclude = 'x'\n";
    assert_eq!(with_own_below(&files, &only("black")), "");
}

#[test]
fn tools_of_node_leave_out_what_has_a_configuration_of_its_own() {
    const PACKAGE: &str = r#"{"devDependencies":{"vitest":"4","jest":"30"}}"#;
    let files = [
        ("package.json", PACKAGE),
        (".prettierrc", ""),
        ("eslint.config.js", ""),
        ("own/package.json", PACKAGE),
        ("own/.prettierrc", ""),
        ("own/eslint.config.js", ""),
        ("own/vitest.config.ts", ""),
        ("own/jest.config.js", ""),
        ("bin/prettier", ""),
        ("bin/eslint", ""),
        ("bin/vitest", ""),
        ("bin/jest", ""),
    ];
    let all = lines(&files, &Wanted::default());
    let above: Vec<&str> = all.iter().filter(|line| !line.contains(" (own)")).map(String::as_str).collect();
    assert_eq!(all.len(), 8, "{all:?}");
    let expected = [
        "prettier: prettier --list-different . !own/**",
        "eslint: eslint -f json --ignore-pattern=own/** .",
        "vitest: vitest run --reporter=junit --outputFile={results}/junit.xml --exclude=own/**",
        "jest: jest --json --outputFile={results}/jest.json --modulePathIgnorePatterns=<rootDir>/own/",
    ];
    assert_eq!(above, expected);
}

#[test]
fn manifests_of_tests_samples_and_demos_make_no_projects() {
    let files = [
        ("package.json", "{}"),
        (".prettierrc", ""),
        ("tests/app/package.json", "{}"),
        ("tests/requirements.txt", ""),
        ("demo-app/Cargo.toml", ""),
        ("samples/go.mod", ""),
        ("fuzz/Cargo.toml", "[package.metadata]\ncargo-fuzz = true\n"),
    ];
    assert_eq!(ids(&files), "prettier");
}

#[test]
fn python_without_a_manifest_is_python() {
    for name in ["pytest.ini", "conftest.py", "ruff.toml", "noxfile.py", "Pipfile", ".flake8", "mypy.ini"] {
        assert!(ids(&[(name, ""), ("src/a.py", "")]).contains("ruff") || name == ".flake8", "{name}");
    }
    assert_eq!(ids(&[(".flake8", ""), ("a.py", "")]), "flake8");
    assert_eq!(ids(&[("a.py", ""), ("tests/test_a.py", "")]), "ruff, pytest");
    // Alone they are the thing itself, beside another language its scripts. A configuration of nothing is nothing.
    assert_eq!(ids(&[("a.py", ""), ("b.txt", "")]), "ruff");
    assert_eq!(ids(&[("src/app.py", "")]), "ruff");
    assert_eq!(ids(&[("tools/a.py", ""), ("go.mod", "")]), "go-vet, go-build");
    assert_eq!(ids(&[(".flake8", "")]), "");
}

#[test]
fn caches_lie_in_the_tree_only_where_the_project_says_so() {
    let names = |files: &[(&str, &str)]| {
        let tools = [("bin/mypy", ""), ("bin/pytest", ""), ("a.py", ""), ("test_a.py", "")];
        let all: Vec<_> = tools.iter().chain(files).copied().collect();
        let tasks = planned(&repository(&all), &Wanted::default());
        let names = tasks.iter().flat_map(|task| task.env.iter()).map(|(name, _)| name.to_text().into_owned());
        names.filter(|name| name != "PYTHONDONTWRITEBYTECODE").collect::<Vec<_>>().join(" ")
    };
    let mypy = ("mypy.ini", "[mypy]\n");
    assert_eq!(names(&[mypy]), "MYPY_CACHE_DIR COVERAGE_FILE HYPOTHESIS_STORAGE_DIRECTORY");
    let own = [("mypy.ini", "[mypy]\ncache_dir = x\n"), (".coveragerc", "[run]\ndata_file = x\n")];
    assert_eq!(names(&own), "HYPOTHESIS_STORAGE_DIRECTORY");
}

/// They were only counted.
#[test]
fn names_that_are_not_utf_8_are_given_to_tools_as_they_are() {
    let repository = repository(&[("a.sh", ""), ("bin/shellcheck", ""), ("bin/ruff", "")]);
    let name = OsStr::from_bytes(b"caf\xe9");
    let folder = repository.root.join("work").join(name);
    std::fs::create_dir(&folder).expect("a folder");
    // A project whose checks could not be named is none.
    ["x.sh", "pyproject.toml"].iter().for_each(|file| std::fs::write(folder.join(file), "").expect("written"));
    let tasks = planned(&repository, &Wanted::default());
    let [task] = tasks.as_slice() else { panic!("{tasks:?}") };
    let Run::Argv(words) = &task.run else { panic!("{task:?}") };
    let files: Vec<&[u8]> = words[4..].iter().map(|word| word.as_os_str().as_bytes()).collect();
    assert_eq!(files, [&b"a.sh"[..], b"caf\xe9/x.sh"]);
}

#[test]
fn scripts_are_shell_by_their_interpreter() {
    let files = [
        ("envs", "#!/usr/bin/env -S bash -e\n"),
        ("set", "#!/usr/bin/env A=b sh\n"),
        ("plain.sh", "echo\n"),
        ("z.sh", "#!/usr/bin/env zsh\n"),
        ("python", "#!/usr/bin/env python3\n"),
        ("bin/shellcheck", ""),
    ];
    assert_eq!(
        lines(&files, &Wanted::default()),
        [
            "shellcheck: sh -c most=0; for file; do shellcheck -f json1 \"$file\" || { code=$?; [ $code -le $most ] || most=$code; }; done; exit $most sh envs plain.sh set"
        ]
    );
}

#[test]
fn shfmt_finds_out_itself_what_it_ignores() {
    let check = |text: &str| {
        let files = [(".editorconfig", text), ("a.sh", ""), ("gen/b.sh", ""), ("bin/shfmt", "")];
        lines(&files, &only("shfmt")).join("")
    };
    assert_eq!(check("[[shell]]\nindent_size = 2\n"), "shfmt: shfmt -l a.sh gen/b.sh");
    assert_eq!(check("[[shell]]\nindent_size = 2\n[gen/**]\nignore = true\n"), "shfmt: shfmt -l .");
}

#[test]
fn a_taskfile_for_distribution_is_read_where_there_is_no_other() {
    let dist = ("Taskfile.dist.yml", "tasks: {test: {}}\n");
    assert_eq!(lines(&[dist, ("bin/task", "")], &only("task")), ["task test: task test"]);
    let own = ("Taskfile.yml", "tasks: {lint: {}}\n");
    assert_eq!(lines(&[dist, own, ("bin/task", "")], &only("task")), ["task lint: task lint"]);
}

#[test]
fn checks_selected_and_deselected_are_none() {
    let files = [("ruff.toml", ""), ("a.py", ""), ("bin/ruff", "")];
    let skip = Wanted { skip: vec!["lint".to_owned()], ..only("lint") };
    assert_eq!(lines(&files, &skip), [] as [&str; 0]);
    assert_eq!(lines(&files, &Wanted { skip: vec!["lint".to_owned()], ..only("python") }).len(), 2);
}

#[test]
fn templates_of_yaml_are_no_yaml() {
    let files = [
        ("charts/a/Chart.yaml", ""),
        ("charts/a/values.yaml", ""),
        ("charts/a/templates/deep/x.yaml", "{{ .Values.x }}\n"),
        ("charts/a/my-templates/x.yaml", ""),
        ("roles/templates/x.yml", ""),
        ("roles/templates/y.yml.j2", "{{ y }}\n"),
        (".yamllint", ""),
        ("bin/yamllint", ""),
    ];
    let expected = "yamllint: yamllint -f parsable charts/a/Chart.yaml charts/a/my-templates/x.yaml charts/a/values.yaml roles/templates/x.yml";
    assert_eq!(lines(&files, &Wanted::default()), [expected]);
}

/// The time must not grow with the product of the two: this test lasted a minute when it did.
#[test]
fn many_projects_with_many_files_are_found_at_once_each_with_its_own() {
    let repository = repository(&[("go.mod", ""), ("x.go", "")]);
    let mut facts = Facts::read(&repository.root.join("work"), "".into(), Owners::these([]), None).expect("facts");
    for project in 0..4_000 {
        facts.files.extend(["go.mod", "a.go", "deep/b.go"].map(|file| format!("p{project:04}/{file}")));
        facts.files.extend((0..10).map(|at| format!("p{project:04}/pkg/{at}.go")));
    }
    facts.files.sort_unstable();
    let projects = super::project::all(&facts);
    let shown: Vec<(&str, usize)> =
        projects.iter().map(|project| (project.dir.as_str(), project.files.len())).collect();
    assert_eq!((projects.len(), &shown[..2]), (4_001, &[("", 2), ("p0000", 13)][..]));
    assert_eq!(projects[1].files[..3], ["a.go", "deep/b.go", "go.mod"]);
}

#[test]
fn checks_of_deep_folders_have_names_of_their_own() {
    let deep = "folder/".repeat(70);
    let folders = [deep.clone() + "one", deep.clone() + "two", "a\tb".to_owned(), "a\nb".to_owned()];
    let ids: Vec<_> = folders.iter().map(|folder| super::id("ruff", folder, None)).collect();
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), 4, "{ids:?}");
    assert!(ids[0].as_str().starts_with("ruff (folder/folder/") && ids[2].as_str().starts_with("ruff (a?b)"));
    let long = "é".repeat(120);
    assert_eq!(super::id("ruff", &long, Some(2)).as_str(), format!("ruff ({long}) 2"));
    assert_eq!(super::id("ruff", &"é".repeat(1_000), None), super::id("ruff", &"é".repeat(1_000), None));
}

/// Bare pytest did not find what the project imports, or what it installs elsewhere.
#[test]
fn the_projects_own_way_runs_its_python_tests() {
    const BASE: [(&str, &str); 3] = [("pyproject.toml", ""), ("tests/test_a.py", ""), ("bin/pytest", "")];
    let check = |more: &[(&str, &str)]| {
        let files: Vec<_> = BASE.iter().chain(more).copied().collect();
        let all = lines(&files, &only("tests"));
        let open = all.iter().filter(|line| !line.contains("left out by")).map(|line| line.replace("{results}", "R"));
        let ends = [" -q --junitxml=R/junit.xml -o cache_dir=R/cache"];
        open.map(|line| ends.iter().fold(line, |line, end| line.replace(end, ""))).collect::<Vec<_>>().join("; ")
    };
    let tool = |name: &'static str| (name, "");
    assert_eq!(check(&[]), "pytest: pytest");
    assert_eq!(check(&[("uv.lock", ""), tool("bin/uv")]), "pytest: uv run --locked pytest");
    assert_eq!(check(&[("uv.lock", "")]), "pytest: pytest", "without uv");
    assert_eq!(check(&[("poetry.lock", ""), tool("bin/poetry")]), "pytest: poetry run pytest");
    assert_eq!(check(&[("pdm.lock", ""), tool("bin/pdm")]), "pytest: pdm run pytest");
    const NOX: (&str, &str) = ("noxfile.py", "@nox.session\ndef tests(session):\n");
    assert_eq!(check(&[NOX, tool("bin/nox")]), "nox tests: nox -s tests");
    assert_eq!(check(&[NOX]), "pytest: pytest", "without nox");
    const TOX: (&str, &str) = ("tox.ini", "[tox]\n");
    const MAKE: (&str, &str) = ("Makefile", "test:\n\tpython -m pytest\n");
    assert_eq!(check(&[TOX, MAKE, tool("bin/tox"), tool("bin/make")]), "make test: make test");
    let ci = (".github/workflows/ci.yml", "jobs: {t: {steps: [{run: tox}]}}\n");
    assert_eq!(check(&[TOX, MAKE, ci, tool("bin/tox"), tool("bin/make")]), "tox: tox -q");
    let versions = ("tox.ini", "[tox]\nenvlist = docs, py{310,311}\n");
    assert_eq!(check(&[versions, tool("bin/tox")]), "tox: tox -q -e py");
    // As a module of Python it has the folder of the project in its path.
    let module = (".github/workflows/ci.yml", "jobs: {t: {steps: [{run: python -m pytest}]}}\n");
    assert_eq!(check(&[module, tool("bin/python3")]), "pytest: python3 -m pytest");
}

#[test]
fn tests_for_unittest_run_without_pytest() {
    let check = |text: &str, more: &[(&str, &str)]| {
        let files: Vec<_> = [("tests/test_a.py", text), ("bin/python3", "")].iter().chain(more).copied().collect();
        lines(&files, &only("tests")).join("; ")
    };
    const TEXT: &str = "import unittest\n";
    assert_eq!(check(TEXT, &[("tests/__init__.py", "")]), "unittest: python3 -m unittest");
    assert_eq!(check(TEXT, &[]), "unittest: python3 -m unittest discover -s tests");
    assert!(check(TEXT, &[("bin/pytest", "")]).starts_with("pytest: pytest"));
    let missing = check("import unittest, pytest\n", &[]);
    assert!(missing.starts_with("pytest: `pytest` is not installed"), "{missing}");
}

#[test]
fn scripts_of_node_are_called_by_the_manager_of_the_project() {
    let check = |text: &str, more: &[(&str, &str)]| {
        let tools = ["bin/npm", "bin/pnpm", "bin/yarn", "bin/bun"].map(|name| (name, ""));
        let files: Vec<_> = [("package.json", text)].iter().chain(&tools).chain(more).copied().collect();
        lines(&files, &only("tests")).join("; ")
    };
    // Nothing has to be installed where nothing is depended on.
    const PLAIN: &str = r#"{"scripts":{"test":"node t.js"}}"#;
    assert_eq!(check(PLAIN, &[]), "npm test: npm run --silent test");
    for (lock, expected) in [
        ("package-lock.json", "npm test: npm run --silent test"),
        ("pnpm-lock.yaml", "pnpm test: pnpm run test"),
        ("yarn.lock", "yarn test: yarn run test"),
        ("bun.lock", "bun test: bun run test"),
    ] {
        assert_eq!(check(PLAIN, &[(lock, "")]), expected);
    }
    const NAMED: &str = r#"{"packageManager":"pnpm@9.1.0","scripts":{"test":"node t.js"},"devDependencies":{"x":"1"}}"#;
    let missing =
        "pnpm test: `node_modules` is not installed; `pnpm install --frozen-lockfile` installs the project's packages";
    assert_eq!(check(NAMED, &[("package-lock.json", "")]), missing);
    assert_eq!(check(NAMED, &[("node_modules/x/y", "")]), "pnpm test: pnpm run test");
    // The lock file of a workspace stands above.
    let below = [("web/package.json", PLAIN), ("yarn.lock", "")];
    assert!(check("{}", &below).contains("yarn test (web): yarn run test"));
}

#[test]
fn builds_that_run_tests_themselves_are_called_whole() {
    let check = |files: &[(&str, &str)]| lines(files, &only("tests")).join("; ");
    let gradle = [("build.gradle.kts", ""), ("gradlew", ""), ("app/build.gradle.kts", "")];
    assert_eq!(check(&gradle), "gradle check: ./gradlew --console=plain check");
    assert_eq!(check(&gradle[..1]), "gradle check: `gradle` is not installed; `apt install gradle` installs it");
    assert_eq!(check(&[("CMakeLists.txt", ""), ("support/build.gradle", ""), ("bin/gradle", "")]), "");
    let maven = [("pom.xml", ""), ("core/pom.xml", ""), ("bin/mvn", "")];
    assert_eq!(check(&maven), "maven verify: mvn -B -ntp verify");
    assert_eq!(check(&[("MODULE.bazel", ""), ("bin/bazel", "")]), "bazel test: bazel test --noshow_progress //...");
    assert_eq!(check(&[("android/pom.xml", ""), ("bin/mvn", "")]), "maven verify (android): mvn -B -ntp verify");
    let meson = [("meson.build", "test('a', exe)\n"), ("bin/meson", "")];
    assert_eq!(ids(&meson), "meson, meson-test");
    let autoconf = [("configure.ac", ""), ("configure", "")];
    assert_eq!(ids(&autoconf), "autoconf, autoconf-check");
    let missing = "autoconf-check: `./configure` is not installed; `autoreconf -i` makes it";
    assert_eq!(check(&autoconf[..1]), missing);
}

#[test]
fn files_that_a_hook_leaves_out_are_left_out() {
    let hooks = "exclude: ^docs/\nrepos:\n- repo: https://github.com/astral-sh/ruff-pre-commit\n  rev: v0.4.1\n  hooks:\n  - id: ruff\n    \
        exclude: ^tests/x\n    files: py$\n";
    let repository =
        repository(&[(".pre-commit-config.yaml", hooks), ("pyproject.toml", "[tool.ruff]\n"), ("a.py", "")]);
    let tasks = planned(&repository, &Wanted::default());
    let check = |name: &str| tasks.iter().find(|task| task.id.as_str() == name).and_then(|task| task.check.clone());
    let ruff = check("ruff").expect("a check");
    assert_eq!((ruff.exclude.join(" "), ruff.files.join(" ")), ("^docs/ ^tests/x".to_owned(), "py$".to_owned()));
    assert!(check("ruff-format").expect("a check").exclude.is_empty(), "no hook calls it");
    // Look-ahead, which Python has: it left nothing out, and nobody was told.
    let ahead = hooks.replace("^tests/x", "^(?!src/)");
    let of = |hooks: &str| {
        self::repository(&[(".pre-commit-config.yaml", hooks), ("pyproject.toml", "[tool.ruff]\n"), ("a.py", "")])
    };
    let warned = |hooks: &str| plan(&facts(&of(hooks)), &Wanted::default()).expect("known words").warnings;
    assert!(warned(hooks).is_empty());
    let expected =
        "`.pre-commit-config.yaml`: the pattern `^(?!src/)` for ruff is none that apm can read: it leaves no file out";
    assert_eq!(warned(&ahead), [expected]);
}

#[test]
fn versions_that_a_project_pins_are_known() {
    let pinned = |files: &[(&str, &str)]| {
        let files: Vec<_> =
            [("pyproject.toml", "[tool.ruff]\n[tool.mypy]\n"), ("a.py", ""), ("bin/ruff", ""), ("bin/mypy", "")]
                .iter()
                .chain(files)
                .copied()
                .collect();
        let repository = repository(&files);
        let facts =
            Facts::read(&repository.root.join("work"), repository.root.join("bin").into(), Owners::these([]), None)
                .expect("facts");
        let pins: Vec<String> = plan(&facts, &Wanted::default())
            .expect("a plan")
            .pins
            .iter()
            .map(|(_, name, pin)| format!("{name} {} {}", pin.version, pin.file))
            .collect();
        pins.join("; ")
    };
    assert_eq!(pinned(&[]), "");
    let hooks =
        "repos:\n- repo: x\n  rev: v0.4.1\n  hooks:\n  - id: ruff-check\n- repo: local\n  hooks:\n  - id: mypy\n";
    assert_eq!(pinned(&[(".pre-commit-config.yaml", hooks)]), "ruff 0.4.1 .pre-commit-config.yaml");
    let lock = "[[package]]\nname = \"mypy\"\nversion = \"1.8.0\"\n";
    assert_eq!(pinned(&[("uv.lock", lock)]), "mypy 1.8.0 uv.lock");
    assert_eq!(pinned(&[("requirements-dev.txt", "mypy==1.9.1 # x\nruff>=0.1\n")]), "mypy 1.9.1 requirements-dev.txt");
    assert_eq!(pinned(&[(".tool-versions", "ruff 0.5.0\n")]), "ruff 0.5.0 .tool-versions");
    assert_eq!(pinned(&[("mise.toml", "[tools]\nruff = \"0.5.1\"\n")]), "ruff 0.5.1 mise.toml");
}

/// A configuration that is a link to a file of the repository did not count.
#[test]
fn configurations_may_be_links_inside_the_repository() {
    let repository = repository(&[
        ("cfg/ruff.toml", "[format]\n"),
        ("cfg/Makefile", "lint:\n"),
        ("real.sh", ""),
        ("a.py", ""),
        ("bin/ruff", ""),
        ("bin/make", ""),
        ("bin/shellcheck", ""),
    ]);
    let work = repository.root.join("work");
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, work.join(name)).expect("a link");
    link("cfg/ruff.toml", "ruff.toml");
    link("cfg/Makefile", "Makefile");
    link("real.sh", "again.sh");
    // Out of the repository, and to nowhere.
    link("/etc/hostname", ".flake8");
    link("nothing", "tox.ini");
    let tasks = planned(&repository, &Wanted::default());
    let ids: Vec<&str> = tasks.iter().map(|task| task.id.as_str()).collect();
    assert_eq!(ids, ["ruff-format", "ruff", "shellcheck", "make lint"]);
    let Run::Argv(words) = &tasks[2].run else { panic!("{tasks:?}") };
    let last = words.last().map(|word| word.to_text().into_owned());
    assert_eq!(last.as_deref(), Some("real.sh"), "a script is checked once");
}

/// pytest stood back for a target that did not run: no test of Python did, and the run passed.
#[test]
fn pytest_stands_back_only_for_a_target_that_runs_its_tests() {
    const BASE: [(&str, &str); 4] =
        [("pyproject.toml", ""), ("tests/test_a.py", ""), ("bin/pytest", ""), ("bin/make", "")];
    const MAKE: (&str, &str) = ("Makefile", "test:\n\tpython -m unittest\n");
    let open = |more: &[(&str, &str)], wanted: &Wanted| {
        let files: Vec<_> = BASE.iter().chain(more).copied().collect();
        let tasks = planned(&repository(&files), wanted);
        let open = tasks.iter().filter(|task| task.skip.is_none() && task.id.as_str() != "ruff");
        open.map(|task| task.id.as_str().to_owned()).collect::<Vec<_>>().join(", ")
    };
    let wanted = |only: &[&str], skip: &[&str], within: &str| Wanted {
        only: only.iter().map(|word| (*word).to_owned()).collect(),
        skip: skip.iter().map(|word| (*word).to_owned()).collect(),
        within: within.to_owned(),
        ..Wanted::default()
    };
    assert_eq!(open(&[MAKE], &Wanted::default()), "make test");
    assert_eq!(open(&[MAKE], &wanted(&[], &["make"], "")), "pytest");
    assert_eq!(open(&[MAKE], &wanted(&[], &["make test"], "")), "pytest");
    assert_eq!(open(&[MAKE], &wanted(&["python"], &[], "")), "pytest");
    assert_eq!(open(&[MAKE], &wanted(&["tests"], &[], "")), "make test");
    assert_eq!(open(&[MAKE], &wanted(&[], &[], "tests")), "pytest");
    // A target that runs nothing of Python, and a build of another language.
    assert_eq!(open(&[("Makefile", "test:\n\t./check.sh\n")], &Wanted::default()), "pytest");
    assert_eq!(open(&[("pom.xml", ""), ("bin/mvn", "")], &Wanted::default()), "pytest, maven verify");
    // The tests of another language do not do the work of this target.
    let rust = [MAKE, ("Cargo.toml", ""), ("bin/cargo", "")];
    assert_eq!(open(&rust, &wanted(&["tests"], &[], "")), "cargo-test, make test");
}
