//! One self-contained page: verdict, failures with their output first, findings, timeline by slot, resource use over
//! time and by task. No script, nothing loaded; light and dark; prints well. Bounded however large the run is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use crate::model::event::{NoteLevel, Stored};
use crate::model::finding::{Finding, Severity, TestStatus};
use crate::model::id::TaskId;
use crate::model::outcome::Outcome;
use crate::report::row::Row;
use crate::report::run::{PlanChange, RunReport};
use crate::report::{ReadStored, RunView, text};
use crate::text::escape::xml;
use crate::text::layout::Layout;
use crate::text::{number, transcript};

/// Failures shown with their output.
const FAILURES_MAX: usize = 100;
/// Lines of each output.
const LINES_MAX: usize = 200;
const OUTPUT_MAX: u64 = 256 << 10;
/// Findings and failed tests of one task.
const ITEMS_MAX: usize = 200;
/// Tasks whose findings are listed.
const FINDERS_MAX: usize = 500;
/// Rows of the table of tasks; failures come first, so what is cut passed.
const ROWS_MAX: usize = 2_000;
/// Bars of the timeline; beyond them the longest are shown.
const BARS_MAX: usize = 3_000;
/// Width of the pictures, in their own unit.
const WIDTH: f64 = 1_000.0;
/// Points of a curve.
const POINTS_MAX: usize = 500;

/// The look of every page: light and dark, on a screen and on paper.
pub(crate) const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2430;--dim:#5c6773;--line:#d7dde4;--back:#fff;--panel:#f5f7f9;\
--good:#1a7f4b;--bad:#c62f3b;--warn:#9a6700;--skip:#7b8794;--curve:#2f6fd0}\
@media(prefers-color-scheme:dark){:root{--ink:#e4e9ef;--dim:#98a4b0;--line:#38424d;--back:#14191f;--panel:#1d242c;\
--good:#4cc38a;--bad:#ff7b83;--warn:#e3b341;--skip:#8b96a2;--curve:#79aef5}}\
*{box-sizing:border-box}body{margin:0 auto;max-width:72rem;padding:1.5rem;background:var(--back);color:var(--ink);\
font:15px/1.5 system-ui,sans-serif}h1{font-size:1.4rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .6rem}\
pre,code,.mono{font-family:ui-monospace,monospace;font-size:13px}pre{background:var(--panel);padding:.7rem;overflow:auto;\
max-height:32rem;border-radius:4px;margin:.4rem 0;white-space:pre-wrap;overflow-wrap:anywhere}\
table{border-collapse:collapse;width:100%}th{text-align:left;color:var(--dim);font-weight:500}\
td,th{padding:.25rem .6rem .25rem 0;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}\
td.n,th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}\
.passed,.flaky{color:var(--good)}.failed,.timed-out,.over-limit{color:var(--bad)}\
.broken,.cancelled,.interrupted{color:var(--warn)}.skipped,.not-run{color:var(--skip)}.dim{color:var(--dim)}\
.verdict{font-size:1.15rem;margin:.3rem 0 0}.card{border:1px solid var(--line);border-left:4px solid var(--bad);border-radius:4px;\
padding:.6rem .9rem;margin:.7rem 0}.card.warn{border-left-color:var(--warn)}ul{margin:.3rem 0;padding-left:1.2rem}\
:where(svg:not(.f)){width:100%;height:auto;display:block;background:var(--panel);border-radius:4px}svg text{fill:var(--dim);font:11px system-ui,sans-serif}\
svg .passed,svg .flaky{fill:var(--good)}svg .failed,svg .timed-out,svg .over-limit{fill:var(--bad)}\
svg .broken,svg .cancelled,svg .interrupted{fill:var(--warn)}svg .skipped,svg .not-run{fill:var(--skip)}\
svg .grid{stroke:var(--line)}svg .curve{fill:none;stroke:var(--curve);stroke-width:1.5}\
@media print{body{max-width:none}pre{max-height:none}}";

/// Writes the page.
pub(crate) fn write(view: &RunView<'_>, out: &mut dyn Write) -> io::Result<()> {
    let report = view.report;
    let title = report.started.as_ref().map_or("apm", |started| started.title.as_str());
    let run = report.started.as_ref().map_or("", |started| started.run.as_str());
    writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{} - apm run {}</title><style>{STYLE}</style></head>\n<body>",
        xml(&text::verdict(report, &Layout::PLAIN)),
        xml(title)
    )?;
    let class = match report.exit_code {
        Some(0) => "passed",
        Some(1) => "failed",
        _ => "broken",
    };
    writeln!(out, "<h1>apm run {}</h1>", xml(&transcript::line(title)))?;
    writeln!(out, "<p class=\"verdict {class}\">{}</p>", xml(&text::verdict(report, &Layout::PLAIN)))?;
    let at = report.at.map(|at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()).unwrap_or_default();
    writeln!(out, "<p class=\"dim\">run <span class=\"mono\">{}</span>, {at}{}</p>", xml(run), xml(&machine(report)))?;
    failures(report, view.read, out)?;
    findings(view, out)?;
    let (mut bars, mut table) = (Longest::default(), Table::default());
    (view.each_row)(&mut |row| {
        bars.take(row, report.elapsed);
        table.take(row);
        Ok(())
    })?;
    timeline(report, bars, out)?;
    curves(report, out)?;
    tasks(table, out)?;
    notes(report, out)?;
    engine(report, out)?;
    writeln!(out, "</body></html>")
}

