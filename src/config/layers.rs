//! Reads the layers and merges them, value by value. What a layer gets wrong is reported with its place in that layer.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::config::keys::{self, Effect, KeyInfo, Takes};
use crate::sys::beneath;
use crate::sys::owner::Owners;
use crate::text::snippet::{self, Fault};
use crate::text::suggest;
use crate::text::yaml::{self, Key, Kind, Node};

/// Largest file read.
const SIZE_MAX: u64 = 1 << 20;
/// Unknown variables that get a warning each; of the rest the number is said.
const UNKNOWN_MAX: usize = 5;
/// Most values in a file, aliases expanded.
const VALUES_MAX: usize = 20_000;

/// A value of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Number(f64),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    /// Kept for a system that comes later.
    Opaque,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File(PathBuf, usize),
    Variable(String),
    Flag(String),
}

/// Values and where they came from, by key.
type Values = BTreeMap<&'static str, (Value, Origin)>;

/// All layers merged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Merged {
    values: Values,
    pub(crate) warnings: Vec<String>,
    pub(crate) files: Vec<PathBuf>,
}

/// A configuration that cannot be used: the message, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigError(pub(crate) String);

/// What is read, lowest layer first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    pub(crate) files: Vec<PathBuf>,
    /// Which of them is the project's.
    pub(crate) project: Option<PathBuf>,
    /// Whose file it has to be, of those for which that matters.
    pub(crate) owners: BTreeMap<PathBuf, Owners>,
    pub(crate) variables: Vec<(OsString, OsString)>,
    /// `key=value`, and the flag it came from.
    pub(crate) flags: Vec<(String, String)>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim_end())
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Text(text) => f.write_str(text),
            Self::Texts(texts) => write!(f, "[{}]", texts.join(", ")),
            Self::Opaque => f.write_str("(kept)"),
        }
    }
}

/// Reads everything.
pub(crate) fn merge(sources: &Sources) -> Result<Merged, ConfigError> {
    let mut merged = Merged::default();
    for key in keys::KEYS.iter().filter(|key| !key.default.is_empty()) {
        let node = Node { at: (1, 1), kind: Kind::Plain(key.default.into()) };
        let value = value_of(key, &node).map_err(|fault| ConfigError(format!("{}: {}", key.path, fault.message)))?;
        merged.values.insert(key.path, (value, Origin::Default));
    }
    for path in &sources.files {
        merged.read_file(path, sources.project.as_ref() == Some(path), sources.owners.get(path))?;
    }
    merged.read_variables(&sources.variables)?;
    for (flag, text) in &sources.flags {
        merged.read_flag(flag, text)?;
    }
    let waiting: Vec<&str> = merged
        .values
        .iter()
        .filter(|(_, (_, origin))| *origin != Origin::Default)
        .filter(|(path, _)| keys::find(path).is_some_and(|key| matches!(key.effect, Effect::Waits(_))))
        .map(|(path, _)| *path)
        .collect();
    if !waiting.is_empty() {
        let first: Vec<&str> = waiting.iter().take(4).copied().collect();
        let rest = waiting.len() - first.len();
        let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        let verb = if waiting.len() == 1 { "has" } else { "have" };
        merged.warnings.push(format!(
            "{}{rest} {verb} no effect yet: their systems come later (`apm config keys`)",
            first.join(", ")
        ));
    }
    Ok(merged)
}

impl Merged {
    /// A value and its origin.
    pub(crate) fn get(&self, path: &str) -> Option<&(Value, Origin)> {
        self.values.get(path)
    }

