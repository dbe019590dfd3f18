//! Processes that the kernel killed because memory was out: OOM kills.

use crate::doctor::culprit;
use crate::doctor::memory::counter::{VMSTAT, growth};
use crate::doctor::memory::group::is_inside;
use crate::doctor::memory::held::in_group;
use crate::doctor::memory::limit::{events, raise};
use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::model::diagnosis::{Culprit, Finding, Severity};
use crate::model::snapshot::cgroup::Group;
use crate::model::snapshot::system::Record;
use crate::model::unit::Bytes;

/// How long a kill by the limit of a group stays a warning, seconds; node-problem-detector looks back as long.
const FRESH_S: f64 = 300.0;
/// How long ago a kill may be to be reported, seconds.
const RECENT_S: f64 = 1800.0;

/// A kill in the kernel's log.
struct Kill<'a> {
    /// How long ago, seconds.
    age_s: f64,
    /// Chosen by the process.
    name: &'a str,
    /// The limit of a control group, not the end of the machine's memory.
    by_group: bool,
    /// That group, if the log says.
    group: Option<&'a str>,
}

fn kills<'a>(context: &RuleContext<'a>) -> Result<Vec<Kill<'a>>, Skip> {
    let uptime = *context.now().system.uptime.get()?;
    let mut found = Vec::new();
    // The line before tells of the group.
    let mut group = None;
    for record in &context.now().system.kmsg.get()?.records {
        match record.pattern.as_str() {
            "oom_victim" => group = part(&record.text, "oom_memcg="),
            "oom_kill" => found.extend(kill(record, uptime, group.take())),
            _ => {}
        }
    }
    found.retain(|kill| kill.age_s <= RECENT_S);
    Ok(found)
}

fn part<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    text.split(',').find_map(|part| part.strip_prefix(start))
}

/// `Memory cgroup out of memory: Killed process 4538 (python3) total-vm:170188kB, ...`. The name may hold anything.
fn kill<'a>(record: &'a Record, uptime: f64, group: Option<&'a str>) -> Option<Kill<'a>> {
    let (start, rest) = record.text.split_once("Killed process ")?;
    let (_, rest) = rest.split_once('(')?;
    let name = rest.rfind(") total-vm:").or_else(|| rest.rfind(')')).and_then(|end| rest.get(..end))?;
    let by_group = group.is_some() || start.to_ascii_lowercase().contains("cgroup");
    Some(Kill { age_s: (uptime - record.at_s).max(0.0), name, by_group, group })
}

impl Kill<'_> {
    fn place(&self) -> String {
        match (self.group, self.by_group) {
            (Some(group), _) => format!(" by the limit of {group}"),
            (None, true) => " by the limit of its group".to_owned(),
            (None, false) => String::new(),
        }
    }
}

/// Who was killed, the last first; those of one name in one place are one. Their numbers are gone: they must not be taken
/// for those of other processes.
fn victims<'a>(kills: impl DoubleEndedIterator<Item = &'a Kill<'a>>) -> Vec<Culprit> {
    let mut groups: Vec<(&Kill<'_>, u32)> = Vec::new();
    for kill in kills.rev() {
        match groups.iter_mut().find(|(last, _)| last.name == kill.name && last.place() == kill.place()) {
            Some((_, count)) => *count += 1,
            None => groups.push((kill, 1)),
        }
    }
    let say = |(last, count): (&Kill<'_>, u32)| {
        let times = if count > 1 { format!("{count} times, the last ") } else { String::new() };
        let what = format!("killed {times}{} ago{}", ago(last.age_s), last.place());
        Culprit { kind: "process".to_owned(), pid: None, name: last.name.to_owned(), what }
    };
    groups.into_iter().take(culprit::NAMED).map(say).collect()
}

fn ago(seconds: f64) -> String {
    if seconds < 90.0 { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) }
}

fn times(count: u64, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}es") }
}

