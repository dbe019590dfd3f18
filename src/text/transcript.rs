//! What comes from outside, as a terminal may be shown it: `line` for a name or message, `clean` and `tail` for output. It
//! is what a person would see at the end, without what could command a terminal, hide or reorder text: carriage returns
//! overwrite, escape sequences and other controls go, invalid UTF-8 becomes U+FFFD. `printed` is the last gate, for all
//! that apm itself says.

use std::borrow::Cow;
use std::io::{self, Write};

use crate::model::raw::is_hidden;

/// Longest line kept; of a longer one the end is dropped and `...` says so. A line of a report is not a data dump.
const LINE_MAX: usize = 4096;
const CUT: &str = "...";

/// What ends a colour.
const RESET: &str = "\u{1b}[0m";
/// Changes of colour kept of a line.
const COLOURS_MAX: usize = 256;

/// Makes bytes safe to show.
pub(crate) fn clean(bytes: &(impl AsRef<[u8]> + ?Sized)) -> String {
    cleaned(&String::from_utf8_lossy(bytes.as_ref()), LINE_MAX, false)
}

/// Lines of any length made safe, for those who escape them further.
pub(super) fn whole(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b'\n' | 0x20..0x7f)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(cleaned(text, usize::MAX, false))
}

/// Nearly all names are of printable ASCII, and profiles have many.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

fn cleaned(text: &str, line_max: usize, keeps_colours: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut line: Vec<char> = Vec::new();
    let mut colours: Vec<(usize, &str)> = Vec::new();
    let mut column = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\n' => {
                flush(&mut out, &mut line, &mut colours);
                out.push('\n');
                column = 0;
            }
            '\r' => column = 0,
            '\u{8}' => column = usize::saturating_sub(column, 1),
            '\u{1b}' if keeps_colours && colours.len() < COLOURS_MAX && colour(&text[at..]).is_some() => {
                let length = colour(&text[at..]).unwrap_or_default();
                while chars.next_if(|(next, _)| *next < at + length).is_some() {}
                colours.push((column, &text[at..at + length]));
            }
            // No sequence goes on behind a line break: one without an end must not swallow the rest of the output.
            '\u{1b}' => match chars.next_if(|(_, c)| *c != '\n').map(|(_, c)| c) {
                // CSI: parameters, then one final character.
                Some('[') => {
                    let is_parameter = |(_, c): (usize, char)| !('\u{40}'..='\u{7e}').contains(&c);
                    while chars.next_if(|(_, c)| *c != '\n').is_some_and(is_parameter) {}
                }
                // OSC, DCS and their like: up to BEL or ST.
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    while let Some((_, c)) = chars.next_if(|(_, c)| *c != '\n') {
                        if c == '\u{7}' || (c == '\u{1b}' && chars.next_if(|(_, c)| *c == '\\').is_some()) {
                            break;
                        }
                    }
                }
                _ => {}
            },
            '\t' => {
                for _ in 0..8 - column % 8 {
                    put(&mut line, &mut column, ' ', line_max);
                }
            }
            c if c.is_control() || is_hidden(c) => {}
            c => put(&mut line, &mut column, c, line_max),
        }
    }
    flush(&mut out, &mut line, &mut colours);
    out
}

/// Ends a line. Its colours end with it: the next one may be apm's own.
fn flush(out: &mut String, line: &mut Vec<char>, colours: &mut Vec<(usize, &str)>) {
    if colours.is_empty() {
        out.extend(line.drain(..));
        return;
    }
    // What was overwritten may have been coloured in another order than it stands.
    colours.sort_by_key(|(column, _)| *column);
    let mut left = colours.drain(..).peekable();
    for (column, c) in line.drain(..).enumerate() {
        while let Some((_, code)) = left.next_if(|(at, _)| *at <= column) {
            out.push_str(code);
        }
        out.push(c);
    }
    drop(left);
    out.push_str(RESET);
}

