//! Words of `apm tune`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Say which settings of this machine should be others, and why; write, check, apply and roll them back
///
/// Without a subcommand it shows the plan and changes nothing. A limit is never lowered, security settings are never
/// touched, and a value an administrator set in a later file wins.
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  apm tune                          # the plan for agents on this machine\n  \
                  apm tune explain vm.swappiness    # formula, range, source of one setting\n  \
                  apm tune write --dir etc          # drop-in files for an image, without root\n  \
                  sudo apm tune apply               # shows the diff, asks, applies\n  \
                  sudo apm tune rollback            # shows what was before, asks, restores\n  \
                  eval \"$(apm tune env --agents 4)\" # runtimes that know their share\n\n\
                  Exit codes: 0 good, 1 `check` found drift, 2 usage, 3 a setting could not be applied,\n4 nothing to do, or not wanted."
)]
pub struct Tune {
    /// What to do; the plan where absent.
    #[command(subcommand)]
    pub command: Option<TuneCommand>,
    /// What to plan.
    #[command(flatten)]
    pub plan: Plan,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum TuneCommand {
    /// Show each setting: now, proposed, why, risk, how to revert
    Plan(Plan),
    /// Write the drop-in files that keep the settings, each line with its reason; sets nothing live
    Write(Write),
    /// Say what is not as planned, live or in the files; exit 1 if anything is
    Check(Planned),
    /// Show what `apply` would change in files, as a unified diff, and live
    Diff(Planned),
    /// Show the changes, ask, back up, write files, set live values, read each back; restore all at the first failure
    Apply(Apply),
    /// Show what was before an apply, ask, restore live values and files as they were
    Rollback(Rollback),
    /// List applies, and what became of them
    History(History),
    /// Say what a setting is, its formula, range, risk, source, and the proposal for this machine
    Explain(Explain),
    /// Print variables for runtimes (JVM, Go, Node, Python, make, cargo) that fit an agent's share, for `eval`
    Env(Env),
}

/// What a plan follows from.
#[derive(Args, Debug, Clone)]
pub struct Sources {
    /// What the machine is for
    #[arg(long, value_name = "NAME", default_value = "agents")]
    pub workload: WorkloadName,
    /// Agents, jobs or workers at once [default: one a CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub agents: Option<u64>,
    /// Speed of the way that matters, bits a second: 1G, 500M. With --rtt it decides about buffers
    #[arg(long, value_name = "BITS", requires = "rtt")]
    pub bandwidth: Option<String>,
    /// Round trip of that way: 40ms
    #[arg(long, value_name = "TIME", requires = "bandwidth")]
    pub rtt: Option<String>,
    /// Only settings whose key begins so: vm, net.ipv4, vm.swappiness
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    pub only: Vec<String>,
    /// All but settings whose key begins so
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    pub except: Vec<String>,
    /// The machine below this folder: its `proc`, `sys`, `etc`; what is written goes there too, if the folder belongs to
    /// this user or root
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// How long the doctor looks for evidence
    #[arg(long, value_name = "TIME", default_value = "0.5s")]
    pub duration: String,
}

/// Show each setting: now, proposed, why, risk, how to revert
#[derive(Args, Debug)]
pub struct Plan {
    /// Where it follows from.
    #[command(flatten)]
    pub sources: Sources,
    /// Judge a list of settings from elsewhere instead: `spec`, that of apm's specification
    #[arg(long, value_name = "NAME", conflicts_with = "compare")]
    pub preset: Option<Preset>,
    /// Compare with a profile of tuned: `tuned:throughput-performance`, or `tuned:PATH`
    #[arg(long, value_name = "tuned:PROFILE")]
    pub compare: Option<String>,
    /// What goes to standard output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: TuneFormat,
}

/// A plan for another command.
#[derive(Args, Debug)]
pub struct Planned {
    /// Where it follows from.
    #[command(flatten)]
    pub sources: Sources,
    /// The folder in place of /etc
    #[arg(long, value_name = "DIR", conflicts_with = "root")]
    pub dir: Option<PathBuf>,
    /// What goes to standard output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: crate::cli::run::ListFormat,
}

/// Write the drop-in files that keep the settings
#[derive(Args, Debug)]
pub struct Write {
    /// Where it follows from.
    #[command(flatten)]
    pub sources: Sources,
    /// The folder in place of /etc
    #[arg(long, value_name = "DIR", conflicts_with = "root")]
    pub dir: Option<PathBuf>,
    /// Write no files: the settings in this form to standard output
    #[arg(long, value_name = "FORMAT", conflicts_with = "dir")]
    pub format: Option<TuneFormat>,
    /// Show what would be written
    #[arg(long)]
    pub dry_run: bool,
}

/// Show the changes, ask, apply
#[derive(Args, Debug)]
pub struct Apply {
    /// Where it follows from.
    #[command(flatten)]
    pub sources: Sources,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Show the changes and stop
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
}

/// Show what was before, ask, restore
#[derive(Args, Debug)]
pub struct Rollback {
    /// Which apply, as in `apm tune history`; later ones are rolled back with it [default: the last]
    #[arg(value_name = "ID")]
    pub id: Option<String>,
    /// Restore also what somebody has changed since
    #[arg(long)]
    pub force: bool,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Show what would be restored and stop
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    /// The machine below this folder, which belongs to this user or root
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// List applies
#[derive(Args, Debug)]
pub struct History {
    /// The machine below this folder
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// What goes to standard output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: crate::cli::run::ListFormat,
}

/// Say what a setting is
#[derive(Args, Debug)]
pub struct Explain {
    /// The key
    #[arg(value_name = "KEY")]
    pub key: String,
    /// Where the proposal follows from.
    #[command(flatten)]
    pub sources: Sources,
}

/// Print variables for runtimes
#[derive(Args, Debug)]
pub struct Env {
    /// Agents at once, who share the machine
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub agents: Option<u64>,
    /// Memory of one agent [default: 85 % of what can be had, shared]
    #[arg(long, value_name = "SIZE")]
    pub agent_memory: Option<String>,
    /// CPU of one agent in percent of one CPU [default: shared]
    #[arg(long, value_name = "PERCENT")]
    pub agent_cpu: Option<String>,
    /// What goes to standard output
    #[arg(long, value_name = "FORMAT", default_value = "shell")]
    pub format: EnvFormat,
}

/// What the machine is for.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadName {
    /// Coding agents with their builds and tests, many at once
    Agents,
    /// Builds and tests
    Ci,
    /// A server with many connections
    Server,
    /// Somebody sits in front of it
    Desktop,
}

/// Lists of settings that apm knows.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// The list of apm's specification
    Spec,
}

/// Forms of settings.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TuneFormat {
    /// For people
    Text,
    /// The whole plan, schema apm.tune/1
    Json,
    /// Lines for sysctl.d
    Sysctl,
    /// Tasks of an Ansible playbook
    Ansible,
    /// Commands that set the values live
    Shell,
}

/// Forms of variables.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvFormat {
    /// `export NAME=VALUE`
    Shell,
    /// `NAME=VALUE`, for --env-file and systemd
    Dotenv,
    /// An object
    Json,
}
