//! Queues of sockets that a program does not empty in time: connections to accept, half-open ones, packets to read.

use crate::doctor::culprit;
use crate::doctor::network::counter::{counter, file_of, grown, percent};
use crate::doctor::network::endpoint::holder;
use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::model::diagnosis::{Culprit, Severity};
use crate::model::snapshot::net::{Listener, Tcp, udp_lost};
use crate::model::unit::Bytes;

/// A packet lost among more is noise to a program that uses UDP.
const UDP_SHARE: f64 = 1.0;

/// A listener and what it turned away in the window.
type Turned<'a> = (u32, &'a Listener);

pub(super) fn listen(context: &RuleContext<'_>) -> Verdict {
    let overflows = counter(context, "TcpExt.ListenOverflows")?;
    let drops = counter(context, "TcpExt.ListenDrops")?;
    let rate = context.rate(overflows.0, overflows.1).max(context.rate(drops.0, drops.1));
    let guilty = turned_away(context);
    let is_full = guilty.iter().any(|(_, listener)| listener.queue > listener.backlog);
    let (severity, title) = match context.judge(rate, is_full) {
        Some(severity) => {
            let place = guilty.first().map(|(_, listener)| format!(" at {}", listener.address)).unwrap_or_default();
            (severity, format!("{rate:.1} connections a second are turned away{place}"))
        }
        // Nobody connects any more, but those who did still wait.
        None => match guilty.iter().find(|(_, listener)| stood(context, listener)) {
            Some((_, listener)) if context.warn.is_some() => (
                Severity::Warn,
                format!("the queue of {} is full: {} wait to be accepted", listener.address, listener.queue),
            ),
            _ => return Ok(Vec::new()),
        },
    };
    let mut finding = context
        .finding(severity, rate, title)
        .counted(file_of("TcpExt."), "TcpExt ListenOverflows", overflows.0, overflows.1, "")
        .counted(file_of("TcpExt."), "TcpExt ListenDrops", drops.0, drops.1, "")
        .agreed(1 + u32::from(is_full))
        .by(guilty.iter().filter_map(|(dropped, listener)| {
            let (queue, backlog) = (listener.queue, listener.backlog);
            let what = format!("{}: {dropped} turned away, {queue} wait (at most {backlog})", listener.address);
            holder(context, listener.inode, listener.uid, what)
        }));
    if let Some((_, listener)) = guilty.first() {
        let path = format!("sock_diag {}", listener.address);
        finding = finding.read(&path, "Recv-Q", f64::from(listener.queue), "").read(
            &path,
            "Send-Q (backlog)",
            f64::from(listener.backlog),
            "",
        );
        if let Some(owner) = context.now().net.owners.get(&listener.inode) {
            finding = finding.fix("see why it does not accept", Some(format!("cat /proc/{}/wchan", owner.pid)));
        }
    }
    finding = longer_queue(context, finding, guilty.first().map(|(_, listener)| *listener));
    Ok(vec![finding])
}

/// The smaller of two limits holds: the program's own, and the system's when it began to listen.
fn longer_queue(
    context: &RuleContext<'_>,
    finding: crate::model::diagnosis::Finding,
    listener: Option<&Listener>,
) -> crate::model::diagnosis::Finding {
    let Some(most) = context.now().net.limits.get("somaxconn").copied() else {
        return finding.fix("a longer queue: somaxconn and the program's listen()", None);
    };
    match listener {
        Some(listener) if u64::from(listener.backlog) < most => {
            let text =
                format!("a larger backlog in the program's listen(): it is {}, {most} are allowed", listener.backlog);
            finding.fix(text, None)
        }
        _ => {
            let larger = most.saturating_mul(2).max(4_096);
            let command = context.as_root(&format!("sysctl -w net.core.somaxconn={larger}"));
            finding.fix("a longer queue, then start the program again", Some(command))
        }
    }
}