pub(super) fn oom_recent(context: &RuleContext<'_>) -> Verdict {
    let counted = growth(context, "oom_kill");
    let in_window = counted.as_ref().map_or(0, |growth| growth.now.saturating_sub(growth.before));
    let logged = kills(context);
    if in_window == 0 {
        // Without the log the last half hour is not known, whatever the window says.
        let logged = logged.as_ref().map_err(|Skip(reason)| match counted {
            Ok(_) => Skip(format!("none in the window; before it: {reason}")),
            Err(_) => Skip(reason.clone()),
        })?;
        if logged.is_empty() {
            return Ok(Vec::new());
        }
    }
    let logged = logged.unwrap_or_default();
    // The kernel's counter says how many of those in the log are of the window: the last ones.
    let (before, now) = logged.split_at(logged.len().saturating_sub(in_window as usize));
    let mut found = Vec::new();
    if in_window > 0 {
        let title = format!("{} OOM-killed just now", times(in_window, "process"));
        let Some(severity) = context.judge(in_window as f64, true) else { return Ok(Vec::new()) };
        let mut finding = context.finding(severity, in_window as f64, title).agreed(1 + u32::from(!now.is_empty()));
        if let Ok(growth) = counted {
            finding = finding.counted(VMSTAT, "oom_kill", growth.before, growth.now, "");
        }
        // Where groups count as many, mem.cgroup_oom tells of the same.
        let killing = killing(context);
        let by_groups =
            killing.iter().map(|((before, now), _)| now.saturating_sub(*before)).fold(0, u64::saturating_add);
        if by_groups >= in_window {
            finding = finding.by(killing.first().map(|(_, group)| culprit::group(group, "its limit".to_owned())));
        }
        found.push(remedied(context, finding.by(victims(now.iter())), now));
    }
    let count = before.len() as u64;
    let by_machine = before.iter().any(|kill| !kill.by_group);
    // A limit that `apm run` was told to set did what it is for, and the run has said so.
    let is_news = |kill: &&Kill<'_>| !kill.group.is_some_and(culprit::is_of_run);
    let is_fresh = before.iter().rev().find(is_news).is_some_and(|kill| kill.age_s <= FRESH_S);
    if let (Some(last), Some(severity)) = (before.last(), context.judge(count as f64, false)) {
        // A kill of before the window is no reason for alarm now, and beside one in the window none for a second.
        let is_loud = (by_machine || is_fresh) && in_window == 0;
        let severity = if is_loud { severity.min(Severity::Warn) } else { Severity::Info };
        let title =
            format!("{} OOM-killed in the last half hour, the last {} ago", times(count, "process"), ago(last.age_s));
        let finding = context
            .finding(severity, count as f64, title)
            .read("/dev/kmsg", "Killed process", count as f64, "")
            .by(victims(before.iter()));
        found.push(remedied(context, finding, before));
    }
    Ok(found)
}

/// What helps against kills: the limit that made them, or the machine.
fn remedied(context: &RuleContext<'_>, finding: Finding, kills: &[Kill<'_>]) -> Finding {
    let by_group = kills.iter().rev().find_map(|kill| kill.group);
    let group = by_group.and_then(|path| context.now().cgroups.groups.iter().find(|group| group.path == path));
    match group {
        Some(group) => raise(context, finding, group),
        None if by_group.is_some() && kills.iter().all(|kill| kill.by_group) => {
            finding.fix("raise the memory limit of that group, or run less in it", None)
        }
        None => finding.fix("run fewer things at once, or add swap on zram", None),
    }
}

/// A counter of a group at both ends of the window.
type Killing<'a> = ((u64, u64), &'a Group);

/// Groups whose limit killed in the window, the worst first.
fn killing<'a>(context: &RuleContext<'a>) -> Vec<Killing<'a>> {
    let killed = |group: &'a Group| {
        let (before, now) = events(context, group, "oom_kill")?;
        (now > before).then_some(((before, now), group))
    };
    let mut found: Vec<Killing<'a>> = context.now().cgroups.groups.iter().filter_map(killed).collect();
    // v2 counts a kill in the groups above too: the innermost is the victim's.
    let paths: Vec<&str> = found.iter().map(|(_, group)| group.path.as_str()).collect();
    found.retain(|(_, group)| !paths.iter().any(|path| is_inside(path, &group.path)));
    found.sort_by_key(|((before, now), _)| std::cmp::Reverse(now.saturating_sub(*before)));
    found
}

