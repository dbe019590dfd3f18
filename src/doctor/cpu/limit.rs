//! CPUs that are kept from running: quotas of control groups, heat.

use crate::doctor::cpu::ticks::{each, percent, stats};
use crate::doctor::culprit;
use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::model::diagnosis::{Culprit, Severity};
use crate::model::snapshot::cgroup::Group;
use crate::model::snapshot::process::Process;

/// Periods of a window below which it says nothing.
const PERIODS_MIN: u64 = 3;
/// Lost of the window, percent, below which nobody suffers.
const LOST: f64 = 10.0;
/// Periods after which the share since the group was made is a second opinion: a minute of 100 ms each.
const PERIODS_LONG: u64 = 600;
/// A busy CPU, percent, that runs below this share of its highest clock.
const BUSY: f64 = 80.0;
const SLOW: f64 = 0.6;

/// Counters of a group at both ends of the window.
struct Periods {
    all: (u64, u64),
    throttled: (u64, u64),
    lost_us: (u64, u64),
}

fn periods(context: &RuleContext<'_>, group: &Group) -> Option<Periods> {
    let now = group.cpu_stat.known()?;
    let before = context.before().cgroups.same(group)?.cpu_stat.known()?;
    let both = |name: &str| Some((*before.get(name)?, *now.get(name)?));
    Some(Periods { all: both("nr_periods")?, throttled: both("nr_throttled")?, lost_us: both("throttled_usec")? })
}

fn grown((before, after): (u64, u64)) -> u64 {
    after.saturating_sub(before)
}

/// Times a second that a group lost, in percent of one CPU. The kernel adds a stop when it ends, on each CPU on its own,
/// so that it may be more than there was time.
fn lost(context: &RuleContext<'_>, periods: &Periods) -> f64 {
    context.rate(periods.lost_us.0, periods.lost_us.1) / 1e4
}

/// The group above a process that its quota stopped in this window.
pub(super) fn throttled_group<'a>(context: &RuleContext<'a>, pid: i32) -> Option<&'a Group> {
    let groups = context.now().cgroups.groups.iter();
    groups
        .filter(|group| group.cpu_quota.is_some() && group.members.contains(&pid))
        .find(|group| periods(context, group).is_some_and(|it| grown(it.throttled) > 0 && lost(context, &it) >= LOST))
}

pub(super) fn throttle(context: &RuleContext<'_>) -> Verdict {
    let groups = &context.now().cgroups;
    if groups.groups.is_empty() {
        return Err(Skip("control groups: none can be seen".to_owned()));
    }
    let mut found = Vec::new();
    for group in groups.groups.iter().filter(|group| group.cpu_quota.is_some()) {
        let Some(periods) = periods(context, group) else { continue };
        let (all, throttled) = (grown(periods.all), grown(periods.throttled));
        let share = percent(throttled, all);
        if all < PERIODS_MIN || lost(context, &periods) < LOST {
            continue;
        }
        let waits = group.cpu_pressure.is_some_and(|pressure| pressure.some.avg60 > 40.0);
        let always = periods.all.1 >= PERIODS_LONG && percent(periods.throttled.1, periods.all.1) >= 50.0;
        let Some(severity) = context.judge(share, waits || always) else { continue };
        let quota = group.cpu_quota.unwrap_or_default();
        let file = |name: &str| format!("{}/{name}", group.folders.cpu);
        let whose = if group.is_own { "this session's group" } else { "a group" };
        let title = format!("{whose} was throttled in {throttled} of {all} periods: quota {quota:.2} CPUs");
        let finding = context
            .finding(severity, share, title)
            .counted(&file("cpu.stat"), "nr_throttled", periods.throttled.0, periods.throttled.1, "")
            .counted(&file("cpu.stat"), "nr_periods", periods.all.0, periods.all.1, "")
            .counted(&file("cpu.stat"), "throttled time", periods.lost_us.0, periods.lost_us.1, "cpu-us")
            .agreed(1 + u32::from(waits) + u32::from(always))
            .by([Culprit {
                kind: "cgroup".to_owned(),
                pid: None,
                name: group.path.clone(),
                what: format!("quota {quota:.2} CPUs, throttled in {:.0}% of its periods", share.min(100.0)),
            }])
            .by(members(context, group));
        let workers = (quota.ceil() as u64).max(1);
        let fewer = match wanting(context, group) > workers {
            true if workers == 1 => "run one worker at a time in it, or raise its quota".to_owned(),
            true => format!("run at most {workers} workers at once in it, or raise its quota"),
            false => "raise its quota".to_owned(),
        };
        found.push(finding.fix(fewer, raise(context, group, quota)));
    }
    found.sort_by(|a, b| b.value.total_cmp(&a.value));
    Ok(found)
}

