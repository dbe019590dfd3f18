//! Reads pprof's format: strict in what a message is made of, bounded, and it says what it did not take over.

use std::cell::Cell;
use std::collections::HashMap;

use crate::model::profile::{Builder, Frame, Kind, Module, Origin, Profile, Thread, Unit};
use crate::report::profile::delta;
use crate::report::profile::pprof::packed::{PprofError, gunzip};
use crate::report::profile::pprof::protobuf::{Fields, Flaw, Value, numbers};
use crate::report::profile::pprof::write::LINES_MAX;
use crate::report::profile::tree::file_name;

/// Frames of all samples together that are read.
const FRAMES_MAX: usize = 50_000_000;
/// Bytes of texts that are copied, of all and for each byte of the file: everything in it may name its longest text.
const TEXTS_MAX: usize = 1 << 30;
const TEXTS_EACH: usize = 256;
/// What a small file may copy.
const TEXTS_LEAST: usize = 1 << 20;

/// Messages of a file, still packed.
#[derive(Default)]
struct Parts<'a> {
    types: Vec<&'a [u8]>,
    mappings: Vec<&'a [u8]>,
    /// All of it, for samples, locations and functions, of which there may be millions.
    all: &'a [u8],
    strings: Vec<&'a str>,
    comments: Vec<u64>,
    time_ns: u64,
    duration_ns: u64,
    period_type: &'a [u8],
    period: u64,
    default_type: u64,
    /// Bytes of texts that may still be copied.
    texts_left: Cell<usize>,
}

/// Numbers of a message by field, its bytes dropped; the last one counts.
fn fields<const N: usize>(bytes: &[u8]) -> Result<[u64; N], Flaw> {
    let mut all = [0; N];
    for field in Fields(bytes) {
        let (field, value) = field?;
        if let (Some(slot), Value::Number(number)) = (all.get_mut(field as usize), value) {
            *slot = number;
        }
    }
    Ok(all)
}

impl<'a> Parts<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, PprofError> {
        let texts = bytes.len().saturating_mul(TEXTS_EACH).clamp(TEXTS_LEAST, TEXTS_MAX);
        let mut parts = Self { all: bytes, texts_left: Cell::new(texts), ..Self::default() };
        for field in Fields(bytes) {
            let (field, value) = field?;
            match (field, value) {
                (1, Value::Bytes(bytes)) => parts.types.push(bytes),
                (2 | 4 | 5, Value::Bytes(_)) => {}
                (3, Value::Bytes(bytes)) => parts.mappings.push(bytes),
                (6, Value::Bytes(bytes)) => {
                    let text = std::str::from_utf8(bytes);
                    parts.strings.push(text.map_err(|_| PprofError::Meaning("a text is not UTF-8".to_owned()))?);
                }
                (9, Value::Number(number)) => parts.time_ns = number,
                (10, Value::Number(number)) => parts.duration_ns = number,
                (11, Value::Bytes(bytes)) => parts.period_type = bytes,
                (12, Value::Number(number)) => parts.period = number,
                (13, value) => numbers(field, value, &mut parts.comments)?,
                (14, Value::Number(number)) => parts.default_type = number,
                (1..=6 | 9..=12 | 14, _) => return Err(Flaw::Field(field).into()),
                _ => {}
            }
        }
        match parts.strings.first() {
            Some(&"") => Ok(parts),
            _ => Err(PprofError::Meaning("it has no table of texts".to_owned())),
        }
    }

    /// The messages of a field.
    fn each(&self, of: u32) -> impl Iterator<Item = &'a [u8]> {
        Fields(self.all).filter_map(move |field| match field {
            Ok((field, Value::Bytes(bytes))) if field == of => Some(bytes),
            _ => None,
        })
    }

    fn text(&self, index: u64) -> Result<&'a str, PprofError> {
        let text = usize::try_from(index).ok().and_then(|index| self.strings.get(index));
        text.copied().ok_or_else(|| PprofError::Meaning(format!("text {index} is not there")))
    }
}

