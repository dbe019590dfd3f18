//! The network: counters of the protocols, sockets, interfaces. What is here are files; sockets and queueing disciplines
//! come from the kernel's answers (`sockets`, `links`), owners of sockets from descriptors (`owners`), and what can only be
//! known by asking somebody else is asked in `reach`.

pub(crate) mod links;
pub(crate) mod names;
pub(crate) mod owners;
pub(crate) mod reach;
pub(crate) mod sockets;
pub(crate) mod udp;

use std::path::Path;

use crate::model::snapshot::net::{Conntrack, Interface, Net, Softnet, Traffic};
use crate::model::snapshot::{Counters, Field};
use crate::probe::{Roots, counters, field, number, read_text};

/// Interfaces whose speed is read; with more the rest has none.
const SPEEDS_MAX: usize = 64;
/// Limits below /proc/sys/net. One that is not visible in a network namespace is left out.
const LIMITS: &[&str] = &[
    "core/netdev_max_backlog",
    "core/rmem_max",
    "core/somaxconn",
    "ipv4/ip_local_port_range",
    "ipv4/tcp_max_syn_backlog",
    "ipv4/tcp_max_tw_buckets",
    "ipv4/tcp_mem",
    "ipv4/tcp_mtu_probing",
    "ipv4/tcp_syncookies",
    "ipv4/tcp_tw_reuse",
];

/// Reads it.
pub(crate) fn read(roots: &Roots) -> Net {
    let net = roots.proc.join("net");
    let links = roots.call("rtnetlink", links::read);
    let mut interfaces = field(&net.join("dev"), interfaces);
    if let Field::Known(interfaces) = &mut interfaces {
        let links = links.known().map(|(links, _)| links.as_slice()).unwrap_or_default();
        describe(&roots.sys.join("class/net"), links, interfaces);
    }
    Net {
        counters: protocols(&net),
        sockets: field(&net.join("sockstat"), sockets),
        interfaces,
        softnet: field(&net.join("softnet_stat"), softnet),
        qdiscs: match links {
            Field::Known((_, qdiscs)) => Field::Known(qdiscs),
            Field::Unavailable(unavailable) => Field::Unavailable(unavailable),
        },
        conntrack: conntrack(roots),
        limits: limits(&roots.proc.join("sys/net")),
        tcp: roots.call("sock_diag", || sockets::read(ports(roots))),
        udp: udp::read(&net),
        reach: Field::unavailable("--probe", "sends something, so only where it is asked for"),
        ..Net::default()
    }
}

fn protocols(net: &Path) -> Field<Counters> {
    let mut all = match field(&net.join("snmp"), tables) {
        Field::Known(all) => all,
        unavailable => return unavailable,
    };
    for more in [field(&net.join("netstat"), tables), field(&net.join("snmp6"), counters)] {
        all.extend(more.known().cloned().unwrap_or_default());
    }
    Field::Known(all)
}

/// Adds what /proc/net/dev does not tell. Links are of this network namespace; /sys may be of another, so the number of
/// the interface has to agree.
fn describe(folder: &Path, links: &[links::Link], interfaces: &mut [Interface]) {
    for interface in interfaces.iter_mut().take(SPEEDS_MAX) {
        let link = links.iter().find(|link| link.name == interface.name);
        interface.mtu = link.map(|link| link.mtu);
        let folder = folder.join(&interface.name);
        if link.is_none_or(|link| number(&folder.join("ifindex")) == Some(u64::from(link.index))) {
            // Virtual ones say -1, those without a cable an error.
            interface.speed = number(&folder.join("speed")).filter(|speed| *speed > 0);
        }
    }
}

fn limits(folder: &Path) -> Counters {
    let mut found = Counters::new();
    for name in LIMITS {
        let text = read_text(folder.join(name)).unwrap_or_default();
        let short = name.rsplit('/').next().unwrap_or(name);
        let values: Vec<u64> = text.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
        match values.as_slice() {
            [value] => drop(found.insert(short.to_owned(), *value)),
            values => found.extend(values.iter().enumerate().map(|(at, value)| (format!("{short}.{at}"), *value))),
        }
    }
    found
}

