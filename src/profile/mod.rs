//! Where time goes, by stack: records what the kernel samples, unwinds it while the program runs, and names it afterwards,
//! into a `model::profile::Profile`. Knows nothing of the command line, of formats and of terminals.
//!
//! `session` is the loop over what the kernel samples. Records come from `record`; `process` knows what is mapped where,
//! `modules` the files, `unwind` makes a stack of a sample, `stacks` keeps each stack once; `symbol` gives names, `outcome`
//! puts it all together. `track` is a value over time.
//!
//! `preload_session` is the loop over what the preloaded library writes. `ptrace_sampler` samples without the kernel's
//! events, and `off_cpu` looks at threads without a CPU; both find processes by `procfs`. `itself` is apm's own time, by
//! another crate. `calls` makes bytes and waiting of system calls, by the files that `descriptors` knows, into the table of
//! `files`; `watch` looks at what processes use, by the `accounts` of their bytes, and finds programs `outside` of the
//! preloaded library; `devices` looks at what block devices do meanwhile, `owners` says whose `connections` were.

pub(crate) mod accounts;
pub(crate) mod calls;
pub(crate) mod connections;
pub(crate) mod descriptors;
pub(crate) mod devices;
pub(crate) mod files;
pub(crate) mod heap;
pub(crate) mod image;
pub(crate) mod itself;
pub(crate) mod latency;
pub(crate) mod modules;
pub(crate) mod off_cpu;
pub(crate) mod outcome;
pub(crate) mod outside;
pub(crate) mod owners;
mod pieces;
pub(crate) mod preload_session;
pub(crate) mod process;
pub(crate) mod procfs;
pub(crate) mod ptrace_sampler;
pub(crate) mod record;
pub(crate) mod session;
pub(crate) mod stacks;
pub(crate) mod symbol;
pub(crate) mod track;
pub(crate) mod unwind;
pub(crate) mod watch;
