//! System calls behind small safe functions: the only unsafe code of the project. Decides nothing.

pub(crate) mod beneath;
pub(crate) mod cgroup;
pub(crate) mod file_system;
pub(crate) mod gate;
pub(crate) mod kernel;
pub(crate) mod limits;
pub(crate) mod netlink;
pub(crate) mod nss;
pub(crate) mod output;
pub(crate) mod owner;
pub(crate) mod peer;
pub(crate) mod perf;
pub(crate) mod pressure;
pub(crate) mod priority;
pub(crate) mod process;
pub(crate) mod ptrace;
pub(crate) mod shared;
pub(crate) mod signal;
pub(crate) mod spawn;
pub(crate) mod stage;
pub(crate) mod stdio;
pub(crate) mod terminal;
pub(crate) mod tracefs;
pub(crate) mod vdso;
pub(crate) mod worker;
