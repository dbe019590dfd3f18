//! System calls behind small safe functions: the only unsafe code of the project. Decides nothing.
//!
//! # How files are opened, made and removed
//!
//! By one of these rules; whoever calls the standard library or libc for it names his in an `expect` of the lint that
//! refuses such calls (`.clippy.toml`). `tests/it/files.rs` reads the reasons, `tests/opened/run.sh` watches the system calls
//! of the whole test suite.
//!
//! - `beneath`: what others may have touched. Regular files only, never a FIFO or device, a bound of size; in a folder that is
//!   held open nothing leads out of it. `beneath::own*` judge owner and mode too.
//! - `output`: results at a path the user named, as the shell would with `>`, but never through a link that somebody else has
//!   put there; temporary files are new and have a name of their own.
//! - `own`: in a folder that `owner` has judged: it and the way to it belong to this user or root, nobody else can write.
//! - `kernel`: a file of the kernel's own, in /proc, /sys, control groups, tracefs or /dev, or root's configuration, or the
//!   program of apm; or a file that is not opened, only named to the kernel (O_PATH).
//! - `named`: a path on the command line, opened for reading as the shell would with `<`; pipes are welcome, the size that is
//!   read is bounded.
//!
//! One library opens files by names that it finds in other files: that of debugging data. It reads them only, and in another
//! process, whose memory and time are bounded (`worker`): what it meets there costs no more than their lines.

pub(crate) mod ask;
pub(crate) mod beneath;
pub(crate) mod cgroup;
pub(crate) mod confine;
pub(crate) mod file_system;
pub(crate) mod gate;
pub(crate) mod kernel;
mod launch;
pub(crate) mod limits;
pub(crate) mod memory_file;
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
