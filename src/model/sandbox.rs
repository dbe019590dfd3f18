//! Confinement of a task: what is asked for, and what the kernel enforced.

use serde::{Deserialize, Serialize};

use crate::model::bytestring::ByteString;
use crate::model::rare::Unset;
use crate::model::raw::Raw;
use crate::model::snapshot::field::Field;

/// How much confinement is asked for, least first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxMode {
    /// None.
    #[default]
    Off,
    /// As much as this machine gives.
    Best,
    /// All of it, or the task does not start.
    Require,
}

impl SandboxMode {
    /// The words of the modes, as they are written in plans and on the command line.
    pub const WORDS: [&str; 3] = ["require", "best", "off"];

    /// The mode of a word.
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "off" => Some(Self::Off),
            "best" => Some(Self::Best),
            "require" => Some(Self::Require),
            _ => None,
        }
    }

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Best => "best",
            Self::Require => "require",
        }
    }

    fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

/// The confinement of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// What the plan asks for.
    #[serde(default, skip_serializing_if = "SandboxMode::is_off")]
    pub mode: SandboxMode,
    /// What the run asks for, by `--sandbox` or `run.sandbox`: filled in anew at a resume.
    #[serde(default, rename = "run", skip_serializing_if = "SandboxMode::is_off")]
    pub of_run: SandboxMode,
    /// What it may write besides its folder; relative to its folder, `~/` is the home of the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub write: Vec<ByteString>,
    /// It may use the network.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub network: bool,
}

impl Sandbox {
    /// The stricter of the plan and the run: neither takes away what the other asks for.
    pub fn effective(&self) -> SandboxMode {
        self.mode.max(self.of_run)
    }
}

impl Unset for Sandbox {
    fn unset() -> &'static Self {
        static NONE: Sandbox =
            Sandbox { mode: SandboxMode::Off, of_run: SandboxMode::Off, write: Vec::new(), network: false };
        &NONE
    }
}

/// What was enforced on an attempt, by which features of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// As in [`Support::tier`].
    pub tier: u32,
    /// Version of Landlock's ABI; absent without Landlock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landlock: Option<u32>,
    /// System calls were filtered.
    #[serde(default)]
    pub seccomp: bool,
    /// The network was allowed.
    #[serde(default)]
    pub network: bool,
    /// What could not be enforced, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Raw>,
    /// Lines of the output of a task that did not pass which say that an action was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Raw>,
}

impl Confinement {
    /// In a line, for people.
    pub fn describe(&self) -> String {
        let mut features = vec!["capabilities dropped".to_owned(), "no_new_privs".to_owned()];
        features.extend(self.landlock.map(|abi| format!("Landlock ABI {abi}")));
        features.extend(self.seccomp.then(|| "seccomp".to_owned()));
        let network = if self.network { "network allowed" } else { "network off" };
        format!("tier {} ({}), {network}", self.tier, features.join(", "))
    }
}

/// The ABI of Landlock that refuses truncation, and the Linux that brought it.
const TRUNCATION: (u32, &str) = (3, "6.2");
/// The same for abstract unix sockets and signals.
const SCOPES: (u32, &str) = (6, "6.12");

/// What a kernel gives for confinement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Support {
    /// Version of Landlock's ABI.
    pub landlock: Field<u32>,
    /// System calls can be filtered.
    pub seccomp: Field<bool>,
}

impl Support {
    /// 1 where Landlock and seccomp are there, 0 where one of them is not.
    pub fn tier(&self) -> u32 {
        u32::from(self.landlock.known().is_some() && self.seccomp.known().is_some())
    }

    /// What `require` asks for and this kernel does not give.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        match self.landlock.get() {
            Err(unavailable) => missing.push(format!("files are not protected: {}", unavailable.why)),
            Ok(abi) => {
                let lacks = |(version, linux): (u32, &str), what: &str| {
                    (*abi < version)
                        .then(|| format!("{what}: Landlock has ABI {abi} here, and {version} from Linux {linux} on"))
                };
                missing.extend(lacks(TRUNCATION, "files outside can be truncated"));
                missing.extend(lacks(SCOPES, "processes and abstract sockets outside can be reached"));
            }
        }
        missing
            .extend(self.seccomp.get().err().map(|unavailable| format!("the network is not off: {}", unavailable.why)));
        missing
    }
}
