//! What happens to segments on their way: lost, refused, too large.

use std::collections::HashMap;

use crate::doctor::culprit;
use crate::doctor::network::counter::{counter, file_of, grown, percent};
use crate::doctor::network::endpoint::{address, holder, named};
use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::model::diagnosis::{Culprit, Severity};
use crate::model::snapshot::net::{Connection, Tcp};

/// Fewer segments say nothing: one of twenty is 5 %.
const SEGMENTS_MIN: u64 = 200;
/// See `SEGMENTS_MIN`.
const RESENT_MIN: u64 = 10;
/// From this share on so few say enough: heavy loss leaves no more than some segments a second.
const HEAVY: f64 = 10.0;
/// Resets in proportion to their mean since boot.
const RESETS_TIMES: f64 = 10.0;
/// Resets in proportion to connections.
const RESETS_SHARE: f64 = 0.1;
/// Clock ticks a second of CPU time.
const TICKS: f64 = 100.0;
/// A path without an answer for so long is dead, whatever the size of its packets.
const ALIVE_MS: u32 = 60_000;
/// Full segments that went through, from which on size is no obstacle.
const MOVED: u64 = 10;
/// Largest headers of a segment: IPv6 (40), TCP (20), timestamps (12).
const HEADERS_MAX: u32 = 80;
/// Smallest payload of a full segment; the kernel's own search has gone below it.
const MSS_MIN: u32 = 1_000;

pub(super) fn retrans(context: &RuleContext<'_>) -> Verdict {
    let (again, sent) = (counter(context, "Tcp.RetransSegs")?, counter(context, "Tcp.OutSegs")?);
    let (resent, all) = (again.1.saturating_sub(again.0), sent.1.saturating_sub(sent.0));
    let share = percent(resent, all);
    // More often again than for the first time: nothing is under way but what gets no answer, which net.no_answer tells.
    if resent > all {
        return Ok(Vec::new());
    }
    if resent < RESENT_MIN || (all < SEGMENTS_MIN && share < HEAVY) {
        return Ok(Vec::new());
    }
    let timeouts = grown(context, "TcpExt.TCPTimeouts");
    // Told by the other side: it had them already. Newer kernels count segments, older ones only how often it said so.
    let unneeded = grown(context, "TcpExt.TCPDSACKRecvSegs").max(grown(context, "TcpExt.TCPDSACKRecv")).min(resent);
    let Some(worst) = context.judge(share, timeouts > 0) else { return Ok(Vec::new()) };
    let severity = context.judge(percent(resent - unneeded, all), timeouts > 0).unwrap_or(worst.min(Severity::Info));
    let mut finding = context
        .finding(severity, share, format!("{share:.1}% of {all} segments were sent again"))
        .counted(file_of("Tcp."), "Tcp RetransSegs", again.0, again.1, "")
        .counted(file_of("Tcp."), "Tcp OutSegs", sent.0, sent.1, "")
        .agreed(1 + u32::from(timeouts > 0));
    if let Ok((before, now)) = counter(context, "TcpExt.TCPTimeouts") {
        finding = finding.counted("/proc/net/netstat", "TcpExt TCPTimeouts", before, now, "");
    }
    let (culprits, worst) = resenders(context);
    finding = finding.by(culprits);
    if unneeded >= resent.div_ceil(2) {
        let text = format!("{unneeded} were not lost (TcpExt TCPDSACKRecvSegs): packets come late or out of order");
        return Ok(vec![finding.fix(text, None)]);
    }
    let command = worst.map(|peer| format!("ss -tni dst {peer}"));
    Ok(vec![finding.fix("look at the path: drops of interfaces, a link that is full, a poor one", command)])
}

