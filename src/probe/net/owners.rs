//! Who holds the sockets that look guilty. Only where some do, descriptors are read, and so many at most: on a calm
//! machine this costs nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use crate::model::snapshot::Field;
use crate::model::snapshot::net::{self, Net, Owner, Tcp};
use crate::probe::{Roots, read_bytes, read_dir, read_into};

/// Sockets whose owners are looked for.
const SUSPECTS_MAX: usize = 64;
/// Of these, sockets of one kind.
const EACH_MAX: usize = 12;
/// Descriptors read.
const DESCRIPTORS_MAX: usize = 30_000;
/// Half-open connections from which on a listener is remarkable.
const HALF_OPEN_REMARKABLE: u32 = 16;
/// Connections that nobody closes, from which on it is worth to know who does not.
const HALF_CLOSED_REMARKABLE: u32 = 32;
/// Addresses named of a table of connections that is nearly full.
const SOURCES_KEPT: usize = 5;

/// Adds owners, and where the table of connections is nearly full, who fills it.
pub(crate) fn find(roots: &Roots, from: &Net, to: &mut Net) {
    if !roots.is_here {
        return;
    }
    let suspects = suspects(from, to);
    if !suspects.is_empty() {
        to.owners = owners(&roots.proc, suspects);
    }
    if let Field::Known(conntrack) = &mut to.conntrack
        && conntrack.max > 0
        && conntrack.count >= conntrack.max - conntrack.max / 4
    {
        let mut text = Vec::new();
        // Root only.
        if read_into(&roots.proc.join("net/nf_conntrack"), &mut text).is_ok() {
            conntrack.sources = sources(&String::from_utf8_lossy(&text));
        }
    }
}

fn suspects(from: &Net, to: &Net) -> BTreeSet<u64> {
    let mut found = Vec::new();
    if let Some(now) = to.tcp.known() {
        let none = Tcp::default();
        let before = from.tcp.known().unwrap_or(&none);
        let listeners = now.listeners.iter().filter(|now| {
            let drops = before.listener(now).map_or(0, |before| before.drops);
            now.drops != drops || now.queue > now.backlog || now.half_open >= HALF_OPEN_REMARKABLE
        });
        found.extend(listeners.map(|listener| listener.inode).take(EACH_MAX));
        let connections = now
            .connections
            .iter()
            .filter(|now| now.timeouts > 0 || now.resent > before.connection(now).map_or(0, |before| before.resent));
        found.extend(connections.map(|connection| connection.inode).take(EACH_MAX));
        let limit = |name: &str| to.limits.get(name).copied();
        let pages = to.sockets.known().and_then(|sockets| sockets.get("TCP.mem")).copied().unwrap_or_default();
        if limit("tcp_mem.1").is_some_and(|limit| pages >= limit) {
            let mut full: Vec<_> = now.connections.iter().collect();
            full.sort_by_key(|one| std::cmp::Reverse(one.receive_queue.max(one.send_queue)));
            found.extend(full.iter().map(|connection| connection.inode).take(EACH_MAX));
        }
        if now.half_closed.count >= HALF_CLOSED_REMARKABLE {
            found.extend(now.half_closed.inodes.iter().take(EACH_MAX));
        }
        let range = limit("ip_local_port_range.1").zip(limit("ip_local_port_range.0"));
        let range = range.map_or(u64::MAX, |(high, low)| high.saturating_sub(low));
        let crowded = now.destinations.iter().filter(|destination| u64::from(destination.ports) * 2 >= range);
        found.extend(crowded.flat_map(|destination| &destination.inodes).take(EACH_MAX));
    }
    if let (Some(before), Some(now)) = (from.udp.known(), to.udp.known()) {
        found.extend(net::udp_lost(before, now).iter().map(|(_, socket)| socket.inode).take(EACH_MAX));
    }
    // Sockets without an owner have none.
    found.into_iter().filter(|inode| *inode != 0).take(SUSPECTS_MAX).collect()
}

