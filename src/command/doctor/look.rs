//! Where the window comes from: this machine, a folder with the files of one, a saved look.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use super::saved;
use crate::cli::doctor::{Area, Doctor, Format};
use crate::command::context::Context;
use crate::command::failure::{Exit, Failure};
use crate::command::{qa, watch};
use crate::config::repository::repository;
use crate::doctor::question::Question;
use crate::model::snapshot::{Field, Snapshot, Window};
use crate::model::unit::parse_duration;
use crate::probe::collect::{self, Options, Own};
use crate::probe::net::reach::Ask;
use crate::probe::room::Folders;
use crate::probe::{self, Roots};
use crate::sys::beneath::Folder;
use crate::sys::file_system::is_of_kernel;
use crate::sys::priority::{self, Who};
use crate::sys::process;
use crate::sys::signal::Held;
use crate::text::number;
use crate::ui::looking::Looking;

/// Shortest time between two looks of `--watch`.
const EVERY_MIN: Duration = Duration::from_millis(100);
/// Files of another machine that are looked at.
const ENTRIES_MAX: usize = 1_000_000;
/// Nice level while it looks, where it may be had.
const AHEAD: i32 = -10;
/// The window of `--quick`.
const QUICK: Duration = Duration::from_millis(500);
/// Shortest and longest window: below it a rate is noise, above it somebody mistook the unit.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(86_400);

/// What was seen.
pub(crate) struct Looked {
    pub(crate) window: Window,
    /// The signal that ended the window early.
    pub(crate) interrupted_by: Option<i32>,
}

/// Looks where the command line says.
pub(crate) fn look(context: &Context, words: &Doctor, usual: Duration) -> Result<Looked, Failure> {
    if let Some(file) = &words.from {
        let window = saved::read(&context.environment.cwd.join(file)).map_err(|(why, hint)| {
            let failure = Failure::usage(anyhow!("--from `{}`: {why}", file.display()));
            if hint.is_empty() { failure } else { failure.hint(hint) }
        })?;
        return Ok(Looked { window, interrupted_by: None });
    }
    let length = match &words.duration {
        _ if words.quick => QUICK,
        Some(text) => parse_duration(text).context("--duration").map_err(Failure::usage)?,
        None => usual,
    };
    if !(SHORTEST..=LONGEST).contains(&length) {
        let length = number::duration(length);
        return Err(Failure::usage(anyhow!("--duration: {length} is no time to look")).hint("from 50ms to 24h"));
    }
    for root in &words.root {
        check(root)?;
    }
    let options = options(context, words)?;
    let mut looked = match words.root.as_slice() {
        [] => live(context, &Roots::default(), &options, length),
        [root] if is_live(root) => live(context, &Roots::below(root), &options, length),
        [root] => {
            if !context.ui.quiet() {
                context.ui.say(
                    "apm: one look at the files of a machine: rules about rates are skipped\n  hint: give --root twice, before and after\n",
                );
            }
            // A first look without anything: rules that need two then say so, and do not see a growth of nothing.
            apart(Snapshot::default(), captured(root, &options), length)
        }
        [before, after] => apart(captured(before, &options), captured(after, &options), length),
        _ => return Err(Failure::usage(anyhow!("--root is given more than twice")).hint("once, or before and after")),
    };
    if words.areas.contains(&Area::Agents) && words.root.is_empty() && looked.interrupted_by.is_none() {
        let cwd = &context.environment.cwd;
        let missing = qa::missing_tools(context, repository(&context.environment, cwd).root().unwrap_or(cwd));
        looked.window.to.room.missing =
            missing.map_or_else(|error| Field::unavailable("apm run qa", error), Field::Known);
    }
    Ok(looked)
}

/// Looks at this machine, or at the files of one.
pub(crate) fn at(context: &Context, root: Option<&Path>, length: Duration) -> Result<Looked, Failure> {
    let options = Options::default();
    let Some(root) = root else { return Ok(live(context, &Roots::default(), &options, length)) };
    check(root)?;
    if is_live(root) {
        return Ok(live(context, &Roots::below(root), &options, length));
    }
    Ok(apart(Snapshot::default(), captured(root, &options), length))
}

/// `--watch`
pub(crate) fn watch(context: &Context, words: &Doctor, question: Question, window: Duration) -> Result<Exit, Failure> {
    let every = parse_duration(&words.every).context("--every").map_err(Failure::usage)?;
    if every < EVERY_MIN {
        return Err(Failure::usage(anyhow!("--every {}: at least 0.1s", words.every)));
    }
    if !matches!(words.format, Format::Text | Format::Ndjson) {
        return Err(Failure::usage(anyhow!("--watch has the formats text and ndjson")));
    }
    let roots = match words.root.as_slice() {
        [] => Roots::default(),
        [root] => {
            check(root)?;
            Roots::below(root)
        }
        _ => return Err(Failure::usage(anyhow!("--watch looks at one machine: give --root once"))),
    };
    let own = Own { pid: if roots.is_here { std::process::id() as i32 } else { 0 }, uid: process::uid() };
    let options = options(context, words)?;
    watch::main(&watch::Watch { context, roots, own, options, question, every, window, format: words.format })
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
    let temporary = environment.get("TMPDIR").map_or_else(|| "/tmp".into(), PathBuf::from);
    let found = repository(environment, &environment.cwd);
    let git = found.root().filter(|_| asked(Area::Agents)).map(|root| root.join(".git"));
    let folders = Folders { work: environment.cwd.clone(), temporary, git };
    let reach = words.probe.as_ref().map(|hosts| ask(context, hosts));
    Ok(Options { folders, deep: asked(Area::Process), focus: focus(words)?, reach })
}

