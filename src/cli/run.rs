//! Words of `apm run`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Run a workflow, a plan file, or a command for each of many values
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
        apm run qa                                 check this repository\n  \
        apm run plan.yaml -j 4                     run a plan, four tasks at a time\n  \
        apm run each -- gzip -k {} ::: *.log       one gzip per file\n  \
        apm run --resume                           go on with the last run\n  \
        apm run watch                              follow a run from another terminal\n  \
        apm run --replay last --format html        render a report of the last run"
)]
pub struct Run {
    /// What to run; a plan file where absent.
    #[command(subcommand)]
    pub what: Option<What>,
    /// Plan file: YAML, JSON or JSON lines; `-` is standard input, whose JSON lines are run as they come
    ///
    /// Its tasks run in the folder that apm is started in. A command with characters that a shell acts on goes to `/bin/sh -ec`:
    /// of a pipe only the last command counts, unless `shell: [bash, -euo, pipefail, -c]` says otherwise. `${matrix.x}` is
    /// replaced by the text as it is: where it may hold quotes, blanks or `$`, use `env: {X: '${matrix.x}'}` and "$X".
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Go on with the last run of this folder, of FILE, or with a named one: what passed is not run again
    ///
    /// The plan file, or the repository of `qa`, is read again: what was edited, what needs it, and what has changed `inputs`
    /// runs again, and each reason is said. A change of any file of its repository has all checks of `qa` run again.
    #[arg(long, value_name = "RUN", num_args = 0..=1, default_missing_value = "last", conflicts_with = "replay")]
    pub resume: Option<String>,
    /// Render the report of a recorded run again, in any format
    #[arg(long, value_name = "RUN", num_args = 0..=1, default_missing_value = "last", conflicts_with = "file")]
    pub replay: Option<String>,
    /// Relay the output of tasks to standard output, a whole task at a time
    #[arg(long)]
    pub relay: bool,
    /// Options of every run.
    #[command(flatten)]
    pub options: Options,
}

/// What to run.
#[derive(Subcommand, Debug)]
pub enum What {
    /// Find what there is to check in this repository and check it
    #[command(alias = "/qa-framework", alias = "/parallel-qa-framework", alias = "qa-framework")]
    Qa(Qa),
    /// Run a command once for each value, as xargs and GNU parallel do
    ///
    /// Output is passed on byte by byte, as by GNU parallel: also what commands a terminal, or is a workflow command in a GitHub
    /// step. Reports, and what apm itself says, have neither.
    Each(Each),
    /// List recorded runs, newest first
    #[command(visible_alias = "ls")]
    List(List),
    /// Show a recorded run, or the output of one of its tasks
    ///
    /// The output of a task is shown byte by byte, also what commands a terminal, or is a workflow command in a GitHub step.
    /// Reports have neither.
    Show(Show),
    /// Follow a run from another terminal, until it ends
    Watch(Watch),
    /// Cancel a run that goes on, or some of its tasks
    Cancel(Steer),
    /// Pause a run that goes on, or some of its tasks
    Pause(Steer),
    /// Let a paused run go on, or some of its tasks
    Unpause(Steer),
    /// Change limits and priorities of a run that goes on
    Set(Set),
    /// Add the tasks of a plan file to a run that goes on
    Add(Add),
}

/// Options of every run.
#[derive(Args, Debug, Clone, Default)]
pub struct Options {
    /// Run at most N tasks at once [default: the usable CPUs, or the configuration]
    #[arg(short = 'j', long, visible_alias = "jobs", value_name = "N", help_heading = "Limits")]
    pub agents: Option<u32>,
    /// Memory ceiling of the whole run, for instance 4GiB
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub memory: Option<String>,
    /// CPU ceiling of the whole run, in percent of the machine
    #[arg(long, value_name = "PERCENT", help_heading = "Limits")]
    pub cpu: Option<f64>,
    /// Stop an attempt that runs longer, for instance 10m; 0 means no limit
    #[arg(long, value_name = "DURATION", help_heading = "Limits")]
    pub timeout: Option<String>,
    /// Stop the whole run after this time; exit code 5; 0 means no limit
    #[arg(long, value_name = "DURATION", help_heading = "Limits")]
    pub deadline: Option<String>,
    /// Repeat a failed task up to N times, with growing delays
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub retries: Option<u32>,
    /// Confine what is run: its folder and temporary files are all it can write, secrets are unreadable, the network is off
    ///
    /// `best` takes what the kernel gives, `require` starts nothing where that is less than all of it, `off` is the default.
    /// A plan may ask for more (`sandbox: require`), and allow more: `sandbox: {write: [DIR], network: true}`. A confined
    /// command gets a HOME and TMPDIR of its own, no variables that look like secrets, and no capabilities, also as root. It
    /// may read all else but the usual places of secrets below the user's home, and what root alone may read.
    /// `apm doctor agents` says what this machine gives.
    ///
    /// Landlock and seccomp do not stop: chmod, chown, utime and setxattr of files outside that belong to the user; listing
    /// names of files; command lines of other processes; a full disk; changes of the hooks and the configuration of a git
    /// repository in its own folder, which run later, outside. Where the network is allowed, also unix sockets by path (until
    /// ABI 9 of Landlock) and UDP (until ABI 10). Before ABI 3 (Linux 6.2) files outside can be truncated, before ABI 6
    /// (Linux 6.12) processes and abstract sockets outside be reached: `require` refuses both. Shared memory and named
    /// semaphores, which Python's multiprocessing uses, are refused unless `write: [/dev/shm]` allows them.
    #[arg(long, value_name = "MODE", help_heading = "Limits")]
    pub sandbox: Option<SandboxWord>,
    /// Stop at the first failure; `when: always` and `failure` still run
    #[arg(long)]
    pub fail_fast: bool,
    /// Count skipped and missing tools as incomplete (exit code 3) and warnings as failures
    #[arg(long)]
    pub strict: bool,
    /// Also fail, with exit code 1, where a task passed only after a failure
    #[arg(long, value_name = "WHAT")]
    pub fail_on: Option<FailOn>,
    /// Print the plan with the reason for each task, start nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Keep no record: no --resume, no `apm run show`, no learned durations
    #[arg(long)]
    pub no_journal: bool,
    /// What goes to standard output
    #[arg(long, value_name = "FORMAT", help_heading = "Output")]
    pub format: Option<Format>,
    /// Write a report to a file as well, whose folder is made; repeatable, for instance -o junit=report.xml -o html=report.html
    #[arg(short, long, value_name = "FORMAT=FILE", help_heading = "Output")]
    pub output: Vec<OsString>,
}

