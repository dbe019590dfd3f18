//! The record of an apply: all that is needed to take it back, as data. It is read by root and says what root writes, so
//! only one is believed that `apply` could have written: its files are those of apm, its values those of the catalogue.
//!
//! No record is signed: whoever could put a record into the folder of root could read a key that lies beside it. What
//! counts is who owns the file and its folder (`apply` asks that), and that what it says leads nowhere else (asked here).

use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::setting::Place;
use crate::probe::tunables::{self, one_line};
use crate::tune::catalogue::{COUNTERPARTS, rows};
use crate::tune::dropin::FILES;
use crate::tune::root::Root;

const SCHEMA: &str = "apm.tune.record/1";
/// Applies within the same second that have a number of their own.
const SAME_SECOND_MAX: u32 = 1000;

/// What became of an apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// It runs, or was killed.
    Begun,
    Applied,
    /// Everything is as it was before.
    RolledBack,
}

/// An apply, with all that is needed to take it back. Paths are those of the machine itself, whatever folder its files
/// are below.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) schema: String,
    pub(crate) id: String,
    /// When it began, RFC 3339.
    pub(crate) at: String,
    pub(crate) state: State,
    pub(crate) files: Vec<SavedFile>,
    /// Folders that were made for them, the outermost first.
    pub(crate) folders: Vec<PathBuf>,
    pub(crate) values: Vec<SavedValue>,
    /// Network namespace in which it was, `net:[4026531840]`; absent where it is of no matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<String>,
}

/// A file that is written, or removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedFile {
    pub(crate) path: PathBuf,
    /// Absent: there was none.
    pub(crate) before: Option<String>,
    /// Permissions it had.
    pub(crate) mode: u32,
    /// Absent: it is removed.
    pub(crate) after: Option<String>,
}

/// A live value that is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedValue {
    pub(crate) key: String,
    pub(crate) path: PathBuf,
    pub(crate) before: String,
    pub(crate) after: String,
    /// The setting that the kernel zeroes when this one is written, and its value.
    #[serde(default, alias = "twin", skip_serializing_if = "Option::is_none")]
    pub(crate) counterpart: Option<(PathBuf, String)>,
}

impl Record {
    /// One that nothing was done for yet.
    pub(crate) fn new(root: &Root, id: String, at: String, files: Vec<SavedFile>, values: Vec<SavedValue>) -> Self {
        let written = files.iter().filter(|file| file.after.is_some());
        let mut folders: Vec<PathBuf> = written.flat_map(|file| root.missing_way(&file.path)).collect();
        folders.sort();
        folders.dedup();
        let (schema, state) = (SCHEMA.to_owned(), State::Begun);
        Self { schema, id, at, state, files, folders, values, network: None }
    }

    /// Reads one from the file of this name; or says why it is none that apm wrote.
    pub(crate) fn parse(name: &str, text: &[u8]) -> Result<Self, String> {
        let record: Self = serde_json::from_slice(text).map_err(|error| format!("no record: {error}"))?;
        if record.schema != SCHEMA {
            return Err(format!("its schema is `{}`, this apm knows {SCHEMA}", record.schema.escape_debug()));
        }
        let not_ours = |what: &str, it: &dyn std::fmt::Display| {
            Err(format!(
                "no record of `apm tune apply`: its {what} `{}` is none that it writes",
                it.to_string().escape_debug()
            ))
        };
        if !is_id(&record.id) || name.strip_suffix(".json") != Some(record.id.as_str()) {
            return not_ours("id", &record.id);
        }
        if record.at.parse::<Timestamp>().is_err() {
            return not_ours("time", &record.at);
        }
        if let Some(network) = record.network.as_ref().filter(|it| !is_namespace(it)) {
            return not_ours("network namespace", network);
        }
        if let Some(file) = record.files.iter().find(|file| !is_file_of_apm(&file.path)) {
            return not_ours("file", &file.path.display());
        }
        if let Some(file) = record.files.iter().find(|file| file.mode & !0o755 != 0) {
            return not_ours("mode", &format!("{:04o}", file.mode));
        }
        if let Some(folder) = record.folders.iter().find(|folder| !is_folder_of_apm(folder)) {
            return not_ours("folder", &folder.display());
        }
        for value in &record.values {
            if !is_path_of(&value.key, &value.path) {
                return not_ours("setting", &format!("{}: {}", value.key, value.path.display()));
            }
            let counterpart = counterpart_of(&value.key);
            if value.counterpart.as_ref().map(|(path, _)| path) != counterpart.as_ref() {
                return not_ours("counterpart of", &value.key);
            }
            let texts = [&value.before, &value.after].into_iter().chain(value.counterpart.iter().map(|(_, text)| text));
            if let Some(text) = texts.into_iter().find(|text| one_line(text) != **text) {
                return not_ours("value", text);
            }
        }
        Ok(record)
    }
}

