//! The clock, what it is read from, the kernel's complaints, and whether it measures stalls.

use crate::doctor::culprit;
use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::model::diagnosis::{Culprit, Severity};
use crate::model::snapshot::system::Record;

/// An error of the clock that the kernel gives up counting at, microseconds.
const ERROR_MAX_US: i64 = 16_000_000;
/// Seconds after boot before which nobody has to be synchronised.
const SETTLED_S: f64 = 1_020.0;
/// Sources that are slow to read.
const SLOW: &[&str] = &["hpet", "acpi_pm", "pit", "jiffies", "refined-jiffies"];
/// Complaints older than this are past, seconds.
const RECENT_S: f64 = 300.0;
/// Complaints that another rule tells of.
const ELSEWHERE: &[&str] = &["oom_kill", "oom_victim", "io_error", "io_timeout", "fs_error"];
/// Complaints after which the kernel itself is broken. Whether a file system still is, fs.readonly sees.
const BROKEN: &[&str] = &["lockup", "oops"];

pub(super) fn clock(context: &RuleContext<'_>) -> Verdict {
    let system = &context.now().system;
    let clock = system.clock.get()?;
    let offset = (clock.offset_us as f64 / 1000.0).abs();
    let is_lost = !clock.is_synchronised && clock.error_max_us >= ERROR_MAX_US;
    let is_settled = system.uptime.known().is_none_or(|uptime| *uptime >= SETTLED_S);
    let is_guest = system.container.is_some() || system.is_virtual == Some(true);
    let severity = match context.judge(offset, false) {
        Some(severity) => severity,
        None if is_lost && is_settled && is_guest => Severity::Info,
        None if is_lost && is_settled => Severity::Warn,
        None => return Ok(Vec::new()),
    };
    // The clock of a container is that of its host.
    let severity = if system.container.is_some() { Severity::Info } else { severity };
    let title = match is_lost {
        true => "nobody keeps the clock right: it may be wrong by 16 s or more".to_owned(),
        false => format!("the clock is {offset:.0} ms off"),
    };
    let has_systemd = system.services.known().is_some() && system.container.is_none();
    let command = has_systemd.then(|| context.as_root("timedatectl set-ntp true"));
    Ok(vec![
        context
            .finding(severity, offset, title)
            .read("adjtimex", "synchronised", f64::from(u8::from(clock.is_synchronised)), "")
            .read("adjtimex", "offset", clock.offset_us as f64, "us")
            .read("adjtimex", "maxerror", clock.error_max_us as f64, "us")
            .fix("start chrony or systemd-timesyncd, in a container on its host", command),
    ])
}

pub(super) fn clocksource(context: &RuleContext<'_>) -> Verdict {
    let source = context.now().system.clocksource.get()?;
    if !SLOW.contains(&source.current.as_str()) {
        return Ok(Vec::new());
    }
    const FOLDER: &str = "/sys/devices/system/clocksource/clocksource0";
    let better =
        ["tsc", "kvm-clock", "arch_sys_counter"].into_iter().find(|fast| source.available.iter().any(|it| it == fast));
    let culprit = Culprit {
        kind: "device".to_owned(),
        pid: None,
        name: source.current.clone(),
        what: "is asked at every reading of the clock".to_owned(),
    };
    Ok(vec![
        context
            .finding(Severity::Warn, 0.0, format!("the clock is read from {}: slow", source.current))
            .read(&format!("{FOLDER}/current_clocksource"), &source.current, 1.0, "")
            .by([culprit])
            .fix(
                "use a faster source; where there is none the log says why: dmesg | grep -i clocksource",
                better.map(|better| match context.now().system.uid {
                    0 => format!("echo {better} > {FOLDER}/current_clocksource"),
                    _ => format!("echo {better} | sudo tee {FOLDER}/current_clocksource"),
                }),
            ),
    ])
}

