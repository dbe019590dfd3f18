//! Where the results go. One function renders: folded stacks for now.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::command::Context;
use crate::command::failure::Failure;
use crate::model::profile::Profile;
use crate::sink::file::Whole;

/// The folder for the results where none is named.
const FOLDER: &str = "apm-profile";

/// Where the results go.
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Creates it, before the work: a wrong path is said at once.
    pub(super) fn create(context: &Context, named: Option<&Path>) -> Result<Self, Failure> {
        let named = named.unwrap_or(Path::new(FOLDER));
        let path = context.environment.cwd.join(named);
        fs::create_dir_all(&path)
            .with_context(|| format!("create the folder `{}`", named.display()))
            .map_err(Failure::usage)?;
        Ok(Self { path })
    }

    /// Writes everything and says where.
    pub(super) fn write(&self, context: &Context, profile: &Profile) -> Result<(), Failure> {
        let path = self.path.join("cpu.folded");
        let write = |path: &Path, text: &str| Whole::create(path)?.write(|out| out.write_all(text.as_bytes()));
        write(&path, &folded(profile))
            .and_then(|()| write(&self.path.join("cpu.json"), &serde_json::to_string(profile)?))
            .with_context(|| format!("write `{}`", path.display()))
            .map_err(Failure::machine)?;
        if !context.ui.quiet() {
            context.ui.say(&format!("{}apm: {}\n", quality(profile), path.display()));
        }
        Ok(())
    }
}

fn folded(profile: &Profile) -> String {
    let mut lines: BTreeMap<String, u64> = BTreeMap::new();
    for row in &profile.rows {
        let mut names: Vec<String> =
            profile.stack(row.node).map(|frame| frame.name.replace([';', '\n'], ":")).collect();
        names.extend(
            row.thread.and_then(|thread| profile.threads.get(thread as usize)).map(|thread| thread.name.clone()),
        );
        names.reverse();
        *lines.entry(names.join(";")).or_default() += row.values.get(1).copied().unwrap_or(0);
    }
    let mut text = String::new();
    for (stack, count) in lines {
        let _ = writeln!(text, "{stack} {count}");
    }
    text
}

fn quality(profile: &Profile) -> String {
    let quality = &profile.quality;
    let mut text = format!(
        "apm: {}; {} samples at {:.0} of {} Hz; lost {}, truncated {}, unknown {}\n",
        quality.sampler,
        quality.samples,
        quality.rate_got,
        quality.rate_asked,
        quality.lost,
        quality.truncated,
        quality.unknown
    );
    for line in quality.refused.iter().chain(&quality.notes) {
        let _ = writeln!(text, "apm: {line}");
    }
    for nameless in &quality.nameless {
        let hint = nameless.hint.as_deref().unwrap_or("nothing is known that would help");
        let _ = writeln!(text, "apm: no names in {} ({} samples): {hint}", nameless.module, nameless.samples);
    }
    text
}
