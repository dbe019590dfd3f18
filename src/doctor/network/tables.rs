//! Tables with an end: tracked connections, ports towards a destination, memory for sockets.

use std::collections::BTreeMap;

use crate::doctor::culprit;
use crate::doctor::network::counter::{counter, file_of, grown, percent};
use crate::doctor::network::endpoint::{address, holder, named};
use crate::doctor::network::path::cut;
use crate::doctor::network::queues::sockets;
use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::model::diagnosis::{Culprit, Finding, Severity};
use crate::model::snapshot::net::{Connection, Destination, Tcp};
use crate::model::unit::Bytes;

/// Page size of x86-64 and of aarch64 as distributions build it.
const PAGE: u64 = 4096;

pub(super) fn conntrack(context: &RuleContext<'_>) -> Verdict {
    let now = context.now().net.conntrack.get()?;
    if now.max == 0 {
        // The table has no end.
        return Ok(Vec::new());
    }
    let before = context.before().net.conntrack.known();
    let drops = before.and_then(|before| before.drop).zip(now.drop);
    let early = before.and_then(|before| before.early_drop).zip(now.early_drop);
    let dropped = drops.map_or(0, |(before, now)| now.saturating_sub(before));
    let pushed_out = early.map_or(0, |(before, now)| now.saturating_sub(before));
    let share = percent(now.count, now.max);
    let suffers = dropped > 0 || pushed_out > 0;
    let severity = match context.judge(share, suffers) {
        // Another network namespace may fill the table: what is dropped here is dropped.
        None if dropped > 0 && context.warn.is_some() => Severity::Warn,
        Some(severity) => severity,
        None => return Ok(Vec::new()),
    };
    let loss = if dropped > 0 { format!(", {dropped} packets dropped") } else { String::new() };
    let title = format!("{} of {} tracked connections are in use ({share:.0}%){loss}", now.count, now.max);
    let folder = "/proc/sys/net/netfilter";
    let mut finding = context
        .finding(severity, share, title)
        .read(&format!("{folder}/nf_conntrack_count"), "entries", now.count as f64, "")
        .read(&format!("{folder}/nf_conntrack_max"), "most", now.max as f64, "")
        .agreed(1 + u32::from(suffers));
    for (name, counts) in [("drop", drops), ("early_drop", early)] {
        if let Some((before, now)) = counts {
            finding = finding.counted("/proc/net/stat/nf_conntrack", name, before, now, "");
        }
    }
    let say = |(source, count): &(String, u64)| named("peer", source, format!("began {count} of the connections read"));
    let larger = now.max.saturating_mul(2);
    Ok(vec![finding.by(now.sources.iter().take(culprit::NAMED).map(say)).fix(
        "a larger table (about 320 B an entry)",
        Some(context.as_root(&format!("sysctl -w net.netfilter.nf_conntrack_max={larger}"))),
    )])
}

/// The ports that connections from here get.
fn range(context: &RuleContext<'_>) -> Result<u64, Skip> {
    let limits = &context.now().net.limits;
    let (low, high) = (limits.get("ip_local_port_range.0"), limits.get("ip_local_port_range.1"));
    match low.zip(high) {
        Some((low, high)) if high >= low => Ok(high - low + 1),
        _ => Err(Skip("/proc/sys/net/ipv4/ip_local_port_range: not understood".to_owned())),
    }
}

/// Of all destinations none is near its end: known only if all sockets were seen.
fn calm(tcp: &Tcp) -> Verdict {
    if tcp.is_cut { Err(cut(tcp)) } else { Ok(Vec::new()) }
}