/// Other sides by what was sent again to them in the window, then whose connections these are.
fn resenders(context: &RuleContext<'_>) -> (Vec<Culprit>, Option<std::net::IpAddr>) {
    let none = Tcp::default();
    let (before, now) =
        (context.before().net.tcp.known().unwrap_or(&none), context.now().net.tcp.known().unwrap_or(&none));
    let mut peers: HashMap<&str, (u64, &Connection)> = HashMap::new();
    for one in &now.connections {
        let resent = one.resent.saturating_sub(before.connection(one).map_or(0, |before| before.resent));
        let entry = peers.entry(&one.peer).or_insert((0, one));
        entry.0 += u64::from(resent);
    }
    let mut peers: Vec<(&str, (u64, &Connection))> = peers.into_iter().filter(|(_, (resent, _))| *resent > 0).collect();
    peers.sort_by_key(|(peer, (resent, _))| (std::cmp::Reverse(*resent), *peer));
    peers.truncate(culprit::NAMED);
    let say = |(peer, (resent, one)): &(&str, (u64, &Connection))| {
        let rtt = f64::from(one.rtt_us) / 1e3;
        named("peer", peer, format!("{resent} segments sent again to it, round trip {rtt:.1} ms, window {}", one.cwnd))
    };
    let mut culprits: Vec<Culprit> = peers.iter().map(say).collect();
    if let Some((peer, (_, one))) = peers.first() {
        culprits.extend(holder(context, one.inode, one.uid, format!("is connected to {peer}")));
    }
    (culprits, peers.first().and_then(|(peer, _)| address(peer)))
}

pub(super) fn resets(context: &RuleContext<'_>) -> Verdict {
    let uptime = *context.now().system.uptime.get()?;
    let opened = grown(context, "Tcp.ActiveOpens").saturating_add(grown(context, "Tcp.PassiveOpens"));
    let mut worst: Option<(f64, &str, &str, (u64, u64))> = None;
    for (name, say) in [
        ("Tcp.AttemptFails", "connections a second fail to open"),
        ("Tcp.EstabResets", "connections a second are cut"),
        ("Tcp.OutRsts", "resets a second are sent"),
    ] {
        let (before, now) = counter(context, name)?;
        let rate = context.rate(before, now);
        let mean = before as f64 / uptime.max(1.0);
        let share = now.saturating_sub(before) as f64 / opened.max(1) as f64;
        let is_many = rate >= RESETS_TIMES * mean && share >= RESETS_SHARE;
        if is_many && worst.is_none_or(|(most, ..)| rate > most) {
            worst = Some((rate, name, say, (before, now)));
        }
    }
    let Some((rate, name, say, (before, now))) = worst else { return Ok(Vec::new()) };
    let Some(severity) = context.judge(rate, false) else { return Ok(Vec::new()) };
    let mut finding = context
        .finding(severity, rate, format!("{rate:.0} {say}"))
        .counted(file_of(name), &name.replace('.', " "), before, now, "")
        .read("/proc/uptime", "mean since boot", before as f64 / uptime.max(1.0), "/s");
    let attempts = grown(context, "Tcp.AttemptFails");
    // The kernel counts under one name what fails here and what others begin and cut before it is open.
    let is_from_outside = grown(context, "Tcp.ActiveOpens") < attempts / 2;
    let (what, filter) = if name == "Tcp.AttemptFails" && is_from_outside {
        (
            "others begin connections to ports here and cut them before they are open: a port scan or a health check",
            "tcpdump -c 20 -n -i any 'tcp[tcpflags] & tcp-rst != 0'",
        )
    } else if attempts as f64 >= context.rate(before, now) {
        finding = finding.by(connectors(context));
        ("something here connects to a port where nobody listens", "ss -tno state syn-sent")
    } else if name == "Tcp.OutRsts" {
        ("others send to ports where nobody listens, or a program closes without reading", "ss -tln")
    } else {
        ("a program or something on the way cuts connections", "ss -tno")
    };
    Ok(vec![finding.fix(what, Some(filter.to_owned()))])
}

/// A socket that was refused is gone: who connects all the time shows by its time in the kernel.
fn connectors(context: &RuleContext<'_>) -> Vec<Culprit> {
    let seconds = context.window.seconds();
    let say =
        |ticks: u64| format!("likely: {:.0}% of a CPU in the kernel meanwhile", ticks as f64 * 100.0 / TICKS / seconds);
    let share = |ticks: u64| ticks as f64 / TICKS / seconds;
    let busy = culprit::took(
        context.window,
        |process| if process.parent == 2 { 0 } else { process.system_ticks },
        |ticks| {
            if share(ticks) >= 0.1 { say(ticks) } else { String::new() }
        },
    );
    busy.into_iter().filter(|culprit| !culprit.what.is_empty()).take(1).collect()
}

