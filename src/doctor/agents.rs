//! Room for agents: how many fit and what binds first; the repository and the tools they would use.

use crate::doctor::host::cpus_effective;
use crate::doctor::question::AgentSize;
use crate::doctor::rule::{Direction, Rule, RuleContext, Skip, Verdict};
use crate::model::diagnosis::{Area, Culprit, Severity};
use crate::model::snapshot::room::Git;
use crate::model::unit::Bytes;

/// Descriptors apm needs for each agent at once, and for itself: as `apm run` counts them.
const FILES: (u64, u64) = (10, 24);
/// Processes and threads of an agent with its compilers and language servers.
const PROCESSES: u64 = 64;
/// Share of the machine's memory that agents do not get: as `apm run` keeps in reserve.
const RESERVE: f64 = 0.1;
/// Descriptors that an agent's own tools need.
const FILES_OF_AGENT: f64 = 64.0;
/// A lock older than this, with no git at work, was left by one that died.
const LOCK_OLD_S: u64 = 60;
/// Loose objects from which on git itself would collect: its gc.auto.
const LOOSE_MANY: u64 = 6_700;
/// Files from which on looking at all of them for each `git status` takes a second.
const FILES_MANY: u64 = 50_000;

/// The rules.
pub(crate) const RULES: &[Rule] = &[
    Rule {
        id: "agent.capacity",
        area: Area::Agents,
        title: "fewer agents fit than are asked for",
        source: "/proc/meminfo, control groups, affinity, ulimit -n and -u, kernel.pid_max, room of the working folder",
        computation: "for each resource what is left, over what one agent takes (--agent-memory, --agent-cpu, --agent-disk, \
                      64 processes, 10 descriptors of apm); the least binds",
        unit: "agents",
        bad: Direction::Below,
        warn: None,
        crit: None,
        thresholds_from: "the number that --agents asks for",
        remedy: "fewer agents (`apm run -j N`), smaller ones, or more of the resource that binds",
        check: capacity,
    },
    Rule {
        id: "agent.nofile",
        area: Area::Agents,
        title: "few files may be open",
        source: "getrlimit RLIMIT_NOFILE",
        computation: "soft limit of open files of this session",
        unit: "files",
        bad: Direction::Below,
        warn: Some(1_023.0),
        crit: Some(255.0),
        thresholds_from: "own: 64 for each agent; the kernel's default is 1024",
        remedy: "ulimit -n \"$(ulimit -Hn)\"",
        check: files,
    },
    Rule {
        id: "agent.sandbox",
        area: Area::Agents,
        title: "how far commands can be confined",
        source: "landlock_create_ruleset, seccomp",
        computation: "tier 1 where Landlock and seccomp are there, 0 where one of them is not; `--sandbox require` needs \
                      Landlock's ABI 6 too",
        unit: "tier",
        bad: Direction::Below,
        warn: None,
        crit: None,
        thresholds_from: "own: what `apm run --sandbox require` asks for",
        remedy: "a kernel from Linux 6.12 on, with `landlock` in its `lsm=`",
        check: sandbox,
    },
    Rule {
        id: "git.lock",
        area: Area::Agents,
        title: "a lock that a dead git left",
        source: ".git/index.lock, names of processes",
        computation: "age of the lock while no git runs",
        unit: "s",
        bad: Direction::Above,
        warn: Some(LOCK_OLD_S as f64),
        crit: None,
        thresholds_from: "own: no command of git takes a minute to write an index",
        remedy: "rm .git/index.lock, once no git runs",
        check: lock,
    },
    Rule {
        id: "git.upkeep",
        area: Area::Agents,
        title: "the repository wants to be cleaned",
        source: ".git/worktrees/*/gitdir, .git/objects/17",
        computation: "worktrees whose folder is gone; loose objects, 256 times those of one folder",
        unit: "",
        bad: Direction::Above,
        warn: None,
        crit: None,
        thresholds_from: "git's own gc.auto: 6700 loose objects",
        remedy: "git worktree prune; git gc",
        check: upkeep,
    },
    Rule {
        id: "git.big",
        area: Area::Agents,
        title: "a large work tree that git looks through each time",
        source: ".git/index, .git/config",
        computation: "files in the index, while neither core.fsmonitor nor core.untrackedCache is set",
        unit: "files",
        bad: Direction::Above,
        warn: None,
        crit: None,
        thresholds_from: "own: 50,000 files",
        remedy: "git config core.fsmonitor true; git config core.untrackedCache true",
        check: big,
    },
    Rule {
        id: "tool.missing",
        area: Area::Agents,
        title: "tools that the files here imply are not installed",
        source: "the plan of `apm run qa` for the working folder",
        computation: "tools that plan would skip because they are missing",
        unit: "tools",
        bad: Direction::Above,
        warn: Some(1.0),
        crit: None,
        thresholds_from: "own: each leaves a gap in what is checked",
        remedy: "install them; `apm run qa --dry-run` says what for",
        check: missing,
    },
];

