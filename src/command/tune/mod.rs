//! `apm tune`: the plan and its forms, the drop-in files, what drifted. `change` applies and takes back.

mod change;
mod file;
mod judge;
mod looked;
mod written;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use serde_json::json;

use self::file::{Planfile, files};
use self::looked::{Looked, planned, unknown};
use crate::cli::run::ListFormat;
use crate::cli::tune::{Env, EnvFormat, Explain, Plan, Planned, Tune, TuneCommand, TuneFormat, Write};
use crate::command::context::Context;
use crate::command::failure::{Exit, Failure};
use crate::executor::runtimes;
use crate::model::setting::Place;
use crate::model::snapshot::cgroup::Group;
use crate::model::task::Limits;
use crate::model::unit::{Bytes, Percent};
use crate::probe::{Roots, cgroup, machine};
use crate::report::tune as report;
use crate::text::layout::{pad, wrap};
use crate::text::number::count;
use crate::text::{escape, transcript};
use crate::tune::catalogue;
use crate::tune::dropin::{self, FILES};
use crate::tune::root::Root;
use crate::tune::row::{Law, Scope, describe};

/// Share of the memory that can be had for agents, percent.
const SHARED: u64 = 85;
/// Less does not start a JVM or Node.
const AGENT_MIN: Bytes = Bytes::mib(64);

/// What `apm tune env` has set, `NAME=VALUE` separated by semicolons: the next one replaces these, and leaves what the user
/// has set or changed since.
const OWN_VARIABLES: &str = "APM_TUNE_ENV";

/// `apm tune ...`
pub(crate) fn main(context: &Context, words: Tune) -> Result<Exit, Failure> {
    context.has_no_configuration("tune")?;
    match words.command {
        None => plan(context, &words.plan),
        Some(TuneCommand::Plan(words)) => plan(context, &words),
        Some(TuneCommand::Write(words)) => write(context, &words),
        Some(TuneCommand::Check(words)) => check(context, &words),
        Some(TuneCommand::Diff(words)) => change::diff(context, &words),
        Some(TuneCommand::Apply(words)) => change::apply(context, &words),
        Some(TuneCommand::Rollback(words)) => change::rollback(context, &words),
        Some(TuneCommand::History(words)) => change::history(context, &words),
        Some(TuneCommand::Explain(words)) => explain(context, &words),
        Some(TuneCommand::Env(words)) => env(context, &words),
    }
}

fn plan(context: &Context, words: &Plan) -> Result<Exit, Failure> {
    let mut looked = planned(context, &words.sources, None)?;
    if words.preset.is_some() || words.compare.is_some() {
        return judge::main(context, words, &mut looked);
    }
    show(context, &looked, words.format)
}

fn show(context: &Context, looked: &Looked, format: TuneFormat) -> Result<Exit, Failure> {
    let plan = looked.plan();
    let files = dropin::render(&looked.settings, looked.words.workload);
    let mut out = Vec::new();
    let layout = context.ui.stdout_layout();
    let written = match format {
        TuneFormat::Text => report::text(&plan, context.global.verbose, &layout, &mut out),
        TuneFormat::Json => report::json(&plan, &mut out),
        TuneFormat::Sysctl => out.write_all(files.get(&Place::Sysctl).map_or("", String::as_str).as_bytes()),
        TuneFormat::Shell => report::shell(&plan, &mut out),
        TuneFormat::Ansible => {
            let path = |place: &Place| FILES.iter().find(|(one, _)| one == place).map_or("", |(_, path)| path);
            let others = files.iter().filter(|(place, _)| **place != Place::Sysctl);
            let others: Vec<_> = others.map(|(place, text)| (format!("/etc/{}", path(place)), text.clone())).collect();
            report::ansible(&plan, &others, &mut out)
        }
    };
    written.map_err(Failure::machine)?;
    context.print(&String::from_utf8_lossy(&out))
}

