//! Whose a TCP connection was that began and ended between two looks: a socket that connects, or is closed, changes its state
//! while its own process runs, and a tracepoint of that process says so, with both ends.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::profile::record::perf::{Record, Sample};
use crate::profile::record::sampler::Target;
use crate::profile::record::trace::{self, Field, Format, Opened, Refused, Wanted, Whose};
use crate::sys::perf::{self, Callers};

/// Connections whose owners are remembered.
const OWNERS_MAX: usize = 100_000;
/// Bytes of a CPU's ring.
const RING: usize = 2 << 20;

/// The kernel's numbers of states.
const ESTABLISHED: u64 = 1;
const SYN_SENT: u64 = 2;
const FIN_WAIT1: u64 = 4;
const CLOSE: u64 = 7;
const LAST_ACK: u64 = 9;

/// Local end and peer.
pub(crate) type Ends = (SocketAddr, SocketAddr);

/// Where the fields of the tracepoint lie.
#[derive(Clone, Copy, Debug)]
struct Fields {
    socket: Field,
    state: Field,
    local_port: Field,
    peer_port: Field,
    family: Field,
    v4: [Field; 2],
    v6: [Field; 2],
}

impl Fields {
    fn of(format: &Format) -> Result<Self, Refused> {
        let field = |name| format.field(name);
        Ok(Self {
            socket: field("skaddr")?,
            state: field("newstate")?,
            local_port: field("sport")?,
            peer_port: field("dport")?,
            family: field("family")?,
            v4: [field("saddr")?, field("daddr")?],
            v6: [field("saddr_v6")?, field("daddr_v6")?],
        })
    }

    fn ends(&self, raw: &[u8]) -> Option<Ends> {
        let is_v6 = self.family.value(raw)? == libc::AF_INET6 as u64;
        let address = |at: usize| -> Option<IpAddr> {
            if is_v6 {
                let bytes: [u8; 16] = self.v6.get(at)?.bytes(raw)?.try_into().ok()?;
                return Some(Ipv6Addr::from(bytes).to_canonical());
            }
            let bytes: [u8; 4] = self.v4.get(at)?.bytes(raw)?.try_into().ok()?;
            Some(Ipv4Addr::from(bytes).into())
        };
        let port = |field: Field| u16::try_from(field.value(raw)?).ok();
        let local = SocketAddr::new(address(0)?, port(self.local_port)?);
        Some((local, SocketAddr::new(address(1)?, port(self.peer_port)?)))
    }
}

/// What is known, from records alone.
#[derive(Debug, Default)]
struct Known {
    /// By the kernel's address of the socket, until it is closed: at first it has no port.
    sockets: HashMap<u64, u32>,
    all: HashMap<Ends, u32>,
}

impl Known {
    fn take(&mut self, fields: &Fields, sample: &Sample<'_>) -> Option<()> {
        let (socket, state) = (fields.socket.value(sample.raw)?, fields.state.value(sample.raw)?);
        // Of the other states a packet may be the cause, whoever happens to run.
        let owner = match state {
            SYN_SENT | FIN_WAIT1 | LAST_ACK => Some(sample.pid),
            _ => self.sockets.get(&socket).copied(),
        }?;
        if state == CLOSE {
            self.sockets.remove(&socket);
        } else if self.sockets.len() < OWNERS_MAX {
            self.sockets.insert(socket, owner);
        }
        let ends = fields.ends(sample.raw)?;
        if ends.0.port() != 0 && (self.all.len() < OWNERS_MAX || self.all.contains_key(&ends)) {
            self.all.insert(ends, owner);
        }
        Some(())
    }
}

/// The owners of connections.
pub(crate) struct Owners {
    opened: Opened,
    fields: Fields,
    known: Known,
}

