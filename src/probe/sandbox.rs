//! What this kernel gives for the confinement of commands.

use std::io;

use crate::model::sandbox::Support;
use crate::model::snapshot::Field;
use crate::sys::confine::{self, Network};

/// Asks the kernel.
pub(crate) fn read() -> Support {
    Support {
        landlock: confine::landlock_abi().map_or_else(|error| without_landlock(&error), Field::Known),
        seccomp: match confine::seccomp() {
            Ok(()) if confine::filter(Network::Off).is_empty() => {
                Field::unavailable("seccomp", "apm has no filter of system calls for this processor")
            }
            Ok(()) => Field::Known(true),
            Err(error) => Field::unavailable("seccomp", format!("system calls cannot be filtered (seccomp): {error}")),
        },
    }
}

fn without_landlock(error: &io::Error) -> Field<u32> {
    let why = match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => {
            "Landlock is switched off: add `landlock` to `lsm=` of the kernel command line".to_owned()
        }
        Some(libc::ENOSYS) => {
            "there is no Landlock: it came with Linux 5.13 (CONFIG_SECURITY_LANDLOCK), and a seccomp filter of a container \
             may hide it"
                .to_owned()
        }
        _ => format!("Landlock is refused: {error}"),
    };
    Field::unavailable("landlock_create_ruleset", why)
}
