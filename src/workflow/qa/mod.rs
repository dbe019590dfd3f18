//! `apm run qa`: finds what there is to check in a repository and plans it. `facts` reads the repository with the
//! `index` of git, `project` finds its projects, `tools` and `targets` say what can be done with them, `call` how a
//! tool is called there; `parse` reads what came of it and `judge` says what that means.

mod call;
pub(crate) mod facts;
pub(crate) mod index;
pub(crate) mod judge;
pub(crate) mod parse;
mod project;
mod targets;
pub(crate) mod tools;
pub(crate) mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::model::bytestring::ByteString;
use crate::model::id::{TASK_ID_MAX, TaskId};
use crate::model::raw::is_hidden;
use crate::model::task::{Category, Check, Run, Skip, Task, When};
use crate::text::suggest;
use facts::Facts;
use parse::Parser;
use project::{Project, Toolchain, TypeScript};
use tools::{TOOLS, Tool};
use wanted::Wanted;

/// Bytes of the names of folders that one run is told to leave out: with what is said around them less than the kernel
/// takes as one word. What is beyond is checked twice rather than not at all.
const BELOW_BYTES_MAX: usize = 50_000;

/// A word of `--only` or `--skip` that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{by} {word}: no category, toolchain, tool or check of this repository has that name{}", .likely.as_ref().map(|word| format!("; did you mean `{word}`?")).unwrap_or_default())]
pub(crate) struct UnknownName {
    by: String,
    word: String,
    likely: Option<String>,
}

/// Plans the checks of a repository.
pub(crate) fn plan(facts: &Facts, wanted: &Wanted) -> Result<Vec<Task>, UnknownName> {
    let mut projects = project::all(facts);
    // Folders come after those above them.
    let mut runs = Runs::new();
    for project in &mut projects {
        for tool in TOOLS.iter().filter(|tool| tool.toolchain == project.toolchain) {
            let mut above = project::folders(&project.dir).skip(1);
            project.covered =
                tool.reaches_below() && above.any(|folder| runs.contains_key(&(tool.name, folder.to_owned())));
            if let Some(reason) = (tool.wants)(project) {
                runs.insert((tool.name, project.dir.clone()), reason);
            }
        }
    }
    let mut planned: Vec<Planned> = Vec::new();
    for project in &projects {
        for tool in TOOLS.iter().filter(|tool| tool.toolchain == project.toolchain) {
            if let Some(reason) = runs.get(&(tool.name, project.dir.clone())) {
                let below = below(&runs, tool, project);
                planned.extend(of_tool(project, tool, reason, &below, wanted));
            }
        }
    }
    // A tool that does not run looks at nothing.
    let covered: BTreeSet<(String, Category, Toolchain)> = planned
        .iter()
        .filter(|one| one.task.skip.is_none() && one.is_selected(wanted))
        .filter_map(|one| Some((one.dir.clone(), one.category, one.toolchain?)))
        .collect();
    planned.extend(of_targets(facts, &projects, &covered, wanted));
    check_names(&planned, &wanted.only, &wanted.only_by)?;
    check_names(&planned, &wanted.skip, &wanted.skip_by)?;
    let needed = if wanted.only.is_empty() { BTreeMap::new() } else { needed(&planned, wanted) };
    let mut tasks = Vec::new();
    for mut one in planned {
        if !wanted.only.is_empty() && !one.is_named(&wanted.only) {
            let Some(by) = needed.get(&one.task.id) else { continue };
            one.task.reason = format!("`{by}` needs it").into();
            one.fix = None;
        }
        if one.is_named(&wanted.skip) {
            one.task.skip = Some(Skip::Deselected { by: wanted.skip_by.as_str().into() }.into());
            one.fix = None;
        }
        tasks.push(one);
    }
    // What was named and taken away again leaves nothing to check.
    if !wanted.only.is_empty() && tasks.iter().all(|one| one.is_named(&wanted.skip)) {
        return Ok(Vec::new());
    }
    tasks.sort_by_key(|one| one.category);
    Ok(with_fixes(tasks))
}

