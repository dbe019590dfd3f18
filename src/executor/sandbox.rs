//! What a confined task may do: which files it reads and writes, with which environment, and what that takes of the kernel.
//! `sys::confine` makes it so. A coding agent as a task gets its confinement here too, with paths of its own.
//!
//! Landlock knows no exceptions, only what is allowed. So that the folders of secrets stay unreadable, everything around
//! them is allowed: each folder on the way to one is listed, and all in it but the way and the links is allowed. That is
//! done anew for each attempt, so that it sees what has appeared meanwhile; what appears there later cannot be read by
//! attempts that run already.

use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use crate::model::raw::Raw;
use crate::model::sandbox::{Confinement, SandboxMode, Support};
use crate::model::task::Task;
use crate::probe;
use crate::sys::confine::{self, Access, Network, Ruleset};
use crate::sys::owner;
use crate::sys::spawn::Environment;

/// Files and folders below the home of the user that hold secrets, or histories that contain them.
const HOME_SECRETS: &[&str] = &[
    ".ssh",
    ".gnupg",
    ".netrc",
    ".git-credentials",
    ".config/git/credentials",
    ".config/gh",
    ".config/glab-cli",
    ".config/hub",
    ".aws",
    ".azure",
    ".config/gcloud",
    ".config/doctl",
    ".config/heroku",
    ".oci",
    ".fly",
    ".boto",
    ".s3cfg",
    ".config/rclone",
    ".docker",
    ".config/containers",
    ".kube",
    ".terraform.d",
    ".vault-token",
    ".terraformrc",
    ".npmrc",
    ".yarnrc",
    ".yarnrc.yml",
    ".pypirc",
    ".config/pip",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".gem/credentials",
    ".m2/settings.xml",
    ".m2/settings-security.xml",
    ".gradle/gradle.properties",
    ".pgpass",
    ".my.cnf",
    ".password-store",
    ".local/share/keyrings",
    ".config/op",
    ".config/Bitwarden",
    ".mozilla",
    ".thunderbird",
    ".config/google-chrome",
    ".config/chromium",
    ".config/BraveSoftware",
    ".config/Signal",
    ".config/Slack",
    ".claude",
    ".claude.json",
    ".codex",
    ".gemini",
    ".copilot",
    ".config/github-copilot",
    ".config/opencode",
    ".local/share/opencode",
    ".bash_history",
    ".zsh_history",
    ".python_history",
    ".node_repl_history",
    ".psql_history",
    ".mysql_history",
    ".local/share/fish",
    ".config/apm",
    ".cache/apm",
    ".local/share/apm",
    ".local/state/apm",
];

/// Files that root owns, which root without capabilities could still read, and what is mounted into containers.
const SYSTEM_SECRETS: &[&str] = &[
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssl/private",
    "/etc/ssh/ssh_host_rsa_key",
    "/etc/ssh/ssh_host_ecdsa_key",
    "/etc/ssh/ssh_host_ed25519_key",
    "/etc/kubernetes",
    "/run/secrets",
    "/run/user",
    "/var/lib/docker",
    "/var/lib/kubelet",
];

/// Devices that a confined task has; of the others none, so that no disk and no terminal is read past the rules.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// What tools look for below HOME, and the variable that names it: with a HOME of its own a task finds its toolchain by these.
const TOOLCHAINS: &[(&str, &str)] = &[
    ("CARGO_HOME", ".cargo"),
    ("RUSTUP_HOME", ".rustup"),
    ("GOMODCACHE", "go/pkg/mod"),
    ("PYTHONUSERBASE", ".local"),
    ("PYENV_ROOT", ".pyenv"),
    ("NVM_DIR", ".nvm"),
    ("VOLTA_HOME", ".volta"),
    ("BUN_INSTALL", ".bun"),
    ("SDKMAN_DIR", ".sdkman"),
    ("GIT_CONFIG_GLOBAL", ".gitconfig"),
];

/// Variables that lead to the user's own folders, sockets and screens.
const REMOVED: &[&str] = &[
    "TMP",
    "TEMP",
    "TEMPDIR",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_RUNTIME_DIR",
    "APM_STATE_DIR",
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "GPG_AGENT_INFO",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "DOCKER_HOST",
    "KUBECONFIG",
    "NETRC",
    "PGPASSFILE",
];

