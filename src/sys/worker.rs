//! Another process of apm for work on files that may be made to break whoever reads them: what hangs, crashes or wants all
//! memory there ends that process, and apm goes on. The two talk by a socket; each request brings an open file.

#![allow(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, setrlimit};

use crate::sys::{signal, spawn};

/// The first argument of such a process.
const WORD: &str = "__worker";
/// Exit code where the arguments are wrong.
const FAILED: i32 = 126;
/// Interval at which the caller is asked whether it still waits for the answer.
const ASK: Duration = Duration::from_millis(20);

/// What a worker may use in its whole life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of memory that it writes to. What it maps of a file does not count: the kernel can take that back.
    pub(crate) memory: u64,
    /// CPU time: also one whose apm was killed comes to an end.
    pub(crate) cpu: Duration,
    /// Longest request and answer, bytes.
    pub(crate) message: u32,
}

/// A worker that runs. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Worker {
    child: spawn::Child,
    socket: UnixStream,
    limits: Limits,
}

impl Worker {
    /// Starts one.
    pub(crate) fn start(limits: Limits) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let numbers =
            [theirs.as_raw_fd().into(), limits.memory as i64, limits.cpu.as_secs() as i64, limits.message.into()];
        let numbers = numbers.map(|number: i64| number.to_string());
        let mut argv = vec![OsStr::new("apm"), OsStr::new(WORD)];
        argv.extend(numbers.iter().map(OsStr::new));
        let child = spawn::spawn(&spawn::Command {
            // The kernel's own link: right also after the file was replaced or removed.
            program: Path::new("/proc/self/exe"),
            argv: &argv,
            env: &spawn::Environment::default(),
            extra_env: &[],
            cwd: None,
            pipe_size: None,
            also: Some(theirs.as_raw_fd()),
            joins: &[],
            confinement: None,
        })?;
        socket.set_read_timeout(Some(ASK))?;
        socket.set_write_timeout(Some(ASK))?;
        Ok(Self { child, socket, limits })
    }

    /// Sends a request with a file and waits for the answer, until it is too late or nobody wants it any more.
    /// `TimedOut` then; any other error is the end of the worker.
    pub(crate) fn ask(
        &mut self,
        request: &[u8],
        file: &File,
        until: Instant,
        is_wanted: impl Fn() -> bool,
    ) -> io::Result<Vec<u8>> {
        let go_on = || Instant::now() < until && is_wanted();
        let length = self.length(request.len() as u64)?;
        send_file(&self.socket, &length.to_ne_bytes(), file)?;
        let mut left = request;
        while !left.is_empty() {
            match self.socket.write(left) {
                Ok(count) => left = &left[count..],
                Err(error) => passed(error, &go_on)?,
            }
        }
        let mut length = [0; 4];
        self.fill(&mut length, &go_on)?;
        let mut answer = vec![0; self.length(u32::from_ne_bytes(length).into())? as usize];
        self.fill(&mut answer, &go_on)?;
        Ok(answer)
    }

    fn length(&self, length: u64) -> io::Result<u32> {
        let short = u32::try_from(length).ok().filter(|length| *length <= self.limits.message);
        short.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "the message is too long"))
    }

    fn fill(&mut self, mut room: &mut [u8], go_on: &dyn Fn() -> bool) -> io::Result<()> {
        while !room.is_empty() {
            match self.socket.read(room) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => room = &mut room[count..],
                Err(error) => passed(error, go_on)?,
            }
        }
        Ok(())
    }
}

/// Nothing could be read or written for a moment, which is an error once it is too late.
fn passed(error: io::Error, go_on: &dyn Fn() -> bool) -> io::Result<()> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted if go_on() => Ok(()),
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Err(ErrorKind::TimedOut.into()),
        _ => Err(error),
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It has not been waited for: the number is still its. What it was in is not worth an orderly end.
        let _ = signal::to_child(self.child.pid, signal::KILL);
        let _ = spawn::wait(self.child.pid);
    }
}

