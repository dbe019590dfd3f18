//! Starts processes (by `launch`) and waits for them.

#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use crate::model::event::Exit;
use crate::sys::confine::Confinement;
use crate::sys::launch::{Launch, Launched, Own};

/// Of a thread that only waits.
const WAITER_STACK: usize = 64 << 10;

/// What to start.
#[derive(Debug)]
pub(crate) struct Command<'a> {
    /// Already found: no search happens here.
    pub(crate) program: &'a Path,
    /// With the name of the program as the first.
    pub(crate) argv: &'a [&'a OsStr],
    pub(crate) env: &'a Environment,
    /// Added to the environment, or replacing what is there.
    pub(crate) extra_env: &'a [(&'a OsStr, &'a OsStr)],
    pub(crate) cwd: Option<&'a Path>,
    /// Size of the pipes for output; the kernel's default where absent.
    pub(crate) pipe_size: Option<usize>,
    /// A descriptor of ours that the child has too, by the same number.
    pub(crate) also: Option<RawFd>,
    /// Files of control groups (`cgroup.procs`) that it joins before its first instruction.
    pub(crate) joins: &'a [File],
    /// What confines it from before its first instruction on.
    pub(crate) confinement: Option<&'a Confinement>,
}

/// A started process, leader of a process group of its own.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: i32,
    /// Readable when the process has ended: a pidfd, where the kernel has them.
    pub(crate) end: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// Our copies of the other ends. While they are open the end of the process is one event, that of `end`, and not
    /// three: each wakes a thread, which costs more than what it then does. Drop them to see the end of the streams.
    pub(crate) writers: [OwnedFd; 2],
}

/// What a process and the children it waited for used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rusage {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    /// Of the largest single process, in bytes.
    pub(crate) memory_peak: u64,
}

/// The environment that children get, prepared once.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    /// `NAME=value`, in order.
    block: Vec<CString>,
    index: HashMap<OsString, usize>,
}

impl Environment {
    /// Whether it has this variable.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.index.contains_key(OsStr::new(name))
    }

    /// Prepares these variables. One with a NUL or without a name cannot be passed on and is left out.
    pub(crate) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut environment = Self::default();
        for (name, value) in variables {
            if let Some(entry) = entry(&name, &value) {
                match environment.index.get(&name) {
                    Some(at) => environment.block[*at] = entry,
                    None => {
                        environment.index.insert(name, environment.block.len());
                        environment.block.push(entry);
                    }
                }
            }
        }
        environment
    }
}

fn entry(name: &OsStr, value: &OsStr) -> Option<CString> {
    if name.is_empty() || name.as_bytes().contains(&b'=') {
        return None;
    }
    let mut text = Vec::with_capacity(name.len() + value.len() + 2);
    text.extend_from_slice(name.as_bytes());
    text.push(b'=');
    text.extend_from_slice(value.as_bytes());
    CString::new(text).ok()
}

fn c_string(text: &OsStr, what: &str) -> io::Result<CString> {
    CString::new(text.as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{what} {text:?} contains a NUL byte")))
}

/// A pipe whose ends no child inherits by accident. Neither end is one of 0, 1, 2, also when those were closed.
pub(crate) fn pipe(size: Option<usize>) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: `fds` has room for two descriptors; after success both are open and owned by nobody else.
    let (read, write) = unsafe {
        if libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return Err(io::Error::last_os_error());
        }
        (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))
    };
    if let Some(size) = size {
        // SAFETY: a plain fcntl on a descriptor we own. A refused size leaves the default: slower, not wrong.
        unsafe { libc::fcntl(read.as_raw_fd(), libc::F_SETPIPE_SZ, size as libc::c_int) };
    }
    Ok((read, write))
}

