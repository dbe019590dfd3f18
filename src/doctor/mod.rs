//! The rules: each looks at a window and says what is wrong, on which evidence, who causes it and what to do. Pure: what a
//! rule knows is in the window. One table a rule, so that thresholds, sources and remedies can be listed and explained.
//!
//! Laws: a short window alone gives at most `warn`; `crit` needs a second independent signal, such as an average over a
//! minute, or a hard state such as no byte left. What cannot be seen is skipped with the reason, never `ok`.
//!
//! `rule` is what a rule is and gets, `question` what the user wants to know; the areas (`memory`, `cpu`, `io`, `network`,
//! `process`, `agents`, `hardware`, `focus`) have a table of rules each, which `catalogue` puts together and `diagnose`
//! asks; `cause` puts a finding and those that it explains together. `culprit` names who has how much, `target` says which
//! processes a command may end or slow down.

pub(crate) mod agents;
pub(crate) mod catalogue;
pub(crate) mod cause;
pub(crate) mod cpu;
pub(crate) mod culprit;
pub(crate) mod diagnose;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod focus;
pub(crate) mod hardware;
pub(crate) mod host;
pub(crate) mod io;
pub(crate) mod memory;
pub(crate) mod network;
pub(crate) mod process;
pub(crate) mod question;
pub(crate) mod rule;
pub(crate) mod target;
pub(crate) mod vitals;
pub(crate) mod watch;
