//! One self-contained page: what took most, values over time, a flame graph and a table for each kind, lists, and how good
//! the data are. Nothing is loaded; light and dark; prints well; graphs can be zoomed and searched with the page's one
//! script, and have their titles without it.

use std::fmt::Write as _;
use std::io::{self, Write};

use crate::model::profile::{List, Profile, Timeline, Unit};
use crate::report::profile::flame::{self, Look};
use crate::report::profile::tree::{Names, Roots, Tree};
use crate::report::profile::{amount, quality, text, timeline};
use crate::text::escape::xml;
use crate::text::transcript;

/// What this page has besides the look of every page.
const OWN_STYLE: &str = include_str!("style.css");
/// Rows of a table.
const ROWS_MAX: usize = 200;
/// Functions of a table.
const FUNCTIONS_MAX: usize = 50;
/// Points of a curve.
const STEPS: usize = 400;
/// Height of a curve in its own unit; its width is [`STEPS`].
const HEIGHT: f64 = 100.0;

/// Writes the page.
pub(crate) fn write(profile: &Profile, roots: Roots, out: &mut dyn Write) -> io::Result<()> {
    let title = xml(&text::title(profile));
    writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title} - apm profile</title><style>{}{OWN_STYLE}{}</style></head>\n\
         <body class=\"wide\">\n<h1>{title}</h1>",
        crate::report::html::STYLE,
        flame::STYLE
    )?;
    writeln!(out, "<p class=\"verdict\">{}</p>", xml(&text::summary(profile)))?;
    if !profile.at.is_empty() {
        let lasted = match profile.duration_ns {
            0 => String::new(),
            ns => format!(", {}", amount::value(ns, Unit::Nanoseconds)),
        };
        writeln!(out, "<p class=\"dim\">{}{lasted}</p>", xml(&text::began(profile)))?;
    }
    writeln!(out, "<ul class=\"data\">")?;
    for sentence in quality::sentences(profile) {
        writeln!(out, "<li>{}</li>", xml(&sentence))?;
    }
    writeln!(out, "</ul>")?;
    charts(profile, out)?;
    for kind in text::kinds(profile) {
        write_kind(profile, kind, roots, out)?;
    }
    let lists = profile.tables.lists.iter().filter(|list| !list.rows.is_empty());
    lists.into_iter().try_for_each(|list| write_list(list, out))?;
    writeln!(out, "<script>\n{}</script>\n</body>\n</html>", flame::SCRIPT)
}

fn charts(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    // All have the same time axis.
    let last = profile.tables.timelines.iter().flat_map(|line| line.points.iter().map(|(at, _)| *at)).max();
    let end = profile.duration_ns.max(last.unwrap_or(0));
    if profile.tables.timelines.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h2>Over time <span class=\"dim\">{}</span></h2>", amount::value(end, Unit::Nanoseconds))?;
    profile.tables.timelines.iter().try_for_each(|line| chart(line, end, out))
}

fn chart(line: &Timeline, end: u64, out: &mut dyn Write) -> io::Result<()> {
    let Some(steps) = timeline::steps(line, STEPS, end) else { return Ok(()) };
    let mut curve = String::new();
    for (at, value) in steps.values.iter().enumerate() {
        if let Some(value) = value {
            let y = HEIGHT - 2.0 - (HEIGHT - 4.0) * steps.height(*value);
            let _ = write!(curve, "{}{at} {y:.1}", if curve.is_empty() { "M" } else { "L" });
        }
    }
    let ends = |mut all: Box<dyn Iterator<Item = usize> + '_>| all.next().unwrap_or(0);
    let known = |at: &usize| steps.values[*at].is_some();
    let first = ends(Box::new((0..STEPS).filter(known)));
    let last = ends(Box::new((0..STEPS).rev().filter(known)));
    writeln!(
        out,
        "<div class=\"chart\"><p><span>{}</span><span class=\"dim\">{} to {}</span></p>\
         <svg viewBox=\"0 0 {STEPS} {HEIGHT}\" preserveAspectRatio=\"none\"><path class=\"area\" d=\"{curve}L{last} {HEIGHT}L{first} {HEIGHT}Z\"/>\
         <path class=\"curve\" d=\"{curve}\"/></svg></div>",
        xml(&transcript::line(&line.name)),
        amount::mean(steps.min, line.unit),
        amount::mean(steps.max, line.unit)
    )
}