/// The first process that has each of them open: of those that share it the oldest.
fn owners(proc: &Path, mut wanted: BTreeSet<u64>) -> BTreeMap<u64, Owner> {
    let mut found = BTreeMap::new();
    let mut read = 0;
    let Ok(entries) = read_dir(proc) else { return found };
    let mut pids: Vec<i32> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    for pid in pids {
        // Those of others may not be read.
        let Ok(descriptors) = read_dir(proc.join(format!("{pid}/fd"))) else { continue };
        for descriptor in descriptors.flatten() {
            if wanted.is_empty() || read >= DESCRIPTORS_MAX {
                return found;
            }
            read += 1;
            let Some(inode) = std::fs::read_link(descriptor.path()).ok().and_then(|link| socket(link.to_str()?)) else {
                continue;
            };
            if wanted.remove(&inode) {
                let name = read_bytes(proc.join(format!("{pid}/comm"))).unwrap_or_default();
                let name = String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned();
                found.insert(inode, Owner { pid, name });
            }
        }
    }
    found
}

/// `socket:[20321]`.
fn socket(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The addresses that began the most connections of /proc/net/nf_conntrack: the first `src=` of a line.
fn sources(text: &str) -> Vec<(String, u64)> {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for line in text.lines() {
        if let Some(source) = line.split_ascii_whitespace().find_map(|word| word.strip_prefix("src=")) {
            *counts.entry(source).or_default() += 1;
        }
    }
    let mut all: Vec<(String, u64)> = counts.into_iter().map(|(source, count)| (source.to_owned(), count)).collect();
    all.sort_by(|one, other| (other.1, &one.0).cmp(&(one.1, &other.0)));
    all.truncate(SOURCES_KEPT);
    all
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::{owners, socket, sources, suspects};
    use crate::model::snapshot::Field;
    use crate::model::snapshot::net::{Connection, Listener, Net, Owner, Tcp, UdpSocket};

    #[test]
    fn only_sockets_that_look_guilty_are_looked_for() {
        let listener = |inode, drops, queue| Listener { inode, drops, queue, backlog: 2, ..Listener::default() };
        let net = |listeners, resent, drops| Net {
            tcp: Field::Known(Tcp {
                listeners,
                connections: vec![Connection { inode: 9, resent, ..Connection::default() }],
                ..Tcp::default()
            }),
            udp: Field::Known(vec![UdpSocket { inode: 8, drops, ..UdpSocket::default() }]),
            ..Net::default()
        };
        let before = net(vec![listener(1, 5, 0), listener(2, 5, 0), listener(3, 0, 0)], 4, 100);
        // Counters that only are large are no guilt.
        assert!(suspects(&before, &before).is_empty());
        let after = net(vec![listener(1, 6, 0), listener(2, 5, 2), listener(3, 0, 3)], 5, 101);
        assert_eq!(suspects(&before, &after).into_iter().collect::<Vec<_>>(), [1, 3, 8, 9]);
    }

    #[test]
    fn an_owner_is_the_first_that_has_the_socket_open() {
        let root = std::env::temp_dir().join(format!("apm-owners-{}", std::process::id()));
        for (pid, inode, name) in [(7, 42, "server\n"), (30, 42, "worker\n"), (31, 43, "other\n")] {
            let fd = root.join(format!("{pid}/fd"));
            std::fs::create_dir_all(&fd).expect("a folder");
            std::fs::write(root.join(format!("{pid}/comm")), name).expect("a name");
            symlink(format!("socket:[{inode}]"), fd.join("3")).expect("a descriptor");
            symlink("/dev/null", fd.join("0")).expect("a descriptor");
        }
        let found = owners(&root, [42, 99].into());
        std::fs::remove_dir_all(&root).expect("removed");
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [(42, Owner { pid: 7, name: "server".to_owned() })]);
        assert_eq!((socket("socket:[1]"), socket("pipe:[1]"), socket("socket:[]")), (Some(1), None, None));
    }

    #[test]
    fn who_began_the_connections_of_a_table_is_counted() {
        let text = "\
ipv4     2 udp      17 28 src=10.0.0.2 dst=10.0.0.1 sport=1 dport=9 [UNREPLIED] src=10.0.0.1 dst=10.0.0.2 sport=9 dport=1 mark=0 use=2
ipv4     2 udp      17 28 src=10.0.0.3 dst=10.0.0.1 sport=2 dport=9 [UNREPLIED] src=10.0.0.1 dst=10.0.0.3 sport=9 dport=2 mark=0 use=2
ipv4     2 tcp      6 431999 ESTABLISHED src=10.0.0.3 dst=10.0.0.1 sport=3 dport=9 src=10.0.0.1 dst=10.0.0.3 sport=9 dport=3 [ASSURED] mark=0 use=2
";
        assert_eq!(sources(text), [("10.0.0.3".to_owned(), 2), ("10.0.0.2".to_owned(), 1)]);
        assert!(sources("garbage").is_empty());
    }
}
