//! A plan file becomes tasks: YAML or JSON (`version: 1`, `tasks:`), or JSON lines with a task a line. Everything wrong
//! in it is said with its place before anything starts. `matrix` expands combinations, `command` splits command lines.

mod command;
mod matrix;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use globset::Glob;

use crate::model::bytestring::ByteString;
use crate::model::id::TaskId;
use crate::model::task::{IoPriority, Limits, Retry, Run, Task, When};
use crate::model::unit::{Bytes, Percent, parse_duration};
use crate::text::snippet::{self, Fault};
use crate::text::suggest;
use crate::text::yaml::{self, Key, Kind, Node, Place};

use command::Shell;
use matrix::Combination;

/// Most values in a plan, aliases expanded: forty for each of 100,000 tasks.
const VALUES_MAX: usize = 4_000_000;
/// Most tasks after the matrices are expanded.
const TASKS_MAX: usize = 1_000_000;

/// What a plan may say depends on the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Priorities go from 0 to one less.
    pub(crate) priority_levels: u32,
}

/// A plan that was read.
#[derive(Debug)]
pub(crate) struct PlanFile {
    pub(crate) tasks: Vec<Task>,
    /// Where each of them stands.
    places: Vec<Place>,
}

/// A plan that cannot be used: the message, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlanFileError(String);

impl fmt::Display for PlanFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim_end())
    }
}

impl std::error::Error for PlanFileError {}

impl PlanFile {
    /// A fault of one of its tasks, shown at its place.
    pub(crate) fn fault(&self, name: &str, source: &str, task: &TaskId, message: String) -> PlanFileError {
        let at = self.tasks.iter().position(|one| one.id == *task).map_or((0, 0), |at| self.places[at]);
        PlanFileError(snippet::render(name, source, &Fault::at(at, message)))
    }
}

/// Reads a plan. `name` is the file's, for messages.
pub(crate) fn read(name: &str, source: &str, rules: &Rules) -> Result<PlanFile, PlanFileError> {
    let joined = source.trim_start().starts_with('{').then(|| join_surrogates(source)).flatten();
    let source = joined.as_deref().unwrap_or(source);
    let plan = if is_json_lines(source) { read_lines(source, rules) } else { read_document(source, rules) };
    plan.map_err(|fault| PlanFileError(snippet::render(name, source, &fault)))
}

/// JSON writes characters beyond U+FFFF as two escapes, of which YAML knows nothing: they become one escape of YAML.
fn join_surrogates(source: &str) -> Option<String> {
    let half = |at: usize| {
        let digits = source.get(at..at + 6)?.strip_prefix("\\u")?;
        u32::from_str_radix(digits, 16).ok()
    };
    let mut out = String::new();
    let mut from = 0;
    let mut at = 0;
    while let Some(found) = source[at..].find('\\').map(|offset| at + offset) {
        let pair = half(found)
            .filter(|high| (0xD800..0xDC00).contains(high))
            .zip(half(found + 6).filter(|low| (0xDC00..0xE000).contains(low)));
        if let Some((high, low)) = pair {
            out += &source[from..found];
            out += &format!("\\U{:08X}", 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00));
            at = found + 12;
            from = at;
        } else {
            // The character after a backslash is part of its escape, also where it is another backslash.
            at = source[found + 1..].chars().next().map_or(source.len(), |c| found + 1 + c.len_utf8());
        }
    }
    (from > 0).then(|| out + &source[from..])
}

/// More than one line, and the first is a whole object that is no document of its own.
fn is_json_lines(source: &str) -> bool {
    let mut lines = source.lines().map(str::trim).filter(|line| !line.is_empty());
    let Some(first) = lines.next().filter(|line| line.starts_with('{') && line.ends_with('}')) else { return false };
    let is_task = |value: serde_json::Value| value.get("tasks").is_none() && value.get("id").is_some();
    serde_json::from_str(first).is_ok_and(is_task)
}

