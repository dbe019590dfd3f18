//! Two profiles beside each other: which functions take another share of the whole, and whether that is more than chance.
//!
//! Shares are compared, not values: two runs are of different length. Functions are the same if name and file name of the
//! module are. A change counts by the two-proportion z test on the functions' own shares p1 and p2 of n1 and n2 samples:
//! `z = (p2 - p1) / sqrt(p (1 - p) (1/n1 + 1/n2))` with the pooled share `p = (p1 n1 + p2 n2) / (n1 + n2)`. It takes samples
//! to be independent and of equal weight, which is nearly so for time and only roughly for bytes.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use crate::model::profile::{Profile, Unit};
use crate::report::profile::text::name::shorten;
use crate::report::profile::tree::{Names, Roots, Tree};
use crate::report::profile::{amount, quality};
use crate::text::layout::{Layout, Style, pad, wrap};
use crate::text::{escape, transcript};

/// The form of the JSON document.
pub(crate) const SCHEMA: &str = "apm.profile-diff/1";

/// |z| from which chance is unlikely: one in a thousand, and one in a million. Hundreds of functions are compared, and two
/// runs of one program differ by more than sampling does.
const LIKELY: f64 = 3.29;
const SURE: f64 = 4.89;
/// Samples, of both together, below which the normal distribution is no good approximation.
const SAMPLES_MIN: f64 = 10.0;
/// Columns of the numbers of a row of text.
const NUMBERS: usize = 37;

/// What changed in one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Comparison {
    pub(crate) schema: &'static str,
    pub(crate) kind: String,
    pub(crate) unit: Unit,
    pub(crate) before: Whole,
    pub(crate) after: Whole,
    /// Those that changed most first.
    pub(crate) functions: Vec<Change>,
}

/// One of the two profiles.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Whole {
    pub(crate) title: String,
    pub(crate) total: u64,
    /// Samples the certainty is computed from; 0 where they are not known.
    pub(crate) samples: u64,
    pub(crate) quality: String,
}

/// A function in both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Change {
    pub(crate) function: String,
    pub(crate) module: String,
    /// Own values.
    pub(crate) before: u64,
    pub(crate) after: u64,
    /// Own shares of the whole, 0 to 1.
    pub(crate) share_before: f64,
    pub(crate) share_after: f64,
    /// Shares of the whole with what it called, 0 to 1.
    pub(crate) total_share_before: f64,
    pub(crate) total_share_after: f64,
    /// Of the test; absent where samples are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) z: Option<f64>,
    pub(crate) certainty: Certainty,
}

/// Whether a change is more than chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Certainty {
    /// Once in a million cases by chance.
    Sure,
    /// Once in a thousand.
    Likely,
    /// More often.
    Chance,
    /// There are too few samples to say.
    TooFew,
    /// The profiles do not say how many samples they are of.
    Unknown,
}

impl Certainty {
    fn word(self) -> &'static str {
        match self {
            Self::Sure => "sure",
            Self::Likely => "likely",
            Self::Chance => "chance",
            Self::TooFew => "too few",
            Self::Unknown => "unknown",
        }
    }
}

impl Change {
    fn points(&self) -> f64 {
        self.share_after - self.share_before
    }
}

/// Samples in a profile; a kind that counts them stands in where its quality does not say. 0 if neither does.
pub(crate) fn sample_size(profile: &Profile) -> u64 {
    match profile.quality.samples {
        0 => profile.kind("samples").map_or(0, |kind| profile.total(kind)),
        samples => samples,
    }
}

/// The test of two shares, of so many samples each.
pub(crate) fn z(shares: [f64; 2], samples: [u64; 2]) -> Option<f64> {
    let [n1, n2] = samples.map(|samples| samples as f64);
    if n1 < 1.0 || n2 < 1.0 {
        return None;
    }
    let pooled = (shares[0] * n1 + shares[1] * n2) / (n1 + n2);
    let error = (pooled * (1.0 - pooled) * (1.0 / n1 + 1.0 / n2)).sqrt();
    let z = (shares[1] - shares[0]) / error;
    Some(if z.is_finite() { z } else { 0.0 })
}

/// What the test says.
pub(crate) fn certainty(shares: [f64; 2], samples: [u64; 2]) -> Certainty {
    let Some(z) = z(shares, samples) else { return Certainty::Unknown };
    if shares[0] * (samples[0] as f64) + shares[1] * (samples[1] as f64) < SAMPLES_MIN {
        return Certainty::TooFew;
    }
    match z.abs() {
        z if z >= SURE => Certainty::Sure,
        z if z >= LIKELY => Certainty::Likely,
        _ => Certainty::Chance,
    }
}

