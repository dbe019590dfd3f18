//! The file format of speedscope (<https://www.speedscope.app>), which runs in a browser without a server: one "sampled"
//! profile a kind, frames shared. Its schema: <https://www.speedscope.app/file-format-schema.json>.

use std::io::{self, Write};

use serde::{Serialize, Serializer};

use crate::model::profile::{Frame, Profile, Row, Unit};
use crate::report::profile::quality;
use crate::text::escape;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a, F, P> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    name: &'a str,
    exporter: String,
    active_profile_index: usize,
    shared: Shared<F>,
    profiles: P,
}

#[derive(Serialize)]
struct Shared<F> {
    frames: F,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sampled<'a, S, W> {
    r#type: &'static str,
    name: &'a str,
    unit: &'static str,
    start_value: u64,
    end_value: u64,
    samples: S,
    weights: W,
}

/// Writes all kinds. The data-quality line goes where a viewer has a place for it: the name of the exporter.
pub(crate) fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let name = |frame| named(profile, frame);
    let file = File {
        schema: "https://www.speedscope.app/file-format-schema.json",
        name: &profile.title,
        exporter: format!("apm; {}", quality::line(profile)),
        active_profile_index: 0,
        shared: Shared { frames: Each(|| profile.frames.iter().map(name)) },
        profiles: Each(|| (0..profile.kinds.len()).map(|kind| sampled(profile, kind))),
    };
    escape::write_json(&file, out)
}

/// A list that is written as it is made: all stacks together are many times as large as the profile.
struct Each<F>(F);

impl<I: Iterator<Item: Serialize>, F: Fn() -> I> Serialize for Each<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

fn named<'a>(profile: &'a Profile, frame: Frame<'a>) -> Named<'a> {
    // Without a source file the module says at least whose it is.
    let module = || frame.module.and_then(|module| profile.modules.get(module as usize)).map(|module| &*module.path);
    Named { name: frame.name, file: frame.file.or_else(module), line: frame.line }
}

fn sampled(profile: &Profile, kind: usize) -> impl Serialize {
    let weight = move |row: &Row<'_>| row.values.get(kind).copied().unwrap_or(0);
    let rows = move || profile.rows.iter().filter(move |row| weight(row) > 0);
    let unit = match profile.kinds[kind].unit {
        Unit::Nanoseconds => "nanoseconds",
        Unit::Bytes => "bytes",
        Unit::Count => "none",
    };
    Sampled {
        r#type: "sampled",
        name: &profile.kinds[kind].name,
        unit,
        start_value: 0,
        end_value: profile.total(kind),
        samples: Each(move || rows().map(move |row| stack(profile, row.node))),
        weights: Each(move || rows().map(move |row| weight(&row))),
    }
}

/// Indices of frames, the outermost first.
fn stack(profile: &Profile, node: u32) -> Vec<u32> {
    let mut all: Vec<u32> = profile.path(node).map(|node| node.frame).collect();
    all.reverse();
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::write;
    use crate::report::profile::sample;

    fn written(profile: &crate::model::profile::Profile) -> Value {
        let mut out = Vec::new();
        write(profile, &mut out).expect("memory takes everything");
        serde_json::from_slice(&out).expect("JSON")
    }

    #[test]
    fn stacks_run_from_the_outermost() {
        let value = written(&sample::of(&[("main;f", 3), ("main", 1)]));
        assert_eq!(
            value["shared"]["frames"],
            json!([
                {"name": "main", "file": "/bin/program"}, {"name": "f", "file": "/bin/program"}
            ])
        );
        assert_eq!(
            value["profiles"],
            json!([{
                "type": "sampled", "name": "samples", "unit": "none", "startValue": 0, "endValue": 4,
                "samples": [[0], [0, 1]], "weights": [1, 3]
            }])
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn weights_are_the_whole(profile in sample::any_profile()) {
            let value = written(&profile);
            for kind in 0..2 {
                let weights = value["profiles"][kind]["weights"].as_array().expect("weights");
                let sum: u64 = weights.iter().filter_map(Value::as_u64).sum();
                prop_assert_eq!(sum, profile.total(kind));
            }
        }
    }
}
