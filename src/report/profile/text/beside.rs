//! What happened beside the stacks: curves of characters, and lists.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use crate::model::profile::{Kind, List, Profile, Timeline};
use crate::report::profile::text::name::shorten;
use crate::report::profile::{amount, timeline};
use crate::text::layout::{Layout, Style, pad};
use crate::text::transcript;

/// Between two columns.
const BETWEEN: &str = "  ";
/// Steps of a timeline.
const STEPS_MAX: usize = 48;

/// A line for each timeline.
pub(super) fn timelines(profile: &Profile, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let all: Vec<(&Timeline, timeline::Steps)> = profile
        .tables
        .timelines
        .iter()
        .filter_map(|line| Some((line, timeline::steps(line, room(layout), profile.duration_ns)?)))
        .collect();
    if !all.is_empty() {
        writeln!(out)?;
    }
    for (line, steps) in all {
        let name = layout.cut(&transcript::line(&line.name), 10);
        let curve: String = steps.filled().into_iter().map(|value| glyph(steps.height(value), layout)).collect();
        let (min, max) = (amount::mean(steps.min, line.unit), amount::mean(steps.max, line.unit));
        writeln!(out, "{} {curve} {min} to {max}", pad(&name, 10))?;
    }
    Ok(())
}

fn room(layout: &Layout) -> usize {
    layout.width.saturating_sub(34).clamp(8, STEPS_MAX)
}

fn glyph(height: f64, layout: &Layout) -> char {
    let glyphs = if layout.unicode {
        ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']
    } else {
        ['_', '.', ':', '-', '=', '+', '*', '#']
    };
    glyphs[((height * 7.0).round() as usize).min(7)]
}

/// Columns of processes that are shown in a profile of files and connections only.
const OF_IO: [&str; 5] = ["read", "written", "calls", "from storage", "to storage"];

/// A table of a list, so many rows of it.
pub(super) fn list(list: &List, of_io: bool, top: usize, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let is_hidden = |column: &Kind| !of_io && list.name == "processes" && OF_IO.contains(&column.name.as_str());
    if list.rows.is_empty() {
        return Ok(());
    }
    let cells: Vec<(Vec<String>, String)> = list
        .rows
        .iter()
        .take(top)
        .map(|(name, values)| {
            let cell = |(column, value): (&Kind, &u64)| amount::value(*value, column.unit);
            let cells = list.columns.iter().zip(values).filter(|(column, _)| !is_hidden(column)).map(cell);
            (cells.collect(), transcript::line(name))
        })
        .collect();
    let shown = list.columns.iter().filter(|column| !is_hidden(column));
    let heads: Vec<String> = shown.map(|column| transcript::line(&column.name)).collect();
    let widths: Vec<usize> = heads
        .iter()
        .enumerate()
        .map(|(at, head)| {
            let widest = cells.iter().filter_map(|(cells, _)| cells.get(at)).map(|cell| cell.width()).max();
            head.width().max(widest.unwrap_or(0)).max(7)
        })
        .collect();
    let used: usize = widths.iter().map(|width| width + BETWEEN.len()).sum();
    let line = |cells: &[String], name: &str| {
        let mut text = String::new();
        for (at, width) in widths.iter().enumerate() {
            let cell = cells.get(at).map_or("", String::as_str);
            text.push_str(&" ".repeat(width.saturating_sub(cell.width())));
            text.push_str(cell);
            text.push_str(BETWEEN);
        }
        text + &shorten(name, layout.width.saturating_sub(used).max(8), layout)
    };
    writeln!(out, "\n{}", layout.paint(Style::Strong, &transcript::line(&list.name)))?;
    writeln!(out, "{}", layout.paint(Style::Dim, &line(&heads, &transcript::line(&list.of))))?;
    for (cells, name) in &cells {
        writeln!(out, "{}", line(cells, name))?;
    }
    match list.rows.len().saturating_sub(top) {
        0 => Ok(()),
        more => writeln!(out, "and {more} more"),
    }
}
