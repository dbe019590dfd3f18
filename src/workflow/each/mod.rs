//! `apm run each`: one task for each value. `template` fills placeholders, `values` reads and combines values.

pub(crate) mod template;
pub(crate) mod values;
