//! How samples are taken. By the kernel: the rungs of the `ladder`, the `rings` they come through in order of time, the
//! records taken apart (`perf`), and what was there before the first record (`existing`); events of
//! tracepoints (`trace`). From within the program: the
//! library that is preloaded (`preload`), the `ring` it writes to, and whether a program can take it (`target`).

pub(crate) mod existing;
pub(crate) mod ladder;
pub(crate) mod perf;
pub(crate) mod preload;
pub(crate) mod ring;
pub(crate) mod rings;
pub(crate) mod target;
pub(crate) mod trace;

/// The form of what the preloaded library and apm share.
#[path = "../../shim/layout.rs"]
mod layout;
