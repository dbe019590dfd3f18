//! Words of `apm config`.

use clap::Subcommand;

/// `apm config ...`
#[derive(Subcommand, Debug)]
pub enum Config {
    /// List every key with its unit, meaning and effect
    Keys,
}