/// An id, from the time: `20261129-024200`, or `20261129-024200-2` where there is one already.
pub(crate) fn id(at: &Timestamp, is_free: impl Fn(&str) -> bool) -> Option<String> {
    let first = at.strftime("%Y%m%d-%H%M%S").to_string();
    let others = (2..SAME_SECOND_MAX).map(|number| format!("{first}-{number}"));
    std::iter::once(first.clone()).chain(others).find(|id| is_free(id))
}

fn is_id(id: &str) -> bool {
    let is_number = |text: &str, length: usize| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = id.split('-');
    parts.next().is_some_and(|date| is_number(date, 8))
        && parts.next().is_some_and(|time| is_number(time, 6))
        && parts.next().is_none_or(|more| (1..=3).contains(&more.len()) && is_number(more, more.len()))
        && parts.next().is_none()
}

fn is_namespace(name: &str) -> bool {
    let number = name.strip_prefix("net:[").and_then(|rest| rest.strip_suffix(']'));
    number.is_some_and(|number| number.parse::<u64>().is_ok())
}

fn is_file_of_apm(path: &Path) -> bool {
    FILES.iter().any(|(_, name)| path.as_os_str() == Path::new("/etc").join(name).as_os_str())
}

/// A folder that leads to one of the files.
fn is_folder_of_apm(folder: &Path) -> bool {
    let files = FILES.iter().map(|(_, name)| Path::new("/etc").join(name));
    let mut folders = files.flat_map(|file| file.ancestors().skip(1).map(Path::to_owned).collect::<Vec<_>>());
    folder != Path::new("/") && folders.any(|it| it.as_os_str() == folder.as_os_str())
}

/// Whether a setting of the catalogue is in this file: for all CPUs it has one each.
fn is_path_of(key: &str, path: &Path) -> bool {
    let is_known = rows().any(|row| {
        matches!(row.place, Place::Sysctl | Place::Sys)
            && match row.key.split_once('*') {
                Some((start, end)) => key
                    .strip_prefix(start)
                    .and_then(|rest| rest.strip_suffix(end))
                    .is_some_and(|name| Path::new(name).components().eq([Component::Normal(name.as_ref())])),
                None => row.key == key,
            }
    });
    let Some(file) = tunables::file_of(key).filter(|_| is_known) else { return false };
    path.to_str().is_some_and(|path| path == file || of_first_cpu(path).as_deref() == Some(&file))
}

/// The same file of the first CPU.
fn of_first_cpu(path: &str) -> Option<String> {
    let (before, rest) = path.split_once("/cpu/cpu")?;
    let (number, after) = rest.split_once('/')?;
    number.parse::<u16>().ok().filter(|it| it.to_string() == number)?;
    Some(format!("{before}/cpu/cpu0/{after}"))
}