fn write(context: &Context, words: &Write) -> Result<Exit, Failure> {
    let looked = planned(context, &words.sources, words.dir.as_deref())?;
    if let Some(format) = words.format {
        return show(context, &looked, format);
    }
    let mut files = files(&looked)?;
    files.retain(|file| file.now.is_some() || file.wanted.is_some());
    let mut said = String::new();
    if !words.dry_run {
        file::judge(&looked.root)?;
    }
    // All of them are begun before the first takes its place: a full disk or a folder that cannot be written changes none.
    let mut folders = Folders { root: &looked.root, made: Vec::new() };
    let mut begun = Vec::new();
    for Planfile { path, shown, now, wanted: text } in &files {
        let shown = shown.display();
        let Some(text) = text else {
            said += &format!(
                "{} {shown}: nothing to say any more\n",
                if words.dry_run { "would remove" } else { "removed" }
            );
            continue;
        };
        let lines = count(dropin_lines(text), "setting");
        if now.as_ref() == Some(text) {
            said += &format!("unchanged {shown}, {lines}\n");
            continue;
        }
        said += &format!("{} {shown}, {lines}\n", if words.dry_run { "would write" } else { "wrote" });
        if !words.dry_run {
            let refused = |error: std::io::Error| {
                Failure::machine(anyhow::Error::new(error).context(format!("write `{shown}`; nothing was changed")))
                    .hint("`--dir DIR` writes elsewhere; `sudo apm tune apply` writes and sets live values")
            };
            folders.make(path).map_err(refused)?;
            // Readers of all users read them, whatever the umask is; none but the owner writes.
            begun.push(looked.root.begin(path, text, 0o644).map_err(refused)?);
        }
    }
    if !words.dry_run {
        for new in begun {
            new.place_lasting().context("put a file into its place").map_err(Failure::machine)?;
        }
        folders.made.clear();
        for Planfile { path, shown, .. } in files.iter().filter(|file| file.wanted.is_none()) {
            looked
                .root
                .remove(path)
                .with_context(|| format!("remove `{}`", shown.display()))
                .map_err(Failure::machine)?;
        }
    }
    if said.is_empty() {
        said = "nothing to write: all is as it should be\n".to_owned();
    }
    context.print(&said)
}

/// Folders that were made; removed again where nothing came into them.
struct Folders<'a> {
    root: &'a Root,
    made: Vec<PathBuf>,
}

impl Folders<'_> {
    fn make(&mut self, path: &Path) -> std::io::Result<()> {
        let missing = self.root.missing_way(path);
        self.root.make_way(path)?;
        self.made.extend(missing);
        Ok(())
    }
}

impl Drop for Folders<'_> {
    fn drop(&mut self) {
        self.made.iter().rev().for_each(|folder| drop(self.root.remove_folder(folder)));
    }
}

fn dropin_lines(text: &str) -> u64 {
    FILES.iter().map(|(place, _)| dropin::parse(*place, text).len() as u64).max().unwrap_or_default()
}

fn check(context: &Context, words: &Planned) -> Result<Exit, Failure> {
    let looked = planned(context, &words.sources, words.dir.as_deref())?;
    let drift = dropin::drift(&looked.settings, &looked.written.own);
    let kept = looked.settings.iter().filter(|setting| setting.proposed.is_some()).count();
    let text = match words.format {
        ListFormat::Json => {
            let drift: Vec<_> = drift.iter().map(|one| json!({ "key": one.key, "what": one.what })).collect();
            escape::json(&format!("{:#}\n", json!({ "schema": "apm.tune.check/1", "kept": kept, "drift": drift })))
        }
        ListFormat::Text if drift.is_empty() => format!("good: {}\n", count(kept as u64, "setting")),
        ListFormat::Text => {
            let line = |one: &dropin::Drift| format!("{}: {}\n", one.key, transcript::line(&one.what));
            drift.iter().map(line).collect::<String>()
                + &format!("{} of {} differ: `apm tune diff` shows how\n", drift.len(), count(kept as u64, "setting"))
        }
    };
    context.print(&text)?;
    Ok(if drift.is_empty() { Exit::Good } else { Exit::Failures })
}

fn explain(context: &Context, words: &Explain) -> Result<Exit, Failure> {
    let of_key = |key: &str| {
        catalogue::rows().find(|row| {
            row.key == key
                || row.key.split_once('*').is_some_and(|(start, end)| key.starts_with(start) && key.ends_with(end))
        })
    };
    let row = of_key(&words.key).ok_or_else(|| unknown(&words.key))?;
    let looked = planned(context, &words.sources, None)?;
    let layout = context.ui.stdout_layout();
    let mut text = format!("{}: {}\n", words.key, row.about);
    let mut say = |label: &str, what: &str| {
        for (at, line) in wrap(&transcript::line(what), layout.width.saturating_sub(12)).iter().enumerate() {
            text += &format!("  {}{line}\n", pad(if at == 0 { label } else { "" }, 10));
        }
    };
    say("formula", row.formula);
    say("source", row.source);
    say("values", &describe(row.valid));
    say("law", if row.law == Law::Limit { "a limit: never lowered" } else { "a choice" });
    say("risk", row.risk.word());
    if row.scope == Scope::Network {
        say("scope", "each network namespace, and so each container, has its own");
    }
    let settings = looked.settings.iter().filter(|setting| of_key(&setting.key).is_some_and(|it| it.key == row.key));
    for setting in settings.filter(|setting| words.key.contains('*') || setting.key == words.key) {
        say("here", &format!("{} is {}", setting.key, setting.current.as_deref().unwrap_or("not there")));
        match &setting.proposed {
            Some(value) if setting.is_change() => say("proposed", &format!("{value}: {}", setting.why)),
            _ => say("left", &setting.why),
        }
    }
    context.print(&text)
}

