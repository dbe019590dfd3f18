//! Where the results of a recording go: a folder with every form of the profile, and what took most on the terminal.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::command::context::Context;
use crate::command::failure::Failure;
use crate::model::profile::Profile;
use crate::report::profile::tree::Roots;
use crate::report::profile::{flame, folded, html, json, pprof, speedscope, text};
use crate::sink::file::Whole;
use crate::sys::{beneath, output};

/// The folder for the results where none is named.
const FOLDER: &str = "apm-profile";
/// The file with everything.
const ALL: &str = "profile.json";
/// Bytes of that of an earlier recording that are read.
const ALL_MAX: u64 = 256 << 20;
/// Endings of the files that there is one of for each kind of values.
const EACH_KIND: [&str; 2] = ["svg", "folded"];
/// Lines of the paths that are shown at the end of a recording; `apm profile show` shows more.
const LINES: usize = 16;

/// Where the results go.
pub(super) struct Folder {
    open: beneath::Folder,
    /// As people write it.
    named: PathBuf,
}

impl Folder {
    /// Creates it, before the work: a wrong path is said at once. `at`: a time, for its name.
    pub(super) fn create(context: &Context, named: Option<&Path>, at: jiff::Timestamp) -> Result<Self, Failure> {
        let cwd = &context.environment.cwd;
        let make = |named: &Path| {
            make(&cwd.join(named))
                .with_context(|| format!("create the folder `{}`", named.display()))
                .map_err(|error| Failure::usage(error).hint("`-o DIR` puts the results elsewhere"))
        };
        if let Some(named) = named {
            return Ok(Self { open: make(named)?, named: named.to_owned() });
        }
        make(Path::new(FOLDER))?;
        let named = Path::new(FOLDER).join(at.strftime("%Y%m%d-%H%M%S").to_string());
        Ok(Self { open: make(&named)?, named })
    }

    /// Writes every form of it, and removes the files of kinds that only an earlier recording in this folder had.
    pub(super) fn write(&self, profile: &Profile) -> Result<(), Failure> {
        let before = self.open.read_own(Path::new(ALL), ALL_MAX).map(|old| json::kinds(&old)).unwrap_or_default();
        type Write<'a> = Box<dyn Fn(&mut dyn io::Write) -> io::Result<()> + 'a>;
        let mut files: Vec<(String, Write<'_>)> = vec![
            ("profile.pb.gz".to_owned(), Box::new(|out| pprof::write(profile, out))),
            (ALL.to_owned(), Box::new(|out| json::write(profile, out))),
            ("profile.speedscope.json".to_owned(), Box::new(|out| speedscope::write(profile, out))),
            ("report.html".to_owned(), Box::new(|out| html::write(profile, roots(profile), out))),
        ];
        for kind in text::kinds(profile) {
            let name = &profile.kinds[kind].name;
            let look = flame::Look { roots: roots(profile), ..flame::Look::default() };
            let form = folded::Form { roots: roots(profile), is_marked: false };
            let [picture, stacks] = files_of(name);
            files.push((picture, Box::new(move |out| out.write_all(flame::write(profile, kind, look).as_bytes()))));
            files.push((stacks, Box::new(move |out| folded::write(profile, kind, form, out))));
        }
        let is_stale = |name: &String| !name.contains('/') && files.iter().all(|(new, _)| new != name);
        for name in before.iter().flat_map(|kind| files_of(kind)).filter(is_stale) {
            // Where it cannot be removed it can be told by its time.
            let _ = self.open.remove_file(Path::new(&name));
        }
        for (name, write) in files {
            Whole::create_in(&self.open, &name)
                .and_then(|whole| whole.write(write))
                .with_context(|| format!("write `{}`", self.named.join(&name).display()))
                .map_err(Failure::machine)?;
        }
        Ok(())
    }

    /// Says what took most, and where the rest is. Standard output belongs to the command that was profiled.
    pub(super) fn say(&self, context: &Context, profile: &Profile, top: usize) {
        if context.ui.quiet() {
            return;
        }
        // Where tasks are known they are what one wants to see first.
        let roots = Some(roots(profile)).filter(|roots| *roots == Roots::Task).unwrap_or_default();
        // Of many kinds each has less room.
        let parts = if text::kinds(profile).len() > 2 { 3 } else { 1 };
        let extent = text::Extent { top: top.div_ceil(parts), lines: LINES / parts, roots, ..text::Extent::default() };
        let mut said = bytes(|out| text::write(profile, &extent, &context.ui.stderr_layout(), out));
        let _ = writeln!(said, "\n{}/", self.named.display());
        context.ui.say(&String::from_utf8_lossy(&said));
    }
}

/// The files of one kind of values.
fn files_of(kind: &str) -> [String; EACH_KIND.len()] {
    EACH_KIND.map(|ending| format!("{kind}.{ending}"))
}

/// A folder for results. In one of another user, or one that others can write to, they could be replaced or led elsewhere.
fn make(path: &Path) -> std::io::Result<beneath::Folder> {
    output::folder(path)?.judged()
}

/// Tasks of an apm run stand apart, and processes where there is more than one.
fn roots(profile: &Profile) -> Roots {
    let threads = || profile.rows.iter().filter_map(|row| profile.threads.get(row.thread? as usize));
    if threads().any(|thread| thread.task.is_some()) {
        return Roots::Task;
    }
    let mut pids = threads().map(|thread| thread.pid);
    let first = pids.next();
    if pids.any(|pid| Some(pid) != first) { Roots::Process } else { Roots::Code }
}

/// What is written to memory, which takes everything.
fn bytes(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> Vec<u8> {
    let mut out = Vec::new();
    let _ = write(&mut out);
    out
}
