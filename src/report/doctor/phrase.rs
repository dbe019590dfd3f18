//! The parts of a diagnosis in words, the same in every format that people read. What comes from processes is cleaned.

use unicode_width::UnicodeWidthStr;

use crate::model::diagnosis::{Area, Culprit, Diagnosis, Evidence, Finding, RuleFacts, Severity, Skipped, Threshold};
use crate::model::unit::Bytes;
use crate::text::layout::Style;
use crate::text::{number, transcript};

/// All areas, in the order in which they are listed.
pub(crate) const AREAS: [Area; 7] =
    [Area::Memory, Area::Cpu, Area::Io, Area::Network, Area::Process, Area::Agents, Area::Hardware];

/// The worst there is, as the verdict begins with it, and its look.
pub(crate) fn state(diagnosis: &Diagnosis) -> (String, Style) {
    let summary = &diagnosis.summary;
    match (summary.crit, summary.warn) {
        (0, 0) if summary.ok == 0 && summary.skipped > 0 => ("unknown".to_owned(), Style::Warn),
        (0, 0) => ("OK".to_owned(), Style::Good),
        (0, warn) => (number::count(warn as u64, "warning"), Style::Warn),
        (crit, _) => (format!("{crit} critical"), Style::Bad),
    }
}

/// `1 critical, 2 warnings, 3 info; 41 rules ok, 9 skipped (2.1 s; docker, cgroup v1, uid 0)`
pub(crate) fn verdict(diagnosis: &Diagnosis) -> String {
    let summary = &diagnosis.summary;
    let (word, _) = state(diagnosis);
    let mut found = vec![word];
    if summary.crit > 0 && summary.warn > 0 {
        found.push(number::count(summary.warn as u64, "warning"));
    }
    if summary.info > 0 {
        found.push(format!("{} info", summary.info));
    }
    let mut rules = vec![format!("{} ok", number::count(summary.ok as u64, "rule"))];
    if summary.skipped > 0 {
        rules.push(format!("{} skipped", summary.skipped));
    }
    let host = &diagnosis.host;
    let mut place = Vec::new();
    place.extend(host.container.as_deref().map(transcript::line));
    if !host.cgroup.is_empty() {
        place.push(if host.cgroup == "none" {
            "no cgroups".to_owned()
        } else {
            format!("cgroup {}", transcript::line(&host.cgroup))
        });
    }
    place.push(format!("uid {}", host.uid));
    let mark = if summary.crit + summary.warn + summary.info == 0 { ':' } else { ';' };
    let (found, rules) = (found.join(", "), rules.join(", "));
    format!("{found}{mark} {rules} ({:.1} s; {})", diagnosis.window_s, place.join(", "))
}

/// The machine, and how long tasks waited for what.
pub(crate) fn machine(diagnosis: &Diagnosis) -> String {
    let host = &diagnosis.host;
    let mut parts = Vec::new();
    if !host.kernel.is_empty() {
        parts.push(format!("Linux {}", transcript::line(&host.kernel)));
    }
    if host.cpus > 0 {
        let usable = if host.cpus_effective < f64::from(host.cpus) {
            format!(" ({} usable)", decimal(host.cpus_effective))
        } else {
            String::new()
        };
        parts.push(format!("{}{usable}", number::count(u64::from(host.cpus), "CPU")));
    }
    if host.memory > 0 {
        parts.push(Bytes(host.memory).to_string());
    }
    let stalled: Vec<String> = diagnosis
        .vitals
        .pressure
        .iter()
        .filter_map(|stalled| Some(format!("{} {}", stalled.resource, value(stalled.some.window?, "%"))))
        .collect();
    let stalled = if stalled.is_empty() {
        String::new()
    } else {
        format!("{}tasks waited for {} of the time", if parts.is_empty() { "" } else { "; " }, stalled.join(", "))
    };
    format!("{}{stalled}", parts.join(", "))
}

/// The word of a severity, and its look.
pub(crate) fn severity(severity: Severity) -> (&'static str, Style) {
    match severity {
        Severity::Crit => ("CRIT", Style::Bad),
        Severity::Warn => ("WARN", Style::Warn),
        Severity::Info => ("INFO", Style::Dim),
    }
}

/// A number with its unit: `24%`, `1.5 GiB`, `8,056/s`, `12 ms`, `3`.
pub(crate) fn value(value: f64, unit: &str) -> String {
    match unit {
        "B" => format!("{}{}", if value < 0.0 { "-" } else { "" }, Bytes(value.abs() as u64)),
        "B/s" => format!("{}{}/s", if value < 0.0 { "-" } else { "" }, Bytes(value.abs() as u64)),
        "%" => format!("{}%", decimal(value)),
        "1/s" | "/s" => format!("{}/s", decimal(value)),
        "cpu-us" => format!("{} us", decimal(value)),
        "request-ms" => format!("{} ms", decimal(value)),
        "" => decimal(value),
        unit => format!("{} {}", decimal(value), transcript::line(unit)),
    }
}

