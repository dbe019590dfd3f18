//! Writes pprof's format.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Write};

use crate::model::intern::Interner;
use crate::model::profile::{Node, Profile, Row, Unit};
use crate::report::profile::pprof::protobuf::Message;
use crate::report::profile::quality;
use crate::report::profile::tree::file_name;

/// Functions of one location; compilers stop before a hundred. Each function in a chain of inlined ones has a location with
/// all of those around it.
pub(super) const LINES_MAX: usize = 256;
/// Bytes that are passed on at once.
const PART: usize = 64 << 10;
/// The largest value: the format has signed ones, and what is larger would be read as less than 0.
const VALUE_MAX: u64 = i64::MAX as u64;

/// Writes the message, not packed.
pub(super) fn message(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let writer = Writer {
        out,
        part: Message::default(),
        strings: HashMap::new(),
        others: Vec::new(),
        functions: Interner::default(),
        function_names: Vec::new(),
        count: 0,
        locations: Vec::new(),
        chains: HashMap::new(),
        mapping_ids: Vec::new(),
        texts: 0,
    };
    writer.write(profile)
}

struct Writer<'a> {
    out: &'a mut dyn Write,
    /// Fields that were not passed on yet.
    part: Message,
    /// Numbers in the table of texts: the empty one, those of the frames, then the others.
    strings: HashMap<Cow<'a, str>, u64>,
    others: Vec<Cow<'a, str>>,
    texts: u64,
    functions: Interner,
    /// Name and file of each function.
    function_names: Vec<(u64, u64)>,
    /// Locations so far.
    count: usize,
    /// Of each frame that stands alone in one, its location; 0 where it has none yet.
    locations: Vec<u32>,
    /// Of several functions.
    chains: HashMap<Vec<u32>, u32>,
    /// Of each module.
    mapping_ids: Vec<u64>,
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
    fn write(mut self, profile: &'a Profile) -> io::Result<()> {
        self.texts = profile.frames.texts().len() as u64;
        for kind in &profile.kinds {
            let message = self.value_type(&kind.name, kind.unit);
            self.part.bytes(1, &message.0);
        }
        self.mappings(profile);
        let nodes = self.nodes(profile)?;
        for row in profile.rows.iter() {
            self.sample(profile, row, &nodes)?;
        }
        if let Some(first) = profile.kinds.first() {
            let name = self.string(&first.name);
            self.part.number(14, name);
            let (period, unit) = match (first.unit, profile.quality.rate_asked) {
                (Unit::Nanoseconds, rate) if rate > 0 => (1_000_000_000 / rate, Unit::Nanoseconds),
                (Unit::Bytes, _) => (profile.quality.heap_mean_bytes, Unit::Bytes),
                _ => (0, first.unit),
            };
            let message = self.value_type(&first.name, unit);
            self.part.bytes(11, &message.0);
            self.part.number(12, period);
        }
        let began = profile.at.parse::<jiff::Timestamp>().map(|at| at.as_nanosecond()).unwrap_or(0);
        self.part.number(9, u64::try_from(began).unwrap_or(0));
        self.part.number(10, profile.duration_ns);
        let title = (!profile.title.is_empty()).then(|| profile.title.clone());
        let comments: Vec<u64> =
            title.into_iter().chain(quality::sentences(profile)).map(|comment| self.string(comment)).collect();
        self.part.packed(13, comments.into_iter());
        self.part.bytes(6, b"");
        for text in 0..self.texts as u32 {
            self.part.bytes(6, profile.frames.texts().get(text).as_bytes());
            self.pass(PART)?;
        }
        for text in std::mem::take(&mut self.others) {
            self.part.bytes(6, text.as_bytes());
        }
        self.pass(0)
    }

    /// Passes on what is longer than that.
    fn pass(&mut self, most: usize) -> io::Result<()> {
        if self.part.0.len() > most {
            self.out.write_all(&self.part.0)?;
            self.part.0.clear();
        }
        Ok(())
    }

    fn string(&mut self, text: impl Into<Cow<'a, str>>) -> u64 {
        let text = text.into();
        if text.is_empty() {
            return 0;
        }
        let next = 1 + self.texts + self.others.len() as u64;
        *self.strings.entry(text).or_insert_with_key(|text| {
            self.others.push(text.clone());
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
        for frame in profile.frames.iter() {
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
            self.part.bytes(3, &message.0);
        }
    }

    /// For each node, its location and the node below the location's outermost function.
    fn nodes(&mut self, profile: &'a Profile) -> io::Result<Vec<Node>> {
        self.locations = vec![0; profile.frames.len()];
        let mut all = Vec::with_capacity(profile.nodes.len());
        let mut lines = Vec::new();
        for at in 0..profile.nodes.len() as u32 {
            lines.clear();
            let mut next = Some(at);
            while let Some(node) = next {
                let Some(found) = profile.nodes.get(node as usize) else { break };
                lines.push(found.frame);
                next = found.caller().filter(|caller| *caller < node);
                let is_inlined = profile.frames.get(found.frame).is_some_and(|frame| frame.is_inlined);
                if !is_inlined || lines.len() >= LINES_MAX {
                    break;
                }
            }
            let location = self.location(profile, &lines);
            all.push(Node::new(next, location));
            self.pass(PART)?;
        }
        Ok(all)
    }

    fn location(&mut self, profile: &'a Profile, lines: &[u32]) -> u32 {
        let next = (self.count + 1) as u32;
        let known = match lines {
            [only] => self.locations.get(*only as usize).copied().filter(|id| *id > 0),
            chain => self.chains.get(chain).copied(),
        };
        if let Some(known) = known {
            return known;
        }
        self.count += 1;
        match lines {
            [only] => self.locations[*only as usize] = next,
            chain => _ = self.chains.insert(chain.to_vec(), next),
        }
        let mut message = Message::default();
        message.number(1, u64::from(next));
        let frames = || lines.iter().filter_map(|frame| profile.frames.get(*frame));
        // Of the function the others were put into.
        if let Some(frame) = frames().next_back() {
            let id = frame.module.and_then(|module| self.mapping_ids.get(module as usize));
            message.number(2, id.copied().unwrap_or(0));
        }
        message.number(3, frames().next().and_then(|frame| frame.address).unwrap_or(0));
        for frame in lines {
            let mut line = Message::default();
            line.number(1, self.function(profile, *frame));
            line.number(2, profile.frames.get(*frame).and_then(|frame| frame.line).map_or(0, u64::from));
            message.bytes(4, &line.0);
        }
        self.part.bytes(4, &message.0);
        next
    }

    fn function(&mut self, profile: &'a Profile, frame: u32) -> u64 {
        let numbered = profile.frames.numbered(frame);
        let text = |number: u32| match profile.frames.texts().get(number) {
            "" => 0,
            _ => 1 + u64::from(number),
        };
        let names = (text(numbered.name), numbered.file.map_or(0, text));
        let (all, next) = (&self.function_names, self.function_names.len());
        let at = self.functions.index(names, next, |at| all[at as usize]);
        let id = u64::from(at) + 1;
        if at as usize == next {
            self.function_names.push(names);
            let mut message = Message::default();
            message.number(1, id);
            message.number(2, names.0);
            message.number(4, names.1);
            self.part.bytes(5, &message.0);
        }
        id
    }

    fn sample(&mut self, profile: &'a Profile, row: Row<'_>, nodes: &[Node]) -> io::Result<()> {
        let mut next = Some(row.node);
        let locations = std::iter::from_fn(|| {
            let node = nodes.get(next? as usize)?;
            next = node.caller();
            Some(u64::from(node.frame))
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
        self.part.bytes(2, &message.0);
        self.pass(PART)
    }
}
