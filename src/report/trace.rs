//! Trace events for Perfetto and chrome://tracing: one row for each slot that was used, counters for memory, CPU, running and waiting
//! tasks and the pool. Attempts are written as they are read; the counters of a long run have fewer points than samples.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use crate::report::row::Row;
use crate::report::{RunView, text};
use crate::text::escape::Json;

/// Writes the trace.
pub(crate) fn write(view: &RunView<'_>, out: &mut dyn Write) -> io::Result<()> {
    let report = view.report;
    let mut out = Json::new(out);
    let out: &mut dyn Write = &mut out;
    let title = report.started.as_ref().map_or("apm", |started| started.title.as_str());
    let name = json!({"ph": "M", "pid": 1, "name": "process_name", "args": {"name": format!("apm run {title}")}});
    write!(out, "{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[{name}")?;
    for slot in &report.slots {
        let name = format!("slot {slot}");
        next(out, &json!({"ph": "M", "pid": 1, "tid": slot, "name": "thread_name", "args": {"name": name}}))?;
    }
    // What takes no slot is in the row behind them.
    let behind = report.slots.last().map_or(0, |slot| u64::from(*slot) + 1);
    (view.each_row)(&mut |row| attempts(row, behind, report.elapsed, out))?;
    let mut counter = |t: Duration, name: &str, value: f64| {
        next(out, &json!({"ph": "C", "pid": 1, "ts": micros(t), "name": name, "args": {"value": value}}))
    };
    for sample in report.samples.points() {
        counter(sample.t, "memory (MiB)", sample.memory.0 as f64 / 1_048_576.0)?;
        counter(sample.t, "cpu (% of one)", sample.cpu.0)?;
        counter(sample.t, "running", f64::from(sample.running))?;
        counter(sample.t, "waiting", f64::from(sample.queued))?;
    }
    for (t, size, _) in report.pool.iter() {
        counter(*t, "slots", f64::from(*size))?;
    }
    writeln!(out, "]}}")
}

fn micros(t: Duration) -> u64 {
    t.as_micros() as u64
}

/// One more element of the list.
fn next(out: &mut dyn Write, event: &Value) -> io::Result<()> {
    write!(out, ",{event}")
}

fn attempts(row: &Row, behind: u64, elapsed: Duration, out: &mut dyn Write) -> io::Result<()> {
    for attempt in &row.attempts {
        let end = attempt.end.as_ref().map_or(elapsed, |(t, _)| *t);
        let outcome = attempt.end.as_ref().map(|(_, finished)| text::explain(&finished.outcome));
        let usage = attempt.end.as_ref().map(|(_, finished)| finished.usage);
        let event = json!({
            "ph": "X", "pid": 1, "tid": attempt.slot.map_or(behind, u64::from), "name": row.task.id.as_str(), "cat": "attempt",
            "ts": micros(attempt.start), "dur": micros(end.saturating_sub(attempt.start)),
            "args": {
                "attempt": attempt.number,
                "outcome": outcome.unwrap_or_else(|| "interrupted".to_owned()),
                "command": text::command(&row.task),
                "memory_peak_bytes": usage.map(|u| u.memory_peak.0),
                "user_us": usage.map(|u| micros(u.user)),
                "system_us": usage.map(|u| micros(u.system)),
            },
        });
        next(out, &event)?;
    }
    Ok(())
}
