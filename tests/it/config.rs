//! The configuration: its layers, its errors, and for each key that works what one sees of it. `EFFECTS` names for every
//! key of the specification that belongs to this part the test that shows two runs differing only in it.

use serde_json::Value;

use crate::sandbox::{Ran, Sandbox, has_program};

/// Runs a plan with one key at two values and returns the two reports.
fn pair(plan: &str, key: &str, one: &str, other: &str) -> [(Value, Vec<Value>, Sandbox); 2] {
    [one, other].map(|value| {
        let sandbox = Sandbox::new("pair");
        sandbox.file("p.yaml", plan);
        let set = format!("{key}={value}");
        let ran = sandbox.apm(["run", "p.yaml", "--set", &set]);
        assert!(ran.code.is_some_and(|code| code != 2 && code != 70), "{}", ran.stderr);
        (sandbox.report(), sandbox.events(), sandbox)
    })
}

fn plan_of(count: usize, run: &str) -> String {
    let tasks: String = (0..count).map(|n| format!("- {{id: t{n}, run: {run}}}\n")).collect();
    format!("version: 1\ntasks:\n{tasks}")
}

fn events_named<'a>(events: &'a [Value], name: &'a str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter_map(move |event| event["event"].get(name))
}

fn running_max(report: &Value) -> u64 {
    report["engine"]["running_max"].as_u64().expect("a number")
}

#[test]
fn max_concurrent_agents_and_max_size_bound_what_runs() {
    for key in ["performance.resource_allocation.max_concurrent_agents", "sub_agents.pool_configuration.max_size"] {
        let plan = plan_of(6, "sleep 0.1");
        let [(one, ..), (three, ..)] = pair(&plan, key, "1", "2");
        assert_eq!((running_max(&one), one["pool"]["max"].as_u64()), (1, Some(1)), "{key}");
        assert_eq!(running_max(&three), 2, "{key}");
    }
}

/// `-j` also made void what stood beside it.
#[test]
fn a_number_of_agents_overrides_the_pool_of_files_but_not_of_the_same_command_line() {
    let sandbox = Sandbox::new("jpool");
    sandbox.file("p.yaml", plan_of(1, "'true'"));
    sandbox.file("apm.yaml", "sub_agents: {pool_configuration: {initial_size: 2, max_size: 2}}\n");
    let pool = |flags: &[&str]| {
        sandbox.apm(["run", "p.yaml", "-j", "4"].iter().chain(flags)).good();
        let report = sandbox.report();
        (report["pool"]["initial"].as_u64(), report["pool"]["max"].as_u64())
    };
    assert_eq!(pool(&[]), (Some(4), Some(4)));
    assert_eq!(pool(&["--set", "sub_agents.pool_configuration.initial_size=1"]), (Some(1), Some(4)));
    assert_eq!(pool(&["--set", "sub_agents.pool_configuration.max_size=3"]), (Some(3), Some(3)));
}

#[test]
fn initial_size_scale_factor_and_idle_timeout_shape_the_pool() {
    let plan = plan_of(12, "sleep 0.1");
    let run = |set: &[&str]| {
        let sandbox = Sandbox::new("pool");
        sandbox.file("p.yaml", &plan);
        let mut args = vec!["run", "p.yaml", "--set", "performance.resource_allocation.max_concurrent_agents=8"];
        set.iter().for_each(|one| args.extend(["--set", one]));
        sandbox.apm(args).good();
        let sizes: Vec<u64> = events_named(&sandbox.events(), "pool_resized")
            .map(|event| event["to"].as_u64().expect("a size"))
            .collect();
        (sandbox.report(), sizes)
    };
    let (report, sizes) = run(&["sub_agents.pool_configuration.initial_size=2"]);
    assert_eq!((report["pool"]["initial"].as_u64(), sizes.first().copied()), (Some(2), Some(4)), "doubles");
    let (_, sizes) =
        run(&["sub_agents.pool_configuration.initial_size=2", "sub_agents.pool_configuration.scale_factor=4"]);
    assert_eq!(sizes.first().copied(), Some(8), "four times");
    let (_, sizes) = run(&[]);
    assert_eq!(sizes, [] as [u64; 0], "starts at its largest");
    let tail = "version: 1\ntasks:\n- {id: long, run: sleep 0.8}\n- {id: a, run: sleep 0.05}\n- {id: b, run: sleep 0.05}\n- {id: c, run: sleep 0.05}\n";
    let [(_, short, _), (_, long, _)] = ["0.1", "300"].map(|seconds| {
        let sandbox = Sandbox::new("idle");
        sandbox.file("p.yaml", tail);
        let idle = format!("sub_agents.pool_configuration.idle_timeout_seconds={seconds}");
        let set = [
            "performance.resource_allocation.max_concurrent_agents=4",
            "sub_agents.pool_configuration.initial_size=1",
            &idle,
        ];
        sandbox.apm(["run", "p.yaml"].into_iter().chain(set.into_iter().flat_map(|one| ["--set", one]))).good();
        (sandbox.report(), sandbox.events(), sandbox)
    });
    let shrinks = |events: &[Value]| {
        events_named(events, "pool_resized").filter(|event| event["to"].as_u64() < event["from"].as_u64()).count()
    };
    assert!(shrinks(&short) >= 1, "unused slots go away");
    assert_eq!(shrinks(&long), 0);
}

