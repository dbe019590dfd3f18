//! `apm tune diff`, `apply`, `rollback`, `history`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use serde_json::json;
use similar::TextDiff;

use super::file::{self, Planfile, files, refused};
use super::looked::{self, Looked, planned};
use crate::cli::run::ListFormat;
use crate::cli::tune::{Apply, History, Planned, Rollback};
use crate::command::context::Context;
use crate::command::failure::{Exit, Failure};
use crate::model::setting::Place;
use crate::sys::process;
use crate::sys::signal::Held;
use crate::text::number::count;
use crate::text::{escape, transcript};
use crate::tune::apply::{self, STORE, Store, Trouble};
use crate::tune::record::{self, Record, SavedFile, SavedValue, State};
use crate::tune::root::Root;
use crate::tune::value::is_same;

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
                    json!({ "path": file.shown.display().to_string(), "current": file.now, "proposed": file.wanted })
                })
                .collect();
            escape::json(&format!("{:#}\n", json!({ "schema": "apm.tune.diff/1", "live": live, "files": files })))
        }
    };
    context.print(if text.is_empty() { "nothing to change\n" } else { &text })
}

fn is_live(place: Place) -> bool {
    matches!(place, Place::Sysctl | Place::Sys)
}

/// A unified diff of the files, then the live values.
fn changes(looked: &Looked) -> Result<String, Failure> {
    let mut text: String =
        files(looked)?.iter().map(|file| diff_of(&file.shown, file.now.as_deref(), file.wanted.as_deref())).collect();
    let changed = looked.settings.iter().filter(|setting| is_live(setting.place) && setting.is_change());
    text += &live(
        changed.map(|setting| {
            let now = setting.current.as_deref().unwrap_or("-");
            (setting.key.as_str(), now, setting.proposed.as_deref().unwrap_or_default())
        }),
        text.is_empty(),
    );
    Ok(text)
}

fn diff_of(path: &Path, before: Option<&str>, after: Option<&str>) -> String {
    let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
    if before == after {
        return String::new();
    }
    let name = path.display().to_string();
    let old = if before.is_empty() { "/dev/null" } else { &name };
    let new = if after.is_empty() { "/dev/null" } else { &name };
    let diff = TextDiff::from_lines(before, after).unified_diff().context_radius(3).header(old, new).to_string();
    // Files of another machine may hold anything; a carriage return would hide what is before it.
    transcript::clean(diff.replace('\r', "^M").as_bytes())
}

/// Live values: key, now, then.
fn live<'a>(changed: impl Iterator<Item = (&'a str, &'a str, &'a str)>, is_first: bool) -> String {
    let mut text = String::new();
    for (key, now, then) in changed {
        if text.is_empty() {
            text += if is_first { "live:\n" } else { "\nlive:\n" };
        }
        let _ = writeln!(text, "  {key}: {} -> {}", transcript::line(now), transcript::line(then));
    }
    text
}

