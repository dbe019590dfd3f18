//! Interfaces, their queueing disciplines, and the CPUs that take packets from them.

use crate::doctor::network::counter::percent;
use crate::doctor::network::endpoint::{named, plain};
use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::model::diagnosis::Severity;
use crate::model::snapshot::net::{Interface, Qdisc, Softnet, Traffic};

/// Packets a second from which on a share of lost ones says something: on a quiet line a few frames of protocols that
/// nobody speaks here are much.
const PACKETS_RATE_MIN: f64 = 100.0;
/// A speed that is exceeded by more, percent, is made up.
const SPEED_REAL: f64 = 105.0;
/// Lost packets from which on it is more than a moment.
const LOST_MIN: u64 = 20;
/// Packets dropped by CPUs in a window; a single one would be thirty a minute.
const DROPPED_MIN: u64 = 5;
/// Times out of time in a window that are worth a word.
const SQUEEZED_MIN: u64 = 20;

pub(super) fn softnet(context: &RuleContext<'_>) -> Verdict {
    let (before, now) = (context.before().net.softnet.get()?, context.now().net.softnet.get()?);
    let grew = |field: fn(&Softnet) -> u64| {
        now.iter()
            .map(|cpu| {
                let earlier = before.iter().find(|earlier| earlier.cpu == cpu.cpu).map_or(0, field);
                (field(cpu).saturating_sub(earlier), cpu.cpu)
            })
            .max_by_key(|(grown, _)| *grown)
            .unwrap_or_default()
    };
    let all = |cpus: &[Softnet], field: fn(&Softnet) -> u64| cpus.iter().map(field).fold(0, u64::saturating_add);
    let (dropped_before, dropped_now) = (all(before, |cpu| cpu.dropped), all(now, |cpu| cpu.dropped));
    let (squeezed_before, squeezed_now) = (all(before, |cpu| cpu.squeezed), all(now, |cpu| cpu.squeezed));
    let a_minute = 60.0 * context.rate(dropped_before, dropped_now);
    let busiest = busiest_receiver(context);
    let by =
        busiest.map(|(interface, packets)| named("interface", interface, format!("{packets:.0} packets/s received")));
    let path = "/proc/net/softnet_stat";
    if dropped_now.saturating_sub(dropped_before) >= DROPPED_MIN
        && let Some(severity) = context.judge(a_minute, false)
    {
        let (dropped, cpu) = grew(|cpu| cpu.dropped);
        let title = format!("CPU {cpu} dropped {dropped} received packets, its queue was full");
        let limit = context.now().net.limits.get("netdev_max_backlog").copied().unwrap_or(1_000);
        let command =
            context.as_root(&format!("sysctl -w net.core.netdev_max_backlog={}", limit.saturating_mul(2).max(2_000)));
        return Ok(vec![
            context
                .finding(severity, a_minute, title)
                .counted(path, "column 2, dropped", dropped_before, dropped_now, "")
                .counted(path, "column 3, out of time", squeezed_before, squeezed_now, "")
                .by(by)
                .fix("a longer queue; better, spread packets over CPUs (RSS, RPS)", Some(command)),
        ]);
    }
    let squeezed = squeezed_now.saturating_sub(squeezed_before);
    let squeezed_a_minute = 60.0 * context.rate(squeezed_before, squeezed_now);
    if squeezed >= SQUEEZED_MIN && context.judge(squeezed_a_minute, false).is_some() {
        let (_, cpu) = grew(|cpu| cpu.squeezed);
        let title = format!("CPU {cpu} and others were out of time {squeezed} times with packets left");
        return Ok(vec![
            context
                .finding(Severity::Info, squeezed_a_minute, title)
                .counted(path, "column 3, out of time", squeezed_before, squeezed_now, "")
                .by(by)
                .fix("nothing is lost yet; spread packets over CPUs (RSS, RPS)", None),
        ]);
    }
    Ok(Vec::new())
}

fn busiest_receiver<'a>(context: &RuleContext<'a>) -> Option<(&'a str, f64)> {
    let now = context.now().net.interfaces.known()?;
    let packets = |one: &'a Interface| {
        let before = earlier(context, &one.name).map_or(0, |earlier| earlier.rx.packets);
        (one.name.as_str(), context.rate(before, one.rx.packets))
    };
    now.iter().map(packets).max_by(|one, other| one.1.total_cmp(&other.1)).filter(|(_, rate)| *rate > 0.0)
}

