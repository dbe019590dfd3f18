//! Tells by the bytes what kind of profile a file is, and reads it.

use crate::model::profile::Profile;
use crate::report::profile::cpuprofile::{self, CpuProfileError};
use crate::report::profile::folded::{self, FoldedError};
use crate::report::profile::foreign;
use crate::report::profile::go_text::{self, GoError};
use crate::report::profile::json::{self, JsonError};
use crate::report::profile::perf_script::{self, PerfError};
use crate::report::profile::pprof::{self, PprofError};
use crate::text::lines::Lines;

/// What is read.
pub(crate) const READABLE: &str = "pprof (`.pb.gz`), apm's JSON, folded stacks (py-spy `-f raw`, rbspy and async-profiler \
                                   `collapsed`), the output of `perf script`, Go's `?debug=1`, V8's `.cpuprofile`";

/// What a text of Windows begins with.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// Bytes by which the kind of a text is told.
const HEAD: usize = 4096;

/// Why a file is no profile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("it is empty")]
    Empty,
    /// What it is, and what to do.
    #[error("{0}")]
    Foreign(String),
    #[error(transparent)]
    Pprof(#[from] PprofError),
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error(transparent)]
    Folded(#[from] FoldedError),
    #[error(transparent)]
    Perf(#[from] PerfError),
    #[error(transparent)]
    Go(#[from] GoError),
    #[error(transparent)]
    CpuProfile(#[from] CpuProfileError),
}

impl ReadError {
    /// Whether the message says what to do.
    pub(crate) fn has_way_out(&self) -> bool {
        matches!(self, Self::Empty | Self::Foreign(_) | Self::Go(GoError::Nameless))
    }
}

impl From<foreign::Format> for ReadError {
    fn from(format: foreign::Format) -> Self {
        Self::Foreign(match format.instead {
            Some(instead) => format!("it is {}: {instead}", format.what),
            None => format!("it is {}; apm reads {READABLE}", format.what),
        })
    }
}

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Pprof,
    Json,
    CpuProfile,
    Folded,
    PerfScript,
    GoText,
}

/// A profile of the bytes of a file, packed with gzip or not.
pub(crate) fn read(bytes: Vec<u8>) -> Result<Profile, ReadError> {
    let mut bytes = bytes;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        bytes = pprof::gunzip(&bytes)?;
    }
    let start = if bytes.starts_with(BOM) { BOM.len() } else { 0 };
    match detect(&bytes[start..])? {
        Format::Pprof => Ok(pprof::read(&bytes)?),
        Format::Json => Ok(json::read(&bytes[start..])?),
        Format::CpuProfile => Ok(cpuprofile::read(&bytes[start..])?),
        format => {
            bytes.drain(..start);
            let mut lines = Lines::default();
            lines.push(bytes);
            read_as(format, lines)
        }
    }
}

/// A profile of a text of which [`has_lines`] is true.
pub(crate) fn read_lines(lines: Lines) -> Result<Profile, ReadError> {
    let format = match detect(lines.head().as_bytes())? {
        // What is written before the first sample may be longer than a piece.
        Format::Folded if perf_script::is_it(lines.iter()) => Format::PerfScript,
        format => format,
    };
    read_as(format, lines)
}

fn read_as(format: Format, lines: Lines) -> Result<Profile, ReadError> {
    Ok(match format {
        Format::PerfScript => perf_script::read(lines)?,
        Format::GoText => go_text::read(&lines.whole())?,
        _ => folded::read(lines)?,
    })
}

/// Whether a file that begins so is a text of lines, each of which is about one stack at most.
pub(crate) fn has_lines(head: &[u8]) -> bool {
    let is_packed = head.starts_with(&[0x1f, 0x8b]) || head.starts_with(BOM);
    !is_packed && matches!(detect(head), Ok(Format::Folded | Format::PerfScript | Format::GoText))
}

fn detect(bytes: &[u8]) -> Result<Format, ReadError> {
    let start = bytes.trim_ascii_start();
    if start.is_empty() {
        return Err(ReadError::Empty);
    }
    if let Some(format) = foreign::by_magic(bytes) {
        return Err(format.into());
    }
    let head = &bytes[..bytes.len().min(HEAD)];
    if !is_text(head) {
        return match pprof::may_be(bytes) {
            true => Ok(Format::Pprof),
            false => Err(ReadError::Foreign(format!("it is of no known format; apm reads {READABLE}"))),
        };
    }
    let head = String::from_utf8_lossy(head);
    let head = head.trim_ascii_start();
    if start.starts_with(b"[") && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() {
        return Err(foreign::Format { what: "a JSON list, perhaps a trace", instead: None }.into());
    }
    // A function of PHP is called `{closure}`.
    if head.strip_prefix('{').is_some_and(|rest| rest.trim_ascii_start().starts_with(['"', '}'])) {
        // Of some formats only the end tells.
        let tail = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(HEAD)..]);
        return match foreign::by_json(head).or_else(|| foreign::by_json(&tail)) {
            _ if head.contains(SCHEMA_START) => Ok(Format::Json),
            Some(format) => Err(format.into()),
            None if cpuprofile::is_it(head) => Ok(Format::CpuProfile),
            None => Ok(Format::Json),
        };
    }
    if let Some(format) = foreign::by_text(head) {
        return Err(format.into());
    }
    Ok(match () {
        () if go_text::is_it(head) => Format::GoText,
        // A line may be longer than the head.
        () if perf_script::is_it(String::from_utf8_lossy(bytes).lines()) => Format::PerfScript,
        () => Format::Folded,
    })
}

