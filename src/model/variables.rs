//! Variables of an environment: few, read often, rarely changed. A `BTreeMap` takes 540 bytes for the first of them.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::bytestring::ByteString;

/// Names and values, sorted by name, no name twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables(Box<[(ByteString, ByteString)]>);

impl Variables {
    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&ByteString, &ByteString)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// Their values, to be changed.
    pub fn values_mut(&mut self) -> impl ExactSizeIterator<Item = &mut ByteString> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    /// The value of one.
    pub fn get(&self, name: &ByteString) -> Option<&ByteString> {
        let at = self.0.binary_search_by(|(known, _)| known.cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    /// Whether it is set.
    pub fn contains_key(&self, name: &ByteString) -> bool {
        self.get(name).is_some()
    }
}

impl FromIterator<(ByteString, ByteString)> for Variables {
    /// What comes later wins.
    fn from_iter<I: IntoIterator<Item = (ByteString, ByteString)>>(variables: I) -> Self {
        let mut all: Vec<_> = variables.into_iter().collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all.dedup_by(|later, earlier| {
            let is_same = later.0 == earlier.0;
            if is_same {
                std::mem::swap(later, earlier);
            }
            is_same
        });
        Self(all.into())
    }
}

impl From<BTreeMap<ByteString, ByteString>> for Variables {
    fn from(map: BTreeMap<ByteString, ByteString>) -> Self {
        Self(map.into_iter().collect())
    }
}

impl Serialize for Variables {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Variables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Variables;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of variables")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Variables, A::Error> {
                std::iter::from_fn(|| map.next_entry().transpose()).collect()
            }
        }
        deserializer.deserialize_map(Visit)
    }
}

#[cfg(test)]
mod tests {
    use super::Variables;
    use crate::model::bytestring::ByteString;

    #[test]
    fn they_are_sorted_and_the_last_of_a_name_counts() {
        let pairs = [("B", "1"), ("A", "x"), ("B", "2"), ("C", ""), ("B", "3")];
        let variables: Variables =
            pairs.into_iter().map(|(name, value)| (ByteString::from(name), ByteString::from(value))).collect();
        let json = serde_json::to_string(&variables).expect("a map");
        assert_eq!(json, r#"{"A":"x","B":"3","C":""}"#);
        assert_eq!(serde_json::from_str::<Variables>(&json).expect("a map"), variables);
        assert_eq!((variables.get(&"B".into()), variables.iter().len()), (Some(&"3".into()), 3));
        assert!(!variables.contains_key(&"D".into()));
    }
}
