//! A file of which only some pieces are read, and only so many bytes in all: what a header says of its sizes may be
//! anything, and a sparse file can have them all.

use std::cell::Cell;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use object::read::{ReadCache, ReadCacheOps, ReadRef};

/// What the cache keeps for a name at least.
const NAME: u64 = 256;

/// The pieces that were read stay for its life.
pub(super) struct Pieces<'f> {
    cache: ReadCache<At<'f>>,
    left: Cell<u64>,
}

impl<'f> Pieces<'f> {
    /// Of this file, up to a number of bytes.
    pub(super) fn of(file: &'f File, max: u64) -> Self {
        Self { cache: ReadCache::new(At { file, at: 0 }), left: Cell::new(max) }
    }

    fn take(&self, size: u64) -> Result<(), ()> {
        self.left.set(self.left.get().checked_sub(size).ok_or(())?);
        Ok(())
    }
}

impl<'a> ReadRef<'a> for &'a Pieces<'_> {
    fn len(self) -> Result<u64, ()> {
        (&self.cache).len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        self.take(size)?;
        (&self.cache).read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        self.take(NAME)?;
        (&self.cache).read_bytes_at_until(range, delimiter)
    }
}

/// Reads at a place of its own: that of the file is shared with all who have it open.
struct At<'f> {
    file: &'f File,
    at: u64,
}

impl ReadCacheOps for At<'_> {
    fn len(&mut self) -> Result<u64, ()> {
        self.file.metadata().map(|meta| meta.len()).map_err(|_| ())
    }

    fn seek(&mut self, pos: u64) -> Result<u64, ()> {
        self.at = pos;
        Ok(pos)
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, ()> {
        let count = self.file.read_at(buf, self.at).map_err(|_| ())?;
        self.at += count as u64;
        Ok(count)
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> Result<(), ()> {
        self.file.read_exact_at(buf, self.at).map_err(|_| ())?;
        self.at += buf.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use object::read::ReadRef;

    use super::Pieces;

    #[test]
    fn no_more_than_so_many_bytes_are_read() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"0123456789").expect("written");
        file.set_len(1 << 40).expect("sparse");
        let pieces = Pieces::of(&file, 12);
        assert_eq!((&pieces).read_bytes_at(2, 4), Ok(&b"2345"[..]));
        assert_eq!((&pieces).read_bytes_at(0, 1 << 39), Err(()));
        assert_eq!((&pieces).read_bytes_at(0, 8), Ok(&b"01234567"[..]));
        assert_eq!((&pieces).read_bytes_at(0, 1), Err(()), "all is used up");
    }
}
