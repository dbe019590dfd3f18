//! The text format of Prometheus, for the textfile collector of node_exporter. Names end in their unit and shares are
//! ratios from 0 to 1, as its naming rules want. Labels hold no names of processes: each would be a new series.

use std::io::{self, Write};

use crate::model::diagnosis::{Finding, Part, Severity, Share};
use crate::report::doctor::Sheet;
use crate::text::escape::prometheus_label;

/// Writes the metrics.
pub(crate) fn write(sheet: &Sheet<'_>, out: &mut dyn Write) -> io::Result<()> {
    let diagnosis = sheet.diagnosis;
    let host = &diagnosis.host;
    let container = host.container.as_deref().unwrap_or_default();
    let labels = [("kernel", host.kernel.as_str()), ("cgroup", host.cgroup.as_str()), ("container", container)];
    gauge("apm_doctor_host_info", "The machine; always 1", [(labels.to_vec(), 1.0)], out)?;
    let window = [(Vec::<(&str, &str)>::new(), diagnosis.window_s)];
    gauge("apm_doctor_window_seconds", "How long the doctor looked", window, out)?;
    let counts = [Severity::Info, Severity::Warn, Severity::Crit]
        .map(|severity| (vec![("severity", severity.word())], diagnosis.count(severity) as f64));
    gauge("apm_doctor_findings", "Findings of each severity", counts, out)?;
    // A series is named by its labels: of several findings of a rule the first stands for all, and it is the worst.
    let mut first: Vec<&Finding> = Vec::new();
    // One that another explains has its own series all the same: alarms are set on rules.
    let all = || diagnosis.findings.iter().flat_map(Finding::with_symptoms);
    for finding in all() {
        if !first.iter().any(|known| (known.rule.as_str(), known.severity) == (finding.rule.as_str(), finding.severity))
        {
            first.push(finding);
        }
    }
    let findings = first.iter().map(|finding| {
        let severity = finding.severity.word();
        (vec![("rule", finding.rule.as_str()), ("severity", severity), ("unit", finding.unit.as_str())], finding.value)
    });
    gauge(
        "apm_doctor_finding",
        "What a rule measured where it found something, in the unit of the rule",
        findings,
        out,
    )?;
    let ok = diagnosis.ok.iter().map(|rule| (rule.as_str(), 1.0));
    let mut bad: Vec<&str> = all().map(|finding| finding.rule.as_str()).collect();
    bad.sort_unstable();
    bad.dedup();
    let rules = ok.chain(bad.into_iter().map(|rule| (rule, 0.0))).map(|(rule, value)| (vec![("rule", rule)], value));
    gauge(
        "apm_doctor_rule_ok",
        "1 where a rule found nothing, 0 where it found something; rules that could not look are absent",
        rules,
        out,
    )?;
    let skipped = diagnosis.skipped.iter().map(|skipped| (vec![("rule", skipped.rule.as_str())], 1.0));
    gauge("apm_doctor_rule_skipped", "Rules that could not look", skipped, out)?;
    let pressure = diagnosis.vitals.pressure.iter().flat_map(|stalled| {
        [("some", stalled.some), ("full", stalled.full)].into_iter().flat_map(move |(kind, share)| {
            let labelled = move |(over, percent): (&'static str, f64)| {
                (vec![("resource", stalled.resource.as_str()), ("kind", kind), ("over", over)], percent / 100.0)
            };
            shares(share).into_iter().map(labelled)
        })
    });
    gauge(
        "apm_doctor_pressure_ratio",
        "Share of the time in which some or all tasks waited for a resource",
        pressure,
        out,
    )?;
    let parts = |parts: &'_ [Part], label: &'static str, scale: f64| {
        parts.iter().map(|part| (vec![(label, part.name.clone())], part.value / scale)).collect::<Vec<_>>()
    };
    gauge("apm_doctor_cpu_ratio", "What the CPUs did in the window", parts(&diagnosis.vitals.cpu, "mode", 100.0), out)?;
    gauge("apm_doctor_memory_bytes", "What the memory holds", parts(&diagnosis.vitals.memory, "kind", 1.0), out)
}

fn shares(share: Share) -> Vec<(&'static str, f64)> {
    let window = share.window.map(|window| ("window", window));
    window.into_iter().chain([("10s", share.avg10), ("60s", share.avg60), ("300s", share.avg300)]).collect()
}

/// Writes one metric, if it has a value.
fn gauge<T: AsRef<str>>(
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (Vec<(&'static str, T)>, f64)>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut has_head = false;
    for (labels, value) in values {
        if !std::mem::replace(&mut has_head, true) {
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge")?;
        }
        let label = |(label, value): &(&str, T)| format!("{label}=\"{}\"", prometheus_label(value.as_ref()));
        let labels: Vec<String> = labels.iter().map(label).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        writeln!(out, "{name}{labels} {value}")?;
    }
    Ok(())
}
