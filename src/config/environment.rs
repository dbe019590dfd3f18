//! The environment of apm, read once, and the folders that follow from it.

use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use directories::ProjectDirs;

use crate::model::event::Parent;
use crate::model::id::{RunId, TaskId};
use crate::sys::owner;

/// Variables by which an apm knows that it was started by a task of another.
pub(crate) const RUN: &str = "APM_RUN";
pub(crate) const TASK: &str = "APM_TASK";
pub(crate) const DEPTH: &str = "APM_DEPTH";
/// Slots that run has left for it.
pub(crate) const SLOTS: &str = "APM_RUN_SLOTS";

/// What the process was given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    pub(crate) variables: Vec<(OsString, OsString)>,
    pub(crate) cwd: PathBuf,
}

impl Environment {
    /// Reads it. The working folder may be gone: that is an error to report, not to guess about.
    pub(crate) fn capture() -> io::Result<Self> {
        Ok(Self { variables: std::env::vars_os().collect(), cwd: std::env::current_dir()? })
    }

    /// A variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        let found = self.variables.iter().find(|(variable, _)| variable == name);
        found.map(|(_, value)| value.as_os_str()).filter(|value| !value.is_empty())
    }

    /// PATH, or what execvp uses without one.
    pub(crate) fn path(&self) -> OsString {
        self.get("PATH").unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin")).to_owned()
    }

    /// The run this apm was started in.
    pub(crate) fn parent(&self) -> Option<Parent> {
        let run = RunId::new(self.get(RUN)?.to_str()?)?;
        let task = TaskId::new(self.get(TASK)?.to_str()?).ok()?;
        Some(Parent { run, task })
    }

    /// How many runs this apm is inside of.
    pub(crate) fn depth(&self) -> u32 {
        self.get(DEPTH).and_then(|depth| depth.to_str()?.parse().ok()).unwrap_or(0)
    }

    /// Slots the surrounding run has left.
    pub(crate) fn slots_left(&self) -> Option<u32> {
        self.get(SLOTS)?.to_str()?.parse().ok()
    }

    /// The user's file, whether it exists or not.
    pub(crate) fn user_file(&self) -> Option<PathBuf> {
        dirs().map(|dirs| dirs.config_dir().join("config.yaml"))
    }

    /// Where runs are recorded: `APM_STATE_DIR`, the XDG state directory, or without a home a private folder of this
    /// user among the temporary files.
    pub(crate) fn state_dir(&self) -> io::Result<PathBuf> {
        if let Some(dir) = self.get("APM_STATE_DIR") {
            return Ok(self.cwd.join(dir));
        }
        match dirs().and_then(|dirs| Some(dirs.state_dir()?.to_owned())) {
            Some(dir) => Ok(dir),
            None => private_folder(&std::env::temp_dir()),
        }
    }

    /// The XDG cache directory; without a home, or where nothing can be written there, in a private folder of this user
    /// among the temporary files: some tools die of a cache that they cannot write. The same where others can change it (the
    /// home of another user): what tools take from a cache is run.
    pub(crate) fn cache_dir(&self) -> io::Result<PathBuf> {
        match dirs().map(|dirs| dirs.cache_dir().to_owned()) {
            Some(dir) if owner::judged_way_to_new(&dir).is_ok() && can_be_written(&dir) && is_own(&dir) => Ok(dir),
            _ => Ok(private_folder(&std::env::temp_dir())?.join("cache")),
        }
    }

    /// Where checks keep build results between runs: each project in a folder of its own.
    pub(crate) fn builds_dir(&self) -> io::Result<PathBuf> {
        Ok(self.cache_dir()?.join("build"))
    }
}

fn is_own(folder: &Path) -> bool {
    owner::judge_folder(folder).is_ok()
}

/// Whether something can be made in a folder. Its permissions do not tell: the disk may be read-only.
#[expect(clippy::disallowed_methods, reason = "own: a folder is made in one that was judged, and goes at once")]
fn can_be_written(folder: &Path) -> bool {
    let probe = folder.join(format!("probe-{}", std::process::id()));
    DirBuilder::new().recursive(true).mode(0o700).create(&probe).is_ok() && std::fs::remove_dir(&probe).is_ok()
}

fn dirs() -> Option<ProjectDirs> {
    // Without HOME and without an entry in passwd there are none.
    ProjectDirs::from("", "", "apm").filter(|dirs| dirs.config_dir().is_absolute())
}

/// A folder that belongs to this user alone; one that somebody else put there is refused.
#[expect(clippy::disallowed_methods, reason = "own: a folder is made in one that was judged, and goes at once")]
fn private_folder(temp: &Path) -> io::Result<PathBuf> {
    let uid = std::fs::metadata("/proc/self")?.uid();
    let folder = temp.join(format!("apm-state-{uid}"));
    match DirBuilder::new().mode(0o700).create(&folder) {
        Ok(()) => Ok(folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let meta = std::fs::symlink_metadata(&folder)?;
            if meta.is_dir() && meta.uid() == uid && meta.mode() & 0o077 == 0 {
                Ok(folder)
            } else {
                let text = format!("`{}` is not a private folder of this user", folder.display());
                Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
            }
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{Environment, private_folder};

    #[test]
    fn a_surrounding_run_is_known_by_its_variables() {
        let with = |pairs: &[(&str, &str)]| Environment {
            variables: pairs.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            cwd: "/".into(),
        };
        let inside = with(&[("APM_RUN", "20260101-000000-abc"), ("APM_TASK", "t"), ("APM_DEPTH", "2")]);
        assert_eq!(inside.parent().map(|parent| parent.task.to_string()), Some("t".to_owned()));
        assert_eq!(inside.depth(), 2);
        assert_eq!(with(&[("APM_RUN", "../../etc")]).parent(), None);
        assert_eq!(with(&[]).depth(), 0);
    }

    #[test]
    fn a_folder_that_others_can_write_is_refused() {
        let temp = std::env::temp_dir().join(format!("apm-private-{}", std::process::id()));
        std::fs::create_dir_all(&temp).expect("a folder");
        let folder = private_folder(&temp).expect("made");
        assert_eq!(private_folder(&temp).expect("found again"), folder);
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).expect("opened");
        assert!(private_folder(&temp).is_err());
        std::fs::remove_dir_all(temp).expect("removed");
    }
}
