//! Child output as a person would see it at the end, without what could command a terminal: carriage returns overwrite,
//! escape sequences and other controls go, invalid UTF-8 becomes U+FFFD.

/// Longest line kept; the rest of it is dropped. A line of a report is not a data dump.
const LINE_MAX: usize = 4096;

/// Makes bytes safe to show.
pub(crate) fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut line: Vec<char> = Vec::new();
    let mut column = 0;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => {
                out.extend(line.drain(..));
                out.push('\n');
                column = 0;
            }
            '\r' => column = 0,
            '\u{8}' => column = usize::saturating_sub(column, 1),
            // No sequence goes on behind a line break: one without an end must not swallow the rest of the output.
            '\u{1b}' => match chars.next_if(|c| *c != '\n') {
                // CSI: parameters, then one final character.
                Some('[') => {
                    while chars.next_if(|c| *c != '\n').is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c)) {}
                }
                // OSC, DCS and their like: up to BEL or ST.
                Some(']' | 'P' | 'X' | '^' | '_') => {
                    while let Some(c) = chars.next_if(|c| *c != '\n') {
                        if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                _ => {}
            },
            '\t' => {
                for _ in 0..8 - column % 8 {
                    put(&mut line, &mut column, ' ');
                }
            }
            c if c.is_control() || is_invisible(c) => {}
            c => put(&mut line, &mut column, c),
        }
    }
    out.extend(line);
    out
}

fn put(line: &mut Vec<char>, column: &mut usize, c: char) {
    if *column < line.len() {
        line[*column] = c;
    } else if line.len() < LINE_MAX {
        line.push(c);
    } else {
        return;
    }
    *column += 1;
}

/// Characters that change the direction of text and so can show it as something else.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// One line made safe, for names and messages.
pub(crate) fn line(text: &str) -> String {
    // Nearly all names are of printable ASCII, and profiles have many.
    if text.len() <= LINE_MAX && text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return text.to_owned();
    }
    clean(text.as_bytes()).replace('\n', " ")
}

/// The last `lines` lines of an output, made safe.
pub(crate) fn tail(bytes: &[u8], lines: usize) -> (String, usize) {
    let text = clean(bytes);
    let all: Vec<&str> = text.trim_end().lines().collect();
    let from = all.len().saturating_sub(lines);
    (all[from..].join("\n"), from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{clean, tail};

    #[test]
    fn what_a_terminal_would_obey_is_gone() {
        assert_eq!(clean(b"10%\r50%\r100%\n"), "100%\n");
        assert_eq!(clean(b"\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b]8;;x\x1b\\link"), "red link");
        assert_eq!(clean(b"a\x1b[2J\x1b[Hb\x00\x07\x08c\xff"), "ac\u{FFFD}");
        assert_eq!(clean(b"\x1b]0;no end\none\n\x1b[12\ntwo\n\x1b\nthree"), "\none\n\ntwo\n\nthree");
        assert_eq!(clean("a\u{202e}b".as_bytes()), "ab");
        assert_eq!(tail(b"1\n2\n3\n4\n", 2), ("3\n4".to_owned(), 2));
    }

    proptest! {
        #[test]
        fn nothing_but_line_breaks_controls(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(clean(&bytes).chars().all(|c| c == '\n' || !c.is_control()));
        }
    }
}
