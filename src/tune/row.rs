//! A row of the catalogue: a setting, the values it can have, and the formula of its proposal.

use crate::model::setting::{Place, Reason, Risk};
use crate::tune::facts::Facts;
use crate::tune::value::number;

/// What a formula says.
pub(crate) enum Advice {
    /// It should be this.
    Want(String, String),
    /// It should be this, as a finding of this rule of the doctor shows.
    FromRule(String, String, &'static str),
    /// It is right as it is.
    Keep(String),
    Skip(Reason, String),
}

/// No finding and no fact shows that another value would help.
pub(super) fn unproven() -> Advice {
    Advice::Skip(Reason::NoEvidence, "nothing shows that another value helps".to_owned())
}

/// There is no finding of the rule that would show that another value would help.
pub(super) fn quiet(rule: &str) -> Advice {
    Advice::Skip(Reason::NoEvidence, format!("{rule} does not speak: `apm doctor --explain {rule}`"))
}

/// Whether a value may be lowered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Law {
    /// A limit, one number or several: never lower.
    Limit,
    /// Neither more nor less is better as such.
    Choice,
}

/// Values that are possible.
#[derive(Clone, Copy)]
pub(crate) enum Valid {
    /// Numbers from, to; each of several.
    Range(u64, u64),
    /// One of these, or what the kernel lists as possible.
    Words(&'static [&'static str]),
}

/// Whose a setting is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Each network namespace has its own.
    Network,
    Host,
}

/// A row of the catalogue.
pub(crate) struct Row {
    /// The key; `sys.block.*.scheduler` stands for one of each disk.
    pub(crate) key: &'static str,
    pub(crate) place: Place,
    pub(crate) scope: Scope,
    pub(crate) law: Law,
    pub(crate) valid: Valid,
    pub(crate) risk: Risk,
    /// What it is.
    pub(crate) about: &'static str,
    /// How the proposal is computed.
    pub(crate) formula: &'static str,
    /// Where range and formula come from.
    pub(crate) source: &'static str,
    /// The proposal for a key with this current value.
    pub(crate) advise: fn(&Facts<'_>, &str) -> Advice,
}

/// Whether a value is one that the setting can have.
pub(crate) fn is_valid(row: &Row, value: &str) -> bool {
    let mut words = value.split_ascii_whitespace().peekable();
    words.peek().is_some()
        && match row.valid {
            Valid::Range(least, most) => {
                words.all(|word| number(word).is_some_and(|number| (least..=most).contains(&number)))
            }
            Valid::Words(all) => words.all(|word| all.contains(&word)),
        }
}

/// The numbers of a value, each the nearest that is possible.
pub(super) fn within(row: &Row, value: &str) -> String {
    let Valid::Range(least, most) = row.valid else { return value.to_owned() };
    let word = |word: &str| {
        let near = |number: u64| number.clamp(least, most).to_string();
        word.parse::<u64>().map_or_else(|_| word.to_owned(), near)
    };
    value.split_ascii_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// Possible values in words.
pub(crate) fn describe(valid: Valid) -> String {
    let most = |most: u64| if most >= i64::MAX as u64 { "any number".to_owned() } else { most.to_string() };
    match valid {
        Valid::Range(from, to) => format!("{from} to {}", most(to)),
        Valid::Words(words) => words.join(", "),
    }
}
