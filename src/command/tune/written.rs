//! What is written already where apm's files are: by apm, or by somebody else.

use std::collections::BTreeMap;
use std::path::Path;

use crate::model::setting::{Place, Workload};
use crate::tune::dropin::{self, FILES, Own};
use crate::tune::root::Root;

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

/// `etc` of `root` stands for the /etc of `machine`.
pub(super) fn written(root: &Root, etc: &Path, machine: &Root, workload: Workload) -> Written {
    let mut written = Written { lasts: true, ..Written::default() };
    for (place, name) in FILES {
        let Ok(Some(text)) = root.text(&etc.join(name)) else { continue };
        if text.is_empty() || dropin::is_own(&text) {
            written.lasts &= dropin::is_for(&text, workload);
            written.own.extend(dropin::parse(*place, &text));
        } else {
            written.foreign.insert(*place, format!("/etc/{name}"));
        }
    }
    let units = UNITS.iter().map(|folder| (*folder, "apm.slice")).chain([("etc/systemd/system", "apm.slice.d")]);
    for (folder, name) in units {
        let path = Path::new("/").join(folder).join(name);
        if machine.has(&path) {
            written.foreign.insert(Place::Slice, path.display().to_string());
        }
    }
    written
}
