//! The drop-in files as they are and as they should be, and where they may lie.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::looked::Looked;
use crate::command::failure::Failure;
use crate::tune::dropin::{self, FILES};

/// A file as it is and as it should be; absent where there is none.
pub(super) struct Planfile {
    pub(super) path: PathBuf,
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
        let wanted = rendered.get(place).cloned();
        let kind = std::fs::symlink_metadata(&path).ok();
        if wanted.is_some() && kind.as_ref().is_some_and(|kind| !kind.is_file()) {
            let what = anyhow!("`{}` is a link or no file: somebody keeps apm's file from being there", path.display());
            return Err(Failure::machine(what).hint("it is not followed: remove it, or `--except` its settings"));
        }
        if wanted.is_some() {
            confined(looked, &path)?;
        }
        let now = kind.and_then(|_| std::fs::read_to_string(&path).ok());
        files.push(Planfile { path, now, wanted });
    }
    Ok(files)
}

/// With `--root` everything stays below it, whatever links are in it.
pub(super) fn confined(looked: &Looked, path: &Path) -> Result<(), Failure> {
    if looked.root == Path::new("/") {
        return Ok(());
    }
    let real = |path: &Path| path.ancestors().find_map(|path| path.canonicalize().ok()).unwrap_or_default();
    if real(path).starts_with(real(&looked.root)) || !path.starts_with(&looked.root) {
        return Ok(());
    }
    Err(Failure::machine(anyhow!("`{}` leads out of `{}`", path.display(), looked.root.display()))
        .hint("a link of the other machine that this one would follow; nothing was changed"))
}
