//! A profile: where time, memory, bytes went, by stack. One model for every kind of measurement; plain data.
//!
//! A stack is a path in a tree: a node has a frame and the node of its caller. Rows say what was measured at a node, in a
//! thread; a value for each kind, zero where it has none.

use serde::{Deserialize, Serialize};

use crate::model::intern::Interner;

mod frames;
mod rows;

use frames::Known;
pub(crate) use frames::Texts;
pub use frames::{Frame, Frames, Origin};
pub use rows::{Row, Rows};

/// The form of the file.
pub const SCHEMA: &str = "apm.profile/1";

/// A profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// [`SCHEMA`].
    pub schema: String,
    /// What was profiled, for people: the command line or `pid 12`.
    pub title: String,
    /// When it began, RFC 3339; empty where the source does not say.
    pub at: String,
    /// How long it was recorded, nanoseconds.
    pub duration_ns: u64,
    /// What rows have values of, the most important first.
    pub kinds: Vec<Kind>,
    /// Files with code.
    pub modules: Vec<Module>,
    /// Each frame once.
    pub frames: Frames,
    /// Each stack once; the node of a caller comes before those it called.
    pub nodes: Vec<Node>,
    /// Threads that were seen.
    pub threads: Vec<Thread>,
    /// What was measured.
    pub rows: Rows,
    /// What happened beside the stacks.
    #[serde(default)]
    pub tables: Tables,
    /// How good the data are.
    #[serde(default)]
    pub quality: Quality,
}

/// What values are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kind {
    /// In the words of pprof: `cpu`, `samples`, `alloc_space`, `inuse_space`.
    pub name: String,
    /// Of its values.
    pub unit: Unit,
}

/// A unit of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Things.
    Count,
    /// Nanoseconds.
    Nanoseconds,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// In the words of pprof.
    pub fn word(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Nanoseconds => "nanoseconds",
            Self::Bytes => "bytes",
        }
    }
}

/// A file with code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Its path as the profiled process names it; `[kernel]`, `[vdso]`.
    pub path: String,
    /// In hexadecimal digits; empty where it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub build_id: String,
}

/// A place in the tree of stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "NodeForm", into = "NodeForm")]
pub struct Node {
    /// [`NONE`] at a root.
    caller: u32,
    /// Index into `frames`.
    pub frame: u32,
}

/// A node as it is written.
#[derive(Serialize, Deserialize)]
struct NodeForm {
    caller: Option<u32>,
    frame: u32,
}

/// No caller.
const NONE: u32 = u32::MAX;

impl Node {
    /// One that the other called, or a root.
    pub fn new(caller: Option<u32>, frame: u32) -> Self {
        Self { caller: caller.unwrap_or(NONE), frame }
    }

    /// Index into `nodes` of the caller, lower than its own; absent at a root.
    pub fn caller(self) -> Option<u32> {
        (self.caller != NONE).then_some(self.caller)
    }
}

impl From<NodeForm> for Node {
    fn from(form: NodeForm) -> Self {
        Self::new(form.caller, form.frame)
    }
}

impl From<Node> for NodeForm {
    fn from(node: Node) -> Self {
        Self { caller: node.caller(), frame: node.frame }
    }
}

/// A thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Thread {
    /// Its process.
    pub pid: u32,
    /// Itself.
    pub tid: u32,
    /// Name of the process.
    pub process: String,
    /// Name of the thread.
    pub name: String,
    /// The task of an apm run that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}

/// What happened beside the stacks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tables {
    /// Values over time, of the whole tree of processes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timelines: Vec<Timeline>,
    /// Lists for people: files, processes, connections, devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lists: Vec<List>,
}

/// A value over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// `rss`, `pss`, `cpu`, `read`.
    pub name: String,
    /// Of its values.
    pub unit: Unit,
    /// Nanoseconds since the start and the value.
    pub points: Vec<(u64, f64)>,
}

/// A table: what the columns are, and the rows, the largest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct List {
    /// `files`, `processes`, `connections`, `devices`.
    pub name: String,
    /// Name of the first column.
    pub of: String,
    /// Names and units of the others.
    pub columns: Vec<Kind>,
    /// What it is, and a value for each column.
    pub rows: Vec<(String, Vec<u64>)>,
}

