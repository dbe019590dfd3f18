//! The projects in a repository: a folder with a manifest and what belongs to it. Monorepos have several.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use crate::model::bytestring::ByteString;
use crate::workflow::qa::facts::Facts;

/// A family of tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Toolchain {
    Rust,
    Python,
    Node,
    Go,
    C,
    Java,
    Shell,
    Docker,
    Workflows,
    Yaml,
    Markdown,
}

impl Toolchain {
    /// All of them.
    pub(crate) const ALL: [Self; 11] = [
        Self::Rust,
        Self::Python,
        Self::Node,
        Self::Go,
        Self::C,
        Self::Java,
        Self::Shell,
        Self::Docker,
        Self::Workflows,
        Self::Yaml,
        Self::Markdown,
    ];

    /// Whether it is a language, with projects of its own, and not one kind of file in the whole repository.
    pub(crate) const fn is_language(self) -> bool {
        matches!(self, Self::Rust | Self::Python | Self::Node | Self::Go | Self::C | Self::Java)
    }

    /// The word for `--only` and `--skip`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::Node => "node",
            Self::Go => "go",
            Self::C => "c",
            Self::Java => "java",
            Self::Shell => "shell",
            Self::Docker => "docker",
            Self::Workflows => "workflows",
            Self::Yaml => "yaml",
            Self::Markdown => "markdown",
        }
    }
}

/// A folder of one toolchain.
pub(crate) struct Project<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) toolchain: Toolchain,
    /// Relative to the repository; empty for the repository itself.
    pub(crate) dir: String,
    /// Its files, relative to `dir`.
    pub(crate) files: Vec<&'a str>,
    /// Why it was recognised.
    pub(crate) reason: String,
    /// The tool in question runs in a folder above and reaches the files here: only a configuration of its own counts.
    pub(crate) covered: bool,
}

/// Folders whose contents are material of tests or somebody else's, not projects and not files to check.
const FOREIGN: [&str; 14] = [
    "fixtures",
    "fixture",
    "testdata",
    "test-data",
    "test_data",
    "__fixtures__",
    "__snapshots__",
    "snapshots",
    "vendor",
    "third_party",
    "third-party",
    "node_modules",
    "target",
    "dist",
];
/// Manifests and what they stand for.
const MANIFESTS: [(&str, Toolchain); 17] = [
    ("Cargo.toml", Toolchain::Rust),
    ("pyproject.toml", Toolchain::Python),
    ("setup.py", Toolchain::Python),
    ("setup.cfg", Toolchain::Python),
    ("tox.ini", Toolchain::Python),
    ("requirements.txt", Toolchain::Python),
    ("package.json", Toolchain::Node),
    ("go.mod", Toolchain::Go),
    ("CMakeLists.txt", Toolchain::C),
    ("configure.ac", Toolchain::C),
    ("meson.build", Toolchain::C),
    ("compile_commands.json", Toolchain::C),
    ("settings.gradle", Toolchain::Java),
    ("settings.gradle.kts", Toolchain::Java),
    ("build.gradle", Toolchain::Java),
    ("build.gradle.kts", Toolchain::Java),
    ("pom.xml", Toolchain::Java),
];
/// Manifests that mean a project only where no other one of their kind stands above.
const WEAK: [&str; 12] = [
    "requirements.txt",
    "tox.ini",
    "setup.cfg",
    "CMakeLists.txt",
    "configure.ac",
    "meson.build",
    "compile_commands.json",
    "settings.gradle",
    "settings.gradle.kts",
    "build.gradle",
    "build.gradle.kts",
    "pom.xml",
];

/// Folders whose manifests are material as well, though their files are checked with the project around them.
fn is_material(folder: &str) -> bool {
    matches!(folder, "tests" | "test" | "samples" | "sample") || folder.starts_with("demo")
}

/// Configurations that make a folder with Python files a project also without a manifest.
const PYTHON: [&str; 9] = [
    "pytest.ini",
    "conftest.py",
    "ruff.toml",
    ".ruff.toml",
    "mypy.ini",
    ".mypy.ini",
    ".flake8",
    "noxfile.py",
    "Pipfile",
];

/// Whether a file is part of test material or of somebody else's code.
fn is_foreign(file: &str) -> bool {
    let folders = file.rsplit_once('/').map_or("", |(folders, _)| folders);
    folders.split('/').any(|folder| FOREIGN.contains(&folder))
}

/// The names of what makes a folder a project.
pub(crate) fn manifests() -> impl Iterator<Item = &'static str> {
    MANIFESTS.iter().map(|(name, _)| *name).chain(PYTHON)
}