fn class(word: &str) -> String {
    word.replace(' ', "-")
}

fn machine(report: &RunReport) -> String {
    let Some(started) = &report.started else { return String::new() };
    let host = &started.host;
    format!(", {} slots, {} CPUs, {} memory, Linux {}", started.pool.max, host.cpus, host.memory, host.kernel)
}

fn failures(report: &RunReport, read: ReadStored<'_>, out: &mut dyn Write) -> io::Result<()> {
    let totals = report.totals();
    let bad = totals.failed + totals.broken;
    if bad == 0 {
        return Ok(());
    }
    writeln!(out, "<h2>Failures</h2>")?;
    for row in report.rows().filter(|row| row.is_bad()).take(FAILURES_MAX) {
        let Some(outcome) = &row.outcome else { continue };
        let card = if outcome.is_failure() { "card" } else { "card warn" };
        let word = outcome.word();
        writeln!(
            out,
            "<div class=\"{card}\"><strong class=\"{}\">{word}</strong> <strong>{}</strong>{}: {}<div class=\"dim mono\">{}</div>",
            class(word),
            xml(row.task.id.as_str()),
            xml(&text::title(row)),
            xml(&text::explain(outcome)),
            xml(&transcript::line(&row.task.run.display()))
        )?;
        if let Some(finished) = row.last_finished() {
            let found = text::results(finished, read);
            let failed = |status| matches!(status, TestStatus::Failed | TestStatus::Error);
            let tests: Vec<_> = found.tests.iter().filter(|test| failed(test.status)).collect();
            for test in tests.iter().take(ITEMS_MAX) {
                writeln!(out, "<div><strong>{} {}</strong></div>", xml(&test.suite), xml(&test.name))?;
                let (message, _) = transcript::tail(&test.message, LINES_MAX);
                if !message.is_empty() {
                    writeln!(out, "<pre>{}</pre>", xml(&message))?;
                }
            }
            if tests.is_empty() && found.findings.is_empty() {
                output("standard output", finished.stdout.stored.as_ref(), read, out)?;
                output("standard error", finished.stderr.stored.as_ref(), read, out)?;
            }
            if let Some((head, lines)) = text::refused_actions(finished) {
                writeln!(out, "<div>{}</div><pre>{}</pre>", xml(&head), xml(&lines.join("\n")))?;
            }
        }
        writeln!(out, "</div>")?;
    }
    if bad > FAILURES_MAX {
        let more = bad - FAILURES_MAX;
        writeln!(out, "<p class=\"dim\">... and {more} more failures; the table below has up to {ROWS_MAX}</p>")?;
    }
    Ok(())
}

fn output(name: &str, stored: Option<&Stored>, read: ReadStored<'_>, out: &mut dyn Write) -> io::Result<()> {
    let Some(stored) = stored else { return Ok(()) };
    let skipped = stored.len.saturating_sub(OUTPUT_MAX);
    let end = Stored { offset: stored.offset + skipped, len: stored.len - skipped, ..stored.clone() };
    let (shown, dropped) = transcript::tail(&read(&end, OUTPUT_MAX as usize), LINES_MAX);
    let cut = if dropped > 0 || skipped > 0 { ", its end" } else { "" };
    writeln!(out, "<div class=\"dim\">{name}{cut}</div><pre>{}</pre>", xml(&shown))
}

