//! The summary for people: failures first with the end of their output, then what checks that passed have found, what
//! was skipped and why, then totals.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use crate::model::event::{AttemptFinished, Mechanism, NoteLevel, RunStarted, Stored};
use crate::model::finding::{Finding, Results, Severity, TestStatus};
use crate::model::id::TaskId;
use crate::model::outcome::{Cause, Outcome, ResourceLimit, Stop, TimeLimit};
use crate::model::task::{Skip, Task};
use crate::report::ReadStored;
use crate::report::row::Row;
use crate::report::run::{PlanChange, RunReport, SKIP_NAMES_MAX, SLOWEST_MAX, SkipGroup};
use crate::text::layout::{Layout, Style, pad};
use crate::text::{number, reason, transcript};

/// Lines of output shown of each failure.
const TAIL_LINES: usize = 20;
/// Failed tasks shown in full.
const FAILURES_MAX: usize = 25;
/// Findings shown of each check.
const FINDINGS_MAX: usize = 30;
/// Checks that passed and yet found something, and findings shown of each: reminders, not results.
const REMINDERS_MAX: usize = 10;
const REMINDER_FINDINGS_MAX: usize = 3;
/// Failed tests shown of each check.
const TESTS_MAX: usize = 15;
/// Bytes read for a tail.
const TAIL_BYTES: u64 = 64 << 10;
/// Rows in the table of tasks; a run of thousands is summed up.
const TABLE_MAX: usize = 60;
/// Slowest tasks named where there is no table.
const SLOWEST_SHOWN: usize = 3;

/// Writes the summary.
pub(crate) fn write(report: &RunReport, read: ReadStored<'_>, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    transcript::print(out, |out| summary(report, read, layout, out))
}

fn summary(report: &RunReport, read: ReadStored<'_>, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    for row in report.rows().filter(|row| row.is_bad()).take(FAILURES_MAX) {
        failure(row, read, layout, out)?;
    }
    let totals = report.totals();
    let bad = totals.failed + totals.broken;
    if bad > FAILURES_MAX {
        writeln!(out, "... and {} more failures\n", bad - FAILURES_MAX)?;
    }
    reminders(report, read, layout, out)?;
    if report.has_checks {
        table(report, layout, out)?;
    }
    skipped(report, layout, out)?;
    notes(report, layout, out)?;
    refused(report, layout, out)?;
    for (task, late) in &report.late.tasks {
        writeln!(out, "late: {task} by {}", number::duration(*late))?;
    }
    more(report.late.others, 0, "late task", out)?;
    slowest(report, layout, out)?;
    limits_line(report, layout, out)?;
    confined(report, layout, out)?;
    writeln!(out, "{}", verdict(report, layout))?;
    let recorded = report.started.as_ref().filter(|started| is_recorded(started));
    if let (Some(started), true) = (recorded, bad > 0 || report.stop.is_some()) {
        let resume = if totals.open + totals.cancelled > 0 { "; `apm run --resume` goes on" } else { "" };
        let hint =
            format!("`apm run show {}` shows it again, with a task's name its whole output{resume}", started.run);
        writeln!(out, "{}", layout.paint(Style::Dim, &hint))?;
    }
    Ok(())
}

/// Tasks that the source of the plan brought and that could not join: they make the run incomplete.
fn refused(report: &RunReport, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let mut shown = 0;
    for (_, change) in report.edits.iter() {
        if let PlanChange::Refused { what, by: None, reason } = change
            && shown < FAILURES_MAX
        {
            shown += 1;
            writeln!(
                out,
                "{} {}: {}",
                layout.paint(Style::Bad, "refused"),
                transcript::line(what),
                transcript::line(reason)
            )?;
        }
    }
    more(report.refused(), shown, "refused task", out)
}

/// Whether the run can be shown again. Where the command of a task has the flag too, only a hint is lost.
fn is_recorded(started: &RunStarted) -> bool {
    !started
        .argv
        .iter()
        .map(|word| word.as_os_str())
        .take_while(|word| *word != "--")
        .any(|word| word == "--no-journal")
}

