//! `apm run qa`: finds what there is to check in a repository and plans it. `facts` reads the repository with the
//! `index` of git, `project` finds its projects, `tools` and `targets` say what can be done with them, `call` how a
//! tool is called there; `parse` reads what came of it and `judge` says what that means.

mod call;
pub(crate) mod facts;
pub(crate) mod index;
pub(crate) mod judge;
mod manager;
mod own;
pub(crate) mod parse;
pub(crate) mod pinned;
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
use manager::Manager;
use own::Pytest;
use parse::Parser;
use pinned::Pin;
use project::{Project, Toolchain, TypeScript};
use targets::Target;
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
pub(crate) fn plan(facts: &Facts, wanted: &Wanted) -> Result<Plan, UnknownName> {
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
    let own_ways: BTreeSet<(String, String)> =
        planned.iter().filter_map(|one| Some((one.dir.clone(), one.own_way.clone()?))).collect();
    planned.extend(of_targets(facts, &projects, &covered, &own_ways, wanted));
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
        return Ok(Plan::default());
    }
    tasks.sort_by_key(|one| one.category);
    let mut pins: Vec<PinnedTool> = Vec::new();
    for pin in tasks.iter().filter(|one| one.task.skip.is_none()).filter_map(|one| one.pin.as_ref()) {
        if !pins.contains(pin) {
            pins.push(pin.clone());
        }
    }
    let warnings: BTreeSet<String> = tasks.iter().flat_map(|one| one.warnings.iter().cloned()).collect();
    Ok(Plan { tasks: with_fixes(tasks), pins, warnings: warnings.into_iter().collect() })
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

