//! Formats that are recognised by their content and not read: their names, and how to convert them to one that is read.

/// A format that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// What a file of it is.
    pub(crate) what: &'static str,
    /// What to do with it; nothing where apm knows no way.
    pub(crate) instead: Option<&'static str>,
}

/// Bytes that a file begins with.
const MAGIC: &[(&[u8], Format)] = &[
    (b"PERFILE2", of("a recording of perf", "`perf script -i FILE > TEXT` makes one that apm reads")),
    (b"2ELIFREP", of("a recording of perf", "`perf script -i FILE > TEXT` makes one that apm reads")),
    (b"\x7fELF", none("a program")),
    (b"#!", none("a script")),
    (b"\x1f\x8b", none("packed with gzip twice")),
    (
        b"\x28\xb5\x2f\xfd",
        of(
            "packed with zstd, as heaptrack writes",
            "`heaptrack_print -F STACKS FILE` makes folded stacks of a file of heaptrack, `zstd -d FILE` unpacks others",
        ),
    ),
    (
        b"\x04\x22\x4d\x18",
        of(
            "packed with lz4, as memray writes",
            "`memray flamegraph FILE` or `memray tree FILE` shows a recording of memray",
        ),
    ),
    (b"memray", of("a recording of memray", "`memray flamegraph FILE` or `memray tree FILE` shows it")),
    (
        b"FLR\0",
        of(
            "a recording of the JDK Flight Recorder",
            "`jfrconv --collapsed FILE STACKS` of async-profiler makes folded stacks",
        ),
    ),
    (b"JAVA PROFILE 1.0", of("a heap dump of Java", "`jhat`, VisualVM or Eclipse MAT show it")),
    (
        b"Nettrace",
        of("a trace of .NET", "`dotnet-trace convert --format Speedscope FILE` makes one for speedscope.app"),
    ),
    (b"go 1.", of("an execution trace of Go", "`go tool trace FILE` shows it")),
    (b"rbspy", of("a recording of rbspy", "`rbspy report -f collapsed -i FILE -o STACKS` makes folded stacks")),
    (b"PK\x03\x04", of("a zip file", "unpack it first")),
    (b"\xfd7zXZ\0", of("packed with xz", "`xz -d FILE` unpacks it")),
    (b"SQLite format 3\0", of("a database of SQLite, as Nsight Systems writes", "`nsys stats FILE` shows it")),
    // As `marshal` writes a dictionary whose first key is a tuple of three; both may be marked as shared.
    (b"{)\x03", of("a profile of cProfile", CPROFILE)),
    (b"{\xa9\x03", of("a profile of cProfile", CPROFILE)),
    (b"\xfb)\x03", of("a profile of cProfile", CPROFILE)),
    (b"\xfb\xa9\x03", of("a profile of cProfile", CPROFILE)),
    // Words of 64 bits: 0, 3, 0, the period.
    (
        &[0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        of("a CPU profile of gperftools", "`pprof -proto PROGRAM FILE > profile.pb.gz` makes one that apm reads"),
    ),
];

const CPROFILE: &str = "`python3 -m pstats FILE`, then `stats 20`, shows it; `py-spy record -f raw -o STACKS -- python3 ...` makes folded stacks";

const fn of(what: &'static str, instead: &'static str) -> Format {
    Format { what, instead: Some(instead) }
}

const fn none(what: &'static str) -> Format {
    Format { what, instead: None }
}

/// The format of a file that begins with these bytes.
pub(crate) fn by_magic(bytes: &[u8]) -> Option<Format> {
    MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, format)| *format)
}

/// The format of a text that begins so, without leading blanks, and is not JSON.
pub(crate) fn by_text(text: &str) -> Option<Format> {
    let lower = text.get(..text.len().min(15)).unwrap_or_default().to_ascii_lowercase();
    // Not any `<`: functions of Python and Ruby are called `<module>` and `<main>`.
    if ["<?xml", "<svg", "<!doctype", "<html", "<!--"].iter().any(|start| lower.starts_with(start)) {
        return Some(none("a picture or page, which holds no profile that can be read back"));
    }
    let lines = || text.lines().take(40);
    let has = |start: &str| lines().any(|line| line.starts_with(start));
    if text.starts_with("# callgrind format") || has("creator: callgrind") || has("creator: xdebug") {
        return Some(of(
            "a profile of callgrind, which has calls between functions and no stacks",
            "`callgrind_annotate --inclusive=yes FILE` or kcachegrind shows it",
        ));
    }
    if has("desc:") && has("time_unit:") {
        return Some(of("a profile of massif", "`ms_print FILE` or massif-visualizer shows it"));
    }
    if has("desc:") && has("events:") {
        return Some(of("a profile of cachegrind, which has no stacks", "`cg_annotate FILE` shows it"));
    }
    if has("PeriodType:") && has("Samples:") {
        let way = "apm reads the profile itself, or what `go tool pprof -proto FILE` makes of it";
        return Some(of("the text of `pprof -raw`", way));
    }
    let is_table = |line: &str| line.split_ascii_whitespace().eq(["flat", "flat%", "sum%", "cum", "cum%"]);
    if lines().any(is_table) {
        return Some(of("a table of `pprof -top`", "apm reads the profile itself (`.pb.gz`)"));
    }
    if text.starts_with("heap_v2/") {
        let way = "`jeprof --collapsed PROGRAM FILE > STACKS` makes folded stacks";
        return Some(of("a heap profile of jemalloc, which has addresses and no names", way));
    }
    if has("# Event count (approx.)") {
        return Some(of("a report of perf", "`perf script > TEXT` makes one that apm reads, of the same recording"));
    }
    let mut words = text.split_ascii_whitespace();
    let is_version =
        words.next() == Some("v") && words.next().is_some_and(|word| word.bytes().all(|b| b.is_ascii_hexdigit()));
    if is_version && (has("X ") || has("x ")) {
        return Some(of("a recording of heaptrack", "`heaptrack_print -F STACKS FILE` makes folded stacks"));
    }
    if lines().next().is_some_and(|line| line.starts_with("goroutine ") && line.trim_end().ends_with("]:")) {
        return Some(of("a dump of goroutines", "`?debug=1` instead of `?debug=2` makes a profile that apm reads"));
    }
    None
}