/// One line: how it went.
pub(crate) fn verdict(report: &RunReport, layout: &Layout) -> String {
    let totals = report.totals();
    let noun = if report.has_checks { "check" } else { "task" };
    let (word, style) = match (report.exit_code, &report.stop) {
        // What has passed until here says nothing of the rest.
        (None, _) if report.is_alive => ("running", Style::Warn),
        (None, _) => ("broke off", Style::Warn),
        (Some(0 | 4), None) if report.tests_run().is_none() => ("no test ran", Style::Warn),
        (Some(0), _) => ("passed", Style::Good),
        (Some(1), _) => ("failed", Style::Bad),
        (_, Some(Stop::Signal { .. })) => ("interrupted", Style::Warn),
        (Some(4), _) => ("nothing to do", Style::Warn),
        (Some(5), Some(Stop::Deadline)) => ("stopped at the deadline", Style::Warn),
        (Some(5), _) => ("cancelled", Style::Warn),
        _ => ("incomplete", Style::Warn),
    };
    if report.started.is_none() && totals.tasks == 0 {
        return format!("{}: nothing of it is recorded", layout.paint(style, word));
    }
    let mut parts = Vec::new();
    let parts_of = [
        (totals.failed, "failed"),
        (totals.broken, "broken"),
        (totals.passed, "passed"),
        (totals.flaky, "flaky"),
        (totals.skipped, "skipped"),
        (totals.cancelled, "cancelled"),
        (totals.open, "not finished"),
        (report.refused(), "refused"),
    ];
    for (count, word) in parts_of {
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    }
    let counts = report.counts();
    let tests = counts.tests_passed + counts.tests_failed;
    if tests > 0 {
        parts.push(format!("{} of {} passed", counts.tests_passed, number::count(tests, "test")));
    }
    let findings = counts.findings();
    if findings > 0 {
        parts.push(number::count(findings, "finding"));
    }
    let parts = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
    format!(
        "{}: {}{parts} in {}",
        layout.paint(style, word),
        number::count(totals.tasks as u64, noun),
        number::duration(report.elapsed)
    )
}

/// How a task ended, in a few words.
pub(crate) fn explain(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passed => "passed".to_owned(),
        Outcome::Flaky { attempts } => format!("passed at attempt {attempts}"),
        Outcome::Failed { cause } => match cause {
            Cause::Exit { code } => format!("exit code {code}"),
            Cause::Signal { signal } => format!("ended by signal {signal}"),
            Cause::Results { tests_failed: 0, findings } => number::count(*findings, "finding"),
            Cause::Results { tests_failed, findings: 0 } => number::count(*tests_failed, "failed test"),
            Cause::Results { tests_failed, findings } => {
                format!("{}, {}", number::count(*tests_failed, "failed test"), number::count(*findings, "finding"))
            }
            Cause::Tasks { count: 1, first } => format!("`{first}`, which it added, did not pass"),
            Cause::Tasks { count, first } => {
                format!("{count} of the tasks it added did not pass, the first of them `{first}`")
            }
            Cause::OutputMissing { output } => format!("`{}` is not there after the end", transcript::line(output)),
        },
        Outcome::TimedOut { limit: TimeLimit::Wall { limit } } => {
            format!("ran longer than its limit of {}", number::duration(*limit))
        }
        Outcome::TimedOut { limit: TimeLimit::Idle { limit } } => {
            format!("printed nothing for {}", number::duration(*limit))
        }
        Outcome::OverLimit { limit } => match limit {
            ResourceLimit::Memory { limit, peak } => format!("memory {peak}, limit {limit}"),
            ResourceLimit::CpuTime { limit, used } => {
                format!("CPU time {}, limit {}", number::duration(*used), number::duration(*limit))
            }
            ResourceLimit::Processes { limit, peak } => format!("{peak} processes and threads, limit {limit}"),
        },
        Outcome::Skipped { reason } => explain_skip(reason),
        Outcome::Cancelled { by } => match by {
            Stop::Signal { signal } => format!("signal {signal} ended the run"),
            Stop::Deadline => "the deadline of the run came".to_owned(),
            Stop::Failure => "the run was ended by a result".to_owned(),
            Stop::Cancel { by } => format!("cancelled by {by}"),
            Stop::Closed => "nobody reads standard output any more".to_owned(),
            Stop::Fault { error } => transcript::line(error),
        },
        Outcome::Broken { error } => transcript::line(error),
    }
}

