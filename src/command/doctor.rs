//! `apm doctor`: looks at the machine, or at what was saved of one, and says what is wrong.

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use crate::cli::doctor::{self as words, Doctor, FailOn, Format};
use crate::command::failure::{Exit, Failure};
use crate::command::{Context, qa, watch};
use crate::config::environment::repository_root;
use crate::config::settings;
use crate::doctor::{self, AgentSize, Bad, Question, Rule};
use crate::model::diagnosis::{Area, Diagnosis, Severity};
use crate::model::snapshot::{Field, Window};
use crate::model::unit::{Bytes, parse_duration};
use crate::probe::collect::{self, Options, Own};
use crate::probe::room::Folders;
use crate::probe::{self, Roots};
use crate::report;
use crate::sys::process;
use crate::text::layout::Layout;
use crate::text::suggest;

/// Shortest time between two looks.
const SHORTEST: Duration = Duration::from_millis(100);
/// The window of `--quick`.
const QUICK: Duration = Duration::from_millis(500);
/// Largest saved file that is read.
const SAVED_MAX: u64 = 256 << 20;

/// `apm doctor ...`
pub(crate) fn main(context: &Context, words: Doctor) -> Result<Exit, Failure> {
    if words.list_rules {
        return print(context, &rules(&context.ui.stdout_layout()));
    }
    if let Some(id) = &words.explain {
        let rule = rule(id)?;
        return print(context, &explain(rule));
    }
    let question = question(context, &words)?;
    if words.watch {
        return watch(context, &words, question);
    }
    let mut window = match &words.from {
        Some(file) => load(file)?,
        None => look(context, &words)?,
    };
    if words.areas.contains(&words::Area::Agents) && words.from.is_none() && words.root.is_empty() {
        let cwd = &context.environment.cwd;
        let missing = qa::missing_tools(context, repository_root(cwd).unwrap_or(cwd));
        window.to.room.missing = missing.map_or_else(|error| Field::unavailable("apm run qa", error), Field::Known);
    }
    if let Some(file) = &words.save {
        let bytes = serde_json::to_vec(&window).map_err(Failure::machine)?;
        std::fs::write(file, bytes).with_context(|| format!("write `{}`", file.display())).map_err(Failure::machine)?;
    }
    let diagnosis = doctor::diagnose(&window, &question);
    let mut text = Vec::new();
    render(words.format, &diagnosis, &context.ui.stdout_layout(), &mut text).map_err(Failure::machine)?;
    context.ui.result(&text).map_err(Failure::machine)?;
    let floor = match words.fail_on.unwrap_or(FailOn::Crit) {
        FailOn::Info => Some(Severity::Info),
        FailOn::Warn => Some(Severity::Warn),
        FailOn::Crit => Some(Severity::Crit),
        FailOn::Never => None,
    };
    let failed = floor.is_some_and(|floor| diagnosis.findings.iter().any(|finding| finding.severity >= floor));
    Ok(if failed { Exit::Failures } else { Exit::Good })
}

fn watch(context: &Context, words: &Doctor, question: Question) -> Result<Exit, Failure> {
    let every = parse_duration(&words.every).context("--every").map_err(Failure::usage)?;
    if every < SHORTEST {
        return Err(Failure::usage(anyhow!("--every {}: at least 0.1s", words.every)));
    }
    let roots = match words.root.as_slice() {
        [] => Roots::default(),
        [root] => Roots::below(root),
        _ => return Err(Failure::usage(anyhow!("--watch looks at one machine: give --root once"))),
    };
    let own = Own { pid: std::process::id() as i32, uid: process::uid() };
    let options = options(context, words)?;
    let format = words.format;
    watch::main(&watch::Watch { context, roots, own, options, question, every, format })
}

fn print(context: &Context, text: &str) -> Result<Exit, Failure> {
    context.ui.result(text.as_bytes()).map(|_| Exit::Good).map_err(Failure::machine)
}

fn rules(layout: &Layout) -> String {
    let line = |rule: &Rule| {
        let text = format!("{:<20} {:<16} {}", rule.id, thresholds(rule), rule.title);
        layout.cut(&text, layout.width) + "\n"
    };
    doctor::rules().map(line).collect()
}

/// `warn 10%, crit 5%`, or as much of it as there is.
fn thresholds(rule: &Rule) -> String {
    let one = |word: &str, value: Option<f64>| value.map(|value| format!("{word} {value}{}", rule.unit));
    let both: Vec<String> = [one("warn", rule.warn), one("crit", rule.crit)].into_iter().flatten().collect();
    if both.is_empty() { "info".to_owned() } else { both.join(", ") }
}

fn explain(rule: &Rule) -> String {
    format!(
        "{}: {}\n\nreads       {}\ncomputes    {}\nthresholds  {} (bad {})\n            {}\nhelps       {}\n",
        rule.id,
        rule.title,
        rule.source,
        rule.computation,
        thresholds(rule),
        if rule.bad == Bad::Above { "above" } else { "below" },
        rule.thresholds_from,
        rule.remedy,
    )
}

/// The rule of this name.
fn rule(id: &str) -> Result<&'static Rule, Failure> {
    doctor::rules().find(|rule| rule.id == id).ok_or_else(|| {
        let likely = suggest::likely(id, doctor::rules().map(|rule| rule.id));
        let likely = likely.map(|likely| format!("did you mean `{likely}`? ")).unwrap_or_default();
        Failure::usage(anyhow!("there is no rule `{id}`")).hint(format!("{likely}`apm doctor --list-rules`"))
    })
}