/// Memory that can be had: of the machine, and of each control group this process is in.
fn available() -> Bytes {
    let roots = Roots::default();
    let host = machine::host();
    let all = machine::read(&roots, &machine::Meter::default()).available.unwrap_or(host.memory);
    let groups = cgroup::read(&roots).groups;
    let left = |group: &Group| {
        // Cached files count and can be dropped.
        let used = group.memory_used.known()?.saturating_sub(group.memory_files.unwrap_or_default());
        Some(group.memory_max?.saturating_sub(used))
    };
    groups.iter().filter(|group| group.is_own).filter_map(left).fold(all, |least, left| Bytes(left.min(least.0)))
}

fn env(context: &Context, words: &Env) -> Result<Exit, Failure> {
    let cpus = u64::from(machine::host().cpus).max(1);
    let agents = words.agents.unwrap_or(cpus).max(1);
    let available = available();
    let most = (available.0 / AGENT_MIN.0).max(1);
    let memory = match &words.agent_memory {
        Some(text) => Bytes::parse(text).context("--agent-memory").map_err(Failure::usage)?,
        None => Bytes(available.0 / 100 * SHARED / agents),
    };
    if memory < AGENT_MIN || memory > available {
        let failure =
            Failure::usage(anyhow!("{memory} for each agent: runtimes need {AGENT_MIN}, {available} can be had"));
        return Err(failure.hint(format!("at most `--agents {most}` fit, or another `--agent-memory`")));
    }
    let cpu = match &words.agent_cpu {
        Some(text) => {
            let most = 100.0 * cpus as f64;
            text.trim_end_matches('%').parse::<f64>().ok().filter(|it| (1.0..=most).contains(it)).ok_or_else(|| {
                Failure::usage(anyhow!("--agent-cpu `{}` is no share of {cpus} CPUs", transcript::line(text)))
                    .hint(format!("percent of one CPU, at most {most:.0}: 150"))
            })?
        }
        None => 100.0 * cpus as f64 / agents as f64,
    };
    let limits = Limits { memory: Some(memory), cpu: Some(Percent(cpu)), ..Limits::default() };
    let mut variables = runtimes::presets(&limits);
    if let Some((_, options)) = variables.iter().find(|(name, _)| *name == "JAVA_OPTS").cloned() {
        // The `java` command itself reads only this one, and says so in a line of its own: a run leaves it out.
        variables.push(("JDK_JAVA_OPTIONS", options));
    }
    let own = context.environment.get(OWN_VARIABLES).unwrap_or_default().to_string_lossy();
    let is_of_user = |name: &str| {
        let value = context.environment.get(name).map(|value| value.to_string_lossy());
        value.is_some_and(|value| !own.split(';').any(|one| one.split_once('=') == Some((name, &value))))
    };
    let (set, mut variables): (Vec<_>, Vec<_>) = variables.into_iter().partition(|(name, _)| is_of_user(name));
    let own: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    variables.push((OWN_VARIABLES, own.join(";")));
    let text = match words.format {
        EnvFormat::Json => {
            let all: serde_json::Map<String, serde_json::Value> =
                variables.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
            format!("{:#}\n", serde_json::Value::Object(all))
        }
        EnvFormat::Dotenv => variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect(),
        EnvFormat::Shell => {
            let head = format!(
                "# for each of {agents}: {memory} of the {available} that can be had now, {cpu:.0} % of a CPU, {}\n",
                count(runtimes::threads(Percent(cpu)).into(), "thread")
            );
            head + &variables.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect::<String>()
        }
    };
    if !set.is_empty() {
        let names: Vec<&str> = set.iter().map(|(name, _)| *name).collect();
        context.ui.say(&format!("apm: note: set already, and left as it is: {}\n", names.join(", ")));
    }
    context.print(&text)
}
