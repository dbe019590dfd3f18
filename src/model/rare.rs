//! A value that most things do not have: it takes the room of a pointer, and clones share it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Reads and writes as the value itself. Where nothing was set that is the default, of which there is one for all.
#[derive(Clone, Debug, Default)]
pub struct Rare<T>(Option<Arc<T>>);

/// A type whose default stands in memory once.
pub trait Unset: Clone + Default + PartialEq + 'static {
    /// That default.
    fn unset() -> &'static Self;
}

impl Unset for Vec<String> {
    fn unset() -> &'static Self {
        static NONE: Vec<String> = Vec::new();
        &NONE
    }
}

impl<T: Unset> Rare<T> {
    /// Whether it is the default.
    pub fn is_unset(&self) -> bool {
        **self == *T::unset()
    }
}

impl<T: Unset> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => T::unset(),
        }
    }
}

impl<T: Unset> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(self.0.get_or_insert_default())
    }
}

impl<T: Unset> From<T> for Rare<T> {
    fn from(value: T) -> Self {
        Self((value != *T::unset()).then(|| Arc::new(value)))
    }
}

impl<T: Unset> PartialEq for Rare<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Unset + Serialize> Serialize for Rare<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: Unset + Deserialize<'de>> Deserialize<'de> for Rare<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::Rare;

    #[test]
    fn it_is_the_default_until_it_is_set_and_clones_do_not_see_each_other() {
        let mut first: Rare<Vec<String>> = Rare::default();
        assert!(first.is_unset() && first.is_empty() && first == Vec::new().into());
        let before = first.clone();
        first.push("a".to_owned());
        let mut second = first.clone();
        second.push("b".to_owned());
        assert_eq!((before.len(), first.len(), second.len()), (0, 1, 2));
        assert_eq!(serde_json::to_string(&second).expect("a list"), r#"["a","b"]"#);
        assert_eq!(serde_json::from_str::<Rare<Vec<String>>>("[]").expect("a list"), before);
    }
}