/// Half a second of CPU time: how long it takes at least at a limit does not depend on what else the machine does.
const BUSY: &str =
    "version: 1\ntasks:\n- {id: t, run: [python3, -c, \"import time\\nwhile time.process_time() < 0.5: pass\"]}\n";

fn wall_us(report: &Value) -> u64 {
    report["tasks"][0]["attempts"][0]["usage"]["wall_us"].as_u64().expect("time")
}

#[test]
fn ceilings_of_the_run_are_kept_and_said() {
    if !has_program("python3") {
        return;
    }
    let big = "version: 1\ntasks:\n- {id: t, matrix: {n: [1, 2, 3]}, run: [python3, -c, 'import time; x = bytearray(b\"x\") * (150 << 20); time.sleep(0.5)']}\n";
    let sandbox = Sandbox::new("memory");
    sandbox.file("p.yaml", big);
    let run = |gib: &str| {
        sandbox
            .apm(["run", "p.yaml", "-j3", "--set", &format!("performance.resource_allocation.memory_limit_gb={gib}")])
            .good();
        (sandbox.report(), events_named(&sandbox.events(), "attempt_finished").count())
    };
    let (small, small_attempts) = run("0.3");
    let (large, large_attempts) = run("4");
    assert!(small_attempts > large_attempts, "some were put back");
    assert_eq!(
        (small["ceilings"]["memory"].as_u64(), large["ceilings"]["memory"].as_u64()),
        (Some(322_122_547), Some(4 << 30))
    );
    let cpus = std::thread::available_parallelism().expect("CPUs").get() as f64;
    // A third of one CPU, against all of them.
    let third = format!("{}", (33.0 / cpus).max(1.0));
    let [(slow, ..), (fast, ..)] = pair(BUSY, "performance.resource_allocation.cpu_percent_limit", &third, "100");
    assert!(wall_us(&slow) > 1_000_000 && wall_us(&slow) > wall_us(&fast), "{} {}", wall_us(&slow), wall_us(&fast));
}

#[test]
fn priorities_are_those_of_the_processes() {
    let plan = "version: 1\ntasks:\n- {id: t, run: 'cut -d\" \" -f19 /proc/self/stat; ionice -p $$'}\n";
    let [(.., five), (.., none)] = pair(plan, "performance.resource_allocation.nice_level", "5", "0");
    let shown = |sandbox: &Sandbox| sandbox.apm(["run", "show", "last", "t"]).good();
    assert!(shown(&five).starts_with("5\n") && shown(&none).starts_with("0\n"), "{}", shown(&five));
    if has_program("ionice") {
        let [(.., idle), (.., low)] = pair(plan, "performance.resource_allocation.io_priority", "idle", "low");
        assert!(
            shown(&idle).contains("idle") && shown(&low).contains("best-effort: prio 7"),
            "{}{}",
            shown(&idle),
            shown(&low)
        );
    }
}

#[test]
fn threads_are_those_that_were_asked_for() {
    let plan = "version: 1\ntasks:\n- {id: t, run: 'cat /proc/$PPID/task/*/comm', inputs: ['*']}\n";
    let count = |sandbox: &Sandbox, name: &str| {
        sandbox.apm(["run", "show", "last", "t"]).good().lines().filter(|line| line.starts_with(name)).count()
    };
    let [(.., one), (.., three)] = pair(plan, "performance.thread_management.thread_pool_size", "1", "3");
    assert_eq!((count(&one, "apm-cpu"), count(&three, "apm-cpu")), (1, 3));
}

