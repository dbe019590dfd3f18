//! What unwinding needs of an ELF file: where its code lies, its tables of unwinding, its build id. Read piece by piece
//! and never mapped: a file that is cut short while somebody looks at it must be an error and not a SIGBUS.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _};

use crate::profile::pieces::Pieces;

/// Largest table of unwinding that is read. Chromium's is 25 MiB.
const SECTION_MAX: u64 = 48 << 20;
/// Headers of segments and sections that are looked at.
const HEADERS_MAX: usize = 4096;
/// Bytes of headers, notes and names of sections that are read: 65,535 sections have 4 MiB of headers.
const HEADERS_BYTES_MAX: u64 = 8 << 20;
/// Longest build id; they have 8 to 20 bytes.
const BUILD_ID_MAX: usize = 64;

/// A table and where it lies in memory.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    /// Addresses in the file's own numbering.
    pub(crate) range: Range<u64>,
    pub(crate) bytes: Arc<[u8]>,
}

/// An executable segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// In the file.
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// In the file's own numbering of addresses.
    pub(crate) address: u64,
}

/// The parts of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    /// Code. The difference of address and offset is another one for every segment: with the layout of lld the first
    /// segment's would be wrong for the code, and plausible.
    pub(crate) segments: Vec<Segment>,
    pub(crate) build_id: String,
    pub(crate) text: Option<Range<u64>>,
    pub(crate) got: Option<Range<u64>>,
    pub(crate) eh_frame: Option<Section>,
    pub(crate) eh_frame_hdr: Option<Section>,
    pub(crate) debug_frame: Option<Section>,
}

impl Image {
    /// Address in the file's own numbering of code at this place of it.
    pub(crate) fn address(&self, offset: u64) -> Option<u64> {
        let inside = |segment: &&Segment| offset.checked_sub(segment.offset).is_some_and(|at| at < segment.length);
        let segment = self.segments.iter().find(inside)?;
        segment.address.checked_add(offset - segment.offset)
    }

    /// Lowest address of code and the first one behind it.
    pub(crate) fn span(&self) -> Option<Range<u64>> {
        let start = self.segments.iter().map(|segment| segment.address).min()?;
        let end = self.segments.iter().map(|segment| segment.address.saturating_add(segment.length)).max()?;
        Some(start..end)
    }

    /// Bytes of tables that it keeps.
    pub(crate) fn size(&self) -> usize {
        let tables = [&self.eh_frame, &self.eh_frame_hdr, &self.debug_frame];
        tables.into_iter().flatten().map(|section| section.bytes.len()).sum()
    }
}

/// Reads a file; without its tables where they would have more than `room` bytes. Nothing where it is no ELF file of
/// 64 bits.
pub(crate) fn read(file: &File, room: usize) -> Option<Image> {
    let cache = Pieces::of(file, HEADERS_BYTES_MAX);
    let header = FileHeader64::<Endianness>::parse(&cache).ok()?;
    let endian = header.endian().ok()?;
    let mut image = Image::default();
    for program in header.program_headers(endian, &cache).ok()?.iter().take(HEADERS_MAX) {
        let is_code = program.p_type(endian) == elf::PT_LOAD && program.p_flags(endian).contains(elf::PF_X);
        if is_code {
            let (offset, length) = (program.p_offset(endian), program.p_filesz(endian));
            image.segments.push(Segment { offset, length, address: program.p_vaddr(endian) });
        }
        if let Ok(Some(mut notes)) = program.notes(endian, &cache) {
            while let Ok(Some(note)) = notes.next() {
                if note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
                    let bytes = note.desc().iter().take(BUILD_ID_MAX);
                    image.build_id = bytes.map(|byte| format!("{byte:02x}")).collect();
                }
            }
        }
    }
    let mut room = room as u64;
    let Ok(sections) = header.sections(endian, &cache) else { return Some(image) };
    for section in sections.iter().take(HEADERS_MAX) {
        let Ok(name) = sections.section_name(endian, section) else { continue };
        let (start, size) = (section.sh_addr(endian), section.sh_size(endian));
        let range = start..start.saturating_add(size);
        let mut table = |is_loaded: bool| {
            let is_there = section.sh_type(endian) != elf::SHT_NOBITS;
            let is_plain = is_loaded || !section.sh_flags(endian).contains(elf::SHF_COMPRESSED);
            if !is_there || !is_plain || size > SECTION_MAX.min(room) {
                return None;
            }
            let mut bytes = vec![0; size as usize];
            file.read_exact_at(&mut bytes, section.sh_offset(endian)).ok()?;
            room -= size;
            Some(Section { range: range.clone(), bytes: bytes.into() })
        };
        match name {
            b".text" => image.text = Some(range),
            b".got" => image.got = Some(range),
            b".eh_frame" => image.eh_frame = table(true),
            b".eh_frame_hdr" => image.eh_frame_hdr = table(true),
            b".debug_frame" => image.debug_frame = table(false),
            _ => {}
        }
    }
    Some(image)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Seek, Write};

    use proptest::prelude::*;

    use super::{Image, Segment, read};

    fn own() -> Vec<u8> {
        std::fs::read("/proc/self/exe").expect("the test itself")
    }

    fn file(bytes: &[u8]) -> File {
        let path =
            std::env::temp_dir().join(format!("apm-image-{}-{:?}", std::process::id(), std::thread::current().id()));
        let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path).expect("a file");
        std::fs::remove_file(&path).expect("it needs no name");
        file.write_all(bytes).expect("written");
        file.rewind().expect("from the start");
        file
    }

    #[test]
    fn a_program_has_code_and_tables() {
        let image = read(&File::open("/proc/self/exe").expect("itself"), usize::MAX).expect("ELF");
        assert!(!image.segments.is_empty() && image.eh_frame.is_some() && image.eh_frame_hdr.is_some());
        assert!(read(&File::open("/proc/self/exe").expect("itself"), 1000).expect("ELF").size() <= 1000);
    }

    #[test]
    fn an_offset_counts_from_the_segment_that_it_is_in() {
        let segments = vec![
            Segment { offset: 0x1000, length: 0x800, address: 0x2000 },
            Segment { offset: 0x1800, length: 0x800, address: 0x4800 },
        ];
        let image = Image { segments, ..Image::default() };
        let places = [0xfff, 0x1000, 0x17ff, 0x1800, 0x2000].map(|offset| image.address(offset));
        assert_eq!(places, [None, Some(0x2000), Some(0x27ff), Some(0x4800), None]);
        assert_eq!(image.span(), Some(0x2000..0x5000));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_damaged_file_is_an_absence(at in 0_usize..4096, value in any::<[u8; 8]>(), length in 0_usize..8192) {
            let mut bytes = own();
            let total = bytes.len();
            // The headers of segments are at the start, those of sections at the end.
            bytes[at..at + 8].copy_from_slice(&value);
            let end = total - at - 8;
            bytes[end..end + 8].copy_from_slice(&value);
            let _ = read(&file(&bytes), 1 << 20);
            let _ = read(&file(&bytes[..length]), 1 << 20);
        }
    }
}
