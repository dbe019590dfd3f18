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
        let mark = if self.unicode { "…" } else { "~" };
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

#[cfg(test)]
mod tests {
    use super::{Layout, Style, pad};

    #[test]
    fn columns_are_counted_as_terminals_do() {
        let layout = Layout { unicode: true, ..Layout::PLAIN };
        assert_eq!(layout.cut("日本語テキスト", 7), "日本語…");
        assert_eq!(layout.cut("short", 7), "short");
        assert_eq!(pad("日本", 6), "日本  ");
        assert_eq!(Layout::PLAIN.paint(Style::Bad, "no"), "no");
    }
}
