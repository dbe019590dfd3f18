//! The CPU profiles of V8 (`node --cpu-prof`, Chrome DevTools, `.cpuprofile`): a tree of functions, and the node that was
//! seen at each sample with the time since the one before.
//! <https://chromedevtools.github.io/devtools-protocol/tot/Profiler/#type-Profile>

use std::collections::HashMap;

use serde::Deserialize;

use crate::model::profile::{Builder, Frame, Kind, Origin, Profile, Unit};
use crate::report::profile::tree::file_name;
use crate::text::number;

/// Why a document is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CpuProfileError {
    #[error("a broken .cpuprofile: {0}")]
    Shape(String),
    #[error("a broken .cpuprofile: node {0} is twice in it or its own caller")]
    Circle(u64),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    nodes: Vec<Node>,
    #[serde(default)]
    samples: Vec<u64>,
    /// Microseconds; the first is from the start to the first sample.
    #[serde(default)]
    time_deltas: Vec<f64>,
    #[serde(default)]
    start_time: f64,
    #[serde(default)]
    end_time: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    id: u64,
    call_frame: CallFrame,
    #[serde(default)]
    hit_count: u64,
    #[serde(default)]
    children: Vec<u64>,
    /// Newer ones name the caller instead.
    #[serde(default)]
    parent: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallFrame {
    function_name: String,
    #[serde(default)]
    url: String,
    /// From 0; -1 where there is none.
    #[serde(default)]
    line_number: i64,
}

/// Whether a JSON document that begins so looks like it.
pub(crate) fn is_it(document: &str) -> bool {
    ["\"nodes\"", "\"callFrame\"", "\"functionName\""].iter().all(|word| document.contains(word))
}

/// Reads it.
pub(crate) fn read(bytes: &[u8]) -> Result<Profile, CpuProfileError> {
    let document: Document =
        serde_json::from_slice(bytes).map_err(|error| CpuProfileError::Shape(error.to_string()))?;
    let kinds = [("cpu", Unit::Nanoseconds), ("samples", Unit::Count)];
    let mut builder = Builder::new(kinds.map(|(name, unit)| Kind { name: name.to_owned(), unit }).to_vec());
    let at: HashMap<u64, usize> = document.nodes.iter().enumerate().map(|(at, node)| (node.id, at)).collect();
    let mut callers: Vec<Option<usize>> = document.nodes.iter().map(|node| at.get(&node.parent?).copied()).collect();
    for (caller, node) in document.nodes.iter().enumerate() {
        for child in &node.children {
            if let Some(child) = at.get(child) {
                callers[*child] = Some(caller);
            }
        }
    }
    let mut places: Vec<Option<u32>> = vec![None; document.nodes.len()];
    for start in 0..document.nodes.len() {
        // From a node up to one whose place is known; longer than all nodes is a circle.
        let mut path = Vec::new();
        let mut next = Some(start);
        while let Some(node) = next.filter(|node| places[*node].is_none()) {
            if path.len() > document.nodes.len() {
                return Err(CpuProfileError::Circle(document.nodes[node].id));
            }
            path.push(node);
            next = callers[node];
        }
        let mut caller = next.and_then(|node| places[node]);
        for node in path.into_iter().rev() {
            let frame = &document.nodes[node].call_frame;
            if frame.function_name == "(root)" {
                continue;
            }
            let frame = named(frame, &mut builder);
            caller = Some(builder.node(caller, frame));
            places[node] = caller;
        }
    }
    // A sample lasts until the next.
    let mut time: HashMap<usize, [f64; 2]> = HashMap::new();
    for (at_sample, id) in document.samples.iter().enumerate() {
        let Some(node) = at.get(id) else { continue };
        let micros = document.time_deltas.get(at_sample + 1).copied().unwrap_or(0.0).max(0.0);
        let sum = time.entry(*node).or_default();
        *sum = [sum[0] + micros, sum[1] + 1.0];
    }
    let duration = (document.end_time - document.start_time).max(0.0);
    if document.samples.is_empty() {
        // Older ones have counts only.
        let all: u64 = document.nodes.iter().fold(0, |sum: u64, node| sum.saturating_add(node.hit_count));
        let each = if all > 0 { duration / all as f64 } else { 0.0 };
        for (node, of) in document.nodes.iter().enumerate() {
            time.insert(node, [of.hit_count as f64 * each, of.hit_count as f64]);
        }
    }
    let (mut samples, mut idle) = (0, 0.0);
    for (node, [micros, count]) in time {
        let Some(place) = places[node] else { continue };
        if document.nodes[node].call_frame.function_name == "(idle)" {
            idle += micros;
            continue;
        }
        builder.add(place, None, 0, (micros * 1e3).round() as u64);
        builder.add(place, None, 1, count as u64);
        samples += count as u64;
    }
    let mut profile = builder.build();
    profile.rows.retain(|row| row.values.iter().any(|value| *value > 0));
    profile.duration_ns = (duration * 1e3) as u64;
    profile.quality.is_foreign = true;
    profile.quality.sampler = "V8".to_owned();
    profile.quality.samples = samples;
    if idle > 0.0 {
        let idle = number::duration(std::time::Duration::from_micros(idle as u64));
        profile.quality.notes.push(format!("{idle} in which it was idle are left out"));
    }
    Ok(profile)
}