impl Parts<'_> {
    /// A copy of a text.
    fn owned(&self, index: u64) -> Result<String, PprofError> {
        self.copy(self.text(index)?)
    }

    fn copy(&self, text: &str) -> Result<String, PprofError> {
        let left = self.texts_left.get().checked_sub(text.len());
        self.texts_left.set(left.ok_or_else(|| PprofError::Meaning("it repeats long texts too often".to_owned()))?);
        Ok(text.to_owned())
    }
}

/// A unit of pprof as one of ours, and what its values are multiplied with.
fn unit_of(word: &str) -> (Unit, u64) {
    match word {
        "nanoseconds" | "nanosecond" | "ns" => (Unit::Nanoseconds, 1),
        "microseconds" | "microsecond" | "us" => (Unit::Nanoseconds, 1_000),
        "milliseconds" | "millisecond" | "ms" => (Unit::Nanoseconds, 1_000_000),
        "seconds" | "second" | "s" => (Unit::Nanoseconds, 1_000_000_000),
        "bytes" | "byte" => (Unit::Bytes, 1),
        "kilobytes" | "kilobyte" | "kb" => (Unit::Bytes, 1 << 10),
        "megabytes" | "megabyte" | "mb" => (Unit::Bytes, 1 << 20),
        _ => (Unit::Count, 1),
    }
}

/// What was not taken over.
#[derive(Default)]
struct Dropped {
    labels: std::collections::BTreeSet<String>,
}

/// Whether bytes begin as a message of this format: with a field that it has.
pub(crate) fn may_be(bytes: &[u8]) -> bool {
    // The key is the number of the field and, in its low three bits, 2 for bytes or 0 for a number.
    bytes.first().is_some_and(|key| matches!((key >> 3, key & 7), (1..=6 | 11 | 13, 2) | (7..=10 | 12..=14, 0)))
}

/// A profile of the bytes of a file, packed or not.
pub(crate) fn read(bytes: &[u8]) -> Result<Profile, PprofError> {
    let unpacked;
    let bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
        unpacked = gunzip(bytes)?;
        &unpacked
    } else {
        bytes
    };
    let parts = Parts::of(bytes)?;
    let mut kinds = Vec::new();
    let mut scales = Vec::new();
    for bytes in &parts.types {
        let [_, name, unit] = fields(bytes)?;
        let (unit, scale) = unit_of(parts.text(unit)?);
        kinds.push(Kind { name: parts.owned(name)?, unit });
        scales.push(scale);
    }
    if kinds.is_empty() {
        return Err(PprofError::Meaning("it says not what its values are".to_owned()));
    }
    let mut builder = delta::builder(&kinds);
    let modules = read_mappings(&parts, &mut builder)?;
    let functions = read_functions(&parts)?;
    let locations = read_locations(&parts, &modules, &functions, &mut builder)?;
    drop(functions);
    let mut dropped = Dropped::default();
    read_samples(&parts, &scales, &locations, &mut builder, &mut dropped)?;
    let mut profile = delta::close(builder);
    profile.duration_ns = parts.duration_ns;
    profile.quality.is_foreign = true;
    if let Ok(at) = jiff::Timestamp::from_nanosecond(i128::from(parts.time_ns))
        && parts.time_ns > 0
    {
        profile.at = at.to_string();
    }
    // Go calls it `space`, and so do we with a word before it.
    let [_, name, unit] = fields(parts.period_type)?;
    if parts.text(name)?.ends_with("space") && parts.text(unit)? == "bytes" {
        profile.quality.heap_mean_bytes = parts.period;
    }
    for comment in &parts.comments {
        profile.quality.notes.push(parts.owned(*comment)?);
    }
    if !dropped.labels.is_empty() {
        let labels: Vec<String> = dropped.labels.into_iter().take(5).collect();
        profile.quality.notes.push(format!("labels that were not read: {}", labels.join(", ")));
    }
    // Without a default, `go tool pprof` shows the last.
    let default = match (parts.default_type, kinds.last()) {
        (0, Some(last)) => last.name.clone(),
        (text, _) => parts.text(text)?.to_owned(),
    };
    delta::put_first(&mut profile, &default);
    Ok(profile)
}

