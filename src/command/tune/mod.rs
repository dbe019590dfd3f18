//! `apm tune`: the plan and its forms, the drop-in files, what drifted. `change` applies and takes back.

mod change;
mod judge;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use serde_json::json;

use crate::cli::run::ListFormat;
use crate::cli::tune::{
    Env, EnvFormat, Explain, Plan, Planned, Sources, Tune, TuneCommand, TuneFormat, WorkloadName, Write,
};
use crate::command::Context;
use crate::command::doctor::look;
use crate::command::failure::{Exit, Failure};
use crate::doctor::{self, Question};
use crate::executor::runtimes;
use crate::model::diagnosis::Finding;
use crate::model::setting::{Place, Setting, Verdict, Workload};
use crate::model::snapshot::Window;
use crate::model::snapshot::tunables::Tunables;
use crate::model::task::Limits;
use crate::model::unit::{Bytes, Percent, parse_duration};
use crate::probe::{Roots, machine, tunables};
use crate::report::tune as report;
use crate::sink::file::Whole;
use crate::text::layout::{pad, wrap};
use crate::text::number::count;
use crate::text::{suggest, transcript};
use crate::tune::dropin::{self, FILES};
use crate::tune::{self, Facts, Own};

/// Share of the memory that can be had for agents, percent.
const SHARED: u64 = 85;

/// `apm tune ...`
pub(crate) fn main(context: &Context, words: Tune) -> Result<Exit, Failure> {
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

/// What was looked at, and what follows.
struct Looked {
    window: Window,
    tunables: Tunables,
    findings: Vec<Finding>,
    own: BTreeMap<String, Own>,
    settings: Vec<Setting>,
    words: Asked,
    root: PathBuf,
    etc: PathBuf,
}

/// What was asked for.
struct Asked {
    workload: Workload,
    agents: u64,
    bandwidth: Option<u64>,
    rtt_ms: Option<f64>,
}

impl Looked {
    fn facts(&self) -> Facts<'_> {
        Facts {
            key: "",
            now: &self.window.to,
            tunables: &self.tunables,
            own: &self.own,
            findings: &self.findings,
            workload: self.words.workload,
            agents: self.words.agents,
            bandwidth: self.words.bandwidth,
            rtt_ms: self.words.rtt_ms,
        }
    }

    fn plan(&self) -> report::Plan<'_> {
        let facts = self.facts();
        report::Plan {
            schema: "apm.tune/1",
            kernel: self.window.to.system.kernel.clone(),
            cpus: facts.cpus(),
            memory_bytes: facts.memory(),
            container: self.window.to.system.container.clone(),
            workload: facts.workload,
            agents: facts.agents,
            settings: &self.settings,
        }
    }
}

/// Looks, and computes. `dir` stands for /etc.
fn planned(context: &Context, words: &Sources, dir: Option<&Path>) -> Result<Looked, Failure> {
    let cwd = &context.environment.cwd;
    let length = parse_duration(&words.duration).context("--duration").map_err(Failure::usage)?;
    let rtt = words.rtt.as_deref().map(parse_duration).transpose().context("--rtt").map_err(Failure::usage)?;
    let bandwidth = words.bandwidth.as_deref().map(bits).transpose()?;
    for key in words.only.iter().chain(&words.except) {
        if !tune::rows().any(|row| is_below(row.key, key) || row.key.contains('*') && is_below(key, "sys.block")) {
            return Err(unknown(key));
        }
    }
    let root = words.root.as_ref().map(|root| cwd.join(root));
    let looked = look::at(context, root.as_deref(), length)?;
    if let Some(signal) = looked.interrupted_by {
        return Err(Failure { exit: Exit::Signal(signal), error: anyhow!("interrupted"), hints: Vec::new() });
    }
    let roots = root.as_deref().map_or_else(Roots::default, Roots::below);
    let etc = dir.map_or_else(|| roots.etc.clone(), |dir| cwd.join(dir));
    let cpus = looked.window.to.cpu.stat.known().map_or(1, |stat| stat.each.len().max(1) as u64);
    let mut looked = Looked {
        findings: doctor::diagnose(&looked.window, &Question::default()).findings,
        window: looked.window,
        tunables: tunables::read(&roots, &tune::sysctls()),
        own: own_files(&etc),
        settings: Vec::new(),
        words: Asked {
            workload: workload(words.workload),
            agents: words.agents.unwrap_or(cpus),
            bandwidth,
            rtt_ms: rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
        },
        root: root.unwrap_or_else(|| "/".into()),
        etc,
    };
    let is_asked = |key: &str| {
        (words.only.is_empty() || words.only.iter().any(|start| is_below(key, start)))
            && !words.except.iter().any(|start| is_below(key, start))
    };
    let settings = tune::advise(&looked.facts());
    looked.settings = settings.into_iter().filter_map(|setting| kept(setting, is_asked, &looked.own)).collect();
    Ok(looked)
}