/// Why a task did not run.
pub(crate) fn explain_skip(reason: &Skip) -> String {
    match reason {
        Skip::Need { task } => format!("it needs `{task}`, which did not pass"),
        Skip::NothingFailed => "it runs only when something failed".to_owned(),
        Skip::ToolMissing { tool, install } => {
            format!("`{}` is not installed; {}", transcript::line(tool), transcript::line(install))
        }
        Skip::Offline { detail } => format!("no network: {}", transcript::line(detail)),
        Skip::Deselected { by } => format!("left out by {}", transcript::line(by)),
        Skip::NothingToDo { detail } => transcript::line(detail),
    }
}

/// The tests and findings of an attempt.
pub(crate) fn results(finished: &AttemptFinished, read: ReadStored<'_>) -> Results {
    let parse = |stored: &Stored| serde_json::from_slice(&read(stored, usize::MAX)).ok();
    finished.results.as_ref().and_then(parse).unwrap_or_default()
}

fn failure(row: &Row, read: ReadStored<'_>, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let Some(outcome) = &row.outcome else { return Ok(()) };
    let style = if outcome.is_failure() { Style::Bad } else { Style::Warn };
    let head = format!("{} {}", layout.paint(style, outcome.word()), layout.paint(Style::Strong, row.task.id.as_str()));
    writeln!(out, "{head}{}: {}", title(row), explain(outcome))?;
    let Some(finished) = row.last_finished() else { return writeln!(out) };
    let found = results(finished, read);
    let failed = |status| matches!(status, TestStatus::Failed | TestStatus::Error);
    let tests: Vec<_> = found.tests.iter().filter(|test| failed(test.status)).collect();
    for test in tests.iter().take(TESTS_MAX) {
        writeln!(out, "  {} {}", transcript::line(&test.suite), transcript::line(&test.name))?;
        for line in reason::of(test.message.unescaped()) {
            writeln!(out, "    {line}")?;
        }
    }
    more(tests.len(), TESTS_MAX, "failed test", out)?;
    findings(&found.findings, FINDINGS_MAX, out)?;
    if tests.is_empty() && found.findings.is_empty() {
        for output in [&finished.stdout, &finished.stderr] {
            output_tail(output.stored.as_ref(), read, layout, out)?;
        }
    }
    if let Some((head, lines)) = refused_actions(finished) {
        writeln!(out, "  {}", layout.paint(Style::Warn, &head))?;
        lines.iter().try_for_each(|line| writeln!(out, "    {line}"))?;
    }
    writeln!(out)
}

/// What checks found that does not fail them: warnings and notes of those that passed.
fn reminders(report: &RunReport, read: ReadStored<'_>, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let passed = report.rows().filter(|row| row.is_good());
    let with_end = passed.filter_map(|row| Some((row, row.last_finished()?)));
    let found: Vec<_> = with_end.filter(|(_, end)| end.counts.findings() > 0).collect();
    for (row, end) in found.iter().take(REMINDERS_MAX) {
        let head =
            format!("{} {}", layout.paint(Style::Good, row.word()), layout.paint(Style::Strong, row.task.id.as_str()));
        let counts = [(end.counts.errors, "error"), (end.counts.warnings, "warning"), (end.counts.notes, "note")];
        let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, noun)| number::count(*count, noun));
        writeln!(out, "{head}: {}", counts.collect::<Vec<_>>().join(", "))?;
        findings(&results(end, read).findings, REMINDER_FINDINGS_MAX, out)?;
    }
    more(found.len(), REMINDERS_MAX, "check", out)?;
    if found.is_empty() { Ok(()) } else { writeln!(out) }
}

/// The command as it can be run again: the folder of a check's results was its attempt's own and is gone, any other does.
pub(crate) fn command(task: &Task) -> String {
    let command = task.run.display();
    match &task.check {
        Some(check) if check.writes_results => command.replace("{results}", "results"),
        _ => command,
    }
}

