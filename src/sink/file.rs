//! Writes a report in some format when the run is over. The file is created beside its place at the start, so that a bad
//! path fails before the work, and takes its place at the end, so that nobody reads half of it.

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
    place: Option<Place>,
    render: Render,
    report: RunReport,
}

#[derive(Debug)]
struct Place {
    file: File,
    beside: PathBuf,
    path: PathBuf,
}

impl ReportFile {
    /// A report for a file. What is no regular file (`/dev/stdout`, a pipe) is written to directly.
    pub(crate) fn create(name: String, path: &Path, render: Render) -> io::Result<Self> {
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
        let place = Some(Place { file, beside, path: path.to_owned() });
        Ok(Self { name, place, render, report: RunReport::default() })
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
        let mut out = BufWriter::new(&place.file);
        (self.render)(&self.report, read, &mut out)?;
        out.flush()?;
        drop(out);
        if place.beside == place.path { Ok(()) } else { std::fs::rename(&place.beside, &place.path) }
    }
}

impl Drop for ReportFile {
    fn drop(&mut self) {
        if let Some(place) = self.place.take()
            && place.beside != place.path
        {
            // The run broke off before the report: nothing half written stays.
            let _ = std::fs::remove_file(&place.beside);
        }
    }
}
