//! Who uses the CPUs and who wants them, by name: sixteen compilers are one culprit. Those that ended in the window count
//! too, through the times of children that their parents waited for.

use std::collections::{BTreeMap, HashMap};

use crate::doctor::culprit::{self, KERNEL, NAMED};
use crate::doctor::target;
use crate::model::diagnosis::Culprit;
use crate::model::snapshot::process::Process;
use crate::model::snapshot::{Field, Window};

/// Generations of ancestors that are followed.
const GENERATIONS_MAX: usize = 32;
/// Share of a crowd that must come from one ancestor for it to be named.
const STARTED: f64 = 0.8;
/// A crowd below these is nobody: percent of a CPU, tasks.
const NOTABLE_CPU: f64 = 2.0;
const NOTABLE_WANTING: f64 = 0.2;
/// Nice level at which a task has a tenth of the time of an ordinary one.
pub(super) const NICE: i32 = 10;
/// What to do where CPUs are used, and by nobody who is seen.
pub(super) const UNSEEN: &str = "who runs cannot be seen from here: in a container, look from its host";

/// Processes of one name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Crowd {
    pub(crate) name: String,
    /// CPU time, percent of a CPU.
    pub(crate) cpu: f64,
    /// Of it in the kernel.
    pub(crate) system: f64,
    /// Tasks running or waiting for a CPU, on average of the looks.
    pub(crate) wanting: f64,
    /// Those alive that did something, the busiest first.
    pub(crate) members: Vec<i32>,
    /// Who started most of them; absent if that is init.
    pub(crate) starter: Option<(i32, String)>,
    /// Of what the crowds are ordered by: its share of that of all, 0 to 1.
    pub(crate) share: f64,
}

/// Ticks, and those of them in the kernel.
#[derive(Clone, Copy, Debug, Default)]
struct Time {
    all: f64,
    system: f64,
}

/// What they are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Use,
    System,
    Wanting,
}

/// All processes of the window, by number.
struct Family<'a> {
    before: HashMap<i32, &'a Process>,
    after: HashMap<i32, &'a Process>,
    between: HashMap<i32, (i32, &'a str)>,
}

impl<'a> Family<'a> {
    fn new(window: &'a Window) -> Self {
        let by_number = |processes: &'a [Process]| processes.iter().map(|process| (process.pid, process)).collect();
        let known = |snapshot: &'a crate::model::snapshot::Snapshot| {
            snapshot.processes.known().map_or(&[][..], |processes| processes.as_slice())
        };
        let mut between: HashMap<i32, (i32, &str)> = HashMap::new();
        for task in window.activity.tasks.iter().filter(|task| task.pid == task.tid) {
            between.insert(task.pid, (task.parent, task.name.as_str()));
        }
        for it in &window.activity.ancestors {
            between.insert(it.pid, (it.parent, it.name.as_str()));
        }
        Self { before: by_number(known(&window.from)), after: by_number(known(&window.to)), between }
    }

    /// The latest known parent and name.
    fn get(&self, pid: i32) -> Option<(i32, &'a str)> {
        let of = |process: &&'a Process| (process.parent, process.name.as_str());
        let now = self.after.get(&pid).map(of);
        now.or_else(|| self.between.get(&pid).copied()).or_else(|| self.before.get(&pid).map(of))
    }

    fn ancestors(&self, pid: i32) -> Vec<i32> {
        let mut found = Vec::new();
        let mut at = pid;
        while let Some((parent, _)) = self.get(at) {
            // 1 is init and adopts whoever is left; 2 starts the threads of the kernel.
            if parent <= 2 || found.len() >= GENERATIONS_MAX || found.contains(&parent) {
                break;
            }
            found.push(parent);
            at = parent;
        }
        found
    }

    /// The same process lived at the start of the window.
    fn earlier(&self, process: &Process) -> Option<&'a Process> {
        self.before.get(&process.pid).copied().filter(|before| before.started == process.started)
    }

    /// Who waited, or will wait, for one that ended: the nearest ancestor that lives, in the end init.
    fn heir(&self, pid: i32) -> Option<i32> {
        self.ancestors(pid).into_iter().chain([1]).find(|ancestor| self.after.contains_key(ancestor))
    }
}

