//! Words of `apm doctor`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Say what is wrong with this machine, who causes it, on what evidence, and what to do
#[derive(Args, Debug)]
pub struct Doctor {
    /// Only these areas; without any, all but `hardware`
    #[arg(value_name = "AREA")]
    pub areas: Vec<Area>,
    /// How long to look: rates are over this time; `doctor.window_seconds` where not given, else 2s
    #[arg(long, value_name = "TIME")]
    pub duration: Option<String>,
    /// Look for half a second only
    #[arg(long, conflicts_with = "duration")]
    pub quick: bool,
    /// What goes to standard output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
    /// Write a report to a file too, for instance `-o sarif=doctor.sarif`; repeatable
    #[arg(short, long, value_name = "FORMAT=FILE")]
    pub output: Vec<OsString>,
    /// Exit with 1 from findings of this severity on
    #[arg(long, value_name = "SEVERITY")]
    pub fail_on: Option<FailOn>,
    /// Exit with 3 where a rule could not look
    #[arg(long)]
    pub strict: bool,
    /// Only these rules; repeatable, or with commas
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Not these rules; repeatable, or with commas
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    pub ignore: Vec<String>,
    /// Other thresholds for a rule, for instance `mem.available=15:8`; an empty side keeps the rule silent there
    #[arg(long, value_name = "RULE=WARN:CRIT", value_delimiter = ',')]
    pub threshold: Vec<String>,
    /// Also ask nameservers, proxies and hosts (HOST, HOST:PORT or a URL; without any those of *_BASE_URL variables)
    #[arg(long, value_name = "HOST", num_args = 0.., require_equals = true, value_delimiter = ',')]
    pub probe: Option<Vec<String>>,
    /// Explain a rule: what it reads, computes, against which thresholds, and what helps; as text or JSON
    #[arg(long, value_name = "RULE", conflicts_with = "list_rules")]
    pub explain: Option<String>,
    /// List the rules with the thresholds in effect, as text or JSON
    #[arg(long)]
    pub list_rules: bool,
    /// Say why this process, with its threads and children, is not faster
    #[arg(long, value_name = "PID", conflicts_with_all = ["from", "root"])]
    pub pid: Option<i32>,
    /// The same for the processes of a control group, for instance `/system.slice/nginx.service`
    #[arg(long, value_name = "PATH", conflicts_with_all = ["pid", "from", "root"])]
    pub cgroup: Option<String>,
    /// Say what is wrong, then look again and again and say what changes; as ndjson one event a line. Ctrl-C ends it
    #[arg(long, conflicts_with_all = ["from", "save", "duration", "quick", "output", "pid", "cgroup"])]
    pub watch: bool,
    /// How often --watch reads stalls, CPU and memory; everything else it reads every 10 s
    #[arg(long, value_name = "TIME", default_value = "1s", requires = "watch")]
    pub every: String,
    /// Whether so many agents fit at once
    #[arg(long, value_name = "N")]
    pub agents: Option<u32>,
    /// Memory of one agent [default: the configuration's limit for one, else 1.5GiB]
    #[arg(long, value_name = "SIZE")]
    pub agent_memory: Option<String>,
    /// CPU of one agent in percent of one CPU [default: the configuration's limit for one, else 100]
    #[arg(long, value_name = "PERCENT")]
    pub agent_cpu: Option<f64>,
    /// Disk space of one agent's work tree and build
    #[arg(long, value_name = "SIZE", default_value = "2GiB")]
    pub agent_disk: String,
    /// Save what was seen, to be looked at elsewhere with --from; it holds no command lines and no environments
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Look at what was saved instead of this machine
    #[arg(long, value_name = "FILE", conflicts_with_all = ["save", "root", "duration", "quick"])]
    pub from: Option<PathBuf>,
    /// Read the kernel's files below this folder; given twice, the second is the machine at the end of the window
    #[arg(long, value_name = "DIR")]
    pub root: Vec<PathBuf>,
}

/// An area.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// Memory
    Memory,
    /// CPUs
    Cpu,
    /// Disks and file systems
    Io,
    /// The network
    Network,
    /// Processes, limits, the clock
    Process,
    /// Room for agents, and their tools
    Agents,
    /// The size of the machine, against the tiers of the specification
    Hardware,
}

/// Formats of a diagnosis.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people
    Text,
    /// The whole diagnosis, schema apm.doctor/1
    Json,
    /// With --watch: one change a line
    Ndjson,
    /// SARIF 2.1.0
    Sarif,
    /// JUnit XML: a suite an area, a case a rule
    Junit,
    /// Annotations of GitHub workflows
    Github,
    /// Metrics for the textfile collector of Prometheus' node_exporter
    Prometheus,
    /// One self-contained page with charts
    Html,
}

/// From which severity on the exit code is 1.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailOn {
    /// Any finding
    Info,
    /// Warnings
    Warn,
    /// Critical findings (the default)
    Crit,
    /// None
    Never,
}
