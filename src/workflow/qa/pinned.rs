//! What a project says of the tools that check it: the versions it pins, and the files that its hooks leave out.

use crate::workflow::qa::facts::Facts;
use crate::workflow::qa::project::Project;

/// The hooks of pre-commit.
const HOOKS: &str = ".pre-commit-config.yaml";

/// Names of hooks of pre-commit that stand for a tool.
const NAMES: [(&str, &[&str]); 15] = [
    ("ruff", &["ruff", "ruff-check"]),
    ("ruff-format", &["ruff-format"]),
    ("black", &["black"]),
    ("flake8", &["flake8"]),
    ("mypy", &["mypy"]),
    ("prettier", &["prettier"]),
    ("eslint", &["eslint"]),
    ("shellcheck", &["shellcheck"]),
    ("shfmt", &["shfmt"]),
    ("hadolint", &["hadolint"]),
    ("actionlint", &["actionlint"]),
    ("zizmor", &["zizmor"]),
    ("yamllint", &["yamllint"]),
    ("markdownlint", &["markdownlint"]),
    ("clang-format", &["clang-format"]),
];

/// A version that the project wants of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pin {
    pub(crate) version: String,
    /// The file that says so.
    pub(crate) file: String,
}

impl Pin {
    /// Whether a version is the pinned one: wrappers of tools add a part of their own (`0.9.0.6`).
    pub(crate) fn fits(&self, version: &str) -> bool {
        let same = self.version.split('.').zip(version.split('.')).all(|(pinned, is)| pinned == is);
        same && !version.is_empty()
    }
}

/// The version that a project pins of the program of a tool: in its hooks, its lock files, its files of tools.
pub(crate) fn version(project: &Project<'_>, tool: &str, program: &str) -> Option<Pin> {
    let facts = project.facts;
    let pin = |version: &str, file: &str| {
        let version = version.trim_start_matches('v');
        let is_version = version.starts_with(|c: char| c.is_ascii_digit()) && version.contains('.');
        is_version.then(|| Pin { version: version.to_owned(), file: file.to_owned() })
    };
    let hooked = || hook(facts, tool).and_then(|hook| pin(&hook.revision, HOOKS));
    let locked = || {
        ["uv.lock", "poetry.lock", "pdm.lock"].into_iter().find_map(|file| {
            let named = format!("name = \"{program}\"");
            let lines = project.text(file).lines().skip_while(|line| line.trim() != named).skip(1);
            let version = lines.take(3).find_map(|line| line.trim().strip_prefix("version = "))?;
            pin(version.trim_matches('"'), file)
        })
    };
    let required = || {
        let files = ["requirements-dev.txt", "requirements_dev.txt", "dev-requirements.txt", "requirements.txt"];
        files.into_iter().find_map(|file| {
            let start = format!("{program}==");
            let version = project.text(file).lines().find_map(|line| line.trim().strip_prefix(&start))?;
            pin(version.split([' ', ';', '#']).next()?, file)
        })
    };
    let tooled = || {
        let by_blank = |file: &'static str| {
            let line = facts.text(file).lines().find_map(|line| line.strip_prefix(program)?.strip_prefix(' '))?;
            pin(line.trim(), file)
        };
        let by_key = |file: &'static str| {
            let is_key =
                |line: &&str| line.split('=').next().is_some_and(|key| key.trim().trim_matches('"') == program);
            let line = facts.text(file).lines().find(is_key)?;
            pin(line.split_once('=')?.1.trim().trim_matches('"'), file)
        };
        by_blank(".tool-versions").or_else(|| ["mise.toml", ".mise.toml"].into_iter().find_map(by_key))
    };
    hooked().or_else(locked).or_else(required).or_else(tooled)
}

/// Regular expressions of the files that a tool does not look at where pre-commit calls it: those that must not match, and
/// those that must.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) exclude: Vec<String>,
    pub(crate) files: Vec<String>,
}

/// What the hooks leave out of a tool, and a warning for each pattern that is none here: those of pre-commit are Python's,
/// with look-ahead and references back.
pub(crate) fn left_out(facts: &Facts, tool: &str) -> (LeftOut, Vec<String>) {
    let Some(Hook { exclude, files, .. }) = hook(facts, tool) else { return Default::default() };
    let is_unread = |text: &&String| regex_automata::meta::Regex::new(text).is_err();
    let warning = |text: &String| {
        format!("`{HOOKS}`: the pattern `{text}` for {tool} is none that apm can read: it leaves no file out")
    };
    let warnings = exclude.iter().chain(&files).filter(is_unread).map(warning).collect();
    (LeftOut { exclude, files }, warnings)
}

/// A hook of pre-commit.
struct Hook {
    revision: String,
    exclude: Vec<String>,
    files: Vec<String>,
}

/// The hook that stands for a tool.
fn hook(facts: &Facts, tool: &str) -> Option<Hook> {
    let (_, ids) = NAMES.iter().find(|(name, _)| *name == tool)?;
    let config: serde_yaml::Value = serde_yaml::from_str(facts.text(HOOKS)).ok()?;
    let text = |value: &serde_yaml::Value, key: &str| value.get(key).and_then(|text| text.as_str()).map(str::to_owned);
    let repositories = config.get("repos")?.as_sequence()?;
    repositories.iter().find_map(|repository| {
        let is_it = |hook: &&serde_yaml::Value| text(hook, "id").is_some_and(|id| ids.contains(&id.as_str()));
        let hook = repository.get("hooks")?.as_sequence()?.iter().find(is_it)?;
        let all = |key: &str| [&config, hook].into_iter().filter_map(|place| text(place, key)).collect();
        let revision = text(repository, "rev").unwrap_or_default();
        Some(Hook { revision, exclude: all("exclude"), files: all("files") })
    })
}

#[cfg(test)]
mod tests {
    use super::Pin;

    #[test]
    fn a_version_fits_as_far_as_both_say() {
        let fits = |pinned: &str, is: &str| Pin { version: pinned.to_owned(), file: String::new() }.fits(is);
        assert!(fits("0.15.9", "0.15.9") && fits("0.9.0.6", "0.9.0") && fits("3.7", "3.7.1"));
        assert!(!fits("0.15.9", "0.17.6") && !fits("0.15.9", "0.15.90") && !fits("1.0", ""));
    }
}