/// All crowds, the worst first.
pub(crate) fn crowds(window: &Window, by: By) -> Vec<Crowd> {
    let family = Family::new(window);
    let seconds = window.seconds();
    let looks = f64::from(window.activity.looks.max(1));
    let mut found: BTreeMap<&str, Crowd> = BTreeMap::new();
    // Who took part, with how much, to find who started them.
    let mut shares: HashMap<&str, HashMap<i32, f64>> = HashMap::new();
    let others = || family.after.values().filter(|process| process.pid != window.observer);

    for process in others() {
        let before = family.earlier(process);
        let share = |ticks: u64| culprit::percent_of_a_cpu(window, ticks, process.threads);
        let cpu = share(process.cpu_ticks.saturating_sub(before.map_or(0, |it| it.cpu_ticks)));
        let system = share(process.system_ticks.saturating_sub(before.map_or(0, |it| it.system_ticks)));
        if cpu > 0.0 {
            let crowd = found.entry(&process.name).or_default();
            crowd.cpu += cpu;
            crowd.system += system;
            *shares.entry(&process.name).or_default().entry(process.pid).or_default() += cpu / 100.0;
        }
    }
    for task in window.activity.tasks.iter().filter(|task| task.running > 0 && task.pid != window.observer) {
        let name = family.get(task.pid).map_or(task.name.as_str(), |(_, name)| name);
        let wanting = f64::from(task.running) / looks;
        found.entry(name).or_default().wanting += wanting;
        *shares.entry(name).or_default().entry(task.pid).or_default() += wanting;
    }
    for (name, time) in ended(window, &family) {
        let crowd = found.entry(name).or_default();
        crowd.cpu += time.all / seconds;
        crowd.system += time.system / seconds;
    }
    let mut all: Vec<Crowd> = found
        .into_iter()
        .map(|(name, mut crowd)| {
            let shares = shares.remove(name).unwrap_or_default();
            crowd.name = name.to_owned();
            crowd.starter = starter(&family, &shares);
            let mut members: Vec<(i32, f64)> =
                shares.into_iter().filter(|it| family.after.contains_key(&it.0)).collect();
            members.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            crowd.members = members.into_iter().map(|(pid, _)| pid).collect();
            crowd
        })
        .filter(|crowd| crowd.cpu >= NOTABLE_CPU || crowd.wanting >= NOTABLE_WANTING)
        .collect();
    let key = |crowd: &Crowd| match by {
        By::Use => (crowd.cpu, crowd.wanting),
        By::System => (crowd.system, crowd.cpu),
        By::Wanting => (crowd.wanting, crowd.cpu),
    };
    let sum: f64 = all.iter().map(|crowd| key(crowd).0).sum();
    let shares: Vec<f64> = all.iter().map(|crowd| if sum > 0.0 { key(crowd).0 / sum } else { 0.0 }).collect();
    all.iter_mut().zip(shares).for_each(|(crowd, share)| crowd.share = share);
    all.sort_by(|a, b| {
        let (a_key, b_key) = (key(a), key(b));
        b_key.0.total_cmp(&a_key.0).then(b_key.1.total_cmp(&a_key.1)).then_with(|| a.name.cmp(&b.name))
    });
    all
}