/// Whether a folder has a manifest that makes no project since it is material of tests.
pub(crate) fn is_material_project(facts: &Facts, dir: &str) -> bool {
    let has_manifest = MANIFESTS.iter().any(|(manifest, _)| facts.has(&format!("{}{manifest}", with_slash(dir))));
    has_manifest && dir.split('/').any(is_material)
}

/// Finds all projects, those of the whole repository last.
pub(crate) fn all(facts: &Facts) -> Vec<Project<'_>> {
    let own: Vec<&str> = facts.files.iter().map(String::as_str).filter(|file| !is_foreign(file)).collect();
    // Each file and folder asks for the folders above it, so that many projects with many files stay linear.
    let mut found: BTreeMap<(Toolchain, &str), &str> = BTreeMap::new();
    for file in &own {
        let (dir, name) = file.rsplit_once('/').unwrap_or(("", file));
        if let Some((manifest, toolchain)) = MANIFESTS.iter().find(|(manifest, _)| *manifest == name)
            && !dir.split('/').any(is_material)
            // Targets of cargo-fuzz build only with its own flags.
            && !(*toolchain == Toolchain::Rust && facts.text(file).contains("cargo-fuzz = true"))
            // The names of folders of projects are those of checks.
            && ByteString::decode(file).as_path() == Path::new(file)
        {
            found.entry((*toolchain, dir)).or_insert(manifest);
        }
    }
    if let Some(file) = loose_python(facts, &own, found.is_empty()) {
        found.entry((Toolchain::Python, "")).or_insert(file);
    }
    let is_part = |toolchain: Toolchain, dir: &str, manifest: &str| {
        let weak = WEAK.contains(&manifest);
        let mut above = folders(dir).skip(1).filter(|folder| found.contains_key(&(toolchain, *folder)));
        above.any(|folder| weak || (toolchain == Toolchain::Rust && is_member(facts, folder, dir)))
    };
    let mut projects: Vec<Project<'_>> = Vec::new();
    let mut places: HashMap<(Toolchain, &str), usize> = HashMap::new();
    for ((toolchain, dir), manifest) in &found {
        if !is_part(*toolchain, dir, manifest) {
            places.insert((*toolchain, dir), projects.len());
            let reason = format!("`{}{manifest}` is here", with_slash(dir));
            let (toolchain, dir) = (*toolchain, (*dir).to_owned());
            projects.push(Project { facts, toolchain, dir, files: Vec::new(), reason, covered: false });
        }
    }
    let toolchains: BTreeSet<Toolchain> = projects.iter().map(|project| project.toolchain).collect();
    for file in &own {
        for toolchain in &toolchains {
            let mut above = folders(file).skip(1);
            let nearest = above.find_map(|folder| Some((places.get(&(*toolchain, folder))?, folder)));
            if let Some((at, folder)) = nearest {
                let inside = if folder.is_empty() { file } else { &file[folder.len() + 1..] };
                projects[*at].files.push(inside);
            }
        }
    }
    projects.extend(of_files(facts, &own));
    projects.sort_by(|a, b| (a.toolchain, &a.dir).cmp(&(b.toolchain, &b.dir)));
    projects
}

/// The file at the root by which a repository without a manifest is a Python project.
fn loose_python<'a>(facts: &Facts, own: &[&'a str], is_alone: bool) -> Option<&'a str> {
    let has_python = own.iter().any(|file| file.ends_with(".py"));
    if let Some(name) = PYTHON.iter().find(|name| facts.has(name)) {
        return has_python.then_some(*name);
    }
    let first = own.iter().find(|file| file.ends_with(".py")).copied()?;
    // Beside another language they may be its scripts; with tests, or alone, they are the thing itself.
    let module = own.iter().find(|file| !file.contains('/') && file.ends_with(".py")).copied();
    let has_tests = own.iter().any(|file| is_python_test(file));
    if is_alone { Some(first) } else { module.filter(|_| has_tests) }
}

pub(crate) fn is_python_test(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.ends_with(".py") && (name.starts_with("test_") || name.ends_with("_test.py"))
}

/// A path and the folders above it, the nearest first; the root is empty.
pub(crate) fn folders(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| match path.rsplit_once('/') {
        Some((above, _)) => Some(above),
        None => (!path.is_empty()).then_some(""),
    })
}

/// What the files in a folder start with.
pub(crate) fn with_slash(dir: &str) -> String {
    if dir.is_empty() { String::new() } else { format!("{dir}/") }
}

