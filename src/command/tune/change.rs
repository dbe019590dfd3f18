//! `apm tune diff`, `apply`, `rollback`, `history`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use serde_json::json;
use similar::TextDiff;

use super::{Looked, files, planned, print};
use crate::cli::run::ListFormat;
use crate::cli::tune::{Apply, History, Planned, Rollback};
use crate::command::Context;
use crate::command::failure::{Exit, Failure};
use crate::model::setting::Place;
use crate::sys::process;
use crate::text::number::count;
use crate::text::transcript;
use crate::tune::TWINS;
use crate::tune::apply::{self, Record, SavedFile, SavedValue, State, Store, Trouble};

/// Where records of applies are, below the root.
const STORE: &str = "var/lib/apm/tune";
/// CPUs whose files are set.
const CPUS_MAX: usize = 8192;

pub(super) fn diff(context: &Context, words: &Planned) -> Result<Exit, Failure> {
    let looked = planned(context, &words.sources, words.dir.as_deref())?;
    let text = match words.format {
        ListFormat::Text => changes(&looked),
        ListFormat::Json => {
            let live = looked.settings.iter().filter(|setting| is_live(setting.place) && setting.is_change());
            let live: Vec<_> = live
                .map(|setting| json!({ "key": setting.key, "current": setting.current, "proposed": setting.proposed }))
                .collect();
            let files: Vec<_> = files(&looked)
                .iter()
                .filter(|(_, now, text)| now != text)
                .map(
                    |(path, now, text)| json!({ "path": path.display().to_string(), "current": now, "proposed": text }),
                )
                .collect();
            format!("{:#}\n", json!({ "schema": "apm.tune.diff/1", "live": live, "files": files }))
        }
    };
    print(context, if text.is_empty() { b"nothing to change\n" } else { text.as_bytes() })
}

fn is_live(place: Place) -> bool {
    matches!(place, Place::Sysctl | Place::Sys)
}

/// A unified diff of the files, then the live values.
fn changes(looked: &Looked) -> String {
    let mut text = String::new();
    for (path, now, wanted) in files(looked) {
        let (before, after) = (now.unwrap_or_default(), wanted.clone().unwrap_or_default());
        if before == after {
            continue;
        }
        let name = path.display().to_string();
        let old = if before.is_empty() { "/dev/null" } else { &name };
        let new = if after.is_empty() { "/dev/null" } else { &name };
        let diff = TextDiff::from_lines(&before, &after);
        text += &diff.unified_diff().context_radius(3).header(old, new).to_string();
    }
    let live = looked.settings.iter().filter(|setting| is_live(setting.place) && setting.is_change());
    for (at, setting) in live.enumerate() {
        if at == 0 {
            text += if text.is_empty() { "live:\n" } else { "\nlive:\n" };
        }
        let now = transcript::line(setting.current.as_deref().unwrap_or("-"));
        let _ = writeln!(text, "  {}: {now} -> {}", setting.key, setting.proposed.as_deref().unwrap_or_default());
    }
    text
}

pub(super) fn apply(context: &Context, words: &Apply) -> Result<Exit, Failure> {
    let looked = planned(context, &words.sources, None)?;
    let folder = looked.root.join(STORE);
    if let Some(begun) = apply::records(&folder).0.iter().find(|record| record.state == State::Begun) {
        return Err(Failure::machine(anyhow!("the apply {} was interrupted, part of it may be in effect", begun.id))
            .hint(format!("first `apm tune rollback {}`", begun.id)));
    }
    let shown = changes(&looked);
    if shown.is_empty() {
        return print(context, b"nothing to change: all is as planned\n");
    }
    print(context, shown.as_bytes())?;
    if words.dry_run {
        return Ok(Exit::Good);
    }
    let is_root = process::uid() == 0 || words.sources.root.is_some();
    if !is_root {
        let failure = Failure::machine(anyhow!("settings of the machine are set by root"));
        return Err(failure.hint("`sudo apm tune apply`, or `apm tune write --dir DIR` for the files alone"));
    }
    let store = open(&folder)?;
    let mut record = record(&looked, &store)?;
    let what =
        format!("{} and {}", count(record.values.len() as u64, "live value"), count(record.files.len() as u64, "file"));
    if !words.yes {
        match context.ui.ask(&format!("apply {what}?")) {
            Some(true) => {}
            Some(false) => {
                context.ui.say("apm: nothing was changed\n");
                return Ok(Exit::Nothing);
            }
            None => {
                return Err(Failure::usage(anyhow!("there is no terminal to ask on; nothing was changed"))
                    .hint("`--yes` applies without asking, `--dry-run` only shows"));
            }
        }
    }
    if let Err(failed) = store.apply(&mut record) {
        let mut text = format!("{}: {}", failed.trouble.what, failed.trouble.why);
        if failed.left.is_empty() {
            text += "; everything was restored";
            return Err(Failure::machine(anyhow!("{text}"))
                .hint(format!("`apm tune apply --except {}` leaves it out", failed.trouble.what)));
        }
        text += &format!("; not restored: {}", list(&failed.left));
        return Err(Failure::machine(anyhow!("{text}")).hint(format!("`apm tune rollback {}` tries again", record.id)));
    }
    let mut said = format!("applied {what}; `apm tune rollback {}` takes them back\n", record.id);
    let has = |end: &str| record.files.iter().any(|file| file.path.ends_with(end));
    if has("security/limits.d/60-apm.conf") {
        said += "limits of sessions are in effect from the next login on\n";
    }
    if has("systemd/system.conf.d/60-apm.conf") || has("systemd/system/apm.slice") {
        said += "for systemd: `systemctl daemon-reexec`\n";
    }
    context.ui.say(&said);
    Ok(Exit::Good)
}

