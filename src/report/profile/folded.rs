//! Folded stacks, the format of FlameGraph's and inferno's tools: a line for each stack, `outer;inner 12`.
//!
//! The format has no escapes: a semicolon or line break in a name becomes `:` or a blank. Marks of stackcollapse-perf after
//! a name are read: `_[k]` kernel, `_[i]` inlined, `_[j]` made at run time (also async-profiler's `_[0]` interpreted and
//! `_[1]` compiled by C1); they are written on demand, because most readers
//! take them for a part of the name.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Write};

use crate::model::intern::Interner;
use crate::model::profile::{Builder, Frame, Kind, Node, Origin, Profile, Texts, Unit};
use crate::report::profile::delta;
use crate::report::profile::tree::{Roots, labels};
use crate::text::lines::Lines;
use crate::text::{number, transcript};

/// How stacks are written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Form {
    /// What stands outside of the stacks.
    pub(crate) roots: Roots,
    /// With the marks of stackcollapse-perf.
    pub(crate) is_marked: bool,
}

/// What a line is wrong in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is no folded stack: {why}")]
pub(crate) struct FoldedError {
    /// From 1.
    pub(crate) line: usize,
    pub(crate) why: &'static str,
}

/// Writes one kind, sorted by stack from the outermost on, values of equal stacks summed.
pub(crate) fn write(profile: &Profile, kind: usize, form: Form, out: &mut dyn Write) -> io::Result<()> {
    let mut stacks = Stacks::default();
    let names: Vec<u32> = profile.frames.iter().map(|it| stacks.name(&name(it, form.is_marked))).collect();
    // Stacks are shared by what is called from them, so that each is made once below the labels of each thread.
    let mut starts: HashMap<Option<u32>, Option<u32>> = HashMap::new();
    let mut below_labels: HashMap<(Option<u32>, u32), u32> = HashMap::new();
    let mut below_nothing: Vec<Option<u32>> =
        vec![None; if form.roots == Roots::Code { profile.nodes.len() } else { 0 }];
    let mut path = Vec::new();
    for row in profile.rows.iter() {
        let value = row.values.get(kind).copied().unwrap_or(0);
        if value == 0 {
            continue;
        }
        let thread = if form.roots == Roots::Code { None } else { row.thread };
        let start = *starts.entry(thread).or_insert_with(|| {
            labels(profile, thread, form.roots).iter().fold(None, |caller, label| {
                let name = stacks.name(&plain(label));
                Some(stacks.node(caller, name))
            })
        });
        path.clear();
        let (mut next, mut stack) = (Some(row.node), start);
        while let Some(at) = next {
            let known = match below_nothing.get(at as usize) {
                Some(known) => *known,
                None => below_labels.get(&(start, at)).copied(),
            };
            if known.is_some() {
                stack = known;
                break;
            }
            path.push(at);
            next = profile.nodes.get(at as usize).and_then(|node| node.caller()).filter(|caller| *caller < at);
        }
        for at in path.iter().rev() {
            let Some(name) = profile.nodes.get(*at as usize).and_then(|node| names.get(node.frame as usize)) else {
                continue;
            };
            let node = stacks.node(stack, *name);
            stack = Some(node);
            match below_nothing.get_mut(*at as usize) {
                Some(known) => *known = stack,
                None => _ = below_labels.insert((start, *at), node),
            }
        }
        if let Some(sum) = stack.and_then(|stack| stacks.values.get_mut(stack as usize)) {
            *sum = sum.saturating_add(value);
        }
    }
    drop((names, starts, below_labels, below_nothing));
    transcript::print(out, |out| stacks.write(out))
}

/// Stacks of names as they are written.
#[derive(Default)]
struct Stacks {
    names: Texts,
    known: Interner,
    nodes: Vec<Node>,
    known_nodes: Interner,
    /// Of each node.
    values: Vec<u64>,
}

impl Stacks {
    fn name(&mut self, name: &str) -> u32 {
        self.names.index(&mut self.known, name)
    }

