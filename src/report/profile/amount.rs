//! Values and shares of a profile in words.

use std::time::Duration;

use crate::model::profile::Unit;
use crate::model::unit::Bytes;
use crate::text::number;

/// `1,204`, `3.2s`, `1.5 MiB`.
pub(crate) fn value(value: u64, unit: Unit) -> String {
    match unit {
        Unit::Count => number::grouped(value),
        Unit::Bytes => Bytes(value).to_string(),
        Unit::Nanoseconds => match value {
            0 => "0".to_owned(),
            ns if ns < 1_000 => format!("{ns}ns"),
            // Durations of runs have no digits for these.
            ns if ns < 1_000_000 => format!("{:.1}us", ns as f64 / 1e3),
            ns => number::duration(Duration::from_nanos(ns)),
        },
    }
}

/// The same of a value that was averaged; of few CPUs or calls also a part of one.
pub(crate) fn mean(number: f64, unit: Unit) -> String {
    if unit == Unit::Count && number > 0.0 && number < 10.0 {
        return format!("{number:.2}");
    }
    // Casts saturate, and what is no number becomes 0.
    value(number.max(0.0).round() as u64, unit)
}

/// Part of a whole, from 0 to 1; 0 of nothing.
pub(crate) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// `12.3%`
pub(crate) fn percent(share: f64) -> String {
    match share * 100.0 {
        percent if percent > 0.0 && percent < 0.05 => "<0.1%".to_owned(),
        percent => format!("{percent:.1}%"),
    }
}

/// `+1.2`, in points of percent.
pub(crate) fn points(difference: f64) -> String {
    format!("{:+.1}", difference * 100.0)
}

#[cfg(test)]
mod tests {
    use super::{mean, percent, points, value};
    use crate::model::profile::Unit;

    #[test]
    fn values_have_units_and_few_digits() {
        let times = [0, 12, 4_250, 2_100_000, 1_234_567_890].map(|ns| value(ns, Unit::Nanoseconds));
        assert_eq!(times, ["0", "12ns", "4.2us", "2.1ms", "1.2s"]);
        assert_eq!(value(1_572_864, Unit::Bytes), "1.5 MiB");
        assert_eq!(value(12_345, Unit::Count), "12,345");
        // Regression: half a CPU was `0`, and so was the curve of most programs.
        assert_eq!([0.0, 0.456, 1.0, 12_345.4].map(|cpus| mean(cpus, Unit::Count)), ["0", "0.46", "1.00", "12,345"]);
        assert_eq!([0.0, 0.0001, 0.123, 1.0].map(percent), ["0.0%", "<0.1%", "12.3%", "100.0%"]);
        assert_eq!([0.012, -0.2].map(points), ["+1.2", "-20.0"]);
    }
}