pub(super) fn mtu(context: &RuleContext<'_>) -> Verdict {
    let (before, now) = (context.before().net.tcp.get()?, context.now().net.tcp.get()?);
    let is_stuck = |one: &&Connection| {
        let earlier = before.connection(one);
        let is_growing = earlier.is_none_or(|earlier| one.backoff > earlier.backoff || one.timeouts > earlier.timeouts);
        // Times double: a late connection may not time out again within a short window.
        one.timeouts > 0 && (is_growing || one.timeouts > 3)
    };
    let stuck: Vec<&Connection> = now.connections.iter().filter(is_stuck).collect();
    let mut findings = Vec::new();
    // Where anything was acknowledged meanwhile, full segments do arrive: packets are lost, whatever their size.
    let is_moving = |one: &Connection| before.connection(one).is_some_and(|earlier| one.acked > earlier.acked);
    for one in stuck.iter().filter(|one| is_too_large(one) && !is_moving(one)) {
        // Where small ones do not arrive either the path is dead.
        let is_dead = |other: &&Connection| {
            address(&other.peer) == address(&one.peer)
                && other.in_flight.is_some_and(|bytes| bytes < u64::from(other.mss))
        };
        let Some(severity) = context.judge(f64::from(one.timeouts), false) else { continue };
        if stuck.iter().any(is_dead) || findings.len() >= culprit::NAMED {
            continue;
        }
        let path = format!("sock_diag {}", one.peer);
        let mut finding = context
            .finding(
                severity,
                f64::from(one.timeouts),
                format!("packets of {} B to {} do not arrive: {} timeouts", one.pmtu, one.peer, one.timeouts),
            )
            .counted(
                &path,
                "backoff",
                before.connection(one).map_or(0, |one| one.backoff).into(),
                one.backoff.into(),
                "",
            )
            .read(&path, "unacked", f64::from(one.unacked), "")
            .read(&path, "bytes acked", one.acked as f64, "B")
            // Small ones behind the gap did arrive.
            .agreed(1 + u32::from(one.sacked > 0))
            .by([named("peer", &one.peer, format!("{} segments of {} B wait for an answer", one.unacked, one.mss))])
            .by(holder(context, one.inode, one.uid, format!("is connected to {}", one.peer)));
        if let Some(peer) = address(&one.peer) {
            finding = finding.fix("find where packets become too large", Some(format!("tracepath -n {peer}")));
        }
        // 1 and 2 search already.
        let searches = context.now().net.limits.get("tcp_mtu_probing").is_some_and(|value| *value > 0);
        let probing = context.as_root("sysctl -w net.ipv4.tcp_mtu_probing=1");
        findings.push(match searches {
            true => finding.fix("set a smaller MTU on the interface or the route", None),
            false => finding.fix("let TCP find the size by itself", Some(probing)),
        });
    }
    match context.now().net.tcp.known() {
        Some(tcp) if findings.is_empty() && tcp.is_cut => Err(cut(tcp)),
        _ => Ok(findings),
    }
}

/// Full segments wait, only small ones were acknowledged, and the other side was there a moment ago.
fn is_too_large(one: &Connection) -> bool {
    // Established, and the states in which what was written before the end is still sent.
    let has_begun = matches!(one.state, 1 | 4 | 8 | 9);
    let is_full = one.mss >= MSS_MIN && one.pmtu.saturating_sub(one.mss) <= HEADERS_MAX;
    let waits = one.in_flight.is_some_and(|bytes| bytes >= u64::from(one.mss));
    let arrived = one.segments.saturating_sub(u64::from(one.resent)).saturating_sub(u64::from(one.unacked));
    let only_small = one.acked.saturating_mul(10) < arrived.max(1).saturating_mul(u64::from(one.mss)).saturating_mul(9);
    // What went through before in full segments would go through now.
    let has_moved = one.acked >= MOVED.saturating_mul(u64::from(one.mss));
    let is_proof = (only_small && one.acked + u64::from(one.sacked) > 0) || (one.sacked > 0 && !has_moved);
    has_begun && is_full && waits && is_proof && one.silent_ms <= ALIVE_MS
}

/// What was not seen is not well.
pub(super) fn cut(tcp: &Tcp) -> Skip {
    Skip(format!("sock_diag: there are more than the {} sockets looked at", tcp.seen))
}

#[cfg(test)]
mod tests {
    use crate::doctor::fixture::{ask, severities};
    use crate::doctor::network::samples::tcp;
    use crate::model::diagnosis::Severity::{Crit, Info, Warn};
    use crate::model::snapshot::net::{Connection, Net, Owner, Tcp};
    use crate::model::snapshot::process::Process;
    use crate::model::snapshot::{Field, Snapshot, Window};

