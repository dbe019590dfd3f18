//! Names by debugging data that was split off into `.dwo` files (`-gsplit-dwarf`; DWARF 5, section 7.3.2), which the reader
//! of names does not open. The program has units that name these files, and all addresses.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use addr2line::{Context, LookupContinuation as _, LookupResult, SplitDwarfLoad};
use gimli::{Dwarf, EndianArcSlice, LittleEndian, Reader as _};
use object::elf::SHF_COMPRESSED;
use object::read::ReadCache;
use object::{Object as _, ObjectSection as _, SectionFlags};

use crate::profile::symbol::function::{FUNCTIONS_MAX, Function, function};
use crate::sys::beneath;

/// Longest section that is read.
const SECTION_MAX: u64 = 1 << 30;
/// Files that one address may ask for: its own, and those of types.
const LOADS_MAX: usize = 16;

type Data = EndianArcSlice<LittleEndian>;

/// For each address its functions, the outermost first; none where nothing is known. Nothing where the file has no
/// debugging data that can be read.
pub(super) fn names(file: &File, addresses: &[u64]) -> Option<Vec<Vec<Function>>> {
    let cache = ReadCache::new(file);
    let elf = object::File::parse(&cache).ok().filter(|elf| elf.is_little_endian())?;
    let context = Context::from_dwarf(Dwarf::load(|id| section(&elf, id.name())).ok()?).ok()?;
    Some(addresses.iter().map(|address| at(&context, *address).unwrap_or_default()).collect())
}

fn at(context: &Context<Data>, address: u64) -> Option<Vec<Function>> {
    let mut lookup = context.find_frames(address);
    let mut loads = 0;
    let mut frames = loop {
        match lookup {
            LookupResult::Output(found) => break found.ok()?,
            LookupResult::Load { load, continuation } => {
                loads += 1;
                let split = (loads <= LOADS_MAX).then(|| opened(&load)).flatten();
                lookup = continuation.resume(split.map(Arc::new));
            }
        }
    };
    let mut functions = Vec::new();
    while let Ok(Some(frame)) = frames.next() {
        let Some(name) = frame.function.as_ref().and_then(|name| name.raw_name().ok()) else { continue };
        let place = frame.location.as_ref();
        functions.push(function(&name, place.and_then(|place| place.file), place.and_then(|place| place.line)));
        if functions.len() >= FUNCTIONS_MAX {
            break;
        }
    }
    functions.reverse();
    Some(functions)
}

/// The file that a unit of the program names, if it is that unit's.
fn opened(load: &SplitDwarfLoad<Data>) -> Option<Dwarf<Data>> {
    let text = |data: &Option<Data>| Some(data.as_ref()?.to_slice().ok()?.into_owned());
    let folder = text(&load.comp_dir).unwrap_or_default();
    let path = Path::new(OsStr::from_bytes(&folder)).join(OsStr::from_bytes(&text(&load.path)?));
    let file = beneath::regular(&path).ok()?;
    let cache = ReadCache::new(&file);
    let elf = object::File::parse(&cache).ok().filter(|elf| elf.is_little_endian())?;
    let mut dwarf = Dwarf::load(|id| section(&elf, id.dwo_name().unwrap_or_default())).ok()?;
    let header = dwarf.units().next().ok()??;
    let is_its = dwarf.unit(header).ok()?.dwo_id == Some(load.dwo_id);
    dwarf.make_dwo(&load.parent);
    is_its.then_some(dwarf)
}

/// The data of a section, empty where there is none or where it is packed.
fn section<'data>(elf: &object::File<'data, &'data ReadCache<&File>>, name: &str) -> Result<Data, gimli::Error> {
    let is_plain = |flags| !matches!(flags, SectionFlags::Elf { sh_flags, .. } if sh_flags.contains(SHF_COMPRESSED));
    let section =
        elf.section_by_name(name).filter(|section| section.size() <= SECTION_MAX && is_plain(section.flags()));
    let data = section.and_then(|section| section.data().ok()).unwrap_or_default();
    Ok(EndianArcSlice::new(Arc::from(data), LittleEndian))
}