/// Parts of names of variables that hold secrets.
const SECRET_WORDS: &[&str] = &[
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "CREDENTIAL",
    "APIKEY",
    "API_KEY",
    "ACCESS_KEY",
    "PRIVATE_KEY",
];
/// Ends of such names.
const SECRET_ENDS: &[&str] = &["_KEY", "_PAT", "_AUTH", "_PW", "_PASS"];

/// The folder in that of a run where its confined attempts have their TMPDIR and HOME.
pub(crate) const SANDBOXES: &str = "sandbox";

/// How a failed task says that an action was refused.
const REFUSALS: &[&str] = &[
    "Permission denied",
    "permission denied",
    "PermissionError",
    "Operation not permitted",
    "operation not permitted",
    "Read-only file system",
    "EACCES",
    "EPERM",
    "EROFS",
    "Network is unreachable",
    "Temporary failure in name resolution",
    "Could not resolve host",
    "EAI_AGAIN",
];
/// Lines of the output that are kept as such, and how much of each.
const REFUSED_MAX: usize = 3;
const REFUSED_LINE_MAX: usize = 300;

/// Where the secrets of the user are, and what else all confined tasks of a run share.
#[derive(Debug)]
pub(crate) struct Sandboxes {
    /// The home of the user.
    pub(crate) home: Option<PathBuf>,
    /// Folders of apm itself: its state, its configuration.
    pub(crate) own: Vec<PathBuf>,
    /// Folders that tasks of this run write to wherever they run.
    pub(crate) writable: Vec<PathBuf>,
    /// Where each attempt gets its TMPDIR and HOME.
    pub(crate) folder: PathBuf,
    /// The variables that tasks get which are not confined.
    pub(crate) variables: Vec<(OsString, OsString)>,
    support: OnceLock<Support>,
    environment: OnceLock<Environment>,
    /// All that is not to be read, whether it is there or not. Found once: resolving their links is most of a start's cost.
    secrets: OnceLock<Vec<PathBuf>>,
}

/// One attempt that is to be confined.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    pub(crate) confinement: confine::Confinement,
    pub(crate) environment: &'a Environment,
    /// Its TMPDIR, HOME and toolchains.
    pub(crate) variables: Vec<(&'static str, OsString)>,
    pub(crate) enforced: Confinement,
    scratch: Scratch,
}

impl Sandboxes {
    pub(crate) fn new(
        home: Option<PathBuf>,
        own: Vec<PathBuf>,
        writable: Vec<PathBuf>,
        folder: PathBuf,
        variables: Vec<(OsString, OsString)>,
    ) -> Self {
        let (support, environment, secrets) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { home, own, writable, folder, variables, support, environment, secrets }
    }

    /// What this kernel gives.
    pub(crate) fn support(&self) -> &Support {
        self.support.get_or_init(probe::sandbox::read)
    }

