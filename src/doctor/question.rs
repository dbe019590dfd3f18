//! What the user asks the doctor: which rules, with which thresholds, for how many agents.

use crate::model::diagnosis::Area;
use crate::model::tier::Tiers;
use crate::model::unit::Bytes;

/// What the user wants to know beyond what is wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Question {
    /// Only these areas; all but `hardware` where empty.
    pub(crate) areas: Vec<Area>,
    /// Only these rules.
    pub(crate) only: Vec<String>,
    /// Not these rules.
    pub(crate) ignore: Vec<String>,
    /// Other thresholds: rule, warn, crit.
    pub(crate) thresholds: Vec<(String, Option<f64>, Option<f64>)>,
    /// `--probe`.
    pub(crate) reaches: bool,
    /// `--pid` or `--cgroup`.
    pub(crate) focus: bool,
    /// So many agents are to run at once.
    pub(crate) agents: Option<u32>,
    /// What one of them takes.
    pub(crate) agent: AgentSize,
    /// What the size of the machine is held against.
    pub(crate) tiers: Tiers,
}

/// What an agent takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AgentSize {
    pub(crate) memory: Bytes,
    /// Percent of one CPU.
    pub(crate) cpu: f64,
    pub(crate) disk: Bytes,
}

impl Default for AgentSize {
    /// A coding agent with its compiler: what rustc, tsc and the JVM of middling projects take.
    fn default() -> Self {
        Self { memory: Bytes::mib(1536), cpu: 100.0, disk: Bytes::mib(2048) }
    }
}
