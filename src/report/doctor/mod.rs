//! A diagnosis in each format: `phrase` says its parts in words, the others write one format each. Names of processes,
//! groups and mounts are hostile and cleaned here; JSON alone has them as they are, with escapes.

use std::io::{self, Write};

use serde::Serialize;

use crate::model::diagnosis::{Diagnosis, Finding, RuleFacts, Severity};
use crate::text::escape;

pub(crate) mod github;
pub(crate) mod html;
pub(crate) mod junit;
pub(crate) mod phrase;
pub(crate) mod prometheus;
pub(crate) mod rules;
pub(crate) mod sarif;
pub(crate) mod text;

/// What is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sheet<'a> {
    pub(crate) diagnosis: &'a Diagnosis,
    /// Those that were asked.
    pub(crate) rules: &'a [RuleFacts],
    /// From this severity on a finding fails; none does without one.
    pub(crate) fails_from: Option<Severity>,
    /// Name every rule that found nothing.
    pub(crate) is_verbose: bool,
}

impl Sheet<'_> {
    fn rule(&self, id: &str) -> Option<&RuleFacts> {
        self.rules.iter().find(|rule| rule.id == id)
    }

    fn fails(&self, finding: &Finding) -> bool {
        self.fails_from.is_some_and(|floor| finding.severity >= floor)
    }
}

/// The diagnosis as it is.
pub(crate) fn json(diagnosis: &Diagnosis, out: &mut dyn Write) -> io::Result<()> {
    document(diagnosis, out)
}

/// A value as JSON that a terminal can be shown.
fn document(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", escape::json(&serde_json::to_string_pretty(value)?))
}

#[cfg(test)]
pub(crate) mod sample;