fn read_mappings(parts: &Parts<'_>, builder: &mut Builder) -> Result<HashMap<u64, u32>, PprofError> {
    let mut all = HashMap::new();
    for bytes in &parts.mappings {
        let [_, id, _, _, _, path, build_id] = fields(bytes)?;
        let module = Module { path: parts.owned(path)?, build_id: parts.owned(build_id)? };
        all.insert(id, builder.profile.modules.len() as u32);
        builder.profile.modules.push(module);
    }
    Ok(all)
}

/// What messages of a file call each other by.
#[derive(Default)]
struct Ids {
    /// How many are numbered from 1 on, as nearly all writers do.
    counted: u64,
    others: HashMap<u64, u32>,
}

impl Ids {
    /// The next one's.
    fn add(&mut self, id: u64, at: usize) {
        if id == self.counted + 1 && at as u64 == self.counted {
            self.counted = id;
        } else {
            self.others.insert(id, at as u32);
        }
    }

    fn get(&self, id: u64) -> Option<usize> {
        match self.others.get(&id) {
            _ if self.others.is_empty() && (1..=self.counted).contains(&id) => Some(id as usize - 1),
            Some(at) => Some(*at as usize),
            None => (1..=self.counted).contains(&id).then(|| id as usize - 1),
        }
    }
}

/// Functions by id: name and file.
#[derive(Default)]
struct Functions {
    ids: Ids,
    all: Vec<(u32, u32)>,
}

/// Frames of locations by id, the innermost first.
#[derive(Default)]
struct Locations {
    ids: Ids,
    ends: Vec<u32>,
    frames: Vec<u32>,
}

impl Locations {
    fn get(&self, id: u64) -> Option<&[u32]> {
        let at = self.ids.get(id)?;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        self.frames.get(start..*self.ends.get(at)? as usize)
    }
}

fn read_functions(parts: &Parts<'_>) -> Result<Functions, PprofError> {
    let mut functions = Functions::default();
    for bytes in parts.each(5) {
        let [_, id, name, system_name, file] = fields(bytes)?;
        let name = if name == 0 { system_name } else { name };
        for text in [name, file] {
            parts.text(text)?;
        }
        functions.ids.add(id, functions.all.len());
        // There are as many texts as fit into memory.
        functions.all.push((name as u32, file as u32));
    }
    Ok(functions)
}

fn read_locations(
    parts: &Parts<'_>,
    modules: &HashMap<u64, u32>,
    functions: &Functions,
    builder: &mut Builder,
) -> Result<Locations, PprofError> {
    let mut all = Locations::default();
    let mut lines = Vec::new();
    for bytes in parts.each(4) {
        let [_, id, mapping, address] = fields(bytes)?;
        let module = modules.get(&mapping).copied();
        let path = module.map_or("", |module| builder.profile.modules[module as usize].path.as_str());
        let origin = origin_of(path, module.is_some());
        let nameless = match file_name(path) {
            "" => "[unknown]".to_owned(),
            name if name.starts_with('[') => name.to_owned(),
            name => format!("[{name}]"),
        };
        lines.clear();
        for field in Fields(bytes) {
            if let (4, Value::Bytes(line)) = field? {
                lines.push(fields::<3>(line)?);
            }
        }
        let address = (address > 0).then_some(address);
        let frame = Frame { name: &nameless, module, address, origin, ..Frame::default() };
        for (at, [_, function, line]) in lines.iter().take(LINES_MAX).enumerate() {
            let (name, file) = functions
                .ids
                .get(*function)
                .and_then(|at| functions.all.get(at))
                .ok_or_else(|| PprofError::Meaning(format!("function {function} is not there")))?;
            let (name, file) = (parts.text(u64::from(*name))?, parts.text(u64::from(*file))?);
            let line = u32::try_from(*line).ok().filter(|line| *line > 0);
            let name = if name.is_empty() { &nameless } else { name };
            let file = Some(file).filter(|file| !file.is_empty());
            all.frames.push(builder.frame(Frame { name, file, line, is_inlined: at + 1 < lines.len(), ..frame }));
        }
        if lines.is_empty() {
            all.frames.push(builder.frame(frame));
        }
        all.ids.add(id, all.ends.len());
        all.ends.push(all.frames.len() as u32);
    }
    Ok(all)
}

