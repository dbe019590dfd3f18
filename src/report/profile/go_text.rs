//! The profiles that Go writes as text (`?debug=1` of net/http/pprof, `Lookup(name).WriteTo(w, 1)`): heap, allocations,
//! goroutines, threads, blocking and mutexes. Form: runtime/pprof/pprof.go. Values are of the sampled ones there, and are
//! scaled here as `go tool pprof` does (legacy_profile.go, scaleHeapSample).

use crate::model::profile::{Builder, Frame, Kind, Profile, Unit};
use crate::text::number;

/// Why a text is none of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GoError {
    #[error("a profile of Go as text, in which line {line} is no record: {why}")]
    Line {
        /// From 1.
        line: usize,
        why: &'static str,
    },
    #[error(
        "a heap profile without names, as gperftools and jemalloc write: `jeprof --collapsed PROGRAM FILE > STACKS` or \
         `pprof -proto PROGRAM FILE > profile.pb.gz` makes one that apm reads"
    )]
    Nameless,
}

/// What the first line says.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Head {
    /// `heap profile: 1: 1048576 [11: 11534336] @ heap/1048576`: bytes between two samples.
    Heap { rate: f64 },
    /// `goroutine profile: total 5`
    Counts,
    /// `--- contention:`, `--- mutex:`
    Waits,
}

/// The first line, if it is one of them.
fn head(line: &str) -> Option<Head> {
    if let Some(rest) = line.strip_prefix("heap profile: ") {
        let rate = rest.rsplit_once('/').and_then(|(_, rate)| rate.trim().parse::<f64>().ok()).unwrap_or(1.0);
        // Go writes twice the rate there; the others the rate itself (`heap_v2`).
        let half = if rest.contains("@ heap/") { 2.0 } else { 1.0 };
        return Some(Head::Heap { rate: rate / half });
    }
    let (name, rest) = line.split_once(" profile: ")?;
    (rest.starts_with("total ") && !name.is_empty()).then_some(Head::Counts)
}

/// Whether a text looks like it.
pub(crate) fn is_it(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default().trim_end();
    head(first).is_some() || first == "--- contention:" || first == "--- mutex:"
}

/// Reads it.
pub(crate) fn read(text: &str) -> Result<Profile, GoError> {
    let first = text.lines().next().unwrap_or_default().trim_end();
    let head = head(first).unwrap_or(Head::Waits);
    let kinds: Vec<Kind> = match head {
        Head::Heap { .. } => vec![
            ("inuse_space", Unit::Bytes),
            ("inuse_objects", Unit::Count),
            ("alloc_space", Unit::Bytes),
            ("alloc_objects", Unit::Count),
        ],
        Head::Counts => vec![(first.split(' ').next().unwrap_or_default(), Unit::Count)],
        Head::Waits => vec![("delay", Unit::Nanoseconds), ("contentions", Unit::Count)],
    }
    .into_iter()
    .map(|(name, unit)| Kind { name: name.to_owned(), unit })
    .collect();
    let mut builder = Builder::new(kinds);
    let mut cycles_per_second = 1e9;
    let (mut records, mut named, mut odd, mut odd_first) = (0_usize, 0_usize, 0_usize, None);
    // Of the record that is being read: its values, addresses, and frames, the innermost first.
    let mut open: Option<(Vec<u64>, Vec<&str>, Vec<u32>)> = None;
    let mut lines = text.lines().enumerate().skip(1);
    loop {
        let line = lines.next();
        let content = line.map_or("", |(_, line)| line.trim());
        if let Some(frame) = content.strip_prefix('#').and_then(frame) {
            if let Some((_, _, frames)) = &mut open {
                frames.push(builder.frame(frame));
                named += 1;
            }
            continue;
        }
        if let Some((values, addresses, mut frames)) = open.take() {
            if frames.is_empty() {
                let name = |it: &&str| builder.frame(Frame { name: &format!("[{it}]"), ..Frame::default() });
                frames = addresses.iter().map(name).collect();
            }
            if frames.is_empty() {
                frames.push(builder.frame(Frame { name: "[no stack]", ..Frame::default() }));
            }
            add(&mut builder, &values, frames);
            records += 1;
        }
        let Some((at, _)) = line else { break };
        if let Some(rate) = content.strip_prefix("cycles/second=") {
            cycles_per_second = rate.parse::<f64>().ok().filter(|rate| *rate > 0.0).unwrap_or(1e9);
        } else if content == "MAPPED_LIBRARIES:" || content.starts_with("# runtime.MemStats") {
            break;
        } else if content.is_empty()
            || content.starts_with('#')
            || content.contains("period=")
            || content.starts_with("---")
        {
        } else if let Some((values, addresses)) = record(content, head, cycles_per_second) {
            open = Some((values, addresses, Vec::new()));
        } else {
            odd += 1;
            odd_first.get_or_insert(at + 1);
        }
    }
    if odd > records {
        return Err(GoError::Line { line: odd_first.unwrap_or(1), why: "it has no values before an `@`" });
    }
    if records > 0 && named == 0 && matches!(head, Head::Heap { .. }) {
        return Err(GoError::Nameless);
    }
    let mut profile = builder.build();
    profile.quality.is_foreign = true;
    if let Head::Heap { rate } = head {
        profile.quality.heap_mean_bytes = rate as u64;
    }
    profile.quality.sampler =
        format!("Go, {}", first.split([':', ' ']).find(|word| !word.is_empty() && *word != "---").unwrap_or(""));
    if let Some(first) = odd_first {
        let lines = number::count(odd as u64, "line");
        profile.quality.notes.push(format!("{lines} left out, the first is line {first}: no record"));
    }
    Ok(profile)
}