fn earlier<'a>(context: &RuleContext<'a>, name: &str) -> Option<&'a Interface> {
    context.before().net.interfaces.known()?.iter().find(|interface| interface.name == name)
}

/// What one direction of an interface did in the window.
#[derive(Clone, Copy, Debug)]
struct Direction<'a> {
    interface: &'a str,
    is_out: bool,
    before: Traffic,
    now: Traffic,
    /// The discipline's drops before and now, and its kind.
    qdisc: Option<(u64, u64, &'a str)>,
}

impl Direction<'_> {
    fn word(&self) -> &'static str {
        if self.is_out { "tx" } else { "rx" }
    }

    fn dropped(&self) -> u64 {
        self.now.drops.saturating_sub(self.before.drops)
    }

    fn queue_dropped(&self) -> u64 {
        self.qdisc.map_or(0, |(before, now, _)| now.saturating_sub(before))
    }
}

fn directions<'a>(context: &RuleContext<'a>) -> Result<Vec<Direction<'a>>, Skip> {
    context.before().net.interfaces.get()?;
    let mut all = Vec::new();
    for one in context.now().net.interfaces.get()? {
        // One that came in the window has no rate.
        let Some(before) = earlier(context, &one.name) else { continue };
        for (is_out, before, now) in [(false, before.rx, one.rx), (true, before.tx, one.tx)] {
            let qdisc = qdisc(context, &one.name, is_out);
            all.push(Direction { interface: &one.name, is_out, before, now, qdisc });
        }
    }
    Ok(all)
}

fn qdisc<'a>(context: &RuleContext<'a>, interface: &str, is_out: bool) -> Option<(u64, u64, &'a str)> {
    let find = |all: &'a [Qdisc]| all.iter().find(|one| one.interface == interface && one.is_ingress != is_out);
    let now = find(context.now().net.qdiscs.known()?)?;
    // Another one since: it began at zero.
    let before = find(context.before().net.qdiscs.known()?).filter(|before| before.kind == now.kind);
    Some((before.map_or(0, |before| before.drops), now.drops, &now.kind))
}

pub(super) fn drops(context: &RuleContext<'_>) -> Verdict {
    let mut findings = Vec::new();
    for way in directions(context)? {
        let passed = way.now.packets.saturating_sub(way.before.packets);
        let (dropped, queue) = (way.dropped(), way.queue_dropped());
        let damaged = way.now.errors.saturating_sub(way.before.errors);
        let lost = dropped.saturating_add(queue);
        let all = passed.saturating_add(lost);
        if context.rate(0, all) < PACKETS_RATE_MIN || lost.max(damaged) < LOST_MIN {
            continue;
        }
        let (lost_share, damaged_share) = (percent(lost, all), 2.0 * percent(damaged, all));
        let share = lost_share.max(damaged_share);
        let Some(severity) = context.judge(share, false) else { continue };
        let (name, word) = (way.interface, way.word());
        let title = if damaged_share > lost_share {
            format!("{damaged} of {all} packets were damaged at {name} ({word})")
        } else {
            format!("{lost} of {all} packets were dropped at {name} ({word}, {share:.0}%)")
        };
        let mut finding = context.finding(severity, share, title);
        if let Some((before, now, kind)) = way.qdisc.filter(|_| queue > 0) {
            finding = finding
                .counted(&format!("rtnetlink qdisc {kind} {name}"), "drops", before, now, "")
                .by([named("interface", name, format!("its queueing discipline {kind} dropped {queue}"))])
                .fix(
                    "the queueing discipline is at its limit: raise it, or send less",
                    plain(name).map(|name| format!("tc -s qdisc show dev {name}")),
                );
        }
        let path = "/proc/net/dev";
        if dropped > 0 || damaged > 0 || queue == 0 {
            finding = finding
                .by([named("interface", name, format!("{dropped} dropped, {damaged} damaged ({word})"))])
                .fix("see which counter of the card grows", plain(name).map(|name| format!("ethtool -S {name}")));
            // The kernel counts both as dropped: `rx_dropped` since Linux 2.6.37.
            if word == "rx" && dropped > 0 {
                finding = finding.fix(
                    "where none of them grows, these are frames that nobody here listens to: another VLAN, LLDP, an unknown \
                     protocol",
                    plain(name).map(|name| format!("tcpdump -c 20 -e -n -i {name} not ip and not ip6 and not arp")),
                );
            }
        }
        findings.push(
            finding
                .counted(path, &format!("{name} {word} drop"), way.before.drops, way.now.drops, "")
                .counted(path, &format!("{name} {word} errs"), way.before.errors, way.now.errors, "")
                .counted(path, &format!("{name} {word} packets"), way.before.packets, way.now.packets, ""),
        );
    }
    // Drops of the driver alone are half of the truth.
    if findings.is_empty() {
        context.now().net.qdiscs.get()?;
    }
    Ok(findings)
}

