//! Questions to the kernel over netlink whose answers are lists: sockets (sock_diag), links and queueing disciplines
//! (rtnetlink). No privilege is needed. The answers are taken apart with bounds checked: what is cut short ends the list.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
/// The kernel sends at most 32 KiB at once in a dump.
const BUFFER: usize = 64 << 10;
/// A kernel that does not answer is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Ours, so that an answer to somebody else is none to us.
const SEQUENCE: u32 = 1;

/// Whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Links, addresses, queueing disciplines.
    Route,
    /// Sockets.
    SockDiag,
}

/// Asks for a list. `each` gets the type and the body of every message and says whether it wants more. False if it did
/// not: the list was cut.
pub(crate) fn dump(
    family: Family,
    kind: u16,
    body: &[u8],
    mut each: impl FnMut(u16, &[u8]) -> bool,
) -> io::Result<bool> {
    let socket = open(family)?;
    send(&socket, &request(kind, body))?;
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = vec![0_u8; BUFFER];
    loop {
        let received = receive(&socket, &mut buffer, 0)?;
        for message in messages(received).filter(|message| message.sequence == SEQUENCE) {
            match message.kind {
                NLMSG_DONE => return Ok(true),
                NLMSG_ERROR => return Err(error_in(message.body)),
                kind if !each(kind, message.body) => return Ok(false),
                _ => {}
            }
        }
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// Listens to what the kernel tells a group. Which groups need a privilege the attempt tells.
#[derive(Debug)]
pub(crate) struct Subscription {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// Bytes that wait to be taken; more than the usual, where that is allowed.
const WAITING_MAX: libc::c_int = 8 << 20;
/// Datagrams that are taken at once: those that come meanwhile are for the next time.
const TAKEN_MAX: usize = 100_000;

impl Subscription {
    /// Groups by their bits: the first is 1.
    pub(crate) fn new(family: Family, groups: u32) -> io::Result<Self> {
        let socket = open(family)?;
        let most = WAITING_MAX;
        // SAFETY: `most` is valid for reads of the length given, and of the type this option takes. Where it is
        // refused the usual size has to do.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                (&raw const most).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            );
        }
        // SAFETY: plain numbers, for which zero is a value.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        (address.nl_family, address.nl_groups) = (libc::AF_NETLINK as libc::sa_family_t, groups);
        // SAFETY: `address` is valid for reads of its size.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_nl>() as libc::socklen_t,
            )
        };
        if bound == 0 { Ok(Self { socket, buffer: vec![0; BUFFER] }) } else { Err(io::Error::last_os_error()) }
    }

    /// Hands over what has come, and does not wait for more. True where some of it did not fit and is lost.
    pub(crate) fn take(&mut self, mut each: impl FnMut(u16, &[u8])) -> io::Result<bool> {
        let mut is_lost = false;
        for _ in 0..TAKEN_MAX {
            match receive(&self.socket, &mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(received) => messages(received).for_each(|message| each(message.kind, message.body)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => is_lost = true,
                Err(error) => return Err(error),
            }
        }
        Ok(is_lost)
    }
}

fn request(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut request = Vec::with_capacity(HEADER + body.len());
    request.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request.extend(SEQUENCE.to_ne_bytes());
    request.extend(0_u32.to_ne_bytes());
    request.extend(body);
    request
}

/// The error a message carries: a negative number.
fn error_in(body: &[u8]) -> io::Error {
    let code = u32_at(body, 0).map_or(0, |code| code as i32);
    io::Error::from_raw_os_error(code.checked_neg().filter(|code| *code > 0).unwrap_or(libc::EPROTO))
}

fn open(family: Family) -> io::Result<OwnedFd> {
    let protocol = match family {
        Family::Route => libc::NETLINK_ROUTE,
        Family::SockDiag => libc::NETLINK_SOCK_DIAG,
    };
    // SAFETY: a system call with plain numbers.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let wait = libc::timeval { tv_sec: PATIENCE.as_secs() as libc::time_t, tv_usec: 0 };
    // SAFETY: `wait` is valid for reads of the length given, and of the type this option takes.
    let done = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const wait).cast(),
            size_of::<libc::timeval>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}

/// Without an address: to the kernel.
fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: `bytes` is valid for reads of its length.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
    if sent == bytes.len() as isize { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// One datagram. Only the kernel may send to such a socket without CAP_NET_ADMIN.
fn receive<'a>(socket: &OwnedFd, buffer: &'a mut [u8], flags: libc::c_int) -> io::Result<&'a [u8]> {
    loop {
        // SAFETY: `buffer` is valid for writes of its length.
        let count = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags) };
        match usize::try_from(count) {
            Ok(count) => return Ok(buffer.get(..count).unwrap_or_default()),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// One message of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Message<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

/// The messages of a datagram. Lengths that make no sense end it.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        let body = bytes.get(HEADER..length)?;
        let message = Message { kind: u16_at(bytes, 4)?, sequence: u32_at(bytes, 8)?, body };
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in a body, with their type and value. Lengths that make no sense end them.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    // The two upper bits say how it is to be read, not what it is.
    const TYPE: u16 = 0x3fff;
    std::iter::from_fn(move || {
        let length = u16_at(bytes, 0)? as usize;
        let value = bytes.get(4..length)?;
        let kind = u16_at(bytes, 2)? & TYPE;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

/// A number of the kernel at an offset, if the bytes reach so far. What an older kernel does not tell is not there.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// See `u16_at`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// See `u16_at`.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Message, attributes, messages, request, u64_at};

    /// Two messages as a kernel on x86-64 sends them: one with a body of 5 bytes and its padding, one without a body.
    const TWO: &[u8] = &[
        21, 0, 0, 0, 20, 0, 2, 0, 1, 0, 0, 0, 9, 9, 0, 0, b'h', b'e', b'l', b'l', b'o', 0, 0, 0, //
        16, 0, 0, 0, 3, 0, 2, 0, 1, 0, 0, 0, 9, 9, 0, 0,
    ];

    #[test]
    fn messages_and_attributes_end_where_the_kernel_says() {
        let found: Vec<_> = messages(TWO).collect();
        assert_eq!(
            found,
            [Message { kind: 20, sequence: 1, body: b"hello" }, Message { kind: 3, sequence: 1, body: b"" }]
        );
        // A length of 0 would never end, one past the end reads what is not there.
        assert_eq!(messages(&[0; 40]).count(), 0);
        assert_eq!(messages(&TWO[..20]).count(), 0);
        let attribute = [6, 0, 1, 0x80, b'l', b'o', 0, 0, 5, 0, 2, 0, 7];
        assert_eq!(attributes(&attribute).collect::<Vec<_>>(), [(1, &b"lo"[..]), (2, &[7][..])]);
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(u64_at(&[0; 8], usize::MAX), None);
    }

    #[test]
    fn what_is_asked_is_a_message_too() {
        let bytes = request(20, b"abc");
        let found: Vec<_> = messages(&bytes).collect();
        assert_eq!(found, [Message { kind: 20, sequence: 1, body: b"abc" }]);
    }

    proptest! {
        #[test]
        fn no_answer_is_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(messages(&bytes).count() <= bytes.len());
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }

        #[test]
        fn a_damaged_answer_is_no_panic(at in 0..TWO.len(), byte in any::<u8>(), end in 0..=TWO.len()) {
            let mut bytes = TWO.to_vec();
            bytes[at] = byte;
            prop_assert!(messages(&bytes[..end]).count() <= 2);
        }
    }
}