    fn node(&mut self, caller: Option<u32>, name: u32) -> u32 {
        let (nodes, next) = (&self.nodes, self.nodes.len());
        let node = Node::new(caller, name);
        let at = self.known_nodes.index(node, next, |at| nodes[at as usize]);
        if at as usize == next {
            self.nodes.push(node);
            self.values.push(0);
        }
        at
    }

    fn write(self, out: &mut dyn Write) -> io::Result<()> {
        let Self { names, nodes, values, .. } = self;
        let mut sorted: Vec<u32> = (0..names.len() as u32).collect();
        sorted.sort_unstable_by_key(|name| names.get(*name));
        let mut ranks = vec![0_u32; names.len()];
        (0..).zip(&sorted).for_each(|(rank, name)| ranks[*name as usize] = rank);
        // What each node called stands in one range: those of the root, which is called `0`, come first.
        let key = |at: &u32| {
            let node = nodes[*at as usize];
            (node.caller().map_or(0, |caller| caller + 1), ranks[node.frame as usize])
        };
        let mut order = sorted;
        order.clear();
        order.extend(0..nodes.len() as u32);
        order.sort_unstable_by_key(key);
        let mut starts = vec![0_u32; nodes.len() + 2];
        order.iter().for_each(|at| starts[key(at).0 as usize + 1] += 1);
        (1..starts.len()).for_each(|at| starts[at] += starts[at - 1]);
        let range = |caller: u32| (starts[caller as usize], starts[caller as usize + 1]);
        // Of each function on the path what is left beside it, and how long the text is without it.
        let mut walk = vec![(range(0), 0)];
        let mut text = String::new();
        while let Some(((next, end), length)) = walk.last_mut() {
            text.truncate(*length);
            if next == end {
                walk.pop();
                continue;
            }
            let at = order[*next as usize];
            *next += 1;
            if !text.is_empty() {
                text.push(';');
            }
            text.push_str(names.get(nodes[at as usize].frame));
            if values[at as usize] > 0 {
                writeln!(out, "{text} {}", values[at as usize])?;
            }
            let length = text.len();
            walk.push((range(at + 1), length));
        }
        Ok(())
    }
}

fn name(frame: Frame<'_>, is_marked: bool) -> String {
    let mark = match frame.origin {
        _ if !is_marked => "",
        Origin::Kernel => "_[k]",
        _ if frame.is_inlined => "_[i]",
        Origin::Jit => "_[j]",
        _ => "",
    };
    format!("{}{mark}", plain(frame.name))
}

fn plain(name: &str) -> String {
    let clean = transcript::line(name).replace(';', ":");
    match clean.trim() {
        "" => "[unknown]".to_owned(),
        clean => clean.to_owned(),
    }
}

/// Reads folded stacks. Names may hold blanks; the value is what stands behind the last one. Lines that are no stacks are
/// counted and reported, as long as there are more that are.
pub(crate) fn read(text: Lines) -> Result<Profile, FoldedError> {
    let form = Values::of(text.iter().filter_map(|line| split(line.trim()).ok()));
    // Not "samples": they may be nanoseconds as well, and then a test against chance would be sure of everything.
    let names: &[&str] = if form.is_pair { &["after", "before"] } else { &["weight"] };
    let name = |name: &&str| format!("{name}{}", form.unit());
    let kinds: Vec<Kind> = names.iter().map(|one| Kind { name: name(one), unit: Unit::Count }).collect();
    let mut builder = delta::builder(&kinds);
    let mut odd = Odd::default();
    text.consume(|at, line, _| {
        let line = line.trim();
        let (stack, value) = match split(line) {
            Ok(found) => found,
            // A remark; a function may be called so too, but then a value follows.
            Err(_) if line.starts_with('#') || line.is_empty() => return Ok(()),
            Err(why) => {
                odd.add(at, why);
                return Ok(());
            }
        };
        let (stack, values) = form.values(stack, value);
        let mut node = None;
        for part in stack.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let frame = frame(part, &mut builder);
            node = Some(builder.node(node, frame));
        }
        let Some(node) = node else {
            odd.add(at, "it has no names");
            return Ok(());
        };
        odd.good += 1;
        for (kind, value) in values.iter().enumerate().take(kinds.len()) {
            delta::add(&mut builder, [kind, kinds.len()], node, None, *value);
        }
        Ok(())
    })?;
    let note = odd.judged()?;
    let mut profile = delta::close(builder);
    profile.quality.is_foreign = true;
    profile.quality.notes.extend(note);
    if form.is_pair {
        profile.quality.notes.push("two values a line, as difffolded.pl writes: `before` and `after`".to_owned());
    }
    Ok(profile)
}

