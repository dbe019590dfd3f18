//! Two profiles beside each other: how much more or less each function took, and whether that is more than chance.
//!
//! Amounts are compared first, because a leak that grows by 39 MiB is that whatever else a program holds; shares of the
//! whole come second, for runs of different length. Functions are the same if name and file name of the module are.
//!
//! A change counts if it is large against its standard error: `z = (v2 - v1) / sqrt(var1 + var2)`. Of time, `n` samples
//! that stand for `w` each have the variance `n w^2` (Poisson), which is `v w`. Of memory, an object of `s` bytes is sampled
//! with the chance `p = 1 - exp(-s / mean)` and stands for `1 / p`; such objects of `v` bytes in all have the variance
//! `v s (1 - p) / p`: large ones are known exactly. It takes samples to be independent, which is nearly so, and says
//! nothing of how runs differ from each other.

use std::collections::HashMap;
use std::io::{self, Write};

use serde::{Serialize, Serializer};

use crate::model::profile::{Profile, Unit};
use crate::report::profile::text::name::shorten;
use crate::report::profile::tree::{Names, Roots, Tree};
use crate::report::profile::{amount, quality};
use crate::text::layout::{Layout, Style, pad, wrap};
use crate::text::{escape, number, transcript};

/// The form of the JSON document.
pub(crate) const SCHEMA: &str = "apm.profile-diff/1";

/// |z| from which chance is unlikely: one in a thousand, and one in a million. Hundreds of functions are compared, and two
/// runs of one program differ by more than sampling does.
const LIKELY: f64 = 3.29;
const SURE: f64 = 4.89;
/// Samples, of both together, below which the normal distribution is no good approximation.
const SAMPLES_MIN: f64 = 10.0;
/// The largest |z|: where something is known exactly there is no other bound.
const Z_MAX: f64 = 1e6;
/// Columns of the numbers of a row of text.
const NUMBERS: usize = 48;
/// A ratio from which on a change is written as a factor and not in percent.
const TIMES: f64 = 2.0;

/// What changed in one kind.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison<'a> {
    pub(crate) schema: &'static str,
    pub(crate) kind: String,
    pub(crate) unit: Unit,
    pub(crate) before: Whole,
    pub(crate) after: Whole,
    /// Of all functions together.
    pub(crate) change: i64,
    /// Whether that is more than chance.
    pub(crate) certainty: Certainty,
    /// Those that changed most first.
    pub(crate) functions: Functions<'a>,
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

/// The functions of both. The comparison of one is computed when it is written: there may be millions.
#[derive(Debug)]
pub(crate) struct Functions<'a> {
    names: Names<'a>,
    all: Vec<Both>,
    variances: [Option<HashMap<u32, f64>>; 2],
    /// Of all together.
    totals: [u64; 2],
}

/// What a function took before and after: itself, and with what it called.
#[derive(Clone, Copy, Debug, Default)]
struct Both {
    function: u32,
    own: [u64; 2],
    total: [u64; 2],
}

/// A function in both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Change<'a> {
    pub(crate) function: &'a str,
    pub(crate) module: &'a str,
    /// Own values, and how much more or less it is.
    pub(crate) before: u64,
    pub(crate) after: u64,
    pub(crate) change: i64,
    /// Own shares of the whole, 0 to 1.
    pub(crate) share_before: f64,
    pub(crate) share_after: f64,
    /// Shares of the whole with what it called, 0 to 1.
    pub(crate) total_share_before: f64,
    pub(crate) total_share_after: f64,
    /// Of the test of the values; absent where samples are not known.
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

impl Change<'_> {
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

/// The two-proportion z test of shares p1 and p2, of n1 and n2 samples: `z = (p2 - p1) / sqrt(p (1 - p) (1/n1 + 1/n2))` with
/// the pooled share `p = (p1 n1 + p2 n2) / (n1 + n2)`. For pictures, whose widths are shares.
fn z(shares: [f64; 2], samples: [u64; 2]) -> Option<f64> {
    let [n1, n2] = samples.map(|samples| samples as f64);
    if n1 < 1.0 || n2 < 1.0 {
        return None;
    }
    let pooled = (shares[0] * n1 + shares[1] * n2) / (n1 + n2);
    let error = (pooled * (1.0 - pooled) * (1.0 / n1 + 1.0 / n2)).sqrt();
    let z = (shares[1] - shares[0]) / error;
    Some(if z.is_finite() { z } else { 0.0 })
}

