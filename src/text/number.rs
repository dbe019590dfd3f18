//! Durations and counts, written one way everywhere.

use std::time::Duration;

/// `250ms`, `1.2s`, `3m 12s`, `2h 5m`.
pub(crate) fn duration(value: Duration) -> String {
    let seconds = value.as_secs_f64();
    match seconds {
        s if s < 0.0095 => format!("{:.1}ms", s * 1e3),
        s if s < 0.9995 => format!("{:.0}ms", s * 1e3),
        s if s < 59.95 => format!("{s:.1}s"),
        s if s < 3599.5 => format!("{}m {}s", s.round() as u64 / 60, s.round() as u64 % 60),
        s => format!("{}h {}m", s as u64 / 3600, s as u64 % 3600 / 60),
    }
}

/// `1 task`, `3 tasks`; irregular plurals are written out by the caller.
pub(crate) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// `258,959`: a whole number with its thousands apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{count, duration, grouped};

    #[test]
    fn durations_have_no_more_digits_than_the_noise_allows() {
        let shown =
            [0.0012, 0.05, 0.9994, 1.25, 59.9, 61.0, 3599.0, 7500.0].map(|s| duration(Duration::from_secs_f64(s)));
        assert_eq!(shown, ["1.2ms", "50ms", "999ms", "1.2s", "59.9s", "1m 1s", "59m 59s", "2h 5m"]);
        assert_eq!((count(1, "task"), count(0, "task")), ("1 task".to_owned(), "0 tasks".to_owned()));
        assert_eq!([0, 999, 1000, 258_959, 1_000_000].map(grouped), ["0", "999", "1,000", "258,959", "1,000,000"]);
    }
}
