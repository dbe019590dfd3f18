//! Words of `apm config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::run::ListFormat;

/// `apm config ...`
#[derive(Subcommand, Debug)]
pub enum Config {
    /// Show the values in effect
    Show(Show),
    /// Check the configuration, or one file
    Check(Check),
    /// Create a configuration file with every key, its default and its meaning in comments
    Init(Init),
    /// List every key with its unit, meaning and effect
    Keys(Keys),
}

/// Show the values in effect
#[derive(Args, Debug)]
pub struct Show {
    /// Say where each value comes from, and show defaults too
    #[arg(long)]
    pub origin: bool,
    /// What goes to standard output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: ListFormat,
}

/// Check the configuration, or one file
#[derive(Args, Debug)]
pub struct Check {
    /// The file; all layers where absent
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Create a configuration file with every key, its default and its meaning in comments
#[derive(Args, Debug)]
pub struct Init {
    /// The user's file, not the project's `apm.yaml`
    #[arg(long)]
    pub user: bool,
    /// Replace a file that exists
    #[arg(long)]
    pub force: bool,
}

/// List every key with its unit, meaning and effect
#[derive(Args, Debug)]
pub struct Keys {
    /// What goes to standard output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: ListFormat,
}