/// The title in brackets, where the task has one.
pub(crate) fn title(row: &Row) -> String {
    row.task.title.as_ref().map(|title| format!(" ({})", transcript::line(title))).unwrap_or_default()
}

fn findings(all: &[Finding], max: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut shown: Vec<&Finding> = all.iter().collect();
    shown.sort_by(|a, b| (b.severity, &a.file, a.line).cmp(&(a.severity, &b.file, b.line)));
    for finding in shown.iter().take(max) {
        let word = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        let rule =
            if finding.rule.is_empty() { String::new() } else { format!(" [{}]", transcript::line(&finding.rule)) };
        writeln!(out, "  {}{word}: {}{rule}", place(finding), transcript::line(&finding.message))?;
    }
    more(all.len(), max, "finding", out)
}

/// Where a finding is, as the start of its line; empty where it is nowhere.
pub(crate) fn place(finding: &Finding) -> String {
    let mut place = transcript::line(&finding.file);
    for number in [finding.line, finding.column].into_iter().take_while(|number| *number > 0) {
        place += &format!(":{number}");
    }
    if place.is_empty() { place } else { place + ": " }
}

fn more(all: usize, shown: usize, noun: &str, out: &mut dyn Write) -> io::Result<()> {
    match all.saturating_sub(shown) {
        0 => Ok(()),
        rest => writeln!(out, "  ... and {} more", number::count(rest as u64, noun)),
    }
}

/// The last lines of a kept output, and whether there are more before them.
pub(crate) fn tail(stored: Option<&Stored>, read: ReadStored<'_>, lines: usize) -> (String, bool) {
    tail_as(stored, read, lines, false)
}

fn tail_as(stored: Option<&Stored>, read: ReadStored<'_>, lines: usize, in_colour: bool) -> (String, bool) {
    let Some(stored) = stored else { return Default::default() };
    let skipped = stored.len.saturating_sub(TAIL_BYTES);
    let end = Stored { offset: stored.offset + skipped, len: stored.len - skipped, ..stored.clone() };
    let bytes = read(&end, TAIL_BYTES as usize);
    let (text, dropped) =
        if in_colour { transcript::coloured_tail(&bytes, lines) } else { transcript::tail(&bytes, lines) };
    (text, dropped > 0 || skipped > 0)
}