/// Makes sure that descriptors 0, 1 and 2 are open, so that no file of ours takes their place and no child writes into
/// it. Called once at the start.
#[expect(clippy::disallowed_methods, reason = "kernel: /dev/null")]
pub(crate) fn fill_standard_descriptors() -> io::Result<()> {
    for fd in 0..=2 {
        // SAFETY: fcntl(F_GETFD) only asks; open takes a constant path and returns the lowest free descriptor, `fd`.
        unsafe {
            if libc::fcntl(fd, libc::F_GETFD) == -1 && libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) == -1 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

/// Something to read nothing from: /dev/null, or in a root without one a pipe that nobody writes to.
#[expect(clippy::disallowed_methods, reason = "kernel: /dev/null")]
fn nothing() -> io::Result<&'static OwnedFd> {
    static NOTHING: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(fd) = NOTHING.get() {
        return Ok(fd);
    }
    let opened = match std::fs::File::open("/dev/null") {
        Ok(file) => OwnedFd::from(file),
        Err(_) => pipe(None)?.0,
    };
    Ok(NOTHING.get_or_init(|| opened))
}

/// The controlling terminal of apm, if it has one.
#[expect(clippy::disallowed_methods, reason = "kernel: /dev/tty")]
fn terminal() -> Option<RawFd> {
    static TERMINAL: OnceLock<Option<File>> = OnceLock::new();
    let open = || File::options().read(true).custom_flags(libc::O_NOCTTY).open("/dev/tty").ok();
    TERMINAL.get_or_init(open).as_ref().map(AsRawFd::as_raw_fd)
}

/// A started process that has apm's own streams, terminal and process group.
#[derive(Debug)]
pub(crate) struct Companion {
    pub(crate) pid: i32,
    /// Readable when the process has ended: a pidfd, where the kernel has them.
    pub(crate) end: OwnedFd,
}

/// Starts a process beside apm, as a shell does in its own group: what is typed, printed and pressed goes past apm.
/// Signals that apm was started to ignore stay ignored.
pub(crate) fn spawn_beside(command: &Command<'_>) -> io::Result<Companion> {
    let (pid, end) = launch(command, None)?;
    Ok(Companion { pid, end })
}

/// Starts a process in a group of its own, with standard input from /dev/null, both outputs in pipes, and every signal at
/// its default: apm ignores SIGPIPE, and a child must not inherit that. It has no controlling
/// terminal: a program that asks something there (ssh, sudo) fails at once, where the kernel would stop it for ever.
pub(crate) fn spawn(command: &Command<'_>) -> io::Result<Child> {
    let (stdout, stdout_theirs) = pipe(command.pipe_size)?;
    let (stderr, stderr_theirs) = pipe(command.pipe_size)?;
    let streams = [nothing()?.as_raw_fd(), stdout_theirs.as_raw_fd(), stderr_theirs.as_raw_fd()];
    let (pid, end) = launch(command, Some(Own { streams, terminal: terminal() }))?;
    Ok(Child { pid, end, stdout, stderr, writers: [stdout_theirs, stderr_theirs] })
}

fn launch(command: &Command<'_>, own: Option<Own>) -> io::Result<(i32, OwnedFd)> {
    let program = c_string(command.program.as_os_str(), "the program")?;
    let cwd = command.cwd.map(|cwd| c_string(cwd.as_os_str(), "the folder")).transpose()?;
    let argv: Vec<CString> =
        command.argv.iter().map(|word| c_string(word, "the argument")).collect::<io::Result<_>>()?;

    let mut extra = Vec::with_capacity(command.extra_env.len());
    for (name, value) in command.extra_env {
        extra.push(entry(name, value).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("the variable {name:?} cannot be passed on"))
        })?);
    }
    let mut env: Vec<&CStr> = command.env.block.iter().map(CString::as_c_str).collect();
    for ((name, _), text) in command.extra_env.iter().zip(&extra) {
        match command.env.index.get(*name) {
            Some(at) => env[*at] = text,
            None => env.push(text),
        }
    }
    let joins: Vec<RawFd> = command.joins.iter().map(AsRawFd::as_raw_fd).collect();
    let launch = Launch {
        program: &program,
        argv: argv.iter().map(CString::as_c_str).collect(),
        env: env.into_iter().collect(),
        cwd: cwd.as_deref(),
        own,
        also: command.also,
        joins: &joins,
        confinement: command.confinement,
    };
    let Launched { pid, pidfd, failed } = launch.start()?;
    if let Some(error) = failed {
        wait(pid)?;
        return Err(error);
    }
    match pidfd.map_or_else(|| end_of(pid), Ok) {
        Ok(end) => Ok((pid, end)),
        Err(error) => {
            // Out of descriptors, for instance. Without it nobody could wait for it: end it, it is ours.
            // SAFETY: the child has not been waited for, so the number is still its.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            wait(pid)?;
            Err(error)
        }
    }
}

