//! How samples are taken. By the kernel: the `sampler` it grants, the `rings` through which records come in the order of
//! time, the records taken apart (`perf`), what was there before the first record (`existing`), and events of tracepoints
//! (`trace`). From within the program: the library that is preloaded (`preload`), the `ring` it writes to, and whether a
//! program can take it (`target`).

pub(crate) mod existing;
pub(crate) mod perf;
pub(crate) mod preload;
pub(crate) mod ring;
pub(crate) mod rings;
pub(crate) mod sampler;
pub(crate) mod target;
pub(crate) mod trace;

/// The form of what the preloaded library and apm share.
#[path = "../../shim/layout.rs"]
mod layout;