/// What our own documents begin with.
const SCHEMA_START: &str = "\"apm.profile/";

/// Whether these bytes are of a text, in which a few control characters may stand. A message of pprof has lengths and
/// numbers among its first bytes, which are such characters mostly.
fn is_text(head: &[u8]) -> bool {
    let is_control = |byte: &&u8| **byte < 0x20 && !matches!(**byte, b'\t' | b'\n' | b'\r' | 0x1b);
    let controls = head.iter().filter(is_control).count();
    let has_value =
        || head.split(|byte| *byte == b'\n').any(|line| line.trim_ascii_end().last().is_some_and(u8::is_ascii_digit));
    controls == 0 || (controls * 8 <= head.len() && std::str::from_utf8(head).is_ok() && has_value())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::ReadError;
    use crate::model::profile::Profile;
    use crate::report::profile::{folded, json, pprof, sample, text};

    fn read(bytes: &[u8]) -> Result<Profile, ReadError> {
        super::read(bytes.to_vec())
    }

    #[test]
    fn every_format_is_recognised() {
        let profile = sample::rich();
        let mut packed = Vec::new();
        pprof::write(&profile, &mut packed).expect("memory takes everything");
        let mut documents = vec![pprof::gunzip(&packed).expect("packed"), packed];
        let mut text = Vec::new();
        json::write(&profile, &mut text).expect("memory takes everything");
        documents.push(text);
        let mut text = Vec::new();
        folded::write(&profile, 0, folded::Form::default(), &mut text).expect("memory takes everything");
        documents.push(text);
        for document in documents {
            assert_eq!(read(&document).expect("a profile").total(0), profile.total(0));
        }
        let perf = include_bytes!("../../../tests/data/profile/perf-script.txt");
        assert_eq!(read(perf).expect("a profile").kinds[0].name, "cpu");
    }

    #[test]
    fn what_is_no_profile_is_named() {
        let refused = |bytes: &[u8]| read(bytes).expect_err("no profile").to_string();
        assert_eq!(refused(b" \n"), "it is empty");
        assert!(refused(b"PERFILE2...").contains("`perf script -i FILE > TEXT`"));
        assert!(refused(b"<svg/>").starts_with("it is a picture or page"));
        assert!(refused(b"hello world").starts_with("line 1 is no folded stack"));
        assert!(
            refused(b"{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\"}").contains("does not read")
        );
        assert!(refused(b"\x7fELF").starts_with("it is a program; apm reads pprof"));
        assert!(refused(&[0x0a, 0x02, 0x08]).starts_with("not a pprof file"));
        assert!(refused(&[0xff, 0xfe, 0, 1, 2]).starts_with("it is of no known format; apm reads"));
        assert!(refused(b"{\"a\": 1}").starts_with("not a profile: missing field `schema`"));
    }

    /// Regression: these were taken for a picture, for JSON and for pprof.
    #[test]
    fn names_of_functions_do_not_make_another_format_of_folded_stacks() {
        for text in ["<module> (w.py:11);outer (w.py:7) 63\n", "<main>;f 3\n", "{closure};main 5\n", "[unknown];f 2\n"]
        {
            assert_eq!(read(text.as_bytes()).expect(text).nodes.len(), 2, "{text}");
        }
        for text in ["\u{feff}foo;bar 3\r\n", "f\0oo;bar 3\n", "foo;b\x01ar 3\nfoo 7\n"] {
            assert_eq!(read(text.as_bytes()).expect(text).frames.len(), 2, "{text:?}");
        }
    }

    /// A cause is in the chain of an error once.
    #[test]
    fn a_cause_is_said_once() {
        for bytes in
            [&b"{\"a\": 1}"[..], b"{\"nodes\": [{\"callFrame\":{\"functionName\": 7}}]}", &[0x0a, 0x02, 0x08], b"x"]
        {
            let error = anyhow::Error::new(read(bytes).expect_err("no profile"));
            assert_eq!(error.chain().count(), 1, "{error:#}");
        }
    }

    /// What the tools wrote themselves, by their versions in the names of the files: the first kind, its total and the
    /// function with most of it, or why it is not read.
    #[test]
    fn what_other_tools_write_is_read_or_refused_with_the_way() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/profile/foreign");
        let mut names: Vec<String> = std::fs::read_dir(&folder)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"))
            .collect();
        names.sort();
        let mut said = String::new();
        for name in names {
            let bytes = std::fs::read(folder.join(&name)).expect("the file");
            said += &match read(&bytes) {
                Ok(profile) => {
                    assert_eq!(profile.flaw(), None, "{name}");
                    format!("{name}: {}\n", text::summary(&profile))
                }
                Err(error) => format!("{name}: {error}\n"),
            };
        }
        expect![[r#"
            callgrind-3.19.0.out: it is a profile of callgrind, which has calls between functions and no stacks: `callgrind_annotate --inclusive=yes FILE` or kcachegrind shows it
            cprofile-3.11.7.prof: it is a profile of cProfile: `python3 -m pstats FILE`, then `stats 20`, shows it; `py-spy record -f raw -o STACKS -- python3 ...` makes folded stacks
            go-1.19.8-block.txt: delay 20ms, most in sync.(*Mutex).Lock: 100.0%
            go-1.19.8-goroutine-debug-2.txt: it is a dump of goroutines: `?debug=1` instead of `?debug=2` makes a profile that apm reads
            go-1.19.8-goroutine.txt: goroutine 4, most in main.worker: 75.0%
            go-1.19.8-heap.txt: inuse_space 4.1 MiB, most in main.leaky: 72.6%
            go-1.19.8-threadcreate.txt: threadcreate 4, most in [no stack]: 100.0%
            heaptrack-1.4.0.zst: it is packed with zstd, as heaptrack writes: `heaptrack_print -F STACKS FILE` makes folded stacks of a file of heaptrack, `zstd -d FILE` unpacks others
            massif-3.19.0.out: it is a profile of massif: `ms_print FILE` or massif-visualizer shows it
            memray-1.20.0.bin: it is packed with lz4, as memray writes: `memray flamegraph FILE` or `memray tree FILE` shows a recording of memray
            node-20.20.2.cpuprofile: cpu 202ms in 217ms, most in hot: 90.0%
            perf-6.1-comm-tid-ip-sym.txt: samples 20, most in outer: 100.0%
            perf-6.1-ip-sym.txt: samples 20, most in outer: 100.0%
            perf-6.1-no-stacks.txt: samples 30, most in outer: 96.7%
            perf-6.1-no-time.txt: cpu 40ms, most in outer: 100.0%
            py-spy-0.4.3.raw: weight 75, most in inner (w.py): 98.7%
            py-spy-0.4.3.speedscope.json: it is a file of speedscope, which apm writes and does not read: py-spy writes folded stacks with `-f raw`, rbspy with `-f collapsed`
        "#]].assert_eq(&said);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(profile) = read(&bytes) {
                prop_assert_eq!(profile.flaw(), None);
            }
        }
    }
}