fn read_lines(source: &str, rules: &Rules) -> Result<PlanFile, Fault> {
    let mut reader = Reader::new(rules, Defaults::default());
    for (at, line) in source.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let moved = |fault: Fault| Fault { line: if fault.line == 0 { 0 } else { at + 1 }, ..fault };
        let node = yaml::read(line, VALUES_MAX).map_err(moved)?;
        reader.task(&node, at).map_err(moved)?;
    }
    reader.finish()
}

fn read_document(source: &str, rules: &Rules) -> Result<PlanFile, Fault> {
    let root = yaml::read(source, VALUES_MAX)?;
    if root.kind == Kind::Null {
        return Err(Fault::at((0, 0), "the plan is empty").hint(Some(EXAMPLE.to_owned())));
    }
    let mut version = None;
    let mut tasks = None;
    let mut defaults = Defaults::default();
    for (key, value) in root.map()? {
        match key.text.as_str() {
            "version" => version = Some(value),
            "tasks" => tasks = Some(value),
            "defaults" => defaults = Defaults::read(value)?,
            other => return Err(unknown(key, other, "a plan", &["version", "tasks", "defaults"])),
        }
    }
    let version =
        version.ok_or_else(|| Fault::at(root.at, "`version: 1` is missing").hint(Some(EXAMPLE.to_owned())))?;
    if version.number().ok() != Some(1.0) {
        return Err(version.expected("version 1, the only one there is"));
    }
    let tasks = tasks.ok_or_else(|| Fault::at(root.at, "`tasks:` is missing").hint(Some(EXAMPLE.to_owned())))?;
    let mut reader = Reader::new(rules, defaults);
    for node in tasks.list()? {
        reader.task(node, 0)?;
    }
    reader.finish()
}

const EXAMPLE: &str = "a plan looks like this:\n\
    \x20   version: 1\n\
    \x20   tasks:\n\
    \x20     - {id: build, run: make}\n\
    \x20     - {id: test, run: make test, needs: [build]}";

fn unknown(key: &Key, word: &str, of: &str, known: &[&str]) -> Fault {
    let likely = suggest::likely(word, known.iter().copied());
    let hint =
        likely.map_or_else(|| format!("known are {}", known.join(", ")), |word| format!("did you mean `{word}`?"));
    Fault::at(key.at, format!("`{word}` is not a key of {of}")).hint(Some(hint))
}

/// What tasks have that do not say otherwise.
#[derive(Debug, Default)]
struct Defaults {
    env: Vec<(String, String)>,
    cwd: Option<String>,
    shell: Option<Shell>,
    limits: Limits,
    retry: Option<Retry>,
}

impl Defaults {
    fn read(node: &Node) -> Result<Self, Fault> {
        let mut defaults = Self::default();
        for (key, value) in node.map()? {
            match key.text.as_str() {
                "env" => defaults.env = environment(value)?,
                "cwd" => defaults.cwd = Some(value.text()?.to_owned()),
                "shell" => defaults.shell = Some(Shell::read(value)?),
                "limits" => limits(value, &mut defaults.limits)?,
                "timeout" => defaults.limits.timeout = Some(duration(value)?),
                "retries" => defaults.retry = Some(retries(value)?),
                other => {
                    let known = ["env", "cwd", "shell", "limits", "timeout", "retries"];
                    return Err(unknown(key, other, "`defaults`", &known));
                }
            }
        }
        Ok(defaults)
    }
}

/// Collects tasks; needs are looked up when all are known.
struct Reader<'a> {
    rules: &'a Rules,
    defaults: Defaults,
    tasks: Vec<Task>,
    places: Vec<Place>,
    needs: Vec<Vec<(String, Place)>>,
    /// What a need may name: a task, or all that a matrix made of one.
    names: HashMap<String, Vec<usize>>,
}

