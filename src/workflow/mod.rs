//! Turns what the user asked for into a plan. Pure, but for the readers of files.

pub(crate) mod each;
pub(crate) mod planfile;
pub(crate) mod qa;
