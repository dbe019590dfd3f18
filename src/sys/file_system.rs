//! Room on file systems, and what a file takes of it.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::model::snapshot::disk::Space;

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