/// Listeners that turned something away or whose queue is full, the worst first.
fn turned_away<'a>(context: &RuleContext<'a>) -> Vec<Turned<'a>> {
    let none = Tcp::default();
    let before = context.before().net.tcp.known().unwrap_or(&none);
    let Some(now) = context.now().net.tcp.known() else { return Vec::new() };
    let mut guilty: Vec<Turned<'a>> = now
        .listeners
        .iter()
        // The kernel counts to 2^32 and begins again.
        .map(|now| (now.drops.wrapping_sub(before.listener(now).map_or(0, |before| before.drops)), now))
        .filter(|(dropped, listener)| *dropped > 0 || listener.queue > listener.backlog)
        .collect();
    guilty.sort_by_key(|(dropped, listener)| (std::cmp::Reverse(*dropped), listener.inode));
    guilty.truncate(culprit::NAMED);
    guilty
}

/// Its queue was full in the first snapshot, too.
fn stood(context: &RuleContext<'_>, listener: &Listener) -> bool {
    let before = context.before().net.tcp.known().and_then(|before| before.listener(listener));
    listener.queue > listener.backlog && before.is_some_and(|before| before.queue > before.backlog)
}

pub(super) fn syn_cookies(context: &RuleContext<'_>) -> Verdict {
    const COOKIES: &str = "TcpExt.TCPReqQFullDoCookies";
    const DROPPED: &str = "TcpExt.TCPReqQFullDrop";
    let cookies = counter(context, COOKIES)?;
    let dropped = counter(context, DROPPED)?;
    let rate = context.rate(cookies.0, cookies.1) + context.rate(dropped.0, dropped.1);
    let mut listeners: Vec<&Listener> =
        context.now().net.tcp.known().map(|tcp| tcp.listeners.iter().collect()).unwrap_or_default();
    listeners.retain(|listener| listener.half_open > 0);
    listeners.sort_by_key(|listener| (std::cmp::Reverse(listener.half_open), listener.inode));
    let is_full = listeners.first().is_some_and(|one| one.half_open >= one.backlog.max(1));
    let confirmed = is_full || dropped.1 > dropped.0 || grown(context, "TcpExt.SyncookiesFailed") > 0;
    let Some(severity) = context.judge(rate, confirmed) else { return Ok(Vec::new()) };
    let place = listeners.first().map(|listener| format!(" at {}", listener.address)).unwrap_or_default();
    let title = format!("{rate:.0} SYNs a second do not fit into the queue{place}");
    let say = |listener: &&Listener| {
        let (half_open, backlog) = (listener.half_open, listener.backlog);
        let what = format!("{}: {half_open} half open (at most {backlog})", listener.address);
        holder(context, listener.inode, listener.uid, what)
    };
    let culprits: Vec<Culprit> = listeners.iter().take(culprit::NAMED).filter_map(say).collect();
    let finding = context
        .finding(severity, rate, title)
        .counted(file_of(COOKIES), "TcpExt TCPReqQFullDoCookies", cookies.0, cookies.1, "")
        .counted(file_of(DROPPED), "TcpExt TCPReqQFullDrop", dropped.0, dropped.1, "")
        .agreed(1 + u32::from(confirmed))
        .by(culprits)
        .fix(
            "if they are no clients of yours, limit them at the firewall; see who",
            Some("ss -tn state syn-recv".to_owned()),
        );
    Ok(vec![if context.now().net.limits.get("tcp_syncookies") == Some(&0) {
        finding.fix("answer without remembering", Some(context.as_root("sysctl -w net.ipv4.tcp_syncookies=1")))
    } else {
        longer_queue(context, finding, listeners.first().copied())
    }])
}

