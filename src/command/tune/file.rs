//! The drop-in files as they are and as they should be, and where they may lie.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};

use super::looked::Looked;
use crate::command::failure::Failure;
use crate::sys::owner::Distrust;
use crate::tune::dropin::{self, FILES};
use crate::tune::root::Root;

/// A file as it is and as it should be; absent where there is none.
pub(super) struct Planfile {
    /// As the machine names it.
    pub(super) path: PathBuf,
    /// Where it is, for messages.
    pub(super) shown: PathBuf,
    pub(super) now: Option<String>,
    pub(super) wanted: Option<String>,
}

/// The files as they should be, beside those that are there. One of somebody else is not touched, and a link, or a way
/// out of the folder of another machine, is not followed.
pub(super) fn files(looked: &Looked) -> Result<Vec<Planfile>, Failure> {
    let rendered = dropin::render(&looked.settings, looked.words.workload);
    let mut files = Vec::new();
    for (place, name) in FILES.iter().filter(|(place, _)| !looked.written.foreign.contains_key(place)) {
        let path = looked.etc.join(name);
        let shown = looked.root.shown(&path);
        let wanted = rendered.get(place).cloned();
        if wanted.is_some() && looked.root.is_masked(&path) {
            let what =
                anyhow!("`{}` is a link or no file: somebody keeps apm's file from being there", shown.display());
            return Err(Failure::machine(what).hint("it is not followed: remove it, or `--except` its settings"));
        }
        let now = match looked.root.text(&path) {
            Err(error) if wanted.is_some() => return Err(refused(&looked.root, &path, error)),
            now => now.ok().flatten(),
        };
        files.push(Planfile { path, shown, now, wanted });
    }
    Ok(files)
}

/// A file that may not be read or written: with `--root` everything stays below it, whatever links are in it.
pub(super) fn refused(root: &Root, path: &Path, error: io::Error) -> Failure {
    let shown = root.shown(path);
    let is_link = error.get_ref().and_then(|it| it.downcast_ref()).is_some_and(|it| matches!(it, Distrust::Link(_)));
    if !is_link {
        return Failure::machine(anyhow::Error::new(error).context(format!("use `{}`", shown.display())));
    }
    let (shown, root) = (shown.display(), root.shown(Path::new("/")));
    Failure::machine(anyhow!("a symbolic link on the way to `{shown}` leads out of `{}`, or could", root.display()))
        .hint("links among the files of another machine are not followed; nothing was changed")
}

/// Whether this user may write there: the folder of another machine is their own, or root's.
pub(super) fn judge(root: &Root) -> Result<(), Failure> {
    root.judge().context("nothing was changed").map_err(|error| {
        Failure::machine(error)
            .hint("what is written there has to be this user's or root's: run apm as its owner, or copy it")
    })
}