fn capacity(context: &RuleContext<'_>) -> Verdict {
    let AgentSize { memory, cpu, disk } = context.question.agent;
    let now = context.now();
    let info = now.memory.meminfo.get()?;
    let mut limits: Vec<(f64, String)> = Vec::new();
    let own = || now.cgroups.groups.iter().filter(|group| group.is_own);
    let total = info.get("MemTotal").copied().unwrap_or_default() as f64;
    let mut left = info.get("MemAvailable").copied().unwrap_or_default() as f64;
    for group in own() {
        if let (Some(most), Some(used)) = (group.memory_max, group.memory_used.known()) {
            left = left.min(most.saturating_sub(*used) as f64);
        }
    }
    let left = (left - RESERVE * total).max(0.0);
    limits.push((left / (memory.0 as f64).max(1.0), format!("memory ({} left, {memory} each)", Bytes(left as u64))));
    let cpus = cpus_effective(now);
    limits.push((100.0 * cpus / cpu.max(1.0), format!("CPU ({cpus} CPUs, {cpu}% of one each)")));
    let (soft, _) = now.room.files.get()?;
    let files = soft.saturating_sub(FILES.1) as f64 / FILES.0 as f64;
    limits.push((files, format!("open files (ulimit -n is {soft}, {} each)", FILES.0)));
    let groups = own().filter_map(|group| Some(group.pids_max?.saturating_sub(*group.pids.known()?)));
    if let Some(processes) = groups.chain(now.room.processes.known().copied().flatten()).min() {
        limits.push((processes as f64 / PROCESSES as f64, format!("processes ({processes} left, {PROCESSES} each)")));
    }
    if let Some(place) = now.room.work.known() {
        let room = Bytes(place.space.available);
        limits.push((room.0 as f64 / (disk.0 as f64).max(1.0), format!("disk ({room} left, {disk} each)")));
    }
    limits.sort_by(|a, b| a.0.total_cmp(&b.0));
    let Some((least, binds)) = limits.first().cloned() else { return Ok(Vec::new()) };
    let fit = least.floor();
    let short = context.question.agents.is_some_and(|wanted| fit < f64::from(wanted));
    // How large an agent is nobody knows but who asks: the rest is told only to those.
    if !short && !context.question.areas.contains(&Area::Agents) && context.question.agents.is_none() {
        return Ok(Vec::new());
    }
    let severity = if short { Severity::Warn } else { Severity::Info };
    let wanted = context.question.agents.map(|wanted| format!(" of {wanted}")).unwrap_or_default();
    let mut finding = context.finding(severity, fit, format!("{fit:.0}{wanted} agents fit; first binds {binds}"));
    for (fits, what) in &limits {
        finding = finding.read(what, "", fits.floor(), " agents");
    }
    Ok(vec![match short {
        true => finding.fix("run as many as fit", Some(format!("apm run -j {:.0} ...", fit.max(1.0)))),
        false => finding,
    }])
}

fn files(context: &RuleContext<'_>) -> Verdict {
    let (soft, hard) = *context.now().room.files.get()?;
    let needed = FILES_OF_AGENT * context.question.agents.map_or(1.0, f64::from);
    let severity = match context.judge(soft as f64, true) {
        Some(severity) => severity,
        None if (soft as f64) < needed => Severity::Warn,
        None => return Ok(Vec::new()),
    };
    let finding = context
        .finding(severity, soft as f64, format!("a process may open {soft} files; compilers and servers want more"))
        .read("getrlimit RLIMIT_NOFILE", "soft", soft as f64, "")
        .read("getrlimit RLIMIT_NOFILE", "hard", hard as f64, "");
    Ok(vec![match hard > soft {
        true => finding
            .fix("raise the soft limit to the hard one in this shell", Some("ulimit -n \"$(ulimit -Hn)\"".to_owned())),
        false => finding
            .fix("raise the hard limit: limits.d for logins, LimitNOFILE= for services, --ulimit for containers", None),
    }])
}

/// Information for those who ask about agents: a machine that confines nothing is not ill.
fn sandbox(context: &RuleContext<'_>) -> Verdict {
    let support = context.now().room.sandbox.get()?;
    if !context.question.areas.contains(&Area::Agents) {
        return Ok(Vec::new());
    }
    let landlock = match support.landlock.get() {
        Ok(abi) => format!("Landlock ABI {abi}"),
        Err(_) => "no Landlock".to_owned(),
    };
    let seccomp = if support.seccomp.known().is_some() { "seccomp" } else { "no seccomp" };
    let missing = support.missing();
    let verdict =
        if missing.is_empty() { "`--sandbox require` can be kept" } else { "only `--sandbox best` is possible" };
    let tier = support.tier();
    let title = format!("commands can be confined by tier {tier} ({landlock}, {seccomp}): {verdict}");
    let mut finding = context.finding(Severity::Info, f64::from(tier), title);
    if let Some(abi) = support.landlock.known() {
        finding = finding.read("landlock_create_ruleset", "ABI", f64::from(*abi), "");
    }
    for what in missing {
        finding = finding.fix(what, None);
    }
    Ok(vec![finding])
}

