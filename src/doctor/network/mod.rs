//! Rules about the network, as apm's network namespace sees it. All but the state of queues and tables is what grew in the
//! window: counters since boot say nothing about now.

use crate::doctor::rule::{Direction, Rule};
use crate::model::diagnosis::Area;

mod answer;
mod counter;
mod endpoint;
mod links;
mod path;
mod queues;
mod reach;
mod tables;

/// The rules.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        id: "net.retrans",
        area: Area::Network,
        title: "TCP sends much again",
        source: "/proc/net/snmp Tcp RetransSegs, OutSegs; tcp_info of each connection by sock_diag",
        computation: "segments sent again in percent of those sent in the window; from 10 again and 200 sent on, or 10 %; those that the other side had already are only said",
        unit: "%",
        bad: Direction::Above,
        warn: Some(1.0),
        crit: Some(5.0),
        thresholds_from: "own: TCP's throughput halves from about 1 % on; Gregg looks at anything above 0; critical only if \
                          timeouts (TcpExt TCPTimeouts) agree",
        remedy: "look at the path to the peers named: `mtr -n PEER`, drops of interfaces, a link that is full",
        check: path::retrans,
    },
    Rule {
        id: "net.listen_ovf",
        area: Area::Network,
        title: "connections are turned away at a full listen queue",
        source: "/proc/net/netstat TcpExt ListenOverflows, ListenDrops; queues and drops of listeners by sock_diag",
        computation: "the larger growth of both a second; or a queue that is full in both snapshots",
        unit: "/s",
        bad: Direction::Above,
        warn: Some(0.5),
        crit: Some(5.0),
        thresholds_from: "pcp: above 0; netdata: 1 and 5 a second; critical only if a queue is full at the end, too",
        remedy: "accept faster, or a longer queue: net.core.somaxconn and the program's own listen() both limit it",
        check: queues::listen,
    },
    Rule {
        id: "net.syn_cookies",
        area: Area::Network,
        title: "more connections are half open than fit",
        source: "/proc/net/netstat TcpExt TCPReqQFullDoCookies, TCPReqQFullDrop; half-open sockets by sock_diag",
        computation: "growth of both a second",
        unit: "/s",
        bad: Direction::Above,
        warn: Some(1.0),
        crit: Some(5.0),
        thresholds_from: "netdata: 1 and 5 a second; critical only if requests are dropped or half-open ones fill the queue",
        remedy: "a longer queue (somaxconn and listen()) if they are real clients; a limit at the firewall if they are not",
        check: queues::syn_cookies,
    },
    Rule {
        id: "net.softnet",
        area: Area::Network,
        title: "a CPU cannot take received packets in time",
        source: "/proc/net/softnet_stat columns 2 and 3, of the whole machine",
        computation: "packets dropped a minute, from 5 on; being out of time alone is no loss and only said",
        unit: "/min",
        bad: Direction::Above,
        warn: Some(10.0),
        crit: None,
        thresholds_from: "netdata: 10 a minute on average",
        remedy: "spread packets over CPUs (RSS, RPS), or `sysctl -w net.core.netdev_max_backlog=2000`",
        check: links::softnet,
    },
    Rule {
        id: "net.if_drops",
        area: Area::Network,
        title: "an interface or its queue loses packets",
        source: "/proc/net/dev drop, errs; drops of queueing disciplines by rtnetlink (in no file)",
        computation: "dropped packets in percent of all, from 100 packets a second and 20 drops on; damaged ones weigh twice",
        unit: "%",
        bad: Direction::Above,
        warn: Some(2.0),
        crit: None,
        thresholds_from: "netdata: 2 % dropped; node_exporter mixin: 1 % damaged; the smaller counts are own, for a window",
        remedy: "`tc -s qdisc show dev IF` for a full queue, `ethtool -S IF` for the card",
        check: links::drops,
    },
    Rule {
        id: "net.if_util",
        area: Area::Network,
        title: "an interface is full",
        source: "/proc/net/dev bytes; /sys/class/net/*/speed; rtnetlink",
        computation: "bits a second in percent of the speed, the busier direction; without a queue or drops only said",
        unit: "%",
        bad: Direction::Above,
        warn: Some(85.0),
        crit: None,
        thresholds_from: "netdata 90 %, pcp 85 %",
        remedy: "find out who sends (`ss -ti`), send less at once, or take a faster link",
        check: links::utilisation,
    },
    Rule {
        id: "net.conntrack",
        area: Area::Network,
        title: "the table of tracked connections is full",
        source: "/proc/sys/net/netfilter nf_conntrack_count, nf_conntrack_max; /proc/net/stat/nf_conntrack drop, early_drop",
        computation: "entries in percent of their most",
        unit: "%",
        bad: Direction::Above,
        warn: Some(80.0),
        crit: Some(95.0),
        thresholds_from: "node_exporter mixin 75 %, netdata 90 and 95 %; critical if packets are dropped, too",
        remedy: "raise net.netfilter.nf_conntrack_max, shorten timeouts, or do not track what needs no tracking",
        check: tables::conntrack,
    },
    Rule {
        id: "net.ports",
        area: Area::Network,
        title: "ports towards one destination run out",
        source: "sock_diag; /proc/sys/net/ipv4/ip_local_port_range",
        computation: "ports of the range in use towards one address and port, in percent of the range",
        unit: "%",
        bad: Direction::Above,
        warn: Some(70.0),
        crit: Some(90.0),
        thresholds_from: "own: none is published; critical if it was so at both ends of the window, or all are in use",
        remedy: "keep connections and use them again (a pool), or widen net.ipv4.ip_local_port_range",
        check: tables::ports,
    },
    Rule {
        id: "net.time_wait",
        area: Area::Network,
        title: "closed connections hold the ports towards one destination",
        source: "sock_diag; /proc/net/sockstat tw; /proc/net/netstat TcpExt TCPTimeWaitOverflow",
        computation: "connections in TIME_WAIT towards one address and port, in percent of the range of ports",
        unit: "%",
        bad: Direction::Above,
        warn: Some(50.0),
        crit: None,
        thresholds_from: "own: none is published; many in TIME_WAIT alone are healthy",
        remedy: "keep connections and use them again (keep-alive, a pool)",
        check: tables::time_wait,
    },
    Rule {
        id: "net.sockmem",
        area: Area::Network,
        title: "memory for TCP runs out",
        source: "/proc/net/sockstat TCP mem; /proc/sys/net/ipv4/tcp_mem; TcpExt TCPMemoryPressures, PruneCalled",
        computation: "pages in use in percent of the hard limit, the third number of tcp_mem",
        unit: "%",
        bad: Direction::Above,
        warn: Some(66.0),
        crit: Some(90.0),
        thresholds_from: "the kernel's own pressure mark is 2/3 of the limit; 90 % as netdata; critical if buffers are pruned, too",
        remedy: "find the connections that are not read (`ss -tmn`), then raise net.ipv4.tcp_mem",
        check: tables::sockmem,
    },
    Rule {
        id: "net.udp_rcvbuf",
        area: Area::Network,
        title: "UDP packets are lost because nobody reads them in time",
        source: "/proc/net/snmp Udp RcvbufErrors, InDatagrams; /proc/net/snmp6; drops of /proc/net/udp",
        computation: "packets lost a second",
        unit: "/s",
        bad: Direction::Above,
        warn: Some(10.0),
        crit: Some(100.0),
        thresholds_from: "netdata: 10 a minute on average, here 10 a second for a short window; critical (own) if more than 1 % \
                          of all is lost and the queue of the socket stands",
        remedy: "a faster reader, or a larger buffer: SO_RCVBUF in the program and net.core.rmem_max",
        check: queues::udp,
    },
    Rule {
        id: "net.no_answer",
        area: Area::Network,
        title: "connections get no answer",
        source: "sock_diag: state, timeouts in a row and bytes acknowledged of each connection",
        computation: "connections with two timeouts in a row or more and nothing acknowledged in the window; one or two that are being made are only said",
        unit: "",
        bad: Direction::Above,
        warn: Some(1.0),
        crit: None,
        thresholds_from: "own; RFC 6298: the second timeout in a row is at least three times a round trip",
        remedy: "see whether the other side lives and what is on the way: `mtr -n PEER`",
        check: answer::none,
    },
    Rule {
        id: "net.close_wait",
        area: Area::Network,
        title: "connections that nobody here closes",
        source: "sock_diag: connections in state CLOSE-WAIT",
        computation: "their number: the other side has closed, the program has not",
        unit: "",
        bad: Direction::Above,
        warn: Some(100.0),
        crit: None,
        thresholds_from: "own: each holds a descriptor; 1,024 are the usual limit of a process",
        remedy: "the program leaks connections: `ss -tanp state close-wait` names it",
        check: answer::close_wait,
    },
    Rule {
        id: "net.rst",
        area: Area::Network,
        title: "many connections are refused or cut",
        source: "/proc/net/snmp Tcp OutRsts, AttemptFails, EstabResets, ActiveOpens, PassiveOpens; /proc/uptime",
        computation: "the fastest of the three, if 10 times its mean since boot and a tenth of all connections",
        unit: "/s",
        bad: Direction::Above,
        warn: Some(5.0),
        crit: None,
        thresholds_from: "netdata: 10 times the mean; the 5 a second and the tenth are own",
        remedy: "see who connects to a port where nobody listens: `tcpdump -n 'tcp[tcpflags] & tcp-rst != 0'`",
        check: path::resets,
    },
    Rule {
        id: "net.mtu",
        area: Area::Network,
        title: "full-size packets do not arrive",
        source: "tcp_info by sock_diag: backoff, retransmits, unacked, sacked, snd_mss, pmtu, bytes_acked",
        computation: "timeouts in a row of a connection whose small segments arrived and whose full ones do not",
        unit: "",
        bad: Direction::Above,
        warn: Some(3.0),
        crit: None,
        thresholds_from: "own: three timeouts in a row are no chance",
        remedy: "`tracepath -n PEER` shows where; a smaller MTU, or `sysctl -w net.ipv4.tcp_mtu_probing=1`",
        check: path::mtu,
    },
    Rule {
        id: "net.dns",
        area: Area::Network,
        title: "a nameserver is slow or silent",
        source: "one query to each nameserver of /etc/resolv.conf, with --probe",
        computation: "time until the answer; without one within 2 s it counts as that",
        unit: "ms",
        bad: Direction::Above,
        warn: Some(100.0),
        crit: Some(1000.0),
        thresholds_from: "own, after node-problem-detector's check; critical if no nameserver is better",
        remedy: "another nameserver first in /etc/resolv.conf, a cache on this machine, `options timeout:1`",
        check: reach::dns,
    },
    Rule {
        id: "net.proxy",
        area: Area::Network,
        title: "a proxy of the environment does not answer",
        source: "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and one connection to each, with --probe",
        computation: "time until it is connected",
        unit: "ms",
        bad: Direction::Above,
        warn: Some(1000.0),
        crit: None,
        thresholds_from: "own: a proxy is near",
        remedy: "start the proxy, or unset the variable",
        check: reach::proxy,
    },
    Rule {
        id: "llm.net",
        area: Area::Agents,
        title: "a host that agents need does not answer",
        source: "one connection to each host of --probe=HOST or of *_BASE_URL variables: name, TCP, TLS",
        computation: "time until the first answer of TLS",
        unit: "ms",
        bad: Direction::Above,
        warn: Some(1000.0),
        crit: None,
        thresholds_from: "own: a connection over the world takes 0.3 s",
        remedy: "see `net.dns`, `net.proxy` and `net.retrans`; ask the firewall's owner",
        check: reach::hosts,
    },
];

