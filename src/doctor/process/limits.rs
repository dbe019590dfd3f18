//! Limits that are nearly reached: open files, processes, watchers of files.

use std::collections::BTreeMap;

use crate::doctor::culprit::{self, Earlier};
use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::model::diagnosis::{Culprit, Finding, Severity};
use crate::model::snapshot::cgroup::Group;
use crate::model::snapshot::process::Process;
use crate::model::snapshot::system::Watcher;

/// Limits of open files below this are set by sandboxes for themselves.
const FILES_SANDBOX: u64 = 32;
/// Threads of the kernel have this parent.
const KTHREADD: i32 = 2;
/// As many tasks as the kernel can ever number: PID_MAX_LIMIT on 64 bits.
const PID_MAX_LIMIT: u64 = 4_194_304;

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

fn use_of_files(process: &Process) -> Option<f64> {
    let limit = process.files_max.filter(|limit| *limit >= FILES_SANDBOX && *limit < u64::MAX)?;
    Some(percent(process.files?, limit))
}

pub(super) fn files(context: &RuleContext<'_>) -> Verdict {
    context.before().processes.get()?;
    let now = context.now().processes.get()?;
    let earlier = Earlier::of(context.window);
    let is_program = |process: &&Process| {
        process.parent != KTHREADD
            && process.pid != KTHREADD
            && process.state != 'Z'
            && process.pid != context.window.observer
    };
    let programs: Vec<&Process> = now.iter().filter(is_program).collect();
    let unseen = programs.iter().filter(|process| process.files.is_none()).count();
    let is_full_already = |process: &Process| {
        earlier.get(process).and_then(use_of_files).is_some_and(|share| context.crit.is_some_and(|crit| share >= crit))
    };
    let mut full: Vec<(f64, Severity, &Process)> = programs
        .iter()
        .filter_map(|process| {
            let share = use_of_files(process)?;
            Some((share, context.judge(share, is_full_already(process))?, *process))
        })
        .collect();
    full.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.2.pid.cmp(&b.2.pid)));
    let Some((share, severity, worst)) = full.first().copied() else {
        return match unseen {
            0 => Ok(Vec::new()),
            _ => Err(Skip(format!(
                "/proc/PID/fd: {unseen} of {} processes may not be looked at; none of the others is near its limit",
                programs.len()
            ))),
        };
    };
    let (open, limit) = (worst.files.unwrap_or_default(), worst.files_max.unwrap_or_default());
    let name = |(share, _, process): &(f64, Severity, &Process)| {
        let limit = process.files_max.unwrap_or_default();
        culprit::process(process, format!("{} of {limit} open files ({share:.0}%)", process.files.unwrap_or_default()))
    };
    let finding = context
        .finding(severity, share, format!("a process has {open} of {limit} files open ({share:.0}%)"))
        .read(&format!("/proc/{}/fd", worst.pid), "open files", open as f64, "")
        .read(&format!("/proc/{}/limits", worst.pid), "Max open files, soft", limit as f64, "")
        .by(full.iter().take(culprit::NAMED).map(name));
    let more = limit.saturating_mul(4).min(worst.files_hard.unwrap_or(limit));
    let finding = finding.fix(
        "see what it holds: a leak shows as many of one kind",
        Some(format!("ls -l /proc/{}/fd | awk '{{print $NF}}' | sort | uniq -c | sort -n | tail", worst.pid)),
    );
    Ok(vec![match more > limit {
        true => finding.fix("raise its soft limit", Some(format!("prlimit --pid {} --nofile={more}:", worst.pid))),
        false => finding.fix(
            "its hard limit is reached too: raise LimitNOFILE= of its service, or ulimit -Hn before it starts",
            None,
        ),
    }])
}