fn findings(view: &RunView<'_>, out: &mut dyn Write) -> io::Result<()> {
    if view.report.counts().findings() == 0 {
        return Ok(());
    }
    writeln!(out, "<h2>Findings</h2>")?;
    let mut finders = 0;
    (view.each_row)(&mut |row| {
        let Some(finished) = row.last_finished().filter(|finished| finished.counts.findings() > 0) else {
            return Ok(());
        };
        finders += 1;
        if finders > FINDERS_MAX {
            return Ok(());
        }
        findings_of(row, text::results(finished, view.read).findings, out)
    })?;
    if finders > FINDERS_MAX {
        writeln!(out, "<p class=\"dim\">... and findings of {} more tasks</p>", finders - FINDERS_MAX)?;
    }
    Ok(())
}

fn findings_of(row: &Row, mut found: Vec<Finding>, out: &mut dyn Write) -> io::Result<()> {
    if found.is_empty() {
        // Counted once; the file that held them is gone.
        return Ok(());
    }
    found.sort_by(|a, b| (b.severity, &a.file, a.line).cmp(&(a.severity, &b.file, b.line)));
    writeln!(out, "<h3>{} ({})</h3><table>", xml(row.task.id.as_str()), found.len())?;
    for one in found.iter().take(ITEMS_MAX) {
        let (word, class) = match one.severity {
            Severity::Error => ("error", "failed"),
            Severity::Warning => ("warning", "broken"),
            Severity::Note => ("note", "dim"),
        };
        let mut place = xml(&one.file);
        for number in [one.line, one.column].into_iter().take_while(|number| *number > 0) {
            let _ = write!(place, ":{number}");
        }
        let rule = if one.url.unescaped().starts_with("https://") {
            format!("<a href=\"{}\">{}</a>", xml(&one.url), xml(&one.rule))
        } else {
            xml(&one.rule)
        };
        writeln!(
            out,
            "<tr><td class=\"{class}\">{word}</td><td class=\"mono\">{}</td><td>{}</td><td class=\"mono\">{rule}</td></tr>",
            place,
            xml(&transcript::line(&one.message))
        )?;
    }
    writeln!(out, "</table>")?;
    if found.len() > ITEMS_MAX {
        writeln!(out, "<p class=\"dim\">... and {} more</p>", found.len() - ITEMS_MAX)?;
    }
    Ok(())
}

/// A round distance of marks so that there are at most ten.
fn step(total: f64) -> f64 {
    let rough = total / 10.0;
    let power = 10f64.powf(rough.max(1e-6).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough).unwrap_or(rough)
}

/// Lines and times across a picture.
fn grid(total: f64, height: f64, out: &mut String) {
    let distance = step(total);
    let mut at = 0.0;
    while at <= total + 1e-9 {
        let x = 40.0 + at / total * (WIDTH - 50.0);
        let label = if at == 0.0 { "0".to_owned() } else { number::duration(Duration::from_secs_f64(at)) };
        let _ = write!(out, "<line class=\"grid\" x1=\"{x:.1}\" y1=\"0\" x2=\"{x:.1}\" y2=\"{:.0}\"/>", height - 16.0);
        let _ = write!(out, "<text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{label}</text>", height - 4.0);
        at += distance;
    }
}

/// An attempt in the timeline.
struct Bar {
    slot: u32,
    start: Duration,
    end: Duration,
    word: &'static str,
    task: TaskId,
    attempt: u32,
}

/// The longest attempts of a run.
#[derive(Default)]
struct Longest {
    /// By their length; of equals the first wins.
    bars: BTreeMap<(Duration, Reverse<usize>), Bar>,
    all: usize,
}

