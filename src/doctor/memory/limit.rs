//! The memory limit of a control group: how often it is met, where most, and how it is raised.

use crate::doctor::culprit;
use crate::doctor::memory::held::room;
use crate::doctor::memory::pressure::group_stalls;
use crate::doctor::rule::RuleContext;
use crate::model::diagnosis::Finding;
use crate::model::snapshot::cgroup::Group;

/// Growth of an event of a group. One that was not there before began at zero, unless not all were looked at.
pub(super) fn events(context: &RuleContext<'_>, group: &Group, name: &str) -> Option<(u64, u64)> {
    let now = *group.memory_events.known()?.get(name)?;
    let before = match context.before().cgroups.same(group) {
        Some(before) => *before.memory_events.known()?.get(name)?,
        None if context.before().cgroups.is_cut || context.before().cgroups.layout.is_empty() => return None,
        None => 0,
    };
    Some((before, now))
}

/// How often a second allocations met a limit: v1 counts failures, v2 events of each limit.
pub(super) fn refusals(context: &RuleContext<'_>, group: &Group) -> f64 {
    let rate = |name: &str| events(context, group, name).map_or(0.0, |(before, now)| context.rate(before, now));
    rate("failcnt") + rate("max") + rate("high")
}

/// The group to name where tasks wait for memory: the one that waits most, else the one that meets its limit most.
pub(super) fn squeezed<'a>(context: &RuleContext<'a>) -> Option<&'a Group> {
    // The root is the machine, unless it has a limit: then it is that of a container.
    let is_part = |group: &&Group| group.path != "/" || group.memory_max.is_some();
    let groups = || context.now().cgroups.groups.iter().filter(is_part);
    let most = |amount: &dyn Fn(&Group) -> f64, floor: f64| {
        let amounts = groups().map(|group| (amount(group), group)).filter(|(amount, _)| *amount >= floor);
        // Of a group and its parent that say the same, the inner one knows better.
        amounts.max_by(|(a, one), (b, other)| a.total_cmp(b).then(one.path.len().cmp(&other.path.len())))
    };
    let waits = |group: &Group| group_stalls(context, group).map_or(0.0, |stalls| stalls.some);
    most(&waits, 5.0).or_else(|| most(&|group| refusals(context, group), 1.0)).map(|(_, group)| group)
}

/// The file that holds the limit of a group.
pub(super) fn limit_name(group: &Group) -> &'static str {
    let is_v1 = group.memory_events.known().is_some_and(|events| events.contains_key("oom_kill_disable"));
    match (is_v1, group.memory_max) {
        (true, _) => "memory.limit_in_bytes",
        (false, None) if group.memory_high.is_some() => "memory.high",
        (false, _) => "memory.max",
    }
}

/// Tells how to raise the limit of a group, half as much again. In a container its files can only be read.
pub(super) fn raise(context: &RuleContext<'_>, finding: Finding, group: &Group) -> Finding {
    let text = "run less in it, or raise its limit";
    let limit = group.memory_max.or(group.memory_high).unwrap_or_default();
    if room(context).is_ok_and(|machine| machine.available < limit / 2) {
        return finding.fix("run less in it: the machine has no memory left by which its limit could be raised", None);
    }
    let (Some(limit), None) = (group.memory_max.or(group.memory_high), &context.now().system.container) else {
        return finding.fix(format!("{text}, from outside the container if it is one"), None);
    };
    let wanted = (limit.saturating_add(limit / 2) >> 20).max(1) << 20;
    let write = |file: &str| {
        let file = culprit::typed(file)?;
        Some(match context.now().system.uid {
            0 => format!("echo {wanted} > {file}"),
            _ => format!("echo {wanted} | sudo tee {file}"),
        })
    };
    let unit = group.path.rsplit('/').next().filter(|unit| unit.ends_with(".service") || unit.ends_with(".slice"));
    if let Some(unit) = unit.and_then(culprit::typed).filter(|_| !group.folders.memory.contains("/memory/")) {
        // What systemd has set it would set again.
        let property = if group.memory_max.is_some() { "MemoryMax" } else { "MemoryHigh" };
        return finding.fix(text, Some(context.as_root(&format!("systemctl set-property {unit} {property}={wanted}"))));
    }
    let file = format!("{}/{}", group.folders.memory, limit_name(group));
    let together = group.swap_max.filter(|limit| *limit < wanted && file.ends_with("memory.limit_in_bytes"));
    // In v1 memory may not have more than memory and swap together.
    let first = together.map(|_| write(&format!("{}/memory.memsw.limit_in_bytes", group.folders.memory)));
    let command = match first {
        Some(first) => first.zip(write(&file)).map(|(first, second)| format!("{first} && {second}")),
        None => write(&file),
    };
    finding.fix(text, command)
}

