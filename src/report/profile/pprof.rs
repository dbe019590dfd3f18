//! The format of pprof: gzip'd protocol buffers, as `go tool pprof` and its many relatives read it.
//! Fields: <https://github.com/google/pprof/blob/main/proto/profile.proto>.
//!
//! Frames that were inlined share a location with the function they were put into, as lines of it. Functions have no
//! "system name": google/pprof takes such names for demangled already and leaves them whole; otherwise it cuts everything
//! between `<` and `>` out, which leaves `::fmt` of Rust's `<T as U>::fmt`.
//!
//! The reader takes what fits the model: thread and process labels, comments as notes. What it drops it says in a note.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{Read, Write};

use crate::model::profile::{Builder, Frame, Kind, Module, Origin, Profile, Thread, Unit};
use crate::report::profile::protobuf::{Fields, Flaw, Message, Value, numbers};
use crate::report::profile::quality;

/// Bytes that a packed file may have unpacked.
pub(crate) const UNPACKED_MAX: u64 = 512 << 20;
/// Frames of all samples together that are read.
const FRAMES_MAX: usize = 50_000_000;
/// Functions of one location.
const LINES_MAX: usize = 10_000;

/// Why bytes are no profile of this format.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PprofError {
    #[error("gzip: {0}")]
    Gzip(std::io::Error),
    #[error("more than {UNPACKED_MAX} bytes when unpacked")]
    Large,
    #[error("not a pprof file: {0}")]
    Message(#[from] FlawOf),
    #[error("not a pprof file: {0}")]
    Meaning(String),
}

/// What is wrong with the bytes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct FlawOf(Flaw);

impl From<Flaw> for PprofError {
    fn from(flaw: Flaw) -> Self {
        Self::Message(FlawOf(flaw))
    }
}

/// Packs bytes with gzip.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::with_capacity(bytes.len() / 3), flate2::Compression::new(4));
    // Memory takes everything; an error would leave an empty file, which no reader takes for a profile.
    writer.write_all(bytes).and_then(|()| writer.finish()).unwrap_or_default()
}

/// Unpacks gzip up to [`UNPACKED_MAX`].
pub(crate) fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, PprofError> {
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes).take(UNPACKED_MAX + 1).read_to_end(&mut out).map_err(PprofError::Gzip)?;
    if out.len() as u64 > UNPACKED_MAX { Err(PprofError::Large) } else { Ok(out) }
}

/// The bytes of a `.pb.gz` file.
pub(crate) fn write(profile: &Profile) -> Vec<u8> {
    gzip(&Writer::default().write(profile))
}

#[derive(Default)]
struct Writer<'a> {
    strings: HashMap<Cow<'a, str>, u64>,
    table: Vec<Cow<'a, str>>,
    functions: HashMap<(u64, u64), u64>,
    locations: HashMap<Vec<u32>, u64>,
    out: Message,
}

impl<'a> Writer<'a> {
    fn write(mut self, profile: &'a Profile) -> Vec<u8> {
        self.string("");
        for kind in &profile.kinds {
            let message = self.value_type(&kind.name, kind.unit);
            self.out.bytes(1, &message.0);
        }
        self.mappings(profile);
        let nodes = self.nodes(profile);
        for row in &profile.rows {
            self.sample(profile, row, &nodes);
        }
        if let Some(first) = profile.kinds.first() {
            let name = self.string(&first.name);
            self.out.number(14, name);
            let (period, unit) = match (first.unit, profile.quality.rate_asked) {
                (Unit::Nanoseconds, rate) if rate > 0 => (1_000_000_000 / rate, Unit::Nanoseconds),
                _ => (0, first.unit),
            };
            let message = self.value_type(&first.name, unit);
            self.out.bytes(11, &message.0);
            self.out.number(12, period);
        }
        let began = profile.at.parse::<jiff::Timestamp>().map(|at| at.as_nanosecond()).unwrap_or(0);
        self.out.number(9, u64::try_from(began).unwrap_or(0));
        self.out.number(10, profile.duration_ns);
        let title = (!profile.title.is_empty()).then(|| profile.title.clone());
        let comments: Vec<u64> =
            title.into_iter().chain(quality::sentences(profile)).map(|comment| self.string(comment)).collect();
        self.out.packed(13, comments.into_iter());
        for text in std::mem::take(&mut self.table) {
            self.out.bytes(6, text.as_bytes());
        }
        self.out.0
    }