pub(super) fn ports(context: &RuleContext<'_>) -> Verdict {
    let range = range(context)?;
    let tcp = sockets(context)?;
    let mut findings = Vec::new();
    for destination in &tcp.destinations {
        let used = u64::from(destination.ports);
        let share = percent(used, range);
        let earlier = earlier(context, destination);
        let confirmed = used >= range
            || earlier
                .is_some_and(|before| context.crit.is_some_and(|crit| percent(u64::from(before.ports), range) >= crit));
        let Some(severity) = context.judge(share, confirmed) else { continue };
        let (peer, local) = (&destination.peer, &destination.local);
        let finding = context
            .finding(severity, share, format!("{used} of {range} ports to {peer} are in use"))
            .counted(
                &format!("sock_diag {local} {peer}"),
                "ports",
                earlier.map_or(0, |before| u64::from(before.ports)),
                used,
                "",
            )
            .read(&format!("sock_diag {local} {peer}"), "TIME_WAIT", f64::from(destination.time_wait), "")
            .read("/proc/sys/net/ipv4/ip_local_port_range", "ports", range as f64, "")
            .agreed(1 + u32::from(confirmed))
            .by(users(context, destination))
            .by([named("peer", peer, format!("{used} ports of {local} lead to it"))]);
        findings.push(wider(context, finding.fix("keep connections and use them again", None)));
        if findings.len() >= culprit::NAMED {
            break;
        }
    }
    if findings.is_empty() { calm(tcp) } else { Ok(findings) }
}

/// A range that is small already can be made wider; the usual one only a little.
fn wider(context: &RuleContext<'_>, finding: Finding) -> Finding {
    let low = context.now().net.limits.get("ip_local_port_range.0").copied().unwrap_or_default();
    let high = context.now().net.limits.get("ip_local_port_range.1").copied().unwrap_or_default();
    if low <= 15_000 && high >= 65_000 {
        return finding;
    }
    // Wider on both sides: never what was in it already left out.
    let (low, high) = (low.min(15_000), high.max(65_000));
    let command = context.as_root(&format!("sysctl -w net.ipv4.ip_local_port_range='{low} {high}'"));
    finding.fix("more ports; see first that nothing listens in them", Some(command))
}

fn earlier<'a>(context: &RuleContext<'a>, now: &Destination) -> Option<&'a Destination> {
    let before = context.before().net.tcp.known()?;
    before.destinations.iter().find(|before| before.local == now.local && before.peer == now.peer)
}

/// Processes that hold some of the sockets, each once.
fn users(context: &RuleContext<'_>, destination: &Destination) -> Vec<Culprit> {
    let mut found: Vec<Culprit> = Vec::new();
    for inode in &destination.inodes {
        let Some(owner) = context.now().net.owners.get(inode) else { continue };
        if owner.pid != context.window.observer && found.iter().all(|known| known.pid != Some(owner.pid)) {
            let what = format!("holds connections to {}", destination.peer);
            found.extend(holder(context, *inode, 0, what));
        }
    }
    found.truncate(culprit::NAMED);
    found
}

pub(super) fn time_wait(context: &RuleContext<'_>) -> Verdict {
    let range = range(context)?;
    let counted = context.now().net.sockets.get()?.get("TCP.tw").copied();
    let overflow = counter(context, "TcpExt.TCPTimeWaitOverflow");
    let overflown = overflow.as_ref().map_or(0, |(before, now)| now.saturating_sub(*before));
    let warn = context.warn.unwrap_or(100.0);
    let worst = match sockets(context) {
        Ok(tcp) => {
            let worst = tcp.destinations.iter().max_by_key(|destination| destination.time_wait);
            let is_calm = worst.is_none_or(|worst| percent(u64::from(worst.time_wait), range) < warn);
            if tcp.is_cut && is_calm && overflown == 0 && counted.is_none_or(|all| percent(all, range) >= warn) {
                return Err(cut(tcp));
            }
            worst
        }
        // All together are fewer than would be too many towards one.
        Err(_) if counted.is_some_and(|all| percent(all, range) < warn) && overflown == 0 => return Ok(Vec::new()),
        Err(skip) => return Err(skip),
    };
    let (waiting, peer) = worst.map_or((0, ""), |worst| (u64::from(worst.time_wait), worst.peer.as_str()));
    let share = percent(waiting, range);
    let (severity, title) = match context.judge(share, false) {
        Some(severity) => (severity, format!("{waiting} of {range} ports to {peer} wait for late packets")),
        None if overflown > 0 && context.warn.is_some() => {
            (Severity::Warn, format!("{overflown} connections did not fit into TIME_WAIT (TCPTimeWaitOverflow)"))
        }
        None => return Ok(Vec::new()),
    };
    let mut finding = context.finding(severity, share, title);
    if let Some(all) = counted {
        finding = finding.read("/proc/net/sockstat", "TCP tw", all as f64, "");
    }
    if let Ok((before, now)) = overflow {
        finding = finding.counted(file_of("TcpExt."), "TcpExt TCPTimeWaitOverflow", before, now, "");
    }
    if let Some(worst) = worst {
        let path = format!("sock_diag {} {}", worst.local, worst.peer);
        let before = earlier(context, worst).map_or(0, |before| u64::from(before.time_wait));
        finding = finding
            .counted(&path, "TIME_WAIT", before, u64::from(worst.time_wait), "")
            .by(users(context, worst))
            .by([named("peer", &worst.peer, format!("{} closed connections to it", worst.time_wait))]);
    }
    Ok(vec![sooner(context, finding.fix("keep connections and use them again", None), overflown, worst)])
}