/// The members of a group that used most.
fn members(context: &RuleContext<'_>, group: &Group) -> Vec<Culprit> {
    let used = |process: &Process| if group.members.contains(&process.pid) { process.cpu_ticks } else { 0 };
    // No member has more than the group.
    let most = 100.0 * group.cpu_quota.unwrap_or(f64::INFINITY).max(0.01);
    let share = |ticks: u64| (ticks as f64 / context.window.seconds()).min(most);
    culprit::took(context.window, used, |ticks| format!("{:.0}% of a CPU", share(ticks)))
}

/// Tasks of a group that wanted a CPU at once; where none was seen, one.
fn wanting(context: &RuleContext<'_>, group: &Group) -> u64 {
    let activity = &context.window.activity;
    let running = activity.tasks.iter().filter(|task| group.members.contains(&task.pid)).map(|task| task.running);
    u64::from(running.sum::<u32>().div_ceil(activity.looks.max(1))).max(1)
}

/// The command that doubles the quota, or gives as many CPUs as were wanted at once, where the path is plain enough to be
/// typed.
fn raise(context: &RuleContext<'_>, group: &Group, quota: f64) -> Option<String> {
    let folder = &group.folders.cpu;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/_.@:-".contains(c);
    if folder.is_empty() || !folder.chars().all(is_plain) {
        return None;
    }
    let cpus = context.now().cpu.stat.known().map_or(f64::INFINITY, |stat| stat.each.len().max(1) as f64);
    let quota = (quota * 2.0).max(wanting(context, group) as f64).min(cpus.max(quota));
    let us = (quota * 100_000.0).round() as u64;
    Some(match group.path.ends_with(".service") {
        // What systemd made it would make again.
        true => {
            let unit = group.path.rsplit('/').next().unwrap_or_default();
            context.as_root(&format!("systemctl set-property {unit} CPUQuota={:.0}%", quota * 100.0))
        }
        false if is_v2(group) => context.as_root_shell(&format!("echo {us} 100000 > {folder}/cpu.max")),
        // Its period may be another one.
        false => context.as_root_shell(&format!(
            "echo 100000 > {folder}/cpu.cfs_period_us && echo {us} > {folder}/cpu.cfs_quota_us"
        )),
    })
}

/// Only v2 has all files of a group in one folder; the pressure files are in none where the kernel has no PSI.
fn is_v2(group: &Group) -> bool {
    let folders = &group.folders;
    folders.memory == folders.cpu || folders.pids == folders.cpu || folders.pressure == folders.cpu
}

pub(super) fn quota(context: &RuleContext<'_>) -> Verdict {
    let cpus = f64::from(*context.now().cpu.affinity.get()?);
    let own = context.now().cgroups.groups.iter().filter(|group| group.is_own);
    let tightest = own.filter_map(|group| Some((group.cpu_quota?, group))).min_by(|a, b| a.0.total_cmp(&b.0));
    let Some((quota, group)) = tightest else {
        return match context.now().cgroups.groups.is_empty() {
            true => Err(Skip("control groups: none can be seen".to_owned())),
            false => Ok(Vec::new()),
        };
    };
    let jobs = quota.ceil().max(1.0);
    let ratio = cpus / jobs;
    let Some(severity) = context.judge(ratio, false) else { return Ok(Vec::new()) };
    let title =
        format!("tools see {cpus:.0} CPUs, the quota gives {quota:.2}: they start {ratio:.0}x too many workers");
    Ok(vec![
        context.finding(severity, ratio, title)
            .read(&group.folders.cpu, "quota, CPUs", quota, "")
            .read("/proc/self/status", "Cpus_allowed_list, CPUs", cpus, "")
            .by([Culprit {
                kind: "cgroup".to_owned(),
                pid: None,
                name: group.path.clone(),
                what: format!("quota {quota:.2} CPUs"),
            }])
            .fix(
                "tell tools how many to start",
                Some(format!("export MAKEFLAGS=-j{jobs:.0} CARGO_BUILD_JOBS={jobs:.0} GOMAXPROCS={jobs:.0} RAYON_NUM_THREADS={jobs:.0}")),
            ),
    ])
}

