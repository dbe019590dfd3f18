//! Where attempts run and where their output is kept. Today: this machine (`local`).

pub(crate) mod capture;
pub(crate) mod files;
pub(crate) mod local;
pub(crate) mod runtimes;
pub(crate) mod store;