/// The format of a JSON document of which these are the first bytes.
pub(crate) fn by_json(head: &str) -> Option<Format> {
    let has = |word: &str| head.contains(word);
    let all = |words: &[&str]| words.iter().all(|word| head.contains(word));
    if has("speedscope.app/file-format-schema") {
        return Some(of(
            "a file of speedscope, which apm writes and does not read",
            "py-spy writes folded stacks with `-f raw`, rbspy with `-f collapsed`",
        ));
    }
    if has("\"traceEvents\"") {
        return Some(none("a trace of Chrome"));
    }
    if has("\"dhatFileVersion\"") {
        return Some(of("a profile of DHAT", "dh_view.html of valgrind shows it"));
    }
    if all(&["\"head\"", "\"callFrame\"", "\"selfSize\""]) {
        return Some(of("a heap profile of V8", "the Memory panel of Chrome DevTools shows it"));
    }
    if all(&["\"snapshot\"", "\"node_fields\""]) {
        return Some(of("a heap snapshot of V8", "the Memory panel of Chrome DevTools shows it"));
    }
    if has("\"preprocessedProfileVersion\"") || all(&["\"meta\"", "\"libs\""]) {
        return Some(of("a profile of the Firefox profiler, as samply writes", "`samply load FILE` shows it"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{by_json, by_magic, by_text};

    #[test]
    fn formats_are_told_by_their_content() {
        let magic = |bytes: &[u8]| by_magic(bytes).map(|format| format.what);
        assert_eq!(magic(b"PERFILE2..."), Some("a recording of perf"));
        assert_eq!(magic(b"memray\x0c\0\0\0"), Some("a recording of memray"));
        assert_eq!(magic(b"{\xa9\x03\xda\x01~"), Some("a profile of cProfile"));
        assert_eq!(magic(b"#!/usr/bin/perl -w\n"), Some("a script"));
        assert_eq!(magic(b"{\"schema\""), None);
        assert_eq!(magic(b"{closure};main 5"), None);
        let text = |text: &str| by_text(text).map(|format| format.what);
        assert_eq!(text("<module> (w.py:11);outer 3"), None);
        assert_eq!(text("<main>;x 1"), None);
        assert!(text("<?xml version=\"1.0\"?>").is_some_and(|what| what.starts_with("a picture")));
        assert!(text("<SVG>").is_some_and(|what| what.starts_with("a picture")));
        assert!(text("# callgrind format\nversion: 1").is_some_and(|what| what.contains("callgrind")));
        assert!(text("version: 1\ncreator: callgrind-3.19.0").is_some_and(|what| what.contains("callgrind")));
        assert_eq!(text("desc: --massif-out-file=x\ncmd: ./a\ntime_unit: i\n"), Some("a profile of massif"));
        assert_eq!(text("v 10500 3\nX ./mem1\n"), Some("a recording of heaptrack"));
        assert_eq!(text("goroutine 1 [running]:\nmain.f()\n"), Some("a dump of goroutines"));
        assert_eq!(text("v 1;x 3\n"), None);
        assert_eq!(
            text("# Samples: 9 of event 'x'\n# Event count (approx.): 9\n#\n# Overhead  Command\n  9.00%  a\n"),
            Some("a report of perf")
        );
        assert_eq!(text("PeriodType: cpu nanoseconds\nPeriod: 1\nSamples:\n"), Some("the text of `pprof -raw`"));
        assert_eq!(
            text("File: x\nType: cpu\n      flat  flat%   sum%        cum   cum%\n"),
            Some("a table of `pprof -top`")
        );
        assert!(text("heap_v2/524288\n  t*: 1: 128 [0: 0]\n").is_some_and(|what| what.contains("jemalloc")));
        assert_eq!(magic(b"go 1.19 trace\0\0\0"), Some("an execution trace of Go"));
        assert_eq!(magic(b"rbspy02\n"), Some("a recording of rbspy"));
        let json = |text: &str| by_json(text).map(|format| format.what);
        assert_eq!(json("{\"traceEvents\":[]}"), Some("a trace of Chrome"));
        assert_eq!(json("{\"a\":1}"), None);
    }
}
