//! A list of bounded size: the first and the last of what is put into it. What lies between is counted.

use std::collections::VecDeque;

/// At most `HALF` from the start and `HALF` from the end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FirstAndLast<T, const HALF: usize> {
    first: Vec<T>,
    last: VecDeque<T>,
    left_out: usize,
}

impl<T, const HALF: usize> Default for FirstAndLast<T, HALF> {
    fn default() -> Self {
        Self { first: Vec::new(), last: VecDeque::new(), left_out: 0 }
    }
}

impl<T, const HALF: usize> FirstAndLast<T, HALF> {
    /// Puts one behind the others.
    pub(crate) fn push(&mut self, item: T) {
        if self.first.len() < HALF {
            self.first.push(item);
            return;
        }
        if self.last.len() == HALF {
            self.last.pop_front();
            self.left_out += 1;
        }
        self.last.push_back(item);
    }

    /// The first ones.
    pub(crate) fn first(&self) -> &[T] {
        &self.first
    }

    /// The last ones: those that are not among the first.
    pub(crate) fn last(&self) -> impl Iterator<Item = &T> {
        self.last.iter()
    }

    /// How many lie between.
    pub(crate) fn left_out(&self) -> usize {
        self.left_out
    }

    /// What is there, in the order it came.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(&self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::FirstAndLast;

    #[test]
    fn what_lies_between_is_counted() {
        let check = |count: u32, kept: &[u32], left_out: usize| {
            let mut list = FirstAndLast::<u32, 2>::default();
            (0..count).for_each(|n| list.push(n));
            assert_eq!(list.iter().copied().collect::<Vec<_>>(), kept);
            assert_eq!(list.left_out(), left_out);
        };
        check(0, &[], 0);
        check(3, &[0, 1, 2], 0);
        check(4, &[0, 1, 2, 3], 0);
        check(9, &[0, 1, 7, 8], 5);
    }
}
