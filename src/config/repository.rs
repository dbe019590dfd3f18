//! The repository and the project file around a folder. Found by going up, they are believed only if they belong to this
//! user or to root, as git does it: somebody else's would choose the programs that run, in a folder all can write to.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::environment::Environment;
use crate::sys::owner::{Distrust, Owners, user};

/// Folders of others that are believed all the same, separated by `:`; `*` stands for all.
const SAFE: &str = "APM_SAFE_DIRECTORIES";
/// The project's configuration.
pub(crate) const PROJECT_FILE: &str = "apm.yaml";

/// What is found at a folder or above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Repository {
    /// There is none.
    None,
    /// Its root: the folder that holds `.git`.
    At(PathBuf),
    /// The root of one that belongs to somebody else, and what of it does.
    Foreign(PathBuf, Distrust),
}

impl Repository {
    /// Its root, where there is one that is believed.
    pub(crate) fn root(&self) -> Option<&Path> {
        match self {
            Self::At(root) => Some(root),
            Self::None | Self::Foreign(..) => None,
        }
    }
}

/// Whose files are believed: those of this user, of root, and of whoever called `sudo`; in a folder that was named or is the
/// working folder those of its owner, too, as `make` believes the Makefile there.
pub(crate) fn owners(environment: &Environment, folder: Option<&Path>) -> Owners {
    if folder.is_some_and(|folder| is_safe(environment, folder)) {
        return Owners::all();
    }
    let sudo = || environment.get("SUDO_UID").and_then(|uid| uid.to_str()?.parse::<u32>().ok());
    let caller = if user() == 0 { sudo() } else { None };
    Owners::these(caller.into_iter().chain(folder.and_then(|folder| Some(folder.metadata().ok()?.uid()))))
}

fn is_safe(environment: &Environment, folder: &Path) -> bool {
    let folders = environment.get(SAFE).unwrap_or_default();
    std::env::split_paths(folders).any(|safe| safe == Path::new("*") || safe == folder)
}

/// The repository that holds a folder.
pub(crate) fn repository(environment: &Environment, from: &Path) -> Repository {
    let holds_git = |folder: &&Path| folder.join(".git").symlink_metadata().is_ok();
    let Some(root) = from.ancestors().find(holds_git) else { return Repository::None };
    let owners = owners(environment, (root == from || is_safe(environment, root)).then_some(root));
    for path in [root.to_owned(), root.join(".git")] {
        let Ok(meta) = path.symlink_metadata() else { return Repository::None };
        if let Err(distrust) = owners.judge(&path, &meta) {
            return Repository::Foreign(root.to_owned(), distrust);
        }
    }
    Repository::At(root.to_owned())
}

/// How a foreign repository or file is allowed, for hints.
pub(crate) fn allowing(folder: &Path) -> String {
    format!("`{SAFE}={}` allows it", folder.display())
}

/// The nearest project file, up to the root of the repository and not beyond: a file further up is somebody else's. The
/// error is why there is one that is not read.
pub(crate) fn project_file(environment: &Environment) -> Result<Option<PathBuf>, String> {
    let cwd = &environment.cwd;
    let found = repository(environment, cwd);
    let root = found.root().unwrap_or(cwd);
    let places = cwd.ancestors().take_while(|folder| folder.starts_with(root));
    let refused = |path: &Path, distrust: &Distrust, folder: &Path| {
        format!("`{}` is not read: {distrust}; {}", path.display(), allowing(folder))
    };
    let Some(path) = places.map(|folder| folder.join(PROJECT_FILE)).find(|path| path.symlink_metadata().is_ok()) else {
        if let Repository::Foreign(root, distrust) = &found
            && let path = root.join(PROJECT_FILE)
            && path.exists()
        {
            return Err(refused(&path, distrust, root));
        }
        return Ok(None);
    };
    let folder = path.parent().unwrap_or(cwd);
    let owners = owners(environment, (folder == cwd || is_safe(environment, folder)).then_some(folder));
    for meta in [path.symlink_metadata(), path.metadata()].into_iter().flatten() {
        owners.judge(&path, &meta).map_err(|distrust| refused(&path, &distrust, folder))?;
    }
    Ok(Some(path))
}

/// The file of the user, if there is one; the error is why there is one that is not read: without a home of their own (`su`,
/// a mounted home) users would be told what to do by whoever owns that home.
pub(crate) fn user_file(environment: &Environment) -> Result<Option<PathBuf>, String> {
    let Some(path) = environment.user_file() else { return Ok(None) };
    let owners = owners(environment, None);
    for meta in [path.symlink_metadata(), path.metadata()] {
        let Ok(meta) = meta else { return Ok(None) };
        owners.judge(&path, &meta).map_err(|distrust| format!("`{}` is not read: {distrust}", path.display()))?;
    }
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::chown;
    use std::path::Path;

    use super::{Repository, project_file, repository};
    use crate::config::environment::Environment;
    use crate::sys::owner::user;

    fn environment(cwd: &Path, variables: &[(&str, &str)]) -> Environment {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        Environment { cwd: cwd.to_owned(), variables }
    }

    #[test]
    fn what_is_found_by_going_up_belongs_to_this_user() {
        let base = tempfile::tempdir().expect("a folder");
        let (shared, cwd) = (base.path().join("shared"), base.path().join("shared/mine/sub"));
        fs::create_dir_all(&cwd).expect("made");
        fs::create_dir(shared.join(".git")).expect("made");
        fs::write(shared.join("apm.yaml"), "").expect("written");
        let here = environment(&cwd, &[]);
        assert_eq!(repository(&here, &cwd), Repository::At(shared.clone()));
        assert_eq!(project_file(&here), Ok(Some(shared.join("apm.yaml"))));
        if user() != 0 {
            return;
        }

        let give = |path: &Path| chown(path, Some(65534), None).expect("given away");
        give(&shared.join("apm.yaml"));
        project_file(&here).expect_err("a file of another in our own repository");
        give(&shared.join(".git"));
        assert!(matches!(repository(&here, &cwd), Repository::Foreign(root, _) if root == shared));
        let reason = project_file(&here).expect_err("said");
        let folder = shared.display();
        assert_eq!(
            reason,
            format!(
                "`{folder}/apm.yaml` is not read: `{folder}/.git` belongs to user 65534, and this is user 0; \
                 `APM_SAFE_DIRECTORIES={folder}` allows it"
            )
        );
        let standing = environment(&shared, &[]);
        assert!(
            matches!(repository(&standing, &shared), Repository::Foreign(..)),
            "the folder is ours, its .git is not"
        );
        let safe = shared.to_str().expect("UTF-8");
        for variable in [("APM_SAFE_DIRECTORIES", safe), ("APM_SAFE_DIRECTORIES", "*"), ("SUDO_UID", "65534")] {
            let allowed = environment(&cwd, &[variable]);
            assert_eq!(repository(&allowed, &cwd), Repository::At(shared.clone()), "{variable:?}");
            assert_eq!(project_file(&allowed), Ok(Some(shared.join("apm.yaml"))), "{variable:?}");
        }
        give(&shared);
        assert_eq!(repository(&standing, &shared), Repository::At(shared.clone()), "standing in it, as make does");
        assert_eq!(project_file(&standing), Ok(Some(shared.join("apm.yaml"))));
        assert!(matches!(repository(&here, &cwd), Repository::Foreign(..)), "but not from below");
    }
}
