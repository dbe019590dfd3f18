//! The project's own targets: what its Makefile, justfile, Taskfile, package.json, tox.ini, noxfile.py or pre-commit
//! configuration calls test, lint, format, types and build, and the whole build of Gradle, Maven and Bazel. They are run as
//! they are: their exit code speaks, and the summary that their test runner prints.

use crate::model::task::Category;
use crate::workflow::qa::manager::Manager;
use crate::workflow::qa::project::{Project, Toolchain};

/// A target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// `make`, `just`, `npm`, `tox`, `gradle` and so on: what `--only` names.
    pub(crate) runner: &'static str,
    pub(crate) category: Category,
    pub(crate) words: Vec<String>,
    pub(crate) reason: String,
    /// It is no check alone: the hooks of pre-commit are mostly fixers.
    pub(crate) changes_files: bool,
    /// As far as its file tells it runs something of Python.
    pub(crate) is_about_python: bool,
}

impl Target {
    /// What it is called in reports: `make test`.
    pub(crate) fn name(&self) -> String {
        match self.runner {
            "tox" => "tox".to_owned(),
            "bazel" => "bazel test".to_owned(),
            "gradle" | "maven" => format!("{} {}", self.runner, self.words.last().map_or("", String::as_str)),
            runner => format!("{runner} {}", self.words.last().map_or("", String::as_str)),
        }
    }

    /// How a text, such as a workflow of CI, would call it.
    pub(crate) fn is_called_in(&self, text: &str) -> bool {
        match self.runner {
            "tox" | "nox" => text.contains(self.runner),
            _ => text.contains(&self.name()),
        }
    }

    /// Whether its program is there: one in PATH, or one of the project.
    pub(crate) fn is_callable(&self, folder: &Project<'_>) -> bool {
        let program = self.words.first().map_or("", String::as_str);
        match program.strip_prefix("./") {
            Some(file) => folder.facts.has_program_in(&folder.dir, file),
            None => folder.facts.program(&folder.dir, program).is_some(),
        }
    }

    /// Whether it is one of those that a project writes for its tests, whatever their language: one of them is enough.
    pub(crate) fn is_about_any_language(&self) -> bool {
        matches!(self.runner, "make" | "just" | "task" | "tox" | "nox")
    }

    /// Whether it is a script of a package of Node.
    pub(crate) fn is_of_node(&self) -> bool {
        matches!(self.runner, "npm" | "pnpm" | "yarn" | "bun")
    }

    /// Whether it looks at the same as a tool of this toolchain in its folder and category. A script of npm is about
    /// Node, a Makefile about any language; pre-commit runs only when asked for and is then meant.
    pub(crate) fn is_covered_by(&self, toolchain: Toolchain) -> bool {
        match self.runner {
            // Builds of languages for which no tool of the table runs tests.
            "pre-commit" | "gradle" | "maven" | "bazel" => false,
            "npm" | "pnpm" | "yarn" | "bun" => toolchain == Toolchain::Node,
            "tox" | "nox" => toolchain == Toolchain::Python,
            _ => toolchain.is_language(),
        }
    }
}

/// What runs targets.
pub(crate) const RUNNERS: [&str; 13] =
    ["make", "just", "task", "npm", "pnpm", "yarn", "bun", "tox", "nox", "gradle", "maven", "bazel", "pre-commit"];

/// Names of targets and what they are about.
const NAMES: [(&str, Category); 26] = [
    ("fmt-check", Category::Format),
    ("format-check", Category::Format),
    ("format:check", Category::Format),
    ("check-format", Category::Format),
    ("check-fmt", Category::Format),
    ("lint", Category::Lint),
    ("vet", Category::Lint),
    ("clippy", Category::Lint),
    ("shellcheck", Category::Lint),
    ("types", Category::Types),
    ("typecheck", Category::Types),
    ("type-check", Category::Types),
    ("typing", Category::Types),
    ("test:types", Category::Types),
    ("check:types", Category::Types),
    ("check-types", Category::Types),
    ("lint:check", Category::Lint),
    ("test:unit", Category::Tests),
    ("build", Category::Build),
    ("test", Category::Tests),
    ("tests", Category::Tests),
    ("unit-test", Category::Tests),
    ("check", Category::Tests),
    ("audit", Category::Audit),
    ("docs", Category::Docs),
    ("doc", Category::Docs),
];

fn category(name: &str) -> Option<Category> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, category)| *category)
}

