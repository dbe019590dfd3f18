//! How a tool is called in a project: its words with all placeholders filled in, its files in calls that the kernel takes,
//! its environment.

use std::collections::BTreeMap;

use crate::model::bytestring::ByteString;
use crate::model::task::{Category, Run, quote};
use crate::workflow::qa::project::{
    Project, REMEMBERS_WITHOUT_OUTPUT, Toolchain, TypeScript, is_python_test, with_slash,
};
use crate::workflow::qa::tools::Tool;
use crate::workflow::qa::wanted::Wanted;

/// Files handed to one call of a tool, and bytes of their names: far below what the kernel takes.
const FILES_PER_CALL: usize = 1_000;
const BYTES_PER_CALL: usize = 100_000;

/// Where mypy is configured.
const MYPY: [(&str, &str); 4] =
    [("mypy.ini", "[mypy]"), (".mypy.ini", "[mypy]"), ("setup.cfg", "[mypy]"), ("pyproject.toml", "[tool.mypy]")];

/// The files of a project that a tool takes.
pub(crate) fn files_of<'a>(project: &Project<'a>, tool: &Tool) -> Vec<&'a str> {
    let endings: &[&str] = match tool.toolchain {
        Toolchain::Go => &[".go"],
        Toolchain::C if tool.category == Category::Format => &[".c", ".cc", ".cpp", ".cxx", ".h", ".hpp"],
        Toolchain::C => &[".c", ".cc", ".cpp", ".cxx"],
        _ => &[""],
    };
    project.files.iter().filter(|file| endings.iter().any(|ending| file.ends_with(ending))).copied().collect()
}

/// Whether a tool can be told to look at one folder of a project.
pub(crate) fn takes_folder(tool: &Tool) -> bool {
    tool.args.iter().any(|word| matches!(*word, "." | "./..." | "{files}" | "{within}" | "{mypy}"))
}

/// Whether a tool has something to look at in a folder of a project: files of its language, tests for those that run tests.
pub(crate) fn looks_within(project: &Project<'_>, tool: &Tool, folder: &str) -> bool {
    let endings: &[&str] = match (tool.toolchain, tool.category) {
        (_, Category::Audit) => return false,
        (Toolchain::Node, Category::Format) => &[""],
        (Toolchain::Rust, _) => &[".rs"],
        (Toolchain::Python, _) => &[".py", ".pyi", ".ipynb"],
        (Toolchain::Node, _) => {
            &[".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".cts", ".tsx", ".vue", ".svelte", ".astro"]
        }
        (Toolchain::Go, Category::Tests) => &["_test.go"],
        (Toolchain::Go, _) => &[".go"],
        (Toolchain::C, _) => &[".c", ".cc", ".cpp", ".cxx", ".h", ".hpp"],
        _ => &[""],
    };
    let start = with_slash(folder);
    let mut inside = project.files.iter().filter(|file| file.starts_with(&start));
    if (tool.toolchain, tool.category) == (Toolchain::Python, Category::Tests) {
        return inside.any(|file| is_python_test(file));
    }
    inside.any(|file| endings.iter().any(|ending| file.ends_with(ending)))
}

/// Files of a tool that is called once for each of them: so many are one check, enough checks for a pool.
const FILES_PER_LOOP: usize = 10;

/// Files in groups for one call each.
pub(crate) fn chunks<'a, 'b>(tool: &Tool, files: &'b [&'a str]) -> Vec<&'b [&'a str]> {
    let files_max = if tool.by_file { FILES_PER_LOOP } else { FILES_PER_CALL };
    let mut chunks = Vec::new();
    let mut from = 0;
    let mut bytes = 0;
    for (at, file) in files.iter().enumerate() {
        if at > from && (at - from >= files_max || bytes + file.len() > BYTES_PER_CALL) {
            chunks.push(&files[from..at]);
            (from, bytes) = (at, 0);
        }
        bytes += file.len() + 1;
    }
    chunks.push(&files[from..]);
    chunks
}

/// Where in a project a tool looks, and how it is called there.
pub(crate) struct Place<'a> {
    /// Folders that it leaves out.
    pub(crate) below: &'a [&'a str],
    /// The one folder that is meant; empty for all of the project.
    pub(crate) within: &'a str,
    /// What is called in place of the program, if the project has a way of its own.
    pub(crate) called: &'a [String],
}

