//! Connections that hang: the other side does not answer, or a program here does not close.

use std::collections::BTreeMap;

use crate::doctor::culprit;
use crate::doctor::network::endpoint::{address, holder, named};
use crate::doctor::network::path::cut;
use crate::doctor::rule::{RuleContext, Verdict};
use crate::model::diagnosis::Severity;
use crate::model::snapshot::net::{Connection, Tcp};

/// The kernel's number of the state in which a SYN waits for its answer.
const SYN_SENT: u8 = 2;
/// Timeouts in a row after which a connection hangs: the first three take about 3 s when it is made, one when it is old.
const TIMEOUTS: u8 = 2;
/// So many that try to connect are a fault; one or two are what programs do that look for somebody.
const TRYING: usize = 3;

/// `net.no_answer`.
pub(super) fn none(context: &RuleContext<'_>) -> Verdict {
    let empty = Tcp::default();
    let before = context.before().net.tcp.known().unwrap_or(&empty);
    let now = context.now().net.tcp.get()?;
    let hangs = |one: &&Connection| {
        let moved = before.connection(one).is_some_and(|earlier| one.acked > earlier.acked);
        one.timeouts >= TIMEOUTS && !moved
    };
    let hanging: Vec<&Connection> = now.connections.iter().filter(hangs).collect();
    let trying = hanging.iter().filter(|one| one.state == SYN_SENT).count();
    let Some(severity) = context.judge(hanging.len() as f64, false) else {
        return if now.is_cut { Err(cut(now)) } else { Ok(Vec::new()) };
    };
    let severity = if trying == hanging.len() && trying < TRYING { Severity::Info } else { severity };
    let mut peers: BTreeMap<&str, Vec<&Connection>> = BTreeMap::new();
    hanging.iter().for_each(|one| peers.entry(&one.peer).or_default().push(one));
    let mut peers: Vec<(&str, Vec<&Connection>)> = peers.into_iter().collect();
    peers.sort_by_key(|(peer, all)| (std::cmp::Reverse(all.len()), *peer));
    let what = match (hanging.len(), trying) {
        (1, 1) => "a connection that is being made gets no answer".to_owned(),
        (1, _) => "a connection gets no answer any more".to_owned(),
        (all, 0) => format!("{all} connections get no answer any more"),
        (all, trying) => format!("{all} connections get no answer, {trying} of them are being made"),
    };
    let most = hanging.iter().map(|one| one.timeouts).max().unwrap_or_default();
    let mut finding = context
        .finding(severity, hanging.len() as f64, format!("{what}: up to {most} timeouts in a row"))
        .read("sock_diag", "connections without an answer", hanging.len() as f64, "")
        .read("sock_diag", "in state SYN-SENT", trying as f64, "");
    for (peer, all) in peers.iter().take(culprit::NAMED) {
        let timeouts = all.iter().map(|one| one.timeouts).max().unwrap_or_default();
        finding = finding.by([named("peer", peer, format!("{} without an answer, {timeouts} timeouts", all.len()))]);
        let verb = if all[0].state == SYN_SENT { "tries to reach" } else { "is connected to" };
        finding = finding.by(holder(context, all[0].inode, all[0].uid, format!("{verb} {peer}")));
    }
    let command = peers
        .first()
        .and_then(|(peer, _)| address(peer))
        .map(|peer| format!("ip route get {peer}; mtr -n -r -c 5 {peer}"));
    Ok(vec![
        finding.fix(
            "see whether the other side lives and what is on the way: a firewall that drops, a dead host",
            command,
        ),
    ])
}

