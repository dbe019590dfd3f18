//! Flame graphs: one SVG that any browser opens, with nothing to load. Each box is a picture of its own in the picture, so
//! that names are clipped whatever the width is; all places are shares of the width. The script zooms, searches and cuts
//! names to fit; without it the picture is 1200 pixels wide and has the same titles.

use std::fmt::Write as _;

use crate::model::profile::{Origin, Profile, Unit};
use crate::report::profile::diff::{self, Certainty};
use crate::report::profile::tree::{Function, Names, Place, Roots, Side, Tree};
use crate::report::profile::{amount, quality};
use crate::text::escape::xml;
use crate::text::{layout, number, transcript};

/// Behaviour and look, also for pages that hold several graphs.
pub(crate) const SCRIPT: &str = include_str!("flame.js");
pub(crate) const STYLE: &str = include_str!("flame.css");

/// Width without a script, pixels.
const WIDTH: f64 = 1200.0;
/// Narrower boxes are not drawn, pixels of [`WIDTH`].
const NARROWEST: f64 = 0.1;
/// Boxes that are drawn: the widest. A browser is slow with more.
const BOXES_MAX: usize = 20_000;
/// Deeper boxes are not drawn.
const DEPTH_MAX: u32 = 2_000;
/// Height of a level, pixels, and in deep graphs.
const LEVEL: u32 = 17;
const LEVEL_LOW: u32 = 13;
/// From so many levels on they are low.
const DEEP: u32 = 120;
/// Height of what is above the boxes, in a page that has a title of its own, and of a line below the boxes.
const HEAD: u32 = 66;
const HEAD_LOW: u32 = 42;
const LINE: u32 = 15;
/// Characters of a name in a title.
const NAME_MAX: usize = 300;
/// Width of a character, pixels, and what is left free beside a name.
const GLYPH: f64 = 6.62;
const MARGIN: f64 = 3.0;
/// Modules with a colour of their own; the last colour is for all others.
const HUES: usize = 10;
/// Boxes have a border from this width on, pixels.
const BORDERED: f64 = 3.0;
/// Characters of a line below the boxes.
const LINE_CHARS: usize = 175;

/// How a graph is drawn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Look {
    /// The outermost functions on top.
    pub(crate) is_icicle: bool,
    /// Part of a page that brings [`SCRIPT`] and [`STYLE`].
    pub(crate) is_embedded: bool,
    /// What stands outside of the stacks.
    pub(crate) roots: Roots,
}

/// The graph of one kind.
pub(crate) fn write(profile: &Profile, kind: usize, look: Look) -> String {
    let mut names = Names::new();
    let tree = Tree::of(profile, kind, look.roots, &mut names);
    let hues = Hues::of(profile);
    let (name, unit) = kind_of(profile, kind);
    let graph = Graph {
        tree: &tree,
        names: &names,
        unit,
        hues: Some(&hues),
        change: None,
        title: title_of(profile),
        subtitle: format!("{name}: {} in all{}", amount::value(tree.total(), unit), when(profile)),
        notes: quality::sentences(profile),
        look,
    };
    graph.draw()
}

