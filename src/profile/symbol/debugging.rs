//! Where the debugging data of a file lies: in it, in another file that it names, or split off. Looks and opens nothing that
//! could be waited for.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use object::read::ReadCache;
use object::{Object as _, ObjectSection as _};

use crate::sys::beneath;

/// Where debugging data lies: for the system, and in the folder of a program.
const SYSTEM: &str = "/usr/lib/debug";
const BESIDE: &str = ".debug";
/// Units of debugging data that are asked whether they are split.
const UNITS_MAX: usize = 64;
/// Longest section that links to another file: a path and a check sum.
const LINK_MAX: u64 = 8192;

type Elf<'data, 'file> = object::File<'data, &'data ReadCache<&'file File>>;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Debugging {
    /// Debugging data that is there and no regular file: a FIFO would be waited for. (What is in the system's own folders is
    /// root's.)
    pub(super) refused: Option<PathBuf>,
    /// The file that has it.
    pub(super) linked: Option<PathBuf>,
    /// Units say that the rest of them is in other files.
    pub(super) is_split: bool,
}

/// Of a file, whose path is that of a descriptor.
pub(super) fn look(file: &File, path: &Path) -> Debugging {
    let cache = ReadCache::new(file);
    let Ok(elf) = object::File::parse(&cache) else { return Debugging::default() };
    let folder = folder_of(path);
    let by_id = elf.build_id().ok().flatten().filter(|id| id.len() >= 8).map(|id| {
        let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        Path::new(".build-id").join(&digits[..2]).join(format!("{}.debug", &digits[2..]))
    });
    let mut refused = by_id.iter().map(|name| folder.join(BESIDE).join(name)).find(|place| is_no_file(place));
    // Before the name: the version and the kind.
    for (section, before) in [(".gnu_debuglink", 0), (".gnu_debugaltlink", 0), (".debug_sup", 3)] {
        let Some(name) = link(&elf, section, before) else { continue };
        // Without a name it is the folder, which is no regular file either.
        let places = [folder.join(&name), folder.join(BESIDE).join(&name)];
        let count = if name.is_empty() { 1 } else { places.len() };
        refused = refused.or_else(|| places.into_iter().take(count).find(|place| is_no_file(place)));
    }
    Debugging { refused, linked: linked(&elf, &folder, by_id), is_split: is_split(&elf, file) }
}

fn is_no_file(path: &Path) -> bool {
    beneath::regular(path).is_err_and(|error| error.kind() != ErrorKind::NotFound)
}

/// Folders in which the reader of debugging data looks, beside that of the file itself.
pub(super) fn folders(path: &Path) -> [PathBuf; 3] {
    [PathBuf::from(SYSTEM), PathBuf::from("/lib/debug"), folder_of(path).join(BESIDE)]
}

/// The folder of the file that a descriptor is of.
fn folder_of(path: &Path) -> PathBuf {
    std::fs::read_link(path).ok().and_then(|path| path.parent().map(Path::to_owned)).unwrap_or_default()
}

/// The name that a section links to.
fn link(elf: &Elf<'_, '_>, section: &str, before: usize) -> Option<OsString> {
    let section = elf.section_by_name(section)?;
    let bytes = if section.size() <= LINK_MAX { section.data().unwrap_or_default() } else { &[] };
    let name = bytes.get(before..).and_then(|bytes| CStr::from_bytes_until_nul(bytes).ok()).unwrap_or_default();
    Some(OsStr::from_bytes(name.to_bytes()).to_owned())
}

/// The file of debugging data that a file names, where gdb looks for it: beside it, in `.debug`, in the folders of the
/// system by path and by build id ("Separate Debug Files" of its manual).
fn linked(elf: &Elf<'_, '_>, folder: &Path, by_id: Option<PathBuf>) -> Option<PathBuf> {
    let name = link(elf, ".gnu_debuglink", 0).filter(|name| !name.is_empty());
    let by_name = name.map(|name| {
        let below_system = Path::new(SYSTEM).join(folder.strip_prefix("/").unwrap_or(folder));
        [folder.to_owned(), folder.join(BESIDE), below_system].map(|folder| folder.join(&name))
    });
    let by_id = by_id.map(|name| Path::new(SYSTEM).join(name));
    let mut places = by_id.into_iter().chain(by_name.into_iter().flatten());
    places.find(|place| beneath::regular(place).is_ok())
}

/// Whether units of its debugging data say that the rest of them is in another file (DWARF 5, section 3.1.3).
fn is_split(elf: &Elf<'_, '_>, file: &File) -> bool {
    const SKELETON: u8 = 4;
    let Some(section) = elf.section_by_name(".debug_info") else { return false };
    let has_addresses = elf.section_by_name(".debug_addr").is_some();
    let (Some((start, size)), true) = (section.file_range(), elf.is_little_endian()) else { return false };
    let mut at = start;
    for _ in 0..UNITS_MAX {
        let mut head = [0; 7];
        let is_inside = at.saturating_add(head.len() as u64) <= start.saturating_add(size);
        if !is_inside || file.read_exact_at(&mut head, at).is_err() {
            break;
        }
        let [a, b, c, d, version, _, kind] = head;
        // Of version 4 only the attributes say so; such units have a table of addresses.
        if (version == 5 && kind == SKELETON) || (version == 4 && has_addresses) {
            return true;
        }
        at = at.saturating_add(u64::from(u32::from_le_bytes([a, b, c, d]))).saturating_add(4);
    }
    false
}
