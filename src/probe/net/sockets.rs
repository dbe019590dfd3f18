//! TCP sockets, as sock_diag tells of them to anybody: listeners with their queues, connections in trouble, ports in use
//! towards each destination. Most of what is told is counted and forgotten, so that a snapshot stays small.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use crate::model::snapshot::net::{Connection, Destination, HalfClosed, Listener, Tcp};
use crate::sys::netlink::{Family, Subscription, attributes, dump, u32_at, u64_at};

/// Sockets looked at. Enough for every port of the default range towards one destination (28,232).
const SOCKETS_MAX: u64 = 40_000;
/// Listeners that are kept.
const LISTENERS_KEPT: usize = 1_000;
/// Connections that are kept, the worst.
const CONNECTIONS_KEPT: usize = 300;
/// Destinations that are kept, those with the most ports.
const DESTINATIONS_KEPT: usize = 10;
/// Sockets of a destination whose owners may be looked for.
const INODES_KEPT: usize = 8;
/// So many bytes in a queue make a connection remarkable.
const QUEUE_REMARKABLE: u32 = 256 << 10;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// Attributes of an answer, and their bits in the question.
const INFO: u16 = 2;
const SKMEMINFO: u16 = 7;
/// The kernel's numbers of states.
const TIME_WAIT: u8 = 6;
const CLOSE_WAIT: u8 = 8;
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;
const NEW_SYN_RECV: u8 = 12;
const SYN_RECV: u8 = 3;

/// Reads them.
pub(crate) fn read(ports: RangeInclusive<u16>) -> io::Result<Tcp> {
    let mut sums = Sums::new(ports);
    for family in [libc::AF_INET, libc::AF_INET6] {
        let complete = dump(Family::SockDiag, SOCK_DIAG_BY_FAMILY, &question(family as u8), |_, body| sums.take(body));
        match complete {
            Ok(complete) => sums.is_cut |= !complete,
            // A kernel without IPv6 has no such sockets.
            Err(_) if family == libc::AF_INET6 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sums.finish())
}

/// `inet_diag_req_v2`: every state but closed, with tcp_info and the socket's memory.
fn question(family: u8) -> Vec<u8> {
    let wanted = (1_u8 << (INFO - 1)) | (1 << (SKMEMINFO - 1));
    let states = 0x1fff_u32 & !(1 << CLOSE);
    let mut question = vec![family, libc::IPPROTO_TCP as u8, wanted, 0];
    question.extend(states.to_ne_bytes());
    question.resize(56, 0);
    question
}

/// Hands over each TCP socket that is connected to somebody, with what the kernel counts of it (`tcp_info`).
pub(crate) fn connected(mut visit: impl FnMut(&Told<'_>)) -> io::Result<()> {
    let mut take = |body: &[u8]| {
        if let Some(told) = told(body).filter(|told| !matches!(told.state, LISTEN | TIME_WAIT)) {
            visit(&told);
        }
        true
    };
    dump(Family::SockDiag, SOCK_DIAG_BY_FAMILY, &question(libc::AF_INET as u8), |_, body| take(body))?;
    // A kernel without IPv6 has no such sockets.
    let _ = dump(Family::SockDiag, SOCK_DIAG_BY_FAMILY, &question(libc::AF_INET6 as u8), |_, body| take(body));
    Ok(())
}

/// The kernel tells of each TCP socket that is gone, with what it had counted in the end (`SKNLGRP_INET_TCP_DESTROY` and
/// that of IPv6). Whose it was it does not say; CAP_NET_ADMIN is needed.
#[derive(Debug)]
pub(crate) struct Destroyed(Subscription);

impl Destroyed {
    /// From now on.
    pub(crate) fn listen() -> io::Result<Self> {
        const DESTROYED: u32 = 1 | 1 << 2;
        Subscription::new(Family::SockDiag, DESTROYED).map(Self)
    }

    /// Hands over those that are gone since the last time. True where some are missing.
    pub(crate) fn take(&mut self, mut visit: impl FnMut(&Told<'_>)) -> io::Result<bool> {
        self.0.take(|kind, body| {
            if let Some(told) = told(body).filter(|_| kind == SOCK_DIAG_BY_FAMILY) {
                visit(&told);
            }
        })
    }
}

/// One socket of an answer: `inet_diag_msg`.
#[derive(Debug)]
pub(crate) struct Told<'a> {
    pub(crate) state: u8,
    retransmits: u8,
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    receive_queue: u32,
    send_queue: u32,
    uid: u32,
    pub(crate) inode: u64,
    pub(crate) info: &'a [u8],
    memory: &'a [u8],
}

const MESSAGE: usize = 72;

fn told(body: &[u8]) -> Option<Told<'_>> {
    let fixed = body.get(..MESSAGE)?;
    let port = |at: usize| Some(u16::from_be_bytes(fixed.get(at..at + 2)?.try_into().ok()?));
    let address = |at: usize| {
        let bytes: [u8; 16] = fixed.get(at..at + 16)?.try_into().ok()?;
        match i32::from(fixed[0]) {
            libc::AF_INET => Some(IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))),
            libc::AF_INET6 => Some(Ipv6Addr::from(bytes).to_canonical()),
            _ => None,
        }
    };
    let (mut info, mut memory) = (&[][..], &[][..]);
    for (kind, value) in attributes(&body[MESSAGE..]) {
        match kind {
            INFO => info = value,
            SKMEMINFO => memory = value,
            _ => {}
        }
    }
    Some(Told {
        state: fixed[1],
        retransmits: fixed[3],
        local: SocketAddr::new(address(8)?, port(4)?),
        peer: SocketAddr::new(address(24)?, port(6)?),
        receive_queue: u32_at(fixed, 56)?,
        send_queue: u32_at(fixed, 60)?,
        uid: u32_at(fixed, 64)?,
        inode: u64::from(u32_at(fixed, 68)?),
        info,
        memory,
    })
}