/// Whether the Cargo.toml of a folder covers a folder below it.
fn is_member(facts: &Facts, above: &str, dir: &str) -> bool {
    let manifest = facts.text(&format!("{}Cargo.toml", with_slash(above)));
    let below = dir.strip_prefix(&with_slash(above)).unwrap_or(dir);
    let own_workspace = facts.text(&format!("{dir}/Cargo.toml")).contains("[workspace]");
    let excluded =
        manifest.split_once("exclude").and_then(|(_, rest)| rest.split_once('[')?.1.split_once(']')).is_some_and(
            |(list, _)| list.split(',').any(|one| one.trim().trim_matches(['"', '\'']).trim_end_matches("/*") == below),
        );
    manifest.contains("[workspace]") && !own_workspace && !excluded
}

/// The program that a `#!` line names, also behind `env` with its options and variables.
fn interpreter(line: &str) -> &str {
    let mut words = line.split_whitespace();
    let mut program = words.next().unwrap_or_default();
    if program.ends_with("/env") {
        program = words.find(|word| !word.starts_with('-') && !word.contains('=')).unwrap_or_default();
    }
    program.rsplit('/').next().unwrap_or(program)
}

/// A toolchain of files, what one is called, and how it is recognised.
type Kind<'a> = (Toolchain, &'a str, &'a dyn Fn(&&str) -> bool);

/// What is checked file by file in the whole repository.
fn of_files<'a>(facts: &'a Facts, own: &[&'a str]) -> Vec<Project<'a>> {
    let is_shell = |file: &&str| {
        let interpreter = facts.interpreters.get(*file).map(|line| interpreter(line));
        let is_shell = |name: &str| matches!(name, "sh" | "bash" | "dash" | "ksh" | "ash" | "busybox");
        // What zsh or fish reads is not checked as something else.
        interpreter.map_or_else(|| file.ends_with(".sh") || file.ends_with(".bash"), is_shell)
    };
    let is_docker = |file: &&str| {
        let name = file.rsplit('/').next().unwrap_or(file);
        name == "Dockerfile"
            || name == "Containerfile"
            || name.starts_with("Dockerfile.")
            || name.ends_with(".Dockerfile")
    };
    // What Helm makes YAML of is none before.
    let is_template = |file: &str| {
        let charts = file.match_indices("templates/").map(|(at, _)| &file[..at]);
        charts
            .filter(|chart| chart.is_empty() || chart.ends_with('/'))
            .any(|chart| facts.has(&format!("{chart}Chart.yaml")))
    };
    let is_yaml = |file: &&str| (file.ends_with(".yml") || file.ends_with(".yaml")) && !is_template(file);
    let is_workflow = |file: &&str| file.starts_with(".github/workflows/") && is_yaml(file);
    let kinds: [Kind<'_>; 5] = [
        (Toolchain::Shell, "shell script", &is_shell),
        (Toolchain::Docker, "container file", &is_docker),
        (Toolchain::Workflows, "GitHub workflow", &is_workflow),
        (Toolchain::Yaml, "YAML file", &is_yaml),
        (Toolchain::Markdown, "Markdown file", &|file| file.ends_with(".md")),
    ];
    let project = |(toolchain, noun, wanted): &Kind<'_>| {
        let files: Vec<&str> = own.iter().filter(|file| wanted(file)).copied().collect();
        let first = ByteString::decode(files.first()?);
        let first = first.to_text();
        let others = if files.len() > 1 { format!(" and {} more", files.len() - 1) } else { String::new() };
        let reason = format!("{noun} `{first}`{others}");
        Some(Project { facts, toolchain: *toolchain, dir: String::new(), files, reason, covered: false })
    };
    kinds.iter().filter_map(project).collect()
}

/// How tsc is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TypeScript {
    /// One project.
    Project,
    /// A solution: without `--build` its own files are checked, often none, and nothing of what it refers to.
    References,
    /// A solution without files of its own, and a tsc that builds it only with output.
    TooOld,
    /// Projects that have files and refer to others: tsc builds them only with output, whatever its version (TS6310).
    Chained,
}

/// The first TypeScript that takes `--build` and `--noEmit` together; before it says TS5094.
const BUILDS_WITHOUT_OUTPUT: (u32, u32) = (5, 6);

/// The first TypeScript that takes `--incremental` and `--noEmit` together.
pub(crate) const REMEMBERS_WITHOUT_OUTPUT: (u32, u32) = (4, 0);

/// What follows a key in JSON that may have comments, without blanks.
fn json_key(text: &str, key: &str) -> Option<String> {
    let lines = text.lines().map(|line| line.split_once("//").map_or(line, |(before, _)| before));
    let dense: String = lines.flat_map(str::chars).filter(|c| !c.is_whitespace()).collect();
    dense.split_once(&format!("\"{key}\":")).map(|(_, value)| value.to_owned())
}

