//! What comes from outside, made fit for the place it goes to: a function for each, complete in itself. They take away what
//! commands a terminal, hides or reorders text, and then escape what is markup there. `transcript` has those for terminals.

use std::io::{self, BufWriter, Write};

use serde::Serialize;

use crate::model::raw::is_hidden;
use crate::text::transcript;

/// For XML and HTML, in text and in double quotes. No line of it is a command of a GitHub workflow.
pub(crate) fn xml(text: &(impl AsRef<str> + ?Sized)) -> String {
    let text = transcript::whole(text.as_ref());
    let mut out = String::with_capacity(text.len() + 16);
    let mut at_start = false;
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            ':' if at_start => out.push_str("&#58;"),
            '[' if out.ends_with("##") => out.push_str("&#91;"),
            c => out.push(c),
        }
        at_start = c == '\n' || (at_start && c.is_whitespace());
    }
    out
}

/// For a cell of a Markdown table or a line of text: no markup, no HTML, no line break, no link, nobody is mentioned. GitHub
/// makes links of names, numbers and addresses after it has read the Markdown, also of those that were escaped or written as
/// character references; it makes none where an empty comment stands in between.
pub(crate) fn markdown(text: &(impl AsRef<str> + ?Sized)) -> String {
    const APART: &str = "<!-- -->";
    let text = transcript::whole(text.as_ref());
    let mut out = String::with_capacity(text.len() + 16);
    for (at, c) in text.char_indices() {
        let before = |word: &str| at.checked_sub(word.len()).and_then(|from| text.get(from..at));
        let is_behind = |word: &str| before(word).is_some_and(|before| before.eq_ignore_ascii_case(word));
        let rest = &text[at + c.len_utf8()..];
        let is_number = rest.starts_with(|c: char| c.is_ascii_digit());
        match c {
            '.' if is_behind("www") => out.push_str(APART),
            '-' if is_behind("GH") && is_number => out.push_str(APART),
            _ => {}
        }
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\n' => out.push(' '),
            c => out.push(c),
        }
        let is_linked = match c {
            '@' => rest.starts_with(|c: char| !c.is_whitespace()),
            '#' | '!' => is_number,
            ':' => rest.starts_with("//") || is_behind("mailto") || is_behind("xmpp"),
            _ => false,
        };
        if is_linked {
            out.push_str(APART);
        }
    }
    out
}

/// The runner of a GitHub step takes `##[` for a command wherever it stands; where nothing else could be put there, a blank
/// keeps the characters apart.
fn unlogged(text: &str) -> String {
    transcript::whole(text).replace("##[", "# #[")
}

/// The message of a GitHub workflow command.
pub(crate) fn github_message(text: &(impl AsRef<str> + ?Sized)) -> String {
    unlogged(text.as_ref()).replace('%', "%25").replace('\n', "%0A")
}

/// A property of a GitHub workflow command.
pub(crate) fn github_property(text: &(impl AsRef<str> + ?Sized)) -> String {
    github_message(text).replace(':', "%3A").replace(',', "%2C")
}

/// The value of a label in the text format of Prometheus, in its quotes.
pub(crate) fn prometheus_label(text: &(impl AsRef<str> + ?Sized)) -> String {
    unlogged(text.as_ref()).replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Writes JSON in which nothing commands a terminal or the runner of a GitHub step: what JSON lets stand as it is, such as
/// the control characters from U+007F on and marks that turn the direction of text, is escaped. All of it stands in strings
/// only. Whoever reads the document gets what was put into it.
pub(crate) struct Json<W> {
    out: W,
    /// The end of a character whose start has been written.
    held: Vec<u8>,
    /// How many `#` were written last.
    hashes: usize,
}

impl<W: Write> Json<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, held: Vec::new(), hashes: 0 }
    }

    fn pass(&mut self, text: &str) -> io::Result<()> {
        let mut done = 0;
        for (at, c) in text.char_indices() {
            let is_command = c == '[' && self.hashes >= 2;
            self.hashes = if c == '#' { self.hashes + 1 } else { 0 };
            if !is_command && !matches!(c, '\u{7f}'..='\u{9f}') && !is_hidden(c) {
                continue;
            }
            self.out.write_all(&text.as_bytes()[done..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(self.out, "\\u{unit:04x}")?;
            }
            done = at + c.len_utf8();
        }
        self.out.write_all(&text.as_bytes()[done..])
    }
}

impl<W: Write> Write for Json<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.held.is_empty()
            && bytes.is_ascii()
            && !bytes.contains(&b'#')
            && !bytes.contains(&0x7f)
            && self.hashes == 0
        {
            self.out.write_all(bytes)?;
            return Ok(bytes.len());
        }
        self.held.extend_from_slice(bytes);
        let held = std::mem::take(&mut self.held);
        let (text, rest) = match std::str::from_utf8(&held) {
            Ok(text) => (text, &[][..]),
            Err(error) if error.error_len().is_none() => {
                let (text, rest) = held.split_at(error.valid_up_to());
                (std::str::from_utf8(text).unwrap_or_default(), rest)
            }
            Err(error) => return Err(io::Error::other(error)),
        };
        self.pass(text)?;
        self.held = rest.to_vec();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes a whole JSON document and a line break, as it is made.