/// What was not asked about stays in the files as it is.
fn kept(setting: Setting, is_asked: impl Fn(&str) -> bool, own: &BTreeMap<String, Own>) -> Option<Setting> {
    if is_asked(&setting.key) {
        return Some(setting);
    }
    let own = own.get(&setting.key)?;
    let (proposed, why) = (Some(own.value.clone()), own.why.clone());
    Some(Setting { proposed, why, verdict: Verdict::Keep, reason: None, rule: None, revert: None, ..setting })
}

fn workload(name: WorkloadName) -> Workload {
    match name {
        WorkloadName::Agents => Workload::Agents,
        WorkloadName::Ci => Workload::Ci,
        WorkloadName::Server => Workload::Server,
        WorkloadName::Desktop => Workload::Desktop,
    }
}

fn is_below(key: &str, start: &str) -> bool {
    key == start || key.strip_prefix(start).is_some_and(|rest| rest.starts_with('.'))
}

fn unknown(key: &str) -> Failure {
    let keys = tune::rows().map(|row| row.key);
    let near = suggest::likely(key, keys);
    let failure = Failure::usage(anyhow!("there is no setting `{}`", transcript::line(key)));
    match near {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None => failure.hint("`apm tune` lists them all"),
    }
}

/// Bits a second: `10G`, `500M`. Decimal, as links are sold.
fn bits(text: &str) -> Result<u64, Failure> {
    let parsed = || {
        let text = text.trim().trim_end_matches("bit/s").trim_end_matches("bit").trim();
        let (number, factor) = match text.chars().last()?.to_ascii_uppercase() {
            'K' => (&text[..text.len() - 1], 1e3),
            'M' => (&text[..text.len() - 1], 1e6),
            'G' => (&text[..text.len() - 1], 1e9),
            _ => (text, 1.0),
        };
        let bits = number.trim().parse::<f64>().ok()? * factor;
        (1e3..=1e13).contains(&bits).then_some(bits as u64)
    };
    parsed().ok_or_else(|| {
        Failure::usage(anyhow!("--bandwidth `{}` is no speed", transcript::line(text))).hint("bits a second: 1G, 500M")
    })
}

/// What the files say that apm wrote.
fn own_files(etc: &Path) -> BTreeMap<String, Own> {
    let read = |(place, path): &(Place, &str)| {
        let text = std::fs::read_to_string(etc.join(path)).unwrap_or_default();
        dropin::parse(*place, &text)
    };
    FILES.iter().flat_map(read).collect()
}

fn plan(context: &Context, words: &Plan) -> Result<Exit, Failure> {
    let looked = planned(context, &words.sources, None)?;
    if words.preset.is_some() || words.compare.is_some() {
        return judge::main(context, words, &looked);
    }
    show(context, &looked, words.format)
}

fn show(context: &Context, looked: &Looked, format: TuneFormat) -> Result<Exit, Failure> {
    let plan = looked.plan();
    let files = dropin::render(&looked.settings);
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
    print(context, &out)
}

fn print(context: &Context, text: &[u8]) -> Result<Exit, Failure> {
    context.ui.result(text).map(|_| Exit::Good).map_err(Failure::machine)
}

/// The files as they should be, beside those that are there: path, text now, text to be.
fn files(looked: &Looked) -> Vec<(PathBuf, Option<String>, Option<String>)> {
    let rendered = dropin::render(&looked.settings);
    let file = |(place, path): &(Place, &str)| {
        let path = looked.etc.join(path);
        let now = std::fs::read_to_string(&path).ok();
        (path, now, rendered.get(place).cloned())
    };
    FILES.iter().map(file).collect()
}