/// Functions without a name are told apart by their place.
fn named(frame: &CallFrame, builder: &mut Builder) -> u32 {
    let line = u32::try_from(frame.line_number.saturating_add(1)).ok().filter(|line| *line > 0);
    let name = match (frame.function_name.as_str(), file_name(&frame.url), line) {
        ("", "", _) => "(anonymous)".to_owned(),
        ("", file, Some(line)) => format!("(anonymous) {file}:{line}"),
        ("", file, None) => format!("(anonymous) {file}"),
        (name, ..) => name.to_owned(),
    };
    let file = Some(frame.url.as_str()).filter(|url| !url.is_empty());
    builder.frame(Frame { name: &name, file, line, origin: Origin::Jit, ..Frame::default() })
}

#[cfg(test)]
mod tests {
    use super::{is_it, read};

    /// As Node 20 writes it with `--cpu-prof`, shortened.
    const TEXT: &str = r#"{"nodes":[
        {"id":1,"callFrame":{"functionName":"(root)","scriptId":"0","url":"","lineNumber":-1,"columnNumber":-1},"hitCount":0,"children":[2,3]},
        {"id":2,"callFrame":{"functionName":"(idle)","scriptId":"0","url":"","lineNumber":-1,"columnNumber":-1},"hitCount":1},
        {"id":3,"callFrame":{"functionName":"","scriptId":"7","url":"file:///tmp/w.js","lineNumber":0,"columnNumber":0},"hitCount":1,"children":[4]},
        {"id":4,"callFrame":{"functionName":"hot","scriptId":"7","url":"file:///tmp/w.js","lineNumber":4,"columnNumber":12},"hitCount":2,"positionTicks":[{"line":6,"ticks":2}]}],
        "startTime":1000,"endTime":2500,"samples":[3,4,4,2],"timeDeltas":[100,200,300,400]}"#;

    #[test]
    fn samples_last_until_the_next() {
        assert!(is_it(TEXT));
        let profile = read(TEXT.as_bytes()).expect("a profile");
        assert_eq!(profile.flaw(), None);
        assert_eq!((profile.total(0), profile.total(1), profile.duration_ns), (900_000, 3, 1_500_000));
        let row = profile.rows.iter().find(|row| row.values[1] == 2).expect("the hot one");
        let names: Vec<&str> = profile.stack(row.node).map(|frame| frame.name).collect();
        assert_eq!((names, row.values[0]), (vec!["hot", "(anonymous) w.js:1"], 700_000));
        assert_eq!(profile.frames.iter().find(|frame| frame.name == "hot").and_then(|frame| frame.line), Some(5));
    }

    #[test]
    fn counts_stand_in_for_samples_and_circles_are_refused() {
        let old = TEXT.replace(r#""samples":[3,4,4,2],"timeDeltas":[100,200,300,400]"#, r#""samples":[]"#);
        let profile = read(old.as_bytes()).expect("a profile");
        assert_eq!((profile.total(0), profile.total(1)), (1_125_000, 3));
        let circle = TEXT.replace("\"hitCount\":2", "\"hitCount\":2,\"children\":[3]");
        let refused = read(circle.as_bytes()).expect_err("a circle").to_string();
        assert!(refused.contains("its own caller"), "{refused}");
        assert!(
            read(b"{\"nodes\":7}").is_err_and(|error| error.to_string().starts_with("a broken .cpuprofile: invalid"))
        );
    }
}
