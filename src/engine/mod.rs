//! The task engine. `graph`, `queue`, `schedule`, `pool`, `admit`, `retry` and `history` are pure: state, `now` and an
//! input go in, decisions come out. `dispatch` owns a run: it feeds them and performs what they decide; `unit` is
//! the life of one attempt.

pub(crate) mod admit;
pub(crate) mod dispatch;
pub(crate) mod graph;
pub(crate) mod history;
pub(crate) mod pool;
pub(crate) mod queue;
pub(crate) mod retry;
pub(crate) mod schedule;
pub(crate) mod signals;
#[cfg(test)]
mod simulation;
pub(crate) mod unit;