impl Longest {
    fn take(&mut self, row: &Row, elapsed: Duration) {
        for attempt in &row.attempts {
            // What takes no slot has no row of its own.
            let Some(slot) = attempt.slot else { continue };
            let (end, word) = match &attempt.end {
                Some((end, finished)) => (*end, finished.outcome.word()),
                None => (elapsed, "interrupted"),
            };
            self.all += 1;
            let key = (end.saturating_sub(attempt.start), Reverse(self.all));
            let is_full = self.bars.len() >= BARS_MAX;
            if is_full && self.bars.first_key_value().is_some_and(|(shortest, _)| key < *shortest) {
                continue;
            }
            let (start, task) = (attempt.start, row.task.id.clone());
            self.bars.insert(key, Bar { slot, start, end, word, task, attempt: attempt.number });
            if is_full {
                self.bars.pop_first();
            }
        }
    }
}

fn timeline(report: &RunReport, Longest { bars, all }: Longest, out: &mut dyn Write) -> io::Result<()> {
    let total = report.elapsed.as_secs_f64();
    if bars.is_empty() || total <= 0.0 {
        return Ok(());
    }
    // A row for each slot that has a bar: its number comes from a file, and says nothing of how many there are.
    let slots: BTreeSet<u32> = bars.values().map(|bar| bar.slot).collect();
    let rows: BTreeMap<u32, f64> = slots.into_iter().zip((0..).map(f64::from)).collect();
    let row_height = if rows.len() > 40 { 8.0 } else { 20.0 };
    let height = rows.len() as f64 * row_height + 20.0;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"timeline by slot\">");
    grid(total, height, &mut svg);
    if row_height > 10.0 {
        for (slot, row) in &rows {
            let _ = write!(svg, "<text x=\"4\" y=\"{:.0}\">{slot}</text>", row * row_height + 14.0);
        }
    }
    for Bar { slot, start, end, word, task, attempt } in bars.values().rev() {
        let (start, end, name) = (start.as_secs_f64(), end.as_secs_f64(), task.as_str());
        let x = 40.0 + start / total * (WIDTH - 50.0);
        let width = ((end - start) / total * (WIDTH - 50.0)).max(0.6);
        let y = rows.get(slot).copied().unwrap_or_default() * row_height + 2.0;
        let again = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
        let took = number::duration(Duration::from_secs_f64((end - start).max(0.0)));
        let _ = write!(
            svg,
            "<rect class=\"{}\" x=\"{x:.2}\" y=\"{y:.0}\" width=\"{width:.2}\" height=\"{:.0}\" rx=\"1\"><title>{}{again}: {word}, {took}</title></rect>",
            class(word),
            row_height - 4.0,
            xml(name)
        );
        // About six units a letter.
        let letters = ((width - 6.0) / 6.0) as usize;
        if row_height > 10.0 && letters >= 4 {
            let label = Layout::PLAIN.cut(name, letters);
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.0}\" style=\"fill:#fff\">{}</text>",
                x + 3.0,
                y + 12.0,
                xml(&label)
            );
        }
    }
    svg.push_str("</svg>");
    let cut = if all > BARS_MAX { format!(", the {BARS_MAX} longest of {all} attempts") } else { String::new() };
    writeln!(out, "<h2>Timeline by slot{cut}</h2>\n{svg}")
}

/// A name, how its values are written, and they.
type Series = (&'static str, fn(f64) -> String, Vec<f64>);

fn curves(report: &RunReport, out: &mut dyn Write) -> io::Result<()> {
    let total = report.elapsed.as_secs_f64();
    let samples = report.samples.points();
    if samples.len() < 2 || total <= 0.0 {
        return Ok(());
    }
    let series: [Series; 3] = [
        (
            "Memory of all tasks",
            |value| crate::model::unit::Bytes(value as u64).to_string(),
            samples.iter().map(|sample| sample.memory.0 as f64).collect(),
        ),
        (
            "CPU of all tasks, in percent of one",
            |value| format!("{value:.0}%"),
            samples.iter().map(|s| s.cpu.0).collect(),
        ),
        ("Running tasks", |value| format!("{value:.0}"), samples.iter().map(|s| f64::from(s.running)).collect()),
    ];
    let times: Vec<f64> = samples.iter().map(|sample| sample.t.as_secs_f64()).collect();
    for (name, show, values) in series {
        let max = values.iter().copied().fold(0.0, f64::max);
        if max <= 0.0 {
            continue;
        }
        let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} 120\" role=\"img\" aria-label=\"{name}\">");
        grid(total, 120.0, &mut svg);
        let mut points = String::new();
        let bucket = values.len().div_ceil(POINTS_MAX).max(1);
        // The highest value of each bucket: a peak must not disappear.
        for (times, values) in times.chunks(bucket).zip(values.chunks(bucket)) {
            let value = values.iter().copied().fold(0.0, f64::max);
            let x = 40.0 + times[0] / total * (WIDTH - 50.0);
            let _ = write!(points, "{x:.1},{:.1} ", 104.0 - value / max * 92.0);
        }
        let _ = write!(
            svg,
            "<polyline class=\"curve\" points=\"{}\"/><text x=\"2\" y=\"12\">{}</text></svg>",
            points.trim_end(),
            show(max)
        );
        writeln!(out, "<h2>{name}</h2>\n{svg}")?;
    }
    Ok(())
}

