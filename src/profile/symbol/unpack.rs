//! Debugging data packed with zstd (`gcc -gz=zstd`, `objcopy --compress-debug-sections=zstd`), which the reader of names
//! does not unpack: a copy of the file in memory, with those sections plain and at its end. Sections packed with zlib it
//! unpacks itself.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt as _;

use ruzstd::decoding::StreamingDecoder;

use crate::sys::{limits, memory_file};

/// Bytes of a copy, and of all sections that are unpacked into it.
const COPY_MAX: u64 = 1 << 30;
/// Of ELF with 64 bits: its header, the header of a section, that of the data of a packed section.
const HEADER: usize = 64;
const SECTION: usize = 64;
const PACKED: usize = 24;
/// `SHF_COMPRESSED` and `ELFCOMPRESS_ZSTD`.
const COMPRESSED: u64 = 0x800;
const ZSTD: u32 = 2;
/// Where a section begins in a copy.
const ALIGNMENT: u64 = 16;

/// A section that is packed with zstd.
#[derive(Debug)]
struct Packed {
    /// Where its header is in the table of sections.
    at: usize,
    /// In the file, behind the header of the data.
    offset: u64,
    size: u64,
    plain: u64,
    alignment: u64,
}

/// A copy with plain sections; nothing where none is packed so.
pub(super) fn plain_copy(file: &File) -> io::Result<Option<File>> {
    let Some((table_at, mut table)) = sections(file)? else { return Ok(None) };
    let packed = packed(file, &table);
    if packed.is_empty() {
        return Ok(None);
    }
    let length = file.metadata()?.len();
    let sum = packed.iter().fold(length, |sum, one| sum.saturating_add(one.plain));
    // A file in memory is no data of the process: the limit of its worker has to be kept here.
    let limit = limits::get(limits::Resource::Data).ok().and_then(|limit| limit.soft);
    if sum > limit.unwrap_or(COPY_MAX).min(COPY_MAX) {
        return Err(io::Error::new(ErrorKind::FileTooLarge, "its unpacked debugging data is too large"));
    }
    let copy = memory_file::create(c"debugging data")?;
    io::copy(&mut Part { file, at: 0, left: length }, &mut Part { file: &copy, at: 0, left: length })?;
    let mut end = length;
    for one in packed {
        let source = Part { file, at: one.offset, left: one.size };
        let decoder = StreamingDecoder::new(source).map_err(|error| io::Error::other(error.to_string()))?;
        let start = end.next_multiple_of(ALIGNMENT);
        let mut target = Part { file: &copy, at: start, left: one.plain };
        if io::copy(&mut decoder.take(one.plain), &mut target)? != one.plain {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        end = start + one.plain;
        let flags = long(&table, one.at + 8).unwrap_or_default() & !COMPRESSED;
        for (field, value) in [(8, flags), (24, start), (32, one.plain), (48, one.alignment)] {
            table[one.at + field..one.at + field + 8].copy_from_slice(&value.to_le_bytes());
        }
    }
    copy.write_all_at(&table, table_at)?;
    Ok(Some(copy))
}

/// Where the table of sections is, and the table; nothing where this is no file of 64 bits and little-endian order.
fn sections(file: &File) -> io::Result<Option<(u64, Vec<u8>)>> {
    let mut header = [0; HEADER];
    if let Err(error) = file.read_exact_at(&mut header, 0) {
        return if error.kind() == ErrorKind::UnexpectedEof { Ok(None) } else { Err(error) };
    }
    let half = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
    let (size, count) = (half(58), half(60));
    if !header.starts_with(b"\x7fELF\x02\x01") || size != SECTION {
        return Ok(None);
    }
    let at = long(&header, 40).unwrap_or_default();
    let mut table = vec![0; count * SECTION];
    Ok(file.read_exact_at(&mut table, at).ok().map(|()| (at, table)))
}

fn packed(file: &File, table: &[u8]) -> Vec<Packed> {
    let each = |at: usize| {
        let (flags, offset, size) = (long(table, at + 8)?, long(table, at + 24)?, long(table, at + 32)?);
        let mut head = [0; PACKED];
        if flags & COMPRESSED == 0 || file.read_exact_at(&mut head, offset).is_err() {
            return None;
        }
        let is_zstd = head.first_chunk::<4>().map(|form| u32::from_le_bytes(*form)) == Some(ZSTD);
        let (plain, alignment) = (long(&head, 8)?, long(&head, 16)?);
        let size = size.checked_sub(PACKED as u64).filter(|_| is_zstd)?;
        Some(Packed { at, offset: offset.checked_add(PACKED as u64)?, size, plain, alignment })
    };
    (0..table.len()).step_by(SECTION).filter_map(each).collect()
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))
}