fn look(context: &Context, words: &Doctor) -> Result<Window, Failure> {
    let options = options(context, words)?;
    let length = if words.quick {
        QUICK
    } else {
        parse_duration(&words.duration).context("--duration").map_err(Failure::usage)?
    };
    // In the files of another machine no process is this one.
    let pid = if words.root.is_empty() { std::process::id() as i32 } else { 0 };
    let own = Own { pid, uid: process::uid() };
    match words.root.as_slice() {
        [] => Ok(collect::window(&Roots::default(), own, &options, length, wait)),
        [root] => Ok(collect::window(&Roots::below(root), own, &options, length, wait)),
        [before, after] => {
            let origin = Instant::now();
            let mut window = Window {
                from: collect::snapshot(&Roots::below(before), own, &options, origin),
                to: collect::snapshot(&Roots::below(after), own, &options, origin),
                ..Window::default()
            };
            window.from.at_us = 0;
            window.to.at_us = length.as_micros() as u64;
            Ok(window)
        }
        _ => Err(Failure::usage(anyhow!("--root is given more than twice")).hint("once, or before and after")),
    }
}

/// The processes asked about: one with its descendants, or those of a control group.
fn focus(words: &Doctor) -> Result<Vec<i32>, Failure> {
    let roots = Roots::default();
    if let Some(pid) = words.pid {
        let members: Vec<i32> = probe::process::sweep(&roots).descendants(pid);
        if members.is_empty() {
            return Err(
                Failure::usage(anyhow!("there is no process {pid}")).hint("`apm doctor` names those that matter")
            );
        }
        return Ok(members);
    }
    let Some(path) = &words.cgroup else { return Ok(Vec::new()) };
    let members = probe::cgroup::members(&roots, path);
    if members.is_empty() {
        return Err(Failure::usage(anyhow!("no process is in the control group `{path}`"))
            .hint("its path is below the mount, as in /proc/PID/cgroup"));
    }
    Ok(members)
}

/// What costs is looked at when its area is asked for by name.
fn options(context: &Context, words: &Doctor) -> Result<Options, Failure> {
    let asked = |area| words.areas.contains(&area);
    let environment = &context.environment;
    let temporary = environment.get("TMPDIR").map_or_else(|| "/tmp".into(), std::path::PathBuf::from);
    let git = repository_root(&environment.cwd).filter(|_| asked(words::Area::Agents)).map(|root| root.join(".git"));
    let folders = Folders { work: environment.cwd.clone(), temporary, git };
    Ok(Options { folders, deep: asked(words::Area::Process), focus: focus(words)? })
}

fn wait(time: Duration) -> bool {
    std::thread::sleep(time);
    true
}

fn load(file: &std::path::Path) -> Result<Window, Failure> {
    use std::io::Read as _;
    let fail =
        |error: std::io::Error| Failure::usage(anyhow::Error::new(error).context(format!("read `{}`", file.display())));
    let mut bytes = Vec::new();
    std::fs::File::open(file).map_err(fail)?.take(SAVED_MAX).read_to_end(&mut bytes).map_err(fail)?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("`{}` is no saved look", file.display()))
        .map_err(Failure::usage)
}

fn render(format: Format, diagnosis: &Diagnosis, layout: &Layout, out: &mut Vec<u8>) -> std::io::Result<()> {
    match format {
        Format::Text => report::doctor::text::write(diagnosis, layout, out),
        Format::Json => report::doctor::json(diagnosis, out),
    }
}

fn question(context: &Context, words: &Doctor) -> Result<Question, Failure> {
    let flags = context.global.set.iter().map(|text| ("--set".to_owned(), text.clone())).collect();
    let loaded = settings::load(&context.environment, context.global.config.clone(), flags).map_err(Failure::usage)?;
    let settings = loaded.settings;
    let size = |name: &str, text: &str| Bytes::parse(text).context(name.to_owned()).map_err(Failure::usage);
    let usual = AgentSize::default();
    let agent = AgentSize {
        memory: match &words.agent_memory {
            Some(text) => size("--agent-memory", text)?,
            None => settings.agent_memory.unwrap_or(usual.memory),
        },
        cpu: words.agent_cpu.or(settings.agent_cpu.map(|cpu| cpu.0)).unwrap_or(usual.cpu),
        disk: size("--agent-disk", &words.agent_disk)?,
    };
    let known = |id: &str| rule(id).map(|rule| rule.id.to_owned());
    let threshold = |text: &String| {
        let wrong = || {
            Failure::usage(anyhow!("--threshold {text}: expected RULE=WARN:CRIT"))
                .hint("for instance `mem.available=15:8`; an empty side keeps the rule silent there")
        };
        let (id, values) = text.split_once('=').ok_or_else(wrong)?;
        let (warn, crit) = values.split_once(':').ok_or_else(wrong)?;
        let side = |side: &str| match side.trim() {
            "" => Ok(None),
            side => side.parse::<f64>().ok().filter(|side| side.is_finite()).map(Some).ok_or_else(wrong),
        };
        Ok((known(id.trim())?, side(warn)?, side(crit)?))
    };
    Ok(Question {
        areas: words.areas.iter().map(|area| area_of(*area)).collect(),
        only: words.only.iter().map(|id| known(id)).collect::<Result<_, _>>()?,
        ignore: words.ignore.iter().map(|id| known(id)).collect::<Result<_, _>>()?,
        thresholds: words.threshold.iter().map(threshold).collect::<Result<_, Failure>>()?,
        focus: words.pid.is_some() || words.cgroup.is_some(),
        agents: words.agents,
        agent,
    })
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