pub(super) fn cgroup_oom(context: &RuleContext<'_>) -> Verdict {
    let cgroups = &context.now().cgroups;
    match cgroups.layout.as_str() {
        "" => return Err(Skip("control groups: not looked at".to_owned())),
        "none" => return Err(Skip("no control groups are mounted".to_owned())),
        _ => {}
    }
    // Before Linux 4.13 nobody counts.
    let counts = |group: &Group| group.memory_events.known().is_some_and(|events| events.contains_key("oom_kill"));
    if !cgroups.groups.iter().any(counts) {
        let why = cgroups.groups.iter().find_map(|group| group.memory_events.get().err());
        return Err(why.map_or_else(|| Skip("no group counts oom_kill".to_owned()), Skip::from));
    }
    let found = killing(context);
    let Some(((before, now), worst)) = found.first().copied() else { return Ok(Vec::new()) };
    let count = found.iter().fold(0_u64, |sum, ((before, now), _)| sum.saturating_add(now.saturating_sub(*before)));
    let Some(severity) = context.judge(count as f64, true) else { return Ok(Vec::new()) };
    // The limit may be that of a group above.
    let is_above = |group: &&Group| group.path == worst.path || is_inside(&worst.path, &group.path);
    let limits = cgroups.groups.iter().filter(is_above).filter_map(|group| Some((group.memory_max?, group)));
    let limit = limits.min_by_key(|(limit, _)| *limit);
    let bound = limit.map(|(limit, _)| format!(", limit {}", Bytes(limit))).unwrap_or_default();
    let title = format!("{} OOM-killed in {}{bound}", times(count, "process"), worst.path);
    let is_v1 = worst.memory_events.known().is_some_and(|events| events.contains_key("oom_kill_disable"));
    let file = if is_v1 { "memory.oom_control" } else { "memory.events" };
    let by = found.iter().take(culprit::NAMED).map(|((before, now), group)| {
        culprit::group(group, format!("{} OOM-killed", times(now.saturating_sub(*before), "process")))
    });
    let window = context.window.seconds();
    let logged = kills(context).unwrap_or_default();
    let recent: Vec<&Kill<'_>> = logged.iter().filter(|kill| kill.by_group && kill.age_s <= window + 1.0).collect();
    // The counter knows how many of them are of the window.
    let of_window = victims(recent.into_iter().rev().take(count as usize).rev());
    // What was killed uses nothing any more: who is left is held against the limit.
    let used = limit.map_or_else(|| worst.memory_used.known().copied().unwrap_or_default(), |(limit, _)| limit);
    let finding = context
        .finding(severity, count as f64, title)
        .agreed(2)
        .counted(&format!("{}/{file}", worst.folders.memory), "oom_kill", before, now, "")
        .by(by)
        .by(of_window)
        .by(culprit::by_memory_among(context.window, &worst.members, used))
        .by(in_group(worst, used));
    Ok(vec![raise(context, finding, limit.map_or(worst, |(_, group)| group))])
}

#[cfg(test)]
mod tests {
    use crate::doctor::diagnose::diagnose;
    use crate::doctor::fixture::{Fixture, severities};
    use crate::doctor::question::Question;
    use crate::model::diagnosis::Severity::{Crit, Info, Warn};

    /// As Linux 6.18 wrote it, at 14586 s after boot.
    const GROUP_KILL: &str = "3,18744,14586575262,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/ci,task_memcg=/ci/1,task=python3,pid=4538,uid=0\n\
        3,18745,14586575271,-;Memory cgroup out of memory: Killed process 4538 (python3) total-vm:170188kB, anon-rss:65280kB, file-rss:6688kB, shmem-rss:0kB, UID:0 pgtables:188kB oom_score_adj:0\n";
    /// The machine itself, with a name that tries to end the line early.
    const MACHINE_KILL: &str = "3,18744,14586575262,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/,task=a) total,pid=77,uid=1000\n\
        3,18745,14586575271,-;Out of memory: Killed process 77 (a) total) total-vm:9170188kB, anon-rss:9065280kB, file-rss:0kB, shmem-rss:0kB, UID:1000 pgtables:188kB oom_score_adj:0\n";

    #[test]
    fn kills_of_the_last_half_hour_are_told_by_age_and_by_whose_limit() {
        let fixture = Fixture::new("oom-recent");
        fixture.file("proc/vmstat", "oom_kill 260\n");
        let cases = [
            (GROUP_KILL, "14700.00 9.0\n", vec![Warn]),
            (GROUP_KILL, "15000.00 9.0\n", vec![Info]),
            (GROUP_KILL, "16400.00 9.0\n", vec![]),
            (MACHINE_KILL, "15000.00 9.0\n", vec![Warn]),
            // A limit that a run of apm was told to set.
            (&GROUP_KILL.replace("/ci", "/apm-20261125-171907-7009fe/3"), "14700.00 9.0\n", vec![Info]),
            (&GROUP_KILL.replace("/ci", "/apm-proxy/3"), "14700.00 9.0\n", vec![Warn]),
            // Since boot, last week: no finding.
            ("6,1,1000,-;Linux version 6.18.44\n", "600000.00 9.0\n", vec![]),
        ];
        for (log, uptime, expected) in cases {
            fixture.file("dev/kmsg", log).file("proc/uptime", uptime);
            assert_eq!(severities(&fixture.ask("mem.oom_recent")), expected, "{uptime}");
        }
        let found = fixture.file("dev/kmsg", MACHINE_KILL).file("proc/uptime", "14600.57 9.0\n").ask("mem.oom_recent");
        assert_eq!(
            (found[0].culprits[0].name.as_str(), found[0].culprits[0].what.as_str()),
            ("a) total", "killed 14 s ago")
        );
        let found = fixture.file("dev/kmsg", GROUP_KILL).ask("mem.oom_recent");
        assert_eq!(found[0].culprits[0].what, "killed 14 s ago by the limit of /ci");
        assert_eq!(found[0].culprits[0].pid, None);
    }