fn put(line: &mut Vec<char>, column: &mut usize, c: char, max: usize) {
    if *column < line.len() {
        line[*column] = c;
    } else if line.len() < max {
        line.push(c);
    } else {
        let start = line.len().saturating_sub(CUT.len());
        line.splice(start.., CUT.chars());
        return;
    }
    *column += 1;
}

/// One line made safe, for names and messages.
pub(crate) fn line(text: &(impl AsRef<str> + ?Sized)) -> String {
    let text = text.as_ref();
    if text.len() <= LINE_MAX && is_plain(text) {
        return text.to_owned();
    }
    cleaned(text, LINE_MAX, false).replace('\n', " ")
}

/// The last `lines` lines of an output, made safe.
pub(crate) fn tail(bytes: &(impl AsRef<[u8]> + ?Sized), lines: usize) -> (String, usize) {
    let text = clean(bytes);
    let all: Vec<&str> = text.trim_end().lines().collect();
    let from = all.len().saturating_sub(lines);
    (all[from..].join("\n"), from)
}

/// The same with its colours, for a place that shows them.
pub(crate) fn coloured_tail(bytes: &[u8], lines: usize) -> (String, usize) {
    let text = cleaned(&String::from_utf8_lossy(bytes), LINE_MAX, true);
    let all: Vec<&str> = text.trim_end().lines().collect();
    let from = all.len().saturating_sub(lines);
    (all[from..].join("\n"), from)
}

/// Text that apm is about to print, without what commands a terminal or the runner of a GitHub step. Of escape sequences
/// apm's own colours are left. A message that forgot to clean what it quotes does no harm here.
pub(crate) fn printed(text: &str) -> Cow<'_, str> {
    let is_harmless = |byte| matches!(byte, b'\n' | b'\t' | 0x20..0x7f);
    if text.bytes().all(is_harmless) && !text.contains("::") && !text.contains("##[") {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = colour(rest).unwrap_or(c.len_utf8());
        if length > 1 && c == '\u{1b}' || matches!(c, '\n' | '\t') || !(c.is_control() || is_hidden(c)) {
            shown.push_str(&rest[..length]);
        }
        rest = &rest[length..];
    }
    // The runner takes a line for a command that begins with `::` behind whitespace, or has `##[` anywhere. A blank keeps
    // the characters apart. No command begins with `:::`, which apm's own hints have.
    let mut out = String::with_capacity(shown.len() + 16);
    for line in shown.split_inclusive('\n') {
        let start = line.trim_start();
        if start.starts_with("::") && !start.starts_with(":::") {
            out.push_str(&line[..line.len() - start.len()]);
            out.push_str(": ");
            out.push_str(&start[1..]);
        } else {
            out.push_str(line);
        }
    }
    Cow::Owned(out.replace("##[", "# #["))
}

/// The length of the sequence for a colour that a text begins with.
fn colour(text: &str) -> Option<usize> {
    let codes = text.strip_prefix("\u{1b}[")?;
    let length = codes.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    codes[length..].starts_with('m').then_some(2 + length + 1)
}

/// Writes text for people through `printed`.
pub(crate) fn print(out: &mut dyn Write, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut lines = Lines { out, held: Vec::new() };
    write(&mut lines)?;
    lines.pass(lines.held.len())
}

/// Holds a line until it is whole.
struct Lines<'a> {
    out: &'a mut dyn Write,
    held: Vec<u8>,
}

impl Lines<'_> {
    fn pass(&mut self, length: usize) -> io::Result<()> {
        let text: Vec<u8> = self.held.drain(..length).collect();
        self.out.write_all(printed(&String::from_utf8_lossy(&text)).as_bytes())
    }
}