#[test]
fn the_queue_and_the_buffer_are_bounded() {
    let values: String = (0..300).map(|n| format!("{n}\n")).collect();
    let full = |size: &str| {
        let sandbox = Sandbox::new("queue");
        let set = format!("performance.thread_management.max_queue_size={size}");
        sandbox.apm_with(["run", "each", "--set", &set, "true"], values.as_bytes()).good();
        let engine = sandbox.report()["engine"].clone();
        (engine["queue_max"].as_u64().expect("a number"), engine["queue_full"].as_u64().expect("a number"))
    };
    let ((small, waits), (large, _)) = (full("4"), full("1000"));
    assert!(small <= 4 + 64 && waits > 0 && small < large, "{small} {waits} {large}");
    let [(few, ..), (many, ..)] = pair(&plan_of(3, "'true'"), "sub_agents.coordination.result_buffer_size", "2", "500");
    assert_eq!(
        (few["engine"]["buffer_capacity"].as_u64(), many["engine"]["buffer_capacity"].as_u64()),
        (Some(2), Some(500))
    );
}

#[test]
fn the_journal_is_forced_to_the_disk_as_asked() {
    let [(with, ..), (without, ..)] =
        pair(&plan_of(20, "'true'"), "performance.thread_management.async_operations", "false", "true");
    let syncs = |report: &Value| report["engine"]["journal_syncs"].as_u64().expect("a number");
    assert!(syncs(&with) > syncs(&without) + 5, "{} {}", syncs(&with), syncs(&without));
}

#[test]
fn limits_of_agents_apply_to_tasks_without_their_own() {
    if !has_program("python3") {
        return;
    }
    let plan = "version: 1\ntasks:\n- {id: t, run: [python3, -c, 'import time; x = bytearray(b\"x\") * (150 << 20); time.sleep(1)']}\n- {id: own, run: [python3, -c, 'x = bytearray(b\"x\") * (150 << 20)'], limits: {memory: 1GiB}}\n";
    let state = |report: &Value, at: usize| report["tasks"][at]["state"].as_str().expect("a state").to_owned();
    let [(small, ..), (large, ..)] = pair(plan, "sub_agents.resource_limits.per_agent_memory_mb", "64", "2048");
    assert_eq!(
        (state(&small, 0), state(&small, 1), state(&large, 0)),
        ("over limit".into(), "passed".into(), "passed".into())
    );
    let [(short, ..), (long, ..)] =
        pair(&plan_of(1, "sleep 0.5"), "sub_agents.resource_limits.max_execution_time_seconds", "0.1", "60");
    assert_eq!((state(&short, 0), state(&long, 0)), ("timed out".into(), "passed".into()));
    let [(slow, ..), (fast, ..)] = pair(BUSY, "sub_agents.resource_limits.per_agent_cpu_percent", "20", "400");
    assert!(wall_us(&slow) > 1_500_000 && wall_us(&slow) > wall_us(&fast), "{} {}", wall_us(&slow), wall_us(&fast));
}

#[test]
fn the_sampling_interval_is_the_one_asked_for() {
    let [(_, short, _), (_, long, _)] =
        pair(&plan_of(1, "sleep 1"), "sub_agents.coordination.sync_interval_ms", "50", "400");
    let samples = |events: &[Value]| events_named(events, "sampled").count();
    assert!(samples(&short) > 2 * samples(&long).max(1), "{} {}", samples(&short), samples(&long));
}

#[test]
fn preloading_names_missing_programs_before_the_start() {
    let plan = "version: 1\ntasks:\n- {id: a, run: 'true'}\n- {id: b, run: [no-such-program]}\n";
    let [(_, with, _), (_, without, _)] = pair(plan, "sub_agents.optimization.preload_common_modules", "true", "false");
    let named_early = |events: &[Value]| {
        let start = events.iter().position(|event| event["event"].get("attempt_started").is_some()).expect("a start");
        events[..start]
            .iter()
            .any(|event| event["event"]["noted"]["text"].as_str().is_some_and(|text| text.contains("no-such-program")))
    };
    assert!(named_early(&with) && !named_early(&without));
}

#[test]
fn a_busy_machine_holds_starts_back() {
    // Any memory in use at all is over one percent, and the run still comes to an end: one task may always run.
    let [(_, held, _), (_, free, _)] =
        pair(&plan_of(4, "sleep 0.2"), "scheduling.strategies.resource_aware.memory_threshold", "1", "100");
    let holds =
        |events: &[Value]| events_named(events, "admission_changed").filter(|event| event["reason"] != "").count();
    assert!(holds(&held) > 0, "{held:?}");
    assert_eq!(holds(&free), 0);
    let busy = "version: 1\ntasks:\n- {id: spin, run: timeout 1.5 sh -c 'while :; do :; done' || true}\n- {id: first, run: sleep 0.5}\n- {id: then, run: sleep 0.1, needs: [first]}\n";
    let [(_, held, _), (_, free, _)] = pair(busy, "scheduling.strategies.resource_aware.cpu_threshold", "1", "100");
    assert!(holds(&held) > 0, "{held:?}");
    assert_eq!(holds(&free), 0);
}

