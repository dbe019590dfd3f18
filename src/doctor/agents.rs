//! Rules about agents.

use crate::doctor::Rule;

/// The rules.
pub(crate) const RULES: &[Rule] = &[];
