//! Values of settings as the kernel and limits.conf write them: words, most of them numbers.

/// Values are the same whatever blanks are between their words.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    one.split_ascii_whitespace().eq(other.split_ascii_whitespace())
}

/// Whether writing a value changes nothing. Of a sysctl with several numbers, as kernel.sem and kernel.printk, the kernel sets
/// as many as are written and leaves the others.
pub(super) fn sets_nothing(current: &str, written: &str) -> bool {
    let is_number = |text: &str| text.split_ascii_whitespace().all(|word| word.parse::<i64>().is_ok());
    if !is_number(current) || !is_number(written) || written.trim().is_empty() {
        return is_same(current, written);
    }
    let numbers =
        |text: &str| text.split_ascii_whitespace().map(|word| word.parse().ok()).collect::<Vec<Option<i64>>>();
    numbers(current).starts_with(&numbers(written))
}

/// Whether any number of a value would become lower.
pub(crate) fn lowers(current: &str, proposed: &str) -> bool {
    let numbers = |text: &str| text.split_ascii_whitespace().map(number).collect::<Vec<Option<u64>>>();
    let (current, proposed) = (numbers(current), numbers(proposed));
    current.len() != proposed.len() && !current.is_empty()
        || current.iter().zip(&proposed).any(|(current, proposed)| match (current, proposed) {
            (Some(current), Some(proposed)) => proposed < current,
            _ => false,
        })
}

/// A number of a limit; what is unlimited is the highest.
pub(super) fn number(word: &str) -> Option<u64> {
    match word {
        "unlimited" | "infinity" | "-1" => Some(u64::MAX),
        word => word.parse().ok(),
    }
}

/// The first number of a value, zero where there is none.
pub(super) fn first_number(text: &str) -> u64 {
    text.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::sets_nothing;

    #[test]
    fn several_numbers_are_compared_as_numbers() {
        for (current, written, expected) in [
            ("32000\t1024000000\t500\t32000", "32000 1024000000 500 32000", true),
            ("32000 1024000000 500 32000", "32000 1024000000 500 128", false),
            ("4 4 1 7", "4", true),
            ("4 4 1 7", "3", false),
            ("4", "4 4", false),
            ("-1", "-1", true),
            ("10", "+10", true),
            ("bbr", "bbr", true),
            ("|/bin/x %p", "|/bin/x", false),
            ("1", "", false),
        ] {
            assert_eq!(sets_nothing(current, written), expected, "{current:?} {written:?}");
        }
    }
}