#[test]
fn a_busy_disk_holds_starts_back() {
    let pressure = || {
        let text = std::fs::read_to_string("/proc/pressure/io").ok()?;
        text.split_once("avg10=")?.1.split(' ').next()?.parse::<f64>().ok()
    };
    let write = "timeout 6 dd if=/dev/zero of=FILE bs=4k count=9999999 oflag=dsync 2>/dev/null || true";
    let writers: String =
        ["a", "b"].map(|file| format!("- {{id: {file}, run: '{}'}}\n", write.replace("FILE", file))).concat();
    let plan = format!(
        "version: 1\ntasks:\n{writers}- {{id: first, run: sleep 4.5}}\n- {{id: then, run: 'true', needs: [first]}}\n"
    );
    let holds = |threshold: &str| {
        let sandbox = Sandbox::new("disk");
        sandbox.file("p.yaml", &plan);
        let set = format!("scheduling.strategies.resource_aware.io_threshold={threshold}");
        sandbox.apm(["run", "p.yaml", "-j4", "--set", &set]).good();
        events_named(&sandbox.events(), "admission_changed").filter(|event| event["reason"] != "").count()
    };
    assert_eq!(holds("100"), 0);
    // A disk too fast for two writers to wait for it, a file system in memory, or a kernel that does not say.
    if pressure().is_none_or(|percent| percent < 2.0) {
        return;
    }
    assert!(holds("1") > 0);
}

#[test]
fn priority_levels_bound_the_priorities_of_a_plan() {
    let sandbox = Sandbox::new("levels");
    sandbox.file("p.yaml", "version: 1\ntasks:\n- {id: a, run: 'true', priority: 7}\n");
    let key = "scheduling.strategies.priority_based.priority_levels";
    sandbox.apm(["run", "p.yaml", "--set", &format!("{key}=8")]).good();
    let error = sandbox.apm(["run", "p.yaml", "--set", &format!("{key}=7")]).fails(2);
    assert!(error.contains("a priority from 0 (normal) to 6 (first)"), "{error}");
}

#[test]
fn the_deadline_buffer_decides_who_goes_first() {
    // `early` has the longer way and goes first, unless `tight` could be late: it may start after 0.9 s at the latest,
    // and at once with a buffer of ten times its learned duration.
    let order = |buffer: &str| {
        let sandbox = Sandbox::new("buffer");
        let plan = "version: 1\ntasks:\n- {id: gate, run: 'true'}\n- {id: tight, run: sleep 0.1, needs: [gate], deadline: 1s}\n- {id: early, run: sleep 0.3, needs: [gate]}\n";
        sandbox.file("p.yaml", plan);
        let set = format!("scheduling.strategies.deadline_aware.deadline_buffer_percent={buffer}");
        for _ in 0..3 {
            sandbox.apm(["run", "p.yaml", "-j1", "--set", &set]).good();
        }
        let started: Vec<String> = events_named(&sandbox.events(), "attempt_started")
            .map(|event| event["task"].as_str().expect("a name").to_owned())
            .collect();
        started
    };
    assert_eq!(order("0"), ["gate", "early", "tight"]);
    assert_eq!(order("1000"), ["gate", "tight", "early"]);
}

#[test]
fn buffers_are_as_large_as_asked_for() {
    let plan = "version: 1\ntasks:\n- {id: t, run: head -c 20000 /dev/zero}\n";
    let own_file = |sandbox: &Sandbox| {
        let run = std::fs::read_dir(sandbox.state().join("runs"))
            .expect("runs")
            .next()
            .expect("one")
            .expect("an entry")
            .path();
        run.join("t0.1.out").exists()
    };
    for (key, small, large) in [("memory.buffer_size_kb", "4", "64"), ("memory.optimization", "true", "false")] {
        let [(.., small), (.., large)] = pair(plan, key, small, large);
        assert!(own_file(&small) && !own_file(&large), "{key}");
    }
    // The same by the variables of the specification.
    let sandbox = Sandbox::new("variables");
    sandbox.file("p.yaml", plan);
    let mut command = sandbox.command(["run", "p.yaml"]);
    command.env("APM_MEMORY_OPTIMIZATION", "true");
    Ran::of(command).good();
    assert!(own_file(&sandbox));
}

