//! Where functions begin in a file without their names, by its table of unwinding: `.eh_frame_hdr` has the start of each,
//! sorted, for whoever throws exceptions (Linux Standard Base, "Exception Frames"). So static functions of a stripped
//! program can be told apart.

use std::collections::HashMap;
use std::fs::File;

use object::read::ReadCache;
use object::{Endianness, Object as _, ObjectSection as _, ObjectSegment as _};

/// Of the header: a count of 32 bits, a table of pairs of 32 bits, counted from the header itself (DW_EH_PE_udata4,
/// DW_EH_PE_datarel | DW_EH_PE_sdata4). All linkers write it so.
const COUNT_FORM: u8 = 0x03;
const TABLE_FORM: u8 = 0x3b;
/// Bytes before the table.
const HEAD: usize = 12;
/// Longest table that is read.
const TABLE_MAX: u64 = 64 << 20;

/// For each of these offsets in a file the address at which its function begins, where one is known.
pub(super) fn starts(file: &File, offsets: &[u64]) -> HashMap<u64, u64> {
    find(file, offsets).unwrap_or_default()
}

fn find(file: &File, offsets: &[u64]) -> Option<HashMap<u64, u64>> {
    let cache = ReadCache::new(file);
    let elf = object::File::parse(&cache).ok().filter(|elf| elf.endianness() == Endianness::Little)?;
    let section = |name: &str| elf.section_by_name(name).filter(|section| section.size() <= TABLE_MAX);
    let (header, frames) = (section(".eh_frame_hdr")?, section(".eh_frame")?);
    let table = Table { address: header.address(), bytes: header.data().ok()? };
    let frames = Table { address: frames.address(), bytes: frames.data().ok()? };
    let address = |offset: u64| {
        elf.segments().find_map(|segment| {
            let (start, size) = segment.file_range();
            let inside = offset.checked_sub(start).filter(|inside| *inside < size)?;
            segment.address().checked_add(inside)
        })
    };
    let each = |offset: &u64| Some((*offset, start(&table, &frames, address(*offset)?)?));
    Some(offsets.iter().filter_map(each).collect())
}

/// Bytes and the address of the first of them.
struct Table<'a> {
    address: u64,
    bytes: &'a [u8],
}

impl Table<'_> {
    fn word(&self, at: usize) -> Option<[u8; 4]> {
        self.bytes.get(at..)?.first_chunk::<4>().copied()
    }

    /// A signed number, added to an address.
    fn relative(&self, at: usize, to: u64) -> Option<u64> {
        Some(to.wrapping_add(i64::from(i32::from_le_bytes(self.word(at)?)) as u64))
    }
}

/// Where the function begins that an address is in.
fn start(table: &Table<'_>, frames: &Table<'_>, address: u64) -> Option<u64> {
    if table.bytes.first() != Some(&1) || table.bytes.get(2..4) != Some(&[COUNT_FORM, TABLE_FORM]) {
        return None;
    }
    let count = (u32::from_le_bytes(table.word(8)?) as usize).min(table.bytes.len().saturating_sub(HEAD) / 8);
    let entry = |at: usize| table.relative(HEAD + at * 8, table.address);
    // The last that does not begin behind it.
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if entry(middle)? <= address { low = middle + 1 } else { high = middle }
    }
    let at = low.checked_sub(1)?;
    let found = entry(at)?;
    // Its description: length, distance to what it shares with others, start counted from its own place, length of the code.
    let description = table.relative(HEAD + at * 8 + 4, table.address)?;
    let inside = usize::try_from(description.checked_sub(frames.address)?).ok()?;
    let own = frames.relative(inside + 8, description.wrapping_add(8))?;
    if own == found {
        let length = u64::from(u32::from_le_bytes(frames.word(inside + 12)?));
        return (address - found < length).then_some(found);
    }
    // Written in another form: without its end the start is all that is known.
    Some(found)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use proptest::prelude::*;

    use super::{Table, start, starts};

    /// Functions at 0x1100 (0x20 bytes) and 0x1140 (0x40 bytes); the header lies at 0x2000, the descriptions at 0x3000.
    fn tables() -> (Vec<u8>, Vec<u8>) {
        let functions = [(0x1100_i32, 0x20_u32), (0x1140, 0x40)];
        let mut table = vec![1, 0x1b, 0x03, 0x3b, 0, 0, 0, 0];
        table.extend(2_u32.to_le_bytes());
        let mut frames = Vec::new();
        for (at, (address, length)) in functions.iter().enumerate() {
            let description = 0x3000 + at as i32 * 16;
            table.extend((address - 0x2000).to_le_bytes());
            table.extend((description - 0x2000).to_le_bytes());
            frames.extend([12_u32.to_le_bytes(), 4_u32.to_le_bytes()].concat());
            frames.extend((address - (description + 8)).to_le_bytes());
            frames.extend(length.to_le_bytes());
        }
        (table, frames)
    }

    #[test]
    fn an_address_is_in_the_function_that_begins_before_it_and_has_not_ended() {
        let (table, frames) = tables();
        let (table, frames) = (Table { address: 0x2000, bytes: &table }, Table { address: 0x3000, bytes: &frames });
        let found = [0x10ff, 0x1100, 0x111f, 0x1120, 0x1140, 0x117f, 0x1180].map(|at| start(&table, &frames, at));
        assert_eq!(found, [None, Some(0x1100), Some(0x1100), None, Some(0x1140), Some(0x1140), None]);
    }

    #[test]
    fn this_program_has_functions() {
        let file = File::open("/proc/self/exe").expect("itself");
        // A place in code: the start of the executable segment is that of `.init` or so, well behind it is a function.
        let image = crate::profile::image::read(&file, 0).expect("ELF");
        let code = &image.segments[0];
        let offsets: Vec<u64> = (0..16).map(|at| code.offset + code.length / 2 + at * 16).chain([0]).collect();
        let found = starts(&file, &offsets);
        assert!(found.len() > 8 && !found.contains_key(&0), "{found:?}");
        assert!(found.iter().all(|(offset, start)| *start <= image.address(*offset).expect("code")), "{found:?}");
    }

    proptest! {
        #[test]
        fn damaged_tables_are_answered_too(at in 0_usize..60, value: u8, address in 0_u64..0x4000, cut in 0_usize..29) {
            let (mut table, mut frames) = tables();
            let of = if at < table.len() { &mut table } else { &mut frames };
            let place = at % of.len();
            of[place] = value;
            table.truncate(29 - cut);
            let (table, frames) = (Table { address: 0x2000, bytes: &table }, Table { address: 0x3000, bytes: &frames });
            let _ = start(&table, &frames, address);
        }
    }
}
