//! Every key of the configuration: what it takes, what it means, what one sees of it. One table; reading, checking,
//! `apm config keys` and the documentation follow from it. The names and the nesting are those of the specification.

/// A key.
#[derive(Debug)]
pub(crate) struct KeyInfo {
    pub(crate) path: &'static str,
    pub(crate) takes: Takes,
    /// As it would be written; empty: not set.
    pub(crate) default: &'static str,
    /// Empty where there is none.
    pub(crate) unit: &'static str,
    pub(crate) meaning: &'static str,
    pub(crate) effect: Effect,
}

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Takes {
    Whole(i64, i64),
    Number(f64, f64),
    Bool,
    Choice(&'static [&'static str]),
    Texts,
    /// Texts `NAME=VALUE`, which a file may write as a map too.
    Pairs,
    /// Any shape; checked by the system that uses it.
    Anything,
}

/// What one sees of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// This.
    Works(&'static str),
    /// Nothing yet: for the system named.
    Waits(&'static str),
}

use Effect::{Waits, Works};
use Takes::{Anything, Bool, Choice, Number, Pairs, Texts, Whole};

const fn key(
    path: &'static str,
    takes: Takes,
    default: &'static str,
    unit: &'static str,
    meaning: &'static str,
    effect: Effect,
) -> KeyInfo {
    KeyInfo { path, takes, default, unit, meaning, effect }
}

const IO: Takes = Choice(&["realtime", "high", "normal", "low", "idle"]);
const POOL: Effect = Waits("the connection pool of model agents");
const CACHE: Effect = Waits("the result cache");
const TIERS: Effect = Works("titles and warnings of `apm doctor hardware`");
const BALANCE: Effect = Waits("load balancing across executors");
const SECONDS: Takes = Number(0.0, 31_536_000.0);

/// The table, in the order of the specification.
pub(crate) const KEYS: &[KeyInfo] = &[
    key(
        "performance.resource_allocation.max_concurrent_agents",
        Whole(1, 10_000),
        "",
        "tasks",
        "tasks running at once, at most; the usable CPUs where not set",
        Works("running tasks; `pool.max` of the first event"),
    ),
    key(
        "performance.resource_allocation.cpu_percent_limit",
        Number(1.0, 100.0),
        "",
        "% of the machine",
        "CPU ceiling of the whole run",
        Works("the run's cpu.max or cfs_quota, else pauses; `ceilings` of the first event"),
    ),
    key(
        "performance.resource_allocation.memory_limit_gb",
        Number(0.001, 1_048_576.0),
        "",
        "GiB",
        "memory ceiling of the whole run",
        Works("the run's memory.max, admission, tasks put back"),
    ),
    key(
        "performance.resource_allocation.io_priority",
        IO,
        "",
        "",
        "I/O priority of all tasks",
        Works("`ionice -p` of every task"),
    ),
    key(
        "performance.resource_allocation.nice_level",
        Whole(-20, 19),
        "",
        "",
        "nice level of all tasks",
        Works("`ps -o ni` of every task"),
    ),
    key(
        "performance.thread_management.worker_threads",
        Whole(1, 256),
        "",
        "threads",
        "threads of the runtime on which sessions of model agents run",
        Waits("model agents"),
    ),
    key(
        "performance.thread_management.max_queue_size",
        Whole(1, 10_000_000),
        "1000",
        "tasks",
        "tasks read ahead of the free slots; then their source waits",
        Works("`engine.queue_max` and `queue_full` of the report"),
    ),
    key(
        "performance.thread_management.thread_pool_size",
        Whole(1, 256),
        "",
        "threads",
        "threads for digests and other computing; the usable CPUs where not set",
        Works("threads named apm-cpu while inputs are digested"),
    ),
    key(
        "performance.thread_management.async_operations",
        Bool,
        "true",
        "",
        "force the journal to the disk beside the run; false: before each action",
        Works("`engine.journal_syncs` of the report"),
    ),
    key(
        "sub_agents.pool_configuration.initial_size",
        Whole(1, 10_000),
        "",
        "slots",
        "slots at the start; the largest size where not set",
        Works("`pool.initial` of the first event, running tasks"),
    ),
    key(
        "sub_agents.pool_configuration.max_size",
        Whole(1, 10_000),
        "",
        "slots",
        "slots at most; max_concurrent_agents where not set, and never above it",
        Works("`pool.max` of the first event, running tasks"),
    ),
    key(
        "sub_agents.pool_configuration.scale_factor",
        Number(1.0, 100.0),
        "2.0",
        "",
        "growth of the pool while tasks wait",
        Works("pool_resized events"),
    ),
    key(
        "sub_agents.pool_configuration.idle_timeout_seconds",
        SECONDS,
        "300",
        "s",
        "slots unused for so long go away again",
        Works("pool_resized events"),
    ),
    key(
        "sub_agents.resource_limits.per_agent_memory_mb",
        Number(1.0, 1_048_576.0),
        "",
        "MiB",
        "memory of one attempt, its whole process tree",
        Works("outcome `over limit`"),
    ),
    key(
        "sub_agents.resource_limits.per_agent_cpu_percent",
        Number(1.0, 102_400.0),
        "",
        "% of one CPU",
        "CPU rate of one attempt",
        Works("CPU time against wall time of a task"),
    ),
    key(
        "sub_agents.resource_limits.max_execution_time_seconds",
        SECONDS,
        "",
        "s",
        "time of one attempt; 0 means no limit",
        Works("outcome `timed out`"),
    ),
    key(
        "sub_agents.coordination.result_buffer_size",
        Whole(1, 1_000_000),
        "10000",
        "messages",
        "pieces of live output that may wait to be taken, at most 64 MiB of them",
        Works("`engine.buffer_capacity` of the report"),
    ),
    key(
        "sub_agents.coordination.sync_interval_ms",
        Whole(10, 60_000),
        "100",
        "ms",
        "interval of sampling, display and forcing the journal to the disk",
        Works("distance of `sampled` events"),
    ),
    key(
        "sub_agents.coordination.conflict_resolution",
        Choice(&["priority_based", "first_wins", "last_wins", "manual"]),
        "priority_based",
        "",
        "what wins when results contradict each other",
        Waits("the merge queue"),
    ),
    key(
        "sub_agents.optimization.preload_common_modules",
        Bool,
        "true",
        "",
        "find the programs of the plan before the first start",
        Works("a missing program is named before anything runs"),
    ),
    key("sub_agents.optimization.cache_frequent_operations", Bool, "true", "", "use the result cache", CACHE),
    key("sub_agents.optimization.compress_large_payloads", Bool, "true", "", "compress what is stored and sent", CACHE),
    key("sub_agents.optimization.use_connection_pooling", Bool, "true", "", "keep connections open", POOL),
    key(
        "scheduling.strategies.resource_aware.cpu_threshold",
        Number(1.0, 100.0),
        "",
        "% busy",
        "start nothing while the machine's CPUs are busier",
        Works("admission_changed events"),
    ),
    key(
        "scheduling.strategies.resource_aware.memory_threshold",
        Number(1.0, 100.0),
        "",
        "% in use",
        "start nothing while more of the machine's memory is in use",
        Works("admission_changed events"),
    ),
    key(
        "scheduling.strategies.resource_aware.io_threshold",
        Number(1.0, 100.0),
        "",
        "% stalled",
        "start nothing while more of the time is lost waiting for I/O (PSI some)",
        Works("admission_changed events"),
    ),
    key(
        "scheduling.strategies.priority_based.priority_levels",
        Whole(1, 100),
        "5",
        "levels",
        "priorities of a plan go from 0 to one less",
        Works("a higher priority in a plan is refused"),
    ),
    key(
        "scheduling.strategies.priority_based.preemption_enabled",
        Bool,
        "false",
        "",
        "higher priorities pause running tasks",
        Waits("preemption"),
    ),
    key(
        "scheduling.strategies.deadline_aware.deadline_buffer_percent",
        Number(0.0, 1000.0),
        "20",
        "% of the duration",
        "how much earlier a task with a deadline presses",
        Works("order of starts"),
    ),
    key(
        "scheduling.strategies.deadline_aware.late_task_penalty",
        Number(0.0, 1000.0),
        "2.0",
        "",
        "weight of late tasks",
        Waits("preemption"),
    ),
    key(
        "scheduling.load_balancing.algorithm",
        Choice(&["weighted_round_robin", "least_loaded", "score"]),
        "weighted_round_robin",
        "",
        "choice of an executor or endpoint",
        BALANCE,
    ),
    key("scheduling.load_balancing.health_check_interval", SECONDS, "30", "s", "interval of health checks", BALANCE),
    key("scheduling.load_balancing.failover_enabled", Bool, "true", "", "use another when one fails", BALANCE),
    key("scheduling.load_balancing.auto_scaling", Bool, "true", "", "more or fewer as needed", BALANCE),
    key("caching.l1_cache.type", Choice(&["in_memory"]), "in_memory", "", "first tier", CACHE),
    key("caching.l1_cache.size_mb", Whole(1, 1_048_576), "128", "MiB", "its size", CACHE),
    key("caching.l1_cache.ttl_seconds", SECONDS, "300", "s", "its time to live", CACHE),
    key("caching.l1_cache.eviction_policy", Choice(&["lru"]), "lru", "", "what goes first", CACHE),
    key("caching.l2_cache.type", Choice(&["redis"]), "redis", "", "second tier", CACHE),
    key("caching.l2_cache.size_mb", Whole(1, 1_048_576), "1024", "MiB", "its size", CACHE),
    key("caching.l2_cache.ttl_seconds", SECONDS, "3600", "s", "its time to live", CACHE),
    key("caching.l2_cache.cluster_nodes", Texts, "", "host:port", "its servers", CACHE),
    key("caching.l3_cache.type", Choice(&["disk"]), "disk", "", "third tier", CACHE),
    key("caching.l3_cache.size_gb", Number(0.001, 1_048_576.0), "10", "GiB", "its size", CACHE),
    key("caching.l3_cache.ttl_seconds", SECONDS, "86400", "s", "its time to live", CACHE),
    key("caching.l3_cache.compression", Choice(&["lz4", "none"]), "lz4", "", "how it is compressed", CACHE),
    key("network.connection_pooling.enabled", Bool, "true", "", "keep connections open", POOL),
    key("network.connection_pooling.pool_size", Whole(1, 10_000), "20", "connections", "kept open", POOL),
    key(
        "network.connection_pooling.max_overflow",
        Whole(0, 10_000),
        "30",
        "connections",
        "opened beyond the pool",
        POOL,
    ),
    key("network.connection_pooling.timeout_seconds", SECONDS, "30", "s", "wait for a connection", POOL),
    key("network.connection_pooling.retry_attempts", Whole(0, 100), "3", "", "tries of a request", POOL),
    key("network.compression.enabled", Bool, "true", "", "compress requests", POOL),
    key("network.compression.algorithm", Choice(&["gzip"]), "gzip", "", "how", POOL),
    key("network.compression.level", Whole(1, 9), "6", "", "how hard", POOL),
    key("network.compression.min_size_bytes", Whole(0, 1_000_000_000), "1024", "bytes", "from which size on", POOL),
    key("network.keep_alive.enabled", Bool, "true", "", "keep idle connections", POOL),
    key("network.keep_alive.idle_timeout", SECONDS, "60", "s", "how long", POOL),
    key("network.keep_alive.max_requests", Whole(1, 1_000_000), "1000", "", "requests on one connection", POOL),
    key("network.circuit_breaker.failure_threshold", Whole(1, 10_000), "5", "", "failures that open the breaker", POOL),
    key("network.circuit_breaker.recovery_timeout", SECONDS, "30", "s", "until it is tried again", POOL),
    key("network.circuit_breaker.half_open_max_calls", Whole(1, 10_000), "3", "", "calls of that trial", POOL),
    key("performance_tests", Anything, "", "", "load, stress and endurance tests", Waits("`apm bench`")),
    key(
        "metrics",
        Anything,
        "",
        "",
        "figures of a run, in the form the reports write them",
        Waits("`apm bench`; it is an output, not an input"),
    ),
    key(
        "memory.optimization",
        Bool,
        "false",
        "",
        "keep less in memory: buffers of 4 KiB (APM_MEMORY_OPTIMIZATION)",
        Works("files of outputs over 4 KiB in the run's folder"),
    ),
    key(
        "memory.cache_size_mb",
        Whole(1, 1_048_576),
        "128",
        "MiB",
        "first tier of the result cache (APM_CACHE_SIZE_MB)",
        CACHE,
    ),
    key(
        "memory.buffer_size_kb",
        Whole(4, 16_384),
        "64",
        "KiB",
        "one read of a task's output, its pipe, and what is kept in memory of it (APM_BUFFER_SIZE_KB)",
        Works("size of a task's pipe; files of larger outputs in the run's folder"),
    ),
    key(
        "memory.gc_interval_seconds",
        SECONDS,
        "3600",
        "s",
        "how often old runs are removed (APM_GC_INTERVAL_SEC)",
        Works("runs in the state directory"),
    ),
    key(
        "run.keep_runs",
        Whole(1, 1_000_000),
        "100",
        "runs",
        "recorded runs that are kept",
        Works("runs in the state directory"),
    ),
    key(
        "run.output_limit_mb",
        Number(0.001, 1_048_576.0),
        "",
        "MiB",
        "kept on disk of each output stream, beyond it only the end; where not set 64, and all of what is passed on",
        Works("`truncated` of an output"),
    ),
    key(
        "run.runtime_presets",
        Bool,
        "true",
        "",
        "tell Go, Node, the JVM, Rust and OpenMP of a task's memory and CPU limits, in variables that are not set",
        Works("GOMEMLIMIT, NODE_OPTIONS, JAVA_OPTS, GOMAXPROCS and others in the task's environment"),
    ),
    key(
        "run.workload",
        Choice(&["cpu_intensive", "memory_intensive", "io_intensive", "balanced"]),
        "",
        "",
        "what tasks need: the number of agents starts by formula, then grows while the CPUs have room",
        Works("`pool` of the first event; pool_resized events"),
    ),
    key(
        "run.grace_seconds",
        Number(0.0, 3600.0),
        "5",
        "s",
        "between TERM and KILL",
        Works("the end of a task that ignores TERM"),
    ),
    key(
        "run.cleanup_seconds",
        Number(0.0, 3600.0),
        "60",
        "s",
        "how long tasks with `when: always` may run after Ctrl-C, TERM, `apm run cancel` or the deadline",
        Works("a task with `when: always` after Ctrl-C"),
    ),
    key(
        "run.sandbox",
        Choice(&["off", "best", "require"]),
        "off",
        "",
        "how commands are confined: not, as far as this machine can, or wholly or not at all",
        Works("`confinement` of attempt_finished events"),
    ),
    key(
        "run.retries",
        Whole(0, 1000),
        "0",
        "",
        "attempts after a failed first one",
        Works("attempts of a failing task"),
    ),
    key(
        "run.retry_delay_ms",
        Whole(0, 3_600_000),
        "200",
        "ms",
        "before the first retry; doubles with each",
        Works("`retry` of attempt_finished events"),
    ),
    key(
        "run.retry_delay_max_ms",
        Whole(0, 86_400_000),
        "30000",
        "ms",
        "bound of that delay",
        Works("`retry` of attempt_finished events"),
    ),
    key(
        "run.memory_reserve_percent",
        Number(0.0, 90.0),
        "10",
        "% of the machine",
        "memory never admitted against",
        Works("admission_changed events"),
    ),
    key(
        "run.resources",
        Pairs,
        "",
        "NAME: CAPACITY",
        "resources that tasks name in `uses`, for instance `db: 2`; those of a plan file win",
        Works("`resources` of the first event, `apm run show RUN --waiting`"),
    ),
    key("qa.only", Texts, "", "", "categories or tools to run", Works("the plan of `apm run qa`")),
    key("qa.skip", Texts, "", "", "categories or tools to leave out", Works("the plan of `apm run qa`")),
    key(
        "qa.strict",
        Bool,
        "false",
        "",
        "warnings fail, what was skipped counts as incomplete",
        Works("exit code of `apm run qa`"),
    ),
    key(
        "qa.hook_variables",
        Bool,
        "false",
        "",
        "checks get the variables that git sets for a hook, such as GIT_DIR and GIT_INDEX_FILE",
        Works("a check that prints GIT_DIR, in a hook"),
    ),
    key("qa.fail_fast", Bool, "false", "", "stop at the first failure", Works("outcome `cancelled`")),
    key(
        "doctor.window_seconds",
        Number(0.05, 86_400.0),
        "2",
        "s",
        "how long the doctor looks: rates are over this time",
        Works("`window_s` of `apm doctor --format json`"),
    ),
    key(
        "doctor.fail_on",
        Choice(&["info", "warn", "crit", "never"]),
        "crit",
        "",
        "findings from this severity on are failures",
        Works("exit code of `apm doctor`"),
    ),
    key(
        "doctor.strict",
        Bool,
        "false",
        "",
        "rules that could not look count as incomplete",
        Works("exit code of `apm doctor`"),
    ),
    key(
        "doctor.only",
        Texts,
        "",
        "rules",
        "only these rules are asked",
        Works("`summary` of `apm doctor --format json`"),
    ),
    key(
        "doctor.ignore",
        Texts,
        "",
        "rules",
        "these rules are not asked",
        Works("`summary` of `apm doctor --format json`"),
    ),
    key(
        "doctor.thresholds",
        Pairs,
        "",
        "RULE: WARN:CRIT",
        "other thresholds, for instance `mem.available: 15:8`; an empty side keeps the rule silent there",
        Works("`apm doctor --list-rules`, findings"),
    ),
    key("hardware.minimum.cpu_cores", Whole(1, 10_000), "4", "cores", "smallest machine", TIERS),
    key("hardware.minimum.cpu_ghz", Number(0.1, 100.0), "2.5", "GHz", "smallest machine", TIERS),
    key("hardware.minimum.memory_gb", Number(0.1, 1_048_576.0), "8", "GiB", "smallest machine", TIERS),
    key("hardware.minimum.storage_gb", Number(0.1, 1e9), "100", "GB", "smallest machine", TIERS),
    key("hardware.minimum.network_mbps", Number(1.0, 1e9), "100", "Mbit/s", "smallest machine", TIERS),
    key("hardware.recommended.cpu_cores", Whole(1, 10_000), "8", "cores", "good machine", TIERS),
    key("hardware.recommended.cpu_ghz", Number(0.1, 100.0), "3.0", "GHz", "good machine", TIERS),
    key("hardware.recommended.memory_gb", Number(0.1, 1_048_576.0), "16", "GiB", "good machine", TIERS),
    key("hardware.recommended.storage_gb", Number(0.1, 1e9), "500", "GB", "good machine", TIERS),
    key("hardware.recommended.network_mbps", Number(1.0, 1e9), "1000", "Mbit/s", "good machine", TIERS),
    key("hardware.enterprise.cpu_cores", Whole(1, 10_000), "16", "cores", "large machine", TIERS),
    key("hardware.enterprise.cpu_ghz", Number(0.1, 100.0), "3.5", "GHz", "large machine", TIERS),
    key("hardware.enterprise.memory_gb", Number(0.1, 1_048_576.0), "32", "GiB", "large machine", TIERS),
    key("hardware.enterprise.storage_gb", Number(0.1, 1e9), "1000", "GB", "large machine", TIERS),
    key("hardware.enterprise.network_mbps", Number(1.0, 1e9), "10000", "Mbit/s", "large machine", TIERS),
];

/// Environment variables of the specification and the keys they stand for. Every key has `APM_A__B` besides.
pub(crate) const VARIABLES: &[(&str, &str)] = &[
    ("APM_MEMORY_OPTIMIZATION", "memory.optimization"),
    ("APM_CACHE_SIZE_MB", "memory.cache_size_mb"),
    ("APM_BUFFER_SIZE_KB", "memory.buffer_size_kb"),
    ("APM_GC_INTERVAL_SEC", "memory.gc_interval_seconds"),
];

/// Keys, and sections of keys, that concern the machine, its diagnosis or the records of whoever runs apm: a project has no
/// say in them, since its file may come from anybody.
const PERSONAL: &[&str] = &[
    "performance.resource_allocation.nice_level",
    "performance.resource_allocation.io_priority",
    "caching.l2_cache.cluster_nodes",
    "memory.gc_interval_seconds",
    "run.keep_runs",
    "run.sandbox",
    "run.memory_reserve_percent",
    "doctor",
    "hardware",
];

impl KeyInfo {
    /// Whether a project file may not set it.
    pub(crate) fn is_personal(&self) -> bool {
        PERSONAL
            .iter()
            .any(|one| self.path.strip_prefix(one).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    }
}

/// The key of a path.
pub(crate) fn find(path: &str) -> Option<&'static KeyInfo> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether a path is the beginning of one of a key.
pub(crate) fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// What may stand under a path, for suggestions.
pub(crate) fn names_under(path: &str) -> Vec<&'static str> {
    let mut names: Vec<&str> = KEYS
        .iter()
        .filter_map(|key| if path.is_empty() { Some(key.path) } else { key.path.strip_prefix(path)?.strip_prefix('.') })
        .filter_map(|rest| rest.split('.').next())
        .collect();
    names.dedup();
    names
}

impl Takes {
    /// For messages: what would have been right.
    pub(crate) fn expected(&self) -> String {
        match self {
            Whole(min, max) => format!("a whole number from {min} to {max}"),
            Number(min, max) => format!("a number from {min} to {max}"),
            Bool => "true or false".to_owned(),
            Choice(words) => format!("one of {}", words.join(", ")),
            Texts => "a list of texts".to_owned(),
            Pairs => "a map of texts".to_owned(),
            Anything => "anything".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Effect, KEYS, PERSONAL, VARIABLES, find};

    #[test]
    fn the_table_is_whole() {
        let paths: HashSet<&str> = KEYS.iter().map(|key| key.path).collect();
        assert_eq!(paths.len(), KEYS.len(), "a key stands twice");
        for key in KEYS {
            assert!(!key.meaning.is_empty(), "{}", key.path);
            match key.effect {
                Effect::Works(what) | Effect::Waits(what) => assert!(!what.is_empty(), "{}", key.path),
            }
        }
        for one in PERSONAL {
            assert!(KEYS.iter().any(|key| key.is_personal() && key.path.starts_with(one)), "{one}");
        }
        assert!(VARIABLES.iter().all(|(_, path)| find(path).is_some()));
    }
}
