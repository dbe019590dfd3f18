//! What the settings of a machine should be. `catalogue` is one table of settings, each a `row` with a formula over the
//! `facts`; `decide` holds what the formulas propose against the laws that none of them may break; `dropin` renders the
//! files. All of this is pure: `probe` has looked, `apply` writes.

pub(crate) mod apply;
mod block;
pub(crate) mod catalogue;
pub(crate) mod decide;
pub(crate) mod dropin;
pub(crate) mod facts;
pub(crate) mod judge;
mod kernel;
mod limits;
mod memory;
mod network;
pub(crate) mod record;
pub(crate) mod root;
pub(crate) mod row;
pub(crate) mod tuned;
pub(crate) mod value;