fn open(folder: &Path) -> Result<Store, Failure> {
    Store::open(folder).with_context(|| format!("open `{}`", folder.display())).map_err(|error| {
        Failure::machine(error).hint("records of what was before are kept there; nothing is changed without them")
    })
}

/// What is to be changed, with what is there now.
fn record(looked: &Looked, store: &Store) -> Result<Record, Failure> {
    let mut saved = Vec::new();
    for (path, now, wanted) in files(looked) {
        if now != wanted {
            let file = SavedFile::of(path.clone(), wanted);
            saved.push(file.with_context(|| format!("read `{}`", path.display())).map_err(Failure::machine)?);
        }
    }
    let mut values = Vec::new();
    for setting in looked.settings.iter().filter(|setting| is_live(setting.place) && setting.is_change()) {
        let (Some(path), Some(after)) = (&setting.path, &setting.proposed) else { continue };
        for path in all_cpus(Path::new(path)) {
            let read = |path: &Path| {
                apply::read_value(path).with_context(|| format!("read `{}`", path.display())).map_err(Failure::machine)
            };
            let twin = TWINS.iter().find(|(key, _)| *key == setting.key).map(|(_, twin)| {
                let name = twin.rsplit('.').next().unwrap_or_default();
                path.with_file_name(name)
            });
            let twin = twin.map(|path| Ok::<_, Failure>((path.clone(), read(&path)?))).transpose()?;
            values.push(SavedValue {
                key: setting.key.clone(),
                before: read(&path)?,
                path,
                after: after.clone(),
                twin,
            });
        }
    }
    let now = Timestamp::now();
    let id = store.free_id(&now.strftime("%Y%m%d-%H%M%S").to_string());
    Ok(Record::new(id, now.to_string(), saved, values))
}

/// The same file of each CPU, where it is of the first.
fn all_cpus(path: &Path) -> Vec<PathBuf> {
    let text = path.display().to_string();
    let Some((before, after)) = text.split_once("/cpu0/") else { return vec![path.to_owned()] };
    let file = |cpu: usize| PathBuf::from(format!("{before}/cpu{cpu}/{after}"));
    (0..CPUS_MAX).map(file).take_while(|path| path.exists()).collect()
}

fn list(troubles: &[Trouble]) -> String {
    troubles.iter().map(|it| format!("{}: {}", it.what, transcript::line(&it.why))).collect::<Vec<_>>().join("; ")
}

pub(super) fn rollback(context: &Context, words: &Rollback) -> Result<Exit, Failure> {
    let folder = store_of(context, words.root.as_deref());
    let (records, troubles) = apply::records(&folder);
    for trouble in &troubles {
        context.ui.say(&format!("apm: warning: {}: {}\n", trouble.what, transcript::line(&trouble.why)));
    }
    let mut open: Vec<Record> = records.into_iter().filter(|record| record.state != State::RolledBack).collect();
    let from = match &words.id {
        None => open.len().saturating_sub(1),
        Some(id) => open.iter().position(|record| record.id == *id).ok_or_else(|| {
            Failure::usage(anyhow!("there is no apply `{}` that could be rolled back", transcript::line(id)))
                .hint("`apm tune history` lists them")
        })?,
    };
    if open.is_empty() {
        return Err(
            Failure::nothing("nothing was applied that is not rolled back").hint("`apm tune history` lists what was")
        );
    }
    let store = self::open(&folder)?;
    // Later ones first: each restores what it found.
    for record in open[from..].iter_mut().rev() {
        let left = store.roll_back(record);
        if !left.is_empty() {
            return Err(Failure::machine(anyhow!("{} is not rolled back: {}", record.id, list(&left)))
                .hint("what could be restored is restored; the same command tries the rest again"));
        }
        let values = count(record.values.len() as u64, "live value");
        let files = count(record.files.len() as u64, "file");
        context.ui.say(&format!("rolled back {}: {values} and {files} are as before\n", record.id));
    }
    Ok(Exit::Good)
}

fn store_of(context: &Context, root: Option<&Path>) -> PathBuf {
    root.map_or_else(|| "/".into(), |root| context.environment.cwd.join(root)).join(STORE)
}

pub(super) fn history(context: &Context, words: &History) -> Result<Exit, Failure> {
    let (records, troubles) = apply::records(&store_of(context, words.root.as_deref()));
    if words.format == ListFormat::Json {
        let records: Vec<_> = records
            .iter()
            .map(|record| {
                let values: Vec<_> = record
                    .values
                    .iter()
                    .map(|value| json!({ "key": value.key, "before": value.before, "after": value.after }))
                    .collect();
                let files: Vec<_> = record.files.iter().map(|file| file.path.display().to_string()).collect();
                json!({ "id": record.id, "at": record.at, "state": record.state, "values": values, "files": files })
            })
            .collect();
        let text = format!("{:#}\n", json!({ "schema": "apm.tune.history/1", "applies": records }));
        return print(context, text.as_bytes());
    }
    let mut text = String::new();
    for record in &records {
        let state = match record.state {
            State::Begun => "interrupted",
            State::Applied => "applied",
            State::RolledBack => "rolled back",
        };
        let (values, files) = (record.values.len() as u64, record.files.len() as u64);
        let _ = writeln!(
            text,
            "{}  {state:<11}  {}, {}",
            transcript::line(&record.id),
            count(values, "live value"),
            count(files, "file")
        );
    }
    for trouble in &troubles {
        let _ = writeln!(text, "{}: {}", trouble.what, transcript::line(&trouble.why));
    }
    if text.is_empty() {
        return Err(Failure::nothing("nothing was applied yet").hint("`apm tune` shows what would be"));
    }
    print(context, text.as_bytes())
}
