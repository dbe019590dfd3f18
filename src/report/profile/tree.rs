//! What text, pictures and comparisons are made of: stacks merged by function, with what each took itself and in all.
//!
//! Two frames are one function if their name and the file name of their module are the same, whatever their line or
//! address is. Names are shared by the trees of two profiles, so that they can be compared.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use crate::model::intern::Interner;
use crate::model::profile::{Frame, Origin, Profile};

/// The functions of one or more profiles.
#[derive(Debug)]
pub(crate) struct Names {
    /// The first is what the root of a tree is called.
    pub(crate) all: Vec<Function>,
    known: Interner,
}

/// A function as people know it. Whose code it is makes no other of it.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    /// As the profile has it: hostile.
    pub(crate) name: String,
    /// File name of its module, hostile; empty where there is none.
    pub(crate) module: String,
    /// Whose code it is.
    pub(crate) origin: Origin,
}

/// What stands outside of the stacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Roots {
    /// Nothing: all threads are one.
    #[default]
    Code,
    /// The process.
    Process,
    /// The process, and in it the thread.
    Thread,
    /// The task of an apm run, or else the process.
    Task,
}

/// Which of two profiles is added to a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one that is shown.
    Now,
    /// The one it is compared with.
    Before,
}

/// Stacks merged by function. The first place is the root; a caller comes before what it calls.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) places: Vec<Place>,
    children: hashbrown::HashMap<(u32, u32), u32>,
}

/// Share of what functions made at run time took with all below them, from which on they are compiled code: of an
/// interpreter's they take next to nothing.
const COMPILED: f64 = 0.1;
/// Share of the whole that a script took, below which it is not worth a table.
const SCRIPT_MIN: f64 = 0.05;
/// No place.
const NONE: u32 = u32::MAX;

/// A function where it was called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Index into [`Names::all`].
    pub(crate) function: u32,
    /// Index into [`Tree::places`], its own at the root.
    pub(crate) caller: u32,
    /// Callers between it and the root, the root included.
    pub(crate) depth: u32,
    /// What it took itself.
    pub(crate) own: u64,
    /// What it took with all that it called.
    pub(crate) total: u64,
    /// The same in the profile it is compared with.
    pub(crate) before: u64,
    /// Whether the compiler put it into its caller wherever it was seen here.
    pub(crate) is_inlined: bool,
    /// The first and the last that it called, and the next that its caller called: a list each would be most of the memory.
    first: u32,
    last: u32,
    next: u32,
}

/// What a function took wherever it was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Index into [`Names::all`].
    pub(crate) function: u32,
    /// Itself.
    pub(crate) own: u64,
    /// With what it called; once where it called itself.
    pub(crate) total: u64,
}

/// The file name of a module's path.
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.module) == (&other.name, &other.module)
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.name, &self.module).hash(state);
    }
}

impl Names {
    /// With the name of the root only.
    pub(crate) fn new() -> Self {
        let root = Function { name: "all".to_owned(), module: String::new(), origin: Origin::Label };
        Self { all: vec![root], known: Interner::default() }
    }

    /// The function of each frame of a profile.
    pub(crate) fn of(&mut self, profile: &Profile) -> Vec<u32> {
        profile.frames.iter().map(|frame| self.function(profile, frame)).collect()
    }

    fn function(&mut self, profile: &Profile, frame: &Frame) -> u32 {
        let module = frame.module.and_then(|module| profile.modules.get(module as usize));
        let module = module.map_or("", |module| file_name(&module.path));
        self.index(&frame.name, module, frame.origin)
    }

    fn index(&mut self, name: &str, module: &str, origin: Origin) -> u32 {
        let function = Function { name: name.to_owned(), module: module.to_owned(), origin };
        self.known.index(&mut self.all, function)
    }
}

/// The labels of a thread, the outermost first.
pub(crate) fn labels(profile: &Profile, thread: Option<u32>, roots: Roots) -> Vec<String> {
    let Some(thread) = thread.and_then(|thread| profile.threads.get(thread as usize)) else { return Vec::new() };
    let process = format!("{} ({})", thread.process, thread.pid);
    match (roots, &thread.task) {
        (Roots::Code, _) => Vec::new(),
        (Roots::Task, Some(task)) => vec![task.clone()],
        (Roots::Process | Roots::Task, _) => vec![process],
        (Roots::Thread, _) => vec![process, format!("{} ({})", thread.name, thread.tid)],
    }
}

