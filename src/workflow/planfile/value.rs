//! The values of a plan's keys: durations, limits, retries, globs, environments. Each is refused at its place.

use std::borrow::Cow;
use std::time::Duration;

use globset::Glob;

use crate::model::rare::Rare;
use crate::model::sandbox::{Sandbox, SandboxMode};
use crate::model::task::{IoPriority, Limits, Retry, When};
use crate::model::unit::{Bytes, Percent, parse_duration};
use crate::text::snippet::Fault;
use crate::text::suggest;
use crate::text::yaml::{Key, Kind, Node, Position};

/// Least memory of a limit or a need: nothing starts with less, so a smaller number is one without its unit.
const MEMORY_MIN: Bytes = Bytes::mib(1);

/// A key that `of` does not have.
pub(super) fn unknown(key: &Key, word: &str, of: &str, known: &[&str]) -> Fault {
    let likely = suggest::likely(word, known.iter().copied());
    let hint =
        likely.map_or_else(|| format!("known are {}", known.join(", ")), |word| format!("did you mean `{word}`?"));
    Fault::at(key.at, format!("`{word}` is not a key of {of}")).hint(Some(hint))
}

/// A pattern that can be read: a wrong one would be found when its task has run. Without these characters it is a path.
pub(super) fn glob(at: Position, pattern: Cow<'_, str>) -> Result<String, Fault> {
    if pattern.contains(['*', '?', '[', '{'])
        && let Err(error) = Glob::new(&pattern)
    {
        return Err(Fault::at(at, format!("`{pattern}` is not a glob: {}", error.kind())));
    }
    Ok(pattern.into_owned())
}

/// Names and values, and where each value stands.
pub(super) fn environment<'n>(node: &'n Node) -> Result<Vec<(&'n str, &'n str, Position)>, Fault> {
    let entries = node.map()?;
    let mut env = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        if key.text.is_empty() || key.text.contains(['=', '\0']) {
            return Err(Fault::at(key.at, format!("`{}` is no name of a variable", key.text)));
        }
        let text = if value.kind == Kind::Null { "" } else { value.text()? };
        if text.contains('\0') {
            return Err(Fault::at(value.at, "a variable cannot hold a NUL character"));
        }
        env.push((&*key.text, text, value.at));
    }
    Ok(env)
}

pub(super) fn duration(node: &Node) -> Result<Duration, Fault> {
    parse_duration(node.text()?).map_err(|error| Fault::at(node.at, error.to_string()))
}

/// A size of memory that a process can start with.
pub(super) fn memory(node: &Node) -> Result<Bytes, Fault> {
    let bytes = Bytes::parse(node.text()?).map_err(|error| Fault::at(node.at, error.to_string()))?;
    if bytes < MEMORY_MIN {
        return Err(node.expected("at least 1MiB; nothing starts with less"));
    }
    Ok(bytes)
}

pub(super) fn when(node: &Node) -> Result<When, Fault> {
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

pub(super) fn whole(node: &Node, range: std::ops::RangeInclusive<i64>) -> Result<i64, Fault> {
    let wanted = || node.expected(&format!("a whole number from {} to {}", range.start(), range.end()));
    let number = node.number().map_err(|_| wanted())?;
    if number.fract() != 0.0 || !range.contains(&(number as i64)) {
        return Err(wanted());
    }
    Ok(number as i64)
}

/// `sandbox: require`, or `sandbox: {mode: require, write: [target], network: true}`.
pub(super) fn sandbox(node: &Node, sandbox: &mut Rare<Sandbox>) -> Result<(), Fault> {
    let mode = |node: &Node| {
        SandboxMode::of(node.text()?).ok_or_else(|| {
            let likely = suggest::likely(node.text().unwrap_or_default(), SandboxMode::WORDS);
            node.expected("require, best or off").hint(likely.map(|word| format!("did you mean `{word}`?")))
        })
    };
    let Kind::Map(entries) = &node.kind else {
        sandbox.mode = mode(node)?;
        return Ok(());
    };
    for (key, value) in entries {
        match key.text.as_ref() {
            "mode" => sandbox.mode = mode(value)?,
            "write" => sandbox.write = value.texts()?.into_iter().map(Into::into).collect(),
            "network" => {
                sandbox.network = match value.text()? {
                    "true" => true,
                    "false" => false,
                    _ => return Err(value.expected("true or false")),
                };
            }
            other => return Err(unknown(key, other, "`sandbox`", &["mode", "write", "network"])),
        }
    }
    Ok(())
}

pub(super) fn retries(node: &Node) -> Result<Retry, Fault> {
    let Kind::Map(entries) = &node.kind else {
        return Ok(Retry { max: whole(node, 0..=1000)? as u32, ..Retry::default() });
    };
    let mut retry = Retry { max: 1, ..Retry::default() };
    for (key, value) in entries {
        match key.text.as_ref() {
            "max" => retry.max = whole(value, 0..=1000)? as u32,
            "delay" => retry.delay = duration(value)?,
            "delay_max" => retry.delay_max = duration(value)?,
            other => return Err(unknown(key, other, "`retries`", &["max", "delay", "delay_max"])),
        }
    }
    retry.delay_max = retry.delay_max.max(retry.delay);
    Ok(retry)
}

pub(super) fn limits(node: &Node, limits: &mut Limits) -> Result<(), Fault> {
    const KEYS: [&str; 9] =
        ["memory", "cpu", "cpu_time", "processes", "timeout", "idle_timeout", "grace", "nice", "io_priority"];
    for (key, value) in node.map()? {
        match key.text.as_ref() {
            "memory" => limits.memory = Some(memory(value)?),
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
