//! /proc/PID/stat, of a process or a task: where the name ends and the numbers begin. The name is in parentheses and may
//! contain anything, parentheses too.

/// Its parts. Fields are counted from the state, which is 0: field `n` of proc(5) is `n - 3` here.
#[derive(Debug)]
pub(crate) struct Stat<'a> {
    pub(crate) pid: i32,
    pub(crate) name: &'a [u8],
    pub(crate) state: char,
    fields: [&'a str; FIELDS],
}

/// Fields that are kept: up to the scheduling policy.
const FIELDS: usize = 39;

impl<'a> Stat<'a> {
    pub(crate) fn parse(text: &'a [u8]) -> Option<Self> {
        let open = text.iter().position(|byte| *byte == b'(')?;
        let close = text.iter().rposition(|byte| *byte == b')').filter(|close| *close > open)?;
        let pid = std::str::from_utf8(&text[..open]).ok()?.trim().parse().ok()?;
        let rest = std::str::from_utf8(&text[close + 1..]).ok()?;
        let mut fields = [""; FIELDS];
        fields.iter_mut().zip(rest.split_ascii_whitespace()).for_each(|(field, word)| *field = word);
        Some(Self { pid, name: &text[open + 1..close], state: fields[0].chars().next()?, fields })
    }

    pub(crate) fn field<T: std::str::FromStr>(&self, at: usize) -> Option<T> {
        self.fields.get(at)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Stat;

    /// As Linux 6.18 wrote it, the name made hostile.
    const TEXT: &str = "3045 (a) R 1 (b\u{1b}) S 1 3045 3045 0 -1 4194560 2911 71009 0 13 40 10 700 90 20 0 3 0 1493034 30459904 25594 18446744073709551615 1 1 0 0 0 0 0 16781312 134433283 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

    #[test]
    fn the_name_ends_at_the_last_parenthesis() {
        let stat = Stat::parse(TEXT.as_bytes()).expect("a process");
        assert_eq!((stat.pid, stat.name, stat.state), (3045, "a) R 1 (b\u{1b}".as_bytes(), 'S'));
        assert_eq!((stat.field(1), stat.field(2), stat.field(36)), (Some(1), Some(3045), Some(1u64)));
        assert_eq!((stat.field::<u64>(1000), Stat::parse(b"7 )x( S 1").map(|stat| stat.pid)), (None, None));
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..400, byte in any::<u8>()) {
            let _ = Stat::parse(&bytes);
            let mut damaged = TEXT.as_bytes().to_vec();
            let at = at % damaged.len();
            damaged[at] = byte;
            let _ = Stat::parse(&damaged).map(|stat| stat.field::<u64>(37));
        }
    }
}
