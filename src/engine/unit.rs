//! The life of one attempt, on a thread of its own: inputs are digested, the command runs, its output is kept and
//! read, its promised files are looked for. Decides nothing about other attempts.

use crate::model::event::{Exit, Output, Stored, Usage};
use crate::model::finding::Counts;
use crate::model::outcome::Outcome;

/// What came of an attempt.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempted {
    /// How the process ended; absent where it never started.
    pub(crate) exit: Option<Exit>,
    /// Why it could not be run, or its result not be had.
    pub(crate) broken: Option<String>,
    /// What a reader of its output, or a look at its promised files, makes of it.
    pub(crate) judgement: Option<Outcome>,
    pub(crate) usage: Usage,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
    pub(crate) counts: Counts,
    pub(crate) results: Option<Stored>,
    pub(crate) leaked: u32,
    /// Times the kernel killed a process of it for memory.
    pub(crate) oom_kills: u64,
    /// Times the kernel refused it a process.
    pub(crate) forks_refused: u64,
    pub(crate) inputs_digest: String,
    /// Sentences for the user.
    pub(crate) notes: Vec<String>,
}

impl Attempted {
    /// The outcome by its own result.
    pub(crate) fn judged(&self) -> Outcome {
        let unknown = || Outcome::Broken {
            error: "it did not start".to_owned(),
        };
        self.judgement
            .clone()
            .unwrap_or_else(|| self.exit.map_or_else(unknown, Exit::outcome))
    }
}
