//! `apm profile`: records where time, memory and bytes go.

#![allow(dead_code, reason = "the command comes in the next commit")]

pub(crate) mod heap;
pub(crate) mod record;