/// Whom to ask: the hosts given, or those that clients of models are told by variables; and the proxies on the way.
fn ask(context: &Context, hosts: &[String]) -> Ask {
    let variables = |wanted: fn(&str) -> bool| {
        let pairs =
            context.environment.variables.iter().filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)));
        pairs.filter(move |(name, value)| wanted(name) && !value.is_empty())
    };
    let told = || variables(|name| name.ends_with("_BASE_URL")).map(|(_, value)| value.to_owned()).collect();
    let is_proxy =
        |name: &str| ["https_proxy", "http_proxy", "all_proxy"].iter().any(|one| name.eq_ignore_ascii_case(one));
    let mut proxies: Vec<(String, String)> =
        variables(is_proxy).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    // Usually each is set in capitals and in small letters.
    proxies.sort_by_key(|(name, _)| name.to_ascii_lowercase());
    proxies.dedup_by(|one, other| one.0.eq_ignore_ascii_case(&other.0) && one.1 == other.1);
    Ask { hosts: if hosts.is_empty() { told() } else { hosts.to_vec() }, proxies }
}

fn check(root: &Path) -> Result<(), Failure> {
    let shown = root.display();
    std::fs::read_dir(root).with_context(|| format!("open the folder `{shown}` of --root")).map_err(Failure::usage)?;
    if Folder::open(root).and_then(|root| root.folder(Path::new("proc"))).is_ok() {
        return is_live(root).then_some(()).map_or_else(|| plain(root), Ok);
    }
    Err(Failure::usage(anyhow!("--root `{shown}` has no folder `proc`"))
        .hint("it holds `proc`, `sys` and `etc` as the machine has them below `/`"))
}

/// Files of another machine are files: reading a pipe or a device among them could wait for ever.
fn plain(root: &Path) -> Result<(), Failure> {
    let mut open: Vec<PathBuf> = ["proc", "sys", "etc", "dev", "run"].iter().map(|name| root.join(name)).collect();
    let mut seen = 0;
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            seen += 1;
            if seen > ENTRIES_MAX {
                return Err(Failure::usage(anyhow!("--root `{}` has more than {ENTRIES_MAX} files", root.display())));
            }
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                open.push(entry.path());
            } else if !kind.is_file() && !kind.is_symlink() {
                let path = entry.path();
                return Err(Failure::usage(anyhow!("--root: `{}` is a pipe, a socket or a device", path.display()))
                    .hint("it holds copies of the files of `/proc`, `/sys` and `/etc`"));
            } else if kind.is_symlink()
                && std::fs::metadata(entry.path()).is_ok_and(|it| !it.is_file() && !it.is_dir())
                // How files of settings and units are masked; it reads as an empty file.
                && std::fs::read_link(entry.path()).is_ok_and(|to| to != Path::new("/dev/null"))
            {
                let path = entry.path();
                return Err(Failure::usage(anyhow!(
                    "--root: `{}` leads to a pipe, a socket or a device",
                    path.display()
                )));
            }
        }
    }
    Ok(())
}

/// Whether these are files of a running kernel, and not a copy of them.
fn is_live(root: &Path) -> bool {
    let proc = Folder::open(root).and_then(|root| root.folder(Path::new("proc")));
    proc.is_ok_and(|proc| is_of_kernel(&proc))
}

fn captured(root: &Path, options: &Options) -> Snapshot {
    // In the files of another machine no process is this one.
    collect::snapshot(&Roots::below(root), Own { pid: 0, uid: process::uid() }, options, Instant::now())
}

fn apart(mut from: Snapshot, mut to: Snapshot, length: Duration) -> Looked {
    (from.at_us, to.at_us) = (0, length.as_micros() as u64);
    Looked { window: Window { from, to, ..Window::default() }, interrupted_by: None }
}

fn live(context: &Context, roots: &Roots, options: &Options, length: Duration) -> Looked {
    let own = Own { pid: if roots.is_here { std::process::id() as i32 } else { 0 }, uid: process::uid() };
    if roots.is_here {
        // On a full machine a look would last seconds longer than it should. Only root may; others wait their turn.
        let _ = priority::set_nice(Who::Thread, AHEAD);
    }
    let line = Looking::new(&context.ui, length);
    let mut held = Held::new();
    let mut interrupted_by = None;
    let window = collect::window(roots, own, options, length, |time| {
        line.wait(time, |time| {
            interrupted_by = held.wait(time);
            interrupted_by.is_none()
        })
    });
    drop((line, held));
    if interrupted_by.is_some() && !context.ui.quiet() {
        let took = number::duration(Duration::from_secs_f64(window.seconds()));
        context.ui.say(&format!(
            "apm: interrupted after {took} of {}: what follows is over that time\n",
            number::duration(length)
        ));
    }
    Looked { window, interrupted_by }
}