/// The first bytes of a message, and a file with them.
fn send_file(socket: &UnixStream, bytes: &[u8], file: &File) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut extra = SendAncillaryBuffer::new(&mut space);
    let files = [file.as_fd()];
    extra.push(SendAncillaryMessage::ScmRights(&files));
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut extra, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Works as such a process if the arguments say so; returns only if they do not, or with an exit code. `answer` makes an
/// answer of a request and its file.
pub(crate) fn entry(argv: &[OsString], answer: fn(&[u8], File) -> Vec<u8>) -> Option<i32> {
    if argv.get(1).is_none_or(|word| word != WORD) {
        return None;
    }
    let numbers: Vec<u64> = argv[2..].iter().filter_map(|word| word.to_str()?.parse().ok()).collect();
    let [socket, memory, cpu, message] = numbers[..] else { return Some(FAILED) };
    let Some(socket) = socket_of(socket) else { return Some(FAILED) };
    // What crashes here leaves no core: it would be another user's memory in a file, and time.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    for (resource, most) in [(Resource::Data, memory), (Resource::Cpu, cpu)] {
        // Somebody's lower limit stays.
        let most = rustix::process::getrlimit(resource).maximum.map_or(most, |limit| limit.min(most));
        if setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }).is_err() {
            return Some(FAILED);
        }
    }
    Some(serve(socket, message, answer).map_or(FAILED, |()| 0))
}

fn socket_of(number: u64) -> Option<UnixStream> {
    let number = RawFd::try_from(number).ok()?;
    // SAFETY: sets a flag of a number, which is an error where it is not open. Where it is, nobody else in this process,
    // which has just begun, knows it.
    unsafe {
        (number > 2 && libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) == 0)
            .then(|| UnixStream::from_raw_fd(number))
    }
}

/// Answers until apm has no more questions.
fn serve(mut socket: UnixStream, message: u64, answer: fn(&[u8], File) -> Vec<u8>) -> io::Result<()> {
    while let Some((length, file)) = received(&socket)? {
        if u64::from(length) > message {
            return Err(ErrorKind::InvalidData.into());
        }
        let mut request = vec![0; length as usize];
        socket.read_exact(&mut request)?;
        let answer = answer(&request, file);
        let length = u32::try_from(answer.len()).map_err(io::Error::other)?;
        socket.write_all(&length.to_ne_bytes())?;
        socket.write_all(&answer)?;
    }
    Ok(())
}

/// The length of the next request and its file; nothing at the end.
fn received(socket: &UnixStream) -> io::Result<Option<(u32, File)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut extra = RecvAncillaryBuffer::new(&mut space);
    let mut length = [0; 4];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
    let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut length)], &mut extra, flags)?;
    if got.bytes == 0 {
        return Ok(None);
    }
    let files = extra.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    let file = files.map(File::from).next().ok_or(ErrorKind::InvalidData)?;
    Ok(Some((u32::from_ne_bytes(length), file)))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::{entry, send_file, serve};

    #[test]
    fn a_request_brings_its_file() {
        let (mut ours, theirs) = UnixStream::pair().expect("a pair");
        let echo = |request: &[u8], mut file: File| {
            let mut text = request.to_vec();
            file.read_to_end(&mut text).expect("read");
            text
        };
        let server = std::thread::spawn(move || serve(theirs, 100, echo));
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"123").expect("written");
        for text in [&b"abc"[..], b""] {
            std::io::Seek::rewind(&mut file).expect("from the start");
            send_file(&ours, &(text.len() as u32).to_ne_bytes(), &file).expect("sent");
            ours.write_all(text).expect("sent");
            let mut length = [0; 4];
            ours.read_exact(&mut length).expect("answered");
            let mut answer = vec![0; u32::from_ne_bytes(length) as usize];
            ours.read_exact(&mut answer).expect("answered");
            assert_eq!(answer, [text, b"123"].concat());
        }
        drop(ours);
        server.join().expect("no panic").expect("the end of the questions is no error");
    }

    #[test]
    fn only_its_own_arguments_enter_it() {
        let argv = |words: &[&str]| words.iter().map(Into::into).collect::<Vec<std::ffi::OsString>>();
        let never = |_: &[u8], _: File| Vec::new();
        assert_eq!(entry(&argv(&["apm", "run"]), never), None);
        assert_eq!(entry(&argv(&["apm"]), never), None);
        assert_eq!(
            entry(&argv(&["apm", "__worker", "1", "1", "1", "1"]), never),
            Some(126),
            "standard output is no socket"
        );
        assert_eq!(entry(&argv(&["apm", "__worker", "x"]), never), Some(126));
    }
}
