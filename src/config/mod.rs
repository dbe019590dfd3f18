//! Settings in layers: defaults, the user's file, the project's file, the environment, flags. Every value knows where it
//! came from. The only part of apm that reads the environment and the home directory.

pub(crate) mod environment;
pub(crate) mod git;
pub(crate) mod keys;
pub(crate) mod layers;
pub(crate) mod repository;
pub(crate) mod settings;