/// How good the data are: said in every output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// How samples were taken, for instance `cpu-clock, user and kernel`; empty where the source does not say.
    pub sampler: String,
    /// Why not by what is better, a sentence for each that was tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// Samples a second of CPU time that were asked for; 0 where it is no matter of rates.
    pub rate_asked: u64,
    /// Samples a second of CPU time that came.
    pub rate_got: f64,
    /// Mean of the allocated bytes between two samples of memory; 0 where it was not sampled so.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub heap_mean_bytes: u64,
    /// Samples that are in the rows.
    pub samples: u64,
    /// Samples that the kernel dropped.
    pub lost: u64,
    /// Stacks whose outer end was not reached.
    pub truncated: u64,
    /// Samples whose innermost function has no name.
    pub unknown: u64,
    /// The profile was read from a format that does not say what was lost or truncated: zeros mean nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_foreign: bool,
    /// Modules without names, by samples, and what brings them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameless: Vec<Nameless>,
    /// What else the reader should know, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// A module without names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nameless {
    /// Its path.
    pub module: String,
    /// Frames in it, weighted by samples.
    pub samples: u64,
    /// A package or option that brings names, if one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Profile {
    /// Index of a kind.
    pub fn kind(&self, name: &str) -> Option<usize> {
        self.kinds.iter().position(|kind| kind.name == name)
    }

    /// Sum of a kind over all rows.
    pub fn total(&self, kind: usize) -> u64 {
        self.rows.iter().map(|row| row.values.get(kind).copied().unwrap_or(0)).fold(0, u64::saturating_add)
    }

    /// Both in one: the kinds of the other come after its own; frames and stacks that are the same are one.
    pub fn merged(self, other: Self) -> Self {
        let own = self.kinds.len();
        let kinds: Vec<Kind> = self.kinds.iter().chain(&other.kinds).cloned().collect();
        let mut builder = Builder::new(kinds);
        for (part, first) in [(&self, 0), (&other, own)] {
            builder.add_all(part, first);
        }
        let mut quality = self.quality.clone();
        // Both may have the same to say.
        for note in &other.quality.notes {
            if !quality.notes.contains(note) {
                quality.notes.push(note.clone());
            }
        }
        quality.refused.extend(other.quality.refused.iter().cloned());
        let rest = &other.quality;
        if !rest.sampler.is_empty() {
            quality.notes.push(format!(
                "{}: {} samples, {} lost, {} truncated",
                rest.sampler, rest.samples, rest.lost, rest.truncated
            ));
        }
        let mut profile = builder.build();
        (profile.title, profile.at, profile.duration_ns) = (self.title, self.at, self.duration_ns);
        (profile.tables, profile.quality) = (self.tables, quality);
        profile.tables.timelines.extend(other.tables.timelines);
        profile.tables.lists.extend(other.tables.lists);
        profile
    }

    /// Calls its program as the other profile's is called: two builds of one program have other names, and nothing of them
    /// would be the same. Says which name was replaced by which.
    pub fn take_name_of_program(&mut self, other: &Self) -> Option<(String, String)> {
        let own = self.main_module(other)?;
        let before = other.modules.get(other.main_module(self)?)?.path.clone();
        let module = self.modules.get_mut(own)?;
        let name = std::mem::replace(&mut module.path, before.clone());
        Some((name, before))
    }

    /// The module that took most, of those whose file names the other profile does not have.
    fn main_module(&self, other: &Self) -> Option<usize> {
        let name = |module: &Module| module.path.rsplit('/').next().unwrap_or_default().to_owned();
        let known: std::collections::BTreeSet<String> = other.modules.iter().map(name).collect();
        let mut sums = vec![0_u64; self.modules.len()];
        for row in self.rows.iter() {
            let frame = self.stack(row.node).next();
            if let Some(sum) = frame.and_then(|frame| sums.get_mut(frame.module? as usize)) {
                *sum = sum.saturating_add(row.values.first().copied().unwrap_or(0));
            }
        }
        let is_new =
            |at: &usize| !self.modules[*at].path.starts_with('[') && !known.contains(&name(&self.modules[*at]));
        (0..self.modules.len()).filter(is_new).max_by_key(|at| sums[*at]).filter(|at| sums[*at] > 0)
    }

    /// Puts the sum of kinds of one unit before all others, if they are all there.
    pub fn add_sum(&mut self, name: &str, of: &[&str]) {
        let Some(of) = of.iter().map(|name| self.kind(name)).collect::<Option<Vec<usize>>>() else { return };
        let Some(unit) = of.first().map(|kind| self.kinds[*kind].unit) else { return };
        self.kinds.insert(0, Kind { name: name.to_owned(), unit });
        self.rows.change(self.kinds.len(), |row, values| {
            let parts = of.iter().filter_map(|kind| row.get(*kind));
            values.push(parts.fold(0, |sum: u64, value| sum.saturating_add(*value)));
            values.extend_from_slice(row);
        });
    }

    /// Leaves out all kinds but these, and rows that have nothing of them.
    pub fn keep(&mut self, names: &[&str]) {
        let kept: Vec<usize> =
            (0..self.kinds.len()).filter(|kind| names.contains(&self.kinds[*kind].name.as_str())).collect();
        self.choose(&kept);
        self.rows.retain(|row| row.values.iter().any(|value| *value > 0));
    }

    /// Leaves out what was measured in other processes than this one.
    pub fn keep_process(&mut self, pid: u32) {
        let threads = &self.threads;
        let is_of =
            |thread: Option<u32>| thread.and_then(|at| threads.get(at as usize)).is_some_and(|it| it.pid == pid);
        self.rows.retain(|row| is_of(row.thread));
        let others = "the number of samples and the quality figures are those of all processes";
        self.quality.notes.push(format!("of process {pid} only; {others}"));
    }

    /// Keeps these kinds, in this order.
    pub fn choose(&mut self, kinds: &[usize]) {
        self.rows.change(kinds.len(), |row, values| {
            values.extend(kinds.iter().map(|kind| row.get(*kind).copied().unwrap_or(0)));
        });
        self.kinds = kinds.iter().filter_map(|kind| self.kinds.get(*kind).cloned()).collect();
    }

    /// Frames from the innermost to the outermost.
    pub fn stack(&self, node: u32) -> impl Iterator<Item = Frame<'_>> {
        self.path(node).filter_map(|node| self.frames.get(node.frame))
    }

    /// Nodes from the innermost to the outermost.
    pub fn path(&self, node: u32) -> impl Iterator<Item = &Node> {
        let mut next = Some(node);
        std::iter::from_fn(move || {
            let node = self.nodes.get(next? as usize)?;
            // A caller comes before what it called: whatever a file says, this ends.
            next = node.caller().filter(|caller| Some(*caller) < next);
            Some(node)
        })
    }

    /// What is wrong with indices in it, which come from a file perhaps.
    pub fn flaw(&self) -> Option<String> {
        let is_in = |index: u32, len: usize| (index as usize) < len;
        for (at, node) in self.nodes.iter().enumerate() {
            if !is_in(node.frame, self.frames.len()) || node.caller().is_some_and(|caller| caller as usize >= at) {
                return Some(format!("node {at} points to nowhere"));
            }
        }
        for (at, frame) in self.frames.iter().enumerate() {
            if frame.module.is_some_and(|module| !is_in(module, self.modules.len())) {
                return Some(format!("frame {at} names a module that is not there"));
            }
        }
        for (at, row) in self.rows.iter().enumerate() {
            let thread_is_in = row.thread.is_none_or(|thread| is_in(thread, self.threads.len()));
            if !is_in(row.node, self.nodes.len()) || !thread_is_in || self.rows.width() != self.kinds.len() {
                return Some(format!("row {at} does not fit"));
            }
        }
        None
    }
}