pub(super) fn apply(context: &Context, words: &Apply) -> Result<Exit, Failure> {
    let looked = planned(context, &words.sources, None)?;
    let root = &looked.root;
    let is_root = process::uid() == 0 || words.sources.root.is_some();
    // Others see the plan; the records are root's.
    let (records, troubles) = if is_root && !words.dry_run { read(root)? } else { Default::default() };
    troubles.iter().for_each(|trouble| warn(context, trouble));
    if let Some(begun) = records.iter().find(|record| record.state == State::Begun) {
        return Err(Failure::machine(anyhow!("the apply {} was interrupted, part of it may be in effect", begun.id))
            .hint(format!("first `apm tune rollback {}`", begun.id)));
    }
    let shown = changes(&looked)?;
    if shown.is_empty() {
        return context.print("nothing to change: all is as planned\n");
    }
    context.print(&shown)?;
    if words.dry_run {
        return Ok(Exit::Good);
    }
    if !is_root {
        let failure = Failure::machine(anyhow!("settings of the machine are set by root"));
        return Err(failure.hint("`sudo apm tune apply`, or `apm tune write --dir DIR` for the files alone"));
    }
    file::judge(root)?;
    let store = open(root)?;
    let mut record = record(&looked, &store)?;
    if words.sources.root.is_none() && record.values.iter().any(|value| value.key.starts_with("net.")) {
        record.network = network();
    }
    let what =
        format!("{} and {}", count(record.values.len() as u64, "live value"), count(record.files.len() as u64, "file"));
    if !words.yes
        && !agreed(context, &format!("apply {what}?"), "`--yes` applies without asking, `--dry-run` only shows")?
    {
        return Ok(Exit::Nothing);
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

/// Asks before anything is changed.
fn agreed(context: &Context, question: &str, hint: &str) -> Result<bool, Failure> {
    let Some(is_agreed) = context.ui.ask(question) else {
        return Err(Failure::usage(anyhow!("there is no terminal to ask on; nothing was changed")).hint(hint));
    };
    if !is_agreed {
        context.ui.say("apm: nothing was changed\n");
    }
    Ok(is_agreed)
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

fn open(root: &Root) -> Result<Store<'_>, Failure> {
    let shown = root.shown(Path::new(STORE));
    Store::open(root).with_context(|| format!("open `{}`", shown.display())).map_err(|error| {
        Failure::machine(error).hint("records of what was before are kept there; nothing is changed without them")
    })
}

fn warn(context: &Context, trouble: &Trouble) {
    let (what, why) = (transcript::line(&trouble.what), transcript::line(&trouble.why));
    context.ui.say(&format!("apm: warning: {what}: {why}\n"));
}

/// The records of a machine, and files that are none. Where others could have put them there, there are none to go by.
fn read(root: &Root) -> Result<(Vec<Record>, Vec<Trouble>), Failure> {
    let read = apply::records(root).map_err(|error| {
        let is_refused = error.raw_os_error().is_some() && error.kind() == std::io::ErrorKind::PermissionDenied;
        let shown = root.shown(Path::new(STORE)).display().to_string();
        let failure = Failure::machine(anyhow::Error::new(error).context(format!("read `{shown}`")));
        failure.hint(if is_refused {
            "records of applies are root's: `sudo` reads them"
        } else {
            "others could have put records there, which say what is written: none of them is used"
        })
    })?;
    if read.0.is_empty() && !read.1.is_empty() && root.is_here() && process::uid() != 0 {
        return Err(Failure::machine(anyhow!("records of applies are root's")).hint("`sudo apm tune` reads them"));
    }
    Ok(read)
}

/// What is to be changed, with what is there now.
fn record(looked: &Looked, store: &Store) -> Result<Record, Failure> {
    let mut saved = Vec::new();
    let root = &looked.root;
    for Planfile { path, shown, now, wanted } in files(looked)? {
        if now != wanted {
            let file = SavedFile::of(root, path, wanted);
            saved.push(file.with_context(|| format!("read `{}`", shown.display())).map_err(Failure::machine)?);
        }
    }
    let mut values = Vec::new();
    for setting in looked.settings.iter().filter(|setting| is_live(setting.place) && setting.is_change()) {
        let (Some(path), Some(after)) = (&setting.path, &setting.proposed) else { continue };
        for path in all_cpus(root, Path::new(path)) {
            let read = |path: &Path| {
                let read = root.value(path).with_context(|| format!("read `{}`", root.shown(path).display()));
                read.map_err(Failure::machine)
            };
            // The kernel says itself what may not be written; in the files of another machine a link does.
            if !root.is_here() {
                root.value_to_write(&path).map_err(|error| refused(root, &path, error))?;
            }
            let counterpart = record::counterpart_of(&setting.key);
            let counterpart = counterpart.map(|path| Ok::<_, Failure>((path.clone(), read(&path)?))).transpose()?;
            values.push(SavedValue {
                key: setting.key.clone(),
                before: read(&path)?,
                path,
                after: after.clone(),
                counterpart,
            });
        }
    }
    let now = Timestamp::now();
    let id = record::id(&now, |id| store.is_free(id));
    let id = id.ok_or_else(|| Failure::machine(anyhow!("there were too many applies within this second")))?;
    Ok(Record::new(root, id, now.to_string(), saved, values))
}

/// The same file of each CPU, where it is of the first.
fn all_cpus(root: &Root, path: &Path) -> Vec<PathBuf> {
    let text = path.display().to_string();
    let Some((before, after)) = text.split_once("/cpu0/") else { return vec![path.to_owned()] };
    let file = |cpu: usize| PathBuf::from(format!("{before}/cpu{cpu}/{after}"));
    (0..CPUS_MAX).map(file).take_while(|path| root.has(path)).collect()
}

fn list(troubles: &[Trouble]) -> String {
    troubles.iter().map(|it| format!("{}: {}", it.what, transcript::line(&it.why))).collect::<Vec<_>>().join("; ")
}

/// What a rollback would change: a path has what the oldest of the records found there.
fn restored(root: &Root, records: &[Record]) -> String {
    let mut files: BTreeMap<&Path, Option<&str>> = BTreeMap::new();
    let mut values: BTreeMap<&Path, (&str, &str)> = BTreeMap::new();
    for record in records {
        for file in &record.files {
            files.entry(&file.path).or_insert(file.before.as_deref());
        }
        for value in &record.values {
            values.entry(&value.path).or_insert((&value.key, &value.before));
        }
    }
    let diff = |(path, before): (&&Path, &Option<&str>)| {
        let now = root.text(path).ok().flatten();
        diff_of(&root.shown(path), now.as_deref(), *before)
    };
    let text: String = files.iter().map(diff).collect();
    let now: Vec<_> = values
        .iter()
        .map(|(path, (key, before))| (*key, root.value(path).unwrap_or_else(|_| "-".to_owned()), *before))
        .collect();
    let changed = now.iter().filter(|(_, now, before)| !is_same(now, before));
    let live = live(changed.map(|(key, now, before)| (*key, now.as_str(), *before)), text.is_empty());
    text + &live
}

/// The applies that are to be taken back, the oldest first; and files that are no records.
fn unfinished(root: &Root, words: &Rollback) -> Result<(Vec<Record>, Vec<Trouble>), Failure> {
    let (mut open, troubles) = read(root)?;
    open.retain(|record| record.state != State::RolledBack);
    let from = match &words.id {
        None => open.len().saturating_sub(1),
        Some(id) => open.iter().position(|record| record.id == *id).ok_or_else(|| {
            Failure::usage(anyhow!("there is no apply `{}` that could be rolled back", transcript::line(id)))
                .hint("`apm tune history` lists them")
        })?,
    };
    if open.is_empty() {
        let why = troubles.iter().map(|it| format!("\n{}: {}", transcript::line(&it.what), transcript::line(&it.why)));
        let what = format!("nothing was applied that is not rolled back{}", why.collect::<String>());
        return Err(Failure::nothing(what).hint("`apm tune history` lists what was"));
    }
    Ok((open.split_off(from), troubles))
}

pub(super) fn rollback(context: &Context, words: &Rollback) -> Result<Exit, Failure> {
    let root = root_of(context, words.root.as_deref())?;
    let (mut open, troubles) = unfinished(&root, words)?;
    troubles.iter().for_each(|trouble| warn(context, trouble));
    let mut store = None;
    if !words.dry_run {
        file::judge(&root)?;
        store = Some(self::open(&root)?);
        // Another apm may have been at work until now.
        (open, _) = unfinished(&root, words)?;
    }
    let skipped = open.iter_mut().map(elsewhere).collect::<Result<Vec<String>, Failure>>()?;
    let ids: Vec<&str> = open.iter().map(|record| record.id.as_str()).collect();
    let (first, all) = (ids.first().copied().unwrap_or_default().to_owned(), ids.join(", "));
    let shown = restored(&root, &open);
    context.print(if shown.is_empty() { "nothing to restore: all is as it was\n" } else { &shown })?;
    let Some(store) = store else { return Ok(Exit::Good) };
    let hint = format!("`apm tune rollback {first} --yes` restores without asking, `--dry-run` only shows");
    if !words.yes && !agreed(context, &format!("roll back {all}?"), &hint)? {
        return Ok(Exit::Nothing);
    }
    let held = Held::new();
    // Later ones first: each restores what it found.
    for (record, skipped) in open.iter_mut().zip(skipped).rev() {
        // An apply that was interrupted left each of them as it was before or as it made it.
        let changed = record.changed_since(&root);
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

fn root_of(context: &Context, root: Option<&Path>) -> Result<Root, Failure> {
    looked::open(&root.map_or_else(|| "/".into(), |root| context.environment.cwd.join(root)))
}

pub(super) fn history(context: &Context, words: &History) -> Result<Exit, Failure> {
    let (records, troubles) = read(&root_of(context, words.root.as_deref())?)?;
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
        let text = escape::json(&format!("{:#}\n", json!({ "schema": "apm.tune.history/1", "applies": records })));
        return context.print(&text);
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
        let _ = writeln!(text, "{}: {}", transcript::line(&trouble.what), transcript::line(&trouble.why));
    }
    if text.is_empty() {
        return Err(Failure::nothing("nothing was applied yet").hint("`apm tune` shows what would be"));
    }
    context.print(&text)
}
