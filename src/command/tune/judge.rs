//! `--preset` and `--compare`: lists of settings from elsewhere, held against this machine.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use serde_json::json;

use super::looked::Looked;
use crate::cli::tune::{Plan, TuneFormat};
use crate::command::context::Context;
use crate::command::failure::{Exit, Failure};
use crate::probe::read_text;
use crate::text::layout::{Layout, Style, pad, wrap};
use crate::text::{escape, transcript};
use crate::tune::judge::{self, Bound, Foreign, Judged, SPEC, Worth};
use crate::tune::tuned::Profile;

/// Where profiles of tuned are, the first wins.
const PROFILES: &[&str] = &["etc/tuned", "etc/tuned/profiles", "usr/lib/tuned", "usr/lib/tuned/profiles"];
/// Profiles that are read for one: those it includes, and theirs.
const PROFILES_MAX: usize = 16;

pub(super) fn main(context: &Context, words: &Plan, looked: &mut Looked) -> Result<Exit, Failure> {
    let (name, list, unknown) = match &words.compare {
        None => ("spec".to_owned(), SPEC.iter().map(|(key, value)| foreign(key, value)).collect(), Vec::new()),
        Some(profile) => {
            let name = profile.strip_prefix("tuned:").ok_or_else(|| {
                Failure::usage(anyhow!("--compare `{}`: only profiles of tuned are known", transcript::line(profile)))
                    .hint("for instance `--compare tuned:throughput-performance`")
            })?;
            let (list, unknown) = profile_of(looked, &context.environment.cwd, name)?;
            (profile.clone(), list, unknown)
        }
    };
    looked.look_up(list.iter().map(|one: &Foreign| one.key.as_str()));
    let judged = judge::judge(&list, &looked.settings, &looked.facts());
    let text = match words.format {
        TuneFormat::Json => {
            escape::json(&format!("{:#}\n", json!({ "schema": "apm.tune.judged/1", "list": name, "judged": judged })))
        }
        TuneFormat::Text => render(&name, &judged, &unknown, &context.ui.stdout_layout()),
        _ => return Err(Failure::usage(anyhow!("a judged list has the formats text and json"))),
    };
    context.print(&text)
}

fn foreign(key: &str, value: &str) -> Foreign {
    Foreign { key: key.to_owned(), value: value.to_owned(), bound: Bound::Exactly }
}

/// What a profile sets, with those it includes, which it overrides; and its lines that are not judged.
fn profile_of(looked: &Looked, cwd: &Path, name: &str) -> Result<(Vec<Foreign>, Vec<String>), Failure> {
    let is_virtual = looked.window.to.system.is_virtual == Some(true);
    let (mut profile, mut unknown) = (Profile::default(), Vec::new());
    let path = path_of(&looked.machine, cwd, name, None);
    let loader = Loader { machine: &looked.machine, cwd, is_virtual };
    loader.load(name, path, &mut profile, &mut Vec::new(), &mut unknown)?;
    let (found, more) = profile.settings(is_virtual);
    unknown.extend(more);
    // One of all disks is one of each.
    let each = |one: Foreign| match one.key.split_once('*') {
        Some((start, end)) => {
            let keys = looked.settings.iter().map(|setting| &setting.key);
            let keys = keys.filter(|key| key.starts_with(start) && key.ends_with(end));
            keys.map(|key| Foreign { key: key.clone(), ..one.clone() }).collect()
        }
        None => vec![one],
    };
    Ok((found.into_iter().flat_map(each).collect(), unknown))
}

/// Reads profiles as tuned does: those that one includes before itself, each once.
struct Loader<'a> {
    machine: &'a Path,
    cwd: &'a Path,
    is_virtual: bool,
}

impl Loader<'_> {
    fn load(
        &self,
        name: &str,
        path: Option<PathBuf>,
        into: &mut Profile,
        done: &mut Vec<PathBuf>,
        unknown: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let path = path.filter(|path| path.is_file());
        let Some((path, text)) = path.and_then(|path| read_text(&path).ok().map(|text| (path, text))) else {
            let failure = Failure::usage(anyhow!("there is no profile `{}` of tuned", transcript::line(name)));
            return Err(
                failure.hint("`apt install tuned` brings them to /usr/lib/tuned; or give a path: `tuned:./tuned.conf`")
            );
        };
        if done.contains(&path) || done.len() >= PROFILES_MAX {
            return Ok(());
        }
        let profile = Profile::read(&text);
        if profile.sections.is_empty() {
            return Err(Failure::usage(anyhow!("`{}` is no profile of tuned", transcript::line(name)))
                .hint("it has sections: [main], [sysctl]"));
        }
        // Those of a folder of profiles lie beside each other.
        let beside = path.parent().and_then(Path::parent).map(Path::to_owned);
        done.push(path);
        match profile.includes(self.is_virtual) {
            Ok(names) => {
                for name in names {
                    // Profiles include others by their names; a path would lead anywhere.
                    let is_name = !name.contains('/');
                    let path = is_name.then(|| path_of(self.machine, self.cwd, &name, beside.as_deref())).flatten();
                    self.load(&name, path, into, done, unknown)?;
                }
            }
            Err(line) => unknown.push(line),
        }
        into.merge(profile);
        Ok(())
    }
}

/// The file of a profile; one that another includes is looked for beside it too.
fn path_of(root: &Path, cwd: &Path, name: &str, beside: Option<&Path>) -> Option<PathBuf> {
    if name.contains('/') {
        let path = cwd.join(name);
        return Some(if path.is_dir() { path.join("tuned.conf") } else { path });
    }
    let folders = beside.map(Path::to_owned).into_iter().chain(PROFILES.iter().map(|folder| root.join(folder)));
    folders.map(|folder| folder.join(name).join("tuned.conf")).find(|path| path.is_file())
}

fn render(name: &str, judged: &[Judged], unknown: &[String], layout: &Layout) -> String {
    let mut judged: Vec<&Judged> = judged.iter().collect();
    judged.sort_by_key(|one| one.worth);
    let count = |worth: Worth| judged.iter().filter(|one| one.worth == worth).count();
    let mut counts: Vec<String> = Vec::new();
    for one in &judged {
        let text = format!("{} {}", count(one.worth), one.worth.words());
        if !counts.contains(&text) {
            counts.push(text);
        }
    }
    let mut text = format!("{}: {} settings: {}\n", transcript::line(name), judged.len(), counts.join(", "));
    for one in judged {
        let style = match one.worth {
            Worth::Harmful | Worth::Lowers => Style::Bad,
            Worth::Right | Worth::AsItIs => Style::Good,
            _ => Style::Warn,
        };
        let now = transcript::line(one.current.as_deref().unwrap_or("-"));
        text += &format!("\n{} {}\n", layout.paint(style, &pad(one.worth.words(), 9)), transcript::line(&one.key));
        // What is as it is already, is no change.
        if one.worth != Worth::AsItIs {
            text += &format!("      {now} -> {}\n", transcript::line(&one.value));
        }
        for line in wrap(&transcript::line(&one.why), layout.width.saturating_sub(6)) {
            text += &format!("      {}\n", layout.paint(Style::Dim, &line));
        }
    }
    if !unknown.is_empty() {
        text += "\nnot judged, since apm sets nothing of the kind:\n";
        unknown.iter().for_each(|line| text += &format!("      {}\n", transcript::line(line)));
    }
    text
}
