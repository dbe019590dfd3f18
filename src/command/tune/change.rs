//! `apm tune diff`, `apply`, `rollback`, `history`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use serde_json::json;
use similar::TextDiff;

use super::file::{Planfile, confined, files};
use super::looked::{Looked, planned};
use crate::cli::run::ListFormat;
use crate::cli::tune::{Apply, History, Planned, Rollback};
use crate::command::context::Context;
use crate::command::failure::{Exit, Failure};
use crate::model::setting::Place;
use crate::sys::process;
use crate::sys::signal::Held;
use crate::text::number::count;
use crate::text::transcript;
use crate::tune::apply::{self, Record, SavedFile, SavedValue, State, Store, Trouble};
use crate::tune::catalogue::COUNTERPARTS;

/// Where records of applies are, below the root.
const STORE: &str = "var/lib/apm/tune";
/// CPUs whose files are set.
const CPUS_MAX: usize = 8192;

pub(super) fn diff(context: &Context, words: &Planned) -> Result<Exit, Failure> {
    let looked = planned(context, &words.sources, words.dir.as_deref())?;
    let text = match words.format {
        ListFormat::Text => changes(&looked)?,
        ListFormat::Json => {
            let live = looked.settings.iter().filter(|setting| is_live(setting.place) && setting.is_change());
            let live: Vec<_> = live
                .map(|setting| json!({ "key": setting.key, "current": setting.current, "proposed": setting.proposed }))
                .collect();
            let files = files(&looked)?;
            let files: Vec<_> = files
                .iter()
                .filter(|file| file.now != file.wanted)
                .map(|file| {
                    json!({ "path": file.path.display().to_string(), "current": file.now, "proposed": file.wanted })
                })
                .collect();
            format!("{:#}\n", json!({ "schema": "apm.tune.diff/1", "live": live, "files": files }))
        }
    };
    context.print(if text.is_empty() { b"nothing to change\n" } else { text.as_bytes() })
}

fn is_live(place: Place) -> bool {
    matches!(place, Place::Sysctl | Place::Sys)
}

