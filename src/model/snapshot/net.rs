//! The network as the network namespace of apm sees it.

use serde::{Deserialize, Serialize};

use super::{Counters, Field};

/// The network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Net {
    /// /proc/net/snmp and /proc/net/netstat, named `Tcp.RetransSegs`, `TcpExt.ListenDrops`.
    pub counters: Field<Counters>,
    /// /proc/net/sockstat, named `TCP.inuse`, `TCP.mem`.
    pub sockets: Field<Counters>,
    /// /proc/net/dev.
    pub interfaces: Field<Vec<Interface>>,
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