/// What that test says.
pub(crate) fn certainty(shares: [f64; 2], samples: [u64; 2]) -> Certainty {
    let Some(z) = z(shares, samples) else { return Certainty::Unknown };
    if shares[0] * (samples[0] as f64) + shares[1] * (samples[1] as f64) < SAMPLES_MIN {
        return Certainty::TooFew;
    }
    of_z(z)
}

/// A value of the first and of the second profile, and its variance where that is known.
#[derive(Clone, Copy, Debug, Default)]
struct Sides {
    values: [u64; 2],
    variances: Option<[f64; 2]>,
}

impl Sides {
    fn change(&self) -> i64 {
        let [before, after] = self.values.map(i128::from);
        i64::try_from(after - before).unwrap_or(if after > before { i64::MAX } else { i64::MIN })
    }

    fn z(&self) -> Option<f64> {
        let change = self.change() as f64;
        let error = self.variances?.iter().sum::<f64>().sqrt();
        Some(if change == 0.0 { 0.0 } else { (change / error).clamp(-Z_MAX, Z_MAX) })
    }

    fn certainty(&self) -> Certainty {
        let (Some(variances), Some(z)) = (self.variances, self.z()) else { return Certainty::Unknown };
        let sum: f64 = self.values.iter().map(|value| *value as f64).sum();
        let variance: f64 = variances.iter().sum();
        // As many samples have this standard error.
        if variance > 0.0 && sum * sum / variance < SAMPLES_MIN {
            return Certainty::TooFew;
        }
        of_z(z)
    }
}

fn of_z(z: f64) -> Certainty {
    match z.abs() {
        z if z >= SURE => Certainty::Sure,
        z if z >= LIKELY => Certainty::Likely,
        _ => Certainty::Chance,
    }
}

/// Variances of what each function took itself, by its number; nothing where the profile does not say how it was sampled.
fn variances<'a>(profile: &'a Profile, kind: usize, names: &mut Names<'a>) -> Option<HashMap<u32, f64>> {
    let name = &profile.kinds.get(kind)?.name;
    let mean = profile.quality.heap_mean_bytes as f64;
    let place = |name: &str| profile.kind(name);
    // Of what is in use, where the file counts it; a size that was allocated is its best estimate otherwise.
    let sizes = [("inuse_space", "inuse_objects"), ("alloc_space", "alloc_objects")];
    let sizes = sizes.map(|(space, objects)| place(space).zip(place(objects))).into_iter().flatten();
    let sizes: Vec<(usize, usize)> = sizes.collect();
    let is_space = ["alloc_space", "inuse_space", "peak_space"].contains(&name.as_str());
    let is_memory = mean > 0.0 && (is_space || ["alloc_objects", "inuse_objects"].contains(&name.as_str()));
    let samples = sample_size(profile);
    if !is_memory && samples == 0 {
        return None;
    }
    let each = profile.total(kind) as f64 / samples.max(1) as f64;
    let functions = names.of(profile);
    let mut all: HashMap<u32, f64> = HashMap::new();
    for row in profile.rows.iter() {
        let value = row.values.get(kind).copied().unwrap_or(0) as f64;
        let frame = profile.nodes.get(row.node as usize).map(|node| node.frame as usize);
        let Some(function) = frame.and_then(|frame| functions.get(frame)) else { continue };
        let variance = if is_memory {
            let of = |at: usize| row.values.get(at).copied().unwrap_or(0) as f64;
            let size = sizes
                .iter()
                .map(|(space, objects)| of(*space) / of(*objects))
                .find(|size| *size > 0.0 && size.is_finite());
            let size = size.unwrap_or(mean);
            let chance = -(-size / mean).exp_m1();
            value * (1.0 - chance) / chance * if is_space { size } else { 1.0 }
        } else {
            value * each
        };
        *all.entry(*function).or_default() += variance;
    }
    Some(all)
}

