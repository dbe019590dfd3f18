//! Quantities with their unit in the type: sizes and percentages, parsed once from what people write.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A size in bytes. Written `512MB` (decimal), `512MiB` or `512M` (binary) or as a plain number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// A share of something, in percent; may pass 100 where one CPU is the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Percent(pub f64);

/// Why a text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {wanted}")]
pub struct UnitError {
    /// What was written.
    pub text: String,
    /// What would have been understood, for instance "a size such as `512MiB`".
    pub wanted: &'static str,
}

impl Bytes {
    /// Mebibytes, the unit of every spec key ending in `_mb`.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// Gibibytes.
    #[cfg(test)]
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// Reads `512MiB`, `1.5G`, `2GB`, `4096`.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let fail = || UnitError { text: text.to_owned(), wanted: "a size such as `512MiB`, `2GB` or `4096`" };
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let factor: f64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "tb" => 1e12,
            "k" | "kib" => 1024.0,
            "m" | "mib" => 1_048_576.0,
            "g" | "gib" => 1_073_741_824.0,
            "t" | "tib" => 1_099_511_627_776.0,
            _ => return Err(fail()),
        };
        let value: f64 = number.parse().map_err(|_| fail())?;
        let bytes = value * factor;
        // 2^63: past it no machine and no kernel file has a meaning for the number.
        if !bytes.is_finite() || bytes > 9.2e18 {
            return Err(fail());
        }
        Ok(Self(bytes.round() as u64))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1023.95 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        let text = if unit == 0 || value >= 99.95 || (value - value.round()).abs() < 0.05 {
            format!("{value:.0} {}", UNITS[unit])
        } else {
            format!("{value:.1} {}", UNITS[unit])
        };
        f.pad(&text)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl serde::de::Visitor<'_> for Visit {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as `512MiB`, `2GB` or a number of bytes")
            }
            fn visit_u64<E>(self, value: u64) -> Result<Bytes, E> {
                Ok(Bytes(value))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Bytes, E> {
                Bytes::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}%", (self.0 * 10.0).round() / 10.0))
    }
}

/// Reads a duration as people write it: `30s`, `1m30s`, `250ms`, `2h`, `1d`, or a plain number of seconds.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, UnitError> {
    let fail = || UnitError { text: text.to_owned(), wanted: "a duration such as `30s`, `1m30s` or `250ms`" };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(fail());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let split = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let value: f64 = rest[..split].parse().map_err(|_| fail())?;
        rest = &rest[split..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let factor = match rest[..end].trim() {
            "" | "s" | "sec" => 1.0,
            "ms" => 1e-3,
            "us" => 1e-6,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return Err(fail()),
        };
        total += value * factor;
        rest = &rest[end..];
    }
    // A hundred years: anything longer is a mistake, and Instant + Duration must not overflow.
    if !(0.0..=3_155_760_000.0).contains(&total) {
        return Err(fail());
    }
    Ok(std::time::Duration::from_secs_f64(total))
}

/// The duration as the wire carries it: what is kept in memory and what is read back must not differ.
pub const fn whole_micros(value: std::time::Duration) -> std::time::Duration {
    std::time::Duration::new(value.as_secs(), value.subsec_micros() * 1_000)
}

/// For `#[serde(with)]`: a duration on the wire is a whole number of microseconds, in a key ending in `_us`.
pub mod micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes microseconds.
    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(value.as_micros()).unwrap_or(u64::MAX))
    }

    /// Reads microseconds.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_micros)
    }

    /// The same for a duration that may be absent.
    pub mod option {
        use std::time::Duration;

        use serde::{Deserialize, Deserializer, Serializer};

        /// Writes microseconds or null.
        pub fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
            match value {
                Some(value) => super::serialize(value, serializer),
                None => serializer.serialize_none(),
            }
        }

        /// Reads microseconds or null.
        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
            Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_micros))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Bytes, parse_duration};

    #[test]
    fn sizes_read_and_print() {
        let cases = [("4096", 4096), ("512MiB", 512 << 20), ("2GB", 2_000_000_000), ("1.5G", 3 << 29), ("10k", 10240)];
        for (text, bytes) in cases {
            assert_eq!(Bytes::parse(text), Ok(Bytes(bytes)), "{text}");
        }
        for bad in ["", "MB", "12 parsecs", "-1", "1e30", "99999999T"] {
            assert!(Bytes::parse(bad).is_err(), "{bad:?}");
        }
        let shown = [0, 1023, 1024, 1536, 1 << 20, 4 << 30, 5_000_000_000].map(|b| Bytes(b).to_string());
        assert_eq!(shown, ["0 B", "1023 B", "1 KiB", "1.5 KiB", "1 MiB", "4 GiB", "4.7 GiB"]);
    }

    #[test]
    fn durations_read() {
        let cases = [("30", 30_000), ("250ms", 250), ("1m30s", 90_000), ("1.5h", 5_400_000), ("1d", 86_400_000)];
        for (text, ms) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "s", "-1s", "1 fortnight", "1e9d", "5x"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }
}