/// At most three digits that are not whole thousands.
fn decimal(value: f64) -> String {
    let size = value.abs();
    if size >= 99.95 || value.fract() == 0.0 {
        // 2^53: beyond it the digits say nothing.
        let whole = number::grouped(size.round().min(9_007_199_254_740_992.0) as u64);
        return if value < 0.0 { format!("-{whole}") } else { whole };
    }
    let text = if size >= 0.095 { format!("{value:.1}") } else { format!("{value:.2}") };
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// Where it was read.
pub(crate) fn place(evidence: &Evidence) -> String {
    transcript::line(format!("{} {}", evidence.path, evidence.field).trim())
}

/// Growth a second, in words: counted time is said as a share of the time. A wait that began before the window is counted
/// whole when it ends: more than all the time it cannot be.
pub(crate) fn rate(evidence: &Evidence, seconds: f64) -> Option<String> {
    let rate = evidence.rate(seconds)?;
    let share = |percent: f64| format!("{} of the time", value(percent.min(100.0), "%"));
    Some(match evidence.unit.as_str() {
        "us" => share(rate / 1e4),
        "ms" => share(rate / 10.0),
        "ns" => share(rate / 1e7),
        "request-ms" => format!("{} at once on average", decimal(rate / 1e3)),
        "B" => value(rate, "B/s"),
        _ => value(rate, "1/s"),
    })
}

/// `/proc/vmstat pswpin 1,000 -> 17,112 (8,056/s)`
pub(crate) fn evidence(evidence: &Evidence, seconds: f64) -> String {
    let before = evidence.before.map(|before| format!("{} -> ", value(before, &evidence.unit))).unwrap_or_default();
    let rate = rate(evidence, seconds).map(|rate| format!(" ({rate})")).unwrap_or_default();
    format!("{} {before}{}{rate}", place(evidence), value(evidence.after, &evidence.unit))
}

/// `warn 5%, crit 20%`, as much of it as there is.
pub(crate) fn limits(warn: Option<f64>, crit: Option<f64>, unit: &str) -> Option<String> {
    let one = |word: &str, limit: Option<f64>| limit.map(|limit| format!("{word} {}", value(limit, unit)));
    let both: Vec<String> = [one("warn", warn), one("crit", crit)].into_iter().flatten().collect();
    (!both.is_empty()).then(|| both.join(", "))
}

/// `24% against warn 5%, crit 20% (who says so)`
pub(crate) fn held(finding: &Finding) -> Option<String> {
    held_with(finding, &finding.threshold.source)
}

/// The same in so many columns, if that can be: with the first of those who say so, or without their reasons.
pub(crate) fn held_in(finding: &Finding, columns: usize) -> Option<String> {
    let source = finding.threshold.source.as_str();
    let first = |mark: char| source.split(mark).next().unwrap_or(source);
    let tries = [source, first(';'), first(':')].map(|source| held_with(finding, source));
    let fits = tries.iter().flatten().find(|text| text.width() <= columns).cloned();
    let [.., last] = tries;
    fits.or(last)
}

fn held_with(finding: &Finding, source: &str) -> Option<String> {
    // What is only information was held against something else: "1 against warn 1" beside it would be a riddle.
    if finding.severity == Severity::Info {
        return None;
    }
    let Threshold { warn, crit, .. } = &finding.threshold;
    let limits = limits(*warn, *crit, &finding.unit)?;
    Some(format!("{} against {limits} ({})", value(finding.value, &finding.unit), transcript::line(source)))
}

/// `python3[77]`
pub(crate) fn who(culprit: &Culprit) -> String {
    let pid = culprit.pid.map(|pid| format!("[{pid}]")).unwrap_or_default();
    let name = transcript::line(&culprit.name);
    let name = if name.trim().is_empty() { "(no name)" } else { &name };
    // That a name alone is a process or a path is seen; the others are not.
    match culprit.kind.as_str() {
        "process" | "mount" | "memory" => format!("{name}{pid}"),
        kind => format!("{} {name}{pid}", transcript::line(kind)),
    }
}

/// `python3[77]: 3.2 GiB in RAM`
pub(crate) fn culprit(culprit: &Culprit) -> String {
    format!("{}: {}", who(culprit), transcript::line(&culprit.what)).trim_end_matches([':', ' ']).to_owned()
}

/// `cpu.sched_delay: a process waited up to 96% of the time for a CPU`: a finding that another explains.
pub(crate) fn symptom(finding: &Finding) -> String {
    format!("{}: {}", finding.rule, transcript::line(&finding.title))
}

/// Everything about a finding in a few plain lines, its title first.
pub(crate) fn whole(finding: &Finding, seconds: f64) -> String {
    let mut lines = vec![transcript::line(&finding.title)];
    lines.extend(finding.culprits.iter().map(|one| format!("by {}", culprit(one))));
    lines.extend(finding.evidence.iter().map(|one| format!("read {}", evidence(one, seconds))));
    lines.extend(held(finding));
    lines.extend(finding.symptoms.iter().map(|one| format!("also {}", symptom(one))));
    for remedy in &finding.remedies {
        let command = remedy.command.as_deref().map(|command| format!(": {}", transcript::line(command)));
        lines.push(format!("do {}{}", transcript::line(&remedy.text), command.unwrap_or_default()));
    }
    lines.join("\n")
}

/// Reasons for which rules were skipped, with the rules: those that most share first.
pub(crate) fn reasons(skipped: &[Skipped]) -> Vec<(String, Vec<&str>)> {
    let mut all: Vec<(String, Vec<&str>)> = Vec::new();
    for one in skipped {
        let reason = transcript::line(&one.reason);
        // A field that nobody filled has no path.
        let reason = reason.trim_start_matches(": ").to_owned();
        match all.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, rules)) => rules.push(&one.rule),
            None => all.push((reason, vec![&one.rule])),
        }
    }
    all.sort_by_key(|(_, rules)| std::cmp::Reverse(rules.len()));
    all
}

