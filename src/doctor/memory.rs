//! Rules about memory.

use crate::doctor::{Bad, Look, Rule, Verdict, culprit};
use crate::model::diagnosis::{Area, Severity};
use crate::model::unit::Bytes;

/// The rules.
pub(crate) const RULES: &[Rule] = &[Rule {
    id: "mem.available",
    area: Area::Memory,
    title: "memory is running out",
    source: "/proc/meminfo MemAvailable, MemTotal; limit and use of apm's control groups",
    computation: "memory that can be had without swapping, in percent of the machine's or of the tightest limit above apm",
    unit: "%",
    bad: Bad::Below,
    warn: Some(10.0),
    crit: Some(5.0),
    thresholds_from: "node_exporter mixin and netdata: 10 %; the specification's 80 % in use is said as info",
    remedy: "run fewer things at once, end the largest process, or add swap on zram",
    check: available,
}];

/// Share in use from which on it is said, the specification's trigger.
const SPEC_AVAILABLE: f64 = 20.0;

fn available(look: &Look<'_>) -> Verdict {
    let info = look.now().memory.meminfo.get()?;
    let (available, total) = (info.get("MemAvailable").copied(), info.get("MemTotal").copied());
    let (Some(available), Some(total)) = (available, total.filter(|total| *total > 0)) else {
        return Err(crate::doctor::Skip("/proc/meminfo: MemAvailable is not in it".to_owned()));
    };
    let mut tightest = (available, total, "/proc/meminfo".to_owned());
    for group in look.now().cgroups.groups.iter().filter(|group| group.is_own) {
        if let (Some(limit), Some(used)) = (group.memory_max, group.memory_used.known()) {
            let left = limit.saturating_sub(*used).min(available);
            if (left as f64) * (tightest.1 as f64) < (tightest.0 as f64) * (limit as f64) {
                tightest = (left, limit, group.path.clone());
            }
        }
    }
    let (left, whole, place) = tightest;
    let percent = 100.0 * left as f64 / (whole as f64).max(1.0);
    // How much is left is a state, not a rate: pressure confirms that it hurts already.
    let stalls = look.now().memory.pressure.known().is_some_and(|pressure| pressure.some.avg60 > 1.0);
    let severity = match look.judge(percent, stalls || percent < 2.0) {
        Some(severity) => severity,
        None if percent < SPEC_AVAILABLE && look.warn.is_some_and(|warn| warn < SPEC_AVAILABLE) => Severity::Info,
        None => return Ok(Vec::new()),
    };
    let title = format!("{} of {} can still be had ({percent:.0}%)", Bytes(left), Bytes(whole));
    let finding = look
        .finding(severity, percent, title)
        .read(&place, "available", left as f64, "B")
        .agreed(1 + u32::from(stalls))
        .by(culprit::by_memory(look.window));
    // Nobody ends init.
    let biggest = finding.culprits.first().and_then(|culprit| culprit.pid).filter(|pid| *pid > 1);
    Ok(vec![
        finding.fix("run fewer things at once, or end the largest process", biggest.map(|pid| format!("kill {pid}"))),
    ])
}

#[cfg(test)]
mod tests {
    use crate::doctor::scene::{Scene, severities};
    use crate::model::diagnosis::Severity::{Crit, Info, Warn};

    const CALM: &str =
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";

    fn meminfo(available: u64) -> String {
        format!("MemTotal:       10000000 kB\nMemFree:         100000 kB\nMemAvailable: {available} kB\n")
    }

    #[test]
    fn available_memory_speaks_below_its_thresholds() {
        let scene = Scene::new("available");
        scene.file("proc/pressure/memory", CALM);
        for (available, expected) in [(5_000_000, vec![]), (1_900_000, vec![Info]), (900_000, vec![Warn])] {
            assert_eq!(severities(&scene.file("proc/meminfo", &meminfo(available)).ask("mem.available")), expected);
        }
        // Four percent alone is a warning; that tasks stall on it makes it critical.
        scene.file("proc/meminfo", &meminfo(400_000));
        assert_eq!(severities(&scene.ask("mem.available")), [Warn]);
        scene.file("proc/pressure/memory", &CALM.replace("some avg10=0.00 avg60=0.00", "some avg10=9.00 avg60=5.00"));
        let found = scene.ask("mem.available");
        assert_eq!(severities(&found), [Crit]);
        assert_eq!((found[0].value, found[0].confidence), (4.0, 2));
    }
}
