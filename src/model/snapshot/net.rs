//! The network as the network namespace of apm sees it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::snapshot::field::{Counters, Field};

/// The network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Net {
    /// /proc/net/snmp, netstat and snmp6, named `Tcp.RetransSegs`, `TcpExt.ListenDrops`, `Udp6RcvbufErrors`.
    pub counters: Field<Counters>,
    /// /proc/net/sockstat, named `TCP.inuse`, `TCP.mem` (pages).
    pub sockets: Field<Counters>,
    /// /proc/net/dev.
    pub interfaces: Field<Vec<Interface>>,
    /// /proc/net/softnet_stat, of the whole machine.
    pub softnet: Field<Vec<Softnet>>,
    /// Queueing disciplines at the root of interfaces (rtnetlink).
    pub qdiscs: Field<Vec<Qdisc>>,
    /// The table of tracked connections.
    pub conntrack: Field<Conntrack>,
    /// Limits of /proc/sys/net by name; the numbers of a list have its place behind them: `tcp_mem.2`. A limit that is
    /// not visible here is not in it.
    pub limits: Counters,
    /// TCP sockets (sock_diag).
    pub tcp: Field<Tcp>,
    /// UDP sockets that wait to be read or have lost something (/proc/net/udp, udp6).
    pub udp: Field<Vec<UdpSocket>>,
    /// Owners of the sockets that look guilty, by inode: in the second snapshot of a window only.
    pub owners: BTreeMap<u64, Owner>,
    /// What answered when it was asked.
    pub reach: Field<Reach>,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Its name: `eth0`.
    pub name: String,
    /// Received.
    pub rx: Traffic,
    /// Sent.
    pub tx: Traffic,
    /// Its speed, Mbit/s; virtual ones have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<u64>,
    /// Its largest packet, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// One direction of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Damaged.
    pub errors: u64,
    /// Dropped by the driver; what a queueing discipline dropped is not in here.
    pub drops: u64,
}

/// What one CPU did with received packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Softnet {
    /// The CPU.
    pub cpu: u32,
    /// Packets.
    pub processed: u64,
    /// Packets dropped because its queue was full.
    pub dropped: u64,
    /// Times its time was up with packets left.
    pub squeezed: u64,
}

/// A queueing discipline of an interface. Those below the root count there too.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Qdisc {
    /// The interface.
    pub interface: String,
    /// `fq_codel`, `tbf`.
    pub kind: String,
    /// Of packets that come in.
    pub is_ingress: bool,
    /// Packets let through.
    pub packets: u64,
    /// Packets dropped; counts to 2^32 and begins again.
    pub drops: u64,
    /// Bytes that wait.
    pub backlog: u64,
}

/// The table of tracked connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Conntrack {
    /// Entries.
    pub count: u64,
    /// Their most.
    pub max: u64,
    /// Packets dropped because the table was full, since boot.
    pub drop: Option<u64>,
    /// Entries thrown out early to make room, since boot.
    pub early_drop: Option<u64>,
    /// Addresses with the most entries; looked at only where the table is nearly full.
    pub sources: Vec<(String, u64)>,
}

/// TCP sockets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tcp {
    /// Sockets looked at.
    pub seen: u64,
    /// There were more.
    pub is_cut: bool,
    /// Sockets that listen.
    pub listeners: Vec<Listener>,
    /// Connections in trouble: something sent again, or much waiting to be read; the worst first.
    pub connections: Vec<Connection>,
    /// Where ports of this machine lead to, the most used first.
    pub destinations: Vec<Destination>,
    /// What nobody here closes.
    pub half_closed: HalfClosed,
}

/// A socket that listens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listener {
    /// Where: `0.0.0.0:8080`.
    pub address: String,
    /// Connections that wait to be accepted.
    pub queue: u32,
    /// Their most.
    pub backlog: u32,
    /// Connections and packets dropped by it.
    pub drops: u32,
    /// Connections half open at its port.
    pub half_open: u32,
    /// Its number, by which its owner is found.
    pub inode: u64,
    /// Its user.
    pub uid: u32,
}

