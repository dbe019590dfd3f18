//! A profile in each format, and a profile from foreign bytes. `tree` merges stacks, `quality` and `amount` say things in
//! words; the others write or read one format each. Names of functions, files and threads are hostile: they are cleaned
//! where people see them, and escaped; machines get them as they are.

pub(crate) mod amount;
pub(crate) mod cpuprofile;
pub(crate) mod delta;
pub(crate) mod detect;
pub(crate) mod diff;
pub(crate) mod flame;
pub(crate) mod folded;
mod foreign;
pub(crate) mod go_text;
pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod perf_script;
pub(crate) mod pprof;
pub(crate) mod quality;
pub(crate) mod speedscope;
pub(crate) mod text;
mod timeline;
pub(crate) mod tree;

#[cfg(test)]
mod sample;