pub(super) fn log(context: &RuleContext<'_>) -> Verdict {
    let system = &context.now().system;
    let log = system.kmsg.get()?;
    let Ok(uptime) = system.uptime.get() else {
        return Err(Skip("/proc/uptime: needed to know how old a record is".to_owned()));
    };
    let is_told_elsewhere = |record: &Record| {
        ELSEWHERE.contains(&record.pattern.as_str())
            || (record.pattern == "pids_refused" && culprit::is_of_run(&record.text))
    };
    let is_recent =
        |record: &&Record| uptime - record.at_s <= RECENT_S && !is_told_elsewhere(record) && !is_of_loop(record);
    let recent: Vec<&Record> = log.records.iter().filter(is_recent).collect();
    let is_broken = |record: &&&Record| BROKEN.contains(&record.pattern.as_str());
    let Some(worst) = recent.iter().rev().find(is_broken).or(recent.last()) else { return Ok(Vec::new()) };
    let severity = match context.judge(recent.len() as f64, false) {
        Some(_) if is_broken(&worst) => Severity::Crit,
        Some(severity) => severity,
        None => return Ok(Vec::new()),
    };
    let quote = culprit::excerpt(&worst.text);
    let age = (uptime - worst.at_s).max(0.0);
    let finding = context
        .finding(severity, recent.len() as f64, format!("{age:.0} s ago: {quote}"))
        .read("/dev/kmsg", "complaints in 5 minutes", recent.len() as f64, "")
        .read("/dev/kmsg", &format!("{} at", worst.pattern), worst.at_s, " s")
        .by(recent.iter().rev().filter_map(|record| hung(record)).take(culprit::NAMED));
    Ok(vec![finding.fix("read all of it", Some("dmesg -T --level=emerg,alert,crit,err,warn | tail -50".to_owned()))])
}

/// Loop devices are numbered anew each time, so a record of one may be of a device that is gone. Errors of those that are
/// mounted now are reported by fs.errors.
fn is_of_loop(record: &Record) -> bool {
    ["(loop", " loop", "device loop"].iter().any(|name| record.text.contains(name))
}

/// `INFO: task touch:812 blocked for more than 120 seconds.`
fn hung(record: &Record) -> Option<Culprit> {
    if record.pattern != "hung_task" {
        return None;
    }
    let (_, rest) = record.text.split_once("task ")?;
    let (task, _) = rest.rsplit_once(" blocked for more than ")?;
    let (name, pid) = task.rsplit_once(':')?;
    let pid = pid.parse().ok();
    Some(Culprit {
        kind: "process".to_owned(),
        pid,
        name: name.to_owned(),
        what: "blocked for more than two minutes".to_owned(),
    })
}

pub(super) fn pressure_off(context: &RuleContext<'_>) -> Verdict {
    let now = context.now();
    let all = [now.cpu.pressure.get().err(), now.memory.pressure.get().err(), now.disk.pressure.get().err()];
    let [Some(why), Some(_), Some(_)] = all else { return Ok(Vec::new()) };
    Ok(vec![
        context
            .finding(Severity::Info, 0.0, "the kernel does not measure stalls: the best rules are skipped")
            .read(&why.path, "readable", 0.0, "")
            .fix("boot with psi=1 on the kernel's command line (Linux 4.20 or newer)", None),
    ])
}

#[cfg(test)]
mod tests {
    use crate::doctor::fixture::{Fixture, ask, severities};
    use crate::model::diagnosis::Severity::{Crit, Info, Warn};
    use crate::model::snapshot::system::Clock;
    use crate::model::snapshot::{Field, Window};

    fn with(clock: Clock, uptime: f64, is_virtual: bool, container: Option<&str>) -> Window {
        let mut window = Window::default();
        let system = &mut window.to.system;
        (system.clock, system.uptime) = (Field::Known(clock), Field::Known(uptime));
        (system.is_virtual, system.container) = (Some(is_virtual), container.map(str::to_owned));
        window
    }