pub(crate) fn write_json(document: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let mut json = BufWriter::with_capacity(1 << 16, Json::new(out));
    serde_json::to_writer(&mut json, document)?;
    json.write_all(b"\n")?;
    json.flush()
}

/// The same for people, on many lines.
pub(crate) fn write_json_pretty(document: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let mut json = BufWriter::with_capacity(1 << 16, Json::new(out));
    serde_json::to_writer_pretty(&mut json, document)?;
    json.write_all(b"\n")?;
    json.flush()
}

/// A whole JSON document, as `Json` writes it.
pub(crate) fn json(document: &(impl AsRef<str> + ?Sized)) -> String {
    let mut out = Vec::with_capacity(document.as_ref().len());
    // Memory takes everything.
    let _ = Json::new(&mut out).pass(document.as_ref());
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::{Json, github_message, github_property, json, markdown, prometheus_label, xml};
    use crate::model::raw::is_hidden;

    #[test]
    fn hostile_text_becomes_harmless() {
        assert_eq!(xml("<a b=\"'\">&\u{0}\u{1b}[31m\u{9b}\u{202e}\u{ffff}"), "&lt;a b=&quot;&#39;&quot;&gt;&amp;");
        assert_eq!(xml("a::b\n ::error::x ##[y"), "a::b\n &#58;:error::x ##&#91;y");
        assert_eq!(markdown("a|b\n<script>`*\u{2066}"), "a\\|b &lt;script&gt;\\`\\*");
        assert_eq!(github_property("a:b,c%\n\u{202e}"), "a%3Ab%2Cc%25%0A");
        assert_eq!(github_message("a\u{200b}\r::b"), "::b");
        assert_eq!(json("\"a\u{9b}31m\u{202e}é\u{e0041}##[x\""), "\"a\\u009b31m\\u202eé\\udb40\\udc41##\\u005bx\"");
        assert_eq!(prometheus_label("a\"b\\c\n\u{200f}"), "a\\\"b\\\\c\\n");
    }

    #[test]
    fn nothing_in_markdown_is_a_link() {
        assert_eq!(markdown("@octocat a@b.c"), "@<!-- -->octocat a@<!-- -->b.c");
        assert_eq!(markdown("https://x www.x WWW.x"), "https:<!-- -->//x www<!-- -->.x WWW<!-- -->.x");
        assert_eq!(
            markdown("mailto:x #1 !2 GH-3 a#4"),
            "mailto:<!-- -->x \\#<!-- -->1 \\!<!-- -->2 GH<!-- -->-3 a\\#<!-- -->4"
        );
        assert_eq!(markdown("a: 1 @ 2 # b"), "a: 1 @ 2 \\# b");
    }

    #[test]
    fn json_may_come_in_pieces() {
        let mut out = Vec::new();
        let mut json = Json::new(&mut out);
        for byte in "\"ü\u{202e}##[\u{e0041}\"".bytes() {
            json.write_all(&[byte]).expect("memory takes everything");
        }
        assert_eq!(String::from_utf8(out).expect("text"), "\"ü\\u202e##\\u005b\\udb40\\udc41\"");
    }

    fn is_clean(text: &str) -> bool {
        !text.chars().any(|c| is_hidden(c) || (c.is_control() && c != '\n'))
    }

    proptest! {
        #[test]
        fn no_function_lets_hidden_or_control_characters_through(text in "(\\PC|[\u{0}-\u{9f}\u{200b}-\u{202e}\u{e0041}:#@w./\n]|::|##\\[){0,60}") {
            for escaped in [xml(&text), prometheus_label(&text)] {
                prop_assert!(is_clean(&escaped) && !escaped.contains("##["), "{escaped:?}");
            }
            for line in xml(&text).lines().skip(1) {
                prop_assert!(!line.trim_start().starts_with("::"), "{line:?}");
            }
            for escaped in [markdown(&text), github_message(&text), github_property(&text)] {
                prop_assert!(is_clean(&escaped) && !escaped.contains('\n') && !escaped.contains("##["), "{escaped:?}");
            }
            let escaped = json(&serde_json::to_string(&text).expect("a text"));
            prop_assert!(is_clean(&escaped) && !escaped.contains("##["), "{escaped:?}");
            prop_assert_eq!(serde_json::from_str::<String>(&escaped).expect("JSON"), text);
        }

        #[test]
        fn letters_and_blanks_stay(text in "[a-zäß ()=;0-9-]{0,40}") {
            prop_assume!(!text.contains("gh-"));
            for same in [xml(&text), markdown(&text), github_message(&text), github_property(&text), json(&text), prometheus_label(&text)] {
                prop_assert_eq!(&same, &text);
            }
        }
    }
}
