//! Pure text: one way to write a duration, a count, an explanation; text from outside made fit for a terminal (`transcript`)
//! and for each format (`escape`).

pub(crate) mod escape;
pub(crate) mod json;
pub(crate) mod layout;
pub(crate) mod lines;
pub(crate) mod number;
pub(crate) mod reason;
pub(crate) mod snippet;
pub(crate) mod suggest;
pub(crate) mod transcript;
pub(crate) mod yaml;
