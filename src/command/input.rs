//! Reads what a user names, to its end and within bounds: a regular file, a pipe or standard input.

use std::io::{self, ErrorKind, Read as _};

use crate::text::lines::Lines;

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// What is too much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) size: usize,
    /// Of one line, where it is a text.
    pub(super) line: Option<usize>,
}

/// Of a plan: 100,000 tasks with long commands are half of it, and as JSON lines each line is one task. Three times as
/// much memory is needed.
pub(super) const PLAN: Bounds = Bounds { size: 256 << 20, line: Some(64 << 20) };

/// What was read so far.
#[derive(Default)]
struct Read {
    size: usize,
    /// Of the line that is not whole yet.
    line: usize,
}

impl Read {
    /// Whether more of it is within the bounds.
    fn add(&mut self, bytes: &[u8], bounds: Bounds) -> io::Result<()> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line += part.len();
            if bounds.line.is_some_and(|most| self.line > most) {
                return Err(too_large("a line of it", self.line - 1));
            }
            self.line = if part.ends_with(b"\n") { 0 } else { self.line };
        }
        self.size += bytes.len();
        if self.size > bounds.size { Err(too_large("it", bounds.size)) } else { Ok(()) }
    }
}

/// Reads on from what was read before. What is too large is refused as soon as that is seen.
pub(super) fn read(mut from: impl io::Read, before: Vec<u8>, bounds: Bounds) -> io::Result<Vec<u8>> {
    let mut bytes = before;
    let mut read = Read::default();
    let mut new = 0;
    loop {
        read.add(&bytes[new..], bounds)?;
        new = bytes.len();
        if from.by_ref().take(PIECE as u64).read_to_end(&mut bytes)? == 0 {
            return Ok(bytes);
        }
    }
}

/// The same of a text that is used line by line.
pub(super) fn read_lines(mut from: impl io::Read, before: Vec<u8>, bounds: Bounds) -> io::Result<Lines> {
    let mut lines = Lines::default();
    let mut read = Read::default();
    read.add(&before, bounds)?;
    let mut open = before;
    loop {
        let start = open.len();
        open.reserve(PIECE);
        if from.by_ref().take(PIECE as u64).read_to_end(&mut open)? == 0 {
            lines.push(open);
            return Ok(lines);
        }
        read.add(&open[start..], bounds)?;
        if let Some(end) = open.iter().rposition(|byte| *byte == b'\n') {
            let rest = open.split_off(end + 1);
            lines.push(std::mem::replace(&mut open, rest));
        }
    }
}

fn too_large(what: &str, most: usize) -> io::Error {
    io::Error::new(ErrorKind::FileTooLarge, format!("{what} has more than {} MiB", most >> 20))
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind, Read as _};

    use super::{Bounds, PIECE, read, read_lines};

    #[test]
    fn what_is_too_large_is_refused_before_it_is_read_whole() {
        let bounds = |size, line| Bounds { size, line };
        let kind = |result: io::Result<Vec<u8>>| result.expect_err("too large").kind();
        assert_eq!(read(&b"cd"[..], b"ab".to_vec(), bounds(4, Some(4))).expect("fits"), b"abcd");
        assert_eq!(kind(read(&b"cd"[..], b"ab".to_vec(), bounds(3, None))), ErrorKind::FileTooLarge);
        assert_eq!(kind(read(&b"cd\n"[..], b"ab".to_vec(), bounds(9, Some(4)))), ErrorKind::FileTooLarge);
        assert_eq!(read(&b"\ncd\n"[..], b"ab".to_vec(), bounds(9, Some(3))).expect("two lines").len(), 6);
        // Without end: it comes back.
        assert_eq!(kind(read(io::repeat(b'x'), Vec::new(), bounds(1 << 40, Some(PIECE)))), ErrorKind::FileTooLarge);
        assert_eq!(kind(read(io::repeat(b'\n'), Vec::new(), bounds(PIECE, Some(1)))), ErrorKind::FileTooLarge);
        let mut short = io::repeat(b'x').take(PIECE as u64 + 1);
        assert_eq!(read(&mut short, Vec::new(), bounds(2 * PIECE, None)).expect("fits").len(), PIECE + 1);
    }

    #[test]
    fn lines_stay_whole_wherever_pieces_end() {
        let text: String = (0..PIECE).map(|at| format!("{at}\n")).collect();
        let bounds = |size, line| Bounds { size, line };
        let lines = read_lines(text.as_bytes(), Vec::new(), bounds(text.len(), Some(8))).expect("fits");
        assert!(lines.iter().eq(text.lines()) && lines.head().len() < text.len() / 4);
        let mut next = lines.iter().map(str::to_owned).collect::<Vec<_>>().into_iter().skip(1);
        let mut count = 0;
        let each = |at: usize, line: &str, after: Option<&str>| {
            count += usize::from(line == at.to_string() && after == next.next().as_deref());
            Ok::<(), ()>(())
        };
        lines.consume(each).expect("nothing refuses");
        assert_eq!(count, PIECE);
        let kind = |result: io::Result<_>| result.err().map(|error| error.kind());
        assert_eq!(
            kind(read_lines(io::repeat(b'x'), Vec::new(), bounds(1 << 40, Some(PIECE)))),
            Some(ErrorKind::FileTooLarge)
        );
        assert_eq!(
            kind(read_lines(io::repeat(b'\n'), Vec::new(), bounds(PIECE, Some(1)))),
            Some(ErrorKind::FileTooLarge)
        );
    }
}
