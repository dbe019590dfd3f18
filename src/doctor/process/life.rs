//! Zombies that nobody reaps, and services that restart in a loop.

use std::collections::{BTreeMap, HashSet};

use crate::doctor::culprit;
use crate::doctor::rule::{RuleContext, Skip, Verdict};
use crate::doctor::target;
use crate::model::diagnosis::{Culprit, Severity};
use crate::model::snapshot::process::Process;
use crate::model::snapshot::system::Service;

/// A start less than this after the one before, seconds, is a loop.
const LOOP: u64 = 600;

pub(super) fn zombies(context: &RuleContext<'_>) -> Verdict {
    let is_zombie = |process: &&Process| process.state == 'Z' && process.threads <= 1;
    let (was, now) = (context.before().processes.get()?, context.now().processes.get()?);
    let before: HashSet<(i32, u64)> = was.iter().filter(is_zombie).map(|it| (it.pid, it.started)).collect();
    let mut parents: BTreeMap<i32, Vec<&Process>> = BTreeMap::new();
    for zombie in now.iter().filter(is_zombie).filter(|it| before.contains(&(it.pid, it.started))) {
        parents.entry(zombie.parent).or_default().push(zombie);
    }
    let mut found = Vec::new();
    for (pid, zombies) in parents {
        let count = zombies.len() as f64;
        let most = context.now().system.pid_max.known().copied().unwrap_or(u64::MAX);
        let severity = match context.judge(count, false) {
            Some(_) if count >= most as f64 / 2.0 => Severity::Crit,
            Some(severity) => severity,
            None => continue,
        };
        let parent = now.iter().find(|process| process.pid == pid);
        let name = parent.map_or_else(|| "?".to_owned(), |parent| parent.name.clone());
        let first = zombies.first().map(|zombie| zombie.name.clone()).unwrap_or_default();
        let title = format!("{count:.0} zombie processes: their parent {name}[{pid}] does not reap them");
        let culprit = Culprit {
            kind: "process".to_owned(),
            pid: Some(pid),
            name,
            what: format!("has not reaped {count:.0} of its children, such as {first}"),
        };
        let finding = context
            .finding(severity, count, title)
            .read("/proc/PID/stat", "state Z at both ends of the window", count, "")
            .by([culprit]);
        found.push(match pid {
            ..=1 => finding.fix("init does not reap them: run the container with an init (docker run --init)", None),
            pid if parent.is_none_or(|parent| parent.handles_sigchld != Some(false)) => finding.fix(
                "remind the parent by SIGCHLD; if they stay, restart it: init reaps what it leaves",
                Some(format!("kill -s CHLD {pid}")),
            ),
            // It has no handler, so that a signal does not reach it.
            pid if target::may_be_interrupted(context.window, pid) => finding.interrupt(
                "restart the parent, which does not listen for SIGCHLD: init reaps what it leaves",
                Some(format!("kill {pid}")),
            ),
            _ => finding.fix("restart the parent when that may be: init reaps what it leaves", None),
        });
    }
    found.sort_by(|a, b| b.value.total_cmp(&a.value));
    found.truncate(culprit::NAMED);
    Ok(found)
}

pub(super) fn restarts(context: &RuleContext<'_>) -> Verdict {
    let (was, now) = (context.before().system.services.get()?, context.now().system.services.get()?);
    if now.is_empty() {
        return Err(Skip("/run/systemd/units: no service is in it".to_owned()));
    }
    let again = |(name, service): (&String, &Service)| {
        let earlier = was.get(name).filter(|earlier| earlier.invocation != service.invocation)?;
        Some((name.clone(), service.started_s.saturating_sub(earlier.started_s)))
    };
    let mut again: Vec<(String, u64)> = now.iter().filter_map(again).collect();
    again.sort_by_key(|(name, apart)| (*apart, name.clone()));
    let looping = again.iter().filter(|(_, apart)| *apart < LOOP).count();
    let severity = match context.judge(looping as f64, false) {
        Some(severity) => severity,
        None if again.is_empty() => return Ok(Vec::new()),
        None => Severity::Info,
    };
    let is_plain = |name: &&String| name.chars().all(|c| c.is_ascii_alphanumeric() || "_.@:-".contains(c));
    let title = match (looping, again.first()) {
        (0, _) => format!("{} services were restarted in {:.1} s", again.len(), context.window.seconds()),
        (_, Some((_, apart))) => format!("a service was started again {apart} s after the start before"),
        (_, None) => return Ok(Vec::new()),
    };
    let name = |(name, apart): &(String, u64)| Culprit {
        kind: "cgroup".to_owned(),
        pid: None,
        name: name.clone(),
        what: format!("started again {apart} s after the start before"),
    };
    let command =
        again.first().map(|(name, _)| name).filter(is_plain).map(|name| format!("journalctl -n 50 -u {name}"));
    Ok(vec![
        context
            .finding(severity, looping as f64, title)
            .read("/run/systemd/units", "services started anew", again.len() as f64, "")
            .by(again.iter().take(culprit::NAMED).map(name))
            .fix("see why it ended", command),
    ])
}