fn add(builder: &mut Builder, values: &[u64], frames: Vec<u32>) {
    let mut node = None;
    for frame in frames.into_iter().rev() {
        node = Some(builder.node(node, frame));
    }
    if let Some(node) = node {
        values.iter().enumerate().for_each(|(kind, value)| builder.add(node, None, kind, *value));
    }
}

/// `1: 1048576 [11: 11534336] @ 0x4a5c1e 0x4a5d11`, `2 @ 0x43b0d7`, `9000 3 @ 0x43b0d7`: values by kind, and addresses.
fn record(line: &str, head: Head, cycles_per_second: f64) -> Option<(Vec<u64>, Vec<&str>)> {
    let (values, addresses) = line.split_once('@')?;
    let numbers: Vec<u64> = values
        .split(|c: char| c.is_whitespace() || "[]:".contains(c))
        .filter(|word| !word.is_empty())
        .map(|word| word.parse().ok())
        .collect::<Option<_>>()?;
    let values = match (head, numbers.as_slice()) {
        (Head::Heap { rate }, [objects, bytes, all_objects, all_bytes]) => {
            let [objects, bytes] = scaled([*objects, *bytes], rate);
            let [all_objects, all_bytes] = scaled([*all_objects, *all_bytes], rate);
            vec![bytes, objects, all_bytes, all_objects]
        }
        (Head::Counts, [count]) => vec![*count],
        (Head::Waits, [cycles, count]) => vec![(*cycles as f64 * 1e9 / cycles_per_second).round() as u64, *count],
        _ => return None,
    };
    Some((values, addresses.split_whitespace().collect()))
}

/// Objects and bytes that those sampled stand for: one of so many bytes was sampled with the chance `1 - exp(-bytes/rate)`.
fn scaled([objects, bytes]: [u64; 2], rate: f64) -> [u64; 2] {
    if objects == 0 || bytes == 0 || rate <= 1.0 {
        return [objects, bytes];
    }
    let scale = 1.0 / (1.0 - (-(bytes as f64 / objects as f64) / rate).exp());
    [objects, bytes].map(|value| (value as f64 * scale).round() as u64)
}