pub(super) fn udp(context: &RuleContext<'_>) -> Verdict {
    let lost = counter(context, "Udp.RcvbufErrors")?;
    let received = grown(context, "Udp.InDatagrams").saturating_add(grown(context, "Udp6InDatagrams"));
    // A kernel without IPv6 has none.
    let lost_six = counter(context, "Udp6RcvbufErrors").unwrap_or_default();
    let all_lost = lost.1.saturating_sub(lost.0).saturating_add(lost_six.1.saturating_sub(lost_six.0));
    let rate = context.rate(0, all_lost);
    let share = percent(all_lost, received.saturating_add(all_lost));
    let none = Vec::new();
    let (before, now) =
        (context.before().net.udp.known().unwrap_or(&none), context.now().net.udp.known().unwrap_or(&none));
    let guilty = udp_lost(before, now);
    let stands = guilty.first().is_some_and(|(_, socket)| socket.queue > 0);
    let Some(severity) = context.judge(rate, share > UDP_SHARE && stands) else { return Ok(Vec::new()) };
    let place = guilty.first().map(|(_, socket)| format!(" at {}", socket.address)).unwrap_or_default();
    let mut finding = context
        .finding(severity, rate, format!("{rate:.0} UDP packets a second are lost{place} ({share:.0}%)"))
        .counted(file_of("Udp."), "Udp RcvbufErrors", lost.0, lost.1, "");
    if lost_six.1 > lost_six.0 {
        finding = finding.counted(file_of("Udp6RcvbufErrors"), "Udp6RcvbufErrors", lost_six.0, lost_six.1, "");
    }
    for (drops, socket) in guilty.iter().take(culprit::NAMED) {
        let what = format!("{}: {drops} lost, {} wait to be read", socket.address, Bytes(socket.queue));
        finding = finding.by(holder(context, socket.inode, socket.uid, what));
    }
    if let Some((drops, socket)) = guilty.first() {
        let before = socket.drops.saturating_sub(*drops);
        finding = finding.counted(&format!("/proc/net/udp {}", socket.address), "drops", before, socket.drops, "");
    }
    let limit = context.now().net.limits.get("rmem_max").copied().unwrap_or(212_992);
    let text = format!("read faster, or a larger SO_RCVBUF in the program ({} are allowed)", Bytes(limit));
    let larger = limit.saturating_mul(2).max(4 << 20);
    Ok(vec![
        finding
            .agreed(1 + u32::from(!guilty.is_empty()))
            .fix(text, Some(context.as_root(&format!("sysctl -w net.core.rmem_max={larger}")))),
    ])
}

/// For rules that need sockets and cannot see them.
pub(super) fn sockets<'a>(context: &RuleContext<'a>) -> Result<&'a Tcp, Skip> {
    Ok(context.now().net.tcp.get()?)
}

#[cfg(test)]
mod tests {
    use crate::doctor::fixture::{Fixture, ask, severities};
    use crate::doctor::network::samples::{snmp, tcp};
    use crate::model::diagnosis::Severity::{Crit, Warn};
    use crate::model::snapshot::net::{Listener, Owner, Tcp};
    use crate::model::snapshot::{Field, Window};

    fn listeners(window: &mut Window, before: Listener, now: Listener) {
        let tcp = |listener| Field::Known(Tcp { listeners: vec![listener], ..Tcp::default() });
        window.to.net.owners.insert(now.inode, Owner { pid: 42, name: "server".to_owned() });
        (window.from.net.tcp, window.to.net.tcp) = (tcp(before), tcp(now));
    }

    fn listener(drops: u32, queue: u32) -> Listener {
        Listener { address: "0.0.0.0:8080".to_owned(), drops, queue, backlog: 2, inode: 7, ..Listener::default() }
    }

    #[test]
    fn a_full_listen_queue_names_the_program_that_does_not_accept() {
        let more = [("ListenOverflows", 320), ("ListenDrops", 320)];
        let fixture = tcp("listen", &[], &[], &more);
        fixture.file("proc/sys/net/core/somaxconn", "4096\n");
        // Without sock_diag the counters still tell.
        assert_eq!(severities(&fixture.ask("net.listen_ovf")), [Warn]);
        let mut window = fixture.window();
        listeners(&mut window, listener(5, 3), listener(325, 3));
        let found = ask(&window, "net.listen_ovf");
        assert_eq!(severities(&found), [Crit]);
        assert_eq!(found[0].title, "160.0 connections a second are turned away at 0.0.0.0:8080");
        assert_eq!(found[0].culprits[0].pid, Some(42));
        assert_eq!(found[0].culprits[0].what, "0.0.0.0:8080: 320 turned away, 3 wait (at most 2)");
        assert_eq!(found[0].remedies[1].text, "a larger backlog in the program's listen(): it is 2, 4096 are allowed");
        // The program has caught up: a short window alone is a warning.
        listeners(&mut window, listener(5, 0), listener(325, 0));
        assert_eq!(severities(&ask(&window, "net.listen_ovf")), [Warn]);
        // apm's own sockets are no culprit.
        window.observer = 42;
        assert_eq!(ask(&window, "net.listen_ovf")[0].culprits, []);
    }