/// A unified diff of the files, then the live values.
fn changes(looked: &Looked) -> Result<String, Failure> {
    let mut text = String::new();
    for Planfile { path, now, wanted } in files(looked)? {
        let (before, after) = (now.unwrap_or_default(), wanted.unwrap_or_default());
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
    Ok(text)
}

pub(super) fn apply(context: &Context, words: &Apply) -> Result<Exit, Failure> {
    let looked = planned(context, &words.sources, None)?;
    let folder = looked.root.join(STORE);
    if let Some(begun) = apply::records(&folder).0.iter().find(|record| record.state == State::Begun) {
        return Err(Failure::machine(anyhow!("the apply {} was interrupted, part of it may be in effect", begun.id))
            .hint(format!("first `apm tune rollback {}`", begun.id)));
    }
    let shown = changes(&looked)?;
    if shown.is_empty() {
        return context.print(b"nothing to change: all is as planned\n");
    }
    context.print(shown.as_bytes())?;
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
    if words.sources.root.is_none() && record.values.iter().any(|value| value.key.starts_with("net.")) {
        record.network = network();
    }
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
    // Ctrl-C waits for the end of it: half of an apply helps nobody.
    let held = Held::new();
    if let Err(failed) = store.apply(&mut record) {
        let mut text = format!("{}: {}", failed.trouble.what, failed.trouble.why);
        if failed.left.is_empty() {
            text += "; everything was restored";
            let failure = Failure::machine(anyhow!("{text}"));
            let is_key = record.values.iter().any(|value| value.key == failed.trouble.what);
            return Err(if is_key {
                failure.hint(format!("`apm tune apply --except {}` leaves it out", failed.trouble.what))
            } else {
                failure
            });
        }
        text += &format!("; not restored: {}", list(&failed.left));
        return Err(Failure::machine(anyhow!("{text}")).hint(format!("`apm tune rollback {}` tries again", record.id)));
    }
    let mut said = format!("applied {what}; `apm tune rollback {}` takes them back\n", record.id);
    said += &later(&record);
    context.ui.say(&said);
    drop(held);
    Ok(Exit::Good)
}

/// What is in effect only after something else.
fn later(record: &Record) -> String {
    let has = |end: &str| record.files.iter().any(|file| file.path.ends_with(end));
    let mut said = String::new();
    if has("security/limits.d/60-apm.conf") {
        said += "limits of sessions: from the next login on\n";
    }
    if has("systemd/system.conf.d/60-apm.conf") {
        said += "systemd's own limits: after `systemctl daemon-reexec`\n";
    }
    if has("systemd/system/apm.slice") {
        said += "apm.slice: after `systemctl daemon-reload`\n";
    }
    said
}

/// The network namespace this process is in.
fn network() -> Option<String> {
    namespace(Path::new("/proc/self"))
}

fn namespace(process: &Path) -> Option<String> {
    Some(std::fs::read_link(process.join("ns/net")).ok()?.display().to_string())
}

/// A process in a network namespace.
fn somebody_in(network: &str) -> Option<u32> {
    let numbers = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.find(|pid| namespace(&Path::new("/proc").join(pid.to_string())).as_deref() == Some(network))
}

fn open(folder: &Path) -> Result<Store, Failure> {
    Store::open(folder).with_context(|| format!("open `{}`", folder.display())).map_err(|error| {
        Failure::machine(error).hint("records of what was before are kept there; nothing is changed without them")
    })
}

/// What is to be changed, with what is there now.
fn record(looked: &Looked, store: &Store) -> Result<Record, Failure> {
    let mut saved = Vec::new();
    for Planfile { path, now, wanted } in files(looked)? {
        if now != wanted {
            let file = SavedFile::of(path.clone(), wanted);
            saved.push(file.with_context(|| format!("read `{}`", path.display())).map_err(Failure::machine)?);
        }
    }
    let mut values = Vec::new();
    for setting in looked.settings.iter().filter(|setting| is_live(setting.place) && setting.is_change()) {
        let (Some(path), Some(after)) = (&setting.path, &setting.proposed) else { continue };
        let path = looked.root.join(path.trim_start_matches('/'));
        confined(looked, &path)?;
        for path in all_cpus(&path) {
            let read = |path: &Path| {
                apply::read_value(path).with_context(|| format!("read `{}`", path.display())).map_err(Failure::machine)
            };
            let twin = COUNTERPARTS.iter().find(|(key, _)| *key == setting.key).map(|(_, twin)| {
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
    if let Err(error) = std::fs::read_dir(&folder)
        && error.kind() == std::io::ErrorKind::PermissionDenied
    {
        return Err(Failure::machine(anyhow!("read `{}`: {error}", folder.display())).hint("`sudo apm tune rollback`"));
    }
    let (records, troubles) = apply::records(&folder);
    if !troubles.is_empty() && records.is_empty() && words.root.is_none() && process::uid() != 0 {
        return Err(Failure::machine(anyhow!("records of applies are root's")).hint("`sudo apm tune rollback`"));
    }
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
    let held = Held::new();
    // Later ones first: each restores what it found.
    for record in open[from..].iter_mut().rev() {
        let skipped = elsewhere(record)?;
        // What an interrupted apply left is half of something.
        let is_whole = record.state == State::Applied;
        let changed = if is_whole { record.changed_since() } else { Vec::new() };
        if !changed.is_empty() && !words.force {
            let failure = Failure::machine(anyhow!(
                "{} is not rolled back: somebody changed since then: {}; nothing was restored",
                record.id,
                list(&changed)
            ));
            return Err(failure.hint(format!("`apm tune rollback {} --force` overwrites that too", record.id)));
        }
        let left = store.roll_back(record);
        if !left.is_empty() {
            return Err(Failure::machine(anyhow!("{} is not rolled back: {}", record.id, list(&left)))
                .hint("what could be restored is restored; the same command tries the rest again"));
        }
        let values = count(record.values.len() as u64, "live value");
        let files = count(record.files.len() as u64, "file");
        context.ui.say(&format!("rolled back {}: {values} and {files} are as before{skipped}\n", record.id));
        context.ui.say(&later(record));
    }
    drop(held);
    Ok(Exit::Good)
}

/// Values of another network namespace cannot be restored from here. Where it is gone, they are gone with it, and what is
/// said of that comes back.
fn elsewhere(record: &mut Record) -> Result<String, Failure> {
    let Some(there) = record.network.clone().filter(|there| Some(there) != network().as_ref()) else {
        return Ok(String::new());
    };
    if let Some(pid) = somebody_in(&there) {
        let what = anyhow!("{} was applied in another network namespace, {there}; nothing was restored", record.id);
        let hint = format!("`nsenter --target {pid} --net apm tune rollback {}`", record.id);
        return Err(Failure::machine(what).hint(hint));
    }
    let all = record.values.len();
    record.values.retain(|value| !value.key.starts_with("net."));
    Ok(format!("; {} went with their network namespace", count((all - record.values.len()) as u64, "value")))
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
        return context.print(text.as_bytes());
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
    context.print(text.as_bytes())
}