/// Lines that are no stacks.
#[derive(Default)]
struct Odd {
    good: usize,
    count: usize,
    first: Option<FoldedError>,
}

impl Odd {
    fn add(&mut self, at: usize, why: &'static str) {
        self.count += 1;
        self.first.get_or_insert(FoldedError { line: at + 1, why });
    }

    fn judged(self) -> Result<Option<String>, FoldedError> {
        match self.first {
            Some(first) if self.count > self.good => Err(first),
            Some(first) => Ok(Some(format!("{} left out: {first}", number::count(self.count as u64, "line")))),
            None => Ok(None),
        }
    }
}

/// A stack and its last value.
fn split(line: &str) -> Result<(&str, Number), &'static str> {
    let (stack, value) = line.rsplit_once([' ', '\t']).ok_or("it has no value behind a blank")?;
    Ok((stack.trim_end(), Number::parse(value).ok_or("its value is no number")?))
}

/// A value as it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Whole(i128),
    Fraction(f64),
}

impl Number {
    fn parse(text: &str) -> Option<Self> {
        if let Ok(whole) = text.parse::<i128>() {
            return Some(Self::Whole(whole));
        }
        let value: f64 = text.parse().ok()?;
        // 2^63: a value past it is no count of anything.
        (value.abs() < 9.2e18).then_some(match value {
            whole if whole.fract() == 0.0 => Self::Whole(whole as i128),
            fraction => Self::Fraction(fraction),
        })
    }

    fn times(self, scale: i128) -> i128 {
        match self {
            Self::Whole(whole) => whole.saturating_mul(scale),
            Self::Fraction(fraction) => (fraction * scale as f64).round() as i128,
        }
    }

    fn size(self) -> f64 {
        match self {
            Self::Whole(whole) => (whole as f64).abs(),
            Self::Fraction(fraction) => fraction.abs(),
        }
    }
}

/// How a file writes its values.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Values {
    /// Each line has two, before and after.
    is_pair: bool,
    /// What values are multiplied with to be whole.
    scale: i128,
}

impl Values {
    /// Of what each line has.
    fn of<'a>(lines: impl Iterator<Item = (&'a str, Number)>) -> Self {
        // Of the last value of each line, and of that before it.
        let (mut is_pair, mut has_fraction, mut largest) = (None, [false; 2], [0.0_f64; 2]);
        let mut note = |at: usize, number: Number| {
            has_fraction[at] |= matches!(number, Number::Fraction(_));
            largest[at] = largest[at].max(number.size());
        };
        for (stack, value) in lines {
            note(0, value);
            let other = split(stack).ok().filter(|(stack, _)| !stack.trim().is_empty()).map(|(_, value)| value);
            other.into_iter().for_each(|other| note(1, other));
            is_pair = Some(other.is_some() && is_pair != Some(false));
        }
        let is_pair = is_pair == Some(true);
        let count = if is_pair { 2 } else { 1 };
        // Sums of them have to fit too.
        let has_room = largest[..count].iter().all(|largest| *largest < 1e9);
        let scale = if has_fraction[..count].contains(&true) && has_room { MILLION } else { 1 };
        Self { is_pair, scale }
    }

    /// The stack, and its values, the later one first.
    fn values<'a>(&self, stack: &'a str, value: Number) -> (&'a str, [i128; 2]) {
        match split(stack) {
            Ok((stack, before)) if self.is_pair => (stack, [value.times(self.scale), before.times(self.scale)]),
            _ => (stack, [value.times(self.scale), 0]),
        }
    }

    /// For the name of a kind.
    fn unit(&self) -> &'static str {
        if self.scale == 1 { "" } else { " (millionths)" }
    }
}