/// Builds a profile: gives equal frames, nodes and rows one index.
#[derive(Debug, Default)]
pub struct Builder {
    /// As far as it is built.
    pub profile: Profile,
    frames: Known,
    nodes: Interner,
    rows: Interner,
}

impl Builder {
    /// With these kinds.
    pub fn new(kinds: Vec<Kind>) -> Self {
        let rows = Rows::new(kinds.len());
        let profile = Profile { schema: SCHEMA.to_owned(), kinds, rows, ..Profile::default() };
        Self { profile, ..Self::default() }
    }

    /// Index of a frame.
    pub fn frame(&mut self, frame: Frame<'_>) -> u32 {
        self.profile.frames.index(&mut self.frames, frame)
    }

    /// Index of a node.
    pub fn node(&mut self, caller: Option<u32>, frame: u32) -> u32 {
        let nodes = &mut self.profile.nodes;
        let node = Node::new(caller, frame);
        let at = self.nodes.index(node, nodes.len(), |at| nodes[at as usize]);
        if at as usize == nodes.len() {
            nodes.push(node);
        }
        at
    }

    /// Index of a new kind, of which rows so far have nothing.
    pub fn kind(&mut self, kind: Kind) -> usize {
        self.profile.kinds.push(kind);
        self.profile.rows.change(self.profile.kinds.len(), |row, values| values.extend_from_slice(row));
        self.profile.kinds.len() - 1
    }

