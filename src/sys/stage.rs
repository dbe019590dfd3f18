//! The stage between `posix_spawn` and a program that belongs into a control group: apm executes itself, joins the
//! groups, and becomes the program. So the program is a member from its first instruction; joining it from outside
//! would leave a moment in which it could fork away.

#![allow(unsafe_code)]

use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

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
}

impl Stage {
    /// A stage that joins these groups.
    pub(crate) fn new(joins: Vec<PathBuf>) -> Self {
        // The kernel's own link: right also after the file was replaced or removed.
        Self { own: PathBuf::from("/proc/self/exe"), joins }
    }

    /// What to start instead of the program. The link is resolved by the child, which shares apm's image until then.
    pub(crate) fn program(&self) -> &Path {
        &self.own
    }

    /// Its arguments: `apm __exec JOIN... -- PROGRAM ARGV0 ARG...`.
    pub(crate) fn argv<'a>(&'a self, program: &'a OsStr, words: &[&'a OsStr]) -> Vec<&'a OsStr> {
        let mut argv = vec![OsStr::new("apm"), OsStr::new(WORD)];
        argv.extend(self.joins.iter().map(|path| path.as_os_str()));
        argv.extend([OsStr::new("--"), program]);
        argv.extend(words);
        argv
    }
}

/// Enters the stage if the arguments say so; returns only if they do not, or with the exit code of a failure.
pub(crate) fn entry(argv: &[OsString]) -> Option<i32> {
    if argv.get(1).is_none_or(|word| word != WORD) {
        return None;
    }
    let error = become_program(&argv[2..]);
    // The only line this stage ever prints; nobody is left to hear that even this failed.
    let _ = writeln!(io::stderr(), "apm: error: {error}");
    Some(FAILED)
}

fn become_program(words: &[OsString]) -> io::Error {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "`__exec` is for apm itself");
    let Some(end) = words.iter().position(|word| word == "--") else { return wrong() };
    let (joins, command) = (&words[..end], &words[end + 1..]);
    for join in joins {
        if let Err(error) = fs::write(join, "0") {
            return io::Error::new(error.kind(), format!("join `{}`: {error}", Path::new(join).display()));
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
    let error = io::Error::last_os_error();
    io::Error::new(error.kind(), format!("start `{}`: {error}", OsStr::from_bytes(program.as_bytes()).display()))
}
