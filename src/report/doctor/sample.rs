//! A diagnosis made by hand, hostile names included, and what each format makes of it. `tests/it/doctor.rs` holds the
//! files against validators that nobody here wrote.

use expect_test::{expect, expect_file};

use super::{Sheet, github, html, json, junit, prometheus, sarif, text};
use crate::model::diagnosis::{
    Area, Culprit, Diagnosis, Evidence, Finding, HostFacts, Part, Remedy, RuleFacts, Severity, Share, Skipped, Stalled,
    Summary, Threshold, Vitals,
};
use crate::text::layout::Layout;

fn owned(text: &str) -> String {
    text.to_owned()
}

fn rule(id: &str, area: Area, limits: Option<(f64, f64)>) -> RuleFacts {
    RuleFacts {
        id: owned(id),
        area,
        title: owned("tasks wait for something they need"),
        source: owned("/proc/pressure/memory full total"),
        computation: owned("growth of the total over the window, in percent of it"),
        unit: owned("%"),
        bad: owned("above"),
        warn: limits.map(|(warn, _)| warn),
        crit: limits.map(|(_, crit)| crit),
        thresholds_from: owned("systemd-oomd: 60 % for 30 s; the rest our own: a third of that is felt"),
        remedy: owned("run fewer things at once"),
    }
}

fn finding(rule: &str, area: Area, severity: Severity, title: &str) -> Finding {
    Finding {
        rule: owned(rule),
        area,
        severity,
        confidence: 2,
        title: owned(title),
        value: 24.0,
        unit: owned("%"),
        threshold: Threshold { warn: Some(5.0), crit: Some(20.0), source: owned("systemd-oomd: 60 % for 30 s") },
        evidence: Vec::new(),
        culprits: Vec::new(),
        remedies: Vec::new(),
        symptoms: Vec::new(),
    }
}

fn read(path: &str, field: &str, before: Option<f64>, after: f64, unit: &str) -> Evidence {
    Evidence { path: owned(path), field: owned(field), before, after, unit: owned(unit) }
}

fn culprit(kind: &str, pid: Option<i32>, name: &str, what: &str) -> Culprit {
    Culprit { kind: owned(kind), pid, name: owned(name), what: owned(what) }
}

fn fix(text: &str, command: Option<&str>) -> Remedy {
    let interrupts = command.is_some_and(|command| command.starts_with("kill "));
    Remedy { text: owned(text), command: command.map(owned), interrupts }
}

