//! Managers of packages of Node: which one a project uses, and how it calls a script.

use crate::workflow::qa::project::{Project, folders, with_slash};

/// A manager of packages of Node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manager {
    Npm,
    Pnpm,
    Yarn,
    Bun,
}

impl Manager {
    /// The manager of a project: the one its manifest or one above names, or whose lock file is the nearest.
    pub(crate) fn of(project: &Project<'_>) -> Self {
        const LOCKS: [(&str, Manager); 6] = [
            ("pnpm-lock.yaml", Manager::Pnpm),
            ("yarn.lock", Manager::Yarn),
            ("bun.lock", Manager::Bun),
            ("bun.lockb", Manager::Bun),
            ("package-lock.json", Manager::Npm),
            ("npm-shrinkwrap.json", Manager::Npm),
        ];
        let named = |dir: &str| {
            let manifest: serde_json::Value =
                serde_json::from_str(project.facts.text(&format!("{}package.json", with_slash(dir)))).ok()?;
            let (name, _) = manifest.get("packageManager")?.as_str()?.split_once('@')?;
            [Self::Npm, Self::Pnpm, Self::Yarn, Self::Bun].into_iter().find(|manager| manager.program() == name)
        };
        let locked = |dir: &str| {
            let has = |lock: &&(&str, Self)| project.facts.has(&format!("{}{}", with_slash(dir), lock.0));
            LOCKS.iter().find(has).map(|(_, manager)| *manager)
        };
        folders(&project.dir).find_map(|dir| named(dir).or_else(|| locked(dir))).unwrap_or(Self::Npm)
    }

    /// What is called.
    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pnpm => "pnpm",
            Self::Yarn => "yarn",
            Self::Bun => "bun",
        }
    }

    /// The words before the name of a script.
    pub(crate) const fn run(self) -> &'static [&'static str] {
        match self {
            Self::Npm => &["npm", "run", "--silent"],
            Self::Pnpm => &["pnpm", "run"],
            Self::Yarn => &["yarn", "run"],
            Self::Bun => &["bun", "run"],
        }
    }

    /// How its packages are installed as the lock file has them.
    pub(crate) fn install(self, project: &Project<'_>) -> &'static str {
        let has_lock =
            |name: &str| folders(&project.dir).any(|dir| project.facts.has(&format!("{}{name}", with_slash(dir))));
        match self {
            Self::Npm if has_lock("package-lock.json") || has_lock("npm-shrinkwrap.json") => {
                "`npm ci` installs the project's packages"
            }
            Self::Npm => "`npm install` installs the project's packages",
            Self::Pnpm => "`pnpm install --frozen-lockfile` installs the project's packages",
            Self::Yarn => {
                "`yarn install --frozen-lockfile` (`--immutable` from version 2 on) installs the project's packages"
            }
            Self::Bun => "`bun install --frozen-lockfile` installs the project's packages",
        }
    }
}
