//! What is asked of the rules: the command line above the configuration, names checked.

use anyhow::{Context as _, anyhow};

use crate::cli::doctor::{self as words, Doctor, FailOn};
use crate::command::failure::Failure;
use crate::config::settings::Loaded;
use crate::doctor::question::{AgentSize, Question};
use crate::doctor::rule::Direction;
use crate::doctor::{catalogue, hardware};
use crate::model::diagnosis::{Area, Severity};
use crate::model::unit::Bytes;
use crate::text::suggest;

/// What the configuration says about rules, their names checked.
pub(crate) struct Configured {
    only: Vec<String>,
    ignore: Vec<String>,
    thresholds: Vec<(String, Option<f64>, Option<f64>)>,
}

impl Configured {
    /// Reads it. A mistake is told with the place where it stands.
    pub(crate) fn of(loaded: &Loaded) -> Result<Self, Failure> {
        let settings = &loaded.settings.doctor;
        let from = |key: &str| {
            let origin = loaded.merged.get(key).map(|(_, origin)| format!(" ({origin})")).unwrap_or_default();
            format!("{key}{origin}")
        };
        let mut thresholds = hardware::thresholds(&loaded.settings.tiers);
        thresholds.extend(all(&settings.thresholds, &from("doctor.thresholds"), threshold)?);
        Ok(Self {
            only: all(&settings.only, &from("doctor.only"), rule)?,
            ignore: all(&settings.ignore, &from("doctor.ignore"), rule)?,
            thresholds,
        })
    }
}

/// Each text understood; a mistake is told with the place where it stands.
fn all<T>(texts: &[String], place: &str, read: impl Fn(&str) -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
    let placed = |mut failure: Failure| {
        failure.error = anyhow!("{place}: {}", failure.error);
        failure
    };
    texts.iter().map(|text| read(text.trim()).map_err(placed)).collect()
}

/// What the command line asks, else what the configuration does. Thresholds of both hold, rule by rule.
pub(crate) fn question(words: &Doctor, loaded: &Loaded) -> Result<Question, Failure> {
    let Configured { mut only, mut ignore, mut thresholds } = Configured::of(loaded)?;
    // Areas on the command line are an answer to the same question as rules in a file.
    if !words.only.is_empty() || !words.areas.is_empty() {
        only = all(&words.only, "--only", rule)?;
    }
    if !words.ignore.is_empty() {
        ignore = all(&words.ignore, "--ignore", rule)?;
    }
    thresholds.extend(all(&words.threshold, "--threshold", threshold)?);
    Ok(Question {
        areas: words.areas.iter().map(|area| area_of(*area)).collect(),
        only,
        ignore,
        thresholds,
        reaches: words.probe.is_some(),
        focus: words.pid.is_some() || words.cgroup.is_some(),
        agents: words.agents,
        agent: agent(words, loaded)?,
        tiers: loaded.settings.tiers,
    })
}

/// What one agent takes.
fn agent(words: &Doctor, loaded: &Loaded) -> Result<AgentSize, Failure> {
    let size = |name: &str, text: &str| Bytes::parse(text).context(name.to_owned()).map_err(Failure::usage);
    let (settings, usual) = (&loaded.settings, AgentSize::default());
    Ok(AgentSize {
        memory: match &words.agent_memory {
            Some(text) => size("--agent-memory", text)?,
            None => settings.agent_memory.unwrap_or(usual.memory),
        },
        cpu: words.agent_cpu.or(settings.agent_cpu.map(|cpu| cpu.0)).unwrap_or(usual.cpu),
        disk: size("--agent-disk", &words.agent_disk)?,
    })
}

/// Every rule there is, those too that are asked only by name.
pub(crate) fn everything(question: &Question) -> Question {
    use words::Area::{Agents, Cpu, Hardware, Io, Memory, Network, Process};
    let all = [Memory, Cpu, Io, Network, Process, Agents, Hardware];
    Question { areas: all.map(area_of).to_vec(), focus: true, reaches: true, ..question.clone() }
}

/// The id of a rule that exists.
pub(crate) fn rule(id: &str) -> Result<String, Failure> {
    let found = catalogue::rules().find(|rule| rule.id == id);
    found.map(|rule| rule.id.to_owned()).ok_or_else(|| {
        let likely = suggest::likely(id, catalogue::rules().map(|rule| rule.id));
        let likely = likely.map(|likely| format!("did you mean `{likely}`? ")).unwrap_or_default();
        Failure::usage(anyhow!("there is no rule `{id}`")).hint(format!("{likely}`apm doctor --list-rules` lists all"))
    })
}

/// `mem.available=15:8`
fn threshold(text: &str) -> Result<(String, Option<f64>, Option<f64>), Failure> {
    let wrong = |what: &str| {
        Failure::usage(anyhow!("`{text}`: {what}"))
            .hint("for instance `mem.available=15:8`; an empty side keeps the rule silent there")
    };
    let (id, values) = text.split_once('=').ok_or_else(|| wrong("expected RULE=WARN:CRIT"))?;
    let (warn, crit) = values.split_once(':').ok_or_else(|| wrong("expected RULE=WARN:CRIT"))?;
    let side = |side: &str| match side.trim() {
        "" => Ok(None),
        side => match side.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(wrong(&format!("`{side}` is not a number"))),
        },
    };
    let (id, warn, crit) = (rule(id.trim())?, side(warn)?, side(crit)?);
    let bad = catalogue::rules().find(|rule| rule.id == id).map(|rule| rule.bad);
    if let (Some(warn), Some(crit), Some(bad)) = (warn, crit, bad) {
        let (is_wrong, word) = match bad {
            Direction::Above => (warn > crit, "above"),
            Direction::Below => (warn < crit, "below"),
        };
        if is_wrong {
            return Err(wrong(&format!("`{id}` is bad {word} its thresholds, so the warning comes first")));
        }
    }
    Ok((id, warn, crit))
}

/// From which severity on a finding fails.
pub(crate) fn floor(word: FailOn) -> Option<Severity> {
    match word {
        FailOn::Info => Some(Severity::Info),
        FailOn::Warn => Some(Severity::Warn),
        FailOn::Crit => Some(Severity::Crit),
        FailOn::Never => None,
    }
}

fn area_of(area: words::Area) -> Area {
    match area {
        words::Area::Memory => Area::Memory,
        words::Area::Cpu => Area::Cpu,
        words::Area::Io => Area::Io,
        words::Area::Network => Area::Network,
        words::Area::Process => Area::Process,
        words::Area::Agents => Area::Agents,
        words::Area::Hardware => Area::Hardware,
    }
}