/// Fractions are kept to their sixth digit.
const MILLION: i128 = 1_000_000;

fn frame(part: &str, builder: &mut Builder) -> u32 {
    let (name, origin, is_inlined) = if let Some(name) = part.strip_suffix("_[k]") {
        (name, Origin::Kernel, false)
    } else if let Some(name) = part.strip_suffix("_[i]") {
        (name, Origin::Native, true)
    } else if let Some(name) = ["_[j]", "_[0]", "_[1]"].iter().find_map(|mark| part.strip_suffix(mark)) {
        (name, Origin::Jit, false)
    } else if part == "[unknown]" {
        (part, Origin::Unknown, false)
    } else {
        (part, Origin::Native, false)
    };
    let (name, file, line) = match placed(name) {
        Some((name, file, line)) => (Cow::Owned(name), Some(file), Some(line)),
        None => (Cow::Borrowed(name), None, None),
    };
    builder.frame(Frame { name: &name, file, line, origin, is_inlined, ..Frame::default() })
}

/// `outer (w.py:7)`, as py-spy writes: the same function at each of its lines, in this file.
fn placed(part: &str) -> Option<(String, &str, u32)> {
    let (name, place) = part.strip_suffix(')')?.rsplit_once(" (")?;
    let (file, line) = place.rsplit_once(':')?;
    let line = line.parse().ok().filter(|line| *line > 0)?;
    ((file.contains('.') || file.starts_with('<')) && !name.is_empty())
        .then(|| (format!("{name} ({file})"), file, line))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::{FoldedError, Form, write};
    use crate::model::profile::{Origin, Profile};
    use crate::report::profile::sample;
    use crate::report::profile::tree::Roots;
    use crate::text::lines::Lines;

    fn read(text: &str) -> Result<Profile, FoldedError> {
        super::read(Lines::of(text))
    }

    fn written(profile: &Profile, kind: usize, form: Form) -> String {
        let mut out = Vec::new();
        write(profile, kind, form, &mut out).expect("memory takes everything");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn stacks_are_lines() {
        expect![[r#"
            server (10);server (10);main;<Request as Parse>::parse;memchr<&str, 'a'>_[i] 1200000000
            server (10);server (10);main;<Request as Parse>::parse;vfs_read_[k] 400000000
            server (10);worker 1 (11);main;JS:~run_[j] 100000000
            server (10);worker 1 (11);main;[libz.so.1] 300000000
        "#]]
        .assert_eq(&written(&sample::rich(), 0, Form { roots: Roots::Thread, is_marked: true }));
        let task = written(&sample::rich(), 1, Form { roots: Roots::Task, ..Form::default() });
        assert_eq!(task.lines().next(), Some("test: web;main;<Request as Parse>::parse 1000000"));
    }

    fn kinds(profile: &Profile) -> Vec<(&str, u64)> {
        profile.kinds.iter().enumerate().map(|(at, kind)| (kind.name.as_str(), profile.total(at))).collect()
    }

    #[test]
    fn names_may_hold_blanks_and_values_fractions() {
        let profile = read("# written by hand\na b;c d (x) 3\na b 0.25\na b 1.5e0\n\n").expect("stacks");
        assert_eq!(kinds(&profile), [("weight (millionths)", 4_750_000)]);
        assert_eq!(written(&profile, 0, Form::default()), "a b 1750000\na b;c d (x) 3000000\n");
        let whole = read("a 3.0\nb 18446744073709551615\n").expect("stacks");
        assert_eq!(kinds(&whole), [("weight", u64::MAX)]);
    }

    /// Regression: a line that is none cost the whole file.
    #[test]
    fn a_line_that_is_no_stack_is_counted_and_said() {
        let profile = read("a 1\nword\nb;c 2\n").expect("stacks");
        assert_eq!(kinds(&profile), [("weight", 3)]);
        let expected = ["1 line left out: line 2 is no folded stack: it has no value behind a blank"];
        assert_eq!(profile.quality.notes, expected);
        let refused = |text: &str| read(text).expect_err("no stacks").to_string();
        assert_eq!(refused("a 1\nword\nword"), "line 2 is no folded stack: it has no value behind a blank");
        assert_eq!(refused("a b"), "line 1 is no folded stack: its value is no number");
        assert_eq!(refused("; 3"), "line 1 is no folded stack: it has no names");
        assert_eq!(refused("a nan"), "line 1 is no folded stack: its value is no number");
    }

    #[test]
    fn values_below_zero_are_those_of_a_difference() {
        let profile = read("main;a 5\nmain;b -8\n").expect("stacks");
        assert_eq!(kinds(&profile), [("weight.more", 5), ("weight.less", 8)]);
    }

    /// Regression: `main;foo;bar 0 4` had a function `bar 0`.
    #[test]
    fn the_two_values_of_difffolded_are_two_kinds() {
        let profile = read("main;foo;bar 0 4\nmain;worker 1 5 2\n").expect("stacks");
        assert_eq!(kinds(&profile), [("after", 6), ("before", 5)]);
        assert_eq!(written(&profile, 0, Form::default()), "main;foo;bar 4\nmain;worker 1 2\n");
        // Names that end in a number are no values.
        let one = read("main;worker 1 5\nmain;idle 2\n").expect("stacks");
        assert_eq!(written(&one, 0, Form::default()), "main;idle 2\nmain;worker 1 5\n");
    }

    /// As py-spy 0.4 (`record -f raw`), rbspy 0.40 (`-f collapsed`) and async-profiler 4 (`-o collapsed`) write.
    #[test]
    fn stacks_of_python_ruby_and_java_are_read() {
        let text =
            "<module> (w.py:11);outer (w.py:7);inner (w.py:4) 63\n<module> (w.py:11);outer (w.py:7);inner (w.py:5) 2\n";
        let python = read(text).expect("stacks");
        assert_eq!(written(&python, 0, Form::default()), "<module> (w.py);outer (w.py);inner (w.py) 65\n");
        assert_eq!(python.frames.get(2).map(|frame| (frame.file, frame.line)), Some((Some("w.py"), Some(4))));
        let ruby = read("<main> - a.rb;block in run - lib/a b.rb;sleep [c function] - (unknown) 7\n").expect("stacks");
        assert_eq!((ruby.frames.get(0).map(|frame| frame.name), ruby.total(0)), (Some("<main> - a.rb"), 7));
        let java = read("[main tid=7];java/lang/Thread.run_[0];Main.hot_[j];do_syscall_64_[k] 9\n").expect("stacks");
        let origins: Vec<Origin> = java.frames.iter().map(|frame| frame.origin).collect();
        assert_eq!(origins, [Origin::Native, Origin::Jit, Origin::Jit, Origin::Kernel]);
    }

    proptest! {
        #[test]
        fn totals_survive(profile in sample::any_profile()) {
            let text = written(&profile, 0, Form { roots: Roots::Process, is_marked: true });
            let back = read(&text).expect("our own stacks");
            prop_assert_eq!(back.total(0), profile.total(0));
            prop_assert_eq!(written(&back, 0, Form { is_marked: true, ..Form::default() }), text);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            if let Ok(profile) = read(&text) {
                prop_assert_eq!(profile.flaw(), None);
            }
        }
    }
}
