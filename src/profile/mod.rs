//! Where time goes, by stack: records what the kernel samples, unwinds it while the program runs, and names it afterwards,
//! into a `model::profile::Profile`. Knows nothing of the command line, of formats and of terminals.
//!
//! `session` is the loop. Records come from `record`; `process` knows what is mapped where, `modules` the files, `unwind`
//! makes a stack of a sample, `stacks` keeps them once each; `symbol` gives names, `outcome` puts it all together. `track`
//! is a value over time. `stops` samples without the kernel's events and `waits` looks at threads without a CPU, both at
//! processes as `looked` finds them in /proc; `itself` is apm's own time, by another crate.
//! `calls` makes bytes and waiting of system calls, by the files that `descriptors` knows; `devices` looks at
//! what block devices do meanwhile, `owners` says whose `connections` were.

pub(crate) mod calls;
pub(crate) mod connections;
pub(crate) mod descriptors;
pub(crate) mod devices;
pub(crate) mod heap;
pub(crate) mod image;
pub(crate) mod inside;
pub(crate) mod itself;
pub(crate) mod latency;
pub(crate) mod looked;
pub(crate) mod modules;
pub(crate) mod outcome;
pub(crate) mod owners;
pub(crate) mod process;
pub(crate) mod record;
pub(crate) mod session;
pub(crate) mod stacks;
pub(crate) mod stops;
pub(crate) mod symbol;
pub(crate) mod track;
pub(crate) mod unwind;
pub(crate) mod waits;
pub(crate) mod watch;