/// How ports come back sooner, where the setting for it is not in effect already.
fn sooner(context: &RuleContext<'_>, finding: Finding, overflown: u64, worst: Option<&Destination>) -> Finding {
    let limits = &context.now().net.limits;
    if overflown > 0 {
        let most = limits.get("tcp_max_tw_buckets").copied();
        let command = most.map(|most| format!("sysctl -w net.ipv4.tcp_max_tw_buckets={}", most.saturating_mul(2)));
        return finding.fix("or keep more of them in TIME_WAIT", command.map(|command| context.as_root(&command)));
    }
    // 1: for all; 2, the default since Linux 4.19: for the loopback interface only.
    let is_loopback = worst.and_then(|worst| address(&worst.peer)).is_some_and(|peer| peer.is_loopback());
    let has_effect = match limits.get("tcp_tw_reuse") {
        Some(0) => true,
        Some(2) => !is_loopback,
        _ => false,
    };
    match has_effect {
        true => finding.fix(
            "or let new connections take these ports after a second",
            Some(context.as_root("sysctl -w net.ipv4.tcp_tw_reuse=1")),
        ),
        false => wider(context, finding),
    }
}

pub(super) fn sockmem(context: &RuleContext<'_>) -> Verdict {
    let pages = context.now().net.sockets.get()?.get("TCP.mem").copied();
    let limits = &context.now().net.limits;
    let (pressure, most) = (limits.get("tcp_mem.1").copied(), limits.get("tcp_mem.2").copied());
    let (Some(pages), Some(pressure), Some(most)) = (pages, pressure, most.filter(|most| *most > 0)) else {
        return Err(Skip("/proc/sys/net/ipv4/tcp_mem: not visible in this network namespace".to_owned()));
    };
    let share = percent(pages, most);
    let pruned = grown(context, "TcpExt.PruneCalled")
        .saturating_add(grown(context, "TcpExt.TCPMemoryPressures"))
        .saturating_add(grown(context, "TcpExt.TCPAbortOnMemory"));
    let Some(severity) = context.judge(share, pruned > 0) else { return Ok(Vec::new()) };
    let bytes = |pages: u64| Bytes(pages.saturating_mul(PAGE));
    let mut finding = context
        .finding(severity, share, format!("TCP uses {} of {} ({share:.0}%)", bytes(pages), bytes(most)))
        .read("/proc/net/sockstat", "TCP mem", pages as f64, " pages")
        .read("/proc/sys/net/ipv4/tcp_mem", "pressure", pressure as f64, " pages")
        .read("/proc/sys/net/ipv4/tcp_mem", "most", most as f64, " pages")
        .agreed(1 + u32::from(pruned > 0));
    for name in ["TcpExt.PruneCalled", "TcpExt.TCPMemoryPressures", "TcpExt.TCPAbortOnMemory"] {
        if let Ok((before, now)) = counter(context, name) {
            finding = finding.counted(file_of(name), &name.replace('.', " "), before, now, "");
        }
    }
    Ok(vec![
        finding
            .by(queues_by_holder(context))
            .fix("find the connections that are not read or not acknowledged", Some("ss -tmn".to_owned())),
    ])
}

