//! The folder of a run, and the ends of runs that crashed: what they left is ended, what is old removed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::Zoned;

use crate::command::context::Context;
use crate::command::failure::Failure;
use crate::command::request::Request;
use crate::executor::sandbox::{self, SANDBOXES};
use crate::journal::folder::{self, RunDir, State};
use crate::model::event::NoteLevel;
use crate::model::id::RunId;
use crate::probe::{self, Roots};
use crate::sys::cgroup::Cgroups;
use crate::sys::owner::{self, Distrust};
use crate::sys::process::{self, Identity};
use crate::sys::signal;

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
    #[expect(clippy::disallowed_methods, reason = "own: a new folder, made for this run")]
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
            made.and_then(|()| owner::judge_folder(&path))
                .with_context(|| format!("create `{}`", path.display()))
                .map_err(|error| Failure::machine(error).hint("`TMPDIR=DIR` uses another place for temporary files"))?;
            return Ok(Self { state: None, run: None, temporary: Some((id, path)) });
        }
        let fail = |error: std::io::Error, what: String| unusable(error, what, WRITE_HINT);
        let dir = context.environment.state_dir().map_err(|error| fail(error, FIND.to_owned()))?;
        let state = State::open(&dir).map_err(|error| fail(error, opening(&dir)))?;
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

    /// Its mark, which its processes and control groups carry.
    pub(crate) fn mark(&self) -> std::io::Result<String> {
        folder::mark(&self.id(), &self.path())
    }

    /// The run is over: nobody has to look for what it left.
    pub(crate) fn close(self) {
        if let Some(run) = self.run {
            let _ = sandbox::remove_tree(&run.path.join(SANDBOXES));
            run.close();
        }
        if let Some((_, path)) = self.temporary {
            // Among the temporary files of the system, where it goes sooner or later.
            let _ = sandbox::remove_tree(&path);
        }
    }
}

/// Ends what an apm that was killed left behind.
fn sweep_crashed(state: &State, notes: &mut Vec<(NoteLevel, String)>) {
    for run in state.crashed() {
        if sweep(&run, notes).is_ok() {
            run.close();
        }
    }
}

/// Ends what one run left behind: what carries its mark and was started by this user, and what descends from that, marked or
/// not.
pub(crate) fn sweep(run: &RunDir, notes: &mut Vec<(NoteLevel, String)>) -> std::io::Result<()> {
    let mark = run.mark()?;
    let id = &run.id;
    let is_marked = |pid: i32| process::has_marker(pid, &mark) && process::real_user(pid) == Some(owner::user());
    let mut known: Vec<Identity> = Vec::new();
    let (mut ended, left) = process::end_all(|| {
        known.retain(|process| process.is_alive());
        // Who cleared its environment is found through its parent, while that lives: the first is killed when all are
        // known, and stopped, so that none forks meanwhile.
        for _ in 0..SCANS_MAX {
            let mut roots = process::find(is_marked);
            roots.extend(&known);
            let table = probe::process::sweep(&Roots::default());
            // Who ended before the table was read may have left its number to another process.
            roots.retain(|root| table.has(root.pid, root.start));
            let members = roots.iter().flat_map(|root| table.members(root.pid));
            let own = std::process::id() as i32;
            let members = members.filter(|process| process.pid > 1 && process.pid != own);
            let members: BTreeSet<(i32, u64)> = members.map(|process| (process.pid, process.start)).collect();
            let before = known.len();
            for (pid, start) in members {
                let process = Identity { pid, start };
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
    ended += Cgroups::sweep(&Roots::default().proc, &mark);
    // Where this fails they go with the run.
    let _ = sandbox::remove_tree(&run.path.join(SANDBOXES));
    if !left.is_empty() {
        let pids: Vec<String> = left.iter().map(|process| process.pid.to_string()).collect();
        let text = format!("run {id} crashed and its processes {} cannot be ended", pids.join(", "));
        notes.push((NoteLevel::Error, text));
    } else if ended > 0 {
        let noun = if ended == 1 { "process" } else { "processes" };
        notes.push((NoteLevel::Warning, format!("run {id} crashed; {ended} {noun} it left were ended")));
    }
    Ok(())
}

/// Removes old runs, if that was not done for a while.
fn collect_garbage(state: &State, request: &Request, notes: &mut Vec<(NoteLevel, String)>) {
    if state.cleaned_ago().is_some_and(|ago| ago < request.settings.gc_interval) {
        return;
    }
    if let Err(error) = state.clean(request.settings.keep_runs) {
        notes.push((NoteLevel::Warning, format!("old runs in `{}` stay: {error}", state.root().display())));
    }
}

/// Opens the recorded runs for reading.
pub(crate) fn recorded(context: &Context) -> Result<State, Failure> {
    let dir = context.environment.state_dir().map_err(|error| unusable(error, FIND.to_owned(), READ_HINT))?;
    State::existing(&dir).map_err(|error| unusable(error, opening(&dir), READ_HINT))
}

const FIND: &str = "find the state directory";
const READ_HINT: &str = "`APM_STATE_DIR=DIR` reads runs from another place";
const WRITE_HINT: &str = "`APM_STATE_DIR=DIR` uses another place, `--no-journal` keeps no record";

fn opening(dir: &Path) -> String {
    format!("open the state directory `{}`", dir.display())
}

/// The state directory cannot be used, and what can be done.
fn unusable(error: std::io::Error, what: String, hint: &str) -> Failure {
    let distrust = error.get_ref().and_then(|inner| inner.downcast_ref::<Distrust>()).cloned();
    let failure = Failure::machine(anyhow::Error::new(error).context(what)).hint(hint);
    match distrust {
        Some(Distrust::Owner { owner, .. }) if owner::user() == 0 => failure
            .hint(format!("`sudo -H apm ...` uses the home of root, `sudo -u '#{owner}' apm ...` runs as its owner")),
        Some(Distrust::Owner { .. }) => failure.hint("run apm as its owner, or set HOME to your own"),
        Some(Distrust::Writable { path, .. }) => failure.hint(format!("`chmod go-w {}`", path.display())),
        Some(Distrust::Link(_)) | None => failure,
    }
}