#[cfg(test)]
mod tests {
    use crate::doctor::fixture::{ask, severities};
    use crate::model::diagnosis::Severity::{Crit, Info, Warn};
    use crate::model::snapshot::process::Process;
    use crate::model::snapshot::system::Service;
    use crate::model::snapshot::{Field, Window};

    fn zombie(pid: i32, parent: i32) -> Process {
        Process { pid, parent, started: 5, name: "sh".to_owned(), state: 'Z', threads: 1, ..Process::default() }
    }

    fn window(before: Vec<Process>, after: Vec<Process>) -> Window {
        let mut window = Window::default();
        (window.from.processes, window.to.processes) = (Field::Known(before), Field::Known(after));
        window.to.system.pid_max = Field::Known(32_768);
        window
    }

    #[test]
    fn zombies_count_only_while_they_stay_and_by_parent() {
        let all = |parent: i32| -> Vec<Process> { (100..130).map(|pid| zombie(pid, parent)).collect() };
        let mut after = all(50);
        after.push(Process {
            pid: 50,
            parent: 1,
            started: 1,
            name: "bad".to_owned(),
            state: 'S',
            threads: 1,
            ..Process::default()
        });
        let found = ask(&window(all(50), after.clone()), "proc.zombies");
        assert_eq!((severities(&found), found[0].value), (vec![Warn], 30.0));
        assert_eq!((found[0].culprits[0].pid, found[0].culprits[0].name.as_str()), (Some(50), "bad"));
        assert_eq!(found[0].remedies[0].command.as_deref(), Some("kill -s CHLD 50"));
        assert_eq!(found[0].title, "30 zombie processes: their parent bad[50] does not reap them");
        // Without a handler it would not learn of the signal.
        for (name, command) in [("bad", Some("kill 50")), ("sshd", None)] {
            let mut deaf = after.clone();
            let parent = deaf.last_mut().expect("the parent");
            (parent.name, parent.handles_sigchld) = (name.to_owned(), Some(false));
            let found = ask(&window(all(50), deaf), "proc.zombies");
            assert_eq!(found[0].remedies[0].command.as_deref(), command, "{name}");
        }
        // Others each time: init is late, no more.
        let earlier = (1100..1130).map(|pid| zombie(pid, 50)).collect();
        assert_eq!(ask(&window(earlier, after), "proc.zombies"), []);
        // Spread over parents; a first thread that ended before the others.
        let spread: Vec<Process> = (100..130).map(|pid| zombie(pid, pid % 3)).collect();
        assert_eq!(ask(&window(spread.clone(), spread), "proc.zombies"), []);
        let leaders: Vec<Process> = all(50).into_iter().map(|it| Process { threads: 4, ..it }).collect();
        assert_eq!(ask(&window(leaders.clone(), leaders), "proc.zombies"), []);
        let mut small = window(all(1), all(1));
        small.to.system.pid_max = Field::Known(50);
        let found = ask(&small, "proc.zombies");
        assert_eq!((severities(&found), found[0].remedies[0].command.clone()), (vec![Crit], None));
    }

    #[test]
    fn a_service_that_comes_again_soon_is_a_loop() {
        let services = |list: &[(&str, &str, u64)]| {
            let one = |(name, invocation, started_s): &(&str, &str, u64)| {
                ((*name).to_owned(), Service { invocation: (*invocation).to_owned(), started_s: *started_s })
            };
            Field::Known(list.iter().map(one).collect())
        };
        let with = |before: &[(&str, &str, u64)], after: &[(&str, &str, u64)]| {
            let mut window = Window::default();
            (window.from.system.services, window.to.system.services) = (services(before), services(after));
            ask(&window, "proc.restart")
        };
        let cron = ("cron.service", "c", 1000);
        let found = with(&[("web.service", "a", 5000), cron], &[("web.service", "b", 5003), cron]);
        assert_eq!((severities(&found), found[0].culprits[0].name.as_str()), (vec![Warn], "web.service"));
        assert_eq!(found[0].remedies[0].command.as_deref(), Some("journalctl -n 50 -u web.service"));
        // Restarted by hand after a day; started for the first time.
        assert_eq!(
            severities(&with(&[("web.service", "a", 5000), cron], &[("web.service", "b", 91_400), cron])),
            [Info]
        );
        assert_eq!(with(&[cron], &[("web.service", "b", 5003), cron]), []);
    }
}
