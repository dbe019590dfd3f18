//! A long text as the pieces it was read in, each of whole lines: who reads it for the last time gives back what is behind.

use std::collections::VecDeque;

/// A text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(VecDeque<String>);

impl Lines {
    /// Of one piece.
    #[cfg(any(fuzzing, test))]
    pub(crate) fn of(text: &str) -> Self {
        Self(VecDeque::from([text.to_owned()]))
    }

    /// Adds a piece, which ends with a line; the last need not.
    pub(crate) fn push(&mut self, bytes: Vec<u8>) {
        // Strict: a text that is no UTF-8 in one place still is a text.
        let text = String::from_utf8(bytes);
        self.0.push_back(text.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()));
    }

    /// How it begins: some lines at least.
    pub(crate) fn head(&self) -> &str {
        self.0.front().map_or("", String::as_str)
    }

    /// Its lines, without their ends.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|piece| piece.lines())
    }

    /// Calls with the number of each line from 0 on, the line, and the next one. Pieces are dropped when they are read.
    pub(crate) fn consume<E>(self, mut each: impl FnMut(usize, &str, Option<&str>) -> Result<(), E>) -> Result<(), E> {
        let mut pieces = self.0;
        let mut at = 0;
        while let Some(piece) = pieces.pop_front() {
            let behind = pieces.front().and_then(|piece| piece.lines().next());
            let mut lines = piece.lines().peekable();
            while let Some(line) = lines.next() {
                each(at, line, lines.peek().copied().or(behind))?;
                at += 1;
            }
        }
        Ok(())
    }

    /// All of it in one.
    pub(crate) fn whole(self) -> String {
        self.0.into_iter().collect()
    }
}
