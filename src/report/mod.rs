//! What a run amounts to, and how it is written. `run` folds events into a report; the others are leaves that write one
//! format each. They fetch nothing, measure nothing and know no terminal.

pub(crate) mod doctor;
pub(crate) mod dry_run;
pub(crate) mod github;
pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod junit;
pub(crate) mod markdown;
pub(crate) mod profile;
pub(crate) mod run;
pub(crate) mod text;
pub(crate) mod trace;
pub(crate) mod tune;

use crate::model::event::Stored;

/// Reads bytes that an event refers to: at most so many, from the start. What is missing is an empty answer.
pub(crate) type ReadStored<'a> = &'a dyn Fn(&Stored, usize) -> Vec<u8>;

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
    use crate::model::task::{Check, Run, Task};
    use crate::report::ReadStored;
    use crate::report::run::{Attempt, Row, RunReport};

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
            task.check = Some(Check::default());
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
            };
            let end = Some((Duration::ZERO, finished));
            let attempt = Attempt { number: 1, slot: 0, start: Duration::ZERO, start_at: Timestamp::UNIX_EPOCH, end };
            Row { task: Arc::new(task), attempts: vec![attempt], outcome: Some(self.outcome.clone()), late: None }
        }

        /// The report of a format.
        pub(super) fn write(
            &self,
            format: impl Fn(&RunReport, ReadStored<'_>, &mut dyn std::io::Write) -> std::io::Result<()>,
        ) -> String {
            let mut report = RunReport::default();
            report.rows.push(self.row("lint: tool"));
            let read = |stored: &Stored, _: usize| match stored.file.as_str() {
                "results" => self.json().into_bytes(),
                _ => self.stderr.as_bytes().to_vec(),
            };
            let mut out = Vec::new();
            format(&report, &read, &mut out).expect("memory takes everything");
            String::from_utf8(out).expect("text")
        }

        fn json(&self) -> String {
            serde_json::to_string(&self.results).expect("results serialise")
        }
    }

    /// A test that passed.
    pub(super) fn passed_test() -> Test {
        Test {
            suite: "suite".to_owned(),
            name: "name".to_owned(),
            status: TestStatus::Passed,
            duration: None,
            message: String::new(),
        }
    }
}