fn output_tail(stored: Option<&Stored>, read: ReadStored<'_>, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let (text, cut) = tail_as(stored, read, TAIL_LINES, layout.colour);
    if cut {
        writeln!(out, "  ...")?;
    }
    for line in text.lines() {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

fn table(report: &RunReport, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let name_width = report.rows().map(|row| row.task.id.as_str().chars().count()).max().unwrap_or(0);
    let name_width = name_width.min(layout.width.saturating_sub(24).max(8));
    // What was skipped has its own lines with its reasons.
    let is_shown = |row: &&Row| !matches!(row.outcome, Some(Outcome::Skipped { .. }));
    for row in report.rows().filter(is_shown).take(TABLE_MAX) {
        let style = match &row.outcome {
            Some(outcome) if outcome.is_good() => Style::Good,
            Some(outcome) if outcome.is_failure() => Style::Bad,
            _ => Style::Warn,
        };
        let mut line = layout.paint(style, &pad(row.word(), 11));
        line += &pad(&layout.cut(row.task.id.as_str(), name_width), name_width + 1);
        line += &format!("{:>8}", number::duration(row.wall()));
        if let Some(finished) = row.last_finished()
            && layout.width >= 60
        {
            line += &format!("  {:>9}", finished.usage.memory_peak.to_string());
            let counts = &finished.counts;
            let tests = counts.tests_passed + counts.tests_failed + counts.tests_skipped;
            let findings = counts.findings();
            if tests > 0 {
                line += &format!("  {}", number::count(tests, "test"));
            }
            if findings > 0 {
                line += &format!("  {}", number::count(findings, "finding"));
            }
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    let totals = report.totals();
    more(totals.tasks - totals.skipped, TABLE_MAX, "task", out)
}

fn skipped(report: &RunReport, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let mut by_reason: BTreeMap<String, &SkipGroup> = BTreeMap::new();
    for group in &report.skips.groups {
        by_reason.insert(explain_skip(&group.reason), group);
    }
    let word = layout.paint(Style::Warn, "skipped");
    for (reason, group) in by_reason {
        let names: Vec<&str> = group.names.values().map(TaskId::as_str).collect();
        let names = if group.count > SKIP_NAMES_MAX {
            let shown = &names[..SKIP_NAMES_MAX - 1];
            format!("{} and {} more", shown.join(", "), group.count - shown.len())
        } else {
            names.join(", ")
        };
        writeln!(out, "{word} {names}: {reason}")?;
    }
    match report.skips.others {
        0 => Ok(()),
        others => writeln!(out, "{word} {others} more for other reasons"),
    }
}

fn notes(report: &RunReport, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let one = |level: NoteLevel, text: &str, out: &mut dyn Write| {
        let word = match level {
            NoteLevel::Info => layout.paint(Style::Dim, "note"),
            NoteLevel::Warning => layout.paint(Style::Warn, "warning"),
            NoteLevel::Error => layout.paint(Style::Bad, "error"),
        };
        writeln!(out, "{word}: {}", transcript::line(text))
    };
    // What was said before a resume may have been mended since; the other formats keep it.
    let since = report.resumed.iter().last().map_or(Duration::ZERO, |(t, _)| *t);
    for (_, level, text) in report.notes.first().iter().filter(|(t, ..)| *t >= since) {
        one(*level, text, out)?;
    }
    if report.notes.first().last().is_some_and(|(t, ..)| *t >= since) {
        more(report.notes.left_out(), 0, "note", out)?;
    }
    for (_, level, text) in report.notes.last().filter(|(t, ..)| *t >= since) {
        one(*level, text, out)?;
    }
    Ok(())
}

/// The slowest tasks of a run that has many and no table of them.
fn slowest(report: &RunReport, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let totals = report.totals();
    if report.has_checks || totals.passed + totals.flaky <= SLOWEST_MAX {
        return Ok(());
    }
    let slowest = report.slowest().take(SLOWEST_SHOWN);
    let named: Vec<String> = slowest.map(|row| format!("{} {}", row.task.id, number::duration(row.wall()))).collect();
    writeln!(out, "{}", layout.paint(Style::Dim, &format!("slowest: {}", named.join(", "))))
}

/// How limits were kept, where any were set.
fn limits_line(report: &RunReport, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    let Some(started) = &report.started else { return Ok(()) };
    let ceilings = started.ceilings;
    if ceilings.memory.is_none() && ceilings.cpu.is_none() && !report.has_limits {
        return Ok(());
    }
    let enforcement = &started.enforcement;
    let by = |what: &str, mechanism: Mechanism| format!("{what} by {}", mechanism.as_str());
    let parts = [by("memory", enforcement.memory), by("CPU", enforcement.cpu), by("processes", enforcement.processes)];
    writeln!(out, "{}", layout.paint(Style::Dim, &format!("limits: {}", parts.join(", "))))
}

/// How attempts were confined, and what was not enforced.
fn confined(report: &RunReport, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    for (way, attempts) in &report.confined.ways {
        let line = format!("sandbox: {}, {way}", number::count(*attempts as u64, "attempt"));
        writeln!(out, "{}", layout.paint(Style::Dim, &line))?;
    }
    for missing in &report.confined.missing {
        let line = format!("sandbox: not enforced: {}", transcript::line(missing));
        writeln!(out, "{}", layout.paint(Style::Warn, &line))?;
    }
    Ok(())
}

/// What a task that did not pass says of refused actions, and what would allow them.
pub(crate) fn refused_actions(finished: &AttemptFinished) -> Option<(String, Vec<String>)> {
    let confinement = finished.confinement.as_ref().filter(|confinement| !confinement.refused.is_empty())?;
    let head = "it was confined, and its output says that actions were refused; \
                `sandbox: {write: [DIR], network: true}` in a plan allows more";
    Some((head.to_owned(), confinement.refused.iter().map(transcript::line).collect()))
}

#[cfg(test)]
mod tests {
    use super::{REMINDERS_MAX, TABLE_MAX, command, table, verdict, write};
    use crate::model::finding::{Finding, Results, Severity};
    use crate::model::outcome::Outcome;
    use crate::model::task::{Check, Run, Skip};
    use crate::report::run::RunReport;
    use crate::report::sample::Checked;
    use crate::text::layout::Layout;

    /// Skipped checks were counted among those the table had no room for.
    #[test]
    fn the_table_says_how_many_of_its_own_rows_it_leaves_out() {
        let check = |outcome| Checked { outcome, results: Results::default(), stderr: "" };
        let skipped = Outcome::Skipped { reason: Skip::NothingFailed };
        let shown = |passed: usize| {
            let passed = (0..passed).map(|n| check(Outcome::Passed).row(&format!("p{n}")));
            let report = RunReport::of(passed.chain((0..5).map(|n| check(skipped.clone()).row(&format!("s{n}")))));
            let mut out = Vec::new();
            table(&report, &Layout::PLAIN, &mut out).expect("memory takes everything");
            String::from_utf8(out).expect("text")
        };
        assert!(!shown(TABLE_MAX).contains("more"));
        assert!(shown(TABLE_MAX + 1).ends_with("  ... and 1 task more\n"), "{}", shown(TABLE_MAX + 1));
    }

    /// They were to be seen only in the formats for machines.
    #[test]
    fn what_passed_checks_have_found_is_shown_in_short() {
        let finding = |line| Finding {
            rule: "W1".into(),
            severity: if line == 9 { Severity::Note } else { Severity::Warning },
            message: "unused".into(),
            file: "a.rs".into(),
            line,
            column: 0,
            line_end: 0,
            column_end: 0,
            url: "".into(),
        };
        let findings = vec![finding(9), finding(1), finding(2), finding(3), finding(4)];
        let results = Results { findings, ..Results::default() };
        let check = Checked { outcome: Outcome::Passed, results, stderr: "" };
        let text = check.write(|view, out| write(view.report, view.read, &Layout::PLAIN, out));
        let expected = "passed lint: tool: 4 warnings, 1 note
  a.rs:1: warning: unused [W1]
  a.rs:2: warning: unused [W1]
  a.rs:3: warning: unused [W1]
  ... and 2 findings more

passed";
        assert!(text.starts_with(expected), "{text}");
        let others: Vec<_> = (0..=REMINDERS_MAX).map(|n| check.row(&format!("check {n}"))).collect();
        let many = check.write_with(&others, |view, out| write(view.report, view.read, &Layout::PLAIN, out));
        assert!(many.contains("\n  ... and 2 checks more\n\n"), "{many}");
    }

    /// It was called passed where nothing had failed yet.
    #[test]
    fn a_run_without_its_end_has_not_passed() {
        assert_eq!(verdict(&RunReport::default(), &Layout::PLAIN), "broke off: nothing of it is recorded");
        let check = Checked { outcome: Outcome::Passed, results: Results::default(), stderr: "" };
        let mut report = RunReport::of([check.row("a")]);
        assert!(verdict(&report, &Layout::PLAIN).starts_with("broke off: 1 check (1 passed)"));
        report.is_alive = true;
        assert!(verdict(&report, &Layout::PLAIN).starts_with("running: 1 check (1 passed)"));
        report = RunReport::default();
        report.exit_code = Some(4);
        assert!(!verdict(&report, &Layout::PLAIN).contains("()"));
    }

    /// It had the literal `{results}`, which no shell knows.
    #[test]
    fn the_command_of_a_check_can_be_run_again() {
        let check = Checked { outcome: Outcome::Passed, results: Results::default(), stderr: "" };
        let mut task = (*check.row("a").task).clone();
        task.run = Run::Argv(vec!["pytest".into(), "--junitxml={results}/junit.xml".into()]);
        task.check = Some(Check { writes_results: true, ..Check::default() }.into());
        assert_eq!(command(&task), "pytest '--junitxml=results/junit.xml'");
    }
}
