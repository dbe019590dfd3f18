//! The integration tests: the built binary in a sandbox of its own, observed from outside only.

mod architecture;
mod config;
mod crash;
mod doctor;
mod each;
mod formats;
mod generated;
mod hostile;
mod hosts;
mod imports;
mod journals;
mod limits;
mod plan;
mod profile;
mod profile_kinds;
mod qa;
mod sandbox;
mod shipped;
mod steer;
mod tune;
