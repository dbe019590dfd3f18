//! What a run amounts to, and how it is written. `run` folds events into a report; the others are leaves that write one
//! format each. They fetch nothing, measure nothing and know no terminal.

pub(crate) mod dry_run;
pub(crate) mod github;
pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod junit;
pub(crate) mod markdown;
pub(crate) mod run;
pub(crate) mod text;
pub(crate) mod trace;

use crate::model::event::Stored;

/// Reads bytes that an event refers to: at most so many, from the start. What is missing is an empty answer.
pub(crate) type ReadStored<'a> = &'a dyn Fn(&Stored, usize) -> Vec<u8>;
