//! The kernel's files about tracepoints where nobody has mounted them: a mount of our own that has no place in the tree of
//! files. Nobody else sees it, and it goes with the process.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;

/// Where tracefs is for this process; nothing where the kernel does not allow it (it is for root) or has none.
pub(crate) fn own() -> Option<PathBuf> {
    static OWN: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let mount = OWN.get_or_init(|| mount().ok()).as_ref()?;
    Some(PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd())))
}

fn mount() -> io::Result<OwnedFd> {
    const CLOEXEC: libc::c_uint = 1;
    const CREATE: libc::c_uint = 6;
    const READ_ONLY_NO_SUID_DEV_EXEC: libc::c_uint = 1 | 2 | 4 | 8;
    // SAFETY: a name that ends with a NUL; the kernel gives a descriptor of our own or an error.
    let context = unsafe { descriptor(libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), CLOEXEC)) }?;
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: this command takes no further words.
    let made = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), CREATE, none, none, 0) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as for the first.
    unsafe { descriptor(libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOEXEC, READ_ONLY_NO_SUID_DEV_EXEC)) }
}

/// # Safety
///
/// The number is what a call returned that makes a descriptor: nobody else owns it.
unsafe fn descriptor(returned: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(returned) {
        // SAFETY: the caller says so.
        Ok(number) if number >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(number) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_there_without_being_mounted_where_that_is_allowed() {
        let before = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
        let Some(place) = super::own() else { return };
        assert!(place.join("events/raw_syscalls/sys_enter/format").exists(), "{}", place.display());
        assert_eq!(std::fs::read_to_string("/proc/self/mounts").expect("mounts"), before);
    }
}
