//! Gives equal things one number. A list beside it keeps each thing once; here are only numbers, four bytes each.

use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

/// Finds things in a list that only grows.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    /// Seeded at random, and three times as fast as that of the standard library for keys as short as these.
    hasher: DefaultHashBuilder,
    table: HashTable<u32>,
}

impl Interner {
    /// The number of a thing; `next`, the length of the list, where it is new, and then the caller adds it to the list.
    /// `known` looks into the list.
    pub(crate) fn index<T: Hash + Eq>(&mut self, thing: T, next: usize, known: impl Fn(u32) -> T) -> u32 {
        let Self { hasher, table } = self;
        let hash = hasher.hash_one(&thing);
        if let Some(at) = table.find(hash, |at| known(*at) == thing) {
            return *at;
        }
        let next = next as u32;
        table.insert_unique(hash, next, |at| hasher.hash_one(known(*at)));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::Interner;

    #[test]
    fn equal_things_have_one_number() {
        let (mut interner, mut all) = (Interner::default(), Vec::new());
        let mut index = |thing: u32| {
            let at = interner.index(thing, all.len(), |at| all[at as usize]);
            if at as usize == all.len() {
                all.push(thing);
            }
            at
        };
        let numbers: Vec<u32> = (0..3000).map(|at| index(at % 1000 + 7)).collect();
        assert_eq!((numbers[999], numbers[1999], numbers[2000], all.len()), (999, 999, 0, 1000));
    }
}