    /// Adds a value of one kind.
    pub fn add(&mut self, node: u32, thread: Option<u32>, kind: usize, value: u64) {
        let rows = &mut self.profile.rows;
        let spot = |at: u32| {
            let row = rows.at(at as usize);
            (row.node, row.thread)
        };
        let at = self.rows.index((node, thread), rows.len(), spot);
        if at as usize == rows.len() {
            rows.push(node, thread);
        }
        rows.add(at, kind, value);
    }

    /// Adds another profile, whose first kind is this one here.
    fn add_all(&mut self, part: &Profile, first: usize) {
        let find = |all: &mut Vec<Module>, module: &Module| {
            let at = all.iter().position(|one| one == module).unwrap_or_else(|| {
                all.push(module.clone());
                all.len() - 1
            });
            at as u32
        };
        let modules: Vec<u32> = part.modules.iter().map(|one| find(&mut self.profile.modules, one)).collect();
        let module = |at: u32| modules.get(at as usize).copied();
        let frames: Vec<u32> = part
            .frames
            .iter()
            .map(|frame| self.frame(Frame { module: frame.module.and_then(module), ..frame }))
            .collect();
        let mut nodes: Vec<u32> = Vec::with_capacity(part.nodes.len());
        for node in &part.nodes {
            let caller = node.caller().and_then(|caller| nodes.get(caller as usize).copied());
            let at = self.node(caller, frames.get(node.frame as usize).copied().unwrap_or_default());
            nodes.push(at);
        }
        let before = self.profile.threads.len();
        let threads: Vec<u32> = part
            .threads
            .iter()
            .map(|thread| {
                let same = self.profile.threads[..before].iter().position(|one| one == thread);
                same.unwrap_or_else(|| {
                    self.profile.threads.push(thread.clone());
                    self.profile.threads.len() - 1
                }) as u32
            })
            .collect();
        for row in part.rows.iter() {
            let Some(node) = nodes.get(row.node as usize) else { continue };
            let thread = row.thread.and_then(|thread| threads.get(thread as usize).copied());
            for (kind, value) in row.values.iter().enumerate().filter(|(_, value)| **value > 0) {
                self.add(*node, thread, first + kind, *value);
            }
        }
    }

    /// The profile.
    pub fn build(self) -> Profile {
        let mut profile = self.profile;
        profile.rows.sort();
        profile
    }
}

#[cfg(test)]
mod tests {
    use super::{Builder, Frame, Kind, Profile, Unit};

    fn one(kind: &str, path: &[&str], value: u64) -> Profile {
        let mut builder = Builder::new(vec![Kind { name: kind.to_owned(), unit: Unit::Count }]);
        let mut at = None;
        for name in path {
            let frame = builder.frame(Frame { name, ..Frame::default() });
            at = Some(builder.node(at, frame));
        }
        builder.add(at.expect("a node"), None, 0, value);
        builder.build()
    }

    #[test]
    fn two_in_one_have_the_kinds_of_both_and_each_stack_once() {
        let both =
            one("cpu", &["main", "f"], 7).merged(one("bytes", &["main", "f"], 9)).merged(one("calls", &["main"], 1));
        assert_eq!((both.frames.len(), both.nodes.len(), both.flaw()), (2, 2, None));
        assert_eq!((0..3).map(|kind| both.total(kind)).collect::<Vec<_>>(), [7, 9, 1]);
        assert_eq!(both.rows.iter().map(|row| row.values).collect::<Vec<_>>(), [[0, 0, 1], [7, 9, 0]]);
    }
}
