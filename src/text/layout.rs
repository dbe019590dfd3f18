//! How wide, how colourful, with which characters text is laid out. Decided by `ui`, followed by renderers.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The shape of the place text goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Columns.
    pub(crate) width: usize,
    pub(crate) colour: bool,
    /// Characters beyond ASCII.
    pub(crate) unicode: bool,
}

/// What a piece of text means; its look follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Good,
    Bad,
    Warn,
    Dim,
    Strong,
}

impl Layout {
    /// Plain text of eighty columns.
    pub(crate) const PLAIN: Self = Self { width: 80, colour: false, unicode: false };

    /// The text in its style, if there are colours.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Good => "32",
            Style::Bad => "1;31",
            Style::Warn => "33",
            Style::Dim => "2",
            Style::Strong => "1",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The text cut to so many columns, its end marked.
    pub(crate) fn cut(&self, text: &str, columns: usize) -> String {
        if text.width() <= columns {
            return text.to_owned();
        }
        let mark = if self.unicode { "…" } else { &"..."[..columns.min(3)] };
        let mut out = String::new();
        let mut used = mark.width();
        for c in text.chars() {
            let width = c.width().unwrap_or(0);
            if used + width > columns {
                break;
            }
            used += width;
            out.push(c);
        }
        if columns > 0 {
            out.push_str(mark);
        }
        out
    }
}

/// The text filled with blanks to so many columns.
pub(crate) fn pad(text: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(text.width());
    format!("{text}{}", " ".repeat(missing))
}

/// Words that belong to the number before them.
const UNITS: [&str; 13] = ["%", "B", "KiB", "MiB", "GiB", "TiB", "MB", "GB", "GHz", "s", "ms", "us", "ns"];

/// The text in lines of at most so many columns, broken at blanks, but not between a number and its unit. A word that is
/// longer stands alone and whole.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let is_unit = UNITS.contains(&word.trim_end_matches(|c: char| c.is_ascii_punctuation() && c != '%'));
        match words.last_mut() {
            Some(number) if is_unit && number.ends_with(|c: char| c.is_ascii_digit()) => {
                number.push(' ');
                number.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
    }
    fill(words.into_iter(), columns)
}

/// A command in lines that can be copied back into a shell: broken at blanks outside quotes, each line but the last
/// ending in a backslash. One with a comment is left whole.
pub(crate) fn wrap_command(command: &str, columns: usize) -> Vec<String> {
    if command.width() <= columns || command.contains('#') {
        return vec![command.to_owned()];
    }
    let mut words = vec![String::new()];
    let (mut quote, mut escaped) = (None, false);
    for c in command.chars() {
        let plain = quote.is_none() && !escaped;
        match c {
            ' ' if plain => {
                words.push(String::new());
                continue;
            }
            '\'' | '"' if plain => quote = Some(c),
            c if Some(c) == quote && !escaped => quote = None,
            _ => {}
        }
        escaped = c == '\\' && !escaped && quote != Some('\'');
        if let Some(word) = words.last_mut() {
            word.push(c);
        }
    }
    let mut lines = fill(words.into_iter().filter(|word| !word.is_empty()), columns.saturating_sub(2));
    let last = lines.len().saturating_sub(1);
    lines[..last].iter_mut().for_each(|line| line.push_str(" \\"));
    lines
}

fn fill(words: impl Iterator<Item = String>, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= columns => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{Layout, Style, pad, wrap, wrap_command};

    #[test]
    fn columns_are_counted_as_terminals_do() {
        let layout = Layout { unicode: true, ..Layout::PLAIN };
        assert_eq!(layout.cut("日本語テキスト", 7), "日本語…");
        assert_eq!(layout.cut("short", 7), "short");
        let ascii = [10, 7, 4, 3, 2, 0].map(|columns| Layout::PLAIN.cut("a long name", columns));
        assert_eq!(ascii, ["a long ...", "a lo...", "a...", "...", "..", ""]);
        assert_eq!(pad("日本", 6), "日本  ");
        assert_eq!(Layout::PLAIN.paint(Style::Bad, "no"), "no");
    }

    #[test]
    fn lines_break_at_blanks_and_commands_can_be_copied_back() {
        assert_eq!(wrap("one two  three", 8), ["one two", "three"]);
        assert_eq!(wrap("/a/long/path is whole", 6), ["/a/long/path", "is", "whole"]);
        assert_eq!(wrap("", 6), [""; 0]);
        assert_eq!(wrap("netdata: 10 %; free 1.5 GiB.", 14), ["netdata: 10 %;", "free 1.5 GiB."]);
        assert_eq!(wrap("a s 1 s", 3), ["a s", "1 s"]);
        assert_eq!(wrap_command("kill 77", 20), ["kill 77"]);
        let command = "sysctl -w net.core.somaxconn=4096 && sh -c 'a b  c' x\\ y";
        let lines = wrap_command(command, 20);
        let expected = ["sysctl -w \\", "net.core.somaxconn=4096 \\", "&& sh -c 'a b  c' \\", "x\\ y"];
        assert_eq!(lines, expected);
        // What a shell makes of it: backslash and line break are nothing.
        assert_eq!(lines.join("\n").replace("\\\n", ""), command);
        assert_eq!(wrap_command("echo a b c d e # not to be broken", 10).len(), 1);
    }
}