    /// Counters as they were on a veth that lost 5 %: 13,708 of 258,959.
    #[test]
    fn loss_is_told_with_the_other_side_and_whose_it_is() {
        let (from, to) = ([("OutSegs", 1_000), ("RetransSegs", 5)], [("OutSegs", 259_959), ("RetransSegs", 13_713)]);
        assert_eq!(severities(&tcp("retrans", &from, &to, &[]).ask("net.retrans")), [Warn]);
        // What the other side had already was not lost: a transfer at 30 Gbit/s over a veth did so, 95 % of it.
        let needless = tcp("retrans-needless", &from, &to, &[("TCPDSACKRecvSegs", 13_000)]).ask("net.retrans");
        assert_eq!(severities(&needless), [Info]);
        let mut window = tcp("retrans-timeouts", &from, &to, &[("TCPTimeouts", 9), ("TCPDSACKRecv", 3)]).window();
        let connection = |resent| Connection {
            local: "10.0.0.1:40000".to_owned(),
            peer: "10.0.0.2:5001".to_owned(),
            resent,
            rtt_us: 1_200,
            cwnd: 7,
            inode: 5,
            ..Connection::default()
        };
        let sockets = |resent| Field::Known(Tcp { connections: vec![connection(resent)], ..Tcp::default() });
        window.from.net.tcp = sockets(2);
        window.to.net.tcp = sockets(13_702);
        window.to.net.owners.insert(5, Owner { pid: 77, name: "sender".to_owned() });
        let found = ask(&window, "net.retrans");
        assert_eq!(severities(&found), [Crit]);
        assert_eq!(found[0].title, "5.3% of 258959 segments were sent again");
        let who: Vec<_> = found[0].culprits.iter().map(|who| (who.kind.as_str(), who.name.as_str(), who.pid)).collect();
        assert_eq!(who, [("peer", "10.0.0.2:5001", None), ("process", "sender", Some(77))]);
        assert_eq!(found[0].culprits[0].what, "13700 segments sent again to it, round trip 1.2 ms, window 7");
        assert_eq!(found[0].remedies[0].command.as_deref(), Some("ss -tni dst 10.0.0.2"));
        // A saved snapshot may hold anything: no command is made of it.
        let Field::Known(tcp) = &mut window.to.net.tcp else { panic!("known") };
        tcp.connections[0].peer = "$(reboot):1".to_owned();
        assert_eq!(ask(&window, "net.retrans")[0].remedies[0].command, None);
    }

    #[test]
    fn heavy_loss_is_told_though_it_leaves_few_segments() {
        let fixture = tcp("retrans-heavy", &[], &[("OutSegs", 90), ("RetransSegs", 25)], &[("TCPTimeouts", 6)]);
        assert_eq!(severities(&fixture.ask("net.retrans")), [Crit]);
    }

    #[test]
    fn few_segments_and_old_counters_are_no_loss() {
        let calm = [
            // One of twenty, and nine of a thousand.
            ([("OutSegs", 100), ("RetransSegs", 0)], [("OutSegs", 120), ("RetransSegs", 1)]),
            ([("OutSegs", 0), ("RetransSegs", 0)], [("OutSegs", 1_000), ("RetransSegs", 9)]),
            ([("OutSegs", 0), ("RetransSegs", 0)], [("OutSegs", 150), ("RetransSegs", 10)]),
            // Half of all since boot, none now.
            ([("OutSegs", 1_000), ("RetransSegs", 500)], [("OutSegs", 9_000), ("RetransSegs", 500)]),
        ];
        for (from, to) in calm {
            assert_eq!(severities(&tcp("calm", &from, &to, &[]).ask("net.retrans")), []);
        }
    }

