//! Files with code: each once, opened as soon as a process has mapped it and kept open, so that a binary that is deleted,
//! lies in a container or belongs to a process that lives for a millisecond has names all the same. What unwinding needs
//! is read at the first sample.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::profile::image::{self, Image};
use crate::sys::{beneath, vdso};

/// Files that are known; code in more has no names.
pub(crate) const MODULES_MAX: usize = 8192;
/// Files that are kept open; the others are looked for again at the end.
const OPEN_MAX: usize = 512;
/// Bytes of tables of unwinding that are kept of all files together.
const TABLES_MAX: usize = 24 << 20;

/// Index of a file.
pub(crate) type ModuleId = u32;

/// The path of the kernel's own part of every process.
pub(crate) const VDSO: &str = "[vdso]";

/// Names of memory, in which runtimes make code; some load programs from there too.
const MEMORY: [&[u8]; 4] = [b"/dev/zero", b"/memfd:", b"/SYSV", b"/anon_hugepage"];

/// A file with code.
#[derive(Debug)]
pub(crate) struct Module {
    /// As the process names it.
    pub(crate) path: PathBuf,
    pub(crate) inode: u64,
    pub(crate) file: Option<File>,
    /// Nothing where it was not asked for yet.
    image: Option<Image>,
}

/// Where a process has mapped a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping<'a> {
    pub(crate) pid: u32,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) path: &'a [u8],
    pub(crate) inode: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    all: Vec<Module>,
    known: HashMap<(Box<[u8]>, u64), ModuleId>,
    open: usize,
    tables: usize,
    /// Tables of unwinding that did not fit.
    pub(crate) without_tables: u64,
}

impl Modules {
    /// The number of what a process has mapped; nothing where it is no file, or one too many.
    pub(crate) fn find(&mut self, mapping: &Mapping<'_>) -> Option<ModuleId> {
        let is_vdso = mapping.path == VDSO.as_bytes();
        let is_path = mapping.path.starts_with(b"/") && !mapping.path.starts_with(b"//anon");
        if !is_vdso && !is_path {
            return None;
        }
        // What the kernel adds to a path whose file is gone.
        let path = mapping.path.strip_suffix(b" (deleted)").unwrap_or(mapping.path);
        if MEMORY.iter().any(|start| path.starts_with(start))
            && !self.opened(mapping, path).is_some_and(|file| is_elf(&file))
        {
            return None;
        }
        let key = (Box::from(path), mapping.inode);
        if let Some(id) = self.known.get(&key) {
            return Some(*id);
        }
        if self.all.len() >= MODULES_MAX {
            return None;
        }
        let file = if is_vdso { vdso::file().ok() } else { self.opened(mapping, path) };
        self.open += usize::from(file.is_some());
        let id = self.all.len() as ModuleId;
        self.all.push(Module { path: OsStr::from_bytes(path).into(), inode: mapping.inode, file, image: None });
        self.known.insert(key, id);
        Some(id)
    }

    /// The file itself by the kernel's link, else what has this name for the process, else what has it for apm: only if
    /// it is the same.
    fn opened(&self, mapping: &Mapping<'_>, path: &[u8]) -> Option<File> {
        if self.open >= OPEN_MAX {
            return None;
        }
        let Mapping { pid, start, end, .. } = mapping;
        let path = Path::new(OsStr::from_bytes(path));
        let inside = path.strip_prefix("/").unwrap_or(path);
        let places = [
            PathBuf::from(format!("/proc/{pid}/map_files/{start:x}-{end:x}")),
            Path::new(&format!("/proc/{pid}/root")).join(inside),
            path.to_owned(),
        ];
        places.into_iter().find_map(|place| same(&place, mapping.inode))
    }

    /// A file.
    pub(crate) fn get(&self, id: ModuleId) -> Option<&Module> {
        self.all.get(id as usize)
    }

    /// What unwinding needs of a file, read now if it was not before: then the second is true.
    pub(crate) fn image(&mut self, id: ModuleId) -> Option<(&Image, bool)> {
        let module = self.all.get_mut(id as usize)?;
        let is_new = module.image.is_none();
        if is_new {
            let room = TABLES_MAX.saturating_sub(self.tables);
            let image = module.file.as_ref().and_then(|file| image::read(file, room)).unwrap_or_default();
            self.tables += image.size();
            self.without_tables += u64::from(!image.segments.is_empty() && image.size() == 0);
            module.image = Some(image);
        }
        Some((module.image.as_ref()?, is_new))
    }

    /// Gives the tables back: there is nothing more to unwind.
    pub(crate) fn forget_tables(&mut self) {
        for image in self.all.iter_mut().filter_map(|module| module.image.as_mut()) {
            (image.eh_frame, image.eh_frame_hdr, image.debug_frame) = (None, None, None);
        }
    }
}

impl Module {
    /// What was read of it.
    pub(crate) fn image(&self) -> Option<&Image> {
        self.image.as_ref()
    }

    /// The file, which may not have been kept open.
    pub(crate) fn reopened(&self) -> Option<File> {
        match &self.file {
            Some(file) => file.try_clone().ok(),
            None => same(&self.path, self.inode),
        }
    }
}

/// Opens a regular file with this inode. What is no regular file is not opened: that could wait for ever.
fn same(path: &Path, inode: u64) -> Option<File> {
    let file = beneath::regular(path).ok()?;
    file.metadata().is_ok_and(|meta| meta.ino() == inode).then_some(file)
}

fn is_elf(file: &File) -> bool {
    use std::os::unix::fs::FileExt;
    let mut magic = [0; 4];
    file.read_exact_at(&mut magic, 0).is_ok() && &magic == b"\x7fELF"
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::{MODULES_MAX, Mapping, Modules};

    fn mapping(path: &[u8], inode: u64) -> Mapping<'_> {
        Mapping { pid: std::process::id(), start: 0x1000, end: 0x2000, path, inode }
    }

    #[test]
    fn a_file_is_known_once_and_another_of_its_name_is_another() {
        let mut modules = Modules::default();
        let path = std::env::current_exe().expect("a path");
        let inode = path.metadata().expect("it is there").ino();
        let name = path.to_str().expect("a plain name").as_bytes();
        let first = modules.find(&mapping(name, inode)).expect("a file");
        assert!(modules.get(first).is_some_and(|module| module.file.is_some()));
        let gone = [name, b" (deleted)"].concat();
        assert_eq!(modules.find(&mapping(&gone, inode)), Some(first));
        let other = modules.find(&mapping(name, inode + 1)).expect("another");
        assert!(other != first && modules.get(other).is_some_and(|module| module.file.is_none()), "not opened");
        assert!(modules.image(first).is_some_and(|(image, is_new)| is_new && !image.segments.is_empty()));
    }

    #[test]
    fn memory_is_no_file_and_there_is_an_end() {
        let mut modules = Modules::default();
        for path in [&b"//anon"[..], b"[heap]", b"[vsyscall]", b"/dev/zero (deleted)", b"/SYSV00000000 (deleted)", b""]
        {
            assert_eq!(modules.find(&mapping(path, 0)), None);
        }
        for number in 0..MODULES_MAX + 5 {
            modules.find(&mapping(b"/nothing/there", number as u64));
        }
        assert_eq!(modules.all.len(), MODULES_MAX);
    }
}