/// Who has the most in the queues of its connections.
fn queues_by_holder(context: &RuleContext<'_>) -> Vec<Culprit> {
    let net = &context.now().net;
    let mut holders: BTreeMap<(Option<i32>, u32), Vec<&Connection>> = BTreeMap::new();
    let queued = |one: &Connection| u64::from(one.receive_queue) + u64::from(one.send_queue);
    let connections = net.tcp.known().into_iter().flat_map(|tcp| &tcp.connections);
    for one in connections.filter(|one| queued(one) > 0) {
        let pid = net.owners.get(&one.inode).map(|owner| owner.pid);
        holders.entry((pid, one.uid)).or_default().push(one);
    }
    let sum = |all: &[&Connection], of: fn(&Connection) -> u32| Bytes(all.iter().map(|one| u64::from(of(one))).sum());
    let mut holders: Vec<Vec<&Connection>> = holders.into_values().collect();
    holders.sort_by_key(|all| std::cmp::Reverse(all.iter().map(|one| queued(one)).sum::<u64>()));
    let say = |all: Vec<&Connection>| {
        let fullest = all.iter().max_by_key(|one| queued(one))?;
        let (unread, unsent) = (sum(&all, |one| one.receive_queue), sum(&all, |one| one.send_queue));
        let more = if all.len() > 1 { format!(" and {} more", all.len() - 1) } else { String::new() };
        let what = format!("{}{more}: {unread} not read, {unsent} not sent", fullest.peer);
        holder(context, fullest.inode, fullest.uid, what)
    };
    holders.into_iter().take(culprit::NAMED).filter_map(say).collect()
}

#[cfg(test)]
mod tests {
    use crate::doctor::diagnose::diagnose;
    use crate::doctor::fixture::{Fixture, ask, severities};
    use crate::doctor::network::samples::{netstat, snmp};
    use crate::doctor::question::Question;
    use crate::model::diagnosis::Severity::{Crit, Warn};
    use crate::model::snapshot::net::{Connection, Destination, Owner, Tcp};
    use crate::model::snapshot::{Field, Window};

    /// /proc/net/stat/nf_conntrack of a 6.18 kernel with two CPUs.
    fn stat(drop: u64, early: u64) -> String {
        format!(
            "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete search_restart\n\
             00000100  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 {drop:08x} {early:08x} 00000000  00000000 00000000 00000000 00000000\n\
             00000100  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000  00000000 00000000 00000000 00000000\n"
        )
    }

    #[test]
    fn a_full_table_is_critical_once_it_drops() {
        let rows = [
            (100_000, 0, vec![]),
            (215_000, 0, vec![Warn]),
            (262_144, 0, vec![Warn]),
            (262_144, 3_456, vec![Crit]),
            // Another namespace fills it.
            (10, 3_456, vec![Warn]),
        ];
        for (count, dropped, expected) in rows {
            let fixture = Fixture::new("conntrack");
            fixture.file("proc/sys/net/netfilter/nf_conntrack_max", "262144\n");
            fixture.file("proc/sys/net/netfilter/nf_conntrack_count", &format!("{count}\n"));
            fixture.changing("proc/net/stat/nf_conntrack", &stat(1_000, 5), &stat(1_000 + dropped, 5));
            let found = fixture.ask("net.conntrack");
            assert_eq!(severities(&found), expected, "{count} {dropped}");
            if expected == [Crit] {
                let title = "262144 of 262144 tracked connections are in use (100%), 3456 packets dropped";
                assert_eq!(found[0].title, title);
            }
        }
    }

