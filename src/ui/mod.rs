//! The terminal: the only place that prints, and that looks at what it prints to.

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};

use crate::sys;
use crate::text::layout::Layout;
use crate::text::transcript;

pub(crate) mod looking;

/// Narrowest and widest layout.
const WIDTHS: std::ops::RangeInclusive<usize> = 20..=200;

/// What decides the look of output, read from the environment by `config`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    /// `Some` from --color always or never.
    pub(crate) colour: Option<bool>,
    pub(crate) no_color: bool,
    pub(crate) dumb_terminal: bool,
    /// From COLUMNS.
    pub(crate) columns: Option<usize>,
    /// Whether the locale is UTF-8.
    pub(crate) utf8: bool,
    pub(crate) quiet: bool,
}

/// The two streams of apm.
#[derive(Clone, Debug)]
pub(crate) struct Ui {
    wishes: Wishes,
}

impl Ui {
    /// Takes the wishes.
    pub(crate) fn new(wishes: Wishes) -> Self {
        Self { wishes }
    }

    /// Whether only results and errors are wanted.
    pub(crate) fn quiet(&self) -> bool {
        self.wishes.quiet
    }

    /// Whether progress can be drawn: standard error is a terminal that can move its cursor.
    pub(crate) fn draws(&self) -> bool {
        io::stderr().is_terminal() && !self.wishes.dumb_terminal && !self.wishes.quiet
    }

    /// Whether standard output is a terminal that can move its cursor.
    pub(crate) fn stdout_draws(&self) -> bool {
        io::stdout().is_terminal() && !self.wishes.dumb_terminal
    }

    /// Whether standard output is a terminal.
    pub(crate) fn stdout_is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Whether whoever reads standard output can make apm wait.
    pub(crate) fn stdout_may_stall(&self) -> bool {
        sys::terminal::may_stall(&io::stdout())
    }

    /// The same of standard error.
    pub(crate) fn stderr_may_stall(&self) -> bool {
        sys::terminal::may_stall(&io::stderr())
    }

    /// The layout of standard output.
    pub(crate) fn stdout_layout(&self) -> Layout {
        self.layout(io::stdout().is_terminal())
    }

    /// The layout of standard error.
    pub(crate) fn stderr_layout(&self) -> Layout {
        self.layout(io::stderr().is_terminal())
    }

    /// The layout of a file.
    pub(crate) fn file_layout(&self) -> Layout {
        self.layout(false)
    }

    fn layout(&self, terminal: bool) -> Layout {
        let wishes = &self.wishes;
        let auto = terminal && !wishes.no_color && !wishes.dumb_terminal;
        let measured = || terminal.then(sys::terminal::width).flatten().map(usize::from);
        let width = wishes.columns.or_else(measured).unwrap_or(80).clamp(*WIDTHS.start(), *WIDTHS.end());
        Layout {
            width,
            colour: wishes.colour.unwrap_or(auto),
            unicode: terminal && wishes.utf8 && !wishes.dumb_terminal,
        }
    }

    /// Writes text for people as a result. A closed pipe is a quiet end: `Ok(false)`.
    pub(crate) fn print(&self, text: &str) -> io::Result<bool> {
        self.result(transcript::printed(text).as_bytes())
    }

    /// Writes a result as it is. A closed pipe is a quiet end: `Ok(false)`.
    pub(crate) fn result(&self, bytes: &[u8]) -> io::Result<bool> {
        sys::stdio::output()?;
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes a result piece by piece, for one that need not fit into memory. A closed pipe is a quiet end: `Ok(false)`.
    pub(crate) fn stream(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<bool> {
        sys::stdio::output()?;
        let mut stdout = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
        match write(&mut stdout).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                // What is left in the buffer has no reader.
                drop(stdout.into_parts());
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Says something to the user. Where standard error is closed nobody listens.
    pub(crate) fn say(&self, text: &str) {
        self.say_bytes(transcript::printed(text).as_bytes());
    }

    /// Asks for a yes. `None`: there is nobody to ask.
    pub(crate) fn ask(&self, question: &str) -> Option<bool> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return None;
        }
        self.say(&format!("{question} [y/N] "));
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).ok()?;
        Some(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
    }

    /// Passes bytes of a task on, or draws.
    pub(crate) fn say_bytes(&self, bytes: &[u8]) {
        let _ = io::stderr().lock().write_all(bytes);
    }
}

/// Whether a locale name means UTF-8.
pub(crate) fn is_utf8_locale(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_ascii_lowercase();
    name.contains("utf-8") || name.contains("utf8")
}
