//! Watches running processes and turns what they do into samples.

pub(crate) mod preload;
pub(crate) mod ring;
pub(crate) mod target;

/// The form of what the preloaded library and apm share.
#[path = "../../shim/layout.rs"]
mod layout;