impl Owners {
    /// Of connections of these processes from now on, or from the start of the program.
    pub(crate) fn begin(target: Target<'_>, children: bool) -> Result<Self, Refused> {
        let format = trace::find("sock/inet_sock_set_state")?;
        let fields = Fields::of(&format)?;
        let states = [ESTABLISHED, SYN_SENT, FIN_WAIT1, CLOSE, LAST_ACK].map(|state| format!("newstate == {state}"));
        let filter = Some(format!("protocol == {} && ({})", libc::IPPROTO_TCP, states.join(" || ")));
        let wanted = Wanted { number: format.number, filter, callers: Callers::None, track: false, ring: 0 };
        let (whose, is_running) = match target {
            Target::Starting(pid) => (Whose::Starting(pid), false),
            Target::Running(tids) => (Whose::Running(tids), true),
        };
        let opened = trace::open(&[wanted], whose, children, &[RING])?;
        if is_running {
            let enabled = opened.events.iter().try_for_each(perf::enable);
            enabled.map_err(|error| Refused::Other { what: "enable an event", error })?;
        }
        Ok(Self { opened, fields, known: Known::default() })
    }

    /// Takes what has come.
    pub(crate) fn round(&mut self) {
        self.take(false);
    }

    fn take(&mut self, is_last: bool) {
        let Self { opened: Opened { rings, forms, .. }, fields, known } = self;
        rings.round(&|event| forms.get(&event).copied(), is_last, |record| {
            if let Record::Sample(sample) = record {
                known.take(fields, &sample);
            }
        });
    }

    /// The end: owners by both ends, and how many records were lost.
    pub(crate) fn finish(mut self) -> (HashMap<Ends, u32>, u64) {
        self.take(true);
        (self.known.all, self.opened.rings.lost)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{CLOSE, ESTABLISHED, Fields, Known, LAST_ACK, SYN_SENT};
    use crate::profile::record::perf::Sample;
    use crate::profile::record::trace::Format;

    fn fields() -> Fields {
        let all = [
            ("const void * skaddr", 8, 8),
            ("int oldstate", 16, 4),
            ("int newstate", 20, 4),
            ("__u16 sport", 24, 2),
            ("__u16 dport", 26, 2),
            ("__u16 family", 28, 2),
            ("__u16 protocol", 30, 2),
            ("__u8 saddr[4]", 32, 4),
            ("__u8 daddr[4]", 36, 4),
            ("__u8 saddr_v6[16]", 40, 16),
            ("__u8 daddr_v6[16]", 56, 16),
        ];
        let lines =
            all.map(|(name, offset, size)| format!("\tfield:{name};\toffset:{offset};\tsize:{size};\tsigned:0;\n"));
        Fields::of(&Format::parse(&format!("ID: 1\n{}", lines.concat())).expect("a format")).expect("fields")
    }

    fn raw(socket: u64, state: u64, local_port: u16) -> Vec<u8> {
        let mut raw = vec![0; 72];
        raw[8..16].copy_from_slice(&socket.to_ne_bytes());
        raw[20..24].copy_from_slice(&(state as u32).to_ne_bytes());
        raw[24..26].copy_from_slice(&local_port.to_ne_bytes());
        raw[26..28].copy_from_slice(&80_u16.to_ne_bytes());
        raw[28..30].copy_from_slice(&2_u16.to_ne_bytes());
        raw[32..40].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        raw
    }

    #[test]
    fn a_connection_belongs_to_who_connects_or_closes_and_not_to_who_runs_when_a_packet_comes() {
        let mut known = Known::default();
        let mut see = |pid, socket, state, port| {
            let raw = raw(socket, state, port);
            known.take(&fields(), &Sample { pid, raw: &raw, ..Sample::default() });
        };
        // Its port is chosen after it began to connect.
        see(1, 77, SYN_SENT, 0);
        see(2, 77, ESTABLISHED, 4000);
        see(2, 78, ESTABLISHED, 4001);
        see(3, 79, LAST_ACK, 4002);
        see(2, 79, CLOSE, 4002);
        // The address of the first is used again.
        see(2, 77, CLOSE, 4000);
        see(4, 77, ESTABLISHED, 4003);
        let mut found: Vec<(u16, u32)> = known.all.iter().map(|((local, _), pid)| (local.port(), *pid)).collect();
        found.sort_unstable();
        assert_eq!(found, [(4000, 1), (4002, 3)]);
        let ends = known.all.keys().next().expect("one");
        assert_eq!((ends.0.ip().to_string().as_str(), ends.1.to_string().as_str()), ("10.0.0.1", "10.0.0.2:80"));
    }

    proptest! {
        #[test]
        fn no_record_is_a_panic(raws in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..9)) {
            let mut known = Known::default();
            for raw in &raws {
                known.take(&fields(), &Sample { pid: 1, raw, ..Sample::default() });
            }
        }
    }
}