#[cfg(test)]
mod tests {
    use super::raise;
    use crate::doctor::memory::RULES;
    use crate::doctor::question::Question;
    use crate::doctor::rule::RuleContext;
    use crate::model::diagnosis::Severity;
    use crate::model::snapshot::Window;
    use crate::model::snapshot::cgroup::Group;

    /// What would be raised to must be there, and what systemd has set it sets again.
    #[test]
    fn a_limit_is_raised_where_the_machine_has_the_memory_and_by_whom_it_was_set() {
        let raised = |path: &str, folder: &str, available: u64| {
            let mut group = Group { path: path.to_owned(), memory_max: Some(64 << 20), ..Group::default() };
            group.folders.memory = folder.to_owned();
            let mut window = Window::default();
            let info = [("MemTotal".to_owned(), 1 << 30), ("MemAvailable".to_owned(), available)];
            window.to.memory.meminfo = crate::model::snapshot::Field::Known(info.into());
            let question = Question::default();
            let context = RuleContext { rule: &RULES[0], window: &window, warn: None, crit: None, question: &question };
            raise(&context, context.finding(Severity::Info, 0.0, ""), &group).remedies.remove(0).command
        };
        let folder = "/sys/fs/cgroup/system.slice/web.service";
        assert_eq!(
            raised("/system.slice/web.service", folder, 512 << 20).as_deref(),
            Some("systemctl set-property web.service MemoryMax=100663296")
        );
        assert_eq!(raised("/ci", "/sys/fs/cgroup/ci", 31 << 20), None);
        assert!(raised("/ci", "/sys/fs/cgroup/ci", 33 << 20).is_some());
    }

    #[test]
    fn the_command_that_raises_a_limit_is_right_for_v1_v2_and_hostile_names() {
        let group = |folder: &str, event: &str, swap_max: Option<u64>| {
            let mut group = Group { memory_max: Some(64 << 20), swap_max, ..Group::default() };
            group.folders.memory = folder.to_owned();
            group.memory_events = crate::model::snapshot::Field::Known([(event.to_owned(), 0)].into());
            group
        };
        let command = |group: &Group, uid: u32| {
            let mut window = Window::default();
            window.to.system.uid = uid;
            let question = Question::default();
            let context = RuleContext { rule: &RULES[0], window: &window, warn: None, crit: None, question: &question };
            raise(&context, context.finding(Severity::Info, 0.0, ""), group).remedies.remove(0).command
        };
        let v2 = group("/sys/fs/cgroup/ci", "oom_kill", None);
        assert_eq!(command(&v2, 0).as_deref(), Some("echo 100663296 > /sys/fs/cgroup/ci/memory.max"));
        assert_eq!(command(&v2, 7).as_deref(), Some("echo 100663296 | sudo tee /sys/fs/cgroup/ci/memory.max"));
        let v1 = group("/sys/fs/cgroup/memory/a b", "oom_kill_disable", Some(64 << 20));
        assert_eq!(
            command(&v1, 0).as_deref(),
            Some(
                "echo 100663296 > '/sys/fs/cgroup/memory/a b/memory.memsw.limit_in_bytes' && \
                 echo 100663296 > '/sys/fs/cgroup/memory/a b/memory.limit_in_bytes'"
            )
        );
        assert_eq!(command(&group("/sys/fs/cgroup/x\u{1b}[2J", "oom_kill", None), 0), None);
        let quote = group("/sys/fs/cgroup/a'; reboot '", "oom_kill", None);
        assert_eq!(
            command(&quote, 0).as_deref(),
            Some(r"echo 100663296 > '/sys/fs/cgroup/a'\''; reboot '\''/memory.max'")
        );
    }
}