/// What is summed up while the answer comes.
#[derive(Debug)]
struct Sums {
    ports: RangeInclusive<u16>,
    seen: u64,
    is_cut: bool,
    listeners: Vec<Listener>,
    connections: Vec<Connection>,
    half_open: HashMap<u16, u32>,
    destinations: HashMap<(IpAddr, SocketAddr), Destination>,
    half_closed: HalfClosed,
}

impl Sums {
    fn new(ports: RangeInclusive<u16>) -> Self {
        Self {
            ports,
            seen: 0,
            is_cut: false,
            listeners: Vec::new(),
            connections: Vec::new(),
            half_open: HashMap::new(),
            destinations: HashMap::new(),
            half_closed: HalfClosed::default(),
        }
    }

    /// One more socket. False if it is one too many.
    fn take(&mut self, body: &[u8]) -> bool {
        if self.seen >= SOCKETS_MAX {
            return false;
        }
        self.seen += 1;
        let Some(told) = told(body) else { return true };
        match told.state {
            LISTEN => self.listen(&told),
            SYN_RECV | NEW_SYN_RECV => {
                let count = self.half_open.entry(told.local.port()).or_default();
                *count = count.saturating_add(1);
            }
            state => {
                if state == CLOSE_WAIT {
                    self.half_closed.count = self.half_closed.count.saturating_add(1);
                    if self.half_closed.inodes.len() < INODES_KEPT {
                        self.half_closed.inodes.push(told.inode);
                    }
                }
                self.count(&told);
                self.connection(&told);
            }
        }
        true
    }

    fn listen(&mut self, told: &Told<'_>) {
        if self.listeners.len() >= LISTENERS_KEPT {
            return;
        }
        self.listeners.push(Listener {
            address: told.local.to_string(),
            queue: told.receive_queue,
            backlog: told.send_queue,
            // The last of SK_MEMINFO_*, since 4.7.
            drops: u32_at(told.memory, 32).unwrap_or_default(),
            half_open: 0,
            inode: told.inode,
            uid: told.uid,
        });
    }

    fn count(&mut self, told: &Told<'_>) {
        if !self.ports.contains(&told.local.port()) {
            return;
        }
        let destination = self.destinations.entry((told.local.ip(), told.peer)).or_default();
        destination.ports = destination.ports.saturating_add(1);
        if told.state == TIME_WAIT {
            destination.time_wait = destination.time_wait.saturating_add(1);
        } else if told.inode != 0 && destination.inodes.len() < INODES_KEPT {
            destination.inodes.push(told.inode);
        }
    }