/// The rows of the table of tasks, in three parts: failures, what did not run, what passed.
#[derive(Default)]
struct Table {
    parts: [Vec<String>; 3],
    all: usize,
}

impl Table {
    fn take(&mut self, row: &Row) {
        self.all += 1;
        let part = match row {
            row if row.is_bad() => 0,
            row if !row.is_good() => 1,
            _ => 2,
        };
        if self.parts[part].len() < ROWS_MAX {
            self.parts[part].push(table_row(row));
        }
    }
}

fn tasks(Table { parts, all }: Table, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "<h2>Tasks</h2><table><tr><th>end</th><th>task</th><th class=\"n\">time</th><th class=\"n\">CPU</th><th class=\"n\">memory</th>\
         <th class=\"n\">attempts</th><th>why</th></tr>"
    )?;
    for row in parts.iter().flatten().take(ROWS_MAX) {
        writeln!(out, "{row}")?;
    }
    writeln!(out, "</table>")?;
    if all > ROWS_MAX {
        writeln!(out, "<p class=\"dim\">... and {} more tasks</p>", all - ROWS_MAX)?;
    }
    Ok(())
}

fn table_row(row: &Row) -> String {
    let (mut cpu, mut memory) = (Duration::ZERO, 0);
    for (_, finished) in row.attempts.iter().filter_map(|attempt| attempt.end.as_ref()) {
        cpu += finished.usage.user + finished.usage.system;
        memory = memory.max(finished.usage.memory_peak.0);
    }
    let why = row.outcome.as_ref().filter(|o| !matches!(o, Outcome::Passed)).map(text::explain).unwrap_or_default();
    let late = row.late.filter(|(_, missed)| *missed).map(|(late, _)| format!(" late by {}", number::duration(late)));
    let ran = !row.attempts.is_empty();
    let show = |text: String| if ran { text } else { String::new() };
    format!(
        "<tr><td class=\"{}\">{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}{}</td></tr>",
        class(row.word()),
        row.word(),
        xml(row.task.id.as_str()),
        show(number::duration(row.wall())),
        show(number::duration(cpu)),
        show(crate::model::unit::Bytes(memory).to_string()),
        show(row.attempts.len().to_string()),
        xml(&why),
        late.unwrap_or_default()
    )
}