/// Ticks of processes that ended in the window, by the one that waited for them.
fn ended_by(window: &Window, family: &Family<'_>) -> BTreeMap<i32, Time> {
    let mut times: BTreeMap<i32, (u64, u64)> = BTreeMap::new();
    for process in family.after.values().filter(|process| process.pid != window.observer) {
        let (all, system) = family.earlier(process).map_or((0, 0), |it| (it.children_ticks, it.children_system_ticks));
        let grown = (process.children_ticks.saturating_sub(all), process.children_system_ticks.saturating_sub(system));
        times.insert(process.pid, grown);
    }
    // What those that ended had taken before the window is not of this window.
    let is_gone = |was: &&&Process| family.after.get(&was.pid).is_none_or(|process| process.started != was.started);
    for gone in family.before.values().filter(is_gone) {
        if let Some((all, system)) = family.heir(gone.pid).and_then(|heir| times.get_mut(&heir)) {
            *all = all.saturating_sub(gone.cpu_ticks).saturating_sub(gone.children_ticks);
            *system = system.saturating_sub(gone.system_ticks).saturating_sub(gone.children_system_ticks);
        }
    }
    times.retain(|_, (all, _)| *all > 0);
    // Whatever was missed, nobody has more than all CPUs.
    let cpus = window.to.cpu.stat.known().map_or(usize::MAX, |stat| stat.each.len().max(1));
    let most = 100.0 * cpus as f64 * window.seconds();
    let time = |(all, system): (u64, u64)| Time { all: (all as f64).min(most), system: (system as f64).min(most) };
    times.into_iter().map(|(pid, ticks)| (pid, time(ticks))).collect()
}

/// CPU time of a process that is started and ends, at least, in ticks: 20 us, fork and exit alone.
const START: f64 = 0.002;

/// Those whose children come and go, by the time these took. Threads leave no children: where ended children do not
/// account for so many starts, those that are most in the kernel do.
pub(crate) fn starters(window: &Window, starts: u64) -> Vec<Culprit> {
    let family = Family::new(window);
    let mut all: Vec<(i32, Time)> = ended_by(window, &family).into_iter().collect();
    if all.iter().map(|(_, time)| time.all).sum::<f64>() < START * starts as f64 {
        let seconds = window.seconds();
        let say = |ticks: u64| format!("likely, by threads: {:.0}% of a CPU in the kernel", ticks as f64 / seconds);
        let system = |process: &Process| if process.parent == KERNEL { 0 } else { process.system_ticks };
        let mut busy = culprit::took(window, system, say);
        busy.truncate(1);
        return busy;
    }
    all.sort_by(|a, b| b.1.all.total_cmp(&a.1.all).then(a.0.cmp(&b.0)));
    let name = |(pid, time): &(i32, Time)| {
        let what = format!("its ended children took {:.0}% of a CPU", time.all / window.seconds());
        Some(Culprit { kind: "process".to_owned(), pid: Some(*pid), name: family.get(*pid)?.1.to_owned(), what })
    };
    all.iter().take(NAMED).filter_map(name).collect()
}