/// The keys of a task.
const KEYS: [&str; 18] = [
    "id",
    "title",
    "run",
    "needs",
    "env",
    "cwd",
    "inputs",
    "outputs",
    "limits",
    "retries",
    "priority",
    "deadline",
    "timeout",
    "when",
    "matrix",
    "shell",
    "locks",
    "description",
];

impl<'a> Reader<'a> {
    fn new(rules: &'a Rules, defaults: Defaults) -> Self {
        let (tasks, places, needs) = (Vec::new(), Vec::new(), Vec::new());
        Self { rules, defaults, tasks, places, needs, names: HashMap::new() }
    }

    /// Reads a task, or the tasks of its matrix. `line` is added to its place.
    fn task(&mut self, node: &Node, line: usize) -> Result<(), Fault> {
        let Kind::Map(entries) = &node.kind else { return Err(node.expected("a task: a map with `id` and `run`")) };
        let find = |name: &str| entries.iter().find(|(key, _)| key.text == name).map(|(_, value)| value);
        let id = find("id").ok_or_else(|| Fault::at(node.at, "this task has no `id`"))?;
        let matrix = find("matrix").map(matrix::read).transpose()?;
        let has_matrix = matrix.is_some();
        let combinations = matrix.unwrap_or_else(|| vec![Combination::default()]);
        let base = id.text()?;
        let first = self.tasks.len();
        for combination in &combinations {
            if self.tasks.len() >= TASKS_MAX {
                return Err(Fault::at(node.at, format!("more than {TASKS_MAX} tasks")));
            }
            let mut name = combination.fill(base, id.at)?;
            if name == base {
                name += &combination.suffix();
            }
            let task = self.one(&name, id, entries, combination)?;
            let place = (node.at.0 + line, node.at.1);
            if let Some(other) = self.names.get(&name).and_then(|all| all.first()) {
                let message = format!("two tasks are named `{name}`, the first in line {}", self.places[*other].0);
                return Err(Fault::at(id.at, message));
            }
            self.names.insert(name, vec![self.tasks.len()]);
            self.tasks.push(task);
            self.places.push(place);
        }
        if has_matrix {
            let all = (first..self.tasks.len()).collect();
            if self.names.insert(base.to_owned(), all).is_some_and(|before| before != [first]) {
                return Err(Fault::at(id.at, format!("two tasks are named `{base}`")));
            }
        }
        Ok(())
    }

    fn one(&mut self, name: &str, id: &Node, entries: &[(Key, Node)], matrix: &Combination) -> Result<Task, Fault> {
        let id = TaskId::new(name).map_err(|error| Fault::at(id.at, error.to_string()))?;
        let text = |node: &Node| matrix.fill(node.text()?, node.at);
        let texts = |node: &Node| -> Result<Vec<String>, Fault> {
            node.texts()?.iter().map(|text| matrix.fill(text, node.at)).collect()
        };
        let mut task = Task::new(id, Run::Argv(Vec::new()));
        let mut run = None;
        let mut shell = None;
        let mut needs = Vec::new();
        let mut env = self.defaults.env.clone();
        task.cwd = self.defaults.cwd.clone().map(Into::into);
        task.limits = self.defaults.limits.clone();
        task.never_repeated = self.defaults.retry.as_ref().is_some_and(|retry| retry.max == 0);
        task.retry = self.defaults.retry.clone().unwrap_or_default();
        for (key, value) in entries {
            match key.text.as_str() {
                "id" | "matrix" => {}
                "title" => task.title = Some(text(value)?),
                "description" => task.reason = text(value)?,
                "run" => run = Some(value),
                "shell" => shell = Some(Shell::read(value)?),
                "needs" => {
                    let at =
                        |at: usize| value.list().ok().and_then(|items| items.get(at)).map_or(value.at, |item| item.at);
                    needs = texts(value)?.into_iter().enumerate().map(|(n, need)| (need, at(n))).collect();
                }
                "env" => {
                    for (name, one) in environment(value)? {
                        env.push((name, matrix.fill(&one, value.at)?));
                    }
                }
                "cwd" => task.cwd = Some(text(value)?.into()),
                "inputs" => task.inputs = globs(value, texts(value)?)?,
                "outputs" => task.outputs = globs(value, texts(value)?)?,
                "locks" => task.locks = texts(value)?,
                "limits" => limits(value, &mut task.limits)?,
                "timeout" => task.limits.timeout = Some(duration(value)?),
                "retries" => {
                    task.retry = retries(value)?;
                    task.never_repeated = task.retry.max == 0;
                }
                "deadline" => task.deadline = Some(duration(value)?),
                "priority" => task.priority = self.priority(value)?,
                "when" => task.when = when(value)?,
                other => return Err(unknown(key, other, "a task", &KEYS)),
            }
        }
        task.env = env.into_iter().map(|(name, value)| (ByteString::from(name), ByteString::from(value))).collect();
        let run = run.ok_or_else(|| {
            Fault::at(entries.first().map_or((1, 1), |(key, _)| key.at), format!("task `{name}` has no `run`"))
        })?;
        let shell = shell.as_ref().or(self.defaults.shell.as_ref());
        task.run = match &run.kind {
            Kind::List(_) => command::words(run, texts(run)?, shell)?,
            _ => command::line(run, &text(run)?, shell)?,
        };
        if task.when == When::Failure && needs.is_empty() {
            return Err(Fault::at(
                run.at,
                format!("task `{name}` runs on failure, but `needs` names nothing that could fail"),
            ));
        }
        self.needs.push(needs);
        Ok(task)
    }

