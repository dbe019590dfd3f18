//! Files that are in memory alone, have no name in any folder and are gone with their last descriptor.

use std::ffi::CStr;
use std::fs::File;
use std::io;

use rustix::fs::MemfdFlags;

/// An empty one; the name is for `/proc/PID/fd`.
pub(crate) fn create(name: &CStr) -> io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?))
}
