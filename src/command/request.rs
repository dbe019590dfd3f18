//! What one run is asked for: the configuration beneath the flags of its command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::cli::Global;
use crate::cli::run::{FailOn, Options};
use crate::command::context::Context;
use crate::command::failure::Failure;
use crate::command::output;
use crate::config::layers::Origin;
use crate::config::settings::{self, Loaded, Settings};
use crate::model::event::{Ceilings, NoteLevel, PoolShape};
use crate::model::request::{Halt, HaltCount, HaltOn, RunRequest};
use crate::model::task::{Limits, Run, Task};
use crate::model::unit::{Bytes, parse_duration};
use crate::probe::machine;
use crate::sys::limits::{self, Resource};
use crate::workflow::planfile::Rules;

/// Descriptors one attempt needs: three pipes with both ends while it starts, a pidfd, files of its outputs, one to look
/// at /proc.
const FILES_PER_ATTEMPT: u64 = 10;
/// Descriptors apm needs besides.
const FILES_OWN: u64 = 24;

/// The settings of one run: the configuration with its flags.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) settings: Settings,
    pub(crate) warnings: Vec<String>,
    pub(crate) options: Options,
    pub(crate) timeout: Option<Duration>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) outputs: Vec<output::Wanted>,
    /// The options that a resume needs.
    pub(crate) recorded: RunRequest,
    /// The number of agents, or the memory ceiling, is given on the command line of this very command.
    pub(crate) has_new_agents: bool,
    pub(crate) has_new_memory: bool,
}

/// What a command line says about a run.
#[derive(Clone)]
pub(crate) struct Overrides {
    config: Option<PathBuf>,
    /// `key=value`, and the flag it came from; later ones win.
    flags: Vec<(String, String)>,
    options: Options,
    has_new_agents: bool,
    has_new_memory: bool,
}

/// Most tasks at once, as the configuration has it.
const AGENTS_MAX: u32 = 10_000;

/// Bounds of the pool, which a number of agents makes void where they come from below it.
const POOL: [&str; 2] = ["sub_agents.pool_configuration.initial_size", "sub_agents.pool_configuration.max_size"];

impl Overrides {
    /// Of a command line.
    pub(crate) fn of(global: &Global, options: Options) -> Result<Self, Failure> {
        let mut flags: Vec<(String, String)> =
            global.set.iter().map(|text| ("--set".to_owned(), text.clone())).collect();
        let mut flag = |name: &str, key: &str, value: Option<String>| {
            flags.extend(value.map(|value| (name.to_owned(), format!("{key}={value}"))));
        };
        let size =
            options.memory.as_deref().map(Bytes::parse).transpose().context("--memory").map_err(Failure::usage)?;
        let gib = size.map(|bytes| (bytes.0 as f64 / 1_073_741_824.0).to_string());
        if let Some(n) = options.agents.filter(|n| !(1..=AGENTS_MAX).contains(n)) {
            let error = anyhow::anyhow!("-j {n}: from 1 to {AGENTS_MAX} tasks run at once");
            return Err(Failure::usage(error).hint("without -j as many run as there are usable CPUs"));
        }
        let agents = options.agents.map(|n| n.to_string());
        let (has_new_agents, has_new_memory) = (options.agents.is_some(), options.memory.is_some());
        flag("--memory", "performance.resource_allocation.memory_limit_gb", gib);
        flag("--cpu", "performance.resource_allocation.cpu_percent_limit", options.cpu.map(|cpu| cpu.to_string()));
        flag("--agents", "performance.resource_allocation.max_concurrent_agents", agents);
        flag("--sandbox", "run.sandbox", options.sandbox.map(|mode| mode.as_str().to_owned()));
        flag("--retries", "run.retries", options.retries.map(|n| n.to_string()));
        Ok(Self { config: global.config.clone(), flags, options, has_new_agents, has_new_memory })
    }

    /// Of a recorded run.
    pub(crate) fn of_recorded(recorded: &RunRequest) -> Self {
        Self {
            config: recorded.config.as_ref().map(|path| path.as_path().to_owned()),
            flags: recorded.settings.clone(),
            options: Options {
                agents: recorded.agents,
                timeout: recorded.timeout.clone(),
                fail_fast: recorded.fail_fast,
                strict: recorded.strict,
                fail_on: recorded.fail_on_flaky.then_some(FailOn::Flaky),
                ..Options::default()
            },
            has_new_agents: false,
            has_new_memory: false,
        }
    }

    /// What holds for a run that goes on: this, said when it started in the folder `cwd`, where `now` says nothing else.
    /// A deadline and reports were those of that time.
    pub(crate) fn then(self, cwd: &Path, now: Self) -> Self {
        let sets = |(_, text): &(String, String), key: &str| text.split_once('=').is_some_and(|(k, _)| k.trim() == key);
        let (mut flags, before) = (self.flags, self.options);
        if now.options.agents.is_some() {
            flags.retain(|flag| !POOL.iter().any(|key| sets(flag, key)));
        }
        let says_timeout =
            now.flags.iter().any(|flag| sets(flag, "sub_agents.resource_limits.max_execution_time_seconds"));
        flags.extend(now.flags);
        Self {
            config: now.config.or_else(|| self.config.map(|path| cwd.join(path))),
            flags,
            options: Options {
                agents: now.options.agents.or(before.agents),
                timeout: now.options.timeout.or(before.timeout.filter(|_| !says_timeout)),
                fail_fast: now.options.fail_fast || before.fail_fast,
                strict: now.options.strict || before.strict,
                fail_on: now.options.fail_on.or(before.fail_on),
                ..now.options
            },
            has_new_agents: now.has_new_agents,
            has_new_memory: now.has_new_memory,
        }
    }
}

