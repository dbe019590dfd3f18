//! A gate before a program: a stage (`sys::stage`) stands at it until apm is ready to see the program's first
//! instruction. It is a full pipe: the stage writes into it and waits until there is
//! room. When apm dies the pipe has no reader any more, and the stage fails instead of waiting for ever, which it would at
//! a FIFO.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use crate::sys::spawn;

/// Bytes a pipe holds at most where nobody made it larger: 64 KiB with the largest pages, with room to spare.
const PIPE_MAX: usize = 4 << 20;

/// A gate. The stage finds it while this value lives.
#[derive(Debug)]
pub(crate) struct Gate {
    read: OwnedFd,
    write: OwnedFd,
}

impl Gate {
    /// One that is closed.
    pub(crate) fn closed() -> io::Result<Self> {
        // The kernel rounds up to a page.
        let (read, write) = spawn::pipe(Some(1))?;
        let gate = Self { read, write };
        do_not_wait(&gate.write)?;
        let block = [0; 4096];
        let mut filled = 0;
        while filled < PIPE_MAX {
            // SAFETY: pointer and length describe `block`.
            let count = unsafe { libc::write(gate.write.as_raw_fd(), block.as_ptr().cast(), block.len()) };
            match usize::try_from(count) {
                Ok(count) => filled += count,
                Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock => return Ok(gate),
                Err(_) => return Err(io::Error::last_os_error()),
            }
        }
        Err(io::Error::other("a pipe that is never full"))
    }

    /// What the stage writes to. It opens it anew, so that its writing waits, and inherits nothing.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.write.as_raw_fd()).into()
    }

    /// Lets the stage through. The value must live until the program runs: without a reader the writing would fail.
    pub(crate) fn open(&self) -> io::Result<()> {
        do_not_wait(&self.read)?;
        let mut block = [0; 4096];
        for _ in 0..PIPE_MAX / block.len() {
            match spawn::read(self.read.as_raw_fd(), &mut block) {
                Ok(1..) => {}
                Ok(0) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn do_not_wait(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: a plain fcntl on a descriptor we own; of the flags of a pipe only this one can be changed.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Gate;

    #[test]
    fn a_writer_waits_until_the_gate_is_opened() {
        let gate = Gate::closed().expect("a gate");
        let path = gate.path();
        let (tell, told) = std::sync::mpsc::channel();
        let writer = std::thread::spawn(move || {
            let written = std::fs::write(path, "0");
            tell.send(()).expect("a listener");
            written
        });
        assert!(told.recv_timeout(Duration::from_millis(20)).is_err(), "it waits");
        gate.open().expect("opened");
        told.recv().expect("it goes on");
        writer.join().expect("no panic").expect("written");
    }
}