/// Compares a kind that both have.
pub(crate) fn compare(before: &Profile, after: &Profile, kind: &str) -> Option<Comparison> {
    let kinds = [before.kind(kind)?, after.kind(kind)?];
    let unit = after.kinds.get(kinds[1])?.unit;
    let mut names = Names::new();
    let trees =
        [(before, kinds[0]), (after, kinds[1])].map(|(profile, kind)| Tree::of(profile, kind, Roots::Code, &mut names));
    let samples = [before, after].map(sample_size);
    let mut all: BTreeMap<u32, [(u64, u64); 2]> = BTreeMap::new();
    for (side, tree) in trees.iter().enumerate() {
        for share in tree.shares(&names) {
            all.entry(share.function).or_default()[side] = (share.own, share.total);
        }
    }
    let whole = [trees[0].total(), trees[1].total()];
    let mut functions: Vec<Change> = all
        .into_iter()
        .filter_map(|(function, values)| {
            let function = names.all.get(function as usize)?;
            let own = [amount::share(values[0].0, whole[0]), amount::share(values[1].0, whole[1])];
            let total = [amount::share(values[0].1, whole[0]), amount::share(values[1].1, whole[1])];
            Some(Change {
                function: function.name.clone(),
                module: function.module.clone(),
                before: values[0].0,
                after: values[1].0,
                share_before: own[0],
                share_after: own[1],
                total_share_before: total[0],
                total_share_after: total[1],
                z: z(own, samples),
                certainty: certainty(own, samples),
            })
        })
        .collect();
    functions.sort_by(|a, b| b.points().abs().total_cmp(&a.points().abs()).then_with(|| a.function.cmp(&b.function)));
    let side = |profile: &Profile, at: usize| Whole {
        title: profile.title.clone(),
        total: whole[at],
        samples: samples[at],
        quality: quality::line(profile),
    };
    Some(Comparison {
        schema: SCHEMA,
        kind: kind.to_owned(),
        unit,
        before: side(before, 0),
        after: side(after, 1),
        functions,
    })
}

/// The comparison as JSON.
pub(crate) fn json(comparison: &Comparison, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", escape::json(&serde_json::to_string_pretty(comparison)?))
}

/// The comparison for people: the verdict, then so many functions, those first that changed most beyond chance.
pub(crate) fn text(comparison: &Comparison, top: usize, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    transcript::print(out, |out| write_text(comparison, top, layout, out))
}

fn write_text(comparison: &Comparison, top: usize, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    for line in wrap(&verdict(comparison), layout.width) {
        writeln!(out, "{}", layout.paint(Style::Strong, &line))?;
    }
    let of = |whole: &Whole| amount::value(whole.total, comparison.unit);
    let kind = transcript::line(&comparison.kind);
    writeln!(out, "{kind}: {} before, {} after; shares are of these", of(&comparison.before), of(&comparison.after))?;
    let is_real =
        |change: &&Change| change.points() != 0.0 && !matches!(change.certainty, Certainty::Chance | Certainty::TooFew);
    let real: Vec<&Change> = comparison.functions.iter().filter(is_real).collect();
    if !real.is_empty() {
        writeln!(out)?;
        let head = format!("{:>7} {:>7} {:>7}  {:8} function", "before", "after", "points", "chance");
        writeln!(out, "{}", layout.paint(Style::Dim, &head))?;
    }
    for change in real.iter().take(top) {
        row(change, layout, out)?;
    }
    let more = real.len().saturating_sub(top);
    let quiet = comparison.functions.len() - real.len();
    writeln!(out)?;
    if more > 0 {
        writeln!(out, "{more} more changed")?;
    }
    writeln!(out, "{quiet} functions are as before, within chance, or have too few samples to say")?;
    for (word, whole) in [("before", &comparison.before), ("after", &comparison.after)] {
        for line in wrap(&format!("{word}: {}", whole.quality), layout.width) {
            writeln!(out, "{}", layout.paint(Style::Dim, &line))?;
        }
    }
    Ok(())
}