    fn string(&mut self, text: impl Into<Cow<'a, str>>) -> u64 {
        let next = self.table.len() as u64;
        *self.strings.entry(text.into()).or_insert_with_key(|text| {
            self.table.push(text.clone());
            next
        })
    }

    fn value_type(&mut self, name: &'a str, unit: Unit) -> Message {
        let (name, unit) = (self.string(name), self.string(unit.word()));
        let mut message = Message::default();
        message.number(1, name);
        message.number(2, unit);
        message
    }

    fn mappings(&mut self, profile: &'a Profile) {
        let mut ends = vec![0u64; profile.modules.len()];
        for frame in &profile.frames {
            if let (Some(module), Some(address)) = (frame.module, frame.address)
                && let Some(end) = ends.get_mut(module as usize)
            {
                *end = (*end).max(address.saturating_add(1));
            }
        }
        for ((at, module), end) in profile.modules.iter().enumerate().zip(ends) {
            let (path, build_id) = (self.string(&*module.path), self.string(&*module.build_id));
            let mut message = Message::default();
            message.number(1, at as u64 + 1);
            // Addresses are in the file's own numbering: it begins at 0 and ends at the end of a page.
            message.number(3, end.checked_next_multiple_of(4096).unwrap_or(u64::MAX));
            message.number(5, path);
            message.number(6, build_id);
            // Names are here: no reader is to look for others.
            (7..=10).for_each(|has| message.number(has, 1));
            self.out.bytes(3, &message.0);
        }
    }

    /// For each node, its location and the node below the location's outermost function.
    fn nodes(&mut self, profile: &'a Profile) -> Vec<(u64, Option<u32>)> {
        let mut all = Vec::with_capacity(profile.nodes.len());
        for at in 0..profile.nodes.len() as u32 {
            let mut lines = Vec::new();
            let mut next = Some(at);
            while let Some(node) = next {
                let Some(found) = profile.nodes.get(node as usize) else { break };
                let caller = found.caller.filter(|caller| *caller < node);
                lines.push(found.frame);
                next = caller;
                let is_inlined = profile.frames.get(found.frame as usize).is_some_and(|frame| frame.is_inlined);
                if !is_inlined || lines.len() >= LINES_MAX {
                    break;
                }
            }
            let location = self.location(profile, lines);
            all.push((location, next));
        }
        all
    }

    fn location(&mut self, profile: &'a Profile, lines: Vec<u32>) -> u64 {
        if let Some(known) = self.locations.get(&lines) {
            return *known;
        }
        let id = self.locations.len() as u64 + 1;
        let mut message = Message::default();
        message.number(1, id);
        let frames = || lines.iter().filter_map(|frame| profile.frames.get(*frame as usize));
        // Of the function the others were put into.
        if let Some(frame) = frames().next_back() {
            message.number(2, frame.module.map_or(0, |module| u64::from(module) + 1));
        }
        message.number(3, frames().next().and_then(|frame| frame.address).unwrap_or(0));
        for frame in frames() {
            let mut line = Message::default();
            line.number(1, self.function(frame));
            line.number(2, frame.line.map_or(0, u64::from));
            message.bytes(4, &line.0);
        }
        self.out.bytes(4, &message.0);
        self.locations.insert(lines, id);
        id
    }

    fn function(&mut self, frame: &'a Frame) -> u64 {
        let name = self.string(&*frame.name);
        let file = self.string(frame.file.as_deref().unwrap_or(""));
        let next = self.functions.len() as u64 + 1;
        let id = *self.functions.entry((name, file)).or_insert(next);
        if id == next {
            let mut message = Message::default();
            message.number(1, id);
            message.number(2, name);
            message.number(4, file);
            self.out.bytes(5, &message.0);
        }
        id
    }

