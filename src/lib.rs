//! apm: one static binary that runs checks, plans and agents in parallel with limits.

pub mod cli;
mod agent;
mod command;
mod config;
mod engine;
mod executor;
mod journal;
mod model;
mod probe;
mod report;
mod sink;
mod sys;
mod text;
mod ui;
mod workflow;
