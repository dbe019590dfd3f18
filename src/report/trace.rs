//! Trace events for Perfetto and chrome://tracing: one row for each slot, counters for memory, CPU, running and waiting
//! tasks and the pool.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use crate::report::run::RunReport;
use crate::report::text;

/// Writes the trace.
pub(crate) fn write(report: &RunReport, out: &mut dyn Write) -> io::Result<()> {
    let micros = |t: Duration| t.as_micros() as u64;
    let mut events: Vec<Value> = Vec::new();
    let title = report.started.as_ref().map_or("apm", |started| started.title.as_str());
    events.push(json!({"ph": "M", "pid": 1, "name": "process_name", "args": {"name": format!("apm run {title}")}}));
    let slots = report.rows.iter().flat_map(|row| &row.attempts).map(|attempt| attempt.slot + 1).max().unwrap_or(0);
    for slot in 0..slots {
        let name = format!("slot {slot}");
        events.push(json!({"ph": "M", "pid": 1, "tid": slot, "name": "thread_name", "args": {"name": name}}));
    }
    for row in &report.rows {
        for attempt in &row.attempts {
            let end = attempt.end.as_ref().map_or(report.elapsed, |(t, _)| *t);
            let outcome = attempt.end.as_ref().map(|(_, finished)| text::explain(&finished.outcome));
            let usage = attempt.end.as_ref().map(|(_, finished)| finished.usage);
            events.push(json!({
                "ph": "X", "pid": 1, "tid": attempt.slot, "name": row.task.id.as_str(), "cat": "attempt",
                "ts": micros(attempt.start), "dur": micros(end.saturating_sub(attempt.start)),
                "args": {
                    "attempt": attempt.number,
                    "outcome": outcome.unwrap_or_else(|| "interrupted".to_owned()),
                    "command": text::command(&row.task),
                    "memory_peak_bytes": usage.map(|u| u.memory_peak.0),
                    "user_us": usage.map(|u| micros(u.user)),
                    "system_us": usage.map(|u| micros(u.system)),
                },
            }));
        }
    }
    let mut counter = |t: Duration, name: &str, value: f64| {
        events.push(json!({"ph": "C", "pid": 1, "ts": micros(t), "name": name, "args": {"value": value}}));
    };
    for sample in &report.samples {
        counter(sample.t, "memory (MiB)", sample.memory.0 as f64 / 1_048_576.0);
        counter(sample.t, "cpu (% of one)", sample.cpu.0);
        counter(sample.t, "running", f64::from(sample.running));
        counter(sample.t, "waiting", f64::from(sample.queued));
    }
    for (t, size, _) in &report.pool {
        counter(*t, "slots", f64::from(*size));
    }
    serde_json::to_writer(&mut *out, &json!({"displayTimeUnit": "ms", "traceEvents": events}))?;
    out.write_all(b"\n")
}