/// Whether a file of targets calls anything of Python.
fn mentions_python(text: &str) -> bool {
    ["python", "pytest", "unittest", "tox", "nox", "uv run", "poetry", "hatch"].iter().any(|word| text.contains(word))
}

/// The targets in the folder of a project, or at the root of the repository.
pub(crate) fn of(folder: &Project<'_>) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut add = |runner: &'static str, file: &str, name: &str, words: &[&str]| {
        if let Some(category) = category(name) {
            let words = words.iter().map(|word| (*word).to_owned()).collect();
            let (reason, changes_files) = (format!("`{file}` has `{name}`"), runner == "pre-commit");
            let is_about_python = matches!(runner, "tox" | "nox") || mentions_python(folder.text(file));
            targets.push(Target { runner, category, words, reason, changes_files, is_about_python });
        }
    };
    for file in ["GNUmakefile", "makefile", "Makefile"] {
        for name in make_targets(folder.text(file)) {
            add("make", file, name, &["make", name]);
        }
    }
    for file in ["justfile", "Justfile"] {
        for name in just_recipes(folder.text(file)) {
            add("just", file, name, &["just", name]);
        }
    }
    // The first that is there is the one that is read.
    let taskfiles = ["Taskfile.yml", "Taskfile.yaml", "Taskfile.dist.yml", "Taskfile.dist.yaml"];
    if let Some(file) = taskfiles.into_iter().find(|file| !folder.text(file).is_empty()) {
        for name in taskfile_tasks(folder.text(file)) {
            add("task", file, &name, &["task", &name]);
        }
    }
    if folder.toolchain == Toolchain::Node {
        let manager = Manager::of(folder);
        let manifest: serde_json::Value = serde_json::from_str(folder.text("package.json")).unwrap_or_default();
        let scripts = manifest.get("scripts").and_then(|scripts| scripts.as_object());
        for (name, script) in scripts.into_iter().flatten() {
            // What `npm init` writes is no test.
            let placeholder = script.as_str().is_none_or(|script| script.contains("no test specified"));
            if !placeholder {
                let words: Vec<&str> = manager.run().iter().copied().chain([name.as_str()]).collect();
                add(manager.program(), "package.json", name, &words);
            }
        }
    }
    if folder.text("tox.ini").contains("[tox]") || folder.text("tox.ini").contains("[testenv") {
        // One environment for each version of Python: that of the Python that is here, not those that are not, nor documents.
        let by_version = ["py3", "py{3", "py{2"].iter().any(|factor| folder.text("tox.ini").contains(factor));
        add("tox", "tox.ini", "test", if by_version { &["tox", "-q", "-e", "py"] } else { &["tox", "-q"] });
    }
    for name in nox_sessions(folder.text("noxfile.py")) {
        add("nox", "noxfile.py", &name, &["nox", "-s", &name]);
    }
    if !folder.text(".pre-commit-config.yaml").is_empty() {
        add("pre-commit", ".pre-commit-config.yaml", "lint", &["pre-commit", "run", "--all-files"]);
    }
    let has = |names: &[&'static str]| names.iter().find(|name| folder.facts.has(&folder.path(name))).copied();
    let mut whole = |runner: &'static str, file: &str, words: &[&str]| {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let reason = format!("`{}` is here", folder.path(file));
        let category = Category::Tests;
        targets.push(Target { runner, category, words, reason, changes_files: false, is_about_python: false });
    };
    // One file of Gradle somewhere in a project of something else is a part of another build.
    let is_build = folder.dir.is_empty() || has(&["gradlew", "settings.gradle", "settings.gradle.kts"]).is_some();
    let gradle = ["settings.gradle", "settings.gradle.kts", "build.gradle", "build.gradle.kts"];
    if let Some(file) = has(&gradle).filter(|_| is_build) {
        let program = if has(&["gradlew"]).is_some() { "./gradlew" } else { "gradle" };
        whole("gradle", file, &[program, "--console=plain", "check"]);
    } else if let Some(file) = has(&["pom.xml"]) {
        let program = if has(&["mvnw"]).is_some() { "./mvnw" } else { "mvn" };
        whole("maven", file, &[program, "-B", "-ntp", "verify"]);
    }
    if let Some(file) = has(&["MODULE.bazel", "WORKSPACE", "WORKSPACE.bazel"]) {
        whole("bazel", file, &["bazel", "test", "--noshow_progress", "//..."]);
    }
    targets
}

