//! What runtimes should know of the limits of an attempt: most size themselves by the machine, are then over the limit,
//! and are killed where they could have collected their garbage. Measured: a Go program that keeps 60 MiB of the 400 it
//! allocates is killed at a limit of 110 MiB, and passes with `GOMEMLIMIT`. Only variables that are not set otherwise.

use crate::model::task::Limits;
use crate::model::unit::{Bytes, Percent};

/// Share of the limit for the heap of a runtime with memory beside it: code, stacks, buffers.
const HEAP_PERCENT: u64 = 75;
/// The same for Go, whose own limit counts nearly all it uses; its authors advise 5 to 10 % of headroom.
const GO_PERCENT: u64 = 90;

/// Below either the JVM takes its serial collector by itself (`os::is_server_class_machine`), if it knows of the limit: no
/// threads for collecting, and less memory beside the heap.
const SERVER_MEMORY: Bytes = Bytes::mib(1792);
const SERVER_CPUS: u32 = 2;

/// Variables for an attempt with these limits.
pub(crate) fn presets(limits: &Limits) -> Vec<(&'static str, String)> {
    let mut variables = Vec::new();
    let mut java = Vec::new();
    if let Some(Bytes(bytes)) = limits.memory {
        let mib = |percent: u64| ((bytes.saturating_mul(percent) / 100) >> 20).max(1);
        variables.push(("GOMEMLIMIT", format!("{}MiB", mib(GO_PERCENT))));
        variables.push(("NODE_OPTIONS", format!("--max-old-space-size={}", mib(HEAP_PERCENT))));
        // For Python and everything else that allocates through glibc: one arena for each CPU wastes what is scarce.
        variables.push(("MALLOC_ARENA_MAX", "2".to_owned()));
        java.push(format!("-Xmx{}m", mib(HEAP_PERCENT)));
    }
    let threads = limits.cpu.map(threads);
    if limits.memory.is_some_and(|memory| memory < SERVER_MEMORY) || threads.is_some_and(|it| it < SERVER_CPUS) {
        java.push("-XX:+UseSerialGC".to_owned());
    }
    if let Some(threads) = threads {
        // Not UV_THREADPOOL_SIZE: those threads wait for files and names, and block each other when they are few.
        for name in ["GOMAXPROCS", "RAYON_NUM_THREADS", "CARGO_BUILD_JOBS", "OMP_NUM_THREADS"] {
            variables.push((name, threads.to_string()));
        }
        variables.push(("PYTHON_CPU_COUNT", threads.to_string()));
        variables.push(("MAKEFLAGS", format!("-j{threads}")));
        java.push(format!("-XX:ActiveProcessorCount={threads}"));
    }
    if !java.is_empty() {
        // Start scripts read the one, Maven the other. The variables that the JVM itself reads make it write a line.
        variables.push(("JAVA_OPTS", java.join(" ")));
        variables.push(("MAVEN_OPTS", java.join(" ")));
    }
    variables
}

/// Threads that keep a share of the CPUs busy.
pub(crate) fn threads(Percent(percent): Percent) -> u32 {
    ((percent / 100.0).ceil() as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::presets;
    use crate::model::task::Limits;
    use crate::model::unit::{Bytes, Percent};

    #[test]
    fn they_follow_the_limits() {
        let text = |memory, cpu| {
            let variables = presets(&Limits { memory, cpu, ..Limits::default() });
            variables.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(text(None, None), "");
        assert_eq!(
            text(Some(Bytes::mib(256)), None),
            "GOMEMLIMIT=230MiB NODE_OPTIONS=--max-old-space-size=192 MALLOC_ARENA_MAX=2 \
             JAVA_OPTS=-Xmx192m -XX:+UseSerialGC MAVEN_OPTS=-Xmx192m -XX:+UseSerialGC"
        );
        let both = text(Some(Bytes::gib(2)), Some(Percent(150.0)));
        assert!(
            both.contains("GOMAXPROCS=2")
                && both.contains("JAVA_OPTS=-Xmx1536m -XX:ActiveProcessorCount=2 MAVEN_OPTS="),
            "{both}"
        );
    }
}