/// Whether a folder of the repository, relative to it, has files that the checks of the repository look at. Not so for
/// material of tests that has a manifest of its own, for somebody else's code and for what git ignores.
pub(crate) fn has_checks_within(facts: &Facts, within: &str) -> bool {
    let start = project::with_slash(within);
    let is_inside = |project: &Project<'_>| match start.strip_prefix(&project::with_slash(&project.dir)) {
        Some(rest) => project.files.iter().any(|file| file.starts_with(rest)),
        None => project.dir.starts_with(&start),
    };
    !project::is_material_project(facts, within) && project::all(facts).iter().any(is_inside)
}

/// What of a project is meant where one folder of the repository is.
enum Meant<'a> {
    All,
    /// A folder of it, relative to it.
    Within(&'a str),
    Nothing,
}

impl<'a> Meant<'a> {
    fn of(project: &Project<'_>, within: &'a str) -> Self {
        let (dir, start) = (project::with_slash(&project.dir), project::with_slash(within));
        match within.strip_prefix(&dir) {
            _ if dir.starts_with(&start) => Self::All,
            Some(rest) => Self::Within(rest),
            None => Self::Nothing,
        }
    }
}

/// Tools by the folders in which they run, and why.
type Runs = BTreeMap<(&'static str, String), String>;

/// The folders below a project that a run of a tool there leaves out, relative to it: those in which the same tool runs,
/// as their files are checked there by their own configuration, and repositories inside this one, which are somebody else's.
fn below<'a>(runs: &'a Runs, tool: &Tool, project: &Project<'a>) -> Vec<&'a str> {
    if !tool.reaches_below() {
        return Vec::new();
    }
    let start = project::with_slash(&project.dir);
    let from = runs.range((tool.name, start.clone())..).map(|((name, folder), _)| (name, folder));
    let runs_inside = from.map_while(|(name, folder)| folder.strip_prefix(&start).filter(|_| *name == tool.name));
    let repositories = project.facts.inner.iter().filter_map(|folder| folder.strip_prefix(&start));
    let mut bytes = 0;
    let fits = |folder: &&str| {
        bytes += folder.len();
        bytes <= BELOW_BYTES_MAX
    };
    let folders = repositories.chain(runs_inside).filter(|folder| !folder.is_empty());
    // A name that is not UTF-8, or has a line break, is no pattern of any tool.
    folders.filter(|folder| ByteString::decode(folder).as_path() == Path::new(folder)).take_while(fits).collect()
}

/// A check on its way into the plan.
struct Planned {
    task: Task,
    fix: Option<Task>,
    dir: String,
    category: Category,
    toolchain: Option<Toolchain>,
    tool: &'static str,
}

impl Planned {
    /// Every word that `--only` and `--skip` may use for it.
    fn names(&self) -> impl Iterator<Item = &str> {
        let toolchain = self.toolchain.map(Toolchain::as_str);
        [self.category.as_str(), self.tool, self.task.id.as_str()].into_iter().chain(toolchain)
    }

    fn is_named(&self, words: &[String]) -> bool {
        words.iter().any(|word| self.names().any(|name| name == word))
    }

    fn is_selected(&self, wanted: &Wanted) -> bool {
        (wanted.only.is_empty() || self.is_named(&wanted.only)) && !self.is_named(&wanted.skip)
    }
}

/// What the checks named by `--only` cannot do without, and which of them it is needed by.
fn needed(planned: &[Planned], wanted: &Wanted) -> BTreeMap<TaskId, TaskId> {
    let tasks: BTreeMap<&TaskId, &Task> = planned.iter().map(|one| (&one.task.id, &one.task)).collect();
    let mut needed = BTreeMap::new();
    let named = planned.iter().filter(|one| one.is_selected(wanted));
    let mut open: Vec<&Task> = named.map(|one| &one.task).filter(|task| task.skip.is_none()).collect();
    while let Some(task) = open.pop() {
        for need in &task.needs {
            if !needed.contains_key(need) {
                needed.insert(need.clone(), task.id.clone());
                open.extend(tasks.get(need));
            }
        }
    }
    needed
}

fn check_names(planned: &[Planned], words: &[String], by: &str) -> Result<(), UnknownName> {
    let mut known: BTreeSet<&str> = planned.iter().flat_map(Planned::names).collect();
    known.extend(Category::ALL.iter().map(|category| category.as_str()));
    known.extend(Toolchain::ALL.iter().map(|toolchain| toolchain.as_str()));
    known.extend(TOOLS.iter().map(|tool| tool.name));
    known.extend(["make", "just", "task", "npm", "tox", "pre-commit"]);
    match words.iter().find(|word| !known.contains(word.as_str())) {
        None => Ok(()),
        Some(word) => Err(UnknownName {
            by: by.to_owned(),
            word: word.clone(),
            likely: suggest::likely(word, known).map(str::to_owned),
        }),
    }
}

fn id(name: &str, dir: &str, part: Option<usize>) -> TaskId {
    let mut text = name.to_owned();
    if !dir.is_empty() {
        text += &format!(" ({dir})");
    }
    if let Some(part) = part {
        text += &format!(" {part}");
    }
    let clean: String = text.chars().map(|c| if c.is_control() || is_hidden(c) { '?' } else { c }).collect();
    if clean == text && clean.len() <= TASK_ID_MAX {
        return TaskId::new(&clean)
            .expect("the name of a tool or target, nothing in it that is not shown, short enough");
    }
    // What is replaced or cut off told the folder from others; a digest of it does.
    let digest = blake3::hash(text.as_bytes()).to_hex();
    let cut = (0..=TASK_ID_MAX - 20).rev().find(|at| clean.is_char_boundary(*at)).unwrap_or(0);
    let short = format!("{}... {}", &clean[..cut], &digest[..16]);
    TaskId::new(&short).expect("20 bytes more than what is at least 20 below the limit")
}

/// The checks of a tool in a project: one, or several where it takes files and there are many.
fn of_tool(project: &Project<'_>, tool: &'static Tool, reason: &str, below: &[&str], wanted: &Wanted) -> Vec<Planned> {
    let takes_files = tool.args.contains(&"{files}");
    let mut files = if takes_files { call::files_of(project, tool) } else { Vec::new() };
    let within = match Meant::of(project, &wanted.within) {
        Meant::All => "",
        Meant::Within(folder) if call::looks_within(project, tool, folder) => folder,
        Meant::Within(_) | Meant::Nothing => return Vec::new(),
    };
    let start = project::with_slash(within);
    files.retain(|file| file.starts_with(&start));
    // A file that is named is formatted whatever the configuration says of it; a folder is not.
    let ignores = |line: &str| line.replace(' ', "").to_lowercase() == "ignore=true";
    if tool.name == "shfmt" && project.text(".editorconfig").lines().any(|line| ignores(line.trim())) {
        files = vec![if within.is_empty() { "." } else { within }];
    }
    if takes_files && files.is_empty() {
        return Vec::new();
    }
    let calls: Vec<&[&str]> = if takes_files { call::chunks(tool, &files) } else { vec![&[]] };
    let several = calls.len() > 1;
    let program = project.facts.program(&project.dir, tool.program);
    let unprepared = project.toolchain == Toolchain::Node
        && tool.program != "npm"
        && program.is_none()
        && !project.facts.has_node_modules(&project.dir);
    calls
        .iter()
        .enumerate()
        .map(|(at, files)| {
            let part = several.then_some(at + 1);
            let make = |args: &[&str], name: &str| {
                let mut task = Task::new(
                    id(name, &project.dir, part),
                    call::words(project, tool, args, files, below, within, wanted),
                );
                task.reason = match within.is_empty() || call::takes_folder(tool) {
                    true => reason.into(),
                    false => format!("{reason}; it looks at the whole project").into(),
                };
                task.cwd = Some(project.facts.root.join(&project.dir).into());
                task.history_key = Some(format!("qa:{}:{name}:{}", project.facts.root.display(), task.id));
                if tool.exclusive {
                    task.locks = vec![format!(
                        "{} build in {}",
                        tool.toolchain.as_str(),
                        if project.dir.is_empty() { "." } else { &project.dir }
                    )];
                }
                task.env = call::environment(project, tool, wanted).into();
                task
            };
            let mut task = make(tool.args, tool.name);
            task.check = Some(
                Check {
                    category: tool.category,
                    tool: tool.name.to_owned(),
                    parser: tool.parser.as_str().to_owned(),
                    root: project.dir.clone(),
                    writes_results: tool.args.iter().any(|word| word.contains("{results}")),
                    strict: wanted.strict,
                }
                .into(),
            );
            if tool.name == "ctest" {
                task.needs = vec![id("cmake", &project.dir, None)];
            }
            if program.is_none() {
                let install = if unprepared { "`npm ci` installs the project's packages" } else { tool.install };
                task.skip = Some(Skip::ToolMissing { tool: tool.program.into(), install: install.into() }.into());
            }
            if tool.name == "tsc" && task.skip.is_none() && project.typescript() == TypeScript::TooOld {
                let (tool, install) = ("TypeScript 5.6", "older ones check no `references` without writing output");
                task.skip = Some(Skip::ToolMissing { tool: tool.into(), install: install.into() }.into());
            }
            let fixes = wanted.fix && !tool.fix.is_empty() && task.skip.is_none();
            let fix = fixes.then(|| {
                let mut fix = make(tool.fix, &format!("{} --fix", tool.name));
                fix.check = task.check.clone().map(|check| fixer(*check).into());
                fix
            });
            let (dir, category, toolchain) = (project.dir.clone(), tool.category, Some(tool.toolchain));
            Planned { task, fix, dir, category, toolchain, tool: tool.name }
        })
        .collect()
}

/// The check as its fixer has it.
fn fixer(check: Check) -> Check {
    Check { parser: Parser::Fixer.as_str().to_owned(), ..check }
}

/// The project's own targets. Where tools of the table already look at the same, they stand back.
fn of_targets(
    facts: &Facts,
    projects: &[Project<'_>],
    covered: &BTreeSet<(String, Category, Toolchain)>,
    wanted: &Wanted,
) -> Vec<Planned> {
    let root = Project {
        facts,
        toolchain: Toolchain::Shell,
        dir: String::new(),
        files: Vec::new(),
        reason: String::new(),
        covered: false,
    };
    let mut seen = BTreeSet::new();
    let mut planned = Vec::new();
    let folders = projects.iter().filter(|project| project.toolchain.is_language()).chain([&root]);
    for folder in folders {
        for target in targets::of(folder) {
            let name = format!("{} {}", target.runner, target.words.last().map_or("", String::as_str));
            let id = id(&name, &folder.dir, None);
            if !seen.insert(id.clone()) {
                continue;
            }
            let mut task = Task::new(id.clone(), Run::Argv(target.words.iter().cloned().map(Into::into).collect()));
            let is_covered = covered.iter().any(|(dir, category, toolchain)| {
                *dir == folder.dir && *category == target.category && target.is_covered_by(*toolchain)
            });
            task.reason = target.reason.into();
            task.cwd = Some(facts.root.join(&folder.dir).into());
            task.history_key = Some(format!("qa:{}:{name}:{id}", facts.root.display()));
            task.check = Some(
                Check {
                    category: target.category,
                    tool: target.runner.to_owned(),
                    parser: Parser::Exit.as_str().to_owned(),
                    root: folder.dir.clone(),
                    writes_results: false,
                    strict: wanted.strict,
                }
                .into(),
            );
            // Targets of one file build into the same places.
            task.locks =
                vec![format!("{} in {}", target.runner, if folder.dir.is_empty() { "." } else { &folder.dir })];
            let asked = wanted.only.iter().any(|word| word == target.runner || word == id.as_str());
            let writes_docs = target.category == Category::Docs;
            if writes_docs && !wanted.only.iter().any(|word| word == "docs" || word == id.as_str()) {
                let by = "default: it may write over tracked files; `--only docs` runs it".to_owned();
                task.skip = Some(Skip::Deselected { by: by.into() }.into());
            } else if is_covered && !asked {
                let by = format!("tools that look at the same; `--only {}` runs it", target.runner);
                task.skip = Some(Skip::Deselected { by: by.into() }.into());
            } else if target.changes_files && !wanted.fix && !asked {
                let by = format!("default: it changes files; `--fix` or `--only {}` runs it", target.runner);
                task.skip = Some(Skip::Deselected { by: by.into() }.into());
            } else if !matches!(Meant::of(folder, &wanted.within), Meant::All) {
                let by = format!("`{}`: it looks at all of the project", wanted.within);
                task.skip = Some(Skip::Deselected { by: by.into() }.into());
            } else if facts.program(&folder.dir, target.runner).is_none() {
                let (tool, install) = (target.runner.to_owned(), install(target.runner).to_owned());
                task.skip = Some(Skip::ToolMissing { tool: tool.into(), install: install.into() }.into());
            } else if target.runner == "npm" && !facts.has_node_modules(&folder.dir) {
                let tool = "node_modules".to_owned();
                let install = "`npm ci` installs the project's packages".to_owned();
                task.skip = Some(Skip::ToolMissing { tool: tool.into(), install: install.into() }.into());
            }
            // First among the fixers, then it says what is left.
            let fixes = wanted.fix && target.changes_files && task.skip.is_none();
            let fix = fixes.then(|| {
                let mut fix = task.clone();
                fix.id = self::id(&format!("{name} --fix"), &folder.dir, None);
                fix.history_key = Some(format!("qa:{}:{name} --fix:{}", facts.root.display(), fix.id));
                fix.check = fix.check.map(|check| fixer(*check).into());
                fix
            });
            planned.push(Planned {
                task,
                fix,
                dir: folder.dir.clone(),
                category: target.category,
                toolchain: None,
                tool: target.runner,
            });
        }
    }
    planned
}

fn install(runner: &str) -> &'static str {
    match runner {
        "make" => "`apt install make` installs it",
        "just" => "`cargo install just` installs it",
        "task" => "`pip install go-task-bin` installs it",
        "tox" => "`pip install tox` installs it",
        "pre-commit" => "`pip install pre-commit` installs it",
        _ => "see https://nodejs.org",
    }
}

/// Fixers go first, one after the other; every check waits for all of them.
fn with_fixes(mut planned: Vec<Planned>) -> Vec<Task> {
    let mut fixers: Vec<(bool, Task)> =
        planned.iter_mut().filter_map(|one| Some((one.category == Category::Format, one.fix.take()?))).collect();
    // What a linter rewrites is not formatted.
    fixers.sort_by_key(|(formats, _)| *formats);
    let mut fixes: Vec<Task> = Vec::new();
    for (_, mut fix) in fixers {
        fix.needs.extend(fixes.last().map(|before| before.id.clone()));
        fix.when = When::Always;
        fixes.push(fix);
    }
    let last = fixes.last().map(|fix| fix.id.clone());
    let known: BTreeSet<TaskId> = planned.iter().map(|one| one.task.id.clone()).collect();
    let checks = planned.into_iter().map(|one| {
        let mut task = one.task;
        task.needs.retain(|need| known.contains(need));
        if let Some(last) = &last {
            // The condition of its own needs, if any, is kept: a build that failed makes its tests fail, not disappear.
            task.needs.push(last.clone());
            task.when = When::Always;
        }
        task
    });
    fixes.into_iter().chain(checks).collect()
}

#[cfg(test)]
mod cases {
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
        let facts =
            Facts::read(&repository.root.join("work"), repository.root.join("bin").into(), Owners::these([]), None)
                .expect("facts");
        plan(&facts, wanted).expect("a plan")
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
        // A folder without its own configuration would check nothing but the empty list of the one above.
        let below = [PACKAGE, TSC, ("tsconfig.json", solution), ("web/package.json", PACKAGE.1)];
        assert_eq!(lines(&below, &only("tsc")), ["tsc: tsc -b --noEmit --pretty false"]);
    }

    #[test]
    fn ruff_formats_where_black_does_not() {
        let check = |files: &[(&str, &str)]| {
            let files: Vec<_> = [("bin/ruff", ""), ("bin/black", "")].iter().chain(files).copied().collect();
            lines(&files, &only("format"))
                .iter()
                .filter_map(|line| line.split(':').next())
                .collect::<Vec<_>>()
                .join(" ")
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
        // Scripts beside something else, and a configuration of nothing.
        assert_eq!(ids(&[("a.py", ""), ("b.txt", "")]), "");
        assert_eq!(ids(&[(".flake8", "")]), "");
    }

    #[test]
    fn caches_lie_in_the_tree_only_where_the_project_says_so() {
        let names = |files: &[(&str, &str)]| {
            let tools = [("bin/mypy", ""), ("bin/pytest", ""), ("a.py", ""), ("test_a.py", "")];
            let all: Vec<_> = tools.iter().chain(files).copied().collect();
            let tasks = planned(&repository(&all), &Wanted::default());
            let names = tasks.iter().flat_map(|task| task.env.iter()).map(|(name, _)| name.to_text().into_owned());
            names.filter(|name| name != "PYTHONPYCACHEPREFIX").collect::<Vec<_>>().join(" ")
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
}