fn git<'a>(context: &RuleContext<'a>) -> Result<&'a Git, Skip> {
    Ok(context.now().room.git.get()?)
}

fn lock(context: &RuleContext<'_>) -> Verdict {
    let Some(age) = git(context)?.lock_age_s else { return Ok(Vec::new()) };
    let runs = context.now().processes.get()?.iter().any(|process| process.name.starts_with("git"));
    let Some(severity) = context.judge(age as f64, false).filter(|_| !runs) else { return Ok(Vec::new()) };
    let finding = context
        .finding(severity, age as f64, format!("index.lock is {age} s old and no git runs: every commit will fail"))
        .read(".git/index.lock", "age", age as f64, " s");
    Ok(vec![finding.fix("take the lock away", Some("rm .git/index.lock".to_owned()))])
}

fn upkeep(context: &RuleContext<'_>) -> Verdict {
    let git = git(context)?;
    let mut findings = Vec::new();
    if git.prunable > 0 {
        let prunable = f64::from(git.prunable);
        let finding = context.finding(Severity::Info, prunable, format!("{prunable} worktrees whose folder is gone"));
        findings.push(
            finding
                .read(".git/worktrees", "gone", prunable, "")
                .fix("forget them", Some("git worktree prune".to_owned())),
        );
    }
    if git.loose > LOOSE_MANY {
        let loose = git.loose as f64;
        let finding =
            context.finding(Severity::Info, loose, format!("about {} loose objects slow git down", git.loose));
        findings
            .push(finding.read(".git/objects/17", "256 times", loose, "").fix("pack them", Some("git gc".to_owned())));
    }
    Ok(findings)
}

fn big(context: &RuleContext<'_>) -> Verdict {
    let git = git(context)?;
    if git.files <= FILES_MANY || git.is_watched {
        return Ok(Vec::new());
    }
    let files = git.files as f64;
    let finding = context
        .finding(Severity::Info, files, format!("{} files: each `git status` looks at all of them", git.files))
        .read(".git/index", "entries", files, "");
    let command = "git config core.fsmonitor true && git config core.untrackedCache true".to_owned();
    Ok(vec![finding.fix("let git be told of changes", Some(command))])
}

fn missing(context: &RuleContext<'_>) -> Verdict {
    let missing = context.now().room.missing.get()?;
    let Some(severity) = context.judge(missing.len() as f64, false) else { return Ok(Vec::new()) };
    let names: Vec<&str> = missing.iter().map(|(tool, _)| tool.as_str()).collect();
    let mut finding = context
        .finding(severity, missing.len() as f64, format!("not installed: {}", names.join(", ")))
        .read("apm run qa --dry-run", "missing", missing.len() as f64, "");
    for (tool, install) in missing {
        let culprit =
            Culprit { kind: "tool".to_owned(), pid: None, name: tool.clone(), what: "is not in PATH".to_owned() };
        finding = finding.by([culprit]).fix(format!("install {tool}"), Some(install.clone()));
    }
    Ok(vec![finding])
}

#[cfg(test)]
mod tests {
    use crate::doctor::diagnose::diagnose;
    use crate::doctor::fixture::severities;
    use crate::doctor::question::{AgentSize, Question};
    use crate::model::diagnosis::Area;
    use crate::model::diagnosis::Severity::{Crit, Info, Warn};
    use crate::model::snapshot::cgroup::Group;
    use crate::model::snapshot::cpu::{Stat, Ticks};
    use crate::model::snapshot::disk::Space;
    use crate::model::snapshot::process::Process;
    use crate::model::snapshot::room::{Git, Place};
    use crate::model::snapshot::{Counters, Field, Window};
    use crate::model::unit::Bytes;

    const GIB: u64 = 1 << 30;

    /// 8 CPUs, 16 GiB of which 12 are free, 1024 files, 100 GiB of disk.
    fn machine() -> Window {
        let mut window = Window::default();
        let now = &mut window.to;
        let info = [("MemTotal", 16 * GIB), ("MemAvailable", 12 * GIB)];
        now.memory.meminfo =
            Field::Known(info.map(|(name, bytes)| (name.to_owned(), bytes)).into_iter().collect::<Counters>());
        now.cpu.stat = Field::Known(Stat { each: (0..8).map(|n| (n, Ticks::default())).collect(), ..Stat::default() });
        now.room.files = Field::Known((1024, 4096));
        let space = Space { bytes: 200 * GIB, available: 100 * GIB, ..Space::default() };
        now.room.work = Field::Known(Place { space, is_in_memory: false });
        now.processes = Field::Known(Vec::new());
        now.room.git = Field::Known(Git::default());
        window
    }