/// A connection in trouble.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Connection {
    /// This side: `10.0.0.1:40000`.
    pub local: String,
    /// The other side.
    pub peer: String,
    /// The kernel's number of its state: 1 is established, 2 waits for an answer to its SYN.
    pub state: u8,
    /// Round trip, us.
    pub rtt_us: u32,
    /// Segments sent again, since it began.
    pub resent: u32,
    /// Timeouts in a row without an answer.
    pub timeouts: u8,
    /// How often the time to wait was doubled.
    pub backoff: u8,
    /// Largest packet of the path as far as known, bytes.
    pub pmtu: u32,
    /// Payload of a full segment, bytes.
    pub mss: u32,
    /// Segments without an answer.
    pub unacked: u32,
    /// Segments after a gap that did arrive.
    pub sacked: u32,
    /// Congestion window, segments.
    pub cwnd: u32,
    /// Bytes sent and not acknowledged, where the kernel tells.
    pub in_flight: Option<u64>,
    /// Bytes acknowledged.
    pub acked: u64,
    /// Segments with data sent, those sent again included.
    pub segments: u64,
    /// Since the last answer, ms.
    pub silent_ms: u32,
    /// Bytes that wait to be read.
    pub receive_queue: u32,
    /// Bytes that wait to be sent or acknowledged.
    pub send_queue: u32,
    /// Its number, by which its owner is found; 0 without an owner.
    pub inode: u64,
    /// Its user.
    pub uid: u32,
}

/// Connections that the other side has closed and this one has not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HalfClosed {
    /// How many.
    pub count: u32,
    /// Some of the sockets.
    pub inodes: Vec<u64>,
}

/// A place that ports of this machine lead to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Destination {
    /// Address of this side.
    pub local: String,
    /// The other side: `10.0.0.9:443`.
    pub peer: String,
    /// Ports of the local range in use towards it.
    pub ports: u32,
    /// Those of them that only wait for late packets (TIME_WAIT).
    pub time_wait: u32,
    /// Some of the sockets.
    pub inodes: Vec<u64>,
}

/// A UDP socket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UdpSocket {
    /// Where: `0.0.0.0:53`.
    pub address: String,
    /// Bytes that wait to be read, with the kernel's overhead.
    pub queue: u64,
    /// Packets lost because nobody read them in time.
    pub drops: u64,
    /// Its number.
    pub inode: u64,
    /// Its user.
    pub uid: u32,
}

/// Who holds a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Owner {
    /// The process; the first of those that share it.
    pub pid: i32,
    /// Its name, hostile until cleaned.
    pub name: String,
}

/// What answered when it was asked, with --probe only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reach {
    /// The nameservers of resolv.conf.
    pub nameservers: Vec<Attempt>,
    /// The proxies of the environment.
    pub proxies: Vec<Attempt>,
    /// The hosts asked for.
    pub hosts: Vec<Attempt>,
}

/// One question to somebody else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attempt {
    /// Who was asked: `127.0.0.1:53`, `HTTPS_PROXY 10.0.0.1:3128`. No user, no password.
    pub target: String,
    /// How long the answer took, ms, or why there is none.
    pub took_ms: Field<f64>,
    /// Its parts in words.
    pub steps: String,
}

impl Tcp {
    /// A listener of another snapshot, in this one.
    pub fn listener(&self, other: &Listener) -> Option<&Listener> {
        self.listeners.iter().find(|listener| listener.inode == other.inode && listener.address == other.address)
    }

    /// A connection of another snapshot, in this one. Those without trouble are in none.
    pub fn connection(&self, other: &Connection) -> Option<&Connection> {
        self.connections.iter().find(|one| one.local == other.local && one.peer == other.peer)
    }
}

/// What UDP sockets lost between two snapshots, the most first.
pub fn udp_lost<'a>(from: &[UdpSocket], to: &'a [UdpSocket]) -> Vec<(u64, &'a UdpSocket)> {
    let before =
        |now: &UdpSocket| from.iter().find(|socket| socket.inode == now.inode).map_or(0, |socket| socket.drops);
    let mut lost: Vec<_> = to.iter().map(|socket| (socket.drops.saturating_sub(before(socket)), socket)).collect();
    lost.retain(|(drops, _)| *drops > 0);
    lost.sort_by_key(|(drops, socket)| (std::cmp::Reverse(*drops), socket.inode));
    lost
}