/// The words of a call.
pub(crate) fn words(
    project: &Project<'_>,
    tool: &Tool,
    args: &[&str],
    files: &[&str],
    place: &Place<'_>,
    wanted: &Wanted,
) -> Run {
    let Place { below, within, .. } = *place;
    let folder = || ByteString::decode(&format!("./{within}"));
    let is_locked = project.has_here(&["Cargo.lock"]).is_some();
    let mut words: Vec<ByteString> = Vec::new();
    for (at, word) in args.iter().enumerate() {
        match *word {
            // A name that starts with a dash must not be taken for an option.
            "{files}" => {
                let dash = |file: &str| if file.starts_with('-') { "./" } else { "" };
                words.extend(files.iter().map(|file| ByteString::decode(&format!("{}{file}", dash(file)))));
            }
            "." if !within.is_empty() => words.push(folder()),
            "./..." if !within.is_empty() => words.push(ByteString::decode(&format!("./{within}/..."))),
            "{locked}" => words.extend(is_locked.then(|| "--locked".into())),
            "{within}" => words.extend((!within.is_empty()).then(&folder)),
            "{script}" => {
                let runner = if tool.name == "mocha" { "mocha" } else { "node --test" };
                let arguments = project.node_test_arguments(runner).unwrap_or_default();
                words.extend(arguments.into_iter().map(Into::into));
            }
            // Without files in its configuration mypy wants to be told.
            "{mypy}" => {
                let configured = MYPY.iter().any(|(file, section)| {
                    let lines = project.text(file).lines().skip_while(|line| line.trim() != *section).skip(1);
                    let keys =
                        lines.take_while(|line| !line.starts_with('[')).filter_map(|line| line.split('=').next());
                    keys.map(str::trim).any(|key| ["files", "packages", "modules"].contains(&key))
                });
                if !within.is_empty() {
                    words.push(folder());
                } else if !configured {
                    words.push(".".into());
                }
            }
            "{tsc}" => {
                let kind = project.typescript();
                words.extend((kind == TypeScript::References).then(|| "-b".into()));
                words.push("--noEmit".into());
                // What it remembers would lie beside tsconfig.json; for `-b` there is no other place.
                let version = project.facts.typescript_version(&project.dir);
                if kind == TypeScript::Project && version.is_some_and(|version| version >= REMEMBERS_WITHOUT_OUTPUT) {
                    let file = format!("{}/tsbuildinfo", build_dir(project, wanted));
                    words.extend(["--incremental".into(), "--tsBuildInfoFile".into(), file.into()]);
                }
            }
            // Without a configuration: what is wrong, not what is a matter of taste.
            "{yamllint}" => {
                if project.config(&[".yamllint", ".yamllint.yaml", ".yamllint.yml"]).is_none() {
                    words.extend(["-d".into(), "{rules: {key-duplicates: enable}}".into()]);
                }
            }
            // These two take one option, and the configuration's own would not count beside it.
            "{black}" if !below.is_empty() && !project.text("pyproject.toml").contains("force-exclude") => {
                let folders: Vec<String> = below.iter().map(|dir| regex(dir)).collect();
                words.push(format!("--force-exclude=^/({})/", folders.join("|")).into());
            }
            "{flake8}" if !below.is_empty() => {
                let is_configured = |file: &&str| project.text(file).contains("extend-exclude");
                if ![".flake8", "setup.cfg", "tox.ini"].iter().any(is_configured) {
                    let folders: Vec<String> = below.iter().map(|dir| format!("./{dir}")).collect();
                    words.push(format!("--extend-exclude={}", folders.join(",")).into());
                }
            }
            "{black}" | "{flake8}" => {}
            word if word.contains("{below}") => {
                let is_regex = word.contains('^');
                let name = |dir: &&str| if is_regex { regex(dir) } else { (*dir).to_owned() };
                words.extend(below.iter().map(|dir| word.replace("{below}", &name(dir)).into()));
            }
            // A package is found by its name, a folder that is none by its own.
            "{unittest}" => {
                let folder = ["tests", "test"].into_iter().find(|folder| {
                    project.any_in(folder, ".py") && project.has_here(&[&format!("{folder}/__init__.py")]).is_none()
                });
                words.extend(folder.into_iter().flat_map(|folder| ["discover".into(), "-s".into(), folder.into()]));
            }
            _ if at == 0 && !place.called.is_empty() => words.extend(place.called.iter().cloned().map(Into::into)),
            word if at == 0 => {
                let called = project.facts.program(&project.dir, word);
                words.push(called.unwrap_or_else(|| word.to_owned()).into());
            }
            word => {
                let locked = if is_locked { "--locked" } else { "" };
                words.push(word.replace("{build}", &build_dir(project, wanted)).replace("{locked}", locked).into());
            }
        }
    }
    if tool.by_file && files.len() > 1 {
        return Run::Argv(for_each_file(words, files.len()));
    }
    Run::Argv(words)
}

