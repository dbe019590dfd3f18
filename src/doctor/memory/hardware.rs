//! Errors of memory modules.

use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::model::diagnosis::{Culprit, Severity};
use crate::model::snapshot::memory::Controller;

const EDAC: &str = "/sys/devices/system/edac/mc";

pub(super) fn errors(context: &RuleContext<'_>) -> Verdict {
    let now = &context.now().memory;
    let controllers = now.controllers.known();
    let lost = now.meminfo.known().and_then(|info| info.get("HardwareCorrupted").copied());
    let logged = context.now().system.kmsg.known();
    let (None, None, None) = (controllers, lost, logged) else {
        return judge(context, controllers.map_or(&[], Vec::as_slice), lost.unwrap_or_default());
    };
    Err(Skip(format!("{EDAC}: no memory controller tells, and no HardwareCorrupted in /proc/meminfo")))
}

fn judge(context: &RuleContext<'_>, controllers: &[Controller], lost: u64) -> Verdict {
    let before = context.before().memory.controllers.known().into_iter().flatten();
    let before = |name: &str| before.clone().find(|other| other.name == name).map_or(0, |other| other.corrected);
    let sum = |count: &dyn Fn(&Controller) -> u64| controllers.iter().map(count).fold(0, u64::saturating_add);
    let fresh = sum(&|one| one.corrected.saturating_sub(before(&one.name)));
    let (corrected, uncorrected) = (sum(&|one| one.corrected), sum(&|one| one.uncorrected));
    let records = context.now().system.kmsg.known().map_or(&[][..], |log| &log.records);
    let logged = records.iter().filter(|record| record.pattern == "memory_error").count() as u64;
    let (severity, value, title) = if uncorrected > 0 || lost > 0 {
        let value = uncorrected.max(u64::from(lost > 0));
        (context.judge(value as f64, true), value, "memory has errors that could not be corrected".to_owned())
    } else if fresh > 0 || logged > 0 {
        let value = fresh.max(logged);
        (context.judge(value as f64, false), value, format!("memory has errors: {value} just now or in half an hour"))
    } else if corrected > 0 {
        (Some(Severity::Info), corrected, format!("{corrected} errors of memory were corrected since boot"))
    } else {
        (None, 0, String::new())
    };
    let Some(severity) = severity else { return Ok(Vec::new()) };
    let mut finding = context.finding(severity, value as f64, title);
    for one in controllers.iter().filter(|one| one.corrected > 0 || one.uncorrected > 0) {
        let path = format!("{EDAC}/{}", one.name);
        let what = format!("{} corrected, {} not", one.corrected, one.uncorrected);
        finding = finding
            .counted(&path, "ce_count", before(&one.name), one.corrected, "")
            .read(&path, "ue_count", one.uncorrected as f64, "")
            .by([Culprit { kind: "device".to_owned(), pid: None, name: one.name.clone(), what }]);
    }
    if lost > 0 {
        finding = finding.read("/proc/meminfo", "HardwareCorrupted", lost as f64, "B");
    }
    if logged > 0 {
        finding = finding.read("/dev/kmsg", "memory errors", logged as f64, "");
    }
    Ok(vec![finding.fix("find the module and replace it", Some("ras-mc-ctl --error-count".to_owned()))])
}

#[cfg(test)]
mod tests {
    use crate::doctor::diagnose::diagnose;
    use crate::doctor::fixture::{Fixture, severities};
    use crate::doctor::question::Question;
    use crate::model::diagnosis::Severity::{Crit, Info, Warn};

    #[test]
    fn errors_of_modules_are_told_by_kind_and_time() {
        let fixture = Fixture::new("edac");
        let mc = "sys/devices/system/edac/mc/mc0";
        for (before, now, lost, expected) in [
            ("0\n", "0\n", "0\n", vec![]),
            ("3\n", "3\n", "0\n", vec![Info]),
            ("3\n", "5\n", "0\n", vec![Warn]),
            ("0\n", "0\n", "1\n", vec![Crit]),
        ] {
            fixture.changing(&format!("{mc}/ce_count"), before, now).file(&format!("{mc}/ue_count"), lost);
            let found = fixture.ask("mem.hw");
            assert_eq!(severities(&found), expected, "{before} {now} {lost}");
            assert!(found.iter().all(|finding| finding.culprits[0].name == "mc0"));
        }
    }

    #[test]
    fn a_machine_that_does_not_tell_is_skipped_unless_its_log_does() {
        let fixture = Fixture::new("no-edac");
        fixture.file("proc/meminfo", "MemTotal: 10000000 kB\n").file("proc/uptime", "500.00 9.0\n");
        let question = Question { only: vec!["mem.hw".to_owned()], ..Question::default() };
        let diagnosis = diagnose(&fixture.window(), &question);
        assert_eq!((diagnosis.skipped.len(), diagnosis.ok.len()), (1, 0));
        fixture.file("dev/kmsg", "0,9,400000000,-;mce: [Hardware Error]: Machine check events logged\n");
        assert_eq!(severities(&fixture.ask("mem.hw")), [Warn]);
        fixture.file("proc/meminfo", "MemTotal: 10000000 kB\nHardwareCorrupted:     4 kB\n");
        assert_eq!(severities(&fixture.ask("mem.hw")), [Crit]);
    }
}