/// CPU time of children that have ended, by name. Their parents know how much it was, the samples what they were called;
/// where no sample saw one it is counted under the name of the parent.
fn ended<'a>(window: &Window, family: &Family<'a>) -> Vec<(&'a str, Time)> {
    let mut seen: HashMap<i32, Vec<(&'a str, u32)>> = HashMap::new();
    for task in window.activity.tasks.iter().filter(|task| task.running > 0 && !family.after.contains_key(&task.pid)) {
        if let (Some(heir), Some((_, name))) = (family.heir(task.pid), family.get(task.pid)) {
            seen.entry(heir).or_default().push((name, task.running));
        }
    }
    let mut found = Vec::new();
    for (pid, time) in ended_by(window, family) {
        match seen.get(&pid) {
            Some(names) => {
                let all: u32 = names.iter().map(|(_, running)| *running).sum();
                let of = |ticks: f64, running: u32| ticks * f64::from(running) / f64::from(all.max(1));
                let share = |running| Time { all: of(time.all, running), system: of(time.system, running) };
                found.extend(names.iter().map(|(name, running)| (*name, share(*running))));
            }
            None => found.extend(family.get(pid).map(|(_, name)| (name, time))),
        }
    }
    found
}

/// The nearest ancestor that most of them have in common.
fn starter(family: &Family<'_>, shares: &HashMap<i32, f64>) -> Option<(i32, String)> {
    let all: f64 = shares.values().sum();
    let mut ancestors: HashMap<i32, (f64, f64)> = HashMap::new();
    for (pid, share) in shares {
        for (distance, ancestor) in family.ancestors(*pid).into_iter().enumerate() {
            let entry = ancestors.entry(ancestor).or_default();
            entry.0 += share;
            entry.1 += share * distance as f64;
        }
    }
    let common = ancestors.into_iter().filter(|(_, (share, _))| *share >= STARTED * all);
    let (pid, _) = common.min_by(|a, b| (a.1.1 / a.1.0).total_cmp(&(b.1.1 / b.1.0)).then(a.0.cmp(&b.0)))?;
    Some((pid, family.get(pid)?.1.to_owned()))
}

impl Crowd {
    /// How many of them there are at once.
    pub(crate) fn size(&self) -> usize {
        self.members.len().max(1)
    }

    /// What it does, in words.
    pub(crate) fn what(&self) -> String {
        let mut words = Vec::new();
        if self.size() > 1 {
            words.push(format!("{} at once", self.size()));
        }
        words.push(format!("{:.0}% of a CPU", self.cpu));
        if self.wanting >= self.size() as f64 + 1.0 {
            words.push(format!("{:.0} tasks want one", self.wanting));
        }
        if let Some((pid, name)) = self.starter.as_ref().filter(|_| self.size() > 1 || self.members.is_empty()) {
            words.push(format!("started by {name}[{pid}]"));
        }
        words.join(", ")
    }

    fn culprit(&self) -> Culprit {
        let pid = self.members.first().copied().filter(|_| self.members.len() == 1);
        Culprit { kind: "process".to_owned(), pid, name: self.name.clone(), what: self.what() }
    }
}

/// The worst crowds as culprits, those with a fair share, and who started the worst.
pub(crate) fn culprits(crowds: &[Crowd]) -> Vec<Culprit> {
    let fair = |crowd: &&Crowd| crowd.share >= culprit::FAIR_SHARE;
    let mut found: Vec<Culprit> = crowds.iter().filter(fair).take(NAMED).map(Crowd::culprit).collect();
    if let Some(worst) = crowds.first().filter(fair).filter(|worst| worst.size() > 1 || worst.members.is_empty())
        && let Some((pid, name)) = &worst.starter
    {
        let what = format!("started {}", worst.name);
        found.push(Culprit { kind: "process".to_owned(), pid: Some(*pid), name: name.clone(), what });
    }
    found
}

/// The command that makes the worst crowd yield to others: those of it that were there all the time, are not as nice
/// already, and are needed by nobody. Never who starts them: all that it starts later would be nice too.
pub(crate) fn renice(window: &Window, crowds: &[Crowd]) -> Option<String> {
    // Half a crowd made nice changes nothing.
    const PIDS_MAX: usize = 64;
    let worst = crowds.first().filter(|worst| worst.share >= culprit::FAIR_SHARE)?;
    let known = |processes: &'_ Field<Vec<Process>>, pid: i32| {
        processes.known().into_iter().flatten().find(|process| process.pid == pid).cloned()
    };
    let yields = |pid: &i32| {
        let process = known(&window.to.processes, *pid)?;
        // One that has just started will have ended before anybody types.
        let before = known(&window.from.processes, *pid).filter(|before| before.started == process.started);
        (before.is_some() && process.nice < NICE && target::may_be_interrupted(window, *pid)).then_some(process)
    };
    let mut members: Vec<Process> = worst.members.iter().filter_map(yields).take(PIDS_MAX).collect();
    members.sort_unstable_by_key(|process| process.pid);
    // The level is one of a thread: of one with several all have to be named.
    let word = |process: &Process| match process.threads {
        0 | 1 => process.pid.to_string(),
        _ => format!("$(ls /proc/{}/task)", process.pid),
    };
    let words: Vec<String> = members.iter().map(word).collect();
    let is_foreign = members.iter().any(|process| process.uid.is_some_and(|uid| uid != window.to.system.uid));
    let sudo = if is_foreign && window.to.system.uid != 0 { "sudo " } else { "" };
    (!words.is_empty()).then(|| format!("{sudo}renice -n {NICE} -p {}", words.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::{By, crowds, culprits, renice};
    use crate::model::snapshot::process::{Activity, Ancestor, Process, Task};
    use crate::model::snapshot::{Field, Window};

    fn process(pid: i32, parent: i32, name: &str, cpu: u64, children: u64) -> Process {
        let (name, started) = (name.to_owned(), pid as u64);
        Process { pid, parent, name, started, cpu_ticks: cpu, children_ticks: children, ..Process::default() }
    }

    fn task(pid: i32, parent: i32, name: &str, running: u32) -> Task {
        Task { pid, tid: pid, parent, name: name.to_owned(), running, ..Task::default() }
    }

    fn ancestor(pid: i32, parent: i32, name: &str) -> Ancestor {
        Ancestor { pid, parent, name: name.to_owned() }
    }

    /// make[50] runs gcc[60] with cc1[61], still there, and had gcc[70] with cc1[71], which ended.
    fn build() -> Window {
        let mut window = Window { observer: 9, ..Window::default() };
        window.to.at_us = 2_000_000;
        window.from.processes = Field::Known(vec![
            process(40, 1, "bash", 5, 0),
            process(50, 40, "make", 10, 1000),
            process(70, 50, "gcc", 1, 0),
            process(71, 70, "cc1", 30, 0),
        ]);
        window.to.processes = Field::Known(vec![
            process(40, 1, "bash", 5, 0),
            // 181 ticks came from those that ended, 31 of them were taken before the window.
            process(50, 40, "make", 12, 1181),
            process(60, 50, "gcc", 0, 0),
            process(61, 60, "cc1", 100, 0),
            process(9, 40, "apm", 50, 0),
        ]);
        window.activity = Activity {
            looks: 5,
            tasks: vec![task(61, 60, "cc1", 5), task(71, 70, "cc1", 4), task(81, 80, "cc1", 5), task(9, 40, "apm", 5)],
            ancestors: vec![ancestor(80, 50, "gcc"), ancestor(81, 80, "cc1"), ancestor(50, 40, "make")],
            ..Activity::default()
        };
        window
    }

    #[test]
    fn the_time_of_short_lived_processes_is_counted_and_their_starter_is_named() {
        let found = crowds(&build(), By::Wanting);
        assert_eq!(found[0].name, "cc1");
        // 100 ticks of its own and 150 of those that ended, in two seconds.
        assert_eq!((found[0].cpu, found[0].members.as_slice()), (125.0, [61].as_slice()));
        assert_eq!(found[0].wanting, 2.8);
        assert_eq!(found[0].starter, Some((50, "make".to_owned())));
        assert!(found.iter().all(|crowd| crowd.name != "apm"));
    }

    #[test]
    fn what_orphans_took_before_the_window_is_not_said_of_init() {
        let mut window = Window::default();
        window.to.at_us = 1_000_000;
        window.from.processes = Field::Known(vec![process(1, 0, "init", 5, 100), process(30, 1, "old", 360_000, 0)]);
        window.to.processes = Field::Known(vec![process(1, 0, "init", 5, 360_150)]);
        let found = crowds(&window, By::Use);
        assert_eq!((found[0].name.as_str(), found[0].cpu), ("init", 50.0));
    }

    #[test]
    fn a_crowd_with_a_small_share_is_no_culprit() {
        let mut window = Window::default();
        window.to.at_us = 1_000_000;
        let all = [process(7, 40, "rustc", 80, 0), process(8, 40, "cc1", 11, 0), process(9, 40, "bash", 9, 0)];
        window.to.processes = Field::Known(all.to_vec());
        let named: Vec<String> = culprits(&crowds(&window, By::Use)).into_iter().map(|culprit| culprit.name).collect();
        assert_eq!(named, ["rustc", "cc1"]);
    }

    #[test]
    fn a_crowd_is_one_culprit_with_its_starter() {
        let mut window = Window::default();
        window.to.at_us = 1_000_000;
        let workers = (101..117).map(|pid| process(pid, 100, "stress-ng-cpu", 12, 0));
        window.to.processes = Field::Known(workers.chain([process(100, 90, "stress-ng", 0, 0)]).collect());
        let found = crowds(&window, By::Use);
        let named = culprits(&found);
        assert_eq!((named[0].name.as_str(), named[0].pid), ("stress-ng-cpu", None));
        assert_eq!(named[0].what, "16 at once, 192% of a CPU, started by stress-ng[100]");
        assert_eq!((named[1].name.as_str(), named[1].pid), ("stress-ng", Some(100)));
        // They have just started: nobody knows whether they stay.
        assert_eq!(renice(&window, &found), None);
        window.from.processes = window.to.processes.clone();
        let all: Vec<String> = (101..117).map(|pid: i32| pid.to_string()).collect();
        assert_eq!(renice(&window, &found).as_deref(), Some(format!("renice -n 10 -p {}", all.join(" ")).as_str()));
    }

    #[test]
    fn children_of_init_have_no_starter_and_init_is_never_slowed() {
        let mut window = Window::default();
        window.to.at_us = 1_000_000;
        window.to.processes =
            Field::Known(vec![process(1, 0, "init", 90, 0), process(7, 1, "a", 50, 0), process(8, 1, "a", 50, 0)]);
        let found = crowds(&window, By::Use);
        assert_eq!(culprits(&found).len(), 2);
        assert_eq!(found[0].starter, None);
        window.from.processes = window.to.processes.clone();
        assert_eq!(renice(&window, &found[1..]), None, "init");
        assert_eq!(renice(&window, &found).as_deref(), Some("renice -n 10 -p 7 8"));
    }

    /// Regression: `renice -n 10` was said of encoders at nice 19, which it raised, and of the shell they were started from.
    #[test]
    fn no_level_is_raised_and_who_starts_them_is_left_alone() {
        let command = |nice: i32, change: fn(&mut Process)| {
            let mut window = Window::default();
            window.to.at_us = 1_000_000;
            let encoder = |pid: i32| {
                let mut encoder = Process { nice, uid: Some(1000), ..process(pid, 40, "encoder", 50, 0) };
                change(&mut encoder);
                encoder
            };
            let all = [process(40, 1, "make", 0, 0), encoder(50), encoder(51)];
            (window.from.processes, window.to.processes) = (Field::Known(all.to_vec()), Field::Known(all.to_vec()));
            if let Field::Known(from) = &mut window.from.processes {
                from.iter_mut().for_each(|process| process.cpu_ticks = 0);
            }
            window.to.system.uid = 1000;
            renice(&window, &crowds(&window, By::Use))
        };
        assert_eq!(command(0, |_| {}).as_deref(), Some("renice -n 10 -p 50 51"));
        assert_eq!([10, 19, 20].map(|nice| command(nice, |_| {})), [None, None, None]);
        assert_eq!(command(0, |it| it.name = "zsh".to_owned()), None);
        assert_eq!(command(0, |it| it.uid = Some(0)).as_deref(), Some("sudo renice -n 10 -p 50 51"));
        // `renice -p PID` alone is the first thread only.
        let threads = command(0, |it| it.threads = 4);
        assert_eq!(threads.as_deref(), Some("renice -n 10 -p $(ls /proc/50/task) $(ls /proc/51/task)"));
    }
}