/// How many rules of each area found nothing: `memory 12, cpu 14`.
pub(crate) fn well(ok: &[String], rules: &[RuleFacts]) -> String {
    let of = |area: Area| ok.iter().filter(|id| rules.iter().any(|rule| rule.area == area && rule.id == **id)).count();
    let counted = AREAS.map(|area| (area.word(), of(area)));
    let parts: Vec<String> =
        counted.into_iter().filter(|(_, count)| *count > 0).map(|(word, count)| format!("{word} {count}")).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::{decimal, evidence, reasons, value};
    use crate::model::diagnosis::{Evidence, Skipped};

    #[test]
    fn numbers_have_no_more_digits_than_they_deserve() {
        let shown = [0.0, 0.034, 1.26, 24.0, 99.96, 258_959.4, -3.5].map(decimal);
        assert_eq!(shown, ["0", "0.03", "1.3", "24", "100", "258,959", "-3.5"]);
        assert_eq!(value(24.0, "%"), "24%");
        assert_eq!(value(1_610_612_736.0, "B"), "1.5 GiB");
        assert_eq!(value(8056.2, "1/s"), "8,056/s");
        assert_eq!(value(12.0, "ms"), "12 ms");
    }

    #[test]
    fn evidence_says_both_ends_and_the_rate() {
        let of = |field: &str, before, after, unit: &str| {
            let (path, field, unit) = ("/proc/vmstat".to_owned(), field.to_owned(), unit.to_owned());
            evidence(&Evidence { path, field, before, after, unit }, 2.0)
        };
        assert_eq!(of("pswpin", Some(1000.0), 17112.0, ""), "/proc/vmstat pswpin 1,000 -> 17,112 (8,056/s)");
        assert_eq!(of("total", Some(0.0), 500_000.0, "us"), "/proc/vmstat total 0 us -> 500,000 us (25% of the time)");
        assert_eq!(of("read", Some(0.0), 4_194_304.0, "B"), "/proc/vmstat read 0 B -> 4 MiB (2 MiB/s)");
        // Room that is used up was said to shrink by 0 B/s.
        assert_eq!(of("room", Some(4_194_304.0), 0.0, "B"), "/proc/vmstat room 4 MiB -> 0 B (-2 MiB/s)");
        // Regression: `129% of the time`. A wait of before the window, and times of several requests at once.
        let more = of("waited", Some(0.0), 2_580_000_000.0, "ns");
        assert_eq!(more, "/proc/vmstat waited 0 ns -> 2,580,000,000 ns (100% of the time)");
        let queued = of("time", Some(0.0), 64_000.0, "request-ms");
        assert_eq!(queued, "/proc/vmstat time 0 ms -> 64,000 ms (32 at once on average)");
        let throttled = of("throttled time", Some(600.0), 645_000.0, "cpu-us");
        assert_eq!(throttled, "/proc/vmstat throttled time 600 us -> 645,000 us");
        assert_eq!(of("avg60", None, 11.5, "%"), "/proc/vmstat avg60 11.5%");
        assert_eq!(of("share", Some(1.0), 11.5, "%"), "/proc/vmstat share 1% -> 11.5%", "no counter, no rate");
    }

    #[test]
    fn rules_that_share_a_reason_share_its_line() {
        let skipped = |rule: &str, reason: &str| Skipped { rule: rule.to_owned(), reason: reason.to_owned() };
        let all = [skipped("a", "x: not there"), skipped("b", ": not looked at"), skipped("c", ": not looked at")];
        let expected = [("not looked at".to_owned(), vec!["b", "c"]), ("x: not there".to_owned(), vec!["a"])];
        assert_eq!(reasons(&all), expected);
    }
}
