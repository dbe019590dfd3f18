//! `apm tune`: the plan and its forms, the drop-in files, what drifted. `change` applies and takes back.

mod change;
mod judge;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde_json::json;

use crate::cli::run::ListFormat;
use crate::cli::tune::{
    Env, EnvFormat, Explain, Plan, Planned, Sources, Tune, TuneCommand, TuneFormat, WorkloadName, Write,
};
use crate::command::Context;
use crate::command::doctor::look;
use crate::command::failure::{Exit, Failure};
use crate::doctor::diagnose;
use crate::doctor::question::Question;
use crate::executor::runtimes;
use crate::model::diagnosis::Finding;
use crate::model::setting::{Place, Setting, Verdict, Workload};
use crate::model::snapshot::Window;
use crate::model::snapshot::cgroup::Group;
use crate::model::snapshot::tunables::Tunables;
use crate::model::task::Limits;
use crate::model::unit::{Bytes, Percent, parse_duration};
use crate::probe::{Roots, cgroup, machine, tunables};
use crate::report::tune as report;
use crate::sink::file::Whole;
use crate::text::layout::{pad, wrap};
use crate::text::number::count;
use crate::text::{suggest, transcript};
use crate::tune::dropin::{self, FILES, Own};
use crate::tune::facts::Facts;
use crate::tune::row::{Law, Scope, describe};
use crate::tune::{catalogue, decide};

/// Share of the memory that can be had for agents, percent.
const SHARED: u64 = 85;
/// Less does not start a JVM or Node.
const AGENT_MIN: Bytes = Bytes::mib(64);

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