#[test]
fn old_runs_are_removed_as_often_and_as_far_as_asked() {
    let runs = |interval: &str, keep: &str| {
        let sandbox = Sandbox::new("gc");
        for _ in 0..5 {
            let (interval, keep) = (format!("memory.gc_interval_seconds={interval}"), format!("run.keep_runs={keep}"));
            sandbox.apm(["run", "each", "--set", &interval, "--set", &keep, "true", ":::", "x"]).good();
        }
        std::fs::read_dir(sandbox.state().join("runs")).expect("runs").count()
    };
    assert!(runs("0", "2") <= 3);
    assert_eq!(runs("3600", "2"), 5, "not looked at again within the hour");
    assert_eq!(runs("0", "100"), 5);
}

#[test]
fn keys_of_runs_and_checks() {
    let failing = "version: 1\ntasks:\n- {id: t, run: exit 1}\n- {id: u, run: sleep 0.3, needs: [t], when: always}\n";
    let attempts = |report: &Value| report["tasks"][0]["attempts"].as_array().map(Vec::len);
    let [(confined, ..), (free, ..)] = pair(failing, "run.sandbox", "best", "off");
    let has_confinement = |report: &Value| report["tasks"][0]["attempts"][0]["confinement"].is_object();
    assert_eq!((has_confinement(&confined), has_confinement(&free)), (true, false));
    let [(twice, ..), (once, ..)] = pair(failing, "run.retries", "1", "0");
    assert_eq!((attempts(&twice), attempts(&once)), (Some(2), Some(1)));
    let delay = |events: &[Value]| {
        events_named(events, "attempt_finished")
            .find_map(|event| event["next"]["retry"]["delay_us"].as_u64())
            .expect("a retry")
    };
    let retried = "version: 1\ntasks:\n- {id: t, run: exit 1, retries: 1}\n";
    let [(_, short, _), (_, long, _)] = pair(retried, "run.retry_delay_ms", "1", "400");
    assert!(delay(&short) <= 1_000 && delay(&long) > 1_000, "{} {}", delay(&short), delay(&long));
    let [(_, short, _), (_, long, _)] = pair(retried, "run.retry_delay_max_ms", "2", "30000");
    assert!(delay(&short) <= 2_000 && delay(&long) > 2_000, "{} {}", delay(&short), delay(&long));
    let deaf = "version: 1\ntasks:\n- {id: t, run: \"trap '' TERM; while :; do sleep 0.05; done\", timeout: 100ms}\n";
    let wall = |report: &Value| report["tasks"][0]["attempts"][0]["usage"]["wall_us"].as_u64().expect("time");
    let [(short, ..), (long, ..)] = pair(deaf, "run.grace_seconds", "0.1", "1");
    assert!(wall(&long) > wall(&short) + 500_000, "{} {}", wall(&short), wall(&long));
    let noisy = "version: 1\ntasks:\n- {id: t, run: head -c 3000000 /dev/zero}\n";
    let truncated = |report: &Value| report["tasks"][0]["attempts"][0]["truncated"].as_bool();
    let [(small, ..), (large, ..)] = pair(noisy, "run.output_limit_mb", "1", "64");
    assert_eq!((truncated(&small), truncated(&large)), (Some(true), Some(false)));
    let holds =
        |events: &[Value]| events_named(events, "admission_changed").filter(|event| event["reason"] != "").count();
    let [(_, held, _), (_, free, _)] = pair(&plan_of(4, "sleep 0.2"), "run.memory_reserve_percent", "90", "0");
    assert_eq!(holds(&free), 0);
    // Ninety percent free is possible on a large idle machine; then nothing is held, and that is right.
    assert!(holds(&held) <= 4);
}

#[test]
fn the_kind_of_work_decides_how_many_agents_start() {
    let [(cpu, ..), (io, ..)] = pair(&plan_of(2, "'true'"), "run.workload", "cpu_intensive", "io_intensive");
    let cpus = std::thread::available_parallelism().expect("CPUs").get() as u64;
    let pool = |report: &Value| (report["pool"]["initial"].as_u64(), report["pool"]["max"].as_u64());
    assert_eq!(pool(&cpu), (Some(cpus.min(8)), Some(8)));
    assert_eq!(pool(&io), (Some((cpus * 2).min(12)), Some(12)));
}

#[test]
fn runtimes_are_told_of_limits() {
    let plan = "version: 1\ntasks:\n- {id: t, run: 'echo $GOMEMLIMIT $JAVA_OPTS $GOMAXPROCS', limits: {memory: 100MiB, cpu: 200}, env: {GOMAXPROCS: '7'}}\n";
    let [(.., with), (.., without)] = pair(plan, "run.runtime_presets", "true", "false");
    let shown = |sandbox: &Sandbox| sandbox.apm(["run", "show", "last", "t"]).good();
    assert_eq!(shown(&with), "90MiB -Xmx75m -XX:+UseSerialGC -XX:ActiveProcessorCount=2 7\n");
    assert_eq!(shown(&without), "7\n");
}