    fn priority(&self, node: &Node) -> Result<i32, Fault> {
        let levels = self.rules.priority_levels;
        let wanted = || {
            node.expected(&format!("a priority from 0 (normal) to {} (first)", levels - 1))
                .hint(Some("`scheduling.strategies.priority_based.priority_levels` sets how many there are".to_owned()))
        };
        let number = node.number().map_err(|_| wanted())?;
        if number.fract() != 0.0 || !(0.0..f64::from(levels)).contains(&number) {
            return Err(wanted());
        }
        Ok(number as i32)
    }

    /// Looks the needs up.
    fn finish(mut self) -> Result<PlanFile, Fault> {
        for (at, needs) in self.needs.iter().enumerate() {
            for (need, place) in needs {
                let Some(found) = self.names.get(need) else {
                    let message = format!("`{}` needs `{need}`, and no task has that name", self.tasks[at].id);
                    let likely = suggest::likely(need, self.names.keys().map(String::as_str));
                    let place = if place.0 == 1 && self.places[at].0 > 1 { self.places[at] } else { *place };
                    return Err(Fault::at(place, message).hint(likely.map(|word| format!("did you mean `{word}`?"))));
                };
                let ids: Vec<TaskId> = found.iter().map(|one| self.tasks[*one].id.clone()).collect();
                self.tasks[at].needs.extend(ids);
            }
        }
        Ok(PlanFile { tasks: self.tasks, places: self.places })
    }
}

/// Patterns that can be read: a wrong one would be found when its task has run. Without these characters it is a path.
fn globs(node: &Node, patterns: Vec<String>) -> Result<Vec<String>, Fault> {
    for (at, pattern) in patterns.iter().enumerate() {
        if pattern.contains(['*', '?', '[', '{'])
            && let Err(error) = Glob::new(pattern)
        {
            let place = node.list().ok().and_then(|items| items.get(at)).map_or(node.at, |item| item.at);
            return Err(Fault::at(place, format!("`{pattern}` is not a glob: {}", error.kind())));
        }
    }
    Ok(patterns)
}

fn environment(node: &Node) -> Result<Vec<(String, String)>, Fault> {
    let mut env = Vec::new();
    for (key, value) in node.map()? {
        if key.text.is_empty() || key.text.contains(['=', '\0']) {
            return Err(Fault::at(key.at, format!("`{}` is no name of a variable", key.text)));
        }
        let text = if value.kind == Kind::Null { "" } else { value.text()? };
        if text.contains('\0') {
            return Err(Fault::at(value.at, "a variable cannot hold a NUL character"));
        }
        env.push((key.text.clone(), text.to_owned()));
    }
    Ok(env)
}