    fn machine(name: &str, range: &str, waiting: u64) -> Fixture {
        let fixture = Fixture::new(name);
        fixture.file("proc/sys/net/ipv4/ip_local_port_range", range);
        fixture.file(
            "proc/net/sockstat",
            &format!("sockets: used 17\nTCP: inuse 1 orphan 0 tw {waiting} alloc 1 mem 142\n"),
        );
        fixture.file("proc/net/snmp", &snmp(&[], &[]));
        fixture.file("proc/net/netstat", &netstat(&[("TCPTimeWaitOverflow", 7)]));
        fixture
    }

    fn towards(ports: u32, time_wait: u32, is_cut: bool) -> Field<Tcp> {
        let destination = Destination {
            local: "10.0.0.1".to_owned(),
            peer: "10.0.0.9:443".to_owned(),
            ports,
            time_wait,
            inodes: vec![5, 6],
        };
        Field::Known(Tcp { destinations: vec![destination], seen: 40_000, is_cut, ..Tcp::default() })
    }

    fn skips(window: &Window, rule: &str) -> usize {
        diagnose(window, &Question { only: vec![rule.to_owned()], ..Question::default() }).skipped.len()
    }

    #[test]
    fn ports_to_one_destination_run_out() {
        let mut window = machine("ports", "40000\t40063\n", 0).window();
        for pid in [5, 6] {
            window.to.net.owners.insert(pid, Owner { pid: 99, name: "client".to_owned() });
        }
        // Without sockets nothing is known.
        assert_eq!(skips(&window, "net.ports"), 1);
        for (before, now, expected) in
            [(10, 44, vec![]), (10, 45, vec![Warn]), (10, 60, vec![Warn]), (60, 60, vec![Crit])]
        {
            (window.from.net.tcp, window.to.net.tcp) = (towards(before, 0, false), towards(now, 0, false));
            assert_eq!(severities(&ask(&window, "net.ports")), expected, "{before} {now}");
        }
        window.to.net.tcp = towards(64, 3, false);
        let found = ask(&window, "net.ports");
        assert_eq!(
            (severities(&found), found[0].title.as_str()),
            (vec![Crit], "64 of 64 ports to 10.0.0.9:443 are in use")
        );
        let who: Vec<_> = found[0].culprits.iter().map(|who| (who.kind.as_str(), who.pid)).collect();
        assert_eq!(who, [("process", Some(99)), ("peer", None)]);
        // Cut: what was not seen may be worse.
        window.to.net.tcp = towards(10, 0, true);
        assert_eq!(skips(&window, "net.ports"), 1);
    }

    #[test]
    fn three_thousand_in_time_wait_are_healthy() {
        let mut window = machine("time-wait", "32768\t60999\n", 3_000).window();
        // Known without sock_diag, too.
        assert_eq!(severities(&ask(&window, "net.time_wait")), []);
        window.to.net.tcp = towards(3_000, 3_000, false);
        assert_eq!(severities(&ask(&window, "net.time_wait")), []);
        assert_eq!(severities(&ask(&window, "net.ports")), []);
        let mut window = machine("time-wait-many", "32768\t60999\n", 15_000).window();
        assert_eq!(skips(&window, "net.time_wait"), 1);
        window.to.net.tcp = towards(15_010, 15_000, false);
        let found = ask(&window, "net.time_wait");
        assert_eq!(severities(&found), [Warn]);
        assert_eq!(found[0].title, "15000 of 28232 ports to 10.0.0.9:443 wait for late packets");
    }

