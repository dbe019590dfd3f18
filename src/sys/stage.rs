//! The stage before a program that is profiled: apm executes itself, waits at a gate (`sys::gate`) until the program's
//! first instruction can be seen, and becomes the program. What keeps it from that it tells by a pipe that the program
//! does not inherit: its exit code and its output belong to the program.

#![allow(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "kernel: a descriptor of apm, by /proc")]

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::sys::spawn;

/// The first argument that enters the stage.
const WORD: &str = "__exec";
/// Exit code of a stage that could not do its work, as a shell's for a program that cannot be executed.
const FAILED: i32 = 126;

/// How to start a program through the stage.
#[derive(Debug)]
pub(crate) struct Stage {
    own: PathBuf,
    /// What it writes to, which takes until the gate opens.
    gate: PathBuf,
    report: (OwnedFd, OwnedFd),
    /// Of the end that the stage writes to.
    number: String,
}

impl Stage {
    /// A stage at this gate.
    pub(crate) fn new(gate: PathBuf) -> io::Result<Self> {
        let report = spawn::pipe(None)?;
        let number = report.1.as_raw_fd().to_string();
        // The kernel's own link: right also after the file was replaced or removed.
        Ok(Self { own: PathBuf::from("/proc/self/exe"), gate, report, number })
    }

    /// What to start instead of the program. The link is resolved by the child, which shares apm's image until then.
    pub(crate) fn program(&self) -> &Path {
        &self.own
    }

    /// The descriptor it reports by.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.report.1.as_raw_fd()
    }

    /// Its arguments: `apm __exec GATE DESCRIPTOR PROGRAM ARGV0 ARG...`.
    pub(crate) fn argv<'a>(&'a self, program: &'a OsStr, words: &[&'a OsStr]) -> Vec<&'a OsStr> {
        let own = [OsStr::new("apm"), OsStr::new(WORD), self.gate.as_os_str(), OsStr::new(&self.number), program];
        let mut argv = own.to_vec();
        argv.extend(words);
        argv
    }

    /// Why it did not become the program. Asked when its process has ended: what it said is in the pipe by then.
    pub(crate) fn failure(self) -> Option<io::Error> {
        let (read, write) = self.report;
        drop(write);
        // A child that is being started at this moment has the other end too: its exec is not waited for.
        if !spawn::poll([Some(read.as_raw_fd())], Some(Duration::ZERO)).is_ok_and(|[ready]| ready) {
            return None;
        }
        let mut said = [0; 4096];
        let count = File::from(read).read(&mut said).ok().filter(|count| *count > 0)?;
        let said = String::from_utf8_lossy(&said[..count]);
        Some(said.parse().map_or_else(|_| io::Error::other(said.into_owned()), io::Error::from_raw_os_error))
    }
}

/// Whether a process is still a stage, by its /proc/PID/cmdline.
pub(crate) fn is_it(command_line: &[u8]) -> bool {
    command_line.split(|byte| *byte == 0).nth(1) == Some(WORD.as_bytes())
}

/// Enters the stage if the arguments say so; returns only if they do not, or with the exit code of a failure.
pub(crate) fn entry(argv: &[OsString]) -> Option<i32> {
    if argv.get(1).is_none_or(|word| word != WORD) {
        return None;
    }
    let report = argv.get(3).and_then(|number| descriptor(number.to_str()?.parse().ok()?));
    let (error, told) = match report {
        Some(mut report) => {
            let error = become_program(&argv[2], &argv[4..]);
            let text = error.raw_os_error().map_or_else(|| error.to_string(), |number| number.to_string());
            (error, report.write_all(text.as_bytes()).is_ok())
        }
        None => (wrong(), false),
    };
    if !told {
        // Nobody is left to hear that even this failed.
        let _ = writeln!(io::stderr(), "apm: error: {error}");
    }
    Some(FAILED)
}

fn wrong() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "`__exec` is for apm itself")
}

/// The end of the pipe that apm gave us. The program does not get it.
fn descriptor(number: RawFd) -> Option<File> {
    // SAFETY: sets a flag of a number, which is an error where it is not open. Where it is, nobody else in this process,
    // which has just begun, knows it.
    unsafe { (libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) == 0).then(|| File::from_raw_fd(number)) }
}

/// Returns only where that fails: with the bare error of the system if it was the program, in words if it was the gate.
fn become_program(gate: &OsString, command: &[OsString]) -> io::Error {
    // Never made: what is not there is no gate.
    if let Err(error) = File::options().write(true).open(gate).and_then(|mut file| file.write_all(b"0")) {
        return io::Error::other(format!("wait for apm: {error}"));
    }
    let text = |word: &OsString| CString::new(word.clone().into_vec());
    let Some(Ok(program)) = command.first().map(text) else { return wrong() };
    let Ok(argv) = command[1..].iter().map(text).collect::<Result<Vec<_>, _>>() else { return wrong() };
    let mut pointers: Vec<*const libc::c_char> = argv.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // The runtime of Rust ignores SIGPIPE; the program must not inherit that.
    // SAFETY: sets a default disposition; `program` and `argv` live until execv returns, the array ends with null.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::execv(program.as_ptr(), pointers.as_ptr());
    }
    io::Error::last_os_error()
}
