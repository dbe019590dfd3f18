//! The settings that the commands use, in their types. Keys that wait for their system stay in the layers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::environment::Environment;
use crate::config::layers::{self, ConfigError, Merged, Sources, Value};
use crate::config::repository;
use crate::model::diagnosis::Severity;
use crate::model::sandbox::SandboxMode;
use crate::model::task::IoPriority;
use crate::model::tier::{Tier, Tiers};
use crate::model::unit::{Bytes, Percent};

/// Buffer size in memory-saving mode.
const SAVING_BUFFER: usize = 4 << 10;

/// Typed settings.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) agents_max: Option<u32>,
    pub(crate) cpu_ceiling: Option<Percent>,
    pub(crate) memory_ceiling: Option<Bytes>,
    pub(crate) io_priority: Option<IoPriority>,
    pub(crate) nice: Option<i32>,
    pub(crate) queue_max: usize,
    pub(crate) computing_threads: Option<usize>,
    pub(crate) journal_async: bool,
    pub(crate) pool_initial: Option<u32>,
    pub(crate) pool_max: Option<u32>,
    pub(crate) scale_factor: f64,
    pub(crate) idle_timeout: Duration,
    pub(crate) agent_memory: Option<Bytes>,
    pub(crate) agent_cpu: Option<Percent>,
    pub(crate) agent_timeout: Option<Duration>,
    pub(crate) result_buffer: usize,
    pub(crate) interval: Duration,
    pub(crate) preload: bool,
    pub(crate) cpu_threshold: Option<Percent>,
    pub(crate) memory_threshold: Option<Percent>,
    pub(crate) io_threshold: Option<Percent>,
    pub(crate) priority_levels: u32,
    pub(crate) deadline_buffer: Percent,
    pub(crate) buffer: usize,
    pub(crate) gc_interval: Duration,
    pub(crate) keep_runs: usize,
    pub(crate) output_limit: Option<Bytes>,
    pub(crate) runtime_presets: bool,
    pub(crate) workload: Option<Workload>,
    pub(crate) grace: Duration,
    pub(crate) cleanup_time: Duration,
    pub(crate) retries: u32,
    pub(crate) sandbox: SandboxMode,
    pub(crate) retry_delay: Duration,
    pub(crate) retry_delay_max: Duration,
    pub(crate) memory_reserve: Percent,
    /// Capacities of named resources.
    pub(crate) resources: BTreeMap<String, u64>,
    pub(crate) qa_only: Vec<String>,
    pub(crate) qa_skip: Vec<String>,
    pub(crate) qa_strict: bool,
    pub(crate) qa_fail_fast: bool,
    pub(crate) qa_hook_variables: bool,
    pub(crate) doctor: Doctor,
    pub(crate) tiers: Tiers,
}

/// What `apm doctor` does unless its command line says otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Doctor {
    pub(crate) window: Duration,
    /// `None`: never.
    pub(crate) fail_on: Option<Severity>,
    pub(crate) strict: bool,
    pub(crate) only: Vec<String>,
    pub(crate) ignore: Vec<String>,
    /// `RULE=WARN:CRIT`
    pub(crate) thresholds: Vec<String>,
}

/// What the tasks of a run mostly need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    Cpu,
    Memory,
    Io,
    Balanced,
}

impl Workload {
    /// How many agents to start with, and the most: the formula of the specification.
    pub(crate) fn agents(self, cpus: u32, memory: Bytes) -> (u32, u32) {
        let (agents, most) = match self {
            Self::Cpu => (cpus, 8),
            Self::Memory => ((memory.0 >> 31) as u32, 6),
            Self::Io => (cpus.saturating_mul(2), 12),
            Self::Balanced => (cpus.saturating_add(2), 8),
        };
        (agents.clamp(1, most), most)
    }
}

/// Settings with their layers.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) settings: Settings,
    pub(crate) merged: Merged,
}

/// Loads all layers. `extra` is a file given by a flag, `flags` are `key=value` texts with the flag they came from.
pub(crate) fn load(
    environment: &Environment,
    extra: Option<PathBuf>,
    flags: Vec<(String, String)>,
) -> Result<Loaded, ConfigError> {
    let (project, note) = match repository::project_file(environment) {
        Ok(project) => (project, None),
        Err(note) => (None, Some(note)),
    };
    let (user, other_note) = match repository::user_file(environment) {
        Ok(user) => (user, None),
        Err(note) => (None, Some(note)),
    };
    // Judged once more when it is open: it may be another one by then.
    let owners = user.iter().map(|path| (path.clone(), repository::owners(environment, None))).collect();
    let mut files: Vec<PathBuf> = user.into_iter().collect();
    files.extend(project.clone());
    files.extend(extra.map(|path| environment.cwd.join(path)));
    let mut merged =
        layers::merge(&Sources { files, owners, project, variables: environment.variables.clone(), flags })?;
    merged.warnings.extend(note.into_iter().chain(other_note));
    Ok(Loaded::of(merged))
}

impl Loaded {
    /// The settings of layers.
    pub(crate) fn of(merged: Merged) -> Self {
        Self { settings: typed(&merged), merged }
    }
}