/// What was looked at, and what follows.
struct Looked {
    window: Window,
    tunables: Tunables,
    findings: Vec<Finding>,
    written: Written,
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
            own: &self.written.own,
            own_lasts: self.written.lasts,
            foreign: &self.written.foreign,
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
    let rtt = words.rtt.as_deref().map(round_trip).transpose()?;
    let bandwidth = words.bandwidth.as_deref().map(bits).transpose()?;
    for key in words.only.iter().chain(&words.except) {
        if !catalogue::rows().any(|row| is_below(row.key, key) || row.key.contains('*') && is_below(key, "sys.block")) {
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
        findings: diagnose::diagnose(&looked.window, &Question::default()).findings,
        window: looked.window,
        tunables: tunables::read(&roots, &catalogue::sysctls()),
        written: written(&etc, &roots.etc, workload(words.workload)),
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
    if looked.facts().memory() == 0 {
        let failure = Failure::machine(anyhow!(
            "`{}` does not say how much memory there is",
            roots.proc.join("meminfo").display()
        ));
        return Err(failure.hint("settings follow from it"));
    }
    for one in &looked.tunables.unreadable {
        context.ui.say(&format!("apm: warning: {}: what it sets is not seen\n", transcript::line(one)));
    }
    let is_asked = |key: &str| {
        (words.only.is_empty() || words.only.iter().any(|start| is_below(key, start)))
            && !words.except.iter().any(|start| is_below(key, start))
    };
    let settings = decide::advise(&looked.facts());
    looked.settings = settings.into_iter().filter_map(|setting| kept(setting, is_asked, &looked.written.own)).collect();
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
    key.starts_with(start)
}

fn unknown(key: &str) -> Failure {
    let keys = catalogue::rows().map(|row| row.key);
    let near = suggest::likely(key, keys);
    let failure = Failure::usage(anyhow!("there is no setting `{}`", transcript::line(key)));
    match near {
        Some(near) => failure.hint(format!("did you mean `{near}`?")),
        None => failure.hint("`apm tune` lists them all"),
    }
}

/// With its unit: 40 would be seconds elsewhere, and nobody means them here.
fn round_trip(text: &str) -> Result<Duration, Failure> {
    let time = parse_duration(text).context("--rtt").map_err(Failure::usage)?;
    if time.is_zero() || text.trim().ends_with(|c: char| c.is_ascii_digit()) {
        let failure = Failure::usage(anyhow!("--rtt `{}` is no time of a round trip", transcript::line(text)));
        return Err(failure.hint("a number with its unit: 40ms, 0.2s"));
    }
    Ok(time)
}

/// Bits a second: `10G`, `500M`. Decimal, as links are sold.
fn bits(text: &str) -> Result<u64, Failure> {
    let parsed = || {
        let text = text.trim().trim_end_matches("bit/s").trim_end_matches("bit").trim();
        let (number, factor) = match text.chars().last()?.to_ascii_uppercase() {
            'K' => (&text[..text.len() - 1], 1e3),
            'M' => (&text[..text.len() - 1], 1e6),
            'G' => (&text[..text.len() - 1], 1e9),
            'T' => (&text[..text.len() - 1], 1e12),
            _ => (text, 1.0),
        };
        let bits = number.trim().parse::<f64>().ok()? * factor;
        (1e3..=1e13).contains(&bits).then_some(bits as u64)
    };
    parsed().ok_or_else(|| {
        Failure::usage(anyhow!("--bandwidth `{}` is no speed", transcript::line(text))).hint("bits a second: 1G, 500M")
    })
}

/// What is written already where apm's files are.
#[derive(Default)]
struct Written {
    /// What the files say that apm wrote.
    own: BTreeMap<String, Own>,
    /// They were written for the workload that is asked for.
    lasts: bool,
    /// Files that somebody else wrote, as the machine names them.
    foreign: BTreeMap<Place, String>,
}

/// Where units of systemd may be beside /etc; apm's own would hide them.
const UNITS: &[&str] =
    &["run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];

/// `real`: the machine's own /etc, which `etc` may stand for.
fn written(etc: &Path, real: &Path, workload: Workload) -> Written {
    let mut written = Written { lasts: true, ..Written::default() };
    for (place, name) in FILES {
        let Ok(text) = std::fs::read_to_string(etc.join(name)) else { continue };
        if text.is_empty() || dropin::is_own(&text) {
            written.lasts &= dropin::is_for(&text, workload);
            written.own.extend(dropin::parse(*place, &text));
        } else {
            written.foreign.insert(*place, format!("/etc/{name}"));
        }
    }
    let units = UNITS.iter().map(|folder| (*folder, "apm.slice")).chain([("etc/systemd/system", "apm.slice.d")]);
    for (folder, name) in units {
        let path = real.parent().unwrap_or(real).join(folder).join(name);
        if path.exists() {
            written.foreign.insert(Place::Slice, format!("/{folder}/{name}"));
        }
    }
    written
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
    print(context, &out)
}

fn print(context: &Context, text: &[u8]) -> Result<Exit, Failure> {
    context.ui.result(text).map(|_| Exit::Good).map_err(Failure::machine)
}

/// A file as it is and as it should be; absent where there is none.
struct Planfile {
    path: PathBuf,
    now: Option<String>,
    wanted: Option<String>,
}

/// The files as they should be, beside those that are there. One of somebody else is not touched, and a link, or a way
/// out of the folder of another machine, is not followed.
fn files(looked: &Looked) -> Result<Vec<Planfile>, Failure> {
    let rendered = dropin::render(&looked.settings, looked.words.workload);
    let mut files = Vec::new();
    for (place, name) in FILES.iter().filter(|(place, _)| !looked.written.foreign.contains_key(place)) {
        let path = looked.etc.join(name);
        let wanted = rendered.get(place).cloned();
        let kind = std::fs::symlink_metadata(&path).ok();
        if wanted.is_some() && kind.as_ref().is_some_and(|kind| !kind.is_file()) {
            let what = anyhow!("`{}` is a link or no file: somebody keeps apm's file from being there", path.display());
            return Err(Failure::machine(what).hint("it is not followed: remove it, or `--except` its settings"));
        }
        if wanted.is_some() {
            confined(looked, &path)?;
        }
        let now = kind.and_then(|_| std::fs::read_to_string(&path).ok());
        files.push(Planfile { path, now, wanted });
    }
    Ok(files)
}

/// With `--root` everything stays below it, whatever links are in it.
fn confined(looked: &Looked, path: &Path) -> Result<(), Failure> {
    if looked.root == Path::new("/") {
        return Ok(());
    }
    let real = |path: &Path| path.ancestors().find_map(|path| path.canonicalize().ok()).unwrap_or_default();
    if real(path).starts_with(real(&looked.root)) || !path.starts_with(&looked.root) {
        return Ok(());
    }
    Err(Failure::machine(anyhow!("`{}` leads out of `{}`", path.display(), looked.root.display()))
        .hint("a link of the other machine that this one would follow; nothing was changed"))
}

fn write(context: &Context, words: &Write) -> Result<Exit, Failure> {
    let looked = planned(context, &words.sources, words.dir.as_deref())?;
    if let Some(format) = words.format {
        return show(context, &looked, format);
    }
    let mut files = files(&looked)?;
    files.retain(|file| file.now.is_some() || file.wanted.is_some());
    let mut said = String::new();
    let mut begun = Vec::new();
    // All of them are begun before the first takes its place: a full disk or a folder that cannot be written changes none.
    let mut folders = Folders::default();
    for Planfile { path, now, wanted: text } in &files {
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
            folders.make(path.parent().unwrap_or(path)).map_err(refused)?;
            begun.push(Whole::filled(path, text.as_bytes()).map_err(refused)?);
        }
    }
    if !words.dry_run {
        for whole in begun {
            whole.place().context("put a file into its place").map_err(Failure::machine)?;
        }
        // Readers of all users read them, whatever the umask is; none but the owner writes.
        for Planfile { path, .. } in files.iter().filter(|file| file.wanted.is_some()) {
            let set = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644));
            set.with_context(|| format!("set the mode of `{}`", path.display())).map_err(Failure::machine)?;
        }
        folders.0.clear();
        for Planfile { path, .. } in files.iter().filter(|file| file.wanted.is_none()) {
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

/// Folders that were made; removed again where nothing came into them.
#[derive(Default)]
struct Folders(Vec<PathBuf>);

impl Folders {
    fn make(&mut self, folder: &Path) -> std::io::Result<()> {
        let missing = folder.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        let missing: Vec<&Path> = missing.collect();
        for folder in missing.into_iter().rev() {
            std::fs::create_dir(folder)?;
            self.0.push(folder.to_owned());
        }
        Ok(())
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        self.0.iter().rev().for_each(|folder| drop(std::fs::remove_dir(folder)));
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
    print(context, text.as_bytes())
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
    let (set, variables): (Vec<_>, Vec<_>) =
        variables.into_iter().partition(|(name, _)| context.environment.get(name).is_some_and(|it| !it.is_empty()));
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
    print(context, text.as_bytes())
}