fn verdict(comparison: &Comparison) -> String {
    let real = |change: &&Change| matches!(change.certainty, Certainty::Sure | Certainty::Likely | Certainty::Unknown);
    let name = |change: &Change| {
        format!("{} ({} points)", transcript::line(&change.function), amount::points(change.points()))
    };
    let find =
        |is_it: &dyn Fn(&Change) -> bool| comparison.functions.iter().filter(real).find(|one| is_it(one)).map(name);
    let grew = find(&|change| change.points() > 0.0).map(|name| format!("most grew {name}"));
    let shrank = find(&|change| change.points() < 0.0).map(|name| format!("most shrank {name}"));
    match [grew, shrank].into_iter().flatten().collect::<Vec<_>>() {
        said if said.is_empty() => "no function changed its share beyond chance".to_owned(),
        said => said.join(", "),
    }
}

fn row(change: &Change, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let side = |value: u64, share: f64, word: &str| if value == 0 { word.to_owned() } else { amount::percent(share) };
    let before = side(change.before, change.share_before, "new");
    let after = side(change.after, change.share_after, "gone");
    let points = format!("{:>7}", amount::points(change.points()));
    let points = layout.paint(if change.points() > 0.0 { Style::Bad } else { Style::Good }, &points);
    let certainty = pad(change.certainty.word(), 8);
    let module = match change.module.as_str() {
        "" => String::new(),
        module if module.starts_with('[') => format!(" {module}"),
        module => format!(" [{module}]"),
    };
    let name = transcript::line(&format!("{}{module}", change.function));
    let name = shorten(&name, layout.width.saturating_sub(NUMBERS).max(8), layout);
    writeln!(out, "{before:>7} {after:>7} {points}  {certainty} {name}")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::{Certainty, certainty, compare, json, text, z};
    use crate::report::profile::sample;
    use crate::text::layout::Layout;

    #[test]
    fn chance_is_told_from_change() {
        // (0.6 - 0.5) / sqrt(0.55 * 0.45 * 2 / 100) = 1.42; with a thousand each 4.49.
        let shares = [0.5, 0.6];
        assert_eq!(z(shares, [100, 100]).map(|z| (z * 100.0).round()), Some(142.0));
        assert_eq!(z(shares, [1000, 1000]).map(|z| (z * 100.0).round()), Some(449.0));
        let said = [[100, 100], [600, 600], [1500, 1500], [4, 4], [0, 100]].map(|n| certainty(shares, n));
        use Certainty::{Chance, Likely, Sure, TooFew, Unknown};
        assert_eq!(said, [Chance, Likely, Sure, TooFew, Unknown]);
        assert_eq!(z([0.0, 0.0], [5, 5]), Some(0.0));
    }

    #[test]
    fn what_came_and_went_is_named() {
        let before = sample::of(&[("main;a", 500), ("main;b", 400), ("main;old", 100)]);
        let after = sample::of(&[("main;a", 1010), ("main;b", 400), ("main;new", 590)]);
        let comparison = compare(&before, &after, "samples").expect("both count samples");
        let mut out = Vec::new();
        text(&comparison, 10, &Layout::PLAIN, &mut out).expect("memory takes everything");
        expect![[r#"
            most grew new (+29.5 points), most shrank b (-20.0 points)
            samples: 1,000 before, 2,000 after; shares are of these

             before   after  points  chance   function
                new   29.5%   +29.5  sure     new [program]
              40.0%   20.0%   -20.0  sure     b [program]
              10.0%    gone   -10.0  sure     old [program]

            2 functions are as before, within chance, or have too few samples to say
            before: the source does not say how samples were taken; 1,000 samples, 0 lost, 0
            truncated, 0 unknown, a share of 10% is good to 1.9 points
            after: the source does not say how samples were taken; 2,000 samples, 0 lost, 0
            truncated, 0 unknown, a share of 10% is good to 1.3 points
        "#]]
        .assert_eq(&String::from_utf8(out).expect("text"));
        let mut out = Vec::new();
        json(&comparison, &mut out).expect("memory takes everything");
        let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(value["functions"][0]["certainty"], "sure");
        assert!(compare(&before, &after, "cpu").is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn nothing_differs_from_itself(profile in sample::any_profile()) {
            let comparison = compare(&profile, &profile, "cpu").expect("it has time");
            prop_assert!(comparison.functions.iter().all(|change| change.points() == 0.0));
            text(&comparison, 5, &Layout::PLAIN, &mut Vec::new()).expect("memory takes everything");
        }
    }
}
