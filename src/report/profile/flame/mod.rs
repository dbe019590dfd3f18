//! Flame graphs: one SVG that any browser opens, with nothing to load. Each box is a picture of its own in the picture, so
//! that names are clipped whatever the width is; all places are shares of the width. The script zooms, searches and cuts
//! names to fit; without it the picture is 1200 pixels wide and has the same titles.

use crate::model::profile::{Profile, Unit};
use crate::report::profile::flame::colour::{Change, Hues};
use crate::report::profile::flame::draw::Graph;
use crate::report::profile::tree::{Names, Side, Tree};
use crate::report::profile::{amount, diff, quality, text};
use crate::text::transcript;

mod colour;
mod draw;

pub(crate) use draw::{Look, SCRIPT, STYLE};

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
    let gone = (0..).zip(&tree.places).filter(|(_, place)| place.total == 0);
    let gone = gone.filter(|(_, place)| tree.places[place.caller as usize].total > 0);
    let gone = gone.fold(0u64, |sum, (at, _)| sum.saturating_add(tree.before(at)));
    let mut subtitle = format!(
        "{name}: {} before, {} after; shares: red grew, blue shrank, grey is within chance",
        amount::value(tree.before(0), unit),
        amount::value(tree.total(), unit),
    );
    if gone > 0 {
        let share = amount::percent(amount::share(gone, tree.before(0)));
        subtitle.push_str(&format!("; functions with {share} of before are gone"));
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
    let mut said = String::new();
    if profile.duration_ns > 0 {
        said.push_str(&format!(" in {}", amount::value(profile.duration_ns, Unit::Nanoseconds)));
    }
    if !profile.at.is_empty() {
        said.push_str(&format!(", {}", text::began(profile)));
    }
    said
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Look, write, write_difference};
    use crate::model::profile::Profile;
    use crate::report::profile::sample;
    use crate::report::profile::tree::Roots;

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
        let before = sample::of(&[("main;a", 1000), ("main;b", 1000)]);
        let after = sample::of(&[("main;a", 400), ("main;b", 1580), ("main;c", 20)]);
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
