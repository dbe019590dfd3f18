//! Room on file systems, and what a file takes of it.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::model::snapshot::disk::Space;

/// Whether a file has an extended attribute that this user may know of.
pub(crate) fn has_attribute(path: &Path, name: &CStr) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: both names end with a zero byte; without a buffer the kernel only says how long the value is.
    unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) >= 0 }
}

/// statvfs: never reads a file, but waits for a server where the file system has one.
pub(crate) fn space(path: &Path) -> io::Result<Space> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut answer = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path ends with a zero byte, and `answer` is valid for writes.
    if unsafe { libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed, then filled by a call that succeeded; plain numbers.
    let answer = unsafe { answer.assume_init() };
    // Fragments are the unit of the counts; some file systems leave their size out.
    let unit = if answer.f_frsize == 0 { answer.f_bsize } else { answer.f_frsize };
    Ok(Space {
        bytes: answer.f_blocks.saturating_mul(unit),
        available: answer.f_bavail.saturating_mul(unit),
        inodes: answer.f_files,
        inodes_available: answer.f_favail,
    })
}

/// Whether root may write a file, whatever its mode says. Containers get /proc/sys and /sys as read-only mounts with the
/// modes of the host, and root of a user namespace is not the root that these files belong to.
pub(crate) fn can_be_written(path: &Path) -> bool {
    use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};
    let is_read_only = statvfs(path).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY));
    let is_refused = rustix::process::getuid().is_root() && access(path, Access::WRITE_OK).is_err();
    !is_read_only && !is_refused
}

/// Whether a file is in /proc or /sys of a running kernel, where only the kernel makes files and links.
pub(crate) fn is_of_kernel(file: impl AsFd) -> bool {
    const SYSFS_MAGIC: i64 = 0x6265_6572;
    rustix::fs::fstatfs(file).is_ok_and(|found| [libc::PROC_SUPER_MAGIC, SYSFS_MAGIC].contains(&found.f_type))
}

#[cfg(test)]
mod tests {
    use super::has_attribute;

    #[test]
    fn attributes_are_there_once_they_are_set() {
        let file = std::env::temp_dir().join(format!("apm-attribute-{}", std::process::id()));
        std::fs::write(&file, "x").expect("written");
        assert!(!has_attribute(&file, c"security.capability") && !has_attribute(&file.join("none"), c"user.x"));
        // Such an attribute can be set where `setcap` is, by root.
        let given = std::process::Command::new("setcap").arg("cap_net_raw+ep").arg(&file).output();
        let is_given = given.is_ok_and(|given| given.status.success());
        let found = has_attribute(&file, c"security.capability");
        std::fs::remove_file(&file).expect("removed");
        assert_eq!(found, is_given);
    }
}
