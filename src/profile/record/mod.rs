//! How samples are taken: the rungs of the `ladder`, the `rings` they come through in order of time, the records taken
//! apart (`perf`), and what was there before the first record (`existing`).

pub(crate) mod existing;
pub(crate) mod ladder;
pub(crate) mod perf;
pub(crate) mod rings;
