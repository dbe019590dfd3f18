//! TCP connections of processes: bytes, retransmits, round-trip times, as the kernel counts them for each socket. Who has a
//! socket follows from the descriptors of processes. Of one that is opened and closed between two looks the kernel tells
//! when it is gone, where that is allowed, and `owners` knows whose it was. UDP has no such counters.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::time::Instant;

use crate::model::profile::{Kind, List, Timeline, Unit};
use crate::probe::net::sockets::{self, Destroyed, Told};
use crate::profile::owners::Ends;
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
/// Since 4.19, with what was sent again, and that alone.
const BYTES_SENT: usize = 200;
const BYTES_SENT_AGAIN: usize = 208;
/// States in which the end of what the peer sends has come: the kernel counts that as a byte.
const PEER_HAS_ENDED: [u8; 4] = [7, 8, 9, 11];
/// Connections that nobody has been found for yet.
const ORPHANS_MAX: usize = 20_000;

/// What is known of a connection.
#[derive(Clone, Debug)]
struct Connection {
    pid: u32,
    /// Of its socket; none of one that is gone.
    inode: u64,
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
    /// By their ends; the same may come again for another one.
    all: HashMap<Ends, Connection>,
    /// Those that are gone.
    closed: Vec<Connection>,
    /// Gone without having been seen.
    orphans: Vec<Connection>,
    destroyed: Option<Destroyed>,
    /// Some of those that are gone were not told of.
    is_lossy: bool,
    /// The processes began with the recording.
    is_new: bool,
    began: Option<Instant>,
    received: Vec<(u64, f64)>,
    sent: Vec<(u64, f64)>,
    last: (u64, u64, u64),
    /// Why there are none.
    pub(crate) refused: Option<String>,
}

impl Connections {
    /// From now on; without the privilege to hear of those that are gone, what is seen now and then has to do. Of processes
    /// that are not new, what the first look finds was there before.
    pub(crate) fn begin(is_new: bool) -> Self {
        Self { destroyed: Destroyed::listen().ok(), is_new, ..Self::default() }
    }

    /// One look.
    pub(crate) fn look(&mut self, pids: &[u32]) {
        let was_before = self.began.is_none() && !self.is_new;
        let began = *self.began.get_or_insert_with(Instant::now);
        self.part();
        let owners: HashMap<u64, u32> = pids.iter().flat_map(|pid| inodes(*pid).map(|inode| (inode, *pid))).collect();
        if owners.is_empty() {
            return;
        }
        let (all, closed) = (&mut self.all, &mut self.closed);
        let looked = sockets::connected(|told| {
            let Some(pid) = owners.get(&told.inode) else { return };
            let Some(now) = connection(told, *pid) else { return };
            let key = (told.local, told.peer);
            if let Some(old) = all.get_mut(&key).filter(|old| old.inode == now.inode) {
                *old = Connection { before: old.before, ..now };
            } else if all.len() + closed.len() < CONNECTIONS_MAX {
                let before = if was_before { (now.received, now.sent) } else { (0, 0) };
                closed.extend(all.insert(key, Connection { before, ..now }));
            }
        });
        if let Err(error) = looked {
            self.refused = Some(format!("connections cannot be seen: sock_diag: {error}"));
            return;
        }
        let at = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let sum =
            |of: fn(&Connection) -> u64| self.all.values().chain(&self.closed).map(of).fold(0, u64::saturating_add);
        let received = sum(|one| one.received.saturating_sub(one.before.0));
        let sent = sum(|one| one.sent.saturating_sub(one.before.1));
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

    /// Takes leave of those that are gone.
    fn part(&mut self) {
        let Self { destroyed, all, closed, orphans, is_lossy, .. } = self;
        let Some(listener) = destroyed else { return };
        let taken = listener.take(|told| {
            // One that listens has no peer.
            let Some(last) = connection(told, 0).filter(|one| one.peer.port() != 0) else { return };
            match all.remove(&(told.local, told.peer)) {
                Some(old) => closed.push(Connection { pid: old.pid, before: old.before, ..last }),
                None if orphans.len() < ORPHANS_MAX => orphans.push(last),
                None => *is_lossy = true,
            }
        });
        match taken {
            Ok(lost) => *is_lossy |= lost,
            Err(_) => *destroyed = None,
        }
    }

    /// The end: those that were never seen go to whose they were.
    pub(crate) fn adopt(&mut self, owners: &HashMap<Ends, u32>) {
        self.part();
        for one in std::mem::take(&mut self.orphans) {
            if let Some(pid) = owners.get(&(one.local, one.peer)) {
                self.closed.push(Connection { pid: *pid, ..one });
            }
        }
    }

    /// What is to be told of them.
    pub(crate) fn notes(&mut self) -> Vec<String> {
        let lossy =
            self.is_lossy.then(|| "some connections that were closed are missing: there were too many".to_owned());
        let count = self.all.len() + self.closed.len();
        let many = (count > ROWS_MAX)
            .then(|| format!("{count} connections: the table has the {ROWS_MAX} with the most bytes"));
        self.refused.take().into_iter().chain(lossy).chain(many).collect()
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
            .chain(&self.closed)
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
    let end = u64::from(PEER_HAS_ENDED.contains(&told.state));
    let sent = u64_at(told.info, BYTES_SENT).zip(u64_at(told.info, BYTES_SENT_AGAIN));
    // The first byte acknowledged is the handshake's.
    let acked = u64_at(told.info, BYTES_ACKED)?.saturating_sub(1);
    Some(Connection {
        pid,
        inode: told.inode,
        local: told.local,
        peer: told.peer,
        received: u64_at(told.info, BYTES_RECEIVED)?.saturating_sub(end),
        sent: sent.map_or(acked, |(all, again)| all.saturating_sub(again)),
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
        // A kernel before 4.19 does not count what is not acknowledged yet.
        assert!(sent == 50_000 || sent == 0, "{sent}");
        let server = list.rows.iter().find(|(name, _)| name.contains(&format!("127.0.0.1:{port} ->")));
        assert_eq!(server.map(|(_, values)| values[0]), Some(50_000));
    }
}
