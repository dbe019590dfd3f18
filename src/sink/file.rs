//! Files that are whole or not there: created beside their place at the start, so that a bad path fails before the work,
//! and put into it at the end, so that nobody reads half of one. And the sink that writes a report into such a file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::model::event::Envelope;
use crate::report::ReadStored;
use crate::report::run::RunReport;
use crate::sink::Sink;

/// Symbolic links followed, as many as the kernel follows.
const LINKS_MAX: usize = 40;

/// Writes a report.
pub(crate) type Render = Box<dyn Fn(&RunReport, ReadStored<'_>, &mut dyn Write) -> io::Result<()> + Send>;

/// A report to be written.
pub(crate) struct ReportFile {
    name: String,
    place: Option<Whole>,
    render: Render,
    report: RunReport,
}

/// A file that takes its place when it is whole.
#[derive(Debug)]
pub(crate) struct Whole {
    file: File,
    beside: PathBuf,
    path: PathBuf,
}

impl Whole {
    /// Begins one. What is no regular file (`/dev/stdout`, a pipe) is written to directly.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let path = &target(path);
        let special = std::fs::metadata(path).is_ok_and(|meta| !meta.is_file());
        let beside = if special {
            path.to_owned()
        } else {
            let mut name = path.file_name().unwrap_or_default().to_owned();
            name.push(format!(".{}.tmp", std::process::id()));
            path.with_file_name(name)
        };
        let file = if special { File::options().write(true).open(path)? } else { File::create(&beside)? };
        Ok(Self { file, beside, path: path.to_owned() })
    }

    /// One with its text, still beside its place.
    pub(crate) fn filled(path: &Path, text: &[u8]) -> io::Result<Self> {
        let whole = Self::create(path)?;
        (&whole.file).write_all(text)?;
        whole.file.sync_all()?;
        Ok(whole)
    }

    /// Puts it into its place.
    pub(crate) fn place(self) -> io::Result<()> {
        if self.beside == self.path { Ok(()) } else { std::fs::rename(&self.beside, &self.path) }
    }

    /// Writes it and puts it into its place.
    pub(crate) fn write(self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let mut out = BufWriter::new(&self.file);
        write(&mut out)?;
        out.flush()?;
        drop(out);
        self.place()
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if self.beside != self.path {
            // The work broke off before the end: nothing half written stays. One in its place is not here any more.
            let _ = std::fs::remove_file(&self.beside);
        }
    }
}

impl ReportFile {
    /// A report for a file.
    pub(crate) fn create(name: String, path: &Path, render: Render) -> io::Result<Self> {
        Ok(Self { name, place: Some(Whole::create(path)?), render, report: RunReport::default() })
    }

    /// A report for standard output.
    pub(crate) fn stdout(name: String, render: Render) -> Self {
        Self { name, place: None, render, report: RunReport::default() }
    }
}

/// Where writing to a path leads: a symbolic link stays, also one whose target is not there yet.
pub(crate) fn target(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(link) = std::fs::read_link(&path) else { break };
        path = path.parent().map_or_else(|| link.clone(), |folder| folder.join(&link));
    }
    path
}

impl Sink for ReportFile {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn event(&mut self, envelope: &Envelope, _read: ReadStored<'_>) -> io::Result<()> {
        self.report.apply(envelope);
        Ok(())
    }

    fn finish(&mut self, read: ReadStored<'_>) -> io::Result<()> {
        let Some(place) = self.place.take() else {
            let mut out = BufWriter::new(io::stdout().lock());
            (self.render)(&self.report, read, &mut out)?;
            return out.flush();
        };
        place.write(|out| (self.render)(&self.report, read, out))
    }
}