    #[test]
    fn a_clock_that_nobody_keeps_is_a_fault_of_hosts_only() {
        let lost = Clock { is_synchronised: false, offset_us: 0, error_max_us: 16_000_000 };
        let good = Clock { is_synchronised: true, offset_us: 300, error_max_us: 2_000 };
        assert_eq!(severities(&ask(&with(lost, 9000.0, false, None), "sys.clock")), [Warn]);
        assert_eq!(severities(&ask(&with(lost, 9000.0, true, None), "sys.clock")), [Info]);
        assert_eq!(severities(&ask(&with(lost, 9000.0, false, Some("docker")), "sys.clock")), [Info]);
        assert_eq!(ask(&with(lost, 300.0, false, None), "sys.clock"), []);
        assert_eq!(ask(&with(good, 9000.0, false, None), "sys.clock"), []);
        let off = Clock { offset_us: -80_000, ..good };
        assert_eq!(severities(&ask(&with(off, 9000.0, false, None), "sys.clock")), [Warn]);
    }

    #[test]
    fn slow_clocks_are_named() {
        let folder = "sys/devices/system/clocksource/clocksource0";
        let fixture = Fixture::new("k1");
        fixture.file(&format!("{folder}/available_clocksource"), "tsc hpet acpi_pm \n");
        assert_eq!(fixture.file(&format!("{folder}/current_clocksource"), "tsc\n").ask("sys.clocksource"), []);
        let found = fixture.file(&format!("{folder}/current_clocksource"), "hpet\n").ask("sys.clocksource");
        assert_eq!(severities(&found), [Warn]);
        assert_eq!(
            found[0].remedies[0].command.as_deref(),
            Some("echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource")
        );
    }

    #[test]
    fn recent_complaints_of_the_kernel_are_quoted() {
        let fixture = Fixture::new("k2");
        fixture.file("proc/uptime", "15000.00 20000.00\n").file(
            "dev/kmsg",
            "3,1,14000000000,-;EXT4-fs error (device sda1): ext4_lookup:1: inode #2\n\
             3,2,14990000000,-;Memory cgroup out of memory: Killed process 4538 (python3) total-vm:1kB\n",
        );
        assert_eq!(fixture.ask("sys.kmsg"), []);
        fixture.file("dev/kmsg", "3,3,14930000000,-;INFO: task to:uch:812 blocked for more than 120 seconds.\n");
        let found = fixture.ask("sys.kmsg");
        assert_eq!(
            (severities(&found), found[0].title.as_str()),
            (vec![Warn], "70 s ago: INFO: task to:uch:812 blocked for more than 120 seconds.")
        );
        assert_eq!((found[0].culprits[0].pid, found[0].culprits[0].name.as_str()), (Some(812), "to:uch"));
        fixture.file("dev/kmsg", "2,4,14930000000,-;EXT4-fs (sda1): Remounting filesystem read-only\n");
        assert_eq!(severities(&fixture.ask("sys.kmsg")), [Warn]);
        fixture.file("dev/kmsg", "2,4,14930000000,-;EXT4-fs (loop3): Remounting filesystem read-only\n");
        assert_eq!(fixture.ask("sys.kmsg"), []);
        for (group, expected) in [("ci", vec![Warn]), ("apm-20261125-171907-7009fe", vec![])] {
            let text = format!("4,5,14930000000,-;cgroup: fork rejected by pids controller in /{group}/2\n");
            fixture.file("dev/kmsg", &text);
            assert_eq!(severities(&fixture.ask("sys.kmsg")), expected, "{group}");
        }
        fixture.file("dev/kmsg", "4,5,14930000000,-;Oops: general protection fault, kernel NULL pointer dereference\n");
        assert_eq!(severities(&fixture.ask("sys.kmsg")), [Crit]);
    }

    #[test]
    fn a_kernel_that_does_not_measure_stalls_is_said() {
        let fixture = Fixture::new("k3");
        assert_eq!(severities(&fixture.ask("sys.psi_off")), [Info]);
        let calm = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(fixture.file("proc/pressure/cpu", calm).ask("sys.psi_off"), []);
    }
}