fn write_kind(profile: &Profile, kind: usize, roots: Roots, out: &mut dyn Write) -> io::Result<()> {
    let total = profile.total(kind);
    let unit = profile.kinds[kind].unit;
    let name = xml(&transcript::line(&profile.kinds[kind].name));
    writeln!(out, "<h2>{name} <span class=\"dim\">{}</span></h2>", amount::value(total, unit))?;
    let look = Look { is_embedded: true, is_icicle: true, roots };
    writeln!(out, "<div class=\"graph\">{}</div>", flame::write(profile, kind, look))?;
    let mut names = Names::new();
    let tree = Tree::of(profile, kind, Roots::Code, &mut names);
    writeln!(
        out,
        "<details><summary>functions that took most</summary><table><tr><th class=\"n\">self</th><th></th>\
         <th class=\"n\">total</th><th></th><th>function</th><th>module</th></tr>"
    )?;
    for share in tree.shares(&names).iter().take(FUNCTIONS_MAX).filter(|share| share.own > 0) {
        let function = names.get(share.function);
        let cells = |value: u64| {
            let percent = xml(&amount::percent(amount::share(value, total)));
            format!("<td class=\"n\">{percent}</td><td class=\"n dim\">{}</td>", amount::value(value, unit))
        };
        writeln!(
            out,
            "<tr>{}{}<td class=\"name\">{}</td><td>{}</td></tr>",
            cells(share.own),
            cells(share.total),
            xml(&transcript::line(function.name)),
            xml(&transcript::line(function.module))
        )?;
    }
    writeln!(out, "</table></details>")
}

fn write_list(list: &List, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<h2>{}</h2>\n<table><tr><th>{}</th>", cell(&list.name), cell(&list.of))?;
    for column in &list.columns {
        write!(out, "<th class=\"n\">{}</th>", cell(&column.name))?;
    }
    writeln!(out, "</tr>")?;
    for (name, values) in list.rows.iter().take(ROWS_MAX) {
        write!(out, "<tr><td class=\"name\">{}</td>", cell(name))?;
        for (column, value) in list.columns.iter().zip(values) {
            write!(out, "<td class=\"n\">{}</td>", amount::value(*value, column.unit))?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</table>")?;
    match list.rows.len().saturating_sub(ROWS_MAX) {
        0 => Ok(()),
        more => writeln!(out, "<p class=\"dim\">and {more} more</p>"),
    }
}

fn cell(text: &str) -> String {
    xml(&transcript::line(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Roots, write};
    use crate::model::profile::Profile;
    use crate::report::profile::sample;

    fn written(profile: &Profile) -> String {
        let mut out = Vec::new();
        write(profile, Roots::Thread, &mut out).expect("memory takes everything");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn everything_is_on_one_page_and_nothing_is_loaded() {
        let page = written(&sample::rich());
        let parts =
            ["server --port 80 &lt;&amp;&gt;", "987 got", "class=\"curve\"", "alloc_space", "/var/log/&lt;all&gt;.log"];
        for part in parts {
            assert!(page.contains(part), "{part}");
        }
        assert_eq!(page.matches("<svg xmlns").count(), 2);
        let mut nothing = sample::rich();
        nothing.tables.lists[0].rows.clear();
        assert!(page.contains("<h2>files</h2>") && !written(&nothing).contains("<h2>files</h2>"));
        let loads = ["src=", "href=", "@import", "url(", "<link"];
        assert!(loads.iter().all(|word| !page.contains(word)));
        assert_eq!(page.matches("http").count(), page.matches("http://www.w3.org/2000/svg").count());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn hostile_names_stay_text(mut profile in sample::any_profile()) {
            profile.title = "<script>alert(1)</script>".to_owned();
            profile.quality.notes.push(profile.title.clone());
            prop_assert_eq!(written(&profile).matches("<script").count(), 1);
        }
    }
}
