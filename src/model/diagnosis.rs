//! What the doctor found: findings with their evidence, those responsible, and what to do. The JSON report is this.

use serde::{Deserialize, Serialize, Serializer};

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
    #[serde(serialize_with = "short")]
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
    /// Findings of other rules that this one explains: the throttled group behind tasks that wait for a CPU.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub symptoms: Vec<Finding>,
}

impl Finding {
    /// It, then those that it explains.
    pub fn with_symptoms(&self) -> impl Iterator<Item = &Finding> {
        std::iter::once(self).chain(&self.symptoms)
    }
}

/// Where a rule begins to speak.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// From here on a warning.
    #[serde(serialize_with = "short_option")]
    pub warn: Option<f64>,
    /// From here on critical, if a second signal agrees.
    #[serde(serialize_with = "short_option")]
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
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "short_option")]
    pub before: Option<f64>,
    /// Its value at the end.
    #[serde(serialize_with = "short")]
    pub after: f64,
    /// Its unit. Times that are summed over several CPUs or requests are `cpu-us` and `request-ms`.
    pub unit: String,
}

impl Evidence {
    /// Growth a second, of a counter that was read at both ends of a window of so many seconds. Time on CPUs is added
    /// when a stop ends, together with what of it lies before the window: it has no rate.
    pub fn rate(&self, seconds: f64) -> Option<f64> {
        let is_counter = !self.unit.contains('%') && !self.unit.contains('/') && self.unit != "cpu-us";
        let rate = (self.after - self.before.filter(|_| is_counter)?) / seconds.max(1e-6);
        rate.is_finite().then_some(rate)
    }
}

/// Who causes a finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Culprit {
    /// `process`, `cgroup`, `mount`, `device`, `interface`, `peer`, `slab`, or `memory` that no process has.
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
    /// The command ends, stops or slows down something that runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupts: bool,
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// `apm.doctor/1`.
    pub schema: String,
    /// The machine.
    pub host: HostFacts,
    /// Length of the window, seconds.
    #[serde(serialize_with = "short")]
    pub window_s: f64,
    /// Findings, worst first; before them the answer to `--pid` or `--cgroup`.
    pub findings: Vec<Finding>,
    /// How many of each.
    pub summary: Summary,
    /// Rules that found nothing.
    pub ok: Vec<String>,
    /// Rules that could not look.
    pub skipped: Vec<Skipped>,
    /// How loaded the machine was.
    pub vitals: Vitals,
}

/// How many of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Critical findings.
    pub crit: usize,
    /// Warnings.
    pub warn: usize,
    /// Findings worth knowing.
    pub info: usize,
    /// Rules that found nothing.
    pub ok: usize,
    /// Rules that could not look.
    pub skipped: usize,
}

/// How loaded the machine was, whatever the rules say: for gauges and pictures. What could not be read is not in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Vitals {
    /// Of `cpu`, `memory`, `io`: share of the time in which tasks waited for it.
    pub pressure: Vec<Stalled>,
    /// What the CPUs did in the window, percent of all their time.
    pub cpu: Vec<Part>,
    /// What the memory holds at the end, bytes.
    pub memory: Vec<Part>,
}

/// Time lost waiting for a resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stalled {
    /// `cpu`, `memory` or `io`.
    pub resource: String,
    /// At least one task waited.
    pub some: Share,
    /// All tasks waited.
    pub full: Share,
}

/// A share of time, percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Of the window; absent where there was one look only.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "short_option")]
    pub window: Option<f64>,
    /// Of the last 10 s.
    #[serde(serialize_with = "short")]
    pub avg10: f64,
    /// Of the last 60 s.
    #[serde(serialize_with = "short")]
    pub avg60: f64,
    /// Of the last 300 s.
    #[serde(serialize_with = "short")]
    pub avg300: f64,
}

/// A part of a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Which.
    pub name: String,
    /// How much.
    #[serde(serialize_with = "short")]
    pub value: f64,
}

/// What there is to know of a rule: `--list-rules`, `--explain`, and the help in reports.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleFacts {
    /// `mem.available`.
    pub id: String,
    /// Its area.
    pub area: Area,
    /// What is wrong when it speaks.
    pub title: String,
    /// Files and fields it reads.
    pub source: String,
    /// How the value follows from them.
    pub computation: String,
    /// Unit of value and thresholds.
    pub unit: String,
    /// `above` or `below`: on which side of the thresholds it is bad.
    pub bad: String,
    /// The thresholds in effect.
    #[serde(serialize_with = "short_option")]
    pub warn: Option<f64>,
    /// See `warn`.
    #[serde(serialize_with = "short_option")]
    pub crit: Option<f64>,
    /// Where the thresholds come from.
    pub thresholds_from: String,
    /// What usually helps.
    pub remedy: String,
}

/// The machine in a line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Release of the kernel.
    pub kernel: String,
    /// CPUs online.
    pub cpus: u32,
    /// CPUs' worth of time that apm may take: affinity and quotas.
    #[serde(serialize_with = "short")]
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

impl Severity {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Crit => "crit",
        }
    }

    /// The severity of a word; none of another word, such as `never`.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Info, Self::Warn, Self::Crit].into_iter().find(|severity| severity.word() == word)
    }
}

/// Whole numbers without `.0`: most values are counters.
fn short<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    // 2^53: up to there every whole number is exact.
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        serializer.serialize_i64(*value as i64)
    } else {
        serializer.serialize_f64(*value)
    }
}

fn short_option<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => short(value, serializer),
        None => serializer.serialize_none(),
    }
}

impl Diagnosis {
    /// How many findings of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}
