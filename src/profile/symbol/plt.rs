//! Names of the small pieces of code through which a file calls functions of others (its procedure linkage table). They
//! have no symbols: taken by the nearest one they would all be `_init`. Each jumps through a slot, and the relocation of
//! the slot says whose address belongs there.

use std::collections::HashMap;
use std::fs::File;

use object::read::ReadCache;
use object::{
    Architecture, Object as _, ObjectSection as _, ObjectSymbol as _, ObjectSymbolTable as _, RelocationTarget,
};

/// Bytes of an entry, at most.
const ENTRY: usize = 16;
/// `jmp *slot(%rip)`, before its 32 bits.
const JUMP: [u8; 2] = [0xff, 0x25];

/// Names of those offsets in a file that lie in its table: `memcmp@plt`, or `[plt]` where the slot says nothing.
pub(super) fn names(file: &File, offsets: &[u64]) -> HashMap<u64, String> {
    let cache = ReadCache::new(file);
    let Ok(elf) = object::File::parse(&cache) else { return HashMap::new() };
    let mut found = HashMap::new();
    let mut slots = None;
    for section in elf.sections().filter(|section| section.name().is_ok_and(|name| name.starts_with(".plt"))) {
        let (Some((start, size)), Ok(data)) = (section.file_range(), section.data()) else { continue };
        for offset in offsets.iter().filter(|offset| (start..start.saturating_add(size)).contains(*offset)) {
            let at = (*offset - start) as usize / ENTRY * ENTRY;
            let entry = data.get(at..data.len().min(at + ENTRY)).unwrap_or_default();
            let slot = slot(entry).filter(|_| elf.architecture() == Architecture::X86_64);
            let slot = slot.map(|distance| section.address().wrapping_add(at as u64).wrapping_add(distance));
            let slots = slots.get_or_insert_with(|| self::slots(&elf));
            let name = slot.and_then(|slot| slots.get(&slot)).map_or("[plt]".to_owned(), |name| format!("{name}@plt"));
            found.insert(*offset, name);
        }
    }
    found
}

/// Where the slot of an entry lies, counted from the start of the entry.
fn slot(entry: &[u8]) -> Option<u64> {
    let jump = entry.windows(JUMP.len()).position(|bytes| bytes == JUMP)?;
    let distance = entry.get(jump + 2..)?.first_chunk::<4>()?;
    Some((jump as u64 + 6).wrapping_add(i64::from(i32::from_le_bytes(*distance)) as u64))
}

/// Names by the address of their slot.
fn slots<'data>(elf: &object::File<'data, &'data ReadCache<&File>>) -> HashMap<u64, String> {
    let (Some(all), Some(symbols)) = (elf.dynamic_relocations(), elf.dynamic_symbol_table()) else {
        return HashMap::new();
    };
    let name = |target| match target {
        RelocationTarget::Symbol(index) => symbols.symbol_by_index(index).ok()?.name().ok().map(str::to_owned),
        _ => None,
    };
    all.filter_map(|(address, relocation)| Some((address, name(relocation.target())?)))
        .filter(|(_, name)| !name.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::slot;

    #[test]
    fn the_slot_is_where_the_jump_goes() {
        // endbr64; jmp *0x2fe2(%rip)
        let entry = [0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x25, 0xe2, 0x2f, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(slot(&entry), Some(4 + 6 + 0x2fe2));
        assert_eq!(slot(&[0xff, 0x25, 0xff, 0xff, 0xff, 0xff]), Some(5));
        assert_eq!((slot(&[0xff, 0x25, 0]), slot(&[])), (None, None));
    }
}