/// `\t0x4a5c1d\tmain.leaky+0x5d\t/tmp/heap.go:14`, after its `#`.
fn frame(text: &str) -> Option<Frame<'_>> {
    let mut parts = text.split('\t').map(str::trim).filter(|part| !part.is_empty());
    parts.next().filter(|address| address.starts_with("0x"))?;
    let name = parts.next()?;
    let name = name.rsplit_once("+0x").map_or(name, |(name, _)| name);
    let place = parts.next().and_then(|place| place.rsplit_once(':'));
    let (file, line) = place.map(|(file, line)| (file, line.parse().ok().filter(|line| *line > 0))).unzip();
    Some(Frame { name, file, line: line.flatten(), ..Frame::default() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{GoError, is_it, read};
    use crate::model::profile::Profile;

    fn totals(profile: &Profile) -> Vec<(&str, u64)> {
        profile.kinds.iter().enumerate().map(|(at, kind)| (kind.name.as_str(), profile.total(at))).collect()
    }

    fn stack(profile: &Profile, row: usize) -> Vec<&str> {
        profile.stack(profile.rows.at(row).node).map(|frame| frame.name).collect()
    }

    #[test]
    fn a_heap_is_scaled_as_go_tool_pprof_does() {
        let text = "heap profile: 9: 9000 [19: 19000] @ heap/2048\n\
            8: 8000 [18: 18000] @ 0x4a5c1e 0x4a5d11\n#\t0x4a5c1d\tmain.leaky+0x5d\t/tmp/heap.go:14\n\
            #\t0x4a5d10\tmain.main+0x70\t\t/tmp/heap.go:24\n\n\
            1: 1000 [1: 1000] @ 0x1\n#\t0x1\tmain.other+0x1\t/tmp/heap.go:30\n\n# runtime.MemStats\n# Alloc = 12\n";
        assert!(is_it(text));
        let profile = read(text).expect("a heap");
        assert_eq!(profile.flaw(), None);
        // 1 / (1 - exp(-1000 / 1024)) = 1.604
        let expected = [("inuse_space", 14_437), ("inuse_objects", 15), ("alloc_space", 30_478), ("alloc_objects", 31)];
        assert_eq!(totals(&profile), expected);
        assert_eq!(stack(&profile, 0), ["main.leaky", "main.main"]);
        assert_eq!(profile.frames.get(0).map(|frame| (frame.file, frame.line)), Some((Some("/tmp/heap.go"), Some(14))));
    }

    #[test]
    fn goroutines_and_waits_are_read() {
        let text = "goroutine profile: total 3\n2 @ 0x43b0d7 0x46c081\n#\t0x43b0d6\truntime.gopark+0x1\t/go/proc.go:398\n\n\
            1 @ 0x43\n#\t0x42\tmain.main+0x1\t/tmp/a.go:3\n";
        assert_eq!(totals(&read(text).expect("goroutines")), [("goroutine", 3)]);
        let text = "--- contention:\ncycles/second=2000000000\n4000 2 @ 0x1\n#\t0x1\tsync.(*Mutex).Lock+0x1\t/go/mutex.go:81\n";
        assert!(is_it(text));
        assert_eq!(totals(&read(text).expect("waits")), [("delay", 2000), ("contentions", 2)]);
    }

    #[test]
    fn what_has_no_names_or_records_is_refused() {
        let text =
            "heap profile: 1: 8 [1: 8] @ heap_v2/524288\n1: 8 [1: 8] @ 0x4a5c1e\n\nMAPPED_LIBRARIES:\n55d0-55e0 r-xp\n";
        assert_eq!(read(text), Err(GoError::Nameless));
        let refused = read("goroutine profile: total 3\nx\ny\n").expect_err("no records").to_string();
        assert!(refused.contains("line 2"), "{refused}");
        let odd = read("goroutine profile: total 1\nx\n1 @ 0x1\n#\t0x1\tmain.f+0x1\ta.go:1\n").expect("one record");
        assert_eq!((odd.total(0), odd.quality.notes.len()), (1, 1));
        assert!(!is_it("main;f 3\n"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([0-9@:# \\[\\]\tx.+a/]{0,30}\n){0,9}") {
            for head in ["heap profile: 1: 1 [1: 1] @ heap/2", "goroutine profile: total 1", "--- mutex:"] {
                if let Ok(profile) = read(&format!("{head}\n{text}")) {
                    prop_assert_eq!(profile.flaw(), None);
                }
            }
        }
    }
}