impl Place {
    fn new(function: u32, caller: u32, depth: u32, is_inlined: bool) -> Self {
        let (own, total, before) = (0, 0, 0);
        Self { function, caller, depth, own, total, before, is_inlined, first: NONE, last: NONE, next: NONE }
    }
}

impl Tree {
    /// What a place called, in the order in which it was seen.
    pub(crate) fn calls(&self, place: u32) -> impl Iterator<Item = u32> {
        let first = self.places.get(place as usize).map(|place| place.first);
        std::iter::successors(first, |at| self.places.get(*at as usize).map(|place| place.next))
            .take_while(|at| *at != NONE)
    }

    /// Of one kind of one profile.
    pub(crate) fn of(profile: &Profile, kind: usize, roots: Roots, names: &mut Names) -> Self {
        let mut tree = Self::new();
        tree.add(profile, kind, roots, Side::Now, names);
        tree
    }

    /// A root and nothing else.
    pub(crate) fn new() -> Self {
        Self { places: vec![Place::new(0, 0, 0, false)], children: hashbrown::HashMap::new() }
    }

    /// Adds the rows of one kind of a profile, once for each side.
    pub(crate) fn add(&mut self, profile: &Profile, kind: usize, roots: Roots, side: Side, names: &mut Names) {
        let functions = names.of(profile);
        // A node below the labels of a thread is another place than below those of another.
        let mut starts: HashMap<Option<u32>, u32> = HashMap::new();
        let mut places: HashMap<(u32, u32), u32> = HashMap::new();
        // Below the root itself, which is the usual case, a table is faster.
        let mut below_root: Vec<Option<u32>> = vec![None; profile.nodes.len()];
        let mut path: Vec<u32> = Vec::new();
        let mut values = vec![0u64; self.places.len()];
        for row in &profile.rows {
            let value = row.values.get(kind).copied().unwrap_or(0);
            if value == 0 {
                continue;
            }
            let thread = if roots == Roots::Code { None } else { row.thread };
            let start = *starts.entry(thread).or_insert_with(|| {
                labels(profile, thread, roots).iter().fold(0, |caller, label| {
                    let function = names.index(label, "", Origin::Label);
                    self.place(caller, function, false)
                })
            });
            path.clear();
            let (mut next, mut place) = (Some(row.node), start);
            while let Some(node) = next {
                let known = match start {
                    0 => below_root.get(node as usize).copied().flatten(),
                    start => places.get(&(start, node)).copied(),
                };
                if let Some(known) = known {
                    place = known;
                    break;
                }
                path.push(node);
                next = profile.nodes.get(node as usize).and_then(|node| node.caller).filter(|caller| *caller < node);
            }
            for node in path.iter().rev() {
                let Some(frame) = profile.nodes.get(*node as usize).map(|node| node.frame as usize) else { continue };
                let (Some(function), Some(frame)) = (functions.get(frame), profile.frames.get(frame)) else { continue };
                // Functions of which only the module is known are one: how they call each other says nothing.
                let is_same = self.places[place as usize].function == *function;
                if !(is_same && frame.name.starts_with('[')) {
                    place = self.place(place, *function, frame.is_inlined);
                }
                match start {
                    0 => below_root[*node as usize] = Some(place),
                    start => _ = places.insert((start, *node), place),
                }
            }
            values.resize(self.places.len(), 0);
            values[place as usize] = values[place as usize].saturating_add(value);
        }
        values.resize(self.places.len(), 0);
        self.fill(values, side);
    }

    /// The root's total.
    pub(crate) fn total(&self) -> u64 {
        self.places[0].total
    }