/// Whether a tsconfig.json refers to others.
fn refers(config: &str) -> bool {
    json_key(config, "references").is_some_and(|value| value.starts_with('[') && !value.starts_with("[]"))
}

/// Whether a tsconfig.json has files of its own: all below it, unless it says that it has none.
fn has_files(config: &str) -> bool {
    let is_some = |key: &str| json_key(config, key).map(|value| !value.starts_with("[]"));
    is_some("include").unwrap_or(false) || is_some("files").unwrap_or(true)
}

/// Files of one solution that are read.
const REFERENCES_MAX: usize = 1000;

/// Whether a tsconfig.json, or one that it leads to, has files and refers to others.
fn is_chained(facts: &Facts, file: &str, seen: &mut BTreeSet<String>) -> bool {
    if seen.len() >= REFERENCES_MAX || !seen.insert(file.to_owned()) {
        return false;
    }
    let config = facts.head(file);
    if !refers(&config) {
        return false;
    }
    let dir = file.rsplit_once('/').map_or("", |(dir, _)| dir);
    let list = json_key(&config, "references").unwrap_or_default();
    let paths = list.split(']').next().unwrap_or_default().split("\"path\":\"").skip(1);
    let mut named = paths.filter_map(|path| referred(dir, path.split('"').next()?));
    has_files(&config) || named.any(|path| is_chained(facts, &path, seen))
}

/// The tsconfig.json that a path in another one, in a folder of the repository, leads to; nothing outside the repository.
fn referred(dir: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    if !path.ends_with(".json") {
        parts.push("tsconfig.json");
    }
    Some(parts.join("/"))
}