/// A descriptor that becomes readable at the end of a child.
fn end_of(child: i32) -> io::Result<OwnedFd> {
    match pidfd_open(child) {
        Err(error) if has_no_pidfds(&error) => waited_for(child),
        opened => opened,
    }
}

/// Whether the kernel (before 5.3) or a seccomp filter that does not know them refuses pidfds.
pub(crate) fn has_no_pidfds(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}

/// In place of a pidfd a pipe, whose other end a thread holds until the child has ended.
fn waited_for(child: i32) -> io::Result<OwnedFd> {
    let (ended, held) = pipe(None)?;
    let wait = move || {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        let flags = libc::WEXITED | libc::WNOWAIT;
        // SAFETY: `info` is valid for writes. The child stays in the process table for `wait`, which may come first: then
        // it is no child any more, and this returns.
        while unsafe { libc::waitid(libc::P_PID, child as libc::id_t, info.as_mut_ptr(), flags) } != 0
            && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
        {}
        drop(held);
    };
    std::thread::Builder::new().name("end of child".to_owned()).stack_size(WAITER_STACK).spawn(wait)?;
    Ok(ended)
}

/// A descriptor that stands for a process and becomes readable at its end.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: a system call with plain numbers; a result that is not negative is a new descriptor, close-on-exec.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd as RawFd)) }
    }
}

/// Waits for a child and takes it out of the process table.
pub(crate) fn wait(pid: i32) -> io::Result<(Exit, Rusage)> {
    let mut status = 0;
    let mut usage = MaybeUninit::zeroed();
    loop {
        // SAFETY: both pointers are valid for writes; rusage is plain data, all zero is a valid value.
        let done = unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) };
        if done == pid {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: zeroed above and filled by wait4.
    let usage: libc::rusage = unsafe { usage.assume_init() };
    let time = |t: libc::timeval| Duration::new(t.tv_sec.max(0) as u64, (t.tv_usec.max(0) as u32) * 1000);
    let exit = if libc::WIFSIGNALED(status) {
        Exit::Signal(libc::WTERMSIG(status))
    } else {
        Exit::Code(libc::WEXITSTATUS(status))
    };
    let memory_peak = (usage.ru_maxrss.max(0) as u64) << 10;
    Ok((exit, Rusage { user: time(usage.ru_utime), system: time(usage.ru_stime), memory_peak }))
}

/// Which of the descriptors can be read (or are at their end), after at most `timeout`.
pub(crate) fn poll<const N: usize>(fds: [Option<RawFd>; N], timeout: Option<Duration>) -> io::Result<[bool; N]> {
    let mut polled = fds.map(|fd| libc::pollfd { fd: fd.unwrap_or(-1), events: libc::POLLIN, revents: 0 });
    let timeout = timeout.map_or(-1, |t| i32::try_from(t.as_millis().max(1)).unwrap_or(i32::MAX));
    // SAFETY: the pointer and the count describe `polled`; negative descriptors are skipped by the kernel.
    if unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, timeout) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
        return Ok([false; N]);
    }
    Ok(polled.map(|entry| entry.revents != 0))
}

