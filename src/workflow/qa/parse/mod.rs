//! Reads what tools print into tests and findings: the readers by name. What they share is in `printed`, `distinct` and
//! `offline`; what the results mean is said in `judge`.

mod distinct;
mod findings;
pub(crate) mod offline;
pub(crate) mod printed;
mod rust;
mod summary;
mod tests;

use crate::model::finding::Results;
use crate::workflow::qa::parse::printed::{Printed, Read};

macro_rules! parsers {
    ($($variant:ident $word:literal $read:expr,)*) => {
        /// The readers, named in the table of tools and in the journal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Parser { $(#[doc = $word] $variant,)* }

        impl Parser {
            /// The name in the journal.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The reader of that name.
            pub(crate) fn of(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }

            /// Reads what a tool has printed.
            pub(crate) fn read(self, printed: &Printed<'_>) -> Read {
                match self { $(Self::$variant => $read(printed),)* }
            }
        }
    };
}

parsers! {
    Exit "exit" nothing_to_read,
    Fixer "fixer" nothing_to_read,
    Target "target" tests::target,
    Paths "paths" findings::paths,
    RuffFormat "ruff-format" findings::ruff_format,
    Black "black" findings::black,
    Gcc "gcc" findings::gcc,
    Cargo "cargo" rust::messages,
    CargoTest "cargo-test" rust::tests,
    Nextest "nextest" rust::nextest,
    CargoDeny "cargo-deny" rust::deny,
    CargoAudit "cargo-audit" rust::audit,
    Junit "junit" tests::junit,
    Jest "jest" tests::jest,
    GoTest "go-test" tests::go,
    GoVet "go-vet" findings::go_vet,
    GoBuild "go-build" findings::go_build,
    Staticcheck "staticcheck" findings::staticcheck,
    Ruff "ruff" findings::ruff,
    Mypy "mypy" findings::mypy,
    PipAudit "pip-audit" findings::pip_audit,
    Eslint "eslint" findings::eslint,
    Tsc "tsc" findings::tsc,
    NpmAudit "npm-audit" findings::npm_audit,
    Shellcheck "shellcheck" findings::shellcheck,
    Hadolint "hadolint" findings::hadolint,
    Actionlint "actionlint" findings::actionlint,
    Zizmor "zizmor" findings::zizmor,
    Yamllint "yamllint" findings::yamllint,
    Markdownlint "markdownlint" findings::markdownlint,
}

fn nothing_to_read(_: &Printed<'_>) -> Read {
    Ok(Results::default())
}