fn origin_of(path: &str, has_module: bool) -> Origin {
    match file_name(path) {
        name if name.starts_with("[kernel") || name.ends_with(".ko") => Origin::Kernel,
        name if name.starts_with("perf-") && name.ends_with(".map") => Origin::Jit,
        _ if has_module => Origin::Native,
        _ => Origin::Unknown,
    }
}

fn read_samples(
    parts: &Parts<'_>,
    scales: &[u64],
    locations: &Locations,
    builder: &mut Builder,
    dropped: &mut Dropped,
) -> Result<(), PprofError> {
    let mut threads: HashMap<Thread, u32> = HashMap::new();
    let mut left = FRAMES_MAX;
    let (mut stack, mut values, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for bytes in parts.each(2) {
        stack.clear();
        values.clear();
        labels.clear();
        for field in Fields(bytes) {
            match field? {
                (1, value) => numbers(1, value, &mut stack)?,
                (2, value) => numbers(2, value, &mut values)?,
                (3, Value::Bytes(bytes)) => labels.push(fields::<4>(bytes)?),
                _ => {}
            }
        }
        if values.len() != scales.len() {
            return Err(PprofError::Meaning(format!("a sample has {} values of {}", values.len(), scales.len())));
        }
        let mut node = None;
        for location in stack.iter().rev() {
            let frames = locations
                .get(*location)
                .ok_or_else(|| PprofError::Meaning(format!("location {location} is not there")))?;
            for frame in frames.iter().rev() {
                left = left.checked_sub(1).ok_or_else(|| PprofError::Meaning("it has too many frames".to_owned()))?;
                node = Some(builder.node(node, *frame));
            }
        }
        let node = match node {
            Some(node) => node,
            None => {
                let frame = builder.frame(Frame { name: "[no stack]", origin: Origin::Unknown, ..Frame::default() });
                builder.node(None, frame)
            }
        };
        let thread = read_labels(parts, &labels, dropped)?.map(|thread| {
            let next = threads.len() as u32;
            *threads.entry(thread).or_insert_with_key(|thread| {
                builder.profile.threads.push(thread.clone());
                next
            })
        });
        for (kind, (value, scale)) in values.iter().zip(scales).enumerate() {
            let value = i128::from(*value as i64) * i128::from(*scale);
            delta::add(builder, [kind, scales.len()], node, thread, value);
        }
    }
    Ok(())
}

fn read_labels(parts: &Parts<'_>, labels: &[[u64; 4]], dropped: &mut Dropped) -> Result<Option<Thread>, PprofError> {
    let mut thread = Thread::default();
    let mut is_known = false;
    for [_, key, text, number] in labels {
        let (key, text) = (parts.text(*key)?, parts.text(*text)?);
        let number = u32::try_from(*number).unwrap_or(0);
        match key {
            "thread" => thread.name = parts.copy(text)?,
            "process" => thread.process = parts.copy(text)?,
            "task" => thread.task = Some(parts.copy(text)?),
            "pid" => thread.pid = number,
            "tid" | "thread_id" => thread.tid = number,
            key => {
                dropped.labels.insert(key.to_owned());
                continue;
            }
        }
        is_known = true;
    }
    Ok(is_known.then_some(thread))
}