/// Reads once.
pub(crate) fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        // SAFETY: pointer and length describe `buffer`.
        let count = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
        if count >= 0 {
            return Ok(count as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::{OsStr, OsString};
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use super::{Command, Environment, spawn, wait};
    use crate::model::event::Exit;

    fn shell(script: &[u8], cwd: Option<&Path>, extra: &[(&OsStr, &OsStr)]) -> (Exit, String) {
        let env = Environment::new([("A".into(), "one".into()), ("B".into(), "two".into())]);
        let argv = [OsStr::new("sh"), OsStr::new("-c"), OsStr::from_bytes(script)];
        let command = Command {
            program: Path::new("/bin/sh"),
            argv: &argv,
            env: &env,
            extra_env: extra,
            cwd,
            pipe_size: None,
            also: None,
            joins: &[],
            confinement: None,
        };
        let child = spawn(&command).expect("a shell");
        drop(child.writers);
        let mut out = Vec::new();
        std::fs::File::from(child.stdout).read_to_end(&mut out).expect("its output");
        let (exit, _) = wait(child.pid).expect("its end");
        (exit, String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn environment_folder_and_exit_arrive() {
        let extra: [(&OsStr, &OsStr); 2] =
            [(OsStr::new("B"), OsStr::new("changed")), (OsStr::new("C"), OsStr::new("3"))];
        let (exit, out) = shell(b"echo $A $B $C; pwd; exit 7", Some(Path::new("/usr")), &extra);
        assert_eq!((exit, out.as_str()), (Exit::Code(7), "one changed 3\n/usr\n"));
        assert_eq!(shell(b"kill -9 $$", None, &[]).0, Exit::Signal(9));
        assert_eq!(shell(b"printf '\xff' | od -An -tx1", None, &[]).1.trim(), "ff");
    }

    #[test]
    fn a_child_starts_clean() {
        let script = "ls /proc/self/fd | tr '\\n' ' '; cut -d' ' -f5 /proc/$$/stat; echo $$; grep -E 'Sig(Blk|Ign)' /proc/self/status";
        let (_, out) = shell(script.as_bytes(), None, &[]);
        // What the tests themselves were given (a jobserver, say) is passed on, as every shell does.
        let given = std::process::Command::new("ls").arg("/proc/self/fd").output().expect("ls");
        let given = String::from_utf8_lossy(&given.stdout).replace('\n', " ");
        let mut lines = out.lines();
        let first = lines.next().expect("descriptors and group");
        let pid = lines.next().expect("its pid");
        assert_eq!(first, format!("{given}{pid}"), "no descriptor of ours, and a group of its own");
        for line in lines {
            // 32 and 33 belong to the C library; what was ignored before cannot be reset through it.
            let mask = u64::from_str_radix(line.split(':').nth(1).unwrap_or_default().trim(), 16).expect("a mask");
            assert_eq!(mask & !(0b11 << 31), 0, "{line}");
        }
    }

    #[test]
    fn what_cannot_be_started_is_said() {
        let env = Environment::new([]);
        let argv = [OsStr::new("x")];
        let mut command = Command {
            program: Path::new("/nonexistent"),
            argv: &argv,
            env: &env,
            extra_env: &[],
            cwd: None,
            pipe_size: None,
            also: None,
            joins: &[],
            confinement: None,
        };
        assert_eq!(spawn(&command).expect_err("no program").raw_os_error(), Some(libc::ENOENT));
        command.program = Path::new("/bin/true");
        command.cwd = Some(Path::new("/nonexistent"));
        assert_eq!(spawn(&command).expect_err("no folder").raw_os_error(), Some(libc::ENOENT));
        let nul = OsString::from("a\0b");
        let argv = [nul.as_os_str()];
        command.argv = &argv;
        assert!(spawn(&command).expect_err("a NUL").to_string().contains("NUL"));
    }
}
