//! What every command gets: the environment, the terminal, the command line.

use std::ffi::OsString;

use crate::command::failure::{Exit, Failure};
use crate::config::environment::Environment;
use crate::ui::Ui;

/// What every command gets.
pub(crate) struct Context {
    pub(crate) environment: Environment,
    pub(crate) ui: Ui,
    pub(crate) argv: Vec<OsString>,
    pub(crate) global: crate::cli::Global,
}

impl Context {
    /// Refuses a configuration where the command has no keys in it.
    pub(crate) fn has_no_configuration(&self, command: &str) -> Result<(), Failure> {
        if self.global.config.is_none() && self.global.set.is_empty() {
            return Ok(());
        }
        let failure = Failure::usage(anyhow::anyhow!("`--config` and `--set` have no effect on `apm {command}`"));
        Err(failure.hint(format!("it is asked by its own options: `apm {command} --help`")))
    }

    /// Prints the result of a command that has nothing else to say.
    pub(crate) fn print(&self, text: &str) -> Result<Exit, Failure> {
        self.ui.print(text).map(|_| Exit::Good).map_err(Failure::machine)
    }
}