    #[test]
    fn a_queue_that_stays_full_is_told_though_nobody_connects_any_more() {
        let mut window = tcp("listen-hung", &[], &[], &[("ListenOverflows", 0), ("ListenDrops", 0)]).window();
        listeners(&mut window, listener(320, 3), listener(320, 3));
        let found = ask(&window, "net.listen_ovf");
        assert_eq!(severities(&found), [Warn]);
        assert_eq!(found[0].title, "the queue of 0.0.0.0:8080 is full: 3 wait to be accepted");
        // Full at the end only, and turned away since boot only.
        listeners(&mut window, listener(320, 0), listener(320, 3));
        assert_eq!(severities(&ask(&window, "net.listen_ovf")), []);
        listeners(&mut window, listener(320, 0), listener(320, 0));
        assert_eq!(severities(&ask(&window, "net.listen_ovf")), []);
    }

    #[test]
    fn a_flood_of_syns_is_told_where_it_goes() {
        let more = [("TCPReqQFullDoCookies", 8_000), ("TCPReqQFullDrop", 0), ("SyncookiesFailed", 0)];
        let fixture = tcp("cookies", &[], &[], &more);
        fixture.file("proc/sys/net/core/somaxconn", "64\n");
        assert_eq!(severities(&fixture.ask("net.syn_cookies")), [Warn]);
        let mut window = fixture.window();
        let flooded = Listener { half_open: 64, backlog: 64, ..listener(0, 0) };
        listeners(&mut window, listener(0, 0), flooded);
        let found = ask(&window, "net.syn_cookies");
        assert_eq!(severities(&found), [Crit]);
        assert_eq!(found[0].title, "4000 SYNs a second do not fit into the queue at 0.0.0.0:8080");
        assert_eq!(found[0].culprits[0].what, "0.0.0.0:8080: 64 half open (at most 64)");
        assert_eq!(found[0].remedies[1].command.as_deref(), Some("sysctl -w net.core.somaxconn=4096"));
        let calm = tcp("cookies-calm", &[], &[], &[("TCPReqQFullDoCookies", 1), ("TCPReqQFullDrop", 0)]);
        assert_eq!(severities(&calm.ask("net.syn_cookies")), []);
    }

    /// /proc/net/udp of a 6.18 kernel.
    fn udp(queue: u32, drops: u64) -> String {
        format!(
            "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops             \n \
             6231: 00000000:14E9 00000000:0000 07 00000000:{queue:08X} 00:00000000 00000000   109        0 20321 2 0000000000000000 {drops}         \n"
        )
    }

    #[test]
    fn a_reader_of_udp_that_is_too_slow_is_named() {
        let fixture = Fixture::new("udp");
        let counters = |lost| snmp(&[], &[("InDatagrams", 1_000), ("InErrors", lost), ("RcvbufErrors", lost)]);
        fixture.changing("proc/net/snmp", &counters(50), &counters(31_410));
        fixture.changing("proc/net/udp", &udp(0, 50), &udp(0x34500, 31_410));
        let found = fixture.ask("net.udp_rcvbuf");
        assert_eq!(severities(&found), [Crit]);
        assert_eq!(found[0].title, "15680 UDP packets a second are lost at 0.0.0.0:5353 (100%)");
        // Its owner is of another machine: the user at least.
        assert_eq!((found[0].culprits[0].pid, found[0].culprits[0].name.as_str()), (None, "a process of user 109"));
        assert_eq!(found[0].culprits[0].what, "0.0.0.0:5353: 31360 lost, 209 KiB wait to be read");
        // The queue is empty again: a warning. Lost since boot only: nothing.
        fixture.changing("proc/net/udp", &udp(0, 50), &udp(0, 31_410));
        assert_eq!(severities(&fixture.ask("net.udp_rcvbuf")), [Warn]);
        fixture.file("proc/net/snmp", &counters(31_410));
        assert_eq!(severities(&fixture.ask("net.udp_rcvbuf")), []);
        // What comes by IPv6 is counted elsewhere.
        let six =
            |lost: u64| format!("Udp6InDatagrams                 \t10\nUdp6RcvbufErrors                \t{lost}\n");
        fixture.changing("proc/net/snmp6", &six(0), &six(30));
        assert_eq!(severities(&fixture.ask("net.udp_rcvbuf")), [Warn]);
    }
}
