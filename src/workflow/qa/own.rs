//! The project's own way to run its tests wins over a bare tool, which would not find what the project installs elsewhere.

use crate::model::task::Category;
use crate::workflow::qa::project::{Project, folders, with_slash};
use crate::workflow::qa::targets::{self, Target};

/// How pytest is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pytest {
    /// By these words.
    Called(Vec<String>),
    /// By a target of the project.
    Target(String),
    /// Not at all: its program is missing, and nothing of the project is known to run it.
    Missing,
}

/// Managers of environments of Python: what they are recognised by, and how they call a program.
const RUNNERS: [(&str, &[&str]); 4] = [
    ("uv.lock", &["uv", "run", "--locked"]),
    ("poetry.lock", &["poetry", "run"]),
    ("pdm.lock", &["pdm", "run"]),
    ("Pipfile.lock", &["pipenv", "run"]),
];

/// How the tests of a Python project are run: by the environment that lies in it or is active, by the manager whose lock file
/// it has, by its own target if that may run, and by the pytest of the machine where there is none of these.
pub(crate) fn pytest(project: &Project<'_>, may_run: MayRun<'_>) -> Pytest {
    let facts = project.facts;
    // `python -m pytest` has the folder of the project in its path, `pytest` has not.
    let by_module = mentions_module(project);
    let called = |before: &[&str], pytest: Option<String>, python: Option<String>| {
        let mut words: Vec<String> = before.iter().map(|word| (*word).to_owned()).collect();
        match (by_module, python) {
            (true, Some(python)) => words.extend([python, "-m".to_owned(), "pytest".to_owned()]),
            _ => words.extend(pytest),
        }
        Pytest::Called(words)
    };
    if let Some(pytest) = facts.program_of_environment(&project.dir, "pytest") {
        return called(&[], Some(pytest), facts.program_of_environment(&project.dir, "python"));
    }
    for (lock, words) in RUNNERS {
        let has_lock = folders(&project.dir).any(|dir| facts.has(&format!("{}{lock}", with_slash(dir))));
        if has_lock && facts.program(&project.dir, words[0]).is_some() {
            return called(words, Some("pytest".to_owned()), Some("python".to_owned()));
        }
    }
    if let Some(target) = tests(project, &|target| target.is_about_python && may_run(target)) {
        return Pytest::Target(target.name());
    }
    match facts.program(&project.dir, "pytest") {
        Some(pytest) => called(&[], Some(pytest), facts.program(&project.dir, "python3")),
        None => Pytest::Missing,
    }
}

/// Whether the project calls pytest as a module of Python anywhere.
fn mentions_module(project: &Project<'_>) -> bool {
    const FILES: [&str; 8] =
        ["Makefile", "makefile", "GNUmakefile", "tox.ini", "noxfile.py", "justfile", "Taskfile.yml", "pyproject.toml"];
    let is_said = |text: &str| text.contains("-m pytest") || text.contains("\"-m\", \"pytest\"");
    FILES.iter().any(|file| is_said(project.text(file)) || is_said(project.facts.text(file)))
        || project.facts.workflows().any(is_said)
}

/// Whether a target may run: it is there, selected, and about what is meant.
pub(crate) type MayRun<'a> = &'a dyn Fn(&Target) -> bool;

/// The target of a folder that runs its tests, whatever their language. What the workflows of CI call goes before the
/// others.
pub(crate) fn tests(folder: &Project<'_>, may_run: MayRun<'_>) -> Option<Target> {
    let mut found: Vec<Target> = targets::of(folder)
        .into_iter()
        .filter(|target| target.category == Category::Tests && target.is_about_any_language() && may_run(target))
        .collect();
    found.sort_by_key(|target| !folder.facts.workflows().any(|text| target.is_called_in(text)));
    found.into_iter().next()
}

/// Why the tests are run by `unittest`: they are written for it, and nothing is known to run them otherwise.
pub(crate) fn unittest(project: &Project<'_>) -> Option<String> {
    let first = project.python_test_files().next()?;
    if pytest(project, &|target| target.is_callable(project)) != Pytest::Missing {
        return None;
    }
    let files = project.python_test_files().take(TESTS_READ);
    let texts: Vec<String> = files.map(|file| project.facts.head(&project.path(file))).collect();
    let has = |word: &str| texts.iter().any(|text| text.contains(word));
    (has("unittest") && !has("pytest")).then(|| format!("tests such as `{}`", project.path(first)))
}

/// Files of tests that are read for what they are written for.
const TESTS_READ: usize = 20;