pub(super) fn utilisation(context: &RuleContext<'_>) -> Verdict {
    let now = context.now().net.interfaces.get()?;
    let ways = directions(context)?;
    let mut findings = Vec::new();
    let mut measured = 0;
    for interface in now {
        let Some(speed) = interface.speed else { continue };
        measured += 1;
        let rate = |way: &Direction<'_>| 8.0 * context.rate(way.before.bytes, way.now.bytes);
        let busier = ways
            .iter()
            .filter(|way| way.interface == interface.name)
            .max_by(|one, other| rate(one).total_cmp(&rate(other)));
        let Some(way) = busier else { continue };
        let share = 100.0 * rate(way) / (speed as f64 * 1e6);
        // Faster than it can be: a virtual one that says any number.
        let Some(severity) = context.judge(share, false).filter(|_| share <= SPEED_REAL) else { continue };
        // Counters are read a moment apart from the clock: a full link is no more than full.
        let (share, mbit) = (share.min(100.0), (rate(way) / 1e6).min(speed as f64));
        // A link in full use is what it was paid for, as long as nobody waits.
        let waiting = context.now().net.qdiscs.known().into_iter().flatten();
        let waiting = waiting.filter(|qdisc| qdisc.interface == interface.name).any(|qdisc| qdisc.backlog > 0);
        let suffers = waiting || way.dropped() > 0 || way.queue_dropped() > 0;
        let (name, word) = (&interface.name, way.word());
        findings.push(
            context
                .finding(
                    if suffers { severity } else { Severity::Info },
                    share,
                    format!("{name} is {share:.0}% full ({word}, {mbit:.0} of {speed} Mbit/s)"),
                )
                .counted("/proc/net/dev", &format!("{name} {word} bytes"), way.before.bytes, way.now.bytes, "B")
                .read(&format!("/sys/class/net/{name}/speed"), "speed", speed as f64, "Mbit/s")
                .agreed(1 + u32::from(suffers))
                .by([named("interface", name, format!("{:.0} Mbit/s {word}", rate(way) / 1e6))])
                .fix("find out who sends", Some("ss -tnip".to_owned())),
        );
    }
    if measured == 0 {
        return Err(Skip("/sys/class/net/*/speed: no interface says its speed (virtual ones do not)".to_owned()));
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use crate::doctor::diagnose::diagnose;
    use crate::doctor::fixture::{Fixture, ask, severities};
    use crate::doctor::question::Question;
    use crate::model::diagnosis::Severity::{Info, Warn};
    use crate::model::snapshot::Field;
    use crate::model::snapshot::net::Qdisc;

    /// /proc/net/dev of a 6.18 kernel.
    fn dev(rx: [u64; 4], tx: [u64; 4]) -> String {
        format!(
            "Inter-|   Receive                                                |  Transmit\n \
             face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
             lo:    8886     108    0    0    0     0          0         0     8886     108    0    0    0     0       0          0\n  \
             eth0: {} {} {} {}    0     0          0         0  {} {} {} {}    0     0       0          0\n",
            rx[0], rx[1], rx[2], rx[3], tx[0], tx[1], tx[2], tx[3]
        )
    }

    fn qdiscs(drops: u64, backlog: u64) -> Field<Vec<Qdisc>> {
        let (interface, kind) = ("eth0".to_owned(), "tbf".to_owned());
        Field::Known(vec![Qdisc { interface, kind, drops, backlog, ..Qdisc::default() }])
    }

    #[test]
    fn a_discipline_drops_what_no_file_tells() {
        let fixture = Fixture::new("if-drops-qdisc");
        fixture.changing("proc/net/dev", &dev([0; 4], [0, 100, 0, 0]), &dev([0; 4], [290_000, 300, 0, 0]));
        // The files alone say that all is well: that is not known.
        let skipped =
            diagnose(&fixture.window(), &Question { only: vec!["net.if_drops".to_owned()], ..Question::default() });
        assert_eq!((skipped.ok.len(), skipped.skipped.len()), (0, 1));
        let mut window = fixture.window();
        (window.from.net.qdiscs, window.to.net.qdiscs) = (qdiscs(10, 0), qdiscs(5_709, 5_000));
        let found = ask(&window, "net.if_drops");
        assert_eq!(severities(&found), [Warn]);
        assert_eq!(found[0].title, "5699 of 5899 packets were dropped at eth0 (tx, 97%)");
        assert_eq!(found[0].culprits[0].what, "its queueing discipline tbf dropped 5699");
        assert_eq!(found[0].remedies[0].command.as_deref(), Some("tc -s qdisc show dev eth0"));
        // Dropped since boot, not now.
        window.from.net.qdiscs = qdiscs(5_709, 0);
        assert_eq!(severities(&ask(&window, "net.if_drops")), []);
    }

    #[test]
    fn a_driver_drops_and_damages_and_a_few_are_none() {
        let rows = [
            ([9_000_000, 10_000, 0, 300], vec![Warn]),
            ([9_000_000, 10_000, 0, 150], vec![]),
            ([9_000_000, 10_000, 120, 0], vec![Warn]),
            // Nineteen of a hundred frames of a protocol that nobody speaks here.
            ([9_000, 100, 0, 19], vec![]),
        ];
        for (rx, expected) in rows {
            let fixture = Fixture::new("if-drops-driver");
            fixture.changing("proc/net/dev", &dev([0; 4], [0; 4]), &dev(rx, [0; 4]));
            let mut window = fixture.window();
            (window.from.net.qdiscs, window.to.net.qdiscs) = (qdiscs(0, 0), qdiscs(0, 0));
            assert_eq!(severities(&ask(&window, "net.if_drops")), expected, "{rx:?}");
        }
    }

    #[test]
    fn a_full_link_is_told_and_warned_of_if_somebody_waits() {
        let fixture = Fixture::new("if-util");
        // 228 MB in two seconds: 912 of 1,000 Mbit/s.
        fixture.changing("proc/net/dev", &dev([0; 4], [0; 4]), &dev([228_000_000, 200_000, 0, 0], [0; 4]));
        let skipped =
            diagnose(&fixture.window(), &Question { only: vec!["net.if_util".to_owned()], ..Question::default() });
        assert_eq!(skipped.skipped.len(), 1);
        fixture.file("sys/class/net/eth0/speed", "1000\n");
        let mut window = fixture.window();
        let found = ask(&window, "net.if_util");
        assert_eq!(
            (severities(&found), found[0].title.as_str()),
            (vec![Info], "eth0 is 91% full (rx, 912 of 1000 Mbit/s)")
        );
        fixture.changing("proc/net/dev", &dev([0; 4], [0; 4]), &dev([252_000_000, 200_000, 0, 0], [0; 4]));
        assert_eq!(fixture.ask("net.if_util")[0].title, "eth0 is 100% full (rx, 1000 of 1000 Mbit/s)");
        window.to.net.qdiscs = qdiscs(0, 60_000);
        assert_eq!(severities(&ask(&window, "net.if_util")), [Warn]);
        // Virtual ones say any number, or none.
        fixture.file("sys/class/net/eth0/speed", "500\n");
        assert_eq!(severities(&fixture.ask("net.if_util")), []);
        fixture.file("sys/class/net/eth0/speed", "-1\n");
        let skipped =
            diagnose(&fixture.window(), &Question { only: vec!["net.if_util".to_owned()], ..Question::default() });
        assert_eq!(skipped.skipped.len(), 1);
        fixture.file("sys/class/net/eth0/speed", "10000\n");
        assert_eq!(severities(&fixture.ask("net.if_util")), []);
    }

    #[test]
    fn a_cpu_that_drops_is_named_and_one_out_of_time_only_told() {
        // The second line of a 6.18 kernel with two CPUs.
        let line = |dropped: u64, squeezed: u64| {
            format!(
                "00000036 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000\n\
                 000079c9 {dropped:08x} {squeezed:08x} 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000001 00000000 00000000\n"
            )
        };
        let rows = [(0, 1, vec![]), (4, 0, vec![]), (0, 40, vec![Info]), (300, 40, vec![Warn])];
        for (dropped, squeezed, expected) in rows {
            let fixture = Fixture::new("softnet");
            fixture.changing("proc/net/softnet_stat", &line(1_000, 1_000), &line(1_000 + dropped, 1_000 + squeezed));
            let found = fixture.ask("net.softnet");
            assert_eq!(severities(&found), expected, "{dropped} {squeezed}");
            if dropped == 300 {
                assert_eq!(found[0].title, "CPU 1 dropped 300 received packets, its queue was full");
            }
        }
    }
}
