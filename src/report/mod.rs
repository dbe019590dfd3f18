//! What a run amounts to, and how it is written. `run` folds events into a summary, `rows` gives the rows of all tasks, one
//! after the other; the others are leaves that write one format each. They fetch nothing, measure nothing and know no
//! terminal.

pub(crate) mod doctor;
pub(crate) mod dry_run;
pub(crate) mod first_and_last;
pub(crate) mod github;
pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod junit;
pub(crate) mod markdown;
pub(crate) mod profile;
pub(crate) mod row;
pub(crate) mod rows;
pub(crate) mod run;
pub(crate) mod samples;
pub(crate) mod text;
pub(crate) mod trace;
pub(crate) mod tune;

use crate::model::event::Stored;
use crate::report::row::EachRow;
use crate::report::run::RunReport;

/// Reads bytes that an event refers to: from the start, at most the given number. Bytes that are gone read as none.
pub(crate) type ReadStored<'a> = &'a dyn Fn(&Stored, usize) -> Vec<u8>;

/// A run as the formats that show each task see it.
#[derive(Clone, Copy)]
pub(crate) struct RunView<'a> {
    /// Its summary.
    pub(crate) report: &'a RunReport,
    /// Its tasks.
    pub(crate) each_row: EachRow<'a>,
    /// What they printed and found.
    pub(crate) read: ReadStored<'a>,
}

/// A run of one check, for the tests of the formats.
#[cfg(test)]
mod sample {
    use std::sync::Arc;
    use std::time::Duration;

    use jiff::Timestamp;

    use crate::model::event::{AttemptFinished, Exit, Next, Output, Stored, Usage};
    use crate::model::finding::{Results, Test, TestStatus};
    use crate::model::id::TaskId;
    use crate::model::outcome::Outcome;
    use crate::model::task::{Run, Task};
    use crate::report::RunView;
    use crate::report::row::{Attempt, Row, TakeRow};
    use crate::report::run::RunReport;

    /// What a check is made of.
    pub(super) struct Checked {
        pub(super) outcome: Outcome,
        pub(super) results: Results,
        pub(super) stderr: &'static str,
    }

    fn stored(file: &str, text: &str) -> Option<Stored> {
        let len = text.len() as u64;
        (len > 0).then(|| Stored { file: file.to_owned(), offset: 0, len, digest: String::new() })
    }

    impl Checked {
        /// The row of a check that ended like this.
        pub(super) fn row(&self, name: &str) -> Row {
            let id = TaskId::new(name).expect("a good id");
            let mut task = Task::new(id.clone(), Run::Argv(vec!["tool".into()]));
            task.check = Some(Box::default());
            let finished = AttemptFinished {
                task: id,
                attempt: 1,
                outcome: self.outcome.clone(),
                next: Next::Done { outcome: self.outcome.clone() },
                exit: Some(Exit::Code(1)),
                usage: Usage::default(),
                stdout: Output::default(),
                stderr: Output { stored: stored("stderr", self.stderr), ..Output::default() },
                counts: self.results.counts(),
                results: stored("results", &self.json()),
                leaked: 0,
                inputs_digest: String::new(),
                confinement: None,
            };
            let end = Some((Duration::ZERO, finished));
            let attempt =
                Attempt { number: 1, slot: Some(0), start: Duration::ZERO, start_at: Timestamp::UNIX_EPOCH, end };
            Row { task: Arc::new(task), attempts: vec![attempt], outcome: Some(self.outcome.clone()), late: None }
        }

        /// The report of a format, for a run of this check and these.
        pub(super) fn write_with(
            &self,
            others: &[Row],
            format: impl Fn(&RunView<'_>, &mut dyn std::io::Write) -> std::io::Result<()>,
        ) -> String {
            let rows: Vec<Row> = std::iter::once(self.row("lint: tool")).chain(others.iter().cloned()).collect();
            let report = RunReport::of(rows.iter().cloned());
            let read = |stored: &Stored, _: usize| match stored.file.as_str() {
                "results" => self.json().into_bytes(),
                _ => self.stderr.as_bytes().to_vec(),
            };
            let each_row = |take: TakeRow<'_>| rows.iter().try_for_each(take);
            let mut out = Vec::new();
            format(&RunView { report: &report, each_row: &each_row, read: &read }, &mut out)
                .expect("memory takes everything");
            String::from_utf8(out).expect("text")
        }

        /// The report of a format, for a run of this check.
        pub(super) fn write(
            &self,
            format: impl Fn(&RunView<'_>, &mut dyn std::io::Write) -> std::io::Result<()>,
        ) -> String {
            self.write_with(&[], format)
        }

        fn json(&self) -> String {
            serde_json::to_string(&self.results).expect("results serialise")
        }
    }

    /// A test that passed.
    pub(super) fn passed_test() -> Test {
        Test {
            suite: "suite".into(),
            name: "name".into(),
            status: TestStatus::Passed,
            duration: None,
            message: "".into(),
        }
    }
}