/// The sessions of a noxfile: functions that take one, or the names that their decorators give.
fn nox_sessions(text: &str) -> Vec<String> {
    let mut named = None;
    let mut sessions = Vec::new();
    for line in text.lines() {
        if line.starts_with("@") {
            let name = line.split_once("name=").map(|(_, rest)| rest.trim_start_matches(['"', '\'']));
            named = name.and_then(|rest| rest.split(['"', '\'']).next()).map(str::to_owned).or(named);
        } else if let Some(rest) = line.strip_prefix("def ") {
            let (name, arguments) = rest.split_once('(').unwrap_or((rest, ""));
            if arguments.starts_with("session") {
                sessions.push(named.take().unwrap_or_else(|| name.to_owned()));
            }
            named = None;
        }
    }
    sessions
}

/// Names before a colon at the start of a line: targets, without patterns, variables and special ones.
fn make_targets(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.starts_with(['\t', ' ', '#', '.']))
        .filter_map(|line| {
            let (names, rest) = line.split_once(':')?;
            (!rest.starts_with('=') && !names.contains(['=', '%', '$'])).then_some(names)
        })
        .flat_map(str::split_whitespace)
}

/// Names at the start of a line up to a colon, without those that need an argument or another system.
fn just_recipes(text: &str) -> impl Iterator<Item = &str> {
    // The systems of all attributes of a recipe count together.
    let (mut named, mut here) = (false, false);
    text.lines().filter(|line| !line.starts_with([' ', '\t', '#'])).filter_map(move |line| {
        if let Some(attributes) = line.strip_prefix('[') {
            let names: Vec<&str> = attributes.split([',', ']']).map(str::trim).collect();
            let on = |systems: &[&str]| names.iter().any(|name| systems.contains(name));
            named |= on(&["windows", "macos", "openbsd"]);
            here |= on(&["linux", "unix"]);
            return None;
        }
        let elsewhere = std::mem::take(&mut named) & !std::mem::take(&mut here);
        let (head, rest) = line.split_once(':')?;
        let needs_argument = head.split_whitespace().skip(1).any(|word| !word.contains('=') && !word.starts_with('*'));
        let name = head.split_whitespace().next()?;
        (!rest.starts_with('=') && !needs_argument && !elsewhere).then(|| name.trim_start_matches('@'))
    })
}

/// The tasks of a Taskfile that can be called from outside.
fn taskfile_tasks(text: &str) -> Vec<String> {
    let value: serde_yaml::Value = serde_yaml::from_str(text).unwrap_or_default();
    let tasks = value.get("tasks").and_then(|tasks| tasks.as_mapping());
    let is_internal = |task: &serde_yaml::Value| task.get("internal").and_then(|word| word.as_bool()) == Some(true);
    let open = tasks.into_iter().flatten().filter(|(_, task)| !is_internal(task));
    open.filter_map(|(name, _)| name.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::{just_recipes, make_targets, nox_sessions, taskfile_tasks};

    #[test]
    fn targets_are_told_from_rules_variables_and_comments() {
        let make = "CC := gcc\nall: test lint\n.PHONY: test\ntest:\n\tgo test: x\n%.o: %.c\n# a: b\nlint vet: all\n";
        assert_eq!(make_targets(make).collect::<Vec<_>>(), ["all", "test", "lint", "vet"]);
        let just = "x := '1'\n@test:\n  a: b\nlint arg='x':\ndeploy target:\nset shell := ['a']\n";
        assert_eq!(just_recipes(just).collect::<Vec<_>>(), ["test", "lint"]);
        let systems =
            "[windows]\ntypecheck:\n  x\n[linux, macos]\nbuild:\n[private]\n[macos]\ntest:\n[unix]\n[macos]\nlint:\n";
        assert_eq!(just_recipes(systems).collect::<Vec<_>>(), ["build", "lint"]);
        assert_eq!(taskfile_tasks("version: '3'\ntasks:\n  test: {}\n  lint:\n    cmds: []\n"), ["test", "lint"]);
        assert!(taskfile_tasks("a: [").is_empty());
        assert_eq!(taskfile_tasks("tasks:\n  lint: {internal: true}\n  test: go test\n"), ["test"]);
    }

    #[test]
    fn sessions_of_nox_have_the_names_of_their_decorators() {
        let text = "import nox\n@nox.session(python=['3.12'])\ndef tests(session):\n    pass\n@nox.session(name=\"type-check\")\n\
            def types(session: nox.Session) -> None:\n    pass\ndef helper(x):\n    pass\n";
        assert_eq!(nox_sessions(text), ["tests", "type-check"]);
    }
}