#[test]
fn layers_override_each_other_and_say_where_a_value_is_from() {
    let sandbox = Sandbox::new("layers");
    let key = "run.retries";
    let show = |sandbox: &Sandbox, args: &[&str], variable: Option<&str>| {
        let words = ["config", "show", "--origin"].iter().chain(args);
        let mut command = sandbox.command(words);
        if let Some(value) = variable {
            command.env("APM_RUN__RETRIES", value);
        }
        let text = Ran::of(command).good();
        text.lines().find(|line| line.starts_with(key)).expect("the key").to_owned()
    };
    assert_eq!(show(&sandbox, &[], None), "run.retries: 0  # default");
    let home = sandbox.work().parent().expect("root").join("home/.config/apm");
    std::fs::create_dir_all(&home).expect("folders");
    std::fs::write(home.join("config.yaml"), "run: {retries: 1}\n").expect("written");
    assert!(show(&sandbox, &[], None).starts_with("run.retries: 1  # /"));
    sandbox.file("apm.yaml", "run:\n  retries: 2\n");
    assert!(show(&sandbox, &[], None).ends_with("apm.yaml:2"));
    assert_eq!(show(&sandbox, &[], Some("3")), "run.retries: 3  # environment APM_RUN__RETRIES");
    assert_eq!(show(&sandbox, &["--set", "run.retries=4"], Some("3")), "run.retries: 4  # --set");
    // A file further up than the repository belongs to somebody else.
    sandbox.file("inner/.git/HEAD", "").file("inner/x", "");
    let mut command = sandbox.command(["config", "show", "--origin"]);
    command.current_dir(sandbox.work().join("inner"));
    assert!(Ran::of(command).good().contains("run.retries: 1  # /"));
}

#[test]
fn mistakes_are_shown_with_place_and_likely_word() {
    let sandbox = Sandbox::new("mistakes");
    sandbox.file("apm.yaml", "run:\n  # often\n  retires: 3\n");
    let error = sandbox.apm(["run", "each", "touch", ":::", "ran"]).fails(2);
    for part in
        ["apm.yaml:3:3: `retires` is not a key of `run`", "  3 |   retires: 3\n    |   ^", "did you mean `retries`?"]
    {
        assert!(error.contains(part), "{error}");
    }
    assert!(!sandbox.has("ran"));
    sandbox.file("apm.yaml", "run: {retries: -1}\n");
    let error = sandbox.apm(["config", "check"]).fails(2);
    assert!(error.contains("run.retries: expected a whole number from 0 to 1000"), "{error}");
    let error = sandbox.apm(["config", "check", "nowhere.yaml"]).fails(2);
    assert!(error.contains("nowhere.yaml"), "{error}");
    sandbox.file("apm.yaml", "caching: {l1_cache: {size_mb: 64}}\nnetwork: {keep_alive: {enabled: true}}\n");
    let ran = sandbox.apm(["run", "each", "true", ":::", "x"]);
    assert_eq!(ran.stderr.matches("no effect yet").count(), 1, "{}", ran.stderr);
}

#[test]
fn init_writes_a_file_that_checks_and_never_overwrites() {
    let sandbox = Sandbox::new("init");
    sandbox.apm(["config", "init"]).good();
    sandbox.apm(["config", "check"]).good();
    let error = sandbox.apm(["config", "init"]).fails(2);
    assert!(error.contains("--force"), "{error}");
    sandbox.apm(["config", "init", "--force"]).good();
    sandbox.apm(["config", "init", "--user"]).good();
    let keys: Value = serde_json::from_str(&sandbox.apm(["config", "keys", "--format", "json"]).good()).expect("JSON");
    let written = sandbox.read("apm.yaml");
    for key in keys.as_array().expect("keys") {
        let name = key["key"].as_str().expect("a name").rsplit('.').next().expect("a part").to_owned();
        assert!(written.contains(&format!("{name}:")), "{name}");
    }
}

/// The doctor looks at a machine with 9 % of its memory left, and asks one rule that reads one file.
fn doctor(name: &str, words: &[&str]) -> Ran {
    let sandbox = Sandbox::new(name);
    sandbox.file("host/proc/meminfo", "MemTotal: 10000000 kB\nMemAvailable: 900000 kB\n");
    let look = ["doctor", "--root", "host", "--root", "host", "--format", "json"];
    sandbox.apm(look.iter().chain(words))
}

fn summary(ran: Ran) -> (Option<i32>, [u64; 3]) {
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stderr));
    (ran.code, ["warn", "ok", "skipped"].map(|key| report["summary"][key].as_u64().expect("a number")))
}