    /// What each function took, those that took most themselves first.
    pub(crate) fn shares(&self, names: &Names) -> Vec<Share> {
        let mut shares: Vec<Share> =
            (0..names.all.len() as u32).map(|function| Share { function, own: 0, total: 0 }).collect();
        // How often each function is on the path to where the walk is: stacks are as deep as a file says, so no recursion.
        let mut open = vec![0u32; shares.len()];
        // A place, and what is next of what it called; nothing where it was not entered yet.
        let mut walk: Vec<(u32, Option<u32>)> = vec![(0, None)];
        while let Some((at, next)) = walk.last_mut() {
            let place = &self.places[*at as usize];
            let function = place.function as usize;
            if next.is_none() {
                shares[function].own = shares[function].own.saturating_add(place.own);
                if open[function] == 0 {
                    shares[function].total = shares[function].total.saturating_add(place.total);
                }
                open[function] += 1;
            }
            let called = next.unwrap_or(place.first);
            match self.places.get(called as usize) {
                Some(place) => {
                    *next = Some(place.next);
                    walk.push((called, None));
                }
                None => {
                    open[function] -= 1;
                    walk.pop();
                }
            }
        }
        // The root is no function.
        shares.swap_remove(0);
        shares.retain(|share| share.total > 0);
        shares.sort_by(|a, b| {
            let name = |share: &Share| &names.all[share.function as usize].name;
            (b.own, b.total).cmp(&(a.own, a.total)).then_with(|| name(a).cmp(name(b)))
        });
        shares
    }

    /// What each function of a script took, where an interpreter runs it: itself with all the native code between it and
    /// the next one that it called, and in all. Nothing where no script was run so. Those that took most themselves first.
    pub(crate) fn script(&self, names: &Names) -> Vec<Share> {
        let is_script = |place: &Place| names.all[place.function as usize].origin == Origin::Jit;
        // Code that a compiler made takes its time itself; what an interpreter runs only calls the interpreter.
        let own: u64 =
            self.places.iter().filter(|place| is_script(place)).fold(0, |sum, it| sum.saturating_add(it.own));
        let mut shares: HashMap<u32, Share> = HashMap::new();
        // How often each function of the script is on the path, and which they are, the innermost last.
        let mut open: HashMap<u32, u32> = HashMap::new();
        let mut path: Vec<u32> = Vec::new();
        let mut walk: Vec<(u32, Option<u32>)> = vec![(0, None)];
        while let Some((at, next)) = walk.last_mut() {
            let place = &self.places[*at as usize];
            let function = place.function;
            if next.is_none() {
                if is_script(place) {
                    path.push(function);
                    let times = open.entry(function).or_default();
                    let share = shares.entry(function).or_insert(Share { function, own: 0, total: 0 });
                    if *times == 0 {
                        share.total = share.total.saturating_add(place.total);
                    }
                    *times += 1;
                }
                if let Some(share) = path.last().and_then(|innermost| shares.get_mut(innermost)) {
                    share.own = share.own.saturating_add(place.own);
                }
            }
            let called = next.unwrap_or(place.first);
            match self.places.get(called as usize) {
                Some(below) => {
                    *next = Some(below.next);
                    walk.push((called, None));
                }
                None => {
                    if is_script(place) {
                        path.pop();
                        open.entry(function).and_modify(|times| *times -= 1);
                    }
                    walk.pop();
                }
            }
        }
        let mut shares: Vec<Share> = shares.into_values().filter(|share| share.total > 0).collect();
        let all = shares.iter().fold(0u64, |sum, share| sum.saturating_add(share.own));
        if own as f64 > all as f64 * COMPILED || (all as f64) < self.total() as f64 * SCRIPT_MIN {
            return Vec::new();
        }
        let name = |share: &Share| &names.all[share.function as usize].name;
        shares.sort_by(|a, b| (b.own, b.total).cmp(&(a.own, a.total)).then_with(|| name(a).cmp(name(b))));
        shares
    }

    fn place(&mut self, caller: u32, function: u32, is_inlined: bool) -> u32 {
        let next = self.places.len() as u32;
        let place = *self.children.entry((caller, function)).or_insert(next);
        if place == next {
            let depth = self.places[caller as usize].depth + 1;
            let before = std::mem::replace(&mut self.places[caller as usize].last, place);
            match self.places.get_mut(before as usize) {
                Some(before) => before.next = place,
                None => self.places[caller as usize].first = place,
            }
            self.places.push(Place::new(function, caller, depth, is_inlined));
        }
        self.places[place as usize].is_inlined &= is_inlined;
        place
    }