/// How commands are confined.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxWord {
    /// Wholly, or not started.
    Require,
    /// As far as this machine can.
    Best,
    /// Not, where the plan does not ask for it.
    Off,
}

impl SandboxWord {
    /// The word on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Require => "require",
            Self::Best => "best",
            Self::Off => "off",
        }
    }
}

/// What fails a run besides failures.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailOn {
    /// A task that passed only after a failure.
    Flaky,
}

/// Formats of a report.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// For people.
    Text,
    /// One document.
    Json,
    /// The event stream, one event a line, as it happens.
    Ndjson,
    /// JUnit XML.
    Junit,
    /// Markdown.
    Markdown,
    /// One self-contained page.
    Html,
    /// Trace events for Perfetto.
    Trace,
    /// Annotations of GitHub workflows.
    Github,
}

impl Format {
    /// The word on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Junit => "junit",
            Self::Markdown => "markdown",
            Self::Html => "html",
            Self::Trace => "trace",
            Self::Github => "github",
        }
    }
}

/// Find what there is to check in this repository and check it
///
/// Formatters, linters, type checkers, builds, tests (doctests too), audits and documentation of Rust, Python, Node,
/// Go, shell, Docker, GitHub workflows, YAML, Markdown, C and C++, and the project's own targets. A tool that is
/// missing is reported with the command that installs it.
#[derive(Args, Debug)]
pub struct Qa {
    /// The repository, or a folder in it
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Only these categories (format, lint, types, build, tests, audit, docs), tools or task ids
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Leave these categories, tools or task ids out
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub skip: Vec<String>,
    /// Let formatters and linters change files, then check
    #[arg(long)]
    pub fix: bool,
    /// Options of every run.
    #[command(flatten)]
    pub options: Options,
}

/// Run a command once for each value, as xargs and GNU parallel do
///
/// Values follow `:::` (several groups are combined, `:::+` pairs one with the group before), come from files named
/// after `::::` or `::::+`, or are lines of standard input. Replaced in the command: {} the value, {.} without extension, {/} its base name, {//} its folder,
/// {/.} base name without extension, {#} sequence number, {%} slot, {1} {2} ... columns or groups, {1.} {2/} and so on.
/// Without any of them the value is appended. The command is executed directly; --shell hands it to a shell.
#[derive(Args, Debug)]
pub struct Each {
    /// Values are separated by NUL characters, not line breaks
    #[arg(short = '0', long)]
    pub null: bool,
    /// Split each value into columns {1} {2} ... at this text, no regular expression; \t is a tab
    #[arg(long, value_name = "TEXT")]
    pub colsep: Option<String>,
    /// Pass up to N values to each command, as many as fit
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "colsep")]
    pub max_args: Option<usize>,
    /// Read values from this file, not from standard input
    #[arg(short = 'a', long, value_name = "FILE")]
    pub arg_file: Option<PathBuf>,
    /// Print outputs in the order of the values
    #[arg(short, long)]
    pub keep_order: bool,
    /// Print output lines as they come, not a whole task at a time
    #[arg(long, visible_alias = "lb", conflicts_with = "keep_order")]
    pub line_buffer: bool,
    /// Put the value and a tab before each line of output
    #[arg(long)]
    pub tag: bool,
    /// When to stop: never, or now|soon,fail|success|done=N or N%
    #[arg(long, value_name = "WHEN", default_value = "never")]
    pub halt: String,
    /// Write a table of what ran, as GNU parallel does
    #[arg(long, value_name = "FILE")]
    pub joblog: Option<PathBuf>,
    /// Print progress and an estimate of the rest, also where standard error is no terminal
    #[arg(long)]
    pub eta: bool,
    /// Hand the command to /bin/sh; values are quoted
    #[arg(long)]
    pub shell: bool,
    /// Options of every run.
    #[command(flatten)]
    pub options: Options,
    /// The command with its placeholders, then `:::` and values
    #[arg(value_name = "COMMAND", trailing_var_arg = true, required = true)]
    pub command: Vec<OsString>,
}

