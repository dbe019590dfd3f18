//! The hottest paths of a profile, as an indented tree.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use crate::model::profile::Origin;
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
/// Between a function and what it calls.
const MARK: &str = " > ";
/// Functions of a chain that are tried for their place in a line.
const KEPT_MAX: usize = 64;
/// Columns of a name that was cut, at least.
const SHORT_MIN: usize = 12;
/// A path goes on in its line while what is called took so much of its caller.
const SAME: f64 = 0.995;

/// The tree from the root on, the hottest first; what calls one thing only shares its line.
pub(super) fn write(
    tree: &Tree,
    names: &Names<'_>,
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
        let chain: Vec<Function<'_>> =
            chain.iter().map(|place| names.get(tree.places[*place as usize].function)).collect();
        writeln!(out, "{percent:>SHARE$} {margin}{}", chained(&chain, columns, layout))?;
        open.extend(below.into_iter().map(|call| (call, indent + 1)));
    }
    Ok(())
}

/// `main > run > parse`; where there is no room for all, those that tell most: the last, which is the hot one or where paths
/// part, the functions of a script, `main`, the program's own, then those nearest to the last. How many are left out stands in their place.
fn chained(chain: &[Function<'_>], columns: usize, layout: &Layout) -> String {
    let mut names: Vec<(String, Function<'_>)> = Vec::new();
    let mut at = 0;
    while let Some(function) = chain.get(at).copied() {
        let same = chain[at..].iter().take_while(|next| **next == function).count();
        let times = if same > 1 { format!(" x{same}") } else { String::new() };
        names.push((format!("{}{times}", transcript::line(function.name)), function));
        at += same;
    }
    let Some(last) = names.len().checked_sub(1) else { return String::new() };
    let all: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
    let whole = all.join(MARK);
    if whole.width() <= columns || last == 0 {
        return shorten(&whole, columns, layout);
    }
    let rank = |at: usize| match names[at].1 {
        function if function.origin == Origin::Jit => 0,
        function if is_main(function.name) => 1,
        function if is_of_program(function) => 2,
        function if function.origin != Origin::Kernel => 3,
        _ => 4,
    };
    let mut others: Vec<usize> = (0..last).collect();
    others.sort_by_key(|at| (rank(*at), std::cmp::Reverse(*at)));
    // Names of their full length first; where not even the last fits, it has two thirds of the room.
    let mut shown: Vec<Option<String>> = vec![None; names.len()];
    shown[last] = Some(shorten(all[last], columns * 2 / 3, layout));
    for at in others.into_iter().take(KEPT_MAX) {
        let room = if all[at].width() > columns / 2 { columns / 3 } else { columns };
        let name = shorten(all[at], room.max(SHORT_MIN), layout);
        let before = shown[at].replace(name);
        if joined(&shown).width() > columns {
            shown[at] = before;
        }
    }
    let text = joined(&shown);
    if text.width() <= columns { text } else { shown[last].take().unwrap_or_default() }
}

/// The names, and how many are left out between them.
fn joined(shown: &[Option<String>]) -> String {
    let mut parts: Vec<String> = Vec::new();
    for group in shown.chunk_by(|a, b| a.is_some() == b.is_some()) {
        match group.first() {
            Some(Some(_)) => parts.extend(group.iter().flatten().cloned()),
            _ => parts.push(format!("({})", number::count(group.len() as u64, "frame"))),
        }
    }
    parts.join(MARK)
}

/// Whether a function is of the program itself and not of a library.
fn is_of_program(function: Function<'_>) -> bool {
    function.origin == Origin::Native && !function.module.starts_with('[') && !function.module.contains(".so")
}

/// `main`, also of Rust (`program::main`) and Go (`main.main`).
fn is_main(name: &str) -> bool {
    name == "main" || name == "main.main" || name.ends_with("::main")
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::chained;
    use crate::model::profile::Origin;
    use crate::report::profile::tree::Function;
    use crate::text::layout::Layout;

    fn said(chain: &str, columns: usize) -> String {
        let origin = |name: &str| if name.starts_with("py::") { Origin::Jit } else { Origin::Native };
        let function = |name| Function { name, module: "", origin: origin(name) };
        chained(&chain.split(' ').map(function).collect::<Vec<_>>(), columns, &Layout::PLAIN)
    }

    /// Regression: eight frames were left out, the only one of the program among them.
    #[test]
    fn the_programs_own_functions_stay_before_those_of_the_kernel() {
        let function = |name, origin, module| Function { name, module, origin };
        let kernel: Vec<String> = (0..8).map(|at| format!("kernel_function_{at}")).collect();
        let mut chain = vec![
            function("wait_for_lock", Origin::Native, "waits"),
            function("pthread_mutex_lock", Origin::Native, "libc.so.6"),
        ];
        chain.extend(kernel.iter().map(|name| function(name, Origin::Kernel, "")));
        let said = chained(&chain, 70, &Layout::PLAIN);
        assert_eq!(said, "wait_for_lock > pthread_mutex_lock > (7 frames) > kernel_function_7");
    }

    /// Regression: `_start > (3) > work_old` hid `main`, and `(5)` the hot function of a Python script.
    #[test]
    fn main_the_script_and_the_last_stay() {
        let c = "_start __libc_start_main_impl __libc_start_call_main main work_old";
        assert_eq!(said(c, 80), c.replace(' ', " > "));
        assert_eq!(said(c, 60), "(2 frames) > __libc_start_call_main > main > work_old");
        assert_eq!(said(c, 30), "(3 frames) > main > work_old");
        assert_eq!(said(c, 18), "work_old");
        let python = "_start main Py_RunMain py::<module> _PyEval_Vector py::outer _PyEval_EvalFrameDefault py::inner _PyEval_EvalFrameDefault";
        let short = said(python, 90);
        assert!(short.contains("py::inner") && short.contains("py::outer"), "{short}");
        assert!(short.width() <= 90 && short.ends_with("_PyEval_EvalFrameDefault"), "{short}");
        let rust = "std::rt::lang_start program::main program::run core::iter::fold area";
        assert_eq!(said(rust, 50), "(1 frame) > program::main > (2 frames) > area");
    }
}
