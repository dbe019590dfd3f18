//! Two snapshots a window apart, and looks at the tasks in between.

use std::time::{Duration, Instant};

use crate::model::snapshot::{Field, Snapshot, Window};
use crate::probe::looks::Looks;
use crate::probe::net::reach::{self, Ask};
use crate::probe::room::{self, Folders};
use crate::probe::{Roots, cgroup, cpu, disk, kmsg, locks, memory, net, system, tasks, watchers};

/// Looks at the states of tasks in a window.
const LOOKS: u32 = 5;
/// So often as each of them the tasks that want a CPU are counted.
const COUNTS: u32 = 4;

/// vm.overcommit_memory where no memory is promised twice.
const NEVER_TWICE: u64 = 2;

/// Shared memory is much from one part in so many of all on; who has as large a part of it is asked how much.
const SHARED_MUCH: u64 = 10;

/// Who looks: left out of what is found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    pub(crate) pid: i32,
    pub(crate) uid: u32,
}

/// What is looked at beyond the cheap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) folders: Folders,
    /// Also what costs: every descriptor of every process.
    pub(crate) deep: bool,
    /// Processes asked about.
    pub(crate) focus: Vec<i32>,
    /// Also what sends something: nameservers, proxies, hosts.
    pub(crate) reach: Option<Ask>,
}

/// Reads everything once, the kernel's log and what is looked for only once too: the second snapshot, or the only one.
pub(crate) fn snapshot(roots: &Roots, own: Own, options: &Options, origin: Instant) -> Snapshot {
    let mut snapshot = counters(roots, own, options, origin);
    snapshot.system.kmsg = kmsg::read(roots, snapshot.system.uptime.known().copied());
    disk::read_once(roots, &mut snapshot.disk, options.deep);
    snapshot.disk.temporary = Some(options.folders.temporary.display().to_string()).filter(|folder| !folder.is_empty());
    if let Field::Known(processes) = &mut snapshot.processes {
        snapshot.system.user_tasks = tasks::limits_of_users(roots, processes);
        tasks::mark_parents_of_zombies(roots, processes);
        let of =
            |name: &str| snapshot.memory.meminfo.known().and_then(|info| info.get(name)).copied().unwrap_or_default();
        if of("Shmem") > of("MemTotal") / SHARED_MUCH {
            tasks::read_shared(roots, processes, of("Shmem") / SHARED_MUCH);
        }
        if snapshot.memory.overcommit.known() == Some(&NEVER_TWICE) {
            tasks::read_promised(roots, processes);
        }
    }
    if let Field::Known(waits) = &mut snapshot.system.locks {
        locks::name(roots, waits);
    }
    let uid = snapshot.system.uid;
    let inotify = &mut snapshot.system.inotify;
    let users = watchers::read(roots, options.deep);
    inotify.refused = watchers::refused(roots, uid, &users, &inotify.limits);
    (inotify.users, inotify.unseen) = match users {
        Field::Known(found) => (Field::Known(found.users), found.unseen),
        Field::Unavailable(unavailable) => (Field::Unavailable(unavailable), 0),
    };
    snapshot
}

/// Reads what is compared with a later snapshot.
fn counters(roots: &Roots, own: Own, options: &Options, origin: Instant) -> Snapshot {
    Snapshot {
        at_us: origin.elapsed().as_micros() as u64,
        system: system::read(roots, own.uid),
        memory: memory::read(roots),
        cpu: cpu::read(roots),
        disk: disk::read(roots),
        net: net::read(roots),
        room: room::read(roots, &options.folders),
        hardware: room::hardware(roots),
        cgroups: cgroup::read(roots),
        processes: tasks::read(roots),
    }
}

/// Reads twice. `wait` waits so long and says whether to go on waiting: a Ctrl-C ends the window early.
pub(crate) fn window(
    roots: &Roots,
    own: Own,
    options: &Options,
    length: Duration,
    mut wait: impl FnMut(Duration) -> bool,
) -> Window {
    let origin = Instant::now();
    let asked = options.reach.as_ref().filter(|_| roots.is_here).map(|ask| reach::start(roots, ask));
    let from = counters(roots, own, options, origin);
    let mut looks = Looks::default();
    let steps = (LOOKS + 1) * COUNTS;
    for step in 1..steps {
        // Against the start of the window: on a full machine each wait lasts longer than asked for.
        if !wait((length * step / steps).saturating_sub(origin.elapsed())) {
            break;
        }
        if step % COUNTS == 0 {
            looks.look(roots, own.pid, &options.focus);
        } else {
            looks.count(roots);
        }
    }
    wait(length.saturating_sub(origin.elapsed()));
    let mut to = snapshot(roots, own, options, origin);
    net::owners::find(roots, &from.net, &mut to.net);
    if let Some(asked) = asked {
        to.net.reach = Field::Known(asked.finish());
    }
    Window { from, to, observer: own.pid, focus: options.focus.clone(), activity: looks.finish() }
}
