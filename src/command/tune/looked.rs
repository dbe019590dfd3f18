//! What a command of `apm tune` looks at: the machine, the files that are there, the words; and the settings that follow.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use super::written::{Written, written};
use crate::cli::tune::{Sources, WorkloadName};
use crate::command::context::Context;
use crate::command::doctor::look;
use crate::command::failure::{Exit, Failure};
use crate::doctor::diagnose;
use crate::doctor::question::Question;
use crate::model::diagnosis::Finding;
use crate::model::setting::{Setting, Verdict, Workload};
use crate::model::snapshot::Window;
use crate::model::snapshot::tunables::Tunables;
use crate::model::unit::parse_duration;
use crate::probe::{Roots, tunables};
use crate::report::tune as report;
use crate::text::{suggest, transcript};
use crate::tune::dropin::Own;
use crate::tune::facts::Facts;
use crate::tune::root::Root;
use crate::tune::{catalogue, decide};

/// What was looked at, and what follows.
pub(super) struct Looked {
    pub(super) window: Window,
    tunables: Tunables,
    findings: Vec<Finding>,
    pub(super) written: Written,
    pub(super) settings: Vec<Setting>,
    pub(super) words: Asked,
    /// Where files are written.
    pub(super) root: Root,
    /// What stands for /etc there.
    pub(super) etc: PathBuf,
    /// The folder of the machine that was looked at.
    pub(super) machine: PathBuf,
}

/// What was asked for.
pub(super) struct Asked {
    pub(super) workload: Workload,
    agents: u64,
    bandwidth: Option<u64>,
    rtt_ms: Option<f64>,
}

impl Looked {
    pub(super) fn facts(&self) -> Facts<'_> {
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

    /// Reads the values of settings in /proc/sys that are not in the catalogue too.
    pub(super) fn look_up<'a>(&mut self, keys: impl Iterator<Item = &'a str>) {
        let roots = if self.machine == Path::new("/") { Roots::default() } else { Roots::below(&self.machine) };
        for key in keys.filter(|key| !self.settings.iter().any(|setting| setting.key == *key)) {
            if let Some(value) = tunables::look_up(&roots, key) {
                self.tunables.values.insert(key.to_owned(), value);
            }
        }
    }

    pub(super) fn plan(&self) -> report::Plan<'_> {
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
pub(super) fn planned(context: &Context, words: &Sources, dir: Option<&Path>) -> Result<Looked, Failure> {
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
    let machine = root.unwrap_or_else(|| "/".into());
    let of_machine = open(&machine)?;
    let (root, etc) = match dir {
        Some(dir) => beneath(&cwd.join(dir))?,
        None => (open(&machine)?, PathBuf::from("/etc")),
    };
    let cpus = looked.window.to.cpu.stat.known().map_or(1, |stat| stat.each.len().max(1) as u64);
    let diagnosis = diagnose::diagnose(&looked.window, &Question::default());
    let mut looked = Looked {
        // A setting follows from a rule, whatever explains what the rule has found.
        findings: diagnosis.findings.iter().flat_map(Finding::with_symptoms).cloned().collect(),
        window: looked.window,
        tunables: tunables::read(&roots, &catalogue::sysctls()),
        written: written(&root, &etc, &of_machine, workload(words.workload)),
        settings: Vec::new(),
        words: Asked {
            workload: workload(words.workload),
            agents: words.agents.unwrap_or(cpus),
            bandwidth,
            rtt_ms: rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
        },
        root,
        etc,
        machine,
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

pub(super) fn open(path: &Path) -> Result<Root, Failure> {
    Root::open(path).with_context(|| format!("open the folder `{}`", path.display())).map_err(Failure::usage)
}

/// A folder that stands for /etc, and may not be there yet: the nearest that is there, and the way from it.
fn beneath(dir: &Path) -> Result<(Root, PathBuf), Failure> {
    let there = dir.ancestors().find(|folder| folder.is_dir()).unwrap_or(dir);
    let rest = dir.strip_prefix(there).unwrap_or(dir);
    Ok((open(there)?, Path::new("/").join(rest)))
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

pub(super) fn unknown(key: &str) -> Failure {
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
