//! Reads what a user names, to its end and within bounds: a regular file, a pipe or standard input.

use std::io::{self, ErrorKind, Read};

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

/// Reads on from what was read before. What is too large is refused as soon as that is seen.
pub(super) fn read(mut from: impl Read, before: Vec<u8>, bounds: Bounds) -> io::Result<Vec<u8>> {
    let mut bytes = before;
    let mut line = 0;
    let mut new = 0;
    loop {
        for part in bytes[new..].split_inclusive(|byte| *byte == b'\n') {
            line += part.len();
            if bounds.line.is_some_and(|most| line > most) {
                return Err(too_large("a line of it", line - 1));
            }
            line = if part.ends_with(b"\n") { 0 } else { line };
        }
        if bytes.len() > bounds.size {
            return Err(too_large("it", bounds.size));
        }
        new = bytes.len();
        if from.by_ref().take(PIECE as u64).read_to_end(&mut bytes)? == 0 {
            return Ok(bytes);
        }
    }
}

fn too_large(what: &str, most: usize) -> io::Error {
    io::Error::new(ErrorKind::FileTooLarge, format!("{what} has more than {} MiB", most >> 20))
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind, Read};

    use super::{Bounds, PIECE, read};

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
}
