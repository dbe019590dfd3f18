//! Words of `apm profile`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Say where the time of a command or process goes, by function
#[derive(Subcommand, Debug)]
pub enum Profile {
    /// Sample CPU time, by stack
    ///
    /// Runs a command, or looks at a process that runs. The command has the terminal, its exit code is apm's; Ctrl-C
    /// ends both, and what was recorded is written all the same. Nothing needs to be installed, and no privileges: how
    /// samples were taken, and how good they are, stands in the result.
    ///
    /// Example: apm profile cpu -- gcc -O2 -c large.c
    Cpu(Cpu),
}

/// Sample CPU time, by stack
#[derive(Args, Debug)]
pub struct Cpu {
    /// Samples a second of CPU time [default: 999 for a command, 99 with --pid]
    #[arg(short = 'F', long, value_name = "HZ")]
    pub frequency: Option<u64>,
    /// How much of the stack each sample copies, up to 63KiB: more where outer functions are missing
    #[arg(long, value_name = "SIZE", default_value = "16KiB")]
    pub stack: String,
    /// Find callers by frame pointers, not by copies of the stack: cheaper, right only where all code keeps them
    #[arg(long, conflicts_with = "stack")]
    pub fp: bool,
    /// End the recording after this time; the command goes on
    #[arg(long, value_name = "TIME")]
    pub duration: Option<String>,
    /// Look at this process and what it has started, until it ends or Ctrl-C
    #[arg(short, long, value_name = "PID", conflicts_with = "command", required_unless_present = "command")]
    pub pid: Option<u32>,
    /// Not the processes that it starts
    #[arg(long)]
    pub no_children: bool,
    /// Not the time in the kernel
    #[arg(long)]
    pub no_kernel: bool,
    /// Also the time without a CPU: what threads wait for, by stack; needs samples of the kernel
    #[arg(long, conflicts_with = "no_kernel")]
    pub off_cpu: bool,
    /// The folder for the results [default: apm-profile in the working folder]
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// The command and its arguments
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}