    fn connection(&mut self, told: &Told<'_>) {
        let word = |at: usize| u32_at(told.info, at).unwrap_or_default();
        let byte = |at: usize| told.info.get(at).copied().unwrap_or_default();
        let timeouts = byte(2).max(if told.info.is_empty() { told.retransmits } else { 0 });
        let (resent, backoff) = (word(100), byte(4));
        let remarkable = told.receive_queue.max(told.send_queue) >= QUEUE_REMARKABLE;
        if told.state == TIME_WAIT || (resent == 0 && backoff == 0 && timeouts == 0 && !remarkable) {
            return;
        }
        let acked = u64_at(told.info, 120).unwrap_or_default();
        // Since 4.19: sent in all, and of that sent again.
        let sent = u64_at(told.info, 200).zip(u64_at(told.info, 208));
        self.connections.push(Connection {
            local: told.local.to_string(),
            peer: told.peer.to_string(),
            state: told.state,
            rtt_us: word(68),
            resent,
            timeouts,
            backoff,
            pmtu: word(60),
            mss: word(16),
            unacked: word(24),
            sacked: word(28),
            cwnd: word(80),
            in_flight: sent.map(|(sent, again)| sent.saturating_sub(again).saturating_sub(acked)),
            acked,
            segments: u64::from(word(156)),
            silent_ms: word(56),
            receive_queue: told.receive_queue,
            send_queue: told.send_queue,
            inode: told.inode,
            uid: told.uid,
        });
        if self.connections.len() >= 2 * CONNECTIONS_KEPT {
            self.keep_the_worst();
        }
    }

    fn keep_the_worst(&mut self) {
        let badness = |one: &Connection| {
            let queue = one.receive_queue.max(one.send_queue);
            (one.resent.max(u32::from(one.timeouts)), one.backoff, queue)
        };
        self.connections.sort_by_key(|one| std::cmp::Reverse(badness(one)));
        self.connections.truncate(CONNECTIONS_KEPT);
    }