/// Questions that the table of tools asks.
impl Project<'_> {
    pub(crate) fn path(&self, file: &str) -> String {
        format!("{}{file}", with_slash(&self.dir))
    }

    /// The text of a manifest in its folder.
    pub(crate) fn text(&self, file: &str) -> &str {
        self.facts.text(&self.path(file))
    }

    /// Whether a program can be called from its folder.
    pub(crate) fn has_program(&self, name: &str) -> bool {
        self.facts.program(&self.dir, name).is_some()
    }

    /// Whether a file with this ending is among its files.
    pub(crate) fn any(&self, ending: &str) -> bool {
        self.files.iter().any(|file| file.ends_with(ending))
    }

    /// Whether a file with this ending is right in a folder of it.
    pub(crate) fn any_in(&self, folder: &str, ending: &str) -> bool {
        let start = with_slash(folder);
        let is_in =
            |file: &&str| file.strip_prefix(&start).is_some_and(|rest| !rest.contains('/') && rest.ends_with(ending));
        self.files.iter().any(is_in)
    }

    /// The first of these files that is in its folder: for tools that are told its name, or look nowhere else.
    pub(crate) fn has_here(&self, files: &[&str]) -> Option<String> {
        let here = files.iter().map(|file| self.path(file)).find(|file| self.facts.has(file));
        here.map(|file| format!("`{file}` is here"))
    }

    /// The first of these files that is in its folder or at the root of the repository: for tools that look upwards.
    /// What a run at the root sees needs no second one.
    pub(crate) fn config(&self, files: &[&str]) -> Option<String> {
        let above = || files.iter().find(|file| self.facts.has(file)).map(|file| format!("`{file}` is here"));
        let above_counts = self.toolchain != Toolchain::Rust && !self.covered;
        self.has_here(files).or_else(|| above_counts.then(above).flatten())
    }

    /// Whether a manifest contains a text.
    pub(crate) fn mentions(&self, file: &str, text: &str) -> Option<String> {
        self.text(file).contains(text).then(|| format!("`{}` mentions `{text}`", self.path(file)))
    }

    /// A configuration file of the tool, or a section in a shared one.
    pub(crate) fn opted_in(&self, files: &[&str], sections: &[(&str, &str)]) -> Option<String> {
        self.config(files).or_else(|| sections.iter().find_map(|(file, section)| self.mentions(file, section)))
    }

    /// Whether a Rust package has a library, the only thing that has doctests and documentation for others.
    pub(crate) fn is_library(&self) -> bool {
        self.files.iter().any(|file| *file == "src/lib.rs" || file.ends_with("/src/lib.rs"))
            || self.text("Cargo.toml").contains("[lib]")
    }

    /// Whether black formats its files, by its own configuration or by a hook of pre-commit.
    pub(crate) fn uses_black(&self) -> bool {
        let hook = |text: &str| text.lines().any(|line| line.trim_start_matches([' ', '-']).trim_end() == "id: black");
        let texts = |file: &str| [self.text(file), self.facts.text(file)];
        texts("pyproject.toml").iter().any(|text| text.contains("[tool.black]"))
            || texts(".pre-commit-config.yaml").iter().any(|text| hook(text))
    }

    /// Why there are Python tests.
    pub(crate) fn python_tests(&self) -> Option<String> {
        // A conftest.py works also in a run above, a configuration does not.
        let files: &[&str] = if self.covered { &["pytest.ini"] } else { &["pytest.ini", "conftest.py"] };
        let configured = self.opted_in(
            files,
            &[("pyproject.toml", "[tool.pytest"), ("setup.cfg", "[tool:pytest]"), ("tox.ini", "[pytest]")],
        );
        // A run above that is told its folders does not come here.
        let narrowed = || {
            let mut above = folders(&self.dir).skip(1);
            let texts = ["pytest.ini", "pyproject.toml", "setup.cfg", "tox.ini"];
            above.any(|dir| {
                texts.iter().any(|file| self.facts.text(&format!("{}{file}", with_slash(dir))).contains("testpaths"))
            })
        };
        configured.or_else(|| {
            let test = self.files.iter().find(|file| is_python_test(file)).filter(|_| !self.covered || narrowed());
            test.map(|file| format!("tests such as `{}`", self.path(file)))
        })
    }

    /// The files of its tests.
    pub(crate) fn python_test_files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().filter(|file| is_python_test(file)).copied()
    }

    /// Whether a manifest of Node names packages that must be installed.
    pub(crate) fn has_node_packages(&self) -> bool {
        let manifest = self.package_json();
        let names = ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"];
        names.iter().any(|key| manifest.get(key).and_then(|all| all.as_object()).is_some_and(|all| !all.is_empty()))
    }

    fn package_json(&self) -> serde_json::Value {
        serde_json::from_str(self.text("package.json")).unwrap_or_default()
    }

    /// A key of package.json.
    pub(crate) fn node_key(&self, key: &str) -> Option<String> {
        self.package_json().get(key).map(|_| format!("`{}` has `{key}`", self.path("package.json")))
    }

    /// A dependency in package.json.
    pub(crate) fn node_depends(&self, name: &str) -> Option<String> {
        let manifest = self.package_json();
        let named = ["dependencies", "devDependencies"]
            .iter()
            .any(|key| manifest.get(key).and_then(|all| all.get(name)).is_some());
        named.then(|| format!("`{}` depends on `{name}`", self.path("package.json")))
    }

    /// A script of package.json.
    pub(crate) fn node_script(&self, name: &str) -> Option<String> {
        Some(self.package_json().get("scripts")?.get(name)?.as_str()?.to_owned())
    }

    /// Whether the test script is one plain call of this runner; its arguments are taken over then.
    pub(crate) fn node_script_starts(&self, runner: &str) -> Option<String> {
        self.node_test_arguments(runner)?;
        Some(format!("the test script of `{}` calls `{runner}`", self.path("package.json")))
    }

    /// The tsconfig.json of its folder, or the one at the root where that is no solution, which has its own check.
    pub(crate) fn tsconfig(&self) -> Option<String> {
        let above = || self.config(&["tsconfig.json"]).filter(|_| !refers(self.facts.text("tsconfig.json")));
        self.has_here(&["tsconfig.json"]).or_else(above)
    }

    /// How tsc reaches everything that tsconfig.json names.
    pub(crate) fn typescript(&self) -> TypeScript {
        let config = self.text("tsconfig.json");
        if !refers(config) {
            return TypeScript::Project;
        }
        match self.facts.typescript_version(&self.dir) {
            Some(version) if version < BUILDS_WITHOUT_OUTPUT && has_files(config) => TypeScript::Project,
            Some(version) if version < BUILDS_WITHOUT_OUTPUT => TypeScript::TooOld,
            _ if is_chained(self.facts, &self.path("tsconfig.json"), &mut BTreeSet::new()) => TypeScript::Chained,
            _ => TypeScript::References,
        }
    }

    /// The arguments of the test script after the runner.
    pub(crate) fn node_test_arguments(&self, runner: &str) -> Option<Vec<String>> {
        let script = self.node_script("test")?;
        let rest = script.trim().strip_prefix(runner)?;
        let plain = rest.is_empty() || rest.starts_with(' ');
        let simple = !rest.contains(['|', '&', ';', '<', '>', '$', '`', '"', '\'', '*', '(', '\\'])
            && !rest.contains("--reporter")
            && !rest.contains("--test-reporter");
        (plain && simple).then(|| rest.split_whitespace().map(str::to_owned).collect())
    }
}
