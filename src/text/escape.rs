//! Escapes: what makes hostile text harmless in XML, HTML, Markdown, JSON, GitHub's workflow commands and Prometheus
//! labels.

/// For XML and HTML, in text and in double quotes. Characters that XML 1.0 forbids become U+FFFD.
pub(crate) fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(c),
            c if (c as u32) < 0x20 || matches!(c, '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}') => {
                out.push('\u{FFFD}');
            }
            c => out.push(c),
        }
    }
    out
}

/// For a cell of a Markdown table or a line of text: no markup, no HTML, no line break.
pub(crate) fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\n' | '\r' => out.push(' '),
            c if c.is_control() => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

/// The message of a GitHub workflow command.
pub(crate) fn github_message(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property of a GitHub workflow command.
pub(crate) fn github_property(text: &str) -> String {
    github_message(text).replace(':', "%3A").replace(',', "%2C")
}

/// A JSON document in which nothing commands a terminal: what JSON lets stand as it is, such as the control characters
/// from U+007F on and marks that turn the direction of text, is escaped. They stand in strings only.
pub(crate) fn json(document: &str) -> String {
    let mut out = String::with_capacity(document.len());
    for c in document.chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out
}

/// The value of a label in the text format of Prometheus, in its quotes.
pub(crate) fn prometheus_label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::{github_property, json, markdown, prometheus_label, xml};

    #[test]
    fn hostile_text_becomes_harmless() {
        assert_eq!(xml("<a b=\"'\">&\u{0}\u{1b}[31m"), "&lt;a b=&quot;&#39;&quot;&gt;&amp;\u{FFFD}\u{FFFD}[31m");
        assert_eq!(markdown("a|b\n<script>`*"), "a\\|b &lt;script&gt;\\`\\*");
        assert_eq!(github_property("a:b,c%\n"), "a%3Ab%2Cc%25%0A");
        assert_eq!(json("\"a\u{9b}31m\u{202e}é\""), "\"a\\u009b31m\\u202eé\"");
        assert_eq!(prometheus_label("a\"b\\c\n"), "a\\\"b\\\\c\\n");
    }
}
