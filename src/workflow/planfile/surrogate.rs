//! Escapes of JSON that YAML does not know.

/// JSON writes characters beyond U+FFFF as two escapes, of which YAML knows nothing: they become one escape of YAML.
pub(super) fn join_surrogates(source: &str) -> Option<String> {
    let half = |at: usize| {
        let digits = source.get(at..at + 6)?.strip_prefix("\\u")?;
        u32::from_str_radix(digits, 16).ok()
    };
    let mut out = String::new();
    let mut from = 0;
    let mut at = 0;
    while let Some(found) = source[at..].find('\\').map(|offset| at + offset) {
        let pair = half(found)
            .filter(|high| (0xD800..0xDC00).contains(high))
            .zip(half(found + 6).filter(|low| (0xDC00..0xE000).contains(low)));
        if let Some((high, low)) = pair {
            out += &source[from..found];
            out += &format!("\\U{:08X}", 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00));
            at = found + 12;
            from = at;
        } else {
            // The character after a backslash is part of its escape, also where it is another backslash.
            at = source[found + 1..].chars().next().map_or(source.len(), |c| found + 1 + c.len_utf8());
        }
    }
    (from > 0).then(|| out + &source[from..])
}
