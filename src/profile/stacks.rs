//! Stacks without names: a tree in which each path is once, and what was measured at its nodes. Its size has a bound:
//! beyond it a stack ends where the tree does.

use std::collections::HashMap;

use crate::profile::modules::ModuleId;

/// Places in the tree. A node takes about 60 bytes with its index.
const NODES_MAX: usize = 200_000;
/// Pairs of a node and a thread with values. One takes about 50 bytes.
const VALUES_MAX: usize = 200_000;

/// Names of functions that wait; the kernel has some hundreds.
const WAITS_MAX: usize = 1000;

/// Where code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Code {
    /// In a file, at this offset.
    File { module: ModuleId, offset: u64 },
    /// In the kernel.
    Kernel(u64),
    /// Made at run time by a program (`Process::program`).
    Made { program: u32, address: u64 },
    /// In a function of the kernel of which only the name is known ([`Stacks::names`]).
    Waits(u16),
    /// Nobody knows.
    Nowhere,
    /// What called the rest could not be found.
    Truncated,
    /// There was no room for what was called from here on.
    Cut,
}

/// A place in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    /// Index of the caller, lower than its own; at a root [`ROOT`].
    pub(crate) caller: u32,
    pub(crate) code: Code,
}

/// A node, and a thread or [`ANY_THREAD`]: what values belong to.
pub(crate) type Spot = (u32, u32);

/// The caller of those that nobody called.
pub(crate) const ROOT: u32 = u32::MAX;
/// The thread of values for which there are too many threads.
pub(crate) const ANY_THREAD: u32 = u32::MAX;

/// What was measured: samples, and their weight in the counter's unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) samples: u64,
    pub(crate) weight: u64,
    /// Nanoseconds without a CPU: waiting for something, and runnable, waiting for a CPU only.
    pub(crate) off_ns: u64,
    pub(crate) delay_ns: u64,
}

/// The tree.
#[derive(Debug, Default)]
pub(crate) struct Stacks {
    pub(crate) nodes: Vec<Node>,
    index: HashMap<Node, u32>,
    /// By node and thread.
    pub(crate) values: HashMap<Spot, Value>,
    /// Of [`Code::Waits`].
    pub(crate) names: Vec<String>,
    /// Samples whose stacks did not fit.
    pub(crate) cut: u64,
}

impl Stacks {
    /// Adds a sample: the codes from the innermost to the outermost.
    pub(crate) fn add(&mut self, innermost_first: &[Code], thread: Option<u32>, weight: u64) {
        let Some(node) = self.place(innermost_first) else { return };
        let value = self.values.entry(self.spot(node, thread)).or_default();
        value.samples += 1;
        value.weight = value.weight.saturating_add(weight);
    }

    /// Adds a sample at a place, and says what else was measured belongs to.
    pub(crate) fn count(&mut self, node: u32, thread: Option<u32>) -> Spot {
        let spot = self.spot(node, thread);
        self.values.entry(spot).or_default().samples += 1;
        spot
    }

    /// Adds time without a CPU at a place.
    pub(crate) fn wait(&mut self, node: u32, thread: Option<u32>, nanoseconds: u64) {
        let value = self.values.entry(self.spot(node, thread)).or_default();
        value.off_ns = value.off_ns.saturating_add(nanoseconds);
    }

    /// Adds time at a place in which it was runnable and had no CPU.
    pub(crate) fn delay(&mut self, node: u32, thread: Option<u32>, nanoseconds: u64) {
        let value = self.values.entry(self.spot(node, thread)).or_default();
        value.delay_ns = value.delay_ns.saturating_add(nanoseconds);
    }

    /// A function of the kernel that waits; nothing where there are too many.
    pub(crate) fn waits(&mut self, name: &str) -> Option<Code> {
        let known = self.names.iter().position(|known| known == name);
        if known.is_none() && self.names.len() < WAITS_MAX {
            self.names.push(name.to_owned());
        }
        let at = known.or_else(|| self.names.len().checked_sub(1).filter(|at| self.names[*at] == name))?;
        Some(Code::Waits(u16::try_from(at).ok()?))
    }

    /// The place of a stack; nothing only where there is no room for the first of all.
    pub(crate) fn place(&mut self, innermost_first: &[Code]) -> Option<u32> {
        let mut at = ROOT;
        for code in innermost_first.iter().rev() {
            match self.node(at, *code) {
                Some(node) => at = node,
                None => {
                    self.cut += 1;
                    break;
                }
            }
        }
        if at == ROOT { self.root() } else { Some(at) }
    }

    fn spot(&self, at: u32, thread: Option<u32>) -> Spot {
        let thread = thread.unwrap_or(ANY_THREAD);
        let is_full = self.values.len() >= VALUES_MAX && !self.values.contains_key(&(at, thread));
        // One without a thread fits for every node: so there are at most as many more.
        (at, if is_full { ANY_THREAD } else { thread })
    }

    /// The root of stacks without any frame, or without room for one.
    fn root(&mut self) -> Option<u32> {
        self.node(ROOT, Code::Cut).or_else(|| self.index.get(&Node { caller: ROOT, code: Code::Cut }).copied())
    }

    fn node(&mut self, caller: u32, code: Code) -> Option<u32> {
        let node = Node { caller, code };
        if let Some(index) = self.index.get(&node) {
            return Some(*index);
        }
        // The last place is that of stacks for which there is no room at all.
        if self.nodes.len() >= NODES_MAX - usize::from(code != Code::Cut) {
            return None;
        }
        let index = self.nodes.len() as u32;
        self.nodes.push(node);
        self.index.insert(node, index);
        Some(index)
    }

    /// Gives the index back: nothing more is added.
    pub(crate) fn close(&mut self) {
        self.index = HashMap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::{Code, NODES_MAX, Stacks, Value};

    fn kernel(addresses: impl IntoIterator<Item = u64>) -> Vec<Code> {
        addresses.into_iter().map(Code::Kernel).collect()
    }

    #[test]
    fn a_path_is_in_the_tree_once() {
        let mut stacks = Stacks::default();
        stacks.add(&kernel([3, 2, 1]), Some(0), 10);
        stacks.add(&kernel([3, 2, 1]), Some(0), 5);
        stacks.add(&kernel([4, 2, 1]), None, 1);
        assert_eq!(stacks.nodes.len(), 4);
        assert_eq!(stacks.values[&(2, 0)], Value { samples: 2, weight: 15, ..Value::default() });
    }

    #[test]
    fn what_does_not_fit_is_counted_where_it_ends() {
        let mut stacks = Stacks::default();
        for number in 0..NODES_MAX as u64 + 100 {
            stacks.add(&kernel([number, 7]), Some(0), 1);
        }
        assert_eq!(stacks.nodes.len(), NODES_MAX - 1);
        assert_eq!(stacks.cut, 102);
        stacks.add(&kernel([1 << 40]), Some(0), 1);
        assert_eq!(
            stacks.values.values().map(|value| value.samples).sum::<u64>(),
            NODES_MAX as u64 + 101,
            "none is lost"
        );
        assert_eq!(stacks.nodes.len(), NODES_MAX);
    }
}
