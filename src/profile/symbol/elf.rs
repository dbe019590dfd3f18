//! Names of places in a file: functions, those that were inlined, source files and lines, by its own tables or those of a
//! package of debugging data. The file may be made to break its reader, which maps it, believes its sizes, opens what it
//! links to and descends as deep as it says: so this runs in a worker (`sys::worker`) and not in apm itself.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};
use serde::{Deserialize, Serialize};

use crate::profile::image;
use crate::profile::symbol::debugging::{self, Debugging};
use crate::profile::symbol::function::{FUNCTIONS_MAX, Function, demangled, function};
use crate::profile::symbol::{function_starts, plt, split, unpack};
use crate::sys::beneath;

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
    /// Why inlined functions are missing, a sentence each.
    pub(super) notes: Vec<String>,
}

/// The answer of a worker to a question about a file. Empty where the question is none.
pub(crate) fn answer(question: &[u8], file: &File) -> Vec<u8> {
    let Ok(Question { offsets, with_lines }) = serde_json::from_slice(question) else { return Vec::new() };
    serde_json::to_vec(&names(file, &offsets, with_lines)).unwrap_or_default()
}

fn names(file: &File, offsets: &[u64], with_lines: bool) -> Answer {
    // By the descriptor: the file of this name may be another one by now, or out of reach.
    let path = path_of(file);
    let debugging = if with_lines { debugging::look(file, &path) } else { Debugging::default() };
    let mut notes = Vec::new();
    let with_lines = with_lines && debugging.refused.is_none();
    let with_lines = with_lines.then(|| lines(file, &path, &debugging, offsets, &mut notes)).flatten();
    // Damaged debugging data must not cost the names that the table of symbols has.
    let mut all = with_lines
        .or_else(|| attempt(&path, Input::FileOffset(offsets), false))
        .unwrap_or_else(|| vec![Vec::new(); offsets.len()]);
    let linked = catch_unwind(AssertUnwindSafe(|| plt::names(file, offsets))).unwrap_or_default();
    for (offset, functions) in offsets.iter().zip(&mut all) {
        if let Some(name) = linked.get(offset) {
            *functions = vec![Function { name: demangled(name), ..Function::default() }];
        }
    }
    let nameless: Vec<u64> =
        offsets.iter().zip(&all).filter(|(_, found)| found.is_empty()).map(|(at, _)| *at).collect();
    if !nameless.is_empty() {
        let starts = catch_unwind(AssertUnwindSafe(|| function_starts::starts(file, &nameless))).unwrap_or_default();
        for (offset, functions) in offsets.iter().zip(&mut all).filter(|(_, functions)| functions.is_empty()) {
            let function = |start| Function { name: format!("fn_{start:x}"), is_nameless: true, ..Function::default() };
            functions.extend(starts.get(offset).map(function));
        }
    }
    Answer { names: all, refused: debugging.refused, notes }
}

fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Names with lines and inlined functions, by the file's debugging data, or by that in another file that it names.
fn lines(
    file: &File,
    path: &Path,
    debugging: &Debugging,
    offsets: &[u64],
    notes: &mut Vec<String>,
) -> Option<Vec<Vec<Function>>> {
    let mut copied = |file: &File| {
        let copy = unpack::plain_copy(file);
        copy.unwrap_or_else(|error| {
            notes.push(format!("its debugging data is packed with zstd and was not unpacked: {error}"));
            None
        })
    };
    if let Some(copy) = copied(file) {
        return attempt(&path_of(&copy), Input::FileOffset(offsets), true);
    }
    // The reader opens what the file names itself, but does not unpack it.
    if let Some(linked) = debugging.linked.as_ref().and_then(|path| beneath::regular(path).ok())
        && let Some(copy) = copied(&linked)
        && let Some(addresses) = addresses(file, offsets)
    {
        return attempt(&path_of(&copy), Input::VirtOffset(&addresses), true);
    }
    let whole = package_beside(file, path);
    let found = attempt(whole.as_deref().unwrap_or(path), Input::FileOffset(offsets), true);
    if whole.is_some() || !debugging.is_split {
        return found;
    }
    let split = addresses(file, offsets)
        .and_then(|addresses| catch_unwind(AssertUnwindSafe(|| split::names(file, &addresses))).ok().flatten());
    let split = split.unwrap_or_default();
    if split.iter().all(Vec::is_empty) {
        notes.push(
            "its debugging data is in `.dwo` files that are no longer where it was built: inlined functions are missing"
                .to_owned(),
        );
    }
    let mut all = found.unwrap_or_else(|| vec![Vec::new(); offsets.len()]);
    for (functions, split) in all.iter_mut().zip(split).filter(|(_, split)| !split.is_empty()) {
        *functions = split;
    }
    Some(all)
}

/// Addresses in the file's own numbering; nothing where one of them is not in it.
fn addresses(file: &File, offsets: &[u64]) -> Option<Vec<u64>> {
    let image = image::read(file, 0)?;
    offsets.iter().map(|offset| image.address(*offset)).collect()
}

/// The path of the file itself, where a package of its split debugging data lies beside it: the reader looks for that by
/// the name.
fn package_beside(file: &File, path: &Path) -> Option<PathBuf> {
    let own = std::fs::read_link(path).ok()?;
    let same = own.metadata().ok().zip(file.metadata().ok()).filter(|(a, b)| (a.ino(), a.dev()) == (b.ino(), b.dev()));
    let mut package = own.clone().into_os_string();
    package.push(".dwp");
    (same.is_some() && beneath::regular(Path::new(&package)).is_ok()).then_some(own)
}

fn attempt(path: &Path, places: Input<&[u64]>, with_lines: bool) -> Option<Vec<Vec<Function>>> {
    let mut elf = Elf::new(path);
    elf.debug_syms = with_lines;
    let ask = || {
        let folders = debugging::folders(path);
        let symbolizer = Symbolizer::builder()
            .set_debug_dirs(Some(folders))
            .enable_auto_reload(false)
            .enable_code_info(with_lines)
            .enable_inlined_fns(with_lines)
            .enable_demangling(false)
            .build();
        let found = symbolizer.symbolize(&Source::Elf(elf), places).ok()?;
        Some(found.iter().map(functions).collect())
    };
    // The file may be anything, and a reader of DWARF is large: its bug must not cost the profile.
    catch_unwind(AssertUnwindSafe(ask)).ok().flatten()
}

fn functions(found: &Symbolized<'_>) -> Vec<Function> {
    let Symbolized::Sym(symbol) = found else { return Vec::new() };
    let Sym { name, code_info, inlined, .. } = symbol;
    let named = |name: &str, place: Option<&CodeInfo<'_>>| {
        let file = place.map(|place| place.to_path());
        function(name, file.as_ref().map(|file| file.to_string_lossy()).as_deref(), place.and_then(|place| place.line))
    };
    let outer = named(name, code_info.as_deref());
    std::iter::once(outer)
        .chain(inlined.iter().take(FUNCTIONS_MAX).map(|inner| named(&inner.name, inner.code_info.as_ref())))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::names;

    #[test]
    fn what_is_no_program_has_no_names() {
        let file = File::open("/proc/self/status").expect("a file");
        assert_eq!(names(&file, &[0, 100], true).names, [Vec::new(), Vec::new()]);
    }
}