/// A machine with a finding of each severity.
pub(crate) fn ill() -> (Diagnosis, Vec<RuleFacts>) {
    let mut stalled = finding("mem.psi", Area::Memory, Severity::Crit, "all tasks waited for memory 24% of the time");
    stalled.evidence = vec![
        read("/proc/pressure/memory", "full total", Some(1_000_000.0), 1_504_000.0, "us"),
        read("/proc/pressure/memory", "full avg60", None, 11.25, "%"),
        read("/proc/vmstat", "pswpin", Some(1000.0), 17_918.0, ""),
    ];
    stalled.culprits = vec![
        culprit("process", Some(5486), "python3", "2.1 GiB in RAM"),
        // What a process may call itself.
        culprit("process", Some(66), "\u{1b}[31m<b>&\"'\n::error", "1 GiB in RAM"),
        culprit("cgroup", None, "/ci/%0A]]>-->\u{202e}job", "3 kills"),
    ];
    stalled.remedies = vec![
        fix(
            "raise the limit of the group, or let it do less at once; its tasks have to read again what was dropped",
            Some(
                "echo 4G > /sys/fs/cgroup/memory/ci/memory.limit_in_bytes && cat /sys/fs/cgroup/memory/ci/memory.limit_in_bytes",
            ),
        ),
        fix("end the largest process", Some("kill 5486")),
    ];
    stalled.symptoms =
        vec![finding("mem.refault", Area::Memory, Severity::Warn, "2,000 pages/s \u{1b}[1mcome back\n<b>&")];
    let mut lost = finding("net.retrans", Area::Network, Severity::Warn, "5.3% of 258,959 segments were sent again");
    lost.evidence = vec![read("/proc/net/snmp", "Tcp.RetransSegs", Some(100.0), 13_808.0, "")];
    lost.culprits = vec![culprit("peer", None, "10.0.0.7:443", "90% of them")];
    lost.value = 5.3;
    let mut full = finding("fs.full", Area::Io, Severity::Warn, "/ has 0 B left");
    full.culprits = vec![culprit("mount", None, "/", "0 B of 10 GiB left")];
    full.evidence = vec![read("statvfs", "available of /", None, 0.0, "B")];
    (full.value, full.threshold.warn, full.threshold.crit) = (0.0, Some(10.0), Some(3.0));
    full.threshold.source = owned("node_exporter mixin: 5 % and 3 %; netdata: 10 %");
    let mut second = full.clone();
    (second.title, second.culprits) =
        (owned("/var has 1 MiB left"), vec![culprit("mount", None, "/var", "1 MiB left")]);
    let mut busy = finding("cpu.util", Area::Cpu, Severity::Info, "the CPUs are 97% busy");
    busy.threshold = Threshold::default();
    let findings = vec![stalled, lost, full, second, busy];
    let skip = |rule: &str, reason: &str| Skipped { rule: owned(rule), reason: owned(reason) };
    let skipped = vec![
        skip("fs.deleted_open", "/proc/PID/fd: permission denied for 87 of 150 processes"),
        skip("cpu.freq", "/sys/devices/system/cpu/cpu0/cpufreq: not there"),
        skip("cpu.thermal", "/sys/devices/system/cpu/cpu0/cpufreq: not there"),
    ];
    let ok = [("mem.available", Area::Memory), ("mem.swapin", Area::Memory), ("cpu.psi", Area::Cpu)];
    let share = |window: f64, avg: f64| Share { window: Some(window), avg10: avg, avg60: avg / 2.0, avg300: avg / 8.0 };
    let stall = |resource: &str, some: Share, full: Share| Stalled { resource: owned(resource), some, full };
    let part = |(name, value): (&str, f64)| Part { name: owned(name), value };
    let gib = 1_073_741_824.0;
    let mut rules: Vec<RuleFacts> =
        findings.iter().map(|one| rule(&one.rule, one.area, one.threshold.warn.zip(one.threshold.crit))).collect();
    rules.dedup_by(|a, b| a.id == b.id);
    rules.insert(1, rule("mem.refault", Area::Memory, Some((5.0, 20.0))));
    rules.extend(ok.map(|(id, area)| rule(id, area, Some((10.0, 20.0)))));
    rules.extend([
        rule("fs.deleted_open", Area::Io, None),
        rule("cpu.freq", Area::Cpu, None),
        rule("cpu.thermal", Area::Cpu, None),
    ]);
    let diagnosis = Diagnosis {
        schema: owned("apm.doctor/1"),
        host: HostFacts {
            kernel: owned("6.18.1"),
            cpus: 2,
            cpus_effective: 1.5,
            memory: 24 << 30,
            cgroup: owned("v1"),
            container: Some(owned("docker")),
            uid: 0,
        },
        window_s: 2.1,
        summary: Summary { crit: 1, warn: 3, info: 1, ok: 3, skipped: 3 },
        findings,
        ok: ok.map(|(id, _)| owned(id)).to_vec(),
        skipped,
        vitals: Vitals {
            pressure: vec![
                stall("cpu", share(61.3, 58.0), Share { window: Some(0.0), ..Share::default() }),
                stall("memory", share(40.0, 31.0), share(24.0, 22.5)),
                stall("io", share(1.2, 0.5), share(0.4, 0.25)),
            ],
            cpu: [
                ("user", 70.0),
                ("nice", 0.0),
                ("system", 26.5),
                ("irq", 0.5),
                ("steal", 0.0),
                ("iowait", 1.0),
                ("idle", 2.0),
            ]
            .map(part)
            .to_vec(),
            memory: [
                ("programs", 17.0),
                ("shared", 0.5),
                ("cache", 3.0),
                ("kernel caches", 1.0),
                ("kernel", 0.75),
                ("huge pages", 0.0),
                ("other", 0.25),
                ("free", 1.5),
            ]
            .map(|(name, part)| (name, part * gib))
            .map(part)
            .to_vec(),
        },
    };
    (diagnosis, rules)
}

