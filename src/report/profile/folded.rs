//! Folded stacks, the format of FlameGraph's and inferno's tools: a line for each stack, `outer;inner 12`.
//!
//! The format has no escapes: a semicolon or line break in a name becomes `:` or a blank. Marks of stackcollapse-perf after
//! a name are read: `_[k]` kernel, `_[i]` inlined, `_[j]` made at run time; they are written on demand, because most readers
//! take them for a part of the name.

use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::model::profile::{Builder, Frame, Kind, Origin, Profile, Unit};
use crate::report::profile::tree::{Roots, labels};
use crate::text::transcript;

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

/// Writes one kind, sorted by stack, values of equal stacks summed.
pub(crate) fn write(profile: &Profile, kind: usize, form: Form, out: &mut dyn Write) -> io::Result<()> {
    let names: Vec<String> = profile.frames.iter().map(|frame| name(frame, form.is_marked)).collect();
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    for row in &profile.rows {
        let value = row.values.get(kind).copied().unwrap_or(0);
        if value == 0 {
            continue;
        }
        let labels: Vec<String> =
            labels(profile, row.thread, form.roots).iter().rev().map(|label| plain(label)).collect();
        let frames = profile.path(row.node).filter_map(|node| names.get(node.frame as usize));
        let mut parts: Vec<&str> = frames.chain(&labels).map(String::as_str).collect();
        parts.reverse();
        let sum = all.entry(parts.join(";")).or_default();
        *sum = sum.saturating_add(value);
    }
    transcript::print(out, |out| all.iter().try_for_each(|(stack, value)| writeln!(out, "{stack} {value}")))
}

fn name(frame: &Frame, is_marked: bool) -> String {
    let mark = match frame.origin {
        _ if !is_marked => "",
        Origin::Kernel => "_[k]",
        _ if frame.is_inlined => "_[i]",
        Origin::Jit => "_[j]",
        _ => "",
    };
    format!("{}{mark}", plain(&frame.name))
}

fn plain(name: &str) -> String {
    let clean = transcript::line(name).replace(';', ":");
    match clean.trim() {
        "" => "[unknown]".to_owned(),
        clean => clean.to_owned(),
    }
}

/// Reads folded stacks. Names may hold blanks; the value is what stands behind the last one.
pub(crate) fn read(text: &str) -> Result<Profile, FoldedError> {
    // Not "samples": they may be nanoseconds as well, and then a test against chance would be sure of everything.
    let mut builder = Builder::new(vec![Kind { name: "weight".to_owned(), unit: Unit::Count }]);
    builder.profile.quality.is_foreign = true;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.trim_start().is_empty() {
            continue;
        }
        let flaw = |why| FoldedError { line: at + 1, why };
        let (stack, value) = line.rsplit_once([' ', '\t']).ok_or(flaw("it has no value behind a blank"))?;
        let value = match count(value) {
            Some(value) => value,
            // A remark; a function may be called so too, but then a value follows.
            None if line.starts_with('#') => continue,
            None => return Err(flaw("its value is no number")),
        };
        let mut node = None;
        for part in stack.trim().split(';').filter(|part| !part.is_empty()) {
            let frame = builder.frame(frame(part));
            node = Some(builder.node(node, frame));
        }
        let node = node.ok_or(flaw("it has no names"))?;
        builder.add(node, None, 0, value);
    }
    Ok(builder.build())
}

/// A whole number; fractions, which some tools write, are rounded.
fn count(text: &str) -> Option<u64> {
    if let Ok(value) = text.parse() {
        return Some(value);
    }
    let value: f64 = text.parse().ok()?;
    // 2^63: a value past it is no count of anything.
    (0.0..9.2e18).contains(&value).then_some(value.round() as u64)
}

fn frame(part: &str) -> Frame {
    let (name, origin, is_inlined) = if let Some(name) = part.strip_suffix("_[k]") {
        (name, Origin::Kernel, false)
    } else if let Some(name) = part.strip_suffix("_[i]") {
        (name, Origin::Native, true)
    } else if let Some(name) = part.strip_suffix("_[j]") {
        (name, Origin::Jit, false)
    } else if part == "[unknown]" {
        (part, Origin::Unknown, false)
    } else {
        (part, Origin::Native, false)
    };
    Frame { name: name.to_owned(), origin, is_inlined, ..Frame::default() }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::{Form, read, write};
    use crate::report::profile::sample;
    use crate::report::profile::tree::Roots;

    fn written(profile: &crate::model::profile::Profile, kind: usize, form: Form) -> String {
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

    #[test]
    fn names_may_hold_blanks_and_values_fractions() {
        let profile = read("# written by hand\na b;c d (x) 3\na b 2.6\n\n").expect("stacks");
        assert_eq!(written(&profile, 0, Form::default()), "a b 3\na b;c d (x) 3\n");
        let refused = |text: &str| read(text).expect_err("no stacks").to_string();
        assert_eq!(refused("a 1\nword"), "line 2 is no folded stack: it has no value behind a blank");
        assert_eq!(refused("a b"), "line 1 is no folded stack: its value is no number");
        assert_eq!(refused("; 3"), "line 1 is no folded stack: it has no names");
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
