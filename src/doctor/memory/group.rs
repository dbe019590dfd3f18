//! Control groups near their limit, or in it.

use std::cmp::Reverse;

use crate::doctor::culprit;
use crate::doctor::memory::held;
use crate::doctor::memory::limit::{events, limit_name, raise, refusals};
use crate::doctor::memory::pressure::{group_stalls, memory_stalls};
use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::model::diagnosis::{Finding, Severity};
use crate::model::snapshot::cgroup::Group;
use crate::model::unit::Bytes;

/// Groups that one rule names in findings of their own.
const GROUPS_MAX: usize = 3;
/// Share of the window, percent, from which on waiting tasks are reported.
const HURTS: f64 = 5.0;
/// Share of the last minute, percent, that confirms what the window shows.
const MINUTE: f64 = 10.0;
/// Files in use, in percent of a limit, from which on being near it says little: they can be read again.
const FILES: f64 = 25.0;

/// Groups with a memory limit. Without control groups there is nothing to be near to.
fn limited<'a>(context: &RuleContext<'a>) -> Result<Vec<&'a Group>, Skip> {
    let cgroups = &context.now().cgroups;
    match cgroups.layout.as_str() {
        "" => Err(Skip("control groups: not looked at".to_owned())),
        "none" => Err(Skip("no control groups are mounted".to_owned())),
        _ => Ok(cgroups.groups.iter().filter(|group| group.memory_max.or(group.memory_high).is_some()).collect()),
    }
}

/// Share of the window in which some task of the group waited for memory; of the machine where groups do not say.
/// Nothing where neither does.
fn waits(context: &RuleContext<'_>, group: &Group) -> Option<(f64, f64)> {
    let stalls = group_stalls(context, group).or_else(|| memory_stalls(context).ok());
    stalls.map(|stalls| (stalls.some, stalls.now.some.avg60))
}

pub(super) fn near(context: &RuleContext<'_>) -> Verdict {
    let mut found: Vec<Finding> = Vec::new();
    for group in limited(context)? {
        let (Some(limit), Some(used)) = (group.memory_max, group.memory_used.known()) else { continue };
        let percent = 100.0 * *used as f64 / limit.max(1) as f64;
        let files = 100.0 * group.memory_files.unwrap_or_default() as f64 / limit.max(1) as f64;
        let collides = refusals(context, group) > 0.0 && waits(context, group).is_none_or(|(some, _)| some >= HURTS);
        if files > FILES && !collides {
            continue;
        }
        // Less than a hundredth left is a hard state.
        let Some(severity) = context.judge(percent, collides || percent >= 99.0) else { continue };
        let title = format!("{} of {} used in {} ({percent:.0}%)", Bytes(*used), Bytes(limit), group.path);
        let finding = context
            .finding(severity, percent, title)
            .agreed(1 + u32::from(collides))
            .read(&group.folders.memory, "used without idle files", *used as f64, "B")
            .read(&group.folders.memory, limit_name(group), limit as f64, "B");
        found.push(blame(context, finding, group));
    }
    Ok(worst(found))
}

pub(super) fn high(context: &RuleContext<'_>) -> Verdict {
    let mut found: Vec<Finding> = Vec::new();
    let groups = limited(context)?;
    for group in &groups {
        let rate = refusals(context, group);
        // Where most of the limit is files that nobody used lately, those are what has to go, and it costs little.
        let limit = group.memory_high.into_iter().chain(group.memory_max).min().unwrap_or_default();
        if group.memory_used.known().is_some_and(|used| *used < limit / 2) {
            continue;
        }
        let (some, minute) = waits(context, group).unwrap_or((100.0, 0.0));
        if some < HURTS {
            continue;
        }
        let Some(severity) = context.judge(rate, minute > MINUTE) else { continue };
        let title = format!("{rate:.0} times/s {} met its memory limit", group.path);
        let mut finding = context.finding(severity, rate, title).agreed(2 + u32::from(minute > MINUTE));
        for name in ["failcnt", "max", "high"] {
            if let Some((before, now)) = events(context, group, name).filter(|(before, now)| before < now) {
                finding = finding.counted(&events_file(group, name), name, before, now, "");
            }
        }
        found.push(blame(context, finding, group));
    }
    // v2 counts an event in the groups above too: the innermost is the one that met it.
    let paths: Vec<String> = found.iter().map(|finding| path_of(finding).to_owned()).collect();
    found.retain(|finding| !paths.iter().any(|path| is_inside(path, path_of(finding))));
    Ok(worst(found))
}

/// The path of the group that a finding of this file names first.
fn path_of(finding: &Finding) -> &str {
    finding.culprits.first().map_or("", |culprit| culprit.name.as_str())
}

/// Whether a group is below another.
pub(super) fn is_inside(path: &str, other: &str) -> bool {
    path.strip_prefix(other.trim_end_matches('/')).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}

fn events_file(group: &Group, name: &str) -> String {
    let file = if name == "failcnt" { "memory.failcnt" } else { "memory.events" };
    format!("{}/{file}", group.folders.memory)
}

fn blame(context: &RuleContext<'_>, finding: Finding, group: &Group) -> Finding {
    let limit = group.memory_max.or(group.memory_high).unwrap_or_default();
    let used = group.memory_used.known().copied().unwrap_or_default();
    let finding = finding
        .by([culprit::group(group, format!("limit {}", Bytes(limit)))])
        .by(culprit::by_memory_among(context.window, &group.members, used))
        .by(held::in_group(group, used));
    raise(context, culprit::end_largest(context.window, finding, used, "run less in it"), group)
}