fn shown(write: impl Fn(&Sheet<'_>, &mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let (diagnosis, rules) = ill();
    let sheet = Sheet { diagnosis: &diagnosis, rules: &rules, fails_from: Some(Severity::Warn), is_verbose: false };
    let mut out = Vec::new();
    write(&sheet, &mut out).expect("memory takes everything");
    String::from_utf8(out).expect("text")
}

fn in_text(width: usize) -> String {
    shown(|sheet, out| text::write(sheet, &Layout { width, ..Layout::PLAIN }, out))
}

#[test]
fn formats_for_machines_are_as_recorded() {
    expect_file!["../../../tests/data/doctor/ill.json"].assert_eq(&shown(|sheet, out| json(sheet.diagnosis, out)));
    expect_file!["../../../tests/data/doctor/ill.sarif"].assert_eq(&shown(sarif::write));
    expect_file!["../../../tests/data/doctor/ill.xml"].assert_eq(&shown(junit::write));
    expect_file!["../../../tests/data/doctor/ill.prom"].assert_eq(&shown(prometheus::write));
    expect_file!["../../../tests/data/doctor/ill.html"].assert_eq(&shown(html::write));
    expect_file!["../../../tests/data/doctor/ill.github"].assert_eq(&shown(github::write));
}

#[test]
fn at_eighty_columns() {
    expect![[r#"
        1 critical, 3 warnings, 1 info; 3 rules ok, 3 skipped (2.1 s; docker, cgroup v1,
        uid 0)
        Linux 6.18.1, 2 CPUs (1.5 usable), 24 GiB; tasks waited for cpu 61.3%, memory
        40%, io 1.2% of the time

        CRIT  mem.psi: all tasks waited for memory 24% of the time
              by     python3[5486]: 2.1 GiB in RAM
              by     <b>&"' ::error[66]: 1 GiB in RAM
              by     cgroup /ci/%0A]]>-->job: 3 kills
              read   /proc/pressure/memory full total 1,000,000 us -> 1,504,000 us (24%
                     of the time)
              read   /proc/pressure/memory full avg60 11.2%
              read   /proc/vmstat pswpin 1,000 -> 17,918 (8,056/s)
              limit  24% against warn 5%, crit 20% (systemd-oomd: 60 % for 30 s)
              also   mem.refault: 2,000 pages/s come back <b>&
              do     raise the limit of the group, or let it do less at once; its tasks
                     have to read again what was dropped
                     echo 4G > /sys/fs/cgroup/memory/ci/memory.limit_in_bytes && cat \
                     /sys/fs/cgroup/memory/ci/memory.limit_in_bytes
              do     end the largest process
                     kill 5486

        WARN  net.retrans: 5.3% of 258,959 segments were sent again
              by     peer 10.0.0.7:443: 90% of them
              read   /proc/net/snmp Tcp.RetransSegs 100 -> 13,808 (6,528/s)
              limit  5.3% against warn 5%, crit 20% (systemd-oomd: 60 % for 30 s)

        WARN  fs.full: / has 0 B left
              by     /: 0 B of 10 GiB left
              read   statvfs available of / 0 B
              limit  0% against warn 10%, crit 3% (node_exporter mixin: 5 % and 3 %)

        WARN  fs.full: /var has 1 MiB left
              by     /var: 1 MiB left
              read   statvfs available of / 0 B
              limit  0% against warn 10%, crit 3% (node_exporter mixin: 5 % and 3 %)

        INFO  cpu.util: the CPUs are 97% busy

        ok       memory 2, cpu 1
        skipped  cpu.freq, cpu.thermal: /sys/devices/system/cpu/cpu0/cpufreq: not there
        skipped  fs.deleted_open: /proc/PID/fd: permission denied for 87 of 150
                 processes

        `apm doctor --explain mem.psi` says more of a rule; `--verbose` shows all of
        each INFO
    "#]]
    .assert_eq(&in_text(80));
}

#[test]
fn at_forty_columns() {
    expect![[r#"
        1 critical, 3 warnings, 1 info; 3 rules
        ok, 3 skipped (2.1 s; docker, cgroup v1,
        uid 0)
        Linux 6.18.1, 2 CPUs (1.5 usable),
        24 GiB; tasks waited for cpu 61.3%,
        memory 40%, io 1.2% of the time

        CRIT  mem.psi: all tasks waited for
              memory 24% of the time
          by     python3[5486]: 2.1 GiB in RAM
          by     <b>&"' ::error[66]: 1 GiB in
                 RAM
          by     cgroup /ci/%0A]]>-->job: 3
                 kills
          read   /proc/pressure/memory full
                 total 1,000,000 us ->
                 1,504,000 us (24% of the time)
          read   /proc/pressure/memory full
                 avg60 11.2%
          read   /proc/vmstat pswpin 1,000 ->
                 17,918 (8,056/s)
          limit  24% against warn 5%, crit 20%
                 (systemd-oomd)
          also   mem.refault: 2,000 pages/s come
                 back <b>&
          do     raise the limit of the group,
                 or let it do less at once; its
                 tasks have to read again what
                 was dropped
                 echo 4G > \
                 /sys/fs/cgroup/memory/ci/memory.limit_in_bytes \
                 && cat \
                 /sys/fs/cgroup/memory/ci/memory.limit_in_bytes
          do     end the largest process
                 kill 5486

        WARN  net.retrans: 5.3% of 258,959
              segments were sent again
          by     peer 10.0.0.7:443: 90% of them
          read   /proc/net/snmp Tcp.RetransSegs
                 100 -> 13,808 (6,528/s)
          limit  5.3% against warn 5%, crit 20%
                 (systemd-oomd)

        WARN  fs.full: / has 0 B left
          by     /: 0 B of 10 GiB left
          read   statvfs available of / 0 B
          limit  0% against warn 10%, crit 3%
                 (node_exporter mixin)

        WARN  fs.full: /var has 1 MiB left
          by     /var: 1 MiB left
          read   statvfs available of / 0 B
          limit  0% against warn 10%, crit 3%
                 (node_exporter mixin)

        INFO  cpu.util: the CPUs are 97% busy

        ok       memory 2, cpu 1
        skipped  cpu.freq, cpu.thermal:
                 /sys/devices/system/cpu/cpu0/cpufreq:
                 not there
        skipped  fs.deleted_open: /proc/PID/fd:
                 permission denied for 87 of 150
                 processes

        `apm doctor --explain mem.psi` says more
        of a rule; `--verbose` shows all of each
        INFO
    "#]]
    .assert_eq(&in_text(40));
}

/// Nothing a process calls itself reaches a terminal as a command, and nothing but a command or a long word is wider
/// than the place.
#[test]
fn lines_fit_and_are_harmless_at_every_width() {
    for width in [20, 40, 60, 80, 120, 200] {
        let text = in_text(width);
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
        for line in text.lines().filter(|line| line.chars().count() > width) {
            assert!(line.split_whitespace().any(|word| word.len() + 20 > width), "{width}: {line}");
        }
    }
    let coloured = shown(|sheet, out| text::write(sheet, &Layout { colour: true, ..Layout::PLAIN }, out));
    let plain: String = coloured
        .split("\u{1b}[")
        .enumerate()
        .map(|(at, part)| if at == 0 { part } else { part.split_once('m').map_or("", |(_, rest)| rest) })
        .collect();
    assert_eq!(plain, in_text(80), "colours are all that colours add");
    let page = shown(html::write);
    assert!(
        !page.contains("<b>&amp;") && !page.contains("<script") && !page.contains("src=") && !page.contains("url("),
        "{page}"
    );
}

#[test]
fn what_fails_is_what_was_asked_for() {
    let (diagnosis, rules) = ill();
    let failures = |fails_from: Option<Severity>| {
        let sheet = Sheet { diagnosis: &diagnosis, rules: &rules, fails_from, is_verbose: false };
        let mut out = Vec::new();
        junit::write(&sheet, &mut out).expect("memory takes everything");
        String::from_utf8_lossy(&out).matches("<failure").count()
    };
    let floors = [Some(Severity::Info), Some(Severity::Warn), Some(Severity::Crit), None];
    // Two findings of one rule are one case.
    assert_eq!(floors.map(failures), [5, 4, 1, 0]);
}
