//! Sockets, queues, TCP, connection tracking.

use crate::model::setting::{Place, Reason, Risk, Workload};
use crate::model::unit::Bytes;
use crate::tune::facts::Facts;
use crate::tune::row::{Advice, Law, Row, Scope, Valid, quiet, unproven};
use crate::tune::value::first_number;

/// Largest buffer of a socket that is proposed.
const BUFFER_MAX: u64 = 64 << 20;
/// Sockets with full buffers that have to fit into the kernel's memory for TCP.
const SOCKETS: u64 = 64;
/// Page size of x86-64 and of aarch64 as distributions build it.
const PAGE: u64 = 4096;
/// From so many neighbours on their table is worth a thought: its first mark is 128, its second 512.
const NEIGHBOURS: u64 = 512;
/// Bytes a tracked connection takes, with its share of the table: at most 1/16384 of memory are connections.
const CONNTRACK_SHARE: u64 = 16_384;
/// How interfaces begin behind which containers and virtual machines are.
const BRIDGES: &[&str] = &["br", "docker", "podman", "cni", "virbr", "veth"];
/// Idle seconds after which a connection is kept alive: less than any balancer waits.
const KEEPALIVE: u64 = 200;
const IP: &str = "Documentation/networking/ip-sysctl.rst";

const fn row(key: &'static str, scope: Scope, law: Law, valid: Valid, advise: fn(&Facts<'_>, &str) -> Advice) -> Row {
    Row {
        key,
        place: Place::Sysctl,
        scope,
        law,
        valid,
        risk: Risk::Low,
        about: "",
        formula: "as it is",
        source: IP,
        advise,
    }
}

/// As large as an int of the kernel.
const INT: Valid = Valid::Range(0, i32::MAX as u64);