pub(super) fn all_files(context: &RuleContext<'_>) -> Verdict {
    let (was, _) = *context.before().system.files.get()?;
    let (open, most) = *context.now().system.files.get()?;
    let share = percent(open, most);
    let is_full_already = context.crit.is_some_and(|crit| percent(was, most) >= crit);
    let Some(severity) = context.judge(share, is_full_already) else { return Ok(Vec::new()) };
    let holders = culprit::most(
        context.window,
        culprit::fair(open),
        |process| process.files.unwrap_or_default(),
        |files| format!("{files} open files"),
    );
    Ok(vec![
        context
            .finding(severity, share, format!("{open} of {most} files of the system are open ({share:.0}%)"))
            .counted("/proc/sys/fs/file-nr", "open files", was, open, "")
            .read("/proc/sys/fs/file-nr", "fs.file-max", most as f64, "")
            .by(holders)
            .fix(
                "raise it, and find who leaks",
                Some(context.as_root(&format!("sysctl -w fs.file-max={}", most.saturating_mul(2)))),
            ),
    ])
}

/// A limit of tasks.
struct Limit<'a> {
    place: String,
    what: String,
    before: u64,
    now: u64,
    most: u64,
    refused: Option<(u64, u64)>,
    group: Option<&'a Group>,
    uid: Option<u32>,
}

pub(super) fn tasks(context: &RuleContext<'_>) -> Verdict {
    let mut limits = Vec::new();
    for group in &context.now().cgroups.groups {
        let (Some(most), Some(now)) = (group.pids_max, group.pids.known()) else { continue };
        let earlier = context.before().cgroups.same(group);
        let refused = earlier.and_then(|it| it.pids_refused).zip(group.pids_refused);
        let before = earlier.and_then(|it| it.pids.known()).copied().unwrap_or_default();
        let place = format!("{}/pids.current", group.folders.pids);
        let what = "a control group".to_owned();
        limits.push(Limit { place, what, before, now: *now, most, refused, group: Some(group), uid: None });
    }
    let system = &context.now().system;
    let machine = system.pid_max.known().into_iter().chain(system.threads_max.known()).min();
    if let (Some(most), Ok(now)) = (machine, context.now().cpu.tasks.get()) {
        let before = context.before().cpu.tasks.known().copied().unwrap_or_default();
        let place = "/proc/loadavg tasks".to_owned();
        let what = "the system".to_owned();
        limits.push(Limit { place, what, before, now: *now, most: *most, refused: None, group: None, uid: None });
    }
    // Root is not held to it.
    let own = context.now().room.processes.known().copied().flatten().filter(|_| system.uid != 0);
    let others = system.user_tasks.iter().filter(|(uid, _)| **uid != system.uid).map(|(uid, most)| (*uid, *most));
    for (uid, most) in own.map(|most| (system.uid, most)).into_iter().chain(others) {
        let count = |snapshot: &crate::model::snapshot::Snapshot| {
            let all = snapshot.processes.known().into_iter().flatten();
            all.filter(|it| it.uid == Some(uid)).fold(0u64, |sum, it| sum.saturating_add(it.threads.into()))
        };
        let place = format!("/proc/PID/stat threads of user {uid}");
        let what = if uid == system.uid { "this user".to_owned() } else { format!("user {uid}") };
        let (before, now) = (count(context.before()), count(context.now()));
        limits.push(Limit { place, what, before, now, most, refused: None, group: None, uid: Some(uid) });
    }
    if limits.is_empty() {
        return Err(Skip("no limit of processes can be seen".to_owned()));
    }
    let mut found: Vec<Finding> = limits.iter().filter_map(|limit| too_many(context, limit)).collect();
    found.sort_by(|a, b| b.severity.cmp(&a.severity).then(b.value.total_cmp(&a.value)));
    found.truncate(culprit::NAMED);
    Ok(found)
}

