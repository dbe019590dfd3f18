//! A profile for people at a terminal: what took most, the functions that took most, the hottest paths, what happened
//! beside, and how good all that is.

use std::io::{self, Write};

use crate::model::profile::{Profile, Unit};
use crate::report::profile::text::name::{named, shorten};
use crate::report::profile::tree::{Names, Roots, Share, Tree};
use crate::report::profile::{amount, delta, quality};
use crate::text::layout::{Layout, Style, pad, wrap};
use crate::text::{number, transcript};

mod beside;
mod extent;
pub(crate) mod name;
mod paths;

pub(crate) use extent::Extent;

/// Kinds of values that stand beside each other.
const MOVED: [&str; 4] = ["read", "written", "received", "sent"];
/// Columns of a title; a command line may have thousands of words.
const TITLE_MAX: usize = 160;
/// Columns of the name of a function in a headline.
const NAME_MAX: usize = 70;
/// Columns of the four numbers of a row.
const NUMBERS: usize = 35;

/// One kind as it is shown.
struct Seen<'a> {
    names: Names<'a>,
    tree: Tree,
    shares: Vec<Share>,
    /// Of the functions of a script, where an interpreter ran one.
    script: Vec<Share>,
}

impl<'a> Seen<'a> {
    fn of(profile: &'a Profile, kind: usize, roots: Roots) -> Self {
        let mut names = Names::new();
        let tree = Tree::of(profile, kind, roots, &mut names);
        let (shares, script) = (tree.shares(&names), tree.script(&names));
        Self { names, tree, shares, script }
    }
}

/// Writes it.
pub(crate) fn write(profile: &Profile, extent: &Extent, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    transcript::print(out, |out| write_all(profile, extent, layout, out))
}

fn write_all(profile: &Profile, extent: &Extent, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let first = most(profile);
    // Of large profiles this is most of the work: done once where it is the same.
    let seen = first.map(|kind| Seen::of(profile, kind, Roots::Code));
    for line in wrap(&verdict(profile, first.zip(seen.as_ref())), layout.width) {
        writeln!(out, "{}", layout.paint(Style::Strong, &line))?;
    }
    let mut seen = seen.filter(|_| extent.roots == Roots::Code);
    for kind in kinds(profile) {
        let known = if first == Some(kind) { seen.take() } else { None };
        let seen = known.unwrap_or_else(|| Seen::of(profile, kind, extent.roots));
        write_kind(profile, kind, &seen, extent, layout, out)?;
    }
    beside::timelines(profile, layout, out)?;
    let of_io = profile.kinds.iter().any(|kind| MOVED.contains(&kind.name.as_str()));
    for list in &profile.tables.lists {
        beside::list(list, of_io, extent.top, layout, out)?;
    }
    writeln!(out)?;
    for sentence in quality::sentences(profile) {
        for (at, line) in wrap(&sentence, layout.width.saturating_sub(6).max(1)).iter().enumerate() {
            let head = if at == 0 { "data" } else { "" };
            writeln!(out, "{}", layout.paint(Style::Dim, &format!("{} {line}", pad(head, 5))))?;
        }
    }
    Ok(())
}

/// Kinds that have something to show. Samples are counted beside what they stand for: with it they say nothing more.
pub(crate) fn kinds(profile: &Profile) -> Vec<usize> {
    let mut all: Vec<usize> = (0..profile.kinds.len()).filter(|kind| profile.total(*kind) > 0).collect();
    if all.len() > 1 {
        all.retain(|kind| profile.kinds[*kind].name != "samples");
    }
    all
}

