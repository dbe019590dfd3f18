//! The folder of a run, and the ends of runs that crashed: what they left is ended, what is old removed.

use std::path::PathBuf;

use anyhow::Context as _;
use jiff::Zoned;

use crate::command::context::Context;
use crate::command::failure::Failure;
use crate::command::request::Request;
use crate::journal::folder::{self, RunDir, State};
use crate::model::event::NoteLevel;
use crate::model::id::RunId;
use crate::probe::{self, Roots};
use crate::sys::cgroup::Cgroups;
use crate::sys::{process, signal};

/// Looks for more members of what a crashed run left, before what is known is killed.
const SCANS_MAX: usize = 20;

/// The place of a run: its folder, if it is recorded, or a temporary one.
pub(crate) struct Folder {
    pub(crate) state: Option<State>,
    pub(crate) run: Option<RunDir>,
    pub(crate) temporary: Option<(RunId, PathBuf)>,
}

impl Folder {
    /// Opens it, and ends what crashed runs left.
    pub(crate) fn open(
        context: &Context,
        request: &Request,
        resumed: Option<RunDir>,
        notes: &mut Vec<(NoteLevel, String)>,
    ) -> Result<Self, Failure> {
        let now = Zoned::now();
        let random = now.timestamp().as_nanosecond() as u64 ^ (u64::from(std::process::id()) << 7);
        if request.options.no_journal && resumed.is_none() {
            let name = folder::name(&now, random);
            let id =
                RunId::new(&name).ok_or_else(|| Failure::machine(anyhow::anyhow!("`{name}` is no name of a run")))?;
            let path = std::env::temp_dir().join(format!("apm-{}-{name}", std::process::id()));
            let made = std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&path);
            made.with_context(|| format!("create `{}`", path.display())).map_err(Failure::machine)?;
            return Ok(Self { state: None, run: None, temporary: Some((id, path)) });
        }
        let fail = |error: std::io::Error, what: String| {
            Failure::machine(anyhow::Error::new(error).context(what))
                .hint("`APM_STATE_DIR=DIR` uses another place, `--no-journal` keeps no record")
        };
        let dir =
            context.environment.state_dir().map_err(|error| fail(error, "find the state directory".to_owned()))?;
        let state =
            State::open(&dir).map_err(|error| fail(error, format!("open the state directory `{}`", dir.display())))?;
        if resumed.is_some() {
            return Ok(Self { state: Some(state), run: resumed, temporary: None });
        }
        sweep_crashed(&state, notes);
        collect_garbage(&state, request, notes);
        let run =
            state.create(&now, random).map_err(|error| fail(error, format!("create a run in `{}`", dir.display())))?;
        Ok(Self { state: Some(state), run: Some(run), temporary: None })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> PathBuf {
        match (&self.run, &self.temporary) {
            (Some(run), _) => run.path.clone(),
            (None, Some((_, path))) => path.clone(),
            (None, None) => PathBuf::new(),
        }
    }

    /// The name of the run.
    pub(crate) fn id(&self) -> RunId {
        match (&self.run, &self.temporary) {
            (Some(run), _) => run.id.clone(),
            (None, Some((id, _))) => id.clone(),
            (None, None) => RunId::new("none").expect("letters make a name"),
        }
    }

    /// The run is over: nobody has to look for what it left.
    pub(crate) fn close(self) {
        if let Some(run) = self.run {
            run.close();
        }
        if let Some((_, path)) = self.temporary {
            // Among the temporary files of the system, where it goes sooner or later.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// Ends what an apm that was killed left behind.
fn sweep_crashed(state: &State, notes: &mut Vec<(NoteLevel, String)>) {
    for run in state.crashed() {
        sweep(&run.id, notes);
        run.close();
    }
}

/// Ends what one run left behind: what carries its mark, and what descends from that, marked or not.
pub(crate) fn sweep(run: &RunId, notes: &mut Vec<(NoteLevel, String)>) {
    let mut known: Vec<process::Identity> = Vec::new();
    let (mut ended, left) = process::end_all(|| {
        known.retain(|process| process.is_alive());
        // Who cleared its environment is found through its parent, while that lives: the first is killed when all are
        // known, and stopped, so that none forks meanwhile.
        for _ in 0..SCANS_MAX {
            let table = probe::process::sweep(&Roots::default());
            let mut roots = process::find(|pid| process::has_marker(pid, run.as_str()));
            roots.extend(&known);
            let members: std::collections::BTreeSet<i32> =
                roots.iter().flat_map(|root| table.members(root.pid)).map(|process| process.pid).collect();
            let before = known.len();
            for process in process::find(|pid| members.contains(&pid)) {
                if !known.contains(&process) {
                    process::send(process, signal::STOP);
                    known.push(process);
                }
            }
            if known.len() == before {
                break;
            }
        }
        known.clone()
    });
    ended += Cgroups::sweep(&Roots::default().proc, run.as_str());
    if !left.is_empty() {
        let pids: Vec<String> = left.iter().map(|process| process.pid.to_string()).collect();
        let text = format!("run {run} crashed and its processes {} cannot be ended", pids.join(", "));
        notes.push((NoteLevel::Error, text));
    } else if ended > 0 {
        let noun = if ended == 1 { "process" } else { "processes" };
        notes.push((NoteLevel::Warning, format!("run {run} crashed; {ended} {noun} it left were ended")));
    }
}

/// Removes old runs, if that was not done for a while.
fn collect_garbage(state: &State, request: &Request, notes: &mut Vec<(NoteLevel, String)>) {
    let stamp = state.root().join("cleaned");
    let age = std::fs::metadata(&stamp).and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
    if age.is_some_and(|age| age < request.settings.gc_interval) {
        return;
    }
    let cleaned = std::fs::write(&stamp, "").and_then(|()| state.prune(request.settings.keep_runs));
    if let Err(error) = cleaned {
        notes.push((NoteLevel::Warning, format!("old runs in `{}` stay: {error}", state.root().display())));
    }
}
