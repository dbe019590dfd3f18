//! Draws a flame graph: where boxes are, which are left out, what is written in and about them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::model::profile::Unit;
use crate::report::profile::amount;
use crate::report::profile::flame::colour::{Change, HUES, Hues};
use crate::report::profile::tree::{Function, Names, Roots, Tree};
use crate::text::escape::xml;
use crate::text::{layout, number, transcript};

/// Behaviour and look, also for pages that hold several graphs.
pub(crate) const SCRIPT: &str = include_str!("script.js");
pub(crate) const STYLE: &str = include_str!("style.css");

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
/// Boxes have a border from this width on, pixels.
const BORDERED: f64 = 3.0;
/// In less room, characters, a name has no beginning.
const HEADLESS: usize = 9;
/// Characters of a line below the boxes.
const LINE_CHARS: usize = 175;

/// A graph that is to be drawn.
pub(super) struct Graph<'a> {
    pub(super) tree: &'a Tree,
    pub(super) names: &'a Names<'a>,
    pub(super) unit: Unit,
    pub(super) hues: Option<&'a Hues>,
    pub(super) change: Option<Change>,
    pub(super) title: String,
    pub(super) subtitle: String,
    pub(super) notes: Vec<String>,
    pub(super) look: Look,
}

/// Where a box is: index of its place, and the value left of it.
struct Spot {
    place: u32,
    left: u64,
}

impl Graph<'_> {
    /// The whole picture.
    pub(super) fn draw(&self) -> String {
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
                let mut calls: Vec<u32> = self.tree.calls(spot.place).collect();
                calls.sort_by_key(|call| {
                    let function = self.names.get(places[*call as usize].function);
                    (function.name, function.module)
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
        let function = self.names.get(place.function);
        let whole = self.tree.total();
        let name = transcript::line(function.name);
        let (x, share) = (amount::share(spot.left, whole), amount::share(place.total, whole));
        let share = if spot.place == 0 { 1.0 } else { share };
        let inlined = if place.is_inlined { " i" } else { "" };
        let narrow = if share * WIDTH < BORDERED { " n" } else { "" };
        let colour = match (&self.change, self.hues) {
            (Some(change), _) => change.class(self.tree, spot.place),
            (None, Some(hues)) => hues.class(function),
            (None, None) => "label".to_owned(),
        };
        let _ = write!(
            out,
            "<svg class=\"f{inlined}{narrow}\" x=\"{}%\" width=\"{}%\"><rect class=\"{colour}{}\"><title>{}",
            places(x),
            places(share),
            shade(function.name),
            xml(&cut(&name, NAME_MAX))
        );
        self.write_title(spot.place, function, out);
        out.push_str("</title></rect>");
        let room = ((share * WIDTH - 2.0 * MARGIN) / GLYPH) as usize;
        if room >= 3 {
            let _ = write!(out, "<text x=\"{MARGIN}\" y=\"{}\">{}</text>", level - 5, xml(&fit(&name, room)));
        }
        out.push_str("</svg>");
    }

    /// All but the first line, which is the name.
    fn write_title(&self, at: u32, function: Function<'_>, out: &mut String) {
        let place = &self.tree.places[at as usize];
        let whole = self.tree.total();
        let module = cut(&transcript::line(function.module), NAME_MAX);
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
            let before = xml(&self.shared(self.tree.before(at), change.whole[0]));
            let _ = write!(out, "\nbefore {before}: {} points", amount::points(change.points(self.tree, at)));
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
        let seen: BTreeSet<String> = self
            .tree
            .places
            .iter()
            .filter(|place| place.total > 0)
            .map(|place| hues.class(self.names.get(place.function)))
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
    let head = if chars < HEADLESS { 0 } else { chars / 3 };
    let tail = chars.saturating_sub(head + 1);
    all[..head].iter().chain(&['…']).chain(&all[all.len() - tail..]).collect()
}
