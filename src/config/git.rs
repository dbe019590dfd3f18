//! What of git's environment and configuration concerns apm: the variables that it sets for hooks, and which file of the user
//! says what git ignores in every repository: `core.excludesFile` of git's own configuration, or where git looks without it.
//! Includes and values over several lines are not followed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::config::environment::Environment;
use crate::sys::beneath;

/// Largest file of git's configuration that is read.
const CONFIG_MAX: u64 = 1 << 20;

/// The variables that bind a process to one repository, as `git rev-parse --local-env-vars` lists them, and the one that
/// tells a hook where in it the command was given.
const OF_HOOK: [&str; 15] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

/// Whether git sets this variable for a hook: a git that inherits it works on the repository of the hook, wherever it is
/// called.
pub(crate) fn is_of_hook(name: &OsStr) -> bool {
    OF_HOOK.iter().any(|one| name == *one)
}

/// The file of patterns, whether it exists or not.
pub(crate) fn ignoring(environment: &Environment) -> Option<PathBuf> {
    let at = |name: &str| environment.get(name).map(PathBuf::from);
    let home = at("HOME");
    let folder = at("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config"))).map(|it| it.join("git"));
    let own = match at("GIT_CONFIG_GLOBAL") {
        Some(file) => vec![file],
        None => {
            home.iter().map(|home| home.join(".gitconfig")).chain(folder.iter().map(|it| it.join("config"))).collect()
        }
    };
    let system = at("GIT_CONFIG_SYSTEM").unwrap_or_else(|| PathBuf::from("/etc/gitconfig"));
    let named = own.iter().chain([&system]).find_map(|file| excludes_file(&beneath::read(file, CONFIG_MAX).ok()?));
    let named = named.and_then(|path| match path.strip_prefix("~") {
        Ok(rest) => Some(home?.join(rest)),
        Err(_) => Some(path),
    });
    named.or_else(|| Some(folder?.join("ignore"))).map(|path| environment.cwd.join(path))
}

/// The value of `excludesFile`, whatever section it stands in: no other has a key of this name.
fn excludes_file(config: &[u8]) -> Option<PathBuf> {
    config.split(|byte| *byte == b'\n').find_map(|line| {
        let at = line.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (line[..at].trim_ascii(), line[at + 1..].trim_ascii());
        let value = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        let is_it = key.eq_ignore_ascii_case(b"excludesfile") && !value.is_empty();
        is_it.then(|| Path::new(OsStr::from_bytes(value)).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::{Path, PathBuf};

    use super::ignoring;
    use crate::config::environment::Environment;

    #[test]
    fn the_file_that_git_would_take() {
        let home = tempfile::tempdir().expect("a folder");
        let found = |more: &[(&str, &Path)]| {
            let variables = [("HOME", home.path()), ("GIT_CONFIG_SYSTEM", &home.path().join("system"))];
            let variables =
                variables.iter().chain(more).map(|(name, value)| (OsString::from(name), OsString::from(value)));
            ignoring(&Environment { variables: variables.collect(), cwd: PathBuf::from("/work") })
        };
        let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).expect("written");
        assert_eq!(found(&[]), Some(home.path().join(".config/git/ignore")));
        assert_eq!(found(&[("XDG_CONFIG_HOME", Path::new("/xdg"))]), Some(PathBuf::from("/xdg/git/ignore")));
        write("system", "[core]\n\texcludesFile = /etc/ignored\n");
        assert_eq!(found(&[]), Some(PathBuf::from("/etc/ignored")));
        write(".gitconfig", "[core]\nexcludesfile=\"~/mine\"\n");
        assert_eq!(found(&[]), Some(home.path().join("mine")));
        write("other", "[core]\nexcludesFile = relative\n");
        assert_eq!(found(&[("GIT_CONFIG_GLOBAL", &home.path().join("other"))]), Some(PathBuf::from("/work/relative")));
    }
}