/// What was profiled, and [`summary`].
fn verdict(profile: &Profile, seen: Option<(usize, &Seen<'_>)>) -> String {
    match title(profile) {
        title if title.is_empty() => summary_of(profile, seen),
        title => format!("{title}: {}", summary_of(profile, seen)),
    }
}

/// What was profiled, in one line that is not too long.
pub(crate) fn title(profile: &Profile) -> String {
    Layout::PLAIN.cut(&transcript::line(&profile.title), TITLE_MAX)
}

/// When it began, to the second.
pub(crate) fn began(profile: &Profile) -> String {
    match profile.at.parse::<jiff::Timestamp>() {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => transcript::line(&profile.at),
    }
}

/// The kind that a summary is about.
fn most(profile: &Profile) -> Option<usize> {
    let shown = kinds(profile);
    let first = *shown.first()?;
    // Of the difference of two profiles what grew or what shrank, whichever is more.
    if let Some((_, [more, less])) = delta::change(profile, first) {
        let ending = if less > more { delta::LESS } else { delta::MORE };
        return shown.into_iter().find(|at| profile.kinds[*at].name.ends_with(ending));
    }
    // Of bytes read, written, received and sent the most; of time and memory the first, which is the whole of it.
    let is_moved = |at: &usize| profile.kinds.get(*at).is_some_and(|kind| MOVED.contains(&kind.name.as_str()));
    let most = shown.iter().filter(|at| is_moved(at)).max_by_key(|at| (profile.total(**at), std::cmp::Reverse(**at)));
    most.copied().filter(|_| is_moved(&first)).or(Some(first))
}

/// What took most, of the first kind that has something; or that there is nothing, and why.
pub(crate) fn summary(profile: &Profile) -> String {
    let first = most(profile);
    let seen = first.map(|kind| Seen::of(profile, kind, Roots::Code));
    summary_of(profile, first.zip(seen.as_ref()))
}

fn summary_of(profile: &Profile, seen: Option<(usize, &Seen<'_>)>) -> String {
    let Some((at, Seen { names, tree, shares, script })) = seen else { return nothing(profile) };
    let kind = &profile.kinds[at];
    let total = tree.total();
    let whole = match delta::change(profile, at) {
        Some((name, [more, less])) => {
            let sign = if less > more { "-" } else { "+" };
            let [sum, more, less] = [more.abs_diff(less), more, less].map(|value| amount::value(value, kind.unit));
            format!("{} {sign}{sum} (+{more}, -{less})", transcript::line(name))
        }
        None => format!("{} {}", transcript::line(&kind.name), amount::value(total, kind.unit)),
    };
    let when = match profile.duration_ns {
        0 => String::new(),
        ns => format!(" in {}", amount::value(ns, Unit::Nanoseconds)),
    };
    // The interpreter's own functions say nothing of the script.
    let top = script.first().or(shares.first()).map(|share| {
        let name = transcript::line(names.get(share.function).name);
        let name = shorten(&name, NAME_MAX, &Layout::PLAIN);
        let percent = amount::percent(amount::share(share.own, total));
        let points = quality::uncertainty(amount::share(share.own, total), profile.quality.samples);
        let points = points.map(|points| format!(" (+-{:.1})", points * 100.0)).unwrap_or_default();
        match delta::change(profile, at) {
            Some(_) => format!(", most {} in {name}", if kind.name.ends_with(delta::LESS) { "less" } else { "more" }),
            None => format!(", most in {name}: {percent}{points}"),
        }
    });
    format!("{whole}{when}{}", top.unwrap_or_default())
}

fn nothing(profile: &Profile) -> String {
    let quality = &profile.quality;
    let why = if quality.lost > 0 {
        format!("all {} samples were lost", quality.lost)
    } else if let Some(ns) = 1_000_000_000u64.checked_div(quality.rate_asked) {
        let list = profile.tables.lists.iter().find(|list| list.name == "processes");
        let cpu = list.and_then(|list| list.columns.iter().position(|column| column.name == "cpu"));
        let used =
            list.zip(cpu).map_or(0, |(list, at)| list.rows.iter().filter_map(|(_, row)| row.get(at)).sum::<u64>());
        let (one, used_in_words) = (amount::value(ns, Unit::Nanoseconds), amount::value(used, Unit::Nanoseconds));
        // /proc counts in hundredths of a second.
        if used > ns.saturating_mul(20).max(50_000_000) {
            format!("no sample in {used_in_words} of CPU time, why is said below")
        } else {
            format!("it used less CPU time than one sample stands for, {one}")
        }
    } else if let Some(first) = quality.refused.first() {
        transcript::line(first)
    } else {
        "the profile has no rows with values".to_owned()
    };
    format!("nothing was measured: {why}")
}

fn write_kind(
    profile: &Profile,
    kind: usize,
    seen: &Seen<'_>,
    extent: &Extent,
    layout: &Layout,
    out: &mut dyn Write,
) -> io::Result<()> {
    let unit = profile.kinds[kind].unit;
    let Seen { names, tree, shares, script } = seen;
    let total = tree.total();
    let name = transcript::line(&profile.kinds[kind].name);
    writeln!(out, "\n{}", layout.paint(Style::Strong, &format!("{name}: {}", amount::value(total, unit))))?;
    if !script.is_empty() {
        let head =
            format!("{:>7} {:>9} {:>7} {:>9} function of the script, with the interpreter", "self", "", "total", "");
        writeln!(out, "{}", layout.paint(Style::Dim, &head))?;
        for share in script.iter().take(extent.top) {
            write_share(share, names, total, unit, layout, out)?;
        }
        writeln!(out)?;
    }
    let head = format!("{:>7} {:>9} {:>7} {:>9} function", "self", "", "total", "");
    writeln!(out, "{}", layout.paint(Style::Dim, &head))?;
    for share in shares.iter().take(extent.top).filter(|share| share.own > 0) {
        write_share(share, names, total, unit, layout, out)?;
    }
    let shown = shares.iter().take(extent.top).filter(|share| share.own > 0).count();
    let more = shares.iter().filter(|share| share.own > 0).count() - shown;
    if more > 0 {
        let rest = shares[shown..].iter().fold(0u64, |sum, share| sum.saturating_add(share.own));
        let rest = amount::percent(amount::share(rest, total));
        writeln!(out, "{rest:>7} in {}", number::count(more as u64, "more function"))?;
    }
    writeln!(
        out,
        "\n{}",
        layout.paint(Style::Dim, &format!("{:>width$} hottest paths", "total", width = paths::SHARE))
    )?;
    paths::write(tree, names, extent, layout, out)
}

fn write_share(
    share: &Share,
    names: &Names<'_>,
    total: u64,
    unit: Unit,
    layout: &Layout,
    out: &mut dyn Write,
) -> io::Result<()> {
    let side = |value: u64| (amount::percent(amount::share(value, total)), amount::value(value, unit));
    let ((own, own_value), (all, all_value)) = (side(share.own), side(share.total));
    let function = names.get(share.function);
    let name = named(function, layout.width.saturating_sub(NUMBERS + 1), layout);
    writeln!(out, "{own:>7} {own_value:>9} {all:>7} {all_value:>9} {name}")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;
    use unicode_width::UnicodeWidthStr;

    use super::{Extent, verdict, write};
    use crate::model::profile::{Profile, Quality};
    use crate::report::profile::{detect, sample};
    use crate::text::layout::Layout;

    fn written(profile: &Profile, layout: &Layout) -> String {
        let mut out = Vec::new();
        write(profile, &Extent::default(), layout, &mut out).expect("memory takes everything");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn everything_is_shown_in_eighty_columns() {
        expect![[r#"
            server --port 80 <&>: cpu 2.0s in 2.5s, most in memchr<&str, 'a'>: 60.0% (+-2.1)

            cpu: 2.0s
               self             total           function
              60.0%      1.2s   60.0%      1.2s memchr<&str, 'a'> [server]
              20.0%     400ms   20.0%     400ms vfs_read [kernel]
              15.0%     300ms   15.0%     300ms [libz.so.1]
               5.0%     100ms    5.0%     100ms JS:~run

              total hottest paths
             100.0% main
              80.0%   <Request as Parse>::parse
              60.0%     memchr<&str, 'a'>
              20.0%     vfs_read
              15.0%   [libz.so.1]
               5.0%   JS:~run

            alloc_space: 981 KiB
               self             total           function
              99.6%   977 KiB   99.6%   977 KiB <Request as Parse>::parse [server]
               0.4%     4 KiB    0.4%     4 KiB [libz.so.1]

              total hottest paths
             100.0% main > <Request as Parse>::parse

            rss        ____________.........::::::-----====++++****## 0 B to 91.6 MiB

            files
               read  path
            1.5 MiB  /var/log/<all>.log
              512 B  /etc/passwd

            data  cpu-clock, user and kernel: 999 samples a second asked, 987 got
            data  2,000 samples, 20 (1.0%) lost, 41 (2.1%) truncated, 12 (0.6%) unknown, a
                  share of 10% is good to 1.3 points
            data  not by cycles: this machine has no counters
            data  no names in /usr/lib/libz.so.1 (12 samples): zlib1g-dbgsym
            data  the rate was lowered
        "#]]
        .assert_eq(&written(&sample::rich(), &Layout::PLAIN));
    }

    #[test]
    fn chains_share_a_line() {
        let deep = format!("main;run;{};leaf", vec!["f"; 50].join(";"));
        let profile =
            sample::of(&[(&deep, 60), ("main;run;other_function_with_quite_a_long_name;b", 39), ("main;c", 1)]);
        let text = written(&profile, &Layout::PLAIN);
        let paths: Vec<&str> = text.lines().skip_while(|line| !line.contains("hottest")).skip(1).take(4).collect();
        let expected = [
            " 100.0% main",
            "  99.0%   run",
            "  60.0%     f x50 > leaf",
            "  39.0%     other_function_with_quite_a_long_name > b",
        ];
        assert_eq!(paths, expected);
    }

    #[test]
    fn nothing_says_why() {
        let profile = |quality| Profile { quality, ..Profile::default() };
        let short = profile(Quality { rate_asked: 999, ..Quality::default() });
        assert_eq!(
            verdict(&short, None),
            "nothing was measured: it used less CPU time than one sample stands for, 1.0ms"
        );
        let lost = profile(Quality { lost: 3, rate_asked: 999, ..Quality::default() });
        assert_eq!(verdict(&lost, None), "nothing was measured: all 3 samples were lost");
        assert!(written(&Profile::default(), &Layout::PLAIN).contains("has no rows with values"));
        let refused = vec!["all bytes are in no stack: `--trace` sees them".to_owned(), "not by cycles".to_owned()];
        let outside = profile(Quality { refused, ..Quality::default() });
        assert_eq!(verdict(&outside, None), "nothing was measured: all bytes are in no stack: `--trace` sees them");
    }

    /// Regression: the headline of a heap that shrank by 5 MiB was "inuse_space 3 MiB, most in leaky".
    #[test]
    fn the_headline_of_a_difference_is_the_change() {
        let profile = detect::read(b"main;leaky -8\nmain;other 3\n".to_vec()).expect("a difference");
        let said = super::summary(&profile);
        assert_eq!(said, "weight -5 (+3, -8), most less in leaky");
        let profile = detect::read(b"main;leaky 8\nmain;other -3\n".to_vec()).expect("a difference");
        assert_eq!(super::summary(&profile), "weight +5 (+8, -3), most more in leaky");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn lines_fit_and_nothing_panics(profile in sample::any_profile(), width in 1..200_usize, unicode: bool) {
            let text = written(&profile, &Layout { width, unicode, ..Layout::PLAIN });
            if width >= 60 {
                // The verdict and the quality break at blanks only.
                prop_assert!(text.lines().all(|line| line.width() <= width || !line.contains('%')), "{}", text);
            }
        }
    }
}