/// The file of the setting that the kernel zeroes when this one is written.
pub(crate) fn counterpart_of(key: &str) -> Option<PathBuf> {
    let (_, counterpart) = COUNTERPARTS.iter().find(|(one, _)| *one == key)?;
    tunables::file_of(counterpart).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Record;

    fn good() -> Value {
        json!({
            "schema": "apm.tune.record/1", "id": "20261129-024200", "at": "2026-11-29T02:42:00Z", "state": "begun",
            "network": "net:[4026531840]",
            "files": [{ "path": "/etc/sysctl.d/60-apm.conf", "before": null, "mode": 0o644, "after": "x" }],
            "folders": ["/etc", "/etc/sysctl.d"],
            "values": [
                { "key": "vm.max_map_count", "path": "/proc/sys/vm/max_map_count", "before": "65530", "after": "262144" },
                { "key": "sys.cpu.governor", "path": "/sys/devices/system/cpu/cpu12/cpufreq/scaling_governor",
                  "before": "powersave", "after": "performance" },
                { "key": "sys.block.sda.scheduler", "path": "/sys/block/sda/queue/scheduler", "before": "x", "after": "y" },
                { "key": "vm.dirty_bytes", "path": "/proc/sys/vm/dirty_bytes", "before": "0", "after": "1",
                  "counterpart": ["/proc/sys/vm/dirty_ratio", "20"] },
            ],
        })
    }

    #[test]
    fn only_what_apply_writes_is_a_record() {
        let parse = |json: &Value| Record::parse("20261129-024200.json", json.to_string().as_bytes());
        parse(&good()).expect("one that apply writes");
        for (pointer, value) in [
            ("/id", json!("../../x")),
            ("/id", json!("20261129-024201")),
            ("/id", json!("20261129-024200-2/x")),
            ("/at", json!("\u{1b}[2J")),
            ("/network", json!("net:[1]; rm")),
            ("/files/0/path", json!("/etc/cron.d/x")),
            ("/files/0/path", json!("etc/sysctl.d/60-apm.conf")),
            ("/files/0/path", json!("../etc/sysctl.d/60-apm.conf")),
            ("/files/0/path", json!("/etc/../etc/sysctl.d/60-apm.conf")),
            ("/files/0/path", json!("/etc//sysctl.d/60-apm.conf")),
            ("/files/0/path", json!("/etc/sysctl.d")),
            ("/files/0/mode", json!(0o4755)),
            ("/files/0/mode", json!(0o664)),
            ("/files/0/mode", json!(0o100_644)),
            ("/folders/0", json!("/")),
            ("/folders/0", json!("/home")),
            ("/folders/0", json!("/etc/..")),
            ("/folders/0", json!("/etc/sysctl.d/60-apm.conf")),
            ("/values/0/path", json!("/proc/sys/kernel/core_pattern")),
            ("/values/0/path", json!("/proc/sys/vm/../vm/max_map_count")),
            ("/values/0/path", json!("/etc/passwd")),
            ("/values/0/key", json!("kernel.core_pattern")),
            ("/values/0/before", json!("1\n2")),
            ("/values/0/counterpart", json!(["/etc/passwd", "20"])),
            ("/values/1/path", json!("/sys/devices/system/cpu/cpu../cpufreq/scaling_governor")),
            ("/values/1/path", json!("/sys/devices/system/cpu/cpu012/cpufreq/scaling_governor")),
            ("/values/2/key", json!("sys.block.../x.scheduler")),
            ("/values/2/key", json!("sys.block.sdb.scheduler")),
            ("/values/3/counterpart/0", json!("/etc/passwd")),
            ("/values/3/counterpart", json!(null)),
        ] {
            let mut bad = good();
            match bad.pointer_mut(pointer) {
                Some(place) => *place = value.clone(),
                None => bad["values"][0]["counterpart"] = value.clone(),
            }
            let error = parse(&bad).expect_err(pointer);
            assert!(error.contains("is none that it writes"), "{pointer} {value}: {error}");
        }
        let mut both = good();
        for (key, path) in [
            ("sys.block....scheduler", "/sys/block/../queue/scheduler"),
            ("kernel.core_pattern", "/proc/sys/kernel/core_pattern"),
        ] {
            both["values"][2]["key"] = json!(key);
            both["values"][2]["path"] = json!(path);
            parse(&both).expect_err(path);
        }
        Record::parse("other.json", good().to_string().as_bytes()).expect_err("of another name");
    }
}