/// The ports that connections from here get.
fn ports(roots: &Roots) -> std::ops::RangeInclusive<u16> {
    let text = read_text(roots.proc.join("sys/net/ipv4/ip_local_port_range")).unwrap_or_default();
    let mut words = text.split_ascii_whitespace().map_while(|word| word.parse::<u16>().ok());
    match (words.next(), words.next()) {
        (Some(low), Some(high)) => low..=high,
        _ => 32_768..=60_999,
    }
}

/// A line a CPU, in hexadecimal: processed, dropped, squeezed; the thirteenth is the CPU (since 5.10).
fn softnet(text: &str) -> Option<Vec<Softnet>> {
    let line = |(at, line): (usize, &str)| {
        let words: Vec<u64> =
            line.split_ascii_whitespace().map_while(|word| u64::from_str_radix(word, 16).ok()).collect();
        Some(Softnet {
            cpu: words.get(12).map_or(at as u32, |cpu| *cpu as u32),
            processed: *words.first()?,
            dropped: *words.get(1)?,
            squeezed: *words.get(2)?,
        })
    };
    let found: Vec<Softnet> = text.lines().enumerate().filter_map(line).collect();
    (!found.is_empty()).then_some(found)
}

fn conntrack(roots: &Roots) -> Field<Conntrack> {
    let folder = roots.proc.join("sys/net/netfilter");
    let one = |name: &str| field(&folder.join(name), |text| text.trim().parse::<u64>().ok());
    let (count, max) = match (one("nf_conntrack_count"), one("nf_conntrack_max")) {
        (Field::Known(count), Field::Known(max)) => (count, max),
        (Field::Unavailable(unavailable), _) | (_, Field::Unavailable(unavailable)) => {
            return Field::Unavailable(unavailable);
        }
    };
    let columns = field(&roots.proc.join("net/stat/nf_conntrack"), columns);
    let sum = |name: &str| columns.known().and_then(|columns| columns.get(name)).copied();
    Field::Known(Conntrack { count, max, drop: sum("drop"), early_drop: sum("early_drop"), sources: Vec::new() })
}

/// A line of names and a line a CPU, in hexadecimal; summed.
fn columns(text: &str) -> Option<Counters> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next()?.split_ascii_whitespace().collect();
    let mut sums = Counters::new();
    for line in lines {
        for (name, word) in names.iter().zip(line.split_ascii_whitespace()) {
            if let Ok(value) = u64::from_str_radix(word, 16) {
                let sum = sums.entry((*name).to_owned()).or_default();
                *sum = sum.saturating_add(value);
            }
        }
    }
    (!sums.is_empty()).then_some(sums)
}

/// Pairs of lines: `Tcp: NAMES` and `Tcp: VALUES`. Negative values are none.
fn tables(text: &str) -> Option<Counters> {
    let mut found = Counters::new();
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.chunks_exact(2) {
        let (Some((group, names)), Some((same, values))) = (pair[0].split_once(':'), pair[1].split_once(':')) else {
            continue;
        };
        if group != same {
            continue;
        }
        for (name, value) in names.split_ascii_whitespace().zip(values.split_ascii_whitespace()) {
            if let Ok(value) = value.parse() {
                found.insert(format!("{group}.{name}"), value);
            }
        }
    }
    (!found.is_empty()).then_some(found)
}

/// `TCP: inuse 5 orphan 0`.
fn sockets(text: &str) -> Option<Counters> {
    let mut found = Counters::new();
    for line in text.lines() {
        let Some((group, rest)) = line.split_once(':') else { continue };
        let words: Vec<&str> = rest.split_ascii_whitespace().collect();
        for pair in words.chunks_exact(2) {
            if let Ok(value) = pair[1].parse() {
                found.insert(format!("{group}.{}", pair[0]), value);
            }
        }
    }
    (!found.is_empty()).then_some(found)
}

fn interfaces(text: &str) -> Option<Vec<Interface>> {
    let interface = |line: &str| {
        // Names may contain a colon (aliases): the numbers follow the last one.
        let (name, rest) = line.rsplit_once(':')?;
        let numbers: Vec<u64> = rest.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
        let traffic = |at: usize| {
            Some(Traffic {
                bytes: *numbers.get(at)?,
                packets: *numbers.get(at + 1)?,
                errors: *numbers.get(at + 2)?,
                drops: *numbers.get(at + 3)?,
            })
        };
        Some(Interface { name: name.trim().to_owned(), rx: traffic(0)?, tx: traffic(8)?, ..Interface::default() })
    };
    Some(text.lines().filter_map(interface).collect())
}