/// A part of a file that is read or written from its start on.
struct Part<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Part<'_> {
    fn room(&self, wanted: usize) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX).min(wanted)
    }

    fn pass(&mut self, count: usize) -> usize {
        self.at += count as u64;
        self.left -= count as u64;
        count
    }
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = self.room(buffer.len());
        let count = self.file.read_at(&mut buffer[..room], self.at)?;
        Ok(self.pass(count))
    }
}

impl Write for Part<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.room(bytes.len());
        let count = self.file.write_at(&bytes[..room], self.at)?;
        Ok(self.pass(count))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;

    use proptest::prelude::*;

    use super::{HEADER, PACKED, SECTION, plain_copy};
    use crate::sys::memory_file;

    /// `hello hello hello hello hello\n`, by zstd 1.5.
    const FRAME: [u8; 22] = [
        0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0x6d, 0x00, 0x00, 0x38, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x20, 0x0a, 0x01,
        0x00, 0xa9, 0x4b, 0x11,
    ];
    const TEXT: &[u8] = b"hello hello hello hello hello\n";

    /// A file with one packed section behind its header and its table of sections.
    fn file(frame: &[u8], plain: u64) -> (Vec<u8>, File) {
        let mut bytes = vec![0; HEADER + SECTION];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[40..48].copy_from_slice(&(HEADER as u64).to_le_bytes());
        bytes[58..62].copy_from_slice(&[64, 0, 1, 0]);
        let fields = [(8, 0x802_u64), (24, (HEADER + SECTION) as u64), (32, (PACKED + frame.len()) as u64)];
        for (field, value) in fields {
            bytes[HEADER + field..HEADER + field + 8].copy_from_slice(&value.to_le_bytes());
        }
        bytes.extend([2, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(plain.to_le_bytes());
        bytes.extend(1_u64.to_le_bytes());
        bytes.extend(frame);
        let file = memory_file::create(c"test").expect("a file");
        file.write_all_at(&bytes, 0).expect("written");
        (bytes, file)
    }

    /// Regression: with sections packed by zstd, inlined functions were missing without a word.
    #[test]
    fn packed_sections_are_plain_in_the_copy() {
        let (bytes, file) = file(&FRAME, TEXT.len() as u64);
        let copy = plain_copy(&file).expect("read").expect("a packed section");
        let mut found = vec![0; bytes.len()];
        copy.read_exact_at(&mut found, 0).expect("the copy is longer");
        let field = |at: usize| super::long(&found, HEADER + at).expect("a field");
        assert_eq!((field(8), field(32)), (2, TEXT.len() as u64), "no longer packed");
        let mut text = vec![0; TEXT.len()];
        copy.read_exact_at(&mut text, field(24)).expect("the section");
        assert_eq!(text, TEXT);
        // More or less than the header says.
        assert!(plain_copy(&super::tests::file(&FRAME, 1000).1).is_err());
    }

    #[test]
    fn a_file_without_packed_sections_is_left_alone() {
        assert!(plain_copy(&File::open("/proc/self/exe").expect("itself")).expect("read").is_none());
        assert!(plain_copy(&File::open("/proc/self/status").expect("a file")).expect("read").is_none());
    }

    proptest! {
        #[test]
        fn damaged_files_are_refused_or_unpacked(at in 0_usize..180, value: u8, plain in 0_u64..100) {
            let (mut bytes, file) = file(&FRAME, plain);
            let at = at % bytes.len();
            bytes[at] = value;
            file.write_all_at(&bytes, 0).expect("written");
            let _ = plain_copy(&file);
        }
    }
}