/// The graph of a kind that both profiles have: widths are of `after`, red grew and blue shrank in their shares of the
/// whole. What changed less than chance would explain stays grey.
pub(crate) fn write_difference(before: &Profile, after: &Profile, kind: &str, look: Look) -> Option<String> {
    let (kind_before, kind_after) = (before.kind(kind)?, after.kind(kind)?);
    let mut names = Names::new();
    let mut tree = Tree::new();
    tree.add(after, kind_after, look.roots, Side::Now, &mut names);
    tree.add(before, kind_before, look.roots, Side::Before, &mut names);
    let (name, unit) = kind_of(after, kind_after);
    let gone = tree.places.iter().filter(|place| place.total == 0 && place.before > 0);
    let gone = gone.filter(|place| tree.places[place.caller as usize].total > 0);
    let gone = gone.fold(0u64, |sum, place| sum.saturating_add(place.before));
    let mut subtitle = format!(
        "{name}, {} after {}: red grew, blue shrank, grey is within chance",
        amount::value(tree.total(), unit),
        amount::value(tree.places[0].before, unit),
    );
    if gone > 0 {
        let share = amount::percent(amount::share(gone, tree.places[0].before));
        subtitle.push_str(&format!("; {share} of before is nowhere here"));
    }
    let notes = [("before", before), ("after", after)];
    let notes = notes.iter().map(|(word, profile)| format!("{word}: {}", quality::line(profile)));
    let graph = Graph {
        tree: &tree,
        names: &names,
        unit,
        hues: None,
        change: Some(Change::of(&tree, diff::sample_size(before), diff::sample_size(after))),
        title: format!("{} against {}", title_of(after), title_of(before)),
        subtitle,
        notes: notes.collect(),
        look,
    };
    Some(graph.draw())
}

fn title_of(profile: &Profile) -> String {
    match transcript::line(&profile.title) {
        title if title.is_empty() => "a profile".to_owned(),
        title => title,
    }
}

fn kind_of(profile: &Profile, kind: usize) -> (String, Unit) {
    profile.kinds.get(kind).map_or((String::new(), Unit::Count), |kind| (transcript::line(&kind.name), kind.unit))
}

fn when(profile: &Profile) -> String {
    let mut text = String::new();
    if profile.duration_ns > 0 {
        text.push_str(&format!(" in {}", amount::value(profile.duration_ns, Unit::Nanoseconds)));
    }
    if !profile.at.is_empty() {
        text.push_str(&format!(", {}", transcript::line(&profile.at)));
    }
    text
}

/// The colours of modules: those that took most have one of their own, the same in all kinds.
struct Hues(Vec<String>);

impl Hues {
    fn of(profile: &Profile) -> Self {
        let mut weights = std::collections::BTreeMap::<&str, f64>::new();
        let totals: Vec<f64> = (0..profile.kinds.len()).map(|kind| profile.total(kind).max(1) as f64).collect();
        for row in &profile.rows {
            let frame = profile.nodes.get(row.node as usize).and_then(|node| profile.frames.get(node.frame as usize));
            let module = frame.and_then(|frame| profile.modules.get(frame.module? as usize));
            let (Some(frame), Some(module)) = (frame, module) else { continue };
            if frame.origin == Origin::Native {
                let weight: f64 = row.values.iter().zip(&totals).map(|(value, total)| *value as f64 / total).sum();
                *weights.entry(super::tree::file_name(&module.path)).or_default() += weight;
            }
        }
        let mut all: Vec<_> = weights.into_iter().collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        Self(all.into_iter().take(HUES - 1).map(|(name, _)| name.to_owned()).collect())
    }

    fn class(&self, function: &Function) -> String {
        match function.origin {
            Origin::Kernel => "kernel".to_owned(),
            Origin::Jit => "jit".to_owned(),
            Origin::Label => "label".to_owned(),
            Origin::Unknown => "unknown".to_owned(),
            Origin::Native => {
                let at = self.0.iter().position(|name| *name == function.module).unwrap_or(HUES - 1);
                format!("m{at}")
            }
        }
    }
}

/// The look of what changed.
struct Change {
    whole: [u64; 2],
    samples: [u64; 2],
    /// The largest change of a share.
    most: f64,
}

impl Change {
    fn of(tree: &Tree, before: u64, after: u64) -> Self {
        let whole = [tree.places[0].before, tree.places[0].total];
        let mut change = Self { whole, samples: [before, after], most: 0.0 };
        change.most = tree.places.iter().map(|place| change.points(place).abs()).fold(0.0, f64::max);
        change
    }

    fn points(&self, place: &Place) -> f64 {
        amount::share(place.total, self.whole[1]) - amount::share(place.before, self.whole[0])
    }