impl Write for Lines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
            self.pass(self.held.len() - bytes.len() + at + 1)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{clean, line, print, printed, tail};
    use crate::model::raw::is_hidden;

    #[test]
    fn a_tail_keeps_colours_and_nothing_else_of_what_commands_a_terminal() {
        let tail = |text: &str| super::coloured_tail(text.as_bytes(), 2).0;
        assert_eq!(tail("a\n\u{1b}[31mred\u{1b}[0m plain\nlast"), "\u{1b}[31mred\u{1b}[0m plain\u{1b}[0m\nlast");
        assert_eq!(tail("\u{1b}[2J\u{1b}]0;t\u{7}\u{1b}[1;32mok\u{1b}[5A"), "\u{1b}[1;32mok\u{1b}[0m");
        assert_eq!(tail("\u{1b}[31m50%\r\u{1b}[32m99%"), "\u{1b}[31m\u{1b}[32m99%\u{1b}[0m");
        assert_eq!(tail("no colour"), "no colour");
    }

    #[test]
    fn what_a_terminal_would_obey_is_gone() {
        assert_eq!(clean(b"10%\r50%\r100%\n"), "100%\n");
        assert_eq!(clean(b"\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b]8;;x\x1b\\link"), "red link");
        assert_eq!(clean(b"a\x1b[2J\x1b[Hb\x00\x07\x08c\xff"), "ac\u{FFFD}");
        assert_eq!(clean(b"\x1b]0;no end\none\n\x1b[12\ntwo\n\x1b\nthree"), "\none\n\ntwo\n\nthree");
        for hidden in ['\u{ad}', '\u{61c}', '\u{180e}', '\u{200b}', '\u{200f}', '\u{2028}', '\u{202e}', '\u{2060}'] {
            assert_eq!(clean(&format!("a{hidden}b")), "ab", "{hidden:?}");
        }
        for hidden in ['\u{2066}', '\u{feff}', '\u{fff9}', '\u{e0041}', '\u{85}', '\u{9b}'] {
            assert_eq!(line(&format!("a{hidden}b")), "ab", "{hidden:?}");
        }
        assert_eq!(tail(b"1\n2\n3\n4\n", 2), ("3\n4".to_owned(), 2));
    }

    /// Regression: the runner strips the blanks before output of a failed task, and obeyed it.
    #[test]
    fn no_line_is_a_command_of_a_workflow() {
        assert_eq!(printed("::error::x\n \u{a0}\t::add-mask::y\n"), ": :error::x\n \u{a0}\t: :add-mask::y\n");
        assert_eq!(printed("a ##[error]x ###[y]"), "a # #[error]x ## #[y]");
        assert_eq!(printed("\u{200b}::error::x"), ": :error::x");
        for kept in ["std::fs::read: a\n", "## [a] # [b]\n", "  ::: a b\n", "\u{1b}[1;31mfailed\u{1b}[0m ü\n"] {
            assert_eq!(printed(kept), kept);
        }
        assert_eq!(printed("\u{1b}[2J\u{1b}[1mb\u{9b}m\rc"), "[2J\u{1b}[1mbmc");
        let mut out = Vec::new();
        print(&mut out, |out| {
            out.write_all(b"a\n  :").and_then(|()| out.write_all(b":error::x\n:")).and_then(|()| out.write_all(b":y"))
        })
        .expect("memory takes everything");
        assert_eq!(String::from_utf8(out).expect("text"), "a\n  : :error::x\n: :y");
    }

    proptest! {
        #[test]
        fn nothing_but_line_breaks_controls(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(clean(&bytes).chars().all(|c| c == '\n' || !(c.is_control() || is_hidden(c))));
        }

        #[test]
        fn what_is_printed_is_clean_and_stays_as_it_is(text in "([ :#\\[\n\ta\u{1b}\u{9b}\u{202e}\u{e0041}m1]|::|##\\[|\u{1b}\\[1m|\\PC){0,40}") {
            let once = printed(&text).into_owned();
            prop_assert!(!once.contains("##["));
            for line in once.lines() {
                let start = line.trim_start();
                prop_assert!(!start.starts_with("::") || start.starts_with(":::"), "{line:?}");
            }
            let is_left = |c: char| is_hidden(c) || (c.is_control() && !matches!(c, '\n' | '\t' | '\u{1b}'));
            prop_assert!(!once.chars().any(is_left));
            prop_assert_eq!(printed(&once), once.as_str());
        }
    }
}
