//! Tells by the bytes what kind of profile a file is, and reads it.

use crate::model::profile::Profile;
use crate::report::profile::folded::{self, FoldedError};
use crate::report::profile::json::{self, JsonError};
use crate::report::profile::perf_script::{self, PerfError};
use crate::report::profile::pprof::{self, PprofError};

/// What is read.
const READABLE: &str = "pprof (`.pb.gz`), apm's JSON, folded stacks, the output of `perf script`";

/// Why a file is no profile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("it is empty")]
    Empty,
    #[error("{what}: {instead}")]
    Other {
        /// What it is.
        what: &'static str,
        /// What to do.
        instead: String,
    },
    #[error(transparent)]
    Pprof(#[from] PprofError),
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error(transparent)]
    Folded(#[from] FoldedError),
    #[error(transparent)]
    Perf(#[from] PerfError),
}

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Pprof,
    Json,
    Folded,
    PerfScript,
}

/// A profile of the bytes of a file, packed with gzip or not.
pub(crate) fn read(bytes: &[u8]) -> Result<Profile, ReadError> {
    let unpacked;
    let bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
        unpacked = pprof::gunzip(bytes)?;
        &unpacked
    } else {
        bytes
    };
    // Strict: a text that is no UTF-8 in one place still is a text.
    let text = String::from_utf8_lossy(bytes);
    Ok(match detect(bytes)? {
        Format::Pprof => pprof::read(bytes)?,
        Format::Json => json::read(bytes)?,
        Format::Folded => folded::read(&text)?,
        Format::PerfScript => perf_script::read(&text)?,
    })
}

/// Whether a file that begins so is a text of lines, each of which is about one stack at most.
pub(crate) fn has_lines(head: &[u8]) -> bool {
    !head.starts_with(&[0x1f, 0x8b]) && matches!(detect(head), Ok(Format::Folded | Format::PerfScript))
}

fn detect(bytes: &[u8]) -> Result<Format, ReadError> {
    let other = |what, instead: &str| Err(ReadError::Other { what, instead: instead.to_owned() });
    let readable = format!("this apm reads {READABLE}");
    let start = bytes.trim_ascii_start();
    if start.is_empty() {
        return Err(ReadError::Empty);
    }
    if bytes.starts_with(b"PERFILE2") || bytes.starts_with(b"2ELIFREP") {
        return other("a recording of perf", "run `perf script -i FILE > TEXT` and read that");
    }
    if bytes.starts_with(b"\x7fELF") {
        return other("a program", &readable);
    }
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return other("packed twice", &readable);
    }
    if start.starts_with(b"<") {
        return other("a picture or page", &format!("it holds no profile that can be read back; {readable}"));
    }
    if start.starts_with(b"[") && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() {
        return other("a JSON list, perhaps a trace", &readable);
    }
    let head = &bytes[..bytes.len().min(4096)];
    if start.starts_with(b"{") && !head.contains(&0) {
        let names = |word: &str| head.windows(word.len()).any(|part| part == word.as_bytes());
        if names("speedscope.app/file-format-schema") {
            return other("a file of speedscope, which is written only", &readable);
        }
        return Ok(Format::Json);
    }
    // A message of pprof has lengths and numbers among the first bytes, which no text has.
    if head.iter().any(|byte| *byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x1b)) {
        return Ok(Format::Pprof);
    }
    Ok(if perf_script::is_it(&String::from_utf8_lossy(bytes)) { Format::PerfScript } else { Format::Folded })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::read;
    use crate::report::profile::{folded, json, pprof, sample};

    #[test]
    fn every_format_is_recognised() {
        let profile = sample::rich();
        let mut documents = vec![pprof::write(&profile), pprof::gunzip(&pprof::write(&profile)).expect("packed")];
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
        assert!(refused(b"<svg/>").starts_with("a picture or page: "));
        assert!(refused(b"hello world").starts_with("line 1 is no folded stack"));
        assert!(
            refused(b"{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\"}").contains("written only")
        );
        assert!(refused(b"\x7fELF").starts_with("a program"));
        assert!(refused(&[0x0a, 0x02, 0x08]).starts_with("not a pprof file"));
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