pub(super) const ROWS: &[Row] = &[
    Row {
        about: "connections that may wait to be accepted, at most what the program asks for",
        formula: "4096; on evidence (net.listen_ovf) twice as many",
        source: "listen(2): 4096 since Linux 5.4, 128 before; tuned 2048 and more",
        ..row("net.core.somaxconn", Scope::Network, Law::Limit, Valid::Range(128, 65_535), |facts, now| {
            match facts.has_finding("net.listen_ovf") {
                Some(finding) => {
                    let wanted = first_number(now).saturating_mul(2).clamp(4096, 65_535).max(first_number(now));
                    Advice::FromRule(wanted.to_string(), finding.title.clone(), "net.listen_ovf")
                }
                None => Advice::Want("4096".to_owned(), "the kernel's default since 5.4".to_owned()),
            }
        })
    },
    Row {
        risk: Risk::Mid,
        about: "largest receive buffer a program may ask for; asking turns the kernel's own sizing off",
        formula: "on evidence (net.udp_rcvbuf), or with --bandwidth and --rtt: twice bandwidth x round trip, at most 64 MiB",
        source: "socket(7); bpftune's buffer_sizing.md: TCP's own sizing is capped by tcp_rmem, not by this",
        ..row("net.core.rmem_max", Scope::Host, Law::Limit, Valid::Range(2304, i32::MAX as u64), |facts, now| {
            buffer(facts, now, "net.udp_rcvbuf")
        })
    },
    Row {
        risk: Risk::Mid,
        about: "largest send buffer a program may ask for",
        formula: "with --bandwidth and --rtt: twice bandwidth x round trip, at most 64 MiB",
        source: "socket(7)",
        ..row("net.core.wmem_max", Scope::Host, Law::Limit, Valid::Range(4608, i32::MAX as u64), |facts, now| {
            buffer(facts, now, "")
        })
    },
    Row {
        risk: Risk::Mid,
        about: "receive buffer of sockets that do not ask, UDP above all",
        formula: "on evidence (net.udp_rcvbuf): 1 MiB",
        source: "socket(7)",
        ..row("net.core.rmem_default", Scope::Host, Law::Limit, Valid::Range(2304, i32::MAX as u64), |facts, now| {
            match facts.has_finding("net.udp_rcvbuf") {
                Some(finding) => Advice::FromRule(
                    (1 << 20).max(first_number(now)).to_string(),
                    finding.title.clone(),
                    "net.udp_rcvbuf",
                ),
                None => quiet("net.udp_rcvbuf"),
            }
        })
    },
    Row {
        about: "memory for options of a socket",
        ..row("net.core.optmem_max", Scope::Network, Law::Limit, INT, |_, _| unproven())
    },
    Row {
        about: "received packets that may wait for a CPU",
        formula: "on evidence (net.softnet with drops): twice as many",
        source: "Documentation/admin-guide/sysctl/net.rst; bpftune raises it by a quarter when 1/32 of it was dropped",
        ..row("net.core.netdev_max_backlog", Scope::Host, Law::Limit, Valid::Range(1, i32::MAX as u64), |facts, now| {
            match facts.has_finding("net.softnet").filter(|finding| finding.title.contains("dropped")) {
                Some(finding) => {
                    let wanted = first_number(now).saturating_mul(2).clamp(2000, i32::MAX as u64);
                    Advice::FromRule(wanted.to_string(), finding.title.clone(), "net.softnet")
                }
                None => quiet("net.softnet"),
            }
        })
    },
    Row {
        about: "packets taken in one go",
        formula: "on evidence (net.softnet, out of time): a quarter more",
        source: "Documentation/admin-guide/sysctl/net.rst; bpftune",
        ..row("net.core.netdev_budget", Scope::Host, Law::Limit, Valid::Range(1, i32::MAX as u64), budget)
    },
    Row {
        about: "microseconds for packets in one go",
        formula: "on evidence (net.softnet, out of time): a quarter more",
        source: "Documentation/admin-guide/sysctl/net.rst; bpftune",
        ..row("net.core.netdev_budget_usecs", Scope::Host, Law::Limit, Valid::Range(1, i32::MAX as u64), budget)
    },
    Row {
        about: "queue of interfaces that are made from now on",
        source: "tc(8); fq_codel, fq and pfifo_fast differ by what is on the way, which is not seen from here",
        ..row(
            "net.core.default_qdisc",
            Scope::Host,
            Law::Choice,
            Valid::Words(&["fq", "fq_codel", "pfifo_fast", "cake"]),
            |_, _| unproven(),
        )
    },
    Row {
        risk: Risk::Mid,
        about: "receive buffer of TCP: least, first, most",
        formula: "with --bandwidth and --rtt: most = twice bandwidth x round trip, at most 64 MiB and 1/64 of tcp_mem; the \
                  other two stay",
        ..row("net.ipv4.tcp_rmem", Scope::Network, Law::Limit, Valid::Range(1, i32::MAX as u64), tcp_buffer)
    },
    Row {
        risk: Risk::Mid,
        about: "send buffer of TCP: least, first, most",
        formula: "with --bandwidth and --rtt: most = twice bandwidth x round trip, at most 64 MiB and 1/64 of tcp_mem; the \
                  other two stay",
        ..row("net.ipv4.tcp_wmem", Scope::Network, Law::Limit, Valid::Range(1, i32::MAX as u64), tcp_buffer)
    },
    Row {
        risk: Risk::High,
        about: "memory for all of TCP, pages: at ease, pressure, most",
        ..row("net.ipv4.tcp_mem", Scope::Host, Law::Limit, Valid::Range(1, u64::MAX), |facts, _| {
            match facts.has_finding("net.sockmem") {
                Some(_) => Advice::Keep("find who does not read first: `apm doctor --explain net.sockmem`".to_owned()),
                None => Advice::Keep("the kernel computes it from memory".to_owned()),
            }
        })
    },
    Row {
        risk: Risk::High,
        about: "memory for all of UDP, pages",
        ..row("net.ipv4.udp_mem", Scope::Host, Law::Limit, Valid::Range(1, u64::MAX), |_, _| {
            Advice::Keep("the kernel computes it from memory".to_owned())
        })
    },
    Row {
        risk: Risk::Mid,
        about: "how TCP finds its speed",
        source: "ip-sysctl.rst; bpftune turns to bbr above 1.5 % loss",
        ..row(
            "net.ipv4.tcp_congestion_control",
            Scope::Network,
            Law::Choice,
            Valid::Words(&["cubic", "reno", "bbr", "dctcp", "vegas", "westwood", "htcp", "bic"]),
            |_, now| {
                let why = "loss seen from one end does not say where it is: try bbr for one route, `ip route change ... congctl bbr`";
                Advice::Skip(Reason::NoEvidence, if now == "bbr" { "bbr already".to_owned() } else { why.to_owned() })
            },
        )
    },
    Row {
        about: "ports for connections that do not choose theirs",
        formula: "on evidence (net.ports): 15000 to 65000, where that is wider",
        source: "ip-sysctl.rst; a few servers listen above 15000 (27017, 30000 and on in Kubernetes): \
                 net.ipv4.ip_local_reserved_ports keeps theirs free",
        ..row("net.ipv4.ip_local_port_range", Scope::Network, Law::Choice, Valid::Range(1, 65_535), |facts, now| {
            let mut ends = now.split_ascii_whitespace().filter_map(|word| word.parse::<u64>().ok());
            let width = ends.next().zip(ends.next()).map_or(0, |(low, high)| high.saturating_sub(low));
            match facts.has_finding("net.ports") {
                Some(finding) if width < 50_000 => {
                    Advice::FromRule("15000 65000".to_owned(), finding.title.clone(), "net.ports")
                }
                _ => quiet("net.ports"),
            }
        })
    },
    Row {
        about: "whether ports of closed connections may be used again at once",
        source: "ip-sysctl.rst: 2, for loopback only, since Linux 4.19",
        ..row("net.ipv4.tcp_tw_reuse", Scope::Network, Law::Choice, Valid::Range(0, 2), |_, _| unproven())
    },
    Row {
        about: "connections that may be half open",
        formula: "on evidence (net.syn_cookies): 8192",
        ..row(
            "net.ipv4.tcp_max_syn_backlog",
            Scope::Network,
            Law::Limit,
            Valid::Range(128, i32::MAX as u64),
            |facts, now| match facts.has_finding("net.syn_cookies") {
                Some(finding) => {
                    Advice::FromRule(first_number(now).max(8192).to_string(), finding.title.clone(), "net.syn_cookies")
                }
                None => quiet("net.syn_cookies"),
            },
        )
    },
    Row {
        about: "seconds an orphan waits for the other side to close",
        ..row("net.ipv4.tcp_fin_timeout", Scope::Network, Law::Choice, Valid::Range(1, 3600), |_, _| unproven())
    },
    Row {
        about: "whether a connection that was idle begins slowly again",
        formula: "agents and server: 0; not where tcp_congestion_control is bbr, which finds its rate without it",
        source: "RFC 2861; ip-sysctl.rst; tcp_slow_start_after_idle_check in include/net/tcp.h",
        ..row("net.ipv4.tcp_slow_start_after_idle", Scope::Network, Law::Choice, Valid::Range(0, 1), |facts, _| {
            match facts.workload {
                _ if facts.tunables.text("net.ipv4.tcp_congestion_control") == Some("bbr") => {
                    Advice::Skip(Reason::NoEffect, "tcp_congestion_control is bbr, which does not ask it".to_owned())
                }
                Workload::Agents => Advice::Want(
                    "0".to_owned(),
                    "connections to models idle between requests and would begin with ten packets each time".to_owned(),
                ),
                Workload::Server => {
                    Advice::Want("0".to_owned(), "long-lived connections idle between requests".to_owned())
                }
                _ => unproven(),
            }
        })
    },
    Row {
        about: "whether TCP looks for a smaller packet where large ones vanish",
        formula: "1 where an interface has an MTU below 1500, or on evidence (net.mtu)",
        source: "RFC 4821",
        ..row("net.ipv4.tcp_mtu_probing", Scope::Network, Law::Choice, Valid::Range(0, 2), |facts, now| {
            // TCP keeps to the MTU of its own interface: what vanishes is sent by another, a bridge of containers perhaps.
            let mtus = || facts.now.net.interfaces.known().into_iter().flatten().filter(|one| one.name != "lo");
            let mtus = || mtus().filter_map(|one| Some((&one.name, one.mtu?)));
            let small = mtus().find(|(_, mtu)| (576..1500).contains(mtu));
            let is_bridge = |name: &str| BRIDGES.iter().any(|start| name.starts_with(start));
            let pair = small.and_then(|small| Some((small, mtus().find(|(it, mtu)| *mtu > small.1 && is_bridge(it))?)));
            match (facts.has_finding("net.mtu"), pair) {
                _ if first_number(now) > 0 => Advice::Keep("it looks already".to_owned()),
                (Some(finding), _) => Advice::FromRule("1".to_owned(), finding.title.clone(), "net.mtu"),
                (None, Some(((small, mtu), (large, other)))) => Advice::Want(
                    "1".to_owned(),
                    format!("{small} has an MTU of {mtu}, {large} of {other}: what comes from there can vanish here"),
                ),
                _ => quiet("net.mtu"),
            }
        })
    },
    Row {
        about: "bytes that may wait in a socket unsent before a program is told to wait",
        formula: "server: 131072",
        source: "ip-sysctl.rst; 128 KiB is own",
        ..row(
            "net.ipv4.tcp_notsent_lowat",
            Scope::Network,
            Law::Choice,
            Valid::Range(1, u32::MAX as u64),
            |facts, _| match facts.workload {
                Workload::Server => Advice::Want(
                    "131072".to_owned(),
                    "what is queued deeper only waits: less memory a connection, fresher answers".to_owned(),
                ),
                _ => unproven(),
            },
        )
    },
    Row {
        about: "idle seconds until TCP asks whether the other side lives",
        formula: "agents and server: at most 200",
        source: "ip-sysctl.rst: 7200, for sockets with SO_KEEPALIVE; idle limits of balancers: Azure 240 s, AWS 350 s, Google 600 s",
        ..row("net.ipv4.tcp_keepalive_time", Scope::Network, Law::Choice, Valid::Range(1, 32_767), |facts, now| {
            let is_idle = matches!(facts.workload, Workload::Agents | Workload::Server);
            match first_number(now) {
                now if is_idle && now > KEEPALIVE => Advice::Want(
                    KEEPALIVE.to_string(),
                    "balancers forget idle connections after 240 s (Azure) or 350 s (AWS); only for sockets that ask \
                     for it (SO_KEEPALIVE)"
                        .to_owned(),
                ),
                _ if is_idle => Advice::Keep("it asks soon enough".to_owned()),
                _ => unproven(),
            }
        })
    },
    Row {
        risk: Risk::Mid,
        about: "connections that are tracked",
        formula: "on evidence (net.conntrack): four times those there are, at most 1/16384 of memory in bytes",
        source: "Documentation/networking/nf_conntrack-sysctl.rst; tuned, node-problem-detector",
        ..row(
            "net.netfilter.nf_conntrack_max",
            Scope::Host,
            Law::Limit,
            Valid::Range(1, i32::MAX as u64),
            |facts, now| {
                let peak = facts.now.net.conntrack.known().map_or(0, |it| it.count);
                match facts.has_finding("net.conntrack") {
                    Some(finding) => {
                        let most = (facts.memory() / CONNTRACK_SHARE).max(first_number(now));
                        let wanted = peak.saturating_mul(4).clamp(first_number(now), most).max(1);
                        Advice::FromRule(wanted.to_string(), finding.title.clone(), "net.conntrack")
                    }
                    None => quiet("net.conntrack"),
                }
            },
        )
    },
    Row {
        about: "neighbours below which none is forgotten",
        formula: "with more than 512 neighbours: 8192",
        source: "arp(7); tuned's openshift, bpftune",
        ..row("net.ipv4.neigh.default.gc_thresh1", Scope::Host, Law::Limit, INT, |facts, _| neighbours(facts, 8192))
    },
    Row {
        about: "neighbours from which on old ones are forgotten after five seconds",
        formula: "with more than 512 neighbours: 32768",
        source: "arp(7); tuned's openshift, bpftune",
        ..row("net.ipv4.neigh.default.gc_thresh2", Scope::Host, Law::Limit, INT, |facts, _| neighbours(facts, 32_768))
    },
    Row {
        about: "most neighbours there can be",
        formula: "with more than 512 neighbours: 65536",
        source: "arp(7); tuned's openshift, bpftune",
        ..row("net.ipv4.neigh.default.gc_thresh3", Scope::Host, Law::Limit, INT, |facts, _| neighbours(facts, 65_536))
    },
];