fn too_many(context: &RuleContext<'_>, limit: &Limit<'_>) -> Option<Finding> {
    let share = percent(limit.now, limit.most);
    let refused = limit.refused.map_or(0, |(before, now)| now.saturating_sub(before));
    let is_full_already = context.crit.is_some_and(|crit| percent(limit.before, limit.most) >= crit);
    let severity = match context.judge(share, refused > 0 || is_full_already) {
        Some(severity) => severity,
        None if refused > 0 => Severity::Warn,
        None => return None,
    };
    let forks = if refused > 0 { format!(", {refused} forks refused") } else { String::new() };
    let title = format!("{} has {} of {} processes and threads{forks}", limit.what, limit.now, limit.most);
    let mut finding = context
        .finding(severity, share, title)
        .counted(&limit.place, "tasks", limit.before, limit.now, "")
        .read(&limit.place, "limit", limit.most as f64, "")
        .agreed(1 + u32::from(refused > 0));
    if let (Some((before, now)), Some(group)) = (limit.refused, limit.group) {
        finding = finding.counted(&format!("{}/pids.events", group.folders.pids), "max", before, now, "");
    }
    let is_in = |process: &Process| {
        limit.uid.is_none_or(|uid| process.uid == Some(uid))
            && limit.group.is_none_or(|group| group.members.is_empty() || group.members.contains(&process.pid))
    };
    let threads = |process: &Process| if is_in(process) { u64::from(process.threads) } else { 0 };
    if let Some(group) = limit.group {
        let what = format!("{} of {}", limit.now, limit.most);
        finding = finding.by([Culprit { kind: "cgroup".to_owned(), pid: None, name: group.path.clone(), what }]);
    }
    let say = |count: u64| format!("{count} threads");
    let largest = culprit::most(context.window, culprit::fair(limit.now), threads, say);
    finding = finding.by(by_name(context, &threads)).by(largest.into_iter().take(1));
    Some(match limit.group {
        Some(group) => finding.fix("end what starts so many, or raise the limit", raise(context, group, limit.most)),
        None if limit.uid.is_some() => finding.fix("end what starts so many, or raise ulimit -u", None),
        None => {
            let more = limit.most.saturating_mul(2).min(PID_MAX_LIMIT);
            // Of the two only what is in the way: the other would be lowered.
            let system = &context.now().system;
            let lower =
                |name: &str, now: Option<&u64>| now.filter(|now| **now < more).map(|_| format!(" {name}={more}"));
            let settings = [
                lower("kernel.pid_max", system.pid_max.known()),
                lower("kernel.threads-max", system.threads_max.known()),
            ];
            let settings: String = settings.into_iter().flatten().collect();
            let command = (!settings.is_empty()).then(|| context.as_root(&format!("sysctl -w{settings}")));
            finding.fix("end what starts so many, or raise the limits", command)
        }
    })
}

/// The name that most tasks have, if one process alone does not explain them, with a parent to look at.
fn by_name(context: &RuleContext<'_>, threads: &dyn Fn(&Process) -> u64) -> Option<Culprit> {
    let mut names: BTreeMap<&str, (u64, u64, BTreeMap<i32, u64>)> = BTreeMap::new();
    for process in context.now().processes.known().into_iter().flatten() {
        let count = threads(process);
        if count > 0 && process.pid != context.window.observer && process.parent != KTHREADD {
            let entry = names.entry(&process.name).or_default();
            entry.0 = entry.0.saturating_add(count);
            entry.1 += 1;
            *entry.2.entry(process.parent).or_default() += count;
        }
    }
    let (name, (tasks, processes, parents)) = names.into_iter().max_by_key(|(_, (tasks, ..))| *tasks)?;
    if processes < 2 {
        return None;
    }
    let parent = parents.into_iter().max_by_key(|(_, count)| *count).map(|(pid, _)| pid);
    let by = parent.map(|pid| {
        let name = culprit::of_pid(context.window, pid, String::new()).name;
        format!(", most started by {name}[{pid}]")
    });
    let by = by.unwrap_or_default();
    Some(Culprit {
        kind: "process".to_owned(),
        pid: None,
        name: name.to_owned(),
        what: format!("{processes} at once with {tasks} threads{by}"),
    })
}

/// The command that doubles a group's limit, where its path is plain enough to be typed.
fn raise(context: &RuleContext<'_>, group: &Group, most: u64) -> Option<String> {
    let folder = &group.folders.pids;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/_.@:-".contains(c);
    if folder.is_empty() || !folder.chars().all(is_plain) {
        return None;
    }
    let more = most.saturating_mul(2);
    Some(match group.path.rsplit('/').next().filter(|unit| unit.ends_with(".service")) {
        Some(unit) => context.as_root(&format!("systemctl set-property {unit} TasksMax={more}")),
        None => context.as_root_shell(&format!("echo {more} > {folder}/pids.max")),
    })
}