pub(super) fn heat(context: &RuleContext<'_>) -> Verdict {
    if let (Ok(before), Ok(after)) = (context.before().cpu.heat.get(), context.now().cpu.heat.get()) {
        let find = |cpu: u32| before.iter().find(|it| it.cpu == cpu);
        let pairs = || after.iter().filter_map(|now| Some((find(now.cpu)?, now)));
        let events = |get: fn(&crate::model::snapshot::cpu::Heat) -> u64| {
            pairs()
                .fold((0u64, 0u64), |sum, (was, now)| (sum.0.saturating_add(get(was)), sum.1.saturating_add(get(now))))
        };
        let (core, package) = (events(|it| it.core), events(|it| it.package));
        if grown(core) > 0 || grown(package) > 0 {
            let ms = |(was, now): (&crate::model::snapshot::cpu::Heat, &crate::model::snapshot::cpu::Heat)| {
                Some(now.core_ms?.saturating_sub(was.core_ms?))
            };
            let worst = pairs().filter_map(|pair| Some((ms(pair)?, pair.1.cpu))).max();
            let share = worst.map_or(0.0, |(ms, _)| (ms as f64 / context.window.seconds() / 10.0).min(100.0));
            let severity = context.judge(share, grown(package) > 0).unwrap_or(Severity::Warn);
            let title = format!(
                "heat slowed the CPUs {} times in {:.1} s",
                grown(core).max(grown(package)),
                context.window.seconds()
            );
            let cpu = worst.map_or_else(|| "the CPUs".to_owned(), |(_, cpu)| format!("cpu{cpu}"));
            return Ok(vec![
                context
                    .finding(severity, share, title)
                    .counted("/sys/devices/system/cpu/cpu*/thermal_throttle", "core_throttle_count", core.0, core.1, "")
                    .counted(
                        "/sys/devices/system/cpu/cpu*/thermal_throttle",
                        "package_throttle_count",
                        package.0,
                        package.1,
                        "",
                    )
                    .agreed(1 + u32::from(grown(core) > 0 && grown(package) > 0))
                    .by([Culprit {
                        kind: "device".to_owned(),
                        pid: None,
                        name: cpu,
                        what: format!("slowed {share:.0}% of the time"),
                    }])
                    .fix("cooling: fans, dust, the power limit of the machine", Some("sensors".to_owned())),
            ]);
        }
    }
    let clocks = match (context.now().cpu.frequency.get(), context.now().cpu.heat.get()) {
        (Ok(clocks), _) => clocks,
        (Err(_), Ok(_)) => return Ok(Vec::new()),
        (Err(unavailable), Err(_)) => return Err(unavailable.into()),
    };
    let (before, after) = stats(context)?;
    let times = each(before, after);
    let is_slow = |clock: &&crate::model::snapshot::cpu::Frequency| {
        let busy =
            times.iter().find(|(cpu, _)| *cpu == clock.cpu).map_or(0.0, |(_, time)| percent(time.busy(), time.sum()));
        busy >= BUSY && (clock.now_khz as f64) < SLOW * clock.max_khz as f64
    };
    let Some(slow) = clocks.iter().find(is_slow) else { return Ok(Vec::new()) };
    let title = format!(
        "CPU {} is busy at {} of {} MHz ({})",
        slow.cpu,
        slow.now_khz / 1000,
        slow.max_khz / 1000,
        slow.governor
    );
    Ok(vec![
        context
            .finding(Severity::Info, 0.0, title)
            .read(
                &format!("/sys/devices/system/cpu/cpu{}/cpufreq", slow.cpu),
                "scaling_cur_freq",
                slow.now_khz as f64,
                " kHz",
            )
            .read(
                &format!("/sys/devices/system/cpu/cpu{}/cpufreq", slow.cpu),
                "scaling_max_freq",
                slow.allowed_khz as f64,
                " kHz",
            )
            .by([Culprit {
                kind: "device".to_owned(),
                pid: None,
                name: format!("cpu{}", slow.cpu),
                what: format!("governor {}", slow.governor),
            }])
            .fix("let it run faster, if power allows", Some("cpupower frequency-set -g performance".to_owned())),
    ])
}

#[cfg(test)]
mod tests {
    use crate::doctor::fixture::{Fixture, severities};
    use crate::model::diagnosis::Severity::{Crit, Info, Warn};

    const MOUNT: &str = "35 24 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";

    /// A machine with four CPUs and apm in /ci/job with a quota of one.
    fn fixture(name: &str) -> Fixture {
        let fixture = Fixture::new(name);
        let stat = "cpu  100 0 0 100 0 0 0 0 0 0\ncpu0 1 0 0 1\ncpu1 1 0 0 1\ncpu2 1 0 0 1\ncpu3 1 0 0 1\n";
        fixture
            .file("proc/self/mountinfo", MOUNT)
            .file("proc/self/cgroup", "0::/ci/job\n")
            .file("proc/self/status", "Name:\tapm\nCpus_allowed:\tf\nCpus_allowed_list:\t0-127\n")
            .file("proc/stat", stat)
            .file("sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n")
            .file("sys/fs/cgroup/ci/cgroup.controllers", "cpu memory pids\n")
            .file("sys/fs/cgroup/ci/job/cpu.max", "100000 100000\n");
        fixture
    }

    fn stat(periods: u64, throttled: u64, us: u64) -> String {
        format!(
            "usage_usec 1000\nuser_usec 900\nsystem_usec 100\nnr_periods {periods}\nnr_throttled {throttled}\nthrottled_usec {us}\n"
        )
    }

