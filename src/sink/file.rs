//! Files that are whole or not there: created beside their place at the start, so that a bad path fails before the work,
//! and put into it at the end, so that nobody reads half of one. And the sink that writes a report into such a file: it keeps
//! the summary of the run, and reads the rows of its tasks from the journal when the run is over.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::journal::read::{self, ReadError};
use crate::model::event::Envelope;
use crate::report::row::TakeRow;
use crate::report::rows::Rows;
use crate::report::run::RunReport;
use crate::report::{ReadStored, RunView};
use crate::sink::Sink;
use crate::sys::beneath::Folder;
use crate::sys::output::{self, Before, Beside, target};

/// Mode of the files, less the umask.
const MODE: u32 = 0o666;

/// Writes a report.
pub(crate) type Render = Box<dyn Fn(&RunView<'_>, &mut dyn Write) -> io::Result<()> + Send>;

/// A report to be written.
pub(crate) struct ReportFile {
    name: String,
    place: Option<Whole>,
    render: Render,
    journal: PathBuf,
    report: RunReport,
}

/// A file that takes its place when it is whole.
#[derive(Debug)]
pub(crate) enum Whole {
    Beside(Beside),
    /// What is no regular file (`/dev/stdout`, a pipe) is written to directly.
    Special(File),
}

impl Whole {
    /// Begins one. Links are followed, but not those that others have put into a folder like `/tmp`.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let target = target(path)?;
        if target.metadata().is_ok_and(|meta| !meta.is_file()) {
            return Ok(Self::Special(output::open(&target, Before::Kept)?));
        }
        Ok(Self::Beside(Beside::create(&target, MODE)?))
    }

    /// Begins one with this name in an open folder, without following links.
    pub(crate) fn create_in(folder: &Folder, name: &str) -> io::Result<Self> {
        Ok(Self::Beside(Beside::create_in(folder.try_clone()?, Path::new(name), MODE)?))
    }

    fn file(&self) -> &File {
        match self {
            Self::Beside(beside) => beside.file(),
            Self::Special(file) => file,
        }
    }

    /// Puts it into its place.
    pub(crate) fn place(self) -> io::Result<()> {
        match self {
            Self::Beside(beside) => beside.place(),
            Self::Special(_) => Ok(()),
        }
    }

    /// Writes it and puts it into its place.
    pub(crate) fn write(self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let mut out = BufWriter::new(self.file());
        write(&mut out)?;
        out.flush()?;
        drop(out);
        self.place()
    }
}

impl ReportFile {
    /// A report of the run with this journal for a file.
    pub(crate) fn create(name: String, path: &Path, render: Render, journal: &Path) -> io::Result<Self> {
        let place = Some(Whole::create(path)?);
        Ok(Self { name, place, render, journal: journal.to_owned(), report: RunReport::default() })
    }

    /// A report for standard output.
    pub(crate) fn stdout(name: String, render: Render, journal: &Path) -> Self {
        Self { name, place: None, render, journal: journal.to_owned(), report: RunReport::default() }
    }
}

/// The rows of a run, read from its journal each time they are asked for: of the part that the summary knows.
pub(crate) fn rows_of<'a>(journal: &'a Path, report: &'a RunReport) -> impl Fn(TakeRow<'_>) -> io::Result<()> + 'a {
    move |take| {
        let mut rows = Rows::new(report.last_ends());
        let read = read::each(journal, &mut |envelope| rows.apply(&envelope, take));
        let recorded = read.map_err(|error| match error {
            ReadError::Io(error) => error,
            other => io::Error::other(other),
        })?;
        let (found, expected) = (recorded.next_seq, report.last_ends().next_seq);
        if found < expected {
            let journal = journal.display();
            return Err(io::Error::other(format!("the journal `{journal}` has {found} of its {expected} events")));
        }
        rows.finish(take)
    }
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
        let each_row = rows_of(&self.journal, &self.report);
        let view = RunView { report: &self.report, each_row: &each_row, read };
        match self.place.take() {
            Some(place) => place.write(|out| (self.render)(&view, out)),
            None => {
                let mut out = BufWriter::new(io::stdout().lock());
                (self.render)(&view, &mut out)?;
                out.flush()
            }
        }
    }
}
