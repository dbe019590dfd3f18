//! Writes pprof's format.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::model::profile::{Frame, Profile, Row, Unit};
use crate::report::profile::pprof::protobuf::Message;
use crate::report::profile::quality;
use crate::report::profile::tree::file_name;

/// Functions of one location; compilers stop before a hundred. Each function in a chain of inlined ones has a location with
/// all of those around it.
pub(super) const LINES_MAX: usize = 256;
/// The largest value: the format has signed ones, and what is larger would be read as less than 0.
const VALUE_MAX: u64 = i64::MAX as u64;

/// The message, not packed.
pub(super) fn message(profile: &Profile) -> Vec<u8> {
    Writer::default().write(profile)
}

#[derive(Default)]
struct Writer<'a> {
    strings: HashMap<Cow<'a, str>, u64>,
    table: Vec<Cow<'a, str>>,
    functions: HashMap<(u64, u64), u64>,
    locations: HashMap<Vec<u32>, u64>,
    /// Of each module.
    mapping_ids: Vec<u64>,
    out: Message,
}

/// The order in which modules are written: readers take the first for the program (`go tool pprof`: "File").
fn order(profile: &Profile) -> Vec<usize> {
    let mut order: Vec<usize> = (0..profile.modules.len()).collect();
    if let Some(main) = main_module(profile) {
        order.retain(|at| *at != main);
        order.insert(0, main);
    }
    order
}

/// The program: the file of the command's name, else of a function `main`, else the first that is no library.
fn main_module(profile: &Profile) -> Option<usize> {
    let named = |name: &str| profile.modules.iter().position(|module| file_name(&module.path) == name);
    let command = profile.title.split_ascii_whitespace().next().map(file_name);
    let of_main = || profile.frames.iter().find(|frame| frame.name == "main")?.module.map(|module| module as usize);
    let is_program = |path: &str| path.starts_with('/') && !file_name(path).contains(".so");
    let no_library = || profile.modules.iter().position(|module| is_program(&module.path));
    command.and_then(named).or_else(of_main).or_else(no_library).filter(|at| *at < profile.modules.len())
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
                (Unit::Bytes, _) => (profile.quality.heap_mean_bytes, Unit::Bytes),
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
        self.mapping_ids = vec![0; profile.modules.len()];
        for (id, at) in (1..).zip(order(profile)) {
            self.mapping_ids[at] = id;
            let (module, end) = (&profile.modules[at], ends[at]);
            let (path, build_id) = (self.string(&*module.path), self.string(&*module.build_id));
            let mut message = Message::default();
            message.number(1, id);
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
            let id = frame.module.and_then(|module| self.mapping_ids.get(module as usize));
            message.number(2, id.copied().unwrap_or(0));
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

    fn sample(&mut self, profile: &'a Profile, row: &'a Row, nodes: &[(u64, Option<u32>)]) {
        let mut next = Some(row.node);
        let locations = std::iter::from_fn(|| {
            let (location, caller) = nodes.get(next? as usize)?;
            next = *caller;
            Some(*location)
        });
        let mut message = Message::default();
        message.packed(1, locations);
        message.packed(2, row.values.iter().map(|value| (*value).min(VALUE_MAX)));
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
