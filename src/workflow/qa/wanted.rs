//! What the user wants of the checks of a repository.

/// What is wanted of the plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) only: Vec<String>,
    pub(crate) skip: Vec<String>,
    /// Where `only` and `skip` were said.
    pub(crate) only_by: String,
    pub(crate) skip_by: String,
    pub(crate) fix: bool,
    pub(crate) strict: bool,
    /// The folder, relative to the repository, whose files are meant; empty for all of them.
    pub(crate) within: String,
    /// `PYTEST_ADDOPTS` of the environment.
    pub(crate) pytest_addopts: String,
    /// Folder for build trees outside the repository.
    pub(crate) build_dir: String,
}
