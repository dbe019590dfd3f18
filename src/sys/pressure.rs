//! Waits for stalls: the kernel wakes the waiter when tasks have waited so long for a resource. Works without root where
//! the window is a multiple of two seconds.

#![expect(clippy::disallowed_methods, reason = "kernel: /proc/pressure and control groups")]

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// Stall within the window that wakes: 7.5 % of it.
const STALL_US: u64 = 150_000;
/// The shortest window that users other than root may ask for.
const WINDOW_US: u64 = 2_000_000;

/// Triggers on the pressure files, as long as they are kept.
#[derive(Debug)]
pub(crate) struct Triggers {
    files: Vec<File>,
}

impl Triggers {
    /// Sets them on CPU, memory and I/O below a folder: /proc/pressure.
    pub(crate) fn set(folder: &Path) -> io::Result<Self> {
        let set = |name: &str| {
            let mut options = OpenOptions::new();
            let mut file = options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open(folder.join(name))?;
            // The kernel wants the zero at the end.
            file.write_all(format!("some {STALL_US} {WINDOW_US}\0").as_bytes())?;
            Ok(file)
        };
        Ok(Self { files: ["cpu", "memory", "io"].into_iter().map(set).collect::<io::Result<_>>()? })
    }

    /// Waits until one fires, or so long. True: one fired.
    #[allow(unsafe_code)]
    pub(crate) fn wait(&self, time: Duration) -> io::Result<bool> {
        let polled = |file: &File| libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLPRI, revents: 0 };
        let mut polled: Vec<libc::pollfd> = self.files.iter().map(polled).collect();
        let timeout = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the slice is valid for reads and writes for as long as the call takes.
        let count = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout) };
        if count >= 0 {
            return Ok(polled.iter().any(|one| one.revents & libc::POLLPRI != 0));
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            error => Err(error),
        }
    }
}