fn worst(mut found: Vec<Finding>) -> Vec<Finding> {
    let key = |finding: &Finding| (Reverse(finding.severity), Reverse(finding.value.max(0.0) as u64));
    found.sort_by_key(key);
    found.truncate(GROUPS_MAX);
    found.retain(|finding| finding.severity >= Severity::Info);
    found
}

#[cfg(test)]
mod tests {
    use crate::doctor::fixture::{Fixture, severities};
    use crate::doctor::memory::texts::{pressure, stat};
    use crate::model::diagnosis::Severity::{Crit, Warn};

    /// A v1 machine with a group of 400,000,000 bytes that is not apm's.
    fn v1(name: &str) -> Fixture {
        let fixture = Fixture::new(name);
        fixture
            .file("proc/self/cgroup", "4:memory:/\n")
            .file("proc/self/mountinfo", "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n")
            .file("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
            .file("sys/fs/cgroup/memory/memory.usage_in_bytes", "9999999999\n")
            .file("sys/fs/cgroup/memory/ci/memory.limit_in_bytes", "400000000\n")
            .file("sys/fs/cgroup/memory/ci/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
            .file("sys/fs/cgroup/memory/ci/cgroup.procs", "71\n")
            .file("proc/71/stat", &stat(71, "python3", 0, 90_000));
        fixture
    }

    fn use_of(fixture: &Fixture, usage: u64, inactive: u64, active: u64) {
        fixture.file("sys/fs/cgroup/memory/ci/memory.usage_in_bytes", &format!("{usage}\n")).file(
            "sys/fs/cgroup/memory/ci/memory.stat",
            &format!("cache 0\ninactive_file 1\ntotal_inactive_file {inactive}\ntotal_active_file {active}\n"),
        );
    }

    fn failures(fixture: &Fixture, count: u64, waited_us: u64, avg60: f64) {
        fixture.changing("sys/fs/cgroup/memory/ci/memory.failcnt", "282\n", &format!("{}\n", 282 + count));
        fixture.changing("proc/pressure/memory", &pressure(0, 0, 0.0), &pressure(waited_us, 0, avg60));
    }

    #[test]
    fn a_group_near_its_limit_is_named_with_its_largest() {
        let fixture = v1("near");
        failures(&fixture, 0, 0, 0.0);
        let cases = [
            (200_000_000, 0, 0, vec![]),
            // Full of files nobody uses, and of files in use: both can be dropped.
            (399_000_000, 300_000_000, 0, vec![]),
            (399_000_000, 10_000_000, 150_000_000, vec![]),
            (380_000_000, 0, 0, vec![Warn]),
            (399_900_000, 0, 0, vec![Crit]),
        ];
        for (usage, inactive, active, expected) in cases {
            use_of(&fixture, usage, inactive, active);
            assert_eq!(severities(&fixture.ask("mem.cgroup_near")), expected, "{usage} {inactive} {active}");
        }
        let found = fixture.ask("mem.cgroup_near");
        let who: Vec<(&str, Option<i32>)> =
            found[0].culprits.iter().map(|culprit| (culprit.name.as_str(), culprit.pid)).collect();
        assert_eq!(who, [("/ci", None), ("python3", Some(71))]);
        assert_eq!(
            found[0].remedies[1].command.as_deref(),
            Some("echo 599785472 > /sys/fs/cgroup/memory/ci/memory.limit_in_bytes")
        );
    }

    #[test]
    fn meeting_the_limit_counts_where_tasks_wait() {
        let fixture = v1("failcnt");
        use_of(&fixture, 399_000_000, 0, 0);
        let cases = [
            (0, 400_000, 0.0, vec![]),
            // Reads a large file: meets its limit all the time, and nobody waits.
            (5_000, 10_000, 0.0, vec![]),
            (141, 400_000, 0.0, vec![Warn]),
            (5_000, 400_000, 20.0, vec![Crit]),
        ];
        for (count, waited_us, avg60, expected) in cases {
            failures(&fixture, count, waited_us, avg60);
            assert_eq!(severities(&fixture.ask("mem.cgroup_high")), expected, "{count} {waited_us}");
        }
        let found = fixture.ask("mem.cgroup_high");
        assert_eq!((found[0].evidence[0].field.as_str(), found[0].evidence[0].before), ("failcnt", Some(282.0)));
        // The same on a busy machine, where even freeing pages of files takes a while.
        use_of(&fixture, 399_000_000, 380_000_000, 0);
        assert_eq!(fixture.ask("mem.cgroup_high"), []);
    }

    /// v2 counts what a group meets in the groups above too.
    #[test]
    fn the_innermost_group_is_the_one_that_met_its_limit() {
        let fixture = Fixture::new("high");
        let outer = "sys/fs/cgroup/work";
        fixture
            .file("proc/self/cgroup", "0::/\n")
            .file("proc/self/mountinfo", "26 22 0:23 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n")
            .file("proc/pressure/memory", &pressure(0, 0, 0.0));
        for folder in [outer.to_owned(), format!("{outer}/job")] {
            fixture
                .file(&format!("{folder}/memory.max"), "1073741824\n")
                .file(&format!("{folder}/memory.high"), "1000000000\n")
                .file(&format!("{folder}/memory.current"), "900000000\n")
                .changing(
                    &format!("{folder}/memory.events"),
                    "low 0\nhigh 10\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n",
                    "low 0\nhigh 90\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n",
                )
                .changing(&format!("{folder}/memory.pressure"), &pressure(0, 0, 0.0), &pressure(800_000, 0, 0.0));
        }
        let found = fixture.ask("mem.cgroup_high");
        assert_eq!(severities(&found), [Warn]);
        assert_eq!((found[0].value, found[0].culprits[0].name.as_str()), (40.0, "/work/job"));
    }
}