    /// Regression: tcp_tw_reuse=1 was advised where it was 2 and the peer on the loopback interface, which changes nothing.
    #[test]
    fn a_setting_that_is_in_effect_already_is_no_advice() {
        let advice = |reuse: Option<u64>, peer: &str, range: &str| {
            let mut window = machine(&format!("tw-reuse-{reuse:?}-{}", peer.len()), range, 150).window();
            window.to.net.limits.extend(reuse.map(|value| ("tcp_tw_reuse".to_owned(), value)));
            window.to.net.tcp = towards(150, 150, false);
            if let Field::Known(tcp) = &mut window.to.net.tcp {
                tcp.destinations[0].peer = peer.to_owned();
            }
            let found = ask(&window, "net.time_wait");
            found[0].remedies.iter().filter_map(|remedy| remedy.command.clone()).collect::<Vec<_>>()
        };
        let (here, there, small) = ("127.0.0.1:443", "10.0.0.9:443", "40000\t40199\n");
        let reuse = ["sysctl -w net.ipv4.tcp_tw_reuse=1"];
        assert_eq!(advice(Some(0), here, small), reuse);
        assert_eq!(advice(Some(2), there, small), reuse);
        for (value, peer) in [(Some(2), here), (Some(1), there), (Some(1), here), (None, there)] {
            assert_eq!(
                advice(value, peer, small),
                ["sysctl -w net.ipv4.ip_local_port_range='15000 65000'"],
                "{value:?}"
            );
        }
        // What is wide on one side stays so.
        let question = Question { only: vec!["net.ports".to_owned()], ..Question::default() };
        let mut window = machine("ports-wide", "1024\t60999\n", 0).window();
        (window.from.net.tcp, window.to.net.tcp) = (towards(59_000, 0, false), towards(59_000, 0, false));
        let found = diagnose(&window, &question).findings;
        let wider = Some("sysctl -w net.ipv4.ip_local_port_range='1024 65000'");
        assert_eq!(found[0].remedies[1].command.as_deref(), wider);
    }

    #[test]
    fn connections_that_did_not_fit_into_time_wait_are_told() {
        let fixture = machine("time-wait-overflow", "32768\t60999\n", 3_000);
        let overflow = |count| netstat(&[("TCPTimeWaitOverflow", count)]);
        fixture.changing("proc/net/netstat", &overflow(7), &overflow(107));
        let mut window = fixture.window();
        window.to.net.tcp = towards(100, 100, false);
        let found = ask(&window, "net.time_wait");
        assert_eq!(severities(&found), [Warn]);
        assert_eq!(found[0].title, "100 connections did not fit into TIME_WAIT (TCPTimeWaitOverflow)");
    }

    #[test]
    fn memory_for_tcp_is_held_against_its_limit() {
        for (pages, pruned, expected) in
            [(142, 0, vec![]), (400_000, 0, vec![Warn]), (560_000, 0, vec![Warn]), (560_000, 40, vec![Crit])]
        {
            let fixture = Fixture::new("sockmem");
            fixture.file(
                "proc/net/sockstat",
                &format!("sockets: used 17\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem {pages}\n"),
            );
            fixture.file("proc/sys/net/ipv4/tcp_mem", "287898\t383867\t575796\n");
            fixture.file("proc/net/snmp", &snmp(&[], &[]));
            fixture.changing("proc/net/netstat", &netstat(&[("PruneCalled", 0)]), &netstat(&[("PruneCalled", pruned)]));
            let mut window = fixture.window();
            let connection = |peer: &str, receive_queue| Connection {
                peer: peer.to_owned(),
                receive_queue,
                inode: 5,
                ..Connection::default()
            };
            let connections =
                vec![connection("10.0.0.8:443", 1 << 20), connection("10.0.0.9:443", 6 << 20), connection("a:1", 0)];
            window.to.net.tcp = Field::Known(Tcp { connections, ..Tcp::default() });
            window.to.net.owners.insert(5, Owner { pid: 99, name: "reader".to_owned() });
            let found = ask(&window, "net.sockmem");
            assert_eq!(severities(&found), expected, "{pages} {pruned}");
            if let Some(found) = found.first() {
                assert_eq!(found.culprits[0].pid, Some(99));
                assert_eq!(found.culprits[0].what, "10.0.0.9:443 and 1 more: 7 MiB not read, 0 B not sent");
            }
        }
        // In a network namespace the limit is not visible.
        let fixture = Fixture::new("sockmem-namespace");
        fixture.file("proc/net/sockstat", "sockets: used 17\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 142\n");
        assert_eq!(skips(&fixture.window(), "net.sockmem"), 1);
    }
}