/// A call with several files behind it as one call for each, which ends with the highest exit code.
fn for_each_file(mut words: Vec<ByteString>, files: usize) -> Vec<ByteString> {
    let files = words.split_off(words.len() - files);
    let call: Vec<String> = words.iter().map(|word| quote(&word.to_text())).collect();
    let script = format!(
        "most=0; for file; do {} \"$file\" || {{ code=$?; [ $code -le $most ] || most=$code; }}; done; exit $most",
        call.join(" ")
    );
    let shell = ["sh".into(), "-c".into(), script.into(), "sh".into()];
    shell.into_iter().chain(files).collect()
}

/// A regular expression for this text and no other.
fn regex(text: &str) -> String {
    let escaped = |c: char| if c.is_ascii_punctuation() && c != '/' { vec!['\\', c] } else { vec![c] };
    text.chars().flat_map(escaped).collect()
}

fn build_dir(project: &Project<'_>, wanted: &Wanted) -> String {
    let path = project.facts.root.join(&project.dir);
    let digest = blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex();
    format!("{}/{}", wanted.build_dir, &digest[..16])
}

/// What makes pytest write its results where a target of the project calls it, also through tox, which names each of its
/// environments. `before` is what the user has there.
pub(crate) fn pytest_environment(before: &str) -> BTreeMap<ByteString, ByteString> {
    let words = "'--junitxml={results}/junit-${TOX_ENV_NAME}.xml' -o 'cache_dir={results}/cache'";
    BTreeMap::from([
        ("PYTEST_ADDOPTS".into(), format!("{before} {words}").trim().to_owned().into()),
        ("TOX_OVERRIDE".into(), "testenv.pass_env+=PYTEST_ADDOPTS".into()),
    ])
}

/// What a tool of Python is told by its environment.
pub(crate) fn environment(project: &Project<'_>, tool: &Tool, wanted: &Wanted) -> BTreeMap<ByteString, ByteString> {
    let mut env = BTreeMap::new();
    if !matches!(tool.name, "pytest" | "unittest" | "mypy") {
        return env;
    }
    // Modules that are imported would leave `__pycache__` beside them. What is compiled already is still read: with
    // `PYTHONPYCACHEPREFIX` all of it would be compiled anew, which takes longer than a small test.
    env.insert("PYTHONDONTWRITEBYTECODE".into(), "1".into());
    if tool.name == "pytest" {
        env.insert("HYPOTHESIS_STORAGE_DIRECTORY".into(), format!("{}/hypothesis", build_dir(project, wanted)).into());
        // What pytest-cov measures, unless the project says where; its reports are the project's wish.
        let is_placed = |file: &&str| project.text(file).contains("data_file");
        if ![".coveragerc", "pyproject.toml", "setup.cfg", "tox.ini"].iter().any(is_placed) {
            env.insert("COVERAGE_FILE".into(), format!("{}/coverage", build_dir(project, wanted)).into());
        }
    }
    if tool.category == Category::Tests {
        // A package in `src/` is found by its tests also where it is not installed.
        if project.files.iter().any(|file| file.starts_with("src/") && file.ends_with("/__init__.py")) {
            env.insert("PYTHONPATH".into(), project.facts.root.join(&project.dir).join("src").into());
        }
    }
    // It would win over the project's own `cache_dir`.
    let is_configured = MYPY.iter().any(|(file, _)| project.text(file).contains("cache_dir"));
    if tool.name == "mypy" && !is_configured {
        env.insert("MYPY_CACHE_DIR".into(), format!("{}/mypy", build_dir(project, wanted)).into());
    }
    env
}
