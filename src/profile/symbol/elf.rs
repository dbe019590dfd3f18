//! Names of places in a file: functions, those that were inlined, source files and lines, by its own tables or those of a
//! package of debugging data.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};

/// Longest name; templates have longer ones that nobody reads.
const NAME_MAX: usize = 4096;

/// A function at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
}

/// For each offset in the file its functions, the outermost first: the others are inlined into it. None where nothing is
/// known.
pub(crate) fn names(file: &File, offsets: &[u64]) -> Vec<Vec<Function>> {
    // By the descriptor: the file of this name may be another one by now, or out of reach.
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let with_lines = attempt(&path, offsets, true);
    // Damaged debugging data must not cost the names that the table of symbols has.
    with_lines.or_else(|| attempt(&path, offsets, false)).unwrap_or_else(|| vec![Vec::new(); offsets.len()])
}

fn attempt(path: &std::path::Path, offsets: &[u64], with_lines: bool) -> Option<Vec<Vec<Function>>> {
    let mut elf = Elf::new(path);
    elf.debug_syms = with_lines;
    let ask = || {
        let symbolizer = Symbolizer::builder()
            .enable_auto_reload(false)
            .enable_code_info(with_lines)
            .enable_inlined_fns(with_lines)
            .enable_demangling(true)
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
    std::iter::once(outer).chain(inlined.iter().map(|inner| function(&inner.name, inner.code_info.as_ref()))).collect()
}

fn function(name: &str, place: Option<&CodeInfo<'_>>) -> Function {
    Function {
        name: name.chars().take(NAME_MAX).collect(),
        file: place.map(|place| place.to_path().to_string_lossy().into_owned()),
        line: place.and_then(|place| place.line).filter(|line| *line > 0),
    }
}