fn write(context: &Context, words: &Write) -> Result<Exit, Failure> {
    let looked = planned(context, &words.sources, words.dir.as_deref())?;
    if let Some(format) = words.format {
        return show(context, &looked, format);
    }
    let files: Vec<_> = files(&looked).into_iter().filter(|(_, now, text)| now.is_some() || text.is_some()).collect();
    let mut said = String::new();
    let mut begun = Vec::new();
    // All of them are begun before the first takes its place: a full disk or a folder that cannot be written changes none.
    for (path, now, text) in &files {
        let shown = path.display();
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
            let folder = path.parent().unwrap_or(path);
            std::fs::create_dir_all(folder).map_err(refused)?;
            begun.push(Whole::filled(path, text.as_bytes()).map_err(refused)?);
        }
    }
    if !words.dry_run {
        for whole in begun {
            whole.place().context("put a file into its place").map_err(Failure::machine)?;
        }
        for (path, ..) in files.iter().filter(|(_, _, text)| text.is_none()) {
            std::fs::remove_file(path)
                .with_context(|| format!("remove `{}`", path.display()))
                .map_err(Failure::machine)?;
        }
    }
    if said.is_empty() {
        said = "nothing to write: all is as it should be\n".to_owned();
    }
    print(context, said.as_bytes())
}

fn dropin_lines(text: &str) -> u64 {
    FILES.iter().map(|(place, _)| dropin::parse(*place, text).len() as u64).max().unwrap_or_default()
}

fn check(context: &Context, words: &Planned) -> Result<Exit, Failure> {
    let looked = planned(context, &words.sources, words.dir.as_deref())?;
    let drift = dropin::drift(&looked.settings, &looked.own);
    let kept = looked.settings.iter().filter(|setting| setting.proposed.is_some()).count();
    let text = match words.format {
        ListFormat::Json => {
            let drift: Vec<_> = drift.iter().map(|one| json!({ "key": one.key, "what": one.what })).collect();
            format!("{:#}\n", json!({ "schema": "apm.tune.check/1", "kept": kept, "drift": drift }))
        }
        ListFormat::Text if drift.is_empty() => format!("good: {}\n", count(kept as u64, "setting")),
        ListFormat::Text => {
            let line = |one: &dropin::Drift| format!("{}: {}\n", one.key, transcript::line(&one.what));
            drift.iter().map(line).collect::<String>()
                + &format!("{} of {} differ: `apm tune diff` shows how\n", drift.len(), count(kept as u64, "setting"))
        }
    };
    print(context, text.as_bytes())?;
    Ok(if drift.is_empty() { Exit::Good } else { Exit::Failures })
}

fn explain(context: &Context, words: &Explain) -> Result<Exit, Failure> {
    let of_key = |key: &str| {
        tune::rows().find(|row| {
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
    say("values", &tune::describe(row.valid));
    say("law", if row.law == tune::Law::Limit { "a limit: never lowered" } else { "a choice" });
    say("risk", row.risk.word());
    if row.scope == tune::Scope::Network {
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
    print(context, text.as_bytes())
}

fn env(context: &Context, words: &Env) -> Result<Exit, Failure> {
    let host = machine::host();
    let agents = words.agents.unwrap_or_else(|| u64::from(host.cpus)).max(1);
    let available = machine::read(&Roots::default(), &machine::Meter::default()).available.unwrap_or(host.memory);
    let memory = match &words.agent_memory {
        Some(text) => Bytes::parse(text).context("--agent-memory").map_err(Failure::usage)?,
        None => Bytes(available.0 / 100 * SHARED / agents),
    };
    let cpu = match &words.agent_cpu {
        Some(text) => {
            text.trim_end_matches('%').parse::<f64>().ok().filter(|it| (1.0..=1e6).contains(it)).ok_or_else(|| {
                Failure::usage(anyhow!("--agent-cpu `{}` is no share", transcript::line(text)))
                    .hint("percent of one CPU: 150")
            })?
        }
        None => (100.0 * f64::from(host.cpus) / agents as f64).max(100.0),
    };
    let variables = runtimes::presets(&Limits { memory: Some(memory), cpu: Some(Percent(cpu)), ..Limits::default() });
    let text = match words.format {
        EnvFormat::Json => {
            let all: serde_json::Map<String, serde_json::Value> =
                variables.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
            format!("{:#}\n", serde_json::Value::Object(all))
        }
        EnvFormat::Dotenv => variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect(),
        EnvFormat::Shell => {
            let head = format!("# for each of {agents}: {memory} and {cpu:.0} % of a CPU\n");
            head + &variables.iter().map(|(name, value)| format!("export {name}='{value}'\n")).collect::<String>()
        }
    };
    print(context, text.as_bytes())
}