/// List recorded runs, newest first
#[derive(Args, Debug)]
pub struct List {
    /// How many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// What goes to standard output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: ListFormat,
}

/// Formats of a list.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListFormat {
    /// For people.
    Text,
    /// One document.
    Json,
}

/// Show a recorded run, or the output of one of its tasks
#[derive(Args, Debug)]
pub struct Show {
    /// The run: its name, the start of it, or `last`
    #[arg(value_name = "RUN", default_value = "last")]
    pub run: String,
    /// Print what this task wrote, both streams, whole
    #[arg(value_name = "TASK")]
    pub task: Option<String>,
    /// Print the output of this attempt of the task, not of the last one
    #[arg(long, value_name = "N", requires = "task")]
    pub attempt: Option<u32>,
    /// Say what each unfinished task waits for: needs, resources and who holds them, memory, back-off, pause
    #[arg(long, conflicts_with_all = ["task", "output"])]
    pub waiting: bool,
    /// What goes to standard output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
    /// Write a report to a file as well; repeatable
    #[arg(short, long, value_name = "FORMAT=FILE")]
    pub output: Vec<OsString>,
}

/// Follow a run from another terminal, until it ends
///
/// Shows the progress that the terminal of the run shows, and ends with the summary and the exit code of the run. A run that
/// has ended shows its summary at once. Reads the journal of the run, which costs the run nothing.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
        apm run watch                              the newest run\n  \
        apm run watch last --output build          what the task `build` prints, as it prints it")]
pub struct Watch {
    /// The run: its name, the start of it, or `last`
    #[arg(value_name = "RUN", default_value = "last")]
    pub run: String,
    /// Follow the output of this task; ends with it, with exit code 1 if it does not pass
    #[arg(long, value_name = "TASK", conflicts_with = "format")]
    pub output: Option<String>,
    /// What goes to standard output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: WatchFormat,
}

/// Formats of a run that is followed.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchFormat {
    /// Progress on standard error, the summary at the end.
    Text,
    /// The events, one a line, from the first on.
    Ndjson,
}

/// A run that goes on, or some of its tasks
///
/// Without tasks the whole run is meant. A paused task is stopped where it is (SIGSTOP): its slot is free for others, its
/// time limit stands still; it keeps its memory and the resources it uses. A cancelled task gets SIGTERM, then SIGKILL, and
/// stays cancelled when the run is resumed. Exit code 2 if the run refuses, 3 if it cannot be reached, 4 if none goes on.
#[derive(Args, Debug)]
pub struct Steer {
    /// The run: its name, the start of it, or `last`; the one that goes on where absent
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Tasks; the whole run where absent
    #[arg(value_name = "TASK")]
    pub tasks: Vec<String>,
    /// What goes to standard output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: ListFormat,
}

/// Change limits and priorities of a run that goes on
///
/// The changes hold at once and for a resume too. Fewer agents end nothing: attempts beyond the number end in their own
/// time. Over a smaller memory ceiling the youngest attempts are put back into the queue.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
        apm run set --agents 8                     eight tasks at a time from now on\n  \
        apm run set last --priority deploy=5       start `deploy` before the others")]
pub struct Set {
    /// The run: its name, the start of it, or `last`; the one that goes on where absent
    #[arg(value_name = "RUN")]
    pub run: Option<String>,
    /// Tasks at once
    #[arg(short = 'j', long, visible_alias = "jobs", value_name = "N", required_unless_present_any = ["priority", "memory", "resource"])]
    pub agents: Option<u32>,
    /// Priority of a task; repeatable
    #[arg(long, value_name = "TASK=N")]
    pub priority: Vec<String>,
    /// Memory ceiling of the whole run, for instance 4GiB
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Capacity of a named resource; repeatable
    #[arg(long, value_name = "NAME=N")]
    pub resource: Vec<String>,
    /// What goes to standard output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: ListFormat,
}

/// Add the tasks of a plan file to a run that goes on
///
/// All of them or none: a plan that the run cannot take is refused with the reason, and the run goes on. Tasks may need
/// tasks of the run. Folders are relative to the folder that the run was started in.
#[derive(Args, Debug)]
pub struct Add {
    /// The run (the one that goes on where absent), and the plan file; `-` is standard input
    #[arg(value_names = ["RUN", "FILE"], required = true, num_args = 1..=2)]
    pub words: Vec<OsString>,
    /// What goes to standard output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: ListFormat,
}