fn duration(node: &Node) -> Result<Duration, Fault> {
    parse_duration(node.text()?).map_err(|error| Fault::at(node.at, error.to_string()))
}

fn when(node: &Node) -> Result<When, Fault> {
    let words = ["success", "failure", "always"];
    match node.text()? {
        "success" => Ok(When::Success),
        "failure" => Ok(When::Failure),
        "always" => Ok(When::Always),
        other => {
            let likely = suggest::likely(other, words).map(|word| format!("did you mean `{word}`?"));
            Err(node.expected("success, failure or always").hint(likely))
        }
    }
}

fn whole(node: &Node, range: std::ops::RangeInclusive<i64>) -> Result<i64, Fault> {
    let wanted = || node.expected(&format!("a whole number from {} to {}", range.start(), range.end()));
    let number = node.number().map_err(|_| wanted())?;
    if number.fract() != 0.0 || !range.contains(&(number as i64)) {
        return Err(wanted());
    }
    Ok(number as i64)
}

fn retries(node: &Node) -> Result<Retry, Fault> {
    let Kind::Map(entries) = &node.kind else {
        return Ok(Retry { max: whole(node, 0..=1000)? as u32, ..Retry::default() });
    };
    let mut retry = Retry { max: 1, ..Retry::default() };
    for (key, value) in entries {
        match key.text.as_str() {
            "max" => retry.max = whole(value, 0..=1000)? as u32,
            "delay" => retry.delay = duration(value)?,
            "delay_max" => retry.delay_max = duration(value)?,
            other => return Err(unknown(key, other, "`retries`", &["max", "delay", "delay_max"])),
        }
    }
    retry.delay_max = retry.delay_max.max(retry.delay);
    Ok(retry)
}

fn limits(node: &Node, limits: &mut Limits) -> Result<(), Fault> {
    const KEYS: [&str; 9] =
        ["memory", "cpu", "cpu_time", "processes", "timeout", "idle_timeout", "grace", "nice", "io_priority"];
    for (key, value) in node.map()? {
        match key.text.as_str() {
            "memory" => {
                let bytes = Bytes::parse(value.text()?).map_err(|error| Fault::at(value.at, error.to_string()))?;
                if bytes.0 < 1 << 20 {
                    return Err(value.expected("at least 1MiB; nothing starts with less"));
                }
                limits.memory = Some(bytes);
            }
            "cpu" => {
                let text = value.text()?;
                let number: Option<f64> = text.strip_suffix('%').unwrap_or(text).trim().parse().ok();
                let number = number.filter(|number| (1.0..=102_400.0).contains(number));
                limits.cpu =
                    Some(Percent(number.ok_or_else(|| value.expected("percent of one CPU, for instance 150"))?));
            }
            "cpu_time" => limits.cpu_time = Some(duration(value)?),
            "processes" => limits.processes = Some(whole(value, 1..=4_194_304)? as u64),
            "timeout" => limits.timeout = Some(duration(value)?),
            "idle_timeout" => limits.idle_timeout = Some(duration(value)?),
            "grace" => limits.grace = Some(duration(value)?),
            "nice" => limits.nice = Some(whole(value, -20..=19)? as i32),
            "io_priority" => {
                limits.io_priority = Some(match value.text()? {
                    "realtime" => IoPriority::Realtime,
                    "high" => IoPriority::High,
                    "normal" => IoPriority::Normal,
                    "low" => IoPriority::Low,
                    "idle" => IoPriority::Idle,
                    _ => return Err(value.expected("realtime, high, normal, low or idle")),
                });
            }
            other => return Err(unknown(key, other, "`limits`", &KEYS)),
        }
    }
    Ok(())
}