    fn class(&self, place: &Place) -> String {
        let points = self.points(place);
        let shares = [amount::share(place.before, self.whole[0]), amount::share(place.total, self.whole[1])];
        let chance = diff::certainty(shares, self.samples);
        if points == 0.0 || matches!(chance, Certainty::Chance | Certainty::TooFew) {
            return "z".to_owned();
        }
        // Four steps; the root of the share makes small changes visible beside a large one.
        let step = ((points.abs() / self.most).sqrt() * 4.0).ceil().clamp(1.0, 4.0);
        format!("{}{step}", if points > 0.0 { 'g' } else { 'l' })
    }
}

struct Graph<'a> {
    tree: &'a Tree,
    names: &'a Names,
    unit: Unit,
    hues: Option<&'a Hues>,
    change: Option<Change>,
    title: String,
    subtitle: String,
    notes: Vec<String>,
    look: Look,
}

/// Where a box is: index of its place, and the value left of it.
struct Spot {
    place: u32,
    left: u64,
}

impl Graph<'_> {
    fn draw(&self) -> String {
        let floor = self.floor();
        let (levels, dropped) = self.spots(floor);
        let level = if levels.len() as u32 > DEEP { LEVEL_LOW } else { LEVEL };
        let head = if self.look.is_embedded { HEAD_LOW } else { HEAD };
        let mut notes = if self.look.is_embedded { Vec::new() } else { self.notes.clone() };
        if dropped > 0 {
            notes.insert(0, format!("{} too narrow or too deep to be drawn", number::count(dropped, "frame")));
        }
        let notes: Vec<String> = layout::wrap(&notes.join("; "), LINE_CHARS);
        let depth = levels.len() as u32 * level;
        let height = head + depth + (notes.len() as u32 + 2) * LINE;
        let mut out = String::with_capacity(1 << 16);
        self.head(height, level, &mut out);
        for (at, spots) in levels.iter().enumerate() {
            let from_top = if self.look.is_icicle { at as u32 } else { levels.len() as u32 - 1 - at as u32 };
            let y = head + from_top * level;
            let _ = write!(out, "<g data-level=\"{at}\" transform=\"translate(0,{y})\">");
            for spot in spots {
                self.write_box(spot, level, &mut out);
            }
            out.push_str("</g>\n");
        }
        self.foot(head + depth, &notes, &mut out);
        self.controls(&mut out);
        if !self.look.is_embedded {
            let _ = write!(out, "<script><![CDATA[\n{SCRIPT}]]></script>\n");
        }
        out.push_str("</svg>\n");
        out
    }

    /// The smallest value that is drawn.
    fn floor(&self) -> u64 {
        let narrowest = (self.tree.total() as f64 * NARROWEST / WIDTH).ceil().max(1.0) as u64;
        let mut totals: Vec<u64> =
            self.tree.places.iter().map(|place| place.total).filter(|total| *total >= narrowest).collect();
        if totals.len() <= BOXES_MAX {
            return narrowest;
        }
        let (_, last, _) = totals.select_nth_unstable_by(BOXES_MAX, |a, b| b.cmp(a));
        last.saturating_add(1)
    }

    /// Boxes by level from the root on, and how many frames have none.
    fn spots(&self, floor: u64) -> (Vec<Vec<Spot>>, u64) {
        let places = &self.tree.places;
        let mut levels = vec![vec![Spot { place: 0, left: 0 }]];
        let mut drawn = 1;
        while let Some(above) = levels.last().filter(|level| !level.is_empty()) {
            let mut below = Vec::new();
            for spot in above {
                let mut calls: Vec<u32> = places[spot.place as usize].calls.clone();
                calls.sort_by_key(|call| {
                    let function = &self.names.all[places[*call as usize].function as usize];
                    (&function.name, &function.module)
                });
                let mut left = spot.left;
                for place in calls {
                    let total = places[place as usize].total;
                    if total >= floor {
                        below.push(Spot { place, left });
                    }
                    left = left.saturating_add(total);
                }
            }
            if below.is_empty() || levels.len() as u32 > DEPTH_MAX {
                break;
            }
            drawn += below.len();
            levels.push(below);
        }
        let all = places.iter().filter(|place| place.total > 0).count();
        (levels, (all.max(1) - drawn) as u64)
    }

    fn head(&self, height: u32, level: u32, out: &mut String) {
        let grows = if self.look.is_icicle { "down" } else { "up" };
        let _ = writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"flame\" width=\"{WIDTH}\" height=\"{height}\" \
             style=\"height:{height}px\" data-grows=\"{grows}\" data-base=\"{}\">\n\
             <style>.flame .f rect{{width:100%;height:{}px}}</style>",
            level - 5,
            level - 1
        );
        if !self.look.is_embedded {
            let _ = writeln!(out, "<title>{}</title>\n<style>{STYLE}</style>", xml(&self.title));
            let _ = writeln!(out, "<rect class=\"back\" width=\"100%\" height=\"100%\"/>");
        }
    }

    /// Comes last, so that it lies above the boxes when the page is scrolled.
    fn controls(&self, out: &mut String) {
        let (title, low) = match self.look.is_embedded {
            true => (String::new(), 24),
            false => (format!("<text class=\"t\" x=\"6\" y=\"20\">{}</text>", xml(&fit(&self.title, 100))), 0),
        };
        let button = |name: &str, words: &str, right: u32| {
            format!(
                "<text class=\"b {name}\" x=\"100%\" dx=\"-{right}\" y=\"{}\" style=\"display:none\">{words}</text>",
                if low > 0 { 14 } else { 20 }
            )
        };
        let _ = writeln!(
            out,
            "<g class=\"head\"><rect class=\"back\" width=\"100%\" height=\"{}\"/>{title}\
             <text class=\"d\" x=\"6\" y=\"{}\">{}</text><text class=\"said\" x=\"6\" y=\"{}\"> </text>{}{}{}</g>",
            62 - low,
            38 - low,
            xml(&self.subtitle),
            56 - low,
            button("reset", "reset zoom", 190),
            button("clear", "clear", 100),
            button("search", "search", 52)
        );
    }

    fn write_box(&self, spot: &Spot, level: u32, out: &mut String) {
        let place = &self.tree.places[spot.place as usize];
        let function = &self.names.all[place.function as usize];
        let whole = self.tree.total();
        let name = transcript::line(&function.name);
        let (x, share) = (amount::share(spot.left, whole), amount::share(place.total, whole));
        let share = if spot.place == 0 { 1.0 } else { share };
        let inlined = if place.is_inlined { " i" } else { "" };
        let narrow = if share * WIDTH < BORDERED { " n" } else { "" };
        let colour = match (&self.change, self.hues) {
            (Some(change), _) => change.class(place),
            (None, Some(hues)) => hues.class(function),
            (None, None) => "label".to_owned(),
        };
        let _ = write!(
            out,
            "<svg class=\"f{inlined}{narrow}\" x=\"{}%\" width=\"{}%\"><rect class=\"{colour}{}\"><title>{}",
            places(x),
            places(share),
            shade(&function.name),
            xml(&cut(&name, NAME_MAX))
        );
        self.write_title(place, function, out);
        out.push_str("</title></rect>");
        let room = ((share * WIDTH - 2.0 * MARGIN) / GLYPH) as usize;
        if room >= 3 {
            let _ = write!(out, "<text x=\"{MARGIN}\" y=\"{}\">{}</text>", level - 5, xml(&fit(&name, room)));
        }
        out.push_str("</svg>");
    }

    /// All but the first line, which is the name.
    fn write_title(&self, place: &Place, function: &Function, out: &mut String) {
        let whole = self.tree.total();
        let module = cut(&transcript::line(&function.module), NAME_MAX);
        let inlined = if place.is_inlined { "inlined" } else { "" };
        let comma = if module.is_empty() || inlined.is_empty() { "" } else { ", " };
        let _ = write!(out, "\n{}{comma}{inlined}", xml(&module));
        // A share may be `<0.1%`.
        let _ = write!(out, "\ntotal {}", xml(&self.shared(place.total, whole)));
        if place.own > 0 && place.own < place.total {
            let _ = write!(out, ", self {}", xml(&self.shared(place.own, whole)));
        } else {
            out.push_str(if place.own > 0 { ", all of it self" } else { ", self 0" });
        }
        if let Some(change) = &self.change {
            let before = xml(&self.shared(place.before, change.whole[0]));
            let _ = write!(out, "\nbefore {before}: {} points", amount::points(change.points(place)));
        }
    }

    fn shared(&self, part: u64, whole: u64) -> String {
        format!("{} ({})", amount::value(part, self.unit), amount::percent(amount::share(part, whole)))
    }

    fn foot(&self, top: u32, notes: &[String], out: &mut String) {
        let mut y = top + LINE;
        if let Some(hues) = self.hues {
            let legend: Vec<(String, String)> = self.legend(hues);
            let mut x = 6.0;
            for (class, word) in legend {
                let word = cut(&transcript::line(&word), 24);
                let _ = write!(
                    out,
                    "<rect class=\"{class}\" x=\"{x:.0}\" y=\"{}\" width=\"9\" height=\"9\"/>\
                     <text class=\"d\" x=\"{:.0}\" y=\"{y}\">{}</text>",
                    y - 9,
                    x + 12.0,
                    xml(&word)
                );
                x += 30.0 + GLYPH * word.chars().count() as f64;
                if x > WIDTH - 100.0 {
                    break;
                }
            }
            out.push('\n');
        }
        for note in notes {
            y += LINE;
            let _ = writeln!(out, "<text class=\"d\" x=\"6\" y=\"{y}\">{}</text>", xml(note));
        }
    }

    /// Colours that are in the graph, and what they mean.
    fn legend(&self, hues: &Hues) -> Vec<(String, String)> {
        let seen: std::collections::BTreeSet<String> = self
            .tree
            .places
            .iter()
            .filter(|place| place.total > 0)
            .map(|place| hues.class(&self.names.all[place.function as usize]))
            .collect();
        let mut all: Vec<(String, String)> =
            hues.0.iter().enumerate().map(|(at, name)| (format!("m{at}"), name.clone())).collect();
        all.push((format!("m{}", HUES - 1), "other modules".to_owned()));
        for (class, word) in [("kernel", "kernel"), ("jit", "made at run time"), ("unknown", "unknown")] {
            all.push((class.to_owned(), word.to_owned()));
        }
        all.retain(|(class, _)| seen.contains(class));
        all
    }
}

