//! How good the data of a profile are, in words: the same in every output.

use crate::model::profile::{Profile, Quality};
use crate::report::profile::amount;
use crate::text::{number, transcript};

/// Samples below which a rate is none, and the normal distribution no approximation of a proportion.
const SAMPLES_FEW: u64 = 100;
/// Modules without names that are listed.
const NAMELESS_MAX: usize = 3;

/// All that is to be said, on one line.
pub(crate) fn line(profile: &Profile) -> String {
    sentences(profile).join("; ")
}

/// How samples were taken and how many, why not by what is better, what has no names, what else.
pub(crate) fn sentences(profile: &Profile) -> Vec<String> {
    let quality = &profile.quality;
    let mut all = Vec::new();
    // What was read from pprof has all this in its notes, if we wrote it.
    if !(quality.is_foreign && quality.sampler.is_empty() && !quality.notes.is_empty()) {
        all.push(how(quality));
    }
    all.extend(count(quality));
    all.extend(quality.refused.iter().map(transcript::line));
    for nameless in quality.nameless.iter().take(NAMELESS_MAX) {
        let hint = nameless.hint.as_ref().map(|hint| format!(": {}", transcript::line(hint))).unwrap_or_default();
        let samples = number::count(nameless.samples, "sample");
        all.push(format!("no names in {} ({samples}){hint}", transcript::line(&nameless.module)));
    }
    if let Some(more) = quality.nameless.len().checked_sub(NAMELESS_MAX).filter(|more| *more > 0) {
        all.push(format!("no names in {more} more"));
    }
    all.extend(quality.notes.iter().map(transcript::line));
    all
}

/// How far a share that is measured as this may be from the truth, as a share, in 95 of 100 cases: 1.96 standard errors
/// of a proportion, `1.96 sqrt(p (1 - p) / n)`. Nothing of few samples.
pub(crate) fn uncertainty(share: f64, samples: u64) -> Option<f64> {
    (samples >= SAMPLES_FEW).then(|| 1.96 * (share * (1.0 - share) / samples as f64).max(0.0).sqrt())
}

fn how(quality: &Quality) -> String {
    let sampler = match quality.sampler.as_str() {
        "" => "the source does not say how samples were taken".to_owned(),
        sampler => transcript::line(sampler),
    };
    match quality.rate_asked {
        // Of a moment the rate says nothing.
        0 => sampler,
        asked if quality.samples < SAMPLES_FEW => format!("{sampler}: {asked} samples a second asked"),
        asked => format!("{sampler}: {asked} samples a second asked, {:.0} got", quality.rate_got),
    }
}

fn count(quality: &Quality) -> Option<String> {
    if quality.samples == 0 && quality.lost == 0 {
        return (!quality.sampler.is_empty()).then(|| "no samples".to_owned());
    }
    let of = |part: u64, whole: u64| match part {
        0 => "0".to_owned(),
        part => format!("{} ({})", number::grouped(part), amount::percent(amount::share(part, whole))),
    };
    let samples =
        if quality.samples == 1 { "1 sample".to_owned() } else { number::grouped(quality.samples) + " samples" };
    let unknown = of(quality.unknown, quality.samples);
    let mut text = if quality.is_foreign {
        format!("{samples}, lost and truncated ones not known, {unknown} unknown")
    } else {
        let lost = of(quality.lost, quality.samples.saturating_add(quality.lost));
        format!("{samples}, {lost} lost, {} truncated, {unknown} unknown", of(quality.truncated, quality.samples))
    };
    if let Some(points) = uncertainty(0.1, quality.samples) {
        text.push_str(&format!(", a share of 10% is good to {:.1} points", points * 100.0));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::{line, uncertainty};
    use crate::model::profile::Profile;
    use crate::report::profile::sample;

    #[test]
    fn everything_is_said() {
        let expected = "cpu-clock, user and kernel: 999 samples a second asked, 987 got; \
            2,000 samples, 20 (1.0%) lost, 41 (2.1%) truncated, 12 (0.6%) unknown, a share of 10% is good to 1.3 points; \
            not by cycles: this machine has no counters; \
            no names in /usr/lib/libz.so.1 (12 samples): zlib1g-dbgsym; the rate was lowered";
        assert_eq!(line(&sample::rich()), expected);
        assert_eq!(line(&Profile::default()), "the source does not say how samples were taken");
    }

    #[test]
    fn more_samples_say_more() {
        assert_eq!(uncertainty(0.5, 0), None);
        assert_eq!(uncertainty(0.5, 100).map(|points| (points * 1000.0).round()), Some(98.0));
    }
}