    fn sample(&mut self, profile: &'a Profile, row: &'a crate::model::profile::Row, nodes: &[(u64, Option<u32>)]) {
        let mut next = Some(row.node);
        let locations = std::iter::from_fn(|| {
            let (location, caller) = nodes.get(next? as usize)?;
            next = *caller;
            Some(*location)
        });
        let mut message = Message::default();
        message.packed(1, locations);
        message.packed(2, row.values.iter().copied());
        if let Some(thread) = row.thread.and_then(|thread| profile.threads.get(thread as usize)) {
            let words = [
                ("thread", Some(&*thread.name)),
                ("process", Some(&*thread.process)),
                ("task", thread.task.as_deref()),
            ];
            for (key, text) in words {
                if let Some(text) = text.filter(|text| !text.is_empty()) {
                    let mut label = Message::default();
                    label.number(1, self.string(key));
                    label.number(2, self.string(text));
                    message.bytes(3, &label.0);
                }
            }
            for (key, number) in [("pid", thread.pid), ("tid", thread.tid)] {
                let mut label = Message::default();
                label.number(1, self.string(key));
                label.number(3, u64::from(number));
                message.bytes(3, &label.0);
            }
        }
        self.out.bytes(2, &message.0);
    }
}

/// Messages of a file, still packed.
#[derive(Default)]
struct Parts<'a> {
    types: Vec<&'a [u8]>,
    samples: Vec<&'a [u8]>,
    mappings: Vec<&'a [u8]>,
    locations: Vec<&'a [u8]>,
    functions: Vec<&'a [u8]>,
    strings: Vec<&'a str>,
    comments: Vec<u64>,
    time_ns: u64,
    duration_ns: u64,
    default_type: u64,
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
        let mut parts = Self::default();
        for field in Fields(bytes) {
            let (field, value) = field?;
            match (field, value) {
                (1, Value::Bytes(bytes)) => parts.types.push(bytes),
                (2, Value::Bytes(bytes)) => parts.samples.push(bytes),
                (3, Value::Bytes(bytes)) => parts.mappings.push(bytes),
                (4, Value::Bytes(bytes)) => parts.locations.push(bytes),
                (5, Value::Bytes(bytes)) => parts.functions.push(bytes),
                (6, Value::Bytes(bytes)) => {
                    let text = std::str::from_utf8(bytes);
                    parts.strings.push(text.map_err(|_| PprofError::Meaning("a text is not UTF-8".to_owned()))?);
                }
                (9, Value::Number(number)) => parts.time_ns = number,
                (10, Value::Number(number)) => parts.duration_ns = number,
                (13, value) => numbers(field, value, &mut parts.comments)?,
                (14, Value::Number(number)) => parts.default_type = number,
                (1..=6 | 9 | 10 | 14, _) => return Err(Flaw::Field(field).into()),
                _ => {}
            }
        }
        match parts.strings.first() {
            Some(&"") => Ok(parts),
            _ => Err(PprofError::Meaning("it has no table of texts".to_owned())),
        }
    }

    fn text(&self, index: u64) -> Result<&'a str, PprofError> {
        let text = usize::try_from(index).ok().and_then(|index| self.strings.get(index));
        text.copied().ok_or_else(|| PprofError::Meaning(format!("text {index} is not there")))
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
    negative: u64,
    labels: std::collections::BTreeSet<String>,
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
        kinds.push(Kind { name: parts.text(name)?.to_owned(), unit });
        scales.push(scale);
    }
    if kinds.is_empty() {
        return Err(PprofError::Meaning("it says not what its values are".to_owned()));
    }
    let mut builder = Builder::new(kinds);
    let modules = read_mappings(&parts, &mut builder)?;
    let functions = read_functions(&parts)?;
    let locations = read_locations(&parts, &modules, &functions, &mut builder)?;
    let mut dropped = Dropped::default();
    read_samples(&parts, &scales, &locations, &mut builder, &mut dropped)?;
    let mut profile = builder.build();
    profile.duration_ns = parts.duration_ns;
    profile.quality.is_foreign = true;
    if let Ok(at) = jiff::Timestamp::from_nanosecond(i128::from(parts.time_ns))
        && parts.time_ns > 0
    {
        profile.at = at.to_string();
    }
    for comment in &parts.comments {
        profile.quality.notes.push(parts.text(*comment)?.to_owned());
    }
    if dropped.negative > 0 {
        profile.quality.notes.push(format!("{} values below 0 were read as 0", dropped.negative));
    }
    if !dropped.labels.is_empty() {
        let labels: Vec<String> = dropped.labels.into_iter().take(5).collect();
        profile.quality.notes.push(format!("labels that were not read: {}", labels.join(", ")));
    }
    put_first(&mut profile, parts.text(parts.default_type)?);
    Ok(profile)
}

