//! What the doctor found: findings with their evidence, those responsible, and what to do. The JSON report is this.

use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Something suffers.
    Warn,
    /// Something fails or is about to, and a second signal agrees.
    Crit,
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// Memory.
    Memory,
    /// CPUs.
    Cpu,
    /// Disks and file systems.
    Io,
    /// The network.
    Network,
    /// Processes, limits, the clock.
    Process,
    /// Room for agents, and their tools.
    Agents,
    /// The size of the machine.
    Hardware,
}

impl Area {
    /// Its word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Io => "io",
            Self::Network => "network",
            Self::Process => "process",
            Self::Agents => "agents",
            Self::Hardware => "hardware",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule: `mem.available`.
    pub rule: String,
    /// Its area.
    pub area: Area,
    /// How bad.
    pub severity: Severity,
    /// Independent signals that agree, this one included.
    pub confidence: u32,
    /// What is wrong, in a few words with its number.
    pub title: String,
    /// What was measured.
    pub value: f64,
    /// Its unit: `%`, `B`, `1/s`, `ms`, empty for a count.
    pub unit: String,
    /// What it was held against.
    pub threshold: Threshold,
    /// What was read.
    pub evidence: Vec<Evidence>,
    /// Who causes it, worst first.
    pub culprits: Vec<Culprit>,
    /// What to do, best first.
    pub remedies: Vec<Remedy>,
}

/// Where a rule begins to speak.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// From here on a warning.
    pub warn: Option<f64>,
    /// From here on critical, if a second signal agrees.
    pub crit: Option<f64>,
    /// Who says so.
    pub source: String,
}

/// A counter that was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The file, or the call.
    pub path: String,
    /// Which field of it.
    pub field: String,
    /// Its value at the start of the window; absent where only the end counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<f64>,
    /// Its value at the end.
    pub after: f64,
    /// Its unit.
    pub unit: String,
}

/// Who causes a finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Culprit {
    /// `process`, `cgroup`, `mount`, `device`, `interface`, `peer`, `slab`.
    pub kind: String,
    /// Its number, if it is a process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Its name; hostile until cleaned.
    pub name: String,
    /// What it does, in words with a number: `3.2 GiB`, `95% of a CPU`.
    pub what: String,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remedy {
    /// In words.
    pub text: String,
    /// To be typed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// A rule that could not look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The rule.
    pub rule: String,
    /// Why, with what could not be read.
    pub reason: String,
}

/// The whole verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// `apm.doctor/1`.
    pub schema: String,
    /// The machine.
    pub host: HostFacts,
    /// Length of the window, seconds.
    pub window_s: f64,
    /// Findings, worst first.
    pub findings: Vec<Finding>,
    /// Rules that found nothing.
    pub ok: Vec<String>,
    /// Rules that could not look.
    pub skipped: Vec<Skipped>,
}

/// The machine in a line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Release of the kernel.
    pub kernel: String,
    /// CPUs online.
    pub cpus: u32,
    /// CPUs' worth of time that apm may take: affinity and quotas.
    pub cpus_effective: f64,
    /// Bytes of memory.
    pub memory: u64,
    /// Layout of control groups.
    pub cgroup: String,
    /// In which kind of container apm is; absent on a host.
    pub container: Option<String>,
    /// apm's user.
    pub uid: u32,
}

impl Diagnosis {
    /// How many findings of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}
