//! A map by index of a task. Indices are dense and mostly leave in the order in which they came, so that pages serve: a
//! look-up is two steps without a hash, and a page whose tasks have all ended is given back.

use std::collections::VecDeque;
use std::ops::Index;

use crate::model::attempt::Ix;

/// Entries of a page. A task that outlives its neighbours keeps one page alive.
const PAGE: u32 = 256;

/// A map by index of a task, in the order of indices.
#[derive(Debug)]
pub(crate) struct IxMap<T> {
    pages: VecDeque<Option<Page<T>>>,
    /// Number of the first of `pages`.
    first: u32,
    len: usize,
    /// A page that became empty, for the next that is needed: a map that holds one entry at a time allocates nothing.
    spare: Option<Page<T>>,
}

#[derive(Debug)]
struct Page<T> {
    entries: Box<[Option<T>]>,
    used: u32,
}

impl<T> Default for IxMap<T> {
    fn default() -> Self {
        Self { pages: VecDeque::new(), first: 0, len: 0, spare: None }
    }
}

impl<T> IxMap<T> {
    /// Number of entries.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn contains_key(&self, ix: &Ix) -> bool {
        self.get(ix).is_some()
    }

    pub(crate) fn get(&self, ix: &Ix) -> Option<&T> {
        let page = self.pages.get((ix / PAGE).checked_sub(self.first)? as usize)?.as_ref()?;
        page.entries[(ix % PAGE) as usize].as_ref()
    }

    pub(crate) fn get_mut(&mut self, ix: &Ix) -> Option<&mut T> {
        let page = self.pages.get_mut((ix / PAGE).checked_sub(self.first)? as usize)?.as_mut()?;
        page.entries[(ix % PAGE) as usize].as_mut()
    }

    /// Puts a value in; returns the one that was there.
    pub(crate) fn insert(&mut self, ix: Ix, value: T) -> Option<T> {
        let page = self.page(ix / PAGE);
        let before = page.entries[(ix % PAGE) as usize].replace(value);
        if before.is_none() {
            page.used += 1;
            self.len += 1;
        }
        before
    }

    /// The entry of an index, made where there is none.
    pub(crate) fn or_default(&mut self, ix: Ix) -> &mut T
    where
        T: Default,
    {
        if !self.contains_key(&ix) {
            self.insert(ix, T::default());
        }
        self.page(ix / PAGE).entries[(ix % PAGE) as usize].get_or_insert_default()
    }

    pub(crate) fn remove(&mut self, ix: &Ix) -> Option<T> {
        let slot = self.pages.get_mut((ix / PAGE).checked_sub(self.first)? as usize)?;
        let page = slot.as_mut()?;
        let value = page.entries[(ix % PAGE) as usize].take()?;
        page.used -= 1;
        self.len -= 1;
        if page.used == 0 {
            self.spare = slot.take();
            while self.pages.front().is_some_and(Option::is_none) {
                self.pages.pop_front();
                self.first += 1;
            }
            while self.pages.back().is_some_and(Option::is_none) {
                self.pages.pop_back();
            }
        }
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Ix, &T)> {
        (self.first..).zip(&self.pages).flat_map(|(number, page)| {
            let entries = page.iter().flat_map(|page| &page.entries);
            (number * PAGE..).zip(entries).filter_map(|(ix, entry)| Some((ix, entry.as_ref()?)))
        })
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.iter().map(|(_, value)| value)
    }

    fn page(&mut self, number: u32) -> &mut Page<T> {
        if self.pages.is_empty() {
            self.first = number;
        }
        while number < self.first {
            self.pages.push_front(None);
            self.first -= 1;
        }
        let at = (number - self.first) as usize;
        if at >= self.pages.len() {
            self.pages.resize_with(at + 1, || None);
        }
        let spare = &mut self.spare;
        self.pages[at].get_or_insert_with(|| {
            spare.take().unwrap_or_else(|| Page { entries: (0..PAGE).map(|_| None).collect(), used: 0 })
        })
    }
}

impl<T> Index<&Ix> for IxMap<T> {
    type Output = T;
    fn index(&self, ix: &Ix) -> &T {
        self.get(ix).expect("an index that is in the map")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::IxMap;

    proptest! {
        #[test]
        fn it_is_a_map(steps in proptest::collection::vec((0u32..2000, any::<bool>()), 0..400)) {
            let mut map = IxMap::default();
            let mut expected = BTreeMap::new();
            for (ix, is_in) in steps {
                if is_in {
                    prop_assert_eq!(map.insert(ix, ix + 1), expected.insert(ix, ix + 1));
                } else {
                    prop_assert_eq!(map.remove(&ix), expected.remove(&ix));
                }
                prop_assert_eq!(map.get(&ix), expected.get(&ix));
                prop_assert_eq!(map.len(), expected.len());
            }
            let all: Vec<(u32, u32)> = map.iter().map(|(ix, value)| (ix, *value)).collect();
            prop_assert_eq!(all, expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn pages_of_what_has_gone_are_given_back() {
        let mut map = IxMap::default();
        for ix in 0..1_000_000u32 {
            map.insert(ix, ix);
            if ix >= 100 {
                map.remove(&(ix - 100));
            }
        }
        assert!(map.pages.len() <= 2 && map.len() == 100);
        map.insert(7, 7);
        assert_eq!((map.remove(&7), map.first), (Some(7), 999_900 / 256));
        map.or_default(3);
        assert_eq!(map.get(&3), Some(&0));
    }
}