/// `net.close_wait`.
pub(super) fn close_wait(context: &RuleContext<'_>) -> Verdict {
    let now = context.now().net.tcp.get()?;
    let was = context.before().net.tcp.known().map_or(0, |tcp| tcp.half_closed.count);
    let count = now.half_closed.count;
    let Some(severity) = context.judge(f64::from(count), false) else {
        return if now.is_cut { Err(cut(now)) } else { Ok(Vec::new()) };
    };
    let title = format!("{count} connections were closed by the other side and not by this one");
    let holders = now.half_closed.inodes.iter().filter_map(|inode| {
        context.now().net.owners.get(inode)?;
        holder(context, *inode, 0, "does not close what the other side closed".to_owned())
    });
    let mut named: Vec<crate::model::diagnosis::Culprit> = Vec::new();
    for one in holders {
        if !named.iter().any(|other| other.pid == one.pid) {
            named.push(one);
        }
    }
    named.truncate(culprit::NAMED);
    let finding = context
        .finding(severity, f64::from(count), title)
        .counted("sock_diag", "in state CLOSE-WAIT", was.into(), count.into(), "")
        .by(named);
    let text = "the program leaks connections: each keeps a descriptor and memory until it ends";
    Ok(vec![finding.fix(text, Some("ss -tanp state close-wait".to_owned()))])
}

#[cfg(test)]
mod tests {
    use crate::doctor::fixture::{Fixture, ask, severities};
    use crate::model::diagnosis::Severity::{Info, Warn};
    use crate::model::snapshot::net::{Connection, HalfClosed, Owner, Tcp};
    use crate::model::snapshot::{Field, Window};

    fn window(before: Vec<Connection>, now: Vec<Connection>) -> Window {
        let mut window = Fixture::new("answer").window();
        let known = |connections| Field::Known(Tcp { connections, ..Tcp::default() });
        (window.from.net.tcp, window.to.net.tcp) = (known(before), known(now));
        window.to.net.owners.insert(7, Owner { pid: 99, name: "client".to_owned() });
        window
    }

    fn connection(port: u16, state: u8, timeouts: u8, acked: u64) -> Connection {
        Connection {
            local: format!("10.0.0.1:{port}"),
            peer: "10.0.0.9:443".to_owned(),
            state,
            timeouts,
            acked,
            inode: 7,
            ..Connection::default()
        }
    }

    #[test]
    fn connections_without_an_answer_are_told_with_who_has_them() {
        let trying = |count: u16| (0..count).map(|n| connection(4000 + n, 2, 3, 0)).collect::<Vec<_>>();
        let found = ask(&window(Vec::new(), trying(60)), "net.no_answer");
        assert_eq!(severities(&found), [Warn]);
        assert_eq!(
            found[0].title,
            "60 connections get no answer, 60 of them are being made: up to 3 timeouts in a row"
        );
        assert_eq!(
            (found[0].culprits[1].pid, found[0].culprits[1].what.as_str()),
            (Some(99), "tries to reach 10.0.0.9:443")
        );
        // Somebody looks for somebody.
        assert_eq!(severities(&ask(&window(Vec::new(), trying(1)), "net.no_answer")), [Info]);
        let old = ask(&window(Vec::new(), vec![connection(1, 1, 4, 9000)]), "net.no_answer");
        assert_eq!((severities(&old), old[0].culprits[1].what.as_str()), (vec![Warn], "is connected to 10.0.0.9:443"));
        // It moved meanwhile: that is loss.
        let moved = window(vec![connection(1, 1, 1, 8000)], vec![connection(1, 1, 4, 9000)]);
        assert_eq!(ask(&moved, "net.no_answer"), []);
        assert_eq!(ask(&window(Vec::new(), vec![connection(1, 1, 1, 0)]), "net.no_answer"), []);
    }

    #[test]
    fn connections_that_nobody_closes_are_a_leak() {
        let half_closed = |count| {
            let mut window = window(Vec::new(), Vec::new());
            let half_closed = HalfClosed { count, inodes: vec![7, 7, 8] };
            window.to.net.tcp = Field::Known(Tcp { half_closed, ..Tcp::default() });
            ask(&window, "net.close_wait")
        };
        assert_eq!(half_closed(20), []);
        let found = half_closed(900);
        assert_eq!(severities(&found), [Warn]);
        let who: Vec<_> = found[0].culprits.iter().map(|one| (one.name.as_str(), one.pid)).collect();
        assert_eq!(who, [("client", Some(99))]);
    }
}