/// Reads the configuration and the flags of a run.
pub(crate) fn read(context: &Context, options: Options) -> Result<Request, Failure> {
    read_overrides(context, Overrides::of(&context.global, options)?)
}

/// Reads the configuration beneath what was given.
pub(crate) fn read_overrides(context: &Context, overrides: Overrides) -> Result<Request, Failure> {
    let Overrides { config, flags, options, has_new_agents, has_new_memory } = overrides;
    let recorded = RunRequest {
        config: config.clone().map(Into::into),
        settings: flags.clone(),
        agents: options.agents,
        timeout: options.timeout.clone(),
        fail_fast: options.fail_fast,
        strict: options.strict,
        fail_on_flaky: options.fail_on.is_some(),
        ..RunRequest::default()
    };
    let duration = |name: &str, text: &Option<String>| {
        let parsed = text.as_deref().map(parse_duration).transpose();
        parsed.with_context(|| name.to_owned()).map_err(Failure::usage)
    };
    let Loaded { mut settings, merged } =
        settings::load(&context.environment, config, flags).map_err(Failure::usage)?;
    if options.agents.is_some() {
        // A number on the command line is meant as it stands, from the first moment on.
        let said = |path| matches!(merged.get(path), Some((_, Origin::Flag(_))));
        settings.pool_initial = settings.pool_initial.filter(|_| said(POOL[0]));
        settings.pool_max = settings.pool_max.filter(|_| said(POOL[1]));
    }
    Ok(Request {
        timeout: duration("--timeout", &options.timeout)?.or(settings.agent_timeout),
        deadline: duration("--deadline", &options.deadline)?.filter(|deadline| !deadline.is_zero()),
        outputs: output::parse(&options.output)?,
        settings,
        warnings: merged.warnings,
        options,
        recorded,
        has_new_agents,
        has_new_memory,
    })
}

fn open_files() -> u64 {
    limits::get(Resource::Files).map_or(1024, |limit| limit.soft.unwrap_or(u64::MAX))
}

impl Request {
    /// Gives a task the limits and retries that its plan leaves open. A recorded task has those of its first run: they
    /// give way.
    pub(crate) fn complete(&self, task: &mut Task) {
        if matches!(task.run, Run::Step(_)) {
            // Code of apm: no process to limit, and nothing that another try would change.
            return;
        }
        if task.sandbox.of_run != self.settings.sandbox {
            task.sandbox.of_run = self.settings.sandbox;
        }
        let (retry, filled) = (&mut task.retry, &mut task.filled);
        // A copy: tasks without limits share one, and a write would make each its own.
        let mut limits = Limits::clone(&task.limits);
        if filled.memory || limits.memory.is_none() {
            limits.memory = self.settings.agent_memory;
            filled.memory = limits.memory.is_some();
        }
        if filled.cpu || limits.cpu.is_none() {
            limits.cpu = self.settings.agent_cpu;
            filled.cpu = limits.cpu.is_some();
        }
        if filled.timeout || limits.timeout.is_none() {
            limits.timeout = self.timeout;
            filled.timeout = limits.timeout.is_some();
        }
        if limits != *task.limits {
            task.limits = limits.into();
        }
        if filled.retries || (retry.max == 0 && !task.never_repeated) {
            retry.max = self.settings.retries;
            filled.retries = retry.max > 0;
        }
        if filled.delays || (retry.max > 0 && retry.delay_max.is_zero()) {
            retry.delay = self.settings.retry_delay;
            retry.delay_max = self.settings.retry_delay_max;
            filled.delays = true;
        }
    }

    /// When results end the run early.
    pub(crate) fn halt(&self) -> Option<Halt> {
        let on = HaltOn::Fail;
        self.options.fail_fast.then_some(Halt { now: true, on, count: HaltCount::Number(1) })
    }

    /// Agents that the limit of open files allows.
    pub(crate) fn agents_possible(&self) -> u32 {
        (open_files().saturating_sub(FILES_OWN) / FILES_PER_ATTEMPT).clamp(1, u64::from(u32::MAX)) as u32
    }

    /// What plan files may say.
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            priority_levels: self.settings.priority_levels,
            resources: self.settings.resources.clone(),
            open_needs: false,
        }
    }

    /// What the whole run may use.
    pub(crate) fn ceilings(&self) -> Ceilings {
        Ceilings { cpu: self.settings.cpu_ceiling, memory: self.settings.memory_ceiling }
    }

    /// The pool.
    pub(crate) fn shape(&self, context: &Context, notes: &mut Vec<(NoteLevel, String)>) -> PoolShape {
        let settings = &self.settings;
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        // A number on the command line is meant as it stands.
        let workload = settings.workload.filter(|_| self.options.agents.is_none());
        let suggested = workload.map(|workload| workload.agents(cpus, machine::host().memory));
        let mut max = settings.agents_max.or(suggested.map(|(_, most)| most)).unwrap_or(cpus);
        max = max.min(settings.pool_max.unwrap_or(u32::MAX));
        if let Some(left) = context.environment.slots_left().filter(|_| context.environment.parent().is_some()) {
            max = max.min(left.max(1));
        }
        let fit = self.agents_possible();
        if fit < max {
            let files = open_files();
            notes.push((
                NoteLevel::Warning,
                format!("{fit} tasks at once, not {max}: only {files} files may be open (`ulimit -n`)"),
            ));
            max = fit;
        }
        let initial = settings.pool_initial.or(suggested.map(|(start, _)| start)).unwrap_or(max).min(max);
        PoolShape { initial, max, scale_factor: settings.scale_factor, idle_timeout: settings.idle_timeout }
    }
}