    /// Prepares an attempt of a task that runs in `folder`; `results` is where its tool writes results. An error says why it
    /// must not start.
    pub(crate) fn prepare(
        &self,
        task: &Task,
        name: &str,
        folder: &Path,
        results: Option<&Path>,
    ) -> Result<Prepared<'_>, String> {
        let sandbox = &task.sandbox;
        let secrets = self.secrets.get_or_init(|| self.all_secrets());
        let place = resolved(folder);
        let mut writable = vec![place.clone()];
        for path in &sandbox.write {
            let path = self.expanded(path.as_path(), folder);
            if !path.exists() {
                return Err(format!("`sandbox: write` names `{}`, which does not exist", path.display()));
            }
            writable.push(resolved(&path));
        }
        let support = self.support();
        let mut missing = support.missing();
        for path in &writable {
            if let Some(secret) = secrets.iter().find(|secret| secret.starts_with(path)) {
                let (path, secret) = (path.display(), secret.display());
                missing.push(format!("`{path}`, which the task may write, contains `{secret}`"));
            }
        }
        if sandbox.effective() == SandboxMode::Require && !missing.is_empty() {
            let hint = "`apm doctor agents` says what this machine gives, `--sandbox best` takes that";
            return Err(format!("`sandbox: require` cannot be kept: {}; {hint}", missing.join("; ")));
        }
        let scratch = Scratch::new(self.folder.join(name)).map_err(|error| {
            format!("make the folders for its TMPDIR and HOME in `{}`: {error}", self.folder.display())
        })?;
        writable.extend([scratch.temporary(), scratch.home()]);
        self.writable
            .iter()
            .try_for_each(|folder| make_folder(folder))
            .map_err(|error| format!("make a folder for build results: {error}"))?;
        writable.extend(results.map(Path::to_owned));
        writable.extend(self.writable.iter().cloned());
        let network = if sandbox.network { Network::Allowed } else { Network::Off };
        let landlock = support.landlock.known().copied();
        let seccomp = support.seccomp.known().is_some();
        let ruleset = landlock.map(|abi| rules(abi, network, secrets, &writable)).transpose();
        let ruleset = ruleset.map_err(|error| format!("prepare the rules of Landlock: {error}"))?;
        let filter = if seccomp { confine::filter(network) } else { Vec::new() };
        let enforced = Confinement {
            tier: support.tier(),
            landlock,
            seccomp,
            network: sandbox.network || !seccomp,
            missing: missing.into_iter().map(Raw::from).collect(),
            refused: Vec::new(),
        };
        Ok(Prepared {
            confinement: confine::Confinement { ruleset, filter },
            environment: self.environment.get_or_init(|| self.filtered()),
            variables: self.variables_of(&scratch),
            enforced,
            scratch,
        })
    }

    fn all_secrets(&self) -> Vec<PathBuf> {
        let mut secrets: Vec<PathBuf> = vec!["/dev".into()];
        secrets.extend(SYSTEM_SECRETS.iter().map(PathBuf::from));
        let root = (owner::user() == 0).then(|| PathBuf::from("/root"));
        for home in self.home.iter().chain(&root) {
            secrets.extend(HOME_SECRETS.iter().map(|secret| home.join(secret)));
        }
        secrets.extend(self.own.iter().cloned());
        // A link to a folder of secrets leads to another name of it.
        let others: Vec<PathBuf> = secrets.iter().map(|secret| resolved(secret)).collect();
        secrets.extend(others);
        secrets.sort();
        secrets.dedup();
        secrets
    }

    fn expanded(&self, path: &Path, folder: &Path) -> PathBuf {
        match (path.strip_prefix("~"), &self.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => folder.join(path),
        }
    }

    /// The environment without secrets and without ways to the user's folders.
    fn filtered(&self) -> Environment {
        Environment::new(self.variables.iter().filter(|(name, _)| !is_withheld(name)).cloned())
    }

    fn variables_of(&self, scratch: &Scratch) -> Vec<(&'static str, OsString)> {
        let mut variables = vec![("TMPDIR", scratch.temporary().into()), ("HOME", scratch.home().into())];
        let Some(home) = &self.home else { return variables };
        for (name, folder) in TOOLCHAINS {
            let path = home.join(folder);
            if !self.variables.iter().any(|(set, _)| set == name) && path.exists() {
                variables.push((name, path.into()));
            }
        }
        variables
    }
}

impl Prepared<'_> {
    /// Removes its TMPDIR and HOME. Its processes have ended.
    pub(crate) fn finish(self) -> (Confinement, Option<String>) {
        let Self { enforced, scratch, .. } = self;
        let left = scratch
            .remove()
            .err()
            .map(|error| format!("its TMPDIR and HOME stay in `{}`: {error}", scratch.0.display()));
        (enforced, left)
    }
}

/// Whether a confined task does not get this variable.
fn is_withheld(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_ascii_uppercase();
    REMOVED.contains(&name.as_str())
        || SECRET_WORDS.iter().any(|word| name.contains(word))
        || SECRET_ENDS.iter().any(|end| name.ends_with(end))
}

/// Lines of an output which say that an action was refused.
pub(crate) fn refusals(output: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(output);
    let mut found: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| REFUSALS.iter().any(|refusal| line.contains(refusal))) {
        let line: String = line.trim().chars().take(REFUSED_LINE_MAX).collect();
        if !found.contains(&line) {
            found.push(line);
        }
        if found.len() == REFUSED_MAX {
            break;
        }
    }
    found
}

/// The rules of Landlock.
fn rules(abi: u32, network: Network, secrets: &[PathBuf], writable: &[PathBuf]) -> io::Result<Ruleset> {
    let rules = Ruleset::new(abi, network)?;
    // Names may be listed everywhere: without that `ls /` fails, and with it nothing is read.
    rules.allow(Path::new("/"), Access::List)?;
    let secrets: Vec<&Path> = secrets.iter().map(PathBuf::as_path).collect();
    allow_around(&rules, Path::new("/"), &secrets)?;
    for device in DEVICES {
        gone_is_fine(rules.allow(Path::new(device), Access::Device))?;
    }
    for path in writable {
        gone_is_fine(rules.allow(path, Access::Write))?;
    }
    Ok(rules)
}