/// Makes the kind that the file calls its default the first.
fn put_first(profile: &mut Profile, name: &str) {
    if let Some(at) = profile.kind(name).filter(|at| *at > 0) {
        profile.kinds[..=at].rotate_right(1);
        profile.rows.iter_mut().for_each(|row| row.values[..=at].rotate_right(1));
    }
}

fn read_mappings(parts: &Parts<'_>, builder: &mut Builder) -> Result<HashMap<u64, u32>, PprofError> {
    let mut all = HashMap::new();
    for bytes in &parts.mappings {
        let [_, id, _, _, _, path, build_id] = fields(bytes)?;
        let module = Module { path: parts.text(path)?.to_owned(), build_id: parts.text(build_id)?.to_owned() };
        all.insert(id, builder.profile.modules.len() as u32);
        builder.profile.modules.push(module);
    }
    Ok(all)
}

fn read_functions<'a>(parts: &Parts<'a>) -> Result<HashMap<u64, (&'a str, &'a str)>, PprofError> {
    let mut all = HashMap::new();
    for bytes in &parts.functions {
        let [_, id, name, system_name, file] = fields(bytes)?;
        let name = if name == 0 { system_name } else { name };
        all.insert(id, (parts.text(name)?, parts.text(file)?));
    }
    Ok(all)
}

/// Frames of each location, the innermost first.
fn read_locations(
    parts: &Parts<'_>,
    modules: &HashMap<u64, u32>,
    functions: &HashMap<u64, (&str, &str)>,
    builder: &mut Builder,
) -> Result<HashMap<u64, Vec<u32>>, PprofError> {
    let mut all = HashMap::new();
    for bytes in &parts.locations {
        let [_, id, mapping, address] = fields(bytes)?;
        let module = modules.get(&mapping).copied();
        let path = module.map_or("", |module| builder.profile.modules[module as usize].path.as_str());
        let origin = origin_of(path, module.is_some());
        let nameless = match super::tree::file_name(path) {
            "" => "[unknown]".to_owned(),
            name if name.starts_with('[') => name.to_owned(),
            name => format!("[{name}]"),
        };
        let mut lines = Vec::new();
        for field in Fields(bytes) {
            if let (4, Value::Bytes(line)) = field? {
                lines.push(fields::<3>(line)?);
            }
        }
        let address = (address > 0).then_some(address);
        let frame = |name: String, module| Frame { name, module, address, origin, ..Frame::default() };
        let mut frames = Vec::with_capacity(lines.len().max(1));
        for (at, [_, function, line]) in lines.iter().take(LINES_MAX).enumerate() {
            let (name, file) = functions
                .get(function)
                .ok_or_else(|| PprofError::Meaning(format!("function {function} is not there")))?;
            let file = (!file.is_empty()).then(|| (*file).to_owned());
            let line = u32::try_from(*line).ok().filter(|line| *line > 0);
            let is_inlined = at + 1 < lines.len();
            let name = if name.is_empty() { nameless.clone() } else { (*name).to_owned() };
            frames.push(builder.frame(Frame { file, line, is_inlined, ..frame(name, module) }));
        }
        if frames.is_empty() {
            frames.push(builder.frame(frame(nameless, module)));
        }
        all.insert(id, frames);
    }
    Ok(all)
}

fn origin_of(path: &str, has_module: bool) -> Origin {
    match super::tree::file_name(path) {
        name if name.starts_with("[kernel") || name.ends_with(".ko") => Origin::Kernel,
        name if name.starts_with("perf-") && name.ends_with(".map") => Origin::Jit,
        _ if has_module => Origin::Native,
        _ => Origin::Unknown,
    }
}

