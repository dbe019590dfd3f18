//! Plain data that every other part shares. Knows nothing of files, processes, clocks or output:
//! no function here does I/O, and no type here needs one.

pub mod attempt;
pub mod bytestring;
pub mod diagnosis;
pub mod edit;
pub mod event;
pub mod finding;
pub mod id;
pub(crate) mod intern;
pub mod outcome;
pub mod profile;
pub mod rare;
pub mod raw;
pub mod request;
pub mod sandbox;
pub mod setting;
pub mod snapshot;
pub mod task;
pub mod tier;
pub mod unit;
pub mod variables;
pub mod waiting;
