//! What a run amounts to, and how it is written. `run` folds events into a report; the others are leaves that write one
//! format each. They fetch nothing, measure nothing and know no terminal.

pub(crate) mod run;
pub(crate) mod text;

use crate::model::event::Stored;

/// Reads bytes that an event refers to: at most so many, from the start. What is missing is an empty answer.
pub(crate) type ReadStored<'a> = &'a dyn Fn(&Stored, usize) -> Vec<u8>;