    fn fill(&mut self, mut totals: Vec<u64>, side: Side) {
        if side == Side::Now {
            for (place, own) in self.places.iter_mut().zip(&totals) {
                place.own = place.own.saturating_add(*own);
            }
        }
        for at in (0..totals.len()).rev() {
            let place = &mut self.places[at];
            match side {
                Side::Now => place.total = place.total.saturating_add(totals[at]),
                Side::Before => place.before = place.before.saturating_add(totals[at]),
            }
            if at > 0 {
                let caller = place.caller as usize;
                totals[caller] = totals[caller].saturating_add(totals[at]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Names, Roots, Share, Tree};
    use crate::report::profile::sample;

    fn named(names: &Names, shares: &[Share]) -> Vec<(String, u64, u64)> {
        shares.iter().map(|s| (names.all[s.function as usize].name.clone(), s.own, s.total)).collect()
    }

    #[test]
    fn recursion_counts_once() {
        let profile = sample::of(&[("main;f;f;g", 3), ("main;f", 2), ("main;f;g;f", 1), ("h", 0)]);
        let mut names = Names::new();
        let tree = Tree::of(&profile, 0, Roots::Code, &mut names);
        let found = named(&names, &tree.shares(&names));
        let expected = [("f", 3, 6), ("g", 3, 4), ("main", 0, 6)].map(|(name, own, all)| (name.to_owned(), own, all));
        assert_eq!(found, expected);
        assert_eq!(tree.total(), 6);
    }

    #[test]
    fn nameless_functions_that_call_each_other_are_one() {
        let profile = sample::of(&[("main;[libz.so.1];[libz.so.1];f", 1), ("main;[libz.so.1]", 1)]);
        let mut names = Names::new();
        let tree = Tree::of(&profile, 0, Roots::Code, &mut names);
        let depths: Vec<u32> = tree.places.iter().map(|place| place.depth).collect();
        assert_eq!(depths, [0, 1, 2, 3]);
    }

    /// Regression: no function of a Python script was in a table by self time, which all is the interpreter's.
    #[test]
    fn functions_of_a_script_take_what_the_interpreter_takes_for_them() {
        let stack = |text: &str, value| {
            let mut profile = sample::of(&[(text, value)]);
            for frame in profile.frames.iter_mut().filter(|frame| frame.name.starts_with("py::")) {
                frame.origin = crate::model::profile::Origin::Jit;
            }
            profile
        };
        let whole = [
            ("main;eval;py::outer;eval;py::inner;eval;add", 60),
            ("main;eval;py::outer;eval;py::inner;eval;py::inner;eval", 20),
            ("main;eval;py::outer;eval", 10),
            ("main;gc", 10),
        ];
        let mut names = Names::new();
        let mut tree = Tree::new();
        for (text, value) in whole {
            tree.add(&stack(text, value), 0, Roots::Code, super::Side::Now, &mut names);
        }
        let found = named(&names, &tree.script(&names));
        let expected =
            [("py::inner", 80, 80), ("py::outer", 10, 90)].map(|(name, own, all)| (name.to_owned(), own, all));
        assert_eq!(found, expected);
        // Code of a compiler has its own time.
        let mut names = Names::new();
        let tree = Tree::of(&stack("main;py::jitted", 5), 0, Roots::Code, &mut names);
        assert_eq!(tree.script(&names), []);
    }

    #[test]
    fn labels_stand_outside() {
        let profile = sample::rich();
        let mut names = Names::new();
        let tree = Tree::of(&profile, 0, Roots::Thread, &mut names);
        let outer: Vec<_> =
            tree.calls(0).map(|at| &*names.all[tree.places[at as usize].function as usize].name).collect();
        assert_eq!(outer, ["server (10)"]);
        assert_eq!(tree.total(), profile.total(0));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_panics(profile in sample::any_profile()) {
            for kind in 0..profile.kinds.len() {
                let mut names = Names::new();
                let tree = Tree::of(&profile, kind, Roots::Task, &mut names);
                prop_assert_eq!(tree.total(), profile.total(kind));
                let own = tree.shares(&names).iter().fold(0u64, |sum, share| sum.saturating_add(share.own));
                prop_assert_eq!(own.saturating_add(tree.places[0].own), profile.total(kind));
            }
        }
    }
}
