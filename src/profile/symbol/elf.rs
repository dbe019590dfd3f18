//! Names of places in a file: functions, those that were inlined, source files and lines, by its own tables or those of a
//! package of debugging data.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};

use crate::profile::symbol::plt;

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
    let mut all =
        with_lines.or_else(|| attempt(&path, offsets, false)).unwrap_or_else(|| vec![Vec::new(); offsets.len()]);
    let linked = catch_unwind(AssertUnwindSafe(|| plt::names(file, offsets))).unwrap_or_default();
    for (offset, functions) in offsets.iter().zip(&mut all) {
        if let Some(name) = linked.get(offset) {
            *functions = vec![Function { name: demangled(name), file: None, line: None }];
        }
    }
    all
}

fn attempt(path: &std::path::Path, offsets: &[u64], with_lines: bool) -> Option<Vec<Vec<Function>>> {
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
    std::iter::once(outer).chain(inlined.iter().map(|inner| function(&inner.name, inner.code_info.as_ref()))).collect()
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
        file: place.map(|place| place.to_path().to_string_lossy().into_owned()),
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
        assert_eq!(names(&file, &[0, 100]), [Vec::new(), Vec::new()]);
    }

    proptest! {
        #[test]
        fn arbitrary_names_are_some_text(name in "(_Z|_R|_ZN)?[ -~]{0,60}") {
            let _ = demangled(&name);
        }
    }
}