impl Functions<'_> {
    fn change(&self, both: Both) -> Change<'_> {
        let of = self.names.get(both.function);
        let shares = |values: [u64; 2]| [0, 1].map(|side| amount::share(values[side], self.totals[side]));
        let (own, total) = (shares(both.own), shares(both.total));
        let variances = match &self.variances {
            [Some(a), Some(b)] => Some([a, b].map(|all| all.get(&both.function).copied().unwrap_or(0.0))),
            _ => None,
        };
        let sides = Sides { values: both.own, variances };
        Change {
            function: of.name,
            module: of.module,
            before: sides.values[0],
            after: sides.values[1],
            change: sides.change(),
            share_before: own[0],
            share_after: own[1],
            total_share_before: total[0],
            total_share_after: total[1],
            z: sides.z(),
            certainty: sides.certainty(),
        }
    }

    /// Those that changed most first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Change<'_>> {
        self.all.iter().map(|both| self.change(*both))
    }
}

impl Serialize for Functions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// Compares a kind that both have.
pub(crate) fn compare<'a>(before: &'a Profile, after: &'a Profile, kind: &str) -> Option<Comparison<'a>> {
    let kinds = [before.kind(kind)?, after.kind(kind)?];
    let unit = after.kinds.get(kinds[1])?.unit;
    let mut names = Names::new();
    let mut all: Vec<Both> = Vec::new();
    let mut whole = [0, 0];
    for (side, (profile, kind)) in [(before, kinds[0]), (after, kinds[1])].into_iter().enumerate() {
        let tree = Tree::of(profile, kind, Roots::Code, &mut names);
        whole[side] = tree.total();
        all.resize(names.len(), Both::default());
        for share in tree.shares(&names) {
            let both = &mut all[share.function as usize];
            (both.function, both.own[side], both.total[side]) = (share.function, share.own, share.total);
        }
    }
    // The root is no function.
    all.retain(|both| both.function > 0);
    let variances = [(before, kinds[0]), (after, kinds[1])].map(|(profile, kind)| variances(profile, kind, &mut names));
    all.sort_unstable_by(|a, b| {
        let change = |both: &Both| both.own[0].abs_diff(both.own[1]);
        let name = |both: &Both| (names.get(both.function).name, both.function);
        change(b).cmp(&change(a)).then_with(|| name(a).cmp(&name(b)))
    });
    let sums = match &variances {
        [Some(a), Some(b)] => Some([a, b].map(|all| all.values().sum())),
        _ => None,
    };
    let functions = Functions { names, all, variances, totals: whole };
    let total = Sides { values: whole, variances: sums };
    let side = |profile: &Profile, at: usize| Whole {
        title: profile.title.clone(),
        total: whole[at],
        samples: sample_size(profile),
        quality: quality::line(profile),
    };
    Some(Comparison {
        schema: SCHEMA,
        kind: kind.to_owned(),
        unit,
        before: side(before, 0),
        after: side(after, 1),
        change: total.change(),
        certainty: total.certainty(),
        functions,
    })
}

/// The comparison as JSON.
pub(crate) fn json(comparison: &Comparison<'_>, out: &mut dyn Write) -> io::Result<()> {
    escape::write_json_pretty(comparison, out)
}

/// The comparison for people: the verdict, then so many functions, those first that changed most beyond chance.
pub(crate) fn text(comparison: &Comparison<'_>, top: usize, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    transcript::print(out, |out| write_text(comparison, top, layout, out))
}

fn write_text(comparison: &Comparison<'_>, top: usize, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    for sentence in [headline(comparison), verdict(comparison)] {
        for line in wrap(&sentence, layout.width) {
            writeln!(out, "{}", layout.paint(Style::Strong, &line))?;
        }
    }
    let all = comparison.functions.all.len();
    let real = comparison.functions.iter().filter(is_real).count();
    if real > 0 {
        writeln!(out)?;
        let head = format!("{:>9} {:>9} {:>10} {:>7}  {:8} function", "before", "after", "change", "share", "chance");
        writeln!(out, "{}", layout.paint(Style::Dim, &head))?;
    }
    for change in comparison.functions.iter().filter(is_real).take(top) {
        row(&change, comparison.unit, layout, out)?;
    }
    let (more, quiet) = (real.saturating_sub(top), all - real);
    writeln!(out)?;
    if more > 0 {
        writeln!(out, "{} more changed", number::count(more as u64, "function"))?;
    }
    if quiet > 0 {
        let quiet = number::count(quiet as u64, "function");
        writeln!(out, "{quiet} without a change beyond chance")?;
    }
    for (word, whole) in [("before", &comparison.before), ("after", &comparison.after)] {
        let samples = match whole.samples {
            0 => "number of samples unknown".to_owned(),
            1 => "1 sample".to_owned(),
            samples => number::grouped(samples) + " samples",
        };
        let title = transcript::line(&whole.title);
        let comma = if title.is_empty() { "" } else { ", " };
        for line in wrap(&format!("{word}: {title}{comma}{samples}"), layout.width) {
            writeln!(out, "{}", layout.paint(Style::Dim, &line))?;
        }
    }
    Ok(())
}

