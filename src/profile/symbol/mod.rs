//! Names for the places of stacks: each place once, file by file in parallel, after the recording.

pub(crate) mod elf;
pub(crate) mod jit;
pub(crate) mod kernel;
pub(crate) mod missing;
pub(crate) mod perf_map;
mod plt;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::profile::modules::{ModuleId, Modules};
use crate::profile::stacks::Code;
use crate::profile::symbol::elf::Function;
use crate::profile::symbol::perf_map::PerfMaps;

/// The name of all of the kernel where it hides its addresses, and of what has no function in its list.
pub(crate) const KERNEL: &str = "[kernel]";

/// Names of places: the outermost function first, the others are inlined into it. A place without a name is not in it.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) of: HashMap<Code, Vec<Function>>,
    /// Functions of the kernel have no names: it did not tell its addresses, or was not asked.
    pub(crate) kernel_is_hidden: bool,
}

/// Finds the names of these places; without the kernel's, whose list takes a twelfth of a second to read. `progress` hears
/// how many of how many files are done, from any thread.
pub(crate) fn names(
    codes: &BTreeSet<Code>,
    modules: &Modules,
    maps: &mut PerfMaps,
    with_kernel: bool,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Names {
    // In order, because the set is.
    let mut files: HashMap<ModuleId, Vec<u64>> = HashMap::new();
    let mut made: HashMap<u32, Vec<u64>> = HashMap::new();
    let mut kernel = Vec::new();
    for code in codes {
        match *code {
            Code::File { module, offset } => files.entry(module).or_default().push(offset),
            Code::Made { program, address } => made.entry(program).or_default().push(address),
            Code::Kernel(address) => kernel.push(address),
            Code::Waits(_) | Code::Nowhere | Code::Truncated | Code::Cut => {}
        }
    }
    // The file with the most places first: it takes the longest.
    let mut files: Vec<(ModuleId, Vec<u64>)> = files.into_iter().collect();
    files.sort_by_key(|(_, offsets)| std::cmp::Reverse(offsets.len()));
    let (done, total) = (AtomicUsize::new(0), files.len());
    let in_files = || -> Vec<(Code, Vec<Function>)> {
        let each = |(module, offsets): &(ModuleId, Vec<u64>)| {
            let found =
                modules.get(*module).and_then(|module| module.reopened()).map(|file| elf::names(&file, offsets));
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
            let named = offsets.iter().zip(found.unwrap_or_default()).filter(|(_, names)| !names.is_empty());
            named.map(|(offset, names)| (Code::File { module: *module, offset: *offset }, names)).collect::<Vec<_>>()
        };
        files.par_iter().with_max_len(1).flat_map_iter(each).collect()
    };
    let in_kernel = || match kernel.is_empty() {
        true => Some(HashMap::new()),
        false => with_kernel.then(|| kernel::names(&kernel)).flatten(),
    };
    let (in_files, in_kernel) = rayon::join(in_files, in_kernel);
    let mut names = Names { kernel_is_hidden: in_kernel.is_none(), of: in_files.into_iter().collect() };
    let plain = |name: String| vec![Function { name, file: None, line: None }];
    for (address, name) in in_kernel.unwrap_or_default() {
        names.of.insert(Code::Kernel(address), plain(name));
    }
    for (program, addresses) in made {
        for (address, name) in maps.names(program, &addresses) {
            names.of.insert(Code::Made { program, address }, plain(name));
        }
    }
    names
}