    #[test]
    fn a_group_that_runs_into_its_quota_is_named() {
        let fixture = fixture("l1");
        fixture.changing("sys/fs/cgroup/ci/job/cpu.stat", &stat(100, 50, 1_000_000), &stat(120, 68, 2_760_000));
        let found = fixture.ask("cpu.throttle");
        assert_eq!((severities(&found), found[0].value), (vec![Warn], 90.0));
        assert_eq!(found[0].title, "this session's group was throttled in 18 of 20 periods: quota 1.00 CPUs");
        assert_eq!(
            (found[0].culprits[0].name.as_str(), found[0].culprits[0].what.as_str()),
            ("/ci/job", "quota 1.00 CPUs, throttled in 90% of its periods")
        );
        // One process is no crowd of workers.
        assert_eq!(found[0].remedies[0].text, "raise its quota");
        // Added when a stop ends, on each of several CPUs: no share of the time.
        assert_eq!(found[0].evidence[2].rate(2.0), None);
        // It was always so.
        fixture.changing("sys/fs/cgroup/ci/job/cpu.stat", &stat(1000, 800, 1_000_000), &stat(1020, 818, 2_760_000));
        assert_eq!(severities(&fixture.ask("cpu.throttle")), [Crit]);
    }

    #[test]
    fn a_group_that_loses_little_is_no_fault() {
        let fixture = fixture("l2");
        // A third of the periods, but 50 ms of two seconds.
        fixture.changing("sys/fs/cgroup/ci/job/cpu.stat", &stat(100, 50, 1_000_000), &stat(120, 57, 1_050_000));
        assert_eq!(fixture.ask("cpu.throttle"), []);
        fixture.file("sys/fs/cgroup/ci/job/cpu.stat", &stat(100, 100, 9_000_000));
        assert_eq!(fixture.ask("cpu.throttle"), []);
    }

    #[test]
    fn tools_that_see_more_cpus_than_the_quota_gives_are_told() {
        let fixture = fixture("l3");
        let found = fixture.ask("cpu.quota_vs_nproc");
        assert_eq!((severities(&found), found[0].value), (vec![Warn], 4.0));
        assert_eq!(
            found[0].remedies[0].command.as_deref(),
            Some("export MAKEFLAGS=-j1 CARGO_BUILD_JOBS=1 GOMAXPROCS=1 RAYON_NUM_THREADS=1")
        );
        fixture.file("sys/fs/cgroup/ci/job/cpu.max", "300000 100000\n");
        assert_eq!(fixture.ask("cpu.quota_vs_nproc"), []);
        fixture.file("sys/fs/cgroup/ci/job/cpu.max", "max 100000\n");
        assert_eq!(fixture.ask("cpu.quota_vs_nproc"), []);
    }

    #[test]
    fn heat_is_a_fault_and_a_slow_clock_to_know() {
        let stat = |at: u64| format!("cpu  {0} 0 0 9 0 0 0 0 0 0\ncpu0 {0} 0 0 9 0 0 0 0 0 0\n", 100 + at * 200);
        let heat = "sys/devices/system/cpu/cpu0/thermal_throttle";
        let fixture = Fixture::new("l4");
        fixture.changing("proc/stat", &stat(0), &stat(1));
        fixture
            .file(&format!("{heat}/core_throttle_count"), "12\n")
            .file(&format!("{heat}/package_throttle_count"), "3\n");
        assert_eq!(fixture.ask("cpu.freq"), []);
        fixture.changing(&format!("{heat}/core_throttle_count"), "12\n", "15\n");
        assert_eq!(severities(&fixture.ask("cpu.freq")), [Warn]);
        fixture.changing(&format!("{heat}/core_throttle_total_time_ms"), "1000\n", "2600\n");
        fixture.changing(&format!("{heat}/package_throttle_count"), "3\n", "4\n");
        let found = fixture.ask("cpu.freq");
        assert_eq!((severities(&found), found[0].value), (vec![Crit], 80.0));

        let clock = "sys/devices/system/cpu/cpu0/cpufreq";
        let cool = Fixture::new("l5");
        cool.changing("proc/stat", &stat(0), &stat(1))
            .file(&format!("{clock}/cpuinfo_max_freq"), "4000000\n")
            .file(&format!("{clock}/scaling_max_freq"), "4000000\n")
            .file(&format!("{clock}/scaling_governor"), "powersave\n")
            .file(&format!("{clock}/scaling_cur_freq"), "1200000\n");
        let found = cool.ask("cpu.freq");
        assert_eq!(
            (severities(&found), found[0].title.as_str()),
            (vec![Info], "CPU 0 is busy at 1200 of 4000 MHz (powersave)")
        );
        cool.file(&format!("{clock}/scaling_cur_freq"), "3900000\n");
        assert_eq!(cool.ask("cpu.freq"), []);
    }
}
