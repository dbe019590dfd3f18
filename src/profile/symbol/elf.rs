//! Names of places in a file: functions, those that were inlined, source files and lines, by its own tables or those of a
//! package of debugging data. The file may be made to break its reader, which maps it, believes its sizes, opens what it
//! links to and descends as deep as it says: so this runs in a worker (`sys::worker`) and not in apm itself.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};
use object::{Object as _, ObjectSection as _, ReadCache};
use serde::{Deserialize, Serialize};

use crate::profile::symbol::plt;
use crate::sys::beneath;

/// Longest name; templates have longer ones that nobody reads.
const NAME_MAX: usize = 4096;
/// Functions at one place that are inlined into each other; compilers stop before a hundred.
const INLINED_MAX: usize = 256;
/// Longest section that links to another file: a path and a check sum.
const LINK_MAX: u64 = 8192;

/// What is asked of a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) offsets: Vec<u64>,
    /// With source lines and inlined functions, by debugging data.
    pub(super) with_lines: bool,
}

/// What it says.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Answer {
    /// For each offset its functions, the outermost first: the others are inlined into it. None where nothing is known.
    pub(super) names: Vec<Vec<Function>>,
    /// The file of debugging data that it names and that was not opened.
    pub(super) refused: Option<PathBuf>,
}

/// The answer of a worker to a question about a file. Empty where the question is none.
pub(crate) fn answer(question: &[u8], file: &File) -> Vec<u8> {
    let Ok(Question { offsets, with_lines }) = serde_json::from_slice(question) else { return Vec::new() };
    serde_json::to_vec(&names(file, &offsets, with_lines)).unwrap_or_default()
}

/// A function at a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
}

fn names(file: &File, offsets: &[u64], with_lines: bool) -> Answer {
    // By the descriptor: the file of this name may be another one by now, or out of reach.
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let refused = if with_lines { link_to_no_file(file, &path) } else { None };
    let with_lines = (with_lines && refused.is_none()).then(|| attempt(&path, offsets, true)).flatten();
    // Damaged debugging data must not cost the names that the table of symbols has.
    let mut all =
        with_lines.or_else(|| attempt(&path, offsets, false)).unwrap_or_else(|| vec![Vec::new(); offsets.len()]);
    let linked = catch_unwind(AssertUnwindSafe(|| plt::names(file, offsets))).unwrap_or_default();
    for (offset, functions) in offsets.iter().zip(&mut all) {
        if let Some(name) = linked.get(offset) {
            *functions = vec![Function { name: demangled(name), file: None, line: None }];
        }
    }
    Answer { names: all, refused }
}

/// The debugging data beside a file that it names, where that is there and no regular file: a FIFO would be waited for.
/// (What is in the system's own folders for debugging data is root's.)
fn link_to_no_file(file: &File, path: &Path) -> Option<PathBuf> {
    let cache = ReadCache::new(file);
    let elf = object::File::parse(&cache).ok()?;
    let folder = std::fs::read_link(path).ok().and_then(|path| path.parent().map(Path::to_owned)).unwrap_or_default();
    // Before the name: the version and the kind.
    let links = [(".gnu_debuglink", 0), (".gnu_debugaltlink", 0), (".debug_sup", 3)];
    links.into_iter().find_map(|(name, before)| {
        let section = elf.section_by_name(name)?;
        let bytes = if section.size() <= LINK_MAX { section.data().unwrap_or_default() } else { &[] };
        let name = bytes.get(before..).and_then(|bytes| CStr::from_bytes_until_nul(bytes).ok()).unwrap_or_default();
        let linked = folder.join(OsStr::from_bytes(name.to_bytes()));
        // Without a name it is the folder, which is no regular file either.
        beneath::regular(&linked).err().filter(|error| error.kind() != ErrorKind::NotFound).map(|_| linked)
    })
}

fn attempt(path: &Path, offsets: &[u64], with_lines: bool) -> Option<Vec<Vec<Function>>> {
    let mut elf = Elf::new(path);
    elf.debug_syms = with_lines;
    let ask = || {
        let symbolizer = Symbolizer::builder()
            .enable_auto_reload(false)
            .enable_code_info(with_lines)
            .enable_inlined_fns(with_lines)
            .enable_demangling(false)
            .build();
        let found = symbolizer.symbolize(&Source::Elf(elf), Input::FileOffset(offsets)).ok()?;
        Some(found.iter().map(functions).collect())
    };
    // The file may be anything, and a reader of DWARF is large: its bug must not cost the profile.
    catch_unwind(AssertUnwindSafe(ask)).ok().flatten()
}

fn functions(found: &Symbolized<'_>) -> Vec<Function> {
    let Symbolized::Sym(symbol) = found else { return Vec::new() };
    let Sym { name, code_info, inlined, .. } = symbol;
    let outer = function(name, code_info.as_deref());
    std::iter::once(outer)
        .chain(inlined.iter().take(INLINED_MAX).map(|inner| function(&inner.name, inner.code_info.as_ref())))
        .collect()
}

/// Only what is mangled: taken for C++, the C function `a` would be `signed char`.
fn demangled(name: &str) -> String {
    let plain = || name.to_owned();
    if !name.starts_with("_Z") && !name.starts_with("_R") {
        return plain();
    }
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return format!("{rust:#}");
    }
    cpp_demangle::Symbol::new(name).ok().and_then(|symbol| symbol.demangle().ok()).unwrap_or_else(plain)
}

fn function(name: &str, place: Option<&CodeInfo<'_>>) -> Function {
    Function {
        name: demangled(name).chars().take(NAME_MAX).collect(),
        file: place.map(|place| place.to_path().to_string_lossy().chars().take(NAME_MAX).collect()),
        line: place.and_then(|place| place.line).filter(|line| *line > 0),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use proptest::prelude::*;

    use super::{demangled, names};

    #[test]
    fn mangled_names_are_read_and_others_left() {
        let cases = [
            ("a", "a"),
            ("main", "main"),
            ("_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write"),
            ("_ZN3foo3barEi", "foo::bar(int)"),
            ("_RNvC1a4main", "a::main"),
            ("_Zgarbage", "_Zgarbage"),
        ];
        for (mangled, plain) in cases {
            assert_eq!(demangled(mangled), plain);
        }
    }

    #[test]
    fn what_is_no_program_has_no_names() {
        let file = File::open("/proc/self/status").expect("a file");
        assert_eq!(names(&file, &[0, 100], true).names, [Vec::new(), Vec::new()]);
    }

    proptest! {
        #[test]
        fn arbitrary_names_are_some_text(name in "(_Z|_R|_ZN)?[ -~]{0,60}") {
            let _ = demangled(&name);
        }
    }
}