fn typed(merged: &Merged) -> Settings {
    let number = |path: &str| match merged.get(path) {
        Some((Value::Number(number), _)) => Some(*number),
        _ => None,
    };
    let whole = |path: &str| number(path).map(|n| n as u32);
    // The table gives these a default; the second value is never reached.
    let count = |path: &str| number(path).unwrap_or(1.0) as usize;
    let seconds = |path: &str| Duration::from_secs_f64(number(path).unwrap_or(1.0));
    let millis = |path: &str| Duration::from_millis(number(path).unwrap_or(1.0) as u64);
    let flag = |path: &str| matches!(merged.get(path), Some((Value::Bool(true), _)));
    let texts = |path: &str| match merged.get(path) {
        Some((Value::Texts(texts), _)) => texts.clone(),
        _ => Vec::new(),
    };
    let percent = |path: &str| number(path).map(Percent);
    let mib = |path: &str| number(path).map(|n| Bytes((n * 1_048_576.0) as u64));
    let io_priority = match merged.get("performance.resource_allocation.io_priority") {
        Some((Value::Text(word), _)) => match word.as_str() {
            "realtime" => Some(IoPriority::Realtime),
            "high" => Some(IoPriority::High),
            "normal" => Some(IoPriority::Normal),
            "low" => Some(IoPriority::Low),
            _ => Some(IoPriority::Idle),
        },
        _ => None,
    };
    let buffer = if flag("memory.optimization") { SAVING_BUFFER } else { count("memory.buffer_size_kb") << 10 };
    Settings {
        agents_max: whole("performance.resource_allocation.max_concurrent_agents"),
        cpu_ceiling: percent("performance.resource_allocation.cpu_percent_limit"),
        memory_ceiling: number("performance.resource_allocation.memory_limit_gb")
            .map(|n| Bytes((n * 1_073_741_824.0) as u64)),
        io_priority,
        nice: number("performance.resource_allocation.nice_level").map(|n| n as i32),
        queue_max: count("performance.thread_management.max_queue_size"),
        computing_threads: whole("performance.thread_management.thread_pool_size").map(|n| n as usize),
        journal_async: flag("performance.thread_management.async_operations"),
        pool_initial: whole("sub_agents.pool_configuration.initial_size"),
        pool_max: whole("sub_agents.pool_configuration.max_size"),
        scale_factor: number("sub_agents.pool_configuration.scale_factor").unwrap_or(2.0),
        idle_timeout: seconds("sub_agents.pool_configuration.idle_timeout_seconds"),
        agent_memory: mib("sub_agents.resource_limits.per_agent_memory_mb"),
        agent_cpu: percent("sub_agents.resource_limits.per_agent_cpu_percent"),
        agent_timeout: number("sub_agents.resource_limits.max_execution_time_seconds").map(Duration::from_secs_f64),
        result_buffer: count("sub_agents.coordination.result_buffer_size"),
        interval: millis("sub_agents.coordination.sync_interval_ms"),
        preload: flag("sub_agents.optimization.preload_common_modules"),
        cpu_threshold: percent("scheduling.strategies.resource_aware.cpu_threshold"),
        memory_threshold: percent("scheduling.strategies.resource_aware.memory_threshold"),
        io_threshold: percent("scheduling.strategies.resource_aware.io_threshold"),
        priority_levels: whole("scheduling.strategies.priority_based.priority_levels").unwrap_or(5),
        deadline_buffer: percent("scheduling.strategies.deadline_aware.deadline_buffer_percent").unwrap_or_default(),
        buffer,
        gc_interval: seconds("memory.gc_interval_seconds"),
        keep_runs: count("run.keep_runs"),
        output_limit: mib("run.output_limit_mb"),
        runtime_presets: flag("run.runtime_presets"),
        workload: match merged.get("run.workload") {
            Some((Value::Text(word), _)) => match word.as_str() {
                "cpu_intensive" => Some(Workload::Cpu),
                "memory_intensive" => Some(Workload::Memory),
                "io_intensive" => Some(Workload::Io),
                _ => Some(Workload::Balanced),
            },
            _ => None,
        },
        grace: seconds("run.grace_seconds"),
        cleanup_time: seconds("run.cleanup_seconds"),
        sandbox: match merged.get("run.sandbox") {
            Some((Value::Text(word), _)) => SandboxMode::of(word).unwrap_or_default(),
            _ => SandboxMode::Off,
        },
        retries: whole("run.retries").unwrap_or(0),
        retry_delay: millis("run.retry_delay_ms"),
        retry_delay_max: millis("run.retry_delay_max_ms"),
        memory_reserve: percent("run.memory_reserve_percent").unwrap_or_default(),
        resources: texts("run.resources")
            .iter()
            .filter_map(|text| {
                let (name, capacity) = text.split_once('=')?;
                Some((name.to_owned(), capacity.parse().ok()?))
            })
            .collect(),
        qa_only: texts("qa.only"),
        qa_skip: texts("qa.skip"),
        qa_strict: flag("qa.strict"),
        qa_fail_fast: flag("qa.fail_fast"),
        qa_hook_variables: flag("qa.hook_variables"),
        doctor: Doctor {
            window: seconds("doctor.window_seconds"),
            fail_on: match merged.get("doctor.fail_on") {
                Some((Value::Text(word), _)) => Severity::from_word(word),
                _ => None,
            },
            strict: flag("doctor.strict"),
            only: texts("doctor.only"),
            ignore: texts("doctor.ignore"),
            thresholds: texts("doctor.thresholds"),
        },
        tiers: Tiers(["minimum", "recommended", "enterprise"].map(|name| {
            // The table gives these a default; zero is never reached.
            let of = |key: &str| number(&format!("hardware.{name}.{key}")).unwrap_or_default();
            Tier {
                cores: of("cpu_cores"),
                ghz: of("cpu_ghz"),
                memory: Bytes((of("memory_gb") * 1_073_741_824.0) as u64),
                storage: of("storage_gb") * 1e9,
                mbps: of("network_mbps"),
            }
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::typed;
    use crate::config::layers::{Sources, merge};
    use crate::model::tier::Tiers;

    #[test]
    fn the_tiers_of_the_table_are_those_of_the_specification() {
        let merged = merge(&Sources::default()).expect("good");
        assert_eq!(typed(&merged).tiers, Tiers::default());
    }
}
