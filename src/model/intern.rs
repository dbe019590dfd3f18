//! Gives equal things one number, and keeps each once: beside the list itself there are only numbers.

use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

/// Finds things in a list that only grows.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    /// Seeded at random, and three times as fast as that of the standard library for keys as short as these.
    hasher: DefaultHashBuilder,
    /// Half of the hash, so that growing hashes nothing again, and the number.
    table: HashTable<(u32, u32)>,
}

impl Interner {
    /// The number of a thing, which is added where it is new.
    pub(crate) fn index<T: Hash + Eq>(&mut self, all: &mut Vec<T>, thing: T) -> u32 {
        let hash = self.hasher.hash_one(&thing) as u32;
        let is_it = |(known, at): &(u32, u32)| *known == hash && all[*at as usize] == thing;
        if let Some((_, at)) = self.table.find(spread(hash), is_it) {
            return *at;
        }
        all.push(thing);
        let at = all.len() as u32 - 1;
        self.table.insert_unique(spread(hash), (hash, at), |(hash, _)| spread(*hash));
        at
    }
}

/// The table looks at the lowest and at the highest bits.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

#[cfg(test)]
mod tests {
    use super::Interner;

    #[test]
    fn equal_things_have_one_number() {
        let (mut interner, mut all) = (Interner::default(), Vec::new());
        let numbers: Vec<u32> = (0..3000).map(|at| interner.index(&mut all, format!("{}", at % 1000))).collect();
        assert_eq!((numbers[999], numbers[1999], numbers[2000], all.len()), (999, 999, 0, 1000));
    }
}
