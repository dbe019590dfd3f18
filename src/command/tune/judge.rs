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
use crate::tune::judge::{self, Foreign, Judged, SPEC, Worth};

/// Where profiles of tuned are, the first wins.
const PROFILES: &[&str] = &["etc/tuned", "etc/tuned/profiles", "usr/lib/tuned", "usr/lib/tuned/profiles"];
/// Profiles that a profile may include, one after the other.
const INCLUDES_MAX: usize = 8;

pub(super) fn main(context: &Context, words: &Plan, looked: &Looked) -> Result<Exit, Failure> {
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
    Foreign { key: key.to_owned(), value: value.to_owned(), is_least: false }
}

/// The values of a profile with those it includes, which it overrides.
fn profile_of(looked: &Looked, cwd: &Path, name: &str) -> Result<(Vec<Foreign>, Vec<String>), Failure> {
    let is_virtual = looked.window.to.system.is_virtual == Some(true);
    let mut found: Vec<Foreign> = Vec::new();
    let mut unknown = Vec::new();
    let mut next = Some(path_of(&looked.machine, cwd, name, None));
    let mut wanted = name.to_owned();
    let mut above = None;
    for _ in 0..INCLUDES_MAX {
        let Some(path) = next.take() else { break };
        let text = path.as_ref().filter(|path| path.is_file()).and_then(|path| read_text(path).ok());
        let Some(text) = text else {
            let failure = Failure::usage(anyhow!("there is no profile `{}` of tuned", transcript::line(&wanted)));
            return Err(
                failure.hint("`apt install tuned` brings them to /usr/lib/tuned; or give a path: `tuned:./tuned.conf`")
            );
        };
        let read = judge::tuned(&text, is_virtual);
        if read.sections == 0 {
            return Err(Failure::usage(anyhow!("`{}` is no profile of tuned", transcript::line(&wanted)))
                .hint("it has sections: [main], [sysctl]"));
        }
        for value in read.found {
            if !found.iter().any(|one| one.key == value.key) {
                found.push(value);
            }
        }
        unknown.extend(read.unknown);
        // Those of a folder of profiles lie beside each other.
        above = path.as_deref().and_then(Path::parent).and_then(Path::parent).map(Path::to_owned).or(above);
        next = read.include.map(|name| {
            wanted = name;
            // Profiles include others by their names; a path would lead anywhere.
            if wanted.contains('/') {
                return None;
            }
            path_of(&looked.machine, cwd, &wanted, above.as_deref())
        });
    }
    Ok((found, unknown))
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
        text += &format!(
            "\n{} {}\n      {now} -> {}\n",
            layout.paint(style, &pad(one.worth.words(), 9)),
            transcript::line(&one.key),
            transcript::line(&one.value),
        );
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
