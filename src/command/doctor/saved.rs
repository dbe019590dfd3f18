//! A saved look: one JSON document with a version, so that a machine can be diagnosed elsewhere and later. What is read
//! may be cut off, foreign, newer or hostile: it is bounded before it is understood.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::model::snapshot::Window;
use crate::sys::beneath;
use crate::text::escape::Json;

/// Version of the document. Fields that are new have a default and need no other.
const SCHEMA: &str = "apm.snapshot/1";
/// Largest file that is read: five thousand processes take 4 MiB.
const SIZE_MAX: u64 = 64 << 20;
/// Most objects and values in it, which bounds the memory that the smallest of them can take: each object is a process, a
/// device, a mount, a group.
const OBJECTS_MAX: usize = 400_000;
const VALUES_MAX: usize = 6_000_000;
/// Longest window that anybody looked, microseconds: two days.
const LENGTH_MAX_US: u64 = 172_800_000_000;

#[derive(Serialize)]
struct Saving<'a> {
    schema: &'static str,
    apm: &'static str,
    window: &'a Window,
}

/// What every version has.
#[derive(Deserialize)]
struct Head {
    schema: Option<String>,
}

#[derive(Deserialize)]
struct Saved {
    window: Window,
}

/// Writes a look.
pub(crate) fn write(window: &Window, out: &mut dyn Write) -> io::Result<()> {
    let saving = Saving { schema: SCHEMA, apm: env!("CARGO_PKG_VERSION"), window };
    serde_json::to_writer(Json::new(&mut *out), &saving)?;
    out.write_all(b"\n")
}

