//! What text, pictures and comparisons are made of: stacks merged by function, with what each took itself and in all.
//!
//! Two frames are one function if their name and the file name of their module are the same, whatever their line or
//! address is. Names are shared by the trees of two profiles, so that they can be compared.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::model::intern::Interner;
use crate::model::profile::{Frame, Origin, Profile};

/// The functions of one or more profiles, by number. Their names stay in the profiles, which may have millions.
#[derive(Debug, Default)]
pub(crate) struct Names<'a> {
    profiles: Vec<&'a Profile>,
    labels: Vec<String>,
    all: Vec<Source>,
    known: Interner,
}

/// Where the name of a function is.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// What the root of a tree is called: the first.
    Root,
    Label(u32),
    Frame {
        profile: u16,
        frame: u32,
    },
}

/// A function as people know it. Whose code it is makes no other of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function<'a> {
    /// As the profile has it: hostile.
    pub(crate) name: &'a str,
    /// File name of its module, hostile; empty where there is none.
    pub(crate) module: &'a str,
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
    /// Totals in the profile it is compared with; empty where it is compared with none.
    before: Vec<u64>,
    /// Finds places by caller and function.
    children: HashTable<u32>,
    hasher: DefaultHashBuilder,
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
    /// What it took itself.
    pub(crate) own: u64,
    /// What it took with all that it called.
    pub(crate) total: u64,
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

impl PartialEq for Function<'_> {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.module) == (&other.name, &other.module)
    }
}

impl Eq for Function<'_> {}

impl Hash for Function<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.name, &self.module).hash(state);
    }
}

impl<'a> Names<'a> {
    /// With the name of the root only.
    pub(crate) fn new() -> Self {
        Self { all: vec![Source::Root], ..Self::default() }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// One of them.
    pub(crate) fn get(&self, function: u32) -> Function<'_> {
        let label = |name| Function { name, module: "", origin: Origin::Label };
        match self.all.get(function as usize) {
            None | Some(Source::Root) => label("all"),
            Some(Source::Label(at)) => label(self.labels.get(*at as usize).map_or("", String::as_str)),
            Some(Source::Frame { profile, frame }) => {
                let profile = self.profiles[usize::from(*profile)];
                function_of(profile, profile.frames.get(*frame).unwrap_or_default())
            }
        }
    }

    /// The function of each frame of a profile.
    pub(crate) fn of(&mut self, profile: &'a Profile) -> Vec<u32> {
        let place = self.profiles.iter().position(|known| std::ptr::eq(*known, profile)).unwrap_or_else(|| {
            self.profiles.push(profile);
            self.profiles.len() - 1
        });
        let source = |frame| Source::Frame { profile: place as u16, frame };
        (0..profile.frames.len() as u32).map(|frame| self.index(source(frame))).collect()
    }

    fn label(&mut self, label: String) -> u32 {
        self.labels.push(label);
        self.index(Source::Label(self.labels.len() as u32 - 1))
    }

    fn index(&mut self, source: Source) -> u32 {
        let mut known = std::mem::take(&mut self.known);
        // As if it were the next, so that it can be looked at as the others are.
        self.all.push(source);
        let next = self.all.len() - 1;
        let at = known.index(self.get(next as u32), next, |at| self.get(at));
        if (at as usize) < next {
            self.all.pop();
        }
        self.known = known;
        at
    }
}

