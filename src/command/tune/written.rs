//! What is written already where apm's files are: by apm, or by somebody else.

use std::collections::BTreeMap;
use std::path::Path;

use crate::model::setting::{Place, Workload};
use crate::tune::dropin::{self, FILES, Own};

/// What is written already where apm's files are.
#[derive(Default)]
pub(super) struct Written {
    /// What the files say that apm wrote.
    pub(super) own: BTreeMap<String, Own>,
    /// They were written for the workload that is asked for.
    pub(super) lasts: bool,
    /// Files that somebody else wrote, as the machine names them.
    pub(super) foreign: BTreeMap<Place, String>,
}

/// Where units of systemd may be beside /etc; apm's own would hide them.
const UNITS: &[&str] =
    &["run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];

/// `real`: the machine's own /etc, which `etc` may stand for.
pub(super) fn written(etc: &Path, real: &Path, workload: Workload) -> Written {
    let mut written = Written { lasts: true, ..Written::default() };
    for (place, name) in FILES {
        let Ok(text) = std::fs::read_to_string(etc.join(name)) else { continue };
        if text.is_empty() || dropin::is_own(&text) {
            written.lasts &= dropin::is_for(&text, workload);
            written.own.extend(dropin::parse(*place, &text));
        } else {
            written.foreign.insert(*place, format!("/etc/{name}"));
        }
    }
    let units = UNITS.iter().map(|folder| (*folder, "apm.slice")).chain([("etc/systemd/system", "apm.slice.d")]);
    for (folder, name) in units {
        let path = real.parent().unwrap_or(real).join(folder).join(name);
        if path.exists() {
            written.foreign.insert(Place::Slice, format!("/{folder}/{name}"));
        }
    }
    written
}