    /// All values, by key.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &(Value, Origin))> {
        self.values.iter().map(|(path, value)| (*path, value))
    }

    fn read_file(&mut self, path: &Path, is_project: bool, owners: Option<&Owners>) -> Result<(), ConfigError> {
        let source = read_text(path, owners)?;
        let shown = path.display().to_string();
        let fail = |fault: Fault| ConfigError(snippet::render(&shown, &source, &fault));
        let root = yaml::read(&source, VALUES_MAX).map_err(fail)?;
        let mut own = Values::new();
        read_node(&root, "", path, &mut own).map_err(fail)?;
        for (key, (value, origin)) in own {
            if is_project && keys::find(key).is_some_and(KeyInfo::is_personal) {
                self.warnings.push(format!(
                    "{origin}: `{key}` has no effect in the file of a project: your own file sets it, or `--set`, or \
                     the environment (`apm config init --user`)"
                ));
            } else {
                self.values.insert(key, (value, origin));
            }
        }
        self.files.push(path.to_owned());
        Ok(())
    }

    fn read_variables(&mut self, variables: &[(OsString, OsString)]) -> Result<(), ConfigError> {
        let mut unknown = 0_usize;
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with("APM_")) else { continue };
            let by_name = keys::VARIABLES.iter().find(|(variable, _)| *variable == name).map(|(_, path)| *path);
            let by_path = || {
                let path = name.strip_prefix("APM_")?.to_lowercase().replace("__", ".");
                keys::find(&path).map(|key| key.path)
            };
            let Some(path) = by_name.or_else(by_path) else {
                unknown += usize::from(!is_own(name));
                if !is_own(name) && unknown <= UNKNOWN_MAX {
                    let by_path = |key: &KeyInfo| format!("APM_{}", key.path.replace('.', "__").to_uppercase());
                    let paths: Vec<String> = keys::KEYS.iter().map(by_path).collect();
                    let known = keys::VARIABLES.iter().map(|(variable, _)| *variable);
                    let likely = suggest::likely(name, known.chain(paths.iter().map(String::as_str)));
                    let hint = likely.map(|word| format!("; did you mean `{word}`?")).unwrap_or_default();
                    self.warnings.push(format!("the environment variable {name} is not known{hint}"));
                }
                continue;
            };
            let value = parse_text(path, value).map_err(|error| ConfigError(format!("{name}: {error}")))?;
            self.values.insert(path, (value, Origin::Variable(name.to_owned())));
        }
        if unknown > UNKNOWN_MAX {
            let more = unknown - UNKNOWN_MAX;
            self.warnings.push(format!("{more} more environment variables that begin with APM_ are not known"));
        }
        Ok(())
    }

    fn read_flag(&mut self, flag: &str, text: &str) -> Result<(), ConfigError> {
        let (path, value) = text
            .split_once('=')
            .ok_or_else(|| ConfigError(format!("{flag} {text}: expected KEY=VALUE, for instance `run.retries=2`")))?;
        let Some(info) = keys::find(path.trim()) else {
            let likely = suggest::likely(path, keys::KEYS.iter().map(|key| key.path));
            let hint = likely.map(|word| format!("; did you mean `{word}`?")).unwrap_or_default();
            return Err(ConfigError(format!("{flag} {text}: `{path}` is not a key{hint}")));
        };
        let value =
            parse_text(info.path, OsStr::new(value)).map_err(|error| ConfigError(format!("{flag} {text}: {error}")))?;
        self.values.insert(info.path, (value, Origin::Flag(flag.to_owned())));
        Ok(())
    }
}

/// Reads a section of a file and what is below it.
fn read_node(node: &Node, path: &str, file: &Path, values: &mut Values) -> Result<(), Fault> {
    // The specification writes its strategies as a list of names with parameters.
    if path == "scheduling.strategies"
        && let Kind::List(items) = &node.kind
    {
        for item in items {
            read_strategy(item, path, file, values)?;
        }
        return Ok(());
    }
    for (key, value) in node.map()? {
        let below = if path.is_empty() { key.text.to_string() } else { format!("{path}.{}", key.text) };
        if let Some(info) = keys::find(&below) {
            let value = value_of(info, value)?;
            values.insert(info.path, (value, Origin::File(file.to_owned(), key.at.0)));
        } else if keys::is_section(&below) {
            read_node(value, &below, file, values)?;
        } else {
            let place = if path.is_empty() { "a key".to_owned() } else { format!("a key of `{path}`") };
            let likely = suggest::likely(&key.text, keys::names_under(path));
            let hint = likely.map(|word| format!("did you mean `{word}`?"));
            let hint = hint.or_else(|| Some("`apm config keys` lists all".to_owned()));
            return Err(Fault::at(key.at, format!("`{}` is not {place}", key.text)).hint(hint));
        }
    }
    Ok(())
}

fn read_strategy(item: &Node, path: &str, file: &Path, values: &mut Values) -> Result<(), Fault> {
    let entries = item.map()?;
    let find = |name: &str| entries.iter().find(|(key, _)| key.text == name).map(|(_, value)| value);
    let name = find("name").ok_or_else(|| Fault::at(item.at, "a strategy needs a `name`"))?;
    let text = name.text()?;
    let below = format!("{path}.{text}");
    if !keys::is_section(&below) {
        let hint = suggest::likely(text, keys::names_under(path)).map(|word| format!("did you mean `{word}`?"));
        let known = keys::names_under(path).join(", ");
        return Err(Fault::at(name.at, format!("`{text}` is no strategy; known are {known}")).hint(hint));
    }
    for (key, value) in entries {
        match key.text.as_ref() {
            "name" => {}
            "description" => drop(value.text()?),
            "parameters" => read_node(value, &below, file, values)?,
            other => {
                let likely = suggest::likely(other, ["name", "description", "parameters"]);
                let hint = likely.map(|word| format!("did you mean `{word}`?"));
                return Err(Fault::at(key.at, format!("`{other}` is not a key of a strategy")).hint(hint));
            }
        }
    }
    Ok(())
}