fn notes(report: &RunReport, out: &mut dyn Write) -> io::Result<()> {
    let mut lines: Vec<(Duration, &str, String)> = Vec::new();
    for (t, level, text) in report.notes.iter() {
        let class = match level {
            NoteLevel::Info => "dim",
            NoteLevel::Warning => "broken",
            NoteLevel::Error => "failed",
        };
        lines.push((*t, class, transcript::line(text)));
    }
    for (t, size, reason) in report.pool.iter().filter(|(_, _, reason)| !reason.is_empty()) {
        lines.push((*t, "dim", format!("{size} slots: {reason}")));
    }
    for (t, reason) in report.holds.iter() {
        let text =
            if reason.is_empty() { "tasks start again".to_owned() } else { format!("no more tasks for now: {reason}") };
        lines.push((*t, "dim", text));
    }
    for (t, count) in report.resumed.iter() {
        lines.push((*t, "dim", format!("resumed; {count} passes did not count any more")));
    }
    for (t, change) in report.edits.iter() {
        let (class, text) = match change {
            PlanChange::Made { what, by } => ("dim", format!("{what} by {by}")),
            PlanChange::Refused { what, by: Some(by), reason } => {
                ("broken", format!("{what} by {by} refused: {reason}"))
            }
            PlanChange::Refused { what, by: None, reason } => ("broken", format!("{what} refused: {reason}")),
        };
        lines.push((*t, class, transcript::line(&text)));
    }
    for (task, run, code) in report.children.iter() {
        lines.push((report.elapsed, "dim", format!("`{task}` ran apm itself: run {run}, exit code {code}")));
    }
    if lines.is_empty() {
        return Ok(());
    }
    lines.sort_by_key(|(t, ..)| *t);
    writeln!(out, "<h2>What happened besides</h2><table>")?;
    for (t, class, text) in &lines {
        writeln!(
            out,
            "<tr><td class=\"n\">{}</td><td class=\"{class}\">{}</td></tr>",
            number::duration(*t),
            xml(text)
        )?;
    }
    writeln!(out, "</table>")?;
    let left_out = report.notes.left_out()
        + report.pool.left_out()
        + report.holds.left_out()
        + report.resumed.left_out()
        + report.edits.left_out()
        + report.children.left_out();
    if left_out > 0 {
        writeln!(out, "<p class=\"dim\">... and {left_out} more</p>")?;
    }
    Ok(())
}

fn engine(report: &RunReport, out: &mut dyn Write) -> io::Result<()> {
    let Some(started) = &report.started else { return Ok(()) };
    let (engine, by) = (&report.engine, &started.enforcement);
    writeln!(
        out,
        "<h2>Engine</h2><p class=\"dim\">at most {} running and {} waiting; {} journal writes, {} forced to the disk; apm itself used {} CPU and {} \
         memory; limits kept by {} (memory), {} (CPU), {} (processes)</p>",
        engine.running_max,
        engine.queue_max,
        engine.journal_writes,
        engine.journal_syncs,
        number::duration(engine.own_cpu),
        engine.own_memory_peak,
        by.memory.as_str(),
        by.cpu.as_str(),
        by.processes.as_str()
    )?;
    for note in &by.notes {
        writeln!(out, "<p class=\"dim\">{}</p>", xml(note))?;
    }
    for (way, attempts) in &report.confined.ways {
        let attempts = number::count(*attempts as u64, "attempt");
        writeln!(out, "<p class=\"dim\">sandbox: {attempts}, {}</p>", xml(way))?;
    }
    for missing in &report.confined.missing {
        writeln!(out, "<p>sandbox: not enforced: {}</p>", xml(&transcript::line(missing)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BARS_MAX, Longest, ROWS_MAX, Table, write};
    use crate::model::event::Exit;
    use crate::model::finding::Results;
    use crate::model::outcome::Outcome;
    use crate::report::sample::{Checked, passed_test};

    /// The longest bars stay, and of the table what is shown at most.
    #[test]
    fn a_page_of_a_large_run_is_bounded() {
        const TASKS: usize = 20_000;
        let check = Checked { outcome: Outcome::Passed, results: Results::default(), stderr: "" };
        let row = check.row("task");
        let (mut bars, mut table) = (Longest::default(), Table::default());
        for n in 0..TASKS {
            let mut row = row.clone();
            // In no order.
            let length = Duration::from_micros((n * 7919 % TASKS) as u64);
            row.attempts[0].end.as_mut().expect("it has ended").0 = length;
            bars.take(&row, Duration::ZERO);
            table.take(&row);
        }
        assert_eq!((bars.all, bars.bars.len()), (TASKS, BARS_MAX));
        let shortest = bars.bars.first_key_value().map(|((length, _), _)| *length);
        assert_eq!(shortest, Some(Duration::from_micros((TASKS - BARS_MAX) as u64)));
        assert_eq!((table.all, table.parts[2].len()), (TASKS, ROWS_MAX));
    }

    /// `pytest --cov-fail-under`: all tests passed and the code says no.
    #[test]
    fn a_failure_that_no_test_stands_for_shows_its_output() {
        let results = Results { tests: vec![passed_test()], ..Results::default() };
        let gate = Checked { outcome: Exit::Code(1).outcome(), results, stderr: "90 percent not reached\n" };
        let text = gate.write(write);
        assert!(text.contains("<pre>90 percent not reached"), "{text}");
    }
}
