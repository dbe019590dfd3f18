//! The stage between `posix_spawn` and a program that belongs into a control group: apm executes itself, joins the
//! groups, and becomes the program. So the program is a member from its first instruction; joining it from outside
//! would leave a moment in which it could fork away. What keeps it from becoming the program it tells by a pipe that
//! the program does not inherit: its exit code and its output belong to the program.

#![allow(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "kernel: control groups")]

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
    /// Files that a process writes `0` to in order to join.
    joins: Vec<PathBuf>,
    report: (OwnedFd, OwnedFd),
    /// Of the end that the stage writes to.
    number: String,
}

impl Stage {
    /// A stage that joins these groups.
    pub(crate) fn new(joins: Vec<PathBuf>) -> io::Result<Self> {
        let report = spawn::pipe(None)?;
        let number = report.1.as_raw_fd().to_string();
        // The kernel's own link: right also after the file was replaced or removed.
        Ok(Self { own: PathBuf::from("/proc/self/exe"), joins, report, number })
    }

    /// What to start instead of the program. The link is resolved by the child, which shares apm's image until then.
    pub(crate) fn program(&self) -> &Path {
        &self.own
    }

    /// The descriptor it reports by.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.report.1.as_raw_fd()
    }

    /// Its arguments: `apm __exec JOIN... -- DESCRIPTOR PROGRAM ARGV0 ARG...`.
    pub(crate) fn argv<'a>(&'a self, program: &'a OsStr, words: &[&'a OsStr]) -> Vec<&'a OsStr> {
        let mut argv = vec![OsStr::new("apm"), OsStr::new(WORD)];
        argv.extend(self.joins.iter().map(|path| path.as_os_str()));
        argv.extend([OsStr::new("--"), OsStr::new(&self.number), program]);
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

/// Enters the stage if the arguments say so; returns only if they do not, or with the exit code of a failure.
pub(crate) fn entry(argv: &[OsString]) -> Option<i32> {
    if argv.get(1).is_none_or(|word| word != WORD) {
        return None;
    }
    let end = argv.iter().position(|word| word == "--").unwrap_or(argv.len());
    let report = argv.get(end + 1).and_then(|number| descriptor(number.to_str()?.parse().ok()?));
    let (error, told) = match report {
        Some(mut report) => {
            let error = become_program(&argv[2..end], &argv[end + 2..]);
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

/// Returns only where that fails: with the bare error of the system if it was the program, in words if it was a group.
fn become_program(joins: &[OsString], command: &[OsString]) -> io::Error {
    for join in joins {
        // Never made: what is not there is no group.
        let joined = File::options().write(true).open(join).and_then(|mut file| file.write_all(b"0"));
        if let Err(error) = joined {
            return io::Error::other(format!("join `{}`: {error}", Path::new(join).display()));
        }
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