/// Variables by which apm talks to itself and to its tests.
fn is_own(name: &str) -> bool {
    // Whole names: `APM_RUN_` as a beginning would hide each typo in a key of the section `run`.
    const OWN: [&str; 12] = [
        "APM_RUN",
        "APM_RUN_SLOTS",
        "APM_TASK",
        "APM_ATTEMPT",
        // Of the preloaded library, in what is profiled.
        "APM_RING",
        "APM_SLOT",
        "APM_TRY",
        "APM_DEPTH",
        "APM_STATE_DIR",
        "APM_TUNE_ENV",
        "APM_CRASH_ROUNDS",
        "APM_RELEASE_BIN",
    ];
    OWN.contains(&name)
}

/// A text file of bounded size; what it is not is said.
pub(crate) fn read_text(path: &Path, owners: Option<&Owners>) -> Result<String, ConfigError> {
    let fail = |what: String| ConfigError(format!("{}: {what}", path.display()));
    let read = || {
        let file = beneath::regular(path)?;
        if let Some(owners) = owners {
            owners.judge(path, &file.metadata()?)?;
        }
        beneath::bounded(file, path, SIZE_MAX)
    };
    let bytes = read().map_err(|error: std::io::Error| {
        fail(match error.kind() {
            ErrorKind::FileTooLarge => "larger than 1 MiB, which no configuration is".to_owned(),
            // A FIFO would be waited for, and a device may have no end.
            ErrorKind::InvalidInput => "it is no regular file".to_owned(),
            _ => error.to_string(),
        })
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        fail(format!("line {line} is not UTF-8 (byte {:#04x} at offset {at})", error.as_bytes()[at]))
    })
}

fn parse_text(path: &str, text: &OsStr) -> Result<Value, String> {
    let info = keys::find(path).ok_or("unknown key")?;
    let text = text.to_str().ok_or("the value is not UTF-8")?;
    let node = if matches!(info.takes, Takes::Texts | Takes::Pairs) {
        let item = |text| Node { at: (1, 1), kind: Kind::Quoted(str::trim(text).into()) };
        Node { at: (1, 1), kind: Kind::List(text.split(',').filter(|t| !t.trim().is_empty()).map(item).collect()) }
    } else {
        Node { at: (1, 1), kind: Kind::Plain(text.trim().into()) }
    };
    value_of(info, &node).map_err(|fault| fault.message)
}

fn owned(texts: Vec<&str>) -> Value {
    Value::Texts(texts.into_iter().map(str::to_owned).collect())
}

fn value_of(info: &KeyInfo, node: &Node) -> Result<Value, Fault> {
    let wrong = || {
        let mut fault = node.expected(&info.takes.expected());
        fault.message = format!("{}: {}", info.path, fault.message);
        fault
    };
    match info.takes {
        Takes::Bool => node.boolean().map(Value::Bool).map_err(|fault| wrong().hint(fault.hint)),
        Takes::Whole(min, max) => {
            let number = node.number().map_err(|_| wrong())?;
            let fits = number.fract() == 0.0 && (min as f64..=max as f64).contains(&number);
            if fits { Ok(Value::Number(number)) } else { Err(wrong()) }
        }
        Takes::Number(min, max) => {
            let number = node.number().map_err(|_| wrong())?;
            if (min..=max).contains(&number) { Ok(Value::Number(number)) } else { Err(wrong()) }
        }
        Takes::Choice(words) => {
            let text = node.text().map_err(|_| wrong())?;
            if words.contains(&text) {
                return Ok(Value::Text(text.to_owned()));
            }
            let hint = suggest::likely(text, words.iter().copied()).map(|word| format!("did you mean `{word}`?"));
            Err(wrong().hint(hint))
        }
        Takes::Texts => node.texts().map(owned).map_err(|_| wrong()),
        Takes::Pairs => match &node.kind {
            Kind::Map(pairs) => {
                let pair = |(key, value): &(Key, Node)| Ok(format!("{}={}", key.text, value.text()?));
                pairs.iter().map(pair).collect::<Result<_, Fault>>().map(Value::Texts).map_err(|_| wrong())
            }
            _ => node.texts().map(owned).map_err(|_| wrong()),
        }
        .and_then(|value| if info.path == "run.resources" { capacities(value, node) } else { Ok(value) }),
        Takes::Anything => Ok(Value::Opaque),
    }
}