fn function_of<'a>(profile: &'a Profile, frame: Frame<'a>) -> Function<'a> {
    let module = frame.module.and_then(|module| profile.modules.get(module as usize));
    let module = module.map_or("", |module| file_name(&module.path));
    Function { name: frame.name, module, origin: frame.origin }
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
    fn new(function: u32, caller: u32, is_inlined: bool) -> Self {
        Self { function, caller, own: 0, total: 0, is_inlined, first: NONE, last: NONE, next: NONE }
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
    pub(crate) fn of<'a>(profile: &'a Profile, kind: usize, roots: Roots, names: &mut Names<'a>) -> Self {
        let mut tree = Self::new();
        tree.add(profile, kind, roots, Side::Now, names);
        tree
    }

    /// A root and nothing else.
    pub(crate) fn new() -> Self {
        let (children, hasher) = (HashTable::new(), DefaultHashBuilder::default());
        Self { places: vec![Place::new(0, 0, false)], before: Vec::new(), children, hasher }
    }

    /// Adds the rows of one kind of a profile, once for each side.
    pub(crate) fn add<'a>(
        &mut self,
        profile: &'a Profile,
        kind: usize,
        roots: Roots,
        side: Side,
        names: &mut Names<'a>,
    ) {
        let functions = names.of(profile);
        // A node below the labels of a thread is another place than below those of another.
        let mut starts: HashMap<Option<u32>, u32> = HashMap::new();
        let mut places: HashMap<(u32, u32), u32> = HashMap::new();
        // Below the root itself, which is the usual case, a table is faster.
        let mut below_root: Vec<u32> = vec![NONE; profile.nodes.len()];
        let mut path: Vec<u32> = Vec::new();
        let mut values = vec![0u64; self.places.len()];
        for row in profile.rows.iter() {
            let value = row.values.get(kind).copied().unwrap_or(0);
            if value == 0 {
                continue;
            }
            let thread = if roots == Roots::Code { None } else { row.thread };
            let start = *starts.entry(thread).or_insert_with(|| {
                labels(profile, thread, roots).into_iter().fold(0, |caller, label| {
                    let function = names.label(label);
                    self.place(caller, function, false)
                })
            });
            path.clear();
            let (mut next, mut place) = (Some(row.node), start);
            while let Some(node) = next {
                let known = match start {
                    0 => below_root.get(node as usize).copied().filter(|place| *place != NONE),
                    start => places.get(&(start, node)).copied(),
                };
                if let Some(known) = known {
                    place = known;
                    break;
                }
                path.push(node);
                next = profile.nodes.get(node as usize).and_then(|node| node.caller()).filter(|caller| *caller < node);
            }
            for node in path.iter().rev() {
                let Some(frame) = profile.nodes.get(*node as usize).map(|node| node.frame) else { continue };
                let known = functions.get(frame as usize).zip(profile.frames.get(frame));
                let Some((function, frame)) = known else { continue };
                // Functions of which only the module is known are one: how they call each other says nothing.
                let is_same = self.places[place as usize].function == *function;
                if !(is_same && frame.name.starts_with('[')) {
                    place = self.place(place, *function, frame.is_inlined);
                }
                match start {
                    0 => below_root[*node as usize] = place,
                    start => _ = places.insert((start, *node), place),
                }
            }
            values.resize(self.places.len(), 0);
            values[place as usize] = values[place as usize].saturating_add(value);
        }
        values.resize(self.places.len(), 0);
        self.fill(values, side);
    }

    /// What a place took with all that it called in the profile it is compared with.
    pub(crate) fn before(&self, place: u32) -> u64 {
        self.before.get(place as usize).copied().unwrap_or(0)
    }

    /// The root's total.
    pub(crate) fn total(&self) -> u64 {
        self.places[0].total
    }

    /// What each function took, those that took most themselves first.
    pub(crate) fn shares(&self, names: &Names<'_>) -> Vec<Share> {
        let mut shares: Vec<Share> =
            (0..names.len() as u32).map(|function| Share { function, own: 0, total: 0 }).collect();
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
            let name = |share: &Share| names.get(share.function).name;
            (b.own, b.total).cmp(&(a.own, a.total)).then_with(|| name(a).cmp(name(b)))
        });
        shares
    }

    /// What each function of a script took, where an interpreter runs it: itself with all the native code between it and
    /// the next one that it called, and in all. Nothing where no script was run so. Those that took most themselves first.
    pub(crate) fn script(&self, names: &Names<'_>) -> Vec<Share> {
        let is_script = |place: &Place| names.get(place.function).origin == Origin::Jit;
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
        let name = |share: &Share| names.get(share.function).name;
        shares.sort_by(|a, b| (b.own, b.total).cmp(&(a.own, a.total)).then_with(|| name(a).cmp(name(b))));
        shares
    }

    fn place(&mut self, caller: u32, function: u32, is_inlined: bool) -> u32 {
        let Self { places, children, hasher, .. } = self;
        let key = |at: &u32| (places[*at as usize].caller, places[*at as usize].function);
        let hash = hasher.hash_one((caller, function));
        let known = children.find(hash, |at| key(at) == (caller, function)).copied();
        let place = known.unwrap_or_else(|| {
            let place = places.len() as u32;
            children.insert_unique(hash, place, |at| {
                hasher.hash_one(if *at == place { (caller, function) } else { key(at) })
            });
            place
        });
        if known.is_none() {
            let before = std::mem::replace(&mut self.places[caller as usize].last, place);
            match self.places.get_mut(before as usize) {
                Some(before) => before.next = place,
                None => self.places[caller as usize].first = place,
            }
            self.places.push(Place::new(function, caller, is_inlined));
        }
        self.places[place as usize].is_inlined &= is_inlined;
        place
    }

    fn fill(&mut self, mut totals: Vec<u64>, side: Side) {
        if side == Side::Now {
            for (place, own) in self.places.iter_mut().zip(&totals) {
                place.own = place.own.saturating_add(*own);
            }
        } else {
            self.before.resize(totals.len(), 0);
        }
        for at in (0..totals.len()).rev() {
            let place = &mut self.places[at];
            let total = match side {
                Side::Now => &mut place.total,
                Side::Before => &mut self.before[at],
            };
            *total = total.saturating_add(totals[at]);
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

    fn named(names: &Names<'_>, shares: &[Share]) -> Vec<(String, u64, u64)> {
        shares.iter().map(|s| (names.get(s.function).name.to_owned(), s.own, s.total)).collect()
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
        let callers: Vec<u32> = tree.places.iter().map(|place| place.caller).collect();
        assert_eq!(callers, [0, 0, 1, 2]);
    }

    /// Regression: no function of a Python script was in a table by self time, which all is the interpreter's.
    #[test]
    fn functions_of_a_script_take_what_the_interpreter_takes_for_them() {
        let whole = [
            ("main;eval;py::outer;eval;py::inner;eval;add", 60),
            ("main;eval;py::outer;eval;py::inner;eval;py::inner;eval", 20),
            ("main;eval;py::outer;eval", 10),
            ("main;gc", 10),
        ];
        let profile = sample::of(&whole);
        let mut names = Names::new();
        let tree = Tree::of(&profile, 0, Roots::Code, &mut names);
        let found = named(&names, &tree.script(&names));
        let expected =
            [("py::inner", 80, 80), ("py::outer", 10, 90)].map(|(name, own, all)| (name.to_owned(), own, all));
        assert_eq!(found, expected);
        // Code of a compiler has its own time.
        let mut names = Names::new();
        let jitted = sample::of(&[("main;py::jitted", 5)]);
        let tree = Tree::of(&jitted, 0, Roots::Code, &mut names);
        assert_eq!(tree.script(&names), []);
    }

    #[test]
    fn labels_stand_outside() {
        let profile = sample::rich();
        let mut names = Names::new();
        let tree = Tree::of(&profile, 0, Roots::Thread, &mut names);
        let outer: Vec<_> = tree.calls(0).map(|at| names.get(tree.places[at as usize].function).name).collect();
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