/// Whether a folder has the manifest or the configuration of a project.
pub(crate) fn is_project(folder: &Path) -> bool {
    project::manifests().any(|name| folder.join(name).is_file())
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

/// A tool of which the project pins the version: how it is called, its name, and the pin.
pub(crate) type PinnedTool = (String, &'static str, Pin);

/// The checks of a repository.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) tasks: Vec<Task>,
    /// Tools of which the project pins the version, of those that run.
    pub(crate) pins: Vec<PinnedTool>,
    pub(crate) warnings: Vec<String>,
}

/// Whether a target may run: it is selected, its program is there, and all of its folder is meant.
fn may_run(target: &Target, folder: &Project<'_>, wanted: &Wanted) -> bool {
    let id = id(&target.name(), &folder.dir, None);
    let names = [target.category.as_str(), target.runner, id.as_str()];
    let is_named = |words: &[String]| words.iter().any(|word| names.contains(&word.as_str()));
    (wanted.only.is_empty() || is_named(&wanted.only))
        && !is_named(&wanted.skip)
        && matches!(Meant::of(folder, &wanted.within), Meant::All)
        && target.is_callable(folder)
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
    pin: Option<PinnedTool>,
    /// The target that does its work, since that is the project's own way.
    own_way: Option<String>,
    /// What of the project's configuration has no effect on it.
    warnings: Vec<String>,
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
    known.extend(targets::RUNNERS);
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
    let (mut called, mut own_way) = (Vec::new(), None);
    let mut is_there = match tool.program.strip_prefix("./") {
        Some(file) => project.facts.has_program_in(&project.dir, file),
        None => project.facts.program(&project.dir, tool.program).is_some(),
    };
    if tool.name == "pytest" {
        let is_named = wanted.only.iter().any(|word| word == tool.name);
        match own::pytest(project, &|target| !is_named && may_run(target, project, wanted)) {
            Pytest::Called(words) => (called, is_there) = (words, true),
            Pytest::Target(name) => own_way = Some(name),
            Pytest::Missing => {}
        }
    }
    let place = call::Place { below, within, called: &called };
    let (left_out, warnings) = pinned::left_out(project.facts, tool.name);
    let pin = pinned::version(project, tool.name, tool.program)
        .and_then(|pin| Some((project.facts.program(&project.dir, tool.program)?, tool.program, pin)));
    let unprepared = project.toolchain == Toolchain::Node
        && tool.program != "npm"
        && !is_there
        && !project.facts.has_node_modules(&project.dir);
    calls
        .iter()
        .enumerate()
        .map(|(at, files)| {
            let part = several.then_some(at + 1);
            let make = |args: &[&str], name: &str| {
                let mut task =
                    Task::new(id(name, &project.dir, part), call::words(project, tool, args, files, &place, wanted));
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
                    exclude: left_out.exclude.clone(),
                    files: left_out.files.clone(),
                    strict: wanted.strict,
                }
                .into(),
            );
            let built_by = [("ctest", "cmake"), ("meson-test", "meson"), ("autoconf-check", "autoconf")];
            if let Some((_, build)) = built_by.iter().find(|(name, _)| *name == tool.name) {
                task.needs = vec![id(build, &project.dir, None)];
            }
            if !is_there {
                let install = match tool.program {
                    _ if unprepared => Manager::of(project).install(project),
                    "./configure" if project.has_here(&["autogen.sh"]).is_some() => "`./autogen.sh` makes it",
                    _ => tool.install,
                };
                task.skip = Some(Skip::ToolMissing { tool: tool.program.into(), install: install.into() }.into());
            }
            if let Some(target) = &own_way {
                let by = format!("`{target}`, by which the project runs its tests; `--only pytest` runs it");
                task.skip = Some(Skip::Deselected { by: by.into() }.into());
            }
            if tool.name == "tsc" && task.skip.is_none() {
                task.skip = match project.typescript() {
                    TypeScript::Project | TypeScript::References => None,
                    TypeScript::TooOld => {
                        let (tool, install) =
                            ("TypeScript 5.6", "older ones check no `references` without writing output");
                        Some(Skip::ToolMissing { tool: tool.into(), install: install.into() }.into())
                    }
                    TypeScript::Chained => {
                        let by = "default: its projects refer to each other, which tsc checks only where it may write \
                                  output (TS6310); the project's own build does";
                        Some(Skip::Deselected { by: by.into() }.into())
                    }
                };
            }
            let fixes = wanted.fix && !tool.fix.is_empty() && task.skip.is_none();
            let fix = fixes.then(|| {
                let mut fix = make(tool.fix, &format!("{} --fix", tool.name));
                fix.check = task.check.clone().map(|check| fixer(*check).into());
                fix
            });
            let (dir, category, toolchain) = (project.dir.clone(), tool.category, Some(tool.toolchain));
            let (pin, own_way, warnings) = (pin.clone(), own_way.clone(), warnings.clone());
            Planned { task, fix, dir, category, toolchain, tool: tool.name, pin, own_way, warnings }
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
    own_ways: &BTreeSet<(String, String)>,
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
        let first = own::tests(folder, &|target| may_run(target, folder, wanted));
        for target in targets::of(folder) {
            let name = target.name();
            let id = id(&name, &folder.dir, None);
            if !seen.insert(id.clone()) {
                continue;
            }
            let mut task = Task::new(id.clone(), Run::Argv(target.words.iter().cloned().map(Into::into).collect()));
            let is_tests = target.category == Category::Tests;
            if is_tests && target.is_about_python {
                task.env = call::pytest_environment(&wanted.pytest_addopts).into();
            }
            // The tests of Python depend on it, whatever else looks at the same.
            let is_own_way = own_ways.contains(&(folder.dir.clone(), name.clone()));
            let is_covered = !is_own_way
                && covered.iter().any(|(dir, category, toolchain)| {
                    *dir == folder.dir && *category == target.category && target.is_covered_by(*toolchain)
                });
            task.cwd = Some(facts.root.join(&folder.dir).into());
            task.history_key = Some(format!("qa:{}:{name}:{id}", facts.root.display()));
            task.check = Some(
                Check {
                    category: target.category,
                    tool: target.runner.to_owned(),
                    parser: if is_tests { Parser::Target } else { Parser::Exit }.as_str().to_owned(),
                    root: folder.dir.clone(),
                    writes_results: is_tests,
                    exclude: Vec::new(),
                    files: Vec::new(),
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
            } else if let Some(first) =
                first.as_ref().filter(|first| is_tests && **first != target && target.is_about_any_language() && !asked)
                && !is_own_way
            {
                let by = format!("`{}`, which runs the tests; `--only '{id}'` runs it", first.name());
                task.skip = Some(Skip::Deselected { by: by.into() }.into());
            } else if !target.is_callable(folder) {
                let tool = target.words.first().map_or("", String::as_str).to_owned();
                let install = install(target.runner).to_owned();
                task.skip = Some(Skip::ToolMissing { tool: tool.into(), install: install.into() }.into());
            } else if target.is_of_node() && folder.has_node_packages() && !facts.has_node_modules(&folder.dir) {
                let tool = "node_modules".to_owned();
                let install = Manager::of(folder).install(folder).to_owned();
                task.skip = Some(Skip::ToolMissing { tool: tool.into(), install: install.into() }.into());
            }
            task.reason = target.reason.into();
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
                pin: None,
                own_way: None,
                warnings: Vec::new(),
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
        "nox" => "`pip install nox` installs it",
        "pnpm" | "yarn" => "`corepack enable` installs it",
        "bun" => "`npm install -g bun` installs it",
        "gradle" => "`apt install gradle` installs it",
        "maven" => "`apt install maven` installs it",
        "bazel" => "`npm install -g @bazel/bazelisk` installs it",
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
mod cases;