pub(super) fn watchers(context: &RuleContext<'_>) -> Verdict {
    let system = &context.now().system;
    let inotify = &system.inotify;
    let limits = inotify.limits.get()?;
    let mut users: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    let seen = inotify.users.known().map_or(&[][..], |all| all.as_slice());
    for watcher in seen {
        let sum = users.entry(watcher.uid).or_default();
        *sum = (sum.0.saturating_add(watcher.instances), sum.1.saturating_add(watcher.watches));
    }
    let mut found = Vec::new();
    let refused = inotify.refused.known().and_then(Option::as_deref);
    let holding = |uid: u32, what: &'static str| {
        let (instances, watches) = users.get(&uid).copied().unwrap_or_default();
        match what {
            "instances" => Holding { uid, what, used: instances, most: limits.instances },
            _ => Holding { uid, what, used: watches, most: limits.watches },
        }
    };
    for what in ["instances", "watches"] {
        if refused == Some(what) {
            let one = if what == "instances" { "instance" } else { "watch" };
            let own = holding(system.uid, what);
            let title = format!("the kernel refused this user one more inotify {one}: limit {}", own.most);
            found.push(of_user(context, context.finding(Severity::Crit, 100.0, title), &own));
        }
        for uid in users.keys().filter(|uid| refused != Some(what) || **uid != system.uid) {
            let own = holding(*uid, what);
            let share = percent(own.used, own.most);
            let Some(severity) = context.judge(share, false) else { continue };
            let title = format!("user {uid} has {} of {} inotify {what} ({share:.0}%)", own.used, own.most);
            found.push(of_user(context, context.finding(severity, share, title), &own));
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    // Limits are per user: an ordinary user's own processes are all seen, and one more was granted.
    match (&inotify.refused.known(), inotify.unseen) {
        (Some(None), unseen) if unseen == 0 || system.uid != 0 => Ok(Vec::new()),
        (None, 0) if inotify.users.known().is_some() => Ok(Vec::new()),
        (_, 0) => Err(inotify.users.get().err().map_or_else(|| Skip("inotify: not looked at".to_owned()), Skip::from)),
        (_, unseen) => Err(Skip(format!(
            "/proc/PID/fd: {unseen} processes were not looked at (too many descriptors; --deep looks at all)"
        ))),
    }
}

/// What a user has of one kind.
struct Holding {
    uid: u32,
    what: &'static str,
    used: u64,
    most: u64,
}

/// Evidence, culprits and remedy.
fn of_user(context: &RuleContext<'_>, finding: Finding, own: &Holding) -> Finding {
    let what = own.what;
    let amount = |it: &Watcher| if what == "instances" { it.instances } else { it.watches };
    let seen = context.now().system.inotify.users.known().map_or(&[][..], |all| all.as_slice());
    let least = culprit::fair(own.used);
    let mut holders: Vec<&Watcher> = seen.iter().filter(|it| it.uid == own.uid && amount(it) >= least).collect();
    holders.sort_by_key(|it| (std::cmp::Reverse(amount(it)), it.pid));
    let name = |it: &&Watcher| {
        let process = context.now().processes.known()?.iter().find(|process| process.pid == it.pid)?;
        Some(culprit::process(process, format!("{} {what}", amount(it))))
    };
    let setting = format!("fs.inotify.max_user_{what}");
    let command = context.as_root(&format!("sysctl -w {setting}={}", own.most.saturating_mul(4)));
    finding
        .read("/proc/PID/fdinfo", &format!("inotify {what} of user {}", own.uid), own.used as f64, "")
        .read("sysctl", &setting, own.most as f64, "")
        .by(holders.iter().take(culprit::NAMED).filter_map(name))
        .fix("raise the limit, or watch fewer folders", Some(command))
}

#[cfg(test)]
mod tests {
    use crate::doctor::diagnose::diagnose;
    use crate::doctor::fixture::{Fixture, ask, severities};
    use crate::doctor::question::Question;
    use crate::model::diagnosis::Severity::{Crit, Warn};
    use crate::model::snapshot::process::Process;
    use crate::model::snapshot::system::{InotifyLimits, Watcher};
    use crate::model::snapshot::{Field, Window};

    fn process(pid: i32, files: u64, most: u64) -> Process {
        Process {
            pid,
            parent: 1,
            started: 9,
            name: format!("p{pid}"),
            state: 'S',
            threads: 1,
            files: Some(files),
            files_max: Some(most),
            files_hard: Some(4096),
            ..Process::default()
        }
    }

    fn of(before: Vec<Process>, after: Vec<Process>) -> Window {
        let mut window = Window::default();
        (window.from.processes, window.to.processes) = (Field::Known(before), Field::Known(after));
        window
    }

    fn skipped(window: &Window, rule: &str) -> String {
        let mut found = diagnose(window, &Question { only: vec![rule.to_owned()], ..Question::default() }).skipped;
        found.pop().map(|it| it.reason).unwrap_or_default()
    }

    #[test]
    fn a_process_near_its_limit_of_files_is_named() {
        let calm = of(vec![], vec![process(10, 700, 1024), process(11, 20, 24), process(12, 9_000, u64::MAX)]);
        assert_eq!(ask(&calm, "proc.fd"), []);
        let full = of(vec![process(10, 500, 1024)], vec![process(10, 980, 1024), process(11, 830, 1024)]);
        let found = ask(&full, "proc.fd");
        assert_eq!(
            (severities(&found), found[0].title.as_str()),
            (vec![Warn], "a process has 980 of 1024 files open (96%)")
        );
        assert_eq!(found[0].culprits.len(), 2);
        assert_eq!(found[0].remedies[1].command.as_deref(), Some("prlimit --pid 10 --nofile=4096:"));
        let stays = of(vec![process(10, 979, 1024)], vec![process(10, 980, 1024)]);
        assert_eq!(severities(&ask(&stays, "proc.fd")), [Crit]);
    }

    #[test]
    fn what_may_not_be_looked_at_is_no_ok() {
        let hidden = Process { files: None, files_max: None, ..process(10, 0, 0) };
        let window = of(vec![], vec![hidden, process(11, 20, 1024)]);
        assert_eq!(
            skipped(&window, "proc.fd"),
            "/proc/PID/fd: 1 of 2 processes may not be looked at; none of the others is near its limit"
        );
    }

    #[test]
    fn the_files_of_the_system_are_judged_by_their_most() {
        let fixture = Fixture::new("p1");
        assert_eq!(fixture.file("proc/sys/fs/file-nr", "826\t0\t2466170\n").ask("sys.fd"), []);
        assert_eq!(
            severities(&fixture.changing("proc/sys/fs/file-nr", "100\t0\t1000\n", "950\t0\t1000\n").ask("sys.fd")),
            [Warn]
        );
        assert_eq!(severities(&fixture.file("proc/sys/fs/file-nr", "950\t0\t1000\n").ask("sys.fd")), [Crit]);
        // systemd sets it to the largest number there is.
        assert_eq!(fixture.file("proc/sys/fs/file-nr", "9000\t0\t9223372036854775807\n").ask("sys.fd"), []);
    }

    #[test]
    fn refused_forks_and_full_groups_are_named() {
        let fixture = Fixture::new("p2");
        let group = "sys/fs/cgroup/ci/job";
        fixture
            .file("proc/self/mountinfo", "35 24 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n")
            .file("proc/self/cgroup", "0::/ci/job\n")
            .file("proc/loadavg", "0.10 0.10 0.10 1/300 999\n")
            .file("proc/sys/kernel/pid_max", "32768\n")
            .file("proc/sys/kernel/threads-max", "192730\n")
            .file(&format!("{group}/cgroup.controllers"), "pids\n")
            .file(&format!("{group}/cgroup.procs"), "70\n")
            .file(&format!("{group}/pids.max"), "512\n")
            .file(&format!("{group}/pids.current"), "40\n")
            .file(&format!("{group}/pids.events"), "max 3\n");
        // Refused long ago is no fault of today.
        assert_eq!(fixture.ask("proc.pids"), []);
        fixture.changing(&format!("{group}/pids.current"), "430\n", "512\n").changing(
            &format!("{group}/pids.events"),
            "max 3\n",
            "max 12\n",
        );
        let found = fixture.ask("proc.pids");
        assert_eq!(
            (severities(&found), found[0].title.as_str()),
            (vec![Crit], "a control group has 512 of 512 processes and threads, 9 forks refused")
        );
        assert_eq!((found[0].culprits[0].kind.as_str(), found[0].culprits[0].name.as_str()), ("cgroup", "/ci/job"));
        fixture.file(&format!("{group}/pids.current"), "430\n").file(&format!("{group}/pids.events"), "max 3\n");
        assert_eq!(severities(&fixture.ask("proc.pids")), [Warn]);
        fixture.file(&format!("{group}/pids.max"), "max\n").file("proc/loadavg", "0.10 0.10 0.10 1/32000 999\n");
        let found = fixture.ask("proc.pids");
        assert_eq!(
            (severities(&found), found[0].remedies[0].command.as_deref()),
            (vec![Crit], Some("sysctl -w kernel.pid_max=65536"))
        );
        // Regression: the limit that is higher already was lowered to twice the other.
        for (threads, command) in [("190000\n", "pid_max=65536"), ("40000\n", "pid_max=65536 kernel.threads-max=65536")]
        {
            let found = fixture.file("proc/sys/kernel/threads-max", threads).ask("proc.pids");
            assert_eq!(found[0].remedies[0].command, Some(format!("sysctl -w kernel.{command}")));
        }
    }

    #[test]
    fn threads_of_a_user_are_held_against_his_limit() {
        let many = |threads: u32| Process { uid: Some(1000), threads, ..process(20, 5, 1024) };
        let mut window = of(vec![many(450)], vec![many(450)]);
        window.to.system.uid = 1000;
        window.to.room.processes = Field::Known(Some(500));
        let found = ask(&window, "proc.pids");
        assert_eq!((severities(&found), found[0].culprits[0].what.as_str()), (vec![Warn], "450 threads"));
        window.to.room.processes = Field::Known(Some(5000));
        assert_eq!(ask(&window, "proc.pids"), []);
    }

    fn watching(instances: u64, watches: u64, refused: Option<&str>) -> Window {
        let mut window = of(vec![], vec![process(30, 5, 1024)]);
        let inotify = &mut window.to.system.inotify;
        inotify.limits = Field::Known(InotifyLimits { instances: 128, watches: 192_536 });
        inotify.refused = Field::Known(refused.map(str::to_owned));
        inotify.users = Field::Known(vec![Watcher { pid: 30, uid: 0, instances, watches }]);
        window
    }

    #[test]
    fn watchers_are_counted_by_user_and_a_refusal_is_critical() {
        assert_eq!(ask(&watching(60, 9_000, None), "proc.inotify"), []);
        let found = ask(&watching(126, 9_000, None), "proc.inotify");
        assert_eq!(
            (severities(&found), found[0].title.as_str()),
            (vec![Warn], "user 0 has 126 of 128 inotify instances (98%)")
        );
        assert_eq!(found[0].culprits[0].pid, Some(30));
        assert_eq!(severities(&ask(&watching(1, 190_000, None), "proc.inotify")), [Warn]);
        let found = ask(&watching(128, 10, Some("instances")), "proc.inotify");
        assert_eq!(
            (severities(&found), found[0].title.as_str()),
            (vec![Crit], "the kernel refused this user one more inotify instance: limit 128")
        );
        assert_eq!(found[0].remedies[0].command.as_deref(), Some("sysctl -w fs.inotify.max_user_instances=512"));
        let found = ask(&watching(1, 10, Some("watches")), "proc.inotify");
        assert_eq!(found[0].title, "the kernel refused this user one more inotify watch: limit 192536");
        let mut cut = watching(1, 1, None);
        cut.to.system.inotify.unseen = 7;
        assert!(skipped(&cut, "proc.inotify").contains("7 processes were not looked at"));
        cut.to.system.uid = 1000;
        assert_eq!(ask(&cut, "proc.inotify"), []);
    }
}
