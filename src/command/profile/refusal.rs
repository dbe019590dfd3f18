//! The error where the kernel does not let a program be sampled, with what would allow it.

use anyhow::anyhow;

use crate::command::failure::{Exit, Failure};
use crate::profile::record::sampler::Refusal;

/// The failure of a refusal, of a process that is there or of a command.
pub(super) fn refused(refusal: Refusal, pid: Option<u32>) -> Failure {
    let what = pid.map_or_else(|| "cannot sample the command".to_owned(), |pid| format!("cannot sample pid {pid}"));
    let tried = match &refusal {
        Refusal::Denied { refused } | Refusal::All { refused } => refused.join("; "),
        _ => String::new(),
    };
    let is_gone = matches!(refusal, Refusal::Gone);
    let is_denied = matches!(refusal, Refusal::Denied { .. });
    let is_files = matches!(refusal, Refusal::Files { .. });
    let mut error = anyhow!("{refusal}");
    if !tried.is_empty() {
        error = anyhow!("{tried}").context(error.to_string());
    }
    let failure = Failure::machine(error.context(what));
    if is_gone {
        return Failure { exit: Exit::Usage, ..failure };
    }
    if is_files {
        return failure.hint("a higher `ulimit -Hn`, or `--no-children`");
    }
    if is_denied && pid.is_some() { failure.hint("a process of another user needs root") } else { failure }
}

/// The failure where a process may not be stopped either.
pub(super) fn refused_stops(error: std::io::Error, joined: Option<u32>, notes: &[String]) -> Failure {
    let refused_so_far = notes.iter().cloned().chain([format!("ptrace: {error}")]).collect();
    refused(Refusal::Denied { refused: refused_so_far }, joined)
}
