//! Values of settings as the kernel and limits.conf write them: words, most of them numbers.

/// Values are the same whatever blanks are between their words.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    one.split_ascii_whitespace().eq(other.split_ascii_whitespace())
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