    #[test]
    fn a_kill_in_the_window_is_critical_and_without_the_log_silence_is_no_ok() {
        let fixture = Fixture::new("oom-now");
        fixture.file("proc/uptime", "15000.00 9.0\n").changing("proc/vmstat", "oom_kill 260\n", "oom_kill 263\n");
        let found = fixture.ask("mem.oom_recent");
        assert_eq!((severities(&found), found[0].value), (vec![Crit], 3.0));
        fixture.file("proc/vmstat", "oom_kill 263\n");
        let question = Question { only: vec!["mem.oom_recent".to_owned()], ..Question::default() };
        let diagnosis = diagnose(&fixture.window(), &question);
        assert_eq!((diagnosis.ok.len(), diagnosis.findings.len()), (0, 0));
        assert!(diagnosis.skipped[0].reason.starts_with("none in the window; before it: "), "{:?}", diagnosis.skipped);
    }

    /// Regression: kills of 23 minutes ago stood below "1 process killed just now", one line each.
    #[test]
    fn kills_of_before_the_window_are_told_apart_and_those_of_one_name_are_one_line() {
        let fixture = Fixture::new("oom-both");
        fixture.changing("proc/vmstat", "oom_kill 260\n", "oom_kill 263\n");
        let earlier = GROUP_KILL.replace("14586", "14585");
        fixture.file("proc/uptime", "16000.00 9.0\n");
        let now = GROUP_KILL.replace("14586", "15999").repeat(3);
        let found = fixture.file("dev/kmsg", &format!("{earlier}{earlier}{now}")).ask("mem.oom_recent");
        assert_eq!(severities(&found), [Crit, Info]);
        let said: Vec<&str> = found.iter().flat_map(|it| &it.culprits).map(|culprit| culprit.what.as_str()).collect();
        assert_eq!(
            said,
            [
                "killed 3 times, the last 0 s ago by the limit of /ci",
                "killed 2 times, the last 24 min ago by the limit of /ci"
            ]
        );
    }

    #[test]
    fn a_group_whose_limit_kills_is_named() {
        let fixture = Fixture::new("cgroup-oom");
        let events = |kills: u64| format!("low 0\nhigh 0\nmax 90\noom {kills}\noom_kill {kills}\noom_group_kill 0\n");
        fixture
            .file("proc/self/cgroup", "0::/\n")
            .file("proc/self/mountinfo", "26 22 0:23 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n")
            .file("sys/fs/cgroup/work/memory.max", "2147483648\n")
            .file("sys/fs/cgroup/work/job/memory.max", "max\n")
            // Killed last week.
            .file("sys/fs/cgroup/old/memory.max", "1073741824\n")
            .file("sys/fs/cgroup/old/memory.events", &events(7));
        for folder in ["sys/fs/cgroup/work", "sys/fs/cgroup/work/job"] {
            fixture.changing(&format!("{folder}/memory.events"), &events(4), &events(7));
        }
        let found = fixture.ask("mem.cgroup_oom");
        assert_eq!(severities(&found), [Crit]);
        assert_eq!(found[0].title, "3 processes OOM-killed in /work/job, limit 2 GiB");
        assert_eq!(found[0].culprits.len(), 1);
        assert_eq!(found[0].culprits[0].name, "/work/job");
        // The limit that binds is that of the group above.
        assert_eq!(found[0].remedies[0].command.as_deref(), Some("echo 3221225472 > /sys/fs/cgroup/work/memory.max"));
        for folder in ["sys/fs/cgroup/work", "sys/fs/cgroup/work/job"] {
            fixture.file(&format!("{folder}/memory.events"), &events(7));
        }
        assert_eq!(fixture.ask("mem.cgroup_oom"), []);
    }
}
