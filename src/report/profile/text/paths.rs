//! The hottest paths of a profile, as an indented tree.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use crate::report::profile::amount;
use crate::report::profile::text::extent::Extent;
use crate::report::profile::text::name::shorten;
use crate::report::profile::tree::{Function, Names, Tree};
use crate::text::layout::{Layout, Style};
use crate::text::{number, transcript};

/// Columns of a share in the tree.
pub(super) const SHARE: usize = 7;
/// Branches of a tree that are still indented; deeper ones stand below each other.
const INDENT_MAX: usize = 12;
/// A path goes on in its line while what is called took so much of its caller.
const SAME: f64 = 0.995;

/// The tree from the root on, the hottest first; what calls one thing only shares its line.
pub(super) fn write(
    tree: &Tree,
    names: &Names,
    extent: &Extent,
    layout: &Layout,
    out: &mut dyn Write,
) -> io::Result<()> {
    let total = tree.total();
    let floor = (total as f64 * extent.share_min).max(1.0) as u64;
    let hottest = |place: u32| {
        let mut calls: Vec<u32> = tree.calls(place).filter(|call| tree.places[*call as usize].total >= floor).collect();
        calls.sort_by_key(|call| tree.places[*call as usize].total);
        calls
    };
    let mut open: Vec<(u32, usize)> = hottest(0).into_iter().map(|place| (place, 0)).collect();
    let mut left = extent.lines;
    while let Some((place, indent)) = open.pop() {
        if left == 0 {
            let text = format!("{:>SHARE$} and {}", "", number::count(open.len() as u64 + 1, "more path"));
            return writeln!(out, "{}", layout.paint(Style::Dim, &text));
        }
        left -= 1;
        let mut chain = vec![place];
        let mut last = place;
        let below = loop {
            let below = hottest(last);
            let is_same =
                |call: &u32| tree.places[*call as usize].total as f64 >= tree.places[last as usize].total as f64 * SAME;
            match below.as_slice() {
                [only] if is_same(only) => {
                    last = *only;
                    chain.push(last);
                }
                _ => break below,
            }
        };
        let percent = amount::percent(amount::share(tree.places[place as usize].total, total));
        let margin = "  ".repeat(indent.min(INDENT_MAX));
        let columns = layout.width.saturating_sub(SHARE + 1 + margin.len()).max(8);
        let chain: Vec<&Function> =
            chain.iter().map(|place| &names.all[tree.places[*place as usize].function as usize]).collect();
        writeln!(out, "{percent:>SHARE$} {margin}{}", chained(&chain, columns, layout))?;
        open.extend(below.into_iter().map(|call| (call, indent + 1)));
    }
    Ok(())
}

/// `main > run > parse`; without those in the midst if there is no room, and the callers before the last are cut.
fn chained(chain: &[&Function], columns: usize, layout: &Layout) -> String {
    let mark = " > ";
    let mut names: Vec<String> = Vec::new();
    let mut at = 0;
    while let Some(function) = chain.get(at) {
        let same = chain[at..].iter().take_while(|next| *next == function).count();
        let times = if same > 1 { format!(" x{same}") } else { String::new() };
        names.push(format!("{}{times}", transcript::line(&function.name)));
        at += same;
    }
    let whole = names.join(mark);
    if whole.width() <= columns || names.len() == 1 {
        return shorten(&whole, columns, layout);
    }
    let [first, middle @ .., last] = names.as_slice() else { return layout.cut(&whole, columns) };
    // The last is where the path goes on: it has the room it needs, up to two thirds.
    let last = shorten(last, columns * 2 / 3, layout);
    let gap = if middle.is_empty() { mark.to_owned() } else { format!("{mark}({}){mark}", middle.len()) };
    let room = columns.saturating_sub(last.width() + gap.len());
    if room < 4 { last } else { format!("{}{gap}{last}", shorten(first, room, layout)) }
}
