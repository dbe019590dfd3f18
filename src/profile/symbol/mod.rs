//! Names for the places of stacks: each place once, file by file in parallel, after the recording.

mod ask;
mod debugging;
pub(crate) mod elf;
pub(crate) mod function;
mod function_starts;
pub(crate) mod jit;
pub(crate) mod kernel;
pub(crate) mod missing;
pub(crate) mod perf_map;
mod plt;
mod split;
mod unpack;

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::thread;
use std::time::{Duration, Instant};

use crate::profile::modules::{ModuleId, Modules};
use crate::profile::stacks::Code;
pub(crate) use crate::profile::symbol::ask::Listener;
use crate::profile::symbol::function::Function;
use crate::profile::symbol::perf_map::PerfMaps;
use crate::sys::worker;

/// Longest time in all for the names that programs have written to maps of their own (`perf_map`).
const MAPS_TIME: Duration = Duration::from_secs(2);

/// The name of all of the kernel where it hides its addresses, and of what has no function in its list.
pub(crate) const KERNEL: &str = "[kernel]";

/// Names of places: the outermost function first, the others are inlined into it. A place without a name is not in it.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) of: HashMap<Code, Vec<Function>>,
    /// Functions of the kernel have no names: it did not tell its addresses, or was not asked.
    pub(crate) kernel_is_hidden: bool,
    /// What has no names because reading them took too much.
    pub(crate) notes: Vec<String>,
}

impl Names {
    /// Whether a place has a name that somebody has given it.
    pub(crate) fn is_named(&self, code: &Code) -> bool {
        self.of.get(code).is_some_and(|functions| functions.iter().any(|function| !function.is_nameless))
    }
}

/// Reads names for another apm if the arguments say so (`sys::worker`).
pub(crate) fn worker_entry(argv: &[OsString]) -> Option<i32> {
    worker::entry(argv, |question, file| elf::answer(question, &file))
}

/// Finds the names of these places; without the kernel's, whose list takes a twelfth of a second to read.
pub(crate) fn names(
    codes: &BTreeSet<Code>,
    modules: &Modules,
    maps: &mut PerfMaps,
    with_kernel: bool,
    listener: Listener<'_>,
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
    let in_kernel = || match kernel.is_empty() {
        true => Some(HashMap::new()),
        false => with_kernel.then(|| kernel::names(&kernel)).flatten(),
    };
    // Beside each other where there can be a thread more.
    let ((of, notes), in_kernel) = thread::scope(|scope| {
        let kernel = thread::Builder::new().spawn_scoped(scope, in_kernel);
        let in_files = ask::names(files, modules, listener);
        (in_files, kernel.map_or_else(|_| in_kernel(), |kernel| kernel.join().ok().flatten()))
    });
    let mut names = Names { kernel_is_hidden: in_kernel.is_none(), of, notes };
    let plain = |name: String| vec![Function { name, ..Function::default() }];
    for (address, name) in in_kernel.unwrap_or_default() {
        names.of.insert(Code::Kernel(address), plain(name));
    }
    let until = Instant::now() + MAPS_TIME;
    let go_on = || Instant::now() < until && !(listener.is_over)();
    let mut unread = 0_u32;
    for (program, addresses) in made {
        if !go_on() {
            unread += 1;
            continue;
        }
        let (found, is_whole) = maps.names(program, &addresses, &go_on);
        unread += u32::from(!is_whole);
        for (address, name) in found {
            names.of.insert(Code::Made { program, address }, plain(name));
        }
    }
    if unread > 0 {
        let limit = format!("{} s and {} MiB", MAPS_TIME.as_secs(), perf_map::BYTES_MAX >> 20);
        names
            .notes
            .push(format!("perf-PID.map of {unread} program(s): not all was read within {limit}, names are missing"));
    }
    names
}