fn neighbours(facts: &Facts<'_>, wanted: u64) -> Advice {
    match facts.tunables.neighbours {
        seen if seen > NEIGHBOURS => Advice::Want(wanted.to_string(), "more than 512 neighbours".to_owned()),
        seen => Advice::Skip(Reason::NoEvidence, format!("{seen} neighbours")),
    }
}

fn budget(facts: &Facts<'_>, now: &str) -> Advice {
    // To be out of time is no loss, so the rule only says it.
    let said = facts.findings.iter().find(|finding| finding.rule == "net.softnet" && finding.title.contains("time"));
    match said {
        Some(finding) => {
            let wanted = (first_number(now).saturating_mul(5) / 4).clamp(1, i32::MAX as u64);
            Advice::FromRule(wanted.to_string(), finding.title.clone(), "net.softnet")
        }
        None => quiet("net.softnet"),
    }
}

fn untold() -> Advice {
    Advice::Skip(
        Reason::NoEvidence,
        "the way is not known: give --bandwidth and --rtt, for instance --bandwidth 10G --rtt 100ms".to_owned(),
    )
}

/// Twice what is on the way, so that a lost packet can be sent again meanwhile.
fn wanted(facts: &Facts<'_>) -> Option<(u64, String)> {
    let bytes = facts.bandwidth_delay()?.saturating_mul(2).min(BUFFER_MAX);
    let way = format!(
        "2 x {} Mbit/s x {} ms",
        facts.bandwidth.unwrap_or_default() / 1_000_000,
        facts.rtt_ms.unwrap_or_default()
    );
    Some((bytes, format!("{way}, at most {}", Bytes(BUFFER_MAX))))
}