    #[test]
    fn resets_speak_if_they_are_many_more_than_ever() {
        let from = [("ActiveOpens", 1_000), ("AttemptFails", 500), ("OutRsts", 500)];
        let to = [("ActiveOpens", 1_400), ("AttemptFails", 900), ("OutRsts", 900)];
        let fixture = tcp("resets", &from, &to, &[]);
        fixture.file("proc/uptime", "10000.00 19000.00\n");
        let mut window = fixture.window();
        let process =
            |pid, system_ticks| Process { pid, system_ticks, name: "prober".to_owned(), ..Process::default() };
        window.from.processes = Field::Known(vec![process(9, 100), process(8, 7_000)]);
        window.to.processes = Field::Known(vec![process(9, 220), process(8, 7_000)]);
        let found = ask(&window, "net.rst");
        assert_eq!(severities(&found), [Warn]);
        assert_eq!(found[0].title, "200 connections a second fail to open");
        assert_eq!(found[0].culprits.iter().map(|who| who.pid).collect::<Vec<_>>(), [Some(9)]);
        // Nobody here connects: half-open connections of others fail under the same name.
        window.to.net.counters =
            tcp("resets-scan", &from, &[("AttemptFails", 900), ("OutRsts", 500)], &[]).window().to.net.counters;
        let found = ask(&window, "net.rst");
        assert_eq!(found[0].culprits, []);
        assert!(found[0].remedies[0].text.contains("a port scan or a health check"), "{:?}", found[0].remedies);
        // The same on a machine where it is always so.
        fixture.file("proc/uptime", "10.00 19.00\n");
        assert_eq!(severities(&fixture.ask("net.rst")), []);
        // Twenty a second of a proxy that opens a thousand.
        let to = [("ActiveOpens", 3_000), ("AttemptFails", 500), ("OutRsts", 540)];
        let fixture = tcp("resets-proxy", &from, &to, &[]);
        fixture.file("proc/uptime", "10000.00 19000.00\n");
        assert_eq!(severities(&fixture.ask("net.rst")), []);
    }

    /// As a connection looks whose 1,500 byte packets a router drops: the request's head of 200 bytes arrived.
    fn stuck() -> Connection {
        Connection {
            local: "10.0.0.1:40000".to_owned(),
            peer: "10.0.0.7:443".to_owned(),
            state: 1,
            resent: 4,
            timeouts: 3,
            backoff: 3,
            pmtu: 1500,
            mss: 1448,
            unacked: 10,
            cwnd: 1,
            in_flight: Some(14_480),
            acked: 201,
            segments: 15,
            silent_ms: 2_500,
            inode: 9,
            ..Connection::default()
        }
    }

    fn window(before: Vec<Connection>, now: Vec<Connection>) -> Window {
        let snapshot = |at_us, connections| Snapshot {
            at_us,
            net: Net { tcp: Field::Known(Tcp { connections, ..Tcp::default() }), ..Net::default() },
            ..Snapshot::default()
        };
        Window { from: snapshot(0, before), to: snapshot(2_000_000, now), ..Window::default() }
    }

    #[test]
    fn full_packets_that_never_arrive_are_a_black_hole() {
        let found = ask(&window(vec![], vec![stuck()]), "net.mtu");
        assert_eq!(severities(&found), [Warn]);
        assert_eq!(found[0].title, "packets of 1500 B to 10.0.0.7:443 do not arrive: 3 timeouts");
        assert_eq!(found[0].remedies[0].command.as_deref(), Some("tracepath -n 10.0.0.7"));
        // A small one behind the gap arrived: a second signal.
        let sacked = Connection { sacked: 1, ..stuck() };
        assert_eq!(ask(&window(vec![], vec![sacked]), "net.mtu")[0].confidence, 2);
    }

    #[test]
    fn a_dead_path_and_a_lossy_one_are_no_black_hole() {
        let calm = [
            // Two timeouts happen.
            Connection { timeouts: 2, backoff: 2, ..stuck() },
            // Small segments do not arrive either.
            Connection { in_flight: Some(200), unacked: 1, ..stuck() },
            // Full ones did arrive.
            Connection { acked: 1_448_001, segments: 1_014, ..stuck() },
            // Silent for ten minutes.
            Connection { silent_ms: 600_000, ..stuck() },
            // It never began.
            Connection { state: 2, ..stuck() },
            // An old kernel does not tell.
            Connection { in_flight: None, ..stuck() },
        ];
        for one in calm {
            assert_eq!(severities(&ask(&window(vec![], vec![one.clone()]), "net.mtu")), [], "{one:?}");
        }
        let small = Connection { local: "10.0.0.1:40001".to_owned(), in_flight: Some(40), ..stuck() };
        assert_eq!(severities(&ask(&window(vec![], vec![stuck(), small]), "net.mtu")), []);
    }
}