#[test]
fn the_doctor_does_as_its_keys_say() {
    let with = |sets: &[&str]| {
        let words: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        summary(doctor("doctorkeys", &words))
    };
    let only = "doctor.only=mem.available";
    assert_eq!(with(&[only]), (Some(0), [1, 0, 0]));
    assert_eq!(with(&[only, "doctor.fail_on=warn"]), (Some(1), [1, 0, 0]));
    assert_eq!(with(&[only, "doctor.fail_on=never"]), (Some(0), [1, 0, 0]));
    assert_eq!(with(&[only, "doctor.ignore=mem.available"]), (Some(4), [0, 0, 0]));
    assert_eq!(with(&[only, "doctor.thresholds=mem.available=8:4", "doctor.fail_on=warn"]).0, Some(0));
    // Of a machine with one file most rules see nothing.
    let (code, [_, _, skipped]) = with(&["doctor.fail_on=never"]);
    assert!(code == Some(0) && skipped > 0, "{skipped}");
    assert_eq!(with(&["doctor.fail_on=never", "doctor.strict=true"]).0, Some(3));
    let sandbox = Sandbox::new("doctorwindow");
    let window = |seconds: &str| {
        let set = format!("doctor.window_seconds={seconds}");
        let ran =
            sandbox.apm(["doctor", "--only", "mem.available", "--format", "json", "--fail-on", "never", "--set", &set]);
        serde_json::from_str::<Value>(&ran.good()).expect("JSON")["window_s"].as_f64().expect("a number")
    };
    let (short, long) = (window("0.06"), window("0.5"));
    assert!(short >= 0.06 && long >= 0.5 && short < long, "{short} {long}");
}

#[test]
fn the_command_line_of_the_doctor_wins_and_mistakes_in_a_file_have_their_place() {
    let sandbox = Sandbox::new("doctorlayers");
    sandbox.file("host/proc/meminfo", "MemTotal: 10000000 kB\nMemAvailable: 900000 kB\n");
    sandbox.own_configuration(
        "doctor:\n  only: [mem.available]\n  fail_on: warn\n  window_seconds: 7\n  thresholds:\n    mem.available: 8:4\n    agent.nofile: 900:200\n",
    );
    sandbox.apm(["config", "check"]).good();
    let look = |words: &[&str]| {
        let look = ["doctor", "--root", "host", "--root", "host", "--format", "json"];
        sandbox.apm(look.iter().chain(words))
    };
    let window = |ran: Ran| serde_json::from_str::<Value>(&ran.stdout).expect("JSON")["window_s"].clone();
    assert_eq!(look(&[]).code, Some(0));
    assert_eq!(window(look(&[])), 7);
    assert_eq!(window(look(&["--duration", "3s"])), 3);
    assert_eq!(look(&["--threshold", "mem.available=12:4"]).code, Some(1));
    assert_eq!(look(&["--threshold", "mem.available=12:4", "--fail-on", "crit"]).code, Some(0));
    let (_, [_, _, skipped]) = summary(look(&["agents"]));
    assert!(skipped > 0, "an area asks for its own rules, not for the one of the file");
    for (line, part) in [
        ("only: [mem.avialable]", "doctor.only (/"),
        ("ignore: [mem.avialable]", "there is no rule `mem.avialable`"),
        ("thresholds: {mem.avialable: 1:2}", "did you mean `mem.available`?"),
        ("thresholds: {mem.available: 5:10}", "bad below"),
        ("thresholds: {mem.available: [5]}", "expected a map of texts"),
        ("thresholds: 7", "expected RULE=WARN:CRIT"),
        ("fail_on: often", "expected one of info, warn, crit, never"),
        ("window_seconds: 0", "expected a number from 0.05 to 86400"),
    ] {
        sandbox.own_configuration(&format!("doctor:\n  {line}\n"));
        for words in [&["doctor"][..], &["config", "check"]] {
            let error = sandbox.apm(words).fails(2);
            assert!(error.contains(part) && error.contains("config.yaml:2"), "{line}: {error}");
        }
    }
}