/// Whether there is a change that chance does not explain.
fn is_real(change: &Change<'_>) -> bool {
    change.change != 0 && !matches!(change.certainty, Certainty::Chance | Certainty::TooFew)
}

/// `+39 MiB`
fn signed(change: i64, unit: Unit) -> String {
    let sign = if change < 0 { '-' } else { '+' };
    format!("{sign}{}", amount::value(change.unsigned_abs(), unit))
}

/// How the whole changed.
fn headline(comparison: &Comparison<'_>) -> String {
    let [before, after] = [&comparison.before, &comparison.after].map(|whole| whole.total);
    let of = |value| amount::value(value, comparison.unit);
    let ratio = after as f64 / before as f64;
    let relative = match ratio {
        _ if before == 0 || after == 0 => String::new(),
        ratio if ratio >= TIMES => format!(", {ratio:.1} times as much"),
        ratio => format!(", {:+.1}%", (ratio - 1.0) * 100.0),
    };
    let change = match comparison.certainty {
        _ if before == after => "no change".to_owned(),
        Certainty::Chance | Certainty::TooFew => {
            format!("{}{relative}, within chance", signed(comparison.change, comparison.unit))
        }
        _ => format!("{}{relative}", signed(comparison.change, comparison.unit)),
    };
    format!("{}: {} before, {} after: {change}", transcript::line(&comparison.kind), of(before), of(after))
}

fn verdict(comparison: &Comparison<'_>) -> String {
    let name = |change: Change<'_>| {
        format!("{} ({})", transcript::line(change.function), signed(change.change, comparison.unit))
    };
    let find = |is_it: &dyn Fn(&Change<'_>) -> bool| {
        comparison.functions.iter().filter(is_real).find(|one| is_it(one)).map(name)
    };
    let grew = find(&|change| change.change > 0).map(|name| format!("most grew {name}"));
    let shrank = find(&|change| change.change < 0).map(|name| format!("most shrank {name}"));
    match [grew, shrank].into_iter().flatten().collect::<Vec<_>>() {
        said if said.is_empty() => "no function changed beyond chance".to_owned(),
        said => said.join(", "),
    }
}