fn buffer(facts: &Facts<'_>, now: &str, rule: &'static str) -> Advice {
    if let Some(finding) = facts.has_finding(rule) {
        let wanted = first_number(now).saturating_mul(4).clamp(4 << 20, BUFFER_MAX).max(first_number(now));
        return Advice::FromRule(wanted.to_string(), finding.title.clone(), rule);
    }
    wanted(facts).map_or_else(untold, |(bytes, why)| Advice::Want(bytes.max(4608).to_string(), why))
}

fn tcp_buffer(facts: &Facts<'_>, now: &str) -> Advice {
    let words: Vec<u64> = now.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [least, first, most] = words.as_slice() else {
        return Advice::Skip(Reason::Unreadable, format!("three numbers were expected: `{now}`"));
    };
    let Some((bytes, why)) = wanted(facts) else { return untold() };
    // The second number of tcp_mem is where the kernel begins to shrink buffers.
    let pressure = facts.tunables.text("net.ipv4.tcp_mem").and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    let fits = pressure.map_or(BUFFER_MAX, |pages| pages.saturating_mul(PAGE) / SOCKETS);
    let full = bytes;
    let bytes = bytes.min(fits);
    if full <= *most {
        return Advice::Keep(format!("{} is enough for {why}", Bytes(*most)));
    }
    if bytes <= *most {
        let room = Bytes(fits);
        return Advice::Keep(format!("{why} are more than {}, but 1/{SOCKETS} of tcp_mem is {room}", Bytes(*most)));
    }
    Advice::Want(format!("{least} {first} {bytes}"), format!("{why}, and 1/{SOCKETS} of tcp_mem"))
}
