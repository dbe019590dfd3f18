//! How much of a profile is shown.

use crate::report::profile::tree::Roots;

/// Bounds of what is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Rows of a table.
    pub(crate) top: usize,
    /// Share of the whole, 0 to 1, below which a path is not followed.
    pub(crate) share_min: f64,
    /// Lines of a tree.
    pub(crate) lines: usize,
    /// What stands outside of the stacks in the tree.
    pub(crate) roots: Roots,
}

impl Default for Extent {
    fn default() -> Self {
        Self { top: 15, share_min: 0.02, lines: 30, roots: Roots::Code }
    }
}