#[cfg(test)]
pub(crate) mod samples {
    use std::fmt::Write as _;

    use crate::doctor::fixture::Fixture;

    /// /proc/net/snmp of a 6.18 kernel with these numbers of Tcp and Udp.
    pub(crate) fn snmp(tcp: &[(&str, u64)], udp: &[(&str, u64)]) -> String {
        const TCP: &str = "RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab \
                           InSegs OutSegs RetransSegs InErrs OutRsts InCsumErrors";
        const UDP: &str = "InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti \
                           MemErrors";
        let mut text = String::new();
        for (group, names, values) in [("Tcp", TCP, tcp), ("Udp", UDP, udp)] {
            let words: Vec<&str> = names.split_ascii_whitespace().collect();
            let value = |name: &str| match values.iter().find(|(known, _)| *known == name) {
                Some((_, value)) => value.to_string(),
                // As the kernel writes it: no limit.
                None if name == "MaxConn" => "-1".to_owned(),
                None => "0".to_owned(),
            };
            let values: Vec<String> = words.iter().map(|name| value(name)).collect();
            let _ = writeln!(text, "{group}: {}\n{group}: {}", words.join(" "), values.join(" "));
        }
        text
    }

    /// /proc/net/netstat with these numbers.
    pub(crate) fn netstat(values: &[(&str, u64)]) -> String {
        let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
        let numbers: Vec<String> = values.iter().map(|(_, value)| value.to_string()).collect();
        format!("TcpExt: {}\nTcpExt: {}\n", names.join(" "), numbers.join(" "))
    }

    /// A machine whose TCP counters grow so, and those of netstat from zero.
    pub(crate) fn tcp(name: &str, from: &[(&str, u64)], to: &[(&str, u64)], more: &[(&str, u64)]) -> Fixture {
        let fixture = Fixture::new(name);
        let zero: Vec<(&str, u64)> = more.iter().map(|(name, _)| (*name, 0)).collect();
        fixture.changing("proc/net/snmp", &snmp(from, &[]), &snmp(to, &[]));
        fixture.changing("proc/net/netstat", &netstat(&zero), &netstat(more));
        fixture
    }
}

#[cfg(test)]
mod tests {
    use super::RULES;
    use crate::doctor::diagnose::diagnose;
    use crate::doctor::question::Question;
    use crate::model::snapshot::Window;

    #[test]
    fn nothing_seen_is_never_ok() {
        let diagnosis = diagnose(
            &Window::default(),
            &Question { only: RULES.iter().map(|rule| rule.id.to_owned()).collect(), ..Question::default() },
        );
        assert_eq!((diagnosis.ok, diagnosis.findings), (vec![], vec![]));
        assert_eq!(diagnosis.skipped.len(), RULES.len());
    }
}
