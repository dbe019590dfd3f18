//! The frames of a profile. Foreign profiles have millions, so they are packed: each text is kept once, and what most
//! frames of such files lack, file, line and address, takes no room where it is missing.

use std::borrow::Cow;
use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::intern::Interner;

/// No text, module or detail.
const NONE: u32 = u32::MAX;

/// Whose code a frame is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A program's or library's.
    #[default]
    Native,
    /// The kernel's.
    Kernel,
    /// Made while the program ran: JavaScript, Python with perf support.
    Jit,
    /// No code: a thread, a process, a task, a file.
    Label,
    /// An address that nothing is known of.
    Unknown,
}

/// A function, or the place of one that was inlined there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Frame<'a> {
    /// The function, demangled; `[libc.so.6]` where only the module is known.
    pub name: &'a str,
    /// Index into `modules`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<u32>,
    /// Source file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<&'a str>,
    /// Line in the source file; absent or from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Address in the module's own numbering (a file's virtual address).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<u64>,
    /// The compiler put it into its caller.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_inlined: bool,
    /// Whose code it is.
    pub origin: Origin,
}

/// A frame as it is read.
#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    module: Option<u32>,
    #[serde(default, borrow)]
    file: Option<Cow<'a, str>>,
    #[serde(default)]
    line: Option<u32>,
    #[serde(default)]
    address: Option<u64>,
    #[serde(default)]
    is_inlined: bool,
    #[serde(default)]
    origin: Origin,
}

/// Frames, each with a number from 0 on.
#[derive(Clone, Default)]
pub struct Frames {
    texts: Texts,
    all: Vec<Packed>,
    details: Vec<Detail>,
}

#[derive(Clone, Copy)]
struct Packed {
    name: u32,
    module: u32,
    detail: u32,
    is_inlined: bool,
    has_address: bool,
    origin: Origin,
}

/// What only some frames have.
#[derive(Clone, Copy, Default)]
struct Detail {
    address: u64,
    file: u32,
    line: u32,
}

/// A frame whose texts have numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Numbered {
    pub(crate) name: u32,
    pub(crate) file: Option<u32>,
    module: Option<u32>,
    line: Option<u32>,
    address: Option<u64>,
    is_inlined: bool,
    origin: Origin,
}

/// Texts, one behind the other.
#[derive(Clone, Default)]
pub(crate) struct Texts {
    all: String,
    ends: Vec<u32>,
}

/// What finds equal texts and frames while frames are added.
#[derive(Debug, Default)]
pub(crate) struct Known {
    texts: Interner,
    frames: Interner,
}

impl Frames {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// One of them.
    pub fn get(&self, at: u32) -> Option<Frame<'_>> {
        (at < self.all.len() as u32).then(|| self.view(self.numbered(at)))
    }

    /// All, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = Frame<'_>> {
        (0..self.all.len() as u32).map(|at| self.view(self.numbered(at)))
    }

    /// Their names and files, each once.
    pub(crate) fn texts(&self) -> &Texts {
        &self.texts
    }

    /// A frame that is there, with numbers of [`Frames::texts`].
    pub(crate) fn numbered(&self, at: u32) -> Numbered {
        let packed = &self.all[at as usize];
        let detail = self.details.get(packed.detail as usize).copied();
        let some = |number: u32| (number != NONE).then_some(number);
        Numbered {
            name: packed.name,
            file: detail.and_then(|detail| some(detail.file)),
            module: some(packed.module),
            line: detail.map(|detail| detail.line).filter(|line| *line > 0),
            address: detail.map(|detail| detail.address).filter(|_| packed.has_address),
            is_inlined: packed.is_inlined,
            origin: packed.origin,
        }
    }

    fn view(&self, frame: Numbered) -> Frame<'_> {
        let Numbered { module, line, address, is_inlined, origin, .. } = frame;
        let file = frame.file.map(|file| self.texts.get(file));
        Frame { name: self.texts.get(frame.name), module, file, line, address, is_inlined, origin }
    }

    /// The number of a frame, which is added where it is new.
    pub(crate) fn index(&mut self, known: &mut Known, frame: Frame<'_>) -> u32 {
        let frame = self.number(known, frame);
        let next = self.all.len();
        let at = known.frames.index(frame, next, |at| self.numbered(at));
        if at as usize == next {
            self.push(frame);
        }
        at
    }

    fn number(&mut self, known: &mut Known, frame: Frame<'_>) -> Numbered {
        let Frame { module, line, address, is_inlined, origin, .. } = frame;
        let name = self.texts.index(&mut known.texts, frame.name);
        let file = frame.file.map(|file| self.texts.index(&mut known.texts, file));
        // Lines are counted from 1.
        let line = line.filter(|line| *line > 0);
        Numbered { name, file, module, line, address, is_inlined, origin }
    }

    fn push(&mut self, frame: Numbered) {
        let Numbered { name, file, module, line, address, is_inlined, origin } = frame;
        let mut detail = NONE;
        if file.is_some() || line.is_some() || address.is_some() {
            detail = self.details.len() as u32;
            let (file, line) = (file.unwrap_or(NONE), line.unwrap_or(0));
            self.details.push(Detail { address: address.unwrap_or(0), file, line });
        }
        let (module, has_address) = (module.unwrap_or(NONE), address.is_some());
        self.all.push(Packed { name, module, detail, is_inlined, has_address, origin });
    }

    /// Gives the module of each frame another number.
    #[cfg(test)]
    pub(crate) fn renumber_modules(&mut self, new: impl Fn(u32) -> Option<u32>) {
        for frame in &mut self.all {
            frame.module = Some(frame.module).filter(|module| *module != NONE).and_then(&new).unwrap_or(NONE);
        }
    }
}

impl Texts {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, at: u32) -> &str {
        let end = |at: usize| self.ends.get(at).map_or(0, |end| *end as usize);
        let start = (at as usize).checked_sub(1).map_or(0, end);
        self.all.get(start..end(at as usize)).unwrap_or_default()
    }

    /// The number of a text, which is added where it is new.
    pub(crate) fn index(&mut self, known: &mut Interner, text: &str) -> u32 {
        let next = self.ends.len();
        // All readers bound the size of their file far below 4 GiB; what would be past it has no text.
        let Ok(end) = u32::try_from(self.all.len() + text.len()) else { return NONE };
        let at = known.index(text, next, |at| self.get(at));
        if at as usize == next {
            self.all.push_str(text);
            self.ends.push(end);
        }
        at
    }
}

impl PartialEq for Frames {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for Frames {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Frames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seq;
        impl<'de> Visitor<'de> for Seq {
            type Value = Frames;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of frames")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Frames, A::Error> {
                let (mut frames, mut known) = (Frames::default(), Known::default());
                while let Some(read) = seq.next_element::<Read<'de>>()? {
                    let Read { module, line, address, is_inlined, origin, .. } = read;
                    let (name, file) = (&*read.name, read.file.as_deref());
                    // Their numbers are those of the document, also where two are equal.
                    let frame = Frame { name, module, file, line, address, is_inlined, origin };
                    let frame = frames.number(&mut known, frame);
                    frames.push(frame);
                }
                Ok(frames)
            }
        }
        deserializer.deserialize_seq(Seq)
    }
}