/// Checks what resources may be called and how much of them there may be.
fn capacities(value: Value, node: &Node) -> Result<Value, Fault> {
    let Value::Texts(texts) = &value else { return Ok(value) };
    for text in texts {
        let (name, capacity) = text.split_once('=').unwrap_or((text, ""));
        let name_fits = !name.is_empty() && !name.contains(char::is_whitespace);
        if !name_fits || ["slots", "memory"].contains(&name) {
            let message = format!("run.resources: `{name}` cannot be the name of a resource");
            return Err(
                Fault::at(node.at, message).hint(Some("slots are set by `-j`, memory by `--memory`".to_owned()))
            );
        }
        if !capacity.parse::<u64>().is_ok_and(|capacity| (1..=1_000_000).contains(&capacity)) {
            let message =
                format!("run.resources: `{text}`: expected NAME=CAPACITY, a whole number from 1 to 1,000,000");
            return Err(Fault::at(node.at, message));
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;

    use super::{ConfigError, Merged, Origin, Sources, Value, merge};

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("apm-config-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    fn file(name: &str, bytes: &[u8]) -> Result<Merged, ConfigError> {
        let folder = folder(name);
        let path = folder.join("apm.yaml");
        std::fs::write(&path, bytes).expect("written");
        let merged = merge(&Sources { files: vec![path], ..Sources::default() });
        std::fs::remove_dir_all(&folder).expect("removed");
        let prefix = format!("{}/", folder.display());
        merged.map_err(|ConfigError(text)| ConfigError(text.replace(&prefix, "")))
    }

    fn error(name: &str, bytes: &[u8]) -> String {
        file(name, bytes).expect_err("refused").0
    }

    /// The blocks of the specification, as they stand there.
    const BLOCKS: [&str; 5] = [
        include_str!("../../tests/data/config/spec_resources.json"),
        include_str!("../../tests/data/config/spec_sub_agents.yaml"),
        include_str!("../../tests/data/config/spec_scheduling.yaml"),
        include_str!("../../tests/data/config/spec_caching.json"),
        include_str!("../../tests/data/config/spec_network.yaml"),
    ];

    #[test]
    fn the_blocks_of_the_specification_are_accepted() {
        for (at, block) in BLOCKS.iter().enumerate() {
            let merged = file(&format!("block{at}"), block.as_bytes()).expect("accepted");
            assert!(merged.all().any(|(_, (_, origin))| *origin != Origin::Default), "block {at} sets something");
        }
        let tests = include_str!("../../tests/data/config/spec_performance_tests.yaml");
        let merged = file("tests", tests.as_bytes()).expect("accepted");
        assert_eq!(
            merged.warnings,
            ["performance_tests has no effect yet: their systems come later (`apm config keys`)"]
        );
        let metrics = include_str!("../../tests/data/config/spec_metrics.yaml");
        assert!(file("metrics", metrics.as_bytes()).is_ok());
        let resources = file("one", BLOCKS[0].as_bytes()).expect("accepted");
        let (value, origin) = resources.get("performance.resource_allocation.nice_level").expect("set");
        assert_eq!(*value, Value::Number(-5.0));
        assert!(matches!(origin, Origin::File(_, 8)), "{origin}");
    }

    #[test]
    fn faults_show_the_place_the_value_and_the_likely_word() {
        let text = b"sub_agents:\n  pool_configuration:\n    initial_size: 4\n    max_size: lots\n";
        let expected = "apm.yaml:4:15: sub_agents.pool_configuration.max_size: expected a whole number from 1 to 10000, found \"lots\"
  2 |   pool_configuration:
  3 |     initial_size: 4
  4 |     max_size: lots
    |               ^
";
        assert_eq!(error("value", text), expected);
        let unknown = error("unknown", b"sub_agents:\n  pool_configuration:\n    max_szie: 4\n");
        assert!(unknown.contains("3:5: `max_szie` is not a key of `sub_agents.pool_configuration`"), "{unknown}");
        assert!(unknown.contains("hint: did you mean `max_size`?"), "{unknown}");
        let cases: [(&[u8], &str); 12] = [
            (b"run:\n  retries: 1\n  retries: 2\n", "3:3: `retries` is set twice, first in line 2"),
            (b"run:\n  retries: [1\n", "not valid YAML"),
            (b"run:\n    retries: 1\n  grace_seconds: 2\n", "3:3: not valid YAML"),
            (b"run: 5\n", "1:6: expected a map, found \"5\""),
            (b"run:\n  retries: -1\n", "expected a whole number from 0 to 1000, found \"-1\""),
            (b"run:\n  retries: 1.5\n", "expected a whole number"),
            (b"run:\n  grace_seconds: .nan\n", "expected a number from 0 to 3600, found \".nan\""),
            (b"qa:\n  strict: yes\n", "hint: write `true`"),
            (b"\xff\xfe", "line 1 is not UTF-8 (byte 0xff at offset 0)"),
            (b"- a\n- b\n", "expected a map, found a list"),
            (b"performance:\n  resource_allocation:\n    io_priority: hihg\n", "did you mean `high`?"),
            (b"scheduling:\n  strategies:\n    - name: resource_awar\n", "did you mean `resource_aware`?"),
        ];
        for (at, (text, part)) in cases.iter().enumerate() {
            let message = error(&format!("case{at}"), text);
            assert!(message.contains(part), "{message}\nshould contain\n{part}");
        }
        let huge = vec![b'#'; (1 << 20) + 1];
        assert!(error("huge", &huge).contains("larger than 1 MiB"));
    }

    #[test]
    fn harmless_files_are_accepted() {
        for (at, text) in ["", "# only a comment\n", "\u{feff}run:\r\n  retries: 3\r\n", "run:\n"].iter().enumerate() {
            assert!(file(&format!("fine{at}"), text.as_bytes()).is_ok(), "{text:?}");
        }
        let folder = folder("directory");
        let merged = merge(&Sources { files: vec![folder.clone()], ..Sources::default() });
        assert!(merged.expect_err("refused").0.contains("directory"));
        std::fs::remove_dir_all(folder).expect("removed");
        let missing = Sources { files: vec![Path::new("/nonexistent/apm.yaml").to_owned()], ..Sources::default() };
        assert!(merge(&missing).is_err());
    }

    #[test]
    fn later_layers_win_and_say_where_they_came_from() {
        let folder = folder("layers");
        let path = folder.join("apm.yaml");
        std::fs::write(&path, "run: {retries: 1, grace_seconds: 2, keep_runs: 3, retry_delay_max_ms: 400}\n")
            .expect("written");
        let sources = Sources {
            owners: std::collections::BTreeMap::new(),
            files: vec![path.clone()],
            project: Some(path),
            variables: vec![
                ("APM_RUN__RETRIES".into(), "4".into()),
                ("APM_RUN__GRACE_SECONDS".into(), "5".into()),
                ("APM_BUFFER_SIZE_KB".into(), "128".into()),
                ("APM_BUFER_SIZE_KB".into(), "1".into()),
                ("APM_RUN".into(), "own".into()),
                ("APM_RUN_SLOTS".into(), "3".into()),
                ("APM_RUN__RETRYS".into(), "3".into()),
            ],
            flags: vec![("--set".into(), "run.retries=6".into())],
        };
        let merged = merge(&sources).expect("good");
        let show = |path| merged.get(path).map(|(value, origin)| format!("{value} {origin}")).unwrap_or_default();
        assert_eq!(show("run.retries"), "6 --set");
        assert_eq!(show("run.grace_seconds"), "5 environment APM_RUN__GRACE_SECONDS");
        assert_eq!(show("run.keep_runs"), "100 default", "a project has no say in it");
        assert!(show("run.retry_delay_max_ms").ends_with("apm.yaml:1"));
        assert_eq!(show("memory.buffer_size_kb"), "128 environment APM_BUFFER_SIZE_KB");
        assert_eq!(show("run.retry_delay_ms"), "200 default");
        let (first, others) = merged.warnings.split_first().expect("warnings");
        assert!(first.contains("apm.yaml:1: `run.keep_runs` has no effect in the file of a project"), "{first}");
        assert_eq!(
            others,
            [
                "the environment variable APM_BUFER_SIZE_KB is not known; did you mean `APM_BUFFER_SIZE_KB`?",
                "the environment variable APM_RUN__RETRYS is not known; did you mean `APM_RUN__RETRIES`?"
            ]
        );
        let bad = Sources { flags: vec![("--set".into(), "run.retrys=6".into())], ..Sources::default() };
        let message = merge(&bad).expect_err("refused").0;
        assert_eq!(message, "--set run.retrys=6: `run.retrys` is not a key; did you mean `run.retries`?");
        std::fs::remove_dir_all(folder).expect("removed");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100), seed in any::<u64>()) {
            let _ = file(&format!("any{seed}"), &bytes);
        }
    }
}