/// Why a file cannot be used, and what to do.
pub(crate) type Refusal = (String, &'static str);

/// Reads a look.
#[expect(clippy::disallowed_methods, reason = "named: standard input by its name")]
pub(crate) fn read(path: &Path) -> Result<Window, Refusal> {
    let mut bytes = Vec::new();
    // What the shell has opened already may be a pipe. Other pipes may have no writer, and to open a device can be to use it.
    let is_open = ["/dev/stdin", "/dev/fd", "/proc/self/fd"].iter().any(|open| path.starts_with(open));
    let file = if is_open { File::open(path) } else { beneath::regular(path) };
    let result = file.and_then(|file| file.take(SIZE_MAX + 1).read_to_end(&mut bytes));
    result.map_err(|error| match error.kind() {
        io::ErrorKind::IsADirectory => ("Is a directory".to_owned(), "`--root` reads the files of a machine"),
        io::ErrorKind::InvalidInput => (error.to_string(), "`--from /dev/stdin` reads from a pipe"),
        _ => (error.to_string(), ""),
    })?;
    parse(&bytes)
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Window, Refusal> {
    const MAKE: &str = "`apm doctor --save FILE` makes one";
    if bytes.len() as u64 > SIZE_MAX {
        return Err(("larger than 64 MiB, which no saved look is".to_owned(), ""));
    }
    if bytes.is_empty() {
        return Err(("an empty file, not a saved look".to_owned(), MAKE));
    }
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return Err(("a compressed file".to_owned(), "unpack it first, with `gunzip`"));
    }
    let head: Head = serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Eof => (format!("cut off after {} bytes", bytes.len()), "copy it again, whole"),
        _ => (format!("not a saved look: {error}"), MAKE),
    })?;
    match head.schema.as_deref() {
        Some(SCHEMA) => {}
        Some(schema) if schema.strip_prefix("apm.snapshot/").is_some_and(|version| version.parse::<u32>().is_ok()) => {
            let what = format!("saved by another apm as `{schema}`; this one reads `{SCHEMA}`");
            return Err((what, "look at it with the apm that saved it, or a newer one"));
        }
        Some("apm.doctor/1") => {
            return Err(("a report, not a saved look: a report holds no counters to judge again".to_owned(), MAKE));
        }
        _ => return Err((format!("not a saved look: its `schema` is not `{SCHEMA}`"), MAKE)),
    }
    let count = |wanted: &[u8]| bytes.iter().filter(|byte| wanted.contains(byte)).count();
    if count(b"{") > OBJECTS_MAX || count(b",[") > VALUES_MAX {
        return Err(("more values than any machine has".to_owned(), ""));
    }
    let saved: Saved =
        serde_json::from_slice(bytes).map_err(|error| (format!("damaged: {error}"), "copy it again, whole"))?;
    let (from, to) = (saved.window.from.at_us, saved.window.to.at_us);
    match to.checked_sub(from) {
        Some(length) if (1_000..=LENGTH_MAX_US).contains(&length) => Ok(saved.window),
        _ => Err(("damaged: its two looks are not one after the other".to_owned(), "copy it again, whole")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::{parse, write};
    use crate::doctor::catalogue::asked;
    use crate::doctor::diagnose::diagnose;
    use crate::doctor::question::Question;
    use crate::model::snapshot::Window;
    use crate::probe::Roots;
    use crate::probe::collect::{Options, Own, snapshot};
    use crate::report::doctor::{Sheet, github, html, json, junit, prometheus, sarif, text};
    use crate::text::layout::Layout;

    /// This machine, twice.
    fn bytes() -> &'static [u8] {
        static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        BYTES.get_or_init(|| {
            let (origin, own) = (Instant::now(), Own { pid: 1, uid: 0 });
            let read = || snapshot(&Roots::default(), own, &Options::default(), origin);
            let mut window = Window { from: read(), to: read(), observer: 1, ..Window::default() };
            window.to.at_us = window.from.at_us + Duration::from_secs(2).as_micros() as u64;
            let mut bytes = Vec::new();
            write(&window, &mut bytes).expect("memory takes everything");
            bytes
        })
    }

    fn refused(bytes: &[u8]) -> String {
        parse(bytes).expect_err("refused").0
    }

    #[test]
    fn what_was_saved_is_read_back() {
        let window = parse(bytes()).expect("a look");
        let mut again = Vec::new();
        write(&window, &mut again).expect("memory takes everything");
        assert!(again == bytes(), "the same bytes");
        assert!(again.starts_with(b"{\"schema\":\"apm.snapshot/1\","));
    }

    #[test]
    fn what_is_no_saved_look_is_refused_with_the_reason() {
        let good = String::from_utf8_lossy(bytes()).into_owned();
        assert_eq!(refused(b""), "an empty file, not a saved look");
        assert!(refused(&bytes()[..bytes().len() / 2]).starts_with("cut off after "));
        assert_eq!(refused(&[0x1f, 0x8b, 8, 0]), "a compressed file");
        for foreign in ["{}", "{\"schema\":\"x\"}", "[1]", "hello", "\u{0}\u{1}"] {
            assert!(refused(foreign.as_bytes()).starts_with("not a saved look: "), "{foreign}");
        }
        assert!(refused(b"{\"schema\":\"apm.doctor/1\"}").starts_with("a report"));
        let newer = good.replacen("apm.snapshot/1", "apm.snapshot/2", 1);
        assert_eq!(
            refused(newer.as_bytes()),
            "saved by another apm as `apm.snapshot/2`; this one reads `apm.snapshot/1`"
        );
        assert!(refused(b"{\"schema\":\"apm.snapshot/1\",\"window\":{\"from\":7}}").starts_with("damaged: "));
        assert!(refused(b"{\"schema\":\"apm.snapshot/1\",\"window\":{}}").contains("one after the other"));
        let head = "{\"schema\":\"apm.snapshot/1\",\"window\":";
        let deep = format!("{head}{}", "[".repeat(1 << 20));
        assert!(refused(deep.as_bytes()).starts_with("cut off"), "no depth is a crash");
        let closed = format!("{head}{{\"from\":{}{}}}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(refused(closed.as_bytes()).starts_with("damaged"));
        let many = format!("{head}{{\"to\":{{\"processes\":{{\"known\":[{}{{}}]}}}}}}}}", "{},".repeat(500_000));
        assert_eq!(refused(many.as_bytes()), "more values than any machine has");
    }

    fn all_of(window: &Window) {
        let question = Question::default();
        let (diagnosis, rules) = (diagnose(window, &question), asked(&question));
        let sheet = Sheet { diagnosis: &diagnosis, rules: &rules, fails_from: None, is_verbose: true };
        let mut out = Vec::new();
        text::write(&sheet, &Layout::PLAIN, &mut out).expect("memory takes everything");
        for format in [sarif::write, junit::write, github::write, prometheus::write, html::write] {
            format(&sheet, &mut out).expect("memory takes everything");
        }
        json(&diagnosis, &mut out).expect("memory takes everything");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// Digits are changed most: that is where rules compute.
        #[test]
        fn a_damaged_look_is_refused_or_judged_and_never_a_panic(
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..40),
        ) {
            let mut bytes = bytes().to_vec();
            let digits: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).collect();
            for (index, byte, anywhere) in edits {
                if anywhere && byte > 250 {
                    let at = index.index(bytes.len());
                    bytes[at] = byte;
                } else {
                    bytes[digits[index.index(digits.len())]] = b'0' + byte % 10;
                }
            }
            if let Ok(window) = parse(&bytes) {
                all_of(&window);
            }
        }
    }
}
