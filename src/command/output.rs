//! Where reports go: `--format` to standard output, `-o FORMAT=FILE` to files, and the renderer of each format.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueEnum;

use crate::cli::run::Format;
use crate::command::failure::Failure;
use crate::report::{RunView, github, html, json, junit, markdown, text, trace};
use crate::sink::Sink;
use crate::sink::file::{Render, ReportFile, Whole};
use crate::sink::jsonl::JsonLines;
use crate::sys::output::{self, Before};
use crate::sys::stdio;
use crate::sys::terminal::may_stall;
use crate::text::layout::Layout;
use crate::text::suggest;

/// Whether a format shows each task, and so reads the journal of the run when it is over.
pub(crate) fn needs_journal(format: Format) -> bool {
    !matches!(format, Format::Text | Format::Ndjson)
}

/// Renders a report in a format. `Ndjson` is no report: it is the stream itself.
pub(crate) fn render(format: Format, view: &RunView<'_>, layout: &Layout, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Text => text::write(view.report, view.read, layout, out),
        Format::Json | Format::Ndjson => json::write(view, out),
        Format::Junit => junit::write(view, out),
        Format::Markdown => markdown::write(view, out),
        Format::Html => html::write(view, out),
        Format::Trace => trace::write(view, out),
        Format::Github => github::write(view, out),
    }
}

fn renderer(format: Format, layout: Layout) -> Render {
    Box::new(move |view, out| render(format, view, &layout, out))
}

/// A file asked for by `-o`, in one of the formats of a command.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<F = Format> {
    pub(crate) format: F,
    pub(crate) path: PathBuf,
}

impl<F: ValueEnum> Wanted<F> {
    /// `junit=report.xml`
    pub(crate) fn name(&self) -> String {
        format!("{}={}", word(&self.format), self.path.display())
    }

    /// Whether whoever reads it can make its writer wait.
    pub(crate) fn may_stall(&self) -> bool {
        if self.path == Path::new("-") {
            return may_stall(&io::stdout());
        }
        std::fs::metadata(&self.path).is_ok_and(|meta| !(meta.is_file() || self.path == Path::new("/dev/null")))
    }
}

/// The word of a format on the command line.
pub(crate) fn word<F: ValueEnum>(format: &F) -> String {
    format.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Reads `-o FORMAT=FILE`.
pub(crate) fn parse<F: ValueEnum>(values: &[OsString]) -> Result<Vec<Wanted<F>>, Failure> {
    let wanted: Vec<Wanted<F>> = values.iter().map(parse_one).collect::<Result<_, _>>()?;
    let places: Vec<PathBuf> = wanted.iter().map(|one| place(&one.path)).collect();
    for (at, one) in wanted.iter().enumerate() {
        // A pipe or /dev/null takes several.
        let special = std::fs::metadata(&one.path).is_ok_and(|meta| !meta.is_file());
        if let Some(other) = places[..at].iter().position(|place| *place == places[at]).filter(|_| !special) {
            let (first, second) = (word(&wanted[other].format), word(&one.format));
            let path = one.path.display();
            return Err(Failure::usage(anyhow::anyhow!("-o {first} and -o {second} both go to `{path}`")));
        }
    }
    Ok(wanted)
}

/// The same for every way to write the path of a file.
pub(crate) fn place(path: &Path) -> PathBuf {
    // Where it cannot be followed, creating the file will say so.
    let target = output::target(path).unwrap_or_else(|_| path.to_owned());
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Where the folder is missing, creating the file will say so.
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    folder.join(target.file_name().unwrap_or_default())
}

fn parse_one<F: ValueEnum>(value: &OsString) -> Result<Wanted<F>, Failure> {
    let shown = value.to_string_lossy();
    let bytes = value.as_bytes();
    let known: Vec<String> = F::value_variants().iter().map(word).collect();
    let usage = |text: String| {
        Failure::usage(anyhow::anyhow!("-o {shown}: {text}"))
            .hint(format!("formats are {}; for instance `-o junit=report.xml`", known.join(", ")))
    };
    let split = bytes.iter().position(|byte| *byte == b'=').ok_or_else(|| usage("expected FORMAT=FILE".to_owned()))?;
    let name = String::from_utf8_lossy(&bytes[..split]).into_owned();
    let format = F::value_variants().iter().find(|format| word(*format) == name).cloned().ok_or_else(|| {
        let likely = suggest::likely(&name, known.iter().map(String::as_str));
        let likely = likely.map(|word| format!("; did you mean `{word}`?")).unwrap_or_default();
        usage(format!("`{name}` is not a format{likely}"))
    })?;
    let path = PathBuf::from(OsString::from_vec(bytes[split + 1..].to_vec()));
    if path.as_os_str().is_empty() {
        return Err(usage("the file is missing".to_owned()));
    }
    Ok(Wanted { format, path })
}

/// The layout of files and of what goes to standard output by name.
const FILE_LAYOUT: Layout = Layout { width: 100, ..Layout::PLAIN };

/// A sink for a file, of the run with this journal. Fails now if the file cannot be created.
pub(crate) fn file(wanted: &Wanted, journal: &Path) -> Result<Box<dyn Sink>, Failure> {
    let name = wanted.name();
    let fail = |error| cannot_create(wanted, error);
    if wanted.path == Path::new("-") {
        return stdout(wanted.format, Layout::PLAIN, journal);
    }
    output::make_folder_of(&wanted.path).map_err(fail)?;
    if wanted.format == Format::Ndjson {
        let file = output::open(&wanted.path, Before::Nothing).map_err(fail)?;
        return Ok(Box::new(JsonLines::new(name, Box::new(file))));
    }
    let render = renderer(wanted.format, FILE_LAYOUT);
    Ok(Box::new(ReportFile::create(name, &wanted.path, render, journal).map_err(fail)?))
}

/// A sink for standard output. Where that is closed nothing is begun whose report would be lost.
pub(crate) fn stdout(format: Format, layout: Layout, journal: &Path) -> Result<Box<dyn Sink>, Failure> {
    let name = format!("{} on standard output", format.as_str());
    stdio::output().with_context(|| format!("write {name}")).map_err(Failure::machine)?;
    Ok(match format {
        Format::Ndjson => Box::new(JsonLines::new(name, Box::new(io::stdout()))),
        _ => Box::new(ReportFile::stdout(name, renderer(format, layout), journal)),
    })
}

/// Writes a report of a recorded run into the file that `-o` names.
pub(crate) fn save(
    wanted: &Wanted,
    write: impl FnOnce(&Layout, &mut dyn Write) -> io::Result<()>,
) -> Result<(), Failure> {
    let whole = output::make_folder_of(&wanted.path).and_then(|()| Whole::create(&wanted.path));
    let whole = whole.map_err(|error| cannot_create(wanted, error))?;
    let written = whole.write(|out| write(&FILE_LAYOUT, out));
    written.with_context(|| format!("write the file of `-o {}`", wanted.name())).map_err(Failure::machine)
}

fn cannot_create(wanted: &Wanted, error: io::Error) -> Failure {
    Failure::usage(anyhow::Error::new(error).context(format!("create the file of `-o {}`", wanted.name())))
}
