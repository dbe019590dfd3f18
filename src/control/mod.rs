//! The way into a running run from another process of its owner: a socket in the folder of the run. `protocol` is what is
//! said, `server` answers in the process of the run, `client` asks.

pub(crate) mod client;
pub(crate) mod protocol;
pub(crate) mod server;