    fn finish(mut self) -> Tcp {
        self.keep_the_worst();
        for listener in &mut self.listeners {
            let port = listener.address.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
            listener.half_open = port.and_then(|port| self.half_open.get(&port)).copied().unwrap_or_default();
        }
        let mut destinations: Vec<Destination> = self
            .destinations
            .into_iter()
            .map(|((local, peer), destination)| Destination {
                local: local.to_string(),
                peer: peer.to_string(),
                ..destination
            })
            .collect();
        destinations
            .sort_by(|one, other| (other.ports, &one.peer, &one.local).cmp(&(one.ports, &other.peer, &other.local)));
        destinations.truncate(DESTINATIONS_KEPT);
        Tcp {
            seen: self.seen,
            is_cut: self.is_cut,
            listeners: self.listeners,
            connections: self.connections,
            destinations,
            half_closed: self.half_closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{CONNECTIONS_KEPT, LISTEN, SOCKETS_MAX, SYN_RECV, Sums, TIME_WAIT};

    /// An `inet_diag_msg` of IPv4 as the kernel's header lays it out.
    fn message(state: u8, local: ([u8; 4], u16), peer: ([u8; 4], u16), queues: (u32, u32), inode: u32) -> Vec<u8> {
        let mut bytes = vec![2, state, 0, 0];
        bytes.extend(local.1.to_be_bytes());
        bytes.extend(peer.1.to_be_bytes());
        for address in [local.0, peer.0] {
            bytes.extend(address);
            bytes.extend([0; 12]);
        }
        bytes.extend([0; 12]);
        for word in [0, queues.0, queues.1, 1000, inode] {
            bytes.extend(word.to_ne_bytes());
        }
        assert_eq!(bytes.len(), 72);
        bytes
    }

    fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
        bytes.extend((4 + value.len() as u16).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
    }

    #[test]
    fn listeners_have_their_queue_their_drops_and_what_is_half_open() {
        let mut sums = Sums::new(32_768..=60_999);
        let mut listener = message(LISTEN, ([0; 4], 8080), ([0; 4], 0), (3, 2), 77);
        let mut memory = [0_u8; 36];
        memory[32..].copy_from_slice(&19_u32.to_ne_bytes());
        attribute(&mut listener, 7, &memory);
        assert!(sums.take(&listener));
        for port in [4000, 4001] {
            assert!(sums.take(&message(SYN_RECV, ([10, 0, 0, 1], 8080), ([10, 0, 0, 2], port), (0, 0), 0)));
        }
        let tcp = sums.finish();
        let found = &tcp.listeners[0];
        assert_eq!((found.address.as_str(), found.queue, found.backlog), ("0.0.0.0:8080", 3, 2));
        assert_eq!((found.drops, found.half_open, found.inode, found.uid), (19, 2, 77, 1000));
        assert_eq!((tcp.seen, tcp.is_cut), (3, false));
    }

    #[test]
    fn ports_are_counted_for_each_destination_and_late_ones_apart() {
        let mut sums = Sums::new(40_000..=40_063);
        for port in 40_000..40_010 {
            let state = if port < 40_004 { TIME_WAIT } else { 1 };
            assert!(sums.take(&message(state, ([10, 0, 0, 1], port), ([10, 0, 0, 9], 443), (0, 0), 5)));
        }
        // A server's side of a connection is no port of the range.
        assert!(sums.take(&message(1, ([10, 0, 0, 1], 22), ([10, 0, 0, 7], 40_001), (0, 0), 6)));
        let tcp = sums.finish();
        assert_eq!(tcp.destinations.len(), 1);
        let found = &tcp.destinations[0];
        assert_eq!((found.local.as_str(), found.peer.as_str()), ("10.0.0.1", "10.0.0.9:443"));
        assert_eq!((found.ports, found.time_wait, found.inodes.len()), (10, 4, 6));
    }

    #[test]
    fn a_connection_in_trouble_is_kept_with_what_tcp_info_says() {
        let mut sums = Sums::new(32_768..=60_999);
        let mut bytes = message(1, ([10, 0, 0, 1], 40_000), ([10, 0, 0, 7], 443), (0, 14_480), 9);
        // The layout of struct tcp_info since 4.19; nothing after the bytes sent again.
        let mut info = [0_u8; 216];
        (info[2], info[4]) = (3, 3);
        for (at, value) in [(16, 1448_u32), (24, 10), (28, 1), (56, 2_500), (60, 1500), (68, 180), (80, 1), (100, 4)] {
            info[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        info[156..160].copy_from_slice(&15_u32.to_ne_bytes());
        for (at, value) in [(120, 201_u64), (200, 20_473), (208, 5_792)] {
            info[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        }
        attribute(&mut bytes, 2, &info);
        assert!(sums.take(&bytes));
        // One without trouble, and one of a kernel that tells less.
        assert!(sums.take(&message(1, ([10, 0, 0, 1], 40_001), ([10, 0, 0, 7], 443), (0, 0), 9)));
        let mut old = message(1, ([10, 0, 0, 1], 40_002), ([10, 0, 0, 7], 443), (0, 0), 9);
        attribute(&mut old, 2, &info[..104]);
        assert!(sums.take(&old));
        let tcp = sums.finish();
        assert_eq!(tcp.connections.len(), 2);
        let found = &tcp.connections[0];
        assert_eq!((found.timeouts, found.backoff, found.unacked, found.sacked), (3, 3, 10, 1));
        assert_eq!((found.mss, found.pmtu, found.resent, found.segments), (1448, 1500, 4, 15));
        assert_eq!((found.in_flight, found.acked, found.silent_ms), (Some(14_480), 201, 2_500));
        assert_eq!(tcp.connections[1].in_flight, None);
    }

    #[test]
    fn too_many_sockets_are_cut_and_a_snapshot_stays_small() {
        let mut sums = Sums::new(32_768..=60_999);
        let mut body = message(1, ([10, 0, 0, 1], 40_000), ([10, 0, 0, 7], 443), (1 << 20, 0), 9);
        for _ in 0..SOCKETS_MAX {
            assert!(sums.take(&body));
        }
        body.truncate(10);
        assert!(!sums.take(&body));
        assert_eq!(sums.finish().connections.len(), CONNECTIONS_KEPT);
    }

    proptest! {
        #[test]
        fn no_socket_is_a_panic(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 0..4)) {
            let mut sums = Sums::new(0..=u16::MAX);
            for body in &bodies {
                sums.take(body);
            }
            sums.finish();
        }

        #[test]
        fn a_damaged_socket_is_no_panic(at in 0..292_usize, byte in any::<u8>(), end in 0..=292_usize) {
            let mut bytes = message(1, ([10, 0, 0, 1], 40_000), ([10, 0, 0, 7], 443), (9, 9), 9);
            attribute(&mut bytes, 2, &[255; 212]);
            attribute(&mut bytes, 7, &[255; 0]);
            bytes.resize(292, 0);
            bytes[at] = byte;
            let mut sums = Sums::new(0..=u16::MAX);
            sums.take(&bytes[..end]);
            sums.finish();
        }
    }
}
