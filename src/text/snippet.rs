//! A fault in a text file, shown with its place: two lines before and after, and a caret.

use unicode_width::UnicodeWidthChar;

use crate::model::raw::is_hidden;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// From 1; 0 where the fault is about the whole file.
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
    pub(crate) message: String,
    /// The likely word, the next step.
    pub(crate) hint: Option<String>,
}

impl Fault {
    /// A fault at a place.
    pub(crate) fn at((line, column): (usize, usize), message: impl Into<String>) -> Self {
        Self { line, column, message: message.into(), hint: None }
    }

    /// Adds what was probably meant.
    pub(crate) fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

/// Longest line shown; more of it would push the caret off the screen.
const WIDTH_MAX: usize = 100;
/// Lines before and after.
const AROUND: usize = 2;

/// `file:line:column: message`, the lines around it, a caret under the place.
pub(crate) fn render(file: &str, source: &str, fault: &Fault) -> String {
    render_from(file, source, 1, fault)
}

/// The same of one line that was read alone, and is the `number`th of its file.
pub(crate) fn render_line(file: &str, line: &str, number: usize, fault: &Fault) -> String {
    render_from(file, line, number, &Fault { line: number, ..fault.clone() })
}

/// `source` starts with the line of that number.
fn render_from(file: &str, source: &str, start: usize, fault: &Fault) -> String {
    let mut out = if fault.line == 0 {
        format!("{file}: {}\n", fault.message)
    } else {
        format!("{file}:{}:{}: {}\n", fault.line, fault.column, fault.message)
    };
    if fault.line > 0 {
        let around = fault.line.saturating_sub(AROUND)..=fault.line + AROUND;
        let lines: Vec<(usize, &str)> =
            (start..).zip(source.lines()).take_while(|(at, _)| at <= around.end()).collect();
        let digits = lines.last().map_or(0, |(at, _)| at.to_string().len());
        for (at, line) in lines.into_iter().filter(|(at, _)| around.contains(at)) {
            out += format!("  {at:>digits$} | {}", shown(line, WIDTH_MAX)).trim_end();
            out.push('\n');
            if at == fault.line {
                let before: String = line.chars().take(fault.column.saturating_sub(1)).collect();
                let columns: usize = shown(&before, WIDTH_MAX).chars().map(|c| c.width().unwrap_or(0)).sum();
                out += &format!("  {:>digits$} | {}^\n", "", " ".repeat(columns));
            }
        }
    }
    if let Some(hint) = &fault.hint {
        out += &format!("  hint: {hint}\n");
    }
    out
}

/// A line as it can be shown: tabs as two blanks, controls as a sign, cut where it is too long.
fn shown(line: &str, max: usize) -> String {
    let mut out = String::new();
    for c in line.chars().take(max) {
        match c {
            '\t' => out.push_str("  "),
            c if c.is_control() || is_hidden(c) => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Fault, render};

    #[test]
    fn the_place_is_shown_with_its_surroundings() {
        let source = "a: 1\nb:\n\tc: 日本 lots\nd: 4\ne: 5\nf: 6\n";
        let fault = Fault::at((3, 8), "expected a number").hint(Some("did you mean `1`?".to_owned()));
        let expected = "x.yaml:3:8: expected a number
  1 | a: 1
  2 | b:
  3 |   c: 日本 lots
    |           ^
  4 | d: 4
  5 | e: 5
  hint: did you mean `1`?
";
        assert_eq!(render("x.yaml", source, &fault), expected);
        assert_eq!(render("x.yaml", "", &Fault::at((1, 1), "empty")), "x.yaml:1:1: empty\n");
        assert!(render("x.yaml", "one\n", &Fault::at((900, 7), "past the end")).starts_with("x.yaml:900:7"));
    }
}