/// A share as percent with four decimals: a ten-thousandth of the narrowest box.
fn places(share: f64) -> String {
    let text = format!("{:.4}", share * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Names beside each other in one module differ a little.
fn shade(name: &str) -> &'static str {
    let hash = name.bytes().fold(5381u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(byte));
    ["", " s1", " s2"][(hash % 3) as usize]
}

/// So many characters, cut at the end.
fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        None => text.to_owned(),
        Some(_) => text.chars().take(chars.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// So many characters, cut in the midst: names begin with where a function is and end with what it is.
fn fit(name: &str, chars: usize) -> String {
    let all: Vec<char> = name.chars().collect();
    if all.len() <= chars {
        return name.to_owned();
    }
    let head = chars / 3;
    let tail = chars.saturating_sub(head + 1);
    all[..head].iter().chain(&['…']).chain(&all[all.len() - tail..]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Look, Roots, write, write_difference};
    use crate::model::profile::Profile;
    use crate::report::profile::sample;

    fn boxes(svg: &str) -> Vec<(String, f64, f64)> {
        let document = roxmltree::Document::parse(svg).expect("well-formed");
        let is_box = |node: &roxmltree::Node<'_, '_>| node.attribute("class").is_some_and(|c| c.starts_with('f'));
        let places = |node: &roxmltree::Node<'_, '_>, name| {
            node.attribute(name).and_then(|text| text.trim_end_matches('%').parse().ok()).unwrap_or(0.0)
        };
        let svgs = document.descendants().filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", "svg")));
        svgs.skip(1)
            .filter(is_box)
            .map(|node| {
                let title = node.descendants().find(|n| n.tag_name().name() == "title").and_then(|n| n.text());
                let name = title.unwrap_or("").lines().next().unwrap_or("").to_owned();
                (name, places(&node, "x"), places(&node, "width"))
            })
            .collect()
    }

    #[test]
    fn boxes_stand_where_their_callers_are() {
        let profile = sample::of(&[("main;b", 3), ("main;a;c", 1)]);
        let found = boxes(&write(&profile, 0, Look::default()));
        let expected =
            [("all", 0.0, 100.0), ("main", 0.0, 100.0), ("a", 0.0, 25.0), ("b", 25.0, 75.0), ("c", 0.0, 25.0)];
        assert_eq!(found, expected.map(|(name, x, wide)| (name.to_owned(), x, wide)));
    }

    #[test]
    fn what_is_too_narrow_is_not_drawn_and_said() {
        let profile = sample::of(&[("main;wide", 1_000_000), ("main;narrow;deep", 10)]);
        let svg = write(&profile, 0, Look::default());
        assert_eq!(boxes(&svg).len(), 3);
        assert!(svg.contains("2 frames too narrow or too deep to be drawn"), "{svg}");
    }

    #[test]
    fn deep_stacks_are_drawn_to_a_bound() {
        let stack = vec!["f"; 5_000].join(";");
        let svg = write(&sample::of(&[(&stack, 7)]), 0, Look::default());
        assert_eq!(boxes(&svg).len(), 2_001);
        assert!(svg.contains("3000 frames too narrow or too deep"));
    }

    #[test]
    fn hostile_names_stay_text() {
        let hostile = "</title><script>alert(1)</script>]]>\u{1b}[31m";
        let mut profile = sample::of(&[(hostile, 7)]);
        profile.title = hostile.to_owned();
        profile.quality.notes.push(hostile.to_owned());
        let svg = write(&profile, 0, Look::default());
        let document = roxmltree::Document::parse(&svg).expect("well-formed");
        assert_eq!(document.descendants().filter(|node| node.tag_name().name() == "script").count(), 1);
        assert!(!svg.contains('\u{1b}'));
    }

    #[test]
    fn colours_say_what_grew() {
        let before = sample::of(&[("main;a", 500), ("main;b", 500)]);
        let after = sample::of(&[("main;a", 200), ("main;b", 790), ("main;c", 10)]);
        let svg = write_difference(&before, &after, "samples", Look::default()).expect("both have samples");
        let document = roxmltree::Document::parse(&svg).expect("well-formed");
        let mut looks = Vec::new();
        for rect in document.descendants().filter(|node| node.tag_name().name() == "rect") {
            if let Some(title) = rect.first_element_child().and_then(|title| title.text()) {
                let colour = rect.attribute("class").and_then(|class| class.split(' ').next()).unwrap_or("");
                looks.push((title.lines().next().unwrap_or("").to_owned(), colour.to_owned()));
            }
        }
        let expected = [("all", "z"), ("main", "z"), ("a", "l4"), ("b", "g4"), ("c", "g1")];
        assert_eq!(looks, expected.map(|(name, look)| (name.to_owned(), look.to_owned())));
        assert!(write_difference(&before, &after, "cpu", Look::default()).is_none());
    }

    #[test]
    fn nothing_measured_is_an_empty_graph() {
        assert_eq!(boxes(&write(&Profile::default(), 0, Look::default())).len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_graph_is_well_formed(profile in sample::any_profile(), is_icicle: bool) {
            let look = Look { is_icicle, roots: Roots::Thread, ..Look::default() };
            boxes(&write(&profile, 0, look));
            if let Some(svg) = write_difference(&profile, &profile, "cpu", look) {
                boxes(&svg);
            }
        }
    }
}