#[test]
fn the_doctor_holds_the_machine_against_the_tiers_of_the_file() {
    let sandbox = Sandbox::new("tiers");
    let cpus: String = (0..8).map(|n| format!("cpu{n} 1 0 1 9 0 0 0 0 0 0\n")).collect();
    let stat = format!("cpu  1 0 1 9 0 0 0 0 0 0\n{cpus}ctxt 1\nprocesses 1\nprocs_running 1\n");
    sandbox.file("host/proc/stat", stat);
    sandbox.file("host/proc/meminfo", format!("MemTotal: {} kB\nMemAvailable: 9000000 kB\n", 16 << 20));
    sandbox.file("host/proc/cpuinfo", "processor\t: 0\ncpu MHz\t\t: 3000.000\n");
    sandbox.file("host/sys/block/nvme0n1/size", "1000000000\n").file("host/sys/block/nvme0n1/queue/rotational", "0\n");
    sandbox.file("host/sys/block/nvme0n1/device/model", "x\n");
    sandbox.file("host/sys/class/net/eth0/speed", "1000\n").file("host/sys/class/net/eth0/device/uevent", "");
    let titles = |set: &str| {
        let ran =
            sandbox.apm(["doctor", "hardware", "--root", "host", "--root", "host", "--format", "json", "--set", set]);
        let report: Value = serde_json::from_str(&ran.good()).expect("JSON");
        let all = report["findings"].as_array().expect("findings").clone();
        all.iter()
            .map(|finding| format!("{} {} {}", finding["severity"], finding["rule"], finding["title"]))
            .collect::<Vec<_>>()
    };
    // Any key that is not of the doctor.
    let usual = titles("run.retries=1");
    for (key, value, part) in [
        ("hardware.minimum.cpu_cores", "20", "below the minimum"),
        ("hardware.recommended.cpu_cores", "10", "meets the minimum tier"),
        ("hardware.enterprise.cpu_cores", "8", "meets the enterprise tier"),
        ("hardware.minimum.cpu_ghz", "4", "below the minimum"),
        ("hardware.recommended.cpu_ghz", "3.4", "meets the minimum tier"),
        ("hardware.enterprise.cpu_ghz", "3", "meets the enterprise tier"),
        ("hardware.minimum.memory_gb", "20", "below the minimum"),
        ("hardware.recommended.memory_gb", "20", "meets the minimum tier"),
        ("hardware.enterprise.memory_gb", "16", "meets the enterprise tier"),
        ("hardware.minimum.storage_gb", "600", "below the minimum"),
        ("hardware.recommended.storage_gb", "600", "meets the minimum tier"),
        ("hardware.enterprise.storage_gb", "500", "meets the enterprise tier"),
        ("hardware.minimum.network_mbps", "2500", "below the minimum"),
        ("hardware.recommended.network_mbps", "2500", "meets the minimum tier"),
        ("hardware.enterprise.network_mbps", "1000", "meets the enterprise tier"),
    ] {
        let changed = titles(&format!("{key}={value}"));
        let new: Vec<&String> = changed.iter().filter(|title| !usual.contains(title)).collect();
        assert!(new.len() == 1 && new[0].contains(part), "{key}: {new:?} of {changed:#?}, usually {usual:#?}");
        assert_eq!(new[0].starts_with("\"warn"), part == "below the minimum", "{new:?}");
    }
}

#[test]
fn resources_of_the_configuration_may_be_used_by_a_plan() {
    let sandbox = Sandbox::new("resources");
    sandbox.file("p.yaml", "version: 1\ntasks:\n- {id: a, run: 'true', uses: {db: 2}}\n");
    let unknown = sandbox.apm(["run", "p.yaml"]).fails(2);
    assert!(unknown.contains("`db`"), "{unknown}");
    let events = sandbox.apm(["run", "p.yaml", "--set", "run.resources=db=2", "--format", "ndjson"]).good();
    assert!(events.contains("\"resources\":{\"db\":2}"), "{events}");
    sandbox.file("c.yaml", "run: {resources: {db: 1}}\n");
    let small = sandbox.apm(["run", "p.yaml", "--config", "c.yaml"]).fails(2);
    assert!(small.contains("needs 2 of `db`, which has 1"), "{small}");
    for bad in ["slots=2", "db=0", "db", "d b=1"] {
        let refused = sandbox.apm(["run", "p.yaml", "--set", &format!("run.resources={bad}")]).fails(2);
        assert!(refused.contains("run.resources"), "{refused}");
    }
}

/// Every key that claims to work is named in a test of this file, of qa.rs or of resume.rs.
#[test]
fn every_key_that_works_is_shown_to() {
    let sandbox = Sandbox::new("keys");
    let keys: Value = serde_json::from_str(&sandbox.apm(["config", "keys", "--format", "json"]).good()).expect("JSON");
    let tests = concat!(include_str!("config.rs"), include_str!("qa.rs"), include_str!("resume.rs"));
    for key in keys.as_array().expect("keys").iter().filter(|key| key["works"] == true) {
        let name = key["key"].as_str().expect("a name");
        assert!(
            tests.contains(&format!("\"{name}")) || tests.contains(&format!("{name}=")),
            "no test shows the effect of {name}"
        );
    }
}
