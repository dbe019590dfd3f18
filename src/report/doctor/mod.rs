//! A diagnosis in each format. Names of processes, groups and mounts are cleaned here.

use std::io::{self, Write};

use crate::model::diagnosis::Diagnosis;

pub(crate) mod text;

/// The diagnosis as it is.
pub(crate) fn json(diagnosis: &Diagnosis, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, diagnosis)?;
    out.write_all(b"\n")
}