    fn ask(window: &Window, rule: &str, agents: Option<u32>) -> Vec<crate::model::diagnosis::Finding> {
        let agent = AgentSize { memory: Bytes(GIB), cpu: 50.0, disk: Bytes(2 * GIB) };
        let question =
            Question { areas: vec![Area::Agents], only: vec![rule.to_owned()], agents, agent, ..Question::default() };
        diagnose(window, &question).findings
    }

    #[test]
    fn the_resource_that_binds_first_is_named() {
        let mut window = machine();
        // (12 - 1.6) GiB / 1 GiB = 10; 8 CPUs / half a CPU = 16; 1000 / 10 = 100; 100 GiB / 2 GiB = 50.
        let found = ask(&window, "agent.capacity", None);
        assert_eq!((severities(&found), found[0].value), (vec![Info], 10.0));
        assert!(found[0].title.contains("first binds memory"), "{}", found[0].title);
        assert_eq!(severities(&ask(&window, "agent.capacity", Some(10))), [Info]);
        assert_eq!(severities(&ask(&window, "agent.capacity", Some(11))), [Warn]);
        let group = Group {
            is_own: true,
            cpu_quota: Some(1.5),
            pids_max: Some(100),
            pids: Field::Known(10),
            ..Group::default()
        };
        window.to.cgroups.groups.push(group);
        // 90 / 64 processes = 1; 1.5 CPUs / half a CPU = 3.
        let found = ask(&window, "agent.capacity", Some(4));
        assert_eq!((severities(&found), found[0].value), (vec![Warn], 1.0));
        assert!(found[0].title.contains("1 of 4 agents fit; first binds processes (90 left"), "{}", found[0].title);
    }

    #[test]
    fn a_soft_limit_below_the_usual_or_the_needed_speaks() {
        let mut window = machine();
        assert_eq!(severities(&ask(&window, "agent.nofile", Some(16))), []);
        assert_eq!(severities(&ask(&window, "agent.nofile", Some(17))), [Warn]);
        window.to.room.files = Field::Known((256, 256));
        assert_eq!(severities(&ask(&window, "agent.nofile", None)), [Warn]);
        window.to.room.files = Field::Known((64, 4096));
        let found = ask(&window, "agent.nofile", None);
        assert_eq!(severities(&found), [Crit]);
        assert_eq!(found[0].remedies[0].command.as_deref(), Some("ulimit -n \"$(ulimit -Hn)\""));
    }

    #[test]
    fn a_lock_speaks_only_when_it_is_old_and_no_git_runs() {
        let mut window = machine();
        let mut with = |age, names: &[&str]| {
            window.to.room.git = Field::Known(Git { lock_age_s: age, ..Git::default() });
            let process = |name: &&str| Process { name: (*name).to_owned(), ..Process::default() };
            window.to.processes = Field::Known(names.iter().map(process).collect());
            severities(&ask(&window, "git.lock", None))
        };
        assert_eq!(with(None, &[]), []);
        assert_eq!(with(Some(5), &[]), []);
        assert_eq!(with(Some(500), &["bash", "git"]), []);
        assert_eq!(with(Some(500), &["bash"]), [Warn]);
    }

    #[test]
    fn a_repository_that_wants_care_says_which() {
        let mut window = machine();
        assert_eq!(ask(&window, "git.upkeep", None), []);
        assert_eq!(ask(&window, "git.big", None), []);
        let git = Git { prunable: 2, loose: 6_912, files: 60_000, ..Git::default() };
        window.to.room.git = Field::Known(git.clone());
        assert_eq!(severities(&ask(&window, "git.upkeep", None)), [Info, Info]);
        assert_eq!(severities(&ask(&window, "git.big", None)), [Info]);
        window.to.room.git = Field::Known(Git { is_watched: true, ..git });
        assert_eq!(ask(&window, "git.big", None), []);
    }

    #[test]
    fn missing_tools_are_named_with_how_to_get_them() {
        let mut window = machine();
        window.to.room.missing = Field::Known(Vec::new());
        assert_eq!(ask(&window, "tool.missing", None), []);
        window.to.room.missing = Field::Known(vec![("ruff".to_owned(), "pip install ruff".to_owned())]);
        let found = ask(&window, "tool.missing", None);
        assert_eq!(severities(&found), [Warn]);
        assert_eq!(
            (found[0].culprits[0].name.as_str(), found[0].remedies[0].command.as_deref()),
            ("ruff", Some("pip install ruff"))
        );
    }
}