/// Allows reading what is in a folder, but not the secrets, all of which lie beneath it.
fn allow_around(rules: &Ruleset, folder: &Path, secrets: &[&Path]) -> io::Result<()> {
    let depth = folder.components().count();
    let mut ways: Vec<&OsStr> = secrets
        .iter()
        .filter_map(|secret| match secret.components().nth(depth) {
            Some(Component::Normal(name)) => Some(name),
            _ => None,
        })
        .collect();
    ways.sort();
    ways.dedup();
    // One that cannot be listed can only be passed through.
    if let Ok(entries) = folder.read_dir() {
        for entry in entries.flatten() {
            // What a link leads to is allowed where it is, or not.
            let Ok(kind) = entry.file_type() else { continue };
            if !kind.is_symlink() && ways.binary_search(&entry.file_name().as_os_str()).is_err() {
                gone_is_fine(rules.allow_reading(&entry.path(), kind.is_dir()))?;
            }
        }
    }
    for way in ways {
        let path = folder.join(way);
        let is_secret = secrets.contains(&path.as_path());
        if !is_secret && path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            let beneath: Vec<&Path> = secrets.iter().copied().filter(|secret| secret.starts_with(&path)).collect();
            allow_around(rules, &path, &beneath)?;
        }
    }
    Ok(())
}

/// What was removed meanwhile, or may not even be named, needs no rule.
fn gone_is_fine(allowed: io::Result<()>) -> io::Result<()> {
    match allowed {
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::ELOOP)) =>
        {
            Ok(())
        }
        allowed => allowed,
    }
}

/// A path without links, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let mut rest = Vec::new();
    let mut known = path;
    loop {
        if let Ok(real) = known.canonicalize() {
            return rest.iter().rev().fold(real, |path, name| path.join(name));
        }
        let (Some(parent), Some(name)) = (known.parent(), known.file_name()) else { return path.to_owned() };
        rest.push(name);
        known = parent;
    }
}

/// The folder of an attempt for its TMPDIR and HOME, in that of its run.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new(folder: PathBuf) -> io::Result<Self> {
        // Of the same attempt before a crash.
        let scratch = Self(folder);
        scratch.remove()?;
        make_folder(&scratch.temporary())?;
        make_folder(&scratch.home())?;
        Ok(scratch)
    }

    fn temporary(&self) -> PathBuf {
        self.0.join("tmp")
    }

    fn home(&self) -> PathBuf {
        self.0.join("home")
    }

    fn remove(&self) -> io::Result<()> {
        remove_tree(&self.0)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "own: the folder of the run, and that of build results, which were judged"
)]
fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Removes a folder of the run that tasks wrote to, also where they took the right to do so away from folders, as Go does.
#[expect(clippy::disallowed_methods, reason = "own: the folder of the run")]
pub(crate) fn remove_tree(folder: &Path) -> io::Result<()> {
    fn open_up(folder: &Path) {
        let _ = std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700));
        for entry in folder.read_dir().into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open_up(&entry.path());
            }
        }
    }
    let removed = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    };
    match removed(std::fs::remove_dir_all(folder)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(folder);
            removed(std::fs::remove_dir_all(folder))
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::{is_withheld, refusals};

    #[test]
    fn variables_that_look_like_secrets_are_withheld() {
        for name in
            ["GITHUB_TOKEN", "ANTHROPIC_API_KEY", "aws_secret_access_key", "DB_PASSWORD", "SSH_AUTH_SOCK", "NPM_AUTH"]
        {
            assert!(is_withheld(name.as_ref()), "{name}");
        }
        for name in ["PATH", "LANG", "CARGO_HOME", "KEYBOARD", "AUTHOR", "MONKEY", "APM_RUN", "PYTHONPATH"] {
            assert!(!is_withheld(name.as_ref()), "{name}");
        }
    }

    #[test]
    fn refusals_are_found_once_each_and_bounded() {
        let output =
            b"cp: cannot create '/etc/x': Permission denied\nok\ncp: cannot create '/etc/x': Permission denied\n";
        assert_eq!(refusals(output), ["cp: cannot create '/etc/x': Permission denied"]);
        let many: String = (0..9).map(|n| format!("{n} EPERM{}\n", "x".repeat(1000))).collect();
        let found = refusals(many.as_bytes());
        assert!(found.len() == 3 && found.iter().all(|line| line.len() == 300));
        assert!(refusals(b"all is well\n").is_empty());
    }
}
