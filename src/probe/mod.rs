//! Read-only observation of Linux. Never writes; what cannot be read is absent, not zero.

pub(crate) mod machine;
pub(crate) mod process;

use std::path::PathBuf;

/// Where the kernel's files are: a captured host in tests.
#[derive(Clone, Debug)]
pub(crate) struct Roots {
    pub(crate) proc: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: "/proc".into() }
    }
}