fn read_samples(
    parts: &Parts<'_>,
    scales: &[u64],
    locations: &HashMap<u64, Vec<u32>>,
    builder: &mut Builder,
    dropped: &mut Dropped,
) -> Result<(), PprofError> {
    let mut threads: HashMap<Thread, u32> = HashMap::new();
    let mut left = FRAMES_MAX;
    for bytes in &parts.samples {
        let (mut stack, mut values, mut labels) = (Vec::new(), Vec::new(), Vec::new());
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
                .get(location)
                .ok_or_else(|| PprofError::Meaning(format!("location {location} is not there")))?;
            for frame in frames.iter().rev() {
                left = left.checked_sub(1).ok_or_else(|| PprofError::Meaning("it has too many frames".to_owned()))?;
                node = Some(builder.node(node, *frame));
            }
        }
        let node = match node {
            Some(node) => node,
            None => {
                let name = "[no stack]".to_owned();
                let frame = builder.frame(Frame { name, origin: Origin::Unknown, ..Frame::default() });
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
            let value = u64::try_from(*value as i64).unwrap_or_else(|_| {
                dropped.negative += 1;
                0
            });
            builder.add(node, thread, kind, value.saturating_mul(*scale));
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
            "thread" => thread.name = text.to_owned(),
            "process" => thread.process = text.to_owned(),
            "task" => thread.task = Some(text.to_owned()),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{gunzip, read, write};
    use crate::model::profile::{Origin, Profile};
    use crate::report::profile::sample;

    /// Stacks of a kind with what they took: what must survive.
    fn stacks(profile: &Profile, kind: usize) -> Vec<(Vec<String>, u64)> {
        let mut all = std::collections::BTreeMap::<Vec<String>, u64>::new();
        for row in profile.rows.iter().filter(|row| row.values[kind] > 0) {
            let name = |name: &str| if name.is_empty() { "?".to_owned() } else { name.to_owned() };
            *all.entry(profile.stack(row.node).map(|frame| name(&frame.name)).collect()).or_default() +=
                row.values[kind];
        }
        all.into_iter().collect()
    }

    #[test]
    fn everything_that_the_format_has_survives() {
        let profile = sample::rich();
        let back = read(&write(&profile)).expect("our own file");
        assert_eq!(back.flaw(), None);
        assert_eq!(
            (back.kinds.clone(), back.duration_ns, back.at.clone()),
            (profile.kinds.clone(), 2_500_000_000, profile.at.clone())
        );
        assert_eq!(back.modules, profile.modules);
        assert!(back.threads.len() == 2 && profile.threads.iter().all(|thread| back.threads.contains(thread)));
        for kind in 0..2 {
            assert_eq!(stacks(&back, kind), stacks(&profile, kind));
        }
        let inlined = back.frames.iter().find(|frame| frame.is_inlined).expect("an inlined frame");
        assert_eq!((inlined.name.as_str(), inlined.line), ("memchr<&str, 'a'>", Some(30)));
        assert_eq!(back.frames.iter().find(|frame| frame.name == "vfs_read").map(|f| f.origin), Some(Origin::Kernel));
        assert!(back.quality.notes.iter().any(|note| note.contains("999 samples a second asked")));
    }

    #[test]
    fn the_default_type_comes_first() {
        let mut profile = sample::rich();
        let total = profile.total(1);
        super::put_first(&mut profile, "alloc_space");
        assert_eq!((profile.kinds[0].name.as_str(), profile.total(0)), ("alloc_space", total));
    }

    #[test]
    fn a_file_that_lacks_something_is_refused_with_the_reason() {
        let refused = |bytes: &[u8]| read(bytes).expect_err("not a profile").to_string();
        assert_eq!(refused(b""), "not a pprof file: it has no table of texts");
        assert_eq!(refused(&[0x32, 0]), "not a pprof file: it says not what its values are");
        assert_eq!(refused(&[0x0a, 9]), "not a pprof file: it ends in the midst of a field");
        assert_eq!(refused(&[0x0a, 2, 0x08, 7, 0x32, 0]), "not a pprof file: text 7 is not there");
        let sample = [0x0a, 0, 0x12, 6, 0x0a, 1, 5, 0x12, 1, 1, 0x32, 0];
        assert_eq!(refused(&sample), "not a pprof file: location 5 is not there");
        let packed = write(&sample::rich());
        assert!(refused(&packed[..packed.len() / 2]).starts_with("gzip: "));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn values_survive(profile in sample::any_profile()) {
            let back = read(&write(&profile)).expect("our own file");
            prop_assert_eq!(back.flaw(), None);
            for kind in 0..2 {
                prop_assert_eq!(back.total(kind), profile.total(kind));
            }
        }

        #[test]
        fn damaged_files_are_read_or_refused(at in any::<usize>(), byte: u8) {
            let mut bytes = gunzip(&write(&sample::rich())).expect("our own file");
            let len = bytes.len();
            bytes[at % len] = byte;
            if let Ok(profile) = read(&bytes) {
                prop_assert_eq!(profile.flaw(), None);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }
    }
}
