//! Why a command could not do its work: what kind of failure, the chain of causes, and what to do next. The exit code
//! follows from the kind; nothing else in the project exits.

use std::fmt::Display;

/// The exit codes, the same for every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done and good.
    Good,
    /// The work found failures.
    Failures,
    /// Usage or configuration; nothing was started.
    Usage,
    /// This machine or a tool could not; the rest stands.
    Incomplete,
    /// Nothing to do where something was expected.
    Nothing,
    /// Ended early by a deadline.
    Early,
    /// What a command that apm has run for the user ended with, passed on.
    Command(i32),
    /// A bug in apm.
    Bug,
    /// Death by a signal, to be re-raised.
    Signal(i32),
}

impl Exit {
    /// The number.
    pub(crate) const fn code(self) -> i32 {
        match self {
            Self::Good => 0,
            Self::Failures => 1,
            Self::Usage => 2,
            Self::Incomplete => 3,
            Self::Nothing => 4,
            Self::Early => 5,
            Self::Command(code) => code,
            Self::Bug => 70,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// `apm help exit-codes`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes of apm, the same for every command

  0    done and good
  1    the work found failures: a task, test or check failed, timed out or went
       over its limit; the doctor found something at or above --fail-on
  2    usage or configuration; nothing was started
  3    incomplete because this machine or a tool could not: permission, kernel
       feature, state directory, a tool that broke or printed what cannot be
       read, an output file that could not be written; the rest stands
  4    nothing to do where something was expected
  5    ended early by --deadline or `apm run cancel`
  70   a bug in apm
  130  ended by Ctrl-C (SIGINT); 143: SIGTERM; 129: SIGHUP

`apm profile` ends with the code or signal of the command that it runs.
1 wins over 3 and 5 when both hold. With --strict what was skipped counts as 3.
A closed pipe on standard output is a quiet end.
";

/// A command that could not do its work.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) error: anyhow::Error,
    pub(crate) hints: Vec<String>,
}

impl Failure {
    /// Wrong words or configuration.
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Usage, error: error.into(), hints: Vec::new() }
    }

    /// The machine could not.
    pub(crate) fn machine(error: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Incomplete, error: error.into(), hints: Vec::new() }
    }

    /// Nothing to do.
    pub(crate) fn nothing(text: impl Display) -> Self {
        Self { exit: Exit::Nothing, error: anyhow::anyhow!("{text}"), hints: Vec::new() }
    }

    /// Adds the next thing to try.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The message as it is printed.
    pub(crate) fn render(&self) -> String {
        let mut text = format!("apm: error: {}\n", self.error);
        for cause in self.error.chain().skip(1) {
            text += &format!("  caused by: {cause}\n");
        }
        for hint in &self.hints {
            text += &format!("  hint: {hint}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::{EXIT_CODES, Exit, Failure};

    #[test]
    fn the_message_has_causes_and_hints() {
        let error = Err::<(), _>(std::io::Error::from_raw_os_error(13)).context("read `/x`").expect_err("an error");
        let failure = Failure::machine(error).hint("try `sudo`");
        assert_eq!(failure.exit.code(), 3);
        assert_eq!(
            failure.render(),
            "apm: error: read `/x`\n  caused by: Permission denied (os error 13)\n  hint: try `sudo`\n"
        );
    }

    #[test]
    fn the_help_names_every_code() {
        let exits = [
            Exit::Good,
            Exit::Failures,
            Exit::Usage,
            Exit::Incomplete,
            Exit::Nothing,
            Exit::Early,
            Exit::Bug,
            Exit::Signal(2),
            Exit::Signal(15),
        ];
        for exit in exits {
            assert!(EXIT_CODES.contains(&exit.code().to_string()), "{exit:?}");
        }
    }
}
