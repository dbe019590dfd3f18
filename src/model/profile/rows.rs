//! The rows of a profile: one list of places and one of values, because a list of values each would be most of the memory.

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// No thread.
const NONE: u32 = u32::MAX;

/// What was measured at one place in one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Row<'a> {
    /// Index into `nodes`; the innermost function.
    pub node: u32,
    /// Index into `threads`; absent where the source does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<u32>,
    /// One for each kind.
    pub values: &'a [u64],
}

/// A row as it is read.
#[derive(Deserialize)]
struct Read {
    node: u32,
    #[serde(default)]
    thread: Option<u32>,
    values: Vec<u64>,
}

/// Rows with the same number of values each.
#[derive(Clone, Default)]
pub struct Rows {
    width: usize,
    /// Node and thread.
    spots: Vec<(u32, u32)>,
    values: Vec<u64>,
}

impl Rows {
    /// An empty list of rows with `width` values each.
    pub fn new(width: usize) -> Self {
        Self { width, ..Self::default() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.spots.len()
    }

    /// Values of each.
    pub fn width(&self) -> usize {
        self.width
    }

    /// One that is there.
    pub fn at(&self, at: usize) -> Row<'_> {
        let (node, thread) = self.spots[at];
        Row { node, thread: (thread != NONE).then_some(thread), values: &self.values[at * self.width..][..self.width] }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.len()).map(|at| self.at(at))
    }

    /// Adds one without values.
    pub(super) fn push(&mut self, node: u32, thread: Option<u32>) {
        self.spots.push((node, thread.unwrap_or(NONE)));
        self.values.resize(self.spots.len() * self.width, 0);
    }

    /// Adds to a value of one that is there.
    pub(super) fn add(&mut self, at: u32, kind: usize, value: u64) {
        let sum = &mut self.values[at as usize * self.width..][..self.width][kind];
        *sum = sum.saturating_add(value);
    }

    /// Replaces the values of each row by `width` new ones.
    pub fn change(&mut self, width: usize, new: impl Fn(&[u64], &mut Vec<u64>)) {
        let mut values = Vec::with_capacity(self.len() * width);
        for at in 0..self.len() {
            new(&self.values[at * self.width..][..self.width], &mut values);
            values.resize((at + 1) * width, 0);
        }
        (self.width, self.values) = (width, values);
    }

    /// Changes the values of each row.
    pub fn update(&mut self, change: impl Fn(&mut [u64])) {
        for at in 0..self.len() {
            change(&mut self.values[at * self.width..][..self.width]);
        }
    }

    /// Leaves out other rows.
    pub fn retain(&mut self, is_kept: impl Fn(&Row<'_>) -> bool) {
        let mut kept = Self::new(self.width);
        for row in self.iter().filter(is_kept) {
            kept.spots.push((row.node, row.thread.unwrap_or(NONE)));
            kept.values.extend_from_slice(row.values);
        }
        *self = kept;
    }

    /// By node, then by thread: in the order of the stacks, however they were added.
    pub(super) fn sort(&mut self) {
        let key = |spot: &(u32, u32)| (spot.0, spot.1.wrapping_add(1));
        if self.spots.is_sorted_by_key(key) {
            return;
        }
        let mut order: Vec<u32> = (0..self.spots.len() as u32).collect();
        order.sort_unstable_by_key(|at| key(&self.spots[*at as usize]));
        let mut sorted = Self::new(self.width);
        sorted.spots = order.iter().map(|at| self.spots[*at as usize]).collect();
        sorted.values = order.iter().flat_map(|at| self.at(*at as usize).values.iter().copied()).collect();
        *self = sorted;
    }
}

impl PartialEq for Rows {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for Rows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seq;
        impl<'de> Visitor<'de> for Seq {
            type Value = Rows;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of rows")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Rows, A::Error> {
                let mut rows = Rows::default();
                while let Some(Read { node, thread, values }) = seq.next_element()? {
                    if rows.len() == 0 {
                        rows.width = values.len();
                    }
                    // What no list is long enough for points to nowhere, also where it means that there is none here.
                    if values.len() != rows.width || thread == Some(NONE) {
                        return Err(A::Error::custom(format!("row {} does not fit", rows.len())));
                    }
                    rows.spots.push((node, thread.unwrap_or(NONE)));
                    rows.values.extend(values);
                }
                Ok(rows)
            }
        }
        deserializer.deserialize_seq(Seq)
    }
}