fn row(change: &Change<'_>, unit: Unit, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let side = |value: u64, word: &str| if value == 0 { word.to_owned() } else { amount::value(value, unit) };
    let before = side(change.before, "new");
    let after = side(change.after, "gone");
    let by = format!("{:>10}", signed(change.change, unit));
    let by = layout.paint(if change.change > 0 { Style::Bad } else { Style::Good }, &by);
    let points = amount::points(change.points());
    let certainty = pad(change.certainty.word(), 8);
    let module = match change.module {
        "" => String::new(),
        module if module.starts_with('[') => format!(" {module}"),
        module => format!(" [{module}]"),
    };
    let name = transcript::line(&format!("{}{module}", change.function));
    let name = shorten(&name, layout.width.saturating_sub(NUMBERS).max(8), layout);
    writeln!(out, "{before:>9} {after:>9} {by} {points:>7}  {certainty} {name}")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::{Certainty, certainty, compare, json, text, z};
    use crate::model::profile::{Builder, Frame, Kind, Profile, Unit};
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

    fn written(before: &Profile, after: &Profile, kind: &str) -> String {
        let comparison = compare(before, after, kind).expect("both have it");
        let mut out = Vec::new();
        text(&comparison, 10, &Layout::PLAIN, &mut out).expect("memory takes everything");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn what_came_and_went_is_named() {
        let before = sample::of(&[("main;a", 500), ("main;b", 400), ("main;old", 100)]);
        let after = sample::of(&[("main;a", 1010), ("main;b", 400), ("main;new", 590)]);
        expect![[r#"
            samples: 1,000 before, 2,000 after: +1,000, 2.0 times as much
            most grew new (+590), most shrank old (-100)

               before     after     change   share  chance   function
                  new       590       +590   +29.5  sure     new [program]
                  500     1,010       +510    +0.5  sure     a [program]
                  100      gone       -100   -10.0  sure     old [program]

            2 functions without a change beyond chance
            before: made by hand, 1,000 samples
            after: made by hand, 2,000 samples
        "#]]
        .assert_eq(&written(&before, &after, "samples"));
        let comparison = compare(&before, &after, "samples").expect("both count samples");
        let mut out = Vec::new();
        json(&comparison, &mut out).expect("memory takes everything");
        let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(
            (&value["functions"][0]["certainty"], &value["functions"][0]["change"]),
            (&"sure".into(), &590.into())
        );
        assert_eq!((&value["change"], &value["certainty"]), (&1000.into(), &"sure".into()));
        assert!(compare(&before, &after, "cpu").is_none());
    }

    /// Memory of functions, in objects of so many bytes.
    fn heap(functions: &[(&str, u64, u64)]) -> Profile {
        let kinds = [("inuse_space", Unit::Bytes), ("alloc_space", Unit::Bytes), ("alloc_objects", Unit::Count)];
        let mut builder = Builder::new(kinds.map(|(name, unit)| Kind { name: name.to_owned(), unit }).to_vec());
        for (name, bytes, objects) in functions {
            let frame = builder.frame(Frame { name, ..Frame::default() });
            let node = builder.node(None, frame);
            [*bytes, *bytes, *objects]
                .iter()
                .enumerate()
                .for_each(|(kind, value)| builder.add(node, None, kind, *value));
        }
        let mut profile = builder.build();
        (profile.quality.samples, profile.quality.heap_mean_bytes) = (40, 512 << 10);
        profile
    }

    /// Regression: a leak of 39 MiB beside 130 MiB that stay changed no share beyond chance.
    #[test]
    fn a_leak_is_seen_beside_much_that_stays() {
        let of =
            |leaked: u64| heap(&[("cache", 100 << 20, 1), ("startup", 30 << 20, 1), ("leak", leaked << 20, leaked)]);
        expect![[r#"
            inuse_space: 131 MiB before, 170 MiB after: +39 MiB, +29.8%
            most grew leak (+39 MiB)

               before     after     change   share  chance   function
                1 MiB    40 MiB    +39 MiB   +22.8  sure     leak

            2 functions without a change beyond chance
            before: 40 samples
            after: 40 samples
        "#]]
        .assert_eq(&written(&of(1), &of(40), "inuse_space"));
        // Of small objects few are sampled, and each stands for half a MiB: that is chance.
        let small = |bytes: u64| heap(&[("cache", 100 << 20, 1), ("small", bytes, bytes / 100)]);
        let certainty = |before: u64, after: u64| {
            let (before, after) = (small(before), small(after));
            let comparison = compare(&before, &after, "inuse_space").expect("both have it");
            comparison.functions.iter().next().map(|change| change.certainty)
        };
        assert_eq!(certainty(10 << 20, 12 << 20), Some(Certainty::Chance));
        assert_eq!(certainty(1 << 20, 2 << 20), Some(Certainty::TooFew));
    }

    #[test]
    fn the_same_amounts_are_no_change_and_unknown_samples_are_said() {
        let one = sample::of(&[("main;a", 500)]);
        assert!(written(&one, &one, "samples").starts_with("samples: 500 before, 500 after: no change\nno function"));
        let close = sample::of(&[("main;a", 510)]);
        assert!(
            written(&one, &close, "samples").starts_with("samples: 500 before, 510 after: +10, +2.0%, within chance")
        );
        let mut foreign = sample::of(&[("main;a", 900)]);
        foreign.quality.samples = 0;
        foreign.kinds[0].name = "weight".to_owned();
        let mut other = foreign.clone();
        other.rows.update(|values| values[0] = 90);
        let said = written(&foreign, &other, "weight");
        assert!(said.starts_with("weight: 900 before, 90 after: -810, -90.0%\nmost shrank a (-810)"), "{said}");
        assert!(said.contains("unknown  a [program]") && said.contains("number of samples unknown"), "{said}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn nothing_differs_from_itself(profile in sample::any_profile()) {
            let comparison = compare(&profile, &profile, "cpu").expect("it has time");
            prop_assert!(comparison.functions.iter().all(|change| change.points() == 0.0 && change.change == 0));
            text(&comparison, 5, &Layout::PLAIN, &mut Vec::new()).expect("memory takes everything");
        }
    }
}
