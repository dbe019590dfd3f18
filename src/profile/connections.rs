//! TCP connections of processes: bytes, retransmits, round-trip times, as the kernel counts them for each socket. Who has a
//! socket follows from the descriptors of processes. One that is opened and closed between two looks is not seen.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::time::Instant;

use crate::model::profile::{Kind, List, Timeline, Unit};
use crate::probe::net::sockets::{self, Told};
use crate::sys::netlink::{u32_at, u64_at};

/// Connections that are remembered.
const CONNECTIONS_MAX: usize = 20_000;
/// Rows of the table, those with the most bytes first.
const ROWS_MAX: usize = 200;
/// Descriptors of a process that are looked at.
const DESCRIPTORS_MAX: usize = 4096;
/// Points of a timeline; a longer one is thinned.
const POINTS_MAX: usize = 1200;

/// Offsets in `struct tcp_info`: Linux has only ever added to its end.
const RTT_US: usize = 68;
const RETRANSMITS: usize = 100;
const BYTES_ACKED: usize = 120;
const BYTES_RECEIVED: usize = 128;

/// What is known of a connection.
#[derive(Clone, Debug)]
struct Connection {
    pid: u32,
    local: SocketAddr,
    peer: SocketAddr,
    received: u64,
    sent: u64,
    retransmits: u64,
    rtt_us: u64,
    /// What it had when it was first seen, where it was there before.
    before: (u64, u64),
}

/// The connections of a tree of processes.
#[derive(Default)]
pub(crate) struct Connections {
    /// By the inode of the socket, which another may get later, and its ends.
    all: HashMap<(u64, SocketAddr, SocketAddr), Connection>,
    began: Option<Instant>,
    received: Vec<(u64, f64)>,
    sent: Vec<(u64, f64)>,
    last: (u64, u64, u64),
    /// Why there are none.
    pub(crate) refused: Option<String>,
}

impl Connections {
    /// One look.
    pub(crate) fn look(&mut self, pids: &[u32]) {
        let is_first = self.began.is_none();
        let began = *self.began.get_or_insert_with(Instant::now);
        let owners: HashMap<u64, u32> = pids.iter().flat_map(|pid| inodes(*pid).map(|inode| (inode, *pid))).collect();
        if owners.is_empty() {
            return;
        }
        let all = &mut self.all;
        let looked = sockets::connected(|told| {
            let Some(pid) = owners.get(&told.inode) else { return };
            let Some(now) = connection(told, *pid) else { return };
            let key = (told.inode, told.local, told.peer);
            if let Some(old) = all.get_mut(&key) {
                *old = Connection { before: old.before, ..now };
            } else if all.len() < CONNECTIONS_MAX {
                let before = if is_first { (now.received, now.sent) } else { (0, 0) };
                all.insert(key, Connection { before, ..now });
            }
        });
        if let Err(error) = looked {
            self.refused = Some(format!("connections cannot be seen: sock_diag: {error}"));
            return;
        }
        let at = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let sum = |of: fn(&Connection) -> u64| self.all.values().map(of).fold(0, u64::saturating_add);
        let (received, sent) =
            (sum(|one| one.received - one.before.0), sum(|one| one.sent.saturating_sub(one.before.1)));
        let (last_at, last_received, last_sent) = self.last;
        let seconds = at.saturating_sub(last_at) as f64 / 1e9;
        if seconds > 0.0 {
            self.received.push((at, received.saturating_sub(last_received) as f64 / seconds));
            self.sent.push((at, sent.saturating_sub(last_sent) as f64 / seconds));
            self.last = (at, received, sent);
        }
        for points in [&mut self.received, &mut self.sent] {
            if points.len() > POINTS_MAX {
                *points = points.chunks(2).filter_map(|pair| pair.last().copied()).collect();
            }
        }
    }

    /// Bytes a second, received and sent; nothing where nothing was.
    pub(crate) fn timelines(&self) -> (Option<Timeline>, Option<Timeline>) {
        let line = |name: &str, points: &Vec<(u64, f64)>| {
            let is_empty = points.iter().all(|(_, value)| *value == 0.0);
            (!is_empty).then(|| Timeline { name: name.to_owned(), unit: Unit::Bytes, points: points.clone() })
        };
        (line("received a second", &self.received), line("sent a second", &self.sent))
    }

    /// The table; nothing where there were none.
    pub(crate) fn list(&self) -> Option<List> {
        let kind = |name: &str, unit: Unit| Kind { name: name.to_owned(), unit };
        let columns = vec![
            kind("received", Unit::Bytes),
            kind("sent", Unit::Bytes),
            kind("retransmits", Unit::Count),
            kind("rtt", Unit::Nanoseconds),
        ];
        let mut rows: Vec<(String, Vec<u64>)> = self
            .all
            .values()
            .map(|one| {
                let received = one.received.saturating_sub(one.before.0);
                let sent = one.sent.saturating_sub(one.before.1);
                let name = format!("[{}] {} -> {}", one.pid, one.local, one.peer);
                (name, vec![received, sent, one.retransmits, one.rtt_us.saturating_mul(1000)])
            })
            .collect();
        rows.sort_by(|(a, x), (b, y)| {
            (y[0].saturating_add(y[1])).cmp(&x[0].saturating_add(x[1])).then_with(|| a.cmp(b))
        });
        rows.truncate(ROWS_MAX);
        (!rows.is_empty()).then(|| List {
            name: "connections".to_owned(),
            of: "[pid] local -> peer".to_owned(),
            columns,
            rows,
        })
    }
}

/// Inodes of the sockets that a process has open.
fn inodes(pid: u32) -> impl Iterator<Item = u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().take(DESCRIPTORS_MAX);
    entries.filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    })
}

fn connection(told: &Told<'_>, pid: u32) -> Option<Connection> {
    Some(Connection {
        pid,
        local: told.local,
        peer: told.peer,
        received: u64_at(told.info, BYTES_RECEIVED)?,
        // The first byte acknowledged is the handshake's.
        sent: u64_at(told.info, BYTES_ACKED)?.saturating_sub(1),
        retransmits: u32_at(told.info, RETRANSMITS)?.into(),
        rtt_us: u32_at(told.info, RTT_US)?.into(),
        before: (0, 0),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::Connections;

    #[test]
    fn bytes_of_a_connection_are_those_that_went_over_it() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let own = [std::process::id()];
        let mut connections = Connections::default();
        connections.look(&own);
        let mut client = TcpStream::connect(address).expect("connected");
        let (mut server, _) = listener.accept().expect("accepted");
        client.write_all(&[7; 50_000]).expect("sent");
        server.read_exact(&mut [0; 50_000]).expect("received");
        server.write_all(&[7; 3]).expect("sent");
        client.read_exact(&mut [0; 3]).expect("received");
        connections.look(&own);
        if connections.refused.is_some() {
            return;
        }
        let list = connections.list().expect("two ends of it");
        let port = address.port();
        let end =
            |suffix: &str| list.rows.iter().find(|(name, _)| name.ends_with(suffix)).map(|(_, it)| (it[0], it[1]));
        let (received, sent) = end(&format!("-> 127.0.0.1:{port}")).expect("the client's end");
        assert_eq!(received, 3);
        // What is not acknowledged yet is not counted.
        assert!(sent == 50_000 || sent == 0, "{sent}");
        let server = list.rows.iter().find(|(name, _)| name.contains(&format!("127.0.0.1:{port} ->")));
        assert_eq!(server.map(|(_, values)| values[0]), Some(50_000));
    }
}
