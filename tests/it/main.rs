//! The integration tests: the built binary in a sandbox of its own, observed from outside only.

#![allow(clippy::disallowed_methods, reason = "tests make files of their own")]

mod architecture;
mod bare;
mod config;
mod confined;
mod crash;
mod doctor;
mod each;
mod files;
mod formats;
mod generated;
mod hostile;
mod hostile_input;
mod hostile_repository;
mod hostile_state;
mod hostile_text;
mod hostile_tune;
mod hosts;
mod imports;
mod install;
mod journals;
mod limits;
mod newcomer;
mod notices;
mod plan;
mod profile;
mod profile_kinds;
mod profile_names;
mod qa;
mod resume;
mod sandbox;
mod shipped;
mod steer;
mod tune;
